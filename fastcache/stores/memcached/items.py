"""What lies under a name in memcached, for how long, and the commands that put it there."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache.stores.memcached import meta
from fastcache.stores.memcached.nodes import Answer
from fastcache.stores.protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.memcached.meta import Command, Reply

#: What an item is: the lowest bits of its flags. Those of a value say further down how many milliseconds more than
#: whole seconds it was to live.
VALUE, LEASE, HOLD, NUMBER = 1, 2, 3, 4
KIND = 0xFF
SHIFT = 8

#: memcached takes more seconds than this for a date.
_LONGEST = 30 * 24 * 3600
#: The last date it knows.
_LAST = (1 << 31) - 1
#: Seconds for which a tag is remembered without being invalidated; forgotten, it counts as invalidated.
TAG_LIFE = 7 * 24 * 3600
#: Commands, and bytes, that go to a server at once: what it answers before it has read all of them must fit
#: into what lies between it and us.
_AT_ONCE = 500
_BYTES = 1 << 20
#: How often something is tried that others keep changing.
TRIES = 5
CONTENDED = 1000
#: Leases whose numbers are remembered; of others the token is compared.
REMEMBERED = 16_384

#: A number, as `incr` keeps it; whoever stores such bytes stores a number.
PLAIN = re.compile(rb"-?(0|[1-9]\d{0,18})")
#: Beyond what one may be.
LIMIT = 1 << 63


class Known(NamedTuple):
    """An item, as it was last seen: its number for compare-and-swap, and `Answer.newest` of then."""

    cas: int
    newest: int


class Item(NamedTuple):
    """Commands for one server, which go over one connection in this order."""

    node: int
    commands: Sequence[Command]
    newest: int | None = None


#: What comes of an item: the replies; None, no connection is old enough; or why its server did not answer.
Outcome = Answer | StoreError | None


@dataclass(slots=True)
class Swap:
    """Something to take the place of a lease, or hold, that bears this token."""

    name: str
    token: bytes
    kind: int
    command: Any  # of the number for compare-and-swap -> Command
    known: Known | None
    done: bool = False
    error: StoreError | None = None


def some(items: Sequence[Item], queue: list[int]) -> tuple[list[int], list[int]]:
    """What of a server's queue goes first, and what is left."""
    commands = size = 0
    for at, index in enumerate(queue):
        commands += len(items[index].commands)
        size += sum(len(command.data) for command in items[index].commands)
        if at and (commands > _AT_ONCE or size > _BYTES):
            return queue[:at], queue[at:]
    return queue, []


def answer_of(outcome: Outcome) -> Answer:
    if isinstance(outcome, StoreError):
        raise outcome
    assert outcome is not None  # it was asked for without a bound
    return outcome


def life_of(ttl: float | None, now: float = 0.0) -> tuple[int, int] | None:
    """(what the server is told, milliseconds more); None: too short for a server that counts seconds, and takes
    0 for ever. now: the server's time, wanted where `is_long(ttl)`."""
    if ttl is None:
        return 0, 0
    if ttl < 1:
        return None
    if not is_long(ttl):
        return int(ttl), int(ttl % 1 * 1000)
    return int(min(now + ttl, _LAST)), 0


def is_long(ttl: float | None) -> bool:
    """Whether the server has to be told a date."""
    return ttl is not None and ttl >= _LONGEST


def at_least(ttl: float) -> int:
    """Seconds that are surely not over before ttl, by a clock that ticks once a second."""
    return min(int(ttl) + 2, _LONGEST)


def incarnation() -> int:
    """Where a counter begins: at random, always with 19 digits, so that the server can change it in its place."""
    return random.SystemRandom().randrange(1 << 30, 1 << 31) << 32


def integer(reply: Reply, where: str) -> int:
    """What a counter holds. StoreError: it is none."""
    data = reply.data.strip()
    if not data.lstrip(b"-").isdigit() or len(data) > 20:
        raise StoreError(where, "protocol", f"a counter that is no number: {data[:40]!r}")
    return int(data)


def record(key: bytes, sequence: int, flags: bytes) -> Command:
    return meta.put(key, b"%d" % sequence, b"T%d F%d %b" % (TAG_LIFE, NUMBER, flags))


def changed(key: bytes, old: int, value: int, swap: bytes, reply: Reply) -> Command:
    """Make one number of another, whose time to live stays."""
    if old >= 0 and value >= 0:
        mode = b"MI" if value >= old else b"MD"
        return meta.add(key, b"%b D%d v %b" % (mode, abs(value - old), swap))
    # the server knows no negative numbers
    seconds = max(reply.number(b"t"), 0)
    return meta.put(key, b"%d" % value, b"F%d T%d %b" % (NUMBER, seconds, swap))
