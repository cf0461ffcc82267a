"""Tiered caches over a write-behind queue: what was acknowledged is read, and in the end nobody has anything older."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stress.support import child_environment, run_child
from tiered.support import LIMIT, Face, Source, Thread, Tiers, sees, until

from fastcache import Cache
from fastcache.writing import (
    JournalError,
    Op,
    QueueFull,
    SQLiteLoader,
    SQLiteWriter,
    WriteBehind,
    WriteThrough,
)


@pytest.fixture(params=["alone", "filed", "networked"])
def anywhere(face: Face, request: pytest.FixtureRequest) -> Tiers:
    """Without an L2, and over each."""
    found: Tiers = request.getfixturevalue(request.param)
    return found


class Base:
    """A database of one table, and the queues before it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "source.db"
        self.folder = folder
        self.loader = SQLiteLoader(self.path, table="t")
        self.loads: list[Any] = []
        self.made: list[Any] = []

    def load(self, key: Any) -> Any:
        self.loads.append(key)
        return self.loader(key)

    def writer(self) -> SQLiteWriter:
        self.made.append(SQLiteWriter(self.path, table="t"))
        return self.made[-1]  # type: ignore[no-any-return]

    def behind(self, kind: Any = WriteBehind, writer: Any = None, **options: Any) -> Any:
        options.setdefault("delay", 3600)
        self.made.append(kind(writer or self.writer(), self.folder / "j", **options))
        return self.made[-1]

    def put(self, **values: Any) -> None:
        """By somebody else."""
        WriteThrough(self.writer()).write([Op.put(key, value) for key, value in values.items()])

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:
            return db.execute(text).fetchall()

    def rows(self) -> dict[str, Any]:
        return {key: int(value) for key, value in self.sql("SELECT key, value FROM t")}

    def close(self) -> None:
        for made in reversed(self.made):
            made.close()
        self.loader.close()


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Base]:
    made = Base(tmp_path)
    yield made
    made.close()


# ---- what was acknowledged is read ---------------------------------------------------------------------


def test_what_l1_evicts_is_still_read_and_still_written(anywhere: Tiers, base: Base) -> None:
    base.put(**{f"k{i}": -1 for i in range(30)})
    w = base.behind()
    t = anywhere(base.load, l1=Cache(1), writer=w)
    assert t.get("k0") == -1
    base.loads.clear()
    for i in range(20):
        t.set(f"k{i}", i)
    t.set_many({f"k{i}": i for i in range(20, 30)})
    expected = {f"k{i}": i for i in range(30)}
    assert len(t.l1) <= 1
    assert {key: t.get(key) for key in expected} == expected
    assert t.get_many(expected) == expected
    assert base.loads == [], "none of them was asked of the source"
    assert w.stats().pending == 30
    assert set(base.rows().values()) == {-1}
    assert w.flush(LIMIT)
    assert base.rows() == expected
    assert t.get_many(expected) == expected


def test_what_expires_in_every_tier_is_still_read_and_still_written(
    anywhere: Tiers, base: Base
) -> None:
    base.put(a=1)
    w = base.behind()
    t = anywhere(base.load, writer=w, ttl=600)
    t.set("a", 2, ttl=0.02)
    t.set("b", 3, ttl=0)
    until(lambda: "a" not in t.l1)
    assert (t.get("a"), t.get("b"), t.get_many(["a", "b"])) == (2, 3, {"a": 2, "b": 3})
    t.l1.clear()
    assert t.get("a") == 2
    assert w.flush(LIMIT)
    assert base.rows() == {"a": 2, "b": 3}


def test_invalidate_of_a_pending_key_drops_nothing(anywhere: Tiers, base: Base) -> None:
    base.put(a=1, b=1, n=5)
    w = base.behind()
    t = anywhere(base.load, writer=w)
    t.set("a", 2)
    t.delete("b")
    t.incr("n", 2)
    for drop in (lambda: t.invalidate("a"), lambda: t.invalidate_many(["a", "b", "n"])):
        drop()
        assert (t.get("a"), t.get("b"), t.get("n")) == (2, None, 7)
        assert w.stats().pending == 3
    assert w.flush(LIMIT)
    assert base.rows() == {"a": 2, "n": 7}
    assert t.get_many(["a", "b", "n"]) == {"a": 2, "n": 7}


