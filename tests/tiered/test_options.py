"""Options: what is refused, alone and in combination, by whom and with which words."""

from __future__ import annotations

import gc
import itertools
import re
from datetime import timedelta
from typing import Any

import pytest
from _support import shown
from tiered.support import Face, Source, Tiers

from fastcache import Cache
from fastcache.tiered.options import TierKeywords, TierOptions

NAN = float("nan")
#: Values that are no duration, and what the message must show of them.
NO_SECONDS: list[Any] = [-1, -0.001, NAN, float("-inf"), "5", b"5", True, [], object, 1j]
DURATIONS = [
    "ttl", "l1_ttl", "missing_ttl", "stale", "grace", "soft_timeout", "hard_timeout", "wait_timeout",
    "max_staleness", "degraded_ttl", "lease",
]  # fmt: skip
#: Wrong values of each option.
WRONG: dict[str, list[Any]] = {
    **{name: list(NO_SECONDS) for name in DURATIONS},
    "refresh": [-0.1, 1, 1.5, NAN, "x", True],
    "jitter": [-0.1, 1, 2.0, NAN, "x", True, None],
    "early": [0, -1, NAN, "x", True],
    "version": [-1, 2**32, 1.0, "1", None, True],
    "max_loads": [0, -1, 1.5, "1", None, True],
    "level": ["weak", "", 5, b"strong"],
    "compress_above": [-1, 1.5, "x", True],
    "copy": [5, "deep"],
    "namespace": ["", "a b", "x" * 65, "{x}", "\xe9", "a\n", 5, b"n", "a/b"],
    "backplane": ["redis", 5, object()],
    "serializer": [5, "msgpack", object()],
    "loader": [5, "load", object()],
}
for name in ("ttl", "l1_ttl", "lease"):
    WRONG[name].append(0)
for name in ("stale", "grace", "max_staleness", "degraded_ttl", "lease"):
    WRONG[name].append(None)
