"""That the older package `fastcache` in the same folder is found, and said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _support import LIMIT
from conformance.sdists import unpacked
from conformance.test_old_fastcache import OLD

import fastcache
from fastcache._foreign import find

PACKAGE = Path(fastcache.__file__).resolve().parent
OLD_INIT = "from ._lrucache import clru_cache\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with something like this one in it."""
    (tmp_path / "fastcache").mkdir()
    (tmp_path / "fastcache" / "__init__.py").write_text("from fastcache._core import Cache\n")
    (tmp_path / "fastcache_engine-0.1.0.dist-info").mkdir()
    (tmp_path / "fastcache_redis-1.0.dist-info").mkdir()
    return tmp_path


def test_here_there_is_none() -> None:
    assert find() is None


def test_alone_it_is_fine(site: Path) -> None:
    assert find(str(site / "fastcache")) is None


@pytest.mark.parametrize(
    "name",
    [
        "fastcache-1.1.0.dist-info",
        "fastcache-1.1.0.egg-info",
        "fastcache-1.1.0-py3.11.egg-info",
        "fastcache/_lrucache.cpython-313-x86_64-linux-gnu.so",
        "fastcache/_lrucache.pyd",
    ],
)
def test_leftovers_are_named(site: Path, name: str) -> None:
    (site / name).touch()
    found = find(str(site / "fastcache"))
    assert found is not None
    problem, broken = found
    assert Path(name).name in problem and "pip uninstall fastcache" in problem and not broken


def test_theirs_on_top(site: Path) -> None:
    (site / "fastcache" / "__init__.py").write_text(OLD_INIT)
    found = find(str(site / "fastcache"))
    assert found is not None and found[1] and "installed over fastcache-engine" in found[0]


def test_nothing_on_top(site: Path) -> None:
    (site / "fastcache" / "__init__.py").unlink()
    found = find(str(site / "fastcache"))
    assert found is not None and found[1] and "no __init__.py" in found[0]


# The real one.


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the older package was installed by pip."""
    source = unpacked(OLD, tmp_path_factory.mktemp("sdist"))
    target = tmp_path_factory.mktemp("site") / "packages"
    command = [
        *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
        *("--no-index", "--no-deps", "--no-build-isolation", "--use-pep517"),
        *("--target", str(target), str(source)),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode and shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip(f"no compiler for the older package:\n{done.stdout}")
    assert done.returncode == 0, done.stdout
    return target


def installed(site: Path, *, first: Path, second: Path) -> None:
    """Lay two installations into one folder, as pip does."""
    for source in (first, second):
        shutil.copytree(
            source, site, ignore=shutil.ignore_patterns("__pycache__", "*.c"), dirs_exist_ok=True
        )


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    folder = tmp_path / "ours"
    shutil.copytree(PACKAGE, folder / "fastcache", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, "-S", *arguments],  # without what else is installed
        env=env,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_this_one_installed_over_the_older_works_and_warns(
    old: Path, ours: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    installed(site, first=old, second=ours)
    done = python(site, "-c", "from fastcache import Cache; print(Cache(1).maxsize)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    done = python(site, "-m", "fastcache", "bench", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage:")
    assert "_lrucache." in done.stderr and "fastcache-1.1.0.dist-info" in done.stderr
    assert str(site) in done.stderr and "Traceback" not in done.stderr

    # pip uninstall fastcache
    record = (old / "fastcache-1.1.0.dist-info" / "RECORD").read_text()
    for line in record.splitlines():
        (site / line.split(",")[0]).unlink(missing_ok=True)
    done = python(site, "-m", "fastcache", "bench", "--help")
    assert done.returncode == 1 and "no __init__.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_older_installed_over_this_one_is_said(old: Path, ours: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    installed(site, first=ours, second=old)
    done = python(site, "-c", "import fastcache; print(fastcache.__version__)")
    assert (done.returncode, done.stdout) == (0, "1.1.0\n"), done.stderr
    done = python(site, "-m", "fastcache", "bench", "--help")
    assert done.returncode == 1 and "installed over fastcache-engine" in done.stderr
    assert "--force-reinstall" in done.stderr and "Traceback" not in done.stderr
