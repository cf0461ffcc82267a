"""The engine: `Cache`, the decorated functions over it, and their views.

One extension module over the structures in `_struct/`: the index (table), the entries (slab), the
eviction order (policy), expiry (wheel) and tags. This file ties them together in three moves:
`find`, `put` and `remove`. `_core_calls.pxi` holds the decorated functions, `_core_flights.pxi`
and `_core_loads.pxi` the loads, `_core_views.pxi` iteration, views and records.

The lock. Under the GIL an edit is atomic because it calls nothing that could run Python code;
without the GIL `self.mutex` is held. `lock`/`unlock` mark the same stretches in both. What is read
without it is read by `glance`, and written by `show`: a late value does no harm there.

Where user code can run (the ledger; nothing else may call out)
 1. `__hash__`: in mix_key, before the lock.
 2. `__eq__`: in find_asking and find_listed, unlocked, nothing half-edited, the compared key
    held. Afterwards the probe goes on only if `table.version` has not moved, else it starts
    anew; after eight restarts the keys of equal hash are listed and compared from the list, so
    that an `__eq__` that edits the cache each time cannot keep a call busy for ever.
 3. `clock`: in now, before the probe. 4. `weigher`: in weigh, before the probe.
 5. Destructors of what an edit displaced: in settle, unlocked, after the edit.
 6. `listener`: in drain, unlocked, after the edit; what it does to the cache queues further
    events, which the outermost drain tells.
 7. Factories and decorated functions: in _core_loads.pxi and _core_calls.pxi, unlocked.
 8. A collection, and with it any destructor, may run at every allocation of a Python object: so
    none is made between `lock` and `unlock`. PyMem_* does not collect.
 9. tp_traverse and tp_clear: visit_contents only reads; drop_contents detaches everything
    before it releases anything.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_WriteUnraisable
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.sequence cimport PySequence_Fast_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.math cimport INFINITY, floor, isfinite, isnan, llround
from libc.stddef cimport size_t
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy, memset, strlen

from fastcache._struct.entry cimport (
    DETAIL, EXTRA, LISTS, MAX_ENTRIES, NEVER, NIL, SOFT, TIMING, Detail, Entry, Extra, Soft, Timing,
    likely, unlikely,
)
from fastcache._struct.mem cimport mem_alloc, mem_free, mem_zeroed
from fastcache._struct.policy cimport (
    FIFO, LFU, LRU, policy_after, policy_before, policy_count, policy_free, policy_hit, policy_hottest,
    policy_init, policy_insert, policy_recycle, policy_remove, policy_reserve, policy_restore, policy_victim,
    policy_wants_aux,
)
from fastcache._struct.lfu cimport lfu_bump_apart, lfu_bump_quickly, lfu_nbytes
from fastcache._struct.order cimport order_all_to_head, order_to_head
from fastcache._struct.slab cimport (
    Slab, slab_detail, slab_end, slab_entry, slab_extra, slab_free,
    slab_full, slab_has_room, slab_init, slab_need, slab_next, slab_release, slab_reserve, slab_side, slab_soft, slab_take,
    slab_timing, slab_walk,
)
from fastcache._struct.table cimport (
    Segment, segment_has_room, table_erase, table_erase_cell, table_free, table_init, table_insert, table_reserve,
    table_segment, table_shrink,
)
from fastcache._struct.tags cimport (
    Tags, tags_attach, tags_detach, tags_drop_record, tags_free, tags_free_nodes, tags_init,
    tags_invalidate, tags_is_dead, tags_new_record, tags_reserve_nodes, tags_reserve_record,
    tags_take_unused, tags_unref,
)
from fastcache._struct.wheel cimport (
    LEVELS, PENDING, SOON, TimeList, Wheel, wheel_advance, wheel_cancel, wheel_free, wheel_init, wheel_pop, wheel_schedule,
    wheel_settle,
)

import _thread
import sys as _sys
from _collections_abc import ItemsView, KeysView, Mapping, MutableMapping, Set as _SetABC, ValuesView
from types import GenericAlias as _GenericAlias

try:
    import posix as _posix
except ImportError:         # Windows: no fork
    _posix = None

cdef extern from "compat.h":
    void mutex_lock "fc_mutex_lock"(fc_mutex*) noexcept
    void mutex_unlock "fc_mutex_unlock"(fc_mutex*) noexcept
    void mutex_forked "fc_mutex_forked"() noexcept
    uint32_t glance "fc_glance"(const uint32_t*) noexcept
    void show "fc_show"(uint32_t*, uint32_t) noexcept
    uint64_t glance_64 "fc_glance_64"(const uint64_t*) noexcept
    void show_64 "fc_show_64"(uint64_t*, uint64_t) noexcept
    void add_64 "fc_add_64"(uint64_t*, uint64_t) noexcept
    bint take_64 "fc_take_64"(uint64_t*) noexcept
    bint claim "fc_claim"(uint32_t*, uint32_t, uint32_t) noexcept
    const bint FREE_THREADED "FC_FREE_THREADED"
    int64_t clock_precise "fc_clock_precise"() noexcept
    int64_t clock_coarse "fc_clock_coarse"() noexcept
    bint long_small "fc_long_small"(PyObject*, int64_t*) noexcept
    bint long_compact "fc_long_compact"(PyObject*, int64_t*) noexcept
    bint long_wide "fc_long_wide"(PyObject*) noexcept
    bint long_negative "fc_long_negative"(PyObject*) noexcept
    Py_ssize_t long_ndigits "fc_long_ndigits"(PyObject*) noexcept
    uint32_t* long_digits "fc_long_digits"(PyObject*) noexcept
    bint str_exact "PyUnicode_CheckExact"(PyObject*) noexcept
    bint bytes_exact "PyBytes_CheckExact"(PyObject*) noexcept
    bint long_exact "PyLong_CheckExact"(PyObject*) noexcept
    bint tuple_exact "PyTuple_CheckExact"(PyObject*) noexcept
    int same "fc_same"(PyObject*, PyObject*) noexcept
    Py_hash_t hash_of "fc_hash"(PyObject*) except? -1
    Py_hash_t str_hash "fc_str_hash"(PyObject*) noexcept
    bint is_gc "fc_is_gc"(PyObject*) noexcept
    object owned "(PyObject *)"(PyObject*)
    int compare "PyObject_RichCompareBool"(PyObject*, PyObject*, int) except -1
    void incref "Py_INCREF"(PyObject*) noexcept
    void decref "Py_DECREF"(PyObject*) noexcept
    void xdecref "Py_XDECREF"(PyObject*) noexcept
    PyTypeObject* type_of "Py_TYPE"(PyObject*) noexcept
    void gc_track "PyObject_GC_Track"(PyObject*) noexcept
    void gc_untrack "PyObject_GC_UnTrack"(PyObject*) noexcept
    bint gc_is_tracked "PyObject_GC_IsTracked"(PyObject*) noexcept
    PyObject* long_from "PyLong_FromUnsignedLongLong"(uint64_t) noexcept
    PyObject* dict_item "PyDict_GetItem"(dict, PyObject*) noexcept
    Py_ssize_t list_size "PyList_GET_SIZE"(PyObject*) noexcept
    PyObject* list_item "PyList_GET_ITEM"(PyObject*, Py_ssize_t) noexcept
    int list_cut "PyList_SetSlice"(PyObject*, Py_ssize_t, Py_ssize_t, PyObject*) noexcept
    int dict_del "PyDict_DelItem"(dict, PyObject*) noexcept
    PyObject* tuple_of_3 "PyTuple_Pack"(Py_ssize_t, PyObject*, PyObject*, PyObject*) noexcept
    PyObject* list_new "PyList_New"(Py_ssize_t) noexcept
    int list_append "PyList_Append"(PyObject*, PyObject*) noexcept
    PyObject* call_with_tuple "PyObject_Call"(PyObject*, PyObject*, PyObject*) noexcept
    PyObject* PySequence_Fast_ITEM "fc_sequence_item"(object, Py_ssize_t) noexcept
    PyObject** sequence_items "fc_sequence_items"(object) noexcept
    PyObject** list_items "fc_list_items"(list) noexcept
    bint long_is "fc_long_is"(PyObject*, int64_t) noexcept
    void prefetch "fc_prefetch"(const void*) noexcept
    list list_of "fc_list_of"(PyObject*, Py_ssize_t)
    void list_put "fc_list_put"(list, Py_ssize_t, PyObject*) noexcept
    void decref_many "fc_decref_many"(PyObject*, Py_ssize_t) noexcept
    unsigned long thread_ident "PyThread_get_thread_ident"() noexcept
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    int same_exact "fc_same_exact"(PyObject*, PyObject*) noexcept
    bint same_at_once "fc_same_at_once"(PyObject*, PyObject*) noexcept
    bint hash_at_once "fc_hash_at_once"(PyObject*, Py_hash_t*) noexcept
    bint tuple_hash_at_once "fc_tuple_hash_at_once"(PyObject*, Py_hash_t*) noexcept
    void learn_address_hash "fc_learn_address_hash"() noexcept
    PyObject** tuple_items "fc_tuple_items"(PyObject*) noexcept
    ctypedef size_t Py_uhash_t
    Py_uhash_t tuple_hash_start "fc_tuple_hash_start"() noexcept
    Py_uhash_t tuple_hash_step "fc_tuple_hash_step"(Py_uhash_t, Py_hash_t) noexcept
    Py_hash_t tuple_hash_end "fc_tuple_hash_end"(Py_uhash_t, Py_ssize_t) noexcept
    bint callkey_or_tuple "fc_callkey_or_tuple"(PyObject*) noexcept
    PyObject* callkey_new "fc_callkey_new"(Py_ssize_t) noexcept
    void tuple_set "fc_tuple_set"(PyObject*, Py_ssize_t, PyObject*) noexcept
    Py_ssize_t tuple_size "PyTuple_GET_SIZE"(PyObject*) noexcept
    PyObject* tuple_item "PyTuple_GET_ITEM"(PyObject*, Py_ssize_t) noexcept
    object make_callkey_type "fc_make_callkey_type"(PyObject* (*)(PyObject*) except NULL)
    Py_ssize_t vectorcall_nargs "PyVectorcall_NARGS"(size_t) noexcept
    PyObject* vectorcall "fc_vectorcall"(PyObject*, PyObject**, size_t, PyObject*) noexcept
    object vectorcall_of_tuple "PyVectorcall_Call"(object, object, object)
    object PyMethod_New(object, object)
    void patch_function_type "fc_patch_function_type"(object, Py_ssize_t) noexcept
    bint PyCoro_CheckExact(object) noexcept
    void patch_bound_type "fc_patch_bound_type"(object, Py_ssize_t) noexcept
    void patch_call_type "fc_patch_call_type"(object, int (*)(PyObject*, PyObject*, PyObject**) noexcept) noexcept
    int iter_send "PyIter_Send"(PyObject*, PyObject*, PyObject**) noexcept
    int reraise "fc_reraise"() except -1
    void forget_stop "fc_forget_stop"() noexcept
    bint type_has_dict "fc_type_has_dict"(PyObject*) noexcept
    PyObject* instance_item "fc_instance_item"(PyObject*, PyObject*) noexcept
    PyObject* dict_held "fc_dict_held"(PyObject*, PyObject*) noexcept
    void keep "fc_keep"(PyObject*) noexcept
    void leave_it "fc_leave"(PyObject*) noexcept
    object PyObject_GenericGetDict(PyObject*, void*)
    PyObject* weak_target "fc_weak_target"(PyObject*) noexcept
    PyObject** tuple_items "fc_tuple_items"(PyObject*) noexcept
    PyObject* tuple_from "fc_tuple_from"(PyObject**, Py_ssize_t) except NULL
    void patch_cache_type "fc_patch_cache_type"(
        object, int (*)(PyObject*, visitproc, void*) noexcept, void (*)(PyObject*) noexcept) noexcept
    ctypedef struct PyThreadState:
        pass

cdef extern from *:
    """
    #ifndef FASTCACHE_DEBUG
    #  define FASTCACHE_DEBUG 0
    #endif
    #define FC_VECTORCALL_OFFSET offsetof(struct __pyx_obj_9fastcache_5_core_CachedFunction, vectorcall)
    #define FC_NATIVE_ORDER (PY_LITTLE_ENDIAN ? '<' : '>')
    """
    const bint DEBUG "FASTCACHE_DEBUG"
    const int64_t UNKNOWN "INT64_MIN"
    const Py_ssize_t offset_of_vectorcall "FC_VECTORCALL_OFFSET"
    const char NATIVE_ORDER "FC_NATIVE_ORDER"

include "_core_raw.pxi"

cdef enum:
    BIN = 16                    # removals gathered before user code gets to see them
    FENCES = 64                 # removals remembered for the loads under way
    WIDE_FILTER = 256
    RESTARTS = 8
    # Cache.flags
    HAS_TIME = 1                # some entry may have a deadline
    HAS_TAGS = 2
    HAS_EXTRA = 4               # some entry may have a weight, an idle time or tags
    HAS_DETAIL = 8
    HAS_TTI = 16
    HAS_SOFT = 32               # some entry may be kept for its loader alone
    TIMED = 9                   # HAS_TIME | HAS_DETAIL: the clock is read
    MORTAL = 3                  # HAS_TIME | HAS_TAGS: an entry that is held may be dead
    # Cache.quick
    PLAIN = 1                   # no flags, and lru
    TIME_ONLY = 2               # nothing but deadlines, on the coarse clock
    # clock_kind
    CLOCK_COARSE = 0
    CLOCK_PRECISE = 1
    CLOCK_USER = 2
    # causes
    EXPLICIT = 0
    REPLACED = 1
    SIZE = 2
    EXPIRED = 3
    UNTOLD = 4                  # of an entry that no user has ever seen
    # modes of put
    SET = 0
    ADD = 1

free_threaded = bool(FREE_THREADED)
POLICY_NAMES = ("lru", "fifo", "lfu")       # by Policy.kind
cdef tuple POLICIES = POLICY_NAMES
cdef tuple CAUSES = ("explicit", "replaced", "size", "expired")

cdef object UNSET = ...             # an option that was not given: a default that signatures can show


cdef class _Absent:
    """Stands for no value at all."""

    def __repr__(self):
        return "<absent>"

_ABSENT = _Absent()
cdef object ABSENT = _ABSENT


# ---- hashing ---------------------------------------------------------------------------------

# Secrets of this process, taken from the one that str hashing has, so that they follow
# PYTHONHASHSEED and need no import.
cdef uint64_t SEED = <uint64_t><Py_hash_t>hash("fastcache: seed") * 0x9E3779B97F4A7C15ULL
cdef uint64_t FACTOR_1 = <uint64_t><Py_hash_t>hash("fastcache: first factor") | 1
cdef uint64_t FACTOR_2 = <uint64_t><Py_hash_t>hash("fastcache: second factor") | 1
cdef uint64_t WIDE_SEED = <uint64_t><Py_hash_t>hash("fastcache: wide ints")


cdef inline uint64_t mix(uint64_t h) noexcept nogil:
    """A secret permutation of the 64-bit hashes, so equal results mean equal hashes. The hash of
    an int is the int itself: without this, keys that are multiples of 4096 would share a cell.
    The index uses the upper half only, on which every bit of h has its effect: the first product
    carries low bits up, the shift brings high bits down, the second carries both up again."""
    h = (h ^ SEED) * FACTOR_1
    return (h ^ (h >> 29)) * FACTOR_2


cdef inline uint64_t mix_digits(const uint32_t *digits, Py_ssize_t n, bint negative) noexcept nogil:
    cdef uint64_t h = WIDE_SEED + negative
    cdef Py_ssize_t i
    for i in range(n):
        h = (h ^ digits[i]) * FACTOR_2
        h ^= h >> 31
    return mix(h)


cdef int mix_key(PyObject *key, uint64_t *hash) except -1:
    """The mixed hash of a key. Ints of which hash() loses something (k * (2**61 - 1) all hash to
    0) are hashed by their digits; find_wide keeps them equal to floats and Decimals."""
    cdef Py_hash_t h
    if long_exact(key) and unlikely(long_wide(key)):
        hash[0] = mix_digits(long_digits(key), long_ndigits(key), long_negative(key))
        return 0
    if not (tuple_exact(key) and tuple_hash_at_once(key, &h)):
        h = hash_of(key)
        if unlikely(h == -1):
            return -1
    hash[0] = mix(<uint64_t>h)
    return 0


cdef uint64_t jitter_state = <uint64_t>clock_precise() | 1


cdef double jitter_draw() noexcept:
    """Uniform in [0, 1): xorshift64* (Vigna 2016). For spreading, not for secrets."""
    cdef uint64_t x = glance_64(&jitter_state)      # two threads may draw the same
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    show_64(&jitter_state, x)
    return <double>((x * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0


cdef enum:
    PRECISE_BELOW = 100_000_000         # ns: a shorter ttl needs the precise clock
    COARSE_LAG = 250_000_000            # ns: more than the coarse clock is ever behind
cdef int64_t NEVER_FRESH = INT64_MIN + COARSE_LAG   # before all that a clock may say

cdef object _live = None                    # debug builds: id -> weak reference, of all caches
if DEBUG:
    from weakref import ref as _ref
    _live = {}


    def _live_caches():
        """All caches that exist; only in debug builds."""
        for number, reference in list(_live.items()):
            if reference() is None:
                del _live[number]
        return [cache for reference in list(_live.values()) if (cache := reference()) is not None]


include "_core_options.pxi"


# ---- the lock and the clock ------------------------------------------------------------------

cdef inline void lock(Cache self) noexcept:
    mutex_lock(&self.mutex)


cdef inline void unlock(Cache self) noexcept:
    mutex_unlock(&self.mutex)


cdef int64_t user_time(object clock) except? -1:
    cdef object t = clock()
    cdef double s
    if isinstance(t, (bool, str, bytes, bytearray)):
        raise TypeError(f"clock must return float seconds, got {t!r}")
    try:
        s = float(t)
    except TypeError:
        raise TypeError(f"clock must return float seconds, got {t!r}") from None
    except OverflowError:
        s = INFINITY
    if not isfinite(s) or s > 9.2e9 or s < -9.2e9:
        raise ValueError(f"clock must return finite seconds between -9.2e9 and 9.2e9, got {t!r}")
    return llround(s * 1e9)


cdef int64_t exact_time_of(Cache self) except? -1:
    """time_of, for what a user gets to see."""
    return clock_precise() if glance(&self.clock_kind) == CLOCK_COARSE else time_of(self)


cdef inline int64_t time_of(Cache self) except? -1:
    """Now, in ns on the cache's clock; by the coarse one a little less. A user's clock runs here."""
    cdef uint32_t kind = glance(&self.clock_kind)
    if likely(kind == CLOCK_COARSE):
        return clock_coarse()
    if kind == CLOCK_PRECISE:
        return clock_precise()
    return user_time(self.clock)


cdef inline int64_t time_if_any(Cache self) except? -1:
    """Now, or UNKNOWN where no entry can expire: at that time nothing is dead, even if another
    call makes one that can before this one has found its key."""
    return time_of(self) if unlikely(glance(&self.flags) & TIMED) else UNKNOWN


cdef inline void flags_on(Cache self, uint32_t flags) noexcept:
    """Locked. Every change of flags or of the clock: whether hit_at_once will do follows from them."""
    show(&self.flags, self.flags | flags)
    if self.flags == 0 and self.order.kind == LRU:
        show(&self.quick, PLAIN)
    elif self.flags == HAS_TIME and self.clock_kind == CLOCK_COARSE:
        show(&self.quick, TIME_ONLY)
    else:
        show(&self.quick, 0)


cdef int time_on(Cache self, int64_t ttl) except -1:
    """Entries may have deadlines from now on."""
    lock(self)
    if self.wheel == NULL:
        self.wheel = <Wheel*>mem_alloc(&self.own_bytes, sizeof(Wheel))
        if self.wheel == NULL:
            unlock(self)
            raise MemoryError
        wheel_init(self.wheel)
    if self.clock_kind == CLOCK_COARSE and ttl < PRECISE_BELOW:
        # the same time line, never behind the coarse one
        show(&self.clock_kind, CLOCK_PRECISE)
    flags_on(self, HAS_TIME)
    unlock(self)
    return 0


include "_core_find.pxi"


# ---- death -----------------------------------------------------------------------------------

cdef inline bint past(Cache self, int64_t moment, int64_t now) noexcept:
    """Whether moment has come. The coarse clock, by which now may be, is behind by a tick or two,
    and by more where a hypervisor takes the processor away; close to the moment the precise one
    decides, so nothing lives too long."""
    if likely(now < moment - COARSE_LAG):
        return False
    return now >= moment or (self.clock_kind == CLOCK_COARSE and now != UNKNOWN and clock_precise() >= moment)


cdef inline bint lapsed(Cache self, uint32_t e, int64_t now) noexcept:
    cdef Timing *t
    if self.flags & HAS_TIME:
        t = slab_timing(&self.slab, e)
        return t != NULL and past(self, t.deadline, now)
    return False


cdef inline bint stale(Cache self, uint32_t e, int64_t now) noexcept:
    """Whether only the entry's loader may still see it."""
    cdef Soft *s
    if self.flags & HAS_SOFT:
        s = slab_soft(&self.slab, e)
        return s != NULL and past(self, s.fresh, now)
    return False


