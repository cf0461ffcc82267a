"""Serializers: what comes back is what was given, types included, or it is refused."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import hmac
import math
import pickle
import re
import subprocess
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from _support import run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastcache.serializers import Json, Msgpack, Pickle, Raw, Serializer, Unserializable
from fastcache.serializers._base import MAX_DEPTH

msgspec = pytest.importorskip("msgspec")

KEY = b"sixteen bytes or more"


@dataclasses.dataclass
class User:
    id: int
    name: str
    tags: tuple[str, ...] = ()

    @functools.cached_property
    def shown(self) -> str:
        return f"{self.id} {self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    left: Any
    right: Any


@dataclasses.dataclass
class Derived:
    """Calling `__init__` again would add one more."""

    given: int
    made: int = dataclasses.field(init=False, default=0)
    handle: dataclasses.InitVar[int] = 0

    def __post_init__(self, handle: int) -> None:
        self.made = self.given + 1
        self.given += 1


class Row(msgspec.Struct, kw_only=True):
    id: int
    value: Any = None


class Counted(msgspec.Struct, frozen=True):
    given: int

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "given", self.given + 1)


class Point(NamedTuple):
    x: Any
    y: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = (1, 2)
    CRIMSON = 1  # noqa: PIE796  # a second name of RED


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


OWN = [User, Pair, Derived, Row, Counted, Point, Colour, Level, Flags]


class Words(str):
    pass


class Whole(int):
    pass


class Mapping(dict):
    pass


def same(one: Any, other: Any) -> bool:
    """Equal, with the same types throughout, the order of dicts, and the signs of zeros; NaN is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return same_set(one, other)
    if isinstance(one, datetime | time):
        # not by ==, which looks at the moment alone
        return (
            one.isoformat() == other.isoformat()
            and one.fold == other.fold
            and (same_zone(one.tzinfo, other.tzinfo))
        )
    if dataclasses.is_dataclass(one) or isinstance(one, msgspec.Struct):
        fields = dataclasses.fields if dataclasses.is_dataclass(one) else msgspec.structs.fields
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)


def same_set(one: Any, other: Any) -> bool:
    rest = list(other)
    for item in one:
        found = next((i for i, candidate in enumerate(rest) if same(item, candidate)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


def same_zone(one: tzinfo | None, other: tzinfo | None) -> bool:
    if isinstance(one, timezone):
        return type(one) is type(other) and repr(one) == repr(other)
    return one is other


# ---- what comes back -----------------------------------------------------------------------------------

zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.builds(timezone, st.just(timedelta(hours=1)), st.text("abc", min_size=1)),
    st.sampled_from([ZoneInfo("Europe/Paris"), ZoneInfo("America/St_Johns"), ZoneInfo("UTC")]),
)
texts = st.text(st.characters(codec=None), max_size=10)
json_atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
)
_hashables = st.one_of(
    json_atoms,
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.complex_numbers(),
    st.decimals(),
    texts,
    st.binary(max_size=10),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.times(timezones=st.sampled_from([None, UTC, timezone(timedelta(minutes=-90), "X")])),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.just(uuid.uuid1()),
    st.sampled_from(
        [Colour.RED, Colour.CRIMSON, Colour.BLUE, Level.LOW, Flags.A, Flags(0).__class__.B]
    ),
)


@st.composite
def hashables(draw: st.DrawFn) -> Any:
    # signalling NaNs cannot be hashed
    return draw(_hashables.filter(lambda v: not (isinstance(v, Decimal) and v.is_snan())))


keys = st.recursive(
    hashables(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=3,
)


@st.composite
def leaves(draw: st.DrawFn) -> Any:
    return draw(st.one_of(keys, st.binary(max_size=9).map(bytearray), st.just(Decimal("sNaN12"))))


values = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(User, st.integers(), texts, inner),
        st.builds(Row, id=inner, value=inner),
    ),
    max_leaves=10,
)
plain = st.recursive(
    json_atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=40), st.dictionaries(st.text(max_size=9), inner, max_size=40)
    ),
    max_leaves=60,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_msgpack_gives_back_what_it_was_given(value: Any) -> None:
    serializer = Msgpack(types=OWN)
    data = serializer.dumps(value)
    assert same(serializer.loads(data), value)
    assert same(serializer.loads(memoryview(data)), value)  # type: ignore[arg-type]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(plain)
