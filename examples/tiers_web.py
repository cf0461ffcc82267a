"""An asyncio service in several processes, with an AsyncTieredCache between its requests and its database.

Each worker serves articles to many requests at once, and edits some. The L2 is an SQLite file or, with a URL, Redis.
In the end all of them have to serve what the database has.

    python examples/tiers_web.py [--redis URL] [--workers N] [--seconds N] [--requests-per-second N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fastcache import MISSING, AsyncTieredCache, Cache
from fastcache.stores import RedisStore, SQLiteStore

ARTICLES = 500
EDITS = 0.02  # of all requests


class Service:
    """What one process runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.db = sqlite3.connect(
            options.folder / "articles.db", isolation_level=None, check_same_thread=False
        )
        self.one = asyncio.Lock()  # the connection is for one at a time
        l2 = (
            RedisStore(options.redis) if options.redis else SQLiteStore(options.folder / "cache.db")
        )
        # Good for five minutes, and for one more while it is renewed behind; kept for half an hour in case the database
        # does not answer. A query that takes longer than two seconds is an error for who waits.
        self.articles: AsyncTieredCache[int, Any] = AsyncTieredCache(
            Cache(200), l2, namespace="example.web", loader=self.load,
            ttl=300, stale=60, grace=1800, hard_timeout=2, jitter=0.1,
        )  # fmt: skip
        self.seen: Counter[str] = Counter()
        self.edited: dict[int, int] = {}

    async def query(self, sql: str, *values: object) -> list[Any]:
        async with self.one:
            return await asyncio.to_thread(lambda: self.db.execute(sql, values).fetchall())

    async def load(self, number: int) -> Any:
        rows = await self.query("SELECT text, edition FROM articles WHERE id = ?", number)
        return {"text": rows[0][0], "edition": rows[0][1]} if rows else MISSING

    async def show(self, number: int) -> None:
        """GET /articles/<number>. Outdated: older than an edit that this worker had finished before it came."""
        least = self.edited.get(number, 0)
        article = await self.articles.get(number)
        self.seen["requests"] += 1
        self.seen["outdated"] += article["edition"] < least

    async def edit(self, number: int) -> None:
        """PUT /articles/<number>. Nobody can fill the key while the row changes; then every worker is told."""
        async with self.articles.updating(number):
            rows = await self.query(
                "UPDATE articles SET edition = edition + 1 WHERE id = ? RETURNING edition", number
            )
        self.edited[number] = max(self.edited.get(number, 0), rows[0][0])
        self.seen["edits"] += 1

    async def serve(self, options: argparse.Namespace) -> None:
        """Requests at random moments, at the rate asked for."""
        draw = random.Random(options.worker)
        end = time.monotonic() + options.seconds
        async with asyncio.TaskGroup() as requests:
            while time.monotonic() < end:
                number = int(ARTICLES * draw.random() ** 3)
                handler = self.edit if draw.random() < EDITS else self.show
                requests.create_task(handler(number))
                await asyncio.sleep(draw.expovariate(options.requests_per_second))

    async def differences(self) -> int:
        """Articles that this worker does not serve as the database has them, once the last messages have come."""
        rows = dict(await self.query("SELECT id, edition FROM articles"))
        end = time.monotonic() + 5
        while True:
            shown = await self.articles.get_many(rows)
            wrong = sum(shown[number]["edition"] != edition for number, edition in rows.items())
            if not wrong or time.monotonic() > end:
                return wrong
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self.articles.close()
        assert self.articles.l2 is not None
        await self.articles.l2.aclose()
        self.db.close()


async def work(options: argparse.Namespace) -> None:
    """A worker: serves, says that it is done, and when all are compares."""
    service = Service(options)
    await service.serve(options)
    stats = service.articles.stats()
    found = {
        **service.seen, "l1": stats.l1.hits, "l2": stats.l2.hits, "loads": stats.loads,
        "heard": stats.received,
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(await service.differences(), flush=True)
    await service.close()


async def forget(options: argparse.Namespace) -> None:
    """What an earlier run may have left in Redis is of another database."""
    service = Service(options)
    await service.articles.bump_version()
    await service.close()


def main(options: argparse.Namespace) -> None:
    db = sqlite3.connect(options.folder / "articles.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE articles (id INTEGER PRIMARY KEY, text, edition)")
    db.executemany(
        "INSERT INTO articles VALUES (?, ?, 1)", [(i, f"text {i}") for i in range(ARTICLES)]
    )
    asyncio.run(forget(options))
    arguments = [
        "--folder", str(options.folder), "--seconds", str(options.seconds),
        "--requests-per-second", str(options.requests_per_second),
        *(["--redis", options.redis] if options.redis else []),
    ]  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments, "--worker", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(options.workers)
    ]
    print("worker  requests   edits  from L1  from L2   loads   heard  outdated")
    for number, worker in enumerate(workers):
        assert worker.stdout is not None
        found = json.loads(worker.stdout.readline())
        print(
            f"{number:>6}{found['requests']:>10,}{found['edits']:>8,}{found['l1']:>9,}{found['l2']:>9,}"
            f"{found['loads']:>8,}{found['heard']:>8,}{found['outdated']:>10,}"
        )
    different = [int(worker.communicate("compare\n")[0]) for worker in workers]
    edits = db.execute("SELECT sum(edition - 1) FROM articles").fetchone()[0]
    print(
        f"{edits:,} edits in the database; workers that differ from it: {sum(map(bool, different))}"
    )
    db.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An asyncio service over two tiers.")
    parser.add_argument("--redis", metavar="URL", help="a Redis as L2; without it, an SQLite file")
    parser.add_argument("--workers", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=3, metavar="N")
    parser.add_argument("--requests-per-second", type=float, default=300, metavar="N")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        asyncio.run(work(options))
    else:
        with tempfile.TemporaryDirectory() as place:
            options.folder = Path(place)
            main(options)
