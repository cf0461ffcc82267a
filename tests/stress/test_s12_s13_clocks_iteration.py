"""Scenarios 12 and 13: clocks that jump, iteration under change, depth and number without limit."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from stress.support import Token, run_child, scaled, whole

from fastcache import Cache

POLICIES = ["lru", "fifo", "lfu"]
DAY = 86_400.0


class Clock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# 12. Clocks


@pytest.mark.parametrize("shift", [-DAY, DAY])
def test_s12_wall_clock_is_not_asked(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    cache: Cache[Any, Any] = Cache(10, ttl=3600, tti=3600)
    cache["a"] = 1
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    assert cache["a"] == 1
    assert cache.ttl("a") == pytest.approx(3600, abs=60)
    cache["b"] = 2
    assert cache.expire() == []
    assert cache.hottest() == ["b", "a"]


WALL = """
import ctypes, time
cache = Cache(10, ttl=3600)
short = Cache(10, ttl=0.5)
cache["a"] = short["a"] = 1
now = time.clock_gettime(time.CLOCK_REALTIME)
try:
    time.clock_settime(time.CLOCK_REALTIME, now + float(sys.argv[1]))
except PermissionError:
    print("may not set the clock")
    raise SystemExit
start = time.monotonic()
try:
    assert cache.get("a") == 1
    assert 3590 < cache.ttl("a") <= 3600
    while short.get("a") is not None:
        assert time.monotonic() - start < 30
    assert time.monotonic() - start < 5
finally:
    time.clock_settime(time.CLOCK_REALTIME, now + time.monotonic() - start)
