"""Time to live and time to idle: DESIGN's "Time", sentence by sentence."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

import pytest
from _support import Recorder, snapshot

from fastcache import Cache
from fastcache.testing import FakeClock

POLICIES = ["lru", "fifo", "lfu"]
DAY = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


def test_dead_at_now_equal_to_the_deadline(clock: FakeClock) -> None:
    """Dead at `now >= deadline`."""
    cache: Cache[str, int] = Cache(3, ttl=10, clock=clock)
    cache["a"] = 1
    clock.advance(9.5)
    assert (
        cache.get("a") == 1
        and "a" in cache
        and cache.peek("a") == 1
        and cache.ttl("a") == pytest.approx(0.5)
    )
    clock.advance(0.5)
    assert "a" not in cache and cache.get("a") is None and cache.peek("a") is None
    for absent in (cache.ttl, cache.entry, cache.__getitem__, cache.__delitem__, cache.pop):
        with pytest.raises(KeyError):
            absent("a")
    assert cache.touch("a") is False and cache.delete("a") is False


def test_ttl_per_entry_beats_the_default(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    cache.set("short", 1, ttl=1)
    cache.set("long", 1, ttl=100)
    cache.set("forever", 1, ttl=None)
    cache.set("infinite", 1, ttl=math.inf)
    cache.set("default", 1)
    clock.advance(1)
    assert set(cache) == {"long", "forever", "infinite", "default"}
    clock.advance(9)
    assert set(cache) == {"long", "forever", "infinite"}
    clock.advance(90)
    assert set(cache) == {"forever", "infinite"}
    clock.advance(1e9)
    assert set(cache) == {"forever", "infinite"}
    assert cache.ttl("forever") is None and cache.ttl("infinite") is None


def test_ttl_runs_from_the_write_not_from_the_read(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    cache["a"] = 1
    for _ in range(9):
        clock.advance(1)
        assert cache["a"] == 1
    clock.advance(1)
    assert "a" not in cache


def test_tti_runs_from_the_last_access(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, tti=10, clock=clock)
    cache["a"] = 1
    for _ in range(20):
        clock.advance(9)
        assert cache["a"] == 1
    clock.advance(10)
    assert cache.get("a") is None


@pytest.mark.parametrize(
    "access",
    [
        lambda c: c["a"],
        lambda c: c.get("a"),
        lambda c: c.get_many(["a"]),
        lambda c: c.setdefault("a", 0),
        lambda c: c.get_or_set("a", lambda: 0),
        lambda c: c.set("a", 1),
        lambda c: c.__setitem__("a", 1),
        lambda c: c.touch("a"),
        lambda c: c.update(a=1),
        lambda c: c.set_many({"a": 1}),
    ],
)
def test_what_restarts_the_idle_time(access: Any, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, tti=10, clock=clock)
    cache["a"] = 1
    clock.advance(9)
    access(cache)
    clock.advance(9)
    assert "a" in cache
    clock.advance(1)
    assert "a" not in cache


@pytest.mark.parametrize(
    "look",
    [
        lambda c: "a" in c,
        lambda c: c.peek("a"),
        lambda c: c.entry("a"),
        lambda c: c.ttl("a"),
        lambda c: list(c),
        lambda c: list(c.items()),
        lambda c: list(c.values()),
        lambda c: c.coldest(),
        lambda c: c.add("a", 5),
        lambda c: repr(c),
        lambda c: c == {"a": 1},
        lambda c: c.expire(),
        lambda c: c.stats(),
    ],
)
def test_looking_does_not_restart_the_idle_time(look: Any, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, tti=10, clock=clock)
    cache["a"] = 1
    clock.advance(9)
    look(cache)
    assert "a" in cache
    clock.advance(1)
    assert "a" not in cache


def test_ttl_and_tti_together(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=20, tti=6, clock=clock)
    cache["busy"] = cache["idle"] = 1
    for _ in range(3):
        clock.advance(5)
        assert cache["busy"] == 1
    assert "idle" not in cache
    clock.advance(5)  # the idle time would allow it, the time to live does not
    assert "busy" not in cache


def test_tti_per_entry(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, tti=5)
    cache.set("b", 1)
    clock.advance(4)
    assert cache["a"] == 1
    clock.advance(4)
    assert cache["a"] == 1 and cache.ttl("a") == 5
    clock.advance(5)
    assert set(cache) == {"b"}


def test_overwriting_resets_the_options_to_the_defaults(clock: FakeClock) -> None:
    """Overwriting [...] resets ttl, tti, weight and tags to the cache's defaults."""
    cache: Cache[str, int] = Cache(99, ttl=10, clock=clock)
    cache.set("a", 1, ttl=100, tti=50, weight=7, tags=["t"])
    cache["a"] = 2
    entry = cache.entry("a")
    assert entry.ttl == 10 and entry.tti is None and entry.weight == 1 and not entry.tags
    cache.invalidate_tag("t")
    assert cache["a"] == 2
    clock.advance(10)
    assert "a" not in cache


