"""`Cache` as an object: construction, policies, bounds, order, representation, equality."""

from __future__ import annotations

import collections.abc
import gc
import sys
import types
import weakref
from decimal import Decimal
from typing import Any

import pytest
from _support import Recorder

import fastcache
from fastcache import Cache
from fastcache.testing import FakeClock

POLICIES = ["lru", "fifo", "lfu"]


def filled(policy: str, keys: str, maxsize: int = 10) -> Cache[str, str]:
    cache: Cache[str, str] = Cache(maxsize, policy=policy)
    for key in keys:
        cache[key] = key.upper()
    return cache


# ---------------------------------------------------------------- construction


def test_defaults() -> None:
    cache: Cache[int, int] = Cache(3)
    assert (cache.maxsize, cache.policy, cache.name, cache.weight, len(cache)) == (
        3,
        "lru",
        None,
        0,
        0,
    )


def test_maxsize_is_required() -> None:
    with pytest.raises(TypeError):
        Cache()  # type: ignore[call-arg]


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Cache(3, "lru")  # type: ignore[misc]


def test_maxsize_can_be_named() -> None:
    assert Cache(maxsize=3).maxsize == 3


@pytest.mark.parametrize("attribute", ["maxsize", "weight", "policy", "name", "nbytes"])
def test_the_rest_is_read_only(attribute: str) -> None:
    cache: Cache[int, int] = Cache(3, name="n")
    with pytest.raises(AttributeError):
        setattr(cache, attribute, getattr(cache, attribute))


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_is_told(policy: str) -> None:
    assert Cache(3, policy=policy).policy == policy


def test_name_is_told() -> None:
    assert Cache(3, name="users").name == "users"


def test_a_second_init_does_not_break_it() -> None:
    cache: Cache[int, int] = Cache(3)
    cache[1] = 1
    try:
        cache.__init__(5)  # type: ignore[misc]
    except (TypeError, RuntimeError):
        pass
    cache._check()
    cache[2] = 2
    assert cache[2] == 2
    cache._check()


def test_new_without_init_is_usable_or_refused() -> None:
    try:
        cache = Cache.__new__(Cache, 3)
    except TypeError:
        return
    cache._check()
    cache[1] = 2
    assert cache.get(1) in (2, None)
    cache._check()


# ---------------------------------------------------------------- maxsize


@pytest.mark.parametrize("policy", POLICIES)
def test_maxsize_counts_entries(policy: str) -> None:
    """`maxsize` counts entries."""
    cache: Cache[int, int] = Cache(3, policy=policy)
    for key in range(100):
        cache[key] = key
        assert len(cache) == min(key + 1, 3) == cache.weight
        cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_none_is_unbounded(policy: str) -> None:
    """None is unbounded."""
    cache: Cache[int, int] = Cache(None, policy=policy)
    for key in range(20_000):
        cache[key] = key
    assert len(cache) == 20_000 and cache.maxsize is None
    assert all(cache[key] == key for key in range(20_000))
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_zero_stores_nothing(policy: str) -> None:
    cache: Cache[int, int] = Cache(0, policy=policy)
    cache[1] = 1
    cache.set(2, 2)
    assert cache.get_or_set(3, lambda: 3) == 3
    assert list(cache) == [] and len(cache) == 0 and cache.weight == 0
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("maxsize", [1, 2, 3, 7])
def test_policies_never_refuse(policy: str, maxsize: int) -> None:
    """Policies never refuse: after `c[k] = v`, `k in c`."""
    cache: Cache[int, int] = Cache(maxsize, policy=policy)
    for step in range(500):
        key = step * step % 23
        cache[key] = step
        assert key in cache and cache.peek(key) == step
        cache.get(step % 5)
        assert len(cache) <= maxsize
    cache._check()


def test_nothing_is_allocated_in_proportion_to_maxsize() -> None:
    """Nothing is allocated in proportion to `maxsize`."""
    small, large = Cache(1), Cache(2**31)
    assert large.nbytes == small.nbytes
    for cache in (small, large):
        cache["k"] = 1
    assert large.nbytes == small.nbytes


