"""Run pytest on other projects' tests, with modules of our choice in place of theirs.

Run as a script by `sdists.py`: ``python run_sdist.py REQUEST.json``. The request holds `modules`
(name -> "package.module", or name -> {attribute: "package.module:attribute"}), `pytest` (the
arguments) and `answer` (the file that the outcomes go to).
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def resolve(target: str) -> Any:
    """What "package.module" or "package.module:attribute" names."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def put_in(modules: dict[str, Any]) -> dict[str, str]:
    """Put modules into sys.modules under the names asked for; name -> file they come from."""
    made: dict[str, ModuleType] = {}
    files: dict[str, str] = {}
    for name, target in modules.items():
        if isinstance(target, str):
            made[name] = resolve(target)
            files[name] = str(made[name].__file__)
            continue
        module = ModuleType(name)
        vars(module).update({attribute: resolve(of) for attribute, of in target.items()})
        made[name] = module
        sources = sorted({of.partition(":")[0] for of in target.values()})
        files[name] = ", ".join(str(importlib.import_module(of).__file__) for of in sources)
    for name, module in made.items():  # as the import system does for submodules
        parent, _, last = name.rpartition(".")
        if parent in made and not hasattr(made[parent], last):
            setattr(made[parent], last, module)
    sys.modules.update(made)  # after all were found: one of them may hide what another comes from
    return files


class Outcomes:
    """A plugin that notes what became of each test: the worst of its three phases."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.details: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = report.outcome
        became: str = outcome
        if hasattr(report, "wasxfail"):
            became = "xpassed" if outcome == "passed" else "xfailed"
        elif outcome == "failed" and report.when != "call":
            became = "error"
        if became != "passed":
            self.outcomes[report.nodeid] = became
            self.details[report.nodeid] = report.longreprtext
        elif report.when == "call":
            self.outcomes.setdefault(report.nodeid, became)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed":
            self.outcomes[report.nodeid] = "error" if report.outcome == "failed" else "skipped"
            self.details[report.nodeid] = report.longreprtext


def main(request: dict[str, Any]) -> int:
    files = put_in(request["modules"])
    plugin = Outcomes()
    code = pytest.main(request["pytest"], plugins=[plugin])
    answer = {"outcomes": plugin.outcomes, "details": plugin.details, "modules": files}
    Path(request["answer"]).write_text(json.dumps(answer))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
