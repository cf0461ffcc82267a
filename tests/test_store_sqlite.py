"""SQLiteStore: the conformance suite, and what it promises beyond that."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _support import run_threads, until
from stress.support import run_child, scaled

from fastcache.stores import SQLiteStore, StoreError, _generations, _sqlite_path
from fastcache.stores.protocol import COUNTERS, Fill, Target, bucket_of
from fastcache.testing import StoreConformance
from fastcache.testing._conform import Client, name_of


class TestSQLiteStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def path(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> SQLiteStore:
        return SQLiteStore(self.folder / "cache.db", timeout=5)

    def wipe(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()


Opener = Callable[..., Client]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens a store, with the name space "shop" of it; closed at the end."""
    stores: list[SQLiteStore] = []

    def open_store(name: str = "cache.db", **options: Any) -> Client:
        stores.append(SQLiteStore(tmp_path / name, **{"timeout": 5, **options}))
        return Client(stores[-1], "shop", None)

    yield open_store
    while stores:
        stores.pop().close()


def look(path: Path) -> sqlite3.Connection:
    """A look at the file past the store. Only in tests that end with it: closing it drops locks."""
    return sqlite3.connect(path)


def in_child(code: str, *arguments: object) -> str:
    """Code with `l2`, a client of the store at argv[1]."""
    return run_child(
        "from fastcache.stores import SQLiteStore\n"
        "from fastcache.stores.protocol import *\n"
        "from fastcache.testing._conform import Client, name_of\n"
        "l2 = Client(SQLiteStore(sys.argv[1], timeout=5), 'shop', None)\n" + code,
        *arguments,
    )


# ---- where it may lie --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("", "path must name a file"),
        ("a\0b", "path must name a file"),
        (":memory:", "processes can share"),
        ("file:x.db?mode=memory", "processes can share"),
        (".", "directory"),
        ("missing/cache.db", "no directory"),
    ],
)
def test_paths_that_cannot_be(path: str, what: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=what):
        SQLiteStore(path)
    with pytest.raises(TypeError, match="path"):
        SQLiteStore(path.encode() or b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"path .* got 5"):
        SQLiteStore(5)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("max_bytes", 0, ValueError),
        ("max_bytes", 1.5, TypeError),
        ("max_bytes", True, TypeError),
        ("timeout", 0, ValueError),
        ("timeout", -1, ValueError),
        ("timeout", float("nan"), ValueError),
        ("timeout", "1", TypeError),
    ],
)
def test_options_that_cannot_be(option: str, value: Any, kind: type, tmp_path: Path) -> None:
    with pytest.raises(kind, match=f"{option}.*{re.escape(repr(value))}"):
        SQLiteStore(tmp_path / "cache.db", **{option: value})


def test_name_spaces_that_cannot_be(opened: Opener) -> None:
    for name in ("", "a b", "x" * 65, "a/b", "ä", "a\n"):
        with pytest.raises(ValueError, match="namespace"):
            opened().store.space(name, b"origin--")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.rclone", "9p"])
def test_network_file_systems(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    mounts = tmp_path / "mounts"
    point = str(folder).replace(" ", "\\040")
    monkeypatch.setattr(_sqlite_path, "_MOUNTS", str(mounts))
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nhost:/x {point} {kind} rw 0 0\n")
    with pytest.raises(ValueError, match=f"network file system.*{kind}"):
        SQLiteStore(folder / "cache.db")
    SQLiteStore(tmp_path / "cache.db")
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nhost:/x {point} {kind} rw 0 0\n/b {point} xfs rw 0 0\n"
    )
    SQLiteStore(folder / "cache.db")
    mounts.write_text(
        f"h:/x {point}/deeper {kind} rw 0 0\nh:/y {folder.parent}/wit {kind} rw 0 0\n"
    )
    SQLiteStore(folder / "cache.db")


def test_characters_of_a_path_mean_nothing(opened: Opener, tmp_path: Path) -> None:
    l2 = opened("what? a%20#file&mode=ro 'x'.db")
    l2.store_value(name_of(1), b"value")
    assert (tmp_path / "what? a%20#file&mode=ro 'x'.db").exists()
    assert "what?" in repr(l2.store)


