"""`get_or_set`: one factory per key at a time, and the fence around it.

What could hang runs in a subprocess with a limit; the others use events, so that each thread is
where the test says it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from _support import Recorder, run_python, run_threads, until

from fastcache import Cache, _core
from fastcache.testing import FakeClock


def test_stores_and_returns() -> None:
    cache: Cache[str, int] = Cache(9)
    assert (
        cache.get_or_set("a", lambda: 1) == 1
        and cache.get_or_set("a", lambda: 2) == 1
        and cache["a"] == 1
    )


def test_the_options_are_for_the_entry() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.get_or_set("a", lambda: 1, ttl=5, weight=3, tags=["t"])
    assert cache.ttl("a") == 5 and cache.weight == 3
    cache.invalidate_tag("t")
    assert "a" not in cache


def test_the_time_to_live_starts_when_the_load_ends() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)

    def slow() -> int:
        clock.advance(60)
        return 1

    assert cache.get_or_set("a", slow) == 1
    assert cache.ttl("a") == 10


def test_an_error_is_not_kept() -> None:
    cache: Cache[str, int] = Cache(9)
    error = ZeroDivisionError("mine")

    def fail() -> int:
        raise error

    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as raised:
            cache.get_or_set("a", fail)
        assert raised.value is error
    assert "a" not in cache and cache.get_or_set("a", lambda: 1) == 1
    assert cache.stats().load_failures == 3
    cache._check()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, StopIteration, KeyError]
)
def test_whatever_is_raised_leaves_nothing_locked(error: type[BaseException]) -> None:
    """Ctrl-C [...] the next call loads again; no lock left behind."""
    cache: Cache[str, int] = Cache(9)

    def fail() -> int:
        raise error

    with pytest.raises(error):
        cache.get_or_set("a", fail)
    assert run_threads([lambda: cache.get_or_set("a", lambda: 1)]) == [1]
    cache._check()


def test_no_traceback_is_kept_alive() -> None:
    import gc
    import weakref

    class Local:
        pass

    references: list[weakref.ref[Local]] = []
    cache: Cache[str, int] = Cache(9)

    def fail() -> int:
        local = Local()
        references.append(weakref.ref(local))
        raise ZeroDivisionError

    try:
        cache.get_or_set("a", fail)
    except ZeroDivisionError:
        pass
    gc.collect()
    assert references[0]() is None


def test_the_error_has_no_foreign_context() -> None:
    cache: Cache[str, int] = Cache(9)

    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        cache.get_or_set("a", fail)
    assert raised.value.__context__ is None and raised.value.__cause__ is None


# ---------------------------------------------------------------- one run over threads


class Load:
    """A factory that waits until it is let go, and counts its runs."""

    def __init__(self, value: Any = "loaded") -> None:
        self.value = value
        self.runs = 0
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> Any:
        self.runs += 1
        self.started.set()
        assert self.go.wait(60)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


class Flight:
    """A load in a thread of its own, stopped in the middle of its factory."""

    def __init__(
        self, cache: Cache[Any, Any], key: Any = "k", value: Any = "loaded", **options: Any
    ) -> None:
        self.load = Load(value)
        self.result: Any = None
        self.thread = threading.Thread(target=self._run, args=(cache, key, options), daemon=True)
        self.thread.start()
        assert self.load.started.wait(60)

    def _run(self, cache: Cache[Any, Any], key: Any, options: dict[str, Any]) -> None:
        try:
            self.result = cache.get_or_set(key, self.load, **options)
        except BaseException as error:
            self.result = error

    def land(self) -> Any:
        self.load.go.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the leader hangs"
        return self.result


def join_flight(
    cache: Cache[Any, Any], key: Any, factory: Callable[[], Any], count: int
) -> list[Any]:
    """`count` threads that ask for `key`, each until it waits; their results, filled in later."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append(cache.get_or_set(key, factory))
        except BaseException as error:
            results.append(error)

    before = cache.stats().misses
    threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    # A follower counts its miss before it waits.
    until(lambda: cache.stats().misses >= before + count)
    results_and_threads: Any = Waiting(results, threads)
    return results_and_threads


