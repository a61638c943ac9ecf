"""The package semantic-router on the same examples, turns and embeddings; runs in an environment of its own.

Reads one JSON document from the file that its argument names (routes with utterances, the label for nobody and its
utterances, development and held-out turns, a vector for each text) and prints one line of JSON: for each way of using
it, what it chose for each held-out turn. Every way is fitted on the development turns, as its documentation says, and
the last one is the best that it can be on them: over its aggregations, how many neighbours, with and without a route
for nobody, with and without its sparse encoder, and over its threshold.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from semantic_router import IndexedRouter, Route
from semantic_router.encoders import DenseEncoder, TfidfEncoder

THRESHOLDS = [round(0.1 + 0.02 * step, 2) for step in range(36)]


class Given(DenseEncoder):  # type: ignore[misc]
    """An encoder that knows the vectors already."""

    table: dict[str, list[float]]

    def __call__(self, docs: list[str]) -> list[list[float]]:
        return [self.table[doc] for doc in docs]


class Task:
    def __init__(self, given: dict[str, Any]) -> None:
        self.routes: dict[str, list[str]] = given["routes"]
        self.nobody: str = given["nobody"]
        self.outside: list[str] = given["outside"]
        self.development: list[list[str]] = given["development"]
        self.held_out: list[list[str]] = given["held_out"]
        self.encoder = Given(name="given", table=given["vectors"])

    def router(self, outside: bool, sparse: bool, **options: Any) -> IndexedRouter:
        routes = [Route(name=name, utterances=said) for name, said in self.routes.items()]
        if outside:
            routes.append(Route(name=self.nobody, utterances=self.outside))
        return IndexedRouter(
            encoder=self.encoder, routes=routes, sparse_encoder=TfidfEncoder() if sparse else None, **options
        )

    def chosen(self, router: IndexedRouter, turns: list[list[str]], threshold: float | None) -> list[str]:
        picks = [router(text, threshold=threshold) for _, text in turns]
        return [pick.name or self.nobody for pick in picks]

    def right(self, chosen: list[str]) -> int:
        return sum(choice == agent for choice, (agent, _) in zip(chosen, self.development, strict=True))

    def fitted(self, outside: bool) -> tuple[list[str], str]:
        """Its own way: calibrated on the development turns, taken from a confidence of a half."""
        router = self.router(outside, sparse=False)
        labels = [None if agent == self.nobody and not outside else agent for agent, _ in self.development]
        router.fit([text for _, text in self.development], labels)
        return self.chosen(router, self.held_out, 0.5), "fit, confidence 0.5"

    def best(self) -> tuple[list[str], str]:
        """The way that is right most often on the development turns."""
        found: tuple[int, str, IndexedRouter, float] | None = None
        grid = itertools.product((False, True), (False, True), ("mean", "max", "sum"), (1, 3, 5, 10, 20))
        for outside, sparse, aggregation, top_k in grid:
            router = self.router(outside, sparse, aggregation=aggregation, top_k=top_k)
            scored = [router(text, limit=1, threshold=-1e9) for _, text in self.development]
            for threshold in [*THRESHOLDS, *(top_k * number for number in THRESHOLDS if aggregation == "sum")]:
                chosen = [pick.name if pick.confidence >= threshold else self.nobody for pick in scored]
                right = self.right(chosen)
                if found is None or right > found[0]:
                    words = (
                        f"{aggregation} of top {top_k}, threshold {threshold:.2f}"
                        f"{', with TF-IDF' if sparse else ''}{', with a route for nobody' if outside else ''}"
                    )
                    found = (right, words, router, threshold)
        assert found is not None
        _, words, router, threshold = found
        return self.chosen(router, self.held_out, threshold), words


def main(file: str) -> None:
    task = Task(json.loads(Path(file).read_text()))
    ways = {
        "fitted": task.fitted(outside=False),
        "fitted, with a route for nobody": task.fitted(outside=True),
        "best on the development turns": task.best(),
    }
    answer = {name: {"chosen": chosen, "how": how} for name, (chosen, how) in ways.items()}
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
