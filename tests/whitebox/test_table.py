"""The index, white-box: probes do not grow with use, growth is bounded per call."""

from __future__ import annotations

import random
import time
from types import ModuleType

import pytest


@pytest.mark.parametrize("live", [1, 7, 100, 3000, 20_000])
def test_probes_after_many_cycles_are_those_of_a_fresh_table(
    whitebox: ModuleType, live: int
) -> None:
    """After 10^8 insert/evict cycles the probe length is what it was."""
    cycles = 1_000_000
    used, fresh = whitebox.TestTable(), whitebox.TestTable()
    after = used.churn(live, cycles, 5)
    # The very pairs that the used table ends with, put into a table that has seen nothing else.
    other = whitebox.TestTable()
    other.churn(live, 0, 99)
    fresh_mean = other.mean_probes()
    fresh.churn(live, 0, 5)
    assert after <= max(fresh_mean, fresh.mean_probes()) * 1.25 + 0.5
    assert sum(segment[3] for segment in used.segments()) == live
    assert used.nbytes <= 2 * fresh.nbytes + 1000


@pytest.mark.soak
def test_probes_after_1e8_cycles(whitebox: ModuleType) -> None:
    used, fresh = whitebox.TestTable(), whitebox.TestTable()
    assert used.churn(10_000, 10**8, 3) <= fresh.churn(10_000, 0, 3) * 1.25 + 0.5


def test_removal_leaves_no_trace(whitebox: ModuleType) -> None:
    """The probes are as long as if the removed keys had never been there."""
    rng = random.Random(1)
    pairs = [(rng.randrange(2**32), number) for number in range(1, 3001)]
    table = whitebox.TestTable()
    for pair in pairs:
        table.insert(*pair)
    kept = pairs[::3]
    for pair in pairs:
        if pair[1] % 3 != 1:
            table.erase(*pair)
    table.segments()
    total = sum(table.probes(*pair) for pair in kept)
    assert all(table.probes(*pair) for pair in kept)
    assert total / len(kept) < 2


