"""MISSING: what is known not to exist."""

from __future__ import annotations

import copy
import pickle

import pytest
from tiered.support import Source, Tiers, until

from fastcache import MISSING


def test_there_is_one_of_it() -> None:
    assert copy.copy(MISSING) is MISSING
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert repr(MISSING) == "fastcache.MISSING"


def test_known_absent_gives_the_default(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source), tiers(source)
    for tier in (t, t, other, other):
        assert tier.get("a") is None
        assert tier.get("a", 5) == 5
    assert source.taken() == ["a"]
    assert other.stats().l2.hits == 1


def test_it_has_a_ttl_of_its_own(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source, ttl=60, missing_ttl=0.3), tiers(source, ttl=60, missing_ttl=0.3)
    assert t.get("a") is None
    assert other.get("a") is None
    source.data["a"] = 1
    until(lambda: t.get("a") == 1)
    until(lambda: other.get("a") == 1)


def test_it_may_outlive_ordinary_values(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source, ttl=0.2, missing_ttl=None), tiers(source, ttl=0.2, missing_ttl=None)
    source.data["b"] = 1
    assert t.get("a") is None
    assert t.get("b") == 1
    source.data.update(a=2, b=2)
    until(lambda: t.get("b") == 2)
    assert t.get("a") is None
    assert other.get("a") is None


def test_it_need_not_be_kept(tiers: Tiers) -> None:
    source = Source()
    t = tiers(source, missing_ttl=0)
    assert [t.get("a"), t.get("a")] == [None, None]
    assert source.taken() == ["a", "a"]
    assert tiers(source).get("a") is None
    assert source.taken() == ["a"]


def test_bulk_reads_leave_it_out(tiers: Tiers) -> None:
    source = Source(b=1)
    t, other = tiers(source), tiers(source)
    for tier in (t, t, other, other):
        assert tier.get_many(["a", "b"]) == {"b": 1}
    assert sorted(source.taken()) == ["a", "b"]


@pytest.mark.parametrize("where", ["l1", "l2"])
def test_get_or_set_makes_it(tiers: Tiers, where: str) -> None:
    source = Source()
    t, other = tiers(source), tiers(source)
    assert t.get("a") is None
    tier = t if where == "l1" else other
    made: list[int] = []

    def factory() -> str:
        made.append(1)
        return "made"

    assert tier.get_or_set("a", factory) == "made"
    assert tier.get_or_set("a", factory) == "made"
    assert made == [1]
    assert tier.get("a") == "made"
    assert other.get("a") == "made"


@pytest.mark.parametrize("where", ["l1", "l2"])
def test_add_succeeds(tiers: Tiers, where: str) -> None:
    source = Source()
    t, other = tiers(source), tiers(source)
    assert t.get("a") is None
    tier = t if where == "l1" else other
    assert tier.add("a", 1) is True
    assert tier.add("a", 2) is False
    assert tier.get("a") == 1
    assert other.get("a") == 1


def test_touch_and_incr_take_it_for_absent(tiers: Tiers) -> None:
    source = Source()
    t = tiers(source)
    assert t.get("a") is None
    assert t.touch("a", 60) is False
    assert t.get("a", 5) == 5
    assert t.incr("a", 2, 40) == 42
    assert t.get("a") == 42


def test_set_ends_it_everywhere(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source), tiers(source)
    assert [t.get("a"), other.get("a")] == [None, None]
    t.set("a", 1)
    assert t.get("a") == 1
    until(lambda: other.get("a") == 1)


def test_invalidate_ends_it_everywhere(tiers: Tiers) -> None:
    source = Source()
    t, other = tiers(source, missing_ttl=None), tiers(source, missing_ttl=None)
    assert [t.get("a"), other.get("a")] == [None, None]
    source.data["a"] = 1
    t.invalidate("a")
    assert t.get("a") == 1
    until(lambda: other.get("a") == 1)


def test_it_is_never_stale(tiers: Tiers) -> None:
    """stale and grace are for values: whether something exists by now is asked."""
    source = Source()
    options = {"ttl": 60, "missing_ttl": 0.2, "stale": 60, "grace": 60}
    t, other = tiers(source, **options), tiers(source, **options)
    assert [t.get("a"), other.get("a")] == [None, None]
    source.data["a"] = 1
    until(lambda: t.get("a") == 1)
    until(lambda: other.get("a") == 1)


def test_without_l2(alone: Tiers) -> None:
    source = Source()
    t = alone(source)
    assert [t.get("a"), t.get("a", 5)] == [None, 5]
    assert source.taken() == ["a"]
    assert t.get_many(["a"]) == {}
    assert t.touch("a", 60) is False
    assert t.add("a", 1) is True
    assert t.get("a") == 1
    assert t.get("b") is None
    assert t.get_or_set("b", lambda: 2) == 2
    assert t.get("c") is None
    assert t.incr("c", 2, 40) == 42
