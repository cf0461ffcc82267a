# Storing: put, in general.

cdef inline void defaults(Cache self, Options *o) noexcept:
    o.ttl = self.default_ttl
    o.tti = self.default_tti
    o.weight = 1
    o.ntags = 0
    o.tags = NULL
    o.load = False
    o.fenced = NULL
    o.cost = -1.0
    o.soft = False


cdef bint reserve(Cache self, PyObject *key, uint64_t hash, Options *o, uint32_t old,
                  int64_t deadline) noexcept:
    """Make sure that the stores of put() succeed. False: no memory, nothing changed that a user could see."""
    cdef uint32_t e = old
    if old == NIL:
        if not (slab_reserve(&self.slab, policy_wants_aux(self.order.kind))
                and table_reserve(&self.table, <uint32_t>(hash >> 32)) and policy_reserve(&self.order)):
            return False
        e = slab_next(&self.slab)
        if long_exact(key) and unlikely(long_wide(key)) and self.wide_filter == NULL:
            self.wide_filter = <uint32_t*>mem_zeroed(&self.own_bytes, WIDE_FILTER * sizeof(uint32_t))
            if self.wide_filter == NULL:
                return False
    if deadline != NEVER and not slab_need(&self.slab, e, TIMING):
        return False
    if (o.weight != 1 or o.tti != NEVER or o.ntags) and not slab_need(&self.slab, e, EXTRA):
        return False
    if o.ntags and not tags_reserve_nodes(self.marks, o.ntags):
        return False
    if o.soft and not slab_need(&self.slab, e, SOFT):
        return False
    return not self.flags & HAS_DETAIL or slab_need(&self.slab, e, DETAIL)


cdef inline void set_deadline(Cache self, uint32_t e, int64_t deadline, int64_t now) noexcept:
    """Only after slab_need."""
    cdef Timing *t = slab_timing(&self.slab, e)
    if t == NULL:
        return                      # its chunk knows of no deadlines, and this is none
    if t.prev != NIL:
        if deadline >= t.deadline and deadline != NEVER:
            t.deadline = deadline   # moved later: the wheel finds out when the entry comes up
            return
        wheel_cancel(self.wheel, &self.slab, e)
    t.deadline = deadline
    if deadline != NEVER:
        wheel_schedule(self.wheel, &self.slab, e, deadline, now)


cdef void write_extras(Cache self, uint32_t e, Options *o, int64_t deadline, int64_t hard,
                       int64_t fresh, int64_t now) noexcept:
    """What of the entry lies in side arrays, for a new entry or an overwritten one."""
    cdef Extra *x
    cdef Detail *d
    cdef Soft *s
    cdef uint32_t i
    if self.flags & HAS_TIME and slab_side(&self.slab, e, TIMING) != NULL:
        set_deadline(self, e, deadline, now)
    if self.flags & HAS_EXTRA:
        x = slab_extra(&self.slab, e)
        if x != NULL:
            x.idle = o.tti
            x.hard = hard
            x.weight = o.weight
            if x.tags:
                tags_detach(self.marks, &x.tags)
            for i in range(o.ntags):
                tags_attach(self.marks, &x.tags, e, o.tags[i], self.marks.sequence)
    d = slab_detail(&self.slab, e) if self.flags & HAS_DETAIL else NULL
    if d != NULL:
        d.born = now
        d.hits = 0
        d.cost = o.cost
    s = slab_soft(&self.slab, e) if self.flags & HAS_SOFT else NULL
    if s != NULL:
        s.fresh = s.due = NEVER
        if o.soft:
            s.cost = o.cost
            if o.failure:
                s.fresh = NEVER_FRESH
            elif fresh != NEVER:
                s.fresh = fresh
                # not before now, however long the lead
                s.due = fresh if o.lead <= 0 else max(fresh - o.lead, now)


cdef inline int64_t weight_of(Cache self, uint32_t e) noexcept:
    cdef Extra *x = slab_extra(&self.slab, e) if self.flags & HAS_EXTRA else NULL
    return x.weight if x != NULL else 1


cdef inline void note_objects(Cache self, PyObject *key, PyObject *value) noexcept:
    """The collector learns of the cache before the first object that it follows becomes visible."""
    if not self.gc_values and is_gc(value):
        self.gc_values = True
        track(self)
    if not self.gc_keys and is_gc(key):
        self.gc_keys = True
        track(self)


