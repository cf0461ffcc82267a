"""Scenarios 16 to 20: loads that fail, wait for themselves, are wanted by a thousand, or lose their loop.

Everything that may hang runs in a child with a limit.
"""

from __future__ import annotations

import sys
import textwrap

import pytest
from stress.support import run_child, scaled

LOADING = """
import asyncio, contextvars, os, signal, time, traceback
from concurrent.futures import ThreadPoolExecutor
from fastcache import cached
from fastcache.testing import FakeClock

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us in the background

def started(*functions):
    threads = [threading.Thread(target=f, daemon=True) for f in functions]
    for t in threads: t.start()
    return threads

def joined(threads):
    for t in threads:
        t.join(60)
        assert not t.is_alive(), "a thread hangs"

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.0005)

async def turns(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)

KINDS = {
    "simple": {},
    "rules": {"ttl": 600, "grace": 600},
    "timed": {"hard_timeout": 60},
    "keyed": {"key": lambda x: x},
    "bound": {"bind": True},
}
"""

KINDS = ("simple", "rules", "timed", "keyed", "bound")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork of POSIX")


def child(script: str, *arguments: object) -> str:
    return run_child(LOADING + textwrap.dedent(script), *arguments)


# ---- 16: it raises, is cancelled, is interrupted -----------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_s16_an_error_reaches_the_waiters(kind: str) -> None:
    child(
        """
        class Mine(Exception): pass
        gate = threading.Event()
        loads = []
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            loads.append(x)
            if len(loads) == 1:
                gate.wait(60)
                raise Mine(x)
            return x
        errors = []
        def ask():
            try: get(1)
            except Mine as e:
                errors.append(len(traceback.extract_tb(e.__traceback__)))
                seen.append(weakref.ref(e))
        seen = []
        threads = started(*[ask] * 20)
        until(lambda: get.cache.stats().misses == 20)
        time.sleep(0.01)
        gate.set()
        joined(threads)
        del threads
        assert len(errors) == 20 and loads == [1], (errors, loads)
        assert max(errors) <= min(errors) + 8, errors
        gc.collect()
        assert [s() for s in seen] == [None] * 20
        assert get(1) == 1 and get(1) == 1 and loads == [1, 1]
        """,
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "Odd"])
def test_s16_what_is_no_exception_hands_over(kind: str, error: str) -> None:
    """Whoever led gets it; the others take over, one after the other, or one for all."""
    child(
        """
        class Odd(BaseException): pass
        error = {**vars(__builtins__), "Odd": Odd}[sys.argv[2]]
        gate = threading.Event()
        loads = []
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            loads.append(x)
            if len(loads) == 1:
                gate.wait(60)
                raise error
            return x
        got = []
        def ask():
            try: got.append(get(1))
            except BaseException as e: got.append(type(e))
        threads = started(*[ask] * 20)
        until(lambda: get.cache.stats().misses == 20)
        gate.set()
        joined(threads)
        assert sorted(map(str, got)) == sorted(map(str, [error] + [1] * 19)), got
        assert loads == [1, 1] and get(1) == 1
        """,
        kind,
        error,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_s16_no_traceback_is_kept_alive(kind: str) -> None:
    child(
        """
        class Token: pass
        class Mine(Exception): pass
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            local = Token()
            seen.append(weakref.ref(local))
            raise Mine(x)
        @cached(**KINDS[sys.argv[1]])
        async def get_async(x):
            local = Token()
            seen.append(weakref.ref(local))
            raise Mine(x)
        seen = []
        def ask():
            local = Token()
            seen.append(weakref.ref(local))
            try: get(1)
            except Mine as e: seen.append(weakref.ref(e))
        async def ask_async():
            local = Token()
            seen.append(weakref.ref(local))
            try: await get_async(1)
            except Mine as e: seen.append(weakref.ref(e))
            await asyncio.sleep(0); await asyncio.sleep(0)
        ask()
        time.sleep(0.05)                        # a thread of the pool lets go of its job
        asyncio.run(ask_async())
        gc.collect()
        assert len(seen) == 6 and [s() for s in seen] == [None] * 6, seen
        """,
        kind,
    )


@posix_only
@pytest.mark.parametrize("kind", KINDS)
def test_s16_ctrl_c_in_the_load(kind: str) -> None:
    child(
        """
        loads = []
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            loads.append(x)
            if len(loads) == 1:
                os.kill(os.getpid(), signal.SIGINT)
                end = time.monotonic() + 0.5
                while time.monotonic() < end: pass
            return x
        try: get(1)
        except KeyboardInterrupt: pass
        else: raise AssertionError("not interrupted")
        got = []
        joined(started(lambda: got.append(get(1)), lambda: got.append(get(1))))
        assert got == [1, 1] and get(1) == 1 and get.cache_contains(1)
        """,
        kind,
    )


@posix_only
@pytest.mark.parametrize("kind", KINDS)
def test_s16_ctrl_c_while_waiting(kind: str) -> None:
    child(
        """
        gate, begun = threading.Event(), threading.Event()
        loads = []
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            loads.append(x)
            begun.set()
            gate.wait(60)
            return x
        got = []
        leader = started(lambda: got.append(get(1)))
        begun.wait(60)
        def interrupt():
            until(lambda: get.cache.stats().misses == 2)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        other = started(interrupt)
        began = time.monotonic()
        try: get(1)
        except KeyboardInterrupt: pass
        else: raise AssertionError("not interrupted")
        assert time.monotonic() - began < 30
        gate.set()
        joined(leader + other)
        assert got == [1] and loads == [1] and get(1) == 1
        """,
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", ["miss", "stale"])
def test_s16_interrupted_at_every_step(kind: str, call: str) -> None:
    """An interrupt may come wherever the interpreter looks for one, which is after calls, at the begin
    of functions and at jumps back: whichever it is, no load stays behind that others would wait for."""
    out = child(
        """
        options = dict(KINDS[sys.argv[1]])
        clock = FakeClock()
        if sys.argv[2] == "stale":
            options.update(ttl=10, stale=1e6, clock=clock)
        class Interrupt(BaseException): pass
        @cached(maxsize=None, **options)
        def get(x):
            return x
        import fastcache.loading.threads as ours
        root = os.path.dirname(ours.__file__)
        count = stop = 0
        import dis
        names, last = {}, {}
        def looks(frame):
            "Whether the interpreter has just looked for interrupts."
            code = frame.f_code
            if code not in names:
                names[code] = {i.offset: i.opname for i in dis.get_instructions(code)}
            before = names[code].get(last.get(frame))
            last[frame] = frame.f_lasti
            return before is not None and before.startswith(("CALL", "RESUME", "JUMP_BACK", "PRECALL"))
        def trace(frame, event, arg):
            global count
            if not frame.f_code.co_filename.startswith(root):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and looks(frame):
                count += 1
                if count == stop:
                    raise Interrupt
            return trace
        interrupted = 0
        sys._getframe().f_trace_opcodes = True  # 3.12 heeds it only where it was set before settrace
        for stop in range(1, 100_000):
            count = 0
            if sys.argv[2] == "stale":
                get(stop)
                clock.advance(11)
            sys.settrace(trace)
            try:
                get(stop)
                ended = True
            except Interrupt:
                ended = False
                interrupted += 1
            finally:
                sys.settrace(None)
                last.clear()
            got = []
            began = time.monotonic()
            joined(started(lambda: got.append(get(stop))))
            assert got == [stop], (stop, got)
            assert time.monotonic() - began < 0.9, f"it waited for the load interrupted at step {stop}"
            if sys.argv[2] == "miss":
                assert get.cache_contains(stop), stop
            if count < stop:
                break
        print(interrupted)
        """,
        kind,
        call,
    )
    assert int(out) > 20 or (kind in ("simple", "keyed", "bound") and call == "miss")


def test_s16_what_is_no_exception_in_a_batch() -> None:
    child(
        """
        class Odd(BaseException): pass
        calls = []
        @cached(batch=True)
        async def get(keys):
            calls.append(keys)
            assert len(calls) < 99, "it is called for ever"
            raise Odd
        async def main():
            got = await asyncio.gather(get(1), get(2), get(2), get([3, 4]), return_exceptions=True)
            assert [type(g) for g in got] == [Odd] * 4, got
            assert len(calls) <= 4
        import logging
        logging.disable(logging.CRITICAL)
        asyncio.run(main())
        """
    )


def test_s16_cancelled_loads() -> None:
    child(
        """
        gate = None
        loads = []
        @cached
        async def get(x):
            loads.append(x)
            if len(loads) == 1:
                await asyncio.Event().wait()
            return x
        async def main():
            callers = [asyncio.create_task(get(1)) for _ in range(20)]
            await turns(lambda: loads and get.cache.stats().misses == 20)
            load = [t for t in asyncio.all_tasks() if "carry_out" in repr(t.get_coro())]
            assert len(load) == 1
            load[0].cancel()
            got = await asyncio.gather(*callers, return_exceptions=True)
            cancelled = [g for g in got if isinstance(g, asyncio.CancelledError)]
            assert len(cancelled) == 1 and got.count(1) == 19, got    # who led; the others took over
            assert loads == [1, 1] and await get(1) == 1
        asyncio.run(main())
        """
    )


@posix_only
def test_s16_ctrl_c_under_asyncio() -> None:
    child(
        """
        loads = []
        @cached
        async def get(x):
            loads.append(x)
            if len(loads) == 1:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(60)
            return x
        try: asyncio.run(get(1))
        except KeyboardInterrupt: pass
        else: raise AssertionError("not interrupted")
        assert asyncio.run(get(1)) == 1 and get.cache_contains(1)
        """
    )


# ---- 17: nobody waits for ever -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_s17_the_same_key_from_its_own_loader(kind: str) -> None:
    child(
        """
        depth = 0
        @cached(**KINDS[sys.argv[1]])
        def get(x):
            global depth
            depth += 1
            return x if depth > 3 else get(x) + 1
        assert get(1) == 4 and depth == 4
        assert get(1) == 4 and depth == 4
        """,
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_s17_a_ring_of_threads(kind: str) -> None:
    child(
        """
        n = int(sys.argv[2])
        options = dict(KINDS[sys.argv[1]])
        barrier = threading.Barrier(n)
        met = threading.local()
        began = set()
        @cached(maxsize=None, **options)
        def get(x):
            if x in began:
                return 0                        # computed through
            began.add(x)
            barrier.wait(60)
            return 1 + get((x + 1) % n)
        got = {}
        joined(started(*[lambda x=x: got.update({x: get(x)}) for x in range(n)]))
        assert sorted(got) == list(range(n)) and max(got.values()) >= 1, got
        """,
        kind,
        8,
    )


def test_s17_a_ring_of_tasks() -> None:
    child(
        """
        n = 50
        began = set()
        @cached(maxsize=None)
        async def get(x):
            if x in began:
                return 0
            began.add(x)
            await turns(lambda: len(began) == n)
            return 1 + await get((x + 1) % n)
        async def main():
            async with asyncio.timeout(60):
                got = await asyncio.gather(*(get(x) for x in range(n)))
            assert max(got) >= 1
        asyncio.run(main())
        """
    )


def test_s17_a_ring_through_executors() -> None:
    """With the context (asyncio.to_thread) it is seen; without it `wait_timeout` ends the wait."""
    child(
        """
        cache = Cache(100)
        began = set()
        pool = ThreadPoolExecutor(8)
        @cached(cache=cache, namespace="n", wait_timeout=0.5)
        def sync(x, how):
            if x in began:
                return 0
            began.add(x)
            until(lambda: len(began) == 2)
            return 1 + asyncio.run(get("b" if x == "a" else "a", how))
        @cached(cache=cache, namespace="n", wait_timeout=0.5)
        async def get(x, how):
            if x in began:
                return 0
            began.add(x)
            await turns(lambda: len(began) == 2)
            other = "b" if x == "a" else "a"
            if how == "to_thread":
                return 1 + await asyncio.to_thread(sync, other, how)
            return 1 + await asyncio.get_running_loop().run_in_executor(pool, sync, other, how)
        async def main(how):
            async with asyncio.timeout(60):
                return await asyncio.gather(get("a", how), get("b", how))
        for how in ("to_thread", "executor"):
            began.clear()
            start = time.monotonic()
            got = asyncio.run(main(how))
            assert max(got) >= 1, got
            if how == "to_thread":
                assert time.monotonic() - start < 0.45, "it was not seen through the executor"
        # its own key, in another thread
        @cached(wait_timeout=0.2)
        def own(x, how):
            if x in began:
                return 0
            began.add(x)
            if how == "context":
                return 1 + pool.submit(contextvars.copy_context().run, own, x, how).result(60)
            return 1 + pool.submit(own, x, how).result(60)
        for how in ("context", "plain"):
            began.clear()
            assert own(1, how) == 1
        """
    )


def test_s17_a_sync_call_on_the_loop_that_runs_its_leader() -> None:
    child(
        """
        cache = Cache(100)
        @cached(cache=cache, namespace="n")
        async def get(x):
            await asyncio.sleep(0.01)
            return "task"
        @cached(cache=cache, namespace="n")
        def sync(x):
            return "through"
        async def main():
            task = asyncio.create_task(get(1))
            await turns(lambda: cache.stats().misses)
            await asyncio.sleep(0)
            assert sync(1) == "through"
            assert cache.get_or_set(get.cache_key(1), lambda: "raw") == "raw"
            assert await task == "task" and sync(1) == "task"
        asyncio.run(main())
        """
    )


GEVENT = """
import sys
late = sys.argv[1] == "late"
if late:
    import fastcache, fastcache.loading.threads
import gevent, gevent.monkey
gevent.monkey.patch_all()
import gc, threading, time
from fastcache import Cache, cached
loads = []
options = {"plain": {}, "rules": {"ttl": 600, "grace": 600}, "timed": {"hard_timeout": 20},
           "stale": {"ttl": 0.05, "stale": 60}}[sys.argv[2]]
@cached(maxsize=None, **options)
def get(x):
    loads.append(x)
    gevent.sleep(0.01)
    return x
with gevent.Timeout(30):
    jobs = [gevent.spawn(get, i % 3) for i in range(60)]
    gevent.joinall(jobs, raise_error=True)
    assert [j.value for j in jobs] == [i % 3 for i in range(60)]
    if sys.argv[2] == "stale":
        gevent.sleep(0.1)
        assert [get(x) for x in range(3)] == [0, 1, 2]
        before = len(loads)
        gevent.sleep(0.1)
        assert len(loads) >= 3
    # a ring
    began = set()
    @cached(maxsize=None, **options)
    def ring(x):
        if x in began:
            return 0
        began.add(x)
        while len(began) < 2: gevent.sleep(0)
        return 1 + ring(1 - x)
    jobs = [gevent.spawn(ring, x) for x in (0, 1)]
    gevent.joinall(jobs, raise_error=True)
    # real threads beside
    got = gevent.get_hub().threadpool.apply(lambda: [get(x) for x in range(3)])
    assert got == [0, 1, 2]
    cache = Cache(9)
    def factory():
        gevent.sleep(0.01)
        return 1
    jobs = [gevent.spawn(cache.get_or_set, "k", factory) for _ in range(9)]
    gevent.joinall(jobs, raise_error=True)
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("kind", ["plain", "rules", "timed", "stale"])
def test_s17_under_gevent(when: str, kind: str) -> None:
    pytest.importorskip("gevent")
    import subprocess

    from stress.support import LIMIT, child_environment

    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", GEVENT, when, kind],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_s17_from_del(kind: str) -> None:
    """The collector calls __del__ wherever something is allocated, also in the middle of ours."""
    child(
        """
        @cached(maxsize=50, **KINDS[sys.argv[1]])
        def get(x):
            Garbage(1)                          # which starts the collector, and does nothing else
            return x
        class Garbage:
            def __init__(self, x):
                self.self, self.x = self, x
            def __del__(self):
                if armed and not self.x % 3:
                    assert get(self.x) == self.x
                    get(-self.x - 1)
        armed = True
        gc.set_threshold(1)
        def work(seed):
            for i in range(int(sys.argv[2])):
                x = i * seed % 97
                Garbage(x)
                assert get(x) == x
                if i % 10 == 0: get.cache_invalidate(x)
        joined(started(*[lambda s=s: work(s) for s in (1, 2, 3)]))
        armed = False
        """,
        kind,
        scaled(300, 30_000),
    )


def test_s17_from_del_in_batches() -> None:
    child(
        """
        @cached(batch=True, maxsize=50, max_wait=0.0005)
        def get(keys):
            Garbage(1)
            return {key: key for key in keys}
        class Garbage:
            def __init__(self, x):
                self.self, self.x = self, x
            def __del__(self):
                if armed and not self.x % 3:
                    assert get(self.x) == self.x
                    get(-self.x - 1)
                    get.cache_info()
        armed = True
        gc.set_threshold(1)
        def work(seed):
            for i in range(int(sys.argv[1])):
                x = i * seed % 97
                Garbage(x)
                assert get(x) == x
                if i % 10 == 0: get.cache_invalidate(x)
        joined(started(*[lambda s=s: work(s) for s in (1, 2, 3)]))
        armed = False
        """,
        scaled(300, 30_000),
    )


@posix_only
@pytest.mark.parametrize("kind", KINDS)
def test_s17_from_signal_handlers(kind: str) -> None:
    child(
        """
        @cached(maxsize=20, **KINDS[sys.argv[1]])
        def get(x):
            return x
        calls = 0
        within = False
        def handler(number, frame):
            global calls, within
            if within: return
            within = True
            calls += 1
            assert get(calls % 31) == calls % 31
            get.cache_invalidate(calls % 29)
            within = False
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0003)
        end = time.monotonic() + float(sys.argv[2])
        i = 0
        while time.monotonic() < end:
            i += 1
            assert get(i % 31) == i % 31
            if i % 7 == 0: get.cache_invalidate(i % 29)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert calls > 10
        """,
        kind,
        scaled(1, 60),
    )


def test_s17_every_time_out_is_shorter_than_the_load() -> None:
    child(
        """
        gate = threading.Event()
        loads = []
        @cached(hard_timeout=0.05)
        def get(x):
            loads.append(x)
            gate.wait(60)
            return x
        @cached(hard_timeout=0.05)
        async def get_async(x):
            loads.append(x)
            await asyncio.to_thread(gate.wait, 60)
            return x
        errors = []
        def ask():
            try: get(1)
            except TimeoutError as e: errors.append(e)
        joined(started(*[ask] * 10))
        assert len(errors) == 10 and loads == [1]
        gate.set()
        until(lambda: get.cache_contains(1))
        assert get(1) == 1 and loads == [1]
        gate.clear(); loads.clear()
        async def main():
            got = await asyncio.gather(*(get_async(1) for _ in range(10)), return_exceptions=True)
            assert [type(e) for e in got] == [TimeoutError] * 10 and loads == [1]
            gate.set()
            await turns(lambda: get_async.cache_contains(1))
            assert await get_async(1) == 1 and loads == [1]
        asyncio.run(main())
        """
    )


# ---- 18: a thousand want it --------------------------------------------------------------------


def test_s18_a_thousand_threads() -> None:
    child(
        """
        n = 1000
        threading.stack_size(256 * 1024)
        gate = threading.Event()
        loads = []
        @cached
        def get(x):
            loads.append(x)
            gate.wait(60)
            return x
        got = []
        threads = started(*[lambda: got.append(get(1))] * n)
        until(lambda: get.cache.stats().misses == n)
        began = time.perf_counter()
        gate.set()
        joined(threads)
        print(f"{n} threads awake after {(time.perf_counter() - began) * 1e3:.1f} ms", file=sys.stdout)
        assert got == [1] * n and loads == [1]
        """
    )


def test_s18_a_thousand_tasks() -> None:
    child(
        """
        n = 1000
        loads = []
        @cached
        async def get(x):
            loads.append(x)
            await turns(lambda: get.cache.stats().misses == n)
            return x
        async def main():
            async with asyncio.timeout(60):
                assert await asyncio.gather(*(get(1) for _ in range(n))) == [1] * n
        asyncio.run(main())
        assert loads == [1] and get.cache_info()[:2] == (0, n)
        """
    )


@pytest.mark.parametrize("leader", ["thread", "task"])
def test_s18_threads_and_tasks_of_several_loops(leader: str) -> None:
    child(
        """
        threads, loops, tasks = 400, 4, 150
        n = threads + loops * tasks
        threading.stack_size(256 * 1024)
        cache = Cache(9)
        loads, got = [], []
        begun, gate = threading.Event(), threading.Event()
        @cached(cache=cache, namespace="n")
        def sync(x):
            loads.append("thread")
            begun.set()
            gate.wait(60)
            return x
        @cached(cache=cache, namespace="n")
        async def get(x):
            loads.append("task")
            begun.set()
            await asyncio.to_thread(gate.wait, 60)
            return x
        def thread():
            got.append(sync(1))
        def loop():
            async def main():
                got.extend(await asyncio.gather(*(get(1) for _ in range(tasks))))
            asyncio.run(main())
        crowd = [thread] * threads + [loop] * loops
        if sys.argv[1] == "task": crowd.reverse()
        first = started(crowd.pop(0))
        begun.wait(60)
        rest = started(*crowd)
        until(lambda: cache.stats().misses == n)
        gate.set()
        joined(first + rest)
        assert got == [1] * n and loads == [sys.argv[1]], (len(got), loads)
        """,
        leader,
    )


def test_s18_invalidated_between_call_and_await() -> None:
    child(
        """
        version = 0
        @cached
        async def get(x):
            await asyncio.sleep(0)
            return version
        async def main():
            global version
            for version in range(200):
                call = get(1)
                task = asyncio.create_task(get(1))
                get.cache_invalidate(1)
                assert await call == version and await task == version
        asyncio.run(main())
        """
    )


# ---- 19: invalidated while it loads ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_s19_invalidated_while_it_loads(kind: str) -> None:
    child(
        """
        from fastcache.testing import invalidated_while_loading, invalidated_while_loading_async
        options = KINDS[sys.argv[1]]
        for play in (invalidated_while_loading, invalidated_while_loading_async):
            alone, together = play(cached(**options))
            assert (alone.first, alone.during, alone.after, alone.loads) == (1, None, 2, 2), alone
            assert (together.first, together.during, together.after, together.loads) == (1, 2, 2, 2)
        """,
        kind,
    )


def test_s19_at_random() -> None:
    """No call returns anything older than what was invalidated before it began."""
    child(
        """
        rounds = int(sys.argv[1])
        source = [0] * 8
        locks = [threading.Lock() for _ in source]
        @cached(ttl=600, refresh=0.001, stale=10)
        def get(x):
            value = source[x]
            time.sleep(0)
            return value
        @cached
        async def get_async(x):
            value = source[x]
            await asyncio.sleep(0)
            return value
        def write(seed):
            for i in range(rounds):
                x = i * seed % 8
                with locks[x]:
                    source[x] += 1
                get.cache_invalidate(x)
                get_async.cache_invalidate(x)
                done[x] = max(done[x], 0)
                known[x] = source[x] if seed == 1 and x % 2 == 0 else known[x]
                time.sleep(0)
        done, known = [0] * 8, [0] * 8
        stop = False
        failures = []
        def read():
            i = 0
            while not stop:
                i += 1
                x = i % 4 * 2
                least = known[x]
                if (got := get(x)) < least: failures.append((x, got, least))
        def read_loop():
            async def main():
                async def one(start):
                    i = start
                    while not stop:
                        i += 1
                        x = i % 4 * 2
                        least = known[x]
                        if (got := await get_async(x)) < least: failures.append((x, got, least))
                        await asyncio.sleep(0)
                await asyncio.gather(*(one(s) for s in range(5)))
            asyncio.run(main())
        # one writer for the keys that are checked: `known` is what its own invalidation covered
        readers = started(read, read, read_loop)
        write(1)
        stop = True
        joined(readers)
        assert failures == [], failures[:5]
        for x in range(8):
            assert get(x) == source[x] and asyncio.run(get_async(x)) == source[x]
        """,
        scaled(3_000, 300_000),
    )


# ---- 20: a loop that goes away -----------------------------------------------------------------


@pytest.mark.parametrize("end", ["stopped", "closed", "run"])
def test_s20_waiters_of_others_are_served(end: str) -> None:
    child(
        """
        end = sys.argv[1]
        loads = []
        begun = threading.Event()
        cache = Cache(9)
        @cached(cache=cache, namespace="n")
        async def get(x):
            loads.append(x)
            if len(loads) == 1:
                begun.set()
                await asyncio.Event().wait()
            return "task"
        @cached(cache=cache, namespace="n")
        def sync(x):
            return "thread"
        got = []
        def other_loop():
            async def main():
                got.extend(await asyncio.gather(*(get(1) for _ in range(5))))
            asyncio.run(main())
        def thread():
            got.append(sync(1))
        loop = asyncio.new_event_loop()
        async def main():
            task = asyncio.ensure_future(get(1))
            await asyncio.to_thread(begun.wait, 60)
            waiting.extend(started(other_loop, thread, thread))
            await turns(lambda: cache.stats().misses == 8)
        waiting = []
        if end == "run":
            asyncio.run(main())
        else:
            import logging
            logging.disable(logging.CRITICAL)       # the caller's own task is destroyed, and said so
            loop.run_until_complete(main())
            if end == "closed":
                loop.close()
        began = time.monotonic()
        joined(waiting)
        assert time.monotonic() - began < 20
        assert len(got) == 7 and set(got) <= {"task", "thread"}, got
        assert cache.get(get.cache_key(1)) in ("task", "thread")
        if end == "stopped":
            # the first load runs on, and must not overwrite what is newer
            cache.set(get.cache_key(1), "newer")
            loop.run_until_complete(asyncio.sleep(0))
            for t in asyncio.all_tasks(loop): t.cancel()
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.close()
            assert sync(1) == "newer"
        """,
        end,
    )


def test_s20_a_loop_that_runs_on_after_its_load_was_given_up() -> None:
    """The late value is older than what was invalidated since: it is not kept."""
    child(
        """
        version = 1
        begun = threading.Event()
        @cached
        async def get(x):
            got = version
            if not begun.is_set():
                begun.set()
                await gate.wait()
            return got
        gate = asyncio.Event()
        loop = asyncio.new_event_loop()
        async def main():
            task = asyncio.ensure_future(get(1))
            await asyncio.sleep(0); await asyncio.sleep(0)
            assert begun.is_set()
            return task
        task = loop.run_until_complete(main())
        assert asyncio.run(get(1)) == 1             # on another loop: the first one is stopped
        version = 2
        get.cache_invalidate(1)
        gate.set()
        loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert asyncio.run(get(1)) == 2
        """
    )


def test_s20_the_same_thread_runs_another_loop() -> None:
    """At once, and not after the second in which waiters look whether the leader lives."""
    child(
        """
        calls = []
        @cached
        async def get(x):
            calls.append(x)
            if len(calls) == 1: await asyncio.Event().wait()
            return x
        loop = asyncio.new_event_loop()
        task = loop.create_task(get(1))
        loop.run_until_complete(asyncio.sleep(0.001))
        began = time.monotonic()
        assert asyncio.run(get(1)) == 1
        assert time.monotonic() - began < 0.9
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        """
    )


# ---- processes ---------------------------------------------------------------------------------


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_loads_and_renewals_run() -> None:
    child(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        clock = FakeClock()
        slow = threading.Event()
        parent = os.getpid()
        @cached(maxsize=None, ttl=10, stale=1e9, hard_timeout=30, clock=clock)
        def get(x):
            if clock.now and os.getpid() == parent:
                slow.wait(60)
            return x, os.getpid()
        @cached(maxsize=None, ttl=10, stale=1e9, clock=clock)
        async def get_async(x):
            if clock.now and os.getpid() == parent:
                await asyncio.Event().wait()
            return x, os.getpid()
        def in_child():
            # what is being loaded in the parent is loaded here anew, in threads of our own
            got = []
            joined(started(lambda: got.append(get(1000)), lambda: got.append(get(1000))))
            assert got == [(1000, os.getpid())] * 2, got
            assert get(1) == (1, parent)
            clock.advance(11)
            assert get(1) == (1, parent)
            until(lambda: get(1) == (1, os.getpid()))
            async def main():
                for x in range(300):
                    assert (await get_async(x))[0] == x
                clock.advance(11)
                for x in range(300):
                    assert (await get_async(x))[0] == x
                await turns(lambda: get_async.cache.peek(0) == (0, os.getpid()))
            asyncio.run(main())
        async def main():
            for x in range(300): await get_async(x)
            for x in range(5): get(x)
            clock.advance(11)
            for x in range(300): await get_async(x)       # renewals, as many as there may be
            for x in range(5): get(x)
            threads = started(lambda: get(1000))
            await turns(lambda: get.cache.stats().misses == 6)
            for _ in range(int(sys.argv[1])):
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        asyncio._set_running_loop(None)
                        in_child()
                        code = 0
                    except BaseException:
                        traceback.print_exc()
                    finally:
                        os._exit(code)
                _, status = await asyncio.to_thread(os.waitpid, child, 0)
                assert status == 0, status
            slow.set()
            joined(threads)
        asyncio.run(main())
        assert get(1000) == (1000, parent)
        """,
        scaled(5, 500),
    )


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_batches_gather() -> None:
    """The child waits neither for what the parent's threads gathered, nor for their lock."""
    child(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        @cached(batch=True, max_wait=0.05, maxsize=None)
        def get(keys):
            return {key: key for key in keys}
        stop = False
        def work(seed):
            i = 0
            while not stop:
                i += 1
                get(seed * 1_000_000 + i)
        threads = started(*[lambda s=s: work(s) for s in (1, 2, 3)])
        for round_ in range(int(sys.argv[1])):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    began = time.monotonic()
                    assert get(-1 - round_) == -1 - round_
                    assert time.monotonic() - began < 20
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        stop = True
        joined(threads)
        """,
        scaled(20, 1000),
    )


@pytest.mark.parametrize("how", ["end", "exit", "error", "thread"])
@pytest.mark.parametrize("what", ["timed", "renewals", "waiters", "tasks", "batch"])
def test_exit_while_it_loads(how: str, what: str) -> None:
    """Exit code 0 (1 for an error that is the script's own), and nothing on standard error."""
    import subprocess

    from stress.support import LIMIT, child_environment

    script = """
import asyncio, sys, threading, time
from fastcache import cached
from fastcache.testing import FakeClock
what, how = sys.argv[1:]
clock = FakeClock()
release = threading.Event()
def slow(x):
    if x or clock.now:
        while True:
            time.sleep(0.001)
    return x
get = cached(hard_timeout=0.01)(slow)
renewed = cached(ttl=10, stale=1e9, clock=clock)(slow)
@cached
def plain(x):
    time.sleep(60)
@cached(ttl=10, stale=1e9, clock=clock)
async def get_async(x):
    while x or clock.now:
        await asyncio.sleep(0.001)
    return x
@cached(batch=True)
def batch(keys):
    time.sleep(60)
def attempt(x):
    try:
        get(x)
    except TimeoutError:
        pass
if what == "timed":
    for x in range(1, 9):
        attempt(x)
elif what == "renewals":
    renewed(0)
    clock.advance(11)
    renewed(0)
elif what == "waiters":
    for _ in range(9):
        threading.Thread(target=plain, args=(1,), daemon=True).start()
    while plain.cache.stats().misses < 9:
        time.sleep(0.001)
elif what == "tasks":
    async def main():
        await get_async(0)
        clock.advance(11)
        await get_async(0)
        asyncio.ensure_future(get_async(1))
        await asyncio.sleep(0.01)
    asyncio.run(main())
else:
    for x in range(9):
        threading.Thread(target=batch, args=(x,), daemon=True).start()
    time.sleep(0.05)
if how == "exit":
    sys.exit(0)
if how == "thread":
    def work():
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            attempt(int(end * 1e6) % 1000)
    threading.Thread(target=work).start()
if how == "error":
    import atexit
    # 3.12 starts no thread any more at exit, so that what loads there runs in the caller's
    if what == "timed" or sys.version_info[:2] != (3, 12):
        atexit.register(lambda: attempt(77))
    else:
        at_exit = cached(hard_timeout=0.01)(int)
        atexit.register(lambda: at_exit(77))
"""
    for _ in range(scaled(2, 100)):
        done = subprocess.run(
            [sys.executable, "-c", script, what, how],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
