"""MemcachedStore where things go wrong: the network, the server, the moment. Real servers behind a FaultProxy."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _memcached import Opened, fresh_space, name_of, opened, target_of
from _support import run_python, run_threads
from servers.memcached import MemcachedServer

from fastcache.stores import MemcachedStore, StoreError
from fastcache.stores.memcached import meta
from fastcache.stores.memcached.nodes import Batch
from fastcache.stores.protocol import Fill, Space
from fastcache.testing import FaultProxy

__all__ = ["opened"]
SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")


@pytest.fixture
def proxy(memcached: MemcachedServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", memcached.port) as proxy:
        yield proxy


class Both:
    """One store used through threads, or through an event loop."""

    def __init__(self, store: MemcachedStore, face: str) -> None:
        self.store = store
        self.runner = asyncio.Runner() if face == "async" else None
        self.space: Space = fresh_space(store)

    def __call__(self, steps: Any) -> Any:
        if self.runner is None:
            return self.store.run(steps)
        return self.runner.run(self.store.arun(steps))

    def store_value(self, key: str, data: bytes) -> None:
        self(self.space.put([Fill(name_of(key), b"", data, 100)], [target_of(key)]))

    def data(self, key: str) -> bytes | None:
        found = self(self.space.read(name_of(key)))
        return None if found is None else found.data


@pytest.fixture(params=["sync", "async"])
def both(
    request: pytest.FixtureRequest, proxy: FaultProxy, opened: Opened
) -> Iterator[Callable[..., Both]]:
    made = []

    def make(**options: Any) -> Both:
        both = Both(opened(proxy.address, **{"timeout": 0.2, **options}), request.param)
        made.append(both)
        return both

    yield make
    for both in made:
        if both.runner is not None:
            both.runner.close()


def kind_of(call: Callable[[], Any]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    assert "127.0.0.1:" in str(caught.value)
    return caught.value.kind


# ---- what the network does ------------------------------------------------------------------------


def test_time_outs_and_refusals(both: Callable[..., Both], proxy: FaultProxy) -> None:
    l2 = both()
    l2.store_value("a", b"value")
    proxy.black_hole()
    start = time.monotonic()
    assert kind_of(lambda: l2.data("a")) == "timeout"
    assert time.monotonic() - start < 5
    proxy.reset()
    proxy.heal()
    assert l2.data("a") == b"value"
    proxy.refuse()
    assert l2.data("a") == b"value"  # the connection is there
    proxy.reset()
    assert kind_of(lambda: l2.data("a")) == "refused"
    proxy.heal()
    assert l2.data("a") == b"value"
    assert next(iter(l2.store.failures.values())) == {"timeout": 1, "refused": 1}


def test_an_answer_byte_by_byte_is_given_up_in_time(
    both: Callable[..., Both], proxy: FaultProxy
) -> None:
    """Bytes that trickle in do not make the time-out begin anew."""
    l2 = both(timeout=0.3)
    l2.store_value("a", b"x" * 1000)
    proxy.throttle(1, 0.01)
    start = time.monotonic()
    assert kind_of(lambda: l2.data("a")) == "timeout"
    assert time.monotonic() - start < 5
    proxy.heal()
    assert l2.data("a") == b"x" * 1000


def test_a_late_answer_is_nobody_elses(both: Callable[..., Both], proxy: FaultProxy) -> None:
    l2 = both()
    for key in "ab":
        l2.store_value(key, key.encode())
    proxy.latency(0.4)
    assert kind_of(lambda: l2.data("a")) == "timeout"
    proxy.heal()
    for _ in range(20):
        assert l2.data("b") == b"b"


def test_answers_cut_short_at_each_byte(both: Callable[..., Both], proxy: FaultProxy) -> None:
    l2 = both(timeout=2.0)
    l2.store_value("a", b"value")
    l2.data("a")
    whole = len(b"VA 7 f1 t100 O12\r\nvalue\r\n") + 4  # opaque numbers differ in length
    seen = set()
    for size in range(whole):
        proxy.truncate(size)
        try:
            assert l2.data("a") == b"value"
            seen.add("whole")
        except StoreError as error:
            seen.add(error.kind)
        proxy.heal()
    assert seen <= {"closed", "whole"} and "closed" in seen
    assert l2.data("a") == b"value"


def test_a_flipped_bit_of_an_answers_head_is_noticed_or_harmless(
    both: Callable[..., Both], proxy: FaultProxy
) -> None:
    """The value itself is the envelope's to check."""
    l2 = both(timeout=0.1)
    l2.store_value("a", b"value")
    for byte in range(len(b"VA 5 f1 t99 O")):
        for bit in range(8):
            proxy.flip(byte, bit)
            try:
                found = l2.data("a")
            except StoreError as error:
                assert error.kind in ("protocol", "timeout", "old", "closed"), (byte, bit)
            else:
                # what is left, the flags, or nothing found
                assert found in (None, b"value"), (byte, bit)
            proxy.heal()
            assert l2.data("a") == b"value"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"ERROR\r\n", "protocol"),
        (b"CLIENT_ERROR bad command line format\r\n", "protocol"),
        (b"CLIENT_ERROR unauthenticated\r\n", "auth"),
        (b"SERVER_ERROR temporary failure\r\n", "other"),
        (b"ERROR Too many open connections\r\n", "clients"),
        (b"-ERR unknown command 'mg'\r\n", "old"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "old"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"VA 5 f1 t99 Offff\r\nwrong\r\n", "protocol"),
        (b"VA 5 f1 t99\r\nwrong\r\n", "protocol"),
        (b"VA 999999999999 f1 t99 O1\r\n", "protocol"),
        (b"VA -1 f1 t99 O1\r\n", "protocol"),
        (b"HD\r\n", "protocol"),
        (b"EN\r\nEN\r\n", "protocol"),
        (b"\0" * 5000, "protocol"),
        (b"VA 5 f1", "timeout"),
        (b"", "timeout"),
    ],
)
def test_answers_that_make_no_sense(
    both: Callable[..., Both], proxy: FaultProxy, reply: bytes, kind: str
) -> None:
    l2 = both()
    l2.store_value("a", b"value")
    proxy.inject(reply, times=1)
    assert kind_of(lambda: l2.data("a")) == kind
    assert l2.data("a") == b"value"


