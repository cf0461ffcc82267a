"""One server: its connections, of threads and of each event loop, kept in stacks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastcache.stores.redis.async_wire import AsyncWire, open_wire
from fastcache.stores.redis.errors import WireError
from fastcache.stores.redis.wire import Wire

if TYPE_CHECKING:
    from fastcache.stores.redis.topology import Finder
    from fastcache.stores.redis.way import Way

#: Seconds of rest after which a connection is looked at before it is used again.
REST: Final = 1.0
#: Seconds for which what is known of a server's clock holds.
KNOWN: Final = 10.0
#: By more seconds than this no measurement is wrong: the clock was set.
STEP: Final = 1.0

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _boottime() -> float:
    return time.clock_gettime(_BOOT)  # type: ignore[arg-type]


#: Seconds on a clock that runs on while the machine is suspended, where there is one.
now = time.monotonic if _BOOT is None else _boottime


class Clock:
    """What is known of a server's clock. Never behind it: what is left of a ttl is not overestimated."""

    __slots__ = ("_ahead", "_since", "_until")

    def __init__(self) -> None:
        self._ahead = 0.0
        self._since = 0.0
        self._until = 0.0

    def heard(self, asked: float, answer: list[bytes]) -> None:
        """asked: `now()` before TIME was sent, so that the server's clock may be behind what we think."""
        try:
            ahead = int(answer[0]) + int(answer[1]) / 1e6 - asked
        except (IndexError, TypeError, ValueError):
            return  # it makes no sense: then what was known holds
        # A better measurement than the last one would bring values back that were dead a moment ago, so it has to
        # wait; unless somebody has set the clock.
        if not (0 < self._ahead - ahead < STEP and asked < self._since + KNOWN):
            self._ahead, self._since = ahead, asked
        self._until = asked + KNOWN

    def at(self, moment: float) -> float | None:
        """The server's time in seconds at `now()` = moment; None if not known."""
        return moment + self._ahead if moment < self._until else None


