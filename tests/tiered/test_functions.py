"""Functions that `cached` puts into a tiered cache: their names, and the options that are the cache's."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiered.support import until

from fastcache import AsyncTieredCache, Cache, TieredCache, cached
from fastcache.stores import SQLiteStore


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    def price(self, sku: str) -> str:
        return f"{sku} of {self.name}"

    @classmethod
    def kinds(cls, number: int) -> int:
        return number


def twice(x: int) -> int:
    asked.append(x)
    return 2 * x


asked: list[int] = []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    asked.clear()
    held = SQLiteStore(tmp_path / "l2.db")
    yield held
    held.close()


@pytest.fixture
def tier(store: SQLiteStore) -> Iterator[TieredCache[Any, Any]]:
    t: TieredCache[Any, Any] = TieredCache(Cache(99), store, namespace="functions", ttl=60)
    yield t
    t.close()


@pytest.mark.parametrize(
    "function",
    [lambda x: x, functools.partial(twice), Shop("one").price, Shop.kinds, {1: 2}.get],
    ids=["lambda", "partial", "method of an instance", "method of a class", "method in C"],
)
def test_what_has_no_name_of_its_own_cannot_share_an_l2(
    tier: TieredCache[Any, Any], function: Any
) -> None:
    """Each process would have it for another function, or instance."""
    with pytest.raises(ValueError, match=r"no name that other processes know.*namespace="):
        cached(cache=tier)(function)
    assert cached(cache=tier, namespace="known").__call__(function).cache is tier.l1
    alone: TieredCache[Any, Any] = TieredCache(Cache(9))
    assert cached(cache=alone)(function).cache is alone.l1


def test_a_function_is_found_again_by_its_name(store: SQLiteStore) -> None:
    for _ in range(3):  # processes, one after another
        with_l2: TieredCache[Any, Any] = TieredCache(Cache(9), store, namespace="again", ttl=60)
        for _ in range(2):
            assert cached(cache=with_l2)(twice)(4) == 8
        with_l2.close()
    assert asked == [4]
    assert cached(cache=TieredCache(Cache(9)))(math.sqrt)(4) == 2.0


def test_the_options_of_the_cache_count_as_given(store: SQLiteStore) -> None:
    t: TieredCache[Any, Any] = TieredCache(Cache(9), store, namespace="options", ttl=0.05, grace=60)
    down: list[None] = []

    def load(x: int) -> int:
        if down:
            raise ConnectionError
        return x

    f = cached(cache=t, namespace="f", refresh=0.5, soft_timeout=1, reload=lambda old, x: load(x))(
        load
    )
    assert f(1) == 1
    down.append(None)
    until(lambda: not f.cache_contains(1))
    assert f(1) == 1  # by the grace of the cache
    t.close()
    for kind in (TieredCache, AsyncTieredCache):
        plain: Any = kind(Cache(9))
        for option, value in (("stale", 5), ("soft_timeout", 5), ("reload", load)):
            with pytest.raises(ValueError, match=f"{option}=.* needs"):
                cached(cache=plain, namespace="f", **{option: value})(load)
