"""A cache in memory at C speed: a drop-in for functools.lru_cache, and a bounded mapping.

    from fastcache import Cache, lru_cache

See `help(fastcache.Cache)` and `help(fastcache.lru_cache)`.
"""

from fastcache._core import Cache, CachedFunction, CacheInfo, CacheStats, CallKey
from fastcache._core import EntryRecord as Entry
from fastcache.decorators import cache, fifo_cache, lfu_cache, lru_cache, ttl_cache

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "CacheInfo",
    "CacheStats",
    "CachedFunction",
    "CallKey",
    "Entry",
    "cache",
    "fifo_cache",
    "lfu_cache",
    "lru_cache",
    "ttl_cache",
]
