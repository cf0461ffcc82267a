"""Options of `cached` that cannot work, alone or together: refused when it decorates, by name."""

from __future__ import annotations

import functools
import math
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from fastcache import Cache, cached

NAN = math.nan
variable: ContextVar[int] = ContextVar("variable")


async def asynchronous(*args: Any) -> Any:
    return args


class AsyncCallable:
    async def __call__(self, *args: Any) -> Any:
        return args


#: option -> values that are wrong alone (with what makes the option possible at all)
ALONE: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "maxsize": ({}, ["5", 1.5, [], True]),
    "policy": ({}, ["mru", 5, None]),
    "ttl": ({}, [-1, NAN, "5", [], True, timedelta(seconds=-1), asynchronous, AsyncCallable()]),
    "tti": ({}, [-1, NAN, "5", [], True, timedelta(seconds=-1), lambda value: 5]),
    "jitter": ({"ttl": 5}, [-0.1, 1.1, NAN, "x", None]),
    "key": ({}, ["x", 5, [], asynchronous, functools.partial(asynchronous, 1)]),
    "ignore": ({}, ["nope", 5, -1, [1.5], ["a", None], {}.keys, True, [True], None]),
    "bind": ({}, [1, None, "yes"]),
    "typed": ({}, [1, None, "yes"]),
    "vary": ({}, ["x", 5, ["x"], [variable, None], None]),
    "tags": ({}, ["t", b"t", 5, [[]], None, asynchronous]),
    "cache": ({}, [5, {}, "x", Cache]),
    "namespace": ({"cache": Cache(5)}, [5, b"x", "", []]),
    "none_ttl": ({}, [-1, NAN, "5", True]),
    "error_ttl": ({}, [5, [KeyError], {KeyError: -1}, {KeyError: NAN}, {KeyError: "5"}, {KeyError: None},
                       {"KeyError": 5}, {int: 5}, {BaseException: 5}, {KeyboardInterrupt: 5}, {KeyError(): 5}]),
    "refresh": ({"ttl": 5}, [0, 1, -0.5, 1.5, NAN, "x", True]),
    "reload": ({"ttl": 5, "stale": 5}, ["x", 5, asynchronous]),
    "early": ({"ttl": 5}, [0, -1, NAN, math.inf, "x", True]),
    "stale": ({"ttl": 5}, [0, -1, NAN, "x", True, timedelta]),
    "grace": ({"ttl": 5}, [0, -1, NAN, "x", True]),
    "soft_timeout": ({"ttl": 5, "grace": 5}, [0, -1, NAN, "x", True]),
    "hard_timeout": ({}, [0, -1, NAN, "x", True]),
    "wait_timeout": ({}, [0, -1, NAN, "x", True]),
    "copy": ({}, [1, None, "deep"]),
    "method": ({}, [1, "yes"]),
    "batch": ({}, [1, None, "yes"]),
    "max_batch": ({"batch": True}, [0, -1, 1.5, "x", None, True]),
    "max_wait": ({"batch": True}, [-1, NAN, "x", True]),
    "clock": ({}, [5, "x"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, (_, values) in ALONE.items() for value in values],
)
def test_alone(option: str, value: Any) -> None:
    def user(a: int, b: int = 0) -> None: ...

    with pytest.raises((TypeError, ValueError)) as caught:
        cached(**ALONE[option][0], **{option: value})(user)
    message = str(caught.value)
    assert option in message, message
    assert "user" in message, message
    inner = value
    while isinstance(inner, (list, dict)) and inner:
        # the part that is wrong is enough
        inner = list(inner.values())[-1] if isinstance(inner, dict) else inner[-1]
        if repr(inner) in message:
            break
    assert repr(value) in message or repr(inner) in message or str(value) in message or (
        isinstance(value, dict) and repr(next(iter(value))) in message
    ), message  # fmt: skip


def test_every_option_has_wrong_values() -> None:
    import inspect

    assert {*ALONE, "fn"} == set(inspect.signature(cached).parameters)


def identity(*args: Any) -> Any:
    return args


