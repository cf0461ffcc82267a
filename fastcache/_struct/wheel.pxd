"""Hierarchical timing wheel: which entries to look at, and when.

Layout. Time in ticks of 2**20 ns (about a millisecond); eight levels of 64 lists. An entry due at
tick T is on the level of the highest 6-bit digit in which T differs from the wheel's current
tick, in the list of that digit of T: so the lowest level in use holds what comes first, and a
bit map per level finds its list. Two lists stand beside: `pending`, what the passing of time has
brought up and no call has looked at yet, and `soon`, what is due within the current tick (or
found no memory for its level); it comes up when the first of its entries is due.
Lists are linked through Timing.prev/next; their ends hold the list's own number (>= LISTS), so
that an entry leaves its list in O(1) without knowing which it is. A level's lists are made when
an entry first needs them.

The wheel is a hint, never the truth: an entry is dead when its deadline says so, wherever it
lies; a deadline that has moved later leaves the entry where it is, to be scheduled anew when it
comes up. What is dead is found, though, without being touched.

Invariants. Every entry with a finite deadline is in exactly one list. `due` is never later than
the time at which the first list comes up.

Cost. schedule, cancel: O(1). advance: at most 512 list splices however far time jumps, no entry
touched. pop: one entry per step, and the caller bounds the steps: a million entries that expire
at once burden no single call.

Source: Varghese & Lauck 1987, "Hashed and hierarchical timing wheels".
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastcache._struct.entry cimport LISTS, NEVER, NIL, Timing, clz64, ctz64, unlikely
from fastcache._struct.mem cimport mem_free, mem_zeroed
from fastcache._struct.slab cimport Slab, slab_timing

cdef extern from *:
    """
    #define FC_TICK_BITS 20
    #define FC_LEVELS 8
    #define FC_PENDING (FC_LISTS + 512u)
    #define FC_SOON (FC_LISTS + 513u)
    """
    const int TICK_BITS "FC_TICK_BITS"
    const int LEVELS "FC_LEVELS"
    const uint32_t PENDING "FC_PENDING"
    const uint32_t SOON "FC_SOON"


cdef struct TimeList:
    uint32_t head
    uint32_t tail


cdef struct Wheel:
    uint64_t now            # the tick up to which lists have come up
    int64_t due             # ns: before it there is nothing to do
    int64_t soonest         # ns: not later than the first deadline in `soon`
    uint64_t used[8]        # a bit for each list that is not empty
    TimeList *levels[8]
    TimeList pending
    TimeList soon
    size_t nbytes


cdef inline void wheel_init(Wheel *w) noexcept:
    memset(w, 0, sizeof(Wheel))
    w.due = w.soonest = NEVER


cdef inline uint64_t wheel_tick(int64_t ns) noexcept nogil:
    # the sign bit flipped, so that times before 0 keep their order
    return (<uint64_t>ns ^ (<uint64_t>1 << 63)) >> TICK_BITS


cdef inline int64_t wheel_ns(uint64_t tick) noexcept nogil:
    return <int64_t>((tick << TICK_BITS) ^ (<uint64_t>1 << 63))


cdef inline TimeList* wheel_list(Wheel *w, uint32_t number) noexcept nogil:
    cdef uint32_t i = number - LISTS
    if number == PENDING:
        return &w.pending
    if number == SOON:
        return &w.soon
    return &w.levels[i >> 6][i & 63]


cdef inline int wheel_level(const Wheel *w, uint64_t tick) noexcept nogil:
    """-1: due within the current tick or earlier."""
    return -1 if tick <= w.now else (63 - clz64(tick ^ w.now)) // 6


cdef inline bint wheel_idle(const Wheel *w) noexcept nogil:
    cdef int l
    for l in range(LEVELS):
        if w.used[l]:
            return False
    return w.pending.head == NIL and w.soon.head == NIL


cdef inline void wheel_append(Wheel *w, const Slab *s, uint32_t number, uint32_t e, Timing *t) noexcept nogil:
    cdef TimeList *q = wheel_list(w, number)
    t.next = number
    if q.tail != NIL:
        t.prev = q.tail
        slab_timing(s, q.tail).next = e
    else:
        t.prev = number
        q.head = e
    q.tail = e


cdef inline bint wheel_has(Wheel *w, int level) noexcept:
    """Whether the level has its lists; they are made now if need be."""
    if w.levels[level] == NULL:
        w.levels[level] = <TimeList*>mem_zeroed(&w.nbytes, 64 * sizeof(TimeList))
    return w.levels[level] != NULL


cdef inline void wheel_schedule(Wheel *w, const Slab *s, uint32_t e, int64_t deadline, int64_t now) noexcept:
    """Entry e, in no list yet, comes up at `deadline`. Cannot fail: where there is no memory for a
    level, the entry waits in `soon`."""
    cdef Timing *t = slab_timing(s, e)
    cdef uint64_t tick = wheel_tick(deadline), slot
    cdef int l, shift
    cdef int64_t up = deadline
    if unlikely(wheel_tick(now) > w.now) and wheel_idle(w):
        w.now = wheel_tick(now)     # nothing lies in between, so time may jump
    l = wheel_level(w, tick)
    if l < 0 or not wheel_has(w, l):
        wheel_append(w, s, SOON, e, t)
        if deadline < w.soonest:
            w.soonest = deadline
    else:
        shift = 6 * l
        slot = (tick >> shift) & 63
        wheel_append(w, s, LISTS + <uint32_t>(l << 6) + <uint32_t>slot, e, t)
        w.used[l] |= <uint64_t>1 << slot
        up = wheel_ns(tick >> shift << shift)
    if up < w.due:
        w.due = up


cdef inline void wheel_cancel(Wheel *w, const Slab *s, uint32_t e) noexcept nogil:
    """Entry e leaves its list, if it is in one."""
    cdef Timing *t = slab_timing(s, e)
    cdef uint32_t prev = t.prev, next = t.next
    if prev == NIL:
        return
    t.prev = t.next = NIL
    if prev >= LISTS:
        wheel_list(w, prev).head = next if next < LISTS else NIL
    else:
        slab_timing(s, prev).next = next
    if next >= LISTS:
        wheel_list(w, next).tail = prev if prev < LISTS else NIL
        if prev >= LISTS and prev < PENDING:
            prev -= LISTS
            w.used[prev >> 6] &= ~(<uint64_t>1 << (prev & 63))
    else:
        slab_timing(s, next).prev = prev


cdef inline void wheel_bring_up(Wheel *w, const Slab *s, TimeList *q) noexcept nogil:
    """The whole list q goes to the end of `pending`."""
    if q.head == NIL:
        return
    slab_timing(s, q.tail).next = PENDING
    if w.pending.tail != NIL:
        slab_timing(s, w.pending.tail).next = q.head
        slab_timing(s, q.head).prev = w.pending.tail
    else:
        w.pending.head = q.head
        slab_timing(s, q.head).prev = PENDING
    w.pending.tail = q.tail
    q.head = q.tail = NIL


cdef inline uint64_t wheel_first(const Wheel *w, int *level) noexcept nogil:
    """The tick at which the first list comes up; *level = -1 when there is none."""
    cdef int l, shift
    for l in range(LEVELS):
        if w.used[l]:
            level[0] = l
            shift = 6 * l
            return (w.now >> (shift + 6) << (shift + 6)) | (<uint64_t>ctz64(w.used[l]) << shift)
    level[0] = -1
    return 0


cdef inline void wheel_settle(Wheel *w) noexcept nogil:
    """Find out when there will be something to do."""
    cdef int l
    cdef uint64_t tick
    cdef int64_t up
    if w.pending.head != NIL:
        w.due = INT64_MIN
        return
    tick = wheel_first(w, &l)
    w.due = w.soonest if w.soon.head != NIL else NEVER
    if l >= 0:
        up = wheel_ns(tick)
        if up < w.due:
            w.due = up


cdef inline void wheel_advance(Wheel *w, const Slab *s, int64_t now) noexcept nogil:
    """Bring up all lists that are due. A clock that went back brings up nothing new."""
    cdef uint64_t tick, target = wheel_tick(now), slot
    cdef int l
    while True:
        tick = wheel_first(w, &l)
        if l < 0 or tick > target:
            break
        w.now = tick
        slot = ctz64(w.used[l])
        w.used[l] &= w.used[l] - 1
        wheel_bring_up(w, s, &w.levels[l][slot])
    if target > w.now:
        w.now = target
    if w.soon.head != NIL and now >= w.soonest:
        wheel_bring_up(w, s, &w.soon)
        w.soonest = NEVER


cdef inline uint32_t wheel_pop(Wheel *w, const Slab *s, int64_t now, int *steps) noexcept:
    """A dead entry from `pending`, still linked, or NIL. Those that are not dead are scheduled
    anew. Takes at most *steps steps, and counts them off."""
    cdef uint32_t e
    cdef Timing *t
    while steps[0] > 0:
        e = w.pending.head
        if e == NIL:
            return NIL
        steps[0] -= 1
        t = slab_timing(s, e)
        if now >= t.deadline:
            return e
        wheel_cancel(w, s, e)
        if t.deadline != NEVER:
            wheel_schedule(w, s, e, t.deadline, now)
    return NIL


cdef inline void wheel_free(Wheel *w) noexcept:
    cdef int l
    for l in range(LEVELS):
        mem_free(&w.nbytes, w.levels[l], 64 * sizeof(TimeList))
    wheel_init(w)
