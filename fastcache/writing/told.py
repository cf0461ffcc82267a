"""What `on_applied` is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Set


class Told(list["Hashable"]):
    """Keys, each once.

    sure: those of which the source has now what was put here, or will get it from what is pending: whoever shares
    copies with nobody may keep them. local: what others share is as good as it was, only copies of this process's
    own are to go (a journal was adopted, so more is pending here than before).
    """

    def __init__(
        self, keys: Iterable[Hashable], sure: Set[Hashable] = frozenset(), *, local: bool = False
    ) -> None:
        super().__init__(dict.fromkeys(keys))
        self.sure = sure
        self.local = local
