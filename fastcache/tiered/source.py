"""The source behind a tiered cache, as far as it is written: before the tiers, through a writer.

The keys are held in L2 (so that nobody fills them with what the source had before, and a crash in between costs
nothing but misses), the writer takes the write, and the value is put into L2 if the hold was undisturbed, else all
tiers are told. Write-through: the source has it by then. Write-behind: it is acknowledged; until the source has
it this process reads what it has acknowledged, and once it has, all tiers are told to forget it, so that what is
read next is the source's. An L1 that shares with nobody keeps what it has then.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from fastcache._types import MISSING
from fastcache.stores.protocol import StoreError
from fastcache.tiered.drivers import carry
from fastcache.tiered.loads import ask
from fastcache.writing.ops import INCR, PUT, Op, heard
from fastcache.writing.through import WriteThrough

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from fastcache.loading.loader import Doing
    from fastcache.tiered.core import Core


class Source:
    """The writer of one tiered cache. Safe from any thread and event loop.

    writer: a WriteThrough, a WriteBehind, or a writer, which is taken as write-through.
    """

    _writing: Counter[Hashable]

    def __init__(self, core: Core, writer: Any) -> None:
        self.writer: Any = writer if hasattr(writer, "pending") else WriteThrough(writer)
        self.through = isinstance(self.writer, WriteThrough)
        self._core = weakref.ref(core)
        self._write = self.writer.awrite if core.asynchronous else self.writer.write
        self._others: Callable[[Sequence[Hashable]], object] | None = None
        self.forked()

    def forked(self) -> None:
        """In a child: nothing is being written, and nobody has the lock."""
        self._writing = Counter()
        self._lock = threading.RLock()

    def listen(self) -> None:
        """From now on be told what the source has."""
        self._others = self.writer.on_applied
        self.writer.on_applied = self.applied

    def applied(self, keys: Sequence[Hashable]) -> None:
        """The source has changed. What was not written just now through the tiers is invalidated."""
        core = self._core()
        sure: Any = getattr(keys, "sure", ())
        with self._lock:
            mine = {key for key in keys if self._writing[key] > 0}
        left = [key for key in keys if key not in mine]
        if core is not None and core.link is None:
            left = [key for key in left if not (key in sure and self._is_kept(core, key))]
        if core is not None and getattr(keys, "local", False):
            for key in left:
                core.l1.delete(key)
        elif core is not None and left:
            carry(core.writes.invalidate(left), core.blocking)
        if self._others is not None:
            self._others(keys)

    def _is_kept(self, core: Core, key: Hashable) -> bool:
        """Whether L1 has what was acknowledged last, and not what came before a write that was interrupted, or
        was the first of two at once."""
        op = self.writer.pending(key)
        return op is not None and core.l1.peek(key, op) is op.value

    @property
    def version(self) -> int:
        """No write that was acknowledged has a later version."""
        return int(getattr(self.writer, "version", 0))

    heard = staticmethod(heard)

    # ---- writing -----------------------------------------------------------------------------------

    def put(self, items: Mapping[Any, Any]) -> Doing[bytes | None]:
        """The token with which the values may be put into L2, b"" for any; None: they may not, so that
        everyone is to be told instead. The caller has cleared L1 of them, and watches it."""
        token, _ = yield from self._carry_out([Op.put(key, value) for key, value in items.items()])
        return token

    def delete(self, keys: Iterable[Any]) -> Doing[bytes | None]:
        """The token of the hold that the invalidation ends."""
        keys = list(keys)
        self._clear(keys)
        token, _ = yield from self._carry_out([Op.delete(key) for key in keys])
        return token

    def incr(self, key: Any, delta: int, initial: int) -> Doing[int | None]:
        """What the source has now, or will have; None: the writer does not say, and there is no loader."""
        core = self._core()
        assert core is not None
        self._clear([key])
        token, counters = yield from self._carry_out([Op.incr(key, delta, initial)])
        yield from core.writes.invalidate([key], token or b"")
        if counters and key in counters:
            return int(counters[key])
        if not core.has_loader:
            return None
        value = yield from self.current(key)
        return None if value is MISSING else int(value)

    def _clear(self, keys: list[Any]) -> None:
        core = self._core()
        assert core is not None
        for key in keys:
            core.l1.delete(key)

    def _carry_out(self, ops: list[Op]) -> Doing[tuple[bytes | None, Any]]:
        core = self._core()
        assert core is not None
        keys = [op.key for op in ops]
        core.counts.add("writes", len(ops))
        token: bytes | None = b""
        if self.through or any(op.kind == PUT for op in ops):  # else nothing is put into L2
            token = yield from self._hold(keys)
        if self.through:
            with self._lock:
                self._writing.update(keys)
        try:
            counters, error = yield self._write, (ops,), {}
        except BaseException:
            # cancelled or interrupted: the source may have it, or get it
            if core.link is not None:
                core.link.arrears.postpone([core.target(key) for key in keys])
            for key in keys:
                core.l1.delete(key)
            raise
        finally:
            if self.through:
                self._written(keys)
        if error is not None:
            yield from core.writes.invalidate(keys, token or b"")  # it may have been committed
            raise error
        return token, counters

    def _written(self, keys: list[Any]) -> None:
        with self._lock:
            self._writing.subtract(keys)
            for key in keys:
                if self._writing[key] <= 0:
                    del self._writing[key]

    def _hold(self, keys: list[Any]) -> Doing[bytes | None]:
        """So that nobody fills them from what the source has before the write."""
        core = self._core()
        assert core is not None
        if core.space is None:
            return b""
        if core.link is not None:
            core.link.start()
        token = os.urandom(16)
        if core.gate.asks():
            targets = [core.target(key) for key in keys]
            assert core.link is not None
            try:
                with core.link.arrears.expecting(targets):
                    yield from ask(core.send, core.space.hold(targets, token, core.options.lease))
                return token
            except StoreError as error:
                core.failed(error)
                core.link.arrears.doubt(targets)
        return None

    def is_last(self, key: Any, value: Any) -> bool:
        """Whether L1 may keep this value, which it has just stored: of two at once, who is first to store there need
        not be the first who was acknowledged. A write-through is not asked."""
        return bool(self.through or self.writer.is_last(key, value))

    # ---- reading -----------------------------------------------------------------------------------

    def pending(self, key: Any) -> Any:
        """What was acknowledged and is not in the source yet: the value, or MISSING; `...`: nothing, or
        only a number to be added, for which see `current`."""
        op = self.writer.pending(key)
        return ... if op is None or op.kind == INCR else op.over(MISSING)

    def adds(self, key: Any) -> bool:
        """Whether a number waits to be added to what the source has."""
        op = self.writer.pending(key)
        return op is not None and op.kind == INCR

    def current(self, key: Any) -> Doing[Any]:
        """The source's value with what waits to be added."""
        core = self._core()
        assert core is not None
        if not core.has_loader:
            return MISSING
        current = self.writer.acurrent if core.asynchronous else self.writer.current
        value, error = yield current, (key, core.loader), {}
        if error is not None:
            raise error
        return value
