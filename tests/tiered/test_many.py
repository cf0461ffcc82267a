"""get_many: one round trip to L2, one bulk load, and what each of them may leave out."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tiered.support import Source, Thread, Tiers, until

from fastcache import MISSING


class Broken(Exception):
    pass


def test_one_bulk_load(tiers: Tiers) -> None:
    source = Source(a=1, b=2, c=3)
    many = tiers.many(source)
    t, other = tiers(many, ttl=60), tiers(tiers.many(source), ttl=60)
    assert t.get_many(["c", "a", "none"]) == {"c": 3, "a": 1}
    assert list(t.get_many(["c", "a"])) == ["c", "a"]  # in the order asked for
    assert many.asked == [["c", "a", "none"]]
    assert t.get_many(["a", "b", "none", "c"]) == {"a": 1, "b": 2, "c": 3}
    assert many.asked == [["c", "a", "none"]]
    assert source.taken() == ["b"]  # one alone is loaded as such
    assert other.get_many(["a", "b", "c", "none"]) == {"a": 1, "b": 2, "c": 3}
    assert other.stats().loads == 0
    stats = t.stats()
    assert (stats.loads, stats.l2.fills) == (2, 4)


def test_each_key_once(tiers: Tiers) -> None:
    source = Source(a=1)
    many = tiers.many(source)
    t = tiers(many)
    assert t.get_many(["a", "a", "b", "a", "b"]) == {"a": 1}
    assert many.asked == [["a", "b"]]
    assert t.get_many(iter(["a"])) == {"a": 1}
    assert t.get_many([]) == {}
    assert t.get_many({"a": 5}.keys()) == {"a": 1}


def test_from_all_tiers_at_once(tiers: Tiers) -> None:
    source = Source(l1=1, l2=2, db=3, db2=4)
    tiers(source).get("l2")
    t = tiers(many := tiers.many(source))
    t.get("l1")
    assert t.get_many(["db", "l1", "l2", "db2", "none"]) == {"db": 3, "l1": 1, "l2": 2, "db2": 4}
    assert many.asked == [["db", "db2", "none"]]
    assert set(t.held()) == {"l1", "l2", "db", "db2", "none"}


def test_without_load_many_each_is_loaded(tiers: Tiers) -> None:
    source = Source(a=1, b=2)
    t = tiers(source)
    assert t.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert sorted(source.taken()) == ["a", "b", "c"]


def test_a_loader_may_say_missing_and_more_than_asked(tiers: Tiers) -> None:
    many = tiers.many(Source())
    many.result = lambda keys: {"a": MISSING, "b": 2, "unasked": 3}
    t = tiers(many)
    assert t.get_many(["a", "b"]) == {"b": 2}
    assert set(t.held()) == {"a", "b"}
    assert t.get("unasked", 7) == 7


def test_a_failing_bulk_load(tiers: Tiers) -> None:
    source = Source(a=1, b=2, c=3)
    t = tiers(many := tiers.many(source), lease=30)
    assert t.get("c") == 3
    source.error = Broken()
    with pytest.raises(Broken):
        t.get_many(["a", "b", "c"])
    assert t.stats().load_failures == 1
    source.error = None
    # the leases were given up, so nobody waits
    other = tiers(tiers.many(source), lease=30)
    assert other.get("a") == 1
    assert other.stats().lease_waits == 0
    assert t.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert many.asked


@pytest.mark.parametrize("where", ["L1", "L2"])
def test_grace_of_bulk_loads(tiers: Tiers, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Older values are served if there is one for each key, and the source is left alone for a moment."""
    source = Source(a=1, b=2, c=3)
    options: dict[str, Any] = {"ttl": 0.2, "grace": 60}
    first = tiers(tiers.many(source), **options)
    first.get_many(["a", "b"])
    ended = time.monotonic() + 0.25
    until(lambda: time.monotonic() > ended)
    t = first if where == "L1" else tiers(tiers.many(source), **options)
    source.error = Broken()
    with pytest.raises(Broken):
        t.get_many(["a", "b", "c"])
    failures = t.stats().load_failures
    began = time.monotonic()
    for _ in range(3):
        assert t.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert t.get("a") == 1
    if time.monotonic() - began < 0.9:
        assert t.stats().load_failures <= failures + 1
    assert t.stats().stale >= 2
    assert caplog.text.count("older values are served") == 1
    t.invalidate("a")
    with pytest.raises(Broken):
        t.get_many(["a", "b"])
    source.error = None
    source.data.update(a=5, b=6)
    until(lambda: t.get_many(["a", "b"]) == {"a": 5, "b": 6})


