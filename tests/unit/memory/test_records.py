"""A turn's facts become its messages: exactly what was delivered, every call with an outcome."""

from __future__ import annotations

import pytest

from memory.records import NO_RESULT, RESULT_IN_HISTORY_CHARACTERS, TurnProjector, history_messages
from memory.rows import MessageRow, title_of
from streams import ids
from streams.codec import Identity
from streams.events import Event, InputItem, Usage
from streams.events.calling import CallAnswered, CallClosed, CallFailed, CallFired, CallOpened, CallVoided
from streams.events.generating import AnswerDelta, PlanDelta
from streams.events.routing import RouteDecided
from streams.events.turn import (
    ModelUse,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnHeartbeat,
    TurnIncomplete,
)

CONVERSATION = ids.conversation_id(2, 1_000, b"0123456789")
TURN = ids.turn_id(CONVERSATION, 2_000, b"0123456789")


def accepted(*items: InputItem) -> TurnAccepted:
    return TurnAccepted(
        turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada", input=items or (InputItem(text="hi"),),
        at_ms=2_000, deadline_at_ms=9_000, previous_offset=4, previous_turn="turn_before", event_id="e1",
        origin="service",
    )  # fmt: skip


def fold(*events: Event, first_offset: int = 10) -> TurnProjector:
    projector = TurnProjector()
    for number, event in enumerate(events):
        projector.feed(Identity(TURN, "any", 1, number), event, first_offset + number)
    return projector


def opened(call: int = 0, client: bool = False) -> CallOpened:
    return CallOpened(call=call, skill="search@2", token=1, at_ms=1, client=client)


def closed(call: int = 0, **arguments: object) -> CallClosed:
    return CallClosed(call=call, skill="search@2", arguments=arguments, token=5, at_ms=1)


def fired(call: int = 0, claim: int = 1, **arguments: object) -> CallFired:
    return CallFired(
        call=call, skill="search@2", arguments=arguments, effect="pure", claim=claim, token=3, at_ms=1, written=True
    )


def answered(call: int = 0, result: str = "[1]") -> CallAnswered:
    return CallAnswered(call=call, result=result, status=200, took_ms=1.0, at_ms=1)


def shown(projector: TurnProjector) -> list[tuple[str, str]]:
    record = projector.record()
    return [(message.role, message.text) for message in history_messages([(record.turn, record.messages)])]


END = TurnCompleted(at_ms=5_000)


def test_a_whole_turn() -> None:
    use = ModelUse(step="answer", model="small", usage=Usage(prompt=10, completion=5))
    projector = fold(
        accepted(), RouteDecided(agent="guide", by="embedding", at_ms=1), opened(), PlanDelta(text="[{", index=0),
        fired(q="x"), closed(q="x", k=3), answered(), AnswerDelta(text="Hel", index=0), TurnHeartbeat(at_ms=1),
        AnswerDelta(text="lo", index=1), TurnCompleted(at_ms=5_000, models=(use,), awaiting="tool_output"),
    )  # fmt: skip
    assert projector.ended
    record = projector.record()
    assert (record.turn, record.conversation, record.tenant, record.user) == (TURN, CONVERSATION, "acme", "ada")
    assert (record.begin_offset, record.end_offset, record.status, record.agent) == (10, 20, "completed", "guide")
    assert (record.accepted_at_ms, record.ended_at_ms, record.models) == (2_000, 5_000, (use,))
    assert (record.previous_turn, record.previous_offset, record.event_id) == ("turn_before", 4, "e1")
    assert (record.origin, record.awaiting, record.answer) == ("service", "tool_output", "Hello")
    assert [message.index for message in record.messages] == [0, 1, 2, 3]
    assert shown(projector) == [("user", "hi"), ("tool", 'search({"q":"x","k":3}) → [1]'), ("assistant", "Hello")]
    assert title_of(record) == "hi"


def test_before_its_end_a_turn_is_running() -> None:
    projector = fold(accepted(), AnswerDelta(text="Hel", index=0))
    record = projector.record()
    assert (record.status, record.end_offset, record.ended_at_ms) == ("running", -1, 0)
    assert record.answer == "Hel"
    assert not projector.ended
    assert projector.begin_offset == 10


