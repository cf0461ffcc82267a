"""What a tiered cache counts."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastcache._core import CacheStats


@dataclass(frozen=True, slots=True)
class L2Stats:
    """Counts of what concerns L2.

    errors: by kind (see StoreError). undecodable: values that were a miss since they could not be read,
    by reason. unstorable: values that stay in L1, since they would not come back as they are. refused: fills
    that came too late, since the key was invalidated meanwhile. skipped: reads that the breaker, or a
    pending invalidation, kept from L2.
    """

    hits: int = 0
    misses: int = 0
    fills: int = 0
    refused: int = 0
    unstorable: int = 0
    skipped: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    undecodable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TieredStats:
    """A record of counts, from `stats()`.

    state: "healthy"; "degraded", when L1 serves what it has without hearing of changes, or L2 is left
    out; "down", when that has lasted longer than max_staleness. trust: seconds for which L1 may still be
    trusted without hearing from the others, None for ever. loads, load_failures, load_time (seconds): of
    the loader. lease_waits: loads that waited for another process. stale: values served without trust,
    or past their ttl. sent, received: invalidations. pending: invalidations that L2 has not got yet. lost:
    counters of which messages may have been lost; dropped: entries dropped from L1 for that. writes:
    handed to the writer. events, event_failures: published or heard; whose keys_of failed.
    """

    state: str
    l1: CacheStats
    l2: L2Stats
    trust: float | None
    loads: int
    load_failures: int
    load_time: float
    lease_waits: int
    stale: int
    sent: int
    received: int
    lost: int
    dropped: int
    pending: int
    writes: int
    events: int
    event_failures: int


class Counts:
    """Counters that any thread may advance. A lock, since `+=` on attributes may lose some."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._numbers: Counter[str] = Counter()

    def forked(self) -> None:
        """In a child: who held the lock is not here."""
        self._lock = threading.RLock()

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._numbers[name] += n

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def take(self, reset: bool) -> Counter[str]:
        """A copy, and anew from 0 if asked."""
        with self._lock:
            taken = Counter(self._numbers)
            if reset:
                self._numbers.clear()
            return taken


def under(numbers: Mapping[str, int], prefix: str) -> dict[str, int]:
    """The counts whose names begin so, without that beginning."""
    return {name[len(prefix) :]: n for name, n in numbers.items() if name.startswith(prefix)}
