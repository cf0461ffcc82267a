"""RedisStore: how requests reach the servers."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from fastcache.stores.protocol import Backplane, Store, StoreError
from fastcache.stores.redis.address import parse
from fastcache.stores.redis.errors import Refusal
from fastcache.stores.redis.node import Node, now
from fastcache.stores.redis.space import RedisSpace, Timed
from fastcache.stores.redis.wire import Way, pack

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from fastcache.stores.protocol import Steps
    from fastcache.stores.redis.node import Clock

_TIME: Final = pack("TIME")
_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()
#: What a forked child inherited of its parent's event loops: touched by nobody, not even by the collector.
_inherited: list[Any] = []


def _after_fork() -> None:
    for store in list(_stores):
        _inherited.extend(store._after_fork())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class RedisStore(Store):
    """An L2 in Redis 7.0 or newer, or Valkey.

    url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` (TLS), `unix:///path?db=0`,
    `redis+sentinel://host:port,host:port/service[/db]`, `redis+cluster://host:port,host:port`.
    timeout: seconds that a request may take, its answer read; connect_timeout: seconds more if it needs a new
    connection. max_connections: to each server, of all threads together and of each event loop.
    password, username, credentials: instead of those in the URL; credentials is called for each
    connection and returns (user or None, password). ssl_context: instead of the ssl_… options.

    ValueError, TypeError: the URL or an option is wrong. Makes no connection before the first request.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.5,
        connect_timeout: float = 0.5,
        max_connections: int = 64,
        username: str | None = None,
        password: str | None = None,
        credentials: Callable[[], tuple[str | None, str]] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if not seconds > 0:
                raise ValueError(f"{name}={seconds!r} must be above 0 seconds")
        if max_connections < 1:
            raise ValueError(f"max_connections={max_connections!r} must be 1 or more")
        self._target = target = parse(
            url,
            username=username,
            password=password,
            credentials=credentials,
            ssl_context=ssl_context,
        )
        self.where = target.where
        self.trip = timeout
        self.clustered = target.mode == "cluster"
        self.replicas = False
        self.replica_lag = 5.0
        self._most = max_connections
        self._connect = connect_timeout
        self._node = Node(
            Way(
                target.where,
                target.addresses[0],
                target.login,
                db=target.db,
                tls=target.tls,
                trip=timeout,
                connect=connect_timeout,
            ),
            max_connections,
        )
        self._closed = False
        _stores.add(self)

    def __repr__(self) -> str:
        return f"RedisStore({self.where!r})"

    # ---- requests ----------------------------------------------------------------------------------

    def send(self, request: Any) -> Any:
        node = self._node
        if type(request) is tuple:
            return node.one(request[1])
        if type(request) is not Timed:
            return node.many(b"".join([data for _, data, _ in request]), len(request))
        data = b"".join([_TIME, *(data for _, data, _ in request)])
        asked = now()
        return self._timed(node, asked, node.many(data, len(request) + 1))

    async def asend(self, request: Any) -> Any:
        node = self._node
        if type(request) is tuple:
            return await node.aone(request[1])
        if type(request) is not Timed:
            return await node.amany(b"".join([data for _, data, _ in request]), len(request))
        data = b"".join([_TIME, *(data for _, data, _ in request)])
        asked = now()
        return self._timed(node, asked, await node.amany(data, len(request) + 1))

    def _timed(self, node: Node, asked: float, answers: list[Any]) -> list[Any]:
        time = answers.pop(0)
        if type(time) is list:
            node.clock.heard(asked, time)
        return answers

    def clock(self, slot: int) -> Clock:
        """What is known of the clock of the server that has this slot."""
        return self._node.clock

    def primaries(self, slots: Sequence[int]) -> Steps[list[tuple[Way, list[int]]]]:
        """The servers that have these slots: how to reach them, and which of the slots (by their place)."""
        yield from ()
        return [(self._node.way, list(range(len(slots))))]

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
        self._closed = True
        self._node.close()

    def _after_fork(self) -> list[Any]:
        return self._node.after_fork()


_EXPECTED: Final = "Redis 7.0 or newer, or Valkey, was expected"
_FOREIGN: Final = ("dragonfly", "keydb", "garnet", "kvrocks")


def _info(answer: Any) -> dict[str, str]:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
