"""Types of the engine; what each call does is said in its docstring (`help(fastcache.Cache)`)."""

from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    ValuesView,
)
from datetime import timedelta
from types import GenericAlias
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Self,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    TypedDict,
    TypeVar,
    final,
    overload,
    type_check_only,
)

from _typeshed import SupportsKeysAndGetItem
from typing_extensions import disjoint_base

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")
_D = TypeVar("_D")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_V_co = TypeVar("_V_co", covariant=True)

_Duration: TypeAlias = SupportsFloat | timedelta | None
_Policy: TypeAlias = Literal["lru", "fifo", "lfu"]
_Cause: TypeAlias = Literal["explicit", "replaced", "size", "expired"]
_Tag: TypeAlias = str | bytes | int | tuple[_Tag, ...]

_CallKey: TypeAlias = CallKey | int | str

POLICY_NAMES: Final[tuple[str, ...]]

@type_check_only
class _Parameters(TypedDict):
    maxsize: int | None
    typed: bool

class CacheInfo(NamedTuple):
    """Counts of a decorated function, as in functools."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int

class CacheStats(NamedTuple):
    """Counts of a Cache since it was made or reset."""

    hits: int
    misses: int
    loads: int
    load_failures: int
    load_time: float
    inserts: int
    removals: int
    replacements: int
    evictions: int
    expirations: int
    fenced: int
    listener_errors: int
    stale_hits: int
    @property
    def hit_rate(self) -> float: ...

class EntryRecord(NamedTuple, Generic[_V_co]):
    """What a Cache knows of an entry; its public name is `fastcache.Entry`."""

    value: _V_co
    ttl: float | None
    tti: float | None
    weight: int
    tags: frozenset[_Tag]
    age: float | None
    hits: int | None
    load_cost: float | None

@disjoint_base
class Cache(MutableMapping[_K, _V]):
    """A bounded mapping in memory that evicts by policy and expires by time."""

    def __init__(
        self,
        maxsize: SupportsIndex | None,
        *,
        policy: _Policy = "lru",
        ttl: _Duration = None,
        tti: _Duration = None,
        jitter: SupportsFloat = 0.0,
        weigher: Callable[[_K, _V], SupportsIndex] | None = None,
        listener: Callable[[_K, _V, _Cause], object] | None = None,
        clock: Callable[[], float] | None = None,
        details: bool = False,
        name: str | None = None,
    ) -> None: ...

    # reading
    @overload
    def get(self, key: _K, default: None = None, /) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V, /) -> _V: ...
    @overload
    def get(self, key: _K, default: _D, /) -> _V | _D: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    @overload
    def peek(self, key: _K, default: None = None, /) -> _V | None: ...
    @overload
    def peek(self, key: _K, default: _V, /) -> _V: ...
    @overload
    def peek(self, key: _K, default: _D, /) -> _V | _D: ...
    def __contains__(self, key: object, /) -> bool: ...
    def ttl(self, key: _K, /) -> float | None: ...
    def entry(self, key: _K, /) -> EntryRecord[_V]: ...
    @overload
    def get_many(self, keys: Iterable[_K], default: None = None, /) -> list[_V | None]: ...
    @overload
    def get_many(self, keys: Iterable[_K], default: _V, /) -> list[_V]: ...
    @overload
    def get_many(self, keys: Iterable[_K], default: _D, /) -> list[_V | _D]: ...

    # writing
    def __setitem__(self, key: _K, value: _V, /) -> None: ...
    def set(
        self,
        key: _K,
        value: _V,
        /,
        *,
        ttl: _Duration = ...,
        tti: _Duration = ...,
        weight: SupportsIndex = ...,
        tags: Iterable[_Tag] = (),
    ) -> None: ...
    def add(
        self,
        key: _K,
        value: _V,
        /,
        *,
        ttl: _Duration = ...,
        tti: _Duration = ...,
        weight: SupportsIndex = ...,
        tags: Iterable[_Tag] = (),
    ) -> bool: ...
    def set_many(
        self,
        mapping: SupportsKeysAndGetItem[_K, _V] | Iterable[tuple[_K, _V]],
        /,
        *,
        ttl: _Duration = ...,
        tti: _Duration = ...,
        weight: SupportsIndex = ...,
        tags: Iterable[_Tag] = (),
    ) -> None: ...
    @overload
    def update(self, other: SupportsKeysAndGetItem[_K, _V], /) -> None: ...
    @overload
    def update(
        self: Cache[str, _V], other: SupportsKeysAndGetItem[str, _V], /, **kwargs: _V
    ) -> None: ...
    @overload
    def update(self, other: Iterable[tuple[_K, _V]], /) -> None: ...
    @overload
    def update(self: Cache[str, _V], other: Iterable[tuple[str, _V]], /, **kwargs: _V) -> None: ...
    @overload
    def update(self: Cache[str, _V], /, **kwargs: _V) -> None: ...
    @overload
    def setdefault(self: Cache[_K, _T | None], key: _K, default: None = None, /) -> _T | None: ...
    @overload
    def setdefault(self, key: _K, default: _V, /) -> _V: ...
    # Cache is invariant in _V, so that only one of these fits a cache; mypy thinks of Any.
    @overload
    def incr(  # type: ignore[overload-overlap]
        self: Cache[_K, int], key: _K, /, delta: int = 1, initial: int = 0
    ) -> int: ...
    @overload
    def incr(self: Cache[_K, float], key: _K, /, delta: float = 1, initial: float = 0) -> float: ...
    @overload
    def incr(
        self: Cache[_K, object], key: _K, /, delta: float = 1, initial: float = 0
    ) -> float: ...
    def touch(self, key: _K, /, ttl: _Duration = ...) -> bool: ...
    def get_or_set(
        self,
        key: _K,
        factory: Callable[[], _V],
        /,
        *,
        ttl: _Duration = ...,
        tti: _Duration = ...,
        weight: SupportsIndex = ...,
        tags: Iterable[_Tag] = (),
    ) -> _V: ...

    # removing
    def __delitem__(self, key: _K, /) -> None: ...
    def delete(self, key: _K, /) -> bool: ...
    def delete_many(self, keys: Iterable[_K], /) -> int: ...
    @overload
    def pop(self, key: _K, /) -> _V: ...
    @overload
    def pop(self, key: _K, default: _V, /) -> _V: ...
    @overload
    def pop(self, key: _K, default: _D, /) -> _V | _D: ...
    def popitem(self) -> tuple[_K, _V]: ...
    def clear(self) -> None: ...
    def invalidate_tag(self, *tags: _Tag) -> None: ...
    def expire(self, limit: SupportsIndex | None = None) -> list[tuple[_K, _V]]: ...
    def evict(self, n: SupportsIndex = 1, /) -> int: ...
    def resize(self, maxsize: SupportsIndex | None, /) -> None: ...

    # as a mapping
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[_K]: ...
    def keys(self) -> CacheKeysView[_K, _V]: ...
    def values(self) -> CacheValuesView[_K, _V]: ...
    def items(self) -> CacheItemsView[_K, _V]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    __reversed__: ClassVar[None]
    @classmethod
    def __class_getitem__(cls, item: object, /) -> GenericAlias: ...

    # what it is
    def hottest(self, n: SupportsIndex | None = None, /) -> list[_K]: ...
    def coldest(self, n: SupportsIndex | None = None, /) -> list[_K]: ...
    def stats(self, reset: bool = False) -> CacheStats: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def maxsize(self) -> int | None: ...
    @property
    def weight(self) -> int: ...
    @property
    def policy(self) -> _Policy: ...
    @property
    def name(self) -> str | None: ...
    def __sizeof__(self) -> int: ...
    def __setstate__(self, state: Any, /) -> None: ...
    def _check(self) -> None: ...

@final
class CacheKeysView(KeysView[_K], Generic[_K, _V]):
    """The live keys of a Cache."""

    def __new__(cls, cache: Cache[_K, _V]) -> Self: ...
    @property
    def mapping(self) -> Cache[_K, _V]: ...

@final
class CacheItemsView(ItemsView[_K, _V]):
    """The live (key, value) pairs of a Cache."""

    def __new__(cls, cache: Cache[_K, _V]) -> Self: ...
    @property
    def mapping(self) -> Cache[_K, _V]: ...

@final
class CacheValuesView(ValuesView[_V], Generic[_K, _V]):
    """The live values of a Cache."""

    def __new__(cls, cache: Cache[_K, _V]) -> Self: ...
    @property
    def mapping(self) -> Cache[_K, _V]: ...

@final
class CallKey(tuple[Any, ...]):
    """The arguments of a call, as a key of a CachedFunction's `.cache`."""

