# What a tiered cache needs of its L1: the way of its hits; and loads of many keys at once, fenced without a
# flight each.

cdef class TierFront:
    """The L1 of a tiered cache and the way of its hits. The subclass has `_missed(key, default)`, `_due(key,
    value)` and `_untrusted(key, default)`."""
    cdef readonly Cache l1
    cdef readonly Trust _trust
    cdef object missing         # stands in L1 for what is known not to exist

    def _open(self, Cache l1 not None, missing):
        self.l1 = l1
        self.missing = missing
        self._trust = Trust()

    def get(self, key, default=None, /):
        """The value of key, from L1, L2 or the loader; default where it does not exist. O(1) in L1."""
        cdef PyObject *value
        cdef object found
        cdef int r = look_trusted(self, <PyObject*>key, &value)
        if likely(r == HIT):
            found = owned(value)
            return found if likely(found is not self.missing) else default
        return front_further(self, r, key, value, default)

    def _look(self, key, absent, /):
        """The value of key in L1, if it may be served, MISSING included; else absent. Counted."""
        cdef PyObject *value
        cdef int r = look_trusted(self, <PyObject*>key, &value)
        if r == HIT:
            return owned(value)
        if r == DUE:
            found = owned(value)
            self._due(key, found)
            return found
        return absent


cdef enum:
    UNTRUSTED = 3


cdef inline int look_trusted(TierFront self, PyObject *key, PyObject **value) except -1:
    """HIT or DUE with a new reference in *value, MISS, or UNTRUSTED (not counted)."""
    cdef uint64_t hash
    cdef int r
    if unlikely(self._trust is None):
        raise RuntimeError("this cache is not open")
    if unlikely(not trusted(self._trust)):
        return UNTRUSTED
    mix_quickly(key, &hash)
    r = look_quickly(self.l1, key, hash, value)
    if r == UNSURE:
        r = look(self.l1, key, hash, value)
    return r


cdef object front_further(TierFront self, int r, object key, PyObject *value, object default):
    cdef object found
    if r == MISS:
        return self._missed(key, default)
    if r == UNTRUSTED:
        return self._untrusted(key, default)
    found = owned(value)
    self._due(key, found)
    return found if found is not self.missing else default


# The way of nearly all hits: an exact str or small int, in an L1 of which entries have nothing but deadlines.

cdef extern from *:
    """
    struct __pyx_obj_9fastcache_5_core_TierFront;
    struct __pyx_obj_9fastcache_5_core_Trust;
    #define FC_FRONT struct __pyx_obj_9fastcache_5_core_TierFront *
    static FC_ALWAYS_INLINE int FC_CORE(trusted)(struct __pyx_obj_9fastcache_5_core_Trust *);
    #define raw_is_open(front) ((PyObject *)((FC_FRONT)(front))->_trust != Py_None)
    #define raw_trusted(front) FC_CORE(trusted)(((FC_FRONT)(front))->_trust)
    #define raw_l1(front) ((PyObject *)((FC_FRONT)(front))->l1)
    #define raw_missing(front) (((FC_FRONT)(front))->missing)
    """
    bint raw_is_open(PyObject*) noexcept
    bint raw_trusted(PyObject*) noexcept
    PyObject* raw_l1(PyObject*) noexcept
    PyObject* raw_missing(PyObject*) noexcept

cdef getter further_tier_get


cdef PyObject* tier_get(PyObject *self, PyObject **args, Py_ssize_t nargs, PyObject *names) noexcept:
    cdef uint64_t hash
    cdef PyObject *value
    if unlikely(nargs < 1 or nargs > 2 or names != NULL) or unlikely(not raw_is_open(self)):
        return further_tier_get(self, args, nargs, names)
    if likely(mix_at_once(args[0], &hash)) and likely(raw_trusted(self)) and \
            likely(raw_held_at_once(raw_l1(self), args[0], hash, &value) == HIT):
        if likely(value != raw_missing(self)):
            return value
        decref(value)
        value = <PyObject*>None
        if nargs == 2:
            value = args[1]
        incref(value)
        return value
    return further_tier_get(self, args, nargs, names)


