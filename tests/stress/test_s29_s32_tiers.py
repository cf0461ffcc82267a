"""Scenarios 29 to 32: clocks that differ, many processes that miss one key, hostile bytes in L2, hostile keys."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import random
import sqlite3
import struct
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress.support import scaled
from stress.tiers import a_namespace, children, numbers, open_store, tier, until

from fastcache._envelope import Codec
from fastcache._keys import encode, name_of_encoded
from fastcache.serializers import Json, Msgpack, Pickle
from fastcache.stores.protocol import Fill, bucket_of

# ---- 29: clocks ------------------------------------------------------------------------------------

ELSEWHERE = """
shift = float(sys.argv[3])
# this host's clock is wrong: every clock that somebody may set
for name in ("time", "time_ns", "clock_gettime", "clock_gettime_ns"):
    def shifted(*arguments, real=getattr(time, name), unit=10**9 if name.endswith("ns") else 1):
        if arguments and arguments[0] != time.CLOCK_REALTIME:
            return real(*arguments)
        return real(*arguments) + type(real(*arguments))(shift * unit)
    setattr(time, name, shifted)
rows = {}
with tier(sys.argv[1], sys.argv[2], loader=lambda key: rows[key], ttl=1000) as cache:
    print("ready", time.time(), flush=True)
    for line in sys.stdin:
        print(repr(eval(line)), flush=True)
"""


@pytest.mark.parametrize("shift", [3600, -3600])
def test_hosts_whose_clocks_differ(l2: str, shift: int) -> None:
    if l2.startswith("sqlite"):
        pytest.skip("its file is for the processes of one host")
    namespace = a_namespace()
    rows: dict[str, Any] = {}
    with (
        children(ELSEWHERE, [(l2, namespace, shift)]) as (child,),
        tier(l2, namespace, loader=lambda key: rows.get(key, "loaded here"), ttl=1000) as here,
    ):

        def there(code: str) -> Any:
            child.say(code)
            return eval(child.line())

        assert abs(float(child.line().split()[1]) - time.time() - shift) < 60
        # a ttl is a duration
        there("cache.set('long', 1, ttl=100)")
        assert here.get("long") == 1
        # the message of the write may come after the read, which is then made anew
        left = until(
            lambda: here.get("long") and "long" in here.l1 and here.l1.ttl("long"), "in L1 here"
        )
        assert 90 < left <= 100
        here.set("mine", 2, ttl=100)
        assert there("cache.get('mine')") == 2
        code = "cache.get('mine') and 'mine' in cache.l1 and cache.l1.ttl('mine')"
        assert 90 < until(lambda: there(code), "in L1 there") <= 100
        set_at = time.monotonic()
        there("cache.set('short', 3, ttl=2)")
        assert here.get("short") == 3
        until(lambda: here.get("short") == "loaded here", "it ends", 10)
        assert 0.9 < time.monotonic() - set_at < 4
        # tags: what was stored before an invalidation is dead, what came after is alive, whoever did it
        for number, order in enumerate([(0, 1), (1, 0), (0, 0), (1, 1)]):
            key = f"tagged-{number}"
            if order[0]:
                there(f"cache.set({key!r}, 'old', tags=['t'])")
            else:
                here.set(key, "old", tags=["t"])
            rows[key] = "new"
            there(f"rows.__setitem__({key!r}, 'new')")
            assert here.get(key) == there(f"cache.get({key!r})") == "old"
            if order[1]:
                there("cache.invalidate_tag('t')")
            else:
                here.invalidate_tag("t")
            until(lambda key=key: here.get(key) == "new", "dead here")
            until(lambda key=key: there(f"cache.get({key!r})") == "new", "dead there")
            # and what is stored now lives, on both
            if order[0]:
                there(f"cache.set({key!r}, 'newer', tags=['t'])")
            else:
                here.set(key, "newer", tags=["t"])
            until(lambda key=key: here.get(key) == "newer", "alive here")
            until(lambda key=key: there(f"cache.get({key!r})") == "newer", "alive there")
        child.end()


# ---- 30: many processes ----------------------------------------------------------------------------

HERD = """
spec, namespace, path, count, killed, lease = sys.argv[1:]
count, killed = int(count), int(killed)
words = numbers(path)   # loads begun; who is there; who is done; when each load began
lock = open(path + ".lock", "w")
import fcntl

