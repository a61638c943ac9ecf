"""What is asked and what the scripted model says: one kind of turn per number of hops.

Plans and answers are fixed texts of three bytes a token, so every turn of a kind takes the engine the same time, and
what is added to it is somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from workers.generation.scripted_engine import BYTES_PER_TOKEN

TOKENS_PER_SECOND: Final = 20.0
SHORT_TOKENS: Final = 40  # 2 s of answer: enough turns of one client in a short run
LONG_TOKENS: Final = 100  # 5 s: with many clients the streams are what is measured, not how fast turns begin
AT_LENGTH: Final = "at length"  # in a question: the long answer


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the plan: complete once `closed_at` characters of the plan are there."""

    skill: str
    arguments: dict[str, Any]
    closed_at: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of turn. hops: records that the client's first token has to wait for one after the other (submit,
    generation request, delta; a plan adds a request and a delta). calls: () when nothing is planned."""

    name: str
    agent: str
    hops: int
    question: str
    plan: str
    calls: tuple[Call, ...]

    def ask(self, number: int, tokens: int) -> str:
        """The question of turn `number`, so worded that the answer has that many tokens."""
        wording = AT_LENGTH if tokens == LONG_TOKENS else "in short"
        return f"{self.question} Answer {wording}. This is question {number}."

    def tokens(self, answer_tokens: int) -> int:
        """All tokens that the model makes for one turn."""
        return answer_tokens + -(-len(self.plan) // BYTES_PER_TOKEN)


def _planned(name: str, question: str, *calls: tuple[str, dict[str, Any]]) -> Scenario:
    texts = [orjson.dumps({"name": skill, "arguments": arguments}).decode() for skill, arguments in calls]
    ends = [1 + len(",".join(texts[: index + 1])) for index in range(len(texts))]
    found = tuple(Call(skill, arguments, end) for (skill, arguments), end in zip(calls, ends, strict=True))
    return Scenario(name, "recruiter", 5, question, f"[{','.join(texts)}]", found)


NO_PLAN: Final = Scenario("no plan", "companion", 3, "Say something nice.", "", ())
ONE_CALL: Final = _planned("one call", "What is the weather in Berlin?", ("get_weather", {"city": "Berlin"}))
TWO_CALLS: Final = _planned(
    "two calls", "Find data engineers in Berlin and tell me the weather there.",
    ("search_people", {"title": "data engineer", "location": "Berlin"}), ("get_weather", {"city": "Berlin"}),
)  # fmt: skip
SCENARIOS: Final = (NO_PLAN, ONE_CALL, TWO_CALLS)
USUAL: Final = (NO_PLAN, TWO_CALLS)  # what is measured unless a kind is asked for


def answer_text(tokens: int) -> str:
    return "".join([f"{number:03d}" for number in range(tokens)])


def rules() -> bytes:
    """The script as the scripted engine reads it (workers/generation/scripted_engine.py)."""
    planned = [
        {"step": "plan", "when": {"contains": scenario.question}, "say": scenario.plan}
        for scenario in SCENARIOS
        if scenario.plan
    ]
    answers = [
        {"step": "answer", "when": {"contains": AT_LENGTH}, "say": answer_text(LONG_TOKENS)},
        {"step": "answer", "say": answer_text(SHORT_TOKENS)},
    ]
    return orjson.dumps([*planned, *answers])


def models_table(rules_file: str) -> str:
    """HEADSTART_MODELS with that script as the one model."""
    return (
        f'[models.default]\nengine = "scripted"\nmodel = "{rules_file}"\n'
        f"tokens_per_second = {TOKENS_PER_SECOND}\nrequests_at_once = 1024\n"
    )
