"""Statistics: what counts as what."""

from __future__ import annotations

from typing import Any

import pytest

from fastcache import Cache, CacheStats, Entry
from fastcache.testing import FakeClock

FIELDS = (
    "hits",
    "misses",
    "loads",
    "load_failures",
    "load_time",
    "inserts",
    "removals",
    "replacements",
    "evictions",
    "expirations",
    "fenced",
    "listener_errors",
    "stale_hits",
)


def counted(cache: Cache[Any, Any]) -> dict[str, Any]:
    """The counters that are not zero, without the time."""
    return {
        name: value
        for name, value in cache.stats()._asdict().items()
        if value and name != "load_time"
    }


def ab() -> Cache[str, Any]:
    cache: Cache[str, Any] = Cache(9)
    cache["a"], cache["b"] = 1, 2
    cache.stats(reset=True)
    return cache


def test_a_new_cache_has_counted_nothing() -> None:
    stats = Cache(3).stats()
    assert isinstance(stats, CacheStats) and isinstance(stats, tuple)
    assert set(FIELDS) <= set(stats._fields)
    assert all(getattr(stats, name) == 0 for name in FIELDS) and stats.hit_rate == 0.0


def test_the_record_is_immutable() -> None:
    """Immutable record."""
    cache = ab()
    stats = cache.stats()
    with pytest.raises(AttributeError):
        stats.hits = 5  # type: ignore[misc]
    cache.get("a")
    assert stats.hits == 0 and cache.stats().hits == 1


@pytest.mark.parametrize(
    ("call", "hits", "misses"),
    [
        (lambda c: c["a"], 1, 0),
        (lambda c: c.get("a"), 1, 0),
        (lambda c: c.get("x"), 0, 1),
        (lambda c: c.get_many(["a", "x", "b", "a"]), 3, 1),
        (lambda c: c.setdefault("a", 1), 1, 0),
        (lambda c: c.setdefault("x", 1), 0, 1),
        (lambda c: c.get_or_set("a", lambda: 1), 1, 0),
        (lambda c: c.get_or_set("x", lambda: 1), 0, 1),
    ],
)
def test_what_counts_hits_and_misses(call: Any, hits: int, misses: int) -> None:
    """get, [], get_many, setdefault, get_or_set count hits/misses."""
    cache = ab()
    call(cache)
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (hits, misses)


def test_a_key_error_is_a_miss() -> None:
    cache = ab()
    with pytest.raises(KeyError):
        cache["x"]
    assert counted(cache) == {"misses": 1}


@pytest.mark.parametrize(
    "look",
    [
        lambda c: "a" in c,
        lambda c: "x" in c,
        lambda c: c.peek("a"),
        lambda c: c.peek("x"),
        lambda c: c.entry("a"),
        lambda c: c.ttl("a"),
        lambda c: list(c),
        lambda c: list(c.items()),
        lambda c: list(c.values()),
        lambda c: "a" in c.keys(),
        lambda c: 1 in c.values(),
        lambda c: ("a", 1) in c.items(),
        lambda c: c == {"a": 1},
        lambda c: c.touch("a"),
        lambda c: c.touch("x"),
        lambda c: c.hottest(),
        lambda c: c.coldest(),
        lambda c: repr(c),
        lambda c: len(c),
        lambda c: c.add("a", 1),
        lambda c: c.expire(),
        lambda c: c.stats(),
        lambda c: c.nbytes,
        lambda c: c.delete("x"),
        lambda c: c.pop("x", 1),
        lambda c: c.delete_many(["x"]),
        lambda c: c.evict(0),
        lambda c: c.invalidate_tag("x"),
        lambda c: c.resize(5),
    ],
)
def test_what_counts_nothing(look: Any) -> None:
    cache = ab()
    look(cache)
    assert counted(cache) == {}


@pytest.mark.parametrize(
    ("call", "counts"),
    [
        (lambda c: c.set("x", 1), {"inserts": 1}),
        (lambda c: c.add("x", 1), {"inserts": 1}),
        (lambda c: c.__setitem__("x", 1), {"inserts": 1}),
        (lambda c: c.update(x=1, y=2), {"inserts": 2}),
        (lambda c: c.set_many({"x": 1, "a": 2}), {"inserts": 1, "replacements": 1}),
        (lambda c: c.set("a", 5), {"replacements": 1}),
        (lambda c: c.__setitem__("a", 5), {"replacements": 1}),
        (lambda c: c.delete("a"), {"removals": 1}),
        (lambda c: c.pop("a"), {"removals": 1}),
        (lambda c: c.popitem(), {"removals": 1}),
        (lambda c: c.clear(), {"removals": 2}),
        (lambda c: c.delete_many(["a", "x", "b"]), {"removals": 2}),
        (lambda c: c.__delitem__("a"), {"removals": 1}),
        (lambda c: c.evict(1), {"evictions": 1}),
        (lambda c: c.resize(0), {"evictions": 2}),
        (lambda c: c.get_or_set("x", lambda: 1), {"misses": 1, "loads": 1, "inserts": 1}),
        (lambda c: c.setdefault("x", 1), {"misses": 1, "inserts": 1}),
    ],
)
def test_by_cause(call: Any, counts: dict[str, int]) -> None:
    cache = ab()
    call(cache)
    assert counted(cache) == counts


