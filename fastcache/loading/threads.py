"""Loads of plain functions: in the caller's thread; with a time-out, and in the background, in a pool."""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import os
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from fastcache.loading.loader import LOAD, Call, Loader, Step, finish, log

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fastcache._core import Flight
    from fastcache.loading.loader import Load, Old


class _Crew:
    """The threads of a pool, in one process.

    There is no lock, since whoever holds one may be interrupted, by a signal handler or a __del__ that
    the collector calls, which comes here too and then waits for a load that cannot begin. Each step
    below is one call into C; `idle` has an item for each thread that sleeps and that nobody has called.
    """

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], object]] = deque()
        self.idle: deque[None] = deque()
        self.calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.started: deque[None] = deque()

    def next_job(self) -> Callable[[], object]:
        """The oldest job, once there is one."""
        while True:
            with contextlib.suppress(IndexError):
                return self.jobs.popleft()
            self.idle.append(None)
            if self.jobs and self.take_idle():
                continue  # one came before it could see that this thread is idle
            self.calls.get()

    def take_idle(self) -> bool:
        with contextlib.suppress(IndexError):
            self.idle.pop()
            return True
        return False


class Pool:
    """Daemon threads that start when there is work, and wait for more.

    size: threads at most. backlog: jobs that may wait; None is unbounded. Daemons, so that a load that
    never returns keeps no interpreter from exiting. A forked child starts with none.
    """

    def __init__(self, name: str, size: int, backlog: int | None) -> None:
        self.name = name
        self.size = size
        self.backlog = backlog
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._crew = _Crew()
        self._inside = threading.local()

    def inside(self) -> bool:
        """Whether the caller is one of these threads."""
        return getattr(self._inside, "yes", False)

    def submit(self, job: Callable[[], object]) -> bool:
        """Have job() called soon; False: too many wait already, or no thread can be had."""
        if type(self._crew.calls) is not queue.SimpleQueue:
            self._reset()  # gevent has come since, and its threads must not wait for real locks
        crew = self._crew
        if self.backlog is not None and not crew.idle and len(crew.jobs) >= self.backlog:
            return False
        crew.jobs.append(job)
        if crew.take_idle():
            crew.calls.put(None)
        elif len(crew.started) < self.size:
            crew.started.append(None)
            try:
                # not a threading.Thread, whose start waits for the thread under locks
                _thread.start_new_thread(self._work, (crew, len(crew.started)))
            except RuntimeError:  # no more threads, or the interpreter is on its way out
                crew.started.pop()
                if not crew.started:
                    crew.jobs.remove(job)
                    return False
        return True

    def _work(self, crew: _Crew, number: int) -> None:
        self._inside.yes = True
        threading.current_thread().name = f"{self.name}-{number}"
        while crew is self._crew:  # in a child forked by a job this thread works no more
            job = crew.next_job()
            try:
                job()
            except Exception:  # noqa: BLE001 - logged; the thread goes on
                # a load ends its flight whatever happens; what is left is a fault of ours
                log.exception("a background load failed in an unexpected way")
            except BaseException as error:  # noqa: BLE001 - SystemExit and the like, that end no thread here
                log.warning("a load in a background thread was ended by %r", error)
            del job


#: Renewals are worth having, but nobody waits for them: few threads, and no more than this many wait.
renewals = Pool("fastcache-renewal", 4, 256)
#: Loads with a time-out. One that hangs keeps its thread, so there are more of these.
timed = Pool("fastcache-load", 64, None)


def carry_out(load: Load) -> None:
    """Call what the load wants called, and tell it what came of it. Raises only what is no Exception."""
    wanted = next(load, None)
    while wanted is not None:
        function, args, kwargs = wanted
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            wanted = finish(load, None, error)
            if not isinstance(error, Exception):
                try:
                    _tidy(load, wanted)
                finally:
                    load.close()
                raise
        else:
            wanted = finish(load, value, None)


def _tidy(load: Load, wanted: Any) -> None:
    """Call what a load that was interrupted wants done before it ends."""
    while wanted is not None:
        function, args, kwargs = wanted
        try:
            value = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - for the load to handle
            wanted = finish(load, None, error)
        else:
            wanted = finish(load, value, None)


class ThreadLoader(Loader):
    """For plain functions. Safe from any thread.

    No frame of a call keeps its flight: an error's traceback would hold the frame, the frame the
    flight, and the flight the error.
    """

    def _run(self, steps: Generator[Step, Any, Any], call: Call) -> Any:
        answer: Any = None
        try:
            while True:
                answer = self._do(steps.send(answer), call)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    def _do(self, step: Step, call: Call) -> Any:
        flight = step.flight
        try:
            if flight is None:
                return call.function(*call.args, **call.kwargs)
            if step.what != LOAD:
                return flight.wait(step.seconds)
            self._load(flight, call, step.old, step.own)
        finally:
            del step, flight

    def _load(
        self, flight: Flight, call: Call, old: Old | None, own: list[BaseException] | None
    ) -> None:
        if (self.soft_timeout is not None or self.hard_timeout is not None) and not timed.inside():
            flight.hand_over()
            load = self.load(flight, call, old, own)
            context = contextvars.copy_context()
            if timed.submit(lambda: context.run(carry_out, load)):
                return
        load = self.load(flight, call, old)
        del flight
        carry_out(load)

    def _start(self, load: Load, flight: Flight, call: Call) -> bool:
        flight.hand_over()
        context = contextvars.copy_context()
        return renewals.submit(lambda: context.run(carry_out, load))
