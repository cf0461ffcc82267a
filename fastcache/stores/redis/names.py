"""Names of keys and channels in Redis, and what is said in the channels."""

from __future__ import annotations

import hashlib
from binascii import crc_hqx
from typing import Final, NamedTuple

from fastcache.stores.protocol import COUNTERS, Counter, Message

#: Longest encoding of a tag that is part of a key as it is.
LONGEST_TAG: Final = 200

_ORIGIN = 8
_KEY, _ALL = b"k", b"*"
_KEY_LATER, _ALL_LATER = b"K", b"+"  # the same, behind a version of 8 bytes


class Home(NamedTuple):
    """Where the keys of one counter live. slot: of a cluster. prefix: of all its keys."""

    number: int
    slot: int
    prefix: bytes
    counter: bytes


def homes(namespace: str) -> list[Home]:
    """One for each counter of a name space."""
    found = []
    for number in range(COUNTERS):
        tag = f"{namespace}:{number:02x}".encode()
        prefix = b"fc:{%b}:" % tag
        found.append(Home(number, crc_hqx(tag, 0) % 16384, prefix, prefix + b"#"))
    return found


def tag_key(home: Home, tag: bytes) -> bytes:
    if len(tag) > LONGEST_TAG:
        # Two tags of one name would be invalidated together, which does no harm.
        return home.prefix + b"h:" + hashlib.blake2b(tag, digest_size=16).digest()
    return home.prefix + b"t:" + tag


def tracked(namespace: str) -> bytes:
    """What the names of all its keys begin with; those of others may, too."""
    return f"fc:{{{namespace}:".encode()


def name_in(key: bytes, prefix: bytes) -> str | None:
    """The name of a value by its key; None if it is none of this name space."""
    bucket, brace, name = key.removeprefix(prefix).partition(b"}:")
    if not brace or len(bucket) != 2 or name == b"#" or name.endswith(b":lease"):
        return None
    text = name.decode("utf-8", "replace")
    return text if text[-32:-30].encode() == bucket else None


def counter_of(text: bytes) -> Counter:
    """ValueError: it is none."""
    incarnation, _, sequence = text.partition(b":")
    return Counter(int(incarnation, 16), int(sequence))


def body_of(origin: bytes, body: bytes | None, version: int = 0) -> bytes:
    if version:
        flag = _ALL_LATER if body is None else _KEY_LATER
        return origin + flag + version.to_bytes(8, "big") + (body or b"")
    return origin + _ALL if body is None else origin + _KEY + body


def message_of(number: int, data: bytes) -> Message:
    """What a channel said. Something that makes no sense stands for anything."""
    head, _, rest = data.partition(b"\n")
    origin, flag, body = rest[:_ORIGIN], rest[_ORIGIN : _ORIGIN + 1], rest[_ORIGIN + 1 :]
    version = 0
    try:
        counter = counter_of(head)
    except ValueError:
        return Message(number, None, b"", None)
    if flag in (_ALL_LATER, _KEY_LATER):
        version, body = int.from_bytes(body[:8], "big"), body[8:]
    told = body if flag in (_KEY, _KEY_LATER) else None
    return Message(number, counter, origin, told, version=version)
