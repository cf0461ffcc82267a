"""`alru_cache`, where async-lru's own tests do not look (those run in conformance/)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import pickle
import random
import sys
import threading
import warnings
import weakref
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from _support import run_python, run_threads

from fastcache import alru_cache, cached
from fastcache.alru import AlruCacheLoopResetWarning


@alru_cache
async def double(x: int) -> int:
    """Twice x."""
    return 2 * x


class Gate:
    """An async function whose calls end when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, asyncio.Future[Any]]] = []
        self.cancelled: list[Any] = []

    async def load(self, key: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.calls.append((key, future))
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise

    def open(self, number: int, value: Any) -> None:
        self.calls[number][1].set_result(value)

    def fail(self, number: int, error: Exception) -> None:
        self.calls[number][1].set_exception(error)

    @property
    def keys(self) -> list[Any]:
        return [key for key, _ in self.calls]


async def turns(n: int = 8) -> None:
    """Let the loop run until nothing moves."""
    for _ in range(n):
        await asyncio.sleep(0)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# ---- hits ---------------------------------------------------------------------------------------


def test_a_hit_makes_no_task_and_no_frame() -> None:
    async def main() -> None:
        f = alru_cache(ttl=60)(double.__wrapped__)
        assert await f(1) == 2
        frames: list[str] = []
        tasks: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda *args, **kwargs: tasks.append(args))  # type: ignore[arg-type]
        sys.setprofile(lambda frame, event, arg: frames.append(frame.f_code.co_name))
        try:
            value = await f(1)
        finally:
            sys.setprofile(None)
            loop.set_task_factory(None)
        assert value == 2
        assert [name for name in frames if name != "main"] == []
        assert tasks == []
        assert f.cache_info() == (1, 1, 128, 1)

    run(main())


def test_what_it_returns_is_awaited_in_all_ways() -> None:
    async def main() -> None:
        assert await asyncio.gather(double(1), double(1), asyncio.create_task(double(2))) == [
            2,
            2,
            4,
        ]
        assert await asyncio.wait_for(double(1), 5) == 2

    run(main())


def test_it_looks_like_the_function() -> None:
    assert (double.__name__, double.__doc__) == ("double", "Twice x.")
    assert str(inspect.signature(double)) == "(x: 'int') -> 'int'"
    assert pickle.loads(pickle.dumps(double)) is double
    assert double.cache_parameters() == {
        "maxsize": 128,
        "typed": False,
        "tasks": 0,
        "closed": False,
    }


# ---- loads are entries --------------------------------------------------------------------------


def test_eviction_is_in_the_order_of_calls_not_of_ends() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(maxsize=3)(gate.load)
        callers = [asyncio.create_task(f(key)) for key in (3, 4, 5)]
        await turns()
        for number in (2, 0, 1):
            gate.open(number, number)
        await asyncio.gather(*callers)
        assert f.cache.coldest() == [3, 4, 5]
        await f(3)
        assert f.cache.coldest() == [4, 5, 3]

    run(main())


def test_a_load_can_be_evicted_and_its_waiters_get_the_value() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(maxsize=1)(gate.load)
        first = asyncio.create_task(f(1))
        await turns()
        second = asyncio.create_task(f(2))
        await turns()
        assert f.cache_parameters()["tasks"] == 1
        assert not f.cache_contains(1) and f.cache_contains(2)
        gate.open(0, "one")
        assert await first == "one"
        assert not f.cache_contains(1)
        gate.open(1, "two")
        assert await second == "two"
        assert f.cache_info() == (0, 2, 1, 1)

    run(main())


@pytest.mark.parametrize("how", ["cache_invalidate", "cache_clear"])
def test_what_was_invalidated_while_it_loads_is_not_kept(how: str) -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        old = asyncio.create_task(f(1))
        await turns()
        assert f.cache_invalidate(1) if how == "cache_invalidate" else f.cache_clear() is None
        assert not f.cache_contains(1) and f.cache_parameters()["tasks"] == 0
        new = asyncio.create_task(f(1))
        await turns()
        gate.open(1, "new")
        assert await new == "new"
        gate.open(0, "old")
        assert await old == "old"
        assert await f(1) == "new"
        assert gate.keys == [1, 1]

    run(main())


