"""Sharded pub/sub of Redis: what the scripts of RedisStore publish; and, if asked for, its client tracking."""

from __future__ import annotations

import contextlib
import copy
import selectors
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastcache.stores.protocol import BUCKETS, Backplane, Listener, Message, StoreError
from fastcache.stores.redis import RedisStore
from fastcache.stores.redis.errors import Refusal
from fastcache.stores.redis.names import homes, message_of, name_in, tracked
from fastcache.stores.redis.way import pack
from fastcache.stores.redis.wire import Wire

if TYPE_CHECKING:
    from fastcache.stores.redis.names import Home
    from fastcache.stores.redis.way import Way


class RedisBackplane(Backplane):
    """Invalidations through Redis, with or without values in it.

    server: a RedisStore, or the URL of one (`options` are those of RedisStore), which is then closed with
    the backplane. tracking: also ask the server for changes by programs that are not ours
    (client tracking, broadcast by prefix): each names a key (`Message.foreign`), and may be our own doing.
    It costs one message to every process for each write, lease or expiry of any key of the name space.

    store: the RedisStore. Where L2 is another's, its space's `invalidate`, `invalidate_tags`, `publish`, `counters`
    and `tags` are what tells the others. Safe from several threads.
    """

    def __init__(self, server: RedisStore | str, *, tracking: bool = False, **options: Any) -> None:
        self._ours = not isinstance(server, RedisStore)
        if isinstance(server, RedisStore):
            if options:
                name = next(iter(options))
                raise TypeError(f"{name}: options are for a URL, not for a RedisStore")
            self.store = server
        else:
            self.store = RedisStore(server, **options)
        self.tracking = tracking
        self.where = self.store.where

    def __repr__(self) -> str:
        return f"RedisBackplane({self.where!r})"

    def listen(self, namespace: str) -> RedisListener:
        places = homes(namespace)
        servers = self.store.run(self.store.primaries([home.slot for home in places]))
        return RedisListener(
            [(way, [places[index] for index in which]) for way, which in servers],
            namespace,
            clustered=self.store.clustered,
            tracking=self.tracking,
        )

    def close(self) -> None:
        if self._ours:
            self.store.close()


class RedisListener(Listener):
    """One connection to each server that has channels of the name space."""

    def __init__(
        self,
        servers: list[tuple[Way, list[Home]]],
        namespace: str,
        *,
        clustered: bool,
        tracking: bool,
    ) -> None:
        self._prefix = tracked(namespace)
        self._numbers: dict[bytes, int] = {}
        self._wires: list[Wire] = []
        self._late: list[Message] = []  # came while something else was waited for
        self._awaited = 0  # confirmations, or answers to PING, still to come
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._closed = False
        try:
            self._woken.setblocking(False)
            self._waker.setblocking(False)
            self._selector.register(self._woken, selectors.EVENT_READ, None)
            for way, places in servers:
                self._open(way, places, clustered, tracking)
            self._late = self._until_answered(max(way.trip for way, _ in servers))
        except BaseException:
            self.close()
            raise

    def _open(self, way: Way, places: list[Home], clustered: bool, tracking: bool) -> None:
        way = copy.copy(way)
        way.resp3 = True
        wire = Wire(way)
        self._wires.append(wire)
        self._selector.register(wire.fileno(), selectors.EVENT_READ, wire)
        channels = [home.counter for home in places]
        self._numbers.update((home.counter, home.number) for home in places)
        # In a cluster one command cannot name channels of different slots.
        groups = [[channel] for channel in channels] if clustered else [channels]
        commands = [pack("SSUBSCRIBE", *group) for group in groups]
        self._awaited += len(channels)
        if tracking:
            commands.append(pack("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix))
            self._awaited += 1
        wire.write(b"".join(commands))

    # ---- what others said ------------------------------------------------------------------------

    def poll(self, seconds: float) -> list[Message]:
        if self._late:
            messages, self._late = self._late, []
            return messages
        return self._hear(max(0.0, seconds))

    def ping(self, seconds: float) -> list[Message]:
        messages, self._late = self._late, []
        try:
            self._awaited = len(self._wires)
            for wire in self._wires:
                wire.write(pack("PING"))
            messages += self._until_answered(seconds)
        except BaseException:
            self.close()
            raise
        return messages

    def _until_answered(self, seconds: float) -> list[Message]:
        end = monotonic() + seconds
        messages: list[Message] = []
        while self._awaited:
            left = end - monotonic()
            if left <= 0:
                where = self._wires[0].way.where
                raise StoreError(where, "timeout", f"no answer to a ping within {seconds} seconds")
            messages += self._hear(left)
        return messages

    def _hear(self, seconds: float) -> list[Message]:
        if self._closed:
            raise StoreError("redis", "closed", "the listener is closed")
        messages: list[Message] = []
        try:
            for key, _ in self._selector.select(seconds):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                    continue
                wire: Wire = key.data
                for item in wire.pending():
                    self._understand(item, wire, messages)
        except BaseException:
            self.close()
            raise
        return messages

    def _understand(self, item: Any, wire: Wire, messages: list[Message]) -> None:
        if isinstance(item, Refusal):
            raise item.error(wire.way.where)
        if not isinstance(item, list):  # PONG, OK
            self._awaited = max(0, self._awaited - 1)
            return
        kind = item[0] if item else None
        if kind == b"smessage":
            number = self._numbers.get(item[1])
            if number is not None:
                messages.append(message_of(number, item[2]))
        elif kind == b"ssubscribe":
            self._awaited = max(0, self._awaited - 1)
        elif kind == b"invalidate":
            self._changed(item[1], messages)
        elif kind == b"sunsubscribe":
            text = "a slot has moved to another server of the cluster"
            raise StoreError(wire.way.where, "moved", text)

    def _changed(self, keys: list[bytes] | None, messages: list[Message]) -> None:
        """What tracking says; None: everything is gone."""
        if keys is None:
            messages += [Message(number, None, b"", None) for number in range(BUCKETS)]
            return
        for key in keys:
            name = name_in(key, self._prefix)
            if name is not None:
                number = int(name[-32:-30], 16)
                messages.append(Message(number, None, b"", None, foreign=True, name=name))

    # ---- the end ---------------------------------------------------------------------------------

    def wake(self) -> None:
        # A full buffer wakes as well, and so does a closed listener.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def close(self) -> None:
        self._closed = True
        self._selector.close()
        for wire in self._wires:
            wire.close()
        self._woken.close()
        self._waker.close()
