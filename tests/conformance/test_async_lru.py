"""async-lru's own tests pass with fastcache.alru_cache in its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conformance.sdists import Sdist, judge, run, unpacked

ASYNC_LRU = Sdist(
    "async-lru", "2.4.0", "b0b0077d9b7596615b3c12d0aad4f6aeccaaa0ac75ceae472608ede89e764c08"
)
MODULES = {"async_lru": "as_async_lru"}
OPTIONS = {"filterwarnings": "error"}  # as theirs

CACHE = "reads the private OrderedDict of tasks; here results are in the engine"
TASKS = "reads the private list of tasks; `cache_parameters()['tasks']` says how many there are"
CALLBACK = "calls a private method on a wrapper of what is no function"
#: Test -> the reason why it cannot hold here.
EXCEPTIONS = {
    "test_basic.py::test_alru_cache_dict_not_shared": CACHE,
    "test_cache_clear.py::test_cache_clear_pending_task": TASKS,
    "test_cache_clear.py::test_cache_clear_ttl_callback": CACHE,
    "test_internals.py::test_cache_info": CACHE,
    "test_internals.py::test_done_callback_cancelled": CALLBACK,
    "test_internals.py::test_done_callback_exception": CALLBACK,
    "test_internals.py::test_done_callback_exception_logs": CALLBACK,
    "test_internals.py::test_forbid_call_closed": "sets a private attribute to close the cache",
    "test_size.py::test_alru_cache_removing_lru_keys": CACHE,
    "test_size.py::test_alru_cache_removing_lru_keys_with_full_displacement": CACHE,
}
#: Skipped by themselves before Python 3.14.
DEFERRED = {
    f"test_deferred_annotations.py::test_{name}"
    for name in (
        "annotations_stay_lazy_like_lru_cache",
        "deco_with_annotation_defined_after",
        "method_annotations_stay_lazy",
        "unresolvable_annotation_raises_only_on_access",
    )
}


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of async-lru's tests."""
    return unpacked(ASYNC_LRU, tmp_path_factory.mktemp("async-lru")) / "tests"


def test_its_tests_pass(tests: Path) -> None:
    report = run(tests, MODULES, plugins=["asyncio_plugin"], ini=OPTIONS)
    exceptions = dict(EXCEPTIONS)
    if sys.version_info < (3, 14):
        assert report.ids("skipped") == sorted(DEFERRED)
        exceptions |= dict.fromkeys(DEFERRED, "needs Python 3.14")
    judge(report, passed=79 if sys.version_info < (3, 14) else 83, exceptions=exceptions)


def test_they_can_fail(tests: Path) -> None:
    """`cached` has other rules: what is being loaded is no entry of it yet."""
    names = {name: f"as_async_lru:{name}" for name in ("_R", "_LRUCacheWrapper", "random")}
    wrong = run(
        tests,
        {"async_lru": {**names, "alru_cache": "fastcache:cached"}},
        plugins=["asyncio_plugin"],
        options=["-k", "test_cache_contains_pending_task or test_cache_contains_on_method"],
    )
    assert wrong.ids("failed") == ["test_cache_contains.py::test_cache_contains_pending_task"]
