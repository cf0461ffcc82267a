"""A redis-server of the demonstration's own: on loopback, a free port, and with data that is thrown away."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_LIMIT = 10.0


def find() -> str | None:
    """The path of redis-server, if it is installed."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def _ends_with_us() -> None:
    """On Linux the server ends even if this process is killed. Runs in the child."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Server:
    """A running server; ended by `close`. RuntimeError: it does not start."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = program
        self._log = folder / "redis.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder),
                    "--save", "", "--appendonly", "no",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who end it afterwards
                preexec_fn=_ends_with_us if sys.platform == "linux" else None,
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + _LIMIT
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as wire,
            ):
                wire.sendall(b"PING\r\n")
                if wire.recv(16).startswith(b"+PONG"):
                    return
            if self._process.poll() is not None or time.monotonic() > end:
                text = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise RuntimeError(f"{self._program} does not start: {text}")
            time.sleep(0.01)

    def close(self) -> None:
        """End it, and wait for that."""
        self._process.terminate()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
