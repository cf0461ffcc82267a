"""The operations on one name space, as steps. A request is (slot, command, may a replica answer), a list
of those, or `Timed`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from fastcache._keys import encode
from fastcache.stores.protocol import (
    BUCKETS,
    EVENTS,
    TAGS,
    Counter,
    Dated,
    Fill,
    Found,
    Lease,
    Space,
    StoreError,
    Words,
    found_in,
)
from fastcache.stores.redis import scripts
from fastcache.stores.redis.errors import Refusal
from fastcache.stores.redis.names import body_of, counter_of, homes, tag_key
from fastcache.stores.redis.node import now
from fastcache.stores.redis.way import mget, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.protocol import Steps, Target
    from fastcache.stores.redis.names import Home
    from fastcache.stores.redis.store import RedisStore

#: Names in one call of a script: the server does nothing else meanwhile.
PIECE: Final = 128
#: Seconds for which the record of a tag is kept. One that is gone counts as invalidated just now.
TAG_TTL: Final = 7 * 86400

_LONGEST_MS = 1 << 46  # two thousand years
_INT64 = 1 << 63


class Timed(list[tuple[int, bytes, bool]]):
    """Commands, and the servers they go to are asked for the time as well."""


class Primaries(list[int]):
    """Slots of a cluster: which servers have them?"""


class Watch:
    """How far are the replicas?"""


def _ms(ttl: float | None) -> int:
    """0: for ever."""
    return 0 if ttl is None else max(1, min(int(ttl * 1000), _LONGEST_MS))


class RedisSpace(Space):
    """One name space of a RedisStore. Made by `RedisStore.space`."""

    def __init__(self, store: RedisStore, namespace: str, origin: bytes) -> None:
        self.namespace = namespace
        self.origin = origin
        self._store = store
        self._homes = homes(namespace)
        self._by_hex = {f"{home.number:02x}": home for home in self._homes[:BUCKETS]}
        prefixes = [home.prefix.decode() for home in self._homes[:BUCKETS]]
        self.words: Words = Words(tuple(prefixes), "$", "\r\n", "\r\n")
        self._clustered = store.clustered
        #: Until when (`now()`) the primary alone answers for a bucket.
        self._fresh = [0.0] * BUCKETS

    # ---- names -----------------------------------------------------------------------------------

    def _home(self, name: str) -> Home:
        try:
            return self._by_hex[name[-32:-30]]
        except KeyError:
            raise ValueError(f"name {name!r} does not end in 32 hexadecimal digits") from None

    def _triple(self, name: str) -> tuple[Home, list[bytes]]:
        home = self._home(name)
        key = home.prefix + name.encode()
        return home, [key, key + b":lease", home.counter]

    def _replica(self, home: Home, primary: bool) -> bool:
        """Whether a replica may answer for this bucket."""
        return self._store.replicas and not primary and now() >= self._fresh[home.number]

    def note_invalidated(self, bucket: int) -> None:
        """Something of this bucket was invalidated just now: its primary answers for `replica_lag` seconds."""
        self._fresh[bucket] = now() + self._store.replica_lag

    def _note(self, targets: Sequence[Target]) -> None:
        """Before a change is sent, and once more when it has been made: the server does it in between."""
        if self._store.replicas:
            for target in targets:
                self.note_invalidated(self._home(target.name).number)

    # ---- values ------------------------------------------------------------------------------------

    def read(self, name: str, *, primary: bool = False) -> Steps[Found | None]:
        home = self._home(name)
        encoded = name.encode()
        size = len(home.prefix) + len(encoded)
        command = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b%b\r\n" % (size, home.prefix, encoded)
        clock = self._store.clock(home.slot)
        if clock.at(now()) is None:
            (value,) = yield Timed([(home.slot, command, False)])
        else:
            value = yield (home.slot, command, self._replica(home, primary))
        if value is None:
            return None
        return (yield from self._found(home, home.prefix + encoded, value))

    def read_many(
        self, names: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None]]:
        words = [self.words.of(name, self._home(name).number) for name in names]
        got = yield from self.read_dated(names, words, primary=primary)
        if not isinstance(got, Dated):
            return got
        found = []
        for i in range(len(names)):
            each = yield from got.found(i)
            found.append(each)
        return found

    def read_dated(
        self, names: Sequence[str], words: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None] | Dated]:
        if not names:
            return []
        if self._clustered:
            values = yield from self._get_each(names, primary)
        else:
            command = (0, mget(words), False)
            if self._store.clock(0).at(now()) is None:
                (values,) = yield Timed([command])
            else:
                values = yield command
            if type(values) is not list or len(values) != len(names):
                raise self._strange(values)
            time = self._store.clock(0).at(now())
            if time is not None:
                return Dated(values, time, lambda i: self._found_at(names[i], values[i]))
        found: list[Found | None] = []
        for name, value in zip(names, values, strict=True):
            found.append((yield from self._found_at(name, value)))
        return found

    def _found_at(self, name: str, value: Any) -> Steps[Found | None]:
        if value is None:
            return None
        home = self._home(name)
        return (yield from self._found(home, home.prefix + name.encode(), value))

    def _get_each(self, names: Sequence[str], primary: bool) -> Steps[list[Any]]:
        """The raw values, in a cluster."""
        places = [self._home(name) for name in names]
        commands = [
            (home.slot, pack("GET", home.prefix + name.encode()), self._replica(home, primary))
            for home, name in zip(places, names, strict=True)
        ]
        moment = now()
        known = all(self._store.clock(home.slot).at(moment) is not None for home in places)
        values = yield commands if known else Timed(commands)
        return values  # type: ignore[no-any-return]

    def _found(self, home: Home, key: bytes, value: Any) -> Steps[Found | None]:
        """What there is under a key."""
        if type(value) is not bytes:
            raise self._strange(value)
        if value[:1] == b"\0":
            return found_in(value, self._store.clock(home.slot).at(now()))
        left = yield (home.slot, pack("PTTL", key), False)
        return self._plain(value, left)

    def _plain(self, value: bytes, left: Any) -> Found | None:
        """A value that is not of our writing, or a counter."""
        if type(left) is not int:
            raise self._strange(left)
        if left == -2:
            return None
        return Found(value, None if left < 0 else left / 1000)

    def lease(self, names: Sequence[str], token: bytes, ttl: float) -> Steps[list[Lease]]:
        if not names:
            return []
        triples = [self._triple(name) for name in names]
        wanted, milliseconds = b"=" + token, max(1, int(ttl * 1000))
        commands = Timed()
        for home, (key, lease, _) in triples:
            set_it = pack("SET", lease, wanted, "NX", "GET", "PX", milliseconds)
            commands.append((home.slot, set_it, False))
            # After the lease: what was filled before it, and so since `read`, is seen.
            commands.append((home.slot, pack("GET", key), False))
        answers = yield commands
        leases = []
        for index, (home, (key, _, _)) in enumerate(triples):
            was, value = answers[2 * index : 2 * index + 2]
            found = None
            if value is not None:
                found = yield from self._found(home, key, value)
            if was is None:
                leases.append(Lease(token, True, False, found))
            elif type(was) is bytes:
                leases.append(Lease(was[1:], False, was[:1] != b"=", found))
            else:
                raise self._strange(was)
        return leases

    def fill(self, fills: Sequence[Fill]) -> Steps[list[bool | None]]:
        calls = []
        for group in self._groups([fill.name for fill in fills]):
            keys: list[bytes] = []
            arguments: list[bytes | int] = []
            for index in group:
                fill = fills[index]
                keys += self._triple(fill.name)[1][:2]
                arguments += (fill.token, _ms(fill.ttl), fill.data)
            calls.append((self._home(fills[group[0]].name).slot, keys, arguments, group))
        stored = yield from self._flags(scripts.FILL, calls, len(fills))
        return [*stored]

    def give_up(self, names: Sequence[str], token: bytes) -> Steps[None]:
        calls = []
        for group in self._groups(names):
            leases = [self._triple(names[index])[1][1] for index in group]
            calls.append((self._home(names[group[0]]).slot, leases, [token]))
        yield from self._call(scripts.GIVE_UP, calls)

    def put(self, fills: Sequence[Fill], targets: Sequence[Target]) -> Steps[list[bool]]:
        calls = []
        fresh = _fresh()
        for group in self._groups([target.name for target in targets]):
            keys: list[bytes] = []
            arguments: list[bytes | int] = [fresh]
            for index in group:
                fill, target = fills[index], targets[index]
                keys += self._triple(target.name)[1]
                body = body_of(self.origin, target.key, target.version)
                arguments += (fill.token, _ms(fill.ttl), fill.data, body)
            calls.append((self._home(targets[group[0]].name).slot, keys, arguments, group))
        self._note(targets)
        try:
            return (yield from self._flags(scripts.PUT, calls, len(fills)))
        finally:
            self._note(targets)

    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        yield from self._tell(scripts.INVALIDATE, targets, [token])

    def hold(self, targets: Sequence[Target], token: bytes, ttl: float) -> Steps[None]:
        yield from self._tell(scripts.HOLD, targets, [token, max(1, int(ttl * 1000))])

    def _tell(
        self, script: scripts.Script, targets: Sequence[Target], extra: list[bytes | int]
    ) -> Steps[None]:
        calls = []
        fresh = _fresh()
        self._note(targets)
        for group in self._groups([target.name for target in targets]):
            keys: list[bytes] = []
            arguments: list[bytes | int] = [fresh, *extra]
            for index in group:
                target = targets[index]
                keys += self._triple(target.name)[1]
                arguments.append(body_of(self.origin, target.key, target.version))
            calls.append((self._home(targets[group[0]].name).slot, keys, arguments))
        try:
            yield from self._call(script, calls)
        finally:
            self._note(targets)

    def incr(self, target: Target, delta: int, initial: int, ttl: float | None) -> Steps[int]:
        start = initial + delta
        for number in (delta, start):
            if not -_INT64 <= number < _INT64:
                raise OverflowError(f"{number} does not fit into 64 bits")
        home, keys = self._triple(target.name)
        body = body_of(self.origin, target.key, target.version)
        arguments: list[bytes | int] = [_fresh(), delta, start, _ms(ttl), body]
        self._note([target])
        try:
            (answer,) = yield from self._call(scripts.INCR, [(home.slot, keys, arguments)])
        except StoreError as error:
            if "would overflow" in error.text:
                raise OverflowError("the counter would not fit into 64 bits") from None
            if "not an integer" in error.text or "WRONGTYPE" in error.text:
                raise TypeError("what is stored there is not a counter") from None
            raise
        finally:
            self._note([target])
        return self._int(answer)

    def touch(self, target: Target, stamp: bytes, ttl: float | None) -> Steps[bool]:
        home, (key, _, counter) = self._triple(target.name)
        arguments: list[bytes | int] = [
            _fresh(), stamp, _ms(ttl), body_of(self.origin, target.key, target.version),
        ]  # fmt: skip
        call = (home.slot, [key, counter], arguments)
        self._note([target])
        try:
            (answer,) = yield from self._call(scripts.TOUCH, [call])
        finally:
            self._note([target])
        return self._int(answer) == 1

    # ---- coherence -----------------------------------------------------------------------------------

    def counters(self) -> Steps[list[Counter]]:
        places = self._homes
        if self._clustered:
            texts = yield Timed([(h.slot, pack("GET", h.counter), False) for h in places])
            if self._store.replicas:
                yield Watch()
        else:
            command = pack("MGET", *(home.counter for home in places))
            (texts,) = yield Timed([(places[0].slot, command, False)])
            if isinstance(texts, Refusal):
                raise texts.error(self._store.where)
        lost = [number for number, text in enumerate(texts) if text is None and number != TAGS]
        if lost:
            fresh = _fresh() + b":0"
            made = yield [
                (places[n].slot, pack("SET", places[n].counter, fresh, "NX", "GET"), False)
                for n in lost
            ]
            for number, text in zip(lost, made, strict=True):
                if isinstance(text, Refusal) and text.kind() == "full":
                    text = b"0:0"  # until an invalidation makes it, which works all the same
                texts[number] = fresh if text is None else text
        if texts[TAGS] is None:
            found = yield from self._read_tags([])
            texts[TAGS] = found[0]
        return [self._counter(text) for text in texts]

    def _counter(self, text: Any) -> Counter:
        if type(text) is not bytes:
            raise self._strange(text)
        try:
            return counter_of(text)
        except ValueError:
            # Overwritten by somebody: the next invalidation makes it anew.
            return Counter(-1, hash(text) & 0xFFFF)

    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        if not tags:
            return []
        home = self._homes[TAGS]
        found = yield (home.slot, pack("MGET", *(tag_key(home, tag) for tag in tags)), False)
        if isinstance(found, Refusal):
            raise found.error(self._store.where)
        lost = [index for index, text in enumerate(found) if text is None]
        if lost:
            made = yield from self._read_tags([tags[index] for index in lost])
            for index, text in zip(lost, made[1:], strict=True):
                found[index] = text
        return [self._int(text) for text in found]

    def _read_tags(self, tags: Sequence[bytes]) -> Steps[list[Any]]:
        home = self._homes[TAGS]
        keys = [home.counter, *(tag_key(home, tag) for tag in tags)]
        (answer,) = yield from self._call(
            scripts.TAGS_READ, [(home.slot, keys, [_fresh(), TAG_TTL * 1000])]
        )
        if type(answer) is not list or len(answer) != len(keys):
            raise self._strange(answer)
        return answer

    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        home = self._homes[TAGS]
        keys = [home.counter, *(tag_key(home, tag) for tag in tags)]
        body = body_of(self.origin, encode(tuple(tags)))
        call = (home.slot, keys, [_fresh(), TAG_TTL * 1000, body])
        (answer,) = yield from self._call(scripts.INVALIDATE_TAGS, [call])
        return self._int(answer)

    def publish(self, event: bytes) -> Steps[None]:
        home = self._homes[EVENTS]
        call = (home.slot, [home.counter], [_fresh(), body_of(self.origin, event)])
        yield from self._call(scripts.PUBLISH, [call])

    # ---- scripts -------------------------------------------------------------------------------------

    def _groups(self, names: Sequence[str]) -> list[list[int]]:
        """Which names go into one call: those of a bucket in a cluster, else so many at once."""
        if not self._clustered:
            every = range(len(names))
            return [list(every[i : i + PIECE]) for i in range(0, len(names), PIECE)]
        found: dict[int, list[int]] = {}
        for index, name in enumerate(names):
            found.setdefault(self._home(name).number, []).append(index)
        return list(found.values())

    def _call(self, script: scripts.Script, calls: Sequence[Any]) -> Steps[list[Any]]:
        """The answers to calls (slot, keys, arguments); all of them are made, then the first refusal is raised."""
        if not calls:
            return []
        commands = [(slot, script.call(keys, words), False) for slot, keys, words, *_ in calls]
        if len(commands) == 1:
            answers = [(yield commands[0])]
        else:
            answers = yield commands
        for _ in range(
            3
        ):  # a call that was redirected may come to a server that does not know the script
            lost = [
                index
                for index, answer in enumerate(answers)
                if type(answer) is Refusal and answer.code == "NOSCRIPT"
            ]
            if not lost:
                break
            again = []
            for index in lost:
                again += [(commands[index][0], script.load, False), commands[index]]
            more = yield again
            for place, index in enumerate(lost):
                loaded, answer = more[2 * place : 2 * place + 2]
                answers[index] = loaded if isinstance(loaded, Refusal) else answer
        for answer in answers:
            if isinstance(answer, Refusal):
                raise answer.error(self._store.where)
        return answers

    def _flags(self, script: scripts.Script, calls: Sequence[Any], count: int) -> Steps[list[bool]]:
        done = [False] * count
        answers = yield from self._call(script, calls)
        for (*_, group), answer in zip(calls, answers, strict=True):
            if type(answer) is not list or len(answer) != len(group):
                raise self._strange(answer)
            for index, flag in zip(group, answer, strict=True):
                done[index] = flag == 1
        return done

    def _int(self, answer: Any) -> int:
        try:
            return int(answer)
        except (TypeError, ValueError):
            raise self._strange(answer) from None

    def _strange(self, answer: Any) -> StoreError:
        """An answer that is not what the command returns."""
        if isinstance(answer, Refusal):
            return answer.error(self._store.where)
        text = f"the answer is of an unexpected kind ({type(answer).__name__})"
        return StoreError(self._store.where, "protocol", text)


def _fresh() -> bytes:
    """An incarnation for counters that are lost."""
    return os.urandom(8).hex().encode()
