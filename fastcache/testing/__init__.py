"""Helpers for tests of programs that use fastcache."""

from __future__ import annotations

import threading

from fastcache import _lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import timedelta
    from typing import Any

    from fastcache.testing.conformance import StoreConformance as StoreConformance
    from fastcache.testing.faults import FaultProxy as FaultProxy

__all__ = [
    "FakeClock",
    "FaultProxy",
    "Race",
    "StoreConformance",
    "invalidated_while_loading",
    "invalidated_while_loading_async",
]

#: What is imported when it is first asked for, and where it is.
_LATER = {
    "FaultProxy": "fastcache.testing.faults",
    "StoreConformance": "fastcache.testing.conformance",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)


class FakeClock:
    """A clock that stands still until it is told to move: `Cache(..., clock=FakeClock())`.

    start: seconds. Calling it returns `now`, which may also be set; it may go backwards.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.now = float(start)

    def __call__(self) -> float:
        """Seconds, as a clock for Cache."""
        return self.now

    def advance(self, seconds: float | timedelta) -> None:
        """Move by seconds (or a timedelta)."""
        if not isinstance(seconds, (int, float)):
            seconds = seconds.total_seconds()
        self.now += seconds

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.now!r})"


class Race:
    """What `invalidated_while_loading` saw; a version is the number that the source then had.

    first: what the call got whose load had read version 1. during: what a call got that began after the
    invalidation and before that load ended; None in the round without one. after: what a call got
    after both. loads: how often the source was read.
    """

    __slots__ = ("after", "during", "first", "loads")

    def __init__(self, first: object, during: object, after: object, loads: int) -> None:
        self.first, self.during, self.after, self.loads = first, during, after, loads

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self.__slots__))
        return f"{type(self).__name__}({fields})"


def invalidated_while_loading(
    decorate: Callable[[Callable[[str], Any]], Callable[[str], Any]],
    *,
    invalidate: Callable[[Any, str], object] | None = None,
    patience: float = 1.0,
) -> tuple[Race, Race]:
    """Whether a cache keeps what was invalidated while it loaded: the race that makes caches stale.

    A load reads version 1 of a source; the source changes to version 2, and its key is invalidated;
    then the load ends. From the moment on that `invalidate` returned, no new call may get version 1. It
    is played twice, without and with a call between the invalidation and the end of the load, in threads
    that wait for each other, so that the outcome does not depend on chance.

    decorate(load) returns the cached function, called with one key, a str. invalidate(function, key)
    is by default function.cache_invalidate(key). patience: seconds that the load is held back for an
    `invalidate`, or a call, that waits for it to end, and the tenth part of what counts as hung.

    Returns what was seen in the two rounds. Raises AssertionError if a call got an older version, or
    hung; and whatever `decorate`, the function or `invalidate` raise.

        from fastcache.testing import invalidated_while_loading
        invalidated_while_loading(fastcache.cached(ttl=60))
    """
    return _play(decorate, invalidate, patience, None)


def invalidated_while_loading_async(
    decorate: Callable[
        [Callable[[str], Coroutine[Any, Any, Any]]], Callable[[str], Awaitable[Any]]
    ],
    *,
    invalidate: Callable[[Any, str], object] | None = None,
    patience: float = 1.0,
) -> tuple[Race, Race]:
    """`invalidated_while_loading` for async functions: `decorate` gets an async load, the calls are awaited
    as tasks of one event loop, which runs in a thread of its own, and `invalidate` is called there, and
    awaited if it returns an awaitable. Itself it is a plain, blocking call."""
    import asyncio

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        return _play(decorate, invalidate, patience, loop)
    finally:
        asyncio.run_coroutine_threadsafe(_wind_up(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run does, which could not be called from within another loop."""
    import asyncio

    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_default_executor()


def _play(
    decorate: Callable[[Any], Any],
    invalidate: Callable[[Any, str], object] | None,
    patience: float,
    loop: asyncio.AbstractEventLoop | None,
) -> tuple[Race, Race]:
    races = [
        _Round(decorate, invalidate, patience, loop).play(meanwhile) for meanwhile in (False, True)
    ]
    return races[0], races[1]


class _Round:
    """One round of the race, over a source of its own."""

    def __init__(
        self,
        decorate: Callable[[Any], Any],
        invalidate: Callable[[Any, str], object] | None,
        patience: float,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.version = 1
        self.loads = 0
        self.has_read = threading.Event()
        self.may_end = threading.Event()
        self.patience = patience
        self.loop = loop
        self.key = "key"
        self.function = decorate(self.load if loop is None else self.load_async())
        self.invalidate = invalidate or (lambda function, key: function.cache_invalidate(key))

    def load(self, key: str) -> int:
        """The source; the first to read it is held back."""
        self.loads += 1
        first, version = self.loads == 1, self.version
        if first:
            self.has_read.set()
            self.may_end.wait(10 * self.patience)
        return version

    def load_async(self) -> Callable[[str], Coroutine[Any, Any, int]]:
        async def load(key: str) -> int:
            assert self.loop is not None
            # in a thread, so that the loop stays free for the others
            return await self.loop.run_in_executor(None, self.load, key)

        return load

    def start(self, name: str, call: Callable[[], Any], *ended: threading.Event) -> _Running:
        return _Running(name, call, self.loop, *ended)

    def get(self) -> Any:
        return self.function(self.key)

    def play(self, meanwhile: bool) -> Race:
        held = [self.start("the call that loads", self.get, self.has_read)]
        during = None
        try:
            self.has_read.wait(10 * self.patience)
            if not self.loads:
                held[0].result(0.0)  # which says what it raised
                raise AssertionError(f"{self.function!r} returned without a load")
            self.version = 2
            # a cache may make these wait for the load: then it has to end
            held.append(self.start("invalidate", lambda: self.invalidate(self.function, self.key)))
            returned = held[1].ended.wait(self.patience)
            if meanwhile and returned:
                during = self.start("the call while it loads", self.get)
                held.append(during)
                during.ended.wait(self.patience)
        finally:
            self.may_end.set()
        first, *_ = [running.result(10 * self.patience) for running in held]
        after = self.start("the call afterwards", self.get).result(10 * self.patience)
        race = Race(first, None if during is None else during.value, after, self.loads)
        for when, got in (("while that load ran", race.during), ("after that load", race.after)):
            if got is not None and got != 2:
                raise AssertionError(
                    f"{self.function!r} keeps what was invalidated while it loaded: the source had "
                    f"version 2 and the key was invalidated, but a call {when} got version {got!r}; {race!r}"
                )
        return race


class _Running:
    """A call in a thread of its own, or on a loop."""

    def __init__(
        self,
        name: str,
        call: Callable[[], Any],
        loop: asyncio.AbstractEventLoop | None,
        *ended: threading.Event,
    ) -> None:
        self.name = name
        self.call = call
        self.ended = threading.Event()
        self.events = (self.ended, *ended)
        self.value: Any = None
        self.error: BaseException | None = None
        if loop is None:
            threading.Thread(target=self._run, daemon=True).start()
        else:
            import asyncio

            asyncio.run_coroutine_threadsafe(self._await(), loop)

    def _run(self) -> None:
        try:
            self.value = self.call()
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self.error = error
        finally:
            for event in self.events:
                event.set()

    async def _await(self) -> None:
        try:
            value = self.call()
            self.value = await value if hasattr(value, "__await__") else value
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self.error = error
        finally:
            for event in self.events:
                event.set()

    def result(self, limit: float) -> Any:
        if not self.ended.wait(limit):
            raise AssertionError(f"{self.name} did not end in {limit} seconds")
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.value
