# Values as JSON, for the journals and the columns of `fastcache.writing`: the same text as the standard library's
# json.dumps, without a pass in Python over each value before it. What needs a thought is left to the codecs there.

cdef extern from "Python.h":
    bint json_is_ascii "PyUnicode_IS_ASCII"(object) noexcept
    uint32_t json_char "PyUnicode_READ_CHAR"(object, Py_ssize_t) noexcept
    const void* json_data "PyUnicode_DATA"(object) noexcept
    Py_ssize_t json_length "PyUnicode_GET_LENGTH"(object) noexcept
    bint json_next "PyDict_Next"(object, Py_ssize_t*, PyObject**, PyObject**) noexcept
    long long json_number "PyLong_AsLongLongAndOverflow"(object, int*) except? -1
    char* json_digits "PyOS_double_to_string"(double, char, int, int, int*) except NULL
    int JSON_POINT "Py_DTSF_ADD_DOT_0"
    unicode json_text_of "PyUnicode_DecodeASCII"(const char*, Py_ssize_t, const char*)
    PyObject* json_item "PySequence_Fast_GET_ITEM"(object, Py_ssize_t) noexcept
    void* json_more "PyMem_Realloc"(void*, size_t) noexcept
    void json_free "PyMem_Free"(void*) noexcept


cdef enum:
    JSON_DEPTH = 100            # that of the codecs
    JSON_ROOM = 1024            # bytes on the stack, enough for most values


cdef struct Text:
    char *data
    Py_ssize_t used
    Py_ssize_t room
    char *own                   # NULL: data is on the stack
    bint tuples                 # they become lists


cdef int text_room(Text *text, Py_ssize_t more) except -1:
    """Make room for so many bytes."""
    cdef Py_ssize_t room = 2 * text.room + more
    if likely(text.room - text.used >= more):
        return 0
    cdef char *data = <char*>json_more(text.own, <size_t>room)
    if data == NULL:
        raise MemoryError
    if text.own == NULL:
        memcpy(data, text.data, <size_t>text.used)
    text.own = text.data = data
    text.room = room
    return 0


cdef inline int text_add(Text *text, const char *data, Py_ssize_t size) except -1:
    text_room(text, size)
    memcpy(text.data + text.used, data, <size_t>size)
    text.used += size
    return 0


cdef inline bint json_escapes(uint64_t word) noexcept:
    """Whether one of eight ASCII bytes is a control, a quotation mark or a backslash. A borrow can only go on from a
    byte that is one."""
    cdef uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL
    cdef uint64_t quotes = word ^ (34 * ones), backslashes = word ^ (92 * ones)
    return (((word - 32 * ones) | (quotes - ones) | (backslashes - ones) | (word + ones)) & tops) != 0


cdef inline bint json_plain(const unsigned char *chars, Py_ssize_t size) noexcept:
    """Whether ASCII text stands for itself in JSON."""
    cdef uint64_t word
    cdef Py_ssize_t i = 0
    cdef unsigned char c
    while i + 8 <= size:
        memcpy(&word, chars + i, 8)
        if json_escapes(word):
            return False
        i += 8
    while i < size:
        c = chars[i]
        if c < 32 or c == 34 or c == 92 or c == 127:
            return False
        i += 1
    return True


cdef int json_str(Text *text, object value) except -1:
    cdef Py_ssize_t size = json_length(value)
    cdef const unsigned char *chars
    if not json_is_ascii(value):
        return json_escaped(text, value, size)
    chars = <const unsigned char*>json_data(value)
    if unlikely(not json_plain(chars, size)):
        return json_escaped(text, value, size)
    text_room(text, size + 2)
    text.data[text.used] = 34
    memcpy(text.data + text.used + 1, chars, <size_t>size)
    text.data[text.used + size + 1] = 34
    text.used += size + 2
    return 0


cdef int json_escaped(Text *text, object value, Py_ssize_t size) except -1:
    cdef Py_ssize_t i
    cdef uint32_t c
    cdef char short_form
    text_add(text, b'"', 1)
    for i in range(size):
        text_room(text, 12)
        c = json_char(value, i)
        if c == 34 or c == 92 or 8 <= c <= 13 and c != 11:
            short_form = b"btn fr"[c - 8] if c < 32 else <char>c
            text.data[text.used] = 92
            text.data[text.used + 1] = short_form
            text.used += 2
        elif 32 <= c < 127:
            text.data[text.used] = <char>c
            text.used += 1
        elif c < 0x10000:
            json_unit(text, c)
        else:
            json_unit(text, 0xD800 + ((c - 0x10000) >> 10))
            json_unit(text, 0xDC00 + ((c - 0x10000) & 0x3FF))
    return text_add(text, b'"', 1)


