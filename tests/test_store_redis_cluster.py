"""RedisStore on a Cluster whose servers fail, move slots, and lag."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import until
from servers.redis import RedisCluster, RedisServer, kept

from fastcache.stores import RedisStore, StoreError
from fastcache.stores.protocol import Fill, Target
from fastcache.stores.redis.node import now

Run = Callable[[RedisStore, Any], Any]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    if request.param == "sync":
        yield lambda store, steps: store.run(steps)
        return
    with asyncio.Runner() as runner:
        yield lambda store, steps: runner.run(store.arun(steps))


def space_of(store: RedisStore) -> Any:
    return store.space(f"test:{os.urandom(6).hex()}", b"8 bytes.")


NAMES = [f"k:{bucket:02x}" + "0" * 30 for bucket in range(256)]


def put(space: Any, names: list[str], data: bytes = b"value") -> Any:
    fills = [Fill(name, b"", data, 600.0) for name in names]
    return space.put(fills, [Target(name, b"key") for name in names])


def owner(cluster: RedisCluster, store: RedisStore, slot: int) -> RedisServer:
    """The server that has a slot, as the store sees it."""
    node = store._cluster._slots[slot]
    return next(server for server in cluster.nodes if server.port == node.way.address.port)


def attempt(call: Callable[[], Any]) -> Any:
    """The result, or the StoreError."""
    try:
        return call()
    except StoreError as error:
        return error


def test_each_bucket_is_reached(run: Run, redis_cluster: RedisCluster) -> None:
    store = RedisStore(redis_cluster.url)
    space = space_of(store)
    run(store, store.check())
    assert run(store, put(space, NAMES)) == [True] * 256
    assert [found.data for found in run(store, space.read_many(NAMES))] == [b"value"] * 256
    assert len({id(node) for node in store._cluster._slots}) == 3
    store.close()


def test_a_cluster_is_found_from_any_of_its_servers(run: Run, redis_cluster: RedisCluster) -> None:
    for server in redis_cluster.nodes:
        store = RedisStore(f"redis+cluster://127.0.0.1:1,127.0.0.1:{server.port}")
        space = space_of(store)
        run(store, put(space, NAMES[:5]))
        assert run(store, space.read(NAMES[0])).data == b"value"
        store.close()


def test_redirections_are_followed_and_remembered(run: Run, redis_cluster: RedisCluster) -> None:
    store = RedisStore(redis_cluster.url)
    space = space_of(store)
    run(store, put(space, NAMES))
    nodes = {id(node): node for node in store._cluster._slots}
    wrong, right = list(nodes.values())[:2]
    slots = store._cluster._slots
    store._cluster._slots = [wrong if node is right else node for node in slots]
    for name in NAMES:
        assert run(store, space.read(name)).data == b"value"
    store._cluster._slots = [wrong] * len(slots)
    assert [found.data for found in run(store, space.read_many(NAMES))] == [b"value"] * 256
    until(lambda: run(store, space.read(NAMES[0])) and store._cluster._slots == slots, "it asks")
    store.close()


def test_redirections_in_a_circle_end(run: Run, own_cluster: RedisCluster) -> None:
    store = RedisStore(own_cluster.url)
    space = space_of(store)
    run(store, put(space, NAMES))
    home = space._home(NAMES[0])
    first = owner(own_cluster, store, home.slot)
    second = next(
        node
        for node in own_cluster.nodes
        if node is not first and own_cluster.role(node) == "master"
    )
    with first.client() as one, second.client() as two:
        one.flushall()
        ids = [client.execute_command("CLUSTER MYID").decode() for client in (one, two)]

        def circle() -> Any:
            # Gossip puts it right again, so both are told each time.
            two.execute_command("CLUSTER SETSLOT", home.slot, "NODE", ids[0])
            one.execute_command("CLUSTER SETSLOT", home.slot, "NODE", ids[1])
            begin = time.monotonic()
            result = attempt(lambda: run(store, space.read(NAMES[0])))
            assert time.monotonic() - begin < 10
            return isinstance(result, StoreError) and result.kind == "moved"

        until(circle, "the read gives up")
    store.close()


def test_slots_migrate_under_load(run: Run, own_cluster: RedisCluster) -> None:
    """No error, nothing stale, and listeners are told to listen anew."""
    store = RedisStore(own_cluster.url, timeout=5.0)
    space = space_of(store)
    run(store, put(space, NAMES, b"0"))
    listener = store.backplane().listen(space.namespace)
    before = list(store._cluster._slots)
    moved = threading.Event()
    errors: list[Any] = []

    def reshard() -> None:
        try:
            ids = {}
            for node in own_cluster.nodes:
                if own_cluster.role(node) == "master":
                    with node.client() as client:
                        ids[node] = client.execute_command("CLUSTER MYID").decode()
            (first, source), (_, target) = list(ids.items())[:2]
            own_cluster.cli(
                "reshard", f"127.0.0.1:{first.port}", "--cluster-from", source,
                "--cluster-to", target, "--cluster-slots", "1500", "--cluster-yes",
            )  # fmt: skip
        except BaseException as error:
            errors.append(error)
        finally:
            moved.set()

    thread = threading.Thread(target=reshard)
    thread.start()
    number = 0
    while not moved.is_set():
        number += 1
        names = NAMES[number % 16 :: 16]
        data = b"data %d" % number
        assert run(store, put(space, names, data)) == [True] * len(names)
        assert {found.data for found in run(store, space.read_many(names))} == {data}
        run(store, space.invalidate([Target(name, None) for name in names]))
        assert run(store, space.read_many(names)) == [None] * len(names)
        leases = run(store, space.lease(names, b"token", 60.0))
        assert all(lease.ours for lease in leases)
        fills = [Fill(name, b"token", data, 60.0) for name in names]
        assert run(store, space.fill(fills)) == [True] * len(names)
    thread.join()
    assert not errors, errors
    assert number > 3
    run(store, space.read_many(NAMES))
    assert sum(a is not b for a, b in zip(before, store._cluster._slots, strict=True)) > 0
    with pytest.raises(StoreError) as caught:
        for _ in range(1000):
            listener.poll(0.1)
            listener.ping(5.0)
    assert caught.value.kind == "moved"
    store.backplane().listen(space.namespace).close()
    store.close()


@pytest.mark.slow
def test_a_primary_is_killed_under_load(run: Run, own_cluster: RedisCluster) -> None:
    """What the others have goes on at once; the dead one costs one time-out, then fails fast, then is replaced."""
    store = RedisStore(own_cluster.url)
    space = space_of(store)
    run(store, put(space, NAMES))
    for node in own_cluster.nodes:
        if own_cluster.role(node) == "master":
            with node.client() as client:
                client.execute_command("WAIT", 1, 5000)
    slots = {name: space._home(name).slot for name in NAMES}
    victim = owner(own_cluster, store, slots[NAMES[0]])
    lost = [name for name in NAMES if owner(own_cluster, store, slots[name]) is victim]
    rest = [name for name in NAMES if name not in lost]
    listener = store.backplane().listen(space.namespace)
    victim.pause()  # worse than dead: it answers nothing
    begin = time.monotonic()
    assert run(store, space.read(rest[0])).data == b"value"
    results = [attempt(lambda: run(store, space.read(lost[0]))) for _ in range(50)]
    assert all(isinstance(result, StoreError) for result in results)
    assert sum(result.kind == "timeout" for result in results) <= 10, "it was not kept away from"
    assert run(store, space.read(rest[0])).data == b"value"
    run(store, space.invalidate([Target(name, None) for name in rest[:5]]))
    with pytest.raises(StoreError):
        listener.ping(1.0)

    def written() -> bool:
        result = attempt(lambda: run(store, put(space, lost, b"new")))
        return result == [True] * len(lost)

    until(written, "writes are back")
    took = time.monotonic() - begin
    assert took < 1.5 * own_cluster.node_timeout / 1000 + 2 + 10  # generously: the machine is busy
    assert {found.data for found in run(store, space.read_many(lost))} == {b"new"}
    store.backplane().listen(space.namespace).close()
    victim.resume()
    until(lambda: own_cluster.role(victim) == "slave", "the old primary steps down")
    run(store, put(space, NAMES, b"newer"))
    assert {found.data for found in run(store, space.read_many(NAMES))} == {b"newer"}
    store.close()


@pytest.fixture
def bare_cluster() -> Iterator[RedisCluster]:
    """Without replicas."""
    yield from kept(RedisCluster(replicas=0, node_timeout=1000))


@pytest.mark.slow
def test_a_cluster_that_is_down_says_so(run: Run, bare_cluster: RedisCluster) -> None:
    store = RedisStore(bare_cluster.url)
    space = space_of(store)
    run(store, put(space, NAMES))
    owners = {name: owner(bare_cluster, store, space._home(name).slot) for name in NAMES}
    victim = owners[NAMES[0]]
    name = next(name for name in NAMES if owners[name] is not victim)
    victim.kill()
    kinds = set()

    def down() -> bool:
        result = attempt(lambda: run(store, space.read(name)))
        kinds.add(getattr(result, "kind", "fine"))
        return "cluster" in kinds

    until(down, "the others say that the cluster is down")
    assert kinds <= {"cluster", "fine"}
    store.close()


def reads_of(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_get", {}).get("calls", 0))


def replicas_of(cluster: RedisCluster) -> list[RedisServer]:
    return [node for node in cluster.nodes if cluster.role(node) == "slave"]


def heard(run: Run, store: RedisStore, space: Any) -> None:
    """Two rounds of what a tier does every second: now it is known how far the replicas are."""
    for _ in range(2):
        run(store, space.counters())


def test_replicas_answer_reads(run: Run, redis_cluster: RedisCluster) -> None:
    store = RedisStore(redis_cluster.url, replicas=True, replica_lag=5.0)
    space = space_of(store)
    run(store, put(space, NAMES))
    replicas = replicas_of(redis_cluster)
    fresh = space_of(store)
    fresh.namespace, fresh._homes, fresh._by_hex = space.namespace, space._homes, space._by_hex
    fresh.words = space.words

    def answered() -> bool:
        """By replicas alone, once they are known to have all."""
        heard(run, store, fresh)
        before = sum(map(reads_of, replicas))
        assert {found.data for found in run(store, fresh.read_many(NAMES))} == {b"value"}
        for name in NAMES[:50]:
            assert run(store, fresh.read(name)).data == b"value"
        return sum(map(reads_of, replicas)) - before == 306

    until(answered, "replicas answer")
    before = sum(map(reads_of, replicas))
    run(store, fresh.read_many(NAMES, primary=True))
    run(store, fresh.read(NAMES[0], primary=True))
    run(store, space.read_many(NAMES))  # of this space all buckets were written a moment ago
    run(store, fresh.lease(NAMES, b"token", 1.0))
    assert sum(map(reads_of, replicas)) == before
    heard(run, store, fresh)
    fresh.note_invalidated(int(NAMES[3][2:4], 16))
    run(store, fresh.read(NAMES[3]))
    assert sum(map(reads_of, replicas)) == before
    run(store, fresh.read(NAMES[4]))
    assert sum(map(reads_of, replicas)) == before + 1
    store.close()


@pytest.mark.slow
def test_replicas_that_lag_do_not_answer(run: Run, own_cluster: RedisCluster) -> None:
    """Cut off from its primary a replica has old values for ever, and no read after an invalidation sees them."""
    lag = 1.0
    store = RedisStore(own_cluster.url, replicas=True, replica_lag=lag)
    space = space_of(store)
    run(store, put(space, NAMES, b"old"))
    replicas = replicas_of(own_cluster)
    until(lambda: heard(run, store, space) or all_fresh(store), "replicas are watched")
    for node in own_cluster.nodes:
        if node not in replicas:
            with node.client() as client:
                # Its replicas are cut off, and cannot log in any more.
                client.config_set("requirepass", "changed")
                client.execute_command("CLIENT KILL TYPE replica")
    begin = time.monotonic()
    run(store, put(space, NAMES, b"new"))
    while time.monotonic() - begin < 3 * lag:
        assert {found.data for found in run(store, space.read_many(NAMES))} == {b"new"}
        assert run(store, space.read(NAMES[7])).data == b"new"
        attempt(lambda: run(store, space.counters()))
    for replica in replicas:  # which do have the old ones
        with replica.client() as client:
            client.execute_command("READONLY")
            found = [client.get(key) for key in client.keys(f"fc:{{{space.namespace}:*}}:k:*")]
            assert found and all(value.endswith(b"old") for value in found)
    store.close()


def all_fresh(store: RedisStore) -> bool:
    return all(r.until > now() for r in store._cluster._replicas.values())


def test_a_replica_that_is_gone_is_no_error(run: Run, own_cluster: RedisCluster) -> None:
    store = RedisStore(own_cluster.url, replicas=True, replica_lag=60.0)
    space = space_of(store)
    other = store.space(space.namespace, b"another.")
    run(store, put(space, NAMES))
    until(lambda: heard(run, store, other) or all_fresh(store), "replicas are watched")
    for replica in replicas_of(own_cluster):
        replica.kill()
    results = [attempt(lambda n=name: run(store, other.read(n))) for name in NAMES]
    # Connections that were open broke: those reads are lost. Whoever connects anew goes on to the primary.
    assert sum(isinstance(result, StoreError) for result in results) <= 6
    assert {found.data for found in run(store, other.read_many(NAMES))} == {b"value"}
    store.close()
