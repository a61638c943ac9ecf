"""A turns worker dies at every event of a turn with one irreversible call and two pure ones.

What happened is read where it happened: in the demo service's own ledger, over HTTP. `schedule_interview` ignores
idempotency keys, so a second request would be a second interview.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from headstart.demo_service import demo_service
from headstart.service import Service
from streams.codec import Identity
from streams.events import Event
from streams.events.calling import CallAnswered, CallFailed, CallFired, PlanCommitted
from streams.events.generating import ModelAsked
from streams.events.turn import TurnAdopted, TurnCompleted, TurnEnd
from streams.settings import Settings
from tests.support.mortal import Life, WatchedLedger

SECRET: Final = "cd" * 32
PATIENCE_S: Final = 120.0  # ends a test that would hang; nothing is judged by it
AT_ONCE: Final = 10
SKILLS: Final = ("search_people", "get_weather", "schedule_interview")
Facts = list[tuple[Identity, Event]]


def plan(person: str) -> str:
    calls = [
        {"name": "search_people", "arguments": {"title": "data engineer", "location": "Berlin"}},
        {"name": "schedule_interview", "arguments": {"person": person, "day": "tomorrow"}},
        {"name": "get_weather", "arguments": {"city": "Berlin"}},
    ]
    return json.dumps(calls)


class Demo:
    """The running demo service and its ledger."""

    def __init__(self, service: Service, ledger: WatchedLedger) -> None:
        self.service, self.ledger = service, ledger
        self.manifests = [one for one in service.manifests() if one.name in SKILLS]
        self._lives = 0

    async def lived(self, at: int | str | None) -> tuple[Life, Facts]:
        """A turn whose worker dies at this moment, to its end."""
        self._lives += 1
        number = self._lives
        async with Life(number, at, plan(f"Person {number}"), self.manifests, SECRET) as life:
            self.ledger.watch[life.turn] = self.ledger.watch[life.user] = life.told
            return life, await life.live()

    async def shown(self) -> Any:
        """GET /ledger."""
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.service.url}/ledger")).json()


@asynccontextmanager
async def demo() -> AsyncIterator[Demo]:
    ledger = WatchedLedger()
    settings = Settings.from_env({"HEADSTART_SIGNING_KEY": SECRET, "HEADSTART_DEMO_PORT": "0"})
    service = demo_service(settings, ledger)
    await service.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield Demo(service, ledger)
    finally:
        await service.stop()


def of_type(facts: Facts, kind: type[Event]) -> list[Any]:
    return [event for _, event in facts if isinstance(event, kind)]


def judge(life: Life, facts: Facts, shown: Any) -> None:
    """What must hold, whenever the worker died."""
    moment = f"died at {life.at}"
    [end] = of_type(facts, TurnEnd)
    assert isinstance(end, TurnCompleted), f"{moment}: {end}"
    arrivals = [row for row in shown["arrivals"] if row["turn"] == life.turn]
    interviews = [row for row in arrivals if row["skill"] == "schedule_interview"]
    effects = [row for row in shown["effects"] if row["user"] == life.user]
    assert len(interviews) <= 1, f"{moment}: an interview was asked for twice"
    assert len(effects) <= len(interviews), moment
    kinds = [type(event) for _, event in facts]
    assert kinds.count(PlanCommitted) == 1, moment
    fired = [
        index for index, (_, event) in enumerate(facts)
        if isinstance(event, CallFired) and event.effect == "irreversible"
    ]  # fmt: skip
    if interviews:
        assert fired, f"{moment}: a request without its fact"
    assert all(kinds.index(PlanCommitted) < index for index in fired), f"{moment}: fired before the commit"
    outcomes = list(of_type(facts, CallAnswered) + of_type(facts, CallFailed))
    booked = [event for event in outcomes if isinstance(event, CallAnswered) and "scheduled" in event.result]
    doubted = [event for event in outcomes if isinstance(event, CallFailed)]
    assert all(event.in_doubt for event in doubted), f"{moment}: {doubted}"
    assert len(booked) + len(doubted) >= 1, moment
    assert tuple(end.in_doubt) == tuple(sorted({event.call for event in doubted})), moment
    asked = [event for event in of_type(facts, ModelAsked) if event.step == "answer"]
    assert "search_people" in asked[-1].messages[-1].content, f"{moment}: the pure calls' results are used"
    assert "get_weather" in asked[-1].messages[-1].content


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_worker_dies_at_every_event_of_the_turn() -> None:
    async with demo() as scene:
        whole, facts = await scene.lived(None)
        judge(whole, facts, await scene.shown())
        moments: Sequence[int | str] = [
            *range(1, whole.broker.records), "arrived search_people", "arrived get_weather",
            "arrived schedule_interview", "done schedule_interview",
        ]  # fmt: skip
        places = asyncio.Semaphore(AT_ONCE)

        async def one(at: int | str) -> tuple[Life, Facts]:
            async with places:
                return await scene.lived(at)

        lives = await asyncio.gather(*(one(at) for at in moments))
        shown = await scene.shown()
        for life, facts in lives:
            assert life.died.is_set(), f"nothing happened at {life.at}"
            judge(life, facts, shown)
        taken_over = [life for life, facts in lives if of_type(facts, TurnAdopted)]
        assert len(taken_over) >= len(lives) - 2, "a worker that died left a turn to take over"
        doubts = {life.at for life, facts in lives if of_type(facts, CallFailed)}
        assert "done schedule_interview" in doubts, "nobody can know whether it was done: the turn says so"
