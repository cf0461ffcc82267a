"""Dead letters of a process: what the writer refused, to be looked at, tried again, or dropped.

They lie in the process's own journal; where there is none, in memory.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fastcache.writing.journal import Record
from fastcache.writing.pending import ROW, SEQUENCE, SIZE
from fastcache.writing.stats import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from fastcache.writing.pending import Row
    from fastcache.writing.queue import Queue

log = logging.getLogger("fastcache")


def letters(queue: Queue) -> list[DeadLetter]:
    """All of them, the oldest first."""
    with queue.lock:
        stream = queue.own
        if stream.journal is None:
            return list(queue.dead_in_memory)
        found = []
        for record in stream.journal.dead():
            row = queue.row_of(Record(*record[:6]), stream)
            found.append(DeadLetter.of(row, stream.id, record.error, record.at))
        return found


def keep(queue: Queue, letters: Sequence[DeadLetter]) -> None:
    """In memory: as many as operations may wait; the oldest go, and are logged."""
    for letter in letters:
        if len(queue.dead_in_memory) >= queue.max_pending:
            old = queue.dead_in_memory.popleft()
            log.error("%s: dead letter of %r is given up", queue.writer, old.op.key)
        queue.dead_in_memory.append(letter)


def drop(queue: Queue, ids: Container[int] | None = None) -> int:
    """Give up all, or those; how many."""
    with queue.lock:
        journal = queue.own.journal
        if journal is not None:
            gone = [d.sequence for d in journal.dead() if ids is None or d.sequence in ids]
            journal.drop(gone)
            return len(gone)
        dead = queue.dead_in_memory
        left = [] if ids is None else [letter for letter in dead if letter.id not in ids]
        count = len(dead) - len(left)
        dead.clear()
        dead.extend(left)
        return count


def revive(queue: Queue, ids: Container[int] | None = None, *, marked: bool = True) -> int:
    """Let dead letters be operations again, the last of the stream: all, those, or (marked, the default) those
    that someone marked from outside. How many."""
    with queue.lock:
        stream = queue.own
        if stream.journal is None:
            chosen = [d for d in queue.dead_in_memory if ids is None or d.id in ids]
            if marked or not chosen:
                return 0
            for letter in chosen:
                queue.dead_in_memory.remove(letter)
            rows: list[Row] = [
                (
                    number,
                    d.op.kind,
                    d.op.key,
                    d.op.value,
                    d.op.data,
                    d.op.initial,
                    d.op.version,
                    ROW,
                    stream,
                )
                for number, d in enumerate(chosen, stream.sequence + 1)
            ]
        else:
            dead = [
                d for d in stream.journal.dead(retry=marked) if ids is None or d.sequence in ids
            ]
            if not dead:
                return 0
            renewed = [
                (d.sequence, Record(number, *d[1:6]))
                for number, d in enumerate(dead, stream.sequence + 1)
            ]
            rows = [queue.row_of(record, stream) for _, record in renewed]
            stream.journal.revive(renewed, keep=queue.journaled)
        if not queue.count:
            queue.since = time.monotonic()
        for row in rows:
            stream.rows.append(row)
            queue.overlay.insert(row)
        stream.sequence = rows[-1][SEQUENCE]
        queue.count += len(rows)
        queue.bytes += sum(row[SIZE] for row in rows)
        queue.due.notify_all()
        return len(rows)