class Waiting(list[Any]):
    def __init__(self, results: list[Any], threads: list[threading.Thread]) -> None:
        self.results, self.threads = results, threads

    def all(self) -> list[Any]:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a follower hangs"
        return self.results


def test_one_factory_run_over_threads() -> None:
    """`factory()` runs once per key at a time."""
    cache: Cache[str, Any] = Cache(9)
    flight = Flight(cache)
    followers: Any = join_flight(cache, "k", lambda: pytest.fail("a second run"), 20)
    assert flight.land() == "loaded"
    assert followers.all() == ["loaded"] * 20
    assert flight.load.runs == 1 and cache.stats().loads == 1 and cache["k"] == "loaded"
    cache._check()


def test_many_threads_start_together() -> None:
    cache: Cache[str, Any] = Cache(9)
    barrier = threading.Barrier(50)
    runs: list[int] = []

    def call() -> int:
        barrier.wait(60)
        return cache.get_or_set("k", lambda: runs.append(1) or 7)  # type: ignore[func-returns-value]

    assert run_threads([call] * 50) == [7] * 50 and len(runs) == 1
    cache._check()


def test_other_keys_do_not_wait() -> None:
    cache: Cache[str, Any] = Cache(9)
    flight = Flight(cache)
    assert run_threads(
        [
            lambda: cache.get_or_set("other", lambda: 1),
            lambda: cache.get("k"),
            lambda: "k" in cache,
            lambda: cache.set("x", 1),
            lambda: len(cache),
        ]
    )[:2] == [1, None]
    assert flight.land() == "loaded"


def test_equal_keys_of_other_types_share_a_flight() -> None:
    cache: Cache[Any, Any] = Cache(9)
    flight = Flight(cache, key=5)
    followers: Any = join_flight(cache, 5.0, lambda: pytest.fail("a second run"), 1)
    flight.land()
    assert followers.all() == ["loaded"]


def test_the_error_reaches_every_waiter() -> None:
    """The loader's error reaches every waiter."""
    cache: Cache[str, Any] = Cache(9)
    flight = Flight(cache, value=ZeroDivisionError("boom"))
    followers: Any = join_flight(cache, "k", lambda: pytest.fail("a second run"), 10)
    assert repr(flight.land()) == "ZeroDivisionError('boom')"
    assert list(map(repr, followers.all())) == ["ZeroDivisionError('boom')"] * 10
    assert "k" not in cache and cache.get_or_set("k", lambda: 1) == 1
    cache._check()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_leader_hands_over(error: type[BaseException]) -> None:
    """Loader is interrupted: waiters get that error or take over; the next call loads again."""
    cache: Cache[str, Any] = Cache(9)
    flight = Flight(cache, value=error("stop"))
    runs: list[int] = []
    followers: Any = join_flight(cache, "k", lambda: runs.append(1) or "second", 5)  # type: ignore[func-returns-value]
    assert isinstance(flight.land(), error)
    results = followers.all()
    assert all(result == "second" or isinstance(result, error) for result in results)
    assert cache.get_or_set("k", lambda: "second") == "second"
    cache._check()


# ---------------------------------------------------------------- the fence

FENCES: list[tuple[str, Callable[[Cache[Any, Any]], Any], Any]] = [
    ("set", lambda c: c.set("k", "written"), "written"),
    ("setitem", lambda c: c.__setitem__("k", "written"), "written"),
    ("set_many", lambda c: c.set_many({"k": "written"}), "written"),
    ("update", lambda c: c.update(k="written"), "written"),
    ("add", lambda c: c.add("k", "written"), "written"),
    ("setdefault", lambda c: c.setdefault("k", "written"), "written"),
    ("set ttl=0", lambda c: c.set("k", "written", ttl=0), None),
    ("set too heavy", lambda c: c.set("k", "written", weight=10**6), None),
    ("set and delete", lambda c: (c.set("k", 1), c.delete("k")), None),
    ("delete", lambda c: c.delete("k"), None),
    ("pop", lambda c: c.pop("k", None), None),
    ("delete_many", lambda c: c.delete_many(["k"]), None),
    ("incr", lambda c: c.incr("k"), 1),
    ("clear", lambda c: c.clear(), None),
    ("tag", lambda c: c.invalidate_tag("t"), None),
    ("tags", lambda c: c.invalidate_tag("x", "t"), None),
]


