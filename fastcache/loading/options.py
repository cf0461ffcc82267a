"""The options of `cached`, checked one by one and together."""

from __future__ import annotations

import copy as _copy
import functools
import inspect
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from fastcache._core import Cache, TierFront
from fastcache._redact import shown
from fastcache.loading.rules import Rules, seconds


class Options:
    """What was given to `cached`; TypeError or ValueError that name option and value."""

    def __init__(
        self,
        *,
        maxsize: Any = ...,
        policy: Any = ...,
        ttl: Any = None,
        tti: Any = None,
        jitter: Any = ...,
        key: Any = None,
        ignore: Any = (),
        bind: Any = False,
        typed: Any = False,
        vary: Any = (),
        tags: Any = (),
        cache: Any = None,
        namespace: Any = None,
        none_ttl: Any = None,
        error_ttl: Any = None,
        refresh: Any = None,
        reload: Any = None,
        early: Any = None,
        stale: Any = None,
        grace: Any = None,
        soft_timeout: Any = None,
        hard_timeout: Any = None,
        wait_timeout: Any = 60.0,
        copy: Any = False,
        method: Any = None,
        batch: Any = False,
        max_batch: Any = ...,
        max_wait: Any = ...,
        clock: Any = ...,
    ) -> None:
        for option, value in (("bind", bind), ("typed", typed), ("copy", copy), ("batch", batch)):
            if not isinstance(value, bool):
                raise TypeError(f"{option} must be a bool, got {value!r}")
        if method is not None and not isinstance(method, bool):
            raise TypeError(f"method must be a bool or None, got {method!r}")
        for option, value in (("key", key), ("reload", reload)):
            if value is not None and not callable(value):
                raise TypeError(f"{option} must be callable or None, got {value!r}")
        self.own = {
            option: value
            for option, value in (
                ("maxsize", maxsize),
                ("policy", policy),
                ("jitter", jitter),
                ("clock", clock),
            )
            if value is not ...
        }
        self.bind, self.typed, self.copy, self.batch, self.method = bind, typed, copy, batch, method
        self.key, self.reload = key, reload
        self.ignore = _items("ignore", ignore, (str, int), "names or positions of parameters")
        self.vary = _variables(vary)
        self.tags = tags if callable(tags) else _tags(tags)
        self.cache, self.namespace = cache, namespace
        self.ttl = ttl if callable(ttl) else seconds("ttl", ttl)
        self.tti = seconds("tti", tti)
        self.none_ttl = seconds("none_ttl", none_ttl)
        self.error_ttl = _error_ttl(error_ttl)
        self.refresh = _number("refresh", refresh)
        self.early = _number("early", early)
        self.stale = _positive("stale", stale)
        self.grace = _positive("grace", grace)
        self.soft_timeout = _positive("soft_timeout", soft_timeout)
        self.hard_timeout = _positive("hard_timeout", hard_timeout)
        self.wait_timeout = _positive("wait_timeout", wait_timeout)
        self.gathering: dict[str, Any] = {}
        if max_batch is not ...:
            self.gathering["max_batch"] = _count("max_batch", max_batch)
        if max_wait is not ...:
            self.gathering["max_wait"] = seconds("max_wait", max_wait) or 0.0
        self._check_together()

    def _check_together(self) -> None:
        """What each needs, and what does not go with what."""
        self._check_numbers()
        ttl = self._or_the_tiers("ttl")
        keeping = ("refresh", "early", "stale", "grace")
        for option in keeping:
            if not ttl:
                self._refuse(option, "needs a ttl" if ttl is None else "needs a ttl above 0")
        for option in ("bind", "typed", "ignore"):
            if self.key is not None:
                self._refuse(option, f"does not go with key={self.key!r}")
        if not (self._or_the_tiers("stale") or self._or_the_tiers("grace")):
            self._refuse("soft_timeout", "needs stale or grace")
        if not any(map(self._or_the_tiers, keeping)):
            self._refuse("reload", "needs refresh, early, stale or grace")
        if self.cache is None:
            self._refuse("namespace", "needs cache=, where it tells keys apart")
        else:
            for option, value in self.own.items():
                raise ValueError(f"{option}={value!r} does not go with cache=, which has its own")
            if self.method:
                self._refuse(
                    "method", "does not go with cache=: results live there or in the instance"
                )
        if not self.batch:
            for option, value in self.gathering.items():
                raise ValueError(f"{option}={value!r} needs batch=True")

    def _or_the_tiers(self, option: str) -> Any:
        """What was given, else what the tiered cache has."""
        value = getattr(self, option)
        if value is None and isinstance(self.cache, TierFront):
            return getattr(self.cache._core.options, option)  # type: ignore[attr-defined]
        return value

    def _check_numbers(self) -> None:
        if self.refresh is not None and not 0 < self.refresh < 1:
            raise ValueError(
                f"refresh must be a fraction of the ttl between 0 and 1, got {self.refresh!r}"
            )
        if self.early is not None and not 0 < self.early < float("inf"):
            raise ValueError(f"early must be a number above 0, got {self.early!r}")
        soft, hard = self.soft_timeout, self.hard_timeout
        if soft is not None and hard is not None and soft > hard:
            raise ValueError(f"soft_timeout={soft!r} must not be above hard_timeout={hard!r}")
        if self.cache is not None and not isinstance(self.cache, (Cache, TierFront)):
            from fastcache._redact import shown

            raise TypeError(
                f"cache must be a Cache, a tiered cache or None, got {shown(self.cache)}"
            )
        if self.batch and isinstance(self.cache, TierFront):
            raise ValueError(
                "batch=True does not go with a tiered cache: give that a loader with load_many"
            )
        if self.tti is not None and isinstance(self.cache, TierFront):
            raise ValueError(f"tti={self.tti!r} does not go with a tiered cache")
        if self.namespace is not None and not isinstance(self.namespace, str):
            raise TypeError(f"namespace must be a str or None, got {self.namespace!r}")
        if self.namespace == "":
            raise ValueError("namespace must not be empty, got ''")

    def check_against(self, asynchronous: bool) -> None:
        """What depends on the function: whether it is async."""
        for option in ("key", "ttl", "tags"):
            if is_async(getattr(self, option)):
                raise TypeError(f"{option} must not be async, got {getattr(self, option)!r}")
        if self.reload is not None and is_async(self.reload) is not asynchronous:
            raise TypeError(
                f"reload must be {'async, as' if asynchronous else 'a plain function, like'} the function, "
                f"got {self.reload!r}"
            )

    def _refuse(self, option: str, why: str) -> None:
        value = getattr(self, option)
        if value is not None and value is not False and value != ():
            raise ValueError(f"{option}={value!r} {why}")

    names = frozenset(__init__.__kwdefaults__ or ())

    @property
    def is_simple(self) -> bool:
        """Whether a miss has only to load and to store."""
        return (
            not (callable(self.ttl) or callable(self.tags) or self.copy or self.error_ttl)
            and self.none_ttl is self.refresh is self.early is self.stale is self.grace is None
            and self.soft_timeout is self.hard_timeout is None
        )

    @property
    def how_keys_are_made(self) -> object:
        """Equal where equal calls have equal keys; None: by a function of the user's."""
        if self.key is not None:
            return None
        return self.ignore, self.bind, self.typed, self.vary, self.batch

    def rules(self, name: str) -> Rules:
        """Those that concern values."""
        return Rules(
            name=name,
            ttl=self.ttl,
            ttl_is_the_caches=self.cache is None,
            tti=self.tti,
            tags=self.tags,
            none_ttl=self.none_ttl,
            error_ttl=self.error_ttl,
            refresh=self.refresh,
            early=self.early,
            stale=self.stale or 0.0,
            grace=self.grace or 0.0,
            copier=_copy.deepcopy if self.copy else None,
        )

    def tier_rules(self, name: str, tier: Any) -> Rules:
        """Those of a function whose results are in a tiered cache: what is not given is that cache's."""
        rules = self.rules(name)
        theirs = {o: self._or_the_tiers(o) for o in ("ttl", "refresh", "early", "stale", "grace")}
        copier = rules.copier or tier._core.options.copy
        return replace(rules, ttl_is_the_caches=False, copier=copier, **theirs)

    def time_outs(self) -> dict[str, float | None]:
        """Where none are given, those of a tiered cache."""
        return {
            "soft_timeout": self._or_the_tiers("soft_timeout"),
            "hard_timeout": self._or_the_tiers("hard_timeout"),
            "wait_timeout": self.wait_timeout,
        }

    def own_cache(self, name: str) -> Cache[Any, Any]:
        """The cache of a function that shares none."""
        return Cache(
            self.own.get("maxsize", 128),
            policy=self.own.get("policy", "lru"),
            ttl=None if callable(self.ttl) else self.ttl,
            tti=self.tti,
            jitter=self.own.get("jitter", 0.0),
            clock=self.own.get("clock"),
            name=name,
        )


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function)
        and inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004
    )