def test_against_a_set(whitebox: ModuleType) -> None:
    rng = random.Random(2)
    table = whitebox.TestTable()
    live: set[tuple[int, int]] = set()
    order: list[tuple[int, int]] = []
    for step in range(1, 30_001):
        if order and rng.random() < (0.3 if (step // 5000) % 2 == 0 else 0.7):
            index = rng.randrange(len(order))
            order[index], order[-1] = order[-1], order[index]
            pair = order.pop()
            live.remove(pair)
            table.erase(*pair)
        else:
            # few different tags: many collisions
            pair = (
                rng.choice([rng.randrange(2**32), rng.randrange(50), rng.randrange(32) << 27]),
                step,
            )
            live.add(pair)
            order.append(pair)
            table.insert(*pair)
        if step % 1000 == 0:
            assert sum(segment[3] for segment in table.segments()) == len(live)
            assert all(table.probes(*pair) for pair in live)
            assert not table.probes(order[0][0], 2**31)
    for pair in list(live):
        table.erase(*pair)
    assert sum(segment[3] for segment in table.segments()) == 0


@pytest.mark.parametrize(
    "tags",
    [
        [0] * 5000,
        [2**32 - 1] * 5000,
        list(range(20_000)),
        [n << 20 for n in range(4096)],
        [0, 2**31] * 2000,
        [n << 12 for n in range(20_000)],
    ],
    ids=["equal", "equal high", "dense low bits", "high bits", "two", "middle"],
)
def test_odd_tags(whitebox: ModuleType, tags: list[int]) -> None:
    table = whitebox.TestTable()
    for number, tag in enumerate(tags, 1):
        table.insert(tag, number)
    table.segments()
    assert all(table.probes(tag, number) for number, tag in list(enumerate(tags, 1))[::37])
    for number, tag in enumerate(tags, 1):
        table.erase(tag, number)
    assert sum(segment[3] for segment in table.segments()) == 0
    assert table.bits <= 20


def test_growth_moves_at_most_one_segment(whitebox: ModuleType) -> None:
    """The most that one insert ever moves is one segment."""
    rng = random.Random(4)
    table = whitebox.TestTable()
    version = table.version
    for number in range(1, 60_001):
        table.insert(rng.randrange(2**32), number)
        assert table.version <= version + 2  # a split, and the directory when it doubles
        version = table.version
    sizes = [cells for _, _, cells, _ in table.segments()]
    assert max(sizes) <= 4096 and len(sizes) >= 60_000 * 16 // 9 // 4096
    assert sum(used for _, _, _, used in table.segments()) == 60_000


@pytest.mark.timing
def test_no_insert_is_slow(whitebox: ModuleType) -> None:
    table = whitebox.TestTable()
    rng = random.Random(5)
    tags = [rng.randrange(2**32) for _ in range(400_000)]
    worst: list[float] = []
    for number, tag in enumerate(tags, 1):
        start = time.thread_time()
        table.insert(tag, number)
        worst.append(time.thread_time() - start)
    worst.sort()
    assert worst[-5] < 0.002  # all of it moved at once would be some milliseconds


def test_memory_follows_the_entries(whitebox: ModuleType) -> None:
    """14 to 29 bytes per entry."""
    rng = random.Random(6)
    table = whitebox.TestTable()
    pairs = [(rng.randrange(2**32), number) for number in range(1, 100_001)]
    assert table.nbytes == 0
    for number, pair in enumerate(pairs, 1):
        table.insert(*pair)
        if number > 5000 and number % 5000 == 0:
            assert 13 * number <= table.nbytes <= 32 * number
    full = table.nbytes
    for pair in pairs:
        table.erase(*pair)
    assert table.nbytes < full / 8
    table.free()
    assert table.nbytes == 0


@pytest.mark.parametrize("kept", [0, 1, 100, 1000])
def test_segments_become_one_again(whitebox: ModuleType, kept: int) -> None:
    """What a large table gives back is whole segments, until one is left; then that one shrinks."""
    rng = random.Random(7)
    table = whitebox.TestTable()
    pairs = [(rng.randrange(2**32), number) for number in range(1, 100_001)]
    for pair in pairs:
        table.insert(*pair)
    assert len(table.segments()) > 40
    sizes = set()
    for number, pair in enumerate(pairs[kept:]):
        table.erase(*pair)
        if number % 500 == 0:
            segments = table.segments()
            if len(segments) > 1:
                sizes |= {cells for _, _, cells, _ in segments}
    assert sizes == {4096}
    (last,) = table.segments()
    assert table.bits == 0 and last[3] == kept and last[2] <= max(16 * kept, 32)
    assert all(table.probes(*pair) for pair in pairs[:kept])
    for pair in pairs:  # and it grows again
        if not table.probes(*pair):
            table.insert(*pair)
    assert sum(segment[3] for segment in table.segments()) == 100_000


def test_halves_of_different_sizes(whitebox: ModuleType) -> None:
    """One half that empties alone is halved until the other has room for what is left of it."""
    rng = random.Random(8)
    table = whitebox.TestTable()
    low = [(rng.randrange(2**31), number) for number in range(1, 2001)]
    high = [(rng.randrange(2**31, 2**32), number) for number in range(2001, 4001)]
    for pair in [*low, *high]:
        table.insert(*pair)
    assert len(table.segments()) == 2
    for pair in low[10:]:
        table.erase(*pair)
    assert min(cells for _, _, cells, _ in table.segments()) < 4096
    for pair in high[10:]:
        table.erase(*pair)
    assert len(table.segments()) == 1 and table.bits == 0
    assert all(table.probes(*pair) for pair in [*low[:10], *high[:10]])


def test_version_moves_when_cells_may_have_moved(whitebox: ModuleType) -> None:
    table = whitebox.TestTable()
    table.insert(1, 1)
    version = table.version
    table.insert(2, 2)
    assert table.version == version  # a plain insert moves nothing
    table.erase(1, 1)
    assert table.version > version
    version = table.version
    for number in range(10, 40):
        table.insert(number, number)
    assert table.version > version  # it grew
