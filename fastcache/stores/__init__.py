"""Stores: the L2 of a tiered cache.

    from fastcache.stores import SQLiteStore, RedisStore, MemcachedStore

Each is imported, with the client library that it needs, when it is first asked for. The protocol for
stores of one's own is fastcache.stores.protocol.
"""

from __future__ import annotations

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


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
