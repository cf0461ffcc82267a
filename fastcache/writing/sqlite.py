"""SQLite tables as the source: a writer, and the loader that reads what it wrote.

    CREATE TABLE "counters" ("key" PRIMARY KEY, "value" TEXT, "version" INTEGER)

Made if absent; a table of one's own must have the three columns, with a unique key. A row with a version
NULL takes any write, one with a version only later ones. The key column of a table made here has no type,
so that 1 and "1" are two keys; keys are str, int and bytes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from fastcache._types import Uncopied
from fastcache.writing.errors import Refused
from fastcache.writing.forking import CONNECTION, hold
from fastcache.writing.ops import INCR, Applied, Batch, Op
from fastcache.writing.options import check_seconds, path_of, seconds_at_least
from fastcache.writing.sqlbase import (
    KEEP,
    Layout,
    TableLoader,
    check_counter,
    encodes,
    fresh,
    groups,
    identifier,
    marks,
    parse_marks,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from fastcache.writing.codec import Codec

_PURGE_EVERY = 3600.0
_GRAVES = "(key NOT NULL PRIMARY KEY, version INTEGER NOT NULL, at REAL NOT NULL)"
_APPLIED = (
    "(journal TEXT PRIMARY KEY, sequence INTEGER NOT NULL, folded TEXT NOT NULL, at REAL NOT NULL)"
)


class _Connection:
    """One connection, made when it is needed, used by one thread at a time; a forked child makes its own."""

    def __init__(self, path: str | os.PathLike[str], timeout: float, *, readonly: bool) -> None:
        text = path_of("path", path)
        if text == ":memory:" or text.startswith("file:"):
            raise ValueError(f"path must name a file that can be opened again, not {path!r}")
        seconds_at_least("timeout", timeout)
        self.path = os.path.abspath(text)
        self._timeout = timeout
        self._readonly = readonly
        # taken twice by one thread: by what a finalizer does in the midst of a query
        self.lock: Any = hold(threading.RLock(), CONNECTION)
        self._made: sqlite3.Connection | None = None
        self._closer: weakref.finalize[[], _Connection] | None = None
        _all.add(self)

    def get(self) -> tuple[sqlite3.Connection, bool]:
        """The connection, and whether it is new. Called under the lock."""
        if self._made is not None:
            return self._made, False
        if self._readonly and not os.path.exists(self.path):
            raise sqlite3.OperationalError(f"there is no file {self.path}")
        self._made = sqlite3.connect(
            self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        # Not a __del__: in garbage that is a cycle the connection would complain of being left open before that ran.
        self._closer = weakref.finalize(self, self._made.close)
        self._closer.atexit = False  # what is written at exit needs it
        return self._made, True

    def close(self) -> None:
        with self.lock:
            self._made = None
            if self._closer is not None:
                self._closer()

    def after_fork(self) -> None:
        """In the child: forget the parent's connection, without closing it."""
        from fastcache.writing.journal import keep_for_ever

        self.lock = hold(threading.RLock(), CONNECTION)
        made, self._made = self._made, None
        if self._closer is not None:
            self._closer.detach()
        if made is not None:
            keep_for_ever(made)


