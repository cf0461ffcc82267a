"""What every serializer is, and what it may refuse."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Deepest nesting of a value; a value that contains itself is deeper than any limit.
MAX_DEPTH = 100


class Unserializable(TypeError):  # noqa: N818  # it says what the value is
    """This value would not come back from L2 as it is, so it is kept in L1 only.

    kind: "type" (it, or something in it, is of a type that would come back as another or not at all), or
    "too large".
    """

    def __init__(self, text: str, kind: str = "type") -> None:
        super().__init__(text)
        self.kind = kind


@runtime_checkable
class Serializer(Protocol):
    """Turns values into bytes and back, on any thread.

    Objects of your own need `dumps` and `loads` only. They are told apart by `name`, for which the class's
    name is taken where there is none: a value that was written under another name is a miss.
    """

    def dumps(self, value: Any, /) -> bytes:
        """The value as bytes. Unserializable (or any other exception): it would not come back as it is."""

    def loads(self, data: bytes, /) -> Any:
        """The value that `dumps` was given. Any exception means that it cannot be told: a miss."""


def type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def is_plain(value: Any, kind: type, atoms: frozenset[type], depth: int) -> bool:
    """Whether a list or dict holds these types alone (exactly), finite floats, and such lists and dicts.

    Keys must be str. Small containers are walked; for larger ones `issuperset`, in C, is faster, where it
    is enough.
    """
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    if len(value) > _LARGE and atoms.issuperset(map(type, value)):
        return True
    for item in value:
        kind = type(item)
        if kind in atoms:
            continue
        if kind is dict or kind is list:
            if depth >= MAX_DEPTH or not is_plain(item, kind, atoms, depth + 1):
                return False
        elif kind is not float or not isfinite(item):
            return False
    return True


#: Items from which on setting up `issuperset` pays, as measured.
_LARGE = 24


def extras(value: Any, fields: Iterable[str]) -> list[str]:
    """Attributes in the instance's `__dict__` that are not these, nor kept there by a cached_property."""
    from functools import cached_property

    return [
        name
        for name in getattr(value, "__dict__", {}).keys() - set(fields)
        if not isinstance(getattr(type(value), name, None), cached_property)
    ]
