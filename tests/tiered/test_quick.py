"""The usual miss of L1, that L2 has: one round trip, fenced like a load; and whatever is unusual is a load's. And the
usual write that waits for its source."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers import until
from servers.redis import RedisServer
from tiered.support import Thread

from fastcache import MISSING, AsyncTieredCache, Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.stores.protocol import StoreError
from fastcache.writing import Closed, Op, SQLiteWriter, WriteBehind


class Watched(RedisStore):
    """Counts reads of single values; something may happen before, or after, their answers come."""

    reads = 0
    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def send(self, request: Any) -> Any:
        if type(request) is not tuple or b"\r\nGET\r\n" not in request[1]:
            return super().send(request)
        self.reads += 1
        self.before()
        answer = super().send(request)
        self.after()
        return answer


class Pair:
    """Two processes' worth of caches: `mine` is looked at, `other` does things."""

    def __init__(self, url: str, **options: Any) -> None:
        self.source: dict[str, Any] = {"a": 1, "b": 2}
        self.loads = 0
        self.store = Watched(url)
        self.name = name = f"quick.{uuid.uuid4().hex}"
        self.other = TieredCache[str, Any](
            Cache(10), RedisStore(url), namespace=name, ttl=60, loader=self._load
        )
        self.mine = TieredCache[str, Any](
            Cache(10), self.store, namespace=name, ttl=60, loader=self._load, **options
        )
        self.mine.get("to hear", None)
        until(lambda: bool(self.mine._trust), "it is trusted")
        self.mine.invalidate("to hear")
        self.mine.stats(reset=True)
        self.store.reads = self.loads = 0

    def _load(self, key: str) -> Any:
        self.loads += 1
        return self.source.get(key, MISSING)

    def close(self) -> None:
        for tiers in (self.mine, self.other):
            tiers.close()
            tiers.l2.close()  # type: ignore[union-attr]


@pytest.fixture
def make(redis_server: RedisServer) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def one(**options: Any) -> Pair:
        made.append(Pair(redis_server.url, **options))
        return made[-1]

    yield one
    for pair in made:
        pair.close()


