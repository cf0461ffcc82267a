"""The decorators, in what they offer beyond functools (whose own tests run in conformance/)."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import threading
import warnings
import weakref
from decimal import Decimal
from typing import Any

import pytest
from _support import run_threads

import fastcache
from fastcache import (
    Cache,
    CachedFunction,
    CacheInfo,
    CallKey,
    fifo_cache,
    lfu_cache,
    lru_cache,
    ttl_cache,
)
from fastcache.testing import FakeClock

SIZED = [lru_cache, fifo_cache, lfu_cache, ttl_cache]
ALL = [*SIZED, fastcache.cache]
sized = pytest.mark.parametrize("decorator", SIZED, ids=[d.__name__ for d in SIZED])
every = pytest.mark.parametrize("decorator", ALL, ids=[d.__name__ for d in ALL])


@lru_cache(maxsize=8)
def module_level(x: int) -> int:
    return x + 1


class Holder:
    @lru_cache(maxsize=8)
    def method(self, x: int) -> int:
        return x

    @staticmethod
    @lru_cache(maxsize=8)
    def static(x: int) -> int:
        return x


def counting(decorator: Any, **options: Any) -> tuple[Any, list[Any]]:
    """A decorated function of any shape, and the list of calls that reached it."""
    calls: list[Any] = []

    def function(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return len(calls)

    return (decorator(**options)(function) if options else decorator(function)), calls


# ---------------------------------------------------------------- shapes of the decorator


@every
def test_bare(decorator: Any) -> None:
    f, calls = counting(decorator)
    assert isinstance(f, CachedFunction) and f(1) == f(1) == 1 and f(2) == 2 and len(calls) == 2
    assert f.cache_info() == (1, 2, None if decorator is fastcache.cache else 128, 2)


@sized
def test_with_arguments(decorator: Any) -> None:
    for make in (
        lambda: decorator(3),
        lambda: decorator(maxsize=3),
        lambda: decorator(3, typed=False),
    ):
        f, _ = counting(lambda function, make=make: make()(function))
        assert f.cache_parameters() | {"maxsize": 3, "typed": False} == f.cache_parameters()
        assert f.cache_info().maxsize == 3
    g, _ = counting(lambda function: decorator()(function))
    assert g.cache_info().maxsize == 128


def test_parameters_are_those_of_functools() -> None:
    f, _ = counting(lru_cache, maxsize=5, typed=True)
    assert f.cache_parameters() == {"maxsize": 5, "typed": True}
    f.cache_parameters()["maxsize"] = 7  # a dict of the caller's own
    assert f.cache_parameters() == {"maxsize": 5, "typed": True}
    assert fastcache.cache(lambda: 1).cache_parameters() == {"maxsize": None, "typed": False}


@sized
@pytest.mark.parametrize("value", [1.5, "5", [], {}, 1j])
def test_a_maxsize_of_another_type(decorator: Any, value: Any) -> None:
    with pytest.raises(
        TypeError, match="Expected first argument to be an integer, a callable, or None"
    ):
        decorator(value)
    with pytest.raises(TypeError):
        decorator(maxsize=value)


@sized
def test_a_negative_maxsize_becomes_zero(decorator: Any) -> None:
    """A negative maxsize becomes 0: nothing stored, misses counted."""
    f, calls = counting(decorator, maxsize=-5)
    f(1)
    f(1)
    assert f.cache_info() == (0, 2, 0, 0) and len(calls) == 2 and len(f.cache) == 0


def test_cache_info_is_a_named_tuple_of_four() -> None:
    """`CacheInfo` has exactly hits, misses, maxsize, currsize and equals a tuple."""
    f, _ = counting(lru_cache)
    f(1)
    f(1)
    info = f.cache_info()
    assert type(info) is CacheInfo and info._fields == ("hits", "misses", "maxsize", "currsize")
    assert info == (1, 1, 128, 1) and info.hits == 1
    assert repr(info) == "CacheInfo(hits=1, misses=1, maxsize=128, currsize=1)"
    assert pickle.loads(pickle.dumps(info)) == info


@every
def test_wraps(decorator: Any) -> None:
    def documented(a: int, *, b: str = "x") -> str:
        """Says something."""
        return b

    documented.extra = 5  # type: ignore[attr-defined]
    f = decorator(documented)
    assert (
        f.__wrapped__ is documented
        and f.__name__ == "documented"
        and f.__doc__ == "Says something."
    )
    assert f.__module__ == __name__ and f.__qualname__ == documented.__qualname__ and f.extra == 5
    assert f.__annotations__ == documented.__annotations__
    assert inspect.signature(f) == inspect.signature(documented)
    f.note = 1
    assert f.note == 1 and f.__dict__["note"] == 1


@every
def test_weakref_and_collection(decorator: Any) -> None:
    @decorator
    def f(x: Any) -> Any:
        return x

    f(f)  # a cycle through the cache
    reference = weakref.ref(f)
    del f
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("word", ["state", "unhashable"])
def test_words_of_the_abandoned_package(word: str) -> None:
    """`state=` and `unhashable=` (of the old fastcache) raise an error that names `clru_cache`."""
    with pytest.raises(TypeError, match="clru_cache"):
        lru_cache(maxsize=5, **{word: "x"})  # type: ignore[call-arg]


def test_an_unknown_word() -> None:
    with pytest.raises(TypeError, match="size"):
        lru_cache(size=5)  # type: ignore[call-arg]


def test_async_functions_warn() -> None:
    """`lru_cache` on `async def` does what functools does, with a warning that names `cached`."""

    async def coroutine() -> int:
        return 1

    with pytest.warns(RuntimeWarning, match="cached"):
        f = lru_cache(coroutine)
    first = f()
    assert f() is first
    first.close()


def test_no_warning_for_others() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lru_cache(lambda: 1)
        lru_cache(functools.partial(int, 1))
        lru_cache(len)
        lru_cache(int)


@pytest.mark.parametrize("value", [5.0, None, "x"])
def test_what_cannot_be_called_cannot_be_cached(value: Any) -> None:
    with pytest.raises(TypeError):
        lru_cache(maxsize=3)(value)
    with pytest.raises(TypeError):
        fastcache.cache(value)


@pytest.mark.parametrize("function", [len, int, str.upper, functools.partial(int, base=2), "".join])
def test_any_callable(function: Any) -> None:
    f = lru_cache(function)
    argument: Any = (
        {len: "abc", int: "5", str.upper: "x"}.get(function, "101")
        if function != "".join
        else "101"
    )
    assert f(argument) == function(argument) == f(argument) and f.cache_info().hits == 1


# ---------------------------------------------------------------- keys of calls

SHAPES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    (("a",), {}),
    ((1.0,), {}),
    ((None,), {}),
    ((1, 2), {}),
    ((1, "a", None), {}),
    (((1, 2),), {}),
    ((), {"a": 1}),
    ((1,), {"a": 1}),
    ((), {"a": 1, "b": 2}),
    ((), {"b": 2, "a": 1}),
    ((1, 2), {"a": 1, "b": (1, 2)}),
    ((b"x",), {}),
    ((frozenset({1}),), {}),
    ((10**30,), {}),
    ((-1,), {}),
    ((-2,), {}),
    (tuple(range(20)), {}),
    ((), {f"k{i}": i for i in range(20)}),
    (("a", 1), {}),
    ((("a", 1),), {}),
]


@sized
@pytest.mark.parametrize("typed", [False, True])
def test_which_calls_are_equal_follows_functools(decorator: Any, typed: bool) -> None:
    """Which calls are equal follows functools."""
    shapes = [
        *SHAPES,
        ((True,), {}),
        ((1.0, 2), {}),
        ((True, 2), {}),
        ((), {"a": 1.0}),
        ((Decimal(1),), {}),
        ((0,), {}),
        ((0.0,), {}),
        ((False,), {}),
        ((-0.0,), {}),
        ((1, 2.0), {"a": True}),
    ]
    ours, our_calls = counting(lambda f: decorator(maxsize=None, typed=typed)(f))
    theirs, their_calls = counting(lambda f: functools.lru_cache(maxsize=None, typed=typed)(f))
    for args, kwargs in shapes * 2:
        assert ours(*args, **kwargs) == theirs(*args, **kwargs), (args, kwargs)
    assert our_calls == their_calls and ours.cache_info() == theirs.cache_info()


class Plain:
    """Hashed and compared by address."""


class Named:
    """Hashed by address, but equal to each of its kind; a key of such is never equal by hash."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named)