def refused_del(cache: Cache[Any, Any]) -> None:
    with pytest.raises(KeyError):
        del cache["k"]


def refused_pop(cache: Cache[Any, Any]) -> None:
    with pytest.raises(KeyError):
        cache.pop("k")


FENCES += [("del", refused_del, None), ("pop without default", refused_pop, None)]


@pytest.mark.parametrize(
    ("fence", "left"), [(f, left) for _, f, left in FENCES], ids=[n for n, _, _ in FENCES]
)
def test_a_fenced_value_is_returned_but_never_stored(fence: Any, left: Any) -> None:
    """A fenced flight's value is returned but never stored."""
    cache: Cache[str, Any] = Cache(9)
    flight = Flight(cache, tags=["t"])
    followers: Any = join_flight(cache, "k", lambda: pytest.fail("a second run"), 3)
    fence(cache)
    assert flight.land() == "loaded"
    assert followers.all() == ["loaded"] * 3  # those already waiting get its value
    assert cache.peek("k") == left
    assert cache.stats().fenced == 1
    assert cache.get_or_set("k", lambda: "fresh") == (left if left is not None else "fresh")
    cache._check()


def test_later_callers_start_a_new_flight() -> None:
    """Later callers start a new flight."""
    cache: Cache[str, Any] = Cache(9)
    old = Flight(cache, value="old")
    cache.delete("k")
    new = Flight(cache, value="new")
    followers: Any = join_flight(cache, "k", lambda: pytest.fail("a third run"), 3)
    assert old.land() == "old"
    assert "k" not in cache  # and the old one's landing does not disturb the new one
    assert new.land() == "new" and followers.all() == ["new"] * 3
    assert cache["k"] == "new"
    cache._check()


def test_the_new_flight_lands_first() -> None:
    cache: Cache[str, Any] = Cache(9)
    old = Flight(cache, value="old")
    cache.clear()
    new = Flight(cache, value="new")
    assert new.land() == "new" and cache["k"] == "new"
    assert old.land() == "old" and cache["k"] == "new"
    assert cache.stats().fenced == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.evict(5),
        lambda c: c.expire(),
        lambda c: c.resize(3),
        lambda c: c.resize(99),
        lambda c: c.touch("k"),
        lambda c: c.get("k"),
        lambda c: c.invalidate_tag("another"),
        lambda c: c.set("other", 1),
        lambda c: c.delete("other"),
        lambda c: c.popitem(),
        lambda c: c.stats(reset=True),
        lambda c: c.get_many(["k"]),
        lambda c: c.invalidate_tag(),
        lambda c: c.peek("k"),
        lambda c: "k" in c,
    ],
)
def test_what_does_not_fence(act: Any) -> None:
    """Evict, expire and resize do not."""
    cache: Cache[str, Any] = Cache(9)
    cache["present"] = 1
    flight = Flight(cache, tags=["t"])
    act(cache)
    assert flight.land() == "loaded" and cache.peek("k") == "loaded" and cache.stats().fenced == 0
    cache._check()


def test_the_factory_fences_its_own_load() -> None:
    cache: Cache[str, Any] = Cache(9)

    def factory() -> str:
        cache["k"] = "written"
        return "loaded"

    assert cache.get_or_set("k", factory) == "loaded" and cache["k"] == "written"

    def invalidating() -> str:
        cache.invalidate_tag("t")
        return "stale"

    assert cache.get_or_set("x", invalidating, tags=["t"]) == "stale" and "x" not in cache
    cache._check()


def test_a_tag_invalidated_before_the_load_does_not_count() -> None:
    """A cache-wide sequence, taken when a load starts."""
    cache: Cache[str, Any] = Cache(9)
    cache.invalidate_tag("t")
    cache.get_or_set("k", lambda: 1, tags=["t"])
    assert "k" in cache


def test_fenced_flights_tell_the_listener_nothing() -> None:
    recorder = Recorder()
    cache: Cache[str, Any] = Cache(9, listener=recorder)
    flight = Flight(cache)
    cache.delete("k")
    flight.land()
    assert recorder.take() == []


