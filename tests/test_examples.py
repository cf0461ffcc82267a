"""The programs under examples/ run, and do what they say."""

from __future__ import annotations

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


def test_each_example_is_tested() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tested, example.name