cdef inline bint is_failure(const Slab *slab, uint32_t e) noexcept:
    """Whether it is an error, of which only the loader knows."""
    cdef Soft *s = slab_soft(slab, e)
    return s != NULL and s.fresh == NEVER_FRESH


cdef inline bint dead(Cache self, uint32_t e, int64_t now) noexcept:
    """Whether an entry that is held must not be seen any more."""
    return gone(self, e, now) or stale(self, e, now)


cdef inline bint gone(Cache self, uint32_t e, int64_t now) noexcept:
    """Whether nobody has any use for an entry that is held."""
    cdef Extra *x
    if lapsed(self, e, now):
        return True
    if self.flags & HAS_TAGS:
        x = slab_extra(&self.slab, e)
        return x != NULL and x.tags != 0 and tags_is_dead(self.marks, x.tags)
    return False


cdef inline int cause_of_death(Cache self, uint32_t e, int64_t now) noexcept:
    return EXPIRED if lapsed(self, e, now) or stale(self, e, now) else EXPLICIT


cdef int64_t visible_until(Cache self, uint32_t e) noexcept:
    """The deadline that a user is told of."""
    cdef Timing *t = slab_timing(&self.slab, e)
    cdef Soft *s = slab_soft(&self.slab, e) if self.flags & HAS_SOFT else NULL
    cdef int64_t deadline = t.deadline if t != NULL else NEVER
    return min(deadline, s.fresh) if s != NULL else deadline


