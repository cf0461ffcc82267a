"""Bulk loads that fail: the older values that may be had instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcache._core import kept, postpone
from fastcache._types import MISSING
from fastcache.loading.rules import RETRY
from fastcache.stores.protocol import StoreError
from fastcache.tiered.loads import ask
from fastcache.tiered.values import PAST, Landing

if TYPE_CHECKING:
    from collections.abc import Sequence

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
