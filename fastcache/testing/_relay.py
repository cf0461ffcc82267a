"""What carries the connections of a FaultProxy, in a thread of its own."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import selectors
import socket
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Match = bytes | re.Pattern[bytes] | None

#: Bytes taken at once, and bytes on their way in one direction beyond which no more are taken.
_CHUNK = 65_536
_FULL = 1 << 20
#: Bytes that something to be found in requests may have.
LONGEST = 4096
#: Seconds that a call waits for the thread.
_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What is done to the bytes of a connection."""

    delay_requests: float = 0.0
    delay_replies: float = 0.0
    piece: int = 0  # bytes at once; 0: no limit
    every: float = 0.0
    hole: Literal["", "drop", "hold"] = ""
    truncate: int | None = None
    flip: tuple[int, int] | None = None


class Rule:
    """Something done to requests that match, so many times."""

    def __init__(self, match: Match, times: int | None) -> None:
        self.match = match
        self.times = times

    def applies(self, tail: bytes, chunk: bytes) -> bool:
        """Whether the chunk (after a tail) has a match that is not in the tail alone."""
        if self.times == 0:
            return False
        if self.match is None:
            found = True
        elif isinstance(self.match, bytes):
            kept = tail[len(tail) - min(len(tail), len(self.match) - 1) :]
            found = self.match in kept + chunk
        else:
            found = self.match.search(chunk) is not None
        if found and self.times is not None:
            self.times -= 1
        return found


class Cut(Rule):
    reaches = True
    abrupt = True


class Inject(Rule):
    reply: bytes | Callable[[bytes], bytes] = b""


class _Pipe:
    """One direction of a connection: what was read from `source` and is due to be written to `sink`."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self.size = 0
        self.ended = False  # the source has said that it sends no more
        self.closed = False  # and the sink was told
        self.blocked = False  # the sink takes no more for now
        self.next = 0.0  # when a slowed-down pipe may write again

    def put(self, data: bytes, due: float) -> None:
        self.waiting.append((due, data))
        self.size += len(data)


class _Link:
    """A client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket, faults: Faults) -> None:
        self.client = client
        self.server = server
        self.faults = faults
        self.up = _Pipe(client, server)
        self.down = _Pipe(server, client)
        self.connected = False
        self.lost = False  # bytes were dropped: nothing sensible can pass any more
        self.cut: Cut | None = None
        self.draining = False  # the client is gone, the server finishes what it got
        self.tail = b""
        self.replied = 0  # bytes the server sent since the client's last


