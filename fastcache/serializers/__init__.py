"""How values become bytes in L2: a hit in L2 equals a hit in L1.

A serializer gives back what it was given, with the same types, or refuses it (`Unserializable`): then the
value stays in L1 only, and is counted. `Msgpack` is the default; `Json` is for readers in other languages,
`Pickle` (signed) for what nothing else takes, `Raw` for bytes. Any object with `dumps` and `loads` will do.
"""

from fastcache.serializers._base import Serializer, Unserializable
from fastcache.serializers._msgpack import Msgpack
from fastcache.serializers._others import Json, Pickle, Raw

__all__ = ["Json", "Msgpack", "Pickle", "Raw", "Serializer", "Unserializable"]
