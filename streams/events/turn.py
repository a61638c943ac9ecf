"""The life of a turn: accepted once, perhaps adopted by another owner, ended exactly once."""

from __future__ import annotations

import msgspec

from streams.events.base import Event, InputItem, Usage, event
from streams.events.intake import TurnOptions


@event("turn.accepted", "events")
class TurnAccepted(Event, frozen=True, kw_only=True):
    """The first fact of a turn (stage "turn", epoch 1, seq 0). From its acknowledgement on, recovery comes from here.

    previous_offset: the offset at which the conversation's previous turn begins, -1 for the first: the log of a
    conversation is a linked list. bucket: 0..9999, drawn once, decides every A/B question of the turn.
    deadline_at_ms: wall clock by which the turn has its terminal fact. setup: the id of what its owner was set up with
    (`setup.registered`), "" when that was not written down.
    """

    turn: str
    conversation: str
    tenant: str
    user: str
    input: tuple[InputItem, ...]
    at_ms: int
    deadline_at_ms: int
    previous_offset: int = -1
    previous_turn: str = ""
    bucket: int = 0
    event_id: str = ""
    origin: str = "client"
    steered_from: str = ""
    options: TurnOptions = TurnOptions()
    setup: str = ""

    @property
    def question(self) -> str:
        """The text of the turn's own input, or of the facts that opened it: what it is routed, recalled and embedded
        by."""
        said = "\n".join(item.text for item in self.input if item.kind == "message" and item.role == "user")
        return said or "\n".join(item.text for item in self.input if item.kind == "fact")


@event("turn.adopted", "events")
class TurnAdopted(Event, frozen=True, kw_only=True):
    """The first fact of a later epoch of stage "turn": another owner goes on, from what stands before this record.
    setup: as in `turn.accepted`, of this owner."""

    at_ms: int
    reason: str = "takeover"
    setup: str = ""


@event("turn.heartbeat", "events")
class TurnHeartbeat(Event, frozen=True, kw_only=True):
    """A writer that has nothing to say is alive (any stage)."""

    at_ms: int


class ModelUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step's model call used."""

    step: str
    model: str
    usage: Usage
    cost_usd: float = 0.0


class CallSaving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When one call was opened, fired, closed and ended: token index in the plan and milliseconds since the plan's
    first token. -1: it never was. hidden_ms: how much of the call ran while the plan was still being written."""

    call: int
    skill: str
    opened_token: int = -1
    fired_token: int = -1
    closed_token: int = -1
    opened_ms: float = -1.0
    fired_ms: float = -1.0
    closed_ms: float = -1.0
    ended_ms: float = -1.0
    hidden_ms: float = 0.0


class TurnEnd(Event, frozen=True, kw_only=True):
    """What every terminal fact carries. saved_ms: finish-then-run time less the time it took, from the calls' own
    times; oracle_ms: what firing every call the instant its last needed byte existed would have saved."""

    at_ms: int
    models: tuple[ModelUse, ...] = ()
    savings: tuple[CallSaving, ...] = ()
    plan_tokens: int = 0
    plan_ms: float = 0.0
    saved_ms: float = 0.0
    oracle_ms: float = 0.0
    in_doubt: tuple[int, ...] = ()


@event("turn.completed", "events")
class TurnCompleted(TurnEnd, frozen=True, kw_only=True):
    """The turn ended as it should. `awaiting`: "" or "approval" or "tool_output", what the next turn has to bring."""

    awaiting: str = ""


@event("turn.incomplete", "events")
class TurnIncomplete(TurnEnd, frozen=True, kw_only=True):
    """The turn ended with its text kept but cut. reason: max_output_tokens | content_filter | steered | deadline |
    model_lost."""

    reason: str
    successor: str = ""


@event("turn.cancelled", "events")
class TurnCancelled(TurnEnd, frozen=True, kw_only=True):
    """The turn was stopped on request. What was delivered is every accepted answer.delta before this fact."""

    reason: str = "client"


@event("turn.failed", "events")
class TurnFailed(TurnEnd, frozen=True, kw_only=True):
    """The turn could not be carried out. code/message/hint as in streams.errors; fault: caller | peer | ours."""

    code: str
    message: str
    hint: str = ""
    fault: str = "ours"


TERMINAL = (TurnCompleted, TurnIncomplete, TurnCancelled, TurnFailed)
TERMINAL_TYPES = frozenset(kind.TYPE for kind in TERMINAL)
