"""What every test shares: the kinds of build and run, and the invariant check after each test.

- In debug builds each live cache's `_check()` runs after each test.
- `soak` tests run with FASTCACHE_SOAK=1 only, which lengthens others too; `timing` tests are left
  out where time and memory are not those of a release build.
"""

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from servers import WANTING

import fastcache
from fastcache import _core

# Speed is not asserted, by Hypothesis neither; where CI is set its own profile is the rest.
settings.register_profile("fastcache", parent=settings.default, deadline=None)
settings.load_profile("fastcache")

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
SANITIZE = os.environ.get("FASTCACHE_SANITIZE", "")
COVERAGE = os.environ.get("FASTCACHE_COVERAGE", "") not in ("", "0")
#: Fixtures that start servers: each module of tests/servers has some.
pytest_plugins = [
    f"servers.{path.stem}" for path in sorted((Path(__file__).parent / "servers").glob("[!_]*.py"))
]
LIVE_CACHES = getattr(_core, "_live_caches", None)  # debug builds only


def pytest_report_header() -> list[str]:
    kinds = [
        "debug" if LIVE_CACHES is not None else "release",
        *([f"sanitize={SANITIZE}"] if SANITIZE else []),
        *(["coverage"] if COVERAGE else []),
        *(["soak"] if SOAK else []),
    ]
    return [
        f"fastcache: {os.path.dirname(fastcache.__file__)} ({', '.join(kinds)})",
        f"interpreter: {sys.executable} {sys.version}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_soak = pytest.mark.skip(reason="long form: FASTCACHE_SOAK=1")
    no_timing = pytest.mark.skip(reason="time and memory mean nothing in this build")
    instrumented = bool(LIVE_CACHES is not None or SANITIZE or COVERAGE)
    for item in items:
        if not SOAK and item.get_closest_marker("soak"):
            item.add_marker(no_soak)
        if instrumented and item.get_closest_marker("timing"):
            item.add_marker(no_timing)


def pytest_collection_finish() -> None:
    """Thousands of tests are hundreds of thousands of objects, that each collection in a test would walk through."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what plugins look at now should be seen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests that were left out because a server is not installed, loudly."""
    wanted: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if WANTING in reason:
            wanted[reason.partition(WANTING)[2]] += 1
    if wanted:
        terminalreporter.section("NOT TESTED: servers are missing", sep="!", red=True, bold=True)
        for what, count in wanted.items():
            terminalreporter.line(f"{count} tests were skipped: {what}", red=True)


@pytest.fixture(autouse=True)
def live_caches_stay_whole() -> Iterator[None]:
    """After each test, in debug builds: the invariants of every cache that is still alive."""
    yield
    if LIVE_CACHES is not None:
        for cache in LIVE_CACHES():
            cache._check()


@pytest.fixture(autouse=True)
def clocks_are_this_hosts() -> Iterator[None]:
    """After each test: versions that were heard of from the future are forgotten."""
    yield
    ops = sys.modules.get("fastcache.writing.ops")
    if ops is not None:
        ops._heard = 0  # type: ignore[attr-defined]
