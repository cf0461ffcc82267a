"""alru_cache: the decorator of async-lru 2.4, over this engine.

Its rules, not those of `cached`: a call that is being loaded is an entry of the cache from its first
moment on, and is counted, evicted and invalidated as one; the results belong to one event loop.
What stands in the cache for it meanwhile is a `_Load`, the engine's mark (see `Cached._keep_to_loop`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import sys
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypedDict, TypeVar, overload

from fastcache._core import Cache, Cached, put_for_mark
from fastcache.loading.decorate import _mark_coroutine_function
from fastcache.loading.rules import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta

    from fastcache._core import BoundCached, CacheInfo

P = ParamSpec("P")
R = TypeVar("R")

#: The load that this task belongs to, and which it must not wait for.
_within: ContextVar[_Load | None] = ContextVar("fastcache_alru", default=None)


class AlruCacheLoopResetWarning(UserWarning):
    """A function under alru_cache was called from another event loop than before, and has forgotten
    its results. Once per function."""


class AlruParameters(TypedDict):
    """What cache_parameters() returns. tasks: loads under way that are in the cache."""

    maxsize: int | None
    typed: bool
    tasks: int
    closed: bool


class AlruCached(Protocol[P, R]):
    """A coroutine function whose results are kept. Made by alru_cache."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    @property
    def cache(self) -> Cache[Any, Any]: ...
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> AlruCached[P, R]: ...
    @overload
    def __get__(
        self, instance: object, owner: type | None = None, /
    ) -> BoundCached[Coroutine[Any, Any, R]]: ...
    def cache_info(self) -> CacheInfo:
        """Hits, misses, maxsize and currsize; what is being loaded counts. O(n) with a ttl."""

    def cache_clear(self) -> None:
        """Forget all results and counts. What is being loaded goes to those who wait."""

    def cache_parameters(self) -> AlruParameters:
        """A new dict. O(loads under way)."""

    def cache_key(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The key under which this call is kept in `.cache`."""

    def cache_contains(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether the result of this call is kept, or being loaded. No access, and not counted."""

    def cache_invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call; True if there was one. What is being loaded goes to those
        who wait."""

    def cache_refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Load the result of this call anew."""

    async def cache_close(self, *, wait: bool = False) -> None:
        """Cancel the loads under way, or wait for them; every later call raises RuntimeError."""


@overload
def alru_cache(
    maxsize: Callable[P, Coroutine[Any, Any, R]] | functools.partialmethod[Coroutine[Any, Any, R]],
    /,
) -> AlruCached[P, R]: ...
@overload
def alru_cache(
    maxsize: int | None = 128,
    typed: bool = False,
    *,
    ttl: float | timedelta | None = None,
    jitter: float | None = None,
    key: Callable[..., Any] | None = None,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], AlruCached[P, R]]: ...
def alru_cache(
    maxsize: Any = 128,
    typed: bool = False,
    *,
    ttl: float | timedelta | None = None,
    jitter: float | None = None,
    key: Callable[..., Any] | None = None,
) -> Any:
    """Keep what awaiting a coroutine function gives, of the last maxsize different calls; one load per
    call at a time, in a task of its own. For those who come from async-lru; `cached` does more.

    maxsize: entries; None is unbounded, 0 or less keeps nothing. typed: whether arguments of
    different types are different calls. ttl: seconds, or a timedelta, that a result lives from when
    it is there. jitter: up to so many seconds more, drawn for each. key: a function of all arguments
    (with self) that returns the key; not with typed. Used as `@alru_cache` or `@alru_cache(...)`.

    A load whose last waiter is cancelled is cancelled. Exceptions are not kept. Results belong to one
    event loop: a call from another one forgets them, with an AlruCacheLoopResetWarning the first
    time. Methods share one cache, with the instance in the key.

    RuntimeError for what is no coroutine function, NotImplementedError for what is no function;
    TypeError or ValueError for wrong options. Safe from any thread, but threads with loops of their
    own keep clearing it: give them `cached`. A hit costs O(arguments) and makes no task.
    """
    if maxsize is None or isinstance(maxsize, int):
        _check(typed, ttl, jitter, key)
        return functools.partial(
            _decorate, maxsize=maxsize, typed=typed, ttl=ttl, jitter=jitter, key=key
        )
    if callable(maxsize) or isinstance(maxsize, functools.partialmethod):
        return _decorate(maxsize)
    raise NotImplementedError(f"{maxsize!r} decorating is not supported")


