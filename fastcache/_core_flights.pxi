# ---- fences ----------------------------------------------------------------------------------
# A load that is under way when its key is removed or set must not be stored. Loads by flight
# (_core_flights.pxi) are marked and detached; those of decorated functions (_core_calls.pxi), of
# which nobody keeps a list, look into a ring of the hashes changed while any load was under way.
# The ring is short: a load that comes too late to tell is not stored. A load is under way until its
# value is stored, or not: a weigher or a clock may run in between.

cdef inline uint64_t load_begins(Cache self) noexcept:
    """From here on what is changed is remembered; fences from the returned one on count. Locked."""
    self.loading += 1
    return self.fenced_at


cdef inline void load_ends(Cache self) noexcept:
    """Locked."""
    if self.loading:            # a forked child has started anew
        self.loading -= 1


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


# Flights: one load per key at a time, over all threads, tasks and event loops.
#
# A flight is registered under its key's mixed hash while its load runs: in the leader's thread, in a
# thread of the pool, or in a task. Followers wait on its lock, which each passes on as it wakes, or
# leave a callback. What changes the key meanwhile marks the flight fenced and detaches it: those who
# wait already get its value, who comes later starts another, and the value is not stored.
#
# Nobody waits in a circle. A follower's ancestors are the flights that its own thread leads and
# those that its context descends from (a ContextVar, so an executor that copies the context is
# seen through); before it waits it walks from the flight it wants along "whoever has this flight
# as an ancestor waits for that one". If that leads back to an ancestor, it computes through: it
# calls its function itself, and stores nothing.
#
# A forked child has none of its parent's threads, so it starts with no flights (`generation`).
#
# This file has the flight and its register; what a load does is in _core_loads.pxi and loading.py.

from cpython.dict cimport PyDict_Next
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.contextvars cimport PyContextVar_Get, PyContextVar_New, PyContextVar_Reset, PyContextVar_Set

cdef unsigned int generation = 1
cdef object _ancestry = PyContextVar_New("fastcache_flights", NULL)
cdef dict _led = {}         # thread -> [Flight, ...] that it leads now, over all caches
cdef dict _waits = {}       # waiting call (an object) -> (ancestors, Flight)
cdef fc_mutex graph_mutex   # over _led and _waits; no user code under it


