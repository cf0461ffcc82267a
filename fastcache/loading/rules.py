"""What becomes of a load's outcome: which value is stored, for how long, with which tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcache._core import copy_of_error, kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from fastcache._core import Cache, Flight

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
    """An equal exception without traceback, cause or context; it itself, without these, if it cannot be copied."""
    twin = copy_of_error(error)
    if twin is not None:
        return twin
    for attribute in ("__traceback__", "__cause__", "__context__"):
        object.__setattr__(error, attribute, None)  # past its own, which may forbid to set anything
    object.__setattr__(error, "__suppress_context__", False)
    return error


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

    def refresh_lead(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        """Seconds before the end of the ttl of a value that was stored from which it is renewed."""
        if self.refresh is None:
            return 0.0
        ttl: Any = self.ttl
        if value is None and self.none_ttl is not None:
            ttl = self.none_ttl
        elif callable(ttl):
            ttl = self.seconds("ttl", ttl(value, *args, **kwargs))
        return (ttl or 0.0) * (1.0 - self.refresh)

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
        tags = tuple(given)
        for tag in tags:
            if not isinstance(tag, (str, bytes, int, tuple)):
                raise TypeError(
                    f"{self.name}: tags must be str, bytes, int or tuples of these, got {tag!r}"
                )
        return tags

    def fail(self, flight: Flight, error: BaseException, cache: Cache[Any, Any]) -> None:
        """End a flight with an error, that is kept if error_ttl says so and there is no value yet: a
        renewal that fails, or a load in grace, takes nothing away."""
        for kind in type(error).__mro__:
            ttl = self.error_ttl.get(kind)
            if ttl is not None and isinstance(error, Exception):
                if not self._has_value(cache, flight.key):
                    flight.fail(error, kept=KeptError(error), ttl=ttl)
                    return
                break
        flight.fail(error)

    def _has_value(self, cache: Cache[Any, Any], key: Any) -> bool:
        found = kept(cache, key)
        return key in cache if found is None else type(found[0]) is not KeptError


def seconds(option: str, given: object) -> float | None:
    """A duration as seconds, None for ever; TypeError or ValueError that name the option."""
    if given is None:
        return None
    number: Any = given
    if not isinstance(given, (int, float)):
        kind = type(given)
        convert = getattr(kind, "total_seconds", None) or getattr(kind, "__float__", None)
        number = None if convert is None or isinstance(given, (str, bytes)) else convert(given)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{option} must be a number of seconds or None, got {given!r}")
    if number != number:
        raise ValueError(f"{option} must not be NaN, got {given!r}")
    if number < 0:
        raise ValueError(f"{option} must not be negative, got {given!r}")
    try:
        return float(number)
    except OverflowError:
        return None


def check_timeout(timeout: object) -> None:
    """TypeError for what no call can wait for: neither a number of seconds, of which less than 0 is 0, nor None."""
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout == timeout):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
