"""Envelopes: what was packed comes back, and whatever else lies in L2 is a miss of a known kind."""

from __future__ import annotations

import importlib
import math
import os
import pickle
import sys
import tracemalloc
from array import array
from collections import Counter
from typing import Any

import pytest
from _support import run_python, shown
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcache import _envelope, _keys
from fastcache._core import Opener
from fastcache.serializers import Json, Msgpack, Pickle, Raw, Unserializable

pytest.importorskip("msgspec")
xxhash = pytest.importorskip("xxhash")

from fastcache._envelope import Codec, Undecodable, Unpacked, is_counter  # noqa: E402

KEY = _keys.encode("user:42")
KINDS = {
    "truncated", "checksum", "key", "schema", "serializer", "too large", "compression", "value",
}  # fmt: skip
SECRET = b"sixteen bytes or more"


def sealed(body: bytes | bytearray) -> bytes:
    """With the right checksum, as someone who means harm would write it."""
    return bytes(body) + xxhash.xxh3_64_digest(bytes(body))


def check_quick(codec: Codec, data: bytes, key: bytes = KEY) -> bool:
    """The engine's Opener says what `unpack` does, if it says anything, alone and among many; whether it does."""
    opener = Opener(*codec.opening)
    try:
        usual = codec.pack(KEY, "usual", ttl=5.0, sequence=2**63)
    except Unserializable:
        usual = codec.pack(KEY, b"usual", ttl=5.0, sequence=2**63)
    alone = opener.unpack(data, key)
    expected = None if alone is None else codec.unpack(data, key)
    assert alone == expected
    companion = opener.unpack(usual, KEY)  # None: this serializer reads nothing
    values: dict[str, Any] = {}
    lasts = []
    if companion is not None:
        values["usual"] = companion[0]
        lasts.append(5.0)
    extra = 0.0
    if expected is not None:
        extra = expected.extra
        values["asked"] = expected.value
        lasts.append(5.0)
    if extra > 1e6:
        return True  # of the times below nothing would be left
    dies = 15_000 + int(extra * 1000)
    forms: list[tuple[list[Any], float | None]] = [
        ([(usual, 5.0), (data, 5.0 + extra)], None),
        ([(15_000).to_bytes(8) + usual, dies.to_bytes(8) + data], 10.0),
    ]
    for found, time in forms:
        got, lives, others, lowest = opener.unpack_many(
            ["usual", "asked"], [KEY, key], found, time, None
        )
        assert (got, list(got)) == (values, list(values))
        assert array("d", lives).tolist() == pytest.approx(lasts, abs=0.01)
        assert [["usual", "asked"][i] for i in others] == [
            each for each in ("usual", "asked") if each not in values
        ]
        sequences = ([2**63] if companion else []) + ([expected.sequence] if expected else [])
        assert lowest == min(sequences, default=2**64 - 1)
    return alone is not None


def kind_of(codec: Codec, data: bytes, key: bytes = KEY) -> str:
    assert not check_quick(codec, data, key)
    with pytest.raises(Undecodable) as caught:
        codec.unpack(data, key)
    assert caught.value.kind in KINDS
    assert caught.value.text and str(caught.value) == caught.value.text
    return caught.value.kind


class Upper:
    """A serializer of the user's own, for lower-case words."""

    def dumps(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def loads(self, data: bytes) -> Any:
        assert type(data) is bytes
        return data.decode().lower()


# ---- there and back ------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    key=st.binary(max_size=400),
    value=st.one_of(
        st.none(), st.integers(), st.text(max_size=500), st.lists(st.integers(), max_size=50)
    ),
    missing=st.booleans(),
    ttl=st.one_of(st.none(), st.floats(0, 1e300), st.integers(0, 10**6)),
    extra=st.floats(0, 1e9),
    tags=st.lists(st.binary(max_size=300), max_size=5),
    sequence=st.integers(0, 2**64 - 1),
    cost=st.floats(0, 1e9),
    compress_above=st.sampled_from([None, 0, 16, 16_384]),
)
def test_what_was_packed_comes_back(
    key: bytes, value: Any, missing: bool, ttl: float | None, extra: float, tags: list[bytes], sequence: int,
    cost: float, compress_above: int | None,
) -> None:  # fmt: skip
    codec = Codec(Msgpack(), version=3, compress_above=compress_above)
    data = codec.pack(
        key, value, missing=missing, ttl=ttl, extra=extra, tags=tags, sequence=sequence, cost=cost
    )
    expected = Unpacked(
        None if missing else value, missing, ttl, extra, tuple(tags), sequence, cost, data[:9]
    )
    assert codec.unpack(data, key) == expected
    assert type(codec.unpack(data, key)) is Unpacked
    assert codec.unpack(bytearray(data), key) == expected  # type: ignore[arg-type]
    assert type(codec.unpack(memoryview(data), key).stamp) is bytes  # type: ignore[arg-type]
    assert is_counter(data) is None
    usual = not (missing or tags) and compress_above not in (0, 16)
    assert check_quick(codec, data, key) or not usual


