"""A write-behind over SQLite, step by step: acknowledged, seen, written; both faces."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _support import run_threads, until
from stress.support import child_environment

from fastcache import writing
from fastcache._types import MISSING
from fastcache.writing import (
    Closed,
    Op,
    QueueFull,
    SQLiteLoader,
    SQLiteWriter,
    WriteBehind,
    WriteThrough,
)

Make = Callable[..., WriteBehind]


class Recorder:
    """A writer that keeps what it was given; blocks while `gate` is closed; raises what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Op]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None

    def apply(self, ops: Sequence[Op]) -> None:
        self.entered.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.batches.append(list(ops))

    @property
    def ops(self) -> list[Op]:
        return [op for batch in self.batches for op in batch]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[WriteBehind] = []

    def make(writer: Any = None, **options: Any) -> WriteBehind:
        if writer is None:
            writer = SQLiteWriter(tmp_path / "app.db", table="t")
        options.setdefault("delay", 3600)
        made.append(WriteBehind(writer, **options))
        return made[-1]

    yield make
    for behind in made:
        behind.close(0)


def rows(path: Path, table: str = "t") -> dict[Any, Any]:
    return SQLiteLoader(path / "app.db", table=table).load_many(["a", "b", "c", "n"])


@pytest.fixture(params=["memory", "process", "power"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    return {"journal": tmp_path / "journal", "durability": request.param}


def test_written_seen_flushed(make: Make, options: dict[str, Any], tmp_path: Path) -> None:
    w = make(**options)
    w.put("a", {"x": [1]})
    w.put("b", 1)
    w.delete("b")
    w.incr("n", 2, 10)
    w.incr("n")
    assert w.pending("a").value == {"x": [1]}  # type: ignore[union-attr]
    assert w.pending("b").kind == "delete"  # type: ignore[union-attr]
    pending = w.pending("n")
    assert pending is not None and (pending.kind, pending.value, pending.initial) == ("incr", 3, 10)
    assert pending.over(MISSING) == 13 and pending.over(4) == 7
    assert w.pending("c") is None
    assert w.stats().pending == 5 and w.stats().pending_keys == 3
    assert w.flush(30)
    assert rows(tmp_path) == {"a": {"x": [1]}, "n": 13}
    assert w.pending("a") is w.pending("n") is None
    stats = w.stats()
    assert (stats.pending, stats.pending_bytes, stats.written, stats.coalesced) == (0, 0, 3, 2)
    w.incr("n", -3)
    assert w.close(30)
    assert rows(tmp_path)["n"] == 10
    if "journal" in options:
        assert list(options["journal"].iterdir()) == []
    with pytest.raises(Closed):
        w.put("a", 1)
    assert w.close()


def test_the_awaited_faces(make: Make, options: dict[str, Any], tmp_path: Path) -> None:
    w = make(**options)

    async def main() -> None:
        await w.aput("a", 1)
        await asyncio.gather(*(w.aincr("n") for _ in range(200)), w.aput("b", 1))
        await w.adelete("b")
        await w.awrite([Op.put("c", "x"), Op.incr("n", 5)])
        assert w.pending("n").value == 205  # type: ignore[union-attr]
        assert await w.aflush(30)
        assert await w.aclose(30)

    asyncio.run(main())
    assert rows(tmp_path) == {"a": 1, "n": 205, "c": "x"}


def test_async_with_closes(options: dict[str, Any], tmp_path: Path) -> None:
    async def main() -> None:
        async with WriteBehind(SQLiteWriter(tmp_path / "app.db", table="t"), **options) as w:
            await w.aput("a", 1)

    asyncio.run(main())
    with WriteBehind(SQLiteWriter(tmp_path / "app.db", table="t"), **options) as w:
        w.put("b", 2)
    assert rows(tmp_path) == {"a": 1, "b": 2}


def test_threads_write_at_once_and_share_commits(
    make: Make, options: dict[str, Any], tmp_path: Path
) -> None:
    w = make(**options)

    def work(number: int) -> None:
        for i in range(50):
            w.incr("n")
            w.put(f"k{number}", i)
            assert w.pending(f"k{number}").value == i  # type: ignore[union-attr]

    run_threads([lambda n=n: work(n) for n in range(8)])  # type: ignore[misc]
    assert w.pending("n").value == 400  # type: ignore[union-attr]
    assert w.flush(60)
    loader = SQLiteLoader(tmp_path / "app.db", table="t")
    assert loader.load_many([*(f"k{n}" for n in range(8)), "n"]) == {
        **{f"k{n}": 49 for n in range(8)},
        "n": 400,
    }


def test_the_delay_and_the_batch_size_begin_a_drain(make: Make) -> None:
    recorder = Recorder()
    w = make(recorder, delay=0.01)
    w.put("a", 1)
    until(lambda: len(recorder.batches) == 1)
    w = make(recorder := Recorder(), delay=3600, batch=3)
    w.put("a", 1)
    for i in range(5):
        w.put("b", i)
    w.put("c", 1)  # three keys
    until(lambda: len(recorder.batches) == 1)
    assert [(op.key, op.value) for op in recorder.ops] == [("a", 1), ("b", 4), ("c", 1)]


def test_hot_keys_are_coalesced(make: Make, tmp_path: Path) -> None:
    w = make(Recorder(), journal=tmp_path / "journal", batch=500)
    for i in range(10_000):
        w.incr(f"k{i % 200}")
    assert w.flush(60)
    stats = w.stats()
    assert stats.accepted == 10_000
    assert stats.written <= 400
    assert 10_000 / stats.written > 10


def test_on_applied_comes_after_the_commit_and_before_the_overlay_forgets(make: Make) -> None:
    recorder = Recorder()
    seen: list[Any] = []

    def applied(keys: Sequence[Any]) -> None:
        seen.append((list(keys), len(recorder.batches), w.pending("a") is not None))

    w = make(recorder, on_applied=applied)
    w.put("a", 1)
    w.incr("b")
    assert w.flush(30)
    assert seen == [(["a", "b"], 1, True)]
    w.on_applied = None
    w.put("a", 2)
    assert w.flush(30)
    assert len(seen) == 1


def test_what_on_applied_raises_is_counted_and_harms_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def applied(keys: Sequence[Any]) -> None:
        raise RuntimeError("from on_applied")

    w = make(Recorder(), on_applied=applied)
    w.put("a", 1)
    assert w.flush(30)
    assert w.stats().callback_errors == 1
    assert "from on_applied" in caplog.text


def test_a_value_changed_after_the_write_is_written_as_it_was(
    make: Make, options: dict[str, Any], tmp_path: Path
) -> None:
    value = {"x": 1}
    w = make(**options)
    w.put("a", value)
    value["x"] = 2
    assert w.flush(30)
    assert rows(tmp_path)["a"] == {"x": 1}
    if options:
        recorder = Recorder()
        w = make(recorder, **options)
        w.put("a", value)
        value["x"] = 3
        assert w.flush(30)
        assert recorder.ops[0].value == {"x": 2}


def test_bad_writes_change_nothing(make: Make, options: dict[str, Any]) -> None:
    w = make(**options)
    w.put("a", "text")
    for call, kind, word in [
        (lambda: w.put("b", object()), TypeError, "'b'"),
        (lambda: w.put("b", {1: 2}), TypeError, "'b'"),
        (lambda: w.put("b", float("nan")), ValueError, "'b'"),
        (lambda: w.put(("b",), 1), TypeError, "tuple"),
        (lambda: w.put(None, 1), TypeError, "NoneType"),
        (lambda: w.put(2**70, 1), ValueError, "64 bits"),
        (lambda: w.incr("a"), TypeError, "nothing can be added"),
        (lambda: w.incr("b", 1.5), TypeError, "delta must be an int, not 1.5"),  # type: ignore[arg-type]
        (lambda: w.incr("b", True), TypeError, "delta must be an int, not True"),
        (lambda: w.incr("b", 1, 2**64), ValueError, f"initial must .*{2**64}"),
        (lambda: w.write([Op.put("c", 1), Op.put("b", object())]), TypeError, "'b'"),
    ]:
        with pytest.raises(kind, match=word):
            call()  # type: ignore[no-untyped-call]
    assert w.stats().pending == 1 and w.stats().accepted == 1
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        w.put("b", value)
    assert w.flush(30)


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"durability": "process"}, ValueError, "journal"),
        ({"durability": "disk"}, ValueError, "durability"),
        ({"on_full": "wait"}, ValueError, "on_full"),
        ({"batch": 0}, ValueError, "batch"),
        ({"batch": 1.5}, TypeError, "batch"),
        ({"max_pending": True}, TypeError, "max_pending"),
        ({"delay": -1}, ValueError, "delay"),
        ({"delay": float("nan")}, ValueError, "delay"),
        ({"delay": "1"}, TypeError, "delay"),
        ({"adopt_every": 0}, ValueError, "adopt_every"),
        ({"block_timeout": -1}, ValueError, "block_timeout"),
        ({"journal": ""}, ValueError, "journal must name a directory, not ''"),
        ({"journal": "a\0b"}, ValueError, "journal"),
        ({"journal": 5}, TypeError, "journal .* not 5"),
        ({"journal": "redis://h/0"}, ValueError, "journal must name a directory, got the URL"),
        ({"on_dead_letter": "log"}, TypeError, "on_dead_letter must be callable, not 'log'"),
        ({"on_applied": 5}, TypeError, "on_applied must be callable, not 5"),
        ({"on_dead_letter": asyncio.sleep}, TypeError, "on_dead_letter must not be async"),
        ({"codec": "json"}, TypeError, "codec must have encode.* not 'json'"),
        ({"signals": 15}, TypeError, "signals .* not 15"),
        ({"signals": "TERM"}, TypeError, "signals .* not 'TERM'"),
        ({"signals": [15, "x"]}, TypeError, "signals .* not 'x'"),
        ({"signals": [12345]}, ValueError, "signals.*12345"),
    ],
)
def test_bad_options_are_refused_by_name(
    options: dict[str, Any],
    error: type[Exception],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=word):
        WriteBehind(Recorder(), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timeout", ["1", float("nan"), True, object()])
def test_a_timeout_that_is_none_is_refused_by_name(make: Make, timeout: Any) -> None:
    w = make(Recorder())
    for wait in (w.flush, w.close):
        with pytest.raises(TypeError, match=f"timeout.*{re.escape(repr(timeout))}"):
            wait(timeout)
    w.put("a", 1)  # it is not closed
    assert w.flush(30)


def test_after_close_no_thread_is_left_and_dead_letters_are_not_there(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    w = WriteBehind(Recorder(), tmp_path)
    w.put("a", 1)
    assert w.close(30)

    async def main() -> None:
        for write in (w.aput("b", 1), w.adelete("a"), w.aincr("n")):
            with pytest.raises(Closed):
                await asyncio.wait_for(write, 10)

    asyncio.run(main())
    until(lambda: set(threading.enumerate()) <= before)
    for look in (w.dead_letters, w.retry_dead, w.drop_dead):
        with pytest.raises(writing.JournalError, match="it is closed"):
            look()


def test_what_write_through_calls_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_applied must be callable, not 5"):
        WriteThrough(Recorder(), on_applied=5)  # type: ignore[arg-type]


def test_a_writer_that_is_none_is_refused() -> None:
    for writer in (None, 3, object()):
        with pytest.raises(TypeError, match="apply"):
            WriteBehind(writer)
        with pytest.raises(TypeError, match="apply"):
            WriteThrough(writer)


def test_a_writer_with_write_many_and_delete_many(make: Make) -> None:
    class Many:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def write_many(self, mapping: Any) -> None:
            self.calls.append(dict(mapping))

        def delete_many(self, keys: Any) -> None:
            self.calls.append(list(keys))

    many = Many()
    w = make(many)
    w.put("a", (1, 2))
    w.delete("b")
    w.put("b", 3)
    w.delete("c")
    with pytest.raises(TypeError, match="cannot increment"):
        w.incr("n")
    assert w.flush(30)
    assert many.calls == [{"a": (1, 2), "b": 3}, ["c"]]
    through = WriteThrough(many)
    through.put("a", 1)
    assert many.calls[-1] == {"a": 1}
    with pytest.raises(TypeError, match="cannot increment"):
        through.incr("n")


# ---- full ------------------------------------------------------------------------------------------


def test_full_raises(make: Make, options: dict[str, Any]) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    w = make(recorder, max_pending=3, on_full="raise", **options)
    for i in range(3):
        w.put(i, i)
    with pytest.raises(QueueFull, match="max_pending=3"):
        w.put(3, 3)

    async def main() -> None:
        with pytest.raises(QueueFull):
            await w.aput(3, 3)

    asyncio.run(main())
    recorder.gate.set()
    assert w.flush(30)
    w.put(3, 3)
    assert [op.key for op in recorder.ops] == [0, 1, 2]


def test_full_blocks_until_there_is_room(make: Make, options: dict[str, Any]) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    w = make(recorder, max_pending=3, on_full="block", **options)
    for i in range(3):
        w.put(i, i)
    thread = threading.Thread(target=w.put, args=(3, 3), daemon=True)
    thread.start()
    assert recorder.entered.wait(30)
    assert w.pending(3) is None
    recorder.gate.set()
    thread.join(30)
    assert not thread.is_alive()
    recorder.gate.clear()

    async def main() -> None:
        tasks = [asyncio.create_task(w.aput(i, i)) for i in range(4, 10)]
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)

    asyncio.run(main())
    assert w.flush(30)
    assert sorted(op.key for op in recorder.ops) == list(range(10))  # type: ignore[type-var]


def test_blocked_writes_end_with_their_time_or_with_close(make: Make) -> None:
    recorder = Recorder()
    recorder.error = OSError("down")
    w = make(recorder, max_pending=1, on_full="block", block_timeout=0.05)
    w.put(0, 0)
    with pytest.raises(QueueFull, match=r"0\.05"):
        w.put(1, 1)

    async def main() -> None:
        with pytest.raises(QueueFull, match=r"0\.05"):
            await w.aput(1, 1)

    asyncio.run(main())
    w = make(recorder, max_pending=1, on_full="block")
    w.put(0, 0)
    errors: list[BaseException] = []

    def blocked() -> None:
        try:
            w.put(1, 1)
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=blocked, daemon=True)
    thread.start()
    until(lambda: w.stats().retries > 0)
    assert w.close(0) is False
    thread.join(30)
    assert len(errors) == 1
    with pytest.raises(QueueFull, match="max_bytes"):
        make(recorder, max_bytes=1000, on_full="block").put("a", "x" * 2000)


