"""How much faster than cachetools is fastcache.cachetools, in each thing that one does with it?

Both run the same statements; only the import differs. cachetools is the installed one.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastcache._bench.subjects import look_for
from fastcache._bench.worker import Loop

_STATEMENTS, _ROUNDS = 30_000, 9
_IMPORT = "import {module} as m, {module}.func, threading"

_CACHES = {
    "LRUCache": "m.LRUCache({n})",
    "LFUCache": "m.LFUCache({n})",
    "FIFOCache": "m.FIFOCache({n})",
    "RRCache": "m.RRCache({n})",
    "TTLCache": "m.TTLCache({n}, 600)",
    "TLRUCache": "m.TLRUCache({n}, lambda key, value, now: now + 600)",
}
#: What is done with a cache -> statement, how many of the keys fit, whether they are in it before.
_USES = {
    "c[k] hit": ("c[k]", "size", True),
    "get hit": ("c.get(k)", "size", True),
    "get miss": ("c.get(-k)", "size", True),
    "in": ("k in c", "size", True),
    "overwrite": ("c[k] = k", "size", True),
    "set + evict": ("c[k] = k", "size // 10", False),
    "set + del": ("c[-1] = k; del c[-1]", "size + 1", True),
    "len": ("len(c)", "size", True),
}
_METHOD = """
class Holder:
    def __init__(self):
        self.kept = m.LRUCache(size)
    @m.cachedmethod(lambda self: self.kept)
    def f(self, x):
        return x
f = Holder().f
"""
_CALLS = {
    "cached(LRUCache)": "f = m.cached(m.LRUCache({n}))(lambda x: x)",
    "cached(TTLCache)": "f = m.cached(m.TTLCache({n}, 600))(lambda x: x)",
    "cached(dict)": "f = m.cached({{}})(lambda x: x)",
    "cached(LRUCache, lock)": "f = m.cached(m.LRUCache({n}), lock=threading.Lock())(lambda x: x)",
    "cached(LRUCache, condition)": (
        "f = m.cached(m.LRUCache({n}), condition=threading.Condition())(lambda x: x)"
    ),
    "func.lru_cache": "f = m.func.lru_cache({n})(lambda x: x)",
    "func.lfu_cache": "f = m.func.lfu_cache({n})(lambda x: x)",
    "func.ttl_cache": "f = m.func.ttl_cache({n})(lambda x: x)",
}


def _programs() -> dict[str, dict[str, str]]:
    """What is asked -> the program, with `{module}` still to be filled in."""
    programs = {}
    for name, made in _CACHES.items():
        for use, (statement, room, filled) in _USES.items():
            lines = [
                _IMPORT,
                f"keys = shuffled(ints(size)); c = {made.format(n=room)}",
                "for k in keys: c[k] = k" if filled else "",
            ]
            programs[f"{name}, {use}"] = {"setup": "\n".join(lines), "statement": statement}
    for name, made in _CALLS.items():
        hit = f"{_IMPORT}\nkeys = shuffled(ints(size))\n{made.format(n='size')}"
        miss = f"{_IMPORT}\nkeys = shuffled(ints(size))\n{made.format(n='size // 10')}"
        programs[f"{name}, hit"] = {"setup": hit, "statement": "f(k)"}
        if "dict" not in name:  # which never evicts
            programs[f"{name}, miss + evict"] = {"setup": miss, "statement": "f(k)"}
    setup = f"{_IMPORT}\nkeys = shuffled(ints(size)){_METHOD}"
    programs["cachedmethod, hit"] = {"setup": setup, "statement": "f(k)"}
    return programs


_PROGRAMS = _programs()


@pytest.mark.parametrize("module", ["fastcache.cachetools", "cachetools"])
@pytest.mark.parametrize("asked", _PROGRAMS)
def test_dropin(benchmark: Any, asked: str, module: str) -> None:
    """One statement of those above, over 10,000 keys in a shuffled order."""
    if module == "cachetools" and (absent := look_for("cachetools").absent):
        pytest.skip(f"cachetools is {absent}")
    program = _PROGRAMS[asked]
    setup = program["setup"].replace("{module}", module)
    loop = Loop({"setup": setup, "statement": program["statement"], "var": "k", "keys": "keys"})
    benchmark.group = asked
    reps = max(1, _STATEMENTS // loop.count)
    benchmark.pedantic(loop.passes, args=(reps,), rounds=_ROUNDS, warmup_rounds=1)
    operations = reps * loop.count
    benchmark.extra_info["operations"] = operations
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ns_per_operation"] = benchmark.stats.stats.min / operations * 1e9
