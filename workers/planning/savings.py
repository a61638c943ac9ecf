"""Savings are facts: what firing early saved a turn, computed from the calls' own times.

Times are milliseconds since the plan's first token reached the turn's owner. For each call: `needed` is when its last
needed argument (and every result it refers to) was there, `fired` when it left, `ended` when its outcome came.

  finish-then-run   the plan is read to its end, then every call goes, those that refer to others after them:
                    plan_end + the longest chain of durations
  what happened     max(plan_end, the last outcome)
  the oracle        every call leaves at `needed`: max(plan_end, the longest chain from `needed` on)

  saved_ms  = finish-then-run - what happened        oracle_ms = finish-then-run - the oracle
Both are 0 for a plan without calls, and never negative. A call that did not end counts with what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streams.events.turn import CallSaving
from workers.planning.planned_call import PlannedCall


class Savings(msgspec.Struct, frozen=True):
    calls: tuple[CallSaving, ...]
    saved_ms: float
    oracle_ms: float


def compute(calls: Sequence[PlannedCall], first_token_at_ms: float, plan_end_at_ms: float) -> Savings:
    """The savings of one turn. Voided calls and calls the client runs are listed but save nothing."""
    plan_end = plan_end_at_ms - first_token_at_ms
    durations: dict[int, float] = {}
    late: dict[int, float] = {}  # when the call ends if it goes only after the plan's end
    ideal: dict[int, float] = {}  # when it ends if it goes the instant it may
    happened = plan_end
    for call in calls:
        if call.state not in ("answered", "failed") or call.fired_at_ms < 0 or call.adopts >= 0:
            continue
        duration = max(0.0, call.ended_at_ms - call.fired_at_ms)
        durations[call.index] = duration
        late[call.index] = max([plan_end, *(late[n] for n in call.after if n in late)]) + duration
        written = min(call.needed_at_ms, call.fired_at_ms) - first_token_at_ms
        ideal[call.index] = max([written, *(ideal[n] for n in call.after if n in ideal)]) + duration
        happened = max(happened, call.ended_at_ms - first_token_at_ms)
    finish_then_run = max([plan_end, *late.values()])
    oracle = max([plan_end, *ideal.values()])
    listed = tuple(_saving(call, first_token_at_ms, plan_end) for call in calls)
    return Savings(listed, round(max(0.0, finish_then_run - happened), 3), round(max(0.0, finish_then_run - oracle), 3))


def summary(
    calls: Sequence[PlannedCall], plan_tokens: int, first_token_at_ms: float, plan_end_at_ms: float, now_ms: float
) -> dict[str, Any]:
    """The fields of a terminal fact that are about the plan and its calls; without a plan only what is in doubt."""
    in_doubt = tuple(call.index for call in calls if call.in_doubt)
    if first_token_at_ms < 0:
        return {"in_doubt": in_doubt}
    plan_end = plan_end_at_ms if plan_end_at_ms >= 0 else now_ms
    saved = compute(calls, first_token_at_ms, plan_end)
    return {
        "savings": saved.calls, "saved_ms": saved.saved_ms, "oracle_ms": saved.oracle_ms, "plan_tokens": plan_tokens,
        "plan_ms": round(plan_end - first_token_at_ms, 3),
        "in_doubt": in_doubt,
    }  # fmt: skip


def _saving(call: PlannedCall, first_token_at_ms: float, plan_end: float) -> CallSaving:
    def since(at_ms: float) -> float:
        return round(at_ms - first_token_at_ms, 3) if at_ms >= 0 else -1.0

    fired, ended = since(call.fired_at_ms), since(call.ended_at_ms)
    counts = call.state in ("answered", "failed") and fired >= 0
    return CallSaving(
        call=call.index, skill=call.skill, opened_token=call.opened_token, fired_token=call.fired_token,
        closed_token=call.closed_token, opened_ms=since(call.opened_at_ms), fired_ms=fired,
        closed_ms=since(call.closed_at_ms), ended_ms=ended,
        hidden_ms=round(max(0.0, min(ended, plan_end) - fired), 3) if counts else 0.0,
    )  # fmt: skip