def check_callback(name: str, value: Any) -> None:
    """TypeError unless it is what can be called, and need not be awaited."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {shown(value)}")
    if is_async(value):
        raise TypeError(f"{name} must not be async, got {value!r}")


def _items(option: str, given: Any, kinds: tuple[type, ...], what: str) -> tuple[Any, ...]:
    if isinstance(given, (str, int)) and isinstance(given, kinds):
        given = (given,)
    try:
        items = tuple(given)
    except TypeError:
        raise TypeError(f"{option} must be {what}, got {given!r}") from None
    for item in items:
        if not isinstance(item, kinds) or isinstance(item, bool):
            raise TypeError(f"{option} must be {what}, got {item!r}")
    return items


def _variables(given: Any) -> tuple[Any, ...]:
    return _items(
        "vary", (given,) if isinstance(given, ContextVar) else given, (ContextVar,), "ContextVars"
    )


def _tags(given: Any) -> tuple[Any, ...]:
    probe: Cache[int, int] = Cache(1)
    if isinstance(given, (str, bytes)) or not hasattr(type(given), "__iter__"):
        raise TypeError(f"tags must be an iterable of tags or a function, got {given!r}")
    tags = tuple(given)
    probe.set(0, 0, tags=tags)  # which raises what is wrong with them
    return tags


def _error_ttl(given: Any) -> dict[type[BaseException], float]:
    if given is None:
        return {}
    if not hasattr(given, "items"):
        raise TypeError(f"error_ttl must be a mapping of exception types to seconds, got {given!r}")
    kept: dict[type[BaseException], float] = {}
    for kind, ttl in given.items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"error_ttl must map exception types to seconds, got {kind!r}")
        limit = seconds(f"error_ttl[{kind.__name__}]", ttl)
        if limit is None:
            raise ValueError(f"error_ttl[{kind.__name__}] must be a number of seconds, got {ttl!r}")
        kept[kind] = limit
    return kept


def _number(option: str, given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{option} must be a number or None, got {given!r}")
    return float(given)


def _positive(option: str, given: Any) -> float | None:
    value = seconds(option, given)
    if value == 0:
        raise ValueError(f"{option} must be above 0, got {given!r}")
    return value


def _count(option: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{option} must be an int, got {given!r}")
    if given < 1:
        raise ValueError(f"{option} must be at least 1, got {given!r}")
    return given
