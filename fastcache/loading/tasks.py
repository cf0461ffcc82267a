"""Loads of async functions: in tasks of their own, so that no caller's time-out ends them."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Any

from fastcache.loading.loader import LOAD, Call, Loader, Step, finish, log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from fastcache._core import Flight
    from fastcache.loading.loader import Load

MOST_RENEWALS = 256
#: What asyncio wants to see itself.
THROUGH = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


def ends_in_error(error: BaseException) -> bool:
    """Whether what a load raised is for all who wait for it. A CancelledError is, unless it was the load
    that was cancelled: something that its function waited for was, and it would be again."""
    if isinstance(error, asyncio.CancelledError) and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)


class Tasks:
    """Tasks under way, over all loops, which their event loops hold weakly only.

    A loop that was closed too early never ends its tasks: they are dropped when there are many, and at
    exit, without the noise that asyncio makes about them, since their user has not made them.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._inherited: list[set[asyncio.Task[None]]] = []
        self._many = 64
        atexit.register(self._exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._fork)

    def reach(self, most: int) -> bool:
        """Whether there are so many, on loops that are not closed."""
        if len(self._tasks) < most:
            return False
        self._drop(lambda task: task.get_loop().is_closed())
        return len(self._tasks) >= most

    def add(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        if self.reach(self._many):
            self._many *= 2

    def discard(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)

    def _drop(self, is_lost: Callable[[asyncio.Task[None]], bool]) -> None:
        for task in list(self._tasks):
            if not task.done() and is_lost(task):
                self._tasks.discard(task)
                _quieten(task)
                coroutine = task.get_coro()
                try:
                    if coroutine is not None:
                        coroutine.close()
                except Exception:  # noqa: BLE001 - the user's `finally` has failed; nobody waits for it
                    log.exception("a load whose event loop was closed could not be ended")

    def _exit(self) -> None:
        for task in list(self._tasks):
            _quieten(task)
        self._drop(lambda task: not task.get_loop().is_running())

    def _fork(self) -> None:
        # not dropped: to end the parent's tasks could close what they share with it
        for task in self._tasks:
            _quieten(task)
        self._inherited.append(self._tasks)
        self._tasks = set()


def _quieten(task: Any) -> None:
    """No message when it is dropped before it has ended."""
    task._log_destroy_pending = False


_loads = Tasks()
_renewals = Tasks()


async def carry_out(load: Load, told: bool = False) -> None:
    """Await what the load wants called, and tell it what came of it. Raises only what is no error for
    all; if the caller who waits for it is told, only what asyncio wants to see."""
    wanted = next(load, None)
    while wanted is not None:
        function, args, kwargs = wanted
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            passed_on = ends_in_error(error)
            wanted = finish(load, None, error)
            if not passed_on:
                try:
                    if not isinstance(error, GeneratorExit):  # after which nothing can be awaited
                        await _tidy(load, wanted)
                finally:
                    load.close()
                if told and not isinstance(error, THROUGH):
                    return
                raise
        else:
            wanted = finish(load, value, None)


async def _tidy(load: Load, wanted: Any) -> None:
    """Await what a load that was cancelled wants done before it ends."""
    while wanted is not None:
        function, args, kwargs = wanted
        try:
            value = await function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - for the load to handle
            wanted = finish(load, None, error)
        else:
            wanted = finish(load, value, None)


class TaskLoader(Loader):
    """For async functions. Safe from any event loop; under another library than asyncio (trio) each
    miss computes for itself."""

    asynchronous = True
    ends_in_error = staticmethod(ends_in_error)

    def _loop(self) -> Any:
        return asyncio._get_running_loop()

    async def _run(self, steps: Generator[Step, Any, Any], call: Call) -> Any:
        answer: Any = None
        try:
            while True:
                answer = await self._do(steps.send(answer), call)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    async def _do(self, step: Step, call: Call) -> Any:
        flight = step.flight
        try:
            if flight is None:
                return await call.function(*call.args, **call.kwargs)
            if step.what == LOAD:
                if flight.loop is not None:
                    load = self.load(flight, call, step.old, step.own)
                    flight.task = spawn(carry_out(load, told=True), flight.abandon)
                    return None
                load = self.load(flight, call, step.old)
                flight = None
                return await carry_out(load)
            try:
                return await ended_in_loop(flight, step.seconds)
            except asyncio.CancelledError:
                _given_up(flight)
                raise
        finally:
            del step, flight  # see ThreadLoader

    def _start(self, load: Load, flight: Flight, call: Call) -> bool:
        if asyncio._get_running_loop() is None or _renewals.reach(MOST_RENEWALS):
            return False
        spawn(carry_out(load), flight.abandon, _renewals)
        return True


def spawn(
    coroutine: Coroutine[Any, Any, None],
    ended: Callable[[], None],
    held: Tasks = _loads,
) -> asyncio.Task[None]:
    """A task on this loop, held until it ends; then ended() is called, even if it never began."""
    task = asyncio.get_running_loop().create_task(coroutine)
    held.add(task)

    def done(task: asyncio.Task[None]) -> None:
        held.discard(task)
        ended()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, THROUGH):
            log.error("a load raised what is no Exception", exc_info=error)

    task.add_done_callback(done)
    return task


def _given_up(flight: Flight) -> None:
    """A caller was cancelled. The load goes on for the others; for nobody, it ends."""
    task, loop = flight.task, flight.loop
    if flight.followers > 1 or not task or not flight.running:
        return
    # who leads it may be on his way here, in another thread, and is not to be cancelled with it: he tries again
    flight.task = False
    if loop is asyncio._get_running_loop():
        task.cancel()
    else:
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # its loop has been closed, and the task with it
            flight.abandon_if_dead()


class _Sleeper:
    """A task of this loop that waits for a flight, whoever leads it."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.watch: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def call(self) -> None:
        """From any thread."""
        if asyncio._get_running_loop() is self.loop:
            self.wake()
        else:
            # RuntimeError: this loop was closed, so nobody waits any more
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.wake)

    def look(self) -> None:
        """Once a second: whether the leader still lives."""
        if not self.flight.abandon_if_dead():
            self.watch = self.loop.call_later(1.0, self.look)


async def ended_in_loop(flight: Flight, seconds: float | None) -> bool:
    """Whether the flight ends within so many seconds."""
    sleeper = _Sleeper(flight)
    if flight.loop is not None and flight.loop is not sleeper.loop and flight.abandon_if_dead():
        return True
    if not flight.notify(sleeper.call):
        return True
    limit = None
    if seconds is not None:
        limit = sleeper.loop.call_later(max(seconds, 0.0), sleeper.wake)
    if flight.loop is not sleeper.loop:
        sleeper.watch = sleeper.loop.call_later(1.0, sleeper.look)
    try:
        await sleeper.future
    finally:
        flight.forget(sleeper.call)
        for handle in (sleeper.watch, limit):
            if handle is not None:
                handle.cancel()
    return not flight.running
