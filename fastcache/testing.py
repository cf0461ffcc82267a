"""Helpers for tests of programs that use fastcache."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta


class FakeClock:
    """A clock that stands still until it is told to move: `Cache(..., clock=FakeClock())`.

    start: seconds. Calling it returns `now`, which may also be set; it may go backwards.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.now = float(start)

    def __call__(self) -> float:
        """Seconds, as a clock for Cache."""
        return self.now

    def advance(self, seconds: float | timedelta) -> None:
        """Move by seconds (or a timedelta)."""
        if not isinstance(seconds, (int, float)):
            seconds = seconds.total_seconds()
        self.now += seconds

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.now!r})"