# What one gets from a class or an instance: the CachedFunction or a types.MethodType over it, whose
# attributes are those of the function. mypy asks `__get__` of what is under @staticmethod and
# @classmethod too, without telling which, so only the result is checked and not the arguments, as
# for functools.lru_cache.
@type_check_only
class _CachedMethod(Generic[_P, _R]):
    __wrapped__: Callable[_P, _R]
    __name__: str
    __qualname__: str
    @property
    def cache(self) -> Cache[Any, _R]: ...
    def __call__(self, *args: Hashable, **kwargs: Hashable) -> _R: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...
    # These are the function's, so the instance comes first: obj.method.cache_key(obj, 1).
    def cache_key(self, /, *args: Hashable, **kwargs: Hashable) -> _CallKey: ...
    def cache_contains(self, /, *args: Hashable, **kwargs: Hashable) -> bool: ...
    def cache_invalidate(self, /, *args: Hashable, **kwargs: Hashable) -> bool: ...

@final
class CachedFunction(Generic[_P, _R]):
    """A function whose results are kept in a Cache. Made by lru_cache and its siblings."""

    __wrapped__: Callable[_P, _R]
    __name__: str
    __qualname__: str
    @classmethod
    def __class_getitem__(cls, item: object, /) -> GenericAlias: ...
    def __new__(
        cls,
        function: Callable[_P, _R],
        cache: Cache[Any, _R],
        typed: bool = False,
        maxsize: int | None = ...,
    ) -> Self: ...
    @property
    def cache(self) -> Cache[Any, _R]: ...
    def __call__(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...
    def cache_key(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _CallKey: ...
    def cache_contains(self, /, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def cache_invalidate(self, /, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> _CachedMethod[_P, _R]: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> Self: ...

# The engine's own, not for use.

@final
class Flight: ...
