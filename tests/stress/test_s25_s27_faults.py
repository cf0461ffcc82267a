"""Scenarios 25 to 27: an L2 that hangs, lies, refuses or answers byte by byte, and callers who do not wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from servers.memcached import MemcachedServer
from servers.redis import RedisCluster, RedisServer
from stress.support import SOAK, scaled
from stress.tiers import Threads, a_namespace, open_store, percentiles, tier, until

from fastcache import AsyncTieredCache, Cache
from fastcache.stores.protocol import bucket_of
from fastcache.testing import FaultProxy
from fastcache.tiered.gate import FAILURES

#: Seconds after which a request is given up; what takes nearly as long has waited for it.
TRIP = 0.4

Own = RedisServer | MemcachedServer


@pytest.fixture(params=["redis", "memcached"])
def own(request: pytest.FixtureRequest) -> Own:
    """A server of this test alone."""
    return request.getfixturevalue(f"own_{request.param}")


@pytest.fixture(params=["redis", "memcached"])
def shared(request: pytest.FixtureRequest) -> Own:
    return request.getfixturevalue("redis_server" if request.param == "redis" else request.param)


@pytest.fixture(params=["redis", "memcached", "memcached-redis"])
def hanging(request: pytest.FixtureRequest) -> tuple[Own, str]:
    """A server of this test alone, and the L2 in it; what tells of invalidations may go on elsewhere."""
    kind, _, elsewhere = request.param.partition("-")
    server = request.getfixturevalue(f"own_{kind}")
    spec = spec_of(server)
    if elsewhere:
        spec += f"|{request.getfixturevalue('redis_server').url}"
    return server, spec


def spec_of(server: Own, port: int | None = None) -> str:
    kind = "redis://" if isinstance(server, RedisServer) else "memcached:"
    return f"{kind}127.0.0.1:{port or server.port}"


# ---- 25: L2 hangs ----------------------------------------------------------------------------------


def test_a_server_that_hangs_under_load(
    hanging: tuple[Own, str], capsys: pytest.CaptureFixture[str]
) -> None:
    own, spec = hanging
    seconds = 30 if SOAK else 5
    costs: list[tuple[float, float]] = []
    hits: list[float] = []
    keys = iter(range(10**9))

    def miss() -> None:
        key = next(keys)
        began = time.monotonic()
        assert cache.get(key) == -key
        costs.append((began, time.monotonic() - began))

    def hit() -> None:
        before = cache.stats().l1.hits
        began = time.monotonic()
        assert cache.get("hot") == "value"
        hits.append(time.monotonic() - began)
        assert cache.stats().l1.hits > before
        time.sleep(0.001)

    def load(key: Any) -> Any:
        return "value" if key == "hot" else -key

    with tier(
        spec, a_namespace(), loader=load, ttl=3600, max_staleness=600, l2_timeout=TRIP
    ) as cache:
        assert cache.get("hot") == "value"
        until(lambda: cache.stats().state == "healthy", "it hears")
        with Threads(miss, hit):
            until(lambda: len(costs) > 50 and len(hits) > 50, "load")
            usual = [cost for _, cost in costs]
            own.pause()
            hung, hits_before = time.monotonic(), len(hits)
            try:
                until(lambda: time.monotonic() > hung + seconds, "it hangs", seconds + 1)
                after = [cost for began, cost in [*costs] if began > hung]
                slow_hits = [cost for cost in hits[hits_before:] if cost > TRIP * 0.9]
                waited = [cost for cost in after if cost > TRIP * 0.9]
                left_out = cache.stats()
            finally:
                own.resume()
            until(lambda: cache.stats().state == "healthy", "it is back")
            filled = cache.stats().l2.fills
            until(lambda: cache.stats().l2.fills > filled, "L2 is asked again")
    assert 1 <= len(waited) <= FAILURES, "calls waited for L2 though it was known to hang"
    assert max(waited) < 4 * TRIP
    assert len(after) > 100
    assert len(hits) > hits_before + 100
    assert not slow_hits, "hits in L1 waited for L2"
    assert left_out.state == "degraded"
    assert left_out.l2.skipped > 50
    assert left_out.l2.errors["timeout"] >= FAILURES
    with capsys.disabled():
        brief = [cost for cost in after if cost <= TRIP * 0.9]
        print(
            f"\nmisses while {spec.split(':')[0]} hangs: {len(waited)} calls waited "
            f"({sum(waited):.1f} s in all); the rest {percentiles(brief)}; before {percentiles(usual)}"
        )


def test_many_callers_of_a_server_that_hangs(own: Own) -> None:
    """Those who were under way wait with the rest; then nobody does."""
    keys = iter(range(10**9))
    done: list[tuple[float, float]] = []

    def miss() -> None:
        key = next(keys)
        began = time.monotonic()
        assert cache.get(key) == -key
        done.append((began, time.monotonic() - began))
        time.sleep(0.002)  # so that none of them waits for the GIL

    with tier(
        spec_of(own), a_namespace(), loader=lambda key: -key, ttl=3600, l2_timeout=TRIP
    ) as cache:
        assert cache.get(10**10) == -(10**10)
        with Threads(*[miss] * 12):
            until(lambda: len(done) > 100, "load")
            own.pause()
            hung = time.monotonic()
            until(lambda: done[-1][0] > hung + 3, "it hangs")
            waited = [cost for began, cost in [*done] if began > hung and cost > TRIP * 0.9]
            own.resume()
    # those who were under way count among the failures, and all their successors had begun by then
    assert len(waited) <= 12 + FAILURES


def test_nobody_gets_an_exception_with_grace(own: Own) -> None:
    """Neither L2 nor the source answers: what is past its ttl is served."""
    down = threading.Event()

    def load(key: Any) -> Any:
        if down.is_set():
            raise OSError("the source is down as well")
        return key

    with tier(
        spec_of(own), a_namespace(), loader=load, ttl=1, grace=600, l2_timeout=TRIP,
        max_staleness=600,
    ) as cache:  # fmt: skip
        for key in range(20):
            assert cache.get(key) == key
        own.pause()
        down.set()
        try:
            began, reads = time.monotonic(), 0
            while time.monotonic() < began + 3:  # well past every ttl
                assert cache.get(reads % 20) == reads % 20
                reads += 1
            assert reads > 100
            assert cache.stats().load_failures > 0, "no entry was past its ttl"
        finally:
            own.resume()


# ---- 26: faults ------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What goes wrong; the kinds under which it may be counted (none: nothing need fail)."""

    name: str
    begin: Callable[[FaultProxy], object]
    kinds: tuple[str, ...]

    def __repr__(self) -> str:
        return self.name


