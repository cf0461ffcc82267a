"""The file beside a SQLiteStore's database: numbers in memory that all processes of the host share.

Layout, in unsigned 64-bit numbers of the machine's own byte order:

    head    one page: magic, boot id, incarnation, epoch, settled, hands of the eviction
    used    one byte for each class of values: read since the eviction's hand came by
    slots   one for each name space: its name, its COUNTERS + 1 generations, the last sequence of its
            tags, and for each counter up to which generation its changes are done

Who may change what. Generations and head change only inside a write transaction of the database by
someone who holds this file's lock shared, or by someone who holds it exclusively. So no increment is
lost, and who has the database's write lock knows that a change that is not done was one of a process that
died.

How a change goes: the generation advances before the commit, and is written down as done after it. Whoever
notes the generation, and then reads the database, has read what was there before the change (then the
generation has advanced since), or finds it not done, and asks again under the database's write lock.
Neither needs the process that made the change to live on. (A generation that advanced before the
commit only would miss who reads between the two; after it only, whom a kill leaves untold; and both
together still miss who reads between, when the kill comes after the commit. And a mere mark "under way" could
be taken away by a process that ends late, while the next change is under way.)

`used` holds hints, written by anyone.

The file is made whole at once, so that no access finds the disk full. It belongs to one boot: whatever
was lost with the machine's memory, nobody that lives knows of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import sys
import time

from fastcache.stores.protocol import COUNTERS, StoreError

_MAGIC = b"fcgen\x02\r\n"
_HEAD = mmap.PAGESIZE
#: Bytes that say what was read lately; a power of two.
USED = 1 << 18
#: Name spaces in one file.
SLOTS = 64
_NAME = 64
_WORDS = COUNTERS + 2
_SLOT = _NAME + 8 * _WORDS + 8 * COUNTERS
_SIZE = _HEAD + USED + SLOTS * _SLOT
# numbers of the words of the head; 0 is the magic, 1 and 2 are the boot id
_INCARNATION, EPOCH, SETTLED, HAND = range(3, 7)
#: Which word of a slot holds the last sequence of its tags.
SEQUENCE = COUNTERS + 1
_WRAP = (1 << 64) - 1

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def now() -> int:
    """Nanoseconds of a clock that all processes of the host share, that no one sets, and that goes on while the
    machine is suspended."""
    if _BOOT_CLOCK is None:
        return time.monotonic_ns()
    return time.clock_gettime_ns(_BOOT_CLOCK)


def boot_id() -> bytes:
    """16 bytes that differ from boot to boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            text = file.read()
    except OSError:
        # when it was, to the minute; set clocks look like a boot, which costs what the file holds
        text = b"%d" % ((time.time_ns() - now()) // 60_000_000_000)
    return hashlib.blake2b(text, digest_size=16).digest()


class MovedError(Exception):
    """The file is not the one at its path any more."""


class Generations:
    """The file, open and mapped. Not thread-safe: the store's lock is around it, but for the reading of words.

    before: the incarnation that it had in an earlier boot, if it was settled then and this object found it so.
    """

    def __init__(self, path: str, limit: float) -> None:
        """Open the file, made if need be; waits for its lock until `limit` (time.monotonic). OSError, StoreError."""
        self.path = path
        self.before: int | None = None
        self._fd = -1
        exclusive = False
        while True:
            self._open()
            self.lock(exclusive, limit)
            if self._same():
                size = os.fstat(self._fd).st_size
                if size == _SIZE or (size == 0 and exclusive):
                    if self._fit(exclusive):
                        self.unlock()
                        return
                elif size and exclusive:
                    # somebody else's, or cut off: whoever has it mapped finds that it moved
                    os.unlink(path)
                exclusive = True
            self.close()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._fd)
        self._inode = (status.st_dev, status.st_ino)

    def _same(self) -> bool:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def _fit(self, exclusive: bool) -> bool:
        """Map the file, and see to it that it is one of this boot; False: that takes the exclusive lock."""
        if os.fstat(self._fd).st_size == 0:
            blank = memoryview(bytes(_SIZE))
            while blank:
                blank = blank[os.write(self._fd, blank) :]
        # of a descriptor of its own: a mapping keeps its descriptor, in children too, and with it a lock
        # would live as long as they do
        mapped = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(mapped, _SIZE)
        finally:
            os.close(mapped)
        whole = memoryview(self._map)
        self.head = whole[:_HEAD].cast("Q")
        self.used = whole[_HEAD : _HEAD + USED]
        self._slots = whole[_HEAD + USED :]
        boot = boot_id()
        if self._map[:24] == _MAGIC + boot:
            return True
        if not exclusive:
            return False
        if self._map[:8] == _MAGIC and self.head[SETTLED]:
            self.before = self.incarnation
        self.head[_INCARNATION] = int.from_bytes(os.urandom(8), sys.byteorder) | 1
        self.replaced()
        # the magic last, so that a half of this is done again
        self._map[:8] = bytes(8)
        self._map[8:24] = boot
        self._map[:8] = _MAGIC
        return True

    @property
    def incarnation(self) -> int:
        return self.head[_INCARNATION]

    # ---- the lock ------------------------------------------------------------------------------

    def lock(self, exclusive: bool, limit: float) -> None:
        """Shared by those who write, exclusive for who replaces a file. StoreError if not until `limit`."""
        if self._fd < 0:  # after a fork: the parent's descriptor has the parent's lock
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                raise MovedError from None
            status = os.fstat(self._fd)
            if (status.st_dev, status.st_ino) != self._inode:
                raise MovedError
        how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        pause = 0.0002
        while True:
            try:
                fcntl.flock(self._fd, how)
                return
            except BlockingIOError:
                if (left := limit - time.monotonic()) <= 0:
                    text = "another process has kept it locked for too long"
                    raise StoreError(self.path, "timeout", text) from None
                time.sleep(min(pause, left))
                pause = min(2 * pause, 0.01)

    def unlock(self) -> None:
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def moved(self) -> bool:
        """Whether the path leads elsewhere by now."""
        return not self._same()

    def forked(self) -> None:
        """In a child: what is mapped stays, the lock is the parent's."""
        number, self._fd = self._fd, -1
        if number >= 0:
            os.close(number)

    def close(self) -> None:
        """The mapping stays for those who look at it."""
        self.forked()

    # ---- name spaces -----------------------------------------------------------------------------

    def find(self, namespace: str) -> int | None:
        """The slot of a name space."""
        name = namespace.encode().ljust(_NAME, b"\0")
        for slot in range(SLOTS):
            held = bytes(self._slots[slot * _SLOT : slot * _SLOT + _NAME])
            if held == name:
                return slot
            if not held[0]:
                break
        return None

    def add(self, namespace: str) -> int:
        """The slot of a name space that may be new. In a write transaction. StoreError: there is no room."""
        if (slot := self.find(namespace)) is not None:
            return slot
        for slot in range(SLOTS):
            at = slot * _SLOT
            if not self._slots[at]:
                self._slots[at : at + _NAME] = namespace.encode().ljust(_NAME, b"\0")
                return slot
        text = f"no room for the name space {namespace!r}: one file takes {SLOTS} of them"
        raise StoreError(self.path, "full", text)

    def words(self, slot: int) -> memoryview:
        """The generations of a slot: any change, each counter, the last sequence of tags."""
        at = slot * _SLOT + _NAME
        return self._slots[at : at + 8 * _WORDS].cast("Q")

    def done(self, slot: int) -> memoryview:
        """For each counter of a slot the generation up to which its changes are done."""
        at = slot * _SLOT + _NAME + 8 * _WORDS
        return self._slots[at : at + 8 * COUNTERS].cast("Q")

    def advance_all(self) -> None:
        """Everything may have changed. Under the exclusive lock."""
        for slot in range(SLOTS):
            if self._slots[slot * _SLOT]:
                words = self.words(slot)
                for number in range(COUNTERS, -1, -1):
                    words[number] = (words[number] + 1) & _WRAP
                self.done(slot)[:] = words[1 : COUNTERS + 1]

    def replaced(self) -> None:
        """The database was replaced. Under the exclusive lock."""
        self.head[EPOCH] = (self.head[EPOCH] + 1) & _WRAP
        self.advance_all()

    def settle(self, settled: bool) -> None:
        """Say, so that a power cut cannot undo it, whether the database is as it is on the disk."""
        self.head[SETTLED] = settled
        self._map.flush(0, _HEAD)