def test_full_writes_through_with_what_waits_of_the_key(
    make: Make, options: dict[str, Any], tmp_path: Path
) -> None:
    # A drain that never begins, so that what is seen is the direct write's doing.
    w = make(max_pending=4, **options)
    w._drainer.start = lambda: None  # type: ignore[method-assign]
    w.incr("n", 1, 10)
    w.put("a", 1)
    w.incr("n", 2)
    w.put("b", 1)
    w.incr("n", 4)
    assert rows(tmp_path) == {"n": 17}
    assert w.pending("n") is None and w.stats().pending == 2
    w.put("b", 2)  # there is room again
    assert w.pending("b").value == 2  # type: ignore[union-attr]
    assert w.stats().direct == 1
    del w._drainer.start  # type: ignore[method-assign]
    assert w.flush(30)
    assert rows(tmp_path) == {"n": 17, "a": 1, "b": 2}


def test_full_with_the_source_down_raises_at_once(make: Make, options: dict[str, Any]) -> None:
    recorder = Recorder()
    recorder.error = OSError("the database is down")
    w = make(recorder, max_pending=2, **options)
    w.put("a", 1)
    w.put("b", 1)
    told: list[Any] = []
    w.on_applied = told.extend
    with pytest.raises(QueueFull, match="the database is down"):
        w.put("a", 2)
    with pytest.raises(QueueFull, match="the database is down"):
        asyncio.run(w.aput("c", 2))
    assert w.stats().pending == 2 and w.pending("a").value == 1  # type: ignore[union-attr]
    recorder.error = None
    assert w.flush(30)
    assert [(op.key, op.value) for op in recorder.ops] == [("a", 1), ("b", 1)]


