"""What becomes of a load's outcome: which value is stored, for how long, with which tags."""

from __future__ import annotations

import copy as _copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from fastcache._core import Flight

    Seconds = float | timedelta

#: An early recomputation is decided by -log(random()), which for a double is never more than this.
MOST_EARLY = 36.75
#: Seconds between two tries to renew an entry whose last try failed, or was not allowed to start.
RETRY = 1.0


class KeptError:
    """An exception kept by error_ttl, without its traceback."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = fresh_copy(error)

    def again(self) -> Exception:
        """A copy to raise: a raised exception collects tracebacks, and may be changed by its handler."""
        return fresh_copy(self.error)


def fresh_copy(error: Exception) -> Exception:
    """An equal exception without traceback, cause or context.

    Its class may want other arguments than those it kept, so where calling it does not do, it is put
    together without its __init__.
    """
    kind = type(error)
    try:
        twin = _copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever a foreign __init__ or __reduce__ raises
        twin = error
    if type(twin) is not kind or twin is error:
        twin = kind.__new__(kind, *error.args)
        twin.args = error.args
        twin.__dict__.update(error.__dict__)
    twin.__traceback__ = twin.__cause__ = twin.__context__ = None
    return twin


@dataclass(slots=True, frozen=True, kw_only=True)
class Rules:
    """The options of `cached` that concern values, checked. Times in seconds; None: not asked for."""

    name: str
    ttl: float | Callable[..., Seconds | None] | None
    """for all results, or computed from (value, *args)"""
    ttl_is_the_caches: bool
    """`ttl` is the default of the cache that stores it"""
    tti: float | None
    tags: tuple[Any, ...] | Callable[..., Iterable[Any]]
    none_ttl: float | None
    error_ttl: Mapping[type[BaseException], float]
    refresh: float | None
    """part of the ttl after which a hit starts a renewal"""
    early: float | None
    """beta of early recomputation (Vattani, Chierichetti & Lowenstein 2015)"""
    stale: float
    grace: float
    copier: Callable[[Any], Any] | None

    @property
    def keeps(self) -> bool:
        """Whether entries may be seen by their loader alone."""
        return bool(
            self.stale
            or self.grace
            or self.error_ttl
            or self.refresh is not None
            or self.early is not None
        )

    @property
    def early_tags(self) -> tuple[Any, ...]:
        """Those known before the load."""
        return () if callable(self.tags) else self.tags

    @property
    def late_tags(self) -> bool:
        """Whether the tags come with the value."""
        return callable(self.tags)

    def lead(self, ttl: float, cost: float) -> float:
        """Seconds before the end of ttl from which hits are looked at."""
        lead = 0.0 if self.refresh is None else ttl * (1.0 - self.refresh)
        return lead if self.early is None else max(lead, self.early * cost * MOST_EARLY)

    def land(
        self, flight: Flight, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Store what was loaded, as agreed. Raises what the user's ttl, tags or copies raise."""
        options: dict[str, Any] = {}
        ttl: Any = self.ttl
        if value is None and self.none_ttl is not None:
            ttl = options["ttl"] = self.none_ttl
        elif callable(ttl):
            ttl = options["ttl"] = self.seconds("ttl", ttl(value, *args, **kwargs))
        elif not self.ttl_is_the_caches and ttl is not None:
            options["ttl"] = ttl
        if self.tti is not None and not self.ttl_is_the_caches:
            options["tti"] = self.tti
        if callable(self.tags):
            options["tags"] = self.tags_of(value, args, kwargs)
        if ttl:
            options["extra"] = max(self.stale, self.grace)
            options["lead"] = self.lead(ttl, flight.cost)
        if self.copier is not None:
            options["given"] = value
            value = self.copier(value)
        flight.land(value, **options)

    def seconds(self, option: str, given: object) -> float | None:
        """A duration that a user's function returned."""
        try:
            return seconds(option, given)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None

    def tags_of(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The tags that come with a value."""
        assert callable(self.tags)
        given = self.tags(value, *args, **kwargs)
        if isinstance(given, (str, bytes)) or not hasattr(type(given), "__iter__"):
            raise TypeError(f"{self.name}: tags must return an iterable of tags, got {given!r}")
        return tuple(given)

    def fail(self, flight: Flight, error: Exception) -> None:
        """End a flight with an error, that is kept if error_ttl says so."""
        for kind in type(error).__mro__:
            ttl = self.error_ttl.get(kind)
            if ttl is not None:
                flight.fail(error, kept=KeptError(error), ttl=ttl)
                return
        flight.fail(error)


def seconds(option: str, given: object) -> float | None:
    """A duration as seconds, None for ever; TypeError or ValueError that name the option."""
    if given is None:
        return None
    total = getattr(given, "total_seconds", None)
    if total is not None:
        given = total()
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        number = (
            None
            if isinstance(given, (bool, str, bytes))
            else getattr(type(given), "__float__", None)
        )
        if number is None:
            raise TypeError(f"{option} must be a number of seconds or None, got {given!r}")
        given = number(given)
    assert isinstance(given, (int, float))
    if given != given:
        raise ValueError(f"{option} must not be NaN, got {given!r}")
    if given < 0:
        raise ValueError(f"{option} must not be negative, got {given!r}")
    try:
        return float(given)
    except OverflowError:
        return None
