# The plain cases of look and put, each in one stretch of C without a call into user code: exact str
# and int keys (and whatever is the same object), no weights, tags, idle times, details or listener.
# Anything else answers UNSURE, having changed nothing, and goes the general way (_core.pyx).

cdef enum:
    MISS = 0
    HIT = 1
    UNSURE = 2              # of the plain cases
    DUE = 2                 # of look(): a hit of which the loader wants to know


cdef inline int mix_quickly(PyObject *key, uint64_t *hash) except -1:
    """mix_key with the two commonest types in line."""
    cdef int64_t v
    cdef Py_hash_t h
    if str_exact(key):
        h = str_hash(key)
        if likely(h != -1):
            hash[0] = mix(<uint64_t>h)
            return 0
    elif long_exact(key) and long_compact(key, &v):
        hash[0] = mix(<uint64_t>v) if likely(v != -1) else mix(<uint64_t>-2)
        return 0
    return mix_key(key, hash)


cdef inline int probe(Cache self, PyObject *key, uint64_t hash, uint32_t *found) noexcept:
    """HIT with *found, MISS, or UNSURE. Locked."""
    cdef Segment *s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cdef uint64_t *cells = s.cells
    cdef uint32_t mask = s.mask
    cdef uint32_t i = <uint32_t>(hash >> 32) & mask
    cdef uint64_t cell
    cdef Entry *p
    cdef int r
    while True:
        cell = cells[i]
        if cell == 0:
            break
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                found[0] = <uint32_t>cell
                if likely(p.key == key):
                    return HIT
                r = same(p.key, key)
                if likely(r == 1):
                    return HIT
                if r < 0:
                    return UNSURE
        i = (i + 1) & mask
    # an equal float or Decimal may lie elsewhere (find_wide)
    return UNSURE if unlikely(self.wide != 0) or (long_exact(key) and unlikely(long_wide(key))) else MISS


cdef inline bint quick_time(Cache self, int64_t *now) noexcept:
    """Whether look_quickly may serve this cache now; *now is the time, where it matters. Locked."""
    if likely(not self.flags):
        return True
    if self.flags & ~<uint32_t>HAS_SOFT != HAS_TIME or self.clock_kind != CLOCK_COARSE:
        return False
    now[0] = clock_coarse()
    return likely(now[0] < self.wheel.due)


cdef inline void promote(Cache self, uint32_t e) noexcept:
    """policy_hit, with the commonest policy in line."""
    if likely(self.order.kind == LRU):
        order_to_head(&self.order.order, &self.slab, e)
    else:
        promote_further(self, e)


cdef void promote_further(Cache self, uint32_t e) noexcept:
    if self.order.kind == LFU and unlikely(not lfu_bump_quickly(&self.order.lfu, &self.slab, e)):
        promote_apart(self, e)


cdef void promote_apart(Cache self, uint32_t e) noexcept:
    lfu_bump_apart(&self.order.lfu, &self.slab, e)


cdef inline int take_hit(Cache self, uint32_t e, int64_t now, PyObject **value) noexcept:
    cdef Entry *p
    cdef Soft *s
    # long before the wheel is due nothing is dead, so the entry's own deadline is not even fetched
    if unlikely(self.flags) and (self.flags != HAS_TIME or now >= self.wheel.due - COARSE_LAG):
        if unlikely(lapsed(self, e, now)):
            return UNSURE
        if unlikely(self.flags & HAS_SOFT):
            s = slab_soft(&self.slab, e)
            if s != NULL and unlikely(now >= s.due or past(self, s.fresh, now)):
                return UNSURE
    self.hits += 1
    p = slab_entry(&self.slab, e)
    value[0] = p.value
    incref(p.value)
    promote(self, e)
    return HIT


cdef inline void count_miss(Cache self) noexcept:
    lock(self)
    self.misses += 1
    unlock(self)


