"""Operations that are ready to be accepted, and the ticket of those who wait for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

#: kind, key, value, data, initial, encoded key, size
Item: TypeAlias = "tuple[str, Hashable, Any, str | None, int, bytes, int]"


class Ticket:
    """A write that someone else may commit. done(): called once it is known what came of it, outside of all
    locks; full: it was not accepted for want of room; error: nor for this."""

    __slots__ = ("done", "error", "full", "items", "settled")

    def __init__(self, items: Sequence[Item], done: Callable[[], object] | None = None) -> None:
        self.items = items
        self.done = done
        self.settled = False
        self.full = False
        self.error: BaseException | None = None
