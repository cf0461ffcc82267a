"""Times loop rows: all subjects of a row in one run, interleaved, in thread CPU time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from . import stats, worker
from .inputs import SEED
from .model import CONTROLS, US, Cell, Program, Result, Row
from .subjects import OLD

#: How long one round of one subject lasts, nanoseconds.
ROUND_NS = 20_000_000
#: How long the other interpreter may take for one answer, seconds.
ANSWER_LIMIT = 120.0
WORKER = Path(worker.__file__)


class Runnable(Protocol):
    """A program that is set up: `reps` passes take about one round."""

    count: int
    reps: int

    def run(self, reps: int) -> int:
        """Run so many passes; return thread CPU nanoseconds."""


class _Here:
    """A program in this process."""

    def __init__(self, program: Program, round_ns: int) -> None:
        loop = worker.Loop(program.as_dict())
        self.count = loop.count
        self.reps = loop.calibrate(round_ns)
        self.run = loop.run


class OtherInterpreter:
    """The worker in another interpreter, for the package that shares our import name."""

    def __init__(self, python: str) -> None:
        """Start the worker. Raises OSError if `python` cannot be run."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        self._process = subprocess.Popen(
            [python, "-E", str(WORKER), "time"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request; return the answer. Raises RuntimeError with the worker's error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the other interpreter ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def open(self, program: Program, round_ns: int) -> Runnable:
        """Set the program up over there."""
        return _There(self, program, round_ns)

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=ANSWER_LIMIT)
        self._process.stdout.close()


class _There:
    """A program in the other interpreter."""

    def __init__(self, other: OtherInterpreter, program: Program, round_ns: int) -> None:
        answer = other.ask({"open": program.as_dict(), "round_ns": round_ns})
        self._other = other
        self._number = answer["number"]
        self.count = int(answer["count"])
        self.reps = int(answer["reps"])

    def run(self, reps: int) -> int:
        return int(self._other.ask({"run": [self._number, reps]})["ns"])


def open_program(program: Program, old: OtherInterpreter | None, round_ns: int) -> Runnable:
    """Set a program up where it belongs. Whatever its subject raises goes to the caller."""
    if program.subject == OLD:
        if old is None:
            raise RuntimeError("no interpreter with it")
        return old.open(program, round_ns)
    return _Here(program, round_ns)


def wanted(row: Row, peers: Iterable[str]) -> list[Program]:
    """Return the programs of the row whose subject is us, a control, or one of `peers`."""
    names = {US, *CONTROLS, *peers}
    return [program for program in row.programs if program.subject.partition(":")[0] in names]


def run_row(
    row: Row,
    peers: Iterable[str],
    rounds: int,
    old: OtherInterpreter | None = None,
    round_ns: int = ROUND_NS,
    tell: Callable[[str], None] = lambda text: None,
) -> Result:
    """Measure one loop row. A subject that fails is named with its error, the rest go on.

    Each round runs the empty loop and then every subject once, in an order of its own; a round's
    figures are ns per operation, the empty loop of the same round subtracted.
    """
    result = Result(row)
    started = time.monotonic()
    assert row.empty is not None
    opened: list[tuple[Program, Runnable]] = []
    for program in wanted(row, peers):
        tell(f"setting up {program.subject}")
        cell = result.cells[program.subject] = Cell()
        try:
            opened.append((program, open_program(program, old, round_ns)))
        except Exception as error:  # noqa: BLE001  (a peer may raise anything; it is reported)
            cell.error = f"{type(error).__name__}: {error}"
    empty = _Here(row.empty, round_ns)
    order = random.Random(SEED)
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        bare = empty.run(empty.reps) / (empty.reps * empty.count)
        order.shuffle(opened)
        for program, runnable in list(opened):
            cell = result.cells[program.subject]
            try:
                took = runnable.run(runnable.reps) / (runnable.reps * runnable.count)
            except Exception as error:  # noqa: BLE001  (as above)
                cell.error = f"{type(error).__name__}: {error}"
                opened.remove((program, runnable))
                continue
            cell.values.append((took - bare) / program.ops)
    summarize(result)
    result.seconds = time.monotonic() - started
    return result


def summarize(result: Result) -> None:
    """Fill medians, minima and paired ratios from the values of each round."""
    ours = result.cells.get(US)
    for name, cell in result.cells.items():
        if not cell.values or cell.error:
            continue
        cell.median = stats.median(cell.values)
        cell.minimum = min(cell.values)
        if name == US or ours is None or ours.error:
            continue
        ratios = stats.paired_ratios(ours.values, cell.values)
        if ratios:
            cell.ratio = stats.median(ratios)
            cell.ratio_low, cell.ratio_high = stats.interval(ratios)
            cell.extra["ratios"] = ratios


def noise(rounds: int, round_ns: int = ROUND_NS) -> dict[str, Any]:
    """Measure the run's noise: one functools program against a second copy of itself.

    Returns the median paired ratio, its interval, and the spread of single rounds (relative).
    """
    setup = (
        "import functools\nkeys = shuffled(ints(size))\n"
        "f = functools.lru_cache(maxsize=size)(lambda x: x)\n[f(k) for k in keys]"
    )
    twins = [_Here(Program(name, setup, "f(k)"), round_ns) for name in ("a", "b")]
    values: list[list[float]] = [[], []]
    for number in range(max(rounds, 2)):
        for index in (0, 1) if number % 2 else (1, 0):
            twin = twins[index]
            values[index].append(twin.run(twin.reps) / (twin.reps * twin.count))
    ratios = stats.paired_ratios(values[0], values[1])
    low, high = stats.interval(ratios)
    return {
        "what": "functools.lru_cache hit against a copy of itself, paired ratios",
        "ratio": stats.median(ratios),
        "low": low,
        "high": high,
        "round_spread": stats.relative_spread(values[0]),
    }


def failing(results: Sequence[Result]) -> dict[str, str]:
    """Return `row/subject -> error` of everything that could not be measured."""
    return {
        f"{result.row.name}/{name}": cell.error
        for result in results
        for name, cell in result.cells.items()
        if cell.error
    }
