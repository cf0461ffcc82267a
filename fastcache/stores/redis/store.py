"""RedisStore: how requests reach the servers."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from fastcache.stores.protocol import Backplane, Store, StoreError
from fastcache.stores.redis.address import Login, parse
from fastcache.stores.redis.cluster import Cluster
from fastcache.stores.redis.errors import Refusal, WireError
from fastcache.stores.redis.node import Node
from fastcache.stores.redis.space import Primaries, RedisSpace, Timed, Watch
from fastcache.stores.redis.topology import Finder, adrive, drive
from fastcache.stores.redis.way import Way, pack

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from fastcache.stores.protocol import Steps
    from fastcache.stores.redis.cluster import Command
    from fastcache.stores.redis.node import Clock
    from fastcache.stores.redis.topology import Exchanges

_TIME: Final = pack("TIME")
_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class RedisStore(Store):
    """An L2 in Redis 7.0 or newer, or Valkey.

    url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` (TLS), `unix:///path?db=0`,
    `redis+sentinel://host:port,host:port/service[/db]`, `redis+cluster://host:port,host:port`.
    timeout: seconds that a request may take, its answer read; connect_timeout: seconds more if it needs a new
    connection. max_connections: to each server, of all threads together and of each event loop.
    replicas: in a cluster, replicas may answer reads while they are known to lag by less than replica_lag
    seconds; for as long after an invalidation the primary alone answers for its bucket. That takes a call
    of `counters` every second, as tiers make them.
    password, username, credentials: instead of those in the URL; credentials is called for each
    connection and returns (user or None, password). sentinel_…: to the sentinels.
    ssl_context: instead of the ssl_… options.

    ValueError, TypeError: the URL or an option is wrong. Makes no connection before the first request.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.5,
        connect_timeout: float = 0.5,
        replicas: bool = False,
        replica_lag: float = 5.0,
        max_connections: int = 64,
        username: str | None = None,
        password: str | None = None,
        credentials: Callable[[], tuple[str | None, str]] | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        for name, seconds in (
            ("timeout", timeout),
            ("connect_timeout", connect_timeout),
            ("replica_lag", replica_lag),
        ):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"{name} must be a number of seconds, not {seconds!r}")
            if not 0 < seconds < float("inf"):
                raise ValueError(f"{name}={seconds!r} must be above 0 seconds, and finite")
        if isinstance(max_connections, bool) or not isinstance(max_connections, int):
            raise TypeError(f"max_connections must be an int, not {max_connections!r}")
        if max_connections < 1:
            raise ValueError(f"max_connections={max_connections!r} must be 1 or more")
        self._target = target = parse(
            url,
            username=username,
            password=password,
            credentials=credentials,
            ssl_context=ssl_context,
        )
        if replicas and target.mode != "cluster":
            raise ValueError("replicas=True: only with redis+cluster://")
        if target.mode != "sentinel" and (sentinel_username or sentinel_password is not None):
            raise ValueError("sentinel_password: only with redis+sentinel://")
        self.where = target.where
        self.trip = timeout
        self.clustered = target.mode == "cluster"
        self.replicas = replicas
        self.replica_lag = replica_lag
        way = Way(
            target.where,
            target.addresses[0],
            target.login,
            db=target.db,
            tls=target.tls,
            trip=timeout,
            connect=connect_timeout,
            primary=target.mode == "sentinel",
        )
        self._cluster: Cluster | None = None
        self._node: Node | None = None
        self._sentinel = target.mode == "sentinel"
        if self.clustered:
            self._cluster = Cluster(target, way, max_connections, replica_lag if replicas else None)
        elif self._sentinel:
            finder = Finder(target, Login(sentinel_username, sentinel_password), way)
            self._node = Node(finder.unknown(), max_connections, finder)
        else:
            self._node = Node(way, max_connections)
        _stores.add(self)

    def __repr__(self) -> str:
        return f"RedisStore({self.where!r})"

    # ---- requests ----------------------------------------------------------------------------------

    def send(self, request: Any) -> Any:
        node = self._node
        if type(request) is tuple:
            if node is None:
                return self._send_to_cluster(request)
            reply = node.one(request[1])
            if type(reply) is Refusal and self._sentinel:
                self._look(node, [reply])
            return reply
        if node is None:
            return drive(self._steps(request))
        replies = node.many(*_joined(request))
        if self._sentinel:
            self._look(node, replies)
        return replies

    async def asend(self, request: Any) -> Any:
        node = self._node
        if type(request) is tuple:
            if node is None:
                return await self._asend_to_cluster(request)
            reply = await node.aone(request[1])
            if type(reply) is Refusal and self._sentinel:
                self._look(node, [reply])
            return reply
        if node is None:
            return await adrive(self._steps(request))
        replies = await node.amany(*_joined(request))
        if self._sentinel:
            self._look(node, replies)
        return replies

    def _look(self, node: Node, answers: list[Any]) -> None:
        """Whether the server is no primary any more: then the sentinels are asked anew."""
        for answer in answers:
            if type(answer) is Refusal and answer.code == "READONLY":
                node.lost_primary(WireError(self.where, "readonly", answer.text))
                return

    def _send_to_cluster(self, request: Command) -> Any:
        """One command: straight to whoever has it, as a rule."""
        cluster = self._cluster
        assert cluster is not None
        node = cluster.node(request[0], request[2])
        if node is not None:
            try:
                reply = node.one(request[1])
            except WireError as error:
                cluster.failed(node, error)
                if error.sent or not node.way.readonly:
                    raise
            else:
                if type(reply) is not Refusal:
                    return reply
                if cluster.redirected(request[0], node, reply) is None:
                    return reply
        return drive(cluster.perform([request], False))[0]

    async def _asend_to_cluster(self, request: Command) -> Any:
        cluster = self._cluster
        assert cluster is not None
        node = cluster.node(request[0], request[2])
        if node is not None:
            try:
                reply = await node.aone(request[1])
            except WireError as error:
                cluster.failed(node, error)
                if error.sent or not node.way.readonly:
                    raise
            else:
                if type(reply) is not Refusal:
                    return reply
                if cluster.redirected(request[0], node, reply) is None:
                    return reply
        return (await adrive(cluster.perform([request], False)))[0]

    def _steps(self, request: Any) -> Exchanges[Any]:
        cluster = self._cluster
        assert cluster is not None
        if type(request) is Watch:
            return cluster.watch_replicas()
        if type(request) is Primaries:
            return cluster.primaries(request)
        return cluster.perform(request, type(request) is Timed)

    def clock(self, slot: int) -> Clock:
        """What is known of the clock of the server that has this slot."""
        if self._node is not None:
            return self._node.clock
        assert self._cluster is not None
        return self._cluster.clock(slot)

    def primaries(self, slots: Sequence[int]) -> Steps[list[tuple[Way, list[int]]]]:
        """The servers that have these slots: how to reach them, and which of the slots (by their place)."""
        node = self._node
        if node is None:
            return (yield Primaries(slots))  # type: ignore[no-any-return]
        if self._sentinel:
            yield (0, pack("PING"), False)  # so that the primary is known
        return [(node.way, list(range(len(slots))))]

    # ---- the store ---------------------------------------------------------------------------------

    def space(self, namespace: str, origin: bytes) -> RedisSpace:
        return RedisSpace(self, namespace, origin)

    def backplane(self) -> Backplane:
        from fastcache.backplane.redis import RedisBackplane

        return RedisBackplane(self)

    def check(self) -> Steps[None]:
        try:
            answer = yield (0, pack("INFO"), False)
        except StoreError as error:
            if error.kind != "protocol":
                raise
            raise StoreError(self.where, "old", f"{_EXPECTED}; {error.text}") from error
        if isinstance(answer, Refusal):
            raise answer.error(self.where)
        info = _info(answer)
        server = info.get("server_name", "redis")
        version = info.get("redis_version", "")
        foreign = next((name for name in _FOREIGN if f"{name}_version" in info), None)
        if foreign or server not in ("redis", "valkey"):
            raise StoreError(self.where, "old", f"{_EXPECTED}; this is {foreign or server}")
        if _number(version) < (7, 0):
            raise StoreError(self.where, "old", f"{_EXPECTED}; this is {version or 'unknown'}")
        enabled = info.get("cluster_enabled") == "1"
        if enabled and not self.clustered:
            text = "this server is part of a cluster: use a URL that begins with redis+cluster://"
            raise StoreError(self.where, "cluster", text)
        if self.clustered and not enabled:
            text = "this server is not part of a cluster: use a URL that begins with redis://"
            raise StoreError(self.where, "cluster", text)
        if info.get("role") == "slave" and not self.clustered:
            raise StoreError(self.where, "readonly", "this server is a replica: name its primary")

    def close(self) -> None:
        if self._node is not None:
            self._node.close()
        if self._cluster is not None:
            self._cluster.close()

    def _after_fork(self) -> None:
        if self._node is not None:
            self._node.after_fork()
        if self._cluster is not None:
            self._cluster.after_fork()


def _joined(request: Any) -> tuple[bytes, int, bool]:
    """All at once, how many, and whether the time is asked for first."""
    parts = [data for _, data, _ in request]
    timed = type(request) is Timed
    if timed:
        parts.insert(0, _TIME)
    return b"".join(parts), len(parts), timed


_EXPECTED: Final = "Redis 7.0 or newer, or Valkey, was expected"
_FOREIGN: Final = ("dragonfly", "keydb", "garnet", "kvrocks")


def _info(answer: Any) -> dict[str, str]:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
