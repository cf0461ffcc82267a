"""invalidate_on and publish: application events that remove what keys_of names, in every process."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tiered.support import Source, Tiers, until

from fastcache.tiered import Tag


def keys_of(user_id: int) -> list[Any]:
    return [("user", user_id), f"profile:{user_id}", Tag(f"u{user_id}")]


def test_an_event_removes_keys_and_tags_everywhere(tiers: Tiers) -> None:
    t, other = tiers(), tiers()
    for tier in (t, other):
        assert tier.invalidate_on("user.updated", keys_of) is keys_of
    t.set(("user", 42), 1)
    t.set("profile:42", 1)
    t.set("page", 1, tags=["u42", "u43"])
    t.set(("user", 43), 1)
    keys = [("user", 42), "profile:42", "page", ("user", 43)]
    assert len(other.get_many(keys)) == 4
    assert t.publish("user.updated", user_id=42) is None
    assert t.get_many(keys) == {("user", 43): 1}
    until(lambda: other.get_many(keys) == {("user", 43): 1})
    assert tiers().get_many(keys) == {("user", 43): 1}
    assert t.stats().events == 1


def test_the_publisher_may_know_nothing_of_it(networked: Tiers) -> None:
    """A process without a handler: one that has it does what is to be done in L2."""
    t, other, third = networked(), networked(), networked()
    other.invalidate_on("user.updated", keys_of)
    t.set(("user", 42), 1)
    t.set("page", 1, tags=["u42"])
    for tier in (other, third):
        assert len(tier.get_many([("user", 42), "page"])) == 2
    t.publish("user.updated", user_id=42)
    for tier in (t, other, third):
        until(lambda tier=tier: tier.get_many([("user", 42), "page"]) == {})
    assert other.stats().events == 1


def test_over_a_file_the_publisher_has_to_know(filed: Tiers) -> None:
    """There are no messages in it, so what L2 holds is removed by who publishes."""
    t, other = filed(), filed()
    t.invalidate_on("user.updated", keys_of)
    t.set(("user", 42), 1)
    assert other.get(("user", 42)) == 1
    t.publish("user.updated", user_id=42)
    assert t.get(("user", 42)) is None
    assert other.get(("user", 42)) is None


def test_several_handlers_and_other_events(tiers: Tiers) -> None:
    t = tiers()
    t.invalidate_on("e", lambda n: [n])
    t.invalidate_on("e", lambda n: [n + 1])
    t.invalidate_on("other", lambda n: [n + 2])
    t.set_many({1: 1, 2: 2, 3: 3})
    t.publish("unheard of", anything=1)
    assert t.get_many([1, 2, 3]) == {1: 1, 2: 2, 3: 3}
    t.publish("e", n=1)
    assert t.get_many([1, 2, 3]) == {3: 3}


def test_payloads_of_all_kinds(networked: Tiers) -> None:
    t, other = networked(), networked()
    heard: list[Any] = []

    def handler(**payload: Any) -> list[Any]:
        heard.append(payload)
        return []

    other.invalidate_on("e", handler)
    other.get("hears")
    payload = {"a": 1, "b": "x\n", "c": (1, b"y"), "d": None, "e": 1.5, "f": frozenset({1})}
    t.publish("e", **payload)
    t.publish("e")
    until(lambda: len(heard) == 2)
    assert heard == [payload, {}]


def test_an_event_may_name_nothing(tiers: Tiers) -> None:
    t = tiers()
    t.invalidate_on("e", list)
    t.set("a", 1)
    t.publish("e")
    assert t.get("a") == 1


def test_a_load_under_way_is_fenced(tiers: Tiers) -> None:
    from tiered.support import Thread

    source = Source(a=1)
    source.gate.clear()
    t = tiers(source)
    t.invalidate_on("e", lambda: ["a"])
    call = Thread(t.get, "a")
    until(lambda: source.loads)
    source.data["a"] = 2
    t.publish("e")
    source.gate.set()
    assert call.result() == 1
    assert t.get("a") == 2
    assert tiers(source).get("a") == 2


@pytest.mark.parametrize(
    "failing", [lambda: 1 // 0, lambda: None, lambda: 5, lambda wrong: [], lambda: [object()]]
)
def test_a_failing_keys_of_drops_all_of_l1(
    tiers: Tiers, failing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows what should have been dropped."""
    source = Source(a=1)
    t = tiers(source)
    t.invalidate_on("e", failing)
    t.invalidate_on("e", lambda: ["b"])
    t.get("a")
    t.set("b", 1)
    source.data["a"] = 2
    with caplog.at_level(logging.ERROR, "fastcache"):
        t.publish("e")
    assert t.stats().event_failures == 1
    assert "a" not in t.held()
    assert "keys_of" in caplog.text and "'e'" in caplog.text
    assert tiers().get("b") is None  # the others were called all the same


