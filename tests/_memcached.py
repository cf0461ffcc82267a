"""What the tests of MemcachedStore share."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fastcache.stores import MemcachedStore
from fastcache.stores.protocol import Space, Store, Target


def name_of(key: object) -> str:
    return f"{key}:{hashlib.md5(str(key).encode()).hexdigest()}"


def target_of(key: object) -> Target:
    return Target(name_of(key), str(key).encode())


def fresh_space(store: Store) -> Space:
    return store.space(f"test-{os.urandom(8).hex()}", os.urandom(8))


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
