"""What lies in L2 under a name: a value with all that is needed to know that it is the right one.

    stamp     9   the format (1 byte, neither digit nor sign, since counters are plain decimal integers), and
                  8 random bytes that tell this fill from any other
    flags     1   MISSING, COMPRESSED
    serializer    tag (1), and of the user's own 4 bytes of its name's digest
    version   4   of the user's data
    ttl       8   seconds, a double; infinite: never expires
    extra     8   seconds that it is kept past its ttl, a double
    cost      8   seconds that loading took, a double
    sequence  8   of tag invalidations, known before the load
    sizes    16   of the tags, the key, the payload, and the payload when decompressed
    tags          each behind its length (4)
    key           its full encoding, since two keys may share a name by their digest
    payload       what the serializer made of the value
    checksum  8   xxh3-64 of all before

All numbers are big-endian. Whatever the bytes are, `unpack` returns what `pack` was given, or raises
Undecodable; nothing is allocated that is not covered by bytes that are there, except for decompression, whose
result is bounded first. The checksum is against accidents: who can write to L2 can also compute it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from functools import cache
from importlib import import_module
from math import inf
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._redact import shown
from fastcache.serializers import Json, Msgpack, Pickle, Raw, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

try:
    from xxhash import xxh3_64_digest, xxh3_64_intdigest
except ImportError as error:
    raise ImportError("an L2 needs xxhash: pip install 'fastcache-engine[tiered]'") from error

_HEADER = Struct(">BQBBIIdddQIIII")
_LENGTH = Struct(">I")
_FORMAT = 0xFC
_MISSING, _COMPRESSED = 1, 2
#: Bytes of the stamp, with which an envelope begins.
STAMP = 9
_CHECKSUM = 8
_HEAD = Struct(
    ">BBII"
)  # what follows the stamp: the same in all envelopes of a Codec, but for the flags
_REST = Struct(">dddQIIII")
_BUILT_IN = (Msgpack, Json, Pickle, Raw)
_BUILT_IN_NAMES = {kind.tag: kind.name for kind in _BUILT_IN}
_new = tuple.__new__
_COUNTER = re.compile(rb"-?[1-9][0-9]{0,19}|0")
#: From this size on parts of an envelope are looked at where they are instead of copied.
_LARGE = 32_768

_log = logging.getLogger("fastcache")

# Not the generator that programs seed to get the same numbers again: two fills must not have one stamp.
_random = Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)
_bits = _random.getrandbits


class Undecodable(ValueError):  # noqa: N818  # it says what the bytes are
    """These bytes are no value for this key: a miss.

    kind: "truncated", "checksum", "key" (of another key with the same name), "schema" (another version, of
    the data or of this format), "serializer" (another one wrote it), "too large", "compression", "value" (the
    serializer could not read it).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return self.text


class Unpacked(NamedTuple):
    """What an envelope says. ttl: seconds that it is fresh, None for ever; extra: that it is kept past them;
    cost: seconds the load took; stamp: the bytes that the envelope begins with."""

    value: Any
    missing: bool
    ttl: float | None
    extra: float
    tags: tuple[bytes, ...]
    sequence: int
    cost: float
    stamp: bytes


