"""The slab, white-box: numbers, chunks, side arrays, limits."""

from __future__ import annotations

import random
from types import ModuleType

import pytest


def test_numbers_are_unique_and_never_zero(whitebox: ModuleType) -> None:
    """Entry 0 is never given out."""
    slab = whitebox.TestSlab()
    numbers = [slab.take() for _ in range(30_000)]
    assert len(set(numbers)) == 30_000 and 0 not in numbers
    assert slab.walk() == sorted(numbers)
    assert slab.end > max(numbers)


def test_against_a_set(whitebox: ModuleType) -> None:
    rng = random.Random(1)
    slab = whitebox.TestSlab(True)
    live: list[int] = []
    for step in range(60_000):
        if live and rng.random() < (0.35 if (step // 10_000) % 2 == 0 else 0.65):
            index = rng.randrange(len(live))
            live[index], live[-1] = live[-1], live[index]
            slab.release(live.pop())
        else:
            number = slab.take()
            live.append(number)
        if step % 5000 == 0:
            assert slab.walk() == sorted(live)
    assert len(set(live)) == len(live) and slab.walk() == sorted(live)


def test_entries_of_full_chunks_never_move(whitebox: ModuleType) -> None:
    """Entries in chunked slabs that never move."""
    slab = whitebox.TestSlab()
    numbers = [slab.take() for _ in range(whitebox.CHUNK)]
    addresses = {number: slab.address(number) for number in numbers}
    for _ in range(5 * whitebox.CHUNK):
        slab.take()
    assert {number: slab.address(number) for number in numbers} == addresses


def test_memory_follows_the_entries_up_and_down(whitebox: ModuleType) -> None:
    slab = whitebox.TestSlab()
    assert slab.nbytes == 0
    first = slab.take()
    assert slab.nbytes < 1024  # a small cache is small
    slab.release(first)
    numbers = [slab.take() for _ in range(10 * whitebox.CHUNK)]
    full = slab.nbytes
    assert full <= 33 * 10 * whitebox.CHUNK + 2 * 32 * whitebox.CHUNK
    for number in numbers:
        slab.release(number)
    assert slab.nbytes < full / 4 and slab.walk() == []
    again = [slab.take() for _ in range(10 * whitebox.CHUNK)]
    assert slab.nbytes <= full and sorted(again) == slab.walk()
    slab.free()
    assert slab.nbytes == 0 and slab.walk() == []


def test_steady_use_needs_no_more_memory(whitebox: ModuleType) -> None:
    import collections

    slab = whitebox.TestSlab()
    live = collections.deque(slab.take() for _ in range(9000))
    before = slab.nbytes
    for _ in range(200_000):
        slab.release(live.popleft())
        live.append(slab.take())
    assert slab.nbytes <= before + 33 * whitebox.CHUNK


def test_at_the_edge_of_a_chunk_nothing_thrashes(whitebox: ModuleType) -> None:
    slab = whitebox.TestSlab()
    for _ in range(whitebox.CHUNK - 1):
        slab.take()
    sizes = set()
    for _ in range(50):
        number = slab.take()
        sizes.add(slab.nbytes)
        slab.release(number)
        sizes.add(slab.nbytes)
    assert len(sizes) == 1


@pytest.mark.parametrize("count", [1, 8, 9, 100, 4095, 4096, 9000])
def test_side_arrays_start_blank(whitebox: ModuleType, count: int) -> None:
    """What an entry is that needs nothing: never expires, weighs 1, has no tags."""
    slab = whitebox.TestSlab()
    first = slab.take()
    assert (
        slab.deadline(first) is None and slab.weight(first) is None and not slab.has_detail(first)
    )
    for kind in (whitebox.TIMING, whitebox.EXTRA, whitebox.DETAIL):
        slab.need(first, kind)
    slab.set_deadline(first, 42)
    numbers = [slab.take() for _ in range(count)]
    for number in numbers:
        assert slab.deadline(number) in (None, whitebox.NEVER)
        assert slab.weight(number) in (None, (1, whitebox.NEVER, whitebox.NEVER, 0))
    assert slab.deadline(first) == 42  # kept when the first chunk widened


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_the_limit_of_numbers(whitebox: ModuleType, chunks: int) -> None:
    """Over 2^32 - 2 entries: a clear error. The limit stands in for 2^32."""
    slab = whitebox.TestSlab()
    assert slab.limit == whitebox.MAX_ENTRIES > 2**32 - 2**13
    slab.limit = chunks * whitebox.CHUNK - 1
    numbers: list[int] = []
    with pytest.raises(OverflowError):
        numbers.extend(slab.take() for _ in range((chunks + 1) * whitebox.CHUNK))
    assert len(numbers) == chunks * whitebox.CHUNK - 1 and max(numbers) <= slab.limit
    with pytest.raises(OverflowError):
        slab.take()
    slab.release(numbers[17])
    assert slab.take() == numbers[17]
    for number in numbers:
        slab.release(number)
    assert slab.walk() == []
    assert len({slab.take() for _ in numbers}) == len(numbers)


def test_the_limit_seen_from_a_cache(whitebox: ModuleType) -> None:
    from fastcache import Cache

    cache: Cache[int, int] = Cache(None)
    assert whitebox.entry_limit(cache) == whitebox.MAX_ENTRIES
    whitebox.set_entry_limit(cache, whitebox.CHUNK - 1)
    stored = 0
    with pytest.raises((OverflowError, MemoryError)) as raised:
        for key in range(2 * whitebox.CHUNK):
            cache[key] = -key
            stored += 1
    assert str(raised.value)
    assert stored == len(cache) == whitebox.CHUNK - 1
    cache._check()
    assert cache[0] == 0 and cache[stored - 1] == 1 - stored and stored not in cache
    with pytest.raises(type(raised.value)):
        cache.set(stored, 1, ttl=5)
    with pytest.raises(type(raised.value)):
        cache.get_or_set(stored, lambda: 1)
    cache[5] = "overwriting needs no entry"  # type: ignore[assignment]
    del cache[0]
    cache[stored] = 1
    cache._check()
    assert len(cache) == stored


def test_accounted_memory(whitebox: ModuleType) -> None:
    memory = whitebox.Memory()
    memory.alloc(100)
    assert memory.nbytes == 100
    memory.grow(250)
    assert memory.nbytes == 250
    memory.grow(50)
    assert memory.nbytes == 50
    memory.free()
    assert memory.nbytes == 0
    assert memory.zeroed(300) and memory.nbytes == 300
    memory.free()
    memory.free()  # freeing nothing is nothing
    assert memory.nbytes == 0
