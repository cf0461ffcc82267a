"""The entry: what the slab holds for one key, and its optional side records.

Layout. The record that every cache needs has 32 bytes (two to a cache line). What only some
caches need lies in side arrays of the same numbering, made for a chunk when its first entry
needs them: `Timing` (16 bytes: expiry), `Extra` (32: idle time, weight, tags), `Detail`
(24: what `details=True` keeps), `Soft` (24: until when it is fresh) and `Aux` (4: the policy's
own, such as lfu's bucket).

Numbers. An entry is named by a 32-bit number, never by its address. Number 0 is no entry (NIL);
numbers from LISTS up name lists of the timing wheel, so that the first and last element of a
list can point back at it.

States. free: key is NULL, `next` chains the chunk's free entries.
        live: key is not NULL; in the index, in its policy's order, and, when it has a finite
        deadline, in the wheel.
Moves.  free -> live in insert, live -> free in remove, both within one edit.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "compat.h":
    bint likely "fc_likely"(bint) noexcept nogil
    bint unlikely "fc_unlikely"(bint) noexcept nogil
    int ctz64 "fc_ctz64"(uint64_t) noexcept nogil
    int clz64 "fc_clz64"(uint64_t) noexcept nogil

cdef extern from *:
    """
    #define FC_NIL 0u
    #define FC_LISTS 0xFFFFF000u
    #define FC_MAX_ENTRIES (FC_LISTS - 1u)
    #define FC_NEVER INT64_MAX
    """
    const uint32_t NIL "FC_NIL"
    const uint32_t LISTS "FC_LISTS"
    const uint32_t MAX_ENTRIES "FC_MAX_ENTRIES"
    const int64_t NEVER "FC_NEVER"


cdef struct Entry:
    PyObject *key       # owned; NULL: the entry is free
    PyObject *value     # owned
    uint64_t hash       # mixed; its upper half is the tag in the index
    uint32_t prev       # the policy's order, towards its head
    uint32_t next       # ... towards its tail; chains free entries


cdef struct Timing:
    int64_t deadline    # dead at now >= deadline; NEVER
    uint32_t prev       # the wheel's list; NIL: in none
    uint32_t next


cdef struct Extra:
    int64_t idle        # time-to-idle in ns, NEVER: none
    int64_t hard        # the deadline that no access moves
    int64_t weight
    uint32_t tags       # first of the entry's tag nodes; 0: none
    uint32_t unused


cdef struct Detail:
    int64_t born        # ns on the cache's clock
    uint64_t hits
    double cost         # seconds that its load took; negative: not loaded


cdef struct Soft:       # of a loaded entry that is kept past its ttl, or renewed before it
    int64_t fresh       # from here on only its loader sees it; NEVER
    int64_t due         # from here on a hit tells its loader; NEVER
    double cost         # seconds that its load took


ctypedef uint32_t Aux


cdef enum:              # the side arrays
    TIMING = 0
    EXTRA = 1
    DETAIL = 2
    SOFT = 3
    AUX = 4
    SIDES = 5


cdef inline size_t side_size(int kind) noexcept nogil:
    if kind == TIMING:
        return sizeof(Timing)
    if kind == EXTRA:
        return sizeof(Extra)
    if kind == DETAIL:
        return sizeof(Detail)
    if kind == SOFT:
        return sizeof(Soft)
    return sizeof(Aux)


cdef inline void side_blank(void *array, int kind, uint32_t first, uint32_t end) noexcept nogil:
    """What an entry is that needs nothing: never expires, weighs 1, has no tags."""
    cdef Timing *t = <Timing*>array
    cdef Extra *x = <Extra*>array
    cdef Soft *s = <Soft*>array
    cdef uint32_t i
    if kind == TIMING:
        for i in range(first, end):
            t[i].deadline = NEVER
            t[i].prev = t[i].next = NIL
    elif kind == EXTRA:
        for i in range(first, end):
            x[i].idle = x[i].hard = NEVER
            x[i].weight = 1
            x[i].tags = 0
    elif kind == SOFT:
        for i in range(first, end):
            s[i].fresh = s[i].due = NEVER
