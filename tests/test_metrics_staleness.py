"""StalenessProbe over a cache of two dicts, by a clock that is set by hand; and its thread."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from _support import until

from fastcache.metrics import Looks, StalenessProbe
from fastcache.testing import FakeClock


class Two:
    """Two tiers that the test fills as it likes: what a probe needs of a tiered cache."""

    def __init__(self) -> None:
        self.l1: dict[str, Any] = {}
        self.l2: dict[str, Any] = {}
        self.callbacks: list[Callable[[Any], object]] = []

    def on_invalidate(self, callback: Callable[[Any], object]) -> None:
        self.callbacks.append(callback)

    def peek_l1(self, key: str, default: Any = None) -> Any:
        return self.l1.get(key, default)

    def peek_l2(self, key: str, default: Any = None) -> Any:
        value = self.l2.get(key, default)
        if isinstance(value, Exception):
            raise value
        return value

    def invalidate(self, key: str) -> None:
        self.l1.pop(key, None)
        self.l2.pop(key, None)
        self.tell(key)

    def tell(self, key: str) -> None:
        for callback in self.callbacks:
            callback(key)


class Bench:
    """A probe of everything, its clock and its source."""

    def __init__(self, **options: Any) -> None:
        self.tiers = Two()
        self.source: dict[str, Any] = {}
        self.clock = FakeClock(100.0)
        options = {"sample": 1.0, "clock": self.clock, "thread": False, **options}
        self.probe = StalenessProbe(self.tiers, self.source.get, **options)

    def seen(self, tier: str, seconds: float) -> Looks:
        return self.probe.report().tiers[tier][seconds]

    def run(self, seconds: float) -> None:
        """Let so much time go by, and what falls due in it come."""
        end = self.clock.now + seconds
        while True:
            wait = self.probe.run_due()
            if wait is None or self.clock.now + wait > end:
                self.clock.now = end
                return
            self.clock.advance(wait)


def test_what_was_kept_is_stale_in_the_tier_that_has_it() -> None:
    bench = Bench()
    bench.source["a"] = 2
    bench.tiers.invalidate("a")
    bench.tiers.l1["a"] = 1  # what a racing load of before has put there
    bench.tiers.l2["a"] = 2
    assert bench.probe.run_due() == 1.0
    bench.run(100)
    for seconds in (1, 10, 60):
        assert bench.seen("l1", seconds) == Looks(stale=1)
        assert bench.seen("l2", seconds) == Looks(fresh=1)
    report = bench.probe.report()
    assert report.stale == 3 and report.invalidations == report.sampled == 1
    assert report.examples == (("a", "l1", 1), ("a", "l1", 10), ("a", "l1", 60))
    assert report.pending == 0
    assert "l1 after 1 s: 1 looks, 1 stale" in str(report)
    assert "stale: 'a' in l1 after 60 s" in str(report)


def test_what_expires_meanwhile_is_stale_once() -> None:
    bench = Bench()
    bench.source["a"] = 2
    bench.tiers.invalidate("a")
    bench.tiers.l2["a"] = 1
    bench.run(5)
    assert bench.seen("l2", 1) == Looks(stale=1)
    del bench.tiers.l2["a"]
    bench.run(100)
    assert bench.seen("l2", 10) == bench.seen("l2", 60) == Looks(empty=1)


def test_a_key_that_the_source_has_not() -> None:
    bench = Bench(after=(1,))
    bench.tiers.invalidate("gone")
    bench.tiers.l1["gone"] = 1
    bench.run(5)
    assert bench.seen("l1", 1) == Looks(stale=1)
    bench.tiers.invalidate("gone")
    bench.tiers.l1["gone"] = None  # known to be absent
    bench.run(5)
    assert bench.seen("l1", 1) == Looks(stale=1, fresh=1)


def test_what_is_right_at_the_second_look_is_not_stale() -> None:
    """The source has changed, and the invalidation is on its way."""
    bench = Bench(after=(1,), confirm=0.5)
    bench.source["a"] = 1
    bench.tiers.invalidate("a")
    bench.tiers.l1["a"] = 1
    bench.clock.advance(1)
    bench.source["a"] = 2
    assert bench.probe.run_due() == 0.5
    assert bench.seen("l1", 1).looks == 0 and bench.seen("l2", 1) == Looks(empty=1)
    del bench.tiers.l1["a"]  # another process's invalidation arrives
    bench.run(5)
    assert bench.seen("l1", 1) == Looks(empty=1)


def test_a_key_invalidated_again_is_left_to_its_later_sample() -> None:
    bench = Bench(after=(1,))
    bench.source["a"] = 2
    bench.tiers.invalidate("a")
    bench.clock.advance(0.5)
    bench.tiers.invalidate("a")
    bench.tiers.l1["a"] = 1
    bench.run(0.6)
    assert bench.seen("l1", 1) == Looks(unsettled=1)
    bench.run(5)
    assert bench.seen("l1", 1) == Looks(unsettled=1, stale=1)


def test_a_source_that_changes_while_it_is_compared() -> None:
    bench = Bench(after=(1,))
    reads = iter(range(100, 200))
    probe = StalenessProbe(
        bench.tiers, lambda key: next(reads), sample=1, after=(1,), clock=bench.clock, thread=False
    )
    bench.tiers.invalidate("a")
    bench.tiers.l1["a"] = 1
    bench.clock.advance(1)
    assert probe.run_due() is None
    assert probe.report().tiers["l1"][1] == Looks(unsettled=1)


def test_versions_are_compared_where_given() -> None:
    bench = Bench(after=(1,), version=lambda value: value["version"])
    bench.source["a"] = {"version": 2, "read": "later"}
    bench.tiers.invalidate("a")
    bench.tiers.l1["a"] = {"version": 2, "read": "now"}
    bench.tiers.l2["a"] = {"version": 1, "read": "now"}
    bench.run(5)
    assert bench.seen("l1", 1) == Looks(fresh=1) and bench.seen("l2", 1) == Looks(stale=1)


def test_what_fails_is_counted_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(after=(1, 10))
    bench.source["a"] = 2
    bench.tiers.invalidate("a")
    bench.tiers.l2["a"] = OSError("away")
    bench.tiers.l1["a"] = 1
    bench.run(5)
    assert bench.seen("l2", 1) == Looks(failed=1) and bench.seen("l1", 1) == Looks(stale=1)
    assert "away" in caplog.text
    bench.tiers.l2["a"] = 2
    bench.run(20)
    assert bench.seen("l2", 10) == Looks(fresh=1)


def test_samples_are_bounded_and_nothing_is_left_behind() -> None:
    bench = Bench(most=10, after=(1, 2))
    for number in range(100):
        bench.tiers.invalidate(f"key {number % 7}")
    report = bench.probe.report()
    assert (report.invalidations, report.sampled, report.dropped, report.pending) == (
        100,
        10,
        90,
        10,
    )
    bench.run(10)
    assert bench.probe.report().pending == 0
    assert bench.probe._numbers == {} and bench.seen("l1", 2).empty == 10


def test_a_part_is_sampled() -> None:
    bench = Bench(sample=0.1, most=10_000)
    for number in range(5000):
        bench.tiers.invalidate(f"key {number}")
    assert 300 < bench.probe.report().sampled < 700
    none = Bench(sample=0)
    none.tiers.invalidate("a")
    assert none.probe.report().sampled == 0 and none.probe.run_due() is None


def test_its_thread_looks_by_itself_and_ends_with_it() -> None:
    tiers = Two()
    probe = StalenessProbe(tiers, lambda key: 2, sample=1, after=(0.01,), confirm=0.01)
    assert "fastcache-staleness" not in [thread.name for thread in threading.enumerate()]
    tiers.l1["a"] = 1
    tiers.tell("a")
    until(lambda: probe.report().stale == 1)
    (thread,) = [t for t in threading.enumerate() if t.name == "fastcache-staleness"]
    probe.close()
    assert not thread.is_alive()
    tiers.tell("a")
    assert probe.report().pending == 0
    probe.close()


def test_a_cache_and_a_probe_that_go_leave_no_thread() -> None:
    tiers = Two()

    def one_look() -> threading.Thread:
        probe = StalenessProbe(tiers, lambda key: 2, sample=1, after=(0.01,))
        tiers.tell("a")
        until(lambda: probe.report().tiers["l1"][0.01].looks == 1)
        assert probe._thread is not None
        return probe._thread

    thread = one_look()
    gc.collect()
    tiers.tell("a")  # nobody is there
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sample": 1.5}, ValueError, "sample must be between 0 and 1, not 1.5"),
        ({"after": ()}, ValueError, "after must be seconds, at least one"),
        ({"after": (-1,)}, ValueError, "after must be seconds"),
        ({"after": (float("inf"),)}, ValueError, "after must be seconds"),
        ({"confirm": -1}, ValueError, "confirm must be at least 0"),
        ({"most": 0}, ValueError, "most must be at least 1"),
        ({"version": 1}, TypeError, "version must be callable, not int"),
        ({"source": 1}, TypeError, "source must be callable, not int"),
        ({"tiered": {}}, TypeError, "tiered must have a method on_invalidate"),
    ],
)
def test_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    tiers = Two()
    with pytest.raises(error, match=text):
        StalenessProbe(**{"tiered": tiers, "source": str, **options})
    assert tiers.callbacks == []
