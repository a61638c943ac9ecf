"""What a client's steer asks for. Pure."""

from __future__ import annotations

from streams.events.intake import TurnSteer, TurnSubmit
from streams.events.turn import TurnAccepted


def successor(event: TurnSteer, turn: TurnAccepted) -> TurnSubmit:
    """The turn that begins with the new input, as the steered one was asked for."""
    return TurnSubmit(
        turn=event.successor, conversation=turn.conversation, tenant=turn.tenant, user=turn.user, input=event.input,
        at_ms=event.at_ms, previous_turn=turn.turn, options=turn.options, origin="steer",
    )  # fmt: skip
