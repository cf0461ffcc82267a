"""One worker process of the demonstrated service; also the script that runs it.

The first line of standard input is a Job as JSON; then come the words `go`, `stop` and `check`, each on a line. It
answers on standard output, one JSON object per line: `ready`, `tick` twice a second, `done` with all
figures, `checked`. When standard input ends, so does it, whatever it is at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcache._core import Cache
from fastcache._demo.board import Board
from fastcache._demo.database import Database
from fastcache._demo.measure import Durations
from fastcache.stores.protocol import StoreError
from fastcache.tiered import TieredCache

if TYPE_CHECKING:
    from fastcache.stores.protocol import Store

NAMESPACE = "fastcache-demo"
#: Seconds for which entries live, here and in L2.
TTL = 60.0
#: Seconds between two ticks; requests between two looks at the clock that sets the pace.
_TICK, _BURST = 0.5, 25
#: Seconds that a check waits for the last invalidations: as long as a lost one may take to be noticed.
_REST = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """me: which worker it is. url: of a Redis; "" is the SQLite file l2. rate: requests a second, 0 is all it can.
    writes: the part of them that writes. capacity: of L1. skew: exponent of Zipf's law."""

    me: int
    workers: int
    folder: str
    url: str
    keys: int
    capacity: int
    rate: float
    writes: float
    skew: float

    @property
    def where(self) -> Path:
        return Path(self.folder)


def store_of(job: Job) -> Store:
    """The L2."""
    if job.url:
        from fastcache.stores.redis import RedisStore

        return RedisStore(job.url)
    from fastcache.stores.sqlite import SQLiteStore

    return SQLiteStore(job.where / "l2.db")


