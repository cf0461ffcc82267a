"""Where a method's results lie in its instances, and which functions are methods."""

from __future__ import annotations

import sys
import weakref
from typing import Any

#: what instances call the place of their results -> the method whose they are
_places: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def place_of(method: Any, name: str) -> str:
    """A name for the place of a method's results, by default `name`: classes of one name may be bases
    of each other."""
    place, number = name, 1
    while place in _places:
        number += 1
        place = f"{name}#{number}"
    _places[place] = method
    return place


def is_global(wrapper: Any, function: Any) -> bool:
    """Whether it is a function of a module, that a class has as an attribute too (say as the default
    of a field), and that must go on to work where it is."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return getattr(module, getattr(function, "__qualname__", ""), None) is wrapper
