"""What every Store does with facts, summaries, rated answers, habits and readings: in memory and on Postgres."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from memory.habits import habit_id
from memory.postgres import PostgresStore
from memory.rows import (
    OUTDATED,
    SUMMARY,
    Change,
    ConversationRow,
    Edit,
    ExampleRow,
    MemoryRow,
    MessageRow,
    Observed,
    Reading,
    ReadingDone,
    TurnRecord,
    Vector,
)
from memory.store import Store
from streams import ids
from streams.events.conversation import ConversationDeleted, MemberForgotten

DIMENSIONS = 4
PARTITION = 3
NORTH, EAST = [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
CONVERSATION = ids.conversation_id(PARTITION, 1, b"0123456789")


def turn_id(number: int) -> str:
    return ids.turn_id(CONVERSATION, number, b"0123456789")


def fact(
    name: str, value: str, at_ms: int, *, attribute: str = "lives_in", single: bool = True, negated: bool = False,
    user: str = "ada", vector: Vector = NORTH, turn: str = "",
) -> MemoryRow:  # fmt: skip
    return MemoryRow(
        id=name, layer="fact", tenant="acme", user=user, text=f"{attribute} {value}", vector=vector, at_ms=at_ms,
        valid_from_ms=at_ms, subject="user", attribute=attribute, value=value, single=single, negated=negated,
        turn=turn,
    )  # fmt: skip


def turn(number: int, *, at_ms: int = 1_000, user: str = "ada", said: str = "Where?", answer: str = "There.") -> Change:
    record = TurnRecord(
        turn=turn_id(number), conversation=CONVERSATION, tenant="acme", user=user, begin_offset=number * 10,
        end_offset=number * 10 + 5, status="completed", reason="", routed=True, agent="guide",
        messages=(
            MessageRow(index=0, role="user", text=f"{said} {number}"),
            MessageRow(index=1, role="assistant", text=answer, name="answer"),
        ),
        models=(), accepted_at_ms=at_ms + number, ended_at_ms=at_ms + number, previous_turn="", previous_offset=-1,
        event_id="", origin="client",
    )  # fmt: skip
    return Change(number * 10 + 5, record)


async def held(store: Store) -> dict[str, tuple[int | None, str]]:
    """Every fact's end and successor."""
    return {row.id: (row.valid_to_ms, row.superseded_by) for row in await store.memories("acme", "ada", 99)}


# facts


@pytest.mark.asyncio
async def test_a_new_value_takes_the_place_of_the_old_and_deletes_nothing(store: Store) -> None:
    assert await store.project(PARTITION, 5, [Change(5, fact("bern", "Bern", 1_000))])
    assert await store.project(PARTITION, 9, [Change(9, fact("basel", "Basel", 2_000))])
    assert await held(store) == {"bern": (2_000, "basel"), "basel": (None, "")}
    found = await store.recall("acme", "ada", NORTH, "lives", 9)
    assert [(row.id, row.subject, row.attribute, row.value) for row in found] == [
        ("basel", "user", "lives_in", "Basel")
    ]


@pytest.mark.asyncio
async def test_what_holds_does_not_depend_on_the_order_of_storing(store: Store) -> None:
    """Conversations of one person lie on several partitions, whose order among each other is anybody's guess."""
    said = [
        fact("1", "Bern", 1_000), fact("2", "bern.", 2_000), fact("3", "Basel", 3_000),
        fact("4", "Basel", 4_000, negated=True), fact("5", "Bern", 5_000),
    ]  # fmt: skip
    expected = {"1": (3_000, "3"), "2": (2_000, "1"), "3": (4_000, "4"), "4": (5_000, "5"), "5": (None, "")}
    orders = list(itertools.permutations(range(5)))[:: 24 if isinstance(store, PostgresStore) else 1]
    for number, order in enumerate(orders):
        names = {str(index + 1): f"{index + 1}-{number}" for index in range(5)}
        user = f"user-{number}"
        for place in order:
            row = fact(names[said[place].id], said[place].value, said[place].at_ms, negated=said[place].negated,
                       user=user)  # fmt: skip
            position = await store.position(PARTITION) + 1
            assert await store.project(PARTITION, position, [Change(position, row)])
        rows = await store.memories("acme", user, 99)
        got = {row.id.partition("-")[0]: (row.valid_to_ms, row.superseded_by.partition("-")[0]) for row in rows}
        assert got == expected, order


@pytest.mark.asyncio
async def test_an_attribute_of_many_values_keeps_them_all_until_one_is_denied(store: Store) -> None:
    rows = [
        fact("tea", "tea", 1_000, attribute="likes", single=False),
        fact("chess", "chess", 2_000, attribute="likes", single=False),
        fact("again", "the tea", 3_000, attribute="likes", single=False),
        fact("no-tea", "tea", 4_000, attribute="likes", single=False, negated=True),
    ]
    assert await store.project(PARTITION, 9, [Change(9, row) for row in rows])
    assert await held(store) == {
        "tea": (4_000, "no-tea"), "chess": (None, ""), "again": (3_000, "tea"), "no-tea": (None, ""),
    }  # fmt: skip


