"""Methods under `cached`: entries that live and die with their instance, whatever it is made of."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import pytest
from _support import run_threads, until

from fastcache import Cache, cached
from fastcache._core import free_threaded
from fastcache.testing import FakeClock

#: What a class whose instances cannot hold results is refused with: 3.11 wraps it.
REFUSED = RuntimeError if sys.version_info < (3, 12) else TypeError


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Plain:
    """At module level, so that it is pickled."""

    def __init__(self, name: str = "plain") -> None:
        self.name = name
        self.calls: list[Any] = []

    @cached
    def load(self, x: int, y: int = 0) -> object:
        """Loads x."""
        self.calls.append((x, y))
        return object()

    @cached(ttl=50, stale=5)
    def rich(self, x: int) -> object:
        return object()

    @cached(bind=True)
    def bound(self, x: int, y: int = 0) -> object:
        return object()

    @cached(key=lambda self, x: (self.name, abs(x)))
    def keyed(self, x: int) -> object:
        return object()

    @cached(typed=True)
    def typed(self, x: Any) -> object:
        return object()

    @cached(ignore=["y"])
    def ignoring(self, x: int, y: int = 0) -> object:
        return object()


ALL = ("load", "rich", "bound", "keyed", "typed", "ignoring")


class Slots:
    __slots__ = ("__weakref__", "name")

    @cached
    def load(self, x: int) -> object:
        return object()


class DictOnly:
    """Instances that cannot be referred to weakly."""

    __slots__ = ("__dict__",)

    @cached
    def load(self, x: int) -> object:
        return object()


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    @cached
    def load(self, x: int) -> object:
        return object()


# ---- entries per instance ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_entries_are_the_instances(name: str) -> None:
    a, b = Plain(), Plain()
    f, g = getattr(a, name), getattr(b, name)
    assert f(1) is f(1) is getattr(a, name)(1) and f(1) is not g(1)
    assert f.cache is not g.cache and f.cache is getattr(a, name).cache
    assert f.cache_invalidate(1) and not f.cache_contains(1) and g.cache_contains(1)
    assert f(1) is f.cache[f.cache_key(1)]


@pytest.mark.parametrize("kind", [Slots, DictOnly, Unhashable])
def test_entries_of_all_kinds_of_instances(kind: Callable[[], Any]) -> None:
    a, b = kind(), kind()
    assert a.load(1) is a.load(1) is not b.load(1)
    assert a.load.cache_info().hits == 1 and kind.load.cache_info().currsize == 2  # type: ignore[attr-defined]
    reference = None if kind is DictOnly else weakref.ref(a)
    cache = weakref.ref(a.load.cache)
    del a
    gc.collect()
    assert cache() is None and (reference is None or reference() is None)
    assert kind.load.cache_info().currsize == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [Plain, Slots, Unhashable])
def test_an_instance_is_freed_at_once(kind: Any, name: str, no_collector: None) -> None:
    if not hasattr(kind, name):
        name = "load"
    instance = kind()
    method = getattr(instance, name)
    value = method(1)
    method.cache_key(1), method.cache_contains(1), method.cache_refresh(1)
    reference, cache = weakref.ref(instance), weakref.ref(method.cache)
    del instance, method, value
    assert reference() is None and cache() is None


def test_an_instance_whose_method_raised_is_freed_at_once(no_collector: None) -> None:
    class C:
        @cached(ttl=5, stale=5, error_ttl={KeyError: 5})
        def m(self, x: int) -> None:
            raise KeyError(x)

    instance = C()
    for _ in range(2):
        try:
            instance.m(1)
        except KeyError:
            pass
    reference = weakref.ref(instance)
    del instance
    assert reference() is None


def test_a_method_that_returns_its_instance_is_collected() -> None:
    class C:
        @cached
        def m(self) -> Any:
            return self

    reference = weakref.ref(C().m())
    gc.collect()
    assert reference() is None


@pytest.mark.timing  # where memory is not used again at once, the test would show nothing
def test_a_place_used_again_is_not_mistaken() -> None:
    """The id of a dead instance comes back."""
    seen: set[int] = set()
    again = 0
    # without the GIL memory comes back after some thousands only
    for _ in range(20_000 if free_threaded else 200):
        instance = Slots()
        again += id(instance) in seen
        seen.add(id(instance))
        assert instance.load.cache_info().currsize == 0
        instance.load(1)
        del instance
    assert again
    assert Slots.load.cache_info().currsize == 0


def test_neither_dict_nor_weak_references() -> None:
    with pytest.raises(REFUSED) as caught:

        class C:
            __slots__ = ()

            @cached
            def m(self) -> None: ...

    error = caught.value.__cause__ if REFUSED is RuntimeError else caught.value
    assert isinstance(error, TypeError) and "C" in str(error) and "__weakref__" in str(error)

    class D:
        __slots__ = ()

        @cached(method=False)
        def m(self) -> object:
            return object()

    d = D()
    assert d.m() is d.m() is not D().m()


def test_it_stays_so_for_subclasses() -> None:
    class Base:
        __slots__ = ("__weakref__",)

        @cached
        def m(self, x: int) -> object:
            return object()

    class WithDict(Base):
        pass

    for kind in (Base, WithDict):
        a, b = kind(), kind()
        assert a.m(1) is a.m(1) is not b.m(1)
    a, reference = WithDict(), None
    a.m(1)
    reference = weakref.ref(a)
    del a
    gc.collect()
    assert reference() is None


def test_what_is_no_instance_of_it() -> None:
    class C:
        @cached
        def m(self, x: int) -> int:
            return x

    for wrong in (1, "x", (), None):
        with pytest.raises(TypeError, match=r"C\.m"):
            C.m(wrong, 1)
    with pytest.raises(TypeError):
        C.m()
    with pytest.raises(TypeError, match="instance first"):
        C.m.cache_invalidate()


# ---- copies, pickles, dataclasses --------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *[lambda o, p=p: pickle.loads(pickle.dumps(o, p)) for p in range(2, 6)],
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_copies_of_an_instance_start_without_entries(duplicate: Any, name: str) -> None:
    instance = Plain("mine")
    value = getattr(instance, name)(1)
    twin = duplicate(instance)
    assert twin.name == "mine" and getattr(twin, name).cache_info().currsize == 0
    assert getattr(twin, name)(1) is not value
    assert (
        getattr(instance, name)(1) is value
        and getattr(twin, name).cache is not getattr(instance, name).cache
    )


def test_unpickled_instances_find_nothing_of_others() -> None:
    instance = Plain()
    instance.load(1)
    data = pickle.dumps(instance)
    assert len(data) < 300
    twin = pickle.loads(data)
    twin.load(1)
    assert pickle.loads(pickle.dumps(twin)).load.cache_info() == (0, 0, 128, 0)


def make_dataclass(**options: Any) -> Any:
    @dataclasses.dataclass(**options)
    class D:
        x: int
        rest: list[int] = dataclasses.field(default_factory=list, compare=False)

        @cached(ttl=50)
        def m(self, y: int) -> object:
            return object()

    return D


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frozen": True},
        {"order": True},
        {"unsafe_hash": True},
        {"slots": True, "weakref_slot": True},
        {"frozen": True, "slots": True, "weakref_slot": True},
    ],
)
def test_dataclasses(options: dict[str, Any]) -> None:
    make = make_dataclass(**options)
    a, b = make(1), make(1)
    assert a.m(1) is a.m(1) is not b.m(1)
    assert a == b and repr(a) == repr(b) and dataclasses.asdict(a) == {"x": 1, "rest": []}
    c = dataclasses.replace(a, x=1)
    assert c == a and c.m(1) is not a.m(1)
    assert copy.deepcopy(a).m(1) is not a.m(1) and copy.copy(a).m(1) is not a.m(1)
    assert a.m.cache_invalidate(1) and not a.m.cache_contains(1) and b.m.cache_contains(1)


def test_a_dataclass_with_slots_alone_is_refused_when_it_is_made() -> None:
    with pytest.raises(REFUSED):
        make_dataclass(slots=True)


def test_a_cached_function_as_the_default_of_a_field() -> None:
    source = """
