"""The operations of MemcachedStore on one name space, as steps.

memcached has no scripts: what is atomic is one command on one item. So a name is ONE item, which is a value, a
lease, a hold, or a number, told apart by its flags; and whoever wants to replace one by another says by
compare-and-swap which it was. A lease that was invalidated, held, filled, evicted or lost with its server is not
that item any more, so its fill is refused.

The number for compare-and-swap is a server's own count, and begins anew when it is restarted: then it might by
chance be that of another lease. It is believed only on a connection that is older than the lease (`Batch.newest`);
on any other the lease is read first, and its token, which is random, compared.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from fastcache.stores.memcached import meta
from fastcache.stores.memcached.counters import Counting
from fastcache.stores.memcached.items import (
    CONTENDED,
    HOLD,
    KIND,
    LEASE,
    LIMIT,
    NUMBER,
    PLAIN,
    REMEMBERED,
    SHIFT,
    TRIES,
    VALUE,
    Item,
    Known,
    Swap,
    answer_of,
    at_least,
    changed,
    incarnation,
    integer,
)
from fastcache.stores.memcached.nodes import Answer, Batch
from fastcache.stores.protocol import Found, Lease, StoreError, bucket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.memcached.items import Outcome
    from fastcache.stores.memcached.meta import Command, Reply
    from fastcache.stores.memcached.store import MemcachedStore
    from fastcache.stores.protocol import Fill, Steps, Target


class MemcachedSpace(Counting):
    """One name space of a MemcachedStore. Made by `MemcachedStore.space`."""

    def __init__(self, store: MemcachedStore, namespace: str, origin: bytes) -> None:
        super().__init__(store, namespace, origin)
        self._leases: dict[tuple[str, bytes], Known] = {}

    # ---- values ----------------------------------------------------------------------------------

    def read(self, name: str, *, primary: bool = False) -> Steps[Found | None]:
        answer = yield Batch(self._node(name), (meta.get(self._key(name)),))
        return self._found(answer.replies[0])

    def read_many(
        self, names: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None]]:
        """Names whose server does not answer count as absent, unless none does."""
        outcomes = yield from self._ask(
            [Item(self._node(name), (meta.get(self._key(name)),)) for name in names]
        )
        self._some_of(outcomes)
        return [
            self._found(outcome.replies[0]) if isinstance(outcome, Answer) else None
            for outcome in outcomes
        ]

    def _found(self, reply: Reply) -> Found | None:
        if reply.code != b"VA":
            self._store.refused(reply)
            return None
        flags = reply.numbers[b"f"]
        kind = flags & KIND
        if kind not in (VALUE, NUMBER):
            return None
        seconds = reply.numbers[b"t"]
        data = reply.data.rstrip(b" ") if kind == NUMBER else reply.data
        if seconds < 0:
            return Found(data, None)
        # the server counts whole seconds: up to one more may have gone by
        left = seconds - 1 + (flags >> SHIFT & 0x3FF) / 1000
        return Found(data, max(left, 0.001))

    def lease(self, names: Sequence[str], token: bytes, ttl: float) -> Steps[list[Lease]]:
        """A value that is there is found, and the lease is this process's alone: fill replaces just it.
        Names whose server does not answer count as held, unless none does."""
        leases = [Lease(token, True, True)] * len(names)
        stub = b"ME T%d F%d c" % (at_least(ttl), LEASE)
        left = list(range(len(names)))
        for _ in range(TRIES):
            items = []
            for i in left:
                key = self._key(names[i])
                pair = (meta.put(key, token, stub), meta.get(key, b"v f t c"))
                items.append(Item(self._node(names[i]), pair))
            outcomes = yield from self._ask(items)
            self._some_of(outcomes)
            again = []
            for i, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Answer):
                    lease = self._lease(names[i], token, outcome)
                    if lease is None:
                        again.append(i)
                    else:
                        leases[i] = lease
            left = again
            if not left:
                break
        return leases

    def _lease(self, name: str, token: bytes, answer: Answer) -> Lease | None:
        """None: it was there, and then it was not."""
        made, seen = answer.replies
        if made.code == b"HD":
            self._remember(name, token, made, answer)
            return Lease(token, True, False)
        if self._store.refused(made):
            return Lease(token, True, True)
        if seen.code != b"VA":
            return None
        kind = seen.number(b"f") & KIND
        if kind == HOLD:
            return Lease(seen.data, False, True)
        if kind == LEASE:
            self._remember(name, seen.data, seen, answer)
            return Lease(seen.data, False, False)
        self._remember(name, token, seen, answer)
        return Lease(token, True, False, self._found(seen))

    def _remember(self, name: str, token: bytes, reply: Reply, answer: Answer) -> None:
        if len(self._leases) >= REMEMBERED:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread is at it
                self._leases.pop(next(iter(self._leases)), None)
        self._leases[name, token] = Known(reply.number(b"c"), answer.newest)

    def fill(self, fills: Sequence[Fill]) -> Steps[list[bool | None]]:
        swaps = []
        lives = yield from self._lives([(fill.name, fill.ttl) for fill in fills])
        for fill, life in zip(fills, lives, strict=True):
            known = self._leases.pop((fill.name, fill.token), None)
            swaps.append(Swap(fill.name, fill.token, LEASE, self._value(fill, life), known))
        yield from self._swap([swap for swap in swaps if swap.command is not None])
        errors = [swap.error for swap in swaps if swap.error is not None]
        if errors and len(errors) == len(swaps):
            raise errors[0]
        return [None if swap.command is None else swap.done for swap in swaps]

    def give_up(self, names: Sequence[str], token: bytes) -> Steps[None]:
        swaps = []
        for name in names:
            known = self._leases.pop((name, token), None)
            swaps.append(Swap(name, token, LEASE, self._gone(name), known))
        # what lies behind a lease that was only remembered is a value, which stays
        yield from self._swap(swaps, verify=True)
        for swap in swaps:
            if swap.error is not None:
                raise swap.error

    def _gone(self, name: str) -> Any:
        return lambda cas: meta.delete(self._key(name), b"C%d" % cas)

    def _value(self, fill: Fill, life: tuple[int, int] | None) -> Any:
        """The command that stores it, of the number for compare-and-swap; None: it cannot be stored."""
        if life is None:
            self._store.count("short")
            return None
        if len(fill.data) > self._store.item_size:
            self._store.count("large")
            return None
        seconds, more = life
        kind = NUMBER if len(fill.data) <= 20 and PLAIN.fullmatch(fill.data) else VALUE
        key, flags = self._key(fill.name), kind | more << SHIFT
        return lambda cas: meta.put(key, fill.data, b"T%d F%d C%d" % (seconds, flags, cas))

    def _swap(self, swaps: Sequence[Swap], verify: bool = False) -> Steps[None]:
        """Replace each lease or hold if it is still there. verify: compare the token in any case."""
        left = list(swaps)
        if verify:
            for swap in left:
                swap.known = None
        for _ in range(2 * TRIES):
            if not left:
                return
            items = []
            for swap in left:
                if swap.known is not None:
                    item = Item(
                        self._node(swap.name), (swap.command(swap.known.cas),), swap.known.newest
                    )
                else:
                    item = Item(self._node(swap.name), (meta.get(self._key(swap.name), b"v f c"),))
                items.append(item)
            outcomes = yield from self._ask(items)
            left = [
                swap
                for swap, outcome in zip(left, outcomes, strict=True)
                if not self._swapped(swap, outcome)
            ]

    def _swapped(self, swap: Swap, outcome: Outcome) -> bool:
        """Whether this is settled."""
        if isinstance(outcome, StoreError):
            swap.error = outcome
            return True
        if outcome is None:
            swap.known = None
            return False
        reply = outcome.replies[0]
        if swap.known is None:  # that was to see what is there
            if (
                reply.code != b"VA"
                or reply.number(b"f") & KIND != swap.kind
                or reply.data != swap.token
            ):
                self._store.count("void")
                return True
            swap.known = Known(reply.number(b"c"), outcome.newest)
            return False
        swap.done = reply.code == b"HD"
        if not swap.done and not self._store.refused(reply):
            self._store.count("void")
        return True

    # ---- invalidation ----------------------------------------------------------------------------

    def put(self, fills: Sequence[Fill], targets: Sequence[Target]) -> Steps[list[bool]]:
        """Without a token the name is held first, so that a request that is late replaces nothing newer."""
        lives = yield from self._lives([(fill.name, fill.ttl) for fill in fills])
        swaps = [
            Swap(fill.name, fill.token, HOLD, self._value(fill, life), None)
            for fill, life in zip(fills, lives, strict=True)
        ]
        going = [i for i, swap in enumerate(swaps) if swap.command is not None]
        fresh = [i for i in going if not swaps[i].token]
        own = os.urandom(16)
        # long enough for the requests that follow
        guard = at_least(2 * (self._store.trip + self._store.connect_timeout))
        items = []
        for i in fresh:
            swaps[i].token = own
            flags = b"T%d F%d c" % (guard, HOLD)
            hold = meta.put(self._key(swaps[i].name), own, flags)
            items.append(Item(self._node(swaps[i].name), (hold, self._advance(swaps[i].name))))
        answers = yield from self._ask_all(items)
        messages = []
        for i, answer in zip(fresh, answers, strict=True):
            held, counter = answer.replies
            if held.code == b"HD":
                swaps[i].known = Known(held.number(b"c"), answer.newest)
            else:
                self._store.refused(held)
                going.remove(i)
            messages.append((targets[i], counter))
        yield from self._swap([swaps[i] for i in going])
        for i in going:
            error = swaps[i].error
            if error is not None:
                raise error
        told = [i for i in going if swaps[i].done and i not in fresh]
        answers = yield from self._ask_all(
            [Item(self._node(swaps[i].name), (self._advance(swaps[i].name),)) for i in told]
        )
        messages += [(targets[i], a.replies[0]) for i, a in zip(told, answers, strict=True)]
        yield from self._tell(messages)
        return [swap.done for swap in swaps]

    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        # holds end too, whoever's they are: to leave them would take two more round trips
        yield from self._remove(
            targets, [(meta.delete(self._key(target.name)),) for target in targets]
        )

    def hold(self, targets: Sequence[Target], token: bytes, ttl: float) -> Steps[None]:
        flags = b"T%d F%d" % (at_least(ttl), HOLD)
        answers = yield from self._remove(
            targets, [(meta.put(self._key(target.name), token, flags),) for target in targets]
        )
        for target, answer in zip(targets, answers, strict=True):
            if answer.replies[0].code != b"HD":
                raise self._store.failure(self._node(target.name), answer.replies[0])

    def _remove(
        self, targets: Sequence[Target], commands: Sequence[Sequence[Command]]
    ) -> Steps[list[Answer]]:
        """Do that to each item, then advance its counter, then tell."""
        answers = yield from self._ask_all(
            [
                Item(self._node(target.name), (*first, self._advance(target.name)))
                for target, first in zip(targets, commands, strict=True)
            ]
        )
        yield from self._tell(
            [(t, answer.replies[-1]) for t, answer in zip(targets, answers, strict=True)]
        )
        return answers

    def _tell_of_less(self, target: Target) -> Steps[None]:
        """Elsewhere it may be kept for as long as was left before."""
        item = Item(self._node(target.name), (self._advance(target.name),))
        (answer,) = yield from self._ask_all([item])
        yield from self._tell([(target, answer.replies[-1])])

    def _advance(self, name: str) -> Command:
        return meta.add(self._counter(bucket_of(name)), b"N0 J%d v" % incarnation())

    def _tell(self, told: Sequence[tuple[Target, Reply]]) -> Steps[None]:
        """After counters were advanced. One that could not be is an error, unless nobody has it: then whoever
        makes it makes another."""
        for target, reply in told:
            if reply.code == b"VA":
                continue
            node = self._node(target.name)
            key = self._counter(bucket_of(target.name))
            (seen,) = yield from self._ask_all([Item(node, (meta.get(key),))])
            if seen.replies[0].code == b"VA":
                raise self._store.failure(node, reply)
        if self._outer is not None and told:
            yield from self._through(self._outer.invalidate([target for target, _ in told]))

    def incr(self, target: Target, delta: int, initial: int, ttl: float | None) -> Steps[int]:
        key, node = self._key(target.name), self._node(target.name)
        (life,) = yield from self._lives([(target.name, ttl)])
        seconds, _ = life or (1, 0)
        new = b"F%d T%d " % (NUMBER, seconds)
        advance = self._advance(target.name)
        for _ in range(CONTENDED):
            (seen,) = yield from self._ask_all([Item(node, (meta.get(key, b"v f t c"),))])
            reply = seen.replies[0]
            newest: int | None = seen.newest
            if reply.code != b"VA":
                value, newest = initial + delta, None
                change = meta.put(key, b"%d" % value, new + b"ME")
            else:
                kind, swap = reply.number(b"f") & KIND, b"C%d" % reply.number(b"c")
                if kind == VALUE:
                    raise TypeError(f"{target.name!r} holds a value that is no counter")
                if kind == NUMBER:
                    old = integer(reply, self._store.where)
                    value = old + delta
                    change = changed(key, old, value, swap, reply)
                else:
                    value = initial + delta
                    change = meta.put(key, b"%d" % value, new + swap)
            if not -LIMIT <= value < LIMIT:
                raise OverflowError(f"{target.name!r} would become {value}, beyond 64 bits")
            (outcome,) = yield from self._ask([Item(node, (change, advance), newest)])
            if outcome is None:
                continue
            done, counter = answer_of(outcome).replies
            if done.code in (b"HD", b"VA"):
                yield from self._tell([(target, counter)])
                return value
            if done.code == b"SERVER_ERROR":
                raise self._store.failure(node, done)
        raise StoreError(self._store.where, "other", f"{target.name!r} changes all the time")

    def touch(self, target: Target, stamp: bytes, ttl: float | None) -> Steps[bool]:
        """By the command that keeps an item's number, so that leases that are on this value stay good. It cannot
        be made to depend on that number; where it has met another item, that one goes."""
        key, node = self._key(target.name), self._node(target.name)
        (life,) = yield from self._lives([(target.name, ttl)])
        (answer,) = yield from self._ask_all([Item(node, (meta.get(key, b"v f t c"),))])
        seen = answer.replies[0]
        if (
            seen.code != b"VA"
            or seen.number(b"f") & KIND not in (VALUE, NUMBER)
            or not seen.data.startswith(stamp)
        ):
            return False
        swap = b"C%d" % seen.number(b"c")
        if life is None:
            command = meta.delete(key, swap)
        else:
            # what the flags say beyond whole seconds stays
            more = seen.number(b"f") >> SHIFT & 0x3FF
            seconds = life[0] - (more > life[1]) if ttl is not None else 0
            if seconds < 1 and ttl is not None:
                command = meta.delete(key, swap)
            else:
                command = meta.get(key, b"T%d f c" % seconds)
        (outcome,) = yield from self._ask([Item(node, (command,), answer.newest)])
        if outcome is None:
            return False
        reply = answer_of(outcome).replies[0]
        if reply.code != b"HD" or not command.wants:
            if reply.code == b"HD":
                yield from self._tell_of_less(target)
            return reply.code == b"HD"
        if reply.number(b"c") == seen.number(b"c"):
            was = seen.number(b"t")
            if ttl is not None and (was < 0 or ttl < was + 1):
                yield from self._tell_of_less(target)
            return True
        if reply.number(b"f") & KIND != HOLD:  # which may last longer
            swap = b"C%d" % reply.number(b"c")
            yield from self._ask_all([Item(node, (meta.delete(key, swap),))])
        return False
