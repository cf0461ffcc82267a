"""Keys to bytes. The format is described in `fastcache._keys`."""

from __future__ import annotations

import struct
import sys
import types
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Deepest nesting of tuples and frozensets in a key.
MAX_DEPTH = 64
#: Ints from -LONG to LONG - 1 are written as text.
LONG = 2**63
#: Bits in either half of a fraction: reducing it takes the square of that.
MAX_RATIO = 32_768
#: Of a Decimal, so that 1E+999999999 does not fill the memory. Those of decimal128 reach 6,144.
MAX_EXPONENT = 6_200
#: Items in a frozenset: those that come from outside may have been chosen to have one hash.
MAX_SET = 10_000
#: Longest item, in bytes.
MAX_ITEM = 0xFFFFFFFF
DOUBLE = struct.Struct(">d")
MICROS = timedelta(microseconds=1)

ALLOWED = (
    "None, bool, int, float, complex, Decimal, Fraction, str, bytes, UUID, date, time, datetime, "
    "timedelta, classes, and tuples and frozensets of these"
)


def encode(key: Any) -> bytes:
    """The canonical encoding of a key: the same for equal keys, another for any other.

    TypeError: its type, or that of an item, cannot be told in another process. ValueError: nothing can equal
    it (NaN, a time of day that a clock change makes ambiguous), or it is nested more than MAX_DEPTH deep.
    Costs O(size x depth). Runs no code of the key, but that of a user's tzinfo.
    """
    kind = type(key)
    if kind is str:
        text: bytes = key.encode("utf-8", "surrogatepass")
        return b"s" + text
    return encoder_of(kind)(key, 0)


def encoder_of(kind: type) -> Callable[[Any, int], bytes]:
    """What encodes instances of this class, or TypeError."""
    found = ENCODERS.get(kind)
    if found is not None:
        return found
    # A subclass that compares and hashes as its base does is equal to the base's instances.
    for base in kind.__mro__:
        found = _BASES.get(base)
        if found is not None:
            if kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__:
                return found
            break
    own = ", which has its own __eq__ or __hash__," if found is not None else ""
    raise TypeError(
        f"a key of type {kind.__module__}.{kind.__qualname__}{own} has no name outside of this process; "
        f"allowed are {ALLOWED}"
    )


def each_of(key: Iterable[Any], depth: int) -> list[bytes]:
    """The encodings of the items of a key that is this deep in another one."""
    if depth >= MAX_DEPTH:
        raise ValueError(f"a key is nested more than {MAX_DEPTH} deep")
    parts = []
    for item in key:
        kind = type(item)
        if kind is str:
            parts.append(b"s" + item.encode("utf-8", "surrogatepass"))
        elif kind is int and -LONG <= item < LONG:
            parts.append(b"i%d" % item)
        else:
            parts.append(encoder_of(kind)(item, depth + 1))
    return parts


def items_of(parts: Iterable[bytes]) -> bytes:
    """These encodings, each behind its length."""
    try:
        return b"".join([_SIZES[len(part)] + part for part in parts])
    except IndexError:
        return b"".join([_size(len(part)) + part for part in parts])


def _size(size: int) -> bytes:
    if size < 255:
        return _SIZES[size]
    if size > MAX_ITEM:
        raise ValueError(f"an item of a key is {size} bytes long; at most {MAX_ITEM} are possible")
    return b"\xff" + size.to_bytes(4, "big")


_SIZES = [bytes([size]) for size in range(255)]


def _str(key: str, depth: int) -> bytes:
    return b"s" + str.encode(key, "utf-8", "surrogatepass")


def _bytes(key: bytes, depth: int) -> bytes:
    return b"b" + bytes.join(b"", (key,))


def _none(key: None, depth: int) -> bytes:
    return b"n"


