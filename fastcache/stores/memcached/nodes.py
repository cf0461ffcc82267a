"""Connections to memcached servers: for threads and for event loops, from one pool.

A connection is a socket that carries one batch of commands at a time, and none again once anything about it
was unexpected: an error, a time-out, a cancellation, bytes that nobody asked for. So no reply is ever
taken for another's. Event loops use the sockets through `loop.sock_recv` and the like, which leave nothing behind, so
a connection belongs to no loop and no thread while it is idle.

Connections are numbered in the order in which they were made. The number tells whether a server can have been
restarted between two answers: see `Batch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import socket
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache.stores.memcached.meta import ProtocolError, Replies
from fastcache.stores.protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.memcached.meta import Command, Reply

_CHUNK = 262_144
#: Idle connections that are kept for each server.
_IDLE = 64
#: Requests of one event loop that are under way to one server at the same time.
_PER_LOOP = 32
#: Where there are several servers: after so many failures in a row requests to one fail at once, but for one
#: every so many seconds that tries it.
_FAILURES = 3
_REST = 1.0


class Batch(NamedTuple):
    """Commands for one server, sent one behind the other on one connection.

    newest: only a connection with this number or a lower one will do: one that was there when something
    was learnt, and still answers, proves that the server has not been restarted since. Without one that is idle the
    answer is None.
    """

    node: int
    commands: Sequence[Command]
    newest: int | None = None


class Answer(NamedTuple):
    """replies: one for each command. newest: the highest number of any connection when they were sent."""

    replies: Sequence[Reply]
    newest: int


class _Connection:
    """A connected socket that never blocks, and its number."""

    __slots__ = ("number", "poller", "socket")

    def __init__(self, connected: socket.socket, number: int) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.number = number
        self.poller: Any = None
        if hasattr(select, "poll"):
            self.poller = select.poll()
            self.poller.register(connected, select.POLLIN)

    def quiet(self) -> bool:
        """Neither closed by the server, nor with bytes that nobody has asked for."""
        return not self.comes(0.0)

    def comes(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds."""
        if self.poller is not None:
            return bool(self.poller.poll(seconds * 1000))
        return bool(select.select([self.socket], [], [], seconds)[0])

    def goes(self, seconds: float) -> bool:
        """Whether there is room to write within so many seconds."""
        if self.poller is None:
            return bool(select.select([], [self.socket], [], seconds)[1])
        self.poller.modify(self.socket, select.POLLOUT)
        try:
            return bool(self.poller.poll(seconds * 1000))
        finally:
            self.poller.modify(self.socket, select.POLLIN)

    def write(self, data: bytes, end: float) -> None:
        """All of it, before `end` (monotonic). OSError."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                if not self.goes(max(end - time.monotonic(), 0.0)):
                    raise TimeoutError from None

    def read(self, end: float) -> bytes:
        """What comes first, before `end`. OSError."""
        if not self.comes(max(end - time.monotonic(), 0.0)):
            raise TimeoutError
        data = self.socket.recv(_CHUNK)
        if not data:
            raise ConnectionError
        return data


class Node:
    """One server. address: (host, port), or the path of a unix socket. Safe from any thread and event loop."""

    def __init__(
        self,
        where: str,
        address: tuple[str, int] | str,
        *,
        timeout: float,
        connect_timeout: float,
        alone: bool,
    ) -> None:
        self.where = where
        self.address = address
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.alone = alone
        self.closed = False
        self.failures: Counter[str] = Counter()
        #: How far the server's clock is ahead of ours (monotonic), at least; and when that was learnt.
        self.clock: tuple[float, float] | None = None
        self._idle: list[_Connection] = []
        self._numbers = itertools.count(1)
        self._newest = 0
        self._row = 0  # failures since the last success
        self._rests = 0.0  # until when requests fail at once
        self._lock = threading.RLock()
        self._gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )
        _nodes.add(self)

    # ---- blocking ----------------------------------------------------------------------------------

    def send(self, commands: Sequence[Command], newest: int | None = None) -> Answer | None:
        """StoreError. None: no connection is old enough."""
        going = self.start(commands, newest)
        return None if going is None else self.finish(*going)

    def start(
        self, commands: Sequence[Command], newest: int | None = None
    ) -> tuple[_Connection, Replies, float, int] | None:
        """Send, and leave the replies to `finish`, so that several servers work at the same time."""
        connection = self._take(newest)
        if connection is None and newest is not None:
            return None
        made = self._newest
        try:
            if connection is None:
                connection, made = self._connect()
            end = time.monotonic() + self.timeout
            connection.write(b"".join([command.data for command in commands]), end)
        except BaseException as error:
            self._discard(connection)
            self._raise(error)
            raise
        return connection, Replies(commands), end, made

    def finish(self, connection: _Connection, replies: Replies, end: float, newest: int) -> Answer:
        try:
            while not replies.feed(connection.read(end)):
                pass
        except BaseException as error:
            self._discard(connection)
            self._raise(error)
            raise
        self._put_back(connection)
        return Answer(replies.replies, newest)

    def _connect(self) -> tuple[_Connection, int]:
        if isinstance(self.address, str):
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.settimeout(self.connect_timeout)
                connected.connect(self.address)
            except BaseException:
                connected.close()
                raise
        else:
            connected = socket.create_connection(self.address, self.connect_timeout)
        return self._made(connected)

    # ---- awaited -----------------------------------------------------------------------------------

    async def asend(self, commands: Sequence[Command], newest: int | None = None) -> Answer | None:
        """`send` on the running loop. A cancellation closes the connection."""
        loop = asyncio.get_running_loop()
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._gates.setdefault(loop, asyncio.Semaphore(_PER_LOOP))
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self.timeout + self.connect_timeout):
                await gate.acquire()
        except TimeoutError as error:
            self._raise(error, "too many requests are under way")
        try:
            connection = self._take(newest)
            if connection is None and newest is not None:
                return None
            made = self._newest
            if connection is None:
                async with asyncio.timeout(self.connect_timeout):
                    connection, made = self._made(await self._aconnect(loop))
            replies = Replies(commands)
            async with asyncio.timeout(self.timeout):
                await loop.sock_sendall(
                    connection.socket, b"".join([command.data for command in commands])
                )
                while True:
                    data = await loop.sock_recv(connection.socket, _CHUNK)
                    if not data:
                        raise ConnectionError
                    if replies.feed(data):
                        break
        except BaseException as error:
            self._discard(connection)
            self._raise(error)
            raise
        finally:
            gate.release()
        self._put_back(connection)
        return Answer(replies.replies, made)

    async def _aconnect(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        places: Sequence[tuple[int, Any]]
        if isinstance(self.address, str):
            places = [(socket.AF_UNIX, self.address)]
        else:
            found = await loop.getaddrinfo(*self.address, type=socket.SOCK_STREAM)
            places = [(family, address) for family, _, _, _, address in found]
        failure: OSError | None = None
        for family, address in places:
            connecting = socket.socket(family, socket.SOCK_STREAM)
            try:
                connecting.setblocking(False)
                await loop.sock_connect(connecting, address)
            except BaseException as error:
                connecting.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
            else:
                return connecting
        raise failure or ConnectionRefusedError

    # ---- the pool ----------------------------------------------------------------------------------

    def _take(self, newest: int | None) -> _Connection | None:
        """One that is idle. StoreError: the server rests."""
        if self.closed:
            raise StoreError(self.where, "other", "the store is closed")
        if self._row >= _FAILURES and not self.alone:
            with self._lock:
                now = time.monotonic()
                if now < self._rests:
                    self.failures["resting"] += 1
                    raise StoreError(self.where, "refused", f"it failed {self._row} times in a row")
                self._rests = now + _REST
        while True:
            with self._lock:
                for at in range(len(self._idle) - 1, -1, -1):
                    if newest is None or self._idle[at].number <= newest:
                        connection = self._idle.pop(at)
                        break
                else:
                    return None
            if connection.quiet():
                return connection
            self._discard(connection)

    def _made(self, connected: socket.socket) -> tuple[_Connection, int]:
        if connected.family != getattr(socket, "AF_UNIX", None):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with self._lock:
            number = next(self._numbers)
            self._newest = max(self._newest, number)
            return _Connection(connected, number), self._newest

    def _put_back(self, connection: _Connection) -> None:
        self._row = 0
        with self._lock:
            if not self.closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.socket.close()

    def _discard(self, connection: _Connection | None) -> None:
        if connection is not None:
            connection.socket.close()

    def _raise(self, error: BaseException, text: str = "") -> None:
        """StoreError for what is the server's or the network's doing."""
        if isinstance(error, StoreError) or not isinstance(error, (OSError, ProtocolError)):
            return
        kind, said = _kind(error, self.timeout)
        with self._lock:
            self.failures[kind] += 1
            self._row += 1
            self._rests = time.monotonic() + _REST
        raise StoreError(self.where, kind, text or said) from error

    def drop(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.socket.close()

    def forked(self) -> None:
        """In a child: the connections are its parent's."""
        self._lock = threading.RLock()
        self._gates = weakref.WeakKeyDictionary()
        self.drop()


def _kind(error: OSError | ProtocolError, timeout: float) -> tuple[str, str]:
    if isinstance(error, ProtocolError):
        return error.kind, str(error)
    if isinstance(error, TimeoutError):
        return "timeout", f"no answer within {timeout} s"
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror)):
        return "refused", f"no connection: {error.strerror or error}"
    if isinstance(error, ConnectionError):
        return "closed", f"the connection was lost: {error.strerror or 'it was closed'}"
    return "other", str(error)


_nodes: weakref.WeakSet[Node] = weakref.WeakSet()


def _after_fork() -> None:
    for node in list(_nodes):
        with contextlib.suppress(OSError):
            node.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