@pytest.mark.parametrize(
    "serializer", [Msgpack(), Json(), Pickle(SECRET), Raw(), Upper()], ids=shown
)
@pytest.mark.parametrize("size", [0, 1, 300, 20_000, 100_000])
@pytest.mark.parametrize("compress_above", [None, 0])
def test_each_serializer(serializer: Any, size: int, compress_above: int | None) -> None:
    value: Any = b"x" * size if isinstance(serializer, Raw) else "x" * size
    codec = Codec(serializer, compress_above=compress_above)
    found = codec.unpack(codec.pack(KEY, value, ttl=1.5), KEY)
    assert (found.value, found.ttl, found.missing) == (value, 1.5, False)
    assert type(found.value) is type(value)


def test_the_defaults() -> None:
    found = Codec(Msgpack()).unpack(Codec(Msgpack()).pack(KEY, [1], ttl=None), KEY)
    assert found[:-1] == ([1], False, None, 0.0, (), 0, 0.0)
    assert Codec(Msgpack()).version == 1
    assert isinstance(Codec(Msgpack()).serializer, Msgpack)


def test_there_being_none_needs_no_serializer() -> None:
    data = Codec(Msgpack()).pack(KEY, object(), missing=True, ttl=5.0)
    found = Codec(Json()).unpack(data, KEY)
    assert (found.value, found.missing, found.ttl) == (None, True, 5.0)


# ---- stamps ----------------------------------------------------------------------------------------------


def test_each_fill_has_its_own_stamp() -> None:
    codec = Codec(Msgpack())
    packed = [codec.pack(KEY, 1, ttl=None) for _ in range(1000)]
    stamps = {codec.unpack(data, KEY).stamp for data in packed}
    assert len(stamps) == 1000 and {len(stamp) for stamp in stamps} == {9}
    assert all(
        data.startswith(stamp) for data in packed for stamp in [codec.unpack(data, KEY).stamp]
    )
    assert {stamp[:1] for stamp in stamps} == {b"\xfc"}


def test_stamps_do_not_follow_the_seed_of_the_program() -> None:
    import random

    stamps = set()
    state = random.getstate()
    try:
        for _ in range(5):
            random.seed(0)
            stamps.add(Codec(Raw()).pack(KEY, b"", ttl=None)[:9])
    finally:
        random.setstate(state)
    assert len(stamps) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_stamps_of_its_own() -> None:
    code = """
import os
from fastcache._envelope import Codec
from fastcache.serializers import Raw
codec = Codec(Raw())
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, codec.pack(b"n", b"", ttl=None)[:9])
    os._exit(0)
mine = codec.pack(b"n", b"", ttl=None)[:9]
os.wait()
print(os.read(read, 9) != mine)
"""
    assert run_python(code) == "True\n"


# ---- what is no value for this key -------------------------------------------------------------------------


