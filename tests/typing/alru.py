"""What mypy makes of alru_cache. Checked by tests/test_typing.py and never run."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from fastcache import CacheInfo, alru_cache
from fastcache.alru import AlruCached, AlruParameters


@alru_cache
async def bare(x: int, y: str = "") -> bytes:
    return b""


@alru_cache(maxsize=None, ttl=timedelta(minutes=1), jitter=0.5, key=lambda x: x)
async def called(x: int) -> str:
    return ""


class Shop:
    @alru_cache(32)
    async def price(self, sku: str) -> float:
        return 1.0


async def functions() -> None:
    assert_type(await bare(1), bytes)
    assert_type(await bare(1, y="b"), bytes)
    assert_type(await called(1), str)
    held: AlruCached[[int], str] = called
    assert_type(held.cache_info(), CacheInfo)
    assert_type(held.cache_parameters(), AlruParameters)
    assert_type(held.cache_contains(1), bool)
    assert_type(held.cache_invalidate(1), bool)
    await held.cache_close(wait=True)
    plain: Callable[[int], Coroutine[Any, Any, str]] = called
    assert_type(await plain(1), str)
    await bare("1")  # type: ignore[arg-type]
    called.cache_contains("1")  # type: ignore[arg-type]
    alru_cache(ttl="1")  # type: ignore[call-overload]
    assert_type(await Shop().price("tea"), float)
    assert_type(Shop().price.cache_invalidate("tea"), bool)
