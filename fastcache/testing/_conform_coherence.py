"""Conformance of a store: counters, tags, events, listeners, shared generations, and the store as a whole."""

# ruff: noqa: PT018 - facts that belong together may stand in one line
from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from fastcache.stores.protocol import (
    BUCKETS,
    COUNTERS,
    EVENTS,
    TAGS,
    StoreError,
    Target,
    bucket_of,
)
from fastcache.testing._conform import (
    LIMIT,
    LONG,
    Client,
    Harness,
    name_of,
    none_failed,
    raised,
    target_of,
    together,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache.stores.protocol import Counter, Message

TAG_NAMES = [b"", b"tag", b"TAG", b"tag ", b"a b\r\n", b"\0", bytes(range(256)), b"x" * 300]


def advanced(before: list[Counter], after: list[Counter]) -> list[int]:
    """Which counters are others now; in the same incarnation they have grown."""
    changed = [n for n in range(COUNTERS) if before[n] != after[n]]
    for number in changed:
        if before[number].incarnation == after[number].incarnation:
            assert before[number].sequence < after[number].sequence, "a counter went back"
    return changed


class Coherence(Harness):
    """`counters`, `tags`, `invalidate_tags`, `publish`, `generations`, `backplane`, and the store's own calls."""

    # ---- counters ------------------------------------------------------------------------------

    def test_counters_are_made_once(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            counters = one(one.space.counters())
            assert len(counters) == COUNTERS
            assert all(type(n) is int for counter in counters for n in counter)
            assert other(other.space.counters()) == counters
            assert one(one.space.counters()) == counters

    def test_invalidations_advance_the_buckets(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            names = [name_of(n) for n in range(5)]
            before = one(one.space.counters())
            for step in (
                lambda: other.invalidate(*names),
                lambda: other.invalidate(*names),
                lambda: other(other.space.invalidate([Target(name, None) for name in names])),
                lambda: other(other.space.hold([target_of(n) for n in names], b"hold", LONG)),
                lambda: [other.put(name, b"", b"value") for name in names],
                lambda: [other.put(name, b"", b"7") for name in names],
                lambda: [other.incr(name) for name in names],
            ):
                step()
                after = one(one.space.counters())
                assert advanced(before, after) == sorted({bucket_of(name) for name in names})
                before = after

    def test_reading_advances_nothing(self, face: str) -> None:
        with self.client(face) as l2:
            l2.store_value(name_of(1), b"value")
            l2(l2.space.tags([b"tag"]))
            before = l2(l2.space.counters())
            l2.read(name_of(1))
            l2(l2.space.read_many([name_of(1), name_of(2)]))
            l2(l2.space.lease([name_of(1), name_of(2)], b"token", LONG))
            l2(l2.space.give_up([name_of(1), name_of(2)], b"token"))
            l2(l2.space.tags([b"tag", b"other"]))
            l2(l2.space.invalidate([]))
            assert l2(l2.space.counters()) == before

    def test_all_buckets(self, face: str) -> None:
        with self.client(face) as l2:
            before = l2(l2.space.counters())
            names = [f"key:{bucket:02x}{'0' * 30}" for bucket in range(BUCKETS)]
            l2.invalidate(*names)
            assert advanced(before, l2(l2.space.counters())) == list(range(BUCKETS))

    def test_concurrent_invalidations_are_all_counted(self, face: str) -> None:
        with self.clients(face, 2) as clients:
            name = name_of(1)
            first = clients[0](clients[0].space.counters())[bucket_of(name)]
            steps = [clients[i % 2].space.invalidate([target_of(name)]) for i in range(20)]
            none_failed(together(clients, steps))
            last = clients[0](clients[0].space.counters())[bucket_of(name)]
            assert last.incarnation == first.incarnation
            assert last.sequence - first.sequence >= 20, "an increment was lost"

    def test_lost_counters_are_told(self, face: str) -> None:
        if self.wipe is None:
            return
        with self.clients(face, 2) as (one, other):
            name = name_of(1)
            one.store_value(name, b"value")
            one(one.space.lease([name], b"token", LONG))
            one.invalidate(name_of(2))
            (tag,) = one(one.space.tags([b"tag"]))
            sequence = one(one.space.invalidate_tags([b"tag"]))
            before = one(one.space.counters())
            self.wipe()
            after = one(one.space.counters())
            assert all(b.incarnation != a.incarnation for b, a in zip(before, after, strict=True))
            assert other(other.space.counters()) == after
            for l2 in (one, other):
                assert l2.read(name) is None
                assert not l2.fill(name, b"token", b"older"), "a lease outlived the server's memory"
            assert one.read(name) is None
            assert one(one.space.tags([b"tag"]))[0] >= sequence > tag, "sequences went back"

    # ---- tags and events -----------------------------------------------------------------------

    def test_tags(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            tags = TAG_NAMES
            before = one(one.space.tags(tags))
            assert len(before) == len(tags) and all(type(n) is int for n in before)
            assert other(other.space.tags(tags)) == before
            for index, tag in enumerate(tags):
                sequence = other(other.space.invalidate_tags([tag]))
                assert sequence > max(before)
                after = one(one.space.tags(tags))
                assert after == [*before[:index], sequence, *before[index + 1 :]]
                before = after
            assert one(one.space.tags([])) == []
            assert one(one.space.tags([b"tag", b"TAG", b"tag"])) == [
                before[1],
                before[2],
                before[1],
            ]

    def test_tags_that_are_new_are_not_older(self, face: str) -> None:
        """A record that was lost must not make alive what was dead."""
        with self.client(face) as l2:
            sequence = l2(l2.space.invalidate_tags([b"one"]))
            assert l2(l2.space.tags([b"never seen"]))[0] >= sequence
            several = l2(l2.space.invalidate_tags([b"two", b"three"]))
            assert several > sequence
            assert l2(l2.space.tags([b"one", b"two", b"three"])) == [sequence, several, several]

    def test_sequences_grow(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            earliest = (time.time() - 5) * 1e6
            last = 0
            for number in range(20):
                l2 = other if number % 2 else one
                sequence = l2(l2.space.invalidate_tags([b"tag"]))
                assert sequence > last
                last = sequence
            assert last >= earliest, "sequences begin at the time in microseconds"
            steps = [l2.space.invalidate_tags([b"tag"]) for l2 in (one, other) * 8]
            sequences = none_failed(together([one, other], steps))
            assert len(set(sequences)) == 16 and min(sequences) > last
            assert one(one.space.tags([b"tag"])) == [max(sequences)]

    def test_tags_and_events_have_counters(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            before = one(one.space.counters())
            other(other.space.invalidate_tags([b"tag", b"other"]))
            after = one(one.space.counters())
            assert advanced(before, after) == [TAGS]
            other(other.space.publish(b"event"))
            assert advanced(after, one(one.space.counters())) == [EVENTS]

    # ---- shared generations --------------------------------------------------------------------

    def test_generations(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            mine, theirs = one.space.generations(), other.space.generations()
            if mine is None or theirs is None:
                return
            assert len(mine.shared) == len(mine.own) == COUNTERS + 1
            assert mine.shared.itemsize == mine.own.itemsize == 8

            def others(l2: Client) -> list[int]:
                generations = l2.space.generations()
                assert generations is not None
                pairs = zip(generations.shared, generations.own, strict=True)
                return [(shared - own) % 2**64 for shared, own in pairs]

            name = name_of(1)
            for change, numbers in (
                (lambda: one.invalidate(name), [bucket_of(name)]),
                (lambda: one.hold(name, b"hold"), [bucket_of(name)]),
                (lambda: one.put(name, b"", b"7"), [bucket_of(name)]),
                (lambda: one.incr(name), [bucket_of(name)]),
                (lambda: one(one.space.invalidate_tags([b"tag"])), [TAGS]),
                (lambda: one(one.space.publish(b"event")), [EVENTS]),
                (lambda: one.put(name, b"no hold", b"8"), []),
                (lambda: one.store_value(name, b"9"), []),
            ):
                seen, own = others(other), others(one)
                change()
                moved = [i for i, n in enumerate(others(other)) if n != seen[i]]
                assert moved == ([0, *(n + 1 for n in numbers)] if numbers else [])
                assert all(n > seen[i] for i, n in enumerate(others(other)) if i in moved)
                assert others(one) == own, "one's own change looks like another's"

    # ---- the backplane -------------------------------------------------------------------------

    def heard(self, listen: Callable[[float], list[Message]], count: int) -> list[Message]:
        """So many messages, and no more after them."""
        messages: list[Message] = []
        deadline = time.monotonic() + LIMIT
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{count} messages expected, got {messages}"
            messages += listen(0.1)
        assert len(messages) == count, messages
        return messages

    def test_listeners_hear_everything(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            backplane = one.store.backplane()
            if backplane is None:
                return
            name, hostile = name_of(1), b"\r\n\0 key \xff"
            listener = backplane.listen(one.namespace)
            try:
                other.store_value(name, b"value")  # tells nobody
                other(other.space.invalidate([Target(name, hostile)]))
                other(other.space.invalidate([Target(name, None)]))
                other.hold(name, b"hold")
                other.put(name, b"hold", b"7")
                other.incr(name)
                one.invalidate(name)  # one's own come as well
                other(other.space.publish(hostile))
                messages = self.heard(listener.poll, 7)
                plain = name.encode()
                assert [m.body for m in messages] == [hostile, None, *[plain] * 4, hostile]
                assert [m.number for m in messages] == [*[bucket_of(name)] * 6, EVENTS]
                origins = [other.origin] * 5 + [one.origin, other.origin]
                assert [m.origin for m in messages] == origins
                assert not any(m.foreign for m in messages)
                sequences = [m.counter.sequence for m in messages[:6] if m.counter]
                if sequences:
                    first = sequences[0]
                    assert sequences == list(range(first, first + 6)), "counters explain messages"
                    counters = one(one.space.counters())
                    assert messages[5].counter == counters[bucket_of(name)]
                    assert messages[6].counter == counters[EVENTS]
                other(other.space.invalidate_tags([b"tag"]))
                (message,) = self.heard(listener.poll, 1)
                assert message.number == TAGS and message.body is not None
                assert listener.poll(0) == []
            finally:
                listener.close()
                backplane.close()

    def test_listeners_hear_their_name_space_only(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            backplane = one.store.backplane()
            if backplane is None:
                return
            listener = backplane.listen(one.namespace)
            try:
                stranger = other.elsewhere(other.namespace + "x")
                stranger.invalidate(name_of(1))
                stranger(stranger.space.publish(b"event"))
                other.invalidate(name_of(2))
                (message,) = listener.ping(LIMIT)
                assert message.body == name_of(2).encode()
                assert listener.ping(LIMIT) == []
            finally:
                listener.close()
                backplane.close()

    def test_a_poll_can_be_ended(self, face: str) -> None:
        with self.client(face) as l2:
            backplane = l2.store.backplane()
            if backplane is None:
                return
            listener = backplane.listen(l2.namespace)
            polled: list[object] = []
            thread = threading.Thread(target=lambda: polled.append(listener.poll(LIMIT)))
            begun = time.monotonic()
            thread.start()
            try:
                listener.wake()
                thread.join(LIMIT / 2)
                assert polled == [[]] and time.monotonic() - begun < LIMIT / 2
            finally:
                thread.join()
                listener.close()
                backplane.close()

    # ---- the store -----------------------------------------------------------------------------

    def test_check(self, face: str) -> None:
        with self.client(face) as l2:
            assert l2(l2.store.check()) is None
            assert l2.store.trip > 0
            assert l2.store.where

    def test_a_closed_store(self, face: str) -> None:
        with self.client(face) as l2:
            l2.store_value(name_of(1), b"value")
            l2.store.close()
            for call in (
                lambda: l2.read(name_of(1)),
                lambda: l2.invalidate(name_of(1)),
                lambda: l2(l2.space.counters()),
            ):
                error = raised(StoreError, call)
                assert isinstance(error, StoreError)
                assert error.where and error.kind and str(error)
            l2.store.close()

    def test_closing_closes_one_object_only(self, face: str) -> None:
        with self.clients(face, 2) as (one, other):
            one.store_value(name_of(1), b"value")
            one.store.close()
            assert other.data(name_of(1)) == b"value"

    def test_threads_and_loops_share_a_store(self, face: str) -> None:
        """Every answer belongs to who asked: several threads, or event loops, each in a thread of its own."""
        with self.client(face) as l2:
            names = [name_of(n) for n in range(8)]
            for name in names:
                l2.store_value(name, name.encode())
            wrong: list[object] = []
            barrier = threading.Barrier(len(names))

            def read(name: str) -> None:
                async def reads() -> None:
                    for _ in range(30):
                        found = await l2.store.arun(l2.space.read(name))
                        if found is None or found.data != name.encode():
                            wrong.append((name, found))

                try:
                    barrier.wait(LIMIT)
                    if l2.runner is not None:
                        asyncio.run(reads())
                        return
                    for _ in range(30):
                        found = l2.store.run(l2.space.read(name))
                        if found is None or found.data != name.encode():
                            wrong.append((name, found))
                except BaseException as error:  # noqa: BLE001 - shown by the assertion
                    wrong.append((name, error))

            threads = [threading.Thread(target=read, args=(name,), daemon=True) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(2 * LIMIT)
                assert not thread.is_alive(), "a read hangs"
            assert wrong == []

    def test_cancelled_requests_leave_nothing_behind(self, face: str) -> None:
        with self.client(face) as l2:
            names = [name_of(n) for n in range(20)]
            for name in names:
                l2.store_value(name, name.encode())
            if l2.runner is None:
                return

            async def cancel_some() -> None:
                for round_ in range(40):
                    tasks = [asyncio.ensure_future(l2.store.arun(l2.space.read(n))) for n in names]
                    for _ in range(round_ % 8):
                        await asyncio.sleep(0)
                    for task in tasks[:: 2 + round_ % 3]:
                        task.cancel()
                    results = await asyncio.gather(*tasks, return_exceptions=True)
                    for name, result in zip(names, results, strict=True):
                        if isinstance(result, asyncio.CancelledError):
                            continue
                        assert not isinstance(result, BaseException), result
                        assert result is not None and result.data == name.encode()

            l2.runner.run(cancel_some())
            until(lambda: [l2.data(name) for name in names] == [name.encode() for name in names])
