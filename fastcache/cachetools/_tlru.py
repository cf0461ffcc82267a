"""TLRUCache: items that say themselves when they die, in a heap.

Invariant: `_fc_items` has the item of each key that is held; what else is in the heap is marked as
removed. A heap of which more than half is removed is built anew.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Self, TypeVar

from fastcache.cachetools._caches import ABSENT, _OrderedCache
from fastcache.cachetools._timed import _TimedCache

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class _Item:
    """An item of TLRUCache in the heap; one that was removed stays there, marked, until its turn."""

    __slots__ = ("expires", "key", "removed")

    def __init__(self, key: Any, expires: Any, removed: bool = False) -> None:
        self.key = key
        self.expires = expires
        self.removed = removed

    def __lt__(self, other: _Item) -> Any:
        return self.expires < other.expires


class TLRUCache(_TimedCache[K, V, T]):
    """A cache whose items die when `ttu(key, value, now)` says; it evicts as LRUCache does.

    timer: returns the time, seconds of time.monotonic by default. What is dead on arrival is not
    stored, and removes what was there.
    """

    __module__ = "fastcache.cachetools"

    _fc_direct = True
    _fc_items: dict[K, _Item]
    _fc_heap: list[_Item]

    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[K, V, Any], Any],
        timer: Callable[[], Any] = clocks.monotonic,
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        _TimedCache.__init__(self, maxsize, timer, getsizeof)
        self._fc_ttu = ttu
        self._fc_items = {}
        self._fc_heap = []

    @property
    def ttu(self) -> Callable[[K, V, Any], Any]:
        """The function that says when an item dies."""
        return self._fc_ttu

    def _fc_read(self, key: K, default: Any) -> Any:
        """The value of a live key, which is an access, else default. For `_fc_direct` only."""
        item = self._fc_items.get(key)
        if item is not None:
            timer = self._fc_timer
            if (timer._fc_now if timer._fc_nesting else timer._fc_source()) < item.expires:
                return self._fc_store.get(key, default)
        return default

    def _fc_reader(self) -> Callable[[Any, Any], Any]:
        return self._fc_read

    def get(self, key: K, default: Any = None) -> Any:
        """The value of key, which is an access; default if absent or dead."""
        if self._fc_direct:
            return self._fc_read(key, default)
        return _TimedCache.get(self, key, default)

    def __contains__(self, key: object) -> bool:
        item = self._fc_items.get(key)  # type: ignore[arg-type]
        return item is not None and bool(self._fc_time() < item.expires)

    def __getitem__(self, key: K) -> V:
        item = self._fc_items.get(key)
        if item is not None and self._fc_time() < item.expires:
            value: V = self._fc_store.get(key, ABSENT)
            if value is not ABSENT:
                return value
        return self.__missing__(key)

    def __setitem__(self, key: K, value: V) -> None:
        with self._fc_timer if self._fc_direct else self.timer as now:
            self.expire(now)
            expires = self._fc_ttu(key, value, now)
            if not now < expires:
                old = self._fc_items.pop(key, None)
                if old is not None:
                    old.removed = True
                    _OrderedCache.__delitem__(self, key)
                return
            _OrderedCache.__setitem__(self, key, value)
        old = self._fc_items.get(key)
        if old is not None:
            old.removed = True
        self._fc_items[key] = item = _Item(key, expires)
        heappush(self._fc_heap, item)

    def __delitem__(self, key: K) -> None:
        now = self._fc_time()
        _OrderedCache.__delitem__(self, key)
        item = self._fc_items.pop(key)
        item.removed = True
        if not now < item.expires:
            raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        for item in self._fc_heap:
            with self.timer as now:
                if now < item.expires and not item.removed:
                    yield item.key

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._fc_heap = [_Item(i.key, i.expires, i.removed) for i in self._fc_heap]
        copy._fc_items = {item.key: item for item in copy._fc_heap if not item.removed}
        return copy

    def expire(self, time: T | None = None) -> list[tuple[K, V]]:
        """Remove what is dead at `time`, by default now, and return its (key, value) pairs.
        O(log n) for each of them."""
        now: Any = self.timer() if time is None else time
        heap = self._fc_heap
        if len(heap) > 2 * len(self._fc_items):
            self._fc_heap = heap = [item for item in heap if not item.removed]
            heapify(heap)
        if not heap or (not heap[0].removed and now < heap[0].expires):
            return []
        expired = []
        while heap and (heap[0].removed or not now < heap[0].expires):
            item = heappop(heap)
            if not item.removed:
                expired.append(self._fc_buried(item.key))
                del self._fc_items[item.key]
        return expired

    def popitem(self) -> tuple[K, V]:
        """Remove and return the live (key, value) used longest ago; KeyError if there is none."""
        if self._fc_direct:
            self.expire(self._fc_time())
            pair = _OrderedCache.popitem(self)
            self._fc_items.pop(pair[0]).removed = True
            return pair
        with self.timer as now:
            self.expire(now)
            return _OrderedCache.popitem(self)

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        _OrderedCache.clear(self)
        self._fc_items.clear()
        self._fc_heap.clear()
