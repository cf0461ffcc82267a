# The front door: the slots and methods that a program calls a million times a second, for the one
# case that nearly all of those calls are: an exact str or small int, in a cache without time,
# weights or details, that is a hit under lru by the same object (or an equal small int); and for
# arguments in their place: these, and objects that hash by address. That case
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
    """The mixed hash of an exact str that has been hashed before, or of a small int that is not negative
    (-1 and -2 have one hash). False: neither."""
    cdef int64_t h
    if str_exact(key):
        h = str_hash(key)
        if unlikely(h == -1):
            return False
    elif unlikely(not long_exact(key)) or unlikely(not long_small(key, &h)):
        return False
    hash[0] = mix(<uint64_t>h)
    return True


cdef inline bint same_number(PyObject *a, PyObject *b) noexcept:
    cdef int64_t v, w
    return long_exact(a) and long_exact(b) and long_compact(a, &v) and long_compact(b, &w) and v == w


cdef inline bint all_alive(Cache self) noexcept:
    """Whether entries have nothing, or nothing but deadlines, and those are all far away. Locked."""
    if self.quick == TIME_ONLY:
        return likely(clock_coarse() < self.wheel.due - COARSE_LAG)
    return self.flags == 0


cdef inline int hit_at_once(Cache self, PyObject *key, uint64_t hash, PyObject **value) noexcept:
    """HIT with a new reference in *value, counted; MISS, for the caller to count; or UNSURE."""
    return held_at_once(self, key, hash, value, True)


cdef inline int held_at_once(Cache self, PyObject *key, uint64_t hash, PyObject **value, bint lru) noexcept:
    """hit_at_once; where not `lru`, for other policies too, with deadlines, and for equal strings."""
    cdef Segment *s
    cdef uint64_t *cells
    cdef uint64_t cell
    cdef uint32_t mask, i
    cdef Entry *p
    cdef bint plain, equal
    lock(self)
    # no conditional expressions here: Cython makes objects of their branches
    if lru:
        plain = self.quick == PLAIN
    else:
        plain = all_alive(self)
    if unlikely(not plain):
        unlock(self)
        return UNSURE
    s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cells = s.cells
    mask = s.mask
    i = <uint32_t>(hash >> 32) & mask
    cell = cells[i]
    while (cell ^ hash) >> 32 != 0:
        if cell == 0:
            unlock(self)
            return MISS
        i = (i + 1) & mask
        cell = cells[i]
    if unlikely(cell == 0):
        unlock(self)
        return UNSURE       # the tag is 0 too: once in 2**32 keys
    p = slab_entry(&self.slab, <uint32_t>cell)
    equal = p.hash == hash
    if likely(equal) and unlikely(p.key != key):
        if lru:
            equal = same_number(p.key, key)
        else:
            equal = same_at_once(p.key, key)
    if unlikely(not equal):
        unlock(self)
        return UNSURE
    self.hits += 1
    value[0] = p.value
    incref(p.value)
    if lru:
        order_to_head(&self.order.order, &self.slab, <uint32_t>cell)
    else:
        promote(self, <uint32_t>cell)
    unlock(self)
    return HIT


cdef PyObject* front_get(PyObject *self, PyObject **args, Py_ssize_t nargs, PyObject *names) noexcept:
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if unlikely(nargs < 1 or nargs > 2 or names != NULL):
        return further_get(self, args, nargs, names)
    if unlikely(not mix_at_once(args[0], &hash)):
        return front_get_tuple(self, args, nargs)
    r = raw_hit_at_once(self, args[0], hash, &value)
    if likely(r == HIT):
        return value
    if likely(r == MISS):
        raw_count_miss(self)
        value = args[1] if nargs == 2 else <PyObject*>None
        incref(value)
        return value
    return front_get_slower(self, args, nargs, hash)