# ---------------------------------------------------------------- recursion and deadlock


def test_the_same_key_from_its_own_factory_computes_through() -> None:
    """The same key asked for again by its own loader computes through."""
    assert run_python("""
from fastcache import Cache
cache = Cache(9)
inner = []
def factory():
    inner.append(cache.get_or_set("k", lambda: "inner"))
    inner.append("k" in cache)
    return "outer"
print(cache.get_or_set("k", factory), inner, cache["k"])
cache._check()
""").split(None, 1) == ["outer", "['inner', False] outer\n"]


def test_deep_recursion_over_other_keys() -> None:
    cache: Cache[int, int] = Cache(None)

    def fib(n: int) -> int:
        return (
            n
            if n < 2
            else cache.get_or_set(n - 1, lambda: fib(n - 1))
            + cache.get_or_set(n - 2, lambda: fib(n - 2))
        )

    assert fib(60) == 1548008755920 and cache.stats().loads == 60
    cache._check()


def test_unbounded_recursion_is_a_recursion_error() -> None:
    run_python("""
import sys
sys.setrecursionlimit(300)
from fastcache import Cache
cache = Cache(None)
def load(n):
    return cache.get_or_set(n, lambda: load(n + 1))
try:
    load(0)
except RecursionError:
    pass
else:
    raise SystemExit("no RecursionError")
cache._check()
assert cache.get_or_set(0, lambda: 5) == 5
""")


CROSS = """
import threading
from fastcache import Cache
cache = Cache(9)
both = threading.Barrier(2)
def load(mine, other):
    def factory():
        both.wait(20)
        return mine + cache.get_or_set(other, lambda: other + "!")
    return factory
results = {}
def run(mine, other):
    results[mine] = cache.get_or_set(mine, load(mine, other))
threads = [threading.Thread(target=run, args=pair) for pair in (("a", "b"), ("b", "a"))]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(results))
assert all(v in ("ab", "ba", "ab!", "ba!", "aba!", "bab!", "ab" + "a!", "ba" + "b!") for v in results.values()), results
cache._check()
assert cache.get_or_set("c", lambda: 1) == 1
"""


def test_a_waits_for_b_waits_for_a() -> None:
    """A loads B while B loads A in two threads: never a hang."""
    assert run_python(CROSS) == "['a', 'b']\n"


def test_a_ring_of_threads() -> None:
    run_python("""
import threading
from fastcache import Cache
N = 8
cache = Cache(None)
start = threading.Barrier(N)
def load(n):
    def factory():
        start.wait(20)
        return cache.get_or_set((n + 1) % N, lambda: -1)
    return factory
results = []
threads = [threading.Thread(target=lambda n=n: results.append(cache.get_or_set(n, load(n)))) for n in range(N)]
for t in threads: t.start()
for t in threads: t.join()
assert len(results) == N and set(results) == {-1}, results
cache._check()
""")


def test_a_ring_over_two_caches() -> None:
    run_python("""
import threading
from fastcache import Cache
one, two = Cache(9), Cache(9)
both = threading.Barrier(2)
def first():
    both.wait(20)
    return two.get_or_set("k", lambda: "through two")
def second():
    both.wait(20)
    return one.get_or_set("k", lambda: "through one")
results = []
threads = [threading.Thread(target=lambda: results.append(one.get_or_set("k", first))),
           threading.Thread(target=lambda: results.append(two.get_or_set("k", second)))]
for t in threads: t.start()
for t in threads: t.join()
assert len(results) == 2, results
one._check(); two._check()
""")


def test_a_factory_that_ends_its_thread() -> None:
    run_python("""
import threading, _thread
from fastcache import Cache
cache = Cache(9)
def leave():
    raise SystemExit
t = threading.Thread(target=lambda: cache.get_or_set("k", leave))
t.start(); t.join()
assert cache.get_or_set("k", lambda: 5) == 5
""")


# ---------------------------------------------------------------- Ctrl-C, fork


