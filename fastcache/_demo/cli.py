"""The command ``python -m fastcache demo``: its options."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the subcommand to the subparsers action of the main parser."""
    parser = commands.add_parser("demo", help="see it at work: tiers")
    shown = parser.add_subparsers(dest="demo", required=True, metavar="WHAT")
    tiers = shown.add_parser(
        "tiers",
        help="worker processes over one L2, which invalidate each other's entries",
        description="Worker processes, each with an L1, over one L2 and a database (an SQLite file), under load:\n"
        "reads by Zipf's law, and writes of which the other workers are told. While it runs, a line a\n"
        "second; at the end who answered how fast, and how old what was served. The L2 is the Redis of\n"
        "--url; else a redis-server that is on PATH, started for this on a free port of loopback, its\n"
        "data thrown away; else an SQLite file. Ctrl-C ends it, with the table of what has been.",
        epilog="exit code: 0, 1 if something was wrong (an error, an old value that stayed), 130 after Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    number, rate = _number(int, 1), _number(float, 0.0)
    tiers.add_argument("--seconds", type=_number(float, 0.1), default=10.0, metavar="N",
                       help="how long (default 10)")  # fmt: skip
    tiers.add_argument(
        "--workers", type=number, default=4, metavar="N", help="processes (default 4)"
    )
    tiers.add_argument("--keys", type=number, default=2000, metavar="N",
                       help="articles in the database (default 2,000)")  # fmt: skip
    tiers.add_argument("--capacity", type=number, default=1000, metavar="N",
                       help="entries that each L1 holds (default 1,000)")  # fmt: skip
    tiers.add_argument("--rate", type=rate, default=2000.0, metavar="N",
                       help="requests a second of each worker; 0: all it can (default 2,000)")  # fmt: skip
    tiers.add_argument("--writes", type=_number(float, 0.0, 1.0), default=0.01, metavar="PART",
                       help="the part of them that writes, 0 to 1 (default 0.01)")  # fmt: skip
    tiers.add_argument("--skew", type=rate, default=1.0, metavar="X",
                       help="exponent of Zipf's law; 0: all keys alike (default 1)")  # fmt: skip
    where = tiers.add_mutually_exclusive_group()
    where.add_argument("--url", default="", metavar="URL",
                       help="a Redis or Valkey to use, as RedisStore takes it")  # fmt: skip
    where.add_argument("--sqlite", action="store_true", help="an SQLite file as L2 in any case")
    tiers.set_defaults(run=run, error=tiers.error)


def _number(
    kind: Callable[[str], Any], least: float, most: float = math.inf
) -> Callable[[str], Any]:
    """A parser of numbers within bounds."""
    bounds = f"at least {least:g}" + ("" if most == math.inf else f" and at most {most:g}")

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"must be a number of {bounds}, got {text!r}")
        return value

    return parse


def run(options: argparse.Namespace) -> int:
    """Carry the subcommand out; return the exit code."""
    try:
        from . import tiers

        if options.url:
            from fastcache.stores.redis import RedisStore

            RedisStore(options.url).close()
    except ImportError as error:
        print(f"fastcache demo: {error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError) as error:
        options.error(f"--url: {error}")
    names = tiers.Plan.__dataclass_fields__
    return tiers.run(tiers.Plan(**{name: getattr(options, name) for name in names}))
