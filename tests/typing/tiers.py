"""What mypy makes of the tiers' options. Checked by tests/test_typing.py and never run."""

from datetime import timedelta
from typing import assert_type

from fastcache import AsyncTieredCache, Cache, TieredCache

tiers: TieredCache[str, int] = TieredCache(
    Cache(10), ttl=timedelta(minutes=5), l1_ttl=60, stale=1.5, level="eventual", version=2
)
tasks: AsyncTieredCache[str, int] = AsyncTieredCache(Cache(10), ttl=None, jitter=0.1, max_loads=8)


def refused() -> None:
    TieredCache[str, int](Cache(10), tll=5)  # type: ignore[call-arg]
    TieredCache[str, int](Cache(10), ttl="5")  # type: ignore[arg-type]
    AsyncTieredCache[str, int](Cache(10), level="sure")  # type: ignore[arg-type]
    TieredCache[str, int](Cache(10), version="2")  # type: ignore[arg-type]


def read() -> None:
    assert_type(tiers.get_many(["a"]), dict[str, int])
    assert_type(tiers.get_or_set("a", lambda: 1), int)
    tiers.set("a", "b")  # type: ignore[arg-type]


async def read_in_a_task() -> None:
    assert_type(await tasks.get_many(["a"]), dict[str, int])
    await tasks.set(1, 1)  # type: ignore[arg-type]
