"""Values as scripts store them: eight bytes that say when they die on the server's clock in milliseconds (0: never),
then the data. What begins with another byte than NUL is a plain value: a counter, or somebody else's."""

from __future__ import annotations

import struct
from itertools import repeat
from typing import TYPE_CHECKING, Any

from fastcache.stores.protocol import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

_head = struct.Struct(">Q").unpack_from
#: More seconds are left to none of ours: those eight bytes belong to a plain value.
_PLAIN = 1e12


def found_in(value: bytes, time: float | None) -> Found | None:
    """time: on the server's clock, in seconds. None: not known; the value dies at once, rather than too late."""
    dies = int.from_bytes(value[:8])
    if not dies:
        return Found(value[8:], None)
    left = 0.0 if time is None else dies / 1000 - time
    return Found(value[8:], left) if left >= 0 else None


def all_found_in(values: Sequence[Any], time: float | None) -> list[Found | None] | None:
    """The same for many, quickly; None unless all of them are there, and die at some time to come."""
    if time is None:
        return None
    try:
        left = [dies / 1000 - time for (dies,) in map(_head, values)]
    except (struct.error, TypeError):  # plain and short, or not there
        return None
    if min(left) < 0 or max(left) > _PLAIN:
        return None
    pairs = zip([value[8:] for value in values], left, strict=True)
    return list(map(tuple.__new__, repeat(Found), pairs))
