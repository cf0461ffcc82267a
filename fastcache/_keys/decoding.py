"""Bytes to keys, and the kinds of key that others register."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastcache._keys.encoding import (
    DOUBLE,
    ENCODERS,
    MAX_DEPTH,
    MAX_RATIO,
    MAX_SET,
    MICROS,
    class_named,
    each_of,
    encode,
    items_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def decode(data: bytes) -> Any:
    """A key that equals the one this is the encoding of.

    ValueError: it is no encoding, or names a class that is not loaded here. Runs no code but that of the
    registered kinds; takes time and memory in proportion to the data, whatever they say.
    """
    data = bytes(data)
    try:
        key = decode_part(data, 0)
        whole = encode(key) == data  # each key has one encoding: nothing else is taken for it
    except (TypeError, LookupError, AttributeError, ArithmeticError, struct.error) as error:
        raise ValueError(f"not the encoding of a key: {error}") from error
    if not whole:
        raise ValueError(f"not the encoding of a key: {data[:60]!r}")
    return key


def decode_part(data: bytes, depth: int) -> Any:
    decoder = _DECODERS.get(data[:1])
    if decoder is None:
        raise ValueError(f"not the encoding of a key: {data[:60]!r}")
    if depth > MAX_DEPTH:
        raise ValueError(f"a key is nested more than {MAX_DEPTH} deep")
    return decoder(data[1:], depth)


def split(data: bytes, place: int = 0) -> Iterator[bytes]:
    """The items from that place on, each behind its length."""
    end = len(data)
    while place < end:
        size = data[place]
        place += 1
        if size == 255:
            size = int.from_bytes(data[place : place + 4], "big")
            place += 4
        if size > end - place:
            raise ValueError("not the encoding of a key: it is cut off")
        yield data[place : place + size]
        place += size


def _decode_items(body: bytes, depth: int) -> list[Any]:
    return [decode_part(item, depth + 1) for item in split(body)]


def _two(items: list[Any]) -> tuple[Any, Any]:
    if len(items) != 2:
        raise ValueError("not the encoding of a key: two items were expected")
    return items[0], items[1]


def _decode_short(body: bytes, depth: int = 0) -> int:
    if len(body) > 24:
        raise ValueError("not the encoding of a key: a number is too long")
    return int(body)


def _decode_ratio(body: bytes, depth: int) -> Fraction:
    numerator, denominator = _two(_decode_items(body, depth))
    if not type(numerator) is type(denominator) is int:
        raise ValueError("not the encoding of a key: a fraction of something else than ints")
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_RATIO:
        raise ValueError(f"a fraction in a key has more than {MAX_RATIO} bits")
    return Fraction(numerator, denominator)


def _decode_complex(body: bytes, depth: int) -> complex:
    real, imag = _two(_decode_items(body, depth))
    return complex(float(real), float(imag))


def _decode_set(body: bytes, depth: int) -> frozenset[Any]:
    items = _decode_items(body, depth)
    if len(items) > MAX_SET:
        raise ValueError(f"a frozenset in a key has more than {MAX_SET} items")
    return frozenset(items)


def _decode_class(body: bytes, depth: int) -> type:
    module, name = _two(_decode_items(body, depth))
    found = class_named(module, name)
    if found is None:
        raise ValueError(f"the class {module}.{name} is not loaded")
    return found


def _at_micros(micros: int, zone: timezone | None) -> datetime:
    days, rest = divmod(micros, 86_400_000_000)
    return datetime.combine(date.fromordinal(days), time(0, tzinfo=zone)) + rest * MICROS


def _decode_aware(body: bytes, depth: int) -> datetime:
    micros = _decode_short(body)
    try:
        return _at_micros(micros, UTC)
    except (OverflowError, ValueError):
        # A moment near the first or last day there is, that only another zone's clocks can show.
        away = timedelta(hours=23, minutes=59) * (1 if micros < 800_000 * 86_400_000_000 else -1)
        return _at_micros(micros + away // MICROS, timezone(away))


def _decode_aware_time(body: bytes, depth: int) -> time:
    seconds, micros = divmod(_decode_short(body), 1_000_000)
    shown = min(max(seconds, 0), 86_399)
    zone = timezone(timedelta(seconds=shown - seconds))
    return _time_of(shown, micros).replace(tzinfo=zone)


def _decode_naive_time(body: bytes, depth: int) -> time:
    return _time_of(*divmod(_decode_short(body), 1_000_000))


def _time_of(seconds: int, micros: int) -> time:
    minutes, second = divmod(seconds, 60)
    return time(*divmod(minutes, 60), second, micros)


_DECODERS: dict[bytes, Callable[[bytes, int], Any]] = {
    b"n": lambda body, depth: None,
    b"i": _decode_short,
    b"I": lambda body, depth: int.from_bytes(body, "big", signed=True),
    b"d": lambda body, depth: DOUBLE.unpack(body)[0],
    b"f": lambda body, depth: float("-inf" if body == b"-" else "inf"),
    b"r": _decode_ratio,
    b"c": _decode_complex,
    b"s": lambda body, depth: body.decode("utf-8", "surrogatepass"),
    b"b": lambda body, depth: body,
    b"u": lambda body, depth: UUID(bytes=body),
    b"t": lambda body, depth: tuple(_decode_items(body, depth)),
    b"z": _decode_set,
    b"k": _decode_class,
    b"D": _decode_aware,
    b"e": lambda body, depth: _at_micros(_decode_short(body), None),
    b"y": lambda body, depth: date.fromordinal(_decode_short(body)),
    b"T": _decode_aware_time,
    b"w": _decode_naive_time,
    b"l": lambda body, depth: _decode_short(body) * MICROS,
    b"x": lambda body, depth: _decode_registered(body, depth),
}


# ---- registered kinds ------------------------------------------------------------------------------

_KINDS: dict[int, tuple[type, Callable[..., Any]]] = {}


def register_kind(
    kind: type, tag: int, to_parts: Callable[[Any], tuple[Any, ...]], from_parts: Callable[..., Any]
) -> None:
    """Let keys hold instances of a class (exactly it).

    tag: its number in encodings, 0 to 255, the same in every process and for ever. to_parts(instance) -> tuple of
    what keys may hold; equal for equal instances only. from_parts(*parts) -> an equal instance; it is
    called with parts that came from outside. Registering a class again replaces both. ValueError: the
    number is another class's.
    """
    if not 0 <= tag <= 255:
        raise ValueError(f"tag must be from 0 to 255, not {tag!r}")
    owner = _KINDS.get(tag, (kind,))[0]
    if owner is not kind:
        raise ValueError(f"tag {tag} is that of {owner.__module__}.{owner.__qualname__}")
    head = b"x" + bytes([tag])

    def encoder(key: Any, depth: int) -> bytes:
        return head + items_of(each_of(to_parts(key), depth))

    _KINDS[tag] = (kind, from_parts)
    ENCODERS[kind] = encoder


def _decode_registered(body: bytes, depth: int) -> Any:
    kind, from_parts = _KINDS.get(body[0] if body else -1, (None, None))
    if kind is None or from_parts is None:
        raise ValueError(f"not the encoding of a key: of an unknown kind {body[:1]!r}")
    key = from_parts(*_decode_items(body[1:], depth))
    if type(key) is not kind:
        raise ValueError(f"not the encoding of a key: {kind.__qualname__} was expected")
    return key
