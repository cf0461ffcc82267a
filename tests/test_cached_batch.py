"""`cached(batch=True)`: one call for many keys, however they were asked for."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _support import run_threads, until

from fastcache import Cache, CacheInfo, cached
from fastcache.testing import FakeClock

#: Seconds to gather, where a test says itself when there are enough: never waited for.
LONG = 50.0


class Source:
    """A batch loader that keeps what it was asked for."""

    def __init__(self, answer: Callable[[list[Any]], Any] | None = None) -> None:
        self.__qualname__ = "source"
        self.answer = answer or (lambda keys: {key: key * 10 for key in keys})
        self.calls: list[list[Any]] = []

    def __call__(self, keys: list[Any]) -> Any:
        self.calls.append(list(keys))
        return self.answer(keys)


def asynchronous(source: Source) -> Any:
    async def load(keys: list[Any]) -> Any:
        await asyncio.sleep(0)
        return source(keys)

    load.__qualname__ = "source"
    return load


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


class Caller:
    """The same calls on a plain and on an async batch function."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def make(self, source: Source, **options: Any) -> Any:
        self.f = cached(batch=True, **{"max_wait": 0, **options})(
            source if self.kind == "def" else asynchronous(source)
        )
        return self

    def __call__(self, keys: Any) -> Any:
        if self.kind == "def":
            return self.f(keys)

        async def call() -> Any:
            return await self.f(keys)

        return run(call())


@pytest.fixture(params=["def", "async def"])
def caller(request: Any) -> Caller:
    return Caller(request.param)


# ---- one and several ---------------------------------------------------------------------------------


def test_several_and_one(caller: Caller) -> None:
    source = Source()
    f = caller.make(source)
    assert f([1, 2]) == {1: 10, 2: 20} and f(2) == 20 and f(3) == 30
    assert f([4, 3, 1, 4]) == {4: 40, 3: 30, 1: 10} and list(f([3, 1])) == [3, 1]
    assert source.calls == [[1, 2], [3], [4]]
    assert f([]) == {} and len(source.calls) == 3


@pytest.mark.parametrize(
    "several",
    [[1, 2], {1, 2}, frozenset({1, 2}), {1: 0, 2: 0}.keys(), {0: 1, 5: 2}.values(), range(1, 3)],
)
def test_what_is_several(several: Any, caller: Caller) -> None:
    assert caller.make(Source())(several) == {1: 10, 2: 20}


def test_iterators_are_several(caller: Caller) -> None:
    f = caller.make(Source())
    assert f(iter([1, 2])) == f(x for x in (1, 2)) == {1: 10, 2: 20}


@pytest.mark.parametrize("key", [(1, 2), "text", b"12", None, 1.5, frozenset])
def test_what_is_one(key: Any, caller: Caller) -> None:
    source = Source(lambda keys: dict.fromkeys(keys, "v"))
    f = caller.make(source)
    assert f(key) == "v" and f([key]) == {key: "v"} and source.calls == [[key]]


def test_equal_keys_are_one(caller: Caller) -> None:
    source = Source()
    f = caller.make(source)
    assert f([1, 1.0, True, 2]) == {1: 10, 2: 20} and f(1.0) == 10 and source.calls == [[1, 2]]


def test_unhashable_keys(caller: Caller) -> None:
    source = Source()
    f = caller.make(source)
    for keys in ([[1]], {}, [1, {}]):
        with pytest.raises(TypeError, match="unhashable"):
            f(keys)
    assert not source.calls and f.f.cache_info().currsize == 0


@pytest.mark.parametrize("number", [0, 2, 3])
def test_one_argument(number: int) -> None:
    f = cached(batch=True)(Source())
    with pytest.raises(TypeError, match=r"source.*one argument"):
        f(*range(number))


def test_max_batch(caller: Caller) -> None:
    source = Source()
    f = caller.make(source, max_batch=3)
    assert f(range(8)) == {n: n * 10 for n in range(8)}
    assert source.calls == [[0, 1, 2], [3, 4, 5], [6, 7]]


