# ---- fences ----------------------------------------------------------------------------------
# A load that is under way when its key is removed or set must not be stored. Loads by flight
# (_core_flights.pxi) are marked and detached; those of decorated functions (_core_calls.pxi), of
# which nobody keeps a list, look into a ring of the hashes changed while any load was under way.
# The ring is short: a load that comes too late to tell is not stored.

cdef void fence(Cache self, uint64_t hash) noexcept:
    """Locked. For every explicit change of a key while loads are under way."""
    if self.fences == NULL:
        self.fences = <uint64_t*>mem_zeroed(&self.own_bytes, FENCES * sizeof(uint64_t))
        if self.fenced_at:
            self.fenced_at += FENCES        # earlier ones found no memory: whoever asks is too late
    if self.fences != NULL:
        self.fences[self.fenced_at % FENCES] = hash
    self.fenced_at += 1
    if self.flights is not None:
        fence_flights(self, hash)


cdef inline void fence_if_loading(Cache self, uint64_t hash) noexcept:
    if unlikely(self.loading != 0):
        fence(self, hash)


cdef void fence_all(Cache self) noexcept:
    """Locked. Every load under way is fenced."""
    if self.loading:
        self.fenced_at += FENCES + 1
        if self.flights is not None:
            fence_every_flight(self)


cdef bint load_was_fenced(Cache self, uint64_t hash, Options *o) noexcept:
    cdef uint64_t i
    cdef uint32_t j
    if o.fenced != NULL:
        if o.fenced[0]:
            return True
    elif self.fenced_at != o.since:
        if self.fences == NULL or self.fenced_at - o.since > FENCES:
            return True
        for i in range(o.since, self.fenced_at):
            if self.fences[i % FENCES] == hash:
                return True
    for j in range(o.ntags):
        if self.marks.records[o.tags[j]].invalidated > o.sequence:
            return True
    return False


# Flights: one load per key at a time, over all threads.
#
# A flight is registered under its key's mixed hash while its factory runs in the leader's thread.
# Followers wait on its lock, which each passes on as it wakes. What changes the key meanwhile marks
# the flight fenced and detaches it: those who wait already get its value, who comes later starts
# another, and the value is not stored.
#
# Nobody waits in a circle. A follower's ancestors are the flights that its own thread leads and
# those that its context descends from (a ContextVar, so an executor that copies the context is
# seen through); before it waits it walks from the flight it wants along "whoever has this flight
# as an ancestor waits for that one". If that leads back to an ancestor, it computes through: it
# calls its factory itself, and stores nothing.
#
# A forked child has none of its parent's threads, so it starts with no flights (`generation`).

from cpython.dict cimport PyDict_Next
from cpython.exc cimport PyErr_Clear
from cpython.contextvars cimport PyContextVar_Get, PyContextVar_New, PyContextVar_Reset, PyContextVar_Set

cdef unsigned int generation = 1
cdef object _ancestry = PyContextVar_New("fastcache_flights", NULL)
cdef dict _led = {}         # thread -> [Flight, ...] that it leads now, over all caches
cdef dict _waits = {}       # waiting call (an object) -> (ancestors, Flight)
cdef fc_mutex graph_mutex   # over _led and _waits; no user code under it


def _after_fork_in_child():
    global generation
    generation += 1
    memset(&graph_mutex, 0, sizeof(graph_mutex))
    _led.clear()
    _waits.clear()


if hasattr(_posix, "register_at_fork"):
    _posix.register_at_fork(after_in_child=_after_fork_in_child)

cdef enum:
    RUNNING = 0
    LANDED = 1
    FAILED = 2
    ABANDONED = 3           # its leader was interrupted: a follower takes over


@cython.final
cdef class Flight:
    """A load under way."""
    cdef object key
    cdef uint64_t hash
    cdef object landing     # a lock, held by the leader until the load has ended
    cdef unsigned long leader
    cdef int state
    cdef bint fenced
    cdef object value
    cdef object error
    cdef uint32_t *tags     # record numbers, the leader's while it runs
    cdef uint32_t ntags


cdef void fence_flights(Cache self, uint64_t hash) noexcept:
    cdef PyObject *number = long_from(hash)
    cdef PyObject *flights
    if number == NULL:
        PyErr_Clear()               # no memory: rather fence too many
        fence_every_flight(self)
        return
    flights = dict_item(self.flights, number)
    if flights != NULL:
        for flight in <list>flights:
            (<Flight>flight).fenced = True
        if dict_del(self.flights, number) < 0:
            PyErr_Clear()
    decref(number)


