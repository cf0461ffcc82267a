"""Key functions for `cached` and `cachedmethod`: the arguments of a call, as a tuple."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ("hashkey", "methodkey", "typedkey", "typedmethodkey")


class _Keywords:
    """Stands between positional and keyword arguments. The class itself is the mark: it is equal
    to nothing a caller passes, and pickled by reference."""


MARK: tuple[Hashable, ...] = (_Keywords,)


def hashkey(*args: Hashable, **kwargs: Hashable) -> tuple[Hashable, ...]:
    """The arguments as a key; their types do not matter (1 and 1.0 are one), nor does the order of
    keywords. TypeError comes only when the key is hashed. O(n log n) in the keywords."""
    return args + MARK + tuple(sorted(kwargs.items())) if kwargs else args


def methodkey(self: object, /, *args: Hashable, **kwargs: Hashable) -> tuple[Hashable, ...]:
    """hashkey without the first argument, for methods whose instance has a cache of its own."""
    return args + MARK + tuple(sorted(kwargs.items())) if kwargs else args


def typedkey(*args: Hashable, **kwargs: Hashable) -> tuple[Hashable, ...]:
    """hashkey for which arguments of different types differ."""
    if not kwargs:
        return args + tuple(map(type, args))
    pairs = sorted(kwargs.items())
    types = (*(type(value) for _, value in pairs), *map(type, args))
    return args + MARK + tuple(pairs) + types


def typedmethodkey(self: object, /, *args: Hashable, **kwargs: Hashable) -> tuple[Hashable, ...]:
    """typedkey without the first argument."""
    return typedkey(*args, **kwargs)
