"""A list of entries in a policy's order, doubly linked by entry numbers.

Layout. Entry.prev points towards the head, Entry.next towards the tail; NIL ends both. New or
renewed entries go in at the head, victims are taken from the tail.

Cost. Every verb O(1). Who may call: the holder of the cache's lock. No Python object is touched.
"""

from libc.stdint cimport uint32_t

from fastcache._struct.entry cimport NIL, Entry, likely
from fastcache._struct.slab cimport Slab, slab_entry


cdef struct Order:
    uint32_t head
    uint32_t tail


cdef inline void order_push_head(Order *o, const Slab *s, uint32_t e) noexcept nogil:
    cdef Entry *p = slab_entry(s, e)
    p.prev = NIL
    p.next = o.head
    if o.head != NIL:
        slab_entry(s, o.head).prev = e
    else:
        o.tail = e
    o.head = e


cdef inline void order_push_tail(Order *o, const Slab *s, uint32_t e) noexcept nogil:
    cdef Entry *p = slab_entry(s, e)
    p.next = NIL
    p.prev = o.tail
    if o.tail != NIL:
        slab_entry(s, o.tail).next = e
    else:
        o.head = e
    o.tail = e


cdef inline void order_unlink(Order *o, const Slab *s, uint32_t e) noexcept nogil:
    cdef Entry *p = slab_entry(s, e)
    if likely(p.prev != NIL):
        slab_entry(s, p.prev).next = p.next
    else:
        o.head = p.next
    if likely(p.next != NIL):
        slab_entry(s, p.next).prev = p.prev
    else:
        o.tail = p.prev


cdef inline void order_cut(Order *o, const Slab *s, const Entry *p) noexcept nogil:
    """order_unlink of what is not the head, so that there is an entry before it."""
    slab_entry(s, p.prev).next = p.next
    if likely(p.next != NIL):
        slab_entry(s, p.next).prev = p.prev
    else:
        o.tail = p.prev


cdef inline void order_to_head(Order *o, const Slab *s, uint32_t e) noexcept nogil:
    cdef Entry *p
    if o.head == e:
        return
    p = slab_entry(s, e)
    order_cut(o, s, p)
    p.prev = NIL
    p.next = o.head
    slab_entry(s, o.head).prev = e
    o.head = e


cdef inline void order_all_to_head(Order *o, const Slab *s, const uint32_t *numbers, Entry **entries,
                                   Py_ssize_t n) noexcept nogil:
    """order_to_head for n entries, one after the other; where the number is NIL, nothing."""
    cdef uint32_t head = o.head
    cdef Entry *first
    cdef Entry *p
    cdef Py_ssize_t j
    if head == NIL:
        return
    first = slab_entry(s, head)
    for j in range(n):
        if numbers[j] == NIL or numbers[j] == head:
            continue
        p = entries[j]
        order_cut(o, s, p)
        p.next = head
        first.prev = head = numbers[j]
        first = p
    # until here `prev` of the head was left as it is, since nothing looks at it
    first.prev = NIL
    o.head = head
