"""LISTEN/NOTIFY of PostgreSQL: what triggers announce of changed rows, and what caches tell each other.

The server delivers what was notified in the order of commits, to whoever listens, and loses nothing but with the
connection. So there are no counters: that a listener is a new one says that something may have been missed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastcache._keys import encode, name_of_encoded
from fastcache.backplane._postgres_session import Address, Session
from fastcache.backplane._postgres_words import Rules, change_of
from fastcache.backplane._telling import TellingSpace
from fastcache.stores.protocol import (
    BUCKETS,
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
    from collections.abc import Iterable, Mapping, Sequence

    from fastcache.backplane._postgres_words import Rule
    from fastcache.stores.protocol import Steps, Target

log = logging.getLogger("fastcache")

#: Most bytes of a payload, of which the server takes 7,999.
LONGEST = 7000
#: Most bytes of an identifier, and so of a channel.
_NAME = 63
_EVERYTHING = [Message(number, None, b"", None) for number in range(BUCKETS)]


class PostgresBackplane(Backplane):
    """Changes of tables, announced by triggers (`python -m fastcache triggers`), and what caches tell each other.

    For caches without an L2, or whose L2 is Memcached. Messages reach L1 alone: where changes of tables concern
    an L2, see fastcache.invalidation.PostgresOutbox.

    conninfo: a URL or connection string, of a session of its own: no pooler that gives each transaction another
    one, and no standby. channel: that of the triggers. tables: None: all that are announced there, with the keys
    that the triggers make; names: those alone; a mapping of names to rules that make keys: a template
    ("user:{}") or a function of the announced key that returns a key, or a list of them. tags: {table: tag}: what
    is dropped when a table was truncated, or too much of it has changed; without, all of L1.
    timeout: seconds for a request (connecting takes up to 2 in any case).

    store: its spaces' `invalidate`, `invalidate_tags`, `publish`, `counters` and `tags` are what tells the others.
    It keeps no values. Each tiered cache holds one connection to listen, and one more once it has told
    anything. Safe from several threads; a forked child makes its own connections.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        channel: str = "fastcache",
        tables: Mapping[str, Rule] | Iterable[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        timeout: float = 2.0,
    ) -> None:
        self.channel = checked_channel(channel)
        self.rules = Rules(tables, tags)
        self.address = Address(conninfo, timeout)
        self.where = self.address.where
        self.store = _PostgresStore(self)
        #: By name space the latest number of tags that was heard of.
        self.sequences: dict[str, int] = {}
        self._warned = False

    def __repr__(self) -> str:
        return f"PostgresBackplane({self.where!r}, channel={self.channel!r})"

    def listen(self, namespace: str) -> PostgresListener:
        return PostgresListener(self, namespace)

    def close(self) -> None:
        self.store.close()

    def warn_of_outbox(self, outbox: object) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "changes announced on channel %r go to the outbox %s: they reach caches through "
                "fastcache.invalidation.PostgresOutbox",
                self.channel, outbox,
            )  # fmt: skip


def checked_channel(channel: str) -> str:
    if not isinstance(channel, str):
        raise TypeError(f"channel must be a str, not {type(channel).__name__}")
    if not channel or "\0" in channel or len(channel.encode("utf-8", "surrogatepass")) > _NAME:
        raise ValueError(f"channel must have 1 to {_NAME} bytes, and no NUL, not {channel!r}")
    return channel


def listening(session: Session, channel: str) -> None:
    """Have the session listen, and find out whether it hears: a pooler may give it another one of the server's at any
    time. StoreError."""
    quoted = '"' + channel.replace('"', '""') + '"'
    session.ask(f"LISTEN {quoted}")
    nonce = os.urandom(8).hex()
    other = Session(session.address)
    try:
        other.ask("SELECT pg_notify($1, $2)", [channel, json.dumps({"nonce": nonce})])
    finally:
        other.close()
    end = monotonic() + session.address.timeout
    kept: list[str] = []
    while True:
        heard = session.wait(end - monotonic())
        kept += [payload for payload in heard if nonce not in payload]
        if any(nonce in payload for payload in heard):
            session.put_back(kept)
            return
        if monotonic() >= end:
            text = "it hears nothing after LISTEN: no pooler by transactions may be in between"
            raise session.address.error("protocol", text)


