"""Write-through: a write goes to the database first, then into both tiers, and the other workers are told.

Two workers of a bank. `set` writes single rows through a writer; a transfer is a transaction of the program's own,
with `updating` around it, so that nobody can fill the cache with what was there before; and one that fails
leaves what the database has.

    python examples/tiers_write_through.py [--redis URL] [--transfers N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from fastcache import Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore
from fastcache.writing import SQLiteLoader, SQLiteWriter, WriteThrough

ACCOUNTS, START = 50, 1000
LAYOUT: Any = {"table": "accounts", "key": "name", "columns": {"balance": "INTEGER"}}


class Worker:
    def __init__(self, database: Path, l2: Any) -> None:
        self.loader = SQLiteLoader(database, **LAYOUT)
        self.writer = SQLiteWriter(database, **LAYOUT)
        self.cache: TieredCache[str, Any] = TieredCache(
            Cache(1000), l2, namespace="example.write", ttl=600,
            loader=self.loader, writer=WriteThrough(self.writer),
        )  # fmt: skip
        self.db = sqlite3.connect(database, isolation_level=None)

    def open_account(self, name: str) -> None:
        self.cache.set(name, {"balance": START})  # in the database when it returns

    def balance(self, name: str) -> int:
        return int(self.cache.get(name)["balance"])

    def transfer(self, amount: int, giver: str, taker: str) -> None:
        """ValueError: there is not enough."""
        move = "UPDATE accounts SET balance = balance + ? WHERE name = ?"
        with self.cache.updating(giver, taker):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.db.execute(move, (-amount, giver))
                self.db.execute(move, (amount, taker))
                left = self.db.execute("SELECT balance FROM accounts WHERE name = ?", (giver,))
                if left.fetchone()[0] < 0:
                    raise ValueError(f"{giver} has not {amount}")
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def close(self) -> None:
        self.cache.close()
        assert self.cache.l2 is not None
        self.cache.l2.close()
        self.loader.close()
        self.writer.close()
        self.db.close()


def main(options: argparse.Namespace, folder: Path) -> None:
    draw = random.Random(options.seed)
    here, there = (
        Worker(
            folder / "bank.db",
            RedisStore(options.redis) if options.redis else SQLiteStore(folder / "cache.db"),
        )
        for _ in range(2)
    )
    here.cache.bump_version()
    names = [f"account-{i}" for i in range(ACCOUNTS)]
    for name in names:
        here.open_account(name)
    rows = here.db.execute("SELECT count(*), sum(balance) FROM accounts").fetchone()
    print(f"{ACCOUNTS} accounts opened, {rows[0]} in the database with {rows[1]:,} together")

    moved = refused = different = 0
    for _ in range(options.transfers):
        worker = draw.choice([here, there])
        giver, taker = draw.sample(names, 2)
        before = worker.balance(giver)
        amount = draw.randrange(2 * START)
        try:
            worker.transfer(amount, giver, taker)
            moved += 1
            different += worker.balance(giver) != before - amount
        except ValueError:
            refused += 1
            different += worker.balance(giver) != before
    print(
        f"{moved:,} transfers, {refused:,} refused; {different} balances other than they should be"
    )

    for worker in (here, there):
        shown = sum(found["balance"] for found in worker.cache.get_many(names).values())
        print(f"together, as a worker sees it: {shown:,}")
    print(f"loads {here.cache.stats().loads + there.cache.stats().loads:,}")
    for worker in (here, there):
        worker.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write-through over two tiers.")
    parser.add_argument("--redis", metavar="URL", help="a Redis as L2; without it, an SQLite file")
    parser.add_argument("--transfers", type=int, default=500, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    with tempfile.TemporaryDirectory() as place:
        main(parser.parse_args(), Path(place))
