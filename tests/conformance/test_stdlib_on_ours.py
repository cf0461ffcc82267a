"""The standard library's own tests pass with our lru_cache and cache in functools' place.

Each module's tests run twice in subprocesses (`run_stdlib.py`), on functools' own and on ours,
and must end alike, test by test.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest
from conformance.support import HERE, child_environment

LIMIT = 240  # seconds per run; the longest takes about 10
MODULES = {
    "re": "test.test_re",
    "typing": "test.test_typing",
    "fnmatch": "test.test_fnmatch",
    "ipaddress": "test.test_ipaddress",
    "urllib.parse": "test.test_urlparse",
    "inspect": "test.test_inspect.test_inspect",
}
# The modules that memoise with functools at import, where `users` must show that it was ours.
MEMOISING = ("re", "typing", "fnmatch", "ipaddress", "urllib.parse")


def has(name: str) -> bool:
    """Whether a module can be imported, parents included."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def module_of(name: str) -> str:
    """The test module of a standard module; test_inspect became a package in 3.13."""
    path = MODULES[name]
    return path if has(path) else path.rpartition(".")[0]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not has("test.test_re"),
        reason=f"{sys.executable} comes without the standard library's tests: they ARE NOT RUN",
    ),
]


@functools.cache
def report(subject: str, name: str) -> dict[str, Any]:
    """What `run_stdlib.py` printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "run_stdlib.py"), subject, module_of(name)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
    # Tests may print; the report is the last line.
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.rindex('{"outcomes"') :])
    return found


@pytest.mark.parametrize("name", MODULES)
def test_same_outcomes(name: str) -> None:
    theirs, ours = report("functools", name), report("fastcache", name)
    assert "ok" in theirs["outcomes"].values()
    different = {
        test: (outcome, ours["outcomes"].get(test), ours["details"].get(test))
        for test, outcome in theirs["outcomes"].items()
        if ours["outcomes"].get(test) != outcome
    }
    assert not different
    assert ours["outcomes"].keys() == theirs["outcomes"].keys()


@pytest.mark.parametrize("name", MEMOISING)
def test_the_module_ran_on_ours(name: str) -> None:
    theirs, ours = report("functools", name)["users"], report("fastcache", name)["users"]
    assert theirs.get(name, 0) > 0
    assert ours.get(name, 0) > 0


def test_a_broken_implementation_is_caught() -> None:
    theirs, broken = report("functools", "re"), report("broken", "re")
    assert theirs["outcomes"] != broken["outcomes"]
