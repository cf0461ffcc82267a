"""The conditions of a run: machine, interpreter, commit, versions, load."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .subjects import Presence

_HERE = Path(__file__).resolve()


def cpu_model() -> str:
    """Return the CPU's name as the system gives it, or the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.lower().startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: fall through to what the platform module knows
    return platform.processor() or platform.machine()


def build_of_python() -> dict[str, Any]:
    """Return how this interpreter was built: `pgo`, `lto` (bool), and the `evidence` for it.

    CONFIG_ARGS says it for builds configured with --enable-optimizations. Debian's and Ubuntu's
    packages run the profile-guided target by themselves and clean the flags away, and are known
    by the folder of wheels that only their packages configure.
    """
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    pgo = "--enable-optimizations" in arguments
    evidence = "--enable-optimizations " + ("in" if pgo else "not in") + " CONFIG_ARGS"
    lto = "--with-lto" in arguments
    if not pgo and "--with-wheel-pkg-dir=/usr/share/python-wheels" in arguments:
        pgo, evidence = True, "distribution package: built with PGO, CONFIG_ARGS does not say so"
    if not arguments:
        evidence = "no CONFIG_ARGS on this platform: unknown, taken as no"
    return {"pgo": pgo, "lto": lto, "evidence": evidence}


def commit() -> str | None:
    """Return the commit of the source tree this package lies in, `+` if changed; None outside."""
    folder = _HERE.parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", "fastcache")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout.strip()


def huge_pages() -> str:
    """Return the system's setting of transparent huge pages, or ''."""
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]


def load_average() -> list[float] | None:
    """Return the system's load averages (1, 5, 15 minutes), None where there are none."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def gather(peers: Mapping[str, Presence], us: Presence) -> dict[str, Any]:
    """Return the conditions at the start of a run, ready for JSON."""
    build = build_of_python()
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "build": build,
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "fastcache": us.version or None,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": load_average(),
        "huge_pages": huge_pages(),
        "peers": {name: presence.version for name, presence in peers.items() if presence.version},
        "absent": {name: presence.absent for name, presence in peers.items() if presence.absent},
    }
