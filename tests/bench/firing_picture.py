"""The grid as a picture: each cell's turn time as a share of the schedule that waits for the whole message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

WIDTH: Final = 300  # of a panel, in pixels
HEIGHT: Final = 150
GAP: Final = 30
TOP: Final = 70
LEFT: Final = 70
FULL: Final = 1.25  # of the whole-message schedule: the top of each panel
COLOURS: Final = {"early": "#1668b8", "whole message": "#9aa5b1", "langgraph": "#d1731c", "pydantic_ai": "#8a3fa0"}
LABELS: Final = {"early": "firing early", "langgraph": "LangGraph", "pydantic_ai": "pydantic-ai"}


def picture(rows: Sequence[dict[str, Any]], total: dict[str, Any]) -> str:
    """An SVG document: a panel for each pace and skill; in it a bar for each cell, a line at its bound, dots for the
    others. 100 % is the schedule of waiting for the whole message; shorter is better."""
    rates = sorted({one["tokens_per_second"] for one in rows})
    delays = sorted({one["skill_ms"] for one in rows})
    wide, high = LEFT + len(rates) * (WIDTH + GAP), TOP + len(delays) * (HEIGHT + GAP) + 60
    share, lag = total["hidden_share"], total["fire_lag_ms"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
        (
            f'<text x="{LEFT}" y="22" font-size="15">Turn time, % of waiting for the whole message: {share:.1%} of the '
            f"hideable latency hidden, fire lag p50 {lag['p50']:.1f} ms</text>"
        ),
    ]
    shown = ["early", "whole message", *rows[0]["others_turn_ms"]]
    for place, name in enumerate(shown):
        at = LEFT + place * 130
        parts.append(f'<rect x="{at}" y="34" width="10" height="10" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{at + 15}" y="43">{LABELS.get(name, name)}</text>')
    at = LEFT + len(shown) * 130
    parts.append(f'<path d="M{at} 39h12" stroke="black" stroke-width="2"/><text x="{at + 17}" y="43">bound</text>')
    for column, rate in enumerate(rates):
        for line, delay_ms in enumerate(delays):
            chosen = [one for one in rows if (one["tokens_per_second"], one["skill_ms"]) == (rate, delay_ms)]
            left, top = LEFT + column * (WIDTH + GAP), TOP + line * (HEIGHT + GAP)
            parts += _panel(chosen, left, top, f"{rate} tokens/s, skill {delay_ms} ms")
    foot = TOP + len(delays) * (HEIGHT + GAP) + 12
    parts.append(
        f'<text x="{LEFT}" y="{foot}" fill="#555">In each panel: 1, 3, 6 calls; for each 0 and 100 tokens after the '
        "plan; for each needed parameter first, last.</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _panel(rows: Sequence[dict[str, Any]], left: int, top: int, title: str) -> list[str]:
    def level(share: float) -> float:
        return round(top + HEIGHT - min(share, FULL) / FULL * HEIGHT, 1)

    parts = [f'<text x="{left}" y="{top - 4}">{title}</text>']
    for percent in (0, 50, 100):
        y = level(percent / 100)
        parts.append(f'<path d="M{left} {y}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 4}" text-anchor="end" fill="#555" font-size="9">{percent}</text>')
    slot = WIDTH / max(1, len(rows))
    for index, one in enumerate(rows):
        x, whole = left + index * slot, one["whole_ms"]
        y = level(one["early_turn_ms"] / whole)
        parts.append(
            f'<rect x="{x + slot * 0.15:.1f}" y="{y}" width="{slot * 0.7:.1f}" height="{top + HEIGHT - y:.1f}" '
            f'fill="{COLOURS["early"]}"/>'
        )
        y = level(one["bound_ms"] / whole)
        parts.append(f'<path d="M{x + slot * 0.1:.1f} {y}h{slot * 0.8:.1f}" stroke="black" stroke-width="2"/>')
        dots = {"whole message": one["whole_turn_ms"], **one["others_turn_ms"]}
        for place, (name, turn_ms) in enumerate(dots.items()):
            spot = x + slot * (0.3 + 0.2 * place)
            y = level(turn_ms / whole)
            parts.append(f'<circle cx="{spot:.1f}" cy="{y}" r="2.6" fill="{COLOURS[name]}" stroke="white"/>')
    return parts