class _Order:
    """Something for the proxy's thread to do."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.done = threading.Event()
        self.error: OSError | None = None

    def carry_out(self) -> None:
        try:
            self.function()
        except OSError as error:  # such as a port that somebody else has taken
            self.error = error
        self.done.set()


class Relay:
    """Listens, connects to the target, and carries bytes both ways, by `Faults` and rules."""

    def __init__(self, target: tuple[str, int | None], host: str) -> None:
        self._target = target
        self.host = host
        self.accepted = 0
        self.struck: collections.Counter[str] = collections.Counter()
        self._faults = Faults()
        self._rules: list[Rule] = []
        self._refuse = False
        self._reset_new = False
        self._links: set[_Link] = set()
        self._posted: collections.deque[_Order] = collections.deque()
        self._stopped = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._listener = self._bind(0)
        self.port: int = self._listener.getsockname()[1]
        self._listener.listen(512)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="FaultProxy", daemon=True)
        _relays.add(self)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def close(self) -> None:
        """Close all connections and stop. May be called again. Raises what a reply function of `inject` has
        raised."""
        if not self._stopped:
            self._stopped = True
            self._wake()
            if self._thread.ident is not None:
                self._thread.join(_LIMIT)
            self._release()
        error, self._error = self._error, None
        if error is not None:
            raise error

    # ---- the thread ------------------------------------------------------------------------------

    def _call(self, function: Callable[[], None]) -> None:
        """Run it in the proxy's thread, between two of its rounds, and wait for that."""
        if self._stopped:
            raise RuntimeError("the FaultProxy is closed")
        if self._thread.ident is None or threading.get_ident() == self._thread.ident:
            function()  # not started; or called by a reply function of `inject`
            return
        order = _Order(function)
        self._posted.append(order)
        self._wake()
        if not order.done.wait(_LIMIT):
            raise RuntimeError("the thread of the FaultProxy does not answer")
        if order.error is not None:
            raise order.error

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
            self._wake_in.send(b"\0")

    def _run(self) -> None:
        while not self._stopped:
            for key, events in self._selector.select(self._pause()):
                if key.fileobj is self._wake_out:
                    self._wake_out.recv(4096)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._ready(key.data, key.fileobj, events)
            while self._posted:
                self._posted.popleft().carry_out()
            for link in list(self._links):
                self._carry(link)

    def _pause(self) -> float | None:
        """Seconds until something is due; None: not before something happens."""
        due = [
            max(pipe.waiting[0][0], pipe.next)
            for link in self._links
            if link.connected and not link.faults.hole
            for pipe in (link.up, link.down)
            if pipe.waiting and not pipe.blocked
        ]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # gone again
            return
        self.accepted += 1
        if self._reset_new:
            self._strike("reset")
            _close(client, abrupt=True)
            return
        host, port = self._target
        if port is None:
            family: int = socket.AF_UNIX
            address: Any = host
        else:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = socket.socket(family, socket.SOCK_STREAM)
        for end in (client, server):
            end.setblocking(False)
            if end.family != getattr(socket, "AF_UNIX", None):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, server, self._faults)
        self._links.add(link)
        failed = server.connect_ex(address)
        if failed == 0:
            link.connected = True
        self._selector.register(client, selectors.EVENT_READ, link)
        self._selector.register(server, selectors.EVENT_WRITE, link)

    def _ready(self, link: _Link, end: Any, events: int) -> None:
        if link not in self._links:
            return
        if end is link.server and not link.connected:
            if link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._strike("refused")
                self._drop(link, abrupt=True)
                return
            link.connected = True
        if events & selectors.EVENT_WRITE:
            (link.up if end is link.server else link.down).blocked = False
        if events & selectors.EVENT_READ:
            try:
                data = end.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._drop(link, abrupt=True)
                return
            if end is link.client:
                self._from_client(link, data)
            else:
                self._from_server(link, data)

    def _from_client(self, link: _Link, data: bytes) -> None:
        if not data:
            link.up.ended = True
            return
        if link.lost or link.faults.hole == "drop":
            link.lost = True
            return
        link.replied = 0
        due = time.monotonic() + link.faults.delay_requests
        for rule in self._rules:
            if not rule.applies(link.tail, data):
                continue
            if isinstance(rule, Inject):
                self._inject(link, rule.reply, data)
                return
            if isinstance(rule, Cut):
                if not rule.reaches:
                    self._strike("cut")
                    self._drop(link, abrupt=rule.abrupt)
                    return
                link.cut = rule
        link.tail = (link.tail + data)[-LONGEST:]
        link.up.put(data, due)

    def _inject(self, link: _Link, reply: bytes | Callable[[bytes], bytes], request: bytes) -> None:
        try:
            answer = reply if isinstance(reply, bytes) else reply(request)
            if not isinstance(answer, bytes):
                raise TypeError(f"reply must return bytes, not {type(answer).__name__}")
        except Exception as error:  # noqa: BLE001 - the user's; raised by close()
            self._error = self._error or error
            self._drop(link, abrupt=True)
            return
        link.down.put(answer, time.monotonic() + link.faults.delay_replies)
        self._strike("inject")

    def _from_server(self, link: _Link, data: bytes) -> None:
        if link.draining:
            if not data:
                self._drop(link, abrupt=False)
            return
        if link.cut is not None:
            self._cut_off(link, link.cut)
            return
        if not data:
            link.down.ended = True
            return
        faults = link.faults
        if link.lost or faults.hole == "drop":
            link.lost = True
            return
        if faults.flip is not None:
            at = faults.flip[0] - link.replied
            if 0 <= at < len(data):
                self._strike("flip")
                data = data[:at] + bytes([data[at] ^ 1 << faults.flip[1]]) + data[at + 1 :]
        before, link.replied = link.replied, link.replied + len(data)
        due = time.monotonic() + faults.delay_replies
        if faults.truncate is not None and link.replied >= faults.truncate:
            self._strike("truncate")
            link.down.put(data[: max(0, faults.truncate - before)], due)
            link.down.ended = True
            link.up.ended = True
            return
        link.down.put(data, due)

    def _cut_off(self, link: _Link, rule: Cut) -> None:
        """The client's end goes at once; the server is left to finish, and to see an orderly close:
        a reset might take what it has not read yet."""
        self._strike(
            "cut"
        )  # before the close: who sees the end may ask at once how often it has struck
        self._selector.unregister(link.client)
        _close(link.client, rule.abrupt)
        link.draining = True
        link.up.waiting.clear()
        with contextlib.suppress(OSError):  # it closed meanwhile
            link.server.shutdown(socket.SHUT_WR)

    def _carry(self, link: _Link) -> None:
        """Write what is due, pass on ends, and say what is waited for next."""
        if link.draining:
            self._selector.modify(link.server, selectors.EVENT_READ, link)
            return
        if link.connected and not link.faults.hole:
            try:
                for pipe in (link.up, link.down):
                    self._write(link, pipe)
            except OSError:
                self._drop(link, abrupt=True)
                return
            if link.up.closed and link.down.closed:
                self._drop(link, abrupt=False)
                return
        for pipe, other in ((link.up, link.down), (link.down, link.up)):
            events = 0
            if not pipe.ended and pipe.size < _FULL:
                events |= selectors.EVENT_READ
            if other.blocked:
                events |= selectors.EVENT_WRITE
            if not link.connected and pipe.source is link.server:
                events = selectors.EVENT_WRITE
            self._watch(link, pipe.source, events)

    def _watch(self, link: _Link, end: socket.socket, events: int) -> None:
        known = self._selector.get_map().get(end)
        if known is None:
            if events:
                self._selector.register(end, events, link)
        elif not events:
            self._selector.unregister(end)
        elif known.events != events:
            self._selector.modify(end, events, link)

    def _write(self, link: _Link, pipe: _Pipe) -> None:
        now = time.monotonic()
        slow = link.faults.piece if pipe is link.down else 0
        while pipe.waiting and not pipe.blocked:
            due, data = pipe.waiting[0]
            if due > now or (slow and pipe.next > now):
                return
            try:
                sent = pipe.sink.send(data[:slow] if slow else data)
            except BlockingIOError:
                pipe.blocked = True
                return
            pipe.size -= sent
            pipe.waiting.popleft()
            if sent < len(data):
                pipe.waiting.appendleft((due, data[sent:]))
            if slow:
                pipe.next = now + link.faults.every
        if pipe.ended and not pipe.waiting and not pipe.closed:
            pipe.closed = True
            pipe.sink.shutdown(socket.SHUT_WR)

    def _drop(self, link: _Link, abrupt: bool) -> None:
        self._links.discard(link)
        for end in (link.client, link.server):
            if end.fileno() != -1:
                if end in self._selector.get_map():
                    self._selector.unregister(end)
                _close(end, abrupt)

    def _strike(self, kind: str) -> None:
        with self._changed:
            self.struck[kind] += 1
            self._changed.notify_all()

    # ---- the listening socket --------------------------------------------------------------------

    def _bind(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((self.host, port))
        return listener

    def _listen(self, refuse: bool) -> None:
        if refuse == self._refuse:
            return
        if refuse:
            # bound and not listening: connections are refused, and nobody else gets the port
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = self._bind(self.port)
        else:
            self._listener.listen(512)
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._refuse = refuse

    def _release(self) -> None:
        """Close what this process has of it, without a word to the other ends."""
        ends = [end for link in self._links for end in (link.client, link.server)]
        self._links.clear()
        self._selector.close()
        for end in (*ends, self._listener, self._wake_in, self._wake_out):
            end.close()


def _close(end: socket.socket, abrupt: bool) -> None:
    if abrupt:
        with contextlib.suppress(OSError):  # not connected any more
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


_relays: weakref.WeakSet[Relay] = weakref.WeakSet()


def _after_fork() -> None:
    """A forked child has our sockets, but no thread: as long as it kept them open, no close of ours would be seen."""
    for relay in list(_relays):
        if not relay._stopped:
            relay._stopped = True
            relay._release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
