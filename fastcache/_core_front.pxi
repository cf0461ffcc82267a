# The front door: the slots and methods that a program calls a million times a second, for the one
# case that nearly all of those calls are: an exact str or small int, in a cache without time,
# weights or details, that is a hit under lru by the same object (or an equal small int). That case
# calls nothing, so the compiler saves no registers. Whatever else comes goes on, with nothing changed,
# to the way that Cython made, through a pointer saved when the slot was patched.

ctypedef PyObject* (*getter)(PyObject*, PyObject**, Py_ssize_t, PyObject*) noexcept
ctypedef PyObject* (*binary)(PyObject*, PyObject*) noexcept
ctypedef int (*setter)(PyObject*, PyObject*, PyObject*) noexcept

cdef extern from "compat.h":
    getter patch_fastcall "fc_patch_fastcall"(object, const char*, getter) except NULL
    binary patch_subscript "fc_patch_subscript"(object, binary) noexcept
    setter patch_ass_subscript "fc_patch_ass_subscript"(object, setter) noexcept

cdef getter further_get
cdef binary further_subscript
cdef setter further_ass_subscript


cdef inline bint mix_at_once(PyObject *key, uint64_t *hash) noexcept:
    """The mixed hash of an exact str that has been hashed before, or of a small int. False: neither."""
    cdef int64_t h
    if str_exact(key):
        h = str_hash(key)
        if unlikely(h == -1):
            return False
    elif likely(long_exact(key)) and likely(long_compact(key, &h)):
        if unlikely(h < 0):         # -1 and -2 have one hash
            return False
    else:
        return False
    hash[0] = mix(<uint64_t>h)
    return True


cdef inline bint same_number(PyObject *a, PyObject *b) noexcept:
    cdef int64_t v, w
    return long_exact(a) and long_exact(b) and long_compact(a, &v) and long_compact(b, &w) and v == w


cdef inline int hit_at_once(Cache self, PyObject *key, uint64_t hash, PyObject **value) noexcept:
    """HIT with a new reference in *value, counted; MISS, for the caller to count; or UNSURE."""
    cdef Segment *s
    cdef uint64_t *cells
    cdef uint64_t cell
    cdef uint32_t mask, i
    cdef Entry *p
    if unlikely(not self.quick):
        return UNSURE
    lock(self)
    s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cells = s.cells
    mask = s.mask
    i = <uint32_t>(hash >> 32) & mask
    while True:
        cell = cells[i]
        if cell == 0:
            unlock(self)
            return MISS
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                if unlikely(p.key != key) and not same_number(p.key, key):
                    unlock(self)
                    return UNSURE
                self.hits += 1
                value[0] = p.value
                incref(p.value)
                order_to_head(&self.order.order, &self.slab, <uint32_t>cell)
                unlock(self)
                return HIT
        i = (i + 1) & mask


cdef PyObject* front_get(PyObject *self, PyObject **args, Py_ssize_t nargs, PyObject *names) noexcept:
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if unlikely(nargs < 1 or nargs > 2 or names != NULL) or \
            unlikely(not mix_at_once(args[0], &hash)):
        return further_get(self, args, nargs, names)
    r = raw_hit_at_once(self, args[0], hash, &value)
    if likely(r == HIT):
        return value
    if likely(r == MISS):
        raw_count_miss(self)
        value = args[1] if nargs == 2 else <PyObject*>None
        incref(value)
        return value
    return front_get_slower(self, args, nargs, hash)


cdef PyObject* front_get_slower(PyObject *self, PyObject **args, Py_ssize_t nargs, uint64_t hash) noexcept:
    """Other policies, expiry, equal strings: all that look_quickly can do."""
    cdef PyObject *value
    cdef int r = raw_look_quickly(self, args[0], hash, &value)
    if r == HIT:
        return value
    if r == UNSURE:
        return further_get(self, args, nargs, NULL)
    value = args[1] if nargs == 2 else <PyObject*>None
    incref(value)
    return value


cdef PyObject* front_subscript(PyObject *self, PyObject *key) noexcept:
    cdef uint64_t hash
    cdef PyObject *value
    if likely(mix_at_once(key, &hash)) and \
            likely(raw_hit_at_once(self, key, hash, &value) == HIT):
        return value
    return further_subscript(self, key)


cdef int front_ass_subscript(PyObject *self, PyObject *key, PyObject *value) noexcept:
    cdef uint64_t hash
    if likely(value != NULL) and likely(mix_at_once(key, &hash)) and \
            likely(raw_put_at_once(self, key, hash, value) != UNSURE):
        return 0
    return further_ass_subscript(self, key, value)


cdef inline int put_at_once(Cache self, PyObject *key, uint64_t hash, PyObject *value) noexcept:
    return UNSURE if unlikely(self.loading) else put_quickly(self, key, hash, value, SET)


cdef PyObject* call_shaped(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    """The vectorcall of a function that is typed or keeps nothing."""
    return raw_call_of_shape(function, args, nargsf, names)


cdef PyObject* call(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if unlikely(names != NULL):
        return raw_call_of_shape(function, args, nargsf, names)
    if vectorcall_nargs(nargsf) != 1 or unlikely(not mix_at_once(args[0], &hash)):
        return raw_call_of_args(function, raw_store(function), args, nargsf)
    r = raw_hit_at_once(raw_store(function), args[0], hash, &value)
    if likely(r == HIT):
        return value
    if r == MISS:
        raw_count_miss(raw_store(function))
        return raw_call_through(function, NULL, args, nargsf, NULL, args[0], hash)
    return raw_call_of_own_key(function, args, nargsf, hash)


cdef int open_front() except -1:
    global further_get, further_subscript, further_ass_subscript
    further_get = patch_fastcall(Cache, "get", front_get)
    further_subscript = patch_subscript(Cache, front_subscript)
    further_ass_subscript = patch_ass_subscript(Cache, front_ass_subscript)
    return 0
