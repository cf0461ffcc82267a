"""Counters, tags and events: how processes learn that something was invalidated.

A counter is a 64-bit number whose upper half is random, its incarnation: one that was lost (evicted, flushed, gone
with its server) begins as another. The sequence of tags must never go back instead, and begins at the time. Where a
backplane tells of invalidations, its store counts.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from fastcache.stores.memcached import meta
from fastcache.stores.memcached.base import Base
from fastcache.stores.memcached.items import (
    CONTENDED,
    TRIES,
    Item,
    answer_of,
    incarnation,
    integer,
    record,
)
from fastcache.stores.memcached.nodes import Answer
from fastcache.stores.protocol import COUNTERS, EVENTS, TAGS, Counter, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.memcached.items import Outcome
    from fastcache.stores.protocol import Steps


class Counting(Base):
    """The part of a name space that tells of changes."""

    #: Counters that could not be read: no two are the same, in this process.
    _unknown = itertools.count(1)

    # ---- coherence -------------------------------------------------------------------------------

    def counters(self) -> Steps[list[Counter]]:
        """Those on a server that does not answer are unlike any before; StoreError: none answers."""
        if self._outer is not None:
            return (yield from self._through(self._outer.counters()))
        keys = [(self._nodes[n], self._counter(n)) for n in range(COUNTERS)]
        # the sequence of tags goes on where it was after a loss, so what tells of that is beside it
        keys.append((self._nodes[TAGS], self._prefix + b"#i"))
        outcomes = yield from self._ask([Item(node, (meta.get(key, b"v"),)) for node, key in keys])
        self._some_of(outcomes)
        missing = [
            n
            for n, outcome in enumerate(outcomes)
            if isinstance(outcome, Answer) and outcome.replies[0].code != b"VA"
        ]
        if missing:
            made = yield from self._make(missing, keys)
            for number, outcome in zip(missing, made, strict=True):
                outcomes[number] = outcome
        unknown = next(self._unknown)
        values = [
            integer(outcome.replies[0], self._store.where)
            if isinstance(outcome, Answer) and outcome.replies[0].code == b"VA"
            else None
            for outcome in outcomes
        ]
        beside = values.pop()
        counters = [
            Counter(-1, unknown) if value is None else Counter(value >> 32, value & 0xFFFFFFFF)
            for value in values
        ]
        sequence = values[TAGS]
        if sequence is not None:
            counters[TAGS] = Counter(-1 if beside is None else beside >> 32, sequence)
        return counters

    def _make(
        self, numbers: Sequence[int], keys: Sequence[tuple[int, bytes]]
    ) -> Steps[list[Outcome]]:
        """Counters that are not there."""
        items = []
        for number in numbers:
            node, key = keys[number]
            command = meta.add(key, b"N0 J%d D0 v" % incarnation())
            if number == TAGS:
                try:
                    start = yield from self._start()
                except StoreError:  # its server is gone again: so is its counter
                    command = meta.get(key, b"v")
                else:
                    command = meta.add(key, b"N0 J%d D0 v" % start)
            items.append(Item(node, (command,)))
        return (yield from self._ask(items))

    def _start(self) -> Steps[int]:
        """Where the sequence of tags begins that was lost: later than it can have been. In microseconds of the
        server's clock, which knows seconds only; its count of changes tells apart what happens within one."""
        key = self._prefix + b"#now"
        (answer,) = yield from self._ask_all(
            [Item(self._nodes[TAGS], (meta.put(key, b"", b"T1 c"), meta.STATS))]
        )
        made, stats = answer.replies
        count = made.number(b"c") if made.code == b"HD" else 0
        return self._time(stats) * 1_000_000 + count % 1_000_000

    def _sequence(self, step: int) -> Steps[int]:
        """The sequence of tags, after so many more steps."""
        for _ in range(TRIES):
            command = meta.add(self._counter(TAGS), b"D%d v" % step)
            (answer,) = yield from self._ask_all([Item(self._nodes[TAGS], (command,))])
            reply = answer.replies[0]
            if reply.code == b"VA":
                return integer(reply, self._store.where)
            if reply.code == b"SERVER_ERROR":
                raise self._store.failure(self._nodes[TAGS], reply)
            start = yield from self._start()
            flags = b"N0 J%d D0 v" % start
            yield from self._ask_all(
                [Item(self._nodes[TAGS], (meta.add(self._counter(TAGS), flags),))]
            )
        raise StoreError(self._store.where, "other", "the sequence of tags gets lost all the time")

    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        if self._outer is not None:
            return (yield from self._through(self._outer.tags(tags)))
        places = [self._tag(tag) for tag in tags]
        known: list[int | None] = [None] * len(tags)
        left = list(range(len(tags)))
        for _ in range(TRIES):
            answers = yield from self._ask_all(
                [Item(places[i][0], (meta.get(places[i][1], b"v"),)) for i in left]
            )
            for i, answer in zip(left, answers, strict=True):
                if answer.replies[0].code == b"VA":
                    known[i] = integer(answer.replies[0], self._store.where)
            left = [i for i in left if known[i] is None]
            if not left:
                return [sequence for sequence in known if sequence is not None]
            now = yield from self._sequence(0)
            answers = yield from self._ask_all(
                [Item(places[i][0], (record(places[i][1], now, b"ME"),)) for i in left]
            )
            for i, answer in zip(left, answers, strict=True):
                if answer.replies[0].code == b"HD" or self._store.refused(answer.replies[0]):
                    known[i] = now
        raise StoreError(self._store.where, "other", "tags get lost all the time")

    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        """The sequence advances before the tags are written, so that what was loaded before is older than they
        say; and after it, so that whoever compares the sequence looks at them again."""
        if self._outer is not None:
            return (yield from self._through(self._outer.invalidate_tags(tags)))
        sequence = yield from self._sequence(1)
        left = [self._tag(tag) for tag in tags]
        for _ in range(CONTENDED):
            if not left:
                yield from self._sequence(1)
                return sequence
            answers = yield from self._ask_all(
                [Item(node, (meta.get(key, b"v c"),)) for node, key in left]
            )
            going = []
            for place, answer in zip(left, answers, strict=True):
                reply = answer.replies[0]
                if reply.code != b"VA":
                    item = Item(place[0], (record(place[1], sequence, b"ME"),))
                elif integer(reply, self._store.where) < sequence:
                    swap = b"C%d" % reply.number(b"c")
                    item = Item(place[0], (record(place[1], sequence, swap),), answer.newest)
                else:
                    continue
                going.append((place, item))
            outcomes = yield from self._ask([item for _, item in going])
            # where another was faster, what it wrote is looked at
            left = [
                place
                for (place, _), outcome in zip(going, outcomes, strict=True)
                if not self._written(place[0], outcome)
            ]
        raise StoreError(self._store.where, "other", "these tags change all the time")

    def _written(self, node: int, outcome: Outcome) -> bool:
        if outcome is None:
            return False
        reply = answer_of(outcome).replies[0]
        if reply.code == b"SERVER_ERROR":
            raise self._store.failure(node, reply)
        return reply.code == b"HD"

    def publish(self, event: bytes) -> Steps[None]:
        if self._outer is not None:
            yield from self._through(self._outer.publish(event))
            return
        command = meta.add(self._counter(EVENTS), b"N0 J%d v" % incarnation())
        (answer,) = yield from self._ask_all([Item(self._nodes[EVENTS], (command,))])
        reply = answer.replies[0]
        if reply.code != b"VA":
            raise self._store.failure(self._nodes[EVENTS], reply)
