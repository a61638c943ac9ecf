"""A comparison of two runs as one HTML page that needs nothing else: for people, and for an artefact of CI. Pure.

Everything that comes from turns is escaped; there is no script in the page. Steps and answers are side by side, texts
line by line with the changed words marked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from html import escape

from headstart.replay.diff import Change, Diff, Line, TurnDiff
from headstart.replay.diff_text import shortened, show_figure

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --old: #d73a4922; --new: #2ea04322; --oldword: #d73a4955;
  --newword: #2ea04355; --quiet: #888; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 0; } h3 { font-size: .9rem; margin: 1rem 0 .3rem; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
article.same { padding: .4rem 1rem; color: var(--quiet); }
code, pre, td.value { font: 13px/1.45 ui-monospace, monospace; } pre { margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; } table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { text-align: left; vertical-align: top; padding: .2rem .5rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; } th { font-weight: 500; width: 24%; } td.old, pre .old { background: var(--old); }
td.new, pre .new { background: var(--new); } pre span { display: block; } del { background: var(--oldword);
  text-decoration: none; } ins { background: var(--newword); text-decoration: none; }
.quiet { color: var(--quiet); } nav a { margin-right: .8rem; } .count { font-variant-numeric: tabular-nums; }
"""


def render_html(diff: Diff) -> str:
    """The page. Turns that are the same are named in one line each."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{diff.changed} of {len(diff.turns)} turns changed</title><style>{_STYLE}</style></head><body>",
        f"<h1>{diff.changed} of {len(diff.turns)} turns changed</h1>",
        f"<p><b>A</b> {escape(diff.a)}<br><b>B</b> {escape(diff.b)}</p>",
        "<nav>",
        *(f'<a href="#{escape(turn.turn)}">{escape(_title(turn))}</a>' for turn in diff.turns if not turn.same),
        "</nav>",
        *(part for turn in diff.turns for part in _turn(turn)),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _title(turn: TurnDiff) -> str:
    return turn.question[:60] or turn.turn


def _turn(turn: TurnDiff) -> Iterator[str]:
    if turn.same:
        yield f'<article class="same">{escape(_title(turn))} <span class="quiet">the same</span></article>'
        return
    yield f'<article id="{escape(turn.turn)}"><h2>{escape(turn.question or turn.turn)}</h2>'
    yield f'<code class="quiet">{escape(turn.turn)}</code>'
    if turn.only:
        yield f"<p>only in {turn.only}</p></article>"
        return
    step = ""
    for change in turn.changes:
        if change.step != step:
            step = change.step
            yield f"<h3>{step}</h3>"
        yield _change(change)
    rows = [(figure.name, show_figure(figure)) for figure in turn.figures]
    yield "<h3>figures</h3><table class=count>"
    for name, shown in rows:
        if shown:
            yield f"<tr><th>{escape(name)}</th><td>{escape(shown)}</td></tr>"
    yield "</table></article>"


def _change(change: Change) -> str:
    if change.lines:
        lines = "".join(_lines(tuple(shortened(change.lines))))
        return f'<p class="quiet">{escape(change.what)}</p><pre>{lines}</pre>'
    before, after = words(change.before, change.after)
    return (
        f'<table><tr><th>{escape(change.what)}</th><td class="value old">{before}</td>'
        f'<td class="value new">{after}</td></tr></table>'
    )


def _lines(lines: tuple[Line, ...]) -> Iterator[str]:
    """Removed lines beside the added ones that took their place have their words compared."""
    index = 0
    while index < len(lines):
        end = index
        while end < len(lines) and lines[end].sign == "-":
            end += 1
        more = end
        while more < len(lines) and lines[more].sign == "+":
            more += 1
        old, new = [line.text for line in lines[index:end]], [line.text for line in lines[end:more]]
        if old or new:
            pairs = [words(one, other) for one, other in zip(old, new, strict=False)]
            olds = [*(one for one, _ in pairs), *map(escape, old[len(pairs) :])]
            news = [*(other for _, other in pairs), *map(escape, new[len(pairs) :])]
            yield from (f'<span class="old">- {text}</span>' for text in olds)
            yield from (f'<span class="new">+ {text}</span>' for text in news)
            index = more
        else:
            yield f"<span>  {escape(lines[index].text)}</span>"
            index += 1


def words(before: str, after: str) -> tuple[str, str]:
    """Two texts as HTML, the words that differ marked."""
    one, other = re.findall(r"\w+|\s+|.", before, re.DOTALL), re.findall(r"\w+|\s+|.", after, re.DOTALL)
    old, new = [], []
    for tag, begin, end, other_begin, other_end in difflib.SequenceMatcher(None, one, other, False).get_opcodes():
        removed, added = escape("".join(one[begin:end])), escape("".join(other[other_begin:other_end]))
        if tag == "equal":
            old.append(removed)
            new.append(added)
        else:
            old.append(f"<del>{removed}</del>" if removed else "")
            new.append(f"<ins>{added}</ins>" if added else "")
    return "".join(old), "".join(new)
