"""`cached`, option by option: which calls are equal, what is kept and how long, how it stays fresh.

Time is a FakeClock's. Renewals run in threads, so they are waited for; nothing is slept for. What
cannot work is refused: see test_cached_refused.py.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from _support import run_threads, until

from fastcache import Cache, cached
from fastcache.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Source:
    """A function that counts: 0, 1, 2, ... or what `answers` says; exceptions are raised."""

    def __init__(self, *answers: Any) -> None:
        self.__qualname__ = "source"
        self.answers = list(answers)
        self.calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        number = len(self.calls)
        self.calls.append((*args, *kwargs.items()))
        answer = self.answers[number] if number < len(self.answers) else number
        if isinstance(answer, type) and issubclass(answer, BaseException):
            raise answer(number)
        return answer

    @property
    def number(self) -> int:
        return len(self.calls)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the type of what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return type(error)


# ---- which calls are equal ---------------------------------------------------------------------


def test_equal_calls_are_those_of_lru_cache() -> None:
    f, g = cached(Source()), functools.lru_cache(Source())
    for function in (f, g):
        calls = [function(1), function(1.0), function(True), function(a=1), function(a=1, b=2)]
        calls += [function(b=2, a=1), function(1, 2), function((1, 2)), function(2), function(2.0)]
        assert calls == [0, 1, 1, 2, 3, 4, 5, 6, 7, 8]


def test_typed() -> None:
    f = cached(typed=True)(Source())
    assert [f(1), f(1.0), f(True), f(1), f(a=1), f(a=1.0)] == [0, 1, 2, 0, 3, 4]
    assert f.cache_parameters()["typed"]


def test_typed_and_bound() -> None:
    @cached(bind=True, typed=True)
    def f(a: Any, b: Any = 1, *more: Any, **names: Any) -> tuple[Any, ...]:
        return (a, b, more, names)

    assert f(1) is f(a=1) is f(1, 1) and f(1) is not f(1.0) and f(1) is not f(1, 1.0)
    assert f(1, 2, 3) is not f(1, 2, 3.0) and f(1, n=1) is not f(1, n=True)


BOUND: list[tuple[str, list[str], list[str]]] = [
    # parameters; calls that are one; calls that are others, from these and from each other
    ("a, b=2", ["1", "a=1", "1, 2", "1, b=2", "b=2, a=1"], ["2", "1, 3", "1, b=4"]),
    ("a, /, b=2", ["1", "1, 2", "1, b=2"], ["2", "1, 3"]),
    ("a, *, b=2", ["1", "a=1", "1, b=2", "b=2, a=1"], ["1, b=3"]),
    ("*a", ["1, 2"], ["1", "1, 2, 3", "(1, 2)", "2, 1"]),
    ("a, *b, c=3", ["1, 2", "1, 2, c=3"], ["1", "1, 2, c=4", "1, 2, 3"]),
    ("**n", ["a=1, b=2", "b=2, a=1"], ["", "a=1", "a=2, b=1", "a=1, b=2, c=3"]),
    ("a, b=2, **n", ["1, x=5", "x=5, a=1", "1, b=2, x=5"], ["1", "1, x=6", "1, y=5", "1, 5"]),
    ("a, /, **n", ["1, a=5"], ["1", "5", "5, a=1"]),
    ("", [""], []),
]


@pytest.mark.parametrize(("parameters", "one", "others"), BOUND)
def test_bind(parameters: str, one: list[str], others: list[str]) -> None:
    names: dict[str, Any] = {"cached": cached}
    for prefix in ("", "cache=Cache(9), "):
        names["Cache"] = Cache
        exec(f"@cached({prefix}bind=True)\ndef f({parameters}): return object()", names)
        results = [eval(f"f({call})", names) for call in one]
        assert len(set(results)) == 1
        all_of_them = [*results, *[eval(f"f({call})", names) for call in others]]
        assert len(set(all_of_them)) == 1 + len(others)
        keys = {eval(f"f.cache_key({call})", names) for call in one}
        assert len(keys) == 1 and names["f"].cache[keys.pop()] is results[0]
        assert eval(f"f.cache_invalidate({one[-1]})", names)
        assert not eval(f"f.cache_contains({one[0]})", names)


@pytest.mark.parametrize("call", ["", "1, 2, 3", "1, a=1", "1, c=3", "b=1"])
def test_a_call_that_does_not_fit_is_the_functions_business(call: str) -> None:
    @cached(bind=True)
    def f(a: int, b: int = 2) -> int:
        return 1

    f(1)
    with pytest.raises(TypeError, match=r"f\(\)"):
        eval(f"f({call})")
    assert f.cache_info().currsize == 1


def test_wrappers_that_take_more_than_their_signature_says_are_told_apart() -> None:
    """inspect.signature goes by __wrapped__."""
    cache: Cache[Any, Any] = Cache(9)

    def make(name: str) -> Any:
        def inner(a: int) -> str:
            return name

        def outer(a: int, extra: int) -> str:
            return name

        outer.__wrapped__ = inner  # type: ignore[attr-defined]
        outer.__qualname__ = name
        return cached(cache=cache, bind=True)(outer)

    f, g = make("f"), make("g")
    assert (f(1, 2), g(1, 2), f(1, 2)) == ("f", "g", "f")


@pytest.mark.parametrize(
    ("ignore", "equal", "different"),
    [
        (["b"], "1, 9, c=3", "2, 2, c=3"),
        ("b", "1, b=9, c=3", "1, 2, c=4"),
        ([1], "1, 9, c=3", "1, 2, c=4"),
        (1, "1, 9, c=3", "2, 2, c=3"),
        (["a", 1], "7, 9, c=3", "1, 2, c=4"),
        (["c"], "1, 2, c=9", "1, 3, c=3"),
        ([2], "1, 2, 7, c=3", "1, 3, c=3"),
        ([3], "1, 2, c=9", "1, 3, c=3"),
        (["a", "b", "c"], "7, 8, c=9", "1, 2, 3, c=3"),
        (["more"], "1, 2, 8, 9, c=3", "1, 3, c=3"),
        (["names"], "1, 2, c=3, z=1", "1, 2, c=4"),
        (["z"], "1, 2, c=3, z=1", "1, 2, c=3, y=1"),
    ],
)
@pytest.mark.parametrize("bind", [False, True])
def test_ignore(ignore: Any, equal: str, different: str, bind: bool) -> None:
    @cached(ignore=ignore, bind=bind)
    def f(a: int, b: int, *more: int, c: int, **names: int) -> object:
        return object()

    first = f(1, 2, c=3)
    if bind or "b=9" not in equal:
        assert eval(f"f({equal})") is first
    assert eval(f"f({different})") is not first
    assert f(1, 2, c=3) is first


def test_ignoring_a_positional_parameter_does_not_ignore_a_keyword_of_its_name() -> None:
    for bind in (False, True):

        @cached(ignore=["a"], bind=bind)
        def f(a: int, /, **names: int) -> object:
            return object()

        assert f(1, a=1) is f(2, a=1) and f(1, a=1) is not f(1, a=2)


def test_key(clock: FakeClock) -> None:
    source = Source()
    f = cached(key=lambda x, **_: abs(x))(source)
    assert [f(1), f(-1), f(2, y=5), f(-2)] == [0, 0, 1, 1]
    assert f.cache_key(-7) == 7 and f.cache[1] == 0 and f.cache_contains(-1, y=3)


def test_what_key_raises_is_raised_and_nothing_kept() -> None:
    source = Source()
    f = cached(key=lambda x: 1 / x)(source)
    with pytest.raises(ZeroDivisionError):
        f(0)
    assert source.number == 0 and f.cache_info().misses == 0


user: ContextVar[str] = ContextVar("user")
locale: ContextVar[Any] = ContextVar("locale", default="en")


@pytest.mark.parametrize("options", [{}, {"bind": True}, {"key": lambda x: x}, {"cache": Cache(9)}])
def test_vary(options: dict[str, Any]) -> None:
    f = cached(vary=[user, locale], **options)(lambda x: object())
    anonymous = f(1)
    token = user.set("ann")
    try:
        anns = f(1)
        assert f(1) is anns is not anonymous and f.cache_contains(1)
        inner = locale.set("de")
        assert f(1) not in (anns, anonymous) and f.cache_invalidate(1)
        locale.reset(inner)
        assert f(1) is anns
    finally:
        user.reset(token)
    assert f(1) is anonymous


def test_vary_by_one_variable_without_a_list() -> None:
    f = cached(vary=locale)(Source())
    f(1)
    token = locale.set("fr")
    f(1)
    locale.reset(token)
    assert f.cache_info().misses == 2


def test_vary_by_something_unhashable_is_an_error() -> None:
    f = cached(vary=locale)(Source())
    token = locale.set([])
    with pytest.raises(TypeError, match="unhashable"):
        f(1)
    locale.reset(token)
    assert f(1) == 0


# ---- how long ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ttl",
    [
        5,
        5.0,
        timedelta(seconds=5),
        Decimal(5),
        lambda value, x: 5,
        lambda value, x: timedelta(seconds=5),
    ],
)
def test_ttl(ttl: Any, clock: FakeClock) -> None:
    f = cached(ttl=ttl, clock=clock)(Source())
    assert f(1) == 0 and f.cache.ttl(f.cache_key(1)) == 5
    clock.advance(4.999)
    assert f(1) == 0
    clock.advance(0.001)
    assert not f.cache_contains(1) and f(1) == 1


def test_ttl_starts_when_the_load_ends(clock: FakeClock) -> None:
    @cached(ttl=5, clock=clock)
    def f() -> None:
        clock.advance(100)

    f()
    assert f.cache.ttl(f.cache_key()) == 5


def test_ttl_by_value_and_arguments(clock: FakeClock) -> None:
    seen: list[Any] = []

    def ttl(value: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((value, args, kwargs))
        return {0: None, 1: 0, 2: 7}[value]

    f = cached(ttl=ttl, clock=clock)(Source())
    f("a"), f("b", c=1), f("d")
    assert seen == [(0, ("a",), {}), (1, ("b",), {"c": 1}), (2, ("d",), {})]
    assert f.cache.ttl("a") is None and not f.cache_contains("b", c=1) and f.cache.ttl("d") == 7


@pytest.mark.parametrize("bad", [-1, math.nan, "5", [], True])
def test_a_ttl_that_cannot_be(bad: Any, clock: FakeClock) -> None:
    f = cached(ttl=lambda value, x: bad if x else 5, clock=clock)(Source())
    f(0)
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match="source: ttl must"):
            f(1)
    assert f.cache_info().currsize == 1 and f(0) == 0


def test_what_ttl_raises_reaches_every_caller() -> None:
    go = threading.Event()

    def load(x: int) -> int:
        assert go.wait(60)
        return 0

    f = cached(ttl=lambda value, x: 1 / value)(load)

    def release() -> None:
        until(lambda: f.cache.stats().misses == 3)
        go.set()

    *results, _ = run_threads([lambda: outcome(f, 1)] * 3 + [release])
    assert results == [ZeroDivisionError] * 3 and f.cache_info().currsize == 0


def test_tti(clock: FakeClock) -> None:
    f = cached(tti=5, ttl=12, clock=clock)(Source())
    f()
    for _ in range(2):
        clock.advance(4)
        assert f() == 0
    clock.advance(4)
    assert f() == 1
    clock.advance(5)
    assert f() == 2


def test_jitter_only_ever_shortens(clock: FakeClock) -> None:
    f = cached(ttl=100, jitter=0.5, clock=clock, maxsize=None)(Source())
    for x in range(300):
        f(x)
    left = [f.cache.ttl(x) or 0 for x in range(300)]
    assert max(left) <= 100 and min(left) >= 50 and max(left) - min(left) > 30


def test_maxsize_none_and_zero() -> None:
    f = cached(maxsize=None)(Source())
    for x in range(1000):
        f(x)
    assert f.cache_info() == (0, 1000, None, 1000)
    g = cached(maxsize=0)(Source())
    assert [g(1), g(1)] == [0, 1] and g.cache_info() == (0, 2, 0, 0)


@pytest.mark.parametrize(
    "options", [{"stale": 5}, {"grace": 5}, {"copy": True}, {"error_ttl": {KeyError: 5}}]
)
def test_every_option_with_maxsize_zero_keeps_nothing(options: Any, clock: FakeClock) -> None:
    f = cached(maxsize=0, ttl=5, clock=clock, **options)(Source(KeyError, 1, 2))
    assert [outcome(f), f(), f()] == [KeyError, 1, 2]
    f.cache._check()


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_policy(policy: str) -> None:
    f = cached(maxsize=2, policy=policy)(Source())
    f(1), f(1), f(2), f(1), f(3)
    assert f.cache_contains(1) is (policy != "fifo") and f.cache.policy == policy


def test_none_ttl(clock: FakeClock) -> None:
    f = cached(ttl=50, none_ttl=5, clock=clock)(Source(None, 1, None))
    assert f("a") is None and f("b") == 1 and f.cache.ttl("a") == 5 and f.cache.ttl("b") == 50
    clock.advance(5)
    assert f("a") is None and f("a") is None and f.cache_info() == (1, 3, 128, 2)


@pytest.mark.parametrize(("none_ttl", "kept"), [(0, False), (5, True)])
def test_none_ttl_without_a_ttl(none_ttl: int, kept: bool, clock: FakeClock) -> None:
    f = cached(none_ttl=none_ttl, clock=clock)(lambda: None)
    f()
    assert f.cache_contains() is kept


def test_the_renewal_of_none_goes_by_its_own_ttl(clock: FakeClock) -> None:
    source = Source(None)
    f = cached(ttl=1000, none_ttl=10, refresh=0.5, clock=clock)(source)
    f()
    clock.advance(4)
    f()
    assert source.number == 1
    clock.advance(2)
    f()
    until(lambda: source.number == 2)


# ---- tags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags", [["t", 5], ("t",), "t x".split(), {"t"}, lambda value, *args: ["t", value]]
)
def test_tags(tags: Any) -> None:
    f = cached(tags=tags)(Source())
    f(1), f(2)
    assert f.cache.entry(1).tags >= {"t"}
    f.cache.invalidate_tag("other")
    assert f.cache_contains(1)
    f.cache.invalidate_tag("t")
    assert not f.cache_contains(1) and f(1) == 2


@pytest.mark.parametrize("late", [False, True])
def test_a_tag_invalidated_while_it_loads(late: bool) -> None:
    def load(x: int) -> int:
        f.cache.invalidate_tag("t")
        return x

    f: Any = cached(tags=(lambda value, x: ["t"]) if late else ["t"])(load)
    assert f(1) == 1 and not f.cache_contains(1)


@pytest.mark.parametrize("late", [False, True])
def test_another_tag_invalidated_while_it_loads_changes_nothing(late: bool) -> None:
    def load(x: int) -> int:
        f.cache.invalidate_tag("u")
        return x

    f: Any = cached(tags=(lambda value, x: ["t"]) if late else ["t"])(load)
    assert f(1) == 1 and f.cache_contains(1)


def test_a_tag_that_died_before_the_load_does_not_count() -> None:
    f = cached(tags=["t"])(Source())
    f.cache.invalidate_tag("t")
    f(1)
    assert f.cache_contains(1)


@pytest.mark.parametrize("tags", ["t", 5, None, lambda: 1])
def test_tags_that_are_no_tags(tags: Any) -> None:
    f = cached(tags=lambda value, x: tags)(Source())
    with pytest.raises(TypeError, match="source: tags must"):
        f(1)
    assert f.cache_info().currsize == 0


def test_an_unhashable_tag() -> None:
    f = cached(tags=lambda value, x: [[]])(Source())
    with pytest.raises(TypeError, match="source: tags must"):
        f(1)
    assert f.cache_info().currsize == 0


@pytest.mark.parametrize("what", ["stale", "error"])
def test_an_invalidated_tag_takes_what_only_the_loader_sees(what: str, clock: FakeClock) -> None:
    source = Source(KeyError if what == "error" else 0)
    f = cached(ttl=5, stale=50, error_ttl={KeyError: 50}, tags=["t"], clock=clock)(source)
    outcome(f)
    clock.advance(6)
    f.cache.invalidate_tag("t")
    assert f() == 1


# ---- errors --------------------------------------------------------------------------------------


class Gone(LookupError):
    pass


@pytest.mark.parametrize(
    ("error_ttl", "kept"),
    [({Gone: 5}, 5), ({LookupError: 5}, 5), ({Exception: 5}, 5), ({LookupError: 9, Gone: 5}, 5),
     ({Gone: timedelta(seconds=5), Exception: 1}, 5), ({KeyError: 5}, 0), ({Gone: 0, Exception: 9}, 0), ({}, 0)],
)  # fmt: skip
def test_error_ttl(error_ttl: Any, kept: int, clock: FakeClock) -> None:
    source = Source(*[Gone] * 5)
    f = cached(error_ttl=error_ttl, clock=clock)(source)
    assert outcome(f) is Gone and outcome(f) is Gone
    assert source.number == (1 if kept else 2)
    if kept:
        clock.advance(kept - 0.001)
        assert outcome(f) is Gone and source.number == 1
        clock.advance(0.001)
        assert outcome(f) is Gone and source.number == 2
        assert f.cache_info()[:2] == (2, 2)


def test_an_error_is_not_part_of_the_cache(clock: FakeClock) -> None:
    f = cached(error_ttl={Gone: 5}, clock=clock)(Source(Gone))
    outcome(f, 1)
    assert not f.cache_contains(1) and list(f.cache) == [] and f.cache.get(1) is None
    assert not f.cache_invalidate(1) and f(1) == 1


class WithMessage(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"no user {number}")
        self.number = number


class Needs(Exception):
    def __init__(self, *, name: str) -> None:
        self.name = name


class Slotted(Exception):
    __slots__ = ("__secret", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.__secret = what * 2

    def secret(self) -> str:
        return self.__secret


class Reducing(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("both")
        self.both = (one, two)

    def __reduce__(self) -> Any:
        return (Reducing, self.both)


class Frozen(Exception):
    def __init__(self, x: int) -> None:
        super().__init__(x)
        self.__dict__["x"] = x

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name}")


class Singleton(Exception):
    def __new__(cls, *args: Any) -> Any:
        raise RuntimeError("there is one already")

    def __reduce__(self) -> Any:
        raise RuntimeError("not to be copied")


def make_error(name: str) -> Exception:
    if name == "os":
        return FileNotFoundError(2, "No such file", "a.txt")
    if name == "unicode":
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
    if name == "import":
        return ImportError("no", name="mod", path="p")
    if name == "stop":
        return StopAsyncIteration(7)
    if name == "key":
        return KeyError("k")
    if name == "message":
        return WithMessage(5)
    if name == "needs":
        return Needs(name="n")
    if name == "slots":
        return Slotted("what")
    if name == "reduce":
        return Reducing(1, 2)
    if name == "frozen":
        return Frozen(3)
    return Exception.__new__(Singleton, "one")


SHOWN = (
    "args",
    "errno",
    "filename",
    "strerror",
    "object",
    "start",
    "name",
    "path",
    "number",
    "what",
    "both",
    "x",
)


@pytest.mark.parametrize(
    "name",
    [
        "os",
        "unicode",
        "import",
        "stop",
        "key",
        "message",
        "needs",
        "slots",
        "reduce",
        "frozen",
        "single",
    ],
)
def test_a_kept_error_is_raised_as_a_true_copy(name: str) -> None:
    raised: list[Exception] = []

    @cached(error_ttl={Exception: 60})
    def f() -> None:
        error = make_error(name)
        if name != "frozen":
            error.add_note("first")
        raise error

    for _ in range(4):
        try:
            f()
        except Exception as error:
            if name not in ("frozen", "single"):
                error.add_note("handled")
            raised.append(error)
    first = raised[0]
    assert f.cache.stats().loads == 1 and len(raised) == 4
    for error in raised:
        assert type(error) is type(first) and str(error) == str(first)
        for attribute in SHOWN:
            assert getattr(error, attribute, None) == getattr(first, attribute, None)
        if name not in ("frozen", "single"):
            assert error.__notes__ == ["first", "handled"]
        if isinstance(error, Slotted):
            assert error.secret() == "whatwhat"
        assert error.__cause__ is None and error.__context__ is None
    if name != "single":
        assert len({id(error) for error in raised}) == 4
        # no line of the function is left in what is raised later
        assert [len(traceback.extract_tb(error.__traceback__)) for error in raised[1:]] == [
            len(traceback.extract_tb(raised[1].__traceback__))
        ] * 3
        names = {frame.name for frame in traceback.extract_tb(raised[1].__traceback__)}
        assert "f" not in names


def test_a_group_is_kept_without_its_traces() -> None:
    @cached(error_ttl={Exception: 60})
    def f() -> None:
        inner = []
        for error in (WithMessage(1), KeyError("k")):
            try:
                raise error
            except Exception as e:
                inner.append(e)
        raise ExceptionGroup("several", inner)

    for _ in range(3):
        with pytest.raises(ExceptionGroup) as caught:
            f()
    assert caught.value.message == "several"
    assert [str(e) for e in caught.value.exceptions] == ["no user 1", "'k'"]
    assert [e.__traceback__ for e in caught.value.exceptions] == [None, None]


def test_a_kept_error_keeps_no_frame_alive() -> None:
    import weakref

    class Local:
        pass

    seen = []

    @cached(error_ttl={Exception: 60})
    def f() -> None:
        local = Local()
        seen.append(weakref.ref(local))
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise WithMessage(1) from error

    for _ in range(2):
        try:
            f()
        except WithMessage:
            pass
    assert len(seen) == 1 and seen[0]() is None


# ---- refresh, early, reload ------------------------------------------------------------------------


def test_refresh(clock: FakeClock) -> None:
    source = Source()
    f = cached(ttl=10, refresh=0.8, clock=clock)(source)
    f(1)
    clock.advance(7.9)
    assert f(1) == 0 and source.number == 1
    clock.advance(0.1)
    assert f(1) == 0
    until(lambda: f.cache.peek(1) == 1)
    assert f(1) == 1 and f.cache.ttl(1) == 10 and source.number == 2


def test_one_renewal_at_a_time(clock: FakeClock) -> None:
    began, go = threading.Event(), threading.Event()
    numbers = []

    def load() -> int:
        numbers.append(1)
        if len(numbers) > 1:
            began.set()
            assert go.wait(60)
        return len(numbers)

    f = cached(ttl=10, refresh=0.5, clock=clock)(load)
    f()
    clock.advance(6)
    assert f() == 1 and began.wait(60)
    for _ in range(3):
        clock.advance(1.2)
        assert f() == 1
    go.set()
    until(lambda: f.cache.peek(f.cache_key()) == 2)
    assert len(numbers) == 2


def test_a_renewal_that_fails_takes_nothing_away(clock: FakeClock, caplog: Any) -> None:
    source = Source(0, Gone, Gone)
    f = cached(ttl=10, refresh=0.5, error_ttl={Gone: 60}, clock=clock)(source)
    f()
    clock.advance(6)
    with caplog.at_level(logging.WARNING, "fastcache"):
        assert f() == 0
        until(lambda: "renewing failed" in caplog.text)
        assert f() == 0 and source.number == 2  # and it is not tried again at once
        clock.advance(1)
        assert f() == 0
        until(lambda: source.number == 3)
    clock.advance(1)
    assert f() == 0
    until(lambda: f.cache.peek(f.cache_key()) == 3)


def test_a_value_invalidated_while_it_is_renewed(clock: FakeClock) -> None:
    began, go = threading.Event(), threading.Event()
    numbers: list[int] = []

    def load() -> int:
        numbers.append(1)
        if len(numbers) == 2:
            began.set()
            assert go.wait(60)
        return len(numbers)

    f = cached(ttl=10, stale=50, clock=clock)(load)
    f()
    clock.advance(11)
    assert f() == 1 and began.wait(60)
    f.cache_invalidate()
    assert f() == 3
    go.set()
    until(lambda: f.cache.stats().loads == 3)
    assert f() == 3


def test_a_renewal_sees_the_context_of_its_caller(clock: FakeClock) -> None:
    seen = []
    f = cached(ttl=10, refresh=0.1, clock=clock)(lambda: seen.append(locale.get()))
    f()
    clock.advance(5)
    token = locale.set("it")
    f()
    locale.reset(token)
    until(lambda: seen == ["en", "it"])


def test_reload_is_given_the_old_value(clock: FakeClock) -> None:
    seen = []

    def reload(old: list[int], x: int, *, y: int = 0) -> list[int]:
        seen.append((list(old), x, y))
        old.append(1)  # a copy, with copy=True
        return old

    f = cached(ttl=10, stale=60, clock=clock, reload=reload, copy=True)(lambda x, y=0: [0])
    assert f(5, y=3) == [0]
    clock.advance(11)
    assert f(5, y=3) == [0]
    until(lambda: f(5, y=3) == [0, 1])
    assert seen == [([0], 5, 3)]


def early_hits(f: Any, clock: FakeClock, rate: float, beta: float) -> int:
    """Requests at `rate` per load time, until as many as a load takes have come after the first
    renewal: how many of them would have renewed."""
    renewals: list[int] = []
    f._loader.renew = lambda call, value: renewals.append(1)
    f()
    cost = f._loader_cost()
    clock.advance(f.cache.ttl(f.cache_key()) - 9 * beta * cost)
    step = cost / rate
    left = round(rate)
    while left > 0:
        clock.advance(step)
        if f.cache.ttl(f.cache_key()) <= step:
            break
        f()
        left -= bool(renewals)
    return len(renewals)


@pytest.mark.parametrize(
    ("beta", "expected"), [(1.0, math.e), (2.0, math.e**0.5), (4.0, math.e**0.25)]
)
@pytest.mark.parametrize("rate", [20, 60])
def test_early_recomputations_per_expiry(beta: float, expected: float, rate: int) -> None:
    """Vattani, Chierichetti & Lowenstein: without coordination, e^(1/beta) whatever the rate."""
    from fastcache._core import kept

    clock = FakeClock()
    random.seed(5)
    f: Any = cached(ttl=1e6, early=beta, clock=clock)(lambda: sum(range(200)))
    f._loader_cost = lambda: kept(f.cache, f.cache_key())[3]
    rounds = 250
    total = 0
    for _ in range(rounds):
        f.cache_invalidate()
        total += early_hits(f, clock, rate, beta)
    # the spread of one round is below 2.2
    assert abs(total / rounds - expected) < 4 * 2.2 / math.sqrt(rounds) / beta


def test_early_renews_once_per_process(clock: FakeClock) -> None:
    go = threading.Event()
    numbers = []

    def load() -> int:
        numbers.append(1)
        if len(numbers) > 1:
            assert go.wait(60)
        return len(numbers)

    f = cached(ttl=10, early=1e9, clock=clock)(load)
    f()
    clock.advance(9)
    assert [f() for _ in range(50)] == [1] * 50
    until(lambda: len(numbers) == 2)
    go.set()
    until(lambda: f.cache.peek(f.cache_key()) == 2)


def test_early_and_refresh_together(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes by its own time, however wide the other's is."""
    monkeypatch.setattr(random, "random", lambda: 0.0)  # never early
    source = Source()
    f = cached(ttl=lambda value: 10, early=1e9, refresh=0.8, clock=clock)(source)
    f()
    clock.advance(7.9)
    f()
    assert source.number == 1
    clock.advance(0.2)
    f()
    until(lambda: source.number == 2)


