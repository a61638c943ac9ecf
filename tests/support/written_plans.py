"""A plan while it is written, for tests of firing: skills of every effect, and a core that is fed token by token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from streams import ids
from streams.events import Event
from streams.events.calling import CallAnswered, CallFailed, CallVoided
from streams.events.registering import SkillManifest
from workers.planning.commands import Fire, Publish
from workers.planning.firing import Decision, FiringCore

T0 = 1_700_000_000_000.0
TURN = ids.turn_id(ids.conversation_id(1, int(T0), bytes(10)), int(T0), bytes(10))


def skill(
    name: str, required: Sequence[str] = (), optional: dict[str, Any] | None = None, **more: Any
) -> SkillManifest:
    """Text parameters; optional ones with their defaults (None: no default)."""
    properties: dict[str, Any] = {one: {"type": "string"} for one in required}
    for one, default in (optional or {}).items():
        properties[one] = {"type": "string"} | ({} if default is None else {"default": default})
    parameters = {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False,
    }  # fmt: skip
    return SkillManifest(
        name=name, version="1", description=name, parameters=parameters, owner="test",
        url="http://127.0.0.1:1/", hosts=("127.0.0.1:1",), **more,
    )  # fmt: skip


FIND = skill("find", ["title"])
WEATHER = skill("weather", ["city"], {"day": "today", "units": None})
ROUTE = skill("route", ["start", "finish"], {"by": "car"}, fire_on=("start", "finish"))
LIST = skill("list_all", (), {"kind": "notes"})
HOLD = skill("hold_table", ["name"], {"note": None}, effect="reversible", compensate="free_table")
BOOK = skill("book", ["name"], effect="irreversible")
PAY = skill("pay", ["amount"], effect="irreversible", approval=True)
SKILLS = {one.name: one for one in (FIND, WEATHER, ROUTE, LIST, HOLD, BOOK, PAY)}
CLIENT = {"open_door": {"type": "object", "properties": {"door": {"type": "string"}}}}


def call(skill_name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": skill_name, "arguments": arguments}


def plan(*calls: dict[str, Any]) -> str:
    return json.dumps(list(calls))


class Writing:
    """A plan being written: feeds a core, token by token, and keeps what it decided."""

    def __init__(self, max_calls: int = 6) -> None:
        self.core = FiringCore(TURN, SKILLS, CLIENT, dialect="json_list", max_calls=max_calls)
        self.decisions: list[Decision] = []
        self.now = T0
        self.token = -1

    def take(self, decisions: list[Decision]) -> list[Decision]:
        self.decisions += decisions
        return decisions

    def feed(self, *pieces: str) -> None:
        for piece in pieces:
            self.now += 10
            self.token += 1
            self.take(self.core.feed(piece, (self.token,), self.token, self.now))

    def finish(self, reason: str = "stop") -> None:
        self.now += 10
        self.take(self.core.finish(reason, self.now))

    def answer(self, number: int, result: Any = None, claim: int = 1) -> list[Decision]:
        self.now += 10
        text = json.dumps({} if result is None else result)
        event = CallAnswered(call=number, result=text, status=200, took_ms=10, at_ms=int(self.now))
        return self.take(self.core.outcome(event, claim, self.now))

    def fail(self, number: int, claim: int = 1) -> list[Decision]:
        self.now += 10
        event = CallFailed(call=number, code="skill_failed", message="no", at_ms=int(self.now))
        return self.take(self.core.outcome(event, claim, self.now))

    @property
    def fires(self) -> list[Fire]:
        return [decision for decision in self.decisions if isinstance(decision, Fire)]

    @property
    def fired(self) -> list[tuple[str, dict[str, Any]]]:
        return [(fire.manifest.name, fire.arguments) for fire in self.fires]

    def said(self, *kinds: type[Event]) -> list[Any]:
        return [one.event for one in self.decisions if isinstance(one, Publish) and isinstance(one.event, kinds)]

    def of(self, kind: type[Decision]) -> list[Any]:
        return [decision for decision in self.decisions if isinstance(decision, kind)]

    def voids(self) -> list[tuple[int, str, bool]]:
        return [(one.call, one.reason, one.refire) for one in self.said(CallVoided)]

    def states(self) -> list[str]:
        return [one.state for one in self.core.calls]
