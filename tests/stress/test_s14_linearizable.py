"""Scenario 14: four threads of mixed calls; per key, what they saw is what some order explains."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from stress.history import ABSENT, Call, Recorder, explain, first_impossible, merged
from stress.racing import restless
from stress.support import Collides, scaled, whole

from fastcache import Cache, lru_cache

__all__ = ["restless"]
THREADS = 4
OPS = ["get", "get", "get", "set", "set", "add", "delete", "pop", "setdefault"]


def run(
    cache: Any,
    keys: list[Any],
    calls: int,
    ops: list[str] = OPS,
    between: Callable[[random.Random], object] = lambda choose: None,
    threads: int = THREADS,
) -> list[Recorder]:
    """Mixed calls on `keys` from several threads; every value written is written once."""
    barrier = threading.Barrier(threads, timeout=60)
    recorders = [Recorder(cache, n) for n in range(threads)]
    errors: list[BaseException] = []

    def work(recorder: Recorder) -> None:
        try:
            choose = random.Random(recorder.thread)
            barrier.wait()
            for i in range(calls):
                op = choose.choice(ops)
                argument = 1 if op == "incr" else (recorder.thread, i)
                recorder.call(op, choose.choice(keys), argument)
                between(choose)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work, args=(r,), daemon=True) for r in recorders]
    for t in running:
        t.start()
    for t in running:
        t.join(240)
        assert not t.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return recorders


def check(recorders: list[Recorder], may_lose: bool) -> None:
    """AssertionError if a key's history is not linearizable."""
    for key, calls in merged(recorders).items():
        wrong = first_impossible(calls, may_lose)
        assert wrong is None, explain(key, calls, wrong)


# The checker itself


def history(*rows: tuple[int, int, str, Any, Any]) -> list[Call]:
    """Calls from (began, ended, op, argument, result)."""
    return [
        Call(n, op, argument, result, a, b) for n, (a, b, op, argument, result) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("calls", "strict", "lossy"),
    [
        ([], True, True),
        ([(0, 1, "set", 5, None), (2, 3, "get", None, 5)], True, True),
        ([(0, 1, "set", 5, None), (2, 3, "get", None, ABSENT)], False, True),
        ([(0, 1, "get", None, 5)], False, False),
        # A read that overlaps the write may see it or not; one after that may not go back.
        ([(0, 9, "set", 5, None), (1, 2, "get", None, 5)], True, True),
        ([(0, 9, "set", 5, None), (1, 2, "get", None, ABSENT), (3, 4, "get", None, 5)], True, True),
        ([(0, 9, "set", 5, None), (1, 2, "get", None, 5), (3, 4, "get", None, ABSENT)], False, True),
        # Lost is lost: it does not come back.
        ([(0, 1, "set", 5, None), (2, 3, "get", None, ABSENT), (4, 5, "get", None, 5)], False, False),
        # A stale read.
        ([(0, 1, "set", 5, None), (2, 3, "set", 6, None), (4, 5, "get", None, 5)], False, False),
        # Two adds that both succeed; two deletions.
        ([(0, 9, "add", 5, True), (0, 9, "add", 6, True)], False, True),
        ([(0, 1, "set", 5, None), (2, 9, "delete", None, True), (2, 9, "delete", None, True)], False, False),
        # A lost update.
        ([(0, 9, "incr", 1, 1), (0, 9, "incr", 1, 1)], False, True),
        ([(0, 9, "incr", 1, 1), (0, 9, "incr", 1, 2)], True, True),
        ([(0, 9, "incr", 1, 2), (0, 9, "incr", 1, 1), (10, 11, "get", None, 2)], True, True),
        ([(0, 1, "setdefault", 5, 5), (2, 3, "setdefault", 6, 5)], True, True),
        ([(0, 1, "setdefault", 5, 5), (2, 3, "setdefault", 6, 6)], False, True),
        ([(0, 1, "set", 5, None), (2, 3, "pop", None, 5), (4, 5, "pop", None, 5)], False, False),
    ],
)  # fmt: skip
def test_s14_the_checker_on_known_histories(calls: Any, strict: bool, lossy: bool) -> None:
    assert (first_impossible(history(*calls)) is None) == strict
    assert (first_impossible(history(*calls), may_lose=True) is None) == lossy


