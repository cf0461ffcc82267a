"""What mypy makes of the decorators. Checked by tests/test_typing.py and never run."""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, assert_type

from fastcache import (
    Cache,
    CachedFunction,
    CacheInfo,
    CallKey,
    cache,
    cached,
    fifo_cache,
    lfu_cache,
    lru_cache,
    ttl_cache,
)
from fastcache.testing import FakeClock


@lru_cache
def bare(x: int, y: str = "") -> bytes:
    return b""


@lru_cache(maxsize=None, typed=True)
def called(x: int) -> str:
    return ""


@fifo_cache(10)
def first_out() -> int:
    return 1


@lfu_cache
def seldom_out() -> int:
    return 1


@ttl_cache(ttl=timedelta(minutes=1), timer=FakeClock())
def short_lived(x: int) -> float:
    return 1.0


@cache
def for_ever(*numbers: int) -> int:
    return 1


def functions() -> None:
    assert_type(bare(1), bytes)
    assert_type(bare(1, y="b"), bytes)
    assert_type(called(1), str)
    held: CachedFunction[[int], str] = called
    assert_type(held.cache_info(), CacheInfo)
    assert_type(first_out(), int)
    assert_type(seldom_out(), int)
    assert_type(short_lived(1), float)
    assert_type(for_ever(1, 2), int)
    bare("1")  # type: ignore[arg-type]
    bare()  # type: ignore[call-arg]
    called(1, 2)  # type: ignore[call-arg]
    bare(1, z=1)  # type: ignore[call-arg]
    plain: Callable[[int], str] = called
    assert_type(plain(1), str)


def surface() -> None:
    assert_type(called.cache_info(), CacheInfo)
    assert_type(called.cache_info().maxsize, int | None)
    assert_type(called.cache_key(1), CallKey | int | str)
    assert_type(called.cache_contains(1), bool)
    assert_type(called.cache_invalidate(1), bool)
    assert_type(called.cache, Cache[Any, str])
    assert_type(called.cache_parameters()["typed"], bool)
    assert_type(called.__wrapped__(1), str)
    called.cache_clear()
    called.cache_invalidate("1")  # type: ignore[arg-type]
    called.cache_parameters()["policy"]  # type: ignore[typeddict-item]


class Shop:
    @lru_cache(maxsize=10)
    def price(self, sku: str, *, net: bool = False) -> int:
        return 1

    @cache
    def name(self) -> str:
        return ""

    @staticmethod
    @lru_cache
    def parse(text: str) -> int:
        return 1

    @classmethod
    @lru_cache
    def default(cls, text: str) -> int:
        return 1

    @property
    @lru_cache
    def size(self) -> int:
        return 1


def methods(shop: Shop) -> None:
    assert_type(shop.price("a"), int)
    assert_type(shop.price("a", net=True), int)
    assert_type(shop.name(), str)
    assert_type(Shop.price(shop, "a"), int)
    assert_type(Shop.parse("1"), int)
    assert_type(shop.parse("1"), int)
    assert_type(Shop.default("1"), int)
    assert_type(shop.size, int)
    assert_type(shop.price.cache_info(), CacheInfo)
    assert_type(shop.price.cache_invalidate(shop, "a"), bool)
    assert_type(Shop.price.cache_invalidate(shop, "a"), bool)
    # whether a first argument is bound is not known, so arguments have only to be hashable
    shop.price(["a"])  # type: ignore[arg-type]
    bound: Callable[[str], int] = shop.price
    assert_type(bound("a"), int)


class Fruit:
    @lru_cache
    def name(self, language: str) -> object:
        return ""

    @cached
    def price(self, net: bool) -> object:
        return 1

    @cached
    async def stock(self) -> object:
        return 1


class Apple(Fruit):
    """Cached methods may be overridden by cached methods, also with a narrower result."""

    @lru_cache
    def name(self, language: str) -> str:
        return str(super().name(language))

    @cached(ttl=60)
    def price(self, net: bool) -> int:
        return 2

    @cached
    async def stock(self) -> int:
        return 2


async def overridden(apple: Apple) -> None:
    assert_type(apple.name("en"), str)
    assert_type(apple.price(True), int)
    assert_type(await apple.stock(), int)


language: ContextVar[str] = ContextVar("language")


@cached(vary=language, ignore=0)
def greeting(connection: object, name: str) -> str:
    return name


@cached(vary=[language], ignore=["connection", 2])
def farewell(connection: object, name: str, loud: bool) -> str:
    return name


@cached(batch=True, ttl=60, max_batch=10)
def names(keys: list[int]) -> dict[int, str]:
    return {}


class Store:
    @cached(batch=True)
    async def names(self, keys: list[int]) -> dict[int, str]:
        return {}


async def batches() -> None:
    # one key or several: which of them it is, mypy is not told
    assert_type(names(1), Any)
    assert_type(names([1, 2]), Any)
    assert_type(names.cache_invalidate(1, 2), bool)
    await Store().names(1)
    cached(batch=True, stale=5)  # type: ignore[call-overload]
    cached(max_wait=1)  # type: ignore[call-overload]


def refused() -> None:
    lru_cache("10")  # type: ignore[call-overload]
    ttl_cache(ttl="60")  # type: ignore[call-overload]