def add(index):
    fcntl.flock(lock, fcntl.LOCK_EX)
    words[index] += 1
    number = words[index]
    fcntl.flock(lock, fcntl.LOCK_UN)
    return number

def load(key):
    number = add(0)
    words[2 + number] = time.monotonic_ns()
    if number <= killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)  # what a load takes
    return number

def one():
    global lock
    lock = open(path + ".lock", "w")  # a lock of its own, not its parent's
    with tier(spec, namespace, loader=load, ttl=3600, lease=float(lease), l2_timeout=20,
              wait_timeout=60) as cache:
        add(1)
        while words[1] < count:
            time.sleep(count / 10_000)  # hundreds that wait leave the others a processor
        value = cache.get("cold")
        os.write(1, b"%d\\n" % value)
    os._exit(0)

for _ in range(count):
    if os.fork() == 0:
        try:
            one()
        finally:
            os._exit(1)
codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(count)]
print("codes", codes.count(0), codes.count(-9), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 2])
def test_many_processes_miss_one_key(l2: str, tmp_path: Path, killed: int) -> None:
    # longer than a load takes where so many share the processors
    count, lease = scaled(50, 500), scaled(1, 10) if killed else 30
    if l2.startswith(("memcached", "redis+")):
        count = scaled(25, 500)
    path = tmp_path / "words"
    words = numbers(path, 16)
    with children(HERD, [(l2, a_namespace(), path, count, killed, lease)]) as (herd,):
        lines = [herd.line() for _ in range(count - killed)]
        assert herd.line() == f"codes {count - killed} {killed}"
        herd.end()
    assert words[0] == killed + 1, "more loads than leases"
    assert set(lines) == {str(killed + 1)}
    begun = [words[3 + n] / 1e9 for n in range(killed + 1)]
    for earlier, later in itertools.pairwise(begun):
        assert later - earlier > 0.9 * lease, "a lease was not waited for"


# ---- 31: hostile bytes -----------------------------------------------------------------------------


class Raw:
    """Writes into L2 what no fastcache would, by clients that are not ours."""

    def __init__(self, spec: str, namespace: str) -> None:
        self.spec, self.namespace = spec, namespace

    def write(self, key: Any, data: bytes) -> None:
        name = name_of_encoded(encode(key))
        if self.spec.startswith("redis"):
            self._redis(name, struct.pack(">Q", 0) + data)
        elif self.spec.startswith("sqlite"):
            self._sqlite(name, data)
        else:
            self._memcached(name, data)

    def _redis(self, name: str, data: bytes) -> None:
        import redis

        key = b"fc:{%b:%02x}:%b" % (self.namespace.encode(), bucket_of(name), name.encode())
        with redis.Redis.from_url(self.spec) as client:
            assert client.set(key, data)

    def _sqlite(self, name: str, data: bytes) -> None:
        connection = sqlite3.connect(self.spec.partition(":")[2], timeout=10)
        with connection:
            done = connection.execute(
                "UPDATE value SET data = ? WHERE name LIKE ?", (data, f"%{name}")
            )
        connection.close()
        assert done.rowcount == 1

    def _memcached(self, name: str, data: bytes) -> None:
        # the layout of its items is its own, so it is written as `put` does
        store = open_store(self.spec)
        space = store.space(self.namespace, os.urandom(8))
        from fastcache.stores.protocol import Target

        try:
            assert store.run(space.put([Fill(name, b"", data, 1000.0)], [Target(name, None)])) == [
                True
            ]
        finally:
            store.close()


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def envelope(key: Any, value: Any, serializer: Any = None, version: int = 1) -> bytes:
    """Later than every tag."""
    return Codec(serializer or Msgpack(), version, compress_above=None).pack(
        encode(key), value, ttl=1000.0, extra=0.0, sequence=2**62
    )


