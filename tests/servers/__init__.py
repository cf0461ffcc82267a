"""Real servers for the tests: started when first asked for, on loopback and free ports, with data in a folder that
goes with them.

Each server is the child of a guard (`_guard.py`) that ends it, and removes its folder, as soon as the test run is
gone, however it went. The modules beside this one are plugins of pytest: their fixtures are for all tests.

A server whose program is not installed skips what needs it, and the end of the run says how much that was;
with CI set in the environment it fails instead. `tools/servers` installs them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

#: Seconds in which a server has to be there. Only a limit.
LIMIT = 30.0
#: What the reason of a skipped test begins with.
WANTING = "no server: "

_GUARD = Path(__file__).with_name("_guard.py")


def environment() -> dict[str, str]:
    """That of programs that are not ours: under a sanitizer only Python is to be watched, and it is what starts."""
    return {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONMALLOC")}


def program(name: str, *folders: str) -> str:
    """Path of a program. Skips the test (with CI set: fails it) where it is not installed."""
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/bin", *folders]
    )
    found = shutil.which(name, path=path)
    if found is None:
        wanting(f"{name} is not installed")
    return found


def wanting(what: str) -> Any:
    """Skip or fail, for want of a server."""
    reason = f"{WANTING}{what} (tools/servers installs what is missing)"
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """What `condition` returns as soon as that is true; asks again every 10 ms."""
    deadline = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit} seconds")
        time.sleep(0.01)


class Server:
    """One server process. folder: its own, removed at the end.

    command: gets the folder and returns the command line; called at each start. ready: whether it serves.
    user: whose process it is, where the tests run as root.
    """

    def __init__(
        self,
        command: Callable[[Path], Sequence[str]],
        ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fastcache-server-"))
        self._command = command
        self._ready = ready
        self._env = env
        self._user = user if hasattr(os, "geteuid") and os.geteuid() == 0 else None
        self._signal = stop_signal
        self._guard: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self, wait: bool = True) -> None:
        """Start it, once more if it was killed or stopped, on the data that it left."""
        assert self._guard is None, "it runs already"
        log = self.folder / "log"
        options = [str(self.folder), str(int(self._signal)), self._user or ""]
        with open(log, "ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), *options, *self._command(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment() if self._env is None else dict(self._env),
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or b"0")
        if wait:
            try:
                until(self._serves, f"{self._command(self.folder)[0]} serves")
            except BaseException:
                text = log.read_text(errors="replace")[-2000:]
                self.close()
                raise AssertionError(f"the server does not start:\n{text}") from None

    def _serves(self) -> bool:
        assert self._guard is not None
        if self._guard.poll() is not None:
            raise AssertionError(f"it ended with code {self._guard.returncode}")
        return self._ready()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; one that ends it is waited for."""
        os.kill(self.pid, number)
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._end()

    def pause(self) -> None:
        """Stop it; on return it answers nobody any more."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/task")
        if stat.exists():
            until(
                lambda: all(_state(each / "stat") in "TtZX" for each in stat.iterdir()), "it stops"
            )

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it in an orderly way; its data stays."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._end()

    def _end(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.wait(LIMIT)
            for pipe in (guard.stdin, guard.stdout):
                if pipe is not None:
                    pipe.close()

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _state(stat: Path) -> str:
    """Of a thread, by its letter; X: it has gone."""
    try:
        return stat.read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
