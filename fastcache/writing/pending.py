"""What waits to be written, in memory: streams of rows in order, and over them what readers see of each key.

A row is a plain tuple, since one is made by every write (an object would cost more than all the rest):

    (sequence, kind, key, value, data, initial, version, size, stream)

value is the object that was written, data its encoding (None where nothing is encoded), size what the row
counts towards the bound in bytes. Rows of a stream are in order of sequence and of version; the rows of one
key may come from several streams, when a journal was adopted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fastcache._keys import decode
from fastcache.writing.ops import DELETE, INCR, PUT, Op, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from fastcache.writing.codec import Codec
    from fastcache.writing.journal import Journal, Record

Row: TypeAlias = "tuple[int, str, Hashable, Any, str | None, int, int, int, Stream]"
SEQUENCE: Final = 0
KIND: Final = 1
KEY: Final = 2
VALUE: Final = 3
DATA: Final = 4
INITIAL: Final = 5
VERSION: Final = 6
SIZE: Final = 7
STREAM: Final = 8
#: What a row costs beside its key and value, in bytes.
ROW = 300


class Stream:
    """The rows of one journal (or of none) that the source does not have, in order.

    rows: those that no batch has taken; chunks: those that were taken, as they are to be tried, the first
    of them next. gone: sequences that a direct write has carried along meanwhile. through: up to which all
    are done.
    """

    __slots__ = ("adopted", "chunks", "gone", "id", "journal", "rows", "sequence", "through")

    def __init__(self, identity: str, journal: Journal | None, *, adopted: bool = False) -> None:
        self.id = identity
        self.journal = journal
        self.adopted = adopted
        self.rows: deque[Row] = deque()
        self.chunks: deque[list[Row]] = deque()
        self.gone: set[int] = set()
        self.sequence = 0
        self.through = 0

    def empty(self) -> bool:
        return not self.rows and not self.chunks

    def oldest(self) -> int:
        """The version of the first row, 0 for none."""
        for rows in self.chunks:
            if rows:
                return rows[0][VERSION]
        return self.rows[0][VERSION] if self.rows else 0


class Entry:
    """The rows of one key, and what they amount to (`kind`, `value`, `initial`)."""

    __slots__ = ("initial", "kind", "rows", "value")

    def __init__(self, row: Row) -> None:
        self.rows = [row]
        self.kind = row[KIND]
        self.value = row[VALUE]
        self.initial = row[INITIAL]

    def add(self, row: Row) -> None:
        """One more, later than all the others."""
        self.rows.append(row)
        if row[KIND] != INCR:
            self.kind, self.value, self.initial = row[KIND], row[VALUE], row[INITIAL]
        elif self.kind == INCR or self.kind == PUT:
            self.value += row[VALUE]
        else:
            self.kind, self.value = PUT, row[INITIAL] + row[VALUE]

    def op(self) -> Op:
        return Op(self.kind, self.rows[0][KEY], self.value, self.initial, self.rows[-1][VERSION])  # type: ignore[arg-type]

    def check_incr(self) -> None:
        """TypeError if a number cannot be added to what is pending."""
        if self.kind == PUT:
            check_number(self.rows[0][KEY], self.value)


class Overlay(dict["Hashable", Entry]):
    """What is pending, by key. Changed under the queue's lock; `get` needs none."""

    def add(self, row: Row) -> None:
        entry = self.get(row[KEY])
        if entry is None:
            self[row[KEY]] = Entry(row)
        else:
            entry.add(row)

    def insert(self, row: Row) -> None:
        """A row that may be older than others of its key."""
        entry = self.get(row[KEY])
        rows = [row] if entry is None else sorted([*entry.rows, row], key=lambda r: r[VERSION])
        self._replace(row[KEY], rows)

    def remove(self, rows: Sequence[Row]) -> None:
        """These are not pending any more. O(rows + rows of their keys)."""
        done: dict[Hashable, set[int]] = {}
        for row in rows:
            entry = self.get(row[KEY])
            if entry is None:
                continue
            if len(entry.rows) == 1:  # usually
                if entry.rows[0] is row:
                    del self[row[KEY]]
            else:
                done.setdefault(row[KEY], set()).add(id(row))
        for key, numbers in done.items():
            left = [row for row in self[key].rows if id(row) not in numbers]
            self._replace(key, left)

    def _replace(self, key: Hashable, rows: list[Row]) -> None:
        if not rows:
            self.pop(key, None)
            return
        entry = Entry(rows[0])
        for row in rows[1:]:
            entry.add(row)
        self[key] = entry


def normal_form(rows: Iterable[Row], value_of: Callable[[Row], Any]) -> list[Op]:
    """What rows of one stream come to (see `ops`); value_of gives a put's value. O(rows)."""
    bases: dict[Hashable, Row] = {}
    sums: dict[Hashable, list[Any]] = {}
    for row in rows:
        key = row[KEY]
        if row[KIND] != INCR:
            bases[key] = row
            if sums:
                sums.pop(key, None)
        elif (found := sums.get(key)) is None:
            sums[key] = [row[VALUE], row[INITIAL], row]
        else:
            found[0] += row[VALUE]
            found[2] = row
    ops = [
        Op(row[KIND], key, value_of(row), 0, row[VERSION], row[SEQUENCE], row[DATA])  # type: ignore[arg-type]
        for key, row in bases.items()
    ]
    for key, (delta, initial, last) in sums.items():
        ops.append(Op(INCR, key, delta, initial, last[VERSION], last[SEQUENCE]))
    return ops


def decode_row(record: Record, stream: Stream, codec: Codec) -> Row:
    """A row of a journal, as it was in memory. ValueError: it cannot be decoded."""
    try:
        key = decode(record.key)
        value = None
        if record.kind in (PUT, INCR):
            value = codec.decode(record.value or "")
        elif record.kind != DELETE:
            raise ValueError(f"unknown kind {record.kind!r}")
    except Exception as error:
        raise ValueError(f"sequence {record.sequence} cannot be decoded: {error!r}") from error
    size = ROW + len(record.key) + len(record.value or "")
    sequence, kind, _, data, initial, version = record
    return sequence, kind, key, value, data, initial, version, size, stream
