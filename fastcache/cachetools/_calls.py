"""What runs when a decorated function is called: lookup, the function, storing.

Each maker returns `Calls`: the call itself and what goes with it. They are closures, not methods,
since a hit is then one Python frame: the wrapper that users see is a functools.partial of the call.

A `Parts` says at each call which cache, lock and condition it is about; for `cached` they are
always the same ones, for `cachedmethod` the instance is asked. `pair` keeps the reader that belongs
to the cache last seen, as one tuple, so that a thread never takes the reader of another cache.

Counts need no lock: between the load and the store of a `+= 1` on a closure's variable CPython
switches no threads.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from threading import get_ident
from typing import Any, NamedTuple

from fastcache.cachetools._caches import ABSENT, reader_of
from fastcache.cachetools.keys import hashkey


class Counts(NamedTuple):
    """A cache and how often it was asked."""

    cache: Any
    hits: int
    misses: int


class Calls(NamedTuple):
    """What a decorated function consists of."""

    call: Callable[..., Any]
    clear: Callable[[], None]
    counts: Callable[[], Counts]


Cache = MutableMapping[Any, Any]
Lock = AbstractContextManager[Any]
Reader = Callable[[Any, Any], Any] | None


def is_plain(key: object) -> bool:
    """Whether the key of a call without keywords is the tuple of its arguments."""
    return key is hashkey


def find(cache: Cache, key: Any) -> Any:
    """cache[key], or ABSENT."""
    try:
        return cache[key]
    except KeyError:
        return ABSENT


def keep(cache: Cache, key: Any, value: Any) -> None:
    """cache[key] = value, unless the value is too large for it."""
    try:
        cache[key] = value
    except ValueError:
        pass  # cachetools' caches say so of what they cannot hold; the result counts all the same


def unlocked(function: Callable[..., Any], cache: Cache, key: Callable[..., Any]) -> Calls:
    """Without lock or condition, on one cache."""
    hits = misses = 0
    read = reader_of(cache)
    plain = is_plain(key)

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        k = args if plain and not kwargs else key(*args, **kwargs)
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

    return Calls(call, clear, lambda: Counts(cache, hits, misses))


def unlocked_method(
    function: Callable[..., Any], of: Callable[[], Cache], key: Callable[..., Any], plain: bool
) -> Calls:
    """Without lock or condition, on whatever cache the instance has at the time of the call.

    key: takes the arguments without the instance; plain: it returns them as they are.
    """
    hits = misses = 0
    pair: tuple[Cache | None, Reader] = None, None

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses, pair
        k = args if plain and not kwargs else key(*args, **kwargs)
        cache = of()
        last, read = pair
        if cache is not last:
            read = reader_of(cache)
            pair = cache, read
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

    return Calls(call, clear, lambda: Counts(of(), hits, misses))


class Parts(NamedTuple):
    """Where the cache, its lock and its condition are to be had, at each call anew."""

    cache: Callable[[], Cache]
    lock: Callable[[], Lock]
    condition: Callable[[], Any]


def locked(function: Callable[..., Any], parts: Parts, key: Callable[..., Any]) -> Calls:
    """The lock is held for the lookup, not while the function runs, and again for storing."""
    hits = misses = 0
    cache_of, lock_of, _ = parts

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        cache = cache_of()
        k = key(*args, **kwargs)
        lock = lock_of()
        with lock:
            value = find(cache, k)
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
        with lock_of():
            cache_of().clear()
            hits = misses = 0

    def counts() -> Counts:
        with lock_of():
            return Counts(cache_of(), hits, misses)

    return Calls(call, clear, counts)


def waiting(function: Callable[..., Any], parts: Parts, key: Callable[..., Any]) -> Calls:
    """One computation per key at a time: who misses a key that is being computed waits for it.

    A function that asks for its own key while computing it is let through, where cachetools would
    wait for itself for ever.
    """
    hits = misses = 0
    pending: dict[Any, int] = {}  # key -> the thread that computes it
    cache_of, lock_of, condition_of = parts

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits, misses
        cache = cache_of()
        k = key(*args, **kwargs)
        lock = lock_of()
        condition = condition_of()
        me = get_ident()
        with lock:
            while (leader := pending.get(k)) is not None and leader != me:
                condition.wait()
            value = find(cache, k)
            if value is not ABSENT:
                hits += 1
                return value
            misses += 1
            pending[k] = me
        try:
            value = function(*args, **kwargs)
            with lock:
                keep(cache, k, value)
            return value
        finally:
            with lock:
                if leader is None:
                    del pending[k]
                    condition.notify_all()

    def clear() -> None:
        nonlocal hits, misses
        with lock_of():
            cache_of().clear()
            hits = misses = 0

    def counts() -> Counts:
        with lock_of():
            return Counts(cache_of(), hits, misses)

    return Calls(call, clear, counts)
