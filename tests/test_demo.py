"""`python -m fastcache demo tiers`: it runs over each kind of L2, counts rightly, and ends when told to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastcache import __main__ as command

pytest.importorskip("msgspec", reason="the extra `tiered`")
pytest.importorskip("xxhash", reason="the extra `tiered`")

from servers import listens
from servers.redis import RedisServer

from fastcache._demo import server, table
from fastcache._demo.board import Board, Newer
from fastcache._demo.database import Database
from fastcache._demo.measure import Durations, rounded, spoken

LIMIT = 120
DEMO = [sys.executable, "-m", "fastcache", "demo", "tiers"]
SHORT = ["--seconds", "2", "--keys", "200", "--capacity", "100"]


def demo(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [*DEMO, *SHORT, *arguments],
        capture_output=True, text=True, timeout=LIMIT, check=False, env=environment,
    )  # fmt: skip


def figures(out: str) -> dict[str, str]:
    """The first figure of each line of the table."""
    return {
        found["name"]: found["figure"]
        for found in re.finditer(r"^(?P<name>(?:  )?\S.*?) {2,}(?P<figure>\S+)", out, re.M)
    }


def number(text: str) -> int:
    return int(text.replace(",", ""))


def check(done: subprocess.CompletedProcess[str], l2: str) -> None:
    """It did what it says, and nothing old was left."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"L2: {l2}" in done.stdout
    told = figures(done.stdout)
    parts = [number(told[f"  {name}"]) for name in ("from L1", "from L2", "by the loader")]
    assert all(parts)
    assert number(told["reads"]) == sum(parts)
    assert number(told["writes, caches told"]) > 0
    assert number(told["old value gone elsewhere after"]) > 0
    assert told["older than one's own write"] == told["old values left at the end"] == "0"
    assert told["errors"] == "none"
    assert "4 healthy" in done.stdout
    assert re.search(r"^ +\d+ s  [\d,]+ reads  L1 ", done.stderr, re.M)