def test_a_failed_load_takes_no_newer_one_away() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        old = asyncio.create_task(f(1))
        await turns()
        f.cache_invalidate(1)
        new = asyncio.create_task(f(1))
        await turns()
        gate.fail(0, ValueError("old"))
        with pytest.raises(ValueError, match="old"):
            await old
        assert f.cache_contains(1)
        gate.open(1, "new")
        assert (await new, await f(1)) == ("new", "new")

    run(main())


def test_the_load_ends_with_its_last_waiter() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        callers = [asyncio.create_task(f(1)) for _ in range(3)]
        await turns()
        assert f.cache_info() == (2, 1, 128, 1)
        callers[0].cancel()
        callers[2].cancel()
        await turns()
        assert gate.cancelled == [] and f.cache_contains(1)
        callers[1].cancel()
        await asyncio.sleep(0)
        assert not f.cache_contains(1)  # at once: who comes now starts anew
        again = asyncio.create_task(f(1))
        await turns()
        assert gate.cancelled == [1] and gate.keys == [1, 1]
        gate.open(1, "again")
        assert await again == "again"
        assert all(caller.cancelled() for caller in callers)

    run(main())


def test_a_load_cancelled_before_it_began_leaves_no_noise() -> None:
    async def main() -> None:
        f = alru_cache(double.__wrapped__)
        call = f(1)
        assert call.send(None) is not None  # it waits, and its task has not begun
        load = next(iter(asyncio.all_tasks() - {asyncio.current_task()}))
        with pytest.raises(asyncio.CancelledError):
            call.throw(asyncio.CancelledError())
        await turns()
        assert load.cancelled() and f.cache_info().currsize == 0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
        gc.collect()


def test_an_exception_goes_to_all_and_is_not_kept() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        callers = [asyncio.create_task(f(1)) for _ in range(2)]
        await turns()
        error = ValueError("no")
        gate.fail(0, error)
        assert await asyncio.gather(*callers, return_exceptions=True) == [error, error]
        assert f.cache_info() == (1, 1, 128, 0)

    run(main())


def test_waiters_wake_in_the_order_of_their_coming() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        order: list[int] = []

        async def caller(number: int) -> None:
            await f(1)
            order.append(number)

        tasks = [asyncio.create_task(caller(number)) for number in range(20)]
        await turns()
        gate.open(0, None)
        await asyncio.gather(*tasks)
        assert order == list(range(20))

    run(main())


def test_loads_run_in_the_context_of_their_first_caller() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def main() -> None:
        @alru_cache
        async def f() -> str:
            return tenant.get()

        tenant.set("ours")
        assert await f() == "ours"

    run(main())


def test_nothing_is_left_of_a_load() -> None:
    class Value:
        pass

    async def main() -> None:
        @alru_cache(maxsize=1)
        async def f(x: int) -> Value:
            return Value()

        value = weakref.ref(await f(1))
        await f(2)
        await turns()
        assert f._loader.loads == {}  # type: ignore[attr-defined]
        gc.collect()
        assert value() is None

    run(main())


# ---- waiting for oneself ------------------------------------------------------------------------


def test_a_call_from_within_its_own_load_is_computed() -> None:
    async def main() -> None:
        depth = 0

        @alru_cache
        async def f(x: int) -> int:
            nonlocal depth
            depth += 1
            if depth == 1:
                return await asyncio.create_task(g(x)) + 1
            return 10

        @alru_cache
        async def g(x: int) -> int:
            return await f(x) + 1

        assert await asyncio.wait_for(f(1), 20) == 12
        assert await f(1) == 12

    run(main())


def test_recursion() -> None:
    async def main() -> None:
        @alru_cache(maxsize=None)
        async def fib(n: int) -> int:
            return n if n < 2 else sum(await asyncio.gather(fib(n - 1), fib(n - 2)))

        assert await fib(60) == 1548008755920
        assert fib.cache_info() == (58, 61, None, 61)

    run(main())


# ---- expiry -------------------------------------------------------------------------------------


def test_the_ttl_starts_when_the_result_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(a: float, b: float) -> float:
        drawn.append((a, b))
        return 7.0

    async def main() -> None:
        gate = Gate()
        f = alru_cache(ttl=timedelta(seconds=100), jitter=50)(gate.load)
        caller = asyncio.create_task(f(1))
        await turns()
        assert f.cache.ttl(1) is None  # what is being loaded does not expire
        monkeypatch.setattr(random, "uniform", uniform)
        gate.open(0, "x")
        await caller
        left = f.cache.ttl(1)
        assert left is not None and 100 < left <= 107
        assert drawn == [(0, 50)]

    run(main())


