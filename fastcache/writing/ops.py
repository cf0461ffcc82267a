"""What is written: operations, the clock that orders them, and what becomes of many on one key.

A stream of operations on one key has a short form with the same effect, its normal form: at most one
`put` or `delete`, then at most one `incr`:

    put, put            the last                incr, incr      one, of the sum
    anything, delete    the delete              put, incr       both: the put may be refused, since a later
    incr, put           the put                                 one came from elsewhere; the incr is not

A version is one integer of 63 bits, so that it fits into a column: microseconds since 2020 on a hybrid
logical clock, and below them 12 random bits of the process. The clock never goes back, and is set forward
by every version that is seen, so that what is written after something was read has the later version,
whatever the clocks of the hosts say. What is seen: versions that a writer meets in the source (by its own queue),
those of rows that a loader reads, and those of messages by which caches tell each other what changed (`heard`: by all
of the process). Two processes that write at the same microsecond are told apart by their random bits.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from fastcache._types import MISSING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    Kind = Literal["put", "delete", "incr"]

PUT: Final = "put"
DELETE: Final = "delete"
INCR: Final = "incr"

_EPOCH = 1_577_836_800_000_000  # 2020-01-01 in microseconds since 1970
_BITS = 12
_STEP = 1 << _BITS
#: Versions beyond this would leave no room for later ones.
LAST_VERSION = (1 << 63) - (1 << 40)
#: Versions so many seconds ahead are no other host's, and set nobody's clock but that of the queue that meets them.
AHEAD = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on one key. Immutable; what it holds is as it was when it was written.

    kind: "put", "delete" or "incr". value: of a put the value, of an incr the number to add, of a delete
    None. initial: what an incr finds where the key is absent. version: orders the writes of one key, in
    all processes; 0 before it was accepted. sequence: its place in its journal, 0 without one; of several
    that were coalesced, the last. data: the value as the writer's codec encodes it, where the writer has
    one.
    """

    kind: Kind
    key: Hashable
    value: Any = None
    initial: int = 0
    version: int = 0
    sequence: int = 0
    data: str | None = None

    @classmethod
    def put(cls, key: Hashable, value: Any) -> Self:
        return cls(PUT, key, value)

    @classmethod
    def delete(cls, key: Hashable) -> Self:
        return cls(DELETE, key)

    @classmethod
    def incr(cls, key: Hashable, delta: int = 1, initial: int = 0) -> Self:
        return cls(INCR, key, delta, initial)

    def at(self, version: int) -> Op:
        """The same operation with this version."""
        return replace(self, version=version)

    def over(self, value: Any) -> Any:
        """What the source would have after this operation, if it has value (MISSING: nothing)."""
        if self.kind == PUT:
            return self.value
        if self.kind == DELETE:
            return MISSING
        return (self.initial if value is MISSING else value) + self.value


class Batch(tuple[Op, ...]):
    """Operations to be applied all or not at all; per key at most one put or delete, then one incr.

    journal: where they were kept, "" nowhere. first, last: their sequences there are all those in between;
    what was applied up to `last` is never applied again. folded: sequences beyond that which these
    operations contain, out of order. known: sequences in between that were folded into an earlier batch,
    so that these operations do not contain them.
    """

    journal: str
    first: int
    last: int
    folded: tuple[int, ...]
    known: frozenset[int]

    def __new__(
        cls,
        ops: Iterable[Op],
        journal: str = "",
        first: int = 0,
        last: int = 0,
        folded: tuple[int, ...] = (),
        known: frozenset[int] = frozenset(),
    ) -> Self:
        self = super().__new__(cls, ops)
        self.journal = journal
        self.first = first
        self.last = last
        self.folded = folded
        self.known = known
        return self

    def split(self) -> tuple[list[Op], list[Op], list[Op]]:
        """Puts, deletes, and increments, in the order in which they may be applied."""
        puts: list[Op] = []
        deletes: list[Op] = []
        incrs: list[Op] = []
        kinds = {PUT: puts, DELETE: deletes, INCR: incrs}
        for op in self:
            kinds[op.kind].append(op)
        return puts, deletes, incrs


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch. superseded: operations that met a later version, and changed nothing.

    latest: the highest version that was met, 0 for none. counters: what the keys incremented have now.
    again: the batch had been applied before, and nothing was changed.
    """

    superseded: Sequence[Op] = ()
    latest: int = 0
    counters: dict[Hashable, int] | None = None
    again: bool = False


_heard = 0
_hearing = threading.RLock()


def _after_fork() -> None:
    global _hearing
    _hearing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def heard(version: int) -> None:
    """A version of another process: whatever this process writes from now on is later."""
    global _heard
    if _heard < version < version_at(time.time() + AHEAD):
        with _hearing:
            _heard = max(_heard, version)


class Clock:
    """A hybrid logical clock. Not locked: whoever ticks holds the lock of the queue."""

    __slots__ = ("_bits", "last")

    def __init__(self) -> None:
        self.restart()
        self.last = 0

    def restart(self) -> None:
        """Other random bits, for a forked child."""
        self._bits = int.from_bytes(os.urandom(2), "big") & (_STEP - 1)

    def tick(self) -> int:
        """A version later than all that were given out or seen."""
        now = (time.time_ns() // 1000 - _EPOCH) << _BITS | self._bits
        last = self.last if self.last > _heard else _heard
        if now <= last:
            now = ((last >> _BITS) + 1) << _BITS | self._bits
            if now > LAST_VERSION:
                raise OverflowError(f"the source has version {self.last}: no later one is left")
        self.last = now
        return now

    @property
    def latest(self) -> int:
        """The latest version that was given out or seen, here or anywhere in the process."""
        return max(self.last, _heard)

    def seen(self, version: int) -> None:
        """Let later ticks be later than this one."""
        if version > self.last:
            self.last = version


def seconds_of(version: int) -> float:
    """When a version was made, in seconds since 1970."""
    return ((version >> _BITS) + _EPOCH) / 1e6


def version_at(seconds: float) -> int:
    """The first version of a point in time, given in seconds since 1970."""
    return max(0, (int(seconds * 1e6) - _EPOCH) << _BITS)


def then(earlier: Op | None, later: Op) -> Op:
    """What a reader sees of two operations on one key, as one. TypeError: a number is added to another
    value. earlier: None for none."""
    if earlier is None or later.kind != INCR:
        return later
    if earlier.kind == INCR:
        return replace(later, value=earlier.value + later.value, initial=earlier.initial, data=None)
    if earlier.kind == DELETE:
        return replace(later, kind=PUT, value=later.initial + later.value, data=None)
    check_number(earlier.key, earlier.value)
    return replace(later, kind=PUT, value=earlier.value + later.value, data=None)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_number(key: Hashable, value: Any) -> None:
    """TypeError if nothing can be added to this value."""
    if not is_number(value):
        raise TypeError(f"key {key!r} has a {type(value).__name__}, to which nothing can be added")


def coalesce(ops: Iterable[Op]) -> list[Op]:
    """The normal form of a stream: see above. Keys in the order of their first operation."""
    bases: dict[Hashable, Op] = {}
    incrs: dict[Hashable, Op] = {}
    order: dict[Hashable, None] = {}
    for op in ops:
        key = op.key
        order[key] = None
        if op.kind != INCR:
            bases[key] = op
            incrs.pop(key, None)
            continue
        before = incrs.get(key)
        incrs[key] = op if before is None else then(before, op)
    return [op for key in order for op in (bases.get(key), incrs.get(key)) if op is not None]
