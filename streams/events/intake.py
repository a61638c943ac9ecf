"""Commands on `turns`: what clients and services ask for. Keyed by conversation; read by the partition's owner."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from streams.events.base import Event, InputItem, event

FACT_BYTES: Final = 64 * 1024  # of a published fact's value: it is read by every projection, and may enter a prompt


class ClientTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function the client runs itself. `parameters` is a JSON Schema object; `strict` as in OpenAI's API."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    strict: bool = False


class TurnOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the submitter chose for one turn. None or "" means the agent's own choice.

    on_busy: reject | interrupt | enqueue | steer, what to do when a turn of the conversation is running.
    deadline_ms: how long the turn may take from its acceptance.
    """

    agent: str = ""
    model: str = ""
    instructions: str = ""
    tools: tuple[ClientTool, ...] = ()
    tool_choice: str = "auto"
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    on_busy: str = "enqueue"
    deadline_ms: int | None = None
    locale: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


@event("turn.submit", "turns")
class TurnSubmit(Event, frozen=True, kw_only=True):
    """A turn is asked for. `turn` and `conversation` are the ids the sender made (ids.py).

    opens: the conversation does not exist yet and this turn opens it. parent: the conversation it forks from,
    seen up to and including the turn `parent_turn`. event_id: the client's idempotency key, "" when none.
    at_ms: the sender's wall clock, milliseconds since the epoch.
    """

    turn: str
    conversation: str
    tenant: str
    user: str
    input: tuple[InputItem, ...]
    at_ms: int
    opens: bool = False
    parent: str = ""
    parent_turn: str = ""
    previous_turn: str = ""
    event_id: str = ""
    origin: str = "client"
    options: TurnOptions = TurnOptions()


@event("turn.cancel", "turns")
class TurnCancel(Event, frozen=True, kw_only=True):
    """Stop a turn. Never waits behind the turn it is about."""

    turn: str
    tenant: str
    user: str
    at_ms: int
    reason: str = "client"
    event_id: str = ""


@event("turn.steer", "turns")
class TurnSteer(Event, frozen=True, kw_only=True):
    """More user input for a running turn: it ends incomplete ("steered") and `successor` goes on with both inputs."""

    turn: str
    successor: str
    tenant: str
    user: str
    input: tuple[InputItem, ...]
    at_ms: int
    event_id: str = ""


@event("call.result", "turns")
class CallResult(Event, frozen=True, kw_only=True):
    """The outcome of a call that a bus skill ran. Exactly one of `result` (JSON text) and `error` is set.

    turn, call, claim, key, tenant: as the request had them; the key is what a result is told apart by, so that it
    counts whichever worker asked. error: "refused" (nothing was done, and the same call would be refused again),
    "busy" (nothing was done, not now) or "failed" (something may have been done). retriable: asking again may help.
    """

    turn: str
    call: int
    claim: int
    at_ms: int
    result: str = ""
    error: str = ""
    retriable: bool = False
    key: str = ""
    tenant: str = ""


@event("fact.publish", "turns")
class FactPublish(Event, frozen=True, kw_only=True):
    """A service's fact for a member: something happened outside (a job was posted, a payment failed).

    conversation: "" stands for the one that the member used last. at_ms: when it was published."""

    conversation: str
    tenant: str
    user: str
    kind: str
    text: str
    at_ms: int
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    event_id: str = ""


@event("conversation.edit", "turns")
class ConversationEdit(Event, frozen=True, kw_only=True):
    """Rename (`title`) or delete (`delete`) a conversation."""

    conversation: str
    tenant: str
    user: str
    at_ms: int
    title: str = ""
    delete: bool = False


@event("member.forget", "turns")
class MemberForget(Event, frozen=True, kw_only=True):
    """Everything that is held of a member is to be erased. conversation: the member's own (ids.member_conversation)."""

    conversation: str
    tenant: str
    user: str
    at_ms: int
    event_id: str = ""
