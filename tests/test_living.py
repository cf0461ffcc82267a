"""fastcache._living: weak references that can be read while others are added."""

import gc
import sys
import threading

from _support import run_threads

from fastcache._living import Living


class Thing:
    pass


def test_what_is_alive() -> None:
    living = Living[Thing]()
    first, second = Thing(), Thing()
    living.add(first)
    living.add(first)
    living.add(second)
    assert set(living.all()) == {first, second} and len(living.all()) == 2
    del first
    gc.collect()
    assert living.all() == [second]
    assert len(living._references) == 1


def test_others_add_and_drop_meanwhile() -> None:
    living = Living[Thing]()
    kept = [Thing() for _ in range(500)]
    for thing in kept:
        living.add(thing)
    done = threading.Event()

    def add() -> None:
        for _ in range(200):
            some = [Thing() for _ in range(50)]
            for thing in some:
                living.add(thing)
        done.set()

    def read() -> None:
        while not done.is_set():
            assert len(living.all()) >= len(kept)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert run_threads([add, read]) == [None, None]
    finally:
        sys.setswitchinterval(before)
    assert set(living.all()) == set(kept)
