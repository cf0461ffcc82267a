# Names in L2 of the usual keys: exact str in ASCII, exact int of one digit, bytes, and flat tuples of these, all of
# them short. fastcache/_keys says what encodings and names are, and makes those of all other keys. No user code runs
# here, but where an index hashes and compares its keys.

cdef extern from *:
    """
    /* As a byte is shown in the readable part of a name. */
    static inline char fc_shown(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-'
            ? c : '_';
    }
    static inline int fc_hex(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    }
    static inline char *fc_ascii(PyObject *text) { return (char *)PyUnicode_1BYTE_DATA(text); }
    """
    char shown "fc_shown"(char) noexcept
    int hex_digit "fc_hex"(char) noexcept
    char* ascii_at "fc_ascii"(PyObject*) noexcept
    bint str_ascii "PyUnicode_IS_COMPACT_ASCII"(PyObject*) noexcept
    Py_ssize_t str_size "PyUnicode_GET_LENGTH"(PyObject*) noexcept
    str str_new "PyUnicode_New"(Py_ssize_t, Py_UCS4)

cdef enum:
    READABLE = 40           # characters of a name at most, before its digest
    DIGEST = 32             # hexadecimal digits
    LONGEST = 250           # bytes of an encoding that is made here; an item's length is one byte up to 254
    LONGEST_INT = 21
    MOST_ITEMS = 16
    BUCKETS = 256


cdef struct Readable:
    char text[READABLE]
    Py_ssize_t size


@cython.final
cdef class Places:
    """Where keys lie in L2: their canonical encodings, and the names. general(key) gives both of any key, or raises;
    digest: xxh3-128 in hexadecimal digits. Safe from any thread."""
    cdef object general
    cdef object digest

    def __cinit__(self, general, digest, /):
        self.general = general
        self.digest = digest

    def of(self, key, /):
        """(encoding, name) of a key. TypeError, ValueError: it can have none."""
        cdef Readable readable
        cdef bytes encoded = encode_usual(<PyObject*>key, &readable)
        if encoded is None:
            return self.general(key)
        return encoded, named(self, encoded, &readable)

    def of_many(self, keys, words=None, /):
        """([encoding, ...], [name, ...], [word, ...]), aligned with keys. words: (prefixes, one for each of 256 buckets,
        before, between, after), in ASCII: a word is then `before`, the size of what follows in decimal digits, `between`,
        the prefix of the name's bucket, the name, and `after`. None: it is the name. TypeError, ValueError: a key can have
        none."""
        cdef Readable readable
        cdef list encodings = [], names = [], made = []
        cdef tuple prefixes
        cdef str before, between, after
        cdef object key, name
        cdef bytes encoded
        if words is not None:
            prefixes, before, between, after = words
            if len(prefixes) != BUCKETS:
                raise ValueError(f"{BUCKETS} prefixes are wanted, got {len(prefixes)}")
            for key in (before, between, after, *prefixes):
                if not str_exact(<PyObject*>key) or not str_ascii(<PyObject*>key):
                    raise ValueError(f"words are of str in ASCII, got {key!r}")
        for key in keys:
            encoded = encode_usual(<PyObject*>key, &readable)
            if encoded is None:
                encoded, name = self.general(key)
            else:
                name = named(self, encoded, &readable)
            encodings.append(encoded)
            names.append(name)
            if words is not None:
                made.append(word_of(prefixes[bucket_of(name)], name, before, between, after))
        return encodings, names, names if words is None else made


cdef str word_of(str prefix, str name, str before, str between, str after):
    """All of them are known to be in ASCII."""
    cdef Py_ssize_t size, n
    cdef char digits[LONGEST_INT]
    cdef char *out
    cdef str word
    size = len(prefix) + len(name)
    n = write_int(size, digits)
    word = str_new(len(before) + n + len(between) + size + len(after), 127)
    out = ascii_at(<PyObject*>word)
    out = append_part(out, before)
    memcpy(out, digits, n)
    out = append_part(out + n, between)
    out = append_part(out, prefix)
    out = append_part(out, name)
    append_part(out, after)
    return word


cdef inline char *append_part(char *out, str part) noexcept:
    memcpy(out, ascii_at(<PyObject*>part), str_size(<PyObject*>part))
    return out + str_size(<PyObject*>part)


