"""`cached` beside a model of a page: ttl, stale, grace, refresh, error_ttl, none_ttl and tags.

Each step is a call whose outcome the test chooses, an invalidation, or time that passes. Renewals are
carried out at once, in the same thread, so that what comes next is known. After each step: the same
result, the same loads, the same counts, and a whole cache.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastcache import Cache, cached
from fastcache.loading.loader import finish
from fastcache.testing import FakeClock

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
RETRY = 1.0
FAIL, NONE = "fail", "none"


class Failure(Exception):
    pass


class Special(Failure):
    pass


@dataclass
class Kept:
    """What the model holds under a key."""

    value: Any
    failed: bool
    fresh: float  # until then everybody sees it
    hard: float  # until then its loader does
    due: float  # from then on a call renews it
    tags: set[str]


class Model:
    def __init__(self, ttl: float, stale: float, grace: float, refresh: float | None,
                 error_ttl: float | None, none_ttl: float | None, late: bool) -> None:  # fmt: skip
        self.ttl, self.stale, self.grace, self.refresh = ttl, stale, grace, refresh
        self.error_ttl, self.none_ttl, self.late = error_ttl, none_ttl, late
        self.now = 0.0
        self.kept: dict[int, Kept] = {}
        self.hits = self.misses = self.stale_hits = self.loads = self.failures = 0

    def held(self, x: int) -> Kept | None:
        """With what only the loader sees."""
        kept = self.kept.get(x)
        return kept if kept is not None and self.now < kept.hard else None

    def sees(self, x: int) -> bool:
        kept = self.held(x)
        return kept is not None and not kept.failed and self.now < kept.fresh

    def load(self, x: int, outcome: Any) -> Any:
        """The value stored, or a Failure, stored if there is no value to keep."""
        self.loads += 1
        tags = {f"t{x % 2}"} if self.late else {"all"}
        if outcome == FAIL:
            self.failures += 1
            held = self.held(x)
            if self.error_ttl is not None and (held is None or held.failed):
                until = self.now + self.error_ttl
                self.kept[x] = Kept(None, True, -1, until, until, set() if self.late else tags)
            return Failure
        value = None if outcome == NONE else outcome
        ttl = self.none_ttl if value is None and self.none_ttl is not None else self.ttl
        self.kept.pop(x, None)
        if ttl:
            fresh = self.now + ttl
            due = fresh if self.refresh is None else max(fresh - ttl * (1 - self.refresh), self.now)
            self.kept[x] = Kept(value, False, fresh, fresh + max(self.stale, self.grace), due, tags)
        return value

    def renew(self, x: int, outcome: Any) -> None:
        self.kept[x].due = self.now + RETRY
        self.load(x, outcome)

    def served(self) -> None:
        self.hits += 1
        self.stale_hits += 1

    def call(self, x: int, outcome: Any) -> Any:
        kept = self.held(x)
        if kept is not None and not kept.failed and self.now < kept.fresh:
            self.hits += 1
            if self.now >= kept.due:
                self.renew(x, outcome)
            return kept.value
        if kept is not None and kept.failed:
            self.served()
            return Failure
        if kept is not None:
            past = self.now - kept.fresh
            if self.now < kept.due:
                self.served()
                return kept.value
            if past < self.stale:
                self.served()
                self.renew(x, outcome)
                return kept.value
            value = self.load(x, outcome)
            if value is not Failure:
                self.misses += 1
                return value
            kept.due = self.now + RETRY
            self.served()
            return kept.value
        self.misses += 1
        return self.load(x, outcome)


KEYS = st.sampled_from([0, 0, 0, 1, 2])
OUTCOMES = st.sampled_from([FAIL, FAIL, NONE, 1, 2, 3])
#: what brings entries to, and over, each of their limits
SECONDS = st.sampled_from([0.25, 0.75, 1.0, 2.0, 4.0, 8.0])


class Machine(RuleBasedStateMachine):
    @initialize(
        ttl=st.sampled_from([4.0, 8.0]),
        stale=st.sampled_from([None, 2.0, 6.0, 6.0]),
        grace=st.sampled_from([None, 3.0, 9.0, 9.0]),
        refresh=st.sampled_from([None, 0.25, 0.75]),
        error_ttl=st.sampled_from([None, 2.0, 20.0]),
        none_ttl=st.sampled_from([None, 0.0, 2.0, 12.0]),
        late=st.booleans(),
        shared=st.booleans(),
    )
    def begin(self, late: bool, shared: bool, **times: float | None) -> None:
        options = {name: value for name, value in times.items() if value is not None}
        self.clock = FakeClock()
        error_ttl = options.pop("error_ttl", None)
        self.model = Model(
            times["ttl"] or 0.0, times["stale"] or 0.0, times["grace"] or 0.0, times["refresh"],
            error_ttl, times["none_ttl"], late,
        )  # fmt: skip
        self.outcome: Any = None
        self.loads = 0

        def load(x: int) -> Any:
            self.loads += 1
            if self.outcome == FAIL:
                raise Special(x)
            return None if self.outcome == NONE else self.outcome

        where: dict[str, Any] = {"maxsize": None, "clock": self.clock}
        if shared:
            where = {"cache": Cache(None, clock=self.clock)}
        self.f: Any = cached(
            tags=(lambda value, x: [f"t{x % 2}"]) if late else ["all"],
            error_ttl=None if error_ttl is None else {Failure: error_ttl},
            **options, **where,
        )(load)  # fmt: skip

        def at_once(load: Any, flight: Any, call: Any) -> bool:
            function, args, kwargs = next(load)
            try:
                value = function(*args, **kwargs)
            except Failure as error:
                finish(load, None, error)
            else:
                finish(load, value, None)
            return True

        self.f._loader._start = at_once

    @rule(x=KEYS, outcome=OUTCOMES)
    def call(self, x: int, outcome: Any) -> None:
        self.outcome = outcome
        try:
            result: Any = self.f(x)
        except Special as error:
            assert error.args == (x,)
            result = Failure
        assert result == self.model.call(x, outcome)

    @rule(x=KEYS, outcome=OUTCOMES)
    def refresh(self, x: int, outcome: Any) -> None:
        self.outcome = outcome
        try:
            result: Any = self.f.cache_refresh(x)
        except Special:
            result = Failure
        assert result == self.model.load(x, outcome)

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now += seconds

    @rule(x=KEYS, outcomes=st.lists(st.tuples(SECONDS, OUTCOMES), min_size=3, max_size=8))
    def come_back(self, x: int, outcomes: list[tuple[float, Any]]) -> None:
        """The same call again and again: most other steps begin anew."""
        for seconds, outcome in outcomes:
            self.advance(seconds)
            self.call(x, outcome)

    @rule(x=KEYS)
    def invalidate(self, x: int) -> None:
        assert self.f.cache_invalidate(x) is self.model.sees(x)
        self.model.kept.pop(x, None)

    @rule(tag=st.sampled_from(["all", "t0", "t1"]))
    def invalidate_tag(self, tag: str) -> None:
        self.f.cache.invalidate_tag(tag)
        for x, kept in list(self.model.kept.items()):
            if tag in kept.tags:
                del self.model.kept[x]

    @rule()
    def clear(self) -> None:
        info = self.f.cache_info()
        assert (info.hits, info.misses) == (self.model.hits, self.model.misses)
        self.f.cache_clear()
        model = self.model
        model.kept.clear()
        model.hits = model.misses = 0
        if self.f.cache.stats().loads == 0:
            model.stale_hits = model.loads = model.failures = self.loads = 0

    @rule(x=KEYS, value=st.integers(5, 9))
    def set(self, x: int, value: int) -> None:
        """By whoever shares the cache: nothing is agreed for it."""
        self.f.cache.set(self.f.cache_key(x), value, ttl=3.0)
        fresh = self.model.now + 3.0
        self.model.kept[x] = Kept(value, False, fresh, fresh, fresh, set())

    @rule()
    def expire(self) -> None:
        for key, value in self.f.cache.expire():
            assert isinstance(value, (int, type(None))), (key, value)

    @invariant()
    def alike(self) -> None:
        if not hasattr(self, "f"):
            return
        model, cache = self.model, self.f.cache
        cache._check()
        assert [self.f.cache_contains(x) for x in range(4)] == [model.sees(x) for x in range(4)]
        assert {key: cache.peek(key) for key in cache} == {
            self.f.cache_key(x): kept.value for x, kept in model.kept.items() if model.sees(x)
        }
        info, stats = self.f.cache_info(), cache.stats()
        assert (info.hits, info.misses) == (model.hits, model.misses)
        assert (stats.stale_hits, stats.loads, stats.load_failures, self.loads) == (
            model.stale_hits, model.loads, model.failures, model.loads,
        )  # fmt: skip


Machine.TestCase.settings = settings(
    max_examples=2000 if SOAK else 200,
    stateful_step_count=30,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
)
TestCachedAgainstModel = Machine.TestCase
logging.getLogger("fastcache").addFilter(lambda record: "Machine" not in record.getMessage())
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
