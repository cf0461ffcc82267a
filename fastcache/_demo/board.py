"""A file in shared memory in which each worker notes what it has written, and when: the truth past all caches.

For each worker and key three numbers: the version that the database has, the time at which its commit had ended,
and the time at which the caches began to be told. Times are of the monotonic clock, which is one for the
whole host. Each number is written by one worker only.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NUMBERS = 3


class Newer(NamedTuple):
    """A version that the database has. at: when its commit had ended."""

    version: int
    at: int


class Board:
    """The board as one worker sees it. Keys are numbers below `keys`."""

    def __init__(self, path: Path, workers: int, keys: int, me: int) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), workers * keys * _NUMBERS * 8)
        self._whole = memoryview(self._map)
        numbers = self._whole.cast("Q")
        size = keys * _NUMBERS
        self._parts = [numbers[i * size : (i + 1) * size] for i in range(workers)]
        numbers.release()
        self._mine = self._parts[me]
        self._others = [part for i, part in enumerate(self._parts) if i != me]

    @staticmethod
    def make(path: Path, workers: int, keys: int) -> None:
        """An empty board."""
        with open(path, "wb") as file:
            file.truncate(workers * keys * _NUMBERS * 8)

    def committed(self, key: int, version: int, at: int) -> None:
        """This worker's write of this version has been committed."""
        place = key * _NUMBERS
        self._mine[place + 1] = at  # first: whoever sees the version sees its time, or a later one
        self._mine[place] = version

    def telling(self, key: int, at: int) -> None:
        """This worker begins to tell the caches."""
        self._mine[key * _NUMBERS + 2] = at

    def newer(self, key: int, version: int) -> Newer | None:
        """The first known version above this one."""
        place = key * _NUMBERS
        found: Newer | None = None
        for part in self._parts:
            if part[place] > version:
                other = Newer(part[place], part[place + 1])
                if found is None or other.at < found.at:
                    found = other
        return found

    def told_after(self, key: int, at: int) -> int | None:
        """When another worker first began to tell of this key, after that time."""
        place = key * _NUMBERS + 2
        return min((part[place] for part in self._others if part[place] > at), default=None)

    def written(self) -> Iterator[int]:
        """The keys that were written."""
        size = len(self._mine)
        for place in range(0, size, _NUMBERS):
            if any(part[place] for part in self._parts):
                yield place // _NUMBERS

    def close(self) -> None:
        for part in self._parts:
            part.release()
        self._whole.release()
        self._map.close()