def test_a_deletion_that_waits_is_seen_by_get_or_set(anywhere: Tiers, base: Base) -> None:
    base.put(a=1)
    w = base.behind()
    t = anywhere(base.load, writer=w)
    t.delete("a")
    if anywhere.where != "none":
        other = anywhere(base.load)
        assert other.get("a") == 1, "which fills L2 with what the source still has"
    assert t.get("a") is None
    assert t.get_or_set("a", lambda: 7) == 7
    assert w.flush(LIMIT)
    assert t.get("a") is None


class Down:
    """A writer to a database that cannot be written until `up`."""

    def __init__(self, writer: SQLiteWriter) -> None:
        self._writer = writer
        self.up = threading.Event()
        self.tried = threading.Event()
        self.name = writer.name
        self.codec = writer.codec
        self.check = writer.check

    def apply(self, ops: Any) -> Any:
        self.tried.set()
        if not self.up.is_set():
            raise OSError("down")
        return self._writer.apply(ops)


def test_a_counter_is_read_while_the_source_cannot_be_written(anywhere: Tiers, base: Base) -> None:
    base.put(n=5)
    writer = Down(base.writer())
    w = base.behind(writer=writer, delay=0)
    t = anywhere(base.load, writer=w)
    t.incr("n", 2)
    t.incr("new", 3)
    assert writer.tried.wait(LIMIT)
    for _ in range(3):
        assert Thread(lambda: (t.get("n"), t.get("new"))).result() == (7, 3)
        assert Thread(lambda: t.get_many(["n", "new"])).result() == {"n": 7, "new": 3}
        t.incr("n", -1)
        assert Thread(lambda: t.get("n")).result() == 6
        t.incr("n", 1)
    writer.up.set()
    assert w.flush(LIMIT)
    assert base.rows() == {"n": 7, "new": 3}
    assert (t.get("n"), t.get("new")) == (7, 3)


def test_counters_count_nothing_twice_while_batches_are_applied(
    anywhere: Tiers, base: Base
) -> None:
    base.put(n=0)
    w = base.behind(delay=0, batch=1)
    t = anywhere(base.load, writer=w)
    for number in range(1, 41):
        t.incr("n")
        assert t.get("n") == number
    assert w.flush(LIMIT)
    assert base.rows() == {"n": 40}


def test_a_write_that_is_not_accepted_changes_nothing_and_reads_go_on(
    anywhere: Tiers, base: Base
) -> None:
    base.put(**{f"k{i}": -1 for i in range(7)})
    writer = Down(base.writer())
    w = base.behind(writer=writer, durability="process", max_pending=5, delay=0)
    t = anywhere(base.load, writer=w)
    for i in range(5):
        t.set(f"k{i}", i)
    assert writer.tried.wait(LIMIT)
    until(lambda: w.stats().failing)
    for call in (
        lambda: t.set("k5", 5),
        lambda: t.set("k0", 50),
        lambda: t.set_many({"k5": 5, "k6": 6}),
        lambda: t.delete("k0"),
        lambda: t.incr("k0"),
    ):
        with pytest.raises(QueueFull, match="5 operations wait"):
            call()
    expected = {**{f"k{i}": i for i in range(5)}, "k5": -1, "k6": -1}
    assert {key: t.get(key) for key in expected} == expected
    writer.up.set()
    assert w.flush(LIMIT)
    writer.up.clear()
    t.set("k1", 1)  # something that waits, or the journal is replaced by a new one
    journal = w._queue.own.journal
    journal.connection.execute("PRAGMA query_only = ON")  # as if its disk were read-only
    for call in (lambda: t.set("k5", 5), lambda: t.delete("k0"), lambda: t.incr("k0")):
        with pytest.raises(JournalError, match="readonly"):
            call()
    assert t.get_many(expected) == expected
    journal.connection.execute("PRAGMA query_only = OFF")
    for bad, error in (({"k5": object()}, TypeError), ({"k5": 5, "k6": float("nan")}, ValueError)):
        with pytest.raises(error, match="value of key"):
            t.set_many(bad)
    assert t.get_many(expected) == expected
    t.set("k5", 5)
    assert t.get("k5") == 5
    writer.up.set()
    assert w.flush(LIMIT)
    assert base.rows() == {**expected, "k5": 5}


