"""Scenario 34: the database is down for a long while, and comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from _support import until
from stress.support import SOAK, memory

from fastcache.testing.faults import FaultProxy
from fastcache.writing import PostgresLoader, PostgresWriter, QueueFull, WriteBehind

pytest.importorskip("psycopg")
BOUND = 600


@pytest.mark.slow
@pytest.mark.parametrize("on_full", ["write_through", "raise", "block"])
@pytest.mark.parametrize("durability", ["memory", "process", "power"])
def test_a_database_that_is_stopped_and_started(
    own_postgres: Any, tmp_path: Path, durability: str, on_full: str
) -> None:
    options: dict[str, Any] = {"durability": durability}
    if durability != "memory":
        options["journal"] = tmp_path / "journal"
    w = WriteBehind(
        PostgresWriter(own_postgres.url, table="t", connect_timeout=1),
        max_pending=BOUND,
        on_full=on_full,
        block_timeout=0.1,
        delay=0.01,
        batch=50,
        **options,
    )
    w.put("k0", -1)
    w.incr("n", 5)
    assert w.flush(30)
    own_postgres.stop()
    w.put("first", 1)
    until(lambda: w.stats().failing)
    expected = 5
    accepted = 1
    with pytest.raises(QueueFull):
        for i in range(3 * BOUND):
            w.put(f"k{i % 7}", i)
            accepted += 1
            w.incr("n")
            expected += 1
            accepted += 1
    assert accepted == w.stats().pending == BOUND
    assert not w.flush(0.2)
    # at once, again and again, with memory flat
    before = memory()
    started = time.monotonic()
    for i in range(20 if on_full == "block" else 2000):
        with pytest.raises(QueueFull):
            w.put(f"full{i}", "x" * 1000)
    if on_full != "block":
        assert time.monotonic() - started < 20
    assert memory() - before < 8 << 20
    with pytest.raises(QueueFull):
        asyncio.run(w.aput("full", 1))
    last = {f"k{i}": w.pending(f"k{i}").value for i in range(7)}  # type: ignore[union-attr]
    own_postgres.start()
    assert w.flush(60)
    loader = PostgresLoader(own_postgres.url, table="t")
    assert loader.load_many([*last, "first", "n", "full", "full0"]) == {
        **last,
        "first": 1,
        "n": expected,
    }
    assert w.stats().retries > 0 and not w.stats().failing and w.stats().dead == 0
    w.put("after", 1)
    assert w.close(30)
    assert loader("after") == 1
    loader.close()


@pytest.mark.soak
def test_ten_minutes_at_a_thousand_writes_a_second(own_postgres: Any, tmp_path: Path) -> None:
    assert SOAK
    w = WriteBehind(
        PostgresWriter(own_postgres.url, table="t"), tmp_path / "journal", max_pending=100_000
    )
    w.put("n", 0)
    assert w.flush(30)
    own_postgres.stop()
    end = time.monotonic() + 600
    accepted = refused = 0
    sizes = []
    while time.monotonic() < end:
        for i in range(100):
            try:
                w.incr(f"n{i}")
                accepted += 1
            except QueueFull:
                refused += 1
        sizes.append(memory())
        time.sleep(0.1)
    assert refused > 0
    full = len(sizes) // 2  # the queue was full long before
    assert max(sizes[full:]) - min(sizes[full:]) < 16 << 20
    own_postgres.start()
    assert w.close(120)
    loader = PostgresLoader(own_postgres.url, table="t")
    assert sum(loader.load_many([f"n{i}" for i in range(100)]).values()) == accepted


def test_a_network_that_swallows_everything_is_a_source_that_is_down(
    postgres: Any, tmp_path: Path
) -> None:
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        url = f"postgresql://postgres@{proxy.host}:{proxy.port}/postgres"
        w = WriteBehind(
            PostgresWriter(url, table="t34", connect_timeout=2, statement_timeout=1.0),
            tmp_path / "journal",
            delay=0,
            max_pending=10,
        )
        w.put("a", 1)
        assert w.flush(30)
        proxy.black_hole()
        for i in range(10):
            w.put(f"k{i}", i)  # fast: in the journal
        with pytest.raises(QueueFull):
            w.put("more", 1)
        assert not w.flush(0.1)
        proxy.heal()
        proxy.reset()
        assert w.flush(60)
        loader = PostgresLoader(postgres.url, table="t34")
        assert loader.load_many([f"k{i}" for i in range(10)]) == {f"k{i}": i for i in range(10)}
        loader.close()
        assert w.close(30)


def test_a_server_that_is_killed_and_recovers(own_postgres: Any, tmp_path: Path) -> None:
    w = WriteBehind(
        PostgresWriter(own_postgres.url, table="t"), tmp_path / "journal", delay=0, batch=5
    )
    for i in range(300):
        w.incr(f"n{i % 10}")
        if i == 150:
            own_postgres.kill(signal.SIGQUIT)  # at once, without a checkpoint
            own_postgres.start()
    assert w.flush(60)
    loader = PostgresLoader(own_postgres.url, table="t")
    assert loader.load_many([f"n{i}" for i in range(10)]) == {f"n{i}": 30 for i in range(10)}
    loader.close()
    assert w.close(30)
