"""Redis: one server in several forms, Sentinel, and Cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import Server, free_port, listens, program, until


class RedisServer(Server):
    """A redis-server. options: of its command line, without '--'; port 0: none but a unix socket.

    url: what RedisStore takes.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: bool = False,
        unix: bool = False,
        sentinel: bool = False,
        binary: str = "redis-server",
        **options: str,
    ) -> None:
        path = program(binary)
        self.port = 0 if unix else free_port()
        self.password = password
        self.tls = tls
        super().__init__(self._line, self._answers)
        self.socket = self.folder / "socket"
        self._sentinel = sentinel
        self._path = path
        self._options = {"save": "", "appendonly": "no", "bind": "127.0.0.1", **options}
        if password is not None:
            self._options["requirepass"] = password
        if unix:
            self._options |= {"port": "0", "unixsocket": str(self.socket)}
        elif tls:
            self.certificates = make_certificates(self.folder)
            self._options |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-ca-cert-file": str(self.certificates / "ca.crt"),
                "tls-cert-file": str(self.certificates / "server.crt"),
                "tls-key-file": str(self.certificates / "server.key"),
                "tls-auth-clients": "no",
            }
        else:
            self._options["port"] = str(self.port)

    def _line(self, folder: Path) -> list[str]:
        line = [self._path]
        if self._sentinel:
            line += [str(folder / "sentinel.conf"), "--sentinel"]
        line += ["--dir", str(folder)]
        for name, value in self._options.items():
            if self._sentinel and name in ("save", "appendonly"):
                continue
            line += [f"--{name.replace('_', '-')}", value]
        return line

    def _answers(self) -> bool:
        if not (self.socket.exists() if not self.port else listens(self.port)):
            return False
        import redis

        try:
            with self.client(socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password is not None else ""
        if not self.port:
            return f"unix://{login}{self.socket}"
        if self.tls:
            ca = self.certificates / "ca.crt"
            return f"rediss://{login}127.0.0.1:{self.port}?ssl_ca_certs={ca}"
        return f"redis://{login}127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """A client that is not ours."""
        import redis

        if not self.port:
            return redis.Redis(unix_socket_path=str(self.socket), password=self.password, **options)
        if self.tls:
            options |= {"ssl": True, "ssl_ca_certs": str(self.certificates / "ca.crt")}
        return redis.Redis("127.0.0.1", self.port, password=self.password, **options)


def make_certificates(folder: Path) -> Path:
    """ca.crt, server.crt and server.key for 127.0.0.1 and localhost, in a new folder."""
    openssl = program("openssl")
    place = folder / "tls"
    place.mkdir()
    (place / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for line in (
        ["req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
         "-subj", "/CN=fastcache tests", "-addext", "keyUsage=critical,keyCertSign"],
        ["req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-out",
         "server.crt", "-days", "2", "-CAcreateserial", "-extfile", "names"],
    ):  # fmt: skip
        subprocess.run([openssl, *line], cwd=place, check=True, capture_output=True, timeout=60)
    return place


class RedisCluster:
    """Three primaries with a replica each, made with redis-cli. node_timeout: milliseconds."""

    def __init__(self, primaries: int = 3, replicas: int = 1, node_timeout: int = 2000) -> None:
        self._cli = program("redis-cli")
        self._replicas = replicas
        self.node_timeout = node_timeout
        self.nodes = []
        for _ in range(primaries * (1 + replicas)):
            options = {
                "cluster-enabled": "yes",
                "cluster-port": str(free_port()),
                "cluster-node-timeout": str(node_timeout),
                "cluster-config-file": "nodes.conf",
                "cluster-replica-validity-factor": "0",
                "repl-diskless-sync-delay": "0",
                "repl-ping-replica-period": "1",
            }
            self.nodes.append(RedisServer(**options))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.cli(
            "create",
            *(f"127.0.0.1:{node.port}" for node in self.nodes),
            "--cluster-replicas",
            str(self._replicas),
            "--cluster-yes",
        )
        until(self.whole, "the cluster is whole")

    def cli(self, *arguments: str) -> str:
        """redis-cli --cluster …"""
        done = subprocess.run(
            [self._cli, "--cluster", *arguments],
            capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def whole(self) -> bool:
        """Every node knows all the others, all slots are served, replicas are connected."""
        for node in self.nodes:
            with node.client() as client:
                info = client.execute_command("CLUSTER INFO")
                if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != str(
                    len(self.nodes)
                ):
                    return False
                role = client.info("replication")
                if role["role"] == "slave" and role["master_link_status"] != "up":
                    return False
        if not self._replicas:
            return True
        with self.nodes[0].client() as client:
            ranges = client.execute_command("CLUSTER SLOTS")
        return all(len(servers) == 1 + self._replicas for servers in _ranges(ranges))

    def role(self, node: RedisServer) -> str:
        """ "master" or "slave"."""
        with node.client() as client:
            return str(client.info("replication")["role"])

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _ranges(answer: Any) -> list[list[Any]]:
    """The servers of each range of CLUSTER SLOTS, in whichever form the client gives them."""
    if isinstance(answer, dict):
        return [[entry["primary"], *entry["replicas"]] for entry in answer.values()]
    return [list(entry[2:]) for entry in answer]


class RedisSentinel:
    """A primary, a replica, and three sentinels that watch them as `service`."""

    service = "main"

    def __init__(self, password: str | None = None) -> None:
        options = {} if password is None else {"masterauth": password}
        self.primary = RedisServer(password=password, **options)
        self.replica = RedisServer(
            password=password, replicaof=f"127.0.0.1 {self.primary.port}", **options
        )
        self.sentinels = [RedisServer(sentinel=True) for _ in range(3)]
        for sentinel in self.sentinels:
            lines = [
                f"sentinel monitor {self.service} 127.0.0.1 {self.primary.port} 2",
                f"sentinel down-after-milliseconds {self.service} 1000",
                f"sentinel failover-timeout {self.service} 3000",
            ]
            if password is not None:
                lines.append(f"sentinel auth-pass {self.service} {password}")
            (sentinel.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        self._password = password

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password is not None else ""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{login}{hosts}/{self.service}"

    def start(self) -> None:
        for server in (self.primary, self.replica, *self.sentinels):
            server.start()
        until(self.whole, "each sentinel knows the replica and the others")

    def whole(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                (state,) = client.sentinel_masters().values()
                if state["num-slaves"] != 1 or state["num-other-sentinels"] != 2:
                    return False
        with self.replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    def close(self) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.close()


def kept(server: Any) -> Iterator[Any]:
    """Start, hand out, and end."""
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis, shared by all tests: each uses a namespace of its own, and nobody flushes it."""
    yield from kept(RedisServer())


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, for whatever harm it does."""
    yield from kept(RedisServer())


@pytest.fixture(scope="session")
def flushed_redis() -> Iterator[RedisServer]:
    """Shared by tests that flush it, and so rely on nothing that it holds."""
    yield from kept(RedisServer())


@pytest.fixture(scope="session")
def redis_password() -> Iterator[RedisServer]:
    yield from kept(RedisServer(password="correct horse/battery@staple"))


@pytest.fixture(scope="session")
def redis_unix() -> Iterator[RedisServer]:
    yield from kept(RedisServer(unix=True))


@pytest.fixture(scope="session")
def redis_tls() -> Iterator[RedisServer]:
    yield from kept(RedisServer(tls=True))


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Shared as well: 3 primaries, 3 replicas."""
    yield from kept(RedisCluster())


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """For failovers and migrations."""
    yield from kept(RedisCluster())


@pytest.fixture
def redis_sentinel() -> Iterator[RedisSentinel]:
    yield from kept(RedisSentinel())
