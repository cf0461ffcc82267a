"""Size and pauses: one large cache per process; cold keys; and the cost of the import."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import heavy
from .instructions import child_environment
from .model import CONTROLS, US, Cell, Result, Row, Target
from .runner import summarize
from .subjects import MAPS, OLD, PEERS

ENTRIES = 1_000_000
#: Seconds that one child process may take.
LIMIT = 300.0
#: Seconds after which the entries of the expiry row die.
EXPIRY_TTL = 3.0
_SCRIPT = Path(heavy.__file__)
#: Rounds of the modes that take long or repeat exactly.
_MOST_ROUNDS = {"expiry": 3, "size": 3, "size_ttl": 3, "empty": 3}


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Where a row's figure is found: the mode of the child and the field of its answer."""

    row: Row
    mode: str
    field: str


def _row(name: str, title: str, unit: str, targets: list[Target], note: str = "") -> Row:
    return Row(name, title, "size and pauses", (), targets, unit, note, "child")


_RSS = "resident memory as the kernel counts it; keys and values allocated before"
_CPU = "thread CPU time; the calling thread's alone"
_AHEAD = [Target("best peer", 1.0)]

QUESTIONS: tuple[Question, ...] = (
    Question(_row("bytes_lru", "bytes per entry, lru", "B", [Target("", 60)], _RSS), "size", "bytes"),
    Question(
        _row("bytes_ttl", "bytes per entry, ttl", "B", [Target("", 72)], _RSS), "size_ttl", "bytes"
    ),
    Question(
        _row("left_after_clear", "memory left after clear()", "MB", [Target("", 2)], _RSS),
        "size",
        "left_mb",
    ),
    Question(
        _row("empty_bytes", "size of an empty cache", "B", [Target("", 512)], "mean of 10,000"),
        "empty",
        "bytes",
    ),
    Question(
        _row("gc_atomic", "gc.collect(), ints as values", "ms", [Target("", 1)], _CPU), "fill", "gc"
    ),
    Question(
        _row(
            "gc_tracked", "gc.collect(), lists as values", "ms", [Target("functools", 0.5)],
            _CPU + "; less the same collection before filling",
        ),
        "tracked",
        "gc",
    ),
    Question(_row("fill", "fill", "ms", _AHEAD, _CPU), "fill", "fill"),
    Question(_row("clear", "clear()", "ms", _AHEAD, _CPU), "fill", "clear"),
    Question(_row("drop", "drop", "ms", _AHEAD, _CPU), "fill", "drop"),
    Question(
        _row("worst_set", "worst single set while filling", "ms", [Target("", 2)], _CPU),
        "worst",
        "worst",
    ),
    Question(
        _row("worst_expiry", "worst single call as all expire", "ms", [Target("", 1)], _CPU),
        "expiry",
        "worst",
    ),
    Question(
        _row(
            "memory_back", "memory back after all expired", "s", [Target("", 2)],
            "under ordinary traffic; nine tenths of what filling took; wall time",
        ),
        "expiry",
        "back",
    ),
    Question(
        _row("cold_50", "cold key, 50 threads awake", "ms", [Target("", 50)],
             "from the end of the one load; wall time"),
        "cold_50",
        "awake",
    ),
    Question(
        _row("cold_1000", "cold key, 1,000 threads awake", "ms", [Target("lock chain", 1.5)],
             "from the end of the one load; wall time"),
        "cold_1000",
        "awake",
    ),
    Question(
        _row("cold_tasks", "cold key, 1,000 tasks awake", "ms", [Target("", 50)],
             "from the end of the one load; wall time; the lock chain is of asyncio.Lock"),
        "tasks_1000",
        "awake",
    ),
    Question(
        _row(
            "import", "import", "ms", [Target("", 20)],
            "CPU time of a process that imports it, less a bare interpreter's in the same round",
        ),
        "import",
        "cpu",
    ),
)  # fmt: skip

#: How each subject asks for a cold key; "" is the chain of a bare lock.
_COLD: Mapping[str, tuple[str, str]] = {
    "lock chain": ("", ""),
    "fastcache": ("import fastcache", "fastcache.cached(maxsize=100)(load)"),
    "fastcache:get_or_set": (
        "import fastcache\nc = fastcache.Cache(100)", "lambda: c.get_or_set('cold', load)"
    ),
    "functools": ("import functools", "functools.lru_cache(100)(load)"),
    "cachetools": (
        "import cachetools",
        "cachetools.cached(cachetools.LRUCache(100), condition=threading.Condition())(load)",
    ),
    "cachebox": ("import cachebox", "cachebox.cached(cachebox.LRUCache(100))(load)"),
    "theine": ("import theine", "theine.Memoize(100, None)(load)"),
    "moka-py": (
        "import moka_py\nc = moka_py.Moka(100)", "lambda: c.get_with('cold', load)"
    ),
}  # fmt: skip

