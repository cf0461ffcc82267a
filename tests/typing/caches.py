"""What mypy makes of `Cache`. Checked by tests/test_typing.py and never run.

An ignored error is part of the test: were the error missing, mypy would call the comment unused.
"""

from array import array
from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from decimal import Decimal
from typing import Literal, assert_type

from fastcache import Cache, CacheStats, Entry
from fastcache.testing import FakeClock

Cause = Literal["explicit", "replaced", "size", "expired"]

cache: Cache[str, int] = Cache(10)
mixed: Cache[str, object] = Cache(None)
rates: Cache[str, float] = Cache(10)


def told(key: str, value: int, cause: Cause) -> None: ...


def weigh(key: str, value: int) -> int:
    return 1


def made() -> None:
    Cache[str, int](
        10, policy="lfu", ttl=1.5, tti=timedelta(minutes=1), jitter=0.1, weigher=weigh,
        listener=told, clock=FakeClock(), details=True, name="users",
    )  # fmt: skip
    assert_type(Cache(10, weigher=weigh), Cache[str, int])
    Cache[str, int](10, ttl=Decimal("0.5"))
    Cache[str, int](10, policy="sieve")  # type: ignore[arg-type]
    Cache[str, int](1.5)  # type: ignore[arg-type]
    Cache[str, int](10, ttl="60")  # type: ignore[arg-type]
    Cache[str, int](10, 5)  # type: ignore[call-arg, arg-type]
    Cache[bytes, int](10, weigher=weigh)  # type: ignore[arg-type]


def read() -> None:
    assert_type(cache["a"], int)
    assert_type(cache.get("a"), int | None)
    assert_type(cache.get("a", None), int | None)
    assert_type(cache.get("a", 0), int)
    assert_type(cache.get("a", "none"), int | str)
    assert_type(cache.peek("a"), int | None)
    assert_type(cache.peek("a", 0), int)
    assert_type(cache.peek("a", b""), int | bytes)
    assert_type(cache.ttl("a"), float | None)
    assert_type("a" in cache, bool)
    assert_type(cache.get_many(["a", "b"]), list[int | None])
    assert_type(cache.get_many(["a", "b"], 0), list[int])
    assert_type(cache.get_many(["a", "b"], "none"), list[int | str])
    assert_type(Cache[int, str](1).get_many(array("q", [1, 2])), list[str | None])
    cache[1]  # type: ignore[index]
    cache.get(1)  # type: ignore[call-overload]
    cache.get(key="a")  # type: ignore[call-overload]


def looked_at() -> None:
    entry = cache.entry("a")
    assert_type(entry, Entry[int])
    assert_type(entry.value, int)
    assert_type(entry.ttl, float | None)
    assert_type(entry.weight, int)
    assert_type(entry.hits, int | None)
    assert_type(entry.load_cost, float | None)
    stats = cache.stats(reset=True)
    assert_type(stats, CacheStats)
    assert_type(stats.hits, int)
    assert_type(stats.load_time, float)
    assert_type(stats.hit_rate, float)
    assert_type(cache.hottest(3), list[str])
    assert_type(cache.coldest(), list[str])
    assert_type(cache.nbytes, int)
    assert_type(cache.maxsize, int | None)
    assert_type(cache.weight, int)
    assert_type(cache.policy, Literal["lru", "fifo", "lfu"])
    assert_type(cache.name, str | None)
    cache.maxsize = 3  # type: ignore[misc]


def written() -> None:
    cache["a"] = 1
    cache["a"] = "1"  # type: ignore[assignment]
    cache.set("a", 1, ttl=5, tti=None, weight=2, tags=("t", b"t", 1, ("user", 42)))
    cache.set("a", "1")  # type: ignore[arg-type]
    cache.set("a", 1, 5)  # type: ignore[call-arg]
    cache.set("a", 1, tags=(1.5,))  # type: ignore[arg-type]
    assert_type(cache.add("a", 1, ttl=5), bool)
    cache.set_many({"a": 1}, tags=["t"])
    cache.set_many([("a", 1)], ttl=5)
    cache.set_many({"a": "1"})  # type: ignore[arg-type]
    cache.update({"b": 2})
    cache.update([("b", 2)], c=3)
    cache.update(c=3)
    assert_type(cache.setdefault("a", 1), int)
    assert_type(cache.touch("a"), bool)
    cache.touch("a", ttl=timedelta(seconds=5))
    assert_type(cache.get_or_set("a", lambda: 1, ttl=5), int)
    cache.get_or_set("a", lambda: "1")  # type: ignore[arg-type, return-value]


def counted() -> None:
    assert_type(cache.incr("a"), int)
    assert_type(cache.incr("a", delta=2, initial=10), int)
    assert_type(rates.incr("a", 0.5), float)
    assert_type(mixed.incr("a"), float)
    Cache[str, bytes](1).incr("a")  # type: ignore[misc]


def removed() -> None:
    del cache["a"]
    assert_type(cache.pop("a"), int)
    assert_type(cache.pop("a", 0), int)
    assert_type(cache.pop("a", None), int | None)
    assert_type(cache.popitem(), tuple[str, int])
    assert_type(cache.delete("a"), bool)
    assert_type(cache.delete_many(["a", "b"]), int)
    assert_type(cache.expire(limit=10), list[tuple[str, int]])
    assert_type(cache.evict(3), int)
    cache.invalidate_tag("t", ("user", 42))
    cache.resize(None)
    cache.clear()


def as_a_mapping() -> None:
    mapping: MutableMapping[str, int] = cache
    assert_type(len(mapping), int)
    assert_type(iter(cache), Iterator[str])
    assert_type(list(cache), list[str])
    assert_type(list(cache.keys()), list[str])
    assert_type(list(cache.values()), list[int])
    assert_type(list(cache.items()), list[tuple[str, int]])
    assert_type(cache.keys() & {"a"}, set[str])
    assert_type(cache.keys().mapping, Cache[str, int])
    assert_type(dict(cache), dict[str, int])
    assert_type(cache == {}, bool)
    reversed(cache)  # type: ignore[arg-type]


class Missing(Cache[str, int]):
    def __missing__(self, key: str) -> int:
        return self.setdefault(key, len(key))


assert_type(Missing(3)["abc"], int)
