"""What a program, a row, a target and a result are. No third-party import."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

#: Our own name among the subjects; what follows a colon is another way of asking us.
US = "fastcache"
#: The floor: it bounds nothing, evicts nothing, and is no alternative to a cache.
FLOOR = "dict"
#: What shows whether caching is worth it at all; the least that waking threads can take; and what a cache over a
#: server, or in front of a database, adds to.
CONTROLS = ("uncached", "lock chain", "bare redis-py", "bare sqlite")

Better = Literal["met", "miss", "not judged"]


def is_rival(subject: str) -> bool:
    """Whether being behind `subject` counts: neither us in another form, nor the floor."""
    return subject.partition(":")[0] not in (US, FLOOR, *CONTROLS)


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """One subject's answer to a row: ``for VAR in KEYS: STATEMENT`` after `setup`.

    `ops` is the number of operations in one statement. `check` must be true after one pass, else
    the subject does not do what the row asks about and is not measured.
    """

    subject: str
    setup: str
    statement: str
    var: str = "k"
    keys: str = "keys"
    ops: int = 1
    check: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return what `worker` needs, ready for JSON."""
        return {
            "setup": self.setup,
            "statement": self.statement,
            "var": self.var,
            "keys": self.keys,
            "check": self.check,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a row is after: at most `factor` times `reference`, or at most `factor` of the unit.

    reference: a subject, "best peer" (the best rival in the run), or "" for an absolute bound.
    pgo_factor: the factor on interpreters built with PGO, where it differs.
    metric: "value" (ns, bytes, ms: the row's unit) or "instructions".
    """

    reference: str
    factor: float
    pgo_factor: float | None = None
    metric: Literal["value", "instructions"] = "value"

    def factor_on(self, pgo: bool) -> float:
        """Return the factor for this interpreter."""
        return self.pgo_factor if pgo and self.pgo_factor is not None else self.factor

    def text(self, pgo: bool, unit: str) -> str:
        """Return the target in words, e.g. `<= 0.45 x functools`."""
        factor = f"{self.factor_on(pgo):g}"
        if not self.reference:
            return f"<= {factor} {unit}"
        counted = " (instructions)" if self.metric == "instructions" else ""
        return f"<= {factor} x {self.reference}{counted}"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One question: its programs and targets. `kind` says which driver answers it.

    empty: the same loop without the statement, to be subtracted.
    counted: whether instructions are counted (not where the working set makes the figure).
    """

    name: str
    title: str
    group: str
    programs: Sequence[Program] = ()
    targets: Sequence[Target] = ()
    unit: str = "ns"
    note: str = ""
    kind: Literal["loop", "child", "tier"] = "loop"
    empty: Program | None = None
    counted: bool = True


@dataclasses.dataclass(slots=True)
class Cell:
    """One subject's figures in a row. Ratios are ours divided by theirs, so below 1 we lead."""

    values: list[float] = dataclasses.field(default_factory=list)
    median: float | None = None
    minimum: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    instructions: float | None = None
    note: str = ""
    error: str = ""
    excluded: bool = False
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One target judged: the figure reached (a ratio, or the unit for absolute bounds)."""

    text: str
    reached: float | None
    result: Better
    why: str = ""


@dataclasses.dataclass(slots=True)
class Result:
    """A row with the figures of all its subjects.

    behind: rivals ahead of us; level: rivals whose median is below ours, but within the noise.
    """

    row: Row
    cells: dict[str, Cell] = dataclasses.field(default_factory=dict)
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    behind: list[str] = dataclasses.field(default_factory=list)
    level: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> Better:
        """`miss` if a target is missed or a rival is ahead, else `met` if a target is.

        A row without targets is met by being compared with a rival and not behind.
        """
        results = [verdict.result for verdict in self.verdicts]
        if "miss" in results or self.behind:
            return "miss"
        if self.verdicts:
            return "met" if "met" in results else "not judged"
        compared = any(
            is_rival(name) and cell.ratio is not None for name, cell in self.cells.items()
        )
        return "met" if compared else "not judged"

    def best(self) -> str | None:
        """Return the subject with the lowest median, the floor and excluded ones left out."""
        medians = {
            name: cell.median
            for name, cell in self.cells.items()
            if cell.median is not None and not cell.excluded and (is_rival(name) or name == US)
        }
        return min(medians, key=lambda name: medians[name]) if medians else None


def figure(result: Result, subject: str, metric: str) -> float | None:
    """Return the subject's median (or instructions) in that result; None if not measured."""
    cell = result.cells.get(subject)
    if cell is None:
        return None
    return cell.instructions if metric == "instructions" else cell.median


def judge(result: Result, pgo: bool) -> None:
    """Fill `verdicts`, `behind` and `level` of a measured result."""
    rivals = {
        name: cell
        for name, cell in result.cells.items()
        if is_rival(name) and cell.median is not None and not cell.excluded
    }
    ours = result.cells.get(US)
    if ours is None or ours.median is None:
        why = ours.error if ours is not None and ours.error else f"{US} was not measured"
        result.verdicts = [
            Verdict(target.text(pgo, result.row.unit), None, "not judged", why)
            for target in result.row.targets
        ]
        return
    for name, cell in rivals.items():
        if cell.ratio is None or cell.ratio <= 1.0:
            continue
        # A lead is one if the interval of the paired rounds excludes a draw.
        surely = cell.ratio_low is None or cell.ratio_low > 1.0
        (result.behind if surely else result.level).append(name)
    result.verdicts = [_judge_one(result, target, rivals, pgo) for target in result.row.targets]


def _judge_one(result: Result, target: Target, rivals: Mapping[str, Cell], pgo: bool) -> Verdict:
    text = target.text(pgo, result.row.unit)
    mine = figure(result, US, target.metric)
    if mine is None:
        return Verdict(text, None, "not judged", f"no {target.metric} measured")
    reached: float | None = mine
    if target.reference:
        name = target.reference
        if name == "best peer":
            if not rivals:
                return Verdict(text, None, "not judged", "no peer in this run")
            name = max(rivals, key=lambda rival: rivals[rival].ratio or 0.0)
        other = result.cells.get(name)
        theirs = figure(result, name, target.metric)
        if other is None or theirs is None:
            why = other.error if other is not None and other.error else "not in this run"
            return Verdict(text, None, "not judged", f"{name}: {why}")
        if target.metric == "instructions":
            reached = mine / theirs if theirs else None
        else:
            reached = other.ratio
    if reached is None:
        return Verdict(text, None, "not judged", "no ratio: too little to tell from noise")
    result_word: Better = "met" if reached <= target.factor_on(pgo) else "miss"
    return Verdict(text, reached, result_word)
