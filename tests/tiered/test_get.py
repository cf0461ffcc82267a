"""get: L1, then L2, then the loader; what each has to say about absence, falsehood and default."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from _support import shown
from tiered.support import Source, Thread, Tiers, until

from fastcache import MISSING, Cache


def test_the_tiers_are_asked_in_order(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source, ttl=60)
    assert t.get("hears the others") is None
    assert source.taken() == ["hears the others"]
    t.stats(reset=True)
    assert t.get("a") == 1
    assert source.taken() == ["a"]
    assert t.get("a") == 1
    stats = t.stats()
    assert (stats.l1.hits, stats.l1.misses) == (1, 1)
    assert (stats.l2.hits, stats.l2.misses, stats.l2.fills, stats.loads) == (0, 1, 1, 1)
    other = tiers(source, ttl=60)
    assert other.get("a") == 1
    assert other.held() == {"a": 1}
    stats = other.stats()
    assert (stats.l1.hits, stats.l2.hits, stats.l2.misses, stats.loads) == (0, 1, 0, 0)
    assert source.taken() == []
    assert other.get("a") == 1
    assert other.stats().l1.hits == 1


def test_l2_alone(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    assert t.get("a") is None
    assert t.get("a", 5) == 5
    t.set("a", 1)
    assert other.get("a", 5) == 1
    assert other.stats().loads == 0


def test_l1_alone(alone: Tiers) -> None:
    source = Source(a=1)
    t = alone(source, ttl=60)
    assert [t.get("a"), t.get("a"), t.get("b"), t.get("b", 7)] == [1, 1, None, 7]
    assert source.taken() == ["a", "b"]
    source.data["a"] = 2
    assert t.invalidate("a") is True
    assert t.get("a") == 2
    assert t.level == "eventual"
    assert t.namespace is None
    assert t.l2 is None
    assert t.stats().state == "healthy"
    assert t.stats().trust is None


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", b"", [], {}, (), set(), frozenset()])
def test_values_that_are_false_are_values(tiers: Tiers, value: Any) -> None:
    source = Source(a=value)
    t, other = tiers(source, ttl=60), tiers(source, ttl=60)
    for tier in (t, t, other, other):
        got = tier.get("a", "default")
        assert got == value
        assert type(got) is type(value)
    assert source.taken() == ["a"]


@pytest.mark.parametrize(
    "value",
    [
        (1, (2, [3])),
        {"a": {1, 2}, "b": frozenset("x")},
        Decimal("1.10"),
        datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
        uuid.UUID(int=7),
        b"\x00\xff",
        2**100,
        float("inf"),
        {1: "int", "1": "str", (1, 2): "tuple"},
        "\N{SNOWMAN}\x00",
    ],
    ids=repr,
)
def test_a_hit_in_l2_equals_a_hit_in_l1(filed: Tiers, value: Any) -> None:
    t, other = filed(Source(a=value)), filed(Source())
    assert t.get("a") == value
    got = other.get("a")
    assert got == value
    assert repr(got) == repr(value) or isinstance(value, (set, frozenset, dict))
    assert other.stats().loads == 0


def test_what_does_not_survive_the_round_trip_stays_in_l1(tiers: Tiers) -> None:
    thing = object()
    source = Source(a=thing)
    t, other = tiers(source, ttl=60), tiers(source, ttl=60)
    assert t.get("a") is thing
    assert t.get("a") is thing
    assert source.taken() == ["a"]
    assert t.stats().l2.unstorable == 1
    assert t.stats().l2.fills == 0
    assert other.get("a") is thing
    assert source.taken() == ["a"]


def test_keys_that_are_equal_share_one_entry(tiers: Tiers) -> None:
    source = Source()
    source.data[1] = "one"
    t, other = tiers(source, ttl=60), tiers(source, ttl=60)
    assert t.get(1) == "one"
    for key in (1, 1.0, True, Decimal(1)):
        assert other.get(key) == "one"
    assert source.taken() == [1]
    other.invalidate(1.0)
    source.data[1] = "uno"
    until(lambda: t.get(True) == "uno")


@pytest.mark.parametrize(
    "key",
    [
        "", " ", "a b", "a\r\nDEL x", "\x00", "{x}", "*", "x" * 10_000, "\udc80", "\xe9", "e\u0301",
        b"", b"\x00\xff", 0, -1, 2**200, 1.5, float("-inf"), None, (), ((),), ("a", 1, None, (b"x",)),
        tuple(range(2000)), frozenset({1, "a"}),
    ],
    ids=lambda key: ascii(shown(key))[1:20],
)  # fmt: skip
def test_unusual_keys(tiers: Tiers, key: Any) -> None:
    source = Source()
    source.data[key] = "v"
    t, other = tiers(source, ttl=60), tiers(source, ttl=60)
    assert t.get(key) == "v"
    assert other.get(key) == "v"
    assert source.taken() == [key]
    source.data[key] = "w"
    assert t.invalidate(key) is True
    assert t.get(key) == "w"
    until(lambda: other.get(key) == "w")


def test_keys_that_look_alike_are_apart(tiers: Tiers) -> None:
    keys: list[Any] = ["1", b"1", 1, (1,), ("1",), ((1,),), "\xe9", "e\u0301", None, "None", "", ()]
    t, other = tiers(), tiers()
    for number, key in enumerate(keys):
        t.set(key, number)
    assert [other.get(key) for key in keys] == list(range(len(keys)))


def test_name_spaces_are_apart(tiers: Tiers) -> None:
    a, b = tiers(namespace=tiers.namespace), tiers(namespace=tiers.namespace + ":b")
    a.set("k", 1)
    b.set("k", 2)
    assert (a.get("k"), b.get("k")) == (1, 2)
    b.bump_version()
    assert (tiers().get("k"), b.get("k")) == (1, None)


def test_one_store_for_several_caches(tiers: Tiers) -> None:
    store = tiers.store()
    a = tiers(store=store)
    b = tiers(store=store)
    a.set("k", 1)
    assert b.get("k") == 1
    b.set("k", 2)
    until(lambda: a.get("k") == 2)


def test_evicted_from_l1_and_still_in_l2(tiers: Tiers) -> None:
    source = Source(**{str(i): i for i in range(50)})
    t = tiers(source, ttl=60, l1=Cache(10))
    assert [t.get(str(i)) for i in range(50)] == list(range(50))
    assert len(t.held()) == 10
    source.taken()
    assert [t.get(str(i)) for i in range(50)] == list(range(50))
    assert source.taken() == []


def test_a_value_can_be_the_default_and_positional_only(filed: Tiers) -> None:
    t = filed()
    assert t.get("a", MISSING) is MISSING
    with pytest.raises(TypeError):
        t.get("a", default=1)
    with pytest.raises(TypeError):
        t.get()
    with pytest.raises(TypeError):
        t.get([])
    with pytest.raises(TypeError):
        t.get("a", 1, 2)


def test_l1_gives_the_object_itself(filed: Tiers) -> None:
    value = [1]
    t = filed(Source(a=value))
    assert t.get("a") is t.get("a")


def test_copies_in_and_out(filed: Tiers) -> None:
    import copy

    value = [[1]]
    t = filed(Source(a=value), copy=copy.deepcopy)
    got = t.get("a")
    got[0].append(2)
    value[0].append(3)
    assert t.held()["a"] == [[1]]


def test_many_threads_at_once(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    caches = [tiers(source, ttl=60) for _ in range(2)]
    calls = [Thread(caches[i % 2].get, "a") for i in range(12)]
    until(lambda: source.loads)
    source.gate.set()
    assert [call.result() for call in calls] == [1] * 12
    assert source.taken() == ["a"]


def test_warm(tiers: Tiers) -> None:
    source = Source(a=1, b=2)
    t = tiers(source, ttl=60)
    assert t.warm(["a", "b", "c"]) == 2
    assert sorted(source.taken()) == ["a", "b", "c"]
    assert (t.get("a"), t.get("b"), t.get("c")) == (1, 2, None)
    assert source.taken() == []


def test_stats_begin_anew(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(source)
    t.get("a")
    t.get("a")
    before = t.stats(reset=True)
    assert (before.loads, before.l1.hits, before.l2.fills) == (1, 1, 1)
    assert before.load_time > 0
    after = t.stats()
    assert (after.loads, after.l1.hits, after.l2.fills, after.load_time) == (0, 0, 0, 0.0)
    assert (before.loads, before.l1.hits) == (1, 1)  # a record, which does not change


def test_nothing_counts_as_lost_in_a_calm_sea(tiers: Tiers) -> None:
    t, other = tiers(Source(a=1)), tiers(Source(a=1))
    for tier in (t, other):
        tier.get("a")
        tier.get("a")
    for tier in (t, other):
        stats = tier.stats()
        assert (stats.state, stats.lost, stats.dropped, stats.stale) == ("healthy", 0, 0, 0)
        assert (stats.l2.errors, stats.l2.undecodable) == ({}, {})


def test_a_change_by_others_is_no_sickness(tiers: Tiers) -> None:
    t, other = tiers(Source(a=1)), tiers(Source(a=1))
    t.get("a")
    other.get("a")
    other.invalidate("a")
    assert t.stats().state == "healthy"
    assert other.stats().state == "healthy"


def test_no_face_hangs_at_a_first_get(tiers: Tiers) -> None:
    calls = [Thread(tiers(Source(a=1)).get, "a") for _ in range(4)]
    assert [call.result() for call in calls] == [1] * 4