class Codec:
    """Packs values into envelopes and back. Safe from several threads at once.

    serializer: any object with `dumps` and `loads`. version: of the data, 0 to 2**32 - 1; values of another one
    are misses. compress_above: payloads of more bytes are compressed with zstd where that is installed; None:
    never. max_size: bytes; larger values are not packed, and not unpacked.
    """

    __slots__ = (
        "_compress_above",
        "_head",
        "_max_size",
        "_name",
        "_serializer",
        "_tag",
        "_version",
    )

    def __init__(
        self,
        serializer: Any,
        version: int = 1,
        compress_above: int | None = 16_384,
        max_size: int = 64 * 2**20,
    ) -> None:
        if isinstance(serializer, type):
            raise TypeError(
                f"serializer must be an instance, not the class {serializer.__qualname__}"
            )
        for method in ("dumps", "loads"):
            if not callable(getattr(serializer, method, None)):
                raise TypeError(
                    f"serializer must have dumps and loads, and {shown(serializer)} has no {method}"
                )
        if type(version) is not int or not 0 <= version < 2**32:
            raise ValueError(f"version must be an int from 0 to 2**32 - 1, not {version!r}")
        if compress_above is not None and (type(compress_above) is not int or compress_above < 0):
            raise ValueError(
                f"compress_above must be None or bytes, 0 or more, not {compress_above!r}"
            )
        if type(max_size) is not int or not 0 < max_size < 2**32:
            raise ValueError(f"max_size must be bytes, from 1 to 2**32 - 1, not {max_size!r}")
        name = getattr(serializer, "name", None) or type(serializer).__qualname__
        if type(name) is not str:
            raise TypeError(f"a serializer's name must be a str, not {name!r}")
        # The tags of our own are not for others, who may not write what these read.
        own = isinstance(serializer, _BUILT_IN)
        self._tag = serializer.tag if own else 0
        self._name = 0 if own else xxh3_64_intdigest(name.encode()) >> 32
        self._serializer = serializer
        self._version = version
        self._head = _HEAD.pack(0, self._tag, self._name, version)
        self._compress_above = inf if compress_above is None else compress_above
        self._max_size = max_size

    @property
    def serializer(self) -> Any:
        return self._serializer

    @property
    def version(self) -> int:
        return self._version

    def pack(
        self,
        key_encoded: bytes,
        value: Any,
        *,
        missing: bool = False,
        ttl: float | None,
        extra: float = 0.0,
        tags: Sequence[bytes] = (),
        sequence: int = 0,
        cost: float = 0.0,
    ) -> bytes:
        """The envelope of a value; with `missing`, of there being none.

        ttl, extra, cost: seconds, 0 or more; ttl None is for ever. sequence: 0 to 2**64 - 1. Unserializable: the
        value would not come back as it is, or is larger than max_size. ValueError: a number is none of these.
        """
        times = cost >= 0.0 and extra >= 0.0 and (ttl is None or ttl >= 0.0)
        if not (times and 0 <= sequence < 2**64):
            raise ValueError(
                f"no seconds, or no sequence: ttl={ttl!r}, extra={extra!r}, cost={cost!r}, "
                f"sequence={sequence!r}"
            )
        flags = 0
        if missing:
            flags = _MISSING
            payload = b""
        else:
            payload = self._dumps(value)
        size = len(payload)
        if size > self._max_size:
            raise Unserializable(
                f"a value of {size} bytes is larger than max_size, {self._max_size}", "too large"
            )
        if size > self._compress_above:
            smaller = _compress(payload)
            if smaller is not None:
                payload = smaller
                flags |= _COMPRESSED
        tail = b"".join([_LENGTH.pack(len(tag)) + tag for tag in tags]) if tags else b""
        header = _HEADER.pack(
            _FORMAT,
            _bits(64),
            flags,
            self._tag,
            self._name,
            self._version,
            inf if ttl is None else ttl,
            extra,
            cost,
            sequence,
            len(tail),
            len(key_encoded),
            len(payload),
            size,
        )
        body = b"".join((header, tail, key_encoded, payload))
        return body + xxh3_64_digest(body)

    def unpack(self, data: bytes, key_encoded: bytes) -> Unpacked:
        """What `pack` was given for this key. Undecodable, and nothing else, whatever the bytes are."""
        if type(data) is not bytes:
            data = bytes(data)
        end = len(data) - _CHECKSUM
        if end < _HEADER.size:
            raise _too_short(data)
        ttl, extra, cost, sequence, tail_size, key_size, payload_size, size = _REST.unpack_from(
            data, 19
        )
        key_at = _HEADER.size + tail_size
        payload_at = key_at + key_size
        larger = size if size > payload_size else payload_size
        if payload_at + payload_size != end or larger > self._max_size or data[0] != _FORMAT:
            raise self._misshapen(data, larger, payload_at + payload_size - end)
        view: Any = data if end < _LARGE else memoryview(data)
        if xxh3_64_digest(view[:end]) != data[end:]:
            raise Undecodable("checksum", "the checksum does not fit")
        head = data[STAMP:19]
        flags = 0 if head == self._head else self._flags_of(head)
        if key_size != len(key_encoded) or not data.startswith(key_encoded, key_at):
            raise Undecodable("key", "the value of another key with the same name")
        if not (ttl >= 0.0 and extra >= 0.0 and cost >= 0.0):
            raise Undecodable("value", f"the ttl is {ttl}, with {extra} more, and the cost {cost}")
        tags = _split(data[_HEADER.size : key_at]) if tail_size else ()
        lasts = None if ttl == inf else ttl
        if not flags and self._tag:
            try:
                value = self._serializer.loads(view[payload_at:end])
            except Exception:  # noqa: BLE001 - said below what it means
                value = self._loads(view[payload_at:end], None)
        elif flags & _MISSING:
            value = None
        else:
            value = self._loads(view[payload_at:end], size if flags & _COMPRESSED else None)
        return _new(
            Unpacked,
            (value, flags & _MISSING != 0, lasts, extra, tags, sequence, cost, data[:STAMP]),
        )

    @property
    def opening(self) -> tuple[bytes, Callable[[bytes], Any], int, Callable[[bytes], bytes]]:
        """What the engine's Opener needs, which opens envelopes that are not unusual without this class."""
        serializer = self._serializer
        loads = serializer.decoder if type(serializer) is Msgpack else serializer.loads
        return self._head, loads, min(self._max_size, _LARGE), xxh3_64_digest

    def _flags_of(self, head: bytes) -> int:
        """The flags, if all else fits."""
        flags, tag, name, version = _HEAD.unpack(head)
        if version != self._version:
            raise Undecodable("schema", f"version {version} was stored; {self._version} is wanted")
        if flags & ~(_MISSING | _COMPRESSED):
            raise Undecodable("schema", f"unknown flags {flags}: written by a newer version")
        if not flags & _MISSING and (tag, name) != (self._tag, self._name):
            by = _BUILT_IN_NAMES.get(tag, "another one")
            raise Undecodable(
                "serializer", f"was written by {by}; this cache has {self._serializer!r}"
            )
        return int(flags)

    def _misshapen(self, data: bytes, size: int, lacking: int) -> Undecodable:
        if data[0] != _FORMAT:
            return _foreign()
        if size > self._max_size:
            return Undecodable("too large", f"{size} bytes; max_size is {self._max_size}")
        if lacking > 0:
            return Undecodable("truncated", f"{lacking} bytes are lacking")
        return Undecodable("checksum", f"there are {-lacking} bytes more than there should be")

    def _loads(self, payload: bytes | memoryview, size: int | None) -> Any:
        """The value. size: of the payload when decompressed; None: it is not compressed."""
        if size is not None:
            payload = _decompress(payload, size)
        elif self._tag == 0:
            payload = bytes(payload)
        try:
            return self._serializer.loads(payload)
        except Exception as error:
            raise Undecodable(
                "value", f"{self._serializer!r} cannot read it: {type(error).__name__}: {error}"
            ) from error

    def _dumps(self, value: Any) -> bytes:
        try:
            payload = self._serializer.dumps(value)
        except Unserializable:
            raise
        except Exception as error:  # a user's own may raise whatever it does
            raise Unserializable(
                f"{self._serializer!r} cannot write it: {type(error).__name__}: {error}"
            ) from error
        if type(payload) is not bytes:
            raise Unserializable(
                f"{self._serializer!r}.dumps must return bytes, not {type(payload).__name__}"
            )
        return payload


