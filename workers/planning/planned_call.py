"""One call of a plan while it is written, fired and answered. Plain state; the rules are in firing.py."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streams.events.registering import SkillManifest

State = Literal["writing", "fired", "answered", "failed", "voided", "client", "approval"]


class PlannedCall(msgspec.Struct, kw_only=True):
    """One call of the plan as it stands. Times are wall-clock ms; -1: not yet. Token indexes count the plan's tokens.

    asked: the arguments it was fired on, as written; sent: the same with references resolved, None before that.
    adopts: the call whose outcome it shares, -1 for none. after: the calls it refers to.
    claim: number of its newest claim; first_claim: of the oldest whose result counts.
    approval: the turn and the call that asked a person, when this one carries out what was approved.
    in_doubt: its effect may or may not have happened.
    heard_at_ms: when the other worker that has it in flight was last heard; -1 when it is this worker's own.
    """

    index: int
    skill: str
    manifest: SkillManifest | None
    state: State = "writing"
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    asked: dict[str, Any] = msgspec.field(default_factory=dict)
    sent: dict[str, Any] | None = None
    closed: bool = False
    claim: int = 0
    first_claim: int = 0
    result: str = ""
    adopts: int = -1
    repairs: list[str] = msgspec.field(default_factory=list)
    opened_token: int = -1
    fired_token: int = -1
    closed_token: int = -1
    opened_at_ms: float = -1.0
    needed_at_ms: float = -1.0
    fired_at_ms: float = -1.0
    closed_at_ms: float = -1.0
    heard_at_ms: float = -1.0
    ended_at_ms: float = -1.0
    after: tuple[int, ...] = ()
    in_doubt: bool = False
    approval: tuple[str, int] | None = None

    @property
    def effect(self) -> str:
        """What its skill does to the world; "" for a call that is not ours to send."""
        return self.manifest.effect if self.manifest is not None else ""

    @property
    def standing(self) -> bool:
        """The call counts: it was not voided."""
        return self.state != "voided"

    @property
    def waiting(self) -> bool:
        """Its outcome is still to come from a skill."""
        return self.state == "fired" or (self.state == "writing" and self.closed)