def test_nothing_is_opened_before_it_is_needed(opened: Opener, tmp_path: Path) -> None:
    l2 = opened()
    assert list(tmp_path.iterdir()) == []
    l2.read(name_of(1))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {0o600}
    l2.store.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache.db", "cache.db-gen"]


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SQLiteStore(folder / "cache.db")
    folder.rmdir()
    with pytest.raises(StoreError, match=r"cache\.db") as caught:
        store.run(store.check())
    assert caught.value.kind == "file"
    folder.mkdir()
    store.run(store.check())
    store.close()


# ---- restarts, reboots, clocks -----------------------------------------------------------------


def test_values_survive_restarts(opened: Opener) -> None:
    first = opened()
    first.store_value(name_of(1), b"value", 100)
    first(first.space.lease([name_of(2)], b"token", 100))
    sequence = first(first.space.invalidate_tags([b"tag"]))
    counters = first(first.space.counters())
    first.store.close()
    again = opened()
    found = again.read(name_of(1))
    assert found is not None and found.left is not None and 90 < found.left < 100
    assert again.fill(name_of(2), b"token", b"value")
    assert again(again.space.tags([b"tag"])) == [sequence]
    assert again(again.space.counters()) == counters


def reboot(monkeypatch: Any, away: float) -> None:
    """Another boot, `away` seconds later on the wall; the clock since boot begins anew."""
    boot, clock, wall = os.urandom(16), _generations.now, time.time_ns
    begin = clock()
    monkeypatch.setattr(_generations, "boot_id", lambda: boot)
    for module in ("_generations", "_sqlite_changes", "_sqlite_file"):
        monkeypatch.setattr(f"fastcache.stores.{module}.now", lambda: clock() - begin)
    monkeypatch.setattr(time, "time_ns", lambda: wall() + int(away * 1e9))


def test_what_was_closed_survives_a_reboot(opened: Opener, monkeypatch: Any) -> None:
    first = opened()
    first.store_value(name_of(1), b"short", 50)
    first.store_value(name_of(2), b"long", 1000)
    first.store_value(name_of(3), b"for ever", None)
    first(first.space.lease([name_of(4)], b"token", 1000))
    sequence = first(first.space.invalidate_tags([b"tag"]))
    counters = first(first.space.counters())
    first.store.close()
    reboot(monkeypatch, 100)
    again = opened()
    assert again.read(name_of(1)) is None
    found = again.read(name_of(2))
    assert found is not None and found.left is not None and 890 < found.left <= 900
    assert again.data(name_of(3)) == b"for ever"
    assert not again.fill(name_of(4), b"token", b"value")
    assert again(again.space.tags([b"tag"])) == [sequence]
    assert again(again.space.tags([b"new"]))[0] >= sequence
    new = again(again.space.counters())
    assert all(a.incarnation != b.incarnation for a, b in zip(counters, new, strict=True))


def test_a_wall_clock_set_back_over_a_reboot(opened: Opener, monkeypatch: Any) -> None:
    first = opened()
    first.store_value(name_of(1), b"value", 50)
    sequence = first(first.space.invalidate_tags([b"tag"]))
    first.store.close()
    reboot(monkeypatch, -86400)
    again = opened()
    found = again.read(name_of(1))
    assert found is not None and found.left is not None and found.left <= 50
    assert again(again.space.tags([b"new"]))[0] >= sequence
    assert again(again.space.invalidate_tags([b"tag"])) > sequence


@pytest.mark.parametrize("after", ["never closed", "written after a close"])
def test_what_a_power_cut_may_have_undone_is_forgotten(
    after: str, opened: Opener, monkeypatch: Any
) -> None:
    """The last invalidations may not be on the disk: then nothing that they removed may come back."""
    first = opened()
    first.store_value(name_of(1), b"value", 1000)
    if after == "written after a close":
        first.store.close()
        first = opened()
        assert first.data(name_of(1)) == b"value"
        first.invalidate(name_of(2))
    reboot(monkeypatch, 10)
    again = opened()
    assert again.read(name_of(1)) is None
    again.store_value(name_of(1), b"newer")
    assert again.data(name_of(1)) == b"newer"


