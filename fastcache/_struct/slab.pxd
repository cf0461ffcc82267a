"""The slab: entries by number, in chunks.

Layout. A directory of chunks; entry number e lies in chunk e >> 12 at e & 4095. The first chunk
starts with 8 entries and doubles in place until it is full size, so that a small cache is small;
every further chunk has 4096 entries at once and never moves. Side arrays (see entry.pxd) are
made per chunk, when first needed.

Invariants. Every chunk with a free entry is in the list `room`, no other is. At most one chunk
besides the first is wholly free; a second one is given back to the allocator at once, so memory
follows the number of entries down as well as up. Entry 0 is never given out.

Cost. get, alloc, release: O(1); a doubling of the first chunk copies at most 128 KiB, a new
chunk is not touched. Nothing depends on maxsize.

Who may call: the holder of the cache's lock. No Python object is touched.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from fastcache._struct.entry cimport (
    AUX, DETAIL, EXTRA, MAX_ENTRIES, NIL, SIDES, SOFT, TIMING, Aux, Detail, Entry, Extra, Soft, Timing,
    likely, side_blank, side_size, unlikely,
)
from fastcache._struct.mem cimport mem_alloc, mem_free, mem_grow

cdef extern from *:
    """
    #define FC_CHUNK_BITS 12
    #define FC_CHUNK (1u << FC_CHUNK_BITS)
    #define FC_CHUNK_FIRST 8u
    #define FC_NO_CHUNK 0xFFFFFFFFu
    """
    const uint32_t CHUNK_BITS "FC_CHUNK_BITS"
    const uint32_t CHUNK "FC_CHUNK"
    const uint32_t CHUNK_FIRST "FC_CHUNK_FIRST"
    const uint32_t NO_CHUNK "FC_NO_CHUNK"


cdef struct Chunk:
    Entry *entries
    void *side[5]       # Timing, Extra, Detail, Soft, Aux; NULL until an entry needs it
    uint32_t cap
    uint32_t fresh      # entries from here on have never been used
    uint32_t free       # chain of used and freed entries
    uint32_t used
    uint32_t prev       # list of chunks with room; for a chunk given back: of absent chunks
    uint32_t next


cdef struct Slab:
    Entry **entries     # of each chunk once more, where a lookup finds them soonest
    Chunk *chunks
    uint32_t nchunks
    uint32_t cap        # of the directory
    uint32_t room       # first chunk with a free entry, or NO_CHUNK
    uint32_t absent     # first chunk number whose memory was given back, or NO_CHUNK
    uint32_t spare      # a wholly free chunk that is kept, or NO_CHUNK
    uint32_t limit      # highest entry number
    size_t nbytes


cdef inline void slab_init(Slab *s) noexcept:
    memset(s, 0, sizeof(Slab))
    s.room = s.absent = s.spare = NO_CHUNK
    s.limit = MAX_ENTRIES


cdef inline Entry* slab_entry(const Slab *s, uint32_t e) noexcept nogil:
    return s.entries[e >> CHUNK_BITS] + (e & (CHUNK - 1))


cdef inline void* slab_side(const Slab *s, uint32_t e, int kind) noexcept nogil:
    return s.chunks[e >> CHUNK_BITS].side[kind]


cdef inline Timing* slab_timing(const Slab *s, uint32_t e) noexcept nogil:
    """NULL: the entry never expires."""
    cdef Timing *t = <Timing*>slab_side(s, e, TIMING)
    return t + (e & (CHUNK - 1)) if t != NULL else NULL


cdef inline Extra* slab_extra(const Slab *s, uint32_t e) noexcept nogil:
    """NULL: weight 1, no idle time, no tags."""
    cdef Extra *x = <Extra*>slab_side(s, e, EXTRA)
    return x + (e & (CHUNK - 1)) if x != NULL else NULL


cdef inline Detail* slab_detail(const Slab *s, uint32_t e) noexcept nogil:
    cdef Detail *d = <Detail*>slab_side(s, e, DETAIL)
    return d + (e & (CHUNK - 1)) if d != NULL else NULL


cdef inline Soft* slab_soft(const Slab *s, uint32_t e) noexcept nogil:
    """NULL: as fresh as it is alive."""
    cdef Soft *x = <Soft*>slab_side(s, e, SOFT)
    return x + (e & (CHUNK - 1)) if x != NULL else NULL


cdef inline Aux* slab_aux(const Slab *s, uint32_t e) noexcept nogil:
    """Only where the entries were reserved with one."""
    return <Aux*>slab_side(s, e, AUX) + (e & (CHUNK - 1))


cdef inline void slab_room_push(Slab *s, uint32_t c) noexcept:
    """Behind the first, which goes on being filled: were new entries to follow the latest gap, a few
    of them would keep every chunk of a cache whose other entries are all going."""
    cdef Chunk *k = &s.chunks[c]
    k.prev = s.room
    if s.room == NO_CHUNK:
        k.next = NO_CHUNK
        s.room = c
        return
    k.next = s.chunks[s.room].next
    if k.next != NO_CHUNK:
        s.chunks[k.next].prev = c
    s.chunks[s.room].next = c


cdef inline void slab_room_unlink(Slab *s, uint32_t c) noexcept:
    cdef Chunk *k = &s.chunks[c]
    if k.prev != NO_CHUNK:
        s.chunks[k.prev].next = k.next
    else:
        s.room = k.next
    if k.next != NO_CHUNK:
        s.chunks[k.next].prev = k.prev


cdef inline bint slab_widen_first(Slab *s) noexcept:
    """Double the first chunk. False: no memory, nothing changed."""
    cdef Chunk *k = &s.chunks[0]
    cdef Chunk wide = k[0]
    cdef uint32_t cap = k.cap * 2
    cdef size_t bytes_before = s.nbytes, size
    cdef int kind
    cdef bint whole
    # All new arrays first, so that a failure leaves the old ones in force.
    wide.entries = <Entry*>mem_alloc(&s.nbytes, cap * sizeof(Entry))
    whole = wide.entries != NULL
    for kind in range(SIDES):
        if k.side[kind] != NULL:
            wide.side[kind] = mem_alloc(&s.nbytes, cap * side_size(kind)) if whole else NULL
            whole = wide.side[kind] != NULL
    wide.cap = cap
    if not whole:
        slab_drop_arrays(s, &wide)
        s.nbytes = bytes_before
        return False
    memcpy(wide.entries, k.entries, k.cap * sizeof(Entry))
    for kind in range(SIDES):
        if k.side[kind] != NULL:
            size = side_size(kind)
            memcpy(wide.side[kind], k.side[kind], k.cap * size)
            side_blank(wide.side[kind], kind, k.cap, cap)
    slab_drop_arrays(s, k)
    k[0] = wide
    s.entries[0] = wide.entries
    slab_room_push(s, 0)
    return True


cdef inline bint slab_add_chunk(Slab *s, bint with_aux) noexcept:
    """Another chunk, or a larger first one. False: no memory, nothing changed."""
    cdef uint32_t c, cap
    cdef void *p
    cdef void *aux = NULL
    cdef Chunk *k
    if s.nchunks and s.chunks[0].cap < CHUNK:
        return slab_widen_first(s)
    c = s.absent
    if c == NO_CHUNK:
        c = s.nchunks
        if c == s.cap:
            cap = s.cap * 2 if s.cap else 1
            p = mem_grow(&s.nbytes, s.chunks, s.cap * sizeof(Chunk), cap * sizeof(Chunk))
            if p == NULL:
                return False
            s.chunks = <Chunk*>p
            # longer than `cap` says until the other array is as long
            p = mem_grow(&s.nbytes, s.entries, s.cap * sizeof(Entry*), cap * sizeof(Entry*))
            if p == NULL:
                s.nbytes -= (cap - s.cap) * sizeof(Chunk)
                return False
            s.entries = <Entry**>p
            s.cap = cap
    cap = CHUNK if c else CHUNK_FIRST
    p = mem_alloc(&s.nbytes, cap * sizeof(Entry))
    if p == NULL:
        return False
    if with_aux:
        aux = mem_alloc(&s.nbytes, cap * sizeof(Aux))
        if aux == NULL:
            mem_free(&s.nbytes, p, cap * sizeof(Entry))
            return False
    k = &s.chunks[c]
    if c == s.absent:
        s.absent = k.next
    else:
        s.nchunks += 1
    memset(k, 0, sizeof(Chunk))
    k.entries = s.entries[c] = <Entry*>p
    k.side[AUX] = aux
    k.cap = cap
    if c == 0:
        memset(p, 0, sizeof(Entry))     # entry 0 is NIL
        k.fresh = 1
    slab_room_push(s, c)
    return True


cdef inline bint slab_has_room(const Slab *s) noexcept nogil:
    return s.room != NO_CHUNK


cdef inline bint slab_reserve(Slab *s, bint with_aux) noexcept:
    """Make sure that the next slab_take succeeds; with_aux, always or never: every entry has an Aux. False: no memory,
    nothing changed."""
    return True if likely(slab_has_room(s)) else slab_add_chunk(s, with_aux)


cdef inline bint slab_full(const Slab *s) noexcept:
    """Whether the numbers have run out (then slab_reserve must not be called)."""
    if s.room != NO_CHUNK or s.absent != NO_CHUNK:
        return False
    return s.nchunks != 0 and s.chunks[0].cap == CHUNK and \
        <size_t>s.nchunks * CHUNK + CHUNK - 1 > s.limit


cdef inline bint slab_need(Slab *s, uint32_t e, int kind) noexcept:
    """The chunk of e gets its side array of that kind. False: no memory."""
    cdef Chunk *k = &s.chunks[e >> CHUNK_BITS]
    cdef void *p
    if likely(k.side[kind] != NULL):
        return True
    p = mem_alloc(&s.nbytes, k.cap * side_size(kind))
    if p == NULL:
        return False
    side_blank(p, kind, 0, k.cap)
    k.side[kind] = p
    return True


cdef inline uint32_t slab_next(const Slab *s) noexcept:
    """The number that slab_take will give; only after slab_reserve."""
    cdef Chunk *k = &s.chunks[s.room]
    return k.free if k.free != NIL else (s.room << CHUNK_BITS) | k.fresh


cdef inline uint32_t slab_take(Slab *s) noexcept:
    cdef uint32_t c = s.room
    cdef Chunk *k = &s.chunks[c]
    cdef uint32_t e = k.free
    if e != NIL:
        k.free = k.entries[e & (CHUNK - 1)].next
    else:
        e = (c << CHUNK_BITS) | k.fresh
        k.fresh += 1
    k.used += 1
    if unlikely(c == s.spare):
        s.spare = NO_CHUNK
    if unlikely(k.free == NIL and k.fresh == k.cap):
        slab_room_unlink(s, c)
    return e


cdef inline void slab_drop_arrays(Slab *s, Chunk *k) noexcept:
    cdef int kind
    mem_free(&s.nbytes, k.entries, k.cap * sizeof(Entry))
    for kind in range(SIDES):
        mem_free(&s.nbytes, k.side[kind], k.cap * side_size(kind))


cdef inline void slab_give_back(Slab *s, uint32_t c) noexcept:
    cdef Chunk *k = &s.chunks[c]
    slab_room_unlink(s, c)
    slab_drop_arrays(s, k)
    memset(k, 0, sizeof(Chunk))
    k.next = s.absent
    s.absent = c


cdef inline void slab_release(Slab *s, uint32_t e) noexcept:
    """The entry is free again. Its key and value are the caller's by now."""
    cdef uint32_t c = e >> CHUNK_BITS
    cdef Chunk *k = &s.chunks[c]
    cdef Entry *p = &k.entries[e & (CHUNK - 1)]
    p.key = NULL
    p.value = NULL
    if unlikely(k.free == NIL and k.fresh == k.cap):
        slab_room_push(s, c)
    p.next = k.free
    k.free = e
    k.used -= 1
    if unlikely(k.used == 0) and c:
        if s.spare == NO_CHUNK:
            s.spare = c
        else:
            slab_give_back(s, c)


