"""What mypy makes of `fastcache.cachetools`. Checked by tests/test_typing.py and never run.

An ignored error is part of the test: were the error missing, mypy would call the comment unused.
"""

from collections.abc import MutableMapping
from datetime import datetime, timedelta
from threading import Condition, Lock
from typing import assert_type

import fastcache.cachetools.func
from fastcache import cachetools
from fastcache.cachetools import (
    CacheInfo,
    LRUCache,
    RRCache,
    TLRUCache,
    TTLCache,
    cached,
    cachedmethod,
)
from fastcache.cachetools.keys import hashkey, typedkey

lru: LRUCache[str, int] = LRUCache(10)
sized: LRUCache[str, bytes] = LRUCache(maxsize=1.5, getsizeof=len)
seconds: TTLCache[str, int] = TTLCache(10, ttl=60)
dated: TTLCache[str, int, datetime] = TTLCache(10, timedelta(hours=1), datetime.now)


def time_to_use(key: str, value: int, now: float) -> float:
    return now + value


def caches() -> None:
    as_mapping: MutableMapping[str, int] = lru
    as_mapping["a"] = 1
    assert_type(lru["a"], int)
    assert_type(lru.get("a"), int | None)
    assert_type(lru.get("a", 0), int)
    assert_type(lru.get("a", "none"), int | str)
    assert_type(lru.pop("a", None), int | None)
    assert_type(lru.popitem(), tuple[str, int])
    assert_type(lru.setdefault("a", 1), int)
    assert_type(lru.maxsize, float)
    assert_type(lru.currsize, float)
    assert_type(RRCache[int, str](5, choice=min).popitem(), tuple[int, str])
    lru["a"] = "1"  # type: ignore[assignment]
    lru[1]  # type: ignore[index]
    lru.maxsize = 3  # type: ignore[misc]
    LRUCache[str, int]("10")  # type: ignore[arg-type]


def timed() -> None:
    assert_type(seconds.timer(), float)
    assert_type(seconds.expire(), list[tuple[str, int]])
    assert_type(dated.timer(), datetime)
    with dated.timer as now:
        assert_type(now, datetime)
    dated.expire(datetime.now())
    dated.expire(1.5)  # type: ignore[arg-type]
    assert_type(TLRUCache(10, time_to_use), TLRUCache[str, int, float])


class WithDefault(LRUCache[str, int]):
    def __missing__(self, key: str) -> int:
        self[key] = value = len(key)
        return value

    def popitem(self) -> tuple[str, int]:
        key, value = super().popitem()
        return key, value


assert_type(WithDefault(3)["abc"], int)


@cached(lru)
def plain(a: int, b: str = "") -> float:
    return a


@cached(cache={}, key=hashkey, lock=Lock(), info=True)
def counted(a: int) -> float:
    return a


@cached({}, typedkey, None, Condition(), True)
def all_positional(a: int) -> float:
    return a


def functions() -> None:
    assert_type(plain(1, b="b"), float)
    plain("1")  # type: ignore[arg-type]
    plain.cache_info()  # type: ignore[attr-defined]
    plain.cache_clear()
    assert_type(counted(1), float)
    assert_type(counted.cache_info(), CacheInfo)
    assert_type(all_positional.cache_info().hits, int)
    cached(None)  # type: ignore[call-overload]
    cached(lambda self: {})  # type: ignore[call-overload]


class Shop:
    def __init__(self) -> None:
        self.prices: LRUCache[object, float] = LRUCache(10)

    @cachedmethod(lambda self: self.prices)
    def price(self, sku: str) -> float:
        return 1.0

    @cachedmethod(lambda self: self.prices, lock=lambda self: Lock(), info=True)
    def cost(self, sku: str) -> float:
        return 1.0

    @fastcache.cachetools.func.lru_cache
    def name(self, sku: str) -> str:
        return sku

    @cachetools.func.ttl_cache(maxsize=10, ttl=timedelta(1), timer=datetime.now)
    def colour(self, sku: str) -> str:
        return sku


def methods(shop: Shop) -> None:
    assert_type(shop.price("a"), float)
    assert_type(Shop.price(shop, "a"), float)
    shop.price(1)  # type: ignore[arg-type]
    shop.price.cache_info()  # type: ignore[attr-defined]
    assert_type(shop.cost("a"), float)
    assert_type(shop.cost.cache_info(), CacheInfo)
    assert_type(shop.name("a"), str)
    assert_type(shop.colour("a"), str)
    assert_type(shop.colour.cache_info(), CacheInfo)
    assert_type(Shop.colour.cache_parameters()["typed"], bool)
    shop.name(1)  # type: ignore[arg-type]
