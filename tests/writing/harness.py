"""What is known of writes by processes that may have been killed, and what the source must have then."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stress.support import child_environment

VICTIM = Path(__file__).with_name("victim.py")
LIMIT = 120.0


class Ledger:
    """Acknowledged writes, and those of which nobody knows, since their process died meanwhile."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.maybe: dict[str, int] = {}
        self.values: dict[str, set[str]] = {}
        self.acknowledged = 0

    def read(self, lines: Iterable[str]) -> None:
        """One process's output, in order; processes are one after the other."""
        trying: list[str] | None = None
        for line in lines:
            word, *rest = line.split()
            if word == "try":
                trying = rest
            elif word == "ok":
                assert rest == trying, (rest, trying)
                self.acknowledged += 1
                kind, key, value = rest
                if kind == "incr":
                    self.sums[key] = self.sums.get(key, 0) + int(value)
                else:
                    self.values[key] = {value}
                trying = None
        if trying is not None:
            kind, key, value = trying
            if kind == "incr":
                self.maybe[key] = self.maybe.get(key, 0) + int(value)
            else:
                self.values[key] = self.values.get(key, {"-"}) | {value}

    def check(self, found: dict[str, Any]) -> None:
        """Nothing acknowledged is missing, nothing has happened twice, the last write of each key is there."""
        for key in {*self.sums, *self.maybe}:
            low = self.sums.get(key, 0)
            high = low + self.maybe.get(key, 0)
            assert low <= found.get(key, 0) <= high, (key, low, found.get(key), high)
        for key, allowed in self.values.items():
            assert found.get(key, "-") in allowed, (key, found.get(key, "-"), allowed)


def start(
    source: str, journal: Path, durability: str, seed: int, count: int, end: str, *l2: str
) -> Any:
    return subprocess.Popen(
        [sys.executable, VICTIM, source, journal, durability, str(seed), str(count), end, *l2],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_after(process: Any, lines: int, number: int = signal.SIGKILL) -> list[str]:
    """Kill it once it has said so much; everything it said."""
    said: list[str] = []
    assert process.stdout is not None
    while len(said) < lines and (line := process.stdout.readline()):
        said.append(line)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
    said += process.stdout.readlines()
    errors = process.stderr.read()
    assert process.wait(LIMIT) in (0, -number, 128 + number), errors
    process.stdout.close()
    process.stderr.close()
    return said


def finish(
    source: str, journal: Path, durability: str = "process", seed: int = 0, *l2: str
) -> list[str]:
    """A last process, which adopts everything and drains it; its output."""
    process = start(source, journal, durability, seed, 3, "flush", *l2)
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert out.splitlines()[-1] == "done 0", out
    return list(out.splitlines())
