"""What a tiered cache asks of its L2: the protocol of a store, and the words both sides use.

A store talks to one server (or cluster, or file). `space(namespace)` gives the operations on one name
space as generators: each yields requests, which mean something to the store alone, is sent the answers, and
returns its result. Whoever drives them passes each request to `Store.send` (blocking) or to `Store.asend`
(awaited). So what is to be done is written once, for threads and for tasks.

    def read(self, name):
        value = yield Get(name)         # a request of this store's
        return None if value is None else (value, None)

The rules that make two tiers coherent, in terms of these operations:

- A value gets into L2 by `fill` only, which stores it if the lease taken before it was loaded is still
  there; or by `put`, which replaces what is there and tells everyone.
- `invalidate` removes value and lease in this order, advances the bucket's counter, and publishes it, in one step.
- Counters are compared by every process from time to time. One that cannot be explained by the messages
  that came means that messages were lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastcache._types import Uncopied

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    T = TypeVar("T")
    #: Requests out, answers in, the result at the end.
    Steps = Generator[Any, Any, T]

#: Each name space is divided into so many buckets; a name's bucket is in its digest (`bucket_of`).
BUCKETS = 256
#: Numbers of the two further counters of a name space, beside those of its buckets.
TAGS = 256
EVENTS = 257
COUNTERS = 258


def bucket_of(name: str) -> int:
    """The bucket of a name: names end in ':' and 32 hexadecimal digits, of which the first two tell."""
    return int(name[-32:-30], 16)


class StoreError(Exception):
    """A store could not do what it was asked. Nothing is known of what the server did, unless `kind` says so.

    where: the server or file, without credentials. kind: what happened, for statistics: "timeout",
    "refused" (no connection), "closed" (lost on the way), "auth", "loading", "readonly", "full",
    "moved", "cluster", "clients" (too many), "protocol" (an answer that makes no sense), "old" (a server
    of another kind, or too old), "file", "other".
    """

    def __init__(self, where: str, kind: str, text: str) -> None:
        super().__init__(where, kind, text)
        self.where = where
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class Found(NamedTuple):
    """What L2 has under a name. left: seconds until it expires there; None: never."""

    data: bytes
    left: float | None


def found_in(value: bytes, time: float | None) -> Found | None:
    """What there is, where a value begins with eight bytes that say when it dies: in milliseconds, big-endian
    (0: never), of a clock that shows so many seconds. None: not known; it dies at once, rather than too late."""
    dies = int.from_bytes(value[:8])
    if not dies:
        return Found(value[8:], None)
    left = 0.0 if time is None else dies / 1000 - time
    return Found(value[8:], left) if left >= 0 else None


class Dated(NamedTuple):
    """What L2 has under many names, as it lies there: values for `found_in`, if they begin with NUL, with the time
    that it wants; or something else. None: nothing. found: what there is by its number, whatever it is; may ask the
    store."""

    values: list[Any]
    time: float
    found: Callable[[int], Steps[Found | None]]


class Words(NamedTuple):
    """How a store says names to its server, so that whoever makes many names can say them as well. A word is
    `before`, the size of what follows in decimal digits, `between`, the prefix of the name's bucket, the name, and
    `after`."""

    prefixes: tuple[str, ...]
    before: str
    between: str
    after: str

    def of(self, name: str, bucket: int) -> str:
        key = self.prefixes[bucket] + name
        return f"{self.before}{len(key)}{self.between}{key}{self.after}"


class Lease(NamedTuple):
    """The right to fill a name, taken before the load starts.

    token: what `fill` wants: the caller's own, or that of the lease that was there already, since this
    load starts after it as well. ours: it was not there. held: writes are under way (`hold`), so nothing
    may be filled. found: the value that had come meanwhile (a store may leave this out).
    """

    token: bytes
    ours: bool
    held: bool
    found: Found | None = None


class Fill(NamedTuple):
    """A value to be stored. ttl: seconds, None for ever."""

    name: str
    token: bytes
    data: bytes
    ttl: float | None


class Target(NamedTuple):
    """A key to be invalidated. key: its canonical encoding, which tells the other processes which of
    their entries to drop; None where it is too long to be sent: they drop its whole bucket. version: of writes to the
    source, the latest that this process knows of, for those to know of who hear of the key; 0: none."""

    name: str
    key: bytes | None
    version: int = 0


class Counter(NamedTuple):
    """How often something was invalidated. incarnation: random, made anew whenever the counter was lost."""

    incarnation: int
    sequence: int


class Message(NamedTuple):
    """Something was invalidated, by this process or another.

    number: which counter it advanced: a bucket, TAGS or EVENTS. counter: what it is now; None where the
    sender knows no counters. origin: who did it. body: of a bucket the key's canonical encoding (None:
    any of the bucket); of TAGS the tags' encodings; of EVENTS the event. foreign: it is not from us but
    from a server that saw a name change (`name`), which may be our own doing. version: that of the Target.
    """

    number: int
    counter: Counter | None
    origin: bytes
    body: bytes | None
    foreign: bool = False
    name: str | None = None
    version: int = 0


class Generations(NamedTuple):
    """Counters in memory that all processes of the host share: who looks at them need not listen.

    Both are read-only views of COUNTERS + 1 unsigned 64-bit numbers: [0] advances with every change of
    the name space, [1 + number] with every change of that counter, [1 + number] before [0], and both before the
    change can be seen by anyone. shared: the changes of all; own: those made through this very Space,
    counted a moment before they are in `shared`. So shared[i] - own[i] (modulo 2**64) is what the others did;
    it may lag for that moment, and looks smaller then, never larger.

    What the caller does: note shared[i] - own[i] of a name's bucket (i = 1 + bucket), then read or load
    the value. It is good while the difference is not larger than that. `read` and the others wait for a change
    that is between the two (also if its process was killed there), so nobody gets an old value after a new
    number, and numbers need to advance but once.

    The views stay valid for as long as someone has them. When the file behind them was removed, they advance
    (all of them) once that is noticed, by `counters` at the latest, and stand still from then on:
    whoever sees [0] advance asks for `generations()` again, and has lost everything if that is another object.
    """

    shared: memoryview
    own: memoryview


class Space(ABC):
    """One name space of a store. Safe from several threads and event loops at once.

    Every operation is a generator (see above) that raises StoreError. Lists that come back are aligned with
    those that were given. `origin` (8 bytes, random) tells the messages of this process from others'.
    """

    namespace: str
    origin: bytes
    #: whether `generations` has something to show
    shares_memory = False
    #: what `read_dated` wants beside names; None: nothing
    words: Words | None = None

    # ---- values --------------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str, *, primary: bool = False) -> Steps[Found | None]:
        """One value. A single round trip: it is on the hot path. primary: no replica may answer, if there are any."""

    @abstractmethod
    def read_many(
        self, names: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None]]: ...

    def read_dated(
        self, names: Sequence[str], words: Sequence[str], *, primary: bool = False
    ) -> Steps[list[Found | None] | Dated]:
        """`read_many`; or, from a store that has it so, all as it lies there. words: see Words."""
        return (yield from self.read_many(names, primary=primary))

    @abstractmethod
    def lease(self, names: Sequence[str], token: bytes, ttl: float) -> Steps[list[Lease]]:
        """Take the lease of each name for ttl seconds, or learn which one is there."""

    @abstractmethod
    def fill(self, fills: Sequence[Fill]) -> Steps[list[bool | None]]:
        """Store each value whose lease still has this token, and drop the lease. None: the lease is right, but there is
        no room for the value. Tells nobody: it is new only to L2."""

    @abstractmethod
    def give_up(self, names: Sequence[str], token: bytes) -> Steps[None]:
        """Drop the leases that still have this token: the load failed, and others need not wait."""

    @abstractmethod
    def put(self, fills: Sequence[Fill], targets: Sequence[Target]) -> Steps[list[bool]]:
        """Store values (in the order of targets, which name the same) and tell everyone, as `invalidate`
        does. With an empty token whatever is there; else only if the name is held (`hold`) with this
        token, which ends. What was not stored has not been invalidated either."""

    @abstractmethod
    def invalidate(self, targets: Sequence[Target], token: bytes = b"") -> Steps[None]:
        """Remove values and leases, advance the counters, publish. A hold stays, so that nobody fills what another
        is writing, unless it has this token; but nothing may be put with it any more. Works on a server that
        has no memory left."""

    @abstractmethod
    def hold(self, targets: Sequence[Target], token: bytes, ttl: float) -> Steps[None]:
        """Invalidate, and let nobody fill these names for ttl seconds, or until `put` or `invalidate`."""

    @abstractmethod
    def incr(self, target: Target, delta: int, initial: int, ttl: float | None) -> Steps[int]:
        """Add to the counter kept as a plain decimal integer; absent gives initial + delta, with ttl. Drops the lease
        and tells everyone. TypeError: another value is there; OverflowError: beyond 64 bits."""

    @abstractmethod
    def touch(self, target: Target, stamp: bytes, ttl: float | None) -> Steps[bool]:
        """Give a value a new ttl, if it still begins with these bytes."""

    def note_invalidated(self, bucket: int) -> None:  # noqa: B027 - for stores with replicas alone
        """Another process has invalidated something of this bucket: replicas may not know it yet."""

    # ---- coherence -------------------------------------------------------------------------------

    @abstractmethod
    def counters(self) -> Steps[list[Counter]]:
        """All COUNTERS of them; those that are not there are made."""

    @abstractmethod
    def tags(self, tags: Sequence[bytes]) -> Steps[list[int]]:
        """Of each tag (by its encoding) the sequence of its last invalidation. A tag that is not there is made at
        the current sequence, since its record may have been lost."""

    @abstractmethod
    def invalidate_tags(self, tags: Sequence[bytes]) -> Steps[int]:
        """Advance the sequence of the name space, write it into these tags, publish. Sequences never go back,
        even if all of them are lost: they are at least the store's time in microseconds."""

    @abstractmethod
    def publish(self, event: bytes) -> Steps[None]:
        """Advance the counter of events, and publish this one."""

    def generations(self) -> Generations | None:
        """The counters as shared memory; None: this store has none. May open a file, and raise StoreError;
        cheap when it is open."""
        return None


