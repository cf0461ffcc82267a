"""PostgreSQL tables as the source: a writer, and the loader that reads what it wrote.

    CREATE TABLE "counters" ("key" text PRIMARY KEY, "value" text, "version" bigint)

Made if absent; a table of one's own must have the three columns, with a unique index on the key, and may have
more. Its key may be of another type (bigint, uuid, ...), its value json or jsonb. A row with a version NULL
takes any write, one with a version only later ones.

A batch is one transaction. Its first statement locks the row of the batch's journal, and says what the table
has of it already. So of two transactions with the same operations, one of which was cut off and may or may
not be committed, the second waits for the first, and then knows. Puts and increments share an advisory lock
of the table, which deletes take alone, since a put and a delete of an absent row would not see each other.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastcache._types import Uncopied
from fastcache.writing.errors import Refused
from fastcache.writing.ops import INCR, Applied, Batch, Op
from fastcache.writing.options import check_seconds
from fastcache.writing.pgpool import Pool, psycopg
from fastcache.writing.pgsql import Statements
from fastcache.writing.sqlbase import (
    KEEP,
    Layout,
    TableLoader,
    encodes,
    fresh,
    groups,
    marks,
    parse_marks,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from psycopg import Connection, Pipeline

    from fastcache.writing.codec import Codec

_PURGE_EVERY = 3600.0
_KEY_TYPES: dict[str, type] = {
    "text": str,
    "character varying": str,
    "smallint": int,
    "integer": int,
    "bigint": int,
    "bytea": bytes,
    "uuid": UUID,
}
_ADD_TRIES = 8


class PostgresWriter(Uncopied):
    """Writes to one table of a PostgreSQL database. Safe from all threads, and after a fork.

    conninfo: a URL or connection string, or a psycopg_pool.ConnectionPool, which is used and not closed.
    table: its name, or "schema.table". key, value, version: names of columns. columns: several columns in
    place of `value`: names, or a mapping of names to types (needed where the table is to be made); values are
    then mappings with exactly these. counter: the column increments add to, if it is not the only one. codec:
    how a value becomes the text in `value`; the default is plain JSON. connect_timeout, statement_timeout:
    seconds. keep: seconds to remember deletions and journals (`sqlbase`).

    Connections are made when needed; a table that is not there is made by the first use. Refused, TypeError,
    ValueError: an operation that cannot be written; psycopg.Error: all else. ImportError without psycopg.
    """

    takes_data = True

    def __init__(
        self,
        conninfo: Any,
        *,
        table: str,
        key: str = "key",
        value: str = "value",
        version: str = "version",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        counter: str | None = None,
        codec: Codec | None = None,
        connect_timeout: float = 5.0,
        statement_timeout: float = 30.0,
        keep: float = KEEP,
    ) -> None:
        self._layout = Layout(
            key=key, value=value, version=version, columns=columns, counter=counter, codec=codec
        )
        self._pool = Pool(conninfo, connect_timeout, statement_timeout)
        self._sql = Statements(table, self._layout)
        check_seconds("keep", keep)
        self._keep = keep
        self._lock = threading.RLock()
        self._types: dict[str, str] = {}
        self._key_type: type | None = None
        self._purged = -_PURGE_EVERY
        self.codec = self._layout.codec
        self.name = f"postgres:{self._pool.where}:{table}"

    def __repr__(self) -> str:
        return f"<PostgresWriter {self.name}>"

    def check(self, kind: str, key: Hashable) -> None:
        """TypeError or ValueError: such an operation can never be written."""
        _check_key(key)
        if kind == INCR:
            self._layout.check(kind, key)
        if self._types and type(key) is not self._key_type and self._key_type is not None:
            raise TypeError(
                f"key {key!r}: the key column is {self._types[self._layout.key]}, "
                f"not {type(key).__name__}"
            )

    def transient(self, error: BaseException) -> bool | None:
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, OSError)):
            return True
        if isinstance(
            error, (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)
        ):
            return False
        if isinstance(error, psycopg.Error):
            # What is wrong with the table, the permissions or the state of the server is not the
            # operations' fault; what psycopg itself cannot express (no sqlstate) is.
            return None if error.sqlstate is None else True
        if type(error).__module__.startswith("psycopg_pool"):
            return True
        return False if isinstance(error, (TypeError, ValueError, OverflowError)) else None

    def apply(self, ops: Sequence[Op]) -> Applied:
        """Write all or none, in one transaction."""
        batch = ops if isinstance(ops, Batch) else Batch(ops)
        puts, deletes, incrs = batch.split()
        rows = [self._layout.row(op) for op in puts]
        with self._pool.connection() as connection:
            try:
                if not self._types:
                    with self._lock:
                        self._prepare(connection)
                self._check_types(batch)
                # What need not be waited for goes out together: three round trips for a batch of puts.
                with connection.pipeline() as pipeline, connection.transaction():
                    return self._write(connection, pipeline, batch, (puts, rows, deletes, incrs))
            except psycopg.errors.UndefinedTable:
                self._types = {}  # it was dropped: the next try makes it
                raise

    def _write(
        self,
        connection: Connection[Any],
        pipeline: Pipeline,
        batch: Batch,
        parts: tuple[list[Op], list[tuple[Any, ...]], list[Op], list[Op]],
    ) -> Applied:
        puts, rows, deletes, incrs = parts
        sql = self._sql
        locked = connection.execute(sql.lock_alone if deletes else sql.lock_shared, ())
        if batch.journal:
            marked = connection.execute(sql.begin_mark, (batch.journal,)).fetchone()
            assert marked is not None
            last, folded = marked[0], parse_marks(marked[1])
            if not fresh(batch, last, folded):
                return Applied(again=True)
            mark, beyond = marks(batch, last, folded)
            connection.execute(sql.end_mark, (mark, beyond, batch.journal))
        buried = bool((locked.fetchone() or (None, False))[1])
        late: list[Op] = []
        latest = 0
        if rows:
            more, latest = self._put(connection, pipeline, puts, rows, buried)
            late += more
        if deletes:
            more, version = self._delete(connection, deletes)
            late += more
            latest = max(latest, version)
        counters: dict[Hashable, int] = {}
        if incrs:
            more, version = self._add(connection, incrs, counters)
            late += more
            latest = max(latest, version)
        self._purge(connection)
        return Applied(late, latest, counters or None)

    def _put(
        self,
        connection: Connection[Any],
        pipeline: Pipeline,
        puts: list[Op],
        rows: list[tuple[Any, ...]],
        buried: bool,
    ) -> tuple[list[Op], int]:
        # All processes lock rows in one order, so that none waits for one that waits for it.
        pairs = sorted(zip(puts, rows, strict=True), key=lambda pair: str(pair[0].key))
        puts = [op for op, _ in pairs]
        columns = [list(column) for column in zip(*(row for _, row in pairs), strict=True)]
        for number, name in enumerate(self._layout.names, 1):
            if self._layout.columns is not None and self._types[name] in ("json", "jsonb"):
                columns[number] = [None if v is None else json.dumps(v) for v in columns[number]]
        statement = self._sql.put_after_delete if buried else self._sql.put
        written = connection.execute(statement, columns)
        pipeline.sync()
        if written.rowcount == len(puts):
            return [], 0
        found = connection.execute(self._sql.versions, ([op.key for op in puts],)).fetchall()
        met = [row for row in found if row[1] != puts[row[0] - 1].version]
        latest = max((max(version or 0, grave or 0) for _, version, grave in met), default=0)
        return [puts[number - 1] for number, _, _ in met], latest

    def _delete(self, connection: Connection[Any], deletes: list[Op]) -> tuple[list[Op], int]:
        deletes = sorted(deletes, key=lambda op: str(op.key))
        both = [op.key for op in deletes], [op.version for op in deletes]
        connection.execute(self._sql.delete, both)
        found = connection.execute(self._sql.still_there, both[:1]).fetchall()
        connection.execute(self._sql.bury, both)
        return [deletes[i - 1] for i, _ in found], max((v or 0 for _, v in found), default=0)

    def _add(
        self, connection: Connection[Any], incrs: list[Op], counters: dict[Hashable, int]
    ) -> tuple[list[Op], int]:
        """Update what is there, insert what is not, and again, if another inserted it meanwhile."""
        left = sorted(incrs, key=lambda op: str(op.key))
        late: list[Op] = []
        latest = 0
        for _ in range(_ADD_TRIES):
            arrays = (
                [op.key for op in left],
                [op.initial for op in left],
                [op.value for op in left],
                [op.version for op in left],
            )
            done = set()
            for number, text in connection.execute(self._sql.add, arrays).fetchall():
                op = left[number - 1]
                done.add(number)
                if text is None:
                    raise Refused(f"key {op.key!r} has NULL, to which nothing can be added", op.key)
                counters[op.key] = json.loads(text)
            left = [op for number, op in enumerate(left, 1) if number not in done]
            if not left:
                return late, latest
            arrays = (
                [op.key for op in left],
                [op.initial for op in left],
                [op.value for op in left],
                [op.version for op in left],
            )
            found = connection.execute(self._sql.buried, (arrays[0], arrays[3])).fetchall()
            for number, grave in found:
                late.append(left[number - 1])
                latest = max(latest, grave)
            late_keys = {op.key for op in late}
            left = [op for op in left if op.key not in late_keys]
            if left:
                arrays = tuple(
                    [array[i] for i, k in enumerate(arrays[0]) if k not in late_keys]
                    for array in arrays
                )  # type: ignore[assignment]
                inserted = connection.execute(self._sql.add_new, arrays).fetchall()
                # The others came meanwhile; those inserted now are not to be added to once more.
                keys = {row[0] for row in inserted}
                counters.update((op.key, op.initial + op.value) for op in left if op.key in keys)
                left = [op for op in left if op.key not in keys]
            if not left:
                return late, latest
        raise psycopg.OperationalError("others insert and delete the same keys all the time")

    def _check_types(self, batch: Batch) -> None:
        """That no key is cast to what another key is: they may have been taken before the table was known."""
        if self._key_type is not None and {type(op.key) for op in batch} - {self._key_type}:
            for op in batch:
                self.check(op.kind, op.key)

    def _prepare(self, connection: Connection[Any]) -> None:
        """Make what is not there, and look at what is."""
        sql, layout = self._sql, self._layout
        with connection.transaction():
            connection.execute(sql.lock_making, ())
            if _one(connection, sql.exists)[0] is None:
                missing = [n for n in layout.names if layout.columns and n not in layout.types]
                if missing:
                    raise psycopg.ProgrammingError(
                        f"table {sql.name} is not there, and to make it, columns must say the types of "
                        f"{', '.join(missing)}"
                    )
                connection.execute(sql.make, ())
            types = dict(connection.execute(sql.columns, ()).fetchall())
            wanted = (layout.key, *layout.names, layout.version)
            missing = [name for name in wanted if name not in types]
            if missing:
                raise psycopg.ProgrammingError(
                    f"table {sql.name} has no column {', '.join(missing)}"
                )
            sql.know(types)
            for statement in sql.make_more:
                connection.execute(statement, ())
        self._key_type = _KEY_TYPES.get(types[layout.key])
        self._types = types

    def _purge(self, connection: Connection[Any]) -> None:
        now = time.monotonic()
        if now - self._purged >= _PURGE_EVERY:
            self._purged = now
            for statement in self._sql.purge:
                connection.execute(statement, (self._keep,))

    def close(self) -> None:
        """Close idle connections; the next use makes new ones."""
        self._pool.close()


def _one(connection: Connection[Any], sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    row = connection.execute(sql, parameters).fetchone()
    assert row is not None
    return tuple(row)


def _check_key(key: Hashable) -> None:
    if type(key) is str:
        if "\0" in key or not (key.isascii() or encodes(key)):
            raise ValueError(f"key {key!r}: PostgreSQL has no NUL and no lone surrogates")
    elif type(key) not in (int, bytes, UUID):
        raise TypeError(
            f"key {key!r}: keys of a table are str, int, bytes or UUID, not {type(key).__name__}"
        )


class PostgresLoader(TableLoader):
    """Reads what `PostgresWriter` wrote: the same arguments. Safe from all threads, and after a fork.

    Call it with a key, or use `load` and `load_many`. A key without a row is fastcache.MISSING (and left
    out of what load_many returns); so is every key while there is no such table, which the first write makes:
    that is logged once. psycopg.Error.
    """

    def __init__(
        self,
        conninfo: Any,
        *,
        table: str,
        key: str = "key",
        value: str = "value",
        version: str = "version",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        codec: Codec | None = None,
        connect_timeout: float = 5.0,
        statement_timeout: float = 30.0,
    ) -> None:
        self._layout = Layout(
            key=key, value=value, version=version, columns=columns, counter=None, codec=codec
        )
        self._pool = Pool(conninfo, connect_timeout, statement_timeout)
        self._sql = Statements(table, self._layout)
        self._select = self._sql.select

    def load_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The values of those keys that have a row, in queries of 1,000."""
        found: dict[Any, Any] = {}
        with self._pool.connection() as connection:
            for some in groups(keys, 1000):
                for key in some:
                    _check_key(key)
                try:
                    rows = self._rows(connection, some)
                except psycopg.errors.UndefinedTable as error:
                    # the first write makes it; the statement is over, and the transaction with it
                    connection.rollback()
                    self._say_once("nothing is found yet: %s", str(error).splitlines()[0])
                    return {}
                except (psycopg.errors.UndefinedFunction, psycopg.errors.DatatypeMismatch) as error:
                    raise TypeError(
                        f"key {some[0]!r}: the key column is of another type: {str(error).splitlines()[0]}"
                    ) from error
                for row in rows:
                    found[row[0]] = self._layout.value(row[1:-1])
                self._hear(row[-1] for row in rows)
        return found

    def _rows(self, connection: Connection[Any], keys: list[Any]) -> list[tuple[Any, ...]]:
        try:
            return connection.execute(self._select, (keys,)).fetchall()
        except psycopg.errors.UndefinedColumn:
            if self._select == self._sql.select_unversioned:
                raise
            connection.rollback()
            # a table that is only read need not have versions
            rows = connection.execute(self._sql.select_unversioned, (keys,)).fetchall()
            self._select = self._sql.select_unversioned
            return rows

    def close(self) -> None:
        self._pool.close()
