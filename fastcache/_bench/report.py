"""The HTML page of a run: self-contained, for light and dark, for a wide screen and a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from . import plots, session, stats, table
from .model import FLOOR, US, Cell, Result, is_rival
from .rows import NOT_MEASURED
from .style import CSS

#: One letter per subject, so that colour alone says nothing.
_LETTERS = {
    "functools": "F", "dict": "D", "cachetools": "C", "cachebox": "B", "cachebox:fifo": "b",
    "theine": "T", "moka-py": "M", "lru-dict": "L", "async-lru": "A", "aiocache": "I", "cashews": "H",
    "old-fastcache": "O",
    "fastcache:lru": "u", "fastcache:loop": "u", "fastcache:lru_cache": "u",
    "fastcache:get_or_set": "u", "uncached": "0",
    "lock chain": "K",
}  # fmt: skip
_WORDS = {"met": "met", "miss": "miss", "not judged": "not judged"}


def page(outcome: session.Outcome) -> str:
    """Return the whole page."""
    results = outcome.results
    groups = dict.fromkeys(result.row.group for result in results)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>fastcache bench</title><style>{CSS}</style></head><body><main>",
        _head(outcome),
        *(_group(name, [r for r in results if r.row.group == name]) for name in groups),
        _conditions(outcome),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _head(outcome: session.Outcome) -> str:
    facts, results = outcome.conditions, outcome.results
    counts = {word: sum(r.verdict == word for r in results) for word in _WORDS}
    tiles = "".join(
        f'<div class="tile {word.replace(" ", "-")}"><b>{count}</b> {word}</div>'
        for word, count in counts.items()
    )
    build = "PGO" if facts["build"]["pgo"] else "no PGO"
    where = f"{facts['cpu']}, Python {facts['python']} ({build}), {facts['date'][:10]}"
    commit = f", commit {facts['commit']}" if facts["commit"] else ""
    legend = "".join(
        f'<li><span class="dot s-{plots.slug(name)}">{escape(_letter(name))}</span> '
        f"{escape(name)}{_version(outcome, name)}</li>"
        for name in table.columns(results)
        if name != US
    )
    return (
        f"<header><h1>fastcache against the others</h1><p>{escape(where + commit)}</p>"
        f'<p class="lead">{escape(headline(results))}</p>'
        f'<div class="tiles" aria-label="targets">{tiles}</div></header>'
        "<section><h2>How to read the plots</h2><p>Each disc says how many times <em>our</em> time "
        "or size somebody else takes, on a logarithmic scale. The line marked <b>us</b> is "
        "fastcache: to its right they take more than we do, to its left, shaded, they take less. "
        "The bar behind a disc is the 95% interval of the median ratio of paired rounds. dict "
        f"bounds and evicts nothing: it is the floor.</p><ul class='legend'>{legend}</ul></section>"
    )


def _version(outcome: session.Outcome, name: str) -> str:
    version = str(outcome.conditions["peers"].get(name, ""))
    return f" {escape(version)}" if version[:1].isdigit() else ""


def _letter(name: str) -> str:
    return _LETTERS.get(name, name[:1].upper())


def headline(results: Sequence[Result]) -> str:
    """Return in one or two sentences who is ahead by how much."""
    compared = [(result, best) for result in results if (best := _nearest(result)) is not None]
    if not compared:
        return "fastcache was not measured in this run, so there is nobody to compare with."
    ahead = sum(1 for _, (_, cell) in compared if cell.ratio is not None and cell.ratio <= 1.0)
    text = f"fastcache leads every peer in {ahead} of {len(compared)} rows."
    loops = [
        1.0 / result.cells["functools"].ratio
        for result in results
        if result.row.kind == "loop"
        and "functools" in result.cells
        and result.cells["functools"].ratio
    ]
    if loops:
        text += (
            f" It is {stats.median(loops):.1f} times as fast as functools.lru_cache in the median "
            f"of {len(loops)} timed rows ({min(loops):.1f} to {max(loops):.1f})."
        )
    return text


def _nearest(result: Result) -> tuple[str, Cell] | None:
    """Return the rival nearest to us, or furthest ahead of us."""
    rivals = [
        (name, cell)
        for name, cell in result.cells.items()
        if is_rival(name) and cell.ratio is not None and not cell.excluded
    ]
    return max(rivals, key=lambda pair: pair[1].ratio or 0.0) if rivals else None


def _lead(result: Result) -> str:
    nearest = _nearest(result)
    if nearest is None:
        return ""
    name, cell = nearest
    assert cell.ratio is not None
    if cell.ratio > 1.0:
        return f"{name} leads us by {cell.ratio:.2f} times"
    return f"{1.0 / cell.ratio:.2f} times ahead of {name}, the best peer"


def _marks(result: Result) -> list[plots.Mark]:
    marks = []
    for name, cell in result.cells.items():
        if name == US or not cell.ratio or cell.median is None:
            continue
        text = (
            f"{name} {table.number(cell.median)} {result.row.unit}, {1 / cell.ratio:.2f} times ours"
        )
        bounds = (cell.ratio_high, cell.ratio_low)
        low, high = (1 / bound if bound else None for bound in bounds)
        marks.append(plots.Mark(name, _letter(name), 1 / cell.ratio, text, low, high))
    return marks


def _group(name: str, results: Sequence[Result]) -> str:
    marks = {result.row.name: _marks(result) for result in results}
    scale = plots.scale_for(mark.value for some in marks.values() for mark in some)
    parts = [f"<section><h2>{escape(name[:1].upper() + name[1:])}</h2>"]
    plotted = [result for result in results if marks[result.row.name]]
    if plotted:
        parts.append(plots.axis(scale))
        for result in plotted:
            title = result.row.title
            ours = f"{table.number(result.cells[US].median)} {result.row.unit}"
            badge = f'<span class="badge {result.verdict.replace(" ", "-")}">target: {result.verdict}</span>'
            parts.append(
                f'<div class="row"><h3>{escape(title)} <small>{escape(ours)}</small> {badge}</h3>'
                + plots.strip(marks[result.row.name], scale, title)
                + f'<p class="lead-by">{escape(_lead(result))}</p></div>'
            )
    parts.append(_table(results, "value"))
    if any(c.instructions is not None for r in results for c in r.cells.values()):
        parts.append(_table(results, "instructions"))
    return "".join(parts) + "</section>"


def _table(results: Sequence[Result], metric: str) -> str:
    names = table.columns(results)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    last = '<th scope="col" class="words">targets</th>' if metric == "value" else ""
    lines = []
    for result in results:
        best = table.best_instructions(result) if metric == "instructions" else result.best()
        cells = "".join(_cell(result.cells.get(name), name == best, metric) for name in names)
        label = (
            result.row.title
            if metric == "instructions"
            else f"{result.row.title}, {result.row.unit}"
        )
        words = (
            f'<td class="words {result.verdict.replace(" ", "-")}">{escape(table.outcome(result))}</td>'
            if metric == "value"
            else ""
        )
        note = f' title="{escape(result.row.note, quote=True)}"' if result.row.note else ""
        lines.append(f'<tr><th scope="row"{note}>{escape(label)}</th>{cells}{words}</tr>')
    caption = (
        "Instructions per operation, counted by callgrind"
        if metric == "instructions"
        else "Medians; the best in bold. ~ does not compare, ! could not be measured"
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr><td></td>{head}{last}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell | None, best: bool, metric: str) -> str:
    text = escape(table.shown(cell, metric))
    if cell is None or not text:
        return "<td></td>"
    hint = cell.error or cell.note
    if not hint and metric == "value" and cell.values:
        hint = f"least {table.number(cell.minimum)}, {len(cell.values)} rounds"
    title = f' title="{escape(hint, quote=True)}"' if hint else ""
    return f"<td{title}>{'<b>' + text + '</b>' if best else text}</td>"


def _conditions(outcome: session.Outcome) -> str:
    facts = outcome.conditions
    pairs = [
        ("CPU", f"{facts['cpu']}, {facts['cores']} cores"),
        ("System", facts["system"]),
        ("Python", f"{facts['python']}, {facts['compiler']}"),
        ("Build", session.build_text(facts["build"])),
        ("fastcache", f"{facts['fastcache'] or 'absent'}, commit {facts['commit'] or 'unknown'}"),
        ("Date", facts["date"]),
        ("Load", f"{facts['load']} before, {facts['load_after']} after"),
        ("Huge pages", facts["huge_pages"] or "unknown"),
        ("Noise", session.noise_text(outcome)),
        ("Rounds", f"{outcome.plan.rounds} of a loop, {outcome.plan.child_rounds} of a process"),
        ("Method", "thread CPU time, empty loop subtracted, subjects interleaved, collector off"),
        ("Floor", f"{FLOOR}: it bounds nothing, and being behind it is not a miss by itself"),
        *((f"Absent: {name}", why) for name, why in facts["absent"].items()),
        *((f"Not measured: {name}", why) for name, why in NOT_MEASURED.items()),
    ]
    listed = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in pairs)
    notes = "".join(
        f"<li>{escape(line)}</li>" for line in (*outcome.notes, *table.remarks(outcome.results))
    )
    row_notes = "".join(
        f"<li>{escape(result.row.title)}: {escape(result.row.note)}</li>"
        for result in outcome.results
        if result.row.note
    )
    return (
        f"<section><h2>Conditions</h2><dl>{listed}</dl>"
        f"<h3>What the rows ask</h3><ul>{row_notes}</ul>"
        + (f"<h3>Remarks</h3><ul>{notes}</ul>" if notes else "")
        + "</section>"
    )