def packed(codec: Codec, value: Any = "a value", **options: Any) -> bytes:
    return codec.pack(KEY, value, **{"ttl": 60.0, **options})


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        (Codec(Msgpack()), {}),
        (Codec(Msgpack()), {"tags": [b"stag", b""], "sequence": 7, "cost": 0.5}),
        (Codec(Msgpack(), compress_above=0), {"value": "x" * 300}),
        (Codec(Msgpack()), {"missing": True}),
        (Codec(Raw()), {"value": b"x" * 300}),
    ],
    ids=["plain", "tags", "compressed", "missing", "raw"],
)
def test_every_changed_bit_is_seen(codec: Codec, options: dict[str, Any]) -> None:
    data = bytearray(packed(codec, **options))
    kinds = set()
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        kinds.add(kind_of(codec, bytes(data)))
        data[place // 8] ^= 1 << place % 8
    assert codec.unpack(bytes(data), KEY)
    assert "checksum" in kinds


def test_every_cut_is_seen() -> None:
    codec = Codec(Msgpack())
    data = packed(codec, tags=[b"a"])
    kinds = Counter(kind_of(codec, data[:end]) for end in range(len(data)))
    assert kinds["truncated"] >= len(data) - 1  # of nothing at all it cannot be told
    assert kind_of(codec, data + b"\0") == "checksum"
    assert kind_of(codec, b"") == "schema"


def test_another_key_of_the_same_name() -> None:
    codec = Codec(Msgpack())
    data = packed(codec)
    for key in (_keys.encode("user:43"), KEY + b"x", KEY[:-1], b""):
        assert kind_of(codec, data, key) == "key"


def test_another_version() -> None:
    for stored, wanted in ((1, 2), (2, 1), (0, 2**32 - 1)):
        assert kind_of(Codec(Msgpack(), wanted), packed(Codec(Msgpack(), stored))) == "schema"
        missing = packed(Codec(Msgpack(), stored), missing=True)
        assert kind_of(Codec(Msgpack(), wanted), missing) == "schema"


@pytest.mark.parametrize(
    "data",
    [b"", b"5", b"-12", b"hello", b'{"a": 1}', pickle.dumps([1] * 100), b"\x80\x04." * 50, bytes(100),
     b"\xfd" + b"\0" * 100],
    ids=lambda data: ascii(data[:9]),
)  # fmt: skip
def test_what_others_wrote(data: bytes) -> None:
    assert kind_of(Codec(Msgpack()), data) == "schema"


def test_another_serializer() -> None:
    class Named(Upper):
        name = "named"

    codecs = [Codec(one) for one in (Msgpack(), Json(), Pickle(SECRET), Upper(), Named())]
    for writer in codecs:
        for reader in codecs:
            data = packed(writer)
            if reader is writer:
                assert reader.unpack(data, KEY).value == "a value"
            else:
                assert kind_of(reader, data) == "serializer"


def test_a_name_or_tag_of_ours_does_not_make_one_ours() -> None:
    class Fake(Upper):
        name = "pickle"
        tag = 3

    assert kind_of(Codec(Pickle(SECRET)), packed(Codec(Fake()))) == "serializer"


def test_the_error_says_what_wrote_it_and_shows_no_key() -> None:
    codec = Codec(Pickle(SECRET))
    for data in (packed(Codec(Msgpack())), packed(Codec(Pickle(b"another key of 16 bytes")))):
        with pytest.raises(Undecodable) as caught:
            codec.unpack(data, KEY)
        assert "sixteen" not in str(caught.value) + repr(caught.value)
    with pytest.raises(Undecodable, match=r"msgpack.*Pickle"):
        codec.unpack(packed(Codec(Msgpack())), KEY)


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("import sys; sys.modules['fastcache_went_off'] = sys",))


def test_a_pickle_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastcache_went_off", raising=False)
    bomb = pickle.dumps(Bomb())
    signed_by_another = Pickle(b"the attacker's own key").dumps(Bomb())
    readers = [Codec(one) for one in (Msgpack(), Json(), Pickle(SECRET), Raw(), Upper())]
    for payload in (bomb, bytes(32) + bomb, signed_by_another):
        for reader in readers:
            assert kind_of(reader, payload) in KINDS
            # in an envelope that is right in every other way
            template = bytearray(packed(Codec(Raw()), payload)[:-8])
            template[9:19] = reader._head
            if not isinstance(reader.serializer, Raw | Upper):
                assert kind_of(reader, sealed(template)) == "value"
    assert "fastcache_went_off" not in sys.modules


def test_a_serializer_that_raises_anything() -> None:
    class Broken:
        error: BaseException = RecursionError()

        def dumps(self, value: Any) -> bytes:
            return b"x"

        def loads(self, data: bytes) -> Any:
            raise self.error

    codec = Codec(Broken())
    data = packed(codec)
    for error in (RecursionError(), MemoryError(), KeyError("a"), ImportError("no"), Exception()):
        Broken.error = error
        assert kind_of(codec, data) == "value"
    Broken.error = KeyboardInterrupt()  # that one is not about the bytes
    with pytest.raises(KeyboardInterrupt):
        codec.unpack(data, KEY)


