"""The options of a tiered cache, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

from fastcache.loading.rules import Rules, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from typing import Literal

LEVELS = ("eventual", "bounded", "strong")
#: Seconds that L1 keeps anything when nobody tells it of changes.
UNHEARD = 5.0
#: Seconds that trust lasts after the others were last heard.
TRUST = 3.0
#: Seconds, some 30 years: the most that a duration comes to which cannot be for ever.
LONGEST = 1e9


class TierKeywords(TypedDict, total=False):
    """TierOptions as users give them, for type checkers."""

    ttl: float | timedelta | None
    l1_ttl: float | timedelta | None
    missing_ttl: float | timedelta | None
    stale: float | timedelta
    grace: float | timedelta
    refresh: float | None
    early: float | None
    jitter: float
    soft_timeout: float | timedelta | None
    hard_timeout: float | timedelta | None
    wait_timeout: float | timedelta | None
    level: Literal["eventual", "bounded", "strong"] | None
    max_staleness: float | timedelta
    degraded_ttl: float | timedelta
    lease: float | timedelta
    max_loads: int
    version: int
    copy: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOptions:
    """Durations in seconds; None: not asked for, or for ever. See TieredCache for their meaning."""

    ttl: float | None = None
    l1_ttl: float | None = None
    missing_ttl: float | None = 5.0
    stale: float = 0.0
    grace: float = 0.0
    refresh: float | None = None
    early: float | None = None
    jitter: float = 0.0
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    wait_timeout: float | None = 60.0
    level: str | None = None
    max_staleness: float = 60.0
    degraded_ttl: float = 2.0
    lease: float = 5.0
    max_loads: int = 64
    version: int = 1
    copy: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, taker: str, given: Mapping[str, Any]) -> TierOptions:
        """Those given to a class of that name, checked. TypeError or ValueError name the option and its value."""
        for name in given:
            if name not in cls.__slots__:
                raise TypeError(f"{taker}() got an unexpected keyword argument {name!r}")
        return cls(**given)._checked()

    def _checked(self) -> TierOptions:
        values = self._durations()
        self._check_numbers(values)
        if (self.stale or self.grace or self.refresh or self.early) and self.ttl is None:
            raise ValueError(
                "stale, grace, refresh and early count from the end of a ttl, and there is none"
            )
        if self.soft_timeout is not None and not (self.stale or self.grace):
            raise ValueError(
                f"soft_timeout={self.soft_timeout!r} needs stale or grace: without them there is no "
                "older value to serve"
            )
        if self.level is not None and self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.level!r}")
        return TierOptions(**values)

    def _durations(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in (
            "ttl", "l1_ttl", "missing_ttl", "stale", "grace", "soft_timeout", "hard_timeout",
            "wait_timeout", "max_staleness", "degraded_ttl", "lease",
        ):  # fmt: skip
            values[name] = lasting(seconds(name, values[name]))
        for name in ("stale", "grace", "max_staleness", "degraded_ttl", "lease"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be a number of seconds, got None")
            values[name] = min(LONGEST if values[name] is None else values[name], LONGEST)
        for name in ("ttl", "l1_ttl", "lease"):
            if values[name] == 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)!r}")
        return values

    def _check_numbers(self, values: dict[str, Any]) -> None:
        for name in ("refresh", "jitter"):
            given = values[name]
            unset = given is None and name == "refresh"
            if not (unset or (_number(given) and 0 <= given < 1)):
                raise ValueError(f"{name} must be at least 0 and less than 1, got {given!r}")
        if self.early is not None and not (_number(self.early) and self.early > 0):
            raise ValueError(f"early must be a number above 0, got {self.early!r}")
        if self.copy is not None and not callable(self.copy):
            raise TypeError(f"copy must be callable, got {self.copy!r}")
        for name in ("version", "max_loads"):
            given = values[name]
            if isinstance(given, bool) or not isinstance(given, int):
                raise TypeError(f"{name} must be an int, got {given!r}")
        if not 0 <= self.version < 2**32:
            raise ValueError(f"version must be at least 0 and below 2**32, got {self.version!r}")
        if self.max_loads < 1:
            raise ValueError(f"max_loads must be at least 1, got {self.max_loads!r}")


def default_rules(options: TierOptions, name: str) -> Rules:
    """Those of the loads of the tiered cache itself."""
    return Rules(
        name=name,
        ttl=options.ttl,
        ttl_is_the_caches=False,
        tti=None,
        tags=(),
        none_ttl=None,
        error_ttl={},
        refresh=options.refresh,
        early=options.early,
        stale=options.stale,
        grace=options.grace,
        copier=options.copy,
    )


def lasting(ttl: float | None) -> float | None:
    """A ttl as stores take it: None where it is infinite."""
    return None if ttl == inf else ttl


def _number(given: Any) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and given == given
