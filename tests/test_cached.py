"""`cached`: what it gives, its attributes, shared caches, statistics, references, recursion."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import itertools
import pickle
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from _support import Recorder, run_python, run_threads, until

import fastcache
from fastcache import Cache, CacheInfo, cached
from fastcache._core import free_threaded
from fastcache.loading import prefixes
from fastcache.testing import FakeClock


@cached
def double(x: int) -> int:
    """Twice x."""
    return 2 * x


@pytest.fixture
def calls() -> list[Any]:
    """What the function under test was called with."""
    return []


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in the test is freed by reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---- the decorator ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decorator",
    [cached, cached(), cached(maxsize=10), cached(None), cached(ttl=60), cached(stale=5, ttl=9)],
)
def test_each_form_of_it_decorates(decorator: Any, calls: list[Any]) -> None:
    @decorator
    def f(a: int, b: int = 0) -> int:
        calls.append((a, b))
        return a + b

    assert [f(1), f(1), f(1, 2), f(1, b=2), f(1, b=2)] == [1, 1, 3, 3, 3]
    assert calls == [(1, 0), (1, 2), (1, 2)]  # as given, as lru_cache has it


def test_it_looks_like_the_function() -> None:
    assert double.__name__ == "double" and double.__qualname__ == "double"
    assert double.__doc__ == "Twice x." and double.__module__ == __name__
    assert double.__wrapped__(4) == 8
    assert str(inspect.signature(double)) == "(x: 'int') -> 'int'"
    assert "double" in repr(double)
    assert not inspect.iscoroutinefunction(double)


def test_it_is_pickled_and_copied_by_reference() -> None:
    assert pickle.loads(pickle.dumps(double)) is double
    assert copy.copy(double) is double and copy.deepcopy(double) is double
    assert copy.deepcopy([double])[0] is double


def test_weak_references_and_attributes() -> None:
    f = cached(lambda: 1)
    f.note = "mine"  # type: ignore[attr-defined]
    assert weakref.ref(f)() is f and f.note == "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "function", [len, functools.partial(pow, 2), str.upper, dict, type("C", (), {"__call__": len})]
)
def test_whatever_can_be_called(function: Any) -> None:
    f = cached(function)
    with pytest.raises(TypeError):
        f(1, 2, 3, 4, 5)
    assert f.cache_info().currsize == 0
    assert cached(len)("abc") == 3 and cached(functools.partial(pow, 2))(5) == 32


def test_what_raises_is_not_kept(calls: list[Any]) -> None:
    @cached
    def f(x: int) -> int:
        calls.append(x)
        if len(calls) < 3:
            raise KeyError(x)
        return x

    for _ in range(2):
        with pytest.raises(KeyError):
            f(1)
    assert f(1) == 1 == f(1) and calls == [1, 1, 1]
    assert f.cache.stats().load_failures == 2


def test_none_is_a_result_like_any_other(calls: list[Any]) -> None:
    f = cached(lambda: calls.append(1))
    assert f() is None and f() is None and calls == [1]


def test_unhashable_arguments_are_refused(calls: list[Any]) -> None:
    f = cached(calls.append)
    with pytest.raises(TypeError, match="unhashable"):
        f([])
    assert not calls and f.cache_info().currsize == 0


def test_a_generator_is_refused_when_decorated() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous() -> Any:
        yield 1

    class Both:
        def __call__(self) -> Iterator[int]:
            yield 1

    for function in (generator, asynchronous, functools.partial(generator), Both()):
        with pytest.raises(TypeError, match="generator"):
            cached(function)
        with pytest.raises(TypeError, match="generator"):
            cached(ttl=5)(function)


def test_a_plain_function_that_returns_a_coroutine_is_refused_at_the_call() -> None:
    async def load() -> int:
        return 1

    for f in (cached(lambda: load()), cached(ttl=5, stale=5)(lambda: load())):
        for _ in range(2):
            with pytest.raises(TypeError, match="coroutine"):
                f()
        assert f.cache_info().currsize == 0


# ---- cache_* --------------------------------------------------------------------------------------


def test_the_surface_of_lru_cache() -> None:
    f = cached(maxsize=2, typed=True)(lambda x: x)
    f(1), f(1), f(2), f(3)
    assert f.cache_info() == CacheInfo(hits=1, misses=3, maxsize=2, currsize=2)
    assert f.cache_parameters() == {"maxsize": 2, "typed": True}
    f.cache_clear()
    assert f.cache_info() == (0, 0, 2, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bind": True},
        {"typed": True},
        {"ignore": ["c"]},
        {"cache": Cache(99)},
        {"ttl": 5, "grace": 5},
    ],
)
def test_key_contains_invalidate_refresh(options: dict[str, Any], calls: list[Any]) -> None:
    @cached(**options)
    def f(a: int, b: int = 0, *, c: int = 0) -> int:
        calls.append(a)
        return len(calls)

    assert not f.cache_contains(1, b=2) and not f.cache_invalidate(1, b=2)
    assert f(1, b=2) == 1
    assert f.cache_contains(1, b=2) and not f.cache_contains(2)
    assert f.cache[f.cache_key(1, b=2)] == 1
    assert f.cache_refresh(1, b=2) == 2 == f(1, b=2)
    assert f.cache_refresh(7) == 3 == f(7)
    assert f.cache_invalidate(1, b=2) and not f.cache_invalidate(1, b=2)
    assert f.cache_contains(7) and f(1, b=2) == 4


def test_looking_at_it_is_not_an_access() -> None:
    f = cached(maxsize=2)(lambda x: x)
    f(1), f(2)
    info = f.cache_info()
    assert f.cache_contains(1) and f.cache_info() == info
    f(3)
    assert not f.cache_contains(1)


def test_what_is_stored_by_key_is_returned() -> None:
    f = cached(lambda x: x)
    f.cache[f.cache_key(1)] = "mine"
    assert f(1) == "mine"
    assert {repr(key) for key in f.cache} == {"1"}


def test_a_refresh_that_fails_takes_nothing_away(calls: list[Any]) -> None:
    @cached(ttl=5, error_ttl={ValueError: 5}, clock=FakeClock())
    def f() -> int:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError
        return 1

    f()
    with pytest.raises(ValueError):
        f.cache_refresh()
    assert f() == 1 and len(calls) == 2


def test_a_refresh_does_not_take_a_load_that_began_before_it() -> None:
    began, go = threading.Event(), threading.Event()
    numbers = iter(range(10))

    @cached
    def f() -> int:
        number = next(numbers)
        if number == 0:
            began.set()
            assert go.wait(60)
        return number

    def refresh() -> int:
        assert began.wait(60)
        return f.cache_refresh()

    def release() -> None:
        assert began.wait(60)
        go.set()

    first, second, _ = run_threads([f, refresh, release])
    assert (first, second, f()) == (0, 1, 1)


# ---- statistics ------------------------------------------------------------------------------------


def test_statistics_are_always_on() -> None:
    clock = FakeClock()
    f = cached(ttl=5, clock=clock)(lambda x: x)
    f(1), f(1), f(2)
    clock.advance(5)
    f(1)
    stats = f.cache.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.expirations) == (1, 3, 3, 2)
    assert stats.load_time > 0


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_served_past_its_ttl_is_a_hit(shared: bool) -> None:
    clock = FakeClock()
    where = {"cache": Cache(9, clock=clock)} if shared else {"clock": clock}
    f = cached(ttl=5, stale=5, **where)(lambda: 1)
    f()
    clock.advance(6)
    f()
    assert f.cache_info()[:2] == (1, 1)
    assert f.cache.stats().stale_hits == 1 and f.cache.stats().hits == 1
    until(lambda: f.cache.stats().loads == 2)


def test_popitem_shows_nothing_that_only_the_loader_sees() -> None:
    clock = FakeClock()
    cache: Cache[Any, Any] = Cache(99, clock=clock)

    @cached(cache=cache, ttl=5, stale=50, error_ttl={ValueError: 50})
    def f(x: int) -> int:
        if x < 0:
            raise ValueError(x)
        return x

    f(1)
    with pytest.raises(ValueError, match="-1"):
        f(-1)
    clock.advance(6)
    cache["last"] = 1
    assert cache.popitem() == ("last", 1)
    with pytest.raises(KeyError):
        cache.popitem()
    assert len(cache) == 0 and cache.stats().expirations == 2


# ---- cache=, namespace ------------------------------------------------------------------------------


def test_functions_share_a_cache() -> None:
    cache: Cache[Any, Any] = Cache(99)

    @cached(cache=cache)
    def f(x: int) -> str:
        return f"f{x}"

    @cached(cache=cache, ttl=60)
    def g(x: int) -> str:
        return f"g{x}"

    assert (f(1), g(1), f(1), g(2)) == ("f1", "g1", "f1", "g2")
    assert f.cache is g.cache is cache and len(cache) == 3
    assert f.cache_info() == (1, 1, 99, 1) and g.cache_info() == (0, 2, 99, 2)
    assert f.cache_key(1)[0] == f"{__name__}:test_functions_share_a_cache.<locals>.f"
    assert cache.ttl(f.cache_key(1)) is None and 59 < (cache.ttl(g.cache_key(1)) or 0) <= 60
    g.cache_clear()
    assert f.cache_contains(1) and not g.cache_contains(1) and g.cache_info() == (0, 0, 99, 0)


def test_a_cleared_function_serves_nothing_from_before() -> None:
    """What only the loader sees, stale values and errors, is cleared too."""
    clock = FakeClock()
    cache: Cache[Any, Any] = Cache(99, clock=clock)
    numbers = iter(range(10))

    @cached(cache=cache, ttl=5, stale=50, error_ttl={ValueError: 50})
    def f(x: int) -> int:
        number = next(numbers)
        if x < 0:
            raise ValueError(number)
        return number

    f(1)
    with pytest.raises(ValueError, match="1"):
        f(-1)
    clock.advance(6)
    f.cache_clear()
    assert f(1) == 2
    with pytest.raises(ValueError, match="3"):
        f(-1)


def test_what_loads_while_its_function_is_cleared_is_not_kept() -> None:
    cache: Cache[Any, Any] = Cache(99)

    @cached(cache=cache)
    def f() -> int:
        f.cache_clear()
        return 1

    assert f() == 1 and not f.cache_contains()


def test_functions_of_one_name_do_not_share_results() -> None:
    cache: Cache[Any, Any] = Cache(99)

    def make(n: int) -> Any:
        @cached(cache=cache)
        def f(x: int) -> int:
            return n + x

        return f

    f, g = make(10), make(20)
    assert (f(1), g(1), f(1), g(1)) == (11, 21, 11, 21)


def test_functions_made_one_after_another_do_not_share_results() -> None:
    """The entries of a function that is gone are still there, and are not its namesake's."""
    cache: Cache[Any, Any] = Cache(99)

    def add(n: int, x: int) -> int:
        return n + x

    def closure(n: int) -> Any:
        def f(x: int) -> int:
            return n + x

        return f

    class Adder:
        def __init__(self, n: int) -> None:
            self.n = n

        def add(self, x: int) -> int:
            return self.n + x

    class Callable:
        __slots__ = ("n",)  # without weak references

        def __init__(self, n: int) -> None:
            self.n = n

        def __call__(self, x: int) -> int:
            return self.n + x

    for make in (
        closure,
        lambda n: lambda x: n + x,
        lambda n: functools.partial(add, n),
        lambda n: Adder(n).add,
        Callable,
    ):
        assert [cached(cache=cache)(make(n))(1) for n in (10, 20, 30)] == [11, 21, 31]
        gc.collect()
        assert cached(cache=cache)(make(40))(1) == 41


