/* What Cython cannot say: clocks, object layouts, the lock, slots that are patched at import.
 *
 * Everything here is static inline or runs once at import. No global state but the
 * saved slots at the end. For GCC, Clang and MSVC; CPython 3.11 and newer. */
#ifndef FASTCACHE_COMPAT_H
#define FASTCACHE_COMPAT_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _WIN32
#  define WIN32_LEAN_AND_MEAN
#  include <windows.h>
#  include <intrin.h>
#else
#  include <time.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#  define fc_likely(x) __builtin_expect(!!(x), 1)
#  define fc_unlikely(x) __builtin_expect(!!(x), 0)
#  define FC_NOINLINE __attribute__((noinline))
#  define FC_ALWAYS_INLINE inline __attribute__((always_inline))
#  define fc_prefetch(p) __builtin_prefetch(p)
static inline int fc_ctz64(uint64_t x) { return __builtin_ctzll(x); }
static inline int fc_clz64(uint64_t x) { return __builtin_clzll(x); }
#else
#  define fc_likely(x) (x)
#  define fc_unlikely(x) (x)
#  define FC_NOINLINE __declspec(noinline)
#  define fc_prefetch(p) ((void)(p))
#  define FC_ALWAYS_INLINE __forceinline
static inline int fc_ctz64(uint64_t x) { unsigned long i; _BitScanForward64(&i, x); return (int)i; }
static inline int fc_clz64(uint64_t x) { unsigned long i; _BitScanReverse64(&i, x); return 63 - (int)i; }
#endif

/* ---- the lock --------------------------------------------------------------------------
 * Under the GIL the code between two calls into the interpreter is atomic, so the lock is
 * nothing. Without the GIL it is one byte; user code never runs while it is held, and nothing
 * waits, so that whenever the interpreter stops all threads (to collect, to fork) nobody is in
 * the middle of an edit. But a fork may find a lock that was just handed to a thread that the
 * child does not have; so a lock knows the process it was last used in.
 *
 * fc_glance, fc_show: of what is read without the lock, since a late value does no harm.
 * fc_add_64, fc_take_64: counters that have no lock; fc_take_64 says whether there was one left.
 * fc_claim: from one stage to another, once. fc_put, fc_look: an object that has no lock, of which
 * fc_look only tells the address. */
#ifdef Py_GIL_DISABLED
typedef struct { PyMutex mutex; uint32_t process; } fc_mutex;
static uint32_t fc_process;         /* forks that led here */
static PyMutex fc_renewal;
static FC_NOINLINE void fc_mutex_renew(fc_mutex *m) {
    PyMutex_Lock(&fc_renewal);
    if (m->process != fc_process) {
        memset(&m->mutex, 0, sizeof(m->mutex));
        _Py_atomic_store_uint32_release(&m->process, fc_process);
    }
    PyMutex_Unlock(&fc_renewal);
}
static inline void fc_mutex_lock(fc_mutex *m) {
    if (fc_unlikely(_Py_atomic_load_uint32_acquire(&m->process) != fc_process))
        fc_mutex_renew(m);
    PyMutex_Lock(&m->mutex);
}
static inline void fc_mutex_unlock(fc_mutex *m) { PyMutex_Unlock(&m->mutex); }
static inline void fc_mutex_forked(void) { fc_process++; memset(&fc_renewal, 0, sizeof(fc_renewal)); }
static inline uint32_t fc_glance(const uint32_t *p) { return _Py_atomic_load_uint32_acquire(p); }
static inline void fc_show(uint32_t *p, uint32_t v) { _Py_atomic_store_uint32_release(p, v); }
static inline uint64_t fc_glance_64(const uint64_t *p) { return _Py_atomic_load_uint64_relaxed(p); }
static inline void fc_show_64(uint64_t *p, uint64_t v) { _Py_atomic_store_uint64_relaxed(p, v); }
static inline void fc_add_64(uint64_t *p, uint64_t n) { _Py_atomic_add_uint64(p, n); }
static inline int fc_take_64(uint64_t *p) {
    uint64_t n = _Py_atomic_load_uint64_relaxed(p);
    while (n != 0) {
        if (_Py_atomic_compare_exchange_uint64(p, &n, n - 1))
            return 1;
    }
    return 0;
}
static inline int fc_claim(uint32_t *stage, uint32_t from, uint32_t to) {
    return _Py_atomic_compare_exchange_uint32(stage, &from, to);
}
static inline PyObject *fc_swap(PyObject **p, PyObject *o) { return (PyObject *)_Py_atomic_exchange_ptr(p, o); }
static inline PyObject *fc_look(PyObject **p) { return (PyObject *)_Py_atomic_load_ptr_acquire(p); }
#  define FC_FREE_THREADED 1
#else
typedef char fc_mutex;
static inline void fc_mutex_lock(fc_mutex *m) { (void)m; }
static inline void fc_mutex_unlock(fc_mutex *m) { (void)m; }
static inline void fc_mutex_forked(void) {}
static inline uint32_t fc_glance(const uint32_t *p) { return *p; }
static inline void fc_show(uint32_t *p, uint32_t v) { *p = v; }
static inline uint64_t fc_glance_64(const uint64_t *p) { return *p; }
static inline void fc_show_64(uint64_t *p, uint64_t v) { *p = v; }
static inline void fc_add_64(uint64_t *p, uint64_t n) { *p += n; }
static inline int fc_take_64(uint64_t *p) { return *p != 0 ? (--*p, 1) : 0; }
static inline int fc_claim(uint32_t *stage, uint32_t from, uint32_t to) {
    return *stage == from ? (*stage = to, 1) : 0;
}
static inline PyObject *fc_swap(PyObject **p, PyObject *o) { PyObject *old = *p; *p = o; return old; }
static inline PyObject *fc_look(PyObject **p) { return *p; }
#  define FC_FREE_THREADED 0
#endif
static inline void fc_put(PyObject **p, PyObject *o) { Py_INCREF(o); Py_DECREF(fc_swap(p, o)); }

