"""Scenario 11: each extreme argument has a documented meaning, or a clear error and no effect."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from _support import shown

from fastcache import Cache


class Clock:
    """A clock set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def seen(cache: Any) -> Any:
    """All that shows of a cache."""
    return (
        cache.coldest(), {k: cache.entry(k) for k in cache}, len(cache), cache.weight,
        cache.maxsize, cache.stats(),
    )  # fmt: skip


INF, NAN = math.inf, math.nan
WRONG_TIMES = [
    (-1, ValueError), (-0.001, ValueError), (NAN, ValueError), (-INF, ValueError),
    (-(2**63), ValueError), (-(2**2000), ValueError), (datetime.timedelta(seconds=-1), ValueError),
    (True, TypeError), (False, TypeError), ("5", TypeError), (b"5", TypeError), ([], TypeError),
    (object(), TypeError), (1j, TypeError),
]  # fmt: skip
FOR_EVER = [None, INF, 2**63, 2.0**63, 2**100, 2**2000, 1e300, datetime.timedelta.max]
TAKES_TIME: dict[str, Callable[[Any, str, Any], Any]] = {
    "set": lambda c, name, v: c.set("new", 1, **{name: v}),
    "set old": lambda c, name, v: c.set("old", 1, **{name: v}),
    "add": lambda c, name, v: c.add("new", 1, **{name: v}),
    "set_many": lambda c, name, v: c.set_many([("new", 1)], **{name: v}),
    "get_or_set": lambda c, name, v: c.get_or_set("new", lambda: 1, **{name: v}),
    "touch": lambda c, name, v: c.touch("old", ttl=v),
}


def small(**options: Any) -> Any:
    """A cache of two entries with a clock set by hand."""
    cache: Any = Cache(10, clock=Clock(), **options)
    cache.set("other", 0, ttl=500)
    cache.set("old", 0, ttl=100, tti=50, weight=2, tags=["t"])
    return cache


@pytest.mark.parametrize("name", ["ttl", "tti"])
@pytest.mark.parametrize(("value", "error"), WRONG_TIMES, ids=shown)
def test_s11_wrong_times(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Cache(10, **{name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    for call in TAKES_TIME:
        given = "ttl" if call == "touch" else name
        cache = small()
        before = seen(cache)
        with pytest.raises(error) as caught:
            TAKES_TIME[call](cache, given, value)
        assert given in str(caught.value)
        assert repr(value) in str(caught.value)
        if call != "get_or_set":  # whose miss has been counted
            assert seen(cache) == before
        assert "new" not in cache
        cache._check()


@pytest.mark.parametrize("value", FOR_EVER, ids=shown)
def test_s11_for_ever(value: Any) -> None:
    clock = Clock()
    cache: Any = Cache(10, ttl=value, tti=value, clock=clock)
    cache["a"] = 1
    other: Any = Cache(10, ttl=5, tti=5, clock=clock)
    other.set("a", 1, ttl=value, tti=value)
    clock.now += 1e9  # 32 years
    for c in (cache, other):
        assert c["a"] == 1
        assert c.ttl("a") is None
        assert c.expire() == []
        c._check()


@pytest.mark.parametrize("value", [0, 0.0, -0.0, datetime.timedelta(0)], ids=shown)
@pytest.mark.parametrize("name", ["ttl", "tti"])
def test_s11_zero_stores_nothing(name: str, value: Any) -> None:
    nothing: Any = Cache(10, **{name: value})
    nothing["a"] = 1
    assert "a" not in nothing
    assert len(nothing) == 0
    for call in ("set", "set old", "add", "set_many", "get_or_set"):
        cache = small()
        TAKES_TIME[call](cache, name, value)
        assert "new" not in cache
        assert ("old" in cache) == (call != "set old")
        assert cache["other"] == 0
        cache._check()
    cache = small()
    assert cache.touch("old", ttl=value) is True
    assert "old" not in cache


@pytest.mark.parametrize(
    "value", [5, 5.0, Decimal(5), datetime.timedelta(seconds=5), 1e-9, 5e-324, 1e9], ids=shown
)
def test_s11_finite_times(value: Any) -> None:
    if isinstance(value, Decimal):
        # A Decimal is not a real number by the numeric tower: allowed or refused, but clearly.
        try:
            cache: Any = Cache(10, ttl=value)
        except TypeError as error:
            assert "ttl" in str(error)
            return
    clock = Clock()
    cache = Cache(10, ttl=value, clock=clock)
    cache["a"] = 1
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else float(value)
    clock.now += seconds * 2 + 1
    assert "a" not in cache
    assert cache.get("a") is None


@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), (-(2**70), ValueError), (1.0, TypeError), (INF, TypeError), ("5", TypeError),
     (True, TypeError), (False, TypeError), ([], TypeError), (Decimal(5), TypeError)],
    ids=shown,
)  # fmt: skip
def test_s11_wrong_maxsize(value: Any, error: type[Exception]) -> None:
    for call in (Cache, small().resize):
        with pytest.raises(error) as caught:
            call(value)
        assert "maxsize" in str(caught.value)
        assert repr(value) in str(caught.value)
    cache = small()
    before = seen(cache)
    with pytest.raises(error):
        cache.resize(value)
    assert seen(cache) == before


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_s11_extreme_maxsize(policy: str) -> None:
    nothing: Any = Cache(0, policy=policy)
    nothing["a"] = 1
    nothing.set("a", 1)
    assert len(nothing) == 0
    assert nothing.get("a") is None
    assert nothing.get_or_set("a", lambda: 5) == 5
    assert nothing.setdefault("a", 6) == 6
    assert len(nothing) == 0
    one: Any = Cache(1, policy=policy)
    for i in range(5):
        one[i] = i
        assert list(one.items()) == [(i, i)]
    unbounded: Any = Cache(None, policy=policy)
    unbounded.update((i, i) for i in range(5000))
    assert len(unbounded) == 5000
    for big in (2**31, 2**32, 2**62, 2**63 - 1):
        huge: Any = Cache(big, policy=policy)
        huge["a"] = 1
        assert huge.maxsize == big
        assert huge.nbytes < 10_000  # nothing is allocated in proportion
    # Beyond 2**63 - 1: a number like any other, or a clear error.
    try:
        beyond: Any = Cache(2**100, policy=policy)
    except (OverflowError, ValueError) as error:
        assert "maxsize" in str(error)
    else:
        assert beyond.maxsize == 2**100


