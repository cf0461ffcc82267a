"""`Namespace`: full keys that cannot collide, a mapping of its own, and versions by tag."""

from __future__ import annotations

import copy
import enum
import inspect
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from _support import LIMIT, Recorder, run_python, run_threads
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcache import Cache, Namespace
from fastcache.testing import FakeClock


@pytest.fixture
def cache() -> Cache[Any, Any]:
    return Cache(1000)


@pytest.fixture
def users(cache: Cache[Any, Any]) -> Namespace[Any]:
    return Namespace(cache, "user")


# ---- full keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "full"),
    [
        ([("user", 1)], "42", "user:42"),
        ([("user", 1)], "a:b/c@d%", "user:a:b/c@d%"),
        ([("user", 1)], "", "user:"),
        ([("user", 2)], "42", "user@2:42"),
        ([("user", "1")], "42", "user:42"),
        ([("user", "2024-01")], "42", "user@2024-01:42"),
        ([("user", 1)], 42, ("user", 42)),
        ([("user", 3)], (1, None), ("user@3", (1, None))),
        ([("shop", 1), ("user", 1)], "42", "shop/user:42"),
        ([("shop", 2), ("user", 3)], "42", "shop@2/user@3:42"),
        ([("user", 1), (42, 1)], "posts", "user/42:posts"),
        ([("a:b/c@d%e", 1)], "k", "a%3Ab%2Fc%40d%25e:k"),
        ([("user", "1/2")], "k", "user@1%2F2:k"),
        ([("user", -1)], "k", "user@-1:k"),
    ],
)
def test_full_keys(
    cache: Cache[Any, Any], path: list[tuple[Any, Any]], key: Any, full: object
) -> None:
    ns: Any = cache
    for name, version in path:
        ns = Namespace(ns, name, version=version)
    assert ns.key(key) == full and type(ns.key(key)) is type(full)
    ns[key] = "value"
    assert dict(cache) == {full: "value"}
    if isinstance(key, str):
        assert f"{ns}:{key}" == full


PARTS = st.text("ab1:/@%3AF", min_size=1, max_size=4)
PATHS = st.lists(st.tuples(PARTS, PARTS | st.integers(0, 3)), min_size=1, max_size=3)
KEYS = st.one_of(
    st.text("ab1:/@%3AF", max_size=5),
    st.integers(0, 2),
    st.tuples(PARTS, PARTS),
    st.sampled_from([None, b"a", 1.0, True]),
)


def made(path: list[tuple[str, str | int]]) -> Namespace[Any]:
    ns: Any = Cache(10)
    for name, version in path:
        ns = Namespace(ns, name, version=version)
    assert isinstance(ns, Namespace)
    return ns


def meaning(full: Any) -> tuple[list[tuple[str, str]], Any]:
    """Path and key, read out of a full key by the rules of the documentation."""
    path, key = full.split(":", 1) if isinstance(full, str) else full
    levels = []
    for level in path.split("/"):
        name, _, version = level.partition("@")
        levels.append((unquote(name), unquote(version) or "1"))
    return levels, key


@settings(max_examples=1000)
@given(path=PATHS, key=KEYS)
def test_a_full_key_can_be_read_back(path: list[tuple[str, str | int]], key: Any) -> None:
    """So it is the key of no other path and key. Equal keys of other types are as in a dict."""
    levels, found = meaning(made(path).key(key))
    assert levels == [(name, str(version)) for name, version in path]
    assert found == key and type(found) is type(key)


@settings(max_examples=500)
@given(first=PATHS, second=PATHS, key=KEYS, other=KEYS)
def test_different_names_never_collide(
    first: list[tuple[str, str | int]], second: list[tuple[str, str | int]], key: Any, other: Any
) -> None:
    same = [(n, str(v)) for n, v in first] == [(n, str(v)) for n, v in second] and key == other
    assert (made(first).key(key) == made(second).key(other)) is same


class Colour(enum.StrEnum):
    RED = "red"


