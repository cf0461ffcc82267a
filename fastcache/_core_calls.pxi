# Decorated functions: a callable at C level over a Cache.
#
# A hit allocates nothing: the arguments are hashed and compared where the caller put them. Which
# calls are equal follows functools: a lone exact int or str, untyped and without keywords, is its
# own key; anything else compares as the tuple of positional arguments, and, behind a mark, of
# keywords in the order of the call, and for typed=True of all their types. That tuple (CallKey) is
# made only on a miss; its hash is that of the arguments in place.
#
# Between the miss and the store no lock is held and the function runs: it may call itself, clear
# the cache or be called by other threads; each call that misses computes (functools has no
# flights either). A key that is changed explicitly meanwhile is not stored (see "fences").

@cython.final
cdef class _KeywordMark:
    """Separates positional arguments from keywords in a CallKey."""

    def __repr__(self):
        return "*"

    def __reduce__(self):
        return "_KEYWORDS"

_KEYWORDS = _KeywordMark()
cdef object MARK = _KEYWORDS
cdef Py_hash_t MARK_HASH = hash(MARK)


cdef PyObject* callkey_repr(PyObject *key) except NULL:
    text = "CallKey" + repr(tuple(<object>key))
    Py_INCREF(text)
    return <PyObject*>text


cdef struct Call:               # arguments, where they lie
    PyObject **args
    Py_ssize_t nargs            # positional
    Py_ssize_t nkw              # keywords; their values follow in args
    PyObject *names             # their names, a tuple, or NULL
    bint typed


cdef inline Py_ssize_t call_size(const Call *c) noexcept:
    """Items in the CallKey."""
    return c.nargs + (2 * c.nkw + 1 if c.nkw else 0) + (c.nargs + c.nkw if c.typed else 0)


cdef inline PyObject* call_item(const Call *c, Py_ssize_t i) noexcept:
    """Item i of the CallKey, borrowed."""
    if i < c.nargs:
        return c.args[i]
    i -= c.nargs
    if c.nkw:
        if i == 0:
            return <PyObject*>MARK
        i -= 1
        if i < 2 * c.nkw:
            return c.args[c.nargs + (i >> 1)] if i & 1 else tuple_item(c.names, i >> 1)
        i -= 2 * c.nkw
    return <PyObject*>type_of(c.args[i])


cdef int call_hash(const Call *c, uint64_t *hash) except -1:
    """What mix_key gives for the CallKey. User code runs in __hash__."""
    cdef Py_uhash_t acc = tuple_hash_start()
    cdef Py_ssize_t i
    cdef Py_hash_t h
    for i in range(c.nargs):
        h = hash_of(c.args[i])
        if unlikely(h == -1):
            return -1
        acc = tuple_hash_step(acc, h)
    if c.nkw:
        acc = tuple_hash_step(acc, MARK_HASH)
        for i in range(c.nkw):
            h = hash_of(tuple_item(c.names, i))
            if unlikely(h == -1):
                return -1
            acc = tuple_hash_step(acc, h)
            h = hash_of(c.args[c.nargs + i])
            if unlikely(h == -1):
                return -1
            acc = tuple_hash_step(acc, h)
    if c.typed:
        for i in range(c.nargs + c.nkw):
            h = hash_of(<PyObject*>type_of(c.args[i]))
            if unlikely(h == -1):
                return -1
            acc = tuple_hash_step(acc, h)
    hash[0] = mix(<uint64_t>tuple_hash_end(acc, call_size(c)))
    return 0


cdef inline int same_item(PyObject *a, PyObject *b) noexcept:
    return 1 if likely(a == b) else same(a, b)


cdef int call_same(const Call *c, PyObject *key) noexcept:
    """Whether the CallKey would equal `key`: 1, 0, or -1 for "ask the objects"."""
    cdef Py_ssize_t i, j = c.nargs
    cdef int r
    if not callkey_or_tuple(key):
        return -1
    if tuple_size(key) != call_size(c):
        return 0
    for i in range(c.nargs):
        r = same_item(tuple_item(key, i), c.args[i])
        if r != 1:
            return r
    if c.nkw:
        if tuple_item(key, j) != <PyObject*>MARK:
            return 0
        for i in range(c.nkw):
            r = same_item(tuple_item(key, j + 1), tuple_item(c.names, i))
            if r == 1:
                r = same_item(tuple_item(key, j + 2), c.args[c.nargs + i])
            if r != 1:
                return r
            j += 2
        j += 1
    if c.typed:
        for i in range(c.nargs + c.nkw):
            if tuple_item(key, j + i) != <PyObject*>type_of(c.args[i]):
                return 0
    return 1


