"""`python -m tests.bench.recall`: recall where many tenants share the tables, in figures with their goals beside.

Memories of tenants of Zipf sizes, each tenant one member, who has all of it: the hardest case for an index that is
filtered by tenant and member. Vectors are mixtures of MiniLM's own for sentences made here; texts are twelve words of a
vocabulary of 20,000 in Zipf's and Mandelbrot's proportions, the most frequent in every 16th text. Loaded by COPY, the
graph built afterwards. A question is a memory's vector with noise, and five of its words.
  recall@10   of the ten memories nearest by vector, how many `Store.recall` has among its ten nearest
  words@10    of the ten best by words, how many it has among its ten best by words
  exact       the same statement, told to compare every memory of the member, and to rank every one that holds one of
              the words
  database    time on a core of the database's process that answers, which other work on the machine does not lengthen;
              "-" where it runs elsewhere
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy
from numpy.typing import NDArray
from pgvector.asyncpg import register_vector

from memory.embed import MiniLMEmbedder
from memory.postgres import PostgresStore
from memory.tables.memories import EXACT_ROWS, RANKED_ROWS, WORD_ROWS
from tests.bench import report
from tests.bench.figures import Spread, number, spread, table
from tests.bench.memory import with_store
from tests.support.databases import postgres_server

Floats = NDArray[numpy.float32]
Say = Callable[[str], None]
P99_GOAL_MS: Final = 20.0
FOUND_GOAL: Final = 0.95
NEIGHBOURS: Final = 10
LIMIT: Final = 16  # what a turn asks for (workers/planning/effects.py)
DAY_MS: Final = 86_400_000
T0_MS: Final = 1_760_000_000_000
COPIED_AT_ONCE: Final = 5_000
VOCABULARY: Final = 20_000
WORDS: Final = 12
ASKED_WORDS: Final = 5
PEOPLE: Final = ("my sister", "the new colleague", "our landlord", "my trainer", "the supplier", "Anouk", "the doctor")
DEEDS: Final = (
    "talked about", "forgot", "wants to plan", "asked me for", "was happy with", "complained about", "has paid for",
    "moved", "wrote down", "sent photographs of", "is looking for", "cancelled",
)  # fmt: skip
THINGS: Final = (
    "the holiday in Portugal", "a birthday cake", "the quarterly report", "a second bicycle", "the piano lessons",
    "the broken heating", "an interview for the data team", "the wedding invitation", "a flat near the harbour",
    "the allergy test", "a train ticket to Vienna", "the insurance", "the marathon", "a recipe with chickpeas",
)  # fmt: skip
TIMES: Final = ("yesterday", "last spring", "before the move", "on Monday", "in the evening", "during lunch", "twice")


@dataclass(frozen=True, slots=True)
class Shape:
    """memories in all, over so many tenants, of which the first has `largest`."""

    memories: int
    tenants: int
    largest: int

    def sizes(self) -> list[int]:
        """Zipf: the k-th tenant has largest / k**s, with the s that makes the sum; each has at least one."""
        low, high = 0.0, 10.0
        for _ in range(60):
            middle = (low + high) / 2
            if sum(self.largest / rank**middle for rank in range(1, self.tenants + 1)) > self.memories:
                low = middle
            else:
                high = middle
        return [max(1, round(self.largest / rank**low)) for rank in range(1, self.tenants + 1)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was loaded for one tenant."""

    vectors: Floats
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions of one kind of tenant. found: the mean share of the ten nearest."""

    kind: str
    tenants: int
    latency: Spread
    database: Spread | None
    found: float
    worst: float
    words: float

    def as_json(self) -> dict[str, Any]:
        return {
            "tenants": self.kind, "questions": self.latency.count, "recall_ms": self.latency.as_json(),
            "database_ms": self.database.as_json() if self.database else None,
            "recall_at_10": round(self.found, 4), "worst_question": round(self.worst, 2),
            "words_at_10": round(self.words, 4),
        }  # fmt: skip


def sentences(draw: numpy.random.Generator, count: int) -> list[str]:
    parts = (PEOPLE, DEEDS, THINGS, TIMES)
    return [" ".join(str(draw.choice(part)) for part in parts) + "." for _ in range(count)]


class Words:
    """Draws texts of made words. P(k-th word) goes as 1 / (k + 30): what Mandelbrot's law gives for words that mean
    something, once articles and the like are left out."""

    def __init__(self, draw: numpy.random.Generator) -> None:
        self._draw = draw
        weights = 1.0 / (numpy.arange(VOCABULARY) + 31.0)
        self._sums = numpy.cumsum(weights / weights.sum())
        parts = [first + vowel + last for first in "bdfgklmnprstvz" for vowel in "aeiou" for last in "lmnrstk"]
        self._words = [f"{parts[k % 490]}{parts[k // 490 * 11 % 490]}" for k in range(VOCABULARY)]

    def texts(self, count: int) -> list[str]:
        places = numpy.searchsorted(self._sums, self._draw.random((count, WORDS)))
        return [" ".join(self._words[place] for place in row) for row in places]

    def some_of(self, text: str) -> str:
        return " ".join(self._draw.choice(text.split(), ASKED_WORDS, replace=False))


class Vectors:
    """Draws vectors that lie as a model's do: two texts' vectors mixed, with noise, of length 1."""

    def __init__(self, base: Floats, draw: numpy.random.Generator) -> None:
        self._base, self._draw = base, draw

    def some(self, count: int) -> Floats:
        first, second = (self._base[self._draw.integers(0, len(self._base), count)] for _ in range(2))
        share = self._draw.uniform(0.5, 1.0, (count, 1)).astype(numpy.float32)
        return self.near(share * first + (1 - share) * second, 0.02)

    def near(self, vectors: Floats, noise: float) -> Floats:
        moved = vectors + noise * self._draw.standard_normal(vectors.shape).astype(numpy.float32)
        lengths: Floats = numpy.linalg.norm(moved, axis=1, keepdims=True)
        return numpy.asarray(moved / lengths, dtype=numpy.float32)


async def load(dsn: str, sizes: Sequence[int], vectors: Vectors, words: Words, say: Say) -> tuple[list[Kept], float]:
    """Fills `memories` and builds its graph; gives what each tenant has and the seconds that the graph took."""
    connection = await asyncpg.connect(dsn)
    kept: list[Kept] = []
    try:
        await register_vector(connection)
        graph = await connection.fetchval("SELECT pg_get_indexdef('memories_by_likeness'::regclass)")
        await connection.execute("DROP INDEX memories_by_likeness")
        done, total = 0, sum(sizes)
        for tenant, size in enumerate(sizes):
            own = vectors.some(size)
            texts = words.texts(size)
            kept.append(Kept(own, texts))
            for start in range(0, size, COPIED_AT_ONCE):
                part = slice(start, start + COPIED_AT_ONCE)
                await connection.copy_records_to_table(
                    "memories", records=_rows(tenant, start, own[part], texts[part]), columns=_COLUMNS
                )
            done += size
            if tenant % 100 == 0:
                say(f"  {done:,} of {total:,} memories …")
        say("  building the graph …")
        await connection.execute("VACUUM memories")  # as autovacuum does soon
        started = time.perf_counter()
        await connection.execute("SET maintenance_work_mem = '1GB'")
        await connection.execute(str(graph).replace(" ON ONLY ", " ON "))  # its text names the parent alone
        built_s = time.perf_counter() - started
        await connection.execute("ANALYZE memories")
    finally:
        await connection.close()
    return kept, built_s


_COLUMNS: Final = (
    "tenant", "id", "member", "layer", "text", "speaker", "conversation", "turn", "source_offset", "at_ms",
    "valid_from_ms", "superseded_by", "confidence", "embedding",
)  # fmt: skip


def _rows(tenant: int, start: int, vectors: Floats, texts: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for place, (text, vector) in enumerate(zip(texts, vectors, strict=True), start):
        name, at_ms = f"{tenant}-{place}", T0_MS + place * DAY_MS // 100
        yield (
            f"tenant-{tenant}", name, "member", "conversation", text, "user", f"conversation-{name}", f"turn-{name}",
            place, at_ms, at_ms, "", 1.0, vector,
        )  # fmt: skip


async def ask(
    store: PostgresStore, kind: str, questions: Sequence[tuple[int, Floats, str]], warm_up: int = 20
) -> Asked:
    """Each question once as it is asked in a turn and once exactly. The first few are asked once more before."""
    taken: list[float] = []
    busy: list[float] = []
    shares: list[float] = []
    worded: list[float] = []
    async with store._within("") as connection:  # asked one after the other, so the pool has this one alone
        process = connection.get_server_pid()
    for tenant, vector, text in questions[:warm_up]:
        await store.recall(f"tenant-{tenant}", "member", vector.tolist(), text, LIMIT)
    for tenant, vector, text in questions:
        started, before = time.perf_counter(), core_ms(process)
        rows = await store.recall(f"tenant-{tenant}", "member", vector.tolist(), text, LIMIT)
        taken.append((time.perf_counter() - started) * 1e3)
        if before is not None:
            busy.append((core_ms(process) or before) - before)
        store.exact_rows = store.word_rows = store.ranked_rows = 1 << 30
        exact = await store.recall(f"tenant-{tenant}", "member", vector.tolist(), text, LIMIT)
        store.exact_rows, store.word_rows, store.ranked_rows = EXACT_ROWS, WORD_ROWS, RANKED_ROWS
        nearest = {row.id for row in exact if 0 < row.vector_rank <= NEIGHBOURS}
        shares.append(len(nearest & {row.id for row in rows if 0 < row.vector_rank <= NEIGHBOURS}) / len(nearest))
        if best := {row.id for row in exact if 0 < row.text_rank <= NEIGHBOURS}:
            worded.append(len(best & {row.id for row in rows if 0 < row.text_rank <= NEIGHBOURS}) / len(best))
    tenants = len({tenant for tenant, _, _ in questions})
    return Asked(
        kind, tenants, spread(taken), spread(busy) if busy else None, sum(shares) / len(shares), min(shares),
        sum(worded) / len(worded),
    )  # fmt: skip


def core_ms(process: int) -> float | None:
    """How long a process has been on a core; None where Linux does not say, or it runs on another machine."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6
    except OSError:
        return None


