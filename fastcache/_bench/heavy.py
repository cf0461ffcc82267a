"""One large cache, filled and emptied in a process of its own; also the script that does so.

Stand-alone: standard library only, no import of this package. ``heavy.py JOB`` takes one JSON
object and prints one. A job names the `mode` (below), the number of entries `n`, and how the
subject is spelled: `imports`, `make` (an expression; `values[k]` is the value of key `k`), `put`,
`get` and `clear` (statements about `c`, `k` and `v`).

Memory is the process's anonymous resident memory as the kernel counts it, page by page
(``/proc/self/smaps_rollup``), after keys and values have been allocated: it sees what C and Rust
allocators take, which tracemalloc does not. Transparent huge pages are switched off for the modes
that measure it, so that a page counts only when it was touched. Nothing is trimmed by hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import json
import os
import random
import statistics
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

_PR_SET_THP_DISABLE = 41
#: Ordinary traffic while memory comes back: so many calls, then a pause, again and again.
_BURST, _PAUSE, _PATIENCE = 500, 0.01, 6.0
#: How long threads and tasks get to reach what they will wait on, seconds (nothing reports that).
_SETTLE = 0.3


class NotMeasurableError(Exception):
    """This system does not tell what the mode needs."""


def anonymous() -> int:
    """Return the anonymous resident memory of this process in bytes."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Anonymous:"):
                    return int(line.split()[1]) * 1024
    except OSError as error:
        raise NotMeasurableError(f"resident memory: {error}") from error
    raise NotMeasurableError("resident memory: no Anonymous line in smaps_rollup")


def no_huge_pages() -> None:
    """Switch transparent huge pages off for this process, where the system allows it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def function(source: str, arguments: str, names: dict[str, Any]) -> Callable[..., Any]:
    """Return the function with that body (lines of `source`) and those arguments."""
    body = "".join(f"    {line}\n" for line in source.splitlines())
    scope = dict(names)
    exec(f"def measured({arguments}):\n{body}", scope)
    measured: Callable[..., Any] = scope["measured"]
    return measured


def indent(source: str) -> str:
    """Indent each line by four blanks."""
    return "\n".join("    " + line for line in source.splitlines())


class Job:
    """A job with its names set up: `keys`, `values`, and the subject's statements compiled."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Import the subject and allocate keys and values (the keys themselves, or lists)."""
        self.job = job
        self.n = int(job["n"])
        self.names: dict[str, Any] = {"n": self.n, "threading": threading}
        exec(job.get("imports", ""), self.names)
        # Neighbours in time are no neighbours in memory, in a program that has run for a while.
        self.values: list[Any] = list(range(self.n))
        self.keys = list(self.values)
        random.Random(self.n).shuffle(self.keys)
        if job["mode"] == "tracked":
            self.values = [[] for _ in self.keys]
        self.column = [self.values[key] for key in self.keys]
        self.names["values"] = self.values
        self._bare = function("for k, v in pairs:\n    pass", "c, pairs", self.names)
        self._clear = function(job.get("clear", "") or "pass", "c", self.names)
        self.set_ttl(float(job.get("ttl", 3600.0)))

    def set_ttl(self, ttl: float) -> None:
        """Let what is made and put from now on live for `ttl` seconds."""
        self.names["ttl"] = ttl
        self.names["span"] = datetime.timedelta(seconds=ttl)
        put = self.job.get("put") or "pass"
        self._fill = function(f"for k, v in pairs:\n{indent(put)}", "c, pairs", self.names)

    def make(self) -> Any:
        """Return a new cache."""
        return eval(self.job["make"], self.names)

    def fill(self, cache: Any) -> None:
        """Put every key into the cache."""
        self._fill(cache, zip(self.keys, self.column))  # noqa: B905  (also runs on 3.9)

    def bare(self) -> None:
        """Run the loop of `fill` without its statement."""
        self._bare(None, zip(self.keys, self.column))  # noqa: B905

    def clear(self, cache: Any) -> None:
        """Empty the cache."""
        self._clear(cache)


def cpu_ms(call: Callable[[], Any]) -> float:
    """Return the thread CPU time of the call in milliseconds."""
    start = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start) / 1e6


def collect_ms(times: int = 3) -> float:
    """Return the median thread CPU time of a full collection in milliseconds."""
    gc.collect()
    return statistics.median(cpu_ms(gc.collect) for _ in range(times))


