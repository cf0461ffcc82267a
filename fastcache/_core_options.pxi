# What users pass: durations, bounds, weights and tags, checked and converted before any edit.

# ---- arguments -------------------------------------------------------------------------------

cdef int64_t duration(object value, str name) except? -1:
    """Seconds, as a real number or a timedelta, to ns; None, inf and what exceeds 2**62 ns (146
    years): NEVER. At least 1 ns unless 0."""
    cdef double s
    if value is None:
        return NEVER
    if isinstance(value, bool) or isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be a number of seconds or None, got {value!r}")
    if PyFloat_CheckExact(value):
        s = PyFloat_AS_DOUBLE(value)
    else:
        try:
            s = value.total_seconds() if hasattr(value, "total_seconds") else float(value)
        except (TypeError, ValueError):     # Decimal("sNaN") has no float
            raise TypeError(f"{name} must be a number of seconds or None, got {value!r}") from None
        except OverflowError:
            s = INFINITY if value > 0 else -INFINITY
    if isnan(s):
        raise ValueError(f"{name} must not be NaN, got {value!r}")
    if s < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return 0 if s == 0 else nanoseconds(s)


cdef inline int64_t nanoseconds(double s) noexcept:
    """Of more than 0 seconds."""
    return NEVER if s >= 4.6e9 else max(<int64_t>1, <int64_t>llround(s * 1e9))


cdef double fraction(object value, str name) except? -1:
    cdef double x
    if PyFloat_CheckExact(value):
        x = PyFloat_AS_DOUBLE(value)
    elif isinstance(value, (bool, str, bytes, bytearray)):
        raise TypeError(f"{name} must be a number from 0 to 1, got {value!r}")
    else:
        try:
            x = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} must be a number from 0 to 1, got {value!r}") from None
    if not 0.0 <= x <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {value!r}")
    return x


cdef int64_t whole(object value, str name, str what) except? -1:
    """An int from 0 to 2**63 - 1; anything with __index__, but no bool."""
    cdef object i
    if type(value) is int:
        i = value
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    else:
        i = value.__index__()
    if i < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    if i > INT64_MAX:
        raise ValueError(f"{name} must be at most 2**63 - 1, got {value!r}")
    return i


cdef int64_t bound_of(object maxsize) except? -1:
    return INT64_MAX if maxsize is None else whole(maxsize, "maxsize", "an int or None")


cdef int kind_of(object policy) except -1:
    cdef int kind
    if not isinstance(policy, str):
        raise TypeError(f"policy must be a str, got {policy!r}")
    for kind in range(len(POLICIES)):
        if policy is POLICIES[kind] or policy == POLICIES[kind]:
            return kind
    raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")


cdef int need_callable(object value, str name) except -1:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, got {value!r}")
    return 0


cdef double seconds(int64_t ns) noexcept:
    return <double>ns / 1e9


cdef object seconds_until(int64_t deadline, int64_t now):
    """As doubles, since clocks may be further apart than an int64 of ns is long."""
    return None if deadline == NEVER else seconds(deadline) - seconds(now)


cdef object seconds_or_none(int64_t ns):
    return None if ns == NEVER else seconds(ns)


# ---- options of an entry ---------------------------------------------------------------------

cdef int weigh(Cache self, Options *o, object key, object value) except -1:
    o.weight = whole(self.weigher(key, value), "the weigher's result", "an int")
    return 0


cdef int options(Cache self, Options *o, object key, object value, object ttl, object tti,
                 object weight, object tags) except -1:
    """Everything that may fail or run user code, before the probe."""
    defaults(self, o)
    if ttl is not UNSET:
        o.ttl = duration(ttl, "ttl")
    if tti is not UNSET:
        o.tti = duration(tti, "tti")
    if weight is not UNSET:
        o.weight = whole(weight, "weight", "an int")
    elif self.weigher is not None:
        weigh(self, o, key, value)
    if not (type(tags) is tuple and not tags):
        hold_tags(self, o, tags)
    return provide(self, o)