cdef void track(Cache self) noexcept:
    if not self.tracked:
        self.tracked = True
        gc_track(<PyObject*>self)


cdef int put(Cache self, PyObject *key, uint64_t hash, PyObject *value, Options *o, int64_t now,
             int mode) except -1:
    """1: stored. 0: not, since there is one (ADD), it is too heavy, it would be dead on arrival, or
    its load was fenced; then nothing else has changed, but that SET takes the old one away."""
    cdef Bin bin
    cdef uint32_t e, loser
    cdef int64_t deadline = NEVER, hard = NEVER, fresh = NEVER, old_weight
    cdef int cause, result
    cdef bint more
    cdef Entry *p
    bin.n = 0
    lock(self)
    if unlikely(self.flags & HAS_TIME):
        hard = fresh = lifetime_from(self, now, o.ttl)
        if o.soft and hard != NEVER:
            hard = hard + o.extra if hard <= INT64_MAX - o.extra else NEVER
        deadline = min(hard, later(self, now, o.tti))
    while True:
        e = find(self, key, hash)
        if unlikely(self.flags & MORTAL) and e != NIL and dead(self, e, now):
            remove(self, e, cause_of_death(self, e, now), &bin)
            e = NIL
        result = 0
        if unlikely(o.load) and load_was_fenced(self, hash, o):
            self.fenced += 1
            break
        if mode == ADD and e != NIL:
            break
        if not o.load:
            fence_if_loading(self, hash)
        if unlikely(o.weight > self.bound or self.bound == 0 or o.ttl == 0 or o.tti == 0):
            if e != NIL:
                remove(self, e, SIZE if o.weight > self.bound else EXPLICIT, &bin)
            break
        old_weight = weight_of(self, e) if e != NIL else 0
        if unlikely(self.unbounded and self.total - old_weight > INT64_MAX - o.weight):
            unlock(self)
            settle(self, &bin)
            raise OverflowError("the weights of a cache must add up to at most 2**63 - 1")
        while self.total - old_weight > self.bound - o.weight and bin.n < BIN - 1:
            loser = victim(self, now, e, &cause)
            remove(self, loser, cause, &bin)
        if unlikely(self.total - old_weight > self.bound - o.weight):
            # the bin is full: release what is in it, and look again
            unlock(self)
            settle(self, &bin)
            lock(self)
            continue
        if unlikely(e == NIL and slab_full(&self.slab)):
            unlock(self)
            settle(self, &bin)
            raise OverflowError(f"a cache holds at most {MAX_ENTRIES} entries")
        if unlikely(not reserve(self, key, hash, o, e, deadline)):
            unlock(self)
            settle(self, &bin)
            raise MemoryError
        incref(value)
        if e == NIL:
            e = slab_take(&self.slab)
            p = slab_entry(&self.slab, e)
            incref(key)
            p.key = key
            p.value = value
            p.hash = hash
            table_insert(&self.table, <uint32_t>(hash >> 32), e)
            policy_insert(&self.order, &self.slab, e)
            self.count += 1
            self.inserted += 1
            if long_exact(key) and unlikely(long_wide(key)):
                self.wide += 1
                self.wide_filter[mix(<uint64_t>hash_of(key)) >> 56] += 1
        else:
            p = slab_entry(&self.slab, e)
            (&bin.items[bin.n]).key = NULL
            if self.listener is not None:
                incref(p.key)
                (&bin.items[bin.n]).key = p.key
            (&bin.items[bin.n]).value = p.value
            (&bin.items[bin.n]).cause = REPLACED
            bin.n += 1
            self.removed[REPLACED] += 1
            p.value = value
            policy_hit(&self.order, &self.slab, e)
        self.total += o.weight - old_weight
        if unlikely(self.flags):
            write_extras(self, e, o, deadline, hard, fresh, now)
        note_objects(self, key, value)
        result = 1
        break
    more = unlikely(self.flags & MORTAL) and unlikely(chores(self, now))
    unlock(self)
    if bin.n:
        settle(self, &bin)
    if more:
        poll(self, now)
    return result
