"""`updating`: around a transaction of the source, nobody fills the keys that it changes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from fastcache.loading.rules import seconds
from fastcache.stores.protocol import StoreError
from fastcache.tiered.drivers import acarry, carry
from fastcache.tiered.loads import ask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from fastcache.loading.loader import Calls
    from fastcache.tiered.core import Core


class _Updating:
    """What is done at both ends. Used once."""

    def __init__(self, core: Core, keys: Sequence[Any], hold: Any, release: bool) -> None:
        if not keys:
            raise TypeError("updating() wants at least one key")
        held = seconds("hold", hold)
        if not held:
            raise ValueError(f"hold must be more than 0 seconds, got {hold!r}")
        self._core = core
        self._keys = list(dict.fromkeys(keys))
        self._targets = [core.target(key) for key in self._keys]
        self._hold = held
        self._release = release
        self._token = os.urandom(16)

    def _begin(self) -> Calls:
        yield from self._held()
        self._core.counts.add("sent", len(self._keys))

    def _held(self) -> Calls:
        core = self._core
        for key in self._keys:
            core.l1.delete(key)
        if core.space is not None:
            assert core.link is not None
            try:
                with core.link.arrears.expecting(self._targets):
                    steps = core.space.hold(self._targets, self._token, self._hold)
                    yield from ask(core.send, steps)
            except StoreError as error:
                # at the begin: nobody could be told beforehand, so the end of it has to be heard
                core.failed(error)
                self._postpone()
                if core.level == "strong":
                    raise
            except BaseException:
                self._postpone()
                raise
        for key in self._keys:
            core.l1.delete(key)

    def _postpone(self) -> None:
        link = self._core.link
        if link is not None:
            link.arrears.doubt(self._targets)
            link.arrears.postpone(self._targets)

    def _end(self) -> Calls:
        if self._release or self._core.space is None:
            yield from self._core.writes.invalidate(self._keys, self._token)
            return
        if self._core.link is not None:
            self._core.link.arrears.remember(self._targets)
        yield from self._held()


class Updating(_Updating):
    """`with t.updating(key): ...`. An error inside invalidates too, since the source may have committed."""

    def __enter__(self) -> None:
        carry(self._begin())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        carry(self._end())


class AsyncUpdating(_Updating):
    """`async with t.updating(key): ...`."""

    async def __aenter__(self) -> None:
        await acarry(self._begin())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a cancellation must not leave the keys as they were
        await asyncio.shield(acarry(self._end()))
