"""Scenarios 6 and 7: cycles, deep nesting, and memory that stays flat."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from stress.support import Token, run_child, scaled

from fastcache import Cache, lru_cache

POLICIES = ["lru", "fifo", "lfu"]


# 6. Cycles


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", ["value", "key", "list", "two caches", "listener", "weigher",
                                   "clock", "attribute", "view", "iterator", "bound method"])  # fmt: skip
def test_s06_cycle_is_freed_by_one_collection(policy: str, shape: str) -> None:
    class Sub(Cache):  # type: ignore[type-arg]
        pass

    class Hook(Token):
        cache: Any = None

        def __call__(self, *args: object) -> int:
            return 1

    hook = Hook()
    options = {shape: hook} if shape in ("listener", "weigher", "clock") else {}
    cache: Any = Sub(10, policy=policy, **options)
    witness = Token()
    cache["witness"] = witness
    if shape == "value":
        cache["self"] = cache
    elif shape == "key":
        hook.cache = cache
        cache[hook] = 1
    elif shape == "list":
        cache["self"] = [(cache,)]
    elif shape == "two caches":
        other: Any = Cache(10, policy=policy)
        other["cache"], cache["other"] = cache, other
        del other
    elif shape == "attribute":
        cache.me = cache
    elif shape == "view":
        cache["view"] = cache.items()
    elif shape == "iterator":
        cache["iterator"] = iter(cache)
    elif shape == "bound method":
        cache["method"] = cache.get
    else:
        hook.cache = cache
    refs = weakref.ref(cache), weakref.ref(witness)
    gc.collect()
    assert refs[0]() is not None
    del cache, witness, hook, options
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_s06_cycle_made_after_atomic_contents() -> None:
    # A cache of atomic contents is untracked; it must be tracked again with the first other object.
    for store in (
        lambda c: c.__setitem__("me", c),
        lambda c: c.set("me", [c]),
        lambda c: c.setdefault("me", (c,)),
        lambda c: c.add("me", {"c": c}),
        lambda c: c.get_or_set("me", lambda: c),
        lambda c: c.set_many([("me", c)]),
        lambda c: c.update(me=c),
        lambda c: c.set(1, c),  # overwrites an atomic value
    ):
        cache: Cache[Any, Any] = Cache(100)
        for i in range(10):
            cache[i] = str(i)
        gc.collect()
        gc.collect()
        ref = weakref.ref(cache)
        store(cache)
        del cache
        gc.collect()
        assert ref() is None


def test_s06_contents_freed_without_collection() -> None:
    gc.disable()
    try:
        cache: Cache[Any, Any] = Cache(10)
        token = Token()
        ref = weakref.ref(token)
        cache[1] = token
        del token
        assert ref() is not None
        del cache
        assert ref() is None
    finally:
        gc.enable()


NESTED = """
N = int(sys.argv[2])
kind = sys.argv[1]
def wrap(inner):
    if kind == "key":
        class_ = Holder(inner)
        cache = Cache(2)
        cache[class_] = 1
    elif kind == "function":
        f = lru_cache(2)(lambda x: inner_of.pop())
        inner_of = [inner]
        f(1)
        return f
    elif kind == "list":
        cache = Cache(2)
        cache[1] = [inner]
    elif kind == "subclass":
        cache = Sub(2)
        cache[1] = inner
    else:
        cache = Cache(2, policy=kind if kind in ("fifo", "lfu") else "lru",
                      ttl=1000 if kind == "ttl" else None)
        cache[1] = inner
    return cache
class Holder:
    def __init__(self, inner): self.inner = inner
class Sub(Cache):
    pass
class Last: pass
last = Last()
ref = weakref.ref(last)
for how in ("drop", "clear", "evict", "overwrite", "collect"):
    inner = last = Last()
    ref = weakref.ref(last)
    del last
    for _ in range(N):
        inner = wrap(inner)
    outer = Cache(2)
    outer[1] = inner
    del inner
    assert ref() is not None
    if how == "drop": del outer
    elif how == "clear": outer.clear()
    elif how == "evict": outer.evict(1)
    elif how == "overwrite": outer[1] = None
    else:
        outer["cycle"] = outer
        del outer
        gc.collect()
    assert ref() is None, how
    gc.collect()
