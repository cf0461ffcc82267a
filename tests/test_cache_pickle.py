"""Pickling and copying: contents, policy order, remaining time; name; no statistics."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest

from fastcache import Cache
from fastcache.testing import FakeClock

POLICIES = ["lru", "fifo", "lfu"]
CLOCK = FakeClock(100.0)


def clock() -> float:
    """Pickled by reference, so that a copy reads the same time."""
    return CLOCK.now


def weigher(key: Any, value: Any) -> int:
    return 2


def through(protocol: int) -> Any:
    return lambda cache: pickle.loads(pickle.dumps(cache, protocol))


DUPLICATES = [copy.copy, *(through(p) for p in range(2, pickle.HIGHEST_PROTOCOL + 1))]
IDS = ["copy", *(f"pickle{p}" for p in range(2, pickle.HIGHEST_PROTOCOL + 1))]
duplicates = pytest.mark.parametrize("duplicate", DUPLICATES, ids=IDS)


class Sub(Cache[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return "missing"


@duplicates
@pytest.mark.parametrize("policy", POLICIES)
def test_contents_and_order(policy: str, duplicate: Any) -> None:
    """Pickle/copy.copy: contents, policy order (lfu counts too)."""
    cache: Cache[str, int] = Cache(6, policy=policy, name="users")
    for number, key in enumerate("abcdef"):
        cache[key] = number
    for key in "ccaffc":
        cache.get(key)
    other = duplicate(cache)
    assert type(other) is Cache and other is not cache and other == cache
    assert (other.maxsize, other.policy, other.name) == (6, policy, "users")
    assert other.coldest() == cache.coldest() and len(other) == 6
    cache._check()
    other._check()
    for key in "xyz":  # and they go on alike
        for each in (cache, other):
            each[key] = 9
            each.get("b")
            each.get(key)
    assert other.coldest() == cache.coldest() and other == cache


@duplicates
def test_lfu_counts_are_kept(duplicate: Any) -> None:
    cache: Cache[str, int] = Cache(9, policy="lfu")
    cache["a"] = cache["b"] = 1
    for _ in range(5):
        cache.get("a")
    other = duplicate(cache)
    for _ in range(3):
        other.get("b")  # four against six
    assert other.coldest() == ["b", "a"]
    for _ in range(3):
        other.get("b")  # seven against six
    assert other.coldest() == ["a", "b"]
    other._check()


@duplicates
def test_remaining_time(duplicate: Any) -> None:
    """Remaining ttl."""
    CLOCK.now = 100.0
    cache: Cache[str, int] = Cache(9, ttl=50, clock=clock)
    cache["default"] = 1
    cache.set("short", 1, ttl=10)
    cache.set("ever", 1, ttl=None)
    cache.set("idle", 1, ttl=None, tti=8)
    CLOCK.advance(4)
    other = duplicate(cache)
    other._check()
    assert other.ttl("default") == pytest.approx(46) and other.ttl("short") == pytest.approx(6)
    assert other.ttl("ever") is None and other.entry("idle").tti is not None
    other["new"] = 1
    assert other.ttl("new") == 50  # the default came along
    CLOCK.advance(6)
    assert "short" not in other and "default" in other
    CLOCK.advance(100)
    assert set(other) == {"ever"} == set(cache)
    other._check()


@duplicates
def test_remaining_time_with_the_real_clock(duplicate: Any) -> None:
    cache: Cache[str, int] = Cache(9, ttl=1000)
    cache["a"] = 1
    other = duplicate(cache)
    assert 990 < other.ttl("a") <= 1000


@duplicates
def test_the_dead_do_not_come_along(duplicate: Any) -> None:
    CLOCK.now = 0.0
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("dead", 1, ttl=1)
    cache.set("tagged", 1, tags=["t"])
    cache.set("live", 2)
    cache.invalidate_tag("t")
    CLOCK.advance(1)
    other = duplicate(cache)
    assert other == {"live": 2} and list(other) == ["live"]
    other._check()


@duplicates
def test_tags_and_weights_come_along(duplicate: Any) -> None:
    cache: Cache[str, int] = Cache(50, weigher=weigher)
    cache.set("a", 1, weight=7, tags=["t", "u"])
    cache["b"] = 1
    other = duplicate(cache)
    assert (
        other.weight == 9
        and other.entry("a").weight == 7
        and set(other.entry("a").tags) == {"t", "u"}
    )
    other["c"] = 1
    assert other.entry("c").weight == 2
    other.invalidate_tag("t")
    assert set(other) == {"b", "c"} and "a" in cache
    other._check()


@duplicates
def test_statistics_do_not_come_along(duplicate: Any) -> None:
    """Stats not."""
    cache: Cache[str, int] = Cache(9)
    cache["a"] = 1
    cache.get("a")
    other = duplicate(cache)
    assert other.stats().hits == 0 and other.stats().misses == 0 and cache.stats().hits == 1


@duplicates
def test_copies_are_independent(duplicate: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    cache["a"] = 1
    other = duplicate(cache)
    other["b"] = 2
    del other["a"]
    assert cache == {"a": 1} and other == {"b": 2}


@duplicates
@pytest.mark.parametrize("maxsize", [0, 1, None])
def test_empty_and_unbounded(maxsize: int | None, duplicate: Any) -> None:
    other = duplicate(Cache(maxsize, jitter=0.5, tti=9))
    assert other.maxsize == maxsize and len(other) == 0
    assert repr(other) == repr(Cache(maxsize, jitter=0.5, tti=9))
    other._check()


@duplicates
def test_subclasses_keep_their_type(duplicate: Any) -> None:
    cache = Sub(9)
    cache["a"] = 1
    other = duplicate(cache)
    assert type(other) is Sub and other == {"a": 1} and other["x"] == "missing"


@duplicates
def test_attributes_of_subclasses_come_along(duplicate: Any) -> None:
    cache = Sub(9)
    cache.note = ["n"]  # type: ignore[attr-defined]
    assert duplicate(cache).note == ["n"]


def test_copy_is_shallow_and_deepcopy_is_deep() -> None:
    cache: Cache[str, list[int]] = Cache(9)
    cache["a"] = [1]
    assert copy.copy(cache)["a"] is cache["a"]
    deep = copy.deepcopy(cache)
    assert deep == cache and deep["a"] is not cache["a"]
    deep._check()


def test_deepcopy_of_a_cache_that_holds_itself() -> None:
    cache: Cache[str, Any] = Cache(9)
    cache["self"] = cache
    other = copy.deepcopy(cache)
    assert other.peek("self") is other
    cache.clear()
    other.clear()


def test_pickle_of_a_cache_that_holds_itself() -> None:
    cache: Cache[str, Any] = Cache(9)
    cache["self"] = cache
    other = pickle.loads(pickle.dumps(cache))
    assert other.peek("self") is other
    other._check()
    cache.clear()
    other.clear()


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        pickle.dumps(Cache(9, weigher=lambda k, v: 1))
    cache: Cache[str, Any] = Cache(9)
    cache["a"] = lambda: 1
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        pickle.dumps(cache)
    cache._check()


class Slots(Cache[Any, Any]):
    __slots__ = ("extra", "unset")


class SlotsAndMore(Slots):
    pass


@pytest.mark.parametrize("duplicate", [copy.deepcopy, *DUPLICATES], ids=["deepcopy", *IDS])
def test_slots_of_a_subclass_come_along(duplicate: Any) -> None:
    cache = Slots(3)
    cache.extra, cache["a"] = 5, 1
    other = duplicate(cache)
    assert other == {"a": 1} and other.extra == 5 and not hasattr(other, "unset")
    more = SlotsAndMore(3)
    more.extra, more.attribute = 5, 6
    other = duplicate(more)
    assert (other.extra, other.attribute) == (5, 6)


@duplicates
def test_what_came_along_is_not_counted(duplicate: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    cache.update(a=1, b=2)
    assert duplicate(cache).stats() == Cache(9).stats()


def test_large() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(20_000):
        cache[key] = -key
    start = time.perf_counter()
    other = pickle.loads(pickle.dumps(cache))
    assert other == cache and other.coldest() == cache.coldest()
    assert time.perf_counter() - start < 20
    other._check()


@pytest.mark.parametrize("state", [None, 5, (), {}, ("x",), [1]])
def test_a_broken_state_is_refused(state: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    cache["a"] = 1
    setstate = getattr(cache, "__setstate__", None)
    if setstate is None:
        return
    try:
        setstate(state)
    except Exception as error:
        assert isinstance(error, (TypeError, ValueError, AttributeError, KeyError))
    cache._check()