@pytest.mark.asyncio
async def test_partitions_that_store_one_members_facts_side_by_side_agree(store: Store) -> None:
    towns = [fact(f"town-{number}", f"Town {number}", 1_000 + number) for number in range(8)]
    await asyncio.gather(*(store.project(number, 5, [Change(5, row)]) for number, row in enumerate(towns)))
    ends = await held(store)
    assert [name for name, (_, successor) in ends.items() if not successor] == ["town-7"]
    assert all(ends[f"town-{number}"] == (1_001 + number, f"town-{number + 1}") for number in range(7))


@pytest.mark.asyncio
async def test_what_was_superseded_stays_so_when_its_successor_is_erased(store: Store) -> None:
    moved = msgspec.structs.replace(fact("basel", "Basel", 2_000), conversation=CONVERSATION)
    assert await store.project(PARTITION, 15, [turn(1), Change(15, fact("bern", "Bern", 1_000)), Change(15, moved)])
    assert await store.project(PARTITION, 16, [Change(16, ConversationDeleted(conversation=CONVERSATION, at_ms=3_000))])
    assert await store.project(PARTITION, 17, [Change(17, fact("chur", "Chur", 1_500))])
    assert await held(store) == {"bern": (2_000, "basel"), "chur": (None, "")}


@pytest.mark.asyncio
async def test_words_that_said_what_no_longer_holds_count_less(store: Store) -> None:
    def said(name: str, number: int, text: str, speaker: str = "user") -> MemoryRow:
        return MemoryRow(
            id=name, layer="conversation", tenant="acme", user="ada", text=text, vector=NORTH, at_ms=1_000,
            conversation=CONVERSATION, turn=turn_id(number), speaker=speaker, valid_from_ms=1_000,
        )  # fmt: skip

    words = [
        said("then", 1, "I live in bern, near the river"), said("beside", 1, "Is it far?"), said("now", 2, "In Basel."),
        said("reply", 1, "Bern is lovely", "assistant"),
    ]  # fmt: skip
    facts = [fact("bern", "Bern", 1_000, turn=turn_id(1)), fact("basel", "Basel", 2_000, turn=turn_id(2))]
    facts = [msgspec.structs.replace(row, conversation=CONVERSATION) for row in facts]
    assert await store.project(PARTITION, 9, [Change(9, row) for row in (*words, *facts)])
    trusted = {row.id: row.confidence for row in await store.memories("acme", "ada", 9)}
    assert trusted.pop("then") == pytest.approx(OUTDATED)
    assert set(trusted.values()) == {1.0}


# summaries


@pytest.mark.asyncio
async def test_a_summary_goes_with_the_history_and_says_which_turns_it_holds(store: Store) -> None:
    turns = [turn(number) for number in range(1, 6)]
    assert await store.project(PARTITION, 60, turns)
    assert (await store.history(CONVERSATION, 2)).summary == ""
    waiting = await store.unsummarised([CONVERSATION, "unknown"])
    assert {name: (row.turns, row.summary) for name, row in waiting.items()} == {CONVERSATION: (5, "")}
    assert [row.text for row in await store.oldest_turns(CONVERSATION, 1)] == ["Where? 1", "There."]

    def summary(name: str, last: int, text: str, at_ms: int) -> MemoryRow:
        return MemoryRow(
            id=name, layer="episode", tenant="acme", user="ada", text=text, vector=NORTH, at_ms=at_ms,
            valid_from_ms=at_ms, conversation=CONVERSATION, turn=turn_id(last), subject=CONVERSATION, attribute=SUMMARY,
            value=f"{turn_id(last)}/rule", single=True,
        )  # fmt: skip

    assert await store.project(PARTITION, 61, [Change(61, summary("s1", 2, "Two turns.", 2_000))])
    assert await store.project(PARTITION, 62, [Change(62, summary("s2", 3, "Three turns.", 3_000))])
    assert (await store.history(CONVERSATION, 2)).summary == "Three turns."
    [row] = (await store.unsummarised([CONVERSATION])).values()
    assert (row.turns, row.summary) == (2, "Three turns.")
    assert [row.text for row in await store.oldest_turns(CONVERSATION, 9)] == [
        "Where? 4", "There.", "Where? 5", "There.",
    ]  # fmt: skip
    found = await store.recall("acme", "ada", NORTH, "", 9, exclude_turns=[turn_id(3)])
    assert found == []


# examples