/* ---- clocks, in nanoseconds ------------------------------------------------------------ */
#ifdef _WIN32
static inline int64_t fc_clock_precise(void) {
    LARGE_INTEGER f, c;
    QueryPerformanceFrequency(&f);
    QueryPerformanceCounter(&c);
    return (int64_t)(c.QuadPart / f.QuadPart) * 1000000000LL
         + (int64_t)(c.QuadPart % f.QuadPart) * 1000000000LL / f.QuadPart;
}
/* GetTickCount64 is another time line than the performance counter, and the two may not be
 * mixed in one cache, so Windows has the precise clock alone. */
#  define fc_clock_coarse fc_clock_precise
#  define fc_clock_wall fc_clock_precise
#else
static inline int64_t fc_clock_precise(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}
#  ifdef CLOCK_MONOTONIC_COARSE
static inline int64_t fc_clock_coarse(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}
/* The wall clock goes on while the machine is suspended, and there is a coarse one. */
static inline int64_t fc_clock_wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}
#  else
#    define fc_clock_coarse fc_clock_precise
static inline int64_t fc_clock_wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}
#  endif
#endif

/* ---- exact ints --------------------------------------------------------------------------
 * fc_long_compact: the value of an exact int of at most one digit.
 * fc_long_small: that of one that is not negative; 1 digit first, without arithmetic.
 * fc_long_wide: whether abs(value) >= 2**61 - 1, that is, whether hash() loses something. */
#if PY_VERSION_HEX >= 0x030C0000
static inline Py_ssize_t fc_long_ndigits(PyObject *o) {
    return (Py_ssize_t)(((PyLongObject *)o)->long_value.lv_tag >> 3);
}
static inline int fc_long_negative(PyObject *o) {
    return (((PyLongObject *)o)->long_value.lv_tag & 3) == 2;
}
#  define fc_long_digits(o) (((PyLongObject *)(o))->long_value.ob_digit)
#else
static inline Py_ssize_t fc_long_ndigits(PyObject *o) {
    Py_ssize_t n = Py_SIZE(o);
    return n < 0 ? -n : n;
}
static inline int fc_long_negative(PyObject *o) { return Py_SIZE(o) < 0; }
#  define fc_long_digits(o) (((PyLongObject *)(o))->ob_digit)
#endif

static inline int fc_long_compact(PyObject *o, int64_t *v) {
    /* multiplied by the sign, as CPython does: the digit of a zero need not be 0 */
#if PY_VERSION_HEX >= 0x030C0000
    uintptr_t tag = ((PyLongObject *)o)->long_value.lv_tag;
    if (fc_unlikely(tag >= (2 << 3)))
        return 0;
    *v = (1 - (int64_t)(tag & 3)) * (int64_t)fc_long_digits(o)[0];
#else
    Py_ssize_t n = Py_SIZE(o);
    if (fc_unlikely((size_t)(n + 1) > 2))
        return 0;
    *v = (int64_t)n * (int64_t)fc_long_digits(o)[0];
#endif
    return 1;
}

