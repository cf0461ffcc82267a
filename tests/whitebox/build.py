"""Builds and imports the white-box extension, which is for tests alone and never shipped.

It is compiled against the .pxd files of the `fastcache` that is imported, so that a run against an
installed wheel checks what the wheel holds. It is a debug build where that one is (the layouts have
to agree); FASTCACHE_SANITIZE is read as by setup.py.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import Cython

import fastcache
from fastcache import _core

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "_whitebox.pyx"
PACKAGE = Path(fastcache.__file__).resolve().parent
NAME = "_whitebox"

DEBUG = hasattr(_core, "_live_caches")
SANITIZE = os.environ.get("FASTCACHE_SANITIZE", "")

# Runs in a process of its own: neither a preloaded sanitizer nor the warning filters of the test
# session are any business of the compiler.
SCRIPT = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup

name, source, package, work, debug, sanitize = sys.argv[1:]
flags = [f"-fsanitize={sanitize}"] if sanitize else []
msvc = sys.platform == "win32"
extension = Extension(
    name,
    [source],
    include_dirs=[f"{package}/_struct"],
    define_macros=[("FASTCACHE_DEBUG", "1")] if debug else [],
    extra_compile_args=[] if msvc else ["-O1", "-g", *flags, "-fno-sanitize-recover=all"],
    extra_link_args=flags,
)
(extension,) = cythonize(
    [extension],
    build_dir=f"{work}/c",
    include_path=[package.rpartition("/")[0]],
    language_level=3,
    compiler_directives={"cdivision": True},
)
setup(
    name=name,
    ext_modules=[extension],
    script_args=["-q", "build_ext", "--build-lib", f"{work}/lib", "--build-temp", f"{work}/temp"],
)
"""


def build() -> ModuleType:
    """The imported white-box module; compiled when something it depends on has changed.

    The first build takes some seconds. A compiler's error is raised as RuntimeError with its whole
    output.
    """
    work = _work_directory()
    target = work / "lib" / (NAME + sysconfig.get_config_var("EXT_SUFFIX"))
    if not target.exists():
        _compile(work)
    spec = importlib.util.spec_from_file_location(NAME, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _work_directory() -> Path:
    """One directory for each content of the sources, interpreter and set of switches."""
    digest = hashlib.sha256()
    package = [p for p in sorted(PACKAGE.rglob("*")) if p.suffix in (".pxd", ".h")]
    sources = [p for p in sorted(HERE.rglob("_whitebox*")) if p.is_file()]
    for path in [*package, *sources, Path(__file__)]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(repr((Cython.__version__, sys.version, DEBUG, SANITIZE)).encode())
    checkout = HERE.parents[1]
    if (checkout / "setup.py").exists():
        base = checkout / "build" / "whitebox"
    else:
        base = Path(tempfile.gettempdir()) / f"fastcache-whitebox-{_user()}"
    return base / digest.hexdigest()[:16]


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "windows"


def _compile(work: Path) -> None:
    work.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Built aside and renamed when whole: two test sessions may build at the same time.
    with tempfile.TemporaryDirectory(dir=work.parent) as aside:
        environment = {
            k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONMALLOC")
        }
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                SCRIPT,
                NAME,
                str(SOURCE),
                PACKAGE.as_posix(),
                aside,
                "1" if DEBUG else "",
                SANITIZE,
            ],
            cwd=aside,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"cannot build {SOURCE.name}:\n{done.stdout}\n{done.stderr}")
        with contextlib.suppress(OSError):  # another session was first
            os.rename(aside, work)
        Path(aside).mkdir(exist_ok=True)  # what TemporaryDirectory expects to remove


if __name__ == "__main__":
    print(build().__file__)