def test_wall_clocks_change_nothing(opened: Opener, monkeypatch: Any) -> None:
    l2, wall = opened(), time.time_ns
    l2.store_value(name_of(1), b"value", 100)
    for jump in (86400, -86400):
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: wall() + jump * 10**9)
        found = l2.read(name_of(1))
        assert found is not None and found.left is not None and 90 < found.left <= 100


# ---- the bound ---------------------------------------------------------------------------------


def held(path: Path) -> int:
    with look(path) as connection:
        counted, added = connection.execute(
            "SELECT (SELECT bytes FROM meta), (SELECT coalesce(sum(size), 0) FROM value)"
        ).fetchone()
    connection.close()
    assert counted == added, "what is counted is what is there"
    return int(added)


def test_the_bound_holds(opened: Opener, tmp_path: Path) -> None:
    bound = 1 << 20
    l2 = opened(max_bytes=bound)
    for number in range(4000):
        l2.store_value(name_of(number), os.urandom(1000))
    l2.store.close()
    total = held(tmp_path / "cache.db")
    assert 0.9 * bound < total <= bound
    assert (tmp_path / "cache.db").stat().st_size < 2 * bound


def test_what_is_read_stays(opened: Opener) -> None:
    l2 = opened(max_bytes=1 << 20)
    hot = [name_of(n, "hot") for n in range(50)]
    for name in hot:
        l2.store_value(name, b"h" * 1000)
    for number in range(4000):
        if number % 50 == 0:
            l2(l2.space.read_many(hot))
        l2.store_value(name_of(number), b"c" * 1000)
    kept = sum(found is not None for found in l2(l2.space.read_many(hot)))
    assert kept >= 48, "the clock passes over what was read"


def test_the_expired_go_first(opened: Opener) -> None:
    l2 = opened(max_bytes=1 << 20)
    for number in range(400):
        l2.store_value(name_of(number), b"d" * 1000, 0.05)
    until(lambda: l2.read(name_of(399)) is None)
    live = [name_of(number, "live") for number in range(800)]
    for name in live:
        l2.store_value(name, b"l" * 1000)
    assert all(l2(l2.space.read_many(live))), "only the dead had to go"


def test_values_that_are_too_large(opened: Opener) -> None:
    l2 = opened(max_bytes=1 << 20)
    name = name_of(1)
    l2.store_value(name, b"old")
    before = l2.counter(name)
    large = b"x" * (1 << 17)
    l2(l2.space.lease([name], b"token", 100))
    assert not l2.fill(name, b"token", large)
    assert not l2.put(name, b"", large)
    assert l2.counter(name) == before
    assert l2.data(name) == b"old", "what was not stored has changed nothing"
    l2.store_value(name, b"x" * (1 << 16))


def test_tags_are_bounded(opened: Opener, tmp_path: Path) -> None:
    l2 = opened(max_bytes=1 << 20)
    first = l2(l2.space.invalidate_tags([b"tag 0"]))
    for start in range(0, 4000, 100):
        l2(l2.space.tags([b"tag %d" % n for n in range(start, start + 100)]))
        last = l2(l2.space.invalidate_tags([b"last"]))
    assert l2(l2.space.tags([b"tag 0"]))[0] >= last > first, "as if just invalidated"
    l2.store.close()
    with look(tmp_path / "cache.db") as connection:
        counted, there = connection.execute(
            "SELECT (SELECT tags FROM meta), (SELECT count(*) FROM tag)"
        ).fetchone()
    connection.close()
    assert counted == there <= 1024


def test_names_that_share_a_number_displace_each_other(opened: Opener) -> None:
    l2 = opened()
    one, other = "key:" + "ab" * 8 + "0" * 16, "key:" + "ab" * 8 + "1" * 16
    l2.store_value(one, b"one")
    assert l2.read(other) is None
    assert l2(l2.space.read_many([one, other]))[1] is None
    l2.invalidate(other)
    assert l2.data(one) == b"one"
    l2.store_value(other, b"other")
    assert (l2.data(one), l2.data(other)) == (None, b"other")
    assert l2.incr(one) == 1
    assert l2.read(other) is None
    l2(l2.space.lease([one], b"first", 100))
    assert l2(l2.space.lease([other], b"second", 100))[0].ours
    assert not l2.fill(one, b"first", b"value"), "its lease is lost"


