"""The facts of one turn with two calls, the first fired while it is still written, and the frames the gateway makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.frames import TurnProjector
from streams import ids
from streams.codec import Identity
from streams.events import Event, InputItem, PromptRef, Usage
from streams.events import calling as c
from streams.events import generating as g
from streams.events import recalling as r
from streams.events import turn as t
from streams.events.routing import AgentScore, RouteDecided
from streams.offsets import CursorMaker

CONVERSATION = ids.conversation_id(3, 1_700_000_000_000, b"0123456789")
TURN = ids.turn_id(CONVERSATION, 1_700_000_000_100, b"abcdefghij")
T0 = 1_700_000_000_000
PROMPT = PromptRef("answer", "0123456789ab")
Fact = tuple[str, int, int, Event]  # stage, epoch, seq, event


def accepted(question: str = "Who in Berlin knows Kafka, and what is the weather there?") -> t.TurnAccepted:
    return t.TurnAccepted(
        turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada", input=(InputItem(text=question),),
        at_ms=T0, deadline_at_ms=T0 + 60_000,
    )  # fmt: skip


def beginning() -> list[Event]:
    """Stage "turn" up to the plan."""
    return [
        accepted(),
        RouteDecided(agent="people", by="embedding", at_ms=T0 + 12, scores=(AgentScore("people", 0.71),), took_ms=3.2),
        r.Recalled(
            items=(r.RecalledItem(id="m1", layer="fact", text="Ada prefers people who answer fast", score=0.83),),
            history=(r.HistoryMessage(role="user", text="hello"),), at_ms=T0 + 20, took_ms=4.1,
        ),
        r.SkillsDiscovered(
            skills=(r.DiscoveredSkill("search_people@1", 0.81), r.DiscoveredSkill("weather@1", 0.74)),
            at_ms=T0 + 24, took_ms=2.0,
        ),
    ]  # fmt: skip


def ending() -> list[Event]:
    return [
        t.TurnCompleted(
            at_ms=T0 + 1_500, plan_tokens=31, plan_ms=620.0, saved_ms=280.0, oracle_ms=290.0,
            models=(
                t.ModelUse(step="plan", model="small", usage=Usage(prompt=310, completion=31), cost_usd=0.0001),
                t.ModelUse(step="answer", model="big", usage=Usage(prompt=520, completion=6, hidden=2)),
            ),
            savings=(
                t.CallSaving(
                    call=0, skill="search_people", opened_token=4, fired_token=11, closed_token=16, opened_ms=80,
                    fired_ms=220, closed_ms=320, ended_ms=520, hidden_ms=300,
                ),
                t.CallSaving(call=1, skill="weather", opened_token=19, fired_token=28, closed_token=29, hidden_ms=20),
            ),
        ),
    ]  # fmt: skip


def facts() -> list[Fact]:
    """The whole turn in log order."""
    turn = iter(range(1_000))

    def stage_turn(event: Event) -> Fact:
        return ("turn", 1, next(turn), event)

    people = {"title": "engineer", "skill": "kafka", "city": "Berlin"}
    return [
        *(stage_turn(event) for event in beginning()),
        ("plan", 1, 0, g.PlanStarted(model="small", engine="scripted", at_ms=T0 + 40)),
        stage_turn(c.CallOpened(call=0, skill="search_people", token=4, at_ms=T0 + 120)),
        stage_turn(c.CallArguments(call=0, text='{"skill":"kafka",')),
        ("call.0", 1, 0, c.CallFired(
            call=0, skill="search_people", arguments={"skill": "kafka"}, effect="pure", claim=1, token=11,
            at_ms=T0 + 260, written=True,
        )),
        stage_turn(c.CallArguments(call=0, text='"city":"Berlin"}')),
        stage_turn(c.CallClosed(
            call=0, skill="search_people", arguments=people, token=16, at_ms=T0 + 360, repairs=("trailing_comma",),
        )),
        stage_turn(c.CallOpened(call=1, skill="weather", token=19, at_ms=T0 + 420)),
        ("call.0", 1, 1, c.CallAnswered(
            call=0, result='[{"name":"Lin \\u001b[31m"}]', status=200, took_ms=300.4, at_ms=T0 + 560, size_bytes=20,
        )),
        stage_turn(c.CallArguments(call=1, text='{"city":"Berlin"}')),
        ("call.1", 1, 0, c.CallFired(
            call=1, skill="weather", arguments={"city": "Berlin"}, effect="pure", claim=1, token=28, at_ms=T0 + 600,
            written=True,
        )),
        stage_turn(c.CallClosed(call=1, skill="weather", arguments={"city": "Berlin"}, token=29, at_ms=T0 + 620)),
        ("plan", 1, 1, g.PlanFinished(
            reason="stop", usage=Usage(prompt=310, completion=31), at_ms=T0 + 660, first_token_ms=38.0,
        )),
        stage_turn(c.PlanCommitted(calls=2, tokens=31, at_ms=T0 + 662)),
        ("call.1", 1, 1, c.CallFailed(
            call=1, code="peer_timeout", message="no answer", at_ms=T0 + 1_000, took_ms=400.0, in_doubt=True,
        )),
        stage_turn(g.ModelAsked(
            step="answer", epoch=1, model="big", prompt=PROMPT, messages=(), sampling=g.Sampling(max_tokens=64),
            at_ms=T0 + 1_002,
        )),
        ("answer", 1, 0, g.AnswerStarted(model="big", engine="scripted", at_ms=T0 + 1_010)),
        *(("answer", 1, 1 + n, g.AnswerDelta(text=text, index=n)) for n, text in enumerate(ANSWER)),
        ("answer", 1, 1 + len(ANSWER), g.AnswerFinished(
            reason="stop", usage=Usage(prompt=520, completion=6, hidden=2), at_ms=T0 + 1_480, first_token_ms=90.0,
        )),
        *(stage_turn(event) for event in ending()),
    ]  # fmt: skip


ANSWER = ("Lin ", "knows ", "Kafka; ", "the weather ", "did not ", "answer.")


def frames_of(log: Sequence[Fact]) -> list[dict[str, Any]]:
    """The frames that any gateway makes of these facts, offsets counted from 100."""
    first = log[0][3]
    assert isinstance(first, t.TurnAccepted)
    cursors = CursorMaker(CONVERSATION, 7)
    cursors.origin = 100
    projector = TurnProjector(first, cursors)
    frames: list[dict[str, Any]] = []
    for number, (stage, epoch, seq, event) in enumerate(log):
        made = projector.feed(100 + number, Identity(TURN, stage, epoch, seq), event)
        frames += [orjson.loads(frame.body) for frame in made]
    return frames
