"""The removal listener: causes, order, re-entrancy, errors."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from _support import Recorder, run_python

from fastcache import Cache
from fastcache.testing import FakeClock

POLICIES = ["lru", "fifo", "lfu"]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def filled(
    recorder: Recorder, keys: str = "abc", maxsize: int | None = 9, **more: Any
) -> Cache[str, str]:
    cache: Cache[str, str] = Cache(maxsize, listener=recorder, **more)
    for key in keys:
        cache[key] = key.upper()
    return cache


@pytest.mark.parametrize(
    "remove",
    [
        lambda c: c.pop("a"),
        lambda c: c.pop("a", None),
        lambda c: c.__delitem__("a"),
        lambda c: c.delete("a"),
        lambda c: c.delete_many(["a"]),
        lambda c: c.popitem(),
    ],
)
def test_explicit(remove: Any, recorder: Recorder) -> None:
    """`"explicit"` (pop, popitem, del, clear, tags)."""
    cache = filled(recorder)
    remove(cache)
    assert recorder.take() == [("a", "A", "explicit")]
    assert cache.stats().removals == 1


def test_clear_is_explicit(recorder: Recorder) -> None:
    cache = filled(recorder)
    cache.clear()
    assert sorted(recorder.take()) == [
        ("a", "A", "explicit"),
        ("b", "B", "explicit"),
        ("c", "C", "explicit"),
    ]
    assert cache.stats().removals == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.__setitem__("a", 1),
        lambda c: c.set("a", 1),
        lambda c: c.update(a=1),
        lambda c: c.set_many({"a": 1}),
        lambda c: c.set_many([("a", 1)]),
    ],
)
def test_replaced(write: Any, recorder: Recorder) -> None:
    cache = filled(recorder)
    write(cache)
    assert recorder.take() == [("a", "A", "replaced")]
    assert cache.stats().replacements == 1


@pytest.mark.parametrize(
    "look",
    [
        lambda c: c.add("a", 1),
        lambda c: c.setdefault("a", 1),
        lambda c: c.get("a"),
        lambda c: c.touch("a"),
        lambda c: c.get_or_set("a", lambda: 1),
        lambda c: c.delete("x"),
        lambda c: c.pop("x", 1),
        lambda c: c.expire(),
        lambda c: c.evict(0),
        lambda c: c.resize(9),
        lambda c: c.stats(reset=True),
        lambda c: c.invalidate_tag("x"),
    ],
)
def test_what_removes_nothing_tells_nothing(look: Any, recorder: Recorder) -> None:
    cache = filled(recorder)
    look(cache)
    assert recorder.take() == []


@pytest.mark.parametrize("policy", POLICIES)
def test_size(policy: str, recorder: Recorder) -> None:
    """`"size"` (evict, resize, overflow)."""
    cache = filled(recorder, "abc", 3, policy=policy)
    for act in (lambda: cache.set("d", "D"), lambda: cache.evict(1), lambda: cache.resize(1)):
        victim = cache.coldest()[0]
        act()
        assert recorder.take() == [(victim, victim.upper(), "size")]
    assert cache.stats().evictions == 3


def test_expired(recorder: Recorder) -> None:
    clock = FakeClock()
    cache = filled(recorder, "ab", clock=clock, ttl=5)
    clock.advance(5)
    cache.expire()
    assert sorted(recorder.take()) == [("a", "A", "expired"), ("b", "B", "expired")]
    assert cache.stats().expirations == 2


def test_each_removal_is_told_exactly_once() -> None:
    import random

    recorder = Recorder()
    clock = FakeClock()
    rng = random.Random(11)
    cache: Cache[int, int] = Cache(20, listener=recorder, clock=clock)
    stored: set[int] = set()
    for step in range(5000):
        key = rng.randrange(40)
        match rng.randrange(8):
            case 0:
                cache.delete(key)
            case 1:
                cache.set(key, step, ttl=rng.randrange(1, 9))
                stored.add(step)
            case 2:
                cache.set(key, step, tags=[key % 3])
                stored.add(step)
            case 3:
                cache.invalidate_tag(rng.randrange(3))
            case 4:
                clock.advance(1)
            case 5:
                cache.get(key)
            case _:
                cache[key] = step
                stored.add(step)
    cache.expire()
    cache.clear()
    told = [value for _, value, _ in recorder.take()]
    assert sorted(told) == sorted(stored)


def test_called_after_the_edit() -> None:
    """Called after the edit."""
    seen: list[Any] = []

    def listener(key: str, value: int, cause: str) -> None:
        seen.append((key, cause, key in cache, cache.peek(key), len(cache)))
        cache._check()

    cache: Cache[str, int] = Cache(2, listener=listener)
    cache["a"], cache["b"] = 1, 2
    cache["a"] = 3
    cache["c"] = 4
    del cache["a"]
    assert seen == [
        ("a", "replaced", True, 3, 2),
        ("b", "size", False, None, 2),
        ("a", "explicit", False, None, 1),
    ]


def test_what_it_does_to_the_cache_queues_further_events() -> None:
    """What it does to the cache queues further events, drained by the outermost call."""
    log: list[Any] = []

    def listener(key: int, value: int, cause: str) -> None:
        log.append(("in", key))
        if key < 5:
            cache[key + 10] = 0  # overflows: one more event, not a nested call
        log.append(("out", key))

    cache: Cache[int, int] = Cache(1, listener=listener)
    cache[0] = 0
    cache[1] = 0
    assert log[:2] == [("in", 0), ("out", 0)]
    assert all(
        log[i][0] == "in" and log[i + 1] == ("out", log[i][1]) for i in range(0, len(log), 2)
    )
    assert [key for what, key in log if what == "in"][:2] == [0, 1]
    cache._check()


def test_a_listener_that_puts_back_what_was_evicted_goes_deep_without_overflow() -> None:
    """A listener that re-sets what was evicted, 10^5 deep: no overflow."""
    run_python("""
