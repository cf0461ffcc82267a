"""MemcachedStore: an L2 in memcached.

meta      the protocol: bytes of commands, replies out of bytes
nodes     connections, for threads and event loops
items     what lies under a name, and how long
base      names, and requests to several servers at once
counters  counters and tags
space     values, leases, invalidation
store     MemcachedStore
"""

from fastcache.stores.memcached.store import MemcachedStore

__all__ = ["MemcachedStore"]
