"""Bad input: each wrong argument is named with its value, and nothing is changed."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from _support import snapshot

from fastcache import Cache
from fastcache.testing import FakeClock


class Awkward:
    """An object of no use as any argument, with a telling repr."""

    def __repr__(self) -> str:
        return "<awkward>"


def expect(error: type[Exception], name: str, value: Any, call: Any) -> None:
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    message = str(raised.value)
    assert name in message, message
    shown = repr(value)
    assert shown in message or (len(shown) > 60 and shown[:20] in message), message


# ---------------------------------------------------------------- maxsize

BAD_SIZES = [
    (-1, ValueError),
    (-(2**70), ValueError),
    (1.0, TypeError),
    (1.5, TypeError),
    (math.inf, TypeError),
    (math.nan, TypeError),
    (True, TypeError),
    (False, TypeError),
    ("5", TypeError),
    (b"5", TypeError),
    ([], TypeError),
    ((5,), TypeError),
    (1j, TypeError),
    (Decimal(5), TypeError),
    (Awkward(), TypeError),
    (len, TypeError),
]


@pytest.mark.parametrize(("value", "error"), BAD_SIZES)
def test_maxsize(value: Any, error: type[Exception]) -> None:
    expect(error, "maxsize", value, lambda: Cache(value))
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    expect(error, "maxsize", value, lambda: cache.resize(value))
    assert snapshot(cache) == before


@pytest.mark.parametrize("value", [2**31, 2**32, 2**62, 2**63 - 1])
def test_a_large_maxsize_is_fine(value: int) -> None:
    cache: Cache[int, int] = Cache(value)
    cache[1] = 1
    assert cache.maxsize == value
    cache.resize(value)
    assert cache[1] == 1


@pytest.mark.parametrize("value", [2**63, 2**64, 2**100])
def test_a_maxsize_beyond_the_range_is_refused_or_kept(value: int) -> None:
    try:
        cache: Cache[int, int] = Cache(value)
    except (ValueError, OverflowError) as error:
        assert "maxsize" in str(error) and str(value)[:15] in str(error)
    else:
        assert cache.maxsize == value


def test_an_index_is_an_int() -> None:
    """Integers of other libraries (numpy's) count as integers."""

    class Index:
        def __index__(self) -> int:
            return 3

    assert Cache(Index()).maxsize == 3  # type: ignore[arg-type]


# ---------------------------------------------------------------- policy and the rest of the constructor


@pytest.mark.parametrize("value", ["LRU", "", "random", "lru ", "tiny\x00"])
def test_policy(value: str) -> None:
    """Unknown policy: ValueError naming the choices."""
    expect(ValueError, "policy", value, lambda: Cache(3, policy=value))
    with pytest.raises(ValueError, match=r"lru") as raised:
        Cache(3, policy=value)
    assert all(choice in str(raised.value) for choice in ("fifo", "lfu", "lru"))


@pytest.mark.parametrize("value", [None, 5, b"lru", ["lru"], Awkward(), True])
def test_policy_of_another_type(value: Any) -> None:
    expect(TypeError, "policy", value, lambda: Cache(3, policy=value))


BAD_TIMES = [
    (-1, ValueError),
    (-0.001, ValueError),
    (-math.inf, ValueError),
    (math.nan, ValueError),
    (True, TypeError),
    (False, TypeError),
    ("5", TypeError),
    (b"5", TypeError),
    ([], TypeError),
    (1j, TypeError),
    (Awkward(), TypeError),
    (Decimal("sNaN"), TypeError),
    (timedelta(seconds=-1), ValueError),
    (-(2**70), ValueError),
    (len, TypeError),
]


@pytest.mark.parametrize("name", ["ttl", "tti"])
@pytest.mark.parametrize(("value", "error"), BAD_TIMES)
def test_times_of_the_cache(name: str, value: Any, error: type[Exception]) -> None:
    expect(error, name, value, lambda: Cache(3, **{name: value}))


WRITES = [
    ("set", lambda c, k, o: c.set(k, 5, **o)),
    ("add", lambda c, k, o: c.add(k, 5, **o)),
    ("set_many", lambda c, k, o: c.set_many({k: 5}, **o)),
    ("get_or_set", lambda c, k, o: c.get_or_set(k, lambda: pytest.fail("the factory ran"), **o)),
]


@pytest.mark.parametrize("name", ["ttl", "tti"])
@pytest.mark.parametrize(("value", "error"), BAD_TIMES)
@pytest.mark.parametrize("key", ["a", "new"])
@pytest.mark.parametrize(("method", "write"), WRITES, ids=[w[0] for w in WRITES])
def test_times_of_an_entry(
    method: str, write: Any, name: str, value: Any, error: type[Exception], key: str
) -> None:
    if method in ("add", "get_or_set") and key == "a":
        return  # present: nothing is stored, so the options may stay unread
    cache: Cache[str, int] = Cache(3, ttl=100, clock=FakeClock())
    cache["a"] = 1
    before = snapshot(cache)
    expect(error, name, value, lambda: write(cache, key, {name: value}))
    assert snapshot(cache) == before
    cache._check()


@pytest.mark.parametrize(("value", "error"), BAD_TIMES)
def test_the_time_of_touch(value: Any, error: type[Exception]) -> None:
    cache: Cache[str, int] = Cache(3, ttl=100, clock=FakeClock())
    cache["a"] = 1
    before = snapshot(cache)
    expect(error, "ttl", value, lambda: cache.touch("a", ttl=value))
    assert snapshot(cache) == before


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-0.1, ValueError),
        (1.1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (2, ValueError),
        (-1, ValueError),
        ("0.5", TypeError),
        (None, TypeError),
        (True, TypeError),
        (Awkward(), TypeError),
        (1j, TypeError),
    ],
)
def test_jitter(value: Any, error: type[Exception]) -> None:
    expect(error, "jitter", value, lambda: Cache(3, ttl=5, jitter=value))


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5])
def test_jitter_within_range(value: float) -> None:
    Cache(3, ttl=5, jitter=value)["a"] = 1


