"""`python -m tests.bench.memory`: what memory finds, how fast it takes and gives, in figures with their budgets beside.

Dialogues go the real way: facts on `events`, the memory worker, Postgres. Nothing is asserted on time.
  found    share of a question's evidence turns among the first k distinct turns recalled, mean over the questions
  hybrid   memory.recall over the candidates of Store.recall; vector, text: the order of one search of it alone
  plain    reciprocal rank fusion (k = 60) of vectors of the bare utterances and BM25, computed apart in the same run
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from memory.embed import Embedder, MiniLMEmbedder
from memory.postgres import PostgresStore
from memory.recall import scored
from memory.rows import Candidate
from memory.selection import content_words
from streams import ids
from streams.events import InputItem
from streams.events.conversation import ConversationOpened
from streams.events.turn import TurnAccepted, TurnCompleted
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.writer import StageWriter
from tests.bench.locomo import CATEGORIES, Dialogue, Question, load
from tests.support.databases import fresh_database, postgres_server
from workers.remembering.worker import MemoryWorker

LIMIT: Final = 50
DEPTHS: Final = (5, 10, 20)
NEVER_MS: Final = 1 << 45  # the dialogues are years old; a deadline beside them would have passed
TENANT: Final = "bench"
INGEST_TURNS: Final = 5_000
Ranking = list[str]
"""Turn ids of a dialogue, best first, each once."""


class StubEmbedder:
    """Vectors for nothing: what is left is the bus, the fold and the database."""

    name = "stub"
    dimensions = 384

    async def start(self) -> None:
        pass

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0 + len(text) % 7] + [0.1] * 383 for text in texts]

    async def close(self) -> None:
        pass


class Pipeline:
    """Bus in memory, memory worker, database; facts in, memories out."""

    def __init__(self, store: PostgresStore, embedder: Embedder) -> None:
        self.bus = MemoryBus(MemoryBroker(partitions=8))
        self.worker = MemoryWorker(self.bus, store, embedder)
        self._store = store

    async def start(self) -> None:
        await self.bus.start()
        self._store.follow(self.bus.epoch)
        await self.worker.join()

    async def say(self, user: str, conversation: str, at_ms: int, text: str, opens: bool) -> str:
        """One turn without an answer; gives its id."""
        turn = ids.turn_id(conversation, at_ms, user.encode().ljust(10, b"."))
        writer = StageWriter(self.bus, conversation, turn, "turn", 1, "turns/bench")
        accepted = TurnAccepted(
            turn=turn, conversation=conversation, tenant=TENANT, user=user, input=(InputItem(text=text),),
            at_ms=at_ms, deadline_at_ms=NEVER_MS,
        )  # fmt: skip
        await writer.write(accepted)
        if opens:
            await writer.write(ConversationOpened(conversation=conversation, tenant=TENANT, user=user, at_ms=at_ms))
        await writer.write(TurnCompleted(at_ms=at_ms))
        return turn

    async def remember(self) -> None:
        """Until everything said is stored."""
        while await self.worker.step(wait_ms=1):
            pass
        await self.worker.flush()
        if (waiting := sum((await self.worker.lag()).values())) != 0:
            raise RuntimeError(f"{waiting} records were not stored")


async def ingest(pipeline: Pipeline, dialogue: Dialogue) -> dict[str, str]:
    """Tells a dialogue, a conversation for each session; gives the dialogue's turn id for each of ours."""
    names: dict[str, str] = {}
    session = 0
    for turn in dialogue.turns:
        conversation = ids.conversation_id(
            turn.session % 8, turn.session, dialogue.name.encode().ljust(10, b".")
        )  # fmt: skip
        ours = await pipeline.say(dialogue.name, conversation, turn.at_ms, turn.text, opens=turn.session != session)
        session = turn.session
        names[ours] = turn.id
    await pipeline.remember()
    return names


def distinct(turns: Iterator[str]) -> Ranking:
    return list(dict.fromkeys(turns))


def orders(candidates: list[Candidate], question: str, now_ms: int, names: Mapping[str, str]) -> dict[str, Ranking]:
    """The same candidates in the order of each method."""
    by_vector = sorted((one for one in candidates if one.vector_rank), key=lambda one: one.vector_rank)
    by_text = sorted((one for one in candidates if one.text_rank), key=lambda one: one.text_rank)
    return {
        "hybrid": distinct(names[item.source_turn] for item in scored(candidates, question, now_ms)),
        "vector": distinct(names[one.turn] for one in by_vector),
        "text": distinct(names[one.turn] for one in by_text),
    }


