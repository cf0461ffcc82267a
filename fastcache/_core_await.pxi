# Awaiting a cached async function: a coroutine in C. Calling the function only packs its arguments; the
# key, the look into the cache and the statistics happen at the first send, so that nothing that was
# invalidated between the call and the await is returned. A hit then returns at once, without a task,
# a Python frame or an exception (am_send); a miss is handed to the loader's coroutine.

cdef enum:
    NEXT = 1                # what am_send returns (PySendResult)
    RETURN = 0
    ERROR = -1
    CREATED = 0             # CachedCall.stage
    EXECUTING = 1           # whatever runs now may hold this call, and must not end it
    SUSPENDED = 2
    CLOSED = 3


@cython.final
@cython.no_gc_clear         # one that is part of a cycle warns too; what it holds can be cleared
@cython.freelist(64)
cdef class CachedCall:
    """A call of a cached async function, to be awaited once: a collections.abc.Coroutine."""
    cdef Cached function
    cdef object instance    # which the function knows weakly only
    cdef object only        # the argument, where there is one, and it has no name
    cdef tuple args         # positional, then the values of keywords
    cdef tuple names        # of these, or None
    cdef object inner       # the loader's coroutine, once it is a miss
    cdef uint32_t stage
    cdef object __weakref__

    def __await__(self):
        cdef uint32_t stage = glance(&self.stage)
        if stage == CLOSED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if stage != CREATED:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self):
        return self         # for `yield from call.__await__()`

    def __next__(self):
        return stepped(self, None)

    def send(self, value, /):
        """Go on, as the send of a coroutine: StopIteration has the result."""
        return stepped(self, value)

    def throw(self, type, value=None, traceback=None, /):
        """Raise an exception where it waits, as the throw of a coroutine."""
        refuse(glance(&self.stage))
        if value is None:
            value = type if isinstance(type, BaseException) else type()
        elif not isinstance(value, BaseException):
            value = type(value)
        if traceback is not None:
            value = value.with_traceback(traceback)
        if claim(&self.stage, CREATED, EXECUTING):
            close_call(self)
            raise value
        go_on(self)
        try:
            value = self.inner.throw(value)
        except StopIteration as stop:
            value = stop.value
        except BaseException:
            close_call(self)
            raise
        else:
            show(&self.stage, SUSPENDED)
            return value
        finish = self.function
        close_call(self)
        raise StopIteration(value if finish.copier is None else copy_given(finish, value))

    def close(self):
        """Give up, as the close of a coroutine."""
        if claim(&self.stage, CREATED, EXECUTING):
            close_call(self)
        elif glance(&self.stage) != CLOSED:
            go_on(self)
            try:
                self.inner.close()
            finally:
                close_call(self)

    @property
    def cr_await(self):
        return inner_of(self)

    @property
    def cr_running(self):
        return glance(&self.stage) == EXECUTING

    @property
    def cr_suspended(self):
        return glance(&self.stage) == SUSPENDED

    @property
    def cr_frame(self):
        inner = inner_of(self)
        return None if inner is None else inner.cr_frame

    @property
    def cr_code(self):
        inner = inner_of(self)
        return None if inner is None else inner.cr_code

    @property
    def cr_origin(self):
        return None

    @property
    def __name__(self):
        return shown_name(self.function, "__name__")

    @property
    def __qualname__(self):
        return shown_name(self.function, "__qualname__")

    def __repr__(self):
        return f"<coroutine object {self.__qualname__} at {<size_t><PyObject*>self:#x}>"

    def __dealloc__(self):
        # not __del__, which would cost every call, and is called once only for memory that is used again
        forget_stop()
        if unlikely(self.stage == CREATED) and self.function is not None:
            warn_of_no_await(self.function)


cdef object shown_name(Cached function, str attribute):
    """A method's is that of all instances."""
    return getattr(function if function.parent is None else function.parent, attribute, "cached")


cdef int warn_of_no_await(Cached function) except -1:
    import warnings
    name = shown_name(function, "__qualname__")
    warnings.warn(f"coroutine '{name}' was never awaited", RuntimeWarning, stacklevel=1)
    return 0


# Whoever has made a call EXECUTING has it for himself, but for those who look at its coroutine.
cdef fc_mutex inner_mutex


