"""What a client sees of a service's fact that was taken in: by a turn, or without one."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.frame import Frame
from gateway.response_object import input_item
from gateway.resume import ConversationFold
from streams import ids
from streams.codec import Record
from streams.events import InputItem
from streams.events.conversation import FactTaken
from tests.support.turn_script import FactLog, Say, accepted, completed, conversation_of, submit_of

CONVERSATION = conversation_of()
SUBMIT = submit_of(CONVERSATION)
SUCCESSOR = ids.keyed_turn_id(CONVERSATION, "ada", "fact/x")


def taken(**more: Any) -> FactTaken:
    fields: dict[str, Any] = {
        "conversation": CONVERSATION, "fact": f"{CONVERSATION}/note/0/7", "kind": "job.posted", "service": "jobs",
        "agent": "recruiter", "policy": "tell", "moment": "planning", "outcome": "told", "at_ms": 5, "text": "A job.",
    }  # fmt: skip
    return FactTaken(**(fields | more))


def frames(records: list[Record]) -> list[Frame]:
    fold = ConversationFold(CONVERSATION, 1)
    return [frame for record in records if (step := fold.receive(record)) is not None for frame in step.frames]


def said(frame: Frame) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(frame.body)
    assert body.pop("cursor")
    return body


SHOWN = {
    "fact": f"{CONVERSATION}/note/0/7", "kind": "job.posted", "service": "jobs", "agent": "recruiter",
    "policy": "tell", "moment": "planning", "outcome": "told", "successor": None, "at_ms": 5,
}  # fmt: skip


def test_in_a_turn_it_is_a_frame_of_the_response() -> None:
    log = FactLog(CONVERSATION)
    log.turn(SUBMIT, [Say("turn", taken()), completed()])
    [frame] = [one for one in frames(log.records) if one.type == "headstart.fact.taken"]
    response = ids.response_of(SUBMIT.turn)
    head = {"type": "headstart.fact.taken", "sequence_number": 2, "response_id": response}
    assert said(frame) == head | SHOWN


def test_without_a_turn_it_is_a_frame_of_the_conversation() -> None:
    log = FactLog(CONVERSATION)
    log.put(taken(agent="", moment="after_end", outcome="opened", successor=SUCCESSOR), f"{CONVERSATION}/note/0/9")
    [frame] = frames(log.records)
    changed = {"agent": None, "moment": "after_end", "outcome": "opened", "successor": ids.response_of(SUCCESSOR)}
    head = {"type": "headstart.fact.taken", "conversation": CONVERSATION}
    assert (said(frame), frame.sequence, frame.turn) == (head | SHOWN | changed, -1, "")


def test_a_reader_that_begins_within_the_turn_sees_nothing_else_in_it() -> None:
    log = FactLog(CONVERSATION)
    log.say(SUBMIT.turn, Say("turn", accepted(SUBMIT)))
    log.say(SUBMIT.turn, Say("turn", taken()))
    assert frames(log.records[1:]) == []


def test_a_fact_among_the_input_is_an_item_that_the_standard_knows() -> None:
    item = InputItem(kind="fact", role="service", text="A job.", call_id="f", output="job.posted")
    shown = input_item(SUBMIT.turn, 0, item)
    assert (shown["type"], shown["role"]) == ("message", "system")
    assert shown["content"] == [{"type": "input_text", "text": "A job."}]
