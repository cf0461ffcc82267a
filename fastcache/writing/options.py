"""Arguments that make no sense are refused by name and value."""

from __future__ import annotations

import os
from collections.abc import Iterable
from signal import valid_signals
from typing import TYPE_CHECKING, Any

from fastcache._redact import shown
from fastcache.loading.options import is_async

if TYPE_CHECKING:
    from collections.abc import Sequence


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, not {shown(value)}"
        )


def positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {shown(value)}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def check_seconds(name: str, value: Any) -> None:
    """TypeError unless a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {shown(value)}")
    if value != value:
        raise ValueError(f"{name} must not be {value}")


def seconds_at_least(name: str, value: Any, *, above: bool = False) -> None:
    """A time span of 0 seconds or more; above: more."""
    check_seconds(name, value)
    if not (value > 0 if above else value >= 0):
        raise ValueError(f"{name} must be {'above' if above else 'at least'} 0, not {value}")


def check_int(name: str, value: object) -> None:
    """TypeError unless an int; ValueError if it is an initial value of more than 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {shown(value)}")
    if name == "initial" and not -(2**63) <= value < 2**63:
        raise ValueError(f"initial must fit into 64 bits, not {value}")


def callable_if_any(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {shown(value)}")
    if value is not None and is_async(value):
        raise TypeError(f"{name} must not be async, got {value!r}")


def codec_if_any(codec: object) -> None:
    if codec is not None and not all(
        callable(getattr(codec, method, None)) for method in ("encode", "decode")
    ):
        raise TypeError(f"codec must have encode(value) and decode(text), not {shown(codec)}")


def path_of(name: str, value: object, what: str = "a file") -> str:
    """What names a file or a directory, as text. A URL does not, and its password is not shown."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str or a path, not {shown(value)}")
    if "://" in text:
        raise ValueError(f"{name} must name {what}, got the URL {shown(text)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must name {what}, not {shown(value)}")
    return text


def signals_of(signals: Iterable[int]) -> tuple[int, ...]:
    """Numbers of signals that a program may handle."""
    if isinstance(signals, (str, bytes)) or not isinstance(signals, Iterable):
        raise TypeError(f"signals must be numbers, such as (signal.SIGTERM,), not {shown(signals)}")
    numbers = tuple(signals)
    for number in numbers:
        check_int("signals", number)
        if number not in valid_signals():
            raise ValueError(f"signals: there is no signal {number!r}")
    return numbers
