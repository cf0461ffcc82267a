"""The mapping protocol of `Cache`: what `dict` does, and what iteration promises."""

from __future__ import annotations

import collections
import gc
import operator
import threading
from typing import Any

import pytest
from _support import Recorder

from fastcache import Cache
from fastcache.testing import FakeClock

POLICIES = ["lru", "fifo", "lfu"]


def filled(pairs: Any = "abc", maxsize: int | None = None, **options: Any) -> Cache[str, str]:
    cache: Cache[str, str] = Cache(maxsize, **options)
    for key in pairs:
        cache[key] = key.upper()
    return cache


def test_set_get_delete() -> None:
    cache = filled("a")
    assert cache["a"] == "A" and cache.get("a") == "A" and cache.get("a", 1) == "A"
    cache["a"] = "AA"
    assert cache["a"] == "AA" and len(cache) == 1
    del cache["a"]
    with pytest.raises(KeyError) as raised:
        del cache["a"]
    assert raised.value.args == ("a",)


def test_none_is_a_value() -> None:
    cache: Cache[str, None] = Cache(3)
    cache["a"] = None
    assert (
        "a" in cache
        and cache["a"] is None
        and cache.get("a", 1) is None
        and cache.pop("a", 1) is None
    )
    assert cache.setdefault("b", None) is None and "b" in cache
    assert cache.get_or_set("b", lambda: pytest.fail("a cached None was taken for a miss")) is None


def test_pop() -> None:
    cache = filled("ab")
    assert cache.pop("a") == "A" and cache.pop("a", 5) == 5 and cache.pop("a", None) is None
    with pytest.raises(KeyError) as raised:
        cache.pop("a")
    assert raised.value.args == ("a",)
    assert list(cache) == ["b"]


def test_setdefault() -> None:
    cache = filled("a")
    assert (
        cache.setdefault("a", "x") == "A"
        and cache.setdefault("b", "x") == "x"
        and cache["b"] == "x"
    )
    assert cache.setdefault("c") is None and cache.peek("c", 1) is None


def test_update_takes_what_dict_update_takes() -> None:
    class Keyed:
        def keys(self) -> list[str]:
            return ["k"]

        def __getitem__(self, key: str) -> str:
            return key * 2

    cache: Cache[str, Any] = Cache(None)
    model: dict[str, Any] = {}
    for target in (cache, model):
        target.update({"a": 1})
        target.update([("b", 2), ["c", 3]])
        target.update(d=4)
        target.update({"e": 5}, f=6)
        target.update(Keyed())
        target.update(collections.OrderedDict(g=7))
        target.update()
        target.update(filled("xy"))
    assert cache == model


@pytest.mark.parametrize("other", [[1], [(1, 2, 3)], 5, [("a",)]])
def test_update_refuses_what_dict_update_refuses(other: Any) -> None:
    cache = filled("a")
    with pytest.raises((TypeError, ValueError)):
        cache.update(other)
    assert cache == {"a": "A"}


def test_update_stores_what_came_before_the_error() -> None:
    def pairs() -> Any:
        yield "a", 1
        raise ZeroDivisionError

    cache: Cache[str, int] = Cache(3)
    with pytest.raises(ZeroDivisionError):
        cache.update(pairs())
    cache._check()
    assert dict(cache.items()) in ({"a": 1}, {})


def test_update_with_itself() -> None:
    cache = filled("abc")
    cache.update(cache)
    assert cache == {"a": "A", "b": "B", "c": "C"}


def test_or_is_offered_as_dict_offers_it_or_not_at_all() -> None:
    cache = filled("a")
    try:
        cache |= {"b": "B"}
    except TypeError:
        assert cache == {"a": "A"}
    else:
        assert cache == {"a": "A", "b": "B"}


# ---------------------------------------------------------------- views


def test_views() -> None:
    cache = filled("abc")
    keys, values, items = cache.keys(), cache.values(), cache.items()
    assert len(keys) == len(values) == len(items) == 3
    assert set(keys) == {"a", "b", "c"} and sorted(values) == ["A", "B", "C"]
    assert set(items) == {("a", "A"), ("b", "B"), ("c", "C")}
    assert "a" in keys and "x" not in keys and "A" in values and "x" not in values
    assert (
        ("a", "A") in items
        and ("a", "x") not in items
        and ("x", "A") not in items
        and "a" not in items
    )
    cache["d"] = "D"  # views are live
    assert "d" in keys and "D" in values and ("d", "D") in items and len(keys) == 4


def test_views_are_sets() -> None:
    cache = filled("abc")
    assert isinstance(cache.keys(), collections.abc.KeysView)
    assert isinstance(cache.values(), collections.abc.ValuesView)
    assert isinstance(cache.items(), collections.abc.ItemsView)
    assert cache.keys() == {"a", "b", "c"} and cache.keys() & {"a", "x"} == {"a"}
    assert cache.keys() | {"x"} == {"a", "b", "c", "x"} and cache.keys() - {"a"} == {"b", "c"}
    assert cache.items() == {"a": "A", "b": "B", "c": "C"}.items()
    assert cache.keys() <= {"a", "b", "c", "d"} and cache.keys().isdisjoint({"z"})


