"""Names of keys in L2: injective up to Python's equality, the same in every process, and decodable."""

from __future__ import annotations

import enum
import random
import re
import string
import sys
import types
import unicodedata
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from _support import run_python, shown
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastcache
from fastcache import _core, _keys
from fastcache._keys import decoding, encoding

NAME = re.compile(r"[A-Za-z0-9_.-]{0,40}:[0-9a-f]{32}")
PARIS = ZoneInfo("Europe/Paris")


class Point(NamedTuple):
    x: int
    y: int


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Mixed(str, enum.Enum):  # noqa: UP042  # the older form
    A = "a"


class Plain(enum.Enum):
    A = 1


class Text(str):
    """Equal to its base, but shows itself otherwise, and would encode otherwise."""

    def __str__(self) -> str:
        return "shown"

    def encode(self, *_: Any) -> bytes:
        raise AssertionError("the key's own code was run")


class CaseBlind(str):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Outer:
    class Inner:
        pass


# ---- equal keys, one encoding ------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        (1, True, 1.0, Decimal(1), Decimal("1.000"), Fraction(1), 1 + 0j, Number.ONE),
        (0, False, 0.0, -0.0, Decimal("-0"), Decimal("0E+999999999"), 0j, -0j),
        (0.5, Decimal("0.5"), Decimal("0.50"), Fraction(1, 2), 0.5 + 0j),
        (Decimal("0.1"), Decimal("0.10"), Fraction(1, 10)),
        (2**63, float(2**63), Decimal(2**63)),
        (2**64, float(2**64), Fraction(2**64)),
        (10**400, Decimal("1E+400")),
        (float("inf"), Decimal("inf"), complex("inf")),
        (float("-inf"), Decimal("-inf")),
        (5e-324, Fraction(5e-324), Decimal.from_float(5e-324)),
        ("a", Word.A, Mixed.A, Text("a")),
        ((1, 2), Point(1, 2), Point(True, 2.0), fastcache.CallKey((1, 2))),
        (frozenset({1, "a"}), frozenset(["a", 1.0])),
        (
            datetime(2024, 1, 1, 12, tzinfo=UTC),
            datetime(2024, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
            datetime(2024, 1, 1, 13, tzinfo=PARIS),
        ),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, fold=1)),
        (time(12, tzinfo=UTC), time(13, tzinfo=timezone(timedelta(hours=1)))),
        (time(12), time(12, fold=1)),
        (timedelta(days=1), timedelta(hours=24)),
    ],
    ids=lambda keys: shown(keys[0])[:30],
)
def test_equal_keys_have_one_encoding(keys: tuple[Any, ...]) -> None:
    assert all(key == keys[0] for key in keys)
    assert len({_keys.encode(key) for key in keys}) == 1
    assert len({_keys.name(key) for key in keys}) == 1
    assert len({_keys.encode((key,)) for key in keys}) == 1
    assert _keys.decode(_keys.encode(keys[-1])) == keys[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        ("1", b"1"),
        (None, "None"),
        ("", b""),
        ((), frozenset()),
        ((1,), 1),
        (("a", "b"), ("ab",)),
        ((("a",), "b"), (("a", "b"),)),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud800", "?"),
        (0.1, Decimal("0.1")),
        (2**53, 2**53 + 1),
        (float(2**53), 2**53 + 1),
        (datetime(2024, 1, 1), date(2024, 1, 1)),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
        (time(12), time(12, tzinfo=UTC)),
        (time(0, 30, tzinfo=timezone(timedelta(hours=1))), time(23, 30, tzinfo=UTC)),
        (timedelta(1), 86_400),
        (int, "int"),
        (UUID(int=5), 5),
        (1j, 1),
        (-1, -2),  # one hash
        (float("inf"), float("-inf")),
    ],
)
def test_unequal_keys_differ(one: Any, other: Any) -> None:
    assert one != other
    assert _keys.encode(one) != _keys.encode(other)
    assert _keys.name(one) != _keys.name(other)


# ---- any keys ------------------------------------------------------------------------------------

