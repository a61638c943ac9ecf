"""From a turn's log to its frames: the exact bytes, what the SDK's own models say of them, and the numbering.

`python tests/unit/gateway/test_frames.py` writes the golden files anew; read the difference before you keep it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.frame import Frame, on_lane, server_sent
from gateway.resume import ConversationFold
from streams import ids
from streams.events import Usage, calling, generating
from streams.events.intake import ClientTool, TurnOptions
from streams.events.turn import (
    ModelUse,
    TurnCancelled,
    TurnFailed,
    TurnIncomplete,
)
from streams.offsets import Cursor
from tests.support.turn_script import (
    AT_MS,
    FactLog,
    Line,
    Say,
    answer,
    client_call,
    completed,
    conversation_of,
    journey,
    submit_of,
)

GOLDEN = Path(__file__).parent / "golden"
CONVERSATION = conversation_of()
SUBMIT = submit_of(CONVERSATION)
EPOCH = 0x5EED
STANDARD: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OPEN_DOOR = ClientTool(name="open_door", parameters={"type": "object"})
WITH_TOOL = submit_of(CONVERSATION, options=TurnOptions(tools=(OPEN_DOOR,), metadata={"event_id": "e1"}))
ASKED = calling.ApprovalAsked(
    call=0, skill="pay", arguments={"sum": 5}, request=f"mcpr_{ids.body_of(SUBMIT.turn)}00", at_ms=AT_MS,
    expires_at_ms=AT_MS + 9,
)  # fmt: skip
SCRIPTS: dict[str, list[Line]] = {
    "journey": journey(),
    "client_call": [*client_call(), completed(awaiting="tool_output")],
    "cancelled": [*answer(["Half of "])[:-1], Say("turn", TurnCancelled(at_ms=AT_MS + 600))],
    "failed": [Say("turn", TurnFailed(at_ms=AT_MS + 5, code="peer_timeout", message="The model did not answer."))],
    "approval": [Say("turn", ASKED), *answer(["May I?"]), completed(awaiting="approval")],
    "steered": [
        *answer(["One"])[:-1],
        Say("turn", TurnIncomplete(at_ms=AT_MS + 600, reason="steered", successor=submit_of(CONVERSATION, 1).turn)),
    ],
}


def frames_of(lines: Iterable[Line], submit: Any = SUBMIT, first_offset: int = 40) -> list[Frame]:
    log = FactLog(CONVERSATION, first_offset, gap=3)
    log.turn(submit, lines)
    fold = ConversationFold(CONVERSATION, EPOCH)
    return [frame for record in log.records for step in [fold.receive(record)] if step for frame in step.frames]


def bodies(frames: Iterable[Frame]) -> list[dict[str, Any]]:
    return [orjson.loads(frame.body) for frame in frames]


def submit_for(name: str) -> Any:
    return WITH_TOOL if name == "client_call" else SUBMIT


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_bytes_are_the_golden_ones(name: str) -> None:
    made = b"".join(frame.body + b"\n" for frame in frames_of(SCRIPTS[name], submit_for(name)))
    assert made == (GOLDEN / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_standard_frames_are_what_the_sdk_says(name: str) -> None:
    for frame in frames_of(SCRIPTS[name], submit_for(name)):
        body = orjson.loads(frame.body)
        assert body["type"] == frame.type
        if not frame.type.startswith("headstart."):
            STANDARD.validate_python(body)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_numbering_ids_and_cursors(name: str) -> None:
    frames = frames_of(SCRIPTS[name], submit_for(name))
    response = ids.response_of(SUBMIT.turn)
    for number, (frame, body) in enumerate(zip(frames, bodies(frames), strict=True)):
        assert body["sequence_number"] == frame.sequence == number
        assert body["response_id"] == response
        cursor = Cursor.decode(body["cursor"])
        assert (cursor.offset, cursor.frame) == (frame.offset, frame.index)
        assert (cursor.conversation, cursor.topic_epoch, cursor.turn_offset) == (CONVERSATION, EPOCH, frames[0].offset)
        assert frame.ends == (number == len(frames) - 1)
    assert frames[0].type == "response.created"
    assert [frame.position for frame in frames] == sorted({frame.position for frame in frames})


def test_terminal_response_validates_and_holds_the_text() -> None:
    frames = frames_of(SCRIPTS["journey"])
    response = Response.model_validate(orjson.loads(frames[-1].body)["response"])
    assert response.status == "completed"
    assert response.output_text == "It is 4 °C in Oslo."
    deltas = [body["delta"] for body in bodies(frames) if body["type"] == "response.output_text.delta"]
    assert "".join(deltas) == response.output_text
    assert response.conversation is not None
    assert response.conversation.id == CONVERSATION


def test_a_cancelled_turn_ends_as_incomplete_with_what_was_delivered() -> None:
    end, delivered = bodies(frames_of(SCRIPTS["cancelled"]))[-1], bodies(frames_of(SCRIPTS["cancelled"]))[-2]
    assert end["type"] == "response.incomplete"
    response = Response.model_validate(end["response"])
    assert response.status == "cancelled"
    assert response.output_text == "Half of "
    deltas = [body for body in bodies(frames_of(SCRIPTS["cancelled"])) if body["type"] == "response.output_text.delta"]
    assert delivered["type"] == "headstart.delivered"
    assert delivered["upto"] == deltas[-1]["cursor"]
    assert delivered["characters"] == len("Half of ")


def test_skills_of_the_server_are_no_items() -> None:
    response = Response.model_validate(bodies(frames_of(SCRIPTS["journey"]))[-1]["response"])
    assert [item.type for item in response.output] == ["message"]
    tools = [frame.type for frame in frames_of(SCRIPTS["journey"]) if frame.type.startswith("headstart.tool.")]
    assert tools == [
        "headstart.tool.opened", "headstart.tool.arguments", "headstart.tool.fired", "headstart.tool.arguments",
        "headstart.tool.closed", "headstart.tool.answered", "headstart.tool.saved",
    ]  # fmt: skip


def test_the_clients_own_function_is_an_item_with_deltas() -> None:
    frames = bodies(frames_of(SCRIPTS["client_call"], WITH_TOOL))
    deltas = [body["delta"] for body in frames if body["type"] == "response.function_call_arguments.delta"]
    response = Response.model_validate(frames[-1]["response"])
    (call,) = response.output
    assert call.type == "function_call"
    assert "".join(deltas) == call.arguments == '{"door":2}'
    assert call.call_id == ids.call_id(SUBMIT.turn, 0)
    assert not [body for body in frames if body["type"].startswith("headstart.tool.o")]


def test_a_mended_clients_call_says_the_arguments_that_count() -> None:
    lines = client_call()
    closed = lines[-1]
    assert isinstance(closed, Say)
    mended = Say("turn", msgspec.structs.replace(closed.event, arguments={"door": 3}))
    frames = bodies(frames_of([*lines[:-1], mended, completed()], WITH_TOOL))
    done = next(body for body in frames if body["type"] == "response.function_call_arguments.done")
    assert orjson.loads(done["arguments"]) == {"door": 3}


@pytest.mark.parametrize("closed", [True, False])
def test_a_voided_clients_call_is_not_in_the_output(closed: bool) -> None:
    lines = client_call() if closed else client_call()[:-1]
    voided = Say("turn", calling.CallVoided(call=0, reason="unknown_parameter", at_ms=AT_MS))
    frames = bodies(frames_of([*lines, voided, *answer(["No."]), completed()], WITH_TOOL))
    assert [item["type"] for item in frames[-1]["response"]["output"]] == ["message"]


def test_a_clients_call_that_never_closed_is_not_in_the_output() -> None:
    end = Say("turn", TurnIncomplete(at_ms=AT_MS, reason="deadline"))
    frames = bodies(frames_of([*client_call()[:-1], end], WITH_TOOL))
    assert frames[-1]["response"]["output"] == []
    done = next(body for body in frames if body["type"] == "response.output_item.done")
    assert done["item"]["status"] == "incomplete"


def test_reasons_the_standard_does_not_know_stand_beside_it() -> None:
    end = Say("turn", TurnIncomplete(at_ms=AT_MS, reason="model_lost"))
    response = bodies(frames_of([end]))[-1]["response"]
    assert Response.model_validate(response).incomplete_details is not None
    assert response["incomplete_details"] == {"reason": None}
    assert response["headstart"] == {"reason": "model_lost"}


def test_usage_counts_what_nobody_reads_as_reasoning() -> None:
    models = (
        ModelUse(step="plan", model="small", usage=Usage(prompt=30, completion=9)),
        ModelUse(step="answer", model="big", usage=Usage(prompt=11, completion=7, hidden=3)),
    )
    response = Response.model_validate(bodies(frames_of([completed(models=models)]))[-1]["response"])
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (41, 16, 57)
    assert response.usage.output_tokens_details.reasoning_tokens == 12


def test_nothing_follows_the_terminal_frame() -> None:
    log = FactLog(CONVERSATION)
    log.turn(SUBMIT, [*answer(["Hi"]), completed()])
    fired = calling.CallFired(call=0, skill="w", arguments={}, effect="pure", claim=1, token=0, at_ms=AT_MS)
    late = calling.CallAnswered(call=0, result="1", status=200, took_ms=1, at_ms=AT_MS)
    for event in (fired, late):
        log.say(SUBMIT.turn, Say("call.0", event))
    fold = ConversationFold(CONVERSATION, EPOCH)
    frames = [frame for record in log.records for step in [fold.receive(record)] if step for frame in step.frames]
    assert frames[-1].type == "response.completed"
    assert frames[-1].ends


def test_empty_deltas_make_no_frame() -> None:
    lines = [Say("answer", generating.AnswerStarted(model="m", engine="e", at_ms=AT_MS)),
             Say("answer", generating.AnswerDelta(text="", index=0))]  # fmt: skip
    kinds = [frame.type for frame in frames_of([*lines, completed()])]
    assert "response.output_item.added" not in kinds
    assert kinds[-1] == "response.completed"


def test_a_lane_is_added_outside_of_the_frames_identity() -> None:
    frame = frames_of(SCRIPTS["journey"])[3]
    laned = orjson.loads(on_lane(frame.body, 'lane "1"'))
    assert laned.pop("stream_id") == 'lane "1"'
    assert laned == orjson.loads(frame.body)


def test_a_server_sent_event_holds_the_frame_on_one_line() -> None:
    frame = frames_of(SCRIPTS["journey"])[0]
    assert server_sent(frame.type, frame.body) == b"event: response.created\ndata: " + frame.body + b"\n\n"
    assert b"\n" not in frame.body


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for script in SCRIPTS:
        lines = b"".join(frame.body + b"\n" for frame in frames_of(SCRIPTS[script], submit_for(script)))
        (GOLDEN / f"{script}.jsonl").write_bytes(lines)


def test_a_long_answer_costs_its_letters() -> None:
    """The text of an open turn is kept for its end; deltas kept one by one would cost fifty bytes each."""
    deltas = 5_000
    log = FactLog(CONVERSATION)
    log.turn(SUBMIT, answer(["abc"] * deltas)[:-1])
    fold = ConversationFold(CONVERSATION, EPOCH)
    tracemalloc.start()
    try:
        for record in log.records:
            fold.receive(record)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fold.open_turns() == [SUBMIT.turn]
    assert kept < deltas * len("abc") * 4 + 64 * 1024
