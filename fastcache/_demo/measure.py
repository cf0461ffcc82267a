"""Durations, counted in buckets that are exact to three parts in a hundred, so that a long run needs no more memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

#: Significant bits of a duration that are kept.
_BITS = 6


def rounded(ns: int) -> int:
    """The beginning of the bucket that a duration is counted in."""
    shift = ns.bit_length() - _BITS
    return ns if shift <= 0 else ns >> shift << shift


class Durations:
    """Counts of durations in nanoseconds. For one thread, but `add` may lose against a copy in another."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    def add(self, ns: int) -> None:
        """Count one. O(1)."""
        self.counts[rounded(ns)] += 1

    def merge(self, told: Mapping[str, int]) -> None:
        """Add those of another process, as they come out of JSON."""
        for ns, count in told.items():
            self.counts[int(ns)] += count

    def __len__(self) -> int:
        return self.counts.total()

    def quantile(self, part: float) -> int | None:
        """The nanoseconds that so many of all do not exceed; None without any. O(buckets)."""
        left = part * len(self)
        for ns in sorted(self.counts):
            left -= self.counts[ns]
            if left <= 0:
                return ns
        return max(self.counts, default=None)

    def longest(self) -> int | None:
        return max(self.counts, default=None)


def spoken(ns: int | None) -> str:
    """A duration for people: `0.4 us`, `12 ms`; `-` for none."""
    if ns is None:
        return "-"
    for limit, unit, size in ((1_000_000, "us", 1e3), (1_000_000_000, "ms", 1e6)):
        if ns < limit * 0.9995:
            return f"{ns / size:.3g} {unit}"
    return f"{ns / 1e9:.3g} s"
