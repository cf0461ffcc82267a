"""Connections to PostgreSQL: as many as there are callers at once, kept for the next.

Without threads of its own, so that it works while the interpreter exits, and says at once why there is no
connection.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

try:
    import psycopg
except ImportError as error:
    raise ImportError(
        "writing to PostgreSQL needs psycopg: pip install 'fastcache-engine[postgres]'"
    ) from error

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fastcache.writing.options import seconds_at_least

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

__all__ = ["Pool", "psycopg"]

#: Seconds: the server counts milliseconds in 31 bits.
LONGEST = 2_000_000
#: Idle connections that are kept.
_KEPT = 8


class _Connection(psycopg.Connection[Any]):
    """One whose server must answer within `limit` seconds, whatever the network does to its packets."""

    limit = 60.0

    def wait(self, gen: Any, *more: Any, **options: Any) -> Any:
        return super().wait(self._limited(gen), *more, **options)

    def _limited(self, gen: Any) -> Any:
        deadline = time.monotonic() + self.limit
        ready = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as stop:
                return stop.value
            if time.monotonic() > deadline:
                self.pgconn.finish()  # nothing that is sent now would be understood
                raise psycopg.OperationalError(f"the server does not answer within {self.limit} s")
            ready = yield wanted


class Pool:
    """Connections by one conninfo, in autocommit mode. where: host, port and database, no password.

    conninfo may be a psycopg_pool.ConnectionPool, whose connections are then used.
    """

    def __init__(self, conninfo: Any, connect_timeout: float, statement_timeout: float) -> None:
        self._foreign = None
        for option, seconds in (
            ("connect_timeout", connect_timeout),
            ("statement_timeout", statement_timeout),
        ):
            seconds_at_least(option, seconds, above=True)
            if seconds > LONGEST:
                raise ValueError(f"{option} must be at most {LONGEST} seconds, not {seconds}")
        if not isinstance(conninfo, str):
            if not callable(getattr(conninfo, "connection", None)):
                raise TypeError(
                    f"conninfo must be a connection string or a pool, not {type(conninfo).__name__}"
                )
            self._foreign = conninfo
            conninfo = conninfo.conninfo
        try:
            facts = conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:
            # The message would quote what may be a password.
            raise ValueError("conninfo is not a valid URL or connection string") from None
        host = facts.get("host") or facts.get("hostaddr") or os.environ.get("PGHOST") or "local"
        port = facts.get("port") or os.environ.get("PGPORT") or "5432"
        name = facts.get("dbname") or os.environ.get("PGDATABASE") or facts.get("user") or ""
        self.where = f"{host}:{port}/{name}"
        # A network that swallows packets is noticed, and not only after hours.
        waits: dict[str, Any] = {
            "connect_timeout": max(2, round(connect_timeout)),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": int(statement_timeout * 1000),
            "application_name": "fastcache",
        }
        self._conninfo = make_conninfo(
            conninfo, **{name: value for name, value in waits.items() if name not in facts}
        )
        self._statement_timeout = f"{int(statement_timeout * 1000)}ms"
        self._limit = statement_timeout + 1.0  # the server's own limit comes first, if it hears us
        self._idle: deque[Connection[Any]] = deque()
        self._watch()
        _all.add(self)

    def _watch(self) -> None:
        # Not a __del__: in garbage that is a cycle the connections would complain of being left open before that ran.
        self._closer = weakref.finalize(self, _close, self._idle)
        self._closer.atexit = False  # what is written at exit needs them

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """A connection for this caller alone. psycopg.OperationalError: none can be made."""
        if self._foreign is not None:
            with self._foreign.connection() as connection:
                yield connection
            return
        connection = self._take()
        try:
            yield connection
        except BaseException:
            # Whatever state it is in, nobody has to find out.
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.close()
            raise
        finally:
            if not connection.closed:
                if len(self._idle) < _KEPT:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _take(self) -> Connection[Any]:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.closed:
                return connection
        # No prepared statements, which poolers in between would lose.
        connection = _Connection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        connection.limit = self._limit
        connection.execute(
            "SELECT set_config('statement_timeout', %s, false)", (self._statement_timeout,)
        )
        return connection

    def close(self) -> None:
        """Close those that are idle."""
        _close(self._idle)

    def after_fork(self) -> None:
        """In the child: forget the parent's connections, without closing them."""
        from fastcache.writing.journal import keep_for_ever

        for connection in self._idle:
            keep_for_ever(connection)
        self._closer.detach()
        self._idle = deque()
        self._watch()


def _close(idle: deque[Connection[Any]]) -> None:
    with contextlib.suppress(IndexError):  # none is left; others may take some meanwhile
        while True:
            idle.pop().close()


_all: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_all):
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
