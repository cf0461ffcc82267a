"""Versions are merged from what a process meets, reads and is told, so that hosts whose clocks differ agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _support import until
from stress.support import run_child
from writing.conftest import Source

from fastcache import MISSING, Cache, TieredCache
from fastcache._keys import encode, name
from fastcache.backplane import PostgresBackplane
from fastcache.stores import RedisStore
from fastcache.stores.protocol import Target
from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind, WriteThrough, ops
from fastcache.writing.ops import LAST_VERSION, Clock, heard, seconds_of, version_at

#: Run in a process whose clock is an hour ahead: a tiered cache that writes.
AHEAD = """
import sys, time
ahead = lambda real=time.time_ns: real() + 3600 * 10**9
time.time_ns = ahead
from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore
from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteBehind
place, redis, key = sys.argv[1:]
store = RedisStore(redis) if redis else None
t = TieredCache(Cache(9), store, namespace="hour", loader=SQLiteLoader(place, table="t"),
                writer=WriteBehind(SQLiteWriter(place, table="t"), delay=3600))
t.set(key, "ahead")
t.flush(30)
t.close()
if store: store.close()
"""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Any]:
    place = tmp_path / "app.db"
    loader, writer = SQLiteLoader(place, table="t"), SQLiteWriter(place, table="t")
    yield place, loader, writer
    loader.close()
    writer.close()


def test_what_was_heard_makes_all_clocks_later(monkeypatch: pytest.MonkeyPatch) -> None:
    early, now = Clock(), time.time()
    early.tick()
    ahead = version_at(now + 3600)
    heard(ahead)
    assert ahead < early.tick() < early.tick()
    assert ahead < Clock().tick()
    assert early.latest >= ahead
    heard(version_at(now + 60))  # older: nothing changes
    assert Clock().tick() > ahead
    for beyond in (version_at(now + 400 * 86_400), LAST_VERSION, 2**63 - 1):
        heard(beyond)  # of no host's clock, and never a reason to refuse what others write
        assert seconds_of(Clock().tick()) < now + 7200
    monkeypatch.setattr(ops, "_heard", 0)
    assert abs(seconds_of(Clock().tick()) - now) < 600


@pytest.mark.parametrize("behind", [True, False])
def test_a_row_that_was_read(source: Source, behind: bool) -> None:
    """Whoever has read what another wrote, and then writes, writes later."""
    writer, loader = source.writer(), source.loader()
    WriteThrough(writer).put("a", 1)
    source.sql('UPDATE {t} SET "version" = ?', version_at(time.time() + 3600))
    w: Any = WriteBehind(source.writer(), delay=3600) if behind else WriteThrough(source.writer())
    t: Any = TieredCache(Cache(9), loader=loader, writer=w)
    assert t.get("a") == 1
    t.set("a", 2)
    assert t.flush(30)
    assert source.rows() == {"a": "2"}
    if behind:
        assert w.stats().superseded == 0
    t.close()


def test_a_table_that_is_only_read_needs_no_versions(source: Source) -> None:
    source.sql('CREATE TABLE {t} ("key" varchar(9) PRIMARY KEY, "value" varchar(9))')
    loader = source.loader()
    assert loader("a") is MISSING
    source.sql("INSERT INTO {t} VALUES ('a', '1'), ('b', '2')")
    assert loader.load_many("abc") == {"a": 1, "b": 2}
    assert loader("b") == 2


def test_a_message_from_a_host_whose_clock_is_ahead(base: Any, redis_server: Any) -> None:
    place, loader, writer = base
    store = RedisStore(redis_server.url)
    w = WriteBehind(writer, delay=3600)
    t = TieredCache(Cache(9), store, namespace="hour", loader=loader, writer=w)
    assert t.get("other") is None  # it listens now
    run_child(AHEAD, place, redis_server.url, "a")
    until(lambda: w.version > version_at(time.time() + 1800))
    assert loader("a") == "ahead"
    ops._heard = 0  # what it has just read is not what is looked at here
    until(lambda: t.stats().received >= 2)
    run_child(AHEAD, place, redis_server.url, "b")
    until(lambda: ops._heard)
    t.set("a", "later")
    t.set("b", "later")
    assert t.flush(30)
    assert (loader("a"), loader("b"), w.stats().superseded) == ("later", "later", 0)
    t.close()
    store.close()


def test_without_reading_or_hearing_the_clock_decides(base: Any) -> None:
    """What is not promised: this host cannot know."""
    place, loader, writer = base
    run_child(AHEAD, place, "", "a")
    w = WriteBehind(writer, delay=3600)
    w.put("a", "an hour behind")
    assert w.flush(30)
    assert (loader("a"), w.stats().superseded) == ("ahead", 1)
    w.put("a", "now it knows")
    assert w.close(30)
    assert loader("a") == "now it knows"


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_messages_bear_the_version(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis_server" if server == "redis" else "postgres").url
    store = RedisStore(url) if server == "redis" else None
    plane: Any = PostgresBackplane(url) if store is None else store.backplane()
    told = plane.store if store is None else store
    space = told.space("bears", b"o" * 8)
    listener = plane.listen("bears")
    short = Target(name("k"), encode("k"), 2**60 + 5)
    long = Target(name("x" * 5000), None, 77)
    plain = Target(name("p"), encode("p"))
    for target in (short, long, plain):
        told.run(space.invalidate([target]))
    messages = listener.ping(10)
    assert [(m.body, m.version) for m in messages] == [
        (encode("k"), 2**60 + 5),
        (None, 77),
        (encode("p"), 0),
    ]
    listener.close()
    plane.close()
    if store is not None:
        store.close()
