"""RedisStore, and what servers and networks do to it: each fault has its kind of StoreError, and a bound."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import free_port, until
from servers.memcached import MemcachedServer
from servers.redis import RedisSentinel, RedisServer

from fastcache.backplane import RedisBackplane
from fastcache.stores import RedisStore, StoreError
from fastcache.stores.protocol import Fill, Target
from fastcache.stores.redis import node as node_module
from fastcache.stores.redis.node import Clock
from fastcache.testing import FaultProxy

NAME = "user:42:" + "1f" + "0" * 30
OTHER = "user:43:" + "2f" + "0" * 30
KEY = Target(NAME, b"key")

Run = Callable[[RedisStore, Any], Any]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Carries out steps, in threads or on one event loop."""
    if request.param == "sync":
        yield lambda store, steps: store.run(steps)
        return
    with asyncio.Runner() as runner:
        yield lambda store, steps: runner.run(store.arun(steps))


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    made = RedisStore(redis_server.url)
    yield made
    made.close()


def space_of(store: RedisStore) -> Any:
    return store.space(f"test:{os.urandom(6).hex()}", b"8 bytes.")


def put(space: Any, data: bytes = b"value", name: str = NAME) -> Any:
    return space.put([Fill(name, b"", data, 60.0)], [Target(name, b"key")])


def refused(run: Run, store: RedisStore, steps: Any) -> StoreError:
    with pytest.raises(StoreError) as caught:
        run(store, steps)
    return caught.value


# ---- scripts -------------------------------------------------------------------------------------


def test_scripts_that_the_server_forgot_are_loaded_again(run: Run, own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url)
    space = space_of(store)
    with own_redis.client() as client:
        for _ in range(2):
            client.script_flush()
            assert run(store, put(space)) == [True]
            client.script_flush()
            many = [KEY, *(Target(f"k:{i:02x}" + "0" * 30, b"k") for i in range(250))]
            run(store, space.invalidate(many))
            assert run(store, space.read(NAME)) is None
        client.script_flush()
        run(store, put(space))
        run(store, put(space))
        calls = client.info("commandstats")["cmdstat_script|load"]["calls"]
        run(store, put(space))
        assert client.info("commandstats")["cmdstat_script|load"]["calls"] == calls
    store.close()


# ---- who may -------------------------------------------------------------------------------------


def test_a_wrong_password_is_an_error_that_does_not_tell_it(
    run: Run, redis_password: RedisServer
) -> None:
    for url, options in (
        (f"redis://:hunter2@127.0.0.1:{redis_password.port}", {}),
        (f"redis://somebody:hunter2@127.0.0.1:{redis_password.port}", {}),
        (f"redis://127.0.0.1:{redis_password.port}", {"password": "hunter2"}),
        (f"redis://127.0.0.1:{redis_password.port}", {"credentials": lambda: (None, "hunter2")}),
    ):
        store = RedisStore(url, **options)
        error = refused(run, store, store.check())
        assert error.kind == "auth"
        assert str(redis_password.port) in str(error)
        for text in (str(error), repr(error), repr(store), store.where, repr(store._target)):
            assert "hunter2" not in text
        assert b"hunter2" not in pickle.dumps(error.args)
        store.close()


def test_no_password_where_one_is_wanted(run: Run, redis_password: RedisServer) -> None:
    store = RedisStore(f"redis://127.0.0.1:{redis_password.port}")
    assert refused(run, store, store.check()).kind == "auth"
    assert refused(run, store, space_of(store).read(NAME)).kind == "auth"
    store.close()


def test_the_right_password(run: Run, redis_password: RedisServer) -> None:
    plain = f"redis://127.0.0.1:{redis_password.port}"
    password = redis_password.password
    for store in (
        RedisStore(redis_password.url.replace(password, "correct%20horse%2Fbattery%40staple")),
        RedisStore(redis_password.url),
        RedisStore(plain, password=password),
        RedisStore(plain, username="default", password=password),
        RedisStore(plain, credentials=lambda: (None, password)),
    ):
        run(store, store.check())
        store.close()


