# `cached` at C level: a CachedFunction whose misses go to a loader, with entries per instance where it is
# a method, and whose calls are awaited where it is async (_core_await.pxi).
#
# A hit goes the same ways as that of CachedFunction (_core_calls.pxi, _core_front.pxi), through as few
# layers as its options need:
#   call_method    finds the instance's own Cached and calls that
#   call_async     packs the arguments; the rest happens when it is awaited
#   call_copied    copies what the layer below returns
#   call_keyed     makes the key by a function; else `call` and `call_shaped` hash arguments in place
# A miss is `load_by_flight` where nothing but storing is asked for, else `loader.missed` (loading/).

from cpython.dict cimport PyDict_SetItem
from cpython.weakref cimport PyWeakref_NewRef

cdef dict EMPTY = {}
cdef fc_mutex children_mutex    # over which Cached is an instance's: two threads may have made one


@cython.final
cdef class Pending:
    """What a miss of an async function gives: the coroutine that will have the value."""
    cdef object coroutine


@cython.final
@cython.no_gc_clear
cdef class Cached(CachedFunction):
    """A function whose results are kept and loaded by the rules given to `cached`, which makes it.

    Hits run no Python frame, and are safe from any thread and event loop."""
    cdef object loader          # missed(), due() and refresh()
    cdef bint simple            # misses need load_by_flight only
    cdef bint asynchronous
    cdef object binder          # makes the key: a CallBinder, the user's `key`, or None
    cdef bint binder_is_ours
    cdef tuple vary             # ContextVars that count beside the user's `key`
    cdef object copier
    cdef object prefix          # of its keys in a cache that it shares with others; None: it has its own
    cdef object ttl             # of what `simple` stores, with its tti and tags
    cdef object tti
    cdef tuple tags
    cdef double patience        # seconds to wait for another's load
    cdef vectorcallfunc inner   # below call_method, call_async and call_copied
    cdef bint per_instance      # it is a method, and has a Cached for each instance
    cdef Cached parent          # of which this is one
    cdef object owner           # a weak reference to the instance, or the instance
    cdef bint owner_is_weak
    cdef str slot               # under which instances hold theirs
    cdef dict beside            # id -> (weak reference, Cached), for instances without a __dict__
    cdef set children           # weak references to all of them
    cdef uint64_t own_hits      # in a cache shared with others
    cdef uint64_t own_misses
    cdef Trust trust            # in a tiered cache: whether its L1 may be
    cdef object home            # where it keeps to one event loop (_core_home.pxi): by what that is known,
    cdef object marker          #   of what type the marks are that stand in for what is being loaded,
    cdef vectorcallfunc below   #   and what call_at_home calls

    def _configure(self, loader, *, simple, asynchronous, binder, vary, copier, prefix, ttl, tti, tags, patience):
        """Called once, by `cached`."""
        self.loader = loader
        self.simple = simple
        self.asynchronous = asynchronous
        self.copier = copier
        self.prefix = prefix
        self.ttl = ttl
        self.tti = tti
        self.tags = tags
        self.patience = INFINITY if patience is None else patience
        self.planned = True
        self.vary = vary
        set_binder(self, binder)

    def _make_method(self, slot, binder):
        """From now on the first argument is the instance, that holds its entries under `slot`."""
        set_binder(self, binder)
        self.per_instance = True
        self.beside = {}
        self.children = set()
        self.slot = _sys.intern(slot)
        hash(self.slot)             # call_method takes it from the str
        self.vectorcall = <vectorcallfunc><void*>call_method

    def _keep_to_loop(self, marker):
        """From now on loader.arrived(self) is called before the next call, and before any call of
        which it is not certain that its event loop is that of the last; it returns that loop. What
        is found in the cache of the type `marker` is no value: its call is awaited as
        loader.joined(it, args, kwargs)."""
        keep_to_loop(self, marker)

    def _belong_to(self, Trust trust not None):
        """Its cache is the L1 of a tiered cache: loader.untrusted() is called where there is no trust, and
        the loader does what concerns other tiers."""
        self.trust = trust

    @property
    def _is_method(self):
        return self.per_instance

    @property
    def _loader(self):
        return self.loader

    # ---- what decorated functions offer ------------------------------------------------------

    def cache_info(self):
        """Hits, misses, maxsize and currsize, as a CacheInfo: of a method, over all instances."""
        if self.marker is not None:
            expire(self.cache, None)
        if self.per_instance:
            infos = [(<Cached>child).cache_info() for child in children_of(self)]
            return CacheInfo(sum([i.hits for i in infos]), sum([i.misses for i in infos]), self.shown_maxsize,
                             sum([i.currsize for i in infos]))
        if self.prefix is not None:
            return CacheInfo(glance_64(&self.own_hits), glance_64(&self.own_misses), self.cache.maxsize,
                             count_under(self.cache, self.prefix))
        return info_of(self.cache)

    def cache_clear(self):
        """Forget all results and counts: of a method, those of all instances; in a shared cache, only
        its own. What is being loaded is not stored."""
        if self.per_instance:
            for child in children_of(self):
                (<Cached>child).cache_clear()
        elif self.trust is not None:
            show_64(&self.own_hits, 0)
            show_64(&self.own_misses, 0)
            return self.loader.clear()
        elif self.prefix is not None:
            forget_under(self.cache, self.prefix)
            show_64(&self.own_hits, 0)
            show_64(&self.own_misses, 0)
        else:
            self.cache.clear()
            counts(self.cache, True)

    def cache_parameters(self):
        """A new dict of the decorator's maxsize and typed."""
        return self.loader.parameters(self) if self.marker is not None else CachedFunction.cache_parameters(self)

    def cache_key(self, /, *args, **kwargs):
        """The key under which this call is kept in `.cache`."""
        if self.per_instance:
            return child_given(self, args).cache_key(*args[1:], **kwargs)
        if self.binder is None:
            return key_of_call(self, args, kwargs)
        if self.parent is not None:
            args = (instance_of(self), *args)
        return checked_key(self, self.binder(*args, **kwargs))

    def cache_contains(self, /, *args, **kwargs):
        """Whether the result of this call is kept. Neither an access nor counted."""
        if self.per_instance:
            return child_given(self, args).cache_contains(*args[1:], **kwargs)
        return self.cache_key(*args, **kwargs) in self.cache

    def cache_invalidate(self, /, *args, **kwargs):
        """Forget the result of this call; True if there was one. What is being loaded for it goes to
        those who wait already, and is not stored."""
        if self.per_instance:
            return child_given(self, args).cache_invalidate(*args[1:], **kwargs)
        if self.trust is not None:
            return self.loader.invalidate(self.cache_key(*args, **kwargs))
        return self.cache.delete(self.cache_key(*args, **kwargs))

    def cache_refresh(self, /, *args, **kwargs):
        """Load the result of this call anew, now, and return it (of an async function: to be
        awaited)."""
        if self.per_instance:
            return child_given(self, args).cache_refresh(*args[1:], **kwargs)
        key = self.cache_key(*args, **kwargs)
        if self.parent is not None:
            args = (instance_of(self), *args)
        return self.loader.refresh(self, key, args, kwargs)

    def __get__(self, instance, owner):
        if instance is None:
            return self
        return BoundCached.__new__(BoundCached, self, instance)

    def __reduce__(self):
        if self.parent is not None:
            return type(None), ()       # the entries of an instance are not part of its copies
        return self.__qualname__

    def __deepcopy__(self, memo):
        return self if self.parent is None else None

    def __set_name__(self, owner, name):
        self.loader.named(self, owner, name)