cdef inline bint chores(Cache self, int64_t now) noexcept:
    """Whether poll() has something to do. Locked."""
    return (self.flags & HAS_TIME and now >= self.wheel.due) or \
        (self.flags & HAS_TAGS and self.marks.dead_head)


cdef void poll(Cache self, int64_t now) noexcept:
    """Reclaim what is dead: at most 64 entries a call, so that a million that die at once burden
    no single caller."""
    cdef Bin bin
    cdef uint32_t e
    cdef int steps, rounds = 4
    bin.n = 0
    while rounds > 0:
        rounds -= 1
        steps = 4 * BIN
        lock(self)
        if self.flags & HAS_TIME and now >= self.wheel.due:
            wheel_advance(self.wheel, &self.slab, now)
            while bin.n < BIN:
                e = wheel_pop(self.wheel, &self.slab, now, &steps)
                if e == NIL:
                    break
                remove(self, e, EXPIRED, &bin)
            wheel_settle(self.wheel)
        if self.flags & HAS_TAGS:
            while bin.n < BIN and self.marks.dead_head:
                e = self.marks.nodes[self.marks.dead_head].entry
                remove(self, e, cause_of_death(self, e, now), &bin)
        unlock(self)
        if bin.n < BIN:
            rounds = 0
        settle(self, &bin)