# ---- an L1 that shares with nobody ---------------------------------------------------------------------


def test_alone_l1_keeps_what_it_put(alone: Tiers, base: Base) -> None:
    w = base.behind()
    t = alone(writer=w)  # as an L1 without a loader must, or it would be gone
    t.set("a", 1)
    t.set_many({"b": 2, "c": 3})
    assert w.flush(LIMIT)
    assert t.held() == {"a": 1, "b": 2, "c": 3}
    assert t.get("a") == 1
    t.set("a", 4)
    assert w.flush(LIMIT)
    assert (t.get("a"), base.rows()) == (4, {"a": 4, "b": 2, "c": 3})


def test_alone_what_the_source_refused_or_had_later_is_not_kept(alone: Tiers, base: Base) -> None:
    refused = threading.Event()

    class Picky:
        def __init__(self, writer: SQLiteWriter) -> None:
            self._writer = writer
            self.name, self.codec = writer.name, writer.codec

        def apply(self, ops: Any) -> Any:
            if any(op.key == "bad" for op in ops):
                refused.set()
                raise ValueError("not that one")
            return self._writer.apply(ops)

    base.put(bad=1, late=1, good=1)
    w = base.behind(writer=Picky(base.writer()))
    t = alone(base.load, writer=w)
    t.set_many({"bad": 2, "late": 2, "good": 2})
    base.sql("UPDATE t SET value = '9', version = version + (1 << 50) WHERE key = 'late'")
    assert t.get_many(["bad", "late", "good"]) == {"bad": 2, "late": 2, "good": 2}
    assert w.flush(LIMIT)
    assert refused.is_set()
    assert t.held() == {"good": 2}
    assert t.get_many(["bad", "late", "good"]) == {"bad": 1, "late": 9, "good": 2}


@pytest.mark.parametrize("drained", [True, False])
def test_of_two_that_set_at_once_the_later_is_read(
    anywhere: Tiers, base: Base, drained: bool
) -> None:
    """Between the acknowledgement of a set and its return there is another, which may even reach the source."""
    later: list[Callable[[], Any]] = []

    class Slow(WriteBehind):
        def write(self, ops: Any) -> None:
            super().write(ops)
            self._go_on()

        def put(self, key: Any, value: Any) -> None:
            super().put(key, value)
            self._go_on()

        def _go_on(self) -> None:
            if later:
                later.pop()()
                assert not drained or self.flush(LIMIT)

        async def awrite(self, ops: Any) -> None:
            await super().awrite(ops)
            if later:
                await later.pop()()
                assert not drained or await self.aflush(LIMIT)

    w = base.behind(Slow)
    t = anywhere(base.load, writer=w)
    assert t.set_many({}) == []
    for first, second in ((1, 2), (3, 4)):
        later.append(lambda second=second: t.cache.set("a", second))
        t.set("a", first)
        assert t.get("a") == second
    assert w.flush(LIMIT)
    assert (t.get("a"), base.rows()) == (4, {"a": 4})


