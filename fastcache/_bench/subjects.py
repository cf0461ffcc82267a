"""Who is measured: the peers, whether they are installed, and how each of them is spelled."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Mapping

OLD = "old-fastcache"
#: Peers of `--quick`: what `make run` installs.
QUICK_PEERS = ("functools", "dict", "cachetools", "cachebox")
#: The abandoned package of our name, and its release.
OLD_REQUIREMENT = "fastcache==1.1.0"


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Somebody to be measured against. `module` is what is imported; "" for what is always there."""

    name: str
    module: str = ""
    distribution: str = ""
    remark: str = ""
    #: found in the rows of tiers only
    tier: bool = False


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("functools", "functools"),
        Peer("dict", remark="the floor: bounds and evicts nothing"),
        Peer("cachetools", "cachetools", "cachetools"),
        Peer("cachebox", "cachebox", "cachebox"),
        Peer("theine", "theine", "theine", "W-TinyLFU, the only policy it has"),
        Peer("moka-py", "moka_py", "moka-py", "policy='lru'"),
        Peer("lru-dict", "lru", "lru-dict"),
        Peer("async-lru", "async_lru", "async-lru", "rows of async functions, and import time"),
        Peer(
            "aiocache",
            "aiocache",
            "aiocache",
            "as async-lru, and of tiers; its memory backend, unbounded",
        ),
        Peer("cashews", "cashews", "cashews", "as async-lru, and of tiers; its memory backend"),
        Peer("redis-py", "redis", "redis", "rows of tiers; its client-side cache", tier=True),
        Peer("dogpile.cache", "dogpile.cache", "dogpile.cache", "rows of tiers", tier=True),
        Peer("diskcache", "diskcache", "diskcache", "rows of tiers, over a file", tier=True),
        Peer(OLD, "fastcache", "fastcache", "1.1.0, in an interpreter of its own"),
    )
}


#: In rows that ask about hits these get twice the capacity: a cache that refuses admission, or
#: works in batches, may not hold all keys at exactly their number.
ROOMY = ("theine", "moka-py")


@dataclasses.dataclass(frozen=True, slots=True)
class MapSyntax:
    """How a mapping-like cache is spelled. `make` maps a policy to an expression with {n}."""

    subject: str
    imports: str
    make: Mapping[str, str]
    get: str = "c.get(k)"
    put: str = "c[k] = {v}"
    clear: str = "c.clear()"
    held: str = "c.get(k) == k"
    read_through: str = "v = c.get(k)\nif v is None:\n    c[k] = k"
    ttl_put: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class CallSyntax:
    """How a memoising decorator is spelled. `wrap` maps a policy to a decorator with {n}.

    "all" is the policy of those who have more to do: a ttl, and hits counted.
    """

    subject: str
    imports: str
    wrap: Mapping[str, str]
    clear: str = "f.cache_clear()"


MAPS: tuple[MapSyntax, ...] = (
    MapSyntax(
        "fastcache",
        "import fastcache",
        {
            "lru": "fastcache.Cache({n})",
            "fifo": "fastcache.Cache({n}, policy='fifo')",
            "lfu": "fastcache.Cache({n}, policy='lfu')",
            "ttl": "fastcache.Cache({n}, ttl={ttl})",
        },
    ),
    MapSyntax("dict", "", {"lru": "{{}}"}),
    MapSyntax(
        "cachetools",
        "import cachetools",
        {
            "lru": "cachetools.LRUCache({n})",
            "fifo": "cachetools.FIFOCache({n})",
            "lfu": "cachetools.LFUCache({n})",
            "ttl": "cachetools.TTLCache({n}, {ttl})",
        },
    ),
    MapSyntax(
        "cachebox",
        "import cachebox",
        {
            "lru": "cachebox.LRUCache({n})",
            "fifo": "cachebox.FIFOCache({n})",
            "lfu": "cachebox.LFUCache({n})",
            "ttl": "cachebox.TTLCache({n}, {ttl})",
        },
    ),
    MapSyntax(
        "theine",
        "import datetime, theine\nspan = datetime.timedelta(hours=1)",
        {"lru": "theine.Cache({n})", "ttl": "theine.Cache({n})"},
        put="c.set(k, {v})",
        held="c.get(k)[1]",
        read_through="v, ok = c.get(k)\nif not ok:\n    c.set(k, k)",
        ttl_put="c.set(k, {v}, span)",
    ),
    MapSyntax(
        "moka-py",
        "import moka_py",
        {
            "lru": "moka_py.Moka({n}, policy='lru')",
            "ttl": "moka_py.Moka({n}, ttl={ttl}, policy='lru')",
        },
        put="c.set(k, {v})",
        read_through="v = c.get(k)\nif v is None:\n    c.set(k, k)",
    ),
    MapSyntax("lru-dict", "import lru", {"lru": "lru.LRU({n})"}),
)

