"""The operations of a SQLiteStore on one name space: reading, how a change is made, and what the others see of it."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from fastcache.stores import _sqlite_changes as changes
from fastcache.stores._generations import MovedError
from fastcache.stores._sqlite_changes import READ, Slot, found_in, tag_id, value_id
from fastcache.stores._sqlite_file import kind_of, log
from fastcache.stores.protocol import (
    COUNTERS,
    TAGS,
    Counter,
    Fill,
    Found,
    Generations,
    Lease,
    Space,
    Target,
    bucket_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastcache.stores.protocol import Steps
    from fastcache.stores.sqlite import SQLiteStore

    Changed = Iterable[int]

#: Names that one statement reads.
_MANY = 64
_READ_MANY = f"SELECT id, name, data, due FROM value WHERE id IN ({', '.join('?' * _MANY)})"


class SQLiteSpace(Space):
    """One name space of a SQLiteStore: `Space` says what each operation does."""

    shares_memory = True

    def __init__(self, store: SQLiteStore, namespace: str, origin: bytes) -> None:
        self.store = store
        self.namespace = namespace
        self.origin = origin
        self._file = store._file
        self._at: Slot | None = None
        self._memory: Generations | None = None
        self._own = memoryview(bytearray(8 * (COUNTERS + 1))).cast("Q")

    # ---- where it lies -------------------------------------------------------------------------

    def _slot(self) -> Slot:
        """The slot of the file that is current; the store's lock is held, and no transaction is open."""
        self._file.ready()
        at = self._at
        if at is None or at.file is not self._file.generations:
            generations = self._file.generations
            assert generations is not None
            number = generations.find(self.namespace)
            if number is None:
                _, generations = self._file.begin()
                try:
                    number = generations.add(self.namespace)
                finally:
                    self._file.rollback()
            words, done = generations.words(number), generations.done(number)
            self._own = memoryview(bytearray(8 * (COUNTERS + 1))).cast("Q")
            at = self._at = Slot(generations, number, words, done)
            self._memory = Generations(words[: COUNTERS + 1].toreadonly(), self._own.toreadonly())
        return at

    def generations(self) -> Generations:
        """See the protocol. Opens the file, and so may block for `timeout`. StoreError."""
        memory: Generations = self.store.send((self._generations,))
        return memory

    def _generations(self) -> Generations:
        self._slot()
        assert self._memory is not None
        return self._memory

    # ---- reading -------------------------------------------------------------------------------

    def read(self, name: str, *, primary: bool = False) -> Steps[Found | None]:
        found: Found | None = yield (self._read, name)
        return found

    def _read(self, name: str) -> Found | None:
        at = self._slot()
        bucket = bucket_of(name)
        if at.words[bucket + 1] != at.done[bucket]:
            return self._read_settled(at, [name])[0]
        number = value_id(at, name)
        row = self._file.connection.execute(READ, (number, name)).fetchone()
        return found_in(at, number, row)

    def read_many(
        self, names: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None]]:
        result: list[Found | None] = yield (self._read_many, names)
        return result

    def _read_many(self, names: Sequence[str]) -> list[Found | None]:
        at = self._slot()
        if not at.settled(set(map(bucket_of, names))):
            return self._read_settled(at, names)
        numbers = [value_id(at, name) for name in names]
        connection = self._file.connection
        rows: dict[int, tuple[str, bytes, int | None]] = {}
        for start in range(0, len(numbers), _MANY):
            part = numbers[start : start + _MANY]
            part += part[-1:] * (_MANY - len(part))  # one statement for any number
            for number, name, data, due in connection.execute(_READ_MANY, part):
                rows[number] = (name, data, due)
        found: list[Found | None] = []
        for number, name in zip(numbers, names, strict=True):
            row = rows.get(number)
            found.append(
                found_in(at, number, row[1:] if row is not None and row[0] == name else None)
            )
        return found

    def _read_settled(self, at: Slot, names: Sequence[str]) -> list[Found | None]:
        """Read while changes are under way: what they leave, whether they end or not."""
        numbers = {bucket_of(name) for name in names}
        limit = time.monotonic() + 0.002
        while not (settled := at.settled(numbers)) and time.monotonic() < limit:
            time.sleep(0.0001)
        connection, generations = self._file.connection, at.file
        if not settled:
            connection, generations = self._file.begin()
        try:
            if generations is not at.file:
                raise MovedError  # once more, with other numbers
            if not settled:
                self._repair(at, numbers)
            found = []
            for name in names:
                number = value_id(at, name)
                row = connection.execute(READ, (number, name)).fetchone()
                found.append(found_in(at, number, row))
            return found
        finally:
            if not settled:
                self._file.rollback()

    def _repair(self, at: Slot, numbers: Iterable[int]) -> None:
        """The write lock is ours: whoever left these undone is dead, and what he has committed can be seen."""
        for number in numbers:
            at.done[number] = at.words[number + 1]

    # ---- changing ------------------------------------------------------------------------------

    def _change(self, body: Callable[..., tuple[Any, Changed]], *arguments: Any) -> Any:
        """Run body(transaction, *arguments) in one: it returns the result and which counters advance."""
        while True:
            at = self._slot()
            connection, generations = self._file.begin()
            if generations is at.file:
                break
            self._file.rollback()
        done: list[tuple[int, int]] = []
        try:
            change = changes.Transaction(self.store.where, self.store.max_bytes, at, connection)
            result, changed = body(change, *arguments)
            change.end()
            self._advance(at, sorted(set(changed)), done)
            connection.execute("COMMIT")
            return result
        finally:
            # an error, or an interrupt, before the commit: rolled back before anything counts as done
            self._file.rollback()
            for number, generation in done:
                if at.done[number] < generation:
                    at.done[number] = generation

    def _advance(self, at: Slot, numbers: Sequence[int], done: list[tuple[int, int]]) -> None:
        """Advance these counters; `done` gets what is to be written down afterwards."""
        words, own = at.words, self._own
        for number in numbers:
            # ours first: who takes them from the whole must not find too many of the others'
            own[number + 1] += 1
            generation = words[number + 1] + 1
            done.append((number, generation))
            words[number + 1] = generation
        if numbers:
            own[0] += 1
            words[0] += 1

    def lease(self, names: Sequence[str], token: bytes, ttl: float) -> Steps[list[Lease]]:
        leases: list[Lease] = yield (self._change, changes.lease, names, token, ttl)
        return leases

    def fill(self, fills: Sequence[Fill]) -> Steps[list[bool | None]]:
        stored: list[bool | None] = yield (self._change, changes.fill, fills)
        return stored

    def give_up(self, names: Sequence[str], token: bytes) -> Steps[None]:
        yield (self._change, changes.give_up, names, token)

    def put(self, fills: Sequence[Fill], targets: Sequence[Target]) -> Steps[list[bool]]:
        stored: list[bool] = yield (self._change, changes.put, fills)
        return stored

    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        yield (self._remove, changes.invalidate, targets, token)

    def hold(self, targets: Sequence[Target], token: bytes, ttl: float) -> Steps[None]:
        yield (self._remove, changes.hold, targets, token, ttl)

    def _remove(self, *arguments: Any) -> Any:
        """A change that has to be made. Where the disk is full, everything is thrown away: that needs no room."""
        try:
            return self._change(*arguments)
        except sqlite3.Error as error:
            if kind_of(error) != "full":
                raise
            log.warning("%s: %s: emptied to make room", self.store.where, error)
            self._file.replace(None)
            if arguments[0] is changes.invalidate:
                return None  # there is nothing left of it
            return self._change(*arguments)

    def incr(self, target: Target, delta: int, initial: int, ttl: float | None) -> Steps[int]:
        value: int = yield (self._change, changes.incr, target.name, delta, initial, ttl)
        return value

    def touch(self, target: Target, stamp: bytes, ttl: float | None) -> Steps[bool]:
        touched: bool = yield (self._change, changes.touch, target.name, stamp, ttl)
        return touched

    # ---- coherence -----------------------------------------------------------------------------

    def counters(self) -> Steps[list[Counter]]:
        counters: list[Counter] = yield (self._counters,)
        return counters

    def _counters(self) -> list[Counter]:
        generations = self._file.generations
        if generations is not None and generations.moved():
            self._file.disconnect()
        at = self._slot()
        incarnation = at.file.incarnation
        return [Counter(incarnation, word) for word in at.words[1 : COUNTERS + 1]]

    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        sequences: list[int] = yield (self._tags, tags)
        return sequences

    def _tags(self, tags: Sequence[bytes]) -> list[int]:
        at = self._slot()
        if at.settled((TAGS,)):
            known = [tag_id(at, tag) for tag in tags]
            connection = self._file.connection
            found = []
            for number in known:
                row = connection.execute("SELECT sequence FROM tag WHERE id = ?", (number,))
                found.append(row.fetchone())
            if all(found):
                return [row[0] for row in found]
        sequences: list[int] = self._change(changes.tags, tags)
        return sequences

    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        sequence: int = yield (self._remove, changes.invalidate_tags, tags)
        return sequence

    def publish(self, event: bytes) -> Steps[None]:
        yield (self._change, changes.publish, event)