cdef PyObject* call_key_or_null(const Call *c) noexcept:
    """The CallKey, a new reference; NULL with the exception set."""
    cdef Py_ssize_t i, n = call_size(c)
    cdef PyObject *item
    cdef PyObject *key
    cdef bint atomic = True
    if n == 1 and (long_exact(c.args[0]) or str_exact(c.args[0])):
        incref(c.args[0])
        return c.args[0]
    key = callkey_new(n)
    if key == NULL:
        return NULL
    for i in range(n):
        item = call_item(c, i)
        incref(item)
        tuple_set(key, i, item)
        atomic = atomic and not is_gc(item)
    if atomic:
        gc_untrack(key)
    return key


cdef inline object call_key(const Call *c):
    return owned(call_key_or_null(c))


cdef uint32_t find_call(Cache self, const Call *c, uint64_t hash) except? 0xFFFFFFFFu:
    """find() for the CallKey, that is not made unless some object must be asked. Locked; when it
    raises, the lock is released."""
    cdef Segment *s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cdef uint32_t i = <uint32_t>(hash >> 32) & s.mask
    cdef uint64_t cell
    cdef Entry *p
    cdef int r
    while True:
        cell = s.cells[i]
        if cell == 0:
            return NIL
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                r = call_same(c, p.key)
                if likely(r == 1):
                    return <uint32_t>cell
                if r < 0:
                    unlock(self)
                    key = call_key(c)
                    lock(self)
                    return find_asking(self, <PyObject*>key, hash)
        i = (i + 1) & s.mask


cdef int look_call(Cache self, const Call *c, uint64_t hash, PyObject **value) except -1:
    """look() for the CallKey."""
    cdef int64_t now = time_if_any(self)
    cdef uint32_t e
    lock(self)
    e = find_call(self, c, hash)
    return look_found(self, e, now, value)


# From here to put_loaded nothing raises in Cython's way: NULL or -1 says that an exception is set.
# Calls come in through call() in _core_front.pxi.

cdef PyObject* call_of_own_key(CachedFunction self, PyObject **args, size_t nargsf, uint64_t hash) noexcept:
    """A call with one argument that is its own key."""
    cdef PyObject *value
    cdef int r = raw_held_at_once(self.store, args[0], hash, &value)
    if likely(r == HIT):
        return value
    if r == MISS:
        raw_count_miss(self.store)
    else:
        r = raw_look_quickly(self.store, args[0], hash, &value)
        if r == HIT:
            return value
    if r == UNSURE:
        r = raw_look(self.store, args[0], hash, &value)
        if unlikely(r == DUE):
            return raw_call_due(self, NULL, args, nargsf, NULL, args[0], value)
        if r:
            return value if r > 0 else NULL
    return call_through(self, NULL, args, nargsf, NULL, args[0], hash)


cdef PyObject* call_of_args(CachedFunction self, Cache cache, PyObject **args, size_t nargsf) noexcept:
    """A call with positional arguments only, untyped."""
    cdef Py_ssize_t i, n = vectorcall_nargs(nargsf)
    cdef Py_uhash_t acc = tuple_hash_start()
    cdef Py_hash_t h = 0
    cdef uint64_t hash
    cdef uint32_t e = NIL
    cdef int64_t now = 0
    cdef PyObject *value
    cdef int r = UNSURE
    for i in range(n):
        h = raw_hash_of(args[i])
        if unlikely(h == -1):
            return NULL
        acc = tuple_hash_step(acc, h)
    if unlikely(n == 1) and (str_exact(args[0]) or long_exact(args[0])):
        if raw_mix_quickly(args[0], &hash) < 0:
            return NULL
        return call_of_own_key(self, args, nargsf, hash)
    hash = mix(<uint64_t>tuple_hash_end(acc, n))
    lock(cache)
    if likely(quick_time(cache, &now)):
        r = probe_args(cache, args, n, hash, &e)
        if likely(r == HIT):
            r = take_hit(cache, e, now, &value)
        elif r == MISS:
            cache.misses += 1
    unlock(cache)
    if likely(r == HIT):
        return value
    return call_of_args_further(self, args, nargsf, hash, r)


