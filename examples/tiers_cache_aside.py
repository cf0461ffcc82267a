"""Cache-aside: the program asks the cache and, where that has nothing, the database; after a write it says so.

Two workers of a shop, each with an L1 of its own, over one L2: an SQLite file or, with a URL, Redis. Prices change all
the time; a change of its maker changes all products of a maker, which is what tags are for.

    python examples/tiers_cache_aside.py [--redis URL] [--requests N] [--seed N]
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

PRODUCTS, MAKERS = 200, 10


class Worker:
    """What runs in one process, as a rule. `queries` and `outdated` are counted for the table at the end."""

    def __init__(self, database: Path, l2: Any) -> None:
        self.db = sqlite3.connect(database, isolation_level=None)
        self.cache: TieredCache[Any, Any] = TieredCache(
            Cache(1000), l2, namespace="example.aside", ttl=600
        )
        self.queries = self.outdated = 0

    def product(self, number: int) -> dict[str, Any]:
        """What a page shows. The cache asks `query` if no tier has it, once at a time over all workers."""

        def query() -> dict[str, Any]:
            self.queries += 1
            return self.row(number)

        return self.cache.get_or_set(("product", number), query, tags=[f"maker:{number % MAKERS}"])

    def row(self, number: int) -> dict[str, Any]:
        columns = ("name", "maker", "price")
        found = self.db.execute(
            "SELECT products.name, makers.name, price FROM products JOIN makers ON makers.id = maker "
            "WHERE products.id = ?",
            (number,),
        ).fetchone()
        return dict(zip(columns, found, strict=True))

    def change_price(self, number: int) -> None:
        """A write: first the database commits, then the cache is told."""
        self.db.execute("UPDATE products SET price = price + 1 WHERE id = ?", (number,))
        self.cache.invalidate(("product", number))

    def rename_maker(self, maker: int, name: str) -> None:
        self.db.execute("UPDATE makers SET name = ? WHERE id = ?", (name, maker))
        self.cache.invalidate_tag(f"maker:{maker}")

    def serve(self, number: int) -> None:
        """A request; it is outdated if the database had another row before it came."""
        known = self.row(number)
        self.outdated += self.product(number) != known

    def close(self) -> None:
        self.cache.close()
        assert self.cache.l2 is not None
        self.cache.l2.close()
        self.db.close()


def make_database(path: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE makers (id INTEGER PRIMARY KEY, name)")
    db.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name, maker, price)")
    db.executemany("INSERT INTO makers VALUES (?, ?)", [(i, f"maker {i}") for i in range(MAKERS)])
    db.executemany(
        "INSERT INTO products VALUES (?, ?, ?, 100)",
        [(i, f"product {i}", i % MAKERS) for i in range(PRODUCTS)],
    )
    db.close()


def main(options: argparse.Namespace, folder: Path) -> None:
    draw = random.Random(options.seed)
    make_database(folder / "shop.db")
    workers = [
        Worker(
            folder / "shop.db",
            RedisStore(options.redis) if options.redis else SQLiteStore(folder / "cache.db"),
        )
        for _ in range(2)
    ]
    workers[
        0
    ].cache.bump_version()  # what an earlier run may have left in Redis is of another database
    for turn in range(options.requests):
        worker = draw.choice(workers)
        worker.serve(int(PRODUCTS * draw.random() ** 3))
        if turn % 50 == 0:
            worker.change_price(draw.randrange(PRODUCTS))
        if turn % 500 == 0:
            worker.rename_maker(draw.randrange(MAKERS), f"maker since request {turn}")
    print("worker  requests  from L1  from L2  queries  outdated")
    for number, worker in enumerate(workers):
        stats = worker.cache.stats()
        requests = stats.l1.hits + stats.l2.hits + worker.queries
        print(
            f"{number:>6}{requests:>10,}{stats.l1.hits / requests:>9.1%}{stats.l2.hits / requests:>9.1%}"
            f"{worker.queries:>9,}{worker.outdated:>10,}"
        )
        worker.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cache-aside over two tiers.")
    parser.add_argument("--redis", metavar="URL", help="a Redis as L2; without it, an SQLite file")
    parser.add_argument("--requests", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    with tempfile.TemporaryDirectory() as place:
        main(parser.parse_args(), Path(place))
