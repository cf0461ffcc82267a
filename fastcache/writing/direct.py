"""A write past the queue: for when it is full, straight to the source, with what waits of the same keys.

One transaction holds the new operations and everything that is pending of their keys in this process's own
journal; the writer remembers those sequences (`folded`), so that the journal's rows change nothing if they
should be replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcache.writing.errors import Closed, JournalError, Overtaken, QueueFull
from fastcache.writing.ops import Applied, Batch, Op
from fastcache.writing.pending import SEQUENCE, STREAM, Row, normal_form
from fastcache.writing.writers import transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.writing.drain import Drainer
    from fastcache.writing.ticket import Item

#: Seconds to wait for a batch that is being applied.
PATIENCE = 0.5


def write_directly(drainer: Drainer, items: Sequence[Item]) -> bool:
    """Apply operations now. False: there is room again, so that they may go the usual way.

    QueueFull: the source is down, or slow. What the writer raises of what is wrong with the operations.
    """
    queue = drainer.queue
    if drainer.failing:
        raise QueueFull(
            f"{queue.count} operations wait, and the source cannot be written: {drainer.counts.last_error}"
        )
    if not drainer.applying.acquire(timeout=PATIENCE):
        raise QueueFull(
            f"{queue.count} operations wait, and the source takes longer than {PATIENCE} s"
        )
    try:
        with queue.lock:
            if queue.closed:
                raise Closed("this write-behind is closed")
            if queue.room(items):
                return False
        for _ in range(8):
            rows, new = _collect(drainer, items)
            batch = Batch(
                normal_form([*rows, *new], drainer.value_of),
                queue.own.id if rows else "",
                folded=tuple(row[SEQUENCE] for row in rows),
            )
            drainer.applications += 1
            try:
                applied = drainer.writer.apply(batch) or Applied()
            except Overtaken as overtaken:
                _drop(drainer, [r for r in rows if _has(overtaken, r[SEQUENCE])])
                continue
            except Exception as error:
                drainer.tell([op.key for op in batch])  # it may have been committed
                if transient(drainer.writer, error) is False:
                    raise
                drainer.failing = True
                drainer.counts.last_error = f"{type(error).__name__}: {error}"
                raise QueueFull(
                    f"{queue.count} operations wait, and the source cannot be written: "
                    f"{drainer.counts.last_error}"
                ) from error
            drainer.report(batch, len(rows) + len(new), applied)
            drainer.counts.direct += len(items)
            drainer.tell([op.key for op in batch])
            _drop(drainer, rows)
            items = _late(items, applied.superseded)
            if not items:
                return True
        raise QueueFull("others write the same keys all the time")
    finally:
        drainer.applying.release()


def _collect(drainer: Drainer, items: Sequence[Item]) -> tuple[list[Row], list[Row]]:
    """What waits of these keys, and the new operations as rows without a place in the journal."""
    queue = drainer.queue
    rows: list[Row] = []
    new: list[Row] = []
    with queue.lock:
        stream = queue.own
        for key in dict.fromkeys(item[1] for item in items):
            entry = queue.overlay.get(key)
            if entry is None:
                continue
            if any(row[STREAM] is not stream for row in entry.rows):
                raise QueueFull(
                    f"{queue.count} operations wait, those of {key!r} in another journal"
                )
            rows.extend(entry.rows)
        for kind, key, value, data, initial, _, size in items:
            new.append((0, kind, key, value, data, initial, queue.clock.tick(), size, stream))
    rows.sort(key=lambda row: row[SEQUENCE])
    return rows, new


def _has(overtaken: Overtaken, sequence: int) -> bool:
    return sequence <= overtaken.last or sequence in overtaken.folded


def _drop(drainer: Drainer, rows: Sequence[Row]) -> None:
    """The source has these: they go from memory, then from the journal."""
    if not rows:
        return
    queue = drainer.queue
    gone = {row[SEQUENCE] for row in rows}
    queue.settle(queue.own, rows, None, gone)
    journal = queue.own.journal
    if journal is not None and queue.journaled:
        try:
            with queue.lock:
                journal.remove(gone)
        except JournalError as error:
            drainer.counts.last_error = str(error)  # the writer knows that it has them


def _late(items: Sequence[Item], superseded: Sequence[Op]) -> list[Any]:
    """The new operations that met a later version: they are the latest, and get a version that says so."""
    keys = {(op.kind, op.key) for op in superseded}
    return [item for item in items if (item[0], item[1]) in keys]
