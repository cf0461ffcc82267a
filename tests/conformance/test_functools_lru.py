"""CPython's own lru tests (TestLRU*, TestCache*), none skipped and none changed, against ours.

They run in a subprocess (`run_functools_lru.py`), because they replace modules, lower the
recursion limit and could hang. What TestLRU and TestCache contain is read from the source file,
so that a test that is silently not run is a failure here.
"""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conformance.support import HERE, child_environment

LIMIT = 240  # seconds; the run takes 3 to 6
# What TestLRU and TestCache held when the drop-in was promised; later releases may add to it.
AT_LEAST = {(3, 11): 28, (3, 12): 29, (3, 13): 30}


def names_in_source() -> dict[str, list[str]]:
    """Names of the tests in TestLRU and TestCache, empty where the interpreter has no tests."""
    path = Path(sysconfig.get_path("stdlib"), "test", "test_functools.py")
    found: dict[str, list[str]] = {"TestLRU": [], "TestCache": []}
    if path.exists():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in found:
                found[node.name] = [
                    f.name
                    for f in node.body
                    if isinstance(f, ast.FunctionDef) and f.name.startswith("test")
                ]
    return found


NAMES = names_in_source()
pytestmark = pytest.mark.skipif(
    not NAMES["TestLRU"],
    reason=f"{sys.executable} comes without test.test_functools: the judge of lru_cache IS NOT RUN",
)


@functools.cache
def outcomes(subject: str) -> dict[str, dict[str, str]]:
    """Outcomes by class and test of one run of `run_functools_lru.py`."""
    done = subprocess.run(
        [sys.executable, str(HERE / "run_functools_lru.py"), subject],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
    report: dict[str, dict[str, str]] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("subject", ["functools", "fastcache"])
def test_nothing_is_left_out(subject: str) -> None:
    report = outcomes(subject)
    for kind in ("C", "Py"):
        lru, cache = report[f"TestLRU{kind}"], report[f"TestCache_{kind.lower()}"]
        assert sorted(lru) == sorted(NAMES["TestLRU"])
        assert sorted(cache) == sorted(NAMES["TestCache"])
        assert len(lru) + len(cache) >= AT_LEAST.get(sys.version_info[:2], 30)


@pytest.mark.parametrize("kind", ["C", "Py"])
@pytest.mark.parametrize("name", NAMES["TestLRU"])
@pytest.mark.parametrize("subject", ["functools", "fastcache"])
def test_lru(subject: str, name: str, kind: str) -> None:
    assert outcomes(subject)[f"TestLRU{kind}"][name] == "ok"


@pytest.mark.parametrize("kind", ["c", "py"])
@pytest.mark.parametrize("name", NAMES["TestCache"])
@pytest.mark.parametrize("subject", ["functools", "fastcache"])
def test_cache(subject: str, name: str, kind: str) -> None:
    assert outcomes(subject)[f"TestCache_{kind}"][name] == "ok"


def test_a_broken_implementation_is_caught() -> None:
    failed = {n for n, o in outcomes("untyped")["TestLRUC"].items() if o != "ok"}
    assert "test_lru_with_types" in failed
    assert len(failed) < len(NAMES["TestLRU"]) / 2, "the harness itself fails"
