# Operations of Cache on single keys and on many, over find, put and remove (_core.pyx).

cdef uint32_t find_alive(Cache self, object key) except? 0xFFFFFFFFu:
    """The entry of key if it is alive, else NIL. Returns locked."""
    cdef int64_t now = time_if_any(self)
    cdef uint64_t hash
    cdef uint32_t e
    mix_key(<PyObject*>key, &hash)
    lock(self)
    e = find(self, <PyObject*>key, hash)
    return NIL if e != NIL and self.flags & MORTAL and dead(self, e, now) else e


cdef object peek(Cache self, object key, object value):
    """The value of key if it is held and alive, else `value`."""
    cdef uint32_t e = find_alive(self, key)
    if e != NIL:
        value = <object>slab_entry(&self.slab, e).value
    unlock(self)
    return value


cdef int store(Cache self, object key, object value, object ttl, object tti, object weight, object tags,
               int mode) except -1:
    cdef Options o
    cdef uint64_t hash
    mix_key(<PyObject*>key, &hash)
    try:
        options(self, &o, key, value, ttl, tti, weight, tags)
        return put(self, <PyObject*>key, hash, <PyObject*>value, &o, time_if_any(self), mode)
    finally:
        drop_tags(self, &o)


cdef object pairs_of(object other):
    """The pairs of what dict.update takes."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return [(key, other[key]) for key in other.keys()]
    return other


cdef int take(Cache self, object key, PyObject **value) except -1:
    """Remove key. 1: it was there, and alive; *value, where asked for, is a new reference."""
    cdef int64_t now = time_if_any(self)
    cdef Bin bin
    cdef uint64_t hash
    cdef uint32_t e
    cdef int found = 0
    bin.n = 0
    mix_key(<PyObject*>key, &hash)
    lock(self)
    e = find(self, <PyObject*>key, hash)
    fence_if_loading(self, hash)
    if e != NIL:
        found = not (self.flags & MORTAL and dead(self, e, now))
        if found and value != NULL:
            value[0] = slab_entry(&self.slab, e).value
            incref(value[0])
        remove(self, e, EXPLICIT if found else cause_of_death(self, e, now), &bin)
    unlock(self)
    if bin.n:
        settle(self, &bin)
    return found


cdef bint discard(Cache self, object key) except -1:
    return take(self, key, NULL) != 0


cdef bint shed(Cache self, int64_t now, int64_t bound, bint resizing) except -1:
    """Evict the next victim if the weight is over bound. False: it was not, or there is none. When
    resizing, the cache's bound comes down with its weight: whoever looks in between sees it kept."""
    cdef Bin bin
    cdef uint32_t e = NIL
    cdef int cause
    bin.n = 0
    lock(self)
    if self.total > bound and self.count:
        e = victim(self, now, NIL, &cause)
        remove(self, e, cause, &bin)
    if resizing:
        self.bound = max(bound, self.total)
    unlock(self)
    settle(self, &bin)
    return e != NIL


cdef object pop_victim(Cache self):
    cdef int64_t now = time_if_any(self)
    cdef Bin bin
    cdef uint32_t e
    cdef object pair = None
    cdef int cause
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    while True:
        bin.n = 0
        lock(self)
        if self.count == 0:
            unlock(self)
            raise KeyError("the cache is empty")
        e = victim(self, now, NIL, &cause)
        if cause == SIZE and stale(self, e, now):
            cause = EXPIRED         # only its loader may see it
        if cause == SIZE:
            cause = EXPLICIT
            fence_if_loading(self, slab_entry(&self.slab, e).hash)
            key = slab_entry(&self.slab, e).key
            value = slab_entry(&self.slab, e).value
            incref(key)
            incref(value)
        remove(self, e, cause, &bin)
        unlock(self)
        settle(self, &bin)
        if key != NULL:
            return (owned(key), owned(value))


cdef list expire(Cache self, object limit):
    cdef int64_t now, left = INT64_MAX
    cdef uint32_t e = NIL
    cdef Bin bin
    cdef PyObject *key
    cdef PyObject *value
    cdef list pairs = []
    cdef bint untold
    if limit is not None:
        left = whole(limit, "limit", "an int or None")
    if not glance(&self.flags) & MORTAL:
        return pairs
    now = time_if_any(self)
    while left > 0:
        bin.n = 0
        lock(self)
        e = slab_walk(&self.slab, e + 1)
        while e != NIL and not gone(self, e, now):
            e = slab_walk(&self.slab, e + 1)
        if e == NIL:
            unlock(self)
            break
        key = slab_entry(&self.slab, e).key
        value = slab_entry(&self.slab, e).value
        incref(key)
        incref(value)
        remove(self, e, cause_of_death(self, e, now), &bin)
        untold = bin.items[0].cause == UNTOLD
        unlock(self)
        settle(self, &bin)
        pair = (owned(key), owned(value))
        if not untold:
            pairs.append(pair)
            left -= 1
    return pairs


