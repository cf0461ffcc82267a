"""The thread that brings what is pending to the source: batches, retries, bisection, dead letters, adoption.

A chunk is a run of rows of one stream without gaps. It is applied in normal form, all or nothing, and tried
again until it is known what came of it, unchanged meanwhile: so the writer can recognise one that it had
applied when the connection broke. What fails for good is cut in two, until a single row is left, which becomes
a dead letter; the halves keep their order, so that "all up to this sequence" stays true.

The order of what happens to a chunk: the source commits; `on_applied(keys)`, so that the tiers above forget
what they had; the rows leave the overlay; they leave the journal.
"""

from __future__ import annotations

import logging
import operator
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from fastcache.writing import dead, folder
from fastcache.writing.errors import JournalError, Overtaken
from fastcache.writing.journal import CHECKPOINT_AT, WAIT_AT, DeadRecord, Journal
from fastcache.writing.ops import PUT, Applied, Batch, seconds_of
from fastcache.writing.pending import KEY, SEQUENCE, VALUE, VERSION, Row, Stream, normal_form
from fastcache.writing.stats import Counts, DeadLetter
from fastcache.writing.told import Told
from fastcache.writing.writers import Writer, transient

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence, Set

    from fastcache.writing.queue import Queue

log = logging.getLogger("fastcache")

#: Seconds of the first and of the longest pause after a failure; each is drawn from 0 to twice the last.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 15.0
#: Seconds, while operations wait, between two looks at the size of the journal's log.
TIDY_EVERY = 0.25
#: Seconds that adopted operations wait for somebody to set `on_applied`.
GRACE = 5.0
#: Failures of a kind nobody knows, before the operations are held to be at fault.
UNKNOWN_TRIES = 3


