"""Classes of the user's whose instances are their fields: how to take one apart and make it again."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache.serializers._base import Unserializable, extras, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Shape(NamedTuple):
    """identity: 8 bytes that tell class and fields. take: an instance's values, or Unserializable.
    make: an equal instance of such values."""

    identity: bytes
    take: Callable[[Any], Sequence[Any]]
    make: Callable[[list[Any]], Any]


def shape_of(kind: type) -> Shape:
    """How instances of this class are stored. TypeError: it is none of those that can be."""
    if not isinstance(kind, type):
        raise TypeError(f"types must be classes, not {kind!r}")
    if issubclass(kind, Enum):
        return _of_enum(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _of_fields("tuple", kind, kind._fields, lambda values: tuple.__new__(kind, values))
    structs: Any = sys.modules.get("msgspec.structs")
    if structs is not None and hasattr(kind, "__struct_fields__"):
        return _of_fields("struct", kind, kind.__struct_fields__, _struct_maker(kind, structs))
    if dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
        object.__new__(
            kind
        )  # TypeError: it holds something beside its fields, as a list's subclass does
        return _of_fields("dataclass", kind, names, _dataclass_maker(kind, names))
    raise TypeError(
        f"types must be dataclasses, msgspec.Struct, NamedTuple or Enum, which {type_name(kind)} is not"
    )


def _identity(form: str, kind: type, names: Sequence[str]) -> bytes:
    text = "\0".join((form, kind.__module__, kind.__qualname__, *names))
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _of_fields(
    form: str, kind: type, names: tuple[str, ...], make: Callable[[list[Any]], Any]
) -> Shape:
    def take(value: Any) -> list[Any]:
        more = extras(value, names)
        if more:
            raise Unserializable(
                f"a {type_name(kind)} has attributes that are no fields and would be lost: {', '.join(more)}"
            )
        try:
            return [getattr(value, name) for name in names]
        except AttributeError as error:
            raise Unserializable(f"a {type_name(kind)} lacks a field: {error}") from error

    def checked(values: list[Any]) -> Any:
        if len(values) != len(names):
            raise ValueError(f"{type_name(kind)} has {len(names)} fields, not {len(values)}")
        return make(values)

    return Shape(_identity(form, kind, names), take, checked)


def _dataclass_maker(kind: type, names: tuple[str, ...]) -> Callable[[list[Any]], Any]:
    def make(values: list[Any]) -> Any:
        # As unpickling does: the fields hold already what __init__ and __post_init__ made of the arguments.
        instance: Any = object.__new__(kind)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance

    return make


def _struct_maker(kind: Any, structs: Any) -> Callable[[list[Any]], Any]:
    names = kind.__struct_fields__
    restore = hasattr(kind, "__post_init__")

    def make(values: list[Any]) -> Any:
        instance = kind(**dict(zip(names, values, strict=True)))
        if restore:  # it was called again, and may have changed what the fields held
            for name, value in zip(names, values, strict=True):
                structs.force_setattr(instance, name, value)
        return instance

    return make


def _of_enum(kind: Any) -> Shape:
    members = kind.__members__

    def take(value: Any) -> list[Any]:
        if members.get(value.name) is not value:
            raise Unserializable(
                f"{value!r} is no member of {type_name(kind)} with a name of its own"
            )
        return [value.name]

    def make(values: list[Any]) -> Any:
        (name,) = values
        return members[name]

    return Shape(_identity("enum", kind, ()), take, make)
