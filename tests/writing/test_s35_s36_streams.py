"""Scenarios 35 and 36: poison rows, dead letters, and interleavings of put, delete and incr."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stress.support import scaled
from writing.conftest import Source

from fastcache._types import MISSING
from fastcache.writing import DeadLetter, Op, Refused, SQLiteLoader, SQLiteWriter, WriteBehind
from fastcache.writing.ops import Batch, coalesce


def poisoned(source: Source) -> None:
    """A table that takes no value with the word poison in it."""
    source.sql(
        'CREATE TABLE {t} ("key" varchar(100) PRIMARY KEY, "value" text'
        ' CHECK ("value" NOT LIKE \'%poison%\'), "version" bigint)'
        if source.kind == "sqlite"
        else 'CREATE TABLE {t} ("key" text PRIMARY KEY, "value" text'
        ' CHECK ("value" NOT LIKE \'%%poison%%\'), "version" bigint)'
    )


@pytest.fixture(params=["memory", "process", "power"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    return {"journal": tmp_path / "journal", "durability": request.param}


def test_one_poison_row_in_a_batch_of_100(source: Source, options: dict[str, Any]) -> None:
    poisoned(source)
    heard: list[DeadLetter] = []
    applied: list[Any] = []
    w = WriteBehind(
        source.writer(),
        delay=3600,
        on_dead_letter=heard.append,
        on_applied=applied.extend,
        **options,
    )
    for i in range(100):
        w.put(f"k{i}", "poison" if i == 37 else i)
    assert w.pending("k37").value == "poison"  # type: ignore[union-attr]
    assert w.flush(30)
    assert source.rows() == {f"k{i}": str(i) for i in range(100) if i != 37}
    assert w.pending("k37") is None, "readers see the source again"
    assert "k37" in applied
    (letter,) = w.dead_letters()
    assert heard == [letter] or heard[0].op.key == letter.op.key
    assert (letter.op.kind, letter.op.key, letter.op.value) == ("put", "k37", "poison")
    assert "constraint" in letter.error.lower()
    assert w.stats().dead == 1 and w.stats().pending == 0 and not w.stats().failing
    w.put("k37", "good")
    w.put("more", 1)
    assert w.flush(30)
    assert source.rows()["k37"] == '"good"' and source.rows()["more"] == "1"
    # tried again it is what it was: an older write than the good one
    assert w.retry_dead([letter.id + 1000]) == 0
    assert w.retry_dead([letter.id]) == 1
    assert w.flush(30)
    assert source.rows()["k37"] == '"good"'
    w.put("bad", "poison")
    assert w.flush(30)
    assert len(w.dead_letters()) >= 1
    assert w.drop_dead() >= 1
    assert w.dead_letters() == []
    assert w.close(30)
    if options:
        assert list(options["journal"].iterdir()) == []


def test_a_dead_letter_that_is_right_now_is_written(
    source: Source, options: dict[str, Any]
) -> None:
    poisoned(source)
    w = WriteBehind(source.writer(), delay=3600, **options)
    w.incr("n", 1)
    w.put("n2", "poison")
    w.put("n3", 1)
    assert w.flush(30)
    assert len(w.dead_letters()) == 1
    if source.kind == "sqlite":
        w._writer.close()  # type: ignore[attr-defined]
    source.sql("DROP TABLE {t}")
    if source.kind == "postgres":
        w._writer._types = {}  # type: ignore[attr-defined]
    assert w.retry_dead() == 1
    assert w.dead_letters() == []
    assert w.flush(30)
    assert source.rows() == {"n2": '"poison"'}
    assert w.close(30)


def test_dead_letters_survive_in_the_journal(tmp_path: Path) -> None:
    source = Source("sqlite", str(tmp_path / "source.db"))
    poisoned(source)
    w = WriteBehind(source.writer(), tmp_path / "journal", delay=3600)
    w.put("a", "poison")
    w.put("b", 1)
    assert w.close(30)
    assert len(list((tmp_path / "journal").glob("*.journal"))) == 1
    w = WriteBehind(source.writer(), tmp_path / "journal", delay=3600)
    assert w.stats().adopted == 0
    w.put("c", 1)
    assert w.close(30)
    assert len(list((tmp_path / "journal").glob("*.journal"))) == 1
    source.close()


def test_many_poison_rows_do_not_stop_the_queue() -> None:
    class Picky:
        name = "picky"

        def __init__(self) -> None:
            self.good: dict[Any, Any] = {}

        def apply(self, ops: Sequence[Op]) -> None:
            for op in ops:
                if op.value == "poison":
                    raise Refused("poison", op.key)
            self.good.update({op.key: op.value for op in ops})

    picky = Picky()
    w = WriteBehind(picky, delay=3600, batch=50)
    draw = random.Random(35)
    model: dict[Any, Any] = {}
    bad = 0
    for i in range(1000):
        key, poison = draw.randrange(300), draw.random() < 0.1
        w.put(key, "poison" if poison else i)
        bad += poison
        if not poison:
            model[key] = i
    assert w.flush(30)
    # A poison put that a later one replaced was never tried; the others are dead, and what came before them
    # on their key was written.
    assert 0 < w.stats().dead <= bad
    assert picky.good.keys() <= model.keys()
    for letter in w.dead_letters():
        assert letter.op.value == "poison" and "poison" in letter.error
    assert w.close(30)


def test_an_error_nobody_knows_is_tried_three_times_before_it_is_held_against_the_row() -> None:
    calls = 0

    class Odd(Exception):
        pass

    class Writer:
        def apply(self, ops: Sequence[Op]) -> None:
            nonlocal calls
            calls += 1
            raise Odd("who knows")

    w = WriteBehind(Writer(), delay=0)
    w.put("a", 1)
    assert w.flush(30)
    assert calls == 3
    assert [letter.error for letter in w.dead_letters()] == ["Odd: who knows"]
    w.close()


# ---- 36 ----------------------------------------------------------------------------------------------


def play(model: dict[Any, Any], op: Op) -> None:
    """The meaning of an operation, on a dict."""
    value = op.over(model.get(op.key, MISSING))
    if value is MISSING:
        model.pop(op.key, None)
    else:
        model[op.key] = value


def random_op(draw: random.Random, keys: int) -> Op:
    key = f"k{draw.randrange(keys)}"
    kind = draw.choice(["put", "put", "delete", "incr", "incr"])
    if kind == "put":
        return Op.put(key, draw.randrange(1000))
    return (
        Op.delete(key)
        if kind == "delete"
        else Op.incr(key, draw.randrange(-5, 6), draw.randrange(3))
    )


def test_coalescing_changes_nothing_that_can_be_seen() -> None:
    draw = random.Random(36)
    for _ in range(scaled(3000, 100_000)):
        start = {f"k{i}": draw.randrange(100) for i in range(2) if draw.random() < 0.5}
        ops = [random_op(draw, 2) for _ in range(draw.randrange(8))]
        plain, short = dict(start), dict(start)
        for op in ops:
            play(plain, op)
        coalesced = coalesce(ops)
        puts, deletes, incrs = Batch(coalesced).split()
        for op in [*puts, *deletes, *incrs]:  # the order in which writers apply them
            play(short, op)
        assert plain == short, ops
        bases = [op.key for op in coalesced if op.kind != "incr"]
        assert len(bases) == len(set(bases)) and len(coalesced) <= 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("journal", [False, True])
def test_random_interleavings_against_a_model(tmp_path: Path, journal: bool) -> None:
    """Every read on the way shows the model's value, and the database ends with it."""
    draw = random.Random(360)
    place = tmp_path / "app.db"
    loader = SQLiteLoader(place, table="t")
    w = WriteBehind(
        SQLiteWriter(place, table="t"), tmp_path / "j" if journal else None, delay=0.005, batch=3
    )
    w.put("k0", 0)
    assert w.flush(30)
    model: dict[Any, Any] = {"k0": 0}
    rounds = scaled(10_000, 100_000)
    for number in range(rounds):
        op = random_op(draw, 8)
        if op.kind == "incr":
            w.incr(op.key, op.value, op.initial)
        elif op.kind == "put":
            w.put(op.key, op.value)
        else:
            w.delete(op.key)
        play(model, op)
        if number % 7 == 0:
            key = f"k{draw.randrange(8)}"
            assert w.current(key, loader) == model.get(key, MISSING)
        if number % 997 == 0:
            assert w.flush(30)
            assert loader.load_many([f"k{i}" for i in range(8)]) == model
    assert w.close(60)
    assert loader.load_many([f"k{i}" for i in range(8)]) == model
    assert w.stats().superseded == 0 and w.stats().batches > rounds / 1000
    loader.close()


def test_the_database_ends_with_the_last(source: Source, tmp_path: Path) -> None:
    draw = random.Random(361)
    w = WriteBehind(source.writer(), tmp_path / "j", delay=0.001, batch=4)
    model: dict[Any, Any] = {}
    for _ in range(scaled(1500, 50_000)):
        ops = [random_op(draw, 10) for _ in range(draw.randrange(1, 6))]
        w.write(ops)
        for op in ops:
            play(model, op)
    assert w.close(60)
    assert source.loader().load_many([f"k{i}" for i in range(10)]) == model
    assert w.stats().superseded == 0
