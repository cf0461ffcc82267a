"""fastcache.testing.FaultProxy before a real TCP server that answers lines."""

import asyncio
import contextlib
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _support import run_python, until

from fastcache.testing import FaultProxy


class Answers(socketserver.StreamRequestHandler):
    """Answers each line with itself, and remembers the lines."""

    lines: list[bytes] = []

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                self.lines.append(line)
                self.wfile.write(b"got " + line)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    Answers.lines = []
    with Server(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address  # type: ignore[misc]
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(*server) as proxy:
        yield proxy


class Client:
    def __init__(self, proxy: FaultProxy, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(proxy.address, timeout=timeout)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, line: bytes) -> bytes:
        self.send(line + b"\n")
        return self.line()

    def line(self) -> bytes:
        """Up to the end of the line, or of the connection."""
        data = b""
        while not data.endswith(b"\n"):
            more = self.socket.recv(4096)
            if not more:
                break
            data += more
        return data

    def silent(self) -> bool:
        """Nothing comes within a short time."""
        self.socket.settimeout(0.1)
        try:
            return self.socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10.0)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def test_passes_everything_on(proxy: FaultProxy) -> None:
    with Client(proxy) as one, Client(proxy) as two:
        assert one.ask(b"a") == b"got a\n"
        assert two.ask(b"b") == b"got b\n"
        big = b"x" * 3_000_000
        thread = threading.Thread(target=one.send, args=(big + b"\n",))
        thread.start()
        assert one.line() == b"got " + big + b"\n"
        thread.join()
        assert proxy.accepted == proxy.open == 2
        assert repr(proxy).startswith(f"<FaultProxy 127.0.0.1:{proxy.port} -> 127.0.0.1:")
    until(lambda: proxy.open == 0)


