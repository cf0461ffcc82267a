"""SQLiteWriter and PostgresWriter: the same behaviour over two databases."""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from _support import run_threads
from writing.conftest import Source

from fastcache import Cache, TieredCache, writing
from fastcache._types import MISSING
from fastcache.writing import Op, Refused, WriteBehind, WriteThrough
from fastcache.writing.errors import Overtaken
from fastcache.writing.ops import Batch, Clock, coalesce


def put(key: Any, value: Any, version: int) -> Op:
    return Op("put", key, value, 0, version)


def delete(key: Any, version: int) -> Op:
    return Op("delete", key, None, 0, version)


def incr(key: Any, delta: int, version: int, initial: int = 0) -> Op:
    return Op("incr", key, delta, initial, version)


def test_a_row_is_key_value_as_json_and_version(source: Source) -> None:
    WriteThrough(source.writer()).put("visits", 7)
    WriteThrough(source.writer()).put("é\n'\"", {"x": [1.5, None, True, "é\0"]})
    found = source.sql('SELECT "key", "value", "version" FROM {t} ORDER BY 1')
    assert [row[:2] for row in found] == [
        ("visits", "7"),
        ("é\n'\"", '{"x": [1.5, null, true, "\\u00e9\\u0000"]}'),
    ]
    assert all(isinstance(row[2], int) for row in found)
    loader = source.loader()
    assert loader("visits") == 7 and loader.load("é\n'\"") == {"x": [1.5, None, True, "é\0"]}
    assert loader("absent") is MISSING
    assert loader.load_many(["visits", "absent", "visits"]) == {"visits": 7}
    assert loader.load_many([]) == {}


def test_what_is_dropped_without_close_closes_its_connections(
    source: Source, tmp_path: Path
) -> None:
    """Also as a part of a cycle, whose finalizers run in any order; and no warning says that they were open."""
    gc.collect()
    others = len(connections())
    behind = WriteBehind(source.writer(), tmp_path / "j")
    dropped: list[Any] = [TieredCache(Cache(9), writer=behind, loader=source.loader())]
    dropped.append(dropped)
    dropped[0].set("a", 1)
    assert dropped[0].flush(30) and dropped[0].get("b") is None
    dropped[0].close()
    assert len(connections()) > others
    with warnings.catch_warnings(record=True, action="always") as warned:
        source.forget()
        del dropped, behind
        gc.collect()
    assert not warned, [str(each.message) for each in warned]
    assert len(connections()) == others


def connections() -> list[Any]:
    known = tuple(
        sys.modules[name].Connection for name in ("sqlite3", "psycopg") if name in sys.modules
    )
    # by its type: asked for its class, an object of others may answer anything
    return [found for found in gc.get_objects() if issubclass(type(found), known)]


def test_later_versions_win_in_any_order(source: Source) -> None:
    writer, loader = source.writer(), source.loader()
    assert not writer.apply([put("a", 1, 10), put("b", 1, 10)]).superseded
    applied = writer.apply([put("a", 2, 9), put("b", 2, 11)])
    assert [op.key for op in applied.superseded] == ["a"] and applied.latest == 10
    assert loader.load_many(["a", "b"]) == {"a": 1, "b": 2}
    assert not writer.apply([put("a", 1, 10)]).superseded, "its own version is not a later one"
    assert [op.key for op in writer.apply([delete("a", 9)]).superseded] == ["a"]
    assert loader("a") == 1
    assert not writer.apply([delete("a", 11)]).superseded
    assert loader("a") is MISSING
    applied = writer.apply([put("a", 3, 10)])
    assert [op.key for op in applied.superseded] == ["a"] and applied.latest == 11
    assert loader("a") is MISSING, "a deletion is remembered"
    assert not writer.apply([put("a", 4, 12)]).superseded
    assert loader("a") == 4


