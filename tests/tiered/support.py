"""One harness for both faces: calls of the async one run on an event loop in a thread of its own, so that each test
is written once, as plain calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastcache import AsyncTieredCache, Cache, TieredCache

#: Seconds after which something counts as hung. Never slept for: only a limit.
LIMIT = 30.0


def until(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{inspect.getsource(condition).strip()!r}: not in {limit} s")
        time.sleep(0.003)


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)

    def close(self) -> None:
        async def wind_up() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.loop.shutdown_default_executor()

        self.run(wind_up())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT)
        self.loop.close()


class Source:
    """A database: a dict whose reads are counted, and may be held back.

    It is the loader of tiered caches, by load and load_many. gate: reads wait for it. error: reads raise it.
    """

    def __init__(self, **data: Any) -> None:
        self.data: dict[Any, Any] = dict(data)
        self.loads: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def __call__(self, key: Any) -> Any:
        from fastcache import MISSING

        value = self.data.get(key, MISSING)
        self.loads.append(key)
        assert self.gate.wait(LIMIT), "nobody let the load go on"
        if self.error is not None:
            raise self.error
        return value

    def taken(self) -> list[Any]:
        """What was loaded since the last call."""
        loads, self.loads = self.loads, []
        return loads


class Many:
    """A loader with load_many; notes what it was asked for."""

    def __init__(self, face: Face, source: Source) -> None:
        self.source = source
        self.asked: list[list[Any]] = []
        self.result: Callable[[list[Any]], Any] | None = None
        self.load = face.function(source)
        self.load_many = face.function(self._load_many)

    def _load_many(self, keys: list[Any]) -> Any:
        self.asked.append(list(keys))
        assert self.source.gate.wait(LIMIT)
        if self.source.error is not None:
            raise self.source.error
        if self.result is not None:
            return self.result(keys)
        return {key: self.source.data[key] for key in keys if key in self.source.data}


class Face:
    """How one of the two faces is made and called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asynchronous = name == "async"
        self.kind: Any = AsyncTieredCache if self.asynchronous else TieredCache
        self.loop = Loop() if self.asynchronous else None

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As this face wants its loaders: a coroutine function that blocks no loop."""
        if not self.asynchronous or inspect.iscoroutinefunction(function):
            return function

        async def call(*args: Any) -> Any:
            # not run_in_executor of a bounded pool: loads that are held back would fill it
            loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

            def settle(value: Any, error: BaseException | None) -> None:
                if future.done():
                    return
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

            def work() -> None:
                try:
                    outcome = function(*args), None
                except BaseException as error:
                    outcome = None, error
                if not loop.is_closed():
                    loop.call_soon_threadsafe(settle, *outcome)

            threading.Thread(target=work, daemon=True).start()
            return await future

        return call

    def run(self, result: Any) -> Any:
        if self.loop is not None and inspect.isawaitable(result):

            async def wait() -> Any:
                return await result

            return self.loop.run(wait())
        return result

    def close(self) -> None:
        if self.loop is not None:
            self.loop.close()


class Tier:
    """A tiered cache whose calls block, whichever face it has."""

    def __init__(self, face: Face, cache: Any) -> None:
        self.face = face
        self.cache = cache

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.cache, name)
        if not inspect.ismethod(attribute) and not callable(attribute):
            return attribute
        if self.face.loop is None or not inspect.iscoroutinefunction(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.face.run(attribute(*args, **kwargs))

        return call

    def get_or_set(self, key: Any, factory: Any, **options: Any) -> Any:
        factory = self.face.function(factory) if callable(factory) else factory
        return self.face.run(self.cache.get_or_set(key, factory, **options))

    @contextmanager
    def updating(self, *keys: Any, **options: Any) -> Iterator[None]:
        block = self.cache.updating(*keys, **options)
        if not self.face.asynchronous:
            with block:
                yield
            return
        self.face.run(block.__aenter__())
        try:
            yield
        except BaseException as error:
            self.face.run(block.__aexit__(type(error), error, error.__traceback__))
            raise
        self.face.run(block.__aexit__(None, None, None))

    def held(self) -> dict[Any, Any]:
        """What lies in L1."""
        return dict(self.cache.l1.items())


class Tiers:
    """Makes tiered caches of one name space, each with a store of its own, as in a process of its own."""

    def __init__(self, face: Face, where: str, open_store: Callable[[], Any]) -> None:
        self.face = face
        self.where = where
        self.open_store = open_store
        self.namespace = f"t{uuid.uuid4().hex[:12]}"
        self.made: list[Tier] = []
        self.stores: list[Any] = []

    def store(self) -> Any:
        store = self.open_store()
        self.stores.append(store)
        return store

    def __call__(self, loader: Any = None, **options: Any) -> Tier:
        """A tiered cache. l1, store (None: no L2): what it has instead of its own."""
        l1 = options.pop("l1", None)
        l1 = Cache(1000) if l1 is None else l1
        store = options.pop("store", ...)
        if loader is not None and not isinstance(loader, Many):
            loader = self.face.function(loader)
        store = self.store() if store is ... else store
        options.setdefault("namespace", self.namespace)
        tier = Tier(self.face, self.face.kind(l1, store, loader=loader, **options))
        self.made.append(tier)
        return tier

    def many(self, source: Source) -> Many:
        return Many(self.face, source)

    def forget(self, tier: Tier) -> None:
        self.made.remove(tier)

    def close(self) -> None:
        for tier in self.made:
            tier.close()
        for store in self.stores:
            if self.face.loop is not None:
                self.face.loop.run(store.aclose())
            store.close()


class Thread:
    """A call in a thread, whose result is waited for."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.value = call(*args, **kwargs)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    @property
    def runs(self) -> bool:
        return self.thread.is_alive()

    def result(self) -> Any:
        self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "it hangs"
        if self.error is not None:
            raise self.error
        return self.value


def sees(tier: Tier, key: Any, value: Any) -> None:
    """The tier gives this value, at once or as soon as it has heard of it."""
    until(lambda: tier.get(key) == value)