class PostgresListener(Listener):
    """One session that listens to one channel."""

    def __init__(self, backplane: PostgresBackplane, namespace: str) -> None:
        self._backplane = backplane
        self._namespace = namespace
        self._session = Session(backplane.address)
        try:
            listening(self._session, backplane.channel)
        except BaseException:
            self._session.close()
            raise

    def poll(self, seconds: float) -> list[Message]:
        return self._messages(self._session.wait(seconds))

    def ping(self, seconds: float) -> list[Message]:
        # Who commits signals all that listen before it is told that it has committed, and an answer is
        # sent after the notifications for which there was a signal. So a question of one's own, which
        # costs the others nothing, is answered after everything that was committed before it was asked.
        rows = self._session.ask(
            "SELECT count(*) FROM pg_listening_channels() AS channel WHERE channel = $1",
            [self._backplane.channel],
            seconds,
        )
        if rows != [["1"]]:
            self._session.close()
            text = "the session is another one: no pooler by transactions may be in between"
            raise self._backplane.address.error("protocol", text)
        return self._messages(self._session.taken())

    def wake(self) -> None:
        self._session.wake()

    def close(self) -> None:
        self._session.close()

    # ---- what was said ---------------------------------------------------------------------------

    def _messages(self, payloads: list[str]) -> list[Message]:
        messages: list[Message] = []
        whole = False
        for payload in payloads:
            try:
                found = self._understand(payload)
            except Exception as error:  # noqa: BLE001 - anybody may have said anything
                log.warning(
                    "what was said on channel %r could not be understood, so all of L1 is dropped: %s",
                    self._backplane.channel, error,
                )  # fmt: skip
                found = None
            if found is None:
                whole = True
            else:
                messages += found
        return [*_EVERYTHING, *messages] if whole else messages

    def _understand(self, payload: str) -> list[Message] | None:
        """None: anything may have changed."""
        said = json.loads(payload)
        if not isinstance(said, dict):
            raise ValueError("an object was expected")
        if "nonce" in said:
            return []
        if "outbox" in said:
            self._backplane.warn_of_outbox(said["outbox"])
            return []
        if "ns" in said:
            return self._told(said) if said["ns"] == self._namespace else []
        change = change_of(said)
        rules = self._backplane.rules
        if not rules.concerns(change.table):
            return []
        keys = rules.keys(change)
        if keys is not None:
            return [_of_key(encode(key), b"") for key in keys]
        if tags := rules.tags(change.table):
            # It advances no number that others know: L1 drops what has these tags.
            sequence = self._backplane.sequences.get(self._namespace, 0)
            marks = encode(tuple([encode(tag) for tag in tags]))
            return [Message(TAGS, Counter(self._backplane.store.incarnation, sequence), b"", marks)]
        return None

    def _told(self, said: dict[str, Any]) -> list[Message]:
        """By another cache of the name space, or by this one."""
        origin = bytes.fromhex(said["by"])
        if "event" in said:
            return [Message(EVENTS, None, origin, _unpacked(said["event"]))]
        if "tags" in said:
            sequences = self._backplane.sequences
            sequence = max(sequences.get(self._namespace, 0), int(said["seq"]))
            sequences[self._namespace] = sequence
            counter = Counter(self._backplane.store.incarnation, sequence)
            return [Message(TAGS, counter, origin, _unpacked(said["tags"]))]
        version = int(said.get("version", 0))
        messages = [_of_key(_unpacked(key), origin, version) for key in said["keys"]]
        for bucket in said["buckets"]:
            if not 0 <= bucket < BUCKETS:
                raise ValueError(f"no bucket: {bucket!r}")
            messages.append(Message(bucket, None, origin, None, version=version))
        return messages


def _of_key(encoded: bytes, origin: bytes, version: int = 0) -> Message:
    return Message(bucket_of(name_of_encoded(encoded)), None, origin, encoded, version=version)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# ---- telling the others ------------------------------------------------------------------------------