def example(number: int, rating: str = "good", *, shared: bool = False, at_ms: int = 2_000, user: str = "ada",
            vector: Vector = NORTH) -> Change:  # fmt: skip
    row = ExampleRow(
        turn=turn_id(number), conversation=CONVERSATION, tenant="acme", user=user, agent="guide",
        question=f"q{number}", answer=f"a{number}", rating=rating, shared=shared, at_ms=at_ms, vector=vector,
    )  # fmt: skip
    return Change(99, row)


async def shown(store: Store, user: str = "ada", tenant: str = "acme") -> list[str]:
    return [found.question for found in await store.examples(tenant, user, NORTH, 9)]


@pytest.mark.asyncio
async def test_good_answers_are_found_nearest_first_until_they_are_rated_badly(store: Store) -> None:
    changes = [turn(number) for number in (1, 2, 3)]
    changes += [example(1, vector=EAST), example(2), example(3, "bad"), example(4)]
    assert await store.project(PARTITION, 99, changes)
    assert await shown(store) == ["q2", "q1"], "of an unknown turn nothing is kept"
    [best, _] = await store.examples("acme", "ada", NORTH, 9)
    assert (best.turn, best.agent, best.answer) == (turn_id(2), "guide", "a2")
    assert best.score == pytest.approx(1.0)
    assert len(await store.examples("acme", "ada", NORTH, 1)) == 1

    def rated(position: int, change: Change) -> Change:
        return Change(position, change.row)

    assert await store.project(PARTITION, 100, [rated(100, example(2, "bad", at_ms=3_000))])
    assert await shown(store) == ["q1"]
    assert await store.project(PARTITION, 101, [rated(101, example(2, "good", at_ms=2_500))])
    assert await shown(store) == ["q1"], "an older word does not count"
    assert await store.project(PARTITION, 102, [rated(102, example(2, "good", at_ms=4_000))])
    assert await shown(store) == ["q2", "q1"]


@pytest.mark.asyncio
async def test_examples_stay_with_their_member_unless_shared_and_within_the_tenant(store: Store) -> None:
    changes = [turn(1), turn(2), example(1), example(2, shared=True)]
    assert await store.project(PARTITION, 99, changes)
    assert await shown(store) == ["q1", "q2"]
    assert await shown(store, user="eve") == ["q2"]
    rated = [(await store.experience(tenant, user)).rated for tenant, user in (("acme", "eve"), ("rival", "ada"))]
    assert rated == [True, False]
    assert await shown(store, tenant="rival") == []


# habits


def seen(kind: str, name: str, at_ms: int, taken: bool = True) -> Observed:
    return Observed(tenant="acme", user="ada", kind=kind, name=name, taken=taken, at_ms=at_ms)


@pytest.mark.asyncio
async def test_habits_are_counted_once_each_and_belong_to_the_person(store: Store) -> None:
    hour_ms = 3_600_000
    first = [Change(5, seen("skill", "get_weather", 7 * hour_ms)), Change(5, seen("skill", "get_weather", 7 * hour_ms))]
    assert await store.project(PARTITION, 5, first)
    assert not await store.project(PARTITION, 5, first)
    assert await store.project(PARTITION, 6, [*first, Change(6, seen("skill", "get_weather", 9 * hour_ms, False))])
    [habit] = await store.habits("acme", "ada")
    assert (habit.id, habit.taken, habit.declined) == (habit_id("acme", "ada", "skill", "get_weather"), 2, 1)
    assert (habit.hours[7], habit.hours[9], sum(habit.hours)) == (2, 1, 3)
    assert (habit.first_at_ms, habit.last_at_ms) == (7 * hour_ms, 9 * hour_ms)
    eve = Edit(tenant="acme", user="eve", item=habit.id, at_ms=1, text="no", muted=True)
    ada = Edit(tenant="acme", user="ada", item=habit.id, at_ms=2, text="only in summer")
    assert await store.project(PARTITION + 1, 2, [Change(1, eve), Change(2, ada)])
    assert await store.project(PARTITION, 7, [Change(7, seen("skill", "get_weather", 10 * hour_ms))])
    [habit] = await store.habits("acme", "ada")
    assert (habit.taken, habit.correction, habit.muted) == (3, "only in summer", False)
    known = await store.experience("acme", "ada")
    assert (known.habits, known.rated) == ([habit], False)
    nobody = await store.experience("acme", "eve")
    assert (nobody.habits, nobody.rated) == ([], False)
    strangers = msgspec.structs.replace(ada, tenant="rival", text="", forget=True, at_ms=11 * hour_ms)
    assert await store.project(PARTITION + 1, 3, [Change(3, strangers)])
    assert await store.habits("acme", "ada") == [habit]
    forgotten = msgspec.structs.replace(strangers, tenant="acme")
    assert await store.project(PARTITION + 1, 4, [Change(4, forgotten)])
    assert await store.habits("acme", "ada") == []
    # Counting begins anew, also where another partition's log is read later than the word was.
    late = [
        Change(8, seen("skill", "get_weather", 10 * hour_ms)),
        Change(8, seen("skill", "get_weather", 12 * hour_ms)),
    ]
    assert await store.project(PARTITION, 8, late)
    [habit] = await store.habits("acme", "ada")
    assert (habit.taken, habit.first_at_ms, habit.correction) == (1, 12 * hour_ms, "")


