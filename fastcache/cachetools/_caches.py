"""The caches without a clock, and what all caches have in common.

Layout. `_fc_data` is a dict of key -> value in the order of insertion, which is the order of
iteration. A cache with an order of eviction of its own has the same pairs once more in `_fc_store`,
an unbounded fastcache._core.Cache, which keeps that order and answers `[]` where reading is an
access: one lookup for both. `_fc_sizes` is a dict of key -> size, or None where each counts as 1.
Bounds are kept here and not by the engine: sizes may be fractions, and an eviction goes through
`self.popitem()`, which subclasses override.

Invariant: all of them have the same keys whenever no call is under way. The store is written first:
what an exception of a key's `__eq__` leaves there alone is evicted in its turn.

`_fc_direct` is set for the classes of this package alone: their methods may take the short way,
where those of a subclass have to go through whatever it overrides. All names start with `_fc_`, out
of the way of subclasses, whose attributes lie in the same dict.

No class here is safe without a lock, as in cachetools: two threads that store at the same time may
overshoot. What is safe is a lookup by the decorators beside one thread that stores.
"""

from __future__ import annotations

import copy as copying
import random
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, cast

from fastcache import _core

K = TypeVar("K")
V = TypeVar("V")

ABSENT: Final[Any] = object()


class Cache(MutableMapping[K, V]):
    """A mapping of bounded size; the item that was inserted first goes first.

    maxsize: the bound on the sum of sizes, an int or a float, math.inf for none. getsizeof: the
    size of a value; 1 without it. Also the base of caches with an order of eviction of their own,
    which override `popitem`. ValueError for a negative maxsize.
    """

    __module__ = "fastcache.cachetools"

    _fc_direct: ClassVar[bool] = True

    _fc_data: dict[K, V]
    _fc_sizes: dict[K, float] | None
    _fc_total: float  # of the sizes, where there are any
    _fc_maxsize: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_fc_direct" not in vars(cls):
            cls._fc_direct = False

    def __init__(self, maxsize: float, getsizeof: Callable[[V], float] | None = None) -> None:
        try:
            negative = maxsize < 0
        except TypeError:
            raise TypeError(f"maxsize must be a number, not {maxsize!r}") from None
        if negative:
            raise ValueError(f"maxsize must be non-negative, not {maxsize!r}")
        if getsizeof is not None:
            self.getsizeof = getsizeof  # type: ignore[assignment, method-assign]
        # Emptied and not replaced where a cache is made anew: decorators hold on to what they read.
        # (Asking for the instance's __dict__ would make all later reads of attributes slower.)
        self._fc_data = getattr(self, "_fc_data", {})
        self._fc_data.clear()
        self._fc_sizes = None if self.getsizeof is Cache.getsizeof else {}
        self._fc_total = 0
        self._fc_maxsize = maxsize

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._fc_data!r}, maxsize={self._fc_maxsize!r}, "
            f"currsize={Cache._fc_currsize(self)!r})"
        )

    def __getitem__(self, key: K) -> V:
        try:
            return self._fc_data[key]
        except KeyError:
            return self.__missing__(key)

    def __setitem__(self, key: K, value: V) -> None:
        data, sizes = self._fc_data, self._fc_sizes
        if sizes is not None:
            size = self._fc_make_room(key, value, sizes)
            data[key] = value
            self._fc_total += size - sizes.get(key, 0)
            sizes[key] = size
        elif key in data:
            data[key] = value
        else:
            maxsize = self._fc_maxsize
            if maxsize < 1:
                raise ValueError("value too large")
            while len(data) + 1 > maxsize:
                self.popitem()
            data[key] = value

    def _fc_make_room(self, key: K, value: V, sizes: dict[K, float]) -> float:
        """Evict until value fits, as that of key; its size. ValueError if it never does."""
        size = self.getsizeof(value)
        maxsize = self._fc_maxsize
        if size > maxsize:
            raise ValueError("value too large")
        if size < 0:
            raise ValueError("value size must be non-negative")
        # Looked up anew each time: the victim may be this very key.
        while self._fc_total + size - sizes.get(key, 0) > maxsize:
            self.popitem()
        return size

    def __delitem__(self, key: K) -> None:
        del self._fc_data[key]
        if self._fc_sizes is not None:
            self._fc_total -= self._fc_sizes.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._fc_data

    def __missing__(self, key: K) -> V:
        """What `self[key]` does where there is no such key; no other method calls it."""
        raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._fc_data)

    def __len__(self) -> int:
        return len(self._fc_data)

    def __copy__(self) -> Self:
        cls = type(self)
        copy = cls.__new__(cls)
        vars(copy).update(vars(self))
        copy._fc_data = self._fc_data.copy()
        if self._fc_sizes is not None:
            copy._fc_sizes = self._fc_sizes.copy()
        return copy

    # Those of MutableMapping ask `self[key]` and wait for a KeyError, which does not come where
    # there is a __missing__.

    def get(self, key: K, default: Any = None) -> Any:
        """The value of key, or default; __missing__ is not asked."""
        if self._fc_direct:
            return self._fc_data.get(key, default)
        return self[key] if key in self else default  # noqa: SIM401, that is this method

    def pop(self, key: K, default: Any = ABSENT) -> Any:
        """Remove key and return its value; default, or KeyError without one, if absent."""
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is ABSENT:
            raise KeyError(key)
        return default

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of key, stored before as default if absent."""
        if key in self:
            return self[key]
        self[key] = default
        return default

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        if self._fc_sizes is not None:
            self._fc_sizes.clear()
        self._fc_data.clear()
        self._fc_total = 0

    def _fc_currsize(self) -> float:
        return len(self._fc_data) if self._fc_sizes is None else self._fc_total

    @property
    def maxsize(self) -> float:
        """The bound on the sum of sizes."""
        return self._fc_maxsize

    @property
    def currsize(self) -> float:
        """The sum of sizes."""
        return Cache._fc_currsize(self)

    @staticmethod
    def getsizeof(value: Any) -> float:
        """The size of a value: 1, unless a subclass or the argument of that name says otherwise."""
        return 1

    def _fc_reader(self) -> Callable[[Any, Any], Any]:
        """`(key, default) -> value` as `self[key]` finds it; asked for where `_fc_direct` only."""
        return self._fc_data.get


class _OrderedCache(Cache[K, V]):
    """A cache that evicts what comes first in the order of its store."""

    __module__ = "fastcache.cachetools"

    _fc_policy: ClassVar[Literal["lru", "lfu"]] = "lru"
    _fc_store: _core.Cache[K, V]

    def __init__(self, maxsize: float, getsizeof: Callable[[V], float] | None = None) -> None:
        Cache.__init__(self, maxsize, getsizeof)
        store = getattr(self, "_fc_store", None)
        if store is None:
            self._fc_store = _core.Cache(None, policy=self._fc_policy)
        else:
            store.clear()

    # The bodies of Cache's methods once more: a call of them would double the time of these.

    def __setitem__(self, key: K, value: V) -> None:
        data, sizes = self._fc_data, self._fc_sizes
        if sizes is not None:
            size = self._fc_make_room(key, value, sizes)
            self._fc_store[key] = value
            data[key] = value
            self._fc_total += size - sizes.get(key, 0)
            sizes[key] = size
            return
        if key not in data:
            maxsize = self._fc_maxsize
            if maxsize < 1:
                raise ValueError("value too large")
            while len(data) + 1 > maxsize:
                self.popitem()
        self._fc_store[key] = value
        data[key] = value

    def __delitem__(self, key: K) -> None:
        del self._fc_data[key]
        del self._fc_store[key]
        if self._fc_sizes is not None:
            self._fc_total -= self._fc_sizes.pop(key)

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._fc_store = copying.copy(self._fc_store)
        return copy

    def popitem(self) -> tuple[K, V]:
        """Remove and return the (key, value) that is to go first; KeyError if empty."""
        store = self._fc_store
        if self._fc_direct:
            try:
                pair = store.popitem()
            except KeyError:
                raise KeyError(f"{type(self).__name__} is empty") from None
            key = pair[0]
            self._fc_data.pop(key, None)
            if self._fc_sizes is not None:
                self._fc_total -= self._fc_sizes.pop(key, 0)
            return pair
        coldest = store.coldest(1)
        if not coldest:
            raise KeyError(f"{type(self).__name__} is empty") from None
        key = coldest[0]
        value = Cache.__getitem__(self, key)
        del self[key]  # a subclass may have its own
        return key, value

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        Cache.clear(self)
        self._fc_store.clear()


class FIFOCache(_OrderedCache[K, V]):
    """A cache that evicts the item that was stored first; storing it again makes it the last."""

    __module__ = "fastcache.cachetools"

    # What is read is the dict, so that the least recently used is what was written longest ago.
    _fc_direct = True


class LRUCache(_OrderedCache[K, V]):
    """A cache that evicts the item whose last use, by reading or storing, is longest ago."""

    __module__ = "fastcache.cachetools"

    _fc_direct = True

    def __getitem__(self, key: K) -> V:
        try:
            return self._fc_store[key]
        except KeyError:
            value = self.__missing__(key)
        self._fc_store.get(key)  # what __missing__ stored has now been read
        return value

    def get(self, key: K, default: Any = None) -> Any:
        """The value of key, which is an access; or default, and __missing__ is not asked."""
        if self._fc_direct:
            return self._fc_store.get(key, default)
        return self[key] if key in self else default  # noqa: SIM401, that is this method

    def _fc_reader(self) -> Callable[[Any, Any], Any]:
        return self._fc_store.get


class LFUCache(_OrderedCache[K, V]):
    """A cache that evicts the item used least often; among equals, the first to be used so often.

    Reading and storing are uses. A count is kept only while the item is cached.
    """

    __module__ = "fastcache.cachetools"

    _fc_policy = "lfu"
    _fc_direct = True

    def __getitem__(self, key: K) -> V:
        try:
            return self._fc_store[key]
        except KeyError:
            value = self.__missing__(key)
        self._fc_store.get(key)  # what __missing__ stored has now been read
        return value

    def get(self, key: K, default: Any = None) -> Any:
        """The value of key, which is a use; or default, and __missing__ is not asked."""
        if self._fc_direct:
            return self._fc_store.get(key, default)
        return self[key] if key in self else default  # noqa: SIM401, that is this method

    def _fc_reader(self) -> Callable[[Any, Any], Any]:
        return self._fc_store.get


class RRCache(Cache[K, V]):
    """A cache that evicts what `choice`, given the list of keys, picks: by default any."""

    __module__ = "fastcache.cachetools"

    _fc_direct = True
    # The keys as a list, and where each of them stands in it: a removal moves the last one there.
    _fc_keys: list[K]
    _fc_index: dict[K, int]

    def __init__(
        self,
        maxsize: float,
        choice: Callable[[Sequence[K]], K] = random.choice,
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        Cache.__init__(self, maxsize, getsizeof)
        self._fc_choice = choice
        self._fc_keys = []
        self._fc_index = {}

    @property
    def choice(self) -> Callable[[Sequence[K]], K]:
        """The function that picks the victim."""
        return self._fc_choice

    def __setitem__(self, key: K, value: V) -> None:
        if self._fc_sizes is None and key in self._fc_data:
            self._fc_data[key] = value
            return
        Cache.__setitem__(self, key, value)
        if key not in self._fc_index:
            self._fc_index[key] = len(self._fc_keys)
            self._fc_keys.append(key)

    def __delitem__(self, key: K) -> None:
        del self._fc_data[key]
        if self._fc_sizes is not None:
            self._fc_total -= self._fc_sizes.pop(key)
        keys, index = self._fc_keys, self._fc_index
        place = index.pop(key)
        last = keys.pop()
        if place < len(keys):
            keys[place] = last
            index[last] = place

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy._fc_keys = self._fc_keys.copy()
        copy._fc_index = self._fc_index.copy()
        return copy

    def popitem(self) -> tuple[K, V]:
        """Remove and return the (key, value) that `choice` picks; KeyError if empty."""
        if not self._fc_keys:
            raise KeyError(f"{type(self).__name__} is empty") from None
        key = self._fc_choice(self._fc_keys)
        value = Cache.__getitem__(self, key)
        del self[key]  # a subclass may have its own
        return key, value

    def clear(self) -> None:
        """Remove everything, without asking popitem."""
        Cache.clear(self)
        self._fc_index.clear()
        self._fc_keys.clear()


def reader_of(cache: object) -> Callable[[Any, Any], Any] | None:
    """The shortest `(key, default) -> value` that does what `cache[key]` does; None: there is none
    but that, since its class is not one of ours and may do anything."""
    if type(cache) is dict:
        return cast("Callable[[Any, Any], Any]", cache.get)
    if isinstance(cache, Cache) and cache._fc_direct:
        return cache._fc_reader()
    return None
