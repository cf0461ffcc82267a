# Errors that are raised more than once: each time a copy, since whoever raises one writes its traceback.
#
# Without the GIL those who raise one exception at the same time, in several threads, would write that at
# the same time, and CPython crashes. So there the thread that leads makes a copy that nobody raises, and
# each follower raises a copy of that. Nor may they look into frames that still run in the leader's thread: what
# they get begins with the first frame that has ended, and its causes come without tracebacks. User code runs
# where a class says itself how it is copied.

from types import MemberDescriptorType as _MemberDescriptorType, MethodDescriptorType as _MethodDescriptorType

cdef object _put_attribute = object.__setattr__     # past whatever __setattr__ a class has: some forbid to set anything


def copy_of_error(error, /):
    """An equal exception without traceback, cause or context, or None where there can be no such. So are
    those in a group."""
    cdef object kind = type(error), twin
    try:
        # a class that says itself how it is copied is asked
        own = (kind.__reduce__, kind.__reduce_ex__, getattr(kind, "__copy__", None))
        if {type(method) for method in own} <= {_MethodDescriptorType, type(None)}:
            twin = error_put_together(error)
        else:
            import copy
            twin = copy.copy(error)
        notes = getattr(error, "__notes__", None)
    except Exception:           # whatever a foreign __new__ or __reduce__ raises
        return None
    if type(twin) is not kind or twin is error:
        return None
    if type(notes) is list:
        _put_attribute(twin, "__notes__", list(notes))      # who handles one may add to it
    for attribute in ("__traceback__", "__cause__", "__context__"):
        _put_attribute(twin, attribute, None)
    _put_attribute(twin, "__suppress_context__", False)
    return twin


cdef object error_put_together(object error):
    """A copy without the class's own __init__, which may want other arguments than the exception keeps
    (`super().__init__(f"no user {number}")`), and do whatever it likes with them."""
    cdef object kind = type(error), given = error.args, builtin, twin
    cdef object reduced = error.__reduce__()
    cdef object args = reduced[1], state = reduced[2] if len(reduced) > 2 else None
    if isinstance(error, BaseExceptionGroup):
        given = args = (error.message, [copied_or_same(inner) for inner in error.exceptions])
    builtin = [base for base in kind.__mro__ if base.__module__ == "builtins"][0]
    twin = kind.__new__(kind, *args)
    builtin.__init__(twin, *args)
    _put_attribute(twin, "args", given)
    for base in kind.__mro__[:kind.__mro__.index(builtin)]:
        for name, member in vars(base).items():
            if type(member) is _MemberDescriptorType and hasattr(error, name):      # __slots__
                member.__set__(twin, member.__get__(error))
    for name, value in (state or {}).items():
        _put_attribute(twin, name, value)
    return twin


cdef object copied_or_same(object error):
    cdef object twin = copy_of_error(error)
    return error if twin is None else twin


cdef object copy_with_causes(object error):
    """copy_of_error, with copies of what it was raised from."""
    cdef object twin = copy_of_error(error), last = twin, cause
    for _ in range(16):         # there may be circles
        error = error.__cause__
        cause = None if error is None or last is None else copy_of_error(error)
        if cause is None:
            break
        _put_attribute(last, "__cause__", cause)
        _put_attribute(last, "__suppress_context__", True)
        last = cause
    return twin


cdef object ended_part(object trace):
    """A traceback from the first frame on that this thread has left."""
    cdef object frame = _sys._getframe()
    cdef set running = set()
    while frame is not None:
        running.add(frame)
        frame = frame.f_back
    while trace is not None and trace.tb_frame in running:
        trace = trace.tb_next
    return trace


cdef int set_error(Flight self, object error) except -1:
    """By the leader, before the flight's state is shown."""
    self.error = error
    self.trace = error.__traceback__
    if FREE_THREADED:
        self.trace = ended_part(self.trace)
        self.twin = copy_with_causes(error)
    return 0


cdef object error_to_raise(Flight self):
    """The error that the load ended in, for one of those who raise it."""
    cdef object own = None
    if FREE_THREADED and self.twin is not None and leader_of(self) != thread_ident():
        own = copy_with_causes(self.twin)
    # each waiter's traceback begins where the load ended, not where another's did
    return (self.error if own is None else own).with_traceback(self.trace)