CALLS: tuple[CallSyntax, ...] = (
    CallSyntax(
        "fastcache",
        "import fastcache",
        {
            "lru": "fastcache.lru_cache(maxsize={n})",
            "ttl": "fastcache.ttl_cache(maxsize={n}, ttl={ttl})",
            "all": "fastcache.cached(maxsize={n}, ttl={ttl})",
        },
    ),
    CallSyntax(
        "functools",
        "import functools",
        {"lru": "functools.lru_cache(maxsize={n})", "all": "functools.lru_cache(maxsize={n})"},
    ),
    CallSyntax(
        "cachetools",
        "import cachetools, cachetools.func",
        {
            "lru": "cachetools.cached(cachetools.LRUCache({n}))",
            "ttl": "cachetools.func.ttl_cache(maxsize={n}, ttl={ttl})",
            "all": "cachetools.cached(cachetools.TTLCache({n}, {ttl}), info=True)",
        },
    ),
    CallSyntax(
        "cachebox",
        "import cachebox",
        {
            "lru": "cachebox.cached(cachebox.LRUCache({n}))",
            "ttl": "cachebox.cached(cachebox.TTLCache({n}, {ttl}))",
            "all": "cachebox.cached(cachebox.TTLCache({n}, {ttl}))",
        },
    ),
    CallSyntax(
        "theine",
        "import datetime, theine",
        {
            "lru": "theine.Memoize({n}, None)",
            "ttl": "theine.Memoize({n}, datetime.timedelta(seconds={ttl}))",
            "all": "theine.Memoize({n}, datetime.timedelta(seconds={ttl}))",
        },
        clear="",
    ),
    CallSyntax(
        "moka-py",
        "import moka_py",
        {
            "lru": "moka_py.cached(maxsize={n}, policy='lru')",
            "ttl": "moka_py.cached(maxsize={n}, ttl={ttl}, policy='lru')",
            "all": "moka_py.cached(maxsize={n}, ttl={ttl}, policy='lru')",
        },
    ),
    CallSyntax(OLD, "import fastcache", {"lru": "fastcache.clru_cache(maxsize={n})"}),
)

#: Decorators of async functions, with their @. Whoever is not decorated shows the least there is.
AWAITS: tuple[CallSyntax, ...] = (
    CallSyntax("fastcache", "import fastcache", {"lru": "@fastcache.cached(maxsize={n})"}),
    CallSyntax("async-lru", "import async_lru", {"lru": "@async_lru.alru_cache(maxsize={n})"}),
    CallSyntax(
        "aiocache",
        "import aiocache",
        {"lru": "@aiocache.cached()"},
    ),
    CallSyntax(
        "cashews",
        "import cashews\ncache = cashews.Cache()\ncache.setup('mem://', size=size)",
        {"lru": "@cache(ttl='1h')"},
    ),
    CallSyntax("uncached", "", {"lru": ""}),
)


@dataclasses.dataclass(slots=True)
class Presence:
    """Whether a peer can be measured here: its version, or why not."""

    version: str = ""
    absent: str = ""


def look_for(name: str) -> Presence:
    """Say whether the named peer is installed; imports nothing. Not for `old-fastcache`."""
    peer = PEERS[name]
    if not peer.distribution:
        return Presence(version="of this interpreter")
    if not _is_there(peer.module):
        return Presence(absent=f"not installed (pip install {peer.distribution})")
    try:
        return Presence(version=importlib.metadata.version(peer.distribution))
    except importlib.metadata.PackageNotFoundError:
        return Presence(version="unknown")


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not
        return False
