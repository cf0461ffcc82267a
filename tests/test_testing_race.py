"""`fastcache.testing.invalidated_while_loading`: which caches pass it, and that it tells them apart."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import fastcache
from fastcache import Cache, cached, lru_cache
from fastcache.testing import (
    Race,
    invalidated_while_loading,
    invalidated_while_loading_async,
)

#: Held back for what waits for the load: short, since here it is known who does.
PATIENCE = 0.2

Load = Callable[[str], Any]


def seen(races: tuple[Race, Race]) -> list[tuple[object, object, object]]:
    return [(race.first, race.during, race.after) for race in races]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ttl": 60},
        {"ttl": 60, "stale": 5, "grace": 5, "refresh": 0.5, "early": 1.0},
        {"hard_timeout": 60},
        {"tags": lambda value, key: [key]},
        {"bind": True},
        {"copy": True},
        {"key": lambda key: key},
        {"none_ttl": 1, "error_ttl": {OSError: 1}},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_cached(options: dict[str, Any]) -> None:
    expected = [(1, None, 2), (1, 2, 2)]
    assert seen(invalidated_while_loading(cached(**options))) == expected
    assert seen(invalidated_while_loading_async(cached(**options))) == expected


def test_the_ways_to_invalidate() -> None:
    for way in (
        lambda function, key: function.cache.delete(function.cache_key(key)),
        lambda function, key: function.cache.pop(function.cache_key(key), None),
        lambda function, key: function.cache_clear(),
        lambda function, key: function.cache.clear(),
        lambda function, key: function.cache.invalidate_tag("t"),
    ):
        invalidated_while_loading(cached(tags=["t"]), invalidate=way)
        invalidated_while_loading_async(cached(tags=["t"]), invalidate=way)


def test_methods_and_shared_caches() -> None:
    def method(load: Load) -> Load:
        class Holder:
            @cached
            def get(self, key: str) -> Any:
                return load(key)

        return Holder().get

    invalidated_while_loading(method)
    invalidated_while_loading(lambda load: cached(cache=Cache(9), namespace="n")(load))


def test_batch() -> None:
    def batch(load: Load) -> Any:
        @cached(batch=True)
        def get(keys: list[str]) -> dict[str, Any]:
            return {key: load(key) for key in keys}

        return get

    assert seen(invalidated_while_loading(batch)) == [(1, None, 2), (1, 2, 2)]

    def batch_async(load: Load) -> Any:
        @cached(batch=True)
        async def get(keys: list[str]) -> dict[str, Any]:
            return {key: await load(key) for key in keys}

        return get

    assert seen(invalidated_while_loading_async(batch_async)) == [(1, None, 2), (1, 2, 2)]


def test_get_or_set() -> None:
    cache: Cache[str, Any] = Cache(9)

    def decorate(load: Load) -> Load:
        cache.clear()
        return lambda key: cache.get_or_set(key, lambda: load(key))

    invalidated_while_loading(decorate, invalidate=lambda _, key: cache.delete(key))


@pytest.mark.parametrize("decorator", [lru_cache(9), fastcache.ttl_cache(9, ttl=60)])
def test_decorators_without_flights(decorator: Any) -> None:
    assert seen(invalidated_while_loading(decorator)) == [(1, None, 2), (1, 2, 2)]


def test_a_cache_that_checks_nothing_fails() -> None:
    class Naive:
        def __init__(self, load: Load) -> None:
            self.load = load
            self.values: dict[str, Any] = {}

        def __call__(self, key: str) -> Any:
            if key not in self.values:
                self.values[key] = self.load(key)
            return self.values[key]

        def cache_invalidate(self, key: str) -> None:
            self.values.pop(key, None)

    with pytest.raises(AssertionError, match=r"after that load got version 1; Race\(after=1"):
        invalidated_while_loading(Naive)


def test_functools_fails() -> None:
    with pytest.raises(AssertionError, match="keeps what was invalidated while it loaded"):
        invalidated_while_loading(
            functools.lru_cache, invalidate=lambda function, key: function.cache_clear()
        )


def test_cachetools_fails() -> None:
    cachetools = pytest.importorskip("cachetools")

    def decorate(load: Load) -> Any:
        return cachetools.cached({}, lock=threading.Lock())(load)

    def invalidate(function: Any, key: str) -> None:
        with function.cache_lock:
            function.cache.pop(function.cache_key(key), None)

    with pytest.raises(AssertionError, match="keeps what was invalidated while it loaded"):
        invalidated_while_loading(decorate, invalidate=invalidate, patience=PATIENCE)


def test_async_naive_fails() -> None:
    class Naive:
        def __init__(self, load: Load) -> None:
            self.load = load
            self.tasks: dict[str, asyncio.Task[Any]] = {}
            self.values: dict[str, Any] = {}

        async def __call__(self, key: str) -> Any:
            if key not in self.values:
                if key not in self.tasks:
                    self.tasks[key] = asyncio.ensure_future(self.load(key))
                self.values[key] = await self.tasks[key]
            return self.values[key]

        async def cache_invalidate(self, key: str) -> None:
            self.values.pop(key, None)

    with pytest.raises(AssertionError, match="keeps what was invalidated while it loaded"):
        invalidated_while_loading_async(Naive, patience=PATIENCE)


def test_who_joins_an_older_load_fails() -> None:
    """Nothing older may be given to a call that began after the invalidation, kept or not."""

    class Joins:
        def __init__(self, load: Load) -> None:
            self.load = load
            self.running: list[Any] = []
            self.lock = threading.Lock()

        def __call__(self, key: str) -> Any:
            with self.lock:
                leads = not self.running
                if leads:
                    self.running.append((threading.Event(), []))
                ended, value = self.running[0]
            if leads:
                value.append(self.load(key))
                self.running.clear()
                ended.set()
            ended.wait()
            return value[0]

        def cache_invalidate(self, key: str) -> None:
            pass

    with pytest.raises(AssertionError, match="while that load ran got version 1"):
        invalidated_while_loading(Joins, patience=PATIENCE)


def test_a_cache_whose_invalidation_waits_for_the_load_passes() -> None:
    class Locks:
        def __init__(self, load: Load) -> None:
            self.load = load
            self.lock = threading.Lock()
            self.values: dict[str, Any] = {}

        def __call__(self, key: str) -> Any:
            with self.lock:
                if key not in self.values:
                    self.values[key] = self.load(key)
                return self.values[key]

        def cache_invalidate(self, key: str) -> None:
            with self.lock:
                self.values.pop(key, None)

    began = time.monotonic()
    assert seen(invalidated_while_loading(Locks, patience=PATIENCE)) == [(1, None, 2)] * 2
    assert time.monotonic() - began >= 2 * PATIENCE


def test_errors_come_through() -> None:
    def fails(*_: Any) -> Any:
        raise ZeroDivisionError

    for play in (invalidated_while_loading, invalidated_while_loading_async):
        with pytest.raises(ZeroDivisionError):
            play(fails, patience=PATIENCE)
        with pytest.raises(ZeroDivisionError):
            play(lambda load: fails, patience=0.01)
        with pytest.raises(ZeroDivisionError):
            play(cached, invalidate=fails, patience=PATIENCE)
        with pytest.raises(AttributeError, match="cache_invalidate"):
            play(functools.lru_cache, patience=PATIENCE)
    with pytest.raises(AssertionError, match="without a load"):
        invalidated_while_loading(lambda load: lambda key: 1, patience=0.01)


def test_from_within_a_loop() -> None:
    async def main() -> None:
        invalidated_while_loading_async(cached)

    asyncio.run(main())


def test_the_report() -> None:
    alone, together = invalidated_while_loading(cached)
    assert repr(alone) == "Race(after=2, during=None, first=1, loads=2)"
    assert repr(together) == "Race(after=2, during=2, first=1, loads=2)"


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys; before = {*sys.modules}; import fastcache.testing; "
        "print({'asyncio', 'typing', 'inspect'} & ({*sys.modules} - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"
