"""What a backplane tells through where there is no L2: a space that keeps no values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcache.stores.protocol import Lease, Space, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.protocol import Fill, Found, Steps, Target


class TellingSpace(Space):
    """Reads find nothing, and fills are refused; whatever would change a value tells everyone. Subclasses say how.

    where: as of a store.
    """

    where: str

    def read(self, name: str, *, primary: bool = False) -> Steps[Found | None]:
        yield from ()
        return None

    def read_many(
        self, names: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None]]:
        yield from ()
        return [None] * len(names)

    def lease(self, names: Sequence[str], token: bytes, ttl: float) -> Steps[list[Lease]]:
        yield from ()
        return [Lease(token, True, False)] * len(names)

    def fill(self, fills: Sequence[Fill]) -> Steps[list[bool | None]]:
        yield from ()
        return [False] * len(fills)

    def give_up(self, names: Sequence[str], token: bytes) -> Steps[None]:
        yield from ()

    def put(self, fills: Sequence[Fill], targets: Sequence[Target]) -> Steps[list[bool]]:
        yield from self.invalidate(targets)
        return [True] * len(targets)

    def hold(self, targets: Sequence[Target], token: bytes, ttl: float) -> Steps[None]:
        yield from self.invalidate(targets)

    def incr(self, target: Target, delta: int, initial: int, ttl: float | None) -> Steps[int]:
        yield from ()
        raise StoreError(self.where, "other", "no values are kept here, so nothing can be counted")

    def touch(self, target: Target, stamp: bytes, ttl: float | None) -> Steps[bool]:
        yield from ()
        return False
