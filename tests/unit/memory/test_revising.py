"""Which facts hold: the rules one by one, and that the order of storing never matters."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from memory.revising import FactState, normal, revise


def fact(name: str, value: str, at_ms: int, *, negated: bool = False, single: bool = True) -> FactState:
    return FactState(
        id=name, subject="user", attribute="lives_in", value=value, single=single, negated=negated, valid_from_ms=at_ms
    )


def ends(facts: list[FactState]) -> dict[str, str]:
    return {changed.id: changed.superseded_by for changed in revise(facts)}


def test_values_compare_without_case_articles_and_punctuation() -> None:
    assert normal(" The Bassoon! ") == normal("bassoon")
    assert normal("ada@example.org.") == "ada@example.org"
    assert normal("Bern") != normal("Berne")


def test_a_denial_ends_what_it_denies_and_nothing_else() -> None:
    assert ends([fact("a", "Bern", 1), fact("b", "Bern", 2, negated=True)]) == {"a": "b"}
    assert ends([fact("a", "Bern", 1), fact("b", "Rome", 2, negated=True)]) == {"b": "a"}
    assert ends([fact("a", "Bern", 1), fact("b", "", 2, negated=True)]) == {"a": "b"}
    assert ends([fact("a", "Bern", 1, negated=True), fact("b", "Rome", 2)]) == {"a": "b"}
    many = [fact("a", "tea", 1, single=False), fact("b", "chess", 2, single=False)]
    assert ends([*many, fact("c", "", 3, single=False, negated=True)]) == {"a": "c", "b": "c"}


def test_a_repeat_points_to_the_first_which_stays() -> None:
    assert ends([fact("a", "Bern", 1), fact("b", "bern", 2)]) == {"b": "a"}


def test_what_was_ended_by_an_erased_fact_stays_ended() -> None:
    ended = msgspec.structs.replace(fact("a", "Bern", 1), superseded_by="erased", valid_to_ms=2)
    assert revise([ended, fact("b", "Bern", 3)]) == []


FACTS = st.lists(
    st.builds(
        fact, st.uuids().map(str), st.sampled_from(["Bern", "Rome", "Oslo", ""]), st.integers(0, 9),
        negated=st.booleans(), single=st.just(True),
    ).filter(lambda one: bool(one.value) or one.negated),
    max_size=7, unique_by=lambda one: one.id,
)  # fmt: skip


@given(FACTS, st.randoms(use_true_random=False), st.booleans())
def test_facts_stored_one_by_one_in_any_order_end_as_if_stored_at_once(
    facts: list[FactState], chance: object, single: bool
) -> None:
    facts = [msgspec.structs.replace(one, single=single) for one in facts]

    def settled(states: dict[str, FactState]) -> dict[str, FactState]:
        return states | {changed.id: changed for changed in revise(list(states.values()))}

    at_once = settled({one.id: one for one in facts})
    shuffled = list(facts)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one_by_one: dict[str, FactState] = {}
    for one in shuffled:
        one_by_one = settled(one_by_one | {one.id: one})
    assert one_by_one == at_once
    assert settled(at_once) == at_once, "nothing more to say"
