"""Batches: a function that takes a list of keys and returns a mapping, its results kept one by one."""

from __future__ import annotations

import inspect
import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any

from fastcache._core import Cache, CacheInfo, count_under, empty_like, forget_under
from fastcache._living import Living
from fastcache.loading.batch_loads import BatchLoads
from fastcache.loading.places import is_global, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastcache.loading.options import Options
    from fastcache.loading.rules import Rules

#: Options of `cached` that a batch does not have.
_NOT_HERE = (
    *("key", "ignore", "bind", "typed", "vary", "method"),
    *("refresh", "reload", "early", "stale", "grace", "soft_timeout", "hard_timeout"),
)


class BatchFunction(BatchLoads):
    """A function of a list of keys whose results are kept one by one: `@cached(batch=True)`.

    f([1, 2, 3]) returns a dict of these keys, f(1) one value; of an async function, both are awaited.
    Only what is missing is asked for. Misses of single keys, from any thread or task, wait max_wait
    seconds (default 0.002) for others, or until there are max_batch (default 1,000), and share a call.
    Each key is loaded once at a time; what is invalidated while it loads is not kept. The function must
    return a mapping of exactly the keys it was given, or all who asked get a TypeError or ValueError,
    and nothing is kept. Safe from any thread and event loop; hits cost O(keys).
    """

    __wrapped__: Callable[..., Any]
    __qualname__: str
    __name__: str

    def __init__(
        self,
        function: Callable[..., Any],
        cache: Cache[Any, Any],
        prefix: str | None,
        rules: Rules,
        **options: Any,
    ) -> None:
        super().__init__(function, cache, prefix, rules, **options)
        self._options = options
        # of a method: where instances hold theirs, and those that have one
        self._slot: str | None = None
        self._children: Living[BatchFunction] = Living()
        self._of_classes: weakref.WeakKeyDictionary[type, BatchFunction] | None = None

    # ---- calls ---------------------------------------------------------------------------------

    def __call__(self, /, *args: Any) -> Any:
        """The values of several keys, as a dict, or the value of one."""
        child, instance, (keys,) = self._addressed(args, 1)
        return child._ask(keys, instance)

    # ---- what decorated functions offer ----------------------------------------------------------

    def cache_key(self, /, *args: Any) -> Any:
        """The key under which a value is kept in `.cache`."""
        child, _, (key,) = self._addressed(args, 1)
        return child._place(key)

    def cache_contains(self, /, *args: Any) -> bool:
        """Whether the value of a key is kept. Neither an access nor counted."""
        child, _, (key,) = self._addressed(args, 1)
        return child._place(key) in child.cache

    def cache_invalidate(self, /, *args: Any) -> bool:
        """Forget the values of keys; True if there was one. What is being loaded is not kept."""
        child, _, keys = self._addressed(args, None)
        return child.cache.delete_many([child._place(key) for key in keys]) > 0

    def cache_refresh(self, /, *args: Any) -> Any:
        """Load keys anew, now, and return their values as a call does (to be awaited, if async)."""
        child, instance, (keys,) = self._addressed(args, 1)
        return child._ask(keys, instance, again=True)

    def cache_info(self) -> CacheInfo:
        """Hits, misses, maxsize and currsize, one for each key: of a method, over all instances; of a
        shared cache only its own."""
        if self._slot is not None and self._owner is None:
            infos = [child.cache_info() for child in self._children.all()]
            return CacheInfo(
                sum(i.hits for i in infos),
                sum(i.misses for i in infos),
                self.cache.maxsize,
                sum(i.currsize for i in infos),
            )
        if self._prefix is not None:
            return CacheInfo(
                self._counts[0],
                self._counts[1],
                self.cache.maxsize,
                count_under(self.cache, self._prefix),
            )
        stats = self.cache.stats()
        return CacheInfo(stats.hits, stats.misses, self.cache.maxsize, len(self.cache))

    def cache_clear(self) -> None:
        """Forget all values; what is being loaded is not kept. Of a method, those of all instances; of
        a shared cache only its own."""
        for child in self._children.all():
            child.cache_clear()
        if self._prefix is None:
            self.cache.clear()
            self.cache.stats(reset=True)
        else:
            forget_under(self.cache, self._prefix)
            with self._lock:
                self._counts = [0, 0]

    def cache_parameters(self) -> dict[str, Any]:
        """A new dict of the decorator's maxsize, typed, max_batch and max_wait."""
        return {
            "maxsize": self.cache.maxsize,
            "typed": False,
            "max_batch": self._max_batch,
            "max_wait": self._max_wait,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self._rules.name}>"

    # ---- methods ---------------------------------------------------------------------------------

    def _addressed(
        self, args: tuple[Any, ...], number: int | None
    ) -> tuple[BatchFunction, Any, tuple[Any, ...]]:
        """Whose values are meant, the instance if it is a method, and the other arguments, of which
        there must be that many."""
        child, instance = self, None
        if self._slot is None and len(args) - 1 == number and isinstance(args[0], type):
            self.of_classes()  # it turns out
        if self._slot is not None and self._owner is None:
            if not args:
                raise TypeError(f"{self._rules.name} is a method: give it an instance first")
            instance, *rest = args
            child, args = self._child_of(instance), tuple(rest)
        if number is not None and len(args) != number:
            raise TypeError(
                f"{self._rules.name} takes one argument, keys, with batch=True, got {len(args)}"
            )
        return child, instance, args

    def __set_name__(self, owner: type, name: str) -> None:
        if is_global(self, self._function):
            return
        if self._prefix is not None:
            raise TypeError(
                f"{self._rules.name}: cache= does not go with a batch=True method: its results live in "
                "the instance"
            )
        if not (owner.__dictoffset__ and owner.__weakrefoffset__):
            raise TypeError(
                f"{self._rules.name}: {owner.__name__} objects need a __dict__ and weak references to hold "
                "cached results of a batch=True method"
            )
        if self._slot is None:
            self._slot = place_of(self, f"{owner.__module__}.{owner.__qualname__}.{name}")

    def of_classes(self) -> BatchFunction:
        """It is under a classmethod."""
        self._slot = self._rules.name
        return self

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._slot is None and instance is owner and instance is not None:
            self.of_classes()  # it turns out, before CPython 3.13
        if instance is None or self._slot is None:
            return self
        return _BoundBatch(self, instance)

    def _child_of(self, instance: Any) -> BatchFunction:
        assert self._slot is not None
        held: Any = None
        child: Any
        if not isinstance(instance, type):
            held = getattr(instance, "__dict__", None)
            if held is None:
                raise TypeError(
                    f"{self._rules.name} is a method of instances with a __dict__, got {instance!r}"
                )
            child = held.get(self._slot)
        else:
            child = None if self._of_classes is None else self._of_classes.get(instance)
        # one that came along when the instance was copied is another's
        if (
            isinstance(child, BatchFunction)
            and child._owner is not None
            and child._owner() is instance
        ):
            return child
        new = BatchFunction(
            self._function,
            empty_like(self.cache),
            None,
            self._rules,
            **self._options,
        )
        new._owner, new._slot = weakref.ref(instance), self._slot
        with self._lock:
            if held is None:
                if self._of_classes is None:
                    self._of_classes = weakref.WeakKeyDictionary()
                child = self._of_classes.setdefault(instance, new)
            else:
                other = held.get(self._slot)
                if other is child:
                    held[self._slot] = new
                child = held[self._slot]
            if child is new:
                self._children.add(new)
        assert isinstance(child, BatchFunction)
        return child

    def __reduce__(self) -> Any:
        # what an instance holds is not part of its copies
        return (type(None), ()) if self._owner is not None else self.__qualname__

    def __copy__(self) -> BatchFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BatchFunction | None:
        return None if self._owner is not None else self


