"""The subjects that read: hits in L1, hits in L2, and many keys at once."""

from __future__ import annotations

from typing import Any

from .tier_ground import (
    BATCH,
    L1_KEYS,
    L2_KEYS,
    TTL,
    VALUE,
    Ground,
    Loop,
    Subject,
    aclosing,
    aiocache,
    areader,
    atiers,
    bare,
    cashews,
    check,
    client_side,
    closing,
    dogpile,
    names,
    reader,
    tiers,
)


def nothing() -> Subject:
    """The loop alone."""
    keys = names(L1_KEYS)

    def run() -> None:
        for _ in keys:
            pass

    return Subject(run, L1_KEYS)


# ---- a hit in L1 -----------------------------------------------------------------------------------


def l1_ours(ground: Ground) -> Subject:
    made, keys = tiers(ground, 2 * L1_KEYS), names(L1_KEYS)
    made.l1.update(dict.fromkeys(keys, VALUE))
    check(made.get(keys[0]))
    return Subject(reader(made.get, keys), L1_KEYS, close=closing(made))


def l1_cache(ground: Ground) -> Subject:
    from fastcache import Cache

    cache, keys = Cache[str, Any](2 * L1_KEYS), names(L1_KEYS)
    cache.update(dict.fromkeys(keys, VALUE))
    return Subject(reader(cache.get, keys), L1_KEYS)


def l1_async(ground: Ground) -> Subject:
    loop, keys = Loop(), names(L1_KEYS)
    made = atiers(ground, 2 * L1_KEYS, loop)
    made.l1.update(dict.fromkeys(keys, VALUE))
    check(loop.do(made.get(keys[0])))
    return loop.subject(areader(made.get, keys), L1_KEYS, aclosing(made))