def test_increments_are_exact_and_older_than_a_deletion_they_are_not(source: Source) -> None:
    writer, loader = source.writer(), source.loader()
    applied = writer.apply([incr("n", 2, 5, initial=40), incr("m", 1, 5)])
    assert applied.counters == {"n": 42, "m": 1}
    assert writer.apply([incr("n", 10**30, 4)]).counters == {"n": 42 + 10**30}
    writer.apply([incr("n", -(10**30), 9)])
    assert loader("n") == 42
    writer.apply([delete("n", 20)])
    assert [op.key for op in writer.apply([incr("n", 5, 19)]).superseded] == ["n"]
    assert loader("n") is MISSING
    assert writer.apply([incr("n", 5, 21)]).counters == {"n": 5}
    writer.apply([put("n", 1, 30), incr("n", 2, 31)])
    assert loader("n") == 3
    writer.apply([delete("n", 40), incr("n", 2, 41, initial=10)])
    assert loader("n") == 12
    writer.apply([put("f", 1.5, 1)])
    assert writer.apply([incr("f", 2, 2)]).counters == {"f": 3.5}


@pytest.mark.parametrize("value", ["text", {"a": 1}, [1], True, None])
def test_nothing_is_added_to_what_is_no_number(source: Source, value: Any) -> None:
    writer = source.writer()
    writer.apply([put("a", value, 1)])
    with pytest.raises(Exception) as caught:
        writer.apply([put("b", 1, 2), incr("a", 1, 2)])
    assert writer.transient(caught.value) is not True
    assert source.loader().load_many(["a", "b"]) == {"a": value}, "all or nothing"


def test_a_batch_is_applied_once(source: Source) -> None:
    writer, loader = source.writer(), source.loader()
    first = Batch([incr("n", 1, 1), put("a", 1, 1)], "j", 1, 5)
    assert not writer.apply(first).again
    assert writer.apply(first).again
    assert source.writer().apply(Batch([incr("n", 1, 1)], "j", 2, 4)).again
    with pytest.raises(Overtaken) as caught:
        writer.apply(Batch([incr("n", 100, 9)], "j", 4, 9))
    assert (caught.value.last, caught.value.folded) == (5, frozenset())
    assert not writer.apply(Batch([incr("n", 10, 9)], "j", 6, 9)).again
    assert not writer.apply(Batch([incr("n", 100, 9)], "other", 1, 1)).again
    assert loader("n") == 111


def test_folded_sequences_are_remembered_until_they_are_passed(source: Source) -> None:
    writer, loader = source.writer(), source.loader()
    writer.apply(Batch([incr("n", 1, 1)], "j", 1, 1))
    folded = Batch([incr("n", 10, 2)], "j", folded=(3, 7))
    assert not writer.apply(folded).again
    for again in (folded, Batch([incr("n", 10, 2)], "j", folded=(7, 8))):
        with pytest.raises(Overtaken):
            writer.apply(again)
    with pytest.raises(Overtaken) as caught:
        writer.apply(Batch([incr("n", 1000, 9)], "j", 2, 4))
    assert (caught.value.last, caught.value.folded) == (1, {3, 7})
    known = frozenset({3, 7})
    writer.apply(Batch([incr("n", 100, 9)], "j", 2, 4, known=known))
    writer.apply(Batch([incr("n", 100, 9)], "j", 5, 9, known=known))
    assert loader("n") == 211
    assert source.sql("SELECT sequence, folded FROM {t}_applied WHERE journal = 'j'") == [(9, "")]


def test_rows_with_a_null_version_take_any_write(source: Source) -> None:
    WriteThrough(source.writer()).put("seed", 0)
    for key in ("p", "d", "n", "gone"):
        source.sql('INSERT INTO {t} ("key", "value") VALUES (?, ?)', key, "5")
    writer, loader = source.writer(), source.loader()
    assert not writer.apply([put("p", 6, 1), delete("d", 1), incr("n", 1, 1)]).superseded
    assert loader.load_many(["p", "d", "n", "gone"]) == {"p": 6, "n": 6, "gone": 5}
    assert source.sql('SELECT "version" FROM {t} WHERE "key" = ?', "n") == [(1,)]