def test_plain_values_come_back_from_each(value: Any) -> None:
    for serializer in (Msgpack(), Json(), Pickle(KEY)):
        data = serializer.dumps(value)
        assert type(data) is bytes
        assert same(serializer.loads(data), value), serializer
        assert same(serializer.loads(memoryview(data)), value)  # type: ignore[arg-type]


def test_plain_values_are_plain_msgpack_and_json() -> None:
    """So that other programs can read them."""
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    assert msgspec.msgpack.decode(Msgpack().dumps(value)) == value
    assert msgspec.json.decode(Json().dumps(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        (),
        ((),),
        [()],
        {1: "a", "1": "b"},
        {"z": 1, "a": 2, "m": 3},
        {(1, 2): {3, 4}},
        {True: 1, 0: 2},
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        2**20_000,
        "\ud800",
        {"\udcff": "\ud800"},
        -0.0,
        float("nan"),
        [float("inf"), -float("inf")],
        Decimal("1.10"),
        Decimal("-0E+5"),
        Decimal("NaN123"),
        frozenset({frozenset(), (1,)}),
        bytearray(b"\0\xff"),
        b"",
        datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(microseconds=-1), "odd")),
        time(23, 59, 59, 999_999, tzinfo=UTC, fold=1),
        timedelta.min,
        timedelta.max,
        [True, 1, 1.0],
        complex(-0.0, float("inf")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_other_formats_change(value: Any) -> None:
    serializer = Msgpack()
    assert same(serializer.loads(serializer.dumps(value)), value)
    assert same(serializer.loads(serializer.dumps({"in": [value]})), {"in": [value]})


def test_zoneinfo_comes_back_as_the_same_object() -> None:
    moment = datetime(2024, 6, 1, tzinfo=ZoneInfo("Europe/Paris"))
    assert Msgpack().loads(Msgpack().dumps(moment)).tzinfo is moment.tzinfo


def test_a_uuid_keeps_what_it_knows_of_its_origin() -> None:
    for safe in uuid.SafeUUID:
        value = uuid.UUID(int=5, is_safe=safe)
        assert Msgpack().loads(Msgpack().dumps(value)).is_safe is safe


# ---- what is refused -------------------------------------------------------------------------------------


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


class Plain:
    pass


def from_file() -> ZoneInfo:
    import importlib.resources
    import zoneinfo

    for folder in zoneinfo.TZPATH:
        path = Path(folder) / "UTC"
        if path.exists():
            with path.open("rb") as file:
                return ZoneInfo.from_file(file, key="Europe/Paris")
    with (importlib.resources.files("tzdata.zoneinfo") / "UTC").open("rb") as file:
        return ZoneInfo.from_file(file, key="Europe/Paris")


REFUSED: list[Any] = [
    Plain(),
    Plain,
    len,
    ...,
    Words("a"),
    Whole(1),
    Mapping(a=1),
    OrderedDict(a=1),
    Counter("a"),
    defaultdict(int),
    deque([1]),
    Fraction(1, 2),
    Level.LOW,
    Colour.RED,
    User(1, "a"),
    Row(id=1),
    Point(1, 2),
    memoryview(b"a"),
    range(3),
    Path("a"),
    re.compile("a"),
    datetime(2024, 1, 1, tzinfo=Zone()),
    datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Paris")),
    datetime(2024, 1, 1, tzinfo=from_file()),
    time(1, tzinfo=Zone()),
    msgspec.UNSET,
    msgspec.Raw(b"\xc0"),
    msgspec.msgpack.Ext(1, b""),
    ValueError("a"),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("serializer", [Msgpack(), Json()], ids=repr)
def test_what_would_not_come_back_is_refused(serializer: Serializer, value: Any) -> None:
    for nested in (value, [value], {"a": value}, {"a": [1, {"b": value}]}, [0] * 100 + [value]):
        with pytest.raises(Unserializable) as caught:
            serializer.dumps(nested)
        assert isinstance(caught.value, TypeError)
        assert caught.value.kind == "type"
    if serializer.__class__ is Msgpack:
        for holder in ((value,), {1: value}):
            with pytest.raises(Unserializable):
                serializer.dumps(holder)


@pytest.mark.parametrize("key", [Words("a"), Level.LOW, Whole(3), Point(1, 2), Colour.RED])
def test_keys_are_looked_at_too(key: Any) -> None:
    for serializer in (Msgpack(), Json()):
        for value in ({key: 1}, {"a": {key: 1}}, {"z": 1, key: 2}, [{key: 1}]):
            with pytest.raises(Unserializable):
                serializer.dumps(value)


def test_the_error_names_the_type_and_what_helps() -> None:
    with pytest.raises(Unserializable, match=r"Plain as it is.*types"):
        Msgpack().dumps({"a": Plain()})
    with pytest.raises(Unserializable, match="tuple"):
        Json().dumps([(1, 2)])
    with pytest.raises(Unserializable, match="nan"):
        Json().dumps([float("nan")])
    with pytest.raises(Unserializable, match="key of type int"):
        Json().dumps({1: 2})


@pytest.mark.parametrize(
    "value",
    [(1,), {1}, b"a", 2**64, -(2**63) - 1, float("nan"), float("inf"), "\ud800", {"\ud800": 1}, {1: 2},
     {None: 1}, datetime(2024, 1, 1), uuid.UUID(int=1), Decimal(1), 1j],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_json_refuses_what_json_cannot_say(value: Any) -> None:
    for nested in (value, [value], {"a": value}, {"a": 1.5, "b": [1.5, value]}):
        with pytest.raises(Unserializable):
            Json().dumps(nested)


def test_what_contains_itself_is_refused() -> None:
    lists: list[Any] = []
    lists += [lists, lists]
    dicts: dict[str, Any] = {}
    dicts["a"] = dicts
    mixed: list[Any] = [1]
    mixed.append({1: (mixed,)})
    for serializer in (Msgpack(), Json()):
        for value in (lists, dicts, mixed):
            with pytest.raises(Unserializable):
                serializer.dumps(value)


def test_nesting_has_a_limit() -> None:
    for serializer in (Msgpack(), Json()):
        value: Any = []
        for _ in range(MAX_DEPTH - 1):
            value = [value]
        assert serializer.loads(serializer.dumps(value)) == value
        for _ in range(5000):
            value = [value]
        with pytest.raises(Unserializable, match="nested"):
            serializer.dumps(value)


# ---- classes of the user's -------------------------------------------------------------------------------


def test_classes_that_were_named() -> None:
    serializer = Msgpack(types=OWN)
    derived = Derived(1)
    for value in (
        User(1, "Ada", ("a",)),
        Pair({1: 2}, (Pair(1, [2]),)),
        derived,
        Row(id=1, value=(1, {2})),
        Counted(1),
        Point(1, Point(2, 3)),
        Colour.BLUE,
        Colour.CRIMSON,
        Level.LOW,
        Flags.A,
        {Pair(1, 2): Colour.RED},
        [User(1, "a"), 5, Level.LOW],
    ):
        assert same(serializer.loads(serializer.dumps(value)), value)
    assert serializer.loads(serializer.dumps(derived)).made == derived.made == 2


def test_others_than_those_named_are_refused() -> None:
    @dataclasses.dataclass
    class More(User):
        more: int = 0

    for value in (More(1, "a"), Colour.RED, Row(id=1)):
        with pytest.raises(Unserializable):
            Msgpack(types=[User]).dumps(value)
    with pytest.raises(Unserializable, match="no member"):
        Msgpack(types=[Flags]).dumps(Flags.A | Flags.B)


def test_attributes_beside_the_fields_are_refused() -> None:
    serializer = Msgpack(types=[User])
    user = User(1, "Ada")
    assert user.shown == "1 Ada"  # kept in its __dict__, and made again when it is asked for
    assert serializer.loads(serializer.dumps(user)) == user
    user.extra = 5  # type: ignore[attr-defined]
    with pytest.raises(Unserializable, match="extra"):
        serializer.dumps(user)
    lacking = User(1, "Ada")
    del lacking.name
    with pytest.raises(Unserializable, match="name"):
        serializer.dumps(lacking)


def test_a_class_with_other_fields_is_another() -> None:
    def version(*fields: str) -> type:
        kind = dataclasses.make_dataclass("Thing", fields)
        kind.__module__ = "app"
        return kind

    old, new, swapped = version("a", "b"), version("a", "b", "c"), version("b", "a")
    data = Msgpack(types=[old]).dumps(old(1, 2))
    again = Msgpack(types=[version("a", "b")]).loads(data)
    assert (again.a, again.b) == (1, 2)
    for kind in (new, swapped):
        with pytest.raises(ValueError, match="fields"):
            Msgpack(types=[kind]).loads(data)
    with pytest.raises(ValueError, match="types"):
        Msgpack().loads(data)


class Listed(list):
    pass


@pytest.mark.parametrize(
    "kind",
    [int, Plain, Words, dict, "User", User(1, "a"), dataclasses.dataclass(Listed), ValueError],
)
def test_what_types_may_not_be(kind: Any) -> None:
    with pytest.raises(TypeError):
        Msgpack(types=[kind])


def test_types_are_named_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Msgpack(types=[User, User])
    twin = dataclasses.make_dataclass("User", ["id", "name", "tags"])
    twin.__module__ = User.__module__
    with pytest.raises(ValueError, match="two classes"):
        Msgpack(types=[User, twin])


def test_repr_says_what_was_given() -> None:
    assert repr(Msgpack()) == "Msgpack()"
    assert repr(Msgpack(types=[User])) == f"Msgpack(types=[{__name__}.User])"
    assert [repr(Json()), repr(Raw())] == ["Json()", "Raw()"]


# ---- bytes that others wrote -------------------------------------------------------------------------------


@settings(max_examples=1000)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_value_or_an_exception(data: bytes) -> None:
    for serializer in (Msgpack(types=OWN), Json(), Pickle(KEY)):
        try:
            serializer.loads(data)
        except Exception as error:
            assert not isinstance(error, MemoryError)


@settings(max_examples=500)
@given(st.integers(0, 20), st.binary(max_size=40))
def test_any_extension_types(code: int, data: bytes) -> None:
    serializer = Msgpack(types=OWN)
    for body in (data, msgspec.msgpack.encode([1, "a"]), msgspec.msgpack.encode(5)):
        try:
            serializer.loads(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, body)))
        except Exception as error:
            assert not isinstance(error, MemoryError)


def test_sizes_that_are_not_there_take_no_memory() -> None:
    code = """
import resource
from fastcache.serializers import Msgpack, Json
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for head in (b"\\xdd", b"\\xdf", b"\\xdb", b"\\xc6", b"\\xc9"):
    for tail in (b"", b"\\1", b"\\1" * 100):
        try:
            Msgpack().loads(head + b"\\x7f\\xff\\xff\\xff" + tail)
        except Exception:
            continue
        raise SystemExit("read")
for deep in (b"\\x91" * 10**6, b"\\x81\\xa0" * 10**6):
    try:
        Msgpack().loads(deep)
    except RecursionError:
        pass
deep = b"\\xc0"
for _ in range(3000):
    deep = b"\\xc9" + (len(deep) + 1).to_bytes(4, "big") + b"\\x03\\x91" + deep
try:
    Msgpack().loads(deep)
except (RecursionError, ValueError):
    pass
else:
    raise SystemExit("read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    if sys.platform == "win32":
        pytest.skip("resource is there on POSIX alone")
    assert int(run_python(code)) < 100  # MiB


def test_a_zone_that_is_not_there() -> None:
    encode, ext = msgspec.msgpack.encode, msgspec.msgpack.Ext
    code = 10
    whole = Msgpack().dumps(datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")))
    assert msgspec.msgpack.decode(whole).code == code
    head = bytes(msgspec.msgpack.decode(whole).data)[:12]
    for name in ("Nowhere/Land", "../../etc/passwd", "/etc/passwd", "", "a\0b"):
        with pytest.raises((ValueError, KeyError, OSError)):
            Msgpack().loads(encode(ext(code, head + encode(name))))


# ---- pickles -------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("import sys; sys.modules['fastcache_went_off'] = sys",))


def test_a_pickle_comes_back() -> None:
    serializer = Pickle(KEY)
    for value in (User(1, "a"), Colour.RED, {1, (2,)}, Path("a"), OrderedDict(a=1)):
        assert serializer.loads(serializer.dumps(value)) == value


def test_nothing_unsigned_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastcache_went_off", raising=False)
    serializer = Pickle(KEY)
    bomb = pickle.dumps(Bomb())
    good = serializer.dumps(1)
    forged = [
        b"",
        bomb,
        bytes(32) + bomb,
        good[:32] + bomb,
        Pickle(b"another key of 16").dumps(Bomb()),
        hmac.digest(b"", bomb, "sha256") + bomb,
        good[:31],
    ]
    for data in forged:
        with pytest.raises(ValueError, match="signature"):
            serializer.loads(data)
    assert "fastcache_went_off" not in sys.modules
    serializer.loads(serializer.dumps(Bomb()))  # that it would have gone off
    assert sys.modules.pop("fastcache_went_off") is sys


def test_every_changed_bit_of_a_pickle_is_seen() -> None:
    serializer = Pickle(KEY)
    data = bytearray(serializer.dumps({"a": 1}))
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match="signature"):
            serializer.loads(bytes(data))
        data[place // 8] ^= 1 << place % 8
    assert serializer.loads(bytes(data)) == {"a": 1}


def test_keys_may_change() -> None:
    old, new = Pickle(KEY), Pickle(b"the new key, also long", keys_accepted=[KEY])
    assert new.loads(old.dumps(5)) == new.loads(new.dumps(5)) == 5
    with pytest.raises(ValueError, match="signature"):
        old.loads(new.dumps(5))


@pytest.mark.parametrize(
    "key", [b"", b"fifteen bytes..", "a str of some length", None, 16, bytearray(32)]
)
def test_what_is_no_key(key: Any) -> None:
    for make in (lambda: Pickle(key), lambda: Pickle(KEY, keys_accepted=[key])):
        with pytest.raises((TypeError, ValueError)) as caught:
            make()
        assert "key" in str(caught.value)
        if key:
            assert str(key) not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    serializer = Pickle(KEY, keys_accepted=[b"another secret key"])
    assert "secret" not in repr(serializer) + str(serializer) and "sixteen" not in repr(serializer)
    for run in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="key"):
            run(serializer)
    assert not hasattr(serializer, "__dict__")


def test_what_cannot_be_pickled() -> None:
    class Raises:
        def __reduce__(self) -> Any:
            raise KeyError("its own error")

    for value in (lambda: 1, (n for n in ()), Raises(), sys, type("Local", (), {})()):
        with pytest.raises(Unserializable):
            Pickle(KEY).dumps(value)
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(Unserializable):
        Pickle(KEY).dumps(deep)
    while deep:  # not by recursion
        deep = deep.pop()


# ---- bytes, and whatever is missing ---------------------------------------------------------------------------


def test_raw() -> None:
    assert Raw().dumps(b"a\0") == b"a\0"
    assert type(Raw().loads(memoryview(b"a"))) is bytes  # type: ignore[arg-type]
    for value in ("a", bytearray(b"a"), memoryview(b"a"), None, type("B", (bytes,), {})(b"a")):
        with pytest.raises(Unserializable):
            Raw().dumps(value)


def test_each_is_a_serializer_of_its_own() -> None:
    each = [Msgpack(), Json(), Pickle(KEY), Raw()]
    assert all(isinstance(one, Serializer) for one in each)
    assert len({one.name for one in each}) == len({one.tag for one in each}) == 4
    assert [one.tag for one in each] == [1, 2, 3, 4]  # they are in stored data
    assert not math.prod(one.tag for one in each) == 0  # that of users' own


@pytest.mark.parametrize(
    ("package", "make", "extra"), [("msgspec", "Msgpack", "tiered"), ("orjson", "Json", "json")]
)
def test_without_the_package_the_error_names_the_extra(package: str, make: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
import fastcache.serializers as s
s.Pickle(b"k" * 16), s.Raw()
try:
    s.{make}()
except ImportError as error:
    print(error)
"""
    assert f"fastcache-engine[{extra}]" in run_python(code)


def test_importing_loads_no_package() -> None:
    code = "import fastcache.serializers, sys; print(sorted({'msgspec', 'orjson', 'zoneinfo'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