from fastcache import Cache
left = 100_000
def listener(key, value, cause):
    global left
    if left:
        left -= 1
        cache[key] = value
cache = Cache(1, listener=listener)
cache["a"] = 1
cache["b"] = 2
assert left == 0, left
assert len(cache) == 1
cache._check()
""")


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.clear(),
        lambda c: c.evict(3),
        lambda c: c.resize(1),
        lambda c: c.expire(),
        lambda c: c.popitem(),
        lambda c: c.set("z", 1),
        lambda c: c.__setitem__("a", 1),
        lambda c: c.delete_many(["a", "b"]),
        lambda c: c.set_many({"a": 1, "z": 2}),
        lambda c: c.invalidate_tag("t"),
        lambda c: c.get("d"),
    ],
)
@pytest.mark.parametrize(
    "inner",
    [
        lambda c: c.clear(),
        lambda c: c.evict(1),
        lambda c: c.set("n", 1),
        lambda c: c.expire(),
        lambda c: gc.collect(),
        lambda c: c.resize(2),
        lambda c: c.get("a"),
        lambda c: c.delete("b"),
        lambda c: list(c.items()),
    ],
)
def test_a_listener_may_do_anything(act: Any, inner: Any) -> None:
    clock = FakeClock()
    depth = 0

    def listener(key: str, value: int, cause: str) -> None:
        nonlocal depth
        depth += 1
        if depth < 50:
            inner(cache)
        cache._check()

    cache: Cache[str, int] = Cache(5, listener=listener, clock=clock)
    for key in "abc":
        cache.set(key, 1, tags=["t"])
    cache.set("d", 1, ttl=1)
    clock.advance(1)
    try:
        act(cache)
    except KeyError:  # popitem, of what the listener has left: nothing
        assert len(cache) == 0
    cache._check()
    assert cache.stats().listener_errors == 0


def test_errors_go_to_the_unraisable_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exceptions go to `sys.unraisablehook` and a counter."""
    caught: list[Any] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda args: caught.append((args.exc_type, str(args.exc_value)))
    )

    def listener(key: str, value: int, cause: str) -> None:
        raise ZeroDivisionError(key)

    cache: Cache[str, int] = Cache(1, listener=listener)
    cache["a"] = 1
    cache["b"] = 2
    cache["b"] = 3
    assert cache == {"b": 3}
    assert cache.pop("b") == 3
    assert caught == [(ZeroDivisionError, "a"), (ZeroDivisionError, "b"), (ZeroDivisionError, "b")]
    assert cache.stats().listener_errors == 3
    cache._check()


def test_an_error_does_not_hold_up_the_other_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    seen: list[int] = []

    def listener(key: int, value: int, cause: str) -> None:
        seen.append(key)
        if key % 2:
            raise ValueError(key)

    cache: Cache[int, int] = Cache(None, listener=listener)
    for key in range(10):
        cache[key] = key
    cache.clear()
    assert sorted(seen) == list(range(10)) and cache.stats().listener_errors == 5


def test_an_exception_in_flight_survives_the_listener() -> None:
    """The caller's own error is not replaced by what a listener does."""

    def listener(key: str, value: int, cause: str) -> None:
        try:
            raise ValueError
        except ValueError:
            pass

    cache: Cache[str, int] = Cache(1, listener=listener)
    cache["a"] = 1
    try:
        raise KeyError("mine")
    except KeyError:
        cache["b"] = 1
        assert sys.exc_info()[0] is KeyError


def test_not_called_at_deallocation(recorder: Recorder) -> None:
    """Not called at deallocation."""
    cache = filled(recorder)
    del cache
    gc.collect()
    assert recorder.take() == []


def test_not_called_for_the_collector(recorder: Recorder) -> None:
    cache: Cache[str, Any] = Cache(3, listener=recorder)
    cache["self"] = cache
    del cache
    gc.collect()
    assert recorder.take() == []


def test_a_listener_keeps_nothing_alive() -> None:
    class Value:
        pass

    import weakref

    cache: Cache[str, Any] = Cache(3, listener=lambda k, v, c: None)
    cache["a"] = value = Value()
    reference = weakref.ref(value)
    del value
    del cache["a"]
    gc.collect()
    assert reference() is None


def test_a_load_that_is_stored_tells_what_it_displaced(recorder: Recorder) -> None:
    cache = filled(recorder, "ab", 2)
    assert cache.get_or_set("c", lambda: "C") == "C"
    assert recorder.take() == [("a", "A", "size")]
