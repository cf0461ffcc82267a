"""A bar on the terminal for a flush that takes a while."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_AFTER = 1.0  # seconds before anything is shown
_BAR = 24


class Progress:
    """Shows how far a wait has come; nothing where standard error is no terminal, nor in the first second.

    interval: seconds between two calls of `show` that are worth it.
    """

    interval = 0.2

    def __init__(self, total: int, label: str, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._total = max(total, 1)
        self._label = label
        self._start = time.monotonic()
        self._shown = False
        self._terminal = self._stream is not None and self._stream.isatty()

    def show(self, done: int) -> None:
        """So many are done."""
        seconds = time.monotonic() - self._start
        if not self._terminal or seconds < _AFTER:
            return
        done = min(max(done, 0), self._total)
        bar = "#" * (_BAR * done // self._total)
        line = f"[{bar:.<{_BAR}}] {done:,}/{self._total:,} {seconds:4.0f} s  {self._label}"
        self._stream.write("\r\x1b[2K" + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
        self._shown = True

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
