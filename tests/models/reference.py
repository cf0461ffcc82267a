"""Reference models: what the engine does, in the fewest lines of Python, at O(n) per call.

A policy keeps an order of keys and names it from coldest to hottest. `Model` adds bound, weights,
deadlines and events. It drops the dead at once (the engine may take its time), so only the live
are compared step by step and the expired as a whole at the end.
"""

from __future__ import annotations

import itertools
import math
from typing import Any


class LRU:
    """Least recently used (a list from coldest to hottest)."""

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def insert(self, key: Any) -> None:
        self.keys.append(key)

    def hit(self, key: Any) -> None:
        self.keys.remove(key)
        self.keys.append(key)

    def remove(self, key: Any) -> None:
        self.keys.remove(key)

    def order(self) -> list[Any]:
        return list(self.keys)


class FIFO(LRU):
    """First in, first out: neither reading nor overwriting moves a key."""

    def hit(self, key: Any) -> None:
        pass


class LFU:
    """Least frequently used; among equals the key that reached its count first."""

    def __init__(self) -> None:
        self.counts: dict[Any, tuple[int, int]] = {}
        self.clock = itertools.count()

    def insert(self, key: Any) -> None:
        self.counts[key] = (1, next(self.clock))

    def hit(self, key: Any) -> None:
        self.counts[key] = (self.counts[key][0] + 1, next(self.clock))

    def remove(self, key: Any) -> None:
        del self.counts[key]

    def order(self) -> list[Any]:
        return sorted(self.counts, key=self.counts.__getitem__)


POLICIES = {"lru": LRU, "fifo": FIFO, "lfu": LFU}


class Item:
    """A stored pair with its options; `dies` and `idles` are deadlines, inf for never."""

    def __init__(
        self, value: Any, weight: int, now: float, ttl: float | None, tti: float | None, tags: Any
    ) -> None:
        self.value, self.weight, self.ttl, self.tti, self.tags = (
            value,
            weight,
            ttl,
            tti,
            frozenset(tags),
        )
        self.dies = math.inf if ttl is None else now + ttl
        self.touch(now)

    def touch(self, now: float) -> None:
        self.idles = math.inf if self.tti is None else now + self.tti