cdef PyObject* front_get_tuple(PyObject *self, PyObject **args, Py_ssize_t nargs) noexcept:
    """A tuple is looked up as the arguments of a call are; other keys go further."""
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if tuple_exact(args[0]):
        r = raw_args_at_once(self, tuple_items(args[0]), tuple_size(args[0]), NULL, 0, False, &hash, &value)
        if likely(r == HIT):
            return value
        if r == MISS:
            raw_count_miss(self)
            value = args[1] if nargs == 2 else <PyObject*>None
            incref(value)
            return value
    return further_get(self, args, nargs, NULL)


cdef PyObject* front_get_slower(PyObject *self, PyObject **args, Py_ssize_t nargs, uint64_t hash) noexcept:
    """Other policies, expiry, equal strings."""
    cdef PyObject *value
    if likely(raw_held_at_once(self, args[0], hash, &value) == HIT):
        return value
    return raw_front_get_slowest(self, args, nargs, hash)


cdef PyObject* front_get_slowest(PyObject *self, PyObject **args, Py_ssize_t nargs, uint64_t hash) noexcept:
    """All that look_quickly can do."""
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


cdef inline int args_at_once(Cache self, PyObject **args, Py_ssize_t n, PyObject *names, Py_ssize_t nkw, bint typed,
                             uint64_t *hash, PyObject **value) noexcept:
    """hit_at_once for the CallKey of n positional arguments and nkw keywords: *hash is its hash unless UNSURE."""
    cdef Py_uhash_t acc = tuple_hash_start()
    cdef Py_hash_t h
    cdef uint64_t mixed
    cdef Segment *s
    cdef uint64_t *cells
    cdef uint64_t cell
    cdef uint32_t mask, i
    cdef Entry *p
    cdef PyObject **items
    cdef Py_ssize_t j, size = n + (2 * nkw + 1 if nkw else 0) + (n + nkw if typed else 0)
    if unlikely(glance(&self.quick) != PLAIN):
        return UNSURE
    for j in range(n):
        if unlikely(not hash_at_once(args[j], &h)):
            return UNSURE
        acc = tuple_hash_step(acc, h)
    if nkw:
        acc = tuple_hash_step(acc, MARK_HASH)
        for j in range(nkw):
            h = str_hash(tuple_item(names, j))
            if unlikely(h == -1):
                return UNSURE
            acc = tuple_hash_step(acc, h)
            if unlikely(not hash_at_once(args[n + j], &h)):
                return UNSURE
            acc = tuple_hash_step(acc, h)
    if typed:
        for j in range(n + nkw):
            if unlikely(not hash_at_once(<PyObject*>type_of(args[j]), &h)):
                return UNSURE
            acc = tuple_hash_step(acc, h)
    mixed = mix(<uint64_t>tuple_hash_end(acc, size))
    hash[0] = mixed
    lock(self)
    if FREE_THREADED and unlikely(self.quick != PLAIN):
        unlock(self)
        return UNSURE
    s = table_segment(&self.table, <uint32_t>(mixed >> 32))
    cells = s.cells
    mask = s.mask
    i = <uint32_t>(mixed >> 32) & mask
    while True:
        cell = cells[i]
        if cell == 0:
            unlock(self)
            return MISS
        if (cell ^ mixed) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == mixed):
                break
        i = (i + 1) & mask
    if unlikely(not callkey_or_tuple(p.key) or tuple_size(p.key) != size):
        unlock(self)
        return UNSURE
    items = tuple_items(p.key)
    for j in range(n):
        if unlikely(items[j] != args[j]) and not same_at_once(items[j], args[j]):
            unlock(self)
            return UNSURE
    items += n
    args += n
    if nkw:
        if unlikely(items[0] != <PyObject*>MARK):
            unlock(self)
            return UNSURE
        items += 1
        for j in range(nkw):
            if unlikely(items[0] != tuple_item(names, j)) and not same_at_once(items[0], tuple_item(names, j)):
                unlock(self)
                return UNSURE
            if unlikely(items[1] != args[j]) and not same_at_once(items[1], args[j]):
                unlock(self)
                return UNSURE
            items += 2
    if typed:
        args -= n
        for j in range(n + nkw):
            if unlikely(items[j] != <PyObject*>type_of(args[j])):
                unlock(self)
                return UNSURE
    self.hits += 1
    value[0] = p.value
    incref(p.value)
    order_to_head(&self.order.order, &self.slab, <uint32_t>cell)
    unlock(self)
    return HIT


