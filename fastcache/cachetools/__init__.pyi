"""Types of fastcache.cachetools; what each call does is said in its docstring."""

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from types import GenericAlias
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    overload,
    type_check_only,
)

from typing_extensions import TypeVar

from fastcache.cachetools import func as func
from fastcache.cachetools import keys as keys

__all__: Final = (
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

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")
_D = TypeVar("_D")
_Time = TypeVar("_Time", default=float)
_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_S = TypeVar("_S")

_SizeOf: TypeAlias = Callable[[_V], float]

# ---- caches ----

class Cache(MutableMapping[_K, _V]):
    """A mapping of bounded size, and the base of the others."""

    def __init__(self, maxsize: float, getsizeof: _SizeOf[_V] | None = None) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: object, /) -> GenericAlias: ...
    def __getitem__(self, key: _K) -> _V: ...
    def __setitem__(self, key: _K, value: _V) -> None: ...
    def __delitem__(self, key: _K) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __missing__(self, key: _K) -> _V: ...
    def __iter__(self) -> Iterator[_K]: ...
    def __len__(self) -> int: ...
    def __copy__(self) -> Self: ...
    @overload
    def get(self, key: _K, default: None = None) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V) -> _V: ...
    @overload
    def get(self, key: _K, default: _D) -> _V | _D: ...
    @overload
    def pop(self, key: _K) -> _V: ...
    @overload
    def pop(self, key: _K, default: _V) -> _V: ...
    @overload
    def pop(self, key: _K, default: _D) -> _V | _D: ...
    @overload
    def setdefault(self: Cache[_K, _T | None], key: _K, default: None = None) -> _T | None: ...
    @overload
    def setdefault(self, key: _K, default: _V) -> _V: ...
    def popitem(self) -> tuple[_K, _V]: ...
    def clear(self) -> None: ...
    @property
    def maxsize(self) -> float: ...
    @property
    def currsize(self) -> float: ...
    @staticmethod
    def getsizeof(value: Any) -> float: ...

class FIFOCache(Cache[_K, _V]):
    """A cache that evicts the item that was stored first."""

class LFUCache(Cache[_K, _V]):
    """A cache that evicts the item used least often."""

class LRUCache(Cache[_K, _V]):
    """A cache that evicts the item used longest ago."""

class RRCache(Cache[_K, _V]):
    """A cache that evicts what `choice` picks of the keys."""

    def __init__(
        self,
        maxsize: float,
        choice: Callable[[Sequence[_K]], _K] = ...,
        getsizeof: _SizeOf[_V] | None = None,
    ) -> None: ...
    @property
    def choice(self) -> Callable[[Sequence[_K]], _K]: ...

@type_check_only
class _Timer(Generic[_Time]):
    def __call__(self) -> _Time: ...
    def __enter__(self) -> _Time: ...
    def __exit__(self, *exc: object) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

class TTLCache(Cache[_K, _V], Generic[_K, _V, _Time]):
    """A cache whose items die `ttl` after they were stored; it evicts as LRUCache does."""

    @overload  # the default timer returns seconds
    def __init__(
        self: TTLCache[_K, _V, float],
        maxsize: float,
        ttl: float,
        *,
        getsizeof: _SizeOf[_V] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxsize: float,
        ttl: Any,  # whatever can be added to what the timer returns
        timer: Callable[[], _Time],
        getsizeof: _SizeOf[_V] | None = None,
    ) -> None: ...
    @property
    def timer(self) -> _Timer[_Time]: ...
    @property
    def ttl(self) -> Any: ...
    def expire(self, time: _Time | None = None) -> list[tuple[_K, _V]]: ...

class TLRUCache(Cache[_K, _V], Generic[_K, _V, _Time]):
    """A cache whose items die when `ttu(key, value, now)` says."""

    @overload
    def __init__(
        self: TLRUCache[_K, _V, float],
        maxsize: float,
        ttu: Callable[[_K, _V, float], float],
        *,
        getsizeof: _SizeOf[_V] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[_K, _V, _Time], _Time],
        timer: Callable[[], _Time],
        getsizeof: _SizeOf[_V] | None = None,
    ) -> None: ...
    @property
    def timer(self) -> _Timer[_Time]: ...
    @property
    def ttu(self) -> Callable[[_K, _V, _Time], _Time]: ...
    def expire(self, time: _Time | None = None) -> list[tuple[_K, _V]]: ...

