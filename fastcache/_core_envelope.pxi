# Envelopes (fastcache/_envelope.py says what they are), opened where nothing about them is unusual: of the version
# and serializer asked for, without flags and tags, not large, and whole. Of all others, whatever their bytes are,
# nothing is said but that; Codec.unpack takes them, and knows what is wrong. Sizes are compared in 64 bits with what
# is there before anything is read by them. User code runs in `loads`, and where keys are hashed and compared; nothing
# is half-done there, and the bytes are held.

cdef extern from *:
    """
    static inline uint32_t fc_big_32(const char *at) {
        const unsigned char *p = (const unsigned char *)at;
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
    }
    static inline uint64_t fc_big_64(const char *p) {
        return (uint64_t)fc_big_32(p) << 32 | fc_big_32(p + 4);
    }
    static inline double fc_big_double(const char *p) {
        uint64_t bits = fc_big_64(p);
        double x;
        memcpy(&x, &bits, sizeof(x));
        return x;
    }
    """
    uint32_t big_32 "fc_big_32"(const char*) noexcept
    uint64_t big_64 "fc_big_64"(const char*) noexcept
    double big_double "fc_big_double"(const char*) noexcept
    const char* bytes_at "PyBytes_AS_STRING"(PyObject*) noexcept
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject*) noexcept
    bytes bytes_from "PyBytes_FromStringAndSize"(const char*, Py_ssize_t)

from libc.string cimport memcmp

cdef enum:
    FORMAT = 0xFC           # the first byte
    STAMP = 9               # bytes, with which an envelope begins
    HEAD = 10               # bytes: what follows the stamp
    HEADER = 67
    CHECKSUM = 8
    DIES = 8                # bytes before an envelope that say when it dies, in some stores


cdef struct Opened:
    double ttl              # seconds; infinite: for ever
    double extra
    double cost
    uint64_t sequence


@cython.final
cdef class Opener:
    """Opens the envelopes of one Codec, where nothing about them is unusual. head: what follows the stamp in them.
    largest: bytes of a value. digest: xxh3-64, as bytes. Safe from any thread."""
    cdef bytes head
    cdef object loads
    cdef object digest
    cdef uint64_t largest

    def __cinit__(self, bytes head not None, loads, uint64_t largest, digest, /):
        if len(head) != HEAD:
            raise ValueError(f"head must have {HEAD} bytes, got {head!r}")
        self.head = head
        self.loads = loads
        self.largest = largest
        self.digest = digest

    def unpack(self, data, bytes key not None, /):
        """What Codec.unpack says of an envelope, as a tuple. None: it is unusual, or is not whole."""
        cdef Opened opened
        cdef PyObject *value
        if type(data) is not bytes or not open_at(self, <PyObject*>data, 0, <PyObject*>key, &opened, &value):
            return None
        return (
            owned(value), False, None if opened.ttl == INFINITY else opened.ttl, opened.extra, (), opened.sequence,
            opened.cost, bytes_from(bytes_at(<PyObject*>data), STAMP),
        )

    def unpack_many(self, list keys not None, list encodings not None, list data not None, time, most, /):
        """What lies in L2 of many keys: ({key: value}, for how long each is good for L1, which others there are, by their
        places in `keys`, and the lowest sequence). For how long: seconds, as doubles in the order of the dict.

        data: of each what a store has found, (bytes, seconds left or None) or None; or, with `time`, bytes that
        begin with eight that say when they die, in milliseconds (0: never; less than 2**56), of a clock that shows
        `time`. most: seconds that L1 keeps anything, or None. Others: what `unpack` takes for unusual, what is not there
        or is none of all that, and what is past its ttl.
        """
        cdef Py_ssize_t i, n = len(keys), skip = 0 if time is None else DIES
        cdef double now = 0.0 if time is None else time
        cdef double longest = INFINITY if most is None else most
        cdef double left, fresh
        cdef double *lives
        cdef uint64_t dies, lowest = ~<uint64_t>0
        cdef dict found = {}
        cdef list others = []
        cdef Opened opened
        cdef PyObject *value
        cdef object key, item, encoded, lasts, loaded
        if len(encodings) != n or len(data) != n:
            raise ValueError("as many encodings and values as keys are wanted")
        lives = <double*>PyMem_Malloc(max(n, 1) * sizeof(double))
        if lives == NULL:
            raise MemoryError
        try:
            for i in range(n):
                key, item, encoded = keys[i], data[i], encodings[i]
                left = INFINITY
                if skip == 0 and isinstance(item, tuple) and tuple_size(<PyObject*>item) == 2:
                    lasts = <object>tuple_item(<PyObject*>item, 1)
                    item = <object>tuple_item(<PyObject*>item, 0)
                    if lasts is not None:
                        left = lasts
                if type(item) is not bytes or type(encoded) is not bytes:
                    others.append(i)
                    continue
                if skip and bytes_size(<PyObject*>item) >= skip:
                    dies = big_64(bytes_at(<PyObject*>item))
                    if dies:
                        left = <double>dies / 1000.0 - now if dies >> 56 == 0 else -1.0
                if not open_at(self, <PyObject*>item, skip, <PyObject*>encoded, &opened, &value):
                    others.append(i)
                    continue
                loaded = owned(value)
                fresh = INFINITY if left == INFINITY else left - opened.extra
                if not (left >= 0.0 and fresh > 0.0) or key in found:
                    others.append(i)
                    continue
                lowest = min(lowest, opened.sequence)
                lives[len(found)] = min(fresh, longest)
                found[key] = loaded
            return found, bytes_from(<const char*>lives, len(found) * sizeof(double)), others, lowest
        finally:
            PyMem_Free(lives)


cdef int open_at(Opener self, PyObject *data, Py_ssize_t skip, PyObject *key, Opened *opened,
                 PyObject **value) except -1:
    """1: *value, a new reference, of an envelope that begins so many bytes into `data`; both are bytes, held by the
    caller. 0: it is unusual, or is not whole."""
    cdef const char *p = bytes_at(data) + skip
    cdef Py_ssize_t end = bytes_size(data) - skip - CHECKSUM
    cdef uint64_t size, key_size = bytes_size(key)
    cdef object part
    if end < HEADER or <unsigned char>p[0] != FORMAT or memcmp(p + STAMP, bytes_at(<PyObject*>self.head), HEAD) != 0:
        return 0
    size = big_32(p + 59)
    if big_32(p + 51) != 0 or big_32(p + 55) != key_size or big_32(p + 63) != size or size > self.largest or \
            HEADER + key_size + size != <uint64_t>end or memcmp(p + HEADER, bytes_at(key), key_size) != 0:
        return 0
    opened.ttl = big_double(p + 19)
    opened.extra = big_double(p + 27)
    opened.cost = big_double(p + 35)
    opened.sequence = big_64(p + 43)
    if not (opened.ttl >= 0.0 and opened.extra >= 0.0 and opened.cost >= 0.0):
        return 0
    part = self.digest(bytes_from(p, end))
    if type(part) is not bytes or bytes_size(<PyObject*>part) != CHECKSUM or \
            memcmp(bytes_at(<PyObject*>part), p + end, CHECKSUM) != 0:
        return 0
    part = bytes_from(p + HEADER + key_size, size)
    try:
        part = self.loads(part)
    except Exception:           # Codec.unpack will say which
        return 0
    value[0] = <PyObject*>part
    incref(value[0])
    return 1
