"""The decorators with the semantics of functools.lru_cache: a callable at C level over a Cache.

They keep functools' rules to the letter: which calls are equal, counts, exceptions, pickling. Two
threads that miss the same key both compute. On top come `cache_invalidate`, `cache_contains`,
`cache_key` and `.cache`.
"""

from __future__ import annotations

from fastcache._core import Cache, CachedFunction

TYPE_CHECKING = False  # importing typing would cost a third of the import of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Literal, ParamSpec, TypeVar, overload

    P = ParamSpec("P")
    R = TypeVar("R")
else:

    def overload(function):
        return function


def _decorate(
    decorator: str,
    policy: Literal["lru", "fifo", "lfu"],
    maxsize: int | Callable[P, R] | None,
    typed: bool,
    unknown: dict[str, Any],
    **options: Any,
) -> Any:
    """What all decorators share: their two forms, with and without parentheses."""
    _refuse(decorator, unknown)
    function = None
    size = maxsize
    if isinstance(size, int):
        size = max(int(size), 0)
    elif callable(size) and isinstance(typed, bool):
        function, size = size, 128
    elif size is not None:
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    shown = 128 if function is not None else max(maxsize, 0) if isinstance(maxsize, int) else None
    Cache(0, **options)  # a wrong option is an error here, not when the function comes

    def wrap(function: Callable[P, R], stacklevel: int = 3) -> CachedFunction[P, R]:
        import functools

        if _is_coroutine_function(function):
            _warn_of_coroutine(decorator, function, stacklevel)
        store: Cache[Any, R] = Cache(size, policy=policy, **options)
        wrapper = CachedFunction(function, store, typed, shown)
        functools.update_wrapper(wrapper, function)
        return wrapper

    return wrap if function is None else wrap(function, stacklevel=5)


def _refuse(decorator: str, unknown: dict[str, Any]) -> None:
    for name in unknown:
        hint = ""
        if name in ("state", "unhashable"):
            hint = "; that belongs to clru_cache, of the older package named fastcache"
        raise TypeError(f"{decorator}() got an unexpected keyword argument {name!r}{hint}")


def _is_coroutine_function(function: object) -> bool:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & 0x80)


def _warn_of_coroutine(decorator: str, function: object, stacklevel: int) -> None:
    import warnings

    name = getattr(function, "__qualname__", repr(function))
    warnings.warn(
        f"{decorator} keeps the coroutine that {name}() returns, which can be awaited only once; "
        "to keep what awaiting it gives is the part of `cached`",
        RuntimeWarning,
        stacklevel=stacklevel,
    )


@overload
def lru_cache(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def lru_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def lru_cache(maxsize: Any = 128, typed: bool = False, **unknown: Any) -> Any:
    """Keep the results of the last maxsize different calls; functools.lru_cache, but faster.

    maxsize: entries; None is unbounded, 0 or less keeps nothing and only counts. typed: whether
    arguments of different types (1 and 1.0) are different calls. Arguments must be hashable. Used
    as `@lru_cache` or `@lru_cache(maxsize=..., typed=...)`. TypeError for other arguments. A hit
    costs O(arguments), allocates nothing and is safe from any thread.
    """
    return _decorate("lru_cache", "lru", maxsize, typed, unknown)


@overload
def fifo_cache(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def fifo_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def fifo_cache(maxsize: Any = 128, typed: bool = False, **unknown: Any) -> Any:
    """lru_cache that forgets the result that was computed first, whether or not it is used."""
    return _decorate("fifo_cache", "fifo", maxsize, typed, unknown)


@overload
def lfu_cache(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def lfu_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def lfu_cache(maxsize: Any = 128, typed: bool = False, **unknown: Any) -> Any:
    """lru_cache that forgets the result that has been used least often since it was stored."""
    return _decorate("lfu_cache", "lfu", maxsize, typed, unknown)


@overload
def ttl_cache(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def ttl_cache(
    maxsize: int | None = 128,
    ttl: float | timedelta | None = 600,
    timer: Callable[[], float] | None = None,
    typed: bool = False,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def ttl_cache(
    maxsize: Any = 128,
    ttl: float | timedelta | None = 600,
    timer: Callable[[], float] | None = None,
    typed: bool = False,
    **unknown: Any,
) -> Any:
    """lru_cache whose results live for ttl seconds (or a timedelta; None is for ever).

    timer: a callable that returns float seconds, in place of the monotonic clock.
    """
    return _decorate("ttl_cache", "lru", maxsize, typed, unknown, ttl=ttl, clock=timer)


def cache(user_function: Callable[P, R], /) -> CachedFunction[P, R]:
    """Keep every result for ever: lru_cache(maxsize=None), as functools.cache."""
    wrapper: CachedFunction[P, R] = _decorate("cache", "lru", None, False, {})(user_function)
    return wrapper