# ---- stale, grace ------------------------------------------------------------------------------------


def test_stale(clock: FakeClock) -> None:
    source = Source()
    f = cached(ttl=10, stale=5, clock=clock)(source)
    f(1)
    clock.advance(12)
    assert not f.cache_contains(1) and f.cache.get(1) is None  # only its loader sees it
    assert f(1) == 0
    until(lambda: f.cache.peek(1) == 1)
    assert f(1) == 1
    clock.advance(15)
    assert f(1) == 2 and source.number == 3


def test_stale_without_end(clock: FakeClock) -> None:
    f = cached(ttl=10, stale=math.inf, clock=clock)(Source())
    f()
    clock.advance(1e9)
    assert f() == 0


def test_a_stale_value_of_a_failing_function_is_served_to_its_end(clock: FakeClock) -> None:
    source = Source(0, *[Gone] * 100)
    f = cached(ttl=10, stale=5, clock=clock)(source)
    f()
    clock.advance(10)
    for _ in range(4):
        assert f() == 0
        clock.advance(1.1)
    clock.advance(1)
    assert outcome(f) is Gone


def test_grace(clock: FakeClock, caplog: Any) -> None:
    source = Source(0, Gone, Gone, Gone, 4)
    f = cached(ttl=10, grace=20, clock=clock)(source)
    f()
    clock.advance(10)
    with caplog.at_level(logging.WARNING, "fastcache"):
        assert f() == 0 and source.number == 2
    assert "source" in caplog.text and "Gone(1)" in caplog.text
    for _ in range(5):
        assert f() == 0 and source.number == 2  # at most one try a second
    clock.advance(0.999)
    assert f() == 0 and source.number == 2
    clock.advance(0.002)
    assert f() == 0 and source.number == 3
    clock.advance(2)
    assert f() == 0 and source.number == 4
    clock.advance(2)
    assert f() == 4 == f() and source.number == 5