static FC_ALWAYS_INLINE int fc_long_small(PyObject *o, int64_t *v) {
#if PY_VERSION_HEX >= 0x030C0000
    uintptr_t tag = ((PyLongObject *)o)->long_value.lv_tag & ~(uintptr_t)4;     /* a bit that is not ours */
    const uintptr_t one = 1 << 3, zero = 1;
#else
    Py_ssize_t tag = Py_SIZE(o);
    const Py_ssize_t one = 1, zero = 0;
#endif
    *v = (int64_t)fc_long_digits(o)[0];
    if (fc_likely(tag == one))
        return 1;
    *v = 0;
    return tag == zero;
}

/* Whether an exact int is v, of which abs(v) < 2**60. */
static inline int fc_long_is(PyObject *o, int64_t v) {
    int64_t w;
    if (fc_likely(fc_long_small(o, &w)) || fc_long_compact(o, &w))
        return w == v;
    if (fc_long_ndigits(o) != 2)
        return 0;
    w = (int64_t)fc_long_digits(o)[0] | (int64_t)fc_long_digits(o)[1] << PyLong_SHIFT;
    return (fc_long_negative(o) ? -w : w) == v;
}

#if PyLong_SHIFT == 30
static inline int fc_long_wide(PyObject *o) {
    Py_ssize_t n = fc_long_ndigits(o);
    digit *d;
    if (fc_likely(n < 3))
        return 0;
    if (n > 3)
        return 1;
    d = fc_long_digits(o);
    return d[2] > 1 || (d[0] == PyLong_MASK && d[1] == PyLong_MASK);
}
#else
static inline int fc_long_wide(PyObject *o) { (void)o; return 0; }
#endif

static inline int fc_long_eq(PyObject *a, PyObject *b) {
    Py_ssize_t n = fc_long_ndigits(a);
    if (n != fc_long_ndigits(b) || fc_long_negative(a) != fc_long_negative(b))
        return 0;
    return n == 0 || memcmp(fc_long_digits(a), fc_long_digits(b), (size_t)n * sizeof(digit)) == 0;
}

/* ---- exact strings ----------------------------------------------------------------------- */
static inline int fc_str_eq(PyObject *a, PyObject *b) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(a);
    int kind = PyUnicode_KIND(a);
    if (n != PyUnicode_GET_LENGTH(b) || kind != (int)PyUnicode_KIND(b))
        return 0;
    return memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)n * (size_t)kind) == 0;
}

/* ---- equality without user code: 1, 0, or -1 for "ask the objects" ------------------------ */
static inline int fc_same_exact(PyObject *a, PyObject *b) {
    PyTypeObject *t = Py_TYPE(a);
    if (a == b)
        return 1;
    if (t == Py_TYPE(b)) {
        if (t == &PyUnicode_Type)
            return fc_str_eq(a, b);
        if (t == &PyLong_Type)
            return fc_long_eq(a, b);
        if (t == &PyBytes_Type)
            return PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b)
                && memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(a)) == 0;
        if (t == &PyFloat_Type)
            return PyFloat_AS_DOUBLE(a) == PyFloat_AS_DOUBLE(b);
    }
    return -1;
}

/* Equality that needs no call, of what arguments mostly are; 0 also for "not to be told like this". */
static inline int fc_ascii_eq(PyObject *a, PyObject *b) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(a);
    const char *p, *q;
    uint64_t x, y;
    if (n != PyUnicode_GET_LENGTH(b) || n > 128 || !PyUnicode_IS_COMPACT_ASCII(a) || !PyUnicode_IS_COMPACT_ASCII(b))
        return 0;
    p = (const char *)((PyASCIIObject *)a + 1);
    q = (const char *)((PyASCIIObject *)b + 1);
    for (; n >= 8; n -= 8, p += 8, q += 8) {
        memcpy(&x, p, 8);
        memcpy(&y, q, 8);
        if (x != y)
            return 0;
    }
    if (n == 0)
        return 1;
    /* the last eight bytes, of which the first may be the header's */
    memcpy(&x, p + n - 8, 8);
    memcpy(&y, q + n - 8, 8);
#if PY_LITTLE_ENDIAN
    return (x ^ y) >> (64 - 8 * n) == 0;
#else
    return (x ^ y) << (64 - 8 * n) == 0;
#endif
}
static FC_ALWAYS_INLINE int fc_same_at_once(PyObject *a, PyObject *b) {
    PyTypeObject *t = Py_TYPE(a);
    int64_t v, w;
    if (t != Py_TYPE(b))
        return 0;
    if (t == &PyLong_Type)
        return fc_long_compact(a, &v) && fc_long_compact(b, &w) && v == w;
    return t == &PyUnicode_Type && fc_ascii_eq(a, b);
}

