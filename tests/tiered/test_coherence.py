"""The link to the other processes: what it drops, and what it does not."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
import uuid
from typing import Any

import pytest
from stress.support import run_child
from tiered import support

from fastcache import AsyncTieredCache, Cache, TieredCache
from fastcache.stores.protocol import Fill, StoreError

pytest.importorskip("redis")


until = functools.partial(support.until, limit=20.0)


def test_counters_that_cannot_be_read_for_a_moment_drop_nothing(redis_server: Any) -> None:
    from fastcache.stores import RedisStore

    store = RedisStore(redis_server.url)
    t: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="hiccup", ttl=600)
    try:
        t.set("k", 1)
        assert t.get("k") == 1
        core = t._core
        assert core.teller is not None
        honest, failures = core.teller.space.counters, 0

        def counters() -> Any:
            nonlocal failures
            if failures < 3:
                failures += 1
                raise StoreError("here", "timeout", "too slow")
            return honest()

        core.teller.space.counters = counters  # type: ignore[method-assign]
        until(lambda: failures == 3 and t.stats().trust > 2.5)  # type: ignore[operator]
        assert t.stats().dropped == 0
        assert t.l1["k"] == 1
        assert t.stats().l2.errors == {"timeout": 3}
    finally:
        t.close()
        store.close()


def test_a_listener_that_comes_again_trusts_nothing_of_before(own_redis: Any) -> None:
    import redis

    from fastcache.stores import RedisStore

    store = RedisStore(own_redis.url)
    t: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="again", ttl=600)
    try:
        t.set("k", 1)
        assert t.get("k") == 1
        link = t._core.link
        assert link is not None
        assert link._listener is not None
        first = link._listener
        redis.Redis.from_url(own_redis.url).client_kill_filter(_type="pubsub")
        until(lambda: link._listener not in (None, first) and "k" not in t.l1)
        assert t.get("k") == 1, "L2 has it all the same"
        until(lambda: t.stats().state == "healthy")
    finally:
        t.close()
        store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_hears_its_parent(redis_server: Any) -> None:
    """It must not take the parent's invalidations for its own."""
    run_child(
        """
        import os, sys, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from fastcache import Cache, TieredCache
        from fastcache.stores import RedisStore

        def until(condition):
            end = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < end, "it did not come true"
                time.sleep(0.005)

        t = TieredCache(Cache(100), RedisStore(sys.argv[1]), namespace="fork", ttl=600)
        t.set("k", 1)
        assert t.get("k") == 1
        ready, go = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                until(lambda: t.get("k") == 1 and t.stats().trust)
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                until(lambda: "k" not in t.l1)
                assert t.get("k") is None
                t.set("child", 1)
                code = 0
            finally:
                os._exit(code)
        os.close(ready[1])
        assert os.read(ready[0], 1) == b"x", "the child is not told of changes"
        assert t.get("k") == 1
        t.invalidate("k")
        os.write(go[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert t.get("child") == 1
        t.close()
        """,
        redis_server.url,
    )


# ---- what L2 was not told ------------------------------------------------------------------------


def test_a_cancelled_invalidation_is_made_up_for(redis_server: Any) -> None:
    """The source has changed, whoever gave up on waiting."""
    from fastcache.stores import RedisStore

    async def main() -> None:
        store = RedisStore(redis_server.url)
        t: AsyncTieredCache[str, int] = AsyncTieredCache(
            Cache(100), store, namespace="cancelled", ttl=600
        )
        other: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="cancelled")
        await t.set("k", 1)
        assert other.get("k") == 1
        core = t._core
        honest, reached = core.send, asyncio.Event()

        async def send(request: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        core.send = send
        task = asyncio.ensure_future(t.invalidate("k"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        core.send = honest
        assert "k" not in t.l1
        end = time.monotonic() + 20
        while other.get("k") is not None or t.stats().pending:
            assert time.monotonic() < end, "nobody was told"
            await asyncio.sleep(0.01)
        await t.close()
        other.close()
        await store.aclose()

    asyncio.run(main())


def test_the_end_of_an_update_that_l2_did_not_hear(redis_server: Any) -> None:
    from fastcache.stores import RedisStore

    store = RedisStore(redis_server.url)
    t: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="unheard", ttl=600)
    other: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="unheard")
    try:
        t.get("k")
        space = t._core.space
        honest = space.hold
        with t.updating("k", release=False, hold=30):
            # somebody else ends the hold, fills the key with the older value, and L2 is out then
            def hold(*_: Any) -> Any:
                raise StoreError("here", "timeout", "too slow")

            space.hold = hold
            fresh = store.space("unheard", b"somebody")
            name = t._core.place("k")[1]
            store.run(fresh.put([_fill(t, name, 1)], [t._core.target("k")]))
            assert other.get("k") == 1
        space.hold = honest
        until(lambda: other.get("k") is None and t.stats().pending == 0)
    finally:
        t.close()
        other.close()
        store.close()


def _fill(t: TieredCache[str, int], name: str, value: int) -> Fill:
    data = t._core.values.pack(
        t._core.place("k")[0], value, ttl=60.0, extra=0.0, sequence=t._core.book.sequence
    )
    assert data is not None
    return Fill(name, b"", data, 60.0)


def test_what_is_invalidated_again_while_it_is_sent_stays_pending(redis_server: Any) -> None:
    from fastcache.stores import RedisStore

    store = RedisStore(redis_server.url)
    t: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="twice", ttl=600)
    try:
        t.get("k")
        core = t._core
        assert core.link is not None
        core.link.stop()  # nobody settles but this test
        arrears, target = core.link.arrears, core.target("k")
        arrears.postpone([target])
        honest = core.space.invalidate

        def invalidate(targets: Any, token: bytes = b"") -> Any:
            yield from honest(targets, token)
            arrears.postpone([target])

        core.space.invalidate = invalidate
        arrears.settle()
        assert list(arrears.pending) == [target.name]
        core.space.invalidate = honest
        arrears.settle()
        assert not arrears.pending
    finally:
        t.close()
        store.close()


