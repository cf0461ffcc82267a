"""What a tiered cache does, written once as calls to carry out, for threads and for tasks."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from fastcache._core import _ABSENT, _KEYWORDS, Cache, Places, fence_loads, forget_under
from fastcache._keys import check_namespace, decode, digest, register_kind
from fastcache._keys import place as place_of
from fastcache.loading.loader import Call
from fastcache.stores.protocol import BUCKETS, Store, StoreError, Target, bucket_of
from fastcache.tiered.book import FUNCTION, ROOT, UNHEARD, TagBook
from fastcache.tiered.coherence import Coherence, uptime
from fastcache.tiered.gate import Cap, Gate
from fastcache.tiered.index import Index
from fastcache.tiered.loaders import limited, load_many_of, loader_of, no_loader
from fastcache.tiered.loads import loads_of
from fastcache.tiered.options import TierOptions, default_rules
from fastcache.tiered.past import Past
from fastcache.tiered.quick import usual_set
from fastcache.tiered.reads import Reads
from fastcache.tiered.stats import Counts, L2Stats, TieredStats, under
from fastcache.tiered.teller import teller_of
from fastcache.tiered.values import ABSENT, Values
from fastcache.tiered.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastcache._core import Trust
    from fastcache.stores.protocol import Backplane
    from fastcache.tiered.source import Source

log = logging.getLogger("fastcache")

# what stands between the arguments of a call in its key
register_kind(type(_KEYWORDS), 0, lambda mark: (), lambda: _KEYWORDS)
register_kind(type(_ABSENT), 1, lambda mark: (), lambda: _ABSENT)

#: Bytes of a key's encoding that a message carries; of longer ones it names the bucket.
LONGEST = 512
#: Seconds between two warnings about the same kind of thing.
QUIET = 60.0

_places = Places(place_of, digest)

_all: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Core:
    """One tiered cache, whichever face it has. Safe from any thread and event loop."""

    #: A key's canonical encoding and its name in L2. TypeError, ValueError: it can have none.
    place = staticmethod(_places.of)

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
        self._state = "healthy"
        self._lock = threading.RLock()
        where = "L2" if store is None else store.where
        self.gate = Gate(where)
        self.cap = Cap(options.max_loads)
        self.trip = 0.5 if store is None else store.trip
        self.space: Any = None
        if store is not None:
            assert namespace is not None
            self.space = store.space(namespace, self.origin)
        self.send: Callable[[Any], Any] = _nothing
        if store is not None:
            self.send = store.asend if asynchronous else store.send
        # weakly: the thread holds the link, and the link the book, while it waits for messages
        heard = weakref.WeakMethod(self._is_heard)
        self.book = TagBook(
            lambda: (method := heard()) is not None and method(),
            0.0 if options.level == "strong" else UNHEARD,
        )
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
        self.tracks = bool(getattr(backplane, "tracking", False))
        #: the others' changes are seen in shared memory
        self.shares_memory = self.space is not None and self.space.shares_memory
        self.hears = store is not None or backplane is not None
        self.level = options.level or ("bounded" if self.hears else "eventual")
        self.teller = teller_of(self, backplane, asynchronous)
        self.link: Coherence | None = None
        if store is None and backplane is None:
            trust.forever()
        else:
            self.link = Coherence(self, backplane)
        if self.level == "eventual":
            trust.forever()
        self.asynchronous = asynchronous
        self.loader = loader_of(loader, asynchronous)
        self.load_many = limited(
            load_many_of(loader, asynchronous), options.hard_timeout, self.name, asynchronous
        )
        self.past = Past(self)
        self.source: Source | None = None
        if writer is not None:
            from fastcache.tiered.source import Source

            self.source = Source(self, writer)
        self.loads = loads_of(asynchronous)(
            self.loader, default_rules(options, self.name),
            reload=None,
            soft_timeout=options.soft_timeout,
            hard_timeout=options.hard_timeout,
            wait_timeout=options.wait_timeout,
            name_method=_no_method,
        )  # fmt: skip
        self.loads.set_core(self)
        self.reads = Reads(self)
        self.writes = Writes(self)
        self.usual_set = None if self.source is None else usual_set(self)
        self.watchers: list[Callable[[Any], object]] = []
        self.closed = False
        _all.add(self)
        if self.source is not None:
            self.source.listen()  # now that all is there which it may have to be told to

    def forked(self) -> None:
        """In a child: whoever held a lock, or a place among the loads, in the parent is not here."""
        self._lock = threading.RLock()
        self.counts.forked()
        self.book.forked()
        self.gate.forked()
        self.index.forked()
        if self.source is not None:
            self.source.forked()
        self.cap = Cap(self.options.max_loads)

    def renew_origin(self) -> None:
        """In a forked child: from now on it says of itself what only it says."""
        self.origin = os.urandom(8)
        if self.store is not None:
            self.space = self.store.space(self.namespace or "", self.origin)
        self.teller = teller_of(self, self.backplane, self.asynchronous)

    @property
    def has_loader(self) -> bool:
        return self.loader is not no_loader

    def close(self, timeout: float | None) -> None:
        """Flush and stop listening. Once."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        try:
            if self.source is not None:
                self.source.writer.close(timeout)
        finally:
            if self.link is not None:
                self.link.stop()

    # ---- keys ------------------------------------------------------------------------------------

    def askable(self, keys: list[Any]) -> tuple[list[Any], list[bytes], list[str], list[str]]:
        """Those keys of which L2 is to be asked now, with their encodings, names, and what the space calls them.
        TypeError, ValueError."""
        if self.space is None:
            return [], [], [], []
        encodings, names, words = _places.of_many(keys, self.space.words)
        link = self.link
        clear = link is None or not (link.arrears.pending or link.arrears.pending_all)
        if clear and self.gate.asks():
            return keys, encodings, names, words
        some = [i for i, name in enumerate(names) if self.may_ask(name)]
        every = (keys, encodings, names, words)
        return tuple([each[i] for i in some] for each in every)  # type: ignore[return-value]

    @property
    def blocking(self) -> dict[Any, Any]:
        """Calls that are awaited -> those that block."""
        stores = {self.store, None if self.teller is None else self.teller.store} - {None}
        sends = {store.asend: store.send for store in stores if store is not None}
        return {**sends, self.alook: self.look}

    def target(self, key: Any) -> Target:
        encoded, name = self.place(key)
        version = 0 if self.source is None else self.source.version
        return Target(name, encoded if len(encoded) <= LONGEST else None, version)

    # ---- what it hears -----------------------------------------------------------------------------

    def _is_heard(self) -> bool:
        return self.hears and self.level == "bounded" and bool(self.trust)

    def is_deaf(self) -> bool:
        """Whether nobody tells of changes though somebody should."""
        if not self.hears or self.level != "bounded":
            return False
        link = self.link
        if self.shares_memory and link is not None:
            return (
                link.blind
            )  # no trust means that something changed, which the next hit will look at
        return not self.trust

    def forget_key(self, key: Any, name: str) -> None:
        """Another process invalidated it."""
        self.l1.delete(key)

    def forget_tags(self, tags: Sequence[bytes]) -> None:
        """These, by their encodings, were invalidated."""
        if ROOT in tags:
            fence_loads(self.l1)
            self.l1.clear()
        given = []
        for tag in tags:
            if tag[:1] == FUNCTION:
                fence_loads(self.l1)
                forget_under(self.l1, tag[1:].decode())
            elif tag != ROOT:
                given.append(decode(tag))
        if given:
            self.l1.invalidate_tag(*given)

    def recheck(self, name: str | None) -> None:
        """Somebody who is not one of us changed this name in L2: what L1 has of it is read anew."""
        if name is None or len(name) < 33:
            self.link.missed(set(range(BUCKETS))) if self.link is not None else None
            return
        for key in self.index.of(bucket_of(name)):
            if self.place(key)[1] == name:
                self.l1.delete(key)

    def note_load(self, key: Any) -> bool:
        """Where a server tells which names have changed (client tracking), loads have to be found by theirs; the
        caller must tell the index when it is over. False: there is no need."""
        if not self.tracks:
            return False
        try:
            name = self.place(key)[1]
        except (TypeError, ValueError):
            return False  # the load will say what is wrong with it
        self.index.note(bucket_of(name), key)
        return True

    def bypasses(self, name: str) -> bool:
        """Whether L2 has not heard yet that this name was invalidated."""
        link = self.link
        return link is not None and (name in link.arrears.pending or link.arrears.pending_all)

    def may_ask(self, name: str) -> bool:
        """Whether L2 is to be asked for a name now."""
        if self.space is None:
            return False
        if self.bypasses(name) or not (self.gate.asks() or self._may_probe()):
            self.counts.add("skipped")
            return False
        return True

    def _may_probe(self) -> bool:
        """Whether the caller has to find out if L2 answers again, since no thread does."""
        link = self.link
        return (link is None or not link.probes) and self.gate.may_probe()

    def failed(self, error: StoreError) -> None:
        """L2 could not do what it was asked."""
        if error.kind != "full":  # it answers reads, and invalidations
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
            return Call(None, self.l1, key, self.loader, (key,), {}, tags=tags)
        return Call(None, self.l1, key, function, (), {}, ttl=ttl, tags=tags)

    def look(self, wait: bool = True) -> bool:
        """Where the changes of others are seen in shared memory: heed those that came. wait: for other threads and
        processes, but never for an L2 that is left out. False: it would have had to wait."""
        link = self.link
        if link is None or self.trust:
            return True
        link.start()
        if self.gate.due:
            if not wait:
                return False
            link.try_again()
        left_out = self.gate.open
        try:
            link.catch_up(wait and not left_out)
        except StoreError as error:
            if not (wait or left_out):
                return False
            link.blind = True
            if not left_out:
                self.failed(error)
        self.note_state()
        return True

    async def alook(self) -> None:
        """`look` where the event loop must not wait."""
        if self.store is None or self.look(wait=False):
            return
        try:
            await self.store.apart(self.look)
        except StoreError as error:
            if self.link is not None:
                self.link.blind = True
            self.failed(error)

    def held(self, key: Any) -> Any:
        """What L1 may serve though it is not trusted, counted as stale; else ABSENT."""
        if self.level == "strong":
            return ABSENT
        link = self.link
        if link is None:
            return ABSENT
        if self.shares_memory:
            if not self.look(wait=not self.asynchronous):
                return ABSENT
            if not link.blind:
                return self.l1.get(key, ABSENT)
        if not link.tried.is_set():
            return ABSENT
        link.start()
        if uptime() - link.heard_at > self.options.max_staleness:
            link.grow_stale()
        value = self.l1.get(key, ABSENT)
        if value is not ABSENT:
            self.counts.add("stale")
        return value

    async def aheld(self, key: Any) -> Any:
        """The same, where the event loop must not wait."""
        if self.shares_memory:
            await self.alook()
        return self.held(key)

    def again(self, key: Any) -> bool:
        """Whether a load is to begin though L1 has the key: what it has may not be served."""
        return self.level == "strong" or (
            not self.trust and self.l1.peek(key, ABSENT) is not ABSENT
        )

    # ---- stats -------------------------------------------------------------------------------------

    def note_state(self) -> None:
        """Log it if it has changed."""
        state = self.state()
        if state != self._state:
            was, self._state = self._state, state
            level = logging.INFO if state == "healthy" else logging.WARNING
            log.log(level, "%s is %s, it was %s", self.name, state, was)

    def state(self) -> str:
        link = self.link
        if link is None or self.closed:
            return "healthy"
        deaf = self.is_deaf() and link.tried.is_set()
        if not (deaf or self.gate.open or link.arrears.pending or link.arrears.pending_all):
            return "healthy"
        since = min(
            link.lost_at if deaf else float("inf"),
            self.gate.opened_at if self.gate.open else float("inf"),
        )
        return "down" if time.monotonic() - since > self.options.max_staleness else "degraded"

    def stats(self, reset: bool) -> TieredStats:
        n = self.counts.take(reset)
        link = self.link
        left = self.trust.left
        l1 = self.l1.stats(reset=reset)
        with self._lock:
            load_time = self._load_time
            if reset:
                self._load_time = 0.0
        return TieredStats(
            state=self.state(),
            l1=l1,
            l2=L2Stats(
                n["l2_hits"], n["l2_misses"], n["fills"], n["refused"], n["unstorable"], n["skipped"],
                under(n, "error:"), under(n, "undecodable:"),
            ),
            trust=None if left == float("inf") else left,
            loads=n["loads"],
            load_failures=n["load_failures"],
            load_time=load_time,
            lease_waits=n["lease_waits"],
            stale=n["stale"] + l1.stale_hits,
            sent=n["sent"],
            received=n["received"],
            lost=n["lost"],
            dropped=n["dropped"],
            pending=0 if link is None else len(link.arrears.pending),
            writes=n["writes"],
            events=n["events"],
            event_failures=n["event_failures"],
        )  # fmt: skip


def _no_method(*_: object) -> None:
    """No function was decorated."""


def _nothing(_: Any) -> Any:
    raise RuntimeError("there is no L2")


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