def size(job: Job) -> dict[str, Any]:
    """Bytes per entry of a full cache, and what `clear` leaves behind."""
    no_huge_pages()
    gc.collect()
    before = anonymous()
    cache = job.make()
    job.fill(cache)
    full = anonymous()
    answer: dict[str, Any] = {"bytes": (full - before) / job.n}
    if hasattr(cache, "nbytes"):
        answer["nbytes"] = cache.nbytes / job.n
    if try_clear(job, cache, answer):
        answer["left_mb"] = (anonymous() - before) / 1e6
    return answer


def try_clear(job: Job, cache: Any, answer: dict[str, Any]) -> bool:
    """Clear the cache; if it cannot, note why in the answer and return False."""
    try:
        job.clear(cache)
    except Exception as error:  # noqa: BLE001  (reported; what was measured before still stands)
        answer["no_clear"] = f"{type(error).__name__}: {error}"
        return False
    return True


def fill(job: Job) -> dict[str, Any]:
    """CPU milliseconds of filling, clearing and dropping; of collections with atomic values."""
    gc.collect()
    idle = collect_ms()
    gc.disable()
    cache = job.make()
    took = cpu_ms(lambda: job.fill(cache)) - cpu_ms(job.bare)
    answer: dict[str, Any] = {"fill": took}
    answer["gc"] = collect_ms() - idle
    other = job.make()
    job.fill(other)
    start = time.thread_time_ns()
    del other
    answer["drop"] = (time.thread_time_ns() - start) / 1e6
    start = time.thread_time_ns()
    if try_clear(job, cache, answer):
        answer["clear"] = (time.thread_time_ns() - start) / 1e6
    answer["cycles_freed"] = cycle_freed(job)
    return answer


def tracked(job: Job) -> dict[str, Any]:
    """CPU milliseconds of a collection with a million lists as values; whether cycles are freed."""
    idle = collect_ms()
    gc.disable()
    cache = job.make()
    job.fill(cache)
    return {"gc": collect_ms() - idle, "cycles_freed": cycle_freed(job)}


class Node:
    """A value that refers to the cache it is in."""

    cache: Any = None


def cycle_freed(job: Job) -> bool:
    """Say whether a cache that holds a value that refers to the cache is freed by collecting."""
    node = Node()
    values: list[Any] = [node]
    names = {**job.names, "values": values, "n": 16}
    node.cache = eval(job.job["make"], names)
    function(f"k, v = 0, values[0]\n{job.job['put']}", "c, values", names)(node.cache, values)
    watch = weakref.ref(node)
    values.clear()
    del node, names
    gc.collect()
    gc.collect()
    return watch() is None


def worst(job: Job) -> dict[str, Any]:
    """The worst single call while filling, thread CPU milliseconds."""
    source = (
        "worst = 0\nfor k, v in pairs:\n    t = clock()\n"
        + indent(job.job["put"])
        + "\n    t = clock() - t\n    if t > worst:\n        worst = t\nreturn worst"
    )
    measured = function(source, "c, pairs, clock", job.names)
    gc.collect()
    gc.disable()
    pairs = zip(job.keys, job.column)  # noqa: B905
    return {"worst": measured(job.make(), pairs, time.thread_time_ns) / 1e6}


def expiry(job: Job) -> dict[str, Any]:
    """Every entry expires; then ordinary traffic: its worst call, and when memory is back.

    Traffic is pairs of a `get` of an expired key and a `put` among 1,000 keys, at most 50,000
    pairs a second. Memory is back when nine tenths of what filling took have been returned.
    """
    ttl = float(job.job["ttl"])
    gc.collect()
    gc.disable()
    while True:
        job.set_ttl(ttl)
        cache = job.make()
        before = anonymous()
        started = time.monotonic()
        job.fill(cache)
        took = time.monotonic() - started
        if took < ttl * 0.8:
            break
        ttl = took * 2.0 + 1.0  # a slow subject: its first entries expired while it filled
        del cache
    full = anonymous()
    time.sleep(ttl + 0.2)
    source = (
        "for k in batch:\n    w, t = wall(), clock()\n"
        + indent(job.job["get"])
        + "\n    t = clock() - t\n    worst = t if t > worst else worst\n    v = k = k % 1000 - 1001\n"
        + "    t = clock()\n"
        + indent(job.job["put"])
        + "\n    t, w = clock() - t, wall() - w\n    worst = t if t > worst else worst\n"
        + "    worst_wall = w if w > worst_wall else worst_wall\nreturn worst, worst_wall"
    )
    measured = function(source, "c, batch, clock, wall, worst, worst_wall", job.names)
    begun = time.monotonic()
    slowest, slowest_wall, at = 0, 0, 0
    back = None
    goal = before + (full - before) // 10
    looked = begun
    while time.monotonic() - begun < _PATIENCE:
        batch = job.keys[at : at + _BURST] or job.keys[:_BURST]
        at = (at + _BURST) % job.n
        slowest, slowest_wall = measured(
            cache, batch, time.thread_time_ns, time.perf_counter_ns, slowest, slowest_wall
        )
        if time.monotonic() - looked > 0.05:
            looked = time.monotonic()
            if anonymous() <= goal:
                back = looked - begun
                break
        time.sleep(_PAUSE)
    return {
        "worst": slowest / 1e6,
        "worst_wall": slowest_wall / 1e6,
        "back": back,
        "patience": _PATIENCE,
        "grown_mb": (full - before) / 1e6,
    }


