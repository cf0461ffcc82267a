"""Names of a package that are imported, with the client library they need, when they are first asked for.

    _LATER = {"RedisStore": "fastcache.stores.redis"}  # name -> its module
    __getattr__, __dir__ = _lazy.names(globals(), _LATER)

PEP 562.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def names(
    namespace: dict[str, Any], later: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for the module with this namespace."""

    def find(name: str) -> object:
        if name not in later:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        from importlib import import_module

        value = namespace[name] = getattr(import_module(later[name]), name)
        return value

    def listed() -> list[str]:
        return sorted({*namespace, *later})

    return find, listed
