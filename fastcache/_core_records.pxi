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
        "replacements", "evictions", "expirations", "fenced", "listener_errors", "stale_hits"))):
    """Counts of a Cache since it was made or reset.

    hits, misses: of get, [], get_many, setdefault and get_or_set. loads, load_failures: calls of
    factories; load_time: seconds spent in them. inserts: new keys stored. By cause: removals
    (explicit), replacements, evictions (size), expirations. fenced: loads whose value was not
    stored, since the key was changed meanwhile. listener_errors: exceptions of the listener.
    stale_hits: those of the hits that `cached` served past their ttl (stale, grace), and kept errors.
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


cdef struct Counts:
    uint64_t hits
    uint64_t misses
    uint64_t count
    uint64_t loads
    uint64_t load_failures
    uint64_t inserts
    uint64_t removed[4]
    uint64_t fenced
    uint64_t listener_errors
    uint64_t stale_hits
    double load_time


cdef Counts counts(Cache self, bint reset) noexcept:
    """All of one moment."""
    cdef Counts c
    lock(self)
    c.hits = self.hits
    c.misses = self.misses
    c.count = self.count
    c.loads = self.loads
    c.load_failures = self.load_failures
    c.inserts = self.inserted - self.inserted_before
    memcpy(c.removed, self.removed, sizeof(c.removed))
    c.fenced = self.fenced
    c.listener_errors = self.listener_errors
    c.stale_hits = self.stale_hits
    c.load_time = self.load_time
    if reset:
        stats_reset(self)
    unlock(self)
    return c


cdef inline uint64_t held(Cache self) noexcept:
    cdef uint64_t n
    lock(self)
    n = self.count
    unlock(self)
    return n


cdef object stats_record(Cache self, bint reset):
    cdef Counts c = counts(self, reset)
    return CacheStats(c.hits, c.misses, c.loads, c.load_failures, c.load_time, c.inserts, c.removed[EXPLICIT],
                      c.removed[REPLACED], c.removed[SIZE], c.removed[EXPIRED], c.fenced, c.listener_errors,
                      c.stale_hits)


cdef void stats_reset(Cache self) noexcept:
    """Locked."""
    self.hits = self.misses = self.loads = self.load_failures = 0
    self.fenced = self.listener_errors = self.stale_hits = 0
    self.load_time = 0.0
    self.inserted_before = self.inserted
    memset(self.removed, 0, sizeof(self.removed))


cdef struct Seen:               # an entry's records, copied while the lock is held
    PyObject *value             # a reference
    int64_t deadline
    int64_t idle
    int64_t hard
    int64_t weight
    uint64_t count              # the policy's
    Detail detail
    bint detailed
    PyObject **tags             # references, ntags of them
    uint32_t ntags


cdef bint see(Cache self, uint32_t e, Seen *seen) noexcept:
    """Copy all that is known of entry e; False: no memory. No object is made under the lock: on
    Python 3.11 that could collect, and a destructor edit the cache. Locked; unlocks."""
    cdef Extra *x = slab_extra(&self.slab, e)
    cdef Soft *s = slab_soft(&self.slab, e) if self.flags & HAS_SOFT else NULL
    cdef Detail *d = slab_detail(&self.slab, e) if self.flags & HAS_DETAIL else NULL
    cdef uint32_t node
    memset(seen, 0, sizeof(Seen))
    seen.deadline = visible_until(self, e)
    seen.idle = x.idle if x != NULL else NEVER
    seen.hard = x.hard if x != NULL else seen.deadline
    if s != NULL:
        seen.hard = min(seen.hard, s.fresh)
    seen.weight = x.weight if x != NULL else 1
    seen.count = policy_count(&self.order, &self.slab, e)
    if d != NULL:
        seen.detail = d[0]
        seen.detailed = True
    node = x.tags if x != NULL else 0
    while node:
        seen.ntags += 1
        node = self.marks.nodes[node].sibling
    if seen.ntags:
        seen.tags = <PyObject**>PyMem_Malloc(seen.ntags * sizeof(PyObject*))
        if seen.tags == NULL:
            unlock(self)
            return False
        seen.ntags = 0
        node = x.tags
        while node:
            seen.tags[seen.ntags] = self.marks.records[self.marks.nodes[node].record].name
            incref(seen.tags[seen.ntags])
            seen.ntags += 1
            node = self.marks.nodes[node].sibling
    seen.value = slab_entry(&self.slab, e).value
    incref(seen.value)
    unlock(self)
    return True


cdef list tags_seen(Seen *seen):
    cdef uint32_t i
    return [<object>seen.tags[i] for i in range(seen.ntags)]


cdef void forget_seen(Seen *seen) noexcept:
    cdef uint32_t i
    for i in range(seen.ntags):
        decref(seen.tags[i])
    PyMem_Free(seen.tags)
    xdecref(seen.value)


cdef object entry_record(Cache self, uint32_t e, int64_t now):
    """Called locked; unlocks."""
    cdef Seen seen
    if not see(self, e, &seen):
        raise MemoryError
    try:
        return EntryRecord(
            <object>seen.value, seconds_until(seen.deadline, now), seconds_or_none(seen.idle), seen.weight,
            frozenset(tags_seen(&seen)),
            seconds(now) - seconds(seen.detail.born) if seen.detailed else None,
            seen.detail.hits if seen.detailed else None,
            seen.detail.cost if seen.detailed and seen.detail.cost >= 0 else None)
    finally:
        forget_seen(&seen)


cdef size_t bytes_of(Cache self):
    cdef size_t n = type_of(<PyObject*>self).tp_basicsize
    lock(self)
    n += self.own_bytes + self.table.nbytes + self.slab.nbytes + lfu_nbytes(&self.order.lfu)
    if self.wheel != NULL:
        n += self.wheel.nbytes
    if self.marks != NULL:
        n += self.marks.nbytes
    unlock(self)
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
        "clock": self.clock, "details": bool(glance(&self.flags) & HAS_DETAIL), "name": self.name,
    }


cdef tuple state_of(Cache self):
    """(rows, what object.__getstate__ says of a subclass's instance); a row is (key, value, ttl left, tti,
    weight, tags, count), the coldest first. A value that is dead is left out."""
    cdef list rows = []
    cdef object key
    cdef uint64_t hash
    cdef uint32_t e
    cdef int64_t now = exact_time_of(self)
    cdef Seen seen
    for key in walk_order(self, None, False):
        mix_key(<PyObject*>key, &hash)
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e == NIL or dead(self, e, now):
            unlock(self)
            continue
        if not see(self, e, &seen):
            raise MemoryError
        try:
            rows.append((
                key, <object>seen.value,
                seconds_until(seen.deadline if seen.idle == NEVER else seen.hard, now),
                seconds_or_none(seen.idle), seen.weight, tags_seen(&seen), seen.count))
        finally:
            forget_seen(&seen)
    return rows, None if type(self) is Cache else object.__getstate__(self)


cdef int set_state(Cache self, object state) except -1:
    cdef object key, value, ttl, tti, weight, tags, count
    cdef uint64_t hash
    cdef uint32_t e
    cdef double jitter = self.jitter
    rows, attributes = state
    attributes, slots = attributes if isinstance(attributes, tuple) else (attributes, None)
    if attributes:
        self.__dict__.update(attributes)
    if slots:
        for key, value in slots.items():
            setattr(self, key, value)
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
    counts(self, True)          # nothing of this was a user's doing
    return 0
