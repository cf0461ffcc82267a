# The cache as a whole: emptying it, and what the cyclic collector sees of it.

# ---- everything at once ----------------------------------------------------------------------

cdef void release_slab(Slab *slab) noexcept:
    """Keys and values of a slab that no cache has any more. Their destructors run here."""
    cdef uint32_t c, i
    cdef Entry *p
    for c in range(slab.nchunks):
        if slab.chunks[c].used:
            p = slab.chunks[c].entries
            for i in range(slab.chunks[c].fresh):
                if p[i].key != NULL:
                    decref(p[i].value)
                    decref(p[i].key)
    slab_free(slab)


cdef void detach(Cache self, Slab *slab) noexcept:
    """The cache is empty at once; what it held is in *slab, the caller's. Locked."""
    slab[0] = self.slab
    slab_init(&self.slab)
    self.slab.limit = slab.limit
    table_free(&self.table)
    policy_free(&self.order)
    if self.wheel != NULL:
        wheel_free(self.wheel)
    if self.marks != NULL:
        tags_free_nodes(self.marks)
    if self.wide_filter != NULL:
        memset(self.wide_filter, 0, WIDE_FILTER * sizeof(uint32_t))
    self.count = 0
    self.total = 0
    self.wide = 0


cdef int wipe(Cache self) except -1:
    """Remove everything. O(n)."""
    cdef Slab slab
    cdef uint32_t e
    cdef Bin bin
    cdef Entry *p
    lock(self)
    self.removed[EXPLICIT] += self.count
    detach(self, &slab)
    unlock(self)
    if self.listener is not None:
        e = slab_walk(&slab, 1)
        bin.n = 0
        while e != NIL:
            # the bin's references are its own; those of the slab go below
            p = slab_entry(&slab, e)
            incref(p.key)
            incref(p.value)
            bin.items[bin.n].key = p.key
            bin.items[bin.n].value = p.value
            bin.items[bin.n].cause = UNTOLD if is_failure(&slab, e) else EXPLICIT
            bin.n += 1
            if bin.n == BIN:
                settle_with_events(self, &bin)
                drop_bin(&bin)
            e = slab_walk(&slab, e + 1)
        settle_with_events(self, &bin)
        drop_bin(&bin)
    release_slab(&slab)
    bin.n = 0
    settle(self, &bin)
    return 0


cdef void drop_bin(Bin *bin) noexcept:
    cdef int i
    for i in range(bin.n):
        decref(bin.items[i].value)
        xdecref(bin.items[i].key)
    bin.n = 0


# The collector's view. `self` may have no reference left here, so it is never assigned.

cdef enum:
    VISIT_AHEAD = 12


cdef int visit_slab(const Slab *slab, bint keys, bint values, visitproc visit, void *arg) noexcept:
    cdef uint32_t c, i, fresh
    cdef Entry *p
    cdef int r
    if not keys and not values:
        return 0
    for c in range(slab.nchunks):
        if slab.chunks[c].used:
            p = slab.chunks[c].entries
            fresh = slab.chunks[c].fresh
            for i in range(fresh):
                if i + VISIT_AHEAD < fresh:     # the objects lie anywhere
                    if keys:
                        prefetch(p[i + VISIT_AHEAD].key)
                    if values:
                        prefetch(p[i + VISIT_AHEAD].value)
                if p[i].key != NULL:
                    if keys and is_gc(p[i].key):
                        r = visit(p[i].key, arg)
                        if r:
                            return r
                    if values and is_gc(p[i].value):
                        r = visit(p[i].value, arg)
                        if r:
                            return r
    return 0


cdef int visit_contents(PyObject *self, visitproc visit, void *arg) noexcept:
    return visit_slab(&(<Cache>self).slab, (<Cache>self).gc_keys, (<Cache>self).gc_values, visit, arg)


cdef void drop_contents(PyObject *self) noexcept:
    cdef Slab slab
    detach(<Cache>self, &slab)
    drop_marks(<Cache>self)     # their names are borrowed from a dict that goes next
    release_slab(&slab)


cdef void drop_marks(Cache self) noexcept:
    if self.marks != NULL:
        tags_free(self.marks)
        mem_free(&self.own_bytes, self.marks, sizeof(Tags))
        self.marks = NULL
        show(&self.flags, self.flags & ~<uint32_t>HAS_TAGS)
