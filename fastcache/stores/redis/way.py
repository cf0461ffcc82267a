"""What all connections to one server have in common: how to get in, and what their ends are called."""

from __future__ import annotations

import re
import select
import selectors
from typing import TYPE_CHECKING, Any, Final

import hiredis

from fastcache.stores.redis.errors import Refusal, WireError

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from fastcache.stores.redis.address import Address, Login

#: Bytes read at once, and the size of a request from which on sending it may take a while.
PIECE: Final = 65536
MORE: Final = object()
#: First bytes of replies that have parts.
PARTS: Final = b"*>"
_COUNT = re.compile(rb".(-?[0-9]{1,7}\r\n)?")


def pack(*words: str | bytes | int) -> bytes:
    """A command in Redis' protocol."""
    return hiredis.pack_command(words)  # type: ignore[no-any-return,arg-type]


def mget(words: Sequence[str]) -> bytes:
    """MGET, of keys that are in Redis' protocol."""
    return f"*{len(words) + 1}\r\n$4\r\nMGET\r\n{''.join(words)}".encode("ascii")


class Greeting(bytes):
    """What a connection begins with. Tracebacks that show the variables of frames show no password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes that may have a password>"


class Way:
    """How to connect to one server: what all connections to it have in common.

    trip, connect: seconds. readonly: for a replica of a cluster. primary: it must be one, not a replica.
    resp3: with the server's pushes.
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
        primary: bool = False,
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
        self.primary = primary
        self.resp3 = resp3

    def greeting(self) -> list[tuple[str, bytes]]:
        """The commands that begin a connection, with their names. They are sent at once."""
        commands: list[tuple[str, bytes]] = []
        words = self.login.words()
        if words:
            commands.append(("AUTH", Greeting(pack("AUTH", *words))))
        if self.resp3:
            commands.append(("HELLO", pack("HELLO", 3)))
        if self.db:
            commands.append(("SELECT", pack("SELECT", self.db)))
        if self.readonly:
            commands.append(("READONLY", pack("READONLY")))
        if self.primary:
            commands.append(("ROLE", pack("ROLE")))
        return commands

    def greeted(self, names: Sequence[str], replies: Sequence[Any]) -> None:
        """Whether the server accepts: StoreError says what it did not.

        What it says about AUTH is not repeated: it may be what was sent.
        """
        for name, reply in zip(names, replies, strict=True):
            if not isinstance(reply, Refusal):
                if name == "ROLE" and (not isinstance(reply, list) or reply[0] != b"master"):
                    text = f"{self.address} is not the primary (any more)"
                    raise WireError(self.where, "readonly", text, False)
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

    def not_turned_away(self, reply: Refusal) -> None:
        """Of a connection that there is no room for the server says so once, and closes it."""
        if reply.text.startswith("ERR max number of clients"):
            raise WireError(self.where, "clients", f"the server answers: {reply.text}", False)

    def closed(self, early: bool = False) -> WireError:
        return WireError(self.where, "closed", "the server closed the connection", not early)

    def late(self, sent: bool = True) -> WireError:
        return WireError(self.where, "timeout", f"no answer within {self.trip} seconds", sent)

    def nonsense(self, what: object) -> WireError:
        return WireError(
            self.where, "protocol", f"what it answers is not Redis' protocol ({str(what)[:80]})"
        )

    def is_bounded(self, head: bytes) -> bool:
        """Of the beginning of an answer that has parts: whether they may be read; False: more of it has to come
        first. hiredis makes room for as many as it is told, and takes seconds to give that back. WireError: more than
        anybody has asked for."""
        found = _COUNT.match(head)
        if found is not None and found[1] is not None:
            return True
        if len(head) > 9 or b"\r" in head:
            raise self.nonsense(f"an answer of so many parts: {head[:24]!r}")
        return False

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


def readable(connected: socket.socket) -> bool:
    """Whether something has come, the end of the connection included. Takes nothing."""
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connected, select.POLLIN)
            return bool(poll.poll(0))
        with selectors.DefaultSelector() as selector:
            selector.register(connected, selectors.EVENT_READ)
            return bool(selector.select(0))
    except (OSError, ValueError):  # closed on our side
        return True


def new_reader() -> Any:
    return hiredis.Reader(
        protocolError=hiredis.ProtocolError, replyError=Refusal, notEnoughData=MORE
    )