class Kind(type):
    """A class whose classes say themselves what they hash to."""

    def __hash__(cls) -> int:
        return 7


class OfKind(metaclass=Kind):
    pass


TEXTS = ["", "a", "b", *("x" * n for n in range(2, 20)), "x" * 128, "x" * 129, "x" * 300]
TEXTS += [t[:at] + "y" + t[at + 1 :] for t in TEXTS[5:14:4] for at in range(len(t))]
TEXTS += ["\xe9" * 8, "\u20ac" * 8, "\U0001f600" * 8]
NUMBERS = [0, -1, -2, 1, 300, -300, 2**30 - 1, 2**30, -(2**30), 2**61 - 1, 2**61, 2**64, 10**30]
OBJECTS = [Plain(), Plain(), Named(), OfKind(), None, 1.5, (1, "a"), int, str, OfKind]


@sized
@pytest.mark.parametrize("typed", [False, True])
def test_equal_arguments_hit_in_every_shape(decorator: Any, typed: bool) -> None:
    """Equal arguments that are other objects hit in every shape, and no others do."""

    def copied(x: Any) -> Any:
        if isinstance(x, str):
            return (x + "!")[:-1]
        return int(str(x)) if type(x) is int else x

    shapes: list[Any] = [
        lambda f, x: f(x),
        lambda f, x: f(x, 5),
        lambda f, x: f(5, x),
        lambda f, x: f(5, x, "third"),
        lambda f, x: f(k=x),
        lambda f, x: f(x, k=x),
        lambda f, x: f("first", k=5, l=x),
        lambda f, x: f(**{copied("k"): 5, "l": x}),
    ]
    for shape in shapes:
        function, calls = counting(lambda f: decorator(maxsize=1000, typed=typed)(f))
        items = TEXTS + NUMBERS + OBJECTS
        numbers = [shape(function, x) for x in items]
        assert numbers == list(range(1, len(items) + 1))
        assert [shape(function, copied(x)) for x in items] == numbers
        assert len(calls) == len(items)
        info = function.cache_info()
        assert (info.hits, info.misses) == (len(items), len(items))
        assert all(key in function.cache for key in function.cache)


