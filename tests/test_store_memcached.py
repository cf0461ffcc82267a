"""MemcachedStore against real servers: the protocol of stores, and what only memcached does."""

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from _memcached import Opened, fresh_space, name_of, opened, target_of
from servers.memcached import MemcachedServer

from fastcache.stores import MemcachedStore, StoreError
from fastcache.stores.memcached import meta
from fastcache.stores.protocol import (
    BUCKETS,
    COUNTERS,
    EVENTS,
    TAGS,
    Counter,
    Fill,
    Target,
    bucket_of,
)
from fastcache.testing import FaultProxy, StoreConformance

__all__ = ["opened"]


@pytest.fixture
def store(memcached: MemcachedServer) -> Iterator[MemcachedStore]:
    store = MemcachedStore(memcached.address, timeout=5.0)
    yield store
    store.close()


class TestConformance(StoreConformance):
    short = 2.0
    keeps_holds = False

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with MemcachedServer() as server:
            cls.servers = [server]
            yield

    def make_store(self) -> MemcachedStore:
        servers = [server.address for server in self.servers]
        random.shuffle(servers)
        return MemcachedStore(servers, timeout=5.0)

    def wipe(self) -> None:
        for server in self.servers:
            server.flush()


class TestConformanceOfSeveral(TestConformance):
    """Three servers."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with (
            MemcachedServer() as one,
            MemcachedServer() as two,
            MemcachedServer(unix=True) as three,
        ):
            cls.servers = [one, two, three]
            yield


# ---- the protocol's bytes --------------------------------------------------------------------------


def replies_of(commands: list[meta.Command], data: bytes, cuts: list[int]) -> list[meta.Reply]:
    replies = meta.Replies(commands)
    ends = sorted({*cuts, len(data)} - {0})
    start, done = 0, False
    for end in ends:
        assert not done
        done = replies.feed(data[start:end])
        start = end
    assert done
    return replies.replies


def test_replies_come_in_any_pieces() -> None:
    commands = [
        meta.get(b"a"),
        meta.put(b"a", b"x", b"T1 c"),
        meta.get(b"b"),
        meta.STATS,
        meta.delete(b"c"),
        meta.VERSION,
        meta.add(b"d", b"v"),
    ]
    o = [command.opaque or b"" for command in commands]
    data = (
        b"VA 6 f1 t-1 O%b\r\nEN\r\nOK\r\nHD c12 O%b\r\nEN\r\nSTAT pid 1\r\nSTAT time 5\r\nEND\r\n"
        b"NF O%b\r\nVERSION 1.6.18\r\nVA 0 O%b\r\n\r\n" % (o[0], o[1], o[4], o[6])
    )
    whole = replies_of(commands, data, [])
    assert [reply.data for reply in whole] == [
        b"EN\r\nOK",
        b"",
        b"",
        b"STAT pid 1\nSTAT time 5\nEND",
        b"",
        b"VERSION 1.6.18",
        b"",
    ]
    assert whole[0].number(b"f") == 1 and whole[0].number(b"t") == -1
    assert whole[1].number(b"c") == 12
    assert replies_of(commands, data, list(range(len(data)))) == whole
    chance = random.Random(3)
    for _ in range(200):
        assert replies_of(commands, data, [chance.randrange(len(data)) for _ in range(5)]) == whole


# ---- what it is given ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "where"),
    [
        ("localhost", "localhost:11211"),
        ("127.0.0.1:4711", "127.0.0.1:4711"),
        ("memcached://a.example:1", "a.example:1"),
        (("::1", 11211), "[::1]:11211"),
        ("[::1]:2", "[::1]:2"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        (["a", ("b", 2), "/c"], "a:11211, b:2, unix:/c"),
        ("a, b:2", "a:11211, b:2"),
    ],
)
def test_servers(servers: Any, where: str) -> None:
    store = MemcachedStore(servers)
    assert store.where == where
    assert repr(store) == f"<MemcachedStore {where}>"
    store.close()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"servers": []}, ValueError, "servers must name at least one"),
        ({"servers": 7}, TypeError, "servers must be a str, .*, not int"),
        ({"servers": ""}, ValueError, "expected 'host:port'"),
        ({"servers": "a:b"}, ValueError, "expected 'host:port' .*, not 'a:b'"),
        ({"servers": "redis://a"}, ValueError, "expected 'host:port'"),
        ({"servers": "a:0"}, ValueError, "port must be between 1 and 65535, not 0"),
        ({"servers": [("a", "1")]}, TypeError, "expected a str or"),
        ({"servers": ["a", "a:11211"]}, ValueError, "names one of them twice"),
        ({"timeout": 0}, ValueError, "timeout must be positive and finite, not 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a number, not str"),
        ({"connect_timeout": float("inf")}, ValueError, "connect_timeout must be positive"),
        ({"item_size": -1}, ValueError, "item_size must be"),
        ({"backplane": object()}, TypeError, "backplane must have a store"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        MemcachedStore(**arguments)
    with MemcachedServerless() as store, pytest.raises(ValueError, match="namespace must be"):
        store.space("no spaces", b"")


class MemcachedServerless:
    """A store that connects to nothing."""

    def __enter__(self) -> MemcachedStore:
        self.store = MemcachedStore("127.0.0.1:1")
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


def test_servers_of_another_kind_or_too_old(memcached: MemcachedServer, opened: Opened) -> None:
    for reply, text in (
        (b"VERSION 1.5.22\r\n", "expected memcached 1.6.12 or newer, this is 1.5.22"),
        (b"-ERR unknown command 'version'\r\n", "expected memcached, but this answers as Redis"),
        (b"ERROR\r\n", "makes no sense"),
        (b"220 smtp.example ESMTP\r\n", "makes no sense"),
    ):
        with FaultProxy("127.0.0.1", memcached.port) as proxy:
            store = opened(proxy.address)

            proxy.inject(reply, b"version")
            with pytest.raises(StoreError, match=text) as caught:
                store.run(store.check())
            assert caught.value.kind in ("old", "protocol")
            proxy.heal()
            store.run(store.check())
            # a proxy with a version, which knows the older protocol only
            proxy.inject(b"CLIENT_ERROR unknown command\r\n", b"ms ")
            with pytest.raises(StoreError, match="unknown command"):
                store.run(store.check())
    with pytest.raises(StoreError) as caught:
        store.run(opened("127.0.0.1:1").check())
    assert caught.value.kind == "refused"


def test_a_redis_server_is_none(redis_server: Any, opened: Opened) -> None:
    store = opened(f"127.0.0.1:{redis_server.port}")
    with pytest.raises(StoreError, match="this answers as Redis does") as caught:
        store.run(store.check())
    assert caught.value.kind == "old"


# ---- what memcached has of its own -----------------------------------------------------------------


def test_names_of_any_length_and_form(store: MemcachedStore) -> None:
    space = store.space("n" * 64, os.urandom(8))
    digest = "ab" + os.urandom(15).hex()
    for name in (f"x:{digest}", f"{'x' * 300}:{digest}", f"a b\r\n\0:{digest}", f"é:{digest}"):
        target = Target(name, None)
        assert store.run(space.put([Fill(name, b"", name.encode(), 60)], [target])) == [True]
        found = store.run(space.read(name))
        assert found is not None and found.data == name.encode()
        store.run(space.invalidate([target]))
        assert store.run(space.read(name)) is None


def test_what_is_too_large_or_too_short_lived_is_not_stored(
    memcached: MemcachedServer, opened: Opened
) -> None:
    store = opened(memcached.address)
    tolerant = opened(memcached.address, item_size=64 << 20)
    space = fresh_space(store)
    name, big = name_of("a"), bytes(2_000_000)
    for l2, kind in ((store, "large"), (tolerant, "large")):
        space = fresh_space(l2)
        (lease,) = l2.run(space.lease([name], b"token", 10))
        assert l2.run(space.fill([Fill(name, lease.token, big, 60)])) == [
            None if l2 is store else False
        ]
        assert l2.rejected == {kind: 1}
        assert l2.run(space.put([Fill(name, b"", big, 60)], [target_of("a")])) == [False]
        assert l2.run(space.read(name)) is None
    space = fresh_space(store)
    for ttl in (0.0, 0.5, -1.0):
        store.run(space.invalidate([target_of("a")]))
        (lease,) = store.run(space.lease([name], b"token", 10))
        assert store.run(space.fill([Fill(name, lease.token, b"v", ttl)])) == [None]
        assert store.run(space.read(name)) is None
    assert store.rejected["short"] == 3


def test_a_full_server_that_evicts_nothing(opened: Opened) -> None:
    """Invalidations work, fills are refused, and leases may be."""
    with MemcachedServer("-M", "-m", "2") as server:
        store = opened(server.address)
        space = fresh_space(store)
        store.run(space.counters())
        (lease,) = store.run(space.lease([name_of("first")], b"token", 100))
        assert store.run(space.fill([Fill(name_of("first"), b"token", b"v", 100)])) == [True]
        stored = 0
        for n in range(400):
            data = os.urandom(100_000)
            (lease,) = store.run(space.lease([name_of(n)], b"token", 100))
            if not lease.held:
                stored += store.run(space.fill([Fill(name_of(n), lease.token, data, 100)]))[0]
        assert store.rejected["full"] > 100 and stored > 0
        before = store.run(space.counters())
        targets = [target_of("first"), *(target_of(n) for n in range(400))]
        store.run(space.invalidate(targets))
        assert all(f is None for f in store.run(space.read_many([t.name for t in targets])))
        after = store.run(space.counters())
        for target in targets:
            number = bucket_of(target.name)
            assert after[number] != before[number]


def test_a_month_and_more(store: MemcachedStore) -> None:
    """Which the server would take for dates long ago."""
    space = fresh_space(store)
    for ttl in (30 * 86400.0 - 1, 30 * 86400.0, 30 * 86400.0 + 1, 86400.0 * 400):
        name = name_of(ttl)
        store.run(space.lease([name], b"token", 100))
        assert store.run(space.fill([Fill(name, b"token", b"v", ttl)])) == [True]
        found = store.run(space.read(name))
        assert found is not None and found.left is not None and ttl - 30 < found.left <= ttl


def test_where_names_live_depends_on_nothing_but_the_servers() -> None:
    servers = [f"10.0.0.{n}:11211" for n in range(1, 6)]

    def places(servers: list[str]) -> list[str]:
        store = MemcachedStore(servers)
        found = [store.nodes[store.place(f"ns:{number}")].where for number in range(COUNTERS)]
        store.close()
        return found

    before = places(servers)
    assert places(servers[::-1]) == before
    assert min(before.count(server) for server in servers) > COUNTERS // 5 // 2
    # one less: its names go to the others, and no other's name moves
    after = places(servers[:-1])
    for was, now in zip(before, after, strict=True):
        assert was == now or was == servers[-1]
    # one more: names go to it only
    more = places([*servers, "10.0.0.9:11211"])
    for was, now in zip(before, more, strict=True):
        assert was == now or now == "10.0.0.9:11211"


def test_closed(memcached: MemcachedServer) -> None:
    store = MemcachedStore(memcached.address)
    space = fresh_space(store)
    store.run(space.read(name_of("a")))
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.run(space.read(name_of("a")))
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(store.arun(space.read(name_of("a"))))
    asyncio.run(store.aclose())


def test_lost_sequences_of_tags_go_on_later(own_memcached: MemcachedServer, opened: Opened) -> None:
    store = opened(own_memcached.address)
    space = fresh_space(store)
    last = 0
    for _ in range(5):
        for _ in range(3):
            sequence = store.run(space.invalidate_tags([b"tag"]))
            assert sequence > last
            last = sequence
        own_memcached.flush()
    assert store.run(space.tags([b"tag"]))[0] > last
    assert store.run(space.counters())[TAGS].sequence > last


def test_a_backplane_tells_and_counts(
    memcached: MemcachedServer, redis_server: Any, opened: Opened
) -> None:
    from fastcache._keys import encode, name_of_encoded
    from fastcache.backplane import RedisBackplane

    backplane = RedisBackplane(redis_server.url)
    store = opened(memcached.address, backplane=backplane)
    assert store.backplane() is backplane
    space = fresh_space(store)
    listener = backplane.listen(space.namespace)
    try:
        key = encode("a")
        target = Target(name_of_encoded(key), key)
        before = store.run(space.counters())
        assert store.run(space.put([Fill(target.name, b"", b"v", 60)], [target])) == [True]
        asyncio.run(store.arun(space.invalidate([target])))
        assert store.run(space.read(target.name)) is None
        sequence = store.run(space.invalidate_tags([b"tag"]))
        store.run(space.publish(b"event"))
        messages = listener.ping(10.0)
        number = bucket_of(target.name)
        assert [(m.number, m.body) for m in messages if m.number < BUCKETS] == [(number, key)] * 2
        assert [m.number for m in messages if m.number >= BUCKETS] == [TAGS, EVENTS]
        after = store.run(space.counters())
        assert after[number] == messages[1].counter and isinstance(after[number], Counter)
        assert after[number].sequence == before[number].sequence + 2
        assert store.run(space.tags([b"tag"])) == [sequence]
    finally:
        listener.close()
        backplane.close()
