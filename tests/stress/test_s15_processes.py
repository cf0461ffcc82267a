"""Scenario 15: fork under load, subinterpreters, and the interpreter's end in mid-call."""

from __future__ import annotations

import os

import pytest
from stress.support import run_child, scaled

FORK = """
import time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process of several threads
FORKS = int(sys.argv[1])
cache = Cache(200, ttl=1000, listener=lambda k, v, c: None)
plain = Cache(200, policy="lfu")
@lru_cache(100)
def f(*args, **kwargs):
    return args
stop = False
errors = []
def work(n):
    i = 0
    try:
        while not stop:
            i += 1
            cache.set((n, i % 300), [i], tags=["t", i % 7]); cache.get((n, (i * 7) % 300))
            plain[i % 300] = i; plain.get(i * 3 % 300)
            f(i % 150), f(i % 150, k=n)
            cache.get_or_set(("load", i % 50), lambda: time.sleep(0) or i)
            if i % 50 == 0:
                cache.invalidate_tag(i % 7); cache.expire(10); plain.resize(150 + i % 100)
                cache.delete(("load", i % 50))
    except BaseException as e:
        errors.append(e)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
for t in threads: t.start()

def child():
    import signal
    signal.alarm(20)  # a child that hangs dies of it, and the parent sees the signal
    for i in range(50):
        cache[("child", i)] = i
        assert cache[("child", i)] == i
        plain[i] = i
        f(i), f(i, k="child")
        # No flight of the parent's is waited for.
        cache.get_or_set(("load", i), lambda: "child")
    len(cache), list(cache), cache.expire(), cache.stats(), cache.evict(5)
    cache._check(); plain._check(); f.cache._check()
    cache.clear(); plain.clear(); f.cache_clear()
    gc.collect()

for n in range(FORKS):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, (n, status, os.waitstatus_to_exitcode(status))
    assert not errors, errors
stop = True
for t in threads: t.join(30)
assert not any(t.is_alive() for t in threads)
assert not errors, errors
cache._check(); plain._check(); f.cache._check()
assert len(cache) <= 200
print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_s15_fork_while_threads_use_the_cache() -> None:
    assert run_child(FORK, scaled(50, 1000)).endswith("ok\n")


FORK_IN_LOAD = """
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)
cache = Cache(10)
started, go_on = threading.Event(), threading.Event()
def load():
    started.set()
    go_on.wait(60)
    return "parent"
leader = threading.Thread(target=lambda: cache.get_or_set("k", load), daemon=True)
leader.start()
started.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    # The leader does not exist here: the child loads for itself.
    os._exit(0 if cache.get_or_set("k", lambda: "child") == "child" else 1)
assert os.waitpid(pid, 0)[1] == 0
go_on.set()
leader.join(60)
assert cache["k"] == "parent"
# A fork from within the loader.
def forking():
    global pid
    pid = os.fork()
    return "loaded"
got = cache.get_or_set("f", forking)
assert got == "loaded"
if pid == 0:
    signal.alarm(20)
    os._exit(0 if cache.get_or_set("f", lambda: "again") in ("loaded", "again") else 1)
assert os.waitpid(pid, 0)[1] == 0
assert cache["f"] == "loaded"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_s15_a_forked_child_starts_with_no_flights() -> None:
    run_child(FORK_IN_LOAD)


SUBINTERPRETER = """
try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
sys.path[:0] = {path!r}
try:
    from fastcache import Cache, lru_cache
except ImportError as error:
    assert "interpreter" in str(error), str(error)
    outcome = "ImportError: " + str(error)
else:
    cache = Cache(10)
    for i in range(50):
        cache[i] = [i]
    assert cache[49] == [49] and len(cache) == 10
    f = lru_cache(5)(len)
    assert f("abc") == f("abc") == 3 and f.cache_info().hits == 1
    cache._check()
    outcome = "works"
with open({out!r}, "w") as file:
    file.write(outcome)
'''
import tempfile
out = os.path.join(tempfile.mkdtemp(), "outcome")
kinds = []
if sys.version_info >= (3, 13):
    kinds = [("isolated",), ("legacy",)]
elif sys.version_info >= (3, 12):
    kinds = [dict(isolated=True), dict(isolated=False)]
else:
    kinds = [dict(isolated=True), dict(isolated=False)]
mine = Cache(10)
mine["main"] = 1
for kind in kinds * 3:
    if os.path.exists(out): os.remove(out)
    sub = interpreters.create(**kind) if isinstance(kind, dict) else interpreters.create(*kind)
    script = code.format(path=sys.path, out=out)
    failed = None
    if hasattr(interpreters, "exec"):
        failed = interpreters.exec(sub, script)
    else:
        interpreters.run_string(sub, script)
    assert failed is None, failed
    with open(out) as file:
        outcome = file.read()
    print(kind, outcome)
    assert outcome == "works" or outcome.startswith("ImportError"), outcome
    interpreters.destroy(sub)
    # The main interpreter is none the worse for it.
    mine["again"] = [mine]
    assert mine["main"] == 1
    f = lru_cache(5)(len)
    assert f("abc") == f("abc") == 3
    gc.collect(); mine._check()
"""


def test_s15_import_in_a_subinterpreter_works_or_says_why_not() -> None:
    print(run_child(SUBINTERPRETER))


EXIT = """
import time
how = sys.argv[1]
cache = Cache(100, ttl=100, listener=lambda k, v, c: None)
@lru_cache(50)
def f(x, y=0):
    return [x]
started = threading.Semaphore(0)
class Slow(Collides):
    def __hash__(self): return self.hash
    def __eq__(self, other):
        time.sleep(0)
        return super().__eq__(other)
class Dies:
    def __del__(self):
        cache.set("died", 1); cache.get("died"); f(1)
def work(n):
    i = 0
    started.release()
    while True:
        i += 1
        if how == "calls":
            cache[i % 300] = i; cache.get(i % 77); f(i % 99); f(i % 99, y=n)
        elif how == "eq":
            cache[Slow(i % 9)] = i; cache.get(Slow(i % 5)); f(Slow(i % 9))
        elif how == "loaders":
            cache.get_or_set(i % 20, lambda: time.sleep(0.001)); cache.delete(i % 20)
        elif how == "del":
            cache[i % 300] = Dies(); f(i % 99, y=n)
        elif how == "waiting":
            cache.get_or_set("slow", lambda: time.sleep(1000))
threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
for t in threads: t.start()
for t in threads: started.acquire()
time.sleep(0.05)  # not for order: so that the end falls in mid-call
if how == "del":
    sys.modules["kept"] = cache
"""


@pytest.mark.parametrize("how", ["calls", "eq", "loaders", "del", "waiting"])
def test_s15_exit_with_threads_in_mid_call(how: str) -> None:
    for _ in range(scaled(3, 100)):
        run_child(EXIT, how, limit=60)


TEARDOWN = """
import atexit, builtins
class Dies:
    def __init__(self, cache): self.cache = cache
    def __del__(self):
        self.cache.set("x", 1), self.cache.get("x"), len(self.cache), list(self.cache)
cache = Cache(10, listener=lambda k, v, c: cache)
for i in range(10):
    cache[i] = Dies(cache)
builtins.kept = cache
sys.kept = Cache(None, weigher=lambda k, v: 1)
sys.kept["me"] = sys.kept
@lru_cache
def f(x): return Dies(cache)
f(1)
iterator = iter(cache); next(iterator)
view = cache.items()
atexit.register(cache.get, 1)
atexit.register(f, 2)
"""


def test_s15_caches_alive_at_exit() -> None:
    run_child(TEARDOWN)
