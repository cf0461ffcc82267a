"""Read-through: the cache has a loader, so the program asks nobody but the cache.

A catalogue with pages of thirty products, and links to single ones, of which some do not exist any more. The loader
has `load_many`, so a page is one query however many of its products are missing; and what does not exist is
remembered too.

    python examples/tiers_read_through.py [--redis URL] [--pages N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastcache import MISSING, Cache, TieredCache
from fastcache.stores import RedisStore, SQLiteStore

PRODUCTS, GONE, ON_A_PAGE = 2000, 200, 30


class Products:
    """The loader: what the cache calls when neither tier has a key."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.queries = 0

    def load(self, number: int) -> Any:
        return self.load_many([number]).get(number, MISSING)

    def load_many(self, numbers: Iterable[int]) -> dict[int, Any]:
        asked = list(numbers)
        self.queries += 1
        rows = self.db.execute(
            f"SELECT id, name, price FROM products WHERE id IN ({', '.join('?' * len(asked))})",
            asked,
        )
        return {number: {"name": name, "price": price} for number, name, price in rows}


def make_database(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name, price)")
    db.executemany(
        "INSERT INTO products VALUES (?, ?, ?)",
        [(i, f"product {i}", i % 90 + 10) for i in range(GONE, PRODUCTS)],
    )
    db.commit()
    db.close()


def main(options: argparse.Namespace, folder: Path) -> None:
    draw = random.Random(options.seed)
    make_database(folder / "shop.db")
    products = Products(folder / "shop.db")
    l2 = RedisStore(options.redis) if options.redis else SQLiteStore(folder / "cache.db")
    with TieredCache[int, Any](
        Cache(500), l2, namespace="example.through", loader=products,
        ttl=300, missing_ttl=30, jitter=0.1,
    ) as cache:  # fmt: skip
        cache.bump_version()
        shown = links = dead = 0
        for _ in range(options.pages):
            wanted = {int(PRODUCTS * draw.random() ** 2) for _ in range(ON_A_PAGE)}
            shown += len(cache.get_many(wanted))
            links += 1
            dead += cache.get(int(PRODUCTS * draw.random() ** 2)) is None
        stats = cache.stats()
        print(f"{options.pages:,} pages with {shown:,} products, {dead:,} of {links:,} links dead")
        print(
            f"from L1 {stats.l1.hits:,}, from L2 {stats.l2.hits:,}, queries {products.queries:,} "
            f"({products.queries / (2 * options.pages):.1%} of what it had been without a cache)"
        )
        product = cache.get(PRODUCTS - 1)
        products.db.execute("UPDATE products SET price = 1 WHERE id = ?", (PRODUCTS - 1,))
        cache.invalidate(PRODUCTS - 1)
        print(f"a price changes: {product['price']} -> {cache.get(PRODUCTS - 1)['price']}")
        products.db.execute("INSERT INTO products VALUES (0, 'product 0', 5)")
        cache.invalidate(0)  # it was known not to exist
        print(f"a product comes: {cache.get(0)['name']}")
    l2.close()
    products.db.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Read-through over two tiers.")
    parser.add_argument("--redis", metavar="URL", help="a Redis as L2; without it, an SQLite file")
    parser.add_argument("--pages", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    with tempfile.TemporaryDirectory() as place:
        main(parser.parse_args(), Path(place))
