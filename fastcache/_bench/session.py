"""One run from plan to outcome: rows measured, targets judged, results ready for JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import conditions, instructions, runner, sizes, table, tiers
from .model import FLOOR, US, Cell, Result, Row, judge
from .progress import Progress
from .rows import NOT_MEASURED
from .subjects import OLD, OLD_REQUIREMENT, Presence

SCHEMA = 1
_INSTALL_LIMIT = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and how. `old_python` is an interpreter with the package of our name."""

    rows: list[Row]
    presence: dict[str, Presence]
    rounds: int
    child_rounds: int
    instructions: bool = False
    round_ns: int = runner.ROUND_NS
    entries: int = sizes.ENTRIES
    old_python: str | None = None
    set_old_up: bool = False
    redis_url: str | None = None


@dataclasses.dataclass(slots=True)
class Outcome:
    """Everything a run found."""

    plan: Plan
    conditions: dict[str, Any]
    noise: dict[str, Any]
    results: list[Result]
    notes: list[str]


def find_us() -> Presence:
    """Say which version of fastcache is under test, or why it cannot be imported."""
    try:
        import fastcache
    except ImportError as error:
        return Presence(absent=f"import fastcache: {error}")
    if not hasattr(fastcache, "Cache"):
        return Presence(absent="import fastcache: it has no Cache (is the extension built?)")
    try:
        return Presence(version=importlib.metadata.version("fastcache-engine"))
    except importlib.metadata.PackageNotFoundError:
        return Presence(version="source tree")


@contextmanager
def old_interpreter(plan: Plan, notes: list[str]) -> Iterator[str | None]:
    """Give an interpreter in which the abandoned package imports, or None and a note why not."""
    if plan.old_python is not None:
        yield _checked(plan.old_python, plan, notes)
    elif plan.set_old_up:
        with tempfile.TemporaryDirectory(prefix="fastcache-bench-old-") as folder:
            yield _set_up(Path(folder), plan, notes)
    else:
        yield None


def _checked(python: str, plan: Plan, notes: list[str]) -> str | None:
    code = "import fastcache; fastcache.clru_cache; print(fastcache.__version__)"
    try:
        done = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"{python}: {error}"
    else:
        if done.returncode == 0:
            plan.presence[OLD] = Presence(version=done.stdout.strip())
            return python
        why = f"{python}: {done.stderr.strip().rpartition(chr(10))[2]}"
    plan.presence[OLD] = Presence(absent=why)
    notes.append(f"{OLD}: {why}")
    return None


def _set_up(folder: Path, plan: Plan, notes: list[str]) -> str | None:
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "setuptools", "wheel"],
        [str(python), "-m", "pip", "install", "-q", "--no-build-isolation", OLD_REQUIREMENT],
    )
    for command in commands:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_LIMIT, check=False
            )
            failed = done.returncode and (done.stderr.strip() or done.stdout.strip())[-300:]
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
        if failed:
            why = f"{OLD_REQUIREMENT} could not be set up on this Python: {failed}"
            plan.presence[OLD] = Presence(absent=why)
            notes.append(f"{OLD}: {why}")
            return None
    return _checked(str(python), plan, notes)


def run(plan: Plan) -> Outcome:
    """Measure everything in the plan, with progress on standard error."""
    us = find_us()
    notes: list[str] = []
    if us.absent:
        notes.append(f"{US}: {us.absent}")
    with old_interpreter(plan, notes) as old_python:
        peers = [name for name, found in plan.presence.items() if found.version]
        facts = conditions.gather(plan.presence, us)
        loops = [row for row in plan.rows if row.kind == "loop"]
        asked = {row.name for row in plan.rows if row.kind == "child"}
        questions = [question for question in sizes.QUESTIONS if question.row.name in asked]
        modes = dict.fromkeys(question.mode for question in questions)
        tiered = [row for row in plan.rows if row.kind == "tier"]
        steps = len(loops) * (2 if plan.instructions else 1) + len(modes) + tiers.steps_of(tiered)
        progress = Progress(1 + steps)
        results = {}
        try:
            progress.step("noise")
            noise = runner.noise(plan.rounds, plan.round_ns)
            for result in _loops(plan, loops, peers, old_python, progress):
                results[result.row.name] = result
            if plan.instructions:
                _count(list(results.values()), peers, progress, notes)
            for mode in modes:
                progress.step(f"size and pauses: {mode}")
                some = [question for question in questions if question.mode == mode]
                for result in sizes.run_children(
                    some, peers, plan.child_rounds, old_python, plan.entries, progress.detail
                ):
                    results[result.row.name] = result
            for result in tiers.run_rows(
                tiered, peers, plan.rounds, plan.redis_url, progress.step, progress.detail
            ):
                results[result.row.name] = result
        finally:
            progress.close()
    ordered = [results[row.name] for row in plan.rows if row.name in results]
    for result in ordered:
        judge(result, bool(facts["build"]["pgo"]))
    facts["load_after"] = conditions.load_average()
    if plan.entries != sizes.ENTRIES and questions:
        notes.append(
            f"size and pauses with {plan.entries:,} entries; their targets mean {sizes.ENTRIES:,}"
        )
    return Outcome(plan, facts, noise, ordered, notes)