def test_currsize_drops_by_itself() -> None:
    async def main() -> None:
        f = alru_cache(ttl=0.01)(double.__wrapped__)
        await f(1)
        deadline = asyncio.get_running_loop().time() + 30
        while f.cache_info().currsize:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0)
        assert f.cache_info() == (0, 1, 128, 0)

    run(main())


def test_a_ttl_of_0_keeps_nothing_and_waiters_share() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(ttl=0)(gate.load)
        callers = [asyncio.create_task(f(1)) for _ in range(2)]
        await turns()
        gate.open(0, "x")
        assert await asyncio.gather(*callers) == ["x", "x"]
        assert f.cache_info() == (1, 1, 128, 0)

    run(main())


# ---- event loops --------------------------------------------------------------------------------


def test_another_loop_is_told_once_with_the_name_and_place() -> None:
    f = alru_cache(double.__wrapped__)

    async def main() -> None:
        await f(1)
        assert await f(1) == 2

    run(main())
    with pytest.warns(AlruCacheLoopResetWarning, match="double") as told:
        run(main())
    assert told[0].filename == __file__
    run(main())  # another one, and no warning: they are errors here
    assert f.cache_info() == (1, 1, 128, 1)


def test_as_an_error_the_warning_comes_once() -> None:
    f = alru_cache(double.__wrapped__)

    async def main() -> None:
        await f(1)

    run(main())
    with pytest.raises(AlruCacheLoopResetWarning):
        run(main())
    run(main())


def test_one_loop_that_runs_several_times_is_one() -> None:
    f = alru_cache(double.__wrapped__)
    loop = asyncio.new_event_loop()
    for _ in range(3):
        assert loop.run_until_complete(f(1)) == 2
    loop.close()
    assert f.cache_info() == (2, 1, 128, 1)


def test_hooks_of_others_do_not_hide_the_loop() -> None:
    """A hit takes the loop's own hook in the thread's state for a sign that it still runs."""
    f = alru_cache(double.__wrapped__)

    async def main(finalizer: Any) -> None:
        for hook in (finalizer, None, finalizer):
            sys.set_asyncgen_hooks(finalizer=hook)
            await f(1)

    def finalizer(generator: Any) -> None:
        raise AssertionError

    run(main(finalizer))
    assert f.cache_info() == (2, 1, 128, 1)
    with pytest.warns(AlruCacheLoopResetWarning):
        run(main(finalizer))
    assert f.cache_info() == (2, 1, 128, 1)


def test_without_a_loop_it_says_so() -> None:
    call = alru_cache(double.__wrapped__)(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        call.send(None)


def test_threads_with_loops_of_their_own_get_right_values() -> None:
    """They clear it again and again, and that is all."""
    warned: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlruCacheLoopResetWarning)
        f = alru_cache(maxsize=4)(double.__wrapped__)
        barrier = threading.Barrier(3)

        async def main() -> None:
            barrier.wait()
            for i in range(400):
                got = await asyncio.gather(f(i % 6), f(i % 6), f(i % 5))
                if got != [i % 6 * 2, i % 6 * 2, i % 5 * 2]:
                    warned.append(got)

        assert run_threads([lambda: asyncio.run(main())] * 3) == [None] * 3
    assert warned == []
    f.cache._check()


def test_the_end_of_a_loop_in_mid_load() -> None:
    """In an interpreter of its own: a task of a stopped loop is told of at the end."""
    code = """
import asyncio, warnings
from fastcache import alru_cache
warnings.simplefilter("ignore")

@alru_cache
async def f(x):
    if x == 1 and first:
        await asyncio.Event().wait()
    return x

first = True
loop = asyncio.new_event_loop()
task = loop.create_task(f(1))
loop.call_later(0.01, loop.stop)
loop.run_forever()
assert f.cache_parameters()["tasks"] == 1
first = False
assert asyncio.run(f(1)) == 1
assert asyncio.run(asyncio.wait_for(f(1), 20)) == 1
asyncio.run(f.cache_close())
print(f.cache_parameters()["tasks"])
"""
    assert run_python(code) == "0\n"


# ---- closing ------------------------------------------------------------------------------------


