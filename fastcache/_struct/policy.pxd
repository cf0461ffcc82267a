"""The eviction policies: four verbs (on insert, on hit, on remove, choose a victim).

A policy works on entry numbers alone. Adding one: a file of its own with its structure and its
verbs, a member in Policy, a branch in each verb below, a name in POLICY_NAMES of _core.pyx.

lru, fifo: one list (order.pxd), newest at the head. lfu: lfu.pxd.

Cost. Every verb O(1). Who may call: the holder of the cache's lock. No Python object is touched.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastcache._struct.entry cimport NIL, Entry, likely
from fastcache._struct.lfu cimport (
    Lfu, lfu_bump, lfu_enter, lfu_free, lfu_leave, lfu_reserve,
)
from fastcache._struct.order cimport Order, order_push_head, order_to_head, order_unlink
from fastcache._struct.slab cimport Slab, slab_aux, slab_entry

cdef enum:              # Policy.kind
    LRU = 0
    FIFO = 1
    LFU = 2


cdef struct Policy:
    int kind
    Order order
    Lfu lfu


cdef inline void policy_init(Policy *p, int kind) noexcept:
    memset(p, 0, sizeof(Policy))
    p.kind = kind


cdef inline bint policy_wants_aux(int kind) noexcept:
    return kind == LFU


cdef inline bint policy_reserve(Policy *p) noexcept:
    """Make sure that the next policy_insert succeeds. False: no memory, nothing changed."""
    return p.kind != LFU or lfu_reserve(&p.lfu)


cdef inline void policy_insert(Policy *p, Slab *s, uint32_t e) noexcept:
    if p.kind == LFU:
        lfu_enter(&p.lfu, s, e, 1)
    else:
        order_push_head(&p.order, s, e)


cdef inline void policy_hit(Policy *p, Slab *s, uint32_t e) noexcept:
    if likely(p.kind == LRU):
        order_to_head(&p.order, s, e)
    elif p.kind == LFU:
        lfu_bump(&p.lfu, s, e)


cdef inline void policy_remove(Policy *p, Slab *s, uint32_t e) noexcept:
    if p.kind == LFU:
        lfu_leave(&p.lfu, s, e)
    else:
        order_unlink(&p.order, s, e)


cdef inline void policy_recycle(Policy *p, Slab *s, uint32_t e) noexcept:
    """policy_remove of the victim e and policy_insert of the entry that takes its number. Only
    after policy_reserve."""
    if p.kind == LFU:
        lfu_leave(&p.lfu, s, e)
        lfu_enter(&p.lfu, s, e, 1)
    else:
        order_to_head(&p.order, s, e)


cdef inline uint32_t policy_victim(const Policy *p) noexcept:
    """The next to go, or NIL in an empty cache."""
    if p.kind == LFU:
        return p.lfu.buckets[p.lfu.buckets[0].next].queue.head if p.lfu.buckets != NULL else NIL
    return p.order.tail


cdef inline uint32_t policy_after(const Policy *p, const Slab *s, uint32_t e) noexcept:
    """The victim after e: the walk from the coldest to the hottest."""
    cdef Entry *q = slab_entry(s, e)
    cdef uint32_t b
    if p.kind == LFU:
        if q.next != NIL:
            return q.next
        b = p.lfu.buckets[slab_aux(s, e)[0]].next
        return p.lfu.buckets[b].queue.head
    return q.prev


cdef inline uint32_t policy_hottest(const Policy *p) noexcept:
    if p.kind == LFU:
        return p.lfu.buckets[p.lfu.buckets[0].prev].queue.tail if p.lfu.buckets != NULL else NIL
    return p.order.head


cdef inline uint32_t policy_before(const Policy *p, const Slab *s, uint32_t e) noexcept:
    """The walk from the hottest to the coldest."""
    cdef Entry *q = slab_entry(s, e)
    cdef uint32_t b
    if p.kind == LFU:
        if q.prev != NIL:
            return q.prev
        b = p.lfu.buckets[slab_aux(s, e)[0]].prev
        return p.lfu.buckets[b].queue.tail
    return q.next


cdef inline uint64_t policy_count(const Policy *p, const Slab *s, uint32_t e) noexcept:
    """What a pickle keeps of the entry beside its place in the order."""
    return p.lfu.buckets[slab_aux(s, e)[0]].count if p.kind == LFU else 1


cdef inline void policy_restore(Policy *p, Slab *s, uint32_t e, uint64_t count) noexcept:
    """Insert at the hot end of a restored cache. Only after policy_reserve."""
    if p.kind == LFU:
        lfu_enter(&p.lfu, s, e, count)
    else:
        order_push_head(&p.order, s, e)


cdef inline void policy_free(Policy *p) noexcept:
    cdef int kind = p.kind
    lfu_free(&p.lfu)
    policy_init(p, kind)