def test_the_documented_equalities() -> None:
    f, _ = counting(lru_cache)
    assert f(1) != f(1.0) and f(1.0) == f(True)
    assert f(1, 2) == f(1.0, 2) and f(1, 2) != f((1, 2))
    assert f(a=1, b=2) != f(b=2, a=1) and f(0) == f(0)


def test_subclasses_of_int_and_str_are_no_lone_keys() -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    ours, _ = counting(lru_cache)
    theirs, _ = counting(functools.lru_cache)
    for value in ("a", Text("a"), 1, Number(1), True, "a", Text("a"), 1, Number(1)):
        assert ours(value) == theirs(value)


def test_a_tuple_is_not_the_call_with_its_items() -> None:
    f, calls = counting(lru_cache)
    for args in [(1, 2), ((1, 2),), (((1, 2),),), ((),), ()]:
        f(*args)
    assert len(calls) == 5


@every
def test_cache_key_opens_the_cache(decorator: Any) -> None:
    f, _ = counting(decorator)
    for args, kwargs in SHAPES:
        value = f(*args, **kwargs)
        key = f.cache_key(*args, **kwargs)
        assert f.cache[key] == value and key in f.cache and f.cache.peek(key) == value
    assert len(f.cache) == len(SHAPES)
    assert {f.cache_key(*a, **k) for a, k in SHAPES} == set(f.cache)


