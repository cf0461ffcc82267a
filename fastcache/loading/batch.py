"""Batches: a function that takes a list of keys and returns a mapping, its results kept one by one."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from functools import partial
from typing import TYPE_CHECKING, Any

from fastcache._core import (
    Cache,
    CacheInfo,
    CallBinder,
    board,
    empty_like,
    enter_flights,
    forget_under,
    kept,
    leave_flights,
    served,
)
from fastcache.loading.loader import finish
from fastcache.loading.rules import KeptError
from fastcache.loading.tasks import ended_in_loop, spawn
from fastcache.loading.wanted import Gathering, Wanted, abandon, few, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fastcache.loading.options import Options
    from fastcache.loading.rules import Rules

#: What counts as several keys. A tuple is one key, since keys may be tuples.
_SEVERAL = (list, set, frozenset, KeysView, ValuesView, Iterator, range)
_ABSENT = object()
#: Options of `cached` that a batch does not have.
_NOT_HERE = (
    *("key", "ignore", "bind", "typed", "vary", "method"),
    *("refresh", "reload", "early", "stale", "grace", "soft_timeout", "hard_timeout"),
)


class BatchFunction:
    """A function of a list of keys whose results are kept one by one: `@cached(batch=True)`.

    f([1, 2, 3]) returns a dict of these keys, f(1) one value; of an async function, both are awaited.
    Only what is missing is asked for. Misses of single keys, from any thread or task, wait max_wait
    seconds (default 0.002) for others, or until there are max_batch (default 1,000), and share a call.
    Each key is loaded once at a time; what is invalidated while it loads is not kept. The function must
    return a mapping of exactly the keys it was given, or all who asked get a TypeError or ValueError,
    and nothing is kept. Safe from any thread and event loop; hits cost O(keys).
    """

    __wrapped__: Callable[..., Any]
    __qualname__: str
    __name__: str

    def __init__(
        self,
        function: Callable[..., Any],
        cache: Cache[Any, Any],
        prefix: str | None,
        rules: Rules,
        *,
        asynchronous: bool,
        max_batch: int = 1000,
        max_wait: float = 0.002,
        wait_timeout: float | None = 60.0,
    ) -> None:
        self.cache = cache
        self._function = function
        self._prefix = prefix
        self._rules = rules
        self._asynchronous = asynchronous
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._wait_timeout = wait_timeout
        self._binder = CallBinder((), bind=False, ignored=(), vary=(), prefix=prefix, typed=False)
        self._lock = threading.Lock()
        self._gatherings: dict[Any, Gathering] = {}  # event loop, or None for threads
        self._slot: str | None = None
        self._owner: weakref.ref[Any] | None = None

    # ---- calls ---------------------------------------------------------------------------------

    def __call__(self, keys: Any, /) -> Any:
        """The values of several keys, as a dict, or the value of one."""
        return self._ask(keys, None)

    def _ask(self, keys: Any, instance: Any) -> Any:
        several = isinstance(keys, _SEVERAL)
        asked = list(dict.fromkeys(keys)) if several else [keys]
        answer = self._answer_async if self._asynchronous else self._answer
        return answer(asked, several, instance)

    def _answer(self, asked: list[Any], several: bool, instance: Any) -> Any:
        found, wanted = self._look(asked, None)
        mine = [w for w in wanted if w.leads]
        try:
            if mine:
                for w in mine:
                    w.flight.hand_over()
                if several:
                    self._load_all([*mine], instance)
                else:
                    self._gather(mine[0], instance)
            for w in wanted:
                ended = True
                if w.flight.running:
                    token = w.flight.follow(False)
                    ended = False
                    if token is not None:
                        try:
                            ended = w.flight.wait(self._wait_timeout)
                        finally:
                            w.flight.unfollow(token)
                if not ended:
                    found[w.key] = self._checked([w.key], self._call([w.key], instance))[w.key]
                elif w.flight.landed or w.flight.failed:
                    found[w.key] = outcome(w)
                else:  # abandoned
                    found[w.key] = self._answer([w.key], False, instance)
        finally:
            # an error's traceback holds this frame; see ThreadLoader
            w = None  # type: ignore[assignment]
            del mine, wanted
        return self._given(found, asked, several)

    async def _answer_async(self, asked: list[Any], several: bool, instance: Any) -> Any:
        loop = asyncio._get_running_loop()
        found, wanted = self._look(asked, loop)
        mine = [w for w in wanted if w.leads]
        try:
            if mine:
                if loop is None:
                    await self._load_all_async([*mine], instance)
                elif several:
                    spawn(self._load_all_async([*mine], instance), partial(abandon, mine))
                else:
                    self._gather_async(mine[0], instance, loop)
            for w in wanted:
                ended = True
                if w.flight.running:
                    token = w.flight.follow(True) if loop is not None else None
                    ended = False
                    if token is not None:
                        try:
                            ended = await ended_in_loop(w.flight, self._wait_timeout)
                        finally:
                            w.flight.unfollow(token)
                if not ended:
                    values = await self._call([w.key], instance)
                    found[w.key] = self._checked([w.key], values)[w.key]
                elif w.flight.landed or w.flight.failed:
                    found[w.key] = outcome(w)
                else:  # abandoned
                    found[w.key] = await self._answer_async([w.key], False, instance)
        finally:
            w = None  # type: ignore[assignment]
            del mine, wanted
        return self._given(found, asked, several)

    def _look(self, asked: list[Any], loop: Any) -> tuple[dict[Any, Any], list[Wanted]]:
        """What is there, and what is not."""
        found: dict[Any, Any] = {}
        wanted: list[Wanted] = []
        places = [self.cache_key(key) for key in asked]
        for key, place, value in zip(
            asked, places, self.cache.get_many(places, _ABSENT), strict=True
        ):
            if value is not _ABSENT:
                found[key] = value
                continue
            if self._rules.keeps:
                old = kept(self.cache, place)
                if old is not None and type(old[0]) is KeptError:
                    served(self.cache)
                    abandon(wanted)
                    raise old[0].again()
            rules = self._rules
            flight, leads = board(
                self.cache, place, loop=loop, tags=rules.early_tags, late=rules.late_tags
            )
            wanted.append(Wanted(key, flight, leads and flight.running))
        return found, wanted

    def _given(self, found: dict[Any, Any], asked: list[Any], several: bool) -> Any:
        copier = self._rules.copier
        if copier is not None:
            found = {key: copier(value) for key, value in found.items()}
        return {key: found[key] for key in asked} if several else found[asked[0]]

    # ---- loads ---------------------------------------------------------------------------------

    def _gather(self, one: Wanted, instance: Any) -> None:
        """Add a miss to those that wait; whoever was first loads them all."""
        with self._lock:
            gathering = self._gatherings.get(None)
            first = gathering is None
            if gathering is None:
                gathering = self._gatherings[None] = Gathering()
            gathering.wanted.append(one)
            if len(gathering.wanted) >= self._max_batch:
                del self._gatherings[None]
                gathering.full.set()
        if not first:
            return
        try:
            gathering.full.wait(self._max_wait)
        finally:
            with self._lock:
                if self._gatherings.get(None) is gathering:
                    del self._gatherings[None]
            self._load_all(gathering.wanted, instance)

    def _gather_async(self, one: Wanted, instance: Any, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            gathering = self._gatherings.get(loop)
            first = gathering is None
            if gathering is None:
                gathering = self._gatherings[loop] = Gathering()
                gathering.future = loop.create_future()
            gathering.wanted.append(one)
            if len(gathering.wanted) >= self._max_batch:
                del self._gatherings[loop]
                assert gathering.future is not None
                gathering.future.set_result(None)
        if first:
            spawn(self._load_gathered(gathering, instance, loop), lambda: abandon(gathering.wanted))

    async def _load_gathered(
        self, gathering: Gathering, instance: Any, loop: asyncio.AbstractEventLoop
    ) -> None:
        assert gathering.future is not None
        try:
            await asyncio.wait({gathering.future}, timeout=self._max_wait)
        finally:
            with self._lock:
                if self._gatherings.get(loop) is gathering:
                    del self._gatherings[loop]
            if not gathering.future.done():
                gathering.future.cancel()
        await self._load_all_async(gathering.wanted, instance)

    def _load_all(self, wanted: list[Wanted], instance: Any) -> None:
        """Load, in calls of at most max_batch keys; all flights have ended when it returns."""
        try:
            while wanted:
                part, wanted[: self._max_batch] = wanted[: self._max_batch], []
                load = self._load(part)
                keys = next(load)
                part = []
                try:
                    values = self._call(keys, instance)
                except BaseException as error:
                    finish(load, None, error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    finish(load, values, None)
        finally:
            abandon(wanted)
            del wanted

    async def _load_all_async(self, wanted: list[Wanted], instance: Any) -> None:
        try:
            while wanted:
                part, wanted[: self._max_batch] = wanted[: self._max_batch], []
                load = self._load(part)
                keys = next(load)
                part = []
                try:
                    values = await self._call(keys, instance)
                except BaseException as error:
                    finish(load, None, error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    finish(load, values, None)
        finally:
            abandon(wanted)
            del wanted

    def _load(
        self, part: list[Wanted]
    ) -> Generator[list[Any], tuple[Any, BaseException | None], None]:
        """One call: yields its keys, to be sent (values, None) or (None, exception)."""
        flights = tuple(w.flight for w in part)
        try:
            token = enter_flights(flights)
            values, error = yield [w.key for w in part]
            leave_flights(flights, token, error is not None)
            if error is None:
                self._land(part, values)
            elif isinstance(error, Exception):
                for flight in flights:
                    self._rules.fail(flight, error)
        finally:
            abandon(part)

    def _call(self, keys: list[Any], instance: Any) -> Any:
        return self._function(keys) if self._owner is None else self._function(instance, keys)

    def _land(self, part: list[Wanted], values: Any) -> None:
        try:
            values = self._checked([w.key for w in part], values)
        except (TypeError, ValueError) as error:
            for w in part:
                w.flight.fail(error)
            return
        for w in part:
            try:
                self._rules.land(w.flight, values[w.key], (w.key,), {})
            except Exception as raised:  # noqa: BLE001 - passed on to every caller
                if w.flight.running:  # what the user gave for ttl, tags or copy
                    w.flight.fail(raised)

    def _checked(self, keys: list[Any], values: Any) -> Mapping[Any, Any]:
        name = self._rules.name
        if not isinstance(values, Mapping):
            raise TypeError(f"{name}: with batch=True it must return a mapping, got {values!r}")
        missing = [key for key in keys if key not in values]
        if missing:
            raise ValueError(
                f"{name}: with batch=True it must return all keys, but {few(missing)} missing"
            )
        if len(values) != len(keys):
            given = set(keys)
            foreign = [key for key in values if key not in given]
            raise ValueError(
                f"{name}: with batch=True it must return only the keys it was given, but {few(foreign)} foreign"
            )
        return values

    # ---- what decorated functions offer ----------------------------------------------------------

    def cache_key(self, key: Any, /) -> Any:
        """The key under which a value is kept in `.cache`."""
        return key if self._prefix is None else self._binder(key)

    def cache_contains(self, key: Any, /) -> bool:
        """Whether the value of a key is kept. Neither an access nor counted."""
        return self.cache_key(key) in self.cache

    def cache_invalidate(self, *keys: Any) -> bool:
        """Forget the values of keys; True if there was one. What is being loaded is not kept."""
        return self.cache.delete_many([self.cache_key(key) for key in keys]) > 0

    def cache_refresh(self, keys: Any, /) -> Any:
        """Load keys anew, now, and return their values as a call does (to be awaited, if async)."""
        self.cache_invalidate(*(keys if isinstance(keys, _SEVERAL) else (keys,)))
        return self(keys)

    def cache_info(self) -> CacheInfo:
        """Hits, misses, maxsize and currsize, one for each key, of `.cache`."""
        stats = self.cache.stats()
        return CacheInfo(stats.hits, stats.misses, self.cache.maxsize, len(self.cache))

    def cache_clear(self) -> None:
        """Forget all values; what is being loaded is not kept. Of a shared cache only its own."""
        if self._prefix is None:
            self.cache.clear()
            self.cache.stats(reset=True)
        else:
            forget_under(self.cache, self._prefix)

    def cache_parameters(self) -> dict[str, Any]:
        """A new dict of the decorator's maxsize, typed, max_batch and max_wait."""
        return {
            "maxsize": self.cache.maxsize,
            "typed": False,
            "max_batch": self._max_batch,
            "max_wait": self._max_wait,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self._rules.name}>"

    # ---- methods ---------------------------------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        if self._prefix is not None or self._slot is not None:
            return
        if not (owner.__dictoffset__ and owner.__weakrefoffset__):
            raise TypeError(
                f"{self._rules.name}: {owner.__name__} objects need a __dict__ and weak references to hold "
                "cached results of a batch=True method"
            )
        self._slot = f"{owner.__module__}.{owner.__qualname__}.{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or self._slot is None:
            return self
        child = instance.__dict__.get(self._slot)
        if (
            type(child) is not BatchFunction
            or child._owner is None
            or child._owner() is not instance
        ):
            child = self._for_instance()
            child._owner = weakref.ref(instance)
            # one of those that two threads make is kept by both
            instance.__dict__[self._slot] = child
        return _BoundBatch(child, instance)

    def _for_instance(self) -> BatchFunction:
        return BatchFunction(
            self._function,
            empty_like(self.cache),
            None,
            self._rules,
            asynchronous=self._asynchronous,
            max_batch=self._max_batch,
            max_wait=self._max_wait,
            wait_timeout=self._wait_timeout,
        )

    def __reduce__(self) -> Any:
        # what an instance holds is not part of its copies
        return (type(None), ()) if self._owner is not None else self.__qualname__

    def __deepcopy__(self, memo: dict[int, Any]) -> BatchFunction | None:
        return None if self._owner is not None else self


class _BoundBatch:
    """A batch method of an instance, which it keeps alive."""

    def __init__(self, function: BatchFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, keys: Any, /) -> Any:
        return self.__func__._ask(keys, self.__self__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)


def make_batch_function(
    function: Callable[..., Any],
    name: str,
    cache: Cache[Any, Any],
    prefix: str | None,
    asynchronous: bool,
    options: Options,
) -> BatchFunction:
    """What `cached(batch=True, ...)` returns."""
    for option in _NOT_HERE:
        value = getattr(options, option)
        if value is not None and value is not False and value != ():
            raise ValueError(f"{option}={value!r} does not go with batch=True")
    return BatchFunction(
        function,
        cache,
        prefix,
        options.rules(name),
        asynchronous=asynchronous,
        wait_timeout=options.wait_timeout,
        **options.gathering,
    )
