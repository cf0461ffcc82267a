"""Which keys L1 holds of each bucket, so that one that may have changed can be dropped without a look at the rest."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fastcache._core import note_keys
from fastcache.stores.protocol import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache._core import Cache

#: Keys noted, beyond twice those that are held, after which those that have gone are forgotten.
SLACK = 4096


class Index:
    """Keys by bucket: all that L1 holds, and some that have left it. Safe from any thread. O(1) per key, on average;
    about 100 bytes each.

    A key is noted before it is stored, and is not forgotten while that lasts (`landing`), so no key
    that L1 holds is ever missing here.
    """

    def __init__(self, l1: Cache[Any, Any]) -> None:
        self._l1 = l1
        self._keys: list[set[Any]] = [set() for _ in range(BUCKETS)]
        self._lock = threading.RLock()
        self._landing: list[Any] = []
        self._landings: dict[int, Sequence[Any]] = {}
        self._noted = 0

    def forked(self) -> None:
        """In a child: who held the lock is not here."""
        self._lock = threading.RLock()

    def note(self, bucket: int, key: Any) -> None:
        """It is about to be stored; `noted` must follow."""
        self._landing.append(key)
        keys = self._keys[bucket]
        if key not in keys:
            keys.add(key)
            self._noted += 1

    def noted(self, key: Any) -> None:
        """It has been stored, or will not be."""
        self._landing.remove(key)
        self._tidy()

    def _tidy(self) -> None:
        if self._noted > 2 * len(self._l1) + SLACK and self._lock.acquire(False):
            try:
                self._forget()
            finally:
                self._lock.release()

    def note_many(self, names: list[str], keys: list[Any]) -> None:
        """These are about to be stored, by their names in L2; `noted_many` with the same list must follow."""
        self._landings[id(keys)] = keys
        self._noted += note_keys(self._keys, names, keys)

    def noted_many(self, keys: Sequence[Any]) -> None:
        """They have been stored, or will not be."""
        del self._landings[id(keys)]
        self._tidy()

    def _lands(self, key: Any) -> bool:
        return key in self._landing or any(key in keys for keys in list(self._landings.values()))

    def _forget(self) -> None:
        l1, lands = self._l1, self._lands
        left = 0
        for keys in self._keys:
            for key in list(keys):
                if key not in l1 and not lands(key):
                    keys.discard(key)
                    if key in l1 or lands(key):
                        keys.add(key)  # it came back meanwhile
            left += len(keys)
        self._noted = left

    def of(self, bucket: int) -> list[Any]:
        """The keys that L1 may hold of a bucket."""
        return list(self._keys[bucket])

    def all_of(self, buckets: Iterable[int]) -> list[Any]:
        return [key for bucket in buckets for key in self.of(bucket)]
