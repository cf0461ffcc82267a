"""Coherence: what others invalidate reaches this process's L1, and L1 is trusted only while that is certain.

One daemon thread for each tiered cache that has an L2 or a backplane. It listens to the backplane; and once a
second it reads the counters of all buckets, waits until every message that was published before has
come, and compares. A counter that is not what the messages say means that some were lost: what L1 holds of that
bucket is dropped. Then, and only then, L1 is trusted for TRUST seconds more, counted from before the counters
were read. Where the store shares its counters in memory (SQLiteStore), the path of a hit compares them
itself, and there is no thread.

The rules, and what each is for: docs/internals/coherence.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
import weakref
from typing import TYPE_CHECKING

from fastcache._core import fence_loads
from fastcache._keys import decode, name_of_encoded
from fastcache.stores.protocol import BUCKETS, COUNTERS, EVENTS, TAGS, StoreError, bucket_of
from fastcache.tiered.arrears import Arrears
from fastcache.tiered.options import TRUST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastcache.stores.protocol import Backplane, Counter, Listener, Message
    from fastcache.tiered.core import Core

log = logging.getLogger("fastcache")

#: Seconds between two readings of the counters.
BEAT = 1.0
#: More changed buckets than this, and all of L1 is dropped rather than searched.
MANY_BUCKETS = 16

#: A name that no key has, to see whether L2 answers.
NOBODYS = "probe:" + 32 * "0"
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
_all: weakref.WeakSet[Coherence] = weakref.WeakSet()


def uptime() -> float:
    """Seconds on a clock that runs on while the machine is suspended, where there is one."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def _after_fork() -> None:
    for each in list(_all):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Coherence:
    """The link of one tiered cache to the others of its name space. Safe from any thread."""

    def __init__(self, core: Core, backplane: Backplane | None) -> None:
        self._core = weakref.ref(core)
        self._l1 = core.l1
        self._trust = core.trust
        self._book = core.book
        self._counts = core.counts
        self._backplane = backplane
        self._known: list[Counter | None] = [None] * COUNTERS
        self.arrears = Arrears(core, self.missed)
        self.handler: Callable[[bytes, bool], None] | None = None
        self._lock = threading.RLock()
        self._beating = threading.Lock()
        self._numbers: list[int] = []
        self._incarnation: int | None = None
        self._reset()
        self.lost_at = time.monotonic()
        #: The shared memory could not be looked at, when that was last tried.
        self.blind = False
        #: on `uptime`: up to when everything has been heard
        self.heard_at = uptime()
        self._grown_at = 0.0
        if core.level != "eventual":
            self._trust.end()
        _all.add(self)

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._stopped = False
        self._stop = threading.Event()
        #: whether a load began without waiting for that
        self.hasty = False
        #: Set once the first attempt to be trusted has ended, either way.
        self.tried = threading.Event()

    def forked(self) -> None:
        """In a child: its parent's thread and connections are not there. What is known stays, and is compared."""
        core = self._core()
        if core is not None:
            core.renew_origin()  # else it would take what the parent says for its own
        self._lock = threading.RLock()
        self._beating = threading.Lock()
        self.arrears.forked()
        self._reset()
        self._trust.end()
        self.lost_at = time.monotonic()

    # ---- beginning and end -----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen, if that is not under way. Returns at once."""
        with self._lock:
            if self._thread is not None or self._stopped:
                return
            core = self._core()
            if core is None:
                return
            if core.shares_memory:
                self.tried.set()  # there is nothing to listen to: `catch_up` looks
                return
            self._thread = threading.Thread(
                target=_run, args=(weakref.ref(self),), name="fastcache-coherence", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is on its way out: no trust, but no harm
                self._thread = None
                self.tried.set()

    @property
    def probes(self) -> bool:
        """Whether the thread runs, which sees when an L2 that was left out answers again."""
        return self._thread is not None and not self._stopped

    def stop(self) -> None:
        """End the thread, and wait a moment for it."""
        with self._lock:
            self._stopped = True
            thread, listener = self._thread, self._listener
            self._trust.end()
            self.tried.set()  # nobody waits for what will not come
        self._stop.set()
        if listener is not None:
            with contextlib.suppress(StoreError):
                listener.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2.0)

    # ---- one round of the thread ---------------------------------------------------------------

    def round(self, wait: float) -> float:
        """Listen for at most `wait` seconds, or beat if it is time; seconds to wait before the next round."""
        try:
            if self._listener is None and self._backplane is not None:
                self._listener = self._backplane.listen(self._namespace())
                again = self.tried.is_set()
                if self._stopped:
                    return 0.0  # meanwhile, which sets `tried` too
                if again:
                    # It may be another server, which has not heard what the last one heard: what it
                    # should know is told again, and what it counts means nothing beside what was known.
                    # Most likely it is the same, and has what was put.
                    self._known = [None] * COUNTERS
                    self.missed(set(range(COUNTERS)))
                    self.arrears.replay(puts=False)
                wait = 0.0
            if wait <= 0:
                if not self.beat():
                    self.tried.set()
                    return random.uniform(0.1, 0.3)
            elif self._listener is not None:
                self._deliver(self._listener.poll(wait))
            else:
                self._stop.wait(wait)
        except StoreError as error:
            self._lost(error)
            self._probe()
            self.tried.set()
            return random.uniform(0.05, 0.2)
        return 0.0

    def note_state(self) -> None:
        core = self._core()
        if core is not None:
            core.note_state()

    def _probe(self) -> None:
        """Whether L2 answers, whatever is heard."""
        core = self._core()
        if core is None or core.space is None or core.store is None or core.teller is None:
            return
        # its counters may be elsewhere
        of_l2 = core.teller.is_l2
        try:
            core.store.run(core.space.counters() if of_l2 else core.space.read(NOBODYS))
        except StoreError as error:
            core.gate.failed(error)
        else:
            core.gate.succeeded()

    def try_again(self) -> None:
        """Where no thread does: whether an L2 that is left out answers, to what is pending first of all."""
        core = self._core()
        if core is None or core.store is None or core.space is None or not core.gate.may_probe():
            return
        try:
            with self._beating:
                self.arrears.settle(left_out=True)
            core.store.run(core.space.read(NOBODYS))
        except StoreError as error:
            core.gate.failed(error)
        else:
            core.gate.succeeded()

    def _namespace(self) -> str:
        core = self._core()
        return "" if core is None else core.namespace or ""

    def _lost(self, error: StoreError) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            log.warning("no longer told of invalidations: %s", error)
        core = self._core()
        if core is not None:
            core.counts.add(f"error:{error.kind}")

    # ---- trust ---------------------------------------------------------------------------------

    def beat(self) -> bool:
        """Read the counters, hear what was said before, compare, and trust. False: the counters could not be
        read, which says nothing about what is heard. StoreError: nothing is heard any more."""
        core = self._core()
        if core is None:
            return True
        with self._beating:
            now, begun, started = self._trust.now, uptime(), time.monotonic()
            counters: list[Counter] | None = None
            before = list(self._known)
            if core.teller is not None:
                try:
                    counters = core.teller.ask(core.teller.space.counters())
                except StoreError as error:
                    core.counts.add(f"error:{error.kind}")
                    if core.teller.is_l2:
                        core.gate.failed(error)
                    return False
                if core.teller.is_l2:
                    core.gate.succeeded()
            if self._listener is not None:
                self._deliver(self._listener.ping(core.trip * 2))
            if counters is not None:
                self._compare(counters, before)
            if core.teller is not None and not core.teller.is_l2 and core.gate.open:
                self._probe()
            self.arrears.settle()
            if core.level == "bounded":
                was_lost = not self._trust
                self._trust.extend(now, TRUST)
                if was_lost and self.tried.is_set():
                    log.info(
                        "told of invalidations again, after %.1f s", time.monotonic() - self.lost_at
                    )
            self.heard_at = begun
            self.lost_at = started + TRUST
            self.tried.set()
            return True

    def catch_up(self, wait: bool = True) -> None:
        """Where the counters lie in shared memory: see which have advanced by others, and trust up to there.
        StoreError. wait: for other threads and processes."""
        core = self._core()
        if core is None or core.space is None or core.store is None:
            return
        run = core.store.run if wait else core.store.run_at_once
        if not wait and self.arrears.owes and not core.gate.open:
            raise StoreError(core.store.where, "timeout", "there are invalidations to be sent")
        if not self._beating.acquire(wait, core.store.trip if wait else -1):
            raise StoreError(core.store.where, "timeout", "another thread is at it")
        try:
            begun, heard_at = self._trust.now, uptime()
            incarnation = run(core.space.counters())[0].incarnation
            memory = core.space.generations()
            shared, own = memory.shared, memory.own
            now = (shared[0] - own[0]) % 2**64
            numbers = [(shared[i] - own[i]) % 2**64 for i in range(1, COUNTERS + 1)]
            known, self._numbers = self._numbers, numbers
            if incarnation != self._incarnation:
                first = self._incarnation is None
                self._incarnation = incarnation
                self._trust.follow(shared, own)
                changed = set() if first and not len(self._l1) else set(range(COUNTERS))
            else:
                changed = {i for i in range(COUNTERS) if numbers[i] != known[i]}
            if changed and self.handler is None:
                changed.discard(EVENTS)
            if changed:
                self._counts.add("received", len(changed))
                self.missed(changed)
            if wait:
                self.arrears.settle()
            self._trust.agree(now)
            if core.level == "bounded":
                # not for ever: that the file itself was replaced is seen by looking only
                self._trust.extend(begun, BEAT)
            self.heard_at = heard_at
            self.lost_at = time.monotonic()
            self.blind = False
        finally:
            self._beating.release()

    def _compare(self, counters: Sequence[Counter], before: Sequence[Counter | None]) -> None:
        """before: what was known when the counters were asked for. Since then messages may have come that tell of
        more than they do."""
        changed: set[int] = set()
        replay = False
        for number, counter in enumerate(counters):
            was, known = before[number], self._known[number]
            if known == counter:
                continue
            ahead = (
                known is not None
                and known.incarnation == counter.incarnation
                and known.sequence > counter.sequence
            )
            back = was is not None and (
                was.incarnation != counter.incarnation or was.sequence > counter.sequence
            )
            if ahead and not back and was is not None:
                continue
            replay = replay or back
            changed.add(number)
            if back or not ahead:
                self._known[number] = counter
        first = not (self.tried.is_set() or self.hasty or len(self._l1))
        if changed and not first:  # at the first look nothing is known, and nothing was missed
            self.missed(changed)
        sequence = counters[TAGS].sequence
        self._book.sequence = max(self._book.sequence, sequence)
        if replay:
            self.arrears.replay(puts=True)

    def missed(self, numbers: set[int]) -> None:
        """Of these counters changes were missed: what they stand for is dropped from L1."""
        fence_loads(self._l1)
        if TAGS in numbers:
            self._book.forget()
        before = len(self._l1)
        if TAGS in numbers or EVENTS in numbers or len(numbers) > MANY_BUCKETS:
            self._l1.clear()
        elif (core := self._core()) is not None:
            for key in core.index.all_of(numbers):
                self._l1.delete(key)
        dropped = before - len(self._l1)
        self._counts.add("lost", len(numbers))
        if dropped > 0:
            self._counts.add("dropped", dropped)

    def grow_stale(self) -> None:
        """Nobody has been heard for max_staleness: what L1 holds from before is served no more."""
        with self._lock:
            if self._grown_at == self.heard_at:
                return
            self._grown_at = self.heard_at
        self.missed(set(range(COUNTERS)))

    # ---- messages --------------------------------------------------------------------------------

    def _deliver(self, messages: Iterable[Message]) -> None:
        for message in messages:
            try:
                self.deliver(message)
            except Exception:
                log.exception("a message could not be understood, so all of L1 is dropped")
                self.missed(set(range(COUNTERS)))

    def deliver(self, message: Message) -> None:
        """Do what a message says."""
        core = self._core()
        if core is None:
            return
        number = message.number
        own = message.origin == core.origin
        if message.version and core.source is not None:
            core.source.heard(message.version)
        if message.foreign:
            core.recheck(message.name)
            return
        if number < BUCKETS:
            if not own:
                self._counts.add("received")
                name = None if message.body is None else name_of_encoded(message.body)
                if message.body is None or name is None or bucket_of(name) != number:
                    self.missed({number})  # any of the bucket; or the key was damaged on its way
                else:
                    core.forget_key(decode(message.body), name)
                    if core.space is not None:
                        core.space.note_invalidated(number)
            else:
                self.arrears.came(message)
        elif number == TAGS and message.body is not None and message.counter is not None:
            tags = decode(message.body)
            self._book.heard(tags, message.counter.sequence)
            if not own:
                self._counts.add("received")
                core.forget_tags(tags)
        elif number == EVENTS and message.body is not None and not own and self.handler is not None:
            self.handler(message.body, False)
        self._advance(number, message.counter)

    def _advance(self, number: int, counter: Counter | None) -> None:
        if counter is None:
            return
        known = self._known[number]
        if known is not None:
            if known.incarnation != counter.incarnation:
                self.missed({number})
            elif counter.sequence <= known.sequence:
                return
            elif counter.sequence != known.sequence + 1 and number != TAGS:
                self.missed({number})
        self._known[number] = counter


def _run(reference: weakref.ref[Coherence]) -> None:
    """The thread. It holds the cache only while it has something to do, so that one that was forgotten ends it."""
    next_beat = 0.0
    listener: Listener | None = None
    while True:
        link = reference()
        if link is None or link._stopped or link._core() is None:
            break
        stop = link._stop
        wait = next_beat - time.monotonic()
        if wait <= 0:
            next_beat = time.monotonic() + BEAT
        pause = 0.1
        try:
            # short, so that the cache is let go of from time to time
            pause = link.round(min(wait, 0.25))
            link.note_state()
        except Exception:
            log.exception("the link to the other processes failed in an unexpected way")
            link.tried.set()
        listener = link._listener  # the link may be gone when this thread ends
        del link
        if pause:
            stop.wait(pause)
            next_beat = 0.0
    if listener is not None:
        listener.close()