cdef PyObject* call_of_args_further(CachedFunction self, PyObject **args, size_t nargsf,
                                    uint64_t hash, int r) noexcept:
    cdef PyObject *value
    cdef Call c
    c.args = args
    c.nargs = vectorcall_nargs(nargsf)
    c.names = NULL
    c.nkw = 0
    c.typed = False
    if r != MISS:
        r = raw_look_call(self.store, &c, hash, &value)
        if unlikely(r == DUE):
            return raw_call_due(self, &c, args, nargsf, NULL, NULL, value)
        if r:
            return value if r > 0 else NULL
    return call_through(self, &c, args, nargsf, NULL, NULL, hash)


cdef inline int probe_args(Cache self, PyObject **args, Py_ssize_t n, uint64_t hash, uint32_t *found) noexcept:
    """probe() for the tuple of n arguments. Locked."""
    cdef Segment *s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cdef uint32_t i = <uint32_t>(hash >> 32) & s.mask
    cdef uint64_t cell
    cdef Entry *p
    cdef Py_ssize_t j
    while True:
        cell = s.cells[i]
        if cell == 0:
            return MISS
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                if unlikely(not callkey_or_tuple(p.key) or tuple_size(p.key) != n):
                    return UNSURE
                for j in range(n):
                    if same_item(tuple_item(p.key, j), args[j]) != 1:
                        return UNSURE
                found[0] = <uint32_t>cell
                return HIT
        i = (i + 1) & s.mask


cdef inline bint keeps_nothing(Cache self) noexcept:
    cdef bint nothing
    lock(self)
    nothing = self.bound == 0
    unlock(self)
    return nothing


cdef PyObject* call_of_shape(CachedFunction self, PyObject **args, size_t nargsf,
                             PyObject *names) noexcept:
    """A call with keywords or types in its key, or of a function that keeps nothing."""
    cdef Call c
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if unlikely(keeps_nothing(self.cache)) and not self.planned:    # arguments are not even hashed
        count_miss(self.cache)
        return vectorcall(<PyObject*>self.function, args, nargsf, names)
    c.args = args
    c.nargs = vectorcall_nargs(nargsf)
    c.names = names
    c.nkw = tuple_size(names) if names != NULL else 0
    c.typed = self.typed
    if names == NULL and not self.typed:
        return raw_call_of_args(<void*>self, self.store, args, nargsf)
    if raw_call_hash(&c, &hash) < 0:
        return NULL
    r = raw_look_call(self.store, &c, hash, &value)
    if unlikely(r == DUE):
        return raw_call_due(self, &c, args, nargsf, names, NULL, value)
    if likely(r):
        return value if likely(r > 0) else NULL
    return call_through(self, &c, args, nargsf, names, NULL, hash)


cdef PyObject* call_of_shape_missed(CachedFunction self, PyObject **args, size_t nargsf, PyObject *names,
                                    uint64_t hash) noexcept:
    cdef Call c
    c.args = args
    c.nargs = vectorcall_nargs(nargsf)
    c.names = names
    c.nkw = tuple_size(names) if names != NULL else 0
    c.typed = self.typed
    return call_through(self, &c, args, nargsf, names, NULL, hash)


cdef PyObject* call_through(CachedFunction self, const Call *c, PyObject **args, size_t nargsf,
                            PyObject *names, PyObject *key, uint64_t hash) noexcept:
    """A miss: call the function, store what it returns. With a Call, its CallKey is the key."""
    cdef Cache cache = self.cache
    cdef PyObject *value
    cdef uint64_t since
    cdef int mode
    if unlikely(self.planned):
        return raw_call_planned(self, c, args, nargsf, names, key, hash)
    if c != NULL:
        key = call_key_or_null(c)
        if key == NULL:
            return NULL
    else:
        incref(key)
    lock(cache)
    since = load_begins(cache)
    # As functools does: the first to store wins in a bounded cache, the last in an unbounded.
    mode = SET if cache.unbounded else ADD
    unlock(cache)
    value = vectorcall(<PyObject*>self.function, args, nargsf, names)
    if value != NULL and put_quickly(cache, key, hash, value, mode, &since) == UNSURE:
        if raw_put_loaded(<PyObject*>cache, key, hash, value, since, mode) < 0:
            decref(value)
            value = NULL
    lock(cache)
    load_ends(cache)
    unlock(cache)
    decref(key)
    return value


