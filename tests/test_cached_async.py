"""`cached` on `async def`: what a call returns is a coroutine in C, to every library that awaits.

Tests wait for events, never for time; what could hang runs under a limit.
"""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import contextvars
import copy
import functools
import gc
import inspect
import logging
import pickle
import sys
import threading
import traceback
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from _support import LIMIT, run_python, run_threads, shown, until

from fastcache import Cache, cached
from fastcache._core import board
from fastcache.testing import FakeClock

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")
try:
    import uvloop
except ImportError:
    uvloop = None


def run(main: Coroutine[Any, Any, Any], **options: Any) -> Any:
    """Run a coroutine on a loop of its own, under a limit."""

    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await main

    with asyncio.Runner(**options) as runner:
        return runner.run(limited())


async def turns(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition()` holds."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - of what no event could tell
            await asyncio.sleep(0)


class Source:
    """A function whose loads wait at a gate; `calls` are the arguments of those that began."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.ended: list[Any] = []
        self.cancelled: list[Any] = []
        self.open = True
        self._gates: list[asyncio.Event] = []

    async def load(self, x: Any) -> Any:
        self.calls.append(x)
        if not self.open:
            gate = asyncio.Event()
            self._gates.append(gate)
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(x)
                raise
        self.ended.append(x)
        return (x, len(self.calls))

    def shut(self) -> None:
        self.open = False

    def release(self) -> None:
        self.open = True
        while self._gates:
            self._gates.pop().set()


@pytest.fixture
def source() -> Source:
    return Source()


@cached
async def same(value: Any) -> Any:
    return value


@cached(key=lambda *args, **kwargs: 0)
async def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def finished(call: Coroutine[Any, Any, Any]) -> Any:
    """Drive a coroutine that does not have to wait; its result."""
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    return stopped.value.value


# ---- it is a coroutine -------------------------------------------------------------------------


class TestKind:
    def test_the_function(self) -> None:
        assert inspect.iscoroutinefunction(same)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert asyncio.iscoroutinefunction(same)
        assert not inspect.isasyncgenfunction(same)
        assert not inspect.isgeneratorfunction(same)

    def test_bound_methods_and_partials(self) -> None:
        class Shop:
            @cached
            async def price(self, sku: str) -> str:
                return sku

            @cached
            @staticmethod
            async def static(sku: str) -> str:
                return sku

            @cached
            @classmethod
            async def of_class(cls, sku: str) -> str:
                return sku

        shop = Shop()
        for function in (
            Shop.price,
            shop.price,
            shop.static,
            shop.of_class,
            functools.partial(same, 1),
            functools.partial(shop.price, "tea"),
        ):
            assert inspect.iscoroutinefunction(function), function

    def test_the_call(self) -> None:
        call = same(1)
        assert isinstance(call, collections.abc.Coroutine)
        assert isinstance(call, collections.abc.Awaitable)
        assert inspect.isawaitable(call)
        assert asyncio.iscoroutine(call)
        assert repr(call).startswith("<coroutine object same at 0x")
        assert call.__name__ == "same" and call.__qualname__ == "same"
        call.close()

    def test_its_names_are_those_of_the_method(self) -> None:
        class Shop:
            @cached
            async def price(self, sku: str) -> str:
                return sku

        call = Shop().price("tea")
        assert call.__name__ == "price" and call.__qualname__.endswith("Shop.price")
        assert "Shop.price" in repr(call)
        call.close()

    def test_weak_references(self) -> None:
        call = same(1)
        seen = weakref.ref(call)
        assert seen() is call
        call.close()
        del call
        assert seen() is None

    def test_neither_copied_nor_pickled(self) -> None:
        call = same(1)
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="CachedCall"):
                act(call)
        call.close()

    def test_partial_of_async_function(self) -> None:
        @cached
        async def add(a: int, b: int) -> int:
            return a + b

        half = cached(functools.partial(add, 1))
        assert run(half(2)) == 3

    def test_callable_object_with_async_call(self) -> None:
        class Load:
            async def __call__(self, x: int) -> int:
                return -x

        load = cached(Load())
        assert inspect.iscoroutinefunction(load)
        assert run(load(4)) == -4


#: Results that a StopIteration could garble.
AWKWARD = [
    None,
    (),
    (1,),
    (1, 2),
    [1],
    StopIteration(3),
    StopIteration(),
    StopAsyncIteration(1),
    ValueError("x"),
    ValueError,
    GeneratorExit(),
    asyncio.CancelledError(),
    NotImplemented,
    ...,
]
HOW: dict[str, Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]] = {
    "await": lambda call: call,
    "task": lambda call: asyncio.create_task(call),
    "ensure_future": lambda call: asyncio.ensure_future(call),
    "wait_for": lambda call: asyncio.wait_for(call, LIMIT),
    "wait_for for ever": lambda call: asyncio.wait_for(call, None),
    "shield": lambda call: asyncio.shield(call),
}


def _identified(value: Any) -> Any:
    return cached(key=lambda: id(value))(functools.partial(_returned, value))


async def _returned(value: Any) -> Any:
    return value


class TestResults:
    @pytest.mark.parametrize("value", AWKWARD, ids=shown)
    @pytest.mark.parametrize("how", HOW)
    def test_come_back_as_they_are(self, how: str, value: Any) -> None:
        get = _identified(value)

        async def main() -> None:
            for _ in range(3):
                assert await HOW[how](get()) is value
            assert get.cache_info()[:2] == (2, 1)

        run(main())

    @pytest.mark.parametrize("value", AWKWARD, ids=shown)
    def test_through_send_and_next(self, value: Any) -> None:
        get = _identified(value)
        run(get())
        assert finished(get()) is value
        steps = get().__await__()
        assert steps is iter(steps)
        with pytest.raises(StopIteration) as stopped:
            next(steps)
        assert stopped.value.value is value

    @pytest.mark.parametrize("value", AWKWARD, ids=shown)
    def test_through_gather_and_groups(self, value: Any) -> None:
        get = _identified(value)

        async def main() -> None:
            assert all(v is value for v in await asyncio.gather(get(), get(), get()))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(get()) for _ in range(3)]
            assert all(task.result() is value for task in tasks)
            async with asyncio.timeout(LIMIT):
                assert await get() is value

        run(main())

    def test_delegation(self) -> None:
        class Wrapper:
            def __await__(self) -> Iterator[Any]:
                return (yield from same("w").__await__())

        @types.coroutine
        def old_style() -> Iterator[Any]:
            return (yield from same("o"))

        async def main() -> None:
            for _ in range(2):
                assert await Wrapper() == "w"
                assert await old_style() == "o"

        run(main())

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            ((1,), {}),
            (((1, 2),), {}),
            (((),), {}),
            ((1, 2), {}),
            ((), {"a": 1}),
            (((1,),), {"a": (2,)}),
            (tuple(range(50)), {f"k{i}": i for i in range(50)}),
        ],
    )
    def test_arguments_reach_the_function(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        echo.cache_clear()
        assert run(echo(*args, **kwargs)) == (args, kwargs)

    def test_arguments_of_plain_keys(self) -> None:
        @cached
        async def plain(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        calls: list[tuple[Any, Any]] = [
            ((), {}),
            ((1,), {}),
            (((1, 2),), {}),
            ((1, 2), {}),
            ((), {"a": 1}),
            ((1,), {"a": (2,)}),
        ]

        async def main() -> None:
            for _ in range(2):
                for args, kwargs in calls:
                    assert await plain(*args, **kwargs) == (args, kwargs)

        run(main())
        assert plain.cache_info()[:2] == (len(calls), len(calls))

    def test_wrong_arguments(self) -> None:
        @cached(bind=True)
        async def one(x: int) -> int:
            return x

        with pytest.raises(TypeError, match="unexpected keyword"):
            run(one(y=1))
        with pytest.raises(TypeError):
            run(one(1, 2))
        assert len(one.cache) == 0

    def test_unhashable_argument(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            run(same([]))

    def test_asyncio_run_takes_the_call(self) -> None:
        assert asyncio.run(same(7)) == 7
        assert asyncio.run(same(7), debug=True) == 7

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
    def test_eager_tasks(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            assert await asyncio.create_task(get(1)) == (1, 1)
            assert asyncio.create_task(get(1)).done()  # a hit ends before it is scheduled
            source.shut()
            tasks = [asyncio.create_task(get(2)) for _ in range(9)]
            await turns(lambda: source.calls == [1, 2])
            source.release()
            assert await asyncio.gather(*tasks) == [(2, 2)] * 9

        run(main())

    def test_debug_mode(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            tasks = [asyncio.create_task(get(1)) for _ in range(3)]
            await turns(lambda: bool(source.calls))
            for task in tasks:
                assert "load" in repr(task)
                assert task.get_stack() is not None
            source.release()
            await asyncio.gather(*tasks)
            hit = asyncio.create_task(get(1))
            assert "load" in repr(hit)
            await hit

        run(main(), debug=True)

    @pytest.mark.skipif(uvloop is None, reason="uvloop is not installed")
    def test_uvloop(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            tasks = [asyncio.create_task(get(1)) for _ in range(9)]
            await turns(lambda: bool(source.calls))
            tasks.pop().cancel()
            source.release()
            assert await asyncio.gather(*tasks) == [(1, 1)] * 8
            assert await asyncio.wait_for(get(1), LIMIT) == (1, 1)

        run(main(), loop_factory=uvloop.new_event_loop)

    def test_run_coroutine_threadsafe(self, source: Source) -> None:
        get = cached(source.load)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            for _ in range(2):
                assert asyncio.run_coroutine_threadsafe(get(1), loop).result(LIMIT) == (1, 1)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(LIMIT)
            loop.close()


# ---- one await, and no more --------------------------------------------------------------------


class TestOnce:
    def test_a_second_await(self) -> None:
        async def main() -> None:
            for _ in range(2):  # a miss, a hit
                call = same(1)
                await call
                for _ in range(2):
                    with pytest.raises(RuntimeError, match="already awaited"):
                        await call
                with pytest.raises(RuntimeError, match="already awaited"):
                    call.send(None)
                with pytest.raises(RuntimeError, match="already awaited"):
                    call.throw(ValueError)
                call.close()

        same.cache_clear()
        run(main())

    def test_after_an_error(self) -> None:
        @cached
        async def fail(x: int) -> None:
            raise KeyError(x)

        async def main() -> None:
            call = fail(1)
            with pytest.raises(KeyError):
                await call
            with pytest.raises(RuntimeError, match="already awaited"):
                await call

        run(main())

    def test_after_close(self) -> None:
        call = same(1)
        call.close()
        call.close()
        with pytest.raises(RuntimeError, match="already awaited"):
            call.send(None)

    def test_while_it_is_awaited(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            call = get(1)

            async def first() -> Any:
                return await call

            task = asyncio.create_task(first())
            await turns(lambda: bool(source.calls))
            with pytest.raises(RuntimeError, match="being awaited already"):
                await call
            source.release()
            assert await task == (1, 1)

        run(main())

    def test_from_within_itself(self) -> None:
        """Without a loop the function runs inside the call, which must not end under it."""
        said: list[str] = []

        @cached
        async def inner(how: str) -> str:
            call = calls[0]
            assert call.cr_running and not call.cr_suspended
            with pytest.raises(ValueError, match="already executing") as raised:
                {"close": call.close, "send": lambda: call.send(None)}.get(
                    how, lambda: call.throw(KeyError)
                )()
            said.append(str(raised.value))
            return how

        for how in ("close", "send", "throw"):
            calls = [inner(how)]
            assert finished(calls[0]) == how
        assert len(said) == 3

    @pytest.mark.parametrize("how", ["close", "send", "throw"])
    @pytest.mark.parametrize("keyword", [False, True])
    def test_from_its_arguments_equality(self, how: str, keyword: bool) -> None:
        """The arguments are compared where the call holds them."""

        class Key:
            def __init__(self) -> None:
                self.ballast = ["x"] * 1000

            def __hash__(self) -> int:
                return 5

            def __eq__(self, other: object) -> bool:
                if calls:
                    call = calls.pop()
                    with pytest.raises(ValueError, match="already executing"):
                        {"close": call.close, "send": lambda: call.send(None)}.get(
                            how, lambda: call.throw(KeyError)
                        )()
                    gc.collect()
                    said.append(how)
                return self.ballast == other.ballast  # type: ignore[attr-defined]

        def ask() -> Any:
            return get(Key(), y=Key()) if keyword else get(Key())

        @cached
        async def get(x: Any, y: Any = None) -> str:
            return "value"

        calls: list[Any] = []
        said: list[str] = []
        assert finished(ask()) == "value"
        for _ in range(9):
            call = ask()
            calls.append(call)
            assert finished(call) == "value"
        assert said == [how] * 9

    def test_the_first_value_sent_must_be_none(self) -> None:
        call = same(1)
        with pytest.raises(TypeError, match="non-None"):
            call.send(1)
        assert finished(call) == 1  # which does not spoil it

    def test_two_threads_send_at_once(self) -> None:
        """One of them gets the value."""
        run(same(1))
        for _ in range(200):
            call = same(1)
            barrier = threading.Barrier(2)

            def send(call: Any = call, barrier: Any = barrier) -> Any:
                barrier.wait(LIMIT)
                try:
                    call.send(None)
                except StopIteration as stop:
                    return stop.value
                except (RuntimeError, ValueError) as error:
                    return type(error)

            got = run_threads([send, send])
            assert 1 in got and (RuntimeError in got or ValueError in got)


class TestNeverAwaited:
    def test_warns(self) -> None:
        for _ in range(200):  # memory of calls is used again
            with pytest.warns(RuntimeWarning, match="coroutine 'same' was never awaited"):
                same(1)

    def test_warns_of_a_method(self) -> None:
        class Shop:
            @cached
            async def price(self, sku: str) -> str:
                return sku

        with pytest.warns(RuntimeWarning, match=r"Shop.price' was never awaited"):
            Shop().price("tea")

    def test_warns_after_others_were_awaited(self) -> None:
        for _ in range(200):
            run_hits = [same(1) for _ in range(3)]
            for call in run_hits:
                call.close()
        with pytest.warns(RuntimeWarning, match="never awaited"):
            same(1)

    def test_warns_in_a_cycle(self) -> None:
        holder: list[Any] = []
        call = echo(holder)
        holder.append(call)
        gone = weakref.ref(call)
        del call
        del holder
        with pytest.warns(RuntimeWarning, match="never awaited"):
            gc.collect()
        assert gone() is None

    def test_no_warning(self, recwarn: pytest.WarningsRecorder) -> None:
        same(1).close()
        finished(same(1))
        with pytest.raises(KeyError):
            same(1).throw(KeyError)
        gc.collect()
        assert [str(w.message) for w in recwarn] == []

    def test_warnings_as_errors(self) -> None:
        """The interpreter cannot raise there: it says so, and goes on."""
        out = run_python(
            """
import sys, warnings
from fastcache import cached
warnings.simplefilter("error")
seen = []
sys.unraisablehook = lambda u: seen.append(type(u.exc_value).__name__)
@cached
async def f(x): return x
f(1)
print(seen)
"""
        )
        assert out == "['RuntimeWarning']\n"


class TestThrowAndClose:
    def test_throw_before_it_starts(self) -> None:
        for thrown in (KeyError, KeyError("x")):
            call = same(1)
            with pytest.raises(KeyError):
                call.throw(thrown)
            with pytest.raises(RuntimeError):
                call.send(None)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_throw_of_three_arguments(self) -> None:
        try:
            raise KeyError("x")
        except KeyError as caught:
            trace = caught.__traceback__
        call = same(1)
        with pytest.raises(ValueError, match="why") as raised:
            call.throw(ValueError, "why", trace)
        shown = traceback.extract_tb(raised.value.__traceback__)
        assert any("test_throw_of_three_arguments" in frame.name for frame in shown)

    def test_throw_while_it_waits(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            call = get(1)
            future = call.send(None)
            assert asyncio.isfuture(future)
            assert call.cr_suspended and not call.cr_running
            assert call.cr_await is not None and call.cr_frame is not None
            assert call.cr_code is not None
            with pytest.raises(KeyError):
                call.throw(KeyError)
            assert call.cr_await is None and not call.cr_suspended
            source.release()
            await turns(lambda: source.ended == [1])
            assert get.cache_contains(1)  # it was not a cancellation, so the load went on

        run(main())

    def test_close_while_it_waits(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            call = get(1)
            call.send(None)
            call.close()
            with pytest.raises(RuntimeError):
                await call
            source.release()
            await turns(lambda: bool(source.ended or source.cancelled))
            assert await get(1)

        run(main())

    def test_dropped_while_it_waits(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            call = get(1)
            call.send(None)
            del call
            gc.collect()
            source.release()
            assert await get(1) == (1, 1)

        run(main())

    def test_attributes_at_each_stage(self) -> None:
        call = same("stages")
        none = (call.cr_await, call.cr_frame, call.cr_code, call.cr_origin)
        assert none == (None,) * 4 and not call.cr_running and not call.cr_suspended
        finished(call)
        assert call.cr_await is None and not call.cr_running and not call.cr_suspended

    def test_nothing_of_a_caught_stop_iteration_stays(self) -> None:
        class Token:
            pass

        def catch() -> tuple[Any, Any]:
            frame_local = Token()
            value = Token()
            get = _identified(value)
            finished(get())
            try:
                next(get().__await__())
            except StopIteration as stop:
                assert stop.value is value
            get.cache_clear()
            return weakref.ref(frame_local), weakref.ref(value)

        frame, value = catch()
        gc.collect()
        assert frame() is None and value() is None

    def test_an_awaited_value_is_not_kept(self) -> None:
        class Token:
            pass

        @cached
        async def get() -> Token:
            return Token()

        async def main() -> None:
            await get()
            await turns(lambda: len(asyncio.all_tasks()) == 1)  # the load's, which holds it too
            await asyncio.sleep(0)
            seen = weakref.ref(await get())
            get.cache_clear()
            assert seen() is None

        run(main())


# ---- what a hit costs --------------------------------------------------------------------------


class TestHit:
    def test_no_python_frame_and_no_task(self) -> None:
        @cached(ttl=60)
        async def get(x: int, y: int = 0) -> int:
            return x

        class Shop:
            @cached(ttl=60)
            async def price(self, sku: int) -> int:
                return sku

        shop = Shop()
        frames: list[str] = []

        def note(frame: types.FrameType, event: str, arg: object) -> None:
            if event == "call":
                frames.append(frame.f_code.co_qualname)

        async def main() -> None:
            await get(1), await get(1, y=2), await shop.price(1)
            tasks = asyncio.all_tasks()
            loop = asyncio.get_running_loop()
            made: list[Any] = []

            def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
                made.append(coroutine)
                return asyncio.Task(coroutine, loop=loop, **options)

            loop.set_task_factory(factory)
            sys.setprofile(note)
            try:
                for _ in range(9):
                    await get(1)
                    await get(1, y=2)
                    await shop.price(1)
            finally:
                sys.setprofile(None)
            assert frames == []
            assert made == [] and asyncio.all_tasks() == tasks

        run(main())

    def test_no_turn_of_the_loop(self) -> None:
        async def main() -> None:
            await same(1)
            turned: list[int] = []
            asyncio.get_running_loop().call_soon(turned.append, 1)
            for _ in range(9):
                await same(1)
            assert turned == []
            await asyncio.sleep(0)
            assert turned == [1]

        run(main())

    def test_traced(self) -> None:
        """Tracing functions see raised StopIterations, so these must be whole."""
        seen: list[str] = []

        def trace(frame: types.FrameType, event: str, arg: Any) -> Any:
            seen.append(event)
            return trace

        async def main() -> list[Any]:
            sys.settrace(trace)
            try:
                return [await same((i % 3,)) for i in range(9)]
            finally:
                sys.settrace(None)

        before = sys.gettrace()
        try:
            assert run(main()) == [(i % 3,) for i in range(9)]
        finally:
            sys.settrace(before)
        assert seen

    def test_memory_and_references_stay(self) -> None:
        class Token:
            pass

        token, value = Token(), Token()

        @cached
        async def get(x: Any, y: Any = None, **more: Any) -> Any:
            return value

        async def many(rounds: int) -> None:
            for _ in range(rounds):
                await get(token)
                await get(token, token)
                await get(token, y=token)

        async def main() -> tuple[int, int, int, int]:
            await many(100)
            gc.collect()
            before = sys.getrefcount(token), sys.getrefcount(value), sys.getrefcount(None)
            await many(3000)
            gc.collect()
            after = sys.getrefcount(token), sys.getrefcount(value), sys.getrefcount(None)
            assert after[:2] == before[:2]
            assert abs(after[2] - before[2]) < 1000  # 9,000 awaits
            return None  # type: ignore[return-value]

        run(main())

    def test_references_of_misses_and_of_calls_not_awaited(self) -> None:
        class Token:
            def __hash__(self) -> int:
                return 1

        token = Token()

        @cached
        async def get(x: Any, y: Any = None) -> Any:
            if y == "fail":
                raise KeyError
            return 1

        async def main() -> None:
            for how in range(2):
                if how:
                    before = sys.getrefcount(token)
                for _ in range(200):
                    await get(token)
                    with pytest.raises(KeyError):
                        await get(token, "fail")
                    get(token).close()
                    with pytest.raises(ValueError):
                        get(token, y=token).throw(ValueError)
                    get.cache_clear()
                gc.collect()
            assert sys.getrefcount(token) == before

        run(main())

    def test_statistics(self) -> None:
        @cached(maxsize=2)
        async def get(x: int) -> int:
            if x < 0:
                raise ValueError(x)
            return x

        async def main() -> None:
            for x in (1, 1, 2, 1, 3, 1):
                await get(x)
            with pytest.raises(ValueError):
                await get(-1)

        run(main())
        stats = get.cache.stats()
        assert get.cache_info() == (3, 4, 2, 2)
        assert (stats.hits, stats.misses, stats.loads, stats.load_failures) == (3, 4, 4, 1)

    def test_counts_once_each_however_many_wait(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            tasks = [asyncio.create_task(get(1)) for _ in range(100)]
            await turns(lambda: bool(source.calls))
            await turns(lambda: get.cache.stats().misses == 100)
            source.release()
            await asyncio.gather(*tasks)

        run(main())
        stats = get.cache.stats()
        assert (stats.hits, stats.misses, stats.loads) == (0, 100, 1)


# ---- when things happen ------------------------------------------------------------------------


class TestAtTheAwait:
    def test_vary_is_looked_at_there(self) -> None:
        user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

        @cached(vary=[user])
        async def get(x: int) -> str:
            return user.get()

        async def main() -> None:
            user.set("a")
            call = get(1)
            user.set("b")
            assert await call == "b"
            user.set("a")
            assert await get(1) == "a"
            context = contextvars.copy_context()
            context.run(user.set, "c")
            assert await asyncio.create_task(get(1), context=context) == "c"
            assert await get(1) == "a"

        run(main())

    def test_invalidated_between_call_and_await(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            assert await get(1) == (1, 1)
            call = get(1)
            task = asyncio.create_task(get(1))
            get.cache_invalidate(1)
            assert await call == (1, 2)
            assert await task == (1, 2)

        run(main())

    def test_expired_between_call_and_await(self, source: Source) -> None:
        clock = FakeClock()
        get = cached(ttl=10, clock=clock)(source.load)

        async def main() -> None:
            await get(1)
            call = get(1)
            clock.advance(10)
            assert await call == (1, 2)

        run(main())

    def test_the_call_counts_nothing(self) -> None:
        @cached
        async def get(x: int) -> int:
            return x

        get(1).close()
        assert get.cache_info()[:2] == (0, 0)

    def test_invalidated_while_loading(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            early = asyncio.create_task(get(1))
            await turns(lambda: source.calls == [1])
            get.cache_invalidate(1)
            late = asyncio.create_task(get(1))
            await turns(lambda: source.calls == [1, 1])
            source.release()
            assert await early == (1, 2) or await early == (1, 1)
            assert await late == (1, 2)
            assert await get(1) == (1, 2)

        run(main())


# ---- cancellation, time-outs -------------------------------------------------------------------


class TestCancellation:
    def test_the_last_caller_ends_the_load(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            tasks = [asyncio.create_task(get(1)) for _ in range(3)]
            await turns(lambda: bool(source.calls))
            tasks[0].cancel()  # it led
            tasks[1].cancel()
            await asyncio.wait(tasks[:2])
            for _ in range(9):
                await asyncio.sleep(0)
            assert source.cancelled == []
            tasks[2].cancel()
            await asyncio.wait(tasks)
            await turns(lambda: source.cancelled == [1])
            assert all(task.cancelled() for task in tasks)
            source.release()
            assert await get(1) == (1, 2)

        run(main())

    def test_all_at_once(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            tasks = [asyncio.create_task(get(1)) for _ in range(9)]
            await turns(lambda: bool(source.calls))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await turns(lambda: source.cancelled == [1])

        run(main())

    def test_a_new_caller_while_the_load_is_being_cancelled(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            first = asyncio.create_task(get(1))
            await turns(lambda: bool(source.calls))
            first.cancel()
            await asyncio.wait([first])
            source.release()
            assert await get(1) in ((1, 1), (1, 2))

        run(main())

    def test_who_leads_is_not_cancelled_with_the_load(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The only one who waits so far, in another thread, gives up while the leader is about to wait."""
        calls: list[int] = []

        @cached
        async def get(x: int) -> int:
            calls.append(x)
            if len(calls) == 1:
                await asyncio.Event().wait()
            return len(calls)

        begun, given_up = threading.Event(), threading.Event()
        leader = threading.current_thread()
        looks = []

        def loop() -> Any:
            if threading.current_thread() is leader:
                looks.append(None)
                if len(looks) == 2:  # it has begun the load, and does not wait for it yet
                    begun.set()
                    assert given_up.wait(LIMIT)
            return asyncio._get_running_loop()

        async def give_up() -> None:
            waiting = asyncio.create_task(get(1))
            flight, leads = board(get.cache, 1)
            assert not leads
            await turns(lambda: flight.followers > 0)
            waiting.cancel()
            await asyncio.wait([waiting])

        def other() -> None:
            assert begun.wait(LIMIT)
            try:
                run(give_up())
            finally:
                given_up.set()

        monkeypatch.setattr(get._loader, "_loop", loop)
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        assert run(get(1)) == 2
        thread.join(LIMIT)

    def test_wait_for_and_timeout_of_one_caller(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            source.shut()
            waiting = asyncio.create_task(get(1))
            await turns(lambda: bool(source.calls))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(get(1), 0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await get(1)
            assert source.cancelled == []
            source.release()
            assert await waiting == (1, 1)

        run(main())

    def test_a_load_that_declines_to_be_cancelled_lands(self) -> None:
        began = []

        @cached
        async def get(x: int) -> str:
            began.append(x)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "all the same"
            raise AssertionError

        async def main() -> None:
            task = asyncio.create_task(get(1))
            await turns(lambda: bool(began))
            task.cancel()
            await asyncio.wait([task])
            await turns(lambda: get.cache_contains(1))
            assert await get(1) == "all the same"

        run(main())

    def test_the_function_raises_cancelled_error(self) -> None:
        """Not because it was cancelled: whoever asked for it gets it, and nobody asks for ever."""
        calls: list[int] = []

        @cached
        async def get(x: int) -> int:
            calls.append(x)
            assert len(calls) < 99, "it is called for ever"
            await asyncio.sleep(0)
            raise asyncio.CancelledError("mine")

        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            for _ in range(3):
                with pytest.raises(asyncio.CancelledError):
                    await get(1)
                assert task.cancelling() == 0
            assert len(calls) == 3
            calls.clear()
            got = await asyncio.gather(*(get(1) for _ in range(9)), return_exceptions=True)
            assert all(isinstance(e, asyncio.CancelledError) for e in got)
            assert 1 <= len(calls) <= 9

        run(main())

    def test_the_load_alone_is_cancelled_from_outside(self) -> None:
        tasks: list[Any] = []

        @cached
        async def get(x: int) -> int:
            tasks.append(asyncio.current_task())
            await asyncio.Event().wait()
            return x

        async def main() -> None:
            caller = asyncio.create_task(get(1))
            await turns(lambda: bool(tasks))
            tasks[0].cancel()
            await asyncio.wait([caller])
            assert caller.cancelled() and len(tasks) == 1

        run(main())

    @pytest.mark.parametrize("options", [{}, {"hard_timeout": LIMIT}], ids=["plain", "timed"])
    def test_what_is_no_exception(
        self, options: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Grave(BaseException):
            pass

        calls: list[int] = []

        @cached(**options)
        async def get(x: int) -> int:
            calls.append(x)
            assert len(calls) < 99, "it is called for ever"
            raise Grave(x)

        async def main() -> None:
            for _ in range(3):
                with pytest.raises(Grave):
                    await get(1)
            assert len(calls) == 3
            got = await asyncio.gather(*(get(1) for _ in range(9)), return_exceptions=True)
            assert all(isinstance(e, Grave) for e in got)
            gc.collect()

        run(main())
        assert caplog.records == []

    def test_keyboard_interrupt_in_a_load(self) -> None:
        @cached
        async def get(x: int) -> int:
            if not interrupted:
                interrupted.append(1)
                raise KeyboardInterrupt
            return x

        interrupted: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(get(1))
        assert run(get(1)) == 1
        gc.collect()

    def test_cancelled_before_it_begins(self, source: Source) -> None:
        get = cached(source.load)

        async def main() -> None:
            task = asyncio.create_task(get(1))
            task.cancel()
            await asyncio.wait([task])
            assert source.calls == []
            call = asyncio.create_task(get(1))
            await asyncio.sleep(0)  # the load's task is made, and has not begun
            call.cancel()
            await asyncio.wait([call])
            assert await get(1)

        run(main())

    def test_at_every_turn(self, source: Source) -> None:
        """Wherever a caller is cancelled, the next one gets a value, and nothing stays behind."""
        get = cached(source.load)

        async def main() -> None:
            for steps in range(20):
                get.cache_clear()
                task = asyncio.create_task(get(steps))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                assert (await get(steps))[0] == steps
                await asyncio.wait([task])

        run(main())


class TestTimeouts:
    def test_every_callers_time_out_is_shorter(self, source: Source) -> None:
        get = cached(hard_timeout=0.01)(source.load)

        async def main() -> None:
            source.shut()
            got = await asyncio.gather(*(get(1) for _ in range(9)), return_exceptions=True)
            assert [type(e) for e in got] == [TimeoutError] * 9
            assert "hard_timeout=0.01" in str(got[0])
            assert source.calls == [1] and source.cancelled == []
            source.release()
            await turns(lambda: get.cache_contains(1))
            assert await get(1) == (1, 1)

        run(main())

    def test_soft_timeout_serves_the_old_value(self, source: Source) -> None:
        clock = FakeClock()
        get = cached(ttl=10, grace=60, soft_timeout=0.01, clock=clock)(source.load)

        async def main() -> None:
            assert await get(1) == (1, 1)
            clock.advance(10)
            source.shut()
            assert await get(1) == (1, 1)
            assert source.calls == [1, 1]
            source.release()
            await turns(lambda: get.cache_contains(1))
            assert await get(1) == (1, 2)

        run(main())

    def test_wait_timeout_computes_through(self, source: Source) -> None:
        get = cached(wait_timeout=0.01)(source.load)

        async def main() -> None:
            source.shut()
            leader = asyncio.create_task(get(1))
            await turns(lambda: source.calls == [1])
            source.open = True
            assert await get(1) == (1, 2)
            assert not get.cache_contains(1)
            source.release()
            assert await leader == (1, 2)  # its number is taken when it ends
            assert get.cache_contains(1)

        run(main())


# ---- renewals ----------------------------------------------------------------------------------


class TestRenewals:
    @pytest.mark.parametrize("options", [{"refresh": 0.5}, {"stale": 60}], ids=str)
    def test_on_the_calling_loop(self, source: Source, options: dict[str, Any]) -> None:
        clock = FakeClock()
        loops: list[Any] = []

        @cached(ttl=10, clock=clock, **options)
        async def get(x: int) -> Any:
            loops.append(asyncio.get_running_loop())
            return await source.load(x)

        async def main() -> None:
            assert await get(1) == (1, 1)
            clock.advance(6 if "refresh" in options else 11)
            source.shut()
            before = asyncio.all_tasks()
            for _ in range(9):
                assert await get(1) == (1, 1)
            assert len(asyncio.all_tasks() - before) == 1
            await turns(lambda: source.calls == [1, 1])
            source.release()
            await turns(lambda: len(source.ended) == 2)
            await asyncio.sleep(0)
            assert await get(1) == (1, 2)
            assert loops == [asyncio.get_running_loop()] * 2

        run(main())

    def test_bounded(self) -> None:
        from fastcache.loading import tasks

        clock = FakeClock()
        running = 0
        most = 0

        @cached(maxsize=None, ttl=10, stale=1000, clock=clock)
        async def get(x: int) -> int:
            nonlocal running, most
            if clock.now:
                running += 1
                most = max(most, running)
                await gate.wait()
                running -= 1
            return x

        async def main() -> None:
            nonlocal gate
            gate = asyncio.Event()
            for x in range(tasks.MOST_RENEWALS + 100):
                await get(x)
            clock.advance(11)
            for x in range(tasks.MOST_RENEWALS + 100):
                assert await get(x) == x
            await turns(lambda: running == tasks.MOST_RENEWALS)
            gate.set()
            await turns(lambda: running == 0)
            assert most == tasks.MOST_RENEWALS

        gate: asyncio.Event
        run(main())

    def test_one_that_fails_leaves_the_old_value(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = FakeClock()

        @cached(ttl=10, stale=60, clock=clock)
        async def get(x: int) -> int:
            if clock.now:
                raise OSError("down")
            return x

        async def main() -> None:
            await get(1)
            clock.advance(11)
            assert await get(1) == 1
            await turns(lambda: bool(caplog.records))
            assert "renewing failed" in caplog.text
            assert await get(1) == 1

        with caplog.at_level(logging.WARNING, "fastcache"):
            run(main())

    def test_loops_closed_while_they_renew_take_no_room(self) -> None:
        """A loop closed too early never ends its tasks; they must not count for ever."""
        from fastcache.loading import tasks

        clock = FakeClock()
        began: list[int] = []

        @cached(maxsize=None, ttl=10, stale=1e9, clock=clock)
        async def get(x: int) -> int:
            if clock.now:
                began.append(x)
                await asyncio.Event().wait()
            return x

        async def ask() -> None:
            for x in range(tasks.MOST_RENEWALS):
                assert await get(x) == x
            await asyncio.sleep(0)

        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(ask())
            clock.advance(11)
            began.clear()
            loop.run_until_complete(ask())
            loop.close()
            assert len(began) == tasks.MOST_RENEWALS
            assert tasks._renewals.reach(1) is False

        run(ask())
        gc.collect()

    @pytest.mark.parametrize("end", ["asyncio.run", "closed", "stopped", "daemon"])
    @pytest.mark.parametrize("kind", ["renewal", "load", "not begun"])
    def test_no_noise_at_exit(self, end: str, kind: str) -> None:
        script = """
import asyncio, sys, threading, warnings
warnings.simplefilter("always")
from fastcache import cached
from fastcache.testing import FakeClock
end, kind = sys.argv[1:]
clock = FakeClock()
@cached(ttl=10, stale=60, hard_timeout=0.01, clock=clock)
async def get(x):
    if clock.now:
        try:
            await asyncio.Event().wait()
        finally:
            print("finally")
    return x
async def main():
    await get(1)
    clock.advance(11)
    if kind == "load":
        try:
            await get(2)
        except TimeoutError:
            pass
    else:
        await get(1)
    if kind != "not begun":
        await asyncio.sleep(0)
if end == "asyncio.run":
    asyncio.run(main())
else:
    loop = asyncio.new_event_loop()
    if end == "daemon":
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(main(), loop).result()
    else:
        loop.run_until_complete(main())
        if end == "closed":
            loop.close()
print("end")
"""
        out, errors = run_quiet(script, end, kind)
        assert "end" in out
        if end == "stopped":  # its user did not close it, and Python says so
            errors = "".join(x for x in errors.splitlines(True) if "unclosed" not in x)
            errors = errors.replace('  _warn(f"unclosed event loop {self!r}", source=self)\n', "")
        assert errors == ""


def run_quiet(script: str, *arguments: str) -> tuple[str, str]:
    """Standard output and standard error of a script that exits with code 0."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# ---- errors ------------------------------------------------------------------------------------


class TestErrors:
    def test_shared_by_all_waiters(self) -> None:
        error = KeyError("mine")

        @cached
        async def fail(x: int) -> None:
            await asyncio.sleep(0)
            raise error

        async def main() -> None:
            got = await asyncio.gather(*(fail(1) for _ in range(9)), return_exceptions=True)
            assert all(e is error for e in got)
            assert fail.cache.stats().loads == 1
            with pytest.raises(KeyError):
                await fail(1)
            assert fail.cache.stats().loads == 2

        run(main())

    def test_the_traceback_does_not_grow_with_the_waiters(self) -> None:
        lengths: list[int] = []

        @cached
        async def fail(x: int) -> None:
            await asyncio.sleep(0)
            raise KeyError(x)

        async def ask() -> None:
            try:
                await fail(1)
            except KeyError as error:
                frames = traceback.extract_tb(error.__traceback__)
                lengths.append(len(frames))
                assert frames[0].name == "ask" and frames[-1].name == "fail"

        async def main() -> None:
            await asyncio.gather(*(ask() for _ in range(50)))

        run(main())
        assert len(lengths) == 50 and max(lengths) == min(lengths)

    def test_no_reference_cycle(self) -> None:
        class Mine(Exception):
            pass

        @cached
        async def fail(x: int) -> None:
            await asyncio.sleep(0)
            raise Mine(x)

        async def one() -> weakref.ref[BaseException]:
            try:
                await fail(1)
            except Mine as error:
                return weakref.ref(error)
            raise AssertionError

        async def main() -> None:
            gc.collect()
            gc.disable()
            try:
                seen = [await one() for _ in range(3)]
                seen += await asyncio.gather(*(one() for _ in range(3)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert [ref() for ref in seen] == [None] * 6
            finally:
                gc.enable()

        run(main())

    def test_in_the_key_function(self) -> None:
        @cached(key=lambda x: 1 // x)
        async def get(x: int) -> int:
            return x

        with pytest.raises(ZeroDivisionError):
            run(get(0))
        assert run(get(1)) == 1

    def test_stop_iteration_from_the_function(self) -> None:
        @cached
        async def get(x: int) -> int:
            raise StopIteration(x)

        with pytest.raises(RuntimeError, match="StopIteration"):
            run(get(1))

    def test_kept_errors_are_fresh(self) -> None:
        calls: list[int] = []

        @cached(error_ttl={KeyError: 60})
        async def get(x: int) -> int:
            calls.append(x)
            raise KeyError(x)

        async def main() -> None:
            seen = []
            for _ in range(3):
                with pytest.raises(KeyError) as raised:
                    await get(1)
                seen.append(raised.value)
            assert len({id(e) for e in seen}) == 3 and calls == [1]

        run(main())

    def test_a_function_that_is_not_async_after_all(self) -> None:
        """Its call returns an awaitable that is no coroutine."""

        @cached
        async def get(x: int) -> int:
            return x

        class Returns:
            async def __call__(self, x: int) -> int:
                return await get(x)

        assert run(cached(Returns())(3)) == 3


# ---- from within -------------------------------------------------------------------------------


class TestNested:
    def test_the_same_key_from_its_own_load(self) -> None:
        @cached
        async def get(x: int) -> int:
            nonlocal calls
            calls += 1
            return 1 if calls > 1 else 10 + await get(x)

        calls = 0
        assert run(get(1)) == 11
        assert run(get(1)) == 11

    def test_through_gather_and_tasks(self) -> None:
        @cached
        async def get(x: int) -> int:
            nonlocal calls
            calls += 1
            if calls > 1:
                return 1
            a, b = await asyncio.gather(get(x), asyncio.create_task(get(x)))
            return 10 + a + b

        calls = 0
        assert run(get(1)) == 12

    def test_a_loads_b_while_b_loads_a(self) -> None:
        began: list[str] = []

        @cached
        async def get(name: str) -> str:
            if name in began:
                return name.upper()
            began.append(name)
            await turns(lambda: len(began) == 2)
            return name + await get("b" if name == "a" else "a")

        async def main() -> None:
            got = await asyncio.gather(get("a"), get("b"))
            assert got in (["ab" + "A", "bA"], ["aB", "b" + "aB"], ["aB", "bA"], ["abA", "bA"])

        run(main())

    def test_recursion(self) -> None:
        @cached(maxsize=None)
        async def fib(n: int) -> int:
            return n if n < 2 else await fib(n - 1) + await fib(n - 2)

        assert run(fib(60)) == 1548008755920
        assert fib.cache.stats().loads == 61


# ---- methods -----------------------------------------------------------------------------------


class Obj:
    alive = 0

    def __init__(self) -> None:
        Obj.alive += 1

    def __del__(self) -> None:
        Obj.alive -= 1

    @cached
    async def m(self, x: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return id(self), x


class TestMethods:
    def test_of_temporaries(self) -> None:
        async def main() -> None:
            for _ in range(3):
                assert (await Obj().m(1))[1] == 1
                assert (await asyncio.create_task(Obj().m(2)))[1] == 2
            calls = [Obj().m(3) for _ in range(3)]
            gc.collect()
            assert len({(await call)[0] for call in calls}) == 3

        Obj.alive = 0
        run(main())
        gc.collect()
        assert Obj.alive == 0

    def test_entries_of_each_instance(self) -> None:
        async def main() -> None:
            a, b = Obj(), Obj()
            assert (await a.m(1))[0] == id(a)
            assert (await b.m(1))[0] == id(b)
            assert (await Obj.m(a, 1))[0] == id(a)
            assert a.m.cache_info()[:2] == (1, 1)
            call = a.m(1)
            assert a.m.cache_invalidate(1)
            await call
            assert a.m.cache_info()[:2] == (1, 2)

        run(main())

    def test_the_instance_lives_as_long_as_its_call(self) -> None:
        Obj.alive = 0
        call = Obj().m(1)
        assert Obj.alive == 1
        call.close()
        gc.collect()
        assert Obj.alive == 0

    def test_cycles_through_a_call_are_collected(self) -> None:
        class Node:
            @cached
            async def get(self, x: Any = None) -> int:
                return 1

        def cycle(args: int) -> weakref.ref[Any]:
            node = Node()
            node.call = node.get(*[node] * args)  # type: ignore[attr-defined]
            return weakref.ref(node)

        for args in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                if args < 2:
                    gone = cycle(args)
                    gc.collect()
                    assert gone() is None

    def test_cycles_through_a_suspended_call(self, source: Source) -> None:
        async def main() -> None:
            get = cached(key=lambda x, box: x)(Waits().load)
            box: list[Any] = []
            call = get(1, box)
            box.append(call)
            call.send(None)
            gone = weakref.ref(call)
            del box, call
            for _ in range(3):
                await asyncio.sleep(0)
                gc.collect()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            del task
            for _ in range(3):
                await asyncio.sleep(0)
                gc.collect()
            assert gone() is None

        class Waits:
            async def load(self, x: int, box: Any) -> int:
                await asyncio.Event().wait()
                return x

        run(main())


# ---- many loops, many threads ------------------------------------------------------------------


class TestLoops:
    def test_one_load_over_loops(self) -> None:
        begun, gate = threading.Event(), threading.Event()
        calls: list[int] = []

        @cached
        async def get(x: int) -> int:
            calls.append(x)
            begun.set()
            await asyncio.to_thread(gate.wait, LIMIT)
            return x

        def other() -> Any:
            async def main() -> Any:
                tasks = [asyncio.create_task(get(1)) for _ in range(9)]
                await turns(lambda: get.cache.stats().misses >= 10)
                return await asyncio.gather(*tasks)

            return run(main())

        def release() -> None:
            begun.wait(LIMIT)
            until(lambda: get.cache.stats().misses == 1 + 4 * 9)
            gate.set()

        assert run_threads([lambda: run(get(1)), *[_after(begun, other)] * 4, release]) == [
            1,
            *[[1] * 9] * 4,
            None,
        ]
        assert calls == [1]

    def test_at_random(self) -> None:
        @cached(maxsize=8, ttl=60, refresh=0.5)
        async def get(x: int) -> int:
            await asyncio.sleep(0)
            if x % 7 == 6:
                raise KeyError(x)
            return x

        async def worker(seed: int) -> None:
            for i in range(60):
                x = (i * seed) % 13
                if i % 11 == 0:
                    get.cache_invalidate(x)
                task = asyncio.create_task(get(x))
                if i % 5 == 0:
                    await asyncio.sleep(0)
                    task.cancel()
                try:
                    assert await task == x
                except KeyError:
                    assert x % 7 == 6
                except asyncio.CancelledError:
                    assert i % 5 == 0

        async def main(seed: int) -> None:
            await asyncio.gather(*(worker(seed + n) for n in range(10)))

        def thread(seed: int) -> Callable[[], Any]:
            return lambda: run(main(seed))

        assert run_threads([thread(n) for n in range(1, 5)]) == [None] * 4
        get.cache._check()

    def test_a_thread_and_a_task_share_a_load(self) -> None:
        """get_or_set in a thread, `cached` in a task, one key of one cache."""
        cache: Cache[Any, Any] = Cache(9)
        begun, gate = threading.Event(), threading.Event()
        loads: list[str] = []

        @cached(cache=cache, namespace="n")
        async def get(x: int) -> str:
            loads.append("task")
            begun.set()
            await asyncio.to_thread(gate.wait, LIMIT)
            return "task"

        @cached(cache=cache, namespace="n")
        def get_sync(x: int) -> str:
            loads.append("thread")
            begun.set()
            gate.wait(LIMIT)
            return "thread"

        assert get.cache_key(1) == get_sync.cache_key(1)
        for first, second in (
            (lambda: run(get(1)), lambda: get_sync(1)),
            (lambda: get_sync(1), lambda: run(get(1))),
        ):
            cache.clear()
            cache.stats(reset=True)
            begun.clear(), gate.clear(), loads.clear()

            def release() -> None:
                begun.wait(LIMIT)
                until(lambda: cache.stats().misses == 2)
                gate.set()

            one, two, _ = run_threads([first, _after(begun, second), release])
            assert one == two and len(loads) == 1

    def test_a_sync_call_on_the_loop_that_runs_its_leader(self) -> None:
        cache: Cache[Any, Any] = Cache(9)

        @cached(cache=cache, namespace="n")
        async def get(x: int) -> str:
            await gate.wait()
            return "task"

        @cached(cache=cache, namespace="n")
        def get_sync(x: int) -> str:
            return "through"

        async def main() -> None:
            nonlocal gate
            gate = asyncio.Event()
            task = asyncio.create_task(get(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert get_sync(1) == "through"
            gate.set()
            assert await task == "task"
            assert get_sync(1) == "task"

        gate: asyncio.Event
        run(main())


def _after(event: threading.Event, function: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        assert event.wait(LIMIT)
        return function()

    return call


# ---- anyio and trio ----------------------------------------------------------------------------


class TestAnyio:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_task_groups(self, backend: str, source: Source) -> None:
        @cached
        async def get(x: int) -> tuple[int, str]:
            calls.append(x)
            await anyio.sleep(0)
            return x, backend

        calls: list[int] = []
        got: list[Any] = []

        async def ask(x: int) -> None:
            got.append(await get(x))

        async def main() -> None:
            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    for _ in range(9):
                        group.start_soon(ask, 1)
                await get(1)

        anyio.run(main, backend=backend)
        assert got == [(1, backend)] * 9
        assert len(calls) == (1 if backend == "asyncio" else 9)
        assert get.cache_info().hits == 1

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_move_on_after(self, backend: str) -> None:
        began, cancelled = [], []

        @cached
        async def get(x: int) -> int:
            began.append(x)
            if len(began) > 1:
                return x
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled.append(x)
                raise
            raise AssertionError

        async def main() -> None:
            with anyio.fail_after(LIMIT):
                with anyio.move_on_after(0.01) as scope:
                    await get(1)
                assert scope.cancelled_caught
                while not cancelled:
                    await anyio.sleep(0)
                assert await get(1) == 1
                assert await get(1) == 1

        anyio.run(main, backend=backend)
        assert began == [1, 1] and cancelled == [1]

    def test_one_of_several_moves_on(self, source: Source) -> None:
        get = cached(source.load)
        got: list[Any] = []

        async def ask() -> None:
            got.append(await get(1))

        async def main() -> None:
            with anyio.fail_after(LIMIT):
                source.shut()
                async with anyio.create_task_group() as group:
                    group.start_soon(ask)
                    while not source.calls:
                        await anyio.sleep(0)
                    with anyio.move_on_after(0.01):
                        await get(1)
                    assert source.cancelled == []
                    source.release()

        anyio.run(main, backend="asyncio")
        assert got == [(1, 1)]

    def test_cancel_scopes_inside_the_load(self) -> None:
        @cached
        async def get(x: int) -> str:
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            return "moved on"

        for backend in ("asyncio", "trio"):
            get.cache_clear()

            async def main() -> None:
                assert await get(1) == "moved on"

            anyio.run(main, backend=backend)


class TestTrio:
    def test_hits_and_misses(self) -> None:
        @cached(ttl=60)
        async def get(x: int) -> int:
            calls.append(x)
            await trio.sleep(0)
            return x

        calls: list[int] = []

        async def main() -> None:
            for _ in range(3):
                assert await get(1) == 1
            assert calls == [1] and get.cache_info()[:2] == (2, 1)

        trio.run(main)

    def test_misses_compute_through(self) -> None:
        @cached
        async def get(x: int) -> int:
            calls.append(x)
            await trio.sleep(0.01)
            return len(calls)

        calls: list[int] = []

        async def main() -> None:
            with trio.fail_after(LIMIT):
                async with trio.open_nursery() as nursery:
                    for _ in range(9):
                        nursery.start_soon(get, 1)

        trio.run(main)
        assert len(calls) == 9 and get.cache_contains(1)

    def test_options_that_wait_for_another(self) -> None:
        clock = FakeClock()

        @cached(ttl=10, stale=5, grace=60, hard_timeout=5, clock=clock)
        async def get(x: int) -> float:
            await trio.sleep(0)
            if clock.now > 50:
                raise OSError("down")
            return clock.now

        async def main() -> None:
            with trio.fail_after(LIMIT):
                assert await get(1) == 0
                clock.advance(12)
                assert await get(1) == 0  # no loop to renew on
                clock.advance(10)
                assert await get(1) == 22
                clock.advance(30)
                assert await get(1) == 22  # grace

        trio.run(main)

    def test_cancelled(self) -> None:
        @cached
        async def get(x: int) -> int:
            if fail:
                await trio.sleep_forever()
            return x

        fail = True

        async def main() -> None:
            nonlocal fail
            with trio.move_on_after(0.01) as scope:
                await get(1)
            assert scope.cancelled_caught
            fail = False
            assert await get(1) == 1
            assert get.cache_contains(1)

        trio.run(main)

    def test_fenced(self) -> None:
        @cached
        async def get(x: int) -> int:
            get.cache_invalidate(x)
            return x

        async def main() -> None:
            assert await get(1) == 1
            assert not get.cache_contains(1)

        trio.run(main)

    def test_beside_a_loop_of_asyncio(self) -> None:
        begun, gate = threading.Event(), threading.Event()

        @cached
        async def get(x: int) -> str:
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                await asyncio.to_thread(gate.wait, LIMIT)
                return "asyncio"
            return "trio"

        async def main() -> None:
            assert await get(1) == "trio"  # it does not wait for the other's load
            gate.set()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            other = pool.submit(lambda: run(get(1)))
            assert begun.wait(LIMIT)
            trio.run(main)
            assert other.result(LIMIT) == "asyncio"


@pytest.mark.timing
def test_memory_stays_flat_over_a_million_awaits() -> None:
    out = run_python(
        """
import asyncio, os
from fastcache import cached
@cached
async def get(x, y=None):
    return (x,)
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
async def main():
    for r in range(5):
        for i in range(100_000):
            await get(i % 100)
            await get(1, y=2)
        if r == 0:
            first = memory()
    print((memory() - first) // 1024)
asyncio.run(main())
"""
        if sys.platform == "linux"
        else "print(0)"
    )
    assert int(out) < 2048, f"{out} kB more"
