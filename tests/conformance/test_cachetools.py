"""cachetools' own tests pass with fastcache.cachetools in its place."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from conformance.sdists import Report, Sdist, judge, run, unpacked

import fastcache.cachetools

CACHETOOLS = Sdist(
    "cachetools", "8.0.1", "deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95"
)
MODULES = {
    "cachetools": "fastcache.cachetools",
    "cachetools.func": "fastcache.cachetools.func",
    "cachetools.keys": "fastcache.cachetools.keys",
}
#: Test -> the reason why it cannot hold here.
EXCEPTIONS: dict[str, str] = {}


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cachetools' tests."""
    return unpacked(CACHETOOLS, tmp_path_factory.mktemp("cachetools")) / "tests"


def test_its_tests_pass(tests: Path) -> None:
    report = run(tests, MODULES)
    ours = Path(fastcache.cachetools.__file__).parent
    assert {Path(file).parent for file in report.modules.values()} == {ours}
    judge(report, passed=465, exceptions=EXCEPTIONS)


def test_they_can_fail(tests: Path) -> None:
    """With a cache of another order in LRUCache's place."""
    names = {name: f"fastcache.cachetools:{name}" for name in fastcache.cachetools.__all__}
    names |= {"keys": "fastcache.cachetools.keys", "func": "fastcache.cachetools.func"}
    names |= {"LRUCache": "fastcache.cachetools:FIFOCache"}
    report: Report = run(tests, {**MODULES, "cachetools": names})
    assert report.ids("failed") == [
        "test_lru.py::LRUCacheTest::test_lru",
        "test_lru.py::LRUCacheTest::test_lru_clear",
    ]


# Beside the original: random programs, and each step of them has the same outcome on both.

KINDS = "Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"
STEPS = (
    *("get", "get", "[]", "[]", "set", "set", "set", "set", "del", "pop", "popitem", "setdefault"),
    *("in", "len", "currsize", "iter", "items", "update", "clear", "expire", "tick", "tick"),
    *("repr", "read past overrides", "copy"),
)


@pytest.fixture(scope="module")
def original(tests: Path) -> Iterator[ModuleType]:
    """cachetools from the sdist, under a name of its own."""
    source = tests.parent / "src" / "cachetools"
    spec = importlib.util.spec_from_file_location(
        "original_cachetools", source / "__init__.py", submodule_search_locations=[str(source)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == spec.name]:
        del sys.modules[name]


class Timer:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def hooked(cls: Any) -> Any:
    """A subclass that notes which of its overridden methods are called, and has __missing__."""

    class Hooked(cls):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.calls: list[Any] = []
            super().__init__(*args, **kwargs)

        def popitem(self) -> Any:
            pair = super().popitem()
            self.calls.append(("popitem", pair))
            return pair

        def __delitem__(self, key: Any) -> None:
            self.calls.append(("del", key))
            super().__delitem__(key)

        def __getitem__(self, key: Any) -> Any:
            self.calls.append(("get", key))
            return super().__getitem__(key)

        def __missing__(self, key: int) -> int:
            if key % 3:
                raise KeyError(key)
            if key % 2:
                with contextlib.suppress(ValueError):
                    self[key] = key
            return -key

        if hasattr(cls, "expire"):

            def expire(self, time: Any = None) -> Any:
                pairs = super().expire(time)
                if pairs:  # ours does not ask where there is nothing to expire
                    self.calls.append(("expire", pairs))
                return pairs

    return Hooked


def make(module: Any, kind: str, maxsize: float, sized: bool, hooks: bool, timer: Timer) -> Any:
    cls = getattr(module, kind)
    if hooks:
        cls = hooked(cls)
    options: dict[str, Any] = {}
    if sized:
        options["getsizeof"] = lambda value: value % 5 * 0.5 + bool(value % 7)
    if kind == "TTLCache":
        return cls(maxsize, 4, timer, **options)
    if kind == "TLRUCache":
        return cls(maxsize, lambda key, value, now: now + value % 6 - 1, timer, **options)
    if kind == "RRCache":
        return cls(maxsize, lambda keys: keys[len(keys) // 2], **options)
    return cls(maxsize, **options)


def take(module: Any, cache: Any, step: str, key: int, value: int) -> Any:
    """Take a step; what came of it, with the calls of overridden methods."""
    timed = hasattr(cache, "timer")
    actions: dict[str, Callable[[], Any]] = {
        "get": lambda: cache.get(key, "default"),
        "[]": lambda: cache[key],
        "set": lambda: cache.__setitem__(key, value),
        "del": lambda: cache.__delitem__(key),
        "pop": lambda: cache.pop(key, value) if value % 2 else cache.pop(key),
        "popitem": cache.popitem,
        "setdefault": lambda: cache.setdefault(key, value),
        "in": lambda: key in cache,
        "len": lambda: len(cache),
        "currsize": lambda: cache.currsize,
        "iter": lambda: list(cache),
        "items": lambda: list(cache.items()),
        "update": lambda: cache.update({key: value, key + 1: value + 1}),
        "clear": cache.clear,
        "expire": lambda: cache.expire(*[cache.timer() + 1] * (value % 2)) if timed else None,
        "repr": lambda: repr(cache),
        "read past overrides": lambda: module.Cache.__getitem__(cache, key),
    }
    try:
        outcome: Any = actions[step]()
    except KeyError as error:
        outcome = KeyError, error.args
    except ValueError:
        outcome = ValueError
    calls = getattr(cache, "calls", [])
    outcome = outcome, [*calls]
    calls.clear()
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_random_programs_do_what_they_do_on_the_original(original: ModuleType, kind: str) -> None:
    for seed in range(150):
        random = Random(f"{kind} {seed}")
        maxsize = random.choice([0, 1, 2, 3, 5, 2.5, 8, math.inf])
        sized, hooks = random.random() < 0.4, random.random() < 0.4
        timer = Timer()
        theirs = make(original, kind, maxsize, sized, hooks, timer)
        ours = make(fastcache.cachetools, kind, maxsize, sized, hooks, timer)
        done = []
        for _ in range(80):
            step, key, value = random.choice(STEPS), random.randrange(9), random.randrange(1, 40)
            done.append((step, key, value))
            if step == "tick":
                timer.now += value % 3
            elif step == "copy":
                theirs, ours = copy.copy(theirs), copy.copy(ours)
            else:
                expected = take(original, theirs, step, key, value)
                got = take(fastcache.cachetools, ours, step, key, value)
                assert got == expected, (seed, maxsize, sized, hooks, done)
