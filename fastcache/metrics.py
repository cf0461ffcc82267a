"""Measuring caches while they run.

StalenessProbe re-reads the tiers some time after an invalidation, and counts what they still have of before.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import random
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Looks", "Probed", "StalenessProbe", "StalenessReport"]

log = logging.getLogger("fastcache")

_NOTHING: Any = object()
#: Stale keys that a report names.
_EXAMPLES = 10
#: Seconds between two warnings of the same kind.
_QUIET = 60.0


class Probed(Protocol):
    """What a StalenessProbe needs of a tiered cache. All of it blocks, and is safe from any thread."""

    def on_invalidate(self, callback: Callable[[Any], object]) -> object:
        """Call back with each key that this process has invalidated, once that is done."""

    def peek_l1(self, key: Any, default: Any = ...) -> Any:
        """What L1 would serve; MISSING where it knows that the source has nothing; default if it has no
        entry. Changes and counts nothing."""

    def peek_l2(self, key: Any, default: Any = ...) -> Any:
        """What L2 would serve, likewise. StoreError: it does not answer."""


@dataclass(slots=True)
class Looks:
    """What was seen of one tier after one delay.

    fresh: the same as in the source. empty: no entry. stale: another, twice, and not invalidated meanwhile.
    unsettled: another, but the key was invalidated again, or the source changed while it was compared.
    failed: the tier or the source could not be read.
    """

    fresh: int = 0
    empty: int = 0
    stale: int = 0
    unsettled: int = 0
    failed: int = 0

    @property
    def looks(self) -> int:
        return self.fresh + self.empty + self.stale + self.unsettled + self.failed


@dataclass(frozen=True, slots=True)
class StalenessReport:
    """What a StalenessProbe has seen.

    invalidations: of this process. sampled: those that were looked at. dropped: those that would have been, had
    there been room. pending: samples of which some looks are to come. tiers: "l1" and "l2" -> seconds after the
    invalidation -> Looks. examples: the last keys that were stale, as (key, tier, seconds).
    """

    invalidations: int
    sampled: int
    dropped: int
    pending: int
    tiers: Mapping[str, Mapping[float, Looks]]
    examples: Sequence[tuple[Any, str, float]]

    @property
    def stale(self) -> int:
        """All stale looks together."""
        return sum(looks.stale for tier in self.tiers.values() for looks in tier.values())

    def __str__(self) -> str:
        lines = [
            f"{self.invalidations} invalidations, {self.sampled} sampled, {self.dropped} dropped",
        ]
        for tier, delays in self.tiers.items():
            for seconds, seen in delays.items():
                lines.append(
                    f"{tier} after {seconds:g} s: {seen.looks} looks, {seen.stale} stale, {seen.fresh} fresh, "
                    f"{seen.empty} empty, {seen.unsettled} unsettled, {seen.failed} failed"
                )
        lines += [f"stale: {key!r} in {tier} after {s:g} s" for key, tier, s in self.examples]
        return "\n".join(lines)


@dataclass(slots=True)
class _Sample:
    """A look to come. suspects: what differed in the first look, by tier, and from which source value."""

    key: Any
    began: float
    number: int
    index: int
    suspects: dict[str, Any] = field(default_factory=dict)


class StalenessProbe:
    """Samples invalidations, and re-reads all tiers some time after each: is what they have what the source has?

    tiered: a TieredCache or AsyncTieredCache (see Probed). source(key): what the source of truth has now, or
    MISSING; called in the probe's thread, twice for what differs. version(value): what is compared, by ==; the
    value itself if left out. sample: the part of the invalidations that is looked at, 0 to 1. after: seconds.
    confirm: what differs is looked at again so many seconds later, and is stale if it still does, so that a
    source that has just changed, and is about to be invalidated, is none. most: samples at a time; memory is
    bounded by them. clock: seconds; with thread=False nothing runs by itself, and `run_due` looks at what is due.

        probe = StalenessProbe(t, source=db.load, sample=0.01)
        ...
        print(probe.report())

    One daemon thread, which starts with the first sample. Costs an invalidation a random number, and where it is
    sampled a heap's push. Safe from any thread; a forked child samples on its own, from zero. It holds the
    cache weakly.
    """

    def __init__(
        self,
        tiered: Probed,
        source: Callable[[Any], Any],
        *,
        sample: float = 0.01,
        after: Sequence[float] = (1, 10, 60),
        version: Callable[[Any], Any] | None = None,
        confirm: float = 0.5,
        most: int = 1000,
        clock: Callable[[], float] = time.monotonic,
        thread: bool = True,
    ) -> None:
        for name in ("on_invalidate", "peek_l1", "peek_l2"):
            if not callable(getattr(tiered, name, None)):
                raise TypeError(f"tiered must have a method {name}, which {tiered!r} has not")
        for name, function in (("source", source), ("version", version), ("clock", clock)):
            if not callable(function) and not (name == "version" and function is None):
                raise TypeError(f"{name} must be callable, not {type(function).__name__}")
        if not 0 <= sample <= 1:
            raise ValueError(f"sample must be between 0 and 1, not {sample!r}")
        delays = sorted(set(map(float, after)))
        if not delays or not 0 <= delays[0] <= delays[-1] < float("inf"):
            raise ValueError(f"after must be seconds, at least one, not {after!r}")
        if not 0 <= confirm < float("inf"):
            raise ValueError(f"confirm must be at least 0, not {confirm!r}")
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most!r}")
        self._tiered = weakref.ref(tiered)
        self._source = source
        self._version = version or (lambda value: value)
        self._sample = sample
        self._delays = delays
        self._confirm = confirm
        self._most = most
        self._clock = clock
        self._threaded = thread
        self._said: dict[str, float] = {}
        self._begin()
        tiered.on_invalidate(_callback(weakref.ref(self)))

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _Sample]] = []
        self._numbers: dict[Any, list[int]] = {}  # of sampled keys: invalidations, samples pending
        self._invalidations = self._sampled = self._dropped = 0
        self._seen = {tier: {delay: Looks() for delay in self._delays} for tier in ("l1", "l2")}
        self._examples: list[tuple[Any, str, float]] = []

    def invalidated(self, key: Any) -> None:
        """A key was invalidated; what the cache calls."""
        if self._owner != os.getpid():
            self._begin()
        with self._changed:
            self._invalidations += 1
            known = self._numbers.get(key)
            if known is not None:
                known[0] += 1
            if self._closed or (self._sample < 1 and random.random() >= self._sample):
                return
            if len(self._heap) >= self._most:
                self._dropped += 1
                return
            if known is None:
                known = self._numbers[key] = [0, 0]
            known[1] += 1
            self._sampled += 1
            now = self._clock()
            self._push(now + self._delays[0], _Sample(key, now, known[0], 0))
            if self._threaded and self._thread is None:
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="fastcache-staleness", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _push(self, due: float, sample: _Sample) -> None:
        heapq.heappush(self._heap, (due, next(self._order), sample))

    def run_due(self) -> float | None:
        """Look at what is due. Seconds until something is due next; None: nothing is pending."""
        while True:
            with self._changed:
                if not self._heap:
                    return None
                wait = self._heap[0][0] - self._clock()
                if wait > 0:
                    return wait
                _, _, sample = heapq.heappop(self._heap)
            again = self._look(sample)
            with self._changed:
                if not self._closed:
                    self._next(sample, again)

    def _next(self, sample: _Sample, again: bool) -> None:
        if again:
            self._push(self._clock() + self._confirm, sample)
            return
        if sample.index + 1 < len(self._delays):
            due = sample.began + self._delays[sample.index + 1]
            self._push(due, replace(sample, index=sample.index + 1, suspects={}))
            return
        known = self._numbers[sample.key]
        known[1] -= 1
        if not known[1]:
            del self._numbers[sample.key]

    def _look(self, sample: _Sample) -> bool:
        """Whether it has to be looked at once more."""
        tiered = self._tiered()
        if tiered is None:
            return False
        suspects: dict[str, Any] = {}
        for tier, peek in (("l1", tiered.peek_l1), ("l2", tiered.peek_l2)):
            if sample.suspects and tier not in sample.suspects:
                continue
            try:
                outcome, truth = self._compare(peek, sample)
            except Exception as error:  # noqa: BLE001 - the source's or the store's; counted
                self._complain(tier, error)
                outcome, truth = "failed", None
            if outcome == "stale":
                if tier not in sample.suspects:
                    suspects[tier] = truth
                    continue
                if sample.suspects[tier] != truth:
                    outcome = "unsettled"
            self._count(sample, tier, outcome)
        sample.suspects = suspects
        return bool(suspects)

    def _compare(self, peek: Callable[[Any, Any], Any], sample: _Sample) -> tuple[str, Any]:
        had = peek(sample.key, _NOTHING)
        truth = self._version(self._source(sample.key))
        if had is _NOTHING:
            return "empty", truth
        if self._version(had) == truth:
            return "fresh", truth
        with self._changed:
            known = self._numbers.get(sample.key)  # None: it was closed meanwhile
            again = known is None or known[0] != sample.number
        # a source that changes meanwhile tells nothing
        if again or self._version(self._source(sample.key)) != truth:
            return "unsettled", truth
        return "stale", truth

    def _count(self, sample: _Sample, tier: str, outcome: str) -> None:
        seconds = self._delays[sample.index]
        with self._changed:
            looks = self._seen[tier][seconds]
            setattr(looks, outcome, getattr(looks, outcome) + 1)
            if outcome == "stale":
                self._examples = [*self._examples[1 - _EXAMPLES :], (sample.key, tier, seconds)]
        if outcome == "stale":
            self._complain(
                "stale", f"{tier} served an old value {seconds:g} s after the invalidation"
            )

    def _complain(self, kind: str, what: object) -> None:
        now = time.monotonic()
        if now - self._said.get(kind, -_QUIET) >= _QUIET:
            self._said[kind] = now
            log.warning("staleness probe, %s: %s", kind, what)

    def report(self) -> StalenessReport:
        """What was seen so far."""
        with self._changed:
            return StalenessReport(
                self._invalidations,
                self._sampled,
                self._dropped,
                len(self._heap),
                {
                    tier: {seconds: replace(looks) for seconds, looks in delays.items()}
                    for tier, delays in self._seen.items()
                },
                tuple(self._examples),
            )

    def close(self) -> None:
        """Take no more samples, and forget those that are pending."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._numbers.clear()
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)


def _callback(probe: weakref.ref[StalenessProbe]) -> Callable[[Any], None]:
    def invalidated(key: Any) -> None:
        alive = probe()
        if alive is not None:
            alive.invalidated(key)

    return invalidated


def _run(probe: weakref.ref[StalenessProbe]) -> None:
    """The thread; ends with the probe."""
    while True:
        alive = probe()
        if alive is None or alive._closed:
            return
        wait = alive.run_due()
        changed = alive._changed
        with changed:
            if alive._closed:
                return
            # not for ever: the probe may go without a word
            del alive
            changed.wait(5.0 if wait is None else min(wait, 5.0))
