"""Run test modules of the standard library; print the outcome of each test as JSON.

Run as a script: ``python run_stdlib.py functools|fastcache|broken MODULE...``. With ``fastcache``,
`functools.lru_cache` and `functools.cache` are ours before the modules under test are imported.
Whatever of them had been imported by then (the interpreter's start, fastcache itself) is thrown
away, so that it is imported again, on ours. ``broken`` is an lru_cache that forgets all but its
first argument: it shows that the comparison can fail.
"""

import functools
import sys

subject = sys.argv[1]
if subject == "fastcache":
    import fastcache

    functools.lru_cache = fastcache.lru_cache  # type: ignore[assignment]
    functools.cache = fastcache.cache  # type: ignore[assignment]
elif subject == "broken":

    def first_argument_only(maxsize=128, typed=False):  # type: ignore[no-untyped-def]
        """A caching decorator whose key is the first argument alone."""

        def decorate(function):  # type: ignore[no-untyped-def]
            results = {}

            def call(*args, **kwargs):  # type: ignore[no-untyped-def]
                key = args[:1]
                if key not in results:
                    results[key] = function(*args, **kwargs)
                return results[key]

            call.cache_clear = results.clear
            call.cache_info = lambda: (0, 0, maxsize, len(results))
            return functools.update_wrapper(call, function)

        return decorate(maxsize) if callable(maxsize) else decorate

    functools.lru_cache = first_argument_only
elif subject != "functools":
    raise SystemExit(f"subject: {subject!r} is not one of functools, fastcache, broken")

UNDER_TEST = ("re", "typing", "fnmatch", "ipaddress", "urllib", "inspect")
for name in list(sys.modules):
    if name.split(".")[0] in UNDER_TEST:
        del sys.modules[name]

import fnmatch  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import inspect  # noqa: E402
import ipaddress  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
import typing  # noqa: E402
import unittest  # noqa: E402
import urllib.parse  # noqa: E402

MODULES = (fnmatch, inspect, ipaddress, re, typing, urllib.parse)


class Outcomes(unittest.TestResult):
    """Outcome of each test by its id: ok, fail, error, skip, expected or unexpected."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}
        self.details: dict[str, str] = {}

    def note(self, test, outcome, err=None):  # type: ignore[no-untyped-def]
        self.outcomes[test.id()] = outcome
        if err is not None:
            self.details[test.id()] = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]

    def startTest(self, test):  # type: ignore[no-untyped-def]
        super().startTest(test)
        self.note(test, "ok")

    def addSubTest(self, test, subtest, err):  # type: ignore[no-untyped-def]
        if err is not None:
            self.note(test, "fail", err)

    def addFailure(self, test, err):  # type: ignore[no-untyped-def]
        self.note(test, "fail", err)

    def addError(self, test, err):  # type: ignore[no-untyped-def]
        self.note(test, "error", err)

    def addSkip(self, test, reason):  # type: ignore[no-untyped-def]
        self.note(test, "skip")

    def addExpectedFailure(self, test, err):  # type: ignore[no-untyped-def]
        self.note(test, "expected")

    def addUnexpectedSuccess(self, test):  # type: ignore[no-untyped-def]
        self.note(test, "unexpected")


result = Outcomes()
for name in sys.argv[2:]:
    tests = importlib.import_module(name)
    unittest.defaultTestLoader.loadTestsFromModule(tests).run(result)

users: dict[str, int] = {}
gc.collect()
kind = type(functools.lru_cache(len))
for obj in gc.get_objects():
    if isinstance(obj, kind) and hasattr(obj, "cache_info"):
        owner = str(getattr(obj, "__module__", None))
        users[owner] = users.get(owner, 0) + 1

json.dump({"outcomes": result.outcomes, "details": result.details, "users": users}, sys.stdout)