class TestRun:
    def test_sqlite(self) -> None:
        check(demo("--sqlite"), "an SQLite file;")

    def test_a_redis_that_is_there(self, redis_server: RedisServer) -> None:
        check(demo("--url", redis_server.url), "Redis, as given")

    def test_a_redis_of_its_own(self, redis_server: RedisServer) -> None:
        done = demo()
        check(done, "Redis of its own")
        ports = re.findall(r"127\.0\.0\.1:(\d+)", done.stdout)
        assert len(ports) == 1
        assert not listens(int(ports[0]))

    def test_no_redis_server_is_no_harm(self, tmp_path: Path) -> None:
        check(demo(path=str(tmp_path)), "an SQLite file (there is no redis-server on PATH")

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    @pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_ends_it_with_the_table(self, ending: int, redis_server: RedisServer) -> None:
        process = subprocess.Popen(
            [*DEMO, "--seconds", "600", "--workers", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        stop = threading.Timer(LIMIT, process.kill)
        stop.start()
        try:
            assert process.stderr is not None
            # on a busy machine Redis may have been late, which is told first
            assert any(" reads " in line for line in process.stderr)
            os.killpg(process.pid, ending)  # all of them hear it, as from a terminal
            out, err = process.communicate()
        finally:
            stop.cancel()
            process.kill()
            process.communicate()
        assert process.returncode == 130, out + err
        assert "Traceback" not in err
        told = figures(out)
        assert number(told["reads"]) > 0
        assert "not looked at" in out
        assert not listens(int(re.findall(r"127\.0\.0\.1:(\d+)", out)[0]))

    def test_an_l2_that_is_not_there(self) -> None:
        done = demo("--url", "redis://:secret@127.0.0.1:1/0")
        assert (done.returncode, done.stdout) == (1, "")
        assert "127.0.0.1:1" in done.stderr
        assert "secret" not in done.stderr


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--seconds", "0"), "'0'"),
            (("--seconds", "nan"), "'nan'"),
            (("--workers", "1.5"), "'1.5'"),
            (("--keys", "0"), "'0'"),
            (("--writes", "2"), "'2'"),
            (("--rate", "-1"), "'-1'"),
            (("--url", "http://somewhere"), "http://somewhere"),
            (("--url", "redis://127.0.0.1", "--sqlite"), "not allowed with"),
        ],
    )
    def test_wrong_arguments_are_named(
        self, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            command.main(["demo", "tiers", *arguments])
        assert stopped.value.code == 2
        assert says in capsys.readouterr().err

    def test_a_program_that_is_no_redis(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="does not start"):
            server.Server(sys.executable, tmp_path)


class TestFigures:
    @pytest.mark.parametrize("ns", [0, 1, 63, 64, 65, 1000, 123_456, 10**9 + 7])
    def test_buckets_are_close(self, ns: int) -> None:
        assert ns - ns / 32 <= rounded(ns) <= ns

    def test_quantiles(self) -> None:
        durations = Durations()
        assert (durations.quantile(0.5), durations.longest(), len(durations)) == (None, None, 0)
        for ns in range(1, 51):
            durations.add(ns)
        durations.merge({"60": 50})
        assert len(durations) == 100
        assert durations.quantile(0.25) == 25
        assert durations.quantile(0.99) == durations.longest() == 60

    @pytest.mark.parametrize(
        ("ns", "text"),
        [(None, "-"), (420, "0.42 us"), (12_345, "12.3 us"), (999_999, "1 ms"), (1_500_000_000, "1.5 s")],
    )  # fmt: skip
    def test_durations_in_words(self, ns: int | None, text: str) -> None:
        assert spoken(ns) == text

    def test_the_board_knows_who_wrote_what_when(self, tmp_path: Path) -> None:
        Board.make(tmp_path / "board", 3, 10)
        a, b, c = (Board(tmp_path / "board", 3, 10, me) for me in range(3))
        a.committed(4, 2, 1000)
        a.telling(4, 1010)
        b.committed(4, 3, 2000)
        b.telling(4, 2010)
        assert c.newer(4, 1) == Newer(2, 1000)
        assert a.newer(4, 2) == Newer(3, 2000)
        assert c.newer(4, 3) is c.newer(5, 0) is None
        assert c.told_after(4, 500) == 1010
        assert a.told_after(4, 500) == 2010  # its own does not count
        assert c.told_after(4, 2010) is None
        assert list(c.written()) == [4]
        for board in (a, b, c):
            board.close()

    def test_the_database_counts_versions(self, tmp_path: Path) -> None:
        Database.make(tmp_path / "x.db", 3)
        database = Database(tmp_path / "x.db")
        price = database.article(2)["price"]
        assert database.raise_price(2) == database.version(2) == 2
        assert (database.article(2)["price"], database.version(1)) == (price + 1, 1)
        with pytest.raises(KeyError):
            database.article(3)
        database.close()

    def test_an_old_value_is_said(self) -> None:
        told = {
            "reads": {"l1": {"500": 8}, "l2": {"200000": 1}, "load": {"900000": 1}},
            "writing": {}, "dropped": {}, "stale": {"7000": 2}, "broken": 1,
            "errors": {"KeyError: 1": 1}, "state": "degraded", "entries": 3,
            "stats": dict.fromkeys(("loads", "lease_waits", "stale", "sent", "received"), 0),
            "l2": {"hits": 1, "fills": 1, "refused": 0, "errors": {"timeout": 4}},
        }  # fmt: skip
        total = table.Total([told, told])
        out = "\n".join(table.table(total, 2.0, 3))
        shown = figures(out)
        assert (shown["reads"], shown["  from L1"], shown["reads a second"]) == ("20", "16", "10")
        assert shown["older than the database"] == "4"
        assert (shown["older than one's own write"], shown["old values left at the end"]) == (
            "2",
            "3",
        )
        assert shown["hit rate of L1"] == "80.0%"
        assert "8 x L2, errors: timeout" in out
        assert "2 x KeyError: 1" in out