def resealed(data: bytes) -> bytes:
    """With the checksum that it should have: who writes to L2 can compute it."""
    from xxhash import xxh3_64_digest

    return data[:-8] + xxh3_64_digest(data[:-8])


def claims(data: bytes) -> list[bytes]:
    """Sizes of 512 MB and more that nothing is behind, with a checksum that fits."""
    found = []
    for place in (
        51,
        55,
        59,
        63,
    ):  # of the tags, the key, the payload, and the payload decompressed
        for claim in (0x20000000, 0xFFFFFFFF):
            changed = bytearray(data)
            changed[place : place + 4] = struct.pack(">I", claim)
            found.append(resealed(bytes(changed)))
    return found


@pytest.fixture(params=["redis", "memcached", "sqlite"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'l2.db'}"
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return f"memcached:{request.getfixturevalue('memcached').address}"


def test_hostile_bytes_are_a_miss(plain: str, tmp_path: Path) -> None:
    namespace, mark = a_namespace(), tmp_path / "executed"
    raw, choose = Raw(plain, namespace), random.Random(31)
    key, value = "key", {"name": "x" * 100, "n": [1, 2, 3]}
    good = envelope(key, value)
    bomb = pickle.dumps(Bomb(mark))
    signed = Pickle(b"k" * 32)
    bomb_envelope = envelope(key, Bomb(mark), signed)
    hostile = [
        bomb,
        bomb_envelope,
        good.replace(b"x" * 10, bomb[:10]),
        resealed(good[:17] + bytes([signed.tag]) + good[18:]),
        envelope(key, value, Json()),
        envelope(key, value, version=0),
        envelope(key, value, version=2),
        envelope("another key", value),
        b"\xfd" + good[1:],
        *(good[:size] for size in {0, 1, 8, 9, 20, 60, len(good) - 1}),
        *(resealed(good[: len(good) - size]) for size in (1, 9, 60)),
        good + b"x",
        *(bytes([*good[:n], good[n] ^ 1, *good[n + 1 :]]) for n in range(0, len(good), 3)),
        *claims(good),
        *(choose.randbytes(choose.randrange(1, 300)) for _ in range(scaled(20, 2000))),
        b"$" * 600_000,
    ]
    loads = []
    with (
        tier(plain, namespace, loader=lambda k: (loads.append(k), value)[1], ttl=3600) as first,
    ):
        for number, data in enumerate(hostile):
            assert first.get(key) == value
            raw.write(key, data)
            before, loaded = first.stats().l2, len(loads)
            first.l1.clear()
            assert first.get(key) == value, (number, data[:80])
            after = first.stats().l2
            assert len(loads) == loaded + 1, f"taken for a value: {number} {data[:80]!r}"
            bad = sum(after.undecodable.values()) - sum(before.undecodable.values())
            # nothing at all is no value to some
            assert bad >= 1 or after.errors != before.errors or not data, (number, data[:80])
            first.l1.clear()
            assert first.get(key) == value
            assert len(loads) == loaded + 1, f"what was loaded did not take its place: {number}"
        # what is right still is taken
        raw.write(key, envelope(key, "from elsewhere"))
        first.l1.clear()
        assert first.get(key) == "from elsewhere"
        assert {"schema", "checksum", "key", "truncated"} <= set(first.stats().l2.undecodable)
    assert not mark.exists(), "code was run"


def test_wrong_types_in_redis(redis_server: Any) -> None:
    """Lists and sets where values, leases, counters and tags belong."""
    namespace, rows = a_namespace(), {n: f"value {n}" for n in range(8)}
    with (
        tier(redis_server.url, namespace, loader=rows.__getitem__, ttl=3600) as cache,
        redis_server.client() as client,
    ):
        assert cache.get_many(rows) == rows
        cache.get_or_set("tagged", lambda: 1, tags=["t"])
        for found in [*client.scan_iter(f"fc:{{{namespace}:*")]:
            # in one step, or a heartbeat makes the counter anew in between
            client.pipeline().delete(found).rpush(found, "a", "list").execute()
        for key in rows:
            name = name_of_encoded(encode(key))
            home = b"fc:{%b:%02x}:" % (namespace.encode(), bucket_of(name))
            client.delete(home + name.encode())
            client.rpush(home + name.encode() + b":lease", "a list")
        cache.l1.clear()
        for key, value in rows.items():
            assert cache.get(key) == value
        assert cache.get_many(rows) == rows
        cache.invalidate(0)
        rows[0] = "new"
        assert cache.get(0) == "new"
        assert cache.stats().l2.errors


# ---- 32: hostile keys ------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    "", " ", "a b", "a\tb", "a\r\nb", "a\r\nflush_all\r\n", "\0", "a\0b", "*3\r\n$3\r\nSET\r\n",
    "x" * 300, "x" * 100_000, "\ud800", "\udfff", "a\udc80b", "{a}", "}{", "fc:{a:00}:b",
    "'; DROP TABLE value; --", "%s%n", "../../etc/passwd", "\u202eabc",
    "\u00e9", unicodedata.normalize("NFD", "\u00e9"), "\u212b", "\u00c5", "A\u030a",
    "\u00df", "SS", "I", "\u0131", "\u0130", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f3f3",
    b"", b"\0\xff\r\n", b"a b", None, True, 0, -1, 2**63, -(2**63) - 1, 2**300,
    1.5, -0.5, math.inf, -math.inf, (), ((),), (((),),), ("a",), ("a", None), ("a", "b"), ("ab",),
    ("a b",), tuple(range(2000)), (1, (2, (3, (4,)))), (b"a", "a"), frozenset(), frozenset({1, 2}),
    frozenset({"a"}),
]  # fmt: skip


