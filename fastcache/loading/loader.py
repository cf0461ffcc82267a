"""The loader: what a miss does, as a generator of steps that threads and tasks carry out alike.

LOAD flight    call the function (or `reload`, for an old value), and end the flight with what comes of it;
               what is no error for all comes to be in `own`, if it ended the load elsewhere than in the
               caller's frames
WAIT flight    until the flight has ended, or for so many seconds; the answer is whether it has
CALL           call the function for this caller alone; the answer is the value
"""

from __future__ import annotations

import logging
import math
import random
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastcache._core import board, kept, postpone, served
from fastcache.loading.rules import RETRY, KeptError, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fastcache._core import Cache, Cached, Flight

    Outcome = tuple[Any, BaseException | None]
    #: what is to be called (function, args, kwargs), and what came of it
    Wanted = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    T = TypeVar("T")
    Doing = Generator[Wanted, Outcome, T]
    Calls = Doing[Any]
    Load = Generator[Wanted, Outcome, None]

log = logging.getLogger("fastcache")

LOAD, WAIT, CALL = "load", "wait", "call"
#: Instead of the option that ended a wait: to wait would be to wait for oneself.
ALONE = "alone"
#: Seconds at least between two looks for an older value.
LOOK = 0.02
#: Seconds between two warnings about the same.
QUIET = 10.0


class Call(NamedTuple):
    """One call of a cached function: where its result belongs, and how to compute it."""

    cached: Any  # the Cached, or None; mypy would take it for a method
    cache: Cache[Any, Any]
    key: Any
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    anew: bool = False
    """whatever is there, in any tier"""
    ttl: Any = ...
    """instead of that of the rules; with the tags, of a tiered cache's get_or_set"""
    tags: Any = None
    seen: list[Any] | None = None
    """of a tiered cache: what L2 has answered to whoever leads the load, until that takes it"""


class Old(NamedTuple):
    """A value past its ttl, and whether it will do without a try to load another."""

    value: Any
    serve: bool


class Step(NamedTuple):
    """What the driver is asked to do."""

    what: str
    flight: Flight | None = None
    seconds: float | None = None
    old: Old | None = None
    own: list[BaseException] | None = None


def finish(load: Generator[Any, Outcome, None], value: Any, error: BaseException | None) -> Any:
    """Tell a load what came of what it wanted called; what it wants called next, None: it has ended."""
    try:
        return load.send((value, error))
    except StopIteration:  # not by contextlib.suppress, whose own calls take longer than the send
        return None


def _abandon(led: list[Flight]) -> None:
    while led:
        led.pop().abandon()


