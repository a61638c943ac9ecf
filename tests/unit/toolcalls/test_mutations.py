"""Plans broken in the ways models break them end as they were meant; whole plans are never changed by a repair."""

from __future__ import annotations

import random
from typing import Any

from tests.support.plan_mutations import KINDS, corpus
from tests.support.plan_reading import Tally, calls_of, read
from workers.toolcalls import ArgumentClosed, ParseError, Repaired, merge
from workers.toolcalls.facts import Fact

SAMPLE = 1500
SEED = 20261121


def test_a_third_of_the_kinds_is_held_out() -> None:
    held_out = sum(kind.held_out for kind in KINDS)
    assert held_out * 3 >= len(KINDS)
    assert len({(kind.dialect, kind.name) for kind in KINDS}) == len(KINDS)


def test_broken_plans_end_as_they_were_meant() -> None:
    tally = Tally()
    for sample in corpus(SAMPLE, SEED):
        tally.add(sample)
    whole = sum(count for key, count in tally.plans.items() if not key[1])
    assert (SAMPLE - whole) * 10 >= SAMPLE
    assert {kind for _, kind in tally.plans} >= {kind.name for kind in KINDS}
    assert tally.examples == {}
    # Only a quote that proves to be text makes a value close twice.
    assert {kind for (_, kind), count in tally.taken_back.items() if count} <= {
        "inner_quotes",
        "quoted_clause",
        "inches",
    }


def test_a_whole_plan_is_read_as_it_stands() -> None:
    for sample in corpus(600, SEED, broken=0):
        mended = read(sample, [sample.text])
        assert calls_of(mended) == sample.calls, sample.text
        assert not [fact for fact in mended if isinstance(fact, Repaired | ParseError)], sample.text
        strict = read(sample, [sample.text], mode="strict")
        assert calls_of(strict) == sample.calls, sample.text
        # An argument whose text may carry a mark of another notation is told later, but it is told the same.
        assert arguments_of(mended) == arguments_of(strict), sample.text
        if sample.dialect != "yaml_plan":
            assert mended == strict, sample.text


def arguments_of(facts: list[Fact]) -> list[tuple[int, str, Any]]:
    closed = [(fact.call, str(fact.path[0]), fact.value) for fact in facts if isinstance(fact, ArgumentClosed)]
    return sorted(closed, key=lambda entry: entry[:2])


def test_no_cut_changes_how_a_plan_is_mended() -> None:
    seeded = random.Random(SEED)
    for sample in corpus(300, SEED + 1, broken=0.9):
        text = sample.text
        whole = merge(read(sample, [text]))
        assert merge(read(sample, text)) == whole, text
        for _ in range(3):
            cuts = sorted(seeded.sample(range(1, len(text)), min(len(text) - 1, seeded.randint(1, 12))))
            chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            assert merge(read(sample, chunks)) == whole, chunks