class Sent(NamedTuple):
    """What was sent, and when: on `now()`, and on the clock of time-outs."""

    wire: Wire
    asked: float
    begun: float


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

    def forget(self) -> None:
        """Close what no task uses, without the loop."""
        while self.idle:
            self.idle.pop().forget()

    def wake(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """On the loop: close what no task uses."""
        self.made -= len(self.idle)
        for wire in self.idle:
            wire.close()
        self.idle.clear()
        self.wake()


class Node:
    """A server. Safe from several threads and event loops at once.

    most: connections that the threads together, and each event loop, may have.
    finder: where the server's address has to be asked for.
    """

    def __init__(self, way: Way, most: int, finder: Finder | None = None) -> None:
        self.way = way
        self.clock = Clock()
        self.most = most
        #: For those who keep away from a server that does not answer: until when.
        self.down = 0.0
        self._finder = finder
        self._begin()
        self._closed = False

    def _begin(self) -> None:
        self._idle: list[Wire] = []
        self._made = 0
        self._waiting = 0
        self._changed = threading.Condition()
        self._loops: dict[int, _Loop] = {}

    def after_fork(self) -> None:
        """In a child: forget the parent's connections, which closes our descriptors of them alone."""
        idle, loops = self._idle, self._loops
        self._begin()
        for wire in idle:
            wire.close()
        for own in loops.values():
            own.forget()

    # ---- threads -----------------------------------------------------------------------------------

    def one(self, data: bytes) -> Any:
        """The reply to one command."""
        wire = self.take()
        try:
            reply = wire.one(data)
        except BaseException as error:
            self.lost(error)
            raise
        self.give(wire)
        return reply

    def many(self, data: bytes, count: int, timed: bool = False) -> list[Any]:
        """The replies to several. timed: the first asks for the time, and its reply is left out."""
        return self.finish(self.begin(data), count, timed)

    def begin(self, data: bytes) -> Sent:
        """Send; the replies are to be read by `finish`, or given up by `drop`."""
        wire = self.take()
        asked = now()
        try:
            return Sent(wire, asked, wire.begin(data))
        except BaseException as error:
            self.lost(error)
            raise

    def finish(self, sent: Sent, count: int, timed: bool) -> list[Any]:
        try:
            replies = sent.wire.finish(sent.begun, count)
        except BaseException as error:
            self.lost(error)
            raise
        self.give(sent.wire)
        if timed:
            self.heard(sent.asked, replies)
        return replies

    def drop(self, sent: Sent, error: BaseException) -> None:
        """Nobody wants the replies any more."""
        sent.wire.close()
        self.lost(error)

    def heard(self, asked: float, replies: list[Any]) -> None:
        """Take the time from the first of these."""
        time = replies.pop(0)
        if type(time) is list:
            self.clock.heard(asked, time)

    def take(self) -> Wire:
        """A connection: to be given back, or reported as lost."""
        try:
            wire = self._idle.pop()
        except IndexError:
            return self._new()
        if monotonic() - wire.used > REST and wire.stale():
            # The server closed it while it rested, and the others as well. Nothing has been sent.
            wire.close()
            self._lost()
            self._drop_idle()
            return self._new()
        return wire

    def give(self, wire: Wire) -> None:
        wire.used = monotonic()
        self._idle.append(wire)
        if self._waiting or self._closed or wire.way is not self.way:
            self._given_back(wire)

    def lost(self, error: BaseException) -> None:
        """A connection that was taken is closed, because of this."""
        self._lost()
        if isinstance(error, WireError) and error.kind == "closed":
            self._drop_idle()
        self.lost_primary(error)

    def _new(self) -> Wire:
        """A new connection, or one that another thread gives back within the time of a trip."""
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
                left = end - monotonic()
                if left <= 0:
                    raise self._too_many()
                self._waiting += 1
                try:
                    # `give` takes no lock: who looked just before it is not woken.
                    self._changed.wait(min(0.05, left))
                finally:
                    self._waiting -= 1
        try:
            if self._finder is not None and not self.way.address.host:
                self._found(self._finder.run())
            return Wire(self.way)
        except BaseException as error:
            self._lost()
            self.lost_primary(error)
            raise

    def _lost(self) -> None:
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
            self._lost()

    def _given_back(self, wire: Wire) -> None:
        if self._closed or wire.way is not self.way:
            self._drop_idle()
        with self._changed:
            self._changed.notify()

    def _found(self, way: Way) -> None:
        if (
            way.address != self.way.address
        ):  # else another was quicker, and its connections are good
            self.way = way

    def lost_primary(self, error: BaseException) -> None:
        """A server that is not where it was, or not what it was, is asked for anew."""
        if self._finder is not None and isinstance(error, WireError):
            self.way = self._finder.unknown()
            self.clock = Clock()
            self.rest()

    # ---- tasks ---------------------------------------------------------------------------------------

    async def aone(self, data: bytes) -> Any:
        return (await self.amany(data, 1))[0]

    async def amany(self, data: bytes, count: int, timed: bool = False) -> list[Any]:
        loop = asyncio.get_running_loop()
        own = self._loops.get(id(loop))
        if own is None or own.ref() is not loop:
            own = self._new_loop(loop)
        wire = own.idle.pop() if own.idle else await self._anew(own, loop)
        if (
            wire.lost()
            or wire.way is not self.way
            or (0.0 < wire.used < monotonic() - REST and wire.stale())
        ):
            # Lost while it rested: nothing has been sent.
            wire.close()
            own.made -= 1
            wire = await self._anew(own, loop)
        asked = now() if timed else 0.0
        try:
            replies = await wire.many(data, count)
        except BaseException as error:
            own.made -= 1
            own.wake()
            self.lost_primary(error)
            raise
        if self._closed:
            wire.close()
            own.made -= 1
        else:
            wire.used = monotonic()
            own.idle.append(wire)
        if own.waiters:
            own.wake()
        if timed:
            self.heard(asked, replies)
        return replies

    def _new_loop(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        with self._changed:
            for key, other in list(self._loops.items()):
                if other.over():
                    self._loops.pop(key).forget()
            own = self._loops[id(loop)] = _Loop(loop)
        return own

    async def _anew(self, own: _Loop, loop: asyncio.AbstractEventLoop) -> AsyncWire:
        end = loop.time() + self.way.trip
        while True:
            if self._closed:
                raise self._is_closed()
            while own.idle:
                wire = own.idle.pop()
                if not wire.lost() and wire.way is self.way:
                    return wire
                wire.close()
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
            if self._finder is not None and not self.way.address.host:
                self._found(await self._finder.arun())
            return await open_wire(self.way)
        except BaseException as error:
            own.made -= 1
            own.wake()
            self.lost_primary(error)
            raise

    # ---- the end -------------------------------------------------------------------------------------

    def _too_many(self) -> WireError:
        text = f"all {self.most} connections (max_connections) are busy for {self.way.trip} seconds"
        return WireError(self.way.where, "clients", text, sent=False)

    def _is_closed(self) -> WireError:
        return WireError(self.way.where, "closed", "the store is closed", sent=False)

    def close(self) -> None:
        """Close what no request uses, and soon what belongs to event loops. Those that run close theirs."""
        self._closed = True
        self.rest()

    def rest(self) -> None:
        """Close the connections that no request uses."""
        self._drop_idle()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        for own in list(self._loops.values()):
            loop = own.ref()
            if loop is running:
                own.close()
            elif own.over():
                own.forget()
            elif loop is not None:
                # closed in between, it has no connections any more
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(own.close)
