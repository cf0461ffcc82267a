"""The rows of two tiers and of writing: their questions, subjects and targets, and how they are measured.

All subjects of a row take turns within a round, in an order of its own; each pass begins with what need not be
timed. Rows that wait for a server are in wall time, since its work and the way there belong to them; the
thread CPU time of each pass is in the JSON as `cpu`. The row in which nobody waits is in thread CPU time, the
empty loop subtracted.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from . import seen
from . import tier_reads as reads
from . import tier_writes as writes
from .inputs import SEED
from .model import CONTROLS, US, Cell, Result, Row, Target
from .runner import summarize
from .tier_ground import Ground, Subject

Make = Callable[[Ground], Subject]
#: Passes of each subject in a round: a round trip is noisy, and what counts is their median.
PASSES = 3
_BARE = "bare redis-py"
_SQLITE = "bare sqlite"


def _row(name: str, title: str, targets: Sequence[Target], note: str, unit: str = "ns") -> Row:
    return Row(name, title, "tiers", (), targets, unit, note, "tier", counted=False)


_WALL = "wall time, Redis on loopback"
_COMMIT = (
    "bare sqlite: the value as JSON by msgspec, and one INSERT into a table without an index, committed by itself in "
    "WAL mode, synchronous=NORMAL"
)
ROWS: tuple[tuple[Row, Mapping[str, Make]], ...] = (
    (
        _row(
            "tier_l1", "TieredCache.get, hit in L1",
            [Target("fastcache:Cache", 1.5), Target("cashews", 0.01)],
            "thread CPU time; cashews, dogpile.cache and aiocache: their memory backends; redis-py: its "
            "client-side cache, and decoding; async: all keys awaited by one coroutine",
        ),
        {
            "fastcache": reads.l1_ours,
            "fastcache:Cache": reads.l1_cache,
            "fastcache:async": reads.l1_async,
            "cashews": reads.l1_cashews,
            "dogpile.cache": reads.l1_dogpile,
            "aiocache": reads.l1_aiocache,
            "redis-py": reads.l1_client_side,
        },
    ),
    (
        _row(
            "tier_l2", "TieredCache.get, hit in L2, 300 bytes", [Target(_BARE, 1.15)],
            _WALL + "; bare redis-py: GET and msgpack decode",
        ),
        {
            "fastcache": reads.l2_ours,
            "fastcache:async": reads.l2_async,
            _BARE: reads.l2_bare,
            _BARE + ":async": reads.l2_bare_async,
            "cashews": reads.l2_cashews,
            "dogpile.cache": reads.l2_dogpile,
            "aiocache": reads.l2_aiocache,
        },
    ),
    (
        _row("tier_file", "hit in an L2 in a file, 300 bytes", [], "wall time; SQLiteStore"),
        {"fastcache": reads.l2_sqlite, "diskcache": reads.l2_diskcache},
    ),
    (
        _row(
            "tier_fill", "guarded fill, 300 bytes", [Target(_BARE, 1.6)],
            _WALL + "; serialised and stored if the lease is there; bare redis-py: SET",
        ),
        {
            "fastcache": writes.fill_ours,
            _BARE: writes.fill_bare,
            "cashews": writes.fill_cashews,
            "dogpile.cache": writes.fill_dogpile,
            "aiocache": writes.fill_aiocache,
        },
    ),
    (
        _row(
            "tier_load", "get of what no tier has", [],
            _WALL + "; look into L2, lease, loader, fill; bare redis-py: GET, then SET, unguarded",
        ),
        {"fastcache": writes.load_ours, _BARE: writes.load_bare},
    ),
    (
        _row(
            "tier_many", "get_many of 100, all in L2", [Target(_BARE, 1.2)],
            _WALL + "; ns per key; bare redis-py: MGET, decoding, insertion into a Cache",
        ),
        {
            "fastcache": reads.many_ours,
            _BARE: reads.many_bare,
            "cashews": reads.many_cashews,
            "dogpile.cache": reads.many_dogpile,
            "aiocache": reads.many_aiocache,
        },
    ),
    (
        _row(
            "put_process", "write-behind put, survives the process", [Target(_SQLITE, 1.5)],
            "wall time; WriteBehind.put with a journal, the drain not under way; " + _COMMIT,
        ),
        {"fastcache": writes.put_process, "fastcache:set": writes.set_process, _SQLITE: writes.put_bare},
    ),
    (
        _row(
            "set_process", "TieredCache.set, survives the process", [Target(_SQLITE, 1.5)],
            "wall time; into L1 and a write-behind with a journal, the drain not under way; " + _COMMIT,
        ),
        {"fastcache": writes.set_process, "fastcache:put": writes.put_process, _SQLITE: writes.put_bare},
    ),
    (
        _row(
            "put_memory", "write-behind put, in memory", [Target("", 5000)],
            "wall time; WriteBehind.put without a journal",
        ),
        {"fastcache": writes.put_memory, "fastcache:set": writes.set_memory, _SQLITE: writes.put_bare},
    ),
)  # fmt: skip

_SEEN = (
    "wall time from the beginning of a write to the first read in another process that returns it; that process "
    "reads all the time, so the new value has come from L2"
)
SEEN: tuple[tuple[Row, float], ...] = (
    (_row("seen_p50", "change seen elsewhere, p50", [Target("", 1)], _SEEN, "ms"), 0.5),
    (_row("seen_p999", "change seen elsewhere, p99.9", [Target("", 50)], _SEEN, "ms"), 0.999),
)
#: In thread CPU time.
_CPU = ("tier_l1",)
_EMPTY = "(empty loop)"


def tier_rows() -> list[Row]:
    """Every row of this module, in the order of the report."""
    return [*(row for row, _ in ROWS), *(row for row, _ in SEEN)]


def steps_of(asked: Sequence[Row]) -> int:
    """How many steps `run_rows` will tell of: those seen elsewhere are one."""
    names = {row.name for row in asked}
    return sum(row.name in names for row, _ in ROWS) + any(row.name in names for row, _ in SEEN)


def subjects_of(name: str) -> Sequence[str]:
    for row, subjects in ROWS:
        if row.name == name:
            return list(subjects)
    return seen.SUBJECTS


@contextlib.contextmanager
def ground(url: str | None) -> Iterator[Ground]:
    """A folder, and a Redis: that of the URL, or one of its own, or none."""
    from fastcache._demo import server

    with tempfile.TemporaryDirectory(prefix="fastcache-bench-") as name:
        folder = Path(name)
        program = server.find()
        if url or program is None:
            yield Ground(url or "", folder)
            return
        own = server.Server(program, folder)
        try:
            yield Ground(own.url, folder)
        finally:
            own.close()


def passed(subject: Subject) -> tuple[float, float]:
    """One pass: wall and thread CPU nanoseconds per operation, the collector off."""
    subject.prepare()
    enabled = gc.isenabled()
    gc.disable()
    try:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        subject.run()
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
    finally:
        if enabled:
            gc.enable()
    return wall / subject.ops, cpu / subject.ops


def make(name: str, subject: str, here: Ground) -> Subject:
    """Set a subject of a row up. Whatever it raises goes to the caller."""
    return next(subjects for row, subjects in ROWS if row.name == name)[subject](here)


def run_rows(
    asked: Iterable[Row],
    peers: Iterable[str],
    rounds: int,
    url: str | None,
    step: Callable[[str], None] = lambda text: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Result]:
    """Measure the rows, one result each."""
    wanted = {US, *CONTROLS, *peers}
    names = {row.name for row in asked}
    for row, subjects in ROWS:
        if row.name in names:
            step(row.title)
            with ground(url) as here:
                chosen = [name for name in subjects if name.partition(":")[0] in wanted]
                yield _run(row, chosen, rounds, here, tell)
    if names & {row.name for row, _ in SEEN}:
        step("change seen elsewhere")
        with ground(url) as here:
            chosen = [name for name in seen.SUBJECTS if name.partition(":")[0] in wanted]
            for result in _run_seen(chosen, min(rounds, 5), here, tell):
                if result.row.name in names:
                    yield result


def _run(
    row: Row, chosen: Sequence[str], rounds: int, here: Ground, tell: Callable[[str], None]
) -> Result:
    result = Result(row)
    started = time.monotonic()
    opened: dict[str, Subject] = {}
    for name in chosen:
        tell(f"setting up {name}")
        cell = result.cells[name] = Cell(extra={"wall": [], "cpu": []})
        try:
            opened[name] = make(row.name, name, here)
            passed(opened[name])
        except Exception as error:  # noqa: BLE001  (a peer may raise anything; it is reported)
            cell.error = f"{type(error).__name__}: {error}"
            opened.pop(name, None)
    order = random.Random(SEED)
    if row.name in _CPU:
        opened[_EMPTY] = reads.nothing()
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        took = _round(opened, order)
        bare = took.pop(_EMPTY, (0.0, 0.0))
        for name, (wall, cpu) in took.items():
            cell = result.cells[name]
            cell.extra["wall"].append(wall - bare[0])
            cell.extra["cpu"].append(cpu - bare[1])
            cell.values.append(cell.extra["cpu" if row.name in _CPU else "wall"][-1])
    for subject in opened.values():
        subject.close()
    summarize(result)
    result.seconds = time.monotonic() - started
    return result


def _round(opened: Mapping[str, Subject], order: random.Random) -> dict[str, tuple[float, float]]:
    """Of each the median wall and CPU time of its passes."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in opened}
    for _ in range(PASSES):
        for name in order.sample(list(opened), len(opened)):
            took[name].append(passed(opened[name]))
    middle = PASSES // 2
    return {
        name: (sorted(wall for wall, _ in some)[middle], sorted(cpu for _, cpu in some)[middle])
        for name, some in took.items()
    }