def test_grace_ends(clock: FakeClock) -> None:
    source = Source(0, Gone, Gone)
    f = cached(ttl=10, grace=5, clock=clock)(source)
    f()
    clock.advance(14.9)
    assert f() == 0
    clock.advance(0.1)
    assert outcome(f) is Gone


def test_grace_before_errors_that_are_kept(clock: FakeClock) -> None:
    source = Source(0, *[Gone] * 9)
    f = cached(ttl=10, grace=5, error_ttl={Gone: 60}, clock=clock)(source)
    f()
    clock.advance(11)
    assert [f(), f()] == [0, 0]
    clock.advance(2)
    assert f() == 0 and source.number == 3
    clock.advance(2)
    assert [outcome(f), outcome(f)] == [Gone, Gone] and source.number == 4


def test_grace_loads_in_the_foreground(clock: FakeClock) -> None:
    f = cached(ttl=10, grace=20, clock=clock)(Source())
    f()
    clock.advance(11)
    assert f() == 1


def test_stale_then_grace(clock: FakeClock) -> None:
    source = Source(0, *[Gone] * 9)
    f = cached(ttl=10, stale=5, grace=50, clock=clock)(source)
    f()
    clock.advance(11)
    assert f() == 0
    until(lambda: source.number == 2)
    clock.advance(10)
    assert f() == 0 and source.number == 3
    clock.advance(40)
    assert outcome(f) is Gone


