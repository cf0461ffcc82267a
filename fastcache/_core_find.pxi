# Finding the entry of a key, with and without asking the keys.

# All of these are called locked and return locked; only when they raise, the lock is released.

cdef inline uint32_t find(Cache self, PyObject *key, uint64_t hash) except? 0xFFFFFFFFu:
    """The entry of a key, dead or alive, or NIL. Unlocks while user code compares."""
    cdef Segment *s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cdef uint32_t mask = s.mask
    cdef uint32_t i = <uint32_t>(hash >> 32) & mask
    cdef uint64_t cell
    cdef Entry *p
    cdef int r
    while True:
        cell = s.cells[i]
        if cell == 0:
            break
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                if p.key == key:
                    return <uint32_t>cell
                r = same(p.key, key)
                if likely(r == 1):
                    return <uint32_t>cell
                if r < 0:
                    return find_asking(self, key, hash)
        i = (i + 1) & mask
    if long_exact(key):
        if unlikely(long_wide(key)) and self.count > self.wide:
            # an equal float or Decimal lies under the hash that Python gives
            return find_asking(self, key, mix(<uint64_t>hash_of(key)))
    elif unlikely(self.wide != 0):
        return find_wide(self, key, hash)
    return NIL


cdef uint32_t find_asking(Cache self, PyObject *key, uint64_t hash) except? 0xFFFFFFFFu:
    """find() where the objects themselves must say whether they are equal."""
    cdef Segment *s
    cdef uint32_t i, e
    cdef uint64_t cell, version
    cdef PyObject *held
    cdef int r, restarts
    for restarts in range(RESTARTS):
        version = self.table.version
        s = table_segment(&self.table, <uint32_t>(hash >> 32))
        i = <uint32_t>(hash >> 32) & s.mask
        while True:
            cell = s.cells[i]
            if cell == 0:
                if self.wide != 0 and not long_exact(key):
                    return find_wide(self, key, hash)
                return NIL
            e = <uint32_t>cell
            if (cell ^ hash) >> 32 == 0 and slab_entry(&self.slab, e).hash == hash:
                held = slab_entry(&self.slab, e).key
                r = same(held, key)
                if r < 0:
                    incref(held)
                    unlock(self)
                    try:
                        r = compare(held, key, Py_EQ)
                    finally:
                        decref(held)
                    lock(self)
                    if self.table.version != version:
                        break
                if r:
                    return e
            i = (i + 1) & s.mask
    return find_listed(self, key, hash)


cdef uint32_t find_listed(Cache self, PyObject *key, uint64_t hash) except? 0xFFFFFFFFu:
    """find() by a list of the keys of equal hash, each compared once: for an `__eq__` that
    edits the cache whenever it is asked."""
    cdef uint32_t e = NIL
    cdef list keys = [], numbers = []
    cdef object k
    # no object may be made under the lock, so the entries are taken one by one
    while True:
        e = slab_walk(&self.slab, e + 1)
        while e != NIL and slab_entry(&self.slab, e).hash != hash:
            e = slab_walk(&self.slab, e + 1)
        if e == NIL:
            break
        k = <object>slab_entry(&self.slab, e).key
        unlock(self)
        keys.append(k)
        numbers.append(e)
        lock(self)
    unlock(self)
    for k, number in zip(keys, numbers):
        if compare(<PyObject*>k, key, Py_EQ):
            e = number
            lock(self)
            if holds(self, e, <PyObject*>k, hash):
                return e
            unlock(self)
    lock(self)
    return NIL


cdef bint holds(Cache self, uint32_t e, PyObject *key, uint64_t hash) noexcept:
    """Whether entry e (or whatever it is now) still holds this very key."""
    return e < slab_end(&self.slab) and slab_walk(&self.slab, e) == e and \
        slab_entry(&self.slab, e).key == key and slab_entry(&self.slab, e).hash == hash


cdef uint32_t find_wide(Cache self, PyObject *key, uint64_t hash) except? 0xFFFFFFFFu:
    """A key that is no exact int, where ints lie under a hash of their digits: it may equal
    one of them (2.0**70 == 2**70). O(1) for floats and where no such int has this hash;
    otherwise O(n)."""
    cdef uint32_t e = NIL
    cdef object k
    cdef uint64_t digits_hash
    cdef bint found
    cdef double x
    if str_exact(key) or bytes_exact(key) or tuple_exact(key) or key == <PyObject*>None or \
            self.wide_filter[hash >> 56] == 0:
        return NIL
    if PyFloat_CheckExact(<object>key):
        x = PyFloat_AS_DOUBLE(<object>key)
        if not isfinite(x) or x != floor(x):
            return NIL
        unlock(self)
        k = int(x)
        lock(self)
        if not long_wide(<PyObject*>k):
            return NIL
        mix_key(<PyObject*>k, &digits_hash)
        return find(self, <PyObject*>k, digits_hash)
    while True:
        e = slab_walk(&self.slab, e + 1)
        if e == NIL:
            return NIL
        if long_exact(slab_entry(&self.slab, e).key) and long_wide(slab_entry(&self.slab, e).key) \
                and mix(<uint64_t>hash_of(slab_entry(&self.slab, e).key)) == hash:
            k = <object>slab_entry(&self.slab, e).key
            digits_hash = slab_entry(&self.slab, e).hash
            unlock(self)
            found = compare(<PyObject*>k, key, Py_EQ)
            lock(self)
            if found and holds(self, e, <PyObject*>k, digits_hash):
                return e