class Loader:
    """The rules of one decorated function, and what it does on a miss.

    Subclasses are the drivers: `_run` carries out the steps of `obtain`, `_start` those of a renewal in
    the background.
    """

    #: what other loads may wait for: threads have no loop
    asynchronous = False
    #: whether a load may come upon an older value, that its callers may have instead
    finds_old = False

    def __init__(
        self,
        function: Callable[..., Any],
        rules: Rules,
        *,
        reload: Callable[..., Any] | None,
        soft_timeout: float | None,
        hard_timeout: float | None,
        wait_timeout: float | None,
        name_method: Callable[[Cached[..., Any], type, str], None],
    ) -> None:
        self.function = function
        self.rules = rules
        self.reload = reload
        self.soft_timeout = soft_timeout
        self.hard_timeout = hard_timeout
        self.wait_timeout = wait_timeout
        self.named = name_method
        #: text -> when it was last logged, and how often it was not since
        self._said: dict[str, tuple[float, int]] = {}

    # ---- what the engine calls ----------------------------------------------------------------

    def missed(
        self, cached: Cached[..., Any], key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The value of a call that is not there (of an async function: a coroutine)."""
        call = Call(cached, cached.cache, key, self.function, args, kwargs)
        return self._run(self.obtain(call), call)

    def refresh(
        self, cached: Cached[..., Any], key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Load now, whatever is there (of an async function: a coroutine)."""
        call = Call(cached, cached.cache, key, self.function, args, kwargs, anew=True)
        return self._run(self.obtain(call, again=True), call)

    def due(
        self, cached: Cached[..., Any], key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A hit, close enough to the end of its ttl for a renewal to be considered."""
        self.due_call(Call(cached, cached.cache, key, self.function, args, kwargs))

    def due_call(self, call: Call) -> None:
        found = kept(call.cache, call.key)
        if found is None:
            return
        value, fresh, _, cost = found
        early = self.rules.early
        if early is None:
            renew = True  # nothing but `refresh` asks to be told
        else:
            # 1 - random(), since log(0) is no number
            renew = -cost * early * math.log(1.0 - random.random()) >= fresh
            renew = renew or fresh <= self.rules.refresh_lead(value, call.args, call.kwargs)
        if renew:
            self.renew(call, value)

    # ---- the steps -----------------------------------------------------------------------------

    def obtain(
        self, call: Call, *, again: bool = False, led: list[Flight] | None = None
    ) -> Generator[Step, Any, Any]:
        """What a miss does; the generator returns the value, or raises. led: has the flight if the caller leads one
        already."""
        old = None if again or not self.rules.keeps else self._kept(call)
        if old is not None and old.serve:
            return old.value
        began = time.monotonic()
        first = True
        led = [] if led is None else led
        own: list[BaseException] = []
        while True:
            try:
                flight, leads = (led[0], True) if led else self._board(call, again, led)
                earlier = first and again and not leads
                first = False
                if leads and flight.running:
                    yield Step(LOAD, flight, old=old, own=own)
                led.clear()
            finally:
                _abandon(led)
            if flight.running:
                unended, old = yield from self._wait(flight, leads, call, old, began)
                if unended is not None:
                    del flight
                    if old is not None and unended not in (ALONE, "wait_timeout"):
                        served(call.cache, call.cached)
                        return old.value
                    if unended == "hard_timeout":
                        raise TimeoutError(
                            f"{self.rules.name}: the load took longer than "
                            f"hard_timeout={self.hard_timeout!r} seconds"
                        )
                    return (yield Step(CALL))
            if flight.failed and not earlier:
                if old is not None:
                    return self._instead(call, flight, old, leads)
                error = flight.to_raise()
                # nothing that the traceback holds may hold the error
                del flight, old
                try:
                    raise error
                finally:
                    del error
            if flight.landed and not earlier:
                return flight.value
            if own:
                # SystemExit and the like end the call that led; who waited tries for himself
                del flight, old
                raise own.pop()
            # abandoned, so the next one tries; or begun before this renewal was asked for

    def _kept(self, call: Call) -> Old | None:
        """What is there that only the loader sees, and whether it is to be returned at once."""
        rules = self.rules
        found = kept(call.cache, call.key)
        if found is None:
            return None
        value, fresh, due, _ = found
        if type(value) is KeptError:
            served(call.cache, call.cached)
            raise value.again()
        if fresh > 0 or due > 0 or -fresh < rules.stale:
            # stored meanwhile; not to be tried again yet; or past its ttl, which is allowed
            served(call.cache, call.cached)
            if fresh <= 0 and due <= 0:
                self.renew(call, value)
            return Old(value, True)
        return Old(value, False) if -fresh < rules.grace else None

    def _wait(
        self, flight: Flight, leads: bool, call: Call, old: Old | None, began: float
    ) -> Generator[Step, Any, tuple[str | None, Old | None]]:
        """None: it has ended. Else why not: the option that ended the wait, or ALONE. And the older value, which the
        load may have come upon."""
        if self.asynchronous and self._loop() is None:
            return ALONE, old  # under trio nobody can be woken by another
        limits = {
            "soft_timeout": self.soft_timeout if old is not None or self.finds_old else None,
            "hard_timeout": self.hard_timeout,
            "wait_timeout": None if leads else self.wait_timeout,
        }
        given = {name: limit for name, limit in limits.items() if limit is not None}
        token = object()
        try:
            if flight.follow(self.asynchronous, token, own=leads) is None:
                return ALONE, old
            while True:
                name = min(given, key=given.__getitem__) if given else None
                limit = None if name is None else given[name] - (time.monotonic() - began)
                if (yield Step(WAIT, flight, limit)):
                    return None, old
                if old is None and name != "wait_timeout":
                    old = self.found_old(flight, call)
                if old is not None or name != "soft_timeout":
                    return name, old
                # there is nothing to serve instead so far: look again later, ever less often
                given[name] = time.monotonic() - began + max(given[name], LOOK)
        finally:
            flight.unfollow(token)
            if leads:
                flight.let_go()

    def found_old(self, flight: Flight, call: Call) -> Old | None:
        """An older value that this load has come upon, where `finds_old`."""
        return None

    def _instead(self, call: Call, flight: Flight, old: Old, leads: bool) -> Any:
        """The load failed, and grace allows the old value."""
        served(call.cache, call.cached)
        if leads:  # said once, not by all who waited
            self.complain("the load failed, an older value is served: %r", flight.error)
        return old.value

    def complain(self, text: str, error: BaseException | None) -> None:
        """Log a warning; of each text once in a while, since a source that is down fails for every key."""
        now = time.monotonic()
        said, unsaid = self._said.get(text, (-QUIET, 0))
        if now - said < QUIET:
            self._said[text] = said, unsaid + 1
            return
        self._said[text] = now, 0
        more = f" (and {unsaid} more since the last word of it)" if unsaid else ""
        log.warning("%s: " + text + "%s", self.rules.name, error, more)

    def _board(self, call: Call, again: bool, led: list[Flight]) -> tuple[Flight, bool]:
        """A new flight is in `led` before an interrupt (Ctrl-C) can lose it."""
        return board(
            call.cache,
            call.key,
            loop=self._loop(),
            tags=self.rules.early_tags,
            late=self.rules.late_tags,
            again=again,
            led=led,
        )

    def load(
        self,
        flight: Flight,
        call: Call,
        old: Old | None = None,
        own: list[BaseException] | None = None,
    ) -> Load:
        """What a leader does: yields functions with their arguments, to be sent (value, None) or (None,
        exception). The flight has ended when it ends; what is no Exception is in `own`."""
        function, args = call.function, call.args
        if old is not None and self.reload is not None:
            copier = self.rules.copier
            known = old.value if copier is None else copier(old.value)
            function, args = self.reload, (known, *args)
        try:
            token = flight.enter()
            # not thrown in here: its traceback would hold this frame, and this frame the flight
            value, error = yield function, args, call.kwargs
            flight.leave(token, error is not None)
            if error is not None:
                if self.ends_in_error(error):
                    if old is not None:
                        postpone(call.cache, call.key, RETRY)
                    self.rules.fail(flight, error, call.cache)
                elif own is not None and flight.task is not False:
                    own.append(error)
                return
            try:
                if type(value) is CoroutineType:
                    value.close()
                    raise TypeError(
                        f"{self.rules.name} returned a coroutine, which can be awaited only once: "
                        "decorate an async def"
                    )
                self.rules.land(flight, value, call.args, call.kwargs)
            except Exception as raised:  # noqa: BLE001 - passed on to every caller
                if flight.running:  # what the user gave for ttl, tags or copy
                    flight.fail(raised)
        finally:
            flight.abandon()

    def renew(self, call: Call, value: Any) -> None:
        """Load in the background, unless that is under way, or too much of it."""
        led: list[Flight] = []
        try:
            flight, leads = self._board(call, True, led)
            postpone(call.cache, call.key, RETRY)
            if not leads and flight.abandon_if_dead():
                flight, leads = self._board(call, True, led)
            if leads and self._start(self._renewal(flight, call, value), flight, call):
                led.clear()
                flight.let_go()
        finally:
            _abandon(led)

    def _renewal(self, flight: Flight, call: Call, value: Any) -> Load:
        yield from self.load(flight, call, Old(value, False))
        if flight.failed:
            self.complain("renewing failed, the older value stays: %r", flight.error)

    # ---- the driver's --------------------------------------------------------------------------

    @staticmethod
    def ends_in_error(error: BaseException) -> bool:
        """Whether what a load raised is for all who wait for it; else one of them takes over."""
        return isinstance(error, Exception)

    def _loop(self) -> Any:
        return None

    def _run(self, steps: Generator[Step, Any, Any], call: Call) -> Any:
        raise NotImplementedError

    def _start(self, load: Load, flight: Flight, call: Call) -> bool:
        raise NotImplementedError
