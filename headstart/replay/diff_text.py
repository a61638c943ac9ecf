"""A comparison of two runs as text, for terminals and golden files. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.replay.diff import Change, Diff, Figure, Line, TurnDiff

AROUND = 2  # lines of what is the same that are shown around what is not
WIDTH = 200


def render_text(diff: Diff, *, figures: bool = True) -> str:
    """Every changed turn, then a count. figures: with times, tokens and cost."""
    lines = [f"A  {diff.a}", f"B  {diff.b}", ""]
    for turn in diff.turns:
        if not turn.same:
            lines += [*_turn(turn, figures), ""]
    lines.append(f"{diff.changed} of {len(diff.turns)} turns changed")
    return "\n".join(lines) + "\n"


def _turn(turn: TurnDiff, figures: bool) -> Iterator[str]:
    yield f"{turn.turn}  {_cut(turn.question)}"
    if turn.only:
        yield f"  only in {turn.only}"
        return
    step = ""
    for change in turn.changes:
        if change.step != step:
            step = change.step
            yield f"  {step}"
        yield from _change(change)
    if figures:
        yield "  figures"
        for figure in turn.figures:
            if shown := show_figure(figure):
                yield f"    {figure.name:<24} {shown}"


def _change(change: Change) -> Iterator[str]:
    if not change.lines:
        yield f"    {change.what}: {_cut(change.before)} → {_cut(change.after)}"
        return
    yield f"    {change.what}:"
    for line in shortened(change.lines):
        yield f"      {line.sign} {_cut(line.text)}".rstrip()


def shortened(lines: tuple[Line, ...]) -> list[Line]:
    """What changed, with a little of what is around it."""
    changed = [index for index, line in enumerate(lines) if line.sign != " "]
    kept = {near for index in changed for near in range(index - AROUND, index + AROUND + 1)}
    shown: list[Line] = []
    for index, line in enumerate(lines):
        if index in kept:
            shown.append(line)
        elif not shown or shown[-1].text != "…":
            shown.append(Line(" ", "…"))
    return shown


def show_figure(figure: Figure) -> str:
    """`before → after (change)`; "" where both are nothing."""
    if not figure.before and not figure.after:
        return ""
    both = f"{_number(figure.before, figure.unit)} → {_number(figure.after, figure.unit)}"
    if figure.before is None or figure.after is None or figure.before == figure.after:
        return both
    change = figure.after - figure.before
    share = f", {change / figure.before:+.0%}" if figure.before else ""
    return f"{both} ({'+' if change > 0 else ''}{_number(change, figure.unit)}{share})"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "usd":
        return f"${value:.6f}"
    return f"{value:,.0f} {unit}"


def _cut(text: str) -> str:
    text = text.replace("\n", " ⏎ ")
    return text if len(text) <= WIDTH else text[:WIDTH] + "…"
