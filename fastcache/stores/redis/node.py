"""One server: its connections, of threads and of each event loop, kept in stacks."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from fastcache.stores.redis.errors import WireError
from fastcache.stores.redis.wire import AsyncWire, Wire, open_wire

if TYPE_CHECKING:
    from fastcache.stores.redis.wire import Way

#: Seconds of rest after which a connection is looked at before it is used again.
REST: Final = 1.0
#: Seconds for which what is known of a server's clock holds.
KNOWN: Final = 10.0

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _boottime() -> float:
    return time.clock_gettime(_BOOT)  # type: ignore[arg-type]


#: Seconds on a clock that runs on while the machine is suspended, where there is one.
now = time.monotonic if _BOOT is None else _boottime


class Clock:
    """What is known of a server's clock. Never behind it: what is left of a ttl is not overestimated."""

    __slots__ = ("_ahead", "_until")

    def __init__(self) -> None:
        self._ahead = 0.0
        self._until = 0.0

    def heard(self, asked: float, answer: list[bytes]) -> None:
        """asked: `now()` before TIME was sent, so that the server's clock may be behind what we think."""
        self._ahead = int(answer[0]) + int(answer[1]) / 1e6 - asked
        self._until = asked + KNOWN

    def at(self, moment: float) -> float | None:
        """The server's time in seconds at `now()` = moment; None if not known."""
        return moment + self._ahead if moment < self._until else None


class _Loop:
    """The connections of one event loop."""

    __slots__ = ("idle", "made", "ref", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ref = weakref.ref(loop)
        self.idle: list[AsyncWire] = []
        self.made = 0
        self.waiters: deque[asyncio.Future[None]] = deque()

    def over(self) -> bool:
        loop = self.ref()
        return loop is None or loop.is_closed()

    def wake(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        for wire in self.idle:
            wire.close()
        self.made -= len(self.idle)
        self.idle.clear()


class Node:
    """A server. Safe from several threads and event loops at once.

    most: connections that the threads together, and each event loop, may have.
    """

    def __init__(self, way: Way, most: int) -> None:
        self.way = way
        self.clock = Clock()
        self.most = most
        self._begin()

    def _begin(self) -> None:
        self._idle: list[Wire] = []
        self._made = 0
        self._waiting = 0
        self._changed = threading.Condition()
        self._loops: dict[int, _Loop] = {}
        self._era = 0  # advanced when connections made so far are not to be used again
        self._closed = False

    def after_fork(self) -> list[Any]:
        """In a child: forget the parent's connections. Returns what must not be touched, nor dropped: what belongs
        to the parent's event loops."""
        kept: list[Any] = list(self._loops.values())
        idle, closed = self._idle, self._closed
        self._begin()
        self._closed = closed
        for wire in idle:
            wire.close()  # our descriptor of it alone
        return kept

    # ---- threads -----------------------------------------------------------------------------------

    def one(self, data: bytes) -> Any:
        try:
            wire = self._idle.pop()
        except IndexError:
            wire = self._take()
        else:
            if monotonic() - wire.used > REST and wire.stale():
                wire = self._replace(wire)
        try:
            reply = wire.one(data)
        except BaseException:
            self._drop()
            raise
        wire.used = monotonic()
        self._idle.append(wire)
        if self._waiting or self._closed:
            self._given_back()
        return reply

    def many(self, data: bytes, count: int) -> list[Any]:
        try:
            wire = self._idle.pop()
        except IndexError:
            wire = self._take()
        else:
            if monotonic() - wire.used > REST and wire.stale():
                wire = self._replace(wire)
        try:
            replies = wire.many(data, count)
        except BaseException:
            self._drop()
            raise
        wire.used = monotonic()
        self._idle.append(wire)
        if self._waiting or self._closed:
            self._given_back()
        return replies

    def _take(self) -> Wire:
        """A connection, new or given back by another thread within the time of a trip."""
        end = monotonic() + self.way.trip
        with self._changed:
            while True:
                if self._closed:
                    raise self._is_closed()
                if self._idle:
                    return self._idle.pop()
                if self._made < self.most:
                    self._made += 1
                    break
                self._waiting += 1
                try:
                    # `one` gives back without the lock: whoever looked just before it is not woken.
                    self._changed.wait(min(0.05, max(0.0, end - monotonic())))
                finally:
                    self._waiting -= 1
                if monotonic() >= end and not self._idle:
                    raise self._too_many()
        try:
            return Wire(self.way)
        except BaseException:
            self._drop()
            raise

    def _replace(self, wire: Wire) -> Wire:
        """A new connection instead of one that the server closed; nothing has been sent on that one."""
        wire.close()
        self._drop_idle()  # the others are as old
        try:
            return Wire(self.way)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        with self._changed:
            self._made -= 1
            self._changed.notify()

    def _drop_idle(self) -> None:
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return
            wire.close()
            self._drop()

    def _given_back(self) -> None:
        if self._closed:
            self._drop_idle()
        with self._changed:
            self._changed.notify()

    # ---- tasks ---------------------------------------------------------------------------------------

    async def aone(self, data: bytes) -> Any:
        return (await self.amany(data, 1))[0]

    async def amany(self, data: bytes, count: int) -> list[Any]:
        loop = asyncio.get_running_loop()
        own = self._loops.get(id(loop))
        if own is None or own.ref() is not loop:
            own = self._new_loop(loop)
        wire = own.idle.pop() if own.idle else await self._atake(own, loop)
        if wire.stale():
            # Its loss was seen while it rested: nothing has been sent.
            own.made -= 1
            wire = await self._atake(own, loop)
        try:
            replies = await wire.many(data, count)
        except BaseException:
            own.made -= 1
            own.wake()
            raise
        if self._closed:
            wire.close()
            own.made -= 1
        else:
            own.idle.append(wire)
        if own.waiters:
            own.wake()
        return replies

    def _new_loop(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        with self._changed:
            for key, other in list(self._loops.items()):
                if other.over():
                    del self._loops[key]
            own = self._loops[id(loop)] = _Loop(loop)
        return own

    async def _atake(self, own: _Loop, loop: asyncio.AbstractEventLoop) -> AsyncWire:
        end = loop.time() + self.way.trip
        while True:
            if self._closed:
                raise self._is_closed()
            while own.idle:
                wire = own.idle.pop()
                if not wire.stale():
                    return wire
                own.made -= 1
            if own.made < self.most:
                own.made += 1
                break
            waiter = loop.create_future()
            own.waiters.append(waiter)
            try:
                async with asyncio.timeout_at(end):
                    await waiter
            except TimeoutError:
                raise self._too_many() from None
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    own.wake()  # the turn was ours: hand it on
                raise
        try:
            return await open_wire(self.way)
        except BaseException:
            own.made -= 1
            own.wake()
            raise

    # ---- the end -------------------------------------------------------------------------------------

    def _too_many(self) -> WireError:
        text = f"all {self.most} connections (max_connections) are busy for {self.way.trip} seconds"
        return WireError(self.way.where, "clients", text, sent=False)

    def _is_closed(self) -> WireError:
        return WireError(self.way.where, "closed", "the store is closed", sent=False)

    def close(self) -> None:
        """Close what no request uses; those that run close theirs. Connections of other event loops are closed by
        their loops."""
        self._closed = True
        self._drop_idle()
        with self._changed:
            self._changed.notify_all()
        for own in list(self._loops.values()):
            loop = own.ref()
            if loop is None or loop.is_closed():
                continue
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is loop:
                own.close()
            else:
                try:
                    loop.call_soon_threadsafe(own.close)
                except RuntimeError:  # closed meanwhile
                    continue
