"""Objects that are known for as long as others hold them."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """A set of weak references. Unlike a WeakSet it can be read while other threads add to it: hooks that run
    before a fork must not fail. Safe from any thread; O(1), and O(n) to read."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, item: T) -> None:
        self._references.add(weakref.ref(item, self._references.discard))

    def all(self) -> list[T]:
        """Those that are alive."""
        # the set is copied in one piece: no code of others runs meanwhile
        return [item for held in list(self._references) if (item := held()) is not None]
