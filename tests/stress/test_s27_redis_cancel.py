"""Scenario 27: cancellation at every await, over a slow network; every answer belongs to its key."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from servers.redis import RedisServer
from stress.support import scaled

from fastcache.stores import RedisStore
from fastcache.stores.protocol import Fill, Target
from fastcache.testing import FaultProxy

ROUNDS = scaled(20_000, 100_000)
NAMES = [f"k:{number % 256:02x}{number:030x}" for number in range(500)]


def test_every_answer_belongs_to_its_key(redis_server: RedisServer) -> None:
    with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        proxy.latency(0.002)
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}", timeout=30.0, max_connections=16)
        space = store.space(f"test:{random.getrandbits(48):x}", b"8 bytes.")
        fills = [Fill(name, b"", name.encode(), None) for name in NAMES]
        store.run(space.put(fills, [Target(name, b"key") for name in NAMES]))
        cancelled, answered = asyncio.run(play(store, space))
    assert cancelled > ROUNDS / 20, "nothing was tried"
    assert answered > ROUNDS / 20, "nothing was seen"


async def play(store: RedisStore, space: Any) -> tuple[int, int]:
    counts = [0, 0]
    left = iter(range(ROUNDS))
    chance = random.Random(27)

    async def one(name: str) -> bool:
        found = await store.arun(space.read(name))
        return found is not None and found.data == name.encode()

    async def many(names: list[str]) -> bool:
        found = await store.arun(space.read_many(names))
        return [each and each.data for each in found] == [name.encode() for name in names]

    async def worker() -> None:
        for _ in left:
            names = chance.sample(NAMES, 3)
            task = asyncio.ensure_future(one(names[0]) if chance.random() < 0.7 else many(names))
            if chance.random() < 0.5:
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(chance.random() * 0.005)
            if chance.random() < 0.8:
                task.cancel()
            try:
                assert await task, f"another key's answer for {names}"
                counts[1] += 1
            except asyncio.CancelledError:
                counts[0] += 1

    await asyncio.gather(*(worker() for _ in range(40)))
    (own,) = store._node._loops.values()  # type: ignore[union-attr]
    assert own.made == len(own.idle) <= 16, "connections were lost count of"
    store.close()
    return counts[0], counts[1]
