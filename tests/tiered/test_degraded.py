"""What happens while L2 hangs, refuses, or is cut off, through a proxy that does harm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tiered.support import Face, Source, Thread, Tier, Tiers, until

from fastcache import Cache
from fastcache.stores import RedisStore, StoreError
from fastcache.testing import FaultProxy
from fastcache.tiered import arrears
from fastcache.tiered.coherence import uptime


@pytest.fixture
def proxy(redis_server: Any) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", redis_server.port) as made:
        yield made


class Far(Tiers):
    """Tiered caches behind the proxy; `near` makes one that is not."""

    def __init__(self, face: Face, proxy: FaultProxy, port: int) -> None:
        super().__init__(face, "redis", lambda: RedisStore(f"redis://127.0.0.1:{port}", timeout=5))
        self.proxy = proxy

    def far(self, loader: Any = None, **options: Any) -> Tier:
        store = RedisStore(
            f"redis://127.0.0.1:{self.proxy.port}", timeout=0.15, connect_timeout=0.15
        )
        self.stores.append(store)
        return self(loader, store=store, **options)


@pytest.fixture
def tiers(face: Face, proxy: FaultProxy, redis_server: Any) -> Iterator[Far]:
    made = Far(face, proxy, redis_server.port)
    yield made
    proxy.heal()
    made.close()


HARM = {
    "hangs": lambda proxy: proxy.black_hole(),
    "refuses": lambda proxy: (proxy.refuse(), proxy.reset()),
    "resets": lambda proxy: proxy.reset(new=True),
}


@pytest.fixture(params=HARM)
def harm(request: pytest.FixtureRequest, proxy: FaultProxy) -> Any:
    return lambda: HARM[request.param](proxy)


def test_hits_go_on_and_misses_ask_the_source(tiers: Far, harm: Any) -> None:
    source = Source(a=1, b=2)
    t = tiers.far(source, ttl=60)
    assert t.get("a") == 1
    harm()
    assert t.get("a") == 1
    assert t.get("b") == 2
    assert t.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    until(lambda: t.stats().state == "degraded")
    assert t.get("a") == 1
    assert sum(t.stats().l2.errors.values()) > 0
    source.taken()
    assert t.get("d") is None
    assert source.taken() == ["d"]


def test_the_breaker_opens_and_closes(
    tiers: Far, harm: Any, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    t = tiers.far(source, ttl=60)
    t.get("hears")
    with caplog.at_level(logging.INFO, "fastcache"):
        harm()
        for number in range(6):
            t.get(number)
        until(lambda: t.cache._core.gate.open)
        before = t.stats().l2
        for number in range(100, 140):
            t.get(number)
        after = t.stats().l2
        assert after.skipped - before.skipped >= 30
        assert t.stats().state in ("degraded", "down")
        assert f"127.0.0.1:{proxy.port}" in caplog.text
        assert "in a row" in caplog.text
        proxy.heal()
        until(lambda: t.stats().state == "healthy")
        until(lambda: "answers again" in caplog.text)
    t.stats(reset=True)
    t.get("new")
    assert t.stats().l2.fills == 1


def test_an_invalidation_that_does_not_get_through_is_sent_later(
    tiers: Far, harm: Any, proxy: FaultProxy
) -> None:
    source = Source(a=1)
    t, near = tiers.far(source, ttl=60), tiers(source, ttl=60)
    assert (t.get("a"), near.get("a")) == (1, 1)
    harm()
    source.data["a"] = 2
    assert t.invalidate("a") is False
    stats = t.stats()
    assert stats.pending == 1
    assert stats.state == "degraded"
    assert t.get("a") == 2  # not from L2, whatever it has
    proxy.heal()
    until(lambda: t.stats().pending == 0)
    until(lambda: near.get("a") == 2)
    assert t.get("a") == 2
    assert tiers(source).get("a") == 2


def test_the_log_says_why_an_invalidation_waits(
    tiers: Far, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    t = tiers.far(Source(), ttl=60)
    t.get("hears")
    proxy.refuse()
    proxy.reset()
    for number in range(6):
        t.get(number)
    until(lambda: t.cache._core.gate.open)
    with caplog.at_level(logging.INFO, "fastcache"):
        assert t.invalidate("a") is False
        assert "left out after failures" in caplog.text
        proxy.heal()
        until(lambda: t.stats().state == "healthy")
    assert "after -" not in caplog.text


def test_states_are_logged(tiers: Far, proxy: FaultProxy, caplog: pytest.LogCaptureFixture) -> None:
    t = tiers.far(Source(), ttl=60, max_staleness=0.3)
    with caplog.at_level(logging.INFO, "fastcache"):
        t.get("a")
        proxy.refuse()
        proxy.reset()
        for number in range(6):
            t.get(number)
        until(lambda: "is degraded, it was healthy" in caplog.text)
        until(lambda: "is down, it was degraded" in caplog.text)
        proxy.heal()
        until(lambda: "is healthy, it was" in caplog.text)
    assert tiers.namespace in caplog.text


def test_its_key_keeps_clear_of_l2_until_then(tiers: Far, proxy: FaultProxy) -> None:
    """Even if L2 answers again, but has not been told yet."""
    source = Source(a=1)
    t, near = tiers.far(source, ttl=60), tiers(source, ttl=60)
    assert (t.get("a"), near.get("a")) == (1, 1)
    proxy.black_hole()
    source.data["a"] = 2
    assert t.invalidate("a") is False
    proxy.heal()
    for _ in range(200):
        assert t.get("a") == 2
        assert t.get_many(["a", "b"]) == {"a": 2}
    until(lambda: near.get("a") == 2)


def test_what_is_told_after_a_gap_is_told_once(
    tiers: Far, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """An own message of a key that was in doubt is a surprise only if nobody has sent it since."""
    source = Source(a=1)
    t = tiers.far(source, ttl=60)
    assert t.get("a") == 1
    link = t.cache._core.link
    proxy.refuse()
    proxy.reset()
    assert t.invalidate("a") is False
    proxy.heal()
    until(lambda: t.stats().pending == 0 and t.stats().state == "healthy")
    caplog.clear()
    for change in (
        lambda: t.invalidate("a"),
        lambda: t.set("a", 2),
        lambda: t.cache._core.link.arrears.postpone([t.cache._core.target("a")]),
    ):
        change()
        now = uptime()
        until(lambda now=now: link.heard_at > now)
        until(lambda: t.stats().pending == 0)
    with t.updating("a"):
        pass
    now = uptime()
    until(lambda: link.heard_at > now)
    assert caplog.text.count("had missed") == 1  # what was postponed


def test_set_that_does_not_get_through(tiers: Far, harm: Any, proxy: FaultProxy) -> None:
    source = Source(a=1)
    t, near = tiers.far(source, ttl=60), tiers(source, ttl=60)
    assert (t.get("a"), near.get("a")) == (1, 1)
    harm()
    source.data["a"] = 2
    assert t.set_many({"a": 2, "b": 3}) == ["a", "b"]
    assert t.get("a") == 2
    t.set("a", 2)
    proxy.heal()
    until(lambda: t.stats().pending == 0)
    until(lambda: near.get("a") == 2)


def test_what_must_be_known_raises(tiers: Far, harm: Any) -> None:
    t = tiers.far(Source(a=1), ttl=60)
    t.get("a")
    harm()
    for call in (
        lambda: t.incr("n"),
        lambda: t.add("b", 1),
        lambda: t.touch("a", 5),
        lambda: t.invalidate_tag("x"),
        lambda: t.bump_version(),
    ):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
            call()


def test_strong_raises_where_the_others_wait(tiers: Far, harm: Any, proxy: FaultProxy) -> None:
    source = Source(a=1)
    t = tiers.far(source, ttl=60, level="strong")
    assert t.get("a") == 1
    harm()
    with pytest.raises(StoreError):
        t.invalidate("a")
    with pytest.raises(StoreError):
        t.set("a", 2)
    source.data["a"] = 3
    assert t.get("a") == 3
    proxy.heal()
    until(lambda: t.stats().pending == 0)
    assert tiers(source).get("a") == 3


def test_staleness_has_an_end(tiers: Far, proxy: FaultProxy) -> None:
    source = Source(a=1)
    t, near = tiers.far(source, ttl=600, max_staleness=0.5), tiers(source, ttl=600)
    assert t.get("a") == 1
    proxy.black_hole()
    source.data["a"] = 2
    assert near.invalidate("a") is True
    assert t.get("a") == 1  # trusted for three seconds after it last heard the others
    until(lambda: t.get("a") == 2, 10)
    until(lambda: t.stats().state == "down", 10)


def test_what_is_loaded_meanwhile_is_not_kept_long(tiers: Far, proxy: FaultProxy) -> None:
    source = Source(a=1)
    t = tiers.far(source, ttl=600, degraded_ttl=0.2)
    t.get("hears")
    proxy.black_hole()
    until(lambda: t.stats().state == "degraded")
    assert t.get("a") == 1
    assert 0 < t.l1.ttl("a") <= 0.2
    source.data["a"] = 2
    until(lambda: t.get("a") == 2)


def test_after_the_gap_nothing_from_before_is_served(tiers: Far, proxy: FaultProxy) -> None:
    source = Source(**{f"k{i}": 1 for i in range(30)})
    t, near = tiers.far(source, ttl=600), tiers(source, ttl=600)
    keys = list(source.data)
    assert set(t.get_many(keys).values()) == {1}
    proxy.black_hole()
    for key in keys:
        source.data[key] = 2
    assert near.invalidate_many(keys) is True
    until(lambda: t.stats().trust == 0.0)
    proxy.heal()
    until(lambda: t.stats().state == "healthy")
    assert set(t.get_many(keys).values()) == {2}
    assert t.stats().dropped >= 30


def test_more_is_pending_than_can_be_kept(
    tiers: Far, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then all keys keep clear of L2, until it could be told that all it has is old."""
    monkeypatch.setattr(arrears, "PENDING", 3)
    keys = list(range(20))
    source = Source()
    source.data.update(dict.fromkeys(keys, 1))
    t, near = tiers.far(source, ttl=600), tiers(source, ttl=600)
    assert set(near.get_many(keys).values()) == {1}  # in L2
    t.get("hears")
    proxy.refuse()
    proxy.reset()
    source.data.update(dict.fromkeys(keys, 2))
    assert t.invalidate_many(keys) is False
    assert t.stats().pending == 3
    proxy.heal()  # what L2 has is old all the same

    def settled() -> bool:
        assert [t.get(key) for key in keys] == [2] * 20
        return bool(t.stats().state == "healthy")

    until(settled)
    assert t.stats().pending == 0
    until(lambda: set(near.get_many(keys).values()) == {2})
    assert set(tiers(ttl=600).get_many(keys).values()) <= {2}  # L2 has nothing older
    assert set(t.get_many(keys).values()) == {2}


