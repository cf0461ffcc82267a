"""The harness for other projects' tests: that it can fail, and says why."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from conformance.sdists import Report, Sdist, fetch, judge, run, unpacked

TESTS = """
import unittest
import pytest
import subject, subject.inner

def test_good():
    assert subject.abs(-1) == subject.inner.sqrt(1) == 1

def test_bad():
    assert subject.abs(-1) == -1

@pytest.fixture
def broken():
    raise ValueError("no fixture")

def test_error(broken):
    pass

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass

@pytest.mark.xfail
def test_xfailed():
    assert 0

class Case(unittest.TestCase):
    def test_case(self):
        self.assertEqual(subject.shadowed, 2)
"""
MODULES = {
    "subject": {"abs": "builtins_of_ours:abs", "shadowed": "builtins_of_ours:two"},
    "subject.inner": "math",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests, and beside them the package that must not be found."""
    root = tmp_path_factory.mktemp("sdist")
    (root / "subject").mkdir()
    (root / "subject" / "__init__.py").write_text("shadowed = 1\nabs = abs\n")
    (root / "tests").mkdir()
    (root / "tests" / "__init__.py").touch()
    (root / "tests" / "test_it.py").write_text(TESTS)
    (root / "tests" / "test_import.py").write_text("import subject.absent\n")
    return root / "tests"


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    ours = tmp_path_factory.mktemp("ours")
    (ours / "builtins_of_ours.py").write_text("two = 2\nabs = abs\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ours))
        return run(folder, MODULES)


EXPECTED = {
    "test_import.py": "error",
    "test_it.py::Case::test_case": "passed",
    "test_it.py::test_bad": "failed",
    "test_it.py::test_error": "error",
    "test_it.py::test_good": "passed",
    "test_it.py::test_skipped": "skipped",
    "test_it.py::test_xfailed": "xfailed",
}
EXCEPTIONS = {test: "made to fail" for test, became in EXPECTED.items() if became != "passed"}


def test_each_outcome_is_told(report: Report) -> None:
    assert report.outcomes == EXPECTED
    assert "assert 1 == -1" in report.details["test_it.py::test_bad"]
    assert "no fixture" in report.details["test_it.py::test_error"]
    assert "subject.absent" in report.details["test_import.py"]
    assert report.modules["subject"].endswith("builtins_of_ours.py")


def test_the_exact_list_is_accepted(report: Report) -> None:
    judge(report, passed=2, exceptions=EXCEPTIONS)


@pytest.mark.parametrize(
    ("passed", "without", "extra", "complaint"),
    [
        (2, "test_it.py::test_bad", {}, "assert 1 == -1"),
        (2, "test_it.py::test_skipped", {}, "skipped"),
        (2, None, {"test_it.py::test_good": "no"}, "test_good passes"),
        (2, None, {"test_it.py::test_gone": "no"}, "test_gone does not exist"),
        (2, None, {"test_it.py::test_bad": ""}, "test_bad needs a reason"),
        (3, None, {}, "2 tests passed, expected were 3"),
    ],
)
def test_anything_else_is_an_error(
    report: Report, passed: int, without: str | None, extra: dict[str, str], complaint: str
) -> None:
    exceptions = {test: why for test, why in EXCEPTIONS.items() if test != without} | extra
    with pytest.raises(AssertionError) as caught:
        judge(report, passed=passed, exceptions=exceptions)
    assert complaint in str(caught.value)


def test_a_run_that_cannot_start_is_an_error(folder: Path) -> None:
    with pytest.raises(AssertionError, match="no_such_module"):
        run(folder, {"subject": "no_such_module"})
    with pytest.raises(AssertionError, match="no_such_plugin"):
        run(folder, {}, plugins=["no_such_plugin"])


def test_a_crash_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_crash.py").write_text("import os\ndef test_it():\n    os.abort()\n")
    with pytest.raises(AssertionError, match="test_it"):
        run(tmp_path, {})


# Getting them. An index of files stands for the package index.

SETUP = "from setuptools import setup\nsetup(name='Some-thing', version='1.5')\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the sdist of one project."""
    root = tmp_path_factory.mktemp("index")
    top = root / "some_thing-1.5"
    (top / "tests").mkdir(parents=True)
    (top / "setup.py").write_text(SETUP)
    (top / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: Some-thing\nVersion: 1.5\n")
    (top / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    with tarfile.open(root / "some_thing-1.5.tar.gz", "w:gz") as tar:
        tar.add(top, top.name)
    return root


@pytest.fixture
def only_this_index(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sdist:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", index.as_uri())
    monkeypatch.setenv("FASTCACHE_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.delenv("CI", raising=False)
    content = (index / "some_thing-1.5.tar.gz").read_bytes()
    return Sdist("Some-thing", "1.5", hashlib.sha256(content).hexdigest())


def test_an_sdist_is_fetched_once(
    only_this_index: Sdist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpacked(only_this_index, tmp_path / "first")
    assert (folder.name, (folder / "setup.py").read_text()) == ("some_thing-1.5", SETUP)
    kept = list((tmp_path / "downloads").iterdir())
    assert [path.name for path in kept] == ["some_thing-1.5.tar.gz"]
    monkeypatch.setattr(subprocess, "run", None)  # nothing can be fetched from here on
    assert (unpacked(only_this_index, tmp_path / "second") / "tests" / "test_it.py").exists()


def test_a_file_that_was_changed_is_fetched_anew(only_this_index: Sdist, tmp_path: Path) -> None:
    kept = tmp_path / "downloads" / only_this_index.filename
    kept.parent.mkdir()
    kept.write_bytes(b"something else")
    assert (unpacked(only_this_index, tmp_path / "it") / "setup.py").read_text() == SETUP


def test_another_hash_fails(only_this_index: Sdist, tmp_path: Path) -> None:
    other = Sdist("Some-thing", "1.5", "0" * 64)
    with pytest.raises(pytest.fail.Exception, match="is not what it was"):
        unpacked(other, tmp_path / "it")


def test_without_an_index_it_is_skipped_and_in_ci_it_fails(
    only_this_index: Sdist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Sdist("Some-thing", "9.9", "0" * 64)
    with pytest.raises(pytest.skip.Exception, match=r"Some-thing 9\.9.*ARE NOT RUN.*pip ended"):
        fetch(absent, tmp_path / "downloads" / absent.filename)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="ARE NOT RUN"):
        fetch(absent, tmp_path / "downloads" / absent.filename)