def _run_seen(
    chosen: Sequence[str], rounds: int, here: Ground, tell: Callable[[str], None]
) -> list[Result]:
    results = [(Result(row), part) for row, part in SEEN]
    started = time.monotonic()
    for name in chosen:
        cells = [Cell() for _ in results]
        for (result, _), cell in zip(results, cells, strict=True):
            result.cells[name] = cell
        tell(f"setting up {name}")
        try:
            took = observed(name, rounds, here, tell)
        except Exception as error:  # noqa: BLE001  (as above)
            for cell in cells:
                cell.error = f"{type(error).__name__}: {error}"
            continue
        for (_, part), cell in zip(results, cells, strict=True):
            cell.values = [quantile(one, part) / 1e6 for one in took]
    for result, _ in results:
        summarize(result)
        result.seconds = time.monotonic() - started
    return [result for result, _ in results]


def quantile(took: Sequence[int], part: float) -> int:
    """The smallest that so many of all do not exceed."""
    return sorted(took)[math.ceil(part * len(took)) - 1]


def observed(
    name: str, rounds: int, here: Ground, tell: Callable[[str], None] = lambda text: None
) -> list[list[int]]:
    """Of each round the nanoseconds after which its changes were seen."""
    observer = seen.Observer(name, here)
    try:
        observer.round(50)
        took = []
        for number in range(rounds):
            tell(f"{name}: round {number + 1} of {rounds}")
            took.append(observer.round())
        return took
    finally:
        observer.close()
