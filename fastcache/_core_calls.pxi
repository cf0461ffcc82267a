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


cdef PyObject* callkey_repr(PyObject *key) noexcept:
    try:
        text = "CallKey" + repr(tuple(<object>key))
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return NULL
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


cdef inline int call_hash(const Call *c, uint64_t *hash) except -1:
    """What mix_key gives for the CallKey. User code runs in __hash__."""
    cdef Py_uhash_t acc = tuple_hash_start()
    cdef Py_ssize_t i, n = c.nargs
    cdef Py_hash_t h
    for i in range(n):
        h = hash_of(c.args[i])
        if unlikely(h == -1):
            return -1
        acc = tuple_hash_step(acc, h)
    if c.nkw or c.typed:
        n = call_size(c)
        for i in range(c.nargs, n):
            h = hash_of(call_item(c, i))
            if unlikely(h == -1):
                return -1
            acc = tuple_hash_step(acc, h)
    hash[0] = mix(<uint64_t>tuple_hash_end(acc, n))
    return 0


cdef inline int call_same(const Call *c, PyObject *key, Py_ssize_t n) noexcept:
    """Whether the CallKey would equal `key`: 1, 0, or -1 for "ask the objects"."""
    cdef Py_ssize_t i
    cdef int r
    if not callkey_or_tuple(key):
        return -1
    if tuple_size(key) != n:
        return 0
    for i in range(c.nargs):
        if tuple_item(key, i) != c.args[i]:
            r = same_exact(tuple_item(key, i), c.args[i])
            if r != 1:
                return r
    for i in range(c.nargs, n):
        r = same_exact(tuple_item(key, i), call_item(c, i))
        if r != 1:
            return r
    return 1


cdef object call_key(const Call *c):
    cdef Py_ssize_t i, n = call_size(c)
    cdef PyObject *item
    cdef PyObject *key
    cdef bint atomic = True
    if n == 1 and (long_exact(c.args[0]) or str_exact(c.args[0])):
        return <object>c.args[0]
    made = callkey_new(n)
    key = <PyObject*>made
    for i in range(n):
        item = call_item(c, i)
        incref(item)
        tuple_set(key, i, item)
        atomic = atomic and not is_gc(item)
    if atomic:
        gc_untrack(key)
    return made


cdef uint32_t find_call(Cache self, const Call *c, uint64_t hash) except? 0xFFFFFFFFu:
    """find() for the CallKey, that is not made unless some object must be asked. Locked; when it
    raises, the lock is released."""
    cdef Segment *s = table_segment(&self.table, <uint32_t>(hash >> 32))
    cdef uint32_t i = <uint32_t>(hash >> 32) & s.mask
    cdef uint64_t cell
    cdef Entry *p
    cdef int r
    cdef Py_ssize_t n = call_size(c)
    while True:
        cell = s.cells[i]
        if cell == 0:
            return NIL
        if (cell ^ hash) >> 32 == 0:
            p = slab_entry(&self.slab, <uint32_t>cell)
            if likely(p.hash == hash):
                r = call_same(c, p.key, n)
                if likely(r == 1):
                    return <uint32_t>cell
                if r < 0:
                    unlock(self)
                    key = call_key(c)
                    lock(self)
                    return find_asking(self, <PyObject*>key, hash)
        i = (i + 1) & s.mask


cdef inline int look_call(Cache self, const Call *c, uint64_t hash, PyObject **value) except -1:
    """look() for the CallKey."""
    cdef int64_t now = time_if_any(self)
    cdef uint32_t e
    lock(self)
    e = find_call(self, c, hash)
    return look_found(self, e, now, value)


cdef inline bint lone(const Call *c) noexcept:
    """Whether the only argument is its own key."""
    return c.nargs == 1 and c.nkw == 0 and not c.typed and \
        (str_exact(c.args[0]) or long_exact(c.args[0]))


cdef PyObject* call(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) except NULL:
    return call_cached(<CachedFunction>function, args, nargsf, names)


cdef inline PyObject* call_cached(CachedFunction self, PyObject **args, size_t nargsf,
                                  PyObject *names) except NULL:
    cdef Call c
    cdef uint64_t hash
    cdef PyObject *value
    cdef PyObject *key
    c.args = args
    c.nargs = vectorcall_nargs(nargsf)
    c.names = names
    c.nkw = tuple_size(names) if names != NULL else 0
    c.typed = self.typed
    if lone(&c):
        if likely(not self.off):
            mix_key(args[0], &hash)
            if likely(look(self.cache, args[0], hash, &value)):
                return value
            return call_through(self, &c, <object>args[0], hash, nargsf)
    elif likely(not self.off):
        call_hash(&c, &hash)
        if likely(look_call(self.cache, &c, hash, &value)):
            return value
        return call_through(self, &c, None, hash, nargsf)
    self.cache.misses += 1
    return vectorcall(<PyObject*>self.function, args, nargsf, names)


cdef PyObject* call_through(CachedFunction self, const Call *c, object key, uint64_t hash,
                            size_t nargsf) except NULL:
    """A miss: call the function, store what it returns."""
    cdef Cache cache = self.cache
    cdef Options o
    cdef PyObject *value
    cdef bint is_key = key is not None
    if not is_key:
        key = call_key(c)
    defaults(cache, &o)
    o.load = True
    o.since = cache.fenced_at
    cache.loading += 1
    value = vectorcall(<PyObject*>self.function, c.args, nargsf, c.names)
    if cache.loading:
        cache.loading -= 1
    if value == NULL:
        return NULL
    try:
        # As functools does: the first to store wins in a bounded cache, the last in an unbounded.
        put(cache, <PyObject*>key, hash, value, &o, time_if_any(cache),
            SET if cache.bound == INT64_MAX else ADD)
    except:
        decref(value)
        raise
    return value


@cython.final
cdef class CachedFunction:
    """A function whose results are kept in a Cache. Made by lru_cache and its siblings.

    Calling it costs no Python frame on a hit; it is safe to call from several threads, each of
    which computes for itself on a miss.
    """

    def __init__(self, function, cache, typed=False, maxsize=_UNSET):
        cdef Cache c = cache
        if not callable(function):
            raise TypeError("the first argument must be callable")
        self.vectorcall = <vectorcallfunc><void*>call
        self.function = function
        self.cache = c
        self.typed = bool(typed)
        self.shown_maxsize = c.maxsize if maxsize is UNSET else maxsize
        self.off = c.bound == 0

    def cache_info(self):
        """Hits, misses, maxsize and currsize, as a CacheInfo."""
        return CacheInfo(self.cache.hits, self.cache.misses, self.cache.maxsize, self.cache.count)

    def cache_clear(self):
        """Forget all results and counts. A call under way is stored all the same."""
        wipe(self.cache)
        stats_reset(self.cache)

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

    def __reduce__(self):
        return self.__qualname__

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        name = getattr(self, "__qualname__", None) or repr(self.function)
        return f"<{type(self).__module__}.{type(self).__name__} {name}>"


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
