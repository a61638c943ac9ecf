"""Answers to approval requests: what was approved is sent word for word, what was not never is, whoever dies."""

from __future__ import annotations

from typing import Any

import pytest

from streams import ids
from streams.codec import Identity
from streams.events import Event, InputItem
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallClosed,
    CallFailed,
    CallFired,
    CallVoided,
    PlanCommitted,
)
from streams.events.recalling import Recalled
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnFailed
from streams.models import ModelSpec
from tests.support.written_plans import PAY
from workers.agents.catalog import load_all
from workers.planning.approving import asking_call
from workers.planning.commands import (
    ApprovalsFound,
    Called,
    Command,
    FindApprovals,
    Fire,
    Generate,
    Publish,
    Recollected,
    Routed,
)
from workers.planning.machine import Setup, TurnMachine
from workers.planning.restoring import restore, resume

T0 = 1_700_000_000_000
CONVERSATION = ids.conversation_id(3, T0, bytes(16))
ASKING = ids.turn_id(CONVERSATION, T0, bytes(16))
TURN = ids.turn_id(CONVERSATION, T0 + 1, bytes(16))
SETUP = Setup(agents=load_all(), models={"default": ModelSpec(engine="scripted")})


def request(call: int) -> str:
    return ids.item_id("mcpr", ASKING, call)


def asked(call: int, expires_at_ms: int = T0 + 1_000) -> ApprovalAsked:
    return ApprovalAsked(
        call=call, skill=PAY.id, arguments={"amount": str(call)}, request=request(call), at_ms=T0,
        expires_at_ms=expires_at_ms,
    )  # fmt: skip


def machine(*answers: tuple[int, bool], turn: str = TURN) -> TurnMachine:
    items = tuple(InputItem(kind="approval", call_id=request(call), approve=approve) for call, approve in answers)
    accepted = TurnAccepted(
        turn=turn, conversation=CONVERSATION, tenant="acme", user="ada", input=items, at_ms=T0,
        deadline_at_ms=T0 + 60_000,
    )  # fmt: skip
    return TurnMachine(accepted, 7, SETUP)


def found(*events: ApprovalAsked) -> ApprovalsFound:
    return ApprovalsFound(events, {PAY.id: PAY})


def looked(turn: TurnMachine) -> list[Command]:
    """To the point where it asks what was asked."""
    commands = turn.begin(None, T0)
    commands += turn.receive(Routed(agent="recruiter", verdict="sure", scores=[], took_ms=1), T0)
    commands += turn.receive(Recollected(Recalled(items=(), history=(), at_ms=T0)), T0)
    return commands


def fires(commands: list[Command]) -> list[Fire]:
    return [command for command in commands if isinstance(command, Fire)]


def said(commands: list[Command], kind: type[Event]) -> list[Any]:
    return [one.event for one in commands if isinstance(one, Publish) and isinstance(one.event, kind)]


def test_a_request_names_the_turn_and_the_call_that_asked() -> None:
    assert asking_call(request(0)) == (ASKING, 0)
    assert asking_call(request(31)) == (ASKING, 31)


@pytest.mark.parametrize("text", ["", "mcpr_", "mcpr_1", request(0)[:-1], request(0) + "0", request(0)[:-1] + "g", "x"])
def test_anything_else_names_nothing(text: str) -> None:
    assert asking_call(text) is None


def test_what_was_approved_is_sent_as_it_was_shown_and_claimed_where_it_was_asked() -> None:
    turn = machine((0, True), (1, False), (2, True))
    looked(turn)
    commands = turn.receive(found(asked(0), asked(1), asked(2)), T0)
    assert [(fire.arguments, fire.approval) for fire in fires(commands)] == [
        ({"amount": "0"}, (ASKING, 0)), ({"amount": "2"}, (ASKING, 2)),
    ]  # fmt: skip
    assert [(one.call, one.reason) for one in said(commands, CallVoided)] == [(1, "not_approved")]
    assert len(said(commands, CallClosed)) == 3
    kinds = [type(one.event) for one in commands if isinstance(one, Publish)]
    assert kinds[0] is PlanCommitted