# ---- gathering -----------------------------------------------------------------------------------------


def test_single_misses_of_threads_share_a_call() -> None:
    source = Source()
    f = cached(batch=True, max_batch=10, max_wait=LONG)(source)
    results = run_threads([lambda n=n: f(n) for n in range(20)])
    assert results == [n * 10 for n in range(20)]
    assert sorted(len(call) for call in source.calls) == [10, 10]


def test_single_misses_of_tasks_share_a_call() -> None:
    source = Source()
    f = cached(batch=True, max_batch=10, max_wait=LONG)(asynchronous(source))

    async def main() -> list[int]:
        return await asyncio.gather(*[f(n) for n in range(20)])

    assert run(main()) == [n * 10 for n in range(20)]
    assert [len(call) for call in source.calls] == [10, 10]


def test_tasks_wait_no_longer_than_max_wait() -> None:
    source = Source()
    f = cached(batch=True, max_wait=0.001)(asynchronous(source))

    async def main() -> list[int]:
        return await asyncio.gather(*[f(n) for n in range(50)])

    assert run(main()) == [n * 10 for n in range(50)] and len(source.calls) == 1


def test_the_same_key_of_many_is_loaded_once(caller: Caller) -> None:
    source = Source()
    f = caller.make(source, max_batch=1)
    go = threading.Event()
    source.answer = lambda keys: go.wait(60) and {key: key for key in keys}

    def release() -> None:
        until(lambda: f.f.cache.stats().misses == 9)
        go.set()

    results = run_threads([*[lambda: f(1)] * 8, lambda: f([1]), release])
    assert results[:9] == [1] * 8 + [{1: 1}] and source.calls == [[1]]


def test_several_wait_for_what_others_load() -> None:
    began, go = threading.Event(), threading.Event()

    def answer(keys: list[int]) -> dict[int, int]:
        if keys == [1, 2]:
            began.set()
            assert go.wait(60)
        return {key: key for key in keys}

    source = Source(answer)
    f = cached(batch=True)(source)

    def second() -> Any:
        assert began.wait(60)
        threading.Thread(
            target=lambda: (until(lambda: f.cache.stats().misses == 4), go.set())
        ).start()
        return f([2, 3])

    assert run_threads([lambda: f([1, 2]), second]) == [{1: 1, 2: 2}, {2: 2, 3: 3}]
    assert source.calls == [[1, 2], [3]]


def test_two_loops_and_threads_share_the_loads() -> None:
    source = Source()
    go = threading.Event()
    source.answer = lambda keys: go.wait(60) and {key: object() for key in keys}
    f = cached(batch=True, max_wait=0)(asynchronous(source))

    async def main() -> Any:
        return await f(1)

    def release() -> None:
        until(lambda: f.cache.stats().misses == 3)
        go.set()

    *results, _ = run_threads([*[lambda: run(main())] * 3, release])
    assert len({id(result) for result in results}) == 1 and source.calls == [[1]]


def test_a_cancelled_task_does_not_end_the_load_of_others() -> None:
    source = Source()
    f = cached(batch=True, max_batch=2, max_wait=LONG)(asynchronous(source))

    async def main() -> Any:
        first = asyncio.create_task(f(1))
        await asyncio.sleep(0)
        first.cancel()
        value = await f(2)
        assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))
        return value

    assert run(main()) == 20 and f.cache_contains(1)


def test_a_cancelled_error_of_the_function_reaches_its_callers() -> None:
    """It used to be tried again until there was no stack left."""
    calls = []

    @cached(batch=True, max_wait=0)
    async def f(keys: list[int]) -> Any:
        calls.append(keys)
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    async def main() -> Any:
        return await asyncio.gather(f(1), f([1]), f([2]), return_exceptions=True)

    results = run(main())
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert len(calls) == 2 and f.cache_info().currsize == 0


# ---- what is wrong -----------------------------------------------------------------------------------------


