"""Conformance of a store: values, counters that add, times to live."""

# ruff: noqa: PT018 - facts that belong together may stand in one line
from __future__ import annotations

import inspect
import time
from functools import partial

from fastcache.stores.protocol import Fill, Found, bucket_of
from fastcache.testing._conform import (
    LONG,
    Harness,
    name_of,
    none_failed,
    raised,
    target_of,
    together,
    until,
)

#: What a store could take for something else: its own marks, line ends, numbers, another's replies.
HOSTILE = [
    b"",
    b"\0",
    b"\0" * 8,
    b"\0" * 64,
    bytes(range(256)),
    b"\r\n",
    b"value\r\nEND\r\nVA 3 c1\r\n",
    b"$-1\r\n",
    b"!token",
    b"=token",
    b"win",
    b"1",
    b"-1",
    b"18446744073709551616",
    b"1e3",
    b" 7",
    "grüße\N{SNOWMAN}".encode(),
    b"\xff\xfe\xfd",
    b"'; DROP TABLE value; --",
    b"x" * 8191,
    b"\x80" * 70_000,
]


class Values(Harness):
    """`read`, `read_many`, `incr`, `touch`."""

    def test_what_was_never_stored_is_absent(self, face: str) -> None:
        with self.client(face) as l2:
            assert l2.read(name_of(1)) is None
            assert l2(l2.space.read_many([name_of(1), name_of(2)])) == [None, None]
            assert l2(l2.space.read_many([])) == []

    def test_operations_are_generators(self, face: str) -> None:
        with self.client(face) as l2:
            steps = l2.space.read(name_of(1))
            assert inspect.isgenerator(steps)
            steps.close()

    def test_a_value_comes_back(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            one.store_value(name_of(1), b"value", None)
            assert one.read(name_of(1)) == other.read(name_of(1)) == Found(b"value", None)

    def test_any_bytes_come_back(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            for number, data in enumerate(HOSTILE):
                one.store_value(name_of(number), data)
            names = [name_of(number) for number in range(len(HOSTILE))]
            assert [other.data(name) for name in names] == HOSTILE
            found = other(other.space.read_many(names))
            assert [None if f is None else f.data for f in found] == HOSTILE
            assert all(type(f.data) is bytes for f in found if f is not None)

    def test_a_large_value_comes_back(self, face: str) -> None:
        data = bytes(range(256)) * (self.large // 256)
        with self.client(face) as l2:
            l2.store_value(name_of(1), data)
            l2.store_value(name_of(2), b"small")
            assert l2.data(name_of(1)) == data
            found = l2(l2.space.read_many([name_of(2), name_of(1)]))
            assert [f and f.data for f in found] == [b"small", data]

    def test_lists_are_aligned(self, face: str) -> None:
        with self.client(face) as l2:
            stored = range(0, 300, 3)
            names = [name_of(number) for number in stored]
            leases = l2(l2.space.lease(names, b"token", LONG))
            assert [lease.ours for lease in leases] == [True] * len(names)
            fills = [Fill(name, b"token", name.encode(), LONG) for name in names]
            assert l2(l2.space.fill(fills)) == [True] * len(names)
            wanted = [*range(299, -1, -1), 3, 3, 4]
            found = l2(l2.space.read_many([name_of(number) for number in wanted]))
            expected = [name_of(n).encode() if n % 3 == 0 else None for n in wanted]
            assert [f and f.data for f in found] == expected

    def test_name_spaces_share_nothing(self, face: str) -> None:
        with self.client(face) as l2:
            for other in (l2.elsewhere(l2.namespace[:-1]), l2.elsewhere(l2.namespace + ":x")):
                l2.store_value(name := name_of(1), b"value")
                tag = l2(l2.space.tags([b"tag"]))
                counters = l2(l2.space.counters())
                assert other.read(name) is None
                assert other(other.space.lease([name], b"token", LONG))[0].ours
                other.invalidate(name)
                other.hold(name, b"hold")
                assert other.incr(name_of(2)) == 1
                other(other.space.invalidate_tags([b"tag"]))
                other(other.space.publish(b"event"))
                assert l2.data(name) == b"value"
                assert l2.read(name_of(2)) is None
                assert l2(l2.space.tags([b"tag"])) == tag
                assert l2(l2.space.counters()) == counters
                assert not l2(l2.space.lease([name], b"token", LONG))[0].held
                l2(l2.space.give_up([name], b"token"))

    # ---- time ----------------------------------------------------------------------------------

    def test_values_end_with_their_ttl(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name, ttl = name_of(1), 2 * self.short
            one.store_value(name_of(2), b"for ever", None)
            begun = time.monotonic()
            one.store_value(name, b"value", ttl)
            stored = time.monotonic()
            seen = 0
            while True:
                asked = time.monotonic()
                found = other.read(name)
                if found is None:
                    break
                seen += 1
                remains = ttl - (asked - stored)
                assert remains > -self.rounding, "a value outlived its ttl"
                assert found.left is not None
                assert found.left <= min(ttl, remains + self.rounding), "too much is left"
                assert found.left > 0
            assert seen, "a value died before it was read"
            early = ttl - (time.monotonic() - begun)
            assert early <= max(self.short, self.rounding), "a value died too early"
            assert other(other.space.read_many([name, name_of(2)])) == [
                None,
                Found(b"for ever", None),
            ]

    def test_left_is_told_for_each_of_many(self, face: str) -> None:
        with self.client(face) as l2:
            for number, ttl in enumerate((100.0, None, 10_000.0)):
                l2.store_value(name_of(number), b"value", ttl)
            first, second, third = l2(l2.space.read_many([name_of(n) for n in range(3)]))
            assert first is not None and first.left is not None and 90 < first.left <= 100
            assert second == Found(b"value", None)
            assert third is not None and third.left is not None and 9_990 < third.left <= 10_000

    def test_long_lives(self, face: str) -> None:
        """A month and more, where some servers take a duration for a date."""
        with self.client(face) as l2:
            for ttl in (86400.0 * 31, 86400.0 * 365 * 5):
                l2.store_value(name_of(1), b"value", ttl)
                found = l2.read(name_of(1))
                assert found is not None and found.left is not None
                assert ttl - 60 < found.left <= ttl
                l2.invalidate(name_of(1))

    # ---- touch ---------------------------------------------------------------------------------

    def test_touch_gives_a_new_ttl(self, face: str) -> None:
        with self.client(face) as l2:
            name = name_of(1)
            l2.store_value(name, b"stamp and more", 100)
            for ttl in (1000.0, 50.0):
                assert l2.touch(name, b"stamp", ttl) is True
                found = l2.read(name)
                assert found is not None and found.data == b"stamp and more"
                assert found.left is not None and ttl - 10 < found.left <= ttl
            assert l2.touch(name, b"stamp and more", None) is True
            assert l2.read(name) == Found(b"stamp and more", None)
            assert l2.touch(name, b"", self.short) is True
            until(lambda: l2.read(name) is None)

    def test_touch_tells_of_a_shorter_ttl(self, face: str) -> None:
        """Others may keep it for as long as was left before."""
        with self.client(face) as l2:
            name = name_of(1)
            for before in (None, 1000):
                l2.store_value(name, b"stamp", ttl=before)
                was = l2(l2.space.counters())[bucket_of(name)]
                assert l2.touch(name, b"stamp", 500) is True
                assert l2(l2.space.counters())[bucket_of(name)] != was

    def test_touch_needs_the_stamp(self, face: str) -> None:
        with self.client(face) as l2:
            name = name_of(1)
            assert l2.touch(name, b"", 1000) is False
            l2.store_value(name, b"stamp", 100)
            for stamp in (b"Stamp", b"tamp", b"stamp and more", b"\0", b"st\0"):
                assert l2.touch(name, stamp, 1000) is False
            found = l2.read(name)
            assert found is not None and found.data == b"stamp"
            assert found.left is not None and found.left <= 100
            l2.invalidate(name)
            assert l2.touch(name, b"stamp", 1000) is False
            assert l2.read(name) is None

    def test_touch_leaves_leases_alone(self, face: str) -> None:
        with self.client(face) as l2:
            name = name_of(1)
            l2.store_value(name, b"value", 100)
            l2(l2.space.lease([name], b"token", LONG))
            assert l2.touch(name, b"value", 1000) is True
            assert l2.fill(name, b"token", b"newer")
            assert l2.data(name) == b"newer"

    # ---- incr ----------------------------------------------------------------------------------

    def test_incr_counts(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            assert one.incr(name, 5, 10) == 15
            assert other.incr(name, 5, 10) == 20
            assert one.incr(name, -50, 7) == -30
            assert other.incr(name, 0) == -30
            assert other.data(name) == b"-30"
            assert one.incr(name, 30) == 0
            assert one.incr(name, 100) == 100
            assert one.incr(name, -99) == 1  # fewer digits
            assert [f and f.data for f in one(one.space.read_many([name]))] == [b"1"]
            one.invalidate(name)
            assert other.incr(name, 1, 0) == 1

    def test_incr_gives_a_ttl_to_what_is_new(self, face: str) -> None:
        with self.client(face) as l2:
            name, other = name_of(1), name_of(2)
            l2.incr(name, 1, 0, 100)
            l2.incr(name, 1, 0, 10_000)
            l2.incr(name, 1, 0, None)
            found = l2.read(name)
            assert found is not None and found.data == b"3"
            assert found.left is not None and 90 < found.left <= 100
            l2.incr(other, 1, 0, None)
            l2.incr(other, 1, 0, 100)
            assert l2.read(other) == Found(b"2", None)
            l2.incr(name_of(3), 7, 0, self.short)
            until(lambda: l2.read(name_of(3)) is None)
            assert l2.incr(name_of(3), 1, 0, None) == 1

    def test_incr_refuses_what_is_no_counter(self, face: str) -> None:
        with self.client(face) as l2:
            for number, data in enumerate((b"value", b"\0\1\2", b"1.5", b"12a", b"0x10")):
                name = name_of(number)
                l2.store_value(name, data)
                counter = l2.counter(name)
                error = raised(TypeError, partial(l2.incr, name))
                assert str(error)
                assert l2.data(name) == data, "an incr that failed has changed something"
                assert l2.counter(name) == counter

    def test_incr_stays_within_64_bits(self, face: str) -> None:
        with self.client(face) as l2:
            top, bottom = 2**63 - 1, -(2**63)
            assert l2.incr(name_of(1), 0, top) == top
            raised(OverflowError, lambda: l2.incr(name_of(1), 1))
            assert l2.data(name_of(1)) == b"%d" % top
            assert l2.incr(name_of(2), 0, bottom) == bottom
            raised(OverflowError, lambda: l2.incr(name_of(2), -1))
            assert l2.data(name_of(2)) == b"%d" % bottom
            assert l2.incr(name_of(1), -top) == 0
            raised(OverflowError, lambda: l2.incr(name_of(3), top, 1))
            assert l2.read(name_of(3)) is None

    def test_incr_drops_the_lease_and_tells(self, face: str) -> None:
        with self.client(face) as l2:
            name = name_of(1)
            l2(l2.space.lease([name], b"token", LONG))
            before = l2.counter(name)
            assert l2.incr(name) == 1
            assert l2.counter(name) != before
            assert not l2.fill(name, b"token", b"older")
            assert l2.data(name) == b"1"

    def test_incr_is_atomic(self, face: str) -> None:
        with self.clients(face, 2) as clients:
            name = name_of(1)
            steps = [clients[i % 2].space.incr(target_of(name), 1, 0, LONG) for i in range(24)]
            results = none_failed(together(clients, steps))
            assert sorted(results) == list(range(1, 25))
            assert clients[0].data(name) == b"24"
