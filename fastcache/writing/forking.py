"""Locks that a fork waits for, so that no other thread is inside SQLite meanwhile.

SQLite guards its allocator and its caches by mutexes that belong to the process, not to a connection. If a thread is
inside while another forks, one of them may stay locked in the child for ever, and the child's first connection
hangs. So all that calls SQLite here holds a lock that was given to `hold`, and a fork takes them all, outer
ones first. It waits LIMIT seconds at most, since whoever has one may be waiting for a file. What users' own code does
in SQLite meanwhile is not known here.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, TypeVar

from fastcache._living import Living

L = TypeVar("L")

log = logging.getLogger("fastcache")

#: Seconds that a fork waits at most.
LIMIT = 2.0
#: Who holds a lock of one kind may go on to take one of a later kind, never of an earlier one.
FILES, QUEUE, CONNECTION = range(3)

_held: tuple[Living[Any], ...] = tuple(Living() for _ in range(3))
_taken = threading.local()  # by the thread that forks: several may at once


def hold(lock: L, kind: int) -> L:
    """Have each fork take this lock (a Lock or an RLock), for as long as it exists; the lock."""
    _held[kind].add(lock)
    return lock


def _before() -> None:
    taken = _taken.locks = []
    end = time.monotonic() + LIMIT
    late = False
    for locks in _held:
        for lock in locks.all():
            if lock.acquire(timeout=max(0.0, end - time.monotonic())):
                taken.append(lock)
            else:
                late = True
    if late:
        log.warning(
            "a fork while SQLite is busy: waited %.0f s, the child may hang at its first write",
            LIMIT,
        )


def _after() -> None:
    taken: list[Any] = getattr(_taken, "locks", [])
    while taken:
        taken.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
