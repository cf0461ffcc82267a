"""Counters and sessions on a write-behind queue, over SQLite or, with a URL, PostgreSQL.

A service counts visits and remembers sessions: 10,000 updates of 200 hot keys. In the midst of it the process
is killed (kill -9); the next one finds in the journal what had been acknowledged, and goes on. In the end each
acknowledged update is in the database, once.

    python examples/write_counters.py [--updates N] [--keys N] [--postgres URL]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind


def source(options: argparse.Namespace) -> tuple[Any, Any]:
    """The writer, and the loader that reads what it wrote."""
    if options.postgres:
        from fastcache.writing import PostgresLoader, PostgresWriter

        table = "fastcache_example"
        return PostgresWriter(options.postgres, table=table), PostgresLoader(
            options.postgres, table=table
        )
    path = options.folder / "app.db"
    return SQLiteWriter(path, table="service"), SQLiteLoader(path, table="service")


def serve(options: argparse.Namespace, first: int, last: int, *, die: bool) -> None:
    """Updates number first to last; each is noted in a file once it was acknowledged."""
    writer, _ = source(options)
    behind = WriteBehind(writer, options.folder / "journal", delay=0.2, batch=500)
    if adopted := behind.stats().adopted:
        print(f"  found {adopted:,} updates in the journal of a process that is gone")
    draw = random.Random(first)
    lag = 0.0
    # What is noted here survives the process as well: the operating system has it.
    with open(options.folder / "acknowledged", "ab", buffering=0) as noted:
        for number in range(first, last):
            user = int(options.keys * draw.random() ** 2)
            if number % 5:
                behind.incr(f"visits:{user}")
                noted.write(b"+%d\n" % user)
            else:
                behind.put(f"session:{user}", {"page": number})
                noted.write(b"=%d %d\n" % (user, number))
            if number % 100 == 0:
                lag = max(lag, behind.stats().lag)
    if die:
        print(f"  {behind.stats().pending:,} updates are not in the database yet; kill -9")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    behind.close(60)
    stats = behind.stats()
    print(
        f"  {stats.accepted + adopted:,} updates were {stats.written:,} rows in {stats.batches} transactions; "
        f"the longest lag was {lag:.2f} s"
    )


def check(options: argparse.Namespace) -> bool:
    """Whether the database has each acknowledged update, and has it once."""
    visits: dict[str, int] = {}
    sessions: dict[str, dict[str, int]] = {}
    for line in (options.folder / "acknowledged").read_text().splitlines():
        if line.startswith("+"):
            key = f"visits:{line[1:]}"
            visits[key] = visits.get(key, 0) + 1
        else:
            user, page = line[1:].split()
            sessions[f"session:{user}"] = {"page": int(page)}
    _, loader = source(options)
    expected = {**visits, **sessions}
    found = loader.load_many(expected)
    loader.close()
    print(f"{sum(visits.values()):,} visits acknowledged,", end=" ")
    print(f"{sum(found.get(key, 0) for key in visits):,} in the database; sessions", end=" ")
    print("as they were left" if sessions.items() <= found.items() else "lost")
    return bool(found == expected)


def main(options: argparse.Namespace) -> int:
    if options.part:
        first, last, die = map(int, options.part)
        serve(options, first, last, die=bool(die))
        return 0
    if options.postgres:
        import psycopg

        with psycopg.connect(options.postgres) as session:
            for ending in ("", "_tombstones", "_applied"):
                session.execute(f"DROP TABLE IF EXISTS fastcache_example{ending}")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        half = options.updates // 2
        for name, first, last, die in (
            ("first process", 0, half, True),
            ("second process", half, options.updates, False),
        ):
            print(f"{name}:", flush=True)
            started = time.monotonic()
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
            command += ["--part", str(first), str(last), str(int(die))]
            code = subprocess.run(command, check=False).returncode
            if code != (-signal.SIGKILL if die else 0):
                return 1
            print(f"  {(last - first) / (time.monotonic() - started):,.0f} updates a second")
        whole = check(options)
    print("nothing is missing, and nothing was counted twice" if whole else "NOT what it should be")
    return 0 if whole else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Counters and sessions on a write-behind queue.")
    parser.add_argument("--updates", type=int, default=10_000, metavar="N")
    parser.add_argument("--keys", type=int, default=100, metavar="N", help="users")
    parser.add_argument("--postgres", metavar="URL", help="a database to use in place of SQLite")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