def test_without_its_beginning_there_is_no_turn() -> None:
    projector = fold(END)
    assert not projector.begun
    with pytest.raises(ValueError, match="begins with"):
        projector.record()


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (TurnIncomplete(at_ms=1, reason="steered"), "incomplete", "steered"),
        (TurnCancelled(at_ms=1), "cancelled", "client"),
        (TurnFailed(at_ms=1, code="peer_error", message="m"), "failed", "peer_error"),
    ],
)
def test_a_turn_that_ends_early_keeps_what_was_delivered(end: Event, status: str, reason: str) -> None:
    projector = fold(accepted(), AnswerDelta(text="so far", index=0), end, AnswerDelta(text=" and more", index=1), END)
    record = projector.record()
    assert (record.status, record.reason, record.answer, record.end_offset) == (status, reason, "so far", 12)


def test_a_call_without_an_outcome_is_closed() -> None:
    projector = fold(accepted(), opened(), closed(q="x"), fired(q="x"), END)
    assert shown(projector)[1] == ("tool", f'search({{"q":"x"}}) → {NO_RESULT}')
    assert projector.calls_running == 1


def test_a_failed_call_says_so() -> None:
    failed = CallFailed(call=0, code="peer_timeout", message="took too long", at_ms=1, in_doubt=True)
    projector = fold(accepted(), opened(), closed(q="x"), fired(q="x"), failed, END)
    assert "peer_timeout" in shown(projector)[1][1]
    assert '"in_doubt":true' in shown(projector)[1][1]
    assert projector.calls_running == 0


def test_a_voided_call_leaves_nothing_and_its_result_is_dropped() -> None:
    void = CallVoided(call=0, reason="contradicted", at_ms=1)
    assert shown(fold(accepted(), opened(), fired(q="x"), void, answered(), END)) == [("user", "hi")]


def test_a_refired_call_counts_with_its_last_arguments() -> None:
    void = CallVoided(call=0, reason="more", at_ms=1, refire=True)
    projector = fold(
        accepted(), opened(), fired(q="x"), void, answered(result="early"), fired(claim=2, q="x", k=1),
        closed(q="x", k=1), answered(result="whole"), END,
    )  # fmt: skip
    assert shown(projector)[1:] == [("tool", 'search({"q":"x","k":1}) → whole')]


def test_a_late_result_is_an_outcome_of_its_own() -> None:
    projector = fold(accepted(), opened(), closed(q="x"), fired(q="x"), END)
    outcome = projector.feed(Identity(TURN, "call.0", 1, 1), answered(result="late"), 99)
    assert outcome is not None
    assert (outcome.turn, outcome.call_id, outcome.status, outcome.text) == (
        TURN, ids.call_id(TURN, 0), "answered", "late",
    )  # fmt: skip
    assert projector.calls_running == 0
    assert projector.record().end_offset == 14


def test_a_clients_function_is_paired_with_the_output_that_a_later_turn_brings() -> None:
    asking = fold(accepted(), opened(client=True), closed(q="x"), END)
    assert asking.calls_running == 0
    call_id = ids.call_id(TURN, 0)
    output = InputItem(kind="function_call_output", call_id=call_id, output="42")
    bringing = fold(accepted(output, InputItem(text="there")), AnswerDelta(text="ok", index=0), END)
    first, second = asking.record(), bringing.record()
    whole = history_messages([("t1", first.messages), ("t2", second.messages)])
    assert [(message.role, message.text, message.turn) for message in whole] == [
        ("user", "hi", "t1"), ("tool", 'search({"q":"x"}) → 42', "t1"), ("user", "there", "t2"),
        ("assistant", "ok", "t2"),
    ]  # fmt: skip
    assert history_messages([("t1", first.messages)])[1].text.endswith(NO_RESULT)
    assert history_messages([("t2", second.messages)])[0].text == "→ 42"


def test_approvals_and_long_results_are_readable() -> None:
    record = fold(accepted(InputItem(kind="approval", call_id="c", approve=True)), END).record()
    assert history_messages([("t", record.messages)])[0].text == "approved"
    assert title_of(record) == ""
    long = MessageRow(index=0, role="assistant", text="{}", kind="function_call", call_id="c", name="f")
    result = MessageRow(index=1, role="tool", text="x" * 5_000, kind="function_call_output", call_id="c", name="f")
    [message] = history_messages([("t", (long, result))])
    assert len(message.text) == len("f({}) → ") + RESULT_IN_HISTORY_CHARACTERS
