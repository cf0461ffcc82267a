"""Values as text: plain JSON for columns that others read, and JSON with types for journals.

`Json` takes what JSON can say: None, bool, int, finite float, str, lists (tuples become lists), and dicts
whose keys are str. `Exact` takes more, and gives it back as it was: tuples, sets, dicts with any keys,
bytes, Decimal, datetime, date, time, timedelta, UUID, infinities and NaN. What is no more than JSON looks
the same in both.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from fastcache._core import plain_json

if TYPE_CHECKING:
    from collections.abc import Callable

_text = json.encoder.encode_basestring_ascii
_load = json.loads
_MAX_DEPTH = 100


def _make_dump() -> Callable[[Any], str]:
    encoder = json.JSONEncoder(allow_nan=False, check_circular=False)  # depth is checked here
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    # The same encoder, made once and not for each value, which costs more than encoding a small one.
    quick = make(None, encoder.default, _text, None, ": ", ", ", False, False, False)
    return lambda value: "".join(quick(value, 0))


_dump = _make_dump()


class Codec(Protocol):
    """Values to text and back. `encode` raises TypeError or ValueError for what it does not take."""

    def encode(self, value: Any, /) -> str: ...

    def decode(self, data: str, /) -> Any: ...


class Json:
    """Plain JSON in ASCII, which any program and any database reads."""

    def encode(self, value: Any) -> str:
        """The text. TypeError: JSON has no such type, or not as a key. ValueError: NaN, infinity, a cycle."""
        text = plain_json(value, True)
        if text is None:
            _check_json(value, 0)
            text = _dump(value)
        return text

    def decode(self, data: str) -> Any:
        return _load(data)


def _check_json(value: Any, depth: int) -> None:
    """That nothing is silently changed: the encoder would write {1: ..} and {"1": ..} alike."""
    kind = type(value)
    if kind in _SCALARS:
        return
    if depth >= _MAX_DEPTH:
        raise ValueError(f"a value is nested more than {_MAX_DEPTH} deep, or contains itself")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a dict has the key {key!r}; in JSON they are str")
            if type(item) not in _SCALARS:
                _check_json(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _SCALARS:
                _check_json(item, depth + 1)
    elif not isinstance(value, (str, int, float)):
        raise TypeError(f"JSON has nothing for a {kind.__module__}.{kind.__qualname__}")


_SCALARS = frozenset({str, int, float, bool, type(None)})

_MARK = "!"  # before a text that has types in it, and as the key of a dict that stands for one


class Exact:
    """JSON that keeps the types of the standard library."""

    def encode(self, value: Any) -> str:
        """The text. TypeError: a type it does not know. ValueError: nested too deep, or in itself."""
        text = plain_json(value, False)
        if text is not None:
            return text
        found: list[str] = []
        tree = _tag(value, 0, found)
        return (_MARK if found else "") + _dump(tree)

    def decode(self, data: str) -> Any:
        if data.startswith(_MARK):
            return json.loads(data[1:], object_hook=_untag)
        return _load(data)


def _tag(value: Any, depth: int, found: list[str]) -> Any:
    """The value with what JSON has no word for as {"!": [type, ...]}; found: the types that occur."""
    kind = type(value)
    if kind is float and not math.isfinite(value):
        found.append("f")
        return {_MARK: ["f", repr(value)]}
    if kind in _SCALARS:
        return value
    if depth >= _MAX_DEPTH:
        raise ValueError(f"a value is nested more than {_MAX_DEPTH} deep, or contains itself")
    if kind is list:
        return [_tag(item, depth + 1, found) for item in value]
    if kind is dict:
        if all(type(key) is str and key != _MARK for key in value):
            return {key: _tag(item, depth + 1, found) for key, item in value.items()}
        items = [
            [_tag(key, depth + 1, found), _tag(item, depth + 1, found)]
            for key, item in value.items()
        ]
        found.append("d")
        return {_MARK: ["d", *items]}
    tag = _TAGS.get(kind)
    if tag is None:
        raise TypeError(
            f"a value of type {kind.__module__}.{kind.__qualname__} cannot be kept in a journal"
        )
    found.append(tag)
    if kind in (tuple, set, frozenset):
        return {_MARK: [tag, *(_tag(item, depth + 1, found) for item in value)]}
    return {_MARK: [tag, _WORDS[tag](value)]}


_TAGS: dict[type, str] = {
    tuple: "t",
    set: "s",
    frozenset: "z",
    bytes: "b",
    Decimal: "D",
    UUID: "u",
    datetime: "dt",
    date: "da",
    time: "ti",
    timedelta: "td",
}
_WORDS: dict[str, Callable[[Any], Any]] = {
    "b": lambda value: base64.b64encode(value).decode(),
    "D": str,
    "u": str,
    "dt": lambda value: [value.isoformat(), value.fold],
    "da": date.isoformat,
    "ti": lambda value: [value.isoformat(), value.fold],
    "td": lambda value: [value.days, value.seconds, value.microseconds],
}
_BACK: dict[str, Callable[..., Any]] = {
    "f": float,
    "b": lambda text: base64.b64decode(text, validate=True),
    "D": Decimal,
    "u": UUID,
    "dt": lambda parts: datetime.fromisoformat(parts[0]).replace(fold=parts[1]),
    "da": date.fromisoformat,
    "ti": lambda parts: time.fromisoformat(parts[0]).replace(fold=parts[1]),
    "td": lambda parts: timedelta(*parts),
    "d": lambda *items: {key: item for key, item in items},  # noqa: C416 - lists, not pairs
    "t": lambda *items: items,
    "s": lambda *items: set(items),
    "z": lambda *items: frozenset(items),
}


def _untag(found: dict[str, Any]) -> Any:
    if len(found) == 1 and _MARK in found:
        tag, *rest = found[_MARK]
        return _BACK[tag](*rest)
    return found
