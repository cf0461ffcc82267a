"""memcached: one server, or several."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import Server, free_port, listens, program


class MemcachedServer(Server):
    """A memcached on a port of its own, the same after a restart. options: more of its command line.
    unix: it listens on a socket in its folder instead.

    address: what MemcachedStore takes.
    """

    def __init__(self, *options: str, unix: bool = False) -> None:
        path = program("memcached")
        self.port = free_port()

        def line(folder: Path) -> list[str]:
            where = ["-s", str(folder / "socket"), "-a", "0777"]
            if not unix:
                where = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
            # which it heeds as root only, where it wants to be told
            return [path, *where, "-u", "nobody", "-t", "2", "-m", "64", *options]

        super().__init__(line, self._answers)
        self.unix = unix
        self.address = f"unix:{self.folder / 'socket'}" if unix else f"127.0.0.1:{self.port}"
        if unix:
            self.folder.chmod(0o777)  # the server may be another user

    def _answers(self) -> bool:
        return (self.folder / "socket").exists() if self.unix else listens(self.port)

    def ask(self, line: bytes) -> bytes:
        """The first line of what it answers, by no client at all."""
        with socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET) as plain:
            plain.settimeout(10.0)
            plain.connect(str(self.folder / "socket") if self.unix else ("127.0.0.1", self.port))
            plain.sendall(line + b"\r\n")
            return plain.makefile("rb").readline().rstrip()

    def flush(self) -> None:
        """Forget everything, as the administrator's command does."""
        assert self.ask(b"flush_all") == b"OK"


@pytest.fixture(scope="session")
def memcached() -> Iterator[MemcachedServer]:
    """One that all tests share: they use name spaces of their own."""
    with MemcachedServer() as server:
        yield server


@pytest.fixture
def own_memcached() -> Iterator[MemcachedServer]:
    """One that the test may flush, stop and kill."""
    with MemcachedServer() as server:
        yield server
