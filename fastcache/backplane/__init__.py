"""Backplanes: how the caches of several processes, or of one, tell each other what changed.

    from fastcache.backplane import InProcessBackplane, PostgresBackplane, RedisBackplane

Each is imported, with the client library that it needs, when it is first asked for.
"""

from __future__ import annotations

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


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
