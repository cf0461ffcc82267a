"""Tiered caches of both faces over real stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiered.support import Face, Tiers

from fastcache.stores import RedisStore, SQLiteStore


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    made = Face(request.param)
    yield made
    made.close()


def _over(face: Face, where: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Tiers]:
    def open_store() -> Any:
        if where == "sqlite":
            return SQLiteStore(folder / "l2.db", timeout=5.0)
        return RedisStore(request.getfixturevalue("redis_server").url, timeout=5.0)

    tiers = Tiers(face, where, open_store)
    yield tiers
    tiers.close()


@pytest.fixture(params=["sqlite", "redis"])
def tiers(face: Face, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tiers]:
    """Over each store."""
    yield from _over(face, request.param, request, tmp_path)


@pytest.fixture
def filed(face: Face, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tiers]:
    """Over SQLiteStore, where the store makes no difference."""
    yield from _over(face, "sqlite", request, tmp_path)


@pytest.fixture
def networked(face: Face, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tiers]:
    """Over RedisStore."""
    yield from _over(face, "redis", request, tmp_path)


@pytest.fixture
def alone(face: Face, tmp_path: Path) -> Iterator[Tiers]:
    """Without an L2."""

    def none() -> Any:
        raise AssertionError("there is no L2")

    class Alone(Tiers):
        def __call__(self, loader: Any = None, **options: Any) -> Any:
            options.setdefault("namespace", None)
            return super().__call__(loader, store=None, **options)

    tiers = Alone(face, "none", none)
    yield tiers
    tiers.close()