# ---------------------------------------------------------------- policies


def test_lru_evicts_the_least_recently_used() -> None:
    cache = filled("lru", "abc", maxsize=3)
    assert cache["a"] == "A"
    cache["d"] = "D"
    assert set(cache) == {"c", "a", "d"}
    assert cache.coldest() == ["c", "a", "d"]


def test_fifo_evicts_the_oldest() -> None:
    cache = filled("fifo", "abc", maxsize=3)
    assert cache["a"] == "A"
    cache["d"] = "D"
    assert cache.coldest() == ["b", "c", "d"]


def test_lfu_evicts_the_least_often_used() -> None:
    cache = filled("lfu", "abc", maxsize=3)
    assert cache["a"] == "A" and cache["c"] == "C"
    cache["d"] = "D"
    assert set(cache) == {"a", "c", "d"}


def test_lfu_ties_go_to_the_key_that_reached_its_count_first() -> None:
    """Among equals the key that reached its count first is the victim."""
    cache = filled("lfu", "abc", maxsize=3)
    for key in "bca":  # all at 2; b got there first
        cache.get(key)
    assert cache.coldest() == ["b", "c", "a"]
    cache["d"] = "D"
    assert set(cache) == {"c", "a", "d"}


def test_lfu_counts_are_kept_only_while_cached() -> None:
    """Counts kept only while cached."""
    cache = filled("lfu", "ab", maxsize=2)
    for _ in range(10):
        cache.get("a")
    cache.get("b")
    cache.get("b")
    del cache["a"]
    cache["a"] = "A"  # starts at one again
    cache["c"] = "C"
    assert set(cache) == {"b", "c"}


def test_lfu_counts_do_not_outlive_an_eviction() -> None:
    cache = filled("lfu", "a", maxsize=1)
    for _ in range(10):
        cache.get("a")
    cache["b"] = "B"
    cache["a"] = "A"
    cache.resize(2)
    cache["b"] = "B"
    cache.get("b")
    assert cache.coldest() == ["a", "b"]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("lru", ["b", "c", "a"]),
        ("fifo", ["a", "b", "c"]),
        ("lfu", ["b", "c", "a"]),
    ],
)
def test_overwriting_is_an_access(policy: str, order: list[str]) -> None:
    """Overwriting is an access [...] `fifo` keeps its place."""
    cache = filled(policy, "abc")
    cache["a"] = "AA"
    assert cache.coldest() == order


@pytest.mark.parametrize(
    "read",
    [
        lambda c: c["a"],
        lambda c: c.get("a"),
        lambda c: c.get_many(["a"]),
        lambda c: c.setdefault("a", 0),
        lambda c: c.get_or_set("a", lambda: 0),
    ],
)
@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("lru", ["b", "c", "a"]),
        ("fifo", ["a", "b", "c"]),
        ("lfu", ["b", "c", "a"]),
    ],
)
def test_reads_promote(read: Any, policy: str, order: list[str]) -> None:
    cache = filled(policy, "abc")
    read(cache)
    assert cache.coldest() == order