@pytest.mark.parametrize("name", ["weigher", "listener", "clock"])
@pytest.mark.parametrize("value", [5, "len", [], Awkward(), True])
def test_callables(name: str, value: Any) -> None:
    expect(TypeError, name, value, lambda: Cache(3, **{name: value}))


@pytest.mark.parametrize("name", ["weigher", "listener", "clock"])
def test_none_is_no_callable_wanted(name: str) -> None:
    cache: Cache[str, int] = Cache(3, **{name: None})  # type: ignore[arg-type]
    cache["a"] = 1
    assert cache["a"] == 1


@pytest.mark.parametrize("value", [5, b"n", [], Awkward()])
def test_name(value: Any) -> None:
    expect(TypeError, "name", value, lambda: Cache(3, name=value))


def test_unknown_options_of_the_constructor() -> None:
    with pytest.raises(TypeError, match="size_limit"):
        Cache(3, size_limit=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Cache(3, 4)  # type: ignore[misc]


def test_the_clock_of_the_constructor_is_not_trusted() -> None:
    cache: Cache[str, int] = Cache(3, ttl=5, clock=lambda: "soon")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="clock"):
        cache["a"] = 1
    assert len(cache) == 0
    cache._check()


# ---------------------------------------------------------------- weight, tags

BAD_WEIGHTS = [
    (-1, ValueError),
    (2**63, ValueError),
    (2**200, ValueError),
    (-(2**200), ValueError),
    (1.0, TypeError),
    (math.nan, TypeError),
    ("1", TypeError),
    ([], TypeError),
    (Awkward(), TypeError),
    (1j, TypeError),
]


@pytest.mark.parametrize(("value", "error"), BAD_WEIGHTS)
@pytest.mark.parametrize("key", ["a", "new"])
@pytest.mark.parametrize(("method", "write"), WRITES, ids=[w[0] for w in WRITES])
def test_weight(method: str, write: Any, value: Any, error: type[Exception], key: str) -> None:
    if method in ("add", "get_or_set") and key == "a":
        return
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    expect(error, "weight", value, lambda: write(cache, key, {"weight": value}))
    assert snapshot(cache) == before
    cache._check()


@pytest.mark.parametrize("value", [5, 1.5, None, Awkward(), True, "text", b"bytes"])
@pytest.mark.parametrize("key", ["a", "new"])
@pytest.mark.parametrize(("method", "write"), WRITES, ids=[w[0] for w in WRITES])
def test_tags(method: str, write: Any, value: Any, key: str) -> None:
    if method in ("add", "get_or_set") and key == "a":
        return
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    expect(TypeError, "tags", value, lambda: write(cache, key, {"tags": value}))
    assert snapshot(cache) == before
    cache._check()


def test_tags_that_raise_half_way() -> None:
    def tags() -> Any:
        yield "t"
        raise ZeroDivisionError

    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    for key in ("a", "b"):
        with pytest.raises(ZeroDivisionError):
            cache.set(key, 2, tags=tags())
    assert snapshot(cache) == before
    cache._check()


@pytest.mark.parametrize(("method", "write"), WRITES, ids=[w[0] for w in WRITES])
@pytest.mark.parametrize("key", ["a", "new"])
def test_unknown_options(method: str, write: Any, key: str) -> None:
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    with pytest.raises(TypeError, match="lifetime"):
        write(cache, key, {"lifetime": 5})
    assert snapshot(cache) == before


# ---------------------------------------------------------------- counts

BAD_COUNTS = [
    (1.5, TypeError),
    ("1", TypeError),
    ([], TypeError),
    (Awkward(), TypeError),
    (-1, ValueError),
]


