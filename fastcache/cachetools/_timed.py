"""The caches with a clock of the user's choice.

Their values are in the engine's store as those of all caches, in the order of use. When an item
dies is kept here, since times may be of any type that has `+` and `<`: TTLCache has a list linked
in the order of storing, which is that of dying, TLRUCache a heap. `_core`'s own expiry, which wants
float seconds, is not used.

`now` is read once for each call: within it the timer stands still, for the hooks of subclasses too.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar, Generic, Self, TypeVar

from fastcache.cachetools._caches import ABSENT, Cache, _OrderedCache

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class _Timer(Generic[T]):
    """A timer that stands still inside `with`, and has the attributes of the one it reads."""

    def __init__(self, timer: Callable[[], T]) -> None:
        self._fc_source = timer
        self._fc_nesting = 0
        self._fc_now: Any = None

    def __call__(self) -> T:
        now: T = self._fc_now if self._fc_nesting else self._fc_source()
        return now

    def __enter__(self) -> T:
        now: T = self._fc_now if self._fc_nesting else self._fc_source()
        self._fc_now = now
        self._fc_nesting += 1
        return now

    def __exit__(self, *exc: object) -> None:
        self._fc_nesting -= 1

    def __copy__(self) -> _Timer[T]:
        return _Timer(self._fc_source)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Timer, (self._fc_source,)  # not how far it is nested: that is this call's affair

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fc_source, name)


class _TimedCache(_OrderedCache[K, V], Generic[K, V, T]):
    """What the caches with a clock have in common: the dead are gone before anything is counted."""

    __module__ = "fastcache.cachetools"

    _fc_timer: _Timer[T]

    def __init__(
        self,
        maxsize: float,
        timer: Callable[[], T],
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        _OrderedCache.__init__(self, maxsize, getsizeof)
        self._fc_timer = _Timer(timer)

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._fc_timer = self._fc_timer.__copy__()
        return copy

    def __repr__(self) -> str:
        with self._fc_timer as now:
            self.expire(now)
            return Cache.__repr__(self)

    def __len__(self) -> int:
        with self._fc_timer as now:
            self.expire(now)
            return Cache.__len__(self)

    @property
    def currsize(self) -> float:
        """The sum of sizes of what is alive."""
        with self._fc_timer as now:
            self.expire(now)
            return Cache._fc_currsize(self)

    @property
    def timer(self) -> _Timer[T]:
        """The timer: call it for the time; `with cache.timer as now:` stops it meanwhile."""
        return self._fc_timer

    def get(self, key: K, default: Any = None) -> Any:
        """The value of key, which is an access; default if absent or dead."""
        with self._fc_timer:
            return self[key] if key in self else default  # noqa: SIM401, that is this method

    def pop(self, key: K, default: Any = ABSENT) -> Any:
        """Remove key and return its value; default, or KeyError without one, if absent or dead."""
        with self._fc_timer:
            return Cache.pop(self, key, default)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of key, stored before as default if absent or dead."""
        with self._fc_timer:
            return Cache.setdefault(self, key, default)

    def expire(self, time: T | None = None) -> list[tuple[K, V]]:
        """Remove what is dead at `time`, by default now, and return its (key, value) pairs."""
        raise NotImplementedError

    def _fc_buried(self, key: K) -> tuple[K, V]:
        """Remove a dead item past any overridden method; its (key, value)."""
        value = self._fc_data[key]
        _OrderedCache.__delitem__(self, key)
        return key, value


class _Link:
    """An item of TTLCache in the list of those that die."""

    __slots__ = ("expires", "key", "next", "prev")

    next: _Link
    prev: _Link

    def __init__(self, key: Any, expires: Any) -> None:
        self.key = key
        self.expires = expires

    def __reduce__(self) -> tuple[Any, ...]:
        return _Link, (self.key, self.expires)  # the neighbours would be recursion; see _Links


