"""Builds the one extension module, `fastcache._core`; all metadata is in pyproject.toml.

Switches in the environment:
- FASTCACHE_DEBUG=1: C macro of the same name, Cython assertions, hardly any optimisation.
- FASTCACHE_SANITIZE=address,undefined (or thread): sanitizers of GCC and Clang.
- FASTCACHE_COVERAGE=1: gcov.
"""

import contextlib
import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

DEBUG = os.environ.get("FASTCACHE_DEBUG", "") not in ("", "0")
COVERAGE = os.environ.get("FASTCACHE_COVERAGE", "") not in ("", "0")
SANITIZE = os.environ.get("FASTCACHE_SANITIZE", "")
CONFIGURATION = "-".join(
    word for word in ("debug" * DEBUG or "release", SANITIZE, "coverage" * COVERAGE) if word
)
BUILD = Path("build")
GENERATED = BUILD / "cython" / CONFIGURATION
DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "cdivision": True,
    **dict.fromkeys(("auto_pickle", "autotestdict", "binding"), False),
    **dict.fromkeys(("boundscheck", "initializedcheck", "wraparound"), False),
}


def compiler_flags(kind: str) -> tuple[list[str], list[str]]:
    """Of the compiler and the linker; `kind` is setuptools' name for the compiler."""
    if kind == "msvc":
        return (["/Od", "/Zi"] if DEBUG else ["/O2"]), (["/DEBUG"] if DEBUG else [])
    compile_args, link_args = ["-Wno-unused-function"], []  # Cython emits helpers it does not use
    compile_args += ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3"]
    if SANITIZE:
        link_args = [f"-fsanitize={SANITIZE}"]
        compile_args += [*link_args, "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    coverage = ["-O0", "--coverage"] * COVERAGE
    return compile_args + coverage, link_args + coverage


class BuildExt(build_ext):
    """Cythonizes only when something is to be compiled: metadata and the sdist stay cheap."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.editable_mode:  # so that `build_ext --inplace` finds what `pip install -e` compiled
            self.build_lib = str(BUILD / f"lib.{self.plat_name}-{sys.implementation.cache_tag}")
        self.build_temp = os.path.join(self.build_temp, CONFIGURATION)

    def build_extension(self, ext: Extension) -> None:
        from Cython.Build import cythonize

        # Changed switches count as a changed source: the names of the outputs do not tell them.
        if not (switches := BUILD / "switches").exists() or switches.read_text() != CONFIGURATION:
            switches.write_text(CONFIGURATION)
        ext.sources = cythonize(
            [ext],
            build_dir=str(GENERATED),
            compiler_directives=DIRECTIVES,
            emit_linenums=bool(SANITIZE or COVERAGE),
            force=newer_group(ext.depends, str(GENERATED / "fastcache" / "_core.c")),
        )[0].sources
        ext.depends = [*ext.depends, str(switches)]
        ext.extra_compile_args, ext.extra_link_args = compiler_flags(self.compiler.compiler_type)
        super().build_extension(ext)


@contextlib.contextmanager
def one_build_at_a_time():
    """Builds of one tree share build/ and the extension beside the sources."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        with contextlib.suppress(ImportError):  # no fcntl on Windows: builds are not guarded there
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


SOURCES = [p for end in ("pyx", "pxd", "pxi", "h") for p in Path("fastcache").rglob(f"*.{end}")]
CORE = Extension(
    "fastcache._core",
    ["fastcache/_core.pyx"],
    include_dirs=["fastcache/_struct"],
    define_macros=[
        ("FASTCACHE_DEBUG" if DEBUG else "CYTHON_WITHOUT_ASSERTIONS", "1"),
        # Cython 3.3's other way into __init__ releases what it never had when memory runs out
        ("CYTHON_VECTORCALL_TPNEW", "0"),
    ],
    depends=["setup.py", *sorted(map(str, SOURCES))],
)

if __name__ == "__main__":
    with one_build_at_a_time():
        setup(ext_modules=[CORE], cmdclass={"build_ext": BuildExt})
