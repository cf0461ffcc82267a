"""One journal: an SQLite file that keeps what was acknowledged until the source has it.

    <id>.journal   the file, with SQLite's own <id>.journal-wal and -shm beside it
    <id>.lock      locked (flock) by the process that owns it, as long as that lives

Tables: `ops`, what the source does not have yet, by sequence; `dead`, what it refused, with the error;
`meta`: whose it is. The application id and the user version in the file's header say that it is ours, and
in which format. A journal is owned by one process: the one that made it, or, once that is dead, whoever gets
the lock (`adopt`). Losing the lock is impossible while a file descriptor is open, and a child that inherited
one closes it without unlocking.

Each append is one commit. WAL frames are written in one go and checked by SQLite's own sums, so that after a
kill the last commit is there or is not. Automatic checkpoints are off: `checkpoint` is called by the thread
that drains, on a connection of its own, so that no write pays for one. `synchronous` is NORMAL (survives the
process) or FULL (each commit reaches the disk).

Between appends a query stays open (`_hold`): so SQLite keeps the lock of a reader, which it would else take and
give back for each commit, a quarter of what that costs. All but an append ends it: it keeps this connection
from seeing what others write (a mark on a dead letter), and a checkpoint from copying what came later.

Nothing here is locked against threads: the queue calls under its lock, all but `checkpoint`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from fastcache.writing import salvage
from fastcache.writing.errors import JournalError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing can be told about other processes
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Durability = Literal["memory", "process", "power"]

log = logging.getLogger("fastcache")

APPLICATION = 0x66634A6C  # "fcJl"
FORMAT = 1
#: Sizes of the write-ahead log in bytes: where it is copied back, and where writers wait for that.
CHECKPOINT_AT = 4 << 20
WAIT_AT = 16 << 20

_INSERT = "INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?)"
_COLUMNS = "sequence, kind, key, value, initial, version"
_SCHEMA = f"""
    PRAGMA application_id = {APPLICATION};
    PRAGMA user_version = {FORMAT};
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE ops (sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, key BLOB NOT NULL,
                      value TEXT, initial INTEGER NOT NULL, version INTEGER NOT NULL);
    CREATE TABLE dead (sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, key BLOB NOT NULL,
                       value TEXT, initial INTEGER NOT NULL, version INTEGER NOT NULL,
                       error TEXT NOT NULL, at REAL NOT NULL, retry INTEGER NOT NULL DEFAULT 0);