def l1_client_side(ground: Ground) -> Subject:
    client, keys = client_side(ground), names(L1_KEYS // 5)
    _, encode, decode = bare(ground)
    client.mset({key: encode(VALUE) for key in keys})
    get = client.get
    check(decode(get(keys[0])))

    def run() -> None:
        for key in keys:
            decode(get(key))

    run()
    return Subject(run, len(keys), close=client.close)


def l1_dogpile(ground: Ground) -> Subject:
    region, keys = dogpile(ground, "memory"), names(L1_KEYS)
    region.set_multi(dict.fromkeys(keys, VALUE))
    check(region.get(keys[0]))
    return Subject(reader(region.get, keys), L1_KEYS)


def l1_cashews(ground: Ground) -> Subject:
    loop, keys = Loop(), names(L1_KEYS // 5)
    cache = cashews("mem://", size=2 * L1_KEYS)
    loop.do(cache.set_many(dict.fromkeys(keys, VALUE), expire=TTL))
    check(loop.do(cache.get(keys[0])))
    return loop.subject(areader(cache.get, keys), len(keys), cache.close)


def l1_aiocache(ground: Ground) -> Subject:
    import aiocache

    loop, keys = Loop(), names(L1_KEYS // 5)
    cache = aiocache.SimpleMemoryCache()
    loop.do(cache.multi_set([(key, VALUE) for key in keys]))
    check(loop.do(cache.get(keys[0])))
    return loop.subject(areader(cache.get, keys), len(keys), cache.close)


# ---- a hit in L2 -----------------------------------------------------------------------------------


def l2_ours(ground: Ground, kind: str = "redis") -> Subject:
    """L1 holds half of the keys, which are asked for in turn, so that it has none of them when asked."""
    made, keys = tiers(ground, L2_KEYS // 2, kind), names(L2_KEYS)
    for key in keys:
        check(made.get(key))
    before = made.stats().l2.hits
    for key in keys:
        check(made.get(key))
    check(made.stats().l2.hits - before, L2_KEYS)
    return Subject(reader(made.get, keys), L2_KEYS, close=closing(made))


def l2_sqlite(ground: Ground) -> Subject:
    return l2_ours(ground, "sqlite")


def l2_async(ground: Ground) -> Subject:
    loop, keys = Loop(), names(L2_KEYS)
    made = atiers(ground, L2_KEYS // 2, loop)
    run = areader(made.get, keys)
    loop.do(run())
    check(loop.do(made.get(keys[0])))
    return loop.subject(run, L2_KEYS, aclosing(made))


def l2_bare(ground: Ground) -> Subject:
    client, encode, decode = bare(ground)
    keys = names(L2_KEYS)
    for key in keys:
        client.set("bare:" + key, encode(VALUE))
    keys = ["bare:" + key for key in keys]
    get = client.get
    check(decode(get(keys[0])))

    def run() -> None:
        for key in keys:
            decode(get(key))

    return Subject(run, L2_KEYS, close=client.close)


def l2_bare_async(ground: Ground) -> Subject:
    import redis.asyncio

    loop, keys = Loop(), ["abare:" + key for key in names(L2_KEYS)]
    _, encode, decode = bare(ground)
    client = redis.asyncio.Redis.from_url(ground.redis())
    loop.do(client.mset({key: encode(VALUE) for key in keys}))
    check(decode(loop.do(client.get(keys[0]))))

    async def run() -> None:
        for key in keys:
            decode(await client.get(key))

    return loop.subject(run, L2_KEYS, client.aclose)


def l2_dogpile(ground: Ground) -> Subject:
    region, keys = dogpile(ground, "redis"), ["dogpile:" + key for key in names(L2_KEYS)]
    region.set_multi(dict.fromkeys(keys, VALUE))
    check(region.get(keys[0]))
    return Subject(reader(region.get, keys), L2_KEYS)


def l2_cashews(ground: Ground) -> Subject:
    loop, keys = Loop(), ["cashews:" + key for key in names(L2_KEYS)]
    cache = cashews(ground.redis())
    loop.do(cache.set_many(dict.fromkeys(keys, VALUE), expire=TTL))
    check(loop.do(cache.get(keys[0])))
    return loop.subject(areader(cache.get, keys), L2_KEYS, cache.close)


def l2_aiocache(ground: Ground) -> Subject:
    loop, keys = Loop(), ["aiocache:" + key for key in names(L2_KEYS)]
    cache = aiocache(ground)
    loop.do(cache.multi_set([(key, VALUE) for key in keys], ttl=TTL))
    check(loop.do(cache.get(keys[0])))
    return loop.subject(areader(cache.get, keys), L2_KEYS, cache.close)


def l2_diskcache(ground: Ground) -> Subject:
    import diskcache

    cache, keys = diskcache.Cache(str(ground.folder / "diskcache")), names(L2_KEYS)
    for key in keys:
        cache.set(key, VALUE, expire=TTL)
    check(cache.get(keys[0]))
    return Subject(reader(cache.get, keys), L2_KEYS, close=cache.close)


# ---- many at once ----------------------------------------------------------------------------------


def _batches(prefix: str = "") -> list[list[str]]:
    keys = [prefix + key for key in names(L2_KEYS * 2)]
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]


def many_ours(ground: Ground) -> Subject:
    made, batches = tiers(ground, 4 * L2_KEYS), _batches()
    for batch in batches:
        made.get_many(batch)
    made.l1.clear()
    before = made.stats().l2.hits
    check(made.get_many(batches[0]), dict.fromkeys(batches[0], VALUE))
    check(made.stats().l2.hits - before, BATCH)

    def run() -> None:
        for batch in batches:
            made.get_many(batch)

    return Subject(run, 2 * L2_KEYS, made.l1.clear, closing(made))


def many_bare(ground: Ground) -> Subject:
    """MGET, decoding, and insertion into a Cache of ours."""
    from fastcache import Cache

    client, encode, decode = bare(ground)
    batches = _batches("bare:")
    l1 = Cache[str, Any](4 * L2_KEYS, ttl=TTL)
    for batch in batches:
        client.mset({key: encode(VALUE) for key in batch})

    def run() -> None:
        for batch in batches:
            for key, data in zip(batch, client.mget(batch), strict=True):
                l1[key] = decode(data)

    run()
    check(l1[batches[0][0]])
    return Subject(run, 2 * L2_KEYS, l1.clear, client.close)


def many_dogpile(ground: Ground) -> Subject:
    region, batches = dogpile(ground, "redis"), _batches("dogpile:")
    for batch in batches:
        region.set_multi(dict.fromkeys(batch, VALUE))
    check(region.get_multi(batches[0]), [VALUE] * BATCH)

    def run() -> None:
        for batch in batches:
            region.get_multi(batch)

    return Subject(run, 2 * L2_KEYS)


def many_cashews(ground: Ground) -> Subject:
    loop, batches = Loop(), _batches("cashews:")
    cache = cashews(ground.redis())
    for batch in batches:
        loop.do(cache.set_many(dict.fromkeys(batch, VALUE), expire=TTL))
    check(loop.do(cache.get_many(*batches[0])), (VALUE,) * BATCH)

    async def run() -> None:
        for batch in batches:
            await cache.get_many(*batch)

    return loop.subject(run, 2 * L2_KEYS, cache.close)


def many_aiocache(ground: Ground) -> Subject:
    loop, batches = Loop(), _batches("aiocache:")
    cache = aiocache(ground)
    for batch in batches:
        loop.do(cache.multi_set([(key, VALUE) for key in batch], ttl=TTL))
    check(loop.do(cache.multi_get(batches[0])), [VALUE] * BATCH)

    async def run() -> None:
        for batch in batches:
            await cache.multi_get(batch)

    return loop.subject(run, 2 * L2_KEYS, cache.close)