def test_max_bytes(make: Make) -> None:
    w = make(Recorder(), max_bytes=3000, on_full="raise", batch=1000)
    w._drainer.start = lambda: None  # type: ignore[method-assign]
    w.put("a", b"x" * 1000)
    w.put("b", b"x" * 1000)
    with pytest.raises(QueueFull):
        w.put("c", b"x" * 1000)
    assert 2000 < w.stats().pending_bytes <= 3000


# ---- ends ------------------------------------------------------------------------------------------


def run_script(text: str, *arguments: object, expected: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


START = """
import os, signal, sys, threading, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
from fastcache.writing import SQLiteWriter, WriteBehind
def make(**options):
    return WriteBehind(SQLiteWriter(sys.argv[1], table="t"), delay=3600, **options)
"""


@pytest.mark.parametrize("durability", ["memory", "process", "power"])
def test_the_exit_of_the_interpreter_flushes(tmp_path: Path, durability: str) -> None:
    source = tmp_path / "app.db"
    journal = "None" if durability == "memory" else "sys.argv[1] + '.j'"
    kind = f"journal={journal}, durability={durability!r}"
    run_script(START + f"w = make({kind}); w.put('a', 1); w.incr('n', 3)", source)
    assert rows(tmp_path) == {"a": 1, "n": 3}


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGTERM)"])
@pytest.mark.parametrize("durability", ["memory", "process", "power"])
def test_the_exit_while_the_source_is_down(tmp_path: Path, durability: str, end: str) -> None:
    """Within exit_timeout. What is in a journal stays there; what is in memory is lost, and that is said."""
    code = """
import os, signal, sys
from fastcache.writing import WriteBehind
class Down:
    name = "w"
    def apply(self, ops): raise OSError("down")
journal = None if sys.argv[2] == "memory" else sys.argv[1]
w = WriteBehind(Down(), journal, sys.argv[2], exit_timeout=0.2, signals=(signal.SIGTERM,))
w.put("a", 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", code + end, tmp_path / "j", durability],
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (128 + signal.SIGTERM if end else 0), done.stderr
    assert ("1 operations are lost" in done.stderr) == (durability == "memory"), done.stderr
    recorder = Recorder()
    recorder.name = "w"  # type: ignore[attr-defined]
    with WriteBehind(recorder, tmp_path / "j") as w:
        assert w.stats().adopted == (0 if durability == "memory" else 1)
    assert [op.key for op in recorder.ops] == ([] if durability == "memory" else ["a"])


def test_exit_timeout_0_leaves_it_to_the_journal(tmp_path: Path) -> None:
    source = tmp_path / "app.db"
    run_script(
        START + "w = make(journal=sys.argv[1] + '.j', exit_timeout=0); w.put('a', 1)", source
    )
    assert not source.exists()
    with WriteBehind(SQLiteWriter(source, table="t"), journal=f"{source}.j") as w:
        assert w.pending("a").value == 1  # type: ignore[union-attr]
        assert w.stats().adopted == 1
    assert rows(tmp_path) == {"a": 1}


def test_a_signal_flushes_when_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "app.db"
    run_script(
        START + "w = make(signals=(signal.SIGTERM,)); w.put('a', 1)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Event().wait(60)",
        source,
        expected=128 + signal.SIGTERM,
    )
    assert rows(tmp_path) == {"a": 1}
    run_script(
        START + "signal.signal(signal.SIGTERM, lambda *_: print('theirs', flush=True))\n"
        "w = make(signals=(signal.SIGTERM,)); w.put('b', 1)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "w.put('c', 1)",
        source,
    )
    assert rows(tmp_path) == {"a": 1, "b": 1, "c": 1}


def test_no_signal_handler_is_installed_unasked(make: Make) -> None:
    before = signal.getsignal(signal.SIGTERM)
    make(Recorder()).put("a", 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_close_says_what_it_could_not_write(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    recorder.error = OSError("down")
    w = make(recorder)
    w.put("a", 1)
    assert w.close(0.05) is False
    assert "1 operations are lost" in caplog.text
    caplog.clear()
    for durability in ("memory", "process"):
        w = make(recorder, journal=tmp_path / durability, durability=durability)
        w.put("a", 1)
        assert w.close(0.05) is False
        assert "lost" not in caplog.text
        assert f"1 operations are left in {tmp_path / durability}" in caplog.text
        recorder2 = Recorder()
        w = make(recorder2, journal=tmp_path / durability)
        assert w.flush(30)
        assert [(op.key, op.value) for op in recorder2.ops] == [("a", 1)]


def test_flush_gives_up_after_its_time(make: Make) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    w = make(recorder)
    assert w.flush(0) is True
    w.put("a", 1)
    assert w.flush(0.05) is False
    assert w.pending("a") is not None
    recorder.gate.set()
    assert w.flush(30) is True


def test_a_forked_child_starts_empty_and_leaves_the_parents_journal_alone(tmp_path: Path) -> None:
    source = tmp_path / "app.db"
    out = run_script(
        START
        + """