class Drainer:
    """See the module. Started by the first write; a daemon, so that a source that hangs cannot keep the
    interpreter from exiting. All that it keeps between batches is in the queue."""

    def __init__(
        self,
        queue: Queue,
        writer: Writer,
        *,
        batch: int,
        delay: float,
        adopt_every: float,
        adopt_within: float,
        on_applied: Callable[[Sequence[Hashable]], object] | None,
        on_dead_letter: Callable[[DeadLetter], object] | None,
    ) -> None:
        self.queue = queue
        self.writer = writer
        self.batch = batch
        self.delay = delay
        self.adopt_every = adopt_every
        self.adopt_within = adopt_within
        self.on_applied = on_applied
        self.on_dead_letter = on_dead_letter
        takes_data = queue.codec is not None and getattr(writer, "codec", None) is queue.codec
        #: The value of a row as the writer is to see it.
        self.value_of: Callable[[Row], Any] = queue.value_of
        if takes_data and getattr(writer, "takes_data", False):
            self.value_of = operator.itemgetter(VALUE)
        self._forget()

    def _forget(self) -> None:
        self.counts = Counts()
        #: Held while something is applied, so that direct writes and batches do not pass each other.
        self.applying = threading.Lock()
        self.applications = 0  # how often something began to be applied
        self.failing = False
        self.hurry = 0  # callers of flush
        self.stopping = False
        self.thread: threading.Thread | None = None
        self._failures = 0
        self._next_look = time.monotonic() + self.adopt_every
        self._tidied: tuple[str, int] | None = None  # the log when it was last copied

    after_fork = _forget

    def start(self) -> None:
        """Begin, unless it has. Called under the queue's lock."""
        # Not alive: its start was interrupted.
        if self.thread is None or not (self.stopping or self.thread.is_alive()):
            self.queue.wake_at = self.batch
            self.thread = threading.Thread(
                target=self._run, args=(os.getpid(),), name="fastcache-drain", daemon=True
            )
            self.thread.start()

    def start_later(self) -> None:
        """Begin with the first write, or when `on_applied` is set, or in a while: what was adopted concerns the
        copies of others too, so whoever can tell them should be there."""

        def start() -> None:
            with self.queue.lock:
                if not self.queue.closed:
                    self.start()

        timer = threading.Timer(GRACE, start)
        timer.daemon = True
        timer.start()

    # ---- the loop ------------------------------------------------------------------------------------

    def _run(self, pid: int) -> None:
        while os.getpid() == pid:
            try:
                if self._wait():
                    return
                self._look_around()
                self._round()
            except Exception:
                log.exception("draining to %s: an error that should not happen", self.queue.writer)
                self._pause()

    def _wait(self) -> bool:
        """Until there is something to do; True: to end. The journal's log is kept short meanwhile."""
        queue = self.queue
        while True:
            with queue.lock:
                queue.wake_at = self.batch
                if self.stopping and (self.hurry == 0 or not queue.count):
                    return True
                left = self._left()
                if left <= 0:
                    return False
                queue.due.wait(min(left, TIDY_EVERY) if queue.count else left)
            self._tidy()

    def _left(self) -> float:
        """Seconds until there is something to do."""
        queue = self.queue
        now = time.monotonic()
        if queue.count and (
            self.hurry
            or len(queue.overlay) >= self.batch
            or 2 * queue.count >= queue.max_pending
            or 2 * queue.bytes >= queue.max_bytes
            or any(not stream.empty() for stream in queue.adopted)
        ):
            return 0.0
        until = self._next_look if queue.folder is not None else now + 3600
        if queue.count:
            until = min(until, queue.since + self.delay)
        return until - now

    def _round(self) -> None:
        """One batch of each journal that has any."""
        queue = self.queue
        for stream in [*queue.adopted, queue.own]:
            if not self._step(stream):
                self._pause()
                return
            if stream.adopted and stream.empty():
                self._leave(stream)
        self._tidy()

    def _step(self, stream: Stream) -> bool:
        """Apply the next chunk of a stream; False: it failed, and is to be tried again after a pause."""
        with self.applying:
            if not stream.chunks and not self._take(stream):
                return True
            rows = [row for row in stream.chunks[0] if row[SEQUENCE] not in stream.gone]
            through = stream.chunks[0][-1][SEQUENCE]
            batch = self._batch(stream, rows, stream.chunks[0])
            self.applications += 1
            try:
                applied = (self.writer.apply(batch) if batch else None) or Applied()
            except Overtaken as overtaken:
                self._overtaken(stream, overtaken)
                return True
            except Exception as error:  # noqa: BLE001 - whatever the writer raises
                return self._failed(stream, rows, error)
            self.failing = False
            self._failures = 0
            self.report(batch, len(rows), applied)
            self.tell([op.key for op in batch], self._sure(stream, batch, applied))
            stream.chunks.popleft()
            self.queue.settle(stream, rows, through)
        self._trim(stream)
        return True

    def _take(self, stream: Stream) -> bool:
        """Make a chunk of the first rows, with as many keys as a batch may have."""
        with self.queue.lock:
            rows = stream.rows
            keys: set[Hashable] = set()
            taken: list[Row] = []
            while rows and (len(keys) < self.batch or rows[0][KEY] in keys):
                row = rows.popleft()
                keys.add(row[KEY])
                taken.append(row)
            if taken:
                stream.chunks.append(taken)
        return bool(taken)

    def _batch(self, stream: Stream, rows: Sequence[Row], chunk: Sequence[Row]) -> Batch:
        known = frozenset(stream.gone) if stream.gone else frozenset[int]()
        return Batch(
            normal_form(rows, self.value_of),
            stream.id,
            chunk[0][SEQUENCE],
            chunk[-1][SEQUENCE],
            known=known,
        )

    def _overtaken(self, stream: Stream, overtaken: Overtaken) -> None:
        """The source has a part of the chunk already; go on without that."""
        chunk = stream.chunks[0]
        had = [r for r in chunk if r[SEQUENCE] <= overtaken.last or r[SEQUENCE] in overtaken.folded]
        left = [r for r in chunk if r[SEQUENCE] > overtaken.last]
        had = [r for r in had if r[SEQUENCE] not in stream.gone]
        stream.gone |= overtaken.folded
        self.tell([row[KEY] for row in had])
        stream.chunks.popleft()
        if left:
            stream.chunks.appendleft(left)
        self.queue.settle(stream, had, min(overtaken.last, chunk[-1][SEQUENCE]))

    # ---- failures ------------------------------------------------------------------------------------

    def _failed(self, stream: Stream, rows: list[Row], error: Exception) -> bool:
        verdict = transient(self.writer, error)
        self._failures += 1
        if verdict is None:
            verdict = self._failures < UNKNOWN_TRIES
        if verdict:
            if not self.failing:
                log.warning(
                    "%s: %d operations wait: %s: %s",
                    self.queue.writer,
                    self.queue.count,
                    type(error).__name__,
                    error,
                )
            self.failing = True
            self.counts.retries += 1
            self.counts.last_error = f"{type(error).__name__}: {error}"
            return False
        self._failures = 0
        chunk = stream.chunks[0]
        if len(rows) > 1:
            middle = len(chunk) // 2
            stream.chunks.popleft()
            stream.chunks.extendleft([chunk[middle:], chunk[:middle]])
            self.counts.bisections += 1
            return True
        try:
            self.bury(stream, rows, error)
        except JournalError as full:
            log.error("%s", full)
            self.failing = True
            self.counts.last_error = str(full)
            return False
        stream.chunks.popleft()
        self.queue.settle(stream, rows, chunk[-1][SEQUENCE])
        return True

    def bury(self, stream: Stream, rows: Sequence[Row], error: Exception | str) -> None:
        """Make rows dead letters: kept in the journal, told, and not pending any more (`settle`)."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        queue = self.queue
        letters = [DeadLetter.of(row, stream.id, text) for row in rows]
        for letter in letters:
            log.error(
                "%s: dead letter: %s of %r: %s", queue.writer, letter.op.kind, letter.op.key, text
            )
        with queue.lock:
            journal = stream.journal
            if journal is None and queue.folder is not None:
                journal = stream.journal = Journal.create(
                    queue.folder, queue.writer, queue.durability
                )
            if journal is None:
                dead.keep(queue, letters)
            else:
                journal.bury(
                    [DeadRecord(*queue.record_of(row), text, time.time(), 0) for row in rows]
                )
            self.counts.dead += len(rows)
        self.tell([row[KEY] for row in rows])
        if self.on_dead_letter is not None:
            for letter in letters:
                try:
                    self.on_dead_letter(letter)
                except Exception:
                    self.counts.callback_errors += 1
                    log.exception("on_dead_letter")

    def _pause(self) -> None:
        """Wait before the next try: exponential, with full jitter; a flush cuts it short."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 20))
        until = time.monotonic() + random.uniform(0, longest)
        queue = self.queue
        with queue.lock:
            hurry = self.hurry
        while True:
            self._tidy()
            with queue.lock:
                left = until - time.monotonic()
                if self.stopping:
                    queue.due.wait(min(0.05, max(0.0, left)))
                    return
                if left <= 0 or self.hurry > hurry:
                    return
                queue.due.wait(min(left, TIDY_EVERY))

    # ---- afterwards ----------------------------------------------------------------------------------

    def report(self, batch: Batch, rows: int, applied: Applied) -> None:
        """Count a batch that was applied, made of so many rows."""
        counts = self.counts
        counts.batches += 1
        counts.written += len(batch)
        counts.coalesced += rows - len(batch)
        if applied.latest:
            with self.queue.lock:
                self.queue.clock.seen(applied.latest)
        if applied.superseded:
            counts.superseded += len(applied.superseded)
            log.info(
                "%s: %d operations met later versions, the first of key %r",
                self.queue.writer,
                len(applied.superseded),
                applied.superseded[0].key,
            )

    def _sure(self, stream: Stream, batch: Batch, applied: Applied) -> Set[Hashable]:
        """Of which keys of a batch the source has what was put here."""
        if stream.adopted or applied.again or self.on_applied is None:
            return frozenset()
        unsure = {op.key for op in batch if op.kind != PUT}
        unsure.update(op.key for op in applied.superseded)
        return {op.key for op in batch if op.key not in unsure}

    def tell(
        self, keys: Iterable[Hashable], sure: Set[Hashable] = frozenset(), *, local: bool = False
    ) -> None:
        """The source now decides about these keys (see `Told`)."""
        if self.on_applied is not None and (told := Told(keys, sure, local=local)):
            try:
                self.on_applied(told)
            except Exception:
                self.counts.callback_errors += 1
                log.exception("on_applied")

    def _trim(self, stream: Stream) -> None:
        try:
            self.queue.trim(stream)
        except JournalError as error:
            # Nothing is lost: the writer knows what it has. But the room is needed.
            log.warning("%s", error)
            self.counts.last_error = str(error)
            self.queue.cramped = True
        if self.queue.cramped and stream is self.queue.own:
            with self.queue.lock:
                self.queue.renew()

    def _tidy(self) -> None:
        """Copy the journal's log back when it has grown."""
        journal = self.queue.own.journal
        if journal is None:
            return
        size = journal.log_size()
        # The log is as long after it was copied, until the next write begins it anew.
        if size < CHECKPOINT_AT or self._tidied == (journal.id, size):
            return
        with self.queue.files:
            journal.checkpoint()
        if journal.log_size() > WAIT_AT:
            # Writers leave it no moment in which all is copied, without which it never begins anew. There is
            # little left to copy now, so let them wait for that.
            with self.queue.lock:
                journal.checkpoint()
        self._tidied = (journal.id, journal.log_size())

    def _leave(self, stream: Stream) -> None:
        """An adopted journal is drained."""
        with self.queue.lock:
            self.queue.adopted.remove(stream)
            self.queue.changed.notify_all()
            if stream.journal is not None:
                stream.journal.close()

    # ---- other journals --------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """From time to time: journals of dead processes, and dead letters that are to be tried again."""
        if self.queue.folder is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self.adopt_every
        self.adopt(strict=False)
        dead.revive(self.queue)

    def adopt(self, *, strict: bool) -> int:
        """Take over all journals of dead processes of this writer; how many operations that were. strict:
        raise what is wrong with the directory, instead of logging it."""
        queue = self.queue
        assert queue.folder is not None
        total = 0
        mine = {s.id for s in (queue.own, *queue.adopted)}
        orphans = folder.orphans(queue.folder, queue.writer, queue.durability, mine, strict=strict)
        while True:
            with queue.files:
                journal = next(orphans, None)
                if journal is None:
                    return total
                stream, bad = queue.adopt(journal)
            for record, text in bad:
                with queue.lock:
                    journal.bury([DeadRecord(*record, text, time.time(), 0)])
                self.counts.dead += 1
                log.error("%s: dead letter: %s", journal.path, text)
            oldest = time.time() - self.adopt_within
            late = [row for row in stream.rows if seconds_of(row[VERSION]) < oldest]
            if late:
                self.bury(stream, late, f"left for more than {self.adopt_within:.0f} s")
                with queue.lock:
                    for row in late:
                        stream.rows.remove(row)
                queue.settle(stream, late, None)
            self.tell([row[KEY] for row in stream.rows], local=True)
            total += len(stream.rows)
            self.counts.adopted += len(stream.rows)
            if stream.empty():
                self._leave(stream)
            else:
                log.info("%s: adopted %d operations", journal.path, len(stream.rows))
