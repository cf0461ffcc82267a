"""Reading many keys at once: one round trip to L2, one bulk load, and no flight for each key."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._core import split, unwatch, watch
from fastcache._keys import encode
from fastcache._types import MISSING
from fastcache.stores.protocol import Dated, Fill, StoreError
from fastcache.tiered.drivers import leave_behind
from fastcache.tiered.loads import ask
from fastcache.tiered.values import ABSENT, Landing, keys_given

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache.loading.loader import Calls, Doing
    from fastcache.stores.protocol import Found
    from fastcache.tiered.core import Core
    from fastcache.tiered.values import Opened


class Place(NamedTuple):
    """A key, and its name in L2."""

    key: Any
    encoded: bytes
    name: str


class _Read(NamedTuple):
    """What L2 had of a key. opened: None: nothing that can be read."""

    key: Any
    name: str
    opened: Opened | None


class _Leases(NamedTuple):
    """Of a bulk load. tokens: by key; the leases that were there already have others' tokens. held: keys that may
    not be filled. healthy: L2 took part."""

    token: bytes
    tokens: dict[Any, bytes]
    held: set[Any]
    sequence: int
    healthy: bool


class _Loaded(NamedTuple):
    """What a bulk load brought. cost: seconds per key."""

    values: Mapping[Any, Any]
    cost: float
    tags: tuple[Any, ...]


class Reads:
    """The bulk reads of one tiered cache. Safe from any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def get_many(self, keys: Iterable[Any], tags: tuple[Any, ...] = ()) -> Doing[dict[Any, Any]]:
        """{key: value} of those that exist. tags: of what the loader brings."""
        core = self._core
        asked = keys_given(keys)
        found: dict[Any, Any] = {}
        strong = core.level == "strong"
        if not (strong or core.trust or core.link is None):
            yield from core.loads.ready()
        if core.trust and not strong:
            found, missed = split(core.l1, asked)
        else:
            missed = list(dict.fromkeys(asked))
            if not strong:
                held = [(key, core.held(key)) for key in missed]
                found = {key: value for key, value in held if value is not ABSENT}
                missed = [key for key in missed if key not in found]
        if missed and core.options.grace:
            missed = core.past.rested(missed, found)
        if missed:
            usual: dict[Any, Any] = yield from self._from_l2(missed, found)
            if not found and len(usual) == len(missed):
                return usual  # in the order asked for, and all of them exist
            found.update(usual)
            missed = [key for key in missed if key not in found]
        if missed and core.has_loader:
            if core.load_many is None or len(missed) == 1:
                yield from self._load_each(missed, found, tags)
            else:
                yield from self._load_many(missed, found, tags)
        return {k: found[k] for k in asked if found.get(k, MISSING) is not MISSING}

    def peek_l2(self, key: Any, default: Any) -> Any:
        """What L2 would serve, blocking. StoreError."""
        core = self._core
        if core.space is None or core.store is None:
            return default
        encoded, name = core.place(key)
        found = core.store.run(core.space.read(name, primary=True))
        opened = None if found is None else core.values.open(found, encoded)
        if opened is None or (opened.fresh is not None and opened.fresh <= 0):
            return default
        if unknown := core.book.unknown(opened.tags):
            core.book.learn(unknown, core.store.run(core.space.tags(unknown)))
        return opened.value if core.values.is_alive(opened) else default

    # ---- L2 --------------------------------------------------------------------------------------

    def _from_l2(self, keys: list[Any], found: dict[Any, Any]) -> Calls:
        """What L2 has, into L1: {key: value} of what is usual, in the order of keys; all else, and what the
        writer holds, goes into `found`."""
        core = self._core
        if core.source is not None:
            for key in keys:
                value = core.source.pending(key)
                if value is ... and core.source.adds(key):
                    value = yield from core.source.current(key)
                if value is not ...:
                    found[key] = value
            keys = [key for key in keys if key not in found]
        keys, encodings, names, words = core.askable(keys)
        if not keys:
            return {}
        watched = watch(core.l1)
        try:
            strong = core.level == "strong"
            got = yield from ask(core.send, core.space.read_dated(names, words, primary=strong))
            core.gate.succeeded()
            usual, fresh, others, lowest = core.values.usual_of(keys, encodings, got)
            rest = yield from self._opened(others, keys, encodings, names, got)
            tags = {tag for each in rest if each.opened is not None for tag in each.opened.tags}
            if unknown := core.book.unknown(tags):
                core.book.learn(unknown, (yield from ask(core.send, core.space.tags(unknown))))
            if usual and core.book.latest() > lowest:  # some of these are dead
                again = [i for i, key in enumerate(keys) if key in usual]
                rest += yield from self._opened(again, keys, encodings, names, got)
                usual, fresh, names = {}, b"", []
            elif others:
                apart = set(others)
                names = [name for i, name in enumerate(names) if i not in apart]
            core.values.land_usual(watched, names, usual, fresh)
            core.counts.add("l2_hits", len(usual))
            if rest:
                self._take(rest, watched, found)
            return usual
        except StoreError as error:
            core.failed(error)
        finally:
            unwatch(core.l1)
        return {}

    def _opened(
        self,
        which: Sequence[int],
        keys: Sequence[Any],
        encodings: Sequence[bytes],
        names: Sequence[str],
        got: list[Found | None] | Dated,
    ) -> Calls:
        """Some of what L2 had, each by itself."""
        core, reads = self._core, []
        for i in which:
            each = (yield from ask(core.send, got.found(i))) if isinstance(got, Dated) else got[i]
            opened = None if each is None else core.values.open(each, encodings[i])
            reads.append(_Read(keys[i], names[i], opened))
        return reads

    def _take(
        self, reads: Sequence[_Read], watched: tuple[int, int], found: dict[Any, Any]
    ) -> None:
        """What may be returned, into `found` and L1."""
        core, values = self._core, self._core.values
        extra = max(core.options.stale, core.options.grace)
        most, _ = values.l1_ttl(None)
        landing: list[Landing] = []
        misses = 0
        for key, name, each in reads:
            if (
                each is None
                or not values.is_alive(each)
                or (each.fresh is not None and each.fresh <= 0)
            ):
                misses += 1
                continue
            found[key] = each.value
            if not each.counter:
                fresh = each.fresh
                ttl = fresh if most is None or (fresh is not None and fresh < most) else most
                tags = values.decoded(each.tags)
                more = 0.0 if each.missing else extra
                landing.append(Landing(name, key, each.value, ttl, more, tags))
        values.land_many(watched, landing)
        core.counts.add("l2_hits", len(reads) - misses)
        core.counts.add("l2_misses", misses)

    # ---- the loader ------------------------------------------------------------------------------

    def _load_each(
        self, keys: Sequence[Any], found: dict[Any, Any], tags: tuple[Any, ...]
    ) -> Calls:
        core = self._core
        for key in keys:
            call = core.call(key, tags=tags or None)
            found[key], error = yield core.loads.fetch, (call, core.again(key)), {}
            if error is not None:
                raise error

    def _load_many(
        self, keys: Sequence[Any], found: dict[Any, Any], tags: tuple[Any, ...]
    ) -> Calls:
        """What load_many has of these, into `found` and both tiers."""
        core = self._core
        assert core.load_many is not None
        places = [Place(key, *core.place(key)) for key in keys]
        watched = watch(core.l1)
        capped, counted = False, None
        try:
            leases = yield from self._lease_many(places, tags)
            capped = yield from core.loads.enter_cap(leases.healthy)
            began = time.monotonic()
            try:
                counted = core.cap.begin(capped)
                loaded, error = yield core.load_many, (list(keys),), {}
            except GeneratorExit:  # cancelled, or interrupted
                leave_behind(self._give_up(places, leases), core.asynchronous)
                raise
            finally:
                core.cap.end(counted)
            cost = time.monotonic() - began
            core.counts.add("loads")
            core.add_load_time(cost)
            if error is None and not isinstance(loaded, Mapping):
                error = TypeError(f"load_many must return a mapping of keys, got {loaded!r}")
            if error is not None:
                core.counts.add("load_failures")
                yield from self._give_up(places, leases)
                instead = None
                if core.options.grace:
                    instead = yield from core.past.instead(places, watched)
                if instead is None:
                    raise error
                core.loads.complain("load_many failed, older values are served: %r", error)
                found.update(instead)
                return
            found.update({key: loaded.get(key, MISSING) for key in keys})
            each = _Loaded(found, cost / len(keys), tags)
            yield from self._store(places, leases, each, watched)
        finally:
            if capped:
                core.cap.leave()
            unwatch(core.l1)

    def _lease_many(self, places: Sequence[Place], tags: tuple[Any, ...]) -> Calls:
        core = self._core
        token = os.urandom(16)
        tokens: dict[Any, bytes] = {}
        held: set[Any] = set()
        asked = [place for place in places if core.may_ask(place.name)]
        if asked:
            try:
                yield from core.loads.know_tags([encode(tag) for tag in tags])
                names = [place.name for place in asked]
                got = yield from ask(core.send, core.space.lease(names, token, core.options.lease))
                for place, lease in zip(asked, got, strict=True):
                    if lease.held:
                        held.add(place.key)
                    else:
                        tokens[place.key] = lease.token
                return _Leases(token, tokens, held, core.book.sequence, True)
            except StoreError as error:
                core.failed(error)
        return _Leases(token, {}, held, core.book.sequence, core.space is None)

    def _give_up(self, places: Sequence[Place], leases: _Leases) -> Calls:
        names = [p.name for p in places if leases.tokens.get(p.key) == leases.token]
        if names:
            try:
                yield from ask(self._core.send, self._core.space.give_up(names, leases.token))
            except StoreError as error:
                self._core.failed(error)

    def _store(
        self,
        places: Sequence[Place],
        leases: _Leases,
        loaded: _Loaded,
        watched: tuple[int, int],
    ) -> Calls:
        core, options = self._core, self._core.options
        fills: list[tuple[Any, Fill]] = []
        landing: list[Landing] = []
        for place in places:
            value = loaded.values[place.key]
            missing = value is MISSING
            ttl = core.values.shortened(options.missing_ttl if missing else options.ttl)
            extra = 0.0 if missing or ttl is None else max(options.stale, options.grace)
            if ttl == 0:
                continue
            if place.key in leases.tokens:
                data = core.values.pack(
                    place.encoded,
                    value,
                    ttl=ttl,
                    extra=extra,
                    tags=() if missing else loaded.tags,
                    sequence=leases.sequence,
                    cost=loaded.cost,
                )
                if data is not None:
                    total = None if ttl is None else ttl + extra
                    token = leases.tokens[place.key]
                    fills.append((place.key, Fill(place.name, token, data, total)))
            own = () if missing else loaded.tags
            landing.append(Landing(place.name, place.key, value, ttl, extra, own))
        filled = {key for key, _ in fills}
        # nobody need wait for what does not get into L2
        yield from self._give_up([p for p in places if p.key not in filled], leases)
        refused = set(leases.held)
        deaf = not leases.healthy
        if fills:
            try:
                done = yield from ask(core.send, core.space.fill([fill for _, fill in fills]))
                refused.update(key for (key, _), ok in zip(fills, done, strict=True) if ok is False)
                for outcome, counted in ((True, "fills"), (False, "refused"), (None, "unstorable")):
                    core.counts.add(counted, done.count(outcome))
            except StoreError as error:
                core.failed(error)
                deaf = True
        kept = [
            each._replace(ttl=core.values.l1_ttl(each.ttl, deaf=deaf)[0])
            for each in landing
            if each.key not in refused
        ]
        core.values.land_many(watched, kept)
