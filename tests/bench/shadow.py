"""A shadow on every live turn: what it adds to them. One run, phases without and with it by turns.

    python -m tests.bench.shadow [--on tansu|kafka] [--turns 60] [--phases 4]

Live turns: five people at once, the scripted model at 20 tokens/s, everything in this process on a real broker. The
shadow: `headstart shadow run` in a process of its own at nice 19, on every turn, its model as fast as it goes. Printed
for each phase: median and p99 of the turns' own times by kind of turn, the share of one core that the live process and
the shadow used; then the ratio with/without of the medians and of the p99. In the last phase with it the shadow is
killed (SIGKILL) half-way. The figures go to bench-results/shadow.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from headstart.replay.recorder import Selection, record
from headstart.replay.steps import steps_of
from headstart.replay.turns import turn_logs
from streams.bus import Bus
from tests.support.buses import PARTITIONS, open_buses
from tests.support.traffic import Traffic
from tests.support.traffic_cases import ANSWER, BY_NAME, WHOLE

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "bench-results"
CASES = (BY_NAME["two_calls"], BY_NAME["chat"])
MODELS = '[models.default]\nengine = "scripted"\nmodel = "{rules}"\nstructured = false\n'


@asynccontextmanager
async def shadowing(bus: Any, folder: Path) -> AsyncIterator[psutil.Process]:
    """The shadow as a process, ready; killed at the end if it still runs."""
    rules = [{"step": "plan", "when": {"anywhere": "[case two_calls]"}, "say": WHOLE}, {"step": "plan", "say": "[]"}]
    (folder / "rules.json").write_text(json.dumps([*rules, {"say": ANSWER}]))
    (folder / "models.toml").write_text(MODELS.format(rules=folder / "rules.json"))
    connection = bus.connection
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder),
        "HEADSTART_KAFKA": connection.bootstrap, "HEADSTART_FETCH_MAX_WAIT_MS": str(connection.fetch_max_wait_ms),
        "HEADSTART_IDEMPOTENT": "false", "HEADSTART_PARTITIONS": str(PARTITIONS), "HEADSTART_REPLICATION": "1",
        "HEADSTART_MODELS": str(folder / "models.toml"),
    }  # fmt: skip
    words = [sys.executable, "-m", "headstart", "shadow", "run", "candidate"]
    child = subprocess.Popen(words, env=environment, cwd=folder)
    await asyncio.sleep(8.0)  # imports, topics of its namespace, the group
    try:
        yield psutil.Process(child.pid)
    finally:
        child.kill()
        child.wait()


async def phase(traffic: Traffic, turns: int, shadow: psutil.Process | None, *, kill: bool) -> dict[str, Any]:
    """So many turns; the live process's CPU, the shadow's, and from when on the turns are."""
    mine = psutil.Process()
    before, shadow_before = mine.cpu_times(), shadow.cpu_times() if shadow else None
    began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
    if kill and shadow is not None:
        await traffic.run(turns // 2)
        shadow.kill()
        await traffic.run(turns - turns // 2)
        used = None
    else:
        await traffic.run(turns)
        used = shadow.cpu_times() if shadow else None
    took_s, after = time.monotonic() - began, mine.cpu_times()
    share = (after.user + after.system - before.user - before.system) / took_s
    told: dict[str, Any] = {"began_ms": began_ms, "ended_ms": time.time_ns() // 1_000_000, "live_cpu": round(share, 3)}
    if used is not None and shadow_before is not None:
        told["shadow_cpu"] = round((used.user + used.system - shadow_before.user - shadow_before.system) / took_s, 3)
    return told | {"with_shadow": shadow is not None, "killed": kill}


async def measure(kind: str, turns: int, phases: int, folder: Path) -> list[dict[str, Any]]:
    async with open_buses(kind, folder) as open_bus:
        traffic = Traffic(open_bus, lambda: time.time() * 1000, seed=1, cases=CASES)
        await traffic.open()
        told: list[dict[str, Any]] = []
        try:
            await traffic.run(10)  # warm up
            for number in range(phases):
                if number % 2 == 0:
                    told.append(await phase(traffic, turns, None, kill=False))
                else:
                    async with shadowing(traffic.bus, folder) as shadow:
                        told.append(await phase(traffic, turns, shadow, kill=number == phases - 1))
        finally:
            await traffic.close()
        bus: Bus = await open_bus()
        recording = await record(bus, Selection(), now_ms=0)
        shadowed = await _shadowed(open_bus, recording.head.turns)
    logs = list(turn_logs(recording.events))
    for one in told:
        own = [log for log in logs if one["began_ms"] <= log.accepted.at_ms < one["ended_ms"]]
        for name in ("two_calls", "chat"):
            took = sorted(steps_of(log).took_ms for log in own if f"[case {name}]" in log.accepted.question)
            one[name] = {"turns": len(took), "p50_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)]}
        one["completed"] = sum(steps_of(log).status == "completed" for log in own)
    told.append({"turns_run_by_the_shadow": shadowed})
    return told


async def _shadowed(open_bus: Any, turns: int) -> int:
    """How many turns stand in the shadow's namespace."""
    from streams.kafka_bus import KafkaBus

    plain = await open_bus()
    if not isinstance(plain, KafkaBus):
        return turns
    connection = plain.connection
    bus = KafkaBus(
        connection.bootstrap, namespace="candidate", partitions=PARTITIONS, replication=1, idempotent=False,
        fetch_max_wait_ms=connection.fetch_max_wait_ms,
    )  # fmt: skip
    await bus.start()
    try:
        return (await record(bus, Selection(), now_ms=0)).head.turns
    finally:
        await bus.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shadow", description=__doc__)
    parser.add_argument("--on", choices=("tansu", "kafka"), default="tansu")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--phases", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headstart-shadow-") as folder:
        told = asyncio.run(measure(options.on, options.turns, options.phases, Path(folder)))
    figures: dict[str, Any] = {"on": options.on, "phases": told}
    for name in ("two_calls", "chat"):
        for measure_name in ("p50_ms", "p99_ms"):
            sides = [
                statistics.mean(one[name][measure_name] for one in told if one.get("with_shadow") is side)
                for side in (True, False)
            ]
            figures[f"{name} {measure_name} with/without"] = round(sides[0] / sides[1], 3)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shadow.json").write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
