"""Several caches in one program: what one invalidates, the others hear. There are no values in it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from fastcache._keys import encode
from fastcache.backplane._telling import TellingSpace
from fastcache.stores.protocol import (
    COUNTERS,
    EVENTS,
    TAGS,
    Backplane,
    Counter,
    Listener,
    Message,
    Space,
    Store,
    StoreError,
    bucket_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.protocol import Steps, Target

_WHERE = "this process"
#: Tags remembered at most. Beyond that all count as invalidated, and the memory begins anew.
MOST_TAGS = 100_000


class _Scope:
    """What the caches of one name space share. All of it under the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.incarnation = int.from_bytes(os.urandom(8))
        self.sequences = [0] * COUNTERS
        self.sequences[TAGS] = time.time_ns() // 1000
        self.tags: dict[bytes, int] = {}
        self.floor = 0  # of tags that are no longer there
        self.listeners: set[InProcessListener] = set()

    def tell(self, number: int, origin: bytes, body: bytes | None, sequence: int = 0) -> None:
        """Advance a counter (to `sequence`, if given) and tell everyone. Under the lock."""
        self.sequences[number] = sequence or self.sequences[number] + 1
        counter = Counter(self.incarnation, self.sequences[number])
        message = Message(number, counter, origin, body)
        for listener in self.listeners:
            listener.hear(message)


class InProcessBackplane(Backplane):
    """Several caches in one program tell each other what changed. Safe from several threads.

    Give the same one to each of them. A forked child has no part in it: what the parent
    invalidates does not reach it.

    store: its spaces' `invalidate`, `invalidate_tags`, `publish`, `counters` and `tags` are what tells the
    others. It keeps no values: reads find nothing, and fills are refused.
    """

    where = _WHERE

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._scopes: dict[str, _Scope] = {}
        self.store = _InProcessStore(self)

    def __repr__(self) -> str:
        return "InProcessBackplane()"

    def scope(self, namespace: str) -> _Scope:
        with self._lock:
            return self._scopes.setdefault(namespace, _Scope())

    def listen(self, namespace: str) -> InProcessListener:
        return InProcessListener(self.scope(namespace))

    def close(self) -> None:
        """End all listening: `poll` raises StoreError."""
        with self._lock:
            scopes = list(self._scopes.values())
        for scope in scopes:
            with scope.lock:
                listeners = list(scope.listeners)
            for listener in listeners:
                listener.close()


class InProcessListener(Listener):
    def __init__(self, scope: _Scope) -> None:
        self._scope = scope
        # takes no lock that a finalizer, which may invalidate too, could come under
        self._heard: SimpleQueue[Message | None] = SimpleQueue()
        self._closed = False
        with scope.lock:
            scope.listeners.add(self)

    def hear(self, message: Message) -> None:
        self._heard.put(message)

    def poll(self, seconds: float) -> list[Message]:
        first: Message | None = None
        with suppress(Empty):
            first = self._heard.get(timeout=max(0.0, seconds))
        return self._take(first)

    def ping(self, seconds: float) -> list[Message]:
        return self._take(None)

    def _take(self, first: Message | None) -> list[Message]:
        if self._closed:
            raise StoreError(_WHERE, "closed", "the listener is closed")
        messages = [] if first is None else [first]
        with suppress(Empty):
            while True:
                message = self._heard.get_nowait()
                if message is not None:
                    messages.append(message)
        return messages

    def wake(self) -> None:
        self._heard.put(None)

    def close(self) -> None:
        with self._scope.lock:
            self._scope.listeners.discard(self)
        self._closed = True
        self._heard.put(None)


class _InProcessStore(Store):
    """Requests are functions, called at once."""

    where = _WHERE
    trip = 0.5

    def __init__(self, backplane: InProcessBackplane) -> None:
        self._backplane = backplane

    def send(self, request: Any) -> Any:
        return request()

    async def asend(self, request: Any) -> Any:
        return request()

    def space(self, namespace: str, origin: bytes) -> Space:
        return _InProcessSpace(self._backplane.scope(namespace), namespace, origin)

    def backplane(self) -> Backplane:
        return self._backplane

    def check(self) -> Steps[None]:
        yield from ()

    def close(self) -> None:
        """Nothing to close: it is as long there as its backplane."""


class _InProcessSpace(TellingSpace):
    where = _WHERE

    def __init__(self, scope: _Scope, namespace: str, origin: bytes) -> None:
        self.namespace = namespace
        self.origin = origin
        self._scope = scope

    # ---- coherence ---------------------------------------------------------------------------------

    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        yield from ()
        with self._scope.lock:
            for target in targets:
                self._scope.tell(bucket_of(target.name), self.origin, target.key)

    def counters(self) -> Steps[list[Counter]]:
        yield from ()
        scope = self._scope
        with scope.lock:
            return [Counter(scope.incarnation, sequence) for sequence in scope.sequences]

    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        yield from ()
        scope = self._scope
        with scope.lock:
            return [scope.tags.get(tag, scope.floor) for tag in tags]

    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        yield from ()
        scope = self._scope
        with scope.lock:
            sequence = max(scope.sequences[TAGS] + 1, time.time_ns() // 1000)
            if len(scope.tags) + len(tags) > MOST_TAGS:
                scope.tags.clear()
                scope.floor = scope.sequences[TAGS]
            scope.tags.update(dict.fromkeys(tags, sequence))
            scope.tell(TAGS, self.origin, encode(tuple(tags)), sequence)
            return sequence

    def publish(self, event: bytes) -> Steps[None]:
        yield from ()
        with self._scope.lock:
            self._scope.tell(EVENTS, self.origin, event)
