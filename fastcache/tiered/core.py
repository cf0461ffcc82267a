"""What a tiered cache does, written once as calls to carry out, for threads and for tasks."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from fastcache._core import Cache, fence_loads, unwatch, watch
from fastcache._keys import check_namespace, encode, name_of_encoded
from fastcache._types import MISSING
from fastcache.loading.loader import Call
from fastcache.loading.rules import seconds
from fastcache.stores.protocol import BUCKETS, Fill, Store, StoreError, Target, bucket_of
from fastcache.tiered.book import ROOT, TagBook
from fastcache.tiered.coherence import Coherence
from fastcache.tiered.gate import Cap, Gate
from fastcache.tiered.index import Index
from fastcache.tiered.loads import ask, default_rules, loads_of, no_loader
from fastcache.tiered.stats import Counts, L2Stats, TieredStats, under
from fastcache.tiered.values import Landing, Values, tags_given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastcache._core import Trust
    from fastcache.loading.loader import Calls
    from fastcache.stores.protocol import Backplane
    from fastcache.tiered.options import TierOptions

log = logging.getLogger("fastcache")

ABSENT = object()
#: Bytes of a key's encoding that a message carries; of longer ones it names the bucket.
LONGEST = 512
#: Seconds between two warnings about the same kind of thing.
QUIET = 60.0


class Core:
    """One tiered cache, whichever face it has. Safe from any thread and event loop."""

    def __init__(
        self,
        l1: Cache[Any, Any],
        trust: Trust,
        store: Store | None,
        options: TierOptions,
        *,
        namespace: str | None,
        serializer: Any,
        compress_above: int | None,
        loader: Any,
        writer: Any,
        backplane: Any,
        asynchronous: bool,
    ) -> None:
        self.l1 = l1
        self.trust = trust
        self.store = store
        self.options = options
        self.namespace = namespace
        self.name = f"TieredCache {namespace!r}" if namespace else "TieredCache"
        self.origin = os.urandom(8)
        self.counts = Counts()
        self._load_time = 0.0
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()
        where = "L2" if store is None else store.where
        self.gate = Gate(where)
        self.cap = Cap(options.max_loads)
        self.trip = 0.5 if store is None else store.trip
        self.space: Any = None
        if store is not None:
            assert namespace is not None
            self.space = store.space(namespace, self.origin)
        self.book = TagBook(self._is_heard)
        codec = None
        if store is not None:
            from fastcache._envelope import Codec

            if serializer is None:
                from fastcache.serializers import Msgpack

                serializer = Msgpack()
            codec = Codec(serializer, options.version, compress_above=compress_above)
        self.values = Values(self, codec)
        self.backplane: Backplane | None = backplane
        self.index = Index(l1)
        #: the others' changes are seen in shared memory
        self.shares_memory = self.space is not None and self.space.shares_memory
        self.hears = store is not None or backplane is not None
        self.level = options.level or ("bounded" if self.hears else "eventual")
        self.link: Coherence | None = None
        if store is None and backplane is None:
            trust.forever()
        else:
            self.link = Coherence(self, backplane)
        if self.level == "eventual":
            trust.forever()
        self.loader = loader_of(loader, asynchronous)
        self.load_many = getattr(loader, "load_many", None)
        self.writer = writer
        self.loads = loads_of(asynchronous)(
            self.loader, default_rules(self),
            reload=None,
            soft_timeout=options.soft_timeout,
            hard_timeout=options.hard_timeout,
            wait_timeout=options.wait_timeout,
            name_method=_no_method,
        )  # fmt: skip
        self.loads.set_core(self)
        self.send: Callable[[Any], Any] = _nothing
        if store is not None:
            self.send = store.asend if asynchronous else store.send
        self.handlers: dict[str, list[Callable[..., Iterable[Any]]]] = {}
        self.watchers: list[Callable[[Any], object]] = []
        self.closed = False

    @property
    def has_loader(self) -> bool:
        return self.loader is not no_loader

    def delete(self, keys: list[Any]) -> Calls:
        """From the source too, where there is a writer."""
        return (yield from self.invalidate(keys))

    def close(self, timeout: float | None) -> None:
        """Flush and stop listening. Once."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        try:
            if self.writer is not None:
                self.writer.close(timeout)
        finally:
            if self.link is not None:
                self.link.stop()

    # ---- keys ------------------------------------------------------------------------------------

    def place(self, key: Any) -> tuple[bytes, str]:
        """A key's canonical encoding and its name in L2. TypeError, ValueError: it can have none."""
        encoded = encode(key)
        return encoded, name_of_encoded(encoded)

    def target(self, key: Any) -> Target:
        encoded, name = self.place(key)
        return Target(name, encoded if len(encoded) <= LONGEST else None)

    # ---- what it hears -----------------------------------------------------------------------------

    def _is_heard(self) -> bool:
        return self.hears and bool(self.trust)

    def is_deaf(self) -> bool:
        """Whether nobody tells of changes though somebody should."""
        return self.hears and self.level == "bounded" and not self.trust

    def forget_key(self, key: Any, name: str) -> None:
        """Another process invalidated it."""
        self.l1.delete(key)

    def forget_tags(self, tags: Sequence[Any]) -> None:
        if ROOT in tags:
            fence_loads(self.l1)
            self.l1.clear()
        given = [tag for tag in tags if tag != ROOT]
        if given:
            self.l1.invalidate_tag(*given)

    def recheck(self, name: str | None) -> None:
        """Somebody who is not one of us changed this name in L2: what L1 has of it is read anew."""
        if name is None or len(name) < 33:
            self.link.missed(set(range(BUCKETS))) if self.link is not None else None
            return
        fence_loads(self.l1)
        for key in self.index.of(bucket_of(name)):
            if self.place(key)[1] == name:
                self.l1.delete(key)

    def bypasses(self, name: str) -> bool:
        """Whether L2 has not heard yet that this name was invalidated."""
        link = self.link
        return link is not None and (name in link.pending or link.pending_all)

    def may_ask(self, name: str) -> bool:
        """Whether L2 is to be asked for a name now."""
        if self.space is None:
            return False
        if self.bypasses(name) or not (self.gate.asks() or self.gate.may_probe()):
            self.counts.add("skipped")
            return False
        return True

    def failed(self, error: StoreError) -> None:
        """L2 could not do what it was asked."""
        self.gate.failed(error)
        self.counts.add(f"error:{error.kind}")
        self.complain(f"error:{error.kind}", "L2 failed, the source is asked instead: %s", error)

    def complain(self, kind: str, text: str, *args: object) -> None:
        """Log a warning, of each kind once in a while."""
        now = time.monotonic()
        if now - self._said.get(kind, -QUIET) >= QUIET:
            self._said[kind] = now
            log.warning(text, *args)

    def add_load_time(self, cost: float) -> None:
        with self._lock:
            self._load_time += max(cost, 0.0)

    # ---- reading -----------------------------------------------------------------------------------

    def call(self, key: Any, function: Any = None, *, ttl: Any = ..., tags: Any = None) -> Call:
        """The load of a key, by this cache's loader or another."""
        if function is None:
            if self.loader is no_loader:
                return Call(None, self.l1, key, no_loader, (), {})
            return Call(None, self.l1, key, self.loader, (key,), {})
        return Call(None, self.l1, key, function, (), {}, ttl=ttl, tags=tags)

    def held(self, key: Any) -> Any:
        """What L1 may serve though it is not trusted, counted as stale; else ABSENT."""
        if self.level == "strong":
            return ABSENT
        link = self.link
        if link is None:
            return ABSENT
        if self.shares_memory:
            link.start()
            try:
                link.catch_up()
            except StoreError as error:
                self.failed(error)
            if self.trust:
                return self.l1.get(key, ABSENT)
        if not link.tried.is_set():
            return ABSENT
        link.start()
        if time.monotonic() - link.lost_at > self.options.max_staleness:
            link.grow_stale()
        value = self.l1.get(key, ABSENT)
        if value is not ABSENT:
            self.counts.add("stale")
        return value

    def get_many(self, keys: Iterable[Any]) -> Calls:
        asked = list(dict.fromkeys(keys))
        found: dict[Any, Any] = {}
        if self.level == "strong":
            missed = asked
        else:
            if not self.trust and self.link is not None:
                yield from self.loads.ready()
            missed = []
            take = self.l1.get_many if self.trust else (lambda ks, d: [self.held(k) for k in ks])
            for key, value in zip(asked, take(asked, ABSENT), strict=True):
                if value is ABSENT:
                    missed.append(key)
                else:
                    found[key] = value
        if missed:
            yield from self._read_many(missed, found)
            missed = [key for key in missed if key not in found]
            if missed and self.loader is not no_loader:
                yield from self._load_many(missed, found)
        return {key: found[key] for key in asked if key in found and found[key] is not MISSING}

    def _read_many(self, keys: Sequence[Any], found: dict[Any, Any]) -> Calls:
        """What L2 has of these, into `found` and L1."""
        for key in keys:
            value = self.pending_write(key)
            if value is not ...:
                found[key] = value
        places = [(key, *self.place(key)) for key in keys if key not in found]
        places = [place for place in places if self.may_ask(place[2])]
        if not places:
            return
        watched = watch(self.l1)
        try:
            got = yield from ask(self.send, self.space.read_many([name for _, _, name in places]))
            self.gate.succeeded()
            opened = [
                None if f is None else self.values.open(f, encoded)
                for (_, encoded, _), f in zip(places, got, strict=True)
            ]
            tags = {tag for o in opened if o is not None for tag in o.tags}
            if unknown := self.book.unknown(tags):
                self.book.learn(unknown, (yield from ask(self.send, self.space.tags(unknown))))
            landing = []
            extra = max(self.options.stale, self.options.grace)
            hits = 0
            for (key, _, name), o in zip(places, opened, strict=True):
                if o is None or (not o.counter and self.book.dead(o.tags, o.sequence)):
                    continue
                if (o.fresh is not None and o.fresh <= 0) or (
                    o.missing and self.loader is no_loader
                ):
                    continue
                hits += 1
                found[key] = o.value
                if not o.counter:
                    ttl, _ = self.values.l1_ttl(o.fresh)
                    landing.append(
                        Landing(name, key, o.value, ttl, 0.0 if o.missing else extra, self.values.decoded(o.tags))
                    )
            self.values.land_many(watched, landing)
            self.counts.add("l2_hits", hits)
            self.counts.add("l2_misses", len(places) - hits)
        except StoreError as error:
            self.failed(error)
        finally:
            unwatch(self.l1)

    def _load_many(self, keys: list[Any], found: dict[Any, Any]) -> Calls:
        """What the loader has of these, into `found` and both tiers."""
        if self.load_many is None or len(keys) == 1:
            for key in keys:
                value, error = yield self.loads.fetch, (self.call(key),), {}
                if error is not None:
                    raise error
                found[key] = value
            return
        watched = watch(self.l1)
        sequence = self.book.sequence
        leases: dict[Any, bytes] = {}
        held: set[Any] = set()
        healthy = False
        places = {key: self.place(key) for key in keys}
        try:
            asked = [key for key in keys if self.may_ask(places[key][1])]
            token = os.urandom(16)
            if asked:
                try:
                    yield from self.loads.know_tags()
                    sequence = self.book.sequence
                    got = yield from ask(
                        self.send,
                        self.space.lease([places[key][1] for key in asked], token, self.options.lease),
                    )
                    healthy = True
                    for key, lease in zip(asked, got, strict=True):
                        if lease.held:
                            held.add(key)
                        else:
                            leases[key] = lease.token
                except StoreError as error:
                    self.failed(error)
            began = time.monotonic()
            loaded, error = yield self.load_many, (list(keys),), {}
            cost = time.monotonic() - began
            self.counts.add("loads")
            self.add_load_time(cost)
            if error is not None:
                self.counts.add("load_failures")
                names = [places[key][1] for key, held_by in leases.items() if held_by == token]
                if names:
                    try:
                        yield from ask(self.send, self.space.give_up(names, token))
                    except StoreError as failure:
                        self.failed(failure)
                raise error
            values = {key: loaded.get(key, MISSING) for key in keys}
            fills, landing = [], []
            extra = max(self.options.stale, self.options.grace)
            for key, value in values.items():
                found[key] = value
                missing = value is MISSING
                ttl = self.values.shortened(self.options.missing_ttl if missing else self.options.ttl)
                more = 0.0 if missing or ttl is None else extra
                if key in leases and ttl != 0:
                    data = self.values.pack(
                        places[key][0], value, ttl=ttl, extra=more, sequence=sequence, cost=cost / len(keys)
                    )
                    if data is not None:
                        total = None if ttl is None else ttl + more
                        fills.append((key, Fill(places[key][1], leases[key], data, total)))
                landing.append((key, value, ttl, more))
            refused: set[Any] = set(held)
            if fills:
                try:
                    done = yield from ask(self.send, self.space.fill([fill for _, fill in fills]))
                    refused.update(key for (key, _), ok in zip(fills, done, strict=True) if not ok)
                    self.counts.add("fills", sum(done))
                    self.counts.add("refused", len(done) - sum(done))
                except StoreError as error:
                    self.failed(error)
                    healthy = False
            deaf = self.space is not None and not healthy
            self.values.land_many(
                watched,
                [
                    Landing(places[key][1], key, value, self.values.l1_ttl(ttl, deaf=deaf)[0], more, ())
                    for key, value, ttl, more in landing
                    if key not in refused and ttl != 0
                ],
            )
        finally:
            unwatch(self.l1)

    # ---- writing -----------------------------------------------------------------------------------

    def pending_write(self, key: Any) -> Any:
        """What the writer has not written yet for a key (MISSING: it deletes it); `...`: nothing."""
        return ...

    def invalidate(self, keys: Sequence[Any]) -> Calls:
        """Whether everyone was told; False: L2 could not be reached, it will be."""
        targets = [self.target(key) for key in keys]
        for key in keys:
            self.l1.delete(key)
        told = True
        if self.space is not None:
            told = yield from self._tell(targets)
        elif self.backplane is not None:
            yield from self._publish(targets)
        # what was read from L2 between the two is as old
        for key in keys:
            self.l1.delete(key)
        self.counts.add("sent", len(keys))
        for watcher in self.watchers:
            for key in keys:
                watcher(key)
        return told

    def _tell(self, targets: list[Target]) -> Calls:
        link = self.link
        assert link is not None
        link.start()
        link.remember(targets)
        failure: StoreError | None = None
        if self.gate.asks():
            try:
                yield from ask(self.send, self.space.invalidate(targets))
                self.gate.succeeded()
                return True
            except StoreError as error:
                self.failed(error)
                failure = error
        link.postpone(targets)
        if self.level == "strong":
            raise failure or StoreError(self.gate._where, "other", "it is left out after failures")
        self.complain("pending", "an invalidation has not reached L2, it will be sent again: %s", failure)
        return False

    def _publish(self, targets: list[Target]) -> Calls:
        assert self.backplane is not None
        _, error = yield self.run_blocking, (self.backplane.publish, self.namespace or "", self.origin, targets), {}
        if error is not None:
            if not isinstance(error, StoreError):
                raise error
            self.counts.add(f"error:{error.kind}")
            self.complain("backplane", "others could not be told: %s", error)

    run_blocking: Callable[..., Any]

    def set_many(self, items: Mapping[Any, Any], ttl: Any, tags: Iterable[Any]) -> Calls:
        """The keys that failed: L2 did not take them, so that nobody has them but the source."""
        given = tags_given(tags)
        lives = self.options.ttl if ttl is ... else seconds("ttl", ttl)
        if lives == 0:
            yield from self.invalidate(list(items))
            return []
        targets = {key: self.target(key) for key in items}
        for key in items:
            self.l1.delete(key)
        watched = watch(self.l1)
        stored = dict.fromkeys(items, True)
        try:
            life = self.values.shortened(lives)
            extra = 0.0 if life is None else max(self.options.stale, self.options.grace)
            sequence = self.book.sequence
            if self.space is not None:
                yield from self.loads.ready()
                try:
                    yield from self.loads.know_tags()
                except StoreError as error:
                    self.failed(error)
                sequence = self.book.sequence
                yield from self._put(items, targets, stored, life, extra, given, sequence)
            elif self.backplane is not None:
                yield from self._publish(list(targets.values()))
            short, _ = self.values.l1_ttl(life)
            for key, value in items.items():
                landing = [Landing(targets[key].name, key, value, short, extra, given)]
                if not (stored[key] and self.values.land_many(watched, landing)):
                    self.l1.delete(key)
        finally:
            unwatch(self.l1)
        return [key for key, ok in stored.items() if not ok]

    def _put(
        self,
        items: Mapping[Any, Any],
        targets: dict[Any, Target],
        stored: dict[Any, bool],
        ttl: float | None,
        extra: float,
        tags: tuple[Any, ...],
        sequence: int,
    ) -> Calls:
        link = self.link
        assert link is not None
        fills, order, gone = [], [], []
        for key, value in items.items():
            data = self.values.pack(
                encode(key), value, ttl=ttl, extra=extra, tags=tags, sequence=sequence
            )
            if data is None:
                gone.append(targets[key])
            else:
                total = None if ttl is None else ttl + extra
                fills.append(Fill(targets[key].name, b"", data, total))
                order.append(key)
        link.remember(list(targets.values()))
        if gone:  # they live in L1 alone, but what others have is old
            yield from self._tell(gone)
        if not fills:
            return
        error: StoreError | None = None
        if self.gate.asks() and not any(self.bypasses(targets[key].name) for key in order):
            try:
                done = yield from ask(
                    self.send, self.space.put(fills, [targets[key] for key in order])
                )
                self.gate.succeeded()
                failed = [key for key, ok in zip(order, done, strict=True) if not ok]
                self.counts.add("fills", len(order) - len(failed))
                self.counts.add("sent", len(order))
                for key in failed:
                    stored[key] = False
                if failed:
                    yield from self._tell([targets[key] for key in failed])
                return
            except StoreError as raised:
                error = raised
                self.failed(raised)
        link.postpone([targets[key] for key in order])
        for key in order:
            stored[key] = False
        if self.level == "strong" and error is not None:
            raise error

    def add(self, key: Any, value: Any, ttl: Any, tags: Iterable[Any]) -> Calls:
        """Whether it was absent, in every tier, and is there now."""
        given = tags_given(tags)
        lives = self.values.shortened(self.options.ttl if ttl is ... else seconds("ttl", ttl))
        encoded, name = self.place(key)
        if self.space is None:
            if self.l1.peek(key, MISSING) is MISSING:
                self.l1.delete(key)
            short, _ = self.values.l1_ttl(lives)
            return self.l1.add(key, value, ttl=short, tags=given)
        yield from self.loads.ready()
        yield from self.loads.know_tags()
        found = yield from self.loads.read(name, encoded)
        if found is not None and not found.missing:
            return False
        extra = 0.0 if lives is None else max(self.options.stale, self.options.grace)
        token = os.urandom(16)
        sequence = self.book.sequence
        watched = watch(self.l1)
        try:
            self.l1.delete(key)
            (lease,) = yield from ask(self.send, self.space.lease([name], token, self.options.lease))
            if lease.held or (lease.found is not None):
                return False
            data = self.values.pack(encoded, value, ttl=lives, extra=extra, tags=given, sequence=sequence)
            if data is None:
                raise TypeError(f"add: {value!r} cannot be stored in L2 and come back as it is")
            total = None if lives is None else lives + extra
            (filled,) = yield from ask(
                self.send, self.space.fill([Fill(name, lease.token, data, total)])
            )
        finally:
            unwatch(self.l1)
        del watched
        return bool(filled)

    def touch(self, key: Any, ttl: Any) -> Calls:
        """Whether it is there, and has the new ttl."""
        lives = self.options.ttl if ttl is ... else seconds("ttl", ttl)
        if lives == 0:
            there = key in self.l1
            yield from self.invalidate([key])
            return there
        if self.space is None:
            return self.l1.touch(key, ttl=self.values.l1_ttl(lives)[0])
        encoded, name = self.place(key)
        found = yield from ask(self.send, self.space.read(name))
        opened = None if found is None else self.values.open(found, encoded)
        if opened is None or opened.missing:
            return False
        extra = max(self.options.stale, self.options.grace)
        total = None if lives is None else lives + extra
        stamp = found[0] if opened.counter else opened.stamp
        done = yield from ask(self.send, self.space.touch(self.target(key), stamp, total))
        if done:
            self.l1.delete(key)  # it is read again, with its new ttl
        return bool(done)

    def incr(self, key: Any, delta: int, initial: int, ttl: Any) -> Calls:
        for option, given in (("delta", delta), ("initial", initial)):
            if isinstance(given, bool) or not isinstance(given, int):
                raise TypeError(f"{option} must be an int, got {given!r}")
        if self.space is None:
            return self.l1.incr(key, delta, initial)
        lives = self.options.ttl if ttl is ... else seconds("ttl", ttl)
        target = self.target(key)
        self.l1.delete(key)
        number = yield from ask(self.send, self.space.incr(target, delta, initial, lives))
        self.l1.delete(key)
        return number

    # ---- tags, versions --------------------------------------------------------------------------

    def invalidate_tags(self, tags: Sequence[Any]) -> Calls:
        tags = tags_given(tags)
        self._forget_own(tags)
        if self.space is not None:
            number = yield from ask(self.send, self.space.invalidate_tags([_tag(tag) for tag in tags]))
            self.book.heard([_tag(tag) for tag in tags], number)
            self._forget_own(tags)
        self.counts.add("sent", len(tags))

    def bump_version(self) -> Calls:
        self.forget_tags([ROOT])
        if self.space is not None:
            number = yield from ask(self.send, self.space.invalidate_tags([ROOT]))
            self.book.heard([ROOT], number)
            self.forget_tags([ROOT])
        self.counts.add("sent")

    def _forget_own(self, tags: Sequence[Any]) -> None:
        if tags:
            self.l1.invalidate_tag(*tags)

    # ---- stats -------------------------------------------------------------------------------------

    def state(self) -> str:
        link = self.link
        if link is None or self.closed:
            return "healthy"
        deaf = self.is_deaf() and link.tried.is_set()
        if not (deaf or self.gate.open or link.pending or link.pending_all):
            return "healthy"
        since = min(link.lost_at if deaf else float("inf"), self.gate.opened_at if self.gate.open else float("inf"))
        return "down" if time.monotonic() - since > self.options.max_staleness else "degraded"

    def stats(self, reset: bool) -> TieredStats:
        n = self.counts.take(reset)
        link = self.link
        left = self.trust.left
        with self._lock:
            load_time = self._load_time
            if reset:
                self._load_time = 0.0
        return TieredStats(
            state=self.state(),
            l1=self.l1.stats(reset=reset),
            l2=L2Stats(
                n["l2_hits"], n["l2_misses"], n["fills"], n["refused"], n["unstorable"], n["skipped"],
                under(n, "error:"), under(n, "undecodable:"),
            ),
            trust=None if left == float("inf") else left,
            loads=n["loads"],
            load_failures=n["load_failures"],
            load_time=load_time,
            lease_waits=n["lease_waits"],
            stale=n["stale"],
            sent=n["sent"],
            received=n["received"],
            lost=n["lost"],
            dropped=n["dropped"],
            pending=0 if link is None else len(link.pending),
            writes=n["writes"],
            events=n["events"],
            event_failures=n["event_failures"],
        )  # fmt: skip


def _tag(tag: Any) -> bytes:
    return encode(tag)


def _no_method(*_: object) -> None:
    """No function was decorated."""


def _nothing(_: Any) -> Any:
    raise RuntimeError("there is no L2")


def loader_of(loader: Any, asynchronous: bool) -> Callable[..., Any]:
    """What loads one key: the function given, or the `load` of an object; TypeError for others."""
    if loader is None:
        return no_loader
    load = getattr(loader, "load", None) or loader
    if not callable(load):
        raise TypeError(f"loader must be callable, or have a method load(key), got {loader!r}")
    from fastcache.loading.options import is_async

    if is_async(load) and not asynchronous:
        raise TypeError(f"loader must not be async for a TieredCache, got {loader!r}: use AsyncTieredCache")
    if not is_async(load) and asynchronous:
        raise TypeError(f"loader must be async for an AsyncTieredCache, got {loader!r}")
    return load  # type: ignore[no-any-return]


def checked_namespace(namespace: Any, needed: bool) -> str | None:
    if namespace is None:
        if needed:
            raise ValueError(
                "namespace is needed where there is an L2 or a backplane: it tells the entries of "
                "this cache from those of others"
            )
        return None
    check_namespace(namespace)
    return str(namespace)
