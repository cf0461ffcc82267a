"""cachetools, over the engine of fastcache: change the import, and keep the rest.

    from fastcache.cachetools import TTLCache, cached
    from fastcache.cachetools.keys import hashkey

Names and meanings are those of cachetools 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcache.cachetools import keys
from fastcache.cachetools._caches import Cache, FIFOCache, LFUCache, LRUCache, RRCache
from fastcache.cachetools._functions import Wrapper, wrap
from fastcache.cachetools._info import CacheInfo
from fastcache.cachetools._methods import Descriptor, Options
from fastcache.cachetools._tlru import TLRUCache
from fastcache.cachetools._ttl import TTLCache

__all__ = (
    "Cache",
    "CacheInfo",
    "FIFOCache",
    "LFUCache",
    "LRUCache",
    "RRCache",
    "TLRUCache",
    "TTLCache",
    "cached",
    "cachedmethod",
)


def cached(
    cache: Any,
    key: Callable[..., Any] = keys.hashkey,
    lock: Any = None,
    condition: Any = None,
    info: bool = False,
) -> Callable[[Callable[..., Any]], Wrapper]:
    """Keep the results of a function in `cache`, any mutable mapping.

    key: makes the key of the arguments. lock: held for lookups and for storing, not while the
    function runs. condition: a threading.Condition; who asks for what is being computed waits for
    it. info: have `cache_info()`. TypeError if cache is None. A value for which the cache raises
    ValueError is returned and not kept.
    """
    if cache is None:
        raise TypeError("cache must not be None")

    def decorator(function: Callable[..., Any]) -> Wrapper:
        return wrap(function, cache, key, lock, condition, info)

    return decorator


def cachedmethod(
    cache: Callable[[Any], Any],
    key: Callable[..., Any] = keys.methodkey,
    lock: Callable[[Any], Any] | None = None,
    condition: Callable[[Any], Any] | None = None,
    info: bool = False,
) -> Callable[[Callable[..., Any]], Descriptor]:
    """Keep the results of a method; cache, lock and condition are functions of the instance.

    Otherwise as `cached`. Instances need a `__dict__`. TypeError if cache is not callable.
    """
    if not callable(cache):
        raise TypeError(f"cache must be callable, not {cache!r}")

    def decorator(method: Callable[..., Any]) -> Descriptor:
        return Descriptor(method, Options(cache, key, lock, condition, info))

    return decorator


def __getattr__(name: str) -> Any:
    if name == "func":  # imported when it is asked for
        import fastcache.cachetools.func as func

        return func
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