def test_a_user_who_may_not_write(run: Run, own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.execute_command("ACL SETUSER reader on >secret ~* &* +@read +@connection")
    store = RedisStore(f"redis://reader:secret@127.0.0.1:{own_redis.port}")
    space = space_of(store)
    assert run(store, space.read(NAME)) is None
    assert refused(run, store, put(space)).kind == "auth"
    store.close()


def test_a_user_who_may_do_what_the_docs_list(run: Run, own_redis: RedisServer) -> None:
    allowed = "+@read +@write +@connection +@scripting +@pubsub +time +info ~fc:* &fc:*"
    with own_redis.client() as client:
        client.execute_command(f"ACL SETUSER cache on >secret {allowed}")
    store = RedisStore(f"redis://cache:secret@127.0.0.1:{own_redis.port}/1")
    space = space_of(store)
    run(store, store.check())
    listener = RedisBackplane(store, tracking=True).listen(space.namespace)
    run(store, space.counters())
    (lease,) = run(store, space.lease([NAME], b"token", 60.0))
    assert run(store, space.fill([Fill(NAME, lease.token, b"1", 60.0)])) == [True]
    assert run(store, space.incr(KEY, 1, 0, None)) == 2
    assert run(store, space.touch(KEY, b"2", 60.0)) is True
    run(store, space.invalidate_tags([b"tag"]))
    run(store, space.tags([b"tag", b"other"]))
    run(store, space.publish(b"event"))
    run(store, space.hold([KEY], b"hold", 60.0))
    run(store, space.give_up([NAME], b"token"))
    run(store, space.invalidate([KEY]))
    assert listener.ping(5.0)
    listener.close()
    store.close()


# ---- what is there -------------------------------------------------------------------------------


def test_a_server_of_another_kind(run: Run, memcached: MemcachedServer) -> None:
    store = RedisStore(f"redis://127.0.0.1:{memcached.port}")
    error = refused(run, store, store.check())
    assert error.kind == "old" and "Redis 7.0 or newer" in str(error)
    assert refused(run, store, space_of(store).read(NAME)).kind == "protocol"
    store.close()


def test_nobody_there(run: Run) -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}")
    error = refused(run, store, store.check())
    assert error.kind == "refused" and store.where in str(error)
    store.close()
    gone = RedisStore("unix:///nonexistent/socket")
    assert refused(run, gone, gone.check()).kind == "refused"


def test_a_database_that_is_not_there(run: Run, redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url + "/99")
    error = refused(run, store, store.check())
    assert error.kind == "other" and "99" in str(error)
    store.close()


def test_tls_where_there_is_none_and_the_other_way_round(
    run: Run, redis_server: RedisServer, redis_tls: RedisServer
) -> None:
    for url in (
        f"rediss://127.0.0.1:{redis_server.port}",
        f"redis://127.0.0.1:{redis_tls.port}",
        f"rediss://127.0.0.1:{redis_tls.port}",  # a certificate that nobody vouches for
    ):
        store = RedisStore(url)
        assert refused(run, store, store.check()).kind in ("refused", "closed", "timeout")
        store.close()
    trusting = RedisStore(f"rediss://127.0.0.1:{redis_tls.port}?ssl_cert_reqs=none")
    run(trusting, trusting.check())
    trusting.close()


def test_a_node_of_a_cluster_wants_another_url(run: Run, redis_cluster: Any) -> None:
    store = RedisStore(redis_cluster.nodes[0].url)
    error = refused(run, store, store.check())
    assert error.kind == "cluster" and "redis+cluster://" in str(error)
    store.close()


def test_a_single_server_is_no_cluster(run: Run, redis_server: RedisServer) -> None:
    store = RedisStore(f"redis+cluster://127.0.0.1:{redis_server.port}")
    error = refused(run, store, store.check())
    assert error.kind == "cluster" and "redis://" in str(error)
    store.close()