def _check(typed: Any, ttl: Any, jitter: Any, key: Any) -> None:
    seconds("ttl", ttl)
    if jitter is not None:
        if ttl is None:
            raise ValueError("jitter requires ttl to be set")
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)):
            raise TypeError(f"jitter must be a number of seconds or None, got {jitter!r}")
        if not 0 <= jitter < float("inf"):
            raise ValueError(f"jitter must be non-negative and finite, got {jitter!r}")
    if key is not None:
        if not callable(key):
            raise TypeError(f"key must be callable, got {key!r}")
        if typed:
            raise ValueError("typed is ignored when a custom key callable is provided")


def _decorate(function: Any, **options: Any) -> Any:
    origin = function
    while isinstance(origin, (functools.partial, functools.partialmethod)):
        origin = origin.func
    if not inspect.iscoroutinefunction(origin):
        raise RuntimeError(f"Coroutine function is required, got {function!r}")
    if isinstance(function, functools.partialmethod):
        function = function._make_unbound_method()  # type: ignore[attr-defined]
    wrapper = _wrap(function, **options)
    # on Python 3.11 this sets attributes of functions, some of which a partial is known not to have
    if sys.version_info >= (3, 12) or not isinstance(function, functools.partial):
        _mark_coroutine_function(wrapper, origin)
    return wrapper


def _wrap(
    function: Any,
    maxsize: int | None = 128,
    typed: bool = False,
    ttl: Any = None,
    jitter: float | None = None,
    key: Callable[..., Any] | None = None,
) -> Any:
    size = None if maxsize is None else max(int(maxsize), 0)
    cache: Cache[Any, Any] = Cache(size)
    wrapper: Any = Cached(function, cache, bool(typed), size)
    loader = _Loader(function, cache, size, bool(typed), seconds("ttl", ttl), jitter)
    wrapper._configure(
        loader,
        simple=False,
        asynchronous=True,
        binder=key,
        vary=(),
        copier=None,
        prefix=None,
        ttl=...,
        tti=...,
        tags=(),
        patience=None,
    )
    wrapper._keep_to_loop(_Load)
    functools.update_wrapper(wrapper, function)
    wrapper.cache_close = functools.partial(loader.close, wrapper)
    if hasattr(asyncio.coroutines, "_is_coroutine"):  # for asyncio.iscoroutinefunction
        wrapper._is_coroutine = asyncio.coroutines._is_coroutine
    return wrapper


