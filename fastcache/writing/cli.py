"""The subcommands `journal` and `drain` of `python -m fastcache`."""

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
    """Add the subcommands to those of `python -m fastcache`."""
    parser = commands.add_parser(
        "journal",
        help="list, retry or drop what write-behind journals hold",
        description="What journals hold, and their dead letters.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _fill(parser)
    parser = commands.add_parser(
        "drain",
        help="carry out what RedisStreamWriter has put into a stream",
        description="Carry out what RedisStreamWriter has put into a stream, until it is interrupted.",
    )
    parser.add_argument("url", metavar="URL", help="of Redis")
    parser.add_argument(
        "--to", required=True, metavar="TARGET", help="an SQLite file, or postgresql://..."
    )
    parser.add_argument("--table", required=True, help="made if it is not there")
    parser.add_argument("--stream", help="its name, if it is not the default")
    parser.add_argument(
        "--once",
        action="store_true",
        help="end when the stream is empty; with an error if that cannot be found out",
    )
    parser.set_defaults(run=_drain)


def _fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="the directory of journals")
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "retry", "drop"),
        metavar="ACTION",
        help="list (the default), retry or drop",
    )
    parser.add_argument(
        "ids", nargs="*", default=[], metavar="ID", help="dead letters, or journals"
    )
    parser.set_defaults(run=_run)


def journal_command(arguments: Sequence[str]) -> int:
    """The subcommand by itself; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fastcache journal")
    _fill(parser)
    return _run(parser.parse_args(arguments))


def _run(options: argparse.Namespace) -> int:
    from fastcache.writing.command import run

    return run(options)


def _drain(options: argparse.Namespace) -> int:
    import logging
    import signal
    import sys

    from fastcache import writing
    from fastcache.writing.stream import STREAM, Worker

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    target: writing.PostgresWriter | writing.SQLiteWriter
    try:
        if options.to.startswith(("postgresql://", "postgres://")):
            target = writing.PostgresWriter(options.to, table=options.table)
        else:
            target = writing.SQLiteWriter(options.to, table=options.table)
        worker = Worker(options.url, target, stream=options.stream or STREAM)
    except (ImportError, ValueError) as error:
        print(f"python -m fastcache drain: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    try:
        worker.run(until_empty=options.once)
    except Exception as error:  # noqa: BLE001 - of Redis, or whatever the target raises
        print(
            f"python -m fastcache drain: {worker.name} to {target.name}: {error}", file=sys.stderr
        )
        return 1
    finally:
        worker.close()
    print(f"{worker.done:,} operations carried out, {worker.dead:,} refused", file=sys.stderr)
    return 0
