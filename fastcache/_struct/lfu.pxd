"""Least frequently used, exact and O(1): a list of counts, and a queue of entries for each.

Layout. Bucket = one count that some entry has now; buckets are linked in ascending order of
count, in an array of their own. Number 0 is none: it closes the list to a ring, so that the
lowest count is behind it and the highest before. Aux names its bucket; within a bucket entries queue in the order in which they reached the count: the first one is the victim among
equals. Counts are kept only while an entry is cached.

An entry alone in its bucket takes the bucket with it when the next count is free, so a cache
whose hits go to few keys makes no buckets at all.

Cost. Every verb O(1); memory: 24 bytes per distinct count. Source: Ketan Shah, Anirban Mitra &
Dhruv Matani 2010, "An O(1) algorithm for implementing the LFU cache eviction scheme".
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastcache._struct.entry cimport NIL, Aux, Entry, unlikely
from fastcache._struct.mem cimport mem_free, mem_grow
from fastcache._struct.order cimport Order, order_push_tail, order_unlink
from fastcache._struct.slab cimport Slab, slab_aux, slab_entry


cdef struct Bucket:
    uint64_t count
    Order queue         # head: reached the count first
    uint32_t prev       # lower count, or 0
    uint32_t next       # higher count, or 0; chains unused buckets


cdef struct Lfu:
    Bucket *buckets
    uint32_t cap
    uint32_t fresh      # buckets from here on have never been used
    uint32_t free


cdef inline void lfu_init(Lfu *f) noexcept:
    memset(f, 0, sizeof(Lfu))


cdef inline size_t lfu_nbytes(const Lfu *f) noexcept nogil:
    return f.cap * sizeof(Bucket)


cdef inline bint lfu_reserve(Lfu *f) noexcept:
    """Make sure that the next bucket can be made. False: no memory, nothing changed."""
    cdef uint32_t cap
    cdef size_t account = lfu_nbytes(f)
    cdef void *p
    if f.free != 0 or (f.fresh != 0 and f.fresh < f.cap):
        return True
    cap = f.cap * 2 if f.cap else 4
    p = mem_grow(&account, f.buckets, account, cap * sizeof(Bucket))
    if p == NULL:
        return False
    f.buckets = <Bucket*>p
    f.cap = cap
    if f.fresh == 0:
        f.fresh = 1
        memset(f.buckets, 0, sizeof(Bucket))
        f.buckets[0].queue.head = f.buckets[0].queue.tail = NIL
    return True


cdef inline uint32_t lfu_bucket_after(Lfu *f, uint32_t before, uint64_t count) noexcept:
    """A new bucket behind `before`. Only after lfu_reserve."""
    cdef uint32_t b = f.free
    cdef Bucket *p
    if b:
        f.free = f.buckets[b].next
    else:
        b = f.fresh
        f.fresh += 1
    p = &f.buckets[b]
    p.count = count
    p.queue.head = p.queue.tail = NIL
    p.prev = before
    p.next = f.buckets[before].next
    f.buckets[before].next = b
    f.buckets[p.next].prev = b
    return b


cdef inline void lfu_bucket_drop(Lfu *f, uint32_t b) noexcept:
    cdef Bucket *p = &f.buckets[b]
    f.buckets[p.prev].next = p.next
    f.buckets[p.next].prev = p.prev
    p.next = f.free
    f.free = b


cdef inline void lfu_enter(Lfu *f, Slab *s, uint32_t e, uint64_t count) noexcept:
    """Entry e starts at `count`, as the last to reach it. Only after lfu_reserve.
    O(1) for count 1; otherwise O(distinct counts), for restoring a pickled cache."""
    cdef uint32_t before = 0, b = f.buckets[0].next
    while b and f.buckets[b].count < count:
        before = b
        b = f.buckets[b].next
    if b == 0 or f.buckets[b].count != count:
        b = lfu_bucket_after(f, before, count)
    slab_aux(s, e)[0] = b
    order_push_tail(&f.buckets[b].queue, s, e)


cdef inline void lfu_leave(Lfu *f, Slab *s, uint32_t e) noexcept:
    cdef uint32_t b = slab_aux(s, e)[0]
    order_unlink(&f.buckets[b].queue, s, e)
    if f.buckets[b].queue.head == NIL:
        lfu_bucket_drop(f, b)


cdef inline bint lfu_bump_quickly(Lfu *f, Slab *s, uint32_t e) noexcept:
    """One more use; or False, and nothing changed, where a bucket has to come or go."""
    cdef Entry *p = slab_entry(s, e)
    cdef Aux *aux = slab_aux(s, e)
    cdef Bucket *own = &f.buckets[aux[0]]
    cdef Bucket *higher = &f.buckets[own.next]
    cdef uint32_t prev = p.prev, next = p.next, tail
    if unlikely(own.next == 0 or higher.count != own.count + 1 or prev | next == NIL):
        return False
    aux[0] = own.next
    # out of a queue that is not empty without it, and to the tail of another
    if prev != NIL:
        slab_entry(s, prev).next = next
    else:
        own.queue.head = next
    if next != NIL:
        slab_entry(s, next).prev = prev
    else:
        own.queue.tail = prev
    tail = higher.queue.tail
    slab_entry(s, tail).next = e
    p.prev = tail
    p.next = NIL
    higher.queue.tail = e
    return True


cdef inline void lfu_bump_apart(Lfu *f, Slab *s, uint32_t e) noexcept:
    """One more use, in general. Where no memory for one can be had the count stays,
    since a hit must not fail."""
    cdef Entry *p = slab_entry(s, e)
    cdef uint32_t b = slab_aux(s, e)[0], n = f.buckets[b].next
    cdef uint64_t count = f.buckets[b].count + 1
    if n == 0 or f.buckets[n].count != count:
        if p.prev == NIL and p.next == NIL:
            f.buckets[b].count = count
            return
        if not lfu_reserve(f):
            return
        n = lfu_bucket_after(f, b, count)
    order_unlink(&f.buckets[b].queue, s, e)
    if f.buckets[b].queue.head == NIL:
        lfu_bucket_drop(f, b)
    slab_aux(s, e)[0] = n
    order_push_tail(&f.buckets[n].queue, s, e)


cdef inline void lfu_bump(Lfu *f, Slab *s, uint32_t e) noexcept:
    """One more use."""
    if not lfu_bump_quickly(f, s, e):
        lfu_bump_apart(f, s, e)


cdef inline void lfu_free(Lfu *f) noexcept:
    cdef size_t account = lfu_nbytes(f)
    mem_free(&account, f.buckets, account)
    lfu_init(f)
