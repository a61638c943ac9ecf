"""Bare and on the bus, one after the other, at each number of streams; then cancel and takeover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.bench.figures import Spread, number, spread, table
from tests.bench.gpu.asking import Answered, Task, percentile
from tests.bench.gpu.bare import Bare
from tests.bench.gpu.on_bus import on_bus
from workers.generation.engine import Engine
from workers.generation.vllm_engine import VllmEngine

GOAL: Final = 0.97
TEXT: Final = """\
Tokens/s of all streams together; ratio: on the bus by bare, goal ≥ {goal}. First token and gaps between tokens in ms,
p50 / p99, as whoever asked saw them: on the bus that is another process, reading the log."""


@dataclass(frozen=True, slots=True)
class Level:
    """rounds: answers of each stream. tokens: of each answer, at most."""

    rounds: int
    tokens: int


@dataclass(slots=True)
class Compared:
    """rows: (bare, on the bus); bare is None for an engine that is not vLLM. *_ms: of `repeats` each."""

    rows: list[tuple[Answered | None, Answered]] = field(default_factory=list)
    bare_cancel: Spread = field(default_factory=lambda: spread(()))
    cancel: Spread = field(default_factory=lambda: spread(()))
    takeover: Spread = field(default_factory=lambda: spread(()))

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [
                {"streams": ours.streams, "bare": msgspec.to_builtins(bare), "on_bus": msgspec.to_builtins(ours),
                 "ratio": ratio(bare, ours)}
                for bare, ours in self.rows
            ],
            "cancel_to_freed_ms": {"bare": self.bare_cancel.as_json(), "on_bus": self.cancel.as_json()},
            "takeover_pause_ms": self.takeover.as_json(),
        }  # fmt: skip


def ratio(bare: Answered | None, ours: Answered) -> float | None:
    return round(ours.tokens_per_second / bare.tokens_per_second, 4) if bare is not None else None


async def compare(
    engine: Engine, streams: Sequence[int], level: Level, repeats: int, folder: Path, kafka_home: Path | None,
    say: Callable[[str], None],
) -> Compared:  # fmt: skip
    """The engine must have been started and is left running. Raises LeftOut when who asks fails."""
    found = Compared()
    bare = Bare(engine) if isinstance(engine, VllmEngine) else None

    async def freed() -> None:
        if bare is not None:
            await bare.freed()

    async with on_bus(engine, folder, kafka_home, max(streams), freed) as ours:
        if bare is not None:
            await bare.ask(Task(streams=1, rounds=1, tokens=level.tokens))  # the first answer compiles and captures
        for count in streams:
            task = Task(streams=count, rounds=level.rounds, tokens=level.tokens)
            theirs = None
            if bare is not None:
                say(f"  {count} streams, bare …")
                theirs = await bare.ask(task)
                await bare.forget()
            say(f"  {count} streams, on the bus …")
            found.rows.append((theirs, await ours.ask(task)))
        say("  cancel and takeover …")
        if bare is not None:
            found.bare_cancel = spread([await bare.cancel_ms() for _ in range(repeats)])
        found.cancel = spread([await ours.cancel_ms() for _ in range(repeats)])
        if engine.can_continue:
            pauses = []
            for _ in range(repeats):
                pauses.append(await ours.takeover_ms())
                await asyncio.sleep(0)
            found.takeover = spread(pauses)
    return found


def levels_text(found: Compared) -> str:
    rows = []
    for bare, ours in found.rows:
        share = ratio(bare, ours)
        rows.append([
            str(ours.streams), number(bare.tokens_per_second) if bare else "–", number(ours.tokens_per_second),
            f"{share:.3f} ({'met' if share >= GOAL else 'NOT MET'})" if share is not None else "–",
            *(_pair(one, "first_ms") for one in (bare, ours)), *(_pair(one, "gaps_ms") for one in (bare, ours)),
        ])  # fmt: skip
    head = ["streams", "bare tokens/s", "on the bus", "ratio", "first token, bare", "on the bus", "gaps, bare",
            "on the bus"]  # fmt: skip
    ends = (
        f"Cancel to freed keys and values, ms p50 / p99: bare {_spread(found.bare_cancel)}, on the bus "
        f"{_spread(found.cancel)} (from the abort's send).\n"
        f"Takeover, from the re-issue to the next token, ms p50 / p99: {_spread(found.takeover)}; a worker that died "
        "is noticed after its lease of 2 s of silence."
    )
    return f"{TEXT.format(goal=GOAL)}\n\n{table(head, rows)}\n\n{ends}"


def _pair(one: Answered | None, name: str) -> str:
    if one is None:
        return "–"
    found = getattr(one, name)
    return f"{number(percentile(found, 'p50'))} / {number(percentile(found, 'p99'))}"


def _spread(found: Spread) -> str:
    return f"{number(found.p50)} / {number(found.p99)}"
