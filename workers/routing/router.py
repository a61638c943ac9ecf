"""Which agent takes a turn: learnt from the agents' utterances at start, with an explicit *out of scope*.

Every utterance is an example of its agent, and the utterances of the folder `out_of_scope` are examples of what nobody
takes. Kernel ridge regression on one-hot targets (Saunders, Gammerman and Vovk 1998) gives each agent, and nobody, a
score: about 1 for what is said to it, about 0 for what is not. The likeness of two texts, its kernel, is the
embedding's exp(cosine − 1) plus a share of the likeness of their words (words.py). Against the nearest utterances alone
it weighs all examples at once: ten that speak for an agent outweigh one that happens to be nearest.

What has to be fitted is fitted on the examples themselves, each left out once; for ridge regression that has a closed
form (Allen 1974), f₋ᵢ(xᵢ) = yᵢ − αᵢ / [(K + λI)⁻¹]ᵢᵢ, so nothing is trained anew:
  allowance  what is added to nobody's score: as much as makes the share of the agents' examples that find their agent,
             and of the others that find nobody, together the largest
  margin     the smallest lead over the second at which `TRUST` of the left-out examples are right; below it the router
             is unsure, and a model is asked where there is one (asking.py). Without one the first takes the turn.
An example of `out_of_scope` gives way where an agent has nearly the same utterance, so that an agent is added without
a change elsewhere.

Pure. Cost: made in O(n³) for n examples (20 ms for 160, 2 s for 3,000), a route costs n × dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy
from numpy.typing import NDArray

from streams.events.routing import AgentScore
from workers.agents.catalog import OUT_OF_SCOPE
from workers.routing.examples import Example
from workers.routing.words import Words

Verdict = Literal["sure", "unsure", "out_of_scope"]
Floats = NDArray[numpy.float64]
RIDGE: Final = 0.1
"""λ: how little a single example is believed."""
WORDS_SHARE: Final = 0.2
GIVES_WAY: Final = 0.7
"""The cosine from which an example of `out_of_scope` says the same as an agent's."""
TRUST: Final = 0.9
USUAL: Final = 0.6
"""The share of a member's turns from which an agent is the one they mean in doubt."""
_ALLOWANCES: Final = tuple(-0.02 * step for step in range(11))
"""Never for nobody: an agent's examples are chosen to differ, so that one left out looks stranger than what is said."""
_MARGINS: Final = tuple(round(0.02 * step, 2) for step in range(3, 16))  # a lead of 0.06 is within chance


class Route(msgspec.Struct, frozen=True):
    """agent: the one with the highest score of the agents, whatever the verdict ("" only when there are none).
    verdict: `unsure` where it leads by less than the margin; `out_of_scope` where nobody's score is above its own.
    scores: of all agents and, as `out_of_scope`, of nobody; best first."""

    agent: str
    verdict: Verdict
    scores: tuple[AgentScore, ...]


class Router:
    """Learnt once from examples by agent (`out_of_scope`: by nobody); `route` changes nothing."""

    def __init__(self, examples: Mapping[str, Sequence[Example]]) -> None:
        taken = {name: list(rows) for name, rows in examples.items() if rows and name != OUT_OF_SCOPE}
        self._names = [*sorted(taken), OUT_OF_SCOPE]
        rows = [(number, row) for number, name in enumerate(sorted(taken)) for row in taken[name]]
        own = numpy.array([row.vector for _, row in rows])
        nobody = len(taken)
        rows += [(nobody, row) for row in examples.get(OUT_OF_SCOPE, ()) if rows and not _said_by_one(own, row)]
        self.allowance, self.margin = 0.0, 0.0
        if not rows:
            return
        self._vectors = numpy.array([row.vector for _, row in rows])
        self._words = Words([row.text for _, row in rows])
        labels = numpy.array([number for number, _ in rows])
        targets = numpy.eye(len(self._names))[labels]
        kernel = numpy.exp(self._vectors @ self._vectors.T - 1)
        kernel += WORDS_SHARE * numpy.array([self._words.likeness(row.text) for _, row in rows])
        inverse = numpy.linalg.inv(kernel + RIDGE * numpy.eye(len(rows)))
        self._weights: Floats = inverse @ targets
        left_out = targets - self._weights / numpy.diag(inverse)[:, None]
        self.allowance = _allowance(left_out, labels)
        left_out[:, nobody] += self.allowance
        self.margin = _margin(left_out, labels)

    def route(self, text: str, vector: Sequence[float], leaning: Mapping[str, float] | None = None) -> Route:
        """The route of a turn with this text and its unit vector. leaning: by agent, the share of the member's turns
        that it took, 0..1: of agents that are equally near, within the margin, the one that takes most of them is
        chosen."""
        if len(self._names) == 1:
            return Route("", "out_of_scope", ())
        kernel = numpy.exp(self._vectors @ numpy.asarray(vector) - 1) + WORDS_SHARE * self._words.likeness(text)
        found: Floats = kernel @ self._weights
        found[-1] += self.allowance
        scores = sorted(
            (AgentScore(name, round(float(score), 4)) for name, score in zip(self._names, found, strict=True)),
            key=lambda row: (-row.score, row.agent),
        )
        agents = [row for row in scores if row.agent != OUT_OF_SCOPE]
        first, lead = agents[0], scores[0].score - scores[1].score
        if scores[0].agent == OUT_OF_SCOPE:
            return Route(first.agent, "out_of_scope", tuple(scores))
        if leaning:
            near = [row for row in agents if row.score >= first.score - self.margin]
            usual = max(near, key=lambda row: leaning.get(row.agent, 0.0))
            if leaning.get(usual.agent, 0.0) >= USUAL:
                return Route(usual.agent, "sure", tuple(scores))
        return Route(first.agent, "sure" if lead >= self.margin else "unsure", tuple(scores))


def _said_by_one(own: Floats, row: Example) -> bool:
    """Whether an agent's example says nearly the same."""
    return bool((own @ numpy.asarray(row.vector)).max() >= GIVES_WAY)


def _allowance(scores: Floats, labels: NDArray[numpy.int64]) -> float:
    """The allowance with the highest mean of the two shares that are right; of equally good ones the smallest."""
    nobody = scores.shape[1] - 1
    if not (labels == nobody).any() or not (labels < nobody).any():
        return 0.0

    def right(allowance: float) -> float:
        moved = scores.copy()
        moved[:, nobody] += allowance
        hits = moved.argmax(axis=1) == labels
        return float(hits[labels < nobody].mean() + hits[labels == nobody].mean())

    return max(_ALLOWANCES, key=lambda allowance: (right(allowance), -abs(allowance)))


def _margin(scores: Floats, labels: NDArray[numpy.int64]) -> float:
    """The smallest margin above which TRUST of the examples are right; the largest considered where none is."""
    ordered = numpy.sort(scores, axis=1)
    leads, hits = ordered[:, -1] - ordered[:, -2], scores.argmax(axis=1) == labels
    for margin in _MARGINS:
        above = leads >= margin
        if above.any() and hits[above].mean() >= TRUST:
            return margin
    return _MARGINS[-1]
