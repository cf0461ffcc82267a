"""Other projects' tests, fetched from the package index and run against this package.

    CACHETOOLS = Sdist("cachetools", "8.0.1", "deb1d3...")

    @pytest.fixture(scope="module")
    def report(tmp_path_factory):
        source = unpacked(CACHETOOLS, tmp_path_factory.mktemp("cachetools"))
        return run(source / "tests", {"cachetools": "fastcache.cachetools"}, plugins=[])

    def test_they_pass(report):
        judge(report, passed=464, exceptions={"test_x.py::Test::test_y": "why it cannot hold"})

The sdist is fetched with pip, so from whatever index pip is configured for, and only if its SHA-256
is the one given: what is run here is what was read when the hash was written down. It is kept in
the user's cache folder (FASTCACHE_DOWNLOADS names another one; an sdist that was put there by hand
will do). Where it cannot be had, the tests that need it are skipped, or fail if CI is set.

Of the sdist only the folder of the tests is run, in a copy, so that the package beside it cannot be
imported by accident. All of its tests run, those listed as exceptions too: one that passes after
all is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import pytest
from conformance.support import HERE, child_environment

FETCH_LIMIT = 90  # seconds for pip, retries included
RUN_LIMIT = 200  # seconds for one run of all tests of an sdist
TEST_LIMIT = 60  # seconds for one of these tests

#: Name of a module for the tests -> the module they get ("package.module"), or a module made of
#: the names given ({"alru_cache": "fastcache:alru_cache", "lru_cache": "fastcache:clru_cache"}).
Modules: TypeAlias = Mapping[str, str | Mapping[str, str]]


@dataclass(frozen=True)
class Sdist:
    """One release on the package index; sha256 is that of its .tar.gz."""

    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.name.lower().replace('-', '_')}-{self.version}.tar.gz"


@dataclass(frozen=True)
class Report:
    """What became of each test, by its id below the folder of the tests.

    outcomes: passed, failed, error (outside of the test's own function, or at import), skipped,
    xfailed or xpassed. details: what pytest says of those that did not pass. modules: name -> file
    of the modules that were put in, and `__file__` of what they were made of.
    """

    outcomes: dict[str, str]
    details: dict[str, str]
    modules: dict[str, str]

    def ids(self, outcome: str) -> list[str]:
        return sorted(test for test, became in self.outcomes.items() if became == outcome)


def unpacked(sdist: Sdist, into: Path) -> Path:
    """The unpacked folder of an sdist, below `into`; fetched once per user.

    Skips the calling test where the sdist cannot be had, fails it if CI is set.
    """
    archive = downloads() / sdist.filename
    if not archive.exists() or digest(archive) != sdist.sha256:
        archive = fetch(sdist, archive)
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    (folder,) = (path for path in into.iterdir() if path.is_dir())
    return folder


def run(
    tests: Path,
    modules: Modules,
    *,
    plugins: Sequence[str] = (),
    options: Sequence[str] = (),
    ini: Mapping[str, str] | None = None,
) -> Report:
    """Run a folder of tests in an interpreter in which `modules` are what is imported.

    Plugins of pytest are loaded only if named here (by module: "pytest_asyncio.plugin"). options:
    of pytest. ini: settings of pytest, those of the sdist are not read. AssertionError with the
    output if the run itself fails: a crash, a hang, a plugin or a module that is not there.
    """
    with tempfile.TemporaryDirectory(prefix="fastcache-sdist-") as work:
        folder = Path(work, tests.name)
        shutil.copytree(tests, folder)
        lines = "".join(f"{name} = {value}\n" for name, value in (ini or {}).items())
        folder.joinpath("pytest.ini").write_text(f"[pytest]\n{lines}")
        request, answer = Path(work, "request.json"), Path(work, "answer.json")
        named = [option for plugin in plugins for option in ("-p", plugin)]
        request.write_text(
            json.dumps(
                {
                    "modules": {
                        name: target if isinstance(target, str) else dict(target)
                        for name, target in modules.items()
                    },
                    "answer": str(answer),
                    "pytest": [
                        *("-v", "-rN", "-p", "no:cacheprovider", "-p", "pytest_timeout"),
                        *("--timeout", str(TEST_LIMIT), "--continue-on-collection-errors"),
                        *("--rootdir", str(folder), "-c", str(folder / "pytest.ini")),
                        *named,
                        *options,
                        str(folder),
                    ],
                }
            )
        )
        env = child_environment() | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        env.pop("PYTEST_ADDOPTS", None)
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / "run_sdist.py"), str(request)],
                env=env,
                cwd=work,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=RUN_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(
                f"{tests}: not done after {RUN_LIMIT} s\n{error.stdout!r}"
            ) from None
        # 1 is what pytest makes of failed tests, and Python of an exception before pytest
        whole = done.returncode in (0, 1) and answer.exists()
        assert whole, f"{tests}: exit code {done.returncode}\n{done.stdout}"
        return Report(**json.loads(answer.read_text()))


def judge(report: Report, *, passed: int, exceptions: Mapping[str, str]) -> None:
    """Assert that exactly `passed` tests passed, and that exactly `exceptions` did not.

    exceptions: id -> the reason why the test cannot hold here.
    """
    failed = {test for test, became in report.outcomes.items() if became != "passed"}
    complaints = [
        f"{test} {report.outcomes[test]}:\n{report.details.get(test, '')}"
        for test in sorted(failed - exceptions.keys())
    ]
    complaints += [
        f"{test} {'passes' if test in report.outcomes else 'does not exist'}, "
        "so it has no place among the exceptions"
        for test in sorted(exceptions.keys() - failed)
    ]
    complaints += [f"{test} needs a reason" for test in sorted(exceptions) if not exceptions[test]]
    assert not complaints, "\n".join(complaints)
    found = len(report.ids("passed"))
    assert found == passed, f"{found} tests passed, expected were {passed}"


def downloads() -> Path:
    """The folder that keeps the sdists between runs; not yet made."""
    if given := os.environ.get("FASTCACHE_DOWNLOADS"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "fastcache-tests")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(sdist: Sdist, archive: Path) -> Path:
    """Get the sdist from the index, to `archive`; pip itself refuses one with another hash."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        wanted = Path(work, "wanted.txt")
        wanted.write_text(f"{sdist.name}=={sdist.version} --hash=sha256:{sdist.sha256}\n")
        # pip wants the metadata of what it downloads, and for those it runs the build backend:
        # setuptools for all of them, and the installed one, which the extra `test` brings.
        command = [
            *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
            *("--retries", "1", "--no-deps", "--no-binary", ":all:"),
            *("--no-build-isolation", "--use-pep517", "--dest", work, "--requirement", str(wanted)),
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=FETCH_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            missing(sdist, f"pip was not done after {FETCH_LIMIT} s")
        if "DO NOT MATCH THE HASHES" in done.stdout:
            pytest.fail(f"{sdist.filename} on the index is not what it was:\n{done.stdout}")
        got = list(Path(work).glob("*.tar.gz"))
        if done.returncode or len(got) != 1:
            missing(sdist, f"pip ended with {done.returncode}:\n{done.stdout}")
        got[0].replace(archive)  # atomic: runs in parallel see all of it or nothing
    return archive


def missing(sdist: Sdist, reason: str) -> NoReturn:
    """Skip loudly; where CI is set nobody reads the skips, so there it is a failure."""
    message = f"no sdist of {sdist.name} {sdist.version}, so its tests ARE NOT RUN: {reason}"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(message)
    pytest.skip(message)
