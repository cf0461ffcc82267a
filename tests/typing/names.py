"""What mypy makes of `Namespace`. Checked by tests/test_typing.py and never run."""

from typing import Any, assert_type

from fastcache import Cache, Entry, Namespace

cache: Cache[Any, int] = Cache(10)
users: Namespace[int] = Namespace(cache, "user", version="2")


def made() -> None:
    assert_type(Namespace(users, 42).namespace("x").name, str)
    assert_type(users.namespace("x"), Namespace[int])
    Namespace(cache, None)  # type: ignore[arg-type]
    Namespace(cache, "user", 2)  # type: ignore[call-arg]


def used() -> None:
    assert_type(users.get("a"), int | None)
    assert_type(users.get("a", "x"), int | str)
    assert_type(users["a"], int)
    assert_type(users.get_or_set(1, lambda: 5, ttl=1), int)
    assert_type(users.pop("a", None), Any)
    assert_type(users.entry("a"), Entry[int])
    assert_type(users.ttl("a"), float | None)
    assert_type(users.add("a", 1, tags=["t"]), bool)
    assert_type([value + 1 for value in users.values()], list[int])
    assert_type(list(users.items()), list[tuple[Any, int]])
    users["a"] = "text"  # type: ignore[assignment]
    users.set("a", "text")  # type: ignore[arg-type]
    users.set_many({"a": 1})
    users.set_many([("a", 1)], ttl=5)
    users.touch("a", ttl=1.5)
    users.bump()
    users.bump(42)