import dataclasses
from fastcache import cached
@cached
def double(x):
    return 2 * x
@dataclasses.dataclass
class Job:
    run: object = double
class Holder:
    helper = double
    def m(self):
        return 1
"""
    module = type(sys)("holds_a_cached_function")
    sys.modules[module.__name__] = module
    try:
        exec(source, module.__dict__)
        assert module.double(4) == 8 and module.Job().run(5) == 10 and module.double(5) == 10
        assert module.double.cache_info() == (1, 2, 128, 2)
    finally:
        del sys.modules[module.__name__]


# ---- inheritance --------------------------------------------------------------------------------------


def test_overridden_methods_and_super() -> None:
    calls = []

    class Base:
        @cached
        def m(self, x: int) -> int:
            calls.append(("base", x))
            return x

    class Derived(Base):
        @cached
        def m(self, x: int) -> int:
            calls.append(("derived", x))
            return super().m(x) + 1

    d = Derived()
    assert [d.m(1), d.m(1), super(Derived, d).m(1), Base.m(d, 1), Derived.m(d, 1)] == [
        2,
        2,
        1,
        1,
        2,
    ]
    assert calls == [("derived", 1), ("base", 1)]
    assert d.m.cache_invalidate(1) and Base.m.cache_contains(d, 1)
    assert d.m(1) == 2 and calls == [("derived", 1), ("base", 1), ("derived", 1)]


def test_classes_of_one_name_that_are_bases_of_each_other() -> None:
    calls = []

    def extend(base: Any, level: int) -> Any:
        class C(base):  # type: ignore[misc]
            @cached
            def m(self, x: int) -> int:
                calls.append(level)
                return x if base is object else super().m(x) + 1

        return C

    last: Any = object
    for level in range(4):
        last = extend(last, level)
    c = last()
    assert [c.m(1), c.m(1), c.m(1)] == [4] * 3 and calls == [3, 2, 1, 0]


def test_inherited_methods_keep_apart_what_is_apart() -> None:
    class Base:
        @cached
        def m(self) -> str:
            return type(self).__name__

    class A(Base): ...

    class B(Base): ...

    assert (A().m(), B().m(), Base().m()) == ("A", "B", "Base")
    assert Base.m is A.m is B.m


def test_two_names_of_one_method() -> None:
    class C:
        @cached
        def m(self) -> object:
            return object()

        n = m

    c = C()
    assert c.m() is c.n()


def test_abstract_methods() -> None:
    class Base(abc.ABC):
        @cached
        @abc.abstractmethod
        def one(self, x: int) -> object: ...

        @abc.abstractmethod
        @cached
        def two(self, x: int) -> object: ...

    with pytest.raises(TypeError, match=r"one.*two"):
        Base()  # type: ignore[abstract]

    class Derived(Base):
        @cached
        def one(self, x: int) -> object:
            return object()

        @cached
        def two(self, x: int) -> object:
            return object()

    d = Derived()
    assert d.one(1) is d.one(1) is not d.two(1)


def test_protocols() -> None:
    @runtime_checkable
    class Loads(Protocol):
        def load(self, x: int) -> object: ...

    assert isinstance(Plain(), Loads)

    class WithDefault(Protocol):
        @cached
        def m(self, x: int) -> object:
            return object()

    class C(WithDefault): ...

    c = C()
    assert c.m(1) is c.m(1) is not C().m(1)


def test_partialmethod() -> None:
    class C:
        @cached
        def m(self, x: int, y: int = 0) -> tuple[int, int, object]:
            return (x, y, object())

        one = functools.partialmethod(m, 1)
        three = functools.partialmethod(m, y=3)

    c = C()
    assert c.one() is c.m(1) and c.one(2) is c.m(1, 2) and c.three(5) is c.m(5, y=3)


def test_methods_made_after_the_class() -> None:
    class C: ...

    C.m = cached(lambda self, x: object())  # type: ignore[attr-defined]
    C.n = cached(method=True)(lambda self, x: object())  # type: ignore[attr-defined]
    a, b = C(), C()
    assert a.m(1) is a.m(1) is not b.m(1) and a.n(1) is a.n(1) is not b.n(1)  # type: ignore[attr-defined]
    assert a.m.cache is b.m.cache and a.n.cache is not b.n.cache  # type: ignore[attr-defined]

    made = type("D", (), {"m": cached(lambda self, x: object())})
    a, b = made(), made()
    assert a.m.cache is not b.m.cache  # type: ignore[attr-defined]


@pytest.mark.skipif(
    free_threaded and sys.version_info < (3, 14),
    reason="CPython 3.13t keeps classes for ever once it has had threads",
)
def test_methods_of_metaclasses() -> None:
    class Meta(type):
        @cached
        def m(cls, x: int) -> object:
            return object()

    class A(metaclass=Meta): ...

    class B(A): ...

    assert A.m(1) is A.m(1) is not B.m(1) and B.m(1) is B.m(1)
    reference = weakref.ref(B)
    del B
    gc.collect()
    assert reference() is None


# ---- classmethod, staticmethod, property -----------------------------------------------------------------


class Stacked:
    @cached
    @classmethod
    def under(cls, x: int) -> object:
        return object()

    @classmethod
    @cached
    def over(cls, x: int) -> object:
        return object()

    @cached
    @staticmethod
    def under_static(x: int) -> object:
        return object()

    @staticmethod
    @cached
    def over_static(x: int) -> object:
        return object()

    @cached(ttl=60)
    @property
    def under_property(self) -> object:
        """Of the property."""
        return object()

    @property
    @cached(method=True)
    def over_property(self) -> object:
        return object()


class StackedMore(Stacked): ...


@pytest.mark.parametrize("name", ["under", "over"])
def test_classmethod(name: str) -> None:
    f = getattr(Stacked, name)
    assert f(1) is f(1) is getattr(Stacked(), name)(1) is not getattr(StackedMore, name)(1)
    assert inspect.ismethod(f) or f.__self__ is Stacked


@pytest.mark.parametrize(
    "name",
    [
        "under",
        pytest.param(
            "over",
            marks=pytest.mark.xfail(
                sys.version_info >= (3, 13),
                reason="the built-in classmethod does not say whose it is",
            ),
        ),
    ],
)
def test_cache_calls_of_a_classmethod(name: str) -> None:
    for kind in (Stacked, StackedMore):
        f = getattr(kind, name)
        f(5)
        assert f.cache_contains(5) and f.cache_invalidate(5) and not f.cache_contains(5)
        assert f.cache_refresh(5) is f(5)


@pytest.mark.parametrize("name", ["under_static", "over_static"])
def test_staticmethod(name: str) -> None:
    f = getattr(Stacked, name)
    assert f(1) is f(1) is getattr(Stacked(), name)(1) is getattr(StackedMore, name)(1)
    assert f.cache_invalidate(1) and not f.cache_contains(1)


@pytest.mark.parametrize("name", ["under_property", "over_property"])
def test_property(name: str, no_collector: None) -> None:
    a, b = Stacked(), Stacked()
    assert getattr(a, name) is getattr(a, name) is not getattr(b, name)
    function = vars(Stacked)[name].fget
    assert function.cache_invalidate(a) and not function.cache_contains(a)
    assert function.cache_contains(b) and function.cache_info().currsize == 1
    reference = weakref.ref(b)
    del b
    assert reference() is None


def test_a_property_over_a_shared_cache_or_by_its_instance() -> None:
    cache: Cache[Any, Any] = Cache(9)

    class C:
        @cached(cache=cache)
        @property
        def shared(self) -> list[int]:
            return []

        @cached(method=False)
        @property
        def apart(self) -> list[int]:
            return []

    a, b = C(), C()
    assert a.shared is a.shared is not b.shared and len(cache) == 2
    assert a.apart is a.apart is not b.apart
    function = vars(C)["apart"].fget
    assert function.cache.peek(function.cache_key(a)) is a.apart and vars(a) == {}


def test_a_property_stays_one() -> None:
    values = []

    class C:
        @property
        def p(self) -> int:
            """Doc."""
            return len(values)

        @p.setter
        def p(self, value: int) -> None:
            values.append(value)

        p = cached(p)

    c = C()
    assert c.p == 0
    c.p = 5
    assert c.p == 0 and values == [5] and C.p.__doc__ == "Doc."


# ---- method= ----------------------------------------------------------------------------------------------


def test_method_false() -> None:
    class C:
        @cached(method=False)
        def m(self, x: int) -> object:
            return object()

    a, b = C(), C()
    assert a.m(1) is a.m(1) is not b.m(1)
    assert a.m.cache is b.m.cache is C.m.cache and C.m.cache_info().currsize == 2
    assert a.m.cache_invalidate(1) and not a.m.cache_contains(1) and b.m.cache_contains(1)


def test_methods_on_a_shared_cache() -> None:
    cache: Cache[Any, Any] = Cache(99)

    class C:
        @cached(cache=cache)
        def m(self, x: int) -> object:
            return object()

    a, b = C(), C()
    assert a.m(1) is a.m(1) is not b.m(1) and len(cache) == 2
    assert a.m.cache is cache and a.m.cache_invalidate(1) and len(cache) == 1


# ---- bound methods ------------------------------------------------------------------------------------------


def test_a_bound_method_is_like_any_other() -> None:
    a, b = Plain(), Plain()
    assert (
        a.load == a.load and hash(a.load) == hash(a.load) and a.load != b.load and a.load != a.rich
    )
    assert a.load.__self__ is a and a.load.__func__ is Plain.load
    assert a.load.__name__ == "load" and a.load.__qualname__ == "Plain.load"
    assert a.load.__doc__ == "Loads x." and a.load.__module__ == __name__
    assert "Plain.load" in repr(a.load)
    assert str(inspect.signature(a.load)) == "(x: 'int', y: 'int' = 0) -> 'object'"
    assert str(inspect.signature(Plain.load)) == "(self, x: 'int', y: 'int' = 0) -> 'object'"
    assert len({a.load, a.load, b.load}) == 2
    twin = pickle.loads(pickle.dumps(a.load))
    assert type(twin.__self__) is Plain and twin.__func__ is Plain.load
    assert pickle.loads(pickle.dumps(Plain.load)) is Plain.load
    weak = weakref.WeakMethod(a.load)
    assert weak() == a.load and callable(a.load)


def test_the_signature_of_a_method_of_arguments_alone() -> None:
    class C:
        @cached
        def m(*args: Any) -> Any:
            return args[1:]

    c = C()
    assert str(inspect.signature(c.m)) == "(*args: 'Any') -> 'Any'" and c.m(1, 2) == (1, 2)


@pytest.mark.parametrize("options", [{"bind": True}, {"vary": []}, {"ignore": ["args"]}])
def test_a_method_of_arguments_alone_is_freed(options: dict[str, Any], no_collector: None) -> None:
    class C:
        @cached(**options)
        def m(*args: Any) -> object:
            return object()

    c = C()
    assert c.m(1) is c.m(1)
    assert (c.m(2) is c.m(1)) is ("ignore" in options)
    reference = weakref.ref(c)
    del c
    assert reference() is None


@pytest.mark.parametrize("name", ALL)
def test_unbound_calls_take_the_instance(name: str) -> None:
    a = Plain()
    method = getattr(Plain, name)
    assert method(a, 1) is getattr(a, name)(1)
    assert method.cache_contains(a, 1) and method.cache_key(a, 1) == getattr(a, name).cache_key(1)
    assert method.cache_refresh(a, 1) is method(a, 1)
    assert method.cache_invalidate(a, 1) and not method.cache_contains(a, 1)


def test_calls_of_all_shapes() -> None:
    a = Plain()
    assert a.load(1) is a.load(1) is not a.load(x=1) and a.load(x=1) is a.load(x=1)
    assert a.load(*(1,), y=2) is a.load(1, y=2)
    assert a.bound(1) is a.bound(x=1) is a.bound(1, 0) is a.bound(y=0, x=1)
    assert a.typed(1) is not a.typed(1.0) and a.ignoring(1, 5) is a.ignoring(1, 6)
    assert a.keyed(-3) is a.keyed(3)
    with pytest.raises(TypeError):
        a.load()
    with pytest.raises(TypeError):
        a.load(1, 2, 3)
    assert a.calls[:2] == [(1, 0), (1, 0)]


# ---- bounds, counts ---------------------------------------------------------------------------------------------


def test_maxsize_is_per_instance() -> None:
    class C:
        @cached(maxsize=2)
        def m(self, x: int) -> int:
            return x

    a, b = C(), C()
    for x in range(5):
        a.m(x), b.m(x)
    assert a.m.cache_info() == b.m.cache_info() == (0, 5, 2, 2)
    assert C.m.cache_info() == (0, 10, 2, 4) and C.m.cache_parameters()["maxsize"] == 2
    a.m.cache_clear()
    assert a.m.cache_info() == (0, 0, 2, 0) and b.m.cache_info().currsize == 2
    C.m.cache_clear()
    assert C.m.cache_info() == (0, 0, 2, 0) == b.m.cache_info()


def test_each_instance_has_the_options() -> None:
    clock = FakeClock()

    class C:
        @cached(ttl=10, stale=5, tags=["t"], policy="lfu", clock=clock, jitter=0.0)
        def m(self, x: int) -> object:
            return object()

    c = C()
    first = c.m(1)
    assert c.m.cache.policy == "lfu" and c.m.cache.ttl(c.m.cache_key(1)) == 10
    clock.advance(11)
    assert c.m(1) is first
    until(lambda: c.m.cache_contains(1))
    c.m.cache.invalidate_tag("t")
    assert not c.m.cache_contains(1)


@pytest.mark.timing
def test_ten_thousand_instances() -> None:
    class C:
        @cached(ttl=60)
        def m(self, x: int) -> int:
            return x

    C().m(1)
    tracemalloc.start()
    instances = [C() for _ in range(10_000)]
    before = tracemalloc.get_traced_memory()[0]
    for instance in instances:
        instance.m(1)
    each = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
    assert C.m.cache_info().currsize == 10_000 or C.m.cache_info().currsize == 10_001
    assert each < 3000, each
    del instances, instance
    gc.collect()
    assert C.m.cache_info().currsize == 0


# ---- threads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Plain, Slots, DictOnly])
def test_threads_that_make_an_instances_cache_at_once(kind: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            instance = kind()
            barrier = threading.Barrier(4)

            def call(instance: Any = instance, barrier: Any = barrier) -> object:
                barrier.wait(60)
                return instance.load(1)

            assert len(set(run_threads([call] * 4))) == 1
            assert instance.load.cache_info().currsize == 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("batch", [False, True])
def test_asked_for_all_instances_while_others_make_more(batch: bool) -> None:
    """A thread that reads the counts of a method, say for metrics, is not disturbed. Others may come between
    any two lines of Python, and so they do here."""

    class C:
        if batch:

            @cached(batch=True, max_wait=0)
            def m(self, keys: list[int]) -> dict[int, int]:
                return dict.fromkeys(keys, 1)
        else:

            @cached
            def m(self, keys: Any) -> Any:
                return 1

    kept: list[C] = []

    def another(*_: Any) -> Any:
        kept.append(C())
        C.m(kept[-1], 1)
        return another

    for _ in range(10):
        another()
    tracer = sys.gettrace()
    for call in (C.m.cache_info, C.m.cache_clear):
        sys.settrace(another)
        try:
            call()
        finally:
            sys.settrace(tracer)
    assert not any(c.m.cache_contains(1) for c in kept[:10])


def test_an_instance_lives_while_its_method_loads() -> None:
    began, go = threading.Event(), threading.Event()
    alive = []

    class C:
        @cached
        def m(self) -> int:
            began.set()
            assert go.wait(60)
            alive.append(reference() is self)
            return 1

    instance = C()
    reference = weakref.ref(instance)
    method = instance.m
    del instance

    def release() -> None:
        assert began.wait(60)
        gc.collect()
        go.set()

    assert run_threads([lambda: method(), release])[0] == 1 and alive == [True]


def test_a_renewal_keeps_its_instance_until_it_ends() -> None:
    clock, go = FakeClock(), threading.Event()
    done = []

    class C:
        @cached(ttl=10, stale=10, clock=clock)
        def m(self) -> int:
            if clock.now:
                assert go.wait(60)
                done.append(reference() is self)
            return 1

    instance = C()
    reference = weakref.ref(instance)
    instance.m()
    clock.advance(11)
    instance.m()
    del instance
    gc.collect()
    go.set()
    until(lambda: reference() is None)
    assert done == [True]