def test_the_end_of_one_direction_is_passed_on(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        client.send(b"last\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.line() == b"got last\n"
        assert client.line() == b""


def test_latency(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        for direction in ("requests", "replies"):
            proxy.latency(0.05, direction)
            start = time.monotonic()
            assert client.ask(b"a") == b"got a\n"
            assert time.monotonic() - start >= 0.05
            proxy.heal()
        proxy.latency(60)
        client.send(b"held\n")
        until(lambda: Answers.lines[-1:] == [b"held\n"])
        assert client.silent()
        proxy.heal()
        assert client.line() == b"got held\n"


def test_throttle(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        proxy.throttle(1, 0.005)
        start = time.monotonic()
        assert client.ask(b"0123456789") == b"got 0123456789\n"
        assert time.monotonic() - start >= 14 * 0.005
        proxy.throttle(0)
        assert client.ask(b"a") == b"got a\n"


def test_black_hole_loses_bytes_for_good(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"a") == b"got a\n"
        proxy.black_hole()
        client.send(b"b\n")
        with Client(proxy) as new:  # accepted, and held
            new.send(b"c\n")
            assert new.silent() and client.silent()
            proxy.heal()
            for dead in (client, new):
                dead.send(b"d\n")
                assert dead.silent()
        assert Answers.lines == [b"a\n"]
    with Client(proxy) as later:
        assert later.ask(b"e") == b"got e\n"


def test_black_hole_that_holds(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        proxy.black_hole(hold=True)
        client.send(b"b\n")
        assert client.silent()
        assert Answers.lines == []
        proxy.heal()
        assert client.line() == b"got b\n"
        assert client.ask(b"c") == b"got c\n"


def test_a_reply_on_its_way_falls_into_the_hole(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        proxy.latency(0.02)
        client.send(b"a\n")
        until(lambda: Answers.lines == [b"a\n"])
        proxy.black_hole()
        assert client.silent()


def test_which_connections(proxy: FaultProxy) -> None:
    with Client(proxy) as old:
        assert old.ask(b"a") == b"got a\n"
        proxy.black_hole(connections="new")
        with Client(proxy) as new:
            new.send(b"b\n")
            assert new.silent()
            assert old.ask(b"c") == b"got c\n"
            proxy.heal()
            proxy.black_hole(connections="open")
            with Client(proxy) as newer:
                assert newer.ask(b"d") == b"got d\n"
                old.send(b"e\n")
                assert old.silent()


def test_reset(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"a") == b"got a\n"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.line()
    with Client(proxy) as client:
        assert client.ask(b"b") == b"got b\n"
    proxy.reset(new=True)
    with pytest.raises(ConnectionError):
        with Client(proxy) as client:
            client.ask(b"c")
    proxy.heal()
    with Client(proxy) as client:
        assert client.ask(b"d") == b"got d\n"
    assert proxy.struck["reset"] >= 2


def test_refuse(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"a") == b"got a\n"
        proxy.refuse()
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                Client(proxy)
        assert client.ask(b"b") == b"got b\n"
        port = proxy.port
        proxy.heal()
        assert proxy.port == port
        with Client(proxy) as new:
            assert new.ask(b"c") == b"got c\n"


def test_a_target_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with FaultProxy(*free.getsockname()) as proxy:
            with pytest.raises(ConnectionResetError):  # perhaps at once
                with Client(proxy) as client:
                    client.line()
            assert proxy.struck["refused"] == 1


def test_truncate(proxy: FaultProxy) -> None:
    with Client(proxy) as open_:
        assert open_.ask(b"a") == b"got a\n"
        proxy.truncate(3)
        assert open_.ask(b"b") == b"got"
        with pytest.raises(ConnectionError):
            for _ in range(1000):  # the other direction is closed as well
                open_.send(b"c\n")
                time.sleep(0.001)
    proxy.truncate(0)
    with Client(proxy) as client:
        assert client.ask(b"b") == b""
    assert proxy.struck["truncate"] == 2
    proxy.heal()
    with Client(proxy) as client:
        assert client.ask(b"c") == b"got c\n"


def test_flip(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"a") == b"got a\n"
        proxy.flip(4, 1)
        for _ in range(3):
            assert client.ask(b"a") == b"got c\n"
        proxy.heal()
        assert client.ask(b"a") == b"got a\n"
    assert proxy.struck["flip"] == 3


def test_cut_after_the_server_has_done_it(proxy: FaultProxy) -> None:
    proxy.cut(b"COMMIT")
    with Client(proxy) as client:
        assert client.ask(b"BEGIN") == b"got BEGIN\n"
        with pytest.raises(ConnectionResetError):
            client.ask(b"COMMIT")
    proxy.wait("cut")
    assert Answers.lines == [b"BEGIN\n", b"COMMIT\n"]
    with Client(proxy) as client:  # once
        assert client.ask(b"COMMIT") == b"got COMMIT\n"


def test_cut_found_across_packets_and_closed_in_order(proxy: FaultProxy) -> None:
    proxy.cut(b"COMMIT", abrupt=False)
    with Client(proxy) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(b"one COM")
        # an answer to another connection shows that the first part has been through
        with Client(proxy) as other:
            assert other.ask(b"x") == b"got x\n"
        client.send(b"MIT two\n")
        assert client.line() == b""
    assert proxy.struck["cut"] == 1
    until(lambda: b"one COMMIT two\n" in Answers.lines)


def test_cut_before_the_server_hears_of_it(proxy: FaultProxy) -> None:
    proxy.cut(re.compile(rb"COM+IT"), times=2, reaches=False)
    for _ in range(2):
        with Client(proxy) as client:
            assert client.ask(b"a") == b"got a\n"
            with pytest.raises(ConnectionResetError):
                client.ask(b"COMMMMIT")
    with Client(proxy) as client:
        assert client.ask(b"COMIT") == b"got COMIT\n"
    assert Answers.lines == [b"a\n", b"a\n", b"COMIT\n"]


def test_inject(proxy: FaultProxy) -> None:
    proxy.inject(b"-LOADING\n", b"GET", times=1)
    proxy.inject(lambda request: request.upper(), b"shout")
    with Client(proxy) as client:
        assert client.ask(b"a") == b"got a\n"
        assert client.ask(b"GET") == b"-LOADING\n"
        assert client.ask(b"GET") == b"got GET\n"
        assert client.ask(b"shout") == b"SHOUT\n"
        proxy.heal()
        assert client.ask(b"shout") == b"got shout\n"
        proxy.inject(b"-OOM\n")
        assert client.ask(b"anything") == b"-OOM\n"
    assert Answers.lines == [b"a\n", b"GET\n", b"shout\n"]
    assert proxy.struck["inject"] == 3


def test_an_error_in_a_reply_function_is_raised_in_the_end(server: tuple[str, int]) -> None:
    def fails(request: bytes) -> bytes:
        raise KeyError(request)

    proxy = FaultProxy(*server).start()
    proxy.inject(fails)
    with Client(proxy) as client, pytest.raises(ConnectionResetError):
        client.ask(b"a")
    with pytest.raises(KeyError):
        proxy.close()
    proxy.close()


def test_waiting_has_a_limit(proxy: FaultProxy) -> None:
    with pytest.raises(TimeoutError, match="'cut' has struck 0 times of 1"):
        proxy.wait("cut", seconds=0.01)


def test_before_a_unix_socket(tmp_path: Path) -> None:
    class UnixServer(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    Answers.lines = []
    path = str(tmp_path / "socket")
    with UnixServer(path, Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        with FaultProxy(path) as proxy, Client(proxy) as client:
            assert client.ask(b"a") == b"got a\n"
            proxy.flip(4, 1)
            assert client.ask(b"a") == b"got c\n"
            assert path in repr(proxy)
        server.shutdown()
        thread.join()


def test_close_ends_everything(server: tuple[str, int]) -> None:
    threads = threading.active_count()
    proxy = FaultProxy(*server)
    proxy.latency(0.01)  # also before it starts
    proxy.start()
    client = Client(proxy)
    assert client.ask(b"a") == b"got a\n"
    proxy.black_hole()
    proxy.close()
    proxy.close()
    assert client.line() == b""
    with pytest.raises(ConnectionRefusedError):
        Client(proxy)
    client.socket.close()
    until(lambda: threading.active_count() <= threads)
    with pytest.raises(RuntimeError, match="closed"):
        proxy.heal()
    FaultProxy(*server).close()  # never started


def test_from_tasks(proxy: FaultProxy) -> None:
    async def ask(line: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*proxy.address)
        try:
            writer.write(line + b"\n")
            return await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        lines = [b"%d" % n for n in range(50)]
        assert await asyncio.gather(*map(ask, lines)) == [b"got %s\n" % line for line in lines]
        proxy.truncate(2)
        assert await ask(b"a") == b"go"

    asyncio.run(main())


def test_many_clients_while_faults_come_and_go(proxy: FaultProxy) -> None:
    """Whatever gets through is an answer to what was asked, or a part of one."""
    stop = threading.Event()
    wrong: list[bytes] = []
    right = [0]

    def work(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            line = b"%d-%d" % (name, number)
            try:
                with Client(proxy, timeout=0.2) as client:
                    answer = client.ask(line)
            except OSError:
                continue
            if not (b"got " + line + b"\n").startswith(answer):
                wrong.append(answer)
            right[0] += answer.endswith(b"\n")

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        for fault in (
            lambda: proxy.latency(0.01, "both"),
            lambda: proxy.throttle(2, 0.001),
            proxy.black_hole,
            lambda: proxy.black_hole(hold=True),
            lambda: proxy.truncate(3),
            proxy.reset,
            proxy.refuse,
            lambda: proxy.cut(None),
            lambda: proxy.cut(None, reaches=False, abrupt=False),
        ):
            fault()
            time.sleep(0.01)  # a time under the fault
            proxy.heal()
            seen = right[0]
            until(lambda seen=seen: right[0] > seen)
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert wrong == []
    until(lambda: proxy.open == 0)


def test_a_forked_child_leaves_it_alone() -> None:
    run_python(
        """
import os, socket, threading, warnings
from fastcache.testing import FaultProxy
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
with socket.create_server(("127.0.0.1", 0)) as server, FaultProxy(*server.getsockname()) as proxy:
    client = socket.create_connection(proxy.address, timeout=10)
    far, _ = server.accept()
    gone_in, gone_out = os.pipe()
    child = os.fork()
    if child == 0:
        client.close()
        far.close()
        try:
            proxy.heal()
        except RuntimeError:
            os.write(gone_out, b"1")
        os.close(gone_out)
        threading.Event().wait(60)
        os._exit(0)
    assert os.read(gone_in, 1) == b"1"
    client.sendall(b"a")
    assert far.recv(1) == b"a"
    proxy.reset()
    try:
        assert client.recv(1) == b"never", "an orderly close"
    except ConnectionResetError:
        pass
    os.kill(child, 9)
    os.waitpid(child, 0)
    client.close()
    far.close()
"""
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda p: p.latency(-1), ValueError, "seconds must be at least 0, not -1"),
        (lambda p: p.latency("1"), TypeError, "seconds must be a number, not str"),
        (lambda p: p.latency(float("nan")), ValueError, "seconds must be at least 0, not nan"),
        (lambda p: p.latency(1, "up"), ValueError, "direction must be one of .*, not 'up'"),
        (lambda p: p.throttle(-1), ValueError, "size must be at least 0"),
        (lambda p: p.truncate(1, "none"), ValueError, "connections must be one of .*, not 'none'"),
        (lambda p: p.flip(0, 8), ValueError, "bit must be between 0 and 7, not 8"),
        (lambda p: p.cut(b""), ValueError, "match must not be empty"),
        (lambda p: p.cut(b"x" * 5000), ValueError, "match must have at most 4096 bytes"),
        (lambda p: p.cut("COMMIT"), TypeError, "match must be bytes, .*, not str"),
        (lambda p: p.cut(b"a", times=0), ValueError, "times must be at least 1, not 0"),
        (lambda p: p.inject("no"), TypeError, "reply must be bytes or a function"),
        (lambda p: FaultProxy(("127.0.0.1", 1)), TypeError, "target_host must be a str, not tuple"),
    ],
)
def test_refused_arguments_change_nothing(
    proxy: FaultProxy, call: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call(proxy)  # type: ignore[operator]
    with Client(proxy) as client:
        assert client.ask(b"COMMIT") == b"got COMMIT\n"
