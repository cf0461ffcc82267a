"""What runs when a decorated function is called: lookup, the function, storing.

Each maker returns `Calls`: the call itself and what goes with it. They are closures, not methods,
since a hit is then one Python frame: the wrapper that users see is a functools.partial of the call.

`parts` are the cache, the lock and the condition of `cached`, which stay the same, or a function
that returns them: `cachedmethod` asks the instance at each call.

Counts need no lock: between the load and the store of a `+= 1` on a closure's variable CPython
switches no threads. Without the GIL some may be lost where there is no lock, as in cachetools.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from threading import get_ident
from typing import Any, NamedTuple, TypeAlias

from fastcache.cachetools._caches import ABSENT, reader_of
from fastcache.cachetools._info import CacheInfo, info_of
from fastcache.cachetools.keys import MARK, hashkey


class Calls(NamedTuple):
    """What a decorated function consists of."""

    call: Callable[..., Any]
    clear: Callable[[], None]
    info: Callable[[], CacheInfo]


Function: TypeAlias = Callable[..., Any]
Cache: TypeAlias = MutableMapping[Any, Any]
Reader: TypeAlias = Callable[[Any, Any], Any] | None
#: Cache, lock, condition.
Parts: TypeAlias = tuple[Any, Any, Any]


def find(cache: Cache, key: Any) -> Any:
    """cache[key], or ABSENT."""
    try:
        return cache[key]
    except KeyError:
        return ABSENT


def keep(cache: Cache, key: Any, value: Any) -> None:
    """cache[key] = value, unless the value is too large for it, which caches tell by ValueError."""
    try:  # noqa: SIM105, with contextlib it takes three times as long
        cache[key] = value
    except ValueError:
        pass  # the result counts all the same


def unlocked(function: Function, key: Function, cache: Cache) -> Calls:
    """Without lock or condition, on one cache."""
    hits = misses = 0
    read = reader_of(cache)
    plain = key is hashkey

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        if plain:
            k = args + MARK + tuple(sorted(kwargs.items())) if kwargs else args
        else:
            k = key(*args, **kwargs)
        value = find(cache, k) if read is None else read(k, ABSENT)
        if value is not ABSENT:
            hits += 1
            return value
        misses += 1
        value = function(*args, **kwargs)
        keep(cache, k, value)
        return value

    def clear() -> None:
        nonlocal hits, misses
        cache.clear()
        hits = misses = 0

    return Calls(call, clear, lambda: info_of(cache, hits, misses))


def unlocked_method(function: Function, key: Function, plain: bool, of: Callable[[], Any]) -> Calls:
    """Without lock or condition, on whatever cache the instance has at the time of the call.

    key: takes the arguments without the instance; plain: it is methodkey.
    """
    hits = misses = 0
    # The cache last seen and its reader, in one tuple: no thread takes the reader of another cache.
    seen: tuple[Cache | None, Reader] = None, None

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses, seen
        k = args if plain and not kwargs else key(*args, **kwargs)
        cache = of()
        last, read = seen
        if cache is not last:
            read = reader_of(cache)
            seen = cache, read
        value = find(cache, k) if read is None else read(k, ABSENT)
        if value is not ABSENT:
            hits += 1
            return value
        misses += 1
        value = function(*args, **kwargs)
        keep(cache, k, value)
        return value

    def clear() -> None:
        nonlocal hits, misses
        of().clear()
        hits = misses = 0

    return Calls(call, clear, lambda: info_of(of(), hits, misses))


def locked(function: Function, key: Function, parts: Parts | Callable[[], Parts]) -> Calls:
    """The lock is held for the lookup, not while the function runs, and again for storing."""
    hits = misses = 0
    of = parts if callable(parts) else None
    fixed: Any = parts
    plain = key is hashkey
    read = None if callable(parts) else reader_of(parts[0])

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        cache, lock, _ = fixed if of is None else of()
        k = args if plain and not kwargs else key(*args, **kwargs)
        with lock:
            value = find(cache, k) if read is None else read(k, ABSENT)
            if value is not ABSENT:
                hits += 1
                return value
            misses += 1
        value = function(*args, **kwargs)
        with lock:
            try:
                # Another thread may have stored in the meantime: the first value stays.
                return cache.setdefault(k, value)
            except ValueError:
                return value  # too large to be stored

    def clear() -> None:
        nonlocal hits, misses
        cache, lock, _ = fixed if of is None else of()
        with lock:
            cache.clear()
            hits = misses = 0

    def info() -> CacheInfo:
        cache, lock, _ = fixed if of is None else of()
        with lock:
            return info_of(cache, hits, misses)

    return Calls(call, clear, info)


def waiting(function: Function, key: Function, parts: Parts | Callable[[], Parts]) -> Calls:
    """One computation per key at a time: who misses a key that is being computed waits for it.

    A function that asks for its own key while computing it is let through, where cachetools would
    wait for itself for ever.
    """
    hits = misses = 0
    pending: dict[Any, int] = {}  # key -> the thread that computes it
    of = parts if callable(parts) else None
    fixed: Any = parts
    plain = key is hashkey
    read = None if callable(parts) else reader_of(parts[0])

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        cache, lock, condition = fixed if of is None else of()
        k = args if plain and not kwargs else key(*args, **kwargs)
        leader = None
        with lock:
            while k in pending:
                leader = pending[k]
                if leader == get_ident():
                    break
                leader = None
                condition.wait()
            value = find(cache, k) if read is None else read(k, ABSENT)
            if value is not ABSENT:
                hits += 1
                return value
            misses += 1
            pending[k] = get_ident()
        try:
            value = function(*args, **kwargs)
            with lock:
                keep(cache, k, value)
            return value
        finally:
            if leader is None:
                with lock:
                    del pending[k]
                    condition.notify_all()

    def clear() -> None:
        nonlocal hits, misses
        cache, lock, _ = fixed if of is None else of()
        with lock:
            cache.clear()
            hits = misses = 0

    def info() -> CacheInfo:
        cache, lock, _ = fixed if of is None else of()
        with lock:
            return info_of(cache, hits, misses)

    return Calls(call, clear, info)
