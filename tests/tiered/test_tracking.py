"""Writers that are not ours: a server that is asked to tells which names have changed (client tracking)."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest
from tiered import support

from fastcache import Cache, TieredCache

pytest.importorskip("redis")


until = functools.partial(support.until, limit=20.0)


def settled(t: TieredCache[str, object]) -> bool:
    """Whether L1 keeps the value: the message about this cache's own fill has come, and been heeded."""
    received = t.get("k"), t._core.l1.stats().removals
    time.sleep(0.2)
    return "k" in t.l1 and received == (t.get("k"), t._core.l1.stats().removals)


def test_a_value_that_somebody_deletes_leaves_l1(redis_server: Any) -> None:
    import redis

    from fastcache.backplane import RedisBackplane
    from fastcache.stores import RedisStore

    store = RedisStore(redis_server.url)
    source = {"k": "old", "other": 1}
    t = TieredCache(
        Cache(100), store, namespace="tracked", ttl=600, loader=source.__getitem__,
        backplane=RedisBackplane(store, tracking=True),
    )  # fmt: skip
    try:
        client = redis.Redis.from_url(redis_server.url)
        assert t.get("k") == "old"
        until(lambda: settled(t))
        name = t._core.place("k")[1].encode()
        (place,) = {key for key in client.scan_iter("fc:{tracked:*") if key.endswith(name)}
        source["k"] = "new"
        client.delete(place)
        until(lambda: "k" not in t.l1)
        assert t.get("k") == "new"
    finally:
        t.close()
        store.close()


def test_a_load_under_way_is_fenced_by_name(tmp_path: Any) -> None:
    """What is being loaded when its name changes is not stored, though L1 does not hold it yet."""
    from fastcache.stores import SQLiteStore

    t: TieredCache[Any, Any]

    def load(key: str) -> int:
        t._core.recheck(t._core.place(key)[1])
        return 1

    t = TieredCache(Cache(100), SQLiteStore(tmp_path / "l2.db"), namespace="n", loader=load)
    t._core.tracks = True
    assert t.get("k") == 1
    assert "k" not in t.l1
    t._core.tracks = False
    assert t.get("another") == 1
    assert "another" in t.l1, "without tracking nobody looks for loads by their names"
