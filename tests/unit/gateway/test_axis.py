"""A turn on its time axis, from facts with known times."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from gateway.axis import ACKNOWLEDGED, CHECKS, Mark, axis_of
from gateway.axis_drawing import perfetto, svg, text
from headstart.replay.turns import TurnLog, turn_logs
from streams import ids
from streams.codec import Record, encode
from streams.events import Event, InputItem, PromptRef, Usage
from streams.events.calling import CallAnswered, CallClosed, CallFired, CallOpened
from streams.events.generating import (
    AnswerDelta,
    AnswerFinished,
    AnswerStarted,
    Message,
    ModelAsked,
    PlanDelta,
    PlanFinished,
    PlanStarted,
    Sampling,
)
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCompleted

CONVERSATION = ids.conversation_id(0, 1_000, bytes(10))
TURN = ids.turn_id(CONVERSATION, 2_000, bytes(10))
T0 = 1_000_000


def log(*more: tuple[int, str, int, Event]) -> TurnLog:
    asked = ModelAsked(
        step="plan", epoch=1, model="m", prompt=PromptRef("a/plan", "1"), messages=(Message("user", "<hi>"),),
        sampling=Sampling(max_tokens=9), at_ms=T0 + 20,
    )  # fmt: skip
    accepted = TurnAccepted(
        turn=TURN, conversation=CONVERSATION, tenant="t", user="u", input=(InputItem(text="<b>who?</b>"),), at_ms=T0,
        deadline_at_ms=T0 + 60_000,
    )  # fmt: skip
    arguments = {"q": "<x>"}
    facts: list[tuple[int, str, int, Event]] = [
        (0, "turn", 0, accepted),
        (20, "turn", 1, RouteDecided(agent="desk", by="embedding", at_ms=T0 + 20, took_ms=15)),
        (20, "turn", 2, asked),
        (30, "plan", 0, PlanStarted(model="m", engine="e", at_ms=T0 + 30)),
        (100, "plan", 1, PlanDelta(text="[", index=0)),
        (150, "turn", 3, CallOpened(call=0, skill="look@1", token=3, at_ms=T0 + 150)),
        (200, "call.0", 0, CallFired(
            call=0, skill="look@1", arguments=arguments, effect="pure", claim=1, token=5, at_ms=T0 + 200, written=True,
        )),
        (300, "plan", 2, PlanFinished(reason="stop", usage=Usage(prompt=5, completion=9), at_ms=T0 + 300)),
        (300, "turn", 4, CallClosed(call=0, skill="look@1", arguments=arguments, token=8, at_ms=T0 + 300)),
        (600, "call.0", 1, CallAnswered(call=0, result="{}", status=200, took_ms=400, at_ms=T0 + 600)),
        *more,
        (700, "turn", 5, TurnCompleted(at_ms=T0 + 700, saved_ms=100)),
    ]  # fmt: skip
    records = []
    for offset, (after_ms, stage, seq, event) in enumerate(facts):
        headers, value = encode(event, f"{TURN}/{stage}/1/{seq}", "w")
        records.append(Record("events", 0, offset, T0 + after_ms, CONVERSATION.encode(), headers, value))
    [found] = turn_logs(records)
    return found


def test_what_ran_beside_what() -> None:
    axis = axis_of(log().facts)
    assert axis.lanes == ["route", "plan", "call 0 look", "frames"]
    spans = {(span.lane, span.kind): (span.begin_ms, span.end_ms) for span in axis.spans}
    assert spans == {
        ("route", "looking"): (5, 20), ("plan", "waiting"): (20, 100), ("plan", "writing"): (100, 300),
        ("call 0 look", "writing"): (150, 300), ("call 0 look", "running"): (200, 600),
    }  # fmt: skip
    assert (axis.took_ms, axis.saved_ms, axis.status) == (700, 100, "completed")


def test_frames_stand_where_the_facts_that_make_them_came_into_the_log() -> None:
    axis = axis_of(log().facts)
    frames = [(mark.at_ms, mark.name) for mark in axis.marks]
    assert [at_ms for at_ms, _ in frames] == [0, 20, 30, 150, 200, 300, 300, 600, 700]
    assert frames[0][1].startswith("2 frames, response.created, response.in_progress, ")
    assert frames[3][1].startswith("headstart.tool.opened, ")
    assert "response.completed" in frames[-1][1]
    assert all(name.endswith(" bytes") for _, name in frames)


def test_checks_show_what_they_changed_and_what_they_held_to_the_end() -> None:
    answered = AnswerFinished(
        reason="stop", usage=Usage(prompt=5, completion=3), at_ms=T0 + 680, last_token_ms=50.0, filtered=("secrets",)
    )
    axis = axis_of(log(
        (610, "answer", 0, AnswerStarted(model="m", engine="e", at_ms=T0 + 610)),
        (640, "answer", 1, AnswerDelta(text="the key is ", index=0, ids=(1, 2))),
        (650, "answer", 2, AnswerDelta(text="****", index=2)),
        (680, "answer", 3, answered),
    ).facts)  # fmt: skip
    assert [(mark.at_ms, mark.name) for mark in axis.marks if mark.lane == CHECKS] == [(650, "changed by a check")]
    [held] = [span for span in axis.spans if span.lane == CHECKS]
    assert (held.kind, held.begin_ms, held.end_ms, held.detail) == ("checking", 660, 680, "changed by secrets")
    assert axis.lanes[-2:] == [CHECKS, "frames"]
    assert "▒" in text(axis)


def test_an_answer_that_no_check_touched_has_no_row_for_them() -> None:
    axis = axis_of(log(
        (610, "answer", 0, AnswerStarted(model="m", engine="e", at_ms=T0 + 610)),
        (640, "answer", 1, AnswerDelta(text="Yes.", index=0)),  # an engine that tells no ids
        (661, "answer", 2, AnswerFinished(reason="stop", usage=Usage(), at_ms=T0 + 661, last_token_ms=51.0)),
    ).facts)  # fmt: skip
    assert CHECKS not in axis.lanes


def test_what_clients_acknowledged_stands_below_everything() -> None:
    said = Mark(lane=ACKNOWLEDGED, name="by gateway/a", at_ms=760)
    axis = axis_of(log().facts, [said])
    assert (axis.lanes[-1], axis.end_ms) == (ACKNOWLEDGED, 760)
    assert svg(axis).count("by gateway/a") == perfetto(axis).count("by gateway/a") == 1


def test_a_turn_that_runs_is_drawn_as_far_as_it_got() -> None:
    axis = axis_of(log().facts[:6])
    assert (axis.status, axis.took_ms) == ("running", 150)
    assert [span.end_ms for span in axis.spans if span.lane.startswith("call")] == [150]
    with pytest.raises(ValueError, match=r"turn\.accepted"):
        axis_of(log().facts[1:])


def test_in_a_terminal_the_overlap_is_seen() -> None:
    lines = text(axis_of(log().facts)).splitlines()
    [call] = [line for line in lines if line.startswith("call 0 look")]
    assert "░" in call
    assert "█" in call
    assert "━" in call
    assert call.index("░") < call.index("█") < call.index("━")


def test_the_picture_is_well_formed_and_says_nothing_as_code() -> None:
    picture = svg(axis_of(log().facts))
    root = ElementTree.fromstring(picture)
    rectangles = [element for element in root.iter() if element.tag.endswith("rect")]
    assert len(rectangles) == 1 + 5
    assert "<b>" not in picture
    assert "&lt;x&gt;" in picture


def test_the_trace_is_in_microseconds_by_lane() -> None:
    events = json.loads(perfetto(axis_of(log().facts)))["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    whole = [event for event in events if event["ph"] == "X"]
    [running] = [event for event in whole if event["cat"] == "running"]
    assert (running["ts"], running["dur"], names[running["tid"]]) == (200_000, 400_000, "call 0 look")
    assert all(event["dur"] > 0 for event in whole)
