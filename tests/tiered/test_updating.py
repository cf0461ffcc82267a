"""updating: nobody fills its keys while a transaction of the source is under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tiered.support import Source, Thread, Tiers, until


def test_nothing_is_kept_meanwhile(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source), tiers(source)
    assert (t.get("a"), other.get("a")) == (1, 1)
    source.taken()
    with t.updating("a"):
        # the transaction is not committed: all may read the old value, nobody may keep it
        assert t.get("a") == 1
        until(lambda: "a" not in other.held() or other.get("a") is None)
        assert other.get("a") == 1
        assert other.get_many(["a", "b"]) == {"a": 1}
        assert len(source.taken()) >= 3
        assert "a" not in t.held()
        assert "a" not in other.held()
        source.data["a"] = 2
    assert t.get("a") == 2
    until(lambda: other.get("a") == 2)
    source.taken()
    assert (t.get("a"), other.get("a")) == (2, 2)
    assert source.taken() == []


def test_a_load_from_before_is_not_kept(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t, other = tiers(source), tiers(source)
    early = Thread(other.get, "a")
    until(lambda: source.loads)
    with t.updating("a"):
        source.data["a"] = 2
        source.gate.set()
        assert early.result() == 1
    assert t.get("a") == 2
    until(lambda: other.get("a") == 2)


def test_a_load_from_within_is_not_kept(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source), tiers(source)
    with t.updating("a"):
        source.gate.clear()
        within = Thread(other.get, "a")
        until(lambda: source.loads)
        source.data["a"] = 2
    source.gate.set()
    assert within.result() == 1
    until(lambda: other.get("a") == 2)
    assert t.get("a") == 2
    assert tiers(Source(a=3)).get("a") == 2


def test_an_error_invalidates_too_and_is_raised(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source), tiers(source)
    assert other.get("a") == 1
    with pytest.raises(ZeroDivisionError):
        with t.updating("a", "b"):
            source.data["a"] = 2
            raise ZeroDivisionError
    until(lambda: other.get("a") == 2)
    assert t.get("a") == 2


def test_a_crash_costs_the_hold(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source), tiers(source)
    block = t.cache.updating("a", hold=0.5)
    enter = type(block).__aenter__ if tiers.face.asynchronous else type(block).__enter__
    tiers.face.run(enter(block))
    source.data["a"] = 2
    # ... and its process is gone
    assert other.get("a") == 2
    assert other.get("a") == 2
    until(lambda: (other.get("a"), "a" in other.held())[1])
    source.taken()
    assert other.get("a") == 2
    assert source.taken() == []


def test_release_false_keeps_the_hold_after_the_end(tiers: Tiers) -> None:
    """For loaders that read a replica that lags."""
    primary, replica = Source(a=1), Source(a=1)
    t, other = tiers(replica), tiers(replica)
    with t.updating("a", hold=0.6, release=False):
        primary.data["a"] = 2
    assert other.get("a") == 1  # the replica has not heard yet
    assert t.get("a") == 1
    assert "a" not in other.held()
    assert "a" not in t.held()
    replica.data["a"] = 2
    assert other.get("a") == 2
    assert t.get("a") == 2


def test_several_at_once(tiers: Tiers) -> None:
    source = Source(a=1, b=1)
    t, other = tiers(source), tiers(source)
    with t.updating("a", "b", "a"):
        with other.updating("b"):
            source.data.update(a=2, b=2)
        # t may not have committed yet
        assert other.get("b") == 2
        source.data["b"] = 3
    assert t.get("b") == 3
    until(lambda: other.get("b") == 3)
    until(lambda: other.get("a") == 2)


def test_set_within(tiers: Tiers) -> None:
    source = Source(a=1)
    t, other = tiers(source), tiers(source)
    with t.updating("a"):
        source.data["a"] = 2
        t.set("a", 2)
    assert t.get("a") == 2
    until(lambda: other.get("a") == 2)


def test_other_keys_are_free(tiers: Tiers) -> None:
    source = Source(a=1, b=1)
    t = tiers(source)
    with t.updating("a"):
        assert t.get("b") == 1
        assert "b" in t.held()


def test_without_l2(alone: Tiers) -> None:
    source = Source(a=1)
    t = alone(source)
    assert t.get("a") == 1
    with t.updating("a"):
        source.data["a"] = 2
    assert t.get("a") == 2


@pytest.mark.parametrize("hold", [0, -1, float("nan"), "5", True, None])
def test_refused(filed: Tiers, hold: Any) -> None:
    t = filed()
    t.set("a", 1)
    with pytest.raises((TypeError, ValueError), match="hold"):
        t.cache.updating("a", hold=hold)
    with pytest.raises(TypeError):
        t.cache.updating()
    with pytest.raises(TypeError):
        t.cache.updating(object())
    with pytest.raises(TypeError):
        t.cache.updating([])
    assert t.get("a") == 1


def test_a_cancelled_task_invalidates_all_the_same(tmp_path: Any) -> None:
    from fastcache import AsyncTieredCache, Cache
    from fastcache.stores import SQLiteStore

    async def main() -> None:
        data = {"a": 1}

        async def load(key: str) -> int:
            return data[key]

        store = SQLiteStore(tmp_path / "l2.db")
        async with AsyncTieredCache(Cache(10), store, namespace="n", loader=load) as t:
            assert await t.get("a") == 1
            inside = asyncio.Event()

            async def update() -> None:
                async with t.updating("a", hold=30):
                    data["a"] = 2
                    inside.set()
                    await asyncio.sleep(60)

            task = asyncio.ensure_future(update())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await t.get("a") == 2
            assert "a" in t.l1
        await store.aclose()

    asyncio.run(main())
