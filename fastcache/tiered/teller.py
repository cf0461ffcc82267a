"""Through whom a tiered cache tells the others what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache.stores.protocol import Space, Store
    from fastcache.tiered.core import Core


class Teller(NamedTuple):
    """Through whom the others are told: L2, or the backplane's own store; whether what L2 does is told by itself."""

    store: Store
    space: Space
    send: Callable[[Any], Any]
    is_l2: bool
    by_l2: bool

    def ask(self, steps: Any) -> Any:
        """An operation, blocking."""
        return self.store.run(steps)


def teller_of(core: Core, backplane: Any, asynchronous: bool) -> Teller | None:
    store = getattr(backplane, "store", None)
    if backplane is None or store is None or store is core.store:
        if core.store is None:
            return None
        return Teller(core.store, core.space, core.send, True, True)
    send = store.asend if asynchronous else store.send
    by_l2 = core.store is not None and core.store.tells_by is store
    return Teller(store, store.space(core.namespace, core.origin), send, False, by_l2)
