"""`python -m tests.bench.learning`: how well facts are read, and what rated examples are worth, in figures.

  facts          precision and recall over labelled dialogues (tests/bench/dialogues.py): a fact is right when subject,
                 attribute, sign and value are; a supersession, when the fact that ended should have
  rules          without a model, as every installation reads
  model          the model alone, forced to the message's own words
  rules, model   the rules, and the model where they leave something: what an installation with a model does
  examples       a task that only examples explain, scored with 0 and with k of them (tests/bench/example_task.py)

The model is the small one that ships, in this process, or any behind an OpenAI-compatible URL (--url, --model; its key
in HEADSTART_MODEL_KEY). Nothing is asserted."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from memory.embed import MiniLMEmbedder
from streams.events.generating import Message, Sampling
from streams.settings import Settings
from tests.bench import example_task
from tests.bench.dialogues import Dialogue, every
from tests.bench.reading import Scores, score_all
from workers.generation import engine as port
from workers.generation.engine import Engine, EngineDelta, EngineError, EngineRequest
from workers.generation.models import load_models
from workers.remembering import extraction
from workers.remembering.clauses import clauses
from workers.remembering.rules import Said, read

AT_ONCE: Final = 16
DEPTHS: Final = (0, 1, 2, 4)
ANSWER_TOKENS: Final = 8


class Asker:
    """Asks one engine, AT_ONCE at a time. failed: calls that it could not answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.calls = self.failed = 0

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> str:
        """The whole answer, "" when there was none."""
        self.calls += 1
        request = EngineRequest(
            request_id=f"bench-{self.calls}", model=self._engine.model, max_tokens=sampling.max_tokens,
            messages=[port.Message(message.role, message.content) for message in messages],  # type: ignore[arg-type]
            temperature=sampling.temperature, json_schema=sampling.json_schema, step="memory.facts",
        )  # fmt: skip
        async with self._gate:
            try:
                async with aclosing(self._engine.generate(request)) as events:
                    return "".join([event.text async for event in events if isinstance(event, EngineDelta)])
            except EngineError as error:
                self.failed += 1
                say(f"a call failed: {error}")
                return ""


async def replies_to(asker: Asker, dialogues: Sequence[Dialogue]) -> dict[str, str]:
    """What the model says of each message that states something, asked side by side."""
    texts = {text for dialogue in dialogues for role, text in dialogue.messages if role == "user"}
    stating = sorted(text for text in texts if any(True for _ in clauses(text)))

    async def ask(text: str) -> str:
        messages, sampling = extraction.question(text)
        return await asker.ask(messages, sampling)

    return dict(zip(stating, await asyncio.gather(*(ask(text) for text in stating)), strict=True))


async def by_rules(text: str, last: str) -> list[Said]:
    return read(text, last)


async def measure_facts(dialogues: Sequence[Dialogue], asker: Asker | None) -> dict[str, Any]:
    figures: dict[str, Any] = {"dialogues": len(dialogues), "rules": _rows(await score_all(dialogues, by_rules))}
    if asker is None:
        return figures
    started = time.perf_counter()
    replies = await replies_to(asker, dialogues)
    took_s = time.perf_counter() - started

    async def by_model(text: str, last: str) -> list[Said]:
        return extraction.believed(replies.get(text, ""), text)

    async def by_both(text: str, last: str) -> list[Said]:
        rules = read(text, last)
        if not extraction.is_worth_asking(text, last):
            return rules
        return extraction.together(rules, await by_model(text, last))

    figures["model"] = _rows(await score_all(dialogues, by_model))
    figures["rules, model"] = _rows(await score_all(dialogues, by_both))
    figures["calls"], figures["failed_calls"] = asker.calls, asker.failed
    figures["calls_per_s"] = round(asker.calls / took_s, 2)
    return figures


async def measure_examples(asker: Asker, limit: int) -> dict[str, Any]:
    embedder = MiniLMEmbedder()
    await embedder.start()
    try:

        async def ask(messages: tuple[Message, ...]) -> str:
            return await asker.ask(messages, Sampling(max_tokens=ANSWER_TOKENS))

        return await example_task.measure(embedder, ask, DEPTHS, limit)
    finally:
        await embedder.close()


def _rows(scores: dict[str, Scores]) -> dict[str, Any]:
    return {group: found.row() for group, found in scores.items()}


@asynccontextmanager
async def opened(chosen: argparse.Namespace) -> AsyncIterator[Asker | None]:
    """The model to measure; None with --rules."""
    if chosen.rules:
        yield None
        return
    settings = Settings.from_env(os.environ)
    if chosen.url:
        settings = settings.but(model_url=chosen.url, model=chosen.model)
    models = await load_models(settings)
    try:
        await models.start()
        yield Asker(models.engines["default"])
    finally:
        await models.close()


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def show(figures: dict[str, Any]) -> list[str]:
    """The figures for a terminal."""
    facts = figures["facts"]
    right = f"{'precision':>9} {'recall':>7}"
    lines = [
        f"model: {figures['model']}; {facts['dialogues']} labelled dialogues",
        f"{'':14}{'dialogues':>10}  {'facts':>6} {right}  {'superseded':>10} {right}",
    ]
    for method in ("rules", "model", "rules, model"):
        for group, row in facts.get(method, {}).items():
            lines.append(
                f"{method:14}{group:>10}  {row['facts']:>6} {row['fact_precision']:>9.3f} {row['fact_recall']:>7.3f}  "
                f"{row['supersessions']:>10} {row['supersession_precision']:>9.3f} {row['supersession_recall']:>7.3f}"
            )
    if "calls" in facts:
        lines.append(f"{facts['calls']} calls, {facts['failed_calls']} failed, {facts['calls_per_s']} a second")
    if (task := figures.get("examples")) is not None:
        lines.append(
            f"example bank: {task['held_out']} held-out requests, {task['queues']} queues, {task['bank']} rated answers"
        )
        lines += [f"  {depth} examples: {share:.3f} right" for depth, share in task["right_by_examples"].items()]
        lines.append(f"  the nearest example's own answer, without a model: {task['nearest_example_alone']:.3f}")
    return lines


async def run(chosen: argparse.Namespace) -> dict[str, Any]:
    dialogues = every()[: chosen.dialogues]
    async with opened(chosen) as asker:
        figures: dict[str, Any] = {
            "model": "none" if asker is None else chosen.model or "the small model that ships",
            "facts": await measure_facts(dialogues, asker),
        }
        if asker is not None:
            figures["examples"] = await measure_examples(asker, chosen.held_out)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learning", description=__doc__)
    parser.add_argument("--url", help="an OpenAI-compatible server, up to and including /v1")
    parser.add_argument("--model", help="the model's name there")
    parser.add_argument("--rules", action="store_true", help="only the rules, no model")
    parser.add_argument("--dialogues", type=int, help="only the first so many")
    parser.add_argument("--held-out", type=int, default=72, help="requests of the example task")
    parser.add_argument("--out", type=Path, default=Path("bench-results/learning.json"), help="the figures as JSON")
    chosen = parser.parse_args()
    if bool(chosen.url) != bool(chosen.model):
        parser.error("--url and --model go together")
    figures = asyncio.run(run(chosen))
    sys.stdout.write("".join(f"{line}\n" for line in show(figures)))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
