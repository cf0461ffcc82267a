"""Many keys in one crossing, counters, get_or_set without threads."""

from __future__ import annotations

import array
import ctypes
import random
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from _support import Recorder

from fastcache import Cache
from fastcache.testing import FakeClock


def squares(n: int = 100) -> Cache[int, int]:
    cache: Cache[int, int] = Cache(None)
    for key in range(n):
        cache[key] = key * key
    return cache


# ---------------------------------------------------------------- get_many


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda keys: (k for k in keys),
        lambda keys: dict.fromkeys(keys),
        lambda keys: dict.fromkeys(keys).keys(),
    ],
)
def test_the_list_is_aligned_with_the_keys(make: Any) -> None:
    """The list is aligned with the keys."""
    cache = squares()
    assert cache.get_many(make([3, 500, 7, 0])) == [9, None, 49, 0]
    assert cache.get_many(make([3, 500, 7]), -1) == [9, -1, 49]
    assert cache.get_many(make([])) == []


def test_repeated_keys() -> None:
    assert squares().get_many([2, 2, 900, 900, 2]) == [4, 4, None, None, 4]


def test_get_many_takes_a_set_a_range_and_a_string() -> None:
    cache = squares()
    assert cache.get_many(range(5)) == [0, 1, 4, 9, 16]
    assert sorted(cache.get_many({1, 2, 3})) == [1, 4, 9]
    letters: Cache[str, int] = Cache(9)
    letters["a"] = 1
    assert letters.get_many("ab") == [1, None]


class Rude:
    """Asks to be compared, and changes the cache and the list of keys whenever that is done."""

    def __init__(self, cache: Cache[Any, Any], keys: list[Any]) -> None:
        self.cache, self.keys = cache, keys

    def __hash__(self) -> int:
        return 5

    def __eq__(self, other: object) -> bool:
        self.cache.delete(7)
        del self.keys[40:]
        return True


KINDS: list[Any] = [0, -1, 2**29, 2**31, -(2**31), 2**59, 2**60, -(2**60), 2**61 - 1, 2**61, 2**70]
KINDS += ["", "a", "\xe9" * 9, "x" * 200, (1, "a"), 1.5, 2.0**70, None, True, b"x"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "options", [{}, {"ttl": 60}, {"policy": "lfu"}, {"details": True}], ids=str
)
def test_get_many_is_a_loop_of_get(seed: int, options: dict[str, Any]) -> None:
    """Keys of all kinds, held and absent, in every order: as get() for each, in the same order."""
    rng = random.Random(seed)
    many, single = Cache[Any, Any](1000, **options), Cache[Any, Any](1000, **options)
    for key in KINDS[:: seed % 3 + 1] + list(range(100, 140)):
        many[key] = single[key] = ("value", key)
    common = [*range(95, 145), *(f"no {n}" for n in range(10))]
    keys = rng.choices(KINDS, k=rng.randrange(60)) + rng.choices(common, k=rng.randrange(300))
    if seed % 2:
        rng.shuffle(keys)
    if seed % 5 == 0:
        keys = [key + 0 if type(key) is int else key for key in keys]
    default = object()
    for given in (keys, tuple(keys)):
        assert many.get_many(given, default) == [single.get(key, default) for key in keys]
    assert many.hottest() == single.hottest()
    assert (many.stats().hits, many.stats().misses) == (single.stats().hits, single.stats().misses)
    many._check()


@pytest.mark.parametrize("code", "qQ")
def test_arrays_of_many_are_a_loop_of_get(code: str) -> None:
    edges = [2**n + d for n in (29, 30, 31, 59, 60, 61, 62) for d in (-2, -1, 0, 1, 2)]
    edges += [-edge for edge in edges] if code == "q" else [2**63, 2**63 + 1, 2**64 - 1]
    many, single = Cache[int, int](None), Cache[int, int](None)
    for key in [*range(-50, 50), *edges[::2]]:
        many[key] = single[key] = key
    low = -60 if code == "q" else 0
    keys = array.array(code, [n for e in edges for n in (e, *range(low, 60, 7))])
    assert many.get_many(keys) == [single.get(key) for key in keys]
    assert many.get_many(memoryview(keys)[::3]) == [single.get(key) for key in keys[::3]]
    assert many.hottest() == single.hottest() and many.stats().hits == single.stats().hits
    many._check()


