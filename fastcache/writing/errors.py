"""What goes wrong when writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class WritingError(Exception):
    """Base of the errors of this package."""


class QueueFull(WritingError):  # noqa: N818 - as queue.Full
    """A write was not accepted: as many wait as may, and the source could not be written directly."""


class Closed(WritingError):  # noqa: N818
    """A write after `close`. Nothing was accepted."""


class JournalError(WritingError):
    """A journal cannot be used, or could not keep a write: what was to be written was not accepted.

    path: the file or directory.
    """

    def __init__(self, path: str, text: str) -> None:
        super().__init__(path, text)
        self.path = path
        self.text = text

    def __str__(self) -> str:
        return f"journal {self.path}: {self.text}"


class Refused(WritingError, ValueError):  # noqa: N818
    """A writer's verdict on one operation: it can never be applied, however often it is tried.

    key: the one it is about, None if the writer cannot tell.
    """

    def __init__(self, text: str, key: Hashable = None) -> None:
        super().__init__(text)
        self.key = key


class Overtaken(WritingError):  # noqa: N818
    """A part of a batch had been applied already, and nothing was changed now.

    last: up to this sequence all has been; folded: and these beyond it.
    """

    def __init__(self, last: int, folded: frozenset[int]) -> None:
        super().__init__(last, folded)
        self.last = last
        self.folded = folded

    def __str__(self) -> str:
        return f"applied before up to sequence {self.last}, and {len(self.folded)} beyond it"
