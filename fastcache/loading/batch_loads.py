"""The loads of batches: single misses gathered, each key loaded once at a time."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from functools import partial
from typing import TYPE_CHECKING, Any

from fastcache._core import CallBinder, board, enter_flights, kept, leave_flights, served
from fastcache.loading.loader import CALL, LOAD, WAIT, finish
from fastcache.loading.rules import KeptError
from fastcache.loading.tasks import THROUGH, ended_in_loop, ends_in_error, spawn
from fastcache.loading.wanted import Gathering, Wanted, abandon, few, outcome, own_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fastcache._core import Cache
    from fastcache.loading.rules import Rules

#: What counts as several keys. A tuple is one key, since keys may be tuples.
SEVERAL = (list, set, frozenset, KeysView, ValuesView, Iterator, range)
_ABSENT = object()
#: What a driver is asked to do, and of what.
Step = tuple[str, Any]


#: In a forked child nobody loads what the parent's threads were gathering.
_all: weakref.WeakSet[BatchLoads] = weakref.WeakSet()


def _after_fork() -> None:
    for loads in list(_all):
        loads._start_gathering()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class BatchLoads:
    """Where a batch's values are kept, and how what is missing comes there.

    Loads are carried out by a thread that misses, or in a task of the loop of one that does."""

    def __init__(
        self,
        function: Callable[..., Any],
        cache: Cache[Any, Any],
        prefix: str | None,
        rules: Rules,
        *,
        asynchronous: bool,
        max_batch: int = 1000,
        max_wait: float = 0.002,
        wait_timeout: float | None = 60.0,
    ) -> None:
        self.cache = cache
        self._function = function
        self._prefix = prefix
        self._rules = rules
        self._asynchronous = asynchronous
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._wait_timeout = wait_timeout
        self._binder = CallBinder((), bind=False, ignored=(), vary=(), prefix=prefix, typed=False)
        self._start_gathering()
        _all.add(self)
        self._counts = [0, 0]  # hits and misses, in a cache shared with others
        self._owner: weakref.ref[Any] | None = (
            None  # the instance or class that holds it, of a method
        )

    def _start_gathering(self) -> None:
        # a signal handler, or a __del__, may come while its thread holds it
        self._lock: Any = threading.RLock()
        self._gatherings: dict[Any, Gathering] = {}  # event loop, or None for threads
        self._gathering: set[int] = set()  # threads that are at it

    def _place(self, key: Any) -> Any:
        """The key in the cache."""
        return key if self._prefix is None else self._binder(key)

    # ---- calls ---------------------------------------------------------------------------------

    def _ask(self, keys: Any, instance: Any, again: bool = False) -> Any:
        """again: load them, whatever is there."""
        several = isinstance(keys, SEVERAL)
        asked = list(dict.fromkeys(keys)) if several else [keys]
        answer = self._answer_async if self._asynchronous else self._answer
        return answer(asked, several, instance, again)

    def _answer(self, asked: list[Any], several: bool, instance: Any, again: bool) -> Any:
        steps = self._steps(asked, several, instance, None, again)
        answer: Any = None
        try:
            while True:
                answer = self._do(steps.send(answer), several, instance)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    def _do(self, step: Step, several: bool, instance: Any) -> Any:
        what, of = step
        try:
            if what == CALL:
                return self._call(of, instance)
            if what == WAIT:
                return not self._within() and of.wait(self._wait_timeout)
            for w in of:
                w.flight.hand_over()
            if several:
                self._load_all([*of], instance)
            else:
                self._gather(of[0], instance)
        finally:
            # an error's traceback holds this frame; see ThreadLoader
            w = None
            del step, of

    def _within(self) -> bool:
        """Whether a signal handler, or a __del__, came while its thread gathers, or has the lock: what it waits for may
        be waiting for that."""
        return self._lock._is_owned() or threading.get_ident() in self._gathering

    async def _answer_async(
        self, asked: list[Any], several: bool, instance: Any, again: bool
    ) -> Any:
        steps = self._steps(asked, several, instance, asyncio._get_running_loop(), again)
        answer: Any = None
        try:
            while True:
                answer = await self._do_async(steps.send(answer), several, instance)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    async def _do_async(self, step: Step, several: bool, instance: Any) -> Any:
        what, of = step
        loop = asyncio._get_running_loop()
        try:
            if what == CALL:
                return await self._call(of, instance)
            if what == WAIT:
                return await ended_in_loop(of, self._wait_timeout)
            if loop is None:
                await self._load_all_async([*of], instance)
            elif several:
                spawn(self._load_all_async([*of], instance), partial(abandon, of))
            else:
                self._gather_async(of[0], instance, loop)
        finally:
            del step, of

    def _steps(
        self,
        asked: list[Any],
        several: bool,
        instance: Any,
        loop: Any,
        again: bool,
        waited: bool = False,
    ) -> Generator[Step, Any, Any]:
        """What a call does: (LOAD, what it leads), (WAIT, a flight) for whether it has ended, (CALL, keys)
        for their values. waited: for the loads that were under way when they were asked for again."""
        found, wanted = self._look(asked, loop, again)
        mine = [w for w in wanted if w.leads]
        # under trio nobody can be woken by another
        lone = self._asynchronous and loop is None
        try:
            if mine:
                yield LOAD, mine
            for w in wanted:
                ended = True
                if w.flight.running:
                    token = None if lone else w.flight.follow(self._asynchronous, own=w.leads)
                    ended = False
                    if token is not None:
                        try:
                            ended = yield WAIT, w.flight
                        finally:
                            w.flight.unfollow(token)
                if not ended:
                    found[w.key] = self._checked([w.key], (yield CALL, [w.key]))[w.key]
                elif again and not waited and not w.leads:  # it began before this was asked for
                    found[w.key] = yield from self._steps(
                        [w.key], False, instance, loop, True, True
                    )
                elif w.flight.landed or w.flight.failed:
                    found[w.key] = outcome(w)
                elif w.own is not None:
                    raise own_error(w)
                else:  # abandoned
                    found[w.key] = yield from self._steps(
                        [w.key], False, instance, loop, again, waited
                    )
        finally:
            w = None  # type: ignore[assignment]
            del mine, wanted
        return self._given(found, asked, several)

    def _look(
        self, asked: list[Any], loop: Any, again: bool
    ) -> tuple[dict[Any, Any], list[Wanted]]:
        """What is there, and what is not, or is asked for again."""
        found: dict[Any, Any] = {}
        wanted: list[Wanted] = []
        places = [self._place(key) for key in asked]
        values = [_ABSENT] * len(asked) if again else self.cache.get_many(places, _ABSENT)
        for key, place, value in zip(asked, places, values, strict=True):
            if value is not _ABSENT:
                found[key] = value
                continue
            try:
                old = kept(self.cache, place) if self._rules.keeps and not again else None
                if old is not None and type(old[0]) is KeptError:
                    served(self.cache)
                    raise old[0].again()
                flight, leads = board(
                    self.cache,
                    place,
                    loop=loop,
                    tags=self._rules.early_tags,
                    late=self._rules.late_tags,
                    again=again,
                )
            except BaseException:
                abandon(wanted)  # nobody else would
                raise
            wanted.append(Wanted(key, flight, leads and flight.running))
        if self._prefix is not None and not again:
            with self._lock:
                self._counts[0] += len(found)
                self._counts[1] += len(wanted)
        return found, wanted

    def _given(self, found: dict[Any, Any], asked: list[Any], several: bool) -> Any:
        copier = self._rules.copier
        if copier is not None:
            found = {key: copier(value) for key, value in found.items()}
        return {key: found[key] for key in asked} if several else found[asked[0]]

    # ---- loads ---------------------------------------------------------------------------------

    def _gather(self, one: Wanted, instance: Any) -> None:
        """Add a miss to those that wait; whoever was first loads them all."""
        if self._within():  # the lines below, which it must not wait for
            self._load_all([one], instance)
            return
        me = threading.get_ident()
        self._gathering.add(me)
        gathering, first = None, False
        try:
            with self._lock:
                gathering = self._gatherings.get(None)
                first = gathering is None
                if gathering is None:
                    gathering = self._gatherings[None] = Gathering()
                gathering.wanted.append(one)
                del one  # see _answer
                if len(gathering.wanted) >= self._max_batch:
                    del self._gatherings[None]
                    gathering.full.set()
            if first:
                gathering.full.wait(self._max_wait)
        finally:
            if first and gathering is not None:
                with self._lock:
                    if self._gatherings.get(None) is gathering:
                        del self._gatherings[None]
            self._gathering.discard(me)
            if first and gathering is not None:
                self._load_all(gathering.wanted, instance)

    def _gather_async(self, one: Wanted, instance: Any, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            gathering = self._gatherings.get(loop)
            first = gathering is None
            if gathering is None:
                gathering = self._gatherings[loop] = Gathering()
                gathering.future = loop.create_future()
            gathering.wanted.append(one)
            if len(gathering.wanted) >= self._max_batch:
                del self._gatherings[loop]
                assert gathering.future is not None
                gathering.future.set_result(None)
        if first:
            spawn(self._load_gathered(gathering, instance, loop), lambda: abandon(gathering.wanted))

    async def _load_gathered(
        self, gathering: Gathering, instance: Any, loop: asyncio.AbstractEventLoop
    ) -> None:
        assert gathering.future is not None
        try:
            await asyncio.wait({gathering.future}, timeout=self._max_wait)
        finally:
            with self._lock:
                if self._gatherings.get(loop) is gathering:
                    del self._gatherings[loop]
            if not gathering.future.done():
                gathering.future.cancel()
        await self._load_all_async(gathering.wanted, instance)

    def _load_all(self, wanted: list[Wanted], instance: Any) -> None:
        """Load, in calls of at most max_batch keys; all flights have ended when it returns."""
        try:
            while wanted:
                part, wanted[: self._max_batch] = wanted[: self._max_batch], []
                load = self._load(part)
                keys = next(load)
                part = []
                try:
                    values = self._call(keys, instance)
                except BaseException as error:
                    finish(load, None, error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    finish(load, values, None)
        finally:
            abandon(wanted)
            del wanted

    async def _load_all_async(self, wanted: list[Wanted], instance: Any) -> None:
        try:
            while wanted:
                part, wanted[: self._max_batch] = wanted[: self._max_batch], []
                load = self._load(part)
                keys = next(load)
                part = []
                try:
                    values = await self._call(keys, instance)
                except BaseException as error:
                    passed_on = ends_in_error(error)
                    finish(load, None, error)
                    if not passed_on:
                        raise
                else:
                    finish(load, values, None)
        finally:
            abandon(wanted)
            del wanted

    def _load(
        self, part: list[Wanted]
    ) -> Generator[list[Any], tuple[Any, BaseException | None], None]:
        """One call: yields its keys, to be sent (values, None) or (None, exception)."""
        flights = tuple(w.flight for w in part)
        try:
            token = enter_flights(flights)
            values, error = yield [w.key for w in part]
            leave_flights(flights, token, error is not None)
            if error is None:
                self._land(part, values)
            elif ends_in_error(error):
                for flight in flights:
                    self._rules.fail(flight, error, self.cache)
            elif self._asynchronous and not isinstance(error, THROUGH):
                for w in part:
                    w.own = error
        finally:
            abandon(part)

    def _call(self, keys: list[Any], instance: Any) -> Any:
        return self._function(keys) if self._owner is None else self._function(instance, keys)

    def _land(self, part: list[Wanted], values: Any) -> None:
        try:
            values = self._checked([w.key for w in part], values)
        except (TypeError, ValueError) as error:
            for w in part:
                w.flight.fail(error)
            return
        for w in part:
            try:
                self._rules.land(w.flight, values[w.key], (w.key,), {})
            except Exception as raised:  # noqa: BLE001 - passed on to every caller
                if w.flight.running:  # what the user gave for ttl, tags or copy
                    w.flight.fail(raised)

    def _checked(self, keys: list[Any], values: Any) -> Mapping[Any, Any]:
        name = self._rules.name
        if not isinstance(values, Mapping):
            raise TypeError(f"{name}: with batch=True it must return a mapping, got {values!r}")
        missing = [key for key in keys if key not in values]
        if missing:
            raise ValueError(
                f"{name}: with batch=True it must return all keys, but {few(missing)} missing"
            )
        if len(values) != len(keys):
            given = set(keys)
            foreign = [key for key in values if key not in given]
            raise ValueError(
                f"{name}: with batch=True it must return only the keys it was given, but {few(foreign)} foreign"
            )
        return values