def test_a_lone_int_or_str_is_its_own_key() -> None:
    """A lone exact int or str, untyped and without keywords, is its own key."""
    f, _ = counting(lru_cache)
    assert f.cache_key(5) == 5 and type(f.cache_key(5)) is int
    assert f.cache_key("a") == "a" and type(f.cache_key("a")) is str
    for args, kwargs in [
        ((5.0,), {}),
        ((True,), {}),
        ((None,), {}),
        ((5,), {"a": 1}),
        ((5, 6), {}),
        ((), {}),
    ]:
        assert isinstance(f.cache_key(*args, **kwargs), CallKey)
    g, _ = counting(lru_cache, typed=True)
    assert isinstance(g.cache_key(5), CallKey)


def test_call_keys_compare_as_calls() -> None:
    key = lru_cache(lambda *a, **k: 1).cache_key
    typed = lru_cache(typed=True)(lambda *a, **k: 1).cache_key
    assert key(1, 2) == key(1, 2) == key(1.0, 2) == key(True, 2)
    assert hash(key(1, 2)) == hash(key(1.0, 2)) == hash(key(True, 2))
    assert key(1.0) == key(True) and hash(key(1.0)) == hash(key(True))
    different = [
        key(),
        key(1, 2),
        key((1, 2)),
        key(2, 1),
        key(a=1),
        key("a", 1),
        key(a=2),
        key(b=1),
        key(1, a=1),
        key(a=1, b=2),
        key(b=2, a=1),
        key(1.0),
        key(("a", 1)),
    ]
    for i, one in enumerate(different):
        for other in different[:i]:
            assert one != other and not one == other
    assert (
        typed(1, 2) != typed(1.0, 2) and typed(1, 2) == typed(1, 2) and typed(a=1) != typed(a=1.0)
    )
    assert typed(1, 2) != key(1, 2)


def test_call_keys_are_tuples_of_the_arguments() -> None:
    key = lru_cache(lambda *a, **k: 1).cache_key(1, "x", None)
    assert isinstance(key, tuple) and tuple(key) == (1, "x", None)
    with pytest.raises((AttributeError, TypeError)):
        key.anything = 1
    with pytest.raises(TypeError):
        key[0] = 1


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_call_keys_are_pickled_and_copied(protocol: int) -> None:
    for typed in (False, True):
        f = lru_cache(typed=typed)(lambda *a, **k: 1)
        for args, kwargs in [
            ((1, 2), {}),
            ((), {}),
            ((), {"a": 1}),
            ((1.5,), {"b": "x", "a": (1,)}),
        ]:
            key = f.cache_key(*args, **kwargs)
            other = pickle.loads(pickle.dumps(key, protocol))
            assert type(other) is CallKey and other == key and hash(other) == hash(key)
            assert copy.copy(key) == key == copy.deepcopy(key)
            f(*args, **kwargs)
            assert other in f.cache


def test_the_repr_of_a_call_key_shows_the_arguments() -> None:
    key = lru_cache(lambda *a, **k: 1).cache_key
    text = repr(key(1, "x", word=None))
    assert "CallKey" in text and "1" in text and "'x'" in text and "word" in text
    assert repr(key(1, "x")) != repr(key("x", 1))


@every
@pytest.mark.parametrize(
    "call",
    [
        lambda f: f([]),
        lambda f: f(1, {}),
        lambda f: f(a=[]),
        lambda f: f.cache_key([]).__hash__(),
        lambda f: f.cache_contains([]),
        lambda f: f.cache_invalidate(1, []),
        lambda f: f(1, a={1: []}),
    ],
)
def test_unhashable_arguments(decorator: Any, call: Any) -> None:
    f, calls = counting(decorator)
    f(1)
    with pytest.raises(TypeError, match="unhashable"):
        call(f)
    assert len(calls) == 1 and f.cache_info().currsize == 1
    f.cache._check()


@every
def test_hash_is_called_once(decorator: Any) -> None:
    """`__hash__` exactly once per call, never at eviction."""

    class Key:
        hashes = 0

        def __hash__(self) -> int:
            Key.hashes += 1
            return 7

    f, _ = counting(decorator)
    key = Key()
    for count in range(1, 5):
        f(key)
        assert Key.hashes == count
        f(1, key, a=key)
        f.cache_info()
        Key.hashes -= 2
        assert Key.hashes == count