def test_batches_of_one_name_do_not_share_results() -> None:
    cache: Cache[Any, Any] = Cache(99)

    def make(n: int) -> Any:
        @cached(cache=cache, batch=True)
        def f(keys: list[int]) -> dict[int, int]:
            return {key: n + key for key in keys}

        return f

    f, g = make(10), make(20)
    assert (f(1), g(1), f([1]), g([1])) == (11, 21, {1: 11}, {1: 21})
    del f, g
    assert make(30)(1) == 31


def test_a_function_that_is_decorated_again_finds_its_results() -> None:
    cache: Cache[Any, Any] = Cache(99)
    asked = []

    def f(x: int, y: int = 0) -> int:
        asked.append(x)
        return x + y

    def once(*args: int, **options: Any) -> Any:
        return cached(cache=cache, **options)(f)(*args)

    assert once(1) == once(1, ttl=5) == 1
    assert asked == [1]
    # but not where other calls may have these keys
    assert once(5, 1, ignore="x") == 6
    assert once(1) == 1
    assert once(7, key=lambda x: 1) == 7
    assert once(1) == 1
    held = cached(cache=cache)(f)
    assert held(1) == 1
    assert cached(cache=cache)(f).cache_key(1) != held.cache_key(1)


def test_what_a_shared_cache_knows_of_its_functions_goes_with_them() -> None:
    cache: Cache[Any, Any] = Cache(99)
    function = cached(cache=cache)(lambda x: x)
    wrapped = weakref.ref(function.__wrapped__)
    function(1)
    del function
    gc.collect()
    assert wrapped() is None
    number = id(cache)
    assert number in prefixes._caches
    del cache
    assert number not in prefixes._caches


