"""Counts instructions per operation with callgrind.

One valgrind process per row runs every subject for one pass and for three, between calls of
``getppid``, where callgrind dumps and restarts its counts (``--dump-before=getppid``). The
difference of the two lengths, divided by two passes, minus the same of the empty loop, is the cost
of the statement: what is constant (the call of the loop, the dump) cancels out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .model import Cell, Program, Result
from .runner import WORKER, wanted
from .subjects import OLD

#: Seconds that valgrind may take for one row.
LIMIT = 900.0
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class CallgrindError(Exception):
    """Valgrind is missing or failed; the message says what it said."""


def find_valgrind() -> str | None:
    """Return the path of valgrind, or None."""
    return shutil.which("valgrind")


def package_path() -> str:
    """Return the folder that holds the `fastcache` under test, for child processes."""
    return str(Path(__file__).resolve().parents[2])


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment in which children find the same `fastcache` as this process."""
    environment = dict(os.environ)
    environment["FASTCACHE_BENCH_PATH"] = package_path()
    environment.update(extra)
    return environment


def count_row(
    result: Result, peers: Iterable[str], python: str = sys.executable, limit: float = LIMIT
) -> None:
    """Fill the instructions of a row's cells. Raises CallgrindError if valgrind fails.

    The interpreter of `old-fastcache` is another one, whose loop costs differently: it is not
    counted. Hash seed and memory addresses are fixed, so that counts repeat to about 1 in 300.
    """
    programs = [program for program in wanted(result.row, peers) if program.subject != OLD]
    assert result.row.empty is not None
    passes = _count([result.row.empty, *programs], python, limit)
    empty, count, error = passes[0]
    if error or not count:
        raise CallgrindError(f"{result.row.name}: the empty loop: {error}")
    bare = empty / count
    for program, (total, count, error) in zip(programs, passes[1:], strict=True):
        cell = result.cells.setdefault(program.subject, Cell())
        if error:
            cell.error = cell.error or error
        else:
            cell.instructions = (total / count - bare) / program.ops


def _count(programs: list[Program], python: str, limit: float) -> list[tuple[float, int, str]]:
    """Return per program: instructions of one pass, statements in one pass, error."""
    valgrind = find_valgrind()
    if valgrind is None:
        raise CallgrindError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="fastcache-bench-") as folder:
        job, answers, out = (Path(folder, name) for name in ("job.json", "answers.json", "out"))
        content = {"programs": [program.as_dict() for program in programs], "answers": str(answers)}
        job.write_text(json.dumps(content), encoding="utf-8")
        command = [
            valgrind, "-q", "--tool=callgrind", f"--callgrind-out-file={out}",
            "--dump-before=getppid", python, str(WORKER), "count", str(job),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                env=child_environment(PYTHONHASHSEED="0"),
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CallgrindError(f"valgrind took more than {limit:g} s") from error
        if done.returncode != 0 or not answers.exists():
            tail = (done.stderr or done.stdout).strip()[-500:]
            raise CallgrindError(f"valgrind exited with {done.returncode}: {tail}")
        told = json.loads(answers.read_text(encoding="utf-8"))
        results = []
        for number, answer in enumerate(told):
            if "error" in answer:
                results.append((0.0, 0, str(answer["error"])))
                continue
            # Dump d ends at the d-th cut: passes lie between an odd cut and the even one after it.
            one, three = (_total(Path(f"{out}.{4 * number + cut}")) for cut in (2, 4))
            results.append(((three - one) / 2, int(answer["count"]), ""))
        return results


def _total(path: Path) -> int:
    found = _TOTALS.search(path.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise CallgrindError(f"no totals in {path.name}")
    return int(found.group(1))
