"""What is asked of an engine, bare or on the bus, and what is noted of its answers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.bench.driving import MS
from tests.bench.figures import spread

SYSTEM = "You are a patient storyteller."
TOPICS = ("a lighthouse", "two rivers", "a clockmaker", "the last train", "an island of birds", "a very old map")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """streams: answers at once. rounds: answers of each stream, one after the other. tokens: of each answer, at most.
    namespace: of the log that carries them, "" for none."""

    streams: int
    rounds: int
    tokens: int
    namespace: str = ""


def question(stream: int, round_number: int) -> list[tuple[str, str]]:
    """(role, text) of a prompt that no other stream and round has, so that no prefix but the system's is shared."""
    topic = TOPICS[stream % len(TOPICS)]
    text = f"Tell story {round_number} of reader {stream}: it is about {topic}, and it is long and detailed."
    return [("system", SYSTEM), ("user", text)]


class Answer(msgspec.Struct):
    """One answer, in seconds of a monotonic clock. pieces: when each came, and how many tokens it carried."""

    asked_s: float
    pieces: list[tuple[float, int]]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one task. first_ms, gaps_ms: percentiles; a gap that brought several tokens counts as that many."""

    streams: int
    answers: int
    tokens: int
    wall_s: float
    first_ms: dict[str, float | int | None]
    gaps_ms: dict[str, float | int | None]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.wall_s


def answered(task: Task, answers: Sequence[Answer]) -> Answered:
    """Figures of whole answers. The wall time runs from the first question to the last token."""
    whole = [answer for answer in answers if answer.pieces]
    began, ended = min(answer.asked_s for answer in whole), max(answer.pieces[-1][0] for answer in whole)
    firsts = [(answer.pieces[0][0] - answer.asked_s) * MS for answer in whole]
    gaps: list[float] = []
    for answer in whole:
        for before, after in zip(answer.pieces, answer.pieces[1:], strict=False):
            tokens = max(1, after[1])
            gaps += [(after[0] - before[0]) * MS / tokens] * tokens
    return Answered(
        streams=task.streams, answers=len(whole), tokens=sum(count for answer in whole for _, count in answer.pieces),
        wall_s=ended - began, first_ms=spread(firsts).as_json(), gaps_ms=spread(gaps).as_json(),
    )  # fmt: skip


def percentile(found: dict[str, float | int | None], name: str) -> float:
    """One of a spread that was written as JSON; NaN where there was nothing to measure."""
    value = found[name]
    return float("nan") if value is None else float(value)