def test_a_cap_on_loads(tiers: Far, proxy: FaultProxy) -> None:
    """Without L2 as a shield not all misses may go to the source at once."""
    source = Source()
    t = tiers.far(source, ttl=60, max_loads=3)
    t.get("hears")
    proxy.refuse()
    proxy.reset()
    for number in range(100, 110):
        t.get(number)
    until(lambda: t.cache._core.gate.open)
    source.taken()
    source.gate.clear()
    calls = [Thread(t.get, number) for number in range(12)]
    until(lambda: len(source.loads) == 3)
    assert threading.Event().wait(0.1) is False  # time for more to come, if they could
    assert len(source.loads) == 3
    source.gate.set()
    for call in calls:
        assert call.result() is None
    assert sorted(source.loads) == list(range(12))


def test_the_cap_counts_bulk_loads_too(tiers: Far, proxy: FaultProxy) -> None:
    source = Source()
    many = tiers.many(source)
    t = tiers.far(many, ttl=60, max_loads=2)
    t.get("hears")
    proxy.refuse()
    proxy.reset()
    for number in range(100, 110):
        t.get(number)
    until(lambda: t.cache._core.gate.open)
    source.gate.clear()
    calls = [Thread(t.get_many, [(number, 1), (number, 2)]) for number in range(8)]
    until(lambda: len(many.asked) == 2)
    assert threading.Event().wait(0.1) is False  # time for more to come, if they could
    assert len(many.asked) == 2
    source.gate.set()
    for call in calls:
        assert call.result() == {}
    assert len(many.asked) == 8


