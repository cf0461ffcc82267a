"""A cache in memory at C speed: a drop-in for functools.lru_cache, and a bounded mapping.

    from fastcache import Cache, lru_cache

See `help(fastcache.Cache)` and `help(fastcache.lru_cache)`.
"""

from fastcache import _lazy
from fastcache._core import Cache, CachedFunction, CacheInfo, CacheStats, CallKey
from fastcache._core import EntryRecord as Entry
from fastcache.decorators import cache, fifo_cache, lfu_cache, lru_cache, ttl_cache

TYPE_CHECKING = False  # importing typing would cost a third of the import of this package
if TYPE_CHECKING:
    from fastcache._types import MISSING as MISSING
    from fastcache.alru import alru_cache as alru_cache
    from fastcache.clru import clru_cache as clru_cache
    from fastcache.loading.decorate import cached as cached
    from fastcache.names import Namespace as Namespace
    from fastcache.tiered import AsyncTieredCache as AsyncTieredCache
    from fastcache.tiered import TieredCache as TieredCache
del TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "MISSING",
    "AsyncTieredCache",
    "Cache",
    "CacheInfo",
    "CacheStats",
    "CachedFunction",
    "CallKey",
    "Entry",
    "Namespace",
    "TieredCache",
    "alru_cache",
    "cache",
    "cached",
    "clru_cache",
    "fifo_cache",
    "lfu_cache",
    "lru_cache",
    "ttl_cache",
]

#: Public names that are imported when they are first asked for -> their module.
_LATER = {
    "MISSING": "fastcache._types",
    "AsyncTieredCache": "fastcache.tiered",
    "TieredCache": "fastcache.tiered",
    "Namespace": "fastcache.names",
    "alru_cache": "fastcache.alru",
    "cached": "fastcache.loading.decorate",
    "clru_cache": "fastcache.clru",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)