# ---------------------------------------------------------------- contains, invalidate, clear


@every
def test_contains_and_invalidate(decorator: Any) -> None:
    f, calls = counting(decorator)
    for args, kwargs in SHAPES:
        assert (
            f.cache_contains(*args, **kwargs) is False
            and f.cache_invalidate(*args, **kwargs) is False
        )
        f(*args, **kwargs)
        assert f.cache_contains(*args, **kwargs) is True
    before = f.cache_info()
    f.cache_contains(1)
    assert f.cache_info() == before
    for args, kwargs in SHAPES:
        assert (
            f.cache_invalidate(*args, **kwargs) is True
            and f.cache_contains(*args, **kwargs) is False
        )
    assert len(f.cache) == 0 and len(calls) == len(SHAPES)
    f(1)
    assert len(calls) == len(SHAPES) + 1


def test_contains_does_not_promote() -> None:
    f, _ = counting(lru_cache, maxsize=2)
    f(1)
    f(2)
    f.cache_contains(1)
    f(3)
    assert not f.cache_contains(1) and f.cache_contains(2)


@every
def test_clear(decorator: Any) -> None:
    f, calls = counting(decorator)
    f(1)
    f(1)
    assert f.cache_clear() is None
    assert f.cache_info()[:2] == (0, 0) and f.cache_info().currsize == 0
    f(1)
    assert len(calls) == 2 and f.cache_info()[:2] == (0, 1)


@every
def test_the_cache_behind_it(decorator: Any) -> None:
    f, calls = counting(decorator)
    assert isinstance(f.cache, Cache) and f.cache is f.cache
    f.cache[f.cache_key(5)] = "put there"
    assert f(5) == "put there" and calls == []
    del f.cache[f.cache_key(5)]
    assert f(5) == 1
    with pytest.raises(AttributeError):
        f.cache = Cache(3)
    f.cache._check()


def test_the_cache_behind_it_may_be_resized() -> None:
    f, _ = counting(lru_cache, maxsize=10)
    for key in range(10):
        f(key)
    f.cache.resize(3)
    assert f.cache_info().currsize == 3 and f.cache_info().maxsize == 3
    assert f.cache.coldest() == [7, 8, 9]


@pytest.mark.parametrize(
    ("decorator", "policy"),
    [(lru_cache, "lru"), (fifo_cache, "fifo"), (lfu_cache, "lfu"), (ttl_cache, "lru")],
)
def test_the_policy_of_each(decorator: Any, policy: str) -> None:
    f, _ = counting(decorator, maxsize=3)
    assert f.cache.policy == policy and f.cache.maxsize == 3
    for key in (1, 2, 3, 1, 1, 3, 2):
        f(key)
    f(4)
    gone = {"lru": 1, "fifo": 1, "lfu": 3}[policy]
    assert [key for key in (1, 2, 3, 4) if not f.cache_contains(key)] == [gone]


# ---------------------------------------------------------------- the fence of a computation


def fenced(decorator: Any, act: Any) -> tuple[Any, Any]:
    """A computation during which `act(f)` runs; the function and what the call returned."""

    def function(x: int) -> str:
        act(f)
        return f"computed {x}"

    f = decorator(function)
    return f, f(1)


@every
def test_invalidate_fences_a_computation_in_flight(decorator: Any) -> None:
    """`lru_cache`, whose `cache_invalidate` fences all the same."""
    f, result = fenced(decorator, lambda f: f.cache_invalidate(1))
    assert result == "computed 1" and not f.cache_contains(1)
    assert f.cache_info().currsize == 0


def test_invalidate_between_the_result_and_the_store_fences() -> None:
    ended = []

    def timer() -> float:
        if ended:
            ended.pop()
            f.cache_invalidate(1)
        return 0.0

    f = fastcache.ttl_cache(timer=timer)(lambda x: ended.append(1) or x)
    assert f(1) == 1 and not f.cache_contains(1)
    assert f(1) == 1 and f.cache_info().misses == 2


