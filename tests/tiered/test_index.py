"""The index of L1's keys by bucket: none that L1 holds is missing, and it does not grow for ever."""

from __future__ import annotations

from typing import Any

from fastcache import Cache
from fastcache._keys import places_of
from fastcache.stores.protocol import bucket_of
from fastcache.tiered.index import SLACK, Index


def test_many_at_once_are_noted_as_one_by_one() -> None:
    l1 = Cache[str, int](1000)
    one, many = Index(l1), Index(l1)
    keys = [f"key:{i}" for i in range(500)]
    _, names = places_of(keys)
    for key, name in zip(keys, names, strict=True):
        one.note(bucket_of(name), key)
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
    index.note_many(places_of(landing)[1], landing)
    for start in range(0, 4 * SLACK, 100):
        batch = [f"key:{start + i}" for i in range(100)]
        index.note_many(places_of(batch)[1], batch)
        l1.update(dict.fromkeys(batch, 1))
        index.noted_many(batch)
    held: list[Any] = index.all_of(range(256))
    assert set(landing) | set(l1) <= set(held)
    assert len(held) <= SLACK + 2 * len(l1) + len(landing) + 200
    index.noted_many(landing)
    more = [f"more:{i}" for i in range(2 * SLACK)]
    index.note_many(places_of(more)[1], more)
    index.noted_many(more)
    assert not set(landing) & set(index.all_of(range(256)))