cdef inline int provide(Cache self, Options *o) except -1:
    """What the cache needs for entries with such options."""
    if o.ttl != NEVER or o.tti != NEVER:
        time_on(self, min(o.ttl, o.tti))
    if o.tti != NEVER or o.weight != 1 or o.ntags:
        lock(self)
        flags_on(self, HAS_EXTRA | (HAS_TTI if o.tti != NEVER else 0))
        unlock(self)
    return 0


cdef int check_tag(object tag) except -1:
    """Tags are compared while the lock is held, so only by types whose `__eq__` is known."""
    if type(tag) is tuple:
        for part in <tuple>tag:
            check_tag(part)
    elif type(tag) not in (str, bytes, int):
        raise TypeError(f"tags must be str, bytes, int or tuples of these, got {tag!r}")
    return 0


cdef tuple tags_given(object tags):
    cdef object tag
    if isinstance(tags, (str, bytes)):
        raise TypeError(f"tags must be an iterable of tags, got {tags!r}")
    try:
        tags = tuple(tags)
    except TypeError:
        if hasattr(type(tags), "__iter__"):
            raise
        raise TypeError(f"tags must be an iterable of tags, got {tags!r}") from None
    for tag in tags:
        check_tag(tag)
    return tags


cdef int check_options(object ttl, object tti, object weight) except -1:
    """What options() will make of them, looked at before anything is counted."""
    if ttl is not UNSET:
        duration(ttl, "ttl")
    if tti is not UNSET:
        duration(tti, "tti")
    if weight is not UNSET:
        whole(weight, "weight", "an int")
    return 0


cdef int hold_tags(Cache self, Options *o, object tags) except -1:
    """The records of the tags, made where missing, each with a reference of ours; drop_tags gives
    them back."""
    cdef object tag
    cdef set names = set(tags_given(tags))
    cdef dict records = {}
    cdef Tags *marks
    cdef uint32_t r
    if not names:
        return 0
    lock(self)
    if self.marks == NULL:
        marks = <Tags*>mem_alloc(&self.own_bytes, sizeof(Tags))
        if marks == NULL:
            unlock(self)
            raise MemoryError
        tags_init(marks)
        self.tag_records = records
        self.marks = marks
    flags_on(self, HAS_TAGS | HAS_EXTRA)
    unlock(self)
    o.tags = <uint32_t*>PyMem_Malloc(len(names) * sizeof(uint32_t))
    if o.tags == NULL:
        raise MemoryError
    try:
        for tag in names:
            lock(self)
            try:
                r = tag_record(self, tag)
                self.marks.records[r].refs += 1
            finally:
                unlock(self)
            o.tags[o.ntags] = r
            o.ntags += 1
    except MemoryError:
        drop_tags(self, o)
        raise
    lock(self)
    o.sequence = self.marks.sequence
    unlock(self)
    return 0


cdef uint32_t tag_record(Cache self, object tag) except 0:
    """The tag's record, made if need be. Locked; makes no object but an int."""
    cdef PyObject *number = dict_item(self.tag_records, <PyObject*>tag)
    cdef uint32_t r
    if number != NULL:
        return <uint32_t><object>number
    if not tags_reserve_record(self.marks):
        raise MemoryError
    r = tags_new_record(self.marks, <PyObject*>tag)
    try:
        self.tag_records[tag] = r
    except MemoryError:
        tags_drop_record(self.marks, r)
        raise
    return r


cdef void drop_tags(Cache self, Options *o) noexcept:
    cdef uint32_t i
    if o.tags != NULL:
        lock(self)
        for i in range(o.ntags):
            tags_unref(self.marks, o.tags[i])
        unlock(self)
        PyMem_Free(o.tags)
        o.tags = NULL
        o.ntags = 0
        forget_tags(self)


cdef void forget_tags(Cache self) noexcept:
    """Tags that nothing uses any more leave the dictionary."""
    cdef uint32_t r = 0
    cdef PyObject *name
    while True:
        lock(self)
        if self.marks != NULL:
            r = tags_take_unused(self.marks)
        if r == 0:
            unlock(self)
            return
        name = self.marks.records[r].name
        incref(name)
        if dict_del(self.tag_records, name) < 0:
            PyErr_Clear()
        tags_drop_record(self.marks, r)
        unlock(self)
        decref(name)
        r = 0
