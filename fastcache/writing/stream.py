"""Writes handed to other processes: a writer into a Redis stream, and the worker that takes them from there.

For those who outgrow one machine: many processes write into the stream, and one worker at a time carries
it out, so that the database sees the batches in the order of the stream.

    w = WriteBehind(RedisStreamWriter("redis://127.0.0.1/0"), journal="app.journal.d")
    $ python -m fastcache drain redis://127.0.0.1/0 --to app.db --table counters

- A batch is one entry. The script that adds it remembers the highest sequence of each journal, so that a batch
  that comes again is not added again.
- The worker reads as one consumer of a group: what was delivered and not acknowledged comes first, in order. A
  second worker stands by until the first one's lease is over (it is renewed with every batch). Should the first
  one go on after that, nothing happens twice: the target knows the batches by journal and sequence.
- What the target refuses goes to the stream `<stream>:dead`, with the error.

Once the stream has a write, it is the stream's: `pending` in the process that wrote it shows it no longer.
Redis must not evict the stream, and keeps it as durably as its own settings say.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from fastcache._keys import decode, encode
from fastcache._redact import shown
from fastcache._types import Uncopied
from fastcache.writing.codec import Exact
from fastcache.writing.errors import Overtaken
from fastcache.writing.ops import INCR, Applied, Batch, Op
from fastcache.writing.options import seconds_at_least
from fastcache.writing.sqlbase import fresh, marks, parse_marks
from fastcache.writing.writers import name_of, transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.writing.writers import Writer

log = logging.getLogger("fastcache")

STREAM = "fastcache:writes"
#: Failures in a row after which a worker that is to end gives up: some three seconds.
ONCE_TRIES = 5
_GROUP, _CONSUMER = "fastcache", "worker"
#: Adds an entry unless what is known of its journal has changed since it was read.
_ADD = """
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[1], '*', 'batch', ARGV[4])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""


def _client(url: str, stream: str, timeout: float) -> Any:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {shown(url)}")
    if not isinstance(stream, str):
        raise TypeError(f"stream must be a str, not {shown(stream)}")
    if not stream:
        raise ValueError(f"stream must be the name of a stream, not {stream!r}")
    seconds_at_least("timeout", timeout, above=True)
    try:
        import redis
    except ImportError:
        raise ImportError("streams need redis-py: pip install 'fastcache-engine[redis]'") from None
    return redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)


def _keys(stream: str) -> tuple[str, str, str, str]:
    """Stream, watermarks, lease and dead letters, all in one slot of a cluster."""
    tag = stream if "{" in stream else "{" + stream + "}"
    return tag, f"{tag}:applied", f"{tag}:worker", f"{tag}:dead"


def _name(client: Any, stream: str) -> str:
    """Server and stream, without a password."""
    options = client.connection_pool.connection_kwargs
    where = options.get("path") or f"{options.get('host')}:{options.get('port')}"
    return f"redis:{where}/{options.get('db', 0)}:{stream}"


class RedisStreamWriter(Uncopied):
    """Adds batches to a stream. Safe from all threads. timeout: seconds for one request.

    redis.RedisError: Redis could not be asked. ImportError without redis-py.
    """

    def __init__(self, url: str, *, stream: str = STREAM, timeout: float = 5.0) -> None:
        self._client = _client(url, stream, timeout)
        self._stream, self._applied, _, _ = _keys(stream)
        self._add = self._client.register_script(_ADD)
        self.codec = Exact()
        self.name = _name(self._client, stream)

    def __repr__(self) -> str:
        return f"<RedisStreamWriter {self.name}>"

    def transient(self, error: BaseException) -> bool | None:
        return type(error).__module__.startswith("redis") or isinstance(error, OSError) or None

    def apply(self, ops: Sequence[Op]) -> Applied:
        """Add the batch to the stream, unless it has it already."""
        batch = ops if isinstance(ops, Batch) else Batch(ops)
        journal = batch.journal or os.urandom(8).hex()
        if not batch.journal:
            batch = Batch(batch, journal, 1, 1)
        while True:
            known = (self._client.hget(self._applied, journal) or b"").decode()
            first, _, rest = known.partition(" ")
            last, folded = int(first or 0), parse_marks(rest)
            if not fresh(batch, last, folded):
                return Applied(again=True)
            mark, beyond = marks(batch, last, folded)
            entry = json.dumps(
                {
                    "journal": journal,
                    "range": [batch.first, batch.last, list(batch.folded), sorted(batch.known)],
                    "ops": [self._packed(op) for op in batch],
                }
            )
            added = self._add(
                keys=[self._stream, self._applied],
                args=[journal, known, f"{mark} {beyond}".strip(), entry],
            )
            if added:
                return Applied()

    def _packed(self, op: Op) -> list[Any]:
        data = None if op.kind == "delete" else self.codec.encode(op.value)
        return [op.kind, encode(op.key).hex(), data, op.initial, op.version, op.sequence]

    def close(self) -> None:
        self._client.close()