class Worker:
    """The service, and what it measures of itself."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.board = Board(job.where / "board", job.workers, job.keys, job.me)
        self.database = Database(job.where / "source.db")
        self.store = store_of(job)
        self.l1: Cache[int, Any] = Cache(job.capacity, listener=self._removed)
        self.tiers: TieredCache[int, Any] = TieredCache(
            self.l1, self.store, namespace=NAMESPACE, loader=self._load, ttl=TTL
        )
        self.reads = {"l1": Durations(), "l2": Durations(), "load": Durations()}
        self.writing = Durations()
        self.dropped = Durations()
        self.stale = Durations()
        self.errors: dict[str, int] = {}
        self.broken = 0
        self._own: dict[int, int] = {}
        self._loaded = self._is_writing = False
        self._main = threading.get_ident()
        self._draw = random.Random(job.me + 1)
        # The hottest key is the same in all workers. A key's rank says nothing about its number's neighbours.
        order = list(range(job.keys))
        random.Random(0).shuffle(order)
        self._order = order
        self._weights = list(
            itertools.accumulate((rank + 1) ** -job.skew for rank in range(job.keys))
        )
        self._word = ""
        self._spoken = threading.Event()

    # ---- the service -------------------------------------------------------------------------------

    def _load(self, key: int) -> dict[str, Any]:
        self._loaded = True
        began = time.monotonic_ns()
        return {**self.database.article(key), "loaded": began}

    def read(self, key: int) -> None:
        """A request that reads."""
        hits = self.l1.stats().hits
        self._loaded = False
        began = time.monotonic_ns()
        article = self.tiers.get(key)
        took = time.monotonic_ns() - began
        if self._loaded:
            tier = "load"
        else:
            tier = "l1" if self.l1.stats().hits != hits else "l2"
        self.reads[tier].add(took)
        if article is None:
            raise KeyError(key)
        version = article["version"]
        newer = self.board.newer(key, version)
        if newer is not None and newer.at < began:
            self.stale.add(began - newer.at)
        if version < self._own.get(key, 0):
            self.broken += 1

    def write(self, key: int, held: bool) -> None:
        """A request that writes: with fills held back around it, or with an invalidation after it."""
        self._is_writing = True
        began = time.monotonic_ns()
        try:
            if held:
                self.board.telling(key, began)
                with self.tiers.updating(key):
                    version = self.database.raise_price(key)
                    self.board.committed(key, version, time.monotonic_ns())
            else:
                version = self.database.raise_price(key)
                now = time.monotonic_ns()
                self.board.committed(key, version, now)
                self.board.telling(key, now)
                self.tiers.invalidate(key)
        finally:
            self._is_writing = False
        self.writing.add(time.monotonic_ns() - began)
        self._own[key] = version

    def _removed(self, key: int, article: Any, cause: str) -> None:
        """An entry has left L1: if another worker's write was why, how long did that take?"""
        if cause != "explicit" or type(article) is not dict:
            return
        if self._is_writing and threading.get_ident() == self._main:
            return  # our own
        now = time.monotonic_ns()
        told = self.board.told_after(key, article["loaded"])
        if told is not None and told <= now:
            self.dropped.add(now - told)

    # ---- the load ----------------------------------------------------------------------------------

    def serve(self) -> None:
        """Requests at the rate asked for, until told to stop."""
        job, draw = self.job, self._draw
        pause = _BURST / job.rate if job.rate else 0.0
        due = tick = time.monotonic()
        while self._word == "go":
            for key in draw.choices(self._order, cum_weights=self._weights, k=_BURST):
                try:
                    if draw.random() < job.writes:
                        self.write(key, draw.random() < 0.5)
                    else:
                        self.read(key)
                except Exception as error:  # noqa: BLE001 - the service goes on; it is counted and shown
                    kind = f"{type(error).__name__}: {error}"
                    self.errors[kind] = self.errors.get(kind, 0) + 1
            now = time.monotonic()
            if now - tick >= _TICK:
                tick = now
                say("tick", self.progress())
            if pause:
                due = max(due + pause, now - 1.0)  # what was missed for longer is not made up for
                if due > now:
                    time.sleep(due - now)

    def progress(self) -> dict[str, Any]:
        return {
            **{tier: len(durations) for tier, durations in self.reads.items()},
            "writes": len(self.writing),
            "stale": len(self.stale),
            "errors": sum(self.errors.values()),
            "state": self.tiers.stats().state,
        }

    def figures(self) -> dict[str, Any]:
        stats = self.tiers.stats()
        named = ("loads", "lease_waits", "stale", "sent", "received", "lost", "dropped")
        return {
            "reads": {tier: durations.counts for tier, durations in self.reads.items()},
            "writing": self.writing.counts,
            "dropped": self.dropped.counts,
            "stale": self.stale.counts,
            "broken": self.broken,
            "errors": self.errors,
            "state": stats.state,
            "stats": {name: getattr(stats, name) for name in named},
            "l2": dataclasses.asdict(stats.l2),
            "entries": len(self.l1),
        }

    def check(self) -> list[int]:
        """The keys of which an old value is served though nobody writes any more, after at most some seconds."""
        end = time.monotonic() + _REST
        wrong = list(self.board.written())
        while wrong and time.monotonic() < end:
            wrong = [key for key in wrong if self._is_old(key)]
            if wrong:
                time.sleep(0.02)
        return wrong

    def _is_old(self, key: int) -> bool:
        article = self.tiers.get(key)
        return article is None or article["version"] != self.database.version(key)

    # ---- what it is told ---------------------------------------------------------------------------

    def run(self) -> None:
        # so that hearing of others' changes begins before the load does
        with contextlib.suppress(StoreError):
            self.tiers.get(0)
        threading.Thread(target=self._listen, daemon=True).start()
        say("ready", os.getpid())
        while True:
            self._spoken.wait()
            self._spoken.clear()
            if self._word == "go":
                self.serve()
                say("done", self.figures())
            elif self._word == "check":
                say("checked", self.check())

    def _listen(self) -> None:
        for line in sys.stdin:
            self._word = line.strip()
            self._spoken.set()
        # Nobody is there any more. Threads of the store may be at work, so nothing is torn down.
        os._exit(0)


def say(what: str, told: object) -> None:
    """One line to the parent."""
    print(json.dumps({what: told}), flush=True)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent hears them as well, and says stop
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="worker: %(message)s")
    job = Job(**json.loads(sys.stdin.readline()))
    Worker(job).run()


if __name__ == "__main__":
    main()
