"""`cachedmethod`: a descriptor that gives each instance a wrapper of its own.

The wrapper lies in the instance's `__dict__` under the method's name, where a second lookup finds
it without asking the descriptor. That place belongs to the method that the class of the instance
has under the name. A method that is overridden is found by way of super() only, and its wrappers lie
under "__cachetools_cachedmethods", by descriptor. (The name is cachetools' own: an instance pickled
there has its entries in the same place.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, NoReturn

from fastcache.cachetools._calls import Calls, locked, unlocked_method, waiting
from fastcache.cachetools._info import CacheInfo
from fastcache.cachetools.keys import methodkey

OVERRIDDEN = "__cachetools_cachedmethods"


class Options:
    """What `cachedmethod` was given; cache, lock and condition are functions of the instance."""

    __slots__ = ("cache", "condition", "info", "key", "lock")

    def __init__(self, cache: Any, key: Any, lock: Any, condition: Any, info: bool) -> None:
        self.cache = cache
        self.key = key
        self.lock = condition if lock is None else lock
        self.condition = condition
        self.info = info

    def parts(self, instance: Any) -> tuple[Any, Any, Any]:
        """The cache, lock and condition of an instance; asked for only where there is a lock."""
        condition = self.condition
        return (
            self.cache(instance),
            self.lock(instance),
            None if condition is None else condition(instance),
        )


class MethodWrapper(functools.partial):  # type: ignore[type-arg]
    """A method of one instance whose results are kept in a cache: a partial of `Calls.call`."""

    _fc_calls: Calls
    _fc_options: Options
    _fc_instance: Any
    _fc_descriptor: Descriptor

    @classmethod
    def around(cls, descriptor: Descriptor, instance: Any) -> MethodWrapper:
        options, method = descriptor._fc_options, descriptor._fc_method
        key = functools.partial(options.key, instance)
        function = MethodType(method, instance)
        cache = functools.partial(options.cache, instance)
        if options.lock is None:
            calls = unlocked_method(function, key, options.key is methodkey, cache)
        else:
            make = locked if options.condition is None else waiting
            calls = make(function, key, functools.partial(options.parts, instance))
        wrapper = cls(calls.call)
        functools.update_wrapper(wrapper, method)
        wrapper.cache_key = key
        wrapper._fc_calls, wrapper._fc_options = calls, options
        wrapper._fc_instance, wrapper._fc_descriptor = instance, descriptor
        return wrapper

    cache_key: Callable[..., Any]

    @property
    def cache(self) -> Any:
        """The instance's cache."""
        return self._fc_options.cache(self._fc_instance)

    @property
    def cache_lock(self) -> Any:
        """The instance's lock, or None."""
        lock = self._fc_options.lock
        return None if lock is None else lock(self._fc_instance)

    @property
    def cache_condition(self) -> Any:
        """The instance's condition variable, or None."""
        condition = self._fc_options.condition
        return None if condition is None else condition(self._fc_instance)

    def cache_clear(self) -> None:
        """Empty the cache and set the counts back."""
        self._fc_calls.clear()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self  # bound already

    def __reduce__(self) -> tuple[Any, ...]:
        # What it is made of (lambdas, locks) cannot be pickled; the descriptor makes it anew, and
        # the counts start at 0.
        return self._fc_descriptor.__get__, (self._fc_instance,)

    def __repr__(self) -> str:
        instance = object.__repr__(self._fc_instance)
        return f"<cachedmethod {self.__wrapped__!r} of {instance}>"  # type: ignore[attr-defined]


class CountingMethodWrapper(MethodWrapper):
    """One that tells its counts."""

    def cache_info(self) -> CacheInfo:
        """Hits, misses, bound and size."""
        return self._fc_calls.info()


class Descriptor:
    """What `cachedmethod` puts into the class."""

    _fc_owner: type | None = None
    _fc_name: str | None = None
    _fc_on_class: Unbound | None = None

    def __init__(self, method: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, method)
        self._fc_method = method
        self._fc_options = options

    def __set_name__(self, owner: type, name: str) -> None:
        if self._fc_name is None:
            self._fc_owner, self._fc_name = owner, name
        elif name != self._fc_name:
            raise TypeError(
                "Cannot assign the same descriptor to two different names "
                f"({self._fc_name!r} and {name!r})."
            )

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        name = self._fc_name
        if name is None:
            if isinstance(instance, type):
                self()  # what classmethod does before Python 3.13, which hides __set_name__
            raise TypeError("Cannot use descriptor instance without calling __set_name__ on it")
        if instance is None:
            if self._fc_on_class is None:
                self._fc_on_class = Unbound(self)
            return self._fc_on_class
        found = next((vars(c)[name] for c in type(instance).__mro__ if name in vars(c)), None)
        try:
            # setdefault: of two threads that come here at once, one wrapper serves both
            if found is self:
                wrapper = self._fc_wrapper(instance)
                return instance.__dict__.setdefault(name, wrapper)
            wrappers = instance.__dict__.setdefault(OVERRIDDEN, {})
        except (AttributeError, TypeError) as error:
            self._fc_no_place(instance, error)
        wrapper = wrappers.get(self)
        if wrapper is None:
            wrapper = wrappers.setdefault(self, self._fc_wrapper(instance))
        return wrapper

    def _fc_wrapper(self, instance: Any) -> MethodWrapper:
        kind = CountingMethodWrapper if self._fc_options.info else MethodWrapper
        return kind.around(self, instance)

    def _fc_no_place(self, instance: Any, error: Exception) -> NoReturn:
        kind = type(instance).__name__
        if isinstance(error, AttributeError):  # __slots__
            message = f"No '__dict__' attribute on {kind!r} instance to cache {self._fc_name!r}"
        else:
            message = (
                f"The '__dict__' attribute on {kind!r} instance does not support item assignment "
                f"for caching {self._fc_name!r}"
            )
        raise TypeError(message) from None

    def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        # By whatever was put around it: staticmethod, property, classmethod since Python 3.13.
        raise TypeError(
            "Cannot call @cachedmethod descriptor directly: @cachedmethod must be the outermost "
            "decorator, and decorating class methods, static methods or properties is not supported"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return of_class, (self._fc_owner, self._fc_name)


def of_class(owner: type, name: str) -> Any:
    """A descriptor by reference."""
    return vars(owner)[name]


class Unbound:
    """What `Class.method` is: takes the instance as its first argument, as a function would.

    It is no function, so that unittest.mock.create_autospec takes it for a callable without self.
    """

    _fc_first: str | None = None

    def __init__(self, descriptor: Descriptor) -> None:
        functools.update_wrapper(self, descriptor._fc_method)
        self._fc_descriptor = descriptor

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._fc_descriptor.__get__(instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if args:
            return self._fc_descriptor.__get__(args[0])(*args[1:], **kwargs)
        return self._fc_descriptor.__get__(self._fc_take_self(kwargs))(**kwargs)

    def _fc_take_self(self, kwargs: dict[str, Any]) -> Any:
        """The instance, where it was passed by name."""
        if self._fc_first is None:
            import inspect

            try:
                first = next(iter(inspect.signature(self).parameters.values()), None)
            except ValueError:  # of what is not written in Python there may be no signature
                first = None
            named = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD
            self._fc_first = first.name if first is not None and named else ""
        if self._fc_first not in kwargs:
            raise TypeError("Cannot call @cachedmethod through the class without an instance")
        return kwargs.pop(self._fc_first)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._fc_descriptor.__get__, (None,)

    def __repr__(self) -> str:
        return f"<cachedmethod {self._fc_descriptor._fc_method!r}>"