def test_hostile_keys_through_the_whole_stack(l2: str) -> None:
    """Each has a value of its own, whoever asks, and is invalidated alone."""
    namespace, rows = a_namespace(), dict.fromkeys(HOSTILE)
    assert len(rows) == len(HOSTILE)
    rows.update({key: number for number, key in enumerate(HOSTILE)})
    with (
        tier(l2, namespace, loader=rows.__getitem__, ttl=3600) as one,
        tier(l2, namespace, loader=rows.__getitem__, ttl=3600) as other,
    ):
        for key in HOSTILE:
            assert one.get(key) == rows[key], ascii(key)[:80]
        with tier(l2, namespace) as reader:
            assert reader.get_many(HOSTILE) == rows, "each lies in L2 under its own name"
        assert other.get_many(HOSTILE) == rows
        assert other.stats().loads == 0
        until(lambda: other.stats().state == "healthy", "it hears")
        for number, key in enumerate(HOSTILE):
            rows[key] = ["changed", number]
            if number % 3:
                assert one.invalidate(key)
            else:
                one.set(key, ["changed", number])
        for key in HOSTILE:
            assert one.get(key) == rows[key]
            until(lambda key=key: other.get(key) == rows[key], ascii(key)[:80])


KEYS = st.recursive(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=40),
        st.binary(max_size=40),
        st.integers(),
        st.floats(allow_nan=False),
        st.none(),
        st.booleans(),
    ),
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def test_no_two_keys_on_one_name(plain: str) -> None:
    """Any keys that differ have values of their own, and equal ones the same."""
    with tier(plain, a_namespace(), ttl=3600) as one, tier(plain, one.namespace, ttl=3600) as other:

        @settings(
            max_examples=scaled(60, 5000), deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.lists(KEYS, min_size=2, max_size=8))
        def check(keys: list[Any]) -> None:
            rows: dict[Any, int] = {}
            for number, key in enumerate(keys):
                rows[key] = number
                one.set(key, number)
            other.l1.clear()
            assert other.get_many(keys) == rows
            for key in keys:
                other.l1.clear()
                assert other.get(key) == rows[key]
            assert len({one._core.place(key)[1] for key in rows}) == len(rows)

        check()