@pytest.mark.parametrize("options", [{"stale": 50}, {"grace": 50}])
def test_what_was_invalidated_is_never_served(options: Any, clock: FakeClock) -> None:
    for past in (0, 11):
        for how in ("invalidate", "clear", "delete", "set"):
            source = Source(0, Gone, Gone)
            f = cached(ttl=10, clock=clock, **options)(source)
            f(1)
            clock.advance(past)
            if how == "invalidate":
                f.cache_invalidate(1)
            elif how == "clear":
                f.cache_clear()
            elif how == "delete":
                f.cache.delete(1)
            else:
                f.cache.set(1, "new", ttl=1)
                clock.advance(2)
            assert outcome(f, 1) is Gone


# ---- time limits -----------------------------------------------------------------------------------------


class Gate:
    """A function that waits to be let through from its second call on."""

    def __init__(self, free: int = 0) -> None:
        self.__qualname__ = "gate"
        self.free, self.calls = free, 0
        self.open = threading.Event()

    def __call__(self, *args: Any) -> int:
        self.calls += 1
        number = self.calls
        if number > self.free:
            assert self.open.wait(60)
        return number


def test_hard_timeout_and_the_late_load() -> None:
    gate = Gate()
    f = cached(hard_timeout=0.01)(gate)
    with pytest.raises(TimeoutError, match=r"gate.*hard_timeout=0\.01"):
        f(1)
    with pytest.raises(TimeoutError):
        f(1)
    assert gate.calls == 1  # the second waits for the first one's load
    gate.open.set()
    until(lambda: f.cache_contains(1))
    assert f(1) == 1 and gate.calls == 1


