"""The protocol that keeps L1 and L2 coherent, and a checker that walks through all its interleavings.

One key of one bucket; beside it another key of the same bucket, of which only invalidations are
modelled. Processes have an L1, flights, a known counter, trust, a ring of their own invalidations, a
bypass, and a listener with a queue of messages. They share an L2 (value, lease or hold, counters) and a
source whose versions count up. Each actor (a thread) carries out its program; every access to L2 or
the source, every delivery and every edit of L1 is one step, and the checker tries all orders of them,
with as many faults in between as the scenario allows. The search is breadth first over states kept as
`bytes` (one byte for each field), so the trace of a violation is as short as any.

Time is abstract. A lease may run out at any moment. `TICK` is the passing of the trust's three seconds:
what was trusted because of counters asked for before it is not trusted after it.

What is checked, with the names that violations bear:

- S1 after `invalidate` has returned, no read that starts in this process gets anything older than what
  the source had when L2 was told.
- S2 once nothing is under way and the heartbeats have run, no tier holds anything older than what was
  committed and invalidated (or committed under a hold whose owner was killed).
- S3 what a fenced flight (or write) brings is never stored.
- S4 a fresh answer is not older than any invalidation whose message had come, whose counter had been
  compared, or that was over one trust period before.
- S5 every reader ends: no actor is ever without a step, and none waits for a lease twice.
- S6 a fill whose lease is still there is not refused.
- S7 while no message is lost, no bucket is dropped as a whole.
- S8 no process takes a value of another version of the code for its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, pairwise
from sys import intern
from typing import NamedTuple


@dataclass(frozen=True)
class Rules:
    """The rules of the protocol, each a switch. As they stand here they are what docs/internals/coherence.md says."""

    # ---- L2
    lease_fence: bool = True  # an invalidation takes away the lease
    fill_compares: bool = True  # a fill is refused unless its lease is there
    found_token: bool = True  # who finds a lease fills with that, not with a token of its own
    lease_first: bool = True  # the lease is taken before the load, not after it
    #: How an invalidation changes L2: "one" step, or two ("lease, value", "value, lease", "message, value").
    steps: str = "one"
    hold_blocks: bool = True  # a held lease is no token for a fill
    held_uncached: bool = True  # what was loaded under a hold is not stored in L1 either
    holds_stay: bool = True  # an invalidation ends the holder's own hold only
    holds_break: bool = True  # but another's may no longer be ended by a put
    hold_lingers: bool = False  # nor that before its time (for sources whose replicas lag)
    put_token: bool = True  # a write-through's put is refused unless its hold stands unbroken
    wait_once: bool = True  # a reader waits for a lease once
    tag_restored: bool = True  # a lost tag record comes back at the current sequence, not at 0
    version_in_value: bool = True  # what an invalidation removes does not depend on the version
    version_checked: bool = True  # a value of another version is a miss
    # ---- L1
    fence: bool = True  # invalidations and messages fence the flights
    detach: bool = True  # later callers do not join a fenced flight
    wakes_detached: bool = True  # those who wait for a detached flight get its value
    delete_before: bool = True  # L1 is edited before L2 is told
    delete_after: bool = True  # and after it
    commit_first: bool = True  # the source commits before L2 is told
    store_refused: bool = True  # L1 keeps a load whose fill was refused (False is as safe)
    put_fenced: bool = True  # L1 keeps what was put only if nothing came since the put began
    trust_checked: bool = True  # L1 answers only while trusted
    trust_from_request: bool = True  # trust counts from when the counters were asked for
    # ---- telling
    messages: bool = True  # a message deletes and fences
    #: Which of its own messages a process skips: those of operations that have "returned" (their counter was in
    #: the reply), those that will be "answered", "all", or "none".
    own_skipped: str = "returned"
    forget: bool = True  # what was known before a reconnect counts for nothing
    #: What a message does that is not the next one: "next" (drops the bucket), "ignored" (moves the known counter), or
    #: "previous" (messages tell the counter before too; where that was not known, the known one stays).
    gap: str = "next"
    unique: bool = False  # counters never come back to an earlier number, whatever L2 forgets
    tags_unique: bool = True  # sequences of tags do not
    compare: bool = True  # a differing counter drops the bucket
    ping: bool = True  # all messages are awaited before counters are compared
    subscribe_first: bool = True  # counters are compared after subscribing, not before
    #: When the ring is replayed: "reconnect" (and any difference), "difference", "regression", "never".
    replay: str = "reconnect"
    replay_tags: bool = True  # invalidations of tags are in it too
    replay_whole: bool = True  # a replay ends with an edit of L1, as any invalidation
    bypass: bool = True  # a key whose invalidation is pending is read from the source
    bypass_first: bool = True  # it is marked before the last edit of L1
    retry: bool = True  # and its invalidation is tried again
    retry_exact: bool = True  # which does not settle what failed meanwhile
    exit_pending: bool = True  # the end of `updating` that fails is pending too
    unanswered_pending: bool = True  # what was cancelled after it was sent is pending as well


#: The faults, each with a budget in the scenario.
EXPIRE = "expire"  # a lease or hold runs out or is evicted
EVICT = "evict"  # a value is evicted from L2
LOSE = "lose"  # a listener's connection is lost, with the messages in it
TICK = "tick"  # the trust period passes
FAILOVER = "failover"  # L2 goes back to before its last invalidation; connections are lost
SPLIT = "split"  # the same, but the listeners stay with the old server
FLUSH = "flush"  # FLUSHALL, or a restart with nothing
CRASH = "crash"  # a process is killed
DOWN = "down"  # an invalidation fails, having been carried out or not
CANCEL = "cancel"  # the caller is cancelled; the server may carry it out later
TAG_LOST = "tag lost"  # the record of the tag is evicted
FAULTS = (EXPIRE, EVICT, LOSE, TICK, FAILOVER, SPLIT, FLUSH, CRASH, DOWN, CANCEL, TAG_LOST)

GET, WRITE, UPDATING, THROUGH, SET, NUDGE, TAG = (
    "get",
    "write",  # commit, invalidate
    "updating",  # hold, commit, invalidate
    "through",  # hold, commit, put (or invalidate)
    "set",  # put, with no source behind
    "nudge",  # another key of the bucket is invalidated
    "tag",  # commit, invalidate the tag
)


@dataclass(frozen=True)
class Scenario:
    """Who does what, and what may go wrong. programs: of each process its actors' operations."""

    programs: tuple[tuple[tuple[str, ...], ...], ...]
    faults: dict[str, int] = field(default_factory=dict)
    beats: tuple[int, ...] = ()  # heartbeats of each process while the programs run
    l1: bool = False  # L1 begins with the source's version
    l2: bool = False  # L2 begins with it
    tags: bool = False  # the value bears a tag
    lag: bool = False  # loaders may read a replica of the source that lags
    degraded: bool = False  # what L1 holds may be served untrusted, as stale
    schemas: tuple[int, ...] = ()  # the version of each process's code
    crashes: tuple[int, ...] = (0,)  # who may be killed
    #: Steps that nothing of interest comes between are one: a flight's start and its read of L2; a commit and
    #: the edit of L1 that follows it.
    coarse: bool = True


