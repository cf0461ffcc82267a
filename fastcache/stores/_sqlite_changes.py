"""What a SQLiteStore does within one write transaction: each function here takes the transaction, and returns
the operation's result and the counters that advance.

What is in the tables: values and leases by a 64-bit number made of their name (whose full text
lies beside it and is compared: names that share a number displace each other), tags by a 64-bit
digest (tags that share one are invalidated together). Points in time are nanoseconds of the host's clock
since boot.

Eviction. The bytes of all values are counted, each with what it takes beside its data. When one more
would go over the bound, the expired go first, the longest dead before the others. Then a hand goes over
the values in the order of their numbers, which is as good as random; a value that was read since
the hand last came by (a byte in memory that the processes share, so that a read writes nothing to
the database) is passed over once: the clock algorithm. A call goes over so many rows at most; if that
was not enough, the value is not stored.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from fastcache.stores._generations import HAND, SEQUENCE, USED, now
from fastcache.stores.protocol import (
    EVENTS,
    TAGS,
    Fill,
    Found,
    Lease,
    StoreError,
    Target,
    bucket_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache.stores._generations import Generations

    Changed = Iterable[int]

#: What a value takes beside its name and data, in bytes, and where whole pages are taken.
_ROW, _PAGE = 96, 4096
#: One tag is kept for so many bytes of the bound.
_TAG = 1024
#: Values that one call evicts, or passes over, at most.
_MOST = 512
#: No longer waits than this many nanoseconds are kept; they are as good as for ever.
_EVER = 1 << 61
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")
_MIX = 0x9E3779B97F4A7C15

#: How the token of a hold ends once another has invalidated: it still holds, but nothing may be put with it.
BROKEN = b"!broken"

READ = "SELECT data, due FROM value WHERE id = ? AND name = ?"
_LEASE = "SELECT token, due, held FROM lease WHERE id = ? AND name = ?"
_DROP_VALUE = "DELETE FROM value WHERE id = ? AND name = ? RETURNING size"
_DROP_LEASE = "DELETE FROM lease WHERE id = ? AND name = ?"
_EXPIRED = """DELETE FROM value WHERE id IN
    (SELECT id FROM value WHERE due <= ? ORDER BY due LIMIT ?) RETURNING size"""
_OLD_LEASES = (
    "DELETE FROM lease WHERE id IN (SELECT id FROM lease WHERE due <= ? ORDER BY due LIMIT 64)"
)


class Slot(NamedTuple):
    """Where a name space lies in the generations."""

    file: Generations
    number: int
    words: memoryview
    done: memoryview

    def settled(self, numbers: Iterable[int]) -> bool:
        """No change of these counters is under way, or was when its process died."""
        words, done = self.words, self.done
        return all(words[number + 1] == done[number] for number in numbers)


def value_id(at: Slot, name: str) -> int:
    """The number of a name, as SQLite has them."""
    mixed = int(name[-32:-16], 16) + (at.number + 1) * _MIX
    return (mixed & 0xFFFFFFFFFFFFFFFF) - (1 << 63)


def tag_id(at: Slot, tag: bytes) -> int:
    """The number of a tag."""
    digest = hashlib.blake2b(tag, digest_size=8, key=b"%d" % at.number).digest()
    return int.from_bytes(digest, "big", signed=True)


def found_in(at: Slot, number: int, row: tuple[bytes, int | None] | None) -> Found | None:
    """What a row of READ says now; it was used."""
    if row is None:
        return None
    data, due = row
    left = None
    if due is not None and (left := (due - now()) / 1e9) <= 0:
        return None
    at.file.used[number & (USED - 1)] = 1
    return Found(data, left)


def _due(ttl: float | None) -> int | None:
    if ttl is None or ttl >= _EVER / 1e9:
        return None
    return now() + int(ttl * 1e9)


class Transaction:
    """What changes do within one transaction."""

    def __init__(
        self, where: str, max_bytes: int, at: Slot, connection: sqlite3.Connection
    ) -> None:
        self.where = where
        self.max_bytes = max_bytes
        self.at = at
        self.execute = connection.execute
        # since the transaction began
        self.grown = self.new_tags = 0
        self._before: tuple[int, int] | None = None

    def id(self, name: str) -> int:
        return value_id(self.at, name)

    def found(self, number: int, row: tuple[bytes, int | None] | None) -> Found | None:
        return found_in(self.at, number, row)

    def end(self) -> None:
        """Write down what was counted."""
        if self.grown or self.new_tags:
            self.execute(
                "UPDATE meta SET bytes = bytes + ?, tags = tags + ?", (self.grown, self.new_tags)
            )

    def drop_value(self, number: int, name: str) -> bool:
        row = self.execute(_DROP_VALUE, (number, name)).fetchone()
        if row is not None:
            self.grown -= row[0]
        return row is not None

    def drop(self, name: str, token: bytes) -> None:
        """Value and lease, in this order; a hold only if it has this token."""
        number = self.id(name)
        self.drop_value(number, name)
        there = self.lease(number, name)
        if there is None or not there[1] or there[0] in (token, token + BROKEN):
            self.execute(_DROP_LEASE, (number, name))
        elif not there[0].endswith(BROKEN):
            broken = there[0] + BROKEN
            self.execute(
                "UPDATE lease SET token = ? WHERE id = ? AND name = ?", (broken, number, name)
            )

    def lease(self, number: int, name: str) -> tuple[bytes, bool] | None:
        """The token that is there, and whether it holds."""
        row = self.execute(_LEASE, (number, name)).fetchone()
        if row is None or row[1] <= now():
            return None
        return row[0], bool(row[2])

    def set_lease(self, number: int, name: str, token: bytes, ttl: float, held: bool) -> None:
        due = now() + int(min(ttl, _EVER / 1e9) * 1e9)
        self.execute("REPLACE INTO lease VALUES (?, ?, ?, ?, ?)", (number, name, token, due, held))

    def store(self, number: int, name: str, data: bytes, ttl: float | None) -> bool:
        """Store a value, if there is room."""
        size = len(name) + len(data) + _ROW
        if size > _PAGE:
            size = -(-size // _PAGE) * _PAGE
        if size > self.max_bytes // 8:
            return False
        row = self.execute("SELECT size FROM value WHERE id = ?", (number,)).fetchone()
        if not self._make_room(size - row[0] if row else size):
            return False
        if row is not None:
            gone = self.execute("DELETE FROM value WHERE id = ? RETURNING size", (number,))
            self.grown -= sum(freed for (freed,) in gone.fetchall())  # unless it was evicted
        self.execute(
            "INSERT INTO value VALUES (?, ?, ?, ?, ?)", (number, name, _due(ttl), size, data)
        )
        self.grown += size
        self.at.file.used[number & (USED - 1)] = 1
        return True

    def _make_room(self, size: int) -> bool:
        most = self.max_bytes - self.before()[0] - size
        if self.grown <= most:
            return True
        for (freed,) in self.execute(_EXPIRED, (now(), _MOST)).fetchall():
            self.grown -= freed
        hand = self.at.file.head[HAND] - (1 << 63)
        used = self.at.file.used
        passed: list[tuple[int, int]] = []
        seen = 0
        while self.grown > most and seen < _MOST:
            rows = self.execute(
                "SELECT id, size FROM value WHERE id > ? ORDER BY id LIMIT 16", (hand,)
            ).fetchall()
            if not rows:
                if hand == -(1 << 63):
                    break
                hand = -(1 << 63)
            for number, freed in rows:
                hand, seen = number, seen + 1
                if used[number & (USED - 1)]:
                    used[number & (USED - 1)] = 0
                    passed.append((number, freed))
                else:
                    self._evict(number, freed)
                    if self.grown <= most:
                        break
        self.at.file.head[HAND] = hand + (1 << 63)
        for (
            number,
            freed,
        ) in passed:  # everything is read all the time: the first that was passed over
            if self.grown <= most:
                break
            self._evict(number, freed)
        return self.grown <= most

    def _evict(self, number: int, size: int) -> None:
        if self.execute("DELETE FROM value WHERE id = ?", (number,)).rowcount:
            self.grown -= size

    def before(self) -> tuple[int, int]:
        """Bytes and tags when the transaction began."""
        if self._before is None:
            self._before = self.execute("SELECT bytes, tags FROM meta").fetchone()
        return self._before

    def sequence(self) -> int:
        """Of the name space's tags: what it was last, or the time in microseconds when nothing is known."""
        words = self.at.words
        if not words[SEQUENCE]:
            last = self.execute("SELECT max(sequence) FROM tag").fetchone()[0] or 0
            words[SEQUENCE] = max(last, time.time_ns() // 1000)
        return words[SEQUENCE]

    def set_tag(self, number: int, sequence: int) -> None:
        """Of too many tags those that were set the longest time ago are forgotten: whoever asks for one finds it
        as if it had just been invalidated."""
        if self.execute("UPDATE tag SET sequence = ? WHERE id = ?", (sequence, number)).rowcount:
            return
        if self.before()[1] + self.new_tags >= self.max_bytes // _TAG:
            gone = "DELETE FROM tag WHERE id IN (SELECT id FROM tag ORDER BY sequence LIMIT 64)"
            self.new_tags -= self.execute(gone).rowcount
        self.execute("INSERT INTO tag VALUES (?, ?)", (number, sequence))
        self.new_tags += 1


def lease(
    change: Transaction, names: Sequence[str], token: bytes, ttl: float
) -> tuple[list[Lease], Changed]:
    change.execute(_OLD_LEASES, (now(),))
    leases = []
    for name in names:
        number = change.id(name)
        there = change.lease(number, name)
        row = change.execute(READ, (number, name)).fetchone()
        found = change.found(number, row)
        if there is None:
            change.set_lease(number, name, token, ttl, False)
            leases.append(Lease(token, True, False, found))
        else:
            leases.append(Lease(there[0], False, there[1], found))
    return leases, ()


def fill(change: Transaction, fills: Sequence[Fill]) -> tuple[list[bool | None], Changed]:
    stored: list[bool | None] = []
    for name, token, data, ttl in fills:
        number = change.id(name)
        ours = change.lease(number, name) == (token, False)
        if ours:
            change.execute(_DROP_LEASE, (number, name))
        stored.append((change.store(number, name, data, ttl) or None) if ours else False)
    return stored, ()


def give_up(change: Transaction, names: Sequence[str], token: bytes) -> tuple[None, Changed]:
    for name in names:
        number = change.id(name)
        if change.lease(number, name) == (token, False):
            change.execute(_DROP_LEASE, (number, name))
    return None, ()


def put(change: Transaction, fills: Sequence[Fill]) -> tuple[list[bool], Changed]:
    stored, changed = [], []
    for name, token, data, ttl in fills:
        number = change.id(name)
        if token and change.lease(number, name) != (token, True):
            stored.append(False)
            continue
        stored.append(change.store(number, name, data, ttl))
        if stored[-1]:
            change.execute(_DROP_LEASE, (number, name))
            changed.append(bucket_of(name))
    return stored, changed


def invalidate(
    change: Transaction, targets: Sequence[Target], token: bytes
) -> tuple[None, Changed]:
    for target in targets:
        change.drop(target.name, token)
    return None, [bucket_of(target.name) for target in targets]


def hold(
    change: Transaction, targets: Sequence[Target], token: bytes, ttl: float
) -> tuple[None, Changed]:
    _, changed = invalidate(change, targets, token)
    for target in targets:
        change.set_lease(change.id(target.name), target.name, token, ttl, True)
    return None, changed


def incr(
    change: Transaction, name: str, delta: int, initial: int, ttl: float | None
) -> tuple[int, Changed]:
    number = change.id(name)
    row = change.execute(READ, (number, name)).fetchone()
    found = change.found(number, row)
    if found is None:
        value = initial + delta
    elif _INTEGER.fullmatch(found.data):
        value = int(found.data) + delta
    else:
        raise TypeError("another value is there, no counter")
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(f"the counter would be {value}, which is beyond 64 bits")
    text = b"%d" % value
    if found is None:
        if not change.store(number, name, text, ttl):
            raise StoreError(change.where, "full", "no room for the counter")
    else:
        change.execute("UPDATE value SET data = ? WHERE id = ?", (text, number))
    change.execute("DELETE FROM lease WHERE id = ? AND name = ? AND held = 0", (number, name))
    return value, [bucket_of(name)]


def touch(change: Transaction, name: str, stamp: bytes, ttl: float | None) -> tuple[bool, Changed]:
    number = change.id(name)
    row = change.execute(READ, (number, name)).fetchone()
    found = change.found(number, row)
    if found is None or not found.data.startswith(stamp):
        return False, ()
    due = _due(ttl)
    change.execute("UPDATE value SET due = ? WHERE id = ?", (due, number))
    # elsewhere it may be kept for as long as was left; only less than that has to be told
    shorter = due is not None and (row[1] is None or due < row[1])
    return True, [bucket_of(name)] if shorter else []


def tags(change: Transaction, tags: Sequence[bytes]) -> tuple[list[int], Changed]:
    # the write lock is ours: whoever left a change undone is dead
    change.at.done[TAGS] = change.at.words[TAGS + 1]
    sequences = []
    for tag in tags:
        number = tag_id(change.at, tag)
        row = change.execute("SELECT sequence FROM tag WHERE id = ?", (number,)).fetchone()
        if row is None:
            row = (change.sequence(),)
            change.set_tag(number, row[0])
        sequences.append(row[0])
    return sequences, ()


def invalidate_tags(change: Transaction, tags: Sequence[bytes]) -> tuple[int, Changed]:
    sequence = max(change.sequence() + 1, time.time_ns() // 1000)
    # set before the commit: one that was never used does no harm
    change.at.words[SEQUENCE] = sequence
    for tag in tags:
        change.set_tag(tag_id(change.at, tag), sequence)
    return sequence, [TAGS]


def publish(change: Transaction, event: bytes) -> tuple[None, Changed]:
    return None, [EVENTS]
