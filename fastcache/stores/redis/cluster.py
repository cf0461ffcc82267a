"""The servers of a cluster: which has which slot, whom to ask when that changes, whom to keep away from."""

from __future__ import annotations

import copy
import random
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastcache.stores.redis.address import Address
from fastcache.stores.redis.errors import Refusal, WireError
from fastcache.stores.redis.node import Clock, Node, now
from fastcache.stores.redis.topology import Pause
from fastcache.stores.redis.way import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcache.stores.redis.address import Target
    from fastcache.stores.redis.topology import Exchanges
    from fastcache.stores.redis.way import Way

SLOTS: Final = 16384
#: Times that a command follows a redirection, or waits for a slot that is under way.
REDIRECTS: Final = 8
#: Seconds between two questions who has which slot, and for which a server that failed is kept away from.
AGAIN: Final = 0.25
DOWN: Final = 0.5

_SLOTS: Final = pack("CLUSTER", "SLOTS")
_TIME: Final = pack("TIME")
_ASKING: Final = pack("ASKING")
_REPLICATION: Final = pack("INFO", "replication")
_UNKNOWN: Final = Clock()

Command = tuple[int, bytes, bool]


class Pending(NamedTuple):
    """A command without an answer. place: among all. node: whom to ask, None: who has its slot. primary: no replica."""

    place: int
    node: Node | None = None
    asking: bool = False
    primary: bool = False


class Offset(NamedTuple):
    """How far a primary was at some moment (`now()`), in which history of changes."""

    moment: float
    history: str
    reached: int


class Replica:
    """A replica that may answer. until: on `now()`, up to when it is known to lag by less than allowed."""

    __slots__ = ("node", "until")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.until = 0.0