def _after_fork_in_child():
    global generation
    generation += 1
    mutex_forked()
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
    """A load under way. Only the loader of this package makes them.

    Its leader calls `enter`, then the function, then `leave`, and last `land`, `fail` or `abandon`. A
    follower calls `follow`, then `wait` or `notify`, and last `unfollow`.
    """
    cdef Cache cache
    cdef readonly object key
    cdef uint64_t hash
    cdef object landing         # a lock, held until the load has ended
    cdef unsigned long leader   # its thread
    cdef unsigned long handed_by    # the thread that handed it over, while it waits for that
    cdef readonly object loop   # its event loop, if a task leads
    cdef object leading_task    # ... that task, if it ends with the last who waits
    cdef uint32_t state
    cdef bint was_fenced
    cdef bint detached          # nobody finds it any more, but for fences
    cdef bint ended
    cdef readonly object value
    cdef readonly object error
    cdef readonly object trace  # the error's traceback when the load ended
    cdef object twin            # a copy of the error, see _core_errors.pxi
    cdef uint32_t *tags         # record numbers, the leader's while it runs
    cdef uint32_t ntags
    cdef uint64_t sequence      # invalidations of these after this one count
    cdef set invalidated        # tags invalidated meanwhile, where its own come with the value
    cdef list callbacks         # of followers; None once it has ended
    cdef Py_ssize_t waiting     # followers
    cdef int64_t started        # ns
    cdef readonly double cost   # seconds that it took; negative: not loaded
    cdef unsigned int generation

    @property
    def landed(self):
        return glance(&self.state) == LANDED

    @property
    def failed(self):
        return glance(&self.state) == FAILED

    @property
    def running(self):
        return glance(&self.state) == RUNNING

    @property
    def fenced(self):
        cdef bint fenced
        lock(self.cache)
        fenced = self.was_fenced
        unlock(self.cache)
        return fenced

    @property
    def followers(self):
        cdef Py_ssize_t n
        mutex_lock(&graph_mutex)
        n = self.waiting
        mutex_unlock(&graph_mutex)
        return n

    @property
    def task(self):
        cdef object task
        lock(self.cache)
        task = self.leading_task
        unlock(self.cache)
        return task

    @task.setter
    def task(self, task):
        set_task(self, task)

    # ---- the leader --------------------------------------------------------------------------

    def hand_over(self):
        """Another thread, not known yet, will lead. Until `let_go`, what interrupts this thread (a
        signal handler, a __del__) does not wait for it."""
        set_handed_by(self, thread_ident())
        set_leader(self, 0)

    def let_go(self):
        """The thread that handed it over no longer waits for it."""
        set_handed_by(self, 0)

    def enter(self):
        """Before the function is called, in the thread or task that calls it: loads from within know
        that they descend from this one. Returns what `leave` wants."""
        return enter_flights((self,))

    def leave(self, token, failed):
        """After the function, in the same context. Counts the load."""
        leave_flights((self,), token, failed)

    def land(self, value, *, ttl=..., tti=..., tags=None, extra=0.0, lead=0.0, given=...):
        """End with a value; unless fenced it is stored: fresh for ttl, kept for its loader for
        `extra` seconds more, its loader told of hits `lead` seconds before the end. tags: those
        that come with the value. given: what followers get, if not the value that is stored."""
        cdef Options o
        if glance(&self.state) != RUNNING:
            return              # given up for dead, so that others may have loaded what is newer
        defaults(self.cache, &o)
        try:
            if tags is not None:
                hold_tags(self.cache, &o, tags)
                if self.invalidated is not None and not self.invalidated.isdisjoint(tags):
                    lock(self.cache)
                    self.was_fenced = True
                    unlock(self.cache)
            o.soft = extra > 0 or lead > 0
            o.failure = False
            o.extra = duration(extra, "extra")
            o.lead = duration(lead, "lead")
            store_loaded(self, &o, value, ttl, tti, UNSET)
            self.value = value if given is UNSET else given
            show(&self.state, LANDED)
        except Exception as error:
            try:
                set_error(self, error)
            finally:
                show(&self.state, FAILED)
            raise
        except BaseException:
            show(&self.state, ABANDONED)
            raise
        finally:
            drop_tags(self.cache, &o)
            end_flight(self)

    def fail(self, error, *, kept=None, ttl=...):
        """End with an exception. kept, if not None, is stored for ttl seconds, seen by its loader
        alone."""
        cdef Options o
        if glance(&self.state) != RUNNING:
            return
        defaults(self.cache, &o)
        try:
            if kept is not None:
                o.soft = o.failure = True
                o.extra = o.lead = 0
                store_loaded(self, &o, kept, ttl, None, 0 if self.cache.weigher is not None else UNSET)
        finally:
            try:
                set_error(self, error)
            finally:
                show(&self.state, FAILED)
                end_flight(self)

    def abandon(self):
        """End with nothing: a follower takes over."""
        abandon_flight(self)

    # ---- the followers -----------------------------------------------------------------------

    def follow(self, asynchronous, token=None, *, own=False):
        """To be called before waiting. None: waiting could wait for oneself, so compute through;
        else what `unfollow` wants: token, if given, so that it is known whatever interrupts. own:
        the caller is who handed it over. O(waiting calls)."""
        cdef object mine
        cdef bint circle
        # A task on the leader's own loop may wait for the leading task, nobody else in its thread.
        if glance(&self.state) == RUNNING and leader_of(self) == thread_ident() and \
                not (asynchronous and self.loop is not None):
            return None
        if not own and was_handed_by(self, thread_ident()):
            return None
        mine = ancestors()
        if token is None:
            token = object()
        mutex_lock(&graph_mutex)
        try:
            circle = would_circle(mine, self)
            if not circle:
                _waits[token] = (mine, self)
                self.waiting += 1
        finally:
            mutex_unlock(&graph_mutex)
        return None if circle else token

    def unfollow(self, token):
        """After waiting; how many others still wait."""
        cdef Py_ssize_t left
        cdef object gone            # released last, since flights have values with destructors
        mutex_lock(&graph_mutex)
        try:
            gone = _waits.pop(token, None)
            if gone is not None:
                self.waiting -= 1
            left = self.waiting
        finally:
            mutex_unlock(&graph_mutex)
        return left

    def to_raise(self):
        """What it ended in, if it has failed, to be raised by one of those who wanted its value."""
        return error_to_raise(self)

    def wait(self, seconds=None):
        """Block until it has ended; False after that many seconds. Looks once a second whether its
        leader still lives, and ends the flight if not. Interruptible."""
        return wait_flight(self, INFINITY if seconds is None else seconds)

    def notify(self, callback):
        """Have callback() called when it has ended, in whatever thread; False: it has already."""
        cdef list first = [callback]
        cdef bint running
        lock(self.cache)
        try:
            running = not self.ended and self.state == RUNNING
            if running:
                if self.callbacks is None:
                    self.callbacks = first
                else:
                    self.callbacks.append(callback)
        finally:
            unlock(self.cache)
        return running

    def forget(self, callback):
        """Take back what `notify` was given."""
        cdef list callbacks
        lock(self.cache)
        callbacks = self.callbacks
        unlock(self.cache)
        if callbacks is not None:
            try:
                callbacks.remove(callback)
            except ValueError:
                pass            # it has been called, or is about to be

    def abandon_if_dead(self):
        """End the flight if its thread has died or its event loop no longer runs."""
        return abandon_if_dead(self)