def test_a_server_without_memory_refuses_fills_only(
    both: Callable[..., Both], proxy: FaultProxy
) -> None:
    l2 = both()
    (lease,) = l2(l2.space.lease([name_of("a")], b"token", 10))
    proxy.inject(b"SERVER_ERROR out of memory storing object\r\n", b"ms ", times=1)
    assert l2(l2.space.fill([Fill(name_of("a"), lease.token, b"value", 10)])) == [False]
    assert l2.store.rejected == {"full": 1}
    assert l2.data("a") is None


# ---- cancellation ----------------------------------------------------------------------------------


def test_cancelled_at_any_moment(proxy: FaultProxy, opened: Opened) -> None:
    """Every answer belongs to its key, whatever was cancelled before it."""
    store = opened(proxy.address, timeout=5.0)
    space = fresh_space(store)
    keys = [f"key {n}" for n in range(20)]
    for key in keys:
        store.run(space.put([Fill(name_of(key), b"", key.encode() * 20, None)], [target_of(key)]))
    proxy.throttle(64, 0.0005)
    chance = random.Random(7)
    answers = [0]

    async def ask(key: str) -> None:
        found = await store.arun(space.read(name_of(key)))
        assert found is not None and found.data == key.encode() * 20
        answers[0] += 1

    async def many(key: str) -> None:
        others = chance.sample(keys, 5)
        found = await store.arun(space.read_many([name_of(k) for k in (key, *others)]))
        assert [f and f.data for f in found] == [k.encode() * 20 for k in (key, *others)]
        answers[0] += 1

    async def rounds(count: int) -> None:
        for _ in range(count):
            asking = ask if chance.random() < 0.7 else many
            task = asyncio.create_task(asking(chance.choice(keys)))
            # through so many turns of the loop, or so long
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.004)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(rounds(12_500 if SOAK else 100))
        proxy.heal()
        for key in keys:
            await ask(key)

    asyncio.run(main())
    assert answers[0] >= len(keys)


