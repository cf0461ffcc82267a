"""Scenario 14, of `cached`: calls, invalidations and loads of one function from several threads and loops.

Per key, what the calls returned is what some order of them explains, where a change of the source with
the invalidation after it is one call (stress/history.py). Counts add up at rest, no bound is broken, an
instance has one cache. Without the GIL, and under a thread sanitizer, the same tests look for races.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
from stress.history import Call, explain, first_impossible
from stress.racing import FREE_THREADED, THREADS, many, restless, together
from stress.support import whole

from fastcache import Cache, TieredCache, alru_cache, cached
from fastcache._core import Trust
from fastcache.testing import FakeClock

__all__ = ["restless"]

KEYS = 3
LANGUAGE: ContextVar[int] = ContextVar("language", default=0)


class Source:
    """Numbers that only grow, a function that reads them through a cache, and who called what when."""

    def __init__(
        self, decorate: Callable[[Any], Any], key: Callable[[int], Any] = lambda n: n
    ) -> None:
        self.numbers = [1] * KEYS
        self.changes = [threading.Lock() for _ in range(KEYS)]
        self.calls: list[list[Call]] = [[] for _ in range(KEYS)]
        self.key = key
        self.f = decorate(self.read)

    def read(self, n: Any) -> Any:
        number = self.numbers[n if type(n) is int else n[0]]
        if number % 3 == 0:
            time.sleep(0)  # other threads' turn, between reading and storing
        return number

    def record(self, n: int, op: str, argument: Any, call: Callable[[], Any]) -> Any:
        began = time.perf_counter_ns()
        result = call()
        ended = time.perf_counter_ns()
        self.calls[n].append(Call(threading.get_ident(), op, argument, result, began, ended))
        return result

    def get(self, choose: random.Random) -> None:
        n = choose.randrange(KEYS)
        self.record(n, "get", None, lambda: self.f(self.key(n)))

    def change(self, choose: random.Random, forget: Callable[[Any], object] | None = None) -> None:
        n = choose.randrange(KEYS)
        with self.changes[n]:  # so that the order of changes is known
            now = self.numbers[n] + 1

            def invalidated() -> None:
                self.numbers[n] = now
                (forget or self.f.cache_invalidate)(self.key(n))

            self.record(n, "set", now, invalidated)

    def check(self) -> None:
        for n, calls in enumerate(self.calls):
            first = Call(0, "set", 1, None, 0, 0)
            wrong = first_impossible([first, *calls])
            assert wrong is None, explain(n, calls, wrong)


#: cached's options, and how to make what they share.
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "simple": dict,
    "rules": lambda: {"ttl": 600, "grace": 600},
    "timed": lambda: {"hard_timeout": 60},
    "keyed": lambda: {"key": lambda n: n},
    "bound": lambda: {"bind": True},
    "typed": lambda: {"typed": True},
    "copied": lambda: {"copy": True},
    "vary": lambda: {"vary": [LANGUAGE]},
    "shared": lambda: {"cache": Cache(100), "namespace": "f"},
    "tagged": lambda: {"tags": lambda value, n: [("tag", n)]},
    "errors": lambda: {"error_ttl": {ZeroDivisionError: 60}},
    "tiered": lambda: {"cache": TieredCache(Cache(100)), "namespace": "f"},
    "small": lambda: {"maxsize": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_s14_a_cached_function(kind: str) -> None:
    source = Source(cached(**KINDS[kind]()))
    rounds = many(133, 20_000)
    together(source.change, source.get, source.get, rounds=rounds)
    source.check()
    assert [source.f(n) for n in range(KEYS)] == source.numbers
    info = source.f.cache_info()
    if kind != "tiered":  # whose counts are the tiers'
        assert info.hits + info.misses == 4 * rounds + KEYS
        assert info.currsize <= (info.maxsize or 100)
        whole(source.f.cache)


@pytest.mark.parametrize("kind", ["simple", "rules", "keyed", "shared"])
@pytest.mark.parametrize("how", ["clear", "tag", "refresh"])
def test_s14_other_ways_to_forget(kind: str, how: str) -> None:
    given = KINDS[kind]()
    source = Source(cached(**given, tags=["all"]))
    f = source.f

    def forget(n: int) -> None:
        if how == "clear":
            f.cache_clear()
        elif how == "tag":
            f.cache.invalidate_tag("all")
        else:
            f.cache_invalidate(n)
            f.cache_refresh(n)

    together(partial(source.change, forget=forget), source.get, source.get, rounds=many(83, 10_000))
    source.check()
    whole(f.cache)


def test_s14_old_values_and_renewals() -> None:
    """stale, refresh and grace serve what is past its time, but nothing older than an invalidation."""
    clock = FakeClock()
    source = Source(cached(ttl=10, stale=50, refresh=0.5, grace=50, clock=clock))
    changed = [0] * KEYS
    floors = [0] * KEYS

    def change(choose: random.Random) -> None:
        n = choose.randrange(KEYS)
        with source.changes[n]:
            source.numbers[n] += 1
            changed[n] = source.numbers[n]
            source.f.cache_invalidate(n)
            floors[n] = changed[n]
        clock.advance(choose.choice([0.0, 0.5, 3.0, 12.0]))

    def get(choose: random.Random) -> None:
        n = choose.randrange(KEYS)
        floor = floors[n]
        assert floor <= source.f(n) <= source.numbers[n]

    together(change, get, get, rounds=many(100, 10_000))
    whole(source.f.cache)


@pytest.mark.parametrize("kind", ["simple", "rules", "keyed", "shared"])
def test_s14_tasks_of_several_loops(kind: str) -> None:
    """Each thread has a loop with tasks that call, invalidate, give up and are cancelled."""

    def decorate(read: Any) -> Any:
        async def load(n: int) -> int:
            number: int = read(n)
            await asyncio.sleep(0)
            return number

        return cached(**KINDS[kind]())(load)

    source = Source(decorate)
    rounds = many(10, 2000)
    calls = itertools.count()

    async def get(choose: random.Random) -> None:
        n = choose.randrange(KEYS)
        began = time.perf_counter_ns()
        next(calls)
        result = await source.f(n)
        source.calls[n].append(
            Call(threading.get_ident(), "get", None, result, began, time.perf_counter_ns())
        )

    async def give_up(choose: random.Random) -> None:
        next(calls)
        waiting = asyncio.ensure_future(source.f(choose.randrange(KEYS)))
        for _ in range(choose.randrange(3)):
            await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    async def main(choose: random.Random) -> None:
        for _ in range(5):
            source.change(choose)
            await asyncio.gather(*[get(choose) for _ in range(3)], give_up(choose))

    together(lambda choose: asyncio.run(main(choose)), rounds=rounds, threads=4)
    source.check()
    whole(source.f.cache)


def test_s14_a_failure_of_one_is_raised_by_all() -> None:
    failing = threading.Barrier(THREADS, timeout=60)

    class Failed(Exception):
        def __init__(self, n: int) -> None:
            super().__init__(f"no {n}")
            self.n = n

    def load(n: int) -> None:
        time.sleep(0)
        raise Failed(n) from KeyError(n)

    functions = [
        cached(load),
        cached(ttl=60, grace=1)(load),
        cached(hard_timeout=60)(load),
        cached(batch=True)(load),
    ]

    def call(choose: random.Random) -> None:
        for f in functions:
            failing.wait()
            with pytest.raises(Failed) as caught:
                f(1)
            error = caught.value
            if f is not functions[3]:  # whose function is given a list
                assert error.n == 1
            assert str(error) == f"no {error.n}"
            frames = traceback.extract_tb(error.__traceback__)
            assert frames[-1].name == "load"
            if FREE_THREADED:  # each has a copy
                assert frames[0].name == "call" and len(frames) < 20
            assert type(error.__cause__) is KeyError

    together(call, rounds=many(10, 2000))


def test_s14_kept_errors() -> None:
    loads = itertools.count()

    @cached(error_ttl={ZeroDivisionError: 600})
    def f(n: int) -> None:
        next(loads)
        raise ZeroDivisionError(n)

    def call(choose: random.Random) -> None:
        n = choose.randrange(KEYS)
        with pytest.raises(ZeroDivisionError) as caught:
            f(n)
        assert caught.value.args == (n,)
        if choose.random() < 0.05:
            f.cache_invalidate(n)

    together(call, rounds=many(66, 10_000))
    info = f.cache_info()
    assert info.hits + info.misses == THREADS * many(66, 10_000)
    whole(f.cache)


# ---- methods -------------------------------------------------------------------------------------


class WithDict:
    @cached
    def load(self, n: int) -> object:
        return object()

    @cached(key=lambda self, n: n)
    def keyed(self, n: int) -> object:
        return object()

    @cached(batch=True)
    def batch(self, keys: list[int]) -> dict[int, object]:
        return {key: object() for key in keys}


class WithSlots:
    __slots__ = ("__weakref__",)

    @cached
    def load(self, n: int) -> object:
        return object()


def with_dict(cls: type) -> object:
    return cls()


def copied(cls: type) -> object:
    """It comes with what belongs to another."""
    first = cls()
    first.load(1)  # type: ignore[attr-defined]
    twin = cls()
    twin.__dict__.update(first.__dict__)
    return twin


@pytest.mark.parametrize(
    ("cls", "make", "name"),
    [(WithDict, with_dict, "load"), (WithDict, with_dict, "keyed"), (WithDict, copied, "load"),
     (WithDict, with_dict, "batch"), (WithSlots, with_dict, "load")],
)  # fmt: skip
def test_s14_an_instance_has_one_cache(
    cls: type, make: Callable[[type], object], name: str
) -> None:
    """However many threads use it first at the same time; it goes with its instance, while others count."""
    meeting = threading.Barrier(THREADS, timeout=60)
    shared: list[Any] = [None]
    results: list[list[Any]] = [[] for _ in range(THREADS)]
    numbers = itertools.count()

    def work(number: list[int], choose: random.Random) -> None:
        if not number:
            number.append(next(numbers))
        if meeting.wait() == 0:
            shared[0] = make(cls)
        meeting.wait()
        instance = shared[0]
        results[number[0]].append(getattr(instance, name)(1))
        own = cls()
        getattr(own, name)(2)
        getattr(cls, name).cache_info()
        if cls is WithDict and name != "keyed":
            WithDict.keyed(instance, 2)
            WithDict.keyed.cache_clear()
        del instance, own

    together(*[partial(work, []) for _ in range(THREADS)], rounds=many(20, 3000))
    for of_one in zip(*results, strict=True):
        assert all(value is of_one[0] for value in of_one)
    shared[0] = None
    results.clear()
    gc.collect()
    assert getattr(cls, name).cache_info().currsize == 0


# ---- batches -------------------------------------------------------------------------------------


def test_s14_batches() -> None:
    def decorate(read: Any) -> Any:
        return cached(batch=True, max_wait=0)(lambda keys: {key: read(key) for key in keys})

    source = Source(decorate)

    def several(choose: random.Random) -> None:
        began = time.perf_counter_ns()
        results = source.f(list(range(KEYS)))
        ended = time.perf_counter_ns()
        for n, result in results.items():
            source.calls[n].append(Call(threading.get_ident(), "get", None, result, began, ended))

    together(source.change, source.get, several, rounds=many(50, 5000))
    source.check()
    whole(source.f.cache)


# ---- what calls of one object by several threads may not break ----------------------------------------


def test_s14_a_call_is_awaited_once() -> None:
    """However many threads send to it."""
    loop_calls: list[Any] = [None]
    meeting = threading.Barrier(THREADS, timeout=60)
    got: list[str] = []

    @cached
    async def f(n: int) -> int:
        return n

    asyncio.run(f(1))

    def send(choose: random.Random) -> None:
        if meeting.wait() == 0:
            loop_calls[0] = f(1)
        meeting.wait()
        call = loop_calls[0]
        try:
            call.send(None)
        except StopIteration as stop:
            assert stop.value == 1
            got.append("value")
        except (RuntimeError, ValueError):
            got.append("refused")
        assert call.cr_await is None
        meeting.wait()
        assert got.count("value") == 1
        if meeting.wait() == 0:
            got.clear()
        meeting.wait()

    together(send, rounds=many(20, 5000))


def test_s14_awaited_hits_in_many_loops() -> None:
    @cached
    async def f(n: int) -> list[int]:
        return [n]

    async def main(choose: random.Random) -> None:
        for _ in range(50):
            n = choose.randrange(20)
            assert (await f(n))[0] == n

    together(lambda choose: asyncio.run(main(choose)), rounds=many(5, 500))


@pytest.mark.filterwarnings("ignore::fastcache.alru.AlruCacheLoopResetWarning")
def test_s14_alru_cache_goes_from_loop_to_loop() -> None:
    @alru_cache
    async def f(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def main(choose: random.Random) -> None:
        for _ in range(10):
            n = choose.randrange(3)
            # a load whose results another loop has cleared meanwhile may be cancelled with them
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                assert await f(n) == n

    together(lambda choose: asyncio.run(main(choose)), rounds=many(5, 500), threads=3)
    f.cache._check()


def test_s14_contexts_do_not_mix() -> None:
    @cached(vary=[LANGUAGE])
    def f(n: int) -> tuple[int, int]:
        return LANGUAGE.get(), n

    def call(choose: random.Random) -> None:
        language, n = choose.randrange(3), choose.randrange(3)
        context = copy_context()
        context.run(LANGUAGE.set, language)
        assert context.run(f, n) == (language, n)
        if choose.random() < 0.1:
            context.run(f.cache_invalidate, n)

    together(call, rounds=many(133, 20_000))
    whole(f.cache)


def test_s14_trust_follows_what_goes_away() -> None:
    trust = Trust()

    def follow(choose: random.Random) -> None:
        shared, own = memoryview(bytearray(8)).cast("Q"), memoryview(bytearray(8)).cast("Q")
        trust.follow(shared, own)
        trust.agree(0)
        trust.forever()
        bool(trust)
        if choose.random() < 0.5:
            trust.follow(None, None)

    def ask(choose: random.Random) -> None:
        for _ in range(10):
            bool(trust)
        assert trust.left >= 0

    together(follow, ask, ask, rounds=many(100, 20_000))
    trust.follow(None, None)
    trust.forever()
    assert trust


# ---- the tests themselves: caches broken on purpose -----------------------------------------------


class Unfenced:
    """Broken on purpose: what was being loaded is stored, whatever happened to its key meanwhile."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.cache: Cache[Any, Any] = Cache(None)

    def __call__(self, n: Any) -> Any:
        value = self.cache.get(n)
        if value is None:
            value = self.function(n)
            self.cache[n] = value
        return value

    def cache_invalidate(self, n: Any) -> None:
        self.cache.delete(n)


