"""Our router on labelled turns, and what any router's choices are worth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memory.embed import Embedder
from tests.bench.routing.labelled import NONE, Turn
from workers.agents.catalog import Agent
from workers.routing.examples import embedded
from workers.routing.router import Route, Router


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares, 0..1, of `turns` turns of which `nobodys` have the label `none`.

    accuracy: right of all. found: right of those with an agent. nobody_recall: of those with the label `none`, how many
    nobody took; nobody_precision: of those that nobody took, how many have it.
    """

    turns: int
    nobodys: int
    accuracy: float
    found: float
    nobody_recall: float
    nobody_precision: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures(turns: Sequence[Turn], chosen: Sequence[str]) -> Figures:
    """chosen: an agent or `none` for each turn."""
    right = [turn.agent == choice for turn, choice in zip(turns, chosen, strict=True)]
    nobodys = [turn.agent == NONE for turn in turns]

    def share(of: Sequence[bool]) -> float:
        counted = [hit for hit, wanted in zip(right, of, strict=True) if wanted]
        return round(statistics.fmean(counted), 4) if counted else 0.0

    return Figures(
        len(turns), sum(nobodys), share([True] * len(turns)), share([not nobody for nobody in nobodys]),
        share(nobodys), share([choice == NONE for choice in chosen]),
    )  # fmt: skip


def choice(route: Route) -> str:
    """What a turn does without a model to ask."""
    return NONE if route.verdict == "out_of_scope" else route.agent


async def routed(embedder: Embedder, agents: Mapping[str, Agent], turns: Sequence[Turn]) -> list[str]:
    """What our router chooses for each turn."""
    router = Router(await embedded(embedder, agents))
    vectors = await embedder.embed([turn.text for turn in turns])
    return [choice(router.route(turn.text, vector)) for turn, vector in zip(turns, vectors, strict=True)]


@dataclass(frozen=True, slots=True)
class Run:
    """Our router over one set of agents. unsure: the share of turns for which a model would be asked;
    right_when_sure: of the others. made_ms: fitting it. route_us: one route, without the embedding, median."""

    chosen: list[str]
    routes: list[Route]
    unsure: float
    right_when_sure: float
    allowance: float
    margin: float
    examples: int
    made_ms: float
    route_us: float


async def run(embedder: Embedder, agents: Mapping[str, Agent], turns: Sequence[Turn]) -> Run:
    """Everything that is said of our router over one set of agents."""
    examples = await embedded(embedder, agents)
    vectors = await embedder.embed([turn.text for turn in turns])
    started = time.perf_counter()
    router = Router(examples)
    made_ms = (time.perf_counter() - started) * 1e3
    routes, took_us = [], []
    for turn, vector in zip(turns, vectors, strict=True):
        started = time.perf_counter()
        routes.append(router.route(turn.text, vector))
        took_us.append((time.perf_counter() - started) * 1e6)
    sure = [(turn, route) for turn, route in zip(turns, routes, strict=True) if route.verdict != "unsure"]
    return Run(
        [choice(route) for route in routes], routes, 1 - len(sure) / len(turns),
        statistics.fmean(turn.agent == choice(route) for turn, route in sure), router.allowance, router.margin,
        sum(len(rows) for rows in examples.values()), made_ms, statistics.median(took_us),
    )  # fmt: skip


def confused(turns: Sequence[Turn], chosen: Sequence[str]) -> list[str]:
    """The turns that went wrong, as lines."""
    return [
        f"{turn.agent} → {choice}: {turn.text}"
        for turn, choice in zip(turns, chosen, strict=True)
        if turn.agent != choice
    ]
