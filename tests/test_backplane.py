"""Backplanes: what one cache says, the others hear, in order, and nothing is lost without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from servers import until
from servers.redis import RedisServer

from fastcache._keys import decode
from fastcache.backplane import InProcessBackplane, RedisBackplane
from fastcache.stores import RedisStore, StoreError
from fastcache.stores.protocol import COUNTERS, EVENTS, TAGS, Backplane, Target

NAME = "user:42:" + "1f" + "0" * 30
ORIGIN = b"8 bytes."


@pytest.fixture(params=["in process", "redis"])
def backplane(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "redis":
        made: Any = RedisBackplane(request.getfixturevalue("redis_server").url)
    else:
        made = InProcessBackplane()
    yield made
    made.close()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return f"test:{time.monotonic_ns():x}"


def test_what_is_said_is_heard_in_order(backplane: Any, namespace: str) -> None:
    space = backplane.store.space(namespace, ORIGIN)
    run = backplane.store.run
    listeners = [backplane.listen(namespace) for _ in range(2)]
    elsewhere = backplane.listen(namespace + "x")
    before = run(space.counters())
    assert len(before) == COUNTERS and run(space.counters()) == before
    run(space.invalidate([Target(NAME, b"\0\r\n"), Target(NAME, None)]))
    number = run(space.invalidate_tags([b"one", b"two"]))
    run(space.publish(b"event"))
    after = run(space.counters())
    for listener in listeners:
        first, second, tags, event = listener.ping(5.0)
        assert (first.number, first.body, second.body) == (0x1F, b"\0\r\n", None)
        assert first.origin == second.origin == tags.origin == event.origin == ORIGIN
        assert second.counter == after[0x1F]
        assert second.counter.sequence == first.counter.sequence + 1
        assert (tags.number, tags.counter) == (TAGS, after[TAGS])
        assert tags.counter.sequence == number
        assert tuple(decode(tags.body)) == (b"one", b"two")
        assert (event.number, event.body, event.counter) == (EVENTS, b"event", after[EVENTS])
        assert listener.poll(0) == []
        listener.close()
    assert elsewhere.ping(5.0) == []
    elsewhere.close()
    changed = [n for n in range(COUNTERS) if before[n] != after[n]]
    assert changed == [0x1F, TAGS, EVENTS]
    assert run(space.tags([b"one", b"two"])) == [number, number]
    assert run(space.tags([b"three"]))[0] <= number
    assert run(space.invalidate_tags([b"three"])) > number


def test_there_are_no_values_in_process() -> None:
    backplane = InProcessBackplane()
    run, space = backplane.store.run, backplane.store.space("shop", ORIGIN)
    (lease,) = run(space.lease([NAME], b"token", 1.0))
    assert lease.ours and not lease.held and lease.token == b"token"
    assert run(space.read(NAME)) is None
    assert run(space.read_many([NAME, NAME], primary=True)) == [None, None]
    run(backplane.store.check())
    assert backplane.store.backplane() is backplane
    with pytest.raises(StoreError):
        run(space.incr(Target(NAME, b"key"), 1, 0, None))


def test_a_wait_is_ended_by_a_message_or_by_wake(backplane: Any, namespace: str) -> None:
    listener = backplane.listen(namespace)
    space = backplane.store.space(namespace, ORIGIN)
    for act, expected in (
        (listener.wake, 0),
        (lambda: backplane.store.run(space.publish(b"event")), 1),
    ):
        heard: list[Any] = []
        begun = threading.Event()

        def wait(heard: list[Any] = heard, begun: threading.Event = begun) -> None:
            begun.set()
            heard.append(listener.poll(60.0))

        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait()
        act()
        thread.join(30)
        assert not thread.is_alive()
        assert len(heard[0]) == expected
    begin = time.monotonic()
    assert listener.poll(0.05) == []
    assert time.monotonic() - begin >= 0.04
    listener.close()


def test_a_closed_listener_says_so(backplane: Any, namespace: str) -> None:
    listener = backplane.listen(namespace)
    listener.close()
    listener.close()
    listener.wake()
    for ask in (listener.poll, listener.ping):
        with pytest.raises(StoreError):
            ask(0.1)


def test_a_listener_that_is_cut_off_says_so(own_redis: RedisServer) -> None:
    backplane = RedisBackplane(own_redis.url)
    space = backplane.store.space("shop", ORIGIN)
    listener = backplane.listen("shop")
    with own_redis.client() as client:
        client.execute_command("CLIENT KILL TYPE pubsub")
    with pytest.raises(StoreError) as caught:
        listener.poll(10.0)
    assert caught.value.kind == "closed"
    with pytest.raises(StoreError):
        listener.poll(0.1)
    listener = backplane.listen("shop")
    own_redis.pause()
    begin = time.monotonic()
    with pytest.raises(StoreError) as caught:
        listener.ping(0.2)
    assert caught.value.kind == "timeout" and time.monotonic() - begin < 10
    own_redis.resume()
    own_redis.kill()
    with pytest.raises(StoreError):
        backplane.listen("shop")
    own_redis.start()
    until(lambda: fine(backplane), "it listens again")
    listener = backplane.listen("shop")
    backplane.store.run(space.publish(b"event"))
    assert [message.body for message in listener.ping(5.0)] == [b"event"]
    listener.close()
    backplane.close()


def fine(backplane: Backplane) -> bool:
    try:
        backplane.listen("shop").close()
    except StoreError:
        return False
    return True


def test_many_messages_at_once(redis_server: RedisServer, namespace: str) -> None:
    backplane = RedisBackplane(redis_server.url)
    space = backplane.store.space(namespace, ORIGIN)
    listener = backplane.listen(namespace)
    body = b"x" * 1000
    for _ in range(10):
        backplane.store.run(space.invalidate([Target(NAME, body)] * 500))
    messages = listener.ping(30.0)
    sequences = [message.counter.sequence for message in messages if message.counter]
    assert sequences == list(range(sequences[0], sequences[0] + 5000))
    listener.close()
    backplane.close()


def test_what_others_say_in_our_channels_stands_for_anything(
    redis_server: RedisServer, namespace: str
) -> None:
    backplane = RedisBackplane(redis_server.url)
    listener = backplane.listen(namespace)
    with redis_server.client() as client:
        for text in (b"", b"hello", b"xx:1\n8 bytes.kbody", b"ff:\n", b"\0\n\0"):
            client.execute_command("SPUBLISH", f"fc:{{{namespace}:1f}}:#", text)
            (message,) = listener.ping(5.0)
            assert (message.number, message.counter, message.body) == (0x1F, None, None)
    listener.close()
    backplane.close()


def test_arguments(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    with pytest.raises(TypeError, match="timeout"):
        RedisBackplane(store, timeout=1.0)
    backplane = RedisBackplane(store)
    assert backplane.where == store.where and store.where in repr(backplane)
    backplane.close()
    store.run(store.check())  # it is not the backplane's to close
    store.close()