# ---- sizes -----------------------------------------------------------------------------------------------


def header(**fields: Any) -> bytes:
    values = {
        "format": 0xFC, "stamp": 1, "flags": 0, "tag": 4, "name": 0, "version": 1, "ttl": 1.0, "extra": 0.0,
        "cost": 0.0,
        "sequence": 0, "tags": 0, "key": len(KEY), "payload": 1, "size": 1, **fields,
    }  # fmt: skip
    return _envelope._HEADER.pack(*values.values())


def test_the_header_of_this_test_is_right() -> None:
    assert Codec(Raw()).unpack(sealed(header() + KEY + b"x"), KEY).value == b"x"


HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"payload": HUGE, "size": HUGE}, "too large"),
        ({"payload": 512 * 2**20, "size": 512 * 2**20}, "too large"),
        ({"payload": HUGE}, "too large"),
        ({"size": HUGE}, "too large"),
        ({"payload": 60 * 2**20}, "truncated"),
        ({"tags": HUGE}, "truncated"),
        ({"key": HUGE}, "truncated"),
        ({"key": HUGE, "tags": HUGE}, "truncated"),
        ({"payload": 0}, "checksum"),
        ({"ttl": math.nan}, "value"),
        ({"ttl": -1.0}, "value"),
        ({"cost": math.nan}, "value"),
        ({"extra": -1.0}, "value"),
        ({"flags": 4}, "schema"),
        ({"flags": 255}, "schema"),
        ({"flags": 2}, "compression"),
        ({"flags": 2, "size": 60 * 2**20}, "compression"),
        ({"tag": 9}, "serializer"),
        ({"name": 5}, "serializer"),
        ({"tags": 3, "key": len(KEY) - 3}, "key"),
    ],
)  # fmt: skip
def test_claims_that_are_not_so(fields: dict[str, Any], kind: str) -> None:
    tracemalloc.start()
    try:
        assert kind_of(Codec(Raw()), sealed(header(**fields) + KEY + b"x")) == kind
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_tags_that_are_cut_off() -> None:
    for tail in (b"\0\0\0\5ab", b"\xff\xff\xff\xff", b"\0\0"):
        data = sealed(header(tags=len(tail)) + tail + KEY + b"x")
        assert kind_of(Codec(Raw()), data) == "truncated"


def test_512_megabytes_are_not_looked_at() -> None:
    code = """
import resource, time
from fastcache._envelope import Codec, Undecodable, _HEADER
from fastcache.serializers import Msgpack, Raw
size = 512 * 2**20
for head in (b"", _HEADER.pack(0xFC, 1, 0, 1, 0, 1, 1.0, 0.0, 0.0, 0, 0, 1, size - _HEADER.size - 9, size)):
    data = head + bytes(size - len(head))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        Codec(Msgpack()).unpack(data, b"n")
    except Undecodable as error:
        print(error.kind, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    del data
"""
    if sys.platform == "win32":
        pytest.skip("resource is there on POSIX alone")
    first, second = (line.rsplit(" ", 1) for line in run_python(code).splitlines())
    assert (first[0], second[0]) == ("schema", "too large")
    assert max(int(first[1]), int(second[1])) < 16  # MiB more than the data


def test_what_is_larger_than_max_size_is_neither_packed_nor_unpacked() -> None:
    small, large = Codec(Raw(), max_size=100), Codec(Raw(), compress_above=None)
    assert small.unpack(packed(small, b"x" * 100), KEY).value == b"x" * 100
    with pytest.raises(Unserializable, match="101 bytes") as caught:
        packed(small, b"x" * 101)
    assert caught.value.kind == "too large"
    assert kind_of(small, packed(large, b"x" * 101)) == "too large"