# ---- states of the server ------------------------------------------------------------------------


def test_a_server_without_memory(run: Run, own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url)
    space = space_of(store)
    assert run(store, put(space)) == [True]
    run(store, space.counters())
    (lease,) = run(store, space.lease([OTHER], b"token", 60.0))
    listener = store.backplane().listen(space.namespace)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        for _ in range(2):
            fill = space.fill([Fill(OTHER, lease.token, b"new", 60.0)])
            assert refused(run, store, fill).kind == "full"
            assert refused(run, store, put(space, name=OTHER)).kind == "full"
            assert refused(run, store, space.lease(["k:" + "0" * 32], b"t", 1.0)).kind == "full"
            assert refused(run, store, space.incr(Target(OTHER, b"o"), 1, 0, None)).kind == "full"
        before = run(store, space.counters())
        assert run(store, space.read(NAME)).data == b"value"
        run(store, space.invalidate([KEY]))  # all that takes something away works
        assert run(store, space.read(NAME)) is None
        run(store, space.hold([KEY], b"hold", 60.0))
        run(store, space.publish(b"event"))
        tags = run(store, space.tags([b"tag"]))
        assert run(store, space.invalidate_tags([b"tag"])) > tags[0]
        after = run(store, space.counters())
        assert after[0x1F].sequence == before[0x1F].sequence + 2
        assert [message.number for message in listener.ping(5.0)] == [0x1F, 0x1F, 257, 256]
        client.flushall()  # not even counters are there: they are all alike until one is advanced
        empty = run(store, space.counters())
        assert empty == run(store, space.counters())
        run(store, space.invalidate([KEY]))
        assert run(store, space.counters())[0x1F] != empty[0x1F]
    listener.close()
    store.close()


def test_a_replica_refuses_writes(run: Run, own_redis: RedisServer) -> None:
    store = RedisStore(own_redis.url)
    with own_redis.client() as client:
        client.execute_command("REPLICAOF 127.0.0.1", free_port())
    error = refused(run, store, store.check())
    assert error.kind == "readonly" and "replica" in str(error)
    assert refused(run, store, put(space_of(store))).kind == "readonly"
    store.close()


def test_a_server_that_is_still_loading(run: Run) -> None:
    options = {"loading-process-events-interval-bytes": "1024", "enable-debug-command": "local"}
    server = RedisServer(**options)
    try:
        server.start()
        store = RedisStore(server.url)
        with server.client() as client:
            client.execute_command("DEBUG", "POPULATE", 2000, "filler", 100)
            client.save()
        server.stop()
        server._options["key-load-delay"] = "2000"  # microseconds
        server.start(wait=False)
        kinds = set()

        def loading() -> bool:
            try:
                run(store, space_of(store).read(NAME))
            except StoreError as error:
                kinds.add(error.kind)
                return error.kind == "loading"
            return False

        until(loading, "it loads")
        assert kinds <= {"refused", "loading", "closed", "timeout"}
        store.close()
    finally:
        server.kill()
        server.close()


def test_too_many_clients(run: Run) -> None:
    with RedisServer(maxclients="2") as server:
        store = RedisStore(server.url)
        clients = [server.client() for _ in range(2)]
        try:
            for client in clients:
                client.ping()
            assert refused(run, store, store.check()).kind == "clients"
            assert refused(run, store, space_of(store).read(NAME)).kind == "clients"
        finally:
            for client in clients:
                client.close()
        until(lambda: works(run, store), "there is room again")
        store.close()


def works(run: Run, store: RedisStore) -> bool:
    try:
        run(store, store.check())
    except StoreError:
        return False
    return True


# ---- networks ------------------------------------------------------------------------------------


@pytest.fixture
def proxied(own_redis: RedisServer) -> Iterator[tuple[FaultProxy, RedisStore]]:
    with FaultProxy("127.0.0.1", own_redis.port) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}", timeout=0.3)
        yield proxy, store
        store.close()


