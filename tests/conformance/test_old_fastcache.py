"""The tests of fastcache 1.1.0, the older package of that name, from its sdist against clru_cache.

`lru_cache` of the older package takes the same options as its clru_cache; here it is that of
functools, so for these tests both names are clru_cache.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.sdists import Report, Sdist, judge, run, unpacked

OLD = Sdist(
    "fastcache", "1.1.0", "6de1b16e70335b7bde266707eb401a3aaec220fb66c5d13b02abf0eab8be782b"
)
MODULES = {"fastcache": dict.fromkeys(("clru_cache", "lru_cache"), "fastcache:clru_cache")}

#: Not run, since what becomes of them depends on how the threads switch.
LEFT_OUT = {
    "test_thread.py::Test_Threading::test_thread_cache_info": "counts a call that has computed as a"
    " hit where another thread was first to store; here, as in functools, who computes is a miss",
}


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(OLD, tmp_path_factory.mktemp("old")) / "fastcache" / "tests"


@pytest.fixture(scope="module")
def report(tests: Path) -> Report:
    return run(tests, MODULES, options=[f"--deselect={test}" for test in LEFT_OUT])


def test_they_pass(report: Report) -> None:
    judge(report, passed=28, exceptions={})
    assert {test.partition("::")[0] for test in report.outcomes} == {
        "test_clrucache.py",
        "test_functools.py",
        "test_thread.py",
    }
    assert not report.outcomes.keys() & LEFT_OUT.keys()


def test_they_can_fail(tests: Path) -> None:
    """functools.lru_cache knows neither state nor unhashable."""
    theirs = dict.fromkeys(("clru_cache", "lru_cache"), "functools:lru_cache")
    wrong = run(tests, {"fastcache": theirs}, options=["-k", "state or unhashable"])
    assert wrong.ids("failed") and not wrong.ids("error")
