"""Scenarios 37 and 38: disks that are full, read-only or damaged; connections cut after COMMIT."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stress.support import child_environment
from writing.test_behind import Recorder

from fastcache.testing.faults import FaultProxy
from fastcache.writing import (
    JournalError,
    PostgresLoader,
    PostgresWriter,
    SQLiteLoader,
    SQLiteWriter,
    WriteBehind,
    WriteThrough,
)

SIZE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting is for root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_journals_disk_is_full(small_disk: Path, tmp_path: Path, durability: str) -> None:
    recorder = Recorder()
    recorder.error = OSError("down")
    w = WriteBehind(recorder, small_disk / "j", durability, delay=3600)
    accepted = 0
    with pytest.raises(JournalError, match="full"):
        for i in range(10_000):
            w.put(i, "x" * 1000)
            accepted += 1
    assert 100 < accepted < 1000
    assert w.pending(accepted) is None, "what was not kept is not shown"
    for _ in range(3):
        with pytest.raises(JournalError, match="full"):
            w.put("more", "x" * 5000)
    assert w.pending(0).value == "x" * 1000, "reads go on"  # type: ignore[union-attr]
    assert w.stats().pending == accepted
    recorder.error = None
    assert w.flush(60)
    assert [op.key for op in recorder.ops] == list(range(accepted))
    for i in range(50):
        w.put(f"again{i}", "x" * 1000)  # there is room, although the disk was full to the last byte
    assert w.close(30)
    assert len(recorder.ops) == accepted + 50


def test_what_was_acknowledged_before_the_disk_was_full_is_adopted(
    small_disk: Path, tmp_path: Path
) -> None:
    code = """
import os, sys
from fastcache.writing import JournalError, WriteBehind
class Down:
    name = "w"
    def apply(self, ops): raise OSError("down")
w = WriteBehind(Down(), sys.argv[1], delay=3600)
n = 0
try:
    while True:
        w.put(n, "x" * 1000)
        n += 1
except JournalError:
    os.write(1, str(n).encode())
    os._exit(0)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, small_disk / "j"],
        env=child_environment(),
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    shutil.copytree(small_disk / "j", tmp_path / "j")
    recorder = Recorder()
    recorder.name = "w"  # type: ignore[attr-defined]
    with WriteBehind(recorder, tmp_path / "j") as w:
        assert w.stats().adopted == int(out) > 100
    assert [op.key for op in recorder.ops] == list(range(int(out)))


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """The same where nothing can be mounted."""
    code = """
import resource, signal, sys
from fastcache.writing import JournalError, WriteBehind
class Down:
    name = "w"
    def apply(self, ops): raise OSError("down")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
w = WriteBehind(Down(), sys.argv[1], delay=3600, exit_timeout=0)
w.put("first", 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
n = 0
try:
    while True:
        w.put(n, "x" * 1000)
        n += 1
except JournalError as error:
    assert w.pending(n) is None and w.pending(0) is not None, error
    print(n)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "j"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    recorder = Recorder()
    recorder.name = "w"  # type: ignore[attr-defined]
    with WriteBehind(recorder, tmp_path / "j") as w:
        assert w.stats().adopted == int(out.stdout) + 1 > 10


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_read_only_directory(small_disk: Path, durability: str) -> None:
    place = small_disk / "j"
    place.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JournalError, match="not writable"):
        WriteBehind(Recorder(), place, durability)
    with pytest.raises(JournalError, match="cannot be made"):
        WriteBehind(Recorder(), small_disk / "other")


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_journal_that_became_read_only(tmp_path: Path, durability: str) -> None:
    w = WriteBehind(recorder := Recorder(), tmp_path / "j", durability, delay=3600)
    w.put("a", 1)
    journal = w._queue.own.journal
    assert journal is not None
    journal.connection.execute("PRAGMA query_only = ON")  # root may write anywhere
    with pytest.raises(JournalError, match="readonly"):
        w.put("b", 1)
    with pytest.raises(JournalError, match="readonly"):
        w.write([w.pending("a"), w.pending("a")])  # type: ignore[list-item]
    assert w.pending("a").value == 1 and w.pending("b") is None  # type: ignore[union-attr]
    journal.connection.execute("PRAGMA query_only = OFF")
    w.put("c", 1)
    assert w.close(30)
    assert [op.key for op in recorder.ops] == ["a", "c"]


def orphan(
    tmp_path: Path, count: int, *, checkpoint: bool = False, durability: str = "process"
) -> Path:
    """The journal of a process that was killed with so many operations pending."""
    code = """