@pytest.mark.parametrize(
    "look",
    [
        lambda c: "a" in c,
        lambda c: c.peek("a"),
        lambda c: c.entry("a"),
        lambda c: c.ttl("a"),
        lambda c: list(c),
        lambda c: list(c.keys()),
        lambda c: list(c.values()),
        lambda c: list(c.items()),
        lambda c: "a" in c.keys(),
        lambda c: ("a", "A") in c.items(),
        lambda c: "A" in c.values(),
        lambda c: c == dict(c.items()),
        lambda c: repr(c),
        lambda c: c.hottest(),
        lambda c: c.coldest(),
        lambda c: c.touch("a"),
        lambda c: c.touch("a", ttl=5),
        lambda c: c.add("a", 1),
        lambda c: c.stats(),
        lambda c: len(c),
        lambda c: bool(c),
        lambda c: c.get("absent"),
        lambda c: c.pop("absent", None),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_looking_does_not_promote(look: Any, policy: str) -> None:
    """Iteration [...] neither counts nor promotes; nor do `in`, `peek` and the views."""
    cache = filled(policy, "abc")
    look(cache)
    assert cache.coldest() == ["a", "b", "c"]


@pytest.mark.parametrize("policy", POLICIES)
def test_popitem_evicts_by_policy(policy: str) -> None:
    """`popitem` = evict by policy."""
    recorder = Recorder()
    cache: Cache[str, str] = Cache(10, policy=policy, listener=recorder)
    for key in "abc":
        cache[key] = key.upper()
    cache.get("a")
    first = cache.coldest()[0]
    assert cache.popitem() == (first, first.upper())
    assert recorder.take() == [(first, first.upper(), "explicit")]
    assert first not in cache
    cache.popitem()
    cache.popitem()
    with pytest.raises(KeyError):
        cache.popitem()
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_evict_takes_the_coldest(policy: str) -> None:
    cache = filled(policy, "abcdef")
    cache.get("a")
    order = cache.coldest()
    assert cache.evict(2) == 2
    assert cache.coldest() == order[2:]
    assert cache.evict() == 1
    assert cache.coldest() == order[3:]
    assert cache.evict(0) == 0
    assert cache.evict(100) == 3
    assert cache.evict(1) == 0
    assert len(cache) == 0 and cache.stats().evictions == 6
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_hottest_and_coldest(policy: str) -> None:
    cache = filled(policy, "abcdef")
    for key in "cac":
        cache.get(key)
    order = cache.coldest()
    assert sorted(order) == list("abcdef")
    assert cache.hottest() == order[::-1]
    for n in range(8):
        assert cache.coldest(n) == order[:n]
        assert cache.hottest(n) == order[::-1][:n]
    assert cache.coldest(None) == order == cache.coldest(2**40)


def test_order_of_eviction_is_the_order_of_coldest() -> None:
    for policy in POLICIES:
        cache = filled(policy, "abcdef", maxsize=6)
        for key in "fabbcaa":
            cache.get(key)
        expected = cache.coldest()
        assert [cache.popitem()[0] for _ in range(6)] == expected


# ---------------------------------------------------------------- resize


@pytest.mark.parametrize("policy", POLICIES)
def test_resize(policy: str) -> None:
    recorder = Recorder()
    cache: Cache[int, int] = Cache(10, policy=policy, listener=recorder)
    for key in range(10):
        cache[key] = -key
    order = cache.coldest()
    cache.resize(4)
    assert (cache.maxsize, len(cache)) == (4, 4) and cache.coldest() == order[6:]
    assert recorder.take() == [(key, -key, "size") for key in order[:6]]
    cache.resize(None)
    for key in range(100):
        cache[key] = key
    assert cache.maxsize is None and len(cache) == 100
    recorder.take()
    cache.resize(0)
    assert len(cache) == 0 and len(recorder.take()) == 100
    cache.resize(1)
    cache[1] = 1
    assert cache[1] == 1
    cache._check()


# ---------------------------------------------------------------- removal


@pytest.mark.parametrize("policy", POLICIES)
def test_clear(policy: str) -> None:
    cache = filled(policy, "abc")
    cache.clear()
    assert len(cache) == 0 and cache.weight == 0 and list(cache) == [] and cache.coldest() == []
    cache._check()
    cache["x"] = "X"
    assert dict(cache.items()) == {"x": "X"}
    cache._check()


def test_delete_says_whether_it_was_there() -> None:
    cache = filled("lru", "ab")
    assert cache.delete("a") is True and cache.delete("a") is False
    assert list(cache) == ["b"]


def test_memory_is_given_back_by_clear() -> None:
    cache: Cache[int, int] = Cache(None)
    empty = cache.nbytes
    for key in range(100_000):
        cache[key] = key
    full = cache.nbytes
    cache.clear()
    assert empty < full and cache.nbytes < full // 10
    cache._check()


def test_nbytes_grows_with_the_entries_only() -> None:
    cache: Cache[int, bytes] = Cache(None)
    for key in range(1000):
        cache[key] = b""
    before = cache.nbytes
    for key in range(1000):
        cache[key] = bytes(10_000)  # values are excluded
    assert cache.nbytes == before
    assert isinstance(before, int) and 1000 * 16 <= before <= 1000 * 200


def test_sizeof_agrees_with_nbytes() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(1000):
        cache[key] = key
    assert sys.getsizeof(cache) >= cache.nbytes // 2


# ---------------------------------------------------------------- equality, hash, repr, types


def test_a_cache_is_equal_to_a_mapping_with_the_same_pairs() -> None:
    """A cache is equal to a Mapping with the same pairs, and unhashable."""
    cache = filled("lru", "ab")
    assert cache == {"b": "B", "a": "A"} and {"b": "B", "a": "A"} == cache
    assert cache == types.MappingProxyType({"b": "B", "a": "A"})
    assert cache == filled("fifo", "ba", maxsize=99)
    assert cache != {"a": "A"} and cache != {"a": "A", "b": "X"} and cache != {"a": "A", "c": "B"}
    assert not cache != {"b": "B", "a": "A"}
    assert cache != [("a", "A"), ("b", "B")] and cache != 1 and cache is not None
    assert (cache == object()) is False


def test_equality_sees_only_the_living() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, ttl=1)
    cache.set("b", 2)
    clock.advance(1)
    assert cache == {"b": 2}


def test_unhashable() -> None:
    with pytest.raises(TypeError):
        hash(Cache(1))
    assert not isinstance(Cache(1), collections.abc.Hashable)


def test_it_is_a_mutable_mapping() -> None:
    """A `MutableMapping`."""
    assert isinstance(Cache(1), collections.abc.MutableMapping)
    assert issubclass(Cache, collections.abc.MutableMapping)


def test_pattern_matching_takes_it_for_a_mapping() -> None:
    match filled("lru", "ab"):
        case {"a": value}:
            assert value == "A"
        case _:
            pytest.fail("not matched as a mapping")


def test_repr() -> None:
    cache = filled("lru", "abc")
    assert repr(cache) == "Cache(maxsize=10, policy='lru', len=3)"
    assert repr(Cache(None, policy="fifo")) == "Cache(maxsize=None, policy='fifo', len=0)"


def test_repr_tells_name_and_ttl() -> None:
    text = repr(Cache(1, name="users", ttl=5))
    assert "'users'" in text and "ttl=5" in text


def test_repr_respects_the_name_of_a_subclass() -> None:
    class Users(Cache[str, int]):
        pass

    assert repr(Users(10)) == "Users(maxsize=10, policy='lru', len=0)" or repr(Users(10)).endswith(
        "Users(maxsize=10, policy='lru', len=0)"
    )


def test_repr_of_a_cache_that_holds_itself_ends() -> None:
    cache: Cache[str, Any] = Cache(3)
    cache["self"] = cache
    assert "len=1" in repr(cache)
    cache.clear()


def test_generic_alias() -> None:
    alias = Cache[int, str]
    assert alias.__origin__ is Cache and alias.__args__ == (int, str)  # type: ignore[attr-defined]
    assert alias(3).maxsize == 3


def test_truth_is_length() -> None:
    cache: Cache[int, int] = Cache(1)
    assert not cache
    cache[1] = 1
    assert cache


def test_weakref() -> None:
    cache: Cache[int, int] = Cache(1)
    gone: list[int] = []
    reference = weakref.ref(cache, lambda _: gone.append(1))
    assert reference() is cache
    del cache
    gc.collect()
    assert reference() is None and gone == [1]


def test_len_in_get_of_the_absent() -> None:
    cache: Cache[str, int] = Cache(3)
    marker: Any = object()
    assert "x" not in cache and cache.get("x") is None and cache.get("x", marker) is marker
    assert cache.peek("x") is None and cache.peek("x", marker) is marker
    with pytest.raises(KeyError) as raised:
        cache["x"]
    assert raised.value.args == ("x",)


def test_a_key_error_keeps_a_tuple_whole() -> None:
    with pytest.raises(KeyError) as raised:
        Cache(1)[1, 2]
    assert raised.value.args == ((1, 2),)


# ---------------------------------------------------------------- subclasses


def test_subclass_has_a_dict_and_methods() -> None:
    class Mine(Cache[str, int]):
        def double(self, key: str) -> int:
            return self[key] * 2

    cache = Mine(3)
    cache.note = "x"  # type: ignore[attr-defined]
    cache["a"] = 4
    assert cache.double("a") == 8 and cache.note == "x"  # type: ignore[attr-defined]


def test_subclass_with_its_own_init() -> None:
    class Mine(Cache[str, int]):
        def __init__(self, size: int, extra: str) -> None:
            super().__init__(size, policy="fifo")
            self.extra = extra

    cache = Mine(2, "e")
    assert (cache.maxsize, cache.policy, cache.extra) == (2, "fifo", "e")


def test_missing_is_called_by_brackets_only() -> None:
    """`__missing__` of subclasses from [] only."""
    calls: list[int] = []

    class Squares(Cache[int, int]):
        def __missing__(self, key: int) -> int:
            calls.append(key)
            return key * key

    cache = Squares(3)
    assert cache[7] == 49 and calls == [7] and 7 not in cache
    assert cache.get(7) is None and cache.peek(7) is None and 7 not in cache
    assert cache.get_many([7]) == [None] and cache.pop(7, None) is None
    assert cache.setdefault(7, 1) == 1
    assert cache.get_or_set(8, lambda: 2) == 2
    assert calls == [7]


def test_missing_may_store() -> None:
    class Squares(Cache[int, int]):
        def __missing__(self, key: int) -> int:
            self[key] = key * key
            return key * key

    cache = Squares(3)
    assert [cache[k] for k in (1, 2, 3, 2, 1)] == [1, 4, 9, 4, 1]
    assert cache.stats().hits == 2 and cache.stats().misses == 3


def test_missing_that_raises() -> None:
    class Strict(Cache[int, int]):
        def __missing__(self, key: int) -> int:
            raise LookupError(key)

    with pytest.raises(LookupError) as raised:
        Strict(3)[1]
    assert type(raised.value) is LookupError


def test_missing_is_called_for_the_dead() -> None:
    class Fresh(Cache[str, str]):
        def __missing__(self, key: str) -> str:
            return "missing"

    clock = FakeClock()
    cache = Fresh(3, ttl=1, clock=clock)
    cache["a"] = "A"
    clock.advance(1)
    assert cache["a"] == "missing"


# ---------------------------------------------------------------- keys, as in dict

KEYS: list[Any] = [
    -1,
    -2,
    0,
    1,
    2**61,
    2**61 - 1,
    2**61 - 2,
    -(2**61),
    1.0,
    True,
    False,
    0.0,
    -0.0,
    Decimal(1),
    Decimal(5),
    5,
    5.0,
    "1",
    b"1",
    "",
    b"",
    (),
    (1,),
    (1.0,),
    (1, 2),
    None,
    frozenset(),
    frozenset({1}),
    float("inf"),
    ...,
    2**64,
    2**200,
    NotImplemented,
    type,
    len,
    1 + 0j,
    "é",
    "e\u0301",
    "\ud800",
    range(3),
    range(0, 3, 1),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_keys_are_equal_as_in_dict(policy: str) -> None:
    cache: Cache[Any, int] = Cache(None, policy=policy)
    model: dict[Any, int] = {}
    for number, key in enumerate(KEYS):
        cache[key] = model[key] = number
        assert len(cache) == len(model)
    for key in KEYS:
        assert cache[key] == model[key]
    # The first of equal keys stays, as in dict.
    assert sorted(map(repr, cache)) == sorted(map(repr, model))
    for key in KEYS:
        assert cache.delete(key) is (model.pop(key, None) is not None)
    assert len(cache) == 0
    cache._check()


def test_nan_is_found_by_identity() -> None:
    nan = float("nan")
    cache: Cache[float, int] = Cache(None)
    cache[nan] = 1
    cache[float("nan")] = 2
    assert len(cache) == 2 and cache[nan] == 1 and float("nan") not in cache


def test_str_subclasses_and_equal_strings_of_other_identity() -> None:
    class Text(str):
        __slots__ = ()

    cache: Cache[str, int] = Cache(None)
    cache["".join(["ab", "cd"])] = 1
    assert cache["abcd"] == 1 and cache[Text("abcd")] == 1
    cache[Text("x")] = 2
    assert cache["x"] == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda c, k: c[k],
        lambda c, k: c.__setitem__(k, 1),
        lambda c, k: c.__delitem__(k),
        lambda c, k: k in c,
        lambda c, k: c.get(k),
        lambda c, k: c.set(k, 1),
        lambda c, k: c.add(k, 1),
        lambda c, k: c.peek(k),
        lambda c, k: c.touch(k),
        lambda c, k: c.ttl(k),
        lambda c, k: c.entry(k),
        lambda c, k: c.delete(k),
        lambda c, k: c.pop(k),
        lambda c, k: c.pop(k, None),
        lambda c, k: c.setdefault(k, 1),
        lambda c, k: c.incr(k),
        lambda c, k: c.get_or_set(k, lambda: 1),
        lambda c, k: c.get_many([k]),
        lambda c, k: c.set_many([(k, 1)]),
        lambda c, k: c.delete_many([k]),
        lambda c, k: c.update([(k, 1)]),
    ],
)
@pytest.mark.parametrize("key", [[], {}, set(), ([],)])
def test_unhashable_keys(call: Any, key: Any) -> None:
    """Unhashable (TypeError): as in `dict`."""
    cache = filled("lru", "ab")
    for _ in range(3):
        with pytest.raises(TypeError, match="unhashable"):
            call(cache, key)
    assert cache.coldest() == ["a", "b"]
    cache._check()


