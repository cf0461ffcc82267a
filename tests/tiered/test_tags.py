"""Tags, bump_version and versions of values, between caches of one name space."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from tiered.support import Source, Thread, Tiers, until

LEVELS = ["bounded", "eventual", "strong"]


def test_a_tag_takes_its_entries_everywhere(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set("a", 1, tags=["x"])
    t.set("b", 1, tags=["x", "y"])
    t.set("c", 1, tags=["y"])
    t.set("d", 1)
    assert other.get_many("abcd") == dict.fromkeys("abcd", 1)
    other.invalidate_tag("x")
    assert other.get_many("abcd") == {"c": 1, "d": 1}
    until(lambda: t.get_many("abcd") == {"c": 1, "d": 1})
    assert tiers().get_many("abcd") == {"c": 1, "d": 1}
    t.invalidate_tag("y", "never used")
    assert t.get_many("abcd") == {"d": 1}
    until(lambda: other.get_many("abcd") == {"d": 1})


@pytest.mark.parametrize(
    "tag", ["", "x y", "\u2603", b"", b"\x00", 0, -5, 2**80, (), ("a", (1, b"b"))]
)
def test_all_kinds_of_tags(tiers: Tiers, tag: Any) -> None:
    t, other = tiers(), tiers()
    t.set("a", 1, tags=[tag])
    assert other.get("a") == 1
    other.invalidate_tag(tag)
    assert tiers().get("a") is None
    until(lambda: t.get("a") is None)


def test_what_comes_after_the_tag_lives(tiers: Tiers) -> None:
    """Whatever each process has heard of the tag, and of the store's sequence of invalidations, by then."""
    first, second = tiers(), tiers()
    for tier in (first, second):
        assert tier.get("warm") is None
    for number in range(6):
        one, two = (first, second) if number % 2 else (second, first)
        one.invalidate_tag("x")
        until(functools.partial(set_and_see, two, one, number))


def set_and_see(writer: Any, reader: Any, number: int) -> bool:
    """Set what has a tag that another process has just invalidated; whether the other one gets it."""
    writer.set("k", number, tags=["x"])
    return bool(reader.get("k") == number)


def test_a_new_process_knows_how_late_it_is(tiers: Tiers) -> None:
    old = tiers()
    old.set("a", 1, tags=["x"])
    old.invalidate_tag("x")
    new = tiers()
    new.set("a", 2, tags=["x"])
    assert new.get("a") == 2
    until(lambda: old.get("a") == 2, 3)
    assert tiers().get("a") == 2
    newer = tiers()
    assert newer.get_or_set("b", lambda: 3, tags=["x"]) == 3
    assert tiers().get("b") == 3
    assert tiers().add("b", 4, tags=["x"]) is False


def test_a_load_that_a_tag_overtakes(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t, other = tiers(), tiers()
    one = Thread(t.get_or_set, "a", lambda: source("a"), tags=["x"])
    until(lambda: source.loads)
    other.invalidate_tag("x")
    source.gate.set()
    assert one.result() == 1
    assert other.get("a") is None
    until(lambda: t.get("a") is None)


def test_bump_version_takes_all(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set_many({i: i for i in range(50)})
    t.set("tagged", 1, tags=["x"])
    assert len(other.get_many(range(50))) == 50
    other.bump_version()
    assert other.get_many([*range(50), "tagged"]) == {}
    until(lambda: t.get_many([*range(50), "tagged"]) == {})
    t.set("a", 1)
    assert other.get("a") == 1
    t.bump_version()
    t.bump_version()
    assert t.get("a") is None
    until(lambda: other.get("a") is None)


def test_a_load_that_a_bump_overtakes(tiers: Tiers) -> None:
    source = Source(a=1)
    source.gate.clear()
    t, other = tiers(source), tiers(source)
    one = Thread(t.get, "a")
    until(lambda: source.loads)
    source.data["a"] = 2
    other.bump_version()
    source.gate.set()
    assert one.result() == 1
    assert other.get("a") == 2
    until(lambda: t.get("a") == 2)


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_heeds_tags_in_its_time(tiers: Tiers, level: str) -> None:
    t = tiers(level=level, l1_ttl=0.2)
    other = tiers()
    for number in range(3):
        t.set("a", number, tags=["x"])
        assert t.get("a") == number
        other.invalidate_tag("x")
        if level == "strong":
            assert t.get("a") is None
            assert t.get_many(["a"]) == {}
        else:
            until(lambda: t.get("a") is None, 4)


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_heeds_a_bump_in_its_time(tiers: Tiers, level: str) -> None:
    t = tiers(level=level, l1_ttl=0.2)
    t.set("a", 1)
    assert t.get("a") == 1
    tiers().bump_version()
    if level == "strong":
        assert t.get("a") is None
    else:
        until(lambda: t.get("a") is None, 4)


def test_tags_of_what_is_promoted_and_set_again(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    t.set("a", 1, tags=["x"])
    assert other.get("a") == 1
    t.set("a", 2)  # without the tag
    until(lambda: other.get("a") == 2)
    other.invalidate_tag("x")
    assert (t.get("a"), other.get("a")) == (2, 2)


def test_tags_must_be_such(filed: Tiers) -> None:
    t = filed()
    t.set("a", 1)
    for wrong in ("abc", b"abc", 5, [1.5], [None], [[1]], [{}]):
        for call in (
            lambda wrong=wrong: t.set("a", 2, tags=wrong),
            lambda wrong=wrong: t.set_many({"a": 2}, tags=wrong),
            lambda wrong=wrong: t.add("new", 2, tags=wrong),
            lambda wrong=wrong: t.get_or_set("new", lambda: 1 / 0, tags=wrong),
        ):
            with pytest.raises(TypeError, match="tag"):
                call()
    with pytest.raises(TypeError, match="tag"):
        t.invalidate_tag(None)
    assert t.get("a") == 1
    assert t.get("new") is None
    t.invalidate_tag()  # none
    assert t.get("a") == 1


def test_old_and_new_workers_invalidate_each_other(tiers: Tiers) -> None:
    source = Source(a="1")
    old, new = tiers(source, version=1, ttl=60), tiers(source, version=2, ttl=60)
    assert old.get("a") == "1"
    assert new.get("a") == "1"
    assert source.taken() == ["a", "a"]
    assert new.stats().l2.undecodable == {"schema": 1}
    source.data["a"] = "2"
    new.invalidate("a")
    assert new.get("a") == "2"
    until(lambda: old.get("a") == "2")
    source.data["a"] = "3"
    old.invalidate("a")
    assert old.get("a") == "3"
    until(lambda: new.get("a") == "3")
    old.set("a", "4")
    until(lambda: new.get("a") == "3")  # it asks the source, since it cannot read that
    new.invalidate_tag("x")
    old.bump_version()
    assert old.get("a") == "3"


def test_counters_are_of_no_version(tiers: Tiers) -> None:
    old, new = tiers(version=1), tiers(version=2)
    assert old.incr("n") == 1
    assert new.incr("n") == 2
    assert (old.get("n"), new.get("n")) == (2, 2)
    old.set("v", 1)
    assert new.incr("v") == 1  # what it cannot read is absent
    assert old.get("v") == 1


def test_without_l2_tags_are_the_caches_own(alone: Tiers) -> None:
    t = alone(Source(a=1))
    t.get_or_set("b", lambda: 2, tags=["x"])
    t.get("a")
    t.invalidate_tag("x")
    assert t.get("b") is None
    assert dict(t.held())["a"] == 1
    t.bump_version()
    assert t.held() == {}