cdef inline uint32_t slab_end(const Slab *s) noexcept:
    """One past the highest number in use so far."""
    if s.nchunks == 0:
        return 0
    return ((s.nchunks - 1) << CHUNK_BITS) + s.chunks[s.nchunks - 1].fresh


cdef inline uint32_t slab_walk(const Slab *s, uint32_t e) noexcept:
    """The next live entry from number e on, or NIL. O(1) per entry held or once held."""
    cdef Chunk *k
    cdef uint32_t c = e >> CHUNK_BITS, i = e & (CHUNK - 1)
    while c < s.nchunks:
        k = &s.chunks[c]
        if k.used:
            while i < k.fresh:
                if k.entries[i].key != NULL:
                    return (c << CHUNK_BITS) | i
                i += 1
        c += 1
        i = 0
    return NIL


cdef inline void slab_free(Slab *s) noexcept:
    """All memory goes. Keys and values are the caller's by now."""
    cdef uint32_t c, limit = s.limit
    for c in range(s.nchunks):
        slab_drop_arrays(s, &s.chunks[c])
    mem_free(&s.nbytes, s.chunks, s.cap * sizeof(Chunk))
    mem_free(&s.nbytes, s.entries, s.cap * sizeof(Entry*))
    slab_init(s)
    s.limit = limit