def test_soft_timeout_and_the_late_load(clock: FakeClock) -> None:
    gate = Gate(free=1)
    f = cached(ttl=10, grace=50, soft_timeout=0.01, clock=clock)(gate)
    f(1)
    clock.advance(11)
    assert [f(1), f(1)] == [1, 1] and gate.calls == 2
    assert f.cache_info()[:2] == (2, 1)
    gate.open.set()
    until(lambda: f.cache_contains(1))
    assert f(1) == 2


def test_soft_timeout_without_an_old_value_waits() -> None:
    gate = Gate()
    f = cached(ttl=10, grace=50, soft_timeout=0.001)(gate)

    def release() -> None:
        until(lambda: gate.calls == 1)
        gate.open.set()

    assert run_threads([lambda: f(1), release])[0] == 1


def test_hard_timeout_with_an_old_value_returns_that(clock: FakeClock) -> None:
    gate = Gate(free=1)
    f = cached(ttl=10, grace=50, hard_timeout=0.01, clock=clock)(gate)
    f(1)
    clock.advance(11)
    assert f(1) == 1
    gate.open.set()
    until(lambda: f.cache.peek(1) == 2)


def test_a_load_that_is_in_time() -> None:
    thread = []
    f = cached(hard_timeout=60)(lambda: thread.append(threading.current_thread()))
    assert f() is None and thread[0] is not threading.main_thread() and thread[0].daemon