"""


@pytest.mark.soak
@pytest.mark.parametrize("shift", [-DAY, DAY])
def test_s12_wall_clock_is_set(shift: float) -> None:
    run_child(WALL, shift)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "expiry", [{"ttl": 50}, {"tti": 50}, {"ttl": 50, "tti": 30, "jitter": 0.5}]
)
def test_s12_user_clock_jumps(policy: str, expiry: dict[str, Any]) -> None:
    clock = Clock()
    cache: Cache[Any, Any] = Cache(100, policy=policy, clock=clock, **expiry)
    choose = random.Random(4)
    for i in range(scaled(20_000, 500_000)):
        op = choose.randrange(12)
        k = choose.randrange(150)
        if op < 3:
            cache[k] = i
        elif op == 3:
            cache.set(k, i, ttl=choose.choice([0.001, 1, 100, 1e6]))
        elif op < 6:
            cache.get(k)
        elif op == 6:
            cache.touch(k)
        elif op == 7:
            cache.expire(5)
        elif op == 8 and i % 50 == 0:
            clock.now += choose.choice([1e3, 1e6, 1e8, -1e3, -1e6, -1e8, -clock.now, 0.001])
        elif op == 9:
            clock.now += choose.random()
        elif op == 10:
            clock.now -= choose.random()
        else:
            cache.delete(k)
        if i % 200 == 0:
            whole(cache)
    clock.now += 8e9  # more than all that it went back
    assert list(cache) == []
    cache.expire()
    assert len(cache) == 0
    whole(cache)


@pytest.mark.parametrize("start", [0.0, -1e9, 1e-9, 1e12, 1.7e9, 2.0**40, -0.0])
def test_s12_user_clock_starts_anywhere(start: float) -> None:
    clock = Clock()
    clock.now = start
    cache: Cache[Any, Any] = Cache(10, ttl=10, clock=clock)
    try:
        cache["a"] = 1
    except ValueError as error:  # more than 292 years from zero: refused, and said so
        assert abs(start) > 9e9
        assert "clock" in str(error)
        assert len(cache) == 0
        return
    clock.now = start + 9
    assert cache.get("a") == 1
    assert cache.ttl("a") == pytest.approx(1, abs=0.01)
    clock.now = start + 10
    assert cache.get("a") is None
    cache["a"] = 2
    assert cache["a"] == 2
    whole(cache)


def test_s12_going_backwards_revives_nothing_that_was_removed() -> None:
    clock = Clock()
    cache: Cache[Any, Any] = Cache(10, ttl=10, clock=clock)
    cache["a"] = 1
    clock.now += 20
    assert cache.get("a") is None
    assert cache.expire() in ([], [("a", 1)])
    clock.now -= 20
    assert cache.get("a") is None
    cache["a"] = 2
    clock.now -= 100
    assert cache["a"] == 2
    whole(cache)
    clock.now += 1000
    assert "a" not in cache


# 13. Iteration

VIEWS: dict[str, Callable[[Any], Any]] = {
    "iter": iter,
    "keys": lambda c: iter(c.keys()),
    "values": lambda c: iter(c.values()),
    "items": lambda c: iter(c.items()),
}
#: What may be done while iterating. None of these inserts a new key.
HARMLESS: dict[str, Callable[[Any, int], Any]] = {
    "get": lambda c, i: c.get(i),
    "overwrite": lambda c, i: c.set(i, i) if i in c else None,
    "delete": lambda c, i: c.delete(i),
    "delete another": lambda c, i: c.delete((i * 7 + 3) % 50),
    "pop": lambda c, i: c.pop(i, None),
    "popitem": lambda c, i: c.popitem() if i % 2 and len(c) else None,
    "evict": lambda c, i: c.evict(3),
    "clear": lambda c, i: c.clear() if i % 10 == 5 else None,
    "expire": lambda c, i: (setattr(c.tick, "now", c.tick.now + 10), c.expire()),
    "get that expires": lambda c, i: (setattr(c.tick, "now", c.tick.now + 10), c.get(i)),
    "touch": lambda c, i: c.touch(i),
    "resize": lambda c, i: c.resize(max(1, c.maxsize - 1)),
    "tag": lambda c, i: c.invalidate_tag(i % 5),
    "iterate": lambda c, i: list(c),
    "check": lambda c, i: c._check(),
}


class Ticking(Cache):  # type: ignore[type-arg]
    """A cache with a clock that the test can reach."""

    def __init__(self, policy: str) -> None:
        self.tick = Clock()
        super().__init__(60, policy=policy, clock=self.tick)
        for i in range(50):
            self.set(i, i, ttl=100 if i % 2 else 1000, tags=[i % 5])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("body", HARMLESS)
def test_s13_iteration_goes_on(body: str, view: str, policy: str) -> None:
    cache = Ticking(policy)
    seen = []
    for n, found in enumerate(VIEWS[view](cache)):
        seen.append(found)
        HARMLESS[body](cache, n)
        assert n <= 50
    assert len(seen) == len(set(seen))
    if body in ("get", "overwrite", "touch", "iterate", "check"):
        assert len(seen) == 50
    whole(cache)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("view", VIEWS)
def test_s13_iteration_shows_no_dead_entry(view: str, policy: str) -> None:
    cache = Ticking(policy)
    iterator = VIEWS[view](cache)
    for _ in range(5):
        next(iterator)
    cache.tick.now += 200
    cache.invalidate_tag(0)
    rest = [x[0] if isinstance(x, tuple) else x for x in iterator]
    assert all(i % 2 == 0 and i % 5 for i in rest)
    assert len(rest) >= 15


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("insert", ["[]=", "set", "add", "setdefault", "update", "incr",
                                    "get_or_set", "set_many", "delete and set", "many"])  # fmt: skip
def test_s13_new_key_ends_iteration(insert: str, view: str, policy: str) -> None:
    cache = Ticking(policy)
    calls: dict[str, Callable[[], Any]] = {
        "[]=": lambda: cache.__setitem__("new", 1),
        "set": lambda: cache.set("new", 1),
        "add": lambda: cache.add("new", 1),
        "setdefault": lambda: cache.setdefault("new", 1),
        "update": lambda: cache.update(new=1),
        "incr": lambda: cache.incr("new"),
        "get_or_set": lambda: cache.get_or_set("new", int),
        "set_many": lambda: cache.set_many({"new": 1}),
        "delete and set": lambda: (cache.delete(7), cache.set("new", 1)),
        "many": lambda: cache.update((("new", i), i) for i in range(1000)),
    }
    iterator = VIEWS[view](cache)
    next(iterator)
    calls[insert]()
    with pytest.raises(RuntimeError):
        for _ in range(100):
            next(iterator)
    whole(cache)


def test_s13_dropped_cache_and_exhausted_iterators() -> None:
    iterator = iter(Ticking("lru"))
    assert len(list(iterator)) == 50
    cache = Ticking("lru")
    iterator = iter(cache)
    list(iterator)
    cache["new"] = 1
    assert list(iterator) == []  # an exhausted iterator stays exhausted


def test_s13_other_threads_expire_meanwhile() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for policy in POLICIES:
            cache = Ticking(policy)
            stop = threading.Event()
            errors: list[BaseException] = []

            def disturb(
                cache: Ticking = cache,
                stop: threading.Event = stop,
                errors: list[BaseException] = errors,
            ) -> None:
                try:
                    for i in range(100_000):
                        cache.tick.now += 0.01
                        cache.get(i % 50)
                        cache.delete((i * 3) % 50)
                        if stop.is_set():
                            break
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=disturb, daemon=True)
            thread.start()
            for _ in range(scaled(100, 2000)):
                for view in VIEWS.values():
                    assert sum(1 for _ in view(cache)) <= 50
            stop.set()
            thread.join(60)
            assert not thread.is_alive()
            assert not errors
            whole(cache)
    finally:
        sys.setswitchinterval(interval)


RESET = """
DEPTH = int(sys.argv[1])
how = sys.argv[2]
count = 0
def listener(key, value, cause):
    global count
    assert cause == ("explicit" if how == "delete" else "replaced" if how == "overwrite" else "size")
    count += 1
    if count < DEPTH:
        if how == "delete":
            cache[key] = value; cache.delete(key)
        elif how == "overwrite":
            cache[key] = value
        else:
            cache[key] = value  # sets again what was evicted, which evicts the next