@settings(max_examples=1000)
@given(
    extra=st.sampled_from([0.0, 7.5]),
    size=st.integers(0, 300),
    changes=st.lists(st.tuples(st.integers(0, 90), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(-3, 3),
    honest=st.booleans(),
)
def test_damage_of_any_kind(
    extra: float, size: int, changes: list[tuple[int, bytes]], cut: int, honest: bool
) -> None:
    """Bytes of the header, the key and the payload changed, pieces lost or added, with a checksum that fits or not."""
    codec = Codec(Msgpack())
    body = bytearray(packed(codec, "x" * size, extra=extra)[:-8])
    for place, new in changes:
        body[place : place + len(new)] = new
    data = bytes(body[: len(body) + min(cut, 0)] + bytes(max(cut, 0)))
    check_quick(codec, sealed(data) if honest else data + bytes(8))
    check_quick(codec, data)


def test_what_is_unusual_is_told_by_its_place() -> None:
    codec = Codec(Msgpack())
    opener = Opener(*codec.opening)

    def pack(key: bytes, **options: Any) -> bytes:
        return codec.pack(key, "v", **{"ttl": 60.0, "sequence": 9, **options})

    found: dict[str, Any] = {
        "usual": (pack(b"usual"), 60.0),
        "nothing": None,
        "tags": (pack(b"tags", tags=[b"t"]), 60.0),
        "missing": (pack(b"missing", missing=True), 60.0),
        "for ever": (pack(b"for ever", ttl=None, sequence=8), None),
        "past": (pack(b"past", extra=30.0), 30.0),
        "kept": (pack(b"kept", extra=30.0), 30.5),
        "gone": (pack(b"gone"), -1.0),
        "unclear": (pack(b"unclear"), math.nan),
        "counter": (b"12", None),
        "another": (pack(b"other"), 60.0),
        "no bytes": ("text", 60.0),
        "odd": (pack(b"odd"), 60.0, 1),
        "large": (codec.pack(b"large", "x" * 40_000, ttl=60.0), 60.0),
    }
    keys = list(found)
    got, lives, others, lowest = opener.unpack_many(
        keys, [key.encode() for key in keys], list(found.values()), None, 50.0
    )
    assert got == {"usual": "v", "for ever": "v", "kept": "v"}
    assert array("d", lives).tolist() == [50.0, 50.0, 0.5]
    assert [keys[i] for i in others] == [key for key in keys if key not in got]
    assert lowest == 8
    assert opener.unpack_many([], [], [], None, None) == ({}, b"", [], 2**64 - 1)


def test_values_that_say_when_they_die() -> None:
    codec = Codec(Msgpack())
    opener = Opener(*codec.opening)
    data = codec.pack(KEY, "v", ttl=60.0)
    dies = [0, 101_000, 100_000, 99_999, 2**55, 2**56, 2**64 - 1]
    values: list[Any] = [each.to_bytes(8) + data for each in dies]
    values += [None, b"", b"12", bytes(7), bytes(8), data, (data, 60.0), "text", 5]
    keys = list(range(len(values)))
    got, lives, others, _ = opener.unpack_many(keys, [KEY] * len(keys), values, 100.0, None)
    assert list(got) == [0, 1, 4]
    assert array("d", lives).tolist() == pytest.approx([math.inf, 1.0, 2**55 / 1000 - 100])
    assert others == [key for key in keys if key not in got]


def test_what_an_opener_refuses() -> None:
    head, loads, largest, digest = Codec(Msgpack()).opening
    data = packed(Codec(Msgpack()))
    with pytest.raises(ValueError, match="10 bytes"):
        Opener(head + b"x", loads, largest, digest)
    opener = Opener(head, loads, largest, digest)
    with pytest.raises(ValueError, match="as many"):
        opener.unpack_many([1, 2], [KEY], [None], None, None)
    for wrong in (lambda body: b"short", lambda body: 5, lambda body: digest(body + b"x")):
        assert Opener(head, loads, largest, wrong).unpack(data, KEY) is None  # type: ignore[arg-type]

    def interrupted(payload: bytes) -> Any:
        raise KeyboardInterrupt

    for alone in (True, False):
        with pytest.raises(KeyboardInterrupt):
            if alone:
                Opener(head, interrupted, largest, digest).unpack(data, KEY)
            else:
                Opener(head, interrupted, largest, digest).unpack_many(
                    [1], [KEY], [(data, 1.0)], None, None
                )


@settings(max_examples=1000)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes(data: bytes, key: bytes) -> None:
    codec = Codec(Msgpack())
    for attempt in (data, b"\xfc" + data, sealed(b"\xfc" + data)):
        check_quick(codec, attempt, key)
        try:
            codec.unpack(attempt, key)
        except Undecodable as error:
            assert error.kind in KINDS


@settings(max_examples=1000)
@given(
    st.integers(0, 255), st.integers(0, 5), st.integers(0, 2**32 - 1), st.floats(), st.floats(),
    st.lists(st.integers(0, 30), min_size=4, max_size=4), st.binary(max_size=60),
)  # fmt: skip
def test_any_envelope_with_the_right_checksum(
    flags: int, tag: int, version: int, ttl: float, cost: float, sizes: list[int], rest: bytes
) -> None:
    names = ("tags", "key", "payload", "size")
    fields = dict(zip(names, sizes, strict=True))
    for ours in (False, True):
        if ours:  # as it would have to be, but for the payload
            fields.update(tags=0, key=len(KEY), payload=len(rest))
            flags, tag, version, ttl, cost = flags & 2, 1, 1, 1.0, 0.0
            rest = KEY + rest
        head = header(flags=flags, tag=tag, version=version, ttl=ttl, cost=cost, **fields)
        check_quick(Codec(Msgpack()), sealed(head + rest))
        try:
            Codec(Msgpack()).unpack(sealed(head + rest), KEY)
        except Undecodable as error:
            assert error.kind in KINDS


# ---- compression -----------------------------------------------------------------------------------------

zstandard = pytest.importorskip("zstandard")


def backends() -> list[Any]:
    """Every way to zstd that is there: the package, and Python's own where it has one."""
    found = [_envelope._of_package()]
    for name in ("compression.zstd", "backports.zstd"):
        try:
            found.append(_envelope._of_python(importlib.import_module(name)))
        except ImportError:
            continue
    return found


@pytest.fixture(params=range(len(backends())))
def zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    backend = backends()[request.param]
    monkeypatch.setattr(_envelope, "_zstd", lambda: backend)
    return backend


@pytest.mark.parametrize("size", [1, 17, 1000, 200_000, 5_000_000])
def test_compressed_values(zstd: Any, size: int) -> None:
    codec = Codec(Raw(), compress_above=16)
    value = b"0123456789" * (size // 10) + b"x" * (size % 10)
    data = packed(codec, value)
    assert codec.unpack(data, KEY).value == value
    assert len(data) < 200 + size // 100 or size < 100
    # a cache that compresses nothing reads it all the same
    assert Codec(Raw(), compress_above=None).unpack(data, KEY).value == value


def test_all_ways_to_zstd_read_each_other() -> None:
    value = os.urandom(50_000) + bytes(50_000)
    for one in backends():
        for other in backends():
            assert other.decompress(one.compress(value), len(value)) == value


def test_what_does_not_get_smaller_is_left_as_it_is(zstd: Any) -> None:
    codec = Codec(Raw(), compress_above=0)
    value = os.urandom(20_000)
    data = packed(codec, value)
    assert value in data and codec.unpack(data, KEY).value == value


def test_only_what_is_above_the_size_is_compressed() -> None:
    codec = Codec(Raw())
    assert b"x" * 16_384 in packed(codec, b"x" * 16_384)
    assert len(packed(codec, b"x" * 16_385)) < 300
    assert b"x" * 10**6 in packed(Codec(Raw(), compress_above=None), b"x" * 10**6)


def compressed(payload: bytes, size: int) -> bytes:
    return sealed(header(flags=2, payload=len(payload), size=size) + KEY + payload)


def test_a_decompression_bomb(zstd: Any) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(500 * 2**20))
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100 * 2**20))
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = stream.compress(b"x" * 1000) + stream.flush()
    assert zstandard.get_frame_parameters(wide).window_size == 2**27
    codec = Codec(Raw(), max_size=2**20)
    for payload, size in ((bomb, 2**20), (unknown, 2**20), (bomb, 1), (unknown, 1), (wide, 1000)):
        tracemalloc.start()
        try:
            assert kind_of(codec, compressed(payload, size)) == "compression"
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()
    assert kind_of(codec, compressed(bomb, 500 * 2**20)) == "too large"


