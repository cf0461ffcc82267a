"""cachetools' own tests pass with fastcache.cachetools in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.sdists import Report, Sdist, judge, run, unpacked

import fastcache.cachetools

CACHETOOLS = Sdist(
    "cachetools", "8.0.1", "deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95"
)
MODULES = {
    "cachetools": "fastcache.cachetools",
    "cachetools.func": "fastcache.cachetools.func",
    "cachetools.keys": "fastcache.cachetools.keys",
}
#: Test -> the reason why it cannot hold here.
EXCEPTIONS: dict[str, str] = {}


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cachetools' tests."""
    return unpacked(CACHETOOLS, tmp_path_factory.mktemp("cachetools")) / "tests"


def test_its_tests_pass(tests: Path) -> None:
    report = run(tests, MODULES)
    ours = Path(fastcache.cachetools.__file__).parent
    assert {Path(file).parent for file in report.modules.values()} == {ours}
    judge(report, passed=465, exceptions=EXCEPTIONS)


def test_they_can_fail(tests: Path) -> None:
    """With a cache of another order in LRUCache's place."""
    names = {name: f"fastcache.cachetools:{name}" for name in fastcache.cachetools.__all__}
    names |= {"keys": "fastcache.cachetools.keys", "func": "fastcache.cachetools.func"}
    names |= {"LRUCache": "fastcache.cachetools:FIFOCache"}
    report: Report = run(tests, {**MODULES, "cachetools": names})
    assert report.ids("failed") == [
        "test_lru.py::LRUCacheTest::test_lru",
        "test_lru.py::LRUCacheTest::test_lru_clear",
    ]
