"""Backplanes: how the caches of several processes, or of one, tell each other what changed.

    from fastcache.backplane import InProcessBackplane, PostgresBackplane, RedisBackplane

Each is imported, with the client library that it needs, when it is first asked for.
"""

from __future__ import annotations

from fastcache import _lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastcache.backplane.inprocess import InProcessBackplane as InProcessBackplane
    from fastcache.backplane.postgres import PostgresBackplane as PostgresBackplane
    from fastcache.backplane.redis import RedisBackplane as RedisBackplane

__all__ = ["InProcessBackplane", "PostgresBackplane", "RedisBackplane"]

_LATER = {
    "InProcessBackplane": "fastcache.backplane.inprocess",
    "PostgresBackplane": "fastcache.backplane.postgres",
    "RedisBackplane": "fastcache.backplane.redis",
}

__getattr__, __dir__ = _lazy.names(globals(), _LATER)