class Broken(Exception):
    def __init__(self, claim: str, label: str, text: str) -> None:
        super().__init__(claim, label, text)
        self.claim, self.label, self.text = claim, label, text


class Result(NamedTuple):
    """What a search found. claim: the violated one or None; trace: the steps to it."""

    states: int
    claim: str | None
    trace: list[str]

    def __str__(self) -> str:
        if self.claim is None:
            return f"{self.states} states, nothing violated"
        lines = [f"  {number:2}. {step}" for number, step in enumerate(self.trace, 1)]
        return "\n".join([f"{self.claim} violated after {len(lines)} steps:", *lines])


# ---- layout of a state: one byte for each of these -----------------------------------------------
# Versions, counters and sequences start at 1; 0 is none.

_at = count()
SRC, REPLICA = next(_at), next(_at)
VAL, SCHEMA, VSEQ, LEASE, CTR, TSEQ, TREC, INV = (next(_at) for _ in range(8))
L2_FIELDS = (VAL, SCHEMA, VSEQ, LEASE, CTR, TSEQ, TREC, INV)  # INV: the last version invalidated
BACK = next(_at)  # whether there is a state to go back to, which follows
BACK_FIELDS = tuple(next(_at) for _ in L2_FIELDS)
NUMBER, TAG_NUMBER = next(_at), next(_at)  # the highest counters ever
WANT, COMMITTED, TICKED, LOST, LATE = (next(_at) for _ in range(5))
BUDGET = {fault: next(_at) for fault in FAULTS}
GLOBALS = next(_at)

QUEUE_LENGTH = 6
_at = count()
(L1, KNOWN, TAG_KNOWN, TRUST, LINK, PENDING, RETRYING, RING, REPLAYING, ALIVE, LEADER) = (
    next(_at) for _ in range(11)
)
(BEAT, BEAT_CTR, BEAT_SEEN, BEAT_TAG, BEAT_TAG_SEEN, BEAT_INV, BEAT_OLD, BEAT_AHEAD, BEATS) = (
    next(_at) for _ in range(9)
)
FRESH, BOOK = next(_at), next(_at)  # BOOK: the highest sequence of tags heard of
FLOOR1, FLOOR4, QUEUED = next(_at), next(_at), next(_at)
QUEUE = next(_at)
PROCESS = QUEUE + 5 * QUEUE_LENGTH  # a message: previous, counter, kind, sender, version

_at = count()
OP, AT, VALUE, TOKEN, SEEN, NOSTORE, FENCED, OUTDATED = (next(_at) for _ in range(8))
WAITED, FOLLOWS, MIN1, MIN4, BEGAN, VALUE_SEQ = (next(_at) for _ in range(6))
ACTOR = next(_at)

UP, DOWN_LINK, SPLIT_LINK = 1, 0, 2
KEY, OTHER, TAGS = 0, 1, 2
BACKGROUND = 15
ASKED, PINGED = 1, 2  # a heartbeat under way
RING_KEY, RING_TAG = 1, 2

# Where an actor is in its operation. 0: before its first step.
(
    START, READ, CHECK, LEASING, WAITING, LOADING, FILLING, STORING, FOLLOWING, LATE_LEASE,
    EDIT, TELL, TELL2, RETURN, MARK, MARK_LATE, EDIT_HELD, COMMIT, PUT, KEEP, COMMIT_LATE,
) = range(21)  # fmt: skip
FLIGHT = frozenset((READ, CHECK, LEASING, WAITING, LOADING, FILLING, STORING, LATE_LEASE))


def held(lease: int) -> bool:
    """Lease: 0 none; up to 127 a token; beyond, a hold: 128 + 2 * (a bit for each holder) + whether it is unbroken."""
    return lease >= 128


