"""A sample of `make bench-firing`: the figures are there and hold together. Nothing is judged by time."""

from __future__ import annotations

import asyncio
import json
import random
from xml.etree import ElementTree

import pytest

from streams.events.calling import CallAnswered, CallFired
from tests.bench.firing import ours, row, summary, text, world
from tests.bench.firing_grid import BYTES_PER_TOKEN, Cell, every_cell
from tests.bench.firing_picture import picture
from tests.bench.firing_world import tool_call_deltas

SHORT_MS = 1_000
SEED = 20


def cells() -> list[Cell]:
    """Two short ones: one where something can be hidden, one with several calls."""
    short = [cell for cell in every_cell() if cell.whole_ms <= SHORT_MS]
    chosen = random.Random(SEED)
    return [
        chosen.choice([cell for cell in short if cell.hideable_ms >= cell.delay_ms / 2 and cell.calls == 1]),
        chosen.choice([cell for cell in short if cell.calls > 1]),
    ]


@pytest.mark.asyncio
async def test_two_cells_through_the_real_turn_machine() -> None:
    chosen = cells()
    async with asyncio.timeout(60):
        with world() as port:
            pairs = await ours(f"127.0.0.1:{port}", chosen, {20: 2, 50: 2, 200: 2})
    rows = [row(early, whole, {}) for early, whole in pairs]
    for cell, (early, whole) in zip(chosen, pairs, strict=True):
        for run in (early, whole):
            assert sum(isinstance(fact, CallFired) for fact in run.facts) == cell.calls
            assert sum(isinstance(fact, CallAnswered) for fact in run.facts) == cell.calls
            assert run.turn_ms > 0
            assert len(run.end.savings) == cell.calls
        fired = [fact for fact in early.facts if isinstance(fact, CallFired)]
        ready = [round(ms * cell.rate / 1000) - 1 for ms in cell.ready_ms]
        assert [fact.token for fact in fired] == ready, "each left with the token that closed what it needed"
        assert any(fact.written for fact in fired)
        late = {fact.token for fact in whole.facts if isinstance(fact, CallFired)}
        assert late == {whole.end.plan_tokens - 1}, "none left before the last token"
    assert all(one["facts"] == [] for one in rows)
    total = summary(rows)
    assert total["fire_lag_ms"]["count"] == sum(cell.calls for cell in chosen)
    assert all(str(cell.delay_ms) in text(rows, total) for cell in chosen)
    assert ElementTree.fromstring(picture(rows, total)).tag.endswith("svg")


def test_the_grid_is_whole_and_its_schedules_agree() -> None:
    grid = list(every_cell())
    assert len(grid) == len(set(grid)) == 3 * 3 * 3 * 2 * 2
    for cell in grid:
        assert len(cell.text("r123w")) == len(cell.text("r999e"))
        assert 0 <= cell.hideable_ms <= cell.delay_ms
        assert cell.stream_ms <= cell.bound_ms <= cell.whole_ms
    assert {cell.hideable_ms < cell.delay_ms / 2 for cell in grid} == {True, False}


@pytest.mark.parametrize("cell", [Cell(50, 300, 3, 100, "first"), Cell(200, 50, 1, 0, "last")])
def test_the_others_model_plays_the_same_stream(cell: Cell) -> None:
    """As many deltas as tokens; the tool calls they spell are the plan's."""
    deltas = tool_call_deltas(cell, "r001l")
    whole = cell.text("r001l")
    assert len(deltas) == -(-len(whole) // BYTES_PER_TOKEN)
    arguments = [""] * cell.calls
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            arguments[part["index"]] += part["function"]["arguments"]
    said = "".join(delta["content"] or "" for delta in deltas)
    calls, end = json.JSONDecoder().raw_decode(whole)
    assert [json.loads(text) for text in arguments] == [call["arguments"] for call in calls]
    assert whole[end:].endswith(said)
    assert len(said) >= len(whole[end:]) - BYTES_PER_TOKEN