class Locked:
    """A map under one lock: linearizable by construction."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[Any, Any] = {}

    def get(self, key: Any, default: Any) -> Any:
        with self.lock:
            return self.values.get(key, default)

    def set(self, key: Any, value: Any) -> None:
        with self.lock:
            self.values[key] = value

    def add(self, key: Any, value: Any) -> bool:
        with self.lock:
            return self.values.setdefault(key, value) is value

    def delete(self, key: Any) -> bool:
        with self.lock:
            return self.values.pop(key, ABSENT) != ABSENT

    def pop(self, key: Any, default: Any) -> Any:
        with self.lock:
            return self.values.pop(key, default)

    def setdefault(self, key: Any, value: Any) -> Any:
        with self.lock:
            return self.values.setdefault(key, value)

    def incr(self, key: Any, delta: int) -> int:
        with self.lock:
            self.values[key] = self.values.get(key, 0) + delta
            return int(self.values[key])


def test_s14_the_checker_accepts_a_locked_map() -> None:
    check(run(Locked(), [1, 2, 3], scaled(1500, 30_000)), may_lose=False)
    check(run(Locked(), [1, 2], scaled(1500, 30_000), ops=["incr", "get"]), may_lose=False)


class Stale:
    """Broken on purpose: around a Cache, `get` remembers for too long."""

    def __init__(self) -> None:
        self.cache: Cache[Any, Any] = Cache(None)
        self.seen: dict[Any, Any] = {}
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def get(self, key: Any, default: Any) -> Any:
        self.reads += 1
        if self.reads % 100 == 0 and key in self.seen:
            return self.seen[key]
        value = self.cache.get(key, default)
        if self.reads % 37 == 0:
            self.seen[key] = value
        return value


class Torn:
    """Broken on purpose: calls that read and then write are not atomic."""

    def __init__(self) -> None:
        self.cache: Cache[Any, Any] = Cache(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def incr(self, key: Any, delta: int) -> Any:
        value = self.cache.get(key, 0)
        time.sleep(0)  # another thread's turn
        self.cache.set(key, value + delta)
        return value + delta

    def add(self, key: Any, value: Any) -> bool:
        if key in self.cache:
            return False
        time.sleep(0)
        self.cache.set(key, value)
        return True


class Forgets:
    """Broken on purpose: a deletion that is undone a little later."""

    def __init__(self) -> None:
        self.cache: Cache[Any, Any] = Cache(None)
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def delete(self, key: Any) -> bool:
        value = self.cache.peek(key, ABSENT)
        found = self.cache.delete(key)
        self.writes += 1
        if self.writes % 20 == 0 and value != ABSENT:
            self.cache.set(key, value)
        return bool(found)


@pytest.mark.parametrize("may_lose", [False, True])
@pytest.mark.parametrize(
    ("broken", "ops"),
    [(Stale, OPS), (Torn, ["incr", "get"]), (Torn, ["add", "get", "delete"]), (Forgets, OPS)],
)
def test_s14_broken_caches_are_caught(broken: type[Any], ops: list[str], may_lose: bool) -> None:
    if may_lose and "add" in ops and broken is Torn:
        return  # two adds that succeed are right where the first value may have been lost
    recorders = run(broken(), [1, 2], 3000, ops=ops)
    with pytest.raises(AssertionError, match="nothing explains"):
        check(recorders, may_lose)


# The cache


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
@pytest.mark.parametrize("keys", ["ints", "strings", "colliding", "tuples"])
def test_s14_unbounded(keys: str, policy: str) -> None:
    of_kind: dict[str, list[Any]] = {
        "ints": [1, 2, 3],
        "strings": ["a", "b", "c"],
        "colliding": [Collides(1), Collides(2), Collides(3)],
        "tuples": [(1, 2), (1, 3), ("a", (1, 2))],
    }
    cache: Cache[Any, Any] = Cache(None, policy=policy)
    check(run(cache, of_kind[keys], scaled(2500, 50_000)), may_lose=False)
    whole(cache)


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_s14_counters(policy: str) -> None:
    cache: Cache[Any, Any] = Cache(None, policy=policy)
    recorders = run(cache, ["a", "b"], scaled(2500, 50_000), ops=["incr", "incr", "get"])
    check(recorders, may_lose=False)
    increments = sum(c.op == "incr" for calls in merged(recorders).values() for c in calls)
    assert cache["a"] + cache["b"] == increments
    whole(cache)


#: What happens beside the recorded calls; each may drop entries, none may change their values.
DISTURBANCES: list[Callable[[Any], object]] = [
    lambda c: c.evict(2),
    lambda c: c.resize(4),
    lambda c: c.resize(12),
    lambda c: c.expire(),
    lambda c: c.clear(),
    lambda c: list(c.items()),
    lambda c: c.set_many([(("more", i), i) for i in range(5)]),
    lambda c: c.get_many([1, "a", (1, 2), Collides(1)]),
    lambda c: c.popitem(),
    lambda c: c.touch(1),
    lambda c: c.invalidate_tag("t"),
    lambda c: c.stats(reset=True),
    lambda c: c.hottest(3),
]


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
@pytest.mark.parametrize("options", ["plain", "ttl", "weigher", "listener", "all"])
def test_s14_bounded(policy: str, options: str) -> None:
    now = [0.0]
    given: dict[str, Any] = {}
    if options in ("ttl", "all"):
        given.update(ttl=5.0, tti=3.0, clock=lambda: now[0])
    if options in ("weigher", "all"):
        given.update(weigher=lambda k, v: 1 + hash(k) % 3)
    events: list[Any] = []
    if options in ("listener", "all"):
        given.update(listener=lambda key, value, cause: events.append(cause))
    cache: Cache[Any, Any] = Cache(8, policy=policy, **given)

    def between(choose: random.Random) -> None:
        now[0] += 0.02
        op = choose.randrange(6 * len(DISTURBANCES))
        if op < len(DISTURBANCES):
            # KeyError: another thread emptied it; RuntimeError: it inserted during iteration
            with contextlib.suppress(KeyError, RuntimeError):
                DISTURBANCES[op](cache)

    keys: list[Any] = [*range(8), "a", (1, 2), Collides(1), Collides(2)]
    check(run(cache, keys, scaled(1500, 40_000), between=between), may_lose=True)
    cache.resize(8)
    assert cache.weight <= 8
    whole(cache)


@pytest.mark.parametrize("maxsize", [1, 7, None])
def test_s14_cached_function(maxsize: int | None) -> None:
    @lru_cache(maxsize)
    def f(*args: Any, **kwargs: Any) -> Any:
        return (args, tuple(kwargs.items()))

    barrier = threading.Barrier(THREADS, timeout=60)
    wrong: list[Any] = []
    calls = scaled(5000, 200_000)

    def work(seed: int) -> None:
        choose = random.Random(seed)
        barrier.wait()
        for _ in range(calls):
            x, y = choose.randrange(6), Collides(choose.randrange(3))
            for args, kwargs in (((x,), {}), ((x, y), {}), ((x,), {"y": y})):
                if f(*args, **kwargs) != (args, tuple(kwargs.items())):
                    wrong.append((args, kwargs))
            if x == 0 and choose.random() < 0.02:
                f.cache_clear()
            elif x == 1:
                f.cache_invalidate(1)

    threads = [threading.Thread(target=partial(work, n), daemon=True) for n in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(240)
        assert not t.is_alive(), "a thread hangs"
    assert not wrong
    info = f.cache_info()
    assert maxsize is None or info.currsize <= maxsize
    f.cache._check()


def test_s14_one_load_at_a_time() -> None:
    cache: Cache[Any, Any] = Cache(None)
    running: dict[int, int] = dict.fromkeys(range(5), 0)
    overlaps: list[int] = []
    loads: list[int] = []

    def load(key: int) -> object:
        running[key] += 1
        if running[key] > 1:
            overlaps.append(key)
        time.sleep(0)
        loads.append(key)
        running[key] -= 1
        return (key, len(loads))

    barrier = threading.Barrier(THREADS, timeout=60)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        barrier.wait()
        for _ in range(scaled(1000, 20_000)):
            key = choose.randrange(5)
            if cache.get_or_set(key, partial(load, key))[0] != key:
                wrong.append(key)
            if choose.random() < 0.05:
                cache.evict(1)  # does not detach a flight, as delete would

    threads = [threading.Thread(target=partial(work, n), daemon=True) for n in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(240)
        assert not t.is_alive(), "a thread hangs"
    assert not wrong
    assert not overlaps
    whole(cache)
