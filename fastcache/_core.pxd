"""C declarations of the engine's classes, for extensions that cimport them."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastcache._struct.policy cimport Policy
from fastcache._struct.slab cimport Slab
from fastcache._struct.table cimport Table
from fastcache._struct.tags cimport Tags
from fastcache._struct.wheel cimport Wheel

cdef extern from "compat.h":
    ctypedef struct fc_mutex:
        pass
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, PyObject**, size_t, PyObject*)


cdef struct Removed:            # what an edit displaced, to be released after it
    PyObject *key               # NULL where only the value went
    PyObject *value
    int cause


cdef struct Bin:
    int n
    Removed items[16]


cdef struct Options:            # of one entry to be stored
    int64_t ttl                 # ns; NEVER; 0: store nothing
    int64_t tti
    int64_t weight
    uint32_t *tags              # record numbers, each held by a reference
    uint32_t ntags
    bint load                   # the value comes from a load, that may have been fenced:
    bint *fenced                #   its flight's mark; NULL: it has none, so
    uint64_t since              #   fences from this one on count
    uint64_t sequence           #   invalidations of its tags after this one count
    double cost                 # seconds, negative: not loaded
    bint soft                   # it has a Soft record, that is:
    bint failure                #   only its loader sees it
    int64_t extra               #   ns that it is kept for its loader past its ttl
    int64_t lead                #   ns before the end of its ttl from which hits tell its loader


cdef class Cache:
    cdef Table table
    cdef Slab slab
    cdef Policy order
    cdef Wheel *wheel           # NULL until an entry can expire
    cdef Tags *marks            # NULL until an entry has a tag
    cdef uint64_t hits
    cdef uint64_t misses
    cdef uint64_t inserted      # ever; tells iterators that a key is new
    cdef uint64_t inserted_before       # ... when the statistics were reset
    cdef int64_t total          # weight
    cdef int64_t bound          # its limit
    cdef uint32_t flags
    cdef uint32_t quick         # PLAIN, TIME_ONLY or 0
    cdef uint32_t loading       # loads under way, each of which a removal has to fence
    cdef uint32_t clock_kind
    cdef uint32_t count         # at most MAX_ENTRIES
    cdef uint32_t wide          # keys that are ints of which hash() loses something
    cdef fc_mutex mutex
    cdef char unbounded         # maxsize is None; `bound` is INT64_MAX
    cdef char tracked           # by the cyclic collector
    cdef char gc_keys           # some key (value) ever stored was of a type that it follows
    cdef char gc_values
    cdef char ready             # __init__ has run
    cdef int64_t default_ttl    # ns
    cdef int64_t default_tti
    cdef double jitter
    cdef object weigher
    cdef object listener
    cdef object clock
    cdef readonly object name
    cdef dict tag_records       # tag -> record number
    cdef dict flights           # mixed hash -> [Flight, ...]
    cdef list events            # removals not yet told to the listener
    cdef unsigned long drainer  # the thread that tells them; 0: none
    cdef unsigned int drain_generation      # the process (see generation) it belongs to
    cdef unsigned int flights_generation
    cdef uint64_t *fences       # ring of the mixed hashes removed while loads were under way
    cdef uint64_t fenced_at     # how many were ever written to it
    cdef uint32_t *wide_filter
    cdef uint64_t removed[4]    # by cause
    cdef uint64_t loads
    cdef uint64_t load_failures
    cdef uint64_t fenced
    cdef uint64_t stale_hits
    cdef uint64_t listener_errors
    cdef double load_time
    cdef size_t own_bytes
    cdef object __weakref__


cdef class CachedFunction:
    cdef vectorcallfunc vectorcall
    cdef PyObject *store        # `cache`, borrowed, for calls
    cdef readonly Cache cache
    cdef object function
    cdef bint typed
    cdef bint planned           # it is a Cached, whose misses are loads
    cdef object shown_maxsize
    cdef object __weakref__
    cdef dict __dict__