def test_what_a_load_loads_waits_for_no_place(tiers: Far, proxy: FaultProxy) -> None:
    """All places are with loads that wait for others."""
    both = threading.Barrier(2)

    def outer(key: Any) -> int:
        both.wait(30)
        return 1

    caches: list[Any] = []
    if tiers.face.asynchronous:
        first = tiers.face.function(outer)

        async def load(key: Any) -> int:
            if isinstance(key, tuple):
                return 2
            await first(key)
            inner: int = await caches[0].get((key,))
            return inner

    else:

        def load(key: Any) -> int:  # type: ignore[misc]
            if isinstance(key, tuple):
                return 2
            outer(key)
            inner: int = caches[0].get((key,))
            return inner

    t = tiers.far(load, ttl=60, max_loads=2, wait_timeout=60)
    caches.append(t.cache)
    t.get((0,))
    proxy.refuse()
    proxy.reset()
    for number in range(100, 110):
        t.get((number,))
    until(lambda: t.cache._core.gate.open)
    for call in [Thread(t.get, key) for key in "ab"]:
        assert call.result() == 2


def test_l2_is_not_there_from_the_start(tiers: Far, proxy: FaultProxy) -> None:
    proxy.refuse()
    source = Source(a=1)
    t = tiers.far(source, ttl=60)
    assert t.get("a") == 1
    assert t.get("a") == 1
    assert source.taken() == ["a"]
    assert t.stats().state in ("degraded", "down")
    proxy.heal()
    until(lambda: t.stats().state == "healthy")
    t.set("b", 1)
    assert tiers().get("b") == 1


def test_a_bit_that_flips_is_no_wrong_value(tiers: Far, proxy: FaultProxy) -> None:
    source = Source(a="right" * 20)
    tiers(source, ttl=60).get("a")
    t = tiers.far(source, ttl=60)
    t.get("hears")
    for byte in (30, 60, 90, 120):
        proxy.flip(byte)
        assert t.get("a") == "right" * 20
        proxy.heal()
        t.l1.delete("a")
    assert t.get("a") == "right" * 20


def test_a_full_house_of_l1_survives_a_short_gap(tiers: Far, proxy: FaultProxy) -> None:
    source = Source(**{f"k{i}": 1 for i in range(100)})
    t = tiers.far(source, ttl=600, l1=Cache(1000))
    t.get_many(list(source.data))
    source.taken()
    proxy.reset()
    until(lambda: t.stats().state == "healthy" and t.stats().trust > 2)
    assert len(t.get_many(list(source.data))) == 100
    assert source.taken() == []
