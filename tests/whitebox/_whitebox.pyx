"""The L0 structures as Python classes, one wrapper each, thin: the tests do the thinking.

Nothing here guards against misuse that the engine is held to avoid (a take without a reserve).
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastcache._core cimport Cache
from fastcache._struct cimport entry as entries
from fastcache._struct cimport slab as slabs
from fastcache._struct cimport wheel as wheels
from fastcache._struct.entry cimport NIL, Detail, Entry, Extra, Timing
from fastcache._struct.lfu cimport lfu_nbytes, lfu_reserve
from fastcache._struct.mem cimport mem_alloc, mem_free, mem_grow, mem_zeroed
from fastcache._struct.policy cimport (
    Policy, policy_after, policy_before, policy_count, policy_free, policy_hit, policy_hottest,
    policy_init, policy_insert, policy_remove, policy_reserve, policy_restore, policy_victim,
    policy_wants_aux,
)
from fastcache._struct.slab cimport (
    Slab, slab_detail, slab_end, slab_entry, slab_extra, slab_free, slab_full, slab_init,
    slab_need, slab_next, slab_release, slab_reserve, slab_take, slab_timing, slab_walk,
)
from fastcache._struct.table cimport (
    Segment, Table, table_erase, table_free, table_init, table_insert, table_reserve, table_room,
    table_segment,
)
from fastcache._struct.tags cimport (
    Tags, tags_attach, tags_detach, tags_drop_record, tags_free, tags_free_nodes, tags_init,
    tags_invalidate, tags_is_dead, tags_new_record, tags_reserve_nodes, tags_reserve_record,
    tags_take_unused,
)
from fastcache._struct.wheel cimport (
    Wheel, wheel_advance, wheel_cancel, wheel_free, wheel_init, wheel_pop, wheel_schedule,
    wheel_settle, wheel_tick,
)

CHUNK = slabs.CHUNK
TICK_NS = 1 << wheels.TICK_BITS
NEVER = entries.NEVER
MAX_ENTRIES = entries.MAX_ENTRIES
TIMING, EXTRA, DETAIL = slabs.TIMING, slabs.EXTRA, slabs.DETAIL


def entry_limit(Cache cache):
    """The highest entry number that `cache` may give out."""
    return cache.slab.limit


def set_entry_limit(Cache cache, uint32_t limit):
    """Stand in for 2**32 entries."""
    cache.slab.limit = limit


cdef class Memory:
    """One accounted block at a time."""

    cdef size_t account
    cdef void *block
    cdef size_t size

    @property
    def nbytes(self):
        return self.account

    def alloc(self, size_t size):
        self.block, self.size = mem_alloc(&self.account, size), size

    def zeroed(self, size_t size):
        cdef size_t i
        self.block, self.size = mem_zeroed(&self.account, size), size
        return all((<char*>self.block)[i] == 0 for i in range(size))

    def grow(self, size_t size):
        self.block, self.size = mem_grow(&self.account, self.block, self.size, size), size

    def free(self):
        mem_free(&self.account, self.block, self.size)
        self.block, self.size = NULL, 0


cdef class TestTable:
    """The index, driven by (tag, entry number) pairs."""

    __test__ = False
    cdef Table t

    def __cinit__(self):
        table_init(&self.t)
        self.t.version = 0

    def __dealloc__(self):
        table_free(&self.t)

    def insert(self, uint32_t tag, uint32_t e):
        if not table_reserve(&self.t, tag):
            raise MemoryError
        table_insert(&self.t, tag, e)

    def erase(self, uint32_t tag, uint32_t e):
        table_erase(&self.t, tag, e)

    def probes(self, uint32_t tag, uint32_t e):
        """How many cells a find of the pair reads; 0: not there."""
        cdef Segment *s = table_segment(&self.t, tag)
        cdef uint32_t i = tag & s.mask
        cdef uint64_t want = <uint64_t>tag << 32 | e
        cdef int n = 1
        while s.cells[i]:
            if s.cells[i] == want:
                return n
            i = (i + 1) & s.mask
            n += 1
        return 0

    def churn(self, uint32_t live, uint64_t cycles, uint64_t seed):
        """`live` random pairs, then `cycles` times the oldest out and a new one in. The pairs are
        those of the last `live` draws of the returned state: entry i+1 has tag draw(seed, i)."""
        cdef uint64_t i
        for i in range(live + cycles):
            if i >= live:
                table_erase(&self.t, draw(seed, i - live), number(i - live, live))
            if not table_reserve(&self.t, draw(seed, i)):
                raise MemoryError
            table_insert(&self.t, draw(seed, i), number(i, live))
        return self.mean_probes()

    def mean_probes(self):
        """The mean number of cells that finding each pair reads."""
        cdef uint64_t d, i, total = 0, n = 0
        cdef Segment s
        d = 0
        while d < (<uint64_t>1 << self.t.bits):
            s = self.t.dir[d]
            for i in range(<uint64_t>s.mask + 1):
                if s.cells[i]:
                    total += ((i - (s.cells[i] >> 32)) & s.mask) + 1
                    n += 1
            d += <uint64_t>1 << (self.t.bits - s.depth)
        return total / n if n else 0.0

    def segments(self):
        """(directory index, depth, cells, in use) of each segment; the structure is asserted."""
        cdef uint64_t d = 0, k, i, used
        cdef Segment s
        found = []
        while d < (<uint64_t>1 << self.t.bits):
            s = self.t.dir[d]
            assert s.depth <= self.t.bits
            assert d % (<uint64_t>1 << (self.t.bits - s.depth)) == 0
            for k in range(<uint64_t>1 << (self.t.bits - s.depth)):
                assert self.t.dir[d + k].cells == s.cells
                assert self.t.dir[d + k].mask == s.mask and self.t.dir[d + k].depth == s.depth
            used = 0
            for i in range(<uint64_t>s.mask + 1):
                if s.cells[i]:
                    used += 1
                    assert table_segment(&self.t, <uint32_t>(s.cells[i] >> 32)).cells == s.cells
                    k = (s.cells[i] >> 32) & s.mask
                    while k != i:       # no hole between home and place
                        assert s.cells[k]
                        k = (k + 1) & s.mask
            assert used == s.cells[-1]
            assert used <= table_room(s.mask)
            found.append((d, s.depth, s.mask + 1, used))
            d += <uint64_t>1 << (self.t.bits - s.depth)
        return found

    @property
    def nbytes(self):
        return self.t.nbytes

    @property
    def version(self):
        return self.t.version

    @property
    def bits(self):
        return self.t.bits

    def free(self):
        table_free(&self.t)


cdef inline uint32_t number(uint64_t i, uint32_t live) noexcept:
    return <uint32_t>(i % live) + 1


cdef inline uint32_t draw(uint64_t seed, uint64_t i) noexcept:
    """splitmix64, upper half: tags as good as random, without a table of them."""
    cdef uint64_t z = seed + (i + 1) * <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return <uint32_t>((z ^ (z >> 31)) >> 32)


cdef class TestSlab:
    """Entries by number. A live entry gets this object as its (borrowed) key."""

    __test__ = False
    cdef Slab s
    cdef bint with_aux

    def __cinit__(self, bint with_aux=False):
        slab_init(&self.s)
        self.with_aux = with_aux

    def __dealloc__(self):
        slab_free(&self.s)

    def take(self):
        if slab_full(&self.s):
            raise OverflowError
        if not slab_reserve(&self.s, self.with_aux):
            raise MemoryError
        cdef uint32_t expected = slab_next(&self.s), e = slab_take(&self.s)
        assert e == expected
        slab_entry(&self.s, e).key = <PyObject*>self
        return e

    def release(self, uint32_t e):
        slab_release(&self.s, e)

    def address(self, uint32_t e):
        return <size_t>slab_entry(&self.s, e)

    def need(self, uint32_t e, int kind):
        if not slab_need(&self.s, e, kind):
            raise MemoryError

    def set_deadline(self, uint32_t e, int64_t deadline):
        slab_timing(&self.s, e).deadline = deadline

    def deadline(self, uint32_t e):
        cdef Timing *t = slab_timing(&self.s, e)
        return t.deadline if t != NULL else None

    def weight(self, uint32_t e):
        cdef Extra *x = slab_extra(&self.s, e)
        return (x.weight, x.idle, x.hard, x.tags) if x != NULL else None

    def has_detail(self, uint32_t e):
        return slab_detail(&self.s, e) != NULL

    def walk(self):
        found = []
        cdef uint32_t e = slab_walk(&self.s, 1)
        while e != NIL:
            found.append(e)
            e = slab_walk(&self.s, e + 1)
        return found

    def free(self):
        slab_free(&self.s)

    @property
    def nbytes(self):
        return self.s.nbytes

    @property
    def nchunks(self):
        return self.s.nchunks

    @property
    def end(self):
        return slab_end(&self.s)

    @property
    def limit(self):
        return self.s.limit

    @limit.setter
    def limit(self, uint32_t limit):
        self.s.limit = limit


cdef class TestPolicy:
    """A policy over a slab of its own."""

    __test__ = False
    cdef TestSlab slab
    cdef Policy p

    def __cinit__(self, int kind):
        self.slab = TestSlab(policy_wants_aux(kind))
        policy_init(&self.p, kind)

    def __dealloc__(self):
        policy_free(&self.p)

    def insert(self):
        if not policy_reserve(&self.p):
            raise MemoryError
        cdef uint32_t e = self.slab.take()
        policy_insert(&self.p, &self.slab.s, e)
        return e

    def restore(self, uint64_t count):
        if not policy_reserve(&self.p):
            raise MemoryError
        cdef uint32_t e = self.slab.take()
        policy_restore(&self.p, &self.slab.s, e, count)
        return e

    def hit(self, uint32_t e):
        policy_hit(&self.p, &self.slab.s, e)

    def remove(self, uint32_t e):
        policy_remove(&self.p, &self.slab.s, e)
        self.slab.release(e)

    def victim(self):
        return policy_victim(&self.p)

    def count(self, uint32_t e):
        return policy_count(&self.p, &self.slab.s, e)

    def coldest(self):
        found = []
        cdef uint32_t e = policy_victim(&self.p)
        while e != NIL:
            found.append(e)
            e = policy_after(&self.p, &self.slab.s, e)
        return found

    def hottest(self):
        found = []
        cdef uint32_t e = policy_hottest(&self.p)
        while e != NIL:
            found.append(e)
            e = policy_before(&self.p, &self.slab.s, e)
        return found

    @property
    def lfu_nbytes(self):
        return lfu_nbytes(&self.p.lfu)

    def buckets(self):
        """The counts in use, in the order of their list."""
        found = []
        cdef uint32_t before = 0, b
        if self.p.lfu.buckets == NULL:
            return found
        b = self.p.lfu.buckets[0].next
        while b:
            assert self.p.lfu.buckets[b].prev == before
            assert self.p.lfu.buckets[b].queue.head != NIL
            found.append(self.p.lfu.buckets[b].count)
            before = b
            b = self.p.lfu.buckets[b].next
        assert self.p.lfu.buckets[0].prev == before
        return found


cdef class TestWheel:
    """The timing wheel over a slab of its own; times are nanoseconds."""

    __test__ = False
    cdef TestSlab slab
    cdef Wheel w

    def __cinit__(self):
        self.slab = TestSlab()
        wheel_init(&self.w)

    def __dealloc__(self):
        wheel_free(&self.w)

    def add(self, int64_t deadline, int64_t now):
        cdef uint32_t e = self.slab.take()
        self.slab.need(e, slabs.TIMING)
        self.schedule(e, deadline, now)
        return e

    def schedule(self, uint32_t e, int64_t deadline, int64_t now):
        self.slab.set_deadline(e, deadline)
        wheel_schedule(&self.w, &self.slab.s, e, deadline, now)

    def postpone(self, uint32_t e, int64_t deadline):
        """As a hit does under time-to-idle: the entry stays in the list where it is."""
        self.slab.set_deadline(e, deadline)

    def cancel(self, uint32_t e):
        wheel_cancel(&self.w, &self.slab.s, e)
        self.slab.release(e)

    def advance(self, int64_t now):
        wheel_advance(&self.w, &self.slab.s, now)
        wheel_settle(&self.w)

    def pop(self, int64_t now, int steps):
        """(a dead entry, now out of the wheel, or 0; the steps that were left)."""
        cdef uint32_t e = wheel_pop(&self.w, &self.slab.s, now, &steps)
        if e != NIL:
            wheel_cancel(&self.w, &self.slab.s, e)
        wheel_settle(&self.w)
        return e, steps

    def reap(self, int64_t now):
        """All that is dead at `now`."""
        cdef uint32_t e
        cdef int steps
        found = []
        wheel_advance(&self.w, &self.slab.s, now)
        while True:
            steps = 1 << 30
            e = wheel_pop(&self.w, &self.slab.s, now, &steps)
            if e == NIL:
                break
            wheel_cancel(&self.w, &self.slab.s, e)
            self.slab.release(e)
            found.append(e)
        wheel_settle(&self.w)
        return found

    def held(self):
        """How many entries are in a list; links and bit maps are asserted."""
        cdef uint32_t n = 0, e, last, l, i
        lists = []
        for l in range(8):
            for i in range(64):
                if self.w.levels[l] == NULL:
                    assert not self.w.used[l]
                    continue
                head = self.w.levels[l][i].head
                assert bool((self.w.used[l] >> i) & 1) == (head != NIL), (l, i)
                lists.append((entries.LISTS + 64 * l + i, head, self.w.levels[l][i].tail))
        lists.append((wheels.PENDING, self.w.pending.head, self.w.pending.tail))
        lists.append((wheels.SOON, self.w.soon.head, self.w.soon.tail))
        for name, head, tail in lists:
            if head == NIL:
                assert tail == NIL
                continue
            last, e = name, head
            while e < entries.LISTS:
                n += 1
                assert slab_timing(&self.slab.s, e).prev == last
                last, e = e, slab_timing(&self.slab.s, e).next
            assert e == name and last == tail
        return n

    @property
    def due(self):
        return self.w.due

    @property
    def nbytes(self):
        return self.w.nbytes


def tick(int64_t ns):
    return wheel_tick(ns)


cdef class TestTags:
    """Tag records and the nodes of entries. The chain of an entry starts in a list kept here."""

    __test__ = False
    cdef Tags t
    cdef dict first

    def __cinit__(self):
        tags_init(&self.t)
        self.first = {}

    def __dealloc__(self):
        tags_free(&self.t)

    def record(self):
        if not tags_reserve_record(&self.t):
            raise MemoryError
        return tags_new_record(&self.t, <PyObject*>self)

    def attach(self, uint32_t e, records, sequence=None):
        cdef uint32_t first = 0
        if not tags_reserve_nodes(&self.t, len(records)):
            raise MemoryError
        for r in records:
            tags_attach(&self.t, &first, e, r, self.t.sequence if sequence is None else sequence)
        self.first[e] = first

    def detach(self, uint32_t e):
        cdef uint32_t first = self.first.pop(e)
        tags_detach(&self.t, &first)
        assert first == 0

    def is_dead(self, uint32_t e):
        return tags_is_dead(&self.t, self.first[e])

    def invalidate(self, uint32_t r):
        return tags_invalidate(&self.t, r)

    def take_unused(self):
        """The records that nothing uses any more, dropped."""
        found = []
        cdef uint32_t r = tags_take_unused(&self.t)
        while r:
            tags_drop_record(&self.t, r)
            found.append(r)
            r = tags_take_unused(&self.t)
        return found

    def refs(self, uint32_t r):
        return self.t.records[r].refs

    def dead_entries(self):
        found = []
        cdef uint32_t n = self.t.dead_head, before = 0
        while n:
            assert self.t.nodes[n].prev == before
            found.append(self.t.nodes[n].entry)
            before = n
            n = self.t.nodes[n].next
        assert self.t.dead_tail == before
        return found

    def entries_of(self, uint32_t r):
        found = []
        cdef uint32_t n = self.t.records[r].head, before = 0
        while n:
            assert self.t.nodes[n].prev == before and self.t.nodes[n].record == r
            found.append(self.t.nodes[n].entry)
            before = n
            n = self.t.nodes[n].next
        assert self.t.records[r].tail == before
        return found

    def free_nodes(self):
        tags_free_nodes(&self.t)
        self.first.clear()

    @property
    def nodes_used(self):
        return self.t.nodes_used

    @property
    def sequence(self):
        return self.t.sequence

    @property
    def nbytes(self):
        return self.t.nbytes

    def free(self):
        tags_free(&self.t)
