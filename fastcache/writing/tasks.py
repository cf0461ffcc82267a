"""The awaited faces of a write-behind: they never block the event loop.

A write at "memory" touches memory only, and is carried out at once. One that has to be kept is given to a
thread, which commits all that have come meanwhile in one transaction.
"""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from fastcache._types import MISSING, Uncopied
from fastcache.writing.errors import QueueFull
from fastcache.writing.ops import DELETE, INCR, PUT, Op
from fastcache.writing.queue import Queue
from fastcache.writing.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from fastcache.writing.drain import Drainer
    from fastcache.writing.ticket import Item


class TaskFaces(Uncopied):
    """What `WriteBehind` inherits."""

    _queue: Queue
    _drainer: Drainer
    _on_full: str
    _block_timeout: float | None
    _closing: threading.Lock
    _committing: queues.SimpleQueue[bool] | None

    if TYPE_CHECKING:

        def pending(self, key: Hashable) -> Op | None: ...
        def _items(self, ops: Sequence[Op]) -> list[Item]: ...
        def _start(self) -> None: ...
        def _handle_full(self, items: Sequence[Item]) -> bool: ...
        def flush(self, timeout: float | None = None) -> bool: ...
        def close(self, timeout: float | None = None) -> bool: ...

    async def aput(self, key: Hashable, value: Any) -> None:
        """`put`, without blocking the event loop."""
        await self._aaccept([self._queue.item(PUT, key, value)])

    async def adelete(self, key: Hashable) -> None:
        await self._aaccept([self._queue.item(DELETE, key, None)])

    async def aincr(self, key: Hashable, delta: int = 1, initial: int = 0) -> None:
        await self._aaccept([self._queue.item(INCR, key, delta, initial)])

    async def awrite(self, ops: Sequence[Op]) -> None:
        await self._aaccept(self._items(ops))

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """`flush`, in a thread."""
        import asyncio

        return await asyncio.to_thread(self.flush, timeout)

    async def acurrent(self, key: Hashable, load: Callable[[Any], Awaitable[Any]]) -> Any:
        """`current` of an awaited load. Where an incr is pending, and a batch was applied while the source was
        read, it is read again: what was read may have the incr or not."""
        import asyncio

        drainer, pause = self._drainer, 0.001
        while True:
            before, op = drainer.applications, self.pending(key)
            if op is not None and op.kind != INCR:
                return op.over(MISSING)
            if op is None or not drainer.applying.locked():
                value = await load(key)
                if op is None:
                    return value
                op = self.pending(key)
                if drainer.applications == before:
                    return value if op is None else op.over(value)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """`close`, in a thread."""
        import asyncio

        return await asyncio.to_thread(self.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _aaccept(self, items: Sequence[Item]) -> None:
        import asyncio

        queue = self._queue
        deadline = None
        while True:
            if not queue.journaled:
                if queue.accept(items):
                    break
            elif not (await self._ticket(items)).full:
                break
            self._start()
            if self._on_full == "write_through":
                if await asyncio.to_thread(self._handle_full, items):
                    return
                continue
            self._handle_full(items)
            if deadline is None and self._block_timeout is not None:
                deadline = time.monotonic() + self._block_timeout
            await self._await_room(items, deadline)
        if self._drainer.thread is None:
            self._start()

    async def _ticket(self, items: Sequence[Item]) -> Ticket:
        """Have the committing thread keep these, together with what other tasks want kept. A task that is
        cancelled meanwhile does not know whether they were."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(resolve)

        ticket = Ticket(items, done)
        committing = self._committing or self._start_committing()
        self._queue.submit(ticket)
        if committing is not None:
            committing.put(True)
        if self._queue.closed:
            self._queue.serve()  # that thread may be gone
        await future
        if ticket.error is not None:
            raise ticket.error
        return ticket

    def _start_committing(self) -> queues.SimpleQueue[bool] | None:
        """The queue of its thread; None: there will be none, the write-behind is closed."""
        # not under `_closing`, for which an event loop would wait as long as a flush takes
        with self._queue.lock:
            if self._committing is None and not self._queue.closed:
                self._committing = queues.SimpleQueue()
                threading.Thread(
                    target=self._commit_for_tasks,
                    args=(self._committing,),
                    name="fastcache-commit",
                    daemon=True,
                ).start()
            return self._committing

    def _commit_for_tasks(self, calls: queues.SimpleQueue[bool]) -> None:
        while True:
            go_on = calls.get()
            while not calls.empty():  # one commit serves all that wait
                go_on = calls.get() and go_on
            self._queue.serve()
            if not go_on:
                return

    def _stop_committing(self) -> None:
        """Let the thread end, when it has served those who wait."""
        if self._committing is not None:
            self._committing.put(False)

    async def _await_room(self, items: Sequence[Item], deadline: float | None) -> None:
        import asyncio

        queue = self._queue
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        while True:
            with queue.lock:
                if queue.room(items) or queue.closed:
                    return
                queue.waiters.append(wake)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise QueueFull(
                    f"{queue.count} operations wait, also after {self._block_timeout} s"
                )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(woken.wait(), left)
            woken.clear()
