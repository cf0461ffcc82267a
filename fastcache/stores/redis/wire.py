"""Connections: one socket each, one request at a time, in two forms that share their greeting.

A request is bytes in Redis' protocol and the number of replies to it. It is given up when `trip` seconds
have passed since it began, however slowly the answer trickles in. Whatever goes wrong, and if the caller
is cancelled or interrupted, the connection is closed: no reply is left behind that the next request could
take for its own. Nothing is sent twice.

redis-py's connections are not used: theirs is a time-out for each piece of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import hiredis

from fastcache.stores.redis.errors import Refusal, WireError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from fastcache.stores.redis.address import Address, Login

#: Bytes read at once, and the size of a request from which on sending it may take a while.
PIECE: Final = 65536
MORE: Final = object()


def pack(*words: str | bytes | int) -> bytes:
    """A command in Redis' protocol."""
    return hiredis.pack_command(words)  # type: ignore[no-any-return,arg-type]


class Way:
    """How to connect to one server: what all connections to it have in common.

    trip, connect: seconds. readonly: for a replica of a cluster. resp3: with server's pushes.
    """

    def __init__(
        self,
        where: str,
        address: Address,
        login: Login,
        *,
        db: int = 0,
        tls: ssl.SSLContext | None = None,
        trip: float = 0.5,
        connect: float = 0.5,
        readonly: bool = False,
        resp3: bool = False,
    ) -> None:
        self.where = where
        self.address = address
        self.login = login
        self.db = db
        self.tls = tls
        self.trip = trip
        self.connect = connect
        self.readonly = readonly
        self.resp3 = resp3

    def greeting(self) -> list[tuple[str, bytes]]:
        """The commands that begin a connection, with their names. They are sent at once."""
        commands = []
        words = self.login.words()
        if words:
            commands.append(("AUTH", pack("AUTH", *words)))
        if self.resp3:
            commands.append(("HELLO", pack("HELLO", 3)))
        if self.db:
            commands.append(("SELECT", pack("SELECT", self.db)))
        if self.readonly:
            commands.append(("READONLY", pack("READONLY")))
        return commands

    def greeted(self, names: Sequence[str], replies: Sequence[Any]) -> None:
        """Whether the server accepts: StoreError says what it did not.

        What it says about AUTH is not repeated: it may be what was sent.
        """
        for name, reply in zip(names, replies, strict=True):
            if not isinstance(reply, Refusal):
                continue
            if name == "AUTH":
                kind = reply.kind()
                if kind in ("loading", "clients"):
                    raise WireError(self.where, kind, f"the server answers: {reply.text}", False)
                said = reply.code if reply.code in ("WRONGPASS", "NOAUTH", "NOPERM") else "an error"
                raise WireError(
                    self.where, "auth", f"the server refuses the password ({said})", False
                )
            if reply.kind() == "other" and name == "SELECT":
                raise WireError(self.where, "other", f"there is no database {self.db}", False)
            error = reply.error(self.where)
            raise WireError(self.where, error.kind, error.text, False)

    def closed(self, early: bool = False) -> WireError:
        return WireError(self.where, "closed", "the server closed the connection", not early)

    def late(self, sent: bool = True) -> WireError:
        return WireError(self.where, "timeout", f"no answer within {self.trip} seconds", sent)

    def nonsense(self, what: object) -> WireError:
        return WireError(
            self.where, "protocol", f"what it answers is not Redis' protocol ({str(what)[:80]})"
        )

    def failed(self, error: OSError) -> WireError:
        """A connection that could not be made."""
        if isinstance(error, TimeoutError):
            text = f"no connection within {self.connect} seconds"
            return WireError(self.where, "timeout", text, False)
        reason = error.strerror or str(error) or type(error).__name__
        return WireError(self.where, "refused", f"no connection: {reason}", False)

    def broken(self, error: OSError) -> WireError:
        """A connection that was lost."""
        reason = error.strerror or str(error) or type(error).__name__
        return WireError(self.where, "closed", f"the connection broke: {reason}")


def new_reader() -> Any:
    return hiredis.Reader(
        protocolError=hiredis.ProtocolError, replyError=Refusal, notEnoughData=MORE
    )


