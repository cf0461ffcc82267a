"""Stores: the L2 of a tiered cache.

    from fastcache.stores import SQLiteStore, RedisStore, MemcachedStore

Each is imported, with the client library that it needs, when it is first asked for. The protocol for
stores of one's own is fastcache.stores.protocol.
"""

from __future__ import annotations

from fastcache import _lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastcache.stores.memcached import MemcachedStore as MemcachedStore
    from fastcache.stores.protocol import Store as Store
    from fastcache.stores.protocol import StoreError as StoreError
    from fastcache.stores.redis import RedisStore as RedisStore
    from fastcache.stores.sqlite import SQLiteStore as SQLiteStore

__all__ = ["MemcachedStore", "RedisStore", "SQLiteStore", "Store", "StoreError"]

_LATER = {
    "MemcachedStore": "fastcache.stores.memcached",
    "RedisStore": "fastcache.stores.redis",
    "SQLiteStore": "fastcache.stores.sqlite",
    "Store": "fastcache.stores.protocol",
    "StoreError": "fastcache.stores.protocol",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)
