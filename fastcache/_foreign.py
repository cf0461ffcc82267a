"""Whether an older package shares this folder.

The project `fastcache` of the package index (last release 1.1.0) and this one, `fastcache-engine`,
both install a package called `fastcache`. pip does not object, and whichever comes second replaces
the `__init__.py` of the first. Importing looks for nothing; `python -m fastcache`, which the older
one does not have, looks here.
"""

from __future__ import annotations

import os
import re

_OLD_EXTENSION = "_lrucache"
_OLD_METADATA = re.compile(r"fastcache-\d[^-]*(-py[\d.]+)?\.(dist|egg)-info")
_REMEDY = (
    "`python -m pip uninstall fastcache`, and then "
    "`python -m pip install --force-reinstall --no-deps fastcache-engine`"
)


def find(folder: str | None = None) -> tuple[str, bool] | None:
    """What is wrong with the folder of this package, and whether it is broken; None if nothing.

    folder: of the package; by default that of this module. Reads two folders and one file.
    """
    folder = os.path.dirname(os.path.abspath(__file__)) if folder is None else folder
    try:
        with open(os.path.join(folder, "__init__.py"), encoding="utf-8") as file:
            theirs = _OLD_EXTENSION in file.read()
    except FileNotFoundError:
        problem = (
            f"{folder} has no __init__.py, as after the older package `fastcache`, installed into "
            f"the same folder, was uninstalled; do: {_REMEDY}"
        )
        return problem, True
    if theirs:
        problem = (
            f"the older package `fastcache` was installed over fastcache-engine in {folder}, and is "
            f"what `import fastcache` gives; do: {_REMEDY}"
        )
        return problem, True
    left = [name for name in os.listdir(folder) if name.startswith(_OLD_EXTENSION + ".")]
    left += filter(_OLD_METADATA.fullmatch, os.listdir(os.path.dirname(folder)))
    if not left:
        return None
    problem = (
        f"the older package `fastcache` lies in the same folder as fastcache-engine, {folder} "
        f"({', '.join(sorted(left))}), and to uninstall it takes files of both; do: {_REMEDY}"
    )
    return problem, False