cdef int put_loaded(Cache cache, PyObject *key, uint64_t hash, PyObject *value, uint64_t since,
                    int mode) except -1:
    cdef Options o
    defaults(cache, &o)
    o.load = True
    o.since = since
    return put(cache, key, hash, value, &o, time_if_any(cache), mode)


@cython.no_gc_clear     # calls use `store`; cycles are broken by the dict, the function or the cache
cdef class CachedFunction:
    """A function whose results are kept in a Cache. Made by lru_cache and its siblings.

    Calling it costs no Python frame on a hit; it is safe to call from several threads, each of
    which computes for itself on a miss.
    """

    def __cinit__(self, function, Cache cache not None, typed=False, maxsize=...):
        if not callable(function):
            raise TypeError("the first argument must be callable")
        self.function = function
        self.cache = cache
        self.store = <PyObject*>cache
        self.typed = bool(typed)
        self.shown_maxsize = cache.maxsize if maxsize is UNSET else maxsize
        self.vectorcall = <vectorcallfunc><void*>(call_shaped if self.typed or cache.bound == 0 else call)

    def cache_info(self):
        """Hits, misses, maxsize and currsize, as a CacheInfo."""
        return info_of(self.cache)

    def cache_clear(self):
        """Forget all results and counts. A call under way is stored all the same."""
        wipe(self.cache)
        counts(self.cache, True)

    def cache_parameters(self):
        """A new dict of the decorator's maxsize and typed."""
        return {"maxsize": self.shown_maxsize, "typed": self.typed}

    def cache_key(self, /, *args, **kwargs):
        """The key under which this call is kept in `.cache`."""
        return key_of_call(self, args, kwargs)

    def cache_contains(self, /, *args, **kwargs):
        """Whether the result of this call is kept. Neither an access nor counted."""
        return self.cache_key(*args, **kwargs) in self.cache

    def cache_invalidate(self, /, *args, **kwargs):
        """Forget the result of this call; True if there was one. A call under way with these
        arguments is not stored either."""
        return self.cache.delete(self.cache_key(*args, **kwargs))

    def __call__(self, /, *args, **kwargs):
        """Call the function, or return what it returned to an equal call before."""
        return vectorcall_of_tuple(self, args, kwargs)

    def __get__(self, instance, owner):
        return self if instance is None else PyMethod_New(self, instance)

    def __reduce__(self):
        return self.__qualname__

    @classmethod
    def __class_getitem__(cls, item, /):
        return _GenericAlias(cls, item)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        name = getattr(self, "__qualname__", None) or repr(self.function)
        return f"<{type(self).__module__}.{type(self).__name__} {name}>"


cdef object info_of(Cache cache):
    cdef Counts c = counts(cache, False)
    return CacheInfo(c.hits, c.misses, cache.maxsize, c.count)


cdef object key_of_call(CachedFunction self, tuple args, dict kwargs):
    cdef Call c
    cdef list flat = list(args)
    cdef tuple names = tuple(kwargs)
    cdef Py_ssize_t i
    flat.extend(kwargs.values())
    c.nargs = len(args)
    c.nkw = len(names)
    c.names = <PyObject*>names
    c.typed = self.typed
    c.args = <PyObject**>PyMem_Malloc((len(flat) + 1) * sizeof(PyObject*))
    if c.args == NULL:
        raise MemoryError
    try:
        for i in range(len(flat)):
            c.args[i] = <PyObject*>flat[i]
        return call_key(&c)
    finally:
        PyMem_Free(c.args)


CallKey = make_callkey_type(callkey_repr)
CallKey.__module__ = "fastcache"
patch_function_type(CachedFunction, offset_of_vectorcall)
