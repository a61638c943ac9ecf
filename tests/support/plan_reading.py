"""What the parser makes of a plan from the corpus, held against what was meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.plan_mutations import Sample
from tests.support.plan_writing import SKILLS, Plan
from workers.toolcalls import ArgumentClosed, CallClosed, Parser, Repaired
from workers.toolcalls.facts import Fact


def read(sample: Sample, chunks: Iterable[str], mode: str = "repair") -> list[Fact]:
    """All facts of the plan, pushed in these chunks."""
    parser = Parser(sample.dialect, skills=SKILLS, mode="strict" if mode == "strict" else "repair")
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
    return facts + parser.finish("stop")


def calls_of(facts: Iterable[Fact]) -> Plan:
    """The calls that were closed."""
    return [(fact.name, fact.arguments) for fact in facts if isinstance(fact, CallClosed)]


def closed_twice(facts: Iterable[Fact]) -> bool:
    """Whether an argument closed more than once."""
    closed = [(fact.call, fact.path) for fact in facts if isinstance(fact, ArgumentClosed)]
    return len(set(closed)) < len(closed)


@dataclass
class Tally:
    """Plans by dialect and kind of break (empty: none): how many there were, did not end as meant, or told a value that
    was taken back.

    A plan is usable if exactly the calls that were meant are closed, with exactly their arguments.
    """

    plans: Counter[tuple[str, str]] = field(default_factory=Counter)
    unusable: Counter[tuple[str, str]] = field(default_factory=Counter)
    taken_back: Counter[tuple[str, str]] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Reads one plan and counts it."""
        key = (sample.dialect, "" if sample.kind is None else sample.kind.name)
        self.plans[key] += 1
        facts = read(sample, [sample.text])
        self.repairs.update(fact.rule for fact in facts if isinstance(fact, Repaired))
        self.taken_back[key] += closed_twice(facts)
        if calls_of(facts) != sample.calls:
            self.unusable[key] += 1
            self.examples.setdefault(key, sample.text)
