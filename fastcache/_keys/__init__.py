"""Names of keys in L2: a canonical encoding, and a readable prefix with its digest.

`encode` gives equal keys the same bytes and unequal keys different ones, in every process, whatever its hash
seed; `decode` gives an equal key back. Equality is Python's: 1, True, 1.0 and Decimal(1) are one key, a
NamedTuple is the tuple of its fields, and an IntEnum member its number.

An encoding is one letter for the kind and what follows:

    n  None                         s  str, UTF-8 (lone surrogates as they are)
    i  int of up to 64 bits, text   b  bytes
    I  longer int, two's complement u  UUID, 16 bytes
    d  float that is no integer     t  tuple: each item behind its length
    f  an infinity                  z  frozenset: the same, in the order of the encodings
    r  fraction that is no float    k  class: module and qualified name
    c  complex, two items           x  a registered kind: its number and its parts, as of a tuple
    D  aware datetime, e  naive     y  date     T  aware time, w  naive     l  timedelta

A length is one byte, or 255 and four bytes. Each kind of item has one form only, and a tuple's is the
sequence of its items' behind their lengths, so two encodings are equal only if all items are.
"""

from fastcache._keys.decoding import decode, register_kind
from fastcache._keys.encoding import MAX_DEPTH, encode
from fastcache._keys.names import (
    READABLE,
    check_namespace,
    digest,
    name,
    name_of_encoded,
    place,
)

__all__ = [
    "MAX_DEPTH",
    "READABLE",
    "check_namespace",
    "decode",
    "digest",
    "encode",
    "name",
    "name_of_encoded",
    "place",
    "register_kind",
]
