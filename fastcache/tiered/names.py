"""Name spaces in a tiered cache: what `Namespace(tiered, "user")` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from fastcache.names import Namespace
from fastcache.tiered.drivers import acarry, carry
from fastcache.tiered.values import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from fastcache.loading.loader import Doing

V = TypeVar("V")


class TieredNamespace(Namespace[V]):
    """The entries of a tiered cache whose keys begin with a name, and their version, in all processes.

    As Namespace, with the calls of the tiered cache, awaited where its are. All that is read or stored through it,
    what its loader brings included, has the name space's tag: `bump()` is one invalidation of that tag, in
    O(1), wherever the entries are. The loader is given the full key (`namespace.key(key)`). There are no
    counters (they have no tags) and no listing (nobody knows what L2 holds).
    """

    __slots__ = ()

    def _done(self, steps: Doing[Any]) -> Any:
        return acarry(steps) if self._cache._core.asynchronous else carry(steps)

    # ---- reading -------------------------------------------------------------------------

    def get(self, key: Hashable, default: Any = None, /) -> Any:
        """The value of key, from L1, L2 or the loader; default where it does not exist."""
        return self._cache._get_tagged(self.key(key), default, self._tags)

    def get_many(self, keys: Iterable[Hashable], default: Any = None, /) -> Any:
        """The value of each key, or default, aligned with keys."""
        return self._done(self._aligned(list(keys), default))

    def _aligned(self, keys: list[Hashable], default: Any) -> Doing[list[Any]]:
        full = [self.key(key) for key in keys]
        found = yield from self._cache._core.reads.get_many(full, self._tags)
        return [found.get(key, default) for key in full]

    def get_or_set(self, key: Hashable, factory: Callable[[], V], /, **options: Any) -> Any:
        """The value of key; if no tier has it factory() makes it."""
        return self._cache.get_or_set(self.key(key), factory, **self._with_tags(options))

    def warm(self, keys: Iterable[Hashable]) -> Any:
        """Bring keys into L1; how many there are."""
        return self._done(self._warm([self.key(key) for key in keys]))

    def _warm(self, full: list[Any]) -> Doing[int]:
        return len((yield from self._cache._core.reads.get_many(full, self._tags)))

    # ---- writing -------------------------------------------------------------------------

    def set_many(self, mapping: Any, /, **options: Any) -> Any:
        """set() for each pair; the keys that L2 did not take."""
        mapping = dict(mapping)
        full = {self.key(key): key for key in mapping}
        given = self._with_tags(options)
        items = {name: mapping[key] for name, key in full.items()}
        return self._done(
            self._set_many(full, items, given.pop("ttl", ...), given.pop("tags"), given)
        )

    def _set_many(
        self,
        full: dict[Any, Any],
        items: dict[Any, Any],
        ttl: Any,
        tags: Any,
        rest: dict[str, Any],
    ) -> Doing[list[Any]]:
        if rest:
            raise TypeError(f"set_many() got an unexpected keyword argument {next(iter(rest))!r}")
        failed = yield from self._cache._core.writes.set_many(items, ttl, tags)
        return [full[name] for name in failed]

    def delete_many(self, keys: Iterable[Hashable], /) -> Any:
        """Remove each of keys, from the source too where there is a writer; whether everyone was told."""
        return self._cache.delete_many([self.key(key) for key in keys])

    def invalidate_many(self, keys: Iterable[Hashable], /) -> Any:
        """invalidate() for each of them, in one round trip."""
        return self._cache.invalidate_many([self.key(key) for key in keys])

    def invalidate_tag(self, *tags: Any) -> Any:
        """Of the tiered cache: its tags go across name spaces."""
        return self._cache.invalidate_tag(*tags)

    def bump(self, key: Hashable = ABSENT, /) -> Any:
        """The next version: whatever is stored so far, in any tier and process, is dead. See Namespace.bump."""
        return self._done(self._bump(key))

    def _bump(self, key: Hashable) -> Doing[None]:
        writes = self._cache._core.writes
        if key is ABSENT:
            yield from writes.invalidate_tags([self._tags[-1]])
            return
        yield from writes.invalidate([self.key(key)])
        if isinstance(key, (str, int)):
            yield from writes.invalidate_tags([self._tag_of(key)])

    def clear(self) -> Any:
        """The same as bump()."""
        return self.bump()

    # ---- what L2 does not allow ------------------------------------------------------------

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"the name space {str(self)!r} is in a tiered cache, which does not have this call"
        )

    __getitem__ = __contains__ = __setitem__ = __delitem__ = __iter__ = _held = _refuse
    peek = ttl = entry = setdefault = pop = popitem = incr = keys = values = items = update = (
        _refuse
    )
