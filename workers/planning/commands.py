"""What a turn's machine asks of the shell, and what the shell brings back. Plain data, no behaviour.

Commands are carried out by the owner of the partition (owner.py, effects.py); each that has an outcome brings it
back as one of the inputs below, with the time it came in, so that a recorded turn can be fed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streams.events import Event
from streams.events.calling import ApprovalAsked, CallAnswered, CallFailed, CallFired
from streams.events.conversation import FactPublished
from streams.events.generating import GenerationRequested
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.registering import SkillManifest
from streams.events.routing import AgentScore


class Publish(msgspec.Struct, frozen=True):
    """Write a fact of stage "turn"."""

    event: Event


class Look(msgspec.Struct, frozen=True):
    """Embed the turn's text once; route by it (unless `agent` is given) and recall by it, side by side.

    turns, tokens: the most that any agent shows of the conversation's turns and of memories. least_turns, least_tokens:
    the least that any shows of its history, so that what lies beyond is looked for among the memories.
    Brings `Routed` (when `agent` is ""), then `Recollected`.
    """

    text: str
    agent: str
    turns: int = 8
    tokens: int = 256
    least_turns: int = 0
    least_tokens: int = 0


class Discover(msgspec.Struct, frozen=True):
    """Find the skills a plan may use: at most `limit`, each at least `ratio` as near as the nearest. Brings
    `Discovered`."""

    text: str
    patterns: tuple[str, ...]
    limit: int
    ratio: float = 0.0


class FindApprovals(msgspec.Struct, frozen=True):
    """Read what was asked under these request ids, from the log of the turns they name. Brings `ApprovalsFound`."""

    requests: tuple[str, ...]


class Generate(msgspec.Struct, frozen=True):
    """Hand a model call to the generation workers. Brings `Generated` facts from the log."""

    request: GenerationRequested


class AbortGeneration(msgspec.Struct, frozen=True):
    step: str
    epoch: int


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """Send a call to its skill. closed_at_ms: when its last needed argument closed, for the fire lag.

    approval: the turn and the call that asked a person for it, None where nobody was asked. It is claimed there, so
    that what was approved is carried out once, whichever later turn the answer opened.

    Brings `Called` facts: fired, then answered or failed.
    """

    call: int
    claim: int
    manifest: SkillManifest
    arguments: dict[str, Any]
    key: str
    token: int
    written: bool
    closed_at_ms: float
    approval: tuple[str, int] | None = None


class AbortCall(msgspec.Struct, frozen=True):
    """Stop a call in flight; its outcome no longer counts."""

    call: int


class Compensate(msgspec.Struct, frozen=True, kw_only=True):
    """Undo a reversible call that was voided or cancelled: call `manifest.compensate` with its arguments and result."""

    call: int
    manifest: SkillManifest
    arguments: dict[str, Any]
    result: str


class WakeAt(msgspec.Struct, frozen=True):
    """Call `tick` at this wall-clock time (milliseconds). The newest replaces the ones before."""

    at_ms: float


class Ended(msgspec.Struct, frozen=True):
    """The terminal fact is among the facts published before this command; nothing follows."""


Command = (
    Publish | Look | Discover | FindApprovals | Generate | AbortGeneration | Fire | AbortCall | Compensate | WakeAt
    | Ended
)  # fmt: skip


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """The router's view of the text. verdict: sure | unsure | out_of_scope."""

    agent: str
    verdict: str
    scores: Sequence[AgentScore]
    took_ms: float


class Recollected(msgspec.Struct, frozen=True):
    recalled: Recalled


class Discovered(msgspec.Struct, frozen=True):
    """The discovered skills, and their manifests in the same order."""

    discovered: SkillsDiscovered
    manifests: tuple[SkillManifest, ...]


class Generated(msgspec.Struct, frozen=True):
    """A fact of a generation stage that counts (streams.fence). The event is a route.*, plan.* or answer.* one."""

    step: str
    epoch: int
    event: Event


class Called(msgspec.Struct, frozen=True):
    """A fact of a call's stage: it was fired, it answered, it failed. claim: the stage's epoch."""

    event: CallFired | CallAnswered | CallFailed
    claim: int


class ApprovalsFound(msgspec.Struct, frozen=True):
    """What was asked, as far as it was found in this conversation, and the manifests by `name@version`."""

    asked: tuple[ApprovalAsked, ...]
    manifests: dict[str, SkillManifest]


class CallHeard(msgspec.Struct, frozen=True):
    """Another worker that has this call in flight is alive."""

    call: int


class Cancelled(msgspec.Struct, frozen=True):
    """The turn is to stop. successor: the turn that goes on with more input, when it was steered."""

    reason: str
    successor: str = ""


class FactCame(msgspec.Struct, frozen=True):
    """A service's fact was published in the turn's conversation. fact: its id."""

    event: FactPublished
    fact: str


class Tick(msgspec.Struct, frozen=True):
    """The time a `WakeAt` asked for has come."""


Input = (
    Routed | Recollected | Discovered | ApprovalsFound | Generated | Called | CallHeard | Cancelled | FactCame | Tick
)
