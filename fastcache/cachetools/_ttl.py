"""TTLCache: items that live equally long, in a list linked in the order in which they die.

That is the order in which they were stored, and the order of iteration.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from fastcache.cachetools._caches import ABSENT, _OrderedCache
from fastcache.cachetools._timed import _TimedCache

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


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
        return link is not None and bool(self._fc_time() < link.expires)

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
        if not self._fc_time() < link.expires:
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
        if ring.next is ring or now < ring.next.expires:
            return []
        expired = []
        while (link := ring.next) is not ring and not now < link.expires:
            expired.append(self._fc_buried(link.key))
            del self._fc_links[link.key]
            _Links.unlink(link)
        return expired

    def popitem(self) -> tuple[K, V]:
        """Remove and return the live (key, value) used longest ago; KeyError if there is none."""
        if self._fc_direct:
            self.expire(self._fc_time())
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
