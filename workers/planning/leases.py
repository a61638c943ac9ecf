"""Who has been silent for too long? Pure.

A writer that has nothing to say writes a heartbeat, so silence means that nobody writes any more. It is judged by when
its facts were read, so a reader must have read all there is before it judges (`LiveTurn.wake_when_read`).

Each further attempt gets twice the lease of the one before, 2 s, 4 s, 8 s: where everything is slow, handing the same
work out again at the same pace makes it slower.
"""

from __future__ import annotations

from typing import Final

from workers.planning import inflight
from workers.planning.firing import FiringCore
from workers.planning.model_calls import Stage

LEASE_MS: Final = 2_000.0  # of a call, and of a stage's first attempt
RETRY_EPOCHS: Final = 4  # how often one stage is handed out before the turn gives up


def stage_lease_ms(stage: Stage) -> float:
    """How long this attempt of a stage may be silent."""
    return LEASE_MS * 2.0 ** (stage.epoch - 1)


def silent(stage: Stage | None, now_ms: float) -> bool:
    """Whether a stage that was heard once has said nothing for its lease. One that nobody took up yet only waits."""
    return stage is not None and stage.heard_at_ms >= 0 and now_ms - stage.heard_at_ms >= stage_lease_ms(stage)


def look_again_at_ms(stage: Stage | None, firing: FiringCore | None, deadline_at_ms: float) -> float:
    """When somebody may have been silent for too long, or the deadline."""
    ends = [deadline_at_ms]
    if stage is not None and stage.heard_at_ms >= 0:
        ends.append(stage.heard_at_ms + stage_lease_ms(stage))
    if firing is not None and (heard_at_ms := inflight.longest_silent_at_ms(firing)) >= 0:
        ends.append(heard_at_ms + LEASE_MS)
    return min(ends)