class Plain:
    """The usual baseline: vectors of the utterances as they are, and BM25 (k1 1.2, b 0.75)."""

    def __init__(self, dialogue: Dialogue, vectors: list[list[float]]) -> None:
        self._ids = [turn.id for turn in dialogue.turns]
        self._vectors = vectors
        self._words = [Counter(content_words(turn.text)) for turn in dialogue.turns]
        self._mean = sum(map(len, self._words)) / len(self._words)
        self._held = Counter(word for words in self._words for word in words)

    def order(self, question: str, vector: list[float]) -> Ranking:
        nearest = self._ranks([sum(map(float.__mul__, stored, vector)) for stored in self._vectors])
        worded = self._ranks([self._bm25(words, content_words(question)) for words in self._words])
        fused = [1 / (60 + one) + 1 / (60 + two) for one, two in zip(nearest, worded, strict=True)]
        return [self._ids[place] for place in sorted(range(len(fused)), key=lambda place: -fused[place])]

    def _bm25(self, words: Counter[str], wanted: frozenset[str]) -> float:
        size = sum(words.values())
        return sum(
            math.log(1 + (len(self._words) - self._held[word] + 0.5) / (self._held[word] + 0.5))
            * words[word] * 2.2 / (words[word] + 1.2 * (0.25 + 0.75 * size / self._mean))
            for word in wanted & words.keys()
        )  # fmt: skip

    @staticmethod
    def _ranks(scores: list[float]) -> list[int]:
        ranks = [0] * len(scores)
        for rank, place in enumerate(sorted(range(len(scores)), key=lambda place: -scores[place]), 1):
            ranks[place] = rank
        return ranks