def test_a_namespace_names_the_keys() -> None:
    cache: Cache[Any, Any] = Cache(99)
    f = cached(cache=cache, namespace="users")(lambda x: x)
    f(1)
    assert list(cache) == [("users", 1)] and f.cache_info().currsize == 1


def test_a_shared_cache_keeps_its_own_options() -> None:
    clock = FakeClock()
    cache: Cache[Any, Any] = Cache(2, ttl=5, clock=clock)
    f = cached(cache=cache)(lambda x: x)
    f(1), f(2), f(3)
    assert len(cache) == 2 and cache.ttl(f.cache_key(3)) == 5


def test_a_listener_hears_of_values_only() -> None:
    """An error that is kept is nothing that a user of the cache ever sees."""
    clock, recorder = FakeClock(), Recorder()
    cache: Cache[Any, Any] = Cache(99, clock=clock, listener=recorder)

    @cached(cache=cache, namespace="f", ttl=50, error_ttl={ValueError: 5})
    def f(x: int) -> int:
        if x < 0:
            raise ValueError
        return x

    def fail(x: int) -> None:
        with pytest.raises(ValueError):
            f(x)

    fail(-1)
    assert list(cache.items()) == [] and cache.coldest() == [] and f.cache_key(-1) not in cache
    clock.advance(6)
    assert cache.expire() == []
    fail(-1)
    f.cache_invalidate(-1)
    fail(-2)
    cache.clear()
    fail(-3)
    cache.set(f.cache_key(-3), 0)
    assert recorder.take() == []
    f(1)
    cache.clear()
    assert sorted(event[0][1] for event in recorder.take()) == [-3, 1]
    cache._check()


