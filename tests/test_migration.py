"""The code of other libraries in the migration guide runs with them, where they are installed.

What becomes of it, the `python` blocks, is run by test_docs.py. The `py` blocks of a section are one
program.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from _support import run_python

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
BLOCK = re.compile(r"^```py\n(.*?)^```", re.M | re.S)
#: Runs what a section only defines.
CALLS = """
import asyncio
for name, arguments in {"main": (), "login": ("abc",), "user": (7,), "page": (1,), "words": ("a b",)}.items():
    if name in globals() and (name != "user" or "login" in globals()):
        result = globals()[name](*arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
"""


def sections() -> dict[str, str]:
    """Heading -> its `py` blocks as one program."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {part.partition("\n")[0]: "".join(BLOCK.findall(part)) for part in parts}


SECTIONS = sections()


def imported(code: str) -> set[str]:
    """Names of the packages that a program imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {name.partition(".")[0] for name in found}


@pytest.mark.skipif(not SECTIONS, reason="the pages are not all here")
def test_each_section_has_code_from_before() -> None:
    assert len(SECTIONS) >= 9
    for heading, code in SECTIONS.items():
        theirs = imported(code) - sys.stdlib_module_names
        assert theirs or heading == "functools", heading


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_code_from_before_runs(heading: str) -> None:
    code = SECTIONS[heading]
    absent = [name for name in imported(code) if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    run_python(code + CALLS)
