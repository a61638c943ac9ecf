"""A turn's timeline as text: what happened when, and a picture of which call ran while the plan was still written.

`render(frames)` is a pure function of a turn's frames, so anyone with the log gets the same page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from headstart.client_readers import Frame
from headstart.turn_view import CallView, StepView, TurnView, printable, view_of

PICTURE_COLUMNS: Final = 56
TEXT_COLUMNS: Final = 72
_WRITTEN, _RUNNING, _BOTH = "░", "━", "█"


def render(frames: Iterable[Frame]) -> str:
    """The timeline of one turn, from all of its frames in order. Lines end with a newline, also the last."""
    return render_view(view_of(frames))


def render_view(view: TurnView) -> str:
    """The same from a fold, also of a turn that still runs."""
    lines = [_title(view)]
    lines += [f"{_clock(view, at_ms)}  {name:<9} {text}".rstrip() for at_ms, name, text in _entries(view)]
    lines += _picture(view)
    lines += _saving(view)
    return "\n".join(lines) + "\n"


def _title(view: TurnView) -> str:
    took = f" in {view.took_ms:,} ms" if view.took_ms >= 0 else ""
    reason = f" ({view.reason})" if view.reason else ""
    return f"turn {view.response or '?'}: {view.status}{took}{reason}"


def _clock(view: TurnView, at_ms: int) -> str:
    return f"{at_ms - view.began_ms:>7,} ms" if at_ms >= 0 and view.began_ms >= 0 else " " * 10


def _entries(view: TurnView) -> list[tuple[int, str, str]]:
    """(time, what, text) of everything that happened, in order of time."""
    entries = [*_known(view), *_model_calls(view)]
    for call in view.calls.values():
        entries += _call(call)
    for approval in view.approvals:
        entries.append((approval["at_ms"], "approval", f"asked for {approval['skill']}, request {approval['request']}"))
    if view.committed:
        text = f"{_count(view.committed['calls'], 'call')}, {_count(view.committed['tokens'], 'token')}"
        entries.append((view.committed["at_ms"], "plan", f"committed: {text}"))
    entries.sort(key=lambda entry: entry[0])
    if view.ended_ms >= 0:
        told = f"{len(view.text):,} characters: {printable(view.text, TEXT_COLUMNS)}" if view.text else "no text"
        entries.append((view.ended_ms, view.status, printable(view.error) or told))
    return entries


def _known(view: TurnView) -> list[tuple[int, str, str]]:
    entries: list[tuple[int, str, str]] = []
    if view.route:
        agent = view.route.get("agent") or "out of scope"
        entries.append(
            (view.route["at_ms"], "route", f"{agent}, by {view.route['by']} in {_ms(view.route['took_ms'])}")
        )
    if view.recalled:
        items = view.recalled["items"]
        text = (
            f"{_count(len(items), 'memory', 'memories')}, {_count(view.recalled.get('history_messages', 0), 'message')}"
        )
        entries.append((view.recalled["at_ms"], "recall", f"{text} in {_ms(view.recalled['took_ms'])}"))
        entries += [
            (
                view.recalled["at_ms"],
                "",
                f"{item['layer']} {item['score']:.2f}: {printable(item['text'], TEXT_COLUMNS)}",
            )
            for item in items
        ]
    if view.skills:
        named = ", ".join(f"{item['skill']} {item['score']:.2f}" for item in view.skills["skills"])
        entries.append((view.skills["at_ms"], "skills", f"{named or 'none'} in {_ms(view.skills['took_ms'])}"))
    return entries


def _model_calls(view: TurnView) -> list[tuple[int, str, str]]:
    entries = []
    for step in view.steps:
        again = f", epoch {step.epoch}" if step.epoch > 1 else ""
        entries.append((step.began_ms, step.step, f"begins ({step.model}{again})"))
        if step.ended_ms >= 0:
            first = f", the first after {_ms(step.first_token_ms)}" if step.first_token_ms >= 0 else ""
            entries.append((step.ended_ms, step.step, f"{step.reason} after {step.tokens} tokens{first}"))
    if view.repairs:
        entries.append((view.plan_ended_ms, "plan", f"repaired: {', '.join(view.repairs)}"))
    return entries


def _call(call: CallView) -> list[tuple[int, str, str]]:
    name = f"call {call.call}"
    entries = []
    if call.opened_ms >= 0:
        entries.append((call.opened_ms, name, f"opened    {call.skill} at token {call.opened_token}"))
    if call.fired_ms >= 0:
        when = f"at token {call.fired_token}, still being written" if call.fired_early else "written whole"
        if call.firings > 1:
            when += f", firing {call.firings}"
        what = printable(call.fired_arguments, TEXT_COLUMNS)
        entries.append((call.fired_ms, name, f"fired     {call.skill} {when} {what}"))
    if call.closed_ms >= 0:
        mended = f", repaired: {', '.join(call.repairs)}" if call.repairs else ""
        entries.append((call.closed_ms, name, f"closed    {call.skill} at token {call.closed_token}{mended}"))
    if call.outcome == "answered":
        result = printable(call.result, TEXT_COLUMNS)
        entries.append((call.ended_ms, name, f"answered  {call.detail} in {_ms(call.took_ms)} {result}"))
    elif call.outcome:
        doubt = ", in doubt" if call.in_doubt else ""
        entries.append((call.ended_ms, name, f"{call.outcome:<9} {printable(call.detail)}{doubt}"))
    return entries


def _picture(view: TurnView) -> list[str]:
    """One bar per model call and tool call over the turn's time; nothing when nothing took any."""
    ends = [view.ended_ms, *(step.ended_ms for step in view.steps), *(call.ended_ms for call in view.calls.values())]
    end_ms = max(ends)
    if view.began_ms < 0 or end_ms <= view.began_ms:
        return []
    scale = PICTURE_COLUMNS / (end_ms - view.began_ms)
    rows = [(step.began_ms, step.step, _bar(view, scale, [_span(step, end_ms)], [])) for step in view.steps]
    for call in view.calls.values():
        written = [(call.opened_ms, call.closed_ms if call.closed_ms >= 0 else view.plan_ended_ms)]
        running = [(call.fired_ms, call.ended_ms if call.ended_ms >= 0 else end_ms)]
        began_ms = call.opened_ms if call.opened_ms >= 0 else call.fired_ms
        rows.append((began_ms, f"call {call.call} {call.skill}", _bar(view, scale, written, running)))
    rows.sort(key=lambda row: row[0])
    if not rows:
        return []
    width = min(28, max(len(name) for _, name, _ in rows))
    length = f"{end_ms - view.began_ms:,} ms"
    ruler = f"0{length:>{PICTURE_COLUMNS - 1}}"
    legend = f"{_WRITTEN} written  {_RUNNING} running  {_BOTH} running while written"
    return ["", f"{'':<{width}}  {ruler}", *(f"{name[:width]:<{width}}  {bar}" for _, name, bar in rows), legend]