cdef uint32_t victim(Cache self, int64_t now, uint32_t spared, int *cause) noexcept:
    """The entry to evict: a dead one before a live one, never `spared`; NIL if there is no other.
    Looks past at most 4,096 entries whose deadline has moved away since they were scheduled."""
    cdef uint32_t e
    cdef int steps = 4096
    if self.flags & HAS_TIME and now >= self.wheel.due:
        wheel_advance(self.wheel, &self.slab, now)
        e = wheel_pop(self.wheel, &self.slab, now, &steps)
        wheel_settle(self.wheel)
        if e != NIL and e != spared:
            cause[0] = EXPIRED
            return e
    if self.flags & HAS_TAGS and self.marks.dead_head:
        e = self.marks.nodes[self.marks.dead_head].entry
        cause[0] = cause_of_death(self, e, now)
        if e != spared:
            return e
    e = policy_victim(&self.order)
    if unlikely(e == spared) and e != NIL:
        e = policy_after(&self.order, &self.slab, e)
    cause[0] = EXPIRED if e != NIL and lapsed(self, e, now) else SIZE
    return e


# ---- remove ----------------------------------------------------------------------------------

cdef void remove(Cache self, uint32_t e, int cause, Bin *bin) noexcept:
    """Take entry e out; its key and value go into the bin, which has room. Locked."""
    cdef Entry *p = slab_entry(&self.slab, e)
    cdef Removed *r = &bin.items[bin.n]
    cdef Extra *x
    cdef int64_t weight = 1
    r.key = p.key
    r.value = p.value
    r.cause = cause
    if unlikely(self.flags & HAS_SOFT) and is_failure(&self.slab, e):
        r.cause = UNTOLD
    bin.n += 1
    table_erase(&self.table, <uint32_t>(p.hash >> 32), e)
    policy_remove(&self.order, &self.slab, e)
    if self.flags & HAS_TIME and slab_side(&self.slab, e, TIMING) != NULL:
        wheel_cancel(self.wheel, &self.slab, e)
    if self.flags & HAS_EXTRA:
        x = slab_extra(&self.slab, e)
        if x != NULL:
            weight = x.weight
            if x.tags:
                tags_detach(self.marks, &x.tags)
    if unlikely(self.wide != 0) and long_exact(r.key) and long_wide(r.key):
        self.wide -= 1
        self.wide_filter[mix(<uint64_t>hash_of(r.key)) >> 56] -= 1
    slab_release(&self.slab, e)
    self.total -= weight
    self.count -= 1
    self.removed[cause] += 1
    if unlikely(self.count == 0) and self.slab.nchunks > 1:
        slab_free(&self.slab)
        table_free(&self.table)
        policy_free(&self.order)


