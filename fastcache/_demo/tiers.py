"""The run: a place for the data, an L2, worker processes, a clock, and at the end the table."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import server, table
from .board import Board
from .database import Database
from .worker import NAMESPACE, TTL, Job, store_of

#: Seconds in which workers have to answer; a check may take five of its own.
_LIMIT = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for; see the command's help."""

    seconds: float
    workers: int
    keys: int
    capacity: int
    rate: float
    writes: float
    skew: float
    url: str
    sqlite: bool


class WorkerLostError(Exception):
    """A worker ended, or did not answer."""


class _Crew:
    """The worker processes. Whatever they say comes as (worker, what, told)."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._said: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []
        try:
            for job in jobs:
                self._start(job)
        except BaseException:
            self.close()
            raise

    def _start(self, job: Job) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastcache._demo.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        threading.Thread(target=self._read, args=(job.me, process), daemon=True).start()
        self._tell(process, json.dumps(dataclasses.asdict(job)))

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            ((what, told),) = json.loads(text).items()
            self._said.put((number, what, told))
        self._said.put((number, "gone", process.wait()))

    @staticmethod
    def _tell(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `gone` will be heard of it
            process.stdin.write(word + "\n")
            process.stdin.flush()

    def tell(self, word: str) -> None:
        for process in self._processes:
            self._tell(process, word)

    def next(self, seconds: float) -> tuple[int, str, Any] | None:
        """What one of them says; None: nothing within so many seconds. WorkerLostError: one has ended."""
        try:
            number, what, told = self._said.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if what == "gone":
            raise WorkerLostError(f"worker {number} ended with code {told}")
        return number, what, told

    def all(self, wanted: str) -> list[Any]:
        """What each of them says to that. WorkerLostError."""
        found: dict[int, Any] = {}
        end = time.monotonic() + _LIMIT
        while len(found) < len(self._processes):
            said = self.next(end - time.monotonic())
            if said is None:
                missing = set(range(len(self._processes))) - set(found)
                raise WorkerLostError(f"no answer ({wanted}) from workers {sorted(missing)}")
            if said[1] == wanted:
                found[said[0]] = said[2]
        return [found[number] for number in sorted(found)]

    def close(self) -> None:
        """They end when their standard input does."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does; both also where a shell has started this with SIGINT ignored."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def second_tier(plan: Plan, folder: Path) -> Iterator[tuple[str, str]]:
    """The URL of the L2 ("" for SQLite) and what it is, in words."""
    if plan.url:
        yield plan.url, "Redis, as given"
        return
    program = None if plan.sqlite else server.find()
    if program is not None:
        try:
            importlib.import_module("fastcache.stores.redis")
        except ImportError as error:
            print(f"no Redis: {error}", file=sys.stderr)
            program = None
    if program is None:
        why = "" if plan.sqlite else " (there is no redis-server on PATH, and no --url)"
        yield "", "an SQLite file" + why
        return
    own = server.Server(program, folder)
    try:
        yield own.url, f"Redis of its own, on 127.0.0.1:{own.port}"
    finally:
        own.close()


def run(plan: Plan) -> int:
    """The demonstration; 0 if nothing was wrong, 1 if something was, 130 after Ctrl-C."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(interruptible())
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastcache-demo-"))
        try:
            url, words = stack.enter_context(second_tier(plan, Path(place)))
            return _run(plan, Path(place), url, words)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except (RuntimeError, WorkerLostError) as error:
            print(f"fastcache demo: {error}", file=sys.stderr)
            return 1


def _run(plan: Plan, folder: Path, url: str, words: str) -> int:
    Database.make(folder / "source.db", plan.keys)
    Board.make(folder / "board", plan.workers, plan.keys)
    jobs = [
        Job(
            me, plan.workers, str(folder), url, plan.keys, plan.capacity, plan.rate, plan.writes, plan.skew
        )
        for me in range(plan.workers)
    ]  # fmt: skip
    _forget(jobs[0])
    rate = (
        f"{plan.rate:,.0f} requests a second each" if plan.rate else "as many requests as they can"
    )
    print(
        f"{plan.workers} workers, {rate}, {plan.writes:.1%} of them writes; {plan.keys:,} keys by "
        f"Zipf's law ({plan.skew:g}), {plan.capacity:,} in each L1\n"
        f"L2: {words}; source: an SQLite file; entries live {TTL:g} s"
    )
    crew = _Crew(jobs)
    try:
        crew.all("ready")
        began = time.monotonic()
        crew.tell("go")
        interrupted = not _watch(crew, plan, began)
        took = time.monotonic() - began
        crew.tell("stop")
        total = table.Total(crew.all("done"))
        wrong = None
        if not interrupted:
            crew.tell("check")
            wrong = sum(len(keys) for keys in crew.all("checked"))
    finally:
        crew.close()
    print()
    print("\n".join(table.table(total, took, wrong)))
    print(table.NOTES)
    if interrupted:
        return 130
    return 1 if wrong or total.broken or total.errors else 0


def _forget(job: Job) -> None:
    """What an earlier run has left in this L2 is of another database. StoreError becomes RuntimeError."""
    from fastcache._core import Cache
    from fastcache.stores.protocol import StoreError
    from fastcache.tiered import TieredCache

    store = store_of(job)
    try:
        store.run(store.check())
        with TieredCache[Any, Any](Cache(1), store, namespace=NAMESPACE) as tiers:
            tiers.bump_version()
    except StoreError as error:
        raise RuntimeError(f"L2 cannot be used: {error}") from error
    finally:
        store.close()


def _watch(crew: _Crew, plan: Plan, began: float) -> bool:
    """Show how it goes until the time is over; False: it was interrupted."""
    stream = sys.stderr
    terminal = stream.isatty()
    ticks: dict[int, Any] = {}
    shown = began
    try:
        while (left := began + plan.seconds - time.monotonic()) > 0:
            said = crew.next(min(left, 0.5))
            if said is not None and said[1] == "tick":
                ticks[said[0]] = said[2]
            now = time.monotonic()
            if len(ticks) == plan.workers and now - shown >= 1.0:
                shown = now
                text = table.line(now - began, ticks.values())
                stream.write(f"\r\x1b[2K{text}" if terminal else text + "\n")
                stream.flush()
        return True
    except KeyboardInterrupt:
        return False
    finally:
        if terminal:
            stream.write("\r\x1b[2K")