fixed_zones = st.integers(-86_399, 86_399).map(lambda s: timezone(timedelta(seconds=s)))
texts = st.text(st.characters(codec=None), max_size=8)
_atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from([0.5, 1.0, 2.0**64]),
    st.decimals(allow_nan=False, allow_infinity=True, places=2),
    st.fractions(max_denominator=8),
    st.complex_numbers(allow_nan=False),
    texts,
    st.binary(max_size=8),
    st.uuids(),
    st.datetimes(),
    st.datetimes(timezones=st.one_of(st.just(UTC), fixed_zones)),
    st.dates(),
    st.times(),
    st.times(timezones=fixed_zones),
    st.timedeltas(),
    st.sampled_from([int, str, type(None), Point, Outer.Inner, types.FunctionType]),
    st.sampled_from([Number.ONE, Word.A, Text("b")]),
)


@st.composite
def atoms(draw: st.DrawFn) -> Any:  # a function, since the repr of what it draws from is very long
    return draw(_atoms)


keys = st.recursive(
    atoms(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.frozensets(inner, max_size=3),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
    ),
    max_leaves=8,
)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(keys)
def test_a_key_comes_back_equal(key: Any) -> None:
    data = _keys.encode(key)
    back = _keys.decode(data)
    assert back == key
    assert hash(back) == hash(key)
    assert _keys.encode(back) == data
    assert _keys.name(key) == _keys.name_of_encoded(data)
    assert NAME.fullmatch(_keys.name(key))


# Two keys that are close to each other, so that some are equal and most nearly so.
close = st.one_of(
    st.tuples(keys, keys),
    st.integers(-(2**65), 2**65).flatmap(
        lambda n: st.tuples(
            *[st.sampled_from([n, n + 1, float(n), Decimal(n), Fraction(n), complex(n), str(n)])]
            * 2
        )
    ),
    st.floats(allow_nan=False, allow_infinity=False).flatmap(
        lambda f: st.tuples(
            *[st.sampled_from([f, -f, Decimal(f), Fraction(f), complex(f), complex(f, f)])] * 2
        )
    ),
    st.tuples(
        *[st.lists(st.sampled_from(["", "a", b"a", "as", (), ("a",)]), max_size=3).map(tuple)] * 2
    ),
    st.tuples(*[st.text("ab{}: \r\n\0\ud800é", max_size=3)] * 2),
    st.tuples(
        *[st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2), timezones=fixed_zones)] * 2
    ),
    st.tuples(*[st.times(timezones=st.sampled_from([UTC, timezone(timedelta(hours=1))]))] * 2),
)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(close)
@example((Decimal(2**53 + 1), float(2**53)))
def test_two_keys_share_an_encoding_if_they_are_equal(pair: tuple[Any, Any]) -> None:
    one, other = pair
    assert (_keys.encode(one) == _keys.encode(other)) == (one == other)
    assert (_keys.name(one) == _keys.name(other)) == (one == other)