def test_a_server_that_hangs_costs_one_timeout(
    run: Run, proxied: tuple[FaultProxy, RedisStore]
) -> None:
    proxy, store = proxied
    space = space_of(store)
    run(store, put(space))
    run(store, space.counters())
    proxy.black_hole(hold=True)
    begin = time.monotonic()
    assert refused(run, store, space.read(NAME)).kind == "timeout"
    assert refused(run, store, space.read(NAME)).kind == "timeout"  # on a new connection
    assert time.monotonic() - begin < 10  # not a client's retries for minutes
    proxy.heal()
    assert run(store, space.read(NAME)).data == b"value"


def test_an_answer_that_trickles_in_is_bounded_as_a_whole(
    run: Run, proxied: tuple[FaultProxy, RedisStore]
) -> None:
    proxy, store = proxied
    space = space_of(store)
    run(store, put(space, b"x" * 5000))
    run(store, space.counters())
    proxy.throttle(1, 0.01)  # which would take 50 seconds
    begin = time.monotonic()
    assert refused(run, store, space.read(NAME)).kind == "timeout"
    assert time.monotonic() - begin < 20
    proxy.heal()
    assert run(store, space.read(NAME)).data == b"x" * 5000


@pytest.mark.parametrize(
    "pieces",
    [
        [b"*2147483647\r\n:1\r\n"],
        [b"*21474", b"83647\r\n"],
        [b">2147483647\r\n"],
        [b"*", b"12345678901234567890"],
    ],
)
def test_an_answer_of_too_many_parts_is_not_begun(run: Run, pieces: list[bytes]) -> None:
    """The reader would make room for all of them, and take seconds to give that back."""

    def lie(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)  # so that each comes by itself; the outcome is the same if not
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.getsockname()[1]}", timeout=10)
        for steps in (space_of(store).read(NAME), space_of(store).counters()):
            liar = threading.Thread(target=lie, args=(server,), daemon=True)
            liar.start()
            error = refused(run, store, steps)
            assert error.kind == "protocol"
            assert "so many parts" in str(error)
            liar.join(10)
        store.close()


def test_what_was_cut_off_or_garbled_is_no_answer(
    run: Run, proxied: tuple[FaultProxy, RedisStore]
) -> None:
    proxy, store = proxied
    space = space_of(store)
    run(store, put(space, b"x" * 200))
    run(store, space.counters())
    proxy.truncate(50)
    assert refused(run, store, space.read(NAME)).kind == "closed"
    proxy.heal()
    proxy.flip(0, 3)  # '$' becomes ','
    assert refused(run, store, space.read(NAME)).kind in ("protocol", "timeout")
    proxy.heal()
    proxy.reset()
    until(lambda: works(run, store), "it connects again")
    assert run(store, space.read(NAME)).data == b"x" * 200


def test_answers_stay_with_their_requests(run: Run, proxied: tuple[FaultProxy, RedisStore]) -> None:
    """What came too late for one request is not taken for the answer to the next."""
    proxy, store = proxied
    space = space_of(store)
    names = [f"k:{i:02x}" + "0" * 30 for i in range(20)]
    for name in names:
        run(store, put(space, name.encode(), name))
    run(store, space.counters())
    proxy.latency(0.6)
    for name in names[:3]:
        assert refused(run, store, space.read(name)).kind == "timeout"
    proxy.heal()
    for name in names:
        assert run(store, space.read(name)).data == name.encode()