def test_compressed_claims_that_are_not_so(zstd: Any) -> None:
    codec = Codec(Raw())
    whole = zstandard.ZstdCompressor().compress(b"x" * 1000)
    assert codec.unpack(compressed(whole, 1000), KEY).value == b"x" * 1000
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    assert codec.unpack(compressed(unknown, 1000), KEY).value == b"x" * 1000
    for payload, size in (
        (whole, 999), (whole, 1001), (whole, 0), (unknown, 999), (unknown, 1001), (whole[:-1], 1000),
        (whole + b"x", 1000), (whole + whole, 1000), (whole + whole, 2000), (b"", 0), (b"x" * 30, 30),
        (whole[:10], 1000),
    ):  # fmt: skip
        assert kind_of(codec, compressed(payload, size)) == "compression", (len(payload), size)


def test_without_zstd_values_are_stored_as_they_are_and_compressed_ones_are_misses() -> None:
    stored = packed(Codec(Raw()), b"x" * 100_000)
    code = f"""
import sys, logging
sys.modules["zstandard"] = sys.modules["compression.zstd"] = None
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
from fastcache._envelope import Codec, Undecodable
from fastcache.serializers import Raw
codec = Codec(Raw())
try:
    codec.unpack(bytes.fromhex("{stored.hex()}"), bytes.fromhex("{KEY.hex()}"))
except Undecodable as error:
    print(error.kind, error)
for _ in range(3):
    data = codec.pack(b"n", b"x" * 100_000, ttl=None)
    assert codec.unpack(data, b"n").value == b"x" * 100_000
    assert len(data) > 100_000
"""
    lines = run_python(code).splitlines()
    assert len(lines) == 2  # said once
    assert all("fastcache-engine[zstd]" in line for line in lines)
    assert lines[1].startswith("compression ")