WRONG_WEIGHTS = [
    (-1, ValueError), (-(2**63), ValueError), (2**63, ValueError), (2**100, ValueError),
    (1.0, TypeError), ("1", TypeError), (None, TypeError), (NAN, TypeError), ([], TypeError),
]  # fmt: skip


@pytest.mark.parametrize(("weight", "error"), WRONG_WEIGHTS, ids=shown)
def test_s11_wrong_weights(weight: Any, error: type[Exception]) -> None:
    result = [1]
    cache: Any = Cache(10, weigher=lambda k, v: result[0])
    cache["a"], cache["b"] = 1, 2
    before = seen(cache)
    result[0] = weight
    for call in (lambda: cache.set("a", 5), lambda: cache.set("c", 5), lambda: cache.update(c=1),
                 lambda: cache.add("c", 1), lambda: cache.set_many({"c": 1}),
                 lambda: cache.__setitem__("a", 1)):  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert "weigher" in str(caught.value) or "weight" in str(caught.value)
        assert repr(weight) in str(caught.value)
        assert seen(cache) == before
        cache._check()
    if weight is None:  # as an argument: the weigher decides
        return
    plain = small()
    before = seen(plain)
    for call in (
        lambda: plain.set("old", 5, weight=weight),
        lambda: plain.set("c", 5, weight=weight),
    ):
        with pytest.raises(error) as caught:
            call()
        assert "weight" in str(caught.value)
        assert repr(weight) in str(caught.value)
        assert seen(plain) == before
        plain._check()


def test_s11_weigher_that_raises() -> None:
    def weigher(key: object, value: object) -> int:
        if value == "bad":
            raise ZeroDivisionError("from the weigher")
        return 1

    cache: Any = Cache(10, weigher=weigher)
    cache["a"] = 1
    before = seen(cache)
    for call in (lambda: cache.set("a", "bad"), lambda: cache.set("b", "bad"),
                 lambda: cache.update(b="bad"), lambda: cache.add("b", "bad")):  # fmt: skip
        with pytest.raises(ZeroDivisionError, match="from the weigher"):
            call()
        assert seen(cache) == before


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_s11_extreme_weights(policy: str) -> None:
    weights = {"zero": 0, "one": 1, "bound": 10, "above": 11, "huge": 2**63 - 1}
    cache: Any = Cache(10, policy=policy, weigher=lambda k, v: weights[k])
    cache["zero"] = 1
    assert (len(cache), cache.weight) == (1, 0)
    cache["one"] = 1
    assert (len(cache), cache.weight) == (2, 1)
    cache["bound"] = 1  # everything that weighs something makes room
    assert "bound" in cache
    assert cache.weight == 10
    for heavy in ("above", "huge"):
        cache[heavy] = 1
        assert heavy not in cache
        assert cache.weight <= 10
        cache._check()
    # An old value that becomes too heavy goes.
    weights["one"] = 11
    cache.clear()
    weights["one"] = 1
    cache["one"] = 1
    weights["one"] = 11
    cache["one"] = 2
    assert "one" not in cache
    assert cache.weight == 0
    # The sum does not overflow: it is exact, refused, or bounded by what 63 bits hold.
    unbounded: Any = Cache(None, policy=policy, weigher=lambda k, v: 2**62)
    try:
        for i in range(10):
            unbounded[i] = i
    except (OverflowError, ValueError) as error:
        assert "weight" in str(error)
    else:
        exact = unbounded.weight == 10 * 2**62
        assert exact or unbounded.weight == len(unbounded) * 2**62 < 2**63
    unbounded._check()