def test_overwriting_with_ttl_none_is_for_ever(clock: FakeClock) -> None:
    """`ttl=None` is for ever, omitted is the default."""
    cache: Cache[str, int] = Cache(99, ttl=10, tti=10, clock=clock)
    cache["a"] = 1
    cache.set("a", 2, ttl=None, tti=None)
    clock.advance(1e6)
    assert cache["a"] == 2 and cache.ttl("a") is None
    cache.set("a", 3)
    assert cache.ttl("a") == 10


@pytest.mark.parametrize("option", ["ttl", "tti"])
@pytest.mark.parametrize("zero", [0, 0.0, timedelta(0), -0.0])
def test_zero_stores_nothing_and_removes_the_old_entry(
    option: str, zero: Any, clock: FakeClock
) -> None:
    """0 stores nothing and removes the old entry."""
    recorder = Recorder()
    cache: Cache[str, int] = Cache(9, clock=clock, listener=recorder)
    cache.set("new", 1, **{option: zero})
    assert len(cache) == 0 and "new" not in cache
    cache["a"] = 1
    recorder.take()
    cache.set("a", 2, **{option: zero})
    assert "a" not in cache and cache.get("a") is None
    cache.expire()
    assert [event[:2] for event in recorder.take() if event[1] == 1] == [("a", 1)]
    assert cache.get_or_set("b", lambda: 5, **{option: zero}) == 5 and "b" not in cache
    cache._check()


@pytest.mark.parametrize("option", ["ttl", "tti"])
def test_zero_as_the_default_stores_nothing(option: str, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, clock=clock, **{option: 0})
    cache["a"] = 1
    assert "a" not in cache and cache.get_or_set("a", lambda: 5) == 5 and "a" not in cache
    cache.set("a", 1, **{option: 5})
    assert cache["a"] == 1
    cache["a"] = 2
    assert "a" not in cache
    cache._check()


@pytest.mark.parametrize("option", ["ttl", "tti"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        math.inf,
        2**63,
        1e300,
        1e12,
        2**63 - 1,
        10**30,
        timedelta.max,
        150 * 365.25 * DAY,
    ],
)
def test_for_ever(option: str, value: Any, clock: FakeClock) -> None:
    """None or inf (or more than about 146 years) = for ever."""
    cache: Cache[str, int] = Cache(9, clock=clock, **{option: value})
    cache["a"] = 1
    cache.set("b", 1, **{option: value})
    clock.advance(1e9)
    assert set(cache) == {"a", "b"} and cache.ttl("a") is None and cache.ttl("b") is None


@pytest.mark.parametrize("years", [1, 10, 50, 100, 140])
def test_long_times_are_kept(years: int, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=years * 365 * DAY, clock=clock)
    cache["a"] = 1
    clock.advance(years * 365 * DAY - 1)
    assert "a" in cache
    clock.advance(1)
    assert "a" not in cache
    assert cache.expire() == [("a", 1)] or cache.stats().expirations == 1