cdef void fence_every_flight(Cache self) noexcept:
    cdef Py_ssize_t at = 0
    cdef PyObject *number
    cdef PyObject *flights
    while PyDict_Next(self.flights, &at, &number, &flights):
        for flight in <list>flights:
            (<Flight>flight).fenced = True
    self.flights.clear()


cdef void fence_of_tag(Cache self, list running, uint32_t record) noexcept:
    """Flights (all that there are) that carry the tag. Locked."""
    cdef Flight flight
    cdef uint32_t i
    for flight in running:
        for i in range(flight.ntags):
            if flight.tags[i] == record:
                flight.fenced = True
                unregister(self, flight)
                break


cdef void unregister(Cache self, Flight flight) noexcept:
    """Nobody finds the flight any more. Locked."""
    cdef PyObject *number = long_from(flight.hash)
    cdef PyObject *flights
    cdef Py_ssize_t i
    flight.fenced = True            # which hides it even where there is no memory for the rest
    if number == NULL:
        PyErr_Clear()
        return
    flights = dict_item(self.flights, number)
    if flights != NULL:
        for i in range(list_size(flights)):
            if list_item(flights, i) == <PyObject*>flight:
                if list_cut(flights, i, i + 1, NULL) < 0:
                    PyErr_Clear()
                break
        if list_size(flights) == 0 and dict_del(self.flights, number) < 0:
            PyErr_Clear()
    decref(number)


cdef Flight flight_of(Cache self, object key, uint64_t hash):
    """The flight under way for key, or None. Compares keys, so user code may run."""
    cdef list flights
    cdef Flight flight
    if self.flights is not None and self.flights_generation == generation:
        flights = self.flights.get(hash)
        if flights is not None:
            for flight in list(flights):
                if compare(<PyObject*>flight.key, <PyObject*>key, Py_EQ) and not flight.fenced:
                    return flight
    return None


cdef tuple ancestry():
    """The flights that this context descends from."""
    cdef PyObject *chain = NULL
    PyContextVar_Get(_ancestry, NULL, &chain)
    return <tuple>owned(chain) if chain != NULL else ()


cdef object ancestors():
    """Flights that this call descends from: by context, and by thread."""
    cdef list own
    cdef set all = set(ancestry())
    own = _led.get(thread_ident())
    if own is not None:
        all.update(own)
    return all


cdef bint would_circle(object mine, Flight wanted) except -1:
    """Whether waiting for `wanted` could wait for one of `mine`. O(waiting calls)."""
    cdef set reached = {wanted}
    cdef list front = [wanted]
    cdef Flight flight
    if wanted in mine:
        return True
    while front:
        flight = front.pop()
        for theirs, goal in _waits.values():
            if goal not in reached and flight in theirs:
                if goal in mine:
                    return True
                reached.add(goal)
                front.append(goal)
    return False


cdef int check_factory(object factory) except -1:
    if not callable(factory):
        raise TypeError(f"factory must be callable, got {factory!r}")
    if is_async(factory):
        raise TypeError(f"factory must not be async, got {factory!r}")
    return 0


cdef object call_factory(object factory):
    cdef object value = factory()
    if PyCoro_CheckExact(value):
        value.close()
        raise TypeError(f"factory must not be async, got {factory!r}")
    return value


