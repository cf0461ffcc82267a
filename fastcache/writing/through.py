"""Write-through: a write returns when the source has it.

The same surface as `WriteBehind`, so that a tiered cache need not know which one it has.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from fastcache._types import Uncopied
from fastcache.writing.errors import WritingError
from fastcache.writing.ops import DELETE, INCR, PUT, Applied, Batch, Clock, Op, coalesce
from fastcache.writing.options import callable_if_any, check_int
from fastcache.writing.writers import as_writer, checker, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

#: How often a write that met a later version is tried with a version later than that.
_TRIES = 8


class WriteThrough(Uncopied):
    """Hands each write to a writer (see fastcache.writing.writers), and returns when the source has it. Safe
    from all threads, if the writer is; the awaited faces call it in a thread.

    on_applied: called with the keys once the source has them; also, before the error is raised, when a
    write failed in a way that leaves open whether the source has it.

    A write that meets a later version in the source (of a host whose clock is ahead) is the later one all
    the same, since it comes later; it is repeated with a version that says so.
    """

    def __init__(
        self, writer: Any, *, on_applied: Callable[[Sequence[Hashable]], object] | None = None
    ) -> None:
        self._writer = as_writer(writer)
        callable_if_any("on_applied", on_applied)
        self._check = checker(self._writer)
        self._clock = Clock()
        self.name = name_of(writer)
        self.on_applied = on_applied
        self._after_fork()
        _all.add(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._clock.restart()

    def __repr__(self) -> str:
        return f"<WriteThrough to {self.name}>"

    @property
    def version(self) -> int:
        """None of what was written has a later version."""
        return self._clock.latest

    def put(self, key: Hashable, value: Any) -> None:
        """Store a value in the source."""
        self.write([Op(PUT, key, value)])

    def delete(self, key: Hashable) -> None:
        """Delete a key from the source, whether it is there or not."""
        self.write([Op(DELETE, key)])

    def incr(self, key: Hashable, delta: int = 1, initial: int = 0) -> int | None:
        """Add to a number in the source; what it is then, if the writer says so."""
        return self.write([Op(INCR, key, delta, initial)]).get(key)

    def write(self, ops: Sequence[Op]) -> dict[Hashable, int]:
        """Carry out operations, all or none; what the keys that were incremented have now, if the writer
        says so. What the writer raises."""
        for op in ops:
            if op.kind == INCR:
                check_int("delta", op.value)
                check_int("initial", op.initial)
            if self._check is not None:
                self._check(op.kind, op.key)
        left = list(ops)
        counters: dict[Hashable, int] = {}
        for _ in range(_TRIES):
            applied = self._apply(left)
            counters.update(applied.counters or {})
            if not applied.superseded:
                return counters
            late = {(op.kind, op.key) for op in applied.superseded}
            left = [op for op in left if (op.kind, op.key) in late]
        raise WritingError(f"{self.name}: others write {left[0].key!r} all the time")

    def _apply(self, ops: Sequence[Op]) -> Applied:
        with self._lock:
            batch = Batch(coalesce(op.at(self._clock.tick()) for op in ops))
        keys = list(dict.fromkeys(op.key for op in ops))
        try:
            applied = self._writer.apply(batch) or Applied()
        except BaseException:
            self._tell(keys)  # it may have been committed
            raise
        with self._lock:
            self._clock.seen(applied.latest)
        self._tell(keys)
        return applied

    def _tell(self, keys: Sequence[Hashable]) -> None:
        if self.on_applied is not None:
            self.on_applied(keys)

    async def aput(self, key: Hashable, value: Any) -> None:
        await self.awrite([Op(PUT, key, value)])

    async def adelete(self, key: Hashable) -> None:
        await self.awrite([Op(DELETE, key)])

    async def aincr(self, key: Hashable, delta: int = 1, initial: int = 0) -> int | None:
        return (await self.awrite([Op(INCR, key, delta, initial)])).get(key)

    async def awrite(self, ops: Sequence[Op]) -> dict[Hashable, int]:
        """`write`, in a thread. A task that is cancelled does not know whether it was carried out."""
        import asyncio

        return await asyncio.to_thread(self.write, ops)

    def pending(self, key: Hashable) -> Op | None:
        """Nothing ever is."""
        return None

    def current(self, key: Hashable, load: Callable[[Any], Any]) -> Any:
        """What the source has."""
        return load(key)

    async def acurrent(self, key: Hashable, load: Callable[[Any], Awaitable[Any]]) -> Any:
        return await load(key)

    def flush(self, timeout: float | None = None) -> bool:
        """Nothing waits."""
        return True

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        return True

    def close(self, timeout: float | None = None) -> bool:
        """Nothing to do: the writer belongs to who made it."""
        return True

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_all: weakref.WeakSet[WriteThrough] = weakref.WeakSet()


def _after_fork() -> None:
    for through in list(_all):
        through._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
