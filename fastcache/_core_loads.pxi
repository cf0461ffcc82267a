# Loads: what get_or_set does on a miss, and what loading.py is given to do the same with more options.

cdef int check_factory(object factory) except -1:
    if not callable(factory):
        raise TypeError(f"factory must be callable, got {factory!r}")
    if is_async(factory):
        raise TypeError(f"factory must not be async, got {factory!r}")
    return 0


cdef object call_load(object function, tuple args, dict kwargs):
    cdef object value = function(*args, **kwargs) if kwargs else function(*args)
    if PyCoro_CheckExact(value):
        value.close()
        raise TypeError(f"factory must not be async, got {function!r}: it returned a coroutine")
    return value


cdef bint is_async(object factory) noexcept:
    # CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR of a function's or method's code
    code = getattr(getattr(factory, "__func__", factory), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return isinstance(flags, int) and flags & 0x380 != 0


cdef object load_by_flight(Cache self, object key, uint64_t hash, object function, tuple args, dict kwargs,
                           object ttl, object tti, object weight, object tags, double patience):
    """What function(*args, **kwargs) returns, from a flight. patience: seconds to wait for another."""
    cdef Flight flight
    cdef object token, value
    while True:
        flight = flight_of(self, key, hash)
        if flight is None:
            flight = start_flight(self, key, hash, None)
            if flight is None:
                continue        # another came first
            return lead(flight, function, args, kwargs, ttl, tti, weight, tags)
        token = flight.follow(False)
        if token is None:
            return call_load(function, args, kwargs)    # from within its own load
        try:
            if not wait_flight(flight, patience):
                return call_load(function, args, kwargs)
        finally:
            flight.unfollow(token)
        if glance(&flight.state) == LANDED:
            return flight.value
        if glance(&flight.state) == FAILED:
            raise error_to_raise(flight)
        # abandoned: take over, unless another follower has, or has stored it
        value = peek(self, key, ABSENT)
        if value is not ABSENT:
            return value


cdef object lead(Flight flight, object function, tuple args, dict kwargs, object ttl, object tti, object weight,
                 object tags):
    cdef Options o
    cdef object value = None, token
    cdef bint failed = True
    try:
        take_tags(flight, tags)
        # it may have landed between this caller's look and its registration
        value = peek(flight.cache, flight.key, ABSENT)
        if value is not ABSENT:
            flight.value = value
            show(&flight.state, LANDED)
            return value
        token = flight.enter()
        try:
            value = call_load(function, args, kwargs)
            failed = False
        finally:
            flight.leave(token, failed)
        defaults(flight.cache, &o)
        store_loaded(flight, &o, value, ttl, tti, weight)
        flight.value = value
        show(&flight.state, LANDED)
        return value
    except Exception as error:
        try:
            set_error(flight, error)
        finally:
            show(&flight.state, FAILED)
        raise
    except BaseException:
        show(&flight.state, ABANDONED)
        raise
    finally:
        end_flight(flight)


cdef int store_loaded(Flight flight, Options *o, object value, object ttl, object tti, object weight) except -1:
    """Store what was loaded, unless fenced. The tags are those in o, or else those that the flight has
    held since before it started."""
    cdef Options given = o[0]
    options(flight.cache, o, flight.key, value, ttl, tti, weight, ())
    o.tags = given.tags
    o.ntags = given.ntags
    if o.tags == NULL:
        o.tags = flight.tags
        o.ntags = flight.ntags
        o.sequence = flight.sequence
    else:
        o.sequence = given.sequence
    o.soft = given.soft
    if o.soft:
        o.failure = given.failure
        o.extra = given.extra
        o.lead = given.lead
        lock(flight.cache)
        flags_on(flight.cache, HAS_SOFT)
        unlock(flight.cache)
    o.cost = flight.cost
    o.load = True
    o.fenced = &flight.was_fenced
    put(flight.cache, <PyObject*>flight.key, flight.hash, <PyObject*>value, o, time_if_any(flight.cache), SET)
    o.tags = given.tags         # which the caller drops; the flight drops its own
    o.ntags = given.ntags
    return 0


# ---- for loading.py --------------------------------------------------------------------------

def board(Cache cache not None, key, /, *, loop=None, tags=(), late=False, again=False, list led=None):
    """(flight, whether the caller leads it) of the load of key: the one under way, or a new one.

    loop: that of the task that will lead, None for a thread. tags: known before the load starts;
    late: more will come with the value. A new flight whose key turns out to be there has landed
    with that value, unless `again` asks for another load. led: where to put a new one, which the caller
    must end whatever happens."""
    cdef Flight flight
    cdef uint64_t hash
    cdef object value
    mix_key(<PyObject*>key, &hash)
    while True:
        flight = flight_of(cache, key, hash)
        if flight is not None:
            return flight, False
        flight = start_flight(cache, key, hash, loop)
        if flight is not None:
            break
    if led is not None:
        led.append(flight)
    try:
        if late:
            invalidated = set()
            lock(cache)
            flight.invalidated = invalidated
            unlock(cache)
        take_tags(flight, tags)
        if not again:
            value = peek(cache, key, ABSENT)
            if value is not ABSENT:
                flight.value = value
                show(&flight.state, LANDED)
                end_flight(flight)
    except BaseException:
        flight.abandon()
        raise
    return flight, True


def kept(Cache cache not None, key, /):
    """(value, seconds that it is fresh, seconds until its loader wants to know of a hit, seconds that its
    load took) of an entry that is kept for its loader, fresh or not; None: there is no such."""
    cdef int64_t now = exact_time_of(cache), fresh, due
    cdef uint64_t hash
    cdef uint32_t e
    cdef Soft *s = NULL
    cdef double cost
    cdef PyObject *value
    mix_key(<PyObject*>key, &hash)
    lock(cache)
    e = find(cache, <PyObject*>key, hash)
    if cache.flags & HAS_SOFT and e != NIL and not gone(cache, e, now):
        s = slab_soft(&cache.slab, e)
    if s == NULL or s.fresh == NEVER:
        unlock(cache)
        return None
    fresh = s.fresh
    due = s.due
    cost = s.cost
    value = slab_entry(&cache.slab, e).value
    incref(value)
    unlock(cache)
    return owned(value), seconds(fresh) - seconds(now), seconds(due) - seconds(now), cost


def postpone(Cache cache not None, key, double wait, /):
    """Its loader does not want to know of hits for so many seconds."""
    cdef int64_t now = time_of(cache)
    cdef uint64_t hash
    cdef uint32_t e
    cdef Soft *s
    mix_key(<PyObject*>key, &hash)
    lock(cache)
    e = find(cache, <PyObject*>key, hash)
    s = slab_soft(&cache.slab, e) if cache.flags & HAS_SOFT and e != NIL else NULL
    if s != NULL and s.fresh != NEVER:
        s.due = now + <int64_t>(wait * 1e9)
    unlock(cache)


def served(Cache cache not None, Cached function=None, /):
    """A miss (of `function`, in a cache it shares) turned out to be a hit, on an entry past its ttl or
    on a kept error."""
    lock(cache)
    if function is not None and take_64(&function.own_misses):
        add_64(&function.own_hits, 1)
    if cache.misses:
        cache.misses -= 1
    cache.hits += 1
    cache.stale_hits += 1
    unlock(cache)
