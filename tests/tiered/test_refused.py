"""Loaders of the other face, keys without a name, values of another serializer, foreign bytes in L2."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from tiered.support import Face, Source, Tiers, until

from fastcache import Cache
from fastcache.serializers import Json, Msgpack, Pickle, Raw


class Plain:
    def load(self, key: Any) -> Any:
        return key

    def load_many(self, keys: Any) -> Any:
        return {key: key for key in keys}


class Awaited:
    async def load(self, key: Any) -> Any:
        return key

    async def load_many(self, keys: Any) -> Any:
        return {key: key for key in keys}


class Mixed(Plain):
    async def load_many(self, keys: Any) -> Any:
        return {}


class MixedAwaited(Awaited):
    def load_many(self, keys: Any) -> Any:
        return {}


def test_a_loader_of_the_other_face(face: Face) -> None:
    own, others = (Awaited(), Plain()) if face.asynchronous else (Plain(), Awaited())
    for loader in (others, others.load):
        with pytest.raises(TypeError, match="async"):
            face.kind(Cache(5), loader=loader)
    mixed = MixedAwaited() if face.asynchronous else Mixed()
    with pytest.raises(TypeError, match="load_many"):
        face.kind(Cache(5), loader=mixed)
    t = face.kind(Cache(5), loader=own)
    assert face.run(t.get("a")) == "a"
    assert face.run(t.get_many("bc")) == {"b": "b", "c": "c"}
    face.run(t.close())


def test_an_async_factory_on_the_sync_face() -> None:
    from fastcache import TieredCache

    async def factory() -> int:
        return 1

    async def load(key: str) -> int:
        return 1

    with TieredCache(Cache(5)) as t, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="async"):
            t.get_or_set("a", factory)
        with pytest.raises(TypeError, match="coroutine"):
            t.get_or_set("a", lambda: factory())
        assert t.get("a") is None
        assert t.get_or_set("a", lambda: 2) == 2
    with TieredCache(Cache(5), loader=lambda key: load(key)) as t:
        with pytest.raises(TypeError, match="coroutine"):
            t.get("a")


def test_a_plain_factory_on_the_async_face() -> None:
    import asyncio

    from fastcache import AsyncTieredCache

    async def main() -> None:
        async with AsyncTieredCache(Cache(5)) as t:
            with pytest.raises(TypeError, match=r"factory must be async.* returned 1"):
                await t.get_or_set("a", lambda: 1)
            assert await t.get("a") is None

    asyncio.run(main())


class Custom:
    """Hashable, and of no name in another process."""


KEYS = [object(), Custom(), lambda: 1, (1, object()), frozenset({Custom()}), 10**5000, float("nan")]


@pytest.mark.parametrize("key", KEYS[:5], ids=lambda key: type(key).__name__)
def test_keys_without_a_name(tiers: Tiers, key: Any) -> None:
    source = Source()
    t = tiers(source)
    t.set("kept", 1)
    for call in (
        lambda: t.get(key),
        lambda: t.get(key, 5),
        lambda: t.get_many([key]),
        lambda: t.get_or_set(key, lambda: 1),
        lambda: t.set(key, 1),
        lambda: t.set_many({"kept": 2, key: 1}),
        lambda: t.add(key, 1),
        lambda: t.touch(key, 5),
        lambda: t.incr(key),
        lambda: t.invalidate(key),
        lambda: t.delete(key),
        lambda: t.invalidate_many(["kept", key]),
        lambda: t.delete_many(["kept", key]),
        lambda: t.cache.updating("kept", key),
        lambda: t.warm([key]),
    ):
        with pytest.raises(TypeError, match="key"):
            call()
    assert source.loads == []
    assert t.get("kept") == 1
    assert tiers().get("kept") == 1


@pytest.mark.parametrize("key", [[], {}, set(), bytearray(b"x"), ([],)], ids=repr)
def test_unhashable_keys(filed: Tiers, key: Any) -> None:
    t = filed(Source())
    for call in (
        lambda: t.get(key),
        lambda: t.get_many([key]),
        lambda: t.set(key, 1),
        lambda: t.invalidate(key),
        lambda: t.incr(key),
        lambda: t.add(key, 1),
    ):
        with pytest.raises(TypeError):
            call()


def test_an_instance_of_a_subclass_is_no_key(filed: Tiers) -> None:
    """It may have an equality of its own."""

    class Name(str):
        __slots__ = ()

    t = filed()
    t.set("a", 1)
    try:
        assert t.get(Name("a")) == 1
    except TypeError as error:
        assert "Name" in str(error)


SERIALIZERS: dict[str, Any] = {
    "msgpack": Msgpack,
    "json": Json,
    "pickle": lambda: Pickle(b"k" * 32),
    "raw": Raw,
    "other pickle": lambda: Pickle(b"z" * 32),
}


@pytest.mark.parametrize("write", SERIALIZERS)
@pytest.mark.parametrize("read", SERIALIZERS)
def test_another_serializer_is_a_counted_miss(
    filed: Tiers, write: str, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = b"bytes" if "raw" in (write, read) and "json" not in (write, read) else "text"
    if write == "raw":
        value = b"bytes"
    writer, reader = (
        filed(serializer=SERIALIZERS[write]()),
        filed(Source(a="loaded"), serializer=SERIALIZERS[read]()),
    )
    writer.set("a", value)
    got = reader.get("a")
    if write == read:
        assert got == value
        assert reader.stats().l2.undecodable == {}
    else:
        assert got == "loaded"
        assert sum(reader.stats().l2.undecodable.values()) == 1
        assert reader.stats().l2.hits == 0
        assert reader.stats().state == "healthy"
        assert f"a value in {reader.l2.where} cannot be read" in caplog.text


@pytest.mark.parametrize(
    "junk",
    [b"", b"x", b"\xfc", b"\xfc" + b"\0" * 60, b"1.5", b"-", b"+1", b"\x80\x04.", b"\xff" * 5000],
)
def test_foreign_bytes_in_redis(networked: Tiers, junk: bytes, redis_server: Any) -> None:
    t = networked(Source(a="loaded"), ttl=60)
    t.set("a", 1)
    with redis_server.client() as client:
        found = client.scan_iter(f"*{networked.namespace}*")
        names = [name for name in found if re.fullmatch(rb".*[}]:a:[0-9a-f]{32}", name)]
        assert names
        for name in names:
            client.set(name, client.get(name)[:8] + junk if junk != b"" else b"")
    other = networked(Source(a="loaded"), ttl=60)
    assert other.get("a") == "loaded"
    assert other.get("a") == "loaded"
    # and what was loaded has taken its place
    third = networked(Source(a="again"), ttl=60)
    assert third.get("a") == "loaded"


def test_a_value_that_its_serializer_chokes_on(filed: Tiers) -> None:
    class Choking:
        name = "choking"

        def dumps(self, value: Any) -> bytes:
            if value == "bad out":
                raise RuntimeError("no")
            return str(value).encode()

        def loads(self, data: bytes) -> Any:
            if data == b"bad in":
                raise RuntimeError("no")
            return data.decode()

    source = Source(a="bad in", b="bad out", c="good")
    t, other = filed(source, serializer=Choking()), filed(source, serializer=Choking())
    assert t.get_many("ac") == {"a": "bad in", "c": "good"}
    assert other.get("c") == "good"
    assert other.get("a") == "bad in"
    assert other.stats().l2.undecodable == {"value": 1}
    assert t.get("b") == "bad out"
    assert t.get("b") == "bad out"
    until(lambda: other.get("b") == "bad out")
