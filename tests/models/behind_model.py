"""Write-behind over two tiers, in all its interleavings: may what others read meanwhile outlive the drain?

One key. Processes have an L1, flights, and perhaps writes that were acknowledged: rows in the overlay, which their own
reads see, and in a journal, which outlives them. They share an L2 (a value; a lease, or a hold) and a source, which
takes a version unless it has a later one. A message that the key has changed lies in an inbox until it is heard.
Each access to L2 or the source, each edit of L1 and each step of a drain is one step; the checker tries all orders of
them, breadth first, with evictions, leases that run out, and a kill in between. What is lost, late or degraded is the
matter of coherence_model.py.

Claims: "own": a read that begins after a write (or a takeover) has returned in its process gives nothing older.
"rest": when all is drained and heard, neither L2 nor any L1 has anything older than the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

GET, PUT, WRITE = (
    "get",
    "put",
    "write",
)  # write: commit, then invalidate, as somebody without a queue
DRAIN = ("commit", "tell", "forget", "trim")
EVICT, EXPIRE, KILL, SHRINK = "evict", "expire", "kill", "shrink"  # shrink: the L1 of A evicts


@dataclass(frozen=True)
class Rules:
    """Each a switch, as it is in fastcache."""

    hold: bool = (
        True  # the key is held before the journal, and the put refused if anybody has touched it
    )
    drain: tuple[str, ...] = DRAIN
    lease_fence: bool = True  # the drain's invalidation takes away the leases of loads
    overlay: bool = True  # a process reads its own rows
    fence: bool = True  # what is told fences the flights
    takeover_drops: bool = True  # whoever adopts a journal drops its L1
    repeats: bool = True  # rows that the source has already are told of again
    marker: bool = False  # the hold stays with the value until the drain, and keeps fills out


@dataclass(frozen=True)
class Scenario:
    """Of each process the program. faults: budgets. The last process adopts."""

    programs: tuple[tuple[str, ...], ...]
    faults: dict[str, int] = field(default_factory=dict)
    warm: bool = True  # all tiers begin with what the source has


class Process(NamedTuple):
    alive: bool = True
    l1: int = 0
    floor: int = 1
    rows: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()  # in the journal
    phase: int = 0
    chunk: int = 0  # the latest version of what is being drained
    inbox: bool = False
    # its actor
    op: int = 0
    at: str = ""
    value: int = 0
    token: int = 0
    fenced: bool = False
    least: int = 0


class State(NamedTuple):
    src: int
    version: int
    value: int
    lease: int  # 0 none, > 0 a load's, < 0 a hold: -2p-2 unbroken, -2p-3 broken
    budget: tuple[int, ...]
    processes: tuple[Process, ...]


class Result(NamedTuple):
    states: int
    claim: str | None
    trace: list[str]

    def __str__(self) -> str:
        if self.claim is None:
            return f"{self.states} states, nothing violated"
        steps = "\n".join(f"  {n:2}. {step}" for n, step in enumerate(self.trace, 1))
        return f"{self.claim} violated:\n{steps}"


class Broken(Exception):
    pass


class Model:
    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario, self.rules = scenario, rules
        self.names = "ABCD"

    def initial(self) -> State:
        warm = int(self.scenario.warm)
        budget = tuple(self.scenario.faults.get(f, 0) for f in (EVICT, EXPIRE, KILL, SHRINK))
        return State(1, 1, warm, 0, budget, (Process(l1=warm),) * len(self.scenario.programs))

    # ---- parts of steps ----------------------------------------------------------------------------

    def at(self, s: State, p: int, **changes: object) -> State:
        processes = list(s.processes)
        processes[p] = processes[p]._replace(**changes)
        return s._replace(processes=tuple(processes))

    def drop(self, s: State, p: int) -> State:
        """Edit L1: the entry goes, and whatever is in flight is fenced."""
        q = s.processes[p]
        return self.at(s, p, l1=0, fenced=q.fenced or (self.rules.fence and q.at != ""))

    def message(self, s: State, sender: int) -> State:
        for p, q in enumerate(s.processes):
            if p != sender and q.alive:
                s = self.at(s, p, inbox=True)
        return s

    def invalidate(self, s: State, p: int, *, leases: bool = True, mine: bool = False) -> State:
        """The script. mine: the process's own hold ends; those of others, and one's own from elsewhere, break."""
        lease = s.lease
        if lease > 0:
            lease = 0 if leases else lease
        elif lease < 0:
            own = lease in (-2 * p - 2, -2 * p - 3)
            lease = 0 if own and mine else lease - (lease % 2 == 0)
        return self.message(s._replace(value=0, lease=lease), p)

    def done(self, s: State, p: int) -> State:
        q = s.processes[p]
        return self.at(s, p, op=q.op + 1, at="", value=0, token=0, fenced=False, least=0)

    def answer(self, s: State, p: int, value: int) -> State:
        if value < s.processes[p].least:
            raise Broken("own")
        return self.done(s, p)

    # ---- steps -------------------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[tuple[str, State]]:
        for p, q in enumerate(s.processes):
            if not q.alive:
                continue
            who = self.names[p]
            program = self.scenario.programs[p]
            if q.at or q.op < len(program):
                yield from self.act(s, p, q, who, program[q.op])
            if q.inbox:
                yield (
                    f"{who} hears that the key has changed",
                    self.at(self.drop(s, p), p, inbox=False),
                )
            if q.kept or q.phase:
                yield self.drained(s, p, q, who)
            yield from self.takeover(s, p, q, who)
        yield from self.faults(s)

    def faults(self, s: State) -> Iterator[tuple[str, State]]:
        def less(fault: int) -> State:
            left = tuple(n - (i == fault) for i, n in enumerate(s.budget))
            return s._replace(budget=left)

        evict, expire, kill, shrink = s.budget
        first = s.processes[0]
        if evict and s.value:
            yield "-- L2 evicts the value", less(0)._replace(value=0)
        if expire and s.lease:
            yield "-- a lease runs out", less(1)._replace(lease=0)
        if kill and first.alive:
            dead = Process(alive=False, kept=first.kept, op=len(self.scenario.programs[0]))
            yield "-- A is killed", less(2)._replace(processes=(dead, *s.processes[1:]))
        if shrink and first.l1:
            yield "-- A's L1 evicts the value", self.at(less(3), 0, l1=0)

    def act(self, s: State, p: int, q: Process, who: str, op: str) -> Iterator[tuple[str, State]]:
        if op == GET:
            yield self.get(s, p, q, who)
        elif op == PUT:
            yield self.put(s, p, q, who)
        elif not q.at:
            version = s.version + 1
            new = self.drop(s._replace(src=version, version=version), p)
            yield f"{who} commits v{version}", self.at(new, p, at="tell", value=version)
        else:
            new = self.drop(self.invalidate(s, p), p)
            new = self.at(new, p, floor=max(q.floor, q.value))
            yield f"{who} invalidates v{q.value}, and returns", self.done(new, p)

    def get(self, s: State, p: int, q: Process, who: str) -> tuple[str, State]:
        if not q.at:
            s = self.at(s, p, least=q.floor)
            if q.l1:
                return f"{who} reads v{q.l1} in L1", self.answer(s, p, q.l1)
            if q.rows and self.rules.overlay:
                return f"{who} reads its own v{max(q.rows)}", self.answer(s, p, max(q.rows))
            if s.value:
                return f"{who} finds v{s.value} in L2", self.at(s, p, at="store", value=s.value)
            return f"{who} misses L2", self.at(s, p, at="lease")
        if q.at == "lease":
            token = s.lease or p + 1
            new = s._replace(lease=token)
            return f"{who} takes the lease, or finds it held", self.at(
                new, p, at="load", token=token
            )
        if q.at == "load":
            return f"{who} loads v{s.src}", self.at(
                s, p, at="fill" if q.token > 0 else "unstored", value=s.src
            )
        if q.at == "fill":
            if s.lease == q.token:
                new = s._replace(value=q.value, lease=0)
                return f"{who} fills L2 with v{q.value}", self.at(new, p, at="store")
            return f"{who} is refused the fill", self.at(s, p, at="unstored")
        if q.at == "store" and not q.fenced:
            new = self.answer(self.at(s, p, l1=q.value), p, q.value)
            return f"{who} stores v{q.value} in L1 and answers", new
        return f"{who} answers v{q.value}, unstored", self.answer(s, p, q.value)

    def put(self, s: State, p: int, q: Process, who: str) -> tuple[str, State]:
        hold = -2 * p - 2
        if not q.at:
            new = self.at(self.drop(s, p), p, at="journal")
            if not self.rules.hold:
                return f"{who} drops it from L1", new
            lease = hold if s.lease >= 0 else hold - 1  # over another's: neither is unbroken
            return f"{who} holds the key", self.message(new._replace(value=0, lease=lease), p)
        if q.at == "journal":
            v = s.version + 1
            new = self.at(s._replace(version=v), p, rows=(*q.rows, v), kept=(*q.kept, v))
            return f"{who} has v{v} in its journal", self.at(new, p, at="push", value=v)
        if q.at == "push":
            if self.rules.hold and s.lease != hold:
                new = self.drop(self.invalidate(s, p, mine=True), p)
                new = self.at(new, p, floor=max(q.floor, q.value))
                return f"{who} is refused the put, invalidates, and returns", self.done(new, p)
            new = s._replace(value=q.value, lease=hold if self.rules.marker else 0)
            return f"{who} puts v{q.value} into L2", self.at(
                self.message(new, p), p, at="keep", fenced=False
            )
        new = self.drop(s, p) if q.fenced else self.at(s, p, l1=q.value)
        new = self.at(new, p, floor=max(q.floor, q.value))
        kept = "leaves L1 empty" if q.fenced else f"stores v{q.value} in L1"
        return f"{who} {kept}, and returns", self.done(new, p)

    def drained(self, s: State, p: int, q: Process, who: str) -> tuple[str, State]:
        """The next step of the drain."""
        step = self.rules.drain[q.phase]
        chunk = q.chunk or max(q.kept)
        new = self.at(s, p, phase=(q.phase + 1) % len(DRAIN), chunk=chunk)
        if q.phase + 1 == len(DRAIN):
            new = self.at(new, p, chunk=0)
        if step == "commit":
            if s.src >= chunk and not self.rules.repeats and p != 0:
                new = self.at(new, p, phase=0, chunk=0, rows=(), kept=())
                return f"{who} sees that the source has v{chunk}, and forgets it", new
            return f"{who} commits v{chunk}", new._replace(src=max(s.src, chunk))
        if step == "tell":
            new = self.invalidate(new, p, leases=self.rules.lease_fence, mine=self.rules.marker)
            return f"{who} tells all tiers", self.drop(new, p)
        if step == "forget":
            rows = tuple(v for v in q.rows if v > chunk)
            return f"{who} forgets v{chunk}", self.at(new, p, rows=rows)
        kept = tuple(v for v in q.kept if v > chunk)
        return f"{who} takes v{chunk} from its journal", self.at(new, p, kept=kept)

    def takeover(self, s: State, p: int, q: Process, who: str) -> Iterator[tuple[str, State]]:
        dead = s.processes[0]
        if p + 1 == len(s.processes) and not dead.alive and dead.kept and not q.kept:
            new = self.at(s, 0, kept=())
            new = self.at(new, p, rows=dead.kept, kept=dead.kept, floor=max(q.floor, *dead.kept))
            yield (
                f"{who} adopts A's journal",
                self.drop(new, p) if self.rules.takeover_drops else new,
            )

    # ---- at rest -----------------------------------------------------------------------------------

    def rest(self, s: State) -> None:
        if any(q.kept or q.phase or q.at or q.inbox for q in s.processes):
            return
        if any(
            q.alive and q.op < len(self.scenario.programs[p]) for p, q in enumerate(s.processes)
        ):
            return
        for held in (s.value, *(q.l1 for q in s.processes if q.alive)):
            if 0 < held < s.src:
                raise Broken("rest")


def check(scenario: Scenario, rules: Rules | None = None, limit: int = 3_000_000) -> Result:
    """Walk through all states; stop at the first violation. RuntimeError: there are more than `limit`."""
    model = Model(scenario, rules or Rules())
    first = model.initial()
    came: dict[State, tuple[State | None, str]] = {first: (None, "")}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        try:
            model.rest(state)
            following = list(model.steps(state))
        except Broken as broken:
            trace: list[str] = []
            at: State | None = state
            while at is not None:
                at, label = came[at]
                trace.append(label)
            return Result(len(came), str(broken), trace[-2::-1])
        for label, new in following:
            if new not in came:
                came[new] = (state, label)
                queue.append(new)
        if len(came) > limit:
            raise RuntimeError(f"more than {limit} states")
    return Result(len(came), None, [])
