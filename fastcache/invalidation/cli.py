"""`python -m fastcache triggers TABLE`: print or install the triggers that announce changes of a table."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fastcache.invalidation.triggers import Announcement, drop_triggers, make_triggers

_EPILOG = """\
Without --install the SQL is printed, for psql or a migration; it replaces what an earlier run has made. TABLE is
"name" or "schema.name", written as it is in the catalogue: neither quoted nor folded to lower case.

  python -m fastcache triggers users --key-template 'user:{id}'
      for caches without an L2: fastcache.backplane.PostgresBackplane(URL)
  python -m fastcache triggers users --key-template 'user:{id}' --outbox
      for caches with one: fastcache.invalidation.PostgresOutbox(URL, cache).start()

exit code: 0, 1 if the server refused, 2 for wrong usage
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to those of `python -m fastcache`."""
    parser = commands.add_parser(
        "triggers",
        help="SQL triggers by which PostgreSQL announces what changed in a table",
        description="Print or install the triggers by which PostgreSQL announces committed changes of a table, so "
        "that whoever writes to it invalidates what caches hold.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="TABLE", help='"name" or "schema.name"')
    parser.add_argument(
        "--key", action="append", metavar="COLUMN",
        help="the column whose value is the cache's key; several times: a tuple",
    )  # fmt: skip
    parser.add_argument(
        "--key-template", metavar="TEXT", help="the key as text with columns in braces: 'user:{id}'"
    )
    parser.add_argument(
        "--channel", default="fastcache", help='of NOTIFY (default "fastcache")', metavar="NAME"
    )
    parser.add_argument(
        "--outbox", nargs="?", const="fastcache.outbox", metavar="TABLE",
        help="keep what changed in this table (fastcache.outbox) until PostgresOutbox has done it",
    )  # fmt: skip
    parser.add_argument(
        "--no-notify", action="store_true",
        help="the outbox wakes nobody, and is looked at once a second: for two-phase commit",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=int, metavar="ROWS",
        help="one statement that changes more counts as a change of any row (default 10,000; with an outbox 1,000,000)",
    )  # fmt: skip
    parser.add_argument(
        "--schema", default="fastcache", metavar="NAME",
        help='where the function goes; made if it is not there (default "fastcache")',
    )  # fmt: skip
    parser.add_argument("--install", metavar="URL", help="carry it out on this server")
    parser.add_argument("--drop", action="store_true", help="remove the triggers instead")
    parser.set_defaults(run=run, error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Do what was asked; return the exit code."""
    template = options.key_template
    if options.drop and not options.key and template is None:
        template = "{any}"  # of no account
    try:
        what = Announcement(
            table=options.table,
            key=tuple(options.key or ()),
            template=template,
            channel=options.channel,
            outbox=options.outbox,
            notify=not options.no_notify,
            schema=options.schema,
            most=options.most,
        )
    except (TypeError, ValueError) as error:
        text = str(error)
        if text.startswith("either key or template"):
            text = "either --key or --key-template must say what the key of a row is"
        options.error(text)
    sql = drop_triggers(what) if options.drop else make_triggers(what)
    if options.install is None:
        print(sql, end="")
        return 0
    return _install(options.install, sql)


def _install(url: str, sql: str) -> int:
    try:
        from fastcache.backplane._postgres_session import Address, Session
    except ImportError as error:
        print(f"python -m fastcache triggers: {error}", file=sys.stderr)
        return 1
    from fastcache.stores.protocol import StoreError

    try:
        session = Session(Address(url, 60.0))
        try:
            session.ask(sql)
        finally:
            session.close()
    except (ValueError, StoreError) as error:
        print(f"python -m fastcache triggers: {error}", file=sys.stderr)
        return 1
    return 0
