"""Loaders: what they return and raise, who waits for whom, in one process and between several."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest
from tiered.support import Face, Source, Thread, Tiers, until

from fastcache import MISSING


class Broken(Exception):
    pass


def test_a_failing_load_is_the_callers_error(tiers: Tiers) -> None:
    source = Source(a=1)
    source.error = Broken("no database")
    t = tiers(source, ttl=60, lease=30)
    with pytest.raises(Broken, match="no database"):
        t.get("a")
    source.error = None
    # its lease was given up: another process need not wait for it
    other = tiers(source, ttl=60, lease=30)
    assert other.get("a") == 1
    assert other.stats().lease_waits == 0
    assert t.get("a") == 1
    stats = t.stats()
    assert (stats.loads, stats.load_failures) == (1, 1)


def test_all_who_wait_get_the_error(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    source.error = Broken("no database")
    t = tiers(source)
    calls = [Thread(t.get, "a") for _ in range(5)]
    until(lambda: source.loads)
    until(lambda: sum(call.runs for call in calls) == 5)
    source.gate.set()
    for call in calls:
        with pytest.raises(Broken):
            call.result()


def test_an_interrupted_load_leaves_nothing_behind(tiers: Tiers) -> None:
    source = Source(a=1)
    source.error = KeyboardInterrupt() if not tiers.face.asynchronous else asyncio.CancelledError()
    t = tiers(source, lease=60)
    with pytest.raises(BaseException) as caught:
        t.get("a")
    assert isinstance(
        caught.value, (KeyboardInterrupt, asyncio.CancelledError, concurrent.futures.CancelledError)
    )
    source.error = None
    other = tiers(source, lease=60)
    assert other.get("a") == 1
    assert other.stats().lease_waits == 0
    assert t.get("a") == 1


def test_an_interrupted_bulk_load_leaves_nothing_behind(tiers: Tiers) -> None:
    source = Source(a=1, b=2)
    many = tiers.many(source)
    t = tiers(many, lease=60)
    if tiers.face.loop is None:
        source.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            t.get_many("ab")
    else:
        source.gate.clear()
        loop = tiers.face.loop.loop
        call = asyncio.run_coroutine_threadsafe(t.cache.get_many("ab"), loop)
        until(lambda: many.asked)
        call.cancel()
        source.gate.set()
    source.error = None
    for key, value in source.data.items():
        assert Thread(tiers(source, lease=60).get, key).result() == value


def test_one_load_between_processes(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    first, second = tiers(source, lease=30), tiers(source, lease=30)
    one = Thread(first.get, "a")
    until(lambda: source.loads)
    two = Thread(second.get, "a")
    until(lambda: second.stats().lease_waits == 1)
    source.gate.set()
    assert (one.result(), two.result()) == (1, 1)
    assert source.taken() == ["a"]
    assert second.stats().loads == 0


def test_the_waiter_takes_over_when_the_load_fails(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    source.error = Broken()
    first, second = tiers(source, lease=30), tiers(Source(a=2), lease=30)
    one = Thread(first.get, "a")
    until(lambda: source.loads)
    two = Thread(second.get, "a")
    until(lambda: second.stats().lease_waits == 1)
    source.gate.set()
    with pytest.raises(Broken):
        one.result()
    assert two.result() == 2


def test_a_lost_holder_costs_one_lease(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    first, second = tiers(source, lease=0.3), tiers(Source(a=2), lease=0.3)
    one = Thread(first.get, "a")
    until(lambda: source.loads)
    assert second.get("a") == 2  # the first one hangs for all it knows
    source.gate.set()
    assert one.result() == 1
    # the fill of the late one was refused
    assert tiers(Source(a=3)).get("a") == 2
    assert first.stats().l2.refused == 1
    until(lambda: first.get("a") == 2)


def test_a_waiter_has_a_limit(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    first, second = tiers(source, lease=30), tiers(Source(a=2), lease=30, wait_timeout=0.1)
    one = Thread(first.get, "a")
    until(lambda: source.loads)
    assert second.get("a") == 2
    source.gate.set()
    assert one.result() == 1


def test_a_waiter_is_not_starved_by_writers(tiers: Tiers) -> None:
    """Each time it looks there is another load under way."""
    source = Source(a=1)
    source.gate.clear()
    first, second, third = tiers(source), tiers(Source(a=2)), tiers(source)
    calls = [Thread(first.get, "a")]
    until(lambda: source.loads)
    two = Thread(second.get, "a")
    until(lambda: second.stats().lease_waits == 1)

    def disturb() -> bool:
        third.invalidate("a")
        calls.append(Thread(third.get, "a"))
        return not two.runs

    until(disturb, 10)
    source.gate.set()
    assert two.result() == 2
    for call in calls:
        call.result()


def test_what_was_invalidated_while_it_loaded_is_not_kept(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t, other = tiers(source), tiers(source)
    one = Thread(t.get, "a")
    until(lambda: source.loads)
    source.data["a"] = 2
    t.invalidate("a")
    source.gate.set()
    assert one.result() == 1
    assert t.get("a") == 2
    assert other.get("a") == 2


def test_what_another_process_invalidated_while_it_loaded_is_not_kept(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t, other = tiers(source), tiers(source)
    one = Thread(t.get, "a")
    until(lambda: source.loads)
    source.data["a"] = 2
    other.invalidate("a")
    source.gate.set()
    assert one.result() == 1
    assert other.get("a") == 2
    until(lambda: t.get("a") == 2)
    assert tiers(Source(a=3)).get("a") == 2


@pytest.mark.parametrize("change", ["set", "delete", "incr", "tag", "version", "updating"])
def test_changes_fence_loads(tiers: Tiers, change: str) -> None:
    source = Source(a=1)
    source.gate.clear()
    t = tiers(source)
    one = Thread(t.get, "a")
    until(lambda: source.loads)
    source.data["a"] = 2
    after: Any = 2
    if change == "set":
        t.set("a", 5)
        after = 5
    elif change == "incr":
        assert t.incr("a", 9) == 9
        after = 9
    elif change == "updating":
        with t.updating("a"):
            source.data["a"] = 2
    elif change == "delete":
        t.delete("a")
    elif change == "version":
        t.bump_version()
    else:
        t.invalidate_tag("x")  # nobody knows yet which tags it will have
    source.gate.set()
    assert one.result() == 1
    if change == "tag":
        assert t.get("a") in (1, 2)  # L2 may tell that it has none
        return
    assert t.get("a") == after
    assert tiers(source).get("a") == after


def test_a_loader_may_be_an_object(tiers: Tiers) -> None:
    class Users:
        def __init__(self, face: Face) -> None:
            self.load = face.function(lambda key: f"user {key}")

    t = tiers.face.kind(
        __import__("fastcache").Cache(10),
        tiers.store(),
        namespace="objects",
        loader=Users(tiers.face),
    )
    assert tiers.face.run(t.get(1)) == "user 1"
    tiers.face.run(t.close())


def test_a_loader_may_use_its_cache(tiers: Tiers) -> None:
    made: list[Any] = []
    if tiers.face.asynchronous:

        async def load(key: str) -> Any:
            return 1 if key == "a" else 1 + await made[0].cache.get("a")
    else:

        def load(key: str) -> Any:
            return 1 if key == "a" else 1 + made[0].get("a")

    made.append(tiers(load))
    assert made[0].get("b") == 2
    assert made[0].held() == {"a": 1, "b": 2}


def test_a_loader_that_asks_for_its_own_key_is_not_stuck(filed: Tiers) -> None:
    made: list[Any] = []
    depth: list[str] = []
    if filed.face.asynchronous:

        async def load(key: str) -> Any:
            depth.append(key)
            return "end" if len(depth) > 1 else await made[0].cache.get(key)
    else:

        def load(key: str) -> Any:
            depth.append(key)
            return "end" if len(depth) > 1 else made[0].get(key)

    made.append(filed(load, wait_timeout=20, lease=1))
    assert made[0].get("a") == "end"
    assert depth == ["a", "a"]


def test_get_or_set_makes_it_once(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    gate = threading.Event()
    made: list[int] = []

    def factory() -> str:
        made.append(1)
        assert gate.wait(30)
        return "v"

    calls = [Thread(tier.get_or_set, "a", factory) for tier in (t, other) for _ in range(3)]
    until(lambda: made)
    gate.set()
    assert [call.result() for call in calls] == ["v"] * 6
    assert made == [1]
    assert t.get_or_set("a", lambda: "w") == "v"
    assert t.get("a") == "v"


def test_get_or_set_prefers_what_is_there_to_its_factory(tiers: Tiers) -> None:
    t = tiers()
    t.set("a", None)
    for tier in (t, tiers()):
        assert tier.get_or_set("a", lambda: 1 / 0) is None


def test_get_or_set_has_its_own_ttl_and_tags(tiers: Tiers) -> None:
    t, other = tiers(ttl=60), tiers(ttl=60)
    t.get_or_set("a", lambda: 1, ttl=0.2)
    t.get_or_set("b", lambda: 1, tags=["x"])
    t.get_or_set("c", lambda: 1, ttl=0)
    assert t.get("c") is None
    until(lambda: t.get("a") is None)
    assert other.get("a") is None
    assert other.get("b") == 1
    other.invalidate_tag("x")
    assert other.get("b") is None
    until(lambda: t.get("b") is None)


def test_get_or_set_takes_a_timedelta(tiers: Tiers) -> None:
    from datetime import timedelta

    t = tiers(ttl=60, jitter=0.1)
    assert t.get_or_set("a", lambda: 1, ttl=timedelta(milliseconds=200)) == 1
    until(lambda: t.get("a") is None)


def test_a_factory_is_not_fobbed_off_with_a_loaders_absence(tiers: Tiers) -> None:
    """A get that finds nothing is under way when get_or_set comes."""
    source = Source()
    source.gate.clear()
    t = tiers(source)
    one = Thread(t.get, "a")
    until(lambda: source.loads)
    two = Thread(t.get_or_set, "a", lambda: "made")
    until(lambda: two.runs)
    assert (
        two.thread.join(0.1) is None
    )  # a moment to board the flight; the outcome is the same without
    source.gate.set()
    assert one.result() is None
    assert two.result() == "made"


def test_a_get_gets_what_a_factory_makes(tiers: Tiers) -> None:
    gate = threading.Event()
    made: list[int] = []

    def factory() -> str:
        made.append(1)
        assert gate.wait(30)
        return "v"

    t = tiers(Source(a="loaded"))
    one = Thread(t.get_or_set, "a", factory)
    until(lambda: made)
    two = Thread(t.get, "a")
    gate.set()
    assert one.result() == "v"
    assert two.result() == "v"


def test_a_failing_factory(tiers: Tiers) -> None:
    t = tiers(lease=30)
    with pytest.raises(ZeroDivisionError):
        t.get_or_set("a", lambda: 1 // 0)
    assert t.get_or_set("a", lambda: 1) == 1
    assert tiers(lease=30).get_or_set("a", lambda: 2) == 1


def test_a_load_that_returns_missing_for_get_or_set(tiers: Tiers) -> None:
    t = tiers()
    assert t.get_or_set("a", lambda: MISSING) is MISSING
    assert t.get("a", 5) == 5


def test_cancelling_a_caller_does_not_lose_the_load(tmp_path: Any) -> None:
    from fastcache import AsyncTieredCache, Cache
    from fastcache.stores import SQLiteStore

    async def main() -> None:
        began, gate = asyncio.Event(), asyncio.Event()
        loads: list[str] = []

        async def load(key: str) -> int:
            loads.append(key)
            began.set()
            await gate.wait()
            return 1

        store = SQLiteStore(tmp_path / "l2.db")
        async with AsyncTieredCache(Cache(10), store, namespace="n", loader=load, lease=60) as t:
            first = asyncio.ensure_future(t.get("a"))
            await began.wait()
            second = asyncio.ensure_future(t.get("a"))
            await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first, 0.01)
            gate.set()
            assert await second == 1
            assert loads == ["a"]
            # and the last one's cancellation ends the load, and leaves no lease behind
            gate.clear()
            began.clear()
            third = asyncio.ensure_future(t.get("b"))
            await began.wait()
            third.cancel()
            with pytest.raises(asyncio.CancelledError):
                await third
            gate.set()
            assert await asyncio.wait_for(t.get("b"), 20) == 1
        await store.aclose()

    asyncio.run(main())
