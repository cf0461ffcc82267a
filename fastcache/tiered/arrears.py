"""What L2 has not been told yet, or may have forgotten: pending invalidations, and those of the last minute."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastcache._keys import decode, name_of_encoded
from fastcache.stores.protocol import bucket_of
from fastcache.tiered.book import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastcache.stores.protocol import Message, Target
    from fastcache.tiered.core import Core

log = logging.getLogger("fastcache")

#: Own invalidations that are sent again after L2 has lost some, and for how many seconds.
RING, RING_SECONDS = 10_000, 60.0
#: Keys at most that keep clear of L2 until their invalidation has reached it; beyond, all do.
PENDING = 10_000


class Arrears:
    """Those of one tiered cache. Safe from any thread.

    missed: drops what L1 holds of these buckets.
    """

    def __init__(self, core: Core, missed: Callable[[set[int]], None]) -> None:
        self._core = weakref.ref(core)
        self._missed = missed
        self._ring: deque[tuple[float, Target, bool]] = deque(maxlen=RING)
        self._marks_ring: deque[tuple[float, bytes]] = deque(maxlen=RING)
        #: name -> [what is to be invalidated]; a list of its own each time, so that one can be told from the next
        self.pending: dict[str, list[Target]] = {}
        #: All of L2 is kept clear of: more invalidations are pending than can be told.
        self.pending_all = False
        #: tags, by their encodings, whose invalidation L2 has not heard of -> which one it was
        self._pending_marks: dict[bytes, int] = {}
        self._number = 0
        #: own changes that may come late: name -> (when they were begun, what they concern)
        self._unsure: dict[str, tuple[float, Target]] = {}
        #: name -> messages of own changes, of those that are in `_unsure`, that are still to come
        self._expected: Counter[str] = Counter()
        self._lock = threading.RLock()

    def forked(self) -> None:
        """In a child: what its parent owes is the parent's."""
        core = self._core()
        if core is not None:
            self.__init__(core, self._missed)  # type: ignore[misc]

    def remember(self, targets: Sequence[Target], *, put: bool = False) -> None:
        """To be sent again if L2 loses them. put: a value took the place of the old one."""
        now = time.monotonic()
        self._ring.extend([(now, target, put) for target in targets])

    def postpone(self, targets: Sequence[Target]) -> None:
        """These could not be sent: their keys keep clear of L2 until they could."""
        with self._lock:
            for target in targets:
                if len(self.pending) >= PENDING:
                    self.pending_all = True
                    break
                self.pending[target.name] = [target]

    def doubt(self, targets: Sequence[Target]) -> None:
        """It is not known whether the store did what was asked for these, or will yet."""
        now = time.monotonic()
        with self._lock:
            self._unsure = {
                name: (at, target)
                for name, (at, target) in self._unsure.items()
                if now - at < RING_SECONDS
            }
            self._unsure.update((target.name, (now, target)) for target in targets[:PENDING])
            for name in [name for name in self._expected if name not in self._unsure]:
                del self._expected[name]

    @contextmanager
    def expecting(self, targets: Iterable[Target]) -> Iterator[None]:
        """Around a request that tells of these through L2: of each one message will come, and is no surprise."""
        names: list[str] = []
        if self._unsure:
            with self._lock:
                names += [t.name for t in targets if t.name in self._unsure and t.key is not None]
                self._expected.update(names)
        try:
            yield
        except BaseException:
            self.unexpect(names)  # whether it comes is not known: if so, it is a surprise
            raise

    def unexpect(self, names: Iterable[str]) -> None:
        """Of these no message will come."""
        with self._lock:
            for name in names:
                if self._expected[name] > 0:
                    self._expected[name] -= 1

    def came(self, message: Message) -> None:
        """An own message: if its sender had given up on it, what it did may have come after what was done
        instead, which is then done again."""
        if message.body is None or not self._unsure:
            return
        name = name_of_encoded(message.body)
        with self._lock:
            at, target = self._unsure.get(name, (0.0, None))
            if target is None or time.monotonic() - at > RING_SECONDS:
                return
            if self._expected[name] > 0:
                self._expected[name] -= 1
                return
        core = self._core()
        if core is not None:
            core.forget_key(decode(message.body), name)
            self.postpone([target])

    @property
    def owes(self) -> bool:
        """Whether there is something for `settle` to send."""
        return bool(self.pending or self.pending_all or self._pending_marks)

    def settle(self, *, left_out: bool = False) -> None:
        """L2 answers: send what is pending. StoreError. left_out: also if L2 is, to see whether it answers."""
        core = self._core()
        if core is None or core.space is None or core.store is None or not self.owes:
            return
        if core.gate.open and not left_out:
            return
        with self._lock:
            waiting = list(self.pending.items())
            marks = dict(self._pending_marks)
            everything = self.pending_all
        self._send_marks(core, [*marks, ROOT] if everything else [*marks])
        targets = [entry[0] for _, entry in waiting]
        self._send(core, targets)
        with self._lock:
            for name, entry in waiting:
                if self.pending.get(name) is entry:  # else it was invalidated again meanwhile
                    del self.pending[name]
            for mark, number in marks.items():
                if self._pending_marks.get(mark) == number:
                    del self._pending_marks[mark]
            if everything:
                self.pending_all = False
        log.warning("%d invalidations that L2 had missed were sent", len(targets) + len(marks))

    def _send_marks(self, core: Core, marks: list[bytes]) -> None:
        if marks:
            assert core.store is not None
            number = core.store.run(core.space.invalidate_tags(marks))
            core.book.heard(marks, number)
            core.forget_tags(marks)

    def _send(self, core: Core, targets: list[Target]) -> None:
        assert core.store is not None
        for start in range(0, len(targets), 500):
            some = targets[start : start + 500]
            with self.expecting(some):
                core.store.run(core.space.invalidate(some))
        # what was read from L2 until now may be of before
        for target in targets:
            if target.key is not None:
                core.forget_key(decode(target.key), target.name)
            else:
                self._missed({bucket_of(target.name)})

    def postpone_marks(self, marks: Iterable[bytes]) -> None:
        """These tags could not be invalidated in L2: they will be."""
        with self._lock:
            for mark in marks:
                self._number += 1
                self._pending_marks[mark] = self._number

    def remember_marks(self, marks: Sequence[bytes]) -> None:
        """To be invalidated again if L2 loses it."""
        now = time.monotonic()
        self._marks_ring.extend([(now, mark) for mark in marks])

    def replay(self, *, puts: bool) -> None:
        """L2 may have forgotten some of what it was told: tell it again. puts: of values that it may have
        lost too, that there are others."""
        core = self._core()
        if core is None or core.space is None:
            return  # there is nothing that could have forgotten it, and the others drop all they have
        with self._lock:
            self._expected.clear()  # some may have been lost
        since = time.monotonic() - RING_SECONDS
        targets = {
            t.name: t for at, t, put in list(self._ring) if at >= since and (puts or not put)
        }
        marks = {mark for at, mark in list(self._marks_ring) if at >= since}
        self.postpone_marks(marks)
        if not targets:
            return
        log.warning(
            "L2 may have gone back in time: its last %d invalidations are sent again", len(targets)
        )
        self.postpone(list(targets.values()))
