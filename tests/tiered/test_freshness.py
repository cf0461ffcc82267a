"""How long values live: what is left on promotion, l1_ttl, jitter, stale, grace, time-outs, early and refresh.

Times are short and real, since L2's clock cannot be moved; conditions are polled for.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from tiered.support import Source, Thread, Tiers, until


def passed(began: float, seconds: float) -> None:
    """Give the clock its time."""
    until(lambda: time.monotonic() >= began + seconds)


def test_promotion_keeps_what_is_left(tiers: Tiers) -> None:
    t = tiers(Source(a=1), ttl=1.2)
    other = tiers(Source(a=2), ttl=1.2)
    other.get("hears")
    t.get("a")
    began = time.monotonic()
    passed(began, 0.6)
    assert other.get("a") == 1
    left = other.l1.ttl("a")
    assert 0 < left <= 0.6
    until(lambda: other.get("a") == 2)
    assert time.monotonic() - began < 10


def test_nothing_is_served_past_its_ttl(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source, ttl=0.3), tiers(source, ttl=0.3)
    for _ in range(3):
        source.data["a"] = time.monotonic()
        t.invalidate("a")
        t.get("a")
        while True:
            before = time.monotonic()
            value = other.get("a")
            if value is None or before - value > 0.6:
                break
            assert before - value <= 0.35, "served past its ttl"
            source.data["a"] = time.monotonic()
            if before - value > 0.25:
                until(lambda value=value: other.get("a") != value, 5)
                break


def test_l1_ttl_is_shorter(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source, ttl=60, l1_ttl=0.5), tiers(source, ttl=60, l1_ttl=0.5)
    for tier in (t, other):
        tier.get("hears")
    source.taken()
    for tier, key, bring in (
        (t, "a", t.get),
        (t, "b", lambda key: t.set(key, 1)),
        (other, "a", other.get),
    ):
        bring(key)
        assert 0 < tier.l1.ttl(key) <= 0.5
        until(lambda tier=tier, key=key: key not in tier.l1)
        assert tier.get(key) == 1
    assert source.taken() == ["a"]
    assert t.stats().l2.hits >= 2


def test_without_anybody_to_tell_l1_keeps_nothing_long(tiers: Tiers) -> None:
    t = tiers(Source(a=1), ttl=60, level="eventual")
    t.get("a")
    assert 0 < t.l1.ttl("a") <= 5.0
    t.set("b", 1)
    assert 0 < t.l1.ttl("b") <= 5.0
    assert 50 < tiers(ttl=60).l1.ttl("a") if tiers(ttl=60).held() else True
    bounded = tiers(ttl=60)
    bounded.get("a")
    assert 50 < bounded.l1.ttl("a") <= 60


def test_jitter_only_shortens(tiers: Tiers) -> None:
    source = Source()
    source.data = {i: i for i in range(40)}
    t = tiers(source, ttl=100, jitter=0.5)
    for i in range(20):
        t.get(i)
        t.set(f"s{i}", i)
    t.get_many(range(20, 40))
    lefts = [t.l1.ttl(key) for key in t.held()]
    assert len(lefts) == 60
    assert all(49 < left <= 100 for left in lefts)
    assert max(lefts) - min(lefts) > 10
    t.set_many({f"m{i}": i for i in range(20)})
    set_at_once = [t.l1.ttl(f"m{i}") for i in range(20)]
    assert max(set_at_once) - min(set_at_once) > 10
    # one ttl for both tiers
    other = tiers()
    other.get_many(range(40))
    for i in range(40):
        assert other.l1.ttl(i) <= t.l1.ttl(i) + 0.1


def test_stale_is_served_while_it_is_renewed(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=0.2, stale=60)
    assert t.get("a") == 1
    began = time.monotonic()
    passed(began, 0.25)
    source.data["a"] = 2
    source.gate.clear()
    assert t.get("a") == 1  # at once, though the load is held back
    until(lambda: len(source.loads) == 2)
    assert t.get("a") == 1
    assert len(source.loads) == 2
    source.gate.set()
    until(lambda: t.get("a") == 2)


def test_stale_comes_from_l2_too(tiers: Tiers) -> None:
    source = Source(a=1)
    tiers(source, ttl=0.2, stale=60).get("a")
    began = time.monotonic()
    passed(began, 0.25)
    source.data["a"] = 2
    source.gate.clear()
    other = tiers(source, ttl=0.2, stale=60)
    assert other.get("a") == 1
    assert other.stats().stale >= 1
    source.gate.set()
    until(lambda: other.get("a") == 2)
    # who wants nothing stale does not get it
    strict = tiers(Source(a=3), ttl=0.2)
    began = time.monotonic()
    passed(began, 0.25)
    assert strict.get("a") == 3


def test_stale_has_an_end(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=0.1, stale=0.2)
    t.get("a")
    began = time.monotonic()
    passed(began, 0.4)
    source.data["a"] = 2
    assert t.get("a") == 2
    assert tiers(source).get("a") == 2


def test_what_was_invalidated_is_never_served_stale(tiers: Tiers) -> None:
    source = Source(a=1)
    options: dict[str, Any] = {"ttl": 0.2, "stale": 60, "grace": 60}
    t, other = tiers(source, **options), tiers(source, **options)
    assert (t.get("a"), other.get("a")) == (1, 1)
    source.data["a"] = 2
    t.invalidate("a")
    source.error = RuntimeError("no database")
    for tier in (t, other):
        until(lambda tier=tier: "a" not in tier.l1)
        with pytest.raises(RuntimeError):
            tier.get("a")
    source.error = None
    assert (t.get("a"), other.get("a")) == (2, 2)


def test_grace_serves_when_the_loader_fails(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    source = Source(a=1)
    t, other = tiers(source, ttl=0.2, grace=60), tiers(source, ttl=0.2, grace=60)
    assert t.get("a") == 1
    began = time.monotonic()
    passed(began, 0.25)
    source.error = RuntimeError("no database")
    with caplog.at_level(logging.WARNING, "fastcache"):
        assert t.get("a") == 1
        assert other.get("a") == 1  # from L2
    assert "older value" in caplog.text
    with pytest.raises(RuntimeError):
        t.get("b")
    assert t.stats().stale == other.stats().stale == 1
    source.error = None
    source.data["a"] = 2
    until(lambda: t.get("a") == 2)
    until(lambda: other.get("a") == 2)


def test_in_grace_a_source_that_is_down_is_left_alone(
    tiers: Tiers, caplog: pytest.LogCaptureFixture
) -> None:
    """Also for what L2 alone has: one try a second for each key; and one warning, for however many keys."""
    source = Source()
    source.data = {i: i for i in range(50)}
    tiers(source, ttl=0.2, grace=60).get_many(range(50))
    began = time.monotonic()
    passed(began, 0.25)
    source.error = RuntimeError("no database")
    other = tiers(source, ttl=0.2, grace=60)
    source.taken()
    with caplog.at_level(logging.WARNING, "fastcache"):
        began = time.monotonic()
        for _ in range(3):
            assert [other.get(i) for i in range(50)] == list(range(50))
        seconds = int(time.monotonic() - began)
    assert len(source.taken()) <= 50 * (1 + seconds)
    assert caplog.text.count("older value") <= 1 + seconds // 10
    # and what was invalidated is not served by it
    other.invalidate(0)
    with pytest.raises(RuntimeError):
        other.get(0)


def test_grace_is_not_stale(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=0.2, grace=60)
    t.get("a")
    began = time.monotonic()
    passed(began, 0.25)
    source.data["a"] = 2
    assert t.get("a") == 2
    assert tiers(source, ttl=0.2, grace=60).get("a") == 2


def test_soft_timeout(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=0.2, grace=60, soft_timeout=0.05)
    assert t.get("a") == 1
    began = time.monotonic()
    passed(began, 0.25)
    source.data["a"] = 2
    source.gate.clear()
    assert t.get("a") == 1
    source.gate.set()
    until(lambda: t.get("a") == 2)


@pytest.mark.parametrize(("option", "seconds"), [("soft_timeout", 0.05), ("hard_timeout", 1.0)])
def test_time_outs_serve_what_l2_alone_has(tiers: Tiers, option: str, seconds: float) -> None:
    source = Source(a=1, b=1)
    tiers(source, ttl=0.2, grace=60).get_many(["a", "b"])
    began = time.monotonic()
    passed(began, 0.25)
    source.data.update(a=2, b=2)
    source.gate.clear()
    other = tiers(source, ttl=60, grace=60, **{option: seconds})
    assert other.get("a") == 1
    second = Thread(other.get, "a")  # who waits for the same load
    assert second.result() == 1
    assert other.stats().stale == 2
    assert source.taken() == ["a", "b", "a"]
    # an invalidation ends it, for those that come after
    other.invalidate("a")
    call = Thread(other.get, "a")
    until(lambda: source.loads == ["a"])
    if option == "hard_timeout":
        with pytest.raises(TimeoutError):
            call.result()
    source.gate.set()
    if option == "soft_timeout":
        assert call.result() == 2
    until(lambda: other.get("b") == 2)


def test_hard_timeout(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t = tiers(source, hard_timeout=0.1)
    with pytest.raises(TimeoutError, match="hard_timeout"):
        t.get("a")
    with pytest.raises(TimeoutError, match="hard_timeout"):
        t.get("a")
    assert source.loads == ["a"]  # one load, which goes on
    source.gate.set()
    until(lambda: "a" in t.l1)
    assert t.get("a") == 1


def test_refresh_ahead(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=2.0, refresh=0.1)
    assert t.get("a") == 1
    source.data["a"] = 2
    began = time.monotonic()
    seen = []
    until(lambda: seen.append(t.get("a")) or seen[-1] == 2)
    assert time.monotonic() - began < 1.9, "it was renewed at its end only"
    assert set(seen) == {1, 2}
    assert tiers(source).get("a") == 2


def test_refresh_of_what_came_from_l2(tiers: Tiers) -> None:
    source = Source(a=1)
    tiers(source, ttl=2.0).get("a")
    other = tiers(source, ttl=2.0, refresh=0.1, stale=60)
    began = time.monotonic()
    assert other.get("a") == 1
    assert other.get("a") == 1
    source.data["a"] = 2
    until(lambda: other.get("a") == 2)
    assert time.monotonic() - began < 1.9
    source.taken()
    assert [other.get("a") for _ in range(20)] == [2] * 20
    assert source.taken() == []


def test_early_recomputation(tiers: Tiers) -> None:
    """At this beta a hit renews nearly always; it is behind the caller's back."""
    source = Source(a=1)
    t = tiers(source, ttl=60, early=1e9)
    assert t.get("a") == 1
    source.data["a"] = 2
    until(lambda: t.get("a") == 2)
    assert tiers(source).get("a") == 2


