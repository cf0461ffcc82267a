"""Conformance of a store: leases, fills, holds, puts, invalidations."""

# ruff: noqa: PT018 - facts that belong together may stand in one line
from __future__ import annotations

import time

from fastcache.stores.protocol import Fill, Target, bucket_of
from fastcache.testing._conform import (
    LONG,
    Harness,
    name_of,
    none_failed,
    target_of,
    together,
    until,
)


class Leases(Harness):
    """`lease`, `fill`, `give_up`, `hold`, `put`, `invalidate`."""

    # ---- leases --------------------------------------------------------------------------------

    def test_the_first_lease_is_ours(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            (first,) = one(one.space.lease([name], b"first", LONG))
            assert first.ours and first.token == b"first" and not first.held
            for l2, token in ((other, b"second"), (one, b"third"), (one, b"first")):
                (lease,) = l2(l2.space.lease([name], token, LONG))
                assert not lease.ours and lease.token == b"first" and not lease.held
            # whoever found it may fill with it: its load started later
            assert other.fill(name, b"first", b"value")
            assert one.data(name) == b"value"

    def test_leases_are_aligned(self, face: str) -> None:
        with self.client(face) as l2:
            l2(l2.space.lease([name_of(n) for n in range(0, 100, 2)], b"even", LONG))
            l2.hold(name_of(1), b"hold")
            leases = l2(l2.space.lease([name_of(n) for n in range(100)], b"all", LONG))
            assert [lease.ours for lease in leases] == [n % 2 == 1 and n != 1 for n in range(100)]
            assert [n for n, lease in enumerate(leases) if lease.held] == [1]
            for number, lease in enumerate(leases):
                if number != 1:
                    assert lease.token == (b"all" if number % 2 else b"even")
            assert l2(l2.space.lease([], b"none", LONG)) == []

    def test_any_token(self, face: str) -> None:
        with self.client(face) as l2:
            for number, token in enumerate((b"\0" * 16, b"\r\n", b"!x", b"=x", bytes(range(256)))):
                name = name_of(number)
                (lease,) = l2(l2.space.lease([name], token, LONG))
                assert lease.ours and lease.token == token
                assert l2(l2.space.lease([name], b"other", LONG))[0].token == token
                assert not l2.fill(name, token + b"x", b"value")
                assert l2.fill(name, token, b"value")

    def test_a_lease_over_a_value(self, face: str) -> None:
        """Whoever renews a value takes a lease while it is there."""
        with self.client(face) as l2:
            name = name_of(1)
            l2.store_value(name, b"old", 100)
            (lease,) = l2(l2.space.lease([name], b"token", LONG))
            assert lease.ours and not lease.held
            if lease.found is not None:  # a store may leave it out
                assert lease.found.data == b"old"
                assert lease.found.left is not None and 90 < lease.found.left <= 100
            assert l2.data(name) == b"old"
            assert l2.fill(name, b"token", b"new", None)
            found = l2.read(name)
            assert found is not None and found == (b"new", None)

    def test_leases_end(self, face: str) -> None:
        with self.client(face) as l2:
            name, other = name_of(1), name_of(2)
            begun = time.monotonic()
            l2(l2.space.lease([name, other], b"first", self.short))
            lease = until(
                lambda: next(
                    iter(x for x in l2(l2.space.lease([name], b"next", LONG)) if x.ours), None
                )
            )
            assert lease.token == b"next"
            assert time.monotonic() - begun >= self.short / 2, "a lease ended at once"
            until(lambda: not l2.fill(name, b"first", b"older"))
            until(lambda: not l2.fill(other, b"first", b"older"))
            assert l2.fill(name, b"next", b"newer")
            assert l2.data(name) == b"newer"

    def test_one_lease_for_all_who_ask_at_once(self, face: str) -> None:
        with self.clients(face, 2) as clients:
            for number in range(10):
                tokens = [b"%d" % i for i in range(8)]
                steps = [
                    clients[i % 2].space.lease([name_of(number)], token, LONG)
                    for i, token in enumerate(tokens)
                ]
                leases = [lease for (lease,) in none_failed(together(clients, steps))]
                assert sum(lease.ours for lease in leases) == 1
                (token,) = {lease.token for lease in leases}
                assert leases[tokens.index(token)].ours

    # ---- fills ---------------------------------------------------------------------------------

    def test_a_fill_needs_the_lease(self, face: str) -> None:
        with self.client(face) as l2:
            name = name_of(1)
            assert not l2.fill(name, b"token", b"value")
            assert not l2.fill(name, b"", b"value")
            assert l2.read(name) is None
            l2(l2.space.lease([name], b"token", LONG))
            for token in (b"other", b"", b"toke", b"token2", b"Token"):
                assert not l2.fill(name, token, b"value")
            assert l2.read(name) is None
            assert l2.fill(name, b"token", b"value")
            # which took the lease with it
            assert not l2.fill(name, b"token", b"again")
            assert l2.data(name) == b"value"
            assert l2(l2.space.lease([name], b"next", LONG))[0].ours

    def test_fills_are_aligned(self, face: str) -> None:
        with self.client(face) as l2:
            l2(l2.space.lease([name_of(n) for n in range(0, 100, 2)], b"even", LONG))
            fills = [Fill(name_of(n), b"even", b"%d" % n, LONG) for n in range(100)]
            assert l2(l2.space.fill(fills)) == [n % 2 == 0 for n in range(100)]
            found = l2(l2.space.read_many([name_of(n) for n in range(100)]))
            assert [f and f.data for f in found] == [
                None if n % 2 else b"%d" % n for n in range(100)
            ]
            assert l2(l2.space.fill([])) == []

    def test_a_fill_tells_nobody(self, face: str) -> None:
        with self.client(face) as l2:
            before = l2(l2.space.counters())
            l2.store_value(name_of(1), b"value")
            l2(l2.space.lease([name_of(1)], b"token", LONG))
            l2(l2.space.give_up([name_of(1)], b"token"))
            assert l2(l2.space.counters()) == before

    def test_one_of_several_fills(self, face: str) -> None:
        with self.clients(face, 2) as clients:
            for number in range(10):
                name = name_of(number)
                clients[0](clients[0].space.lease([name], b"token", LONG))
                steps = [
                    clients[i % 2].space.fill([Fill(name, b"token", b"%d" % i, LONG)])
                    for i in range(6)
                ]
                stored = [done for (done,) in none_failed(together(clients, steps))]
                assert stored.count(True) == 1
                assert clients[0].data(name) == b"%d" % stored.index(True)

    def test_given_up_leases(self, face: str) -> None:
        with self.client(face) as l2:
            one, other, absent = name_of(1), name_of(2), name_of(3)
            l2(l2.space.lease([one], b"token", LONG))
            l2(l2.space.lease([other], b"another", LONG))
            l2(l2.space.give_up([one, other, absent], b"token"))
            assert not l2.fill(one, b"token", b"value")
            assert l2(l2.space.lease([one], b"next", LONG))[0].ours
            assert l2(l2.space.lease([other], b"next", LONG))[0].token == b"another"
            assert l2.fill(other, b"another", b"value")
            l2(l2.space.give_up([], b"token"))
            # values stay
            l2(l2.space.lease([other], b"again", LONG))
            l2(l2.space.give_up([other], b"again"))
            assert l2.data(other) == b"value"

    # ---- invalidations -------------------------------------------------------------------------

    def test_invalidate_removes_value_and_lease(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            one.store_value(name, b"value")
            one(one.space.lease([name], b"token", LONG))
            other.invalidate(name)
            assert one.read(name) is None
            assert one(one.space.read_many([name])) == [None]
            assert not one.fill(name, b"token", b"older")
            assert one.read(name) is None
            assert one(one.space.lease([name], b"next", LONG))[0].ours
            assert one.fill(name, b"next", b"newer")
            assert other.data(name) == b"newer"

    def test_invalidate_many(self, face: str) -> None:
        with self.client(face) as l2:
            for number in range(0, 200, 5):
                l2.store_value(name_of(number), b"value")
            keep = name_of(1000)
            l2.store_value(keep, b"value")
            targets = [Target(name_of(n), None if n % 2 else b"key") for n in range(200)]
            l2(l2.space.invalidate(targets))
            l2(l2.space.invalidate([*targets[:3], *targets[:3]]))  # absent, and twice
            l2(l2.space.invalidate([]))
            assert l2(l2.space.read_many([t.name for t in targets])) == [None] * 200
            assert l2.data(keep) == b"value"

    def test_a_fill_loses_against_an_invalidation(self, face: str) -> None:
        """Whichever is first: nothing is there in the end."""
        with self.clients(face, 2) as clients:
            one, other = clients
            for number in range(60):
                name = name_of(number)
                one(one.space.lease([name], b"token", LONG))
                fill = one.space.fill([Fill(name, b"token", b"old", LONG)])
                gone = other.space.invalidate([target_of(name)])
                pair = [(one, fill), (other, gone)]
                if number % 2:
                    pair.reverse()
                done = together([c for c, _ in pair], [s for _, s in pair])
                none_failed(done)
                assert one.read(name) is None, "stale for ever"

    # ---- holds ---------------------------------------------------------------------------------

    def test_nobody_fills_what_is_held(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            one.store_value(name, b"value")
            other(other.space.lease([name], b"earlier", LONG))
            before = one.counter(name)
            one.hold(name, b"hold")
            assert one.counter(name) != before
            assert other.read(name) is None
            (lease,) = other(other.space.lease([name], b"later", LONG))
            assert lease.held and not lease.ours
            other(other.space.give_up([name], b"hold"))
            other(other.space.give_up([name], lease.token))
            for token in (b"earlier", b"later", b"hold", lease.token, b""):
                assert not other.fill(name, token, b"older")
            assert other.read(name) is None

    def test_holds_end(self, face: str) -> None:
        with self.client(face) as l2:
            by_put, by_invalidate, by_time = name_of(1), name_of(2), name_of(3)
            names = [by_put, by_invalidate, by_time]
            targets = [target_of(name) for name in names]
            l2(l2.space.hold(targets[:2], b"hold", LONG))
            begun = time.monotonic()
            l2(l2.space.hold(targets[2:], b"hold", self.short))
            assert all(lease.held for lease in l2(l2.space.lease(names[:2], b"t", LONG)))
            assert l2.put(by_put, b"hold", b"value")
            l2(l2.space.invalidate([target_of(by_invalidate)], b"hold"))
            leases = l2(l2.space.lease(names[:2], b"token", LONG))
            assert [(lease.ours, lease.held) for lease in leases] == [(True, False)] * 2
            until(lambda: l2(l2.space.lease([by_time], b"token", LONG))[0].ours)
            assert time.monotonic() - begun >= self.short / 2, "a hold ended at once"
            assert not l2.put(by_time, b"hold", b"value")
            assert l2.fill(by_time, b"token", b"value")

    def test_the_invalidation_of_another_leaves_a_hold(self, face: str) -> None:
        if not self.keeps_holds:
            return
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            one.hold(name, b"hold")
            other.invalidate(name)
            other(other.space.invalidate([target_of(name)], b"another"))
            assert other(other.space.lease([name], b"token", LONG))[0].held, "the hold was lost"
            # its writer may have been overtaken by the other's
            assert not one.put(name, b"hold", b"older")
            assert one.read(name) is None
            one(one.space.invalidate([target_of(name)], b"hold"))
            assert not other(other.space.lease([name], b"token", LONG))[0].held

    def test_a_later_hold_replaces(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            one.hold(name, b"first")
            other.hold(name, b"second")
            assert not one.put(name, b"first", b"value")
            assert one.read(name) is None
            assert one(one.space.lease([name], b"token", LONG))[0].held
            assert other.put(name, b"second", b"value")
            assert one.data(name) == b"value"

    # ---- puts ----------------------------------------------------------------------------------

    def test_an_unconditional_put_replaces_whatever_is_there(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            absent, value, leased, held = (name_of(n) for n in range(4))
            one.store_value(value, b"old", 100)
            other(other.space.lease([leased], b"token", LONG))
            other.hold(held, b"hold")
            for name in (absent, value, leased, held):
                before = one.counter(name)
                assert one.put(name, b"", b"new", None)
                assert one.counter(name) != before
                assert other.read(name) == (b"new", None)
            assert not other.fill(leased, b"token", b"older")
            assert not other.put(held, b"hold", b"older")
            assert not other(other.space.lease([held], b"next", LONG))[0].held
            assert [other.data(name) for name in (leased, held)] == [b"new", b"new"]

    def test_a_put_with_a_token_needs_the_hold(self, face: str) -> None:
        with self.client(face) as l2:
            free, leased, other, held = (name_of(n) for n in range(4))
            l2.store_value(free, b"there")
            l2(l2.space.lease([leased], b"token", LONG))
            l2.hold(other, b"another")
            l2.hold(held, b"token")
            names = [free, leased, other, held]
            before = [l2.counter(name) for name in names]
            fills = [Fill(name, b"token", b"new", 100) for name in names]
            stored = l2(l2.space.put(fills, [target_of(name) for name in names]))
            assert stored == [False, False, False, True]
            # what was not stored has not been invalidated either
            buckets = [bucket_of(name) for name in names]
            assert len(set(buckets)) == 4, "the names are chosen so"
            assert [l2.counter(n) != b for n, b in zip(names, before, strict=True)] == stored
            assert [l2.data(name) for name in names] == [b"there", None, None, b"new"]
            found = l2.read(held)
            assert found is not None and found.left is not None and 90 < found.left <= 100
            assert l2.fill(leased, b"token", b"value")
            assert l2(l2.space.lease([other], b"next", LONG))[0].held
            # the hold has ended
            assert not l2.put(held, b"token", b"again")
            assert l2(l2.space.lease([held], b"next", LONG))[0].ours
            assert l2(l2.space.put([], [])) == []

    def test_puts_are_aligned(self, face: str) -> None:
        with self.client(face) as l2:
            names = [name_of(n) for n in range(50)]
            l2(l2.space.hold([target_of(name) for name in names[::2]], b"hold", LONG))
            fills = [Fill(name, b"hold", name.encode(), LONG) for name in names]
            stored = l2(l2.space.put(fills, [target_of(name) for name in names]))
            assert stored == [n % 2 == 0 for n in range(50)]
            found = l2(l2.space.read_many(names))
            assert [f and f.data for f in found] == [
                None if n % 2 else name.encode() for n, name in enumerate(names)
            ]
