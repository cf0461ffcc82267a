"""The tiers' protocol in all its interleavings: nothing is violated, but something is without any one rule.

The second half shows that the checker can find what the rules are there for. Each counterexample is printed
(`pytest -s`), and docs/internals/coherence.md says in one line what it is.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from models.coherence_model import (
    CANCEL,
    CRASH,
    DOWN,
    EVICT,
    EXPIRE,
    FAILOVER,
    FLUSH,
    GET,
    LOSE,
    NUDGE,
    SET,
    SPLIT,
    TAG,
    TAG_LOST,
    THROUGH,
    TICK,
    UPDATING,
    WRITE,
    Rules,
    Scenario,
    check,
)

SOAK = os.environ.get("FASTCACHE_SOAK", "") not in ("", "0")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "internals" / "coherence.md"
W, G, GG, N, U, T, S, TG = (
    (WRITE,), (GET,), (GET, GET), (NUDGE,), (UPDATING,), (THROUGH,), (SET,), (TAG,),
)  # fmt: skip

#: Each in a few seconds at most, but for the first, which is the one that must be whole.
SCENARIOS = {
    "two readers and two writers": Scenario(((W, G), (W, G))),
    "eviction": Scenario(((W, G), (G,)), {EXPIRE: 1, EVICT: 1}, l1=True, l2=True),
    "readers after the write": Scenario(((W, GG), (G,)), {EXPIRE: 1}),
    "one process": Scenario(((W, G, G),), {EXPIRE: 1}),
    "lease waiters": Scenario(((G, G), (G,), (W,)), {EXPIRE: 1}),
    "heartbeats": Scenario(((W, G), (G,)), {TICK: 1}, beats=(1,), l1=True, l2=True),
    "lost messages": Scenario(((W,), (GG,)), {LOSE: 1, TICK: 1}, beats=(0, 1), l1=True, l2=True),
    "a gap": Scenario((((WRITE, NUDGE),), (G,)), {LOSE: 1}, beats=(0, 1), l2=True),
    "failover": Scenario(((W,), (GG,)), {FAILOVER: 1}, beats=(1, 0), l1=True, l2=True),
    "failover, the writer reads": Scenario(((W, G),), {FAILOVER: 1}, beats=(1,), l2=True),
    "flush": Scenario(((W,), (GG,)), {FLUSH: 1, EXPIRE: 1}, beats=(0, 1), l1=True, l2=True),
    "killed writer": Scenario(((U,), (G,), (W,)), {CRASH: 1, EXPIRE: 1}, l2=True),
    "write-through": Scenario(((T,), (W, G)), {EXPIRE: 1}),
    "set": Scenario(((S,), (S, G)), {EVICT: 1}),
    "cancelled set": Scenario(((S, G), (S,)), {CANCEL: 1}),
    "L2 out of reach": Scenario(((W, GG), (G,)), {DOWN: 1}, l2=True),
    "out of reach again": Scenario(((W, W), (G,)), {DOWN: 2}),
    "out of reach for a hold": Scenario(((U, G), (G,)), {DOWN: 2}, l2=True),
    "cancelled invalidation": Scenario(((W, GG), (G,)), {CANCEL: 1}, l2=True),
    "tags": Scenario(((TG, G), (G,)), {TAG_LOST: 1}, tags=True, l2=True),
    "tags, failover": Scenario(((TG,), (G,)), {FAILOVER: 1}, tags=True, l2=True),
    "two versions of the code": Scenario(((W, G), (G,)), {EXPIRE: 1}, schemas=(1, 2), l2=True),
    "lagging source": Scenario(((U, G),), {EXPIRE: 1}, lag=True, l2=True),
    "own heartbeats": Scenario(((W, GG),), {TICK: 1}, beats=(1,), l1=True, l2=True),
    "degraded": Scenario(((W,), (GG,)), {TICK: 1}, beats=(0, 1), degraded=True, l1=True, l2=True),
}

#: Up to three million states, a minute or two, and 2 GB each.
LONG = {
    "two readers and two writers, expiry": Scenario(((W, G), (W, G)), {EXPIRE: 1}, coarse=False),
    "two readers and two writers, warm": Scenario(
        ((W, G), (W, G)), {EXPIRE: 1, EVICT: 1}, l1=True, l2=True
    ),
    "three processes": Scenario(((W,), (W, G), (G,)), {EXPIRE: 1}),
    "joined flights": Scenario(((W, GG, G), (G,)), {EXPIRE: 1}),
    "two heartbeats": Scenario(((W, G), (G,)), {TICK: 1}, beats=(1, 1), l1=True, l2=True),
    "lost messages, two heartbeats": Scenario(
        ((W,), (GG,)), {LOSE: 1, TICK: 1}, beats=(0, 2), l1=True, l2=True
    ),
    "lost twice": Scenario(((W,), (G,)), {LOSE: 2, TICK: 1}, beats=(0, 2), l1=True, l2=True),
    "a gap, trust": Scenario((((WRITE, NUDGE),), (G,)), {LOSE: 1, TICK: 1}, beats=(0, 2), l2=True),
    "failover, heartbeats": Scenario(((W,), (GG,)), {FAILOVER: 1}, beats=(1, 1), l1=True, l2=True),
    "failover, another key": Scenario(((W, N), (G,)), {FAILOVER: 1}, beats=(1, 0), l2=True),
    "killed holders": Scenario(((U,), (G,), (U,)), {CRASH: 1, EXPIRE: 1}, l2=True),
    "killed holder, two readers": Scenario(((U,), (GG,), (W,)), {CRASH: 1, EXPIRE: 1}, l2=True),
    "lagging source, two processes": Scenario(((U, G), (G,)), {EXPIRE: 1}, lag=True, l2=True),
    "degraded, two processes": Scenario(
        ((W, GG), (G,)), {TICK: 1}, beats=(1,), degraded=True, l1=True, l2=True
    ),
    "two write-throughs": Scenario(((T,), (T, G)), {EXPIRE: 1}),
    "two sets": Scenario(((S, G), (S, G)), {EVICT: 1}),
    "L2 out of reach, two writers": Scenario(((W, G), (W,)), {DOWN: 1}, l2=True),
    "tags twice, failover": Scenario(((TG, (TAG, GET)), (G,)), {FAILOVER: 1}, tags=True),
    "two versions, two writers": Scenario(((W, G), (W, G)), schemas=(1, 2), l2=True),
}

#: Rules taken away, one at a time: the scenario that shows it, and the claim that it breaks there.
MUTATIONS: dict[str, tuple[dict[str, object], str, str]] = {
    "invalidation leaves the lease": ({"lease_fence": False}, "two readers and two writers", "S4"),
    "fill without comparing": ({"fill_compares": False}, "two readers and two writers", "S4"),
    "lease after the load": ({"lease_first": False}, "two readers and two writers", "S4"),
    "a token of its own": ({"found_token": False}, "lease waiters", "S6"),
    "value, then lease": ({"steps": "value, lease"}, "two readers and two writers", "S4"),
    "message, then value": ({"steps": "message, value"}, "eviction", "S4"),
    "hold does not block": ({"hold_blocks": False}, "killed writer", "S2"),
    "stored under a hold": ({"held_uncached": False}, "killed writer", "S2"),
    "others end a hold": ({"holds_stay": False}, "killed writer", "S2"),
    "hold ends at the exit": ({"hold_lingers": False}, "lagging source", "S2"),
    "put though another invalidated": ({"holds_break": False}, "write-through", "S1"),
    "put without token": ({"put_token": False}, "write-through", "S1"),
    "waits again": ({"wait_once": False}, "lease waiters", "S5"),
    "lost tag at 0": ({"tag_restored": False}, "tags", "S1"),
    "version in the name": ({"version_in_value": False}, "two versions of the code", "S2"),
    "version not compared": ({"version_checked": False}, "two versions of the code", "S8"),
    "flights not fenced": ({"fence": False}, "readers after the write", "S3"),
    "flights not detached": ({"detach": False}, "one process", "S1"),
    "waiters forgotten": ({"wakes_detached": False}, "one process", "S5"),
    "no delete afterwards": ({"delete_after": False}, "readers after the write", "S1"),
    "invalidated before the commit": ({"commit_first": False}, "eviction", "S2"),
    "put not fenced": ({"put_fenced": False}, "set", "S3"),
    "trust not looked at": ({"trust_checked": False}, "lost messages", "S4"),
    "trust from the answer": ({"trust_from_request": False}, "lost messages", "S4"),
    "messages not obeyed": ({"messages": False}, "eviction", "S4"),
    "all own messages skipped": ({"own_skipped": "all"}, "cancelled set", "S2"),
    "own messages skipped early": ({"own_skipped": "answered"}, "own heartbeats", "S4"),
    "message over a gap": ({"gap": "ignored", "forget": False}, "a gap", "S2"),
    "counters repeat": ({"forget": False}, "failover", "S2"),
    "counters not compared": ({"compare": False}, "lost messages", "S2"),
    "compared without ping": ({"ping": False}, "heartbeats", "S7"),
    "no replay": ({"replay": "never"}, "failover", "S2"),
    "replay after a regression only": ({"replay": "regression"}, "failover", "S2"),
    "tags not replayed": ({"replay_tags": False}, "tags, failover", "S2"),
    "replay without an edit of L1": ({"replay_whole": False}, "failover, the writer reads", "S2"),
    "no bypass": ({"bypass": False}, "L2 out of reach", "S1"),
    "bypass marked too late": ({"bypass_first": False}, "L2 out of reach", "S1"),
    "no second try": ({"retry": False}, "L2 out of reach", "S2"),
    "cancelled and forgotten": ({"unanswered_pending": False}, "cancelled invalidation", "S2"),
    "a retry settles too much": ({"retry_exact": False}, "out of reach again", "S2"),
    "updating ends unheard": ({"exit_pending": False}, "out of reach for a hold", "S1"),
}  # fmt: skip
if SOAK:
    MUTATIONS["tag sequences repeat"] = ({"tags_unique": False}, "tags twice, failover", "S1")

#: With these no server can be taken for another, even if a listener stays with one that is none any more.
UNIQUE: dict[str, object] = {"unique": True, "gap": "previous", "forget": False}

#: What may be left out or done otherwise, and what for.
CHOICES: dict[str, tuple[dict[str, object], str]] = {
    "no delete before L2 is told": ({"delete_before": False}, "readers after the write"),
    "a refused fill is not kept": ({"store_refused": False}, "readers after the write"),
    "own messages obeyed": ({"own_skipped": "none"}, "set"),
    "counters asked for before subscribing": ({"subscribe_first": False}, "lost messages"),
    "lease, then value": ({"steps": "lease, value"}, "readers after the write"),
    "replay after a difference": ({"replay": "difference"}, "failover"),
    "gaps ignored": ({"gap": "ignored"}, "a gap"),
    "counters that never repeat": (UNIQUE, "failover"),
    "a hold outlasts the exit": ({"hold_lingers": True}, "killed writer"),
}


#: What no rule prevents, or none of the default ones: the scenario, and the claim that it breaks.
LIMITS: dict[str, tuple[dict[str, object], Scenario, str]] = {
    "split brain": ({}, Scenario(((W,), (G,), (N,)), {SPLIT: 1}, l2=True), "S2"),
    "failover, the writer killed": (
        {},
        Scenario(((W,), (G,)), {FAILOVER: 1, CRASH: 1}, l2=True),
        "S2",
    ),
}


def rules(name: str, changes: dict[str, object] | None = None) -> Rules:
    """The protocol. Where the source lags, holds stay until their time is over, unless that is what is changed."""
    return dataclasses.replace(
        Rules(), **{"hold_lingers": name.startswith("lagging source"), **(changes or {})}
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_violated(name: str) -> None:
    result = check(SCENARIOS[name], rules(name))
    assert result.claim is None, str(result)
    assert result.states > 500, "the scenario does nothing"


@pytest.mark.soak
@pytest.mark.parametrize("name", LONG)
def test_nothing_is_violated_in_the_long_forms(name: str) -> None:
    result = check(LONG[name], rules(name))
    assert result.claim is None, str(result)


@pytest.mark.parametrize("name", MUTATIONS)
def test_without_the_rule_a_counterexample_is_found(name: str) -> None:
    changes, scenario, claim = MUTATIONS[name]
    result = check({**SCENARIOS, **LONG}[scenario], rules(scenario, changes))
    print(f"\n{name} ({scenario}): {result}")
    assert result.claim == claim, f"{name}: {result}"
    assert 1 <= len(result.trace) <= 20


@pytest.mark.parametrize("name", CHOICES)
def test_what_is_free_to_choose(name: str) -> None:
    changes, scenario = CHOICES[name]
    for each in SCENARIOS if SOAK else [scenario]:
        if "steps" in changes and any(
            {THROUGH, UPDATING, SET} & set(ops) for crew in SCENARIOS[each].programs for ops in crew
        ):
            continue  # a store that needs two steps has neither hold nor put
        result = check(SCENARIOS[each], rules(each, changes))
        assert result.claim is None, f"{name} ({each}): {result}"


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_not_promised(name: str) -> None:
    changes, scenario, claim = LIMITS[name]
    result = check(scenario, rules(name, changes))
    print(f"\n{name}: {result}")
    assert result.claim == claim, str(result)


def test_counters_that_never_repeat_survive_a_split() -> None:
    scenario = Scenario(((W,), (G,), (N,)), {SPLIT: 1}, beats=(1, 1) if SOAK else (), l2=True)
    result = check(scenario, rules("", UNIQUE))
    assert result.claim is None, str(result)


def test_every_rule_is_taken_away_once() -> None:
    """And has its line on the page."""
    changed = {rule for changes, _, _ in MUTATIONS.values() for rule in changes}
    changed |= {rule for changes, _ in CHOICES.values() for rule in changes} | {"tags_unique"}
    assert changed == {rule.name for rule in dataclasses.fields(Rules)}
    if PAGE.exists():
        text = PAGE.read_text(encoding="utf-8")
        assert [name for name in (*MUTATIONS, *CHOICES, *LIMITS) if name not in text] == []


def test_a_trace_says_what_happened() -> None:
    result = check(SCENARIOS["a gap"], rules("a gap", {"gap": "ignored", "forget": False}))
    assert result.trace[0] == "A1 (write, nudge) commits v2, deletes and fences in L1"
    assert "B's listener loses its connection" in str(result)
    assert result.trace[-1].endswith("L1 of B holds v1, and v2 was invalidated")