def _int(key: int, depth: int) -> bytes:
    key = int.__index__(key)
    if -LONG <= key < LONG:
        return b"i%d" % key
    return b"I" + key.to_bytes((key.bit_length() + 8) // 8, "big", signed=True)


def _float(key: float, depth: int) -> bytes:
    key = float.__float__(key)
    if key - key != 0.0:
        if key != key:
            raise ValueError(f"{key!r} is no key: it equals nothing, not even itself")
        return b"f+" if key > 0 else b"f-"
    if key.is_integer():
        return _int(int(key), depth)
    return b"d" + DOUBLE.pack(key)


def _decimal(key: Decimal, depth: int) -> bytes:
    exponent = Decimal.as_tuple(key).exponent
    if isinstance(exponent, str):
        if exponent != "F":
            raise ValueError(f"{key!r} is no key: it equals nothing, not even itself")
        return b"f-" if Decimal.is_signed(key) else b"f+"
    if not key:
        return b"i0"
    if not -MAX_EXPONENT <= Decimal.adjusted(key) <= MAX_EXPONENT:
        raise ValueError(
            f"a Decimal key has the exponent {Decimal.adjusted(key)}; at most {MAX_EXPONENT} is possible"
        )
    return _ratio(*Decimal.as_integer_ratio(key), depth)


def _fraction(key: Fraction, depth: int) -> bytes:
    return _ratio(*Fraction.as_integer_ratio(key), depth)


def _ratio(numerator: int, denominator: int, depth: int) -> bytes:
    if denominator == 1:
        return _int(numerator, depth)
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_RATIO:
        raise ValueError(f"a fraction in a key has more than {MAX_RATIO} bits")
    if denominator & (denominator - 1) == 0:  # a float perhaps, which it would equal
        try:
            quotient = numerator / denominator
        except OverflowError:
            quotient = 0.0
        if quotient.as_integer_ratio() == (numerator, denominator):
            return _float(quotient, depth)
    return b"r" + items_of((_int(numerator, depth), _int(denominator, depth)))


def _complex(key: complex, depth: int) -> bytes:
    real, imag = _float(key.real, depth), _float(key.imag, depth)
    return real if imag == b"i0" else b"c" + items_of((real, imag))


def _uuid(key: UUID, depth: int) -> bytes:
    return b"u" + key.int.to_bytes(16, "big")


def _tuple(key: tuple[Any, ...], depth: int) -> bytes:
    return b"t" + items_of(each_of(tuple.__iter__(key), depth))


def _frozenset(key: frozenset[Any], depth: int) -> bytes:
    if frozenset.__len__(key) > MAX_SET:
        raise ValueError(
            f"a frozenset in a key has {len(key)} items; at most {MAX_SET} are possible"
        )
    return b"z" + items_of(sorted(each_of(frozenset.__iter__(key), depth)))


def _class(key: type, depth: int) -> bytes:
    module = type.__getattribute__(key, "__module__")
    name = type.__getattribute__(key, "__qualname__")
    if class_named(module, name) is not key:
        raise TypeError(
            f"the class {module}.{name} has no name outside of this process: it is not found under that one"
        )
    return b"k" + items_of((_str(module, depth), _str(name, depth)))


def _datetime(key: datetime, depth: int) -> bytes:
    micros = _micros_of_day(key) + datetime.toordinal(key) * 86_400_000_000
    offset = datetime.utcoffset(key)
    if offset is None:
        return b"e%d" % micros
    if type(key.tzinfo) is not timezone:
        _refuse_ambiguous(key, offset)
    return b"D%d" % (micros - offset // MICROS)


def _refuse_ambiguous(key: datetime, offset: timedelta) -> None:
    """Within one time zone Python compares what clocks show, between two the moments. Where clocks are changed
    these differ: what clocks show twice is equal there, and equal to nothing elsewhere (PEP 495)."""
    plain = datetime(
        key.year, key.month, key.day, key.hour, key.minute, key.second, key.microsecond, key.tzinfo
    )
    try:
        clear = plain.utcoffset() == plain.replace(fold=1).utcoffset()
        again = plain.astimezone(UTC).astimezone(key.tzinfo)
        clear = clear and again.replace(tzinfo=None) == plain.replace(tzinfo=None)
    except OverflowError:
        clear = False
    if not clear:
        raise ValueError(f"{key!r} is no key: a change of clocks makes it ambiguous; take its UTC")


def _micros_of_day(key: datetime | time) -> int:
    return ((key.hour * 60 + key.minute) * 60 + key.second) * 1_000_000 + key.microsecond


def _date(key: date, depth: int) -> bytes:
    return b"y%d" % date.toordinal(key)


def _time(key: time, depth: int) -> bytes:
    offset = time.utcoffset(key)
    if offset is None:
        return b"w%d" % _micros_of_day(key)
    # as time compares: without going round at midnight, and without the offset's microseconds
    return b"T%d" % (_micros_of_day(key) - (offset.days * 86_400 + offset.seconds) * 1_000_000)


def _timedelta(key: timedelta, depth: int) -> bytes:
    return b"l%d" % ((key.days * 86_400 + key.seconds) * 1_000_000 + key.microseconds)


DOUBLE = struct.Struct(">d")
ENCODERS: dict[type, Callable[[Any, int], bytes]] = {
    type(None): _none,
    bool: _int,
    int: _int,
    float: _float,
    complex: _complex,
    Decimal: _decimal,
    Fraction: _fraction,
    str: _str,
    bytes: _bytes,
    UUID: _uuid,
    tuple: _tuple,
    frozenset: _frozenset,
    type: _class,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
}
#: What a subclass may stand for. Not what is registered, of which subclasses are something else.
_BASES = dict(ENCODERS)


def class_named(module: object, name: object) -> type | None:
    """The class under that name in a module that is loaded: nothing is imported, and no code is run."""
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    # isinstance would ask an object for its __class__, which may be code of its own
    holder: Any = sys.modules.get(module)
    for part in name.split("."):
        if issubclass(type(holder), types.ModuleType):
            holder = object.__getattribute__(holder, "__dict__").get(part)
        elif issubclass(type(holder), type):
            holder = type.__getattribute__(holder, "__dict__").get(part)
        else:
            return None
    if holder is None and module == "builtins":  # NoneType and its like, which have no name there
        holder = _BUILTIN.get(name)
    return holder if issubclass(type(holder), type) else None


_BUILTIN = {
    value.__qualname__: value
    for value in vars(types).values()
    if isinstance(value, type) and value.__module__ == "builtins"
}
