"""Tags: O(1) invalidation of all entries that carry a tag.

Layout. A record per tag in use: the sequence number of its last invalidation, and a list of
nodes, one for each entry that carries the tag. The nodes of one entry are chained from
Extra.tags. A node remembers the sequence number that was current when its entry's load started.
Invalidating a tag takes the next number of the cache-wide sequence, writes it into the record and
hands the record's whole list over to the list `dead`, from which the engine reclaims entries a
few at a time.

Invariants. A node is in `dead` exactly when its number is below its record's, and then its entry
is dead, whether or not it has been reclaimed. `refs` of a record counts its nodes and the loads
that hold it; at 0 the record goes to the list `unused`, from which the engine takes its name out of
the dictionary: a tag that nothing uses leaves no trace.

Cost. attach, detach, is_dead: O(tags of the entry); invalidate: O(1). Memory: 32 bytes per tag of an
entry, 48 per tag in use.

Who may call: the holder of the cache's lock. Names are borrowed from the dictionary's keys.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastcache._struct.mem cimport mem_free, mem_grow


cdef struct TagNode:
    uint64_t sequence
    uint32_t record
    uint32_t entry
    uint32_t sibling    # the entry's next tag; chains free nodes
    uint32_t prev
    uint32_t next


cdef struct TagRecord:
    PyObject *name
    uint64_t invalidated
    uint64_t refs
    uint32_t head
    uint32_t tail
    uint32_t chain      # free records, or `unused`
    bint queued         # in `unused`


cdef struct Tags:
    uint64_t sequence
    TagRecord *records
    TagNode *nodes
    uint32_t records_cap
    uint32_t records_fresh
    uint32_t records_free
    uint32_t nodes_cap
    uint32_t nodes_fresh
    uint32_t nodes_free
    uint32_t nodes_used
    uint32_t dead_head
    uint32_t dead_tail
    uint32_t unused
    size_t nbytes


cdef inline void tags_init(Tags *t) noexcept:
    memset(t, 0, sizeof(Tags))


cdef inline bint tags_reserve_record(Tags *t) noexcept:
    cdef uint32_t cap
    cdef void *p
    if t.records_free or (t.records_fresh and t.records_fresh < t.records_cap):
        return True
    cap = t.records_cap * 2 if t.records_cap else 4
    p = mem_grow(&t.nbytes, t.records, t.records_cap * sizeof(TagRecord), cap * sizeof(TagRecord))
    if p == NULL:
        return False
    t.records = <TagRecord*>p
    t.records_cap = cap
    if t.records_fresh == 0:
        t.records_fresh = 1
    return True


cdef inline uint32_t tags_new_record(Tags *t, PyObject *name) noexcept:
    """Only after tags_reserve_record. The record has no reference yet."""
    cdef uint32_t r = t.records_free
    if r:
        t.records_free = t.records[r].chain
    else:
        r = t.records_fresh
        t.records_fresh += 1
    memset(&t.records[r], 0, sizeof(TagRecord))
    t.records[r].name = name
    return r


cdef inline void tags_unref(Tags *t, uint32_t r) noexcept:
    cdef TagRecord *p = &t.records[r]
    p.refs -= 1
    if p.refs == 0 and not p.queued:
        p.queued = True
        p.chain = t.unused
        t.unused = r


cdef inline uint32_t tags_take_unused(Tags *t) noexcept:
    """A record without references, whose name the caller takes out of the dictionary before it
    calls tags_drop_record; 0: none."""
    cdef uint32_t r
    while t.unused:
        r = t.unused
        t.unused = t.records[r].chain
        t.records[r].queued = False
        if t.records[r].refs == 0:
            return r
    return 0


cdef inline void tags_drop_record(Tags *t, uint32_t r) noexcept:
    t.records[r].name = NULL
    t.records[r].chain = t.records_free
    t.records_free = r


cdef inline bint tags_reserve_nodes(Tags *t, uint32_t n) noexcept:
    """Make sure that n attaches succeed. False: no memory, nothing changed."""
    cdef uint64_t cap, want = <uint64_t>t.nodes_used + n + 1
    cdef void *p
    if want <= t.nodes_cap:
        return True
    cap = t.nodes_cap * 2 if t.nodes_cap else 8
    while cap < want:
        cap *= 2
    if cap > 0xFFFFFFFFu:
        return False
    p = mem_grow(&t.nbytes, t.nodes, t.nodes_cap * sizeof(TagNode), cap * sizeof(TagNode))
    if p == NULL:
        return False
    t.nodes = <TagNode*>p
    t.nodes_cap = <uint32_t>cap
    if t.nodes_fresh == 0:
        t.nodes_fresh = 1
    return True


cdef inline void tags_push(Tags *t, uint32_t *head, uint32_t *tail, uint32_t n) noexcept:
    t.nodes[n].prev = tail[0]
    t.nodes[n].next = 0
    if tail[0]:
        t.nodes[tail[0]].next = n
    else:
        head[0] = n
    tail[0] = n


cdef inline void tags_attach(Tags *t, uint32_t *first, uint32_t e, uint32_t r, uint64_t sequence) noexcept:
    """Entry e, whose chain starts at *first, carries tag r. Only after tags_reserve_nodes, and only
    where the tag has not been invalidated since `sequence`."""
    cdef uint32_t n = t.nodes_free
    cdef TagRecord *p = &t.records[r]
    if n:
        t.nodes_free = t.nodes[n].sibling
    else:
        n = t.nodes_fresh
        t.nodes_fresh += 1
    t.nodes_used += 1
    t.nodes[n].sequence = sequence
    t.nodes[n].record = r
    t.nodes[n].entry = e
    t.nodes[n].sibling = first[0]
    first[0] = n
    p.refs += 1
    tags_push(t, &p.head, &p.tail, n)


cdef inline void tags_detach(Tags *t, uint32_t *first) noexcept:
    """All tags of the entry whose chain starts at *first go."""
    cdef uint32_t n = first[0], sibling
    cdef TagNode *p
    cdef TagRecord *r
    cdef bint dead
    while n:
        p = &t.nodes[n]
        r = &t.records[p.record]
        dead = p.sequence < r.invalidated
        if p.prev:
            t.nodes[p.prev].next = p.next
        elif dead:
            t.dead_head = p.next
        else:
            r.head = p.next
        if p.next:
            t.nodes[p.next].prev = p.prev
        elif dead:
            t.dead_tail = p.prev
        else:
            r.tail = p.prev
        sibling = p.sibling
        tags_unref(t, p.record)
        p.sibling = t.nodes_free
        t.nodes_free = n
        t.nodes_used -= 1
        n = sibling
    first[0] = 0


cdef inline bint tags_is_dead(const Tags *t, uint32_t first) noexcept nogil:
    while first:
        if t.nodes[first].sequence < t.records[t.nodes[first].record].invalidated:
            return True
        first = t.nodes[first].sibling
    return False


cdef inline uint64_t tags_invalidate(Tags *t, uint32_t r) noexcept:
    cdef TagRecord *p = &t.records[r]
    t.sequence += 1
    p.invalidated = t.sequence
    if p.head:
        t.nodes[p.head].prev = t.dead_tail
        if t.dead_tail:
            t.nodes[t.dead_tail].next = p.head
        else:
            t.dead_head = p.head
        t.dead_tail = p.tail
        p.head = p.tail = 0
    return t.sequence


cdef inline void tags_free_nodes(Tags *t) noexcept:
    """Every entry goes at once: all nodes are dropped, records that loads hold stay. O(tags)."""
    cdef uint32_t n, r
    for r in range(1, t.records_fresh):
        if t.records[r].name != NULL:
            n = t.records[r].head
            while n:
                tags_unref(t, r)
                n = t.nodes[n].next
            t.records[r].head = t.records[r].tail = 0
    n = t.dead_head
    while n:
        tags_unref(t, t.nodes[n].record)
        n = t.nodes[n].next
    mem_free(&t.nbytes, t.nodes, t.nodes_cap * sizeof(TagNode))
    t.nodes = NULL
    t.nodes_cap = t.nodes_fresh = t.nodes_free = t.nodes_used = 0
    t.dead_head = t.dead_tail = 0


cdef inline void tags_free(Tags *t) noexcept:
    mem_free(&t.nbytes, t.records, t.records_cap * sizeof(TagRecord))
    mem_free(&t.nbytes, t.nodes, t.nodes_cap * sizeof(TagNode))
    tags_init(t)
