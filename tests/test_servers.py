"""The servers of the tests: they start, serve, restart on their data, and end with the process that started them."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from servers import until
from servers.memcached import MemcachedServer
from servers.postgres import PostgresServer


def test_memcached_comes_back_empty_on_its_port(own_memcached: MemcachedServer) -> None:
    port = own_memcached.port
    assert own_memcached.ask(b"version").startswith(b"VERSION 1.")
    assert own_memcached.ask(b"ms key 0 T0\r\n") == b"HD"
    own_memcached.kill()
    own_memcached.start()
    assert own_memcached.port == port
    assert own_memcached.ask(b"mg key") == b"EN"


def test_memcached_on_a_unix_socket() -> None:
    with MemcachedServer(unix=True) as server:
        assert server.ask(b"mn") == b"MN"
        folder = server.folder
    assert not folder.exists()


def test_postgres_keeps_what_was_committed(own_postgres: PostgresServer) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    own_postgres.kill(signal.SIGQUIT)  # at once, as a crash of the server
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
        assert connection.info.server_version >= 150_000
    own_postgres.stop()
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["memcached.MemcachedServer", "postgres.PostgresServer"])
def test_they_end_with_who_started_them(kind: str) -> None:
    """Killed, so that nothing of it can clean up."""
    module, name = kind.split(".")
    code = f"""
        import sys, time
        from servers.{module} import {name}
        server = {name}()
        server.start()
        print(server.pid, server.folder, flush=True)
        time.sleep(300)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        text=True,
    )
    assert child.stdout is not None
    try:
        pid, folder = child.stdout.readline().split()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the server ends")
    until(lambda: not Path(folder).exists(), "its folder goes")
