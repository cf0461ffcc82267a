"""What a write-behind tells about itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcache.writing.ops import Op
from fastcache.writing.pending import DATA, INITIAL, KEY, KIND, SEQUENCE, VALUE, VERSION

if TYPE_CHECKING:
    from fastcache.writing.pending import Row


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An operation that the writer refused. journal: where it is kept; id: its number there; error: why;
    at: when, in seconds since 1970."""

    op: Op
    journal: str
    id: int
    error: str
    at: float

    @classmethod
    def of(cls, row: Row, journal: str, error: str, at: float | None = None) -> DeadLetter:
        """Of a row; at: now if not given."""
        op = Op(
            row[KIND],  # type: ignore[arg-type]
            row[KEY],
            row[VALUE],
            row[INITIAL],
            row[VERSION],
            row[SEQUENCE],
            row[DATA],
        )
        return cls(op, journal, row[SEQUENCE], error, time.time() if at is None else at)


@dataclass(slots=True)
class Counts:
    """Counted by the thread that drains, since the process began."""

    batches: int = 0
    written: int = 0
    coalesced: int = 0
    superseded: int = 0
    direct: int = 0
    retries: int = 0
    bisections: int = 0
    dead: int = 0
    adopted: int = 0
    callback_errors: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class WritingStats:
    """A record of the moment. Numbers are operations unless said otherwise.

    pending, pending_keys, pending_bytes: what waits. lag: seconds since the oldest of it came. accepted: by
    this process. written: handed to the writer, after coalescing, in so many batches; coalesced: spared by
    that. direct: written at once since the queue was full. superseded: met a later version. retries:
    batches tried again. bisections: batches cut in two. dead: refused for good. adopted: taken over from dead
    processes. failing: the last try failed; last_error: how. callback_errors: raised by on_applied and
    on_dead_letter.
    """

    pending: int
    pending_keys: int
    pending_bytes: int
    lag: float
    accepted: int
    written: int
    batches: int
    coalesced: int
    direct: int
    superseded: int
    retries: int
    bisections: int
    dead: int
    adopted: int
    callback_errors: int
    failing: bool
    last_error: str