def _foreign() -> Undecodable:
    return Undecodable("schema", "not written by fastcache, or by a version with another format")


def _too_short(data: bytes) -> Undecodable:
    if data[:1] != _FORMAT.to_bytes():
        return _foreign()
    return Undecodable("truncated", f"{len(data)} bytes are less than the header has")


def _split(tail: bytes) -> tuple[bytes, ...]:
    tags = []
    place = 0
    while place < len(tail):
        size = int.from_bytes(tail[place : place + 4], "big")
        place += 4 + size
        if place > len(tail):
            raise Undecodable("truncated", "a tag is cut off")
        tags.append(tail[place - size : place])
    return tuple(tags)


def is_counter(data: bytes) -> int | None:
    """The number, if these bytes are a counter: a plain decimal integer. None: they are something else."""
    return int(data) if len(data) <= 20 and _COUNTER.fullmatch(data) else None


# ---- compression ---------------------------------------------------------------------------------


class _Zstd(NamedTuple):
    """compress(data). decompress(data, size): at most `size` bytes are made, and fewer are an error too."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[Any, int], bytes]


@cache
def _zstd() -> _Zstd | None:
    """Python's own from 3.14 on, else the zstandard package; None: neither is there."""
    try:
        return _of_python(import_module("compression.zstd"))
    except ImportError:
        pass
    try:
        return _of_package()
    except ImportError:
        _log.info(
            "zstd is not installed, so values are not compressed: pip install 'fastcache-engine[zstd]'"
        )
        return None


def _of_python(zstd: Any) -> _Zstd:
    window = zstd.DecompressionParameter.window_log_max

    def decompress(data: Any, size: int) -> bytes:
        one = zstd.ZstdDecompressor(options={window: max(_WINDOW, size.bit_length())})
        made: bytes = one.decompress(data, max_length=size + 1)
        if not one.eof or one.unused_data:
            raise ValueError("not one whole frame")
        return made

    return _Zstd(zstd.compress, decompress)


def _of_package() -> _Zstd:
    import zstandard

    # A compressor is one thread's at a time, and dear to make.
    local = threading.local()

    def compress(data: bytes) -> bytes:
        if not hasattr(local, "compressor"):
            local.compressor = zstandard.ZstdCompressor()
        made: bytes = local.compressor.compress(data)
        return made

    def decompress(data: Any, size: int) -> bytes:
        # What the frame says of its size goes before max_output_size.
        if zstandard.frame_content_size(data) not in (size, -1):
            raise ValueError("the frame has another size")
        window = 1 << max(_WINDOW, size.bit_length())
        one = zstandard.ZstdDecompressor(max_window_size=window)
        return one.decompress(data, max_output_size=size, allow_extra_data=False)

    return _Zstd(compress, decompress)


#: Largest window that compressing at the default level asks for, as a power of two.
_WINDOW = 21


def _compress(payload: bytes) -> bytes | None:
    """The payload, compressed; None: that is not worth while, or zstd is not there."""
    zstd = _zstd()
    if zstd is None:
        return None
    made = zstd.compress(payload)
    return made if len(made) < len(payload) - len(payload) // 16 else None


def _decompress(payload: bytes | memoryview, size: int) -> bytes:
    zstd = _zstd()
    if zstd is None:
        raise Undecodable(
            "compression", "it is compressed with zstd: pip install 'fastcache-engine[zstd]'"
        )
    try:
        made = zstd.decompress(payload, size)
    except Exception as error:  # each package has its own, and MemoryError
        raise Undecodable("compression", f"cannot be decompressed: {error}") from error
    if len(made) != size:
        raise Undecodable("compression", f"{len(made)} bytes came out instead of {size}")
    return made
