"""Scenario 33: kill -9, at any moment, again and again."""

from __future__ import annotations

import contextlib
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from _support import until
from stress.support import scaled
from writing.harness import Ledger, finish, kill_after, start

from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.writing import SQLiteLoader

KEYS = [f"{letter}{n}" for letter in "nv" for n in range(5)]


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
def test_no_acknowledged_write_is_lost_and_none_happens_twice(
    tmp_path: Path, durability: str
) -> None:
    source, journal = str(tmp_path / "app.db"), tmp_path / "journal"
    draw = random.Random(33)
    ledger = Ledger()
    rounds = scaled(50, 1000) if durability == "process" else scaled(10, 100)
    for number in range(rounds):
        process = start(source, journal, durability, number, 100_000, "wait")
        ledger.read(kill_after(process, draw.choice([1, 2, 3, 20, 100, 400, 1500])))
        if number % 10 == 9:  # all in between as well, and not only at the end
            ledger.read(finish(source, journal, durability, rounds + number))
            ledger.check(SQLiteLoader(source, table="t").load_many(KEYS))
    ledger.read(finish(source, journal, durability, 2 * rounds))
    ledger.check(SQLiteLoader(source, table="t").load_many(KEYS))
    assert ledger.acknowledged > 10 * rounds
    assert list(journal.iterdir()) == [], "journals that are drained go"


@pytest.mark.slow
def test_the_same_with_postgres(postgres: Any, tmp_path: Path) -> None:
    postgres_loader = pytest.importorskip("fastcache.writing.postgres").PostgresLoader
    source, journal = postgres.url, tmp_path / "journal"
    draw = random.Random(34)
    ledger = Ledger()
    rounds = scaled(10, 200)
    for number in range(rounds):
        process = start(source, journal, "process", number, 100_000, "wait")
        ledger.read(kill_after(process, draw.choice([1, 20, 100, 400, 1500])))
    ledger.read(finish(source, journal, "process", 2 * rounds))
    loader = postgres_loader(source, table="t")
    ledger.check(loader.load_many(KEYS))
    loader.close()
    assert list(journal.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("where", ["sqlite", "redis"])
def test_the_same_through_tiers(
    tmp_path: Path, durability: str, where: str, request: pytest.FixtureRequest
) -> None:
    """TieredCache.set, delete and incr: what they have acknowledged is in the source, and in the end neither L1 nor
    L2 has anything else."""
    source, journal = str(tmp_path / "app.db"), tmp_path / "journal"
    redis = where == "redis"
    l2 = request.getfixturevalue("own_redis").url if redis else str(tmp_path / "l2.db")
    draw = random.Random(35)
    ledger = Ledger()
    loader = SQLiteLoader(source, table="t")
    store: Any = RedisStore(l2) if redis else SQLiteStore(l2)
    watching = TieredCache(Cache(100), store, namespace="victim", loader=loader)
    for number in range(scaled(6, 150)):
        process = start(source, journal, durability, number, 100_000, "wait", l2)
        ledger.read(kill_after(process, draw.choice([1, 2, 3, 20, 100, 400])))
        watching.get_many(KEYS)  # whatever the source has now is in L2 and L1
    ledger.read(finish(source, journal, durability, 10_000, l2))
    found = loader.load_many(KEYS)
    ledger.check(found)
    assert ledger.acknowledged > 20
    until(lambda: watching.get_many(KEYS) == found)
    with contextlib.closing(
        TieredCache(Cache(100), store, namespace="victim", loader=loader)
    ) as fresh:
        assert fresh.get_many(KEYS) == found, "L2 has nothing older"
    assert list(journal.iterdir()) == []
    watching.close()
    store.close()
    loader.close()


def test_the_harness_notices_a_lost_write_and_one_that_happens_twice(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.read(["try incr n0 3", "ok incr n0 3", "try incr n0 2"])
    ledger.check({"n0": 3})
    ledger.check({"n0": 5})
    for wrong in (0, 2, 6, 8):
        with pytest.raises(AssertionError):
            ledger.check({"n0": wrong})
    ledger.read(["try put v0 a", "ok put v0 a", "try put v0 b"])
    with pytest.raises(AssertionError):
        ledger.check({"n0": 3})


def test_without_a_journal_a_kill_loses_what_was_pending(tmp_path: Path) -> None:
    """What durability="memory" does not promise."""
    source = str(tmp_path / "app.db")
    code = tmp_path / "code.py"
    code.write_text(
        "import os, signal, sys\n"
        "from fastcache.writing import SQLiteWriter, WriteBehind\n"
        "w = WriteBehind(SQLiteWriter(sys.argv[1], table='t'), delay=3600)\n"
        "w.put('a', 1)\n"
        "assert w.flush(30)\n"
        "w.put('b', 1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess
    import sys

    from stress.support import child_environment

    done = subprocess.run(
        [sys.executable, code, source], env=child_environment(), timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert SQLiteLoader(source, table="t").load_many(["a", "b"]) == {"a": 1}