cdef bint is_async(object factory) noexcept:
    # CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR of a function's or method's code
    code = getattr(getattr(factory, "__func__", factory), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return isinstance(flags, int) and flags & 0x380 != 0


cdef object load_by_flight(Cache self, object key, uint64_t hash, object factory, object ttl, object tti,
                           object weight, object tags):
    cdef Flight flight
    cdef object mine, token
    cdef bint circle
    while True:
        flight = flight_of(self, key, hash)
        if flight is None:
            flight = Flight.__new__(Flight)
            flight.key = key
            flight.hash = hash
            flight.landing = _allocate_lock()
            flight.landing.acquire()
            flight.leader = thread_ident()
            if not register(self, flight):
                continue        # another came first
            return lead(self, flight, factory, ttl, tti, weight, tags)
        if flight.leader == thread_ident():
            return call_factory(factory)    # from within its own load
        mine = ancestors()
        token = object()
        mutex_lock(&graph_mutex)
        try:
            circle = would_circle(mine, flight)
            if not circle:
                _waits[token] = (mine, flight)
        finally:
            mutex_unlock(&graph_mutex)
        if circle:
            return call_factory(factory)
        try:
            while not flight.landing.acquire(True, 1.0):
                if flight.leader not in _sys._current_frames():
                    # its thread died in mid-load, as a daemon's may
                    flight.state = ABANDONED
                    lock(self)
                    unregister(self, flight)
                    unlock(self)
                    break
            else:
                flight.landing.release()
        finally:
            mutex_lock(&graph_mutex)
            _waits.pop(token, None)
            mutex_unlock(&graph_mutex)
        if flight.state == LANDED:
            return flight.value
        if flight.state == FAILED:
            raise flight.error
        # abandoned: take over, unless another follower has, or has stored it
        value = peek(self, key, ABSENT)
        if value is not ABSENT:
            return value


cdef bint register(Cache self, Flight flight) except -1:
    """False: there is another flight with an equal hash whose key nobody compared yet."""
    cdef list flights
    cdef Flight other
    cdef Py_ssize_t n
    if self.flights_generation != generation:
        if self.flights_generation != 0:    # of the process that forked this one
            self.flights = None
            self.loading = 0
        self.flights_generation = generation
    if self.flights is None:
        self.flights = {}
    flights = self.flights.get(flight.hash)
    if flights is None:
        flights = self.flights[flight.hash] = []
    n = len(flights)
    other = flight_of(self, flight.key, flight.hash)
    if other is not None or self.flights.get(flight.hash) is not flights or len(flights) != n:
        return False
    flights.append(flight)
    return True


cdef object lead(Cache self, Flight flight, object factory, object ttl, object tti, object weight, object tags):
    cdef Options o
    cdef object value = None, token
    cdef tuple parents
    cdef object me = flight.leader
    cdef int64_t started = 0
    defaults(self, &o)
    try:
        # the tags are held from before the load starts, so that no invalidation is missed
        if not (type(tags) is tuple and not tags):
            hold_tags(self, &o, tags)
        flight.tags = o.tags
        flight.ntags = o.ntags
        # it may have landed between this caller's look and its registration
        value = peek(self, flight.key, ABSENT)
        if value is not ABSENT:
            flight.value = value
            flight.state = LANDED
            return value
        parents = ancestry()
        join(me, flight)
        token = PyContextVar_Set(_ancestry, parents + (flight,))
        self.loading += 1
        started = clock_precise()
        try:
            value = call_factory(factory)
        except BaseException:
            self.load_failures += 1
            raise
        finally:
            self.loads += 1
            o.cost = seconds(clock_precise() - started)
            self.load_time += o.cost
            if self.loading:
                self.loading -= 1
            PyContextVar_Reset(_ancestry, token)
        store_loaded(self, flight, &o, value, ttl, tti, weight)
        flight.value = value
        flight.state = LANDED
        return value
    except Exception as error:
        flight.error = error
        flight.state = FAILED
        raise
    except BaseException:
        flight.state = ABANDONED
        raise
    finally:
        lock(self)
        unregister(self, flight)
        flight.tags = NULL
        flight.ntags = 0
        unlock(self)
        leave(me, flight)
        drop_tags(self, &o)
        flight.landing.release()


cdef int join(object me, Flight flight) except -1:
    cdef list own
    mutex_lock(&graph_mutex)
    try:
        # not setdefault: on CPython 3.13.0 it may succeed and leave a MemoryError behind
        own = _led.get(me)
        if own is None:
            _led[me] = [flight]
        else:
            own.append(flight)
    finally:
        mutex_unlock(&graph_mutex)
    return 0


cdef int leave(object me, Flight flight) except -1:
    cdef list own
    mutex_lock(&graph_mutex)
    try:
        own = _led.get(me)
        if own is not None:
            if flight in own:
                own.remove(flight)
            if not own:
                _led.pop(me, None)
    finally:
        mutex_unlock(&graph_mutex)
    return 0


cdef int store_loaded(Cache self, Flight flight, Options *o, object value, object ttl, object tti,
                      object weight) except -1:
    cdef uint32_t *tags = o.tags
    cdef uint32_t ntags = o.ntags
    cdef uint64_t sequence = o.sequence
    cdef double cost = o.cost
    o.tags = NULL
    try:
        options(self, o, flight.key, value, ttl, tti, weight, ())
    finally:
        o.tags = tags
        o.ntags = ntags
        o.sequence = sequence
    o.cost = cost
    o.load = True
    o.fenced = &flight.fenced
    put(self, <PyObject*>flight.key, flight.hash, <PyObject*>value, o, time_if_any(self), SET)
    return 0