cdef void settle_with_events(Cache self, Bin *bin) noexcept:
    # in C, since an `except` clause of Cython's crashes where no traceback can be allocated
    cdef int i
    cdef Removed *r
    cdef PyObject *event
    for i in range(bin.n):
        r = &bin.items[i]
        if r.key == NULL or r.cause == UNTOLD:
            continue            # displaced before there was a listener; or none of its business
        event = tuple_of_3(3, r.key, r.value, <PyObject*>(<object>CAUSES[r.cause]))
        if event == NULL or not queue_event(self, event):
            count_listener_error(self)
            PyErr_WriteUnraisable(self.listener)
        xdecref(event)


cdef bint queue_event(Cache self, PyObject *event) noexcept:
    """False: no memory, the exception is set."""
    cdef PyObject *events = NULL
    cdef bint queued
    lock(self)
    if self.events is None:
        unlock(self)
        events = list_new(0)
        if events == NULL:
            return False
        lock(self)
        if self.events is None:
            self.events = <list>events
    queued = list_append(<PyObject*>self.events, event) == 0
    unlock(self)
    xdecref(events)
    return queued


cdef void count_listener_error(Cache self) noexcept:
    lock(self)
    self.listener_errors += 1
    unlock(self)


cdef inline void settle(Cache self, Bin *bin) noexcept:
    """After an edit: tell the listener, release what was displaced. Unlocked."""
    if self.listener is not None and bin.n:
        settle_with_events(self, bin)
    drop_bin(bin)
    if unlikely(glance(&self.flags) & HAS_TAGS):
        forget_tags(self)
    if unlikely(self.listener is not None):
        drain(self)


cdef void drain(Cache self) noexcept:
    """Tell the listener of all removals, in order. A call from within the listener, or from
    another thread meanwhile, only queues: one thread tells at a time."""
    cdef list events
    cdef object event
    cdef PyObject *outcome
    lock(self)
    if self.events is None or (self.drainer != 0 and self.drain_generation == generation):
        unlock(self)
        return
    self.drainer = thread_ident()
    self.drain_generation = generation
    while True:
        events = self.events
        self.events = None
        if events is None:
            break
        unlock(self)
        for event in events:
            if self.listener is not None:
                outcome = call_with_tuple(<PyObject*>self.listener, <PyObject*>event, NULL)
                if outcome == NULL:
                    count_listener_error(self)
                    PyErr_WriteUnraisable(self.listener)
                xdecref(outcome)
        event = events = None
        lock(self)
    self.drainer = 0
    unlock(self)


# ---- look up ---------------------------------------------------------------------------------

cdef int look(Cache self, PyObject *key, uint64_t hash, PyObject **value) except -1:
    """1: a hit, counted and promoted; *value is a new reference. 0: a miss, counted."""
    cdef int64_t now
    cdef uint32_t e
    now = time_if_any(self)
    lock(self)
    e = find(self, key, hash)
    return look_found(self, e, now, value)


cdef inline int look_found(Cache self, uint32_t e, int64_t now, PyObject **value) noexcept:
    """The rest of look(). Locked; unlocks."""
    if unlikely(self.flags):
        return look_closer(self, e, now, value)
    if e == NIL:
        self.misses += 1
        unlock(self)
        return 0
    self.hits += 1
    value[0] = slab_entry(&self.slab, e).value
    incref(value[0])
    policy_hit(&self.order, &self.slab, e)
    unlock(self)
    return 1