@pytest.mark.parametrize("zone", ["Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "UTC"])
def test_datetimes_of_a_zone_around_its_changes(zone: str) -> None:
    """Every half hour of a year: refused where clocks change, else as Python compares them."""
    info = ZoneInfo(zone)
    moments = [datetime(2024, 1, 1) + n * timedelta(minutes=30) for n in range(366 * 48)]
    seen: dict[bytes, datetime] = {}
    refused = 0
    for moment in moments:
        key = moment.replace(tzinfo=info)
        try:
            data = _keys.encode(key)
        except ValueError as error:
            assert "ambiguous" in str(error)
            refused += 1
            continue
        assert data not in seen
        seen[data] = key
        assert _keys.decode(data) == key == key.astimezone(UTC)
        assert _keys.encode(key.astimezone(UTC)) == data
    assert refused == {"UTC": 0, "Australia/Lord_Howe": 2}.get(zone, 4)


class NoFold(tzinfo):
    """Changes its clocks at noon and knows nothing of `fold`, as zones of before Python 3.6."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        return timedelta(hours=moment.replace(tzinfo=None) >= datetime(2024, 6, 1, 12))

    def dst(self, moment: datetime | None) -> timedelta:
        return self.utcoffset(moment)

    def tzname(self, moment: datetime | None) -> str:
        return "NoFold"


def test_a_zone_that_knows_no_fold() -> None:
    zone = NoFold()
    times = [datetime(2024, 6, 1, 10, tzinfo=zone) + n * timedelta(minutes=30) for n in range(12)]
    encoded = {}
    for moment in times:
        try:
            encoded[moment.replace(tzinfo=None)] = _keys.encode(moment)
        except ValueError:
            continue
    assert len(set(encoded.values())) == len(encoded) >= 8


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
@pytest.mark.parametrize("hours", [-23, 0, 23])
def test_the_first_and_the_last_moment(moment: datetime, hours: int) -> None:
    key = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert _keys.decode(_keys.encode(key)) == key


# ---- hostile keys ----------------------------------------------------------------------------------

HOSTILE = [
    "a b",
    "a\r\nSET x y\r\n",
    "a\0b",
    "x" * 300,
    "\ud800",
    "\udcff\ud800",
    "é",
    "e\u0301",
    None,
    "{a}b",
    "{}",
    "}{",
    "",
    ":",
    "*",
    "\x7f\x80",
    "\u2028",
    tuple(range(20_000)),
    ("a" * 1000, ("b" * 300, b"\xff" * 254, b"\xff" * 255, b"\xff" * 256)),
    2**100_000,
    -(2**100_000),
    10**4999,  # more digits than str() gives
]


WORDS = (tuple(f"p{bucket:02x}:" for bucket in range(256)), "$", "|", ";")


def check_place(key: Any) -> None:
    """The engine's Places say what `place` does."""
    places = _core.Places(_keys.place, _keys.digest)
    encoded, name = place = _keys.encode(key), _keys.name(key)
    assert _keys.place(key) == place
    assert places.of(key) == place
    assert places.of_many([key, "x"]) == (
        [encoded, b"sx"],
        [name, _keys.name("x")],
        [name, _keys.name("x")],
    )
    *same, (word,) = places.of_many([key], WORDS)
    assert same == [[encoded], [name]]
    assert word == f"${len(name) + 4}|p{name[-32:-30]}:{name};"


_PLAIN_KEYS = st.one_of(
    st.text(max_size=300), st.integers(), st.binary(max_size=300), st.booleans(), st.none(),
    st.integers(-(2**63) - 2, 2**63 + 2), st.sampled_from(["", "a" * 39, "a" * 40, "x" * 41, "x" * 248, "x" * 249]),
)  # fmt: skip


@settings(max_examples=1000)
@given(
    st.one_of(
        _PLAIN_KEYS,
        st.lists(_PLAIN_KEYS, max_size=20).map(tuple),
        st.tuples(st.text(string.ascii_letters, max_size=240), st.integers(0, 99)),
        st.tuples(st.text(string.ascii_letters, max_size=60), st.tuples(_PLAIN_KEYS)),
    )
)
@example("a" * 249)
@example(("a" * 246,))
@example(("a" * 227, 1))
@example(("a" * 226, 1))
@example(("a" * 20, "b" * 19, 1))
@example((2**60, -(2**30) + 1, -1, 0))
def test_the_engine_names_as_this_does(key: Any) -> None:
    check_place(key)


def test_what_places_refuse() -> None:
    class Odd:
        pass

    places = _core.Places(_keys.place, _keys.digest)
    for wrong in (Odd(), ["list"], float("nan")):
        with pytest.raises((TypeError, ValueError)):
            places.of(wrong)
        with pytest.raises((TypeError, ValueError)):
            places.of_many(["a", wrong])
    with pytest.raises(TypeError):
        places.of_many(5)  # type: ignore[arg-type]
    for words in (
        (("p",), "", "", ""),
        (("é",) * 256, "", "", ""),
        ((*WORDS[0],), "", "", "\u20ac"),
    ):
        with pytest.raises(ValueError, match=r"prefixes|ASCII"):
            places.of_many(["a"], words)
    for digest in (lambda data: b"bytes", lambda data: "0" * 31, lambda data: "\u0661" * 32):
        with pytest.raises(ValueError, match="digest"):
            _core.Places(_keys.place, digest).of("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not end in"):
        _core.Places(lambda key: (b"", "g" * 32), _keys.digest).of_many([None], WORDS)


@pytest.mark.parametrize(
    "key", HOSTILE, ids=lambda key: ascii(key)[:20] if key is None or type(key) is str else ""
)
def test_hostile_keys_have_harmless_names(key: Any) -> None:
    name = _keys.name(key)
    assert NAME.fullmatch(name)
    assert name == _keys.name_of_encoded(_keys.encode(key))
    check_place(key)
    back = _keys.decode(_keys.encode(key))
    assert back == key and type(back) is type(key)


def test_hostile_keys_have_names_of_their_own() -> None:
    assert len({_keys.name(key) for key in HOSTILE}) == len(HOSTILE)


def test_names_tell_what_the_key_is() -> None:
    shown = {
        "user:42": "user_42",
        42: "42",
        -7: "-7",
        1.5: "1.5",
        True: "1",
        None: "None",
        ("shop:price", "a b", 3): "shop_price-a_b-3",
        b"raw\xff": "raw_",
        date(2024, 5, 6): "2024-05-06",
        datetime(2024, 5, 6, 7, 8): "2024-05-06_07_08_00",
        UUID(int=1): "00000000-0000-0000-0000-000000000001",
        int: "builtins-int",
        (): "",
        ((1, (2,)), 3): "1-2-3",
    }
    for key, text in shown.items():
        assert _keys.name(key).rpartition(":")[0] == text
    assert _keys.name("x" * 300).index(":") == _keys.READABLE


def test_a_name_is_the_digest_of_the_encoding() -> None:
    xxhash = pytest.importorskip("xxhash")
    for key in ("user:42", 42, (1, "a"), None, "\ud800", 2**70):
        assert _keys.name(key)[-32:] == xxhash.xxh3_128_hexdigest(_keys.encode(key))


# ---- what is no key ------------------------------------------------------------------------------------


class Odd:
    pass


@pytest.mark.parametrize(
    "key",
    [
        Odd(),
        Plain.A,
        CaseBlind("a"),
        [1],
        {1: 2},
        {1},
        bytearray(b"a"),
        memoryview(b"a"),
        object(),
        len,
        list[int],
        range(3),
        lambda: None,
    ],
    ids=lambda key: type(key).__name__,
)
def test_other_types_are_refused_by_their_name(key: Any) -> None:
    kind = type(key)
    for nested in (key, (1, key), ((key,), 2)):
        with pytest.raises(TypeError, match=re.escape(kind.__qualname__)) as caught:
            _keys.encode(nested)
        assert "frozenset" in str(caught.value)  # it says what is allowed
        with pytest.raises(TypeError):
            _keys.name(nested)


def test_its_own_equality_is_named_as_the_reason() -> None:
    with pytest.raises(TypeError, match=r"CaseBlind, which has its own __eq__ or __hash__"):
        _keys.encode(CaseBlind("a"))


@pytest.mark.parametrize(
    "key", [float("nan"), Decimal("nan"), Decimal("snan"), complex(1, float("nan")), complex("nan")]
)
def test_nan_is_no_key(key: Any) -> None:
    for nested in (key, (key,)):
        with pytest.raises(ValueError, match="equals nothing"):
            _keys.encode(nested)


@pytest.mark.parametrize("text", ["1E+999999999", "1E-999999999", "-3E+6300"])
def test_an_exponent_that_would_fill_the_memory(text: str) -> None:
    with pytest.raises(ValueError, match="exponent"):
        _keys.encode(Decimal(text))


def test_a_fraction_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="fraction"):
        _keys.encode(Fraction(1, 3**30_000))


def test_a_frozenset_has_a_limit() -> None:
    key = frozenset(range(encoding.MAX_SET))
    assert _keys.decode(_keys.encode(key)) == key
    with pytest.raises(ValueError, match="at most"):
        _keys.encode(frozenset(range(encoding.MAX_SET + 1)))
    with pytest.raises(ValueError, match="more than"):
        _keys.decode(b"z" + b"\x02i1" * (encoding.MAX_SET + 1))


def nested(depth: int) -> Any:
    key: Any = 1
    for _ in range(depth):
        key = (key,)
    return key


def test_nesting_has_a_limit() -> None:
    key = nested(_keys.MAX_DEPTH)
    assert _keys.decode(_keys.encode(key)) == key
    for depth in (_keys.MAX_DEPTH + 1, 5_000):
        with pytest.raises(ValueError, match="nested"):
            _keys.encode(nested(depth))


def test_local_classes_are_no_keys() -> None:
    class Local:
        pass

    with pytest.raises(TypeError, match="Local"):
        _keys.encode(Local)


def test_a_class_that_another_hides_is_no_key() -> None:
    hidden = type("Outer", (), {"__module__": __name__})
    with pytest.raises(TypeError, match="Outer"):
        _keys.encode(hidden)


@pytest.mark.parametrize(
    "kind", [int, Outer, Outer.Inner, type(None), type(...), types.MethodType, enum.EnumMeta, Plain]
)
def test_classes_come_back(kind: type) -> None:
    assert _keys.decode(_keys.encode(kind)) is kind


# ---- keys of calls ------------------------------------------------------------------------------------

MARK = _core._KEYWORDS
ABSENT = _core.CallBinder(
    (), bind=False, ignored=(), vary=(ContextVar("never set"),), prefix=None, typed=False
)()[0]


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two objects of the engine that are in keys of calls, registered whether or not something else
    has done it."""
    monkeypatch.setattr(decoding, "_KINDS", dict(decoding._KINDS))
    for kind in (type(MARK), type(ABSENT)):
        monkeypatch.delitem(encoding.ENCODERS, kind, raising=False)
    taken = {tag for tag, (kind, _) in decoding._KINDS.items()}
    free = [tag for tag in range(256) if tag not in taken]
    _keys.register_kind(type(MARK), free[0], lambda mark: (), lambda: MARK)
    _keys.register_kind(type(ABSENT), free[1], lambda absent: (), lambda: ABSENT)


def calls() -> list[Any]:
    @fastcache.lru_cache
    def plain(*args: Any, **kwargs: Any) -> None: ...

    @fastcache.lru_cache(typed=True)
    def typed(*args: Any, **kwargs: Any) -> None: ...

    return [
        plain.cache_key(1, 2),
        plain.cache_key(1, x=2),
        plain.cache_key(1, "x", 2),
        plain.cache_key(x=1, y=2),
        plain.cache_key(y=2, x=1),
        plain.cache_key(),
        plain.cache_key(2.5),
        typed.cache_key(1),
        typed.cache_key(1.0),
        typed.cache_key(True),
        typed.cache_key("a", None, x=b"b"),
        fastcache.CallKey(("module:name", "user", ABSENT)),
        fastcache.CallKey(("module:name", "user", None)),
    ]


@pytest.mark.usefixtures("marks")
def test_keys_of_calls_come_back() -> None:
    names = set()
    for key in calls():
        back = _keys.decode(_keys.encode(key))
        assert back == key and hash(back) == hash(key)
        names.add(_keys.name(key))
    assert len(names) == len(calls()) == len(set(calls()))


@pytest.mark.usefixtures("marks")
def test_an_entry_is_found_under_the_key_that_came_back() -> None:
    cache: fastcache.Cache[Any, Any] = fastcache.Cache(10)

    @fastcache.cached(cache=cache, namespace="n")
    def f(x: int, *, y: int = 0) -> int:
        return x + y

    assert f(1, y=2) == 3
    key = f.cache_key(1, y=2)
    assert key in cache
    assert cache.delete(_keys.decode(_keys.encode(key)))
    assert not f.cache_contains(1, y=2)


# ---- registered kinds ---------------------------------------------------------------------------------


class Money:
    def __init__(self, amount: int, currency: str) -> None:
        self.parts = (amount, currency)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


class MoreMoney(Money):
    pass


@pytest.mark.usefixtures("marks")
def test_a_registered_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ENCODERS", encoding.ENCODERS)
    with pytest.raises(TypeError, match="Money"):
        _keys.encode(Money(1, "EUR"))
    try:
        _keys.register_kind(Money, 200, lambda money: money.parts, Money)
        for key in (Money(1, "EUR"), (Money(1, "EUR"), "x"), (1, "EUR")):
            assert _keys.decode(_keys.encode(key)) == key
        assert _keys.encode(Money(1, "EUR")) == _keys.encode(Money(True, "EUR"))
        assert len({_keys.encode(k) for k in (Money(1, "EUR"), Money(2, "EUR"), (1, "EUR"))}) == 3
        with pytest.raises(TypeError, match="MoreMoney"):
            _keys.encode(MoreMoney(1, "EUR"))  # what it compares is not known
        with pytest.raises(ValueError, match="Money"):
            _keys.register_kind(Odd, 200, lambda odd: (), Odd)
        with pytest.raises(ValueError, match="256"):
            _keys.register_kind(Odd, 256, lambda odd: (), Odd)
        data = _keys.encode(Money(1, "EUR"))
        for wrong in (data[:2], data + b"\x02i1", data[:1] + b"\xff" + data[2:]):
            with pytest.raises(ValueError, match="encoding of a key"):
                _keys.decode(wrong)
    finally:
        encoding.ENCODERS.pop(Money, None)


# ---- other processes ------------------------------------------------------------------------------------


def test_names_are_the_same_under_every_hash_seed() -> None:
    code = """
import os, subprocess, sys
program = '''
from fastcache import _keys
from uuid import UUID
words = ["key %d" % n for n in range(50)]
print([_keys.name(k) for k in (*words, 1, None, frozenset(words), (frozenset([("a", 1), int]), 2.5))])
'''
seen = {
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed},
                   capture_output=True, text=True, check=True, timeout=50).stdout
    for seed in ("0", "1", "4242")
}
assert len(seen) == 1, seen
print(len(seen.pop()))
"""
    assert int(run_python(code)) > 1000


def test_names_never_change() -> None:
    """They are in the stores of running programs: a change here empties them all."""
    assert _keys.name("user:42") == USER_42
    assert _keys.encode((1, "a", None, 2.5, b"b", frozenset({2, 1}))) == (
        b"t\x02i1\x02sa\x01n\x09d@\x04\0\0\0\0\0\0\x02bb\x07z\x02i1\x02i2"
    )


USER_42 = "user_42:16e3798de5de12923e0f7a107b6a6f40"


def test_without_xxhash_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["xxhash"] = None
from fastcache import _keys
assert _keys.decode(_keys.encode(("a", 1))) == ("a", 1)
try:
    _keys.name("a")
except ImportError as error:
    print(error)
"""
    assert "fastcache-engine[tiered]" in run_python(code)


