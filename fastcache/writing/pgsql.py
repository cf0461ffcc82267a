"""All SQL of one PostgreSQL table. Names are quoted; values are parameters, whole columns at a time as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcache.writing import sqlbase

if TYPE_CHECKING:
    from fastcache.writing.sqlbase import Layout

#: Most bytes of a name; our own add a suffix to the table's.
_NAME = 63
#: First half of the advisory locks, so that they meet nobody else's.
_LOCKS = 0x66634C6B


def identifier(name: str, what: str, limit: int = _NAME) -> str:
    """Quoted, and with % doubled: all statements are executed with parameters, if only with none."""
    return sqlbase.identifier(name, what, limit).replace("%", "%%")


class Statements:
    """See the module. Those that depend on the types of columns come by `know`."""

    put: str
    put_after_delete: str
    versions: str
    delete: str
    still_there: str
    bury: str
    add: str
    add_new: str
    buried: str
    make_more: tuple[str, ...]

    def __init__(self, table: str, layout: Layout) -> None:
        identifier(table, "table")
        schema, dot, short = table.rpartition(".")
        prefix = f"{identifier(schema, 'schema')}." if dot else ""
        self.name = t = prefix + identifier(short, "table", _NAME - len("_tombstones"))
        self._graves = g = prefix + identifier(f"{short}_tombstones", "table")
        self._applied = a = prefix + identifier(f"{short}_applied", "table")
        self._layout = layout
        self._key = key = identifier(layout.key, "key")
        self._version = version = identifier(layout.version, "version")
        self._names = [identifier(name, "columns") for name in layout.names]
        typed = ", ".join(
            f"{quoted} {'text' if layout.columns is None else layout.types.get(name, '')}"
            for quoted, name in zip(self._names, layout.names, strict=True)
        )
        text = t.replace("'", "''")
        regclass = f"to_regclass('{text}')"
        lock = f"({_LOCKS}, {regclass}::oid::bigint::bit(32)::int)"
        any_grave = f"EXISTS (SELECT 1 FROM {g})"
        self.lock_shared = f"SELECT pg_advisory_xact_lock_shared{lock}, {any_grave}"
        self.lock_alone = f"SELECT pg_advisory_xact_lock{lock}, {any_grave}"
        self.lock_making = f"SELECT pg_advisory_xact_lock({_LOCKS})"
        self.exists = f"SELECT {regclass}"
        self.make = f"CREATE TABLE {t} ({key} text PRIMARY KEY, {typed}, {version} bigint)"
        self.columns = (
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            f" WHERE attrelid = {regclass} AND attnum > 0 AND NOT attisdropped"
        )
        self.begin_mark = (
            f"INSERT INTO {a} AS a (journal, sequence, folded, at) VALUES (%s, 0, '', now())"
            " ON CONFLICT (journal) DO UPDATE SET at = now() RETURNING sequence, folded"
        )
        self.end_mark = f"UPDATE {a} SET sequence = %s, folded = %s, at = now() WHERE journal = %s"
        self.purge = tuple(
            (f"DELETE FROM {name} WHERE at < now() - %s * interval '1 second'") for name in (g, a)
        )
        values = self._names[0] + "::text" if layout.columns is None else ", ".join(self._names)
        self.select = f"SELECT {key}, {values}, {version} FROM {t} WHERE {key} = ANY (%s)"
        self.select_unversioned = f"SELECT {key}, {values}, 0 FROM {t} WHERE {key} = ANY (%s)"

    def know(self, types: dict[str, str]) -> None:
        """The statements that need the columns' types."""
        layout, t, g = self._layout, self.name, self._graves
        key, version, names = self._key, self._version, self._names
        key_type = types[layout.key]
        self.make_more = (
            (
                f"CREATE TABLE IF NOT EXISTS {g}"
                f" (key {key_type} PRIMARY KEY, version bigint NOT NULL, at timestamptz NOT NULL)"
            ),
            (
                f"CREATE TABLE IF NOT EXISTS {self._applied} (journal text PRIMARY KEY,"
                " sequence bigint NOT NULL, folded text NOT NULL, at timestamptz NOT NULL)"
            ),
        )
        sent = {
            name: "text"
            if layout.columns is None or types[name] in ("json", "jsonb")
            else types[name]
            for name in layout.names
        }
        arrays = ", ".join(
            [f"%s::{key_type}[]", *(f"%s::{sent[n]}[]" for n in layout.names), "%s::bigint[]"]
        )
        inner = ", ".join(["key", *(f"c{i}" for i in range(len(names))), "version"])
        chosen = ", ".join(
            ["n.key", *(f"n.c{i}::{types[n]}" for i, n in enumerate(layout.names)), "n.version"]
        )
        columns = ", ".join([key, *names, version])
        insert = (
            f"INSERT INTO {t} AS t ({columns}) SELECT {chosen} FROM unnest({arrays}) AS n ({inner})"
        )
        guard = (
            f" ON CONFLICT ({key}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in (*names, version))
            + f" WHERE t.{version} IS NULL OR t.{version} < excluded.{version}"
        )
        not_buried = f" WHERE NOT EXISTS (SELECT 1 FROM {g} AS g WHERE g.key = n.key AND g.version > n.version)"
        self.put = insert + guard
        self.put_after_delete = insert + not_buried + guard
        keyed = f"unnest(%s::{key_type}[]) WITH ORDINALITY AS n (key, i)"
        self.versions = (
            f"SELECT n.i, t.{version}, g.version FROM {keyed} LEFT JOIN {t} AS t ON t.{key} = n.key"
            f" LEFT JOIN {g} AS g ON g.key = n.key"
        )
        versioned = f"unnest(%s::{key_type}[], %s::bigint[]) WITH ORDINALITY AS n (key, version, i)"
        self.delete = (
            f"DELETE FROM {t} AS t USING {versioned} WHERE t.{key} = n.key"
            f" AND (t.{version} IS NULL OR t.{version} < n.version)"
        )
        self.still_there = f"SELECT n.i, t.{version} FROM {keyed} JOIN {t} AS t ON t.{key} = n.key"
        self.bury = (
            f"INSERT INTO {g} AS g (key, version, at) SELECT n.key, n.version, now() FROM {versioned}"
            f" WHERE NOT EXISTS (SELECT 1 FROM {t} AS t WHERE t.{key} = n.key)"
            " ON CONFLICT (key) DO UPDATE SET version = greatest(g.version, excluded.version), at = now()"
        )
        self.buried = (
            f"SELECT n.i, g.version FROM {versioned} JOIN {g} AS g ON g.key = n.key"
            f" WHERE g.version > n.version AND NOT EXISTS (SELECT 1 FROM {t} AS t WHERE t.{key} = n.key)"
        )
        if layout.counter is None:
            return
        counter, kind = identifier(layout.counter, "counter"), types[layout.counter]
        numbers = (
            f"unnest(%s::{key_type}[], %s::numeric[], %s::numeric[], %s::bigint[])"
            " WITH ORDINALITY AS n (key, initial, delta, version, i)"
        )
        held = f"t.{counter}::text::numeric"
        if layout.columns is not None:
            held = f"coalesce({held}, n.initial)"
        self.add = (
            f"UPDATE {t} AS t SET {counter} = ({held} + n.delta)::text::{kind},"
            f" {version} = greatest(t.{version}, n.version) FROM {numbers} WHERE t.{key} = n.key"
            f" RETURNING n.i, t.{counter}::text"
        )
        self.add_new = (
            f"INSERT INTO {t} ({key}, {counter}, {version}) SELECT n.key,"
            f" (n.initial + n.delta)::text::{kind}, n.version FROM {numbers}"
            f" ON CONFLICT ({key}) DO NOTHING RETURNING {key}"
        )