class Found:
    """Shares of evidence found, by method, depth and category (0: all)."""

    def __init__(self) -> None:
        self._shares: defaultdict[tuple[str, int, int], list[float]] = defaultdict(list)

    def add(self, method: str, ranking: Ranking, question: Question) -> None:
        for depth in DEPTHS:
            share = len(question.evidence.intersection(ranking[:depth])) / len(question.evidence)
            for category in (0, question.category):
                self._shares[method, depth, category].append(share)

    def mean(self, method: str, depth: int, category: int = 0) -> float:
        shares = self._shares[method, depth, category]
        return sum(shares) / len(shares) if shares else math.nan

    def count(self, category: int = 0) -> int:
        return len(self._shares["hybrid", DEPTHS[0], category])

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "method": method,
                **{f"found@{depth}": round(self.mean(method, depth), 4) for depth in DEPTHS},
                **{f"{name}@10": round(self.mean(method, 10, number), 4) for number, name in CATEGORIES.items()},
            }
            for method in ("hybrid", "vector", "text", "plain")
        ]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def measure_ingest(store: PostgresStore, embedder: Embedder, turns: int) -> float:
    """Messages remembered each second, from the log that is already written."""
    pipeline = Pipeline(store, embedder)
    await pipeline.start()
    for number in range(turns):
        conversation = ids.conversation_id(number % 8, number // 8 % 50, b"ingest....")
        text = f"Message {number} about the weather, the garden and the long way to the station."
        await pipeline.say(f"user-{number % 40}", conversation, number + 1_000_000, text, opens=number < 400)
    started = time.perf_counter()
    await pipeline.remember()
    return turns / (time.perf_counter() - started)


async def measure_dialogues(store: PostgresStore, embedder: Embedder, dialogues: list[Dialogue]) -> dict[str, Any]:
    found = Found()
    recall_ms: list[float] = []
    embed_ms: list[float] = []
    pipeline = Pipeline(store, embedder)
    await pipeline.start()
    started, messages = time.perf_counter(), 0
    named = {}
    for dialogue in dialogues:
        named[dialogue.name] = await ingest(pipeline, dialogue)
        messages += len(dialogue.turns)
        say(f"{dialogue.name}: {len(dialogue.turns)} turns remembered, {time.perf_counter() - started:.0f} s")
    ingest_s = time.perf_counter() - started
    for dialogue in dialogues:
        plain = Plain(dialogue, await embedder.embed([turn.text for turn in dialogue.turns]))
        now_ms = dialogue.turns[-1].at_ms + 3_600_000
        for question in dialogue.questions:
            started = time.perf_counter()
            [vector] = await embedder.embed([question.text])
            embed_ms.append((time.perf_counter() - started) * 1e3)
            started = time.perf_counter()
            candidates = await store.recall(TENANT, dialogue.name, vector, question.text, LIMIT)
            rankings = orders(candidates, question.text, now_ms, named[dialogue.name])
            recall_ms.append((time.perf_counter() - started) * 1e3)
            for method, ranking in rankings.items():
                found.add(method, ranking, question)
            found.add("plain", plain.order(question.text, vector), question)
        say(f"{dialogue.name}: {len(dialogue.questions)} questions asked")
    return {
        "dialogues": len(dialogues), "turns": messages, "questions": found.count(),
        "questions_by_category": {name: found.count(number) for number, name in CATEGORIES.items()},
        "found": found.table(),
        "gain_over_plain_at_10": round(found.mean("hybrid", 10) - found.mean("plain", 10), 4),
        "recall_ms": {"p50": round(percentile(recall_ms, 0.5), 2), "p99": round(percentile(recall_ms, 0.99), 2)},
        "embed_ms": {"p50": round(percentile(embed_ms, 0.5), 2), "p99": round(percentile(embed_ms, 0.99), 2)},
        "ingest_messages_per_s": round(messages / ingest_s, 1),
    }  # fmt: skip


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def show(figures: dict[str, Any]) -> Iterator[str]:
    yield f"ingest, embeddings stubbed: {figures['ingest_stubbed_messages_per_s']:.0f} messages/s (budget: 500)"
    if (dialogues := figures.get("dialogues")) is None:
        yield "dialogues: no file given (--locomo)"
        return
    yield f"ingest with {figures['embedder']}: {dialogues['ingest_messages_per_s']} messages/s"
    yield f"{dialogues['turns']} turns of {dialogues['dialogues']} dialogues, {dialogues['questions']} questions"
    columns = list(dialogues["found"][0])
    yield "  ".join(f"{column:>14}" for column in columns)
    for row in dialogues["found"]:
        yield "  ".join(f"{row[column]:>14}" if column == "method" else f"{row[column]:>14.3f}" for column in columns)
    yield f"hybrid over plain fusion at 10: {dialogues['gain_over_plain_at_10'] * 100:+.1f} points (goal: +10)"
    yield f"recall and ranking: p50 {dialogues['recall_ms']['p50']} ms, p99 {dialogues['recall_ms']['p99']} ms"
    yield f"embedding the question: p50 {dialogues['embed_ms']['p50']} ms, p99 {dialogues['embed_ms']['p99']} ms"


async def with_store(server: str, work: Callable[[PostgresStore], Any]) -> Any:
    async with fresh_database(server) as dsn:
        store = PostgresStore(dsn)
        await store.migrate()
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()


def bounded(store: PostgresStore, chosen: argparse.Namespace) -> PostgresStore:
    """The store as it is for members with many more memories than a dialogue has."""
    for bound in ("exact_rows", "word_rows", "ranked_rows"):
        if getattr(chosen, bound) is not None:
            setattr(store, bound, getattr(chosen, bound))
    return store


async def run(server: str, chosen: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "ingest_stubbed_messages_per_s": await with_store(
            server, lambda store: measure_ingest(store, StubEmbedder(), chosen.turns)
        )
    }
    if chosen.locomo is None:
        return figures
    embedder = MiniLMEmbedder(torch_threads=chosen.threads)
    await embedder.start()
    try:
        dialogues = load(chosen.locomo)[: chosen.dialogues]
        figures["embedder"] = embedder.name
        figures["dialogues"] = await with_store(
            server, lambda store: measure_dialogues(bounded(store, chosen), embedder, dialogues)
        )
    finally:
        await embedder.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--locomo", type=Path, help="a file in the public LoCoMo format")
    parser.add_argument("--dialogues", type=int, help="only the first so many of it")
    parser.add_argument("--turns", type=int, default=INGEST_TURNS, help="turns for the rate of ingest")
    parser.add_argument("--threads", type=int, default=1, help="cores for the embedder")
    parser.add_argument("--exact-rows", type=int, help="the graph answers members with more memories")
    parser.add_argument("--word-rows", type=int, help="words that more memories hold are not searched for")
    parser.add_argument("--ranked-rows", type=int, help="the search by words ranks so many at most")
    parser.add_argument("--out", type=Path, default=Path("bench-results/memory.json"), help="the figures as JSON")
    chosen = parser.parse_args()
    with postgres_server() as server:
        figures = asyncio.run(run(server, chosen))
    sys.stdout.write("".join(f"{line}\n" for line in show(figures)))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
