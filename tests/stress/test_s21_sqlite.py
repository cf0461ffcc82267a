"""Scenario 21 on SQLiteStore: processes race and are killed, and no key is stale at quiescence."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stress.support import LIMIT, child_environment, scaled

RACER = """
import mmap, os, random, sys, time
from fastcache.stores import SQLiteStore
from fastcache.stores.protocol import Fill, bucket_of
from fastcache.testing._conform import Client, name_of, target_of

path, source, me, kind, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
l2 = Client(SQLiteStore(path, timeout=60), "race", None)
fd = os.open(source, os.O_RDWR)
words = memoryview(mmap.mmap(fd, 8 * (2 + rounds))).cast("Q")
truth = words[2:]  # the source: one number for each round
memory = l2.space.generations()
rng = random.Random(os.urandom(8))
stale = {"L1": 0, "L2": 0}
steps = 0

def together():
    # both processes are here: each counts its arrivals
    global steps
    steps += 1
    words[me] = steps
    while words[1 - me] < steps:
        time.sleep(0)

def spin():
    until = time.perf_counter() + rng.random() * 2e-4
    while time.perf_counter() < until:
        pass

def others(name):
    bucket = bucket_of(name)
    return memory.shared[1 + bucket] - memory.own[1 + bucket]

def get(name, number):
    # what L1 has afterwards, and from when
    noted = others(name)
    found = l2.read(name)
    if found is not None:
        if kind == "noted late":
            spin()
            noted = others(name)
        return int(found.data), noted
    token = os.urandom(8)
    if kind == "unfenced":
        value = truth[number]
        spin()
        (lease,) = l2(l2.space.lease([name], token, 60))
    else:
        (lease,) = l2(l2.space.lease([name], token, 60))
        value = truth[number]
        spin()
    l2.fill(name, lease.token, b"%d" % value)
    return value, noted

for number in range(rounds):
    name = name_of(number)
    reads = number % 2 == me
    if reads and number % 4 < 2:
        l2.store_value(name, b"0")
    together()
    spin()
    if reads:
        value, noted = get(name, number)
    else:
        truth[number] = 1
        if kind != "not invalidated":
            l2.invalidate(name)
    together()
    if reads:
        stale["L1"] += noted == others(name) and value != truth[number]
        found = l2.read(name)
        stale["L2"] += found is not None and int(found.data) != truth[number]
print(*stale.values(), flush=True)
l2.store.close()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    preamble = f"import faulthandler; faulthandler.dump_traceback_later({LIMIT}, exit=True)\n"
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(script), *map(str, arguments)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def race(folder: Path, kind: str, rounds: int) -> tuple[int, int]:
    """In each round one process reads a key while another changes it. How often the key is stale at the end of its
    round, in the L1 of who read it and in L2."""
    source = folder / "source"
    source.write_bytes(bytes(8 * (2 + rounds)))
    racers = [start(RACER, folder / "cache.db", source, me, kind, rounds) for me in range(2)]
    stale = [0, 0]
    try:
        for racer in racers:
            counts = line_of(racer).split()
            assert len(counts) == 2, "a racer failed"
            stale = [n + int(count) for n, count in zip(stale, counts, strict=True)]
            assert racer.wait(LIMIT) == 0
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    return stale[0], stale[1]


def test_no_key_is_stale(tmp_path: Path) -> None:
    assert race(tmp_path, "fenced", scaled(10_000, 1_000_000)) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "tier"), [("unfenced", 1), ("noted late", 0), ("not invalidated", 1)]
)
def test_without_the_fence_it_would_be_found(kind: str, tier: int, tmp_path: Path) -> None:
    stale = race(tmp_path, kind, scaled(4_000, 4_000))
    assert stale[tier] > 0


WRITER = """
import itertools, os, sys
from fastcache.stores import SQLiteStore
from fastcache.testing._conform import Client, name_of

l2 = Client(SQLiteStore(sys.argv[1], timeout=60, max_bytes=1 << 20), "killed", None)
for number in itertools.count():
    name = name_of(number % 7)
    value = b"%d " % number * (1 + number * 37 % 900)
    l2.store_value(name, value)
    print("stored", number, flush=True)
    if number % 3:
        l2.invalidate(name)
        print("gone", number, flush=True)
    else:
        l2.put(name, b"", value)
"""


def test_killed_in_mid_write(tmp_path: Path) -> None:
    """What was acknowledged is so, and the file is whole, however often its users are killed."""
    from fastcache.stores import SQLiteStore
    from fastcache.testing._conform import Client, name_of

    path = tmp_path / "cache.db"
    l2 = Client(SQLiteStore(path, timeout=60), "killed", None)
    generations = l2.space.generations()
    assert generations is not None
    for round_ in range(scaled(25, 1000)):
        writer = start(WRITER, path)
        assert writer.stdout is not None
        lines = [line_of(writer) for _ in range(1 + os.urandom(1)[0] % 40)]
        os.kill(writer.pid, signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
        writer.communicate()
        words = [re.fullmatch(r"(stored|gone) (\d+)\n", line) for line in lines]
        done = [(word[1], int(word[2])) for word in words if word is not None]
        assert len(done) >= len(lines) - 1, lines
        last = {number % 7: (what, number) for what, number in done}
        for place, (what, number) in last.items():
            found = l2.read(name_of(place))
            newest = done[-1][1]
            # the one change that was under way when it was killed
            possible = {int(found.data.split()[0])} if found else {None}
            if what == "gone":
                allowed = {None, newest + 1}
            else:
                allowed = {number, None} if number == newest else {number}
                allowed |= {newest + 1} if (newest + 1) % 7 == place else set()
            assert possible <= allowed, (round_, place, what, number, done[-1], found)
            if found:
                value = int(found.data.split()[0])
                assert found.data == b"%d " % value * (1 + value * 37 % 900)
        before = generations.shared[0]
        l2.invalidate(name_of(1))
        assert generations.shared[0] == before + 1
    l2.store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    counted = "SELECT (SELECT bytes FROM meta) = (SELECT coalesce(sum(size), 0) FROM value)"
    assert connection.execute(counted).fetchone() == (1,)
    connection.close()
