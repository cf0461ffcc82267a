"""TieredCache and AsyncTieredCache: the two faces of one logic."""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastcache._core import Cache, TierFront
from fastcache._redact import shown
from fastcache._types import MISSING
from fastcache.loading.options import check_callback, is_async
from fastcache.loading.rules import check_timeout, seconds
from fastcache.stores.protocol import Backplane, Store
from fastcache.tiered.core import Core, checked_namespace
from fastcache.tiered.drivers import acarry, carry
from fastcache.tiered.events import Events
from fastcache.tiered.options import TierOptions
from fastcache.tiered.updating import AsyncUpdating, Updating
from fastcache.tiered.values import ABSENT, distinct_keys, mapping_given, tags_given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Unpack

    from fastcache.loading.loader import Call
    from fastcache.tiered.options import TierKeywords
    from fastcache.tiered.stats import TieredStats

K = TypeVar("K")
V = TypeVar("V")

#: id of an L1 -> (the L1, whose tiered cache it is), both weakly
_owners: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}
_owning = threading.RLock()


def _own(l1: Cache[Any, Any], face: Any) -> None:
    """An L1 belongs to one tiered cache, for as long as that lives."""
    with _owning:
        for number, (cache, _) in list(_owners.items()):
            if cache() is None:
                del _owners[number]
        held = _owners.get(id(l1))
        owner = None if held is None or held[0]() is not l1 else held[1]()
        if owner is not None and not owner._core.closed:
            raise ValueError("l1 belongs to another tiered cache already; each needs its own")
        _owners[id(l1)] = weakref.ref(l1), weakref.ref(face)


class _Face(TierFront, Generic[K, V]):
    """What both faces share."""

    _asynchronous = False

    def __init__(
        self,
        l1: Cache[Any, Any],
        l2: Store | None = None,
        *,
        namespace: str | None = None,
        serializer: Any = None,
        loader: Any = None,
        writer: Any = None,
        backplane: Backplane | str | None = "auto",
        compress_above: int | None = 16_384,
        **options: Unpack[TierKeywords],
    ) -> None:
        if not isinstance(l1, Cache):
            raise TypeError(f"l1 must be a Cache, got {shown(l1)}")
        if l2 is not None and not isinstance(l2, Store):
            raise TypeError(f"l2 must be a store (fastcache.stores), got {shown(l2)}")
        checked = TierOptions.of(type(self).__name__, options)
        if isinstance(backplane, str):
            if backplane != "auto":
                raise ValueError(
                    f'backplane must be a backplane, None or "auto", got {shown(backplane)}'
                )
            plane = None if l2 is None or checked.level == "eventual" else l2.backplane()
        elif backplane is None or isinstance(backplane, Backplane):
            plane = backplane
        else:
            raise TypeError(f'backplane must be a backplane, None or "auto", got {backplane!r}')
        space = checked_namespace(namespace, l2 is not None or plane is not None)
        if checked.level == "strong" and l2 is None:
            raise ValueError("level='strong' asks L2 at each read, and there is none")
        self._open(l1, MISSING)
        self._core = Core(
            l1, self._trust, l2, checked,
            namespace=space,
            serializer=serializer,
            compress_above=compress_above,
            loader=loader,
            writer=writer,
            backplane=plane,
            asynchronous=self._asynchronous,
        )  # fmt: skip
        self._events = Events(self._core)
        _own(l1, self)  # at the end: whom an option was wrong of owns nothing

    @property
    def namespace(self) -> str | None:
        return self._core.namespace

    @property
    def level(self) -> str:
        """ "eventual", "bounded" or "strong"."""
        return self._core.level

    @property
    def l2(self) -> Store | None:
        return self._core.store

    def _due(self, key: Any, value: Any) -> None:
        """A hit that is close to its end: renew it behind the caller's back."""
        call = self._core.call(key)
        if self._core.has_loader:
            self._core.loads.due_call(call)

    def on_invalidate(self, callback: Callable[[Any], object]) -> Callable[[Any], object]:
        """Call back with each key that this process has invalidated, once that is done (StalenessProbe does). What it
        raises is logged, and counted."""
        check_callback("callback", callback)
        self._core.watchers.append(callback)
        return callback

    def peek_l1(self, key: Any, default: Any = None) -> Any:
        """What L1 has; MISSING where it knows that the source has nothing. Changes and counts nothing."""
        return self._core.l1.peek(key, default)

    def peek_l2(self, key: Any, default: Any = None) -> Any:
        """What L2 has, likewise; blocks. StoreError: it does not answer."""
        return self._core.reads.peek_l2(key, default)

    def stats(self, reset: bool = False) -> TieredStats:
        """Counts per tier, and the state; all from 0 again with reset. O(1)."""
        return self._core.stats(reset)

    def invalidate_on(
        self, event: str, keys_of: Callable[..., Iterable[Any]]
    ) -> Callable[..., Iterable[Any]]:
        """Whenever `event` is published, by whichever process, drop what keys_of(**payload) names: keys, and Tag(name)
        for tags. Returns keys_of, so that it may be used as a decorator's inner call."""
        self._events.on(event, keys_of)
        return keys_of

    def _get_or_set(
        self, key: Any, factory: Callable[[], Any], ttl: Any, tags: Any
    ) -> tuple[Call, bool, list[None]]:
        """The call, whether what is there is of no use, and what is not empty once the factory was called."""
        if not callable(factory):
            raise TypeError(f"factory must be callable, got {factory!r}")
        if not self._asynchronous and is_async(factory):
            raise TypeError(
                f"factory must not be async for a TieredCache, got {factory!r}: use AsyncTieredCache"
            )
        made: list[None] = []

        def make() -> Any:
            made.append(None)
            result = factory()
            if self._asynchronous and not inspect.isawaitable(result):
                raise TypeError(
                    f"factory must be async for an AsyncTieredCache, got {factory!r}, which returned {result!r}"
                )
            return result

        call = self._core.call(
            key,
            make,
            ttl=ttl if ttl is ... else seconds("ttl", ttl),
            tags=None if tags is None else tags_given(tags),
        )
        # known not to exist: it is made now, whatever is there
        again = self._core.l1.peek(key, ABSENT) is MISSING or self._core.level == "strong"
        return call, again, made

    def __repr__(self) -> str:
        core = self._core
        l2 = "" if core.store is None else f", {core.store!r}"
        named = "" if core.namespace is None else f", namespace={core.namespace!r}"
        return f"{type(self).__name__}({core.l1!r}{l2}{named})"


