"""What the keys of a function begin with in a cache that it shares: none reads another's results.

A name alone does not do: functions that are made one after another have it too (a closure at each call,
a partial, a method of each instance, what a notebook defines again), and the entries of those that
are gone are still there. So a prefix is not given twice, but to a function that had it.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache._core import Cache


class _Taken(NamedTuple):
    function: Callable[[], Any]
    wrapper: Callable[[], Any]
    how: object
    """what it makes keys by; None: by a function of the user's, that may differ from the next"""


class _Name:
    """The prefixes that functions of one name have got in one cache."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.taken: dict[str, _Taken] = {}


#: id of a shared cache -> (weak reference to it, name -> its prefixes)
_caches: dict[int, tuple[weakref.ref[Cache[Any, Any]], dict[str, _Name]]] = {}


def _names_of(cache: Cache[Any, Any]) -> dict[str, _Name]:
    number = id(cache)
    held = _caches.get(number)
    if held is None:
        forget = weakref.ref(cache, lambda _: _caches.pop(number, None))
        held = _caches.setdefault(number, (forget, {}))  # two threads may come here
    return held[1]


def name_of(function: Any) -> str:
    """module:qualname."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None)}:{name}"


def prefix_of(function: Any, cache: Cache[Any, Any], how: object, *, lasting: bool) -> str:
    """module:qualname, numbered where others had it. lasting: other processes find their results by
    it, so it is given again when nobody has it any more."""
    name = name_of(function)
    known = _names_of(cache).setdefault(name, _Name())
    for held, taken in list(known.taken.items()):
        same = how is not None and taken.how == how and taken.function() is function
        if same and taken.wrapper() is None:
            return held
    number = 1 if lasting else next(known.numbers)
    while True:
        prefix = name if number == 1 else f"{name}#{number}"
        if not (lasting and _is_used(known, prefix)):
            return prefix
        number += 1


def _is_used(known: _Name, prefix: str) -> bool:
    taken = known.taken.get(prefix)
    return taken is not None and taken.wrapper() is not None


def take_prefix(
    prefix: str, function: Any, cache: Cache[Any, Any], how: object, wrapper: Any
) -> None:
    """The wrapper of function has it now."""
    taken = _names_of(cache).setdefault(name_of(function), _Name()).taken

    def forget(_: object) -> None:
        taken.pop(prefix, None)

    try:
        known, held = weakref.ref(function, forget), weakref.ref(wrapper)
    except TypeError:  # who comes again cannot be told apart
        known, held, how = weakref.ref(wrapper), weakref.ref(wrapper, forget), None
    taken[prefix] = _Taken(known, held, how)
