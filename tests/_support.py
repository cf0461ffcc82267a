"""What the tests of the cache share: a recorder, threads that cannot hang the run, snapshots."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

#: Seconds after which a thread or a subprocess counts as hung. Never slept for: only a limit.
LIMIT = 60.0


def shown(value: object) -> str:
    """Its repr without what differs between the processes that share a run: an address, the order of a set."""
    if isinstance(value, frozenset):
        return f"frozenset of {len(value)}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


class Recorder:
    """A removal listener that keeps its calls as ``(key, value, cause)``."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, Any, str]] = []

    def __call__(self, key: Any, value: Any, cause: str) -> None:
        self.events.append((key, value, cause))

    def take(self) -> list[tuple[Any, Any, str]]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events


def until(condition: Callable[[], bool]) -> None:
    """Give way to other threads until `condition()` holds; fails after `LIMIT` seconds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition!r} did not come true in {LIMIT} seconds")
        time.sleep(0)


def run_threads(functions: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run each function in a thread; their results, an exception standing for itself.

    The threads are daemons, so that one that hangs fails the test and not the run.
    """
    functions = list(functions)
    results: list[Any] = [None] * len(functions)

    def call(index: int) -> None:
        try:
            results[index] = functions[index]()
        except BaseException as error:  # handed to the caller, who compares it
            results[index] = error

    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a thread hangs"
    return results


def run_python(code: str, *arguments: str) -> str:
    """Run `code` in a fresh interpreter under a time limit; its standard output.

    The child dumps all stacks shortly before the limit, so that a hang says where it hangs.
    """
    preamble = f"import faulthandler; faulthandler.dump_traceback_later({LIMIT - 5}, exit=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", preamble + code, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def snapshot(cache: Any) -> dict[str, Any]:
    """All that can be seen of a cache without changing it."""
    return {
        "entries": {key: cache.entry(key) for key in cache},
        "order": cache.coldest(),
        "len": len(cache),
        "weight": cache.weight,
        "maxsize": cache.maxsize,
        "policy": cache.policy,
        "name": cache.name,
        "stats": cache.stats(),
    }
