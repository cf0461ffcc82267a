"""The index: hash -> entry number. Extendible hashing over open-addressed segments.

Layout. A directory of segments, chosen by the top bits of a 32-bit tag (half of the mixed hash);
inside a segment linear probing from the tag's low bits over 8-byte cells: tag << 32 | entry.
Cell 0 is empty, since no entry has number 0. One word before the cells counts those in use.

A segment doubles in place up to 4,096 cells and is then split in two by the next tag bit; so the
most that one insert ever moves is one segment (about 10 us), and no call pays for the whole
table. A segment whose tags do not differ in that bit (a flood of equal hashes) goes on doubling
instead. Removal shifts the cells behind back over the hole (Knuth 6.4, algorithm R): there are
no tombstones, and after any number of removals the probes are as long as if the removed keys had
never been there. A segment used to under an eighth becomes one again with that from which it was
split; where that has no room, or is split further, it is halved.

Extendible hashing: Fagin, Nievergelt, Pippenger & Strong 1979.

Invariants. At least 7 in 16 cells of a segment are empty, so that a probe ends, and soon. A segment of depth
d is named by 2**(bits - d) neighbouring directory elements. `version` moves whenever a cell may
have moved or gone; it does not on a plain insert: who remembers a place over a call into user
code compares it.

Cost. find, insert, erase: O(1) expected, with at most one segment moved; memory: 14 to 29 bytes per
entry. Who may call: the holder of the cache's lock. No Python object is touched.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastcache._struct.entry cimport NIL, likely, unlikely
from fastcache._struct.mem cimport mem_alloc, mem_free, mem_grow, mem_zeroed

cdef extern from *:
    """
    #define FC_SEGMENT 4096u
    #define FC_SEGMENT_FIRST 8u
    #define FC_SEGMENT_KEPT 32u
    #define FC_MAX_BITS 20u
    static uint64_t fc_no_cells[2] = {0, 0};
    """
    const uint32_t SEGMENT "FC_SEGMENT"
    const uint32_t SEGMENT_FIRST "FC_SEGMENT_FIRST"
    const uint32_t SEGMENT_KEPT "FC_SEGMENT_KEPT"
    const uint32_t MAX_BITS "FC_MAX_BITS"
    uint64_t no_cells "fc_no_cells"[2]      # a count and one empty cell, shared by all empty tables


cdef struct Segment:
    uint64_t *cells
    uint32_t mask
    uint32_t depth


cdef struct Table:
    Segment *dir        # `only` while there is one segment
    uint32_t shift      # 32 - bits
    uint32_t bits
    uint64_t version
    size_t nbytes
    Segment only


cdef inline void table_init(Table *t) noexcept:
    t.only.cells = no_cells + 1
    t.only.mask = 0
    t.only.depth = 0
    t.dir = &t.only
    t.bits = 0
    t.shift = 32
    t.nbytes = 0


cdef inline Segment* table_segment(const Table *t, uint32_t tag) noexcept nogil:
    return &t.dir[<uint64_t>tag >> t.shift]


cdef inline uint64_t table_room(uint32_t mask) noexcept nogil:
    """How many cells of a segment may be in use."""
    return (<uint64_t>mask + 1) * 9 >> 4


cdef inline bint segment_has_room(const Segment *s) noexcept nogil:
    return (s.cells - 1)[0] < table_room(s.mask)


cdef inline uint64_t* segment_alloc(Table *t, uint64_t size) noexcept:
    cdef uint64_t *p = <uint64_t*>mem_zeroed(&t.nbytes, (size + 1) * sizeof(uint64_t))
    return p + 1 if p != NULL else NULL


cdef inline void segment_free(Table *t, uint64_t *cells, uint32_t mask) noexcept:
    if cells != no_cells + 1:
        mem_free(&t.nbytes, cells - 1, (<size_t>mask + 2) * sizeof(uint64_t))


cdef inline void segment_put(uint64_t *cells, uint32_t mask, uint64_t cell) noexcept nogil:
    cdef uint32_t i = <uint32_t>(cell >> 32) & mask
    while cells[i]:
        i = (i + 1) & mask
    cells[i] = cell


cdef inline void table_point(Table *t, uint32_t tag, Segment s) noexcept:
    """Let all directory elements of the segment that holds tag, at depth s.depth, name s."""
    cdef uint32_t n = <uint32_t>1 << (t.bits - s.depth)
    cdef uint32_t first = <uint32_t>(<uint64_t>tag >> t.shift) & ~(n - 1)
    cdef uint32_t i
    for i in range(first, first + n):
        t.dir[i] = s


cdef inline bint segment_resize(Table *t, uint32_t tag, uint64_t size) noexcept:
    """The segment that holds tag gets `size` cells. False: no memory, nothing changed."""
    cdef Segment s = table_segment(t, tag)[0]
    cdef Segment r
    cdef uint64_t i
    r.cells = segment_alloc(t, size)
    if r.cells == NULL:
        return False
    r.mask = <uint32_t>(size - 1)
    r.depth = s.depth
    (r.cells - 1)[0] = (s.cells - 1)[0]
    for i in range(<uint64_t>s.mask + 1):
        if s.cells[i]:
            segment_put(r.cells, r.mask, s.cells[i])
    table_point(t, tag, r)
    segment_free(t, s.cells, s.mask)
    t.version += 1
    return True


cdef inline bint table_double(Table *t) noexcept:
    """Twice the directory. False: no memory, nothing changed."""
    cdef size_t n = <size_t>1 << t.bits
    cdef Segment *d = <Segment*>mem_alloc(&t.nbytes, 2 * n * sizeof(Segment))
    cdef size_t i
    if d == NULL:
        return False
    for i in range(n):
        d[2 * i] = d[2 * i + 1] = t.dir[i]
    if t.dir != &t.only:
        mem_free(&t.nbytes, t.dir, n * sizeof(Segment))
    t.dir = d
    t.bits += 1
    t.shift -= 1
    t.version += 1      # the directory has moved, if not a cell
    return True


cdef inline int segment_split(Table *t, uint32_t tag) noexcept:
    """1: split; 0: the tags do not differ enough; -1: no memory. Unless 1, nothing changed
    that a find could tell."""
    cdef Segment s = table_segment(t, tag)[0]
    cdef Segment lo, hi
    cdef uint64_t i, ones = 0, size
    cdef uint32_t bit, low_tag, high_tag
    if s.depth >= MAX_BITS:
        return 0
    bit = <uint32_t>1 << (31 - s.depth)
    for i in range(<uint64_t>s.mask + 1):
        if s.cells[i] and (s.cells[i] >> 32) & bit:
            ones += 1
    if ones * 8 < (s.cells - 1)[0] or ((s.cells - 1)[0] - ones) * 8 < (s.cells - 1)[0]:
        return 0
    if s.depth == t.bits and not table_double(t):
        return -1
    size = <uint64_t>s.mask + 1
    lo.cells = segment_alloc(t, size)
    if lo.cells == NULL:
        return -1
    hi.cells = segment_alloc(t, size)
    if hi.cells == NULL:
        segment_free(t, lo.cells, s.mask)
        return -1
    lo.mask = hi.mask = s.mask
    lo.depth = hi.depth = s.depth + 1
    for i in range(size):
        if s.cells[i]:
            if (s.cells[i] >> 32) & bit:
                segment_put(hi.cells, hi.mask, s.cells[i])
            else:
                segment_put(lo.cells, lo.mask, s.cells[i])
    (hi.cells - 1)[0] = ones
    (lo.cells - 1)[0] = (s.cells - 1)[0] - ones
    low_tag = tag & ~bit
    high_tag = tag | bit
    table_point(t, low_tag, lo)
    table_point(t, high_tag, hi)
    segment_free(t, s.cells, s.mask)
    t.version += 1
    return 1


cdef inline bint segment_merge(Table *t, uint32_t tag) noexcept:
    """The segment that holds tag and its other half become one again, unless that would be used to
    more than three eighths. Allocates nothing: what a large cache gives back as it empties is whole
    segments, which go to the system, and not ever smaller ones, which would stay in the heap."""
    cdef Segment s = table_segment(t, tag)[0]
    cdef Segment big, small
    cdef uint64_t i, used
    if s.depth == 0:
        return False
    small = table_segment(t, tag ^ <uint32_t>1 << (32 - s.depth))[0]
    if small.depth != s.depth:
        return False
    big = s
    if small.mask > s.mask:
        big = small
        small = s
    used = (big.cells - 1)[0] + (small.cells - 1)[0]
    if used * 8 > <uint64_t>big.mask * 3:
        return False
    for i in range(<uint64_t>small.mask + 1):
        if small.cells[i]:
            segment_put(big.cells, big.mask, small.cells[i])
    (big.cells - 1)[0] = used
    big.depth -= 1
    segment_free(t, small.cells, small.mask)
    if big.depth:
        table_point(t, tag, big)
    else:
        mem_free(&t.nbytes, t.dir, (<size_t>1 << t.bits) * sizeof(Segment))
        t.only = big
        t.dir = &t.only
        t.bits = 0
        t.shift = 32
    t.version += 1
    return True


cdef inline bint table_make_room(Table *t, uint32_t tag) noexcept:
    cdef Segment *s
    cdef uint64_t size
    cdef int r
    while True:
        s = table_segment(t, tag)
        if segment_has_room(s):
            return True
        size = (<uint64_t>s.mask + 1) * 2
        if size > SEGMENT:
            r = segment_split(t, tag)
            if r < 0:
                return False
            if r:
                continue
        if not segment_resize(t, tag, size if size > SEGMENT_FIRST else SEGMENT_FIRST):
            return False


cdef inline bint table_reserve(Table *t, uint32_t tag) noexcept:
    """Make sure that the next insert of tag succeeds. False: no memory, nothing lost."""
    cdef Segment *s = table_segment(t, tag)
    return True if likely(segment_has_room(s)) else table_make_room(t, tag)


cdef inline void table_insert(Table *t, uint32_t tag, uint32_t e) noexcept:
    """Only after table_reserve of the same tag."""
    cdef Segment *s = table_segment(t, tag)
    segment_put(s.cells, s.mask, <uint64_t>tag << 32 | e)
    (s.cells - 1)[0] += 1


cdef inline bint table_erase_cell(Table *t, uint32_t tag, uint32_t e) noexcept:
    """The first part of table_erase; True: table_shrink has to follow."""
    cdef Segment *s = table_segment(t, tag)
    cdef uint64_t *cells = s.cells
    cdef uint64_t want = <uint64_t>tag << 32 | e, cell
    cdef uint32_t mask = s.mask, i = tag & mask, j
    while cells[i] != want:
        i = (i + 1) & mask
    j = i
    while True:
        j = (j + 1) & mask
        cell = cells[j]
        if cell == 0:
            break
        # a cell may move back to the hole unless its home lies behind the hole
        if ((j - <uint32_t>(cell >> 32)) & mask) >= ((j - i) & mask):
            cells[i] = cell
            i = j
    cells[i] = 0
    (cells - 1)[0] -= 1
    t.version += 1
    return unlikely((cells - 1)[0] * 8 <= mask)


cdef inline void table_shrink(Table *t, uint32_t tag) noexcept:
    """The segment that holds tag is used to under an eighth."""
    cdef uint32_t mask = table_segment(t, tag).mask
    if not segment_merge(t, tag) and mask >= SEGMENT_KEPT:
        # a failed allocation leaves the segment as it is: it is only larger than it need be
        segment_resize(t, tag, (<uint64_t>mask + 1) // 2)


cdef inline void table_erase(Table *t, uint32_t tag, uint32_t e) noexcept:
    """The cell of a live entry goes, found by number: nothing is compared or hashed."""
    if table_erase_cell(t, tag, e):
        table_shrink(t, tag)


cdef inline void table_free(Table *t) noexcept:
    """All memory goes; the table is empty. O(segments)."""
    cdef size_t i = 0, n = <size_t>1 << t.bits
    cdef Segment s
    while i < n:
        s = t.dir[i]
        segment_free(t, s.cells, s.mask)
        i += <size_t>1 << (t.bits - s.depth)
    if t.dir != &t.only:
        mem_free(&t.nbytes, t.dir, n * sizeof(Segment))
    table_init(t)
    t.version += 1