class Kind(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
    A = "a"


class Folded(str):
    """Equal whatever the case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


def test_strings_of_other_types(users: Namespace[Any]) -> None:
    users[Colour.RED] = 1
    assert users["red"] == 1 and type(users.key(Colour.RED)) is str
    users[Folded("Abc")] = 2
    assert users[Folded("aBC")] == 2
    assert users.key("Abc") == "user:Abc" and "Abc" not in users
    assert set(users) == {"red", Folded("abc")}
    assert Namespace(users, Kind.A).key("k") == "user/a:k"


def test_equal_keys_are_one_as_in_a_dict(users: Namespace[Any]) -> None:
    users[1] = "one"
    assert users[1.0] == users[True] == "one" and "1" not in users


def test_unhashable_keys(users: Namespace[Any]) -> None:
    call: Callable[[], object]
    for call in (lambda: users.get([]), lambda: users.set([], 1), lambda: [] in users):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unhashable"):
            call()
    assert not users


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("",), ValueError, "name must not be empty"),
        ((None,), TypeError, "name must be a str or an int, got None"),
        ((b"user",), TypeError, "name .* got b'user'"),
        ((True,), TypeError, "name .* got True"),
        (("user", ""), ValueError, "version must not be empty"),
        (("user", None), TypeError, "version must be a str or an int, got None"),
        (("user", 1.5), TypeError, r"version .* got 1\.5"),
        (("user", False), TypeError, "version .* got False"),
    ],
)
def test_bad_names(
    cache: Cache[Any, Any], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Namespace(cache, arguments[0], **dict(zip(["version"], arguments[1:], strict=False)))


def test_a_cache_is_needed() -> None:
    with pytest.raises(TypeError, match=r"cache must be a Cache or have its calls, got \{\}"):
        Namespace({}, "user")


# ---- a mapping -------------------------------------------------------------------------------


def test_only_its_own_keys(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    strange = [("user",), ("user", 1, 2), ("users", 1), (None, 1), ((), ()), "user", b"user:1", 7]
    cache.update(dict.fromkeys(strange, "foreign"))
    others = [
        Namespace(cache, "users"),
        Namespace(cache, "user", version=2),
        Namespace(cache, "use"),
        Namespace(users, "x"),
    ]
    for i, ns in enumerate(others):
        ns["a"] = ns[1] = i
    users.update({"a": "A", 1: "one", ("user", 1): "pair"})
    assert set(users) == {"a", 1, ("user", 1)} == set(users.keys())
    assert len(users) == 3 and users
    assert dict(users.items()) == dict(users) == users == {"a": "A", 1: "one", ("user", 1): "pair"}
    assert sorted(users.values()) == ["A", "one", "pair"] and "one" in users.values()
    assert ("a", "A") in users.items() and ("a", "B") not in users.items()
    assert ("b", "A") not in users.items() and "a" not in users.items()
    for i, ns in enumerate(others):
        assert ns == {"a": i, 1: i}


def test_looking_through_it_is_no_access(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    for i in range(5):
        users[i] = i
    before = cache.stats(), cache.coldest()
    list(users), list(users.values()), list(users.items()), users.peek(0), 1 in users, len(users)
    assert (cache.stats(), cache.coldest()) == before


class Equal:
    """Equal to whatever it is compared with."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a key of somebody else was compared")