def test_loops_and_threads_share_a_store(memcached: MemcachedServer, opened: Opened) -> None:
    store = opened(memcached.address)
    space = fresh_space(store)

    def in_a_loop(number: int) -> None:
        async def main() -> None:
            async def one(n: int) -> None:
                key = f"{number}:{n}"
                await store.arun(
                    space.put([Fill(name_of(key), b"", key.encode(), 60)], [target_of(key)])
                )
                found = await store.arun(space.read(name_of(key)))
                assert found is not None and found.data == key.encode()

            await asyncio.gather(*(one(n) for n in range(50)))

        asyncio.run(main())

    def in_a_thread(number: int) -> None:
        for n in range(50):
            key = f"{number}:{n}"
            store.run(space.put([Fill(name_of(key), b"", key.encode(), 60)], [target_of(key)]))
            found = store.run(space.read(name_of(key)))
            assert found is not None and found.data == key.encode()

    calls = [lambda n=n: (in_a_loop if n % 2 else in_a_thread)(n) for n in range(6)]
    assert run_threads(calls) == [None] * 6


def test_a_forked_child_makes_its_own_connections(memcached: MemcachedServer) -> None:
    run_python(
        """
import os, sys, warnings
from fastcache.stores import MemcachedStore
from fastcache.stores.protocol import Fill, Target
store = MemcachedStore(sys.argv[1], timeout=5.0)
space = store.space("fork-" + os.urandom(4).hex(), os.urandom(8))
names = ["key:%032x" % n for n in range(50)]
for n, name in enumerate(names):
    store.run(space.put([Fill(name, b"", b"%d" % n, 60)], [Target(name, None)]))
(lease,) = store.run(space.lease(["key:%032x" % 77], b"token", 10))
child = os.fork()
for _ in range(20):
    for n, name in enumerate(names):
        found = store.run(space.read(name))
        assert found.data == b"%d" % n, (found, n)
if child == 0:
    # a lease of before goes by its token, on a connection of the child's own
    assert store.run(space.fill([Fill("key:%032x" % 77, b"token", b"v", 60)])) == [True]
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
store.close()
""",
        memcached.address,
    )


# ---- restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False])
def test_a_lease_does_not_outlive_its_server(
    own_memcached: MemcachedServer, opened: Opened, seen: bool
) -> None:
    """A restarted server counts from the beginning: another lease has the same number there."""
    one, two = opened(own_memcached.address), opened(own_memcached.address)
    space = fresh_space(one)
    other = two.space(space.namespace, os.urandom(8))
    name = name_of("a")
    (lease,) = one.run(space.lease([name], b"one", 100))
    first = space._leases[name, b"one"].cas  # type: ignore[attr-defined]
    own_memcached.kill()
    own_memcached.start()
    if seen:
        # a new connection, on which everything works
        assert one.run(space.read(name)) is None
    (theirs,) = two.run(other.lease([name], b"two", 100))
    assert theirs.ours
    assert other._leases[name, b"two"].cas == first, (
        "the numbers do not collide, this tests nothing"
    )  # type: ignore[attr-defined]
    assert one.run(space.fill([Fill(name, lease.token, b"old", 100)])) == [False]
    assert one.rejected["void"] == 1
    assert two.run(other.read(name)) is None
    assert two.run(other.fill([Fill(name, theirs.token, b"new", 100)])) == [True]


