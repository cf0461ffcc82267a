"""PostgreSQL as a backplane: what triggers announce is heard, by whomever it was changed, and what caches tell each
other; and what is not heard is known not to have been."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import free_port, until
from servers.postgres import Database, PostgresServer

pytest.importorskip("psycopg")

from stress.support import run_child

from fastcache import AsyncTieredCache, Cache, TieredCache
from fastcache.__main__ import main
from fastcache._keys import decode, encode, name, name_of_encoded
from fastcache.backplane import PostgresBackplane
from fastcache.backplane._postgres_session import Address, Session
from fastcache.backplane.postgres import listening
from fastcache.invalidation import Announcement, drop_triggers, make_triggers
from fastcache.stores.protocol import BUCKETS, EVENTS, TAGS, StoreError, Target, bucket_of

ORIGIN = b"8 bytes."


class Ear:
    """A listener, and the keys that it hears of."""

    def __init__(self, backplane: PostgresBackplane, namespace: str = "shop") -> None:
        self.listener = backplane.listen(namespace)

    def messages(self) -> list[Any]:
        return self.listener.ping(10.0)

    def keys(self) -> Any:
        """In order; "every" where any row may have changed."""
        messages = self.messages()
        assert {message.counter for message in messages} <= {None}
        assert {message.origin for message in messages} <= {b""}
        if [m.number for m in messages if m.body is None] == list(range(BUCKETS)):
            return "every"
        for message in messages:
            assert message.number == bucket_of(name_of_encoded(message.body))
        return sorted((decode(message.body) for message in messages), key=str)


@pytest.fixture
def ear(database: Database) -> Iterator[Callable[..., Ear]]:
    made: list[Any] = []

    def make(**options: Any) -> Ear:
        backplane = PostgresBackplane(database.url, **options)
        made.append(Ear(backplane))
        return made[-1]

    yield make
    for each in made:
        each.listener.close()


def announce(database: Database, table: str = "users", **what: Any) -> None:
    if "key" not in what:
        what.setdefault("template", "user:{id}")
    database.sql(make_triggers(Announcement(table=table, **what)))


@pytest.fixture
def users(database: Database) -> Database:
    database.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text)")
    announce(database)
    return database


# ---- what is announced ---------------------------------------------------------------------------------


def test_each_change_names_its_keys(users: Database, ear: Any) -> None:
    heard = ear()
    users.sql("INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert heard.keys() == ["user:1", "user:2", "user:3"]
    users.sql("UPDATE users SET name = 'x' WHERE id = 2")
    assert heard.keys() == ["user:2"]
    users.sql("DELETE FROM users WHERE id > 2")
    assert heard.keys() == ["user:3"]
    users.sql("UPDATE users SET name = 'x' WHERE id = 77")
    users.sql("DELETE FROM users WHERE id = 77")
    assert heard.keys() == []
    users.sql("TRUNCATE users")
    assert heard.keys() == "every"


def test_a_changed_key_names_the_old_one_too(users: Database, ear: Any) -> None:
    users.sql("INSERT INTO users VALUES (1, 'a'), (2, 'b')")
    heard = ear()
    users.sql("UPDATE users SET id = id + 10")
    assert heard.keys() == ["user:1", "user:11", "user:12", "user:2"]


def test_other_ways_to_write(users: Database, ear: Any) -> None:
    users.sql("INSERT INTO users VALUES (1, 'a')")
    users.sql(
        "CREATE TABLE orders (id bigint REFERENCES users ON DELETE CASCADE, n int PRIMARY KEY)"
    )
    announce(users, "orders", template=None, key=("n",))
    users.sql("INSERT INTO orders VALUES (1, 77), (1, 78)")
    heard = ear()
    users.sql(
        "INSERT INTO users VALUES (1, 'b'), (2, 'b') ON CONFLICT (id) DO UPDATE SET name = 'x'"
    )
    assert heard.keys() == ["user:1", "user:2"]
    users.sql("MERGE INTO users USING (VALUES (1), (3)) AS n (id) ON users.id = n.id"
              " WHEN MATCHED THEN UPDATE SET name = 'm' WHEN NOT MATCHED THEN INSERT VALUES (n.id, 'm')")  # fmt: skip
    assert heard.keys() == ["user:1", "user:3"]
    with users.connect() as session, session.cursor().copy("COPY users FROM STDIN") as copy:
        copy.write("8\tx\n9\ty\n")
    assert heard.keys() == ["user:8", "user:9"]
    users.sql("DELETE FROM users WHERE id = 1")
    assert heard.keys() == [77, 78, "user:1"]


def test_what_is_rolled_back_announces_nothing(users: Database, ear: Any) -> None:
    heard = ear()
    with users.connect() as session:
        session.execute("INSERT INTO users VALUES (1, 'a')")
        session.execute("TRUNCATE users")
        session.rollback()
        session.execute("INSERT INTO users VALUES (2, 'a')")
        session.execute("SAVEPOINT here")
        session.execute("INSERT INTO users VALUES (3, 'a')")
        session.execute("ROLLBACK TO here")
        assert heard.keys() == []  # not before it is committed
        session.commit()
        assert heard.keys() == ["user:2"]


def test_many_rows_in_one_statement(users: Database, ear: Any) -> None:
    payloads: list[str] = []
    with users.connect(autocommit=True) as session:
        session.execute("LISTEN fastcache")
        session.add_notify_handler(lambda notify: payloads.append(notify.payload))
        heard = ear()
        users.sql("INSERT INTO users SELECT n, 'x' FROM generate_series(1, 10000) AS n")
        assert heard.keys() == sorted(f"user:{n}" for n in range(1, 10001))
        session.execute("SELECT 1")
        payloads = [payload for payload in payloads if "nonce" not in payload]
        assert max(len(payload) for payload in payloads) < 8000
        assert sum(map(len, payloads)) / len(payloads) > 3000  # as few as hold the keys
        users.sql("UPDATE users SET name = 'y'")
        assert heard.keys() == sorted(f"user:{n}" for n in range(1, 10001))
        users.sql("INSERT INTO users SELECT n, 'x' FROM generate_series(10001, 20001) AS n")
        assert heard.keys() == "every"


def test_the_bound_counts_rows_whose_key_is_null_too(database: Database, ear: Any) -> None:
    database.sql("CREATE TABLE t (n int)")
    announce(database, "t", key=("n",), most=3)
    heard = ear()
    database.sql("INSERT INTO t VALUES (NULL), (1), (2)")
    assert heard.keys() == [1, 2]
    database.sql("INSERT INTO t VALUES (NULL), (1), (2), (3)")
    assert heard.keys() == "every"
    database.sql("UPDATE t SET n = n + 1 WHERE n = 3")
    assert heard.keys() == [3, 4]
    database.sql("INSERT INTO t VALUES (NULL)")
    assert heard.keys() == []


@pytest.mark.parametrize("size", [3000, 3497, 3498, 3499, 7000, 100_000])
def test_long_keys(database: Database, ear: Any, size: int) -> None:
    database.sql("CREATE TABLE t (k text)")
    announce(database, "t", key=("k",))
    heard = ear()
    keys = ["é" * (size // 2 - 1), *(letter * size for letter in "abc")]
    database.sql("INSERT INTO t SELECT unnest(%s::text[])", keys)
    assert heard.keys() == (sorted(keys) if size <= 3498 else "every")


def test_kinds_of_keys(database: Database, ear: Any) -> None:
    some = uuid.uuid4()
    database.sql("CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN code AS text")
    database.sql(
        "CREATE TABLE t (i int, b bigint, s smallint, t text, v varchar(9), u uuid, m mood, c code)"
    )
    for columns, expected in (
        (("i",), 7),
        (("b",), 2**62),
        (("s",), -3),
        (("t",), "quoted \"\\' ü\n\t% {x}"),
        (("v",), "v"),
        (("u",), some),
        (("m",), "sad"),
        (("c",), "c"),
        (("i", "u", "t"), (7, some, "quoted \"\\' ü\n\t% {x}")),
    ):
        announce(database, "t", key=columns)
        heard = ear()
        database.sql(
            "INSERT INTO t VALUES (7, %s, -3, %s, 'v', %s, 'sad', 'c')",
            2**62, 'quoted "\\\' ü\n\t% {x}', some,
        )  # fmt: skip
        assert heard.keys() == [expected]
        assert type(decode(encode(heard.keys() or expected))) is type(expected)
    announce(database, "t", template="{{{i}}}-{u}:{m}'\\{t}%s")
    heard = ear()
    database.sql("INSERT INTO t (i, u, m, t) VALUES (1, %s, 'glad', 'x')", some)
    assert heard.keys() == [f"{{1}}-{some}:glad'\\x%s"]
    database.sql("INSERT INTO t (i, u, m) VALUES (1, %s, 'glad')", some)  # t is NULL
    assert heard.keys() == []


@pytest.mark.parametrize(
    "word", ['od"d', "Two Words", "semi;--", "$fc0$", "new\nline", "ö%s{}", "a'b\\c"]
)
def test_names_are_quoted(database: Database, ear: Any, word: str) -> None:
    quoted = '"' + word.replace('"', '""') + '"'
    with database.connect() as session:
        session.execute(f"CREATE SCHEMA {quoted}".encode())
        session.execute(f"CREATE TABLE {quoted}.{quoted} ({quoted} text)".encode())
        sql = make_triggers(
            Announcement(table=f"{word}.{word}", key=(word,), channel=word, schema=f"x {word}")
        )
        session.execute(sql.encode())
    heard = ear(channel=word, tables=[f"{word}.{word}"])
    database.sql(f"INSERT INTO {quoted}.{quoted} VALUES ('k')")
    assert heard.keys() == ["k"]
    what = Announcement(table=f"{word}.{word}", key=(word,), channel=word, schema=f"x {word}")
    with database.connect() as session:
        session.execute(drop_triggers(what).encode())
    database.sql(f"INSERT INTO {quoted}.{quoted} VALUES ('k')")
    assert heard.keys() == []
    assert database.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]


def test_any_role_and_any_settings(users: Database, ear: Any) -> None:
    """Whoever writes needs no rights of ours, and cannot slip functions of its own under the trigger's."""
    users.sql("DROP ROLE IF EXISTS writer; CREATE ROLE writer; GRANT INSERT ON users TO writer;"
              " CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO writer")  # fmt: skip
    heard = ear()
    with users.connect() as session:
        session.execute("SET ROLE writer; SET search_path = evil, pg_catalog;"
                        " SET standard_conforming_strings = off;"
                        " CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql"
                        " AS 'SELECT 1/0'")  # fmt: skip
        session.execute("INSERT INTO public.users VALUES (1, 'x')")
    assert heard.keys() == ["user:1"]
    users.sql("DROP OWNED BY writer; DROP ROLE writer")


