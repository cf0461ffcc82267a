"""The queue of a write-behind: accepts operations, keeps them, shows them, and lets go of those that are done.

One lock. Under it: the journal's commit, the version and sequence of each operation, the streams, the
overlay, the counts. So a write costs one commit; writers that find the lock taken leave a ticket, and whoever
gets the lock next commits all tickets in one transaction (group commit). Readers of the overlay take no lock.

The order of an accepted write: journal, then memory. An interrupt (Ctrl-C) in between leaves an operation in
the journal that memory does not know; `_suspect` says so, and the next write reads it from the journal.

After a fork the child starts with an empty queue, a journal of its own at its first write, and its own clock
bits: what the parent has accepted is the parent's to write.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from fastcache._keys import encode as encode_key
from fastcache.writing.errors import Closed, JournalError
from fastcache.writing.forking import FILES, QUEUE, hold
from fastcache.writing.journal import Journal, Record
from fastcache.writing.ops import DELETE, INCR, PUT, Clock
from fastcache.writing.options import check_int
from fastcache.writing.pending import (
    DATA,
    INITIAL,
    KEY,
    KIND,
    ROW,
    SEQUENCE,
    SIZE,
    VALUE,
    VERSION,
    Entry,
    Overlay,
    Row,
    Stream,
    decode_row,
)
from fastcache.writing.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence, Set
    from pathlib import Path

    from fastcache.writing.codec import Codec
    from fastcache.writing.stats import DeadLetter
    from fastcache.writing.ticket import Item

log = logging.getLogger("fastcache")

#: Rows deleted from a journal at a time, so that no write waits long for that.
_TRIM = 2_000
_FIXED = frozenset({int, str, bytes, float, bool, type(None)})


class Queue:
    """See the module. folder: where journals are; None: nothing is kept beyond the process."""

    def __init__(
        self,
        *,
        folder: Path | None,
        durability: str,
        writer: str,
        codec: Codec | None,
        check: Callable[[str, Hashable], object] | None,
        max_pending: int,
        max_bytes: int,
    ) -> None:
        self.folder = folder
        self.durability = durability
        self.writer = writer
        self.codec = codec
        self.check = check
        self.max_pending = max_pending
        self.max_bytes = max_bytes
        self.journaled = folder is not None and durability != "memory"
        self._forget()

    def _forget(self) -> None:
        """Start empty, in a new process."""
        self.clock = Clock()
        # An RLock because it knows whether this thread has it; taken twice it is by accident alone (`refuse_within`).
        self.lock: Any = hold(threading.RLock(), QUEUE)
        #: held around what SQLite does outside of `lock`; taken before that, if both are
        self.files = hold(threading.Lock(), FILES)
        self.changed = threading.Condition(self.lock)  # for who waits for room, or for a flush
        self.due = threading.Condition(self.lock)  # for the thread that drains
        self.overlay = Overlay()
        self.own = Stream(os.urandom(8).hex(), None)
        self.adopted: list[Stream] = []
        self.count = 0
        self.bytes = 0
        self.accepted = 0
        self.closed = False
        self.cramped = False  # the journal could not keep, or not forget, something
        self.since = 0.0  # monotonic time at which the oldest pending operation came
        self.wake_at = sys.maxsize  # so many keys pending are reason to begin
        self.waiters: list[Callable[[], object]] = []  # called when there is room
        self.dead_in_memory: deque[DeadLetter] = deque()
        #: the lock is taken for a commit; a hint, since an interrupt may leave it
        self._busy = False
        self._suspect = False
        self._waiting: deque[Ticket] = deque()

    def after_fork(self) -> None:
        """In the child."""
        journals = [stream.journal for stream in (self.own, *self.adopted) if stream.journal]
        self._forget()
        for journal in journals:
            journal.abandon()

    # ---- accepting -----------------------------------------------------------------------------------

    def item(self, kind: str, key: Hashable, value: Any, initial: int = 0) -> Item:
        """An operation made ready: encoded, and checked. TypeError, ValueError: it can never be written."""
        if kind is not PUT and kind == INCR:
            check_int("delta", value)
            check_int("initial", initial)
            entry = self.overlay.get(key)
            if entry is not None:
                entry.check_incr()
        if self.check is not None:
            self.check(kind, key)
        data = None
        if self.codec is not None and kind != DELETE:
            try:
                data = self.codec.encode(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise type(error)(f"value of key {key!r}: {error}") from None
            size = ROW + len(data)
        else:
            size = ROW + sys.getsizeof(value)
        if not self.journaled:
            hash(key)
            return kind, key, value, data, initial, b"", size
        name = encode_key(key)
        return kind, key, value, data, initial, name, size + len(name)

    def accept(self, items: Sequence[Item]) -> bool:
        """Keep operations, all or none, with the declared durability on return. False: there is no room.

        JournalError: they could not be kept. Closed.
        """
        lock = self.lock
        self.refuse_within()
        if not self._busy:
            # Only a with statement cannot be interrupted between getting the lock and knowing of it.
            with lock:
                self._busy = True
                try:
                    return self._commit(items)
                finally:
                    self._busy = False
        ticket = Ticket(items)
        self._waiting.append(ticket)
        self.serve(ticket)
        if ticket.error is not None:
            raise ticket.error
        return not ticket.full

    def refuse_within(self) -> None:
        """RuntimeError if this thread is in the midst of a write: what it calls now would find half of it."""
        if self.lock._is_owned():
            raise RuntimeError(
                "a write from within a write of the same thread (a signal handler, or a __del__)"
            )

    def submit(self, ticket: Ticket) -> None:
        """Have a write committed by whoever calls `serve` next."""
        self._waiting.append(ticket)

    def serve(self, ticket: Ticket | None = None) -> None:
        """Commit all tickets that wait, unless the given one was served meanwhile."""
        served: list[Ticket] = []
        with self.lock:
            if ticket is None or not ticket.settled:
                self._busy = True
                try:
                    while self._waiting:
                        served.append(self._waiting.popleft())
                    self._commit_group(served)
                finally:
                    self._busy = False
        for each in served:
            if each.done is not None:
                each.done()

    def _commit_group(self, tickets: list[Ticket]) -> None:
        """All in one transaction; if that fails each in its own, so that one hurts no other."""
        together: list[Ticket] = []
        items: list[Item] = []
        size = 0
        for ticket in tickets:
            more = sum(item[6] for item in ticket.items)
            if self._room(len(items) + len(ticket.items), size + more):
                together.append(ticket)
                items.extend(ticket.items)
                size += more
            else:
                ticket.full = True
                ticket.settled = True
        try:
            self._commit(items)
        except Exception as error:  # noqa: BLE001 - raised by those who wait for it
            if len(together) > 1:
                for ticket in together:
                    self._commit_group([ticket])
            else:
                for ticket in together:
                    ticket.error = error
        except BaseException:
            for ticket in together:
                ticket.error = JournalError(str(self.folder), "interrupted; it may be kept or not")
                ticket.settled = True
            raise
        for ticket in together:
            ticket.settled = True

    def room(self, items: Sequence[Item]) -> bool:
        """Whether these may wait."""
        return self._room(len(items), sum(item[6] for item in items))

    def _room(self, rows: int, size: int) -> bool:
        """Whether so much more may wait. What is larger than the bound by itself never may."""
        return self.count + rows <= self.max_pending and self.bytes + size <= self.max_bytes

    def _admit(self, items: Sequence[Item]) -> bool:
        """Whether these may be accepted now; the journal is open then."""
        if self.closed:
            raise Closed("this write-behind is closed")
        if len(items) == 1:
            if self.count >= self.max_pending or self.bytes + items[0][6] > self.max_bytes:
                return False
        elif not self.room(items):
            return False
        if self._suspect:
            self._reconcile()
        if self.journaled and self.own.journal is None:
            self._open()
        return True

    def _commit(self, items: Sequence[Item]) -> bool:
        try:
            return self._commit_once(items)
        except JournalError:
            if not self.renew():
                raise
            return self._commit_once(items)

    def _commit_once(self, items: Sequence[Item]) -> bool:
        if not self._admit(items):
            return False
        stream = self.own
        if len(items) != 1:
            if items:
                self._commit_many(stream, items)
            return True
        # The usual case: what `_commit_many` does, for one.
        kind, key, value, data, initial, name, size = items[0]
        sequence = stream.sequence + 1
        version = self.clock.tick()
        self._suspect = True
        if self.journaled:
            try:
                stream.journal.append((sequence, kind, name, data, initial, version))  # type: ignore[union-attr]
            except JournalError:
                self._suspect = False  # it was rolled back
                self.cramped = True
                raise
        row = (sequence, kind, key, value, data, initial, version, size, stream)
        stream.rows.append(row)
        overlay = self.overlay
        entry = overlay.get(key)
        if entry is None:
            overlay[key] = Entry(row)
            if len(overlay) >= self.wake_at:
                self.wake_at = sys.maxsize
                self.due.notify_all()
        else:
            entry.add(row)
        stream.sequence = sequence
        if not self.count:
            self.since = time.monotonic()
            self.due.notify_all()
        self.count += 1
        self.bytes += size
        self.accepted += 1
        self._suspect = False
        return True

    def _commit_many(self, stream: Stream, items: Sequence[Item]) -> None:
        sequence = stream.sequence
        rows: list[Row] = []
        for kind, key, value, data, initial, _, size in items:
            sequence += 1
            version = self.clock.tick()
            rows.append((sequence, kind, key, value, data, initial, version, size, stream))
        self._suspect = True
        if self.journaled:
            assert stream.journal is not None
            try:
                stream.journal.append_many(
                    [
                        (row[0], row[1], item[5], row[4], row[5], row[6])
                        for row, item in zip(rows, items, strict=True)
                    ]
                )
            except JournalError:
                self._suspect = False
                self.cramped = True
                raise
        self._add(stream, rows)
        self._suspect = False
        self.accepted += len(rows)

    def _add(self, stream: Stream, rows: Sequence[Row]) -> None:
        """The last step of accepting: memory."""
        overlay = self.overlay
        if not self.count:
            self.since = time.monotonic()
            self.due.notify_all()
        size = 0
        for row in rows:
            stream.rows.append(row)
            overlay.add(row)
            size += row[SIZE]
        stream.sequence = rows[-1][SEQUENCE]
        self.count += len(rows)
        self.bytes += size
        if len(overlay) >= self.wake_at:
            self.wake_at = sys.maxsize
            self.due.notify_all()

    def _open(self) -> None:
        assert self.folder is not None
        journal = Journal.create(self.folder, self.writer, self.durability)
        self.own = Stream(journal.id, journal)

    def _reconcile(self) -> None:
        """Make memory whole after an interrupted write, and take over what it left in the journal."""
        stream = self.own
        if stream.journal is not None:
            stream.journal.recover()
        rows = [*(row for chunk in stream.chunks for row in chunk), *stream.rows]
        known = max([stream.sequence, stream.through, *(row[SEQUENCE] for row in rows)])
        for row in rows:
            entry = self.overlay.get(row[KEY])
            if entry is None or all(each is not row for each in entry.rows):
                self.overlay.insert(row)
        if stream.journal is not None and self.journaled:
            for record in stream.journal.read(known):
                row = self.row_of(record, stream)
                stream.rows.append(row)
                self.overlay.insert(row)
                known = record.sequence
        stream.sequence = known
        waiting = {id(row): row for entry in self.overlay.values() for row in entry.rows}
        self.count = len(waiting)
        self.bytes = sum(row[SIZE] for row in waiting.values())
        self._suspect = False

    # ---- rows and operations -----------------------------------------------------------------------

    def row_of(self, record: Record, stream: Stream) -> Row:
        """A row of a journal, as it was in memory. ValueError: it cannot be decoded."""
        assert self.codec is not None
        return decode_row(record, stream, self.codec)

    def record_of(self, row: Row) -> Record:
        return Record(
            row[SEQUENCE], row[KIND], encode_key(row[KEY]), row[DATA], row[INITIAL], row[VERSION]
        )

    def value_of(self, row: Row) -> Any:
        """The value of a row as it was when it was written, even if the object has changed since."""
        value = row[VALUE]
        data = row[DATA]
        if data is None or type(value) in _FIXED or self.codec is None:
            return value
        return self.codec.decode(data)

    # ---- adopting ------------------------------------------------------------------------------------

    def adopt(self, journal: Journal) -> tuple[Stream, list[tuple[Record, str]]]:
        """Take over the operations of a dead process's journal; beside them those that cannot be decoded."""
        stream = Stream(journal.id, journal, adopted=True)
        bad: list[tuple[Record, str]] = []
        rows = []
        for record in journal.read():
            try:
                rows.append(self.row_of(record, stream))
            except ValueError as error:
                bad.append((record, str(error)))
        with self.lock:
            stream.sequence = journal.last()
            for row in rows:
                stream.rows.append(row)
                self.overlay.insert(row)
                self.clock.seen(row[VERSION])
                self.bytes += row[SIZE]
            if rows and not self.count:
                self.since = time.monotonic()
            self.count += len(rows)
            self.adopted.append(stream)
            self.due.notify_all()
        return stream, bad

    # ---- what is done --------------------------------------------------------------------------------

    def settle(
        self,
        stream: Stream,
        rows: Sequence[Row],
        through: int | None,
        gone: Set[int] = frozenset(),
    ) -> None:
        """Let go of rows that the source has, or that are dead; through: all up to this sequence are; gone:
        and these beyond."""
        with self.lock:
            stream.gone |= gone
            self.overlay.remove(rows)
            self.count -= len(rows)
            self.bytes -= sum(row[SIZE] for row in rows)
            if through is not None:
                stream.through = max(stream.through, through)
                stream.gone = {s for s in stream.gone if s > stream.through}
            self.since = time.monotonic() if self.count else 0.0
            self.changed.notify_all()
            waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter()

    def trim(self, stream: Stream) -> None:
        """Forget in the journal what is done, a few rows at a time. JournalError."""
        if not (self.journaled or stream.adopted):
            return
        upto = 0
        while upto <= stream.through:
            with self.lock:
                if stream.journal is None:
                    return
                upto = min(max(upto, stream.journal.first()) + _TRIM, stream.through + 1)
                stream.journal.trim(upto - 1)
            upto += 1

    def renew(self) -> bool:
        """Where the disk is full, a journal has no room even to forget: if nothing in it is wanted, away with it.
        Called under the lock. True: the next write makes a new one."""
        stream = self.own
        journal = stream.journal
        if journal is None or not stream.empty() or not self.journaled:
            return False
        self.cramped = False
        if journal.dead():
            return journal.checkpoint()
        stream.journal = None
        journal.close(remove=True)
        self.own = Stream(os.urandom(8).hex(), None)
        return True

    def take_waiters(self) -> list[Callable[[], object]]:
        """Those who wait for room; to be called outside of the lock."""
        with self.lock:
            waiters, self.waiters = self.waiters, []
        return waiters

    def leave_behind(self) -> int:
        """At the end: how many operations only memory has. With a journal directory there are none after."""
        with self.lock:
            rows = [
                row
                for stream in (self.own,)
                for row in (*(r for chunk in stream.chunks for r in chunk), *stream.rows)
                if row[SEQUENCE] not in stream.gone
            ]
            if self.journaled or not rows or self.folder is None or self.codec is None:
                return 0 if self.journaled else len(rows)
            stream = self.own
            if stream.journal is None:
                stream.journal = Journal.create(self.folder, self.writer, "process")
            stream.journal.append_many([self.record_of(row) for row in rows])
            return 0
