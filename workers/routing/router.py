"""Which agent takes a turn: nearest utterances by embedding, with an explicit *out of scope*, a model when unsure.

An agent's score is the mean of the cosines of its `NEIGHBOURS` nearest utterances to the turn's text. The best
agent wins when it is above `sure`; below `out_of_scope` nobody takes the turn and no planning call is made; in
between, or when two agents are within `margin` of each other, the router is unsure and asks a model, which may
choose one of the agents or none. Without a model to ask, the best agent takes what is unsure.

Pure: vectors are values. Cost: one dot product per utterance (384 multiply-adds each), O(utterances).
The thresholds were read off the shipped agents' utterances, each held out once, against texts that no agent takes
(tests/real/test_routing.py prints both).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul
from typing import Final, Literal

import msgspec

from streams.events.routing import AgentScore

NEIGHBOURS: Final = 2
Verdict = Literal["sure", "unsure", "out_of_scope"]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Cosines, -1..1. usual: a share, 0..1, of a member's turns from which an agent is the one they mean in doubt."""

    sure: float = 0.40
    out_of_scope: float = 0.25
    margin: float = 0.03
    usual: float = 0.6


class Route(msgspec.Struct, frozen=True):
    """agent: the best one, also when unsure ("" only when there are no agents)."""

    agent: str
    verdict: Verdict
    scores: tuple[AgentScore, ...]


class Router:
    """An index of utterances' unit vectors by agent. Built once; `route` changes nothing."""

    def __init__(self, vectors: Mapping[str, Sequence[Sequence[float]]], thresholds: Thresholds | None = None) -> None:
        self._vectors = {agent: [list(vector) for vector in rows] for agent, rows in vectors.items() if rows}
        self.thresholds = thresholds or Thresholds()

    def route(self, vector: Sequence[float], leaning: Mapping[str, float] | None = None) -> Route:
        """The route of a turn whose text has this unit vector. leaning: by agent, the share of the member's turns that
        it took, 0..1: of agents that are equally near, within `margin`, the one that takes most of them is chosen."""
        scores = sorted(
            (AgentScore(agent, round(_likeness(vector, rows), 4)) for agent, rows in self._vectors.items()),
            key=lambda score: (-score.score, score.agent),
        )
        if not scores:
            return Route("", "out_of_scope", ())
        if leaning:
            near = [score for score in scores if score.score > scores[0].score - self.thresholds.margin]
            usual = max(near, key=lambda score: leaning.get(score.agent, 0.0))
            if leaning.get(usual.agent, 0.0) >= self.thresholds.usual and usual.score >= self.thresholds.sure:
                return Route(usual.agent, "sure", tuple(scores))
        best = scores[0]
        second = scores[1].score if len(scores) > 1 else -1.0
        if best.score < self.thresholds.out_of_scope:
            verdict: Verdict = "out_of_scope"
        elif best.score >= self.thresholds.sure and best.score - second >= self.thresholds.margin:
            verdict = "sure"
        else:
            verdict = "unsure"
        return Route(best.agent, verdict, tuple(scores))


def _likeness(vector: Sequence[float], rows: Sequence[Sequence[float]]) -> float:
    cosines = sorted((sum(map(mul, vector, row)) for row in rows), reverse=True)[:NEIGHBOURS]
    return float(sum(cosines) / len(cosines))
