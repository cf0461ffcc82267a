"""Scenarios 21, 22 and 24: nobody is served what was invalidated, whatever races, and whatever L2 forgets."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers.memcached import MemcachedServer
from servers.redis import RedisServer
from stress.support import scaled
from stress.tiers import (
    PATIENCE,
    Threads,
    a_namespace,
    children,
    numbers,
    open_store,
    percentiles,
    tier,
    until,
)

from fastcache import AsyncTieredCache, Cache
from fastcache.testing import FaultProxy
from fastcache.tiered.coherence import BEAT
from fastcache.tiered.options import TRUST

RACER = """
spec, namespace, path, me, processes, threads, keys, kind = sys.argv[1:]
me, processes, threads, keys = map(int, (me, processes, threads, keys))
racers = processes * threads
words = numbers(path)
truth = words[racers:]

def load(key):
    value = truth[key]
    time.sleep(random.random() * 1e-3)  # what a load takes
    return value

def change(cache, key):
    truth[key] += 1
    assert cache.invalidate(key)
    older.append(cache.get(key) < 1)  # than an invalidation that had returned

def race(cache, racer):
    choose = random.Random(os.urandom(8))
    together(words, racer, racers)
    for start in range(0, keys, 20):
        steps = []
        for key in range(start, min(start + 20, keys)):
            steps.append((cache.get, key))
            if key % racers == racer:
                steps.append((change, cache, key))
        choose.shuffle(steps)
        for function, *arguments in steps:
            function(*arguments)
        together(words, racer, racers)

def stale(cache):
    return [key for key in range(keys) if cache.get(key, truth[key]) != truth[key]]

