"""Tag records, white-box, against a model."""

from __future__ import annotations

import random
from types import ModuleType


def test_against_a_model(whitebox: ModuleType) -> None:
    rng = random.Random(1)
    tags = whitebox.TestTags()
    records: dict[str, int] = {}
    entries: dict[int, set[str]] = {}
    dead: set[int] = set()
    for step in range(1, 8000):
        choice = rng.random()
        if choice < 0.5:
            names = set(rng.choices("abcdefgh", k=rng.randrange(1, 4)))
            for name in names - set(records):
                records[name] = tags.record()
            tags.attach(step, [records[name] for name in names])
            entries[step] = names
        elif choice < 0.9 and entries:
            number = rng.choice(list(entries))
            assert tags.is_dead(number) == (number in dead)
            tags.detach(number)
            del entries[number]
            dead.discard(number)
        elif records:
            name = rng.choice(list(records))
            tags.invalidate(records[name])
            dead |= {number for number, names in entries.items() if name in names}
        if step % 5 == 0:
            gone = set(tags.take_unused())
            for name, record in list(records.items()):
                used = any(name in names for names in entries.values())
                assert (record in gone) == (not used)
                if not used:
                    del records[name]
        if step % 100 == 0:
            assert set(tags.dead_entries()) == dead
            assert all(tags.is_dead(number) == (number in dead) for number in entries)
            for name, record in records.items():
                assert tags.refs(record) == sum(name in names for names in entries.values())
            assert tags.nodes_used == sum(map(len, entries.values()))
    for number in entries:
        tags.detach(number)
    assert set(tags.take_unused()) == set(records.values())
    assert tags.nodes_used == 0 and tags.dead_entries() == []


def test_entries_of_a_tag(whitebox: ModuleType) -> None:
    tags = whitebox.TestTags()
    a, b = tags.record(), tags.record()
    tags.attach(1, [a])
    tags.attach(2, [a, b])
    tags.attach(3, [b])
    assert tags.entries_of(a) == [1, 2] and tags.entries_of(b) == [2, 3]
    tags.invalidate(a)
    assert tags.entries_of(a) == [] and tags.dead_entries() == [1, 2]
    assert [tags.is_dead(number) for number in (1, 2, 3)] == [True, True, False]
    tags.attach(4, [a])
    assert not tags.is_dead(4)
    tags.invalidate(b)
    assert tags.is_dead(3) and sorted(tags.dead_entries()) == [1, 2, 2, 3]
    tags.detach(2)
    assert sorted(tags.dead_entries()) == [1, 3]


def test_memory_follows_the_use(whitebox: ModuleType) -> None:
    """A tag that nothing uses leaves no trace."""
    tags = whitebox.TestTags()
    assert tags.nbytes == 0
    for number in range(1, 50_001):
        record = tags.record()
        tags.attach(number, [record])
        tags.invalidate(record)
        tags.detach(number)
        assert tags.take_unused() == [record]
    assert tags.nbytes < 2048
    tags.free()
    assert tags.nbytes == 0


def test_all_nodes_at_once(whitebox: ModuleType) -> None:
    tags = whitebox.TestTags()
    records = [tags.record() for _ in range(10)]
    for number in range(1, 1001):
        tags.attach(number, [records[number % 10], records[(number + 1) % 10]])
    tags.invalidate(records[3])
    tags.free_nodes()
    assert tags.nodes_used == 0 and tags.dead_entries() == []
    assert set(tags.take_unused()) == set(records)
