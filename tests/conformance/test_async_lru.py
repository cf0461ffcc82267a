"""async-lru's own tests pass with fastcache.alru_cache in its place."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from conformance.sdists import Sdist, judge, run, unpacked

from fastcache import alru_cache

ASYNC_LRU = Sdist(
    "async-lru", "2.4.0", "b0b0077d9b7596615b3c12d0aad4f6aeccaaa0ac75ceae472608ede89e764c08"
)
MODULES = {"async_lru": "as_async_lru"}
OPTIONS = {"filterwarnings": "error"}  # as theirs

CACHE = "reads the private OrderedDict of tasks; here results are in the engine"
TASKS = "reads the private list of tasks; `cache_parameters()['tasks']` says how many there are"
CALLBACK = "calls a private method on a wrapper of what is no function"
#: Test -> the reason why it cannot hold here.
EXCEPTIONS = {
    "test_basic.py::test_alru_cache_dict_not_shared": CACHE,
    "test_cache_clear.py::test_cache_clear_pending_task": TASKS,
    "test_cache_clear.py::test_cache_clear_ttl_callback": CACHE,
    "test_internals.py::test_cache_info": CACHE,
    "test_internals.py::test_done_callback_cancelled": CALLBACK,
    "test_internals.py::test_done_callback_exception": CALLBACK,
    "test_internals.py::test_done_callback_exception_logs": CALLBACK,
    "test_internals.py::test_forbid_call_closed": "sets a private attribute to close the cache",
    "test_size.py::test_alru_cache_removing_lru_keys": CACHE,
    "test_size.py::test_alru_cache_removing_lru_keys_with_full_displacement": CACHE,
}
#: Skipped by themselves before Python 3.14.
DEFERRED = {
    f"test_deferred_annotations.py::test_{name}"
    for name in (
        "annotations_stay_lazy_like_lru_cache",
        "deco_with_annotation_defined_after",
        "method_annotations_stay_lazy",
        "unresolvable_annotation_raises_only_on_access",
    )
}


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of async-lru's tests."""
    return unpacked(ASYNC_LRU, tmp_path_factory.mktemp("async-lru")) / "tests"


def test_its_tests_pass(tests: Path) -> None:
    report = run(tests, MODULES, plugins=["asyncio_plugin"], ini=OPTIONS)
    exceptions = dict(EXCEPTIONS)
    if sys.version_info < (3, 14):
        assert report.ids("skipped") == sorted(DEFERRED)
        exceptions |= dict.fromkeys(DEFERRED, "needs Python 3.14")
    judge(report, passed=79 if sys.version_info < (3, 14) else 83, exceptions=exceptions)


def test_they_can_fail(tests: Path) -> None:
    """`cached` has other rules: what is being loaded is no entry of it yet."""
    names = {name: f"as_async_lru:{name}" for name in ("_R", "_LRUCacheWrapper", "random")}
    wrong = run(
        tests,
        {"async_lru": {**names, "alru_cache": "fastcache:cached"}},
        plugins=["asyncio_plugin"],
        options=["-k", "test_cache_contains_pending_task or test_cache_contains_on_method"],
    )
    assert wrong.ids("failed") == ["test_cache_contains.py::test_cache_contains_pending_task"]


# Beside the original: random programs, and after each step of them both look the same.

KEYS = range(4)
STEPS = (
    *("call", "call", "call", "call", "end", "end", "end", "fail", "cancel", "cancel"),
    *("invalidate", "contains", "clear"),
)


@pytest.fixture(scope="module")
def original(tests: Path) -> Iterator[ModuleType]:
    """async_lru from the sdist, under a name of its own."""
    source = tests.parent / "async_lru" / "__init__.py"
    spec = importlib.util.spec_from_file_location("original_async_lru", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Side:
    """One of the two, with what a program does to it."""

    def __init__(self, decorator: Any, options: dict[str, Any]) -> None:
        self.loads: list[tuple[int, asyncio.Future[Any]]] = []
        self.tasks: list[Any] = []
        self.callers: list[asyncio.Task[Any]] = []
        self.cancelled: list[int] = []

        async def load(key: int, other: int = 0) -> Any:
            number = len(self.loads)
            self.loads.append((key, asyncio.get_running_loop().create_future()))
            self.tasks.append(asyncio.current_task())
            try:
                return await self.loads[number][1]
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise

        self.f = decorator(**options)(load)

    def take(self, step: str, key: int, number: int) -> Any:
        """Take a step; what it says. number: of a load or a caller."""
        if step == "call":
            self.callers.append(asyncio.create_task(self.f(key)))
        elif step in ("end", "fail"):
            future = self.loads[number][1]
            if not future.done():
                if step == "end":
                    future.set_result(number)
                else:
                    future.set_exception(ValueError(number))
        elif step == "cancel":
            self.callers[number].cancel()
        else:
            names = {"clear": "cache_clear", "contains": "cache_contains"}
            call = getattr(self.f, names.get(step, "cache_invalidate"))
            return call() if step == "clear" else call(key)
        return None

    def seen(self) -> Any:
        """All that there is to be seen."""
        return (
            [key for key, _ in self.loads],
            sorted(self.cancelled),  # there, closing cancels in no particular order
            [outcome(caller) for caller in self.callers],
            tuple(self.f.cache_info()),
            self.f.cache_parameters(),
            [self.f.cache_contains(key) for key in KEYS],
        )


def outcome(task: asyncio.Task[Any]) -> Any:
    if not task.done():
        return "waits"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else repr(error)


async def program(original: ModuleType, seed: int) -> int:
    random = Random(seed)
    options = {"maxsize": random.choice([None, 0, 1, 2, 3]), "key": random.choice([None, int])}
    theirs, ours = Side(original.alru_cache, options), Side(alru_cache, options)
    entries = theirs.f._LRUCacheWrapper__cache
    waited_for: list[Any] = []  # by caller: the entry of the original that it has met
    done = []
    for _ in range(60):
        step, key = random.choice(STEPS), random.choice(KEYS)
        count = len(theirs.callers if step == "cancel" else theirs.loads)
        number = random.randrange(count) if count else 0
        if step in ("end", "fail", "cancel") and not count:
            continue
        # There, a load that ends badly takes its key's entry away even if that is a newer load's.
        if step == "fail" and newer(entries, theirs.loads[number][0], theirs.tasks[number]):
            continue
        if step == "cancel" and (met := waited_for[number]) is not None and newer(entries, *met):
            continue
        done.append((step, key, number))
        said = theirs.take(step, key, number), ours.take(step, key, number)
        assert said[0] == said[1], (seed, options, done)
        for _ in range(12):
            await asyncio.sleep(0)
        if step == "call":
            entry = entries.get(key)
            task = theirs.tasks[-1] if entry is None and theirs.tasks else entry and entry.task
            waited_for.append((key, task) if task is not None else None)
        assert ours.seen() == theirs.seen(), (seed, options, done)
    for side in theirs, ours:
        await side.f.cache_close()
        for number in range(len(side.loads)):  # closing leaves those that are no entries
            side.take("end", 0, number)
        await asyncio.wait_for(asyncio.gather(*side.callers, return_exceptions=True), 60)
    assert ours.seen() == theirs.seen(), (seed, options, done)
    return len(done)


def newer(entries: Any, key: int, task: Any) -> bool:
    """Whether the entry of key belongs to another load than that of the task."""
    return key in entries and entries[key].task is not task


def test_random_programs_do_what_they_do_on_the_original(original: ModuleType) -> None:
    assert sum(asyncio.run(program(original, seed)) for seed in range(150)) > 5000
