"""What every Store does when a person corrects or forgets a memory of theirs: in memory and on Postgres."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from memory.rows import (
    OUTDATED,
    SUMMARY,
    Candidate,
    Change,
    Edit,
    ExampleRow,
    MemoryRow,
    Reading,
)
from memory.store import Store
from streams.events.conversation import MemberForgotten
from tests.support.store_rows import EAST, NORTH, PARTITION, conversation_id, found, turn, turn_id


def said(name: str, text: str, *, number: int = 1, speaker: str = "user", context: str = "") -> Change:
    row = MemoryRow(
        id=name, layer="conversation", tenant="acme", user="ada", text=text, vector=NORTH, at_ms=1_000,
        conversation=conversation_id(1), turn=turn_id(number), speaker=speaker, context=context, valid_from_ms=1_000,
    )  # fmt: skip
    return Change(20, row)


def fact(name: str, value: str, *, number: int = 1, at_ms: int = 1_000, attribute: str = "lives_in",
         single: bool = True, offset: int = 20) -> Change:  # fmt: skip
    row = MemoryRow(
        id=name, layer="fact", tenant="acme", user="ada", text=f"{attribute} {value}", vector=NORTH, at_ms=at_ms,
        conversation=conversation_id(1), turn=turn_id(number), speaker="user", valid_from_ms=at_ms, subject="user",
        attribute=attribute, value=value, single=single,
    )  # fmt: skip
    return Change(offset, row)


def corrected(item: str, text: str, successor: str, *, offset: int = 30, at_ms: int = 5_000) -> Change:
    edit = Edit(
        tenant="acme", user="ada", item=item, at_ms=at_ms, text=text, successor=successor, offset=offset, vector=EAST
    )
    return Change(offset, edit)


def forgotten(item: str, *, offset: int = 40, at_ms: int = 6_000) -> Change:
    return Change(offset, Edit(tenant="acme", user="ada", item=item, at_ms=at_ms, forget=True, offset=offset))


async def begun(store: Store, *changes: Change) -> None:
    assert await store.project(PARTITION, 20, [turn(1, 0, 9, "I live in Basel", "Nice."), *changes])


async def stored(store: Store) -> dict[str, Candidate]:
    return {row.id: row for row in await store.memories("acme", "ada", 99)}


@pytest.mark.asyncio
async def test_a_correction_takes_the_place_of_what_it_corrects(store: Store) -> None:
    await begun(store, said("words", "I live in Basel"), fact("town", "Basel"))
    assert await store.project(PARTITION, 30, [corrected("town", "I live in Bern", "better")])
    rows = await stored(store)
    assert (rows["town"].superseded_by, rows["town"].valid_to_ms) == ("better", 5_000)
    better = rows["better"]
    assert (better.text, better.layer, better.turn, better.speaker) == ("I live in Bern", "fact", turn_id(1), "user")
    assert (better.attribute, better.valid_from_ms, better.confidence) == ("lives_in", 5_000, 1.0)
    assert rows["words"].confidence == pytest.approx(OUTDATED), "what they said when it was wrong counts less"
    assert await found(store) == ["better", "words"]
    [nearest] = [row for row in await store.recall("acme", "ada", EAST, "", 9) if row.id == "better"]
    assert nearest.similarity == pytest.approx(1.0), "it is found by its own words"
    # What is said of the same attribute later takes its place, what was said earlier does not.
    assert await store.project(PARTITION, 52, [fact("chur", "Chur", at_ms=9_000, offset=51),
                                               fact("thun", "Thun", at_ms=500, offset=52)])  # fmt: skip
    rows = await stored(store)
    assert (rows["better"].superseded_by, rows["thun"].superseded_by) == ("chur", "town")


@pytest.mark.asyncio
async def test_corrections_of_anything_stay_whatever_is_said_later(store: Store) -> None:
    likes = [
        fact("tea", "tea", attribute="likes", single=False),
        fact("chess", "chess", attribute="likes", single=False),
    ]
    await begun(store, said("words", "My dog is called Rex"), *likes)
    changes = [corrected("words", "My dog is called Max", "max"), corrected("tea", "likes coffee", "coffee", offset=31)]
    assert await store.project(PARTITION, 31, changes)
    more = fact("go", "go", attribute="likes", single=False, at_ms=9_000, offset=33)
    assert await store.project(PARTITION, 33, [more])
    rows = await stored(store)
    assert (rows["words"].superseded_by, rows["tea"].superseded_by) == ("max", "coffee")
    assert (rows["max"].layer, rows["coffee"].attribute) == ("fact", "")
    assert await found(store) == ["chess", "coffee", "go", "max"]
    # Corrected again, and a word on what has been corrected already.
    again = [corrected("coffee", "likes mate", "mate", offset=34), corrected("tea", "likes cola", "cola", offset=35)]
    assert await store.project(PARTITION, 35, again)
    assert await found(store) == ["chess", "go", "mate", "max"]


@pytest.mark.asyncio
async def test_corrected_words_end_the_facts_that_they_no_longer_say(store: Store) -> None:
    await begun(
        store, said("words", "Lin lives in Basel"), fact("town", "Basel"), fact("name", "Lin", attribute="sister"),
        fact("other", "Basel", number=2, attribute="works_in"),
    )  # fmt: skip
    assert await store.project(PARTITION, 30, [corrected("words", "Lin lives in Bern", "better")])
    rows = await stored(store)
    assert {name: row.superseded_by for name, row in rows.items() if row.superseded_by} == {
        "words": "better", "town": "better",
    }  # fmt: skip
    later = fact("chur", "Chur", at_ms=9_000, offset=31)
    assert await store.project(PARTITION, 31, [later])
    assert (await stored(store))["town"].superseded_by == "better"


@pytest.mark.asyncio
async def test_a_corrected_summary_is_the_conversations_summary(store: Store) -> None:
    row = MemoryRow(
        id="sum", layer="episode", tenant="acme", user="ada", text="Ada lives in Basel.", vector=NORTH, at_ms=1_000,
        valid_from_ms=1_000, conversation=conversation_id(1), turn=turn_id(1), subject=conversation_id(1),
        attribute=SUMMARY, value=f"{turn_id(1)}/rule", single=True,
    )  # fmt: skip
    await begun(store, turn(2, 10, 19, "And the weather?", "Fine.", at_ms=2_000), Change(20, row))
    for number, text in enumerate(("Ada lives in Bern.", "Ada lives in Chur.")):
        item = "sum" if number == 0 else "sum0"
        change = corrected(item, text, f"sum{number}", offset=30 + number, at_ms=5_000 + number)
        assert await store.project(PARTITION, 30 + number, [change])
        assert (await store.history(conversation_id(1), 5)).summary == text
    [waiting] = (await store.unsummarised([conversation_id(1)])).values()
    assert (waiting.turns, waiting.summary) == (1, "Ada lives in Chur.")


@pytest.mark.asyncio
async def test_what_is_forgotten_is_gone_with_its_words_and_its_past(store: Store) -> None:
    await begun(
        store, said("words", "I live in Basel"), said("reply", "Basel is pretty.", speaker="assistant"),
        said("next", "And the weather?", number=2, context="user: I live in Basel assistant: Basel is pretty."),
        fact("town", "Basel"), fact("tea", "tea", attribute="likes", single=False),
        Change(20, ExampleRow(
            turn=turn_id(1), conversation=conversation_id(1), tenant="acme", user="ada", agent="guide",
            question="I live in Basel", answer="Nice.", rating="good", shared=False, at_ms=1_000, vector=NORTH,
        )),
        Change(20, Reading(turn=turn_id(1), step="memory.facts", conversation=conversation_id(1), tenant="acme",
                           user="ada", at_ms=1_000, text="I live in Basel")),
    )  # fmt: skip
    assert await store.project(PARTITION, 30, [corrected("town", "I live in Bern", "better")])
    assert await store.project(PARTITION, 40, [forgotten("better")])
    rows = await stored(store)
    assert set(rows) == {"next", "tea"}, "the correction, what it corrected, and the words that say it"
    assert rows["next"].context == "", "nor is it found by what was said just before it"
    assert await store.examples("acme", "ada", NORTH, 9) == []
    assert await store.readings([PARTITION], 9) == []
    # Neither comes again: stored once more, or drawn from the turn by a model that reads it late.
    again = [said("words", "I live in Basel"), fact("town", "Basel", offset=41), fact("late", "Basel", offset=41)]
    assert await store.project(PARTITION, 41, [Change(41, change.row) for change in again])
    assert set(await stored(store)) == {"next", "tea"}
    # Other turns go on as ever, and what is corrected of this one too.
    assert await store.project(PARTITION, 43, [corrected("tea", "likes coffee", "coffee", offset=42),
                                               fact("bern", "Bern", number=2, offset=43)])  # fmt: skip
    assert {"coffee", "bern"} <= set(await stored(store))


@pytest.mark.asyncio
async def test_forgotten_words_take_the_facts_that_they_say(store: Store) -> None:
    facts = [fact("tea", "tea", attribute="likes"), fact("elsewhere", "Basel", number=2, attribute="works_in")]
    await begun(store, said("words", "I live in Basel"), said("others", "I like tea"), fact("town", "Basel"), *facts)
    assert await store.project(PARTITION, 40, [forgotten("words")])
    assert set(await stored(store)) == {"others", "tea", "elsewhere"}


@pytest.mark.asyncio
async def test_a_word_that_comes_before_its_memory_keeps_it_out(store: Store) -> None:
    await begun(store)
    assert await store.project(PARTITION, 40, [forgotten("words")])
    assert await store.project(PARTITION, 41, [Change(41, said("words", "I live in Basel").row)])
    assert await stored(store) == {}
    assert await store.project(PARTITION, 42, [corrected("nothing", "I live in Bern", "better", offset=42)])
    assert await stored(store) == {}


@pytest.mark.asyncio
async def test_what_was_forgotten_may_be_told_again(store: Store) -> None:
    await begun(store)
    assert await store.project(PARTITION, 40, [forgotten("words")])
    again = msgspec.structs.replace(said("words", "I live in Basel").row, at_ms=7_000)
    assert await store.project(PARTITION, 41, [Change(41, again)])
    assert set(await stored(store)) == {"words"}


@pytest.mark.asyncio
async def test_only_their_own(store: Store) -> None:
    await begun(store, said("words", "I live in Basel"))
    for position, (tenant, user) in enumerate((("acme", "eve"), ("rival", "ada"))):
        edits = [
            Edit(tenant=tenant, user=user, item="words", at_ms=5_000, text="No.", successor="no", vector=EAST),
            Edit(tenant=tenant, user=user, item="words", at_ms=5_000, forget=True),
        ]
        assert await store.project(PARTITION, 30 + position, [Change(30 + position, edit) for edit in edits])
    assert set(await stored(store)) == {"words"}
    assert await found(store) == ["words"]


@pytest.mark.asyncio
async def test_a_forgotten_member_leaves_no_word_on_their_memories(store: Store) -> None:
    await begun(store, said("words", "I live in Basel"))
    gone = MemberForgotten(tenant="acme", user="ada", at_ms=7_000)
    assert await store.project(PARTITION, 41, [forgotten("words"), Change(41, gone)])
    late = corrected("words", "I live in Bern", "better", offset=42)
    assert await store.project(PARTITION, 43, [late, Change(43, forgotten("words", offset=43).row)])
    assert await stored(store) == {}


@pytest.mark.asyncio
async def test_words_from_several_partitions_at_once_leave_one_that_holds(store: Store) -> None:
    await begun(store, fact("town", "Basel"))
    edits = [corrected("town", f"I live in {number}", f"c{number}", offset=5) for number in range(4)]
    await asyncio.gather(*(store.project(number + 8, 5, [edit]) for number, edit in enumerate(edits)))
    holding = [row for row in (await stored(store)).values() if not row.superseded_by]
    assert len(holding) == 1
