"""The loaders that a tiered cache is given, checked; and how long it waits for one of many keys."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from typing import TYPE_CHECKING, Any

from fastcache._redact import shown
from fastcache._types import MISSING
from fastcache.loading.threads import timed

if TYPE_CHECKING:
    from collections.abc import Callable


def no_loader() -> Any:
    """Stands for a loader where there is none."""
    return MISSING


def loader_of(loader: Any, asynchronous: bool) -> Callable[..., Any]:
    """What loads one key: the function given, or the `load` of an object; TypeError for others."""
    if loader is None:
        return no_loader
    load = getattr(loader, "load", None) or loader
    if not callable(load):
        raise TypeError(f"loader must be callable, or have a method load(key), got {shown(loader)}")
    from fastcache.loading.options import is_async

    if is_async(load) and not asynchronous:
        raise TypeError(
            f"loader must not be async for a TieredCache, got {loader!r}: use AsyncTieredCache"
        )
    if not is_async(load) and asynchronous:
        raise TypeError(f"loader must be async for an AsyncTieredCache, got {loader!r}")
    return load  # type: ignore[no-any-return]


def load_many_of(loader: Any, asynchronous: bool) -> Callable[..., Any] | None:
    """What loads many keys, if the loader has that; TypeError where it is of the other face."""
    load_many = getattr(loader, "load_many", None)
    if load_many is None:
        return None
    from fastcache.loading.options import is_async

    if not callable(load_many) or is_async(load_many) != asynchronous:
        kind = "a coroutine function" if asynchronous else "a plain function"
        raise TypeError(f"load_many of loader={loader!r} must be {kind}, got {load_many!r}")
    return load_many  # type: ignore[no-any-return]


def limited(
    load_many: Callable[..., Any] | None, seconds: float | None, name: str, asynchronous: bool
) -> Callable[..., Any] | None:
    """The same, with a TimeoutError after so many seconds. What it brings later is lost."""
    if load_many is None or seconds is None:
        return load_many
    text = f"{name}: load_many took longer than hard_timeout={seconds!r} seconds"
    if asynchronous:

        async def awaited(keys: list[Any]) -> Any:
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await load_many(keys)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise TimeoutError(text)

        return awaited

    def called(keys: list[Any]) -> Any:
        context = contextvars.copy_context()
        outcomes: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def carry_out() -> None:
            try:
                outcomes.put((load_many(keys), None))
            except BaseException as error:  # noqa: BLE001 - the caller's
                outcomes.put((None, error))

        if timed.inside() or not timed.submit(lambda: context.run(carry_out)):
            return load_many(keys)
        try:
            value, error = outcomes.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(text) from None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error

    return called
