"""What is in the wheel and in the sdist, and that the wheel works where it is installed.

The distributions are those in FASTCACHE_DIST, else they are built once: the sdist from the tree,
the wheel from the sdist.
"""

import email.message
import email.parser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_TREE = (ROOT / "setup.py").exists()
GIVEN = os.environ.get("FASTCACHE_DIST", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not GIVEN and not IN_TREE, reason="neither FASTCACHE_DIST nor the sources"),
    pytest.mark.skipif(
        bool(os.environ.get("FASTCACHE_SANITIZE")), reason="distributions are release builds"
    ),
]

SUFFIXES = {".py", ".pyi", ".pxd", ".h", ".typed"}


def release_environment() -> dict[str, str]:
    """The environment without this project's build switches and without preloaded libraries."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FASTCACHE_") and name not in ("LD_PRELOAD", "PYTHONMALLOC")
    }


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds one sdist and one wheel."""
    if GIVEN:
        return Path(GIVEN)
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=500,
        env=release_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist_names(dist: Path) -> set[str]:
    """Names below the one top folder."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {
            name.partition("/")[2]
            for name in archive.getnames()
            if archive.getmember(name).isfile()
        }


@pytest.fixture(scope="module")
def wheel_metadata(wheel: Path, wheel_names: set[str]) -> email.message.Message:
    (name,) = (name for name in wheel_names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return email.parser.BytesParser().parsebytes(archive.read(name))


def test_wheel_holds_the_package_and_no_source_of_the_engine(wheel_names: set[str]) -> None:
    package = {name for name in wheel_names if ".dist-info/" not in name}
    extensions = {name for name in package if name.endswith((".so", ".pyd"))}
    assert len(extensions) == 1
    assert next(iter(extensions)).startswith("fastcache/_core.")
    strange = {
        name
        for name in package - extensions
        if not name.startswith("fastcache/") or Path(name).suffix not in SUFFIXES
    }
    assert strange == set()
    assert {"fastcache/__init__.py", "fastcache/py.typed", "fastcache/_core.pyi"} <= package


def test_wheel_holds_what_the_sdist_holds(wheel_names: set[str], sdist_names: set[str]) -> None:
    """Every Python file, stub, .pxd and header: none forgotten, none left over from elsewhere."""
    shipped = {
        name
        for name in sdist_names
        if name.startswith("fastcache/") and (Path(name).suffix in SUFFIXES)
    }
    assert any(name.startswith("fastcache/_struct/") for name in shipped)
    assert shipped == {
        name
        for name in wheel_names
        if name.startswith("fastcache/") and not name.endswith((".so", ".pyd"))
    }


def test_wheel_metadata(wheel_metadata: email.message.Message) -> None:
    assert wheel_metadata["Name"] == "fastcache-engine"
    assert wheel_metadata["License-Expression"] == "MIT"
    assert wheel_metadata["Requires-Python"] == ">=3.11"
    needed = wheel_metadata.get_all("Requires-Dist") or []
    assert [line for line in needed if "extra ==" not in line] == []
    assert {"bench", "test", "dev"} <= set(wheel_metadata.get_all("Provides-Extra") or [])
    assert wheel_metadata.get_payload().strip(), "the README is the long description"


def test_version_is_one(wheel_metadata: email.message.Message) -> None:
    import fastcache

    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", wheel_metadata["Version"])
    assert metadata.version("fastcache-engine") == wheel_metadata["Version"]
    if "__version__" in fastcache.__all__:
        assert fastcache.__version__ == wheel_metadata["Version"]


def test_sdist_holds_what_is_needed_to_build_and_test(sdist_names: set[str]) -> None:
    needed = {
        *("CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "pyproject.toml"),
        *("setup.py", ".ci/run", "docs/conf.py", "tools/pythons", "tools/test-installed"),
        *("fastcache/_core.pyx", "fastcache/_core.pyi", "fastcache/py.typed"),
        *("tests/conftest.py", "tests/test_packaging.py", "tests/whitebox/build.py"),
    }
    assert needed - sdist_names == set()
    assert [
        name for name in sdist_names if name.endswith((".c", ".so", ".pyd", ".o", ".pyc"))
    ] == []


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_sdist_is_the_repository(sdist_names: set[str]) -> None:
    """Each file that git holds (or would hold), and nothing else but the metadata."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    tracked = {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}
    made = {
        name
        for name in sdist_names
        if name in ("PKG-INFO", "setup.cfg") or name.startswith("fastcache_engine.egg-info/")
    }
    assert tracked - sdist_names - {".gitignore"} == set()
    assert sdist_names - made - tracked == set()


def test_installed_wheel_works_on_its_own(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
         "--disable-pip-version-check", "--target", str(target), str(wheel)],
        check=True, timeout=120, env=release_environment(),
    )  # fmt: skip
    code = (
        "import fastcache\n"
        "f = fastcache.lru_cache(maxsize=2)(abs)\n"
        "print(f(-1), f(-1), f.cache_info().hits)\n"
        "print(fastcache.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env=release_environment() | {"PYTHONPATH": str(target)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "1", str(target / "fastcache" / "__init__.py")]
