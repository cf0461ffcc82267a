"""How soon another process sees a change; also the script that is the other process.

`seen.py SUBJECT URL FOLDER` reads one key over and over, through its own cache, and prints one line of JSON
whenever the value is another: [the value, the time]. Values are the times at which they were written, of
the monotonic clock, which is one for the whole host.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcache._bench import tier_ground as ground_of

#: Changes in one round; seconds between them, so that one does not queue behind the other; seconds after which
#: one counts as never seen, and then the subject is out.
CHANGES, PAUSE, LIMIT = 1000, 0.0005, 10.0
KEY = "seen"


def _open(
    subject: str, ground: ground_of.Ground
) -> tuple[Callable[[], Any], Callable[[int], Any], Callable[[], object]]:
    """(read, write, close), of one process."""
    if subject.startswith("fastcache"):
        kind = "sqlite" if subject.endswith("sqlite") else "redis"
        made = ground_of.tiers(ground, 100, kind, "seen")
        return (
            lambda: made.get(KEY),
            lambda value: made.set(KEY, value),
            ground_of.closing(made),
        )
    if subject == "redis-py":
        client = ground_of.client_side(ground)
        return (
            lambda: int(client.get(KEY) or 0),
            lambda value: client.set(KEY, value),
            client.close,
        )
    loop = ground_of.Loop()
    cache = ground_of.cashews(ground.redis(), client_side=True)
    loop.do(cache.init())

    async def read() -> Any:
        await asyncio.sleep(0)  # its listener is a task
        return await cache.get(KEY)

    return (
        lambda: loop.do(read()),
        lambda value: loop.do(cache.set(KEY, value, expire=600)),
        lambda: loop.close(cache.close),
    )


SUBJECTS = ("fastcache", "fastcache:sqlite", "redis-py", "cashews")


class Observer:
    """The other process, and the writer in this one."""

    def __init__(self, subject: str, ground: ground_of.Ground) -> None:
        _, self._write, self._end = _open(subject, ground)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fastcache._bench.seen",
                subject,
                ground.url,
                str(ground.folder),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._changes = 0
        try:
            self._expect(0, 30.0)  # it is there
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            seen, at = json.loads(line)
            self._said.put((seen, at))

    def _expect(self, value: int, limit: float | None = None) -> int:
        """When it saw that value."""
        limit = LIMIT if limit is None else limit
        end = time.monotonic() + limit
        while True:
            try:
                seen, at = self._said.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(
                    f"change number {self._changes} was not seen within {limit:g} s"
                ) from None
            if seen == value:
                return at

    def round(self, changes: int | None = None) -> list[int]:
        """Nanoseconds from the beginning of each write to the first read there that returned it."""
        took = []
        for _ in range(CHANGES if changes is None else changes):
            self._changes += 1
            now = time.monotonic_ns()
            self._write(now)
            took.append(self._expect(now) - now)
            time.sleep(PAUSE)
        return took

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._end()


def _observe(subject: str, ground: ground_of.Ground) -> None:
    def end() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    read = _open(subject, ground)[0]
    last: Any = None
    read()
    print(json.dumps([0, time.monotonic_ns()]), flush=True)
    while True:
        value = read()
        if value != last and isinstance(value, int):
            last = value
            print(json.dumps([value, time.monotonic_ns()]), flush=True)
        elif value == last:
            time.sleep(0)  # others want the processor too


if __name__ == "__main__":
    _observe(sys.argv[1], ground_of.Ground(sys.argv[2], Path(sys.argv[3])))
