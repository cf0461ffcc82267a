"""Decorators with the surface of functools.lru_cache, by cachetools' rules.

One computation per key at a time: who misses a key that another thread is computing waits for it.
The key is `keys.hashkey` or `keys.typedkey` of the arguments: f(1) and f(1.0) are one call, and the
order of keywords does not matter, other than in functools.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

from fastcache.cachetools import FIFOCache, LFUCache, LRUCache, RRCache, TTLCache
from fastcache.cachetools._flights import FlightWrapper, wrap_in_flights

__all__ = ("fifo_cache", "lfu_cache", "lru_cache", "rr_cache", "ttl_cache")


class _UnboundTTLCache(TTLCache[Any, Any, Any]):
    """A TTLCache without a bound, which says None where others say how large they are."""

    _fc_direct = True

    @property
    def maxsize(self) -> Any:
        """None."""
        return None


def _decorate(
    cache: Callable[[Any], Any], unbound: Callable[[], Any], maxsize: Any, typed: bool
) -> Any:
    """What all of them share; cache: makes one of a size."""
    if callable(maxsize):
        return wrap_in_flights(maxsize, cache(128), 128, typed)
    kept = unbound() if maxsize is None else cache(maxsize)

    def decorator(function: Callable[..., Any]) -> FlightWrapper:
        return wrap_in_flights(function, kept, maxsize, typed)

    return decorator


def fifo_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to maxsize results (None: all); the one that was stored first goes first."""
    return _decorate(FIFOCache, dict, maxsize, typed)


def lfu_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to maxsize results (None: all); the one used least often goes first."""
    return _decorate(LFUCache, dict, maxsize, typed)


def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to maxsize results (None: all); the one used longest ago goes first."""
    return _decorate(LRUCache, dict, maxsize, typed)


def rr_cache(
    maxsize: Any = 128, choice: Callable[..., Any] = random.choice, typed: bool = False
) -> Any:
    """Keep up to maxsize results (None: all); the one that `choice` picks of the keys goes first."""
    return _decorate(lambda size: RRCache(size, choice), dict, maxsize, typed)


def ttl_cache(
    maxsize: Any = 128,
    ttl: Any = 600,
    timer: Callable[[], Any] = time.monotonic,
    typed: bool = False,
) -> Any:
    """Keep up to maxsize results (None: all) for `ttl` (added to what timer returns); the one used
    longest ago goes first."""

    def cache(size: Any) -> Any:
        return TTLCache(size, ttl, timer)

    return _decorate(cache, lambda: _UnboundTTLCache(math.inf, ttl, timer), maxsize, typed)
