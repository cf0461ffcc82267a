"""PostgreSQL with a data folder of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import Server, environment, free_port, listens, program

#: Where Debian and others put what is not on the path.
_FOLDERS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
#: It refuses to run as root; whose process it is then.
_USER = "postgres"

_numbers = itertools.count()


class PostgresServer(Server):
    """A PostgreSQL server on a port of its own, the same after a restart, with one user and database, `postgres`,
    and no password. options: settings, by name.

    durable: whether a commit waits for the disk; without, a crash of the machine (not of the server) loses some.
    url: what psycopg.connect takes.
    """

    def __init__(self, durable: bool = False, **options: str) -> None:
        self._initdb = program("initdb", *_FOLDERS)
        self._isready = program("pg_isready", *_FOLDERS)
        path = program("postgres", *_FOLDERS)
        self.port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "shared_buffers": "16MB",
            "max_connections": "100",
            **options,
        }

        def line(folder: Path) -> list[str]:
            given = [word for item in settings.items() for word in ("-c", "=".join(item))]
            # sockets beside the data
            return [path, "-D", str(folder / "data"), "-k", str(folder), *given]

        # fast shutdown: sessions are ended, nothing is lost
        super().__init__(line, self._answers, user=_USER, stop_signal=signal.SIGINT)
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self, wait: bool = True) -> None:
        if not (self.folder / "data").exists():
            self._make()
        super().start(wait)

    def _make(self) -> None:
        user: dict[str, object] = {}
        if self._user is not None:
            import pwd

            entry = pwd.getpwnam(self._user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [self._initdb, "-D", str(self.folder / "data"), "-U", "postgres", "--auth=trust",
             "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **user,  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}\n{done.stderr}"

    def _answers(self) -> bool:
        if not listens(self.port):
            return False
        # 0: it takes connections; 1: it starts, or recovers
        asked = [self._isready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False, timeout=30).returncode == 0


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One that all tests share: they use tables or schemas of their own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that the test may stop and kill."""
    with PostgresServer() as server:
        yield server


class Database:
    """An empty database. url: what psycopg.connect takes."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url.rpartition("/")[0] + "/" + name

    def connect(self, **options: Any) -> Any:
        import psycopg

        return psycopg.connect(self.url, **options)

    def server_session(self) -> Any:
        """A session elsewhere on the server."""
        import psycopg

        return psycopg.connect(self.server.url, autocommit=True)

    def sql(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Carry out and commit, in a session of its own."""
        with self.connect() as session:
            done = session.execute(text, parameters or None)
            return done.fetchall() if done.description else []


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """One that is the test's alone."""
    psycopg = pytest.importorskip("psycopg")
    name = f"d{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
    yield Database(postgres, name)
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute(f"DROP DATABASE {name} WITH (FORCE)")