cdef inline void json_unit(Text *text, uint32_t unit) noexcept:
    """One unit of UTF-16 by its number; there is room."""
    cdef int i
    text.data[text.used] = 92
    text.data[text.used + 1] = 117
    for i in range(4):
        text.data[text.used + 2 + i] = b"0123456789abcdef"[(unit >> (12 - 4 * i)) & 15]
    text.used += 6


cdef int json_int(Text *text, object value) except -1:
    cdef char digits[24]
    cdef int overflow = 0, at = 24
    cdef long long number = json_number(value, &overflow)
    cdef unsigned long long rest = <unsigned long long>number
    if overflow:
        return 0
    if number < 0:
        rest = 0 - rest
    while True:
        at -= 1
        digits[at] = <char>(48 + rest % 10)
        rest //= 10
        if not rest:
            break
    if number < 0:
        at -= 1
        digits[at] = 45
    text_add(text, digits + at, 24 - at)
    return 1


cdef int json_float(Text *text, double value) except -1:
    cdef char *digits
    if not isfinite(value):
        return 0
    digits = json_digits(value, b'r', 0, JSON_POINT, NULL)
    try:
        text_add(text, digits, <Py_ssize_t>strlen(digits))
    finally:
        PyMem_Free(digits)
    return 1


cdef int json_dict(Text *text, object value, int depth) except -1:
    # Nothing in here runs code of others, nor makes what a collection counts: the dict stays as it is.
    cdef PyObject *key = NULL
    cdef PyObject *item = NULL
    cdef Py_ssize_t at = 0
    cdef const char *between = "{"
    while json_next(value, &at, &key, &item):
        if not str_exact(key) or (json_length(<object>key) == 1 and (<const unsigned char*>json_data(<object>key))[0] == 33):
            return 0  # with the key "!" a dict stands for something else
        text_add(text, between, 1 if between[0] == 123 else 2)
        between = ", "
        json_str(text, <object>key)
        text_add(text, ": ", 2)
        if not json_value(text, <object>item, depth):
            return 0
    text_add(text, "{}" if between[0] == 123 else "}", 2 if between[0] == 123 else 1)
    return 1


cdef int json_list(Text *text, object value, int depth) except -1:
    cdef Py_ssize_t i
    text_add(text, "[", 1)
    for i in range(PySequence_Fast_GET_SIZE(value)):
        if i:
            text_add(text, ", ", 2)
        if not json_value(text, <object>json_item(value, i), depth):
            return 0
    text_add(text, "]", 1)
    return 1


cdef int json_value(Text *text, object value, int depth) except -1:
    """Add a value; 0: it is not for here."""
    kind = type(value)
    if kind is str:
        json_str(text, value)
        return 1
    if kind is int:
        return json_int(text, value)
    if value is None:
        text_add(text, "null", 4)
        return 1
    if kind is bool:
        text_add(text, "true" if value is True else "false", 4 if value is True else 5)
        return 1
    if kind is float:
        return json_float(text, PyFloat_AS_DOUBLE(value))
    if depth == 0:
        return 0
    if kind is dict:
        return json_dict(text, value, depth - 1)
    if kind is list or (text.tuples and kind is tuple):
        return json_list(text, value, depth - 1)
    return 0


def plain_json(value, tuples, /):
    """The text of a value that is made of str, int of 64 bits, finite float, bool, None, lists and dicts with keys of
    str (none of them "!", and of no subclass), with tuples=True of tuples too; None for others. O(size)."""
    cdef char room[JSON_ROOM]
    cdef Text text
    if FREE_THREADED:
        return None  # others might change the dicts and lists under way
    text.data = room
    text.used = 0
    text.room = JSON_ROOM
    text.own = NULL
    text.tuples = tuples
    try:
        if not json_value(&text, value, JSON_DEPTH):
            return None
        return json_text_of(text.data, text.used, NULL)
    finally:
        json_free(text.own)