WRONG: list[tuple[Any, type[Exception], str]] = [
    (lambda keys: None, TypeError, "must return a mapping, got None"),
    (lambda keys: [1, 2], TypeError, r"must return a mapping, got \[1, 2\]"),
    (lambda keys: {}, ValueError, "must return all keys, but 1, 2 are missing"),
    (lambda keys: {1: 1}, ValueError, "must return all keys, but 2 is missing"),
    (
        lambda keys: {1: 1, 2: 2, "x": 3},
        ValueError,
        "only the keys it was given, but 'x' is foreign",
    ),
    (lambda keys: {1: 1, "x": 2}, ValueError, "2 is missing"),
]


@pytest.mark.parametrize(("answer", "error", "message"), WRONG)
def test_wrong_answers(answer: Any, error: type[Exception], message: str, caller: Caller) -> None:
    f = caller.make(Source(answer), ttl=60)
    for _ in range(2):
        with pytest.raises(error, match=f"source.*{message}"):
            f([1, 2])
    assert f.f.cache_info().currsize == 0


def test_wrong_answers_reach_all_who_wait() -> None:
    f = cached(batch=True, max_batch=3, max_wait=LONG)(Source(lambda keys: {1: 1}))
    results = run_threads([lambda n=n: f(n) for n in (1, 2, 3)])
    assert [type(result) for result in results] == [ValueError] * 3
    assert f.cache_info().currsize == 0
    assert run_threads([lambda: f.cache.get_or_set(1, lambda: 5)]) == [5]  # no flight is left


def test_errors(caller: Caller) -> None:
    def answer(keys: list[int]) -> Any:
        raise KeyError("no")

    source = Source(answer)
    f = caller.make(source)
    for keys in ([1, 2], 1, 1):
        with pytest.raises(KeyError, match="no"):
            f(keys)
    assert len(source.calls) == 3 and f.f.cache.stats().load_failures == 3


def test_error_ttl(caller: Caller) -> None:
    clock = FakeClock()
    broken = True

    def answer(keys: list[int]) -> Any:
        if broken:
            raise LookupError("no")
        return dict.fromkeys(keys, 1)

    source = Source(answer)
    f = caller.make(source, error_ttl={LookupError: 5}, clock=clock)
    for keys in ([1, 2], 1, [2], [3, 1]):
        with pytest.raises(LookupError, match="no"):
            f(keys)
    assert source.calls == [[1, 2]]  # 3 was not asked for, since 1 failed
    broken = False
    assert f(3) == 1
    clock.advance(5)
    assert f([1, 2]) == {1: 1, 2: 1}


def test_an_equality_that_raises_leaves_no_flight_behind() -> None:
    class Key:
        angry = False

        def __init__(self, n: int) -> None:
            self.n = n

        def __hash__(self) -> int:
            return 7 if self.n else 1

        def __eq__(self, other: object) -> bool:
            if Key.angry:
                raise OSError("angry")
            return self is other

    f = cached(batch=True)(Source(lambda keys: dict.fromkeys(keys, 1)))
    good, one, two = Key(0), Key(1), Key(2)
    f(one)
    Key.angry = True
    with pytest.raises(OSError, match="angry"):
        f([good, two])
    Key.angry = False
    assert run_threads([lambda: f([good, two])]) == [{good: 1, two: 1}]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_call_and_no_more(error: type[BaseException]) -> None:
    calls = []

    @cached(batch=True, max_wait=0)
    def f(keys: list[int]) -> dict[int, int]:
        calls.append(keys)
        if len(calls) == 1:
            raise error
        return dict.fromkeys(keys, 1)

    with pytest.raises(error):
        f([1, 2])
    assert run_threads([lambda: f([1, 2])]) == [{1: 1, 2: 1}]


def test_a_batch_within_its_own_load() -> None:
    @cached(batch=True, max_wait=0)
    def f(keys: list[int]) -> dict[int, int]:
        return {key: key and f(key - 1) + 1 for key in keys}

    assert f([5, 3]) == {5: 5, 3: 3} and f(9) == 9

    @cached(batch=True, max_wait=0)
    def g(keys: list[int]) -> dict[int, int]:
        nonlocal depth
        depth += 1
        return g(keys) if depth < 3 else dict.fromkeys(keys, 7)

    depth = 0
    assert g([1]) == {1: 7}