@pytest.mark.parametrize(("value", "error"), BAD_COUNTS)
@pytest.mark.parametrize(
    ("method", "name"), [("evict", "n"), ("hottest", "n"), ("coldest", "n"), ("expire", "limit")]
)
def test_counts(method: str, name: str, value: Any, error: type[Exception]) -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(3, clock=clock)
    cache["a"] = 1
    cache.set("b", 1, ttl=1)
    before = snapshot(cache)
    expect(error, name, value, lambda: getattr(cache, method)(value))
    assert snapshot(cache) == before


@pytest.mark.parametrize("method", ["evict", "hottest", "coldest", "expire"])
def test_huge_counts_mean_all(method: str) -> None:
    cache: Cache[str, int] = Cache(3)
    cache["a"] = 1
    try:
        result = getattr(cache, method)(2**100)
    except (OverflowError, ValueError):
        return
    assert result in (1, ["a"], [])


def test_evict_takes_no_none() -> None:
    with pytest.raises(TypeError, match="n"):
        Cache(3).evict(None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- get_or_set, calls


@pytest.mark.parametrize("value", [5, None, "x", Awkward()])
def test_factory(value: Any) -> None:
    cache: Cache[str, int] = Cache(3)
    before = snapshot(cache)
    expect(TypeError, "factory", value, lambda: cache.get_or_set("a", value))
    assert snapshot(cache)["entries"] == before["entries"]
    assert cache.get_or_set("a", lambda: 1) == 1  # nothing stayed locked
    cache._check()


def test_an_async_factory_is_a_type_error() -> None:
    """An async factory is a TypeError here."""

    async def factory() -> int:
        return 1

    cache: Cache[str, Any] = Cache(3)
    with pytest.raises(TypeError, match="factory"):
        cache.get_or_set("a", factory)
    assert "a" not in cache
    assert cache.get_or_set("a", lambda: 1) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get(),
        lambda c: c.get(1, 2, 3),
        lambda c: c.set(1),
        lambda c: c.set(),
        lambda c: c.set(1, 2, 3),
        lambda c: c.add(1),
        lambda c: c.peek(),
        lambda c: c.pop(),
        lambda c: c.pop(1, 2, 3),
        lambda c: c.delete(),
        lambda c: c.touch(),
        lambda c: c.ttl(),
        lambda c: c.entry(),
        lambda c: c.get_many(),
        lambda c: c.set_many(),
        lambda c: c.delete_many(),
        lambda c: c.incr(),
        lambda c: c.incr(1, 2, 3, 4),
        lambda c: c.get_or_set(1),
        lambda c: c.setdefault(),
        lambda c: c.setdefault(1, 2, 3),
        lambda c: c.clear(1),
        lambda c: c.popitem(1),
        lambda c: c.resize(),
        lambda c: c.evict(1, 2),
        lambda c: c.stats(1, 2),
        lambda c: c.update(1, 2),
        lambda c: c.get(key=1),
        lambda c: c.set(key=1, value=2),
        lambda c: c.delete(key=1),
        lambda c: c.pop(key=1),
    ],
)
def test_wrong_numbers_of_arguments(call: Any) -> None:
    cache: Cache[Any, Any] = Cache(3)
    cache["a"] = 1
    before = snapshot(cache)
    with pytest.raises(TypeError):
        call(cache)
    assert snapshot(cache) == before
    cache._check()


def test_get_and_pop_take_their_default_by_position() -> None:
    cache: Cache[str, int] = Cache(3)
    assert cache.get("a", 5) == 5 and cache.pop("a", 5) == 5 and cache.peek("a", 5) == 5


def test_nothing_leaks_from_refused_calls() -> None:
    import sys

    cache: Cache[Any, Any] = Cache(3, ttl=5)
    key, value = Awkward(), Awkward()
    counts = sys.getrefcount(key), sys.getrefcount(value)
    calls: list[Any] = [
        lambda: cache.set(key, value, ttl=-1),
        lambda: cache.set(key, value, weight=-1),
        lambda: cache.set(key, value, tags=5),
        lambda: cache.set(key, value, tags=[[]]),
        lambda: cache.set(key, value, tti="x"),
        lambda: cache.add(key, value, ttl=math.nan),
        lambda: cache.incr(key, value),
        lambda: cache.get_or_set(key, value),
        lambda: cache.set_many([(key, value, 1)]),
        lambda: cache.touch(key, ttl="x"),
        lambda: cache.entry(key),
        lambda: cache.ttl(key),
        lambda: cache[key],
    ]
    for _ in range(100):
        for call in calls:
            try:
                call()
            except (TypeError, ValueError, KeyError):
                pass
            else:
                pytest.fail("accepted")
    assert (sys.getrefcount(key), sys.getrefcount(value)) == counts
    assert len(cache) == 0
