"""Scenarios 39 and 40: SIGTERM, adoption by exactly one, and dirty entries of a cache."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from _support import run_threads, until
from stress.support import child_environment, scaled
from writing.harness import LIMIT, Ledger, finish, kill_after, start
from writing.test_behind import Recorder

from fastcache import Cache
from fastcache._types import MISSING
from fastcache.writing import Op, SQLiteLoader, SQLiteWriter, WriteBehind

KEYS = [f"{letter}{n}" for letter in "nv" for n in range(5)]


@pytest.mark.slow
def test_workers_that_are_ended_and_started_again_and_again(tmp_path: Path) -> None:
    """Four at a time, ended by SIGTERM or SIGKILL; each journal is adopted once, whoever comes first."""
    source, journal = str(tmp_path / "app.db"), tmp_path / "journal"
    draw = random.Random(39)
    totals = Ledger()  # of the counters: values of several processes have no order that we know
    for number in range(scaled(5, 1000)):
        workers = [
            start(source, journal, "process", 4 * number + i, 100_000, "wait") for i in range(4)
        ]
        for worker in workers:
            end = draw.choice([signal.SIGTERM, signal.SIGKILL])
            ledger = Ledger()
            ledger.read(kill_after(worker, draw.choice([1, 10, 100, 400]), end))
            for mine, all_ in ((ledger.sums, totals.sums), (ledger.maybe, totals.maybe)):
                for key, value in mine.items():
                    all_[key] = all_.get(key, 0) + value
    ledger = Ledger()
    ledger.read(finish(source, journal, seed=-1))
    for key, value in ledger.sums.items():
        totals.sums[key] = totals.sums.get(key, 0) + value
    totals.check(SQLiteLoader(source, table="t").load_many(KEYS))
    assert list(journal.iterdir()) == []


def test_sigterm_drains_within_its_limit_and_leaves_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "app.db"
    code = """
import os, signal, sys, threading
from fastcache.writing import WriteBehind, SQLiteWriter
class Slow:
    def __init__(self):
        self.inner = SQLiteWriter(sys.argv[1], table="t")
        self.name = self.inner.name
        self.codec = self.inner.codec
    def apply(self, ops):
        threading.Event().wait(0.2)
        return self.inner.apply(ops)
w = WriteBehind(Slow(), sys.argv[1] + ".j", delay=3600, batch=1, exit_timeout=0.5,
                signals=(signal.SIGTERM,))
for i in range(100):
    w.put(i, i)
os.write(1, b"ready\\n")
signal.pause()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, source],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    process.stdout.close()
    done = SQLiteLoader(source, table="t").load_many(range(100))
    assert 0 < len(done) < 50
    w = WriteBehind(SQLiteWriter(source, table="t"), f"{source}.j", delay=3600)
    assert w.stats().adopted >= 50
    assert w.close(30)
    assert SQLiteLoader(source, table="t").load_many(range(100)) == {i: i for i in range(100)}


def test_of_many_that_look_at_once_one_adopts(tmp_path: Path) -> None:
    for _ in range(scaled(5, 100)):
        w = WriteBehind(Recorder(), tmp_path / "j", delay=3600, exit_timeout=0)
        w._drainer.start = lambda: None  # type: ignore[method-assign]
        w.incr("n", 7)
        w._queue.own.journal.close()  # type: ignore[union-attr]
        w._queue.closed = True
        recorders = [Recorder() for _ in range(8)]

        def look(recorder: Recorder) -> int:
            behind = WriteBehind(recorder, tmp_path / "j", delay=3600)
            adopted = behind.stats().adopted
            assert behind.close(30)
            return adopted

        counts = run_threads([lambda r=r: look(r) for r in recorders])  # type: ignore[misc]
        assert sorted(counts) == [0] * 7 + [1]
        assert [op.value for r in recorders for op in r.ops] == [7]
        assert list((tmp_path / "j").iterdir()) == []


def test_a_process_that_lives_adopts_from_time_to_time(tmp_path: Path) -> None:
    recorder = Recorder()
    w = WriteBehind(recorder, tmp_path / "j", delay=0, adopt_every=0.02)
    w.put("mine", 1)
    other = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    other.put("theirs", 2)
    other.incr("n", 3)
    other._drainer.stopping = True
    other._queue.own.journal.close()  # type: ignore[union-attr]
    other._queue.closed = True
    w.incr("n", 4)
    from _support import until

    until(lambda: w.stats().adopted == 2 and not w.stats().pending)
    assert w.close(30)
    assert sorted((op.key, op.value) for op in recorder.ops) == [
        ("mine", 1),
        ("n", 3),
        ("n", 4),
        ("theirs", 2),
    ]


def test_adopted_writes_are_seen_and_older_than_ones_own(tmp_path: Path) -> None:
    recorder = Recorder()
    first = WriteBehind(recorder, tmp_path / "j", delay=3600)
    first._drainer.start = lambda: None  # type: ignore[method-assign]
    first.put("a", 1)
    first.incr("n", 5)
    first.put("b", "old")
    w = WriteBehind(recorder, tmp_path / "j", delay=3600)
    w._drainer.start = lambda: None  # type: ignore[method-assign]
    w.put("b", "new")
    w.incr("a", 2)
    first._queue.own.journal.close()  # type: ignore[union-attr]
    first._queue.closed = True
    assert w.adopt() == 3
    assert w.pending("a").value == 3  # type: ignore[union-attr]
    assert w.pending("b").value == "new"  # type: ignore[union-attr]
    assert w.pending("n").value == 5  # type: ignore[union-attr]
    del w._drainer.start  # type: ignore[method-assign]
    assert w.close(30)
    assert w.pending("a") is w.pending("b") is None