further_tier_get = patch_fastcall(TierFront, "get", tier_get)


# ---- loads of many keys, without a flight each -----------------------------------------------

def watch(Cache cache not None, /):
    """A load of many keys begins; what `land_many` wants. `unwatch` must follow, whatever happens."""
    cdef uint64_t since, sequence
    lock(cache)
    since = load_begins(cache)
    sequence = 0 if cache.marks == NULL else cache.marks.sequence
    unlock(cache)
    return since, sequence


def unwatch(Cache cache not None, /):
    """The load has ended."""
    lock(cache)
    load_ends(cache)
    unlock(cache)


def split(Cache cache not None, keys, /):
    """({key: value} of those that are held, [key, ...] of the others), each once and in their order. Counts as get does."""
    cdef dict held = {}
    cdef list others = []
    cdef set seen = set()
    cdef object key
    cdef uint64_t hash
    cdef PyObject *value
    cdef Py_ssize_t n = 0
    cdef int r
    for key in keys:
        seen.add(key)
        if len(seen) == n:
            continue
        n = len(seen)
        mix_quickly(<PyObject*>key, &hash)
        r = look_quickly(cache, <PyObject*>key, hash, &value)
        if r == UNSURE:
            r = look(cache, <PyObject*>key, hash, &value)
        if r == MISS:
            others.append(key)
        else:
            held[key] = owned(value)
    return held, others


def land_many(Cache cache not None, watched, loaded, /):
    """Store each (key, value, ttl, extra, tags) of a load of many, but for those whose keys or tags were
    removed or set since `watch`. Seconds; extra: kept for the loader so long past the ttl.
    How many were stored. O(len(loaded))."""
    cdef Options o
    cdef uint64_t since = watched[0], sequence = watched[1]
    cdef Py_ssize_t stored = 0
    for key, value, ttl, extra, tags in loaded:
        options(cache, &o, key, value, ttl, UNSET, UNSET, tags)
        try:
            stored += land(cache, <PyObject*>key, <PyObject*>value, &o, since, sequence, duration(extra, "extra"))
        finally:
            drop_tags(cache, &o)
    return stored


def land_read(Cache cache not None, watched, dict found not None, bytes fresh not None, extra, /):
    """The same of what Opener.unpack_many has found, without tags. fresh: ttls, as doubles in the order of `found`."""
    cdef Options o
    cdef uint64_t since = watched[0], sequence = watched[1]
    cdef int64_t more = duration(extra, "extra")
    cdef Py_ssize_t stored = 0, i = 0, n = len(fresh) // sizeof(double)
    cdef double ttl
    for key, value in found.items():
        if i == n:
            break
        memcpy(&ttl, bytes_at(<PyObject*>fresh) + i * sizeof(double), sizeof(double))
        i += 1
        defaults(cache, &o)
        o.ttl = nanoseconds(ttl)
        if cache.weigher is not None:
            weigh(cache, &o, key, value)
        provide(cache, &o)
        stored += land(cache, <PyObject*>key, <PyObject*>value, &o, since, sequence, more)
    return stored


cdef int land(Cache cache, PyObject *key, PyObject *value, Options *o, uint64_t since, uint64_t sequence,
              int64_t extra) except -1:
    """Whether it was stored."""
    cdef uint64_t hash
    mix_quickly(key, &hash)
    o.load = True
    o.since = since
    o.sequence = sequence
    if extra:
        o.soft = True
        o.failure = False
        o.extra = extra
        o.lead = 0
        lock(cache)
        flags_on(cache, HAS_SOFT)
        unlock(cache)
    return put(cache, key, hash, value, o, time_if_any(cache), SET)


def fence_loads(Cache cache not None, /):
    """No load that is under way is stored: nobody knows what it has missed. O(flights)."""
    lock(cache)
    fence_all(cache)
    unlock(cache)