OPERATORS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", OPERATORS)
def test_items_that_no_set_can_hold_are_compared_as_those_of_dict(compare: Any) -> None:
    """`{"a": []}.items() == {"a": []}.items()`, so ours do not hash the values either."""
    clock = FakeClock(0.0)
    cache: Cache[str, list[int]] = Cache(9, clock=clock)
    cache.set("dead", [0], ttl=1)
    clock.advance(1)
    cache["a"], cache["b"] = [1], [2]
    for other in (
        {"a": [1], "b": [2]},
        {"a": [1]},
        {"a": [1], "b": [3]},
        {"a": [1], "b": [2], "c": [3]},
    ):
        wanted = compare({"a": [1], "b": [2]}.items(), other.items())
        assert compare(cache.items(), other.items()) is wanted, other
        wanted = compare(other.items(), {"a": [1], "b": [2]}.items())
        theirs: Cache[str, list[int]] = Cache(9)
        theirs.update(other)
        assert compare(theirs.items(), cache.items()) is wanted, other
    with pytest.raises(TypeError):
        cache.keys() < ["a"]  # type: ignore[operator]


def test_views_keep_the_cache_alive() -> None:
    items = filled("ab").items()
    iterator = iter(filled("ab"))
    gc.collect()
    assert set(items) == {("a", "A"), ("b", "B")} and set(iterator) == {"a", "b"}


def test_pairs_of_the_views_belong_together() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(1000):
        cache[key] = -key
    assert (
        dict(zip(cache.keys(), cache.values(), strict=True))
        == dict(cache.items())
        == {k: -k for k in range(1000)}
    )


def test_repr_of_views_ends() -> None:
    cache: Cache[str, Any] = Cache(None)
    cache["v"] = cache.values()
    assert isinstance(repr(cache.keys()), str) and isinstance(repr(cache.values()), str)
    cache.clear()


# ---------------------------------------------------------------- iteration


@pytest.mark.parametrize("policy", POLICIES)
def test_iteration_sees_each_live_key_once(policy: str) -> None:
    cache: Cache[int, int] = Cache(100, policy=policy)
    for key in range(250):
        cache[key] = key
    for key in range(150, 250, 3):
        del cache[key]
    seen = list(cache)
    assert len(seen) == len(set(seen)) and set(seen) == {
        k for k in range(150, 250) if (k - 150) % 3
    }


@pytest.mark.parametrize("view", ["__iter__", "keys", "values", "items"])
def test_a_new_key_during_iteration_is_a_runtime_error(view: str) -> None:
    """Raises RuntimeError only when a new key was inserted meanwhile."""
    cache = filled("abc")
    iterator = iter(getattr(cache, view)())
    next(iterator)
    cache["new"] = "N"
    with pytest.raises(RuntimeError):
        for _ in iterator:
            pass
    cache._check()


@pytest.mark.parametrize(
    "insert",
    [
        lambda c: c.set("new", 1),
        lambda c: c.add("new", 1),
        lambda c: c.setdefault("new", 1),
        lambda c: c.update(new=1),
        lambda c: c.incr("new"),
        lambda c: c.get_or_set("new", lambda: 1),
        lambda c: c.set_many({"new": 1}),
    ],
)
def test_every_way_to_insert_is_noticed(insert: Any) -> None:
    cache = filled("abc")
    iterator = iter(cache)
    next(iterator)
    insert(cache)
    with pytest.raises(RuntimeError):
        list(iterator)


def test_insert_and_delete_during_iteration_is_still_noticed() -> None:
    cache = filled("abcdef")
    iterator = iter(cache)
    next(iterator)
    del cache["c"]
    cache["new"] = "N"  # the length is what it was
    with pytest.raises(RuntimeError):
        list(iterator)


