"""Progress on standard error: a bar on a terminal, one plain line per step elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_BAR = 24


class Progress:
    """Counts steps. `total` is the number of steps; a step is one row or one part of it."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        """Write to `stream` (standard error unless given)."""
        self._stream = stream if stream is not None else sys.stderr
        self._tty = self._stream.isatty()
        self._total = max(total, 1)
        self._done = 0
        self._start = time.monotonic()
        self._last = ""

    def step(self, label: str) -> None:
        """Say that the step named `label` begins; the one before it is done."""
        self._write(label)
        self._last = label
        self._done += 1

    def detail(self, text: str) -> None:
        """Say what the current step is at. Shown on a terminal only."""
        if self._tty:
            self._write(f"{self._last}: {text}", self._done - 1)

    def close(self) -> None:
        """Take the bar away (terminal), or say how long it all took."""
        seconds = time.monotonic() - self._start
        if self._tty:
            self._stream.write("\r\x1b[2K")
        else:
            self._stream.write(f"[{self._total}/{self._total}] done in {seconds:.0f} s\n")
        self._stream.flush()

    def _write(self, label: str, done: int | None = None) -> None:
        at = self._done if done is None else done
        seconds = time.monotonic() - self._start
        if self._tty:
            full = _BAR * at // self._total
            line = (
                f"[{'#' * full}{'.' * (_BAR - full)}] {at}/{self._total} {seconds:4.0f} s  {label}"
            )
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\x1b[2K" + line[:width])
        else:
            self._stream.write(f"[{at + 1}/{self._total}] {label}\n")
        self._stream.flush()