/* A tuple of its own type, made below; it compares as a tuple. */
static PyTypeObject *fc_callkey_type;
static inline int fc_callkey_or_tuple(PyObject *o) {
    return Py_TYPE(o) == fc_callkey_type || PyTuple_CheckExact(o);
}

static FC_NOINLINE int fc_same(PyObject *a, PyObject *b) {
    int r = fc_same_exact(a, b);
    if (fc_unlikely(r < 0) && fc_callkey_or_tuple(a) && fc_callkey_or_tuple(b)) {
        Py_ssize_t i, n = PyTuple_GET_SIZE(a);
        if (n != PyTuple_GET_SIZE(b))
            return 0;
        for (i = 0; i < n; i++) {
            /* the first pair that differs decides, so a later one need not be asked */
            int q = fc_same_exact(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i));
            if (q != 1)
                return q;
        }
        return 1;
    }
    return r;
}

/* ---- hashing ------------------------------------------------------------------------------
 * fc_str_hash: -1 where it has not been hashed yet. fc_hash: -1 with an exception set when
 * __hash__ raised; user code runs here for other types. */
#ifdef Py_GIL_DISABLED
static inline Py_hash_t fc_str_hash(PyObject *o) {
    return _Py_atomic_load_ssize_relaxed(&((PyASCIIObject *)o)->hash);
}
#else
static inline Py_hash_t fc_str_hash(PyObject *o) { return ((PyASCIIObject *)o)->hash; }
#endif

static inline Py_hash_t fc_hash(PyObject *o) {
    if (PyUnicode_CheckExact(o)) {
        Py_hash_t h = fc_str_hash(o);
        if (fc_likely(h != -1))
            return h;
    }
    else if (PyLong_CheckExact(o)) {
        int64_t v;
        if (fc_likely(fc_long_compact(o, &v)))
            return v == -1 ? -2 : (Py_hash_t)v;
    }
    return PyObject_Hash(o);
}

/* The hash that objects have by default is their address. NULL: this interpreter has another. */
static hashfunc fc_address_hash;
static inline Py_hash_t fc_hash_address(PyObject *o) {
    size_t h = (size_t)o;
    h = (h >> 4) | (h << (8 * sizeof(size_t) - 4));
    return (Py_hash_t)h == -1 ? -2 : (Py_hash_t)h;
}
static void fc_learn_address_hash(void) {
    PyObject *a = (PyObject *)&PyBaseObject_Type, *b = (PyObject *)&PyType_Type;
    hashfunc f = PyBaseObject_Type.tp_hash;
    if (f(a) == fc_hash_address(a) && f(b) == fc_hash_address(b))
        fc_address_hash = f;
}
/* Without a call: strs hashed before, small ints, objects hashed by address. 0: something else. */
static FC_ALWAYS_INLINE int fc_hash_at_once(PyObject *o, Py_hash_t *h) {
    PyTypeObject *t = Py_TYPE(o);
    int64_t v;
    if (t == &PyLong_Type) {
        if (fc_unlikely(!fc_long_compact(o, &v)))
            return 0;
        *h = v == -1 ? -2 : (Py_hash_t)v;
        return 1;
    }
    if (t == &PyUnicode_Type) {
        *h = fc_str_hash(o);
        return *h != -1;
    }
    if (fc_unlikely(t->tp_hash != fc_address_hash))
        return 0;
    *h = fc_hash_address(o);
    return 1;
}

/* The hash of a tuple, item by item (xxHash as CPython's tupleobject.c has used it since 3.8).
 * test at import: fc_tuple_hash_agrees(). */
#if SIZEOF_PY_UHASH_T > 4 || SIZEOF_SIZE_T > 4
#  define FC_XX1 ((Py_uhash_t)11400714785074694791ULL)
#  define FC_XX2 ((Py_uhash_t)14029467366897019727ULL)
#  define FC_XX5 ((Py_uhash_t)2870177450012600261ULL)
#  define FC_XXROT(x) (((x) << 31) | ((x) >> 33))
#else
#  define FC_XX1 ((Py_uhash_t)2654435761UL)
#  define FC_XX2 ((Py_uhash_t)2246822519UL)
#  define FC_XX5 ((Py_uhash_t)374761393UL)
#  define FC_XXROT(x) (((x) << 13) | ((x) >> 19))
#endif
static inline Py_uhash_t fc_tuple_hash_start(void) { return FC_XX5; }
static inline Py_uhash_t fc_tuple_hash_step(Py_uhash_t acc, Py_hash_t lane) {
    acc += (Py_uhash_t)lane * FC_XX2;
    acc = FC_XXROT(acc);
    return acc * FC_XX1;
}
static inline Py_hash_t fc_tuple_hash_end(Py_uhash_t acc, Py_ssize_t n) {
    acc += (Py_uhash_t)n ^ (FC_XX5 ^ 3527539UL);
    return acc == (Py_uhash_t)-1 ? 1546275796 : (Py_hash_t)acc;
}

