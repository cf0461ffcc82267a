"""The parts by themselves: codecs, the clock, the progress bar, the settings of a journal."""

from __future__ import annotations

import io
import json
import math
import sqlite3
import time
from collections import OrderedDict
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiered.support import Thread, until
from writing.test_behind import Recorder

from fastcache._core import plain_json
from fastcache.writing import WriteBehind
from fastcache.writing.codec import Exact, Json
from fastcache.writing.journal import CHECKPOINT_AT, WAIT_AT
from fastcache.writing.ops import Clock, Op, seconds_of, version_at
from fastcache.writing.progress import Progress

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
KEYS = SCALARS | st.tuples(st.integers(), st.text())
RICH = st.recursive(
    SCALARS
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes()
    | st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([math.inf, -math.inf]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(
            same(a, b) for a, b in zip(one.values(), other.values(), strict=True)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@given(PLAIN)
def test_json_gives_back_what_is_plain(value: Any) -> None:
    text = Json().encode(value)
    assert text.isascii() and same(Json().decode(text), value)
    assert same(json.loads(text), value)


@given(PLAIN)
def test_json_is_that_of_the_standard_library(value: Any) -> None:
    assert Json().encode(value) == json.dumps(value)
    assert plain_json(value, False) in (json.dumps(value), None)


def test_what_is_plain_and_what_is_not() -> None:
    deepest: list[Any] = []
    for _ in range(99):
        deepest = [deepest]
    every = "".join(map(chr, range(0x300)))
    for value in (
        None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.1, -0.0, 1e16, 5e-324, "", every, every[::-1], "x" * 5000,
        "\ud800", "\uffff\U00010000\U0010ffff", [], {}, {"": []}, {"\u00e9": "!"}, [1, [2.5, {"a": [None, {}]}]],
        ["y" * 700] * 9, deepest,
    ):  # fmt: skip
        assert plain_json(value, False) == json.dumps(value), value
    assert plain_json(((), (1, [(2,)])), True) == "[[], [1, [[2]]]]"
    endless: list[Any] = []
    endless.append(endless)
    for value in (
        2**63, -(2**63) - 1, math.inf, -math.inf, math.nan, b"", object(), (), [()], {1: 2}, {None: 1}, {"!": 1},
        {"a": {"!": 1}}, IntEnum("Two", "a b")(1), type("Text", (str,), {})("a"), OrderedDict(a=1), [deepest], endless,
    ):  # fmt: skip
        assert plain_json(value, False) is None, value


@pytest.mark.parametrize("around", ["a", " ", "~", "!", "#", "[", "]", "@"])
def test_each_character_at_each_place_is_escaped_where_json_escapes_it(around: str) -> None:
    """Text is looked at eight bytes at a time."""
    for length in (1, 7, 8, 9, 17):
        for place in range(length):
            for c in range(0x81):
                text = around * place + chr(c) + around * (length - place - 1)
                assert plain_json(text, False) == json.dumps(text), (place, c)


@given(RICH)
def test_exact_gives_back_everything_with_its_type(value: Any) -> None:
    text = Exact().encode(value)
    assert text.isascii() and same(Exact().decode(text), value)


def test_exact_by_example() -> None:
    exact = Exact()
    for value in (
        {"!": ["t", 1]}, {"!": 1, "a": 2}, (), set(), [()], {(): 1}, Decimal("1.50"), b"\0\xff", UUID(int=1),
        datetime(2026, 1, 2, 3, fold=1), date(2026, 1, 2), time_of_day(1, 2, fold=1), timedelta(-1, 2, 3), 2**200,
    ):  # fmt: skip
        assert same(exact.decode(exact.encode(value)), value), value
    assert math.isnan(exact.decode(exact.encode(math.nan)))
    assert exact.encode({"a": [1, None]}) == Json().encode({"a": [1, None]}), "plain is plain"


@pytest.mark.parametrize("codec", [Json(), Exact()])
def test_what_has_no_text(codec: Any) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), [object()], {"a": print}, 1j, range(3)):
        with pytest.raises(TypeError):
            codec.encode(value)
    with pytest.raises(ValueError, match="nested"):
        codec.encode(deep)


def test_a_clock_never_goes_back_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    now = time.time_ns()
    first = clock.tick()
    assert abs(seconds_of(first) - now / 1e9) < 60
    assert version_at(seconds_of(first)) <= first < 2**63
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)
    versions = [clock.tick() for _ in range(1000)]
    assert [first, *versions] == sorted({first, *versions})
    ahead = version_at(now / 1e9 + 7200)
    clock.seen(ahead)
    assert clock.tick() > ahead
    clock.seen(2**63 - 1)
    with pytest.raises(OverflowError):
        clock.tick()


