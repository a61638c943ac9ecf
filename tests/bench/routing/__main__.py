"""`python -m tests.bench.routing`: whom a turn goes to and which skills its plan is offered, at size.

    routing    held-out labelled turns over the agents that ship and over seventeen, against semantic-router with the
               same examples and embeddings
    skills     how often the skill that a question needs is among the first few of 220
    live       from the record that registers or withdraws a skill to the plan that knows, on Postgres and a broker

Prints tables with the goals beside, and writes JSON into bench-results/. docs/agents.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from memory.embed import MiniLMEmbedder
from memory.embedded import EmbeddedPostgres
from memory.opening import open_bus, open_store
from streams.embedded import Broker, EmbeddedBroker, choose_broker
from streams.process import new_event_loop
from streams.settings import Settings
from tests.bench import report
from tests.bench.figures import number, table
from tests.bench.own_environment import LeftOut
from tests.bench.routing import finding, live, others, ours
from tests.bench.routing.labelled import DEVELOPMENT, HELD_OUT, larger_set, of_set, shipped_set, turns
from tests.bench.routing.registered import DEVELOPMENT as SKILL_DEVELOPMENT
from tests.bench.routing.registered import QUESTIONS, manifests, questions
from workers.agents.catalog import OUT_OF_SCOPE, Agent

PARTS: Final = ("routing", "skills", "live")
RECALL_GOAL: Final = 0.95
TRIES: Final = 30
Json = dict[str, Any]


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.routing", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    parser.add_argument("--no-others", action="store_true", help="leave semantic-router out")
    parser.add_argument("--wrong", action="store_true", help="print the turns that went wrong")
    parser.add_argument(
        "--broker", choices=("tansu", "kafka"), help="only that one for `live`; without it both that are there"
    )
    return parser.parse_args(arguments)


async def routing(embedder: MiniLMEmbedder, with_others: bool, wrong: bool) -> Json:
    """Both sets of agents, each way of routing."""
    found: Json = {}
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as folder:
        for agents in (shipped_set(), larger_set(Path(folder))):
            said, one = await _one_set(embedder, agents, with_others, wrong)
            found[f"{len(agents) - 1} agents"] = one
            sys.stdout.write(f"{said}\n\n")
            sys.stdout.flush()
    return found


async def _one_set(
    embedder: MiniLMEmbedder, agents: Mapping[str, Agent], with_others: bool, wrong: bool
) -> tuple[str, Json]:
    held_out, development = (of_set(turns(file), list(agents)) for file in (HELD_OUT, DEVELOPMENT))
    run = await ours.run(embedder, agents, held_out)
    chosen = {"Headstart": (run.chosen, f"allowance {run.allowance:g}, margin {run.margin:g}, from the examples alone")}
    if with_others:
        try:
            python = others.environment(Path.home() / ".cache" / "headstart")
            for name, way in (await others.chosen(python, embedder, agents, development, held_out)).items():
                chosen[f"semantic-router, {name}"] = (way.chosen, way.how)
        except LeftOut as error:
            sys.stdout.write(f"semantic-router is left out: {error}\n")
    figures = {name: ours.figures(held_out, picks) for name, (picks, _) in chosen.items()}
    rows = [
        [name, f"{one.accuracy:.1%}", f"{one.found:.1%}", f"{one.nobody_recall:.1%}", f"{one.nobody_precision:.1%}",
         chosen[name][1]]
        for name, one in figures.items()
    ]  # fmt: skip
    first = figures["Headstart"]
    examples = sum(len(agent.utterances) for agent in agents.values())
    said = [
        (
            f"{len(agents) - 1} agents, {examples} utterances ({len(agents[OUT_OF_SCOPE].utterances)} of nobody); "
            f"{first.turns} held-out turns, {first.nobodys} of them out of scope ({first.nobodys / first.turns:.0%})"
        ),
        "",
        table(["router", "right", "in scope", "out-of-scope recall", "precision", "how"], rows),
        "",
        (
            f"unsure, so that a model would be asked: {run.unsure:.1%}; right of others: {run.right_when_sure:.1%}. "
            f"Made in {run.made_ms:.0f} ms, a route in {run.route_us:.0f} us without its embedding."
        ),
        *(ours.confused(held_out, run.chosen) if wrong else ()),
    ]
    asked: Json = {
        "unsure": run.unsure, "right_when_sure": run.right_when_sure, "made_ms": run.made_ms, "route_us": run.route_us,
        "allowance": run.allowance, "margin": run.margin,
    }  # fmt: skip
    return "\n".join(said), {**asked, "routers": {name: one.as_json() for name, one in figures.items()}}


async def skills(embedder: MiniLMEmbedder) -> Json:
    """Recall by what is known of each skill and by how it is looked for."""
    found: Json = {}
    rows = []
    for name, file in (("held out", QUESTIONS), ("development", SKILL_DEVELOPMENT)):
        asked = questions(file)
        for examples in (0, 1, 3):
            for words in (False, True):
                one = await finding.found(embedder, asked, examples, words)
                how = "vector and words" if words else "vector alone"
                found[f"{name}, {examples} examples, {how}"] = one.as_json()
                rows.append([
                    name, str(one.questions), str(examples), how, *(f"{one.recall[k]:.1%}" for k in finding.AT),
                    number(one.took_ms, 2),
                ])  # fmt: skip
    head = ["questions", "count", "examples each", "by", *(f"recall@{k}" for k in finding.AT), "ms"]
    as_shipped = found["held out, 3 examples, vector and words"]["recall"]["5"]
    met = "met" if as_shipped >= RECALL_GOAL else "NOT MET"
    sys.stdout.write(
        f"{len(manifests())} registered skills\n\n{table(head, rows)}\n\n"
        f"recall@5 as it runs: {as_shipped:.1%} (goal {RECALL_GOAL:.0%}: {met})\n\n"
    )
    sys.stdout.flush()
    return found


async def live_skills(embedder: MiniLMEmbedder, broker: str | None) -> Json:
    """On the embedded broker, and on Apache Kafka where KAFKA_HOME names one."""
    found: Json = {}
    rows = []
    with tempfile.TemporaryDirectory(prefix="headstart-bench-", ignore_cleanup_errors=True) as folder:
        for name, made in _brokers(Path(folder)).items():
            if broker in (None, name):
                registered, withdrawn = await _on_broker(Path(folder) / f"{name}-run", made, embedder)
                for what, one in (("registered", registered), ("withdrawn", withdrawn)):
                    found[f"{made.name}, {what}"] = one.as_json()
                    force, planned = one.spreads()
                    rows.append([
                        made.name, what, str(planned.count), f"{number(force.p50)} / {number(force.p99)}",
                        f"{number(planned.p50)} / {number(planned.p99)}", f"{sum(one.next_knew)} of {planned.count}",
                    ])  # fmt: skip
    head = ["broker", "skill", "tries", "in force p50 / p99 ms", "planned p50 / p99 ms", "next plan knew"]
    sys.stdout.write(f"From the record of a skill to its effect, Postgres\n\n{table(head, rows)}\n\n")
    return found


def _brokers(folder: Path) -> dict[str, Broker]:
    made: dict[str, Broker] = {"tansu": EmbeddedBroker(folder / "tansu")}
    home = os.environ.get("KAFKA_HOME")
    choice = choose_broker(Path(home), os.environ) if home else None
    if choice is not None and (kafka := choice.create(folder / "kafka")).durable:
        made["kafka"] = kafka
    return made


async def _on_broker(folder: Path, broker: Broker, embedder: MiniLMEmbedder) -> tuple[live.Measured, live.Measured]:
    live.write_agent(folder / "agents")
    asked = questions(QUESTIONS)[:: len(manifests()) // TRIES][:TRIES]
    every = {manifest.name: manifest for manifest in manifests()}
    tried = [(every[question.skill], question.text) for question in asked]
    kept = [manifest for manifest in every.values() if manifest.name not in {one.name for one, _ in tried}]
    async with AsyncExitStack() as opened:
        _ = await opened.enter_async_context(broker)
        postgres = await opened.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        settings = Settings.from_env({
            "HEADSTART_AGENTS": str(folder / "agents"), "HEADSTART_DEV": "true", "HEADSTART_POSTGRES": postgres.dsn,
            "HEADSTART_PARTITIONS": "4",
        }).on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )  # fmt: skip
        store = await opened.enter_async_context(open_store(settings, embedder.dimensions))
        bus = await opened.enter_async_context(open_bus(settings, "bench"))
        store.follow(bus.epoch)
        return await live.measured(bus, store, embedder, settings, kept, tried)


async def bench(chosen: argparse.Namespace) -> None:
    started, machine = time.monotonic(), report.machine()
    wanted = [chosen.only] if chosen.only else list(PARTS)
    embedder = MiniLMEmbedder()
    await embedder.start()
    found: Json = {"machine": machine}
    sys.stdout.write(
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {machine['cores']} cores, Python {machine['python']}, "
        f"embeddings all-MiniLM-L6-v2; load average before the run {machine['load_average_1_min']}.\n\n"
    )
    try:
        if "routing" in wanted:
            found["routing"] = await routing(embedder, not chosen.no_others, chosen.wrong)
        if "skills" in wanted:
            found["skills"] = await skills(embedder)
        if "live" in wanted:
            found["live"] = await live_skills(embedder, chosen.broker)
    finally:
        await embedder.close()
    report.RESULTS.mkdir(exist_ok=True)
    file = report.RESULTS / f"routing-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    sys.stdout.write(f"{time.monotonic() - started:.0f} s. JSON: {file}\n")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(bench(options(sys.argv[1:])))