def test_the_key_is_the_same_whichever_turn_carries_it_out() -> None:
    keys = set()
    for later in (TURN, ids.turn_id(CONVERSATION, T0 + 2, bytes(16))):
        turn = machine((0, True), turn=later)
        looked(turn)
        [fire] = fires(turn.receive(found(asked(0)), T0))
        keys.add(fire.key)
    assert len(keys) == 1


def test_the_same_answer_twice_in_one_turn_is_one() -> None:
    turn = machine((0, True), (0, True))
    assert [one.requests for one in looked(turn) if isinstance(one, FindApprovals)] == [(request(0),)]
    assert len(fires(turn.receive(found(asked(0)), T0))) == 1


@pytest.mark.parametrize(
    ("events", "code"),
    [((asked(0),), "approval_unknown"), ((asked(0), asked(1, T0 - 1)), "approval_expired")],
)  # fmt: skip
def test_one_that_is_unknown_or_expired_fails_the_turn_before_anything_is_sent(
    events: tuple[ApprovalAsked, ...], code: str
) -> None:
    turn = machine((0, True), (1, True))
    looked(turn)
    commands = turn.receive(found(*events), T0)
    assert fires(commands) == []
    [end] = said(commands, TurnFailed)
    assert (end.code, end.fault) == (code, "caller")


def test_what_is_in_doubt_is_said_at_the_end() -> None:
    turn = machine((0, True))
    looked(turn)
    turn.receive(found(asked(0)), T0)
    failed = CallFailed(call=0, code="call_in_doubt", message="unknown", at_ms=T0, in_doubt=True)
    turn.receive(Called(failed, 1), T0)
    [end] = said(turn.fail("deadline", "too late", T0), TurnFailed)
    assert end.in_doubt == (0,)


def log_of(turn: TurnMachine) -> list[tuple[Identity, Event, float]]:
    """A whole life of the turn: its own facts, its calls' among them, up to the question for the answer."""
    log: list[tuple[Identity, Event, float]] = [
        (Identity(TURN, "turn", 1, 1), RouteDecided(agent="recruiter", by="embedding", at_ms=T0), T0)
    ]
    log.append((Identity(TURN, "turn", 1, 2), Recalled(items=(), history=(), at_ms=T0), T0))
    commands = turn.receive(found(asked(0), asked(1), asked(2)), T0)
    for command in commands:
        if isinstance(command, Publish):
            log.append((Identity(TURN, "turn", 1, len(log)), command.event, T0))
    for fire in fires(commands):
        fired = CallFired(
            call=fire.call, skill=PAY.id, arguments=fire.arguments, effect="irreversible", claim=1, token=-1, at_ms=T0
        )  # fmt: skip
        log.append((Identity(TURN, f"call.{fire.call}", 1, 0), fired, T0))
    for fire in fires(commands):
        answered = CallAnswered(call=fire.call, result='"paid"', status=200, took_ms=1, at_ms=T0)
        log.append((Identity(TURN, f"call.{fire.call}", 1, 1), answered, T0))
    return log


CUTS = 15


@pytest.mark.parametrize("cut", range(2, CUTS))
def test_a_successor_sends_what_was_approved_and_nothing_else_from_any_point(cut: int) -> None:
    answers = ((0, False), (1, True), (2, True))
    first = machine(*answers)
    looked(first)
    log = log_of(first)
    assert len(log) == CUTS - 1
    second = machine(*answers)
    owed = restore(second, log[:cut], {PAY.id: PAY})
    commands = list(resume(second, T0, owed))
    if any(isinstance(command, FindApprovals) for command in commands):
        commands += second.receive(found(asked(0), asked(1), asked(2)), T0)
    known = {event.call for _, event, _ in log[:cut] if isinstance(event, CallFired)}
    assert {fire.call for fire in fires(commands)} == {1, 2} - known, "the refused one is never sent"
    for kind in (PlanCommitted, CallClosed, CallVoided):
        written = [event for _, event, _ in log[:cut] if isinstance(event, kind)] + said(commands, kind)
        assert len(written) == {PlanCommitted: 1, CallClosed: 3, CallVoided: 1}[kind], kind
    for call in (1, 2):
        answered = CallAnswered(call=call, result='"paid"', status=200, took_ms=1, at_ms=T0)
        commands += second.receive(Called(answered, 1), T0)
    assert second.phase == "answering"
    assert [command.request.step for command in commands if isinstance(command, Generate)] == ["answer"]