#: The same of async functions.
_COLD_TASKS: Mapping[str, tuple[str, str]] = {
    "lock chain": ("", ""),
    "fastcache": ("import fastcache", "fastcache.cached(maxsize=100)(load)"),
    "async-lru": ("import async_lru", "async_lru.alru_cache(100)(load)"),
    "aiocache": ("import aiocache", "aiocache.cached_stampede(lease=60)(load)"),
    "cashews": (
        "import cashews\ncache = cashews.Cache()\ncache.setup('mem://')", "cache(ttl='1h')(load)"
    ),
}  # fmt: skip


def child_rows() -> list[Row]:
    """Return every row answered by child processes, in the order of the report."""
    return [question.row for question in QUESTIONS]


def jobs(mode: str, n: int) -> dict[str, dict[str, Any]]:
    """Return per subject the job of that mode (see `heavy`)."""
    kind, _, crowd = mode.partition("_")
    if kind in ("cold", "tasks"):
        base = {"mode": kind, "n": 1, "threads": crowd, "tasks": crowd, "make": "None"}
        spelled = _COLD if kind == "cold" else _COLD_TASKS
        return {
            name: {**base, "imports": imports, "ask": ask}
            for name, (imports, ask) in spelled.items()
        }
    timed = mode in ("expiry", "size_ttl")
    result: dict[str, dict[str, Any]] = {}
    for syntax in MAPS:
        policy = "ttl" if timed else "lru"
        if policy not in syntax.make:
            continue
        template = syntax.ttl_put if timed and syntax.ttl_put else syntax.put
        result[syntax.subject] = {
            "imports": syntax.imports,
            "make": syntax.make[policy].format(n="n", ttl="ttl"),
            "put": template.format(v="v"),
            "get": syntax.get,
            "clear": syntax.clear,
        }
    if not timed:
        for name, wrap in (("functools", "functools.lru_cache"), (OLD, "fastcache.clru_cache")):
            result[name] = {
                "imports": "import " + wrap.partition(".")[0],
                "make": f"{wrap}(maxsize=n)(values.__getitem__)",
                "put": "c(k)",
                "get": "c(k)",
                "clear": "c.cache_clear()",
            }
    plain = {"size_ttl": "size"}.get(mode, mode)
    ttl = 3600.0 if mode == "size_ttl" else EXPIRY_TTL
    for job in result.values():
        job.update(mode=plain, n=1000 if mode == "empty" else n, ttl=ttl)
    return result


def subjects_of(mode: str) -> list[str]:
    """Return the names of the subjects that the mode can ask."""
    if mode == "import":
        return [
            US,
            *(
                name
                for name, peer in PEERS.items()
                if peer.module and name != OLD and not peer.tier
            ),
        ]
    return list(jobs(mode, ENTRIES))


def one_cell(question: Question, subject: str, entries: int = ENTRIES) -> Cell:
    """Answer one question for one subject, once; for the benchmarks under pytest."""
    if question.mode == "import":
        told = _imports([] if subject == US else [subject], 1, lambda text: None)[subject]
    else:
        told = [_child(jobs(question.mode, entries)[subject], sys.executable)]
    cell = _cell(question, told)
    if cell.values:
        cell.median = cell.values[0]
    return cell


