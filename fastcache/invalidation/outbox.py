"""The outbox of a database: what its triggers have noted is done in all tiers, by one process at a time.

NOTIFY only wakes who waits: what nobody has heard lies in the table until somebody has done it. A round is one
transaction, under an advisory lock that goes with it:

1. What has not been told yet is invalidated at once, so that nobody waits for transactions that are still open.
2. What no older transaction can have missed (xid below the snapshot's xmin) is deleted. The rest stays, marked as
   told, and is invalidated once more when the last transaction that is older has ended: one of them may have
   loaded and stored what it saw, which was older.

A process that dies in between has done too much, never too little: the next one does it again.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._redact import shown
from fastcache.backplane._postgres_session import Address, Session
from fastcache.backplane._postgres_words import Change, Rules, keys_of
from fastcache.backplane.postgres import checked_channel
from fastcache.invalidation.triggers import identifier, literal, qualified
from fastcache.stores.protocol import StoreError
from fastcache.tiered import AsyncTieredCache, TieredCache
from fastcache.tiered.drivers import carry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache.backplane._postgres_words import Rule

    Tiers = TieredCache[Any, Any] | AsyncTieredCache[Any, Any]

log = logging.getLogger("fastcache")

#: Rows of the outbox in one round, each with up to 500 keys.
ROUND = 100
#: Keys that a tier is told of at once.
SOME = 500
#: Seconds after which the server ends the round of a process that does nothing any more.
STUCK = 60
#: Seconds between attempts, at most.
LONGEST_PAUSE = 15.0
#: First half of the advisory lock, so that it meets nobody else's.
_LOCKS = 0x66634F62


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """rounds: in which there was something to do. rows: done and gone from the table. keys: invalidated. every: how
    often any row of a table had changed. early: rows told while older transactions were open. refused: rows whose keys
    could not be told, and which therefore stood for any row. ignored: rows of tables that concern no cache here.
    failures: rounds that failed and are tried again. lag: seconds from the change (its statement) to the end of the
    round, of the oldest row in the last round; None before. error: what the last round failed of; None: it did not.
    """

    rounds: int = 0
    rows: int = 0
    keys: int = 0
    every: int = 0
    early: int = 0
    refused: int = 0
    ignored: int = 0
    failures: int = 0
    lag: float | None = None
    error: str | None = None


class _Row(NamedTuple):
    number: int
    source: str
    keys: str | None
    settled: bool
    age: float


class PostgresOutbox:
    """Drains the outbox of `python -m fastcache triggers TABLE --outbox` into tiered caches.

    conninfo: a URL or connection string, of a session of its own on the primary. tiered: the cache, or
    {table: cache}, where tables of one outbox belong to several. outbox: its table. channel: that of the
    triggers; None: do not listen, but only look every `interval` seconds (that works through poolers by
    transactions too). tables, tags: as of PostgresBackplane; any row of a table without tags is the whole name
    space (`bump_version`). interval: seconds after which the table is looked at though nobody said so. timeout:
    seconds for a request.

    One process at a time drains; the others take over when it is gone. `start` begins a daemon thread; `drain` does
    what is there in the caller's. A key is invalidated as `tiered.invalidate` does it; where that could not
    reach L2, the row stays and is tried again, with back-off. A forked child drains nothing until it calls
    `start` itself. Safe from several threads. TypeError or ValueError that name the argument; the server is
    not asked before `start` or `drain`.
    """

    def __init__(
        self,
        conninfo: str,
        tiered: Tiers | Mapping[str, Tiers],
        *,
        outbox: str = "fastcache.outbox",
        channel: str | None = "fastcache",
        tables: Mapping[str, Rule] | Iterable[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        interval: float = 1.0,
        timeout: float = 5.0,
    ) -> None:
        self._caches = tiered if isinstance(tiered, Mapping) else None
        for each in self._caches.values() if self._caches is not None else [tiered]:
            if not isinstance(each, (TieredCache, AsyncTieredCache)):
                raise TypeError(
                    f"tiered must be a tiered cache, or a mapping of tables to such, got {shown(each)}"
                )
        self._cache = None if isinstance(tiered, Mapping) else tiered
        self._sql = _Statements(qualified(outbox, "outbox"))
        self._listen = None
        if channel is not None:
            self._listen = f"LISTEN {identifier(checked_channel(channel), 'channel')}"
        self._rules = Rules(tables, tags)
        if isinstance(interval, bool) or not isinstance(interval, (int, float)):
            raise TypeError(f"interval must be a number of seconds, got {interval!r}")
        if not 0 < interval <= 3600:
            raise ValueError(
                f"interval must be above 0 and at most 3,600 seconds, got {interval!r}"
            )
        self._interval = float(interval)
        self._address = Address(conninfo, timeout)
        self.where = self._address.where
        self._closed = False
        self._stats = OutboxStats()
        self._quiet: set[str] = set()
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        #: that of the thread, so that others can wake it
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"PostgresOutbox({self.where!r})"

    # ---- beginning and end -----------------------------------------------------------------------

    def start(self) -> PostgresOutbox:
        """Begin to drain, in a daemon thread, if that is not under way; returns itself, at once."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the outbox is closed")
            if self._thread is None:
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="fastcache-outbox", daemon=True
                )
                self._thread.start()
        return self

    @property
    def running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after the round that it is in, and wait so many seconds for it; `start` begins again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            if self._session is not None:
                self._session.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Stop for good. The caches stay open."""
        self._closed = True
        self.stop(timeout)

    def __enter__(self) -> PostgresOutbox:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> OutboxStats:
        return self._stats

    # ---- draining --------------------------------------------------------------------------------

    def drain(self) -> int:
        """Do what is in the outbox now, in this thread; how many rows are gone from it. 0 too if another process, or
        the thread, is at it. StoreError: the database or L2 could not be reached; what was not done is still
        there."""
        if self._closed:
            raise RuntimeError("the outbox is closed")
        session = Session(self._address)
        try:
            done = 0
            while True:
                found, gone = self._round(session)
                done += gone
                if found < ROUND:
                    return done
        finally:
            session.close()

    def _run(self, stop: threading.Event) -> None:
        """The thread: rounds, as long as there is something to do, then a wait for NOTIFY."""
        failed = 0
        while not stop.is_set():
            try:
                self._serve(stop)
            except StoreError as error:
                failed = self._failed(error, failed)
            except Exception as error:  # it goes on, whatever it was
                log.exception("the outbox %s failed in an unexpected way", self.where)
                failed = self._failed(error, failed)
            if not stop.is_set():
                # full jitter, so that many processes do not come back at once
                stop.wait(random.uniform(0.0, min(LONGEST_PAUSE, 0.1 * 2 ** min(failed, 10))))

    def _failed(self, error: Exception, failed: int) -> int:
        """How often it has failed in a row."""
        failed = failed + 1 if self._stats.error is not None else 1
        if failed == 1:
            log.warning("the outbox is not drained, which is tried again: %s", error)
        self._note(failures=1, error=str(error))
        return failed

    def _serve(self, stop: threading.Event) -> None:
        """Rounds on one session, until `stop`. StoreError."""
        session = Session(self._address)
        try:
            with self._lock:
                self._session = session
            if self._listen is not None:
                session.ask(self._listen)
            while not stop.is_set():
                found, _ = self._round(session)
                if found < ROUND and not stop.is_set():
                    session.wait(self._interval)
        finally:
            with self._lock:
                if self._session is session:
                    self._session = None
            session.close()

    def _round(self, session: Session) -> tuple[int, int]:
        """How many rows there were to do, and how many are gone. StoreError."""
        sql = self._sql
        session.taken()  # what has been said so far concerns what is read now
        ((mine,),) = session.ask(sql.begin)
        if mine is None:
            text = f"there is no outbox {sql.table}: `python -m fastcache triggers TABLE --outbox` makes it"
            raise self._address.error("other", text)
        rows = [_row(values) for values in session.ask(sql.read)] if mine == "true" else []
        if not rows:
            session.ask("COMMIT")
            self._note(error=None)
            return 0, 0
        begun = time.monotonic()
        self._tell(rows)
        gone = [row.number for row in rows if row.settled]
        early = [row.number for row in rows if not row.settled]
        if gone:
            session.ask(sql.delete, [_array(gone)])
        if early:
            session.ask(sql.mark, [_array(early)])
        session.ask("COMMIT")
        lag = max(row.age for row in rows) + time.monotonic() - begun
        self._note(rounds=1, rows=len(gone), early=len(early), lag=lag, error=None)
        return len(rows), len(gone)

    def _note(self, lag: float | None = None, error: Any = ..., **more: int) -> None:
        """Add to the counts."""
        with self._lock:
            now = self._stats
            counts = {name: getattr(now, name) + number for name, number in more.items()}
            self._stats = replace(
                now,
                lag=now.lag if lag is None else lag,
                error=now.error if error is ... else error,
                **counts,
            )

    # ---- telling the tiers -----------------------------------------------------------------------

    def _tell(self, rows: Sequence[_Row]) -> None:
        """Invalidate what the rows name. StoreError: not everything could be."""
        keys: dict[int, tuple[Tiers, dict[Any, None]]] = {}
        every: dict[tuple[int, str], Tiers] = {}
        for row in rows:
            cache = self._cache if self._caches is None else self._caches.get(row.source)
            if cache is None or not self._rules.concerns(row.source):
                self._ignore(row.source)
                continue
            found = self._keys(row)
            if found is None:
                every[id(cache), row.source] = cache
            else:
                keys.setdefault(id(cache), (cache, {}))[1].update(dict.fromkeys(found))
        for (_, source), cache in every.items():
            self._tell_every(cache, source)
        for cache, mine in keys.values():
            wanted = list(mine)
            for start in range(0, len(wanted), SOME):
                self._tell_some(cache, wanted[start : start + SOME])

    def _keys(self, row: _Row) -> list[Any] | None:
        """The keys of the cache; None: any."""
        try:
            return self._rules.keys(Change(row.source, keys_of(row.keys)))
        except Exception:
            log.exception(
                "keys of table %r could not be told, so that all of them are invalidated",
                row.source,
            )
            self._note(refused=1)
            return None

    def _ignore(self, source: str) -> None:
        self._note(ignored=1)
        if source not in self._quiet:
            self._quiet.add(source)
            log.warning("the outbox has changes of table %r, which concerns no cache here", source)

    def _tell_some(self, cache: Tiers, keys: list[Any]) -> None:
        core = cache._core
        if not carry(core.writes.invalidate(keys), core.blocking):
            # This process will tell L2, if it lives; the row stays so that somebody does in any case.
            raise StoreError(core.gate.where, "other", "an invalidation has not reached everyone")
        self._note(keys=len(keys))

    def _tell_every(self, cache: Tiers, source: str) -> None:
        core = cache._core
        if tags := self._rules.tags(source):
            carry(core.writes.invalidate_tags(tags), core.blocking)
        else:
            carry(core.writes.bump_version(), core.blocking)
        self._note(every=1)


class _Statements:
    """All SQL on the outbox."""

    def __init__(self, table: str) -> None:
        self.table = table
        # NULL if there is no such table
        lock = f"{_LOCKS}, to_regclass({literal(table)})::oid::bigint::bit(32)::int"
        self.begin = (
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f" SET LOCAL idle_in_transaction_session_timeout = '{STUCK}s';"
            f" SELECT pg_try_advisory_xact_lock({lock})::text"
        )
        # What is above the snapshot's xmax, but can be seen, came out of another server's dump.
        snapshot = "pg_current_snapshot()"
        settled = f"(xid < pg_snapshot_xmin({snapshot}) OR xid >= pg_snapshot_xmax({snapshot}))"
        columns = f"id, source, keys, {settled}::text, greatest(0, extract(epoch FROM clock_timestamp() - at))::text"
        parts = (
            "NOT told ORDER BY id",
            f"told AND xid < pg_snapshot_xmin({snapshot}) ORDER BY xid",
            f"told AND xid >= pg_snapshot_xmax({snapshot}) ORDER BY xid",
        )
        self.read = " UNION ALL ".join(
            f"(SELECT {columns} FROM {table} WHERE {part} LIMIT {ROUND})" for part in parts
        )
        self.delete = f"DELETE FROM {table} WHERE id = ANY ($1::bigint[])"
        self.mark = f"UPDATE {table} SET told = true WHERE id = ANY ($1::bigint[]) AND NOT told"


def _row(values: Sequence[str | None]) -> _Row:
    number, source, keys, settled, age = values
    return _Row(int(number or 0), source or "", keys, settled == "true", float(age or 0))


def _array(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


_all: weakref.WeakSet[PostgresOutbox] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_all):
        outbox._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
