"""The index of L1's keys by bucket: none that L1 holds is missing, and it does not grow for ever."""

from __future__ import annotations

from typing import Any

import pytest

from fastcache import Cache
from fastcache._core import note_keys
from fastcache._keys import name
from fastcache.stores.protocol import bucket_of
from fastcache.tiered.index import SLACK, Index


def names_of(keys: list[str]) -> list[str]:
    return [name(key) for key in keys]


def test_many_at_once_are_noted_as_one_by_one() -> None:
    l1 = Cache[str, int](1000)
    one, many = Index(l1), Index(l1)
    keys = [f"key:{i}" for i in range(500)]
    names = names_of(keys)
    for key, each in zip(keys, names, strict=True):
        one.note(bucket_of(each), key)
        one.noted(key)
    many.note_many(names, keys)
    many.noted_many(keys)
    for bucket in range(256):
        assert sorted(one.of(bucket)) == sorted(many.of(bucket))
    assert sorted(many.all_of(range(256))) == sorted(keys)


def test_what_has_left_l1_is_forgotten_but_not_what_is_about_to_land() -> None:
    l1 = Cache[str, int](10)
    index = Index(l1)
    landing = [f"landing:{i}" for i in range(50)]
    index.note_many(names_of(landing), landing)
    for start in range(0, 4 * SLACK, 100):
        batch = [f"key:{start + i}" for i in range(100)]
        index.note_many(names_of(batch), batch)
        l1.update(dict.fromkeys(batch, 1))
        index.noted_many(batch)
    held: list[Any] = index.all_of(range(256))
    assert set(landing) | set(l1) <= set(held)
    assert len(held) <= SLACK + 2 * len(l1) + len(landing) + 200
    index.noted_many(landing)
    more = [f"more:{i}" for i in range(2 * SLACK)]
    index.note_many(names_of(more), more)
    index.noted_many(more)
    assert not set(landing) & set(index.all_of(range(256)))


@pytest.mark.parametrize(
    "wrong", ["", "a", "g" * 32, "A" + "0" * 31, "\u0661" * 40, b"0" * 32, 5], ids=repr
)
def test_a_name_that_ends_in_no_digest(wrong: Any) -> None:
    held: list[set[Any]] = [set() for _ in range(256)]
    with pytest.raises(ValueError, match="does not end in 32"):
        note_keys(held, [wrong], ["key"])
    with pytest.raises(ValueError, match="as many"):
        note_keys(held, ["0" * 32], [])
    assert not any(held)
    assert note_keys(held, ["0f" + "0" * 30, "0f" + "1" * 30], ["key", "key"]) == 1
    assert held[15] == {"key"}