def _span(step: StepView, end_ms: int) -> tuple[int, int]:
    return step.began_ms, step.ended_ms if step.ended_ms >= 0 else end_ms


def _bar(view: TurnView, scale: float, written: list[tuple[int, int]], running: list[tuple[int, int]]) -> str:
    cells = [0] * PICTURE_COLUMNS
    for weight, spans in ((1, written), (2, running)):
        for begin_ms, end_ms in spans:
            if begin_ms < 0 or end_ms < begin_ms:
                continue
            first = min(PICTURE_COLUMNS - 1, int((begin_ms - view.began_ms) * scale))
            last = max(first + 1, round((end_ms - view.began_ms) * scale))
            for cell in range(max(0, first), min(PICTURE_COLUMNS, last)):
                cells[cell] |= weight
    return "".join((" ", _WRITTEN, _RUNNING, _BOTH)[cell] for cell in cells).rstrip()


def _saving(view: TurnView) -> list[str]:
    """What firing early saved, also when that is nothing."""
    if not view.summary:
        return []
    summary = view.summary
    lines = [""]
    if view.calls:
        plan = f"plan {summary['plan_tokens']} tokens in {_ms(summary['plan_ms'])}"
        hidden = [call for call in view.calls.values() if call.hidden_ms >= 0]
        lines.append(f"saved {_ms(summary['saved_ms'])} of at most {_ms(summary['oracle_ms'])}; {plan}")
        lines += [f"  call {call.call} {call.skill}: {_ms(call.hidden_ms)} hidden behind the plan" for call in hidden]
    for use in summary.get("models", ()):
        unseen = f", {use['hidden_tokens']} of them hidden" if use.get("hidden_tokens") else ""
        cost = f", ${use['cost_usd']:.6f}" if use.get("cost_usd") else ""
        tokens = f"{use['prompt_tokens']} tokens in, {use['completion_tokens']} out{unseen}"
        lines.append(f"{use['step']}: {use['model']}, {tokens}{cost}")
    if summary.get("in_doubt"):
        lines.append(f"in doubt: call {', '.join(str(call) for call in summary['in_doubt'])}")
    return lines


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _ms(value: float) -> str:
    """Milliseconds with as many places as tell something."""
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