cdef bint touch(Cache self, object key, object ttl) except -1:
    cdef Options o
    cdef uint64_t hash
    cdef uint32_t e
    cdef Bin bin
    cdef Extra *x
    cdef Soft *s
    cdef int64_t now, deadline, hard, kept
    cdef bint alive
    bin.n = 0
    defaults(self, &o)
    if ttl is not UNSET:
        o.ttl = duration(ttl, "ttl")
    if o.ttl != NEVER:
        time_on(self, o.ttl)
    now = time_if_any(self)
    mix_key(<PyObject*>key, &hash)
    lock(self)
    e = find(self, <PyObject*>key, hash)
    alive = e != NIL and not dead(self, e, now)
    if e != NIL and (o.ttl == 0 if alive else gone(self, e, now)):
        remove(self, e, EXPLICIT if alive else cause_of_death(self, e, now), &bin)
        unlock(self)
        settle(self, &bin)
        return alive
    if not alive or not self.flags & HAS_TIME:
        unlock(self)
        return alive
    x = slab_extra(&self.slab, e)
    s = slab_soft(&self.slab, e) if self.flags & HAS_SOFT else NULL
    hard = lifetime_from(self, now, o.ttl)
    if s != NULL and s.fresh != NEVER:
        # all that was agreed when it was loaded moves along
        kept = slab_timing(&self.slab, e).deadline if x == NULL else x.hard
        kept = kept - s.fresh if kept != NEVER and kept > s.fresh else 0
        s.due = hard if hard == NEVER or s.due == NEVER else hard - (s.fresh - s.due)
        s.fresh = hard
        if hard != NEVER:
            hard += kept
    deadline = hard if x == NULL or x.idle == NEVER else min(hard, later(self, now, x.idle))
    if deadline != NEVER and not slab_need(&self.slab, e, TIMING):
        unlock(self)
        raise MemoryError
    if x != NULL:
        x.hard = hard
    set_deadline(self, e, deadline, now)
    unlock(self)
    return True


cdef object increment(Cache self, object key, object delta, object initial):
    cdef int64_t now = time_if_any(self)
    cdef uint64_t hash
    cdef uint32_t e
    cdef object old, new
    cdef Options o
    cdef Bin bin
    if not is_number(delta):
        raise TypeError(f"delta must be an int or a float, got {delta!r}")
    if not is_number(initial):
        raise TypeError(f"initial must be an int or a float, got {initial!r}")
    cdef int rounds = 0
    mix_key(<PyObject*>key, &hash)
    while True:
        rounds += 1
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e == NIL or (self.flags & MORTAL and dead(self, e, now)):
            unlock(self)
            new = initial + delta
            defaults(self, &o)
            if self.weigher is not None:
                weigh(self, &o, key, new)
            # SET at last, for an __eq__ that says now this, now that
            if put(self, <PyObject*>key, hash, <PyObject*>new, &o, now, ADD if rounds < RESTARTS else SET) or \
                    o.ttl == 0 or o.tti == 0 or not has_room_for(self, o.weight):
                return new
            continue
        old = <object>slab_entry(&self.slab, e).value
        unlock(self)
        if not is_number(old):
            raise TypeError(f"incr needs an int or a float under {key!r}, got {old!r}")
        new = old + delta       # of exact ints and floats: no user code
        bin.n = 0
        lock(self)
        e = find(self, <PyObject*>key, hash)
        if e == NIL or slab_entry(&self.slab, e).value != <PyObject*>old:
            unlock(self)
            if rounds > 1000:
                raise RuntimeError(f"{key!r} is never found twice: its __eq__ contradicts itself")
            continue
        fence_if_loading(self, hash)
        bin.items[0].key = NULL
        if self.listener is not None:
            bin.items[0].key = slab_entry(&self.slab, e).key
            incref(bin.items[0].key)
        bin.items[0].value = slab_entry(&self.slab, e).value
        bin.items[0].cause = REPLACED
        bin.n = 1
        self.removed[REPLACED] += 1
        incref(<PyObject*>new)
        slab_entry(&self.slab, e).value = <PyObject*>new
        policy_hit(&self.order, &self.slab, e)
        if self.flags & HAS_TTI:
            renew_idle(self, e, now)
        unlock(self)
        settle(self, &bin)
        return new


cdef bint has_room_for(Cache self, int64_t weight) noexcept:
    cdef bint room
    lock(self)
    room = self.bound != 0 and weight <= self.bound
    unlock(self)
    return room


cdef bint is_number(object x) noexcept:
    return type(x) is int or type(x) is float


