"""No error shows a password: also where a URL stands in the place of something else."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastcache import Cache, Namespace, TieredCache, cached, writing
from fastcache._redact import redacted, shown
from fastcache.backplane import InProcessBackplane, PostgresBackplane, RedisBackplane
from fastcache.invalidation import PostgresOutbox
from fastcache.stores import MemcachedStore, RedisStore, SQLiteStore, StoreError
from fastcache.writing import WriteBehind, WriteThrough

URL = "redis://user:hunter2@localhost:6379/0"


def _store() -> RedisStore:
    return RedisStore("redis://localhost")


def _writer() -> writing.SQLiteWriter:
    return writing.SQLiteWriter("app.db", table="t")


def _tiered(**options: Any) -> TieredCache[Any, Any]:
    return TieredCache(Cache(1), options.pop("l2", None), **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: TieredCache(URL),  # type: ignore[arg-type]
        lambda: _tiered(l2=URL, namespace="x"),
        lambda: _tiered(namespace="x", backplane=URL),
        lambda: _tiered(l2=_store(), namespace="x", serializer=URL),
        lambda: _tiered(l2=_store(), namespace=URL),
        lambda: _tiered(writer=URL),
        lambda: _tiered(loader=URL),
        lambda: cached(cache=URL)(len),  # type: ignore[call-overload]
        lambda: Namespace(URL, "x"),  # type: ignore[arg-type]
        lambda: MemcachedStore(URL),
        lambda: MemcachedStore("user:hunter2@localhost:11211"),
        lambda: MemcachedStore([("user:hunter2@localhost", 11211)]),
        lambda: MemcachedStore("localhost", backplane=URL),  # type: ignore[arg-type]
        lambda: SQLiteStore(URL),
        lambda: WriteBehind(URL),
        lambda: WriteBehind(_writer(), journal=URL),
        lambda: WriteBehind(_writer(), durability=URL),
        lambda: WriteBehind(_writer(), codec=URL),  # type: ignore[arg-type]
        lambda: writing.RedisStreamWriter(URL.encode()),  # type: ignore[arg-type]
        lambda: writing.SQLiteWriter(URL.encode(), table="t"),  # type: ignore[arg-type]
        lambda: writing.SQLiteWriter("app.db", table=URL.encode()),  # type: ignore[arg-type]
        lambda: SQLiteStore(URL.encode()),  # type: ignore[arg-type]
        lambda: TieredCache(Cache[str, str](1)).set_many(URL),  # type: ignore[arg-type]
        lambda: WriteThrough(URL),
        lambda: PostgresOutbox("postgresql://localhost", URL),  # type: ignore[arg-type]
    ],
)
def test_a_url_in_the_wrong_place(
    call: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert "hunter2" not in str(caught.value)
    assert "localhost" in str(caught.value)  # but which one it was


def test_variables_of_frames_show_no_password_either(redis_password: Any) -> None:
    """As tools that report errors send them."""
    store = RedisStore(f"redis://127.0.0.1:{redis_password.port}", password="hunter2")
    try:
        with pytest.raises(StoreError) as caught:
            store.run(store.check())
    finally:
        store.close()
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in whole.stack if "/fastcache/" in frame.filename.replace("\\", "/")]
    assert {frame.name for frame in frames} >= {"__init__", "send"}
    assert not [frame for frame in frames if "hunter2" in str(frame.locals)]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (URL, "redis://***@localhost:6379/0"),
        ("user:hunter2@localhost", "***@localhost"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://user:hunter2", "redis://user:***"),
        ("user:123456", "user:***"),
        ("redis://localhost?password=hunter2", "redis://localhost"),
    ],
)
def test_redacted(text: str, safe: str) -> None:
    assert redacted(text) == safe


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        (URL, "'redis://***@localhost:6379/0'"),
        (URL.encode(), "'redis://***@localhost:6379/0'"),
        ("host=x password=hunter2 dbname=y", "'host=x password=*** dbname=y'"),
        ("host=x Password = 'hunter 2'", "'host=x Password = ***'"),
        ("user:42", "'user:42'"),
        (b"\xff", "b'\\xff'"),
        (42, "42"),
    ],
)
def test_shown(given: object, safe: str) -> None:
    assert shown(given) == safe


def made(folder: Path) -> list[Any]:
    """One of each kind of thing that has connections, locks or files of its own."""
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    redis, postgres = "redis://:hunter2@localhost:1/0", "postgresql://me:hunter2@localhost:1/app"
    return [
        RedisStore(redis),
        MemcachedStore("localhost:1"),
        SQLiteStore(folder / "cache.db"),
        RedisBackplane(redis),
        PostgresBackplane(postgres),
        InProcessBackplane(),
        writing.SQLiteWriter(folder / "app.db", table="t"),
        writing.SQLiteLoader(folder / "app.db", table="t"),
        writing.PostgresWriter(postgres, table="t"),
        writing.PostgresLoader(postgres, table="t"),
        writing.RedisStreamWriter(redis),
        writing.WriteThrough(writing.SQLiteWriter(folder / "app.db", table="t")),
        writing.WriteBehind(writing.SQLiteWriter(folder / "app.db", table="t")),
        TieredCache(Cache(1)),
    ]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copy_or_pickle_of_what_there_is_one_of(copied: Any, tmp_path: Path) -> None:
    things = made(tmp_path)
    for thing in things:
        name = type(thing).__name__
        with pytest.raises(TypeError, match=f"{name} cannot be copied|cannot pickle '{name}'"):
            copied(thing)
        assert "hunter2" not in repr(thing)
        close = getattr(thing, "close", None)
        if close is not None:
            close()
