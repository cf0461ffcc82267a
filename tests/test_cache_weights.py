"""Weights: what a weigher may say, and what the bound does with it."""

from __future__ import annotations

from typing import Any

import pytest
from _support import Recorder, snapshot

from fastcache import Cache

POLICIES = ["lru", "fifo", "lfu"]


def length(key: Any, value: Any) -> int:
    return len(value)


@pytest.mark.parametrize("policy", POLICIES)
def test_maxsize_bounds_the_total_weight(policy: str) -> None:
    """`maxsize` counts entries, or weight when a `weigher` is given."""
    cache: Cache[int, str] = Cache(20, policy=policy, weigher=length)
    for key in range(200):
        cache[key] = "x" * (key % 7)
        assert cache.weight <= 20 and cache.weight == sum(len(v) for v in cache.values())
        assert key in cache
        cache.get(key // 2)
        cache._check()


def test_a_weigher_gets_key_and_value() -> None:
    calls: list[tuple[Any, Any]] = []

    def weigher(key: Any, value: Any) -> int:
        calls.append((key, value))
        return 1

    cache: Cache[str, int] = Cache(9, weigher=weigher)
    cache["a"] = 5
    cache.set("b", 6)
    cache.get("a")
    assert calls == [("a", 5), ("b", 6)]


def test_the_weight_of_an_entry_beats_the_weigher() -> None:
    """An entry weighs 1 unless weigher or weight= says so."""
    cache: Cache[str, str] = Cache(100, weigher=length)
    cache.set("a", "abc", weight=50)
    assert cache.weight == 50 == cache.entry("a").weight
    cache["a"] = "abc"
    assert cache.weight == 3


def test_weight_without_a_weigher() -> None:
    cache: Cache[str, int] = Cache(10)
    cache.set("a", 1, weight=4)
    cache["b"] = 1
    assert cache.weight == 5 and cache.entry("b").weight == 1
    cache.set("c", 1, weight=6)
    assert set(cache) == {"b", "c"} and cache.weight == 7
    cache.set("c", 1)
    assert cache.weight == 2


@pytest.mark.parametrize("policy", POLICIES)
def test_heavier_than_the_bound_is_not_stored(policy: str) -> None:
    """A value heavier than the bound is not stored, the old one goes, cause `"size"`."""
    recorder = Recorder()
    cache: Cache[str, str] = Cache(5, policy=policy, weigher=length, listener=recorder)
    cache["a"], cache["b"] = "aa", "bb"
    cache["a"] = "x" * 6
    assert "a" not in cache and cache == {"b": "bb"} and cache.weight == 2
    assert ("a", "aa", "size") in recorder.take()
    cache.set("c", "c", weight=6)
    assert cache == {"b": "bb"}
    cache["d"] = "ddddd"  # just fits
    assert cache == {"d": "ddddd"}
    cache._check()


def test_a_weight_of_zero_counts_nothing() -> None:
    cache: Cache[int, str] = Cache(2, weigher=length)
    for key in range(100):
        cache[key] = ""
    assert cache.weight == 0 and len(cache) == 100
    cache["big"] = "xx"  # type: ignore[index]
    assert cache.weight == 2 and "big" in cache
    cache._check()


def test_growing_an_entry_evicts_others() -> None:
    cache: Cache[str, str] = Cache(6, weigher=length)
    cache["a"] = cache["b"] = cache["c"] = "xx"
    cache["c"] = "xxxx"
    assert set(cache) == {"b", "c"} and cache.weight == 6
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_growing_the_coldest_keeps_it(policy: str) -> None:
    cache: Cache[str, str] = Cache(6, policy=policy, weigher=length)
    cache["a"] = cache["b"] = cache["c"] = "xx"
    for key in "bbcc":
        cache.get(key)
    cache["a"] = "xxxxx"
    assert "a" in cache and cache.weight == 5 and len(cache) == 1
    cache._check()


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (-1, ValueError),
        (-(2**70), ValueError),
        (2**63, ValueError),
        (2**100, ValueError),
        (1.0, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (1j, TypeError),
    ],
)
@pytest.mark.parametrize(
    "store",
    [
        lambda c: c.__setitem__("new", 1),
        lambda c: c.__setitem__("a", 2),
        lambda c: c.set("new", 1),
        lambda c: c.add("new", 1),
        lambda c: c.setdefault("new", 1),
        lambda c: c.set_many({"new": 1}),
        lambda c: c.update(new=1),
        lambda c: c.get_or_set("new", lambda: 1),
        lambda c: c.incr("new"),
    ],
)
def test_what_a_weigher_may_not_return(result: Any, error: type[Exception], store: Any) -> None:
    wrong = False
    cache: Cache[str, int] = Cache(9, weigher=lambda k, v: result if wrong else 2)
    cache["a"] = 1
    before = snapshot(cache)
    wrong = True
    for _ in range(2):
        with pytest.raises(error, match="weigh") as raised:
            store(cache)
        assert repr(result) in str(raised.value)
    after = snapshot(cache)
    # A load that ran is counted as such, whatever became of its value; a probe as a probe.
    before.pop("stats")
    after.pop("stats")
    assert after == before
    cache._check()