# ---- references --------------------------------------------------------------------------------------


def leak(action: Any, objects: Any) -> int:
    """References that 100 actions leave on some objects, after the first few."""
    for _ in range(5):
        action()
    gc.collect()
    before = sum(sys.getrefcount(o) for o in objects)
    for _ in range(100):
        action()
    gc.collect()
    return sum(sys.getrefcount(o) for o in objects) - before


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"typed": True},
        {"bind": True},
        {"key": lambda *args, **kwargs: (args, *kwargs.items())},
        {"copy": True},
        {"ttl": 50, "stale": 5, "tags": lambda value, *args, **kwargs: ["t"]},
        {"ttl": 50, "refresh": 0.5, "early": 0.1},
        {"hard_timeout": 50},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_calls_leave_no_references_behind(options: dict[str, Any]) -> None:
    value, argument = ["value"], object()
    f = cached(**options)(lambda x, y=None: value)

    def action() -> None:
        f(argument), f(argument), f(argument, y=argument), f(x=argument)
        f.cache_contains(argument), f.cache_key(argument), f.cache_refresh(argument)
        f.cache_invalidate(argument)
        f.cache_clear()

    assert abs(leak(action, [value, argument, None.__class__, f])) < 20


class Boom(Exception):
    """Has a __dict__ and may be referred to weakly."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ttl": 5, "stale": 5},
        {"error_ttl": {Boom: 5}},
        {"bind": True},
        {"hard_timeout": 60},
        {"copy": True},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_an_exception_is_freed_without_the_collector(
    options: dict[str, Any], no_collector: None
) -> None:
    seen: list[weakref.ref[Any]] = []

    class Local:
        pass

    @cached(**options)
    def f(x: int) -> None:
        local = Local()
        error = Boom(x)
        seen.extend([weakref.ref(local), weakref.ref(error)])
        try:
            raise error
        finally:
            del error

    for x in (1, 1, 2):
        try:
            f(x)
        except Boom as error:
            assert error.__traceback__ is not None
    g = cached(**options)(lambda x: x)
    numbers = itertools.count()

    def gone() -> bool:
        # without the GIL a thread of the pool lets go of what it has made when it runs again
        return not any(ref() for ref in seen) or (free_threaded and g(next(numbers)) is None)

    until(gone)
    assert len(seen) >= 4


def test_the_exception_of_a_batch_is_freed_without_the_collector(no_collector: None) -> None:
    seen: list[weakref.ref[Any]] = []

    @cached(batch=True, max_wait=0)
    def f(keys: list[int]) -> dict[int, int]:
        error = Boom()
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    for keys in ([1, 2], 1):
        try:
            f(keys)
        except Boom:
            pass
    assert [ref() for ref in seen] == [None, None]


def test_a_function_dies_with_its_cache(no_collector: None) -> None:
    class Value:
        pass

    f = cached(ttl=50, stale=5, copy=False)(lambda x: Value())
    value, function, cache = weakref.ref(f(1)), weakref.ref(f), weakref.ref(f.cache)
    del f
    assert cache() is None and value() is None and function() is None


def test_a_cycle_through_a_function_is_collected() -> None:
    def make() -> weakref.ref[Any]:
        f = cached(ttl=50, stale=5)(lambda x: f)
        assert f(1) is f
        return weakref.ref(f)

    function = make()
    gc.collect()
    assert function() is None


# ---- recursion ----------------------------------------------------------------------------------------


def test_a_function_may_call_itself() -> None:
    @cached
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(300) == 222232244629420445529739893461909967206666939096499764990979600
    assert fib.cache_info().misses == 301


@pytest.mark.parametrize("options", [{}, {"ttl": 60, "stale": 60}, {"bind": True}, {"copy": True}])
def test_recursion_without_end_is_an_error(options: dict[str, Any]) -> None:
    print(
        run_python(
            f"""
