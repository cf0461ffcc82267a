"""A TCP proxy that does harm on request, to see what a program makes of a bad network or server.

    with FaultProxy("127.0.0.1", 6379) as proxy:
        client = connect(proxy.host, proxy.port)
        proxy.latency(0.2)              # from now on, on open and new connections
        proxy.heal()
        proxy.cut(b"COMMIT")            # once: the server does it, the client never hears of it

One thread carries all connections, so the tests may be threads, tasks or processes. A call that changes
something returns when it is in force: after `black_hole()` no byte passes any more.
"""

from __future__ import annotations

import collections
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastcache.testing._relay import LONGEST, Cut, Faults, Inject, Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Literal, Self

    from fastcache.testing._relay import Match

    Direction = Literal["requests", "replies", "both"]
    Which = Literal["all", "open", "new"]


class FaultProxy(Relay):
    """Stands between a client and a server, and does harm when told to.

    target_host, target_port: the server; without a port, the path of a unix socket. host: where the proxy
    listens, on a free port. Use it in a `with` block, or `start` and `close` it.

    Faults add up; `heal` ends all of them. connections: "all" (those that are open and those to come),
    "open" or "new". A reply here is what the server sends between two sends of the client.

    host, port, address: where it listens. accepted: connections so far. struck: how often each kind of
    fault did something ("truncate", "flip", "cut", "inject", "reset", "refused" by the target). All methods
    are safe from any thread, and block for no longer than the thread takes to notice. A forked child has
    no part in it. ValueError and TypeError: arguments that make no sense; nothing has changed then.
    """

    def __init__(
        self, target_host: str, target_port: int | None = None, *, host: str = "127.0.0.1"
    ) -> None:
        if not isinstance(target_host, str):
            raise TypeError(f"target_host must be a str, not {type(target_host).__name__}")
        super().__init__((target_host, target_port), host)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def start(self) -> Self:
        """Begin to carry connections; those that came before have waited."""
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        target = self._target[0] if self._target[1] is None else "{}:{}".format(*self._target)
        return f"<FaultProxy {self.host}:{self.port} -> {target}, {self.open} open>"

    # ---- faults ----------------------------------------------------------------------------------

    def heal(self) -> None:
        """End all faults. What a held-back connection has waiting goes out; one that has lost bytes
        (`black_hole`) stays dead."""

        def change() -> None:
            self._faults = Faults()
            self._rules = []
            self._reset_new = False
            for link in self._links:
                link.faults = self._faults
                link.cut = None
                for pipe in (link.up, link.down):
                    pipe.next = 0.0
                    pipe.waiting = collections.deque((0.0, data) for _, data in pipe.waiting)
            self._listen(refuse=False)

        self._call(change)

    def latency(
        self, seconds: float, direction: Direction = "replies", connections: Which = "all"
    ) -> None:
        """Hold all bytes back for so long; 0 ends it."""
        _number("seconds", seconds, 0)
        _one_of("direction", direction, ("requests", "replies", "both"))
        if direction in ("requests", "both"):
            self._change(connections, delay_requests=float(seconds))
        if direction in ("replies", "both"):
            self._change(connections, delay_replies=float(seconds))

    def throttle(self, size: int = 1, every: float = 0.01, connections: Which = "all") -> None:
        """Pass on so many bytes of the replies at a time, and the next ones so many seconds later; 0 bytes
        for no limit."""
        _number("size", size, 0)
        _number("every", every, 0)
        self._change(connections, piece=int(size), every=float(every))

    def black_hole(self, hold: bool = False, connections: Which = "all") -> None:
        """Take connections and bytes, and pass on nothing. The bytes are lost, and their connections
        stay dead after `heal` too (a firewall that forgot them); with `hold` they go out then, as a
        network that comes back would send them again."""
        self._change(connections, hole="hold" if hold else "drop")

    def truncate(self, size: int, connections: Which = "all") -> None:
        """Close a connection after so many bytes of a reply."""
        _number("size", size, 0)
        self._change(connections, truncate=int(size))

    def flip(self, byte: int = 0, bit: int = 0, connections: Which = "all") -> None:
        """Invert one bit (0 is the lowest) of this byte of every reply that has one."""
        _number("byte", byte, 0)
        if bit not in range(8):
            raise ValueError(f"bit must be between 0 and 7, not {bit!r}")
        self._change(connections, flip=(int(byte), int(bit)))

    def reset(self, new: bool = False) -> None:
        """Reset (RST) the connections that are open; with `new` every one that comes later as well."""

        def change() -> None:
            self._reset_new = new
            for link in list(self._links):
                self._strike("reset")
                self._drop(link, abrupt=True)

        self._call(change)

    def refuse(self) -> None:
        """Refuse new connections. Open ones stay."""
        self._call(lambda: self._listen(refuse=True))

    def cut(
        self, match: Match, times: int | None = 1, *, reaches: bool = True, abrupt: bool = True
    ) -> None:
        """Cut the client off at a request that has this in it.

        match: bytes, found across packets too; or a compiled pattern, tried on what comes at once;
        None: any. times: so often; None: always. reaches: the server gets the request, and the cut comes
        when it begins to reply; else it never hears of it. abrupt: by RST, else as a close.
        """
        rule = Cut(_checked(match), _times(times))
        rule.reaches, rule.abrupt = reaches, abrupt
        self._call(lambda: self._rules.append(rule))

    def inject(
        self,
        reply: bytes | Callable[[bytes], bytes],
        match: Match = None,
        times: int | None = None,
    ) -> None:
        """Answer requests that have `match` in them with this, without asking the server. reply: bytes,
        or a function of all bytes that came at once (several requests, if the client sends them so)."""
        if not isinstance(reply, bytes) and not callable(reply):
            raise TypeError(
                f"reply must be bytes or a function of the request, not {type(reply).__name__}"
            )
        rule = Inject(_checked(match), _times(times))
        rule.reply = reply
        self._call(lambda: self._rules.append(rule))

    def wait(self, kind: str, times: int = 1, seconds: float = 10.0) -> None:
        """Block until a kind of fault has struck so often (see `struck`). TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.struck[kind] >= times, seconds):
                raise TimeoutError(
                    f"{kind!r} has struck {self.struck[kind]} times of {times} in {seconds} seconds"
                )

    def _change(self, connections: Which, **fields: Any) -> None:
        _one_of("connections", connections, ("all", "open", "new"))

        def change() -> None:
            if connections != "open":
                self._faults = replace(self._faults, **fields)
            if connections != "new":
                for link in self._links:
                    link.faults = replace(link.faults, **fields)

        self._call(change)


def _number(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


def _checked(match: object) -> Any:
    if match is not None and not isinstance(match, (bytes, re.Pattern)):
        raise TypeError(
            f"match must be bytes, a compiled pattern or None, not {type(match).__name__}"
        )
    if match == b"":
        raise ValueError("match must not be empty; None stands for any request")
    if isinstance(match, bytes) and len(match) > LONGEST:
        raise ValueError(f"match must have at most {LONGEST} bytes, not {len(match)}")
    return match


def _times(times: int | None) -> int | None:
    if times is not None:
        _number("times", times, 1)
    return times
