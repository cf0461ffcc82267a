# The invariant checker behind Cache._check: what the essays in _struct/ promise, looked at.

cdef int check(Cache self) except -1:
    cdef uint64_t seen = 0, cells = 0, i, timed = 0, listed = 0, nodes = 0, refs = 0, wide = 0
    cdef size_t d, n
    cdef Segment *s
    cdef Entry *p
    cdef Extra *x
    cdef Timing *t
    cdef uint32_t e, tag, b, before, first
    cdef int64_t total = 0
    lock(self)
    n = <size_t>1 << self.table.bits
    try:
        # the index names every live entry once, reachable from its home cell
        d = 0
        while d < n:
            s = &self.table.dir[d]
            cells = 0
            for i in range(<uint64_t>s.mask + 1):
                if s.cells[i]:
                    cells += 1
                    e = <uint32_t>s.cells[i]
                    tag = <uint32_t>(s.cells[i] >> 32)
                    must(slab_walk(&self.slab, e) == e, "a cell names a free entry")
                    p = slab_entry(&self.slab, e)
                    must(p.hash >> 32 == tag, "a cell's tag is not its entry's")
                    must(table_segment(&self.table, tag) - self.table.dir - d
                         < <size_t>1 << (self.table.bits - s.depth), "a cell is in a foreign segment")
                    b = tag & s.mask
                    while b != i:
                        must(s.cells[b] != 0, "a hole before a cell")
                        b = (b + 1) & s.mask
            must((s.cells - 1)[0] == cells, "a segment's count is wrong")
            must(s.mask == 0 or cells <= s.mask, "a segment is full")
            seen += cells
            d += <size_t>1 << (self.table.bits - s.depth)
        must(seen == self.count, "the index and the count differ")
        # the slab holds as many, with their weights, tags and deadlines
        seen = 0
        e = slab_walk(&self.slab, 1)
        while e != NIL:
            seen += 1
            p = slab_entry(&self.slab, e)
            must(p.value != NULL, "an entry without value")
            total += weight_of(self, e)
            if long_exact(p.key) and long_wide(p.key):
                wide += 1
            t = slab_timing(&self.slab, e)
            if t != NULL:
                must(self.flags & HAS_TIME, "a deadline in a cache without time")
                must((t.prev == NIL) == (t.next == NIL), "an entry is half in the wheel")
                if t.deadline != NEVER:
                    must(t.prev != NIL, "a deadline that is not in the wheel")
                timed += t.prev != NIL
            x = slab_extra(&self.slab, e)
            if x != NULL:
                b = x.tags
                while b:
                    nodes += 1
                    must(self.marks.nodes[b].entry == e, "a tag node of another entry")
                    b = self.marks.nodes[b].sibling
            e = slab_walk(&self.slab, e + 1)
        must(seen == self.count, "the slab and the count differ")
        must(total == self.total, "the weights do not add up")
        must(total <= self.bound, "over the bound")
        must(wide == self.wide, "wide ints are miscounted")
        # the policy's order has each entry once, the same both ways
        seen = 0
        before = NIL
        e = policy_victim(&self.order)
        while e != NIL:
            must(slab_walk(&self.slab, e) == e, "the order names a free entry")
            seen += 1
            must(seen <= self.count, "the order is longer than the count")
            if before != NIL:
                must(policy_before(&self.order, &self.slab, e) == before, "the order is torn")
            before = e
            e = policy_after(&self.order, &self.slab, e)
        must(seen == self.count, "the order and the count differ")
        must(before == policy_hottest(&self.order), "the order's ends are wrong")
        # the wheel's lists have each scheduled entry once
        if self.wheel != NULL:
            listed = check_list(self, &self.wheel.pending, PENDING) + check_list(self, &self.wheel.soon, SOON)
            for d in range(<size_t>LEVELS):
                for i in range(64):
                    if self.wheel.levels[d] != NULL:
                        must((self.wheel.levels[d][i].head != NIL) == ((self.wheel.used[d] >> i) & 1),
                             "the wheel's map is wrong")
                        listed += check_list(self, &self.wheel.levels[d][i], LISTS + <uint32_t>(64 * d + i))
            must(listed == timed, "the wheel's lists and the deadlines differ")
        if self.marks != NULL:
            must(nodes == self.marks.nodes_used, "tag nodes are lost")
            for b in range(1, self.marks.records_fresh):
                if self.marks.records[b].name != NULL:
                    refs += self.marks.records[b].refs
                    must(self.tag_records.get(<object>self.marks.records[b].name) == b, "a tag is misnamed")
                    first = self.marks.records[b].head
                    while first:
                        must(self.marks.nodes[first].record == b, "a tag's list names another tag")
                        first = self.marks.nodes[first].next
            must(refs >= nodes, "tag references are lost")
        must(self.tracked == bool(gc_is_tracked(<PyObject*>self)), "the collector was not told")
    finally:
        unlock(self)
    return 0


cdef int must(bint holds, str otherwise) except -1:
    if not holds:
        raise AssertionError(otherwise)
    return 0


cdef uint64_t check_list(Cache self, TimeList *q, uint32_t number) except? 0xFFFFFFFFFFFFFFFFu:
    cdef uint64_t n = 0
    cdef uint32_t e = q.head, before = number
    cdef Timing *t
    while e != NIL and e < LISTS:
        must(slab_walk(&self.slab, e) == e, "the wheel names a free entry")
        t = slab_timing(&self.slab, e)
        must(t.prev == before, "a list of the wheel is torn")
        n += 1
        must(n <= self.count, "a list of the wheel is a ring")
        before = e
        e = t.next
    must(e == number if n else e == NIL, "a list of the wheel ends in another")
    must(q.tail == (before if n else NIL), "a list of the wheel has the wrong tail")
    return n
