"""The gate before L2: a breaker, so that an L2 that hangs costs a few time-outs and not one per call; and a cap on
the loads that then go to the source."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from fastcache.loading.loader import Doing

log = logging.getLogger("fastcache")

#: Failures in a row after which L2 is not asked any more.
FAILURES = 5
#: Seconds between two probes of an L2 that failed.
PROBE = 1.0


class Gate:
    """Whether L2 is worth asking. Safe from any thread; O(1).

    States: closed, L2 is asked; open, it is not, but for one probe at a time every PROBE seconds, whose
    success closes it again. (An electric breaker's words: a closed one conducts.)
    """

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.where = where
        self._clock = clock
        self._lock = threading.RLock()
        self._failures = 0
        self._probe_at = 0.0
        self.open = False
        self.opened_at = 0.0

    def forked(self) -> None:
        """In a child: who held the lock is not here."""
        self._lock = threading.RLock()

    def asks(self) -> bool:
        """Whether the caller may ask L2; it must tell `succeeded` or `failed`."""
        return not self.open

    @property
    def due(self) -> bool:
        """Whether it is time for a probe."""
        return self.open and self._clock() >= self._probe_at

    def may_probe(self) -> bool:
        """Whether it is time that somebody asks all the same; true for one caller at a time."""
        with self._lock:
            if self.open and self._clock() >= self._probe_at:
                self._probe_at = self._clock() + PROBE
                return True
            return False

    def succeeded(self) -> None:
        if not (self._failures or self.open):
            return
        with self._lock:
            was_open, self.open, self._failures = self.open, False, 0
        if was_open:
            log.warning(
                "%s answers again, after %.1f s", self.where, self._clock() - self.opened_at
            )

    def failed(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            opens = not self.open and self._failures >= FAILURES
            if opens:
                self.open = True
                self.opened_at = self._clock()
            self._probe_at = self._clock() + PROBE
        if opens:
            log.warning(
                "%s failed %d times in a row and is left out: %s", self.where, FAILURES, error
            )


#: Whether a load that has a place is what calls.
_within: ContextVar[bool] = ContextVar("fastcache_capped", default=False)


class Cap:
    """At most so many at a time. Never blocks: who gets no place asks again. Safe from any thread.

    What a load with a place loads in its turn needs none: it would wait for those who wait for it.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.RLock()
        self._left = most

    def enter(self) -> bool:
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._left += 1

    def wait(self, sleep: Callable[[float], Any], seconds: float) -> Doing[bool]:
        """Whether there is a place, to be left again, within so many seconds."""
        if _within.get():
            return False
        end = time.monotonic() + seconds
        while not self.enter():
            if time.monotonic() >= end:
                return False
            _, error = yield sleep, (0.005,), {}
            if error is not None:
                raise error
        return True

    @staticmethod
    def begin(capped: bool) -> Token[bool] | None:
        """The load, with a place or without, is called now, in this context."""
        return _within.set(True) if capped else None

    @staticmethod
    def end(token: Token[bool] | None) -> None:
        """It was called."""
        if token is not None:
            with contextlib.suppress(ValueError):  # the collector ends it, elsewhere
                _within.reset(token)