class _PostgresStore(Store):
    """Requests are functions of a session."""

    def __init__(self, backplane: PostgresBackplane) -> None:
        self._backplane = backplane
        self.where = backplane.where
        self.trip = backplane.address.timeout
        #: Of what a listener of this backplane hears.
        self.incarnation = int.from_bytes(os.urandom(8), "big")
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._closed = False
        self._pid = os.getpid()

    def send(self, request: Callable[[Session], Any]) -> Any:
        if self._pid != os.getpid():  # a lock that another thread of the parent may have held
            self._lock, self._session, self._pid = threading.RLock(), None, os.getpid()
        with self._lock:
            if self._closed:
                raise StoreError(self.where, "closed", "the backplane is closed")
            session, self._session = self._session, None
            if session is not None:
                try:
                    answer = request(session)
                except StoreError:
                    # It may have been cut while nobody used it. To say it twice does no harm.
                    session.close()
                else:
                    self._session = session
                    return answer
            session = Session(self._backplane.address)
            try:
                answer = request(session)
            except BaseException:
                session.close()
                raise
            self._session = session
            return answer

    async def asend(self, request: Callable[[Session], Any]) -> Any:
        import asyncio

        return await asyncio.to_thread(self.send, request)

    def space(self, namespace: str, origin: bytes) -> Space:
        return _PostgresSpace(self._backplane, namespace, origin)

    def backplane(self) -> Backplane:
        return self._backplane

    def check(self) -> Steps[None]:
        rows = yield lambda session: session.ask(
            "SELECT current_setting('server_version_num'), pg_is_in_recovery()::text"
        )
        version, standby = rows[0]
        if int(version) < 140_000:
            text = f"PostgreSQL 14 or newer is needed, this is {int(version) // 10_000}"
            raise StoreError(self.where, "old", text)
        if standby == "true":
            raise StoreError(self.where, "readonly", "a standby notifies nobody")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(StoreError):
                session.close()


class _PostgresSpace(TellingSpace):
    """No values, and no counters: the numbers of a backplane stand still, and are another's after a restart."""

    def __init__(self, backplane: PostgresBackplane, namespace: str, origin: bytes) -> None:
        self.namespace = namespace
        self.origin = origin
        self._backplane = backplane
        self.where = backplane.where
        self._head = {"ns": namespace, "by": origin.hex()}

    # ---- coherence ---------------------------------------------------------------------------------

    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        payloads: list[str] = []
        keys: list[str] = []
        buckets: set[int] = set()
        size = 0
        version = max((target.version for target in targets), default=0)
        for target in targets:
            if target.key is None or len(target.key) > LONGEST // 2:
                buckets.add(bucket_of(target.name))
                continue
            packed = _packed(target.key)
            if size + len(packed) + 4 > LONGEST - 500:
                payloads.append(self._said(keys=keys, buckets=[], version=version))
                keys, size = [], 0
            keys.append(packed)
            size += len(packed) + 4
        if keys:
            payloads.append(self._said(keys=keys, buckets=[], version=version))
        if buckets:
            payloads.append(self._said(keys=[], buckets=sorted(buckets), version=version))
        yield from self._notify(payloads)

    def counters(self) -> Steps[list[Counter]]:
        yield from ()
        counter = Counter(self._backplane.store.incarnation, 0)
        numbers = [counter] * COUNTERS
        sequence = self._backplane.sequences.get(self.namespace, 0)
        numbers[TAGS] = Counter(counter.incarnation, sequence)
        return numbers

    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        yield from ()
        return [self._backplane.sequences.get(self.namespace, 0)] * len(tags)

    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        packed = _packed(encode(tuple(tags)))
        if len(packed) > LONGEST - 500:
            packed = _packed(encode((b"",)))  # the tag that everything has
        head = self._said(tags=packed)[:-1] + ', "seq": '
        least = str(self._backplane.sequences.get(self.namespace, 0) + 1)
        rows = yield lambda session: session.ask(
            "SELECT number, pg_notify($1, $2 || number || '}') FROM (SELECT greatest($3::bigint,"
            " (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS number) AS clock",
            [self._backplane.channel, head, least],
        )
        return int(rows[0][0])

    def publish(self, event: bytes) -> Steps[None]:
        payload = self._said(event=_packed(event))
        if len(payload) > LONGEST + 900:
            where = self._backplane.where
            raise StoreError(where, "full", f"an event of {len(event)} bytes is too long to notify")
        yield from self._notify([payload])

    def _said(self, **what: Any) -> str:
        return json.dumps({**self._head, **what})

    def _notify(self, payloads: list[str]) -> Steps[None]:
        if payloads:
            said = json.dumps(payloads)
            yield lambda session: session.ask(
                "SELECT count(pg_notify($1, payload)) FROM jsonb_array_elements_text($2::jsonb) AS payload",
                [self._backplane.channel, said],
            )
