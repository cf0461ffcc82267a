"""Scenario 23: what others invalidate does not arrive, by a broken or dead connection, or since the process itself was
stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers.memcached import MemcachedServer
from servers.redis import RedisServer
from stress.support import SOAK
from stress.tiers import Threads, a_namespace, children, numbers, tier, until

from fastcache.testing import FaultProxy
from fastcache.tiered.options import TRUST

#: Seconds that L1 may serve what it has without hearing of changes.
MAX_STALENESS = 4.0
#: Seconds that a thread of a busy machine may take between two looks at a clock.
SLACK = 0.25


class Sample(NamedTuple):
    """One read: when it was begun, what it got, how many more values counted as stale after it."""

    began: float
    value: Any
    stale: int


class Sampler:
    """Reads all the time, and writes down what it gets."""

    def __init__(self, cache: Any, key: Any) -> None:
        self.cache, self.key = cache, key
        self.samples: list[Sample] = []
        self.states: list[tuple[float, str]] = []
        self.broken = 0.0

    def __call__(self) -> None:
        before = self.cache.stats().stale
        began = time.monotonic()
        value = self.cache.get(self.key)
        stats = self.cache.stats()
        self.samples.append(Sample(began, value, stats.stale - before))
        if not self.states or self.states[-1][1] != stats.state:
            self.states.append((time.monotonic(), stats.state))
        time.sleep(0.002)

    def since(self, moment: float) -> list[Sample]:
        return [sample for sample in [*self.samples] if sample.began > moment]


class Way(NamedTuple):
    """How to reach one L2: directly, or through a proxy that breaks what tells of invalidations."""

    direct: str
    through: Callable[[int], str]
    port: int


@pytest.fixture(params=["redis", "memcached", "memcached-redis"])
def way(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached: MemcachedServer
) -> Way:
    items = f"memcached:{memcached.address}"
    if request.param == "redis":
        return Way(redis_server.url, "redis://127.0.0.1:{}".format, redis_server.port)
    if request.param == "memcached":
        return Way(items, "memcached:127.0.0.1:{}".format, memcached.port)
    direct = f"{items}|{redis_server.url}"
    return Way(direct, (items + "|redis://127.0.0.1:{}").format, redis_server.port)


def break_all(
    way: Way, faults: dict[str, Callable[[FaultProxy], object]], seconds: float
) -> dict[str, Sampler]:
    """For each fault somebody reads a key while its invalidation does not get through for `seconds`. What must hold
    of every read is asserted."""
    namespace = a_namespace()
    rows = {"a": 1}
    with ExitStack() as stack:
        writer = stack.enter_context(tier(way.direct, namespace, loader=rows.__getitem__, ttl=3600))
        assert writer.get("a") == 1
        proxies, samplers = {}, {}
        for name in faults:
            proxies[name] = stack.enter_context(FaultProxy("127.0.0.1", way.port))
            cache = stack.enter_context(
                tier(
                    way.through(proxies[name].port), namespace, loader=rows.__getitem__,
                    ttl=3600, l2_timeout=0.5, max_staleness=MAX_STALENESS,
                )
            )  # fmt: skip
            assert cache.get("a") == 1
            samplers[name] = Sampler(cache, "a")
        with Threads(*samplers.values()):
            for sampler in samplers.values():
                until(lambda s=sampler: len(s.samples) > 10, "it is read")
                assert sampler.states == [(sampler.states[0][0], "healthy")]
            for name, fault in faults.items():
                fault(proxies[name])
            broken = time.monotonic()
            rows["a"] = 2
            assert writer.invalidate("a")
            until(lambda: time.monotonic() > broken + seconds, "it lasts", seconds + 1)
            for proxy in proxies.values():
                proxy.heal()
            for sampler in samplers.values():
                until(lambda s=sampler: s.samples[-1].value == 2, "it heard in the end")
                until(lambda s=sampler: s.cache.stats().state == "healthy", "it hears again")
            came = time.monotonic()
            for sampler in samplers.values():
                until(lambda s=sampler: len(s.since(came)) > 20, "it is read on")
    for name, sampler in samplers.items():
        sampler.broken = broken
        assert {sample.value for sample in sampler.since(came)} == {2}, name
        old = [sample for sample in sampler.since(broken) if sample.value == 1]
        late = [sample for sample in old if sample.began > broken + TRUST + SLACK]
        assert all(sample.stale for sample in late), f"{name}: served as fresh without hearing"
        latest = old[-1].began - broken if old else 0.0
        assert latest < MAX_STALENESS + SLACK, f"{name}: too old"
    return samplers


def test_connections_reset(way: Way) -> None:
    """They are made anew, and what was said meanwhile is seen by the counters."""
    break_all(way, {"reset": FaultProxy.reset}, 0)


@pytest.mark.slow
def test_nothing_comes(way: Way) -> None:
    faults = {
        "reset, and refused from then on": lambda proxy: proxy.reset(new=True),
        # as a firewall does that forgets connections: new ones work
        "dropped in silence": lambda proxy: proxy.black_hole(connections="open"),
        "black hole": lambda proxy: proxy.black_hole(),
    }
    samplers = break_all(way, faults, 30 if SOAK else MAX_STALENESS + 1)
    for name, sampler in samplers.items():
        states = [state for _, state in sampler.states]
        assert states[0] == states[-1] == "healthy"
        if name != "dropped in silence":
            degraded = sampler.states[1][0] - sampler.broken
            assert degraded < TRUST + SLACK, f"{name}: noticed after {degraded:.1f} s"
            assert any(s.stale for s in sampler.samples), "what L1 held should have been served"


STOPPED = """
spec, namespace, path, max_staleness = sys.argv[1:]
truth = numbers(path)
with tier(
    spec, namespace, loader=lambda key: truth[0], ttl=3600, max_staleness=float(max_staleness)
) as cache:
    assert cache.get("a") == 1
    reads, last, counted, fresh_old = 0, time.monotonic(), 0, 0
    while truth[1] == 0 or cache.get("a") != 2:
        before = cache.stats().stale
        began = time.monotonic()
        value = cache.get("a")
        reads += 1
        if reads == 50:
            print("ready", flush=True)
        if began - last > 1:  # it was stopped
            print("stopped", began - last, flush=True)
            truth[1] = 1
        last = began
        if truth[1] and value == 1:
            counted += cache.stats().stale > before
            fresh_old += cache.stats().stale == before
    print(reads, counted, fresh_old, flush=True)
"""


@pytest.mark.parametrize("max_staleness", [60.0, 1.0])
def test_a_process_that_was_stopped(way: Way, tmp_path: Path, max_staleness: float) -> None:
    """What it held when it was stopped is not served as fresh once it goes on; nor at all, if that is too long ago."""
    truth = numbers(tmp_path / "truth", 2)
    truth[0] = 1
    namespace = a_namespace()
    row = (way.direct, namespace, tmp_path / "truth", max_staleness)
    with (
        tier(way.direct, namespace, loader=lambda key: truth[0], ttl=3600) as writer,
        children(STOPPED, [row]) as (child,),
    ):
        assert child.line() == "ready"
        os.kill(child.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        truth[0] = 2
        assert writer.invalidate("a")
        until(lambda: time.monotonic() > stopped + TRUST + 0.2, "trust has ended")
        os.kill(child.pid, signal.SIGCONT)
        assert child.line().startswith("stopped")
        reads, counted, fresh_old = map(int, child.line().split())
        child.end()
    assert reads > 50
    assert fresh_old == 0, "served as fresh, from before it was stopped"
    if max_staleness < TRUST:
        assert counted == 0, "older than max_staleness"
