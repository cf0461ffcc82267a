"""MemcachedStore against real servers: the protocol of stores, and what only memcached does."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers.memcached import MemcachedServer

from fastcache.stores import MemcachedStore
from fastcache.stores.protocol import (
    Space,
    Store,
    Target,
)
from fastcache.testing import StoreConformance


def name_of(key: object) -> str:
    return f"{key}:{hashlib.md5(str(key).encode()).hexdigest()}"


def target_of(key: object) -> Target:
    return Target(name_of(key), str(key).encode())


def fresh_space(store: Store) -> Space:
    return store.space(f"test-{os.urandom(8).hex()}", os.urandom(8))


@pytest.fixture
def store(memcached: MemcachedServer) -> Iterator[MemcachedStore]:
    store = MemcachedStore(memcached.address, timeout=5.0)
    yield store
    store.close()


class Opened:
    """Stores that are closed at the end of the test."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def __call__(self, servers: Any, **options: Any) -> MemcachedStore:
        store = MemcachedStore(servers, **{"timeout": 5.0, **options})
        self.stack.callback(store.close)
        return store


@pytest.fixture
def opened() -> Iterator[Opened]:
    opened = Opened()
    with opened.stack:
        yield opened


class TestConformance(StoreConformance):
    short = 2.0

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with MemcachedServer() as server:
            cls.servers = [server]
            yield

    def make_store(self) -> MemcachedStore:
        servers = [server.address for server in self.servers]
        random.shuffle(servers)
        return MemcachedStore(servers, timeout=5.0)

    def wipe(self) -> None:
        for server in self.servers:
            server.flush()


class TestConformanceOfSeveral(TestConformance):
    """Three servers."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with (
            MemcachedServer() as one,
            MemcachedServer() as two,
            MemcachedServer(unix=True) as three,
        ):
            cls.servers = [one, two, three]
            yield