cpdef object enter_flights(tuple flights):
    """Flight.enter for all the flights that one load serves."""
    cdef Flight flight
    cdef object token
    cdef int64_t now
    for flight in flights:
        if flight.loop is None:
            if leader_of(flight) != thread_ident():
                set_leader(flight, thread_ident())
            join(thread_ident(), flight)
    token = PyContextVar_Set(_ancestry, ancestry() + flights)
    now = clock_precise()
    for flight in flights:
        flight.started = now
    return token


cpdef int leave_flights(tuple flights, object token, bint failed) except -1:
    """Flight.leave for all the flights that one load has served; it counts as one load."""
    cdef Flight flight
    cdef int64_t now = clock_precise()
    for flight in flights:
        flight.cost = seconds(now - flight.started)
    flight = flights[0]
    lock(flight.cache)
    flight.cache.loads += 1
    flight.cache.load_time += flight.cost
    flight.cache.load_failures += failed
    unlock(flight.cache)
    try:
        PyContextVar_Reset(_ancestry, token)
    except ValueError:
        pass        # a coroutine that was dropped in mid-load ends in a foreign context; its own is gone
    return 0


cdef unsigned long leader_of(Flight self) noexcept:
    cdef unsigned long leader
    lock(self.cache)
    leader = self.leader
    unlock(self.cache)
    return leader


cdef void set_leader(Flight self, unsigned long leader) noexcept:
    lock(self.cache)
    self.leader = leader
    unlock(self.cache)


cdef void set_handed_by(Flight self, unsigned long thread) noexcept:
    lock(self.cache)
    self.handed_by = thread
    unlock(self.cache)


cdef bint was_handed_by(Flight self, unsigned long thread) noexcept:
    """Whether that thread has handed it over, and nobody leads it yet."""
    cdef bint handed
    lock(self.cache)
    handed = self.handed_by == thread and self.leader == 0
    unlock(self.cache)
    return handed


cdef void set_task(Flight self, object task) noexcept:
    cdef object old                 # released last
    lock(self.cache)
    old = self.leading_task
    self.leading_task = task
    unlock(self.cache)


cdef bint abandon_if_dead(Flight self) except -1:
    cdef unsigned long leader
    if glance(&self.state) != RUNNING:
        return True
    if self.loop is not None:
        if self.loop.is_running():
            return False
    else:
        leader = leader_of(self)
        if leader == 0 or leader in _sys._current_frames():
            return False
    # its thread died in mid-load, as a daemon's may, or its loop was stopped or closed
    abandon_flight(self)
    return True


cdef int abandon_flight(Flight self) except -1:
    cdef bint mine
    lock(self.cache)
    mine = self.state == RUNNING
    if mine:
        show(&self.state, ABANDONED)
        self.was_fenced = True  # a loop may run again, and then bring a value that no fence has met
    unlock(self.cache)
    if mine:
        end_flight(self)
    return 0


cdef bint wait_flight(Flight self, double seconds) except -1:
    cdef int64_t end = NEVER
    cdef double left = 1.0
    if seconds < 4.6e9:
        end = clock_precise() + <int64_t>(max(seconds, 0.0) * 1e9)
    if self.loop is not None and abandon_if_dead(self):
        return True
    while True:
        PyErr_CheckSignals()    # acquire() sees only those that arrive while it waits
        if end != NEVER:
            left = (end - clock_precise()) / 1e9
        if self.landing.acquire(True, min(max(left, 0.0), 1.0)):
            self.landing.release()
            return True
        if left <= 0:
            return glance(&self.state) != RUNNING
        if abandon_if_dead(self):
            return True


cdef int end_flight(Flight self) except -1:
    """Nobody finds it any more, and whoever waits for it wakes. Once."""
    cdef list callbacks
    lock(self.cache)
    if self.ended:
        unlock(self.cache)
        return 0
    self.ended = True
    unregister(self.cache, self)
    if self.generation == generation:
        load_ends(self.cache)
    callbacks = self.callbacks
    self.callbacks = None
    unlock(self.cache)
    give_back_tags(self)
    if self.loop is None:
        leave(leader_of(self), self)
    set_task(self, None)
    self.landing.release()
    while callbacks:
        try:
            callback = callbacks.pop()
        except IndexError:
            break                   # `forget` took back the last one
        callback()
    return 0