# ---- decorators ----

class CacheInfo(NamedTuple):
    """Counts of a decorated function."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float

_Key: TypeAlias = Callable[..., Hashable]
_Lock: TypeAlias = AbstractContextManager[Any]

@type_check_only
class _Condition(AbstractContextManager[Any], Protocol):
    def wait(self, timeout: float | None = None) -> bool: ...
    def notify_all(self) -> None: ...

@type_check_only
class _Cached(Generic[_P, _R]):
    __wrapped__: Callable[_P, _R]
    __name__: str
    __qualname__: str
    cache: MutableMapping[Any, Any]
    cache_key: _Key
    cache_lock: _Lock | None
    cache_condition: _Condition | None
    def __call__(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    @overload  # Class.method
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload  # instance.method
    def __get__(
        self: _Cached[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None
    ) -> _Cached[_Q, _R]: ...
    @overload  # under staticmethod or classmethod
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...
    def cache_clear(self) -> None: ...

@type_check_only
class _CachedWithInfo(_Cached[_P, _R]):
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _CachedWithInfo[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None
    ) -> _CachedWithInfo[_Q, _R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...
    def cache_info(self) -> CacheInfo: ...

@overload
def cached(
    cache: MutableMapping[Any, Any],
    key: _Key = ...,
    lock: _Lock | None = None,
    condition: _Condition | None = None,
    *,
    info: Literal[True],
) -> Callable[[Callable[_P, _R]], _CachedWithInfo[_P, _R]]: ...
@overload
def cached(
    cache: MutableMapping[Any, Any],
    key: _Key,
    lock: _Lock | None,
    condition: _Condition | None,
    info: Literal[True],
) -> Callable[[Callable[_P, _R]], _CachedWithInfo[_P, _R]]: ...
@overload
def cached(
    cache: MutableMapping[Any, Any],
    key: _Key = ...,
    lock: _Lock | None = None,
    condition: _Condition | None = None,
    info: Literal[False] = False,
) -> Callable[[Callable[_P, _R]], _Cached[_P, _R]]: ...

@type_check_only
class _CachedMethodOnClass(Generic[_P, _R]):
    __wrapped__: Callable[Concatenate[Any, _P], _R]
    __name__: str
    __qualname__: str
    def __call__(self, instance: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

@type_check_only
class _CachedMethod(Generic[_P, _R]):
    __wrapped__: Callable[Concatenate[Any, _P], _R]
    __name__: str
    __qualname__: str
    cache_key: _Key
    @property
    def cache(self) -> MutableMapping[Any, Any]: ...
    @property
    def cache_lock(self) -> _Lock | None: ...
    @property
    def cache_condition(self) -> _Condition | None: ...
    def __call__(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def __set_name__(self, owner: type, name: str) -> None: ...
    @overload
    def __get__(
        self, instance: None, owner: type | None = None
    ) -> _CachedMethodOnClass[_P, _R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...
    def cache_clear(self) -> None: ...

@type_check_only
class _CachedMethodWithInfo(_CachedMethod[_P, _R]):
    def cache_info(self) -> CacheInfo: ...

@overload
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: _Key = ...,
    lock: Callable[[Any], _Lock] | None = None,
    condition: Callable[[Any], _Condition] | None = None,
    *,
    info: Literal[True],
) -> Callable[[Callable[Concatenate[Any, _P], _R]], _CachedMethodWithInfo[_P, _R]]: ...
@overload
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: _Key,
    lock: Callable[[Any], _Lock] | None,
    condition: Callable[[Any], _Condition] | None,
    info: Literal[True],
) -> Callable[[Callable[Concatenate[Any, _P], _R]], _CachedMethodWithInfo[_P, _R]]: ...
@overload
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: _Key = ...,
    lock: Callable[[Any], _Lock] | None = None,
    condition: Callable[[Any], _Condition] | None = None,
    info: Literal[False] = False,
) -> Callable[[Callable[Concatenate[Any, _P], _R]], _CachedMethod[_P, _R]]: ...