/* The hash of an exact tuple, of items that are hashed at once. */
static inline int fc_tuple_hash_at_once(PyObject *o, Py_hash_t *hash) {
    Py_ssize_t i, n = PyTuple_GET_SIZE(o);
    Py_uhash_t acc = fc_tuple_hash_start();
    Py_hash_t h;
    for (i = 0; i < n; i++) {
        if (!fc_hash_at_once(PyTuple_GET_ITEM(o, i), &h))
            return 0;
        acc = fc_tuple_hash_step(acc, h);
    }
    *hash = fc_tuple_hash_end(acc, n);
    return 1;
}

/* ---- garbage collection -------------------------------------------------------------------- */
/* By its type alone: one type in question, the static types, is taken for followed, which is harmless. */
static inline int fc_is_gc(PyObject *o) { return PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_HAVE_GC); }

static inline PyObject *fc_sequence_item(PyObject *o, Py_ssize_t i) { return PySequence_Fast_GET_ITEM(o, i); }
static inline PyObject **fc_sequence_items(PyObject *o) { return PySequence_Fast_ITEMS(o); }
static inline PyObject **fc_list_items(PyObject *o) { return ((PyListObject *)o)->ob_item; }
/* n references less, or more, of an object that somebody else holds too. */
#if defined(Py_GIL_DISABLED) || defined(Py_REF_DEBUG)
static inline void fc_decref_many(PyObject *o, Py_ssize_t n) {
    for (; n > 0; n--)
        Py_DECREF(o);
    for (; n < 0; n++)
        Py_INCREF(o);
}
#elif PY_VERSION_HEX >= 0x030C0000
static inline void fc_decref_many(PyObject *o, Py_ssize_t n) {
    if (!_Py_IsImmortal(o))
        o->ob_refcnt -= n;
}
#else
static inline void fc_decref_many(PyObject *o, Py_ssize_t n) { o->ob_refcnt -= n; }
#endif
/* [o] * n */
static PyObject *fc_list_of(PyObject *o, Py_ssize_t n) {
    Py_ssize_t i;
    PyObject *list = PyList_New(n);
    if (list == NULL)
        return NULL;
    for (i = 0; i < n; i++)
        PyList_SET_ITEM(list, i, o);
    fc_decref_many(o, -n);
    return list;
}
/* Takes over the reference; releases the default that was there, which others hold too. */
static inline void fc_list_put(PyObject *list, Py_ssize_t i, PyObject *item) {
    PyObject *old = PyList_GET_ITEM(list, i);
    PyList_SET_ITEM(list, i, item);
    Py_DECREF(old);
}

/* ---- big blocks ----------------------------------------------------------------------------------
 * From 32 KiB on a block is mapped by itself where that is to be had: memory that is given up goes back
 * to the system at once, whatever else the heap holds, and new memory need not be zeroed. */
#if !defined(_WIN32) && !defined(__SANITIZE_ADDRESS__)
#  include <sys/mman.h>
#  ifndef MAP_ANONYMOUS
#    define MAP_ANONYMOUS MAP_ANON
#  endif
#  define FC_BIG_BLOCK ((size_t)32768)
#  define FC_TRACE_DOMAIN 0xFAC5Cu
static inline void *fc_map_block(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (PyTraceMalloc_Track(FC_TRACE_DOMAIN, (uintptr_t)p, size) == -1) {
        munmap(p, size);
        return NULL;
    }
    return p;
}
static inline void fc_unmap_block(void *p, size_t size) {
    PyTraceMalloc_Untrack(FC_TRACE_DOMAIN, (uintptr_t)p);
    munmap(p, size);
}
#else
#  define FC_BIG_BLOCK ((size_t)-1)
static inline void *fc_map_block(size_t size) { (void)size; return NULL; }
static inline void fc_unmap_block(void *p, size_t size) { (void)p; (void)size; }
#endif

/* ---- slots patched at import -----------------------------------------------------------------
 * Cython offers no tp_traverse/tp_clear over objects held in C arrays, no dealloc that clears
 * weak references before the contents go and bounds its recursion, and no vectorcall. */