def test_a_lease_found_on_a_value_is_void_after_a_restart(
    own_memcached: MemcachedServer, opened: Opened
) -> None:
    store = opened(own_memcached.address)
    space = fresh_space(store)
    name = name_of("a")

    def fill(token: bytes, data: bytes) -> bool:
        return store.run(space.fill([Fill(name, token, data, 100)]))[0]

    store.run(space.lease([name], b"one", 100))
    assert fill(b"one", b"first")
    (lease,) = store.run(space.lease([name], b"two", 100))
    assert lease.ours and lease.found is not None and lease.found.data == b"first"
    own_memcached.kill()
    own_memcached.start()
    assert not fill(b"two", b"of before")
    assert store.run(space.read(name)) is None


def test_a_connection_made_after_the_lease_compares_its_token(
    memcached: MemcachedServer, opened: Opened
) -> None:
    store = opened(memcached.address)
    space = fresh_space(store)
    names = [name_of(n) for n in range(3)]
    for name in names:
        store.run(space.lease([name], b"token", 100))
    store.nodes[0].drop()
    assert store.run(space.fill([Fill(names[0], b"token", b"value", 100)])) == [True]
    assert store.run(space.fill([Fill(names[1], b"wrong", b"value", 100)])) == [False]
    store.run(space.invalidate([target_of(2)]))
    store.nodes[0].drop()
    assert store.run(space.fill([Fill(names[2], b"token", b"value", 100)])) == [False]


@pytest.mark.parametrize("how", ["evicted", "flushed", "taken by another"])
def test_a_lease_that_is_gone_only_costs_the_fill(
    own_memcached: MemcachedServer, opened: Opened, how: str
) -> None:
    store = opened(own_memcached.address)
    space = fresh_space(store)
    name = name_of("a")
    (lease,) = store.run(space.lease([name], b"token", 100))
    if how == "flushed":
        own_memcached.flush()
    else:
        key = f"fc:{space.namespace}:{name}".encode()
        assert own_memcached.ask(b"md " + key) == b"HD"
    if how == "taken by another":
        assert store.run(space.lease([name], b"other", 100))[0].token == b"other"
    assert store.run(space.fill([Fill(name, lease.token, b"old", 100)])) == [False]
    assert store.run(space.read(name)) is None


def test_a_put_that_fails_half_way_leaves_the_name_held(proxy: FaultProxy, opened: Opened) -> None:
    store = opened(proxy.address, timeout=0.2)
    space = fresh_space(store)
    name = name_of("a")
    proxy.cut(b"the value", reaches=False)
    with pytest.raises(StoreError):
        store.run(space.put([Fill(name, b"", b"the value", 100)], [target_of("a")]))
    (lease,) = store.run(space.lease([name], b"token", 10))
    assert lease.held  # nobody fills meanwhile
    store.run(space.invalidate([target_of("a")]))
    (lease,) = store.run(space.lease([name], b"token", 10))
    assert lease.ours and not lease.held


@pytest.mark.parametrize("filled", [False, True])
def test_a_put_that_arrives_late_replaces_nothing_newer(
    memcached: MemcachedServer, opened: Opened, filled: bool
) -> None:
    """The request with its value reaches the server after the name was invalidated."""
    store = opened(memcached.address)
    space = fresh_space(store)
    name = name_of("a")
    steps = space.put([Fill(name, b"", b"late value", 100)], [target_of("a")])
    request = next(steps)
    while not any(b"late value" in c.data for batch in request for c in batch.commands):
        request = steps.send(store.send(request))
    store.run(space.invalidate([target_of("a")]))
    if filled:
        store.run(space.lease([name], b"token", 10))
        assert store.run(space.fill([Fill(name, b"token", b"newer", 100)])) == [True]
    (answer,) = store.send(request)
    assert answer.replies[0].code in (b"NF", b"EX")
    steps.close()
    found = store.run(space.read(name))
    assert (found and found.data) == (b"newer" if filled else None)


# ---- several servers -------------------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[list[MemcachedServer]]:
    with MemcachedServer() as one, MemcachedServer() as two, MemcachedServer() as three:
        yield [one, two, three]


def by_server(space: Any, count: int = 300) -> list[list[str]]:
    """Names by the number of their server."""
    found: list[list[str]] = [[] for _ in space._store.nodes]
    for n in range(count):
        found[space._node(name_of(n))].append(name_of(n))
    return found


