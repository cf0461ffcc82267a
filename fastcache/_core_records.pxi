# Records that Cache hands out (Entry, CacheStats, CacheInfo), pickling, and the size in bytes.

from collections import namedtuple as _namedtuple


class EntryRecord(_namedtuple("Entry", "value ttl tti weight tags age hits load_cost")):
    """What a Cache knows of an entry.

    value; ttl: seconds left, None for ever; tti: its time-to-idle in seconds or None; weight;
    tags: a frozenset; and where the cache has details=True (otherwise None) age: seconds since it
    was stored, hits, load_cost: seconds that its factory took, None if it was not loaded.
    """
    __slots__ = ()


class CacheInfo(_namedtuple("CacheInfo", "hits misses maxsize currsize")):
    """What cache_info() returns, as in functools."""
    __slots__ = ()


class CacheStats(_namedtuple("CacheStats", (
        "hits", "misses", "loads", "load_failures", "load_time", "inserts", "removals",
        "replacements", "evictions", "expirations", "fenced", "listener_errors"))):
    """Counts of a Cache since it was made or reset.

    hits, misses: of get, [], get_many, setdefault and get_or_set. loads, load_failures: calls of
    factories; load_time: seconds spent in them. inserts: new keys stored. By cause: removals
    (explicit), replacements, evictions (size), expirations. fenced: loads whose value was not
    stored, since the key was changed meanwhile. listener_errors: exceptions of the listener.
    """
    __slots__ = ()

    @property
    def hit_rate(self):
        """hits / (hits + misses); 0.0 before the first request."""
        requests = self.hits + self.misses
        return self.hits / requests if requests else 0.0


# "Entry" is a C struct in this module
EntryRecord.__name__ = EntryRecord.__qualname__ = "Entry"
EntryRecord.__module__ = CacheInfo.__module__ = CacheStats.__module__ = "fastcache"


cdef object stats_record(Cache self):
    return CacheStats(self.hits, self.misses, self.loads, self.load_failures, self.load_time,
                      self.inserted - self.inserted_before, self.removed[EXPLICIT],
                      self.removed[REPLACED], self.removed[SIZE], self.removed[EXPIRED],
                      self.fenced, self.listener_errors)


cdef void stats_reset(Cache self) noexcept:
    self.hits = self.misses = self.loads = self.load_failures = 0
    self.fenced = self.listener_errors = 0
    self.load_time = 0.0
    self.inserted_before = self.inserted
    memset(self.removed, 0, sizeof(self.removed))


cdef object entry_record(Cache self, uint32_t e, int64_t now):
    """Called locked; unlocks."""
    cdef Timing *t = slab_timing(&self.slab, e)
    cdef Extra *x = slab_extra(&self.slab, e)
    cdef Detail *d = slab_detail(&self.slab, e) if self.flags & HAS_DETAIL else NULL
    cdef Timing timing
    cdef Detail detail
    cdef int64_t idle = NEVER, weight = 1
    cdef bint detailed = d != NULL
    cdef object value = <object>slab_entry(&self.slab, e).value
    cdef object tags = ()
    memset(&detail, 0, sizeof(detail))
    timing.deadline = t.deadline if t != NULL else NEVER
    if x != NULL:
        idle = x.idle
        weight = x.weight
        if x.tags:
            tags = tags_of(self, x.tags)
    if detailed:
        detail = d[0]
    unlock(self)
    return EntryRecord(
        value,
        None if timing.deadline == NEVER else seconds(timing.deadline - now),
        seconds_or_none(idle), weight, frozenset(tags),
        seconds(now - detail.born) if detailed else None,
        detail.hits if detailed else None,
        detail.cost if detailed and detail.cost >= 0 else None)


cdef list tags_of(Cache self, uint32_t first):
    cdef list tags = []
    while first:
        tags.append(<object>self.marks.records[self.marks.nodes[first].record].name)
        first = self.marks.nodes[first].sibling
    return tags


cdef size_t bytes_of(Cache self):
    cdef size_t n = type_of(<PyObject*>self).tp_basicsize + self.own_bytes + self.table.nbytes + \
        self.slab.nbytes + self.order.lfu.nbytes
    if self.wheel != NULL:
        n += self.wheel.nbytes
    if self.marks != NULL:
        n += self.marks.nbytes
    return n


# ---- pickling --------------------------------------------------------------------------------

def _restore(cls, config):
    """An empty cache of class cls, made without its __init__."""
    cdef Cache cache = cls.__new__(cls)
    Cache.__init__(cache, **config)
    return cache


cdef dict config_of(Cache self):
    return {
        "maxsize": self.maxsize, "policy": self.policy,
        "ttl": seconds_or_none(self.default_ttl), "tti": seconds_or_none(self.default_tti),
        "jitter": self.jitter, "weigher": self.weigher, "listener": self.listener,
        "clock": self.clock, "details": bool(self.flags & HAS_DETAIL), "name": self.name,
    }


cdef tuple state_of(Cache self):
    """(rows, attributes of a subclass's instance or None); a row is (key, value, ttl left, tti,
    weight, tags, count), the coldest first. A value that is dead is left out."""
    cdef list rows = []
    cdef object key, value
    cdef uint64_t hash
    cdef uint32_t e
    cdef int64_t now = time_if_any(self), left
    cdef Timing *t
    cdef Extra *x
    for key in walk_order(self, None, False):
        mix_key(<PyObject*>key, &hash)
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e == NIL or dead(self, e, now):
            unlock(self)
            continue
        value = <object>slab_entry(&self.slab, e).value
        t = slab_timing(&self.slab, e)
        x = slab_extra(&self.slab, e)
        left = NEVER
        if x != NULL and x.idle != NEVER:
            left = x.hard if x.hard == NEVER else x.hard - now
        elif t != NULL and t.deadline != NEVER:
            left = t.deadline - now
        row = (key, value, seconds_or_none(left), seconds_or_none(x.idle) if x != NULL else None,
               x.weight if x != NULL else 1, tags_of(self, x.tags) if x != NULL else [],
               policy_count(&self.order, &self.slab, e))
        unlock(self)
        rows.append(row)
    return rows, getattr(self, "__dict__", None)


cdef int set_state(Cache self, object state) except -1:
    cdef object key, value, ttl, tti, weight, tags, count
    cdef uint64_t hash
    cdef uint32_t e
    cdef double jitter = self.jitter
    rows, attributes = state
    if attributes:
        self.__dict__.update(attributes)
    self.jitter = 0.0           # what was left has been shortened already
    try:
        for key, value, ttl, tti, weight, tags, count in rows:
            store(self, key, value, ttl, tti, weight, tags, SET)
            if self.order.kind == LFU and count > 1:
                mix_key(<PyObject*>key, &hash)
                lock(self)
                e = find(self, <PyObject*>key, hash)
                if e != NIL and policy_reserve(&self.order):
                    policy_remove(&self.order, &self.slab, e)
                    policy_restore(&self.order, &self.slab, e, count)
                unlock(self)
    finally:
        self.jitter = jitter
    return 0
