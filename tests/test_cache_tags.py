"""Tags: O(1) invalidation of groups."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from _support import Recorder

from fastcache import Cache


def test_invalidate_tag() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["x"])
    cache.set("b", 2, tags=["y"])
    cache.set("c", 3, tags=["x", "y"])
    cache["d"] = 4
    cache.invalidate_tag("x")
    assert set(cache) == {"b", "d"}
    for key in "ac":
        assert key not in cache and cache.get(key) is None and cache.peek(key) is None
        assert cache.delete(key) is False and cache.touch(key) is False
        with pytest.raises(KeyError):
            cache.entry(key)
    cache._check()
    cache.invalidate_tag("y")
    assert set(cache) == {"d"}
    cache._check()


def test_several_tags_at_once() -> None:
    cache: Cache[str, int] = Cache(9)
    for key in "abc":
        cache.set(key, 1, tags=[key])
    cache.invalidate_tag("a", "c", "never used")
    assert set(cache) == {"b"}
    cache.invalidate_tag()
    assert set(cache) == {"b"}


def test_what_is_stored_afterwards_lives() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    cache.set("a", 2, tags=["x"])
    assert cache["a"] == 2
    cache.set("b", 1, tags=["x"])
    assert set(cache) == {"a", "b"}
    cache.invalidate_tag("x")
    assert set(cache) == set()


def test_an_entry_written_without_tags_is_free_of_them() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["x"])
    cache["a"] = 2
    cache.invalidate_tag("x")
    assert cache["a"] == 2
    cache.set("a", 3, tags=["y"])
    cache.set("a", 4, tags=["x"])
    cache.invalidate_tag("y")
    assert cache["a"] == 4
    cache._check()


@pytest.mark.parametrize(
    "tags",
    [
        ["t"],
        ("t",),
        {"t"},
        frozenset({"t"}),
        {"t": 1}.keys(),
        iter(["t"]),
        ["t", "t"],
        ("t", "u", "v", "w", "t"),
    ],
)
def test_any_iterable_of_tags(tags: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=tags)
    assert set(cache.entry("a").tags) >= {"t"} and len(cache.entry("a").tags) == len(
        set(cache.entry("a").tags)
    )
    cache.invalidate_tag("t")
    assert "a" not in cache
    cache._check()


@pytest.mark.parametrize(
    "tag", [1, "x", b"x", "", 0, -1, 2**100, "\ud800", ("user", 1), (), ((1, b"x"), "y")]
)
def test_what_is_a_tag(tag: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=[tag])
    cache.set("b", 1, tags=["another"])
    cache.invalidate_tag(tag)
    assert set(cache) == {"b"}


def test_tags_equal_by_value() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["".join(["us", "er"]), 10**20])
    cache.set("b", 1, tags=[b"user", "100000000000000000000"])
    cache.invalidate_tag("user")
    assert set(cache) == {"b"}
    cache.invalidate_tag(10**20)
    assert set(cache) == {"b"}


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("tag", [("a", None), None, 2.5, frozenset({1}), object(), Text("x")])
def test_other_tags_are_refused(tag: Any) -> None:
    """Their `__eq__` and `__hash__` would run inside an edit."""
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["t"])
    for call in (
        lambda: cache.set("a", 2, tags=["t", tag]),
        lambda: cache.set("b", 2, tags=[tag]),
        lambda: cache.invalidate_tag("t", tag),
    ):
        with pytest.raises(TypeError, match="tag") as raised:
            call()
        wrong = tag[-1] if isinstance(tag, tuple) else tag
        assert repr(wrong) in str(raised.value)
    assert cache.peek("a") == 1 and "b" not in cache
    cache._check()


def test_an_unhashable_tag_changes_nothing() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["t"])
    with pytest.raises(TypeError):
        cache.set("a", 2, tags=["u", []])
    with pytest.raises(TypeError):
        cache.set("b", 2, tags=[[]])
    with pytest.raises(TypeError):
        cache.invalidate_tag([])
    with pytest.raises(TypeError):
        cache.invalidate_tag("t", [])
    assert cache.peek("a", None) in (1, None) and "b" not in cache
    cache._check()


def test_a_lone_string_is_refused_as_tags() -> None:
    """Otherwise `tags="user"` would silently be the tags u, s, e and r."""
    cache: Cache[str, int] = Cache(9)
    with pytest.raises(TypeError, match="tags") as raised:
        cache.set("a", 1, tags="user")
    assert "'user'" in str(raised.value) and len(cache) == 0


def test_tags_of_an_entry_are_told() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["x", "y"])
    cache["b"] = 1
    assert set(cache.entry("a").tags) == {"x", "y"} and len(cache.entry("b").tags) == 0


def test_the_cause_is_explicit() -> None:
    """`"explicit"` (pop, popitem, del, clear, tags)."""
    recorder = Recorder()
    cache: Cache[str, int] = Cache(9, listener=recorder)
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    cache.expire()
    assert recorder.take() == [("a", 1, "explicit")]
    assert len(cache) == 0


def test_expire_reclaims_the_invalidated() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(1000):
        cache.set(key, key, tags=["t"] if key % 2 else ["u"])
    cache.invalidate_tag("t")
    cache.expire()
    assert len(cache) == 500
    cache._check()


def test_add_and_set_over_an_invalidated_entry() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    assert cache.add("a", 2) is True and cache["a"] == 2
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    assert cache.setdefault("a", 3) == 3
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    assert cache.get_or_set("a", lambda: 4) == 4
    cache.set("a", 1, tags=["x"])
    cache.invalidate_tag("x")
    assert cache.incr("a", 1, 10) == 11
    cache._check()


def test_invalidation_is_o1_whatever_the_number_of_entries() -> None:
    """O(1) whatever the number of entries."""

    def best(entries: int) -> float:
        cache: Cache[int, int] = Cache(None)
        for key in range(entries):
            cache.set(key, key, tags=["t"])
        times = []
        for _ in range(5):
            start = time.perf_counter()
            cache.invalidate_tag("t")
            times.append(time.perf_counter() - start)
        assert list(cache) == []
        return min(times)

    assert best(100_000) < best(100) * 100 + 0.001


def test_tag_records_leave_no_trace_behind() -> None:
    """Tag records are counted by the entries and loads that use them, and leave no trace behind."""
    cache: Cache[int, int] = Cache(100)
    for step in range(1000):
        cache.set(step, step, tags=[f"t{step}"])
    before = cache.nbytes
    for step in range(1000, 21_000):
        cache.set(step, step, tags=[f"t{step}", f"u{step}"])
        cache.invalidate_tag(f"t{step}", f"never{step}")
    assert cache.nbytes <= before * 3
    cache.clear()
    cache._check()


def test_tags_are_released_with_their_entries() -> None:
    cache: Cache[int, int] = Cache(3)
    tag = "".join(["a tag", " of its own"])
    before = sys.getrefcount(tag)
    for step in range(50):
        cache.set(step, step, tags=[tag, str(step)])
    assert sys.getrefcount(tag) > before
    for step in range(50, 60):
        cache.set(step, step)
    assert sys.getrefcount(tag) == before
    cache.set(1, 1, tags=[tag])
    cache.invalidate_tag(tag)
    cache.clear()
    assert sys.getrefcount(tag) == before
    cache._check()


def test_a_tag_used_by_an_invalidated_entry_and_a_fresh_one() -> None:
    cache: Cache[str, int] = Cache(9)
    cache.set("old", 1, tags=["t"])
    cache.invalidate_tag("t")
    cache.set("new", 1, tags=["t"])
    cache.expire()  # reclaims the old entry, and with it one use of the record
    cache.invalidate_tag("t")
    assert "new" not in cache
    cache._check()


def test_a_tag_forgotten_and_used_again() -> None:
    cache: Cache[str, int] = Cache(9)
    for _ in range(5):
        cache.set("a", 1, tags=["t"])
        assert "a" in cache
        cache.invalidate_tag("t")
        assert "a" not in cache
        cache.expire()
        cache.invalidate_tag("t")  # nobody uses it
        cache.set("a", 1, tags=["t"])
        del cache["a"]
    cache._check()