def test_a_set_that_is_cancelled_leaves_nothing_older(anywhere: Tiers, base: Base) -> None:
    """Its journal has it in the end; what was read meanwhile goes with the drain."""
    if not anywhere.face.asynchronous:
        pytest.skip("threads are not cancelled")
    base.put(a=1)
    w = base.behind()
    t = anywhere(base.load, writer=w)
    t.set("b", 1)  # everything is open
    assert t.get("a") == 1

    async def cancelled() -> None:
        task = asyncio.ensure_future(t.cache.set("a", 2))
        await asyncio.to_thread(until, lambda: w._queue._waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with w._queue.lock:  # so that the commit waits
        t.face.run(cancelled())
        assert t.get("a") == 1
    until(lambda: w.pending("a") is not None)
    assert w.flush(LIMIT)
    assert t.get("a") == 2


def test_what_was_adopted_is_seen_over_what_l1_had(anywhere: Tiers, base: Base) -> None:
    base.put(a=1)
    w = base.behind(delay=3600)
    t = anywhere(base.load, writer=w)
    t.set("other", 0)
    assert (t.get("a"), t.held().get("a")) == (1, 1)
    run_child(
        "import os, sys\n"
        "from fastcache.writing import SQLiteWriter, WriteBehind\n"
        "w = WriteBehind(SQLiteWriter(sys.argv[1], table='t'), sys.argv[2], delay=3600)\n"
        "w.put('a', 2)\n"
        "os._exit(0)\n",
        base.path,
        base.folder / "j",
    )
    with w._drainer.applying:  # so that it is not written yet
        assert w.adopt() == 1
        assert t.get("a") == 2
    assert w.flush(LIMIT)
    assert t.get("a") == 2


# ---- other processes -----------------------------------------------------------------------------------


def test_others_read_what_was_pushed_and_in_the_end_the_source(tiers: Tiers, base: Base) -> None:
    base.put(a=1)
    w = base.behind()
    t, other = tiers(base.load, writer=w), tiers(base.load)
    assert (t.get("a"), other.get("a")) == (1, 1)
    t.set("a", 2)
    sees(other, "a", 2)
    assert base.rows() == {"a": 1}
    assert w.flush(LIMIT)
    assert [each.get("a") for each in (t, other, tiers(base.load))] == [2, 2, 2]


def test_an_older_value_in_l2_does_not_outlive_the_drain(tiers: Tiers, base: Base) -> None:
    """No marker keeps others from filling L2 with what the source has; the invalidation of the drain does away with
    it, wherever it got to."""
    base.put(a=1)
    w = base.behind()
    t, other, third = tiers(base.load, writer=w), tiers(base.load), tiers(base.load)
    t.set("a", 2)
    other.invalidate("a")  # as if L2 had evicted it
    assert (other.get("a"), third.get("a")) == (1, 1), "older, until the drain"
    assert (other.held(), third.held()) == ({"a": 1}, {"a": 1})
    base.loads.clear()
    assert t.get("a") == 2, "but not here"
    assert t.get_many(["a"]) == {"a": 2}
    assert base.loads == []
    assert w.flush(LIMIT)
    assert t.get("a") == 2
    sees(other, "a", 2)
    sees(third, "a", 2)
    assert tiers(base.load).get("a") == 2


def test_a_load_of_the_older_value_that_ends_after_the_drain_is_not_kept(
    tiers: Tiers, base: Base
) -> None:
    base.put(a=1)
    w = base.behind()
    t, slow = tiers(base.load, writer=w), Source()
    other = tiers(lambda key: (base.load(key), slow("gate"))[0])
    t.set("a", 2)
    other.invalidate("a")
    slow.gate.clear()
    reading = Thread(other.get, "a")
    until(lambda: slow.loads)
    assert w.flush(LIMIT)
    assert t.get("a") == 2
    slow.gate.set()
    assert reading.result() == 1, "it began before"
    sees(other, "a", 2)
    assert (t.get("a"), tiers(base.load).get("a")) == (2, 2)


@pytest.mark.parametrize("drained", [True, False])
def test_a_push_that_comes_late_is_refused(tiers: Tiers, base: Base, drained: bool) -> None:
    """Between its acknowledgement and its push the write is drained, or not, and another process writes a newer
    value through: what is older never gets over what is newer."""
    base.put(a=1)
    newer: list[Callable[[], Any]] = []

    class Late(WriteBehind):
        def write(self, ops: Any) -> None:
            super().write(ops)
            if drained:
                assert self.flush(LIMIT)
            while newer:
                newer.pop()()

        async def awrite(self, ops: Any) -> None:
            await super().awrite(ops)
            await asyncio.to_thread(lambda: drained and self.flush(LIMIT))
            while newer:
                await newer.pop()()

    w = base.behind(Late)
    t = tiers(base.load, writer=w)
    other = tiers(base.load, writer=WriteThrough(base.writer()))
    newer.append(lambda: other.cache.set("a", 3))
    t.set("a", 2)
    assert base.rows() == {"a": 3}
    assert [each.get("a") for each in (other, tiers(base.load))] == [3, 3]
    assert w.flush(LIMIT)
    assert [each.get("a") for each in (t, other, tiers(base.load))] == [3, 3, 3]
    # and the key may be filled again at once
    loads = len(base.loads)
    assert (tiers(base.load).get("a"), len(base.loads)) == (3, loads)


def test_killed_between_the_commit_and_the_invalidation(filed: Tiers, base: Base) -> None:
    """Its rows are still in the journal, so whoever adopts that tells all tiers."""
    base.put(a=1)
    other = filed(base.load)
    child = (
        "import os, signal, sys\n"
        "from fastcache import Cache, TieredCache\n"
        "from fastcache.stores import SQLiteStore\n"
        "from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind\n"
        "source, journal, l2, namespace = sys.argv[1:]\n"
        "class Dies(SQLiteWriter):\n"
        "    def apply(self, ops):\n"
        "        super().apply(ops)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "loader = SQLiteLoader(source, table='t')\n"
        "store = SQLiteStore(l2)\n"
        "t = TieredCache(Cache(9), store, namespace=namespace, loader=loader,\n"
        "                writer=WriteBehind(Dies(source, table='t'), journal, delay=3600))\n"
        "t.set('a', 2)\n"
        "t.invalidate('a')\n"
        "other = TieredCache(Cache(9), store, namespace=namespace, loader=loader)\n"
        "assert other.get('a') == 1  # L2 has the older value\n"
        "t.flush(30)\n"
    )
    places = (base.path, base.folder / "j", base.folder / "l2.db", filed.namespace)
    done = subprocess.run(
        [sys.executable, "-c", child, *map(str, places)],
        env=child_environment(),
        stderr=subprocess.PIPE,
        timeout=LIMIT,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert base.rows() == {"a": 2}
    assert other.get("a") == 1, "nobody was told yet"
    w = base.behind()
    assert w.stats().adopted == 1
    t = filed(base.load, writer=w)
    assert t.get("a") == 2
    assert w.flush(LIMIT)
    assert (t.get("a"), other.get("a"), filed(base.load).get("a")) == (2, 2, 2)
    until(lambda: not [each for each in os.listdir(base.folder / "j") if "journal" in each])


@pytest.mark.parametrize("kind", ["WriteBehind", "WriteThrough"])
def test_a_fork_while_another_thread_hears_what_was_applied(tmp_path: Path, kind: str) -> None:
    """The child has a lock of its own, an empty queue, and writes."""
    run_child(
        """
        import os, sys, threading, warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        from fastcache import Cache, TieredCache
        from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind, WriteThrough
        place, kind = sys.argv[1:]
        writer = SQLiteWriter(place, table="t")
        behind = WriteThrough(writer) if kind == "WriteThrough" else WriteBehind(writer, delay=3600)
        t = TieredCache(Cache(9), loader=SQLiteLoader(place, table="t"), writer=behind)
        t.set("a", 1)
        held, go = threading.Event(), threading.Event()
        def hold():
            with t._core.source._lock:
                held.set()
                go.wait(60)
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(60)
        if (child := os.fork()) == 0:
            t.set("b", 2)
            t.incr("n", 3)
            assert t.flush(30)
            os._exit(0 if (t.get("b"), t.get("n")) == (2, 3) else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        go.set()
        thread.join()
        assert code == 0, code
        assert t.flush(30)
        assert t.get_many(["a", "b", "n"]) == {"a": 1, "b": 2, "n": 3}
        t.close()
        """,
        tmp_path / "app.db",
        kind,
        limit=30,
    )