class _BoundBatch:
    # A batch method of an instance, which it keeps alive. No docstring: it has the function's.

    def __init__(self, function: BatchFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__module__ = function.__module__  # else it were that of this class

    def __call__(self, /, *args: Any) -> Any:
        return self.__func__(self.__self__, *args)

    def cache_key(self, /, *args: Any) -> Any:
        return self.__func__.cache_key(self.__self__, *args)

    def cache_contains(self, /, *args: Any) -> bool:
        return self.__func__.cache_contains(self.__self__, *args)

    def cache_invalidate(self, /, *args: Any) -> bool:
        return self.__func__.cache_invalidate(self.__self__, *args)

    def cache_refresh(self, /, *args: Any) -> Any:
        return self.__func__.cache_refresh(self.__self__, *args)

    def cache_info(self) -> CacheInfo:
        return self.__func__._child_of(self.__self__).cache_info()

    def cache_clear(self) -> None:
        self.__func__._child_of(self.__self__).cache_clear()

    @property
    def cache(self) -> Cache[Any, Any]:
        return self.__func__._child_of(self.__self__).cache

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__func__.__doc__

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(MethodType(self.__func__.__wrapped__, self.__self__))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if type(other) is not _BoundBatch:
            return NotImplemented
        return self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), id(self.__func__)))

    def __reduce__(self) -> Any:
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


def make_batch_function(
    function: Callable[..., Any],
    name: str,
    cache: Cache[Any, Any],
    prefix: str | None,
    asynchronous: bool,
    options: Options,
) -> BatchFunction:
    """What `cached(batch=True, ...)` returns."""
    for option in _NOT_HERE:
        value = getattr(options, option)
        if value is not None and value is not False and value != ():
            raise ValueError(f"{option}={value!r} does not go with batch=True")
    return BatchFunction(
        function,
        cache,
        prefix,
        options.rules(name),
        asynchronous=asynchronous,
        wait_timeout=options.wait_timeout,
        **options.gathering,
    )