def _loops(
    plan: Plan, rows: list[Row], peers: list[str], old_python: str | None, progress: Progress
) -> Iterator[Result]:
    old = runner.OtherInterpreter(old_python) if old_python is not None and rows else None
    try:
        for row in rows:
            progress.step(row.title)
            yield runner.run_row(row, peers, plan.rounds, old, plan.round_ns, progress.detail)
    finally:
        if old is not None:
            old.close()


def _count(results: list[Result], peers: list[str], progress: Progress, notes: list[str]) -> None:
    if instructions.find_valgrind() is None:
        notes.append("instructions: valgrind is not installed, so none were counted")
        return
    for result in results:
        progress.step(f"instructions: {result.row.title}")
        if not result.row.counted:
            continue
        try:
            instructions.count_row(result, peers)
        except instructions.CallgrindError as error:
            notes.append(f"instructions of {result.row.name}: {error}")


def noise_text(outcome: Outcome) -> str:
    """Return the noise estimate in words."""
    noise = outcome.noise
    return (
        f"a copy of functools against itself gave {noise['ratio']:.3f} "
        f"(95%: {noise['low']:.3f} to {noise['high']:.3f}); "
        f"single rounds spread by {100 * noise['round_spread']:.1f}%"
    )


def build_text(build: dict[str, Any]) -> str:
    """Return how the interpreter was built, in words."""
    pgo, lto = ("yes" if build[name] else "no" for name in ("pgo", "lto"))
    return f"PGO {pgo}, LTO {lto} ({build['evidence']})"


def footer(outcome: Outcome) -> list[str]:
    """Return the lines under the table: conditions, what is absent, the tally."""
    facts = outcome.conditions
    peers = ", ".join(
        f"{name} {version}" for name, version in facts["peers"].items() if version[0].isdigit()
    )
    lines = [
        "",
        *table.remarks(outcome.results),
        *outcome.notes,
        f"CPU: {facts['cpu']}, {facts['cores']} cores; load {facts['load']} -> {facts['load_after']}",
        f"Python {facts['python']}, {build_text(facts['build'])}",
        f"{US} {facts['fastcache'] or 'absent'}, commit {facts['commit'] or 'unknown'}, {facts['date']}",
        f"peers: {peers or 'those of the standard library'}",
        *(f"absent: {name}: {why}" for name, why in facts["absent"].items()),
        f"noise: {noise_text(outcome)}",
        "not measured: " + "; ".join(f"{name} ({why})" for name, why in NOT_MEASURED.items()),
        "",
        table.tally(outcome.results),
    ]
    return lines


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome ready for JSON; see `bench/README.md` for the meaning of each field."""
    return {
        "kind": "fastcache-bench",
        "schema": SCHEMA,
        "conditions": outcome.conditions,
        "rounds": {"loops": outcome.plan.rounds, "children": outcome.plan.child_rounds},
        "entries": outcome.plan.entries,
        "noise": outcome.noise,
        "rows": [_row_json(result) for result in outcome.results],
        "not_measured": NOT_MEASURED,
        "notes": outcome.notes,
        "floor": FLOOR,
    }


def _row_json(result: Result) -> dict[str, Any]:
    row = result.row
    return {
        "name": row.name,
        "title": row.title,
        "group": row.group,
        "unit": row.unit,
        "note": row.note,
        "verdict": result.verdict,
        "behind": result.behind,
        "level": result.level,
        "best": result.best(),
        "targets": [dataclasses.asdict(verdict) for verdict in result.verdicts],
        "subjects": {name: _cell_json(cell) for name, cell in result.cells.items()},
        "seconds": round(result.seconds, 3),
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "median": cell.median,
        "minimum": cell.minimum,
        "values": cell.values,
        "ratio": cell.ratio,
        "ratio_low": cell.ratio_low,
        "ratio_high": cell.ratio_high,
        "instructions": cell.instructions,
        "note": cell.note,
        "error": cell.error,
        "excluded": cell.excluded,
        "extra": cell.extra,
    }
