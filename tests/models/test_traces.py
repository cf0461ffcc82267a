"""Hit for hit: the policies on long traces, against the references and against libcachesim."""

from __future__ import annotations

import collections
import os
import random
import re
import sysconfig
from collections.abc import Iterator
from functools import cache as memoised
from typing import Any

import pytest

from fastcache import Cache

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
LENGTH = 1_000_000 if SOAK else 60_000
POLICIES = ["lru", "fifo", "lfu"]


# References in O(1) or O(log n) per call, each in a way of its own, unlike the engine's.


def lru(size: int, trace: list[Any]) -> Iterator[bool]:
    kept: collections.OrderedDict[Any, None] = collections.OrderedDict()
    for key in trace:
        hit = key in kept
        if hit:
            kept.move_to_end(key)
        else:
            if len(kept) == size:
                kept.popitem(last=False)
            kept[key] = None
        yield hit


def fifo(size: int, trace: list[Any]) -> Iterator[bool]:
    kept: dict[Any, None] = {}
    for key in trace:
        hit = key in kept
        if not hit:
            if len(kept) == size:
                del kept[next(iter(kept))]
            kept[key] = None
        yield hit


def lfu(size: int, trace: list[Any]) -> Iterator[bool]:
    """A heap of (count, time, key) whose outdated tuples are skipped."""
    import heapq

    kept: dict[Any, tuple[int, int]] = {}
    heap: list[tuple[int, int, Any]] = []
    for now, key in enumerate(trace):
        hit = key in kept
        if not hit and len(kept) == size:
            while True:
                count, since, victim = heapq.heappop(heap)
                if kept.get(victim) == (count, since):
                    del kept[victim]
                    break
        kept[key] = (kept[key][0] + 1 if hit else 1, now)
        heapq.heappush(heap, (*kept[key], key))
        yield hit


REFERENCES = {"lru": lru, "fifo": fifo, "lfu": lfu}


@memoised
def words() -> list[str]:
    """The words of the standard library's sources, as far as wanted."""
    found: list[str] = []
    root = sysconfig.get_paths()["stdlib"]
    for name in sorted(os.listdir(root)):
        if name.endswith(".py"):
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
                found += re.findall(r"\w+", file.read())
        if len(found) >= LENGTH:
            break
    assert len(found) >= min(LENGTH, 50_000)
    return found[:LENGTH]


@memoised
def zipf() -> list[int]:
    rng = random.Random(1)
    return [int(rng.paretovariate(0.7)) % 20_000 for _ in range(LENGTH)]


@memoised
def loops() -> list[int]:
    """A loop slightly larger than the cache, a hot set, and scans."""
    rng = random.Random(2)
    trace: list[int] = []
    while len(trace) < LENGTH:
        trace += range(130)
        trace += [rng.randrange(50) for _ in range(300)]
        trace += range(len(trace), len(trace) + 200)
    return trace[:LENGTH]


TRACES: dict[str, Any] = {"words": words, "zipf": zipf, "loops": loops}


def hits(cache: Cache[Any, Any], trace: list[Any]) -> Iterator[bool]:
    absent = object()
    get = cache.get
    for key in trace:
        hit = get(key, absent) is not absent
        if not hit:
            cache[key] = None
        yield hit


@pytest.mark.parametrize("size", [1, 10, 100, 1500])
@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_hit_for_hit(policy: str, trace: str, size: int) -> None:
    """Exact, hit for hit, against the reference algorithms."""
    requests = TRACES[trace]()
    cache: Cache[Any, Any] = Cache(size, policy=policy)
    for step, (ours, theirs) in enumerate(
        zip(hits(cache, requests), REFERENCES[policy](size, requests), strict=True)
    ):
        if ours is not theirs:
            pytest.fail(f"step {step}, key {requests[step]!r}: {ours} instead of {theirs}")
    assert len(cache) <= size
    cache._check()


@pytest.mark.parametrize("size", [10, 300])
@pytest.mark.parametrize("trace", ["zipf", "loops"])
@pytest.mark.parametrize("policy", POLICIES)
def test_an_unrelated_implementation_agrees(policy: str, trace: str, size: int) -> None:
    libcachesim = pytest.importorskip("libcachesim")
    requests = TRACES[trace]()
    oracle = getattr(libcachesim, policy.upper())(cache_size=size)
    request = libcachesim.Request()
    request.obj_size = 1  # sizes are not what is compared
    cache: Cache[Any, Any] = Cache(size, policy=policy)
    for step, ours in enumerate(hits(cache, requests)):
        request.obj_id = requests[step]
        if ours is not bool(oracle.get(request)):
            pytest.fail(f"step {step}, key {requests[step]!r}: {ours}, libcachesim says otherwise")


@pytest.mark.parametrize("policy", POLICIES)
def test_options_do_not_change_the_policy(policy: str) -> None:
    """With time, listener and details on, nothing expiring: the same hits."""
    requests = TRACES["zipf"]()[:30_000]
    plain: Cache[Any, Any] = Cache(200, policy=policy)
    others: list[Cache[Any, Any]] = [
        Cache(200, policy=policy, ttl=10**6),
        Cache(200, policy=policy, tti=10**6),
        Cache(200, policy=policy, details=True),
        Cache(200, policy=policy, listener=lambda k, v, c: None),
        Cache(400, policy=policy, weigher=lambda k, v: 2),
    ]
    expected = list(hits(plain, requests))
    for cache in others:
        assert list(hits(cache, requests)) == expected
        cache._check()