w = make(journal=sys.argv[1] + ".j")
w.put("a", 1); w.incr("n", 1)
child = os.fork()
if not child:
    assert w.pending("a") is None and w.stats().pending == 0
    w.incr("n", 2)
    assert w.adopt() == 0
    assert w.flush(30), w.stats()
    assert w.close(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
w.incr("n", 4)
assert w.pending("n").value == 5
assert w.flush(30)
child = os.fork()     # with the source's connection open as well
if not child:
    w.incr("n", 8)
    assert w.close(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
w.incr("n", 16)
assert w.close(30)
print(os.listdir(sys.argv[1] + ".j"))
""",
        source,
    )
    assert out == "[]\n"
    assert rows(tmp_path) == {"a": 1, "n": 31}


def test_a_fork_in_the_midst_of_writes_by_threads(tmp_path: Path) -> None:
    run_script(
        START
        + """
import time
w = make(journal=sys.argv[1] + ".j", batch=10)
stop = threading.Event()
def work():
    while not stop.wait(0.0002):
        w.incr("n")
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        w.put("c", 1)
        os._exit(0 if w.close(30) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
assert w.close(30)
print(w.stats().accepted)
""",
        tmp_path / "app.db",
    )


def test_a_write_from_a_finalizer_in_the_midst_of_a_write_is_refused_and_hangs_nothing(
    tmp_path: Path,
) -> None:
    run_script(
        START
        + """
import gc
w = make(journal=sys.argv[1] + ".j")
errors = []
class Odd:
    def __init__(self): self.me = self
    def __del__(self):
        try: w.put("odd", 1)
        except RuntimeError as error: errors.append(error)
gc.set_threshold(1)
for i in range(300):
    Odd()
    w.put("a", [i])
assert w.close(30)
""",
        tmp_path / "app.db",
    )


def test_ctrl_c_at_any_moment_leaves_the_queue_whole(tmp_path: Path) -> None:
    out = run_script(
        START
        + """
import itertools, random
w = make(journal=sys.argv[1] + ".j", max_pending=10**6, batch=10**6)
w.put("a", 0)
done = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
draw = random.Random(1)
interrupted = 0
for round in range(200):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0005, 0.003))
        for i in itertools.count():
            w.incr("n")
            done += 1
    except KeyboardInterrupt:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
w.put("a", 1)
value = w.pending("n").value
assert done <= value <= done + interrupted, (done, value, interrupted)
assert w.close(60)
print(value)
""",
        tmp_path / "app.db",
    )
    assert rows(tmp_path)["n"] == int(out)


# ---- reading beside a batch that is being applied ------------------------------------------------


def test_current_counts_nothing_twice(make: Make, tmp_path: Path) -> None:
    loader = SQLiteLoader(tmp_path / "app.db", table="t")
    w = make(delay=0, batch=1)
    w.put("n", 0)
    assert w.flush(30)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(w.current("n", loader))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    for _ in range(300):
        w.incr("n")
    assert w.flush(30)
    stop.set()
    thread.join(30)
    assert w.current("n", loader) == 300
    assert seen == sorted(seen) and seen[-1] <= 300
    w.delete("n")
    assert w.current("n", loader) is MISSING
    w.put("n", 5)
    assert w.current("n", loader) == 5


def test_write_through_has_the_same_surface(tmp_path: Path) -> None:
    told: list[Any] = []
    through = WriteThrough(SQLiteWriter(tmp_path / "app.db", table="t"), on_applied=told.extend)
    with through as w:
        w.put("a", 1)
        assert w.incr("n", 2, 5) == 7
        assert w.write([Op.incr("n", 1), Op.put("b", 2), Op.delete("a")]) == {"n": 8}
        assert asyncio.run(w.aincr("n")) == 9
        asyncio.run(w.aput("c", 3))
        asyncio.run(w.adelete("c"))
        assert rows(tmp_path) == {"n": 9, "b": 2}
        assert told == ["a", "n", "n", "b", "a", "n", "c", "c"]
        assert w.pending("a") is None and w.flush() and asyncio.run(w.aflush())
        assert w.current("n", SQLiteLoader(tmp_path / "app.db", table="t")) == 9
    surface = {name for name in dir(WriteThrough) if not name.startswith("_")} - {"name"}
    assert surface <= {name for name in dir(WriteBehind) if not name.startswith("_")}


def test_write_through_that_may_have_committed_tells_before_it_raises() -> None:
    recorder = Recorder()
    recorder.error = OSError("cut")
    told: list[Any] = []
    with pytest.raises(OSError, match="cut"):
        WriteThrough(recorder, on_applied=told.extend).put("a", 1)
    assert told == ["a"]


def test_write_through_is_the_later_write_whatever_the_clock_says(tmp_path: Path) -> None:
    w = WriteThrough(SQLiteWriter(tmp_path / "app.db", table="t"))
    w.put("a", 1)
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("UPDATE t SET version = version + (3600000000 << 12)")
    connection.close()
    w.put("a", 2)
    assert rows(tmp_path) == {"a": 2}


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        w = WriteBehind(SQLiteWriter(tmp_path / "app.db", table="t"), tmp_path / "j")
        w.put("a", 1)
        assert w.close(30)
        w._writer.close()  # type: ignore[attr-defined]
    del w
    gc.collect()
    # what other tests have left may be closed meanwhile
    assert set(os.listdir("/proc/self/fd")) <= before
    assert not [t for t in threading.enumerate() if t.name.startswith("fastcache-drain")]


def test_repr_and_names() -> None:
    assert repr(WriteBehind(Recorder())).endswith("Recorder: 0 pending>")
    assert set(writing.__all__) == set(writing._LATER)
    assert writing.__all__ == sorted(writing.__all__)
    for name in writing.__all__:
        assert getattr(writing, name).__name__ == name


def test_superseded_writes_are_counted_and_reported(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastcache")
    w = make()
    w.put("a", 1)
    assert w.flush(30)
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("UPDATE t SET value = '\"theirs\"', version = version + (1 << 50)")
    connection.close()
    w.put("a", 2)
    assert w.flush(30)
    assert rows(tmp_path) == {"a": "theirs"}
    assert w.stats().superseded == 1
    assert "met later versions" in caplog.text
    w.put("a", 3)  # the clock has learned of that version
    assert w.flush(30)
    assert rows(tmp_path) == {"a": 3}


def test_a_write_from_a_finalizer_between_lock_and_commit_is_refused_too(tmp_path: Path) -> None:
    """Wherever the collector comes: also when the lock has just been taken, or is about to be given back."""
    run_script(
        START
        + """
import faulthandler, gc, itertools
faulthandler.dump_traceback_later(40, exit=True)
w = make(journal=sys.argv[1] + ".j")
refused = 0
class Odd:
    def __init__(self): self.me = self
    def __del__(self):
        global refused
        for call in (lambda: w.put("odd", 1), lambda: w.flush(0), lambda: w.incr("n")):
            try: call()
            except RuntimeError: refused += 1
        w.stats()
for threshold in itertools.chain(range(1, 40), range(1, 40)):
    gc.set_threshold(threshold)
    for i in range(10):
        Odd()
        w.put("a", [i])
gc.disable()
assert refused
assert w.close(30)
""",
        tmp_path / "app.db",
    )