def test_ints_that_share_a_full_hash() -> None:
    cache: Cache[int, int] = Cache(None)
    keys = [k * (2**61 - 1) for k in range(300)]
    for key in keys:
        cache[key] = key
    assert all(cache[key] == key for key in keys)
    assert cache[0.0] == 0  # type: ignore[index]
    assert (2**61 - 1) * 300 not in cache
    for key in keys[::2]:
        del cache[key]
    assert all((key in cache) == (i % 2 == 1) for i, key in enumerate(keys))
    cache._check()


def test_hash_is_called_once_and_never_at_eviction() -> None:
    """The stored hash and the entry number do the erasing, never a second `__hash__` or `__eq__`."""

    class Key:
        hashes = 0
        equals = 0

        def __hash__(self) -> int:
            Key.hashes += 1
            return 1

        def __eq__(self, other: object) -> bool:
            Key.equals += 1
            return self is other

    cache: Cache[Key, int] = Cache(3)
    for _ in range(3):
        cache[Key()] = 1
    assert Key.hashes == 3
    Key.hashes = Key.equals = 0
    cache.evict(1)
    cache.popitem()
    cache.clear()
    assert (Key.hashes, Key.equals) == (0, 0)
    cache[Key()] = 1
    assert Key.hashes == 1


def test_the_public_names() -> None:
    assert {
        "Cache",
        "CacheInfo",
        "CacheStats",
        "CachedFunction",
        "CallKey",
        "Entry",
        "cache",
        "fifo_cache",
        "lfu_cache",
        "lru_cache",
        "ttl_cache",
    } <= set(fastcache.__all__)
    for name in fastcache.__all__:
        assert hasattr(fastcache, name)


def test_a_cache_is_initialised_once() -> None:
    """Whoever is in the middle of a call on it relies on what it was made with."""
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    with pytest.raises(RuntimeError, match="once"):
        cache.__init__(9, policy="lfu")  # type: ignore[misc]
    assert (cache.maxsize, cache.policy, dict(cache.items())) == (3, "lru", {"a": 1})


def test_an_eq_that_contradicts_itself_ends() -> None:
    class Fickle:
        asked = 0

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            Fickle.asked += 1
            return Fickle.asked % 2 == 0

    cache: Cache[Fickle, int] = Cache(10)
    cache[Fickle()] = 1
    try:
        cache.incr(Fickle(), 1)
    except RuntimeError as error:
        assert "contradicts" in str(error)
    cache.setdefault(Fickle(), 5)
    cache._check()
