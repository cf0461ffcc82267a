"""Names of keys in L2, and which name spaces there may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastcache._keys.decoding import decode_part, split
from fastcache._keys.encoding import LONG, encode, encoder_of
from fastcache._redact import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    digest: Callable[[bytes], str]
try:
    from xxhash import xxh3_128_hexdigest as digest
except ImportError:  # keys can be encoded without it, but not named

    def digest(data: bytes) -> str:
        raise ImportError("names in L2 need xxhash: pip install 'fastcache-engine[tiered]'")


#: Longest readable part of a name, in bytes.
READABLE = 40

_KEPT = bytes(b if re.fullmatch(rb"[A-Za-z0-9_.-]", bytes([b])) else ord("_") for b in range(256))
_NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def name(key: Any) -> str:
    """The name of a key in L2: a readable part, ':' and the digest of its encoding. Raises what `encode` does."""
    kind = type(key)
    if kind is str:
        text = key.encode("utf-8", "surrogatepass")
        return f"{text[:READABLE].translate(_KEPT).decode()}:{digest(b's' + text)}"
    if kind is int and -LONG <= key < LONG:
        return f"{key}:{digest(b'i%d' % key)}"
    return name_of_encoded(encoder_of(kind)(key, 0))


def place(key: Any) -> tuple[bytes, str]:
    """The encoding of a key, and its name. Raises what `encode` does. The engine's Places makes both of usual keys
    faster."""
    data = encode(key)
    return data, name_of_encoded(data)


def name_of_encoded(data: bytes) -> str:
    """`name` of the key with this encoding."""
    return f"{_readable(data)[:READABLE].translate(_KEPT).decode()}:{digest(data)}"


def _readable(data: bytes) -> bytes:
    """What a person may recognise a key by. Made of the encoding, since equal keys have equal names."""
    tag = data[:1]
    if tag in _AS_IT_IS:
        return data[1 : 1 + READABLE]
    if tag in _OF_ITEMS:
        shown = b""
        for item in split(data, 1):
            shown += b"-" + (item[1:] if item[:1] in _AS_IT_IS else _readable(item))[:READABLE]
            if len(shown) > READABLE:
                break
        return shown[1:]
    if tag in _BY_STR:
        return str(decode_part(data, 0)).encode()
    return _SHOWN.get(tag, b"")


_AS_IT_IS = frozenset({b"s", b"b", b"i"})
_OF_ITEMS = frozenset({b"t", b"k"})
_BY_STR = frozenset({b"d", b"u", b"e", b"D", b"y"})
#: What is shown of keys whose encoding says little to a person.
_SHOWN = {
    b"n": b"None",
    b"f": b"inf",
    b"I": b"int",
    b"r": b"fraction",
    b"z": b"frozenset",
    b"l": b"timedelta",
}


def check_namespace(text: str) -> str:
    """The name space itself, if it is one. ValueError: it is not 1 to 64 of A-Z a-z 0-9 _ . : -"""
    if type(text) is not str or _NAMESPACE.fullmatch(text) is None:
        raise ValueError(
            f"namespace must be 1 to 64 characters of A-Z a-z 0-9 _ . : -, not {shown(text)}"
        )
    return text
