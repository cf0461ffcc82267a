"""What the parts of the conformance suite stand on: a store seen through one of its two faces."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from fastcache.stores.protocol import Fill, Found, Target, bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastcache.stores.protocol import Space, Steps, Store

    T = TypeVar("T")

#: Seconds after which something that has to come counts as missing. Never slept for.
LIMIT = 20.0
#: Seconds of the leases and values that are not meant to end during a test.
LONG = 600.0


def name_of(number: int, kind: str = "key") -> str:
    """A name as tiers make them."""
    readable = f"{kind}:{number}"
    return f"{readable}:{hashlib.blake2b(readable.encode(), digest_size=16).hexdigest()}"


def target_of(name: str) -> Target:
    return Target(name, name.encode())


def until(condition: Callable[[], T | None]) -> T:
    """What condition() returns as soon as that is true; AssertionError after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{condition!r} did not come true in {LIMIT} seconds"
        time.sleep(0.002)
    return result


class Client:
    """One store object and a name space of it, through Store.run or Store.arun."""

    def __init__(self, store: Store, namespace: str, runner: asyncio.Runner | None) -> None:
        self.store = store
        self.namespace = namespace
        self.runner = runner
        self.origin = os.urandom(8)
        self.space: Space = store.space(namespace, self.origin)

    def __call__(self, steps: Steps[T]) -> T:
        """The result of an operation."""
        if self.runner is None:
            return self.store.run(steps)
        return self.runner.run(self.store.arun(steps))

    def elsewhere(self, namespace: str) -> Client:
        """Another name space of the same store."""
        return Client(self.store, namespace, self.runner)

    # ---- the usual -----------------------------------------------------------------------------

    def read(self, name: str) -> Found | None:
        return self(self.space.read(name))

    def data(self, name: str) -> bytes | None:
        found = self.read(name)
        return None if found is None else found.data

    def fill(self, name: str, token: bytes, data: bytes, ttl: float | None = LONG) -> bool:
        (stored,) = self(self.space.fill([Fill(name, token, data, ttl)]))
        return bool(stored)

    def store_value(self, name: str, data: bytes, ttl: float | None = LONG) -> None:
        """Get a value in, as a tier does: by a lease and a fill."""
        (lease,) = self(self.space.lease([name], os.urandom(8), LONG))
        assert not lease.held
        assert self.fill(name, lease.token, data, ttl), "a fill with the lease's token was refused"

    def put(self, name: str, token: bytes, data: bytes, ttl: float | None = LONG) -> bool:
        (stored,) = self(self.space.put([Fill(name, token, data, ttl)], [target_of(name)]))
        return stored

    def invalidate(self, *names: str) -> None:
        self(self.space.invalidate([target_of(name) for name in names]))

    def hold(self, name: str, token: bytes, ttl: float = LONG) -> None:
        self(self.space.hold([target_of(name)], token, ttl))

    def incr(self, name: str, delta: int = 1, initial: int = 0, ttl: float | None = None) -> int:
        return self(self.space.incr(target_of(name), delta, initial, ttl))

    def touch(self, name: str, stamp: bytes, ttl: float | None) -> bool:
        return self(self.space.touch(target_of(name), stamp, ttl))

    def counter(self, name: str) -> tuple[int, int]:
        """The counter of a name's bucket."""
        return tuple(self(self.space.counters())[bucket_of(name)])  # type: ignore[return-value]


def _close(runner: asyncio.Runner, store: Store) -> None:
    runner.run(store.aclose())


class Harness:
    """What StoreConformance and its parts share. See there for what a subclass gives."""

    make_store: Callable[..., Store]
    #: Removes all that the server or file holds, its counters included; None: not to be tested.
    wipe: Callable[..., object] | None = None
    #: The shortest ttl in seconds that the store tells from a longer one.
    short: float = 0.25
    #: Whether a hold outlasts the invalidation of another.
    keeps_holds: bool = True
    #: Seconds by which a value may outlive its ttl, and by which what is left may be too much, because of rounding.
    rounding: float = 0.02
    #: Bytes of a value that the store has to take.
    large: int = 900_000

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Each test is run through both faces; a hook that pytest looks for in classes."""
        if "face" in metafunc.fixturenames:
            metafunc.parametrize("face", ["sync", "async"])

    @contextmanager
    def clients(self, face: str, count: int = 1) -> Iterator[list[Client]]:
        """Several store objects on the same server, which share a new name space."""
        assert face in ("sync", "async")
        namespace = f"conformance:{os.urandom(8).hex()}"
        with ExitStack() as stack:
            runner = stack.enter_context(asyncio.Runner()) if face == "async" else None
            made = []
            for _ in range(count):
                store = self.make_store()
                if runner is None:
                    stack.callback(store.close)
                else:
                    stack.callback(_close, runner, store)
                made.append(Client(store, namespace, runner))
            yield made

    @contextmanager
    def client(self, face: str) -> Iterator[Client]:
        with self.clients(face) as (client,):
            yield client


def together(clients: Sequence[Client], steps: Sequence[Steps[T]]) -> list[T | BaseException]:
    """The results of operations that begin at the same time: in threads, or as tasks of one loop. The i-th is
    carried out by the i-th client, and round again. Exceptions stand for themselves."""
    runner = clients[0].runner
    owners = [clients[i % len(clients)] for i in range(len(steps))]
    if runner is not None:

        async def gather() -> list[T | BaseException]:
            coroutines = [c.store.arun(s) for c, s in zip(owners, steps, strict=True)]
            return await asyncio.gather(*coroutines, return_exceptions=True)

        return runner.run(gather())
    results: list[Any] = [None] * len(steps)
    barrier = threading.Barrier(len(steps))

    def call(index: int) -> None:
        try:
            barrier.wait(LIMIT)
            results[index] = owners[index].store.run(steps[index])
        except BaseException as error:  # noqa: BLE001 - the caller's to judge
            results[index] = error

    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "an operation hangs"
    return results


def none_failed(results: Sequence[T | BaseException]) -> list[T]:
    """The results, after the first exception among them was raised."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)  # type: ignore[arg-type]


def raised(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The exception that call() raised; AssertionError if it raised none of this kind."""
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, got {result!r}")
