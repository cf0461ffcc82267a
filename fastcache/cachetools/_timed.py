"""What TTLCache and TLRUCache have in common: a clock of the user's choice.

Their values are in the engine's store as those of all caches, in the order of use. When an item
dies is kept beside it, since times may be of any type that has `+` and `<`; the engine's own expiry
wants float seconds.

The time is read once for each call: within it the timer stands still, for the hooks of subclasses
too. Where there are none, `timer._fc_now if timer._fc_nesting else timer._fc_source()` in the place
of `timer()` saves a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

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

    def _fc_time(self) -> T:
        """The time; of a subclass, by way of what it may have in the place of `timer`."""
        if not self._fc_direct:
            return self.timer()
        timer = self._fc_timer
        now: T = timer._fc_now if timer._fc_nesting else timer._fc_source()
        return now

    def __len__(self) -> int:
        if self._fc_direct:
            self.expire(self._fc_time())
            return len(self._fc_data)
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
