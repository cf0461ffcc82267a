"""What the rows of two tiers and of writing share: what a subject is, where it lives, and the clients.

Each is used as its own documentation says. `prepare` is called before each pass and not timed, `run` is the
pass, of `ops` operations. What needs an event loop has one of its own, on which each pass is one coroutine.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

#: Keys of a pass over L1, over L2; keys of one bulk read; for how long everything lives, seconds.
L1_KEYS, L2_KEYS, BATCH, TTL = 5000, 200, 100, 3600
#: Serialised with msgpack: 300 bytes.
VALUE = {
    "id": 123456,
    "name": "article 123456",
    "price": 1999,
    "tags": ["new", "sale"],
    "text": "An article of no importance, in a warehouse without a door. " * 4,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """Where subjects live: the URL of a Redis that may be written to ("" for none), and a folder."""

    url: str
    folder: Path

    def redis(self) -> str:
        """The URL; RuntimeError without one."""
        if not self.url:
            raise RuntimeError("needs a Redis: redis-server on PATH, or --redis-url")
        return self.url


class Subject:
    """One subject, set up."""

    def __init__(
        self,
        run: Callable[[], object],
        ops: int,
        prepare: Callable[[], object] = lambda: None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.run = run
        self.ops = ops
        self.prepare = prepare
        self.close = close


class Loop:
    """An event loop for one subject."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def do(self, what: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(what)

    def subject(
        self,
        work: Callable[[], Coroutine[Any, Any, Any]],
        ops: int,
        end: Callable[[], Coroutine[Any, Any, Any]] | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> Subject:
        return Subject(lambda: self.do(work()), ops, prepare, lambda: self.close(end))

    def close(self, end: Callable[[], Coroutine[Any, Any, Any]] | None) -> None:
        """What the client says for its end, and whatever tasks it leaves behind."""

        async def wind_up() -> None:
            if end is not None:
                await end()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self.do(wind_up())
        self.loop.close()


def names(n: int) -> list[str]:
    return [f"article:{i}" for i in range(n)]


def check(found: object, wanted: object = VALUE) -> None:
    """What is called a hit is one."""
    if found != wanted:
        raise RuntimeError(f"it returned {found!r}")


def store(ground: Ground, kind: str) -> Any:
    if kind == "sqlite":
        from fastcache.stores.sqlite import SQLiteStore

        return SQLiteStore(ground.folder / "l2.db")
    from fastcache.stores.redis import RedisStore

    return RedisStore(ground.redis())


def tiers(ground: Ground, capacity: int, kind: str = "redis", part: str = "hits") -> Any:
    """A TieredCache that is trusted, so that hits count as such."""
    from fastcache import Cache, TieredCache

    made = TieredCache[Any, Any](
        Cache(capacity), store(ground, kind), namespace=f"bench.{kind}.{part}", ttl=TTL,
        loader=lambda key: VALUE,
    )  # fmt: skip
    made.get("to be trusted")
    return made


def closing(made: Any) -> Callable[[], None]:
    def close() -> None:
        made.close()
        made.l2.close()

    return close


def aclosing(made: Any) -> Callable[[], Coroutine[Any, Any, None]]:
    async def close() -> None:
        await made.close()
        await made.l2.aclose()

    return close


def atiers(ground: Ground, capacity: int, loop: Loop) -> Any:
    from fastcache import AsyncTieredCache, Cache

    async def load(key: object) -> Any:
        return VALUE

    made = AsyncTieredCache[Any, Any](
        Cache(capacity), store(ground, "redis"), namespace="bench.async", ttl=TTL, loader=load
    )
    loop.do(made.get("to be trusted"))
    return made


def reader(get: Callable[[str], Any], keys: list[str]) -> Callable[[], None]:
    def run() -> None:
        for key in keys:
            get(key)

    return run


def areader(get: Callable[[str], Any], keys: list[str]) -> Callable[[], Any]:
    async def run() -> None:
        for key in keys:
            await get(key)

    return run


# ---- clients that are not ours ---------------------------------------------------------------------


def bare(ground: Ground) -> tuple[Any, Any, Any]:
    """redis-py as it is, an encoder and a decoder."""
    import msgspec
    import redis

    return (
        redis.Redis.from_url(ground.redis()),
        msgspec.msgpack.Encoder().encode,
        msgspec.msgpack.Decoder().decode,
    )


def client_side(ground: Ground) -> Any:
    """redis-py with its client-side cache. It wants 7.4 of a server, though 6.0 has what it needs."""
    import redis
    import redis.connection
    from redis.cache import CacheConfig

    proxy = getattr(redis.connection, "CacheProxyConnection", None)
    if proxy is not None:
        proxy.MIN_ALLOWED_VERSION = "6.0.0"
    return redis.Redis.from_url(
        ground.redis(), protocol=3, cache_config=CacheConfig(max_size=2 * L1_KEYS)
    )


def dogpile(ground: Ground, backend: str) -> Any:
    from dogpile.cache import make_region

    arguments = {"url": ground.redis(), "redis_expiration_time": TTL, "distributed_lock": False}
    if backend == "memory":
        return make_region().configure("dogpile.cache.memory", expiration_time=TTL)
    return make_region().configure("dogpile.cache.redis", arguments=arguments)


def cashews(url: str, **options: Any) -> Any:
    from cashews import Cache

    cache = Cache()
    cache.setup(url, **options)
    return cache


def aiocache(ground: Ground) -> Any:
    import urllib.parse

    import aiocache
    from aiocache.serializers import PickleSerializer

    found = urllib.parse.urlsplit(ground.redis())
    return aiocache.RedisCache(
        endpoint=found.hostname, port=found.port or 6379, db=int(found.path.strip("/") or 0),
        password=found.password, serializer=PickleSerializer(), timeout=None,
    )  # fmt: skip
