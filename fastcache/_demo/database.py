"""The source: a table of articles in an SQLite file. Each write gives its article the next version."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

_TEXT = "An article of no importance, in a warehouse without a door. "


class Database:
    """One connection, for one thread. Raises what sqlite3 raises."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        self._connection.execute("PRAGMA synchronous = NORMAL")

    @staticmethod
    def make(path: Path, keys: int) -> None:
        """A file with articles 0 to keys - 1."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE articles "
            "(id INTEGER PRIMARY KEY, name TEXT, price INTEGER, text TEXT, version INTEGER)"
        )
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO articles VALUES (?, ?, ?, ?, 1)",
            ((i, f"article {i}", 100 + i % 900, _TEXT * 3) for i in range(keys)),
        )
        connection.execute("COMMIT")
        connection.close()

    def article(self, key: int) -> dict[str, Any]:
        """The article as it is now. KeyError."""
        row = self._connection.execute(
            "SELECT name, price, text, version FROM articles WHERE id = ?", (key,)
        ).fetchone()
        if row is None:
            raise KeyError(key)
        return dict(zip(("name", "price", "text", "version"), row, strict=True))

    def version(self, key: int) -> int:
        row = self._connection.execute("SELECT version FROM articles WHERE id = ?", (key,))
        return int(row.fetchone()[0])

    def raise_price(self, key: int) -> int:
        """Change the article; when it has been committed, its new version."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            ((version,),) = self._connection.execute(
                "UPDATE articles SET price = price + 1, version = version + 1 WHERE id = ? "
                "RETURNING version",
                (key,),
            ).fetchall()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return int(version)

    def close(self) -> None:
        self._connection.close()
