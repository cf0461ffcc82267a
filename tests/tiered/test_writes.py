"""set, set_many, add, touch, incr, delete, invalidate: between two caches of one name space."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from stress.support import run_child
from tiered.support import Face, Source, Thread, Tier, Tiers, sees, until

from fastcache import Cache
from fastcache.backplane import InProcessBackplane


def test_set_reaches_all(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    assert t.set("a", 1) is None
    assert (t.get("a"), other.get("a")) == (1, 1)
    other.set("a", 2)
    assert other.get("a") == 2
    sees(t, "a", 2)
    assert t.held() == {"a": 2}
    assert other.stats().sent == 1


def test_set_keeps_the_object_in_l1(filed: Tiers) -> None:
    t = filed()
    value = [1]
    t.set("a", value)
    assert t.get("a") is value


def test_the_last_of_two_writers_wins(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    for number in range(20):
        (t if number % 2 else other).set("a", number)
        assert (t if number % 2 else other).get("a") == number
    sees(t, "a", 19)
    sees(other, "a", 19)
    assert tiers().get("a") == 19


def test_writers_at_once_agree_in_the_end(tiers: Tiers) -> None:
    caches = [tiers() for _ in range(3)]

    def write(tier: Any, number: int) -> None:
        for i in range(30):
            tier.set("a", (number, i))
            tier.get("a")

    for call in [Thread(write, tier, n) for n, tier in enumerate(caches)]:
        call.result()
    last = tiers().get("a")
    for tier in caches:
        sees(tier, "a", last)


def test_ttl(tiers: Tiers) -> None:
    t, other = tiers(ttl=60), tiers(ttl=60)
    t.set("short", 1, ttl=0.3)
    t.set("delta", 1, ttl=timedelta(seconds=0.3))
    t.set("ever", 1, ttl=None)
    t.set("usual", 1)
    assert other.get_many(["short", "delta", "ever", "usual"]) == dict.fromkeys(
        ["short", "delta", "ever", "usual"], 1
    )
    for tier in (t, other):
        until(lambda tier=tier: tier.get("short") is None)
        until(lambda tier=tier: tier.get("delta") is None)
        assert (tier.get("ever"), tier.get("usual")) == (1, 1)
        assert tier.l1.ttl("ever") is None
        assert 50 < tier.l1.ttl("usual") <= 60


def test_ttl_of_nothing_removes(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set("a", 1)
    assert other.get("a") == 1
    t.set("a", 2, ttl=0)
    assert t.get("a") is None
    until(lambda: other.get("a") is None)
    assert tiers().get("a") is None


def test_set_many(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    other.set("b", 0)
    assert t.set_many({"a": 1, "b": 2, (3, 4): 5, None: 6}) == []
    for tier in (t, other):
        sees(tier, "b", 2)
        assert tier.get_many(["a", "b", (3, 4), None]) == {"a": 1, "b": 2, (3, 4): 5, None: 6}
    assert t.set_many({}) == []


def test_set_many_with_ttl_and_tags(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set_many({"a": 1, "b": 2}, tags=["x"])
    t.set_many({"c": 3}, ttl=0.2)
    assert other.get_many("abc") == {"a": 1, "b": 2, "c": 3}
    other.invalidate_tag("x")
    for tier in (other, t):
        until(lambda tier=tier: tier.get_many("abc") == {})


def test_set_many_refuses_all_of_it(tiers: Tiers) -> None:
    t = tiers()
    t.set("a", 0)
    with pytest.raises(TypeError):
        t.set_many({"a": 1, object(): 2})
    with pytest.raises(TypeError):
        t.set_many(5)
    assert t.get("a") == 0
    assert tiers().get("a") == 0


def test_set_many_of_a_value_that_stays_here(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    thing = object()
    other.set("a", "old")
    assert t.set_many({"a": thing, "b": 2}) == []
    assert t.get("a") is thing
    assert t.get("b") == 2
    until(lambda: other.get("a") is None)
    assert other.get("b") == 2


def test_set_of_what_l2_cannot_hold_drops_what_it_held(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set("a", "old")
    assert other.get("a") == "old"
    thing = object()
    t.set("a", thing)
    assert t.get("a") is thing
    until(lambda: other.get("a") is None)


def test_add(tiers: Tiers) -> None:
    t, other = tiers(Source(z=1)), tiers()
    assert t.add("a", 1) is True
    assert t.add("a", 2) is False
    assert other.add("a", 3) is False
    assert (t.get("a"), other.get("a")) == (1, 1)
    other.delete("a")
    assert t.add("a", 4) is True
    sees(other, "a", 4)


def test_add_when_only_one_may(tiers: Tiers) -> None:
    caches = [tiers() for _ in range(4)]
    for round_ in range(10):
        calls = [Thread(tier.add, round_, n) for n, tier in enumerate(caches)]
        done = [call.result() for call in calls]
        assert sum(done) == 1, done
        assert tiers().get(round_) == done.index(True)


def test_add_with_ttl_and_tags(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    assert t.add("a", 1, ttl=0.2)
    assert t.add("b", 1, tags=["x"])
    assert other.get("b") == 1
    other.invalidate_tag("x")
    until(lambda: t.add("b", 2))
    until(lambda: t.add("a", 2))
    sees(other, "a", 2)
    sees(other, "b", 2)


def test_add_of_ttl_nothing(tiers: Tiers) -> None:
    t = tiers()
    assert t.add("a", 1, ttl=0) is False
    assert t.get("a") is None
    assert tiers().get("a") is None


def test_add_of_a_value_that_cannot_be_shared(tiers: Tiers) -> None:
    t = tiers()
    with pytest.raises(TypeError, match="object"):
        t.add("a", object())
    assert t.get("a") is None
    assert t.add("a", 1) is True


def test_touch(tiers: Tiers) -> None:
    t, other = tiers(ttl=60), tiers(ttl=60)
    assert t.touch("a", 5) is False
    t.set("a", 1, ttl=0.5)
    assert other.get("a") == 1
    assert other.touch("a", 30) is True
    assert other.get("a") == 1
    assert 20 < other.l1.ttl("a") <= 30
    third = tiers()
    assert third.get("a") == 1
    assert 20 < third.l1.ttl("a") <= 30
    assert t.touch("a") is True
    assert t.get("a") == 1
    assert 50 < t.l1.ttl("a") <= 60
    assert t.touch("a", None) is True
    assert tiers().get("a") == 1
    assert t.touch("a", 0) is True
    assert t.get("a") is None
    assert tiers().get("a") is None


def test_touch_shortens_everywhere(tiers: Tiers) -> None:
    t, other = tiers(ttl=60), tiers(ttl=60)
    t.set("a", 1)
    assert (t.get("a"), other.get("a")) == (1, 1)
    assert t.touch("a", 0.2) is True
    until(lambda: t.get("a") is None)
    until(lambda: other.get("a") is None, 3)


def left(tier: Tier, key: Any) -> float:
    """Seconds that an entry of L1 has; 0 for none, and for ever."""
    try:
        return tier.l1.ttl(key) or 0
    except KeyError:
        return 0


def test_touch_holds_whatever_was_asked_for_at_first(tiers: Tiers) -> None:
    """For how long values are kept past their ttl is the choice of who stored them."""
    ours, others = tiers(ttl=60, stale=30), tiers(ttl=60)
    readers = [tiers(ttl=60, stale=30), tiers(ttl=60)]
    many = tiers(ttl=60)
    for key, (by, ttl, toucher) in {
        "for ever": (ours, None, ours),
        "and others'": (others, None, ours),
        "kept": (ours, 60, others),
        "not kept": (others, 60, ours),
    }.items():
        by.set(key, 1, ttl=ttl)
        assert toucher.touch(key, 20) is True
        for reader in readers:
            assert reader.get(key) == 1
            # once more where the word of the touch came after that
            until(lambda t=reader, k=key: t.get(k) == 1 and 15 < left(t, k) <= 20, 5)
        until(lambda k=key: many.get_many([k, ""]) == {k: 1} and 15 < left(many, k) <= 20, 5)


def test_touch_does_not_raise_the_dead(tiers: Tiers) -> None:
    t = tiers(ttl=60)
    t.set("tagged", 1, tags=["x"])
    t.invalidate_tag("x")
    assert t.touch("tagged", 60) is False
    t.set("old", 1)
    t.bump_version()
    assert t.touch("old", 60) is False
    assert tiers(version=2).touch("old", 60) is False
    stale = tiers(ttl=0.2, stale=60)
    stale.set("past", 1)
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 0.25)
    assert stale.touch("past", 60) is False


def test_touch_of_a_counter(tiers: Tiers) -> None:
    t = tiers()
    t.incr("n", 5)
    assert t.touch("n", 0.2) is True
    until(lambda: t.get("n") is None)
    assert t.incr("n") == 1


def test_incr(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    assert t.incr("n") == 1
    assert other.incr("n", 5) == 6
    assert t.incr("n", -10) == -4
    assert t.incr("m", 2, 40) == 42
    assert t.incr("m", 0) == 42
    for tier in (t, other):
        assert (tier.get("n"), tier.get("m", 7)) == (-4, 42)
        assert tier.get_many(["n", "m"]) == {"n": -4, "m": 42}
        assert tier.held() == {}
    assert t.get_or_set("n", lambda: 1 / 0) == -4
    assert t.add("n", 1) is False
    t.delete("n")
    assert other.incr("n") == 1


def test_incr_at_once(tiers: Tiers) -> None:
    caches = [tiers() for _ in range(3)]

    def count(tier: Any) -> None:
        for _ in range(30):
            tier.incr("n")

    for call in [Thread(count, tier) for tier in caches]:
        call.result()
    assert caches[0].get("n") == 90


def test_incr_of_what_is_no_counter(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set("a", "text")
    t.set("b", 5)  # a value, whatever it looks like
    for key, kept in (("a", "text"), ("b", 5)):
        with pytest.raises(TypeError, match=f"{key!r} has a value that is no counter"):
            other.incr(key)
        assert (t.get(key), other.get(key)) == (kept, kept)


def test_incr_has_limits(tiers: Tiers) -> None:
    t = tiers()
    assert t.incr("n", 2**63 - 1) == 2**63 - 1
    with pytest.raises(OverflowError):
        t.incr("n")
    assert t.get("n") == 2**63 - 1
    with pytest.raises(OverflowError):
        t.incr("new", 2**63)
    assert t.get("new") is None


def test_incr_has_a_ttl(tiers: Tiers) -> None:
    t = tiers()
    assert t.incr("n", ttl=0.3) == 1
    assert t.incr("n", ttl=60) == 2  # only when it is made
    until(lambda: t.get("n") is None)
    assert t.incr("n") == 1


def test_set_over_a_counter_and_back(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.incr("n", 5)
    other.set("n", "text")
    sees(t, "n", "text")
    other.delete("n")
    assert t.incr("n") == 1
    sees(other, "n", 1)


def test_delete_and_invalidate(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    for remove in (t.delete, t.invalidate, lambda key: t.delete_many([key, "none"]),
                   lambda key: t.invalidate_many([key, key])):  # fmt: skip
        t.set("a", 1)
        sees(other, "a", 1)
        assert remove("a") is True
        assert t.get("a") is None
        until(lambda: other.get("a") is None)
    assert t.delete("never there") is True
    assert t.invalidate_many([]) is True
    assert t.delete_many([]) is True


def test_delete_many_of_many(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set_many(dict.fromkeys(range(600), 1))
    assert len(other.get_many(range(600))) == 600
    assert t.delete_many(range(600)) is True
    assert t.get_many(range(600)) == {}
    until(lambda: other.get_many(range(600)) == {})


def test_a_key_too_long_for_a_message_takes_its_bucket_along(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    key = "x" * 5000
    t.set(key, 1)
    sees(other, key, 1)
    t.set(key, 2)
    sees(other, key, 2)


def test_of_two_caches_in_one_loop_or_thread(tiers: Tiers) -> None:
    """Written through one, read through the other, back and forth."""
    t, other = tiers(), tiers()
    for i in range(10):
        t.set(i, i)
        assert other.get(i) == i
        other.delete(i)
        until(lambda i=i: t.get(i) is None)


def test_without_l2(alone: Tiers) -> None:
    t = alone()
    t.set("a", 1)
    assert t.add("a", 2) is False
    assert t.add("b", 2, ttl=60) is True
    assert t.get_many("abc") == {"a": 1, "b": 2}
    assert t.set_many({"c": 3, "d": 4}) == []
    assert t.touch("c", 30) is True
    assert t.touch("none", 30) is False
    assert t.incr("n") == 1
    assert t.incr("n", 5) == 6
    assert t.get("n") == 6
    assert t.incr("short", ttl=0.2) == 1
    until(lambda: t.get("short") is None)
    with pytest.raises(TypeError):
        t.incr("a", "1")
    assert t.delete("a") is True
    assert t.delete_many("bc") is True
    assert t.get_many("abcd") == {"d": 4}
    t.set("d", 1, ttl=0)
    assert t.get("d") is None
    t.set("e", 1, tags=["x"])
    t.invalidate_tag("x")
    assert t.get("e") is None
    t.set("f", 1)
    t.bump_version()
    assert t.get("f") is None


def test_a_counter_of_ttl_nothing(tiers: Tiers, alone: Tiers) -> None:
    for t in (tiers(), alone()):
        assert t.incr("n", 5, ttl=0) == 5
        assert t.get("n") is None
        assert t.incr("n", 5) == 5
        assert t.incr("n", 5, ttl=0) == 10  # it has one already
        assert t.get("n") == 10


@pytest.mark.parametrize("write", ["set", "add", "incr"])
def test_what_is_written_first_stays(face: Face, write: str) -> None:
    """Before this process has heard of the others for the first time."""
    l1: Cache[Any, Any] = Cache(10)

    class Slow(InProcessBackplane):
        def listen(self, namespace: str) -> Any:
            patience = time.monotonic() + 0.2
            until(lambda: len(l1) or time.monotonic() > patience)
            return super().listen(namespace)

    t = Tier(face, face.kind(l1, backplane=Slow(), namespace="first"))
    {
        "set": lambda: t.set("a", 1),
        "add": lambda: t.add("a", 1),
        "incr": lambda: t.incr("a"),
    }[write]()
    until(lambda: t.stats().trust)
    assert t.get("a") == 1
    assert t.add("a", 2) is False
    assert t.stats().dropped == 0
    t.close()


def test_add_where_a_tier_has_it_and_the_source_has_not(tiers: Tiers, alone: Tiers) -> None:
    class Writer:
        def apply(self, ops: Any) -> None:
            source.data.update({op.key: op.value for op in ops})

    for make in (tiers, alone):
        source = Source()
        t = make(source, writer=Writer())
        assert t.get_or_set("a", lambda: 1) == 1
        assert t.add("a", 2) is False
        assert t.get("a") == 1
        assert t.add("b", 2) is True
        assert source.data == {"b": 2}


def test_an_l1_that_is_full_of_weight(filed: Tiers) -> None:
    t = filed(l1=Cache(10, weigher=lambda key, value: len(value)))
    t.set("a", "x" * 50)  # more than L1 takes
    assert t.get("a") == "x" * 50
    assert t.held() == {}
    t.set("b", "x" * 8)
    t.set("c", "x" * 8)
    assert t.get("b") == t.get("c") == "x" * 8
    assert len(t.held()) == 1


CHILD = """
import os
from fastcache import Cache, TieredCache
from fastcache.stores import SQLiteStore, RedisStore
where, namespace = sys.argv[1:]
store = RedisStore(where) if where.startswith("redis") else SQLiteStore(where, timeout=5.0)
with TieredCache(Cache(100), store, namespace=namespace) as t:
    print(t.get("a"), t.get(("k", 1)))
    t.set("a", "from the child", tags=["x"])
    t.invalidate(("k", 1))
    print(t.incr("n"), t.add("new", 1), t.add("new", 2))
store.close()
"""


def test_two_processes(tiers: Tiers, tmp_path: Any, request: pytest.FixtureRequest) -> None:
    t = tiers(Source(old=1))
    t.set("a", "from the parent")
    t.set(("k", 1), {"x": (1,)})
    assert t.incr("n", 41) == 41
    where = (
        str(tmp_path / "l2.db")
        if tiers.where == "sqlite"
        else request.getfixturevalue("redis_server").url
    )
    said = run_child(CHILD, where, tiers.namespace).splitlines()
    assert said == ["from the parent {'x': (1,)}", "42 True False"]
    sees(t, "a", "from the child")
    until(lambda: t.get(("k", 1)) is None)
    assert (t.get("n"), t.get("new")) == (42, 1)
    t.invalidate_tag("x")
    assert t.get("a") is None
