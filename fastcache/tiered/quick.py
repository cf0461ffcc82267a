"""The usual cases, for threads: a miss of L1 where L2 has a value that may be returned as it is, and a write that
is acknowledged before it is made.

The rules are those of loads.py and writes.py, which take over whenever anything is unusual; the former is told
what L2 has answered, so that it does not ask again. What is saved are the generators in between, which take longer
than all else that is ours: a load may have to wait and to call, this only reads. There is nothing like it for
tasks, where reading is waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcache._core import kept, land_many, unwatch, watch
from fastcache._keys import encode
from fastcache.loading.threads import ThreadLoader
from fastcache.stores.protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache._core import Flight
    from fastcache.loading.loader import Call
    from fastcache.tiered.core import Core

#: Instead of what L2 answered: it was not to be asked.
UNASKED = object()


class QuickLoader(ThreadLoader):
    """What comes before ThreadTierLoads. Safe from any thread."""

    core: Core

    def fetch(self, call: Call, again: bool = False) -> Any:
        """The value of a call that L1 does not have, or may not serve."""
        led: list[Flight] = []
        try:
            if not again and self._is_usual(call):
                flight, leads = self._board(call, False, led)
                if leads and flight.running:
                    landed, found = self._look(flight, call)
                    if landed:
                        return found
                    call = call._replace(seen=[found])
                del flight
            return self._run(self.obtain(call, again=again, led=led), call)
        finally:
            while led:
                led.pop().abandon()

    def _is_usual(self, call: Call) -> bool:
        """Whether nothing but reading L2 comes before a load."""
        core = self.core
        link = core.link
        return (
            core.space is not None
            and core.source is None
            and not (core.tracks or call.anew)
            and self.soft_timeout is None
            and self.hard_timeout is None
            and (core.shares_memory or link is None or link.tried.is_set())
            and not (self.rules.keeps and kept(call.cache, call.key) is not None)
        )

    def _look(self, flight: Flight, call: Call) -> tuple[bool, Any]:
        """Read L2, and end the flight with the value that it has: (True, the value). Else (False, what L2 has
        answered), and the rest is for a load to do. TypeError, ValueError: the key can have no name."""
        core, rules = self.core, self.rules
        if core.shares_memory:
            core.look()  # nothing that is read from now on is older than this
        encoded, name = core.place(call.key)
        if not core.may_ask(name):
            return False, UNASKED
        store, values = core.store, core.values
        assert store is not None
        try:
            found = store.run(core.space.read(name, primary=core.level == "strong"))
        except StoreError as error:
            return False, error
        core.gate.succeeded()
        usual = None if found is None else values.usual(found, encoded)
        if usual is not None and rules.copier is None:
            value, fresh, sequence = usual
            due = rules.early is not None or rules.refresh is not None
            if core.book.lives(sequence) and (fresh is None or (fresh > 0 and not due)):
                core.counts.add("l2_hits")
                extra = rules.stale if rules.stale > rules.grace else rules.grace
                values.land(flight, call.key, name, value, fresh, extra=extra)
                return True, value
        return False, found


def usual_set(core: Core) -> Callable[[Any, Any], None] | None:
    """set(key, value) without more, where a write-behind is all that there is below L1; None elsewhere."""
    from fastcache.writing.behind import WriteBehind

    source = core.source
    if source is None or not isinstance(source.writer, WriteBehind):
        return None
    if core.asynchronous or core.link is not None or core.options.jitter:
        return None
    l1, count = core.l1, core.counts.add
    put, is_last = source.writer.put, source.writer.is_last
    ttl, _ = core.values.l1_ttl(core.options.ttl)
    extra = 0.0 if core.options.ttl is None else max(core.options.stale, core.options.grace)

    def usually(key: Any, value: Any) -> None:
        encode(key)  # TypeError, ValueError: as of all keys that are written
        count("writes")
        l1.delete(key)
        watched = watch(l1)
        try:
            put(key, value)
            # Where somebody else writes or drops the same key now, neither value stays, and what waits decides.
            landed = land_many(l1, watched, ((key, value, ttl, extra, ()),))
            if not (landed and is_last(key, value)):
                l1.delete(key)
        finally:
            unwatch(l1)

    return usually
