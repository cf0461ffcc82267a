"""Compile and run measured loops; also the script that does so in another interpreter.

Stand-alone: standard library only, no import of this package. Two ways of running it as a script:

- ``worker.py time``: one JSON object per line on standard input, one JSON answer per line on
  standard output (`{"open": program}`, `{"run": [number, reps]}`).
- ``worker.py count JOB.json``: run each program for two loop lengths between calls of
  ``os.getppid``, where callgrind is told to cut its counts (see `instructions`).

A program is a dict with `setup` and `statement` (Python source), `var` and `keys` (the loop is
``for VAR in KEYS: STATEMENT``), and `check` (an expression that must be true, or empty). A statement
with ``await`` is run by asyncio, on one event loop for all programs; `run` is its
``run_until_complete``, for the check.
"""

from __future__ import annotations

import ast
import atexit
import functools
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
#: Entries in a cache unless the row says otherwise: the name `size` in every setup.
SIZE = 10_000
#: Entries when instructions are counted: a quarter, so that tables are loaded as at full size.
COUNTED_SIZE = SIZE // 4


class CheckFailedError(Exception):
    """The subject did not do what the row asks about (for instance, its "hits" missed)."""


@functools.cache
def load_inputs() -> dict[str, Any]:
    """Return the names of `inputs.py`, executed from its file (no package needed), once."""
    path = os.path.join(HERE, "inputs.py")
    names: dict[str, Any] = {"__name__": "fastcache_bench_inputs"}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), names)
    return names


@functools.cache
def event_loop() -> Any:
    """Return the event loop of this process's programs, closed at exit. Some bind to the first one."""
    import asyncio

    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def awaits(statement: str) -> bool:
    """Say whether the statement awaits something."""
    return any(isinstance(node, ast.Await) for node in ast.walk(ast.parse(statement)))


def compile_loop(names: dict[str, Any], var: str, keys: str, statement: str) -> Callable[..., None]:
    """Return ``loop(reps)``, which runs `statement` for each of `keys`, `reps` times over.

    What the statement names is bound as a local of the loop, so that no subject pays for a global
    look-up and what remains after subtracting the empty loop is the statement itself.
    """
    body = ast.parse(statement)
    asynchronous = awaits(statement)
    used = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    bound = sorted(used & set(names) - {keys})
    source = (
        ("async " if asynchronous else "")
        + f"def loop(reps, {keys}={keys}, repeat=repeat"
        + "".join(f", {name}={name}" for name in bound)
        + "):\n for _ in repeat(None, reps):\n"
        + f"  for {var} in {keys}:\n"
        + "".join(f"   {line}\n" for line in statement.splitlines())
    )
    scope = {**names, "repeat": itertools.repeat}
    exec(compile(source, "<bench loop>", "exec"), scope)
    loop: Callable[..., Any] = scope["loop"]
    if not asynchronous:
        return loop
    run = event_loop().run_until_complete
    return lambda reps: run(loop(reps))


class Loop:
    """One program, set up and compiled. `count` is the number of statements in one pass."""

    def __init__(self, program: dict[str, str], size: int = SIZE) -> None:
        """Run the setup, one warm-up pass and the check; raise CheckFailedError if it fails."""
        names = {**load_inputs(), "size": size}
        if awaits(program["statement"]):
            names["run"] = event_loop().run_until_complete
        exec(compile(program["setup"], "<bench setup>", "exec"), names)
        self.count = len(names[program["keys"]])
        self._loop = compile_loop(names, program["var"], program["keys"], program["statement"])
        self._loop(1)
        check = program.get("check", "")
        if check and not eval(check, names):
            raise CheckFailedError(f"check failed: {check}")

    def run(self, reps: int) -> int:
        """Run `reps` passes with the collector off; return the thread CPU time in nanoseconds."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            start = time.thread_time_ns()
            self._loop(reps)
            return time.thread_time_ns() - start
        finally:
            if enabled:
                gc.enable()

    def passes(self, reps: int) -> None:
        """Run `reps` passes and nothing else (for callgrind)."""
        self._loop(reps)

    def calibrate(self, round_ns: int) -> int:
        """Return the number of passes that take about `round_ns`; at least one."""
        reps, taken = 1, self.run(1)
        while taken < round_ns // 4 and reps < 1 << 24:
            reps *= 2
            taken = self.run(reps)
        return max(1, round(reps * round_ns / max(taken, 1)))


def serve() -> None:
    """Answer requests line by line until standard input ends."""
    loops: list[Loop] = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "open" in request:
                loop = Loop(request["open"])
                loops.append(loop)
                answer: dict[str, Any] = {"number": len(loops) - 1, "count": loop.count}
                answer["reps"] = loop.calibrate(request["round_ns"])
            else:
                number, reps = request["run"]
                answer = {"ns": loops[number].run(reps)}
        except Exception as error:  # noqa: BLE001  (whatever a peer raises is the answer)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def count(job_path: str) -> None:
    """Run every program of the job for one and for three passes, cutting before and after each.

    The n-th program's passes lie between cuts 4n+1/4n+2 (one pass) and 4n+3/4n+4 (three passes).
    Errors go to the file named by the job; a failed program makes its four cuts all the same.
    """
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    answers: list[dict[str, Any]] = []
    for program in job["programs"]:
        loop = None
        try:
            loop = Loop(program, size=COUNTED_SIZE)
            loop.passes(3)  # lets the interpreter specialise the loop before anything is counted
            answers.append({"count": loop.count})
        except Exception as error:  # noqa: BLE001  (as above)
            answers.append({"error": f"{type(error).__name__}: {error}"})
        gc.collect()
        gc.disable()
        for reps in (1, 3):
            os.getppid()
            if loop is not None:
                loop.passes(reps)
            os.getppid()
        gc.enable()
    with open(job["answers"], "w", encoding="utf-8") as file:
        json.dump(answers, file)


def main() -> None:
    """Dispatch on the first argument; see the module's docstring."""
    if sys.path and os.path.abspath(sys.path[0]) == HERE:
        del sys.path[0]  # our neighbours must not shadow anybody's modules
    path = os.environ.get("FASTCACHE_BENCH_PATH", "")
    sys.path[:0] = [folder for folder in path.split(os.pathsep) if folder]
    if sys.argv[1] == "time":
        serve()
    else:
        count(sys.argv[2])


if __name__ == "__main__":
    main()
