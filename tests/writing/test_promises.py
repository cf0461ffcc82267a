"""The table of promises in docs/writing.md: each cell has its tests, which exist, at the durability it speaks of."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "writing.md"
COLUMNS = ("memory", "process", "power")
JOURNALS = ("process", "power")

#: The beginning of each row -> {test: the columns that it is for}. At other durabilities a test says so itself: by a
#: parameter `durability`, or by the fixture `options`, which has all three.
PROMISES: dict[str, dict[str, tuple[str, ...]]] = {
    "the program ends": {
        "test_behind.test_the_exit_of_the_interpreter_flushes": COLUMNS,
        "test_behind.test_the_exit_while_the_source_is_down": COLUMNS,
    },
    "the process is killed": {
        "test_s33_kill.test_without_a_journal_a_kill_loses_what_was_pending": ("memory",),
        "test_s33_kill.test_no_acknowledged_write_is_lost_and_none_happens_twice": JOURNALS,
        "test_s33_kill.test_the_same_through_tiers": JOURNALS,
    },
    "the machine is lost": {
        "test_power.test_what_is_there_after_a_loss_of_power": COLUMNS,
        "test_power.test_a_disk_that_fails_to_sync_is_not_overlooked": JOURNALS,
    },
    "the source is down": {
        "test_s34_down.test_a_database_that_is_stopped_and_started": COLUMNS,
    },
    "the journal's disk is full": {
        "test_s37_s38_faults.test_the_journals_disk_is_full": JOURNALS,
        "test_s37_s38_faults.test_a_read_only_directory": JOURNALS,
        "test_s37_s38_faults.test_a_journal_that_became_read_only": JOURNALS,
    },
    "the network is cut": {
        "test_s37_s38_faults.test_the_connection_is_cut_at_commit": COLUMNS,
    },
    "the journal is damaged": {
        "test_s37_s38_faults.test_a_corrupt_tail_of_the_log": JOURNALS,
        "test_s37_s38_faults.test_a_damaged_file_gives_what_can_be_read": JOURNALS,
    },
    "the source refuses a row": {
        "test_s35_s36_streams.test_one_poison_row_in_a_batch_of_100": COLUMNS,
    },
}


def table() -> list[list[str]]:
    """The rows of the table, the head left out."""
    if not PAGE.exists():
        pytest.skip("the page is not here")
    lines = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    head = next(i for i, line in enumerate(lines) if "what happens" in line)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines[head:]]
    assert [cell.strip("`") for cell in cells[0][1:]] == list(COLUMNS)
    return cells[2:]


def test_each_row_has_its_tests() -> None:
    rows = table()
    assert [next(p for p in PROMISES if row[0].startswith(p)) for row in rows] == list(PROMISES)
    for row, tests in zip(rows, PROMISES.values(), strict=True):
        for column, cell in zip(COLUMNS, row[1:], strict=True):
            covered = any(column in columns for columns in tests.values())
            assert covered != (cell == "(no journal)"), (row[0], column)


@pytest.mark.parametrize("name", [name for tests in PROMISES.values() for name in tests])
def test_the_tests_are_there(name: str) -> None:
    module, _, function = name.partition(".")
    loaded: Any = importlib.import_module(f"writing.{module}")
    test = getattr(loaded, function)
    columns = next(tests[name] for tests in PROMISES.values() if name in tests)
    values: set[str] = set()
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize" and mark.args[0] == "durability":
            values.update(mark.args[1])
    if not values and "options" in test.__annotations__:
        values = set(COLUMNS)
    if columns != ("memory",):  # that one says in its text what it is
        assert set(columns) <= values, f"{name} is not run at {columns}"
