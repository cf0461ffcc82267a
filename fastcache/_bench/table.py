"""The table that ends a run: one per group, the best in bold, our ratio against the target."""

from __future__ import annotations

from collections.abc import Sequence

from .model import CONTROLS, FLOOR, US, Cell, Result

_BOLD, _RED, _GREEN, _OFF = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"
_UNITS = {"ns": "ns per operation", "B": "bytes", "MB": "megabytes", "ms": "ms", "s": "seconds"}


def number(value: float | None) -> str:
    """Return a figure with three significant digits or so; `-` for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}"


def columns(results: Sequence[Result]) -> list[str]:
    """Return the subjects of the results: us, the rivals, the floor, the rest."""
    seen = dict.fromkeys(name for result in results for name in result.cells)
    last = [name for name in (FLOOR, *CONTROLS) if name in seen]
    own = [name for name in seen if name.startswith(US + ":")]
    rivals = [name for name in seen if name != US and name not in last and name not in own]
    return [name for name in (US, *rivals, *own, *last) if name in seen]


def shown(cell: Cell | None, metric: str) -> str:
    """Return what the table shows of a cell; `!` marks an error, `~` one that does not compare."""
    if cell is None:
        return ""
    if cell.error:
        return "!"
    value = cell.instructions if metric == "instructions" else cell.median
    return number(value) + ("~" if cell.excluded and value is not None else "")


def outcome(result: Result) -> str:
    """Return our figures against the targets, in words."""
    parts = []
    for verdict in result.verdicts:
        if verdict.reached is None:
            parts.append(f"{verdict.text}: not judged ({verdict.why})")
        else:
            parts.append(f"{number(verdict.reached)} of {verdict.text}: {verdict.result}")
    if result.behind:
        parts.append("miss: behind " + ", ".join(result.behind))
    if result.level:
        parts.append("level, within noise: " + ", ".join(result.level))
    elif not result.verdicts and result.verdict == "met":
        parts.append("ahead of every peer: met")
    return "; ".join(dict.fromkeys(parts))


def best_instructions(result: Result) -> str | None:
    """Return the subject of least instructions among us and the rivals."""
    counts = {
        name: cell.instructions
        for name, cell in result.cells.items()
        if cell.instructions is not None
        and not cell.excluded
        and name not in (FLOOR, *CONTROLS)
        and not name.startswith(US + ":")
    }
    return min(counts, key=lambda name: counts[name]) if counts else None


def _one_table(title: str, results: Sequence[Result], metric: str, colour: bool) -> list[str]:
    names = columns(results)
    head = ["", *names]
    body = []
    for result in results:
        unit = f" [{result.row.unit}]" if len({r.row.unit for r in results}) > 1 else ""
        label = result.row.title + unit
        body.append([label, *(shown(result.cells.get(name), metric) for name in names)])
    widths = [max(len(line[i]) for line in [head, *body]) + 1 for i in range(len(head))]
    lines = [title, _line(head, widths)]
    for result, cells in zip(results, body, strict=True):
        best = best_instructions(result) if metric == "instructions" else result.best()
        where = names.index(best) + 1 if best in names else None
        if where is not None and not colour:
            cells[where] = "*" + cells[where]
        line = _line(cells, widths, where if colour else None)
        if metric != "instructions":
            line += "  " + _coloured(result, colour)
        lines.append(line.rstrip())
    return [*lines, ""]


def _line(cells: Sequence[str], widths: Sequence[int], bold: int | None = None) -> str:
    parts = [cells[0].ljust(widths[0])]
    for index in range(1, len(cells)):
        text = cells[index].rjust(widths[index])
        parts.append(_BOLD + text + _OFF if index == bold else text)
    return " ".join(parts)


def _coloured(result: Result, colour: bool) -> str:
    text = outcome(result)
    if not colour or result.verdict == "not judged":
        return text
    return (_GREEN if result.verdict == "met" else _RED) + text + _OFF


def render(results: Sequence[Result], colour: bool) -> str:
    """Return the tables as text. Without `colour` the best is marked with an asterisk."""
    lines: list[str] = []
    for group in dict.fromkeys(result.row.group for result in results):
        mine = [result for result in results if result.row.group == group]
        units = {result.row.unit for result in mine}
        unit = _UNITS.get(next(iter(units)), "") if len(units) == 1 else "medians"
        lines += _one_table(f"{group} ({unit})", mine, "value", colour)
        counted = [r for r in mine if any(c.instructions is not None for c in r.cells.values())]
        if counted:
            lines += _one_table(
                f"{group} (instructions per operation)", counted, "instructions", colour
            )
    mark = "in bold" if colour else "*"
    lines.append(
        f"{mark}: the best cache (dict is the floor: it bounds nothing). Ratios: {US} / other, "
        "median of paired rounds.\n~ does not compare, ! could not be measured (see below)."
    )
    return "\n".join(lines)


def remarks(results: Sequence[Result]) -> list[str]:
    """Return a line per cell that carries a note or an error."""
    lines: dict[str, list[str]] = {}
    for result in results:
        for name, cell in result.cells.items():
            text = f"! {cell.error}" if cell.error else cell.note
            if text:
                lines.setdefault(f"{name}: {text}", []).append(result.row.name)
    return [f"{text} [{', '.join(rows)}]" for text, rows in lines.items()]


def tally(results: Sequence[Result]) -> str:
    """Return how many rows are met and missed, and which are missed."""
    missed = [result.row.name for result in results if result.verdict == "miss"]
    met = sum(result.verdict == "met" for result in results)
    open_ = len(results) - met - len(missed)
    text = f"{met} met, {len(missed)} missed, {open_} not judged"
    return text + (f"; missed: {', '.join(missed)}" if missed else "")