@pytest.mark.skipif(not hasattr(__import__("signal"), "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_in_the_factory() -> None:
    run_python("""
import signal
from fastcache import Cache
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignored"
cache = Cache(9)
def factory():
    signal.raise_signal(signal.SIGINT)
    for _ in range(10**9):
        pass
try:
    cache.get_or_set("k", factory)
except KeyboardInterrupt:
    pass
else:
    raise SystemExit("not interrupted")
cache._check()
assert cache.get_or_set("k", lambda: 5) == 5
""")


@pytest.mark.skipif(not hasattr(__import__("signal"), "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    "send", ["signal.pthread_kill(main, signal.SIGINT)", "_thread.interrupt_main()"]
)
def test_ctrl_c_while_waiting(send: str) -> None:
    """Is interrupted (Ctrl-C, also while waiting). The second kind wakes nobody who waits, as does a
    signal that comes just before the wait."""
    run_python(f"""
import _thread, signal, threading, time
from fastcache import Cache
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignored"
cache = Cache(9)
started, go = threading.Event(), threading.Event()
def factory():
    started.set()
    assert go.wait(50)
    return "loaded"
leader = threading.Thread(target=lambda: cache.get_or_set("k", factory))
leader.start()
started.wait()
main = threading.main_thread().ident
def interrupt():
    while cache.stats().misses < 2:
        time.sleep(0)
    {send}
killer = threading.Thread(target=interrupt)
killer.start()
try:
    cache.get_or_set("k", lambda: 1)
except KeyboardInterrupt:
    pass
else:
    raise SystemExit("not interrupted")
assert leader.is_alive()
go.set()
leader.join(); killer.join()
assert cache["k"] == "loaded"
cache._check()
assert cache.get_or_set("x", lambda: 5) == 5
""")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_child_starts_with_no_flights() -> None:
    """A forked child starts with no flights."""
    run_python("""
import os, threading, warnings
warnings.simplefilter("ignore")
from fastcache import Cache
cache = Cache(9)
cache["kept"] = 1
started, go = threading.Event(), threading.Event()
def factory():
    started.set()
    assert go.wait(50)
    return "parent"
leader = threading.Thread(target=lambda: cache.get_or_set("k", factory))
leader.start()
started.wait()
pid = os.fork()
if pid == 0:
    import signal
    signal.alarm(20)  # of the parent's threads only this one is left, so no watchdog either
    ok = cache.get_or_set("k", lambda: "child") == "child" and cache["k"] == "child" and cache["kept"] == 1
    cache._check()
    os._exit(0 if ok else 3)
_, status = os.waitpid(pid, 0)
go.set()
leader.join()
assert os.waitstatus_to_exitcode(status) == 0, status
assert cache["k"] == "parent"
cache._check()
""")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_fork_inside_a_factory() -> None:
    run_python("""
import os, warnings
warnings.simplefilter("ignore")
from fastcache import Cache
cache = Cache(9)
def factory():
    pid = os.fork()
    if pid == 0:
        import signal
        signal.alarm(20)
        ok = cache.get_or_set("k", lambda: "child") == "child" and cache.get_or_set("j", lambda: 1) == 1
        os._exit(0 if ok else 3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert cache.get_or_set("k", factory) == 0
cache._check()
""")


def test_the_cache_goes_while_a_load_runs() -> None:
    run_python("""
import gc
from fastcache import Cache
def run():
    cache = Cache(9)
    def factory():
        nonlocal cache
        del cache
        gc.collect()
        return 5
    bound = cache.get_or_set
    return bound("k", factory)
assert run() == 5
""")


def test_threads_that_load_and_fence_at_random() -> None:
    """No flight is left behind, and nothing older than the last write is stored."""
    import random

    cache: Cache[int, int] = Cache(50)
    source = [0] * 20

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(800):
            key = rng.randrange(20)
            if rng.random() < 0.2:
                source[key] += 1
                cache.delete(key)
            else:
                cache.get_or_set(key, lambda key=key: source[key])  # type: ignore[misc]

    assert run_threads([lambda seed=seed: work(seed) for seed in range(4)]) == [None] * 4  # type: ignore[misc]
    assert {key: cache.peek(key) for key in cache} == {key: source[key] for key in cache}
    cache._check()


@pytest.mark.parametrize("error", [TypeError, ZeroDivisionError])
def test_a_key_whose_equality_raises(error: type[Exception]) -> None:
    class Key:
        fail = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if Key.fail:
                raise error
            return self is other

    cache: Cache[Any, int] = Cache(9)
    key = Key()
    cache[Key()] = 1
    Key.fail = True
    with pytest.raises(error):
        cache.get_or_set(key, lambda: 5)
    Key.fail = False
    assert cache.get_or_set(key, lambda: 5) == 5
    cache._check()


def test_a_failing_weigher_holds_no_tags() -> None:
    def weigher(key: object, value: object) -> int:
        raise ZeroDivisionError

    cache: Cache[int, int] = Cache(100, weigher=weigher)
    before = cache.nbytes
    for i in range(300):
        with pytest.raises(ZeroDivisionError):
            cache.get_or_set(i, lambda: 1, tags=[f"t{i}"])
    assert cache.nbytes - before < 2000


class Loop:
    """What a flight asks of an event loop."""

    def __init__(self) -> None:
        self.running = True

    def is_running(self) -> bool:
        return self.running


def test_a_load_given_up_for_dead_brings_nothing_later() -> None:
    """An event loop that was stopped may run again; what it then brings no fence has met."""
    cache: Cache[str, int] = Cache(9)
    loop = Loop()
    flight, leads = _core.board(cache, "a", loop=loop)
    assert leads
    loop.running = False
    assert flight.abandon_if_dead()
    cache["a"] = 2
    cache.delete("a")
    other, leads = _core.board(cache, "b", loop=Loop())
    assert leads
    flight.land(1)
    assert "a" not in cache
    # nor does it end anybody else's load
    cache.delete("b")
    other.land(1)
    assert "b" not in cache
    cache._check()


@pytest.mark.parametrize(
    "change", [lambda c: c.delete("a"), lambda c: c.clear(), lambda c: c.invalidate_tag("late")]
)
def test_a_load_that_an_earlier_tag_did_not_fence_is_fenced_still(change: Any) -> None:
    """The tags come with the value, so it is not known yet whether the first one is among them."""
    cache: Cache[str, int] = Cache(9)
    flight, leads = _core.board(cache, "a", loop=Loop(), late=True)
    assert leads
    cache.invalidate_tag("another")
    change(cache)
    flight.land(1, tags=["late"])
    assert "a" not in cache
    flight, leads = _core.board(cache, "a", loop=Loop(), late=True)
    cache.invalidate_tag("another")
    flight.land(1, tags=["late"])
    assert cache["a"] == 1
    cache._check()


def test_a_change_between_load_and_store_fences() -> None:
    """As when another thread invalidates while the weigher or the clock runs."""
    changes: list[Any] = []

    def weigher(key: str, value: int) -> int:
        if changes:
            changes.pop()()
        return 1

    cache: Cache[str, int] = Cache(9, weigher=weigher)
    for change in (
        lambda: cache.delete("a"),
        lambda: cache.pop("a", None),
        lambda: cache.set("a", 2),
        lambda: cache.clear(),
    ):
        assert cache.get_or_set("a", lambda change=change: changes.append(change) or 1) == 1  # type: ignore[misc]
        assert cache.peek("a", 2) == 2
        cache.clear()
    assert cache.stats().fenced == 4 and not changes
    cache._check()


@pytest.mark.parametrize("where", ["weigher", "destructor"])
def test_user_code_after_the_load_may_ask_for_its_key(where: str) -> None:
    """Nobody waits for a leader on its own thread."""
    run_python(f"""
from fastcache import Cache
now = [0.0]
asked = []
def weigher(key, value):
    if key == "new" and {where!r} == "weigher" and not asked:
        asked.append(1)
        cache.get_or_set("new", lambda: 2)
    return 1
cache = Cache(10, clock=lambda: now[0], weigher=weigher)
class Late:
    def __del__(self):
        asked.append(1)
        cache.get_or_set("new", lambda: 3)
cache.set("x", Late() if {where!r} == "destructor" else 0, ttl=1)
def load():
    now[0] = 5.0
    return 1
assert cache.get_or_set("new", load, ttl=60) == 1
cache.get("x")
assert asked
cache._check()
""")
