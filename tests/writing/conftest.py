"""The two sources that the tests of writing run on."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_numbers = itertools.count()


class Source:
    """One table, by the name `table`. kind: "sqlite" or "postgres"."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place
        self.table = f"t{next(_numbers)}"
        self._made: list[Any] = []

    def _make(self, what: str, options: dict[str, Any]) -> Any:
        from fastcache import writing

        prefix = "SQLite" if self.kind == "sqlite" else "Postgres"
        options.setdefault("table", self.table)
        self._made.append(
            getattr(writing, prefix + what)(options.pop("place", self.place), **options)
        )
        return self._made[-1]

    def writer(self, **options: Any) -> Any:
        return self._make("Writer", options)

    def loader(self, **options: Any) -> Any:
        return self._make("Loader", options)

    def forget(self) -> None:
        """Let go of what was made, unclosed."""
        self._made.clear()

    def sql(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Carry out and commit; {t} is the table, ? a parameter."""
        text = text.format(t=self.table)
        if self.kind == "sqlite":
            connection = sqlite3.connect(self.place, timeout=30)
            try:
                with connection:
                    return connection.execute(text, parameters).fetchall()
            finally:
                connection.close()
        import psycopg

        with psycopg.connect(self.place) as session:
            done = session.execute(text.replace("?", "%s"), parameters)
            return done.fetchall() if done.description else []

    def rows(self) -> dict[Any, Any]:
        """Keys and texts."""
        return dict(self.sql('SELECT "key", "value" FROM {t}'))  # type: ignore[arg-type]

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    if request.param == "sqlite":
        found = Source("sqlite", str(tmp_path / "source.db"))
    else:
        pytest.importorskip("psycopg")
        found = Source("postgres", request.getfixturevalue("postgres").url)
    yield found
    found.close()
