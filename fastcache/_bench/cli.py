"""The command ``python -m fastcache bench``: options, the run, and where its results go.

numpy is imported by the run only, so that ``--help`` and ``--list`` work without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import rows as loop_rows
from .model import Row
from .subjects import OLD, PEERS, QUICK_PEERS, Presence, look_for

if TYPE_CHECKING:
    from .session import Plan

#: Rounds: at least seven, for the medians and their interval; the quick form has fewer of the
#: rows that need a process per subject and round.
ROUNDS, QUICK_ROUNDS, QUICK_CHILD_ROUNDS = 9, 7, 1
#: Left out by --quick: what takes longest, and what differs from another row in the key's identity.
QUICK_WITHOUT = (
    "call_int_equal", "call_str_equal", "get_str_equal", "get_int_equal", "get_tuple_equal",
    "overwrite_lfu", "overwrite_fifo", "gc_tracked", "worst_expiry", "memory_back", "bytes_ttl",
    "tiers", "cold_1000", "cached_str", "cached_two", "cached_keyword", "cached_none", "await_method",
)  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add the subcommand to the subparsers action of the main parser."""
    missing = "\n".join(f"  {row}: {why}" for row, why in loop_rows.NOT_MEASURED.items())
    parser = commands.add_parser(
        "bench",
        help="microbenchmarks against functools, dict and every installed peer",
        description="Measure fastcache against dict, functools and every installed peer:\n"
        "all subjects in one run, interleaved, thread CPU time, the empty loop subtracted,\n"
        "paired ratios per round, medians. Needs numpy: pip install 'fastcache-engine[bench]'.",
        epilog=f"not measured:\n{missing}\n\nexamples:\n"
        "  python -m fastcache bench --quick\n"
        "  python -m fastcache bench --rows call_int,get_str --instructions\n"
        "  python -m fastcache bench --json result.json --report result.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows",
        metavar="NAMES",
        help="only these rows or groups, separated by commas (see --list)",
    )
    parser.add_argument("--peers", metavar="NAMES", help=f"only these peers: {', '.join(PEERS)}")
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help=f"rounds per row (default {ROUNDS})"
    )
    parser.add_argument(
        "--instructions", action="store_true", help="also count instructions, with callgrind"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write one self-contained HTML page"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"under two minutes: fewer rows, and {', '.join(QUICK_PEERS)} as peers",
    )
    parser.add_argument("--list", action="store_true", help="list rows and peers, measure nothing")
    parser.add_argument(
        "--old-fastcache-python",
        metavar="PATH",
        help="an interpreter with the abandoned package of our name (fastcache 1.1.0); without it, "
        f"`--peers {OLD}` sets one up in a temporary environment",
    )
    parser.add_argument(
        "--entries", type=_positive, metavar="N", default=1_000_000,
        help="entries in the rows of size and pauses (default 1,000,000: what their targets mean)",
    )  # fmt: skip
    parser.add_argument(
        "--round-ms", type=_positive, metavar="MS", default=20,
        help="how long one round of one subject lasts (default 20)",
    )  # fmt: skip
    parser.add_argument(
        "--redis-url", metavar="URL",
        help="a Redis for the rows of tiers, which write to it; without it, a redis-server on PATH is "
        "started for each of them",
    )  # fmt: skip
    parser.set_defaults(run=run, error=parser.error)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    """Carry the subcommand out; return the exit code."""
    from .sizes import child_rows
    from .tiers import tier_rows

    rows = [*loop_rows.loop_rows(), *child_rows(), *tier_rows()]
    chosen = _choose_rows(options, rows)
    presence = _choose_peers(options)
    if options.list:
        _print_list(chosen, presence)
        return 0
    for name in ("json", "report"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.resolve().parent.is_dir():
            options.error(f"--{name}: no folder {path.parent} for {str(path)!r}")
    if importlib.util.find_spec("numpy") is None:
        print(
            "fastcache bench needs numpy for its statistics: pip install 'fastcache-engine[bench]'",
            file=sys.stderr,
        )
        return 1
    return _measure(_plan(options, chosen, presence), options)


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _choose_rows(options: argparse.Namespace, rows: Sequence[Row]) -> list[Row]:
    if options.rows is None:
        without = QUICK_WITHOUT if options.quick else ()
        return [row for row in rows if row.name not in without and row.group not in without]
    wanted = _names(options.rows)
    known = {row.name for row in rows} | {row.group for row in rows}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        listed = ", ".join(row.name for row in rows)
        options.error(f"--rows: no row {', '.join(map(repr, unknown)) or repr('')}; rows: {listed}")
    return [row for row in rows if row.name in wanted or row.group in wanted]


def _choose_peers(options: argparse.Namespace) -> dict[str, Presence]:
    """Return the peers asked for; a wrong name ends the program, an absent one is said."""
    if options.peers is None:
        wanted = list(QUICK_PEERS if options.quick else PEERS)
    else:
        wanted = _names(options.peers)
        unknown = [name for name in wanted if name not in PEERS]
        if unknown or not wanted:
            listed = ", ".join(PEERS)
            options.error(
                f"--peers: no peer {', '.join(map(repr, unknown)) or repr('')}; peers: {listed}"
            )
    if options.old_fastcache_python and OLD not in wanted:
        wanted.append(OLD)
    found = {name: look_for(name) for name in wanted if name != OLD}
    if OLD in wanted:
        found[OLD] = Presence(absent="give --old-fastcache-python, or name it in --peers")
    return found


def _print_list(rows: Sequence[Row], presence: dict[str, Presence]) -> None:
    print("rows:")
    for row in rows:
        print(f"  {row.name:<18} {row.group:<16} {row.title}")
    print("\npeers:")
    for name, found in presence.items():
        state = found.version or f"absent: {found.absent}"
        remark = f" ({PEERS[name].remark})" if PEERS[name].remark else ""
        print(f"  {name:<18} {state}{remark}")
    print("\nnot measured:")
    for name, why in loop_rows.NOT_MEASURED.items():
        print(f"  {name}: {why}")


def _plan(options: argparse.Namespace, rows: list[Row], presence: dict[str, Presence]) -> Plan:
    from .session import Plan

    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    child_rounds = options.rounds or (QUICK_CHILD_ROUNDS if options.quick else ROUNDS)
    return Plan(
        rows=rows,
        presence=presence,
        rounds=rounds,
        child_rounds=child_rounds,
        instructions=options.instructions,
        round_ns=options.round_ms * 1_000_000,
        entries=options.entries,
        old_python=options.old_fastcache_python,
        redis_url=options.redis_url,
        set_old_up=options.peers is not None and OLD in presence,
    )


def _measure(plan: Plan, options: argparse.Namespace) -> int:
    from . import session, table

    outcome = session.run(plan)
    colour = sys.stdout.isatty()
    print(table.render(outcome.results, colour))
    for line in session.footer(outcome):
        print(line)
    if options.json is not None:
        text = json.dumps(session.as_json(outcome), indent=1, sort_keys=False, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
        print(f"written: {options.json}")
    if options.report is not None:
        from . import report

        options.report.write_text(report.page(outcome), encoding="utf-8")
        print(f"written: {options.report}")
    return 0
