"""Likeness of texts by their words: what an embedding blurs, such as *note*, *candidate* or the form of a request.

A text's features are its words, each two that follow each other, and its first word; a feature weighs more the fewer
examples have it (inverse document frequency), and a text has length 1. Numbers are one word. The likeness of two texts
is the cosine of their features, 0..1.

Cost of a question: its features, a few dozen, times the examples that have them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy
from numpy.typing import NDArray

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+")
NUMBER: Final = "0"


def features(text: str) -> Counter[str]:
    """The features of a text, each with how often it has it."""
    words = [NUMBER if word.isdigit() else word for word in _WORD.findall(text.casefold())]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    return Counter([*words, *pairs, *(f"^{word}" for word in words[:1])])


class Words:
    """The features of some texts, by feature. Built once; `likeness` changes nothing."""

    def __init__(self, texts: Sequence[str]) -> None:
        counted = [features(text) for text in texts]
        self._count = len(texts)
        having = Counter(feature for one in counted for feature in one)
        self._weights = {feature: math.log(1 + self._count / number) for feature, number in having.items()}
        places: dict[str, list[tuple[int, float]]] = {}
        for row, one in enumerate(counted):
            for feature, value in self._weighed(one).items():
                places.setdefault(feature, []).append((row, value))
        self._places = {
            feature: (numpy.array([row for row, _ in found]), numpy.array([value for _, value in found]))
            for feature, found in places.items()
        }

    def likeness(self, text: str) -> NDArray[numpy.float64]:
        """The likeness of a text to each of the texts, in their order."""
        found = numpy.zeros(self._count)
        for feature, value in self._weighed(features(text)).items():
            rows, values = self._places[feature]
            found[rows] += value * values
        return found

    def _weighed(self, counted: Counter[str]) -> dict[str, float]:
        """Features that are known, by weight, of length 1 together."""
        weighed = {
            feature: (1 + math.log(number)) * self._weights[feature]
            for feature, number in counted.items()
            if feature in self._weights
        }
        length = math.sqrt(math.fsum(value * value for value in weighed.values()))
        return {feature: value / length for feature, value in weighed.items()}