def empty(job: Job) -> dict[str, Any]:
    """Bytes of one cache with nothing in it, averaged over 10,000 of them."""
    no_huge_pages()
    kept = [None] * 10_000
    first = job.make()
    gc.collect()
    before = anonymous()
    for index in range(len(kept)):
        kept[index] = job.make()
    return {"bytes": (anonymous() - before) / len(kept), "sizeof": sys.getsizeof(first)}


def cold(job: Job) -> dict[str, Any]:
    """`threads` wait for one cold key: milliseconds from the end of the load to the last return.

    `ask` is an expression for a callable of no argument that loads by `load`; the subject named
    "lock chain" is the same number of threads behind a plain lock, one after the other.
    """
    threads = int(job.job["threads"])
    gate, barrier = threading.Event(), threading.Barrier(threads + 1)
    chain = threading.Lock()
    loads: list[None] = []
    ends = [0] * threads

    def load(*_: object) -> int:
        loads.append(None)
        gate.wait()
        return 1

    def pass_lock() -> None:
        with chain:
            pass

    ask = pass_lock if not job.job["ask"] else eval(job.job["ask"], {**job.names, "load": load})

    def wait(number: int) -> None:
        barrier.wait()
        ask()
        ends[number] = time.perf_counter_ns()

    if not job.job["ask"]:
        chain.acquire()
    crowd = [threading.Thread(target=wait, args=(number,)) for number in range(threads)]
    for thread in crowd:
        thread.start()
    barrier.wait()
    time.sleep(_SETTLE + threads / 2000)
    start = time.perf_counter_ns()
    if job.job["ask"]:
        gate.set()
    else:
        chain.release()
    for thread in crowd:
        thread.join()
    return {"awake": (max(ends) - start) / 1e6, "loads": len(loads)}


def tasks(job: Job) -> dict[str, Any]:
    """As `cold`, of `tasks` tasks on one event loop; the lock of the chain is asyncio's."""
    import asyncio

    number = int(job.job["tasks"])
    loads: list[None] = []
    ends = [0] * number

    async def crowd() -> float:
        gate, chain = asyncio.Event(), asyncio.Lock()

        async def load(*_: object) -> int:
            loads.append(None)
            await gate.wait()
            return 1

        async def pass_lock() -> None:
            async with chain:
                pass

        names = {**job.names, "load": load}
        ask = eval(job.job["ask"], names) if job.job["ask"] else pass_lock
        await chain.acquire()

        async def wait(number: int) -> None:
            await ask()
            ends[number] = time.perf_counter_ns()

        waiting = [asyncio.create_task(wait(number)) for number in range(len(ends))]
        await asyncio.sleep(_SETTLE)
        start = time.perf_counter_ns()
        gate.set()
        chain.release()
        await asyncio.gather(*waiting)
        return (max(ends) - start) / 1e6

    return {"awake": asyncio.run(crowd()), "loads": len(loads)}


MODES = {
    "size": size, "fill": fill, "tracked": tracked, "worst": worst, "expiry": expiry,
    "empty": empty, "cold": cold, "tasks": tasks,
}  # fmt: skip


def main() -> None:
    """Run the job of the first argument; print its answer, or `{"error": ...}`."""
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]  # our neighbours must not shadow anybody's modules
    path = os.environ.get("FASTCACHE_BENCH_PATH", "")
    sys.path[:0] = [folder for folder in path.split(os.pathsep) if folder]
    try:
        job = Job(json.loads(sys.argv[1]))
        answer = MODES[job.job["mode"]](job)
    except Exception as error:  # noqa: BLE001  (a peer may raise anything; it is reported)
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
    # Background threads of some peers would keep the interpreter from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