class Worker:
    """Carries out what is in the stream, on a writer. lease: seconds for which it is the only one."""

    def __init__(
        self,
        url: str,
        target: Writer,
        *,
        stream: str = STREAM,
        lease: float = 10.0,
        timeout: float = 5.0,
    ) -> None:
        self._client = _client(url, stream, timeout + 1.0)
        self._target = target
        self.name = _name(self._client, stream)
        self._stream, _, self._lease, self._dead = _keys(stream)
        self._renew = self._client.register_script(_RENEW)
        self._token = os.urandom(8).hex()
        self._seconds = lease
        self._codec = Exact()
        self.stop = threading.Event()
        self.done = 0
        self.dead = 0

    def run(self, *, until_empty: bool = False) -> None:
        """Until `stop` is set; until_empty: or nothing is left. What goes wrong for a time is logged, and
        tried again after a pause; until_empty: ONCE_TRIES times in a row, then it is raised."""
        failures = 0
        while not self.stop.is_set():
            try:
                if not self._leads():
                    self.stop.wait(min(1.0, self._seconds / 4))
                    continue
                entries = self._read(wait=not until_empty)
                for number, fields in entries:
                    if self.stop.is_set() or not self._leads():
                        break
                    self._carry_out(number, json.loads(fields[b"batch"]))
                failures = 0
                if until_empty and not entries:
                    return
            except Exception as error:
                if transient(self._target, error) is False:
                    raise
                failures += 1
                if until_empty and failures >= ONCE_TRIES:
                    raise
                log.warning("draining %s to %s: %s", self.name, name_of(self._target), error)
                self.stop.wait(min(15.0, 0.1 * 2 ** min(failures, 10)))

    def close(self) -> None:
        """Let another worker begin at once, if Redis can be told."""
        import redis

        try:
            if self._client.get(self._lease) == self._token.encode():
                self._client.delete(self._lease)
        except redis.RedisError as error:
            log.warning("%s: the next worker begins in %.0f s: %s", self.name, self._seconds, error)
        self._client.close()

    def _leads(self) -> bool:
        return bool(self._renew(keys=[self._lease], args=[self._token, int(self._seconds * 1000)]))

    def _read(self, *, wait: bool) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """What was delivered and not acknowledged, else what is new."""
        import redis

        for start, block in (("0", None), (">", 1000 if wait else None)):
            try:
                found = self._client.xreadgroup(
                    _GROUP, _CONSUMER, {self._stream: start}, count=50, block=block
                )
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._client.xgroup_create(self._stream, _GROUP, id="0", mkstream=True)
                return self._read(wait=wait)
            entries = [entry for _, some in found or () for entry in some]
            if entries:
                return entries
        return []

    def _carry_out(self, number: bytes, entry: dict[str, Any]) -> None:
        first, last, folded, known = entry["range"]
        ops = [self._unpacked(packed) for packed in entry["ops"]]
        journal = entry["journal"]
        batch = Batch(ops, journal, first, last, tuple(folded), frozenset(known))
        try:
            self._target.apply(batch)
        except Overtaken as overtaken:
            # An entry never changes, so that what the target has of it is all of it; unless others wrote
            # there from the same journal.
            if not folded or any(s > overtaken.last and s not in overtaken.folded for s in folded):
                for op in ops:
                    self._bury(op, overtaken)
        except Exception as error:
            if transient(self._target, error) is not False:
                raise
            self._one_by_one(number, ops)
            # The whole is done now, as far as it can be.
            self._target.apply(Batch((), journal, first, last, tuple(folded), frozenset(known)))
        self.done += len(ops)
        self._client.xack(self._stream, _GROUP, number)
        self._client.xdel(self._stream, number)

    def _one_by_one(self, number: bytes, ops: list[Op]) -> None:
        """Each in a transaction of its own, under a journal of its own, so that it happens once."""
        for place, op in enumerate(ops):
            try:
                self._target.apply(Batch([op], f"{self._stream}/{number.decode()}/{place}", 1, 1))
            except Exception as error:
                if transient(self._target, error) is not False:
                    raise
                self._bury(op, error)

    def _bury(self, op: Op, error: Exception) -> None:
        log.error("dead letter: %s of %r: %s", op.kind, op.key, error)
        self.dead += 1
        letter = {"kind": op.kind, "key": repr(op.key), "value": repr(op.value)}
        self._client.xadd(self._dead, {**letter, "error": f"{type(error).__name__}: {error}"})

    def _unpacked(self, packed: list[Any]) -> Op:
        kind, key, data, initial, version, sequence = packed
        value = None if data is None else self._codec.decode(data)
        if kind == INCR:
            return Op(INCR, decode(bytes.fromhex(key)), value, initial, version, sequence)
        return Op(kind, decode(bytes.fromhex(key)), value, 0, version, sequence)
