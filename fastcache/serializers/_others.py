"""JSON, signed pickles, and bytes as they are."""

from __future__ import annotations

import hmac
import pickle
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from fastcache.serializers._base import MAX_DEPTH, Unserializable, is_plain, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_ATOMS = frozenset({type(None), bool, int, str})


class Json:
    """JSON (orjson), for values that programs in other languages read.

    Gives back, with the same types: None, bool, int of up to 64 bits, finite float, str, list, and dict with str
    keys. Anything else is Unserializable.
    """

    name = "json"
    tag = 2
    __slots__ = ("_decode", "_encode")

    def __init__(self) -> None:
        try:
            import orjson
        except ImportError as error:
            raise ImportError("Json needs orjson: pip install 'fastcache-engine[json]'") from error
        self._encode = orjson.dumps
        self._decode = orjson.loads

    def __repr__(self) -> str:
        return "Json()"

    def dumps(self, value: Any, /) -> bytes:
        """The value as UTF-8. Unserializable: something in it would not come back as it is. O(size)."""
        kind = type(value)
        if not (
            kind in _ATOMS
            or (kind is float and isfinite(value))
            or ((kind is dict or kind is list) and is_plain(value, kind, _ATOMS, 1))
        ):
            _refuse(value, 0)
        try:
            return self._encode(value)
        except TypeError as error:  # of more than 64 bits, lone surrogates
            raise Unserializable(f"Json would not give the value back as it is: {error}") from error

    def loads(self, data: bytes, /) -> Any:
        """The value. ValueError: this is no JSON."""
        return self._decode(data)


def _refuse(value: Any, depth: int) -> None:
    """Raise Unserializable for the first thing that JSON would not give back."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise Unserializable(f"a value is nested more than {MAX_DEPTH} deep, or contains itself")
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise Unserializable(
                    f"Json would not give back a key of type {type_name(type(key))} as it is"
                )
        value = value.values()
    if kind is dict or kind is list:
        for item in value:
            _refuse(item, depth + 1)
    elif kind is float and not isfinite(value):
        raise Unserializable(f"Json would not give back {value!r} as it is")
    elif kind is not float and kind not in _ATOMS:
        raise Unserializable(f"Json would not give back {type_name(kind)} as it is")


class Pickle:
    """Pickles, signed with HMAC-SHA256. Choose this only when you have to.

    Whoever knows the key and can write to L2 runs code in your processes. Whoever can write to L2 without
    the key cannot, since nothing is unpickled before its signature was found right, but could put one
    signed value in another's place.

    key: at least 16 random bytes, the same in every process (`secrets.token_bytes(32)`). keys_accepted:
    older keys whose signatures are accepted still, to change keys without losing what is stored.
    Whether an object comes back equal is up to its class: nothing but what cannot be pickled is refused.
    """

    name = "pickle"
    tag = 3
    __slots__ = ("_key", "_keys")

    def __init__(self, key: bytes, *, keys_accepted: Iterable[bytes] = ()) -> None:
        self._key = _checked("key", key)
        older = [_checked("each of keys_accepted", one) for one in keys_accepted]
        self._keys = (self._key, *older)

    def __repr__(self) -> str:
        return "Pickle(key=...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pickle serializer cannot be copied or pickled: the key would be in it")

    def dumps(self, value: Any, /) -> bytes:
        """32 bytes of signature, and the pickle. Unserializable: it cannot be pickled."""
        try:
            data = pickle.dumps(value, 5)
        except Exception as error:  # whatever a __reduce__ raises
            raise Unserializable(f"{type_name(type(value))} cannot be pickled: {error}") from error
        return hmac.digest(self._key, data, "sha256") + data

    def loads(self, data: bytes, /) -> Any:
        """The value. ValueError: the signature is not by one of our keys, and nothing was unpickled."""
        view = memoryview(data)
        signature, body = bytes(view[:32]), view[32:]
        # every key is tried, so that the time tells nothing
        right = [
            hmac.compare_digest(hmac.digest(key, body, "sha256"), signature) for key in self._keys
        ]
        if True not in right:
            raise ValueError("the signature of a pickle is not by one of our keys")
        return pickle.loads(body)


def _checked(argument: str, key: object) -> bytes:
    """The key; errors do not show it."""
    if not isinstance(key, bytes):
        raise TypeError(f"{argument} must be bytes, not {type_name(type(key))}")
    if len(key) < 16:
        raise ValueError(f"{argument} must have at least 16 bytes, not {len(key)}")
    return bytes(key)


class Raw:
    """Bytes as they are; anything else is Unserializable."""

    name = "raw"
    tag = 4
    __slots__ = ()

    def __repr__(self) -> str:
        return "Raw()"

    def dumps(self, value: Any, /) -> bytes:
        """The value itself. Unserializable: it is not bytes (exactly: bytearray would come back as bytes)."""
        if type(value) is not bytes:
            raise Unserializable(f"Raw takes bytes, not {type_name(type(value))}")
        return value

    def loads(self, data: bytes, /) -> bytes:
        """The bytes."""
        return bytes(data)