def test_hard_timeout_of_bulk_loads(tiers: Tiers) -> None:
    source = Source(a=1, b=2)
    options: dict[str, Any] = {"ttl": 0.2, "lease": 30}
    before = tiers(tiers.many(source), grace=60, **options)
    before.get_many(["a", "b"])
    ended = time.monotonic() + 0.25
    until(lambda: time.monotonic() > ended)
    source.gate.clear()
    t = tiers(tiers.many(source), hard_timeout=0.1, **options)
    with pytest.raises(TimeoutError, match=r"hard_timeout=0\.1"):
        t.get_many(["a", "b"])
    assert t.stats().load_failures == 1
    graceful = tiers(tiers.many(source), hard_timeout=0.1, grace=60, **options)
    assert graceful.get_many(["a", "b"]) == {"a": 1, "b": 2}
    source.gate.set()
    assert t.get_many(["a", "b"]) == {"a": 1, "b": 2}
    source.error = TimeoutError("the loader's own")
    with pytest.raises(TimeoutError, match="own"):
        t.get_many(["c", "d"])


@pytest.mark.parametrize("wrong", [None, 5, ["a", "b"], [("a", 1)], "ab"], ids=repr)
def test_what_is_no_mapping_is_refused(tiers: Tiers, wrong: Any) -> None:
    source = Source(a=1)
    many = tiers.many(source)
    many.result = lambda keys: wrong
    t = tiers(many, lease=30)
    with pytest.raises(TypeError, match="load_many"):
        t.get_many(["a", "b"])
    assert t.held() == {}
    other = tiers(source, lease=30)
    assert other.get("a") == 1
    assert other.stats().lease_waits == 0


@pytest.mark.parametrize("change", ["invalidate", "set", "tag", "version", "elsewhere"])
def test_what_changes_while_it_loads_is_not_kept(tiers: Tiers, change: str) -> None:
    source = Source(a=1, b=1)
    source.gate.clear()
    many = tiers.many(source)
    t, other = tiers(many), tiers(source)
    call = Thread(t.get_many, ["a", "b"])
    until(lambda: many.asked)
    source.data["a"] = 2
    after = 2
    if change == "set":
        t.set("a", 5)
        after = 5
    elif change == "version":
        t.bump_version()
    elif change == "tag":
        other.set("a", 2, tags=["x"])
    else:
        (other if change == "elsewhere" else t).invalidate("a")
    source.gate.set()
    got = call.result()
    assert got["b"] == 1
    assert got["a"] in (1, 2)
    until(lambda: t.get("a") == after)
    assert tiers(source).get("a") == after
    assert t.get("b") == 1


def test_held_keys_are_read_but_not_kept(tiers: Tiers) -> None:
    source = Source(a=1, b=1)
    t, other = tiers(tiers.many(source)), tiers(source)
    with other.updating("a"):
        assert t.get_many(["a", "b"]) == {"a": 1, "b": 1}
        assert set(t.held()) == {"b"}
        source.data["a"] = 2
    assert t.get_many(["a", "b"]) == {"a": 2, "b": 1}


def test_a_bulk_load_under_others_leases(tiers: Tiers) -> None:
    """It does not wait for them, and one of the two fills."""
    source = Source(a=1, b=1)
    source.gate.clear()
    first = tiers(source)
    call = Thread(first.get, "a")
    until(lambda: source.loads)
    t = tiers(tiers.many(free := Source(a=1, b=1)))
    assert t.get_many(["a", "b"]) == {"a": 1, "b": 1}
    assert free.loads == []
    source.gate.set()
    assert call.result() == 1
    new = tiers()
    assert new.get_many(["a", "b"]) == {"a": 1, "b": 1}


def test_values_that_stay_here(tiers: Tiers) -> None:
    thing = object()
    source = Source(a=thing, b=1)
    t = tiers(tiers.many(source))
    assert t.get_many(["a", "b"]) == {"a": thing, "b": 1}
    assert t.get("a") is thing
    assert t.stats().l2.unstorable == 1


def test_thousands(tiers: Tiers) -> None:
    source = Source()
    source.data = {i: str(i) for i in range(3000)}
    from fastcache import Cache

    t = tiers(tiers.many(source), l1=Cache(None))
    assert t.get_many(range(3000)) == source.data
    other = tiers(l1=Cache(None))
    assert other.get_many(range(3000)) == source.data
    assert other.get_many(range(3000)) == source.data
    assert other.stats().l2.hits == 3000