cdef int look_closer(Cache self, uint32_t e, int64_t now, PyObject **value) noexcept:
    """The rest of look() where entries may be dead, idle or have details. 2: a hit of which its
    loader wants to know. Locked; unlocks."""
    cdef Bin bin
    cdef Detail *d
    cdef Soft *s
    cdef int found = 1
    cdef bint more
    bin.n = 0
    if e != NIL and self.flags & MORTAL and gone(self, e, now):
        remove(self, e, cause_of_death(self, e, now), &bin)
        e = NIL
    if unlikely(self.flags & HAS_SOFT) and e != NIL:
        s = slab_soft(&self.slab, e)
        if s != NULL:
            if past(self, s.fresh, now):
                e = NIL
            elif now >= s.due:
                found = 2
    if e == NIL:
        self.misses += 1
    else:
        self.hits += 1
        value[0] = slab_entry(&self.slab, e).value
        incref(value[0])
        policy_hit(&self.order, &self.slab, e)
        if self.flags & (HAS_TTI | HAS_DETAIL):
            if self.flags & HAS_TTI:
                renew_idle(self, e, now)
            d = slab_detail(&self.slab, e)
            if d != NULL:
                d.hits += 1
    more = chores(self, now)
    unlock(self)
    if bin.n:
        settle(self, &bin)
    if unlikely(more):
        poll(self, now)
    return found if e != NIL else 0


cdef void renew_idle(Cache self, uint32_t e, int64_t now) noexcept:
    """The entry was used, so its idle time starts anew. The wheel is told when it comes up."""
    cdef Timing *t = slab_timing(&self.slab, e)
    cdef Extra *x = slab_extra(&self.slab, e)
    if t != NULL and x != NULL and x.idle != NEVER and now != UNKNOWN:
        set_deadline(self, e, min(x.hard, later(self, now, x.idle)), now)


cdef inline int64_t later(Cache self, int64_t now, int64_t ttl) noexcept:
    """The deadline that is ttl away. The coarse clock may be behind now, so an entry dies as much
    early (a tick or two, 8 ms); never late (see past)."""
    return NEVER if ttl == NEVER or now > INT64_MAX - ttl else now + ttl


cdef inline int64_t lifetime_from(Cache self, int64_t now, int64_t ttl) noexcept:
    """The deadline of an entry stored now, with the cache's jitter."""
    if self.jitter != 0.0 and ttl != NEVER:
        ttl -= <int64_t>(<double>ttl * self.jitter * jitter_draw())
    return later(self, now, ttl)


include "_core_store.pxi"
include "_core_fast.pxi"
include "_core_whole.pxi"
include "_core_flights.pxi"
include "_core_errors.pxi"
include "_core_loads.pxi"
include "_core_ops.pxi"