@pytest.mark.asyncio
async def test_a_habit_that_is_counted_anew_keeps_what_its_person_said(store: Store) -> None:
    name = habit_id("acme", "ada", "skill", "get_weather")
    said = [
        Edit(tenant="acme", user="ada", item=name, at_ms=50, text="only in summer", muted=True),
        Edit(tenant="acme", user="ada", item=name, at_ms=40, text="an older word"),
    ]  # fmt: skip
    assert await store.project(PARTITION, 2, [Change(1, said[0]), Change(2, said[1])])
    assert await store.project(PARTITION + 1, 2, [Change(2, seen("skill", "get_weather", 10))])
    [habit] = await store.habits("acme", "ada")
    assert (habit.taken, habit.correction, habit.muted) == (1, "only in summer", True)


@pytest.mark.asyncio
async def test_partitions_that_count_side_by_side_lose_nothing(store: Store) -> None:
    counts = [store.project(number, 5, [Change(5, seen("agent", "desk", 1_000 + number))]) for number in range(8)]
    assert await asyncio.gather(*counts) == [True] * 8
    [habit] = await store.habits("acme", "ada")
    assert (habit.taken, sum(habit.hours)) == (8, 8)


# readings


@pytest.mark.asyncio
async def test_a_reading_waits_until_it_is_done(store: Store) -> None:
    def reading(number: int) -> Reading:
        return Reading(turn=turn_id(number), step="memory.facts", conversation=CONVERSATION, tenant="acme", user="ada",
                       at_ms=1_000 + number, text=f"said {number}")  # fmt: skip

    changes = [turn(1), turn(2), Change(30, reading(1)), Change(30, reading(2)), Change(30, reading(7))]
    assert await store.project(PARTITION, 30, changes)
    assert [row.turn for row in await store.readings([PARTITION, 7], 9)] == [turn_id(1), turn_id(2)]
    assert await store.readings([PARTITION + 1], 9) == []
    await store.asked(turn_id(1), "memory.facts", 2, 5_000)
    await store.asked(turn_id(7), "memory.facts", 2, 5_000)
    [row] = await store.readings([PARTITION], 1)
    assert (row.epoch, row.asked_at_ms, row.text) == (2, 5_000, "said 1")
    assert await store.project(PARTITION, 31, [Change(31, ReadingDone(turn=turn_id(1), step="memory.facts"))])
    assert [row.turn for row in await store.readings([PARTITION, 7], 9)] == [turn_id(2)]
    await store.unread(turn_id(2), "memory.facts")
    assert await store.readings([PARTITION], 9) == []
    assert [row.text for row in await store.messages(turn_id(2))] == ["Where? 2", "There."]
    assert await store.messages(turn_id(9)) == ()


# forgetting


@pytest.mark.asyncio
async def test_what_was_learnt_goes_with_the_conversation_and_with_the_member(store: Store) -> None:
    opened = Change(1, ConversationRow(conversation=CONVERSATION, tenant="acme", user="ada", created_at_ms=900))
    reading = Reading(turn=turn_id(1), step="memory.facts", conversation=CONVERSATION, tenant="acme", user="ada",
                      at_ms=1_001, text="said")  # fmt: skip
    learnt = [opened, turn(1), example(1), Change(99, reading), Change(99, seen("agent", "desk", 1_000))]
    assert await store.project(PARTITION, 99, learnt)
    assert await store.project(
        PARTITION, 100, [Change(100, ConversationDeleted(conversation=CONVERSATION, at_ms=5_000))]
    )
    assert await shown(store) == []
    assert await store.readings([PARTITION, 7], 9) == []
    assert len(await store.habits("acme", "ada")) == 1
    gone = MemberForgotten(tenant="acme", user="ada", at_ms=6_000)
    late = [Change(101, gone), Change(102, seen("agent", "desk", 5_900)), Change(102, fact("late", "Bern", 5_950))]
    assert await store.project(PARTITION, 102, late)
    assert await store.habits("acme", "ada") == []
    assert await store.memories("acme", "ada", 9) == []
    assert await store.project(PARTITION, 103, [Change(103, seen("agent", "desk", 6_100))])
    assert len(await store.habits("acme", "ada")) == 1
