"""`python -m fastcache journal PATH [list|retry|drop] [ID ...]`: what journals hold, and their dead letters."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
An ID is a dead letter as `list` shows it (JOURNAL:NUMBER), or a whole journal; without any, all are meant.
`retry` puts dead letters back: those of a process that lives are tried at its next look around (adopt_every,
30 s), the others by the process that adopts their journal. `drop` forgets them.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to those of `python -m fastcache`."""
    parser = commands.add_parser(
        "journal",
        help="list, retry or drop what write-behind journals hold",
        description=__doc__.partition(": ")[2] if __doc__ else None,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _fill(parser)


def _fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="the directory of journals")
    parser.add_argument(
        "action", nargs="?", default="list", choices=("list", "retry", "drop"), metavar="ACTION"
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="dead letters, or journals")
    parser.set_defaults(run=_run)


def journal_command(arguments: Sequence[str]) -> int:
    """The subcommand by itself; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fastcache journal")
    _fill(parser)
    return _run(parser.parse_args(arguments))


def _run(options: argparse.Namespace) -> int:
    from fastcache.writing.command import run

    return run(options)