cdef int take_tags(Flight self, object tags) except -1:
    """Held from before the load starts, so that no invalidation is missed."""
    cdef Options o
    defaults(self.cache, &o)
    if type(tags) is tuple and not tags:
        return 0
    hold_tags(self.cache, &o, tags)
    lock(self.cache)
    self.tags = o.tags
    self.ntags = o.ntags
    self.sequence = o.sequence
    unlock(self.cache)
    return 0


cdef int give_back_tags(Flight self) except -1:
    cdef Options o
    lock(self.cache)
    o.tags = self.tags
    o.ntags = self.ntags
    self.tags = NULL
    self.ntags = 0
    unlock(self.cache)
    drop_tags(self.cache, &o)
    return 0


cdef Flight start_flight(Cache self, object key, uint64_t hash, object loop):
    """A flight of one's own, registered; None: another came first."""
    cdef Flight flight = Flight.__new__(Flight)
    flight.cache = self
    flight.key = key
    flight.hash = hash
    flight.landing = _thread.allocate_lock()     # looked up each time: gevent may patch it
    flight.landing.acquire()
    flight.leader = thread_ident()
    flight.loop = loop
    flight.cost = -1.0
    flight.generation = generation
    return flight if register(self, flight) else None


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
            (<Flight>flight).was_fenced = True
        if dict_del(self.flights, number) < 0:
            PyErr_Clear()
    decref(number)


cdef void fence_every_flight(Cache self) noexcept:
    cdef Py_ssize_t at = 0
    cdef PyObject *number
    cdef PyObject *flights
    while PyDict_Next(self.flights, &at, &number, &flights):
        for flight in <list>flights:
            (<Flight>flight).was_fenced = True
    self.flights.clear()


cdef void fence_of_tag(Cache self, list running, uint32_t record) noexcept:
    """Flights (all that there are) that carry the tag. Locked."""
    cdef Flight flight
    cdef uint32_t i
    for flight in running:
        for i in range(flight.ntags):
            if flight.tags[i] == record:
                flight.was_fenced = True
                unregister(self, flight)
                break


cdef void unregister(Cache self, Flight flight) noexcept:
    """Nobody finds the flight any more. Locked."""
    cdef PyObject *number = long_from(flight.hash)
    cdef PyObject *flights
    cdef Py_ssize_t i
    flight.detached = True          # which hides it even where there is no memory for the rest
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


cdef list flights_under(Cache self, uint64_t hash):
    """The list itself of the flights under a hash, or None."""
    cdef object number = hash
    cdef list flights = None
    lock(self)
    try:
        if self.flights is not None and self.flights_generation == generation:
            flights = self.flights.get(number)  # borrowed for a moment, so not without the lock
    finally:
        unlock(self)
    return flights


cdef list all_flights(Cache self):
    cdef list flights, running = []
    lock(self)
    try:
        if self.flights is not None:
            for flights in self.flights.values():
                running.extend(flights)
    finally:
        unlock(self)
    return running


cdef Flight flight_of(Cache self, object key, uint64_t hash):
    """The flight under way for key, or None. Compares keys, so user code may run."""
    cdef list flights = flights_under(self, hash)
    cdef Flight flight
    cdef bint hidden
    if flights is not None:
        for flight in list(flights):
            if compare(<PyObject*>flight.key, <PyObject*>key, Py_EQ):
                lock(self)
                hidden = flight.was_fenced or flight.detached
                unlock(self)
                if not hidden:
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
    mutex_lock(&graph_mutex)
    try:
        own = _led.get(thread_ident())
        if own is not None:
            all.update(own)
    finally:
        mutex_unlock(&graph_mutex)
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


cdef bint register(Cache self, Flight flight) except -1:
    """False: there is another flight with an equal hash whose key nobody compared yet."""
    cdef dict table = {}, old = None
    cdef list own = [], flights
    cdef object number = flight.hash
    cdef Py_ssize_t n
    cdef bint alone = False
    lock(self)
    try:
        if self.flights_generation != generation:
            if self.flights_generation != 0:    # of the process that forked this one
                old = self.flights
                self.flights = None
                self.loading = 0
            self.flights_generation = generation
        if self.flights is None:
            self.flights = table
        table = self.flights
        flights = table.get(number)
        if flights is None:
            table[number] = flights = own
        n = len(flights)
    finally:
        unlock(self)
    old = None
    if flight_of(self, flight.key, flight.hash) is not None:
        return False
    lock(self)
    try:
        if self.flights is table and dict_item(table, <PyObject*>number) == <PyObject*>flights and len(flights) == n:
            flights.append(flight)
            load_begins(self)       # at once, since a flight that others can find a fence must find too
            alone = True
    finally:
        unlock(self)
    return alone


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
