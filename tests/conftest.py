"""What every test shares: the kinds of build and run, and the invariant check after each test.

- In debug builds each live cache's `_check()` runs after each test.
- `soak` tests run with FASTCACHE_SOAK=1 only, which lengthens others too; `timing` tests are left
  out where time and memory are not those of a release build.
"""

import os
import sys
from collections.abc import Iterator

import pytest

import fastcache
from fastcache import _core

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
SANITIZE = os.environ.get("FASTCACHE_SANITIZE", "")
COVERAGE = os.environ.get("FASTCACHE_COVERAGE", "") not in ("", "0")
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


@pytest.fixture(autouse=True)
def live_caches_stay_whole() -> Iterator[None]:
    """After each test, in debug builds: the invariants of every cache that is still alive."""
    yield
    if LIVE_CACHES is not None:
        for cache in LIVE_CACHES():
            cache._check()
