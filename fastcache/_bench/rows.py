"""The hot-path questions: what is timed, for whom, and what is aimed at.

Conditions unless a row says otherwise: 10,000 entries, keys in a fixed shuffled order, all of them
looked at in each pass, values that are the keys. "Equal" rows look up with equal keys that are
other objects than those stored; the rest with the very objects, as interned names and ids are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .model import CONTROLS, Program, Row, Target
from .subjects import AWAITS, CALLS, MAPS, ROOMY, CallSyntax, MapSyntax

TTL = 3600
#: Rows of the targets that belong to what is not there yet, and why they are not in the table.
NOT_MEASURED = {
    "sieve, s3fifo, tinylfu, adaptive": "these policies are not there yet",
    "two threads, free-threaded build": "needs a free-threaded build; this package runs on the GIL",
}

_MAP_PEERS = {syntax.subject: syntax for syntax in MAPS}


def _n(subject: str, hits: bool) -> str:
    return "size * 2" if hits and subject in ROOMY else "size"


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def call_setup(syntax: CallSyntax, policy: str, inputs: str, define: str, hits: bool = True) -> str:
    """Return the setup that decorates `f` (defined by `define`, which ends with the function)."""
    wrap = syntax.wrap[policy].format(n=_n(syntax.subject, hits), ttl=TTL)
    return _lines(syntax.imports, inputs, define.replace("DECORATOR", wrap))


def map_setup(syntax: MapSyntax, policy: str, inputs: str, hits: bool = True) -> str:
    """Return the setup that makes `c` and puts each of `stored` into it, value = key."""
    make = syntax.make[policy].format(n=_n(syntax.subject, hits), ttl=TTL)
    return _lines(
        syntax.imports, inputs, f"c = {make}", f"for k in stored:\n    {put(syntax, policy)}"
    )


def put(syntax: MapSyntax, policy: str) -> str:
    """Return the statement that stores `k` with value `k`."""
    template = syntax.ttl_put if policy == "ttl" and syntax.ttl_put else syntax.put
    return template.format(v="k", ttl=TTL)


_FUNCTION = "@DECORATOR\ndef f(x):\n    return object()"
_FUNCTION_TWO = "@DECORATOR\ndef f(x, y=0):\n    return object()"
_FUNCTION_NONE = "@DECORATOR\ndef f():\n    return object()"
_METHOD = "class K:\n    @DECORATOR\n    def m(self, x):\n        return object()\no = K()"
_IDENTITY = "@DECORATOR\ndef f(x):\n    return x"


def _empty(inputs: str, var: str) -> Program:
    return Program("(empty loop)", inputs, "pass", var)


def _hits(
    name: str,
    title: str,
    inputs: str,
    targets: Sequence[Target],
    define: str = _FUNCTION,
    statement: str = "f(k)",
    var: str = "k",
    policy: str = "lru",
    extra: Iterable[Program] = (),
    note: str = "",
) -> Row:
    """A row of decorated calls that all hit, which is checked: the same object comes twice."""
    again = f"[{statement} for {var} in keys]"
    check = f"all(x is y for x, y in zip({again}, {again}))"
    programs = [
        Program(
            syntax.subject, call_setup(syntax, policy, inputs, define), statement, var, check=check
        )
        for syntax in CALLS
        if policy in syntax.wrap
    ]
    return Row(
        name, title, "calls", [*programs, *extra], targets, note=note, empty=_empty(inputs, var)
    )


def _dict_get(inputs: str) -> Program:
    return _map_program(_MAP_PEERS["dict"], "lru", inputs, lambda syntax: syntax.get)


def _map_program(
    syntax: MapSyntax,
    policy: str,
    inputs: str,
    statement: Callable[[MapSyntax], str],
    check: str = "",
    subject: str = "",
    hits: bool = True,
) -> Program:
    setup = map_setup(syntax, policy, inputs, hits)
    return Program(subject or syntax.subject, setup, statement(syntax), check=check)


def _map_row(
    name: str,
    title: str,
    inputs: str,
    targets: Sequence[Target],
    statement: Callable[[MapSyntax], str],
    policy: str = "lru",
    hit: bool = True,
    group: str = "cache",
    hits: bool = True,
    leave_out: tuple[str, ...] = (),
    extra: Iterable[Program] = (),
    note: str = "",
) -> Row:
    """A row of mapping operations. `hit`: every key must be found, which is checked."""
    programs = [
        _map_program(
            syntax,
            policy,
            inputs,
            statement,
            f"all({syntax.held} for k in keys)" if hit else "",
            hits=hits,
        )
        for syntax in MAPS
        if policy in syntax.make and syntax.subject not in leave_out
    ]
    if policy != "lru":
        programs.append(
            _map_program(_MAP_PEERS["fastcache"], "lru", inputs, statement, subject="fastcache:lru")
        )
    return Row(
        name, title, group, [*programs, *extra], targets, note=note, empty=_empty(inputs, "k")
    )


_INTS = "stored = ints(size)\nkeys = shuffled(stored)"
_STRINGS = "stored = strings(size)\nkeys = shuffled(stored)"
_TUPLES = "stored = tuples(size)\nkeys = shuffled(stored)"
_PAIRS = "keys = shuffled(pairs(size))"
_FRESH = "stored = ints(size)\nkeys = shuffled(ints(size * 3, 5_000_000))"
_ABSENT = "stored = ints(size)\nkeys = shuffled(ints(size, 5_000_000))"


def _equal(inputs: str) -> str:
    return inputs.replace("shuffled(stored)", "copies(shuffled(stored))")


def _half(of_functools: float, pgo: float | None = None, dict_too: bool = False) -> list[Target]:
    targets = [Target("functools", of_functools, pgo)]
    if dict_too:
        targets.append(Target("functools", of_functools, pgo, "instructions"))
    return targets


def _cached_rows() -> list[Row]:
    """The same hits of `cached` with a ttl, beside functools, which has none."""
    return [
        _hits(
            f"cached_{name}",
            f"{title} hit, cached(ttl=...)",
            inputs,
            [Target("functools", 0.60), Target("functools", 0.60, metric="instructions")],
            define,
            statement,
            var,
            policy="all",
            note="statistics on; functools: lru_cache, without ttl; peers with a ttl",
        )
        for name, title, inputs, define, statement, var in (
            ("int", "f(int)", _INTS, _FUNCTION, "f(k)", "k"),
            ("str", "f(str)", _STRINGS, _FUNCTION, "f(k)", "k"),
            ("two", "f(a, b)", _PAIRS, _FUNCTION_TWO, "f(a, b)", "a, b"),
            ("keyword", "f(a, k=b)", _PAIRS, _FUNCTION_TWO, "f(a, y=b)", "a, b"),
            ("none", "f()", "keys = ints(size)", _FUNCTION_NONE, "f()", "k"),
            ("method", "o.m(int)", _INTS, _METHOD, "o.m(k)", "k"),
        )
    ]


def _await_program(syntax: CallSyntax, define: str, call: str) -> Program:
    control = syntax.subject in CONTROLS
    setup = _lines(
        "import itertools\nnumber = itertools.count()",
        call_setup(
            syntax, "lru", _INTS, define.replace("BODY", "x" if control else "next(number)")
        ),
        f"async def every():\n    return [await {call} for k in keys]",
    )
    check = "" if control else "run(every()) == run(every())"
    return Program(syntax.subject, setup, f"await {call}", check=check)


def await_rows() -> list[Row]:
    """Async functions that hit."""
    targets = [
        Target(reference, factor, metric=metric)
        for reference, factor in (("async-lru", 0.125), ("uncached", 1.5))
        for metric in ("value", "instructions")
    ]
    note = "in one task; uncached: an async def without decorator that returns at once"
    plain = "DECORATOR\nasync def f(x):\n    return BODY"
    method = "class K:\n    DECORATOR\n    async def m(self, x):\n        return BODY\no = K()"
    return [
        Row(
            name,
            f"await {call.replace('k', 'int')} hit",
            "await",
            [_await_program(syntax, define, call) for syntax in AWAITS],
            targets,
            note=note,
            empty=_empty(_INTS, "k"),
        )
        for name, define, call in (("await_int", plain, "f(k)"), ("await_method", method, "o.m(k)"))
    ]


def call_rows() -> list[Row]:
    """Decorated functions: hits by argument shape, and misses that evict."""
    rows = []
    for kind, inputs in (("int", _INTS), ("str", _STRINGS)):
        for equal in (False, True):
            source = _equal(inputs) if equal else inputs
            rows.append(
                _hits(
                    f"call_{kind}" + ("_equal" if equal else ""),
                    f"f({kind}) hit" + (", equal key" if equal else ""),
                    source,
                    _half(0.45, 0.60, dict_too=True),
                    extra=[_dict_get(source)],
                )
            )
    none = "keys = ints(size)"
    rows += [
        _hits("call_two", "f(a, b) hit", _PAIRS, _half(0.40), _FUNCTION_TWO, "f(a, b)", "a, b"),
        _hits(
            "call_keyword", "f(a, k=b) hit", _PAIRS, _half(0.30), _FUNCTION_TWO, "f(a, y=b)", "a, b"
        ),
        _hits("call_none", "f() hit", none, _half(0.80), _FUNCTION_NONE, "f()"),
        _hits("call_method", "method hit, o.m(int)", _INTS, _half(0.40), _METHOD, "o.m(k)"),
        _hits(
            "call_int_ttl",
            "f(int) hit with a ttl",
            _INTS,
            [],
            policy="ttl",
            note="ttl_cache; peers by their own decorators; no target, being behind a peer counts",
        ),
        *_cached_rows(),
    ]
    misses = [
        Program(
            syntax.subject,
            call_setup(syntax, "lru", _FRESH, _IDENTITY, hits=False),
            "f(k)",
            check="f.cache_info()[0] == 0" if syntax.subject in ("fastcache", "functools") else "",
        )
        for syntax in CALLS
    ]
    rows.append(
        Row(
            "call_miss",
            "miss + evict, trivial f",
            "calls",
            misses,
            _half(0.60),
            note="the function's own time included",
            empty=_empty(_FRESH, "k"),
        )
    )
    return rows


def _functools_set() -> Program:
    setup = _lines("import functools", _FRESH, "f = functools.lru_cache(size)(abs)")
    return Program("functools", setup, "f(k)", check="f.cache_info()[0] == 0")


def cache_rows() -> list[Row]:
    """`Cache` with the lru policy."""
    ahead = Target("cachebox", 1.0)
    as_dict = Target("dict", 1.0, metric="instructions")
    rows = [
        _map_row(
            f"get_{kind}" + ("_equal" if equal else ""),
            f"get({kind}) hit" + (", equal key" if equal else ""),
            _equal(inputs) if equal else inputs,
            [ahead, as_dict],
            lambda syntax: syntax.get,
        )
        for kind, inputs in (("str", _STRINGS), ("int", _INTS), ("tuple", _TUPLES))
        for equal in (False, True)
    ]
    rows += [
        _map_row(
            "get_miss", "get(int) miss", _ABSENT, [Target("dict", 1.0)], lambda s: s.get, hit=False
        ),
        _map_row(
            "overwrite",
            "overwrite, c[int] = v",
            _INTS,
            [Target("lru-dict", 1.0)],
            lambda syntax: put(syntax, "lru"),
        ),
        _map_row(
            "set_evict",
            "set a new int + evict",
            _FRESH,
            [Target("cachebox", 0.85)],
            lambda syntax: put(syntax, "lru"),
            hit=False,
            hits=False,
            leave_out=("dict",),
            extra=[_functools_set()],
            note="functools: a miss of lru_cache(abs)",
        ),
    ]
    return rows


def policy_rows() -> list[Row]:
    """The same operations under `lfu` and `fifo`, and with a ttl."""
    rows = []
    for policy in ("lfu", "fifo"):
        own, peer = Target("fastcache:lru", 1.3), Target("cachebox", 1.0)
        rows += [
            _map_row(
                f"get_{policy}", f"get(int) hit, {policy}", _INTS, [own, peer], lambda s: s.get,
                policy=policy, group="policies",
            ),
            _map_row(
                f"overwrite_{policy}", f"overwrite, {policy}", _INTS, [own, peer],
                lambda s: put(s, "lru"), policy=policy, group="policies",
            ),
            _map_row(
                f"set_evict_{policy}", f"set new + evict, {policy}", _FRESH, [own, peer],
                lambda s: put(s, "lru"), policy=policy, hit=False, hits=False, group="policies",
            ),
        ]  # fmt: skip
    rows += [
        _map_row(
            "get_ttl", "get(int) hit, ttl", _INTS, [Target("fastcache:lru", 1.15)],
            lambda s: s.get, policy="ttl", group="policies",
        ),
        _map_row(
            "set_evict_ttl", "set new + evict, ttl", _FRESH, [Target("fastcache:lru", 1.3)],
            lambda s: put(s, "ttl"), policy="ttl", hit=False, hits=False, group="policies",
        ),
    ]  # fmt: skip
    return rows


_BATCHES = _lines(
    "stored = ints(size)",
    "order = shuffled(stored)",
    "keys = [order[i:i + 1000] for i in range(0, size - size % 1000, 1000)]",
)
_ARRAYS = _lines(_BATCHES, "import numpy", "keys = [numpy.array(b, numpy.int64) for b in keys]")


def _bulk(name: str, title: str, inputs: str, statement: str) -> Row:
    us = _MAP_PEERS["fastcache"]
    programs = [
        Program(
            "fastcache",
            map_setup(us, "lru", inputs),
            statement,
            "batch",
            ops=1000,
            check="all(c.get_many(b) == list(b) for b in keys)",
        )
    ]
    for syntax in MAPS:
        own = syntax.subject == "fastcache"
        get = syntax.get.replace("c.get", "get")
        programs.append(
            Program(
                "fastcache:loop" if own else syntax.subject,
                map_setup(syntax, "lru", _BATCHES) + "\nget = c.get",
                f"[{get} for k in batch]",
                "batch",
                ops=1000,
            )
        )
    return Row(
        name,
        title,
        "bulk",
        programs,
        [Target("fastcache:loop", 0.40)],
        note="everybody else: [get(k) for k in batch] over a list of ints; ns per key",
        empty=_empty(inputs, "batch"),
    )


def bulk_rows() -> list[Row]:
    """Many keys in one call, and an empty cache made and dropped."""
    some = "keys = ints(200)"
    makes = [
        Program(syntax.subject, _lines(syntax.imports, some), syntax.make["lru"].format(n=1000))
        for syntax in MAPS
        if syntax.subject != "theine"
    ]
    makes.append(
        Program("functools", _lines("import functools", some), "functools.lru_cache(1000)(abs)")
    )
    return [
        _bulk("get_many_list", "get_many of 1,000, list", _BATCHES, "c.get_many(batch)"),
        _bulk("get_many_array", "get_many of 1,000, int64 array", _ARRAYS, "c.get_many(batch)"),
        Row(
            "make_drop",
            "make and drop an empty cache",
            "bulk",
            makes,
            [Target("", 1000)],
            note="theine left out: each of its caches registers with a maintenance thread",
            empty=_empty(some, "k"),
        ),
    ]


_ZIPF = "stored = []\nkeys = zipf(200_000, 100_000)"
_WORDS = "keys = stdlib_words(200_000)"


def real_rows() -> list[Row]:
    """Skewed requests that miss now and then, and real words memoised by a real function."""
    zipf = [
        Program(syntax.subject, map_setup(syntax, "lru", _ZIPF, hits=False), syntax.read_through)
        for syntax in MAPS
        if syntax.subject != "dict"
    ]
    box = _MAP_PEERS["cachebox"]
    zipf.append(
        Program("cachebox:fifo", map_setup(box, "fifo", _ZIPF, hits=False), box.read_through)
    )
    zipf += [
        Program(
            "fastcache:lru_cache" if syntax.subject == "fastcache" else syntax.subject,
            call_setup(syntax, "lru", _ZIPF, _IDENTITY, hits=False),
            "f(k)",
        )
        for syntax in CALLS
        if syntax.subject in ("fastcache", "functools")
    ]
    stemmer = "@DECORATOR\ndef f(word):\n    return stem(word)"
    words = [
        Program(
            syntax.subject, call_setup(syntax, "lru", "size = 4096\n" + _WORDS, stemmer), "f(k)"
        )
        for syntax in CALLS
    ]
    words.append(Program("uncached", _WORDS, "stem(k)"))
    return [
        Row(
            "zipf",
            "Zipf read-through",
            "real",
            zipf,
            [Target("cachebox", 0.8)],
            note="200,000 requests over 100,000 keys, exponent 1, 10,000 entries: get, and set "
            "after a miss (functools: a call); 0.8 of the time is 1.25 of the operations",
            empty=_empty(_ZIPF, "k"),
            counted=False,
        ),
        Row(
            "words",
            "words of the standard library, stemmed",
            "real",
            words,
            [],
            note="200,000 words of the standard library's sources through a Porter-like stemmer, "
            "4,096 entries; every occurrence is a str object of its own; misses included",
            empty=_empty(_WORDS, "k"),
            counted=False,
        ),
    ]


def loop_rows() -> list[Row]:
    """Return every row that is a timed loop, in the order of the report."""
    return [
        *call_rows(), *await_rows(), *cache_rows(), *policy_rows(), *bulk_rows(), *real_rows(),
    ]  # fmt: skip
