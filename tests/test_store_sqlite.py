"""SQLiteStore: the conformance suite, and what it promises beyond that."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcache.stores import SQLiteStore
from fastcache.testing import StoreConformance


class TestSQLiteStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def path(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> SQLiteStore:
        return SQLiteStore(self.folder / "cache.db", timeout=5)

    def wipe(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()