# ---- options ----------------------------------------------------------------------------------------------


def test_ttl_tags_copy_none_ttl(caller: Caller) -> None:
    clock = FakeClock()
    source = Source(lambda keys: {key: [key] if key else None for key in keys})
    f = caller.make(
        source,
        ttl=lambda value, key: 10 * key,
        none_ttl=3,
        tags=lambda value, key: [f"k{key}"],
        copy=True,
        clock=clock,
    )
    f([0, 1, 2])[1].append("mine")
    assert f([0, 1, 2]) == {0: None, 1: [1], 2: [2]} and f(1) is not f(1)
    assert [f.f.cache.ttl(key) for key in (0, 1, 2)] == [3, 10, 20]
    f.f.cache.invalidate_tag("k2")
    assert not f.f.cache_contains(2) and f.f.cache_contains(1)


def test_invalidated_while_it_loads() -> None:
    def answer(keys: list[int]) -> dict[int, int]:
        f.cache_invalidate(1)
        f.cache.invalidate_tag("t3")
        return {key: key for key in keys}

    f: Any = cached(batch=True, tags=lambda value, key: [f"t{key}"])(Source(answer))
    assert f([1, 2, 3]) == {1: 1, 2: 2, 3: 3}
    assert [f.cache_contains(key) for key in (1, 2, 3)] == [False, True, False]


def test_the_surface() -> None:
    source = Source()
    f = cached(batch=True, maxsize=50, max_batch=7, max_wait=0)(source)
    f([1, 2]), f(1)
    assert f.cache_info() == CacheInfo(1, 2, 50, 2)
    assert f.cache_parameters() == {"maxsize": 50, "typed": False, "max_batch": 7, "max_wait": 0}
    assert f.cache_key(1) == 1 and f.cache_contains(1) and f.cache[1] == 10
    assert f.cache_refresh([1, 2]) == {1: 10, 2: 20} and f.cache_refresh(2) == 20
    assert f.cache_refresh(iter([1])) == {1: 10}
    assert source.calls == [[1, 2], [1, 2], [2], [1]]
    assert f.cache_invalidate(1) and not f.cache_invalidate(1) and f.cache_invalidate(1, 2)
    f.cache_clear()
    assert f.cache_info() == (0, 0, 50, 0)


def test_a_refresh_that_fails_takes_nothing_away(caller: Caller) -> None:
    def answer(keys: list[int]) -> dict[int, int]:
        if len(source.calls) == 2:
            assert caller.f.cache_contains(1)  # it is served meanwhile
            raise ValueError("down")
        return {key: key + len(source.calls) for key in keys}

    source = Source(answer)
    f = caller.make(source, ttl=5, error_ttl={ValueError: 5}, clock=FakeClock()).f

    def refresh(keys: Any) -> Any:
        return f.cache_refresh(keys) if caller.kind == "def" else run(f.cache_refresh(keys))

    assert caller([1, 2]) == {1: 2, 2: 3}
    with pytest.raises(ValueError, match="down"):
        refresh([1, 2])
    assert caller([1, 2]) == {1: 2, 2: 3} and len(source.calls) == 2
    assert refresh([1]) == {1: 4} and caller([1, 2]) == {1: 4, 2: 3}
    assert f.cache_info()[:2] == (4, 2)