def test_a_connection_that_the_server_closed_is_replaced(
    run: Run, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything was sent, and only if it has rested: the look costs a system call."""
    monkeypatch.setattr(node_module, "REST", 0.0)
    store = RedisStore(own_redis.url)
    space = space_of(store)
    run(store, put(space))
    with own_redis.client() as client:
        for _ in range(3):
            assert run(store, space.read(NAME)).data == b"value"
            client.execute_command("CLIENT KILL TYPE normal")
    store.close()


def test_all_connections_busy(run: Run, proxied: tuple[FaultProxy, RedisStore]) -> None:
    proxy, _ = proxied
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}", timeout=0.3, max_connections=1)
    space = space_of(store)
    run(store, space.read(NAME))
    proxy.black_hole()

    async def both() -> list[Any]:
        steps = [store.arun(space.read(NAME)) for _ in range(2)]
        results = await asyncio.gather(*steps, return_exceptions=True)
        store.close()
        await asyncio.sleep(0)
        return results

    results = asyncio.run(both())
    assert {error.kind for error in results} <= {"timeout", "clients"}
    assert len(results) == 2


# ---- processes and event loops -------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_connections(store: RedisStore) -> None:
    space = space_of(store)
    store.run(put(space, b"parent"))
    idle = store._node._idle[-1]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not store._node._idle
            for _ in range(50):
                assert store.run(space.read(NAME)).data == b"parent"
            code = 0
        finally:
            os._exit(code)
    for _ in range(50):
        assert store.run(space.read(NAME)).data == b"parent"
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store._node._idle[-1] is idle


def test_event_loops_that_are_gone_leave_nothing_behind(store: RedisStore) -> None:
    space = space_of(store)

    async def read() -> None:
        await asyncio.gather(*(store.arun(space.read(NAME)) for _ in range(5)))

    for _ in range(20):
        asyncio.run(read())  # none closes its connections
    assert len(store._node._loops) <= 1
    left = [wire for own in store._node._loops.values() for wire in own.idle]
    store.close()
    assert left and all(wire._socket is None for wire in left)  # not only when they are collected


def test_closed_is_closed(run: Run, redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    space = space_of(store)
    run(store, space.read(NAME))
    store.close()
    store.close()
    assert refused(run, store, space.read(NAME)).kind == "closed"


# ---- Sentinel ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sentinels_name_the_primary_after_a_failover(
    run: Run, redis_sentinel: RedisSentinel
) -> None:
    store = RedisStore(redis_sentinel.url)
    space = space_of(store)
    run(store, store.check())
    run(store, put(space))
    with redis_sentinel.primary.client() as client:
        client.execute_command("WAIT", 1, 5000)
    listener = store.backplane().listen(space.namespace)
    redis_sentinel.primary.kill()
    with pytest.raises(StoreError):
        for _ in range(100):
            listener.ping(0.5)
    assert refused(run, store, space.read(NAME)).kind in ("closed", "refused", "readonly")

    def found() -> Any:
        try:
            return run(store, space.read(NAME))
        except StoreError:
            return None

    assert until(found, "the replica has taken over").data == b"value"
    until(lambda: works(run, store), "and takes writes")
    run(store, space.invalidate([KEY]))
    assert run(store, space.read(NAME)) is None
    store.close()


def test_no_sentinel_there(run: Run) -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/main"
    store = RedisStore(url)
    error = refused(run, store, store.check())
    assert error.kind == "refused" and "sentinel" in str(error)


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "redis://"),
        ("http://localhost", "redis://"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:70000", "port"),
        ("redis://localhost:0", "port"),
        ("redis://localhost/one", "db"),
        ("redis://localhost?timeout=3", "timeout"),
        ("redis://localhost?ssl_cert_reqs=none", "rediss"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("redis://a,b", "redis+cluster"),
        ("redis://[::1", "brackets"),
        ("redis://::1", "brackets"),
        ("redis+sentinel://a,b", "service"),
        ("redis+cluster://a/3", "database 0"),
        ("unix://relative", "'/'"),
        ("", "redis://"),
    ],
)
def test_urls_that_make_no_sense(url: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisStore(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@localhost",
        "redis://:hunter2@localhost:port",
        "redis://hunter2@localhost/x",
        "redis://localhost?password=hunter2",
        "redis://:hunter2",
        "redis://user:hunter2/0",
        "redis://u:hunt?er2@localhost/x",
        "user:hunter2@localhost",
        "unix://u:hunter2@relative",
        "redis://:12?hunter2@localhost/0",
        "redis://:12?db=hunter2@localhost/0",
        "redis://:12#hunter2@localhost/0",
        "user:hunter2",
        "redis://u:hunter2@localhost ",
        "rediss://u:hunter2@localhost?ssl_ca_certs=/there/is/none",
    ],
)
def test_no_error_tells_the_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisStore(url)
    assert "hunt" not in str(caught.value) and "er2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan"),
        ({"connect_timeout": -1}, ValueError, "connect_timeout=-1"),
        ({"max_connections": 0}, ValueError, "max_connections=0"),
        ({"max_connections": 1.5}, TypeError, "max_connections must be an int, not 1.5"),
        ({"max_connections": None}, TypeError, "max_connections must be an int, not None"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, not '1'"),
        (
            {"connect_timeout": None},
            TypeError,
            "connect_timeout must be a number of seconds, not None",
        ),
        ({"replica_lag": True}, TypeError, "replica_lag must be a number of seconds, not True"),
        ({"replicas": True}, ValueError, "redis+cluster"),
        ({"sentinel_password": "x"}, ValueError, "redis+sentinel"),
        ({"password": "x", "credentials": lambda: (None, "x")}, ValueError, "not both"),
        ({"password": ["x"]}, TypeError, "password must be a str"),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        RedisStore("redis://localhost", **options)
    assert said in str(caught.value)
    with pytest.raises(TypeError):
        RedisStore(b"redis://localhost")  # type: ignore[arg-type]


def test_where_names_the_server_alone() -> None:
    for url, where in (
        ("redis://user:secret@localhost", "redis://localhost:6379"),
        ("REDIS://localhost/2", "redis://localhost:6379/2"),
        ("valkeys://:secret@[::1]:7000", "valkeys://[::1]:7000"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+sentinel://:secret@a,b:1/main/3", "redis+sentinel://a:26379,b:1/main/3"),
        ("rediss+cluster://:secret@a,b:1", "rediss+cluster://a:6379,b:1"),
    ):
        store = RedisStore(url)
        assert store.where == where
        assert "secret" not in repr(store)


# ---- client tracking -----------------------------------------------------------------------------


def test_writers_that_are_not_ours_are_heard_of(own_redis: RedisServer) -> None:
    backplane = RedisBackplane(own_redis.url, tracking=True)
    space = space_of(backplane.store)
    listener = backplane.listen(space.namespace)
    home = space._home(NAME)
    with own_redis.client() as client:
        key = home.prefix + NAME.encode()
        client.set(key, b"foreign")
        (message,) = listener.ping(5.0)
        assert message.foreign and message.name == NAME and message.number == 0x1F
        client.set(key + b":lease", b"=token")  # not of interest
        client.set(b"fc:{other:1f}:" + NAME.encode(), b"x")
        client.set(home.prefix.replace(b":1f}", b":more:1f}") + NAME.encode(), b"x")
        assert listener.ping(5.0) == []
        client.flushall()
        assert sorted({m.number for m in listener.ping(5.0)}) == list(range(256))
    listener.close()
    backplane.close()


# ---- clocks -------------------------------------------------------------------------------------


def test_what_is_known_of_a_clock_never_runs_behind_nor_back() -> None:
    clock = Clock()
    assert clock.at(1.0) is None
    clock.heard(100.0, [b"5000", b"500000"])
    assert clock.at(101.0) == 5001.5
    clock.heard(101.0, [b"5001", b"600000"])  # it had taken longer: so it is later than was thought
    assert clock.at(101.0) == 5001.6
    clock.heard(102.0, [b"5002", b"400000"])  # less: but what was dead must not come back
    assert clock.at(102.0) == pytest.approx(5002.6)
    clock.heard(111.5, [b"5011", b"900000"])  # for a while
    assert clock.at(111.5) == pytest.approx(5011.9)
    clock.heard(112.0, [b"1412", b"0"])  # somebody has set it
    assert clock.at(112.0) == 1412.0
    assert clock.at(122.0) is None
