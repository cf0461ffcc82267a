"""What can be read of a damaged journal, and finding out that it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcache.writing.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("fastcache")


def frames(path: Path) -> int:
    """How many pages of the current round the write-ahead log has, whole or torn."""
    try:
        with open(f"{path}-wal", "rb") as file:
            header = file.read(32)
            if len(header) < 32:
                return 0
            (page,) = struct.unpack(">I", header[8:12])
            count = 0
            while True:
                file.seek(32 + count * (24 + page))
                frame = file.read(24)
                if len(frame) < 24 or frame[8:16] != header[16:24]:
                    return count
                count += 1
    except FileNotFoundError:
        return 0


def valid_frames(connection: sqlite3.Connection) -> int:
    """How many of them SQLite accepts."""
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(int(pages), 0)


def rescue(
    path: Path, broken: sqlite3.Connection, connect_new: Callable[[Path], sqlite3.Connection]
) -> None:
    """A new file under the same name with all rows that can still be read; the damaged one stays beside it."""
    rows = {table: _readable(broken, table) for table in ("ops", "dead")}
    try:
        facts = broken.execute("SELECT name, value FROM meta").fetchall()
    except sqlite3.DatabaseError:
        facts = []
    if not facts:
        broken.close()
        raise JournalError(str(path), "is damaged so that not even its writer can be read")
    broken.close()
    copy = path.with_suffix(".copy")
    copy.unlink(missing_ok=True)
    connection = connect_new(copy)
    with connection:
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts)
        for table, found in rows.items():
            marks = ", ".join("?" * (6 if table == "ops" else 9))
            connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", found)
    connection.close()
    kept = path.with_suffix(f".damaged-{int(time.time())}")
    for ending in ("-wal", ""):
        if os.path.exists(f"{path}{ending}"):
            os.rename(f"{path}{ending}", f"{kept}{ending}")
    Path(f"{path}-shm").unlink(missing_ok=True)
    os.rename(copy, path)
    sync_folder(path.parent)
    log.error(
        "journal %s is damaged: %d operations and %d dead letters could be read; the damaged file is kept as %s",
        path,
        len(rows["ops"]),
        len(rows["dead"]),
        kept,
    )


def _readable(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """All rows before the first place that cannot be read, and all after the last."""
    found: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        try:
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY sequence {order}"):
                if row[0] in found:
                    break
                found[row[0]] = row
        except (sqlite3.DatabaseError, OverflowError) as error:
            log.debug("reading %s %s: %s", table, order, error)
        else:
            break
    return [found[sequence] for sequence in sorted(found)]


def sync_folder(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
