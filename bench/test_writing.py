"""What does a write cost, and what does a write-behind save?

Figures are printed and kept in `extra_info`: paired ratios within one run, rounds interleaved, medians.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastcache.writing import SQLiteWriter, WriteBehind

VALUE = {"name": "Ada", "visits": 7, "tags": ["a", "b"]}
PUTS, ROUNDS = 2_000, 9


class Nowhere:
    """A source that costs nothing."""

    def apply(self, ops: object) -> None: ...


def timed(call: Callable[[str], object], keys: list[str]) -> float:
    """Microseconds of one call, CPU time of this thread."""
    start = time.thread_time()
    for key in keys:
        call(key)
    return (time.thread_time() - start) / len(keys) * 1e6


@pytest.mark.parametrize("durability", ["memory", "process"])
def test_put(benchmark: Any, tmp_path: Path, capsys: Any, durability: str) -> None:
    """A put, beside the commit of one row to a bare SQLite table in WAL mode."""
    options: dict[str, Any] = {"journal": tmp_path / "j"} if durability == "process" else {}
    w = WriteBehind(
        SQLiteWriter(tmp_path / "x.db", table="t"),
        delay=1e6,
        batch=10**6,
        exit_timeout=0,
        **options,
    )
    bare = sqlite3.connect(tmp_path / "bare.db", isolation_level=None)
    bare.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    bare.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value TEXT, version INTEGER)")
    text = json.dumps(VALUE)
    ours, theirs = [], []

    def rounds() -> None:
        for number in range(ROUNDS):
            keys = [f"user:{number}:{i}" for i in range(PUTS)]
            ours.append(timed(lambda key: w.put(key, VALUE), keys))
            theirs.append(
                timed(lambda key: bare.execute("INSERT INTO t VALUES (?, ?, 1)", (key, text)), keys)
            )

    benchmark.pedantic(rounds, rounds=1)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    benchmark.extra_info.update(us=statistics.median(ours), ratio=ratio)
    with capsys.disabled():
        print(
            f"\nput at {durability}: {statistics.median(ours):.1f} us, {ratio:.2f} of a bare commit"
        )
    bare.close()
    w.close(60)


def test_statements_saved(benchmark: Any, tmp_path: Path, capsys: Any) -> None:
    """10,000 updates of 200 hot keys: rows that the source is given."""
    w = WriteBehind(Nowhere(), tmp_path / "j", batch=500, delay=0.5)

    def run() -> None:
        for i in range(10_000):
            w.incr(f"k{i % 200}")
        assert w.flush(60)

    benchmark.pedantic(run, rounds=1)
    stats = w.stats()
    benchmark.extra_info["saved"] = stats.accepted / stats.written
    with capsys.disabled():
        print(f"\n{stats.accepted:,} writes are {stats.written:,} rows in {stats.batches} batches")
    w.close()


def test_drain_to_postgres(benchmark: Any, postgres: Any, capsys: Any) -> None:
    """100,000 pending rows, beside psycopg's executemany of the same upserts."""
    import psycopg

    from fastcache.writing import PostgresWriter

    number = 100_000
    rows = [(f"user:{i}", json.dumps({"name": "Ada", "n": i}), 1 << 60) for i in range(number)]
    session = psycopg.connect(postgres.url, autocommit=True)
    session.execute("CREATE TABLE bare (key text PRIMARY KEY, value text, version bigint)")
    upsert = (
        "INSERT INTO bare VALUES (%s, %s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
        " version = excluded.version WHERE bare.version IS NULL OR bare.version < excluded.version"
    )
    start = time.perf_counter()
    for first in range(0, number, 500):
        with session.transaction(), session.cursor() as cursor:
            cursor.executemany(upsert, rows[first : first + 500])
    theirs = time.perf_counter() - start
    session.close()
    w = WriteBehind(PostgresWriter(postgres.url, table="ours"), delay=1e6, max_pending=10 * number)
    w._drainer.start = lambda: None  # type: ignore[method-assign]
    for i in range(number):
        w.put(f"user:{i}", {"name": "Ada", "n": i})
    del w._drainer.start  # type: ignore[method-assign]
    benchmark.pedantic(w.flush, args=(600,), rounds=1)
    ours = benchmark.stats.stats.min
    benchmark.extra_info["ratio"] = theirs / ours
    with capsys.disabled():
        print(f"\nexecutemany {number / theirs:,.0f} rows/s, drain {theirs / ours:.2f} of that")
    w.close(60)
