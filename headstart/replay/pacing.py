"""How fast a replay goes: as fast as it can, or as it was recorded, or a factor faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from headstart.replay.recording import Recording
from headstart.replay.stub import Pace
from streams.errors import InvalidInput


def span_s(recording: Recording) -> float:
    """How long the recorded turns took, from the first fact to the last."""
    times = [record.timestamp_ms for record in recording.events]
    return (max(times) - min(times)) / 1000 if times else 0.0


def pace_of(speed: str, recording: Recording) -> Pace | None:
    """How a replay waits. Raises InvalidInput for what is no speed."""
    if speed == "max":
        return None
    try:
        factor = 1.0 if speed == "recorded" else float(speed.removesuffix("x").removeprefix("×"))
    except ValueError:
        factor = 0.0
    if factor <= 0:
        raise InvalidInput(f"{speed!r} is no speed", hint="max, recorded, or a factor such as 10")
    first_ms = min((record.timestamp_ms for record in recording.events), default=0)
    return paced(first_ms, factor, asyncio.sleep, time.monotonic)


def paced(
    first_ms: float, factor: float, sleep: Callable[[float], Coroutine[Any, Any, None]], now_s: Callable[[], float]
) -> Pace:
    """Waits until a moment of the recording is due, `factor` times as fast as it was."""
    began_s = now_s()

    async def until(at_ms: float) -> None:
        due_s = began_s + (at_ms - first_ms) / 1000 / factor
        if (left_s := due_s - now_s()) > 0:
            await sleep(left_s)

    return until