@pytest.mark.parametrize(
    "body",
    [
        lambda c, k: c.get(k),
        lambda c, k: c.__setitem__(k, 1),
        lambda c, k: c.delete(k),
        lambda c, k: c.pop(k),
        lambda c, k: c.touch(k),
        lambda c, k: c.peek(k),
        lambda c, k: c.set(k, 1, ttl=5, tags=["t"]),
        lambda c, k: c.set(k, 1, ttl=0),
        lambda c, k: c.evict(1),
        lambda c, k: c.popitem() if c else None,
        lambda c, k: c.expire(),
        lambda c, k: c.clear(),
        lambda c, k: c.resize(4),
        lambda c, k: c.add(k, 1),
        lambda c, k: c.invalidate_tag("t"),
        lambda c, k: c.incr("n") if "n" in c else None,
        lambda c, k: gc.collect(),
        lambda c, k: c.stats(reset=True),
        lambda c, k: list(c),
        lambda c, k: c.get("absent"),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_anything_else_during_iteration_is_fine(body: Any, policy: str) -> None:
    cache = filled("abcdefgh", policy=policy)
    seen = []
    for key in cache:
        seen.append(key)
        body(cache, key)
    assert len(seen) == len(set(seen)) and set(seen) <= set("abcdefgh")
    cache._check()


def test_reads_and_overwrites_during_iteration_lose_no_key() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(1000):
        cache[key] = key
    seen = []
    for key in cache:
        seen.append(key)
        cache.get(key)
        cache[key] = -key
        cache.get(999 - key)
    assert sorted(seen) == list(range(1000))


def test_deletion_during_iteration_hides_exactly_the_deleted() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(1000):
        cache[key] = key
    seen = set()
    for key in cache:
        seen.add(key)
        if len(seen) == 10:
            for gone in range(500, 1000):
                cache.delete(gone)
    assert {k for k in seen if k < 500} == set(range(500))
    assert len({k for k in seen if k >= 500}) <= 10


def test_expiry_during_iteration_is_fine() -> None:
    """Iteration while [...] another thread's `get` expires something: goes on and ends."""
    clock = FakeClock()
    cache: Cache[int, int] = Cache(None, clock=clock)
    for key in range(100):
        cache.set(key, key, ttl=1 if key % 2 else 100)
    seen: list[int] = []
    for key in cache:
        if not seen:
            clock.advance(2)
            thread = threading.Thread(target=lambda: [cache.get(k) for k in range(100)])
            thread.start()
            thread.join()
        seen.append(key)
    assert {k for k in seen if k % 2 == 0} == set(range(0, 100, 2))
    assert len([k for k in seen if k % 2]) <= 1


def test_iteration_never_shows_a_dead_one() -> None:
    """`in`, `get`, iteration never show a dead one."""
    clock = FakeClock()
    cache: Cache[str, int] = Cache(None, clock=clock)
    cache.set("dead", 1, ttl=5)
    cache.set("tagged", 1, tags=["t"])
    cache.set("live", 2)
    clock.advance(5)
    cache.invalidate_tag("t")
    assert list(cache) == list(cache.keys()) == ["live"]
    assert list(cache.values()) == [2] and list(cache.items()) == [("live", 2)]
    for key in ("dead", "tagged"):
        assert key not in cache and key not in cache.keys() and (key, 1) not in cache.items()
        assert (
            cache.get(key) is None and cache.peek(key) is None and cache.get_many([key]) == [None]
        )
    assert 1 not in cache.values()
    assert cache.coldest() == cache.hottest() == ["live"]


def test_len_counts_held_entries() -> None:
    """`len` counts held entries, those not yet reaped included."""
    clock = FakeClock()
    cache: Cache[str, int] = Cache(None, clock=clock)
    cache.set("a", 1, ttl=5)
    cache.set("b", 2)
    clock.advance(10)
    assert 1 <= len(cache) <= 2
    cache.expire()
    assert len(cache) == 1


def test_an_exhausted_iterator_stays_exhausted() -> None:
    cache = filled("ab")
    iterator = iter(cache)
    assert len(list(iterator)) == 2
    cache["c"] = "C"
    assert list(iterator) == []
    assert iter(iterator) is iterator


def test_a_new_key_after_the_last_is_reached() -> None:
    cache = filled("a")
    for _ in cache:
        cache["a"] = "still the same key"
    assert cache == {"a": "still the same key"}


def test_length_hint_is_sane() -> None:
    cache = filled("abc")
    iterator = iter(cache)
    hint = getattr(iterator, "__length_hint__", None)
    if hint is not None:
        assert 0 <= hint() <= 3


def test_reversed_is_not_promised() -> None:
    """Iteration is in no promised order (`hottest`/`coldest` are)."""
    cache = filled("abc")
    try:
        keys = list(reversed(cache))  # type: ignore[call-overload]
    except TypeError:
        return
    assert sorted(keys) == ["a", "b", "c"]


def test_the_key_stored_first_stays_as_in_dict() -> None:
    recorder = Recorder()
    cache: Cache[Any, str] = Cache(None, listener=recorder)
    cache[1] = "int"
    cache[1.0] = "float"
    (key,) = cache
    assert type(key) is int and cache[True] == "float"
    assert [(type(k), v, c) for k, v, c in recorder.take()] == [(int, "int", "replaced")]


def test_random_operations_equal_dict() -> None:
    import random

    rng = random.Random(7)
    cache: Cache[int, int] = Cache(None)
    model: dict[int, int] = {}
    for step in range(20_000):
        key = rng.randrange(400)
        match rng.randrange(6):
            case 0 | 1:
                cache[key] = model[key] = step
            case 2:
                assert cache.get(key) == model.get(key)
            case 3:
                assert cache.pop(key, None) == model.pop(key, None)
            case 4:
                assert cache.setdefault(key, step) == model.setdefault(key, step)
            case 5:
                assert (key in cache) == (key in model)
        if step % 500 == 0:
            assert cache == model and len(cache) == len(model)
            cache._check()
