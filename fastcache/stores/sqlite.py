"""SQLiteStore: an L2 in a file, shared by the processes of one host. It needs nothing that Python lacks.

The parts: `_sqlite_file.py` opens, locks and replaces the file, `_generations.py` is the memory that the
processes share, `_sqlite_space.py` has the operations, `_sqlite_changes.py` what they write.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from fastcache._living import Living
from fastcache._redact import shown
from fastcache.stores import _sqlite_file
from fastcache.stores._generations import (
    MovedError,
)
from fastcache.stores._sqlite_file import Database, is_corrupt, kind_of
from fastcache.stores._sqlite_path import checked_path
from fastcache.stores._sqlite_space import SQLiteSpace
from fastcache.stores.protocol import (
    Store,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import ThreadPoolExecutor

    from fastcache.stores.protocol import Steps, T

    Changed = Iterable[int]

_NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_STORES: Living[SQLiteStore] = Living()


class SQLiteStore(Store):
    """An L2 in a SQLite file, which the processes of one host share and which survives them.

    path: str or path of the file; two more are made beside it while it is in use, and `-gen` for good.
    max_bytes: of all values with their names and overhead; what is beyond is evicted, the expired
    first, then what was not read lately. The file itself takes up to twice as much. A value of
    more than an eighth is not stored. timeout: seconds after which a request is given up.

    Nothing is opened before it is needed. ValueError: the path cannot be used: its directory is missing, it is
    one itself, it lies in a network file system. Safe from several threads and event loops (whose
    requests run in one thread of their own), and across `fork`. Each operation is O(log entries).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 256 << 20,
        timeout: float = 0.5,
    ) -> None:
        self.where = self.path = checked_path(path)
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes must be an int, got {max_bytes!r}")
        if max_bytes < 1 << 16:
            raise ValueError(f"max_bytes must be at least {1 << 16}, got {max_bytes!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
        if not 0 < timeout <= 3600:
            raise ValueError(
                f"timeout must be more than 0 and at most 3600 seconds, got {timeout!r}"
            )
        self.max_bytes = max_bytes
        self.trip = float(timeout)
        self._file = Database(self.path, self.trip)
        #: an RLock because it knows whether this thread has it; it is never taken twice
        self._lock: Any = threading.RLock()
        self._closed = False
        self._executor: ThreadPoolExecutor | None = None
        _STORES.add(self)
        # a store that is dropped, or never closed, leaves no connection to the collector
        # not at exit: daemon threads may be at it, and what SQLite has is the kernel's already
        weakref.finalize(self, self._file.disconnect).atexit = False

    def __repr__(self) -> str:
        return f"SQLiteStore({self.path!r})"

    # ---- requests ------------------------------------------------------------------------------

    def send(self, request: Any) -> Any:
        """Carry out one request: a function and its arguments. StoreError."""
        return self._send(request, time.monotonic() + self.trip)

    def _send(self, request: Any, limit: float) -> Any:
        lock, file = self._lock, self._file
        if lock._is_owned():
            raise StoreError(
                self.where,
                "timeout",
                "asked by a __del__ or a signal handler in the midst of another request",
            )
        waited = not lock.acquire(False)
        if waited and not lock.acquire(timeout=max(0.0, limit - time.monotonic())):
            raise StoreError(self.where, "timeout", f"busy for more than {self.trip} seconds")
        try:
            if self._closed:
                raise StoreError(self.where, "closed", "the store is closed")
            file.limit = limit
            if waited:
                file.wait_at_most(limit - time.monotonic())
            function = request[0]
            for last in (False, False, True):
                try:
                    return function(*request[1:])
                except (sqlite3.Error, OSError, MovedError) as error:
                    if last or not self._repaired(error):
                        raise self._as_store_error(error) from error
        finally:
            if waited:
                file.wait_as_usual()
            lock.release()

    def run_at_once(self, steps: Steps[T]) -> T:
        """`run`, without waiting for another thread or process: else StoreError, kind "timeout"."""
        return self.run(steps, self._send_at_once)

    def _send_at_once(self, request: Any) -> Any:
        if not self._file.is_open:
            raise StoreError(self.where, "timeout", "the file is not open yet")
        return self._send(request, time.monotonic())

    async def apart(self, function: Callable[[], T]) -> T:
        """function(), which may block, in the store's thread. StoreError: that has ended."""
        import asyncio

        loop, thread = asyncio.get_running_loop(), self._thread()
        try:
            running = loop.run_in_executor(thread, function)
        except RuntimeError as error:  # closed since, or the interpreter ends
            raise StoreError(self.where, "closed", str(error)) from None
        return await running

    def _repaired(self, error: Exception) -> bool:
        """Whether the request may be tried once more."""
        if isinstance(error, MovedError):
            self._file.disconnect()
            return True
        if isinstance(error, sqlite3.Error) and is_corrupt(error):
            try:
                self._file.replace(error)
            except (OSError, MovedError) as another:
                raise self._as_store_error(another) from error
            return True
        if kind_of(error) == "file":
            self._file.disconnect()
        return False

    def _as_store_error(self, error: Exception) -> StoreError:
        return StoreError(self.where, kind_of(error), str(error) or type(error).__name__)

    async def asend(self, request: Any) -> Any:
        """Carry out one request in the store's thread. StoreError. One whose caller is cancelled is
        dropped, or, if it runs already, ends unseen."""
        import asyncio

        limit = time.monotonic() + self.trip
        loop, thread = asyncio.get_running_loop(), self._thread()
        try:
            running = loop.run_in_executor(thread, self._send, request, limit)
        except RuntimeError as error:  # closed since, or the interpreter ends
            raise StoreError(self.where, "closed", str(error)) from None
        try:
            async with asyncio.timeout(self.trip):
                return await running
        except TimeoutError:
            text = f"no answer in {self.trip} seconds"
            raise StoreError(self.where, "timeout", text) from None

    def _thread(self) -> ThreadPoolExecutor:
        executor = self._executor
        if executor is None:
            if self._closed:
                raise StoreError(self.where, "closed", "the store is closed")
            from concurrent.futures import ThreadPoolExecutor

            # two loops may come here at once: the loser's has no thread yet
            executor = ThreadPoolExecutor(1, f"fastcache {os.path.basename(self.path)}")
            if self._executor is None:
                self._executor = executor
            executor = self._executor
        return executor

    def check(self) -> Steps[None]:
        """Whether the file can be opened and written. StoreError."""
        yield (self._check,)

    def _check(self) -> None:
        if sqlite3.sqlite_version_info < (3, 35):
            text = f"SQLite 3.35 or newer is needed, this is {sqlite3.sqlite_version}"
            raise StoreError(self.where, "old", text)
        self._file.begin()
        self._file.rollback()

    def space(self, namespace: str, origin: bytes) -> SQLiteSpace:
        """The operations on one name space. ValueError: no name for one."""
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(
                f"namespace must be 1 to 64 of A-Z a-z 0-9 _ . : -, got {shown(namespace)}"
            )
        return SQLiteSpace(self, namespace, origin)

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Write everything out, so that it is kept over a reboot, and close the file. Takes as long as the disk."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._file.limit = time.monotonic() + self.trip
            self._file.close()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    async def aclose(self) -> None:
        """`close` in the store's thread."""
        import asyncio

        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(None, self.close)

    def _before_fork(self) -> bool:
        """Nothing of SQLite is open or running while the process forks: it would believe that the child has
        the parent's locks."""
        if self._lock._is_owned() or not self._lock.acquire(timeout=2 * self.trip):
            return False
        self._file.disconnect()
        return True

    def _in_child(self, locked: bool) -> None:
        self._lock = threading.RLock()
        self._executor = None
        self._file.forked(in_use=not locked)


_forking: list[tuple[SQLiteStore, bool]] = []


def _before_fork() -> None:
    _forking[:] = [(store, store._before_fork()) for store in _STORES.all()]


def _after_fork_in_parent() -> None:
    for store, locked in _forking:
        if locked:
            store._lock.release()
    _forking.clear()


def _after_fork_in_child() -> None:
    _sqlite_file._MAKING = threading.Lock()
    for store, locked in _forking:
        store._in_child(locked)
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
