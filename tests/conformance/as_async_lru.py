"""What async-lru's tests import from it, made of this package's."""

from __future__ import annotations

import random as random  # the tests patch async_lru.random
from typing import Any, TypeVar

from fastcache import alru, alru_cache
from fastcache.alru import AlruCacheLoopResetWarning as AlruCacheLoopResetWarning

_R = TypeVar("_R")
_CacheParameters = dict
_CacheItem: Any = None  # of two tests that cannot hold


class _LRUCacheWrapper:
    """Called as the class there: with a function that has not been looked at."""

    def __class_getitem__(cls, item: object) -> Any:
        return cls

    def __new__(cls, fn: Any, *options: Any) -> Any:
        return alru._wrap(fn, *options)


__all__ = ["AlruCacheLoopResetWarning", "alru_cache", "random"]
