"""What people ask and models say in recorded traffic: each case is a turn, or two, and what goes wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from workers.generation.engine import EngineRefused, EngineRequest, EngineUnavailable

ANSWER = "Anna is a nurse in Rome, and the sun is out there today."
LONG = "Once upon a time there was a log, and everything that happened stood in it, one fact after the other. " * 2


def plan(*calls: tuple[str, dict[str, Any]]) -> str:
    return json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])


PEOPLE = ("search_people", {"title": "nurse", "location": "Rome"})
WEATHER = ("get_weather", {"city": "Rome"})
MESSAGE = ("send_message", {"to": "Anna", "text": "The offer is ready."})
NOTE = ("save_note", {"text": "Call Anna back"})
WHOLE = plan(PEOPLE, WEATHER)


@dataclass(frozen=True)
class Case:
    """One kind of turn. then: what its client does besides waiting for the end (traffic.py). plan "": answered at once.

    weight: how often it comes."""

    name: str
    plan: str = ""
    answer: str = ANSWER
    agent: str = "recruiter"
    then: str = ""
    weight: int = 2
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return f"Find nurses in Rome and tell me the weather. [case {self.name}]"


CASES = (
    Case("chat", agent="companion", weight=8),
    Case("story", agent="companion", answer=LONG, weight=3),
    Case("two_calls", WHOLE, weight=10),
    Case("one_call", plan(PEOPLE), weight=6),
    Case("routed", plan(WEATHER), agent="", weight=4),
    Case("chained", plan(PEOPLE, ("get_weather", {"city": "$1.items[0].city"})), weight=4),
    Case("twins", plan(WEATHER, WEATHER)),
    Case("note", plan(NOTE, WEATHER)),
    Case("late_argument", '[{"name": "search_people", "arguments": {"title": "nurse", "limit": 3}}]'),
    Case("unknown_skill", plan(("book_flight", {"to": "Rome"}), WEATHER)),
    Case("wrong_argument", plan(("get_weather", {"city": 7}), PEOPLE)),
    Case("cut_plan", WHOLE[:-20]),
    Case("fenced_plan", f"```json\n{WHOLE}\n```"),
    Case("no_json", "I would rather talk about it."),
    Case("slow_skill", plan(("slow_search", {"text": "nurse"}), WEATHER)),
    Case("failing_skill", plan(("broken_search", {"text": "nurse"}), WEATHER)),
    Case("approval", plan(MESSAGE), then="approve"),
    Case("refusal", plan(MESSAGE), then="refuse"),
    Case("client_tool", plan(("read_clipboard", {"lines": 3})), then="output"),
    Case("cancelled_plan", WHOLE, then="cancel_early"),
    Case("cancelled_answer", WHOLE, answer=LONG, then="cancel_late"),
    Case("too_late", plan(WEATHER), then="cancel_after"),
    Case("steered", WHOLE, then="steer"),
    Case("interrupted", WHOLE, answer=LONG, then="interrupt"),
    Case("queued", plan(WEATHER), then="queue"),
    Case("refused", plan(WEATHER), then="reject"),
    Case("sent_twice", plan(WEATHER), then="twice"),
    Case("short", WHOLE, answer=LONG, options={"max_output_tokens": 12}),
    Case("deadline", WHOLE, answer=LONG, options={"deadline_ms": 1_500}),
    Case("engine_lost", WHOLE),
    Case("engine_refuses", WHOLE, weight=2),
    Case("renamed", agent="companion", then="rename"),
    Case("worker_lost", WHOLE, answer=LONG, then="lose_worker"),
    Case("owner_lost", WHOLE, answer=LONG, then="lose_owner"),
    Case("owner_lost_early", WHOLE, then="lose_owner_early", weight=1),
)
BY_NAME = {case.name: case for case in CASES}
_MARK = re.compile(r"\[case (\w+)\]")


def script(request: EngineRequest) -> str:
    """What the model says: the plan or the answer of the case that the newest message names."""
    marks = _MARK.findall("\n".join(message.content for message in request.messages))
    case = BY_NAME[marks[-1]] if marks else BY_NAME["chat"]
    if request.step == "plan":
        if case.name == "engine_lost" and request.request_id.endswith("/plan/1"):
            raise EngineUnavailable("the engine's server is away")
        if case.name == "engine_refuses":
            raise EngineRefused("the prompt is too long")
        return case.plan or "[]"
    return case.answer
