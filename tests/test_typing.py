"""The types that users see, through mypy: the files in typing/ pass, and a wrong one does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastcache

pytest.importorskip("mypy", reason="needs mypy")

CASES = Path(__file__).resolve().parent / "typing"
PACKAGE = Path(fastcache.__file__).resolve().parent


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mypy's memory of the standard library, for all runs of this module."""
    return tmp_path_factory.mktemp("mypy")


def run_mypy(cache_dir: Path, *files: Path) -> tuple[int, str]:
    # mypy is not what a sanitizer should look at
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONMALLOC")}
    if PACKAGE.parent.name != "site-packages":  # there mypy finds it, and refuses to be told
        environment["MYPYPATH"] = str(PACKAGE.parent)
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache_dir}",
        "--enable-error-code=ignore-without-code", "--follow-imports=silent", *map(str, files),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env=environment, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_cases_have_the_types_that_they_say(cache_dir: Path) -> None:
    code, output = run_mypy(cache_dir, *sorted(CASES.glob("*.py")))
    assert code == 0, output


def test_a_wrong_type_is_told(cache_dir: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from fastcache import Cache, lru_cache\n"
        "\n"
        "@lru_cache\n"
        "def f(x: int) -> int: return x\n"
        "f('')\n"
        "c: Cache[str, int] = Cache(1)\n"
        "c.get('').upper()\n"
    )
    code, output = run_mypy(cache_dir, wrong)
    assert code == 1, output
    assert {line.split(":")[1] for line in output.splitlines() if ": error:" in line} == {"5", "7"}