def test_other_keys_are_not_asked(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    class Key(Equal):
        def __hash__(self) -> int:  # type: ignore[override]
            return 1

    cache[(Key(), 1)] = cache[Key()] = "foreign"
    users["a"] = 1
    assert list(users) == ["a"]


def test_reading(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    users.update(a=1, b=2)
    assert users.get("a") == users["a"] == users.peek("a") == 1
    assert users.get("x") is None and users.get("x", 5) == 5 and users.peek("x", 5) == 5
    with pytest.raises(KeyError, match="user:x"):
        users["x"]
    assert users.get_many(["b", "x", "a"]) == [2, None, 1]
    assert users.get_many(iter(["x", "a"]), 0) == [0, 1]
    with pytest.raises(KeyError, match="user:x"):
        users.ttl("x")
    with pytest.raises(KeyError, match="user:x"):
        users.entry("x")


def test_writing_and_options() -> None:
    clock = FakeClock()
    users: Namespace[Any] = Namespace(Cache(100, clock=clock, ttl=100), "user")
    users.set("a", 1, ttl=5, weight=3, tags=["t"])
    assert users.ttl("a") == 5
    record = users.entry("a")
    assert (record.value, record.ttl, record.weight, record.tags) == (1, 5, 3, {"t"})
    assert users.add("a", 2) is False and users.add("b", 2, ttl=None, tags={"t", "u"}) is True
    assert users.ttl("b") is None and users.entry("b").tags == {"t", "u"}
    users.set_many({"c": 3, 4: 4}, ttl=7, tags=("v",))
    users.set_many(iter([("d", 5)]))
    assert users.get_many(["c", 4, "d"]) == [3, 4, 5]
    assert users.ttl(4) == 7 and users.entry("c").tags == {"v"}
    assert users.touch("c") and users.ttl("c") == 100 and not users.touch("x")
    assert users.touch("c", ttl=3) and users.touch("c", 4) and users.ttl("c") == 4
    assert users.get_or_set("e", lambda: 6, ttl=9, tags=["t"]) == 6 and users.ttl("e") == 9
    assert users.setdefault("e", 0) == 6 and users.setdefault("f", 7) == 7
    assert users.setdefault("g") is None and "g" in users
    users.invalidate_tag("t", "v")
    assert set(users) == {"d", "f", "g"}
    clock.advance(100)
    assert not users and len(users) == 0


@pytest.mark.parametrize("tags", ["text", b"bytes", 5, None, [1.5]])
def test_bad_tags(users: Namespace[Any], tags: Any) -> None:
    for call in (users.set, users.add):
        with pytest.raises(TypeError, match="tag"):
            call("a", 1, tags=tags)
    with pytest.raises(TypeError, match="tag"):
        users.get_or_set("a", int, tags=tags)
    with pytest.raises(TypeError, match="tag"):
        users.set_many({"a": 1}, tags=tags)
    assert not users


def test_removing(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    users.update({"a": 1, "b": 2, "c": 3, "d": 4, 5: 5})
    cache["other"] = 0
    del users["a"]
    with pytest.raises(KeyError, match="user:a"):
        del users["a"]
    assert users.delete("b") and not users.delete("b")
    assert users.pop("c") == 3 and users.pop("c", None) is None
    with pytest.raises(KeyError, match="user:c"):
        users.pop("c")
    assert users.invalidate("d") is True
    assert users.delete_many(["a", 5]) == 1
    assert dict(cache) == {"other": 0}


def test_popitem(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    users.update({"a": 1, 2: 2})
    cache["other"] = 0
    assert {users.popitem(), users.popitem()} == {("a", 1), (2, 2)}
    with pytest.raises(KeyError, match="'user' is empty"):
        users.popitem()
    assert dict(cache) == {"other": 0}


@pytest.mark.parametrize("call", [len, bool, Namespace.popitem, Namespace.clear])
def test_other_threads_may_store_meanwhile(
    cache: Cache[Any, Any], users: Namespace[Any], call: Any
) -> None:
    """They come between any two lines of Python, and so they do here."""

    def store(*_: Any) -> Any:
        cache[object()] = 1
        return store

    cache.update(foreign=1, others=2)
    users.update(a=1, b=2)
    tracer = sys.gettrace()
    sys.settrace(store)
    try:
        result = call(users)
    finally:
        sys.settrace(tracer)
    assert result in (2, True, ("a", 1), ("b", 2), None)
    assert len(users) == {len: 2, bool: 2, Namespace.popitem: 1, Namespace.clear: 0}[call]


def test_clear_takes_what_was_stored_past_it(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    users["a"] = 1
    cache["user:b"] = cache["user", 3] = cache["other"] = 2
    assert len(users) == 3
    users.clear()
    assert len(users) == 0 and set(cache) == {"other"}


def test_what_it_says_of_itself(cache: Cache[Any, Any]) -> None:
    ns: Namespace[Any] = Namespace(cache, "a:b", version=2).namespace(7)
    assert (ns.name, ns.version, ns.cache) == ("7", 1, cache)
    assert str(ns) == "a%3Ab@2/7"
    assert repr(ns) == f"<fastcache.Namespace 'a%3Ab@2/7' of {cache!r}>"
    with pytest.raises(TypeError, match="unhashable"):
        hash(ns)
    assert [*inspect.signature(Namespace).parameters] == ["cache", "name", "version"]


def test_copies() -> None:
    cache: Cache[Any, Any] = Cache(9)
    users: Namespace[Any] = Namespace(cache, "user", version="b")
    users["a"] = 1
    shallow = copy.copy(users)
    assert shallow.cache is cache and shallow == users
    for other in (copy.deepcopy(users), pickle.loads(pickle.dumps(users))):
        assert str(other) == "user@b" and dict(other) == {"a": 1}
        other.bump()
        assert not other and users
    shallow.bump()
    assert not users


# ---- versions --------------------------------------------------------------------------------


def fill(*namespaces: Namespace[Any]) -> None:
    for ns in namespaces:
        ns.update({"a": 1, "42": 2, 42: 3})


def test_bump_forgets_the_whole_name_space_and_nothing_else(cache: Cache[Any, Any]) -> None:
    shop: Namespace[Any] = Namespace(cache, "shop")
    users, other, next_version = (
        shop.namespace("user"),
        shop.namespace("users"),
        shop.namespace("user", version=2),
    )
    nested = users.namespace(42)
    fill(shop, users, other, next_version, nested)
    users.bump()
    assert [len(ns) for ns in (shop, users, other, next_version, nested)] == [3, 0, 3, 3, 0]
    assert users.get("a") is None and users.get_many(["a", 42]) == [None, None]
    fill(users, nested)
    assert len(users) == len(nested) == 3
    shop.bump()
    assert set(cache) == set()


def test_bump_of_a_key_forgets_it_and_what_is_nested_under_it(users: Namespace[Any]) -> None:
    one, again, other = users.namespace("42"), users.namespace(42, version=9), users.namespace("4")
    deep = one.namespace("posts")
    fill(users, one, again, other, deep)
    users.bump("42")
    assert set(users) == {"a", 42}
    assert [len(ns) for ns in (one, again, other, deep)] == [0, 0, 3, 0]
    fill(users, one, again, deep)
    users.bump(42)  # the same name, another key
    assert set(users) == {"a", "42"} and not one and not again and not deep
    users[None] = 1
    users.bump(None)
    assert None not in users
    users.bump("absent")
    assert set(users) == {"a", "42"} and len(other) == 3


def test_all_objects_of_a_name_are_one(cache: Cache[Any, Any]) -> None:
    first: Namespace[Any] = Namespace(cache, "user")
    second: Namespace[Any] = Namespace(cache, "user")
    first["a"] = 1
    assert second["a"] == 1
    second.bump()
    assert "a" not in first
    elsewhere: Namespace[Any] = Namespace(Cache(9), "user")
    first["a"] = elsewhere["a"] = 1
    first.bump()
    assert "a" in elsewhere


def test_the_dead_go_without_being_touched() -> None:
    recorder = Recorder()
    cache: Cache[Any, Any] = Cache(None, listener=recorder)
    users: Namespace[Any] = Namespace(cache, "user")
    for i in range(1000):
        users[i] = i
    users.bump()
    for _ in range(1000):
        cache["other"] = 0
    assert len(cache) == 1
    assert {cause for key, _, cause in recorder.take() if key != "other"} == {"explicit"}


def test_bumping_leaves_nothing_behind(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    cache["a"] = 1
    users["warm"] = 1
    users.bump("warm")
    before = cache.nbytes
    for i in range(100_000):
        users.bump(i)
        users.namespace(i)
    assert cache.nbytes == before


def test_counters(users: Namespace[Any]) -> None:
    assert [users.incr("n"), users.incr("n", 5), users.incr("n", delta=-1)] == [1, 6, 5]
    assert users.incr("m", 2, initial=10) == 12 and users.incr("f", 0.5) == 0.5
    users.bump()
    assert users.incr("n") == 1 and users.incr("m", 1) == 1
    users.set("t", 7, ttl=60, tags=["mine"])
    assert users.incr("t") == 8 and users.ttl("t") is not None
    users.invalidate_tag("mine")
    assert "t" not in users
    users["s"] = "text"
    for arguments in (("s",), ("n", "1"), ("new", "1", "2"), ("new", 1, None)):
        with pytest.raises(TypeError):
            users.incr(*arguments)
    assert "new" not in users


class Gap(Cache[Any, Any]):
    """A cache in which something else happens just before each incr."""

    meanwhile: Callable[[], object]

    def incr(self, *arguments: Any) -> Any:  # type: ignore[override]
        self.meanwhile()
        return super().incr(*arguments)


def test_a_counter_that_goes_while_it_is_counted_is_no_stranger() -> None:
    cache = Gap(100)
    users: Namespace[Any] = Namespace(cache, "user")
    for meanwhile in (users.bump, cache.clear, lambda: cache.evict(1)):
        users["n"] = 41
        cache.meanwhile = meanwhile
        assert users.incr("n") == 1
        assert users["n"] == 1
        users.bump()
        assert "n" not in users
    cache.resize(0)
    assert users.incr("n") == 1 and not users


def test_a_raw_counter_is_taken_in(cache: Cache[Any, Any], users: Namespace[Any]) -> None:
    cache["user:n"] = 5
    assert users.incr("n") == 6 and cache["user:n"] == 6
    users.bump()
    assert "n" not in users


class Tiers:
    """Another object with the calls of Cache, and with `invalidate` as caches with tiers have it."""

    def __init__(self) -> None:
        self.inner: Cache[Any, Any] = Cache(100)
        self.invalidated: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __getitem__(self, key: Any) -> Any:
        return self.inner[key]

    def __delitem__(self, key: Any) -> None:
        del self.inner[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.inner

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)

    def delete(self, key: Any) -> bool:
        raise AssertionError(f"{key!r} would go from the source as well")

    def invalidate(self, key: Any) -> None:
        self.invalidated.append(key)
        self.inner.delete(key)


def test_over_anything_with_the_calls_of_cache() -> None:
    tiers = Tiers()
    users: Namespace[Any] = Namespace(tiers, "user")
    nested = users.namespace("a")
    users["a"], users["b"] = 1, 2
    nested["x"] = 3
    users.bump("a")
    users.invalidate("b")
    assert tiers.invalidated == ["user:a", "user:b"]
    assert not users and not nested
    assert users.incr("n") == 1 and users.get_or_set("c", lambda: 4) == 4
    assert users == {"n": 1, "c": 4}
    users.bump()
    assert not users


# ---- threads ---------------------------------------------------------------------------------

BUMPS: dict[str, tuple[Callable[[Namespace[Any]], Namespace[Any]], Callable[[Any], object]]] = {
    "the name space": (lambda shop: shop, lambda shop: shop.bump()),
    "another object": (
        lambda shop: shop,
        lambda shop: Namespace(shop.cache, "shop").bump(),
    ),
    "one above": (lambda shop: shop.namespace("user"), lambda shop: shop.bump()),
    "the key": (lambda shop: shop, lambda shop: shop.bump("k")),
    "the key above": (lambda shop: shop.namespace("user"), lambda shop: shop.bump("user")),
    "clear": (lambda shop: shop, lambda shop: shop.clear()),
}


@pytest.mark.parametrize("how", BUMPS)
def test_a_load_that_started_before_a_bump_is_not_kept(how: str) -> None:
    shop: Namespace[Any] = Namespace(Cache(100), "shop")
    ns, bump = BUMPS[how][0](shop), BUMPS[how][1]
    reading, bumped = threading.Event(), threading.Event()

    def old() -> str:
        reading.set()
        assert bumped.wait(LIMIT)
        return "old"

    def loader() -> object:
        return ns.get_or_set("k", old)

    def bumper() -> object:
        assert reading.wait(LIMIT)
        bump(shop)
        try:
            # while the old load is still under way
            return ns.get("k"), ns.get_or_set("k", lambda: "new"), ns["k"]
        finally:
            bumped.set()

    assert run_threads([loader, bumper]) == ["old", (None, "new", "new")]
    assert ns["k"] == "new"


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads switch as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_nothing_older_than_a_bump_is_read_after_it() -> None:
    """One thread changes the source and bumps; the others read through the name space."""
    users: Namespace[Any] = Namespace(Cache(50), "user")
    source = [0]
    barrier = threading.Barrier(4, timeout=LIMIT)

    def writer() -> None:
        barrier.wait()
        for number in range(1, 1000):
            source[0] = number
            if number % 2:
                users.bump()
            else:
                for key in range(4):
                    users.bump(key)

    def reader() -> None:
        barrier.wait()
        for i in range(3000):
            # the source is changed before the bump; what was bumped before is in `known` only once
            # the writer has gone on to the next number
            known = source[0] - 1
            assert users.get_or_set(i % 4, lambda: source[0]) >= known

    assert run_threads([writer, reader, reader, reader]) == [None] * 4
    users.bump()
    assert not users


@pytest.mark.usefixtures("restless")
def test_no_increment_is_lost() -> None:
    users: Namespace[Any] = Namespace(Cache(50), "user")
    barrier = threading.Barrier(4, timeout=LIMIT)

    def count() -> list[int]:
        barrier.wait()
        return [users.incr("n") for _ in range(2000)]

    seen = run_threads([count] * 4)
    assert sorted(number for part in seen for number in part) == list(range(1, 8001))


@pytest.mark.usefixtures("restless")
def test_no_counter_survives_a_bump() -> None:
    users: Namespace[Any] = Namespace(Cache(50), "user")
    barrier = threading.Barrier(4, timeout=LIMIT)
    done = threading.Event()

    def count() -> None:
        barrier.wait()
        while not done.is_set():
            users.incr("n")

    def bump() -> None:
        barrier.wait()
        for _ in range(2000):
            users.bump()
        done.set()

    assert run_threads([bump, count, count, count]) == [None] * 4
    users.bump()
    assert "n" not in users and not users


# ---- against a model -------------------------------------------------------------------------

#: Paths in one cache, so that each could be taken for another; the second is nested in the first.
MODEL_PATHS: list[list[tuple[str, int]]] = [
    [("u", 1)],
    [("u", 1), ("1", 1)],
    [("u", 1), ("1", 2)],
    [("u", 2)],
    [("u/1", 1)],
    [("u:1", 1)],
]


class Pair:
    """Name spaces in one cache and their model: (value, tagged, deadline) by path and key."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cache: Cache[Any, Any] = Cache(None, clock=self.clock, ttl=50)
        self.items: dict[tuple[int, Any], tuple[int, bool, float]] = {}
        self.namespaces: list[Namespace[Any]] = []
        for levels in MODEL_PATHS:
            ns: Any = self.cache
            for name, version in levels:
                ns = Namespace(ns, name, version=version)
            self.namespaces.append(ns)

    def step(self, path: int, what: str, key: Any, number: int) -> None:
        self.path, self.key, self.number = path, key, number
        self.ns = self.namespaces[path]
        self.fresh = (number, False, self.clock.now + 50)
        self.old = self.live(path).get(key)
        getattr(self, "do_" + what)()
        self.compare()

    def compare(self) -> None:
        self.cache._check()
        for i, ns in enumerate(self.namespaces):
            expected = self.live(i)
            assert dict(ns.items()) == expected and len(ns) == len(expected)
            assert all(key in ns for key in expected)

    def live(self, path: int) -> dict[Any, int]:
        return {
            key: value
            for (at, key), (value, _, dies) in self.items.items()
            if at == path and self.clock.now < dies
        }

    def store_if_absent(self) -> None:
        if self.old is None:
            self.items[self.path, self.key] = self.fresh

    def remove(self) -> None:
        self.items.pop((self.path, self.key), None)

    def forget_below(self, above: list[tuple[str, int]], name: str | None = None) -> None:
        """What is nested in the path `above`, itself included, or only under a name in it."""
        depth = len(above)
        for path, key in list(self.items):
            levels = MODEL_PATHS[path]
            if levels[:depth] == above and (
                name is None or (len(levels) > depth and levels[depth][0] == name)
            ):
                del self.items[path, key]

    # Each operation on both sides.

    def do_set(self) -> None:
        odd, ttl = self.number % 2, self.number + 1
        self.ns.set(self.key, self.number, ttl=ttl, tags=["odd"] * odd)
        self.items[self.path, self.key] = (self.number, bool(odd), self.clock.now + ttl)

    def do_put(self) -> None:
        self.ns[self.key] = self.number
        self.items[self.path, self.key] = self.fresh

    def do_get(self) -> None:
        assert self.ns.get(self.key) == self.old

    def do_add(self) -> None:
        assert self.ns.add(self.key, self.number) is (self.old is None)
        self.store_if_absent()

    def do_pop(self) -> None:
        assert self.ns.pop(self.key, None) == self.old
        self.remove()

    def do_delete(self) -> None:
        assert self.ns.delete(self.key) is (self.old is not None)
        self.remove()

    def do_many(self) -> None:
        self.ns.set_many({self.key: self.number, "2": self.number})
        self.items[self.path, self.key] = self.items[self.path, "2"] = self.fresh
        assert self.ns.get_many([self.key, "2", "?"]) == [self.number, self.number, None]

    def do_load(self) -> None:
        expected = self.number if self.old is None else self.old
        assert self.ns.get_or_set(self.key, lambda: self.number) == expected
        self.store_if_absent()

    def do_default(self) -> None:
        expected = self.number if self.old is None else self.old
        assert self.ns.setdefault(self.key, self.number) == expected
        self.store_if_absent()

    def do_incr(self) -> None:
        before = (0, False, self.fresh[2])
        if self.old is not None:
            before = self.items[self.path, self.key]
        number = before[0] + self.number
        assert self.ns.incr(self.key, self.number) == number
        self.items[self.path, self.key] = (number, *before[1:])

    def do_touch(self) -> None:
        assert self.ns.touch(self.key) is (self.old is not None)
        if self.old is not None:
            self.items[self.path, self.key] = (
                *self.items[self.path, self.key][:2],
                self.fresh[2],
            )

    def do_bump(self) -> None:
        self.ns.bump()
        self.forget_below(MODEL_PATHS[self.path])

    def do_bump_key(self) -> None:
        self.ns.bump(self.key)
        self.remove()
        self.forget_below(MODEL_PATHS[self.path], str(self.key))

    def do_clear(self) -> None:
        self.ns.clear()
        self.forget_below(MODEL_PATHS[self.path])

    def do_tag(self) -> None:
        self.ns.invalidate_tag("odd")
        self.items = {at: item for at, item in self.items.items() if not item[1]}

    def do_tick(self) -> None:
        self.clock.advance(self.number)


WRITES = ["set", "set", "put", "put", "many", "load", "incr"]
OTHERS = [name[3:] for name in vars(Pair) if name.startswith("do_")]
STEPS = st.tuples(
    st.integers(0, len(MODEL_PATHS) - 1),
    st.sampled_from(WRITES + OTHERS),
    st.sampled_from(["1", 1, "", ":1", "2"]),
    st.integers(0, 9),
)


@settings(max_examples=400)
@given(steps=st.integers(1, 40).flatmap(lambda n: st.lists(STEPS, min_size=n, max_size=n)))
def test_against_a_model(steps: list[tuple[int, str, Any, int]]) -> None:
    pair = Pair()
    for step in steps:
        pair.step(*step)
    pair.cache.expire()
    assert len(pair.cache) == sum(len(pair.live(i)) for i in range(len(MODEL_PATHS)))


# ---- the package -----------------------------------------------------------------------------


def test_it_is_imported_when_it_is_asked_for() -> None:
    out = run_python("""
import sys, fastcache
print("fastcache.names" in sys.modules, "Namespace" in dir(fastcache), "Namespace" in vars(fastcache))
from fastcache import Namespace
print(fastcache.Namespace is Namespace is vars(fastcache)["Namespace"], "typing" in sys.modules)
try:
    fastcache.nonsense
except AttributeError as error:
    print(error)
""")
    assert out.splitlines() == [
        "False True False",
        "True False",
        "module 'fastcache' has no attribute 'nonsense'",
    ]