# ---- decoding what others send ------------------------------------------------------------------------------

MALFORMED = [
    b"",
    b"?",
    b"i",
    b"i+1",
    b"i01",
    b"i 1",
    b"i1_0",
    b"i1.0",
    b"i-0",
    b"i9223372036854775808",
    b"i" + b"9" * 10**6,
    b"I",
    b"I\x01",
    b"n ",
    b"d",
    b"d" + b"\0" * 8,
    b"d\x7f\xf8\0\0\0\0\0\0",
    b"f",
    b"f*",
    b"r\x02i1\x02i2",
    b"r\x02i2\x02i6",
    b"r\x02i1\x02i0",
    b"r\x02i1\x03i-3",
    b"r\x02i1",
    b"r\x02s1\x02s3",
    b"c\x02i1\x02i0",
    b"c\x03snan\x02i1",
    b"s\xff",
    b"s\xc0\x80",
    b"u123",
    b"t\x05sa",
    b"t\xff",
    b"t\xff\xff\xff\xff\xffsa",
    b"t\xff\0\0\0\x02sa",
    b"z\x02sb\x02sa",
    b"z\x02sa\x02sa",
    b"y0",
    b"y99999999",
    b"e-1",
    b"D999999999999999999999",
    b"D-9999999999999999999999999999999999999",
    b"w86400000000",
    b"w-1",
    b"T999999999999",
    b"l99999999999999999999999",
    b"k\x03sos\x07ssystem",
    b"k\x03sos",
    b"k\x0bssubprocess\x06s__x__",
    b"k\x0csantigravity\x02sx",
    b"x",
    b"x\xfe",
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: ascii(data[:20]))
def test_malformed_encodings_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError):
        _keys.decode(data)


