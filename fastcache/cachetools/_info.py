"""The record that `cache_info()` returns."""

from __future__ import annotations

from typing import NamedTuple


class CacheInfo(NamedTuple):
    """Counts of a decorated function; equal to a plain tuple, as that of functools."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


CacheInfo.__module__ = "fastcache.cachetools"
