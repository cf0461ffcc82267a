"""The database of a SQLiteStore: opening, locking, replacing, closing. What is kept in it is sqlite.py's.

Three files: the database, its write-ahead log (with an index of its own), and the generations
(`_generations.py`). They belong together: the database names the generations' incarnation, and one
that names another is made anew.

Nothing is ever synchronised to the disk, except by `close`. What a killed process has committed lies in
the memory of the machine, and is there for the others; but after a power cut anything may be missing,
invalidations too. So a file counts after a boot only if it was settled: written out by a `close` after which
nobody wrote; the mark for that lies in the generations, and is taken away, on the disk, before the next write.

No descriptor of the database is opened but by SQLite, or before it: closing any would drop the locks
that the process has on it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fastcache.stores._generations import EPOCH, SETTLED, Generations, MovedError, now
from fastcache.stores.protocol import StoreError

log = logging.getLogger("fastcache")

_APPLICATION = 0x66634C32
_SCHEMA = """
CREATE TABLE meta (incarnation BLOB, bytes INTEGER, tags INTEGER, boot INTEGER, wall INTEGER);
CREATE TABLE value (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, due INTEGER, size INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX value_due ON value (due) WHERE due IS NOT NULL;
CREATE TABLE lease (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, token BLOB NOT NULL, due INTEGER NOT NULL, held INTEGER NOT NULL);
CREATE INDEX lease_due ON lease (due);
CREATE TABLE tag (id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE INDEX tag_sequence ON tag (sequence);
"""
#: Changes with _SCHEMA.
_VERSION = 1
#: Files that are set aside, at most.
_ASIDE = 8
_PARTS = ("", "-wal", "-shm", "-journal")
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_KINDS = {
    sqlite3.SQLITE_BUSY: "timeout",
    sqlite3.SQLITE_LOCKED: "timeout",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_CANTOPEN: "file",
    sqlite3.SQLITE_IOERR: "file",
    sqlite3.SQLITE_CORRUPT: "file",
    sqlite3.SQLITE_NOTADB: "file",
}
#: One at a time in this process makes files: see above.
_MAKING = threading.Lock()
#: Connections that were in use when the process was forked: never touched, and never closed.
_INHERITED: list[sqlite3.Connection] = []


def kind_of(error: BaseException) -> str:
    """The word of StoreError for an error of SQLite or of the system."""
    if isinstance(error, OSError):
        import errno

        full = (errno.ENOSPC, errno.EDQUOT)
        barred = (errno.EROFS, errno.EACCES, errno.EPERM)
        return "full" if error.errno in full else "readonly" if error.errno in barred else "file"
    return _KINDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "other")


def is_corrupt(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _CORRUPT or code == sqlite3.SQLITE_IOERR_SHORT_READ


class Database:
    """One file, and this process's connection to it. Not thread-safe: the store's lock is around it."""

    def __init__(self, path: str, trip: float) -> None:
        self.path = path
        self.trip = trip
        self.generations: Generations | None = None
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0
        self._head: memoryview | None = None
        self._busy = self._busy_now = int(1000 * trip)
        self._barred: str | None = None
        #: Seconds of time.monotonic until which the request that runs may wait.
        self.limit = 0.0

    # ---- opening -------------------------------------------------------------------------------

    def ready(self) -> sqlite3.Connection:
        """The connection to the file that is current. StoreError, OSError, sqlite3.Error."""
        connection = self._connection
        if connection is None or self._head is None or self._head[EPOCH] != self._epoch:
            return self._open()
        return connection

    @property
    def is_open(self) -> bool:
        """Whether `ready` has nothing to do."""
        head = self._head
        return self._connection is not None and head is not None and head[EPOCH] == self._epoch

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that `ready` found, whatever has happened since: names have their numbers there."""
        assert self._connection is not None
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self._barred:
            raise StoreError(self.path, "file", self._barred)
        with _MAKING:
            self.disconnect()
            if self.generations is None or self.generations.moved():
                self.forget()
                self.generations = Generations(self.path + "-gen", self.limit)
            generations = self.generations
            self._head = generations.head
            with self._locked(generations, False):
                if self._connect(generations):
                    return self._accept(generations)
            with self._locked(generations, True):
                for _ in range(3):
                    if self._connect(generations) or self._make(generations):
                        return self._accept(generations)
        raise StoreError(self.path, "file", "every new file is found corrupt")

    def _accept(self, generations: Generations) -> sqlite3.Connection:
        assert self._connection is not None
        self._epoch = generations.head[EPOCH]
        return self._connection

    @contextmanager
    def _locked(self, generations: Generations, exclusive: bool) -> Iterator[None]:
        generations.lock(exclusive, self.limit)
        try:
            yield
        finally:
            generations.unlock()

    def _connect(self, generations: Generations) -> bool:
        """Connect to the file that is there, if it goes with these generations."""
        self.disconnect()
        if not os.path.exists(self.path):
            return False
        # not a URI, so that no character of a path has a meaning
        self._connection = connection = sqlite3.connect(
            self.path,
            timeout=self.trip,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        self._busy_now = self._busy
        try:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (owner, version) != (_APPLICATION, _VERSION):
                return False
            (mark,) = connection.execute("SELECT incarnation FROM meta").fetchone() or (b"",)
            if mark != _mark(generations.incarnation):
                return False
            self._tune(connection)
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            return False
        return True

    def _tune(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_size_limit=4194304")

    def _make(self, generations: Generations) -> bool:
        """Make the file, or that which is there right. Under the exclusive lock. False: try once more."""
        connection = self._connection
        if connection is not None:
            try:
                if generations.before is not None and self._adopt(generations, connection):
                    return True
                self._refuse_others(connection)
                tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if tables:
                    log.info("%s is from before a boot, or of another version: emptied", self.path)
                self.remove(generations)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                self.set_aside(generations, error)
        self.disconnect()
        if not os.path.exists(self.path):  # else somebody makes it without a lock
            self.remove(generations)  # a log without its database
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_WRONLY, 0o600))
        generations.settle(False)
        generations.replaced()
        connection = self._connection = sqlite3.connect(
            self.path, timeout=self.trip, isolation_level=None, check_same_thread=False
        )
        self._tune(connection)
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        mark = _mark(generations.incarnation)
        connection.execute("INSERT INTO meta VALUES (?, 0, 0, 0, 0)", (mark,))
        connection.execute(f"PRAGMA application_id={_APPLICATION}")
        connection.execute(f"PRAGMA user_version={_VERSION}")
        connection.execute("COMMIT")
        return False  # connected to once more, as any other

    def _refuse_others(self, connection: sqlite3.Connection) -> None:
        """A database that is whole, and another application's, is left alone."""
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != _APPLICATION:
            self.disconnect()
            self._barred = (
                "this is the database of another application; a store wants a file of its own"
            )
            raise StoreError(self.path, "file", self._barred)

    def _adopt(self, generations: Generations, connection: sqlite3.Connection) -> bool:
        """Take over what was settled in an earlier boot: only now wall clocks are compared."""
        before, generations.before = generations.before, None
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if before is None or (owner, version) != (_APPLICATION, _VERSION):
            return False
        mark, boot, wall = connection.execute("SELECT incarnation, boot, wall FROM meta").fetchone()
        if mark != _mark(before):
            return False
        generations.settle(False)
        self._tune(connection)
        away = max(0, time.time_ns() - wall)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM lease")
        connection.execute(
            "UPDATE value SET due = due + ? WHERE due IS NOT NULL", (now() - boot - away,)
        )
        connection.execute("UPDATE meta SET incarnation = ?", (_mark(generations.incarnation),))
        connection.execute("COMMIT")
        return True

    # ---- replacing -----------------------------------------------------------------------------

    def set_aside(self, generations: Generations, error: BaseException) -> None:
        """Rename what cannot be read. Under the exclusive lock."""
        self.disconnect()
        asides = [f"{self.path}.corrupt-{number}" for number in range(1, _ASIDE + 1)]
        # when all are taken the last one is replaced
        aside = next((name for name in asides if not os.path.exists(name)), asides[-1])
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            log.warning("%s cannot be read (%s): set aside as %s", self.path, error, aside)
        for part in _PARTS[1:]:
            with suppress(FileNotFoundError):
                os.rename(self.path + part, aside + part)
        generations.replaced()

    def remove(self, generations: Generations) -> None:
        """Throw away all that is kept, which needs no room. Under the exclusive lock."""
        self.disconnect()
        for part in _PARTS:
            with suppress(FileNotFoundError):
                os.unlink(self.path + part)
        generations.replaced()

    def replace(self, error: BaseException | None) -> None:
        """Set the file aside because of what was found in it, or remove it, unless somebody else has done so."""
        generations, epoch = self.generations, self._epoch
        self.disconnect()
        if generations is None:
            return
        with _MAKING, self._locked(generations, True):
            if generations.head[EPOCH] == epoch and not generations.moved():
                if error is None:
                    self.remove(generations)
                else:
                    self.set_aside(generations, error)

    # ---- writing -------------------------------------------------------------------------------

    def begin(self) -> tuple[sqlite3.Connection, Generations]:
        """A write transaction on the file that is current, with its generations locked."""
        for _ in range(4):
            connection = self.ready()
            generations = self.generations
            assert generations is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                # locked after the transaction has begun, so that one process at a time has it
                generations.lock(False, self.limit)
                if generations.head[EPOCH] == self._epoch and not generations.moved():
                    if generations.head[SETTLED]:
                        generations.settle(False)
                    return connection, generations
                self.unlock()
                self.disconnect()  # another file has come in its place
            except MovedError:
                self.disconnect()
            except BaseException:
                self.rollback()
                raise
        raise StoreError(self.path, "file", "other processes keep replacing it")

    def rollback(self) -> None:
        """End a transaction that failed."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:  # nothing is known of it any more
                self.disconnect()
        self.unlock()

    def unlock(self) -> None:
        if self.generations is not None:
            self.generations.unlock()

    def wait_at_most(self, seconds: float) -> None:
        """Bound what SQLite waits for locks of others, until `wait_as_usual`."""
        if self._connection is not None:
            self._set_busy(max(1, int(1000 * seconds)))

    def wait_as_usual(self) -> None:
        if self._busy_now != self._busy and self._connection is not None:
            self._set_busy(self._busy)

    def _set_busy(self, milliseconds: int) -> None:
        assert self._connection is not None
        self._busy_now = milliseconds
        with suppress(sqlite3.Error):  # the request that follows says more of it
            self._connection.execute(f"PRAGMA busy_timeout={milliseconds}")

    # ---- the end -------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Close the connection; `ready` makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.debug("%s: closing: %s", self.path, error)

    def forget(self) -> None:
        """Give up the generations, too; whoever looks at them sees that everything may have changed."""
        generations, self.generations = self.generations, None
        if generations is not None:
            generations.advance_all()
            generations.close()

    def settle(self) -> None:
        """Write everything out, so that it counts after a boot, if no other process is in the way."""
        connection, generations = self._connection, self.generations
        if connection is None or generations is None or generations.head[SETTLED]:
            return
        self.limit = min(self.limit, time.monotonic() + 0.1)
        self.wait_at_most(0.05)
        with self._locked(generations, True):
            if generations.head[EPOCH] != self._epoch or generations.moved():
                return
            connection.execute("PRAGMA synchronous=FULL")
            # something to be checkpointed, so that the checkpoint synchronises
            connection.execute("UPDATE meta SET boot = ?, wall = ?", (now(), time.time_ns()))
            blocked, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not blocked:
                generations.settle(True)

    def close(self) -> None:
        try:
            self.settle()
        except (StoreError, OSError, sqlite3.Error, MovedError) as error:
            log.info("%s: not written out, so empty after the next boot: %s", self.path, error)
        self.disconnect()
        if self.generations is not None:
            self.generations.close()

    def forked(self, in_use: bool) -> None:
        """In a child. in_use: the fork came in the middle of a request."""
        if self._connection is not None:
            _INHERITED.append(self._connection)
            self._connection = None
        if in_use:
            # SQLite believes that this process has the locks that its parent has
            self._barred = "the process was forked during a request that did not end in time"
        if self.generations is not None:
            self.generations.forked()


def _mark(incarnation: int) -> bytes:
    return incarnation.to_bytes(8, "big")