def test_decoding_imports_nothing_and_runs_nothing() -> None:
    code = """
import sys, types
from fastcache import _keys

class Lazy(types.ModuleType):
    def __getattribute__(self, name):
        raise SystemExit("a module's code was run")
    def __getattr__(self, name):
        raise SystemExit("a module's code was run")

class Meta(type):
    def __getattribute__(self, name):
        raise SystemExit("a class's code was run")

lazy = Lazy("lazy")
sys.modules["lazy"] = lazy
Holder = Meta("Holder", (), {})
before = set(sys.modules)
item = lambda text: bytes([len(text) + 1]) + b"s" + text
for module, name in [(b"lazy", b"x"), (b"antigravity", b"x"), (b"os", b"system"), (b"__main__", b"Holder.x"),
                     (b"__main__", b"lazy.x"), (b"__main__", b"lazy"), (b"__main__", b"Holder.__class__")]:
    try:
        print(_keys.decode(b"k" + item(module) + item(name)))
    except ValueError:
        pass
    else:
        raise SystemExit((module, name))
assert set(sys.modules) == before
assert _keys.decode(b"k" + item(b"__main__") + item(b"Holder")) is Holder
print("nothing")
"""
    assert run_python(code) == "nothing\n"


@settings(max_examples=2000)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.sampled_from(string.ascii_letters), st.binary(max_size=30)).map(
            lambda pair: pair[0].encode() + pair[1]
        ),
    )
)
def test_decoding_anything(data: bytes) -> None:
    try:
        key = _keys.decode(data)
    except ValueError:
        return
    assert _keys.encode(key) == data
    hash(key)


