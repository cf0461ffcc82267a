"""Keys that a batch wants, and the flights that will have their values."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from fastcache._core import Flight


class Wanted:
    """A key that is not there, and the flight that will have its value."""

    __slots__ = ("flight", "key", "leads", "own")

    def __init__(self, key: Any, flight: Flight, leads: bool) -> None:
        self.key, self.flight, self.leads = key, flight, leads
        #: what ended the load in another task, if that is no error for all
        self.own: BaseException | None = None


class Gathering:
    """Single misses that wait for one load of them all."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.full = threading.Event()
        self.future: asyncio.Future[None] | None = None


def outcome(wanted: Wanted) -> Any:
    if wanted.flight.landed:
        return wanted.flight.value
    error = wanted.flight.to_raise()
    del wanted
    try:
        raise error
    finally:
        del error


def own_error(wanted: Wanted) -> BaseException:
    error, wanted.own = wanted.own, None
    assert error is not None
    return error


def abandon(wanted: list[Wanted]) -> None:
    for w in wanted:
        if w.leads:
            w.flight.abandon()


def few(keys: list[Any]) -> str:
    shown = ", ".join(map(repr, keys[:5])) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return f"{shown} {'is' if len(keys) == 1 else 'are'}"