def test_a_fresh_value_is_not_loaded_again_by_hits(tiers: Tiers) -> None:
    source = Source(a=1)
    options: dict[str, Any] = {"ttl": 60, "refresh": 0.9, "early": 1.0, "stale": 30, "grace": 300}
    t, other = tiers(source, **options), tiers(source, **options)
    for _ in range(20):
        assert (t.get("a"), other.get("a")) == (1, 1)
    assert source.taken() == ["a"]


def test_others_renewals_reach_l1(tiers: Tiers) -> None:
    """Its own copy is due as well: it takes the newer one from L2, without a load."""
    source = Source(a=1)
    t, other = tiers(source, ttl=0.4), tiers(ttl=0.4)
    assert (t.get("a"), other.get("a")) == (1, 1)
    source.data["a"] = 2
    until(lambda: t.get("a") == 2)
    until(lambda: other.get("a") in (2, None))


def test_a_load_outlives_its_impatient_caller(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t = tiers(source, ttl=60, hard_timeout=0.1)
    calls = [Thread(t.get, "a") for _ in range(3)]
    for call in calls:
        with pytest.raises(TimeoutError):
            call.result()
    source.gate.set()
    until(lambda: "a" in t.l1)
    assert source.loads == ["a"]
    assert tiers().get("a") == 1
