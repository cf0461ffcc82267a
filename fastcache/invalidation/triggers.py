"""The SQL of the triggers that announce changes of a table. Text alone: nothing here talks to a server.

Triggers on statements, with transition tables: one statement is one announcement, however many rows it changes, as
few NOTIFYs as hold its keys, each once. They take effect with the transaction: what is rolled back
announces nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Most bytes of a name.
_NAME = 63
#: Bytes of keys in a payload, on average: two such halves and the rest are less than the 8,000 that NOTIFY takes.
_HALF = 3500
#: Keys in a row of the outbox.
_ROW = 500
_SUFFIXES = {
    "INSERT": ("insert", "REFERENCING NEW TABLE AS new_rows "),
    "UPDATE": ("update", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows "),
    "DELETE": ("delete", "REFERENCING OLD TABLE AS old_rows "),
    "TRUNCATE": ("truncate", ""),
}


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What is announced of a table, and where.

    table: "name" or "schema.name", as they are (no quotes, no folding to lower case). Messages name it by this
    very text. key: columns whose value is the key, or a tuple of them. template: text with columns in braces
    that is the key ("user:{id}"). Either. channel: of NOTIFY. outbox: the table that keeps what was
    announced, "schema.name"; None: there is none, and NOTIFY carries the keys. notify: whether an outbox wakes
    its reader; without, two-phase commit is possible. schema: where functions go; made if it is not there.
    most: rows of one statement beyond which any row counts as changed (None: 10,000, with an outbox 1,000,000).

    TypeError, ValueError.
    """

    table: str
    key: tuple[str, ...] = ()
    template: str | None = None
    channel: str = "fastcache"
    outbox: str | None = None
    notify: bool = True
    schema: str = "fastcache"
    most: int | None = None
    _parts: tuple[tuple[str, str | None], ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        qualified(self.table, "table")
        if type(self.key) is not tuple:
            raise TypeError(f"key must be a tuple of columns, not {self.key!r}")
        if bool(self.key) == (self.template is not None):
            raise ValueError("either key or template must say what the key of a row is")
        if len(self.key) > 16:
            raise ValueError(f"key must have at most 16 columns, not {len(self.key)}")
        for column in self.key:
            identifier(column, "key")
        if self.template is not None:
            object.__setattr__(self, "_parts", tuple(_template(self.template)))
        # its name is in those of triggers and functions, with a suffix
        identifier(self.channel, "channel", _NAME - len("_truncate"))
        identifier(self.schema, "schema")
        if self.outbox is not None:
            qualified(self.outbox, "outbox", _NAME - len("_settled"))
        if not self.notify and self.outbox is None:
            raise ValueError("notify=False needs an outbox: without either nothing is announced")
        most = self.most
        if most is not None and (isinstance(most, bool) or not isinstance(most, int)):
            raise TypeError(f"most must be an int, not {most!r}")
        if most is not None and not 0 < most <= 10_000_000:
            raise ValueError(f"most must be from 1 to 10,000,000, not {most!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that keys are made of."""
        if self.template is None:
            return tuple(self.key)
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @property
    def function(self) -> str:
        """Its name, quoted."""
        digest = hashlib.sha256(f"{self.channel}\0{self.table}".encode()).hexdigest()[:8]
        readable = re.sub(r"\W", "_", f"{self.channel}_{self.table}", flags=re.ASCII)[:50]
        return f"{identifier(self.schema, 'schema')}.{identifier(f'{readable}_{digest}', 'name')}"

    def trigger(self, event: str) -> str:
        return identifier(f"{self.channel}_{_SUFFIXES[event][0]}", "channel")


def make_triggers(what: Announcement) -> str:
    """The SQL that makes function and triggers (and outbox), or replaces them: one transaction."""
    table = qualified(what.table, "table")
    statements = [
        "BEGIN;\n-- A table in use is waited for so long, and no longer, since others wait behind.",
        "SET LOCAL lock_timeout = '5s';\nSET LOCAL client_min_messages = warning;",
        _checks(what),
        _make_schemas(what),
    ]
    if what.outbox is not None:
        statements.append(_make_outbox(what.outbox))
    statements.append(_function(what))
    statements.append(f"REVOKE ALL ON FUNCTION {what.function}() FROM PUBLIC;")
    for event, (_, referencing) in _SUFFIXES.items():
        statements.append(
            f"CREATE OR REPLACE TRIGGER {what.trigger(event)} AFTER {event} ON {table}\n"
            f"  {referencing}FOR EACH STATEMENT EXECUTE FUNCTION {what.function}();"
        )
    return "\n".join([*statements, "COMMIT;"]) + "\n"


def drop_triggers(what: Announcement) -> str:
    """The SQL that removes function and triggers; what is not there is no error. An outbox stays, with what it holds:
    other tables may use it."""
    table = qualified(what.table, "table")
    statements = ["BEGIN;", "SET LOCAL lock_timeout = '5s';"]
    statements += [f"DROP TRIGGER IF EXISTS {what.trigger(each)} ON {table};" for each in _SUFFIXES]
    statements += [f"DROP FUNCTION IF EXISTS {what.function}();", "COMMIT;"]
    return "\n".join(statements) + "\n"


# ---- names -------------------------------------------------------------------------------------------


def identifier(name: str, what: str, limit: int = _NAME) -> str:
    """A name as SQL writes it, quoted. TypeError, ValueError: it cannot be one."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} is no text that can be encoded: {name!r}") from None
    if not name or "\0" in name:
        raise ValueError(f"{what} must not be empty or contain NUL: {name!r}")
    if size > limit:
        raise ValueError(f"{what} must have at most {limit} bytes: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str, what: str, limit: int = _NAME) -> str:
    """The same of "name" or "schema.name"."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    schema, dot, short = name.rpartition(".")
    return (f"{identifier(schema, what)}." if dot else "") + identifier(short, what, limit)


def literal(text: str) -> str:
    """A string as SQL writes it, whatever standard_conforming_strings is."""
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return f"E{quoted}" if "\\" in text else quoted


def _dollars(body: str) -> str:
    """A body between dollar quotes that it does not have."""
    number = 0
    while f"$fc{number}$" in body:
        number += 1
    return f"$fc{number}$\n{body}\n$fc{number}$"


def _template(text: str) -> Iterator[tuple[str, str | None]]:
    """Its parts: text, and the column that follows."""
    if not isinstance(text, str):
        raise TypeError(f"template must be a str, not {type(text).__name__}")
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"template {text!r} is not well formed: {error}") from None
    if not any(name for _, name, _, _ in parts):
        raise ValueError(f"template must name at least one column in braces, not {text!r}")
    for before, name, spec, conversion in parts:
        if name is not None:
            identifier(name, "a column of the template")
            if spec or conversion:
                raise ValueError(f"template {text!r}: columns stand in braces alone, as {{id}}")
        yield before, name


# ---- SQL ---------------------------------------------------------------------------------------------


def _checks(what: Announcement) -> str:
    """That the table is one, and that its columns are there, and of types whose text is the same in every session."""
    columns = ", ".join(literal(column) for column in what.columns)
    return (
        "DO "
        + _dollars(
            f"""\
DECLARE
  wanted regclass := to_regclass({literal(qualified(what.table, "table"))});
  here record;
BEGIN
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'PostgreSQL 14 or newer is needed, this is %', current_setting('server_version');
  END IF;
  IF wanted IS NULL THEN
    RAISE EXCEPTION 'there is no table %', {literal(what.table)};
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = wanted) THEN
    RAISE EXCEPTION '% is no table: others have no such triggers', {literal(what.table)};
  END IF;
  FOR here IN
    SELECT column_name, format_type(a.atttypid, NULL) AS type,
      CASE WHEN t.typtype = 'e' OR t.oid = 'uuid'::regtype THEN true
        ELSE coalesce(nullif(t.typbasetype, 0), t.oid)
          IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'text'::regtype, 'varchar'::regtype)
      END AS good
    FROM unnest(ARRAY[{columns}]) AS column_name
    LEFT JOIN pg_catalog.pg_attribute AS a
      ON a.attrelid = wanted AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
  LOOP
    IF here.type IS NULL THEN
      RAISE EXCEPTION 'table % has no column %', {literal(what.table)}, here.column_name;
    ELSIF NOT here.good THEN
      RAISE EXCEPTION 'column % of table % is of type %: keys are made of integers, text, varchar, uuid and enums',
        here.column_name, {literal(what.table)}, here.type;
    END IF;
  END LOOP;
END"""
        )
        + ";"
    )


def _make_schemas(what: Announcement) -> str:
    names = [what.schema]
    if what.outbox is not None and "." in what.outbox:
        names.append(what.outbox.rpartition(".")[0])
    # CREATE SCHEMA IF NOT EXISTS would ask for the right to make it even if it is there
    lines = [
        f"  IF to_regnamespace({literal(identifier(name, 'schema'))}) IS NULL THEN\n"
        f"    CREATE SCHEMA {identifier(name, 'schema')};\n  END IF;"
        for name in dict.fromkeys(names)
    ]
    return "DO " + _dollars("\n".join(["BEGIN", *lines, "END"])) + ";"


def _make_outbox(outbox: str) -> str:
    table = qualified(outbox, "outbox")
    short = outbox.rpartition(".")[2]
    fresh, settled = (
        identifier(f"{short}_fresh", "outbox"),
        identifier(f"{short}_settled", "outbox"),
    )
    return f"""\
CREATE TABLE IF NOT EXISTS {table} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  source text NOT NULL,
  keys text,  -- a JSON array; NULL: any row
  told boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX IF NOT EXISTS {fresh} ON {table} (id) WHERE NOT told;
CREATE INDEX IF NOT EXISTS {settled} ON {table} (xid) WHERE told;"""


def _key(what: Announcement) -> str:
    """The key of a row `r` as JSON; NULL where a row has none."""
    if what.template is not None:
        # NULL if a column is
        parts = []
        for before, name in what._parts:
            if before:
                parts.append(literal(before))
            if name is not None:
                parts.append(f"r.{identifier(name, 'key')}::text")
        # at least one literal, so that || is that of text
        return f"to_jsonb({' || '.join([literal(''), *parts])})::text"
    columns = [
        f"CASE WHEN pg_typeof(r.{name}) = 'uuid'::regtype"
        f" THEN jsonb_build_object('uuid', r.{name}) ELSE to_jsonb(r.{name}) END"
        for name in (identifier(each, "key") for each in what.key)
    ]
    if len(columns) == 1:
        return f"({columns[0]})::text"
    return f"jsonb_build_array({', '.join(columns)})::text"


def _function(what: Announcement) -> str:
    most = what.most or (10_000 if what.outbox is None else 1_000_000)
    key = _key(what)

    def rows(name: str) -> str:
        return f"SELECT {key} AS k, '{name}' AS side FROM {name} AS r LIMIT {most + 1}"

    def collect(*names: str) -> str:
        every = " OR ".join(f"count(*) FILTER (WHERE side = '{name}') > {most}" for name in names)
        source = " UNION ALL ".join(f"({rows(name)})" for name in names)
        return (
            "    SELECT array_agg(DISTINCT k) FILTER (WHERE k IS NOT NULL), max(octet_length(k)),\n"
            f"      {every}\n    INTO changed, longest, every\n    FROM ({source}) AS s;"
        )

    say = _fill_outbox(what) if what.outbox is not None else _notify(what)
    # Who fills an outbox need have no rights on it.
    security = "SECURITY INVOKER" if what.outbox is None else "SECURITY DEFINER"
    body = f"""\
DECLARE
  changed text[];
  every boolean := true;
  longest int;
BEGIN
  IF TG_OP = 'INSERT' THEN
{collect("new_rows")}
  ELSIF TG_OP = 'UPDATE' THEN
{collect("old_rows", "new_rows")}
  ELSIF TG_OP = 'DELETE' THEN
{collect("old_rows")}
  END IF;
  IF changed IS NULL AND NOT every THEN
    RETURN NULL;
  END IF;
{say}
  RETURN NULL;
END"""
    return (
        f"CREATE OR REPLACE FUNCTION {what.function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql {security} SET search_path = pg_catalog, pg_temp AS {_dollars(body)};"
    )


def _notify(what: Announcement) -> str:
    channel, table = literal(what.channel), json.dumps(what.table)
    any_row = literal(f'{{"table": {table}, "all": true}}')
    begin, end = literal(f'{{"table": {table}, "keys": ['), literal("]}")
    return f"""\
  IF every OR longest > {_HALF} THEN
    PERFORM pg_notify({channel}, {any_row});
  ELSE
    PERFORM pg_notify({channel}, {begin} || string_agg(k, ',') || {end})
    FROM (SELECT k, sum(octet_length(k) + 1) OVER (ROWS UNBOUNDED PRECEDING) / {_HALF} AS part
      FROM unnest(changed) AS k) AS s
    GROUP BY part;
  END IF;"""


def _fill_outbox(what: Announcement) -> str:
    assert what.outbox is not None
    table, source = qualified(what.outbox, "outbox"), literal(what.table)
    lines = f"""\
  IF every THEN
    INSERT INTO {table} (source) VALUES ({source});
  ELSE
    INSERT INTO {table} (source, keys) SELECT {source}, '[' || string_agg(k, ',') || ']'
    FROM (SELECT k, (row_number() OVER () - 1) / {_ROW} AS part FROM unnest(changed) AS k) AS s
    GROUP BY part;
  END IF;"""
    if not what.notify:
        return lines
    said = literal(json.dumps({"outbox": what.outbox}))
    return f"{lines}\n  PERFORM pg_notify({literal(what.channel)}, {said});"