@every
def test_invalidate_of_another_call_does_not(decorator: Any) -> None:
    f, result = fenced(decorator, lambda f: f.cache_invalidate(2))
    assert result == "computed 1" and f.cache_contains(1)


@every
def test_clear_does_not_fence(decorator: Any) -> None:
    """Whose `cache_clear` does not, as in functools."""
    f, result = fenced(decorator, lambda f: f.cache_clear())
    assert result == "computed 1" and f.cache_contains(1)
    theirs = functools.lru_cache(lambda x: theirs.cache_clear() or x)  # type: ignore[func-returns-value]
    theirs(1)
    assert theirs.cache_info().currsize == f.cache_info().currsize == 1


@every
def test_invalidate_from_another_thread_fences(decorator: Any) -> None:
    started, go = threading.Event(), threading.Event()

    def function(x: int) -> int:
        started.set()
        assert go.wait(60)
        return x

    f = decorator(function)

    def invalidate() -> bool:
        assert started.wait(60)
        f.cache_invalidate(7)
        go.set()
        return True

    assert run_threads([lambda: f(7), invalidate]) == [7, True]
    assert not f.cache_contains(7)
    f(7)
    assert f.cache_contains(7)
    f.cache._check()


@every
def test_no_single_flight(decorator: Any) -> None:
    """No single flight: five simultaneous equal calls are five misses and one entry."""
    barrier = threading.Barrier(5)

    def function(x: int) -> int:
        barrier.wait(60)
        return x

    f = decorator(function)
    assert run_threads([lambda: f(1)] * 5) == [1] * 5
    assert f.cache_info()[:2] == (0, 5) and f.cache_info().currsize == 1


@every
def test_recursion(decorator: Any) -> None:
    @decorator
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(100) == 354224848179261915075


@every
def test_an_exception_is_not_cached(decorator: Any) -> None:
    """An exception arrives with `__context__ is None`, is not cached, and counts as a miss."""

    @decorator
    def fail(x: int) -> int:
        raise ZeroDivisionError(x)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as raised:
            fail(1)
        assert raised.value.__context__ is None
    assert fail.cache_info()[:2] == (0, 2) and fail.cache_info().currsize == 0


# ---------------------------------------------------------------- methods


@every
def test_as_a_method(decorator: Any) -> None:
    class Thing:
        def __init__(self, base: int) -> None:
            self.base = base

        def plus(self, x: int, *, y: int = 0) -> int:
            calls.append(x)
            return self.base + x + y

        plus = decorator(plus)

    calls: list[int] = []
    one, two = Thing(10), Thing(20)
    assert [one.plus(1), one.plus(1), two.plus(1), one.plus(1, y=5), one.plus(1, y=5)] == [
        11,
        11,
        21,
        16,
        16,
    ]
    assert calls == [1, 1, 1] and Thing.plus.cache_info()[:2] == (2, 3)
    assert isinstance(Thing.plus, CachedFunction) and Thing.plus(one, 1) == 11
    assert one.plus.__self__ is one and one.plus.__func__ is Thing.plus
    assert Thing.plus.cache_contains(one, 1) and Thing.plus.cache_invalidate(one, 1)


@every
def test_as_class_and_static_method(decorator: Any) -> None:
    class Thing:
        @classmethod
        @decorator
        def of_class(cls, x: int) -> Any:
            return cls, x

        @staticmethod
        @decorator
        def static(x: int) -> int:
            return x

    assert Thing.of_class(1) == (Thing, 1) == Thing().of_class(1)
    assert Thing.static(2) == Thing().static(2) == 2 and Thing.static.cache_info().hits == 1


def test_copies_are_the_same_object() -> None:
    """`copy`, `deepcopy`, `pickle` give the same object."""
    for f in (module_level, Holder.method, Holder.static):
        assert copy.copy(f) is f and copy.deepcopy(f) is f
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(f, protocol)) is f


def test_a_wrapped_partial_can_be_copied() -> None:
    f = lru_cache(functools.partial(int, base=2))
    assert copy.copy(f) is f and copy.deepcopy(f) is f


# ---------------------------------------------------------------- time