class _Links(_Link):
    """The list of those that die, first to last, and the link that closes it to a ring."""

    __slots__ = ()

    def __init__(self, links: Iterable[_Link] = ()) -> None:
        self.prev = self.next = self
        for link in links:
            self.append(link)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Links, (), list(self)

    __setstate__ = __init__

    def append(self, link: _Link) -> None:
        last = self.prev
        link.prev, link.next = last, self
        last.next = self.prev = link

    @staticmethod
    def unlink(link: _Link) -> None:
        """Take out a link, which goes on to know its neighbours: who stands on it can walk on."""
        before, after = link.prev, link.next
        before.next, after.prev = after, before

    def __iter__(self) -> Iterator[_Link]:
        link = self.next
        while link is not self:
            yield link
            link = link.next


class TTLCache(_TimedCache[K, V, T]):
    """A cache whose items die `ttl` after they were stored; it evicts as LRUCache does.

    timer: returns the time, seconds of time.monotonic by default; ttl: what is added to it, of any
    type that fits (timedelta for a timer that returns datetime). An item is dead once
    `timer() < stored + ttl` is false. The dead go when something is stored or counted.
    """

    __module__ = "fastcache.cachetools"

    _fc_direct = True
    _fc_links: dict[K, _Link]
    _fc_ring: _Links

    def __init__(
        self,
        maxsize: float,
        ttl: Any,
        timer: Callable[[], Any] = clocks.monotonic,
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        _TimedCache.__init__(self, maxsize, timer, getsizeof)
        self._fc_ttl = ttl
        self._fc_links = {}
        self._fc_ring = _Links()

    @property
    def ttl(self) -> Any:
        """How long an item lives."""
        return self._fc_ttl

    def _fc_read(self, key: K, default: Any) -> Any:
        """The value of a live key, which is an access, else default. For `_fc_direct` only."""
        link = self._fc_links.get(key)
        if link is not None:
            timer = self._fc_timer
            if (timer._fc_now if timer._fc_nesting else timer._fc_source()) < link.expires:
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
        link = self._fc_links.get(key)  # type: ignore[arg-type]
        if link is None:
            return False
        if self._fc_direct:
            timer = self._fc_timer
            now = timer._fc_now if timer._fc_nesting else timer._fc_source()
        else:
            now = self.timer()
        return bool(now < link.expires)

    def __len__(self) -> int:
        if self._fc_direct:
            timer = self._fc_timer
            now = timer._fc_now if timer._fc_nesting else timer._fc_source()
            first = self._fc_ring.next
            if first is not self._fc_ring and not now < first.expires:
                self.expire(now)
            return len(self._fc_data)
        return _TimedCache.__len__(self)

    def __getitem__(self, key: K) -> V:
        link = self._fc_links.get(key)
        if link is not None:
            if self._fc_direct:
                timer = self._fc_timer
                now = timer._fc_now if timer._fc_nesting else timer._fc_source()
            else:
                now = self.timer()
            if now < link.expires:
                value: V = self._fc_store.get(key, ABSENT)
                if value is not ABSENT:
                    return value
        return self.__missing__(key)

    def __setitem__(self, key: K, value: V) -> None:
        if self._fc_direct:
            timer = self._fc_timer
            stopped = timer._fc_nesting
            now = timer._fc_now if stopped else timer._fc_source()
            expires = now + self._fc_ttl
            first = self._fc_ring.next
            if first is not self._fc_ring and not now < first.expires:
                self.expire(now)
            timer._fc_now = now
            timer._fc_nesting += 1
            try:
                _OrderedCache.__setitem__(self, key, value)
            finally:
                timer._fc_nesting -= 1
        else:
            with self.timer as now:
                expires = now + self._fc_ttl
                self.expire(now)
                _OrderedCache.__setitem__(self, key, value)
        link = self._fc_links.get(key)
        if link is None:
            link = self._fc_links[key] = _Link(key, expires)
        else:
            before, after = link.prev, link.next
            before.next, after.prev = after, before
            link.expires = expires
        ring = self._fc_ring
        last = ring.prev
        link.prev, link.next = last, ring
        last.next = ring.prev = link

    def __delitem__(self, key: K) -> None:
        _OrderedCache.__delitem__(self, key)
        link = self._fc_links.pop(key)
        _Links.unlink(link)
        if not self.timer() < link.expires:
            raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        # The list is walked as it is by then, so that what was yielded may be removed.
        ring, timer = self._fc_ring, self.timer
        link = ring.next
        while link is not ring:
            with timer as now:
                if now < link.expires:
                    yield link.key
            link = link.next

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._fc_ring = _Links(_Link(link.key, link.expires) for link in self._fc_ring)
        copy._fc_links = {link.key: link for link in copy._fc_ring}
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.expire(self.timer())

    def expire(self, time: T | None = None) -> list[tuple[K, V]]:
        """Remove what is dead at `time`, by default now, and return its (key, value) pairs. O(1)
        for each of them."""
        now: Any = self.timer() if time is None else time
        ring = self._fc_ring
        expired = []
        while (link := ring.next) is not ring and not now < link.expires:
            expired.append(self._fc_buried(link.key))
            del self._fc_links[link.key]
            _Links.unlink(link)
        return expired

    def popitem(self) -> tuple[K, V]:
        """Remove and return the live (key, value) used longest ago; KeyError if there is none."""
        if self._fc_direct:
            timer = self._fc_timer
            now = timer._fc_now if timer._fc_nesting else timer._fc_source()
            first = self._fc_ring.next
            if first is not self._fc_ring and not now < first.expires:
                self.expire(now)
            pair = _OrderedCache.popitem(self)
            _Links.unlink(self._fc_links.pop(pair[0]))
            return pair
        with self.timer as now:
            self.expire(now)
            return _OrderedCache.popitem(self)

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        _OrderedCache.clear(self)
        self._fc_links.clear()
        self._fc_ring.prev = self._fc_ring.next = self._fc_ring


class _Item:
    """An item of TLRUCache in the heap; one that was removed stays there, marked, until its turn."""

    __slots__ = ("expires", "key", "removed")

    def __init__(self, key: Any, expires: Any, removed: bool = False) -> None:
        self.key = key
        self.expires = expires
        self.removed = removed

    def __lt__(self, other: _Item) -> bool:
        return bool(self.expires < other.expires)


class TLRUCache(_TimedCache[K, V, T]):
    """A cache whose items die when `ttu(key, value, now)` says; it evicts as LRUCache does.

    timer: returns the time, seconds of time.monotonic by default. What is dead on arrival is not
    stored, and removes what was there.
    """

    __module__ = "fastcache.cachetools"

    _fc_direct = True
    #: The heap is rid of removed items when they are more than the others.
    _fc_slack: ClassVar[int] = 2
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
        if item is not None and self._fc_timer() < item.expires:
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
        return item is not None and bool(self._fc_timer() < item.expires)

    def __getitem__(self, key: K) -> V:
        item = self._fc_items.get(key)
        if item is not None and self.timer() < item.expires:
            value: V = self._fc_store.get(key, ABSENT)
            if value is not ABSENT:
                return value
        return self.__missing__(key)

    def __setitem__(self, key: K, value: V) -> None:
        with self.timer as now:
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
        with self.timer as now:
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
        if len(heap) > len(self._fc_items) * self._fc_slack:
            self._fc_heap = heap = [item for item in heap if not item.removed]
            heapify(heap)
        expired = []
        while heap and (heap[0].removed or not now < heap[0].expires):
            item = heappop(heap)
            if not item.removed:
                expired.append(self._fc_buried(item.key))
                del self._fc_items[item.key]
        return expired

    def popitem(self) -> tuple[K, V]:
        """Remove and return the live (key, value) used longest ago; KeyError if there is none."""
        with self.timer as now:
            self.expire(now)
            pair = _OrderedCache.popitem(self)
        if self._fc_direct:
            self._fc_items.pop(pair[0]).removed = True
        return pair

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        _OrderedCache.clear(self)
        self._fc_items.clear()
        self._fc_heap.clear()
