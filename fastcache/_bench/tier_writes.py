"""The subjects that store: fills, loads of what no tier has, and writes that are acknowledged before they are made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from .tier_ground import (
    L2_KEYS,
    TTL,
    VALUE,
    Ground,
    Loop,
    Subject,
    aiocache,
    bare,
    cashews,
    check,
    closing,
    dogpile,
    names,
    reader,
    tiers,
)

# ---- filling ---------------------------------------------------------------------------------------


def fill_ours(ground: Ground) -> Subject:
    """Serialising a loaded value and storing it in L2, if its lease is still there; the leases are taken before."""
    made, keys = tiers(ground, 10), names(L2_KEYS)
    core = made._core
    token = os.urandom(16)
    places = [core.place(("filled", key)) for key in keys]
    space, store, values = core.space, made.l2, core.values

    def prepare() -> None:
        store.run(space.lease([name for _, name in places], token, 60.0))

    from fastcache.stores.protocol import Fill

    def run() -> None:
        for encoded, name in places:
            data = values.pack(encoded, VALUE, ttl=TTL, extra=0.0)
            store.run(space.fill([Fill(name, token, data, TTL)]))

    prepare()
    data = values.pack(places[0][0], VALUE, ttl=TTL, extra=0.0)
    check(store.run(space.fill([Fill(places[0][1], token, data, TTL)])), [True])
    return Subject(run, L2_KEYS, prepare, closing(made))


def fill_bare(ground: Ground) -> Subject:
    client, encode, _ = bare(ground)
    keys = ["filled:" + key for key in names(L2_KEYS)]

    def run() -> None:
        for key in keys:
            client.set(key, encode(VALUE), ex=TTL)

    return Subject(run, L2_KEYS, close=client.close)


def fill_dogpile(ground: Ground) -> Subject:
    region, keys = dogpile(ground, "redis"), ["dogpile:" + key for key in names(L2_KEYS)]

    def run() -> None:
        for key in keys:
            region.set(key, VALUE)

    return Subject(run, L2_KEYS)


def fill_cashews(ground: Ground) -> Subject:
    loop, keys = Loop(), ["cashews:" + key for key in names(L2_KEYS)]
    cache = cashews(ground.redis())

    async def run() -> None:
        for key in keys:
            await cache.set(key, VALUE, expire=TTL)

    return loop.subject(run, L2_KEYS, cache.close)


def fill_aiocache(ground: Ground) -> Subject:
    loop, keys = Loop(), ["aiocache:" + key for key in names(L2_KEYS)]
    cache = aiocache(ground)

    async def run() -> None:
        for key in keys:
            await cache.set(key, VALUE, ttl=TTL)

    return loop.subject(run, L2_KEYS, cache.close)


# ---- a load: a key that no tier has ------------------------------------------------------------------


def load_ours(ground: Ground) -> Subject:
    """What a miss costs with all that makes it safe: the look into L2, the lease, the fill."""
    made, keys = tiers(ground, 2 * L2_KEYS, part="loads"), names(L2_KEYS)

    def prepare() -> None:
        made.invalidate_many(keys)

    prepare()
    before = made.stats().loads
    check(made.get(keys[0]))
    check(made.stats().loads - before, 1)
    return Subject(reader(made.get, keys), L2_KEYS, prepare, closing(made))


def load_bare(ground: Ground) -> Subject:
    """GET, and SET since it is not there: what is not safe."""
    client, encode, decode = bare(ground)
    keys = ["loaded:" + key for key in names(L2_KEYS)]

    def run() -> None:
        for key in keys:
            found = client.get(key)
            if found is None:
                client.set(key, encode(VALUE), ex=TTL)
            else:
                decode(found)

    return Subject(run, L2_KEYS, lambda: client.delete(*keys), client.close)


# ---- write-behind ----------------------------------------------------------------------------------


def _behind(ground: Ground, folder: str, durability: str) -> Any:
    from fastcache.writing import SQLiteWriter, WriteBehind

    place = ground.folder / folder
    place.mkdir()
    journal = None if durability == "memory" else place / "journal"
    return WriteBehind(
        SQLiteWriter(str(place / "source.db"), table="articles"), journal=journal,
        durability=durability, delay=60.0,
    )  # fmt: skip


def _writing(made: Any, write: Callable[[str, Any], None], close: Callable[[], object]) -> Subject:
    """The acknowledgement alone: nothing is on its way to the source while the clock runs."""
    keys, queue = names(L2_KEYS), made._queue

    def run() -> None:
        for key in keys:
            write(key, VALUE)

    def prepare() -> None:
        check(made.flush(60.0), True)
        while queue.own.journal is not None:
            with queue.lock:
                if not queue.own.journal.count():  # it has forgotten what the source has
                    break
            time.sleep(0.001)

    run()
    prepare()
    return Subject(run, L2_KEYS, prepare, close)


def _put(ground: Ground, durability: str) -> Subject:
    made = _behind(ground, f"put-{durability}", durability)
    return _writing(made, made.put, made.close)


def _set(ground: Ground, durability: str) -> Subject:
    from fastcache import Cache, TieredCache

    made = _behind(ground, f"set-{durability}", durability)
    tiered = TieredCache[str, Any](Cache(2 * L2_KEYS), writer=made)
    subject = _writing(made, tiered.set, tiered.close)
    subject.run()
    check(tiered.peek_l1(names(L2_KEYS)[0]))
    return subject


def put_process(ground: Ground) -> Subject:
    return _put(ground, "process")


def put_memory(ground: Ground) -> Subject:
    return _put(ground, "memory")


def set_process(ground: Ground) -> Subject:
    return _set(ground, "process")


def set_memory(ground: Ground) -> Subject:
    return _set(ground, "memory")


def put_bare(ground: Ground) -> Subject:
    """What survives the process as well, and no less could: the value as JSON by the quickest encoder there is, and
    one INSERT, without an index, that is a transaction of its own in a WAL."""
    import sqlite3

    import msgspec

    connection = sqlite3.connect(ground.folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE articles (key TEXT, value BLOB)")
    encode, keys = msgspec.json.Encoder().encode, names(L2_KEYS)

    def run() -> None:
        for key in keys:
            connection.execute("INSERT INTO articles VALUES (?, ?)", (key, encode(VALUE)))

    run()
    check(connection.in_transaction, False)
    return Subject(run, L2_KEYS, close=connection.close)