def test_a_refresh_does_not_take_a_load_that_began_before_it() -> None:
    began, go = threading.Event(), threading.Event()

    def answer(keys: list[int]) -> dict[int, int]:
        number = len(source.calls)
        if number == 1:
            began.set()
            assert go.wait(60)
        return dict.fromkeys(keys, number)

    def refresh() -> Any:
        assert began.wait(60)
        return f.cache_refresh([5, 6])

    def release() -> None:
        assert began.wait(60)
        until(lambda: [5, 6] in source.calls or [6] in source.calls)
        go.set()

    source = Source(answer)
    f = cached(batch=True, max_wait=0)(source)
    first, second, _ = run_threads([lambda: f([5]), refresh, release])
    assert (first, second) == ({5: 1}, {5: 3, 6: 2})
    assert source.calls == [[5], [6], [5]] and f([5, 6]) == {5: 3, 6: 2}


@cached(batch=True)
def module_level(keys: list[int]) -> dict[int, int]:
    """Doc."""
    return {key: key for key in keys}


@cached(batch=True)
async def async_module_level(keys: list[int]) -> dict[int, int]:
    return {key: key for key in keys}


def test_it_looks_like_the_function() -> None:
    assert module_level.__name__ == "module_level" and module_level.__doc__ == "Doc."
    assert "keys" in str(inspect.signature(module_level)) and "module_level" in repr(module_level)
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert copy.copy(module_level) is module_level and copy.deepcopy(module_level) is module_level
    assert inspect.iscoroutinefunction(async_module_level)
    assert not inspect.iscoroutinefunction(module_level)


def test_a_shared_cache() -> None:
    clock = FakeClock()
    cache: Cache[Any, Any] = Cache(99, clock=clock)
    f = cached(batch=True, cache=cache, ttl=10, namespace="f")(Source())
    g = cached(batch=True, cache=cache)(Source())
    f([1, 2])
    assert f(1) == g(1) == 10
    assert (
        cache[("f", 1)] == 10
        and cache.ttl(f.cache_key(1)) == 10
        and cache.ttl(g.cache_key(1)) is None
    )
    assert f.cache_info() == (1, 2, 99, 2) and g.cache_info() == (0, 1, 99, 1)
    f.cache_clear()
    assert f.cache_info() == (0, 0, 99, 0) and g.cache_contains(1)


def test_an_async_batch_without_asyncio_is_driven_by_hand() -> None:
    """Under another event loop, such as trio's, each miss loads for itself."""

    @cached(batch=True)
    async def f(keys: list[int]) -> dict[int, int]:
        return {key: key * 10 for key in keys}

    for keys, expected in (([1, 2], {1: 10, 2: 20}), (3, 30), (3, 30)):
        with pytest.raises(StopIteration) as stop:
            f(keys).send(None)
        assert stop.value.value == expected
    assert f.cache_info() == (1, 3, 128, 3)


# ---- methods ------------------------------------------------------------------------------------------------


class Users:
    def __init__(self, factor: int = 10) -> None:
        self.factor = factor
        self.calls: list[list[int]] = []

    @cached(batch=True, max_wait=0, ttl=60)
    def load(self, keys: list[int]) -> dict[int, int]:
        """Loads users."""
        self.calls.append(list(keys))
        return {key: key * self.factor for key in keys}

    @cached(batch=True, max_wait=0)
    async def aload(self, keys: list[int]) -> dict[int, int]:
        return {key: key * self.factor for key in keys}


def test_methods() -> None:
    a, b = Users(), Users(5)
    assert a.load([1, 2]) == {1: 10, 2: 20} and b.load([1]) == {1: 5} and a.load(1) == 10
    assert a.calls == [[1, 2]] and a.load.cache is not b.load.cache
    assert a.load.cache_info() == (1, 2, 128, 2) and Users.load.cache_info() == (1, 3, 128, 3)
    assert a.load.cache_invalidate(1) and not a.load.cache_contains(1) and b.load.cache_contains(1)
    assert Users.load(a, [2]) == {2: 20} and Users.load.cache_contains(a, 2)
    assert Users.load.cache_invalidate(a, 2) and a.load.cache_refresh(2) == 20
    a.load.cache_clear()
    assert a.load.cache_info() == (0, 0, 128, 0) and b.load.cache_contains(1)
    Users.load.cache_clear()
    assert not b.load.cache_contains(1)

    async def main() -> Any:
        return await asyncio.gather(a.aload(1), a.aload([1, 2]), b.aload(1))

    assert run(main()) == [10, {1: 10, 2: 20}, 5]


