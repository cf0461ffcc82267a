"""The whole cache as a model: bound, weights, time, tags, events and counts over a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from models.reference import POLICIES, Item

DEFAULT: Any = object()


class Model:
    """`Cache` without its engine. Times are seconds of `now`, which the test moves."""

    def __init__(
        self,
        maxsize: int | None,
        policy: str,
        ttl: float | None = None,
        tti: float | None = None,
        weigher: Callable[[Any, Any], int] | None = None,
    ) -> None:
        self.maxsize, self.ttl, self.tti, self.weigher = maxsize, ttl, tti, weigher
        self.policy = POLICIES[policy]()
        self.items: dict[Any, Item] = {}
        self.now = 0.0
        self.tagged = False  # whether entries have ever died by a tag
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[Any, Any, str]] = []  # in order; the expired apart
        self.dropped: list[tuple[Any, Any, str]] = []  # expired or tagged, in no order

    @property
    def weight(self) -> int:
        return sum(item.weight for item in self.items.values())

    def _remove(self, key: Any, cause: str, count: str, late: bool = False) -> Any:
        item = self.items.pop(key)
        self.policy.remove(key)
        self.counts[count] += 1
        (self.dropped if late else self.events).append((key, item.value, cause))
        return item.value

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for key, item in list(self.items.items()):
            if self.now >= min(item.dies, item.idles):
                self._remove(key, "expired", "expirations", late=True)

    def _hit(self, key: Any) -> Any:
        self.policy.hit(key)
        self.items[key].touch(self.now)
        return self.items[key].value

    def get(self, key: Any) -> Any:
        if key in self.items:
            self.counts["hits"] += 1
            return self._hit(key)
        self.counts["misses"] += 1
        return None

    def set(
        self,
        key: Any,
        value: Any,
        ttl: Any = DEFAULT,
        tti: Any = DEFAULT,
        weight: Any = None,
        tags: Any = (),
    ) -> None:
        ttl = self.ttl if ttl is DEFAULT else ttl
        tti = self.tti if tti is DEFAULT else tti
        if weight is None:
            weight = self.weigher(key, value) if self.weigher else 1
        if self.maxsize is not None and weight > self.maxsize:
            if key in self.items:
                self._remove(key, "size", "evictions")
        elif ttl == 0 or tti == 0 or self.maxsize == 0:
            if key in self.items:
                self._remove(key, "explicit", "removals")
        elif key in self.items:
            self.counts["replacements"] += 1
            self.events.append((key, self.items[key].value, "replaced"))
            self.items[key] = Item(value, weight, self.now, ttl, tti, tags)
            self.policy.hit(key)
            self._shrink(spare=key)
        else:
            self.counts["inserts"] += 1
            self.items[key] = Item(value, weight, self.now, ttl, tti, tags)
            self.policy.insert(key)
            self._shrink(spare=key)

    def _shrink(self, spare: Any = DEFAULT) -> None:
        for key in self.policy.order():
            if self.maxsize is None or self.weight <= self.maxsize:
                return
            if key is not spare and key != spare:
                self._remove(key, "size", "evictions")

    def delete(self, key: Any) -> bool:
        if key not in self.items:
            return False
        self._remove(key, "explicit", "removals")
        return True

    def touch(self, key: Any, ttl: Any = DEFAULT) -> bool:
        if key not in self.items:
            return False
        ttl = self.ttl if ttl is DEFAULT else ttl
        if ttl == 0:
            self._remove(key, "explicit", "removals")
            return True
        item = self.items[key]
        item.dies = float("inf") if ttl is None else self.now + ttl
        item.touch(self.now)
        return True

    def popitem(self) -> tuple[Any, Any] | None:
        for key in self.policy.order():
            return key, self._remove(key, "explicit", "removals")
        return None

    def evict(self, n: int) -> int:
        victims = self.policy.order()[:n]
        for key in victims:
            self._remove(key, "size", "evictions")
        return len(victims)

    def resize(self, maxsize: int | None) -> None:
        self.maxsize = maxsize
        self._shrink()

    def clear(self) -> None:
        for key in list(self.items):
            self._remove(key, "explicit", "removals", late=True)

    def invalidate(self, tag: Any) -> None:
        for key, item in list(self.items.items()):
            if tag in item.tags:
                self.tagged = True
                self._remove(key, "explicit", "removals", late=True)
