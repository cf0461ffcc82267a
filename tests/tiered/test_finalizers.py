"""Finalizers that use a tiered cache: the collector may run them in the midst of any of its lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stress.support import run_child

SCRIPT = """
from fastcache import Cache, TieredCache
from fastcache.backplane import InProcessBackplane
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.stores.protocol import StoreError

kind, where = sys.argv[1:]
l2 = SQLiteStore(where) if kind == "sqlite" else RedisStore(where) if kind == "redis" else None
more = {"backplane": InProcessBackplane()} if kind == "inprocess" else {}
ran, wrong = [], []

def load(x):
    Garbage(1)
    return x

l1 = Cache(50)
t = TieredCache(l1, l2, namespace="finalizers", loader=load, ttl=100, **more)

class Garbage:
    def __init__(self, x):
        self.me, self.x = self, x
    def __del__(self):
        if not armed or self.x % 3:
            return
        ran.append(self.x)
        try:
            t.get(self.x)
            t.invalidate(self.x)
            t.set(-self.x - 1, 1)
            t.get_many([self.x, self.x + 1])
            t.stats()
            t.invalidate_tag("a")
        except StoreError:
            pass  # a file is asked by this thread already, and says so
        except BaseException as error:
            wrong.append(error)

def work(seed):
    for i in range(60):
        x = i * seed % 97
        Garbage(x)
        t.get(x)
        if i % 10 == 0: t.invalidate(x)
        if i % 7 == 0: t.set(x, i, tags=["a"])
        if i % 13 == 0: t.get_many(range(x, x + 5))

armed = True
gc.set_threshold(1)
threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in (1, 2, 3)]
for thread in threads: thread.start()
for thread in threads:
    thread.join(60)
    assert not thread.is_alive(), "a thread hangs"
gc.set_threshold(700)
armed = False
assert ran and not wrong, wrong
l1._check()
t.close()
"""


@pytest.mark.parametrize("kind", ["alone", "inprocess", "sqlite", "redis"])
def test_finalizers_that_use_the_cache_hang_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where: Any = tmp_path / "cache.db"
    if kind == "redis":
        where = request.getfixturevalue("redis_server").url
    run_child(SCRIPT, kind, where)