def test_name_spaces_are_bounded(opened: Opener) -> None:
    l2 = opened()
    for number in range(_generations.SLOTS):
        l2.elsewhere(f"space-{number}").incr(name_of(1))
    with pytest.raises(StoreError, match="no room for the name space 'one-more'") as caught:
        l2.elsewhere("one-more").read(name_of(1))
    assert caught.value.kind == "full"
    assert l2.elsewhere("space-7").data(name_of(1)) == b"1"


# ---- files that are broken, gone, or another's -------------------------------------------------


def put_aside(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.corrupt-*") if file.suffix[-1].isdigit())


@pytest.mark.parametrize(
    "what", [b"no database at all\n" * 100, b"SQLite format 3\0" + b"\xff" * 9000]
)
def test_a_file_that_is_no_database(
    what: bytes, opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        (tmp_path / "cache.db").write_bytes(what)
        l2 = opened()
        with caplog.at_level(logging.WARNING, "fastcache"):
            l2.store_value(name_of(1), b"value")
        assert l2.data(name_of(1)) == b"value"
        assert (tmp_path / f"cache.db.corrupt-{number}").read_bytes() == what
        assert f"set aside as {tmp_path}/cache.db.corrupt-{number}" in caplog.text
        l2.store.close()


@pytest.mark.parametrize("how", ["garbage", "zeros", "cut off"])
def test_a_file_that_breaks_while_it_is_used(
    how: str, opened: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.db"
    first = opened()
    for number in range(300):
        first.store_value(name_of(number), os.urandom(3000))
    first.store.close()  # everything is in the database now, nothing in its log
    one, other = opened(), opened()
    generations = other.space.generations()
    assert generations is not None
    assert one.data(name_of(0)) and other.data(name_of(0))
    before = generations.shared[0]
    # by another process: to close the file here would drop the locks that are under test
    script = {
        "garbage": "f.seek(4096); f.write(os.urandom(4096 * 200))",
        "zeros": "f.seek(4096); f.write(bytes(4096 * 200))",
        "cut off": "f.truncate(4096 * 3)",
    }[how]
    run_child(f"f = open(sys.argv[1], 'r+b')\n{script}\nf.close()", path)
    with caplog.at_level(logging.WARNING, "fastcache"):
        for number in range(300):
            one.read(name_of(number))  # never an exception
            one.invalidate(name_of(number))
            assert one.read(name_of(number)) is None
            one.store_value(name_of(number), b"newer")
    assert put_aside(tmp_path) == ["cache.db.corrupt-1"]
    assert "cannot be read" in caplog.text
    # the other process's connection follows
    assert [other.data(name_of(n)) for n in range(300)] == [b"newer"] * 300
    assert generations.shared[0] > before


def test_the_database_of_another_application(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with look(path) as connection:
        connection.execute("CREATE TABLE orders (id)")
        connection.execute("INSERT INTO orders VALUES (1)")
    connection.close()
    l2 = opened()
    for _ in range(2):
        with pytest.raises(StoreError, match="another application") as caught:
            l2.read(name_of(1))
        assert caught.value.kind == "file"
    l2.store.close()
    with look(path) as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [(1,)]
    connection.close()
    assert put_aside(tmp_path) == []


@pytest.mark.parametrize("gone", [["cache.db-gen"], ["cache.db"], ["cache.db", "cache.db-gen"]])
def test_files_that_are_removed_while_they_are_used(
    gone: list[str], opened: Opener, tmp_path: Path
) -> None:
    one, other = opened(), opened()
    generations = other.space.generations()
    assert generations is not None
    one.store_value(name_of(1), b"value")
    assert other.data(name_of(1)) == b"value"
    before = other(other.space.counters())
    shared = generations.shared[0]
    for name in gone:
        (tmp_path / name).unlink()
    third = opened()  # makes new ones
    third.store_value(name_of(1), b"newer")
    after = other(other.space.counters())
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert generations.shared[0] > shared, "who looks at the old numbers is told"
    one.invalidate(name_of(9))  # who writes finds out by himself
    assert one.data(name_of(1)) == other.data(name_of(1)) == b"newer"
    current = other.space.generations()
    assert current is not None
    seen = current.shared[1 + bucket_of(name_of(1))]
    one.invalidate(name_of(1))
    assert third.read(name_of(1)) is None
    assert current.shared[1 + bucket_of(name_of(1))] == seen + 1


@pytest.mark.parametrize("what", [b"", b"garbage", b"\xff" * (1 << 19)])
def test_generations_that_are_no_such_file(what: bytes, opened: Opener, tmp_path: Path) -> None:
    first = opened()
    first.store_value(name_of(1), b"value")
    first.store.close()
    (tmp_path / "cache.db-gen").write_bytes(what)
    again = opened()
    assert again.read(name_of(1)) is None, "nobody knows whether it still counts"
    again.store_value(name_of(1), b"newer")
    assert again.data(name_of(1)) == b"newer"


# ---- disks -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 12 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(point)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"not permitted: {done.stderr.strip()}")
    yield point
    subprocess.run(["umount", "-l", str(point)], timeout=30, check=True)


def test_a_full_disk(small_disk: Path, opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    l2, other = opened("disk/cache.db"), opened("disk/cache.db")
    for number in range(100):
        l2.store_value(name_of(number), b"value")
    other.read(name_of(1))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreError) as caught:
        for number in range(100, 3000):
            l2.store_value(name_of(number), os.urandom(1000))
    assert caught.value.kind == "full"
    assert l2.data(name_of(1)) == b"value", "reading goes on"
    for number in range(100):
        with caplog.at_level(logging.WARNING, "fastcache"):
            l2.invalidate(name_of(number))
        try:
            assert other.read(name_of(number)) is None
        except StoreError as error:  # an empty file needs some room, too
            assert error.kind == "full"
    filler.unlink()
    assert other.read(name_of(1)) is None
    other.store_value(name_of(1), b"newer")
    assert l2.data(name_of(1)) == b"newer"


def test_a_disk_that_turns_read_only(small_disk: Path, opened: Opener) -> None:
    l2 = Client(SQLiteStore(small_disk / "cache.db"), "shop", None)
    l2.store_value(name_of(1), b"value")
    l2.store.close()
    del l2
    gc.collect()  # what is mapped keeps a file system busy
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True, timeout=30)
    l2 = opened("disk/cache.db")
    with pytest.raises(StoreError) as caught:
        l2.invalidate(name_of(1))
    assert caught.value.kind == "readonly"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True, timeout=30)
    l2.invalidate(name_of(1))
    assert l2.read(name_of(1)) is None


# ---- waiting -----------------------------------------------------------------------------------


def test_who_waits_for_another_process_waits_so_long(opened: Opener, tmp_path: Path) -> None:
    l2 = opened(timeout=0.2)
    l2.store_value(name_of(1), b"value")
    blocker = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        l2.invalidate(name_of(1))
    assert caught.value.kind == "timeout"
    assert 0.1 < time.monotonic() - begun < 5
    assert l2.data(name_of(1)) == b"value", "readers do not wait for writers"
    blocker.execute("ROLLBACK")
    l2.invalidate(name_of(1))
    assert l2.read(name_of(1)) is None
    l2.store.close()
    blocker.close()


def test_who_waits_for_another_thread_waits_so_long(opened: Opener) -> None:
    l2 = opened(timeout=0.2)
    store = l2.store
    assert isinstance(store, SQLiteStore)
    store._lock.acquire()
    with pytest.raises(StoreError) as caught:
        l2.read(name_of(1))
    assert caught.value.kind == "timeout"

    async def read() -> str:
        with pytest.raises(StoreError) as caught:
            await store.arun(l2.space.read(name_of(1)))
        return caught.value.kind

    assert asyncio.run(read()) == "timeout"
    store._lock.release()
    assert l2.read(name_of(1)) is None


def test_the_loop_goes_on_meanwhile(opened: Opener) -> None:
    l2 = opened(timeout=30)
    store = l2.store
    assert isinstance(store, SQLiteStore)

    async def main() -> int:
        store._lock.acquire()
        reading = asyncio.ensure_future(store.arun(l2.space.read(name_of(1))))
        turns = 0
        while turns < 1000:  # which a blocked loop would never do
            await asyncio.sleep(0)
            turns += 1
        assert not reading.done()
        store._lock.release()
        assert await reading is None
        return turns

    assert asyncio.run(main()) == 1000


def test_cancelled_changes_happen_wholly_or_not_at_all(opened: Opener) -> None:
    l2 = opened()

    async def main() -> None:
        for number in range(scaled(200, 20_000)):
            name = name_of(number)
            put = l2.space.put([Fill(name, b"", b"x" * 500, 100)], [Target(name, b"key")])
            task = asyncio.ensure_future(l2.store.arun(put))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        found = await l2.store.arun(l2.space.read_many([name_of(n) for n in range(200)]))
        assert {f.data for f in found if f is not None} <= {b"x" * 500}

    asyncio.run(main())
    l2.invalidate(name_of(1))
    assert l2.read(name_of(1)) is None


def test_four_threads(opened: Opener, tmp_path: Path) -> None:
    l2 = opened(max_bytes=1 << 20)
    rounds = scaled(300, 30_000)

    def work(seed: int) -> Callable[[], None]:
        def run() -> None:
            for i in range(rounds):
                name = name_of((i * 7 + seed) % 40)
                token = b"%d-%d" % (seed, i)
                (lease,) = l2(l2.space.lease([name], token, 100))
                l2.fill(name, lease.token, name.encode() * 20)
                found = l2.read(name)
                assert found is None or found.data == name.encode() * 20
                if i % 3 == seed % 3:
                    l2.invalidate(name)
                l2.incr(name_of(i % 5, "counter"))

        return run

    assert run_threads([work(seed) for seed in range(4)]) == [None] * 4
    counters = l2(l2.space.read_many([name_of(n, "counter") for n in range(5)]))
    assert sum(int(found.data) for found in counters if found) == 4 * rounds
    l2.store.close()
    assert held(tmp_path / "cache.db") <= 1 << 20


# ---- other processes ---------------------------------------------------------------------------


def test_processes_share(opened: Opener, tmp_path: Path) -> None:
    l2 = opened()
    l2.store_value(name_of(1), b"ours")
    generations = l2.space.generations()
    assert generations is not None
    before = generations.shared[0]
    script = """
    assert l2.data(name_of(1)) == b"ours"
    l2.invalidate(name_of(1))
    l2.store_value(name_of(2), b"theirs")
    l2.store.close()
    """.replace("\n    ", "\n")
    in_child(script, tmp_path / "cache.db")
    assert l2.read(name_of(1)) is None
    assert l2.data(name_of(2)) == b"theirs"
    assert generations.shared[0] == before + 1 and generations.own[0] == 0


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_killed_around_the_commit(when: str, opened: Opener, tmp_path: Path) -> None:
    """Nobody who reads after the numbers advanced gets what was there before, though nobody tells any more."""
    l2 = opened()
    name = name_of(1)
    l2.store_value(name, b"value")
    generations = l2.space.generations()
    assert generations is not None
    before = generations.shared[1 + bucket_of(name)]
    script = """
    import signal
    from fastcache.stores import _sqlite_space, _sqlite_file
    assert l2.data(name_of(1)) == b"value"
    def die(*args): os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "before the commit":
        advance = _sqlite_space.SQLiteSpace._advance
        def advance_and_die(*args): advance(*args); die()
        _sqlite_space.SQLiteSpace._advance = advance_and_die
    else:
        _sqlite_file.Database.rollback = die
    l2.invalidate(name_of(1))
    """.replace("\n    ", "\n")
    with pytest.raises(AssertionError, match="exit code -9"):
        in_child(script, tmp_path / "cache.db", when)
    assert generations.shared[1 + bucket_of(name)] == before + 1
    at = l2.space._at  # type: ignore[attr-defined]
    assert not at.settled([bucket_of(name)]), "the child died where it should"
    expected = b"value" if when == "before the commit" else None
    assert l2.data(name) == expected
    assert at.settled([bucket_of(name)]), "found out once"
    assert [f and f.data for f in l2(l2.space.read_many([name]))] == [expected]
    assert l2(l2.space.tags([b"tag"]))


def test_nobody_reads_past_a_change_under_way(opened: Opener) -> None:
    """A reader that comes between the advance and the commit waits for the commit."""
    one, other = opened(), opened()
    name = name_of(1)
    one.store_value(name, b"value")
    space = other.space
    advance, advanced, go_on = space._advance, threading.Event(), threading.Event()  # type: ignore[attr-defined]

    def stop(*arguments: Any) -> None:
        advance(*arguments)
        advanced.set()
        go_on.wait(30)

    space._advance = stop  # type: ignore[attr-defined]
    results: list[Any] = []
    writer = threading.Thread(target=lambda: other.invalidate(name))
    reader = threading.Thread(target=lambda: results.append(one.read(name)))
    many = threading.Thread(target=lambda: results.append(opened().data(name)))
    writer.start()
    assert advanced.wait(30)
    reader.start()
    many.start()
    reader.join(0.2)
    assert results == [], "an old value was given with a new number"
    go_on.set()
    for thread in (writer, reader, many):
        thread.join(30)
    assert results == [None, None]


def test_a_change_that_ends_late_hides_no_other(opened: Opener) -> None:
    """The first writer is held up after its commit, the second before its own."""
    first, second, reader = opened(), opened(), opened()
    one, other = name_of(1), "key:" + name_of(1)[-32:-30] + "f" * 30
    for name in (one, other):
        first.store_value(name, b"value")
    assert reader.data(other) == b"value"
    events = {what: threading.Event() for what in ("committed", "end", "advanced", "commit")}
    file, space = first.store._file, second.space  # type: ignore[attr-defined]
    rollback, advance = file.rollback, space._advance  # type: ignore[attr-defined]

    def end_late() -> None:
        rollback()
        events["committed"].set()
        events["end"].wait(30)

    def commit_late(*arguments: Any) -> None:
        advance(*arguments)
        events["advanced"].set()
        events["commit"].wait(30)

    file.rollback, space._advance = end_late, commit_late  # type: ignore[attr-defined]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: first.invalidate(one)),
        threading.Thread(target=lambda: second.invalidate(other)),
        threading.Thread(target=lambda: results.append(reader.read(other))),
    ]
    threads[0].start()
    assert events["committed"].wait(30)
    threads[1].start()
    assert events["advanced"].wait(30)
    events["end"].set()
    threads[0].join(30)
    threads[2].start()
    threads[2].join(0.2)
    assert results == [], "an old value was given with a new number"
    events["commit"].set()
    for thread in threads:
        thread.join(30)
    assert results == [None]


def test_forked_children(tmp_path: Path) -> None:
    out = in_child(
        """
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork
l2.store_value(name_of(1), b"value")
ours = l2.store._file._connection
stop = threading.Event()
def work(seed):
    i = 0
    while not stop.is_set():
        i += 1
        l2.put(name_of(i % 50, str(seed)), b"", b"x" * 300)
        assert l2.data(name_of(1)) == b"value"
        l2.invalidate(name_of(i % 50, str(seed)))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for round_ in range(scaled(25, 1000)):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            assert l2.data(name_of(1)) == b"value"
            l2.incr(name_of(1, "counter"))
            l2.invalidate(name_of(round_, "round"))
            if round_ % 2:
                l2.store.close()
                sys.exit(0)
        except BaseException as error:
            if not isinstance(error, SystemExit):
                sys.stderr.write(repr(error))
                os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
assert l2.data(name_of(1, "counter")) == b"%d" % (round_ + 1)
l2.store.close()
print("done")
""",
        tmp_path / "cache.db",
    )
    assert out.strip() == "done"
    with look(tmp_path / "cache.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_dropped_store_leaves_no_warning(tmp_path: Path) -> None:
    script = """
    import warnings
    l2.store_value(name_of(1), b"value")
    del l2
    gc.collect()
    l2 = Client(SQLiteStore(sys.argv[1], timeout=5), 'shop', None)
    assert l2.data(name_of(1)) == b"value"
    """.replace("\n    ", "\n")
    in_child(script, tmp_path / "cache.db")  # which runs with -W error
    assert len(list(tmp_path.iterdir())) == 2, "closed at exit"


def test_the_counters_are_a_record(opened: Opener) -> None:
    l2 = opened()
    memory = l2.space.generations()
    assert memory is l2.space.generations()
    assert memory is not None and memory.shared.readonly and memory.own.readonly
    l2.invalidate(name_of(1))
    counters = l2(l2.space.counters())
    assert [c.sequence for c in counters] == list(memory.shared[1 : COUNTERS + 1])
