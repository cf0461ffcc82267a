"""Name spaces: the keys of one kind in a cache, which can all be forgotten at once.

    users = Namespace(cache, "user")
    users["42"] = user              # cache["user:42"]
    users.bump()                    # every user is forgotten, and no load under way is kept

Keys. A str key is stored as the path of the name space, ":" and the key as it is. The path has one
part for each level, divided by "/"; a version other than 1 follows its name behind "@". These
three and "%" are written as %3A, %2F, %40 and %25 in names and versions. So the first ":" ends the
path, and different (name space, version, key) have different full keys. A key of another type is
stored as the tuple (path, key), which equals another where the keys do.

Versions. There is no counter: what goes in through a name space carries a tag for it, and bump() is
`invalidate_tag`. So the cache itself holds the version: it is one for all name spaces of that name,
needs no memory while nothing is stored, fences loads, and gives back the memory of the dead.
"""

from __future__ import annotations

from _collections_abc import ItemsView, MutableMapping, ValuesView

from fastcache._core import TierFront

TYPE_CHECKING = False  # nobody who only stores and reads should have to import typing
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from datetime import timedelta
    from typing import Any, TypeAlias, TypeVar, overload

    from _typeshed import SupportsKeysAndGetItem

    from fastcache._core import Cache, EntryRecord

    V = TypeVar("V")
    T = TypeVar("T")
    Duration: TypeAlias = float | timedelta | None
else:
    Any = V = object  # for the bases below, which are not only annotations

    def overload(function):
        return function


_ABSENT: Any = object()
#: First part of every tag that is made here.
_MARK = "fastcache.Namespace"


