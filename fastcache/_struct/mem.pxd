"""Accounted memory: every block that a cache owns passes here, so that `nbytes` is exact.

Cost: that of PyMem_Malloc, and one addition. Who may call: the holder of the cache's lock.
PyMem_* never runs the collector, so these are allowed between two stores of an edit; the
engine calls them before the first store all the same, since they may fail.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc


cdef inline void* mem_alloc(size_t *account, size_t size) noexcept:
    cdef void *p = PyMem_Malloc(size)
    if p != NULL:
        account[0] += size
    return p


cdef inline void* mem_zeroed(size_t *account, size_t size) noexcept:
    cdef void *p = PyMem_Calloc(1, size)
    if p != NULL:
        account[0] += size
    return p


cdef inline void* mem_grow(size_t *account, void *old, size_t old_size, size_t size) noexcept:
    """Grown or shrunk in place or moved; NULL leaves the old block as it was."""
    cdef void *p = PyMem_Realloc(old, size)
    if p != NULL:
        account[0] += size
        account[0] -= old_size
    return p


cdef inline void mem_free(size_t *account, void *p, size_t size) noexcept:
    if p != NULL:
        PyMem_Free(p)
        account[0] -= size