cdef int invalidate_tags(Cache self, tuple tags) except -1:
    cdef object tag
    cdef Flight flight
    cdef PyObject *number
    cdef list running = all_flights(self)
    for flight in running:
        lock(self)
        try:
            if flight.invalidated is not None:
                # it may or may not get this tag; who comes from now on does not wait for it
                flight.detached = True      # but still in the list: it may be fenced, or lose another tag
                flight.invalidated.update(tags)
        finally:
            unlock(self)
    for tag in tags:
        lock(self)
        try:
            number = dict_item(self.tag_records, <PyObject*>tag) if self.marks != NULL else NULL
            if number != NULL:
                tags_invalidate(self.marks, <uint32_t><object>number)
                fence_of_tag(self, running, <uint32_t><object>number)
        finally:
            unlock(self)
    return 0


# ---- many keys -------------------------------------------------------------------------------

# Keys are looked up AHEAD at a time: first all hashes, then all cells, then all entries, so that the
# processor fetches what lies far apart in memory while it still looks for the others. No user code
# runs in between; where some must, the rest of the keys is begun anew after it.

cdef enum:
    AHEAD = 32


cdef inline bint mix_number(int64_t number, uint64_t *hash) noexcept:
    """The mixed hash of the int of that value. False: hash() loses something of it."""
    if unlikely(<uint64_t>number + (<uint64_t>1 << 60) - 1 >= (<uint64_t>1 << 61) - 1):
        return False
    hash[0] = mix(<uint64_t>(number if number != -1 else -2))
    return True


cdef inline bint is_number_of(PyObject *key, int64_t number) noexcept:
    return long_exact(key) and long_is(key, number)


cdef inline Py_ssize_t take_ahead(Cache self, Py_ssize_t n, bint as_numbers, PyObject **keys, const int64_t *numbers,
                                  PyObject **slots, PyObject *default) noexcept:
    """hit_at_once for n keys (AHEAD at most), given as objects or as numbers; values go into the list's
    slots, in the place of `default`. How many keys, from the first on, were told of."""
    cdef uint64_t hashes[AHEAD]
    cdef uint64_t *at[AHEAD]
    cdef uint32_t entries[AHEAD]
    cdef Entry *found[AHEAD]
    cdef Segment *s
    cdef uint64_t cell
    cdef uint32_t i
    cdef Py_ssize_t j, hits = 0
    cdef Entry *p
    cdef PyObject *value
    cdef bint told
    lock(self)
    if unlikely(not all_alive(self)):
        unlock(self)
        return 0
    for j in range(n):
        if as_numbers:
            told = mix_number(numbers[j], &hashes[j])
        else:
            told = mix_at_once(keys[j], &hashes[j])
        if unlikely(not told):
            n = j
            break
        s = table_segment(&self.table, <uint32_t>(hashes[j] >> 32))
        at[j] = s.cells + (<uint32_t>(hashes[j] >> 32) & s.mask)
        prefetch(at[j])
    for j in range(n):
        cell = at[j][0]
        if (cell ^ hashes[j]) >> 32 != 0 and cell != 0:
            s = table_segment(&self.table, <uint32_t>(hashes[j] >> 32))
            i = <uint32_t>(hashes[j] >> 32)
            while (cell ^ hashes[j]) >> 32 != 0 and cell != 0:
                i += 1
                cell = s.cells[i & s.mask]
        entries[j] = <uint32_t>cell
        if likely(cell != 0):
            found[j] = slab_entry(&self.slab, <uint32_t>cell)
            prefetch(found[j])
    for j in range(n):
        if unlikely(entries[j] == NIL):
            continue
        p = found[j]
        if unlikely(p.hash != hashes[j]):
            n = j
            break
        if as_numbers:
            if unlikely(not is_number_of(p.key, numbers[j])):
                n = j
                break
        elif unlikely(p.key != keys[j]) and not same_at_once(p.key, keys[j]):
            n = j
            break
        hits += 1
        value = p.value
        incref(value)
        slots[j] = value
    decref_many(default, hits)      # the caller has it too
    self.hits += hits
    self.misses += n - hits
    if likely(self.order.kind == LRU):
        order_all_to_head(&self.order.order, &self.slab, entries, found, n)
    else:
        for j in range(n):
            if entries[j] != NIL:
                promote_further(self, entries[j])
    unlock(self)
    return n


cdef Py_ssize_t get_ahead(Cache self, PyObject **keys, Py_ssize_t n, PyObject **slots, PyObject *default) noexcept:
    return take_ahead(self, n, False, keys, NULL, slots, default)


cdef Py_ssize_t get_numbers_ahead(Cache self, const int64_t *numbers, Py_ssize_t n, PyObject **slots,
                                  PyObject *default) noexcept:
    return take_ahead(self, n, True, NULL, numbers, slots, default)