def test_an_error_in_time_reaches_the_caller() -> None:
    f = cached(hard_timeout=60, error_ttl={Gone: 60})(Source(Gone, Gone))
    assert [outcome(f), outcome(f)] == [Gone, Gone] and f.cache.stats().loads == 1


def test_nested_loads_with_limits_end() -> None:
    """Those within a load run inline: a pool in which each waits for the next would stand still."""

    @cached(hard_timeout=60)
    def f(n: int) -> int:
        return n and f(n - 1) + 1

    assert f(100) == 100


def test_a_load_with_a_limit_sees_the_context_of_its_caller() -> None:
    f = cached(hard_timeout=60, vary=[locale])(lambda: locale.get())
    token = locale.set("is")
    assert f() == "is"
    locale.reset(token)
    assert f() == "en"


def test_wait_timeout() -> None:
    gate = Gate()
    began = threading.Event()

    def load(x: int) -> int:
        if not began.is_set():
            began.set()
            return gate(x)
        return 99

    f = cached(wait_timeout=0.01)(load)

    def second() -> int:
        assert began.wait(60)
        value = f(1)  # waits, gives up, computes for itself, and stores nothing
        assert not f.cache_contains(1)
        gate.open.set()
        return value

    assert run_threads([lambda: f(1), second]) == [1, 99] and f(1) == 1


