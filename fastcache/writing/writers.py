"""What a writer is: the one thing that knows how to change the source.

    class MyWriter:
        name = "orders"                       # the journals of this writer, wherever its process runs

        def apply(self, ops):                 # all of them or none
            for op in ops:
                ...                           # op.kind, op.key, op.value, op.initial, op.version

`apply` may be called again with operations that it has carried out already, when it could not say so
(the connection broke, the process died): `SQLiteWriter` and `PostgresWriter` recognise them by the batch's
journal and sequences, which they keep in the same transaction. What is applied is in normal form (see
`ops`): at most one put or delete for each key, and after it at most one incr.

Optional, for any writer:

    codec               how its values become text (`encode`, `decode`); the same text is given to `apply`
                        as op.data, and kept in journals
    takes_data          True: it uses op.data alone where there is any, and op.value may be the object that was
                        written, changed since; otherwise op.value is as it was then
    check(kind, key)    raises TypeError or ValueError for what can never be written; called in `put`, so that the
                        caller is told, and not only the dead letters
    transient(error)    True: try again; False: the operations are at fault; None: no idea (also the meaning
                        of having no such method)
    close()

The simpler writers of JCache, with write_many(mapping) and delete_many(keys), are taken as they are. They are
called at least once: after a failure in between, all is tried again. Without increments, which would then be
added twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fastcache._redact import shown
from fastcache.writing.errors import Refused
from fastcache.writing.ops import INCR, Applied, Batch, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from fastcache.writing.codec import Codec


@runtime_checkable
class Writer(Protocol):
    """See the module."""

    def apply(self, ops: Sequence[Op], /) -> Applied | None: ...


class ManyWriter(Protocol):
    """A writer as in JCache. Called at least once for each batch."""

    def write_many(self, mapping: Mapping[Any, Any], /) -> object: ...

    def delete_many(self, keys: Iterable[Any], /) -> object: ...


class _Many:
    """`apply` over write_many and delete_many."""

    def __init__(self, writer: ManyWriter) -> None:
        self._writer = writer
        self.name = name_of(writer)
        self.codec: Codec | None = getattr(writer, "codec", None)

    def __repr__(self) -> str:
        return repr(self._writer)

    def apply(self, ops: Sequence[Op]) -> None:
        puts, deletes, incrs = Batch(ops).split()
        for op in incrs:
            self.check(op.kind, op.key)
        if puts:
            self._writer.write_many({op.key: op.value for op in puts})
        if deletes:
            self._writer.delete_many([op.key for op in deletes])

    def check(self, kind: str, key: Hashable) -> None:
        if kind == INCR:
            raise TypeError(
                f"{type(self._writer).__name__} cannot increment {key!r}: it has write_many and delete_many, which "
                "may be called twice; increments need apply(ops)"
            )
        inner = getattr(self._writer, "check", None)
        if inner is not None:
            inner(kind, key)

    def transient(self, error: BaseException) -> bool | None:
        return transient(self._writer, error)

    def close(self) -> None:
        close = getattr(self._writer, "close", None)
        if close is not None:
            close()


def as_writer(writer: Any) -> Writer:
    """The writer itself if it has apply(ops), else one over its write_many and delete_many. TypeError: it
    has neither."""
    if callable(getattr(writer, "apply", None)):
        return writer  # type: ignore[no-any-return]
    if callable(getattr(writer, "write_many", None)) and callable(
        getattr(writer, "delete_many", None)
    ):
        return _Many(writer)
    raise TypeError(
        f"writer must have apply(ops), or write_many(mapping) and delete_many(keys); {shown(writer)} has not"
    )


def name_of(writer: Any) -> str:
    """What tells this writer's journals from those of others: its `name`, or that of its class."""
    name = getattr(writer, "name", None)
    if isinstance(name, str) and name:
        return name
    kind = type(writer)
    return f"{kind.__module__}.{kind.__qualname__}"


def checker(writer: Writer) -> Callable[[str, Hashable], object] | None:
    """The writer's `check`, if it has one."""
    check: Callable[[str, Hashable], object] | None = getattr(writer, "check", None)
    return check


#: What is wrong with the operations, whoever raises it.
_PERMANENT = (Refused, TypeError, ValueError, KeyError, ArithmeticError, AttributeError)


def transient(writer: Any, error: BaseException) -> bool | None:
    """Whether to try again what failed so. None: nobody knows."""
    if isinstance(error, Refused):
        return False
    judge = getattr(writer, "transient", None)
    if judge is not None:
        verdict: bool | None = judge(error)
        return verdict
    if isinstance(error, (OSError, TimeoutError, EOFError, MemoryError)):
        return True
    if isinstance(error, _PERMANENT):
        return False
    return None
