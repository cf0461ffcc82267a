"""The two drivers of what a tiered cache does: blocking, and awaited."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastcache.loading.loader import Doing

T = TypeVar("T")


def carry(steps: Doing[T]) -> T:
    """The result of an operation whose calls block."""
    try:
        function, args, kwargs = next(steps)
        while True:
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


def carry_blocking(steps: Doing[T], blocking: Mapping[Any, Any]) -> T:
    """The result of an operation of an async face, in a thread. blocking: awaited call -> the one that blocks."""
    return carry(_returned(steps, blocking))


def _returned(steps: Doing[T], blocking: Mapping[Any, Any]) -> Doing[T]:
    try:
        function, args, kwargs = next(steps)
        while True:
            came = yield blocking.get(function, function), args, kwargs
            function, args, kwargs = steps.send(came)
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