@pytest.mark.parametrize(
    ("result", "error"),
    [(NAN, ValueError), (INF, ValueError), (-INF, ValueError), ("5", TypeError), (None, TypeError),
     ([], TypeError), (1j, TypeError)],
    ids=shown,
)  # fmt: skip
def test_s11_wrong_clock(result: Any, error: type[Exception]) -> None:
    clock = Clock()
    cache: Any = Cache(10, ttl=50, tti=40, clock=clock)
    cache["a"] = 1
    before = seen(cache)
    clock.now = result
    for call in (lambda: cache.get("a"), lambda: cache.set("b", 1), lambda: cache.set("a", 2),
                 lambda: cache["a"], lambda: cache.add("b", 1), lambda: cache.touch("a"),
                 lambda: cache.ttl("a"), lambda: "a" in cache, lambda: cache.expire()):  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert "clock" in str(caught.value)
    clock.now = 1000.0
    assert seen(cache) == before


def test_s11_clock_that_raises() -> None:
    class Broken(Clock):
        broken = False

        def __call__(self) -> float:
            if self.broken:
                raise ZeroDivisionError("from the clock")
            return self.now

    clock = Broken()
    cache: Any = Cache(3, ttl=50, clock=clock)
    cache.update(a=1, b=2, c=3)
    before = seen(cache)
    clock.broken = True
    for call in (lambda: cache.get("a"), lambda: cache.set("d", 1), lambda: cache.set("a", 2),
                 lambda: cache.pop("a"), lambda: cache.popitem(), lambda: cache.get_many(["a"]),
                 lambda: cache.incr("n"), lambda: cache.setdefault("d", 1)):  # fmt: skip
        with pytest.raises(ZeroDivisionError, match="from the clock"):
            call()
    clock.broken = False
    assert seen(cache) == before
    cache._check()


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("policy", "mru", ValueError), ("policy", "", ValueError), ("policy", None, TypeError),
        ("policy", 5, TypeError),
        ("jitter", -0.1, ValueError), ("jitter", 1.1, ValueError), ("jitter", NAN, ValueError),
        ("jitter", "0.1", TypeError), ("jitter", None, TypeError),
        ("weigher", 5, TypeError), ("listener", "f", TypeError), ("clock", 5.0, TypeError),
        ("name", 5, TypeError),
    ],
    ids=shown,
)  # fmt: skip
def test_s11_wrong_options(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Cache(10, **{option: value})
    assert caught.type is error or value is None or (option, value) == ("policy", 5)
    assert option in str(caught.value)
    assert repr(value) in str(caught.value)
    if option == "policy" and isinstance(value, str):
        for policy in ("lru", "fifo", "lfu"):
            assert policy in str(caught.value)


def test_s11_wrong_calls_change_nothing() -> None:
    cache = small()
    cache["text"] = "x"
    before = seen(cache)
    wrong: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: cache.incr("text"), TypeError),
        (lambda: cache.incr("other", "x"), TypeError),
        (lambda: cache.set("old", 1, tags=5), TypeError),
        (lambda: cache.set("old", 1, tags=[[]]), TypeError),
        (lambda: cache.set("old", 1, unknown=1), TypeError),
        (lambda: cache.set("old"), TypeError),
        (lambda: cache.evict("x"), TypeError),
        (lambda: cache.evict(1.5), TypeError),
        (lambda: cache.hottest("x"), TypeError),
        (lambda: cache.expire("x"), TypeError),
        (lambda: cache.get_many(5), TypeError),
        (lambda: cache.delete_many(5), TypeError),
        (lambda: cache.set_many(5), TypeError),
        (lambda: cache.update(5), TypeError),
        (lambda: cache.invalidate_tag([]), TypeError),
        (lambda: cache.popitem(5), TypeError),
        (lambda: hash(cache), TypeError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
        assert seen(cache) == before
        cache._check()


def test_s11_factories_that_are_no_factories() -> None:
    async def coroutine() -> int:
        return 1

    cache = small()
    for factory in (coroutine, 5, None):
        with pytest.raises(TypeError):
            cache.get_or_set("new", factory)
        assert "new" not in cache