#: What an option needs beside it, so that it is wrong for itself.
BESIDE: dict[str, dict[str, Any]] = {
    "stale": {"ttl": 5}, "grace": {"ttl": 5}, "refresh": {"ttl": 5}, "early": {"ttl": 5},
    "soft_timeout": {"ttl": 5, "stale": 5},
}  # fmt: skip
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda each: ascii(shown(each))[:24])
def test_a_wrong_option_is_named_with_its_value(filed: Tiers, name: str, value: Any) -> None:
    l1 = Cache(10)
    l1["kept"] = 1
    options = {**BESIDE.get(name, {}), name: value}
    loader = options.pop("loader", None)
    with pytest.raises((TypeError, ValueError)) as caught:
        filed.face.kind(l1, filed.store(), loader=loader, **{"namespace": "n", **options})
    assert name in str(caught.value)
    if not isinstance(value, type):
        assert repr(value) in str(caught.value)
    assert dict(l1.items()) == {"kept": 1}
    # the L1 is free, even while the error holds what failed
    good = filed(l1=l1)
    assert good.get("a") is None


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(["ttl", "version", "level", "jitter", "early"], 2))
)
def test_of_two_wrong_options_one_is_named(filed: Tiers, pair: tuple[str, str]) -> None:
    options = {name: WRONG[name][0] for name in pair}
    with pytest.raises((TypeError, ValueError)) as caught:
        filed(**options)
    assert any(name in str(caught.value) for name in pair)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stale": 5}, "stale"),
        ({"grace": 5}, "grace"),
        ({"refresh": 0.5}, "refresh"),
        ({"early": 1.0}, "early"),
        ({"soft_timeout": 1, "ttl": 5}, "soft_timeout"),
        ({"l2": None, "level": "strong"}, "strong"),
        ({"namespace": None}, "namespace"),
        ({"unheard_of": 5}, "unheard_of"),
        ({"tti": 5}, "tti"),
    ],
    ids=str,
)
def test_what_does_not_go_together(filed: Tiers, options: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {"namespace": "n", **options}
    l2 = given.pop("l2") if "l2" in given else filed.store()
    with pytest.raises((TypeError, ValueError), match=named):
        filed.face.kind(Cache(10), l2, **given)


@pytest.mark.parametrize("l1", [None, {}, 5, dict, Cache])
def test_l1_must_be_a_cache(face: Face, l1: Any) -> None:
    with pytest.raises(TypeError, match="l1 must be a Cache"):
        face.kind(l1)


@pytest.mark.parametrize("l2", ["redis://localhost", {}, 5, Cache(5)], ids=repr)
def test_l2_must_be_a_store(face: Face, l2: Any) -> None:
    with pytest.raises(TypeError, match="l2 must be a store"):
        face.kind(Cache(5), l2, namespace="n")


def test_all_options_at_once(tiers: Tiers) -> None:
    source = Source(a=1)
    t = tiers(
        source, ttl=timedelta(minutes=1), l1_ttl=30, missing_ttl=None, stale=5, grace=timedelta(hours=1),
        refresh=0.8, early=1.0, jitter=0.1, soft_timeout=5, hard_timeout=10, wait_timeout=None, level="bounded",
        max_staleness=10, degraded_ttl=1, lease=3, max_loads=4, version=7, copy=lambda value: value,
        compress_above=None, backplane="auto",
    )  # fmt: skip
    assert t.get("a") == 1
    assert t.get("a") == 1
    t.set("b", 2)
    assert t.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert tiers(version=7).get("b") == 2


@pytest.mark.parametrize("endless", [float("inf"), 1e300, 2**70, 10**400, None], ids=str)
def test_for_ever(tiers: Tiers, endless: Any) -> None:
    t = tiers(Source(a=1), ttl=endless, missing_ttl=endless)
    assert t.get("a") == 1
    assert t.get("b") is None
    t.set("c", 3, ttl=endless)
    assert tiers().get_many("abc") == {"a": 1, "c": 3}
    assert t.touch("c", endless) is True


def test_what_a_call_is_given_is_checked_first(filed: Tiers) -> None:
    t = filed(Source(a=1))
    assert t.get("a") == 1
    for wrong in NO_SECONDS:
        for call in (
            lambda wrong=wrong: t.set("a", 2, ttl=wrong),
            lambda wrong=wrong: t.set_many({"a": 2}, ttl=wrong),
            lambda wrong=wrong: t.add("b", 2, ttl=wrong),
            lambda wrong=wrong: t.touch("a", wrong),
            lambda wrong=wrong: t.incr("n", ttl=wrong),
            lambda wrong=wrong: t.get_or_set("b", lambda: 1 / 0, ttl=wrong),
        ):
            with pytest.raises((TypeError, ValueError), match="ttl"):
                call()
    for name, wrong in itertools.product(("delta", "initial"), (1.5, "1", None, True)):
        with pytest.raises(TypeError, match=name):
            t.incr("n", **{name: wrong})
    with pytest.raises(TypeError, match="factory"):
        t.get_or_set("b", 5)
    for name in ("get_many", "warm", "invalidate_many", "delete_many"):
        with pytest.raises(TypeError, match=r"keys .* got 5"):
            getattr(t, name)(5)
    for wrong in (5, "ab", [1], None):
        with pytest.raises(TypeError, match=f"mapping .* got {re.escape(repr(wrong))}"):
            t.set_many(wrong)
    with pytest.raises(TypeError, match=r"callback .* got 5"):
        t.on_invalidate(5)
    assert t.get_many(["a", "b", "n"]) == {"a": 1}
    assert filed().get("a") == 1


def test_two_caches_share_no_l1(filed: Tiers) -> None:
    l1 = Cache(10)
    t = filed(l1=l1)
    with pytest.raises(ValueError, match="l1 belongs to another"):
        filed(l1=l1)
    t.set("a", 1)
    t.close()
    again = filed(l1=l1, namespace="another")
    assert again.get("b") is None
    del t


def test_an_l1_whose_cache_was_forgotten_is_free(filed: Tiers) -> None:
    l1 = Cache(10)
    tier = filed(l1=l1)
    filed.forget(tier)
    del tier
    gc.collect()
    assert filed(l1=l1).get("a") is None


def test_namespaces_that_are_allowed(filed: Tiers) -> None:
    for name in ("a", "A.b_c:d-9", "x" * 64):
        t = filed(namespace=name)
        t.set("k", name)
        assert t.namespace == name
        assert filed(namespace=name).get("k") == name


def test_what_it_says_of_itself(tiers: Tiers) -> None:
    t = tiers()
    assert tiers.namespace in repr(t.cache)
    assert type(t.cache).__name__ in repr(t.cache)
    assert t.level == "bounded"
    assert t.l2 in tiers.stores
    assert tiers(level="strong").level == "strong"


def test_type_checkers_know_the_options_that_there_are() -> None:
    assert set(TierKeywords.__annotations__) == set(TierOptions.__slots__)
