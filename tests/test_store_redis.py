"""RedisStore on real servers: the promises of stores, on each kind of server and connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from servers.redis import RedisCluster, RedisServer

from fastcache.stores import RedisStore, Store
from fastcache.stores.protocol import Message
from fastcache.testing import StoreConformance


class TestSingle(StoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_store(self) -> Store:
        return RedisStore(self.url)


class TestWiped(StoreConformance):
    """With a server of its own, that may be flushed."""

    @pytest.fixture(autouse=True)
    def _server(self, flushed_redis: RedisServer) -> None:
        self.server = flushed_redis

    def make_store(self) -> Store:
        return RedisStore(self.server.url)

    def wipe(self) -> None:
        with self.server.client() as client:
            client.flushall()


class TestUnix(StoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis_unix: RedisServer) -> None:
        self.url = redis_unix.url

    def make_store(self) -> Store:
        return RedisStore(self.url + "?db=3")


class TestTLS(StoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis_tls: RedisServer) -> None:
        self.url = redis_tls.url

    def make_store(self) -> Store:
        return RedisStore(self.url)


class TestCluster(StoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis_cluster: RedisCluster) -> None:
        self.url = redis_cluster.url

    def make_store(self) -> Store:
        return RedisStore(self.url, replicas=True)

    def heard(self, listen: Callable[[float], list[Message]], count: int) -> list[Message]:
        """Channels of one bucket are in order; those of several may lie on several servers."""
        return sorted(super().heard(listen, count), key=lambda message: message.number)
