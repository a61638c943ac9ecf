"""Replay against the clock: mixed traffic recorded on a real broker in real time, then run again.

    python -m tests.bench.replay [--on tansu|kafka] [--turns 500] [--seed 1]

Five people talk at once, the scripted model says 20 tokens/s, owners and generation workers die. Printed: how long the
recording took by the wall clock, the median and p99 of its turns, how long the replay took in stub mode, and how many
turns came out the same; the ratio is recorded time over replayed time, both by the wall clock of this run. The figures
go to bench-results/replay.json, the recording beside it when a turn differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from headstart.replay.compare import compare
from headstart.replay.files import write_recording
from headstart.replay.recorder import Selection, record
from headstart.replay.recording import Recording
from headstart.replay.steps import steps_of
from headstart.replay.stub import replay_stub
from headstart.replay.turns import Replayed, conversations, turn_logs
from tests.support.buses import open_buses
from tests.support.traffic import Traffic

RESULTS = Path(__file__).resolve().parent.parent.parent / "bench-results"
LATE_S = 8.0  # for what still happens after the last turn's end


async def recorded(kind: str, turns: int, seed: int, folder: Path) -> tuple[Recording, float]:
    """The recording, and how long its turns took by the wall clock, in seconds."""
    async with open_buses(kind, folder) as open_bus:
        traffic = Traffic(open_bus, lambda: time.time() * 1000, seed=seed)
        await traffic.open()
        try:
            began = time.monotonic()
            await traffic.run(turns)
            took_s = time.monotonic() - began
            await asyncio.sleep(LATE_S)
        finally:
            await traffic.close()
        bus = await open_bus()
        return await record(bus, Selection(), now_ms=time.time_ns() // 1_000_000, origin=kind), took_s


def measured(kind: str, turns: int, seed: int) -> dict[str, Any]:
    """One broker's figures."""
    with tempfile.TemporaryDirectory(prefix="headstart-replay-") as folder:
        recording, recorded_s = asyncio.run(recorded(kind, turns, seed, Path(folder)))
    size_bytes = write_recording(recording, RESULTS / f"replay-{kind}.jsonl.gz")
    took: list[float] = []
    replayed: dict[str, Replayed] = {}
    for _ in range(3):
        began = time.perf_counter()
        replayed = asyncio.run(replay_stub(recording))
        took.append(time.perf_counter() - began)
    logs = conversations(recording.events, recording.commands)
    differences = compare(logs, replayed)
    for one in differences[:10]:
        sys.stdout.write(f"{one.text()}\n")
    each = sorted(steps.took_ms for steps in map(steps_of, turn_logs(recording.events)) if steps.took_ms >= 0)
    ends = Counter(steps_of(turn).status for turn in turn_logs(recording.events))
    owners = sum(len(log.segments) - 1 for log in logs.values())
    return {
        "on": kind, "turns": recording.head.turns, "ends": dict(ends), "takeovers_of_conversations": owners,
        "facts": sum(1 for _ in recording.events), "file_bytes": size_bytes, "recorded_s": round(recorded_s, 1),
        "turn_p50_ms": round(statistics.median(each)), "turn_p99_ms": round(each[int(len(each) * 0.99)]),
        "replay_median_s": round(statistics.median(took), 2), "replay_worst_s": round(max(took), 2),
        "times_as_fast": round(recorded_s / statistics.median(took)), "differences": len(differences),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replay", description=__doc__)
    parser.add_argument("--on", action="append", choices=("memory", "tansu", "kafka"))
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "replay.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    for kind in options.on or ["tansu"]:
        figures[kind] = measured(kind, options.turns, options.seed)
        sys.stdout.write(f"{json.dumps(figures[kind], indent=2)}\n")
        file.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if any(one["differences"] for one in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
