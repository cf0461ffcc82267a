"""Values on their way between the tiers: packed for L2, opened from it, landed in L1."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastcache._core import Opener, land_many, land_read, postpone
from fastcache._envelope import Codec, Undecodable, Unpacked, is_counter
from fastcache._keys import decode, encode
from fastcache._redact import shown
from fastcache._types import MISSING
from fastcache.loading.rules import RETRY
from fastcache.serializers import Unserializable
from fastcache.stores.protocol import Dated, bucket_of
from fastcache.tiered.book import FUNCTION
from fastcache.tiered.options import UNHEARD, lasting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache._core import Flight
    from fastcache.loading.loader import Call, Old
    from fastcache.loading.rules import Rules
    from fastcache.stores.protocol import Found
    from fastcache.tiered.core import Core


log = logging.getLogger("fastcache")

#: What L1 answers where it has nothing.
ABSENT = object()


class Opened(NamedTuple):
    """What L2 had under a name.

    fresh: seconds until the end of its ttl, negative past it; None: for ever. ttl: as it was stored. tags:
    their encodings. sequence: of invalidations of tags, known before its load. cost: seconds that its
    load took. counter: it is a counter's number, which L1 never holds. stamp: its first bytes, which
    no other fill has.
    """

    value: Any
    missing: bool = False
    fresh: float | None = None
    ttl: float | None = None
    tags: Sequence[bytes] = ()
    sequence: int = 0
    cost: float = 0.0
    counter: bool = False
    stamp: bytes = b""


_new = tuple.__new__
#: Unpacked, of a value about which nothing is unusual.
Plain = tuple[Any, bool, "float | None", float, tuple[()], int, float, bytes]
#: What a value is fresh in L1 that is past its ttl in L2 already: the next hit serves it, and renews it.
PAST = 0.001
#: Bytes that a counter has at most.
_COUNTER = 20


class Landing(NamedTuple):
    """A value for L1. ttl, extra: seconds, and seconds that it is kept for its loader past it."""

    name: str
    key: Any
    value: Any
    ttl: float | None
    extra: float
    tags: tuple[Any, ...]


def tags_given(tags: Iterable[Any]) -> tuple[Any, ...]:
    """Tags as the engine takes them; TypeError for others."""
    if isinstance(tags, (str, bytes)) or not hasattr(type(tags), "__iter__"):
        raise TypeError(f"tags must be an iterable of tags, got {tags!r}")
    given = tuple(tags)
    for tag in given:
        if not isinstance(tag, (str, bytes, int, tuple)):
            raise TypeError(f"tags must be str, bytes, int or tuples of these, got {tag!r}")
    return given


def keys_given(keys: Iterable[Any]) -> list[Any]:
    """TypeError that names the argument where there is nothing to iterate over."""
    try:
        each = iter(keys)
    except TypeError:
        raise TypeError(f"keys must be an iterable of keys, got {keys!r}") from None
    return list(each)


def distinct_keys(keys: Iterable[Any]) -> list[Any]:
    """Each once, in order; TypeError as keys_given."""
    return list(dict.fromkeys(keys_given(keys)))


def mapping_given(mapping: Any) -> dict[Any, Any]:
    """A mapping, or pairs, as a dict; TypeError that names the argument for what is neither."""
    if isinstance(mapping, Mapping):
        return dict(mapping)
    try:
        return dict(mapping)
    except (TypeError, ValueError) as error:
        raise TypeError(f"mapping must be a mapping, got {shown(mapping)}: {error}") from error


class Values:
    """The values of one tiered cache. Safe from any thread."""

    def __init__(self, core: Core, codec: Codec | None) -> None:
        self._core = core
        self._codec = codec
        if codec is not None:
            self._opener = Opener(*codec.opening)

    # ---- L2 --------------------------------------------------------------------------------------

    def pack(
        self,
        encoded: bytes,
        value: Any,
        *,
        ttl: float | None,
        extra: float,
        tags: Iterable[Any] = (),
        marks: Sequence[bytes] = (),
        sequence: int = 0,
        cost: float = 0.0,
    ) -> bytes | None:
        """The bytes for L2; None, counted, where the value would not come back as it is. marks: tags by
        their encodings."""
        core = self._core
        assert self._codec is not None
        marks = [*[encode(tag) for tag in tags], *marks]
        if marks and not sequence:
            core.counts.add("unstorable")  # nobody could tell later whether a tag was invalidated
            return None
        try:
            return self._codec.pack(
                encoded,
                None if value is MISSING else value,
                missing=value is MISSING,
                ttl=ttl,
                extra=extra,
                tags=marks,
                sequence=sequence,
                cost=cost,
            )
        except Unserializable:
            core.counts.add("unstorable")
            return None

    def open(self, found: Found, encoded: bytes) -> Opened | None:
        """What L2 had; None, counted, where it cannot be read."""
        data, left = found
        if len(data) <= _COUNTER and (number := is_counter(data)) is not None:
            return Opened(number, counter=True, fresh=left, sequence=2**63)
        try:
            value, missing, ttl, extra, tags, sequence, cost, stamp = self._unpack(data, encoded)
        except Undecodable as error:
            self._core.counts.add(f"undecodable:{error.kind}")
            self._core.complain(
                f"undecodable:{error.kind}",
                "a value in %s cannot be read: %s",
                self._core.gate.where,
                error,
            )
            return None
        if missing:
            value = MISSING
        if left is not None:
            left -= extra  # also of what was stored for ever: `touch` may have said otherwise since
        return _new(Opened, (value, missing, left, ttl, tags, sequence, cost, False, stamp))

    def _unpack(self, data: bytes, encoded: bytes) -> Unpacked | Plain:
        """Undecodable, and nothing else, whatever the bytes are."""
        assert self._codec is not None
        return self._opener.unpack(data, encoded) or self._codec.unpack(data, encoded)

    def usual(self, found: Found, encoded: bytes) -> tuple[Any, float | None, int] | None:
        """(value, seconds that it is fresh, sequence) of a value without tags; None, not counted: it is none."""
        data, left = found
        if len(data) <= _COUNTER or self._codec is None:
            return None
        try:
            value, missing, _, extra, tags, sequence, _, _ = self._unpack(data, encoded)
        except Undecodable:
            return None
        if missing or tags:
            return None
        return value, None if left is None else left - extra, sequence

    def extra_in(self, found: Found, encoded: bytes) -> float:
        """Seconds that a value that `open` took is kept past its ttl."""
        data = found.data
        if len(data) <= _COUNTER and is_counter(data) is not None:
            return 0.0
        assert self._codec is not None
        return self._codec.unpack(data, encoded).extra

    def usual_of(
        self, keys: list[Any], encodings: list[bytes], got: list[Found | None] | Dated
    ) -> tuple[dict[Any, Any], bytes, list[int], int]:
        """Of those values of many keys about which nothing is unusual: ({key: value}, for how long they are good for
        L1, the places in `keys` of all others, the lowest sequence). For what reading usually brings; `open` takes
        the others."""
        most, _ = self.l1_ttl(None)
        if isinstance(got, Dated):
            return self._opener.unpack_many(keys, encodings, got.values, got.time, most)
        return self._opener.unpack_many(keys, encodings, got, None, most)

    def is_alive(self, opened: Opened) -> bool:
        """Whether none of its tags was invalidated since its load; all of them must be in the book."""
        return opened.counter or not self._core.book.dead(opened.tags, opened.sequence)

    # ---- rules ---------------------------------------------------------------------------------

    def ttl_of(self, rules: Rules, call: Call, value: Any) -> float | None:
        """Seconds that a loaded value is fresh; a part of it is left to chance where jitter says so."""
        ttl: Any
        if value is MISSING:
            ttl = self._core.options.missing_ttl
        elif call.ttl is not ...:
            ttl = call.ttl
        elif value is None and rules.none_ttl is not None:
            ttl = rules.none_ttl
        elif callable(rules.ttl):
            ttl = rules.seconds("ttl", rules.ttl(value, *call.args, **call.kwargs))
        else:
            ttl = rules.ttl
        return self.shortened(ttl)

    def shortened(self, ttl: float | None) -> float | None:
        jitter = self._core.options.jitter
        return lasting(ttl * (1.0 - jitter * random.random()) if jitter and ttl else ttl)

    @staticmethod
    def tags_of(rules: Rules, call: Call, value: Any) -> tuple[Any, ...]:
        if value is MISSING:
            return ()
        if call.tags is not None:
            return tuple(call.tags)
        if callable(rules.tags):
            return rules.tags_of(value, call.args, call.kwargs)
        return rules.tags

    # ---- L1 --------------------------------------------------------------------------------------

    def l1_ttl(self, ttl: float | None, *, deaf: bool = False) -> tuple[float | None, bool]:
        """What an entry lives in L1 whose value lives ttl seconds in L2; whether that was cut short."""
        core = self._core
        most = core.options.l1_ttl
        if core.level == "eventual":
            most = UNHEARD if most is None else min(most, UNHEARD)
        if deaf or core.is_deaf():
            longest = core.options.degraded_ttl
            most = longest if most is None else min(most, longest)
        if most is None or (ttl is not None and ttl <= most):
            return ttl, False
        return most, True

    def land(
        self,
        flight: Flight,
        key: Any,
        name: str,
        value: Any,
        ttl: float | None,
        *,
        extra: float = 0.0,
        lead: float = 0.0,
        tags: Sequence[Any] = (),
        sequence: int = 0,
        given: Any = ...,
        deaf: bool = False,
    ) -> None:
        """End a flight with a value that goes into L1 too, unless the flight is fenced."""
        shorter, cut = self.l1_ttl(ttl, deaf=deaf)
        options: dict[str, Any] = {"ttl": shorter}
        if tags:
            options["tags"] = tuple(tags)
        if given is not ... and given is not value:
            options["given"] = given
        if shorter:
            if extra and not (deaf or self._core.is_deaf()):
                options["extra"] = extra
            if lead and not cut:
                options["lead"] = lead
        index = self._core.index
        index.note(bucket_of(name), key)
        try:
            flight.land(value, **options)
        finally:
            index.noted(key)
        if tags and self._core.book.since([encode(tag) for tag in tags], sequence):
            self._core.l1.delete(key)

    def failed(
        self,
        rules: Rules,
        flight: Flight,
        call: Call,
        error: BaseException,
        known: Old | None,
        name: str,
        past: Opened | None,
    ) -> bool:
        """End a flight whose load failed; whether an older value is served that its callers did not have. known: the
        one they have; past: that which L2 has."""
        instead = known is None and past is not None and not flight.fenced
        if instead:
            assert past is not None
            assert past.fresh is not None
            self._core.counts.add("stale")
            value = past.value
            # kept like one that L1 had, so that the loader is left alone for a moment
            self.land(
                flight, call.key, name, value if rules.copier is None else rules.copier(value), PAST,
                extra=rules.grace + past.fresh, tags=self.decoded(past.tags), sequence=past.sequence, given=value,
            )  # fmt: skip
        else:
            rules.fail(flight, error, call.cache)
        postpone(call.cache, call.key, RETRY)
        return instead

    def land_many(self, watched: tuple[int, int], landing: Sequence[Landing]) -> int:
        """Store what a load of many has brought, but for what was invalidated meanwhile; how many were stored."""
        index, keys = self._core.index, [each.key for each in landing]
        index.note_many([each.name for each in landing], keys)
        try:
            return land_many(self._core.l1, watched, [each[1:] for each in landing])
        finally:
            index.noted_many(keys)

    def land_usual(
        self, watched: tuple[int, int], names: list[str], usual: dict[Any, Any], fresh: bytes
    ) -> None:
        """The same of what `usual_of` has found. names: of its keys."""
        index, keys, options = self._core.index, list(usual), self._core.options
        index.note_many(names, keys)
        try:
            land_read(self._core.l1, watched, usual, fresh, max(options.stale, options.grace))
        finally:
            index.noted_many(keys)

    @staticmethod
    def decoded(tags: Sequence[bytes]) -> tuple[Any, ...]:
        return tuple([decode(tag) for tag in tags if tag[:1] != FUNCTION])
