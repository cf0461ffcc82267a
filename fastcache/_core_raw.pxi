# Functions of this module as the compiler is to see them: which are in line, and which are called with
# borrowed pointers, without Cython's counting of references.

cdef extern from *:
    """
    /* Which functions are one stretch of C in their callers, and which must stay out of it: what
     * GCC decides by size alone costs a hit a quarter of its instructions. The names are those
     * that Cython gives; a declaration that matches none is an error, so none goes stale. */
    struct __pyx_obj_9fastcache_5_core_Cache;
    struct __pyx_obj_9fastcache_5_core_CachedFunction;
    struct __pyx_t_9fastcache_5_core_Options;
    struct __pyx_t_9fastcache_5_core_Call;
    struct __pyx_t_9fastcache_7_struct_5order_Order;
    struct __pyx_t_9fastcache_7_struct_4slab_Slab;
    struct __pyx_t_9fastcache_7_struct_5table_Table;
    #define FC_CORE(name) __pyx_f_9fastcache_5_core_##name
    #define FC_CACHE struct __pyx_obj_9fastcache_5_core_Cache *
    #define FC_FUNCTION struct __pyx_obj_9fastcache_5_core_CachedFunction *
    #define FC_CALL struct __pyx_t_9fastcache_5_core_Call const *
    static FC_ALWAYS_INLINE int FC_CORE(mix_quickly)(PyObject *, uint64_t *);
    static FC_ALWAYS_INLINE int FC_CORE(probe)(FC_CACHE, PyObject *, uint64_t, uint32_t *);
    static FC_ALWAYS_INLINE int FC_CORE(probe_args)(FC_CACHE, PyObject **, Py_ssize_t, uint64_t, uint32_t *);
    static FC_ALWAYS_INLINE int FC_CORE(past)(FC_CACHE, int64_t, int64_t);
    static FC_ALWAYS_INLINE int FC_CORE(lapsed)(FC_CACHE, uint32_t, int64_t);
    static FC_ALWAYS_INLINE int FC_CORE(take_hit)(FC_CACHE, uint32_t, int64_t, PyObject **);
    static FC_ALWAYS_INLINE int FC_CORE(look_quickly)(FC_CACHE, PyObject *, uint64_t, PyObject **);
    static FC_ALWAYS_INLINE int FC_CORE(put_quickly)(FC_CACHE, PyObject *, uint64_t, PyObject *, int, uint64_t const *);
    static FC_ALWAYS_INLINE void __pyx_f_9fastcache_7_struct_5order_order_to_head(
        struct __pyx_t_9fastcache_7_struct_5order_Order *, struct __pyx_t_9fastcache_7_struct_4slab_Slab const *, uint32_t);
    static FC_ALWAYS_INLINE int __pyx_f_9fastcache_7_struct_5table_table_erase_cell(
        struct __pyx_t_9fastcache_7_struct_5table_Table *, uint32_t, uint32_t);
    static FC_NOINLINE void FC_CORE(shrink_index)(FC_CACHE, uint32_t);
    static FC_ALWAYS_INLINE void FC_CORE(promote)(FC_CACHE, uint32_t);
    static FC_ALWAYS_INLINE void FC_CORE(count_miss)(FC_CACHE);
    static FC_NOINLINE void FC_CORE(promote_apart)(FC_CACHE, uint32_t);
    static FC_ALWAYS_INLINE int FC_CORE(mix_at_once)(PyObject *, uint64_t *);
    static FC_ALWAYS_INLINE int FC_CORE(hit_at_once)(FC_CACHE, PyObject *, uint64_t, PyObject **);
    static FC_ALWAYS_INLINE int FC_CORE(args_at_once)(
        FC_CACHE, PyObject **, Py_ssize_t, PyObject *, Py_ssize_t, int, uint64_t *, PyObject **);
    static FC_ALWAYS_INLINE Py_ssize_t FC_CORE(take_ahead)(
        FC_CACHE, Py_ssize_t, int, PyObject **, int64_t const *, PyObject **, PyObject *);
    static FC_ALWAYS_INLINE int FC_CORE(mix_number)(int64_t, uint64_t *);
    static FC_ALWAYS_INLINE int FC_CORE(is_number_of)(PyObject *, int64_t);
    static FC_ALWAYS_INLINE int FC_CORE(held_at_once)(FC_CACHE, PyObject *, uint64_t, PyObject **, int);
    static FC_ALWAYS_INLINE int FC_CORE(all_alive)(FC_CACHE);
    static FC_ALWAYS_INLINE int FC_CORE(put_at_once)(FC_CACHE, PyObject *, uint64_t, PyObject *);
    static FC_NOINLINE PyObject *FC_CORE(call_of_args_further)(FC_FUNCTION, PyObject **, size_t, uint64_t, int);
    static FC_NOINLINE PyObject *FC_CORE(call_of_one)(PyObject *, PyObject **, size_t);
    static FC_NOINLINE PyObject *FC_CORE(call_of_two)(PyObject *, PyObject **, size_t);
    static FC_NOINLINE PyObject *FC_CORE(call_of_own_missed)(PyObject *, PyObject **, size_t, uint64_t);
    static FC_NOINLINE PyObject *FC_CORE(call_of_shape_missed)(FC_FUNCTION, PyObject **, size_t, PyObject *, uint64_t);
    static FC_NOINLINE PyObject *FC_CORE(call_of_names)(PyObject *, PyObject **, size_t, PyObject *);
    static FC_NOINLINE PyObject *FC_CORE(call_of_own_key)(FC_FUNCTION, PyObject **, size_t, uint64_t);
    static FC_NOINLINE PyObject *FC_CORE(front_get_tuple)(PyObject *, PyObject **, Py_ssize_t);
    static FC_NOINLINE PyObject *FC_CORE(front_get_slower)(PyObject *, PyObject **, Py_ssize_t, uint64_t);
    static FC_NOINLINE PyObject *FC_CORE(front_get_slowest)(PyObject *, PyObject **, Py_ssize_t, uint64_t);
    #define raw_front_get_slowest(self, args, nargs, hash) FC_CORE(front_get_slowest)(self, args, nargs, hash)
    static FC_NOINLINE void FC_CORE(promote_further)(FC_CACHE, uint32_t);
    static FC_NOINLINE int FC_CORE(mix_key)(PyObject *, uint64_t *);
    static FC_NOINLINE int FC_CORE(look)(FC_CACHE, PyObject *, uint64_t, PyObject **);
    static FC_NOINLINE PyObject *FC_CORE(call_of_shape)(FC_FUNCTION, PyObject **, size_t, PyObject *);
    static FC_NOINLINE PyObject *FC_CORE(call_of_args)(FC_FUNCTION, FC_CACHE, PyObject **, size_t);
    static FC_NOINLINE PyObject *FC_CORE(call_through)(FC_FUNCTION, FC_CALL, PyObject **, size_t, PyObject *, PyObject *, uint64_t);
    static int FC_CORE(look_call)(FC_CACHE, FC_CALL, uint64_t, PyObject **);
    static int FC_CORE(call_hash)(FC_CALL, uint64_t *);
    static int FC_CORE(put_loaded)(FC_CACHE, PyObject *, uint64_t, PyObject *, uint64_t, int);

    /* The same functions, called with borrowed pointers, and answering -1 with the exception set:
     * so a decorated call counts no references, and leaves no line of ours in a traceback. */
    #define raw_mix_quickly(key, hash) FC_CORE(mix_quickly)(key, hash)
    #define raw_look_quickly(cache, key, hash, value) FC_CORE(look_quickly)((FC_CACHE)(cache), key, hash, value)
    #define raw_look(cache, key, hash, value) FC_CORE(look)((FC_CACHE)(cache), key, hash, value)
    #define raw_look_call(cache, call, hash, value) FC_CORE(look_call)((FC_CACHE)(cache), call, hash, value)
    #define raw_call_hash(call, hash) FC_CORE(call_hash)(call, hash)
    #define raw_put_loaded(cache, key, hash, value, since, mode) \\
        FC_CORE(put_loaded)((FC_CACHE)(cache), key, hash, value, since, mode)
    #define raw_call_of_shape(function, args, nargsf, names) \\
        FC_CORE(call_of_shape)((FC_FUNCTION)(function), args, nargsf, names)
    #define raw_call_of_own_key(function, args, nargsf, hash) \\
        FC_CORE(call_of_own_key)((FC_FUNCTION)(function), args, nargsf, hash)
    #define raw_call_through(function, call, args, nargsf, names, key, hash) \\
        FC_CORE(call_through)((FC_FUNCTION)(function), call, args, nargsf, names, key, hash)
    #define raw_hit_at_once(cache, key, hash, value) \\
        FC_CORE(hit_at_once)((FC_CACHE)(cache), key, hash, value)
    #define raw_held_at_once(cache, key, hash, value) \\
        FC_CORE(held_at_once)((FC_CACHE)(cache), key, hash, value, 0)
    #define raw_put_at_once(cache, key, hash, value) \\
        FC_CORE(put_at_once)((FC_CACHE)(cache), key, hash, value)
    #define raw_args_at_once(cache, args, n, names, nkw, typed, hash, value) \\
        FC_CORE(args_at_once)((FC_CACHE)(cache), args, n, names, nkw, typed, hash, value)
    #define raw_call_of_one(function, args, nargsf) FC_CORE(call_of_one)(function, args, nargsf)
    #define raw_call_of_two(function, args, nargsf) FC_CORE(call_of_two)(function, args, nargsf)
    #define raw_call_of_names(function, args, nargsf, names) FC_CORE(call_of_names)(function, args, nargsf, names)
    #define raw_call_of_args_further(function, args, nargsf, hash, r) \\
        FC_CORE(call_of_args_further)((FC_FUNCTION)(function), args, nargsf, hash, r)
    #define raw_call_of_own_missed(function, args, nargsf, hash) \\
        FC_CORE(call_of_own_missed)(function, args, nargsf, hash)
    #define raw_call_of_shape_missed(function, args, nargsf, names, hash) \\
        FC_CORE(call_of_shape_missed)((FC_FUNCTION)(function), args, nargsf, names, hash)
    #define raw_typed(function) (((FC_FUNCTION)(function))->typed)
    #define raw_count_miss(cache) FC_CORE(count_miss)((FC_CACHE)(cache))
    #define raw_store(function) (((FC_FUNCTION)(function))->store)
    #define raw_call_of_args(function, cache, args, nargsf) \\
        FC_CORE(call_of_args)((FC_FUNCTION)(function), (FC_CACHE)(cache), args, nargsf)
    struct __pyx_obj_9fastcache_5_core_Cached;
    struct __pyx_obj_9fastcache_5_core_CachedCall;
    #define FC_CACHED struct __pyx_obj_9fastcache_5_core_Cached *
    #define FC_CACHED_CALL struct __pyx_obj_9fastcache_5_core_CachedCall *
    #define raw_call_planned(function, call, args, nargsf, names, key, hash) \\
        FC_CORE(call_planned)((FC_FUNCTION)(function), call, args, nargsf, names, key, hash)
    #define raw_call_due(function, call, args, nargsf, names, key, value) \\
        FC_CORE(call_due)((FC_FUNCTION)(function), call, args, nargsf, names, key, value)
    static PyObject *FC_CORE(call_planned)(FC_FUNCTION, FC_CALL, PyObject **, size_t, PyObject *, PyObject *, uint64_t);
    static PyObject *FC_CORE(call_due)(FC_FUNCTION, FC_CALL, PyObject **, size_t, PyObject *, PyObject *, PyObject *);
    static FC_CACHED FC_CORE(child_of)(FC_CACHED, PyObject *);
    static int FC_CORE(is_of)(FC_FUNCTION, FC_FUNCTION, PyObject *);
    static PyObject *FC_CORE(copied)(FC_FUNCTION, PyObject *);
    static PyObject *FC_CORE(keyed)(FC_FUNCTION, PyObject **, size_t, PyObject *);
    static PyObject *FC_CORE(packed)(FC_FUNCTION, PyObject **, size_t, PyObject *);
    static int FC_CORE(begin)(FC_CACHED_CALL, PyObject *, PyObject **);
    static int FC_CORE(ended)(FC_CACHED_CALL);
    static PyObject *FC_CORE(result_of)(FC_CACHED_CALL, PyObject *);
    #define raw_method(bound) (((struct __pyx_obj_9fastcache_5_core_BoundCached *)(bound))->method)
    #define raw_function(f) (((FC_FUNCTION)(f))->function)
    #define raw_vectorcall_of(f) (((FC_FUNCTION)(f))->vectorcall)
    #define raw_inner(f) (((FC_CACHED)(f))->inner)
    #define raw_child_of(function, instance) ((PyObject *)FC_CORE(child_of)((FC_CACHED)(function), instance))
    #define raw_is_of(child, parent, instance) \\
        FC_CORE(is_of)((FC_FUNCTION)(child), (FC_FUNCTION)(parent), instance)
    #define raw_slot(f) (((FC_CACHED)(f))->slot)
    #define raw_plain_count(f) (((struct __pyx_obj_9fastcache_5_core_CallBinder *)((FC_CACHED)(f))->binder)->plain_count)
    #define raw_copied(function, value) FC_CORE(copied)((FC_FUNCTION)(function), value)
    #define raw_keyed(function, args, nargsf, names) FC_CORE(keyed)((FC_FUNCTION)(function), args, nargsf, names)
    #define raw_packed(function, args, nargsf, names) FC_CORE(packed)((FC_FUNCTION)(function), args, nargsf, names)
    #define raw_begin(call, sent, result) FC_CORE(begin)((FC_CACHED_CALL)(call), sent, result)
    #define raw_ended(call) FC_CORE(ended)((FC_CACHED_CALL)(call))
    #define raw_suspended(call) fc_show(&((FC_CACHED_CALL)(call))->stage, 2)
    #define raw_result(call, value) FC_CORE(result_of)((FC_CACHED_CALL)(call), value)
    #define raw_inner_coroutine(call) (((FC_CACHED_CALL)(call))->inner)
    #define raw_only(call) (&((FC_CACHED_CALL)(call))->only)
    static int FC_CORE(arrive)(FC_CACHED);
    static PyObject *FC_CORE(join_load)(FC_CACHED, PyObject **, size_t, PyObject *, PyObject *);
    #define raw_home(f) fc_look(&((FC_CACHED)(f))->home)
    #define raw_set_home(f, o) fc_put(&((FC_CACHED)(f))->home, o)
    #define raw_marker(f) (((FC_CACHED)(f))->marker)
    #define raw_below(f) (((FC_CACHED)(f))->below)
    #define raw_arrive(f) FC_CORE(arrive)((FC_CACHED)(f))
    #define raw_join_load(f, args, nargsf, names, mark) FC_CORE(join_load)((FC_CACHED)(f), args, nargsf, names, mark)
    #define FC_BOUND_VECTORCALL_OFFSET offsetof(struct __pyx_obj_9fastcache_5_core_BoundCached, vectorcall)
    """
    int raw_mix_quickly(PyObject*, uint64_t*) noexcept
    int raw_look_quickly(PyObject*, PyObject*, uint64_t, PyObject**) noexcept
    int raw_look(PyObject*, PyObject*, uint64_t, PyObject**) noexcept
    int raw_look_call(PyObject*, const void*, uint64_t, PyObject**) noexcept
    int raw_call_hash(const void*, uint64_t*) noexcept
    int raw_put_loaded(PyObject*, PyObject*, uint64_t, PyObject*, uint64_t, int) noexcept
    PyObject* raw_call_of_shape(PyObject*, PyObject**, size_t, PyObject*) noexcept
    PyObject* raw_call_of_own_key(PyObject*, PyObject**, size_t, uint64_t) noexcept
    PyObject* raw_call_through(PyObject*, const void*, PyObject**, size_t, PyObject*, PyObject*, uint64_t) noexcept
    int raw_hit_at_once(PyObject*, PyObject*, uint64_t, PyObject**) noexcept
    int raw_held_at_once(PyObject*, PyObject*, uint64_t, PyObject**) noexcept
    int raw_put_at_once(PyObject*, PyObject*, uint64_t, PyObject*) noexcept
    int raw_args_at_once(
        PyObject*, PyObject**, Py_ssize_t, PyObject*, Py_ssize_t, bint, uint64_t*, PyObject**) noexcept
    PyObject* raw_call_of_one(PyObject*, PyObject**, size_t) noexcept
    PyObject* raw_call_of_two(PyObject*, PyObject**, size_t) noexcept
    PyObject* raw_call_of_names(PyObject*, PyObject**, size_t, PyObject*) noexcept
    PyObject* raw_call_of_args_further(PyObject*, PyObject**, size_t, uint64_t, int) noexcept
    PyObject* raw_call_of_own_missed(PyObject*, PyObject**, size_t, uint64_t) noexcept
    PyObject* raw_call_of_shape_missed(PyObject*, PyObject**, size_t, PyObject*, uint64_t) noexcept
    PyObject* raw_front_get_slowest(PyObject*, PyObject**, Py_ssize_t, uint64_t) noexcept
    bint raw_typed(PyObject*) noexcept
    void raw_count_miss(PyObject*) noexcept
    PyObject* raw_store(PyObject*) noexcept
    PyObject* raw_call_of_args(void*, PyObject*, PyObject**, size_t) noexcept
    PyObject* raw_call_planned(CachedFunction, const void*, PyObject**, size_t, PyObject*, PyObject*, uint64_t) noexcept
    PyObject* raw_call_due(CachedFunction, const void*, PyObject**, size_t, PyObject*, PyObject*, PyObject*) noexcept
    PyObject* raw_method(PyObject*) noexcept
    PyObject* raw_function(PyObject*) noexcept
    vectorcallfunc raw_vectorcall_of(PyObject*) noexcept
    vectorcallfunc raw_inner(PyObject*) noexcept
    PyObject* raw_child_of(PyObject*, PyObject*) noexcept
    bint raw_is_of(PyObject*, PyObject*, PyObject*) noexcept
    PyObject* raw_slot(PyObject*) noexcept
    Py_ssize_t raw_plain_count(PyObject*) noexcept
    PyObject* raw_copied(PyObject*, PyObject*) noexcept
    PyObject* raw_keyed(PyObject*, PyObject**, size_t, PyObject*) noexcept
    PyObject* raw_packed(PyObject*, PyObject**, size_t, PyObject*) noexcept
    int raw_begin(PyObject*, PyObject*, PyObject**) noexcept
    int raw_ended(PyObject*) noexcept
    void raw_suspended(PyObject*) noexcept
    PyObject* raw_result(PyObject*, PyObject*) noexcept
    PyObject* raw_inner_coroutine(PyObject*) noexcept
    PyObject** raw_only(PyObject*) noexcept
    PyObject* raw_home(PyObject*) noexcept
    void raw_set_home(PyObject*, PyObject*) noexcept
    PyObject* raw_marker(PyObject*) noexcept
    vectorcallfunc raw_below(PyObject*) noexcept
    int raw_arrive(PyObject*) noexcept
    PyObject* raw_join_load(PyObject*, PyObject**, size_t, PyObject*, PyObject*) noexcept
    const Py_ssize_t offset_of_bound_vectorcall "FC_BOUND_VECTORCALL_OFFSET"
    Py_hash_t raw_hash_of "fc_hash"(PyObject*) noexcept