def test_timedelta(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(
        9, ttl=timedelta(minutes=1), tti=timedelta(seconds=30), clock=clock
    )
    cache["a"] = 1
    assert cache.ttl("a") == 30  # whichever ends first
    cache.set("a", 1, tti=None)
    assert cache.ttl("a") == 60
    cache.set("a", 1, ttl=timedelta(milliseconds=1500))
    assert cache.ttl("a") == pytest.approx(1.5)
    cache.set("a", 1, ttl=timedelta(days=1), tti=None)
    assert cache.ttl("a") == DAY


def test_numbers_of_other_types_are_times_too(clock: FakeClock) -> None:
    from fractions import Fraction

    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, ttl=Fraction(5, 2))
    assert cache.ttl("a") == pytest.approx(2.5)


@pytest.mark.parametrize(
    "ttl", [0.001, 0.0015, 0.05, 0.1, 1.0, 3.3, 59.999, 3600.25, 86_400.0, 1e7]
)
def test_exact_with_a_users_clock(ttl: float, clock: FakeClock) -> None:
    """An entry dies up to one tick early, never late (a tick: at most 10 ms, at most a tenth of the ttl)."""
    cache: Cache[str, int] = Cache(9, ttl=ttl, clock=clock)
    start = clock.now
    cache["a"] = 1
    clock.now = start + ttl - min(0.01, ttl / 10)
    assert "a" in cache
    clock.now = start + ttl * (1 + 1e-9) + 1e-6
    assert "a" not in cache


def test_ttl_left(clock: FakeClock) -> None:
    """`ttl(key)`: seconds left (None = for ever, KeyError = absent)."""
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, ttl=10)
    cache.set("b", 1)
    clock.advance(4)
    assert cache.ttl("a") == pytest.approx(6, abs=0.01) and cache.ttl("b") is None
    with pytest.raises(KeyError) as raised:
        cache.ttl("c")
    assert raised.value.args == ("c",)
    assert isinstance(cache.ttl("a"), float)