def test_a_weigher_that_raises_changes_nothing() -> None:
    def weigher(key: str, value: int) -> int:
        if value < 0:
            raise ZeroDivisionError(key)
        return 1

    cache: Cache[str, int] = Cache(2, weigher=weigher)
    cache["a"], cache["b"] = 1, 2
    before = snapshot(cache)
    for key in "abc":
        with pytest.raises(ZeroDivisionError):
            cache[key] = -1
    assert snapshot(cache) == before
    cache._check()


def test_a_weigher_may_use_the_cache() -> None:
    def weigher(key: int, value: int) -> int:
        cache.get(key - 1)
        cache.delete(key - 2)
        if key == 5:
            cache.clear()
        return 1

    cache: Cache[int, int] = Cache(3, weigher=weigher)
    for key in range(10):
        cache[key] = key
        assert key in cache and cache.weight <= 3
        cache._check()


def test_a_weigher_that_sets_the_same_key() -> None:
    def weigher(key: str, value: int) -> int:
        if value == 1:
            cache[key] = 2
        return value

    cache: Cache[str, int] = Cache(5, weigher=weigher)
    cache["a"] = 1
    assert len(cache) == 1 and cache["a"] == 1 and cache.weight == 1
    cache._check()


def test_huge_weights_do_not_overflow() -> None:
    top = 2**63 - 1
    cache: Cache[str, int] = Cache(None)
    cache.set("a", 1, weight=top)
    cache.set("b", 1, weight=0)
    assert cache.weight == top
    try:
        cache.set("c", 1, weight=top)
    except (OverflowError, ValueError):
        assert cache.weight == top
    else:
        assert cache.weight in (top, 2 * top)
    cache._check()
    bounded: Cache[str, int] = Cache(top)
    bounded.set("a", 1, weight=top)
    bounded.set("b", 1, weight=top)
    assert set(bounded) == {"b"} and bounded.weight == top
    bounded.set("c", 1, weight=1)
    assert set(bounded) == {"c"}
    bounded._check()


def test_resize_is_by_weight() -> None:
    cache: Cache[str, str] = Cache(10, weigher=length)
    cache["a"], cache["b"], cache["c"] = "aaaa", "bbb", "ccc"
    cache.resize(6)
    assert set(cache) == {"b", "c"} and cache.weight == 6
    cache.resize(2)
    assert len(cache) == 0 and cache.weight == 0


def test_evict_counts_entries() -> None:
    cache: Cache[str, str] = Cache(10, weigher=length)
    cache["a"], cache["b"], cache["c"] = "aaaa", "bbb", "ccc"
    assert cache.evict(2) == 2 and set(cache) == {"c"} and cache.weight == 3


def test_weight_follows_every_removal() -> None:
    cache: Cache[str, int] = Cache(100)
    for number, key in enumerate("abcdefg", 1):
        cache.set(key, number, weight=number, tags=[key])
    assert cache.weight == 28
    del cache["a"]
    cache.pop("b")
    cache.delete("c")
    assert cache.weight == 22
    cache.delete_many(["d"])
    cache.popitem()
    assert cache.weight == 13
    cache.set("f", 0, ttl=0)
    assert cache.weight == 7
    cache.invalidate_tag("g")
    assert "g" not in cache
    cache.clear()
    assert cache.weight == 0
    cache._check()


def test_incr_reweighs_or_keeps() -> None:
    """The bound holds, whatever `incr` makes of the weight."""
    cache: Cache[str, int] = Cache(10, weigher=lambda k, v: v)
    cache["a"] = 3
    cache["b"] = 3
    cache.incr("a", 5)
    assert cache.weight <= 10 and cache["a"] == 8
    assert cache.weight == sum(cache.entry(k).weight for k in cache)
    cache._check()