_all: weakref.WeakSet[_Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_all):
        connection.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SQLiteWriter(Uncopied):
    """Writes to one table of an SQLite file. Safe from all threads, which take turns; and after a fork.

    path: the file. table: its name. key, value, version: names of columns. columns: several columns in place
    of `value`: names, or a mapping of names to types; values are then mappings with exactly these. counter:
    the column increments add to, if it is not the only one. codec: how a value becomes the text in `value`;
    the default is plain JSON. timeout: seconds to wait for other writers of the file. keep: seconds to
    remember deletions and journals (`sqlbase`).

    The file is opened, and the table made, by the first use. Refused, TypeError, ValueError: an operation
    that cannot be written; sqlite3.Error: all else.
    """

    takes_data = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str,
        key: str = "key",
        value: str = "value",
        version: str = "version",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        counter: str | None = None,
        codec: Codec | None = None,
        timeout: float = 5.0,
        keep: float = KEEP,
    ) -> None:
        self._layout = Layout(
            key=key, value=value, version=version, columns=columns, counter=counter, codec=codec
        )
        self._sql = _Statements(table, self._layout)
        self._db = _Connection(path, timeout, readonly=False)
        check_seconds("keep", keep)
        self._keep = keep
        self._purged = -_PURGE_EVERY
        self._affinity = ""
        self.codec = self._layout.codec
        self.name = f"sqlite:{self._db.path}:{table}"

    def __repr__(self) -> str:
        return f"<SQLiteWriter {self.name}>"

    def check(self, kind: str, key: Hashable) -> None:
        """TypeError or ValueError: such an operation can never be written."""
        if type(key) is not str or not key.isascii():
            _check_key(key)
        if kind == INCR:
            self._layout.check(kind, key)
        if self._affinity:
            _check_affinity(key, self._affinity)

    def transient(self, error: BaseException) -> bool | None:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError)):
            return False
        if isinstance(error, sqlite3.ProgrammingError):
            return "bind" not in str(error)
        if isinstance(error, (sqlite3.Error, OSError)):
            return True
        return False if isinstance(error, (TypeError, ValueError, OverflowError)) else None

    def apply(self, ops: Sequence[Op]) -> Applied:
        """Write all or none, in one transaction. O(ops x log rows)."""
        batch = ops if isinstance(ops, Batch) else Batch(ops)
        puts, deletes, incrs = batch.split()
        rows = [self._layout.row(op) for op in puts]
        for op in batch:
            self.check(op.kind, op.key)
        with self._db.lock:
            connection, new = self._db.get()
            if new:
                self._prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                applied = self._write(connection, batch, (puts, rows, deletes, incrs))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return applied

    def _write(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        parts: tuple[list[Op], list[tuple[Any, ...]], list[Op], list[Op]],
    ) -> Applied:
        puts, rows, deletes, incrs = parts
        sql = self._sql
        last, folded = 0, frozenset[int]()
        if batch.journal:
            found = connection.execute(sql.applied, (batch.journal,)).fetchone()
            if found is not None:
                last, folded = found[0], parse_marks(found[1])
            if not fresh(batch, last, folded):
                return Applied(again=True)
        late: list[Op] = []
        latest = 0
        buried = connection.execute(sql.any_tombstone).fetchone()[0]
        if rows:
            statement = sql.put
            if buried:
                statement = sql.put_after_delete
                rows = [(*row, row[0], row[-1]) for row in rows]
            if connection.executemany(statement, rows).rowcount != len(rows):
                late, latest = self._late(connection, puts)
        for op in deletes:
            version = self._version(connection, op.key)
            if version is not None and version >= op.version:
                late.append(op)
                latest = max(latest, version)
                continue
            connection.execute(sql.delete, (op.key,))
            connection.execute(sql.bury, (op.key, op.version, time.time()))
        counters = {}
        for op in incrs:
            number, version = self._add(connection, op, buried or bool(deletes))
            if number is None:
                late.append(op)
            else:
                counters[op.key] = number
            latest = max(latest, version)
        if batch.journal:
            mark, beyond = marks(batch, last, folded)
            connection.execute(sql.mark, (batch.journal, mark, beyond, time.time()))
        self._purge(connection)
        return Applied(late, latest, counters or None)

    def _late(self, connection: sqlite3.Connection, puts: list[Op]) -> tuple[list[Op], int]:
        """Which puts met a later version, and the highest there is."""
        late, latest = [], 0
        for op in puts:
            version = self._version(connection, op.key)
            if version != op.version:
                buried = connection.execute(self._sql.tombstone, (op.key,)).fetchone()
                late.append(op)
                latest = max(latest, version or 0, buried[0] if buried else 0)
        return late, latest

    def _version(self, connection: sqlite3.Connection, key: Hashable) -> int | None:
        found = connection.execute(self._sql.version, (key,)).fetchone()
        return None if found is None else found[0]

    def _add(self, connection: sqlite3.Connection, op: Op, buried: bool) -> tuple[Any, int]:
        """Add to a counter; None in place of the number: it was deleted later than that."""
        layout, sql = self._layout, self._sql
        found = connection.execute(sql.count, (op.key,)).fetchone()
        if found is None:
            if buried:
                grave = connection.execute(sql.tombstone, (op.key,)).fetchone()
                if grave is not None and grave[0] > op.version:
                    return None, grave[0]
            number = op.initial + op.value
            connection.execute(sql.insert_count, (op.key, self._stored(number), op.version))
            return number, 0
        value, version = found
        if layout.columns is None and layout.codec is not None:
            value = layout.codec.decode(value) if isinstance(value, str) else value
        elif value is None:
            value = op.initial
        check_counter(op, value)
        number = value + op.value
        later = op.version if version is None else max(version, op.version)
        connection.execute(sql.set_count, (self._stored(number), later, op.key))
        return number, version or 0

    def _stored(self, number: Any) -> Any:
        codec = self._layout.codec
        if codec is not None:
            return codec.encode(number)
        if not -(2**63) <= number < 2**63:
            raise Refused(f"{number} does not fit into a column of 64 bits")
        return number

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make what is not there, and look at what is."""
        for statement in self._sql.make:
            connection.execute(statement)
        names = {row[1]: row[2] for row in connection.execute(self._sql.info)}
        missing = [
            n
            for n in (self._layout.key, *self._layout.names, self._layout.version)
            if n not in names
        ]
        if missing:
            raise sqlite3.OperationalError(
                f"table {self._sql.table} has no column {', '.join(missing)}"
            )
        self._affinity = _affinity(names[self._layout.key])

    def _purge(self, connection: sqlite3.Connection) -> None:
        now = time.monotonic()
        if now - self._purged >= _PURGE_EVERY:
            self._purged = now
            for statement in self._sql.purge:
                connection.execute(statement, (time.time() - self._keep,))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._db.close()


class _Statements:
    """All SQL of one table."""

    def __init__(self, table: str, layout: Layout) -> None:
        t = self.table = identifier(table, "table")
        graves = identifier(f"{table}_tombstones", "table")
        applied = identifier(f"{table}_applied", "table")
        key = identifier(layout.key, "key")
        version = identifier(layout.version, "version")
        names = [identifier(name, "columns") for name in layout.names]
        typed = ", ".join(
            f"{quoted} {'TEXT' if layout.columns is None else layout.types.get(name, '')}".rstrip()
            for quoted, name in zip(names, layout.names, strict=True)
        )
        self.make = (
            f"CREATE TABLE IF NOT EXISTS {t} ({key} NOT NULL PRIMARY KEY, {typed}, {version} INTEGER)",
            f"CREATE TABLE IF NOT EXISTS {graves} {_GRAVES}",
            f"CREATE TABLE IF NOT EXISTS {applied} {_APPLIED}",
        )
        self.info = f"PRAGMA table_info({t})"
        columns = ", ".join([key, *names, version])
        marks = ", ".join("?" * (len(names) + 2))
        guard = (
            f"ON CONFLICT ({key}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in (*names, version))
            + f" WHERE {t}.{version} IS NULL OR {t}.{version} < excluded.{version}"
        )
        self.put = f"INSERT INTO {t} ({columns}) VALUES ({marks}) {guard}"
        self.put_after_delete = (
            f"INSERT INTO {t} ({columns}) SELECT {marks} WHERE NOT EXISTS"
            f" (SELECT 1 FROM {graves} WHERE key = ? AND version > ?) {guard}"
        )
        self.version = f"SELECT {version} FROM {t} WHERE {key} = ?"
        self.delete = f"DELETE FROM {t} WHERE {key} = ?"
        self.any_tombstone = f"SELECT EXISTS (SELECT 1 FROM {graves})"
        self.tombstone = f"SELECT version FROM {graves} WHERE key = ?"
        self.bury = (
            f"INSERT INTO {graves} VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
            f" version = excluded.version, at = excluded.at WHERE {graves}.version < excluded.version"
        )
        counter = identifier(layout.counter or layout.names[0], "counter")
        self.count = f"SELECT {counter}, {version} FROM {t} WHERE {key} = ?"
        self.insert_count = f"INSERT INTO {t} ({key}, {counter}, {version}) VALUES (?, ?, ?)"
        self.set_count = f"UPDATE {t} SET {counter} = ?, {version} = ? WHERE {key} = ?"
        self.applied = f"SELECT sequence, folded FROM {applied} WHERE journal = ?"
        self.mark = f"INSERT OR REPLACE INTO {applied} VALUES (?, ?, ?, ?)"
        self.purge = (f"DELETE FROM {graves} WHERE at < ?", f"DELETE FROM {applied} WHERE at < ?")
        self.select = f"SELECT {key}, {', '.join(names)}, {version} FROM {t} WHERE {key} IN "
        self.select_unversioned = f"SELECT {key}, {', '.join(names)}, 0 FROM {t} WHERE {key} IN "


def _check_key(key: Hashable) -> None:
    kind = type(key)
    if kind is int:
        if not -(2**63) <= key < 2**63:  # type: ignore[operator]
            raise ValueError(f"key {key!r} does not fit into a column of 64 bits")
    elif kind is str:
        if not encodes(key):  # type: ignore[arg-type]
            raise ValueError(f"key {key!r}: SQLite has no lone surrogates")
    elif kind is not bytes:
        raise TypeError(f"key {key!r}: keys of a table are str, int or bytes, not {kind.__name__}")


def _affinity(declared: str) -> str:
    """Which keys a column would change: SQLite's rules, in the order in which they apply."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return ""
    return "NUMERIC"