def test_touch_renews(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    cache["a"] = 1
    clock.advance(9)
    assert cache.touch("a") is True and cache.ttl("a") == 10
    assert cache.touch("a", ttl=100) is True and cache.ttl("a") == 100
    assert cache.touch("a", ttl=None) is True and cache.ttl("a") is None
    assert cache.touch("a") is True and cache.ttl("a") == 10
    assert cache.touch("absent") is False and cache.touch("absent", ttl=5) is False
    assert cache.peek("a") == 1


def test_touch_without_a_default_is_for_ever(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("a", 1, ttl=5)
    assert cache.touch("a") and cache.ttl("a") is None


def test_touch_with_zero_removes(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    cache["a"] = 1
    assert cache.touch("a", ttl=0) is True
    assert "a" not in cache and cache.touch("a") is False
    cache._check()


def test_touch_counts_nothing_and_does_not_promote(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    cache["a"] = cache["b"] = 1
    before = cache.stats()
    cache.touch("a")
    cache.touch("absent")
    assert cache.stats() == before and cache.coldest() == ["a", "b"]


def test_touch_keeps_value_weight_and_tags(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(99, ttl=10, clock=clock)
    cache.set("a", 1, weight=5, tags=["t"], tti=70)
    cache.touch("a", ttl=50)
    entry = cache.entry("a")
    assert (entry.value, entry.weight, list(entry.tags), entry.ttl, entry.tti) == (
        1,
        5,
        ["t"],
        50,
        70,
    )


# ---------------------------------------------------------------- the dead as victims


@pytest.mark.parametrize("policy", POLICIES)
def test_dead_ones_are_victims_before_live_ones(policy: str, clock: FakeClock) -> None:
    """Dead ones are victims before live ones."""
    recorder = Recorder()
    cache: Cache[str, int] = Cache(4, policy=policy, clock=clock, listener=recorder)
    for key in "ab":
        cache[key] = 1
    for key in "xy":
        cache.set(key, 1, ttl=5)
        cache.get(key)
    clock.advance(5)
    cache["c"] = 1
    cache["d"] = 1
    assert set(cache) == {"a", "b", "c", "d"}
    cache.expire()
    assert sorted(recorder.take()) == [("x", 1, "expired"), ("y", 1, "expired")]
    assert cache.stats().evictions == 0 and cache.stats().expirations == 2
    cache["e"] = 1
    assert cache.stats().evictions == 1
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
def test_tag_dead_ones_are_victims_before_live_ones(policy: str) -> None:
    cache: Cache[int, int] = Cache(100, policy=policy)
    for key in range(50):
        cache[key] = key
    for key in range(50, 100):
        cache.set(key, key, tags=["t"])
    cache.invalidate_tag("t")
    for key in range(100, 150):
        cache[key] = key
        assert len(cache) <= 100
    assert set(cache) == set(range(50)) | set(range(100, 150))
    cache._check()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("others", [1, 10, 60, 1000])
def test_a_dead_one_behind_many_renewed_ones_is_the_victim(
    policy: str, others: int, clock: FakeClock
) -> None:
    """Dead ones are victims before live ones, however many idle times were renewed meanwhile."""
    cache: Cache[Any, int] = Cache(others + 1, policy=policy, tti=10, clock=clock)
    for key in range(others):
        cache[key] = key
    cache["dead"] = -1
    clock.advance(5)
    for key in range(others):
        cache.get(key)
    clock.advance(5)
    cache["new"] = 1
    assert set(cache) == {*range(others), "new"}
    assert cache.stats().evictions == 0 and cache.stats().expirations == 1
    cache._check()


def test_popitem_evict_and_order_pass_over_the_dead(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("dead", 1, ttl=1)
    cache["live"] = 2
    clock.advance(1)
    assert cache.coldest() == ["live"] and cache.popitem() == ("live", 2)
    with pytest.raises(KeyError):
        cache.popitem()


# ---------------------------------------------------------------- reclaiming


def test_expired_entries_are_reclaimed_without_being_touched(clock: FakeClock) -> None:
    """Expired entries are reclaimed without being touched [...] in bounded steps per call."""
    recorder = Recorder()
    cache: Cache[Any, int] = Cache(None, clock=clock, listener=recorder)
    for key in range(1000):
        cache.set(key, key, ttl=10)
    clock.advance(11)
    most = 0
    for step in range(20_000):
        cache.set("other", step)
        expired = [event for event in recorder.take() if event[2] == "expired"]
        most = max(most, len(expired))
        if len(cache) == 1:
            break
    assert len(cache) == 1 and cache.stats().expirations == 1000
    assert most < 500
    cache._check()


def test_expire_returns_the_pairs_it_removed(clock: FakeClock) -> None:
    """`expire` returns the pairs it removed."""
    cache: Cache[int, str] = Cache(None, clock=clock)
    for key in range(50):
        cache.set(key, str(key), ttl=key + 1)
    assert cache.expire() == []
    clock.advance(10)
    assert sorted(cache.expire()) == [(k, str(k)) for k in range(10)]
    assert cache.expire() == [] and len(cache) == 40
    clock.advance(30)
    first = cache.expire(limit=12)
    assert len(first) == 12 and len(cache) == 28
    assert cache.expire(0) == []
    rest = cache.expire(limit=100)
    assert sorted(first + rest) == [(k, str(k)) for k in range(10, 40)]
    assert cache.stats().expirations == 40
    cache._check()


def test_expire_far_over_the_whole_range(clock: FakeClock) -> None:
    cache: Cache[int, int] = Cache(None, clock=clock)
    times = [0.002 * 3**power for power in range(26)]  # 2 ms to about 80 years
    start = clock.now
    for index, ttl in enumerate(times):
        cache.set(index, index, ttl=ttl)
    for index, ttl in enumerate(times):
        clock.now = start + ttl * (1 + 1e-9) + 0.001
        assert index not in cache
        cache.expire()
        assert len(cache) == len(times) - index - 1
        cache._check()


def test_a_jump_over_everything(clock: FakeClock) -> None:
    cache: Cache[int, int] = Cache(None, clock=clock)
    for key in range(3000):
        cache.set(key, key, ttl=0.01 + key * key * 0.37)
    clock.advance(100 * 365 * DAY)
    assert len(cache.expire()) == 3000 and len(cache) == 0
    cache._check()


def test_rescheduling_leaves_nothing_behind(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(None, clock=clock)
    cache.set("a", 1, ttl=100)
    before = cache.nbytes + 8 * 64 * 8  # the wheel may need more of its levels
    for step in range(5000):
        cache.set("a", step, ttl=1 + step % 997)
        clock.advance(0.25)
    assert cache.nbytes <= before
    cache.touch("a", ttl=None)
    clock.advance(1e6)
    assert cache.expire() == [] and cache["a"] == 4999
    cache._check()


# ---------------------------------------------------------------- jitter


def test_jitter_only_ever_shortens() -> None:
    """Jitter (a fraction, only ever shortens)."""
    clock = FakeClock()
    cache: Cache[int, int] = Cache(None, ttl=1000, jitter=0.25, clock=clock)
    for key in range(2000):
        cache[key] = key
    left = [cache.ttl(key) for key in cache]
    assert all(value is not None and 750 - 0.1 <= value <= 1000 for value in left)
    assert len(set(left)) > 1000
    assert (
        min(v for v in left if v is not None) < 780 and max(v for v in left if v is not None) > 970
    )


def test_jitter_of_one_and_of_zero() -> None:
    clock = FakeClock()
    exact: Cache[int, int] = Cache(None, ttl=1000, jitter=0, clock=clock)
    loose: Cache[int, int] = Cache(None, ttl=1000, jitter=1.0, clock=clock)
    for key in range(500):
        exact[key] = loose[key] = key
        assert key in exact
    assert {exact.ttl(key) for key in exact} == {1000.0}
    assert all(0 < (loose.ttl(key) or 0) <= 1000 for key in loose)


def test_jitter_applies_to_the_ttl_of_an_entry_too() -> None:
    clock = FakeClock()
    cache: Cache[int, int] = Cache(None, jitter=0.5, clock=clock)
    for key in range(200):
        cache.set(key, key, ttl=100)
    left = {cache.ttl(key) for key in cache}
    assert len(left) > 100 and all(value is not None and 49.9 <= value <= 100 for value in left)


# ---------------------------------------------------------------- clocks


def test_the_default_clock_is_monotonic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall-clock jumps change nothing."""
    cache: Cache[str, int] = Cache(9, ttl=3600)
    cache["a"] = 1
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + DAY)
    assert cache["a"] == 1 and 3590 < (cache.ttl("a") or 0) <= 3600
    monkeypatch.setattr(time, "time", lambda: real() - DAY)
    assert cache["a"] == 1 and 3590 < (cache.ttl("a") or 0) <= 3600


@pytest.mark.parametrize("ttl", [0.02, 0.06, 0.15])
def test_with_the_real_clock_never_late(ttl: float) -> None:
    """An entry dies up to one tick early, never late; a precise clock for ttl under 0.1 s."""
    cache: Cache[str, int] = Cache(9, ttl=ttl)
    cache["a"] = 1
    stored = time.monotonic()  # taken after: the deadline is at most ttl later
    while time.monotonic() - stored < ttl * 1.001 + 0.0001:
        cache.get("a")
    assert "a" not in cache and cache.get("a") is None


def test_with_the_real_clock_at_most_a_tick_early() -> None:
    for _ in range(20):  # one honest run is enough: the machine may stop us between two lines
        before = time.monotonic()
        cache: Cache[str, int] = Cache(9, ttl=0.08)
        cache["a"] = 1
        while "a" in cache:
            pass
        if time.monotonic() - before >= 0.08 - 0.012:
            return
    pytest.fail("always more than a tick early")


def test_a_users_clock_is_called_before_the_probe_and_may_raise() -> None:
    """Is called before the probe, and if it raises nothing has changed."""

    class Broken(Exception):
        pass

    broken = False

    def clock() -> float:
        if broken:
            raise Broken
        return 5.0

    cache: Cache[str, int] = Cache(3, ttl=10, clock=clock)
    cache["a"], cache["b"] = 1, 2
    before = snapshot(cache)
    broken = True
    calls: list[Any] = [
        lambda: cache["a"],
        lambda: cache.get("a"),
        lambda: cache.set("a", 5),
        lambda: cache.set("c", 5),
        lambda: cache.__setitem__("a", 7),
        lambda: cache.touch("a"),
        lambda: cache.add("c", 1),
        lambda: cache.incr("a"),
        lambda: cache.get_or_set("a", lambda: 1),
        lambda: cache.get_or_set("z", lambda: 1),
        lambda: cache.get_many(["a", "b"]),
        lambda: cache.set_many({"a": 5}),
        lambda: cache.setdefault("a", 1),
        lambda: cache.expire(),
        lambda: cache.ttl("a"),
        lambda: cache.entry("a"),
        lambda: cache.peek("a"),
        lambda: "a" in cache,
        lambda: cache.set("a", 5, ttl=1),
    ]
    for call in calls:
        with pytest.raises(Broken):
            call()
        cache._check()
    broken = False
    assert snapshot(cache) == before


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        ("5", TypeError),
        (None, TypeError),
        (1j, TypeError),
        ([], TypeError),
    ],
)
def test_a_clock_must_return_a_finite_real(result: Any, error: type[Exception]) -> None:
    now: Any = 5.0
    cache: Cache[str, int] = Cache(3, ttl=10, clock=lambda: now)
    cache["a"] = 1
    before = snapshot(cache)
    now = result
    for call in (
        lambda: cache["a"],
        lambda: cache.set("a", 2),
        lambda: cache.set("b", 2),
        lambda: cache.touch("a"),
    ):
        with pytest.raises(error, match="clock") as raised:
            call()
        assert repr(result) in str(raised.value)
    now = 5.0
    assert snapshot(cache) == before
    cache._check()


def test_a_clock_may_return_an_int() -> None:
    now: Any = 5
    cache: Cache[str, int] = Cache(3, ttl=10, clock=lambda: now)
    cache["a"] = 1
    now = 14
    assert cache["a"] == 1
    now = 15
    assert "a" not in cache


def test_a_clock_that_goes_backwards() -> None:
    """A user clock that goes backwards: no crash."""
    import random

    rng = random.Random(3)
    now = 1000.0
    cache: Cache[int, int] = Cache(50, ttl=10, tti=5, clock=lambda: now)
    for step in range(5000):
        now = rng.choice([0.0, -1000.0, 1000.0, now + 1, now - 1, 1e9, -1e9, now])
        cache[step % 70] = step
        cache.get(rng.randrange(70))
        if step % 100 == 0:
            cache._check()
    now = 1e9
    cache.clear()
    cache[1] = 1
    assert cache[1] == 1


def test_backwards_keeps_what_is_alive() -> None:
    now = 1000.0
    cache: Cache[str, int] = Cache(3, ttl=10, clock=lambda: now)
    cache["a"] = 1
    now = 500.0
    assert cache["a"] == 1
    cache["b"] = 2
    assert cache["b"] == 2
    cache._check()


@pytest.mark.parametrize("start", [0.0, -5.0, 1e9, 1.7e9, 1e-9])
def test_any_origin_of_the_clock(start: float) -> None:
    clock = FakeClock(start)
    cache: Cache[str, int] = Cache(3, ttl=10, clock=clock)
    cache["a"] = 1
    clock.advance(9)
    assert cache["a"] == 1
    clock.advance(1)
    assert cache.get("a") is None


def test_a_clock_may_use_the_cache() -> None:
    def clock() -> float:
        len(cache)
        cache.coldest() if False else None
        return 1.0

    cache: Cache[str, int] = Cache(3, ttl=10, clock=clock)
    cache["a"] = 1
    assert cache["a"] == 1
    cache._check()


def test_fake_clock() -> None:
    clock = FakeClock()
    assert clock() == 0.0
    clock.advance(1.5)
    assert clock() == 1.5 == clock.now
    clock.now = 7.0
    assert clock() == 7.0


# ---------------------------------------------------------------- every way in keeps time


@pytest.mark.parametrize(
    "store",
    [
        lambda c: c.__setitem__("a", 1),
        lambda c: c.set("a", 1),
        lambda c: c.add("a", 1),
        lambda c: c.update(a=1),
        lambda c: c.setdefault("a", 1),
        lambda c: c.set_many({"a": 1}),
        lambda c: c.set_many([("a", 1)]),
        lambda c: c.get_or_set("a", lambda: 1),
        lambda c: c.incr("a"),
    ],
)
def test_every_way_to_store_takes_the_default_ttl(store: Any, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    store(cache)
    assert cache.ttl("a") == 10
    clock.advance(10)
    assert "a" not in cache
    store(cache)
    assert cache["a"] == 1 and cache.ttl("a") == 10


@pytest.mark.parametrize(
    "store",
    [
        lambda c, **o: c.set("a", 1, **o),
        lambda c, **o: c.add("a", 1, **o),
        lambda c, **o: c.set_many({"a": 1}, **o),
        lambda c, **o: c.get_or_set("a", lambda: 1, **o),
    ],
)
def test_every_way_with_options_takes_them(store: Any, clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    store(cache, ttl=3, tti=2, weight=4, tags=["t", "u"])
    entry = cache.entry("a")
    assert (entry.ttl, entry.tti, entry.weight, sorted(entry.tags)) == (2, 2, 4, ["t", "u"])
    assert cache.weight == 4
    clock.advance(2)
    assert "a" not in cache


def test_add_over_the_dead(clock: FakeClock) -> None:
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock)
    assert cache.add("a", 1) is True and cache.add("a", 2) is False and cache.peek("a") == 1
    clock.advance(10)
    assert cache.add("a", 3) is True and cache.peek("a") == 3


def test_incr_keeps_ttl_and_tags(clock: FakeClock) -> None:
    """Absent gives `initial + delta`; ttl and tags stay."""
    cache: Cache[str, int] = Cache(9, clock=clock)
    cache.set("n", 5, ttl=10, tags=["t"])
    clock.advance(4)
    assert cache.incr("n") == 6 and cache.ttl("n") == pytest.approx(6)
    assert list(cache.entry("n").tags) == ["t"]
    clock.advance(6)
    assert "n" not in cache and cache.incr("n", 2, 100) == 102
    cache.set("n", 1, tags=["t"])
    cache.incr("n")
    cache.invalidate_tag("t")
    assert "n" not in cache


def test_an_overwritten_dead_entry_expired(clock: FakeClock) -> None:
    recorder = Recorder()
    cache: Cache[str, int] = Cache(9, ttl=10, clock=clock, listener=recorder)
    cache["a"] = 1
    clock.advance(10)
    cache["a"] = 2
    assert recorder.take() == [("a", 1, "expired")]
    stats = cache.stats()
    assert (stats.inserts, stats.replacements, stats.expirations) == (2, 0, 1)


def test_a_store_by_default_after_one_for_ever_has_the_default_ttl() -> None:
    """The place for a deadline is made when an entry first needs one, on every way to store."""
    cache: Cache[object, int] = Cache(3, ttl=60)
    cache.set("a", 1, ttl=None)
    cache["a"] = 2
    assert 59 < (cache.ttl("a") or 0) <= 60
    full: Cache[object, int] = Cache(3, ttl=60)
    for key in range(3):
        full.set(key, 1, ttl=None)
    full["new"] = 1
    assert 59 < (full.ttl("new") or 0) <= 60


def test_time_that_begins_inside_eq_ends_nothing() -> None:
    """Another call makes the first entry that can expire while this one compares."""
    cache: Cache[object, str] = Cache(10)

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            cache.set("other", "x", tti=100)
            return isinstance(other, Key)

    cache[Key()] = "old"
    assert cache.get(Key()) == "old"
    assert cache.get("other") == "x"
    cache._check()