def test_what_is_not_put_into_l2_leaves_no_lease(tiers: Tiers) -> None:
    source = Source(a=1)
    source.data["here"] = source  # cannot be packed
    t = tiers(tiers.many(source), missing_ttl=0, lease=60)
    assert t.get_many(["a", "none", "here"]) == {"a": 1, "here": source}
    other = tiers(source, missing_ttl=0, lease=60)
    assert Thread(other.get, "none").result() is None
    assert Thread(other.get, "here").result() is source
    assert other.stats().lease_waits == 0


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_one_odd_value_does_not_change_the_others(tiers: Tiers, known: bool) -> None:
    """Of values that are read together each is what it is when read alone."""
    writer = tiers(Source(), ttl=60)
    data = {f"usual {i}": {"n": i} for i in range(5)}
    writer.set_many(data)
    writer.set("tagged", "t", tags=["x"])
    writer.set("dead", "d", tags=["y"])
    writer.set("tuple", (1, {2}))
    writer.set("\u00e9", "not ASCII")
    writer.set(("a", 7), "of a tuple")
    writer.set("large", "x" * 50_000)
    writer.incr("count", 3)
    assert writer.get("nowhere", 5) == 5  # known to be missing
    writer.invalidate_tag("y")
    data |= {
        "tagged": "t",
        "tuple": (1, {2}),
        "\u00e9": "not ASCII",
        "large": "x" * 50_000,
        "count": 3,
    }
    keys = ["unknown", *data, "dead", "nowhere", ("a", 7)]
    data[("a", 7)] = "of a tuple"
    t = tiers(ttl=60)
    if known:
        t.get("usual 1")
        t.l1.clear()
        t.stats(reset=True)
    assert t.get_many([*keys, *keys]) == data
    stats = t.stats()
    assert (stats.l2.hits, stats.l2.misses) == (len(data) + 1, 2)
    assert stats.l2.undecodable == {}
    assert set(t.held()) == set(data) - {"count"} | {"nowhere"}
    assert all(50 < t.l1.ttl(key) <= 60 for key in data if key != "count")
    t.stats(reset=True)
    assert t.get_many(keys) == data
    assert t.stats().l1.hits == len(data)  # with what is known not to exist, without the counter
    alone = tiers(ttl=60)
    assert {key: alone.get(key, MISSING) for key in keys} == {
        key: data.get(key, MISSING) for key in keys
    }
    assert {key: alone.peek_l1(key) for key in keys} == {key: t.peek_l1(key) for key in keys}


def test_all_of_an_older_version_are_dead(tiers: Tiers) -> None:
    writer = tiers(ttl=60)
    data = {f"k{i}": i for i in range(10)}
    writer.set_many(data)
    t = tiers(ttl=60)
    assert t.get_many(data) == data
    writer.bump_version()
    until(lambda: t.get_many(data) == {})
    assert t.stats().l2.misses >= 10
    writer.set("k3", 30)  # the others are still in L2
    until(lambda: t.get_many(data) == {"k3": 30})
    assert tiers(ttl=60).get_many(data) == {"k3": 30}


def test_what_is_invalidated_while_it_is_read_is_not_kept(tiers: Tiers) -> None:
    writer = tiers(ttl=60)
    data = {f"k{i}": i for i in range(10)}
    writer.set_many(data)
    t = tiers(ttl=60)
    t.get("k0")
    t.l1.clear()
    values = t._core.values
    opening = values.usual_of

    def opened(*args: Any) -> Any:
        assert not t.l1.delete("k1")  # as an invalidation does
        return opening(*args)

    values.usual_of = opened  # type: ignore[method-assign]
    assert t.get_many(data) == data
    assert set(t.held()) == set(data) - {"k1"}


def test_ttl_and_stale_of_bulk_loads(tiers: Tiers) -> None:
    source = Source(a=1, b=1)
    t, other = tiers(tiers.many(source), ttl=0.4), tiers(ttl=0.4)
    t.get_many(["a", "b"])
    assert other.get_many(["a", "b"]) == {"a": 1, "b": 1}
    assert 0 < other.l1.ttl("a") <= 0.4
    source.data.update(a=2, b=2)
    until(lambda: t.get_many(["a", "b"]) == {"a": 2, "b": 2})


def test_unusable_keys(tiers: Tiers) -> None:
    t = tiers(tiers.many(Source(a=1)))
    for wrong in ([[]], ["a", object()], 5):
        with pytest.raises(TypeError):
            t.get_many(wrong)
    assert t.get_many(["a"]) == {"a": 1}


def test_without_l2(alone: Tiers) -> None:
    source = Source(a=1, b=2)
    t = alone(many := alone.many(source))
    assert t.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert t.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert many.asked == [["a", "b", "c"]]


def test_at_level_strong_each_read_asks_l2(tiers: Tiers) -> None:
    t, other = tiers(level="strong"), tiers()
    other.set_many({"a": 1, "b": 1})
    assert t.get_many(["a", "b"]) == {"a": 1, "b": 1}
    for number in range(5):
        other.set("a", number)
        assert t.get_many(["a", "b"]) == {"a": number, "b": 1}
        assert t.get("a") == number


@pytest.mark.parametrize("many", [False, True])
def test_at_level_strong_l1_answers_nothing_that_l2_has_lost(tiers: Tiers, many: bool) -> None:
    source = Source(a=0, b=0)
    # nobody tells it of changes
    t = tiers(tiers.many(source) if many else source, level="strong", backplane=None)
    other = tiers()
    for number in range(3):
        source.data["a"] = source.data["b"] = number
        other.invalidate_many(["a", "b"])
        assert t.get_many(["a"]) == {"a": number}
        assert t.get_many(["a", "b"]) == {"a": number, "b": number}