class TieredCache(_Face[K, V]):
    """A cache in two tiers: live objects in this process (L1), over a store that all processes share (L2).

        t = TieredCache(Cache(10_000), RedisStore("redis://127.0.0.1:6379/0"), namespace="shop",
                        loader=load_user, ttl=300)
        t.get("user:42")            # L1, then L2, then load_user("user:42")
        t.invalidate("user:42")     # after the source has changed: no process serves the old value

    l1: a Cache of its own. l2: a store, or None. namespace: what tells its entries from others' in L2; letters,
    digits and `_.:-`, needed where there is an L2 or a backplane. version: of the values' form, an int;
    values of another version are a miss, but are invalidated all the same. serializer: for L2, see
    fastcache.serializers; msgpack by default. loader: loader(key) -> value, or MISSING for what does not
    exist; with a method load_many(keys) -> mapping, bulk reads use that. writer: see fastcache.writing.
    backplane: how processes tell each other what changed; "auto": the store's own. compress_above: bytes.

    Durations in seconds (or timedelta), None for ever:
      ttl: how long values live. l1_ttl: at most in L1. missing_ttl (5): of what does not exist. jitter: a part by which
      ttls are shortened at random.
      stale, grace, refresh, early, soft_timeout, hard_timeout, wait_timeout: as in `cached`.
      lease (5): for which one process has the right to load a key, so more than a load takes; the others wait, once.
      max_staleness (60): how long L1 serves what it holds after invalidations were last heard. degraded_ttl (2): how
      long it keeps what is loaded then. max_loads (64): loads at a time while L2 is out.
    level: "bounded" (default): the others' invalidations take effect at once, after lost messages within some 3
    seconds; "eventual": after the ttl, at most 5 seconds; "strong": each read asks L2.

    Safe from any thread. A hit in L1 runs no Python code. Raises TypeError or ValueError that name the option.
    An L2 that fails is no error for readers: the loader is asked instead.
    """

    # ---- reading -----------------------------------------------------------------------------------

    def _missed(self, key: Any, default: Any) -> Any:
        value = self._core.loads.fetch(self._core.call(key))
        return default if value is MISSING else value

    def _untrusted(self, key: Any, default: Any) -> Any:
        core = self._core
        value = core.held(key)
        if value is ABSENT:
            value = core.loads.fetch(core.call(key), core.again(key))
        return default if value is MISSING else value

    def _get_tagged(self, key: Any, default: Any, tags: tuple[Any, ...]) -> Any:
        """get, of a key whose value has tags if the loader brings it."""
        core = self._core
        value = self._look(key, ABSENT)
        if value is ABSENT and not self._trust:
            value = core.held(key)
        if value is ABSENT:
            value = core.loads.fetch(core.call(key, tags=tags), core.again(key))
        return default if value is MISSING else value

    def get_or_set(
        self, key: K, factory: Callable[[], V], *, ttl: Any = ..., tags: Iterable[Any] | None = None
    ) -> V:
        """The value of key; if no tier has it factory() makes it, once at a time over all processes."""
        value = self._look(key, ABSENT)
        if value is ABSENT or value is MISSING:
            value = self._core.held(key) if not self._trust else ABSENT
        if value is ABSENT or value is MISSING:
            call, again, made = self._get_or_set(key, factory, ttl, tags)
            value = self._core.loads.fetch(call, again)
            while value is MISSING and not made:  # from somebody else's load
                value = self._core.loads.fetch(call, True)
        result: V = value
        return result

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those keys that exist; at most one round trip to L2 and one bulk load."""
        return carry(self._core.reads.get_many(keys))

    def warm(self, keys: Iterable[K]) -> int:
        """Bring keys into L1; how many there are."""
        return len(self.get_many(keys))

    # ---- writing -----------------------------------------------------------------------------------

    def set(self, key: K, value: V, *, ttl: Any = ..., tags: Iterable[Any] = ()) -> None:
        """Store in all tiers, and tell everyone. With a writer, after the source has it."""
        usually = self._core.usual_set
        if usually is not None and ttl is ... and tags == ():
            return usually(key, value)
        carry(self._core.writes.set_many({key: value}, ttl, tags))

    def set_many(
        self, mapping: Mapping[K, V], *, ttl: Any = ..., tags: Iterable[Any] = ()
    ) -> list[K]:
        """set() for each pair, not atomically; the keys that L2 did not take (they are invalid everywhere)."""
        return carry(self._core.writes.set_many(mapping_given(mapping), ttl, tags))

    def add(self, key: K, value: V, *, ttl: Any = ..., tags: Iterable[Any] = ()) -> bool:
        """Store only if no tier has the key; whether it did. StoreError: L2 could not be asked."""
        return carry(self._core.writes.add(key, value, ttl, tags))

    def touch(self, key: K, ttl: Any = ...) -> bool:
        """Give the key a new ttl; whether it is there. StoreError: L2 could not be asked."""
        return carry(self._core.writes.touch(key, ttl))

    def incr(self, key: K, delta: int = 1, initial: int = 0, *, ttl: Any = ...) -> int | None:
        """Add to a counter, which lives in L2 as a plain number; absent gives initial + delta. With a writer it lives
        in the source; then None, if neither writer nor loader tell what it has. StoreError: it is not known
        whether L2 did."""
        return carry(self._core.writes.incr(key, delta, initial, ttl))

    def invalidate(self, key: K) -> bool:
        """The source has changed: no process serves the older value any more. False: L2 could not be reached,
        and will be told as soon as it can (StoreError at level "strong"); until then this process keeps
        clear of it."""
        return carry(self._core.writes.invalidate([key]))

    def invalidate_many(self, keys: Iterable[K]) -> bool:
        """invalidate() for each of them, in one round trip."""
        return carry(self._core.writes.invalidate(distinct_keys(keys)))

    def delete(self, key: K) -> bool:
        """Delete from the source too, where there is a writer; else the same as invalidate."""
        return carry(self._core.writes.delete([key]))

    def delete_many(self, keys: Iterable[K]) -> bool:
        """delete() for each of them."""
        return carry(self._core.writes.delete(distinct_keys(keys)))

    def invalidate_tag(self, *tags: Any) -> None:
        """All entries with one of these tags, in every process. O(tags). StoreError: L2 was not reached."""
        carry(self._core.writes.invalidate_tags(tags))

    def bump_version(self) -> None:
        """Everything in this name space, in every process. O(1) in L2. StoreError: L2 was not reached."""
        carry(self._core.writes.bump_version())

    def updating(self, *keys: K, hold: float = 5.0, release: bool = True) -> Updating:
        """`with t.updating(key): ...` around a transaction: nobody fills these keys meanwhile, and they are
        invalidated at both ends; after a crash in between they cannot be filled for `hold` seconds.
        release=False: nor after its end, for loaders that read replicas that lag."""
        return Updating(self._core, keys, hold, release)

    def publish(self, event: str, **payload: Any) -> None:
        """Tell every process: what `invalidate_on` says of this event is invalidated."""
        carry(self._events.publish(event, payload))

    # ---- the end -----------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the writer has written everything; whether it has."""
        check_timeout(timeout)
        source = self._core.source
        return True if source is None else bool(source.writer.flush(timeout))

    def close(self, timeout: float | None = 10.0) -> None:
        """Flush the writer, and stop listening. The store stays open: others may use it."""
        check_timeout(timeout)
        self._core.close(timeout)

    def __enter__(self) -> TieredCache[K, V]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncTieredCache(_Face[K, V]):
    """TieredCache for asyncio: the same options, with an async loader, and calls that are awaited. One may be used from
    several event loops at once."""

    _asynchronous = True

    async def get(self, key: K, default: Any = None, /) -> Any:
        """The value of key, from L1, L2 or the loader; default where it does not exist."""
        value = self._look(key, ABSENT)
        if value is ABSENT:
            return await self._get_further(key, default, None)
        return default if value is MISSING else value

    async def _get_tagged(self, key: Any, default: Any, tags: tuple[Any, ...]) -> Any:
        """get, of a key whose value has tags if the loader brings it."""
        value = self._look(key, ABSENT)
        if value is ABSENT:
            return await self._get_further(key, default, tags)
        return default if value is MISSING else value

    async def _get_further(self, key: Any, default: Any, tags: tuple[Any, ...] | None) -> Any:
        core = self._core
        value = ABSENT if self._trust else await core.aheld(key)
        if value is ABSENT:
            value = await core.loads.fetch(core.call(key, tags=tags), core.again(key))
        return default if value is MISSING else value

    async def get_or_set(
        self,
        key: K,
        factory: Callable[[], Any],
        *,
        ttl: Any = ...,
        tags: Iterable[Any] | None = None,
    ) -> V:
        """The value of key; if no tier has it await factory() makes it, once at a time over all processes."""
        value = self._look(key, ABSENT)
        if value is ABSENT or value is MISSING:
            value = await self._core.aheld(key) if not self._trust else ABSENT
        if value is ABSENT or value is MISSING:
            call, again, made = self._get_or_set(key, factory, ttl, tags)
            value = await self._core.loads.fetch(call, again)
            while value is MISSING and not made:  # from somebody else's load
                value = await self._core.loads.fetch(call, True)
        result: V = value
        return result

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """See TieredCache."""
        return await acarry(self._core.reads.get_many(keys))

    async def warm(self, keys: Iterable[K]) -> int:
        """See TieredCache."""
        return len(await self.get_many(keys))

    async def set(self, key: K, value: V, *, ttl: Any = ..., tags: Iterable[Any] = ()) -> None:
        """See TieredCache."""
        await acarry(self._core.writes.set_many({key: value}, ttl, tags))

    async def set_many(
        self, mapping: Mapping[K, V], *, ttl: Any = ..., tags: Iterable[Any] = ()
    ) -> list[K]:
        """See TieredCache."""
        return await acarry(self._core.writes.set_many(mapping_given(mapping), ttl, tags))

    async def add(self, key: K, value: V, *, ttl: Any = ..., tags: Iterable[Any] = ()) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.add(key, value, ttl, tags))

    async def touch(self, key: K, ttl: Any = ...) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.touch(key, ttl))

    async def incr(self, key: K, delta: int = 1, initial: int = 0, *, ttl: Any = ...) -> int | None:
        """See TieredCache."""
        return await acarry(self._core.writes.incr(key, delta, initial, ttl))

    async def invalidate(self, key: K) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.invalidate([key]))

    async def invalidate_many(self, keys: Iterable[K]) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.invalidate(distinct_keys(keys)))

    async def delete(self, key: K) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.delete([key]))

    async def delete_many(self, keys: Iterable[K]) -> bool:
        """See TieredCache."""
        return await acarry(self._core.writes.delete(distinct_keys(keys)))

    async def invalidate_tag(self, *tags: Any) -> None:
        """See TieredCache."""
        await acarry(self._core.writes.invalidate_tags(tags))

    async def bump_version(self) -> None:
        """See TieredCache."""
        await acarry(self._core.writes.bump_version())

    def updating(self, *keys: K, hold: float = 5.0, release: bool = True) -> AsyncUpdating:
        """`async with`; see TieredCache."""
        return AsyncUpdating(self._core, keys, hold, release)

    async def publish(self, event: str, **payload: Any) -> None:
        """See TieredCache."""
        await acarry(self._events.publish(event, payload))

    async def flush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as TieredCache
        """See TieredCache."""
        check_timeout(timeout)
        source = self._core.source
        return True if source is None else bool(await source.writer.aflush(timeout))

    async def close(self, timeout: float | None = 10.0) -> None:  # noqa: ASYNC109 - as TieredCache
        """See TieredCache."""
        check_timeout(timeout)
        await asyncio.to_thread(self._core.close, timeout)

    async def __aenter__(self) -> AsyncTieredCache[K, V]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
