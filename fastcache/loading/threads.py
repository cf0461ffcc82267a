"""Loads of plain functions: in the caller's thread; with a time-out, and in the background, in a pool."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from fastcache.loading.loader import LOAD, Call, Loader, Step, finish, log

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fastcache._core import Flight
    from fastcache.loading.loader import Load, Old


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
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._inside = threading.local()

    def inside(self) -> bool:
        """Whether the caller is one of these threads."""
        return getattr(self._inside, "yes", False)

    def submit(self, job: Callable[[], object]) -> bool:
        """Have job() called soon; False: too many wait already, or no thread can be had."""
        with self._lock:
            waiting = self._jobs.qsize()
            if self.backlog is not None and waiting >= self.backlog and self._idle <= waiting:
                return False
            if self._idle <= waiting and self._threads < self.size:
                self._threads += 1
                thread = threading.Thread(
                    target=self._work,
                    args=(self._jobs,),
                    name=f"{self.name}-{self._threads}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is on its way out
                    self._threads -= 1
                    if not self._threads:
                        return False
            self._jobs.put(job)
        return True

    def _work(self, jobs: queue.SimpleQueue[Callable[[], object]]) -> None:
        self._inside.yes = True
        while True:
            with self._lock:
                self._idle += 1
            job = jobs.get()
            with self._lock:
                self._idle -= 1
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


def carry_out(load: Load, kwargs: dict[str, Any], ended_by: list[BaseException]) -> None:
    """Call what the load wants called, and tell it what came of it. Raises only what is no Exception,
    which ended_by has then, too."""
    function, args = next(load)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        if not isinstance(error, Exception):
            ended_by.append(error)
            del ended_by  # else the traceback would hold the error
        finish(load, None, error)
        if not isinstance(error, Exception):
            raise
    else:
        finish(load, value, None)


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
                return self.function(*call.args, **call.kwargs)
            if step.what != LOAD:
                return flight.wait(step.seconds)
            return self._load(flight, call, step.old)
        finally:
            del step, flight

    def _load(self, flight: Flight, call: Call, old: Old | None) -> list[BaseException]:
        load = self.load(flight, call, old)
        ended_by: list[BaseException] = []
        if (self.soft_timeout is not None or self.hard_timeout is not None) and not timed.inside():
            flight.hand_over()
            context = contextvars.copy_context()
            if timed.submit(lambda: context.run(carry_out, load, call.kwargs, ended_by)):
                return ended_by
        del flight
        try:
            carry_out(load, call.kwargs, ended_by)
        finally:
            ended_by.clear()
        return ended_by

    def _start(self, load: Load, flight: Flight, call: Call) -> bool:
        flight.hand_over()
        context = contextvars.copy_context()
        return renewals.submit(lambda: context.run(carry_out, load, call.kwargs, []))
