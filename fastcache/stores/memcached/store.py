"""MemcachedStore: an L2 in one or several memcached servers, by the meta protocol."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from fastcache._redact import shown
from fastcache.stores.memcached import meta
from fastcache.stores.memcached.base import Through
from fastcache.stores.memcached.nodes import Answer, Batch, Node
from fastcache.stores.memcached.space import MemcachedSpace
from fastcache.stores.protocol import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastcache.stores.memcached.meta import Reply
    from fastcache.stores.protocol import Backplane, Steps

#: The first version whose meta protocol is as it is used here.
OLDEST = (1, 6, 12)
#: Bytes that the server needs of an item for itself and the key.
_OVERHEAD = 512


class MemcachedStore(Store):
    """Values, leases and counters in memcached (1.6.12 or newer), shared by all that name the same servers.

    servers: "host:port", "host" (port 11211), "unix:/path", (host, port), or several of these. Each bucket of a
    name space lives on one of them, whatever their order (rendezvous hashing); one that is dead keeps its
    buckets, so nothing is ever read that was left on another. timeout, connect_timeout: seconds for one
    request, and for a connection. item_size: bytes of the largest item that the servers take (their `-I`).
    backplane: tells other processes what was invalidated, and counts it: a RedisBackplane, the same for
    all. memcached has no messages, so without one L1s elsewhere learn of invalidations when they next compare the
    counters. Closing it is its owner's.

    Values live for whole seconds, up to one
    less than asked for; a ttl below one second is not stored.

    rejected: how often a fill was refused: "void" (its lease was gone), "large", "short" (ttl), "full". failures:
    by server and kind, how often a request failed. Safe from any thread and event loop; a forked child makes its own
    connections. ValueError, TypeError: arguments that make no sense.
    """

    def __init__(
        self,
        servers: str | tuple[str, int] | Iterable[str | tuple[str, int]] = "127.0.0.1:11211",
        *,
        timeout: float = 0.5,
        connect_timeout: float = 0.5,
        item_size: int = 1 << 20,
        backplane: Backplane | None = None,
    ) -> None:
        places = [_address(server) for server in _listed(servers)]
        if not places:
            raise ValueError("servers must name at least one server")
        names = [where for where, _ in places]
        if len(set(names)) < len(names):
            raise ValueError(f"servers names one of them twice: {', '.join(names)}")
        self.trip = _positive("timeout", timeout)
        self.connect_timeout = _positive("connect_timeout", connect_timeout)
        self.item_size = int(_positive("item_size", item_size)) - _OVERHEAD
        self.where = ", ".join(names)
        self.nodes = [
            Node(
                where,
                address,
                timeout=self.trip,
                connect_timeout=self.connect_timeout,
                alone=len(places) == 1,
            )
            for where, address in places
        ]
        self._backplane = backplane
        self.tells_by = None
        if backplane is not None:
            self.tells_by = getattr(backplane, "store", None)
            if not isinstance(self.tells_by, Store):
                raise TypeError(
                    f"backplane must have a store that counts, as RedisBackplane has, not {shown(backplane)}"
                )
        self.rejected: Counter[str] = Counter()
        self._counting = threading.RLock()

    def __repr__(self) -> str:
        return f"<MemcachedStore {self.where}>"

    @property
    def failures(self) -> dict[str, dict[str, int]]:
        return {node.where: dict(node.failures) for node in self.nodes}

    def place(self, name: str) -> int:
        """The number of the server that has this, by rendezvous hashing: of all that could, the one whose digest
        together with it is highest. Without one server its names spread over the others, and no other moves."""
        return max(
            range(len(self.nodes)),
            key=lambda i: blake2b(
                f"{self.nodes[i].where}\n{name}".encode(), digest_size=8
            ).digest(),
        )

    def space(self, namespace: str, origin: bytes) -> MemcachedSpace:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", namespace):
            raise ValueError(
                f"namespace must be 1 to 64 letters, digits or any of '_.:-', not {shown(namespace)}"
            )
        return MemcachedSpace(self, namespace, origin)

    # ---- requests --------------------------------------------------------------------------------

    def send(self, request: Any) -> Any:
        if isinstance(request, Batch):
            return self.nodes[request.node].send(request.commands, request.newest)
        if isinstance(request, Through):
            return request.store.send(request.request)
        return self._send_all(request)

    def _send_all(self, batches: Sequence[Batch]) -> list[Answer | StoreError | None]:
        """Each to its server, then the answers, so that the servers work at the same time."""
        outcomes: list[Answer | StoreError | None] = [None] * len(batches)
        going: dict[int, Any] = {}
        try:
            for i, batch in enumerate(batches):
                try:
                    started = self.nodes[batch.node].start(batch.commands, batch.newest)
                    if started is not None:
                        going[i] = started
                except StoreError as error:
                    outcomes[i] = error
            while going:
                i = next(iter(going))
                started = going.pop(i)
                try:
                    outcomes[i] = self.nodes[batches[i].node].finish(*started)
                except StoreError as error:
                    outcomes[i] = error
        finally:
            for (
                connection,
                *_,
            ) in going.values():  # left by an interruption: they have replies to come
                connection.socket.close()
        return outcomes

    async def asend(self, request: Any) -> Any:
        if isinstance(request, Batch):
            return await self.nodes[request.node].asend(request.commands, request.newest)
        if isinstance(request, Through):
            return await request.store.asend(request.request)
        if len(request) <= 1:
            return [await self._outcome(batch) for batch in request]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(batch)) for batch in request]
        return [task.result() for task in tasks]

    async def _outcome(self, batch: Batch) -> Answer | StoreError | None:
        try:
            return await self.nodes[batch.node].asend(batch.commands, batch.newest)
        except StoreError as error:
            return error

    # ---- what comes of it ------------------------------------------------------------------------

    def count(self, kind: str) -> None:
        with self._counting:
            self.rejected[kind] += 1

    def refused(self, reply: Reply) -> bool:
        """Whether the server had no room for it; counted. Anything else it could not do is raised."""
        if reply.code != b"SERVER_ERROR":
            return False
        kind = _kind(reply)
        if kind == "other":
            raise StoreError(self.where, kind, reply.data.decode("latin-1"))
        self.count(kind)
        return True

    def failure(self, node: int, reply: Reply) -> StoreError:
        """What to raise where nothing may be left undone."""
        kind = _kind(reply) if reply.code == b"SERVER_ERROR" else "protocol"
        text = reply.data or b"it answered " + reply.code
        return StoreError(
            self.nodes[node].where, "full" if kind == "large" else kind, text.decode("latin-1")
        )

    # ---- the servers -----------------------------------------------------------------------------

    def check(self) -> Steps[None]:
        """StoreError: one of them is of another kind or too old, or none is there."""
        everywhere = range(len(self.nodes))
        outcomes = yield [Batch(i, (meta.VERSION,)) for i in everywhere]
        errors = []
        alive = []
        for i, outcome in zip(everywhere, outcomes, strict=True):
            where = self.nodes[i].where
            if isinstance(outcome, StoreError):
                errors.append(outcome)
                continue
            version = outcome.replies[0].data.removeprefix(b"VERSION ").decode("latin-1")
            numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
            if numbers < OLDEST:
                wanted = ".".join(map(str, OLDEST))
                text = f"expected memcached {wanted} or newer, this is {version}"
                raise StoreError(where, "old", text)
            alive.append(i)
        # proxies have versions as well, and not all of them know the meta protocol
        scratch = meta.put(b"fc:check", b"", b"T1 c")
        outcomes = yield [Batch(i, (scratch,)) for i in alive]
        errors += [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
        for error in errors:
            if error.kind in ("old", "auth", "protocol") or len(errors) == len(self.nodes):
                raise error

    def backplane(self) -> Backplane | None:
        return self._backplane

    def close(self) -> None:
        for node in self.nodes:
            node.closed = True
            node.drop()


def _kind(reply: Reply) -> str:
    if b"too large" in reply.data:
        return "large"
    return "full" if b"out of memory" in reply.data.lower() else "other"


def _listed(servers: Any) -> list[Any]:
    if isinstance(servers, str):
        return [part.strip() for part in servers.split(",")]
    if isinstance(servers, tuple) and len(servers) == 2 and isinstance(servers[1], int):
        return [servers]
    try:
        return list(servers)
    except TypeError:
        raise TypeError(
            f"servers must be a str, a pair of host and port, or several, not {type(servers).__name__}"
        ) from None


def _address(server: Any) -> tuple[str, tuple[str, int] | str]:
    """(its name, its address)."""
    host: Any
    port: Any
    if isinstance(server, str):
        path = server.removeprefix("unix:")
        if path.startswith("/"):
            return f"unix:{path}", path
        found = re.fullmatch(
            r"(?:memcached://)?(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::(\d+))?", server
        )
        if found is None:
            raise ValueError(f"servers: expected 'host:port' or 'unix:/path', not {shown(server)}")
        host, port = found[1] or found[2], int(found[3] or 11211)
    elif isinstance(server, tuple) and len(server) == 2:
        host, port = server
        if isinstance(host, str) and re.search(r"[\s@/]", host):
            raise ValueError(f"servers: {shown(host)} is no host")
    else:
        raise TypeError(f"servers: expected a str or (host, port), not {shown(server)}")
    if not isinstance(host, str) or not host or isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"servers: expected a str or (host, port), not {shown(server)}")
    if not 0 < port < 65536:
        raise ValueError(f"servers: port must be between 1 and 65535, not {port}")
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), (host, port)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    return value
