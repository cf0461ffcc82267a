"""Which server a request goes to: one, one that sentinels name, or those of a cluster.

What takes several exchanges is written as steps as well, each of them a list of `(node, data, count, timed)` (see
`Node.many`): all are sent, then all are read; or a `Pause`. The answer to each is its replies, or the WireError
that it ended in.
"""

from __future__ import annotations

import asyncio
import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastcache.stores.redis.address import Address
from fastcache.stores.redis.async_wire import open_wire
from fastcache.stores.redis.errors import Refusal, WireError
from fastcache.stores.redis.way import Way, pack
from fastcache.stores.redis.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Generator

    from fastcache.stores.redis.address import Login, Target
    from fastcache.stores.redis.node import Node, Sent

    T = TypeVar("T")
    Exchanges = Generator[Any, Any, T]


class Pause(NamedTuple):
    """Go on after so many seconds."""

    seconds: float


def drive(steps: Exchanges[T]) -> T:
    """The result of such steps, blocking."""
    answer: Any = None
    try:
        while True:
            request = steps.send(answer)
            if type(request) is Pause:
                time.sleep(request.seconds)
                answer = None
            else:
                answer = _exchange(request)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def adrive(steps: Exchanges[T]) -> T:
    """The result of such steps, awaited."""
    answer: Any = None
    try:
        while True:
            request = steps.send(answer)
            if type(request) is Pause:
                await asyncio.sleep(request.seconds)
                answer = None
            elif len(request) == 1:
                answer = [await _aone(*request[0])]
            else:
                answer = await asyncio.gather(*(_aone(*each) for each in request))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def _exchange(request: list[tuple[Node, bytes, int, bool]]) -> list[Any]:
    """Send to all, then read from all: they work at the same time."""
    answers: list[Any] = []
    under_way: dict[int, Sent] = {}
    try:
        for index, (node, data, *_) in enumerate(request):
            answers.append(None)
            try:
                under_way[index] = node.begin(data)
            except WireError as error:
                answers[index] = error
        for index, (node, _, count, timed) in enumerate(request):
            if index in under_way:
                try:
                    answers[index] = node.finish(under_way.pop(index), count, timed)
                except WireError as error:
                    answers[index] = error
    except BaseException as error:
        # Interrupted: nobody is to find these answers.
        for index, sent in under_way.items():
            request[index][0].drop(sent, error)
        raise
    return answers


async def _aone(node: Node, data: bytes, count: int, timed: bool) -> Any:
    try:
        return await node.amany(data, count, timed)
    except WireError as error:
        return error


class Finder:
    """Asks sentinels which server is the primary. login: to the sentinels."""

    def __init__(self, target: Target, login: Login, way: Way) -> None:
        self._service = target.service
        self._where = target.where
        self._way = way  # to the primary, but for its address
        self._sentinels = [
            Way(
                f"the sentinel at {address}",
                address,
                login,
                tls=way.tls,
                trip=way.trip,
                connect=way.connect,
            )
            for address in target.addresses
        ]

    def unknown(self) -> Way:
        way = copy.copy(self._way)
        way.address = Address("", 0)
        return way

    def run(self) -> Way:
        """Blocking. WireError: no sentinel knows."""
        steps = self._steps()
        answer: Any = None
        try:
            while True:
                way, data, count = steps.send(answer)
                try:
                    wire = Wire(way)
                    try:
                        answer = wire.many(data, count)
                    finally:
                        wire.close()
                except WireError as error:
                    answer = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def arun(self) -> Way:
        """Awaited. WireError: no sentinel knows."""
        steps = self._steps()
        answer: Any = None
        try:
            while True:
                way, data, count = steps.send(answer)
                try:
                    wire = await open_wire(way)
                    try:
                        answer = await wire.many(data, count)
                    finally:
                        wire.close()
                except WireError as error:
                    answer = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _steps(self) -> Generator[tuple[Way, bytes, int], Any, Way]:
        question = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        said = []
        kind = "refused"
        for index, sentinel in enumerate(self._sentinels):
            answer = yield sentinel, question, 1
            if isinstance(answer, WireError):
                said.append(str(answer))
                kind = "auth" if answer.kind == "auth" else kind
                continue
            (name,) = answer
            if isinstance(name, Refusal):
                error = name.error(sentinel.where)
                said.append(str(error))
                kind = "auth" if error.kind == "auth" else kind
            elif name is None:
                said.append(f"{sentinel.where}: it knows no service {self._service!r}")
            else:
                # The one that knew is asked first the next time.
                self._sentinels.insert(0, self._sentinels.pop(index))
                way = copy.copy(self._way)
                way.address = Address(name[0].decode(), int(name[1]))
                return way
        text = f"no sentinel names the primary ({'; '.join(said)})"
        raise WireError(self._where, kind, text, sent=False)
