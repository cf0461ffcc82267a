"""The two drivers of what a tiered cache does: blocking, and awaited."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from fastcache.loading.tasks import spawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastcache.loading.loader import Doing

T = TypeVar("T")


def carry(steps: Doing[T], blocking: Mapping[Any, Any] | None = None) -> T:
    """The result of an operation whose calls block; of one of an async face, in a thread, with what blocks
    instead of each call that would be awaited."""
    try:
        function, args, kwargs = next(steps)
        while True:
            if blocking is not None:
                function = blocking.get(function, function)
            try:
                answer: Any = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - for the operation to handle
                function, args, kwargs = steps.send((None, error))
            else:
                function, args, kwargs = steps.send((answer, None))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def acarry(steps: Doing[T]) -> T:
    """The result of an operation whose calls are awaited, where they want to be."""
    try:
        function, args, kwargs = next(steps)
        while True:
            try:
                answer = function(*args, **kwargs)
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:  # noqa: BLE001 - for the operation to handle
                function, args, kwargs = steps.send((None, error))
            else:
                function, args, kwargs = steps.send((answer, None))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def leave_behind(steps: Doing[None], asynchronous: bool) -> None:
    """Carry out what is left of an operation that was interrupted, or cancelled; then in the background, if there is
    still a loop."""
    if not asynchronous:
        carry(steps)
    elif asyncio._get_running_loop() is not None:
        spawn(acarry(steps), _nothing)


def _nothing() -> None:
    """No flight is to be ended."""