# ---- copy, clock --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"bind": True}, {"cache": Cache(9)}, {"ttl": 60, "stale": 5}, {"hard_timeout": 60}],
)
def test_copy_in_and_out(options: dict[str, Any]) -> None:
    own: dict[str, list[int]] = {"a": [1]}
    f = cached(copy=True, **options)(lambda x: own)
    first = f(1)
    first["a"].append(2)
    own["a"].append(3)
    assert f(1) == {"a": [1]}
    f(1).clear()
    assert f(1) == {"a": [1]} and f(1) is not f(1)
    f.cache_refresh(1).clear()
    assert f(1) == {"a": [1, 2, 3]} or f(1) == {"a": [1, 3]}


def test_copy_of_what_cannot_be_copied() -> None:
    f = cached(copy=True)(lambda: threading.Lock())
    for _ in range(2):
        with pytest.raises(TypeError, match="pickle"):
            f()
    assert f.cache_info().currsize == 0


def test_those_who_wait_get_copies_of_their_own() -> None:
    go = threading.Event()

    @cached(copy=True)
    def f() -> list[int]:
        assert go.wait(60)
        return []

    def release() -> None:
        until(lambda: f.cache.stats().misses == 5)
        go.set()

    *results, _ = run_threads([f] * 5 + [release])
    assert results == [[]] * 5 and len({id(result) for result in results}) == 5


def test_a_clock_that_raises_changes_nothing() -> None:
    broken = False

    def clock() -> float:
        if broken:
            raise OSError("no time")
        return 0.0

    source = Source()
    f = cached(ttl=5, stale=5, clock=clock)(source)
    f(1)
    broken = True
    for x in (1, 2):
        assert outcome(f, x) is OSError
    broken = False
    assert f(1) == 0 and f(2) <= 2
    f.cache._check()
