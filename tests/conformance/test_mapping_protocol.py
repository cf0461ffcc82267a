"""CPython's own tests of the mapping protocol, on a subclass of Cache with dict's constructor."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import pytest

import fastcache

mapping_tests = pytest.importorskip(
    "test.mapping_tests", reason="the interpreter comes without test.mapping_tests: NOT RUN"
)
TESTS: list[str] = unittest.defaultTestLoader.getTestCaseNames(
    mapping_tests.BasicTestMappingProtocol
)


class DictLike(fastcache.Cache):  # type: ignore[type-arg]
    """An unbounded cache that is made as a dict is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(None)
        self.update(*args, **kwargs)


class Forgetful(DictLike):
    """Broken on purpose: forgets every key on `update`."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.clear()


def case(mapping: Callable[..., Any], name: str) -> unittest.TestCase:
    """One of CPython's tests, on `mapping`."""
    cls: type[unittest.TestCase] = type(
        "Protocol", (mapping_tests.BasicTestMappingProtocol,), {"type2test": mapping}
    )
    return cls(name)


def test_there_are_tests() -> None:
    assert len(TESTS) >= 14


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("mapping", [dict, DictLike])
def test_protocol(mapping: type[Any], name: str) -> None:
    case(mapping, name).debug()  # raises where run() would note


def test_a_broken_mapping_is_caught() -> None:
    with pytest.raises(AssertionError):
        case(Forgetful, "test_update").debug()


@pytest.mark.parametrize("mapping", [dict, DictLike])
def test_growing_during_iteration(mapping: type[Any]) -> None:
    d = mapping({i: i for i in range(10)})
    with pytest.raises(RuntimeError):
        for i in d:
            d[i + 100] = i
