"""Loads of a tiered cache: L2 first, under its lease the loader, and what comes of it into both tiers.

The rules of `cached` hold (fastcache.loading): one flight per key, stale, grace, time-outs, renewals. What differs is
the load itself, which is written once, as calls for threads and for tasks to carry out.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._core import board, kept
from fastcache._keys import encode
from fastcache._types import MISSING
from fastcache.loading.loader import Call, Loader, Old
from fastcache.loading.tasks import TaskLoader
from fastcache.loading.threads import ThreadLoader
from fastcache.stores.protocol import Fill, StoreError
from fastcache.tiered.book import FUNCTION
from fastcache.tiered.drivers import acarry, carry
from fastcache.tiered.loaders import no_loader
from fastcache.tiered.quick import UNASKED, QuickLoader
from fastcache.tiered.values import ABSENT, PAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastcache._core import Cached, Flight
    from fastcache.loading.loader import Calls, Doing, Load
    from fastcache.stores.protocol import Found, Lease
    from fastcache.tiered.core import Core
    from fastcache.tiered.values import Opened

#: Seconds between two looks at a key that another process loads: at first, and at most.
LOOK, MOST_LOOK = 0.002, 0.05


def ask(send: Callable[[Any], Any], steps: Any) -> Calls:
    """Carry out an operation of the store, a call for each of its requests; its result."""
    try:
        request = next(steps)
        while True:
            answer, error = yield send, (request,), {}
            request = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()


class TierLoads(Loader):
    """What ThreadTierLoads and TaskTierLoads share."""

    core: Core
    finds_old = True
    #: key -> the load under way, and the older value that L2 has
    pasts: dict[Any, tuple[Flight, Old]]
    #: tags that all it loads has, by their encodings
    marks: tuple[bytes, ...] = ()
    #: blocking or awaited: Store.send, time.sleep
    send: Callable[[Any], Any]
    sleep: Callable[[float], Any]

    def set_core(self, core: Core) -> None:
        self.core = core
        self.pasts = {}
        if core.store is not None:
            self.send = core.store.asend if self.asynchronous else core.store.send

    # ---- what `cached` calls -------------------------------------------------------------------------

    def set_prefix(self, prefix: str) -> None:
        """It is the loader of a function whose keys begin with this."""
        self.marks = (FUNCTION + prefix.encode(),)

    def untrusted(
        self, cached: Cached[..., Any], key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The value of a call that L1 may not answer by itself (of an async function: a coroutine)."""
        core = self.core
        call = Call(cached, core.l1, key, self.function, args, kwargs)
        if self.asynchronous:
            return self._auntrusted(call)
        value = core.held(key)
        return self.fetch(call, core.again(key)) if value is ABSENT else value

    async def _auntrusted(self, call: Call) -> Any:
        value = await self.core.aheld(call.key)
        return await self.fetch(call, self.core.again(call.key)) if value is ABSENT else value

    def invalidate(self, key: Any) -> Any:
        """Of a call, everywhere; of an AsyncTieredCache, to be awaited."""
        return self._done(self.core.writes.invalidate([key]))

    def clear(self) -> Any:
        """All results of the function, everywhere; of an AsyncTieredCache, to be awaited."""
        return self._done(self.core.writes.invalidate_marks([*self.marks]))

    def _done(self, steps: Calls) -> Any:
        return acarry(steps) if self.core.asynchronous else carry(steps)

    # ---- one load --------------------------------------------------------------------------------

    def load(
        self,
        flight: Flight,
        call: Call,
        old: Old | None = None,
        own: list[BaseException] | None = None,
    ) -> Load:
        core = self.core
        before: Before | None = None
        noted = core.note_load(call.key)
        try:
            try:
                before = yield from self._before(flight, call, old)
            except Exception as failure:  # noqa: BLE001 - passed on to every caller
                flight.fail(failure)
            if before is None:
                return
            given, past = old, before.past
            if past is not None:
                old = Old(past.value, False)
                self.pasts[call.key] = flight, old
            function, args = call.function, call.args
            if old is not None and self.reload is not None:
                function, args = self.reload, (self._copy(old.value), *args)
            token, counted = flight.enter(), core.cap.begin(before.capped)
            value, error = yield function, args, call.kwargs
            core.cap.end(counted)
            flight.leave(token, error is not None)
            core.counts.add("loads")
            core.add_load_time(flight.cost)
            if error is not None:
                yield from self._failed(flight, call, before, error, given, own)
                return
            try:
                yield from self._store(flight, call, value, before)
            except Exception as raised:  # noqa: BLE001 - passed on to every caller
                if flight.running:
                    flight.fail(raised)
        finally:
            if before is not None:
                if before.capped:
                    core.cap.leave()
                if before.past is not None:
                    self.pasts.pop(call.key, None)
            if noted:
                core.index.noted(call.key)
            flight.abandon()

    def _failed(
        self,
        flight: Flight,
        call: Call,
        before: Before,
        error: BaseException,
        known: Old | None,
        own: list[BaseException] | None,
    ) -> Calls:
        """The function has raised. known: the older value that the callers have."""
        core = self.core
        core.counts.add("load_failures")
        if not self.ends_in_error(error):
            if own is not None:
                own.append(error)
            flight.abandon()  # whoever waits begins anew, here and in other processes
            yield from self._give_up(before.lease, before.name)
            return
        yield from self._give_up(before.lease, before.name)
        if core.values.failed(self.rules, flight, call, error, known, before.name, before.past):
            self.complain("the load failed, an older value is served: %r", error)

    def _before(self, flight: Flight, call: Call, old: Old | None) -> Calls:
        """What comes before the function is called; None: it need not be, the flight has landed."""
        core = self.core
        encoded, name = core.place(call.key)
        past: Opened | None = None
        if not call.seen:  # else it was, before that was read
            yield from self.ready()
        if core.source is not None and (call := (yield from self._waits(flight, call))) is None:
            return None
        lease: Lease | None = None
        healthy = core.space is None
        raw: Any = call.seen.pop() if call.seen else ...
        if core.may_ask(name) if raw is ... else raw is not UNASKED:
            try:
                if isinstance(raw, StoreError):
                    raise raw
                if call.anew:
                    raw = None
                else:
                    raw = (yield from self._ask_for(name)) if raw is ... else raw
                    found = yield from self._counted(raw, encoded)
                    if found is not None:
                        if self._lands(found, flight, call, name, old):
                            return None
                        past = found if old is None and self._is_past(found) else None
                if call.function is not no_loader:
                    yield from self.know_tags([*self._early_marks(call), *self.marks])
                    lease, found = yield from self._lease(name, encoded, flight, call, raw)
                    if found is not None and self._lands(found, flight, call, name, None):
                        return None
                healthy = True
            except StoreError as error:
                core.failed(error)
        if call.function is no_loader:
            flight.land(MISSING, ttl=0)
            return None
        capped = yield from self.enter_cap(healthy)
        return Before(encoded, name, core.book.sequence, lease, healthy, capped, past)

    def _copy(self, value: Any) -> Any:
        copier = self.rules.copier
        return value if copier is None or value is MISSING else copier(value)

    def _waits(self, flight: Flight, call: Call) -> Calls:
        """None if what was acknowledged, and waits to be written, is returned instead; else how to load."""
        source: Any = self.core.source
        waiting = source.pending(call.key)
        if waiting is ... and not (source.adds(call.key) and self.core.has_loader):
            return call
        waiting = (yield from source.current(call.key)) if waiting is ... else waiting
        if waiting is MISSING and call.function is not self.core.loader:
            return call._replace(anew=True)  # L2 may have it again
        flight.land(waiting, ttl=0)
        return None

    def ask(self, steps: Any) -> Calls:
        return ask(self.send, steps)

    def _board(self, call: Call, again: bool, led: list[Flight]) -> tuple[Flight, bool]:
        # tags may come with the value, from L2 or the caller
        return board(call.cache, call.key, loop=self._loop(), late=True, again=again, led=led)

    def fetch(self, call: Call, again: bool = False) -> Any:
        """The value of a call that L1 does not have, or may not serve."""
        return self._run(self.obtain(call, again=again), call)

    def ready(self) -> Calls:
        """Wait, once, until this process hears what others invalidate, or cannot."""
        link = self.core.link
        if link is None:
            return
        if self.core.shares_memory:
            # nothing that is stored from now on is older than this
            _, error = yield self.core.alook if self.asynchronous else self.core.look, (), {}
            if error is not None:
                raise error
            return
        if link.tried.is_set():
            return
        link.start()
        end = time.monotonic() + 2 * self.core.trip
        while not link.tried.is_set() and time.monotonic() < end:
            _, error = yield self.sleep, (0.001,), {}
            if error is not None:
                raise error
        link.hasty = not link.tried.is_set()

    def _early_marks(self, call: Call) -> list[bytes]:
        """Tags that are known before the load."""
        tags = self.rules.early_tags if call.tags is None else call.tags
        return [encode(tag) for tag in tags]

    def know_tags(self, marks: Iterable[bytes] = ()) -> Calls:
        """Know when these tags, by their encodings, and the whole were last invalidated. The store makes those
        that it does not have, as if they had been invalidated just now; so this comes before the load. StoreError."""
        book = self.core.book
        if unknown := book.unknown(marks):
            book.learn(unknown, (yield from self.ask(self.core.space.tags(unknown))))

    def read(self, name: str, encoded: bytes) -> Calls:
        """What L2 has, if it is alive."""
        return (yield from self._counted((yield from self._ask_for(name)), encoded))

    def _ask_for(self, name: str) -> Calls:
        """What lies in L2."""
        core = self.core
        found = yield from self.ask(core.space.read(name, primary=core.level == "strong"))
        core.gate.succeeded()
        return found

    def _counted(self, found: Found | None, encoded: bytes) -> Calls:
        """The same opened, if it is alive."""
        core = self.core
        if found is None:
            core.counts.add("l2_misses")
            return None
        opened = yield from self.opened(found, encoded)
        core.counts.add("l2_misses" if opened is None else "l2_hits")
        return opened

    def _wanted(self, found: Opened | None, call: Call) -> bool:
        """Whether it may be returned instead of a load's result."""
        if found is None or (found.missing and call.function is not self.core.loader):
            return False
        return found.fresh is None or found.fresh > 0

    def opened(self, found: Found, encoded: bytes) -> Calls:
        """What lies in L2, if it is alive."""
        core = self.core
        opened = core.values.open(found, encoded)
        if (
            opened is not None
            and not opened.counter
            and (unknown := core.book.unknown(opened.tags))
        ):
            numbers = yield from self.ask(core.space.tags(unknown))
            core.book.learn(unknown, numbers)
        if opened is None or (not opened.counter and core.book.dead(opened.tags, opened.sequence)):
            return None
        return opened

    def _lands(self, found: Opened, flight: Flight, call: Call, name: str, old: Old | None) -> bool:
        """End the flight with what L2 had, unless a load is wanted all the same."""
        core, rules = self.core, self.rules
        fresh = found.fresh
        if found.counter:
            flight.land(found.value, ttl=0)
            return True
        if found.missing and call.function is not core.loader:
            return False  # get_or_set, or a cached function, makes it
        if old is not None and fresh is not None:
            known = kept(call.cache, call.key)
            if known is not None and fresh <= max(known[1], 0.0) + 0.01:
                return False  # L2 has what is to be renewed
        extra = max(rules.stale, rules.grace)
        tags = core.values.decoded(found.tags) if found.tags else ()
        value = self._copy(found.value)
        lead = 0.0
        if fresh is not None:
            if fresh <= 0:
                if found.missing or -fresh >= rules.stale:
                    return False
                # the next hit renews it, as it does one in L1
                core.counts.add("stale")
                extra += fresh
                fresh = PAST
            elif rules.early is not None or rules.refresh is not None:
                lead = rules.lead(found.ttl or fresh, found.cost)
        core.values.land(
            flight, call.key, name, value, fresh,
            extra=0.0 if found.missing else extra, lead=lead, tags=tags, sequence=found.sequence, given=found.value,
        )  # fmt: skip
        return True

    def _is_past(self, found: Opened) -> bool:
        """Whether L2 has it past its ttl, for grace."""
        usable = not (found.missing or found.counter)
        return usable and found.fresh is not None and -found.fresh < self.rules.grace

    def found_old(self, flight: Flight, call: Call) -> Old | None:
        of, old = self.pasts.get(call.key, (None, None))
        return old if of is flight and not flight.fenced else None

    def _lease(
        self, name: str, encoded: bytes, flight: Flight, call: Call, seen: Found | None
    ) -> Calls:
        """(the lease under which to load, None), or (None, what another process has loaded). seen: what L2 had, of no
        use."""
        core = self.core
        token = os.urandom(16)
        began = time.monotonic()
        pause = LOOK
        first: bytes | None = None
        while True:
            (lease,) = yield from self.ask(core.space.lease([name], token, core.options.lease))
            if call.anew:
                return lease, None
            come = lease.found
            if come is not None and not (
                lease.ours and seen is not None and come.data == seen.data
            ):
                # filled since L2 was read, even if its lease has gone by now
                opened = yield from self.opened(come, encoded)
                if self._wanted(opened, call):
                    yield from self._give_up(lease, name)
                    return None, opened
            if lease.ours or lease.held:
                return lease, None
            if first is None:
                core.counts.add("lease_waits")
                first = lease.token
            limit = self.wait_timeout
            if (lease.token != first and flight.fenced) or (
                limit is not None and time.monotonic() - began > limit
            ):
                return lease, None  # waited once; the load starts after this lease was taken
            _, error = yield self.sleep, (pause,), {}
            if error is not None:
                raise error
            pause = min(pause * 1.5, MOST_LOOK)
            found = yield from self.read(name, encoded)
            if self._wanted(found, call):
                return None, found

    def _give_up(self, lease: Lease | None, name: str) -> Calls:
        if lease is None or not lease.ours:
            return
        try:
            yield from self.ask(self.core.space.give_up([name], lease.token))
        except StoreError as error:
            self.core.failed(error)

    def enter_cap(self, healthy: bool) -> Calls:
        """Without L2 as a shield not every miss of every process may go to the source at once. Whether
        there is a place to be left."""
        core = self.core
        if healthy or core.space is None:
            return False
        limit = self.hard_timeout or self.wait_timeout or 60.0
        return (yield from core.cap.wait(self.sleep, limit))

    def _store(self, flight: Flight, call: Call, value: Any, before: Before) -> Calls:
        """What was loaded, into L2 and then L1."""
        core, rules = self.core, self.rules
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(f"{rules.name} returned a coroutine; that is for AsyncTieredCache")
        ttl = core.values.ttl_of(rules, call, value)
        tags = core.values.tags_of(rules, call, value)
        extra = 0.0 if value is MISSING or ttl is None else max(rules.stale, rules.grace)
        keep, deaf = ttl != 0, not (before.healthy or core.bypasses(before.name))
        lease = before.lease
        if lease is not None:
            if lease.held:
                keep = False  # the source is being written, so whoever reads next asks it again
            elif keep:
                data = core.values.pack(
                    before.encoded, value,
                    ttl=ttl, extra=extra, tags=tags, marks=self.marks,
                    sequence=before.sequence, cost=flight.cost,
                )  # fmt: skip
                if data is not None:
                    total = None if ttl is None else ttl + extra
                    outcome = yield from self._fill(Fill(before.name, lease.token, data, total))
                    # L1 keeps it for a moment also if it came too late for L2: an invalidation that
                    # ended the lease is heard, and fences it; and a load may outlast its lease
                    deaf = deaf or outcome in ("refused", "unknown")
                else:
                    yield from self._give_up(lease, before.name)
            else:
                yield from self._give_up(lease, before.name)
        if not keep:
            flight.land(value, ttl=0)
            return
        lead = rules.lead(ttl, flight.cost) if ttl and value is not MISSING else 0.0
        core.values.land(
            flight, call.key, before.name, self._copy(value), ttl,
            extra=extra, lead=lead, tags=tags, sequence=before.sequence, given=value, deaf=deaf,
        )  # fmt: skip

    def _fill(self, fill: Fill) -> Doing[str]:
        """ "fills"; "refused", since the key was invalidated; "unstorable" for want of room; or "unknown"."""
        core = self.core
        try:
            (filled,) = yield from self.ask(core.space.fill([fill]))
        except StoreError as error:
            core.failed(error)
            return "unstorable" if error.kind == "full" else "unknown"
        outcome = "fills" if filled else "unstorable" if filled is None else "refused"
        core.counts.add(outcome)
        return outcome


class Before(NamedTuple):
    """Under which conditions a function is called. sequence: of invalidations of tags. healthy: L2 takes part.
    capped: it counts among the loads without L2. past: a value past its ttl, that L1 does not have."""

    encoded: bytes
    name: str
    sequence: int
    lease: Lease | None
    healthy: bool
    capped: bool
    past: Opened | None


class ThreadTierLoads(QuickLoader, TierLoads, ThreadLoader):
    """For threads. Safe from any thread."""

    sleep = staticmethod(time.sleep)


class TaskTierLoads(TierLoads, TaskLoader):
    """For tasks. Safe from any event loop."""

    sleep = staticmethod(asyncio.sleep)


def loads_of(asynchronous: bool) -> type[TierLoads]:
    return TaskTierLoads if asynchronous else ThreadTierLoads