def test_a_hit_in_l2_is_one_request(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.other.get("a")
    pair.mine.get("b")  # the tags' numbers are known from here on
    pair.store.reads, pair.loads = 0, 0
    pair.mine.stats(reset=True)
    assert pair.mine.get("a") == 1
    assert (pair.store.reads, pair.loads) == (1, 0)
    stats = pair.mine.stats()
    assert (stats.l2.hits, stats.l2.misses, stats.l1.misses) == (1, 0, 1)
    assert pair.mine.get("a") == 1
    assert pair.store.reads == 1
    left = pair.mine.l1.ttl("a")
    assert left is not None
    assert 50 < left <= 60


@pytest.mark.parametrize("key", ["a", "nowhere"])
def test_a_load_asks_l2_no_more_than_once(make: Callable[..., Pair], key: str) -> None:
    pair = make()
    assert pair.mine.get(key) == pair.source.get(key)
    assert (pair.store.reads, pair.loads) == (1, 1)
    stats = pair.mine.stats()
    assert (stats.l2.hits, stats.l2.misses, stats.l2.fills) == (0, 1, 1)


def test_what_does_not_exist_is_known_from_l2(make: Callable[..., Pair]) -> None:
    pair = make()
    assert pair.other.get("nowhere", 5) == 5
    pair.loads = 0
    assert pair.mine.get("nowhere", 6) == 6
    assert (pair.store.reads, pair.loads, pair.mine.stats().l2.hits) == (1, 0, 1)


def test_a_value_that_cannot_be_read_is_counted_once(
    make: Callable[..., Pair], redis_server: RedisServer
) -> None:
    pair = make()
    pair.other.get("a")
    name = pair.mine._core.place("a")[1]
    with redis_server.client() as client:
        (key,) = client.keys(f"fc:{{{pair.name}:*:{name}")
        data = bytearray(client.get(key))
        data[60] ^= 1
        client.set(key, bytes(data))
    assert pair.mine.get("a") == 1
    stats = pair.mine.stats()
    assert (sum(stats.l2.undecodable.values()), stats.l2.misses, stats.loads) == (1, 1, 1)


def test_tags_and_counters_are_heeded(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.other.set("tagged", "old", tags=["x"])
    assert pair.mine.get("tagged") == "old"
    pair.other.set("tagged too", "old", tags=["x"])
    pair.other.invalidate_tag("x")
    until(lambda: pair.mine.get("tagged too") is None, "it is heard")
    pair.other.incr("n", 5)
    assert (pair.mine.get("n"), "n" in pair.mine.l1) == (5, False)
    pair.other.set("a", "old")
    pair.other.bump_version()
    until(lambda: pair.mine.get("a") == 1, "it is heard")


def test_what_is_invalidated_while_it_is_read_is_not_kept(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.other.get("a")
    pair.mine.get("b")
    pair.store.after = lambda: pair.mine.invalidate("a")
    assert pair.mine.get("a") == 1  # the reader had come before
    assert "a" not in pair.mine.l1
    pair.store.after = lambda: None
    pair.source["a"] = 7
    assert pair.mine.get("a") == 7


def test_an_l2_that_fails_costs_one_request(make: Callable[..., Pair]) -> None:
    pair = make()

    def fail() -> None:
        raise StoreError("somewhere", "timeout", "no answer")

    pair.store.before = fail
    assert pair.mine.get("a") == 1
    assert (pair.store.reads, pair.loads) == (1, 1)
    assert pair.mine.stats().l2.errors == {"timeout": 1}


def test_who_tries_again_asks_again(make: Callable[..., Pair]) -> None:
    pair = make()

    def interrupt() -> None:
        pair.store.before = lambda: None
        raise KeyboardInterrupt

    pair.store.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        pair.mine.get("a")
    pair.other.get("a")
    pair.loads = 0
    assert pair.mine.get("a") == 1
    assert (pair.store.reads, pair.loads) == (2, 0)


def test_a_load_that_ends_its_caller_leaves_no_answer_behind(make: Callable[..., Pair]) -> None:
    pair = make()

    class Once:
        ended = False

        def load(self) -> Any:
            if not self.ended:
                self.ended = True
                raise SystemExit(3)
            return "made"

    once = Once()
    with pytest.raises(SystemExit):
        pair.mine.get_or_set("made here", once.load)
    assert pair.mine.get_or_set("made here", once.load) == "made"


@pytest.mark.parametrize(
    "options", [{"copy": list}, {"early": 1.0}, {"stale": 5, "soft_timeout": 0.3}, {"grace": 5}]
)
def test_options_that_make_it_unusual(make: Callable[..., Pair], options: dict[str, Any]) -> None:
    pair = make(**options)
    pair.source["c"] = [1]
    pair.other.get("c")
    pair.loads = 0
    first = pair.mine.get("c")
    assert (first, pair.loads, pair.store.reads) == ([1], 0, 1)
    assert pair.mine.get("c") == [1]
    if "copy" in options:
        first.append(2)
        assert pair.mine.get("c") == [1]


def test_a_key_without_a_name(make: Callable[..., Pair]) -> None:
    pair = make()
    with pytest.raises(TypeError, match="object"):
        pair.mine.get(object())  # type: ignore[arg-type]
    assert pair.mine.get("a") == 1


# ---- writes that are acknowledged before they are made -------------------------------------------


class Between(WriteBehind):
    """Something may happen once a write is acknowledged, before its caller hears of it."""

    then: Callable[[], object] | None = None

    def put(self, key: Any, value: Any) -> None:
        super().put(key, value)
        self._go_on()

    def write(self, ops: Sequence[Op]) -> None:
        super().write(ops)
        self._go_on()

    def _go_on(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()


class Nowhere:
    def apply(self, ops: Sequence[Op]) -> None:
        raise OSError("down")


@pytest.fixture
def behind() -> Iterator[Between]:
    writer = Between(Nowhere(), delay=3600)
    yield writer
    writer.close(0)


#: Of `set`: what is usual, and what is left to the general way.
WAYS = pytest.mark.parametrize(
    "how", [{}, {"ttl": 60}, {"tags": ["t"]}], ids=["usual", "ttl", "tags"]
)


@WAYS
def test_of_two_that_set_at_once_the_later_is_read(behind: Between, how: dict[str, Any]) -> None:
    t = TieredCache[str, int](Cache(10), writer=behind, loader=lambda key: MISSING)
    behind.then = lambda: t.set("a", 2, **how)
    t.set("a", 1, **how)
    assert t.get("a") == behind.pending("a").value == 2  # type: ignore[union-attr]
    behind.then = lambda: t.delete("a")
    t.set("a", 3, **how)
    assert t.get("a") is None
    behind.then = lambda: t.invalidate("a")
    t.set("a", 4, **how)
    assert t.peek_l1("a") is None and t.get("a") == 4
    t.set("a", 5, **how)
    assert t.peek_l1("a") == 5


class Hooked(Cache[str, int]):
    """Something may happen after a removal."""

    then: Callable[[], object] | None = None

    def delete(self, key: Any) -> bool:
        done = super().delete(key)
        then, self.then = self.then, None
        if then is not None:
            then()
        return done


@WAYS
def test_who_is_acknowledged_first_does_not_lie_over_the_later(
    behind: Between, how: dict[str, Any]
) -> None:
    """Both have cleared L1 before either watches it, so that neither sees the other there."""
    ready, go = threading.Event(), threading.Event()
    others: list[Thread] = []
    put, write = behind.put, behind.write

    def held(call: Callable[..., None]) -> Callable[..., None]:
        def later(*args: Any) -> None:
            if threading.current_thread() is not threading.main_thread():
                ready.set()
                assert go.wait(30)
            call(*args)

        return later

    behind.put, behind.write = held(put), held(write)  # type: ignore[method-assign]
    t = TieredCache[str, int](l1 := Hooked(10), writer=behind, loader=lambda key: MISSING)

    def another() -> None:
        others.append(Thread(t.set, "a", 2, **how))
        assert ready.wait(30)

    def finish() -> None:
        go.set()
        others[0].result()

    l1.then, behind.then = another, finish
    t.set("a", 1, **how)
    assert t.get("a") == behind.pending("a").value == 2  # type: ignore[union-attr]


@WAYS
def test_a_write_that_the_source_has_before_l1_is_not_kept(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    """Whether a later one was in between cannot be told any more."""
    writer = Between(SQLiteWriter(tmp_path / "a.db", table="t"), delay=3600)
    with TieredCache[str, int](Cache(10), writer=writer, loader=lambda key: 7) as t:
        writer.then = lambda: writer.flush(30)
        t.set("a", 1, **how)
        assert t.peek_l1("a") is None and t.get("a") == 7


@WAYS
def test_a_set_that_waits_for_its_source(behind: Between, how: dict[str, Any]) -> None:
    t = TieredCache[str, Any](Cache(10), writer=behind, ttl=60, l1_ttl=4, stale=20)
    value = [1]
    t.set("a", value, **how)
    t.set("b", 2, **how)
    assert t.get("a") is value
    left = t.l1.ttl("a")
    assert left is not None and 3 < left <= 4
    assert t.stats().writes == behind.stats().pending == 2
    with pytest.raises(TypeError, match="no name outside of this process"):
        t.set(object(), 1, **how)  # type: ignore[arg-type]
    behind.close(0)
    with pytest.raises(Closed):
        t.set("a", 3, **how)
    assert t.peek_l1("a") is None and t.peek_l1("b") == 2
    assert t.stats().writes == 3


def test_a_set_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    writer = WriteBehind(SQLiteWriter(tmp_path / "a.db", table="t"), tmp_path / "j", delay=3600)
    with TieredCache[str, Any](Cache(10), writer=writer, loader=lambda key: MISSING) as t:
        t.set("a", 1)
        with pytest.raises(TypeError, match="JSON has nothing for"):
            t.set("a", object())
        assert t.get("a") == 1 and writer.stats().pending == 1
        t.flush(30)
        assert writer.stats().written == 1


def test_which_set_is_usual(behind: Between, tmp_path: Path) -> None:
    """Where anything else has to be told or asked, or chance has a say, writes.py decides."""
    from fastcache.backplane import InProcessBackplane

    for usual, made in (
        (True, TieredCache[str, int](Cache(10), writer=behind)),
        (False, TieredCache[str, int](Cache(10), writer=behind, ttl=9, jitter=0.1)),
        (
            False,
            TieredCache[str, int](
                Cache(10), writer=behind, namespace="n", backplane=InProcessBackplane()
            ),
        ),
        (False, TieredCache[str, int](Cache(10), writer=Nowhere())),
        (False, TieredCache[str, int](Cache(10))),
    ):
        assert (made._core.usual_set is not None) is usual
    assert AsyncTieredCache[str, int](Cache(10), writer=behind)._core.usual_set is None


def test_a_file_that_others_share_is_read_at_once(tmp_path: Path) -> None:
    """What they have changed meanwhile is heeded first; a load is for what is not there."""
    loads: list[str] = []

    def load(key: str) -> str:
        loads.append(key)
        return f"loaded {key}"

    stores = [SQLiteStore(tmp_path / "l2.db") for _ in range(2)]
    mine, other = (
        TieredCache[str, str](Cache(10), store, namespace="file", ttl=60, loader=load)
        for store in stores
    )
    try:
        mine.get("to be trusted")
        other.set_many({"a": "1", "b": "2"})
        fetched: list[Any] = []
        obtain = mine._core.loads.obtain
        mine._core.loads.obtain = lambda *args, **options: (  # type: ignore[method-assign]
            fetched.append(args[0].key) or obtain(*args, **options)
        )
        assert (mine.get("a"), mine.get("b")) == ("1", "2")
        other.set("a", "3")
        assert mine.get("a") == "3"
        assert mine.get("a") == "3"
        assert fetched == []
        assert loads == ["to be trusted"]
        other.invalidate("a")
        assert mine.get("a") == "loaded a"
        other.set("b", "tagged", tags=["x"])
        assert mine.get("b") == "tagged"
        other.invalidate_tag("x")
        assert mine.get("b") == "loaded b"
        assert set(fetched) == {"a", "b"}
        assert mine.stats().l2.hits == 4
    finally:
        for tiers in (mine, other):
            tiers.close()
            tiers.l2.close()  # type: ignore[union-attr]
