"""The link to the other processes: what it drops, and what it does not."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from stress.support import run_child

from fastcache import Cache, TieredCache
from fastcache.stores.protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("redis")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


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