typedef int (*fc_traverse_fn)(PyObject *, visitproc, void *);
typedef void (*fc_drop_fn)(PyObject *);

static fc_traverse_fn fc_contents_traverse;
static fc_drop_fn fc_contents_drop;
static traverseproc fc_saved_traverse;
static inquiry fc_saved_clear;
static destructor fc_saved_dealloc;
static Py_ssize_t fc_weaklist_offset;

static int fc_cache_traverse(PyObject *o, visitproc visit, void *arg) {
    int r = fc_contents_traverse(o, visit, arg);
    return r ? r : fc_saved_traverse(o, visit, arg);
}
static int fc_cache_clear(PyObject *o) {
    fc_contents_drop(o);
    return fc_saved_clear(o);
}
static void fc_cache_dealloc(PyObject *o) {
    PyObject_GC_UnTrack(o);
    Py_TRASHCAN_BEGIN(o, fc_cache_dealloc)
    if (*(PyObject **)((char *)o + fc_weaklist_offset) != NULL)
        PyObject_ClearWeakRefs(o);
    fc_contents_drop(o);
    fc_saved_dealloc(o);
    Py_TRASHCAN_END
}
static void fc_patch_cache_type(PyObject *type, fc_traverse_fn traverse, fc_drop_fn drop) {
    PyTypeObject *t = (PyTypeObject *)type;
    fc_contents_traverse = traverse;
    fc_contents_drop = drop;
    fc_saved_traverse = t->tp_traverse;
    fc_saved_clear = t->tp_clear;
    fc_saved_dealloc = t->tp_dealloc;
    fc_weaklist_offset = t->tp_weaklistoffset;
    t->tp_traverse = fc_cache_traverse;
    t->tp_clear = fc_cache_clear;
    t->tp_dealloc = fc_cache_dealloc;
    t->tp_flags |= Py_TPFLAGS_MAPPING;      /* for `match` */
    PyType_Modified(t);
}

static void fc_patch_function_type(PyObject *type, Py_ssize_t vectorcall_offset) {
    PyTypeObject *t = (PyTypeObject *)type;
    t->tp_vectorcall_offset = vectorcall_offset;
    t->tp_call = PyVectorcall_Call;
    t->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR;
    PyType_Modified(t);
}

static void fc_patch_bound_type(PyObject *type, Py_ssize_t vectorcall_offset) {
    PyTypeObject *t = (PyTypeObject *)type;
    t->tp_vectorcall_offset = vectorcall_offset;
    t->tp_call = PyVectorcall_Call;
    t->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    PyType_Modified(t);
}

/* A coroutine whose steps are a C function: a hit is returned without a StopIteration. */
typedef int (*fc_send_fn)(PyObject *, PyObject *, PyObject **);
static fc_send_fn fc_call_step;
static PySendResult fc_call_send(PyObject *o, PyObject *arg, PyObject **result) {
    *result = NULL;
    return (PySendResult)fc_call_step(o, arg, result);
}
/* `await` asks tp_iternext on 3.12 and 3.13, and wants a StopIteration: made here without a call of its
 * type, which takes longer than all the rest. Its args stay empty; its value is what counts. One is
 * used again and again, unless somebody caught it and may still look at it; without the GIL two threads
 * would have it at once, so there each is new. */
#ifdef Py_GIL_DISABLED
static inline void fc_forget_stop(void) {}
#else
static PyStopIterationObject *fc_spare_stop;

