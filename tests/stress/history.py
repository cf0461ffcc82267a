"""Histories of concurrent calls on one key, and a checker of their linearizability.

A history is a list of `Call`s with the times at which they began and ended. It is linearizable if
each call can be given a moment between its two times so that the calls, taken in that order, do
what a map of one key does (Herlihy & Wing 1990). The search is that of Wing & Gong (1993), taken
event by event as in Lowe (2017): it keeps all pairs (state, calls that took effect but have not
ended) that are possible so far. At most as many calls are open as there are threads, so the sets
stay small; the cost is linear in the length of the history.

A bounded cache may lose its entry at any moment; `may_lose` allows that, and only that: a value
that comes back after it was seen lost, or a value older than one already seen, is an error still.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

#: The state of a key that is not there, and the result of a `get` that misses.
ABSENT = "ABSENT"


@dataclass(frozen=True)
class Call:
    """One call: what it was, what it gave, and the nanoseconds at which it began and ended."""

    thread: int
    op: str
    argument: Any
    result: Any
    began: int
    ended: int


def step(state: Any, call: Call) -> list[Any]:
    """The states to which `call` with its result leads from `state`; empty if it cannot be."""
    op, argument, result = call.op, call.argument, call.result
    present = state != ABSENT
    if op == "get":
        return [state] if result == state else []
    if op == "set":
        return [argument]
    if op == "add":
        return [] if result == present else [state if present else argument]
    if op == "delete":
        return [ABSENT] if result == present else []
    if op == "pop":
        return [ABSENT] if result == state else []
    if op == "setdefault":
        return [result] if result == (state if present else argument) else []
    if op == "incr":
        new = (state if present else 0) + argument
        return [new] if result == new else []
    raise ValueError(f"op: {op!r} is unknown")


def first_impossible(calls: Iterable[Call], may_lose: bool = False) -> Call | None:
    """The first call that no order explains, or None if the history is linearizable."""
    calls = list(calls)
    # A call that begins when another ends counts as overlapping: times are of finite resolution.
    events = sorted(
        [(c.began, 0, i) for i, c in enumerate(calls)]
        + [(c.ended, 1, i) for i, c in enumerate(calls)]
    )
    open_calls: set[int] = set()
    possible: set[tuple[Any, frozenset[int]]] = {(ABSENT, frozenset())}
    for _, ends, number in events:
        if not ends:
            open_calls.add(number)
            continue
        # All orders in which open calls may have taken effect by now, until `number` has.
        reached = set(possible)
        todo = list(possible)
        while todo:
            state, done = todo.pop()
            if number in done:
                continue
            nexts = {(ABSENT, done)} if may_lose else set()
            for i in open_calls - done:
                nexts.update((s, done | {i}) for s in step(state, calls[i]))
            todo.extend(nexts - reached)
            reached |= nexts
        possible = {(state, done - {number}) for state, done in reached if number in done}
        open_calls.remove(number)
        if not possible:
            return calls[number]
    return None


class Recorder:
    """Calls a cache and writes down what was called, by key; one for each thread."""

    def __init__(self, cache: Any, thread: int) -> None:
        self.cache = cache
        self.thread = thread
        self.calls: dict[Any, list[Call]] = {}

    def call(self, op: str, key: Any, argument: Any = None) -> Any:
        """Do `op` on `key` and record it."""
        run: Callable[[], Any] = {
            "get": lambda: self.cache.get(key, ABSENT),
            "set": lambda: self.cache.set(key, argument),
            "add": lambda: self.cache.add(key, argument),
            "delete": lambda: self.cache.delete(key),
            "pop": lambda: self.cache.pop(key, ABSENT),
            "setdefault": lambda: self.cache.setdefault(key, argument),
            "incr": lambda: self.cache.incr(key, argument),
        }[op]
        began = time.perf_counter_ns()
        result = run()
        ended = time.perf_counter_ns()
        self.calls.setdefault(key, []).append(Call(self.thread, op, argument, result, began, ended))
        return result


def merged(recorders: Iterable[Recorder]) -> dict[Any, list[Call]]:
    """The calls of all threads by key."""
    histories: dict[Any, list[Call]] = {}
    for key, calls in itertools.chain.from_iterable(r.calls.items() for r in recorders):
        histories.setdefault(key, []).extend(calls)
    return histories


def explain(key: Any, calls: list[Call], wrong: Call) -> str:
    """The calls around the one that cannot be."""
    around = [c for c in calls if c.ended > wrong.began - 10**6 and c.began < wrong.ended + 10**5]
    lines = [f"  {c.began} {c.ended} {c.thread} {c.op}({c.argument!r}) -> {c.result!r}"
             for c in sorted(around, key=lambda c: c.began)[-30:]]  # fmt: skip
    return "\n".join([f"key {key!r}: nothing explains {wrong}", *lines])
