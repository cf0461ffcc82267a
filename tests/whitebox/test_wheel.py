"""The timing wheel, white-box: nothing is lost, nothing is late, steps are bounded."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

MS = 1_000_000
SECOND = 1000 * MS
YEAR = 365 * 86_400 * SECOND


def spread(rng: random.Random) -> int:
    """A duration whose order of magnitude is uniform from 1 ms to 100 years."""
    return int(MS * 10 ** rng.uniform(0, 12.49))


@pytest.mark.parametrize("start", [0, 1, 5 * SECOND, 10**18, -(10**15), 2**62 - 1], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_entry_is_found_by_its_deadline(whitebox: ModuleType, start: int, seed: int) -> None:
    """Every scheduled entry is found by its tick for random deadlines over the whole range."""
    rng = random.Random(seed)
    wheel = whitebox.TestWheel()
    wheel.advance(start)
    deadlines: dict[int, int] = {}
    for _ in range(1500):
        deadline = start + spread(rng)
        deadlines[wheel.add(deadline, start)] = deadline
    assert wheel.held() == 1500
    for now in sorted(deadlines.values()):
        assert wheel.due <= now
        for number in wheel.reap(now):
            assert deadlines.pop(number) <= now
        assert all(deadline > now for deadline in deadlines.values())
        if not len(deadlines) % 100:
            assert wheel.held() == len(deadlines)
    assert deadlines == {} and wheel.held() == 0 and wheel.due == whitebox.NEVER


@pytest.mark.parametrize("seed", range(8))
def test_time_in_random_steps(whitebox: ModuleType, seed: int) -> None:
    """Schedules, cancels, postponements and time of all sizes mixed."""
    rng = random.Random(seed)
    wheel = whitebox.TestWheel()
    now = rng.choice([0, 123_456_789, 10**17])
    deadlines: dict[int, int] = {}
    for step in range(4000):
        choice = rng.random()
        if choice < 0.5:
            deadline = now + rng.choice(
                [spread(rng), rng.randrange(1, 50 * MS), rng.randrange(1, 1000)]
            )
            deadlines[wheel.add(deadline, now)] = deadline
        elif choice < 0.6 and deadlines:
            number = rng.choice(list(deadlines))
            del deadlines[number]
            wheel.cancel(number)
        elif choice < 0.7 and deadlines:
            number = rng.choice(list(deadlines))
            deadlines[number] = min(deadlines[number] + spread(rng), now + 146 * YEAR)
            wheel.postpone(number, deadlines[number])
        else:
            now += rng.choice([0, 1, MS, rng.randrange(100 * MS), spread(rng) // 100])
            found = set(wheel.reap(now))
            dead = {number for number, deadline in deadlines.items() if deadline <= now}
            assert found == dead
            for number in dead:
                del deadlines[number]
            assert wheel.due > now
        if step % 50 == 0:
            assert wheel.held() == len(deadlines)
            assert all(deadline >= wheel.due for deadline in deadlines.values())
    assert now < 120 * YEAR
    assert set(wheel.reap(now + 150 * YEAR)) == set(deadlines)
    assert wheel.held() == 0


@pytest.mark.parametrize("level", range(1, 8))
def test_postponed_over_the_edge_of_a_level(whitebox: ModuleType, level: int) -> None:
    """The levels that its first deadline needed are not those that the next one needs."""
    wheel = whitebox.TestWheel()
    number = wheel.add(MS, 0)
    later = 2**20 * 64**level + 5
    wheel.postpone(number, later)
    assert wheel.reap(MS) == [] and wheel.reap(2 * MS) == [] and wheel.held() == 1
    assert wheel.reap(later - 1) == [] and wheel.reap(later) == [number]


@pytest.mark.parametrize(
    "gap", [1, MS, 63 * 2**20, 64 * 2**20, 2**26, 2**32, 2**38, 2**44, 2**50, 2**56, 2**62]
)
def test_the_edges_of_levels(whitebox: ModuleType, gap: int) -> None:
    for start in (0, 2**20 - 1, 2**26 - 1, 2**32 - 5, 2**38, 2**44 - 1):
        for delta in (-2, -1, 0, 1, 2):
            deadline = start + gap + delta
            if deadline <= start:
                continue
            wheel = whitebox.TestWheel()
            wheel.advance(start)
            number = wheel.add(deadline, start)
            assert wheel.due <= deadline
            assert wheel.reap(deadline - 1) == []
            assert wheel.held() == 1
            assert wheel.reap(deadline) == [number]


def test_a_deadline_that_has_passed(whitebox: ModuleType) -> None:
    wheel = whitebox.TestWheel()
    wheel.advance(10 * SECOND)
    late = wheel.add(3 * SECOND, 10 * SECOND)
    same = wheel.add(10 * SECOND, 10 * SECOND)
    assert set(wheel.reap(10 * SECOND)) == {late, same}


def test_a_clock_that_goes_back(whitebox: ModuleType) -> None:
    """A clock that went back brings up nothing new."""
    wheel = whitebox.TestWheel()
    number = wheel.add(100 * SECOND, 50 * SECOND)
    wheel.advance(60 * SECOND)
    wheel.advance(10 * SECOND)
    early = wheel.add(20 * SECOND, 10 * SECOND)
    assert wheel.held() == 2 and wheel.reap(15 * SECOND) == []
    assert wheel.reap(20 * SECOND) == [early]
    assert wheel.reap(99 * SECOND) == [] and wheel.reap(100 * SECOND) == [number]


def test_steps_are_bounded(whitebox: ModuleType) -> None:
    """A million entries that expire at once burden no single call."""
    wheel = whitebox.TestWheel()
    for index in range(10_000):
        wheel.add(SECOND + index, 0)
    wheel.advance(2 * SECOND)
    assert wheel.pop(2 * SECOND, 0) == (0, 0)
    found = 0
    for _ in range(10_000):
        number, left = wheel.pop(2 * SECOND, 8)
        assert left <= 7
        found += number != 0
    assert found == 10_000 and wheel.pop(2 * SECOND, 8)[0] == 0


def test_steps_are_bounded_for_those_that_were_postponed(whitebox: ModuleType) -> None:
    wheel = whitebox.TestWheel()
    numbers = [wheel.add(SECOND, 0) for _ in range(1000)]
    for number in numbers:
        wheel.postpone(number, 5 * SECOND)
    wheel.advance(2 * SECOND)
    for _ in range(125):
        assert wheel.pop(2 * SECOND, 8) == (0, 0)
    assert wheel.held() == 1000
    assert set(wheel.reap(5 * SECOND)) == set(numbers)


def test_a_jump_over_everything(whitebox: ModuleType) -> None:
    rng = random.Random(9)
    wheel = whitebox.TestWheel()
    numbers = {wheel.add(spread(rng), 0) for _ in range(5000)}
    assert set(wheel.reap(150 * YEAR)) == numbers


def test_memory_does_not_depend_on_the_entries(whitebox: ModuleType) -> None:
    rng = random.Random(3)
    wheel = whitebox.TestWheel()
    assert wheel.nbytes == 0
    for _ in range(3000):
        wheel.add(spread(rng), 0)
    assert 0 < wheel.nbytes <= 8 * 64 * 8


def test_cancel_leaves_nothing(whitebox: ModuleType) -> None:
    rng = random.Random(4)
    wheel = whitebox.TestWheel()
    numbers = [wheel.add(spread(rng), 0) for _ in range(2000)]
    rng.shuffle(numbers)
    for number in numbers:
        wheel.cancel(number)
    assert wheel.held() == 0 and wheel.reap(100 * YEAR) == []


def test_ticks_keep_the_order_of_times(whitebox: ModuleType) -> None:
    times = [-(2**63), -(10**15), -1, 0, 1, 2**20, 10**18, 2**63 - 1]
    ticks = [whitebox.tick(ns) for ns in times]
    assert ticks == sorted(ticks)
    assert whitebox.tick(2**20 - 1) == whitebox.tick(0) != whitebox.tick(2**20)