def test_ttl_cache() -> None:
    clock = FakeClock()
    f, calls = counting(ttl_cache, maxsize=3, ttl=10, timer=clock)
    assert f(1) == 1
    clock.advance(9)
    assert f(1) == 1
    clock.advance(1)
    assert f(1) == 2 and len(calls) == 2
    assert f.cache.ttl(1) == 10


def test_ttl_cache_defaults() -> None:
    """`ttl_cache(maxsize=128, ttl=600, timer=…, typed=False)`."""
    f, _ = counting(ttl_cache)
    f(1)
    left = f.cache.ttl(1)
    assert left is not None and 590 < left <= 600 and f.cache_info().maxsize == 128
    g, _ = counting(lambda function: ttl_cache(5, 60, FakeClock(), True)(function))
    assert g.cache_info().maxsize == 5 and g(1) != g(1.0)


def test_the_time_to_live_starts_at_the_result() -> None:
    clock = FakeClock()

    @ttl_cache(ttl=10, timer=clock)
    def slow(x: int) -> int:
        clock.advance(100)
        return x

    slow(1)
    assert slow.cache_contains(1) and slow.cache.ttl(1) == 10
    clock.advance(10)
    assert not slow.cache_contains(1) and slow.cache_invalidate(1) is False


@pytest.mark.parametrize(
    ("ttl", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("x", TypeError), (True, TypeError)],
)
def test_bad_times(ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ttl"):
        ttl_cache(ttl=ttl)(lambda: 1)


def test_ttl_none_is_for_ever() -> None:
    clock = FakeClock()
    f, calls = counting(ttl_cache, ttl=None, timer=clock)
    f(1)
    clock.advance(1e9)
    f(1)
    assert len(calls) == 1


def test_the_dead_make_room_first() -> None:
    clock = FakeClock()
    f, _ = counting(ttl_cache, maxsize=2, ttl=10, timer=clock)
    f(1)
    clock.advance(5)
    f(2)
    f(1)  # now more recent, and the first to die
    clock.advance(5)
    f(3)
    assert f.cache_contains(2) and f.cache_contains(3) and not f.cache_contains(1)


# ---------------------------------------------------------------- hit for hit


@pytest.mark.parametrize("maxsize", [0, 1, 2, 10, 100, None])
@pytest.mark.parametrize("typed", [False, True])
def test_hit_for_hit_as_functools(maxsize: int | None, typed: bool) -> None:
    import random

    rng = random.Random(5)
    ours, our_calls = counting(lambda f: lru_cache(maxsize=maxsize, typed=typed)(f))
    theirs, their_calls = counting(lambda f: functools.lru_cache(maxsize=maxsize, typed=typed)(f))
    for step in range(5000):
        value = min(rng.randrange(60), rng.randrange(60))
        args, kwargs = rng.choice(
            [
                ((value,), {}),
                ((str(value),), {}),
                ((value, 1), {}),
                ((value,), {"k": 1}),
                ((float(value),), {}),
            ]
        )
        assert ours(*args, **kwargs) == theirs(*args, **kwargs)
        if step % 1000 == 999:
            assert ours.cache_info() == theirs.cache_info()
            ours.cache._check()
            if rng.random() < 0.5:
                ours.cache_clear()
                theirs.cache_clear()
    assert our_calls == their_calls


def test_a_flight_on_the_same_cache_does_not_lift_a_fence() -> None:
    @lru_cache(None)
    def stale(x: int) -> str:
        stale.cache.get_or_set("other", lambda: "1")
        stale.cache_invalidate(x)
        return "stale"

    stale(5)
    assert not stale.cache_contains(5)


def test_a_function_that_keeps_nothing_may_be_given_room() -> None:
    @lru_cache(0)
    def double(x: int) -> int:
        return 2 * x

    double(1)
    double.cache.resize(10)
    double(1)
    double(1)
    assert double.cache_info() == (1, 2, 10, 1)


def test_a_function_is_made_once_and_whole() -> None:
    with pytest.raises(TypeError):
        CachedFunction.__new__(CachedFunction)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        CachedFunction(len, None)  # type: ignore[arg-type]