@settings(max_examples=300)
@given(keys, st.randoms(use_true_random=False))
def test_decoding_what_was_changed_on_the_way(key: Any, chance: random.Random) -> None:
    data = bytearray(_keys.encode(key))
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    try:
        back = _keys.decode(bytes(data))
    except ValueError:
        return
    assert _keys.encode(back) == data
    assert back != key


@pytest.mark.parametrize("tag", [b"t", b"z"])
def test_decoding_deep_nesting(tag: bytes) -> None:
    data = b"n"
    for _ in range(20_000):
        data = (
            tag
            + (bytes([len(data)]) if len(data) < 255 else b"\xff" + len(data).to_bytes(4, "big"))
            + data
        )
    with pytest.raises(ValueError, match="nested"):
        _keys.decode(data)


# ---- name spaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["shop", "a", "A-1_b.c:d", "x" * 64])
def test_a_namespace(text: str) -> None:
    assert _keys.check_namespace(text) == text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a b", "a{b}", "a\n", "a\0", "é", "a/b", None, b"shop", 5], ids=ascii
)
def test_what_is_no_namespace(text: Any) -> None:
    with pytest.raises(ValueError, match="namespace must be") as caught:
        _keys.check_namespace(text)
    assert repr(text) in str(caught.value)


def test_the_vocabulary_is_what_it_says() -> None:
    assert sorted(_keys.__all__) == _keys.__all__
    assert sys.modules["fastcache._keys"] is _keys
    assert isinstance(_keys.decode(_keys.encode(uuid4())), UUID)
