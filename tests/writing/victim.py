"""A process to be killed: writes through a write-behind, and says what was acknowledged.

Arguments: source (path of an SQLite file, or URL of a PostgreSQL), journal directory, durability, seed, most
operations, what to do at the end ("flush", "wait" for being killed, "leave"), and, to write through a tiered cache,
its L2 (path, or URL of a Redis). On standard output, unbuffered, one line before each operation (`try ...`) and one
after (`ok ...`).
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Any

from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.writing import (
    PostgresLoader,
    PostgresWriter,
    SQLiteLoader,
    SQLiteWriter,
    WriteBehind,
)

COUNTERS = 5
VALUES = 5


def writer(source: str) -> SQLiteWriter | PostgresWriter:
    if source.startswith("postgresql:"):
        return PostgresWriter(source, table="t")
    return SQLiteWriter(source, table="t", timeout=30)


def tiered(source: str, l2: str, behind: WriteBehind) -> TieredCache:
    """A small L1, so that much of what is pending is not in it."""
    store: Any = RedisStore(l2) if l2.startswith("redis:") else SQLiteStore(l2)
    loader: Any = PostgresLoader if source.startswith("postgresql:") else SQLiteLoader
    return TieredCache(
        Cache(3), store, namespace="victim", loader=loader(source, table="t"), writer=behind
    )


def say(text: str) -> None:
    os.write(1, (text + "\n").encode())


def main() -> None:
    source, journal, durability, seed, count, end, *l2 = sys.argv[1:]
    draw = random.Random(int(seed))
    behind = WriteBehind(
        writer(source), journal, durability, batch=7, delay=0.002, signals=(signal.SIGTERM,)
    )
    cache = tiered(source, l2[0], behind) if l2 else None
    put: Any = behind.put if cache is None else cache.set
    face: Any = behind if cache is None else cache
    say(f"adopted {behind.stats().adopted}")
    for number in range(int(count)):
        kind = draw.choices(["incr", "put", "delete"], [6, 3, 1])[0]
        if kind == "incr":
            key = f"n{draw.randrange(COUNTERS)}"
            delta = draw.randrange(1, 10)
            say(f"try incr {key} {delta}")
            face.incr(key, delta)
            say(f"ok incr {key} {delta}")
        else:
            key = f"v{draw.randrange(VALUES)}"
            value = f"{seed}-{number}" if kind == "put" else "-"
            say(f"try {kind} {key} {value}")
            put(key, value) if kind == "put" else face.delete(key)
            say(f"ok {kind} {key} {value}")
    if end == "flush":
        assert behind.flush(60), behind.stats()
        behind.close()
        say(f"done {behind.stats().dead}")
    elif end == "wait":
        say("waiting")
        signal.pause()


if __name__ == "__main__":
    main()
