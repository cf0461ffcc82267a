"""`cached(reload=...)`: wherever there is an old value, and the function where there is none."""

from __future__ import annotations

import asyncio

import pytest

from fastcache import cached
from fastcache.testing import FakeClock


class Source:
    """A function and its reload, which say what they were called with; `down` makes both fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.down = False

    def load(self, x: int) -> int:
        return self._answer("load", x)

    def reload(self, old: int, x: int) -> int:
        return self._answer("reload", old, x)

    def _answer(self, *call: object) -> int:
        self.calls.append(call)
        if self.down:
            raise OSError("down")
        return len(self.calls)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
class TestReload:
    def test_after_the_ttl_within_grace(self, asynchronous: bool) -> None:
        source, clock, ask = decorated(asynchronous, grace=60)
        assert ask(7) == 1
        clock.advance(10)
        assert ask(7) == 2
        assert source.calls == [("load", 7), ("reload", 1, 7)]

    def test_not_past_grace(self, asynchronous: bool) -> None:
        source, clock, ask = decorated(asynchronous, grace=60)
        ask(7)
        clock.advance(70)
        assert ask(7) == 2
        assert source.calls == [("load", 7), ("load", 7)]

    def test_that_fails_leaves_the_old_value(self, asynchronous: bool) -> None:
        source, clock, ask = decorated(asynchronous, grace=60)
        ask(7)
        clock.advance(10)
        source.down = True
        assert ask(7) == 1
        assert source.calls == [("load", 7), ("reload", 1, 7)]

    def test_with_a_time_out(self, asynchronous: bool) -> None:
        # the load then runs in another thread, or is waited for in another task
        source, clock, ask = decorated(asynchronous, grace=60, hard_timeout=30)
        ask(7)
        clock.advance(10)
        assert ask(7) == 2
        assert source.calls == [("load", 7), ("reload", 1, 7)]


def decorated(asynchronous: bool, **options: float):  # type: ignore[no-untyped-def]
    source, clock = Source(), FakeClock()
    if not asynchronous:
        return (
            source,
            clock,
            cached(ttl=10, clock=clock, reload=source.reload, **options)(source.load),
        )  # type: ignore[call-overload]

    async def load(x: int) -> int:
        return source.load(x)

    async def reload(old: int, x: int) -> int:
        return source.reload(old, x)

    function = cached(ttl=10, clock=clock, reload=reload, **options)(load)  # type: ignore[call-overload]

    async def called(x: int) -> int:
        result: int = await function(x)
        return result

    return source, clock, lambda x: asyncio.run(called(x))