def test_an_own_put_that_comes_late_is_undone(redis_server: Any) -> None:
    """Its sender had given up on it, so nothing is known of what it overwrites."""
    from fastcache.stores import RedisStore

    store = RedisStore(redis_server.url)
    t: TieredCache[str, int] = TieredCache(Cache(100), store, namespace="late", ttl=600)
    try:
        t.set("k", 1)
        core = t._core
        held = []
        honest = core.space.put

        def put(fills: Any, targets: Any) -> Any:
            held.append((fills, targets))
            raise StoreError("here", "timeout", "too slow")
            yield

        core.space.put = put
        assert t.set_many({"k": 2}) == ["k"]
        core.space.put = honest
        until(lambda: t.stats().pending == 0)
        assert t.get("k") is None
        store.run(core.space.put(*held[0]))  # there it comes
        assert t.peek_l2("k") == 2
        until(lambda: t.peek_l2("k") is None and t.stats().pending == 0)
        assert t.get("k") is None
    finally:
        t.close()
        store.close()


def test_a_put_after_the_invalidation_of_another(redis_server: Any) -> None:
    """A write-through that was overtaken: what it wrote must not lie over the later one."""
    from fastcache.stores import RedisStore

    rows: dict[str, int] = {}
    store = RedisStore(redis_server.url)
    other: TieredCache[str, int] = TieredCache(
        Cache(100), store, namespace="overtaken", ttl=600, loader=rows.get
    )

    class Rows:
        def write_many(self, mapping: Any) -> None:
            rows.update(mapping)
            rows["k"] = 3  # later, by another, who says so
            other.invalidate("k")

        def delete_many(self, keys: Any) -> None:
            raise NotImplementedError

    t: TieredCache[str, int] = TieredCache(
        Cache(100), store, namespace="overtaken", ttl=600, loader=rows.get, writer=Rows()
    )
    try:
        t.set("k", 2)
        until(lambda: (t.get("k"), other.get("k")) == (3, 3))
    finally:
        t.close()
        other.close()
        store.close()


def test_behind_a_backplane_a_change_is_told_once(memcached: Any, redis_server: Any) -> None:
    """By the store, whose changes it tells of; and by the tiered cache only where the store could not."""
    from fastcache.backplane import RedisBackplane
    from fastcache.stores import MemcachedStore
    from fastcache.tiered.coherence import uptime

    backplane = RedisBackplane(redis_server.url)
    namespace = f"once{uuid.uuid4().hex[:8]}"

    def a_cache() -> TieredCache[str, int]:
        store = MemcachedStore(memcached.address, backplane=backplane)
        return TieredCache(Cache(100), store, namespace=namespace, ttl=600)

    t, other = a_cache(), a_cache()
    link = other._core.link
    assert link is not None
    t.set("a", 1)
    until(lambda: other.get("a") == 1)

    def beat() -> int:
        now = uptime()
        until(lambda: link.heard_at > now)
        return other.stats().received

    for change in (
        lambda: t.invalidate("a"),
        lambda: t.set("a", 2),
        lambda: t.incr("n"),
        lambda: t.invalidate_tag("x"),
        lambda: t.bump_version(),
    ):
        before = beat()
        change()
        assert beat() == before + 1
    before = beat()
    t._core.gate.opened_at = time.monotonic()
    t._core.gate.open = True  # the store is left out
    assert t.invalidate("a") is False
    assert beat() > before
    for cache in (t, other):
        cache.close()
        assert cache.l2 is not None
        cache.l2.close()
    backplane.close()
