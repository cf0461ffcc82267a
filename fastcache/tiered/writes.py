"""Writing and invalidating: L2 first, then L1, and everyone is told.

The order that keeps every reader from anything older than what was written before its read:

- L1 is cleared of the key before L2 is (so that nothing that was there is read while L2 changes), and once
  more after (so that what was read from L2 in between is not kept).
- A value that is set goes into L1 only if nothing has touched the key since before L2 took it; whoever
  comes second of two that set at once leaves L1 without the key.
- What L2 could not be told is kept pending: its key keeps clear of L2 until it could.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from fastcache._core import unwatch, watch
from fastcache._envelope import STAMP
from fastcache._keys import encode
from fastcache._types import MISSING
from fastcache.loading.rules import seconds
from fastcache.stores.protocol import Fill, StoreError
from fastcache.tiered.book import ROOT
from fastcache.tiered.loads import ask
from fastcache.tiered.options import lasting
from fastcache.tiered.values import Landing, tags_given

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastcache.loading.loader import Doing
    from fastcache.stores.protocol import Target
    from fastcache.tiered.core import Core


log = logging.getLogger("fastcache")


class Writes:
    """The writes of one tiered cache. Safe from any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # ---- invalidating ------------------------------------------------------------------------------

    def invalidate(self, keys: Sequence[Any], token: bytes = b"") -> Doing[bool]:
        """Whether everyone was told; False: L2 could not be reached, it will be. token: of the hold that ends."""
        core = self._core
        targets = [core.target(key) for key in keys]
        for key in keys:
            core.l1.delete(key)
        told = True
        try:
            if targets and core.link is not None:
                told = yield from self.tell(targets, token)
        finally:
            # what was read from L2 between the two is as old
            for key in keys:
                core.l1.delete(key)
        core.counts.add("sent", len(keys))
        for watcher in core.watchers:
            for key in keys:
                try:
                    watcher(key)
                except Exception:
                    core.counts.add("event_failures")
                    log.exception("on_invalidate")
        return told

    def tell(self, targets: list[Target], token: bytes = b"") -> Doing[bool]:
        """Invalidate in L2, and tell the others; whether both were reached. StoreError at level "strong"."""
        core = self._core
        link, told = core.link, True
        assert link is not None
        link.start()
        link.arrears.remember(targets)
        if core.space is not None:
            told = yield from self._tell_l2(targets, token)
        return (yield from self._tell_others(targets, told)) and told

    def _tell_l2(self, targets: list[Target], token: bytes) -> Doing[bool]:
        core, link = self._core, self._core.link
        assert link is not None
        failure: StoreError | None = None
        if core.gate.asks():
            try:
                with link.arrears.expecting(targets):
                    yield from ask(core.send, core.space.invalidate(targets, token))
                core.gate.succeeded()
                return True
            except StoreError as error:
                core.failed(error)
                failure = error
            except BaseException:
                # cancelled or interrupted: nobody knows whether L2 got it, but the source has changed
                link.arrears.doubt(targets)
                link.arrears.postpone(targets)
                raise
        if failure is not None:
            link.arrears.doubt(targets)
        link.arrears.postpone(targets)
        failure = failure or StoreError(core.gate.where, "other", "it is left out after failures")
        if core.level == "strong":
            raise failure
        core.complain(
            "pending", "an invalidation has not reached L2, it will be sent again: %s", failure
        )
        return False

    def _tell_others(self, targets: list[Target], told: bool = True) -> Doing[bool]:
        """Through a backplane that is not L2's own, or that L2 could not tell by itself. told: L2 has it."""
        core = self._core
        teller = core.teller
        if teller is None or teller.is_l2 or (told and teller.by_l2):
            return True
        try:
            yield from ask(teller.send, teller.space.invalidate(targets))
        except StoreError as error:
            # they will see by the counters of L2, or after their entries' ttl
            core.counts.add(f"error:{error.kind}")
            core.complain("backplane", "others could not be told of a change: %s", error)
            if core.level == "strong":
                raise
            return False
        return True

    def invalidate_tags(self, tags: Sequence[Any]) -> Doing[None]:
        marks = [encode(tag) for tag in tags_given(tags)]
        yield from self.invalidate_marks(marks)

    def bump_version(self) -> Doing[None]:
        yield from self.invalidate_marks([ROOT])

    def invalidate_marks(self, marks: list[bytes]) -> Doing[None]:
        """Tags, by their encodings. StoreError: not everyone was told; they will be."""
        core, link = self._core, self._core.link
        if not marks:
            return
        core.forget_tags(marks)
        if link is not None:
            link.start()
            link.arrears.remember_marks(marks)
        try:
            if core.space is not None:
                number = yield from ask(core.send, core.space.invalidate_tags(marks))
                core.book.heard(marks, number)
            teller = core.teller
            if teller is not None and not teller.by_l2:
                yield from ask(teller.send, teller.space.invalidate_tags(marks))
        except BaseException:
            if link is not None:
                link.arrears.postpone_marks(marks)
            raise
        finally:
            core.forget_tags(marks)
        core.counts.add("sent", len(marks))

    # ---- setting -----------------------------------------------------------------------------------

    def _ttl(self, ttl: Any) -> float | None:
        return self._core.options.ttl if ttl is ... else lasting(seconds("ttl", ttl))

    def _extra(self, ttl: float | None) -> float:
        options = self._core.options
        return 0.0 if ttl is None else max(options.stale, options.grace)

    def set_many(self, items: Mapping[Any, Any], ttl: Any, tags: Iterable[Any]) -> Doing[list[Any]]:
        """The keys that failed: L2 did not take them, so they are invalid everywhere."""
        core = self._core
        given = tags_given(tags)
        lives = self._ttl(ttl)
        targets = {key: core.target(key) for key in items}
        for key in items:
            core.l1.delete(key)
        # from before the source has it: else of two that set at once its first could be the last here
        watched = watch(core.l1)
        failed: set[Any] = set()
        try:
            token: bytes | None = b""
            if core.source is not None:
                token = yield from core.source.put(items)
                version = core.source.version
                targets = {key: each._replace(version=version) for key, each in targets.items()}
            if lives == 0 or token is None:
                yield from self.invalidate(list(items), token or b"")
                return []
            # each by itself, so that not all of them end at once
            ttls = {key: core.values.shortened(lives) for key in items}
            if core.space is not None:
                failed = yield from self._put(items, targets, ttls, given, token)
            elif core.link is not None:
                yield from core.loads.ready()  # else the first look at the counters may drop it
                yield from self.tell(list(targets.values()))
            extra = self._extra(lives)
            for key, value in items.items():
                short, _ = core.values.l1_ttl(ttls[key])
                landing = [Landing(targets[key].name, key, value, short, extra, given)]
                landed = key not in failed and core.values.land_many(watched, landing)
                if not (landed and (core.source is None or core.source.is_last(key, value))):
                    core.l1.delete(key)
        finally:
            unwatch(core.l1)
        return [key for key in items if key in failed]

    def _put(
        self,
        items: Mapping[Any, Any],
        targets: dict[Any, Target],
        ttls: dict[Any, float | None],
        tags: tuple[Any, ...],
        token: bytes,
    ) -> Doing[set[Any]]:
        """The keys that L2 did not take."""
        core, link = self._core, self._core.link
        assert link is not None
        yield from core.loads.ready()
        try:
            yield from core.loads.know_tags([encode(tag) for tag in tags])
        except StoreError as error:
            core.failed(error)
        fills: dict[Any, Fill] = {}
        for key, value in items.items():
            ttl = ttls[key]
            extra = self._extra(ttl)
            total = None if ttl is None else ttl + extra
            data = core.values.pack(
                encode(key), value, ttl=ttl, extra=extra, tags=tags, sequence=core.book.sequence
            )
            if data is not None:
                fills[key] = Fill(targets[key].name, token, data, total)
        local = [targets[key] for key in items if key not in fills]
        if local:  # they live in L1 alone, but what others have is old
            yield from self.tell(local, token)
        if not fills:
            return set()
        order = [targets[key] for key in fills]
        link.arrears.remember(order, put=True)
        failure: StoreError | None = None
        if core.gate.asks() and not any(core.bypasses(target.name) for target in order):
            try:
                with link.arrears.expecting(order):
                    done = yield from ask(core.send, core.space.put(list(fills.values()), order))
                core.gate.succeeded()
            except StoreError as raised:
                core.failed(raised)
                link.arrears.doubt(order)
                failure = raised
            except BaseException:
                link.arrears.doubt(order)
                link.arrears.postpone(order)
                raise
            else:
                refused = {key for key, ok in zip(fills, done, strict=True) if not ok}
                core.counts.add("fills", len(fills) - len(refused))
                core.counts.add("sent", len(fills))
                if refused:
                    link.arrears.unexpect([targets[key].name for key in refused])
                    yield from self.tell([targets[key] for key in refused], token)
                yield from self._tell_others(order)
                return refused
        link.arrears.postpone(order)
        if core.level == "strong":
            raise failure or StoreError(core.gate.where, "other", "it is left out after failures")
        return set(fills)

    def add(self, key: Any, value: Any, ttl: Any, tags: Iterable[Any]) -> Doing[bool]:
        """Whether it was absent, in every tier, and is there now. StoreError."""
        core = self._core
        given = tags_given(tags)
        lives = core.values.shortened(self._ttl(ttl))
        encoded, name = core.place(key)
        if core.source is not None:
            return (yield from self._add_to_source(key, value, ttl, given))
        if core.space is None:
            yield from core.loads.ready()
            if core.l1.peek(key) is MISSING:
                core.l1.delete(key)
            added = core.l1.add(key, value, ttl=core.values.l1_ttl(lives)[0], tags=given)
            if added and core.link is not None:
                yield from self.tell([core.target(key)])
            return added
        yield from core.loads.ready()
        yield from core.loads.know_tags([encode(tag) for tag in given])
        found = yield from core.loads.read(name, encoded)
        if found is not None and not found.missing:
            return False
        token = os.urandom(16)
        data = core.values.pack(
            encoded,
            value,
            ttl=lives,
            extra=self._extra(lives),
            tags=given,
            sequence=core.book.sequence,
        )
        if data is None:
            raise TypeError(f"add: {value!r} would not come back from L2 as it is")
        if lives == 0:
            return False
        core.l1.delete(key)
        (lease,) = yield from ask(core.send, core.space.lease([name], token, core.options.lease))
        if lease.held:
            return False
        # once more: what somebody else added before the lease was taken is there by now, and what is added from now
        # on takes the lease away
        found = yield from core.loads.read(name, encoded)
        if found is not None and not found.missing:
            if lease.ours:
                yield from ask(core.send, core.space.give_up([name], token))
            return False
        total = None if lives is None else lives + self._extra(lives)
        (filled,) = yield from ask(
            core.send, core.space.fill([Fill(name, lease.token, data, total)])
        )
        core.l1.delete(key)
        return bool(filled)

    def _add_to_source(self, key: Any, value: Any, ttl: Any, tags: tuple[Any, ...]) -> Doing[bool]:
        """Not atomic: between the look and the write another process may add it too."""
        core = self._core
        if core.space is None and core.l1.peek(key, MISSING) is not MISSING:
            return False
        there, error = yield core.loads.fetch, (core.call(key), True), {}
        if error is not None:
            raise error
        if there is not MISSING:
            return False
        yield from self.set_many({key: value}, ttl, tags)
        return True

    def touch(self, key: Any, ttl: Any) -> Doing[bool]:
        """Whether it is there, and has the new ttl. StoreError."""
        core = self._core
        lives = self._ttl(ttl)
        if core.space is None:
            if core.l1.peek(key) is MISSING:
                return False
            return core.l1.touch(key, ttl=core.values.l1_ttl(lives)[0])
        encoded, name = core.place(key)
        yield from core.loads.ready()
        found = yield from ask(core.send, core.space.read(name, primary=True))
        opened = None if found is None else (yield from core.loads.opened(found, encoded))
        if found is None or opened is None or opened.missing:
            return False
        if opened.fresh is not None and opened.fresh <= 0:
            return False  # kept for `stale` and `grace` alone
        if lives == 0:
            yield from self.invalidate([key])
            return True
        total = None if lives is None else lives + core.values.extra_in(found, encoded)
        stamp = found.data if opened.counter else opened.stamp
        done = yield from ask(core.send, core.space.touch(core.target(key), stamp, total))
        core.l1.delete(key)  # it is read again, with its new ttl
        return bool(done)

    def incr(self, key: Any, delta: int, initial: int, ttl: Any) -> Doing[int | None]:
        """The counter's new number. StoreError."""
        core = self._core
        for option, given in (("delta", delta), ("initial", initial)):
            if isinstance(given, bool) or not isinstance(given, int):
                raise TypeError(f"{option} must be an int, got {given!r}")
        lives = self._ttl(ttl)
        if core.source is not None:
            return (yield from core.source.incr(key, delta, initial))
        if core.space is None:
            yield from core.loads.ready()
            if core.l1.peek(key) is MISSING:
                core.l1.delete(key)
            # at 0 seconds it is stored nowhere
            if (lives is not None and key not in core.l1) and (
                core.l1.add(key, initial + delta, ttl=core.values.l1_ttl(lives)[0]) or not lives
            ):
                return initial + delta
            return int(core.l1.incr(key, delta, initial))
        target = core.target(key)
        core.l1.delete(key)
        if core.link is not None:
            core.link.start()
        while True:
            try:
                number = yield from ask(core.send, core.space.incr(target, delta, initial, lives))
                break
            except TypeError:
                if not (yield from self._clears(key, target)):
                    raise TypeError(f"incr: key {key!r} has a value that is no counter") from None
        core.l1.delete(key)
        yield from self._tell_others([target])
        return int(number)

    def _clears(self, key: Any, target: Target) -> Doing[bool]:
        """What lies there is no counter: whether it counts as absent, and is on its way out."""
        core = self._core
        encoded, name = core.place(key)
        yield from core.loads.ready()
        found = yield from ask(core.send, core.space.read(name, primary=True))
        if found is None:
            return True
        opened = yield from core.loads.opened(found, encoded)
        if opened is not None and not opened.missing:
            return bool(opened.counter)
        # by its first bytes, so that what somebody puts there meanwhile stays
        yield from ask(core.send, core.space.touch(target, found.data[:STAMP], 0.001))
        _, error = yield core.loads.sleep, (0.002,), {}
        if error is not None:
            raise error
        return True

    def delete(self, keys: list[Any]) -> Doing[bool]:
        """From the source too, where there is a writer."""
        if self._core.source is not None:
            token = yield from self._core.source.delete(keys)
            return (yield from self.invalidate(keys, token or b""))
        return (yield from self.invalidate(keys))