def test_keys_that_change_everything_half_way() -> None:
    """What was found out ahead of an `__eq__` is found out again after it."""
    cache: Cache[Any, Any] = Cache(None)
    for n in range(100):
        cache[n] = n
    keys: list[Any] = list(range(6, 90))
    keys.insert(20, Rude(cache, keys))
    keys.insert(25, 7)
    values = cache.get_many(keys)
    assert values[:40] == [*range(6, 26), 5, *range(26, 30), None, *range(30, 44)]
    # where threads run at once, the list is copied first
    assert values[40:] in ([None] * 46, list(range(44, 90)))


def test_get_many_promotes_in_order() -> None:
    cache: Cache[int, int] = Cache(None)
    for key in range(5):
        cache[key] = key
    cache.get_many([3, 0, 9, 3, 1])
    assert cache.coldest() == [2, 4, 0, 3, 1]


@pytest.mark.parametrize("make", [list, lambda keys: array.array("q", keys)], ids=["list", "array"])
@pytest.mark.parametrize("options", [{}, {"ttl": 60}, {"details": True}], ids=str)
def test_get_many_counts_the_references_of_the_default(make: Any, options: dict[str, Any]) -> None:
    """Many at once, so a wrong number would free it, or never."""
    cache: Cache[int, Any] = Cache(None, **options)
    value, default = object(), object()
    for key in range(100):
        cache[key] = value
    keys = make([*range(60), -1, 2**61, *range(80, 180), 5])
    before = sys.getrefcount(value), sys.getrefcount(default)
    values = cache.get_many(keys, default)
    found = values.count(value)
    assert found == 81
    after = sys.getrefcount(value), sys.getrefcount(default)
    assert after == (before[0] + found, before[1] + len(keys) - found)
    del values
    assert (sys.getrefcount(value), sys.getrefcount(default)) == before


def test_get_many_counts() -> None:
    cache = squares()
    cache.stats(reset=True)
    cache.get_many([1, 2, 1000])
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)


def test_get_many_shows_no_dead_ones() -> None:
    clock = FakeClock()
    cache: Cache[int, int] = Cache(None, clock=clock)
    cache.set(1, 1, ttl=1)
    cache.set(2, 2)
    cache.set(3, 3, tags=["t"])
    cache.invalidate_tag("t")
    clock.advance(1)
    assert cache.get_many([1, 2, 3]) == [None, 2, None]


@pytest.mark.parametrize("code", "bBhHiIlLqQ")
def test_integer_arrays_of_every_type(code: str) -> None:
    """An integer array is taken through the buffer protocol."""
    cache = squares(128)
    keys = array.array(code, [0, 5, 127, 11, 5])
    expected = [0, 25, 127 * 127, 121, 25]
    assert cache.get_many(keys) == expected
    assert cache.get_many(memoryview(keys)) == expected
    assert cache.get_many(memoryview(keys)[::-1]) == expected[::-1]
    assert cache.get_many(memoryview(keys)[1:1]) == []
    assert cache.get_many(array.array(code)) == []


@pytest.mark.parametrize("code", "bhilq")
def test_negative_integers_of_arrays(code: str) -> None:
    cache: Cache[int, str] = Cache(None)
    low = -(2 ** (8 * array.array(code).itemsize - 1))
    high = -low - 1
    for key in (-1, -2, -3, low, low + 1, high, 0):
        cache[key] = str(key)
    keys = array.array(code, [-1, -2, low, high, -3, low + 1, 0, 7])
    assert cache.get_many(keys) == ["-1", "-2", str(low), str(high), "-3", str(low + 1), "0", None]


