"""A PostgreSQL server for these tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from servers import Server, free_port, program

USER = "postgres"


class PostgresServer(Server):
    """One server, as user postgres where the tests run as root. Starts again on the same data and port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._initdb = program("initdb", "/usr/lib/postgresql/15/bin")
        super().__init__(self._line, self._answers, user=USER, stop_signal=signal.SIGINT)
        os.chmod(self.folder, 0o755)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        more: dict[str, Any] = {}
        if self._user:
            entry = pwd.getpwnam(USER)
            os.chown(data, entry.pw_uid, entry.pw_gid)
            more = {"user": USER, "group": entry.pw_gid, "extra_groups": []}
        subprocess.run(
            [self._initdb, "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=True,
            capture_output=True,
            timeout=120,
            cwd="/",
            **more,
        )

    def _line(self, folder: Path) -> list[str]:
        data = folder / "data"
        postgres = str(Path(self._initdb).with_name("postgres"))
        if not Path(postgres).exists():
            postgres = shutil.which("postgres") or "postgres"
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        options += ["-c", "fsync=off", "-c", "max_connections=60", "-c", "shared_buffers=32MB"]
        return [postgres, "-D", str(data), "-p", str(self.port), *options]

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=2)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query, parameters).fetchall()