def _check_affinity(key: Hashable, affinity: str) -> None:
    wanted = str if affinity == "TEXT" else int
    if type(key) is not wanted:
        raise TypeError(
            f"key {key!r}: the key column is {affinity}, and holds {wanted.__name__} only, not {type(key).__name__}"
        )


class SQLiteLoader(TableLoader):
    """Reads what `SQLiteWriter` wrote: the same arguments. Safe from all threads, and after a fork.

    Call it with a key, or use `load` and `load_many`. A key without a row is fastcache.MISSING (and left
    out of what load_many returns); so is every key while there is no such file or table, which the first write
    makes: that is logged once. sqlite3.Error.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str,
        key: str = "key",
        value: str = "value",
        version: str = "version",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        codec: Codec | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._layout = Layout(
            key=key, value=value, version=version, columns=columns, counter=None, codec=codec
        )
        self._sql = _Statements(table, self._layout)
        self._select = ""
        self._db = _Connection(path, timeout, readonly=True)
        self._table = table

    def load_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The values of those keys that have a row, in queries of 500."""
        found: dict[Any, Any] = {}
        for some in groups(keys, 500):
            for key in some:
                _check_key(key)
            with self._db.lock:
                try:
                    connection = self._db.get()[0]
                    query = f"{self._query(connection)} ({', '.join('?' * len(some))})"
                    rows = connection.execute(query, some).fetchall()
                except sqlite3.OperationalError:
                    if self._is_there():
                        raise
                    return {}
            for row in rows:
                found[row[0]] = self._layout.value(row[1:-1])
            self._hear(row[-1] for row in rows)
        return found

    def _query(self, connection: sqlite3.Connection) -> str:
        """Its beginning; a table that is only read need not have versions. Called under the lock."""
        if not self._select:
            names = {row[1] for row in connection.execute(self._sql.info)}
            if not names:
                return self._sql.select
            versioned = self._layout.version in names
            self._select = self._sql.select if versioned else self._sql.select_unversioned
        return self._select

    def _is_there(self) -> bool:
        """Whether there is a file with this table. Called under the lock."""
        there = os.path.exists(self._db.path)
        if there:
            query = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)"
            there = self._db.get()[0].execute(query, (self._table,)).fetchone() is not None
        if not there:
            self._say_once("%s has no table %r yet: nothing is found", self._db.path, self._table)
        return there

    def close(self) -> None:
        self._db.close()


__all__ = ["SQLiteLoader", "SQLiteWriter"]
