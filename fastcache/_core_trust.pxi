# Trust: whether hits in the L1 of a tiered cache may be served as they are, read on the path of a hit.
#
# Trust is a deadline: until then, what other processes invalidate has been heard. It is kept on two
# clocks. The monotonic one goes on while the process is stopped (SIGSTOP), but not while the machine is
# suspended; the wall clock goes on then, but may be set: forward ends the trust early, backward is
# what the other clock is for. Where processes share a file of counters (SQLiteStore), one number
# in it must moreover be what it was when this process last looked.

cdef extern from "compat.h":
    int64_t clock_wall "fc_clock_wall"() noexcept
    PyObject* look_at "fc_look"(PyObject**) noexcept
    PyObject* swap_at "fc_swap"(PyObject**, PyObject*) noexcept

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer


@cython.final
cdef class Trust:
    """Until when hits in L1 may be served as they are. Safe from any thread."""
    cdef int64_t until          # ns, coarse monotonic clock
    cdef int64_t until_wall     # ns, wall clock
    cdef const uint64_t *generation     # shared memory, or NULL
    cdef const uint64_t *own            # what of it this process did
    cdef uint64_t known
    cdef Py_buffer whole                # which keep both where they are
    cdef Py_buffer part
    cdef fc_mutex mutex                 # over the shared numbers

    def __cinit__(self):
        self.until = self.until_wall = NEVER
        self.generation = self.own = NULL

    def __dealloc__(self):
        if self.generation != NULL:
            PyBuffer_Release(&self.whole)
            PyBuffer_Release(&self.part)

    @property
    def now(self):
        """What `extend` wants: the times at which a check was begun."""
        return clock_coarse(), clock_wall()

    def extend(self, now, double seconds, /):
        """Trust until so many seconds after `now`, unless it is trusted for longer."""
        cdef int64_t mono = now[0], wall = now[1], ns = <int64_t>(seconds * 1e9)
        trust_until(self, mono + ns, wall + ns)

    def forever(self):
        """There is nothing to hear."""
        trust_until(self, NEVER, NEVER)

    def end(self):
        """No more, until `extend`."""
        trust_until(self, 0, 0)

    def follow(self, shared, own, /):
        """Trust moreover only while the first unsigned 64-bit number of the one, less that of the other, is
        what `agree` was given. Both are memoryviews of such numbers. None: no more."""
        cdef Py_buffer whole, part, old_whole, old_part
        cdef bint followed
        if shared is not None:
            PyObject_GetBuffer(shared, &whole, PyBUF_SIMPLE)
            try:
                PyObject_GetBuffer(own, &part, PyBUF_SIMPLE)
            except BaseException:
                PyBuffer_Release(&whole)
                raise
        mutex_lock(&self.mutex)
        old_whole = self.whole
        old_part = self.part
        followed = self.generation != NULL
        if shared is None:
            swap_at(<PyObject**>&self.generation, NULL)
            self.own = NULL
        else:
            trust_until(self, 0, 0)
            self.whole = whole
            self.part = part
            self.own = <const uint64_t*>self.part.buf
            swap_at(<PyObject**>&self.generation, <PyObject*>self.whole.buf)
        mutex_unlock(&self.mutex)
        if followed:
            PyBuffer_Release(&old_whole)
            PyBuffer_Release(&old_part)

    def agree(self, uint64_t generation, /):
        """What the first number was when this process had heard of everything before it."""
        mutex_lock(&self.mutex)
        self.known = generation
        mutex_unlock(&self.mutex)

    @property
    def left(self):
        """Seconds; 0 where there is none, inf where it does not end."""
        cdef int64_t until = moment(&self.until)
        cdef int64_t left = min(until - clock_coarse(), moment(&self.until_wall) - clock_wall())
        if not agrees(self):
            return 0.0
        return INFINITY if until == NEVER else max(0.0, seconds(left))

    def __bool__(self):
        return trusted(self)


cdef inline int64_t moment(const int64_t *p) noexcept:
    return <int64_t>glance_64(<const uint64_t*>p)


cdef void trust_until(Trust self, int64_t mono, int64_t wall) noexcept:
    # two stores: who reads in between is told of the earlier end, by one of the clocks
    show_64(<uint64_t*>&self.until, <uint64_t>mono)
    show_64(<uint64_t*>&self.until_wall, <uint64_t>wall)


cdef inline bint agrees(Trust self) noexcept:
    if FREE_THREADED:
        return look_at(<PyObject**>&self.generation) == NULL or agrees_locked(self)
    return self.generation == NULL or likely(self.generation[0] - self.own[0] == self.known)


cdef bint agrees_locked(Trust self) noexcept:
    """Others may follow something else meanwhile, and release what lies there."""
    cdef bint same
    mutex_lock(&self.mutex)
    same = self.generation == NULL or glance_64(self.generation) - glance_64(self.own) == self.known
    mutex_unlock(&self.mutex)
    return same


cdef inline bint trusted(Trust self) noexcept:
    if likely(moment(&self.until) == NEVER):
        return agrees(self)
    return likely(clock_coarse() < moment(&self.until)) and likely(clock_wall() < moment(&self.until_wall)) and agrees(self)