def test_compression_from_many_threads() -> None:
    from _support import run_threads

    codec = Codec(Raw(), compress_above=0)

    def work(number: int) -> bool:
        value = bytes([number]) * 50_000
        return all(codec.unpack(packed(codec, value), KEY).value == value for _ in range(50))

    assert run_threads([lambda n=n: work(n) for n in range(8)]) == [True] * 8


# ---- options and values that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"serializer": None}, TypeError),
        ({"serializer": "msgpack"}, TypeError),
        ({"serializer": Msgpack}, TypeError),
        ({"version": -1}, ValueError),
        ({"version": 2**32}, ValueError),
        ({"version": "1"}, ValueError),
        ({"version": True}, ValueError),
        ({"compress_above": -1}, ValueError),
        ({"compress_above": "1"}, ValueError),
        ({"max_size": 0}, ValueError),
        ({"max_size": 2**32}, ValueError),
        ({"max_size": None}, ValueError),
    ],
)  # fmt: skip
def test_options(options: dict[str, Any], error: type[Exception]) -> None:
    arguments = {"serializer": Msgpack(), **options}
    (name,) = options
    with pytest.raises(error, match=name):
        Codec(**arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": -1.0},
        {"ttl": math.nan},
        {"cost": -0.5},
        {"extra": -0.5},
        {"cost": math.nan},
        {"sequence": -1},
        {"sequence": 2**64},
    ],
    ids=str,
)
def test_numbers_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no seconds, or no sequence"):
        packed(Codec(Msgpack()), **options)


def test_values_that_are_refused() -> None:
    class Wrong(Upper):
        def dumps(self, value: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

    with pytest.raises(Unserializable):
        packed(Codec(Msgpack()), object())
    codec = Codec(Wrong())
    for value in ("a str", bytearray(b"a"), None):
        with pytest.raises(Unserializable, match="bytes"):
            packed(codec, value)
    with pytest.raises(Unserializable, match="KeyError") as caught:
        packed(codec, KeyError("its own"))
    assert isinstance(caught.value.__cause__, KeyError)


# ---- counters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, -1, 42, 2**63 - 1, -(2**63), 2**64 - 1])
def test_counters(number: int) -> None:
    assert is_counter(str(number).encode()) == number


@pytest.mark.parametrize(
    "data",
    [b"", b"-", b"+1", b"01", b"-0", b"1.0", b" 1", b"1 ", b"1\n", b"1_0", b"\xd9\xa1", b"1" * 21, b"9" * 10**6,
     b"0x1", b"a", b"--1", b"\xfc1"],
    ids=lambda data: ascii(data[:9]),
)  # fmt: skip
def test_what_is_no_counter(data: bytes) -> None:
    assert is_counter(data) is None


def test_without_xxhash_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["xxhash"] = None
try:
    import fastcache._envelope
except ImportError as error:
    print(error)
"""
    assert "fastcache-engine[tiered]" in run_python(code)