def questions_of(
    tenants: Sequence[int], kept: Sequence[Kept], count: int, vectors: Vectors, words: Words,
    draw: numpy.random.Generator,
) -> list[tuple[int, Floats, str]]:  # fmt: skip
    """As many of each tenant as its size says."""
    sizes = numpy.array([len(kept[tenant].texts) for tenant in tenants], dtype=float)
    chosen = [int(tenant) for tenant in draw.choice(numpy.array(tenants), count, p=sizes / sizes.sum())]
    places = [int(draw.integers(0, len(kept[tenant].texts))) for tenant in chosen]
    rows = numpy.stack([kept[tenant].vectors[place] for tenant, place in zip(chosen, places, strict=True)])
    texts = [words.some_of(kept[tenant].texts[place]) for tenant, place in zip(chosen, places, strict=True)]
    return list(zip(chosen, vectors.near(rows, 0.03), texts, strict=True))


async def measure(server: str, shape: Shape, count: int, say: Say) -> dict[str, Any]:
    draw = numpy.random.default_rng(7)
    embedder = MiniLMEmbedder(torch_threads=2)
    say("  vectors of 1,500 sentences …")
    base = numpy.array(await embedder.embed(sentences(draw, 1_500)), dtype=numpy.float32)
    await embedder.close()
    vectors, words = Vectors(base, draw), Words(draw)
    sizes = shape.sizes()

    async def work(store: PostgresStore) -> dict[str, Any]:
        kept, built_s = await load(store._dsn, sizes, vectors, words, say)
        large = [tenant for tenant, size in enumerate(sizes) if size > EXACT_ROWS]
        kinds = {
            "the largest": [0],
            f"over {EXACT_ROWS:,} (the graph)": large,
            "the others (exact)": [tenant for tenant in range(len(sizes)) if tenant not in large],
            "all, by size": list(range(len(sizes))),
        }
        found = []
        for kind, tenants in kinds.items():
            if tenants:
                say(f"  asking {kind} …")
                found.append(await ask(store, kind, questions_of(tenants, kept, count, vectors, words, draw)))
        return {
            "memories": sum(sizes), "tenants": len(sizes), "largest": sizes[0], "graph_built_s": round(built_s, 1),
            "asked": [one.as_json() for one in found], "table": show(found),
        }  # fmt: skip

    figures: dict[str, Any] = await with_store(server, work)
    return figures


