"""What the tests of scenarios 21 to 32 share, and the scripts that they run in processes of their own."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stress.support import LIMIT, child_environment

from fastcache import Cache, TieredCache
from fastcache.backplane import RedisBackplane
from fastcache.stores import MemcachedStore, RedisStore, SQLiteStore

#: Seconds after which something that has to come counts as missing. Never slept for.
PATIENCE = 30.0


def open_store(spec: str, **options: Any) -> Any:
    """A store by a text that may be handed to a process: `redis://…`, `redis+cluster://…`, `sqlite:PATH`,
    `memcached:HOST:PORT`, or that with `|` and the URL of a Redis for its messages."""
    options.setdefault("timeout", 5.0)
    kind, _, rest = spec.partition(":")
    if kind == "sqlite":
        return SQLiteStore(rest, **options)
    if kind == "memcached":
        servers, _, url = rest.partition("|")
        if url:
            options["backplane"] = RedisBackplane(url, timeout=options["timeout"])
        return MemcachedStore(servers.split(","), **options)
    return RedisStore(spec, **options)


@contextmanager
def tier(spec: str, namespace: str, **options: Any) -> Iterator[TieredCache[Any, Any]]:
    """A TieredCache with a store of its own, as in a process of its own. Options of the store begin with `l2_`."""
    store = open_store(spec, **{k[3:]: options.pop(k) for k in [*options] if k[:3] == "l2_"})
    l1: Cache[Any, Any] = options.pop("l1", None) or Cache(100_000)
    cache: TieredCache[Any, Any] = TieredCache(l1, store, namespace=namespace, **options)
    try:
        yield cache
    finally:
        cache.close()
        store.close()
        if getattr(store, "_backplane", None) is not None:
            store._backplane.close()


def a_namespace() -> str:
    return f"s{uuid.uuid4().hex[:12]}"


def until(condition: Callable[[], Any], what: object, limit: float = PATIENCE) -> Any:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what() if callable(what) else what}: not within {limit} s")
        time.sleep(0.002)


def numbers(path: Path | str, count: int = 0) -> memoryview:
    """Unsigned 64-bit numbers that all processes share: a database whose rows are written at once. With a count
    the file is made."""
    if count:
        Path(path).write_bytes(bytes(8 * count))
    fd = os.open(path, os.O_RDWR)
    try:
        return memoryview(mmap.mmap(fd, os.fstat(fd).st_size)).cast("Q")
    finally:
        os.close(fd)


def together(words: memoryview, me: int, count: int) -> None:
    """A barrier of `count` threads of any processes: each advances a word of its own."""
    words[me] += 1
    step = words[me]
    for other in range(count):
        while words[other] < step:
            time.sleep(0)


class Child:
    """A script in a process of its own, which talks in lines."""

    def __init__(self, script: str, *arguments: object) -> None:
        preamble = (
            "import faulthandler; faulthandler.enable()\n"
            f"faulthandler.dump_traceback_later({LIMIT}, exit=True)\n"
            "import os, random, signal, sys, threading, time\n"
            "from stress.tiers import *\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", preamble + textwrap.dedent(script), *map(str, arguments)],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """What it says next; it ends itself if it hangs."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the child ended with code {self.process.wait(LIMIT)}"
        return line.rstrip("\n")

    def say(self, line: object = "") -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def children(script: str, arguments: Sequence[Sequence[object]]) -> Iterator[list[Child]]:
    """One process for each row of arguments; killed at the end."""
    started: list[Child] = []
    try:
        for row in arguments:
            child = Child(script, *row)
            started.append(child)
        yield started
    finally:
        for child in started:
            child.kill()


class Threads:
    """Work in threads until the block ends; what one raises, the block raises."""

    def __init__(self, *work: Callable[[], object]) -> None:
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(each,), daemon=True) for each in work
        ]

    def _run(self, work: Callable[[], object]) -> None:
        try:
            while not self.over.is_set():
                work()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        if kind is None:
            assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"
            if self.errors:
                raise self.errors[0]


def percentiles(seconds: Sequence[float]) -> str:
    """p50, p99, p99.9 and the largest, in milliseconds."""
    ordered = sorted(seconds)
    marks = [
        ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.5, 0.99, 0.999)
    ]
    p50, p99, p999 = (f"{1000 * mark:.2f}" for mark in marks)
    return f"p50 {p50}, p99 {p99}, p99.9 {p999}, max {1000 * ordered[-1]:.2f} ms (n={len(ordered)})"


class UnfencedFill:
    """What turns off the fence of L2: every fill gets a lease of its own, just before."""

    @staticmethod
    def put_over(cache: Any) -> None:
        space = cache._core.space
        fill = space.fill

        def unfenced(fills: Any) -> Any:
            done = []
            for each in fills:
                (lease,) = yield from space.lease([each.name], os.urandom(16), 5.0)
                done += yield from fill([each._replace(token=lease.token)])
            return done

        space.fill = unfenced


class Deaf:
    """What keeps a cache from hearing others, and lets it believe that it does."""

    @staticmethod
    def put_over(cache: Any) -> None:
        link = cache._core.link
        link.deliver = lambda message: None
        link._compare = lambda counters, before: None
        link.missed = lambda numbers: None
