"""``python -m fastcache SUBCOMMAND``. Each subcommand is imported when it is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    from fastcache._bench import cli as bench
    from fastcache._demo import cli as demo
    from fastcache.invalidation import cli as triggers
    from fastcache.writing import cli as journal

    parser = argparse.ArgumentParser(
        prog="python -m fastcache", description="Tools around the cache library fastcache."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="SUBCOMMAND")
    bench.add_parser(commands)
    demo.add_parser(commands)
    journal.add_parser(commands)
    triggers.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code (0 done, 1 could not, 2 wrong usage)."""
    from fastcache._foreign import find

    if found := find():
        problem, broken = found
        print(f"python -m fastcache: {problem}", file=sys.stderr)
        if broken:
            return 1
    options = build_parser().parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
