"""The record that `cache_info()` returns."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastcache.cachetools._caches import Cache


class CacheInfo(NamedTuple):
    """Counts of a decorated function; equal to a plain tuple, as that of functools."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


def info_of(cache: Any, hits: int, misses: int) -> CacheInfo:
    """Of a cache that is not one of ours only the length is known."""
    if isinstance(cache, Cache):
        return CacheInfo(hits, misses, cache.maxsize, cache.currsize)
    return CacheInfo(hits, misses, None, len(cache))


CacheInfo.__module__ = "fastcache.cachetools"
