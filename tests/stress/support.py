"""What the stress tests share; imported by them and by the scripts that they run in children."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
#: Seconds that a child may take. Never slept for: only a limit.
LIMIT = 3600 if SOAK else 120
#: Time and memory mean little in such builds, but the structure must stay whole all the same.
INSTRUMENTED = any(
    os.environ.get(f"FASTCACHE_{name}", "") not in ("", "0")
    for name in ("DEBUG", "SANITIZE", "COVERAGE")
)

PREAMBLE = """\
import faulthandler
faulthandler.enable()
faulthandler.dump_traceback_later({limit}, exit=True)
import gc, os, sys, threading, weakref
from fastcache import Cache, lru_cache
from stress.support import *
"""


def scaled(quick: int, full: int) -> int:
    """A number of rounds: `full` when soaking, else `quick`."""
    return full if SOAK else quick


def child_environment() -> dict[str, str]:
    """Environment in which a child finds the fastcache under test and this module."""
    env = dict(os.environ)
    paths = [str(Path(__file__).parent.parent)]
    spec = importlib.util.find_spec("fastcache")
    if spec is not None and spec.origin is not None:
        paths.append(str(Path(spec.origin).parent.parent))
    env["PYTHONPATH"] = os.pathsep.join([*paths, env.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return env


def run_child(script: str, *arguments: object, limit: float = LIMIT) -> str:
    """Standard output of `script`, run in an interpreter of its own; must exit with code 0.

    Before the limit the child prints the stacks of all its threads, so that a hang says where.
    """
    code = PREAMBLE.format(limit=limit) + textwrap.dedent(script)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=limit + 30,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"the child hangs:\n{error.stdout!r}\n{error.stderr!r}") from None
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def memory() -> int:
    """Resident size of this process in bytes (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Collides:
    """A key with a chosen hash, equal by `name`; counts its comparisons."""

    compared = 0

    def __init__(self, name: object, hash_: int = 7) -> None:
        self.name = name
        self.hash = hash_

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        Collides.compared += 1
        return isinstance(other, Collides) and self.name == other.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Hooked(Collides):
    """A colliding key whose `__eq__` first calls `Hooked.hook`, never within itself."""

    hook: Any = None
    calls = 0

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        hook, Hooked.hook = Hooked.hook, None
        if hook is not None:
            Hooked.calls += 1
            try:
                hook()
            finally:
                Hooked.hook = hook
        return super().__eq__(other)


class Token:
    """Something that weak references can watch."""


def whole(cache: Any) -> None:
    """The structure of `cache` is whole, and what it shows is consistent."""
    cache._check()
    keys = list(cache)
    assert len(keys) <= len(cache)
    if cache.maxsize is not None:
        assert cache.weight <= cache.maxsize
