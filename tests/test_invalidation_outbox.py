"""The outbox of a database: what was changed while nobody listened is invalidated in L1 and L2 all the same."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, until
from servers.postgres import Database, PostgresServer
from servers.redis import RedisServer

pytest.importorskip("psycopg")

from stress.support import child_environment, run_child

from fastcache import AsyncTieredCache, Cache, TieredCache
from fastcache.invalidation import Announcement, PostgresOutbox, make_triggers
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.stores.protocol import StoreError

COUNT = "SELECT count(*) FROM fastcache.outbox"


class Table:
    """Loads names of users, each over a session of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __call__(self, key: str) -> Any:
        rows = self.database.sql("SELECT name FROM users WHERE id = %s", int(key.partition(":")[2]))
        return rows[0][0] if rows else None


def announce(database: Database, **what: Any) -> None:
    what.setdefault("outbox", "fastcache.outbox")
    if "key" not in what:
        what.setdefault("template", "user:{id}")
    database.sql(make_triggers(Announcement(table=what.pop("table", "users"), **what)))


@pytest.fixture
def users(database: Database) -> Database:
    database.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text)")
    announce(database)
    return database


@pytest.fixture(params=["sqlite", "redis"])
def tier(
    request: pytest.FixtureRequest, users: Database, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Makes tiered caches over one L2, each as in a process of its own."""
    made: list[Any] = []
    namespace = f"shop-{os.getpid()}-{users.name}-{id(users):x}"

    def make(**options: Any) -> Any:
        if request.param == "sqlite":
            store: Any = SQLiteStore(tmp_path / "l2.db", timeout=5.0)
        else:
            store = RedisStore(request.getfixturevalue("redis_server").url, timeout=5.0)
        made.append(store)
        options = {"namespace": namespace, "loader": Table(users), "ttl": 3600, **options}
        made.append(TieredCache(Cache(1000), store, **options))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()


@pytest.fixture
def alone(users: Database) -> Iterator[TieredCache[str, Any]]:
    """A cache without an L2."""
    with TieredCache(Cache(100_000), loader=Table(users), ttl=3600) as cache:
        yield cache


@pytest.fixture
def outbox(users: Database) -> Iterator[Callable[..., PostgresOutbox]]:
    made: list[PostgresOutbox] = []

    def make(tiered: Any, **options: Any) -> PostgresOutbox:
        made.append(PostgresOutbox(users.url, tiered, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rows(database: Database) -> int:
    return int(database.sql(COUNT)[0][0])


# ---- what it does --------------------------------------------------------------------------------------


def test_a_writer_who_knows_nothing_of_us(users: Database, tier: Any, outbox: Any) -> None:
    """Both tiers of both caches, though but one of them has an outbox."""
    users.sql("INSERT INTO users VALUES (1, 'old'), (2, 'same'), (3, 'gone')")
    one, two = tier(), tier()
    drained = outbox(one).start()
    until(lambda: rows(users) == 0, "it is drained")
    for each in (one, two):
        assert [each.get(f"user:{n}") for n in (1, 2, 3)] == ["old", "same", "gone"]
    users.sql("UPDATE users SET name = 'new' WHERE id = 1; DELETE FROM users WHERE id = 3")
    for each in (one, two):
        until(lambda each=each: each.get("user:1") == "new", "the change is seen", 10)
        until(lambda each=each: each.get("user:3") is None, "the change is seen", 10)
        assert each.peek_l1("user:2") == "same" == each.peek_l2("user:2")
    until(lambda: rows(users) == 0, "it is drained")
    users.sql("UPDATE users SET id = id + 10 WHERE id = 2")
    for each in (one, two):
        until(lambda each=each: each.get("user:2") is None, "the change is seen", 10)
        until(lambda each=each: each.get("user:12") == "same", "the change is seen", 10)
    users.sql("TRUNCATE users")
    for each in (one, two):
        until(lambda each=each: each.get("user:1") is None, "the change is seen", 10)
    until(lambda: rows(users) == 0, "it is drained")
    stats = drained.stats()
    assert stats.rows == 5 and stats.every == 1 and stats.keys >= 7
    assert (stats.failures, stats.refused, stats.ignored, stats.error) == (0, 0, 0, None)
    assert stats.lag is not None and 0 <= stats.lag < 60


def test_what_was_changed_while_nobody_was_there(users: Database, tier: Any, outbox: Any) -> None:
    users.sql("INSERT INTO users VALUES (1, 'old')")
    one, two = tier(), tier()
    drained = outbox(one)
    assert drained.drain() == 1
    assert one.get("user:1") == two.get("user:1") == "old"
    users.sql("UPDATE users SET name = 'newer'")
    with users.connect() as session:
        session.execute("UPDATE users SET name = 'never'")
        session.rollback()  # announces nothing
    users.sql("UPDATE users SET name = 'newest'")
    assert rows(users) == 2
    assert one.get("user:1") == "old" == one.peek_l2("user:1")
    assert drained.drain() == 2
    assert rows(users) == 0 and drained.drain() == 0
    assert one.get("user:1") == "newest"
    until(lambda: two.get("user:1") == "newest", "it is told", 10)


def test_many_rows_in_one_statement(
    users: Database, alone: TieredCache[str, Any], outbox: Any
) -> None:
    keys = [f"user:{n}" for n in range(1, 10_001)]
    for key in keys:
        alone.set(key, "old")
    alone.set("another", "old")
    users.sql("INSERT INTO users SELECT n, 'x' FROM generate_series(1, 10000) AS n")
    assert rows(users) == 20
    drained = outbox(alone)
    assert drained.drain() == 20 and drained.stats().keys == 10_000
    assert not any(key in alone.l1 for key in keys)
    assert alone.peek_l1("another") == "old"
    users.sql("CREATE TABLE t (k text)")
    announce(users, table="t", key=("k",), template=None, most=2)
    alone.set("é" * 20_000, "old")
    users.sql("INSERT INTO t VALUES (repeat('é', 20000))")
    assert drained.drain() == 1
    assert alone.peek_l1("é" * 20_000) is None and alone.peek_l1("another") == "old"
    users.sql("INSERT INTO t VALUES ('a'), ('b'), ('c')")
    assert drained.drain() == 1 and drained.stats().every == 1
    assert alone.peek_l1("another") is None


def test_many_rows_of_the_outbox(
    users: Database, alone: TieredCache[str, Any], outbox: Any
) -> None:
    with users.connect() as session:
        for n in range(350):
            session.execute("INSERT INTO users VALUES (%s, 'x')", [n])
    drained = outbox(alone)
    assert drained.drain() == 350 and rows(users) == 0
    assert drained.stats().rounds == 4


def test_an_older_transaction_that_is_still_open(users: Database, tier: Any, outbox: Any) -> None:
    """What is younger is told at once, stays until the older one has ended, and is told once more: the older one may
    have loaded and stored what it saw. Its own changes come when it has committed, with smaller numbers."""
    users.sql("INSERT INTO users VALUES (1, 'old'), (2, 'old')")
    one = tier()
    drained = outbox(one)
    drained.drain()
    assert (one.get("user:1"), one.get("user:2")) == ("old", "old")
    with users.connect() as older:
        older.execute("UPDATE users SET name = 'new' WHERE id = 1")
        users.sql("UPDATE users SET name = 'new' WHERE id = 2")
        assert drained.drain() == 0
        assert rows(users) == 1  # it is held back
        assert one.get("user:2") == "new" and one.get("user:1") == "old"
        assert (drained.stats().early, drained.stats().rows) == (1, 1)
        assert drained.drain() == 0 and drained.stats().early == 1  # not again and again
        one.set("user:2", "what the older transaction saw")
        users.sql("INSERT INTO users VALUES (3, 'x')")
        older.commit()
    assert rows(users) == 3
    assert drained.drain() == 3 and rows(users) == 0
    assert (one.get("user:1"), one.get("user:2")) == ("new", "new")


def test_a_row_of_another_servers_dump_does_not_stay(
    users: Database, alone: TieredCache[str, Any], outbox: Any
) -> None:
    users.sql("INSERT INTO fastcache.outbox (xid, source, keys, told)"
              " VALUES ('99999999999', 'users', '[1]', false), ('99999999999', 'users', '[2]', true)")  # fmt: skip
    assert outbox(alone).drain() == 2


def test_one_at_a_time(users: Database, alone: TieredCache[str, Any], outbox: Any) -> None:
    """While one is at it, the others find nothing to do; when it is gone, they go on."""
    inside, go = threading.Event(), threading.Event()
    other = outbox(alone)

    def slow(key: str) -> str:
        inside.set()
        assert go.wait(60)
        return key

    first = outbox(alone, tables={"users": slow})
    users.sql("INSERT INTO users VALUES (1, 'x')")
    thread = threading.Thread(target=first.drain)
    thread.start()
    assert inside.wait(30)
    assert other.drain() == 0
    assert rows(users) == 1
    go.set()
    thread.join(30)
    assert rows(users) == 0 and first.stats().rows == 1 and other.stats().rows == 0


CHILD = """
import os, sys, time
from fastcache import Cache, TieredCache
from fastcache.invalidation import PostgresOutbox
cache = TieredCache(Cache(10))
def note(key):
    print(key, flush=True)
    if len(sys.argv) > 2:
        time.sleep(600)
    return key
outbox = PostgresOutbox(sys.argv[1], cache, tables={"users": note}, interval=0.2).start()
print("ready", flush=True)
sys.stdin.read()
outbox.close()
"""


def test_of_several_processes_another_takes_over(users: Database) -> None:
    """Killed in the middle of its round: what it had not finished is done by the next."""

    def child(*arguments: str) -> Any:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(CHILD), users.url, *arguments],
            env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    killed = child("slow")
    others: list[Any] = []
    try:
        assert killed.stdout.readline() == "ready\n"
        users.sql("INSERT INTO users VALUES (1, 'x')")
        assert killed.stdout.readline() == "user:1\n"
        others += [child(), child()]
        for other in others:
            assert other.stdout.readline() == "ready\n"
        for n in range(2, 50):
            users.sql("INSERT INTO users VALUES (%s, 'x')", n)
        assert rows(users) == 49
        killed.kill()
        until(lambda: rows(users) == 0, "another takes over")
        told: list[str] = []
        for other in others:
            other.stdin.close()
            told += other.stdout.read().split()
            assert other.wait(60) == 0
        # each once: never two at a time
        assert sorted(told) == sorted(f"user:{n}" for n in range(1, 50))
    finally:
        for each in (killed, *others):
            each.kill()
            each.wait()
            each.stdout.close()
            each.stdin.close()


# ---- when something fails ------------------------------------------------------------------------------


def test_l2_is_out(users: Database, own_redis: RedisServer, outbox: Any) -> None:
    """The rows stay until it has heard."""
    users.sql("INSERT INTO users VALUES (1, 'old')")
    store = RedisStore(own_redis.url, timeout=5.0)
    with TieredCache(Cache(10), store, namespace="shop", loader=Table(users), ttl=3600) as one:
        drained = outbox(one)
        drained.drain()
        assert one.get("user:1") == "old" == one.peek_l2("user:1")
        own_redis.kill()
        users.sql("UPDATE users SET name = 'new'")
        with pytest.raises(StoreError):
            drained.drain()
        assert rows(users) == 1
        drained.start()
        until(lambda: drained.stats().failures > 1, "it tries again")
        assert drained.stats().error is not None
        users.sql("TRUNCATE users; INSERT INTO users VALUES (1, 'newer')")
        own_redis.start()
        until(lambda: rows(users) == 0, "it is drained")
        until(lambda: drained.stats().error is None, "it is well again")
        assert one.get("user:1") == "newer"
    store.close()


def test_the_database_is_out(own_postgres: PostgresServer) -> None:
    users = Database(own_postgres, "postgres")
    users.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text)")
    announce(users)
    with TieredCache(Cache(10), loader=Table(users), ttl=3600) as cache:
        with PostgresOutbox(users.url, cache, interval=60.0) as drained:
            users.sql("INSERT INTO users VALUES (1, 'x')")
            until(lambda: rows(users) == 0, "it is drained")
            users.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                      " WHERE application_name = 'fastcache'")  # fmt: skip
            users.sql("INSERT INTO users VALUES (2, 'x')")
            until(lambda: rows(users) == 0, "it is drained")  # without a second NOTIFY
            own_postgres.kill()
            until(lambda: drained.stats().failures > 1, "it has noticed")
            own_postgres.start()
            users.sql("INSERT INTO users VALUES (3, 'x')")
            until(lambda: rows(users) == 0, "it is drained")
            assert drained.stats().error is None


def test_what_cannot_be_told_stands_for_any_row(
    users: Database, alone: TieredCache[str, Any], outbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(key: str) -> str:
        raise KeyError(key)

    drained = outbox(alone, tables={"users": fails, "others": None})
    alone.set("k", 1)
    users.sql("INSERT INTO users VALUES (1, 'x')")
    users.sql(
        "INSERT INTO fastcache.outbox (source, keys) VALUES ('others', 'nonsense'), ('strange', '[1]')"
    )
    assert drained.drain() == 3
    assert alone.peek_l1("k") is None
    stats = drained.stats()
    assert (stats.refused, stats.ignored, stats.every) == (2, 1, 2)
    assert "could not be told" in caplog.text and "'strange'" in caplog.text


def test_no_outbox(database: Database) -> None:
    with TieredCache(Cache(10)) as cache:
        outbox = PostgresOutbox(database.url, cache)
        with pytest.raises(StoreError, match="outbox"):
            outbox.drain()
        with outbox:
            until(lambda: outbox.stats().failures > 1, "it tries again")
        with pytest.raises(RuntimeError):
            outbox.start()
        with pytest.raises(RuntimeError):
            outbox.drain()


# ---- arguments -----------------------------------------------------------------------------------------


def test_tables_tags_and_several_caches(users: Database, outbox: Any) -> None:
    users.sql("CREATE TABLE orders (id int)")
    announce(users, table="orders", key=("id",), template=None)
    with TieredCache(Cache(10)) as people, TieredCache(Cache(10)) as orders:
        drained = outbox(
            {"users": people, "orders": orders},
            tables={"users": lambda key: [key, ("profile", key)], "orders": "order/{}"},
            tags={"users": "people"},
        )
        people.set("user:1", 1)
        people.set(("profile", "user:1"), 1)
        people.set("tagged", 1, tags=["people"])
        orders.set("user:1", 1)
        orders.set("order/7", 1)
        users.sql("INSERT INTO users VALUES (1, 'x')")
        assert drained.drain() == 1
        assert dict(people.l1.items()) == {"tagged": 1}
        users.sql("INSERT INTO orders VALUES (7)")
        assert drained.drain() == 1
        assert dict(orders.l1.items()) == {"user:1": 1}
        people.set("user:1", 1)
        users.sql("TRUNCATE users")
        assert drained.drain() == 1
        assert dict(people.l1.items()) == {"user:1": 1}
        users.sql("TRUNCATE orders")
        assert drained.drain() == 1
        assert len(orders.l1) == 0


@pytest.mark.parametrize("over", ["redis", "sqlite"])
def test_an_async_cache(
    users: Database, redis_server: RedisServer, tmp_path: Path, over: str
) -> None:
    users.sql("INSERT INTO users VALUES (1, 'old')")
    table = Table(users)

    async def load(key: str) -> Any:
        return await asyncio.to_thread(table, key)

    async def main() -> None:
        if over == "redis":
            store: Any = RedisStore(redis_server.url, timeout=5.0)
        else:
            store = SQLiteStore(tmp_path / "l2.db", timeout=5.0)
        namespace = f"async-{users.name}-{id(users):x}"
        async with AsyncTieredCache(
            Cache(10), store, namespace=namespace, loader=load, ttl=3600
        ) as cache:
            with PostgresOutbox(users.url, cache):
                assert await cache.get("user:1") == "old"
                await asyncio.to_thread(users.sql, "UPDATE users SET name = 'new'")
                for _ in range(1000):
                    if await cache.get("user:1") == "new":
                        break
                    await asyncio.sleep(0.01)
                assert await cache.get("user:1") == "new"
                await asyncio.to_thread(users.sql, "TRUNCATE users")
                for _ in range(1000):
                    if await cache.get("user:1") is None:
                        break
                    await asyncio.sleep(0.01)
                assert await cache.get("user:1") is None
        await store.aclose()

    asyncio.run(main())


def test_without_notify() -> None:
    """It looks from time to time; so transactions may be prepared, which NOTIFY forbids."""
    with PostgresServer(max_prepared_transactions="2") as server:
        users = Database(server, "postgres")
        users.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text)")
        announce(users)
        with users.connect(autocommit=True) as session:
            session.execute("BEGIN")
            session.execute("INSERT INTO users VALUES (1, 'x')")
            with pytest.raises(Exception, match="cannot PREPARE"):
                session.execute("PREPARE TRANSACTION 'two'")
        announce(users, notify=False)
        said: list[Any] = []
        cache: TieredCache[str, Any] = TieredCache(Cache(10))
        with users.connect(autocommit=True) as session:
            session.execute("LISTEN fastcache")
            session.add_notify_handler(said.append)
            with PostgresOutbox(users.url, cache, channel=None, interval=0.05) as drained:
                session.execute("BEGIN")
                session.execute("INSERT INTO users VALUES (2, 'x')")
                session.execute("PREPARE TRANSACTION 'two'")
                users.sql("INSERT INTO users VALUES (3, 'x')")
                # it is younger than the one that is prepared
                until(lambda: drained.stats().early == 1, "it is told")
                assert rows(users) == 1
                session.execute("COMMIT PREPARED 'two'")
                until(lambda: drained.stats().rows == 2, "it is drained")
            session.execute("SELECT 1")
        assert said == []
        cache.close()


def test_start_stop_start(users: Database, alone: TieredCache[str, Any], outbox: Any) -> None:
    drained = outbox(alone)
    assert not drained.running
    for n in range(3):
        assert drained.start() is drained and drained.start().running
        users.sql("INSERT INTO users VALUES (%s, 'x')", n)
        until(lambda: rows(users) == 0, "it is drained")
        drained.stop()
        assert not drained.running
        drained.stop()
    users.sql("INSERT INTO users VALUES (77, 'x')")
    assert rows(users) == 1
    drained.start()
    until(lambda: rows(users) == 0, "it is drained")
    drained.close()
    drained.close()
    assert users.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fastcache'"
    ) == [(0,)]


def test_a_forked_child_leaves_it_to_the_parent(users: Database) -> None:
    run_child(
        """
        import os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads when it forks
        import psycopg
        from fastcache import TieredCache
        from fastcache.invalidation import PostgresOutbox
        cache = TieredCache(Cache(10))
        outbox = PostgresOutbox(sys.argv[1], cache, interval=60).start()
        def count():
            return session.execute("SELECT count(*) FROM fastcache.outbox").fetchone()[0]
        session = psycopg.connect(sys.argv[1], autocommit=True)
        def change(n):
            session.execute("INSERT INTO users VALUES (%s, 'x')", [n])
            while count():
                time.sleep(0.01)
        change(1)
        child = os.fork()
        if child == 0:
            assert not outbox.running
            gc.collect()
            session = psycopg.connect(sys.argv[1], autocommit=True)
            change(2)  # the parent drains it
            outbox.start()
            assert outbox.running
            outbox.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert outbox.running
        change(3)
        assert outbox.stats().rows == 3 and outbox.stats().failures == 0, outbox.stats()
        outbox.close()
        session.close()
        """,
        users.url,
    )


def test_arguments(alone: TieredCache[str, Any]) -> None:
    url = f"postgresql://nobody:s3cret-word@127.0.0.1:{free_port()}/x"
    for options, error in (
        ({"tiered": None}, TypeError),
        ({"tiered": {"users": Cache(1)}}, TypeError),
        ({"outbox": ""}, ValueError),
        ({"outbox": 7}, TypeError),
        ({"channel": ""}, ValueError),
        ({"tables": "users"}, TypeError),
        ({"tags": ["users"]}, TypeError),
        ({"interval": 0}, ValueError),
        ({"interval": None}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"conninfo": "nonsense=1 password=s3cret-word"}, ValueError),
    ):
        given: dict[str, Any] = {"conninfo": url, "tiered": alone, **options}
        with pytest.raises(error, match=next(iter(options))) as caught:
            PostgresOutbox(**given)
        assert "s3cret-word" not in repr(caught.value)


def test_no_password_is_logged(
    alone: TieredCache[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://nobody:s3cret-word@127.0.0.1:{free_port()}/x"
    with PostgresOutbox(url, alone) as outbox:
        until(lambda: outbox.stats().failures > 1, "it tries again")
        assert "s3cret-word" not in f"{outbox!r} {outbox.where} {outbox.stats()}"
    assert "is not drained" in caplog.text and "s3cret-word" not in caplog.text
