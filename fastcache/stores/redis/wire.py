"""Connections for threads: one socket each, one request at a time.

A request is bytes in Redis' protocol and the number of replies to it. It is given up when `trip` seconds
have passed since it began, however slowly the answer trickles in. Whatever goes wrong, and if the caller
is interrupted, the connection is closed: no reply is left behind that the next request could take for its
own. Nothing is sent twice.

redis-py's connections are not used: theirs is a time-out for each piece of an answer.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - else the first look-up of a name imports it, and a fork meanwhile inherits the lock
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

import hiredis

from fastcache.stores.redis.errors import Refusal, WireError
from fastcache.stores.redis.way import MORE, PARTS, PIECE, Greeting, new_reader, readable

if TYPE_CHECKING:
    from fastcache.stores.redis.way import Way


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
                replies = self.many(Greeting(b"".join(data for _, data in commands)), len(commands))
                way.greeted([name for name, _ in commands], replies)
            except WireError as error:
                self.close()
                error.sent = False
                raise

    def __del__(self) -> None:
        if hasattr(self, "_socket"):  # else it was never connected
            self.close()

    def one(self, data: bytes) -> Any:
        """The reply to one command; a Refusal if it is an error."""
        begin = monotonic()
        head: bytes | None = b""
        try:
            self._socket.sendall(data)
            if len(data) < PIECE:
                piece = self._socket.recv(PIECE)
                if not piece:
                    raise self.way.closed()
                if piece[0] in PARTS:
                    head = piece
                else:
                    reader, head = self._reader, None
                    reader.feed(piece)
                    reply = reader.gets()
                    if reply is not MORE:
                        if reader.has_data():
                            raise self.way.nonsense("more replies than requests")
                        if type(reply) is Refusal:
                            self.way.not_turned_away(reply)
                        return reply
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return self._rest(begin, [], 1, head)[0]

    def many(self, data: bytes, count: int) -> list[Any]:
        """The replies to several commands."""
        return self.finish(self.begin(data), count)

    def begin(self, data: bytes) -> float:
        """Send; what `finish` wants to know."""
        begin = monotonic()
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return begin

    def finish(self, begin: float, count: int) -> list[Any]:
        """The replies to what `begin` has sent."""
        return self._rest(begin, [], count)

    def _rest(
        self, begin: float, replies: list[Any], count: int, head: bytes | None = b""
    ) -> list[Any]:
        """head: the beginning of the answer, None where the reader has it already."""
        reader = self._reader
        trip = self.way.trip
        try:
            while True:
                if head and (head[0] not in PARTS or self.way.is_bounded(head)):
                    reader.feed(head)
                    head = None
                if head is None and self._take(replies, count):
                    break
                left = begin + trip - monotonic()
                if left <= 0:
                    raise self.way.late()
                self._socket.settimeout(left)
                piece = self._socket.recv(PIECE)
                if not piece:
                    raise self.way.closed()
                if head is None:
                    reader.feed(piece)
                else:
                    head += piece
            if reader.has_data():
                raise self.way.nonsense("more replies than requests")
            self._socket.settimeout(trip)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._gone(error) from error
        except BaseException:
            self.close()
            raise
        return replies

    def _take(self, replies: list[Any], count: int) -> bool:
        """Whether as many have come."""
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is MORE:
                return False
            if type(reply) is Refusal:
                self.way.not_turned_away(reply)
            replies.append(reply)
        return True

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
        return readable(self._socket)

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