def test_closed_also_for_hits_and_joins() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        caller = asyncio.create_task(f(1))
        await turns()
        closing = asyncio.create_task(f.cache_close(wait=True))
        await turns()
        for key in (1, 2):
            with pytest.raises(RuntimeError, match=r"alru_cache is closed for .*load"):
                await f(key)
        gate.open(0, "x")
        await closing
        assert await caller == "x"
        with pytest.raises(RuntimeError, match="closed"):
            await f(1)
        await f.cache_close()
        assert f.cache_parameters() == {"maxsize": 128, "typed": False, "tasks": 0, "closed": True}

    run(main())


def test_closing_cancels() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        callers = [asyncio.create_task(f(key)) for key in (1, 1, 2)]
        await turns()
        await f.cache_close()
        assert gate.cancelled == [1, 2]
        await turns()
        assert all(caller.cancelled() for caller in callers)

    run(main())


# ---- keys, methods, other functions --------------------------------------------------------------


def test_methods_share_one_cache() -> None:
    class Shop:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @alru_cache
        async def price(self, x: int) -> int:
            return self.factor * x

    async def main() -> None:
        one, two = Shop(1), Shop(2)
        assert [await one.price(3), await two.price(3), await Shop.price(two, 3)] == [3, 6, 6]
        assert one.price.cache_info() == Shop.price.cache_info() == (1, 2, 128, 2)
        assert one.price.cache_invalidate(3) and not one.price.cache_contains(3)
        assert two.price.cache_contains(3)
        assert one.price.cache_parameters() == Shop.price.cache_parameters()
        await one.price.cache_close()
        with pytest.raises(RuntimeError, match="closed"):
            await two.price(3)

    run(main())


def test_a_refresh_loads_anew() -> None:
    async def main() -> None:
        gate = Gate()
        f = alru_cache(gate.load)
        for number, value in enumerate(("old", "new")):
            caller = asyncio.create_task(f.cache_refresh(1))
            await turns()
            gate.open(number, value)
            assert await caller == value
        assert await f(1) == "new"

    run(main())


def test_a_partial_has_no_name_and_its_errors_say_what() -> None:
    f = alru_cache(key=lambda x: [x])(functools.partial(double.__wrapped__))

    async def main() -> None:
        with pytest.raises(TypeError, match=r"unhashable: \[1\]"):
            await f(1)

    run(main())
    assert f.cache_info() == (0, 0, 128, 0)


def test_around_and_within_other_decorators() -> None:
    @functools.wraps(double)
    async def outer(x: int) -> int:
        return await double.__wrapped__(x) + 1

    f, g = alru_cache(maxsize=1)(alru_cache(outer)), cached(alru_cache(double.__wrapped__))

    async def main() -> None:
        assert (await f(1), await g(1), await g(1)) == (3, 2, 2)

    run(main())
    assert f.cache_parameters()["maxsize"] == 1
    assert f.cache_info() == (0, 1, 1, 1) and g.cache_info() == (1, 1, 128, 1)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"ttl": -1}, ValueError, "ttl must not be negative, got -1"),
        ({"ttl": float("nan")}, ValueError, "ttl must not be NaN"),
        ({"ttl": "1"}, TypeError, "ttl must be a number of seconds or None, got '1'"),
        ({"jitter": 1}, ValueError, "jitter requires ttl to be set"),
        ({"ttl": 1, "jitter": -1}, ValueError, "jitter must be non-negative and finite, got -1"),
        ({"ttl": 1, "jitter": float("nan")}, ValueError, "jitter must be non-negative"),
        ({"ttl": 1, "jitter": float("inf")}, ValueError, "jitter must be non-negative and finite"),
        ({"ttl": 1, "jitter": "1"}, TypeError, "jitter must be a number of seconds"),
        ({"key": 5}, TypeError, "key must be callable, got 5"),
        ({"key": len, "typed": True}, ValueError, "typed is ignored"),
        ({"maxsize": 1.5}, NotImplementedError, "1.5 decorating is not supported"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        alru_cache(**options)
    assert said in str(raised.value)


def test_only_coroutine_functions() -> None:
    def plain() -> None: ...

    async def generator() -> Any:
        yield

    for function in (plain, generator, functools.partial(plain)):
        with pytest.raises(RuntimeError, match="Coroutine function is required, got"):
            alru_cache(function)  # type: ignore[call-overload]


def test_a_negative_maxsize_keeps_nothing() -> None:
    async def main() -> None:
        f = alru_cache(maxsize=-1)(double.__wrapped__)
        assert [await f(1), await f(1)] == [2, 2]
        assert f.cache_info() == (0, 2, 0, 0)

    run(main())
