"""Writes by way of a Redis stream, and the worker that carries them out."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from _support import until
from servers import free_port
from stress.support import child_environment

from fastcache.testing.faults import FaultProxy
from fastcache.writing import Op, RedisStreamWriter, SQLiteLoader, SQLiteWriter, WriteBehind
from fastcache.writing.ops import Batch
from fastcache.writing.stream import Worker

redis = pytest.importorskip("redis")


def load(place: Path) -> dict[Any, Any]:
    return SQLiteLoader(place, table="t").load_many(["a", "b", "n", "bad"])


def drain(url: str, place: Path) -> Worker:
    worker = Worker(url, SQLiteWriter(place, table="t"))
    worker.run(until_empty=True)
    worker.close()
    return worker


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"url": 5}, "url must be a str, not 5"),
        ({"url": None}, "url must be a str, not None"),
        ({"stream": ""}, "stream .* not ''"),
        ({"stream": 5}, "stream must be a str, not 5"),
        ({"timeout": "1"}, "timeout .* not '1'"),
        ({"timeout": 0}, "timeout .* not 0"),
    ],
)
def test_bad_options(options: dict[str, Any], word: str) -> None:
    given: dict[str, Any] = {"url": "redis://127.0.0.1:1/0", **options}
    with pytest.raises((TypeError, ValueError), match=word):
        RedisStreamWriter(**given)


def test_a_worker_names_the_server_that_fails_and_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    worker = Worker(
        f"redis://:hunter2@127.0.0.1:{port}/0", SQLiteWriter(tmp_path / "app.db", table="t")
    )
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: f"draining redis:127.0.0.1:{port}/0:fastcache:writes to sqlite:" in caplog.text)
    worker.stop.set()
    thread.join(30)
    worker.close()
    assert "hunter2" not in caplog.text


def test_the_journals_directory_is_all_that_the_command_wants(capsys: Any) -> None:
    from fastcache.__main__ import main

    with pytest.raises(SystemExit):
        main(["journal"])
    assert "required: PATH\n" in capsys.readouterr().err


def test_through_the_stream(own_redis: Any, tmp_path: Path) -> None:
    url, place = own_redis.url, tmp_path / "app.db"
    with WriteBehind(RedisStreamWriter(url), tmp_path / "j", delay=3600) as w:
        w.put("a", {"x": (1, 2)})
        w.incr("n", 5)
        w.put("b", 1)
        assert w.flush(30)
        w.delete("b")
        w.incr("n", 2)
    assert drain(url, place).done == 5
    assert load(place) == {"a": {"x": [1, 2]}, "n": 7}
    assert drain(url, place).done == 0
    client = redis.Redis.from_url(url)
    assert client.xlen("{fastcache:writes}") == 0
    client.close()


def test_a_batch_that_comes_again_is_not_added_again(own_redis: Any, tmp_path: Path) -> None:
    with FaultProxy("127.0.0.1", own_redis.port) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}/0"
        with WriteBehind(RedisStreamWriter(url), tmp_path / "j", delay=3600) as w:
            w.incr("n")
            assert w.flush(30)
            for _ in range(5):
                w.incr("n")
                proxy.cut(b"EVALSHA")  # done, and never heard of
                assert w.flush(30)
    assert drain(own_redis.url, tmp_path / "app.db").done == 6
    assert load(tmp_path / "app.db") == {"n": 6}


def test_a_worker_that_dies_after_its_commit(own_redis: Any, tmp_path: Path) -> None:
    writer = RedisStreamWriter(own_redis.url)
    writer.apply(Batch([Op("incr", "n", 1, 0, 5)], "j", 1, 1))
    writer.apply(Batch([Op("incr", "n", 10, 0, 6)], "j", folded=(3,)))
    worker = Worker(own_redis.url, SQLiteWriter(tmp_path / "app.db", table="t"), lease=0.05)
    worker._client.xack = None  # it dies there
    for _ in range(2):
        with pytest.raises(TypeError):
            worker._leads()
            worker._carry_out(*_entry(worker))
    assert drain(own_redis.url, tmp_path / "app.db").dead == 0
    assert load(tmp_path / "app.db") == {"n": 11}
    writer.close()


def _entry(worker: Worker) -> tuple[bytes, Any]:
    import json

    (number, fields), *_ = worker._read(wait=False)
    return number, json.loads(fields[b"batch"])


def test_what_the_target_refuses(own_redis: Any, tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    writer = RedisStreamWriter(own_redis.url)
    writer.apply(
        Batch(
            [
                Op("put", "a", 1, 0, 1),
                Op("put", "bad", (1, {2: 3}), 0, 2),
                Op("incr", "n", 4, 0, 3),
            ],
            "j",
            1,
            3,
        )
    )
    writer.apply(Batch([Op("incr", "n", 4, 0, 4)], "j", 4, 4))
    worker = drain(own_redis.url, place)
    assert (worker.done, worker.dead) == (4, 1)
    assert load(place) == {"a": 1, "n": 8}
    client = redis.Redis.from_url(own_redis.url)
    ((_, letter),) = client.xrange("{fastcache:writes}:dead")
    assert letter[b"key"] == b"'bad'" and b"2" in letter[b"error"]
    client.close()
    writer.close()


def test_one_worker_at_a_time_and_the_next_takes_over(own_redis: Any, tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    first, second = (
        Worker(own_redis.url, SQLiteWriter(place, table="t"), lease=0.5) for _ in range(2)
    )
    writer = RedisStreamWriter(own_redis.url)
    threads = [threading.Thread(target=w.run, daemon=True) for w in (first, second)]
    threads[0].start()
    writer.apply([Op("incr", "n", 1, 0, 1)])
    until(lambda: first.done == 1)
    threads[1].start()
    writer.apply([Op("incr", "n", 1, 0, 2)])
    until(lambda: first.done == 2)
    assert second.done == 0
    first.stop.set()
    threads[0].join(30)
    writer.apply([Op("incr", "n", 1, 0, 3)])
    until(lambda: second.done == 1)
    second.stop.set()
    threads[1].join(30)
    assert load(place) == {"n": 3}
    for each in (first, second, writer):
        each.close()


def command(*arguments: object) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "fastcache", "drain", *map(str, arguments)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command(own_redis: Any, tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    writer = RedisStreamWriter(own_redis.url, stream="mine")
    writer.apply([Op("put", "a", 1, 0, 1)])
    writer.close()
    done = command(own_redis.url, "--to", place, "--table", "t", "--stream", "mine", "--once")
    _, errors = done.communicate(timeout=60)
    assert (done.returncode, errors) == (0, "1 operations carried out, 0 refused\n")
    assert load(place) == {"a": 1}


def test_the_command_without_a_server_to_ask(tmp_path: Path) -> None:
    """It tries again until it is ended, and ends in order; what is no address at all is said at once."""
    options = ["--to", tmp_path / "app.db", "--table", "t"]
    done = command("nonsense", *options)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 2
    assert errors.startswith("python -m fastcache drain: Redis URL must specify"), errors
    done = command(f"redis://127.0.0.1:{free_port()}", *options)
    first = done.stderr.readline()
    assert re.search(r"WARNING draining redis:\S+ to sqlite:.* refused", first)
    done.terminate()
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    assert "the next worker begins in 10 s" in errors and "Traceback" not in errors
    assert errors.endswith("0 operations carried out, 0 refused\n")


def test_the_command_that_is_to_end_gives_up(tmp_path: Path) -> None:
    options = ["--to", tmp_path / "app.db", "--table", "t", "--once"]
    done = command(f"redis://:s3cret@127.0.0.1:{free_port()}", *options)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 1, errors
    last = next(line for line in errors.splitlines() if line.startswith("python -m"))
    assert re.match(r"python -m fastcache drain: redis:127\S+ to sqlite:.* refused", last), errors
    assert "Traceback" not in errors and "s3cret" not in errors


def test_no_password_is_shown() -> None:
    writer = RedisStreamWriter("redis://:s3cret@127.0.0.1:1/0")
    assert "s3cret" not in repr(writer) + writer.name