import os, signal, sys
from fastcache.writing import WriteBehind
class Down:
    name = "w"
    def apply(self, ops): raise OSError("down")
w = WriteBehind(Down(), sys.argv[1], sys.argv[4], delay=3600)
for i in range(int(sys.argv[2])):
    w.put(i, "x" * 500)
if sys.argv[3] == "True":
    assert w._queue.own.journal.checkpoint()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "j", str(count), str(checkpoint), durability],
        env=child_environment(),
        timeout=60,
        check=False,
    )
    (path,) = (tmp_path / "j").glob("*.journal")
    return path


def adopt(tmp_path: Path) -> tuple[list[Any], Any]:
    recorder = Recorder()
    recorder.name = "w"  # type: ignore[attr-defined]
    with WriteBehind(recorder, tmp_path / "j") as w:
        stats = w.stats()
    return [op.key for op in recorder.ops], stats


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("damage", ["cut", "flip", "zero"])
def test_a_corrupt_tail_of_the_log(
    tmp_path: Path, damage: str, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = orphan(tmp_path, 300, durability=durability)
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    if damage == "cut":
        del data[-3000:]
    elif damage == "flip":
        data[-3000] ^= 1
    else:
        data[-3000:] = bytes(3000)
    log.write_bytes(data)
    keys, _ = adopt(tmp_path)
    assert 280 < len(keys) < 300 and keys == list(range(len(keys))), (
        "the rest is recovered, in order"
    )
    assert "torn" in caplog.text


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_damaged_file_gives_what_can_be_read(
    tmp_path: Path, where: float, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = orphan(tmp_path, 300, checkpoint=True, durability=durability)
    data = bytearray(path.read_bytes())
    start = int(len(data) * where) // 4096 * 4096
    data[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    for ending in ("-wal", "-shm"):  # all of it has been copied back
        Path(f"{path}{ending}").unlink()
    keys, _ = adopt(tmp_path)
    assert 100 < len(keys) < 300 and keys == sorted(set(keys))
    assert "is damaged" in caplog.text
    kept = [p.name for p in (tmp_path / "j").iterdir()]
    assert any(".damaged-" in name for name in kept), "nothing is thrown away"
    assert not list((tmp_path / "j").glob("*.journal"))


def test_rows_that_cannot_be_decoded_become_dead_letters(tmp_path: Path) -> None:
    path = orphan(tmp_path, 3)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE ops SET value = '{nonsense' WHERE sequence = 2")
    connection.close()
    keys, stats = adopt(tmp_path)
    assert keys == [0, 2] and stats.dead == 1
    (left,) = (tmp_path / "j").glob("*.journal")
    assert left == path


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: path.write_bytes(b"hello" * 100), "is no journal"),
        (lambda path: path.write_bytes(b"x"), "is no journal"),
        (lambda path: _database(path, "PRAGMA application_id = 77"), "another application"),
        (
            lambda path: _database(
                path, "PRAGMA application_id = 0x66634A6C; PRAGMA user_version = 2"
            ),
            "format 2",
        ),
    ],
)
def test_files_that_are_not_ours_or_too_new(tmp_path: Path, make: Any, word: str) -> None:
    (tmp_path / "j").mkdir()
    good = orphan(tmp_path, 2)
    path = tmp_path / "j" / "0123456789abcdef.journal"
    make(path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=word) as caught:
        adopt(tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before, "nothing is changed"
    path.unlink()
    keys, _ = adopt(tmp_path)
    assert keys == [0, 1], "nor was anything else lost by that"
    assert not good.exists()


def _database(path: Path, pragmas: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(pragmas + "; CREATE TABLE t (a)")
    connection.close()


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("")
    with pytest.raises(JournalError, match="must be a directory"):
        WriteBehind(Recorder(), tmp_path / "j")


def test_journals_of_another_writer_and_of_live_processes_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = orphan(tmp_path, 2)
    with WriteBehind(Recorder(), tmp_path / "j") as w:
        assert w.stats().adopted == 0
    assert path.exists() and "left alone" in caplog.text
    live = WriteBehind(recorder := Recorder(), tmp_path / "j", delay=3600)
    live.put("a", 1)
    other = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    assert other.stats().adopted == other.adopt() == 0
    assert live.close(30) and other.close(30)
    assert [op.key for op in recorder.ops] == ["a"]


def test_journals_are_for_their_owner_alone(tmp_path: Path) -> None:
    w = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    w.put("a", 1)
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0
    for path in (tmp_path / "j").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    w.close(30)


# ---- 38 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["memory", "process", "power"])
@pytest.mark.parametrize("reaches", [True, False])
def test_the_connection_is_cut_at_commit(
    postgres: Any, tmp_path: Path, reaches: bool, durability: str
) -> None:
    """Before the server had it, and after, before it could say so: the replay changes nothing."""
    table = f"t38{reaches}{durability}".lower()
    journal = None if durability == "memory" else tmp_path / "j"
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        url = f"postgresql://postgres@{proxy.host}:{proxy.port}/postgres"
        w = WriteBehind(PostgresWriter(url, table=table), journal, durability, delay=3600)
        w.put("a", 0)
        assert w.flush(30)
        for number in range(20):
            w.incr("n")
            w.put("a", number)
            proxy.cut(b"COMMIT", reaches=reaches)
            assert w.flush(30)
        assert proxy.struck["cut"] == 20 and w.stats().retries >= 20
        assert w.close(30)
    loader = PostgresLoader(postgres.url, table=table)
    assert loader.load_many(["n", "a"]) == {"n": 20, "a": 19}
    loader.close()


def test_a_direct_write_that_is_cut_at_commit(postgres: Any, tmp_path: Path) -> None:
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        url = f"postgresql://postgres@{proxy.host}:{proxy.port}/postgres"
        w = WriteBehind(
            PostgresWriter(url, table="t38d"), tmp_path / "j", delay=3600, max_pending=2
        )
        w.put("seed", 0)
        assert w.flush(30)
        w._drainer.start = lambda: None  # type: ignore[method-assign]
        w._drainer.stopping = True
        with w._queue.lock:
            w._queue.due.notify_all()
        assert w._drainer.thread is not None
        w._drainer.thread.join(30)
        w.incr("n", 1)
        w.incr("n", 2)
        proxy.cut(b"COMMIT")
        told: list[Any] = []
        w.on_applied = told.extend
        with pytest.raises(Exception, match="cannot be written"):
            w.incr("n", 4)
        assert told == ["n"], "it may have been committed, and was"
        loader = PostgresLoader(postgres.url, table="t38d")
        assert loader("n") == 7
        del w._drainer.start  # type: ignore[method-assign]
        w._drainer.stopping = False
        assert w.flush(30)
        assert loader("n") == 7, "what was folded into it is not applied once more"
        loader.close()
        assert w.close(30)


def test_write_through_cut_at_commit_tells_and_raises(postgres: Any) -> None:
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        url = f"postgresql://postgres@{proxy.host}:{proxy.port}/postgres"
        told: list[Any] = []
        w = WriteThrough(PostgresWriter(url, table="t38w"), on_applied=told.extend)
        w.put("a", 1)
        proxy.cut(b"COMMIT")
        with pytest.raises(Exception, match=r"."):
            w.put("a", 2)
        assert told == ["a", "a"]
    loader = PostgresLoader(postgres.url, table="t38w")
    assert loader("a") == 2
    loader.close()


def test_sqlite_that_is_locked_by_someone_is_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    w = WriteBehind(SQLiteWriter(place, table="t", timeout=0.05), tmp_path / "j", delay=3600)
    w.put("a", 1)
    assert w.flush(30)
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    w.put("a", 2)
    assert not w.flush(0.3)
    assert "locked" in w.stats().last_error and w.stats().dead == 0
    other.execute("ROLLBACK")
    other.close()
    assert w.close(30)
    assert SQLiteLoader(place, table="t")("a") == 2
