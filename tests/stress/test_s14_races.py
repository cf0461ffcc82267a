"""Scenario 14, further: every call from several threads at once, on one cache.

What each call returns is not asked here but for what may never happen: a structure that is torn, a
bound that is broken, a value older than its key's last invalidation, an event told twice or never.
Without the GIL, and under a thread sanitizer, the same tests look for races.
"""

from __future__ import annotations

import array
import contextlib
import gc
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from stress.racing import THREADS, many, restless, together
from stress.support import Collides, Token, scaled, whole

from fastcache import Cache, lru_cache, ttl_cache

__all__ = ["restless"]
POLICIES = ["lru", "fifo", "lfu"]


def key_of(choose: random.Random) -> Any:
    kind, n = choose.randrange(6), choose.randrange(12)
    return (n, str(n), (n, "t"), Collides(n), 2**61 - 1 + n, float(n))[kind]


CALLS: list[Callable[[Any, random.Random], object]] = [
    lambda c, r: c.get(key_of(r)),
    lambda c, r: c.get(key_of(r)),
    lambda c, r: c.__setitem__(key_of(r), r.random()),
    lambda c, r: c.set(key_of(r), r.random(), ttl=r.choice([None, 0.5, 3, 1000])),
    lambda c, r: c.set(key_of(r), [c], tags=[r.randrange(4), "all"]),
    lambda c, r: c.set(key_of(r), "x", tti=r.choice([0.5, 5]), weight=r.randrange(3)),
    lambda c, r: c.add(key_of(r), 1),
    lambda c, r: c.setdefault(key_of(r), 1),
    lambda c, r: c.incr(("n", r.randrange(3))),
    lambda c, r: c.get_or_set(key_of(r), lambda: [1], tags=["load", r.randrange(4)], ttl=5),
    lambda c, r: c.invalidate_tag(r.randrange(4)),
    lambda c, r: c.invalidate_tag("all", "load", "none"),
    lambda c, r: c.pop(key_of(r), None),
    lambda c, r: c.delete(key_of(r)),
    lambda c, r: c.popitem(),
    lambda c, r: c.touch(key_of(r)),
    lambda c, r: c.entry(key_of(r)),
    lambda c, r: c.ttl(key_of(r)),
    lambda c, r: c.peek(key_of(r)),
    lambda c, r: key_of(r) in c,
    lambda c, r: c.get_many(array.array("q", range(12))),
    lambda c, r: c.get_many([key_of(r) for _ in range(5)]),
    lambda c, r: c.set_many([(key_of(r), i) for i in range(5)]),
    lambda c, r: c.delete_many([key_of(r) for _ in range(3)]),
    lambda c, r: (list(c), list(c.values()), dict(c.items())),
    lambda c, r: (c.hottest(3), c.coldest()),
    lambda c, r: c.expire(r.randrange(4)),
    lambda c, r: c.evict(r.randrange(3)),
    lambda c, r: c.resize(r.choice([5, 20, 40])),
    lambda c, r: (len(c), bool(c), c.nbytes, c.weight, c.maxsize, repr(c)),
    lambda c, r: c.stats(reset=r.random() < 0.1),
    lambda c, r: pickle.loads(pickle.dumps(dict(c.items()).keys() & {1, 2})),
]
RARE: list[Callable[[Any, random.Random], object]] = [
    lambda c, r: c.clear(),
    lambda c, r: gc.collect(0),
    lambda c, r: c.__reduce__(),
    lambda c, r: c._check(),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("options", ["plain", "ttl", "details", "weigher", "listener", "clock"])
def test_s14_every_call_from_every_thread(options: str, policy: str) -> None:
    now = [0.0]
    given: dict[str, dict[str, Any]] = {
        "plain": {},
        "ttl": {"ttl": 0.002, "jitter": 0.5},
        "details": {"details": True, "tti": 1000},
        "weigher": {"weigher": lambda k, v: hash(k) % 3},
        "listener": {"listener": lambda k, v, cause: None, "ttl": 1000},
        "clock": {"clock": lambda: now[0], "ttl": 3.0, "tti": 2.0},
    }
    cache: Cache[Any, Any] = Cache(40, policy=policy, **given[options])

    def work(choose: random.Random) -> None:
        now[0] += 0.01
        call = choose.choice(CALLS if choose.random() < 0.98 else RARE)
        # KeyError: not there; RuntimeError: a key was inserted during iteration; TypeError: incr
        with contextlib.suppress(KeyError, RuntimeError):
            call(cache, choose)

    together(work, rounds=many(1000, 50_000))
    cache.resize(40)
    assert cache.weight <= 40
    whole(cache)
    cache.clear()
    whole(cache)
    cache["last"] = 1
    assert cache["last"] == 1


@pytest.mark.parametrize("kind", ["set", "tags", "ttl", "iterate", "arrays"])
def test_s14_few_calls_often(kind: str) -> None:
    """Two or three calls that touch the same records, without pause."""
    cache: Cache[Any, Any] = Cache(None if kind == "iterate" else 64)
    numbers = array.array("q", range(64))

    def tag(choose: random.Random) -> None:
        n = choose.randrange(100)
        cache.set(n, n, tags=(n % 5, "t", ("u", n)))

    work: dict[str, tuple[Callable[[random.Random], object], ...]] = {
        "set": (lambda r: cache.__setitem__(r.randrange(200), r.random()), lambda r: cache.get(r.randrange(200))),
        "tags": (tag, lambda r: cache.invalidate_tag(r.randrange(5)), lambda r: cache.delete(r.randrange(100))),
        "ttl": (
            lambda r: cache.set(r.randrange(100), 1, ttl=r.random() / 1000),
            lambda r: cache.get(r.randrange(100)),
            lambda r: cache.touch(r.randrange(100), ttl=r.random() / 1000),
        ),
        "iterate": (
            lambda r: cache.update({r.randrange(50): object()}),
            lambda r: cache.pop(r.randrange(50), None),
            lambda r: scan(cache),
        ),
        "arrays": (
            lambda r: cache.get_many(numbers),
            lambda r: cache.__setitem__(r.randrange(100), object()),
            lambda r: cache.delete(r.randrange(100)),
        ),
    }  # fmt: skip
    together(*work[kind], rounds=many(2000, 100_000))
    whole(cache)


def scan(cache: Cache[Any, Any]) -> None:
    with contextlib.suppress(RuntimeError):  # a key was added
        for key, value in cache.items():
            assert isinstance(key, int) and type(value) is object


def test_s14_one_iterator_in_many_threads() -> None:
    for _ in range(scaled(20, 500)):
        cache: Cache[Any, Any] = Cache(None)
        cache.update((i, Token()) for i in range(200))
        iterator, seen = iter(cache.items()), []
        del cache

        def take(choose: random.Random, iterator: Any = iterator, seen: list[Any] = seen) -> None:
            pair = next(iterator, None)
            if pair is not None:
                seen.append(pair[0])

        together(take, rounds=50)
        assert sorted(seen) == list(range(200))


@pytest.mark.parametrize("loader", ["function", "timed function", "get_or_set"])
def test_s14_nothing_older_than_the_last_invalidation_stays(loader: str) -> None:
    """Each thread changes the source and then invalidates; others load meanwhile."""
    source = [0] * 4
    cache: Cache[Any, Any] = Cache(None)
    if loader == "get_or_set":
        read: Any = lambda i: cache.get_or_set(i, lambda: source[i])  # noqa: E731
        forget: Any = cache.delete
    else:
        f: Any = (lru_cache(8) if loader == "function" else ttl_cache(8, ttl=1000))(
            lambda i: source[i]
        )
        read, forget, cache = f, f.cache_invalidate, f.cache
    changes = threading.Lock()

    def write(choose: random.Random) -> None:
        i = choose.randrange(4)
        with changes:
            source[i] += 1
            now = source[i]
        forget(i)
        # after it has returned, nothing older in this process
        assert read(i) >= now

    def load(choose: random.Random) -> None:
        i = choose.randrange(4)
        before = source[i]
        assert read(i) <= source[i]
        assert before <= source[i]

    together(write, load, load, rounds=many(3000, 100_000))
    assert [read(i) for i in range(4)] == source
    whole(cache)


def test_s14_plain_stores_win_over_older_loads() -> None:
    """A value that was set while its key was loading is not replaced by the load's."""
    cache: Cache[int, Any] = Cache(None)
    latest = [0] * 4
    locks = [threading.Lock() for _ in latest]

    def store(choose: random.Random) -> None:
        i = choose.randrange(4)
        with locks[i]:
            cache.delete(i)
            latest[i] += 1
            cache[i] = latest[i]
            assert cache[i] == latest[i]

    def load(choose: random.Random) -> None:
        i = choose.randrange(4)
        cache.get_or_set(i, lambda: -1)

    together(store, load, rounds=many(3000, 100_000))
    assert all(value == latest[i] for i, value in cache.items() if latest[i])
    whole(cache)


def test_s14_counts_add_up() -> None:
    cache: Cache[Any, Any] = Cache(50)

    @lru_cache(50)
    def f(x: int) -> int:
        return x

    rounds = many(3000, 100_000)

    def work(choose: random.Random) -> None:
        n = choose.randrange(100)
        cache.get(n)
        cache[n] = n
        f(n)

    together(work, rounds=rounds)
    stats, info = cache.stats(), f.cache_info()
    assert stats.hits + stats.misses == THREADS * rounds
    assert stats.inserts + stats.replacements == THREADS * rounds
    assert stats.inserts - stats.evictions == len(cache) == 50
    assert info.hits + info.misses == THREADS * rounds


def test_s14_each_event_is_told_once() -> None:
    told: Counter[Any] = Counter()
    cache: Cache[Any, Any] = Cache(20, listener=lambda key, value, cause: told.update([value]))
    rounds = many(2000, 50_000)
    stored: Counter[random.Random] = Counter()  # by thread, each of which has its own

    def work(choose: random.Random) -> None:
        stored[choose] += 1
        cache[choose.randrange(60)] = (choose, stored[choose])
        if choose.random() < 0.1:
            cache.pop(choose.randrange(60), None)

    together(work, rounds=rounds)
    cache.clear()
    assert len(told) == THREADS * rounds
    assert set(told.values()) == {1}
    whole(cache)


def test_s14_flights_under_many_threads() -> None:
    cache: Cache[Any, Any] = Cache(None)

    def load(choose: random.Random) -> None:
        a, b = choose.randrange(5), choose.randrange(5)
        # loads from within loads, in circles too
        got = cache.get_or_set(a, lambda: (a, cache.get_or_set(b, lambda: (b, None))[0]))
        assert got[0] == a
        if choose.random() < 0.3:
            choose.choice(
                [partial(cache.delete, a), partial(cache.invalidate_tag, "t"), cache.clear]
            )()
        with contextlib.suppress(ZeroDivisionError):
            cache.get_or_set(("fails", b), lambda: 1 / 0, tags=["t"])

    together(load, rounds=many(1000, 50_000), threads=8)
    whole(cache)