@pytest.mark.parametrize("code", "BHILQ")
def test_large_unsigned_integers_of_arrays(code: str) -> None:
    cache: Cache[int, str] = Cache(None)
    high = 2 ** (8 * array.array(code).itemsize) - 1
    for key in (high, high - 1, high // 2, high // 2 + 1, -1, -2):
        cache[key] = str(key)
    keys = array.array(code, [high, high - 1, high // 2, high // 2 + 1, 3])
    assert cache.get_many(keys) == [
        str(high),
        str(high - 1),
        str(high // 2),
        str(high // 2 + 1),
        None,
    ]


@pytest.mark.parametrize(
    "key",
    [
        2**61 - 1,
        2**61 - 2,
        2**61,
        2**62,
        2**63 - 1,
        -(2**61 - 1),
        -(2**61),
        -(2**63),
        -1,
        -2,
        0,
        2**30,
        2**60,
        2**15,
    ],
)
def test_int64_at_the_edges_of_the_hash(key: int) -> None:
    """Python's integer hash is modulo 2**61-1, and -1 is not a hash."""
    cache: Cache[Any, str] = Cache(None)
    for near in (key - 1, key, key + 1):
        cache[near] = str(near)
    assert cache.get_many(array.array("q", [key])) == [str(key)]
    del cache[key]
    assert cache.get_many(array.array("q", [key])) == [None]


def test_arrays_find_equal_keys_of_other_types() -> None:
    """`5 == 5.0 == Decimal(5)` is one key, as in `dict`."""
    cache: Cache[Any, str] = Cache(None)
    cache[1.0], cache[True + 1], cache[Decimal(3)], cache[Fraction(4)] = (
        "float",
        "two",
        "decimal",
        "fraction",
    )
    assert cache.get_many(array.array("q", [1, 2, 3, 4, 5])) == [
        "float",
        "two",
        "decimal",
        "fraction",
        None,
    ]


def test_arrays_find_keys_with_their_own_equality() -> None:
    class Five:
        def __hash__(self) -> int:
            return hash(5)

        def __eq__(self, other: object) -> bool:
            return other == 5

    cache: Cache[Any, str] = Cache(None)
    cache[Five()] = "five"
    assert cache.get_many(array.array("i", [5, 6])) == ["five", None]
    assert cache[5] == "five"


def test_many_colliding_ints_through_an_array() -> None:
    cache: Cache[int, int] = Cache(None)
    keys = [k * (2**61 - 1) for k in range(-4, 5)]
    keys = [key for key in keys if -(2**63) <= key < 2**63]
    for key in keys:
        cache[key] = key + 1
    assert cache.get_many(array.array("q", keys)) == [key + 1 for key in keys]


def test_other_buffers_are_taken_as_iterables() -> None:
    """What is no integer array is iterated over, as any other iterable."""
    cache: Cache[Any, str] = Cache(None)
    cache[97], cache[1.5] = "a", "float"
    assert cache.get_many(b"ab") == ["a", None]
    assert cache.get_many(bytearray(b"ab")) == ["a", None]
    assert cache.get_many(array.array("d", [1.5, 2.5])) == ["float", None]


def test_a_ctypes_array() -> None:
    cache = squares()
    assert cache.get_many((ctypes.c_int64 * 3)(1, 2, 300)) == [1, 4, None]


def test_two_dimensions_are_refused_or_rows() -> None:
    cache = squares()
    view = memoryview(bytes(range(4))).cast("B", (2, 2))
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        cache.get_many(view)


def test_an_array_may_be_resized_afterwards() -> None:
    """The buffer is let go."""
    cache = squares()
    keys = array.array("q", [1, 2])
    cache.get_many(keys)
    keys.append(3)
    assert cache.get_many(keys) == [1, 4, 9]


def test_an_array_may_be_resized_after_an_error() -> None:
    class Bad:
        def __hash__(self) -> int:
            return hash(5)

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    cache: Cache[Any, int] = Cache(None)
    cache[Bad()] = 1
    keys = array.array("q", [1, 5])
    with pytest.raises(ZeroDivisionError):
        cache.get_many(keys)
    keys.append(1)
    cache._check()


def numpy_or_skip() -> Any:
    return pytest.importorskip("numpy")


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "intp",
        "uintp",
        "longlong",
        "ulonglong",
        ">i2",
        ">i4",
        ">i8",
        ">u8",
        "<i4",
        "<u8",
    ],
)
def test_numpy_integers(dtype: str) -> None:
    numpy = numpy_or_skip()
    cache = squares(128)
    keys = numpy.array([3, 127, 0, 99], dtype=dtype)
    assert cache.get_many(keys) == [9, 127 * 127, 0, 99 * 99]
    assert cache.get_many(keys[::2]) == [9, 0]
    assert cache.get_many(keys[::-1]) == [99 * 99, 0, 127 * 127, 9]
    assert cache.get_many(keys[:0]) == []


def test_numpy_of_other_kinds() -> None:
    numpy = numpy_or_skip()
    cache: Cache[Any, str] = Cache(None)
    cache[1], cache[2.5], cache["x"] = "one", "float", "text"
    assert cache.get_many(numpy.array([1.0, 2.5, 3.0])) == ["one", "float", None]
    assert cache.get_many(numpy.array([True, False])) == ["one", None]
    assert cache.get_many(numpy.array(["x", "y"])) == ["text", None]
    assert cache.get_many(numpy.array([1, "x"], dtype=object)) == ["one", "text"]
    for kind in ("datetime64[D]", "timedelta64[s]"):  # of which numpy makes no buffer
        moments = numpy.array([1, 2], dtype=kind)
        cache[moments[0]] = kind
        assert cache.get_many(moments) == [kind, None]
        assert cache.delete_many(moments) == 1


def test_numpy_read_only() -> None:
    numpy = numpy_or_skip()
    keys = numpy.arange(4)
    keys.flags.writeable = False
    assert squares().get_many(keys) == [0, 1, 4, 9]


def test_numpy_matrix_is_refused() -> None:
    numpy = numpy_or_skip()
    with pytest.raises((TypeError, ValueError)):
        squares().get_many(numpy.arange(4).reshape(2, 2))


def test_keys_that_fail_half_way() -> None:
    def keys() -> Any:
        yield 1
        raise ZeroDivisionError

    cache = squares()
    with pytest.raises(ZeroDivisionError):
        cache.get_many(keys())
    with pytest.raises(TypeError):
        cache.get_many([1, [], 2])
    with pytest.raises(TypeError):
        cache.get_many(5)  # type: ignore[arg-type]
    cache._check()


def test_keys_that_change_the_cache_while_they_are_read() -> None:
    cache = squares(10)

    def keys() -> Any:
        for key in range(10):
            cache.delete(9 - key)
            yield key

    # Whether the keys are all read first is not promised; that they are aligned is.
    found = cache.get_many(keys())
    assert len(found) == 10 and all(v in (k * k, None) for k, v in enumerate(found))
    assert len(cache) == 0
    cache._check()


# ---------------------------------------------------------------- set_many, delete_many


@pytest.mark.parametrize(
    "pairs",
    [
        {"a": 1, "b": 2},
        [("a", 1), ("b", 2)],
        iter([("a", 1), ("b", 2)]),
        (["a", 1], ["b", 2]),
        {"a": 1, "b": 2}.items(),
    ],
)
def test_set_many(pairs: Any) -> None:
    cache: Cache[str, int] = Cache(9)
    assert cache.set_many(pairs) is None
    assert cache == {"a": 1, "b": 2} and cache.coldest() == ["a", "b"]


def test_set_many_takes_a_cache() -> None:
    cache: Cache[int, int] = Cache(None)
    cache.set_many(squares(5))
    assert cache == squares(5)


def test_set_many_with_options() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(99, clock=clock)
    cache.set_many({"a": 1, "b": 2}, ttl=5, tti=4, weight=3, tags=["t"])
    assert cache.weight == 6 and [cache.ttl(k) for k in "ab"] == [4, 4]
    assert list(cache.entry("a").tags) == ["t"] and cache.entry("b").tti == 4
    cache.set_many([("c", 1)], tags=iter(["t"]))
    cache.invalidate_tag("t")
    assert list(cache) == []


def test_tags_given_as_an_iterator_reach_every_pair() -> None:
    cache: Cache[str, int] = Cache(99)
    cache.set_many({"a": 1, "b": 2}, tags=iter(["t"]))
    cache.invalidate_tag("t")
    assert list(cache) == []


def test_set_many_overflows_as_set_does() -> None:
    recorder = Recorder()
    cache: Cache[int, int] = Cache(3, listener=recorder)
    cache.set_many({key: key for key in range(10)})
    assert set(cache) == {7, 8, 9} and [e[0] for e in recorder.take()] == list(range(7))


@pytest.mark.parametrize("pairs", [[1], [(1, 2, 3)], 5, [(1,)], "ab c".split()])
def test_set_many_refuses_what_is_no_pair(pairs: Any) -> None:
    cache = squares(3)
    if pairs == ["ab", "c"]:
        with pytest.raises((TypeError, ValueError)):
            cache.set_many(pairs)
        assert set(cache) <= {0, 1, 2, "a"}
        return
    with pytest.raises((TypeError, ValueError)):
        cache.set_many(pairs)
    assert cache == squares(3)
    cache._check()


def test_delete_many_counts_what_was_there() -> None:
    cache = squares(10)
    assert cache.delete_many([1, 2, 2, 50]) == 2
    assert cache.delete_many([]) == 0 and cache.delete_many(iter([3])) == 1
    assert set(cache) == {0, 4, 5, 6, 7, 8, 9}
    with pytest.raises(TypeError):
        cache.delete_many(5)  # type: ignore[arg-type]
    cache._check()


def test_delete_many_does_not_count_the_dead() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, ttl=1)
    cache.set("b", 1)
    clock.advance(1)
    assert cache.delete_many(["a", "b"]) == 1


def test_delete_many_of_its_own_keys() -> None:
    cache = squares(10)
    assert cache.delete_many(cache) == 10 or len(cache) == 0
    cache._check()


def test_delete_many_through_an_array() -> None:
    cache = squares(10)
    assert cache.delete_many(array.array("q", [1, 2, 77])) == 2


# ---------------------------------------------------------------- incr


def test_incr() -> None:
    """Absent gives `initial + delta`."""
    cache: Cache[str, Any] = Cache(9)
    assert cache.incr("n") == 1 and cache.incr("n") == 2 and cache["n"] == 2
    assert cache.incr("n", 5) == 7 and cache.incr("n", -10) == -3
    assert cache.incr("m", 5, 100) == 105 and cache.incr("k", delta=2, initial=3) == 5
    assert cache.incr("big", 2**62, 2**62) == 2**63 and cache.incr("big", 2**63 - 1) == 2**64 - 1
    assert cache.incr("zero", 0) == 0


def test_incr_of_floats() -> None:
    cache: Cache[str, Any] = Cache(9)
    cache["x"] = 1.5
    assert cache.incr("x") == 2.5 and cache.incr("x", 0.25) == 2.75
    assert cache.incr("y", 0.5) == 0.5
    cache["i"] = 1
    assert cache.incr("i", 0.5) == 1.5


@pytest.mark.parametrize("value", ["5", None, [1], (1,), b"1", {}])
def test_incr_of_what_is_no_number(value: Any) -> None:
    """Int/float values; else TypeError."""
    cache: Cache[str, Any] = Cache(9)
    cache["x"] = value
    with pytest.raises(TypeError):
        cache.incr("x")
    assert cache.peek("x") is value
    with pytest.raises(TypeError, match="delta"):
        cache.incr("new", value)
    with pytest.raises(TypeError, match="initial"):
        cache.incr("new", 1, value)
    assert "new" not in cache
    cache._check()


def test_incr_keeps_the_weight_within_bounds() -> None:
    cache: Cache[int, int] = Cache(2)
    for key in range(10):
        cache.incr(key)
        assert key in cache and len(cache) <= 2


def test_incr_at_maxsize_zero() -> None:
    cache: Cache[str, int] = Cache(0)
    assert cache.incr("a") == 1 and cache.incr("a") == 1 and len(cache) == 0


# ---------------------------------------------------------------- add


def test_add() -> None:
    """Only if absent."""
    cache: Cache[str, Any] = Cache(9)
    assert cache.add("a", 1) is True and cache.add("a", 2) is False and cache["a"] == 1
    assert cache.add("n", None) is True and cache.add("n", 1) is False and cache["n"] is None


def test_add_that_stores_nothing() -> None:
    cache: Cache[str, int] = Cache(0)
    cache.add("a", 1)
    assert "a" not in cache
    large: Cache[str, int] = Cache(5)
    large.add("a", 1, ttl=0)
    large.add("b", 1, weight=6)
    assert len(large) == 0


def test_get_many_of_an_array_cut_at_an_odd_byte() -> None:
    cache: Cache[int, str] = Cache(9)
    cache[7] = "seven"
    raw = b"\0" + array.array("q", [7, 8]).tobytes()
    assert cache.get_many(memoryview(raw)[1:].cast("q")) == ["seven", None]
