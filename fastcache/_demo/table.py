"""What a person sees: one line a second while it runs, and the table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .measure import Durations, spoken

_TIERS = (("l1", "from L1"), ("l2", "from L2"), ("load", "by the loader"))
_WIDE = 30


def line(seconds: float, ticks: Iterable[Mapping[str, Any]]) -> str:
    """How far it is: all workers together, since the beginning."""
    told = list(ticks)
    total = Counter({name: sum(tick[name] for tick in told) for name in _COUNTED})
    reads = sum(total[name] for name, _ in _TIERS)
    parts = " ".join(
        f"{name} {part(total[key], reads)}"
        for key, name in (("l1", "L1"), ("l2", "L2"), ("load", "loads"))
    )
    states = Counter(tick["state"] for tick in told)
    return (
        f"{seconds:4.0f} s  {reads:,} reads  {parts}  {total['writes']:,} writes  "
        f"{total['stale']:,} stale  {total['errors']:,} errors  "
        + ", ".join(f"{n} {state}" for state, n in states.items())
    )


_COUNTED = ("l1", "l2", "load", "writes", "stale", "errors")


def part(some: int, whole: int) -> str:
    return f"{some / whole:.1%}" if whole else "-"


class Total:
    """The figures of all workers together."""

    def __init__(self, told: Sequence[Mapping[str, Any]]) -> None:
        self.reads = {tier: Durations() for tier, _ in _TIERS}
        self.writing, self.dropped, self.stale = Durations(), Durations(), Durations()
        self.errors: Counter[str] = Counter()
        self.stats: Counter[str] = Counter()
        self.l2: Counter[str] = Counter()
        for figures in told:
            for tier, durations in self.reads.items():
                durations.merge(figures["reads"][tier])
            for name in ("writing", "dropped", "stale"):
                getattr(self, name).merge(figures[name])
            self.errors.update(figures["errors"])
            self.stats.update(figures["stats"])
            self._add_l2(figures["l2"])
        self.broken = sum(figures["broken"] for figures in told)
        self.states = Counter(figures["state"] for figures in told)
        self.entries = [figures["entries"] for figures in told]

    def _add_l2(self, figures: Mapping[str, Any]) -> None:
        for name, count in figures.items():
            if isinstance(count, int):
                self.l2[name] += count
                continue
            for kind, n in count.items():
                self.errors[f"L2, {name}: {kind}"] += n

    @property
    def all_reads(self) -> int:
        return sum(len(durations) for durations in self.reads.values())


def table(total: Total, seconds: float, wrong: int | None) -> list[str]:
    """The lines of the table. wrong: keys of which an old value is served at the end; None: not looked at."""
    reads = total.all_reads
    rows = [_head("reads", reads, "part", "p50", "p99", "p99.9", "longest")]
    for tier, name in _TIERS:
        durations = total.reads[tier]
        rows.append(_row("  " + name, len(durations), part(len(durations), reads), durations))
    rows.append(_row("writes, caches told", len(total.writing), "", total.writing))
    rows.append(_row("old value gone elsewhere after", len(total.dropped), "", total.dropped))
    older = len(total.stale)
    rows.append(_row("older than the database", older, part(older, reads), total.stale))
    beyond = reads - len(total.reads["l1"])
    found = len(total.reads["l2"])
    rest = "not looked at" if wrong is None else f"{wrong:,}"
    stats = total.stats
    rows += [
        "",
        _fact("reads a second", f"{reads / seconds:,.0f}" if seconds else "-"),
        _fact("hit rate of L1", part(reads - beyond, reads)),
        _fact("hit rate of L2", f"{part(found, beyond)} of what L1 has not"),
        _fact("loads", f"{stats['loads']:,}; {stats['lease_waits']:,} waited for another process"),
        _fact(
            "fills of L2", f"{total.l2['fills']:,}; {total.l2['refused']:,} refused, as too late"
        ),
        _fact(
            "invalidations",
            f"{stats['sent']:,} sent, {stats['received']:,} heard from others",
        ),
        _fact("served without being told", f"{stats['stale']:,}"),
        _fact("older than one's own write", f"{total.broken:,}"),
        _fact("old values left at the end", rest),
        _fact("state", ", ".join(f"{n} {state}" for state, n in total.states.items()) or "-"),
        _fact("errors", "; ".join(f"{n:,} x {what}" for what, n in total.errors.items()) or "none"),
    ]
    return rows


def _head(name: str, count: int, *columns: str) -> str:
    return f"{name:<{_WIDE}}{count:>10,}" + "".join(f"{column:>10}" for column in columns)


def _row(name: str, count: int, share: str, durations: Durations) -> str:
    quantiles = [durations.quantile(part) for part in (0.5, 0.99, 0.999)]
    return _head(name, count, share, *map(spoken, [*quantiles, durations.longest()]))


def _fact(name: str, text: str) -> str:
    return f"{name:<{_WIDE}}{text:>10}"


NOTES = """
Times of reads include two looks at the clock. "Old value gone elsewhere": from the moment a worker begins to tell of
its write to that at which another has dropped what it held (over SQLite: when it next reads anything). "Older than
the database": reads that began after a newer version had been committed, and for how long it had been. Times depend
on how busy the machine is.
"""
