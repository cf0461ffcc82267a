"""One session of PostgreSQL that can wait for notifications and for another thread's word at once, and asks with a
limit on how long that takes."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastcache.stores.protocol import StoreError

try:
    import psycopg
except ImportError as error:
    raise ImportError(
        "what hears of changes in PostgreSQL needs psycopg: pip install 'fastcache-engine[postgres]'"
    ) from error

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq.abc import PGresult

__all__ = ["Address", "Session", "psycopg"]

#: Of SQLSTATE, whole or the class, what it is to StoreError.
_KINDS = {
    "25006": "readonly",
    "28": "auth",
    "42501": "auth",
    "53300": "clients",
    "53": "full",
    "57P03": "loading",
    "57": "closed",
    "08": "closed",
}
#: The same for what is said about a connection that did not come about, which has no SQLSTATE.
_SAYINGS = (
    ("authentication", "auth"),
    ("no password", "auth"),
    ("too many", "clients"),
    ("remaining connection slots", "clients"),
    ("starting up", "loading"),
    ("timeout", "timeout"),
)


class Address:
    """How to connect. where: host, port and database, no password. ValueError: it says nothing that libpq knows."""

    def __init__(self, conninfo: str, timeout: float) -> None:
        if not isinstance(conninfo, str):
            raise TypeError(f"conninfo must be a str, not {type(conninfo).__name__}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
        if not 0 < timeout < 1e6:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
        try:
            facts = conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:
            # The message would quote what may be a password.
            raise ValueError("conninfo is not a valid URL or connection string") from None
        host = facts.get("host") or facts.get("hostaddr") or os.environ.get("PGHOST") or "local"
        if "@" in str(host) and not str(host).startswith("@"):  # @ in front: an abstract socket
            raise ValueError(
                "conninfo has more than one @: in a URL, one that belongs to the password is %40"
            )
        port = facts.get("port") or os.environ.get("PGPORT") or "5432"
        name = facts.get("dbname") or os.environ.get("PGDATABASE") or facts.get("user") or ""
        self.where = f"{host}:{port}/{name}"
        self.timeout = float(timeout)
        self._secret = str(facts.get("password") or os.environ.get("PGPASSWORD") or "")
        defaults: dict[str, Any] = {
            "connect_timeout": max(2, round(timeout)),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "application_name": "fastcache",
        }
        more = {name: value for name, value in defaults.items() if name not in facts}
        self._conninfo = make_conninfo(conninfo, client_encoding="UTF8", **more)

    def connect(self) -> psycopg.Connection[Any]:
        """StoreError."""
        try:
            return psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            text = str(error)
            kind = next((kind for part, kind in _SAYINGS if part in text), "refused")
            raise self.error(kind, text) from None

    def error(self, kind: str, text: str) -> StoreError:
        """What went wrong, in one line and without the password."""
        text = " ".join(text.split())
        if self._secret:
            text = text.replace(self._secret, "***")
        return StoreError(self.where, kind, text)


class Session:
    """One connection, in autocommit mode. Belongs to one thread, but for `wake`. StoreError wherever it fails."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.closed = False
        self._heard: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._was_woken = False
        try:
            self._woken.setblocking(False)
            self._waker.setblocking(False)
            self._connection = address.connect()
        except BaseException:
            self._woken.close()
            self._waker.close()
            self._selector.close()
            raise
        self._pg = self._connection.pgconn
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._selector.register(self._pg.socket, selectors.EVENT_READ, self)
        _all.add(self)

    # ---- asking ----------------------------------------------------------------------------------

    def ask(
        self, sql: str, values: Sequence[str | None] | None = None, seconds: float | None = None
    ) -> list[list[str | None]]:
        """The rows of the last statement, as text. values: for $1, $2 and so on; without them there may be several
        statements. Within so many seconds (the address's timeout), else the session is closed."""
        end = monotonic() + (self.address.timeout if seconds is None else seconds)
        try:
            self._check()
            if values is None:
                self._pg.send_query(sql.encode())
            else:
                sent = [None if value is None else value.encode() for value in values]
                self._pg.send_query_params(sql.encode(), sent)
            while self._pg.flush():
                self._wait(end, selectors.EVENT_READ | selectors.EVENT_WRITE)
                self._pg.consume_input()
            results = self._results(end)
        except psycopg.Error as error:
            self.close()
            raise self.address.error("closed", str(error)) from None
        except BaseException:
            self.close()
            raise
        for result in results:
            self._refused(result)
        if not results:
            return []
        last = results[-1]
        return [
            [_text(last.get_value(row, column)) for column in range(last.nfields)]
            for row in range(last.ntuples)
        ]

    def _results(self, end: float) -> list[PGresult]:
        results: list[PGresult] = []
        while True:
            while self._pg.is_busy():
                self._wait(end, selectors.EVENT_READ)
                self._pg.consume_input()
            self._collect()
            result = self._pg.get_result()
            if result is None:
                return results
            results.append(result)

    def _wait(self, end: float, events: int) -> None:
        """Until the connection is ready, or `end`."""
        self._selector.modify(self._pg.socket, events, self)
        while True:
            left = end - monotonic()
            if left <= 0:
                raise self.address.error("timeout", "no answer in time")
            for key, _ in self._selector.select(left):
                if key.data is self:
                    if events != selectors.EVENT_READ:
                        self._selector.modify(self._pg.socket, selectors.EVENT_READ, self)
                    return
                self._note_woken()

    def _refused(self, result: PGresult) -> None:
        if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY):
            return
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        said = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
        text = said.decode("utf-8", "replace")
        kind = _KINDS.get(state) or _KINDS.get(state[:2]) or "other"
        text = text or self._pg.get_error_message()
        if self._pg.status == ConnStatus.BAD:
            self.close()
        raise self.address.error(kind, text)

    # ---- hearing ---------------------------------------------------------------------------------

    def wait(self, seconds: float) -> list[str]:
        """The notifications that have come; waits so long for the first, or until `wake`."""
        self._check()
        try:
            self._collect()
            end = monotonic() + max(0.0, seconds)
            while True:
                left = end - monotonic()
                if self._heard or self._was_woken:
                    left = 0.0
                for key, _ in self._selector.select(max(0.0, left)):
                    if key.data is None:
                        self._note_woken()
                        continue
                    self._pg.consume_input()
                    self._collect()
                if left <= 0 or self._heard or self._was_woken:
                    break
        except psycopg.Error as error:
            self.close()
            raise self.address.error("closed", str(error)) from None
        except BaseException:
            self.close()
            raise
        self._was_woken = False
        return self.taken()

    def taken(self) -> list[str]:
        """The notifications that came while something else was asked."""
        heard, self._heard = self._heard, []
        return heard

    def put_back(self, heard: list[str]) -> None:
        """What the next `wait` or `taken` returns first."""
        self._heard[:0] = heard

    def _collect(self) -> None:
        while (notify := self._pg.notifies()) is not None:
            self._heard.append(notify.extra.decode("utf-8", "replace"))

    def _note_woken(self) -> None:
        self._was_woken = True
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _check(self) -> None:
        if self.closed:
            raise self.address.error("closed", "the connection is closed")

    # ---- the end ---------------------------------------------------------------------------------

    def wake(self) -> None:
        # A full buffer wakes as well, and so does a closed session.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._selector.close()
        self._connection.close()
        self._woken.close()
        self._waker.close()

    def forked(self) -> None:
        """In a child: the connection is the parent's. It is left alone, and the server not told."""
        if self.closed:
            return
        self.closed = True
        self._selector.close()
        self._woken.close()
        self._waker.close()
        _inherited.append(self._connection)
        with contextlib.suppress(OSError):
            os.close(self._pg.socket)

    def __del__(self) -> None:
        if hasattr(self, "_pg"):
            self.close()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


_all: weakref.WeakSet[Session] = weakref.WeakSet()
#: Kept, since they would be closed with a word to the server if they were collected.
_inherited: list[Any] = []


def _after_fork() -> None:
    for session in list(_all):
        session.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