class Listener(ABC):
    """Hears what others invalidate. Belongs to one thread, but for `wake`."""

    @abstractmethod
    def poll(self, seconds: float) -> list[Message]:
        """The messages that have come; waits so long for the first. StoreError: the connection was lost, and with it
        perhaps messages; the listener is closed, and another is wanted."""

    @abstractmethod
    def ping(self, seconds: float) -> list[Message]:
        """What `poll` returns, after everything that was published before this call has come. StoreError: not within
        so many seconds."""

    @abstractmethod
    def wake(self) -> None:
        """End a `poll` that another thread waits in."""

    @abstractmethod
    def close(self) -> None: ...


class Backplane(Uncopied, ABC):
    """How the caches of several processes tell each other what changed."""

    where: str

    @abstractmethod
    def listen(self, namespace: str) -> Listener:
        """Begin to listen, blocking until it does. StoreError: it cannot."""

    @abstractmethod
    def close(self) -> None: ...


class Store(Uncopied, ABC):
    """An L2. Safe from several threads and event loops at once; a forked child makes its own connections.

    where: the server or file as errors and logs name it, never with a password.
    trip: seconds after which one request is given up. Nothing on the read path is tried again.
    """

    where: str
    trip: float
    #: the store through which this one's changes are told and counted, where that is a backplane's
    tells_by: Store | None = None

    @abstractmethod
    def send(self, request: Any) -> Any:
        """Carry out one request, blocking at most `trip` seconds. StoreError."""

    @abstractmethod
    async def asend(self, request: Any) -> Any:
        """Carry out one request on the running event loop. StoreError. A cancellation leaves no answer behind that
        another request could take for its own."""

    @abstractmethod
    def space(self, namespace: str, origin: bytes) -> Space:
        """The operations on one name space. Makes no connection."""

    @abstractmethod
    def check(self) -> Steps[None]:
        """Whether the server is there, of the right kind, and new enough. StoreError says what was expected."""

    def backplane(self) -> Backplane | None:
        """The one that comes with this store; None: it has none."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close all connections. Requests afterwards raise StoreError."""

    async def aclose(self) -> None:
        """`close`, and what belongs to the running event loop."""
        self.close()

    def run_at_once(self, steps: Steps[T]) -> T:
        """`run`, but StoreError of kind "timeout" instead of waiting for other threads or processes. Matters to stores
        whose spaces share memory."""
        return self.run(steps)

    async def apart(self, function: Callable[[], T]) -> T:
        """function(), which may block, in a thread."""
        import asyncio

        return await asyncio.to_thread(function)

    def run(self, steps: Steps[T], send: Callable[[Any], Any] | None = None) -> T:
        """The result of an operation, blocking. send: instead of the store's."""
        send = send or self.send
        try:
            request = next(steps)
            while True:
                try:
                    answer = send(request)
                except Exception as error:  # noqa: BLE001 - the operation's to handle
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    async def arun(self, steps: Steps[T]) -> T:
        """The result of an operation, awaited."""
        try:
            request = next(steps)
            while True:
                try:
                    answer = await self.asend(request)
                except Exception as error:  # noqa: BLE001 - the operation's to handle
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()
