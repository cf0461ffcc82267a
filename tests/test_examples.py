"""The programs under examples/ run, and do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_web_prices() -> None:
    head, *phases, empty, rush = run("web_prices.py", "--requests-per-second", "10").splitlines()
    columns = ["requests", "hit_rate", "stale", "queries", "errors", "outdated"]
    assert head.replace("hit rate", "hit_rate").split() == ["phase", *columns]
    told = {}
    for line in phases:
        *name, _ = parts = line.rsplit(maxsplit=len(columns))
        values = [float(text.replace(",", "").rstrip("%")) for text in parts[1:]]
        told[name[0].strip()] = dict(zip(columns, values, strict=True))
    assert list(told) == ["calm", "down", "up again"]
    for phase in told.values():
        assert phase["outdated"] == 0  # no answer was older than the price when it was asked for
        assert phase["hit_rate"] > 80
        assert phase["requests"] > phase["queries"]
    assert told["calm"]["errors"] == told["up again"]["errors"] == 0
    assert told["down"]["errors"] < told["down"]["requests"] / 10
    assert told["down"]["stale"] > told["calm"]["stale"]
    assert (empty, rush) == ("", "1,000 requests for one product at once: 1 query")


def test_write_counters() -> None:
    out = run("write_counters.py", "--updates", "2000")
    assert "kill -9" in out and "updates in the journal of a process that is gone" in out
    assert "1,600 visits acknowledged, 1,600 in the database; sessions as they were left" in out
    assert out.splitlines()[-1] == "nothing is missing, and nothing was counted twice"


@pytest.fixture(params=["sqlite", "redis"])
def l2(request: pytest.FixtureRequest) -> list[str]:
    """The option that says which L2."""
    pytest.importorskip("msgspec", reason="the extra `tiered`")
    if request.param == "sqlite":
        return []
    return ["--redis", request.getfixturevalue("redis_server").url]


def rows(out: str) -> list[dict[str, float]]:
    """The figures of a table: those of its lines that have as many as the head has columns."""
    head, *lines = out.splitlines()
    columns = head.replace("from L", "from_L").split()
    parts = [line.replace(",", "").replace("%", "").split() for line in lines]
    return [
        dict(zip(columns, map(float, part), strict=True))
        for part in parts
        if len(part) == len(columns)
    ]


def test_tiers_cache_aside(l2: list[str]) -> None:
    table = rows(run("tiers_cache_aside.py", "--requests", "3000", *l2))
    assert len(table) == 2
    for worker in table:
        assert worker["from_L1"] > 40
        assert worker["from_L2"] > 5
        if not l2:  # over Redis the other worker's message may take longer than it takes to ask
            assert worker["outdated"] == 0


def test_tiers_read_through(l2: list[str]) -> None:
    pages, tiers, change, new = run("tiers_read_through.py", "--pages", "300", *l2).splitlines()
    assert pages.startswith("300 pages with ")
    found = re.fullmatch(r"from L1 ([\d,]+), from L2 ([\d,]+), queries (\d+) \(.*\)", tiers)
    assert found is not None
    assert int(found[3]) < 600
    assert change == "a price changes: 29 -> 1"
    assert new == "a product comes: product 0"


def test_tiers_write_through(l2: list[str]) -> None:
    opened, transfers, *seen, _ = run(
        "tiers_write_through.py", "--transfers", "100", *l2
    ).splitlines()
    assert opened == "50 accounts opened, 50 in the database with 50,000 together"
    assert re.fullmatch(
        r"\d+ transfers, \d+ refused; .* balances other than they should be", transfers
    )
    if not l2:  # as above: the other worker's last transfer may not have been heard of
        assert "; 0 balances" in transfers
    assert seen[0] == "together, as a worker sees it: 50,000" or l2


def test_tiers_web(l2: list[str]) -> None:
    out = run("tiers_web.py", "--seconds", "2", "--requests-per-second", "200", *l2)
    table = rows(out)
    assert len(table) == 3
    for worker in table:
        assert min(worker["requests"], worker["from_L1"], worker["loads"], worker["heard"]) > 0
        assert worker["outdated"] == 0  # its own edits are seen at once
    edits = int(sum(worker["edits"] for worker in table))
    assert (
        out.splitlines()[-1] == f"{edits:,} edits in the database; workers that differ from it: 0"
    )


def test_each_example_is_tested() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tested, example.name