def test_removed_by_a_tag() -> None:
    cache = ab()
    cache.set("t", 1, tags=["t"])
    cache.invalidate_tag("t")
    cache.expire()
    assert counted(cache) == {"inserts": 1, "removals": 1}


def test_expirations_and_dead_lookups() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(9, ttl=1, clock=clock)
    cache["a"] = 1
    clock.advance(1)
    assert cache.get("a") is None
    cache.expire()
    assert counted(cache) == {"inserts": 1, "misses": 1, "expirations": 1}


def test_a_failed_load() -> None:
    cache = ab()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("x", lambda: 1 // 0)
    stats = cache.stats()
    assert stats.load_failures == 1 and stats.misses == 1 and stats.inserts == 0


def test_load_time_is_seconds() -> None:
    cache = ab()
    total = 0
    cache.get_or_set("x", lambda: sum(range(300_000)))
    total += 1
    first = cache.stats().load_time
    assert isinstance(first, float) and 0 < first < 60
    cache.get_or_set("y", lambda: sum(range(300_000)))
    assert first < cache.stats().load_time < 60 and cache.stats().loads == 2


def test_reset() -> None:
    cache = ab()
    cache.get("a")
    cache.get("x")
    assert cache.stats(reset=True).hits == 1
    assert counted(cache) == {} and cache.stats().load_time == 0 and cache.stats().hit_rate == 0.0
    cache.get("a")
    assert counted(cache) == {"hits": 1}
    assert cache == {"a": 1, "b": 2}


def test_hit_rate() -> None:
    cache = ab()
    for key in ("a", "a", "b", "x"):
        cache.get(key)
    assert cache.stats().hit_rate == 0.75


def test_clear_keeps_the_statistics() -> None:
    cache = ab()
    cache.get("a")
    cache.clear()
    assert counted(cache) == {"hits": 1, "removals": 2}


# ---------------------------------------------------------------- entry


def test_entry_is_a_named_tuple() -> None:
    cache: Cache[str, Any] = Cache(9)
    cache.set("a", [1], weight=3, tags=["t"])
    entry = cache.entry("a")
    assert isinstance(entry, Entry) and isinstance(entry, tuple)
    assert entry._fields == ("value", "ttl", "tti", "weight", "tags", "age", "hits", "load_cost")
    assert entry.value == [1] and entry.ttl is None and entry.tti is None and entry.weight == 3
    assert list(entry.tags) == ["t"]
    with pytest.raises(AttributeError):
        entry.value = 2  # type: ignore[misc]
    with pytest.raises(KeyError) as raised:
        cache.entry("x")
    assert raised.value.args == ("x",)


def test_details_are_none_unless_asked_for() -> None:
    """Age, hits and load cost where `details=True` keeps them (None otherwise)."""
    cache = ab()
    cache.get("a")
    cache.get_or_set("x", lambda: 1)
    for key in "ax":
        assert (cache.entry(key).age, cache.entry(key).hits, cache.entry(key).load_cost) == (
            None,
            None,
            None,
        )


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_details(policy: str) -> None:
    clock = FakeClock(50.0)
    cache: Cache[str, int] = Cache(9, policy=policy, details=True, clock=clock)
    cache["a"] = 1
    assert (cache.entry("a").age, cache.entry("a").hits) == (0, 0)
    clock.advance(5)
    for _ in range(3):
        cache.get("a")
    cache.peek("a")
    entry = cache.entry("a")
    assert entry.age == pytest.approx(5, abs=0.02) and entry.hits == 3
    assert cache.entry("a") == entry  # looking changes nothing
    cache["a"] = 2
    assert cache.entry("a").age == 0
    cache.get_or_set("x", lambda: sum(range(100_000)))
    cost = cache.entry("x").load_cost
    assert cost is not None and 0 <= cost < 60
    cache._check()


def test_details_with_the_real_clock() -> None:
    cache: Cache[str, int] = Cache(9, details=True)
    cache["a"] = 1
    age = cache.entry("a").age
    assert age is not None and 0 <= age < 60
    cache._check()
