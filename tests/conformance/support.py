"""What the conformance tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

HERE = Path(__file__).parent


def child_environment() -> dict[str, str]:
    """Environment in which a child finds the fastcache under test, wherever that lies."""
    env = dict(os.environ)
    spec = importlib.util.find_spec("fastcache")
    if spec is not None and spec.origin is not None:
        root = str(Path(spec.origin).parent.parent)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    return env
