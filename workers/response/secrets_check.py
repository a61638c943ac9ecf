"""The check `secrets`: words that look like access keys leave as a mask.

A word (letters, digits, `_` and `-`) is a secret when it begins with the mark that a well-known kind of key begins with
and is long enough to be one. A word that may still become one is held back, never longer than the longest of these
lengths; once it is one, the rest of the word is swallowed however long it is. A word inside another (`task-1`) begins
with something else, so it never matches.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from workers.response.check import Segment

MASK: Final = "[secret removed]"
# mark -> characters of the whole word from which on it is taken for a key (marks of keys in public documentation)
MARKS: Final[dict[str, int]] = {
    "sk-": 20, "sk_live_": 20, "sk_test_": 20, "rk_live_": 20, "pk_live_": 20, "hsk_": 20, "hs_": 24, "AKIA": 20,
    "ASIA": 20, "AIza": 30, "ghp_": 24, "gho_": 24, "ghu_": 24, "ghs_": 24, "github_pat_": 30, "glpat-": 20,
    "xoxb-": 16, "xoxp-": 16, "xoxa-": 16, "hf_": 20, "npm_": 20, "pypi-": 24, "eyJ": 24,
}  # fmt: skip
HOLD_CHARACTERS: Final = max(MARKS.values())
_RUN = re.compile(r"[A-Za-z0-9_-]+|[^A-Za-z0-9_-]+")
_BEGINNINGS: Final = frozenset(mark[:size] for mark in MARKS for size in range(1, len(mark)))
_FIRST: Final = frozenset(mark[0] for mark in MARKS)


class SecretsCheck:
    """See the head of the file."""

    name = "secrets"

    def __init__(self) -> None:
        self._word = ""  # what is held: the beginning of a word that may become a key
        self._state: Literal["between", "deciding", "plain", "secret"] = "between"

    @property
    def stopped(self) -> bool:
        return False

    def prime(self, text: str) -> None:
        self.feed(text)
        if self._word:  # it left already, so its rest is no secret any more
            self._word, self._state = "", "plain"

    def feed(self, text: str) -> list[Segment]:
        segments: list[Segment] = []
        for match in _RUN.finditer(text):
            run = match.group()
            if run[0].isascii() and (run[0].isalnum() or run[0] in "_-"):
                self._more_of_word(run, segments)
            else:
                self._end_of_word(segments)
                segments.append(Segment(len(run)))
        return segments

    def finish(self) -> list[Segment]:
        segments: list[Segment] = []
        self._end_of_word(segments)
        return segments

    def _more_of_word(self, run: str, segments: list[Segment]) -> None:
        if self._state == "between":
            self._state = "deciding" if run[0] in _FIRST else "plain"
        if self._state == "plain":
            segments.append(Segment(len(run)))
        elif self._state == "secret":
            segments.append(Segment(len(run), ""))
        else:
            self._word += run
            verdict = _judge(self._word)
            if verdict is not None:
                segments.append(Segment(len(self._word), MASK if verdict else None))
                self._word, self._state = "", "secret" if verdict else "plain"

    def _end_of_word(self, segments: list[Segment]) -> None:
        if self._word:
            segments.append(Segment(len(self._word)))
        self._word, self._state = "", "between"


def _judge(word: str) -> bool | None:
    """Whether a word is a secret; None while it may become one."""
    possible = word in _BEGINNINGS
    for mark, size in MARKS.items():
        if word.startswith(mark):
            if len(word) >= size:
                return True
            possible = True
    return None if possible else False