cdef class Cache:
    """Cache(maxsize, *, policy="lru", ttl=None, tti=None, jitter=0.0, weigher=None, listener=None, clock=None, details=False, name=None)\n--\n
    A bounded mapping in memory that evicts by policy and expires by time.

    maxsize: how many entries (or how much weight) it holds; 0 stores nothing, None is unbounded.
    policy: "lru" (least recently used goes first), "fifo", "lfu" (least frequently used).
    ttl: seconds (or a timedelta) that an entry lives; None is for ever, 0 stores nothing.
    tti: seconds that an entry lives without being read or written.
    jitter: fraction from 0 to 1 by which each ttl is shortened at random.
    weigher: weigher(key, value) -> int >= 0, what an entry counts; 1 without it.
    listener: listener(key, value, cause) after each removal; cause is "explicit", "replaced",
    "size" or "expired". Its exceptions go to sys.unraisablehook.
    clock: a callable that returns float seconds; default is a monotonic clock.
    details: keep age, hits and load cost of each entry for `entry()`.
    name: a str for reports.

    Raises TypeError or ValueError that name the argument. Keys are any hashable objects, equal as
    in dict. All methods may be called from several threads and, being quick and never waiting
    (but for get_or_set), from async code. Lookups, stores and removals cost O(1).
    """

    def __cinit__(self):
        table_init(&self.table)
        slab_init(&self.slab)
        policy_init(&self.order, LRU)
        self.tracked = True
        self.default_ttl = self.default_tti = NEVER

    def __init__(self, maxsize, *, policy="lru", ttl=None, tti=None, jitter=0.0, weigher=None,
                 listener=None, clock=None, details=False, name=None):
        cdef int64_t bound = bound_of(maxsize)
        cdef int64_t ttl_ns = duration(ttl, "ttl")
        cdef int64_t tti_ns = duration(tti, "tti")
        cdef double shorten = fraction(jitter, "jitter")
        cdef int kind = kind_of(policy)
        need_callable(weigher, "weigher")
        need_callable(listener, "listener")
        need_callable(clock, "clock")
        if details is not True and details is not False:
            raise TypeError(f"details must be a bool, got {details!r}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, got {name!r}")
        if self.ready:
            # whoever is in the middle of a call on it relies on what it was made with
            raise RuntimeError("a Cache is initialised only once; use clear() and resize()")
        self.order.kind = kind
        self.bound = bound
        self.unbounded = maxsize is None
        self.default_ttl = ttl_ns
        self.default_tti = tti_ns
        self.jitter = shorten
        self.weigher = weigher
        self.listener = listener
        self.clock = clock
        self.name = name
        self.clock_kind = CLOCK_COARSE if clock is None else CLOCK_USER
        self.flags = (HAS_EXTRA if weigher is not None or tti_ns != NEVER else 0) | \
            (HAS_TTI if tti_ns != NEVER else 0) | (HAS_DETAIL if details else 0)
        if ttl_ns != NEVER or tti_ns != NEVER:
            time_on(self, min(ttl_ns, tti_ns))
        flags_on(self, 0)
        self.ready = True
        if self.tracked and type(self) is Cache and weigher is None and listener is None and clock is None:
            # all that it holds so far is atomic; put() tracks it again when that ends
            gc_untrack(<PyObject*>self)
            self.tracked = False
        elif not self.tracked:
            gc_track(<PyObject*>self)
            self.tracked = True
        if DEBUG:
            _live[id(self)] = _ref(self)

    def __dealloc__(self):
        # the contents have gone before (fc_cache_dealloc)
        if self.wheel != NULL:
            wheel_free(self.wheel)
            mem_free(&self.own_bytes, self.wheel, sizeof(Wheel))
        drop_marks(self)
        mem_free(&self.own_bytes, self.fences, FENCES * sizeof(uint64_t))
        mem_free(&self.own_bytes, self.wide_filter, WIDE_FILTER * sizeof(uint32_t))

    # ---- reading -------------------------------------------------------------------------

    def get(self, key, default=None, /):
        """The value of key, or default. Counts a hit or a miss; a hit is an access. O(1)."""
        cdef uint64_t hash
        cdef PyObject *value
        cdef int r
        mix_quickly(<PyObject*>key, &hash)
        r = look_quickly(self, <PyObject*>key, hash, &value)
        if likely(r == HIT) or (r != MISS and look(self, <PyObject*>key, hash, &value)):
            return owned(value)
        return default

    def __getitem__(self, key):
        """The value of key; KeyError, or what a subclass's __missing__ returns. O(1)."""
        cdef uint64_t hash
        cdef PyObject *value
        cdef int r
        mix_quickly(<PyObject*>key, &hash)
        r = look_quickly(self, <PyObject*>key, hash, &value)
        if likely(r == HIT) or (r != MISS and look(self, <PyObject*>key, hash, &value)):
            return owned(value)
        if type(self) is not Cache:
            missing = getattr(type(self), "__missing__", None)
            if missing is not None:
                return missing(self, key)
        raise KeyError(key)

    def peek(self, key, default=None, /):
        """The value of key, or default; neither an access nor counted. O(1)."""
        return peek(self, key, default)

    def __contains__(self, key):
        """Whether key is held and alive; neither an access nor counted. O(1)."""
        cdef uint32_t e = find_alive(self, key)
        unlock(self)
        return e != NIL

    def ttl(self, key, /):
        """Seconds that key has left to live, None for ever; KeyError if absent. O(1)."""
        cdef int64_t now = exact_time_of(self), deadline
        cdef uint64_t hash
        cdef uint32_t e
        mix_key(<PyObject*>key, &hash)
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e != NIL and not dead(self, e, now):
            deadline = visible_until(self, e)
            unlock(self)
            return seconds_until(deadline, now)
        unlock(self)
        raise KeyError(key)

    def entry(self, key, /):
        """What is known of key, as an Entry (value, ttl left, tti, weight, tags; age, hits and
        load_cost where details=True keeps them, else None); KeyError if absent. O(1)."""
        cdef int64_t now = exact_time_of(self)
        cdef uint64_t hash
        cdef uint32_t e
        mix_key(<PyObject*>key, &hash)
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e == NIL or dead(self, e, now):
            unlock(self)
            raise KeyError(key)
        return entry_record(self, e, now)

    def get_many(self, keys, default=None, /):
        """A list of values aligned with keys, with default for those absent; counts and accesses as
        get. An array of integers (buffer protocol: array.array, memoryview, numpy) is read without
        making Python ints. O(len(keys))."""
        return get_many(self, keys, default)

    # ---- writing -------------------------------------------------------------------------

    def __setitem__(self, key, value):
        """Store with the cache's defaults. O(1)."""
        cdef uint64_t hash
        cdef Options o
        mix_quickly(<PyObject*>key, &hash)
        if put_quickly(self, <PyObject*>key, hash, <PyObject*>value, SET, NULL) != UNSURE:
            return
        defaults(self, &o)
        if unlikely(self.weigher is not None):
            weigh(self, &o, key, value)
        put(self, <PyObject*>key, hash, <PyObject*>value, &o, time_if_any(self), SET)

    def set(self, key, value, /, *, ttl=..., tti=..., weight=..., tags=()):
        """Store value under key with options of its own; those not given are the cache's defaults.

        ttl, tti: seconds or timedelta; None is for ever, 0 stores nothing and removes the old
        entry. weight: int >= 0. tags: an iterable of str, bytes, int or tuples of these.
        A value heavier than maxsize is not stored, and the old one goes. O(1)."""
        store(self, key, value, ttl, tti, weight, tags, SET)

    def add(self, key, value, /, *, ttl=..., tti=..., weight=..., tags=()):
        """Store only if key is absent; True if it was stored. Options as in set. O(1)."""
        return store(self, key, value, ttl, tti, weight, tags, ADD) == 1

    def set_many(self, mapping, /, *, ttl=..., tti=..., weight=..., tags=()):
        """set() for each pair of a mapping or an iterable of pairs. O(len(mapping))."""
        check_options(ttl, tti, weight)
        tags = tags_given(tags)     # an iterator would serve the first pair only
        for key, value in pairs_of(mapping):
            store(self, key, value, ttl, tti, weight, tags, SET)

    def update(self, other=(), /, **kwargs):
        """As dict.update. O(len(other))."""
        for key, value in pairs_of(other):
            self[key] = value
        for key, value in kwargs.items():
            self[key] = value

    def setdefault(self, key, default=None, /):
        """The value of key, stored as default first if absent. Counts as get. O(1)."""
        cdef uint64_t hash
        cdef PyObject *value
        mix_key(<PyObject*>key, &hash)
        for _ in range(RESTARTS):
            if look(self, <PyObject*>key, hash, &value):
                return owned(value)
            if store(self, key, default, UNSET, UNSET, UNSET, (), ADD) or key not in self:
                return default
        return default      # its __eq__ says now this, now that

    def incr(self, key, /, delta=1, initial=0):
        """Add delta to the number stored under key, atomically, and return the result; absent
        gives initial + delta. ttl and tags stay. TypeError unless all are int or float. O(1)."""
        return increment(self, key, delta, initial)

    def touch(self, key, /, ttl=...):
        """Give key a new ttl (default: the cache's) and start its idle time anew; True if it is
        there. No access for the policy, not counted. ttl=0 removes it. O(1)."""
        return touch(self, key, ttl)

    # ---- removing ------------------------------------------------------------------------

    def __delitem__(self, key):
        """Remove key; KeyError if absent. O(1)."""
        if not discard(self, key):
            raise KeyError(key)

    def delete(self, key, /):
        """Remove key; True if it was there. O(1)."""
        return discard(self, key)

    def delete_many(self, keys, /):
        """Remove each of keys; how many were there. O(len(keys))."""
        n = 0
        for key in keys:
            n += discard(self, key)
        return n

    def pop(self, key, /, *default):
        """Remove key and return its value; default, or KeyError without one, if absent. O(1)."""
        cdef PyObject *value = NULL
        if len(default) > 1:
            raise TypeError(f"pop takes a key and at most one default, got {1 + len(default)} arguments")
        if take(self, key, &value):
            return owned(value)
        if not default:
            raise KeyError(key)
        return default[0]

    def popitem(self):
        """Remove and return the (key, value) that the policy would evict next; KeyError if empty.
        O(1)."""
        return pop_victim(self)

    def clear(self):
        """Remove everything; the memory goes too. O(n)."""
        lock(self)
        fence_all(self)
        unlock(self)
        wipe(self)

    def invalidate_tag(self, *tags):
        """Every entry stored with one of tags, or being loaded with it, is dead from now on. O(1)
        for each tag, whatever the number of entries; their memory returns a little with each
        later call."""
        for tag in tags:
            check_tag(tag)
        invalidate_tags(self, tags)

    def expire(self, limit=None):
        """Remove what is dead, by time or by tag (at most limit entries), and return it as a list of
        (key, value). O(n)."""
        return expire(self, limit)

    def evict(self, n=1, /):
        """Evict the n next by policy; how many there were. O(n)."""
        cdef int64_t left = whole(n, "n", "an int")
        cdef int64_t evicted = 0
        cdef int64_t now = time_if_any(self)
        while evicted < left and shed(self, now, -1, False):
            evicted += 1
        return evicted

    def resize(self, maxsize, /):
        """Change maxsize; what no longer fits is evicted. O(evicted)."""
        cdef int64_t bound = bound_of(maxsize)
        cdef int64_t now = time_if_any(self)
        while shed(self, now, bound, True):
            pass
        lock(self)
        self.unbounded = maxsize is None
        unlock(self)

    def get_or_set(self, key, factory, /, *, ttl=..., tti=..., weight=..., tags=()):
        """The value of key; if absent, that of factory(), stored with options as in set.

        factory runs once per key at a time, over all threads: the others wait for it, and get its
        value or its exception. What is removed or set while its load is under way is returned to
        those who wait already, but not stored. A factory that asks for its own key, or that waits
        for one who waits for it, is computed through. An async factory is a TypeError. O(1)."""
        cdef uint64_t hash
        cdef PyObject *value
        if ttl is not UNSET or tti is not UNSET or weight is not UNSET:
            check_options(ttl, tti, weight)
        if type(tags) is not tuple or tags:
            tags = tags_given(tags)
        check_factory(factory)
        mix_key(<PyObject*>key, &hash)
        if look(self, <PyObject*>key, hash, &value):
            return owned(value)
        return load_by_flight(self, key, hash, factory, (), None, ttl, tti, weight, tags, INFINITY)

    # ---- as a mapping --------------------------------------------------------------------

    def __len__(self):
        """Entries held; those dead but not yet reclaimed count."""
        return held(self)

    def __bool__(self):
        return held(self) != 0

    def __iter__(self):
        """Live keys, in no promised order; RuntimeError when a new key was stored meanwhile."""
        return iterate(self, KEYS)

    def keys(self):
        """A set-like view of the live keys."""
        return CacheKeysView(self)

    def values(self):
        """A view of the live values. Reading it is no access."""
        return CacheValuesView(self)

    def items(self):
        """A set-like view of the live (key, value) pairs. Reading it is no access."""
        return CacheItemsView(self)

    def __eq__(self, other):
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(CacheItemsView(self)) == dict(other.items())

    __hash__ = None
    __reversed__ = None

    def __repr__(self):
        parts = [f"maxsize={self.maxsize!r}", f"policy={self.policy!r}", f"len={held(self)}"]
        if self.default_ttl != NEVER:
            parts.append(f"ttl={seconds(self.default_ttl):g}")
        if self.default_tti != NEVER:
            parts.append(f"tti={seconds(self.default_tti):g}")
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    @classmethod
    def __class_getitem__(cls, item, /):
        return _GenericAlias(cls, item)

    # ---- what it is ----------------------------------------------------------------------

    def hottest(self, n=None, /):
        """The n (default all) keys that the policy would keep longest, first the safest. O(n)."""
        return walk_order(self, n, True)

    def coldest(self, n=None, /):
        """The n (default all) keys that the policy would evict next, first the next. O(n)."""
        return walk_order(self, n, False)

    def stats(self, reset=False):
        """Counts since the cache was made or reset, as a CacheStats. O(1)."""
        return stats_record(self, reset)

    @property
    def nbytes(self):
        """Bytes of memory that the cache itself has, keys and values excluded."""
        return bytes_of(self)

    def __sizeof__(self):
        return bytes_of(self)

    @property
    def maxsize(self):
        """The bound on len, or on weight; None: unbounded."""
        cdef int64_t bound
        cdef bint unbounded
        lock(self)
        bound = self.bound
        unbounded = self.unbounded
        unlock(self)
        return None if unbounded else bound

    @property
    def weight(self):
        """The sum of the weights of the entries held."""
        cdef int64_t total
        lock(self)
        total = self.total
        unlock(self)
        return total

    @property
    def policy(self):
        """The name of the eviction policy."""
        cdef int kind
        lock(self)
        kind = self.order.kind
        unlock(self)
        return POLICY_NAMES[kind]

    def __reduce__(self):
        """Contents, order and remaining time; statistics and loads under way stay behind."""
        return _restore, (type(self), config_of(self)), state_of(self)

    def __setstate__(self, state):
        set_state(self, state)

    def _check(self):
        """AssertionError if an invariant of the structures is broken. O(n)."""
        check(self)


include "_core_records.pxi"
include "_core_views.pxi"
include "_core_check.pxi"
include "_core_calls.pxi"
include "_core_keys.pxi"
include "_core_trust.pxi"
include "_core_cached.pxi"
include "_core_await.pxi"
include "_core_home.pxi"
include "_core_front.pxi"
include "_core_tier.pxi"
include "_core_json.pxi"
include "_core_envelope.pxi"
include "_core_names.pxi"

patch_cache_type(Cache, visit_contents, drop_contents)
open_front()