def test_users_sql_in_between_is_never_refused_silently(source: Source) -> None:
    """Their value stands until our next write, which is later than the version that they left."""
    w = WriteBehind(source.writer(), delay=3600)
    w.put("a", 1)
    w.put("b", 1)
    assert w.flush(30)
    source.sql("UPDATE {t} SET \"value\" = '100' WHERE \"key\" = 'a'")
    source.sql("DELETE FROM {t} WHERE \"key\" = 'b'")
    w.incr("a")
    w.incr("b")
    assert w.flush(30)
    assert source.rows() == {"a": "101", "b": "1"}
    source.sql('UPDATE {t} SET "version" = NULL, "value" = \'7\' WHERE "key" = \'a\'')
    w.put("a", 8)
    assert w.flush(30)
    assert source.rows()["a"] == "8"
    assert w.stats().superseded == 0
    w.close()


def test_a_table_of_ones_own_with_more_columns_and_other_names(source: Source) -> None:
    source.sql(
        'CREATE TABLE {t} (id bigint PRIMARY KEY, "doc" text, "v" bigint, extra text DEFAULT \'x\')'
    )
    names = {"key": "id", "value": "doc", "version": "v"}
    w = WriteThrough(source.writer(**names))
    w.put(5, [1])
    w.incr(6)
    assert source.sql("SELECT id, doc, extra FROM {t} ORDER BY id") == [
        (5, "[1]", "x"),
        (6, "1", "x"),
    ]
    assert source.loader(**names).load_many([5, 6, 7]) == {5: [1], 6: 1}
    with pytest.raises(TypeError, match="'5'"):
        w.put("5", 1)


def test_several_columns(source: Source) -> None:
    columns = {"name": "text", "age": "bigint"}
    w = WriteThrough(source.writer(columns=columns, counter="age"))
    w.put("a", {"name": "Ada", "age": 36})
    assert w.incr("a", 4) == 40
    w.incr("b", 1, 9)
    loader = source.loader(columns=columns)
    assert loader.load_many("ab") == {
        "a": {"name": "Ada", "age": 40},
        "b": {"name": None, "age": 10},
    }
    for value in ({"name": "x"}, {"name": "x", "age": 1, "more": 2}, 7, None):
        with pytest.raises(Refused, match="'a'"):
            w.put("a", value)
    assert loader("a") == {"name": "Ada", "age": 40}
    with pytest.raises(TypeError, match="counter"):
        WriteThrough(source.writer(columns=columns)).incr("a")
    with pytest.raises(Exception) as caught:
        w.incr("a", 2**70)
    assert source.writer(columns=columns).transient(caught.value) is False


def test_names_are_quoted(source: Source) -> None:
    evil = 'a"b; DROP TABLE x; --%s %(a)s {t}?'
    options = {"table": evil, "key": 'k"%', "value": "v;'", "version": 'ver"s'}
    w = WriteThrough(source.writer(**options))
    w.put("'; --", "x' OR 1=1 --")
    w.incr("n")
    w.delete("n")
    w.incr("n", 5)
    loader = source.loader(**options)
    assert loader.load_many(["'; --", "n"]) == {"'; --": "x' OR 1=1 --", "n": 1 + 4}


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"table": ""}, ValueError, "table"),
        ({"table": "a\0b"}, ValueError, "table"),
        ({"table": 3}, TypeError, "table"),
        ({"key": "same", "value": "same"}, ValueError, "differ"),
        ({"columns": "abc"}, TypeError, "columns"),
        ({"columns": []}, ValueError, "columns"),
        ({"columns": ["a"], "counter": "b"}, ValueError, "counter"),
        ({"columns": {"a": "text); DROP TABLE x; --"}}, ValueError, "type"),
        ({"columns": 5}, TypeError, "columns .* not 5"),
        ({"columns": ["a", 5]}, TypeError, "columns .* not 5"),
        ({"value": None}, TypeError, "value .* not None"),
        ({"version": ""}, ValueError, "version"),
        ({"codec": "json"}, TypeError, "codec .* not 'json'"),
        ({"keep": "1"}, TypeError, "keep .* not '1'"),
        ({"keep": float("nan")}, ValueError, "keep .* nan"),
    ],
)
def test_bad_options(source: Source, options: Any, error: Any, word: str) -> None:
    with pytest.raises(error, match=word):
        source.writer(**options)


