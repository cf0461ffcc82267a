"""Beginnings and ends: context managers, close, fork, collection, event loops, threads, the interpreter's exit."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from stress.support import run_child, scaled
from tiered.support import Face, Loop, Source, Thread, Tiers, until

from fastcache import AsyncTieredCache, Cache, TieredCache, cached
from fastcache.stores import RedisStore, SQLiteStore


def listeners() -> int:
    return sum(each.name == "fastcache-coherence" for each in threading.enumerate())


def test_context_managers(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "l2.db")
    with TieredCache(Cache(10), store, namespace="n") as t:
        assert isinstance(t, TieredCache)
        t.set("a", 1)
    with pytest.raises(ZeroDivisionError):
        with TieredCache(Cache(10), store, namespace="n") as t:
            raise ZeroDivisionError

    async def main() -> None:
        async with AsyncTieredCache(Cache(10), store, namespace="n") as t:
            assert isinstance(t, AsyncTieredCache)
            assert await t.get("a") == 1
        await store.aclose()

    asyncio.run(main())
    store.close()


def test_close_ends_the_thread_and_not_the_store(networked: Tiers) -> None:
    before = listeners()
    store = networked.store()
    t, other = networked(store=store), networked(store=store)
    t.set("a", 1)
    assert other.get("a") == 1
    assert listeners() == before + 2
    t.close()
    t.close()
    until(lambda: listeners() == before + 1)
    assert other.get("a") == 1
    other.set("a", 2)
    assert networked().get("a") == 2


def test_a_closed_cache_serves_nothing_that_it_would_not_hear_of(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source, ttl=60, max_staleness=0.1), tiers(source, ttl=60)
    assert t.get("a") == 1
    t.close()
    source.data["a"] = 2
    other.invalidate("a")
    call = Thread(lambda: until(lambda: t.get("a") == 2, 10))
    call.result()


def test_close_of_what_was_never_used(tiers: Tiers) -> None:
    t = tiers()
    t.close()
    assert t.stats().state == "healthy"


def test_a_closed_cache_waits_for_nobody(tiers: Tiers) -> None:
    """It was closed before it had heard of the others."""
    t = tiers(Source(a=1))
    t.close()
    began = time.monotonic()
    assert t.get("a") == 1
    assert t.get_many(["a", "b"]) == {"a": 1}
    t.set("c", 1)
    assert (
        time.monotonic() - began < 5
    )  # of the store's time-out, twice of which is waited for the first word


def test_what_is_closed_at_once_has_nothing_to_make_up_for(
    tiers: Tiers, caplog: pytest.LogCaptureFixture
) -> None:
    """It may not have heard of the others yet, but L2 has not missed anything."""
    for _ in range(5):
        t = tiers()
        t.bump_version()
        t.invalidate("a")
        t.close()
    assert "missed" not in caplog.text and "sent again" not in caplog.text


def test_flush_without_a_writer(tiers: Tiers) -> None:
    assert tiers().flush() is True
    assert tiers().flush(timeout=0.0) is True
    t = tiers()
    for wrong in ("1", float("nan"), True, []):
        for wait in (t.flush, t.close):
            with pytest.raises(TypeError, match=f"timeout.*{re.escape(repr(wrong))}"):
                wait(wrong)
    t.set("a", 1)
    assert tiers().get("a") == 1  # it was not closed


def test_no_thread_where_none_is_needed(face: Face, filed: Tiers, alone: Tiers) -> None:
    before = listeners()
    t, u = filed(), alone()
    t.set("a", 1)
    u.set("a", 1)
    assert (t.get("a"), u.get("a")) == (1, 1)
    assert listeners() == before


def test_a_forgotten_cache_ends_its_thread_and_connections(
    networked: Tiers, redis_server: Any
) -> None:
    with redis_server.client() as client:

        def channels() -> int:
            return len(
                [c for c in client.client_list() if c["sub"] != "0" or c.get("ssub", "0") != "0"]
            )

        before, subscribed = listeners(), channels()
        t = networked(Source(a=1))
        assert t.get("a") == 1
        assert listeners() == before + 1
        assert channels() == subscribed + 1
        gone = weakref.ref(t.cache)
        core = weakref.ref(t.cache._core)
        networked.forget(t)
        del t
        until(lambda: gc.collect() >= 0 and gone() is None and core() is None)
        until(lambda: listeners() == before)
        until(lambda: channels() == subscribed)


def test_many_short_lived_ones(filed: Tiers) -> None:
    store = filed.store()
    for number in range(200):
        t = filed(store=store)
        t.set("a", number)
        assert t.get("a") == number
        filed.forget(t)
        t.close()
    del t
    gc.collect()


def test_two_event_loops(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    stores: list[Any] = [SQLiteStore(tmp_path / "l2.db")]
    stores.append(RedisStore(request.getfixturevalue("redis_server").url))
    for store in stores:
        loads: list[str] = []

        async def load(key: str, loads: list[str] = loads) -> str:
            loads.append(key)
            await asyncio.sleep(0.01)
            return key.upper()

        t: Any = AsyncTieredCache(Cache(100), store, namespace=f"loops{tmp_path.name}", loader=load)
        one, two = Loop(), Loop()

        async def work(t: Any = t) -> list[Any]:
            first = await asyncio.gather(*(t.get(f"k{i % 10}") for i in range(100)))
            await t.set("shared", 1)
            async with t.updating("k0"):
                pass
            return list(first)

        calls = [Thread(loop.run, work()) for loop in (one, two)]
        for call in calls:
            assert call.result() == [f"K{i % 10}" for i in range(100)]
        assert sorted(set(loads)) == [f"k{i}" for i in range(10)]
        # one loop ends, the other goes on
        one.close()
        assert two.run(t.get("shared")) == 1
        assert two.run(t.get("k5")) == "K5"
        two.run(t.close())
        two.run(store.aclose())
        two.close()


def test_one_after_another_event_loop(request: pytest.FixtureRequest) -> None:
    """As asyncio.run in a script, several times."""
    store = RedisStore(request.getfixturevalue("redis_server").url)
    t: Any = AsyncTieredCache(Cache(10), store, namespace="again")
    for number in range(3):

        async def work(number: int = number) -> Any:
            await t.set("a", number)
            value = await t.get("a")
            if number == 2:
                await t.close()
            await store.aclose() if number == 2 else None
            return value

        assert asyncio.run(work()) == number


def test_threads_hammer_one_cache(tiers: Tiers) -> None:
    source = Source()
    source.data = dict.fromkeys(range(20), 0)
    t, other = tiers(source, ttl=60), tiers(source, ttl=60)
    rounds = scaled(60, 2000)
    lock = threading.Lock()

    def write(seed: int) -> None:
        for number in range(rounds):
            key = (seed * 7 + number) % 20
            with lock:
                source.data[key] += 1
                least = source.data[key]
            tier = t if number % 2 else other
            tier.invalidate(key)
            assert tier.get(key) >= least

    def read(seed: int) -> None:
        last: dict[tuple[int, int], int] = {}
        for number in range(rounds):
            for which, tier in enumerate((t, other)):
                got = tier.get_many(range(20)) if number % 3 else {seed: tier.get(seed)}
                for key, value in got.items():
                    assert value <= source.data[key]
                    last[which, key] = value

    calls = [Thread(write, n) for n in range(2)] + [Thread(read, n) for n in range(2)]
    for call in calls:
        call.result()
    for key, value in source.data.items():
        for tier in (t, other):
            until(lambda tier=tier, key=key, value=value: tier.get(key) == value)


EXIT = """
import asyncio, logging
logging.basicConfig(level=logging.INFO)
from fastcache import AsyncTieredCache, Cache, TieredCache, cached
from fastcache.stores import RedisStore, SQLiteStore
where, how = sys.argv[1:]
store = RedisStore(where) if where.startswith("redis") else SQLiteStore(where)
if how == "sync":
    t = TieredCache(Cache(10), store, namespace="exit", loader=lambda key: key, ttl=60)
    print(t.get("a"))
    threads = [threading.Thread(target=lambda: [t.get(i) for i in range(10**9)], daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
else:
    async def load(key):
        return key
    async def main():
        global t
        t = AsyncTieredCache(Cache(10), store, namespace="exit", loader=load, ttl=60)
        print(await t.get("a"))
        if how == "close":
            await t.close()
            await store.aclose()
    asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["sqlite", "redis"])
@pytest.mark.parametrize("how", ["sync", "async", "close"])
def test_the_interpreter_ends_without_noise(
    where: str, how: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "l2.db")
    if where == "redis":
        place = request.getfixturevalue("redis_server").url
    code = f"import contextlib, io\n{EXIT}"
    assert run_child(quiet(code), place, how) == "a\n"


def quiet(code: str) -> str:
    """Standard error goes to standard output, so that what is said there is seen."""
    return "import os\nos.dup2(1, 2)\n" + code


FORK = """
import os, signal
from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore
where, rounds, namespace = sys.argv[1], int(sys.argv[2]), sys.argv[3]
store = RedisStore(where, timeout=5) if where.startswith("redis") else SQLiteStore(where, timeout=5)
t = TieredCache(Cache(50), store, namespace=namespace, loader=lambda key: key, ttl=60)
stop = threading.Event()

def work(seed):
    n = seed
    while not stop.is_set():
        n += 1
        t.get(n % 200)
        if n % 10 == 0:
            t.invalidate(n % 200)
        if n % 17 == 0:
            t.get_many(range(n % 200, n % 200 + 5))

threads = [threading.Thread(target=work, args=(i * 50,), daemon=True) for i in range(4)]
for thread in threads:
    thread.start()
for number in range(rounds):
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(20)  # ends it; the watchdog of faulthandler is the parent's
            assert t.get(number) == number
            assert t.get(f"child {number}") == f"child {number}"
            t.set("from", number)
            assert t.get("from") == number
            t.invalidate(number)
            t.stats()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0, (number, status)
    assert t.get("parent") == "parent"
stop.set()
for thread in threads:
    thread.join()
t.close()
print("ok")
"""


@pytest.mark.parametrize("where", ["sqlite", "redis"])
def test_fork_while_threads_use_it(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "l2.db")
    if where == "redis":
        place = request.getfixturevalue("redis_server").url
    code = "import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n" + FORK
    said = run_child(code, place, scaled(15, 1000), f"fork-{tmp_path.name}", limit=scaled(90, 3600))
    assert said == "ok\n"


def test_a_forked_child_hears_and_is_heard(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    code = """
import os, time
from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore
t = TieredCache(Cache(50), RedisStore(sys.argv[1], timeout=5), namespace=sys.argv[2], ttl=60)
def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
t.set("a", 1)
t.set("b", 1)
child = os.fork()
if not child:
    try:
        assert t.get("a") == 1
        t.set("a", 2)
        until(lambda: t.get("b") == 3)
        os._exit(0)
    finally:
        os._exit(1)
until(lambda: t.get("a") == 2)
t.set("b", 3)
assert os.waitpid(child, 0)[1] == 0
t.close()
print("ok")
"""
    url = request.getfixturevalue("redis_server").url
    assert run_child(code, url, f"fork-{tmp_path.name}") == "ok\n"


def test_the_loop_does_not_wait_for_a_file_that_is_locked(tmp_path: Path) -> None:
    """Neither where L1 has the value, but what others have changed is to be seen first."""

    async def scene() -> int:
        async def load(key: str) -> str:
            return key

        store = SQLiteStore(tmp_path / "l2.db", timeout=1.0)
        t: AsyncTieredCache[str, str] = AsyncTieredCache(
            Cache(10), store, namespace="locked", loader=load, ttl=60
        )
        assert await t.get("a") == await t.get_or_set("b", lambda: load("a")) == "a"
        by_function = cached(cache=t, namespace="f")(load)
        assert await by_function("c") == "c"
        lock = sqlite3.connect(tmp_path / "l2.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        told = asyncio.create_task(t.invalidate("x"))
        await asyncio.sleep(0)
        while store._lock.acquire(False):  # until its thread has it, and waits for the file
            store._lock.release()
            await asyncio.sleep(0)
        t._trust.end()  # as it does after a second
        reads = [
            asyncio.create_task(read)
            for read in (
                t.get("a"), t.get_or_set("b", lambda: load("b")), t.get_many(["a", "b"]), by_function("c"),
            )
        ]  # fmt: skip
        turns = 0
        while not told.done():
            await asyncio.sleep(0)
            turns += 1
        assert await told is False
        lock.execute("ROLLBACK")
        lock.close()
        assert await asyncio.gather(*reads) == ["a", "a", {"a": "a", "b": "a"}, "c"]
        await t.close()
        await store.aclose()
        return turns

    assert asyncio.run(scene()) > 1000


def test_what_waited_for_a_locked_file_is_sent_by_whoever_reads(
    filed: Tiers, tmp_path: Path
) -> None:
    """There is no thread, and it takes no miss: a hit of L1 will do."""
    source = Source(a=1, hot=1)
    store = SQLiteStore(tmp_path / "l2.db", timeout=0.1)
    t, other = filed(source, store=store, ttl=60), filed(source, ttl=60)
    for key in ("a", "hot"):
        assert (t.get(key), other.get(key)) == (1, 1)
    lock = sqlite3.connect(tmp_path / "l2.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    source.data["a"] = 2
    until(lambda: t.invalidate("a") is False and t.cache._core.gate.open)
    lock.execute("ROLLBACK")
    lock.close()
    until(lambda: t.get("hot") == 1 and t.stats().state == "healthy")
    assert other.get("a") == 2
    assert source.taken().count("hot") == 1
    t.close()
    filed.forget(t)
    store.close()