@pytest.mark.parametrize("listens", [True, False])
def test_what_was_adopted_at_the_start_waits_a_moment_for_whoever_has_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """Somebody who sets on_applied is told of all of it; without anybody, and without writes, it is drained too."""
    from fastcache.writing import drain

    dead = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    dead.put("a", 1)
    dead._queue.own.journal.close()  # type: ignore[union-attr]
    dead._queue.closed = True
    monkeypatch.setattr(drain, "GRACE", 3600.0 if listens else 0.01)
    recorder = Recorder()
    w = WriteBehind(recorder, tmp_path / "j")
    told: list[Any] = []
    if listens:
        assert w._drainer.thread is None and w.pending("a").value == 1  # type: ignore[union-attr]
        w.on_applied = told.extend
    until(lambda: not w.stats().pending)
    assert [op.key for op in recorder.ops] == ["a"]
    assert told == (["a"] if listens else [])
    assert w.close(30)


def test_what_is_too_old_becomes_a_dead_letter(tmp_path: Path) -> None:
    first = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    first._drainer.start = lambda: None  # type: ignore[method-assign]
    first.put("a", 1)
    first._queue.own.journal.close()  # type: ignore[union-attr]
    first._queue.closed = True
    w = WriteBehind(recorder := Recorder(), tmp_path / "j", adopt_within=1e-9)
    assert w.stats().dead == 1 and w.pending("a") is None
    assert w.close(30)
    assert recorder.ops == [] and len(list((tmp_path / "j").glob("*.journal"))) == 1


def journal_command(*arguments: object, expected: int = 0) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from fastcache.writing.cli import journal_command as j; sys.exit(j(sys.argv[1:]))",
            *map(str, arguments),
        ],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


class Picky(Recorder):
    def apply(self, ops: Sequence[Op]) -> None:
        if any(op.value == "poison" for op in ops) and self.error is not None:
            raise self.error
        super_error, self.error = self.error, None
        super().apply(ops)
        self.error = super_error


def test_the_journal_command(tmp_path: Path) -> None:
    place = tmp_path / "j"
    assert "no directory" in journal_command(place, expected=1)
    picky = Picky()
    picky.error = ValueError("no poison")
    w = WriteBehind(picky, place, delay=3600, adopt_every=0.02)
    w.put("a", 1)
    w.put("bad", "poison")
    assert w.flush(30)
    shown = journal_command(place)
    (letter,) = w.dead_letters()
    assert f"{letter.journal}:{letter.id}" in shown and "no poison" in shown and "'bad'" in shown
    assert "in use by process" in shown and "0 pending, 1 dead" in shown
    picky.error = None
    assert "1 dead letter to be tried again" in journal_command(place, "retry", letter.journal)
    until(lambda: not w.dead_letters() and not w.stats().pending)
    assert [op.key for op in picky.ops] == ["a", "bad"]
    picky.error = ValueError("no poison")
    w.put("bad", "poison")
    assert w.close(30)
    shown = journal_command(place, "list")
    assert "left behind" in shown and "1 dead" in shown
    name = shown.split()[0]
    assert journal_command(place, "retry", f"{name}:99", expected=1).startswith("0 dead letters")
    assert "not an ID" in journal_command(place, "retry", f"{name}:x", expected=1)
    for action in ("list", "retry", "drop"):
        for unknown in ("nosuch", "nosuch:1"):
            said = journal_command(place, action, unknown, expected=1)
            assert said == f"no journal of this name: {unknown} (see `list`)\n"
    assert "1 dead letter to be tried again" in journal_command(place, "retry")
    assert "1 pending" in journal_command(place) and "0 dead" in journal_command(place)
    with WriteBehind(picky, place) as w:
        assert w.stats().adopted == 1
    assert "1 dead letter dropped" in journal_command(place, "drop")
    assert journal_command(place) == ""
    assert list(place.iterdir()) == []
    (place / "zz.journal").write_text("nonsense" * 100)
    assert "is no journal" in journal_command(place, expected=1)


# ---- 40 ----------------------------------------------------------------------------------------------


def test_a_dirty_entry_that_the_cache_has_lost_is_still_read_and_still_written(
    tmp_path: Path,
) -> None:
    """A cache of one entry over the queue: what is evicted or expired in it is seen all the same."""
    place = tmp_path / "app.db"
    loader = SQLiteLoader(place, table="t")
    w = WriteBehind(SQLiteWriter(place, table="t"), tmp_path / "j", delay=3600)
    cache: Cache[Any, Any] = Cache(1)

    def read(key: Any) -> Any:
        value = cache.get(key, MISSING)
        if value is MISSING:
            value = cache[key] = w.current(key, loader)
        return value

    for i in range(50):
        w.put(f"k{i}", i)
        cache[f"k{i}"] = i
    assert len(cache) == 1
    assert [read(f"k{i}") for i in range(50)] == list(range(50))
    cache.clear()
    assert read("k7") == 7
    assert w.stats().pending == 50, "what the cache forgets is pending all the same"
    assert w.close(30)
    assert loader.load_many([f"k{i}" for i in range(50)]) == {f"k{i}": i for i in range(50)}
    loader.close()
