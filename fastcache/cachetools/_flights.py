"""What runs when a function of `fastcache.cachetools.func` is called: one flight per key.

A hit takes no lock: it is one lookup in the engine, which is whole at any time. Everything else is
done under the function's lock. It is reentrant, as the `__eq__` of an argument may call the
function; the function itself runs without it.

Nobody waits for ever. A thread about to wait follows the chain "this flight is flown by a thread
that waits for that flight ..."; where it comes back to itself it computes without storing.
A forked child knows no flights, since the threads that flew them are not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Condition, Lock, RLock, get_ident
from typing import Any
from weakref import WeakSet

from fastcache._core import free_threaded
from fastcache.cachetools._caches import ABSENT, reader_of
from fastcache.cachetools._calls import Calls, keep
from fastcache.cachetools._functions import CountingWrapper
from fastcache.cachetools._info import CacheInfo, info_of
from fastcache.cachetools.keys import MARK, hashkey, typedkey


class Flight:
    """A computation under way, for those who wait for it."""

    __slots__ = ("landed", "leader")

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.landed: Condition | None = None  # made by the first who waits


class Tower:
    """The flights of one function, with their lock."""

    __slots__ = ("__weakref__", "flights", "lock")

    def __init__(self) -> None:
        self.start()
        towers.add(self)

    def start(self) -> None:
        self.lock = RLock()
        self.flights: dict[Any, Flight] = {}

    def wait(self, key: Any) -> bool:
        """Wait while key is in flight; False if that were for ever. Locked."""
        me = get_ident()
        while (flight := self.flights.get(key)) is not None:
            if not may_wait(me, flight):
                return False
            if flight.landed is None:
                flight.landed = Condition(self.lock)
            try:
                flight.landed.wait()
            finally:
                with waits_lock:
                    del waits[me]
        return True

    def land(self, key: Any, flight: Flight) -> None:
        """Let those who wait look again. Locked."""
        if self.flights.get(key) is flight:  # else this is a child, forked while it was in flight
            del self.flights[key]
            if flight.landed is not None:
                flight.landed.notify_all()


towers: WeakSet[Tower] = WeakSet()
# Thread -> the flight it waits for, over all functions. No user's code runs under this lock.
waits: dict[int, Flight] = {}
waits_lock = Lock()


def may_wait(me: int, flight: Flight) -> bool:
    """Note that this thread waits for a flight; False, and nothing noted, if that were for ever."""
    with waits_lock:
        following: Flight | None = flight
        while following is not None:
            if following.leader == me:
                return False
            following = waits.get(following.leader)
        waits[me] = flight
        return True


def after_fork() -> None:
    global waits_lock
    waits_lock = Lock()
    waits.clear()
    for tower in list(towers):
        tower.start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)


def nothing(key: Any, default: Any) -> Any:
    return default


def in_flights(function: Callable[..., Any], cache: Any, key: Callable[..., Any]) -> Calls:
    """The call and what goes with it."""
    hits = misses = 0
    plain = key is hashkey
    reader = reader_of(cache)
    read: Callable[[Any, Any], Any] = cache.get if reader is None else reader
    # without the GIL hits are counted under the lock, or some would be lost: none is found without it
    first = nothing if free_threaded else read
    tower = Tower()

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits
        if plain:
            k = args + MARK + tuple(sorted(kwargs.items())) if kwargs else args
        else:
            k = key(*args, **kwargs)
        value = first(k, ABSENT)
        if value is not ABSENT:
            hits += 1
            return value
        return miss(k, args, kwargs)

    def miss(k: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal hits, misses
        flight = None
        with tower.lock:
            alone = not tower.wait(k)
            value = read(k, ABSENT)
            if value is not ABSENT:
                hits += 1
                return value
            misses += 1
            if not alone:
                flight = tower.flights[k] = Flight(get_ident())
        if flight is None:
            return function(*args, **kwargs)
        try:
            value = function(*args, **kwargs)
            with tower.lock:
                keep(cache, k, value)
            return value
        finally:
            with tower.lock:
                tower.land(k, flight)

    def clear() -> None:
        nonlocal hits, misses
        with tower.lock:
            cache.clear()
            hits = misses = 0

    def info() -> CacheInfo:
        with tower.lock:
            return info_of(cache, hits, misses)

    return Calls(call, clear, info)


class FlightWrapper(CountingWrapper):
    """A function decorated by one of `func`."""

    _fc_maxsize: Any
    _fc_typed: bool

    def cache_parameters(self) -> dict[str, Any]:
        """The arguments of the decorator, as a new dict."""
        return {"maxsize": self._fc_maxsize, "typed": self._fc_typed}


def wrap_in_flights(
    function: Callable[..., Any], cache: Any, maxsize: Any, typed: bool
) -> FlightWrapper:
    """What the decorators of `func` make of a function."""

    def make(cache: Any, key: Any, lock: Any, condition: Any) -> Calls:
        return in_flights(function, cache, key)

    key = typedkey if typed else hashkey
    wrapper = FlightWrapper.around(function, make, cache, key, None, None)
    wrapper._fc_maxsize, wrapper._fc_typed = maxsize, typed
    return wrapper