def test_partitions(database: Database, ear: Any) -> None:
    database.sql("CREATE TABLE t (id int, at int) PARTITION BY RANGE (at);"
                 " CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
                 " CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)")  # fmt: skip
    announce(database, "t", key=("id", "at"))
    heard = ear()
    database.sql("INSERT INTO t VALUES (1, 1), (2, 12)")
    assert heard.keys() == [(1, 1), (2, 12)]
    database.sql("UPDATE t SET at = 15 WHERE id = 1")  # it moves
    assert heard.keys() == [(1, 1), (1, 15)]


def test_installing_again_replaces(users: Database, ear: Any) -> None:
    announce(users, key=("id",), template=None)
    heard = ear()
    users.sql("INSERT INTO users VALUES (5, 'x')")
    assert heard.keys() == [5]
    announce(users, key=("id",), template=None, channel="other")
    other = ear(channel="other")
    users.sql("INSERT INTO users VALUES (6, 'x')")
    assert heard.keys() == other.keys() == [6]


# ---- who hears what ------------------------------------------------------------------------------------


def test_tables_and_rules(users: Database, ear: Any) -> None:
    users.sql("CREATE TABLE pairs (a int, b text)")
    announce(users, "pairs", key=("a", "b"))
    ears = {
        "all": ear(),
        "named": ear(tables=["pairs"]),
        "template": ear(tables={"pairs": "{}-{}", "users": "x/{}"}),
        "rule": ear(tables={"users": lambda key: [("profile", int(key[5:])), key]}),
        "none": ear(tables={"users": lambda key: []}),
    }
    users.sql("INSERT INTO users VALUES (1, 'x'); INSERT INTO pairs VALUES (7, 'y')")
    assert {name: each.keys() for name, each in ears.items()} == {
        "all": [(7, "y"), "user:1"],
        "named": [(7, "y")],
        "template": ["7-y", "x/user:1"],
        "rule": [("profile", 1), "user:1"],
        "none": [],
    }
    users.sql("TRUNCATE users")
    assert {name: each.keys() for name, each in ears.items()} == {
        "all": "every", "named": [], "template": "every", "rule": "every", "none": "every",
    }  # fmt: skip


