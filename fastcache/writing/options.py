"""Arguments that make no sense are refused by name and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def seconds_at_least(name: str, value: object, *, above: bool = False) -> None:
    """A time span of 0 seconds or more; above: more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (value > 0 if above else value >= 0):
        raise ValueError(f"{name} must be {'above' if above else 'at least'} 0, not {value}")


def check_int(name: str, value: object) -> None:
    """TypeError unless an int; ValueError if it is an initial value of more than 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if name == "initial" and not -(2**63) <= value < 2**63:
        raise ValueError(f"initial must fit into 64 bits, not {value}")