def run_children(
    questions: Iterable[Question],
    peers: Iterable[str],
    rounds: int,
    old_python: str | None = None,
    entries: int = ENTRIES,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Answer the questions, one result each. Modes they share are run once."""
    asked = list(questions)
    answers: dict[str, dict[str, list[dict[str, Any]]]] = {}
    seconds: dict[str, float] = {}
    for mode in dict.fromkeys(question.mode for question in asked):
        started = time.monotonic()
        if mode == "import":
            answers[mode] = _imports(peers, rounds, tell)
        else:
            most = min(rounds, _MOST_ROUNDS.get(mode, rounds))
            answers[mode] = _children(mode, peers, most, old_python, entries, tell)
        seconds[mode] = time.monotonic() - started
    results = []
    for question in asked:
        result = Result(question.row, seconds=seconds[question.mode])
        for subject, told in answers[question.mode].items():
            result.cells[subject] = _cell(question, told)
        summarize(result)
        results.append(result)
    return results


def _children(
    mode: str,
    peers: Iterable[str],
    rounds: int,
    old_python: str | None,
    entries: int,
    tell: Callable[[str], None],
) -> dict[str, list[dict[str, Any]]]:
    names = {US, *CONTROLS, *peers}
    todo = {
        name: job for name, job in jobs(mode, entries).items() if name.partition(":")[0] in names
    }
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in todo}
    for number in range(rounds):
        # Each round starts with another subject, so that none is always first after a pause.
        order = list(todo)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if any("error" in answer for answer in told[name]):
                continue
            tell(f"{mode}: round {number + 1} of {rounds}, {name}")
            told[name].append(_child(todo[name], old_python if name == OLD else sys.executable))
    return told


def _child(job: dict[str, Any], python: str | None) -> dict[str, Any]:
    if python is None:
        return {"error": "no interpreter with it"}
    environment = child_environment()
    if python != sys.executable:
        environment = {
            name: value
            for name, value in environment.items()
            if not name.startswith(("PYTHON", "FASTCACHE_BENCH"))
        }
    try:
        done = subprocess.run(
            [python, str(_SCRIPT), json.dumps(job)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {LIMIT:g} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2][-200:]
        return {"error": f"exited with {done.returncode}: {last}"}
    return answer


def _cell(question: Question, told: list[dict[str, Any]]) -> Cell:
    cell = Cell()
    errors = [str(answer["error"]) for answer in told if "error" in answer]
    if errors:
        cell.error = errors[0]
        return cell
    values = [answer.get(question.field) for answer in told]
    if question.field == "back" and None in values:
        cell.note = f"not back within {told[0]['patience']:g} s"
        cell.values = [float(a["back"] or a["patience"]) for a in told]
    elif None in values:
        cell.error = next((a["no_clear"] for a in told if "no_clear" in a), "not told")
        return cell
    else:
        cell.values = [float(value) for value in values if value is not None]
    if question.field == "gc" and told[0].get("cycles_freed") is False:
        cell.excluded, cell.note = True, "never frees cycles through the cache"
    if any(answer.get("loads", 0) > 1 for answer in told):
        cell.excluded = True
        cell.note = f"{max(answer['loads'] for answer in told)} loads instead of one"
    for name in ("nbytes", "sizeof", "worst_wall", "wall", "importtime", "third_party"):
        if name in told[0]:
            cell.extra[name] = [answer.get(name) for answer in told]
    return cell


_FIND_FOREIGN = (
    "import sys; before = set(sys.modules); import {module}; "
    "print(*sorted({{m.partition('.')[0] for m in set(sys.modules) - before}} "
    "- set(sys.stdlib_module_names) - {{'{module}'}}))"
)


def _imports(
    peers: Iterable[str], rounds: int, tell: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    modules = {"fastcache": "fastcache"}
    for name in peers:
        if PEERS[name].module and name != OLD and not PEERS[name].tier:
            modules[name] = PEERS[name].module
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in modules}
    foreign: dict[str, list[str]] = {}
    broken: dict[str, str] = {}
    for name, module in modules.items():  # also warms the file cache and writes the bytecode
        done = _python("-c", _FIND_FOREIGN.format(module=module))
        foreign[name] = done.stdout.split()
        if done.returncode != 0:
            broken[name] = done.stderr.strip().rpartition("\n")[2]
            told[name] = [{"error": broken[name]}]
    for number in range(rounds):
        tell(f"import: round {number + 1} of {rounds}")
        bare_cpu, bare_wall = _cost("pass")
        for name, module in modules.items():
            if name in broken:
                continue
            cpu, wall = _cost(f"import {module}")
            told[name].append(
                {
                    "cpu": cpu - bare_cpu,
                    "wall": wall - bare_wall,
                    "importtime": _importtime(module),
                    "third_party": foreign[name],
                }
            )
    return told


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = child_environment()
    path = [environment["FASTCACHE_BENCH_PATH"], environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def _cost(code: str) -> tuple[float, float]:
    """Return CPU and wall milliseconds of an interpreter that runs `code`."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    _python("-c", code)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu * 1e3, wall * 1e3


def _importtime(module: str) -> float | None:
    """Return what ``-X importtime`` says of the module, cumulative milliseconds."""
    for line in _python("-X", "importtime", "-c", f"import {module}").stderr.splitlines():
        parts = line.split("|")
        if len(parts) == 3 and parts[2].strip() == module:
            return int(parts[1]) / 1e3
    return None
