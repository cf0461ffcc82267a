# Keys of calls that are not simply all arguments in their order: bound to the signature, without some of
# them, with context variables, or under the name of the function in a cache that several share.

@cython.final
cdef class CallBinder:
    """CallBinder(parameters, *, bind, ignored, vary, prefix, typed): makes the key of a call.

    parameters: (name, kind, whether it has a default, default) for each, kind as in inspect.Parameter. bind: arguments count
    by parameter, defaults filled in. ignored: names of parameters that do not count. vary: ContextVars
    whose values count. prefix: the first item, or None. method: the first parameter is the instance, and
    ignored. Costs O(parameters + arguments)."""
    cdef tuple names            # of parameters that take one argument each, positional ones first
    cdef tuple defaults         # aligned; ABSENT: none
    cdef tuple counted          # aligned: whether it is part of the key
    cdef dict places            # name -> index, of those that keywords may give
    cdef Py_ssize_t npositional
    cdef bint takes_more        # *args
    cdef bint more_counts
    cdef bint takes_names       # **kwargs
    cdef bint names_count
    cdef frozenset ignored
    cdef bint bind
    cdef bint typed
    cdef tuple vary
    cdef object prefix
    cdef bint plain             # see __cinit__
    cdef Py_ssize_t plain_count

    def __cinit__(self, parameters, *, bind, ignored, vary, prefix, typed, method=False):
        self.ignored = frozenset(ignored)
        positional = [p for p in parameters if p[1] in (0, 1)]
        single = positional + [p for p in parameters if p[1] == 3]
        self.npositional = len(positional)
        self.names = tuple([p[0] for p in single])
        self.defaults = tuple([p[3] if p[2] else ABSENT for p in single])
        self.counted = tuple([p[0] not in ignored for p in single])
        self.places = {p[0]: i for i, p in enumerate(single) if p[1] != 0}
        self.takes_more = self.takes_names = False
        self.more_counts = self.names_count = True
        for name, kind, _, _ in parameters:
            if kind == 2:
                self.takes_more = True
                self.more_counts = name not in ignored
            elif kind == 4:
                self.takes_names = True
                self.names_count = name not in ignored
        self.bind = bind
        self.vary = tuple(vary)
        self.prefix = prefix
        self.typed = typed
        # A call with all its arguments in place is its own key, so it need not be bound. The instance of a
        # method, which is ignored, is not among the arguments then.
        self.plain = bind and not vary and prefix is None and not typed and \
            not self.takes_more and not self.takes_names and len(single) == self.npositional and \
            self.ignored <= {p[0] for p in single[:method]}
        self.plain_count = len(single) - (1 if method and single else 0)

    def __call__(self, /, *args, **kwargs):
        """The key, a CallKey."""
        return bound_key(self, args, kwargs)


cdef object bound_key(CallBinder self, tuple args, dict kwargs):
    cdef list items = [], types
    cdef object variable
    types = []
    if self.prefix is not None:
        items.append(self.prefix)
    if not (bind_into(self, args, kwargs, items, types) if self.bind else
            leave_out(self, args, kwargs, items, types)):
        # the function will say what is wrong with these arguments; until then they need some key
        items = [] if self.prefix is None else [self.prefix]
        items += [MARK, *args, MARK, *kwargs.items()]
    for variable in self.vary:
        items.append(variable.get(ABSENT))
    if self.typed:
        items.extend(types)
    if self.plain and len(items) == 1 and type(items[0]) in (int, str):
        return items[0]                     # as of the same call with its arguments in place
    return as_callkey(items)


cdef bint leave_out(CallBinder self, tuple args, dict kwargs, list items, list types) except -1:
    """The arguments as they were given, without those that are ignored."""
    cdef Py_ssize_t i
    cdef object name, value
    cdef bint marked = False
    for i in range(len(args)):
        if (i < self.npositional and not self.counted[i]) or (i >= self.npositional and not self.more_counts):
            continue
        items.append(args[i])
        types.append(type(args[i]))
    for name, value in kwargs.items():
        if name in self.ignored or not (self.names_count or name in self.places):
            continue
        if not marked:
            items.append(MARK)
            marked = True
        items.append(name)
        items.append(value)
        types.append(type(value))
    return True


cdef bint bind_into(CallBinder self, tuple args, dict kwargs, list items, list types) except -1:
    """One item for each parameter, in their order. False: the call does not fit the signature."""
    cdef list values = list(self.defaults)
    cdef list given = [False] * len(values)
    cdef Py_ssize_t i, n = len(args)
    cdef object name, place
    cdef dict more = None
    if n > self.npositional and not self.takes_more:
        return False
    for i in range(min(n, self.npositional)):
        values[i] = args[i]
        given[i] = True
    for name, value in kwargs.items():
        place = self.places.get(name)
        if place is None:
            if not self.takes_names:
                return False
            if more is None:
                more = {}
            more[name] = value
        elif given[place]:
            return False
        else:
            values[place] = value
            given[place] = True
    for i in range(len(values)):
        if values[i] is ABSENT:
            return False
        if self.counted[i]:
            items.append(values[i])
            types.append(type(values[i]))
    if self.takes_more and self.more_counts:
        items.append(args[self.npositional:])
        types.extend([type(value) for value in args[self.npositional:]])
    if more is not None and self.names_count:
        counted = [name for name in sorted(more) if name not in self.ignored]
        if counted:
            items.append(MARK)
            for name in counted:
                items.append(name)
                items.append(more[name])
                types.append(type(more[name]))
    return True


cdef object as_callkey(list items):
    cdef PyObject *key = callkey_new(len(items))
    cdef Py_ssize_t i
    if key == NULL:
        raise MemoryError
    for i in range(len(items)):
        incref(list_item(<PyObject*>items, i))
        tuple_set(key, i, list_item(<PyObject*>items, i))
    return owned(key)