class Cluster:
    """Safe from several threads and event loops at once. lag: seconds that replicas may be behind; None: they are
    not asked."""

    def __init__(self, target: Target, way: Way, most: int, lag: float | None) -> None:
        self._target = target
        self._way = way
        self._most = most
        self._lag = lag
        self._nodes: dict[Address, Node] = {}
        self._replicas: dict[Address, Replica] = {}
        self._slots: list[Node | None] = [None] * SLOTS
        self._readers: dict[Node, list[Replica]] = {}
        self._offsets: dict[Node, Offset] = {}
        self._known = False
        self._stale = True
        self._asked = -AGAIN
        self._lock = threading.RLock()
        self._closed = False

    # ---- who has what ----------------------------------------------------------------------------

    def node(self, slot: int, replica: bool) -> Node | None:
        """Whom to ask at once; None: `perform` has to find out."""
        node = self._slots[slot]
        if node is None or self._stale:
            return None
        if replica and self._lag is not None:
            moment = now()
            able = [
                r.node for r in self._readers.get(node, ()) if r.until > moment and not r.node.down
            ]
            if able:
                return random.choice(able)
        if node.down:
            return None
        return node

    def clock(self, slot: int) -> Clock:
        node = self._slots[slot]
        return _UNKNOWN if node is None else node.clock

    def _keep_away(self, node: Node) -> None:
        """WireError, but for one request in `DOWN` seconds."""
        moment = monotonic()
        if moment < node.down:
            text = "it did not answer a moment ago, and is given a rest"
            raise WireError(node.way.where, "refused", text, sent=False)
        node.down = moment + DOWN

    def failed(self, node: Node, error: WireError) -> None:
        """A request to this server ended so."""
        if error.kind in ("timeout", "refused", "closed"):
            node.down = monotonic() + DOWN
            self._stale = True

    def primaries(self, slots: Sequence[int]) -> Exchanges[list[tuple[Way, list[int]]]]:
        """The servers that have these slots: how to reach them, and which of the slots (by their place)."""
        yield from self.refresh(force=True)
        found: dict[Node, list[int]] = {}
        for index, slot in enumerate(slots):
            node = self._slots[slot]
            if node is None:
                raise WireError(self._target.where, "cluster", f"no server has slot {slot}", False)
            found.setdefault(node, []).append(index)
        return [(node.way, which) for node, which in found.items()]

    # ---- requests --------------------------------------------------------------------------------

    def perform(self, commands: Sequence[Command], timed: bool) -> Exchanges[list[Any]]:
        """The answers, aligned. All is attempted; then WireError, if a server did not answer."""
        answers: list[Any] = [None] * len(commands)
        pending = [Pending(place) for place in range(len(commands))]
        end = monotonic() + self._way.trip
        failures: list[WireError] = []
        hops, pause = 0, 0.005
        while pending and hops < REDIRECTS:
            yield from self.refresh()
            groups: dict[Node, list[Pending]] = {}
            for each in pending:
                try:
                    node = each.node or self._pick(commands[each.place], each.primary)
                except WireError as error:
                    failures.append(error)
                else:
                    groups.setdefault(node, []).append(each)
            exchanges = [_joined(node, which, commands, timed) for node, which in groups.items()]
            results = (yield exchanges) if exchanges else []
            pending = []
            for (node, which), result in zip(groups.items(), results, strict=True):
                if isinstance(result, WireError):
                    pending += self._unanswered(node, which, result, failures)
                    continue
                node.down = 0.0
                pending += self._take_over(node, which, result, commands, answers)
            hops += 1
            if any(each.node is None for each in pending):
                if monotonic() + pause > end:
                    break
                yield Pause(pause)
                hops, pause = 0, min(2 * pause, 0.1)
        if failures:
            raise failures[0]
        return answers

    def _unanswered(
        self, node: Node, which: list[Pending], error: WireError, failures: list[WireError]
    ) -> list[Pending]:
        """What to do about the commands that went to a server that did not answer."""
        self.failed(node, error)
        if not node.way.readonly:
            failures.append(error)
            return []
        return [Pending(each.place, primary=True) for each in which]

    def _take_over(
        self,
        node: Node,
        which: list[Pending],
        replies: list[Any],
        commands: Sequence[Command],
        answers: list[Any],
    ) -> list[Pending]:
        """Keep the answers; which commands have to be sent again, and where."""
        again = []
        left = iter(replies)
        for each in which:
            if each.asking:
                next(left)
            answers[each.place] = reply = next(left)
            if type(reply) is Refusal:
                other = self.redirected(commands[each.place][0], node, reply)
                if other is not None:
                    again.append(other._replace(place=each.place))
        return again

    def _pick(self, command: Command, primary: bool) -> Node:
        slot, _, replica = command
        node = self.node(slot, replica and not primary)
        if node is not None:
            return node
        node = self._slots[slot]
        if node is None:
            raise WireError(self._target.where, "cluster", f"no server has slot {slot}", False)
        if node.down:
            self._keep_away(node)
        return node

    def redirected(self, slot: int, node: Node, reply: Refusal) -> Pending | None:
        """Whom to ask instead (node None: whoever has the slot in a moment); None: it stands as it is."""
        code = reply.code
        if node.way.readonly and code not in ("MOVED", "ASK"):
            return Pending(0, primary=True)
        if code == "CLUSTERDOWN":
            self._stale = True
        if code in ("MOVED", "ASK"):
            try:
                _, _, place = reply.text.split(" ", 2)
                host, _, port = place.rpartition(":")
                other = self._node_at(Address(host or node.way.address.host, int(port)))
            except ValueError:
                return None
            if code == "ASK":
                return Pending(0, other, asking=True)
            self._slots[slot] = other
            self._stale = True
            return Pending(0, other)
        if code == "READONLY":  # a primary that is none any more
            self._stale = True
        elif reply.kind() != "moved":
            return None
        return Pending(0)

    # ---- refreshing ------------------------------------------------------------------------------

    def refresh(self, force: bool = False) -> Exchanges[None]:
        """Ask who has which slot, if that is in doubt and was not asked just now. WireError: nobody says."""
        moment = monotonic()
        if not force and not self._stale:
            return
        with self._lock:
            if self._known and not force and moment - self._asked < AGAIN:
                return
            self._asked = moment
        error: WireError | None = None
        for node in self._to_ask():
            (result,) = yield [(node, _SLOTS, 1, False)]
            if isinstance(result, WireError):
                error = error or result
                if result.kind in ("timeout", "refused", "closed"):
                    node.down = monotonic() + DOWN
                continue
            (answer,) = result
            if isinstance(answer, Refusal):
                error = error or self._refused(node, answer)
                continue
            try:
                self._install(node, answer)
            except (TypeError, ValueError, IndexError, AttributeError):
                text = "its list of slots makes no sense"
                error = error or WireError(node.way.where, "protocol", text)
                continue
            node.down = 0.0
            return
        if not self._known or force:
            raise error or WireError(self._target.where, "closed", "the store is closed", False)

    def _refused(self, node: Node, answer: Refusal) -> WireError:
        found = answer.error(node.way.where)
        if "cluster support disabled" in found.text:
            text = "this server is not part of a cluster: use a URL that begins with redis://"
            return WireError(node.way.where, "cluster", text)
        return WireError(node.way.where, found.kind, found.text)

    def _to_ask(self) -> list[Node]:
        """All that are known, those first that answered the last time."""
        nodes = [self._node_at(address) for address in self._target.addresses]
        nodes += [node for node in self._nodes.values() if node not in nodes]
        random.shuffle(nodes)
        nodes.sort(key=lambda node: bool(node.down))
        return nodes

    def _node_at(self, address: Address) -> Node:
        with self._lock:
            node = self._nodes.get(address)
            if node is None:
                node = self._nodes[address] = Node(self._to(address), self._most)
                if self._closed:
                    node.close()
            return node

    def _to(self, address: Address) -> Way:
        way = copy.copy(self._way)
        way.address = address
        way.where = self._target.node(address)
        return way

    def _install(self, asked: Node, answer: Any) -> None:
        slots: list[Node | None] = [None] * SLOTS
        readers: dict[Node, list[Replica]] = {}
        seen = set(self._target.addresses)
        for first, last, *servers in answer:
            places = [_address(server, asked) for server in servers]
            seen.update(places)
            primary = self._node_at(places[0])
            slots[first : last + 1] = [primary] * (last + 1 - first)
            if self._lag is not None and primary not in readers:
                readers[primary] = [self._reader_at(address) for address in places[1:]]
        self._slots = slots
        self._readers = readers
        self._known = True
        # Where a primary does not answer another may take its place: that is asked for until it has.
        self._stale = any(node is not None and node.down for node in set(slots))
        with self._lock:
            gone = [address for address in self._nodes if address not in seen]
            old: list[Node] = [self._nodes.pop(address) for address in gone]
            old += [self._replicas.pop(a).node for a in list(self._replicas) if a not in seen]
        for node in old:
            node.rest()

    def _reader_at(self, address: Address) -> Replica:
        with self._lock:
            found = self._replicas.get(address)
            if found is None:
                way = self._to(address)
                way.readonly = True
                found = self._replicas[address] = Replica(Node(way, self._most))
            return found

    def watch_replicas(self) -> Exchanges[None]:
        """Compare how far replicas are with how far their primaries were: what they lag by is known, not hoped."""
        if self._lag is None:
            return
        readers = self._readers
        asked = now()
        pairs: list[tuple[Node, Replica | None]] = [(primary, None) for primary in readers]
        pairs += [(primary, replica) for primary in readers for replica in readers[primary]]
        nodes = [primary if replica is None else replica.node for primary, replica in pairs]
        results = yield [(node, _REPLICATION, 1, False) for node in nodes]
        offsets: dict[Node, list[Offset]] = {}
        for (primary, replica), result in zip(pairs, results, strict=True):
            info = _info(result)
            if replica is None:
                before = self._offsets.pop(primary, None)
                offsets[primary] = [before] if before is not None else []
                if info.get("role") == "master":
                    reached = int(info["master_repl_offset"])
                    self._offsets[primary] = Offset(asked, info.get("master_replid", ""), reached)
                    offsets[primary].append(self._offsets[primary])
                continue
            if isinstance(result, WireError):
                replica.node.down = monotonic() + DOWN
                continue
            replica.node.down = 0.0
            if info.get("role") == "slave" and info.get("master_link_status") == "up":
                history = info.get("master_replid")
                reached = int(info["slave_repl_offset"])
                for then in offsets[primary]:
                    if history == then.history and reached >= then.reached:
                        replica.until = then.moment + self._lag

    # ---- the end ---------------------------------------------------------------------------------

    def all(self) -> list[Node]:
        with self._lock:
            return [*self._nodes.values(), *(replica.node for replica in self._replicas.values())]

    def close(self) -> None:
        self._closed = True
        for node in self.all():
            node.close()

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        for node in self.all():
            node.after_fork()


def _joined(
    node: Node, which: list[Pending], commands: Sequence[Command], timed: bool
) -> tuple[Node, bytes, int, bool]:
    parts = [_TIME] if timed else []
    for each in which:
        if each.asking:
            parts.append(_ASKING)
        parts.append(commands[each.place][1])
    return node, b"".join(parts), len(parts), timed


def _address(server: Any, asked: Node) -> Address:
    """Of one server in CLUSTER SLOTS. No name means: the one that was asked."""
    host = (server[0] or b"").decode()
    return Address(asked.way.address.host if host in ("", "?") else host, int(server[1]))


def _info(result: Any) -> dict[str, str]:
    if isinstance(result, WireError) or type(result[0]) is not bytes:
        return {}
    pairs = (line.partition(":") for line in result[0].decode("utf-8", "replace").splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}
