"""The L2s that the scenarios of tiers run on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["redis", "cluster", "memcached", "memcached-redis", "sqlite"])
def l2(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `stress.tiers.open_store` opens, on each store in turn."""
    kind: str = request.param
    if kind == "sqlite":
        return f"sqlite:{tmp_path / 'l2.db'}"
    if kind == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    if kind == "redis":
        return str(request.getfixturevalue("redis_server").url)
    spec = f"memcached:{request.getfixturevalue('memcached').address}"
    if kind == "memcached-redis":
        spec += f"|{request.getfixturevalue('redis_server').url}"
    return spec