cdef inline int put_at_once(Cache self, PyObject *key, uint64_t hash, PyObject *value) noexcept:
    return put_quickly(self, key, hash, value, SET, NULL)


# Decorated calls. Each shape has a function of its own, reached by a jump, so that none of them
# pays for the registers that another one needs.

cdef PyObject* call(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    cdef Py_ssize_t n = vectorcall_nargs(nargsf)
    if unlikely(names != NULL):
        return raw_call_of_names(function, args, nargsf, names)
    if likely(n == 1):
        return raw_call_of_one(function, args, nargsf)
    if likely(n == 2):
        return raw_call_of_two(function, args, nargsf)
    return raw_call_of_args(function, raw_store(function), args, nargsf)


cdef PyObject* call_of_one(PyObject *function, PyObject **args, size_t nargsf) noexcept:
    """One positional argument, untyped."""
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if unlikely(not mix_at_once(args[0], &hash)):
        return raw_call_of_args(function, raw_store(function), args, nargsf)
    r = raw_hit_at_once(raw_store(function), args[0], hash, &value)
    if likely(r == HIT):
        return value
    if r == MISS:
        raw_count_miss(raw_store(function))
        return raw_call_of_own_missed(function, args, nargsf, hash)
    return raw_call_of_own_key(function, args, nargsf, hash)


cdef PyObject* call_of_own_missed(PyObject *function, PyObject **args, size_t nargsf, uint64_t hash) noexcept:
    # so that it is reached by a jump: call_through takes more arguments than there are registers
    return raw_call_through(function, NULL, args, nargsf, NULL, args[0], hash)


cdef PyObject* call_of_two(PyObject *function, PyObject **args, size_t nargsf) noexcept:
    """Two positional arguments, untyped: also the call of a method with one."""
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r = raw_args_at_once(raw_store(function), args, 2, NULL, 0, False, &hash, &value)
    if likely(r == HIT):
        return value
    if r == MISS:
        raw_count_miss(raw_store(function))
        return raw_call_of_args_further(function, args, nargsf, hash, MISS)
    return raw_call_of_args(function, raw_store(function), args, nargsf)


cdef PyObject* call_of_names(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    """Keywords, untyped."""
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r = raw_args_at_once(raw_store(function), args, vectorcall_nargs(nargsf), names, tuple_size(names), False,
                                  &hash, &value)
    if likely(r == HIT):
        return value
    if r == MISS:
        raw_count_miss(raw_store(function))
        return raw_call_of_shape_missed(function, args, nargsf, names, hash)
    return raw_call_of_shape(function, args, nargsf, names)


cdef PyObject* call_shaped(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    """The vectorcall of a function that is typed or keeps nothing."""
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if likely(raw_typed(function)):
        r = raw_args_at_once(raw_store(function), args, vectorcall_nargs(nargsf), names,
                             tuple_size(names) if names != NULL else 0, True, &hash, &value)
        if likely(r == HIT):
            return value
        if r == MISS:
            raw_count_miss(raw_store(function))
            return raw_call_of_shape_missed(function, args, nargsf, names, hash)
    return raw_call_of_shape(function, args, nargsf, names)


cdef int open_front() except -1:
    global further_get, further_subscript, further_ass_subscript
    learn_address_hash()
    further_get = patch_fastcall(Cache, "get", front_get)
    further_subscript = patch_subscript(Cache, front_subscript)
    further_ass_subscript = patch_ass_subscript(Cache, front_ass_subscript)
    return 0
