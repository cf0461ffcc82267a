# A Cached that keeps to one event loop at a time (`alru_cache`): what tells a call that it comes from
# another one, before the key is made, and what makes loads under way entries of the cache like all
# others, so that they count, are evicted and are forgotten as these are.
#
# A hit must not ask asyncio for the running loop: on CPython 3.11 that is a system call (getpid). But an
# event loop that runs has put methods of its own into its thread's state, to be told of asynchronous
# generators, and each run makes new ones. So as long as a thread has the very object that the last
# call found there, a method of the loop that ran then, the same loop runs.

cdef extern from *:
    """
    static inline PyObject *fc_loop_hook(void)
    {
        return PyThreadState_Get()->async_gen_finalizer;
    }
    """
    PyObject* loop_hook "fc_loop_hook"() noexcept      # borrowed; NULL: there is none


cdef int keep_to_loop(Cached self, object marker) except -1:
    if self.marker is None:
        self.below = self.inner
        self.inner = <vectorcallfunc><void*>call_at_home
    self.marker = marker
    self.home = UNSET
    return 0


cdef PyObject* call_at_home(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    cdef PyObject *value
    if unlikely(loop_hook() != raw_home(function)) and raw_arrive(function) < 0:
        return NULL
    value = raw_below(function)(function, args, nargsf, names)
    if unlikely(value != NULL and <PyObject*>type_of(value) == raw_marker(function)):
        return raw_join_load(function, args, nargsf, names, value)
    return value


cdef int arrive(Cached self) except -1:
    cdef PyObject *hook
    cdef object loop = self.loader.arrived(self)
    raw_set_home(<PyObject*>self, <PyObject*>UNSET)
    hook = loop_hook()
    if hook != NULL and getattr(<object>hook, "__self__", None) is loop:
        raw_set_home(<PyObject*>self, hook)
    return 0


cdef PyObject* join_load(Cached self, PyObject **args, size_t nargsf, PyObject *names, PyObject *mark) except NULL:
    """What awaits the load behind a mark, whose reference is taken over."""
    cdef object load = owned(mark)
    cdef dict named = keywords(args + vectorcall_nargs(nargsf), names)
    cdef Pending pending = Pending.__new__(Pending)
    pending.coroutine = self.loader.joined(load, arguments(self, args, vectorcall_nargs(nargsf)), named or {})
    incref(<PyObject*>pending)
    return <PyObject*>pending


def put_for_mark(Cache cache not None, key, mark, value, ttl, /):
    """Let value take the place of mark, if that is what is there, for ttl seconds (None: for ever; 0:
    only remove the mark); whether it was there. No access to the key: it is evicted as if nothing had
    happened. O(1)."""
    cdef Options o
    cdef Bin bin
    cdef uint64_t hash
    cdef uint32_t e
    cdef int64_t now, deadline = NEVER
    bin.n = 0
    mix_key(<PyObject*>key, &hash)
    options(cache, &o, key, value, ttl, UNSET, UNSET, ())
    now = time_if_any(cache)
    lock(cache)
    e = find(cache, <PyObject*>key, hash)
    if e == NIL or slab_entry(&cache.slab, e).value != <PyObject*>mark:
        unlock(cache)
        return False
    if o.ttl == 0:
        remove(cache, e, EXPLICIT, &bin)
    else:
        if cache.flags & HAS_TIME:
            deadline = lifetime_from(cache, now, o.ttl)
        if not reserve(cache, <PyObject*>key, hash, &o, e, deadline):
            unlock(cache)
            raise MemoryError
        incref(<PyObject*>value)
        (&bin.items[0]).key = NULL
        (&bin.items[0]).value = <PyObject*>mark
        (&bin.items[0]).cause = REPLACED
        bin.n = 1
        slab_entry(&cache.slab, e).value = <PyObject*>value
        if cache.flags:
            write_extras(cache, e, &o, deadline, deadline, deadline, now)
        note_objects(cache, <PyObject*>key, <PyObject*>value)
    unlock(cache)
    settle(cache, &bin)
    if cache.flags & MORTAL and chores(cache, now):
        poll(cache, now)
    return True