@pytest.mark.parametrize("what", ["writer", "loader"])
@pytest.mark.parametrize("wrong", [None, "1", -1, float("nan"), True, [1], 10.0**12])
def test_bad_timeouts(source: Source, what: str, wrong: Any) -> None:
    names = ["timeout"] if source.kind == "sqlite" else ["connect_timeout", "statement_timeout"]
    for name in names:
        if source.kind == "sqlite" and wrong == 10.0**12:
            continue  # that long, then
        with pytest.raises((TypeError, ValueError), match=f"{name}.*{re.escape(str(wrong))}"):
            getattr(source, what)(**{name: wrong})


@pytest.mark.parametrize("kind", [writing.SQLiteWriter, writing.SQLiteLoader])
@pytest.mark.parametrize("path", ["", ":memory:", "file:x?mode=memory", "a\0b", 5, None, b"x"])
def test_what_is_no_path_of_a_file(kind: Any, path: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"path must.*{re.escape(repr(path))}"):
        kind(path, table="t")


def test_keys_of_several_types_are_not_confused(source: Source) -> None:
    w = WriteThrough(source.writer())
    w.put("1", "text")
    if source.kind == "sqlite":
        w.put(1, "int")
        w.put(b"1", "bytes")
        assert source.loader().load_many([1, "1", b"1"]) == {1: "int", "1": "text", b"1": "bytes"}
    else:
        for key in (1, b"1"):
            with pytest.raises(TypeError, match="key column is text"):
                w.put(key, "x")
        for key in ("a\0b", "\ud800"):
            with pytest.raises(ValueError, match="NUL"):
                w.put(key, 1)
        # a writer that has not seen the table yet does not put 1 where "1" is either
        with pytest.raises(TypeError, match="key column is text"):
            source.writer().apply([put(1, "x", 99)])
    load = source.loader()
    assert load("1") == "text"
    for key in (None, 1.5, (1,), True):
        for call in (lambda key=key: w.put(key, 1), lambda key=key: load(key)):
            with pytest.raises(TypeError, match=re.escape(f"key {key!r}: keys of a table are")):
                call()
    surrogate = "a\ud800"
    for call in (lambda: w.put(surrogate, 1), lambda: load(surrogate)):
        with pytest.raises(ValueError, match="no lone surrogates"):
            call()
    if source.kind == "postgres":
        with pytest.raises(TypeError, match="key 1: the key column is of another type"):
            load(1)
        with pytest.raises(ValueError, match="NUL"):
            load("a\0b")
    behind = WriteBehind(source.writer(), delay=3600)
    with pytest.raises(ValueError, match="no lone surrogates"):
        behind.put(surrogate, 1)
    assert behind.close(30)


def test_a_table_that_is_dropped_is_made_again(source: Source) -> None:
    w = WriteBehind(source.writer(), delay=3600)
    w.put("a", 1)
    assert w.flush(30)
    for name in ("{t}", "{t}_tombstones", "{t}_applied"):
        source.sql(f"DROP TABLE {name}")
    w.put("b", 2)
    if source.kind == "sqlite":
        w._writer.close()  # type: ignore[attr-defined]
    assert w.flush(30)
    assert source.rows() == {"b": "2"}
    w.close()


def test_deletions_and_journals_are_forgotten_in_time(source: Source) -> None:
    writer = source.writer(keep=-1.0)
    writer.apply(Batch([put("a", 1, 1)], "old", 1, 1))
    writer.apply(Batch([delete("a", 2)], "new", 1, 1))
    writer._purged = float("-inf")
    writer.apply([put("b", 1, 1)])
    assert source.sql("SELECT count(*) FROM {t}_tombstones") == [(0,)]
    assert source.sql("SELECT count(*) FROM {t}_applied") == [(0,)]


