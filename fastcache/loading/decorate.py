"""The decorator `cached`: its options, checked, and made into a `Cached` with its loader."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from fastcache._core import Cache, Cached, CallBinder, TierFront
from fastcache.loading.options import Options, is_async
from fastcache.loading.places import is_global, place_of
from fastcache.loading.prefixes import prefix_of, take_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar
    from datetime import timedelta

    from fastcache.loading.batch import BatchFunction
    from fastcache.loading.loader import Loader
    from fastcache.loading.rules import Rules

    Seconds = float | timedelta

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@overload
def cached(fn: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    fn: None = None,
    /,
    *,
    batch: Literal[True],
    max_batch: int = ...,
    max_wait: Seconds = ...,
    maxsize: int | None = ...,
    policy: str = ...,
    ttl: Seconds | Callable[..., Seconds | None] | None = ...,
    tti: Seconds | None = ...,
    jitter: float = ...,
    tags: Iterable[Any] | Callable[..., Iterable[Any]] = ...,
    cache: Cache[Any, Any] | None = ...,
    namespace: str | None = ...,
    none_ttl: Seconds | None = ...,
    error_ttl: Mapping[type[BaseException], Seconds] | None = ...,
    wait_timeout: Seconds | None = ...,
    copy: bool = ...,
    clock: Callable[[], float] | None = ...,
) -> Callable[[Callable[..., Any]], BatchFunction]: ...
@overload
def cached(
    fn: None = None,
    /,
    *,
    maxsize: int | None = ...,
    policy: str = ...,
    ttl: Seconds | Callable[..., Seconds | None] | None = ...,
    tti: Seconds | None = ...,
    jitter: float = ...,
    key: Callable[..., Any] | None = ...,
    ignore: str | int | Iterable[str | int] = ...,
    bind: bool = ...,
    typed: bool = ...,
    vary: ContextVar[Any] | Iterable[ContextVar[Any]] = ...,
    tags: Iterable[Any] | Callable[..., Iterable[Any]] = ...,
    cache: Cache[Any, Any] | TierFront | None = ...,
    namespace: str | None = ...,
    none_ttl: Seconds | None = ...,
    error_ttl: Mapping[type[BaseException], Seconds] | None = ...,
    refresh: float | None = ...,
    reload: Callable[..., Any] | None = ...,
    early: float | None = ...,
    stale: Seconds | None = ...,
    grace: Seconds | None = ...,
    soft_timeout: Seconds | None = ...,
    hard_timeout: Seconds | None = ...,
    wait_timeout: Seconds | None = ...,
    copy: bool = ...,
    method: bool | None = ...,
    batch: Literal[False] = ...,
    clock: Callable[[], float] | None = ...,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...
def cached(fn: Any = None, /, **options: Any) -> Any:
    """Keep the results of a function, a coroutine function or a method, and load each of them once at a
    time, over all threads, tasks and event loops. Used as `@cached` or `@cached(ttl=60, ...)`.

    What is kept, and for how long (durations in seconds, or timedelta; None is for ever):
      maxsize, policy, jitter, clock: of its own Cache (see there); of a method, of each instance's.
      cache: a Cache to share instead, or a TieredCache; keys then begin with `namespace`, by default
      module:qualname. A tiered cache's own options hold where none are given here.
      ttl: how long results live, or a function ttl(value, *args) of each.
      tti: how long they live unused.
      none_ttl: another ttl for None. error_ttl: {exception type: ttl}; exceptions are kept that long
      and raised as fresh copies.
      tags: names for Cache.invalidate_tag, or a function tags(value, *args) of each result.
      copy: keep and return deep copies, so that callers may change what they get.

    Which calls are equal: as in lru_cache, unless
      typed: arguments of different types are different.
      bind: arguments count by parameter, with defaults: f(1) and f(x=1) are one.
      ignore: parameters, by name or position, that do not count.
      vary: ContextVars whose values count too.
      key: a function of all arguments (with self) that returns the key; not with typed, bind, ignore.

    Keeping results fresh:
      refresh: a fraction of the ttl, after which a hit starts a renewal in the background.
      early: beta of probabilistic early recomputation (Vattani, Chierichetti & Lowenstein 2015).
      stale: seconds past the ttl in which the old value is returned, and renewed in the background.
      grace: seconds past the ttl in which the old value is returned if the load fails, at most one
      try a second.
      reload: reload(old, *args), called instead of the function where there is an old value.
      soft_timeout: seconds after which an old value (see grace) is returned instead of waiting.
      hard_timeout: seconds after which TimeoutError is raised. Late loads are kept all the same.
      wait_timeout: seconds (60) that a caller waits for another's load before it computes for itself.

    method: True keeps results in each instance, as is found out by itself in a class body, but not
    under `property`; False never does. batch: the function takes a list of keys and returns a mapping:
    see BatchFunction; max_batch, max_wait: keys at most and seconds to gather them, for one load.

    What is invalidated while it loads goes to those who wait for it already, and is not kept. The
    result has lru_cache's attributes and cache_invalidate, cache_contains, cache_refresh, cache_key
    (each with the arguments of the call) and cache. A hit costs O(arguments).

    Raises TypeError or ValueError that name function, option and value; TypeError for generators.
    """
    for option in options:
        if option not in Options.names:
            raise TypeError(f"cached() got an unexpected keyword argument {option!r}")
    if fn is None:
        return lambda function: _decorate(function, options)
    if not callable(fn) and not isinstance(fn, (classmethod, property)):
        raise TypeError(f"cached takes options by name, as in cached(maxsize={fn!r})")
    return _decorate(fn, options)


def _signature() -> inspect.Signature:
    """That of `cached`, each option with its default, for help()."""
    defaults = {
        "maxsize": 128,
        "policy": "lru",
        "jitter": 0.0,
        "clock": None,
        "max_batch": 1000,
        "max_wait": 0.002,
    }
    given = inspect.signature(Options).parameters.values()
    shown = [p.replace(annotation=p.empty, default=defaults.get(p.name, p.default)) for p in given]
    first = inspect.Parameter("fn", inspect.Parameter.POSITIONAL_ONLY, default=None)
    return inspect.Signature([first, *shown])


cached.__dict__["__signature__"] = _signature()


class _ClassMethod(classmethod):  # type: ignore[type-arg]
    """A classmethod whose `cache_*` calls need no class. What is under the built-in one is not asked for
    this by CPython 3.13."""

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        return self.__func__.__get__(type(instance) if owner is None else owner, None)


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    # the wrappers of the standard library go outside, whatever the order
    if isinstance(function, classmethod):
        inner = _decorate(function.__func__, options)
        return _ClassMethod(inner.of_classes() if options.get("batch") else inner)
    if isinstance(function, staticmethod):
        return staticmethod(_decorate(function.__func__, options))
    if isinstance(function, property):
        # __set_name__ is not called for what a property holds
        own = options.get("method") is None and options.get("cache") is None
        inner = _decorate(function.fget, {**options, "method": True} if own else options)
        return property(inner, function.fset, function.fdel, function.__doc__)
    name = getattr(function, "__qualname__", None) or repr(function)
    try:
        if not callable(function):
            raise TypeError(f"only callables can be cached, got {function!r}")
        if _is_generator(function) or _is_generator(getattr(type(function), "__call__", None)):  # noqa: B004
            raise TypeError("a generator can be read only once; return a list instead")
        wrapper = _make(function, name, Options(**options))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"cached({name}): {error}") from None
    return functools.update_wrapper(wrapper, function)


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _make(function: Any, name: str, options: Options) -> Any:
    asynchronous = is_async(function)
    options.check_against(asynchronous)
    shared = options.cache is not None
    tier = options.cache if isinstance(options.cache, TierFront) else None
    cache = options.own_cache(name) if not shared else options.cache if tier is None else tier.l1
    if tier is not None and options.namespace is None:
        _check_name(function, tier)
    prefix = options.namespace
    unnamed = shared and prefix is None
    if unnamed:
        lasting = tier is not None and tier._core.store is not None  # type: ignore[attr-defined]
        prefix = prefix_of(function, cache, options.how_keys_are_made, lasting=lasting)
    wrapper: Any
    if options.batch:
        from fastcache.loading.batch import make_batch_function

        wrapper = make_batch_function(function, name, cache, prefix, asynchronous, options)
    else:
        wrapper = _make_cached(function, name, cache, tier, prefix, asynchronous, options)
    if unnamed:
        take_prefix(str(prefix), function, cache, options.how_keys_are_made, wrapper)
    if asynchronous:
        _mark_coroutine_function(wrapper, function)
    if options.method:
        _make_method(wrapper, function, f"{getattr(function, '__module__', None)}.{name}", options)
    return wrapper


def _make_cached(
    function: Any,
    name: str,
    cache: Cache[Any, Any],
    tier: TierFront | None,
    prefix: str | None,
    asynchronous: bool,
    options: Options,
) -> Cached[..., Any]:
    shared = options.cache is not None
    rules = options.rules(name) if tier is None else options.tier_rules(name, tier)
    wrapper: Cached[..., Any] = Cached(function, cache, options.typed, cache.maxsize)
    loader = _loader(function, rules, asynchronous, options)
    if tier is not None:
        loader.set_core(tier._core)  # type: ignore[attr-defined]
        loader.set_prefix(str(prefix))  # type: ignore[attr-defined]
        wrapper._belong_to(tier._trust)
    wrapper._configure(
        loader,
        simple=options.is_simple and not asynchronous and tier is None,
        asynchronous=asynchronous,
        binder=_binder(function, prefix, options),
        vary=options.vary,
        copier=rules.copier,
        prefix=prefix,
        ttl=options.ttl if shared and options.ttl is not None else ...,
        tti=options.tti if shared and options.tti is not None else ...,
        tags=rules.early_tags,
        patience=options.wait_timeout,
    )
    return wrapper


def _loader(function: Any, rules: Rules, asynchronous: bool, options: Options) -> Loader:
    def named(cached: Cached[..., Any], owner: type, attribute: str) -> None:
        """It was found in a class body, as `attribute`."""
        if options.method is False or options.cache is not None or is_global(cached, function):
            return
        if not owner.__dictoffset__ and not owner.__weakrefoffset__:
            raise TypeError(
                f"{rules.name}: {owner.__name__} objects have neither a __dict__ nor weak references, so "
                "they cannot hold cached results; add '__weakref__' to __slots__, or use method=False"
            )
        if not cached._is_method:
            _make_method(
                cached, function, f"{owner.__module__}.{owner.__qualname__}.{attribute}", options
            )

    kind = _loader_class(asynchronous, isinstance(options.cache, TierFront))
    return kind(
        function,
        rules,
        reload=options.reload,
        **options.time_outs(),
        name_method=named,
    )


def _check_name(function: Any, tier: TierFront) -> None:
    """Where an L2 is shared, other processes must know the function by the same name."""
    name = getattr(function, "__qualname__", "<partial>")
    # a method of one instance has the name of those of all others
    bound = not inspect.ismodule(getattr(function, "__self__", inspect))
    if (bound or "<" in name) and tier._core.store is not None:  # type: ignore[attr-defined]
        raise ValueError(
            f"{function!r} has no name that other processes know; give it one: namespace=..."
        )


def _loader_class(asynchronous: bool, tiered: bool) -> type[Loader]:
    """Imported when first needed: asyncio is no small thing."""
    if tiered:
        from fastcache.tiered.loads import loads_of

        return loads_of(asynchronous)
    if asynchronous:
        from fastcache.loading.tasks import TaskLoader

        return TaskLoader
    from fastcache.loading.threads import ThreadLoader

    return ThreadLoader


def _make_method(cached: Cached[..., Any], function: Any, slot: str, options: Options) -> None:
    cached._make_method(place_of(cached, slot), _binder(function, None, options, method=True))


def _mark_coroutine_function(wrapper: Any, function: Any) -> None:
    """inspect.iscoroutinefunction says yes."""
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(wrapper)
        return
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    # Python 3.11 goes by what makes an object look like a function
    for attribute in ("__code__", "__defaults__", "__kwdefaults__", "__annotations__", "__name__"):
        setattr(wrapper, attribute, getattr(function, attribute))


# ---- keys ------------------------------------------------------------------------------------


def _parameters(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:
        raise ValueError(f"bind and ignore need a signature, and {function!r} has none") from None


def _ignored(ignore: tuple[Any, ...], parameters: list[inspect.Parameter]) -> set[str]:
    names = [p.name for p in parameters]
    ignored = set()
    for item in ignore:
        if isinstance(item, int):
            if not 0 <= item < len(names):
                raise ValueError(
                    f"ignore names position {item!r}, but there are {len(names)} parameters"
                )
            ignored.add(names[item])
        elif item in names or any(p.kind is p.VAR_KEYWORD for p in parameters):
            ignored.add(item)
        else:
            raise ValueError(
                f"ignore names {item!r}, but the parameters are {', '.join(names) or 'none'}"
            )
    return ignored


def _binder(function: Any, prefix: str | None, options: Options, *, method: bool = False) -> Any:
    """What makes the key of a call; None: the arguments as they are. The key of a method leaves out
    the instance, which has a cache of its own."""
    if options.key is not None:
        return options.key
    if not (options.ignore or options.bind or options.vary or prefix is not None):
        return None
    parameters = _parameters(function) if options.ignore or options.bind or method else []
    ignored: set[object] = {*_ignored(options.ignore, parameters)}
    if method:
        if not parameters or parameters[0].kind not in _POSITIONAL:  # def method(*args)
            parameters.insert(0, inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY))
        elif parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            ignored.add(parameters[0].name)
    described = []
    for index, p in enumerate(parameters):
        name: object = p.name
        if p.kind is p.POSITIONAL_ONLY and (p.name in ignored or (method and index == 0)):
            # **kwargs may have this name too
            ignored.discard(p.name)
            name = object()
            ignored.add(name)
        described.append((name, int(p.kind), p.default is not p.empty, p.default))
    return CallBinder(
        described,
        bind=options.bind,
        ignored=ignored,
        vary=options.vary,
        prefix=prefix,
        typed=options.typed,
        method=method,
    )