class Model:
    """The successors of a state, under some rules."""

    def __init__(self, scenario: Scenario, rules: Rules, symmetry: bool = True) -> None:
        self.scenario, self.rules = scenario, rules
        self.processes = range(len(scenario.programs))
        self.base = [GLOBALS + PROCESS * p for p in self.processes]
        end = GLOBALS + PROCESS * len(self.processes)
        self.programs = [ops for actors in scenario.programs for ops in actors]
        self.actors = range(len(self.programs))
        self.actor = [end + ACTOR * a for a in self.actors]
        self.size = end + ACTOR * len(self.actors)
        self.owner = [p for p in self.processes for _ in scenario.programs[p]]
        self.crew = [[a for a in self.actors if self.owner[a] == p] for p in self.processes]
        self.schema = [(*scenario.schemas, *[1] * len(self.processes))[p] for p in self.processes]
        self.process_name = ["ABCD"[p] for p in self.processes]
        self.name = []
        for p in self.processes:
            for i, ops in enumerate(scenario.programs[p]):
                self.name.append(f"{self.process_name[p]}{i + 1} ({', '.join(ops)})")
        self.reads = self._ends({GET})
        self.stores = self._ends({GET, SET, THROUGH})
        losses = {LOSE, FAILOVER, SPLIT, FLUSH, TICK} & scenario.faults.keys()
        self.lossless = not losses and not any(scenario.beats)
        self.twins = self._twins() if symmetry else []
        self.out: list[tuple[str, bytes]] = []
        self.label = ""
        self.step: dict[int, Callable[[bytes, int], None]] = {
            START: self.start, READ: self.read, CHECK: self.check_tag, LEASING: self.leasing,
            WAITING: self.waiting, LOADING: self.loading, FILLING: self.filling, STORING: self.storing,
            FOLLOWING: self.following, LATE_LEASE: self.late_lease, EDIT: self.edit, TELL: self.tell,
            TELL2: self.tell2, RETURN: self.returning, MARK: self.mark, MARK_LATE: self.mark_late,
            EDIT_HELD: self.edit_held, COMMIT: self.commit, PUT: self.put, KEEP: self.keep,
            COMMIT_LATE: self.commit_late,
        }  # fmt: skip

    # ---- states ----------------------------------------------------------------------------------

    def initial(self) -> bytes:
        scenario, n = self.scenario, bytearray(self.size)
        for at in (SRC, REPLICA, CTR, TSEQ, TREC, INV, NUMBER, TAG_NUMBER, WANT, TICKED):
            n[at] = 1
        if scenario.l2:
            n[VAL] = n[VSEQ] = 1
            n[SCHEMA] = self.schema[0]
        for fault, budget in scenario.faults.items():
            n[BUDGET[fault]] = budget
        for p, b in enumerate(self.base):
            for at in (KNOWN, TAG_KNOWN, BOOK, TRUST, LINK, ALIVE, FLOOR1, FLOOR4):
                n[b + at] = 1
            n[b + L1] = scenario.l1
            n[b + BEATS] = (*scenario.beats, *[0] * len(self.processes))[p]
        return bytes(n)

    def _ends(self, kinds: set[str]) -> list[list[tuple[int, int]]]:
        """Of each process its actors and the number of the operation behind the last one of these kinds."""

        def end(ops: tuple[str, ...]) -> int:
            return max((i for i, op in enumerate(ops, 1) if op in kinds), default=0)

        return [[(self.actor[a], end(self.programs[a])) for a in crew] for crew in self.crew]

    def _twins(self) -> list[tuple[int, int]]:
        """Neighbouring readers of one process that are alike: their exchange changes nothing."""
        found = []
        for crew in self.crew:
            for a, b in pairwise(crew):
                if self.programs[a] == self.programs[b] and set(self.programs[a]) == {GET}:
                    found.append((a, b))
        return found

    def emit(self, n: bytearray) -> None:
        # Where nobody reads or stores any more, nothing depends on when messages come.
        for p, b in enumerate(self.base):
            if n[b + FLOOR4]:
                for at, last in self.reads[p]:
                    if n[at + OP] < last:
                        break
                else:
                    n[b + FLOOR1] = n[b + FLOOR4] = 0
            if self.lossless and n[b + QUEUED]:
                for at, last in self.stores[p]:
                    if n[at + OP] < last:
                        break
                else:
                    while n[b + QUEUED]:
                        self.deliver(n, p)
                    n[b + FLOOR1] = n[b + FLOOR4] = 0
        for a, b in self.twins:
            i, j = self.actor[a], self.actor[b]
            if n[i : i + ACTOR] > n[j : j + ACTOR]:
                self.exchange(n, a, b)
        self.out.append((intern(self.label), bytes(n)))

    def exchange(self, n: bytearray, a: int, b: int) -> None:
        i, j = self.actor[a], self.actor[b]
        n[i : i + ACTOR], n[j : j + ACTOR] = n[j : j + ACTOR], n[i : i + ACTOR]

        def token(value: int) -> int:
            if 0 < value < 128:
                who, rest = divmod(value - 1, 8)
                return 1 + 8 * {a: b, b: a}.get(who, who) + rest
            return value

        n[LEASE], n[BACK_FIELDS[3]] = token(n[LEASE]), token(n[BACK_FIELDS[3]])
        for at in self.actor:
            n[at + TOKEN], n[at + SEEN] = token(n[at + TOKEN]), token(n[at + SEEN])
            n[at + FOLLOWS] = {a + 1: b + 1, b + 1: a + 1}.get(n[at + FOLLOWS], n[at + FOLLOWS])
        at = self.base[self.owner[a]] + LEADER
        n[at] = {a + 1: b + 1, b + 1: a + 1}.get(n[at], n[at])

    def broken(self, claim: str, text: str) -> None:
        raise Broken(claim, self.label, text)

    def successors(self, s: bytes) -> list[tuple[str, bytes]]:
        self.out = []
        for a in self.actors:
            at = self.actor[a]
            if s[at + AT] or s[at + OP] < len(self.programs[a]):
                before = len(self.out)
                self.step[s[at + AT]](s, a)
                if len(self.out) == before and s[at + AT] != FOLLOWING:
                    self.broken("S5", f"{self.name[a]} has no step to take")
        for p in self.processes:
            if s[self.base[p] + ALIVE]:
                self.background(s, p)
        self.faults(s)
        return self.out

    def finished(self, s: bytes) -> bool:
        return all(
            s[at + AT] == 0 and s[at + OP] >= len(self.programs[a])
            for a, at in enumerate(self.actor)
        )

    # ---- what steps are made of --------------------------------------------------------------------

    def begin(self, s: bytes, a: int, text: str) -> bytearray:
        self.label = f"{self.name[a]} {text}"
        return bytearray(s)

    def drop(self, n: bytearray, p: int, but: int = -1) -> None:
        """Edit L1: delete the entry, fence and detach what is in flight."""
        b = self.base[p]
        n[b + L1] = 0
        if self.rules.detach:
            n[b + LEADER] = 0
        for a in self.crew[p]:
            at = self.actor[a]
            if n[at + AT] and a != but:
                n[at + OUTDATED] = 1
                if self.rules.fence or n[at + AT] not in FLIGHT:
                    n[at + FENCED] = 1

    def snapshot(self, n: bytearray) -> None:
        """What a failover would go back to."""
        if n[BUDGET[FAILOVER]] or n[BUDGET[SPLIT]]:
            n[BACK] = 1
            for back, at in zip(BACK_FIELDS, L2_FIELDS, strict=True):
                n[back] = n[at]

    def advance(self, n: bytearray, kind: int, p: int, op: int) -> None:
        """Advance the counter and publish. op: the actor whose reply will come, + 1; else 0."""
        at, top = (TSEQ, TAG_NUMBER) if kind == TAGS else (CTR, NUMBER)
        previous = n[at]
        unique = self.rules.tags_unique if kind == TAGS else self.rules.unique
        n[at] = max(previous, n[top]) + 1 if unique else previous + 1
        n[top] = max(n[top], n[at])
        for b in self.base:
            if n[b + ALIVE] and n[b + LINK] == UP:
                q = b + QUEUE + 5 * n[b + QUEUED]
                assert n[b + QUEUED] < QUEUE_LENGTH, "the model's queues are too short"
                n[q : q + 5] = bytes((previous, n[at], kind, p * 16 + op, n[INV]))
                n[b + QUEUED] += 1

    def told(self, n: bytearray, version: int = 0) -> None:
        """From now on nothing older than this (the source's newest) may stay."""
        n[INV] = max(n[INV], version or n[SRC])
        if not self.scenario.lag:
            n[WANT] = max(n[WANT], n[INV])

    def remove_value(self, n: bytearray, p: int) -> None:
        if self.rules.version_in_value or n[SCHEMA] == self.schema[p]:
            n[VAL] = n[SCHEMA] = n[VSEQ] = 0

    def remove_lease(self, n: bytearray, mine: int) -> None:
        """mine: the bit of a hold that ends, or 0."""
        if not held(n[LEASE]):
            if self.rules.lease_fence:
                n[LEASE] = 0
        elif not self.rules.holds_stay:
            n[LEASE] = 0
        else:
            if self.rules.hold_lingers:
                mine = 0
            holders = (n[LEASE] - 128) // 2 & ~mine
            unbroken = n[LEASE] & 1 and not self.rules.holds_break
            n[LEASE] = 128 + 2 * holders + unbroken if holders else 0

    def invalidation(self, n: bytearray, p: int, op: int, kind: int = KEY, mine: int = 0) -> None:
        """The script that invalidates: in L2, in one step."""
        self.snapshot(n)
        if kind == TAGS:
            self.told(n)
            self.advance(n, TAGS, p, op)
            n[TREC] = n[TSEQ]
        elif kind == OTHER:
            self.advance(n, OTHER, p, op)
        else:
            self.remove_value(n, p)
            self.remove_lease(n, mine)
            self.told(n)
            self.advance(n, KEY, p, op)

    def next_op(self, n: bytearray, a: int) -> None:
        at = self.actor[a]
        op = n[at + OP]
        n[at : at + ACTOR] = bytes(ACTOR)
        n[at + OP] = op + 1

    # ---- reading -----------------------------------------------------------------------------------

    def start(self, s: bytes, a: int) -> None:
        op = self.programs[a][s[self.actor[a] + OP]]
        first = {
            GET: self.get, NUDGE: self.tell, SET: self.put, UPDATING: self.hold, THROUGH: self.hold,
            WRITE: self.commit if self.rules.commit_first else self.edit,
            TAG: self.commit,
        }  # fmt: skip
        first[op](s, a)

    def get(self, s: bytes, a: int) -> None:
        p, at = self.owner[a], self.actor[a]
        b = self.base[p]
        trusted = s[b + TRUST] or not self.rules.trust_checked
        if s[b + L1] and (trusted or self.scenario.degraded):
            n = self.begin(s, a, f"reads v{s[b + L1]} in L1{'' if trusted else ', as stale'}")
            n[at + MIN1] = n[b + FLOOR1]
            n[at + MIN4] = max(n[b + FLOOR4], n[TICKED]) if trusted else 0
            self.answer(n, a, s[b + L1])
            self.emit(n)
            if trusted:
                return
        leader = s[b + LEADER]
        n = self.begin(s, a, f"joins the flight of {self.name[leader - 1]}" if leader else "")
        n[at + MIN1], n[at + MIN4] = n[b + FLOOR1], n[b + FLOOR4]
        if leader:
            n[at + FOLLOWS], n[at + AT] = leader, FOLLOWING
        else:
            self.label += "misses L1 and starts a flight"
            n[b + LEADER] = a + 1
            n[at + BEGAN] = n[b + BOOK]
            if n[b + PENDING] and self.rules.bypass:
                self.label += " past L2"
                n[at + AT] = LOADING
            else:
                n[at + AT] = READ
                if self.scenario.coarse:
                    self.read(bytes(n), a)
                    return
        self.emit(n)

    def following(self, s: bytes, a: int) -> None:
        leader = self.actor[s[self.actor[a] + FOLLOWS] - 1]
        if s[leader + AT] not in FLIGHT:
            self.broken("S5", f"{self.name[a]} waits for a flight that is over")

    def answer(self, n: bytearray, a: int, value: int) -> None:
        """The read ends with this."""
        at = self.actor[a]
        if not self.scenario.lag:
            if value < n[at + MIN1]:
                self.broken(
                    "S1",
                    f"{self.name[a]} gets v{value}; v{n[at + MIN1]} was invalidated here before it began",
                )
            if value < n[at + MIN4]:
                self.broken("S4", f"{self.name[a]} gets v{value}, but must know of v{n[at + MIN4]}")
        self.next_op(n, a)

    def token(self, s: bytes, a: int) -> int:
        at = self.actor[a]
        return 1 + 8 * a + 2 * s[at + OP] + min(s[at + WAITED], 1)

    def usable(self, s: bytes, a: int) -> bool:
        return bool(s[VAL]) and (
            s[SCHEMA] == self.schema[self.owner[a]] or not self.rules.version_checked
        )

    def take(self, n: bytearray, a: int) -> None:
        """The value is there."""
        at = self.actor[a]
        if n[SCHEMA] != self.schema[self.owner[a]]:
            self.broken("S8", f"{self.name[a]} takes a value of version {n[SCHEMA]} for its own")
        n[at + VALUE], n[at + VALUE_SEQ] = n[VAL], n[VSEQ]
        n[at + TOKEN] = 0
        n[at + AT] = CHECK if self.scenario.tags else STORING

    def read(self, s: bytes, a: int) -> None:
        if self.usable(s, a):
            n = self.begin(s, a, f"finds v{s[VAL]} in L2")
            self.take(n, a)
        else:
            n = self.begin(s, a, "misses L2" if not s[VAL] else "finds another version in L2")
            n[self.actor[a] + AT] = LEASING if self.rules.lease_first else LOADING
        self.emit(n)

    def check_tag(self, s: bytes, a: int) -> None:
        at = self.actor[a]
        n = self.begin(s, a, "")
        if not n[TREC]:
            n[TREC] = n[TSEQ] if self.rules.tag_restored else 1
            self.label += f"finds no record of the tag, makes it at {n[TREC]}, "
        if n[TREC] > n[at + VALUE_SEQ]:
            self.label += f"finds the value (at {n[at + VALUE_SEQ]}) dead by its tag ({n[TREC]})"
            n[at + AT] = LOADING if n[at + WAITED] else LEASING
        else:
            self.label += "finds its tag alive"
            n[at + AT] = STORING
        self.emit(n)

    def leasing(self, s: bytes, a: int) -> None:
        at, lease = self.actor[a], s[LEASE]
        if not lease:
            n = self.begin(s, a, "takes the lease")
            n[LEASE] = n[at + TOKEN] = n[at + SEEN] = self.token(s, a)
            n[at + AT] = LOADING
        elif held(lease) and self.rules.hold_blocks:
            n = self.begin(s, a, "finds it held")
            n[at + NOSTORE] = self.rules.held_uncached
            n[at + AT] = LOADING
        else:
            n = self.begin(s, a, "finds a lease")
            n[at + SEEN] = lease
            n[at + TOKEN] = lease if self.rules.found_token else self.token(s, a)
            n[at + AT] = (
                LOADING if (s[at + WAITED] and self.rules.wait_once) or held(lease) else WAITING
            )
        self.emit(n)

    def waiting(self, s: bytes, a: int) -> None:
        at = self.actor[a]
        if s[at + WAITED] > 1:
            self.label = self.name[a]
            self.broken("S5", f"{self.name[a]} waits for a lease again")
        if self.usable(s, a):
            n = self.begin(s, a, f"waited, and finds v{s[VAL]} in L2")
            n[at + WAITED] += 1
            self.take(n, a)
            self.emit(n)
        elif s[LEASE] != s[at + SEEN]:
            n = self.begin(s, a, "waited, and finds the lease gone; tries to take it")
            n[at + WAITED] += 1
            n[at + TOKEN] = n[at + SEEN] = 0
            n[at + AT] = LEASING
            self.emit(n)
            n = self.begin(s, a, "waited, and finds the lease gone; loads uncached")
            n[at + WAITED] += 1
            n[at + TOKEN] = n[at + SEEN] = 0
            n[at + AT] = LOADING
            self.emit(n)
        n = self.begin(s, a, "has waited long enough")
        n[at + WAITED] += 1
        n[at + AT] = LOADING if self.rules.wait_once else LEASING
        self.emit(n)

    def loading(self, s: bytes, a: int) -> None:
        at = self.actor[a]
        for version in sorted({s[SRC], s[REPLICA] if self.scenario.lag else s[SRC]}):
            n = self.begin(s, a, f"loads v{version}")
            n[at + VALUE] = version
            if self.rules.lease_first:
                n[at + AT] = FILLING if s[at + TOKEN] else STORING
            else:
                n[at + AT] = LATE_LEASE
            self.emit(n)

    def late_lease(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, "takes the lease" if not s[LEASE] else "finds a lease")
        at = self.actor[a]
        if not n[LEASE]:
            n[LEASE] = self.token(s, a)
        n[at + TOKEN] = n[at + SEEN] = n[LEASE]
        n[at + AT] = FILLING
        self.emit(n)

    def filling(self, s: bytes, a: int) -> None:
        at = self.actor[a]
        value, token = s[at + VALUE], s[at + TOKEN]
        if s[LEASE] == token or not self.rules.fill_compares:
            n = self.begin(s, a, f"fills L2 with v{value}")
            n[VAL], n[SCHEMA], n[VSEQ] = value, self.schema[self.owner[a]], s[at + BEGAN]
            n[LEASE] = 0
        else:
            n = self.begin(s, a, f"is refused the fill of v{value}")
            if s[LEASE] and s[LEASE] == s[at + SEEN]:
                self.broken("S6", f"{self.name[a]} is refused though its lease is there")
            n[at + NOSTORE] |= not self.rules.store_refused
        n[at + AT] = STORING
        self.emit(n)

    def storing(self, s: bytes, a: int) -> None:
        p, at = self.owner[a], self.actor[a]
        b, value = self.base[p], s[at + VALUE]
        if s[at + FENCED] or s[at + NOSTORE]:
            n = self.begin(s, a, f"answers v{value}, unstored")
        else:
            n = self.begin(s, a, f"stores v{value} in L1 and answers")
            if s[at + OUTDATED]:
                self.broken("S3", f"{self.name[a]} stores v{value} though it was fenced")
            n[b + L1] = value
        if n[b + LEADER] == a + 1:
            n[b + LEADER] = 0
        for other in self.crew[p]:
            if n[self.actor[other] + FOLLOWS] == a + 1 and (
                not s[at + FENCED] or self.rules.wakes_detached
            ):
                self.answer(n, other, value)
        self.answer(n, a, value)
        self.emit(n)

    # ---- writing -----------------------------------------------------------------------------------

    def op(self, s: bytes, a: int) -> str:
        return self.programs[a][s[self.actor[a] + OP]]

    def hold(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, "holds the key")
        at = self.actor[a]
        self.snapshot(n)
        self.remove_value(n, self.owner[a])
        if held(n[LEASE]) and self.rules.holds_stay:
            n[LEASE] = 128 + (((n[LEASE] - 128) // 2) | 1 << a) * 2  # both, hence broken
        else:
            n[LEASE] = 128 + (1 << a) * 2 + 1
        self.told(n)
        self.advance(n, KEY, self.owner[a], a + 1)
        n[at + AT] = EDIT_HELD
        self.emit(n)
        if s[BUDGET[DOWN]] and self.op(s, a) == UPDATING:
            n = self.begin(s, a, "cannot reach L2 to hold the key")
            n[BUDGET[DOWN]] -= 1
            n[at + WAITED] = 1
            n[at + AT] = EDIT_HELD
            self.emit(n)

    def edit_held(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, "deletes and fences in L1")
        self.drop(n, self.owner[a], but=a)
        n[self.actor[a] + AT] = COMMIT
        self.emit(n)

    def commit(self, s: bytes, a: int) -> None:
        at, op = self.actor[a], self.op(s, a)
        n = self.begin(s, a, f"commits v{s[SRC] + 1}")
        n[SRC] += 1
        if not self.scenario.lag:
            n[REPLICA] = n[SRC]
        n[at + VALUE] = n[at + MIN1] = n[SRC]
        if op in (UPDATING, THROUGH) and not n[at + WAITED]:
            n[COMMITTED] = n[SRC]  # under a hold, unless that has run out
        n[at + AT] = PUT if op == THROUGH else EDIT if self.rules.delete_before else TELL
        if n[at + AT] == EDIT and self.scenario.coarse:
            self.label += ", deletes and fences in L1"
            self.drop(n, self.owner[a], but=a)
            n[at + AT] = TELL
        self.emit(n)

    def commit_late(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, f"commits v{s[SRC] + 1}, after the invalidation")
        n[SRC] += 1
        n[REPLICA] = n[WANT] = n[SRC]
        n[self.base[self.owner[a]] + FLOOR1] = n[SRC]
        self.next_op(n, a)
        self.emit(n)

    def edit(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, "deletes and fences in L1")
        self.drop(n, self.owner[a], but=a)
        n[self.actor[a] + AT] = TELL
        self.emit(n)

    def tell(self, s: bytes, a: int) -> None:
        """The invalidation reaches L2, or not."""
        p, at, op = self.owner[a], self.actor[a], self.op(s, a)
        kind = {NUDGE: OTHER, TAG: TAGS}.get(op, KEY)
        mine = 1 << a if op in (UPDATING, THROUGH) else 0
        if kind == KEY and self.rules.steps != "one":
            self.tell1(s, a)
            return
        what = {KEY: "the key", OTHER: "another key of the bucket", TAGS: "the tag"}[kind]
        n = self.begin(s, a, f"invalidates {what} in L2")
        n[self.base[p] + RING] |= {
            KEY: RING_KEY,
            OTHER: 0,
            TAGS: RING_TAG * self.rules.replay_tags,
        }[kind]
        self.invalidation(n, p, a + 1, kind, mine)
        n[at + MIN1] = max(n[at + MIN1], n[SRC])
        if kind == OTHER:
            self.next_op(n, a)
        else:
            n[at + AT] = RETURN
        self.emit(n)
        if kind == KEY and op in (WRITE, UPDATING):
            self.tell_in_vain(s, a)

    def tell_in_vain(self, s: bytes, a: int) -> None:
        p, at, op = self.owner[a], self.actor[a], self.op(s, a)
        b = self.base[p]
        if s[BUDGET[DOWN]]:
            for done in (False, True):
                n = self.begin(
                    s, a, f"cannot reach L2 to invalidate{', which does it' if done else ''}"
                )
                n[BUDGET[DOWN]] -= 1
                n[b + RING] |= RING_KEY
                if done:
                    self.invalidation(n, p, 0, mine=1 << a if op == UPDATING else 0)
                n[at + AT] = MARK if op == WRITE or self.rules.exit_pending else RETURN
                self.emit(n)
        if s[BUDGET[CANCEL]]:
            n = self.begin(s, a, "is cancelled with the invalidation on its way; fences in L1")
            n[BUDGET[CANCEL]] -= 1
            n[LATE] = 1 + 2 * p
            n[b + RING] |= RING_KEY
            self.unanswered(n, p)
            n[WANT] = max(n[WANT], n[SRC])
            self.drop(n, p, but=a)
            self.next_op(n, a)
            self.emit(n)

    def unanswered(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        if self.rules.unanswered_pending:
            n[b + PENDING] = 2 if n[b + RETRYING] and self.rules.retry_exact else 1

    def tell1(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, f"does half of an invalidation ({self.rules.steps.split(',')[0]})")
        self.snapshot(n)
        n[self.base[self.owner[a]] + RING] |= RING_KEY
        if self.rules.steps == "value, lease":
            self.remove_value(n, self.owner[a])
        elif self.rules.steps == "lease, value":
            self.remove_lease(n, 0)
        else:
            self.told(n)
            self.advance(n, KEY, self.owner[a], a + 1)
        n[self.actor[a] + AT] = TELL2
        n[self.actor[a] + MIN1] = n[SRC]
        self.emit(n)

    def tell2(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, f"does the other half ({self.rules.steps.split(',')[1].strip()})")
        if self.rules.steps == "value, lease":
            self.remove_lease(n, 0)
        elif self.rules.steps == "lease, value":
            self.remove_value(n, self.owner[a])
        else:
            self.remove_value(n, self.owner[a])
            self.remove_lease(n, 0)
        if self.rules.steps != "message, value":
            self.told(n, n[self.actor[a] + MIN1])
            self.advance(n, KEY, self.owner[a], a + 1)
        n[self.actor[a] + AT] = RETURN
        self.emit(n)

    def returning(self, s: bytes, a: int) -> None:
        p, at = self.owner[a], self.actor[a]
        if self.rules.delete_after:
            n = self.begin(s, a, "deletes and fences in L1 again, and returns")
            self.drop(n, p, but=a)
        else:
            n = self.begin(s, a, "returns")
        self.returned(n, a)
        if not self.rules.commit_first and self.op(s, a) == WRITE:
            n[at + AT] = COMMIT_LATE
        else:
            self.next_op(n, a)
        self.emit(n)

    def returned(self, n: bytearray, a: int) -> None:
        floor = self.base[self.owner[a]] + FLOOR1
        n[floor] = max(n[floor], n[self.actor[a] + MIN1])

    def mark(self, s: bytes, a: int) -> None:
        p, at = self.owner[a], self.actor[a]
        if self.rules.bypass_first:
            n = self.begin(s, a, "marks the key as pending")
            self.pending(n, a)
            n[at + AT] = RETURN
        else:
            n = self.begin(s, a, "deletes and fences in L1 again")
            self.drop(n, p, but=a)
            n[at + AT] = MARK_LATE
        self.emit(n)

    def pending(self, n: bytearray, a: int) -> None:
        b = self.base[self.owner[a]]
        n[b + PENDING] = 2 if n[b + RETRYING] and self.rules.retry_exact else 1
        n[WANT] = max(n[WANT], n[self.actor[a] + MIN1])

    def mark_late(self, s: bytes, a: int) -> None:
        n = self.begin(s, a, "marks the key as pending, and returns")
        self.pending(n, a)
        self.returned(n, a)
        self.next_op(n, a)
        self.emit(n)

    def put(self, s: bytes, a: int) -> None:
        p, at, op = self.owner[a], self.actor[a], self.op(s, a)
        b = self.base[p]
        mine = 128 + (1 << a) * 2 + 1
        if op == THROUGH and s[LEASE] != mine and self.rules.put_token:
            n = self.begin(s, a, "is refused the put")
            n[at + AT] = TELL
            self.emit(n)
            return
        n = self.begin(s, a, f"puts v{s[SRC] + 1 if op == SET else s[at + VALUE]} into L2")
        self.put_script(n, p, a + 1, 0 if op == SET else n[at + VALUE])
        n[b + RING] |= RING_KEY
        n[at + VALUE] = n[VAL]
        n[at + MIN1] = n[VAL]
        n[at + AT] = KEEP
        self.emit(n)
        if op == SET and s[BUDGET[CANCEL]]:
            n = self.begin(s, a, "is cancelled with the put on its way")
            n[BUDGET[CANCEL]] -= 1
            n[LATE] = 2 + 2 * p
            self.unanswered(n, p)
            self.drop(n, p, but=a)
            self.next_op(n, a)
            self.emit(n)

    def put_script(self, n: bytearray, p: int, op: int, version: int) -> None:
        """version 0: there is no source, so this is the newest."""
        self.snapshot(n)
        if not version:
            n[SRC] += 1
            n[REPLICA] = version = n[SRC]
        n[VAL], n[SCHEMA], n[VSEQ], n[LEASE] = version, self.schema[p], n[TSEQ], 0
        n[INV] = max(n[INV], version)
        n[WANT] = max(n[WANT], version)
        self.advance(n, KEY, p, op)

    def keep(self, s: bytes, a: int) -> None:
        p, at = self.owner[a], self.actor[a]
        b = self.base[p]
        if s[at + FENCED] and self.rules.put_fenced:
            n = self.begin(s, a, "fences in L1, and returns")
            self.drop(n, p, but=a)
        else:
            n = self.begin(s, a, f"fences in L1, stores v{s[at + VALUE]} there, and returns")
            self.drop(n, p, but=a)
            n[b + L1] = s[at + VALUE]
            if s[at + OUTDATED]:
                self.broken("S3", f"{self.name[a]} stores what it put though it was fenced")
        self.returned(n, a)
        self.next_op(n, a)
        self.emit(n)

    # ---- the background thread of a process -----------------------------------------------------------

    def background(self, s: bytes, p: int) -> None:
        b, who = self.base[p], self.process_name[p]
        if s[b + QUEUED]:
            self.label = f"{who} hears {self.describe(s, p)}"
            n = bytearray(s)
            self.deliver(n, p)
            self.emit(n)
        if not s[b + LINK]:
            self.label = f"{who} subscribes again"
            n = bytearray(s)
            self.subscribe(n, p)
            self.emit(n)
        if s[b + BEAT] == ASKED:
            if s[b + LINK]:
                self.label = f"{who} pings, and the answer is on its way"
                n = bytearray(s)
                self.ping(n, p)
                self.emit(n)
        elif s[b + BEAT] == PINGED:
            self.label = f"{who} has its ping back and compares"
            n = bytearray(s)
            self.compare(n, p)
            self.emit(n)
        elif s[b + BEATS] and (s[b + LINK] or not self.rules.subscribe_first):
            self.label = f"{who} asks for the counters ({s[CTR]})"
            n = bytearray(s)
            n[b + BEATS] -= 1
            self.ask(n, p)
            self.emit(n)
        if s[b + REPLAYING]:
            n = bytearray(s)
            self.label = f"{who} {self.replay(n, p)}"
            self.emit(n)
        if s[b + PENDING] and self.rules.retry:
            n = bytearray(s)
            self.label = f"{who} {self.retry(n, p)}"
            self.emit(n)

    def describe(self, s: bytes, p: int) -> str:
        previous, counter, kind, sender, _ = s[self.base[p] + QUEUE :][:5]
        what = {KEY: "", OTHER: " of another key", TAGS: " of the tag"}[kind]
        return f"{self.process_name[sender >> 4]}'s message{what} ({previous} -> {counter})"

    def deliver(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        q = b + QUEUE
        previous, counter, kind, sender, version = n[q : q + 5]
        n[q : q + 5 * QUEUE_LENGTH] = n[q + 5 : q + 5 * QUEUE_LENGTH] + bytes(5)
        n[b + QUEUED] -= 1
        n[b + BEAT_AHEAD] -= n[b + BEAT_AHEAD] > 0
        self.learn(n, p, kind, previous, counter)
        if n[b + BEAT]:
            n[b + BEAT_SEEN] |= n[b + KNOWN] == n[b + BEAT_CTR]
            n[b + BEAT_TAG_SEEN] |= n[b + TAG_KNOWN] == n[b + BEAT_TAG]
        if kind == OTHER:
            return
        if sender >> 4 == p:
            self.hear_own(n, p, sender & 15)
            return
        n[b + FLOOR4] = max(n[b + FLOOR4], version)
        if self.rules.messages:
            self.drop(n, p)

    def learn(self, n: bytearray, p: int, kind: int, previous: int, counter: int) -> None:
        """The counter of a message."""
        b, rules = self.base[p], self.rules
        if kind == TAGS:
            n[b + BOOK] = max(n[b + BOOK], counter)
        at = b + (TAG_KNOWN if kind == TAGS else KNOWN)
        known, another = n[at], n[at] >> 4 != counter >> 4
        if rules.gap == "previous":
            if known == previous:
                n[at] = counter
        elif rules.gap == "ignored" or kind == TAGS or not known:
            n[at] = counter
        elif another or counter > known:
            if another or counter != known + 1:
                self.drop(n, p)
            n[at] = counter

    def hear_own(self, n: bytearray, p: int, op: int) -> None:
        """op: the actor + 1; BACKGROUND: a replay or a retry; 0: nobody waits for the reply any more."""
        b, rule = self.base[p], self.rules.own_skipped
        if op == BACKGROUND:
            under_way = n[b + REPLAYING] == 2 or n[b + RETRYING] == 1
        else:
            under_way = op > 0 and n[self.actor[op - 1] + AT] in (RETURN, KEEP, EDIT_HELD)
        if rule == "none" or (op == 0 and rule != "all") or (under_way and rule == "returned"):
            self.drop(n, p, but=op - 1 if under_way else -1)

    def subscribe(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        n[b + LINK] = UP
        if self.rules.forget:
            n[b + FRESH] = 1
            n[b + KNOWN] = n[b + TAG_KNOWN] = 0
        if n[b + RING] and self.rules.replay == "reconnect":
            n[b + REPLAYING] = 1

    def ask(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        n[b + BEAT] = ASKED
        n[b + BEAT_CTR], n[b + BEAT_TAG], n[b + BEAT_INV] = n[CTR], n[TSEQ], n[INV]
        n[b + BEAT_SEEN] = n[b + KNOWN] == n[CTR]
        n[b + BEAT_TAG_SEEN] = n[b + TAG_KNOWN] == n[TSEQ]
        n[b + BEAT_OLD] = 0

    def ping(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        n[b + BEAT] = PINGED
        n[b + BEAT_AHEAD] = n[b + QUEUED] if self.rules.ping else 0

    def compare(self, n: bytearray, p: int) -> None:
        """What was known at some time since the counters were asked for is explained."""
        b, rules = self.base[p], self.rules
        while n[b + BEAT_AHEAD]:
            self.deliver(n, p)
        if not n[b + BEAT_SEEN] or not n[b + BEAT_TAG_SEEN] or n[b + FRESH]:
            self.label += ": drops the bucket"
            if not n[LOST]:
                self.broken(
                    "S7", f"{self.process_name[p]} drops the bucket though no message was lost"
                )
            back = n[b + BEAT_CTR] < n[b + KNOWN] or n[b + BEAT_TAG] < n[b + TAG_KNOWN]
            back |= n[b + BEAT_CTR] >> 4 != n[b + KNOWN] >> 4  # another incarnation
            if n[b + RING] and (
                rules.replay in ("difference", "reconnect")
                or (back and rules.replay == "regression")
            ):
                n[b + REPLAYING] = 1
            n[b + KNOWN], n[b + TAG_KNOWN] = n[b + BEAT_CTR], n[b + BEAT_TAG]
            n[b + FRESH] = 0
            if rules.compare:
                self.drop(n, p)
        n[b + BOOK] = max(n[b + BOOK], n[b + BEAT_TAG])
        if not n[b + BEAT_OLD] or not rules.trust_from_request:
            n[b + TRUST] = 1
        n[b + FLOOR4] = max(n[b + FLOOR4], n[b + BEAT_INV])
        n[b + BEAT : b + BEATS] = bytes(BEATS - BEAT)

    def replay(self, n: bytearray, p: int) -> str:
        b = self.base[p]
        if n[b + REPLAYING] == 1:
            if n[b + RING] & RING_KEY:
                self.invalidation(n, p, BACKGROUND)
            if n[b + RING] & RING_TAG:
                self.invalidation(n, p, BACKGROUND, TAGS)
            n[b + REPLAYING] = 2 if self.rules.replay_whole else 0
            return "replays its invalidation"
        n[b + REPLAYING] = 0
        self.drop(n, p)
        return "deletes and fences in L1 after the replay"

    def retry(self, n: bytearray, p: int) -> str:
        b = self.base[p]
        if not n[b + RETRYING]:
            n[b + RETRYING] = 1
            self.invalidation(n, p, BACKGROUND)
            return "tries its invalidation again, with success"
        n[b + RETRYING] = 0
        n[b + PENDING] -= 1
        self.drop(n, p)
        return "deletes and fences in L1 after that, and uses L2 for the key again"

    # ---- what goes wrong ---------------------------------------------------------------------------

    def faults(self, s: bytes) -> None:
        if s[LATE]:
            self.label = "L2 carries out what was cancelled"
            n = bytearray(s)
            p, put = divmod(s[LATE] - 1, 2)
            n[LATE] = 0
            if put:
                self.put_script(n, p, 0, 0)
            else:
                self.invalidation(n, p, 0)
            self.emit(n)
        if self.scenario.lag and s[REPLICA] != s[SRC]:
            self.label = "the source's replica catches up"
            n = bytearray(s)
            n[REPLICA] = n[SRC]
            self.emit(n)
        if s[BUDGET[EXPIRE]] and s[LEASE] and not (held(s[LEASE]) and s[REPLICA] != s[SRC]):
            n = self.fault(
                s, EXPIRE, "the hold runs out" if held(s[LEASE]) else "the lease is lost"
            )
            for a in self.actors if held(s[LEASE]) else ():
                at = self.actor[a]
                n[at + WAITED] |= n[at + AT] in (EDIT_HELD, COMMIT)
            n[LEASE] = 0
            self.emit(n)
        if s[BUDGET[EVICT]] and s[VAL]:
            n = self.fault(s, EVICT, "L2 evicts the value")
            n[VAL] = n[SCHEMA] = n[VSEQ] = 0
            self.emit(n)
        if s[BUDGET[TAG_LOST]] and s[TREC]:
            n = self.fault(s, TAG_LOST, "L2 evicts the record of the tag")
            n[TREC] = 0
            self.emit(n)
        if s[BUDGET[TICK]]:
            n = self.fault(s, TICK, "three seconds pass")
            self.tick(n)
            self.emit(n)
        self.disasters(s)

    def fault(self, s: bytes, fault: str, text: str) -> bytearray:
        self.label = f"-- {text}"
        n = bytearray(s)
        n[BUDGET[fault]] -= 1
        return n

    def disasters(self, s: bytes) -> None:
        for p in self.processes if s[BUDGET[LOSE]] else ():
            if s[self.base[p] + LINK]:
                n = self.fault(s, LOSE, f"{self.process_name[p]}'s listener loses its connection")
                self.cut(n, p)
                self.emit(n)
        for fault in (FAILOVER, SPLIT):
            if s[BUDGET[fault]] and s[BACK] == 1:
                text = "L2 fails over to a replica that has not got the last invalidation"
                split = "; the listeners stay behind" if fault == SPLIT else ""
                n = self.fault(s, fault, text + split)
                self.go_back(n, SPLIT_LINK if split else DOWN_LINK)
                self.emit(n)
        if s[BUDGET[FLUSH]]:
            n = self.fault(s, FLUSH, "FLUSHALL")
            n[VAL] = n[SCHEMA] = n[VSEQ] = n[LEASE] = 0
            for at, top in ((CTR, NUMBER), (TSEQ, TAG_NUMBER)):
                n[at] = n[top] = (
                    n[top] + 1 if at == TSEQ or self.rules.unique else (n[top] | 15) + 1
                )
            n[TREC] = 0
            n[LOST] = 1
            self.emit(n)
        for p in self.scenario.crashes if s[BUDGET[CRASH]] else ():
            if s[self.base[p] + ALIVE]:
                n = self.fault(s, CRASH, f"{self.process_name[p]} is killed")
                self.kill(n, p)
                self.emit(n)

    def tick(self, n: bytearray) -> None:
        n[TICKED] = n[INV]
        for b in self.base:
            n[b + TRUST] = 0
            n[b + BEAT_OLD] = n[b + BEAT] > 0

    def cut(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        n[b + LINK] = n[b + QUEUED] = 0
        n[b + QUEUE : b + PROCESS] = bytes(PROCESS - QUEUE)
        n[LOST] = 1
        n[b + BEAT_AHEAD] = 0
        if self.rules.subscribe_first or n[b + BEAT] == PINGED:
            n[b + BEAT : b + BEATS] = bytes(BEATS - BEAT)

    def go_back(self, n: bytearray, link: int) -> None:
        """L2 forgets. What was promised about the forgotten is excused until the ring is replayed."""
        for back, at in zip(BACK_FIELDS, L2_FIELDS, strict=True):
            n[at] = n[back]
        n[BACK : BACK_FIELDS[-1] + 1] = bytes(1 + len(BACK_FIELDS))
        n[LOST] = 1
        n[TICKED] = min(n[TICKED], n[INV])
        for p, b in enumerate(self.base):
            versions = [b + QUEUE + 5 * i + 4 for i in range(n[b + QUEUED])]
            for at in (b + FLOOR1, b + FLOOR4, b + BEAT_INV, *versions):
                n[at] = min(n[at], n[INV])
            if link == DOWN_LINK:
                self.cut(n, p)
            elif n[b + LINK]:
                n[b + LINK] = SPLIT_LINK
        for at in self.actor:
            n[at + MIN1], n[at + MIN4] = min(n[at + MIN1], n[INV]), min(n[at + MIN4], n[INV])

    def kill(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        n[b : b + PROCESS] = bytes(PROCESS)
        for a in self.crew[p]:
            at = self.actor[a]
            n[at : at + ACTOR] = bytes(ACTOR)
            n[at + OP] = len(self.programs[a])

    # ---- at rest -----------------------------------------------------------------------------------

    def rest(self, s: bytes) -> None:
        """Let everything run its course, and look for what is stale."""
        n = bytearray(s)
        n[LEASE], n[REPLICA], n[LATE] = 0, n[SRC], 0
        for _ in range(3):
            for p in self.processes:
                if n[self.base[p] + ALIVE]:
                    self.settle(n, p)
        want = max(n[WANT], n[COMMITTED])
        self.label = "everything comes to rest"
        record = n[TREC] or (n[TSEQ] if self.rules.tag_restored else 1)
        if 0 < n[VAL] < want and not (self.scenario.tags and record > n[VSEQ]):
            self.broken("S2", f"L2 holds v{n[VAL]}, and v{want} was invalidated")
        for p, b in enumerate(self.base):
            if 0 < n[b + L1] < want:
                self.broken(
                    "S2",
                    f"L1 of {self.process_name[p]} holds v{n[b + L1]}, and v{want} was invalidated",
                )

    def settle(self, n: bytearray, p: int) -> None:
        b = self.base[p]
        self.label = f"{self.process_name[p]} comes to rest"
        if n[b + LINK] == DOWN_LINK:
            self.subscribe(n, p)
        while n[b + QUEUED]:
            self.deliver(n, p)
        for _ in range(2):
            if not n[b + BEAT]:
                self.ask(n, p)
            if n[b + BEAT] == ASKED:
                self.ping(n, p)
            self.compare(n, p)
        while n[b + REPLAYING]:
            self.replay(n, p)
        while n[b + PENDING] and self.rules.retry:
            self.retry(n, p)


def check(scenario: Scenario, rules: Rules | None = None, limit: int = 20_000_000) -> Result:
    """Walk through all states; stop at the first violation. RuntimeError: there are more than `limit`."""
    rules = rules if rules is not None else Rules()
    result = _search(Model(scenario, rules), limit)
    if result.claim is not None:
        # Once more, without taking readers that are alike for each other, so that the trace can be read.
        result = _search(Model(scenario, rules, symmetry=False), limit)
    return result


def _search(model: Model, limit: int) -> Result:
    first = model.initial()
    came_from: dict[bytes, tuple[bytes | None, str]] = {first: (None, "")}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        try:
            if model.finished(state):
                model.rest(state)
            following = model.successors(state)
        except Broken as broken:
            steps = [f"{broken.label}: {broken.text}"]
            at: bytes | None = state
            while at is not None:
                at, label = came_from[at]
                steps.append(label)
            return Result(len(came_from), broken.claim, steps[-2::-1])
        for label, new in following:
            if new not in came_from:
                came_from[new] = (state, label)
                queue.append(new)
        if len(came_from) > limit:
            raise RuntimeError(f"more than {limit} states")
    return Result(len(came_from), None, [])
