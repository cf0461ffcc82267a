"""Write-behind: a write is acknowledged when it is kept, and reaches the source a little later.

    w = WriteBehind(SQLiteWriter("app.db", table="counters"), journal="app.journal.d")
    w.put("visits", 7)                  # in the journal
    w.incr("visits")
    w.pending("visits").value           # 8: what a reader must see, whatever the source says
    w.flush(timeout=10); w.close()

The surface that a tiered cache uses, the same in `WriteThrough`:

    write(ops), awrite(ops)     acknowledge operations, all or none
    pending(key)                what is acknowledged and not yet in the source, as one Op (None: nothing);
                                `op.over(value from the source)` is what to show
    current(key, load)          the same where an incr is pending, without counting a batch twice that is
                                being applied at this moment; acurrent(key, load) of an awaited load
    on_applied                  callable(keys), set by whoever holds copies of the source: it has changed
                                (or may have), and the copies are to go; called before `pending` forgets.
                                The keys are a `Told`, which says what need not go
    version                     none of what was acknowledged has a later one
    flush(timeout), close(timeout), aflush, aclose

What is promised: an acknowledged write survives what `durability` says, and reaches the source at least
once, with SQLiteWriter and PostgresWriter exactly once; writes of one key in their order. Not promised: an order
across keys, and that other processes see a write before it has reached the source.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal as signals_
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from fastcache._types import MISSING
from fastcache.loading.rules import check_timeout
from fastcache.writing import dead, folder
from fastcache.writing.codec import Codec, Exact
from fastcache.writing.direct import write_directly
from fastcache.writing.drain import Drainer
from fastcache.writing.errors import QueueFull
from fastcache.writing.ops import DELETE, INCR, PUT, Op
from fastcache.writing.options import (
    callable_if_any,
    codec_if_any,
    one_of,
    positive_int,
    seconds_at_least,
    signals_of,
)
from fastcache.writing.progress import Progress
from fastcache.writing.queue import Queue
from fastcache.writing.stats import DeadLetter, WritingStats
from fastcache.writing.tasks import TaskFaces
from fastcache.writing.writers import as_writer, checker, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from types import FrameType

    from fastcache.writing.ticket import Item

log = logging.getLogger("fastcache")

_FULL = ("write_through", "block", "raise")
_DURABILITIES = ("memory", "process", "power")


class WriteBehind(TaskFaces):
    """A queue before a writer. Safe from all threads, tasks and event loops, and after a fork: the child has
    an empty queue and a journal of its own, and what the parent accepted the parent writes.

    writer: see fastcache.writing.writers. journal: a directory for journals, made if absent, on a local
    file system; processes that share it adopt each other's journals. None: nothing outlives the process.
    durability: what a write that was acknowledged survives: "memory" nothing, "process" the death of the process
    (default with a journal), "power" that of the machine. batch: keys per transaction at most. delay: seconds
    until a write is on its way at the latest. max_pending, max_bytes: operations and bytes that may wait.
    on_full: what a write does then: "write_through" writes to the source at once, with what waits of its
    key; "block" waits (block_timeout: seconds at most, None for ever); "raise"; each but a successful one ends
    in QueueFull. on_dead_letter: called with each DeadLetter. on_applied: see the module. codec: how values
    become text in the journal; the default is the writer's, else `codec.Exact`. adopt_every: seconds
    between looks for journals whose process is dead. adopt_within: seconds; what is older when its journal is
    adopted becomes a dead letter, since the source may have forgotten what was deleted since. exit_timeout:
    seconds that the flush at the interpreter's exit may take; 0 for none. signals: such as
    (signal.SIGTERM,): let these end the program with that flush; from the main thread only.

    JournalError: the journal directory cannot be used, or holds something that is no journal, or is one of
    a newer version. Writes raise TypeError and ValueError (cannot be written), JournalError (cannot be kept:
    disk full, read-only), QueueFull and Closed; nothing was accepted then.
    """

    def __init__(
        self,
        writer: Any,
        journal: str | os.PathLike[str] | None = None,
        durability: str | None = None,
        *,
        batch: int = 500,
        delay: float = 1.0,
        max_pending: int = 100_000,
        max_bytes: int = 256 << 20,
        on_full: str = "write_through",
        block_timeout: float | None = None,
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_applied: Callable[[Sequence[Hashable]], object] | None = None,
        codec: Codec | None = None,
        adopt_every: float = 30.0,
        adopt_within: float = 30 * 86_400.0,
        exit_timeout: float = 10.0,
        signals: Iterable[int] = (),
    ) -> None:
        self._writer = as_writer(writer)
        if durability is None:
            durability = "memory" if journal is None else "process"
        one_of("durability", durability, _DURABILITIES)
        one_of("on_full", on_full, _FULL)
        if journal is None and durability != "memory":
            raise ValueError(f"durability={durability!r} needs a journal")
        for name, number in (
            ("batch", batch),
            ("max_pending", max_pending),
            ("max_bytes", max_bytes),
        ):
            positive_int(name, number)
        for name, seconds in (("adopt_every", adopt_every), ("adopt_within", adopt_within)):
            seconds_at_least(name, seconds, above=True)
        for name, seconds in (("delay", delay), ("exit_timeout", exit_timeout)):
            seconds_at_least(name, seconds)
        if block_timeout is not None:
            seconds_at_least("block_timeout", block_timeout)
        callable_if_any("on_dead_letter", on_dead_letter)
        callable_if_any("on_applied", on_applied)
        codec_if_any(codec)
        signals = signals_of(signals)
        own = codec or getattr(self._writer, "codec", None)
        if own is None and journal is not None:
            own = Exact()
        self._on_full = on_full
        self._block_timeout = block_timeout
        self._exit_timeout = exit_timeout
        self._queue = Queue(
            folder=None if journal is None else folder.prepare(journal),
            durability=durability,
            writer=name_of(writer),
            codec=own,
            check=checker(self._writer),
            max_pending=max_pending,
            max_bytes=max_bytes,
        )
        self._drainer = Drainer(
            self._queue,
            self._writer,
            batch=batch,
            delay=delay,
            adopt_every=adopt_every,
            adopt_within=adopt_within,
            on_applied=on_applied,
            on_dead_letter=on_dead_letter,
        )
        self._after_fork_here()
        if journal is not None:
            try:
                if self._drainer.adopt(strict=True):
                    self._drainer.start_later()
            except BaseException:
                self._release()
                raise
        _live.add(self)
        for number in signals:
            self._install(number)

    def _after_fork_here(self) -> None:
        self._committing = None
        self._closing = threading.Lock()

    def _after_fork(self) -> None:
        self._queue.after_fork()
        self._drainer.after_fork()
        self._after_fork_here()

    def __repr__(self) -> str:
        queue = self._queue
        kept = "" if queue.folder is None else f" in {queue.folder}"
        return f"<WriteBehind of {queue.writer}: {queue.count} pending{kept}>"

    @property
    def on_applied(self) -> Callable[[Sequence[Hashable]], object] | None:
        """Called with keys that the source has now; see the module."""
        return self._drainer.on_applied

    @on_applied.setter
    def on_applied(self, value: Callable[[Sequence[Hashable]], object] | None) -> None:
        self._drainer.on_applied = value
        if self._queue.adopted:
            self._start()

    @property
    def version(self) -> int:
        """None of what was accepted has a later version."""
        return self._queue.clock.latest

    # ---- writing -------------------------------------------------------------------------------------

    def put(self, key: Hashable, value: Any) -> None:
        """Store a value. Acknowledged on return. O(size)."""
        self._accept([self._queue.item(PUT, key, value)])

    def delete(self, key: Hashable) -> None:
        """Delete a key, whether it is there or not."""
        self._accept([self._queue.item(DELETE, key, None)])

    def incr(self, key: Hashable, delta: int = 1, initial: int = 0) -> None:
        """Add to a number; a key that is absent counts as initial."""
        self._accept([self._queue.item(INCR, key, delta, initial)])

    def write(self, ops: Sequence[Op]) -> None:
        """Acknowledge operations, all or none; their versions and sequences are given here."""
        self._accept(self._items(ops))

    def _items(self, ops: Sequence[Op]) -> list[Item]:
        return [self._queue.item(op.kind, op.key, op.value, op.initial) for op in ops]

    def _accept(self, items: Sequence[Item]) -> None:
        deadline = None
        while not self._queue.accept(items):
            self._start()
            if deadline is None and self._block_timeout is not None:
                deadline = time.monotonic() + self._block_timeout
            if self._handle_full(items):
                return
            self._wait_for_room(items, deadline)
        if self._drainer.thread is None:
            self._start()

    def _start(self) -> None:
        with self._queue.lock:
            self._drainer.start()
            self._queue.due.notify_all()

    def _handle_full(self, items: Sequence[Item]) -> bool:
        """What a full queue means here: True: it was written; False: wait for room, and try again."""
        queue = self._queue
        if self._on_full == "write_through":
            return write_directly(self._drainer, items)
        if self._on_full == "raise":
            raise QueueFull(f"{queue.count} operations wait (max_pending={queue.max_pending})")
        if len(items) > queue.max_pending or sum(item[6] for item in items) > queue.max_bytes:
            raise QueueFull("larger than what may wait in all: max_pending, max_bytes")
        return False

    def _wait_for_room(self, items: Sequence[Item], deadline: float | None) -> None:
        queue = self._queue
        with queue.lock:
            while not queue.room(items) and not queue.closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise QueueFull(
                        f"{queue.count} operations wait, also after {self._block_timeout} s"
                    )
                queue.changed.wait(left)

    # ---- reading -------------------------------------------------------------------------------------

    def pending(self, key: Hashable) -> Op | None:
        """What was acknowledged of a key and is not in the source yet, as one operation. O(1), no lock."""
        entry = self._queue.overlay.get(key)
        return None if entry is None else entry.op()

    def is_last(self, key: Hashable, value: Any) -> bool:
        """Whether this object is what waits of a key: nothing was acknowledged after it. O(1), no lock."""
        entry = self._queue.overlay.get(key)
        return entry is not None and entry.value is value

    def current(self, key: Hashable, load: Callable[[Any], Any]) -> Any:
        """The value of a key, pending writes included, MISSING if there is none. load(key) -> value or
        MISSING reads the source; no batch is applied while it does where an incr is pending."""
        op = self.pending(key)
        if op is None:
            return load(key)
        if op.kind != INCR:
            return op.over(MISSING)
        with self._drainer.applying:
            op = self.pending(key)
            if op is not None and op.kind != INCR:
                return op.over(MISSING)
            value = load(key)
            return value if op is None else op.over(value)

    def stats(self) -> WritingStats:
        """A record of the moment."""
        queue = self._queue
        counts = self._drainer.counts
        with queue.lock:
            oldest = time.monotonic() - queue.since if queue.count else 0.0
            return WritingStats(
                pending=queue.count,
                pending_keys=len(queue.overlay),
                pending_bytes=queue.bytes,
                lag=oldest,
                accepted=queue.accepted,
                failing=self._drainer.failing,
                **{name: getattr(counts, name) for name in counts.__slots__},
            )

    # ---- dead letters ----------------------------------------------------------------------------------

    def dead_letters(self) -> list[DeadLetter]:
        """What the writer refused, of this process's own journal (`python -m fastcache journal` lists all)."""
        return dead.letters(self._queue)

    def retry_dead(self, ids: Iterable[int] | None = None) -> int:
        """Try dead letters again, all or those; how many. They come last, with the version they had."""
        count = dead.revive(self._queue, None if ids is None else set(ids), marked=False)
        if count:
            self._start()
        return count

    def drop_dead(self, ids: Iterable[int] | None = None) -> int:
        """Give dead letters up, all or those; how many."""
        return dead.drop(self._queue, None if ids is None else set(ids))

    def adopt(self) -> int:
        """Look for journals of dead processes now; how many operations were taken over."""
        if self._queue.folder is None or self._queue.closed:
            return 0
        count = self._drainer.adopt(strict=False)
        if count:
            self._start()
        return count

    # ---- ending --------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was acknowledged before is in the source (or a dead letter).

        timeout: seconds; False: it is not. On a terminal a bar shows the progress of a long flush.
        """
        check_timeout(timeout)
        queue, drainer = self._queue, self._drainer
        queue.refuse_within()
        deadline = None if timeout is None else time.monotonic() + timeout
        with queue.lock:
            own, target, adopted = queue.own, queue.own.sequence, list(queue.adopted)
            total = queue.count
            if not total:
                return True
            drainer.start()
            drainer.hurry += 1
            queue.due.notify_all()

        def done() -> bool:
            return not queue.count or (
                (queue.own is not own or own.through >= target)
                and not any(stream in queue.adopted for stream in adopted)
            )

        progress = Progress(total, f"writing to {queue.writer}")
        try:
            with queue.lock:
                while not done():
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    queue.changed.wait(
                        progress.interval if left is None else min(left, progress.interval)
                    )
                    progress.show(total - queue.count)
            return True
        finally:
            progress.close()
            with queue.lock:
                drainer.hurry -= 1

    def close(self, timeout: float | None = None) -> bool:
        """Take no more writes, `flush`, and let go of the journal. timeout: seconds. Once is enough.

        False: not everything has reached the source; it is in the journal, for whoever adopts that, or,
        without one, lost, and logged as an error.
        """
        check_timeout(timeout)
        queue, drainer = self._queue, self._drainer
        queue.refuse_within()
        with self._closing:
            with queue.lock:
                if queue.closed:
                    return not queue.count
                queue.closed = True
                queue.changed.notify_all()
            for waiter in queue.take_waiters():
                waiter()
            self._stop_committing()
            written = self.flush(timeout)
            with queue.lock:
                drainer.stopping = True
                queue.due.notify_all()
            thread = drainer.thread
            if thread is not None and thread is not threading.current_thread():
                thread.join(1.0 if not written else None)
            lost = queue.leave_behind()
            if lost:
                log.error(
                    "%s: %d operations are lost: they were in memory only", queue.writer, lost
                )
            elif not written:
                log.warning(
                    "%s: %d operations are left in %s, for the next process that writes there",
                    queue.writer,
                    queue.count,
                    queue.folder,
                )
            if thread is None or not thread.is_alive():
                self._release()
            _live.discard(self)
            return written

    def _release(self) -> None:
        with self._queue.lock:
            for stream in (self._queue.own, *self._queue.adopted):
                if stream.journal is not None:
                    stream.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _install(self, number: int) -> None:
        """Let a signal end the program in the ordinary way, which flushes."""
        before = signals_.getsignal(number)

        def handle(received: int, frame: FrameType | None) -> None:
            if callable(before):
                before(received, frame)
            elif before != signals_.SIG_IGN:
                raise SystemExit(128 + received)

        signals_.signal(number, handle)


#: Those that the end of the interpreter flushes.
_live: set[WriteBehind] = set()


@atexit.register
def _at_exit() -> None:
    for behind in list(_live):
        timeout = behind._exit_timeout
        if timeout:
            behind.close(timeout)


def _after_fork() -> None:
    for behind in list(_live):
        behind._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
