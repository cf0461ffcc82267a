# Iteration and views of Cache. None of it counts, promotes or shows the dead.

cdef extern from "Python.h":
    int Py_ReprEnter(object) except -1
    void Py_ReprLeave(object) noexcept


cdef enum:
    KEYS = 0
    VALUES = 1
    ITEMS = 2


cdef _CacheIterator iterate(Cache cache, int kind):
    cdef _CacheIterator it = _CacheIterator.__new__(_CacheIterator)
    it.cache = cache
    lock(cache)
    it.inserted = cache.inserted
    unlock(cache)
    it.kind = kind
    return it


@cython.final
cdef class _CacheIterator:
    """Walks the entries by number, so it survives any removal; a new key ends it with an error,
    since it might lie behind."""
    cdef Cache cache
    cdef uint64_t inserted
    cdef uint32_t at
    cdef int kind

    def __iter__(self):
        return self

    def __next__(self):
        with cython.critical_section(self):
            return next_of(self)


cdef object next_of(_CacheIterator self):
    cdef Cache c = self.cache
    cdef int64_t now
    cdef object key = None, value = None
    cdef uint32_t e
    if c is None:
        raise StopIteration
    now = time_if_any(c)
    lock(c)
    if c.inserted != self.inserted:
        unlock(c)
        raise RuntimeError("a key was added to the cache during iteration")
    e = slab_walk(&c.slab, self.at + 1)
    while e != NIL and c.flags & MORTAL and dead(c, e, now):
        e = slab_walk(&c.slab, e + 1)
    if e != NIL:
        key = <object>slab_entry(&c.slab, e).key
        value = <object>slab_entry(&c.slab, e).value
    unlock(c)
    if e == NIL:
        self.cache = None
        raise StopIteration
    self.at = e
    if self.kind == KEYS:
        return key
    return value if self.kind == VALUES else (key, value)


cdef class _CacheView:
    """What the three views share."""
    cdef readonly Cache _cache

    def __cinit__(self, Cache cache not None):
        self._cache = cache

    def __len__(self):
        return len(self._cache)

    def __repr__(self):
        if Py_ReprEnter(self):
            return f"{type(self).__name__}(...)"
        try:
            return f"{type(self).__name__}({list(self)!r})"
        finally:
            Py_ReprLeave(self)

    @property
    def mapping(self):
        """The cache that is viewed."""
        return self._cache


def _set_of(cls, iterable):
    return set(iterable)


cdef class _CacheSetView(_CacheView):
    """A view that is a set, with the operators of collections.abc.Set."""
    _from_iterable = classmethod(_set_of)

    def __and__(self, other):
        return {x for x in other if x in self}

    def __rand__(self, other):
        return {x for x in other if x in self}

    def __or__(self, other):
        return {*self, *other}

    def __ror__(self, other):
        return {*self, *other}

    def __sub__(self, other):
        return set(self) - set(other)

    def __rsub__(self, other):
        return set(other) - set(self)

    def __xor__(self, other):
        return set(self) ^ set(other)

    def __rxor__(self, other):
        return set(self) ^ set(other)

    def isdisjoint(self, other, /):
        """Whether no element is in both."""
        return not any(x in self for x in other)

    # as dict's do, by looking into the other one: the value of a pair may be unhashable

    def __eq__(self, other):
        return compared(self, other, Py_EQ)

    def __lt__(self, other):
        return compared(self, other, Py_LT)

    def __le__(self, other):
        return compared(self, other, Py_LE)

    def __gt__(self, other):
        return compared(self, other, Py_GT)

    def __ge__(self, other):
        return compared(self, other, Py_GE)

    __hash__ = None


cdef object compared(_CacheSetView self, object other, int op):
    cdef list mine, theirs
    if not isinstance(other, _SetABC):
        return NotImplemented
    mine = list(self)       # len counts the dead
    theirs = list(other)
    if op == Py_EQ:
        return len(mine) == len(theirs) and all([x in other for x in mine])
    if op == Py_LT or op == Py_LE:
        return len(mine) + (op == Py_LT) <= len(theirs) and all([x in other for x in mine])
    return len(mine) >= len(theirs) + (op == Py_GT) and all([x in self for x in theirs])


@cython.final
cdef class CacheKeysView(_CacheSetView):
    """The live keys of a Cache."""

    def __iter__(self):
        return iterate(self._cache, KEYS)

    def __contains__(self, key):
        return key in self._cache


@cython.final
cdef class CacheItemsView(_CacheSetView):
    """The live (key, value) pairs of a Cache."""

    def __iter__(self):
        return iterate(self._cache, ITEMS)

    def __contains__(self, item):
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        value = peek(self._cache, item[0], ABSENT)
        return value is not ABSENT and (value is item[1] or value == item[1])


@cython.final
cdef class CacheValuesView(_CacheView):
    """The live values of a Cache."""

    def __iter__(self):
        return iterate(self._cache, VALUES)

    def __contains__(self, value):
        return any(v is value or v == value for v in self)


KeysView.register(CacheKeysView)
ItemsView.register(CacheItemsView)
ValuesView.register(CacheValuesView)
MutableMapping.register(Cache)


cdef list walk_order(Cache self, object n, bint hottest):
    cdef int64_t now, left = INT64_MAX
    cdef uint32_t e
    cdef uint64_t version
    cdef bint same
    cdef list keys
    if n is not None:
        left = whole(n, "n", "an int or None")
    now = time_if_any(self)
    while True:
        # The list grows outside the lock, where a collection may edit the cache: then again.
        keys = []
        lock(self)
        version = self.table.version
        e = policy_hottest(&self.order) if hottest else policy_victim(&self.order)
        while e != NIL and len(keys) < left:
            if not (self.flags & MORTAL and dead(self, e, now)):
                key = <object>slab_entry(&self.slab, e).key
                unlock(self)
                keys.append(key)
                lock(self)
                if self.table.version != version:
                    break
            e = policy_before(&self.order, &self.slab, e) if hottest else \
                policy_after(&self.order, &self.slab, e)
        same = self.table.version == version
        unlock(self)
        if same:
            return keys