def test_a_dead_server_costs_its_own_names_and_they_are_never_elsewhere(
    three: list[MemcachedServer], opened: Opened
) -> None:
    store = opened([server.address for server in three], timeout=0.5)
    space = fresh_space(store)
    parts = by_server(space)
    assert all(len(part) > 30 for part in parts)
    picked = [part[0] for part in parts]
    for name in picked:
        store.run(space.lease([name], b"token", 10))
        assert store.run(space.fill([Fill(name, b"token", b"old", 1000)])) == [True]
    before = store.run(space.counters())
    three[1].kill()
    dead, alive = picked[1], [picked[0], picked[2]]
    for call in (
        lambda: space.read(dead),
        lambda: space.lease([dead], b"t", 10),
        lambda: space.invalidate([target_of("?")._replace(name=name) for name in picked]),
    ):
        with pytest.raises(StoreError) as caught:
            store.run(call())
        assert three[1].address in str(caught.value)
    # the others were invalidated all the same
    assert store.run(space.read_many(picked)) == [None, None, None]
    leases = store.run(space.lease(picked, b"again", 10))
    assert [(lease.ours, lease.held) for lease in leases] == [
        (True, False),
        (True, True),
        (True, False),
    ]
    fills = [Fill(name, b"again", b"new", 1000) for name in picked]
    assert store.run(space.fill(fills)) == [True, False, True]
    assert store.run(space.read(alive[0])).data == b"new"  # type: ignore[union-attr]
    # its counters are unlike any that were seen
    one, two = store.run(space.counters()), store.run(space.counters())
    for number, (was, now, then) in enumerate(zip(before, one, two, strict=True)):
        lost = space._nodes[number] == 1  # type: ignore[attr-defined]
        assert (now != was and then != now) if lost else now == then
    assert sum(store.failures[three[1].address].values()) > 0
    assert store.failures[three[0].address] == {}
    # back, empty
    three[1].start()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert store.run(space.read(dead)) is None
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert store.run(space.counters()) != before


def test_a_dead_server_of_several_fails_at_once_after_some_time_outs(
    three: list[MemcachedServer], opened: Opened
) -> None:
    store = opened([server.address for server in three], timeout=0.2)
    space = fresh_space(store)
    name = by_server(space)[2][0]
    store.run(space.read(name))
    three[2].pause()
    try:
        kinds = []
        for _ in range(20):
            with pytest.raises(StoreError) as caught:
                store.run(space.read(name))
            kinds.append(caught.value.kind)
        # three waited, then one in a second does
        assert kinds[:3] == ["timeout"] * 3 and kinds.count("refused") >= 12
        assert store.failures[three[2].address]["resting"] >= 12
    finally:
        three[2].resume()


def test_all_servers_dead(three: list[MemcachedServer], opened: Opened) -> None:
    store = opened([server.address for server in three])
    space = fresh_space(store)
    names = [part[0] for part in by_server(space)]
    for server in three:
        server.kill()
    for call in (
        lambda: space.read_many(names),
        lambda: space.lease(names, b"t", 10),
        lambda: space.fill([Fill(name, b"t", b"v", 10) for name in names]),
        space.counters,
        lambda: space.tags([b"tag"]),
        store.check,
    ):
        with pytest.raises(StoreError):
            store.run(call())
        with pytest.raises(StoreError):
            asyncio.run(store.arun(call()))


# ---- races -----------------------------------------------------------------------------------------

