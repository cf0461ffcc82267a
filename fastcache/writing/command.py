"""What `python -m fastcache journal` does (`cli` reads its arguments)."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcache._keys import decode as decode_key
from fastcache.writing.errors import JournalError
from fastcache.writing.folder import journals
from fastcache.writing.journal import DeadRecord, Journal, Record, check_open
from fastcache.writing.ops import seconds_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


def run(options: argparse.Namespace) -> int:
    """Do what was asked: 0 done, 1 could not, or a dead letter was not found."""
    folder = Path(options.path)
    if not folder.is_dir():
        print(f"python -m fastcache journal: no directory: {folder}", file=sys.stderr)
        return 1
    names = {path.stem for path in journals(folder)}
    unknown = [text for text in options.ids if text.partition(":")[0] not in names]
    if unknown:
        print(f"no journal of this name: {', '.join(unknown)} (see `list`)", file=sys.stderr)
        return 1
    if options.action == "list" and not options.ids:
        return _list(folder)
    if options.action == "list":
        return _list(folder, set(options.ids))
    return _change(folder, options.action, options.ids)


def _list(folder: Path, wanted: set[str] | None = None) -> int:
    code = 0
    for path in journals(folder):
        if wanted is not None and path.stem not in wanted:
            continue
        try:
            found = _look(path, _Contents)
        except JournalError as error:
            print(error, file=sys.stderr)
            code = 1
            continue
        print(found.headline)
        for letter in found.dead:
            mark = ", to be tried again" if letter.retry else ""
            print(f"  {path.stem}:{letter.sequence}  {_operation(letter)}")
            print(f"      {_ago(letter.at)} ago{mark}: {letter.error}")
    return code


class _Contents:
    """What is shown of a journal."""

    def __init__(self, path: Path, journal: Journal | None, connection: sqlite3.Connection) -> None:
        facts = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        count, oldest = connection.execute("SELECT count(*), min(version) FROM ops").fetchone()
        rows = connection.execute("SELECT * FROM dead ORDER BY sequence").fetchall()
        self.dead = [DeadRecord(*row) for row in rows]
        state = f"in use by process {facts.get('pid')}" if journal is None else "left behind"
        waiting = f"{count} pending" + (f", the oldest {_ago(seconds_of(oldest))}" if count else "")
        self.headline = f"{path.stem}  {facts.get('writer')}  {state}  {waiting}, {len(rows)} dead"


def _look(path: Path, see: Callable[[Path, Journal | None, sqlite3.Connection], Any]) -> Any:
    """see(path, the journal if nobody has it, a connection)."""
    journal = Journal.adopt(path, "process")
    if journal is not None:
        try:
            return see(path, journal, journal.connection)
        finally:
            journal.close()
    try:
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        try:
            check_open(path, connection)
            return see(path, None, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise JournalError(str(path), str(error)) from error


def _change(folder: Path, action: str, ids: Sequence[str]) -> int:
    wanted: dict[str, set[int] | None] = {}
    for text in ids:
        name, colon, number = text.partition(":")
        if colon and not number.isdigit():
            print(f"not an ID: {text!r} (see `list`)", file=sys.stderr)
            return 1
        numbers = wanted.setdefault(name, set() if colon else None)
        if colon and numbers is not None:
            numbers.add(int(number))
    done = 0

    def see(path: Path, journal: Journal | None, connection: sqlite3.Connection) -> int:
        chosen = wanted.get(path.stem)
        rows = connection.execute("SELECT * FROM dead ORDER BY sequence").fetchall()
        dead = [d for d in map(DeadRecord._make, rows) if chosen is None or d.sequence in chosen]
        numbers = [(d.sequence,) for d in dead]
        if action == "drop":
            connection.executemany("DELETE FROM dead WHERE sequence = ?", numbers)
        elif journal is None:
            connection.executemany("UPDATE dead SET retry = 1 WHERE sequence = ?", numbers)
        else:
            start = journal.last() + 1
            journal.revive([(d.sequence, Record(start + i, *d[1:6])) for i, d in enumerate(dead)])
        return len(dead)

    code = 0
    for path in journals(folder):
        if wanted and path.stem not in wanted:
            continue
        try:
            done += _look(path, see)
        except JournalError as error:
            print(error, file=sys.stderr)
            code = 1
    verb = "to be tried again" if action == "retry" else "dropped"
    print(f"{done} dead letter{'' if done == 1 else 's'} {verb}")
    explicit = sum(len(numbers) for numbers in wanted.values() if numbers)
    return 1 if done < explicit else code


def _operation(letter: DeadRecord) -> str:
    try:
        key = repr(decode_key(letter.key))
    except (ValueError, TypeError):
        key = letter.key.hex()
    value = "" if letter.value is None else f" {letter.value}"
    text = f"{letter.kind} {key}{value}"
    return text if len(text) <= 100 else text[:97] + "..."


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