def show(found: Sequence[Asked]) -> str:
    head = ("tenants", "of them", "questions", "recall p50 / p99 ms", f"p99 ≤ {P99_GOAL_MS:g}",
            "database p50 / p99 ms", "recall@10", "worst question", f"≥ {FOUND_GOAL:g}", "words@10")  # fmt: skip
    return table(
        head,
        [
            (
                one.kind, str(one.tenants), str(one.latency.count),
                f"{number(one.latency.p50)} / {number(one.latency.p99)}",
                "met" if one.latency.p99 <= P99_GOAL_MS else "NOT MET",
                f"{number(one.database.p50)} / {number(one.database.p99)}" if one.database else "-",
                number(one.found, 4), number(one.worst, 2), "met" if one.found >= FOUND_GOAL else "NOT MET",
                number(one.words, 4),
            )
            for one in found
        ],
    )  # fmt: skip


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recall", description=__doc__)
    parser.add_argument("--memories", type=int, default=200_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--largest", type=int, default=40_000, help="memories of the largest tenant")
    parser.add_argument("--questions", type=int, default=400, help="of each kind of tenant")
    chosen = parser.parse_args()
    machine = report.machine()
    say(report.heading(machine))
    with postgres_server() as server:
        figures = asyncio.run(
            measure(server, Shape(chosen.memories, chosen.tenants, chosen.largest), chosen.questions, say)
        )
    shown = figures.pop("table")
    sys.stdout.write(
        f"{figures['memories']:,} memories of {figures['tenants']:,} tenants, the largest {figures['largest']:,}; "
        f"the graph was built in {figures['graph_built_s']} s\n\n{shown}\n\n"
        f"JSON: {report.write({'machine': machine, **figures}, 'recall')}\n"
    )


if __name__ == "__main__":
    main()