class Namespace(MutableMapping[Any, V]):
    """The keys of one kind in a cache: a mapping of their own, and the calls of Cache for them.

    cache: a Cache, another Namespace (this one is then nested in it), or whatever has the calls of
    Cache. name: str, or int. version: int or str, of what is stored, say of a class; name spaces
    that differ in it share nothing. A name or version counts by its text: 2 and "2" are the same.
    TypeError and ValueError for others.

    All that is stored under an equal name and version in the same cache is one name space, through
    however many objects: they hold no state. Each call costs what it costs the cache, and O(1) for
    the key, unless said otherwise. Safe from any thread, as far as the cache is. KeyError names the
    full key.
    """

    __slots__ = ("__weakref__", "_cache", "_name", "_path", "_prefix", "_tags", "_version")

    def __new__(cls, cache: Any = None, *_: Any, **__: Any) -> Any:
        if cls is Namespace:
            if isinstance(cache, Namespace):
                return object.__new__(type(cache))
            if isinstance(cache, TierFront):
                from fastcache.tiered.names import TieredNamespace

                return object.__new__(TieredNamespace)
        return object.__new__(cls)

    def __init__(
        self,
        cache: Cache[Any, V] | Namespace[V] | Any,
        name: str | int,
        *,
        version: int | str = 1,
    ) -> None:
        part = _escaped("name", name)
        self._name = _text(name)
        self._version = version
        if (text := _escaped("version", version)) != "1":
            part += "@" + text
        self._tags: tuple[tuple[str, ...], ...] = ()
        if isinstance(cache, Namespace):
            self._tags = (*cache._tags, cache._tag_of(self._name))
            part = f"{cache._path}/{part}"
            cache = cache._cache
        elif not callable(getattr(cache, "invalidate_tag", None)):
            from fastcache._redact import shown

            raise TypeError(f"cache must be a Cache or have its calls, got {shown(cache)}")
        self._cache: Any = cache
        self._path: str = part
        self._prefix = part + ":"
        self._tags += ((_MARK, part),)

    # ---- names ---------------------------------------------------------------------------

    @property
    def cache(self) -> Any:
        """The cache that holds the entries."""
        return self._cache

    @property
    def name(self) -> str:
        """The name as given; str(namespace) has the whole path."""
        return self._name

    @property
    def version(self) -> int | str:
        """The version as given."""
        return self._version

    def key(self, key: Hashable, /) -> str | tuple[str, Hashable]:
        """The full key: under what the cache holds the entry of key."""
        if type(key) is str:
            return self._prefix + key
        # a subclass that is equal to the str it holds (a StrEnum) is the same key, as in a dict
        kind = type(key)
        if isinstance(key, str) and kind.__eq__ is str.__eq__ and kind.__hash__ is str.__hash__:
            return self._prefix + _text(key)
        return (self._path, key)

    def namespace(self, name: str | int, *, version: int | str = 1) -> Namespace[V]:
        """A name space in this one, which `bump()` here, and `bump(name)` here, forget as well."""
        return Namespace(self, name, version=version)

    def __str__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<fastcache.Namespace {self._path!r} of {self._cache!r}>"

    def _tag_of(self, key: str | int) -> tuple[str, str, str]:
        """The tag of all that is nested under key, whatever the version."""
        return (_MARK, self._path, _text(key))

    # ---- reading -------------------------------------------------------------------------

    @overload
    def get(self, key: Hashable, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: Hashable, default: V | T, /) -> V | T: ...
    def get(self, key: Hashable, default: Any = None, /) -> Any:
        """The value of key, or default. An access, counted by the cache."""
        return self._cache.get(self._prefix + key if type(key) is str else self.key(key), default)

    def __getitem__(self, key: Hashable, /) -> V:
        value: V = self._cache[self._prefix + key if type(key) is str else self.key(key)]
        return value

    def __contains__(self, key: Any, /) -> bool:
        return self.key(key) in self._cache

    def peek(self, key: Hashable, default: Any = None, /) -> Any:
        """get, without being an access and without being counted."""
        return self._cache.peek(self.key(key), default)

    def ttl(self, key: Hashable, /) -> float | None:
        """Seconds that are left; None is for ever. KeyError if absent."""
        left: float | None = self._cache.ttl(self.key(key))
        return left

    def entry(self, key: Hashable, /) -> EntryRecord[V]:
        """All that the cache knows of the entry, without the tags made here. KeyError if absent."""
        record: EntryRecord[V] = self._cache.entry(self.key(key))
        return record._replace(tags=record.tags.difference(self._tags))

    def get_many(self, keys: Iterable[Hashable], default: Any = None, /) -> list[Any]:
        """The value of each key, or default, aligned with keys."""
        values: list[Any] = self._cache.get_many([self.key(key) for key in keys], default)
        return values

    # ---- writing -------------------------------------------------------------------------

    def __setitem__(self, key: Hashable, value: V, /) -> None:
        self._cache.set(self.key(key), value, tags=self._tags)

    def set(self, key: Hashable, value: V, /, **options: Any) -> Any:
        """Store value; options (ttl, tti, weight, tags) as for Cache.set."""
        return self._cache.set(self.key(key), value, **self._with_tags(options))

    def add(self, key: Hashable, value: V, /, **options: Any) -> bool:
        """set, only if key is absent; whether it was."""
        added: bool = self._cache.add(self.key(key), value, **self._with_tags(options))
        return added

    def set_many(
        self,
        mapping: SupportsKeysAndGetItem[Any, V] | Iterable[tuple[Any, V]],
        /,
        **options: Any,
    ) -> Any:
        """set each pair of a mapping or an iterable of pairs, with the same options."""
        pairs: Iterable[tuple[Any, V]]
        pairs = dict(mapping).items() if hasattr(mapping, "keys") else mapping
        return self._cache.set_many(
            [(self.key(key), value) for key, value in pairs], **self._with_tags(options)
        )

    def setdefault(self, key: Hashable, default: Any = None, /) -> Any:
        """The value of key; default, which is then stored, if absent."""
        return self._cache.get_or_set(self.key(key), lambda: default, tags=self._tags)

    def get_or_set(self, key: Hashable, factory: Callable[[], V], /, **options: Any) -> V:
        """The value of key; if absent that of factory(), stored with options as in set.

        One factory per key at a time. What it returns is not stored if the key or the name space
        was bumped meanwhile.
        """
        value: V = self._cache.get_or_set(self.key(key), factory, **self._with_tags(options))
        return value

    def incr(self, key: Hashable, /, delta: float = 1, initial: float = 0) -> Any:
        """Add delta to the number under key, and return the result; absent gives initial + delta."""
        cache, full = self._cache, self.key(key)
        numbers = {type(delta), type(initial)} <= {int, float}  # else let the cache complain
        if numbers and full not in cache and cache.add(full, initial + delta, tags=self._tags):
            return initial + delta
        result = cache.incr(full, delta, initial)
        # If the counter has gone just before that, it is a new one, and has no tags: incr takes
        # none. Whoever counts looks, before it returns, so that what is seen after a bump() was
        # counted by calls that overlap with it.
        try:
            tagged = cache.entry(full).tags.issuperset(self._tags)
        except KeyError:  # gone again
            return result
        if not tagged and (value := cache.pop(full, _ABSENT)) is not _ABSENT:
            cache.add(full, value, tags=self._tags)
        return result

    def touch(self, key: Hashable, /, ttl: Duration = ...) -> bool:  # type: ignore[assignment]
        """Give key a new ttl in seconds (default: the cache's); whether it is there."""
        found: bool = self._cache.touch(self.key(key), ttl=ttl)
        return found

    def _with_tags(self, options: dict[str, Any]) -> dict[str, Any]:
        tags = options.get("tags", ())
        if isinstance(tags, (str, bytes)) or not hasattr(type(tags), "__iter__"):
            raise TypeError(f"tags must be an iterable of tags, got {tags!r}")
        options["tags"] = (*tags, *self._tags)
        return options

    # ---- removing ------------------------------------------------------------------------

    def __delitem__(self, key: Hashable, /) -> None:
        del self._cache[self.key(key)]

    def delete(self, key: Hashable, /) -> bool:
        """Remove key; whether it was there."""
        found: bool = self._cache.delete(self.key(key))
        return found

    def delete_many(self, keys: Iterable[Hashable], /) -> int:
        """Remove each of keys; how many were there."""
        found: int = self._cache.delete_many([self.key(key) for key in keys])
        return found

    def invalidate(self, key: Hashable, /) -> Any:
        """Forget key because its source has changed; a load under way is not stored.

        The same as delete for a Cache; a cache with tiers tells the other processes, and leaves
        the source alone.
        """
        invalidate = getattr(self._cache, "invalidate", self._cache.delete)
        return invalidate(self.key(key))

    def invalidate_tag(self, *tags: Any) -> None:
        """Cache.invalidate_tag: tags are the cache's, and go across name spaces."""
        self._cache.invalidate_tag(*tags)

    def pop(self, key: Hashable, /, *default: Any) -> Any:
        """Remove key and return its value; default, or KeyError without one, if absent."""
        return self._cache.pop(self.key(key), *default)

    def popitem(self) -> tuple[Any, V]:
        """Remove and return any one pair; KeyError if there is none. O(entries of the cache)."""
        while (key := next(self._held(), _ABSENT)) is not _ABSENT:
            if (value := self.pop(key, _ABSENT)) is not _ABSENT:
                return key, value
        raise KeyError(f"the name space {self._path!r} is empty")

    def bump(self, key: Hashable = _ABSENT, /) -> None:
        """The next version: whatever is stored so far is dead at once, and never returned again.

        Without a key that is the whole name space and all that is nested in it. bump(key) is key
        itself and what is nested under its name: `namespace("42")` goes with bump("42"), or with
        bump(42). A load under way is returned to those who wait for it, and is not stored. O(1)
        for any number of entries; their memory comes back with later calls to the cache.
        """
        if key is _ABSENT:
            self._cache.invalidate_tag(self._tags[-1])
            return
        self.invalidate(key)
        if isinstance(key, (str, int)):
            self._cache.invalidate_tag(self._tag_of(key))

    def clear(self) -> None:
        """bump(), and what was stored under these keys past the name space. O(entries of the
        cache)."""
        self.bump()
        self.delete_many(self._held())

    # ---- as a mapping --------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The live keys, as they were given, without those nested. O(entries of the cache);
        RuntimeError if the cache got a new key meanwhile."""
        return self._own(self._cache)

    def _held(self) -> Iterator[Any]:
        """The live keys at one moment, whatever other threads store meanwhile."""
        hottest = getattr(self._cache, "hottest", None)
        return self._own(list(self._cache) if hottest is None else hottest())

    def _own(self, keys: Iterable[Any]) -> Iterator[Any]:
        path, prefix = self._path, self._prefix
        start = len(prefix)
        for full in keys:
            if type(full) is str:
                if full.startswith(prefix):
                    yield full[start:]
            elif type(full) is not tuple or len(full) != 2 or type(full[0]) is not str:
                continue
            elif full[0] == path:
                yield full[1]

    def __len__(self) -> int:
        """The number of live keys. O(entries of the cache)."""
        return sum(1 for _ in self._held())

    def __bool__(self) -> bool:
        return next((True for _ in self._held()), False)

    def values(self) -> _Values[V]:
        """A view of the live values. Reading it is no access."""
        return _Values(self)

    def items(self) -> _Items[V]:
        """A view of the live (key, value) pairs. Reading it is no access."""
        return _Items(self)


# what help() shows of the class
Namespace.__new__.__dict__["__wrapped__"] = Namespace.__init__


class _Items(ItemsView[Any, V]):
    """Pairs of a name space, read without being accesses."""

    __slots__ = ()
    _mapping: Namespace[V]

    def __iter__(self) -> Iterator[tuple[Any, V]]:
        for key in self._mapping:
            if (value := self._mapping.peek(key, _ABSENT)) is not _ABSENT:
                yield key, value

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        value = self._mapping.peek(item[0], _ABSENT)
        return value is not _ABSENT and bool(value is item[1] or value == item[1])


class _Values(ValuesView[V]):
    """Values of a name space, read without being accesses."""

    __slots__ = ()
    _mapping: Namespace[V]

    def __iter__(self) -> Iterator[V]:
        for _, value in _Items(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)


def _escaped(argument: str, text: object) -> str:
    """The name or version as a part of a path."""
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        raise TypeError(f"{argument} must be a str or an int, got {text!r}")
    if text == "":
        raise ValueError(f"{argument} must not be empty")
    part = _text(text).replace("%", "%25")
    return part.replace(":", "%3A").replace("/", "%2F").replace("@", "%40")


def _text(part: str | int) -> str:
    """Its own text, whatever a subclass (an Enum) makes of str()."""
    return str.__str__(part) if isinstance(part, str) else int.__repr__(part)
