"""Loaders of a table that the first write will make."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastcache import MISSING, Cache, TieredCache
from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind


def test_sqlite(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "app.db"
    loader = SQLiteLoader(path, table="Rows")
    with caplog.at_level(logging.WARNING, "fastcache"):
        assert loader.load("k") is MISSING
        assert loader.load_many(["k", "l"]) == {}
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE other (key)")
        assert loader.load("k") is MISSING
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has no table 'Rows' yet: nothing is found"
    ]
    assert not path.with_name("app.db-journal").exists()
    writer = SQLiteWriter(path, table="Rows")
    with WriteBehind(writer) as behind:
        behind.put("k", 7)
    assert loader.load("k") == 7
    loader.close()


def test_another_error_is_not_taken_for_that(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        SQLiteLoader(tmp_path, table="rows").load("k")


def test_a_cache_that_writes_behind_starts_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    cache: TieredCache[str, Any] = TieredCache(
        Cache(100),
        writer=WriteBehind(SQLiteWriter(path, table="rows"), delay=60.0),
        loader=SQLiteLoader(path, table="rows"),
    )
    assert cache.get("visits") is None
    assert cache.incr("visits", 2, 5) == 7
    assert cache.get("visits") == 7
    cache.close()
    assert SQLiteLoader(path, table="rows").load("visits") == 7


def test_postgres(postgres: Any, caplog: pytest.LogCaptureFixture) -> None:
    from fastcache.writing import PostgresLoader, PostgresWriter

    table = "made_by_the_first_write"
    loader = PostgresLoader(postgres.url, table=table)
    with caplog.at_level(logging.WARNING, "fastcache"):
        assert loader.load("k") is MISSING
        assert loader.load_many(["k", "l"]) == {}
    assert len(caplog.records) == 1
    with WriteBehind(PostgresWriter(postgres.url, table=table)) as behind:
        behind.put("k", 7)
    assert loader.load("k") == 7
    loader.close()