import sys
from fastcache import cached
@cached(**{options!r})
def f(n):
    return f(n + 1)
for _ in range(3):
    try:
        f(0)
    except RecursionError:
        pass
    else:
        raise AssertionError
    f.cache._check()
    assert len(f.cache) == 0, len(f.cache)
"""
        )
    )


def test_a_function_that_asks_itself_for_the_same_key_computes_through(calls: list[Any]) -> None:
    @cached
    def f(x: int) -> int:
        calls.append(x)
        return f(x) if len(calls) < 3 else 7

    assert f(1) == 7 and f(1) == 7 and calls == [1, 1, 1]


# ---- threads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"ttl": 60, "grace": 5}, {"bind": True}, {"hard_timeout": 60}]
)
def test_one_load_for_all_threads(options: dict[str, Any], calls: list[Any]) -> None:
    go = threading.Event()

    @cached(**options)
    def f(x: int) -> object:
        calls.append(x)
        assert go.wait(60)
        return object()

    def release() -> None:
        until(lambda: f.cache.stats().misses == 20)
        go.set()

    *results, _ = run_threads([*[lambda: f(1)] * 20, release])
    assert len(set(results)) == 1 and calls == [1]


def test_a_load_in_the_pool_that_exits_ends_the_call_and_no_thread(calls: list[Any]) -> None:
    """It used to be tried again and again."""

    @cached(hard_timeout=60)
    def f() -> None:
        calls.append(1)
        raise SystemExit(3)

    for _ in range(2):
        with pytest.raises(SystemExit):
            f()
    assert calls == [1, 1] and f.cache_info().currsize == 0


def test_importing_the_package_loads_nothing_of_it() -> None:
    assert cached is fastcache.cached
    assert (
        run_python(
            "import sys, fastcache\n"
            "print([m for m in sys.modules if m.startswith('fastcache.loading') or m in ('asyncio', 'inspect')])"
        ).strip()
        == "[]"
    )