TOGETHER: list[tuple[str, dict[str, Any]]] = [
    ("refresh", {"refresh": 0.5}),
    ("early", {"early": 1}),
    ("stale", {"stale": 5}),
    ("grace", {"grace": 5}),
    ("refresh", {"refresh": 0.5, "ttl": 0}),
    ("early", {"early": 1, "ttl": 0}),
    ("stale", {"stale": 5, "ttl": 0}),
    ("grace", {"grace": 5, "ttl": 0}),
    ("stale", {"stale": 5, "tti": 5}),
    ("bind", {"bind": True, "key": identity}),
    ("typed", {"typed": True, "key": identity}),
    ("ignore", {"ignore": ["a"], "key": identity}),
    ("soft_timeout", {"soft_timeout": 1}),
    ("soft_timeout", {"soft_timeout": 1, "ttl": 5}),
    ("soft_timeout", {"soft_timeout": 1, "ttl": 5, "refresh": 0.5}),
    ("soft_timeout", {"soft_timeout": 5, "hard_timeout": 1, "ttl": 5, "grace": 5}),
    ("reload", {"reload": identity}),
    ("reload", {"reload": identity, "ttl": 5}),
    ("namespace", {"namespace": "n"}),
    ("maxsize", {"maxsize": 5, "cache": Cache(5)}),
    ("policy", {"policy": "lru", "cache": Cache(5)}),
    ("jitter", {"jitter": 0.1, "cache": Cache(5)}),
    ("clock", {"clock": float, "cache": Cache(5)}),
    ("method", {"method": True, "cache": Cache(5)}),
    ("max_batch", {"max_batch": 5}),
    ("max_wait", {"max_wait": 5}),
    *[
        (option, {"batch": True, "ttl": 5, option: value})
        for option, value in {
            "key": identity, "ignore": ["a"], "bind": True, "typed": True, "vary": [variable], "method": True,
            "refresh": 0.5, "early": 1.0, "stale": 5.0, "grace": 5.0, "hard_timeout": 5.0,
        }.items()
    ],
]  # fmt: skip


@pytest.mark.parametrize(("option", "options"), TOGETHER)
def test_together(option: str, options: dict[str, Any]) -> None:
    def user(a: int) -> None: ...

    with pytest.raises(ValueError) as caught:
        cached(**options)(user)
    message = str(caught.value)
    assert message.startswith("cached(") and "user" in message and option in message
    given = options[option]
    shown = tuple(given) if isinstance(given, list) else given
    assert f"{option}={shown!r}" in message or f"{option}={float(given)!r}" in message, message


def test_reload_of_an_async_function_must_be_async() -> None:
    with pytest.raises(TypeError, match="reload must be async"):
        cached(ttl=5, stale=5, reload=identity)(asynchronous)
    assert cached(ttl=5, stale=5, reload=asynchronous)(asynchronous)


@pytest.mark.parametrize("value", [5, "x", [], 1.5])
def test_options_have_names(value: Any) -> None:
    with pytest.raises(TypeError, match="options by name"):
        cached(value)


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="'tll'"):
        cached(tll=5)
    with pytest.raises(TypeError, match="'fn'"):
        cached(fn=len)


def test_what_is_not_callable() -> None:
    with pytest.raises(TypeError, match="only callables"):
        cached(ttl=5)(5)  # type: ignore[arg-type]


def test_without_a_signature() -> None:
    for options in ({"bind": True}, {"ignore": [0]}):
        with pytest.raises(ValueError, match="signature"):
            cached(**options)(iter)  # type: ignore[call-overload]


def test_a_wrong_key_is_found_at_the_call() -> None:
    calls = []

    def user(x: Any) -> Any:
        calls.append(x)
        return x

    for function in (user, functools.partial(user)):
        f = cached(key=lambda x: [x])(function)
        with pytest.raises(TypeError, match=r"user.*key must return something hashable.*\[5\]"):
            f(5)
        with pytest.raises(TypeError, match="hashable"):
            f.cache_key(5)
        assert not calls and f.cache_info().currsize == 0


def test_nothing_happens_to_the_cache_that_was_given() -> None:
    cache: Cache[Any, Any] = Cache(5)
    for options in ({"maxsize": 5}, {"stale": 5}, {"method": True}):
        with pytest.raises(ValueError):
            cached(cache=cache, **options)(lambda: 1)
    assert len(cache) == 0 and cache.stats().loads == 0