static inline int fc_stop_is_free(void) {
    PyStopIterationObject *s = fc_spare_stop;
    return s != NULL && Py_REFCNT(s) == 1 && s->traceback == NULL && s->context == NULL && s->cause == NULL && s->dict == NULL;
}
/* So that it keeps nothing alive: neither its value, nor, if somebody caught it, their frames. */
static inline void fc_forget_stop(void) {
    PyObject *gone = NULL;
    if (fc_stop_is_free()) {
        gone = fc_spare_stop->value;
        fc_spare_stop->value = NULL;
    }
    else if (fc_spare_stop != NULL) {
        gone = (PyObject *)fc_spare_stop;
        fc_spare_stop = NULL;
    }
    Py_XDECREF(gone);
}
#endif
#if PY_VERSION_HEX >= 0x030C0000
/* Takes over the reference. */
static PyStopIterationObject *fc_new_stop(PyObject *value) {
    PyTypeObject *t = (PyTypeObject *)PyExc_StopIteration;
    PyStopIterationObject *stop = (PyStopIterationObject *)t->tp_alloc(t, 0);
    if (stop == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    stop->args = PyTuple_New(0);
    stop->value = value;
    return stop;
}
#endif
static PyObject *fc_stop_with(PyObject *value) {
#ifdef Py_GIL_DISABLED
    PyStopIterationObject *stop = fc_new_stop(value);
    if (stop != NULL)
        PyErr_SetRaisedException((PyObject *)stop);
#elif PY_VERSION_HEX >= 0x030C0000
    PyStopIterationObject *stop = fc_spare_stop;
    PyObject *old = NULL;
    if (fc_likely(fc_stop_is_free())) {
        old = stop->value;
        stop->value = value;
    }
    else {
        stop = fc_new_stop(value);
        if (stop == NULL)
            return NULL;
        Py_XDECREF(fc_spare_stop);
        fc_spare_stop = stop;
    }
    Py_INCREF(stop);
    PyErr_SetRaisedException((PyObject *)stop);
    Py_XDECREF(old);
#else
    if (PyTuple_Check(value) || PyExceptionInstance_Check(value)) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    else
        PyErr_SetObject(PyExc_StopIteration, value);
    Py_DECREF(value);
#endif
    return NULL;
}
static PyObject *fc_call_iternext(PyObject *o) {
    PyObject *result = NULL;
    int r = fc_call_step(o, Py_None, &result);
    return r == PYGEN_RETURN ? fc_stop_with(result) : result;
}
static void fc_patch_call_type(PyObject *type, fc_send_fn step) {
    PyTypeObject *t = (PyTypeObject *)type;
    fc_call_step = step;
    t->tp_as_async->am_send = fc_call_send;
    t->tp_iternext = fc_call_iternext;
#ifdef Py_TPFLAGS_HAVE_AM_SEND
    t->tp_flags |= Py_TPFLAGS_HAVE_AM_SEND;
#endif
    PyType_Modified(t);
}
static inline int fc_reraise(void) { return -1; }

static inline int fc_type_has_dict(PyObject *o) {
    PyTypeObject *t = Py_TYPE(o);
    if (t->tp_dictoffset != 0)
        return 1;
#ifdef Py_TPFLAGS_MANAGED_DICT
    return (t->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0;
#else
    return 0;
#endif
}
/* A new reference; NULL with no exception if there is nothing. */
static PyObject *fc_dict_held(PyObject *dict, PyObject *key) {
#ifdef Py_GIL_DISABLED
    PyObject *item;
    if (PyDict_GetItemRef(dict, key, &item) < 0)
        PyErr_Clear();
    return item;
#else
    PyObject *item = PyDict_GetItem(dict, key);
    Py_XINCREF(item);
    return item;
#endif
}
/* What an instance's __dict__ has under an interned str; NULL with no exception if nothing. Borrowed: fc_keep
 * makes it the caller's, or fc_leave says that it is not wanted. Without the GIL it is the caller's already,
 * since others may replace it, or the dict, at any time. */
#ifdef Py_GIL_DISABLED
static PyObject *fc_instance_item(PyObject *o, PyObject *name) {
    PyObject *item = NULL, *dict = PyObject_GenericGetDict(o, NULL);
    if (dict == NULL)
        PyErr_Clear();
    else
        item = fc_dict_held(dict, name);
    Py_XDECREF(dict);
    return item;
}
#  define fc_keep(o) ((void)(o))
#  define fc_leave(o) Py_XDECREF(o)
#else
#  define fc_keep(o) Py_INCREF(o)
#  define fc_leave(o) ((void)(o))
static inline PyObject *fc_instance_item(PyObject *o, PyObject *name) {
    PyObject **dict = _PyObject_GetDictPtr(o);
    PyObject *item;
    if (dict == NULL || *dict == NULL)
        return NULL;
    item = _PyDict_GetItem_KnownHash(*dict, name, ((PyASCIIObject *)name)->hash);
    if (item == NULL && PyErr_Occurred())
        PyErr_Clear();
    return item;
}
#endif
/* Borrowed, and only to be compared. */
static inline PyObject *fc_weak_target(PyObject *reference) {
    return fc_look(&((PyWeakReference *)reference)->wr_object);
}
static PyObject *fc_tuple_from(PyObject **items, Py_ssize_t n) {
    Py_ssize_t i;
    PyObject *t = PyTuple_New(n);
    if (t == NULL)
        return NULL;
    for (i = 0; i < n; i++) {
        Py_INCREF(items[i]);
        PyTuple_SET_ITEM(t, i, items[i]);
    }
    return t;
}

/* Cython's own way into a method or slot is returned, for what the new one does not do itself. */
typedef PyObject *(*fc_getter)(PyObject *, PyObject **, Py_ssize_t, PyObject *);
static fc_getter fc_patch_fastcall(PyObject *type, const char *name, fc_getter put) {
    fc_getter saved;
    PyObject *d = PyObject_GetAttrString(type, name);
    if (d == NULL)
        return NULL;
    if (Py_TYPE(d) != &PyMethodDescr_Type || ((PyMethodDescrObject *)d)->d_method->ml_flags != (METH_FASTCALL | METH_KEYWORDS)) {
        Py_DECREF(d);
        PyErr_SetString(PyExc_SystemError, "fastcache was built by a Cython that calls methods in another way");
        return NULL;
    }
    saved = (fc_getter)(void (*)(void))((PyMethodDescrObject *)d)->d_method->ml_meth;
    ((PyMethodDescrObject *)d)->d_method->ml_meth = (PyCFunction)(void (*)(void))put;
    Py_DECREF(d);       /* the type keeps it */
    return saved;
}
static binaryfunc fc_patch_subscript(PyObject *type, binaryfunc put) {
    PyTypeObject *t = (PyTypeObject *)type;
    binaryfunc saved = t->tp_as_mapping->mp_subscript;
    t->tp_as_mapping->mp_subscript = put;
    return saved;
}
static objobjargproc fc_patch_ass_subscript(PyObject *type, objobjargproc put) {
    PyTypeObject *t = (PyTypeObject *)type;
    objobjargproc saved = t->tp_as_mapping->mp_ass_subscript;
    t->tp_as_mapping->mp_ass_subscript = put;
    return saved;
}

/* PyObject_Vectorcall; a function of Python's own, which needs no check of what it returned, at once. */
static inline PyObject *fc_vectorcall(PyObject *f, PyObject **args, size_t nargsf, PyObject *names) {
    if (PyFunction_Check(f) && ((PyFunctionObject *)f)->vectorcall != NULL)
        return ((PyFunctionObject *)f)->vectorcall(f, args, nargsf, names);
    return PyObject_Vectorcall(f, args, nargsf, names);
}

/* ---- CallKey: a tuple of its own type, so that a listing shows what was called ------------- */
static PyObject *(*fc_callkey_repr_fn)(PyObject *);

static void fc_callkey_dealloc(PyObject *o) {
    PyTypeObject *t = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    Py_TRASHCAN_BEGIN(o, fc_callkey_dealloc)
    Py_ssize_t i = PyTuple_GET_SIZE(o);
    while (--i >= 0)
        Py_XDECREF(PyTuple_GET_ITEM(o, i));
    t->tp_free(o);
    Py_DECREF(t);
    Py_TRASHCAN_END
}
static PyObject *fc_callkey_repr(PyObject *o) { return fc_callkey_repr_fn(o); }
static PyType_Slot fc_callkey_slots[] = {
    {Py_tp_dealloc, (void *)fc_callkey_dealloc},
    {Py_tp_repr, (void *)fc_callkey_repr},
    {Py_tp_doc, (void *)"CallKey(iterable, /)\n--\n\n"
        "The key under which a decorated call is cached: an immutable tuple of the arguments.\n\n"
        "Positional arguments come first; behind a mark, keywords as name, value, ... in the\n"
        "order of the call; with typed=True the types of all of them at the end. It equals and\n"
        "hashes as the plain tuple of the same items."},
    {0, NULL}
};
static PyType_Spec fc_callkey_spec = {
    "fastcache.CallKey", 0, 0, Py_TPFLAGS_DEFAULT, fc_callkey_slots
};
static PyObject *fc_make_callkey_type(PyObject *(*repr)(PyObject *)) {
    PyObject *bases, *t;
    fc_callkey_repr_fn = repr;
    bases = PyTuple_Pack(1, (PyObject *)&PyTuple_Type);
    if (bases == NULL)
        return NULL;
    fc_callkey_spec.basicsize = (int)PyTuple_Type.tp_basicsize;
    fc_callkey_spec.itemsize = (int)PyTuple_Type.tp_itemsize;
    t = PyType_FromSpecWithBases(&fc_callkey_spec, bases);
    Py_DECREF(bases);
    fc_callkey_type = (PyTypeObject *)t;
    return t;
}
static inline PyObject *fc_callkey_new(Py_ssize_t n) {
    return fc_callkey_type->tp_alloc(fc_callkey_type, n);
}
static inline PyObject **fc_tuple_items(PyObject *t) { return ((PyTupleObject *)t)->ob_item; }
static inline void fc_tuple_set(PyObject *t, Py_ssize_t i, PyObject *item) {
    PyTuple_SET_ITEM(t, i, item);
}

#endif