class Late(Unfenced):
    """Broken on purpose: an invalidation returns before it is done, now and then."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(function)
        self.f = cached(function)
        self.owed: list[Any] = []

    def __call__(self, n: Any) -> Any:
        return self.f(n)

    def cache_invalidate(self, n: Any) -> None:
        self.owed.append(n)
        if len(self.owed) > 2:
            self.f.cache_invalidate(self.owed.pop(0))


class Following(Unfenced):
    """Broken on purpose: an invalidation removes what is kept, and who comes after it waits for a load from
    before."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(function)
        self.last: dict[Any, Any] = {}

    def __call__(self, n: Any) -> Any:
        if (value := self.last.get(n)) is not None:
            return value
        self.last[n] = value = self.function(n)
        time.sleep(0)
        self.last.pop(n, None)
        return value


@pytest.mark.parametrize("broken", [Unfenced, Late, Following])
def test_s14_broken_decorators_are_caught(broken: type[Any]) -> None:
    def work(source: Source, choose: random.Random) -> None:
        source.get(choose)
        source.change(choose)
        source.get(choose)

    for _ in range(20):  # on a busy machine threads may hardly meet
        source = Source(broken)
        together(partial(work, source), rounds=500)
        with contextlib.suppress(AssertionError):
            source.check()
            continue
        return
    pytest.fail("nothing was found wrong")
