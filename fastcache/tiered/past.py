"""Bulk loads that fail or take too long: their limit, and the older values that may be had instead."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from typing import TYPE_CHECKING, Any

from fastcache._core import kept, postpone
from fastcache._types import MISSING
from fastcache.loading.rules import RETRY
from fastcache.loading.threads import timed
from fastcache.stores.protocol import StoreError
from fastcache.tiered.loads import ask
from fastcache.tiered.values import PAST, Landing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastcache.loading.loader import Doing
    from fastcache.tiered.core import Core
    from fastcache.tiered.reads import Place
    from fastcache.tiered.values import Opened


class Past:
    """What one tiered cache has past its ttl, for `grace`. Safe from any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def rested(self, keys: Sequence[Any], found: dict[Any, Any]) -> list[Any]:
        """Those of the keys for which the loader may be asked; for the others it failed a moment ago, and what L1 has
        goes into `found`."""
        core, left = self._core, []
        for key in keys:
            there = None if core.level == "strong" else kept(core.l1, key)
            if there is not None and there[1] <= 0 < there[2] and -there[1] < core.options.grace:
                found[key] = there[0]
                core.counts.add("stale")
            else:
                left.append(key)
        return left

    def instead(
        self, places: Sequence[Place], watched: tuple[int, int]
    ) -> Doing[dict[Any, Any] | None]:
        """An older value for each of these, whose load has failed; None: there is none for some."""
        core = self._core
        found: dict[Any, Any] = {}
        left = []
        for place in places:
            there = None if core.level == "strong" else kept(core.l1, place.key)
            if there is not None and -there[1] < core.options.grace:
                found[place.key] = there[0]
            else:
                left.append(place)
        if left and not (yield from self._from_l2(left, watched, found)):
            return None
        for place in places:
            postpone(core.l1, place.key, RETRY)
        core.counts.add("stale", len(places))
        return found

    def _from_l2(
        self, places: Sequence[Place], watched: tuple[int, int], found: dict[Any, Any]
    ) -> Doing[bool]:
        """Into `found`, and L1; whether there is one for all of them."""
        core = self._core
        if not all(core.may_ask(place.name) for place in places):
            return False
        landing = []
        try:
            names = [place.name for place in places]
            got = yield from ask(core.send, core.space.read_many(names, primary=True))
            for place, data in zip(places, got, strict=True):
                opened: Opened | None = None
                if data is not None:
                    opened = yield from core.loads.opened(data, place.encoded)
                if opened is None or not self._will_do(opened):
                    return False
                found[place.key] = opened.value
                if opened.fresh is not None and not opened.counter:
                    extra = core.options.grace + min(opened.fresh, 0.0)
                    tags = core.values.decoded(opened.tags)
                    landing.append(Landing(place.name, place.key, opened.value, PAST, extra, tags))
        except StoreError as error:
            core.failed(error)
            return False
        core.values.land_many(watched, landing)
        return True

    def _will_do(self, opened: Opened) -> bool:
        if opened.fresh is None or opened.fresh > 0:
            return opened.value is not MISSING
        return not opened.missing and -opened.fresh < self._core.options.grace


def limited(
    load_many: Callable[..., Any] | None, seconds: float | None, name: str, asynchronous: bool
) -> Callable[..., Any] | None:
    """The same, with a TimeoutError after so many seconds. What it brings later is lost."""
    if load_many is None or seconds is None:
        return load_many
    text = f"{name}: load_many took longer than hard_timeout={seconds!r} seconds"
    if asynchronous:

        async def awaited(keys: list[Any]) -> Any:
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await load_many(keys)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise TimeoutError(text)

        return awaited

    def called(keys: list[Any]) -> Any:
        context = contextvars.copy_context()
        outcomes: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def carry_out() -> None:
            try:
                outcomes.put((load_many(keys), None))
            except BaseException as error:  # noqa: BLE001 - the caller's
                outcomes.put((None, error))

        if timed.inside() or not timed.submit(lambda: context.run(carry_out)):
            return load_many(keys)
        try:
            value, error = outcomes.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(text) from None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error

    return called