cdef list get_many(Cache self, object keys, object default):
    cdef list values
    cdef object key
    cdef uint64_t hash
    cdef PyObject *value
    cdef Py_buffer view
    cdef Py_ssize_t i, n, told, ahead = AHEAD
    cdef PyObject *item
    cdef int r
    if type(keys) is not list and type(keys) is not tuple and PyObject_CheckBuffer(keys) and \
            not isinstance(keys, (bytes, bytearray)):
        try:
            PyObject_GetBuffer(keys, &view, PyBUF_FORMAT | PyBUF_STRIDED_RO)
        except (BufferError, ValueError):       # ValueError: numpy's, for dates
            pass                # it may still be iterable
        else:
            try:
                if is_native_integers(&view):
                    return get_integers(self, &view, default)
            finally:
                PyBuffer_Release(&view)
    if type(keys) is not tuple and (FREE_THREADED or type(keys) is not list):
        keys = list(keys)       # nobody else's: items are borrowed from it
    n = PySequence_Fast_GET_SIZE(keys)
    values = list_of(<PyObject*>default, n)
    i = 0
    while True:
        # a list may change while its items compare
        n = min(n, PySequence_Fast_GET_SIZE(keys))
        if i >= n:
            return values
        told = get_ahead(self, sequence_items(keys) + i, min(n - i, ahead), list_items(values) + i,
                         <PyObject*>default)
        i += told
        if i >= n or told == ahead:
            ahead = AHEAD
            continue
        # where such keys come often, it does not pay to look ahead
        ahead = AHEAD if told else 1
        item = PySequence_Fast_ITEM(keys, i)
        key = <object>item
        mix_quickly(item, &hash)
        r = look_quickly(self, item, hash, &value)
        if r == HIT or (r != MISS and look(self, item, hash, &value)):
            list_put(values, i, value)
        i += 1


cdef bint is_native_integers(Py_buffer *view) noexcept:
    """One dimension of integers of any width in native byte order."""
    cdef const char *format = view.format
    if format == NULL:
        format = "B"
    if format[0] in b"@=" or (format[0] == NATIVE_ORDER and format[1] != 0):
        format += 1
    return view.ndim == 1 and format[0] != 0 and format[1] == 0 and format[0] in b"bBhHiIlLqQnN"


cdef inline int64_t integer_at(const char *p, Py_ssize_t size, bint signed) noexcept:
    # copied, since a buffer may be cut at any byte
    cdef int64_t v8
    cdef int32_t v4
    cdef int16_t v2
    if size == 8:
        memcpy(&v8, p, 8)
        return v8
    if size == 4:
        memcpy(&v4, p, 4)
        return v4 if signed else <int64_t><uint32_t>v4
    if size == 2:
        memcpy(&v2, p, 2)
        return v2 if signed else <int64_t><uint16_t>v2
    return (<const int8_t*>p)[0] if signed else <int64_t>(<const uint8_t*>p)[0]


cdef list get_integers(Cache self, Py_buffer *view, object default):
    """get_many over what is_native_integers."""
    cdef bint signed
    cdef Py_ssize_t i = 0, j, m, n, step, told, ahead = AHEAD
    cdef const char *p
    cdef int64_t numbers[AHEAD]
    cdef const int64_t *run = numbers
    cdef bint in_place      # another thread may still change what lies there: then a number is not found
    cdef uint64_t hash
    cdef list values
    cdef PyObject *value
    cdef object key
    signed = view.format != NULL and view.format[strlen(view.format) - 1] in b"bhilqn"
    n = view.shape[0]
    step = view.strides[0] if view.strides != NULL else view.itemsize
    p = <const char*>view.buf
    in_place = view.itemsize == 8 and signed and step == 8 and <size_t>p % 8 == 0
    values = list_of(<PyObject*>default, n)
    while i < n:
        m = min(n - i, ahead)
        if in_place:
            run = <const int64_t*>(p + i * 8)
        else:
            for j in range(m):
                numbers[j] = integer_at(p + (i + j) * step, view.itemsize, signed)
                if view.itemsize == 8 and not signed and numbers[j] < 0:
                    numbers[j] = INT64_MAX      # above, and to be told by its object
        told = get_numbers_ahead(self, run, m, list_items(values) + i, <PyObject*>default)
        i += told
        if told == m:
            ahead = AHEAD
            continue
        ahead = AHEAD if told else 1
        if view.itemsize == 8 and not signed:
            key = <uint64_t>integer_at(p + i * step, 8, False)
        else:
            key = run[told]
        mix_quickly(<PyObject*>key, &hash)
        if look(self, <PyObject*>key, hash, &value):
            list_put(values, i, value)
        i += 1
    return values