def test_operations_are_frozen() -> None:
    op = Op.put("a", 1)
    with pytest.raises(AttributeError):
        op.value = 2  # type: ignore[misc]
    assert not hasattr(op, "__dict__")
    assert op.at(5) == Op("put", "a", 1, 0, 5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_of_a_long_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(5000, "writing", stream)
        progress.show(10)
        assert stream.getvalue() == "", "a short one shows nothing"
        now[0] += 2
        progress.show(2500)
        assert ("[############............] 2,500/5,000" in stream.getvalue()) is shown
        progress.close()
        assert stream.getvalue().endswith("\r\x1b[2K") is shown


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_what_a_commit_waits_for(tmp_path: Path, durability: str, synchronous: int) -> None:
    """1: the operating system has it; 2: the disk."""
    w = WriteBehind(Recorder(), tmp_path / "j", durability, delay=3600)
    w.put("a", 1)
    journal = w._queue.own.journal
    assert journal is not None
    for pragma, expected in (
        ("synchronous", synchronous),
        ("journal_mode", "wal"),
        ("wal_autocheckpoint", 0),
        ("fullfsync", int(durability == "power")),
    ):
        assert journal.connection.execute(f"PRAGMA {pragma}").fetchone() == (expected,)
    assert w.close(30)


def test_the_log_is_copied_back_by_the_thread_that_drains(tmp_path: Path) -> None:
    """However much is written, it stays within what waits and what may be written meanwhile."""
    w = WriteBehind(Recorder(), tmp_path / "j", delay=3600, max_pending=10**6, batch=10**6)
    biggest = 0
    for _ in range(12):  # 100 MB of values, and as much again for forgetting them
        for i in range(1000):
            w.put(i, "x" * 8000)
        assert w.flush(60)
        journal = w._queue.own.journal
        assert journal is not None
        biggest = max(biggest, journal.log_size())
    assert biggest < 80 << 20
    assert w.close(30)


@pytest.mark.parametrize("down", [True, False], ids=["down", "not due"])
def test_the_log_is_copied_back_while_nothing_can_be_drained(tmp_path: Path, down: bool) -> None:
    """What waits then takes its own size on disk, not a page for each."""
    recorder = Recorder()
    recorder.error = ConnectionError("down")
    w = WriteBehind(recorder, tmp_path / "j", delay=0.01 if down else 3600, batch=10**6)
    w.put("first", 0)
    journal = w._queue.own.journal
    assert journal is not None
    for _ in range(6):
        for i in range(2000):
            w.put(i, "x" * 50)
        until(
            lambda: (
                (size := journal.log_size()) < CHECKPOINT_AT
                or w._drainer._tidied == (journal.id, size)
            )
        )
    assert w.stats().failing is down and not recorder.ops
    assert w.stats().pending == 12_001
    assert journal.log_size() < 2 * WAIT_AT  # 100 MB otherwise
    assert journal.path.stat().st_size < 4 << 20
    recorder.error = None
    assert w.close(30)
    assert {op.key for op in recorder.ops} == {"first", *range(2000)}


def test_others_write_to_a_journal_between_two_commits(tmp_path: Path) -> None:
    """As `python -m fastcache journal` does. The reader's lock that is kept between commits is in nobody's way."""
    w = WriteBehind(recorder := Recorder(), tmp_path / "j", delay=3600)
    w.put("a", 0)
    journal = w._queue.own.journal
    assert journal is not None
    other = sqlite3.connect(journal.path, timeout=30, isolation_level=None)
    add = "INSERT INTO dead SELECT *, 'no', 0, 0 FROM ops WHERE sequence = ?"
    for number in range(1, 4):
        assert other.execute(add, (number,)).rowcount == 1, "it sees what was committed"
        w.put("a", number)  # from a moment that is past
        assert len(journal.dead()) == number, "and is seen"
        w.put("b", number)
    assert journal._held is not None
    other.execute("BEGIN IMMEDIATE")
    waiting = Thread(w.put, "c", 1)
    until(lambda: journal._held is None)  # it has let go, and waits for the other
    assert w.pending("c") is None
    other.execute("COMMIT")
    waiting.result()
    w.put("d", 1)
    assert other.execute("SELECT count(*) FROM ops").fetchone() == (9,)
    other.close()
    assert w.drop_dead() == 3
    assert w.close(30)
    assert [(op.key, op.value) for op in recorder.ops] == [("a", 3), ("b", 3), ("c", 1), ("d", 1)]


def test_a_journal_of_which_much_waits_can_be_copied_back_whole(tmp_path: Path) -> None:
    w = WriteBehind(Recorder(), tmp_path / "j", delay=3600)
    for _ in range(3):
        for i in range(300):
            w.put(i, "x" * 500)
        journal = w._queue.own.journal
        assert journal is not None
        assert journal._held is not None
        assert journal.checkpoint()
        size = journal.log_size()
    w.put("more", 1)
    assert journal.log_size() == size, "the log has begun anew"
    assert w.close(30)
