"""What the operations of a name space share: names of items, and requests to several servers at once."""

from __future__ import annotations

import re
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache.stores.memcached import meta
from fastcache.stores.memcached.items import Item, answer_of, is_long, life_of, some
from fastcache.stores.memcached.nodes import Answer, Batch
from fastcache.stores.protocol import COUNTERS, Space, Store, StoreError, bucket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.memcached.items import Outcome
    from fastcache.stores.memcached.meta import Reply
    from fastcache.stores.memcached.store import MemcachedStore
    from fastcache.stores.protocol import Steps, T

_PLAIN = re.compile(rb"[\x21-\x7e]{1,250}")

#: Seconds for which what was learnt of a server's clock is good.
_CLOCK_GOOD = 60.0


class Through(NamedTuple):
    """A request for another store: that of the backplane."""

    store: Store
    request: Any


class Base(Space):
    """Names and requests of one name space. Safe from any thread and event loop."""

    def __init__(self, store: MemcachedStore, namespace: str, origin: bytes) -> None:
        self.namespace = namespace
        self.origin = origin
        self._store = store
        self._prefix = f"fc:{namespace}:".encode()
        self._nodes = [store.place(f"{namespace}:{number}") for number in range(COUNTERS)]
        self._outer: Space | None = None
        self._outer_store = store.tells_by
        if self._outer_store is not None:
            self._outer = self._outer_store.space(namespace, origin)

    def _through(self, steps: Steps[T]) -> Steps[T]:
        """An operation on the backplane's store, among ours."""
        assert self._outer_store is not None
        try:
            request = next(steps)
            while True:
                try:
                    answer = yield Through(self._outer_store, request)
                except Exception as error:  # noqa: BLE001 - the operation's to handle
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    # ---- names -----------------------------------------------------------------------------------

    def _key(self, name: str) -> bytes:
        key = self._prefix + name.encode()
        if not _PLAIN.fullmatch(key):  # too long, or what memcached takes for the end of a key
            key = self._prefix + name[-32:].encode()
        return key

    def _node(self, name: str) -> int:
        return self._nodes[bucket_of(name)]

    def _counter(self, number: int) -> bytes:
        return self._prefix + b"#%d" % number

    def _tag(self, tag: bytes) -> tuple[int, bytes]:
        digest = blake2b(tag, digest_size=16).hexdigest()
        return self._nodes[int(digest[:2], 16)], self._prefix + b"#t" + digest.encode()

    # ---- requests --------------------------------------------------------------------------------

    def _ask(self, items: Sequence[Item]) -> Steps[list[Outcome]]:
        """The outcome of each; those for one server go together, and the servers work at the same time."""
        outcomes: list[Outcome] = [None] * len(items)
        queues: dict[tuple[int, bool], list[int]] = {}
        for index, item in enumerate(items):
            queues.setdefault((item.node, item.newest is None), []).append(index)
        while queues:
            rounds = []
            for place, queue in list(queues.items()):
                taken, queues[place] = some(items, queue)
                if not queues[place]:
                    del queues[place]
                rounds.append(taken)
            batches = []
            for taken in rounds:
                bounds = [items[i].newest for i in taken]
                newest = None if None in bounds else min(b for b in bounds if b is not None)
                commands = [command for i in taken for command in items[i].commands]
                batches.append(Batch(items[taken[0]].node, commands, newest))
            answers = yield batches
            for taken, answer in zip(rounds, answers, strict=True):
                start = 0
                for i in taken:
                    outcomes[i] = answer
                    if isinstance(answer, Answer):
                        end = start + len(items[i].commands)
                        outcomes[i] = Answer(answer.replies[start:end], answer.newest)
                        start = end
        return outcomes

    def _ask_all(self, items: Sequence[Item]) -> Steps[list[Answer]]:
        """`_ask` where all of it is needed: the first error is raised, after all was sent."""
        outcomes = yield from self._ask(items)
        return [answer_of(outcome) for outcome in outcomes]

    def _some_of(self, outcomes: Sequence[Outcome]) -> None:
        """One dead server of several costs its own names; none that is alive is an error."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
        if errors and len(errors) == len(outcomes):
            raise errors[0]

    # ---- time ------------------------------------------------------------------------------------

    def _lives(self, wanted: Sequence[tuple[str, float | None]]) -> Steps[list[Any]]:
        """`life_of` each (name, ttl); a server is asked for its time where it has to be told a date."""
        ask = set()
        for name, ttl in wanted:
            node = self._node(name)
            clock = self._store.nodes[node].clock
            if is_long(ttl) and (clock is None or time.monotonic() - clock[1] > _CLOCK_GOOD):
                ask.add(node)
        answers = yield from self._ask_all([Item(node, (meta.STATS,)) for node in ask])
        for node, answer in zip(ask, answers, strict=True):
            now = time.monotonic()
            self._store.nodes[node].clock = (self._time(answer.replies[0]) - now, now)
        lives = []
        for name, ttl in wanted:
            now = 0.0
            if is_long(ttl):
                clock = self._store.nodes[self._node(name)].clock
                assert clock is not None
                now = clock[0] + time.monotonic()
            lives.append(life_of(ttl, now))
        return lives

    def _time(self, stats: Reply) -> int:
        """The server's time, in seconds."""
        found = re.search(rb"^STAT time (\d+)\s*$", stats.data, re.MULTILINE)
        if found is None:
            raise StoreError(self._store.where, "protocol", "the server does not tell its time")
        return int(found[1])