def test_a_failing_keys_of_elsewhere_is_not_the_publishers(networked: Tiers) -> None:
    t, other = networked(), networked()
    other.invalidate_on("e", lambda: 1 // 0)
    other.set("a", 1)
    assert other.get("a") == 1
    t.publish("e")
    until(lambda: other.stats().event_failures == 1)
    until(lambda: "a" not in other.held())
    assert other.stats().state == "healthy"


def test_refused(filed: Tiers) -> None:
    t = filed()
    t.set("a", 1)
    t.invalidate_on("e", lambda **_: ["a"])
    with pytest.raises(TypeError, match=r"event.*5"):
        t.publish(5)
    with pytest.raises(TypeError, match=r"event.*5"):
        t.invalidate_on(5, list)
    with pytest.raises(TypeError, match=r"keys_of.*7"):
        t.invalidate_on("e", 7)
    with pytest.raises(TypeError):
        t.publish("e", thing=object())
    assert t.get("a") == 1


def test_without_l2(alone: Tiers) -> None:
    t = alone()
    t.invalidate_on("e", lambda n: [n, Tag("x")])
    t.set("a", 1)
    t.set("b", 1, tags=["x"])
    t.set("c", 1)
    t.publish("e", n="a")
    assert t.get_many("abc") == {"c": 1}


def test_caches_of_one_program(face: Any) -> None:
    from tiered.support import Tier

    from fastcache import Cache
    from fastcache.backplane import InProcessBackplane

    plane = InProcessBackplane()
    caches = [Tier(face, face.kind(Cache(10), namespace="n", backplane=plane)) for _ in range(2)]
    t, other = caches
    try:
        other.invalidate_on("e", lambda n: [n, Tag("x")])
        for tier in caches:
            assert tier.get("hears") is None
            tier.set("b", 1, tags=["x"])
        until(lambda: other.get("b") == 1)
        other.set("a", 1)
        other.set("c", 1)
        t.publish("e", n="a")
        until(lambda: other.get_many("abc") == {"c": 1})
        t.invalidate("c")
        until(lambda: other.get("c") is None)
        other.set("d", 1, tags=["y"])
        t.invalidate_tag("y")
        until(lambda: other.get("d") is None)
        other.set("e", 1)
        t.bump_version()
        until(lambda: other.get("e") is None)
        assert t.add("f", 1) is True
        assert t.incr("n") == 1
    finally:
        for tier in caches:
            tier.close()
        plane.close()


def test_callbacks_that_are_async_are_refused(alone: Tiers) -> None:
    async def later(*keys: Any, **payload: Any) -> list[Any]:
        return []

    t = alone()
    with pytest.raises(TypeError, match="keys_of must not be async"):
        t.invalidate_on("e", later)
    with pytest.raises(TypeError, match="callback must not be async"):
        t.on_invalidate(later)


def test_a_callback_that_raises_does_no_harm(
    tiers: Tiers, caplog: pytest.LogCaptureFixture
) -> None:
    t, other = tiers(Source(a=1)), tiers(Source(a=1))
    seen: list[Any] = []

    def raises(key: Any) -> None:
        raise ValueError(f"not {key}")

    t.on_invalidate(raises)
    t.on_invalidate(seen.append)
    assert other.get("a") == 1
    assert t.invalidate("a") is True
    assert seen == ["a"]
    assert t.stats().event_failures == 1
    assert "not a" in caplog.text