class _Loader:
    """What the engine calls for one function: on a miss, for what is being loaded, and when another
    event loop comes."""

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]],
        cache: Cache[Any, Any],
        maxsize: int | None,
        typed: bool,
        ttl: float | None,
        jitter: float | None,
    ) -> None:
        self.function = function
        self.cache = cache
        self.maxsize = maxsize
        self.typed = typed
        self.ttl = ttl
        self.jitter = jitter
        self.closed = False
        self.warned = False
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Loads under way, in the cache or not, oldest first; a loop holds its tasks weakly only.
        self.loads: dict[_Load, None] = {}

    def arrived(self, cached: Any) -> asyncio.AbstractEventLoop:
        """Before a call that may come from another loop than the last; the loop that it comes from."""
        if self.closed:
            raise RuntimeError(f"alru_cache is closed for {cached}")
        loop = asyncio.get_running_loop()
        before, self.loop = self.loop, loop
        if before is None or before is loop:
            return loop
        cached.cache_clear()
        for load in list(self.loads):
            if load.loop.is_closed():
                self.loads.pop(load, None)
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"alru_cache detected an event loop change and has cleared the results of {cached}; "
                "`fastcache.cached` serves several loops",
                AlruCacheLoopResetWarning,
                stacklevel=2,
            )
        return loop

    def missed(
        self, cached: Any, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """A coroutine that has the value of a call that is not there."""
        load = _Load(self, key, asyncio.get_running_loop(), args, kwargs)
        self.cache.set(key, load)
        return load.wait()

    def joined(
        self, load: _Load, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """A coroutine that has the value of a call that is being loaded."""
        # of another loop only if another thread has come in between; and waiting for oneself has no end
        if load.loop is not asyncio.get_running_loop() or load.contains(_within.get()):
            return self.function(*args, **kwargs)
        return load.wait()

    def refresh(
        self, cached: Any, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        self.arrived(cached)
        return self.missed(cached, key, args, kwargs)

    def named(self, cached: Any, owner: type, name: str) -> None:
        """It was found in a class body; methods are as functions here."""

    def parameters(self, cached: Any) -> AlruParameters:
        return {
            "maxsize": self.maxsize,
            "typed": self.typed,
            "tasks": len(self._kept_loads()),
            "closed": self.closed,
        }

    async def close(self, cached: Any, *, wait: bool = False) -> None:
        """cache_close of the function."""
        self.closed = True
        cached._keep_to_loop(_Load)  # so that the next call arrives
        loop = asyncio.get_running_loop()
        tasks = [load.task for load in self._kept_loads() if load.loop is loop]
        if not wait:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _kept_loads(self) -> list[_Load]:
        """Those whose value the cache waits for."""
        return [
            load
            for load in list(self.loads)
            if not load.task.done() and self.cache.peek(load.key) is load
        ]


class _Load:
    """A load under way, and its entry in the cache until it ends."""

    __slots__ = ("key", "landed", "loader", "loop", "parent", "task", "value", "waiters")

    def __init__(
        self,
        loader: _Loader,
        key: Any,
        loop: asyncio.AbstractEventLoop,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.loader = loader
        self.key = key
        self.loop = loop
        self.landed = False
        self.value: Any = None
        self.parent = _within.get()
        self.waiters: dict[asyncio.Future[None], None] = {}  # in the order of their coming
        self.task = loop.create_task(self.run(args, kwargs))
        self.task.add_done_callback(self.ended)
        loader.loads[self] = None

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The task."""
        _within.set(self)
        loader = self.loader
        value = await loader.function(*args, **kwargs)
        ttl = loader.ttl
        if ttl is not None and loader.jitter is not None:
            ttl += random.uniform(0, loader.jitter)
        put_for_mark(loader.cache, self.key, self, value, ttl)
        self.value = value
        self.landed = True
        self.wake()

    def ended(self, task: asyncio.Task[None]) -> None:
        """However it ended, begun or not."""
        self.loader.loads.pop(self, None)
        self.parent = None
        if not self.landed:
            self.forget()
            self.wake()

    def runs(self) -> bool:
        return not (self.landed or self.task.done())

    def forget(self) -> None:
        """It is no entry any more."""
        put_for_mark(self.loader.cache, self.key, self, None, 0)

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> Any:
        """For one caller: the value, or the exception."""
        if self.runs():
            waiter = self.loop.create_future()
            self.waiters[waiter] = None
            try:
                await waiter
            except asyncio.CancelledError:
                if len(self.waiters) == 1 and self.runs():
                    self.forget()
                    self.task.cancel()
                raise
            finally:
                del self.waiters[waiter]
        return self.value if self.landed else self.task.result()

    def contains(self, load: _Load | None) -> bool:
        """Whether `load` is this one, or was begun within it. O(depth)."""
        while load is not None:
            if load is self:
                return True
            load = load.parent
        return False
