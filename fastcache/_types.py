"""The sentinel of loaders: `fastcache.MISSING`, what has no value in the source; and what is never copied."""

from __future__ import annotations

from typing import Final, NoReturn, final

__all__ = ["MISSING", "Missing"]


@final
class Missing:
    """The type of `MISSING`: what a loader returns for a key that the source does not have.

    To be compared with `is`. There is one instance in a process: copies and pickles are it.
    """

    __slots__ = ()

    def __new__(cls) -> Missing:
        return MISSING

    def __repr__(self) -> str:
        return "fastcache.MISSING"

    def __reduce__(self) -> str:
        return "MISSING"

    def __copy__(self) -> Missing:
        return self

    def __deepcopy__(self, memo: object) -> Missing:
        return self


MISSING: Final[Missing] = object.__new__(Missing)


class Uncopied:
    """What has connections, locks or files of its own, of which two may not be one; and often a password, which a
    pickle would show. A subclass may say otherwise."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled: make one where it is needed"
        )
