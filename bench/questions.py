"""Turns a row of ``fastcache._bench`` into a pytest-benchmark test, one case per subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastcache._bench import rows, sizes, tiers, worker
from fastcache._bench.model import Program
from fastcache._bench.subjects import OLD, PEERS, look_for

_ROWS = {row.name: row for row in rows.loop_rows()}
#: Statements in one benchmark round, the same for every subject so that rounds compare; rounds.
_STATEMENTS, _ROUNDS = 50_000, 7


def _skip_if_absent(subject: str) -> None:
    peer = subject.partition(":")[0]
    if peer == OLD:
        pytest.skip("needs an interpreter of its own: python -m fastcache bench")
    if peer in PEERS and (absent := look_for(peer).absent):
        pytest.skip(f"{peer} is {absent}")


def ask(name: str) -> Callable[..., None]:
    """Return the test that asks the row's question of each of its subjects.

    A benchmark round is a number of whole passes over the row's keys, as many for each subject;
    `extra_info` holds its operations, and the time of one with the loop around it. Interleaving, the
    empty loop and paired ratios are the business of ``python -m fastcache bench``.
    """
    row = _ROWS[name]

    @pytest.mark.benchmark(group=f"{row.name}: {row.title}")
    @pytest.mark.parametrize("program", row.programs, ids=lambda program: program.subject)
    def question(benchmark: Any, program: Program) -> None:
        _skip_if_absent(program.subject)
        loop = worker.Loop(program.as_dict())
        reps = max(1, _STATEMENTS // (loop.count * program.ops))
        benchmark.pedantic(loop.passes, args=(reps,), rounds=_ROUNDS, warmup_rounds=1)
        operations = reps * loop.count * program.ops
        benchmark.extra_info["operations"] = operations
        if benchmark.stats is not None:  # None with --benchmark-disable
            benchmark.extra_info["ns_per_operation"] = benchmark.stats.stats.min / operations * 1e9

    question.__doc__ = f"{row.title}. {row.note}".strip()
    return question


def ask_child(name: str, entries: int = sizes.ENTRIES) -> Callable[..., None]:
    """Return the test that asks a question of size or pauses, each subject in its own process.

    The figure is printed and in `extra_info`; the table's time is that of the whole process.
    """
    question = next(q for q in sizes.QUESTIONS if q.row.name == name)
    subjects = sizes.subjects_of(question.mode)

    @pytest.mark.benchmark(group=f"{name}: {question.row.title}")
    @pytest.mark.parametrize("subject", subjects)
    def test(benchmark: Any, subject: str, capsys: pytest.CaptureFixture[str]) -> None:
        _skip_if_absent(subject)
        cell = benchmark.pedantic(
            sizes.one_cell, args=(question, subject), kwargs={"entries": entries}, rounds=1
        )
        if cell.error:
            pytest.skip(f"{subject}: {cell.error}")
        benchmark.extra_info[question.row.unit] = cell.median
        benchmark.extra_info["note"] = cell.note
        with capsys.disabled():
            print(f"\n{question.row.title}, {subject}: {cell.median:.4g} {question.row.unit}")

    test.__doc__ = f"{question.row.title}. {question.row.note}".strip()
    return test


def ask_tier(name: str) -> Callable[..., None]:
    """Return the test that asks a question of two tiers, or of writing: one pass is a round.

    The server is of the test's own. Wall time; `extra_info` has the time of one operation.
    """
    row = next(row for row, _ in tiers.ROWS if row.name == name)

    @pytest.mark.benchmark(group=f"{row.name}: {row.title}")
    @pytest.mark.parametrize("subject", tiers.subjects_of(name))
    def question(benchmark: Any, subject: str) -> None:
        _skip_if_absent(subject)
        with tiers.ground(None) as here:
            try:
                made = tiers.make(name, subject, here)
            except (ImportError, RuntimeError) as error:
                pytest.skip(f"{subject}: {error}")
            try:
                tiers.passed(made)
                benchmark.pedantic(made.run, setup=made.prepare, rounds=3 * _ROUNDS)
            finally:
                made.close()
        benchmark.extra_info["operations"] = made.ops
        if benchmark.stats is not None:  # None with --benchmark-disable
            benchmark.extra_info["ns_per_operation"] = benchmark.stats.stats.median / made.ops * 1e9

    question.__doc__ = f"{row.title}. {row.note}".strip()
    return question


def ask_seen(name: str) -> Callable[..., None]:
    """Return the test that asks how soon another process sees a change, each subject in turn."""
    row, part = next((row, part) for row, part in tiers.SEEN if row.name == name)

    @pytest.mark.benchmark(group=f"{row.name}: {row.title}")
    @pytest.mark.parametrize("subject", tiers.subjects_of(name))
    def question(benchmark: Any, subject: str, capsys: pytest.CaptureFixture[str]) -> None:
        _skip_if_absent(subject)
        with tiers.ground(None) as here:
            try:
                took = benchmark.pedantic(tiers.observed, args=(subject, 1, here), rounds=1)[0]
            except (ImportError, RuntimeError) as error:
                pytest.skip(f"{subject}: {error}")
        figure = tiers.quantile(took, part) / 1e6
        benchmark.extra_info[row.unit] = figure
        with capsys.disabled():
            print(f"\n{row.title}, {subject}: {figure:.4g} {row.unit}")

    question.__doc__ = f"{row.title}. {row.note}".strip()
    return question