"""
#: Connections that a parent made, kept in the child for ever, since even closing them would touch files.
_inherited: list[object] = []

#: Ending of a journal that is being made.
UNFINISHED = ".new"


class Record(NamedTuple):
    """A row of `ops`: key and value encoded."""

    sequence: int
    kind: str
    key: bytes
    value: str | None
    initial: int
    version: int


class DeadRecord(NamedTuple):
    """A row of `dead`."""

    sequence: int
    kind: str
    key: bytes
    value: str | None
    initial: int
    version: int
    error: str
    at: float
    retry: int


def lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


class Journal:
    """An open journal that this process owns. Made by `create` and `adopt`."""

    def __init__(self, path: Path, lock: int, connection: sqlite3.Connection) -> None:
        self.path = path
        self.id = path.stem
        self.pid = os.getpid()
        #: Rows that were not found again, because the file was damaged.
        self.damaged = False
        self._lock = lock
        self._held: sqlite3.Cursor | None = None
        self.connection = connection
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute

    # ---- opening and closing -----------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path, writer: str, durability: str) -> Self:
        """A new journal in an existing directory, for this writer. JournalError: it cannot be made."""
        while True:
            path = folder / f"{os.urandom(8).hex()}.journal"
            lock = _take_lock(path, new=True)
            if lock is not None:
                break
        unfinished = path.with_suffix(UNFINISHED)
        try:
            connection = connect_new(unfinished)
            facts = {"writer": writer, "pid": os.getpid(), "made": time.time(), "trimmed": 0}
            with connection:
                connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
            connection.close()
            os.rename(unfinished, path)  # so that a journal is whole as soon as it is there
            connection = _connect(path)
            _tune(connection, durability)
            if durability == "power":
                salvage.sync_folder(folder)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            _remove(path)
            os.close(lock)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise JournalError(str(path), f"cannot be made: {error}") from error
            raise
        return cls(path, lock, connection)

    @classmethod
    def adopt(cls, path: Path, durability: str) -> Self | None:
        """The journal of a process that is dead; None: it lives, or someone else has adopted it.

        JournalError: it is not a journal, or one of a newer version. What can be read of a damaged one is
        copied into a new file, and the damaged one kept under another name.
        """
        lock = _take_lock(path, new=False)
        if lock is None:
            return None
        try:
            if path.stat().st_size == 0:
                log.warning("journal %s is empty, as after a loss of power; it is removed", path)
                _remove(path)
                os.close(lock)
                return None
            check_header(path)
            frames = salvage.frames(path)
            connection = _connect(path)
            damaged = False
            try:
                whole = connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
            except sqlite3.DatabaseError:
                whole = False
            if not whole:
                salvage.rescue(path, connection, connect_new)
                connection = _connect(path)
                damaged = True
            elif (read := salvage.valid_frames(connection)) < frames:
                damaged = True
                log.warning(
                    "journal %s: the last %d of %d pages in its log are torn; what was committed before "
                    "them is whole",
                    path,
                    frames - read,
                    frames,
                )
            _tune(connection, durability)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise JournalError(str(path), f"cannot be opened: {error}") from error
            raise
        self = cls(path, lock, connection)
        self.damaged = damaged
        return self

    def close(self, *, remove: bool = False) -> None:
        """Close the files, and unlock. A journal in which nothing is left is removed; with remove in any case."""
        if self.pid != os.getpid():
            return
        lock, self._lock = self._lock, -1
        if lock < 0:
            return  # closed before: by now the number may be another file's
        try:
            empty = remove or not (self.count() or self._one("SELECT count(*) FROM dead"))
        except JournalError:
            empty = False
        self._release()
        self._cursor.close()  # a statement that is left would keep the files open
        self.connection.close()
        if empty:
            _remove(self.path)
        os.close(lock)

    def abandon(self) -> None:
        """In a forked child: let go without touching anything that the parent still uses."""
        for inherited in (self._held, self._cursor, self.connection):
            keep_for_ever(inherited)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)  # the parent's descriptor holds the lock; unlocking would take it away

    # ---- rows --------------------------------------------------------------------------------------

    def append(self, record: tuple[int, str, bytes, str | None, int, int]) -> None:
        """Keep one operation. It is durable on return. JournalError: it is not kept."""
        try:
            try:
                self._execute(_INSERT, record)
            except sqlite3.OperationalError as error:
                # Others have written since, or do now: whoever reads cannot go on from there, nor wait.
                if self._held is None or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                self._release()
                self._execute(_INSERT, record)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if self._held is None:
            self._hold()

    def append_many(self, records: Sequence[tuple[int, str, bytes, str | None, int, int]]) -> None:
        """Keep several, all or none, with one commit."""
        self._together([(_INSERT, records)])

    def read(self, after: int = 0) -> list[Record]:
        """What is in it beyond a sequence, in order."""
        found = self._all(f"SELECT {_COLUMNS} FROM ops WHERE sequence > ? ORDER BY sequence", after)
        return [Record(*row) for row in found]

    def trim(self, through: int) -> None:
        """Forget everything up to a sequence: the source has it."""
        self._together(
            [
                ("DELETE FROM ops WHERE sequence <= ?", [(through,)]),
                ("UPDATE meta SET value = max(value, ?) WHERE name = 'trimmed'", [(through,)]),
            ]
        )

    def remove(self, sequences: Iterable[int]) -> None:
        """Forget these: the source has them."""
        self._together([("DELETE FROM ops WHERE sequence = ?", [(s,) for s in sequences])])

    def bury(self, records: Sequence[DeadRecord]) -> None:
        """Make operations dead letters, in one commit."""
        self._together(
            [
                ("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", records),
                ("DELETE FROM ops WHERE sequence = ?", [(r.sequence,) for r in records]),
            ]
        )

    def dead(self, *, retry: bool = False) -> list[DeadRecord]:
        """The dead letters; with retry those that someone wants to be tried again."""
        where = "WHERE retry" if retry else ""
        return [
            DeadRecord(*row) for row in self._all(f"SELECT * FROM dead {where} ORDER BY sequence")
        ]

    def revive(self, renewed: Sequence[tuple[int, Record]], *, keep: bool = True) -> None:
        """Put dead letters, by their sequences, back to the operations under new sequences; without keep only
        forget them."""
        self._together(
            [
                (_INSERT, [record for _, record in renewed] if keep else []),
                ("DELETE FROM dead WHERE sequence = ?", [(old,) for old, _ in renewed]),
            ]
        )

    def drop(self, sequences: Iterable[int]) -> None:
        """Forget these dead letters."""
        self._together([("DELETE FROM dead WHERE sequence = ?", [(s,) for s in sequences])])

    def count(self) -> int:
        """How many operations are in it."""
        found: int = self._one("SELECT count(*) FROM ops")
        return found

    def first(self) -> int:
        """The lowest sequence among the operations; beyond all if there are none."""
        found: int = self._one("SELECT coalesce(min(sequence), 1 << 62) FROM ops")
        return found

    def last(self) -> int:
        """The highest sequence it ever had."""
        found: int = self._one(
            "SELECT max((SELECT coalesce(max(sequence), 0) FROM ops),"
            " (SELECT coalesce(max(sequence), 0) FROM dead),"
            " coalesce((SELECT value FROM meta WHERE name = 'trimmed'), 0))"
        )
        return found

    def writer(self) -> str:
        """The name of the writer whose operations these are."""
        return str(self._one("SELECT value FROM meta WHERE name = 'writer'"))

    # ---- checkpoints ---------------------------------------------------------------------------------

    def log_size(self) -> int:
        """Bytes in the write-ahead log."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> bool:
        """Copy the log back into the file, from any thread; writers go on. False: it could not be done."""
        if self.pid != os.getpid():
            return False
        self._release()
        try:
            connection = _connect(self.path)
            try:
                _tune(connection, "process")
                busy, pages, copied = connection.execute(
                    "PRAGMA wal_checkpoint(PASSIVE)"
                ).fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            log.warning("journal %s: checkpoint: %s", self.path, error)
            return False
        return not busy and pages == copied

    # ---- helpers -------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Keep the lock of a reader, by a query of which the first row alone is taken (see the module)."""
        try:
            held = self.connection.execute("SELECT name FROM meta")
        except sqlite3.Error as error:
            log.debug(
                "journal %s: no reader's lock: %s", self.path, error
            )  # it only costs more then
        else:
            self._held = held

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _together(self, statements: Iterable[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        cursor = self._cursor
        self._release()
        try:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                for sql, parameters in statements:
                    cursor.executemany(sql, parameters)
                cursor.execute("COMMIT")
            except BaseException:
                self.recover()
                raise
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def recover(self) -> None:
        """Take back what was begun, if anything was (some errors have done so already)."""
        if self.connection.in_transaction:
            self._cursor.execute("ROLLBACK")

    def _all(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        self._release()
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _one(self, sql: str) -> Any:
        return self._all(sql)[0][0]

    def _failed(self, error: sqlite3.Error) -> JournalError:
        return JournalError(str(self.path), "it is closed" if self._lock < 0 else str(error))


# ---- files and locks ---------------------------------------------------------------------------------


def sweep(folder: Path) -> None:
    """Remove what processes left that were killed while they made a journal, or removed one."""
    for name in folder.glob("*.lock"):
        path = name.with_suffix(".journal")
        if not path.exists() and (lock := _take_lock(path, new=False)) is not None:
            os.close(lock)  # it has come since


def check_header(path: Path) -> None:
    """JournalError unless the file is a journal in a format we know. Not for files that are open here."""
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except OSError as error:
        raise JournalError(str(path), f"cannot be read: {error}") from error
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise JournalError(str(path), "is no journal, or its beginning is destroyed; move it away")
    version, application = struct.unpack(">I4xI", header[60:72])
    _check_format(path, application, version)


def check_open(path: Path, connection: sqlite3.Connection) -> None:
    """The same for one that is open, by a connection to it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _check_format(path, application, version)


def _check_format(path: Path, application: int, version: int) -> None:
    if application != APPLICATION:
        raise JournalError(str(path), f"belongs to another application (id {application:#x})")
    if version > FORMAT:
        raise JournalError(
            str(path), f"has format {version}; this version of fastcache reads up to {FORMAT}"
        )


def _take_lock(path: Path, *, new: bool) -> int | None:
    """Lock a journal for this process; None: another has it, or had and removed it."""
    if fcntl is None:
        raise JournalError(str(path), "journals need a POSIX system")
    name = lock_path(path)
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0), 0o600)
    except FileExistsError:
        return None
    except OSError as error:
        raise JournalError(str(path), f"cannot be locked: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(name)):
            if new or path.exists():
                return lock
            # Left over: its journal is gone, or was never finished.
            path.with_suffix(UNFINISHED).unlink(missing_ok=True)
            _remove(path)
    except BlockingIOError:
        pass
    except FileNotFoundError:
        pass  # removed between opening and locking
    except OSError as error:
        os.close(lock)
        raise JournalError(str(path), f"cannot be locked: {error}") from error
    os.close(lock)
    return None


def _remove(path: Path) -> None:
    """The journal first, then its lock: a lock without a journal means nothing."""
    for name in (path, f"{path}-wal", f"{path}-shm", lock_path(path)):
        Path(name).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)


def connect_new(path: Path) -> sqlite3.Connection:
    # What waits to be written is as secret as the source; SQLite gives its log the mode of the file. (A
    # file that SQLite has open must never be closed here: that would end SQLite's locks on it.)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = _connect(path)
    # Nobody looks at it before it is finished, so it needs no way back.
    connection.execute("PRAGMA journal_mode = MEMORY")
    connection.executescript(f"BEGIN; {_SCHEMA} COMMIT")
    return connection


def _tune(connection: sqlite3.Connection, durability: str) -> None:
    mode = "FULL" if durability == "power" else "NORMAL"
    connection.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {mode}; PRAGMA wal_autocheckpoint = 0;"
        f" PRAGMA fullfsync = {int(durability == 'power')}; PRAGMA checkpoint_fullfsync = 1;"
        f" PRAGMA journal_size_limit = {CHECKPOINT_AT // 2}"
    )


def keep_for_ever(value: object) -> None:
    """Take a reference that is never given back, not even when the interpreter ends."""
    import ctypes

    _inherited.append(value)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
