"""Calls in flight when a turn changes hands: what the log says of them, who is still heard, which go again.

The worker that fired a call keeps it while it is heard, and its result counts whoever owns the turn by then. A call
whose worker is silent for a lease goes again under the next claim; the ledger decides whether it may really be sent
(calling.py). Pure.
"""

from __future__ import annotations

from streams.events.calling import CallFired
from workers.planning.firing import Decision, FiringCore


def note_fired(core: FiringCore, event: CallFired, now_ms: float) -> None:
    """The log says that this call left, under this claim: what was decided again while restoring gives way. A firing
    that was voided since, for another that the log may not have yet, is not taken for it."""
    if event.call >= len(core.calls):
        return
    call = core.calls[event.call]
    flying = call.state == "fired" and call.adopts < 0
    if event.claim < call.claim or (event.claim == call.claim and not flying):
        return
    call.claim = call.first_claim = event.claim  # what came of an earlier one counts for no reader any more
    call.sent, call.adopts = event.arguments, -1
    call.fired_token, call.fired_at_ms = event.token, now_ms
    call.heard_at_ms = now_ms
    if call.state == "writing":
        call.state = "fired"


def note_heard(core: FiringCore, call: int, now_ms: float) -> None:
    """Another worker that has this call in flight said so."""
    if call < len(core.calls) and core.calls[call].heard_at_ms >= 0:
        core.calls[call].heard_at_ms = now_ms


def adopt_all(core: FiringCore, now_ms: float) -> list[Decision]:
    """After a takeover: calls the log knows to be in flight are left to their worker while it is heard; calls that
    were decided but never written down are fired."""
    decisions: list[Decision] = []
    for call in core.calls:
        if call.heard_at_ms >= 0:
            call.heard_at_ms = now_ms
        elif call.state == "fired" and call.adopts < 0 and call.sent is not None:
            decisions.append(core.send(call))
    return decisions


def refire_silent(core: FiringCore, lease_ms: float, now_ms: float) -> list[Decision]:
    """Calls whose worker was not heard for `lease_ms` go again, under the next claim."""
    decisions: list[Decision] = []
    for call in core.calls:
        if call.state == "fired" and 0 <= call.heard_at_ms <= now_ms - lease_ms:
            call.claim, call.heard_at_ms = call.claim + 1, -1.0
            decisions.append(core.send(call))
    return decisions


def longest_silent_at_ms(core: FiringCore) -> float:
    """When the longest silent of the others' calls was last heard; -1 when there are none."""
    heard = [call.heard_at_ms for call in core.calls if call.state == "fired" and call.heard_at_ms >= 0]
    return min(heard, default=-1.0)
