"""What a drop-in for functools.lru_cache must do, point by point.

A test that takes `made` runs on functools itself too: it is the original that says whether the
test is right. The numbers in the names are those of the list of semantics that bite in practice.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from conformance.support import child_environment

import fastcache

LIMIT = 60  # seconds
METHOD_DESCRIPTOR = 1 << 17  # Py_TPFLAGS_METHOD_DESCRIPTOR
HAVE_VECTORCALL = 1 << 11  # Py_TPFLAGS_HAVE_VECTORCALL


class Made(NamedTuple):
    """An implementation under test."""

    lru_cache: Callable[..., Any]
    cache: Callable[..., Any]


SUBJECTS = {
    "functools": Made(functools.lru_cache, functools.cache),
    "fastcache": Made(fastcache.lru_cache, fastcache.cache),
}


@pytest.fixture(params=SUBJECTS)
def made(request: pytest.FixtureRequest) -> Made:
    return SUBJECTS[request.param]


@functools.lru_cache
def theirs(x: int) -> int:
    return x


@fastcache.lru_cache
def ours(x: int) -> int:
    return x


class Holder:
    @functools.lru_cache  # noqa: B019
    def theirs(self, x: int) -> int:
        return x

    @fastcache.lru_cache
    def ours(self, x: int) -> int:
        return x

    @staticmethod
    @functools.lru_cache
    def static_theirs(x: int) -> int:
        return x

    @staticmethod
    @fastcache.lru_cache
    def static_ours(x: int) -> int:
        return x


BY_REFERENCE = [
    pytest.param(theirs, id="functools-function"),
    pytest.param(ours, id="fastcache-function"),
    pytest.param(Holder.theirs, id="functools-method"),
    pytest.param(Holder.ours, id="fastcache-method"),
    pytest.param(Holder.static_theirs, id="functools-static"),
    pytest.param(Holder.static_ours, id="fastcache-static"),
]


def in_child(script: str) -> str:
    """Standard output of a script run with the interpreter and the fastcache under test."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start_and_join(*functions: Callable[[], object]) -> None:
    """Run functions in threads of their own, which must end."""
    threads = [threading.Thread(target=f, daemon=True) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join(LIMIT)
        assert not t.is_alive(), "a thread hangs"


# 1


def test_01_five_simultaneous_calls_are_five_misses_and_one_entry(made: Made) -> None:
    barrier = threading.Barrier(5, timeout=LIMIT)
    results = []

    @made.lru_cache(maxsize=10)
    def f(x: int) -> object:
        barrier.wait()
        return object()

    start_and_join(*[lambda: results.append(f(1))] * 5)
    assert f.cache_info() == (0, 5, 10, 1)
    assert len(set(map(id, results))) == 5
    # The first stored value stays; the other callers keep what they computed.
    assert any(f(1) is r for r in results)
    assert f.cache_info() == (1, 5, 10, 1)


# 2


class Counting:
    """A key that counts the calls of its special methods."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.hashed = self.compared = 0

    def __hash__(self) -> int:
        self.hashed += 1
        return self.value

    def __eq__(self, other: object) -> bool:
        self.compared += 1
        return isinstance(other, Counting) and self.value == other.value


@pytest.mark.parametrize("maxsize", [1, 2, 100, None])
@pytest.mark.parametrize("shape", ["alone", "two", "keyword", "typed", "keywords and typed"])
def test_02_hash_once_per_call_never_at_eviction(made: Made, maxsize: Any, shape: str) -> None:
    @made.lru_cache(maxsize=maxsize, typed="typed" in shape)
    def f(*args: object, **kwargs: object) -> None:
        pass

    def call(key: object) -> None:
        if shape in ("alone", "typed"):
            f(key)
        elif shape == "two":
            f(0, key)
        elif shape == "keyword":
            f(k=key)
        else:
            f(0, k=key)

    key = Counting(7)
    call(key)
    assert key.hashed == 1
    call(key)
    assert key.hashed == 2
    for i in range(50):
        call(i)
    assert key.hashed == 2
    f.cache_clear()
    assert key.hashed == 2
    call(key)
    assert key.hashed == 3


def test_02_eq_may_call_the_cached_function(made: Made) -> None:
    @made.lru_cache(maxsize=4)
    def f(key: object) -> str:
        return "result"

    class Calls:
        def __init__(self, calls: int) -> None:
            self.calls = calls

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            while self.calls:
                self.calls -= 1
                assert f(Calls(0)) == "result"
            return self is other

    for calls in range(6):
        key = Calls(calls)
        assert f(key) == "result"
        assert f(Calls(2)) == "result"
    assert key.calls == 0  # it did call
    assert f.cache_info().currsize == 4


# 3


def test_03_keyword_order_matters(made: Made) -> None:
    f = made.lru_cache()(lambda **kw: list(kw))
    assert f(a=1, b=2) == ["a", "b"]
    assert f(b=2, a=1) == ["b", "a"]
    assert f.cache_info()[:2] == (0, 2)


def test_03_empty_keywords_are_none(made: Made) -> None:
    f = made.lru_cache()(lambda x: x)
    f(0)
    f(0)
    assert f.cache_info()[:2] == (1, 1)


def test_03_arguments_are_not_a_tuple(made: Made) -> None:
    f = made.lru_cache()(lambda *args: args)
    assert f(1, 2) == (1, 2)
    assert f((1, 2)) == ((1, 2),)
    assert f() == ()
    assert f(()) == ((),)
    assert f.cache_info()[:2] == (0, 4)


def test_03_typed_covers_keyword_values(made: Made) -> None:
    f = made.lru_cache(typed=True)(lambda *args, **kw: (args, kw))
    f(x=1)
    f(x=1.0)
    f(x=True)
    f(1)
    f(1.0)
    f(1, 1)
    f(1, 1.0)
    f(1, x=1.0)
    assert f.cache_info()[:2] == (0, 8)
    assert f(x=1.0) == ((), {"x": 1.0})
    assert type(f(x=1.0)[1]["x"]) is float
    assert f.cache_info().hits == 2


def test_03_typed_is_not_recursive(made: Made) -> None:
    f = made.lru_cache(typed=True)(repr)
    assert f((1,)) == "(1,)"
    assert f((1.0,)) == "(1,)"
    assert f.cache_info()[:2] == (1, 1)


def test_03_positional_and_keyword_are_two(made: Made) -> None:
    f = made.lru_cache()(lambda x: x)
    f(1)
    f(x=1)
    assert f.cache_info()[:2] == (0, 2)


def test_03_keyword_names_are_part_of_the_key(made: Made) -> None:
    f = made.lru_cache()(lambda *a, **k: (a, k))
    assert f("a", 1) == (("a", 1), {})
    assert f(a=1) == ((), {"a": 1})
    assert f(b=1) == ((), {"b": 1})
    assert f(1, a=1) == ((1,), {"a": 1})
    assert f.cache_info()[:2] == (0, 4)


# 4


@pytest.mark.parametrize("maxsize", [-1, -10, 0])
def test_04_negative_is_zero(made: Made, maxsize: int) -> None:
    f = made.lru_cache(maxsize)(lambda x: object())
    assert f(1) is not f(1)
    assert f.cache_info() == (0, 2, 0, 0)
    assert f.cache_parameters() == {"maxsize": 0, "typed": False}
    f.cache_clear()
    assert f.cache_info() == (0, 0, 0, 0)


def test_04_at_size_zero_arguments_need_no_hash(made: Made) -> None:
    f = made.lru_cache(0)(lambda x: len(x))
    assert f([1, 2]) == 2
    assert f.cache_info() == (0, 1, 0, 0)


@pytest.mark.parametrize("maxsize", [1.0, "10", (), [], b"", object()])
def test_04_other_types(made: Made, maxsize: object) -> None:
    with pytest.raises(TypeError) as caught:
        made.lru_cache(maxsize)
    assert str(caught.value) == "Expected first argument to be an integer, a callable, or None"


def test_04_without_parentheses(made: Made) -> None:
    f = made.lru_cache(len)
    assert f("abc") == 3
    assert f.cache_parameters() == {"maxsize": 128, "typed": False}
    g = made.lru_cache(len, typed=True)
    assert g.cache_parameters() == {"maxsize": 128, "typed": True}
    h = made.cache(len)
    assert h.cache_parameters() == {"maxsize": None, "typed": False}


def test_04_parameters_are_a_fresh_dict(made: Made) -> None:
    f = made.lru_cache(3)(len)
    f.cache_parameters()["maxsize"] = 9
    assert f.cache_parameters() == {"maxsize": 3, "typed": False}


# 5


@pytest.mark.parametrize("maxsize", [0, 1, 128, None])
def test_05_exceptions(made: Made, maxsize: int | None) -> None:
    @made.lru_cache(maxsize)
    def f(i: int) -> str:
        return "abc"[i]

    for n in (1, 2):
        with pytest.raises(IndexError) as caught:
            f(15)
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
        assert f.cache_info() == (0, n, maxsize, 0)


@pytest.mark.parametrize("maxsize", [1, 128, None])
@pytest.mark.parametrize("typed", [False, True])
def test_05_unhashable_is_a_type_error_and_leaks_nothing(
    made: Made, maxsize: int | None, typed: bool
) -> None:
    class Argument:
        pass

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

    f = made.lru_cache(maxsize, typed)(lambda *a, **k: None)
    witness, unhashable = Argument(), Unhashable()
    before = sys.getrefcount(Argument)
    with pytest.raises(TypeError, match="unhashable"):
        f(unhashable)
    with pytest.raises(TypeError, match="unhashable"):
        f(witness, unhashable)
    with pytest.raises(TypeError, match="unhashable"):
        f(witness, k=unhashable)
    refs = weakref.ref(witness), weakref.ref(unhashable)
    del witness, unhashable
    gc.collect()
    assert [r() for r in refs] == [None, None]
    # An instance fewer; a leak of the type (by `typed`) would show as one more.
    assert sys.getrefcount(Argument) <= before
    assert f.cache_info() == (0, 0, maxsize, 0)


def test_05_error_from_hash_and_eq_reach_the_caller(made: Made) -> None:
    class Bad:
        def __init__(self, what: str) -> None:
            self.what = what

        def __hash__(self) -> int:
            if self.what == "hash":
                raise ZeroDivisionError("from hash")
            return 5

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError("from eq")

    f = made.lru_cache()(lambda x: x)
    with pytest.raises(ZeroDivisionError, match="from hash"):
        f(Bad("hash"))
    f(Bad("eq"))
    with pytest.raises(ZeroDivisionError, match="from eq"):
        f(Bad("eq"))
    assert f.cache_info().currsize == 1


# 6


@pytest.mark.parametrize("f", BY_REFERENCE)
def test_06_copies_and_pickles_are_the_object(f: Any) -> None:
    assert copy.copy(f) is f
    assert copy.deepcopy(f) is f
    assert f.__reduce__() == f.__qualname__
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(f, protocol)) is f


def test_06_of_a_partial(made: Made) -> None:
    f = made.lru_cache(2)(functools.partial(pow, 2))
    assert not hasattr(f, "__qualname__")
    assert copy.copy(f) is f
    assert copy.deepcopy(f) is f
    assert f(3) == 8


# 7


def test_07_signatures(made: Made) -> None:
    def orig(a: int, /, b: str, *args: int, c: bool = True, **kw: int) -> float:
        return 0.0

    f = made.lru_cache(1)(orig)
    assert inspect.signature(f) == inspect.signature(orig)
    if sys.version_info >= (3, 12) or made is SUBJECTS["fastcache"]:  # new in functools 3.12
        assert str(inspect.signature(f.cache_info)) == "()"
        assert str(inspect.signature(f.cache_clear)) == "()"


def test_07_wrapper_attributes(made: Made) -> None:
    def orig(zomg: "zomg_annotation") -> int:  # type: ignore[name-defined]  # noqa: F821, UP037
        """The docstring."""
        return 42

    orig.extra = 7  # type: ignore[attr-defined]
    f = made.lru_cache()(orig)
    for name in functools.WRAPPER_ASSIGNMENTS:
        assert getattr(f, name) == getattr(orig, name)
    assert f.extra == 7
    assert f.__wrapped__ is orig
    f.other = 8
    assert f.other == 8
    assert f.__dict__["other"] == 8
    assert not hasattr(orig, "other")


# 8


def test_08_flags(made: Made) -> None:
    assert type(made.lru_cache()(len)).__flags__ & METHOD_DESCRIPTOR


def test_08_vectorcall() -> None:
    assert type(fastcache.lru_cache()(len)).__flags__ & HAVE_VECTORCALL


def test_08_as_a_method(made: Made) -> None:
    class A:
        @made.lru_cache(maxsize=10)
        def m(self, x: int) -> Any:
            return (self, x)

        @staticmethod
        @made.lru_cache(maxsize=10)
        def s(x: int) -> int:
            return x

        @classmethod
        @made.lru_cache(maxsize=10)
        def c(cls, x: int) -> Any:
            return (cls, x)

    a = A()
    assert A.m is A.__dict__["m"]
    assert type(A.m) is type(made.lru_cache()(len))
    assert a.m.__self__ is a
    assert a.m.__func__ is A.m
    assert a.m(1) == (a, 1)
    assert A.m(a, 1) == (a, 1)
    bound = a.m
    assert bound(x=2) == (a, 2)
    assert A.m.cache_info()[:2] == (1, 2)
    assert a.m.cache_info() == A.m.cache_info()
    assert (a.s(3), A.s(3)) == (3, 3)
    assert A.s.cache_info().hits == 1
    assert (a.c(3), A.c(3)) == ((A, 3), (A, 3))
    assert A.c.cache_info().hits == 1


def test_08_get(made: Made) -> None:
    f = made.lru_cache()(lambda *a: a)
    assert f.__get__(None, int) is f
    assert f.__get__(5)(6) == (5, 6)
    assert f.__get__(5, int)(6) == (5, 6)


def test_08_call_goes_the_same_way(made: Made) -> None:
    f = made.lru_cache()(lambda *a, **k: (a, k))
    f(1, k=2)
    assert f.__call__(1, k=2) == ((1,), {"k": 2})
    assert type(f).__call__(f, 1, k=2) == ((1,), {"k": 2})
    assert f(*(1,), k=2) == ((1,), {"k": 2})
    assert functools.partial(f, 1, k=2)() == ((1,), {"k": 2})
    assert list(map(f, [1, 1])) == [((1,), {})] * 2
    assert f.cache_info()[:2] == (5, 2)


def test_08_keywords_must_be_strings(made: Made) -> None:
    f = made.lru_cache()(lambda **k: k)
    with pytest.raises(TypeError, match="keywords must be strings"):
        f(**{1: 2})  # type: ignore[arg-type]


# 9

RECURSION = """
import sys
import functools, fastcache
lru_cache = {subject}.lru_cache

@lru_cache
def fib(n):
    if n <= 1:
        return n
    return fib(n - 1) + fib(n - 2)

try:
    from test.support import get_c_recursion_limit
    depth = get_c_recursion_limit() * 2 // 7
except ImportError:
    depth = 200
sys.setrecursionlimit(max(1000, depth * 4))
fib(depth)
assert fib.cache_info()[:2] == (depth - 2, depth + 1)
fib.cache_clear()
sys.setrecursionlimit(1000)
fib(300)
fib.cache_clear()
try:
    fib(10000)
except RecursionError:
    print("RecursionError", fib.cache_info().currsize)
fib.cache_clear()
assert fib(100) == 354224848179261915075
"""


@pytest.mark.parametrize("subject", SUBJECTS)
def test_09_recursion(subject: str) -> None:
    assert in_child(RECURSION.format(subject=subject)).split()[0] == "RecursionError"


# 10


def test_10_no_visible_frame(made: Made) -> None:
    @made.lru_cache(None)
    def f(x: int) -> str:
        warnings.warn("here", stacklevel=2)
        return sys._getframe(1).f_code.co_name

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        assert f(1) == "test_10_no_visible_frame"
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


def test_10_no_frame_in_tracebacks(made: Made) -> None:
    @made.lru_cache()
    def f(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError) as caught:
        f(0)
    names = [entry.frame.code.raw.co_name for entry in caught.traceback]
    assert names == ["test_10_no_frame_in_tracebacks", "f"]


def test_10_functools_lru_cache_is_never_called() -> None:
    in_child("""
import functools, gc
import fastcache
theirs = functools._lru_cache_wrapper
def forbidden(*args, **kwargs):
    raise AssertionError("functools.lru_cache was called")
functools.lru_cache = functools.cache = functools._lru_cache_wrapper = forbidden
for make in (fastcache.lru_cache, fastcache.fifo_cache, fastcache.lfu_cache, fastcache.ttl_cache):
    for f in (make(lambda *a, **k: a), make(5)(lambda *a, **k: a), make(typed=True)(lambda *a, **k: a)):
        assert f(1) == f(1) == (1,) and f(1, k=2) == (1,)
        f.cache_info(), f.cache_clear(), f.cache_parameters()
assert fastcache.cache(len)("abc") == 3
for obj in gc.get_objects():
    if isinstance(obj, theirs) and str(getattr(obj, "__module__", "")).startswith("fastcache"):
        raise AssertionError(f"fastcache itself memoises by functools: {obj}")
""")


# 11


def test_11_cache_info(made: Made) -> None:
    f = made.lru_cache(5)(len)
    f("a"), f("a"), f("b")
    info = f.cache_info()
    assert info._fields == ("hits", "misses", "maxsize", "currsize")
    assert isinstance(info, tuple)
    assert info == (1, 2, 5, 2)
    assert (1, 2, 5, 2) == info
    assert hash(info) == hash((1, 2, 5, 2))
    assert repr(info) == "CacheInfo(hits=1, misses=2, maxsize=5, currsize=2)"
    assert len(info) == 4
    assert made.cache(len).cache_info() == (0, 0, None, 0)


# 12


def test_12_equal_numbers(made: Made) -> None:
    f = made.lru_cache()(lambda *a: a)
    f(1)
    f(1.0)
    assert f.cache_info()[:2] == (0, 2)
    assert repr(f(True)) == "(1.0,)"
    assert f.cache_info()[:2] == (1, 2)
    f(1, 2)
    assert repr(f(1.0, 2)) == "(1, 2)"
    assert f.cache_info()[:2] == (2, 3)


def test_12_only_exact_int_and_str_stand_for_themselves(made: Made) -> None:
    class Int(int):
        pass

    class Str(str):
        __slots__ = ()

    f = made.lru_cache()(lambda *a: a)
    for args in [(5,), (Int(5),), ("s",), (Str("s"),)]:
        f(*args)
    assert f.cache_info()[:2] == (0, 4)
    f(5.0)  # equal to Int(5): both compare as tuples
    assert f.cache_info()[:2] == (1, 4)


def test_12_same_hash_is_not_same_key(made: Made) -> None:
    f = made.lru_cache()(lambda *a: a)
    for args in [(-1,), (-2,), (1,), (2**61,), (-1, 0), (-2, 0), (1, 0), (2**61, 0)]:
        assert f(*args) == args
        assert f(*args) == args
    assert f.cache_info()[:2] == (8, 8)


def test_12_nan_by_identity(made: Made) -> None:
    nan, other = float("nan"), float("nan")
    f = made.lru_cache()(lambda *a: a)
    f(nan)
    f(nan)
    f(other)
    assert f.cache_info()[:2] == (1, 2)


def test_12_async_def() -> None:
    async def coroutine(x: int) -> int:
        return x

    with pytest.warns(RuntimeWarning, match="cached"):
        ours = fastcache.lru_cache(coroutine)
    theirs = functools.lru_cache(coroutine)
    for f in (ours, theirs):
        first = f(1)
        assert f(1) is first  # the same coroutine, which can be awaited once only
        assert asyncio.run(first) == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            asyncio.run(f(1))
        f.cache_clear()


@pytest.mark.parametrize("keyword", ["state", "unhashable"])
def test_12_arguments_of_the_old_fastcache(keyword: str) -> None:
    with pytest.raises(TypeError, match="clru_cache") as caught:
        fastcache.lru_cache(**{keyword: None})  # type: ignore[call-overload]
    assert keyword in str(caught.value)


# 13


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads switch as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("maxsize", [1, 7, 64, None])
def test_13_cleared_from_inside_by_threads(made: Made, maxsize: int | None) -> None:
    @made.lru_cache(maxsize)
    def f(x: int) -> int:
        if x % 5 == 0:
            f.cache_clear()
        if x > 3 and x % 3 == 0:
            f(x - 2)  # may store what the outer call is about to displace
        return x * 2

    barrier = threading.Barrier(4, timeout=LIMIT)
    wrong = []

    def work(seed: int) -> None:
        barrier.wait()
        for i in range(1500):
            x = (i * 7 + seed * 13) % 97
            if f(x) != x * 2:
                wrong.append(x)

    start_and_join(*[functools.partial(work, seed) for seed in range(4)])
    assert not wrong
    if maxsize is not None:
        assert f.cache_info().currsize <= maxsize
    # No orphans: as many distinct keys as fit are all kept, and found.
    room = 200 if maxsize is None else maxsize
    f.cache_clear()
    fresh = [x * 15 + 1 for x in range(room)]
    fresh = [x for x in fresh if x % 5 and (x <= 3 or x % 3)]
    for x in fresh:
        f(x)
    assert f.cache_info() == (0, len(fresh), maxsize, len(fresh))
    for x in fresh:
        f(x)
    assert f.cache_info() == (len(fresh), len(fresh), maxsize, len(fresh))


def test_13_stays_full_when_the_call_stores_its_own_key(made: Made) -> None:
    once = [True]

    @made.lru_cache(maxsize=10)
    def f(x: int) -> str:
        if x == 20 and once:
            once.clear()
            return str(f(x))
        return f".{x}."

    for x in range(15):
        f(x)
    assert f.cache_info().currsize == 10
    assert f(20) == ".20."
    assert f.cache_info().currsize == 10
    assert f.cache_info().misses == 17
    hits = f.cache_info().hits
    for x in [20, *range(6, 15)]:
        f(x)
    assert f.cache_info().hits == hits + 10


# What the list leaves to the interpreter's own tests


def test_order_of_eviction(made: Made) -> None:
    f = made.lru_cache(3)(lambda x: object())
    first = f(0)
    f(1), f(2)
    assert f(0) is first
    f(3)  # displaces 1
    assert f(0) is first
    assert f.cache_info()[:2] == (2, 4)
    f(1)
    assert f.cache_info()[:2] == (2, 5)


def test_cycles_through_the_wrapper_are_freed(made: Made) -> None:
    class Value:
        pass

    def make() -> Any:
        @made.lru_cache(None)
        def f(x: object) -> Any:
            value = Value()
            value.f = f  # type: ignore[attr-defined]
            return value

        return f

    f = make()
    refs = weakref.ref(f(1)), weakref.ref(f("a"))
    gc.collect()
    assert all(r() is not None for r in refs)
    del f
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_weak_references(made: Made) -> None:
    f = made.lru_cache(lambda x: x)
    ref = weakref.ref(f)
    assert ref() is f
    del f
    gc.collect()
    assert ref() is None


def test_clear_drops_the_values(made: Made) -> None:
    class Value:
        pass

    f = made.lru_cache()(lambda x: Value())
    refs = [weakref.ref(f(i)) for i in range(5)]
    f.cache_clear()
    gc.collect()
    assert [r() for r in refs] == [None] * 5
    assert f.cache_info() == (0, 0, 128, 0)


def test_a_callable_object_is_fine(made: Made) -> None:
    class Callable_:  # noqa: N801
        def __call__(self, x: int) -> int:
            return x + 1

    f = made.lru_cache()(Callable_())
    assert f(1) == f(1) == 2
    assert f.cache_info()[:2] == (1, 1)


def test_not_a_callable(made: Made) -> None:
    with pytest.raises(TypeError):
        made.lru_cache()(5)
    with pytest.raises(TypeError):
        made.cache(5)


@pytest.mark.parametrize("maxsize", [1, 2**31, 2**32, sys.maxsize])
def test_maxsize_is_reported_as_given(made: Made, maxsize: int) -> None:
    f = made.lru_cache(maxsize)(len)
    assert f("abc") == f("abc") == 3
    assert f.cache_info() == (1, 1, maxsize, 1)
    assert f.cache_parameters() == {"maxsize": maxsize, "typed": False}