def every(reply: bytes) -> Callable[[FaultProxy], object]:
    return lambda proxy: proxy.inject(reply)


BROKEN = ("closed", "protocol", "timeout", "other", "refused")
FAULTS = [
    Fault("latency", lambda proxy: proxy.latency(0.05), ()),
    Fault("too much latency", lambda proxy: proxy.latency(2 * TRIP), ("timeout",)),
    Fault("one byte per 10 ms", lambda proxy: proxy.throttle(1, 0.01), ("timeout",)),
    Fault("cut short", lambda proxy: proxy.truncate(3), BROKEN),
    Fault("cut off later", lambda proxy: proxy.truncate(60), BROKEN),
    Fault("reset", lambda proxy: proxy.reset(new=True), BROKEN),
    Fault("refused", lambda proxy: (proxy.refuse(), proxy.reset()), BROKEN),
]
REDIS = [
    Fault("LOADING", every(b"-LOADING Redis is loading the dataset in memory\r\n"), ("loading",)),
    Fault("OOM", every(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"), ("full",)),
    Fault("READONLY", every(b"-READONLY You can't write against a read only replica.\r\n"), ("readonly",)),
    Fault("CLUSTERDOWN", every(b"-CLUSTERDOWN The cluster is down\r\n"), ("cluster",)),
    Fault("NOAUTH", every(b"-NOAUTH Authentication required.\r\n"), ("auth",)),
    Fault("MOVED", every(b"-MOVED 1 127.0.0.1:1\r\n"), ("moved",)),
    Fault("too many clients", every(b"-ERR max number of clients reached\r\n"), ("clients",)),
    Fault("nonsense", every(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("protocol",)),
    Fault("a huge claim", every(b"$536870912\r\nabc"), (*BROKEN, "full")),
    Fault("a huge array", every(b"*10000000\r\n"), BROKEN),
    Fault("another type", every(b":7\r\n"), BROKEN),
]  # fmt: skip
MEMCACHED = [
    Fault("out of memory", every(b"SERVER_ERROR out of memory storing object\r\n"), ("full",)),
    Fault("too many clients", every(b"ERROR Too many open connections\r\n"), ("clients",)),
    Fault("an error of the client", every(b"CLIENT_ERROR bad command line format\r\n"), BROKEN),
    Fault("unknown", every(b"ERROR\r\n"), ("old", *BROKEN)),
    Fault("nonsense", every(b"HTTP/1.1 400 Bad Request\r\n\r\n"), BROKEN),
    Fault("a huge claim", every(b"VA 536870912 t100\r\nabc"), BROKEN),
]
CASES = [
    *(("redis", fault) for fault in FAULTS + REDIS),
    *(("memcached", fault) for fault in FAULTS + MEMCACHED),
]


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=[f"{k}-{f.name}" for k, f in CASES])
def test_never_a_wrong_value(kind: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    server: Own = request.getfixturevalue("redis_server" if kind == "redis" else "memcached")
    namespace, rows = a_namespace(), {f"key-{n}": [n, "value" * n] for n in range(24)}
    with FaultProxy("127.0.0.1", server.port) as proxy:
        with (
            tier(spec_of(server), namespace, loader=rows.__getitem__, ttl=3600) as direct,
            tier(
                spec_of(server, proxy.port), namespace, loader=rows.__getitem__, ttl=3600,
                l2_timeout=TRIP, l2_connect_timeout=TRIP,
            ) as cache,
        ):  # fmt: skip
            assert direct.get_many(rows) == rows
            assert cache.get("key-0") == rows["key-0"]
            fault.begin(proxy)
            began = time.monotonic()
            worst = 0.0
            for key in list(rows)[1:12]:
                one = time.monotonic()
                assert cache.get(key) == rows[key]
                worst = max(worst, time.monotonic() - one)
            assert cache.get_many(rows) == rows
            cache.set("key-1", [1, "set"])
            rows["key-1"] = [1, "set"]
            rows["key-2"] = [2, "changed"]
            cache.invalidate("key-2")
            for key in ("key-1", "key-2"):
                assert cache.get(key) == rows[key]
            # a time-out for what is sent, one for a connection, twice: for the read and the fill
            assert worst < 4 * TRIP + 0.5, "a call was not bounded"
            assert time.monotonic() - began < 30
            if fault.kinds:
                errors = until(lambda: cache.stats().l2.errors, "it is counted")
                assert set(errors) & set(fault.kinds), dict(errors)
            proxy.heal()
            until(lambda: cache.stats().state == "healthy" and not cache.stats().pending, "healed")
            assert cache.get_many(rows) == rows
            until(lambda: direct.get("key-1") == [1, "set"], "what was set has got through")
            until(lambda: direct.get("key-2") == [2, "changed"], "so has what was invalidated")


@pytest.mark.slow
def test_one_flipped_bit(shared: Own) -> None:
    """In every reply, at each place in turn: no value that is not the key's own."""
    namespace = a_namespace()
    rows = {n: {"id": n, "text": "x" * 40} for n in range(400)}
    choose = random.Random(4711)
    flips = [(byte, bit) for byte in range(200) for bit in range(8)]
    flips = flips if SOAK else choose.sample(flips, 120)
    with FaultProxy("127.0.0.1", shared.port) as proxy:
        with (
            tier(spec_of(shared), namespace, loader=rows.__getitem__, ttl=3600) as direct,
            tier(
                spec_of(shared, proxy.port), namespace, loader=rows.__getitem__, ttl=3600,
                l1=Cache(1), l2_timeout=TRIP,
            ) as cache,
        ):  # fmt: skip
            assert direct.get_many(rows) == rows
            for number, (byte, bit) in enumerate(flips):
                proxy.heal()
                until(lambda: not cache._core.gate.open, "L2 is asked")
                proxy.flip(byte, bit)
                for key in choose.sample(list(rows), 3):
                    assert cache.get(key) == rows[key], (byte, bit)
                if number % 10 == 0:
                    some = choose.sample(list(rows), 5)
                    assert cache.get_many(some) == {key: rows[key] for key in some}, (byte, bit)
            assert proxy.struck["flip"] > len(flips)
            stats = cache.stats().l2
            assert sum(stats.undecodable.values()) > 0, "no reply was damaged where it matters"
            assert stats.hits > 0
            proxy.heal()
            until(lambda: cache.stats().state == "healthy", "healed")
            for key in choose.sample(list(rows), 50):
                assert direct.get(key) == rows[key]
        # what the damaged replies made of L2
        with tier(spec_of(shared), namespace) as anew:
            assert all(value == rows[key] for key, value in anew.get_many(rows).items())


def test_a_message_that_was_damaged(redis_server: RedisServer) -> None:
    """It names a key that nobody invalidated, so whoever hears it drops what it may have meant."""
    namespace, rows = a_namespace(), {f"key-{n}": 1 for n in range(20)}
    with (
        tier(redis_server.url, namespace, loader=rows.__getitem__, ttl=3600) as writer,
        tier(redis_server.url, namespace, loader=rows.__getitem__, ttl=3600) as other,
        redis_server.client() as client,
    ):
        assert other.get_many(rows) == rows
        assert writer.get_many(rows) == rows
        until(lambda: other.stats().state == "healthy", "it hears")
        for key in rows:
            encoded, name = writer._core.place(key)
            damaged = bytearray(encoded)
            damaged[damaged.index(b"key")] ^= 1
            # what the script of an invalidation does, but for what arrives
            home = b"fc:{%b:%02x}:" % (namespace.encode(), bucket_of(name))
            rows[key] = 2
            client.delete(home + name.encode())
            incarnation, sequence = client.get(home + b"#").split(b":")
            counter = b"%b:%d" % (incarnation, int(sequence) + 1)
            client.set(home + b"#", counter)
            said = counter + b"\n" + os.urandom(8) + b"k" + damaged
            client.execute_command("SPUBLISH", home + b"#", said)
        for key in rows:
            until(lambda key=key: other.get(key) == 2, key)


# ---- 27: callers who leave ---------------------------------------------------------------------------


class Leavers:
    """Tasks that ask for one key or several, and are cancelled."""

    def __init__(self, spec: str, jump: str) -> None:
        self.rows = {n: f"value of {n}" for n in range(64)}
        self.counted = {"cancelled": 0, "answered": 0}
        self.jump = jump
        self.choose = random.Random(27)
        self.store = open_store(spec, timeout=2.0)
        self.cache: AsyncTieredCache[int, str] = AsyncTieredCache(
            Cache(2),  # so that nearly every read goes to L2
            self.store, namespace=a_namespace(), loader=self.load, ttl=3600,
        )  # fmt: skip

    async def load(self, key: int) -> str:
        await asyncio.sleep(0)
        return self.rows[key]

    async def one(self) -> None:
        key = self.choose.randrange(64)
        assert await self.cache.get(key) == self.rows[key]

    async def many(self) -> None:
        keys = self.choose.sample(range(64), 5)
        assert await self.cache.get_many(keys) == {key: self.rows[key] for key in keys}

    async def raw(self) -> None:
        key = self.choose.randrange(64)
        core = self.cache._core
        encoded, name = core.place(key)
        found = await self.store.arun(core.space.read(name))
        if found is not None:
            opened = core.values.open(found, encoded)
            assert opened is not None
            assert opened.value == self.rows[key]

    async def leave(self, task: asyncio.Task[Any], number: int) -> None:
        if self.jump == "steps":
            for _ in range(number % 40):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.choose.random() * 0.006)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.counted["cancelled" if task.cancelled() else "answered"] += 1

    async def run(self, rounds: int) -> None:
        for key, value in self.rows.items():
            assert await self.cache.get(key) == value
        for number in range(0, rounds, 10):
            kinds = [self.one, self.one, self.raw, self.raw, self.many]
            asked = [asyncio.create_task(self.choose.choice(kinds)()) for _ in range(10)]
            stays = asyncio.create_task(self.one())
            await asyncio.gather(*(self.leave(task, number + n) for n, task in enumerate(asked)))
            await stays
        for key, value in self.rows.items():
            assert await self.cache.get(key) == value
        assert not self.cache.stats().l2.errors
        await self.cache.close()
        await self.store.aclose()
        if getattr(self.store, "_backplane", None) is not None:
            self.store._backplane.close()


async def leaving(spec: str, jump: str) -> None:
    leavers, rounds = Leavers(spec, jump), scaled(500, 50_000)
    await leavers.run(rounds)
    assert min(leavers.counted.values()) > rounds // 50, leavers.counted


@pytest.mark.parametrize("jump", ["steps", "times"])
@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_every_reply_belongs_to_its_key(
    kind: str, jump: str, request: pytest.FixtureRequest
) -> None:
    """Tasks are cancelled wherever they wait, after so many steps of the loop, or so much time."""
    server: Own = request.getfixturevalue("redis_server" if kind == "redis" else kind)
    with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.latency(0.002)
        asyncio.run(leaving(spec_of(server, proxy.port), jump))


@pytest.mark.parametrize("jump", ["steps", "times"])
def test_every_reply_of_a_cluster(redis_cluster: RedisCluster, jump: str) -> None:
    asyncio.run(leaving(redis_cluster.url, jump))
