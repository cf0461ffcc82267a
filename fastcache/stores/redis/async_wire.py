"""Connections for tasks: as those for threads (see wire.py), on one event loop, and safe from cancellation.

They watch their sockets themselves, without asyncio's transports: those cost more, and cannot be closed once
their event loop is. So the loop must be one that can watch sockets: on Windows, asyncio.SelectorEventLoop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import hiredis

from fastcache.stores.redis.errors import Refusal, WireError
from fastcache.stores.redis.way import MORE, PARTS, PIECE, Greeting, new_reader, readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache.stores.redis.way import Way

_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class AsyncWire:
    """A connection of one event loop, for one task at a time. Made by `open_wire`, connected."""

    __slots__ = (
        "_count",
        "_future",
        "_head",
        "_loop",
        "_out",
        "_reader",
        "_replies",
        "_socket",
        "used",
        "way",
    )

    def __init__(self, way: Way, loop: asyncio.AbstractEventLoop, connected: socket.socket) -> None:
        self.way = way
        self.used = 0.0
        self._loop = loop
        self._socket: socket.socket | None = connected
        self._reader = new_reader()
        self._future: asyncio.Future[None] | None = None
        self._replies: list[Any] = []
        self._count = 0
        self._head: bytes | None = b""  # of the answer; None where the reader has it already
        self._out: memoryview | None = None
        loop.add_reader(connected, self._readable)

    def __del__(self) -> None:
        # Its event loop is gone, else that would know it.
        self.forget()

    async def many(self, data: bytes, count: int) -> list[Any]:
        """The replies to several commands."""
        replies: list[Any] = []
        self._replies = replies
        self._count = count
        self._head = b""
        loop = self._loop
        self._future = future = loop.create_future()
        timer = loop.call_later(self.way.trip, self._late)
        try:
            self._send(memoryview(data))
            await future
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._future = None
        return replies

    def lost(self) -> bool:
        return self._socket is None

    def stale(self) -> bool:
        """Whether it cannot be used again, in a way that its event loop may not have come to see."""
        return self._socket is None or readable(self._socket)

    def close(self) -> None:
        """On its event loop."""
        if self._socket is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._socket)
                if self._out is not None:
                    self._loop.remove_writer(self._socket)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor, without its event loop: that is closed, or belongs to the process that forked."""
        connected, self._socket = getattr(self, "_socket", None), None
        if connected is not None:
            connected.close()

    def _late(self) -> None:
        self._fail(self.way.late())

    def _fail(self, error: WireError) -> None:
        future = self._future
        self.close()
        if future is not None and not future.done():
            future.set_exception(error)

    def _send(self, data: memoryview) -> None:
        if self._socket is None:
            raise self.way.closed(early=True)
        try:
            sent = self._socket.send(data)
        except _LATER:
            sent = 0
        except OSError as error:
            raise self.way.broken(error) from error
        if sent < len(data):
            if self._out is None:
                self._loop.add_writer(self._socket, self._writable)
            self._out = data[sent:]
        elif self._out is not None:
            self._out = None
            self._loop.remove_writer(self._socket)

    # ---- what the event loop calls ---------------------------------------------------------------

    def _writable(self) -> None:
        if self._out is None:
            return
        try:
            self._send(self._out)
        except WireError as error:
            self._fail(error)

    def _readable(self) -> None:
        connected = self._socket
        if connected is None:
            return
        try:
            piece = connected.recv(PIECE)
            while self._heard(piece) and self.way.tls is not None and self._socket is not None:
                # What TLS has decrypted already does not make the socket readable.
                piece = connected.recv(PIECE)
        except _LATER:
            return
        except OSError as error:
            self._fail(self.way.broken(error))

    def _heard(self, piece: bytes) -> bool:
        """Whether to go on."""
        if not piece:
            self._fail(self.way.closed())
            return False
        future = self._future
        if future is None or future.done():
            # Nobody asked, or nobody waits for it any more.
            self._fail(self.way.nonsense("a reply without a request"))
            return False
        reader, replies = self._reader, self._replies
        try:
            if self._head is not None:
                piece = self._head + piece
                if piece[0] in PARTS and not self.way.is_bounded(piece):
                    self._head = piece
                    return True
                self._head = None
            reader.feed(piece)
            while len(replies) < self._count:
                reply = reader.gets()
                if reply is MORE:
                    return True
                if type(reply) is Refusal:
                    self.way.not_turned_away(reply)
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self._fail(self.way.nonsense(error))
            return False
        except WireError as error:
            self._fail(error)
            return False
        if reader.has_data():
            self._fail(self.way.nonsense("more replies than requests"))
            return False
        future.set_result(None)
        return False


async def open_wire(way: Way) -> AsyncWire:
    """A connection of the running event loop. WireError."""
    loop = asyncio.get_running_loop()
    last: OSError = TimeoutError()
    try:
        async with asyncio.timeout(way.connect):
            for family, name in await _places(way, loop):
                try:
                    connected = await _connect(way, loop, family, name)
                except OSError as error:
                    last = error
                else:
                    break
            else:
                raise last
    except OSError as error:  # TimeoutError and what TLS says are of them
        raise way.failed(error) from error
    try:
        wire = AsyncWire(way, loop, connected)
    except NotImplementedError:
        connected.close()
        text = "this event loop cannot watch sockets: use asyncio.SelectorEventLoop"
        raise WireError(way.where, "other", text, sent=False) from None
    commands = way.greeting()
    if commands:
        try:
            replies = await wire.many(
                Greeting(b"".join(data for _, data in commands)), len(commands)
            )
            way.greeted([name for name, _ in commands], replies)
        except WireError as error:
            wire.close()
            error.sent = False
            raise
    return wire


async def _places(way: Way, loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
    """(family, address) of each place to try."""
    host, port = way.address.host, way.address.port
    if not port:
        return [(socket.AF_UNIX, host)]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]  # nothing to look up
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, name) for family, _, _, _, name in found]


async def _connect(
    way: Way, loop: asyncio.AbstractEventLoop, family: int, name: Any
) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, name)
        if way.address.port:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if way.tls is not None:
            connected = way.tls.wrap_socket(
                connected, server_hostname=way.address.host, do_handshake_on_connect=False
            )
            await _shake_hands(connected, loop)
    except BaseException:
        connected.close()
        raise
    return connected


async def _shake_hands(connected: ssl.SSLSocket, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            connected.do_handshake()
            return
        except ssl.SSLWantReadError:
            await _ready(connected, loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(connected, loop.add_writer, loop.remove_writer)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _ready(
    connected: socket.socket, add: Callable[..., None], remove: Callable[..., object]
) -> None:
    future = asyncio.get_running_loop().create_future()
    add(connected, _settle, future)
    try:
        await future
    finally:
        remove(connected)