cdef inline int look_quickly(Cache self, PyObject *key, uint64_t hash, PyObject **value) noexcept:
    """HIT with a new reference in *value, or MISS, counted; or UNSURE."""
    cdef int64_t now = 0
    cdef uint32_t e = NIL
    cdef int r
    lock(self)
    if unlikely(not quick_time(self, &now)):
        unlock(self)
        return UNSURE
    r = probe(self, key, hash, &e)
    if likely(r == HIT):
        r = take_hit(self, e, now, value)
    elif r == MISS:
        self.misses += 1
    unlock(self)
    return r


cdef void shrink_index(Cache self, uint32_t tag) noexcept:
    table_shrink(&self.table, tag)


cdef inline void fetch_victim(Cache self) noexcept:
    """What the next eviction will touch is on its way from memory until then. The record of the entry
    itself has just been linked to its neighbour."""
    cdef Entry *p = slab_entry(&self.slab, self.order.order.tail)
    cdef Segment *s = table_segment(&self.table, <uint32_t>(p.hash >> 32))
    prefetch(s.cells + (<uint32_t>(p.hash >> 32) & s.mask))
    prefetch(p.key)
    prefetch(p.value)


cdef inline int put_quickly(Cache self, PyObject *key, uint64_t hash, PyObject *value, int mode,
                            const uint64_t *since) noexcept:
    """1: stored; 0: there was one (ADD); UNSURE. `since`: of a load, what load_begins gave; else NULL."""
    cdef uint32_t e, tag = <uint32_t>(hash >> 32)
    cdef PyObject *old_key = NULL
    cdef PyObject *old_value = NULL
    cdef int64_t now = 0
    cdef Entry *p
    cdef int r
    lock(self)
    # before the wheel is due nothing is dead, so the policy's victim is the right one
    if self.listener is not None or unlikely(self.bound == 0) or unlikely(not quick_time(self, &now)) or \
            self.jitter != 0.0 or unlikely(self.flags & HAS_SOFT) or \
            unlikely(self.loading != 0 if since == NULL else self.fenced_at != since[0]):
        unlock(self)
        return UNSURE
    r = probe(self, key, hash, &e)
    if r == HIT:
        if mode == ADD:
            unlock(self)
            return 0
        if self.flags and unlikely(slab_side(&self.slab, e, TIMING) == NULL):
            unlock(self)
            return UNSURE           # there is no place for its deadline yet
        p = slab_entry(&self.slab, e)
        old_value = p.value
        incref(value)
        p.value = value
        self.removed[REPLACED] += 1
        promote(self, e)
    elif likely(r == MISS):
        if unlikely(not (segment_has_room(table_segment(&self.table, tag)) and policy_reserve(&self.order))):
            unlock(self)
            return UNSURE
        if self.total >= self.bound:
            # every entry weighs 1, so one makes room for one, and its record is used again
            e = policy_victim(&self.order)
            if self.flags and unlikely(slab_side(&self.slab, e, TIMING) == NULL):
                unlock(self)
                return UNSURE
            p = slab_entry(&self.slab, e)
            old_key = p.key
            old_value = p.value
            if likely(self.order.kind != LFU):
                order_to_head(&self.order.order, &self.slab, e)
            else:
                policy_recycle(&self.order, &self.slab, e)
            if table_erase_cell(&self.table, <uint32_t>(p.hash >> 32), e):
                shrink_index(self, <uint32_t>(p.hash >> 32))
            self.removed[SIZE] += 1
            fetch_victim(self)
        else:
            if unlikely(not slab_has_room(&self.slab)) or (
                    self.flags and slab_side(&self.slab, slab_next(&self.slab), TIMING) == NULL):
                unlock(self)
                return UNSURE
            e = slab_take(&self.slab)
            p = slab_entry(&self.slab, e)
            policy_insert(&self.order, &self.slab, e)
            self.total += 1
            self.count += 1
        self.inserted += 1
        incref(key)
        incref(value)
        p.key = key
        p.value = value
        p.hash = hash
        table_insert(&self.table, tag, e)
    else:
        unlock(self)
        return UNSURE
    if self.flags:
        set_deadline(self, e, later(self, now, self.default_ttl), now)
    note_objects(self, key, value)
    unlock(self)
    # destructors run from here on
    xdecref(old_value)
    xdecref(old_key)
    return 1
