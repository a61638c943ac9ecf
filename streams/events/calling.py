"""Calls: written by the model, fired while they are still written, answered, voided.

`call.opened/arguments/closed/voided` follow the model's text and stand in stage "turn". `call.fired/answered/failed`
stand in a stage of their own, `call.<n>`, fenced by the claim's number: when a turn changes hands the call goes on,
and its result counts whoever asked for it.
"""

from __future__ import annotations

from typing import Any

from streams.events.base import Event, event


@event("call.opened", "events")
class CallOpened(Event, frozen=True, kw_only=True):
    """The plan named a skill. call: index in the plan, from 0. token: index of the token that named it.

    client: the function is the client's own; it comes back as a `function_call` item.
    """

    call: int
    skill: str
    token: int
    at_ms: int
    client: bool = False


@event("call.arguments", "events")
class CallArguments(Event, frozen=True, kw_only=True):
    """More of a call's arguments, as compact JSON text; joined over a call it is the arguments object."""

    call: int
    text: str


@event("call.closed", "events")
class CallClosed(Event, frozen=True, kw_only=True):
    """The call is written whole. arguments: the JSON object as it will be used. repairs: names of the rules applied."""

    call: int
    skill: str
    arguments: dict[str, Any]
    token: int
    at_ms: int
    repairs: tuple[str, ...] = ()


@event("call.voided", "events")
class CallVoided(Event, frozen=True, kw_only=True):
    """The call does not count: its result, should one come, is dropped. refire: it goes again with more arguments."""

    call: int
    reason: str
    at_ms: int
    refire: bool = False


@event("call.fired", "events")
class CallFired(Event, frozen=True, kw_only=True):
    """The request left (pure) or is about to leave (others: this fact is acknowledged first). Opens stage call.<n>.

    claim: number of the claim, 1 for the first. token: index of the plan's newest token at that moment, -1 when the
    plan was already whole. written: the call was still being written. key: the Idempotency-Key sent along.
    """

    call: int
    skill: str
    arguments: dict[str, Any]
    effect: str
    claim: int
    token: int
    at_ms: int
    written: bool = False
    key: str = ""
    closed_to_wire_ms: float = 0.0


@event("call.answered", "events")
class CallAnswered(Event, frozen=True, kw_only=True):
    """The skill answered. result: JSON text, cut at the skill's size limit (`cut`). status: HTTP status or 200."""

    call: int
    result: str
    status: int
    took_ms: float
    at_ms: int
    size_bytes: int = 0
    cut: bool = False
    attempts: int = 1
    adopted_from: int = -1


@event("call.failed", "events")
class CallFailed(Event, frozen=True, kw_only=True):
    """The call has no result. code as in streams.errors; in_doubt: its effect may or may not have happened."""

    call: int
    code: str
    message: str
    at_ms: int
    took_ms: float = 0.0
    attempts: int = 1
    in_doubt: bool = False


@event("plan.repaired", "events")
class PlanRepaired(Event, frozen=True, kw_only=True):
    """A named rule mended the plan's text. call: which one, -1 when it is about the whole. position: in the text."""

    rule: str
    position: int
    call: int = -1


@event("plan.committed", "events")
class PlanCommitted(Event, frozen=True, kw_only=True):
    """The plan is whole and fixed: irreversible calls may go. calls: how many stand. tokens: length of the plan."""

    calls: int
    tokens: int
    at_ms: int


@event("approval.asked", "events")
class ApprovalAsked(Event, frozen=True, kw_only=True):
    """An irreversible call waits for a person. request: id of the approval item; expires_at_ms: then it is refused."""

    call: int
    skill: str
    arguments: dict[str, Any]
    request: str
    at_ms: int
    expires_at_ms: int


@event("call.requested", "calls")
class CallRequested(Event, frozen=True, kw_only=True):
    """Work for a skill that lives on the bus: answered by `call.result` on `turns`.

    key: the Idempotency-Key, the same for every attempt at this call, whoever makes it. attempt: from 1; a request that
    may be repeated after a failure is. deadline_at_ms: wall clock after which nobody waits for the result.
    """

    conversation: str
    turn: str
    call: int
    claim: int
    skill: str
    arguments: dict[str, Any]
    tenant: str
    user: str
    key: str
    at_ms: int
    deadline_at_ms: int
    locale: str = ""
    attempt: int = 1


@event("call.abandoned", "calls")
class CallAbandoned(Event, frozen=True, kw_only=True):
    """Nobody waits for this call's result any more. A pure skill should stop; any other finishes what it began."""

    turn: str
    call: int
    claim: int
    skill: str
    key: str
    at_ms: int
