"""The once-a-second comparison of counters: what comes while it is under way is neither loss nor restoration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import until
from servers.redis import RedisServer

from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore


class Interrupted(RedisStore):
    """Something else happens between the answer with the counters and the moment it is looked at."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def run(self, steps: Any) -> Any:
        answer = super().run(steps)
        self.meanwhile()
        return answer


def test_a_message_that_overtakes_the_counters(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    source = {"a": 1, "b": 1}
    store = Interrupted(redis_server.url)
    other = TieredCache[str, int](
        Cache(10), RedisStore(redis_server.url), namespace="overtaken", loader=source.get
    )
    mine = TieredCache[str, int](Cache(10), store, namespace="overtaken", loader=source.get)
    with mine, other, caplog.at_level(logging.WARNING, "fastcache"):
        mine.get("b")
        link = mine._core.link
        assert link is not None
        until(lambda: link._listener is not None and bool(mine._trust), "it listens")
        mine.stats(reset=True)
        store.meanwhile = lambda: other.invalidate("a")
        for _ in range(5):
            link.beat()
        store.meanwhile = lambda: None
        link.beat()
        assert (mine.stats().lost, mine.stats().dropped) == (0, 0)
        assert mine.stats().received >= 5
        assert "b" in mine.l1
    assert "back in time" not in caplog.text
    other.l2.close()  # type: ignore[union-attr]
    store.close()


def test_in_shared_memory_a_change_is_no_silence(tmp_path: Path) -> None:
    """Somebody else changes another key while this one is loaded: L1 keeps it as long as ever."""

    def load(key: str) -> int:
        other.invalidate("elsewhere")
        return 1

    other = TieredCache[str, int](Cache(10), SQLiteStore(tmp_path / "x.db"), namespace="silence")
    mine = TieredCache[str, int](
        Cache(10), SQLiteStore(tmp_path / "x.db"), namespace="silence", loader=load, ttl=60
    )
    with mine, other:
        assert mine.get("a") == mine.get("a") == 1
        other.invalidate("elsewhere")
        stats = mine.stats()
        assert (stats.state, stats.loads, stats.stale) == ("healthy", 1, 0)
        left = mine.l1.ttl("a")
        assert left is not None
        assert left > 50
        assert (mine.get("a"), mine.stats().stale) == (1, 0)
    for tiers in (mine, other):
        tiers.l2.close()  # type: ignore[union-attr]
