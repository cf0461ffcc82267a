"""clru_cache: the decorator of the older package named fastcache, over this engine.

It is lru_cache with two options more: `state`, a list or dict that is part of every call, and
`unhashable`, which says what becomes of arguments that cannot be a key. Without them a decorated
function is a CachedFunction, as from lru_cache; with them it is a Python function around one, that
has the same attributes.
"""

from __future__ import annotations

from fastcache.decorators import _decorate

TYPE_CHECKING = False  # importing typing would cost more than the rest of this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, ParamSpec, TypeVar, overload

    from fastcache._core import CachedFunction

    P = ParamSpec("P")
    R = TypeVar("R")
else:

    def overload(function):
        return function


#: A key that nothing is stored under: to ask for it counts a miss.
_NOTHING = object()


@overload
def clru_cache(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def clru_cache(
    maxsize: int | None = 128,
    typed: bool = False,
    state: list[Any] | dict[Any, Any] | None = None,
    unhashable: Literal["error", "warning", "ignore"] = "error",
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def clru_cache(
    maxsize: Any = 128,
    typed: bool = False,
    state: list[Any] | dict[Any, Any] | None = None,
    unhashable: Literal["error", "warning", "ignore"] = "error",
) -> Any:
    """Keep the results of the last maxsize different calls; for those who come from fastcache 1.1.

    maxsize: entries; None or a negative number is unbounded, 0 keeps nothing and only counts. typed:
    whether arguments of different types are different calls. state: a list or dict whose items, as
    they are at the time of each call, are part of it. unhashable: what to do with arguments (and
    items of state) that are unhashable: "error" raises TypeError; "warning" warns with a
    UserWarning and "ignore" does not, and both call the function and count a miss.

    TypeError for other arguments. Safe from any thread, as lru_cache is. A hit costs O(arguments),
    and O(items of state); without state and unhashable it makes no Python frame.
    """
    if callable(maxsize):
        return clru_cache()(maxsize)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError(f"maxsize must be an int or None, got {maxsize!r}")
    if state is not None and not isinstance(state, (list, dict)):
        raise TypeError(f"state must be a list or dict, got {state!r}")
    if unhashable not in ("error", "warning", "ignore"):
        raise TypeError(f"unhashable must be 'error', 'warning' or 'ignore', got {unhashable!r}")
    size = None if maxsize is None or maxsize < 0 else maxsize

    def wrap(function: Callable[P, R]) -> Any:
        if not callable(function):
            raise TypeError("the first argument must be callable")
        # where nothing is kept, arguments are never hashed
        if size == 0 or (state is None and unhashable == "error"):
            return _decorate("clru_cache", "lru", size, bool(typed), {})(function)
        return _around(function, size, bool(typed), state, unhashable)

    return wrap


def _around(
    function: Callable[..., R],
    size: int | None,
    typed: bool,
    state: list[Any] | dict[Any, Any] | None,
    unhashable: str,
) -> Any:
    """A Python function around a CachedFunction whose first argument is the state, if there is one."""
    import functools

    if state is None:
        inner = _decorate("clru_cache", "lru", size, typed, {})(function)
    else:

        def without_state(_: object, /, *args: Any, **kwargs: Any) -> R:
            return function(*args, **kwargs)

        inner = _decorate("clru_cache", "lru", size, typed, {})(without_state)

    snapshot: Any = None  # the state as it is now; TypeError where a value of a dict is unhashable
    if isinstance(state, dict):
        items = state.items()

        def snapshot() -> object:
            return frozenset(list(items))  # a list first: in one step, whatever other threads do

    elif state is not None:
        snapshot = functools.partial(tuple, state)

    def strict(*args: Any, **kwargs: Any) -> Any:
        return inner(snapshot(), *args, **kwargs)

    def lenient(*args: Any, **kwargs: Any) -> Any:
        keyed = None
        try:
            keyed = args if snapshot is None else (snapshot(), *args)
            return inner(*keyed, **kwargs)
        except TypeError:
            # of the key, or of the function, which is not to be called again?
            if keyed is not None and _is_hashable(inner.cache_key(*keyed, **kwargs)):
                raise
        if unhashable == "warning":
            _warn()
        inner.cache.get(_NOTHING)
        return function(*args, **kwargs)

    wrapper: Any = functools.update_wrapper(strict if unhashable == "error" else lenient, function)
    wrapper.cache = inner.cache
    wrapper.cache_info = inner.cache_info
    wrapper.cache_clear = inner.cache_clear
    wrapper.cache_parameters = inner.cache_parameters
    for name in ("cache_key", "cache_contains", "cache_invalidate"):
        call = getattr(inner, name)
        setattr(wrapper, name, call if snapshot is None else _after(snapshot, call))
    return wrapper


def _after(snapshot: Callable[[], object], call: Callable[..., R]) -> Callable[..., R]:
    """call, with the state as it is now before its arguments."""

    def with_state(*args: Any, **kwargs: Any) -> R:
        return call(snapshot(), *args, **kwargs)

    return with_state


def _is_hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _warn() -> None:
    import warnings

    try:
        warnings.warn("Unhashable arguments cannot be cached", UserWarning, stacklevel=3)
    except UserWarning as error:  # a filter makes it an error
        raise TypeError("Cached function arguments must be hashable") from error
