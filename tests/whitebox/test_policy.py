"""The policies, white-box, against the references of tests/models."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import pytest
from models.reference import FIFO, LFU, LRU

KINDS = [(0, LRU), (1, FIFO), (2, LFU)]


@pytest.mark.parametrize(("kind", "reference"), KINDS, ids=["lru", "fifo", "lfu"])
def test_against_the_reference(whitebox: ModuleType, kind: int, reference: Any) -> None:
    rng = random.Random(kind)
    policy, model = whitebox.TestPolicy(kind), reference()
    live: list[int] = []
    for step in range(6000):
        choice = rng.random()
        if not live or choice < 0.2 + 0.2 * ((step // 1000) % 2):
            number = policy.insert()
            model.insert(number)
            live.append(number)
        elif choice < 0.8:
            number = min(rng.choice(live), rng.choice(live))
            policy.hit(number)
            model.hit(number)
        else:
            number = policy.victim() if rng.random() < 0.5 else rng.choice(live)
            policy.remove(number)
            model.remove(number)
            live.remove(number)
        if step % 10 == 0:
            order = model.order()
            assert policy.coldest() == order and policy.hottest() == order[::-1]
            assert policy.victim() == (order[0] if order else 0)
            if kind == 2:
                assert policy.buckets() == sorted({model.counts[key][0] for key in live})
                assert all(policy.count(key) == model.counts[key][0] for key in live)
    for number in live:
        policy.remove(number)
    assert policy.coldest() == [] == policy.hottest() and policy.victim() == 0


def test_an_entry_alone_takes_its_bucket_along(whitebox: ModuleType) -> None:
    policy = whitebox.TestPolicy(2)
    number = policy.insert()
    before = policy.lfu_nbytes
    for _ in range(10_000):
        policy.hit(number)
    assert policy.lfu_nbytes == before and policy.buckets() == [10_001]


def test_buckets_are_used_again(whitebox: ModuleType) -> None:
    policy = whitebox.TestPolicy(2)
    numbers = [policy.insert() for _ in range(50)]
    for round_ in range(200):
        for index, number in enumerate(numbers):
            for _ in range(index % 7 + (round_ + index) % 2):
                policy.hit(number)
    assert len(policy.buckets()) <= 50
    assert policy.lfu_nbytes <= 24 * 128
    for number in numbers:
        policy.remove(number)
    assert policy.buckets() == []


def test_restore(whitebox: ModuleType) -> None:
    """What a pickle keeps: inserted from the coldest to the hottest, with their counts."""
    policy = whitebox.TestPolicy(2)
    counts = [1, 1, 2, 5, 5, 9]
    numbers = [policy.restore(count) for count in counts]
    assert policy.coldest() == numbers and [policy.count(n) for n in numbers] == counts
    assert policy.buckets() == [1, 2, 5, 9]
    policy.hit(numbers[0])
    assert policy.coldest() == [numbers[1], numbers[2], numbers[0], *numbers[3:]]


def test_restore_in_any_order(whitebox: ModuleType) -> None:
    policy = whitebox.TestPolicy(2)
    numbers = {count: policy.restore(count) for count in (5, 1, 9, 3, 7)}
    assert policy.coldest() == [numbers[count] for count in (1, 3, 5, 7, 9)]
