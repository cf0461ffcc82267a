"""RedisStore: one server, Sentinel or Cluster; TLS or a unix socket; Redis 7.0 and newer, and Valkey.

    from fastcache.stores import RedisStore

Needs the extra `redis`: `pip install 'fastcache-engine[redis]'`.
"""

from __future__ import annotations

try:
    import hiredis as _hiredis
except ImportError as error:
    raise ImportError("RedisStore needs hiredis: pip install 'fastcache-engine[redis]'") from error

from fastcache.stores.redis.store import RedisStore

del _hiredis

__all__ = ["RedisStore"]
