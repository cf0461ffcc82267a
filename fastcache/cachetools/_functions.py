"""The wrapper that `cached` and the decorators of `func` return."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, Self

from fastcache.cachetools._calls import Calls, locked, unlocked, waiting
from fastcache.cachetools._info import CacheInfo


class Wrapper(functools.partial):  # type: ignore[type-arg]
    """A function whose results are kept in a cache.

    A partial of `Calls.call`, so that calling it costs no Python frame of its own. Copied and
    pickled by reference, a method if found on a class: as functools.lru_cache.
    """

    _fc_calls: Calls
    _fc_make: Callable[[Any, Any, Any, Any], Calls]
    _fc_parts: tuple[Any, ...]

    @classmethod
    def around(cls, function: Callable[..., Any], make: Any, *parts: Any) -> Self:
        """make: `(cache, key, lock, condition) -> Calls`; parts: these four."""
        calls = make(*parts)
        wrapper = cls(calls.call)
        # First of all: what is in the function's __dict__ must not hide what is put there below.
        functools.update_wrapper(wrapper, function)
        wrapper._fc_make, wrapper._fc_parts, wrapper._fc_calls = make, parts, calls
        return wrapper

    def _fc_replace(self, index: int, part: Any) -> None:
        """Another cache, key, lock or condition from now on. The counts start anew."""
        parts = [*self._fc_parts]
        parts[index] = part
        self._fc_parts = tuple(parts)
        self._fc_calls = self._fc_make(*self._fc_parts)
        self.__setstate__((self._fc_calls.call, (), {}, vars(self)))  # type: ignore[attr-defined]

    @property
    def cache(self) -> Any:
        """The cache."""
        return self._fc_parts[0]

    @cache.setter
    def cache(self, cache: Any) -> None:
        self._fc_replace(0, cache)

    @property
    def cache_key(self) -> Callable[..., Any]:
        """The function that makes the key."""
        return self._fc_parts[1]  # type: ignore[no-any-return]

    @cache_key.setter
    def cache_key(self, key: Callable[..., Any]) -> None:
        self._fc_replace(1, key)

    @property
    def cache_lock(self) -> Any:
        """The lock, or None."""
        return self._fc_parts[2]

    @cache_lock.setter
    def cache_lock(self, lock: Any) -> None:
        self._fc_replace(2, lock)

    @property
    def cache_condition(self) -> Any:
        """The condition variable, or None."""
        return self._fc_parts[3]

    @cache_condition.setter
    def cache_condition(self, condition: Any) -> None:
        self._fc_replace(3, condition)

    def cache_clear(self) -> None:
        """Empty the cache and set the counts back."""
        self._fc_calls.clear()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        return self.__qualname__  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<cached {self.__wrapped__!r}>"  # type: ignore[attr-defined]


class CountingWrapper(Wrapper):
    """One that tells its counts."""

    def cache_info(self) -> CacheInfo:
        """Hits, misses, bound and size."""
        return self._fc_calls.info()


def wrap(
    function: Callable[..., Any],
    cache: Any,
    key: Callable[..., Any],
    lock: Any,
    condition: Any,
    info: bool,
) -> Wrapper:
    """What `cached` makes of a function."""

    def make(cache: Any, key: Any, lock: Any, condition: Any) -> Calls:
        if lock is None and condition is None:
            return unlocked(function, key, cache)
        return (locked if condition is None else waiting)(function, key, (cache, lock, condition))

    kind = CountingWrapper if info else Wrapper
    if condition is not None and lock is None:
        lock = condition
    return kind.around(function, make, cache, key, lock, condition)