print("ok")
"""


@pytest.mark.parametrize(
    "kind", ["lru", "fifo", "lfu", "ttl", "list", "key", "subclass", "function"]
)
def test_s06_nested_caches_are_dropped_without_overflow(kind: str) -> None:
    assert run_child(NESTED, kind, 100_000 if kind != "function" else 30_000) == "ok\n"


# 7. Memory stays flat

FLAT = """
import random
N = int(sys.argv[1])
policy = sys.argv[2]
choose = random.Random(1)
now = 0.0
cache = Cache(1000, policy=policy, ttl=500.0, clock=lambda: now)
weighed = Cache(1000, policy=policy, weigher=lambda k, v: 3, listener=lambda k, v, c: None)
unbounded = Cache(None, policy=policy)
plain = Cache(1000, policy=policy)
@lru_cache(500)
def f(*args, **kwargs):
    return [args]
class Bad:
    __hash__ = None
KEYS = [i if i % 3 else (str(i) if i % 2 else (i, "t")) for i in range(3000)]
def mixed(n):
    global now
    for i in range(n // 20):
        k, k2 = choose.choice(KEYS), choose.choice(KEYS)
        now += 0.05
        cache[k] = [i]
        cache.get(k2)
        cache.set(k2, i, ttl=choose.random() * 1000, tags=(i % 50, "all" if i % 9 else str(k)))
        cache.delete(choose.choice(KEYS))
        weighed[k] = i
        weighed.pop(k2, None)
        plain.set(k, k2)
        plain.get_many([k, k2, i])
        plain.incr(("n", i % 5000))
        unbounded[k] = {k2}
        unbounded.pop(choose.choice(KEYS), None)
        f(k), f(k, k2), f(k, x=k2)
        k in cache, cache.peek(k2)
        cache.touch(k)
        plain.get_or_set(k2, list)
        plain.setdefault(k, i)
        try:
            f(Bad())
        except TypeError:
            pass
        if i % 100 == 0:
            cache.invalidate_tag(i % 50)
            list(plain), list(cache.items()), cache.hottest(5), cache.coldest(5)
            cache.expire(); plain.evict(10); weighed.resize(900); weighed.resize(1000)
        if i % 1000 == 0:
            unbounded.clear(); f.cache_clear(); plain.clear()
        if i % 20000 == 0:
            for c in (cache, weighed, unbounded, plain, f.cache): c._check()
mixed(max(N // 4, 400_000))
gc.collect()
before, blocks = memory(), sys.getallocatedblocks()
mixed(N)
gc.collect()
grown, more = memory() - before, sys.getallocatedblocks() - blocks
print(f"grown by {grown} bytes, {more} blocks")
# The blocks are those of Python's allocator: noise of a few hundred, a leak is one per thousands.
if INSTRUMENTED == False:
    assert grown < 1_000_000, grown
assert more < 20_000, more
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_s07_mixed_operations_leave_memory_flat(policy: str) -> None:
    run_child(FLAT, scaled(1_000_000, 10_000_000), policy)


CHURN = """
N = int(sys.argv[1])
cache = Cache(10_000)
for i in range(60_000):
    cache[i] = i
bytes_, before = cache.nbytes, memory()
for i in range(60_000, 60_000 + N):
    cache[i] = i
assert cache.nbytes == bytes_, (cache.nbytes, bytes_)
grown = memory() - before
print(grown)
if not INSTRUMENTED:
    assert grown < 1_000_000, grown
cache._check()
"""


def test_s07_insert_and_evict_leaves_memory_flat() -> None:
    run_child(CHURN, scaled(1_000_000, 10**8))


def test_s07_clear_gives_memory_back() -> None:
    cache: Cache[Any, Any] = Cache(None)
    empty = cache.nbytes
    for i in range(200_000):
        cache[i] = i
    full = cache.nbytes
    assert full > 200_000 * 20
    cache.clear()
    assert cache.nbytes <= max(empty * 2, 100_000)

    @lru_cache(None)
    def f(x: int) -> int:
        return x

    for i in range(100_000):
        f(i)
    f.cache_clear()
    assert f.cache.nbytes <= max(empty * 2, 100_000)