RACE = """
import mmap, os, random, struct, sys, time
from fastcache.stores import MemcachedStore
from fastcache.stores.memcached import meta
from fastcache.stores.memcached.nodes import Batch
from fastcache.stores.protocol import Fill, Target

address, fenced, rounds = sys.argv[1].split(","), sys.argv[2] == "fenced", int(sys.argv[3])
KEYS = 8
source = memoryview(mmap.mmap(-1, 8 * KEYS)).cast("Q")  # version of each key, shared by all
names = ["key:%02x%030x" % (n * 31, n) for n in range(KEYS)]
namespace = "race-" + os.urandom(4).hex()

def read(store, space, chance):
    n = chance.randrange(KEYS)
    name = names[n]
    if store.run(space.read(name)) is not None:
        return 0
    token = os.urandom(16)
    if fenced:
        (lease,) = store.run(space.lease([name], token, 5.0))
        if lease.held:
            return 0
    version = source[n]
    if chance.random() < 0.3:
        time.sleep(chance.random() * 0.002)  # a load that takes its time
    data = b"v%d" % version
    if fenced:
        return store.run(space.fill([Fill(name, lease.token, data, 100.0)]))[0]
    key, node = space._key(name), space._node(name)
    store.send(Batch(node, [meta.put(key, data, b"T100 F1")]))
    return 1

def write(store, space, chance, mine):
    n = chance.choice(mine)
    target = Target(names[n], b"")
    how = chance.random() if fenced else 1.0
    if how < 0.2:
        token = os.urandom(16)
        store.run(space.hold([target], token, 5.0))
        source[n] += 1
        if chance.random() < 0.5:
            store.run(space.put([Fill(names[n], token, b"v%d" % source[n], 100.0)], [target]))
        else:
            store.run(space.invalidate([target]))
    else:
        source[n] += 1
        store.run(space.invalidate([target]))

def work(number):
    store = MemcachedStore(address, timeout=20.0, connect_timeout=20.0)
    space = store.space(namespace, os.urandom(8))
    chance = random.Random(number)
    filled = 0
    mine = [n for n in range(KEYS) if n % 2 == number % 2]  # one writer a key
    for _ in range(rounds):
        if number < 2 and chance.random() < 0.3:
            write(store, space, chance, mine)
        else:
            filled += read(store, space, chance)
    store.close()
    os._exit(0 if filled else 9)

children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        try:
            work(number)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == [0] * 4, codes
store = MemcachedStore(address, timeout=20.0)
space = store.space(namespace, os.urandom(8))
stale = there = 0
for n, found in enumerate(store.run(space.read_many(names))):
    if found is not None:
        there += 1
        stale += found.data != b"v%d" % source[n]
store.close()
print(stale, there)
"""


def test_nothing_is_stale_after_races_of_processes(memcached: MemcachedServer) -> None:
    stale = there = 0
    for _ in range(50 if SOAK else 3):
        s, t = map(int, run_python(RACE, memcached.address, "fenced", "700").split())
        stale, there = stale + s, there + t
    assert stale == 0 and there > 0


def test_nothing_is_stale_after_races_over_three_servers(three: list[MemcachedServer]) -> None:
    servers = ",".join(server.address for server in three)
    stale, there = map(int, run_python(RACE, servers, "fenced", "700").split())
    assert stale == 0 and there > 0


def test_the_race_finds_what_has_no_fence(memcached: MemcachedServer) -> None:
    for _ in range(30):
        stale, _ = map(int, run_python(RACE, memcached.address, "bare", "700").split())
        if stale:
            return
    raise AssertionError("a cache without leases was never stale: the race shows nothing")


def test_a_request_of_many_commands_needs_no_room_in_between(
    memcached: MemcachedServer, opened: Opened
) -> None:
    """Thousands of names and large answers: neither side waits for the other to read."""
    store = opened(memcached.address, timeout=20.0)
    space = fresh_space(store)
    big = os.urandom(20_000)
    names = [name_of(n) for n in range(3000)]
    for start in range(0, 600, 100):
        fills = [Fill(name, b"t", big, 100) for name in names[start : start + 100]]
        store.run(space.lease([fill.name for fill in fills], b"t", 10))
        assert all(store.run(space.fill(fills)))
    found = store.run(space.read_many(names))
    assert [f is not None and f.data == big for f in found] == [True] * 600 + [False] * 2400
    assert asyncio.run(store.arun(space.read_many(names))) is not None
    answer = store.send(Batch(0, [meta.VERSION]))
    assert answer.replies[0].data.startswith(b"VERSION")
