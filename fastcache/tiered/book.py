"""The book of tags: when each was last invalidated, as far as this process knows."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The tag that every entry has, by its encoding: `bump_version` invalidates it.
ROOT = b""
#: How the tag begins that all results of one cached function have, by which `cache_clear` invalidates them; the
#: rest is the prefix of their keys. No encoding of a user's tag begins so. L1 does not hold these.
FUNCTION = b"\0"
#: Tags remembered at most; beyond that the book begins anew.
MOST = 100_000
#: Seconds that it is believed where nobody tells of changes.
UNHEARD = 1.0


class TagBook:
    """Sequence numbers of invalidations. A value is dead once one of its tags was invalidated at a number above the
    one that was current before its load began. Safe from any thread."""

    def __init__(
        self,
        heard: Callable[[], bool],
        unheard: float = UNHEARD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heard = heard
        self._unheard = unheard
        self._clock = clock
        self._lock = threading.RLock()
        self._last: dict[bytes, int] = {}
        self._read_at = clock()
        #: The latest number known; 0: none yet, so nothing with tags may be stored in L2.
        self.sequence = 0

    def forked(self) -> None:
        """In a child: who held the lock is not here."""
        self._lock = threading.RLock()

    def unknown(self, tags: Iterable[bytes]) -> list[bytes]:
        """Those of which the store has to be asked, the root among them."""
        last = self._last
        if not tags and ROOT in last and self._heard():
            return []
        if not self._heard() and self._clock() - self._read_at >= self._unheard:
            self.forget()
        return [tag for tag in (ROOT, *tags) if tag not in last]

    def learn(self, tags: Sequence[bytes], numbers: Sequence[int]) -> None:
        """What the store says, or a message."""
        with self._lock:
            if len(self._last) + len(tags) > MOST:
                root = self._last.get(ROOT)
                self._last.clear()
                if root is not None:
                    self._last[ROOT] = root
            if not self._last:
                self._read_at = self._clock()
            for tag, number in zip(tags, numbers, strict=True):
                if number > self._last.get(tag, -1):
                    self._last[tag] = number
                self.sequence = max(self.sequence, number)

    def heard(self, tags: Sequence[bytes], number: int) -> None:
        """These were invalidated just now."""
        self.learn(tags, [number] * len(tags))

    def forget(self) -> None:
        """Messages may have been lost: everything has to be asked again."""
        with self._lock:
            self._last.clear()
            self._read_at = self._clock()

    def dead(self, tags: Iterable[bytes], sequence: int) -> bool:
        """Whether one of these was invalidated after that number. All of them must be known."""
        last = self._last
        if not tags:
            return last.get(ROOT, sequence + 1) > sequence
        return any(last.get(tag, sequence + 1) > sequence for tag in (ROOT, *tags))

    def lives(self, sequence: int) -> bool:
        """Whether a value that has no tags is known not to be dead; without asking the store."""
        return self._last.get(ROOT, 2**64) <= sequence and self._heard()

    def latest(self) -> int:
        """The number above which no value may be that has no tags; all later ones are alive. Large: it is not known."""
        return self._last.get(ROOT, 2**64)

    def since(self, tags: Iterable[bytes], sequence: int) -> bool:
        """Whether one of these is known to have been invalidated after that number."""
        last = self._last
        return any(last.get(tag, 0) > sequence for tag in tags)
