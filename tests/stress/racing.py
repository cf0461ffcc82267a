"""Work done by several threads at once, as often as they can be made to meet."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from stress.support import INSTRUMENTED, scaled

THREADS = 6
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def many(quick: int, full: int) -> int:
    """Rounds: without the GIL more, since threads overlap only while they last. A sanitizer needs fewer: it sees
    races that have done no harm."""
    if INSTRUMENTED:
        return scaled(max(quick // 4, 2), full)
    return scaled(20 * quick if FREE_THREADED else quick, full)


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads switch as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(*work: Callable[[random.Random], object], rounds: int, threads: int = THREADS) -> None:
    """Run `work`, dealt out in turn to so many threads, `rounds` times in each."""
    barrier = threading.Barrier(threads, timeout=60)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        choose = random.Random(number)
        mine = work[number % len(work)]
        try:
            barrier.wait()
            for _ in range(rounds):
                mine(choose)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(threads)]
    for t in running:
        t.start()
    for t in running:
        t.join(240)
        assert not t.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
