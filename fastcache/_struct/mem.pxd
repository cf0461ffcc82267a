"""Accounted memory: every block that a cache owns passes here, so that `nbytes` is exact.

Blocks from 32 KiB on are mapped by themselves (compat.h), so that they go back to the system when
they are given up; smaller ones come from PyMem_*. A block's size, which the caller knows, tells
which. Cost: that of PyMem_Malloc or mmap, and one addition. Who may call: the holder of the
cache's lock. Neither runs the collector, so these are allowed between two stores of an edit; the
engine calls them before the first store all the same, since they may fail.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memcpy

cdef extern from "compat.h":
    const size_t BIG_BLOCK "FC_BIG_BLOCK"
    void* map_block "fc_map_block"(size_t) noexcept
    void unmap_block "fc_unmap_block"(void*, size_t) noexcept


cdef inline void* mem_alloc(size_t *account, size_t size) noexcept:
    cdef void *p = map_block(size) if size >= BIG_BLOCK else PyMem_Malloc(size)
    if p != NULL:
        account[0] += size
    return p


cdef inline void* mem_zeroed(size_t *account, size_t size) noexcept:
    cdef void *p = map_block(size) if size >= BIG_BLOCK else PyMem_Calloc(1, size)
    if p != NULL:
        account[0] += size
    return p


cdef inline void mem_free(size_t *account, void *p, size_t size) noexcept:
    if p != NULL:
        if size >= BIG_BLOCK:
            unmap_block(p, size)
        else:
            PyMem_Free(p)
        account[0] -= size


cdef inline void* mem_grow(size_t *account, void *old, size_t old_size, size_t size) noexcept:
    """Grown in place or moved; NULL leaves the old block as it was."""
    cdef void *p
    if size < BIG_BLOCK:
        p = PyMem_Realloc(old, size)
        if p != NULL:
            account[0] += size - old_size
        return p
    p = mem_alloc(account, size)
    if p != NULL and old != NULL:
        memcpy(p, old, old_size)
        mem_free(account, old, old_size)
    return p
