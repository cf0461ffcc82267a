"""A price service in miniature, with `cached` between its requests and its database.

An hour of traffic in a second or two: the clock is a FakeClock, and a second passes when we say so.
In it the database is down for ten minutes, and prices change all the time.

    python examples/web_prices.py [--requests-per-second N] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections import Counter

from fastcache import cached
from fastcache.testing import FakeClock

PRODUCTS = 100
DOWN_FROM, DOWN_TO, END = 1200, 1800, 3600  # seconds


class Database:
    """What is slow, and down at times."""

    def __init__(self) -> None:
        self.prices = dict.fromkeys(range(PRODUCTS), 100)
        self.queries = 0
        self.down = False

    async def price(self, number: int) -> int:
        self.queries += 1
        found = self.prices[number]
        await asyncio.sleep(0)  # on its way to us; the price may change meanwhile
        if self.down:
            raise ConnectionError("the database is down")
        return found


clock = FakeClock()
database = Database()


# Good for a minute; for half a minute more the old price is answered at once and renewed behind; where the
# database does not answer, the old price does for 15 minutes.
@cached(maxsize=PRODUCTS, ttl=60, stale=30, grace=900, clock=clock)
async def price(number: int) -> int:
    return await database.price(number)


async def request(number: int, seen: Counter[str]) -> None:
    """What a web framework would call. An answer is outdated if its price had changed before we asked."""
    seen["requests"] += 1
    known = database.prices[number]
    try:
        answer = await price(number)
    except ConnectionError:
        seen["errors"] += 1
    else:
        seen["outdated"] += answer < known


def change_a_price(draw: random.Random) -> int:
    """A write: first the database commits, then the cache is told."""
    number = draw.randrange(PRODUCTS)
    database.prices[number] += 1
    price.cache_invalidate(number)
    return number


async def serve(seconds: int, per_second: int, draw: random.Random, seen: Counter[str]) -> None:
    """That many seconds of traffic, in which few products have most of the requests."""
    for _ in range(seconds):
        wanted = [int(PRODUCTS * draw.random() ** 3) for _ in range(per_second)]
        requests = [asyncio.create_task(request(number, seen)) for number in wanted]
        if not database.down:
            for _ in range(draw.randrange(5)):
                await asyncio.sleep(0)  # in the midst of the requests
            changed = change_a_price(draw)
            requests.append(asyncio.create_task(request(changed, seen)))  # must see the new price
        await asyncio.gather(*requests)
        clock.advance(1)


async def report(phase: str, seconds: int, per_second: int, draw: random.Random) -> None:
    seen: Counter[str] = Counter()
    before, queries = price.cache.stats(), database.queries
    await serve(seconds, per_second, draw, seen)
    after = price.cache.stats()
    hits, misses = after.hits - before.hits, after.misses - before.misses
    print(
        f"{phase:<12}{seen['requests']:>10,}{hits / (hits + misses):>10.1%}"
        f"{after.stale_hits - before.stale_hits:>8,}{database.queries - queries:>10,}"
        f"{seen['errors']:>8,}{seen['outdated']:>10,}"
    )


async def main(per_second: int, seed: int) -> None:
    draw = random.Random(seed)
    print("phase         requests  hit rate   stale   queries  errors  outdated")
    await report("calm", DOWN_FROM, per_second, draw)
    database.down = True
    await report("down", DOWN_TO - DOWN_FROM, per_second, draw)
    database.down = False
    await report("up again", END - DOWN_TO, per_second, draw)

    price.cache_invalidate(0)
    queries = database.queries
    await asyncio.gather(*(price(0) for _ in range(1000)))
    print(f"\n1,000 requests for one product at once: {database.queries - queries} query")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A price service in miniature.")
    parser.add_argument("--requests-per-second", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args()
    logging.getLogger("fastcache").setLevel(logging.ERROR)  # each load that fails is a warning
    asyncio.run(main(options.requests_per_second, options.seed))