cache = Cache(2, listener=listener)
cache["a"] = 1; cache["b"] = 2
if how == "delete": cache.delete("a")
elif how == "overwrite": cache["a"] = 3
else: cache["c"] = 3
assert count == DEPTH, count
cache._check()
print("ok")
"""


@pytest.mark.parametrize("how", ["evict", "delete", "overwrite"])
def test_s13_listener_sets_again_what_was_removed(how: str) -> None:
    # The limit of recursion is the usual one: a drain that recursed would meet it at once.
    assert run_child(RESET, 100_000, how) == "ok\n"


def test_s13_listener_that_raises_each_time() -> None:
    reports = []
    hook = sys.unraisablehook
    sys.unraisablehook = reports.append
    try:

        def listener(key: object, value: object, cause: str) -> None:
            raise ZeroDivisionError(cause)

        cache: Cache[Any, Any] = Cache(3, listener=listener)
        for i in range(100):
            cache[i] = Token()
        assert cache.stats().listener_errors == 97
        assert len(reports) == 97
        whole(cache)
    finally:
        sys.unraisablehook = hook
        reports.clear()


TAGS = """
N = int(sys.argv[1])
cache = Cache(1000)
def work(start, stop):
    for i in range(start, stop):
        tag = f"tag {i}"
        cache.set(i % 1500, i, tags=(tag, i))
        cache.invalidate_tag(tag)
        assert cache.get(i % 1500) is None
work(0, 50_000)
gc.collect()
before, nbytes, blocks = memory(), cache.nbytes, sys.getallocatedblocks()
work(50_000, 50_000 + N)
gc.collect()
grown, more = memory() - before, sys.getallocatedblocks() - blocks
print(grown, more, cache.nbytes - nbytes)
assert INSTRUMENTED or grown < 1_000_000, grown
assert more < 5000, more
assert cache.nbytes <= nbytes * 1.5 + 10_000, (cache.nbytes, nbytes)
# Tags that nobody uses leave no trace.
empty = Cache(10)
nbytes = empty.nbytes
for i in range(10_000):
    empty.invalidate_tag(i)
assert empty.nbytes == nbytes
for i in range(10_000):
    empty.set(1, 1, tags=[i])
empty.clear()
cache.clear()
assert cache.nbytes < 100_000, cache.nbytes
cache._check()
"""


def test_s13_tags_leave_no_trace() -> None:
    run_child(TAGS, scaled(100_000, 10_000_000))


CACHES = """
N = int(sys.argv[1])
def work(n):
    for i in range(n):
        c = Cache(10, policy=("lru", "fifo", "lfu")[i % 3], ttl=5 if i % 2 else None)
        c[1] = "x"; c[2] = c.get(1)
        if i % 7 == 0: c.set(3, [c], tags=["t"])
        f = lru_cache(5)(work)
work(20_000); gc.collect()
before, blocks = memory(), sys.getallocatedblocks()
work(N); gc.collect()
grown, more = memory() - before, sys.getallocatedblocks() - blocks
print(grown, more)
assert INSTRUMENTED or grown < 1_000_000, grown
assert more < 2000, more
"""


def test_s13_small_caches_come_and_go() -> None:
    run_child(CACHES, 100_000)