cdef str named(Places self, bytes encoded, Readable *readable):
    cdef object digest = self.digest(encoded)
    cdef Py_ssize_t i, n = readable.size
    cdef str name
    cdef char *text
    if not str_exact(<PyObject*>digest) or not str_ascii(<PyObject*>digest) or str_size(<PyObject*>digest) != DIGEST:
        raise ValueError(f"a digest has {DIGEST} hexadecimal digits, got {digest!r}")
    name = str_new(n + 1 + DIGEST, 127)
    text = ascii_at(<PyObject*>name)
    for i in range(n):
        text[i] = shown(readable.text[i])
    text[n] = b":"
    memcpy(text + n + 1, ascii_at(<PyObject*>digest), DIGEST)
    return name


cdef bytes encode_usual(PyObject *key, Readable *readable):
    """The encoding; None: it is not made here."""
    cdef char out[LONGEST]
    cdef Py_ssize_t i, size, whole
    if not tuple_exact(key):
        whole = encode_item(key, out, LONGEST)
        if whole < 0:
            return None
        readable.size = 0
        show_text(readable, out + 1, whole - 1)
        return bytes_from(out, whole)
    if tuple_size(key) > MOST_ITEMS:
        return None
    out[0] = b"t"
    whole = 1
    readable.size = 0
    for i in range(tuple_size(key)):
        size = -1 if whole + 1 >= LONGEST else encode_item(tuple_item(key, i), out + whole + 1, LONGEST - whole - 1)
        if size < 0:
            return None
        out[whole] = <char>size
        if i:
            show_text(readable, b"-", 1)
        show_text(readable, out + whole + 2, min(size - 1, <Py_ssize_t>READABLE))
        whole += 1 + size
    return bytes_from(out, whole)


cdef inline void show_text(Readable *readable, const char *text, Py_ssize_t size) noexcept:
    size = min(size, READABLE - readable.size)
    memcpy(readable.text + readable.size, text, size)
    readable.size += size


cdef Py_ssize_t encode_item(PyObject *key, char *out, Py_ssize_t room) noexcept:
    """Bytes written; -1: too many, or it is not made here."""
    cdef int64_t number
    cdef Py_ssize_t size
    if str_exact(key):
        size = str_size(key)
        if not str_ascii(key) or size >= room:
            return -1
        out[0] = b"s"
        memcpy(out + 1, ascii_at(key), size)
        return 1 + size
    if long_exact(key):
        if room < LONGEST_INT or not long_compact(key, &number):
            return -1
        out[0] = b"i"
        return 1 + write_int(number, out + 1)
    if bytes_exact(key):
        size = bytes_size(key)
        if size >= room:
            return -1
        out[0] = b"b"
        memcpy(out + 1, bytes_at(key), size)
        return 1 + size
    return -1


cdef Py_ssize_t write_int(int64_t number, char *out) noexcept:
    cdef char digits[LONGEST_INT]
    cdef Py_ssize_t i = LONGEST_INT, size
    cdef uint64_t left = <uint64_t>(-number if number < 0 else number)
    while True:
        i -= 1
        digits[i] = <char>(48 + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        i -= 1
        digits[i] = b"-"
    size = LONGEST_INT - i
    memcpy(out, digits + i, size)
    return size


# ---- buckets -----------------------------------------------------------------------------------

cdef int bucket_of(object name) except -1:
    """The first two digits of the digest that a name ends in."""
    cdef Py_ssize_t size
    cdef char *digits
    cdef int high = -1, low = -1
    if str_exact(<PyObject*>name) and str_ascii(<PyObject*>name):
        size = str_size(<PyObject*>name)
        if size >= DIGEST:
            digits = ascii_at(<PyObject*>name) + size - DIGEST
            high, low = hex_digit(digits[0]), hex_digit(digits[1])
    if high < 0 or low < 0:
        raise ValueError(f"name {name!r} does not end in {DIGEST} hexadecimal digits")
    return high * 16 + low


def note_keys(list held not None, list names not None, list keys not None, /):
    """Put each key into the set of its name's bucket; how many were not there."""
    cdef Py_ssize_t i, before, added = 0, n = len(names)
    cdef set bucket
    if len(keys) != n or len(held) != BUCKETS:
        raise ValueError(f"as many keys as names are wanted, and {BUCKETS} sets")
    for i in range(n):
        bucket = held[bucket_of(names[i])]
        before = len(bucket)
        bucket.add(keys[i])
        added += len(bucket) - before
    return added
