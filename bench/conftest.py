"""The servers that the tests start serve the benchmarks as well."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from servers.postgres import postgres

__all__ = ["postgres"]
