"""Write-behind over two tiers: nothing is violated, with a dirty marker or without; something is without any one rule.

Each counterexample is printed (`pytest -s`).
"""

from __future__ import annotations

import dataclasses

import pytest
from models.behind_model import (
    EVICT,
    EXPIRE,
    GET,
    KILL,
    PUT,
    SHRINK,
    WRITE,
    Rules,
    Scenario,
    check,
)

SCENARIOS = {
    "eviction": Scenario(((PUT, GET), (GET, GET)), {EVICT: 1, EXPIRE: 1}),
    "own reads": Scenario(((PUT, GET), (GET,)), {EVICT: 1, SHRINK: 1}),
    "two writes": Scenario(((PUT, PUT), (GET,)), {EVICT: 1}),
    "another's newer write": Scenario(((PUT,), (WRITE, GET)), {EVICT: 1, EXPIRE: 1}),
    "two queues": Scenario(((PUT, GET), (PUT,)), {EVICT: 1}),
    "killed and adopted": Scenario(((PUT,), (GET, GET)), {EVICT: 1, KILL: 1}),
    "killed, adopted by another": Scenario(((PUT,), (GET,), ()), {EVICT: 1, KILL: 1}),
}

#: Rules taken away: the scenario that shows it, and the claim that it breaks there.
MUTATIONS: dict[str, tuple[dict[str, object], str, str]] = {
    "put without a hold": ({"hold": False}, "another's newer write", "own"),
    "told before the commit": (
        {"drain": ("tell", "commit", "forget", "trim")},
        "eviction",
        "own",
    ),
    "trimmed before it is told": (
        {"drain": ("commit", "trim", "tell", "forget")},
        "killed, adopted by another",
        "rest",
    ),
    "forgotten before it is told": (
        {"drain": ("commit", "forget", "tell", "trim")},
        "own reads",
        "own",
    ),
    "the drain leaves leases": ({"lease_fence": False}, "eviction", "own"),
    "own rows are not read": ({"overlay": False}, "own reads", "own"),
    "flights not fenced": ({"fence": False}, "eviction", "rest"),
    "L1 kept at a takeover": ({"takeover_drops": False}, "killed and adopted", "own"),
    "not told again": ({"repeats": False}, "killed, adopted by another", "rest"),
}


@pytest.mark.parametrize("marker", [False, True])
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_violated(name: str, marker: bool) -> None:
    result = check(SCENARIOS[name], Rules(marker=marker))
    assert result.claim is None, str(result)
    assert result.states > 100, "the scenario does nothing"


@pytest.mark.parametrize("name", MUTATIONS)
def test_without_the_rule_a_counterexample_is_found(name: str) -> None:
    changes, scenario, claim = MUTATIONS[name]
    result = check(SCENARIOS[scenario], dataclasses.replace(Rules(), **changes))
    print(f"\n{name} ({scenario}): {result}")
    assert result.claim == claim, str(result)


@pytest.mark.parametrize("name", [name for name in MUTATIONS if "leases" not in name])
def test_a_marker_takes_the_place_of_none_of_the_other_rules(name: str) -> None:
    """For it may run out, as every hold."""
    changes, scenario, claim = MUTATIONS[name]
    faults = {EXPIRE: 1, **SCENARIOS[scenario].faults}
    runs_out = dataclasses.replace(SCENARIOS[scenario], faults=faults)
    result = check(runs_out, dataclasses.replace(Rules(marker=True), **changes))
    assert result.claim == claim, str(result)


def test_every_rule_is_taken_away_once() -> None:
    changed = {rule for changes, _, _ in MUTATIONS.values() for rule in changes} | {"marker"}
    assert changed == {rule.name for rule in dataclasses.fields(Rules)}
