"""Run the interpreter's own lru tests against a chosen implementation; print the outcomes as JSON.

Run as a script: ``python run_functools_lru.py functools|fastcache|untyped``. The module
``test.test_functools`` is executed unchanged. It gets its subjects from
``import_fresh_module("functools", ...)``, so that is where the implementation is put in: the
module it is handed has ``lru_cache`` and ``cache`` replaced before a single class body runs, and
the decorators in the class bodies, the pickled module-level functions and the comparisons of
``self.module`` with ``c_functools`` all see the same object.

``functools`` (nothing replaced) shows that the harness itself is sound, ``untyped`` (an
implementation that ignores ``typed``) that it can fail.
"""

from __future__ import annotations

import functools
import json
import sys
import unittest
from typing import Any


def implementation(subject: str) -> dict[str, Any]:
    """Names to put into functools for ``subject``; ValueError if it is unknown."""
    if subject == "functools":
        return {}
    if subject == "fastcache":
        import fastcache

        return {"lru_cache": fastcache.lru_cache, "cache": fastcache.cache}
    if subject == "untyped":
        original = functools.lru_cache

        def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
            return original(maxsize)

        return {"lru_cache": lru_cache}
    raise ValueError(f"subject: {subject!r} is not one of functools, fastcache, untyped")


def load(names: dict[str, Any]) -> Any:
    """Import ``test.test_functools`` with ``names`` in every functools that it is handed."""
    from test.support import import_helper

    fresh = import_helper.import_fresh_module

    def handed(name: str, *args: Any, **kwargs: Any) -> Any:
        module = fresh(name, *args, **kwargs)
        if name == "functools" and module is not None:
            vars(module).update(names)
        return module

    import_helper.import_fresh_module = handed
    try:
        import test.test_functools as tests
    finally:
        import_helper.import_fresh_module = fresh
    return tests


class Outcomes(unittest.TestResult):
    """Outcome of each test by its method's name."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def note(self, test: Any, outcome: str) -> None:
        self.outcomes[test.id().rpartition(".")[2]] = outcome

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self.note(test, "ok")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "fail: " + self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "fail: " + self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "error: " + self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self.note(test, "skip: " + reason)


def main(subject: str) -> dict[str, dict[str, str]]:
    """Outcomes by class, then by test."""
    tests = load(implementation(subject))
    classes = [tests.TestLRUC, tests.TestLRUPy]
    # TestCache is a mixin that CPython itself derives no test case from; it needs a module only.
    for kind in ("c", "py"):
        module = getattr(tests, f"{kind}_functools")
        classes.append(
            type(f"TestCache_{kind}", (tests.TestCache, unittest.TestCase), {"module": module})
        )
    known = {c.__name__ for c in classes} | {"TestLRU", "TestCache", "TestCachedProperty"}
    present = {n for n in vars(tests) if n.startswith(("TestLRU", "TestCache"))}
    if present - known:
        raise RuntimeError(f"test_functools has classes that are not run: {present - known}")
    report = {}
    for cls in classes:
        result = Outcomes()
        unittest.defaultTestLoader.loadTestsFromTestCase(cls).run(result)
        report[cls.__name__] = result.outcomes
    return report


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
