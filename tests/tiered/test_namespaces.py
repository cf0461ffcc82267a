"""Namespace over a tiered cache: its version is one for all tiers and processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fastcache import AsyncTieredCache, Cache, Namespace, TieredCache
from fastcache.stores import SQLiteStore


def pair(path: Path, loader: Any = None) -> tuple[TieredCache[Any, Any], TieredCache[Any, Any]]:
    first, second = (
        TieredCache(Cache(100), SQLiteStore(path / "l2.db"), namespace="n", ttl=60, loader=loader)
        for _ in range(2)
    )
    return first, second


def test_entries_are_those_of_the_name_space(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    here, there = Namespace(one, "user"), Namespace(two, "user")
    here.set("42", {"name": "Ann"})
    assert there.get("42") == {"name": "Ann"} == two.get("user:42")
    assert Namespace(two, "order").get("42", 0) == 0
    assert there.get_many(["42", "43"], 0) == [{"name": "Ann"}, 0]
    assert there.set_many({"1": 1, "2": 2}) == []
    assert here.get("1") == 1
    assert here.get_or_set("3", lambda: 3) == 3 == there.get("3")
    assert not there.add("3", 4)
    assert here.touch("3", 5)
    assert there.delete("3")
    assert here.get("3") is None


def test_a_bump_reaches_all_tiers_and_processes(tmp_path: Path) -> None:
    source = {"user:1": "old", "user:2": "old", "order:1": "old"}
    one, two = pair(tmp_path, source.get)
    here, there, orders = Namespace(one, "user"), Namespace(two, "user"), Namespace(two, "order")
    assert here.get("1") == there.get("1") == orders.get("1") == "old"
    assert there.get_many(["1", "2"]) == ["old", "old"]
    source.update(dict.fromkeys(source, "new"))
    here.bump()
    assert there.get("1") == here.get("1") == "new"
    assert here.get_many(["1", "2"]) == there.get_many(["1", "2"]) == ["new", "new"]
    assert orders.get("1") == "old", "another name space was invalidated"


def test_a_bump_of_one_key_takes_what_is_nested(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    here, there = Namespace(one, "user"), Namespace(two, "user")
    nested = there.namespace("42")
    here.set("42", 1)
    here.set("43", 1)
    nested.set("basket", 1)
    here.bump("42")
    assert (there.get("42"), nested.get("basket"), there.get("43")) == (None, None, 1)


def test_versions_are_apart(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    Namespace(one, "user").set("1", "v1")
    assert Namespace(two, "user", version=2).get("1") is None
    assert Namespace(two, "user").get("1") == "v1"


def test_awaited(tmp_path: Path) -> None:
    async def main() -> None:
        source = {"user:1": "old"}

        async def load(key: str) -> Any:
            return source.get(key)

        tiered = AsyncTieredCache(
            Cache(100), SQLiteStore(tmp_path / "l2.db"), namespace="n", ttl=60, loader=load
        )
        users = Namespace(tiered, "user")
        assert await users.get("1") == "old"
        source["user:1"] = "new"
        assert await users.get("1") == "old"
        await users.bump()
        assert await users.get("1") == "new"
        await users.set("2", 2)
        assert await users.get_many(["1", "2", "3"], 0) == ["new", 2, None]
        assert await users.warm(["1"]) == 1
        assert await users.set_many({"4": 4}) == []
        await users.clear()
        assert await users.get("4") is None
        await tiered.close()

    asyncio.run(main())


@pytest.mark.parametrize("call", ["incr", "peek", "pop", "ttl", "__len__", "items"])
def test_what_l2_does_not_allow(tmp_path: Path, call: str) -> None:
    users = Namespace(pair(tmp_path)[0], "user")
    with pytest.raises(TypeError, match="'user' is in a tiered cache"):
        getattr(users, call)(*([] if call in ("__len__", "items") else ["1"]))