class Wire:
    """A blocking connection, for one thread at a time. Made connected."""

    __slots__ = ("_reader", "_socket", "used", "way")

    def __init__(self, way: Way) -> None:
        self.way = way
        self.used = 0.0  # when it was given back
        self._reader = new_reader()
        self._socket = _connect(way)
        commands = way.greeting()
        if commands:
            try:
                replies = self.many(b"".join(data for _, data in commands), len(commands))
                way.greeted([name for name, _ in commands], replies)
            except WireError as error:
                self.close()
                error.sent = False
                raise

    def one(self, data: bytes) -> Any:
        """The reply to one command; a Refusal if it is an error."""
        begin = monotonic()
        try:
            self._socket.sendall(data)
            if len(data) < PIECE:
                piece = self._socket.recv(PIECE)
                if not piece:
                    raise self.way.closed()
                reader = self._reader
                reader.feed(piece)
                reply = reader.gets()
                if reply is not MORE:
                    if reader.has_data():
                        raise self.way.nonsense("more replies than requests")
                    return reply
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return self._rest(begin, [], 1)[0]

    def many(self, data: bytes, count: int) -> list[Any]:
        """The replies to several commands."""
        begin = monotonic()
        try:
            self._socket.sendall(data)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return self._rest(begin, [], count)

    def _rest(self, begin: float, replies: list[Any], count: int) -> list[Any]:
        reader = self._reader
        trip = self.way.trip
        try:
            while True:
                while len(replies) < count:
                    reply = reader.gets()
                    if reply is MORE:
                        break
                    replies.append(reply)
                else:
                    break
                left = begin + trip - monotonic()
                if left <= 0:
                    raise self.way.late()
                self._socket.settimeout(left)
                piece = self._socket.recv(PIECE)
                if not piece:
                    raise self.way.closed()
                reader.feed(piece)
            if reader.has_data():
                raise self.way.nonsense("more replies than requests")
            self._socket.settimeout(trip)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return replies

    def _gone(self, error: Exception) -> WireError:
        """Close after an error; what to raise."""
        self.close()
        if isinstance(error, TimeoutError):
            return self.way.late()
        if isinstance(error, OSError):
            return self.way.broken(error)
        return self.way.nonsense(error)

    def stale(self) -> bool:
        """Whether it cannot be used again: the server closed it, or sent what nobody asked for."""
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                return bool(poll.poll(0))
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                return bool(selector.select(0))
        except (OSError, ValueError):  # closed on our side
            return True

    # ---- for listeners ---------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: bytes) -> None:
        """Send without waiting for an answer."""
        try:
            self._socket.settimeout(self.way.trip)
            self._socket.sendall(data)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise

    def pending(self) -> list[Any]:
        """All replies and pushes that have come, without waiting."""
        found = []
        try:
            self._socket.settimeout(0)
            while True:
                try:
                    piece = self._socket.recv(PIECE)
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                        break
                    raise
                if not piece:
                    raise self.way.closed()
                self._reader.feed(piece)
                if len(piece) < PIECE and self.way.tls is None:
                    break
            while (reply := self._reader.gets()) is not MORE:
                found.append(reply)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is closed by force is closed
            self._socket.close()


def _connect(way: Way) -> socket.socket:
    """A connected socket, with `trip` as its time-out. The name is looked up without a time limit."""
    address = way.address
    if not address.port:
        families: list[Any] = [(socket.AF_UNIX, address.host)]
    else:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise way.failed(error) from error
        families = [(family, name) for family, _, _, _, name in found]
    end = monotonic() + way.connect
    last: OSError = TimeoutError()
    for family, name in families:
        left = end - monotonic()
        if left <= 0:
            break
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(left)
            plain.connect(name)
            if address.port:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if way.tls is not None:
                plain.settimeout(max(0.001, end - monotonic()))
                plain = way.tls.wrap_socket(plain, server_hostname=address.host)
            plain.settimeout(way.trip)
        except OSError as error:  # of TLS as well
            plain.close()
            last = error
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise way.failed(last) from last


class AsyncWire(asyncio.Protocol):
    """A connection of one event loop, for one task at a time. Made by `open_wire`."""

    __slots__ = ("_count", "_future", "_loop", "_reader", "_replies", "_transport", "used", "way")

    def __init__(self, way: Way, loop: asyncio.AbstractEventLoop) -> None:
        self.way = way
        self.used = 0.0
        self._loop = loop
        self._reader = new_reader()
        self._transport: asyncio.Transport | None = None
        self._future: asyncio.Future[None] | None = None
        self._replies: list[Any] = []
        self._count = 0

    async def many(self, data: bytes, count: int) -> list[Any]:
        """The replies to several commands."""
        transport = self._transport
        if transport is None:
            raise self.way.closed(early=True)
        loop = self._loop
        replies: list[Any] = []
        self._replies = replies
        self._count = count
        self._future = future = loop.create_future()
        timer = loop.call_later(self.way.trip, self._late)
        try:
            transport.write(data)
            await future
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._future = None
        return replies

    async def one(self, data: bytes) -> Any:
        """The reply to one command; a Refusal if it is an error."""
        return (await self.many(data, 1))[0]

    def stale(self) -> bool:
        transport = self._transport
        return transport is None or transport.is_closing()

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None and not self._loop.is_closed():
            transport.abort()

    def _late(self) -> None:
        self._fail(self.way.late())

    def _fail(self, error: WireError) -> None:
        future = self._future
        self.close()
        if future is not None and not future.done():
            future.set_exception(error)

    # ---- what the event loop calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        future = self._future
        if future is None or future.done():
            # Nobody asked, or nobody waits for it any more.
            self._fail(self.way.nonsense("a reply without a request"))
            return
        reader = self._reader
        replies = self._replies
        try:
            reader.feed(data)
            while len(replies) < self._count:
                reply = reader.gets()
                if reply is MORE:
                    return
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self._fail(self.way.nonsense(error))
            return
        if reader.has_data():
            self._fail(self.way.nonsense("more replies than requests"))
            return
        future.set_result(None)

    def eof_received(self) -> None:
        self._fail(self.way.closed())

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, OSError):
            self._fail(self.way.broken(error))
        else:
            self._fail(self.way.closed())


async def open_wire(way: Way) -> AsyncWire:
    """A connection of the running event loop."""
    loop = asyncio.get_running_loop()
    address = way.address
    wire = AsyncWire(way, loop)
    try:
        async with asyncio.timeout(way.connect):
            if address.port:
                await loop.create_connection(
                    lambda: wire,
                    address.host,
                    address.port,
                    ssl=way.tls,
                    server_hostname=address.host if way.tls is not None else None,
                )
            else:
                await loop.create_unix_connection(lambda: wire, address.host)
    except OSError as error:  # TimeoutError and what TLS says are of them
        wire.close()
        raise way.failed(error) from error
    except BaseException:
        wire.close()
        raise
    commands = way.greeting()
    if commands:
        try:
            replies: list[Any] = await wire.many(
                b"".join(data for _, data in commands), len(commands)
            )
            way.greeted([name for name, _ in commands], replies)
        except WireError as error:
            wire.close()
            error.sent = False
            raise
    return wire