cdef object inner_of(CachedCall self):
    cdef object inner
    mutex_lock(&inner_mutex)
    inner = self.inner
    mutex_unlock(&inner_mutex)
    return inner


cdef int forget_inner(CachedCall self) except -1:
    cdef object inner           # released last
    mutex_lock(&inner_mutex)
    inner = self.inner
    self.inner = None
    mutex_unlock(&inner_mutex)
    return 0


cdef int refuse(uint32_t stage) except -1:
    if stage == CLOSED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if stage == EXECUTING:
        raise ValueError("coroutine already executing")
    return 0


cdef int go_on(CachedCall self) except -1:
    if not claim(&self.stage, SUSPENDED, EXECUTING):
        refuse(glance(&self.stage))
        raise ValueError("coroutine already executing")     # it was, until a moment ago
    return 0


cdef int close_call(CachedCall self) except -1:
    show(&self.stage, CLOSED)
    if self.inner is not None:
        forget_inner(self)
    self.instance = None
    self.only = None
    self.args = None
    return 0


cdef object copy_given(Cached function, object value):
    incref(<PyObject*>value)
    return owned(copied(function, <PyObject*>value))


cdef object stepped(CachedCall self, object value):
    """send() for those who call it from Python."""
    cdef PyObject *result = NULL
    cdef int r = step(<PyObject*>self, <PyObject*>value, &result)
    if r == NEXT:
        return owned(result)
    if r == RETURN:
        raise StopIteration(owned(result))
    reraise()
    return None


cdef int step(PyObject *call, PyObject *sent, PyObject **result) noexcept:
    """am_send."""
    cdef int r = raw_begin(call, sent, result)
    if r == NEXT:
        # it is a miss: go on where the loader's coroutine is
        r = iter_send(raw_inner_coroutine(call), sent, result)
        if r == NEXT:
            raw_suspended(call)
        else:
            raw_ended(call)
            if r == RETURN:
                result[0] = raw_result(call, result[0])
                if result[0] == NULL:
                    return ERROR
    return r


cdef int begin(CachedCall self, PyObject *sent, PyObject **result) except -1:
    """RETURN with the value of a hit; NEXT: there is a coroutine to go on with."""
    cdef PyObject *value
    cdef Py_ssize_t nkw
    if likely(claim(&self.stage, CREATED, EXECUTING)):
        if unlikely(sent != <PyObject*>None):
            show(&self.stage, CREATED)
            raise TypeError("can't send non-None value to a just-started coroutine")
        if likely(self.args is None):
            value = self.function.inner(<PyObject*>self.function, raw_only(<PyObject*>self), 1, NULL)
        else:
            nkw = 0 if self.names is None else tuple_size(<PyObject*>self.names)
            value = self.function.inner(
                <PyObject*>self.function, tuple_items(<PyObject*>self.args), tuple_size(<PyObject*>self.args) - nkw,
                <PyObject*>self.names if nkw else NULL)
        if unlikely(value == NULL):
            close_call(self)
            reraise()
        if likely(type_of(value) != <PyTypeObject*>Pending):
            close_call(self)
            result[0] = value if self.function.copier is None else copied(self.function, value)
            return RETURN
        self.inner = (<Pending>value).coroutine
        decref(value)
        return NEXT
    go_on(self)
    return NEXT


cdef int ended(CachedCall self) except -1:
    return close_call(self)


cdef PyObject* result_of(CachedCall self, PyObject *value) except NULL:
    return value if self.function.copier is None else copied(self.function, value)


cdef PyObject* call_async(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    return raw_packed(function, args, nargsf, names)


cdef PyObject* packed(CachedFunction function, PyObject **args, size_t nargsf, PyObject *names) except NULL:
    cdef Cached self = <Cached>function
    cdef CachedCall call = CachedCall.__new__(CachedCall)
    cdef Py_ssize_t n = vectorcall_nargs(nargsf)
    if likely(n == 1 and names == NULL):
        call.only = <object>args[0]
    else:
        if names != NULL and tuple_size(names):
            call.names = <tuple>names
            n += tuple_size(names)
        call.args = owned(tuple_from(args, n))
    call.function = self
    if self.parent is not None:
        call.instance = instance_of(self)
    incref(<PyObject*>call)
    return <PyObject*>call


patch_call_type(CachedCall, step)
