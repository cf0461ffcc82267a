"""MessagePack by msgspec, with extension types so that a value comes back as it was.

msgspec would write a tuple as a list, an Enum as its value, a dataclass as a dict and a subclass as its base, all
without a word. So it is given nothing but what it gives back exactly: a value made of None, bool, int, float,
str, bytes, list and dict with str keys goes to it as it is; in any other one, the rest is first replaced by
extension types, each written by the functions below.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from struct import Struct
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID

from fastcache.serializers._base import MAX_DEPTH, Unserializable, is_plain, type_name
from fastcache.serializers._shapes import Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from msgspec.msgpack import Ext

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
# Codes of the extension types. They are in stored data: never use one for something else.
_INT, _STR, _TUPLE, _SET, _FROZENSET, _DICT, _BYTEARRAY, _DECIMAL = range(1, 9)
_COMPLEX, _DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _SHAPE = range(9, 16)

_TWO_DOUBLES = Struct(">dd")
_DATE_AND_TIME = Struct(">HBBBBBIB")
_TIME_OF_DAY = Struct(">BBBIB")
_DAYS = Struct(">iII")
_ORDINAL = Struct(">I")
_MICROS = timedelta(microseconds=1)


class Msgpack:
    """MessagePack (msgspec): the default.

    Gives back, with the same types: None, bool, int of any size, float, complex, Decimal, str, bytes, bytearray,
    list, tuple, set, frozenset, dict (any keys, in their order), datetime, date, time (with timezone or
    ZoneInfo), timedelta, UUID. Anything else is Unserializable, so are subclasses of these.

    types: classes of your own whose instances may be stored: dataclasses, msgspec.Struct, NamedTuple,
    Enum. Their fields are stored, `__init__` is not called again. A class that has other fields now than when the
    value was stored is a miss; for other changes count up the cache's `version`.
    """

    name = "msgpack"
    tag = 1
    __slots__ = ("_decode", "_encode", "_ext", "_loaders", "_shapes", "_writers", "types")

    def __init__(self, types: Iterable[type] = ()) -> None:
        try:
            from msgspec import msgpack
        except ImportError as error:
            raise ImportError(
                "Msgpack needs msgspec: pip install 'fastcache-engine[tiered]'"
            ) from error
        self.types: tuple[type, ...] = tuple(types)
        self._shapes: dict[bytes, Shape] = {}
        self._writers: dict[type, Callable[[Msgpack, Any, int], Any]] = dict(_WRITERS)
        for kind in self.types:
            shape = shape_of(kind)
            if kind in self._writers:
                raise ValueError(f"types has {type_name(kind)} twice")
            if shape.identity in self._shapes:
                raise ValueError(f"types has two classes named {type_name(kind)}")
            self._shapes[shape.identity] = shape
            self._writers[kind] = _writer_of(shape)
        self._ext: type[Ext] = msgpack.Ext
        self._encode = msgpack.Encoder().encode
        self._decode = msgpack.Decoder(ext_hook=self._load).decode

    def __repr__(self) -> str:
        return (
            f"Msgpack(types=[{', '.join(map(type_name, self.types))}])"
            if self.types
            else "Msgpack()"
        )

    def dumps(self, value: Any, /) -> bytes:
        """The value as bytes. Unserializable: something in it would not come back as it is. O(size)."""
        kind = type(value)
        if kind in _ATOMS or ((kind is dict or kind is list) and is_plain(value, kind, _ATOMS, 1)):
            try:
                return self._encode(value)
            except (OverflowError, UnicodeEncodeError):
                pass  # an int of more than 64 bits, or a lone surrogate
        return self._encode(self._replaced(value, 0))

    def loads(self, data: bytes, /) -> Any:
        """The value. Any exception: these are no bytes of `dumps`, or of a class that is not registered."""
        return self._decode(data)

    @property
    def decoder(self) -> Callable[[bytes], Any]:
        """`loads`, without a call of Python around it."""
        return self._decode

    def _replaced(self, value: Any, depth: int) -> Any:
        """The value as msgspec gives it back, or an extension type in its place."""
        writer = self._writers.get(type(value))
        if writer is None:
            raise Unserializable(
                f"Msgpack would not give back {type_name(type(value))} as it is; see its argument types"
            )
        if depth > MAX_DEPTH:
            raise Unserializable(
                f"a value is nested more than {MAX_DEPTH} deep, or contains itself"
            )
        return writer(self, value, depth)

    def _items(self, code: int, items: Iterable[Any], depth: int, head: bytes = b"") -> Ext:
        data = self._encode([self._replaced(item, depth + 1) for item in items])
        return self._ext(code, head + data)

    def _zone(self, value: datetime | time) -> Any:
        """None, microseconds, [microseconds, name], or the name of a ZoneInfo."""
        zone: Any = value.tzinfo
        if zone is None:
            return None
        if type(zone) is timezone:
            offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
            return [offset // _MICROS, *name] if name else offset // _MICROS
        zones = sys.modules.get("zoneinfo")
        if zones is not None and type(zone) is zones.ZoneInfo:
            key = zone.key  # None, or that of another one, if it was read from a file
            if type(key) is str and zones.ZoneInfo(key) is zone:
                return key
        raise Unserializable(
            f"Msgpack would not give back the time zone {zone!r} as it is; timezone and ZoneInfo(key) it would"
        )

    def _load(self, code: int, view: memoryview) -> Any:
        loader = _LOADERS.get(code)
        if loader is None:
            raise ValueError(f"an extension type {code} that nobody wrote")
        return loader(self, bytes(view))

    def _list(self, data: bytes) -> list[Any]:
        items = self._decode(data)
        if type(items) is not list:
            raise ValueError("a list was expected")
        return items

    def _load_zone(self, data: bytes) -> Any:
        zone = self._decode(data)
        if zone is None:
            return None
        if type(zone) is str:
            from zoneinfo import ZoneInfo

            return ZoneInfo(zone)
        micros, *name = zone if type(zone) is list else (zone,)
        return timezone(micros * _MICROS, *name)


# ---- writing -------------------------------------------------------------------------------------


def _same(s: Msgpack, value: Any, depth: int) -> Any:
    return value


def _write_int(s: Msgpack, value: int, depth: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    return s._ext(_INT, value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))


def _write_str(s: Msgpack, value: str, depth: int) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return s._ext(_STR, value.encode("utf-8", "surrogatepass"))
    return value


def _write_list(s: Msgpack, value: list[Any], depth: int) -> Any:
    return [s._replaced(item, depth + 1) for item in value]


def _write_dict(s: Msgpack, value: dict[Any, Any], depth: int) -> Any:
    keys = [s._replaced(key, depth + 1) for key in value]
    if all(type(key) is str for key in keys):
        return {key: s._replaced(item, depth + 1) for key, item in value.items()}
    data = s._encode([keys, [s._replaced(item, depth + 1) for item in value.values()]])
    return s._ext(_DICT, data)


def _write_datetime(s: Msgpack, value: datetime, depth: int) -> Any:
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    head = _DATE_AND_TIME.pack(*parts, value.microsecond, value.fold)
    return s._ext(_DATETIME, head + s._encode(s._zone(value)))


def _write_time(s: Msgpack, value: time, depth: int) -> Any:
    parts = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return s._ext(_TIME, _TIME_OF_DAY.pack(*parts) + s._encode(s._zone(value)))


def _write_uuid(s: Msgpack, value: UUID, depth: int) -> Any:
    safe = value.is_safe
    return s._ext(_UUID, value.bytes + (b"" if safe is SafeUUID.unknown else safe.name.encode()))


def _writer_of(shape: Shape) -> Callable[[Msgpack, Any, int], Any]:
    identity, take = shape.identity, shape.take

    def write(s: Msgpack, value: Any, depth: int) -> Any:
        return s._items(_SHAPE, take(value), depth, identity)

    return write


_WRITERS: dict[type, Callable[[Msgpack, Any, int], Any]] = {
    type(None): _same,
    bool: _same,
    float: _same,
    bytes: _same,
    int: _write_int,
    str: _write_str,
    list: _write_list,
    dict: _write_dict,
    tuple: lambda s, value, depth: s._items(_TUPLE, value, depth),
    set: lambda s, value, depth: s._items(_SET, value, depth),
    frozenset: lambda s, value, depth: s._items(_FROZENSET, value, depth),
    bytearray: lambda s, value, depth: s._ext(_BYTEARRAY, bytes(value)),
    Decimal: lambda s, value, depth: s._ext(_DECIMAL, str(value).encode()),
    complex: lambda s, value, depth: s._ext(_COMPLEX, _TWO_DOUBLES.pack(value.real, value.imag)),
    datetime: _write_datetime,
    date: lambda s, value, depth: s._ext(_DATE, _ORDINAL.pack(value.toordinal())),
    time: _write_time,
    timedelta: lambda s, value, depth: s._ext(
        _TIMEDELTA, _DAYS.pack(value.days, value.seconds, value.microseconds)
    ),
    UUID: _write_uuid,
}

# ---- reading -------------------------------------------------------------------------------------


def _load_dict(s: Msgpack, data: bytes) -> dict[Any, Any]:
    keys, values = s._list(data)
    return dict(zip(keys, values, strict=True))


def _load_datetime(s: Msgpack, data: bytes) -> datetime:
    *parts, fold = _DATE_AND_TIME.unpack_from(data)
    shown = datetime(*parts).replace(fold=fold)
    return shown.replace(tzinfo=s._load_zone(data[_DATE_AND_TIME.size :]))


def _load_time(s: Msgpack, data: bytes) -> time:
    *parts, fold = _TIME_OF_DAY.unpack_from(data)
    shown = time(*parts).replace(fold=fold)
    return shown.replace(tzinfo=s._load_zone(data[_TIME_OF_DAY.size :]))


def _load_uuid(s: Msgpack, data: bytes) -> UUID:
    return UUID(bytes=data[:16], is_safe=SafeUUID[data[16:].decode() or "unknown"])


def _load_shape(s: Msgpack, data: bytes) -> Any:
    shape = s._shapes.get(data[:8])
    if shape is None:
        raise ValueError("an instance of a class that is not in types, or has other fields there")
    return shape.make(s._list(data[8:]))


_LOADERS: dict[int, Callable[[Msgpack, bytes], Any]] = {
    _INT: lambda s, data: int.from_bytes(data, "big", signed=True),
    _STR: lambda s, data: data.decode("utf-8", "surrogatepass"),
    _TUPLE: lambda s, data: tuple(s._list(data)),
    _SET: lambda s, data: set(s._list(data)),
    _FROZENSET: lambda s, data: frozenset(s._list(data)),
    _DICT: _load_dict,
    _BYTEARRAY: lambda s, data: bytearray(data),
    _DECIMAL: lambda s, data: Decimal(data.decode()),
    _COMPLEX: lambda s, data: complex(*_TWO_DOUBLES.unpack(data)),
    _DATETIME: _load_datetime,
    _DATE: lambda s, data: date.fromordinal(*_ORDINAL.unpack(data)),
    _TIME: _load_time,
    _TIMEDELTA: lambda s, data: timedelta(*_DAYS.unpack(data)),
    _UUID: _load_uuid,
    _SHAPE: _load_shape,
}
