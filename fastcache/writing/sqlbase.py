"""What the writers and loaders of SQL tables share: names, columns, and how values become columns.

Beside a table, two more: `<table>_tombstones` (key, version, at) remembers deletions, so that an older write
that comes later does not bring the key back; `<table>_applied` (journal, sequence, folded, at) remembers
which operations of which journal the table has. Rows of both go after `keep` seconds.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastcache._redact import shown
from fastcache._types import MISSING, Uncopied
from fastcache.writing.codec import Json
from fastcache.writing.errors import Overtaken, Refused
from fastcache.writing.ops import INCR, PUT, Op, heard
from fastcache.writing.options import codec_if_any

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from fastcache.writing.codec import Codec
    from fastcache.writing.ops import Batch

log = logging.getLogger("fastcache")

#: Seconds for which tombstones and watermarks are kept: longer than any journal may be adopted (30 days).
KEEP = 35 * 86_400.0


def identifier(name: str, what: str, limit: int = 0) -> str:
    """A name as SQL writes it, quoted. ValueError: it cannot be one. limit: most bytes, 0 for any."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {shown(name)}")
    if not name or "\0" in name:
        raise ValueError(f"{what} must not be empty or contain NUL: {name!r}")
    if limit and len(name.encode("utf-8", "surrogatepass")) > limit:
        raise ValueError(f"{what} must have at most {limit} bytes: {name!r}")
    return '"' + name.replace('"', '""') + '"'


class Layout:
    """Which columns a table has, and what of a value goes where.

    columns: None: the value as text in the column `value`; names: a value is a mapping with these, each to
    its column; a mapping of names to SQL types: the same, and the types for a table that is to be made.
    counter: the column that increments add to.
    """

    def __init__(
        self,
        *,
        key: str,
        value: str,
        version: str,
        columns: Sequence[str] | Mapping[str, str] | None,
        counter: str | None,
        codec: Codec | None,
    ) -> None:
        if isinstance(columns, str):
            raise TypeError(
                f"columns must be names or a mapping of names to types, not {shown(columns)}"
            )
        if columns is not None and not isinstance(columns, Iterable):
            raise TypeError(
                f"columns must be names or a mapping of names to types, not {shown(columns)}"
            )
        codec_if_any(codec)
        self.key = key
        self.version = version
        self.columns: tuple[str, ...] | None = None if columns is None else tuple(columns)
        self.types = dict(columns) if isinstance(columns, Mapping) else {}
        if self.columns is not None and not self.columns:
            raise ValueError("columns must name at least one")
        self.names = (value,) if self.columns is None else self.columns
        if self.columns is not None and codec is not None:
            raise ValueError("codec is for the one column `value`; with columns it has no use")
        self.codec: Codec | None = (codec or Json()) if self.columns is None else None
        if self.columns is None:
            self.counter: str | None = value
        elif counter is not None:
            self.counter = counter
        else:
            self.counter = self.columns[0] if len(self.columns) == 1 else None
        if counter is not None and counter not in self.names:
            raise ValueError(f"counter must be one of the columns, not {counter!r}")
        every = [key, *self.names, version]
        parts = "key", *(["value"] if columns is None else ["columns"] * len(self.names)), "version"
        for part, name in zip(parts, every, strict=True):
            identifier(name, part)
        for kind in self.types.values():
            if not re.fullmatch(r"[\w (),\[\]\"]+", str(kind)):
                raise ValueError(f"columns: not the name of an SQL type: {kind!r}")
        if len({name.lower() for name in every}) != len(every):
            raise ValueError(f"columns must differ: {', '.join(map(repr, every))}")

    def row(self, op: Op) -> tuple[Any, ...]:
        """The parameters of a put: key, the value's columns, version. Refused: the value has no such shape."""
        if self.columns is None:
            assert self.codec is not None
            try:
                text = op.data if op.data is not None else self.codec.encode(op.value)
            except (TypeError, ValueError) as error:
                raise Refused(f"value of key {op.key!r}: {error}", op.key) from error
            return op.key, text, op.version
        if not isinstance(op.value, Mapping):
            raise Refused(
                f"value of key {op.key!r} must be a mapping with {', '.join(self.columns)}, "
                f"not {type(op.value).__name__}",
                op.key,
            )
        if set(op.value) != set(self.columns):
            raise Refused(
                f"value of key {op.key!r} must have exactly {', '.join(self.columns)}, "
                f"not {', '.join(map(str, op.value))}",
                op.key,
            )
        return op.key, *(op.value[name] for name in self.columns), op.version

    def value(self, row: Sequence[Any]) -> Any:
        """The value that a row's columns hold. ValueError: they hold none of ours."""
        if self.columns is None:
            assert self.codec is not None
            text = row[0]
            return None if text is None else self.codec.decode(text)
        return dict(zip(self.columns, row, strict=True))

    def check(self, kind: str, key: Hashable) -> None:
        if kind == INCR and self.counter is None:
            raise TypeError(f"key {key!r}: which column increments add to must be said: counter=")


def fresh(batch: Batch, last: int, folded: frozenset[int]) -> bool:
    """Whether a batch is to be applied, by what the source has of its journal. False: it has it all.

    Overtaken: it has a part.
    """
    if batch.folded:
        if any(s <= last or s in folded for s in batch.folded):
            raise Overtaken(last, folded)
        return True
    if batch.last <= last:
        return False
    there = {s for s in folded if batch.first <= s <= batch.last}
    if batch.first <= last or there - batch.known:
        raise Overtaken(last, folded)
    return True


def marks(batch: Batch, last: int, folded: frozenset[int]) -> tuple[int, str]:
    """What is to be remembered of a journal after a batch: sequence, and those beyond it."""
    last = max(last, batch.last)
    beyond = sorted({s for s in folded if s > last} | {s for s in batch.folded if s > last})
    return last, " ".join(map(str, beyond))


def parse_marks(text: str | None) -> frozenset[int]:
    return frozenset(map(int, text.split())) if text else frozenset()


def groups(keys: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Keys in lists of at most so many, each key once."""
    found = list(dict.fromkeys(keys))
    for start in range(0, len(found), size):
        yield found[start : start + size]


def encodes(text: str) -> bool:
    """Whether a database can have it: not with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_counter(op: Op, found: Any) -> None:
    """Refused: what the source has is not a number."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise Refused(
            f"key {op.key!r} has {type(found).__name__} in the source, to which nothing can be added",
            op.key,
        )


class TableLoader(Uncopied, ABC):
    """What the loaders share: one key by way of many, and what is said of a table that is not there yet."""

    _said = False

    def __call__(self, key: Hashable) -> Any:
        return self.load(key)

    def load(self, key: Hashable) -> Any:
        """One value, or MISSING."""
        return self.load_many([key]).get(key, MISSING)

    @abstractmethod
    def load_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The values of those keys that have a row."""

    @staticmethod
    def _hear(versions: Iterable[Any]) -> None:
        """Those of rows that were read: what is written from now on is later."""
        heard(max((v for v in versions if isinstance(v, int)), default=0))

    def _say_once(self, text: str, *args: object) -> None:
        if not self._said:
            self._said = True
            log.warning(text, *args)


__all__ = [
    "KEEP",
    "PUT",
    "Layout",
    "TableLoader",
    "check_counter",
    "encodes",
    "fresh",
    "groups",
    "identifier",
    "marks",
    "parse_marks",
]