def test_a_truncated_table_may_be_a_tag(users: Database, ear: Any) -> None:
    heard = ear(tags={"users": [("of", 1), "users"]})
    users.sql("TRUNCATE users")
    (message,) = heard.messages()
    assert message.number == TAGS
    assert decode(message.body) == (encode(("of", 1)), encode("users"))


def test_what_is_not_understood_stands_for_anything(
    users: Database, ear: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(key: Any) -> Any:
        raise KeyError(key)

    heard, broken = ear(), ear(tables={"users": fails})
    unfit = ear(tables={"users": lambda key: [{}]})
    for payload in ("", "nonsense", "[]", '"nonce"', "{}", '{"keys": 7}', '{"keys": [{"x": 1}]}',
                    '{"keys": [1.5]}', '{"table": 7, "keys": []}', '{"keys": [true]}',
                    '{"ns": "shop"}', '{"ns": "shop", "by": "00", "keys": [], "buckets": [999]}'):  # fmt: skip
        users.sql("SELECT pg_notify('fastcache', %s)", payload)
        assert heard.keys() == "every", payload
    broken.messages(), unfit.messages()
    users.sql("INSERT INTO users VALUES (1, 'x')")
    assert (heard.keys(), broken.keys(), unfit.keys()) == (["user:1"], "every", "every")
    assert "could not be understood" in caplog.text
    # anybody may say it
    users.sql("""SELECT pg_notify('fastcache', '{"keys": ["a", 1, ["b", null]]}')""")
    assert heard.keys() == [("b", None), 1, "a"]


def test_an_outbox_is_not_heard_by_a_backplane(
    users: Database, ear: Any, caplog: pytest.LogCaptureFixture
) -> None:
    announce(users, outbox="fastcache.outbox")
    heard = ear()
    users.sql("INSERT INTO users VALUES (1, 'x')")
    assert heard.keys() == []
    assert "PostgresOutbox" in caplog.text


# ---- the listener --------------------------------------------------------------------------------------


def test_a_wait_is_ended_by_a_message_or_by_wake(users: Database, ear: Any) -> None:
    listener = ear().listener
    for act, expected in (
        (listener.wake, 0),
        (lambda: users.sql("INSERT INTO users VALUES (1, 'x')"), 1),
    ):
        heard: list[Any] = []
        thread = threading.Thread(target=lambda heard=heard: heard.append(listener.poll(60.0)))
        thread.start()
        act()
        thread.join(30)
        assert not thread.is_alive()
        assert len(heard[0]) == expected
    begin = time.monotonic()
    assert listener.poll(0.05) == []
    assert time.monotonic() - begin >= 0.04
    listener.close()
    listener.close()
    listener.wake()
    for ask in (listener.poll, listener.ping):
        with pytest.raises(StoreError) as caught:
            ask(0.1)
        assert caught.value.kind == "closed"


def test_a_ping_hears_all_that_was_committed_before(users: Database, ear: Any) -> None:
    """Others commit all the time; what this one has committed when it asks, it has heard."""
    heard = ear()
    stop = threading.Event()

    def write(base: int) -> None:
        with users.connect(autocommit=True) as session:
            n = base
            while not stop.is_set():
                n += 1
                session.execute("INSERT INTO users VALUES (%s, 'x')", [n])

    threads = [threading.Thread(target=write, args=(base * 10**6,)) for base in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        with users.connect(autocommit=True) as session:
            for n in range(300):
                session.execute("INSERT INTO users VALUES (%s, 'x')", [n])
                assert f"user:{n}" in heard.keys()
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_a_session_that_is_ended_says_so(own_postgres: PostgresServer) -> None:
    backplane = PostgresBackplane(own_postgres.url)
    database = Database(own_postgres, "postgres")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
    listener = backplane.listen("shop")
    database.sql(cut, "LISTEN%")
    with pytest.raises(StoreError) as caught:
        while True:
            listener.poll(10.0)
    assert caught.value.kind == "closed"
    with pytest.raises(StoreError):
        listener.poll(0.1)
    listener = backplane.listen("shop")
    ((pid,),) = database.sql("SELECT pid FROM pg_stat_activity WHERE query LIKE %s", "LISTEN%")
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        with pytest.raises(StoreError) as caught:
            listener.ping(0.3)
        assert caught.value.kind == "timeout" and time.monotonic() - begin < 10
    finally:
        os.kill(pid, signal.SIGCONT)
    own_postgres.kill()
    with pytest.raises(StoreError):
        backplane.listen("shop")
    own_postgres.start()
    listener = backplane.listen("shop")
    assert listener.ping(10.0) == []
    listener.close()
    backplane.close()


def test_a_session_that_is_another_one_is_not_believed(database: Database, ear: Any) -> None:
    """As behind a pooler by transactions: it is well, and hears nothing."""
    heard = ear()
    heard.listener._session.ask("UNLISTEN *")
    with pytest.raises(StoreError, match="pooler"):
        heard.messages()

    class Elsewhere(Session):
        def ask(self, sql: str, *more: Any) -> Any:
            return [] if sql.startswith("LISTEN") else super().ask(sql, *more)

    session = Elsewhere(Address(database.url, 0.2))
    with pytest.raises(StoreError, match="pooler"):
        listening(session, "fastcache")
    session.close()


def test_arguments(database: Database) -> None:
    for options, error in (
        ({"channel": 7}, TypeError),
        ({"channel": ""}, ValueError),
        ({"channel": "x" * 64}, ValueError),
        ({"tables": "users"}, TypeError),
        ({"tables": {"users": 7}}, TypeError),
        ({"tables": {"users": "no place"}}, ValueError),
        ({"tables": {"users": "{id}"}}, ValueError),
        ({"tables": [7]}, TypeError),
        ({"tags": {"users": [{}]}}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(options))):
            PostgresBackplane(database.url, **options)
    with pytest.raises(TypeError, match="conninfo"):
        PostgresBackplane(7)  # type: ignore[arg-type]


def test_no_password_is_shown(database: Database) -> None:
    secret = "s3cret-word"
    host = f"127.0.0.1:{database.server.port}"
    for url in (
        f"postgresql://nobody:{secret}@{host}/nowhere",
        f"postgresql://nobody:{secret}@127.0.0.1:{free_port()}/x",
    ):
        backplane = PostgresBackplane(url)
        assert secret not in repr(backplane) + backplane.where
        with pytest.raises(StoreError) as caught:
            backplane.listen("shop")
        text = f"{caught.value!s} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
        assert secret not in text
        assert caught.value.kind in ("refused", "auth")
    for url in (
        f"postgresql://nobody:{secret}@{secret}@{host}/x",
        f"host=x password={secret} nonsense={secret}",
    ):
        with pytest.raises(ValueError, match="conninfo") as wrong:
            PostgresBackplane(url)
        assert secret not in repr(wrong.value)


# ---- telling each other --------------------------------------------------------------------------------


def test_what_is_said_is_heard_in_order(database: Database) -> None:
    backplane = PostgresBackplane(database.url)
    run, space = backplane.store.run, backplane.store.space("shop", ORIGIN)
    run(backplane.store.check())
    listeners = [backplane.listen("shop") for _ in range(2)]
    elsewhere = backplane.listen("other")
    before = run(space.counters())
    key, long = encode("user:42"), encode("x" * 5000)
    targets = [
        Target(name("user:42"), key),
        Target(name("u"), None),
        Target(name("x" * 5000), long),
    ]
    run(space.invalidate(targets))
    number = run(space.invalidate_tags([b"one", b"two"]))
    run(space.publish(b"event"))
    for listener in listeners:
        first, *buckets, tags, event = listener.ping(5.0)
        assert (first.number, first.body) == (bucket_of(name("user:42")), key)
        assert [m.number for m in buckets] == sorted({bucket_of(t.name) for t in targets[1:]})
        assert {m.body for m in buckets} == {None}
        assert {m.origin for m in (first, *buckets, tags, event)} == {ORIGIN}
        assert (tags.number, tags.counter.sequence) == (TAGS, number)
        assert decode(tags.body) == (b"one", b"two")
        assert (event.number, event.body) == (EVENTS, b"event")
        listener.close()
    assert elsewhere.ping(5.0) == []
    elsewhere.close()
    after = run(space.counters())
    assert [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [TAGS]
    assert run(space.invalidate_tags([b"three"])) > number
    with pytest.raises(StoreError, match="too long"):
        run(space.publish(b"x" * 6000))
    with pytest.raises(StoreError):
        run(space.incr(Target(name("n"), None), 1, 0, None))
    backplane.close()
    with pytest.raises(StoreError):
        run(space.publish(b"event"))


def test_many_keys_at_once(database: Database) -> None:
    backplane = PostgresBackplane(database.url)
    space = backplane.store.space("shop", ORIGIN)
    listener = backplane.listen("shop")
    keys = [("key", n, "é" * (n % 200)) for n in range(3000)]
    backplane.store.run(space.invalidate([Target(name(key), encode(key)) for key in keys]))
    assert [decode(message.body) for message in listener.ping(30.0)] == keys
    listener.close()
    backplane.close()


def test_telling_survives_a_session_that_was_cut(database: Database) -> None:
    backplane = PostgresBackplane(database.url)
    space = backplane.store.space("shop", ORIGIN)
    listener = backplane.listen("shop")
    backplane.store.run(space.publish(b"1"))
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
    assert database.sql(cut, "SELECT count(pg_notify%") == [(True,)]
    asyncio.run(backplane.store.arun(space.publish(b"2")))
    assert [message.body for message in listener.ping(5.0)] == [b"1", b"2"]
    listener.close()
    backplane.close()


# ---- caches ----------------------------------------------------------------------------------------------


class Table:
    """Loads names of users, over a session of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.loads: list[str] = []

    def __call__(self, key: str) -> Any:
        self.loads.append(key)
        rows = self.database.sql("SELECT name FROM users WHERE id = %s", int(key.partition(":")[2]))
        return rows[0][0] if rows else None


def cache(database: Database, **options: Any) -> TieredCache[str, Any]:
    backplane = PostgresBackplane(database.url, **options)
    made: Any = TieredCache(
        Cache(1000), namespace="shop", loader=Table(database), backplane=backplane, ttl=3600
    )
    made.backplane = backplane
    return made


def hears(tier: TieredCache[str, Any]) -> bool:
    tier.get("user:0")  # which begins it
    return bool(tier.stats().trust)


def test_a_writer_who_knows_nothing_of_us(users: Database) -> None:
    users.sql("INSERT INTO users VALUES (1, 'old'), (2, 'same')")
    with cache(users) as one, cache(users) as two:
        for each in (one, two):
            until(lambda each=each: hears(each), "it hears")
            assert (each.get("user:1"), each.get("user:2")) == ("old", "same")
        users.sql("UPDATE users SET name = 'new' WHERE id = 1")
        for each in (one, two):
            until(lambda each=each: each.get("user:1") == "new", "the change is seen", 10)
            assert each.peek_l1("user:2") == "same"
            assert each._core.loader.loads.count("user:2") == 1
            assert each.stats().lost == 0
        users.sql("TRUNCATE users")
        for each in (one, two):
            until(lambda each=each: each.get("user:2") is None, "the change is seen", 10)


def test_caches_tell_each_other(users: Database) -> None:
    users.sql("INSERT INTO users VALUES (1, 'a'), (2, 'b')")
    with cache(users) as one, cache(users) as two:
        for each in (one, two):
            until(lambda each=each: hears(each), "it hears")
        handled: list[Any] = []
        two.invalidate_on("moved", lambda n: handled.append(n) or [f"user:{n}"])
        two.get("user:1"), two.get("user:2")
        one.invalidate("user:1")
        until(lambda: two.peek_l1("user:1") is None, "it is told")
        assert two.peek_l1("user:2") == "b"
        one.publish("moved", n=2)
        until(lambda: handled == [2] and two.peek_l1("user:2") is None, "it is told")
        two.get_or_set("tagged", lambda: 7, tags=["tag"])
        assert two.get("user:1") == "a"
        one.invalidate_tag("tag")
        until(lambda: two.peek_l1("tagged") is None, "it is told")
        assert two.peek_l1("user:1") == "a"
        one.bump_version()
        until(lambda: two.peek_l1("user:1") is None, "it is told")
        assert one.stats().lost == two.stats().lost == 0
        for each in (one, two):
            each.backplane.close()  # type: ignore[attr-defined]


def test_an_async_cache_hears_too(users: Database) -> None:
    users.sql("INSERT INTO users VALUES (1, 'old')")
    table = Table(users)

    async def load(key: str) -> Any:
        return await asyncio.to_thread(table, key)

    async def main() -> None:
        backplane = PostgresBackplane(users.url)
        async with AsyncTieredCache(
            Cache(10), namespace="shop", loader=load, backplane=backplane, ttl=3600
        ) as tier:
            assert await tier.get("user:1") == "old"
            until(lambda: tier.stats().trust, "it hears")
            await asyncio.to_thread(users.sql, "UPDATE users SET name = 'new'")
            for _ in range(1000):
                if await tier.get("user:1") == "new":
                    break
                await asyncio.sleep(0.01)
            assert await tier.get("user:1") == "new"
            await tier.invalidate("user:1")
        backplane.close()

    asyncio.run(main())


def test_what_happens_in_a_gap_is_not_missed(users: Database) -> None:
    """The session is ended, and cannot come back before something has changed."""
    users.sql("INSERT INTO users VALUES (1, 'old'), (2, 'same')")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
    with cache(users) as tier:
        until(lambda: hears(tier), "it hears")
        tier.invalidate("user:1")
        assert (tier.get("user:1"), tier.get("user:2")) == ("old", "same")
        with users.connect(autocommit=True) as session, users.server_session() as admin:
            admin.execute(f"ALTER DATABASE {users.name} WITH ALLOW_CONNECTIONS false")
            session.execute(cut, ["%pg_listening_channels%"])
            session.execute("UPDATE users SET name = 'new' WHERE id = 1")
            admin.execute(f"ALTER DATABASE {users.name} WITH ALLOW_CONNECTIONS true")
        until(lambda: tier.get("user:1") == "new", "it hears again", 20)
        stats = tier.stats()
        assert stats.lost > 0
        assert stats.pending == 0, "there is no L2 that should be told again"
        # and it goes on
        until(lambda: tier.stats().trust, "it hears again")
        tier.get("user:1")
        users.sql("UPDATE users SET name = 'newer' WHERE id = 1")
        until(lambda: tier.get("user:1") == "newer", "the change is seen", 10)


def test_a_fork_leaves_the_parents_sessions_alone(database: Database) -> None:
    run_child(
        """
        import os, time
        from fastcache.backplane import PostgresBackplane
        backplane = PostgresBackplane(sys.argv[1])
        space = backplane.store.space("shop", b"8 bytes.")
        listener = backplane.listen("shop")
        backplane.store.run(space.publish(b"1"))
        child = os.fork()
        if child == 0:
            del listener
            gc.collect()
            backplane.store.run(space.publish(b"2"))
            mine = backplane.listen("shop")
            backplane.store.run(space.publish(b"3"))
            assert [m.body for m in mine.ping(10)] == [b"3"]
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        backplane.store.run(space.publish(b"4"))
        assert [m.body for m in listener.ping(10)] == [b"1", b"2", b"3", b"4"]
        listener.close()
        backplane.close()
        """,
        database.url,
    )


# ---- the command -----------------------------------------------------------------------------------------


def test_the_command_prints_and_installs(
    database: Database, ear: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database.sql("CREATE TABLE users (id int)")
    assert main(["triggers", "users", "--key-template", "user:{id}"]) == 0
    printed = capsys.readouterr().out
    assert printed == make_triggers(Announcement(table="users", template="user:{id}"))
    database.sql(printed)
    heard = ear()
    database.sql("INSERT INTO users VALUES (1)")
    assert heard.keys() == ["user:1"]
    install = ["--install", database.url]
    assert (
        main(["triggers", "public.users", "--key", "id", "--key", "id", "--channel", "c", *install])
        == 0
    )
    other = ear(channel="c")
    database.sql("INSERT INTO users VALUES (2)")
    assert (heard.keys(), other.keys()) == (["user:2"], [(2, 2)])
    assert main(["triggers", "users", "--drop", *install]) == 0
    database.sql("INSERT INTO users VALUES (3)")
    assert (heard.keys(), other.keys()) == ([], [(3, 3)])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "--key", "id"], "no table nowhere"),
        (["users", "--key", "no"], "table users has no column no"),
        (["users", "--key-template", "{id}/{no}"], "has no column no"),
        (["users", "--key", "at"], "type timestamp with time zone"),
        (["seen", "--key", "id"], "seen is no table"),
    ],
)
def test_the_server_says_what_is_wrong(
    database: Database, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    database.sql(
        "CREATE TABLE users (id int, at timestamptz); CREATE VIEW seen AS SELECT * FROM users"
    )
    assert main(["triggers", *arguments, "--install", database.url]) == 1
    captured = capsys.readouterr()
    assert says in captured.err and captured.out == ""
    assert database.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    assert database.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'fastcache'") == [(0,)]


def test_the_command_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql://nobody:s3cret-word@127.0.0.1:{free_port()}/x"
    assert main(["triggers", "users", "--key", "id", "--install", url]) == 1
    error = capsys.readouterr().err
    assert "127.0.0.1" in error and "s3cret-word" not in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["users"], "either --key or --key-template"),
        (["users", "--key", "id", "--key-template", "{id}"], "either --key or --key-template"),
        (["users", "--key-template", "user"], "at least one column"),
        (["users", "--key-template", "{id"], "not well formed"),
        (["users", "--key-template", "{id!r}"], "in braces alone"),
        (["", "--key", "id"], "table"),
        (["x" * 64, "--key", "id"], "at most 63 bytes"),
        (["users", "--key", "id", "--channel", "c" * 60], "channel"),
        (["users", "--key", "id", "--most", "0"], "most"),
        (["users", "--key", "id", "--no-notify"], "outbox"),
        (["users", "--key", "id", "--outbox", "a."], "outbox"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["triggers", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_payloads_are_json(users: Database) -> None:
    payloads: list[str] = []
    with users.connect(autocommit=True) as session:
        session.execute("LISTEN fastcache")
        session.add_notify_handler(lambda notify: payloads.append(notify.payload))
        users.sql("INSERT INTO users VALUES (1, 'a'); TRUNCATE users")
        session.execute("SELECT 1")
    assert [json.loads(payload) for payload in payloads] == [
        {"table": "users", "keys": ["user:1"]},
        {"table": "users", "all": True},
    ]