# A cached method of an instance. Its `cache_*` calls take the arguments of the call, without the
# instance. No docstring: it has the function's.

@cython.final
cdef class BoundCached:
    cdef Cached function
    cdef object instance
    cdef object method
    cdef vectorcallfunc vectorcall
    cdef object __weakref__

    def __cinit__(self, Cached function not None, instance):
        self.function = function
        self.instance = instance
        self.method = PyMethod_New(function, instance)
        self.vectorcall = <vectorcallfunc><void*>call_bound

    @property
    def __self__(self):
        return self.instance

    @property
    def __func__(self):
        return self.function

    @property
    def __doc__(self):
        return self.function.__doc__

    @property
    def __signature__(self):
        import inspect
        return inspect.signature(PyMethod_New(self.function.function, self.instance))

    @property
    def cache(self):
        """The Cache that holds this instance's results."""
        return (child_of(self.function, self.instance) if self.function.per_instance else self.function).cache

    def cache_info(self):
        """Hits, misses, maxsize and currsize of this instance's cache, as a CacheInfo."""
        return (child_of(self.function, self.instance) if self.function.per_instance else self.function).cache_info()

    def cache_clear(self):
        """Forget all results and counts of this instance (in a shared cache: of this function)."""
        (child_of(self.function, self.instance) if self.function.per_instance else self.function).cache_clear()

    def cache_parameters(self):
        """A new dict of the decorator's maxsize and typed."""
        return self.function.cache_parameters()

    def cache_key(self, /, *args, **kwargs):
        """The key under which this call is kept in `.cache`."""
        return self.function.cache_key(self.instance, *args, **kwargs)

    def cache_contains(self, /, *args, **kwargs):
        """Whether the result of this call is kept. Neither an access nor counted."""
        return self.function.cache_contains(self.instance, *args, **kwargs)

    def cache_invalidate(self, /, *args, **kwargs):
        """Forget the result of this call; True if there was one."""
        return self.function.cache_invalidate(self.instance, *args, **kwargs)

    def cache_refresh(self, /, *args, **kwargs):
        """Load the result of this call anew, now, and return it."""
        return self.function.cache_refresh(self.instance, *args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __call__(self, /, *args, **kwargs):
        return vectorcall_of_tuple(self, args, kwargs)

    def __eq__(self, other):
        if type(other) is not BoundCached:
            return NotImplemented
        return self.instance is (<BoundCached>other).instance and self.function is (<BoundCached>other).function

    def __hash__(self):
        return hash((id(self.instance), id(self.function)))

    def __reduce__(self):
        return getattr, (self.instance, self.function.__name__)

    def __repr__(self):
        return f"<bound {self.function!r} of {self.instance!r}>"


# ---- the layers of a call --------------------------------------------------------------------

cdef int set_binder(Cached self, object binder) except -1:
    self.binder = binder
    self.binder_is_ours = type(binder) is CallBinder
    if self.binder_is_ours and (<CallBinder>binder).plain:
        self.inner = <vectorcallfunc><void*>call_bindable
    elif binder is not None:
        self.inner = <vectorcallfunc><void*>call_keyed
    else:
        self.inner = <vectorcallfunc><void*>(call_shaped if self.typed else call)
    set_entry(self)
    return 0


cdef int set_entry(Cached self) except -1:
    if self.asynchronous:
        self.vectorcall = <vectorcallfunc><void*>call_async
    elif self.copier is not None:
        self.vectorcall = <vectorcallfunc><void*>call_copied
    else:
        self.vectorcall = self.inner
    return 0


cdef PyObject* call_bound(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    return vectorcall(raw_method(function), args, nargsf, names)


cdef PyObject* call_method(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    cdef PyObject *child
    cdef PyObject *value
    if unlikely(vectorcall_nargs(nargsf) == 0):
        return vectorcall(raw_function(function), args, nargsf, names)    # which says what is missing
    child = instance_item(args[0], raw_slot(function))
    if likely(child != NULL) and likely(type_of(child) == <PyTypeObject*>Cached) and \
            likely(raw_is_of(child, function, args[0])):
        keep(child)
    else:
        leave_it(child)
        child = raw_child_of(function, args[0])
        if unlikely(child == NULL):
            return NULL
    value = raw_vectorcall_of(child)(child, args + 1, vectorcall_nargs(nargsf) - 1, names)
    decref(child)
    return value


cdef PyObject* call_copied(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    cdef PyObject *value = raw_inner(function)(function, args, nargsf, names)
    return raw_copied(function, value) if value != NULL else NULL


cdef PyObject* call_keyed(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    return raw_keyed(function, args, nargsf, names)


cdef PyObject* call_bindable(PyObject *function, PyObject **args, size_t nargsf, PyObject *names) noexcept:
    """call_keyed, for keys that are those of calls with all arguments in place."""
    if likely(names == NULL) and vectorcall_nargs(nargsf) == raw_plain_count(function):
        return call(function, args, nargsf, NULL)
    return raw_keyed(function, args, nargsf, names)


cdef PyObject* copied(CachedFunction function, PyObject *value) except NULL:
    """A copy of value, whose reference is taken over."""
    cdef object given = owned(value)
    if type(given) not in (str, int, bytes, float, bool, type(None)):
        given = (<Cached>function).copier(given)
    incref(<PyObject*>given)
    return <PyObject*>given


cdef PyObject* keyed(CachedFunction function, PyObject **args, size_t nargsf, PyObject *names) except NULL:
    cdef Cached self = <Cached>function
    cdef tuple given = arguments(self, args, vectorcall_nargs(nargsf))
    cdef dict named = keywords(args + vectorcall_nargs(nargsf), names)
    cdef object key
    cdef uint64_t hash
    cdef PyObject *value
    cdef int r
    if self.binder_is_ours:
        key = bound_key(<CallBinder>self.binder, given, named if named is not None else EMPTY)
    else:
        key = checked_key(self, self.binder(*given) if named is None else self.binder(*given, **named))
    mix_quickly(<PyObject*>key, &hash)
    if self.trust is not None and unlikely(not trusted(self.trust)):
        given_value = untrusted(self, key, given, named)
        incref(<PyObject*>given_value)
        return <PyObject*>given_value
    r = look_quickly(self.cache, <PyObject*>key, hash, &value)
    if r == UNSURE:
        r = look(self.cache, <PyObject*>key, hash, &value)
    if r:
        add_64(&self.own_hits, 1)
        if r == 2:
            found = owned(value)
            self.loader.due(self, key, given, named or {})
            incref(<PyObject*>found)
        return value
    add_64(&self.own_misses, 1)
    given_value = loaded(self, key, hash, given, named)
    incref(<PyObject*>given_value)
    return <PyObject*>given_value


cdef PyObject* call_planned(CachedFunction function, const Call *c, PyObject **args, size_t nargsf,
                            PyObject *names, PyObject *key, uint64_t hash) except NULL:
    """A miss, of a function that has a loader."""
    cdef Cached self = <Cached>function
    cdef object k = call_key(c) if c != NULL else <object>key
    cdef object value = loaded(self, k, hash, arguments(self, args, vectorcall_nargs(nargsf)),
                               keywords(args + vectorcall_nargs(nargsf), names))
    incref(<PyObject*>value)
    return <PyObject*>value


cdef PyObject* call_due(CachedFunction function, const Call *c, PyObject **args, size_t nargsf,
                        PyObject *names, PyObject *key, PyObject *value) except NULL:
    """A hit, with `value`, of which the loader wants to know. Takes over the reference."""
    cdef Cached self = <Cached>function
    cdef object k, given = owned(value)
    cdef dict named
    if function.planned:
        k = call_key(c) if c != NULL else <object>key
        named = keywords(args + vectorcall_nargs(nargsf), names)
        self.loader.due(self, k, arguments(self, args, vectorcall_nargs(nargsf)), named or {})
    incref(<PyObject*>given)
    return <PyObject*>given


cdef object loaded(Cached self, object key, uint64_t hash, tuple args, dict kwargs):
    cdef Pending pending
    if self.simple:
        return load_by_flight(self.cache, key, hash, self.function, args, kwargs, self.ttl, self.tti, UNSET, self.tags,
                              self.patience)
    value = self.loader.missed(self, key, args, kwargs if kwargs is not None else {})
    if self.asynchronous:
        pending = Pending.__new__(Pending)
        pending.coroutine = value
        return pending
    return value


cdef object untrusted(Cached self, object key, tuple args, dict kwargs):
    """What its loader makes of a call that L1 may not answer by itself."""
    cdef Pending pending
    value = self.loader.untrusted(self, key, args, kwargs if kwargs is not None else {})
    if self.asynchronous:
        pending = Pending.__new__(Pending)
        pending.coroutine = value
        return pending
    return value


cdef tuple arguments(Cached self, PyObject **args, Py_ssize_t n):
    """As a tuple, with the instance in front where it is a method."""
    if self.parent is not None:
        return (instance_of(self),) + <tuple>owned(tuple_from(args, n))
    return <tuple>owned(tuple_from(args, n))


cdef dict keywords(PyObject **values, PyObject *names):
    """As a dict; None: there are none."""
    cdef Py_ssize_t i
    cdef dict given
    if names == NULL or tuple_size(names) == 0:
        return None
    given = {}
    for i in range(tuple_size(names)):
        given[<object>tuple_item(names, i)] = <object>values[i]
    return given


cdef object name_of(Cached self):
    name = getattr(self, "__qualname__", None)
    return repr(self.function) if name is None else name


cdef object checked_key(Cached self, object key):
    if not self.binder_is_ours:
        try:
            hash(key)
        except TypeError:
            raise TypeError(f"{name_of(self)}: key must return something hashable, and this is unhashable: {key!r}") from None
        if self.prefix is not None or self.vary:
            parts = [key] if self.prefix is None else [self.prefix, key]
            for variable in self.vary:
                parts.append(variable.get(ABSENT))
            key = as_callkey(parts)
    return key


# ---- methods ---------------------------------------------------------------------------------

cdef Cached child_of(Cached self, object instance):
    """The Cached of an instance, made if it has none. One that came along when the instance was copied
    is another's."""
    cdef object attributes = None
    cdef Cached child
    if type_has_dict(<PyObject*>instance):
        attributes = PyObject_GenericGetDict(<PyObject*>instance, NULL)
        child = held_by(self, attributes, instance)
    else:
        child = beside_of(self, instance)
    if child is not None:
        return child
    child = make_child(self, instance)
    return put_beside(self, instance, child) if attributes is None else put_into(self, attributes, instance, child)


cdef object in_slot(Cached self, object attributes):
    """What an instance's __dict__ has for this method, whosever it is; or None."""
    cdef PyObject *held = dict_held(<PyObject*>attributes, <PyObject*>self.slot)
    return None if held == NULL else owned(held)


cdef Cached held_by(Cached self, object attributes, object instance):
    """The instance's Cached, if its __dict__ has it, or None."""
    cdef object held = in_slot(self, attributes)
    return <Cached>held if type(held) is Cached and is_of(<Cached>held, self, instance) else None


cdef Cached put_into(Cached self, object attributes, object instance, Cached child):
    cdef object old = None      # released last
    cdef Cached other
    mutex_lock(&children_mutex)
    try:
        other = held_by(self, attributes, instance)     # making one may have run user code, and other threads
        if other is None:
            old = in_slot(self, attributes)
            PyDict_SetItem(attributes, self.slot, child)
            other = child
    finally:
        mutex_unlock(&children_mutex)
    return other


cdef Cached make_child(Cached self, object instance):
    cdef Cached child = Cached(self.function, empty_like(self.cache), self.typed, self.shown_maxsize)
    child.loader = self.loader
    child.simple = self.simple
    child.asynchronous = self.asynchronous
    child.copier = self.copier
    child.ttl = self.ttl
    child.tti = self.tti
    child.tags = self.tags
    child.vary = self.vary
    child.patience = self.patience
    child.planned = True
    child.parent = self
    child.slot = self.slot
    child.binder = self.binder
    child.binder_is_ours = self.binder_is_ours
    child.inner = self.inner
    set_entry(child)
    try:
        child.owner = PyWeakref_NewRef(instance, None)
        child.owner_is_weak = True
    except TypeError:
        child.owner = instance      # a cycle, for the collector
    self.children.add(PyWeakref_NewRef(child, self.children.discard))
    return child


cdef Cached beside_of(Cached self, object instance):
    cdef object entry = self.beside.get(id(instance))
    return <Cached>entry[1] if entry is not None and entry[0]() is instance else None


cdef Cached put_beside(Cached self, object instance, Cached child):
    cdef object number = id(instance)
    cdef dict beside = self.beside
    cdef Cached other
    cdef object entry, old = None   # released last
    if not child.owner_is_weak:
        raise TypeError(f"{name_of(self)}: {type(instance).__name__} objects have neither a __dict__ nor weak "
                        "references, so they cannot hold cached results")

    def forget(reference):
        forget_beside(beside, number, reference)

    entry = (PyWeakref_NewRef(instance, forget), child)
    mutex_lock(&children_mutex)
    try:
        other = beside_of(self, instance)       # making one may have run other threads
        if other is None:
            old = beside.get(number)            # of an object that had the same id
            beside[number] = entry
            other = child
    finally:
        mutex_unlock(&children_mutex)
    return other


cdef int forget_beside(dict beside, object number, object reference) except -1:
    cdef object entry = None        # released last
    mutex_lock(&children_mutex)
    try:
        entry = beside.get(number)
        if entry is not None and entry[0] is reference:
            del beside[number]
    finally:
        mutex_unlock(&children_mutex)
    return 0


cdef bint is_of(CachedFunction child, CachedFunction parent, object instance) noexcept:
    cdef Cached self = <Cached>child
    if self.parent is not parent:
        return False
    if not self.owner_is_weak:
        return self.owner is instance
    return weak_target(<PyObject*>self.owner) == <PyObject*>instance


cdef object instance_of(Cached child):
    cdef object instance = child.owner() if child.owner_is_weak else child.owner
    if instance is None:
        raise ReferenceError(f"{name_of(child.parent)}: its instance is gone")
    return instance


cdef Cached child_given(Cached self, tuple args):
    if not args:
        raise TypeError(f"{name_of(self)} is a method: give it an instance first")
    return child_of(self, args[0])


cdef list children_of(Cached self):
    # a list first, in one step: others may be made meanwhile, which a WeakSet does not bear
    return [child for reference in list(self.children) if (child := reference()) is not None]


# ---- caches that several functions share -----------------------------------------------------

def empty_like(Cache cache not None, /):
    """A new Cache with the same options."""
    return _restore(Cache, config_of(cache))


def forget_under(Cache cache not None, prefix, /):
    """Remove what a function with that prefix has in a cache that it shares, what only its loader sees
    included. O(n)."""
    for key in keys_under(cache, prefix):
        cache.delete(key)
    fence_under(cache, prefix)


def count_under(Cache cache not None, prefix, /):
    """How many entries a function with that prefix has in a cache that it shares. O(n)."""
    return len(keys_under(cache, prefix))


cdef list keys_under(Cache cache, object prefix):
    cdef list keys = []
    cdef uint32_t e = NIL
    cdef object key
    # no object may be made under the lock, so the entries are taken one by one
    while True:
        lock(cache)
        e = slab_walk(&cache.slab, e + 1)
        if e == NIL:
            unlock(cache)
            return keys
        key = <object>slab_entry(&cache.slab, e).key
        unlock(cache)
        if is_under(key, prefix):
            keys.append(key)


cdef bint is_under(object key, object prefix) except -1:
    return type(key) is CallKey and len(key) > 0 and type(key[0]) is type(prefix) and key[0] == prefix


cdef int fence_under(Cache cache, object prefix) except -1:
    for flight in all_flights(cache):
        if is_under((<Flight>flight).key, prefix):
            lock(cache)
            (<Flight>flight).was_fenced = True
            unregister(cache, <Flight>flight)
            unlock(cache)
    return 0


patch_function_type(Cached, offset_of_vectorcall)
patch_bound_type(BoundCached, offset_of_bound_vectorcall)
