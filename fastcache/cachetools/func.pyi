"""Types of fastcache.cachetools.func."""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypedDict, TypeVar, overload, type_check_only

from fastcache.cachetools import _CachedWithInfo

__all__: Final = ("fifo_cache", "lfu_cache", "lru_cache", "rr_cache", "ttl_cache")

_P = ParamSpec("_P")
_R = TypeVar("_R")

@type_check_only
class _Parameters(TypedDict):
    maxsize: int | None
    typed: bool

@type_check_only
class _Function(_CachedWithInfo[_P, _R]):
    def cache_parameters(self) -> _Parameters: ...

@overload
def fifo_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def fifo_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[_P, _R]], _Function[_P, _R]]: ...
@overload
def lfu_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def lfu_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[_P, _R]], _Function[_P, _R]]: ...
@overload
def lru_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def lru_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[_P, _R]], _Function[_P, _R]]: ...
@overload
def rr_cache(
    maxsize: Callable[_P, _R], choice: Callable[..., Any] = ..., typed: bool = False
) -> _Function[_P, _R]: ...
@overload
def rr_cache(
    maxsize: int | None = 128, choice: Callable[..., Any] = ..., typed: bool = False
) -> Callable[[Callable[_P, _R]], _Function[_P, _R]]: ...
@overload
def ttl_cache(
    maxsize: Callable[_P, _R], ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> _Function[_P, _R]: ...
@overload
def ttl_cache(
    maxsize: int | None = 128, ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> Callable[[Callable[_P, _R]], _Function[_P, _R]]: ...