def test_writers_at_once_agree(source: Source) -> None:
    """Threads with writers of their own, as processes would be; the model is a replay by version."""
    clock, lock = Clock(), threading.Lock()
    told: list[Op] = []
    draw = random.Random(36)
    seeds = [draw.random() for _ in range(4)]
    rounds = 12

    def work(seed: float) -> None:
        writer, mine = source.writer(), random.Random(seed)
        for _ in range(rounds):
            ops = []
            for _ in range(mine.randrange(1, 6)):
                with lock:
                    version = clock.tick()
                kind = mine.choice(["put", "put", "delete"])
                ops.append(Op(kind, mine.choice("abcdef"), mine.random(), 0, version))  # type: ignore[arg-type]
            with lock:
                told.extend(ops)
            while True:
                try:
                    writer.apply(Batch(coalesce(ops)))
                    break
                except Exception as error:
                    assert writer.transient(error), error

    for result in run_threads([lambda s=s: work(s) for s in seeds]):  # type: ignore[misc]
        assert result is None, result
    model: dict[Any, Any] = {}
    for op in sorted(told, key=lambda op: op.version):
        if op.kind == "put":
            model[op.key] = op.value
        else:
            model.pop(op.key, None)
    assert source.loader().load_many("abcdef") == model


def test_increments_at_once_are_all_counted(source: Source) -> None:
    def work() -> None:
        writer = source.writer()
        for version in range(1, 26):
            while True:
                try:
                    writer.apply([incr(key, 1, version) for key in ("x", "y", "z")])
                    break
                except Exception as error:
                    assert writer.transient(error), error

    assert run_threads([work] * 4) == [None] * 4
    assert source.loader().load_many("xyz") == {"x": 100, "y": 100, "z": 100}


def test_passwords_are_not_shown() -> None:
    pytest.importorskip("psycopg")
    secret = "s3cret"
    for info in (f"postgresql://u:{secret}@h:1/d", f"host=h password={secret} dbname=d port=1"):
        writer = writing.PostgresWriter(info, table="t")
        assert secret not in repr(writer) + writer.name
        assert writer.name == "postgres:h:1/d:t"
    with pytest.raises(ValueError, match="conninfo") as caught:
        writing.PostgresWriter(f"postgresql://u:{secret}@h:1:2:3/d?x", table="t")
    assert secret not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(TypeError, match="conninfo"):
        writing.PostgresWriter(7, table="t")


def test_a_pool_of_ones_own(source: Source) -> None:
    if source.kind != "postgres":
        pytest.skip("PostgreSQL alone has pools")
    pool_module = pytest.importorskip("psycopg_pool")
    with pool_module.ConnectionPool(source.place, min_size=1, max_size=2, open=True) as pool:
        w = WriteThrough(source.writer(place=pool))
        w.put("a", 1)
        w.incr("n", 2)
        assert source.loader(place=pool).load_many(["a", "n"]) == {"a": 1, "n": 2}
    assert source.rows() == {"a": "1", "n": "2"}


def test_json_columns(source: Source) -> None:
    if source.kind != "postgres":
        pytest.skip("PostgreSQL alone has such columns")
    source.sql('CREATE TABLE {t} ("key" uuid PRIMARY KEY, "value" jsonb, "version" bigint)')
    from uuid import UUID

    key = UUID(int=7)
    w = WriteThrough(source.writer())
    w.put(key, {"b": 1, "a": [None]})
    assert source.loader()(key) == {"b": 1, "a": [None]}
    w.put(key, 5)
    assert w.incr(key) == 6
    assert json.dumps(source.loader()(key)) == "6"


@pytest.mark.parametrize("kind", [writing.SQLiteWriter, writing.SQLiteLoader])
def test_a_url_is_no_path_and_its_password_is_not_shown(kind: Any) -> None:
    with pytest.raises(ValueError, match="path must name a file") as caught:
        kind("postgresql://me:secret@localhost/app", table="t")
    assert "secret" not in str(caught.value)
    assert "localhost" in str(caught.value)