with tier(spec, namespace, loader=load, ttl=3600) as cache:
    if kind == "unfenced":
        UnfencedFill.put_over(cache)
    if kind == "deaf":
        Deaf.put_over(cache)
    older = []
    def run(racer):
        try:
            race(cache, racer)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), None]))
            os._exit(3)
    running = [threading.Thread(target=run, args=(me * threads + n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    # what is under way arrives; what is stale then stays so for an hour
    end = time.monotonic() + (6.0 if kind == "fenced" else 1.0)
    while (wrong := stale(cache)) and time.monotonic() < end:
        time.sleep(0.05)
    print(len(wrong), sum(older), cache.stats().l2.refused, flush=True)
    input()
"""


class Stale(NamedTuple):
    """Keys stale at quiescence, in the L1s of all processes and in L2; reads that got something older than what the
    same thread had invalidated; and fills that were refused."""

    in_l1: int
    in_l2: int
    after_own: int
    refused: int


def race(
    l2: str, folder: Path, keys: int, kind: str = "fenced", processes: int = 2, threads: int = 2
) -> Stale:
    """Every thread of every process reads each key while one of them changes it."""
    path = folder / "source"
    racers = processes * threads
    truth = numbers(path, racers + keys)[racers:]
    namespace = a_namespace()
    rows = [(l2, namespace, path, me, processes, threads, keys, kind) for me in range(processes)]
    with children(RACER, rows) as racing:
        counts = [[int(n) for n in child.line().split()] for child in racing]
        assert all(truth[key] == 1 for key in range(keys))
        with tier(l2, namespace) as cache:  # without a loader: what L2 has
            there = {key: cache.get(key) for key in range(keys)}
        for child in racing:
            child.say()
            child.end()
    in_l2 = sum(value is not None and value != truth[key] for key, value in there.items())
    assert sum(value is not None for value in there.values()) > keys // 4, "nothing was filled"
    in_l1, after_own, refused = (sum(each) for each in zip(*counts, strict=True))
    return Stale(in_l1, in_l2, after_own, refused)


@pytest.mark.slow
def test_no_key_is_stale_at_quiescence(l2: str, tmp_path: Path) -> None:
    quick = 10_000 if l2.startswith("redis:") else 2_500
    stale = race(l2, tmp_path, scaled(quick, 1_000_000))
    assert stale[:3] == (0, 0, 0)
    assert stale.refused > 0, "no fill ever raced with an invalidation"


def test_without_the_fence_l2_is_stale(l2: str, tmp_path: Path) -> None:
    assert race(l2, tmp_path, 600, "unfenced").in_l2 > 0


def test_without_messages_l1_is_stale(l2: str, tmp_path: Path) -> None:
    assert race(l2, tmp_path, 100, "deaf").in_l1 > 0


# ---- 22: after `invalidate` has returned -----------------------------------------------------------


class Watched:
    """A source, and what every read of a key must at least return: the version whose invalidation has returned."""

    def __init__(self, keys: int) -> None:
        self.truth = [0] * keys
        self.least = [0] * keys

    def load(self, key: int) -> int:
        value = self.truth[key]
        time.sleep(0)  # somebody else's turn
        return value

    async def aload(self, key: int) -> int:
        value = self.truth[key]
        await asyncio.sleep(0)
        return value


def test_nothing_older_in_this_process(l2: str) -> None:
    keys, writes = 7, scaled(400, 40_000)
    watched = Watched(keys)
    reads = []

    def read() -> None:
        key = random.randrange(keys)
        least = watched.least[key]
        value = cache.get(key)
        assert value >= least, f"{value} came after {least} was invalidated"
        reads.append(value)

    def read_many() -> None:
        least = list(watched.least)
        values = cache.get_many(range(keys))
        assert all(values[key] >= least[key] for key in range(keys))

    with tier(l2, a_namespace(), loader=watched.load, ttl=3600) as cache:
        with Threads(read, read, read_many) as threads:
            for number in range(writes):
                key = number % keys
                watched.truth[key] += 1
                assert cache.invalidate(key)
                watched.least[key] = watched.truth[key]
                if threads.errors:
                    break
        assert len(reads) > writes // 10
        assert cache.stats().l1.hits > 0


def test_nothing_older_in_this_process_on_a_loop(l2: str) -> None:
    keys, writes = 7, scaled(300, 30_000)
    watched = Watched(keys)
    reads = 0

    async def run() -> None:
        nonlocal reads
        over = False

        async def read() -> None:
            nonlocal reads
            while not over:
                key = random.randrange(keys)
                least = watched.least[key]
                value = await cache.get(key)
                assert value >= least, f"{value} came after {least} was invalidated"
                reads += 1
                await asyncio.sleep(0)

        store = open_store(l2)
        cache = AsyncTieredCache(
            Cache(100), store, namespace=a_namespace(), loader=watched.aload, ttl=3600
        )
        readers = [asyncio.create_task(read()) for _ in range(8)]
        number, end = 0, time.monotonic() + PATIENCE * 10
        while number < writes or reads < writes:
            assert time.monotonic() < end, "the readers do not get to read"
            key = number % keys
            watched.truth[key] += 1
            assert await cache.invalidate(key)
            watched.least[key] = watched.truth[key]
            number += 1
        over = True
        await asyncio.gather(*readers)
        await cache.close()
        await store.aclose()
        if getattr(store, "_backplane", None) is not None:
            store._backplane.close()

    asyncio.run(run())


READER = """
spec, namespace, path, keys = sys.argv[1:]
keys = int(keys)
words = numbers(path)
truth, seen, begun = words[:keys], words[keys : 2 * keys], words[2 * keys :]
with tier(spec, namespace, loader=lambda key: truth[key], ttl=3600) as cache:
    for key in range(keys):
        cache.get(key)
    print("ready", flush=True)
    for key in range(keys):
        while not cache.get(key):
            begun[key] += 1
            time.sleep(5e-5)  # it has other things to do: nobody waits for its GIL
        seen[key] = time.monotonic_ns()
    print(cache.stats().received, flush=True)
"""


def test_staleness_in_another_process_is_measured(
    l2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time from the return of `invalidate` to the first fresh read elsewhere; its bound is what trust lasts."""
    slow = "memcached" in l2 and "|" not in l2  # others learn once a second
    keys = 4 if slow else scaled(500, 20_000)
    words = numbers(tmp_path / "words", 3 * keys)
    truth, seen, begun = words[:keys], words[keys : 2 * keys], words[2 * keys :]
    namespace = a_namespace()
    late = []
    with children(READER, [(l2, namespace, tmp_path / "words", keys)]) as (reader,):
        assert reader.line() == "ready"
        with tier(l2, namespace, loader=lambda key: truth[key], ttl=3600) as cache:
            for key in range(keys):
                # the reader hits the old value in its L1 now
                until(lambda key=key: begun[key] > 0, "the reader reads")
                assert not seen[key]
                truth[key] = 1
                assert cache.invalidate(key)
                told = time.monotonic_ns()
                until(lambda key=key: seen[key], "the reader sees the change")
                late.append(max(seen[key] - told, 0) / 1e9)
            assert int(reader.line()) >= (0 if slow else 1)
            reader.end()
    assert max(late) < TRUST + BEAT + 1
    with capsys.disabled():
        print(f"\nstaleness in another process, {l2.split(':')[0]}: {percentiles(late)}")


# ---- 24: what L2 forgets ---------------------------------------------------------------------------


class Rows:
    """A source whose reads may be held back."""

    def __init__(self, **rows: Any) -> None:
        self.rows = rows
        self.reads = 0
        self.gate = threading.Event()
        self.gate.set()
        self.reading = threading.Event()

    def __call__(self, key: Any) -> Any:
        value = self.rows[key]
        self.reads += 1
        self.reading.set()
        assert self.gate.wait(PATIENCE)
        return value


@contextmanager
def loading(cache: Any, rows: Rows, key: Any) -> Iterator[list[Any]]:
    """The source has been read for key, and its answer comes when the block ends; what the caller then got."""
    rows.gate.clear()
    rows.reading.clear()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(cache.get(key)), daemon=True)
    thread.start()
    try:
        assert rows.reading.wait(PATIENCE)
        yield got
    finally:
        rows.gate.set()
        thread.join(PATIENCE)
    assert len(got) == 1


def in_l2(spec: str, namespace: str, key: Any) -> Any:
    """What lies in L2, None for nothing."""
    with tier(spec, namespace) as cache:
        return cache.get(key)


Own = RedisServer | MemcachedServer


@pytest.fixture(params=["redis", "memcached"])
def server(request: pytest.FixtureRequest) -> Own:
    """A server of this test alone."""
    return request.getfixturevalue(f"own_{request.param}")


def spec_of(server: Own) -> str:
    return server.url if isinstance(server, RedisServer) else f"memcached:{server.address}"


def flush(server: Own) -> None:
    if isinstance(server, MemcachedServer):
        server.flush()
        return
    with server.client() as client:
        client.flushall()


def restart_empty(server: Own) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("forget", [flush, restart_empty])
def test_forgotten_in_mid_fill(server: Own, forget: Callable[[Own], None]) -> None:
    """A value that was read from the source before an invalidation does not get into an L2 that forgot both."""
    spec, namespace, rows = spec_of(server), a_namespace(), Rows(a=1)
    with (
        tier(spec, namespace, loader=rows, ttl=3600, lease=60) as cache,
        tier(spec, namespace, loader=rows, ttl=3600, lease=60) as other,
    ):
        with loading(cache, rows, "a") as got:
            rows.rows["a"] = 2
            assert other.invalidate("a")
            forget(server)
        assert got == [1]
        assert until(lambda: in_l2(spec, namespace, "a") in (None, 2), "no old value in L2")
        until(lambda: other.get("a") == 2, "the other reads the new value")
        until(lambda: cache.get("a") == 2, "so does who had the old one")
        stats = cache.stats()
        assert stats.l2.refused + sum(stats.l2.errors.values()) > 0


@pytest.mark.parametrize("forget", [flush, restart_empty])
def test_invalidations_that_l2_forgot(server: Own, forget: Callable[[Own], None]) -> None:
    """Who was not told before L2 forgot that there was anything to tell learns it from the counters."""
    spec, namespace, rows = spec_of(server), a_namespace(), Rows(a=1, b=1)
    where = spec.removeprefix("memcached:").removeprefix("redis://").partition(":")
    with FaultProxy(where[0], int(where[2])) as proxy:
        through = spec.replace(where[2], str(proxy.port))
        with (
            tier(spec, namespace, loader=rows, ttl=3600) as cache,
            tier(through, namespace, loader=rows, ttl=3600) as deaf,
        ):
            assert deaf.get("a") == deaf.get("b") == 1
            assert cache.get("a") == 1
            proxy.black_hole()
            rows.rows["a"] = 2
            assert cache.invalidate("a")
            forget(server)
            until(lambda: cache.get("a") == 2, "the new value")
            proxy.heal()
            proxy.reset()
            until(lambda: deaf.get("a") == 2, "it learns that it missed something")
            until(lambda: deaf.stats().state == "healthy", "it hears again")
            assert deaf.get("a") == 2
            assert deaf.stats().lost > 0


def test_a_server_that_is_away(server: Own) -> None:
    """What is invalidated meanwhile is sent once it is back, and nobody gets anything older before."""
    spec, namespace, rows = spec_of(server), a_namespace(), Rows(a=1, b=1)
    with (
        tier(spec, namespace, loader=rows, ttl=3600, l2_timeout=0.5) as cache,
        tier(spec, namespace, loader=rows, ttl=3600, l2_timeout=0.5, max_staleness=0.5) as other,
    ):
        assert cache.get("a") == other.get("a") == 1
        server.kill()
        rows.rows["a"] = 2
        assert cache.invalidate("a") is False
        assert cache.stats().pending == 1
        assert cache.get("a") == 2
        until(lambda: other.get("a") == 2, "trust ends, and with it what was held")
        rows.rows["a"] = 3
        assert cache.invalidate("a") is False
        assert cache.get("a") == 3
        server.start()
        until(lambda: cache.stats().pending == 0, "what is pending is sent")
        until(lambda: other.get("a") == 3, "the other learns it")
        assert cache.get("a") == 3
        assert in_l2(spec, namespace, "a") in (None, 3)
        until(lambda: cache.stats().state == other.stats().state == "healthy", "all is well")


def test_a_server_restored_from_an_old_snapshot(own_redis: RedisServer) -> None:
    """The process that invalidated lives, and says again what the snapshot does not know."""
    spec, namespace, rows = own_redis.url, a_namespace(), Rows(a=1, b=1, c=1)
    with (
        tier(spec, namespace, loader=rows, ttl=3600) as cache,
        tier(spec, namespace, loader=rows, ttl=3600) as other,
    ):
        for key in "abc":
            assert cache.get(key) == other.get(key) == 1
        with own_redis.client() as client:
            client.save()
        rows.rows.update(a=2, b=2)
        assert cache.invalidate_many(["a", "b"])
        until(lambda: other.get("a") == other.get("b") == 2, "the other is told")
        own_redis.kill()
        own_redis.start()
        with own_redis.client() as client:
            assert client.dbsize() > 3, "the snapshot was not read"
        until(lambda: cache.stats().state == other.stats().state == "healthy", "both are back")
        until(lambda: cache.stats().lost and other.stats().lost, "both saw that it went back")
        for key, value in {"a": 2, "b": 2, "c": 1}.items():
            until(lambda key=key, value=value: in_l2(spec, namespace, key) in (None, value), key)
            assert cache.get(key) == value
            until(lambda key=key, value=value: other.get(key) == value, key)


def test_lease_evicted_in_mid_fill(own_redis: RedisServer) -> None:
    spec, namespace, rows = own_redis.url, a_namespace(), Rows(a=1)
    with tier(spec, namespace, loader=rows, ttl=3600, lease=60, degraded_ttl=0.1) as cache:
        with loading(cache, rows, "a") as got, own_redis.client() as client:
            (lease,) = client.scan_iter("fc:*:lease")
            assert client.delete(lease) == 1
        assert got == [1]
        assert cache.stats().l2.refused == 1
        assert in_l2(spec, namespace, "a") is None
        until(lambda: cache.get("a") == 1 and rows.reads == 2, "what was refused does not stay")
        assert in_l2(spec, namespace, "a") == 1


def test_lease_evicted_in_mid_fill_of_memcached(own_memcached: MemcachedServer) -> None:
    spec, namespace, rows = spec_of(own_memcached), a_namespace(), Rows(a=1)
    with tier(spec, namespace, loader=rows, ttl=3600, lease=60) as cache:
        with loading(cache, rows, "a"):
            own_memcached.flush()
        assert cache.stats().l2.refused == 1
        assert in_l2(spec, namespace, "a") is None


def test_a_full_server_that_evicts_nothing(own_redis: RedisServer) -> None:
    spec, namespace, rows = own_redis.url, a_namespace(), Rows(a=1, b=1)
    with (
        tier(spec, namespace, loader=rows, ttl=3600) as cache,
        tier(spec, namespace, loader=rows, ttl=3600) as other,
        own_redis.client() as client,
    ):
        assert cache.get("a") == other.get("a") == 1
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        assert cache.get("b") == 1, "the source has it"
        assert cache.stats().l2.errors["full"] > 0
        rows.rows.update(a=2, b=2)
        assert cache.invalidate("a"), "deletions work on a full server"
        assert cache.invalidate("b")
        assert cache.get("a") == cache.get("b") == 2
        until(lambda: other.get("a") == 2, "the other is told")
        assert in_l2(spec, namespace, "a") is None
        cache.set("a", 3)  # nowhere but perhaps in L1
        rows.rows["a"] = 3
        until(lambda: other.get("a") == 3, "the other is told of that too")
        client.config_set("maxmemory", 0)
        until(lambda: cache.stats().state == "healthy" and not cache.stats().pending, "room again")
        until(lambda: cache.get("a") == other.get("a") == 3, "the last value")
        until(lambda: (cache.get("b"), in_l2(spec, namespace, "b"))[1] == 2, "fills are taken")


def test_two_versions_side_by_side(l2: str) -> None:
    """Each invalidates the other's entries, and reads none of them."""
    namespace, rows = a_namespace(), Rows(a=1)
    with (
        tier(l2, namespace, loader=lambda k: ("old", rows(k)), ttl=3600, version=1) as old,
        tier(l2, namespace, loader=lambda k: ("new", rows(k)), ttl=3600, version=2) as new,
    ):
        for number in range(2, 6):
            assert old.get("a") == ("old", number - 1)
            assert new.get("a") == ("new", number - 1)
            rows.rows["a"] = number
            one, another = (old, new) if number % 2 else (new, old)
            assert one.invalidate("a")
            assert one.get("a")[1] == number
            until(lambda c=another, n=number: c.get("a")[1] == n, "the other version is told")
        assert old.stats().l2.undecodable.get("schema", 0) + new.stats().l2.undecodable.get(
            "schema", 0
        )