def test_methods_are_like_others() -> None:
    a = Users()
    assert a.load == a.load and hash(a.load) == hash(a.load) and a.load != Users().load
    assert a.load.__name__ == "load" and a.load.__doc__ == "Loads users." and a.load.__self__ is a
    assert a.load.__func__ is Users.load and "Users.load" in repr(a.load)
    assert a.load.__module__ == __name__ and a.load.__qualname__ == "Users.load"
    assert [*inspect.signature(a.load).parameters] == ["keys"]
    assert [*inspect.signature(Users.load).parameters] == ["self", "keys"]
    assert pickle.loads(pickle.dumps(a.load)).__func__ is Users.load
    assert inspect.iscoroutinefunction(a.aload) and not inspect.iscoroutinefunction(a.load)
    with pytest.raises(TypeError, match="instance first"):
        Users.load()
    with pytest.raises(TypeError, match=r"Users\.load"):
        Users.load(5, [1])


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_copies_of_instances_start_empty(duplicate: Any) -> None:
    a = Users()
    a.load([1])
    twin = duplicate(a)
    twin.factor = 3
    assert twin.load([1]) == {1: 3} and a.load([1]) == {1: 10}


def test_instances_are_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        a = Users()
        a.load([1]), a.load(2)
        reference, cache = weakref.ref(a), weakref.ref(a.load.cache)
        del a
        assert reference() is None and cache() is None
    finally:
        gc.enable()


def test_overriding_and_super() -> None:
    class More(Users):
        @cached(batch=True)
        def load(self, keys: list[int]) -> dict[int, int]:
            return {key: value + 1 for key, value in super().load(keys).items()}

    m = More()
    assert m.load([1, 2]) == {1: 11, 2: 21} == m.load([1, 2]) and m.calls == [[1, 2]]
    assert Users.load(m, 1) == 10


class Stacked:
    @cached(batch=True)
    @classmethod
    def under(cls, keys: Iterable[int]) -> dict[int, Any]:
        return {key: (cls.__name__, object()) for key in keys}

    @classmethod
    @cached(batch=True)
    def over(cls, keys: Iterable[int]) -> dict[int, Any]:
        return {key: (cls.__name__, object()) for key in keys}

    @cached(batch=True)
    @staticmethod
    def static(keys: Iterable[int]) -> dict[int, Any]:
        return {key: object() for key in keys}


class StackedMore(Stacked): ...


@pytest.mark.parametrize("name", ["under", "over"])
def test_classmethods(name: str) -> None:
    f, g = getattr(Stacked, name), getattr(StackedMore, name)
    assert f([1]) == f([1]) and f(1)[0] == "Stacked" and g(1)[0] == "StackedMore" and f(1) == f(1)
    assert getattr(Stacked(), name)(1) == f(1)
    if name == "under":
        assert f.cache_contains(1) and f.cache_invalidate(1) and not f.cache_contains(1)
        assert g.cache_contains(1)


def test_staticmethods() -> None:
    assert Stacked.static(1) is Stacked().static(1) is Stacked.static([1])[1]


def test_instances_that_cannot_hold_results() -> None:
    with pytest.raises((TypeError, RuntimeError)):

        class C:
            __slots__ = ("__weakref__",)

            @cached(batch=True)
            def m(self, keys: list[int]) -> Any: ...

    with pytest.raises((TypeError, RuntimeError)):

        class D:
            @cached(batch=True, cache=Cache(5))
            def m(self, keys: list[int]) -> Any: ...


def test_threads_that_make_an_instances_cache_at_once() -> None:
    for _ in range(50):
        users = Users()
        barrier = threading.Barrier(4)

        def call(users: Any = users, barrier: Any = barrier) -> Any:
            barrier.wait(60)
            return users.load([1])

        assert run_threads([call] * 4) == [{1: 10}] * 4 and users.calls == [[1]]
