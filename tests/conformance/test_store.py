"""What every Store does, on the one in memory and on Postgres."""

from __future__ import annotations

import asyncio

import pytest

from memory.rows import (
    CallOutcome,
    Change,
    ConversationRow,
    MessageRow,
    TurnRecord,
)
from memory.store import Store
from streams import ids
from streams.events.conversation import ConversationDeleted, ConversationRenamed
from tests.support.store_rows import (
    NORTH,
    PARTITION,
    conversation_id,
    found,
    memory,
    opened,
    record,
    turn,
    turn_id,
)

# keys


@pytest.mark.asyncio
async def test_a_key_speaks_for_whom_it_was_made_until_it_is_revoked(store: Store) -> None:
    key = await store.create_key("acme", "ada", "laptop", ["service", "chat"], now_ms=5)
    principal = await store.verify_key(key)
    assert principal is not None
    assert (principal.tenant, principal.user, principal.service, principal.scopes) == (
        "acme", "ada", True, ("service", "chat"),
    )  # fmt: skip
    assert await store.verify_key(key + "x") is None
    signing = await store.signing_secret(principal.key_id)
    assert signing is not None
    assert signing[0] == principal
    assert len(signing[1]) == 32
    assert await store.revoke_key(principal.key_id, now_ms=9)
    assert not await store.revoke_key(principal.key_id, now_ms=10)
    assert await store.verify_key(key) is None
    assert await store.signing_secret(principal.key_id) is None
    [row] = await store.keys("acme")
    assert (row.name, row.created_at_ms, row.revoked_at_ms) == ("laptop", 5, 9)
    assert await store.keys("other") == []


@pytest.mark.asyncio
async def test_the_first_submit_names_the_conversation_for_all(store: Store) -> None:
    wanted = [conversation_id(number) for number in range(8)]
    given = await asyncio.gather(*(store.claim_submit("acme", "ada", "e1", one, 1) for one in wanted))
    assert len(set(given)) == 1
    assert given[0] in wanted
    assert await store.claim_submit("acme", "bob", "e1", wanted[1], 1) == wanted[1]


# claims of calls


@pytest.mark.asyncio
async def test_of_eight_claimers_exactly_one_wins(store: Store) -> None:
    claims = [store.claim(turn_id(1), 0, "h", 1, 500, f"writer-{n}", now_ms=1_000) for n in range(8)]
    won = await asyncio.gather(*claims)
    assert sorted(won) == [False] * 7 + [True]
    row = await store.claimed(turn_id(1), 0)
    assert row is not None
    assert row.writer == f"writer-{won.index(True)}"
    assert row.lease_until_ms == 1_500


@pytest.mark.asyncio
async def test_of_eight_who_take_over_an_expired_lease_exactly_one_wins(store: Store) -> None:
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "first", now_ms=1_000)
    claims = [store.claim(turn_id(1), 0, "h", 2, 500, f"writer-{n}", now_ms=1_500) for n in range(8)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]


@pytest.mark.asyncio
async def test_a_lease_holds_until_its_time(store: Store) -> None:
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_000)
    assert not await store.claim(turn_id(1), 0, "h", 2, 500, "two", now_ms=1_499)
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_400), "its holder renews it"
    assert not await store.claim(turn_id(1), 0, "h", 2, 500, "two", now_ms=1_500)
    assert await store.claim(turn_id(1), 0, "h", 2, 500, "two", now_ms=1_900)
    assert not await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=9_000), "an older number never wins"
    assert not await store.settle(turn_id(1), 0, 1, "answered"), "nor does it settle"
    assert await store.settle(turn_id(1), 0, 2, "answered")


@pytest.mark.asyncio
async def test_a_settled_call_is_sent_again_only_with_other_arguments(store: Store) -> None:
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_000)
    assert await store.settle(turn_id(1), 0, 1, "voided")
    assert await store.settle(turn_id(1), 0, 1, "voided"), "the same word twice is no contradiction"
    assert not await store.settle(turn_id(1), 0, 1, "answered")
    assert not await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=9_000)
    assert not await store.claim(turn_id(1), 0, "h", 2, 500, "two", now_ms=9_000)
    assert await store.claim(turn_id(1), 0, "other", 2, 500, "one", now_ms=1_100)
    row = await store.claimed(turn_id(1), 0)
    assert row is not None
    assert (row.number, row.argument_hash, row.outcome) == (2, "other", None)
    assert await store.claimed(turn_id(1), 1) is None


# projection


@pytest.mark.asyncio
async def test_rows_and_position_are_stored_together(store: Store) -> None:
    assert await store.position(PARTITION) == -1
    assert await store.resume_offset(PARTITION) is None
    changes = [opened(), turn(1, 2, 9, "I live in Bern", "Noted."), memory("m1", "I live in Bern", NORTH)]
    assert await store.project(PARTITION, 9, changes, resume=7)
    assert await store.position(PARTITION) == 9
    assert await store.resume_offset(PARTITION) == 7
    assert await store.position(PARTITION + 1) == -1
    row = await store.turn(turn_id(1))
    assert row is not None
    assert (row.conversation, row.partition, row.offset, row.end_offset) == (conversation_id(1), PARTITION, 2, 9)
    assert (row.status, row.agent, row.tenant, row.user) == ("completed", "guide", "acme", "ada")
    conversation = await store.conversation(conversation_id(1))
    assert conversation is not None
    assert (conversation.title, conversation.updated_at_ms) == ("I live in Bern", 1_010)
    history = await store.history(conversation_id(1), 10)
    assert [(message.role, message.text) for message in history.messages] == [
        ("user", "I live in Bern"), ("assistant", "Noted."),
    ]  # fmt: skip
    assert (history.position, history.resume, history.turns) == (9, 7, [turn_id(1)])
    assert await store.turn(turn_id(2)) is None
    assert await store.conversation(conversation_id(2)) is None


@pytest.mark.asyncio
async def test_a_projection_repeated_changes_nothing(store: Store) -> None:
    first = [opened(), turn(1, 2, 9, "one", "1"), memory("m1", "one", NORTH)]
    assert await store.project(PARTITION, 9, first)
    assert not await store.project(PARTITION, 9, first)
    longer = [*first, turn(2, 10, 14, "two", "2", at_ms=2_000), memory("m2", "two", NORTH, offset=14)]
    assert await store.project(PARTITION, 14, longer)
    assert not await store.project(PARTITION, 12, [memory("m3", "late", NORTH, offset=12)])
    assert await found(store) == ["m1", "m2"]
    history = await store.history(conversation_id(1), 10)
    assert [message.text for message in history.messages] == ["one", "1", "two", "2"]
    assert await store.position(PARTITION) == 14


@pytest.mark.asyncio
async def test_two_workers_that_project_the_same_batch_store_it_once(store: Store) -> None:
    batch = [opened(), turn(1, 2, 9, "one", "1"), memory("m1", "one", NORTH)]
    done = await asyncio.gather(*(store.project(PARTITION, 9, batch) for _ in range(8)))
    assert sorted(done) == [False] * 7 + [True]
    assert [message.text for message in (await store.history(conversation_id(1), 10)).messages] == ["one", "1"]


@pytest.mark.asyncio
async def test_a_running_turn_is_found_and_then_ends_once(store: Store) -> None:
    assert await store.project(PARTITION, 3, [opened(), turn(1, 2, -1, "hello", "", status="running")], resume=2)
    row = await store.turn(turn_id(1))
    assert row is not None
    assert (row.status, row.offset, row.end_offset) == ("running", 2, -1)
    assert (await store.history(conversation_id(1), 10)).messages == []
    ended = [turn(1, 2, 9, "hello", "Hi.", status="cancelled"), turn(1, 2, 12, "hello", "again")]
    assert await store.project(PARTITION, 9, ended[:1])
    assert await store.project(PARTITION, 12, ended[1:])
    row = await store.turn(turn_id(1))
    assert row is not None
    assert (row.status, row.end_offset) == ("cancelled", 9)
    assert [message.text for message in (await store.history(conversation_id(1), 10)).messages] == ["hello", "Hi."]


@pytest.mark.asyncio
async def test_positions_belong_to_one_log(store: Store) -> None:
    store.follow(71)
    assert await store.project(PARTITION, 9, [opened(), turn(1, 2, 9, "one", "1")])
    store.follow(72)
    assert await store.position(PARTITION) == -1
    row = await store.turn(turn_id(1))
    assert row is not None
    assert row.offset == -1, "the log it stood in is gone"
    history = await store.history(conversation_id(1), 10)
    assert (history.position, history.resume, len(history.messages)) == (-1, 0, 2)
    assert await store.project(PARTITION, 0, [])
    store.follow(71)
    assert await store.position(PARTITION) == 9


@pytest.mark.asyncio
async def test_a_late_result_fills_the_place_of_the_missing_one(store: Store) -> None:
    call_id = ids.call_id(turn_id(1), 0)
    made = record(1, 2, 9, "find Ada", "I could not find out.")
    call = MessageRow(index=1, role="assistant", text='{"name":"Ada"}', kind="function_call", call_id=call_id,
                      name="search", status="unanswered")  # fmt: skip
    output = MessageRow(index=2, role="tool", text="none", kind="function_call_output", call_id=call_id,
                        name="search", status="unanswered")  # fmt: skip
    made = TurnRecord(**{
        **{field: getattr(made, field) for field in made.__struct_fields__},
        "messages": (made.messages[0], call, output, MessageRow(index=3, role="assistant", text="…", name="answer")),
    })  # fmt: skip
    outcome = CallOutcome(turn=turn_id(1), call_id=call_id, status="answered", text='["Ada"]')
    changed = CallOutcome(turn=turn_id(1), call_id=call_id, status="failed", text="no")
    unknown = CallOutcome(turn=turn_id(5), call_id=call_id, status="answered", text="?")
    changes = [opened(), Change(9, made), Change(11, outcome), Change(12, changed), Change(13, unknown)]
    assert await store.project(PARTITION, 13, changes)
    texts = [message.text for message in (await store.history(conversation_id(1), 10)).messages]
    assert texts == ["find Ada", 'search({"name":"Ada"}) → ["Ada"]', "…"]


@pytest.mark.asyncio
async def test_any_text_can_be_stored(store: Store) -> None:
    said = 'a\x00b "quoted" \\ \u2028 𝛑 {"json": [1]}'
    assert await store.project(PARTITION, 9, [opened(), turn(1, 2, 9, said, said), memory("m1", said, NORTH)])
    kept = {message.text.replace("\ufffd", "\x00") for message in (await store.history(conversation_id(1), 9)).messages}
    assert kept == {said}
    [candidate] = await store.recall("acme", "ada", NORTH, said, 5)
    assert candidate.text.replace("\ufffd", "\x00") == said


# conversations


@pytest.mark.asyncio
async def test_conversations_are_listed_last_used_first_and_page_by_page(store: Store) -> None:
    changes = [
        opened(1, 1_000), opened(2, 2_000), opened(3, 3_000), opened(4, 2_500, user="bob"),
        turn(1, 2, 9, "hi", "Hi.", conversation=1, at_ms=9_000),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, [Change(1, change.row) for change in changes])
    first = await store.conversations("acme", "ada", 2)
    assert [row.conversation for row in first] == [conversation_id(1), conversation_id(3)]
    rest = await store.conversations("acme", "ada", 2, before=conversation_id(3))
    assert [row.conversation for row in rest] == [conversation_id(2)]
    assert await store.conversations("other", "ada", 2) == []


@pytest.mark.asyncio
async def test_history_is_the_newest_turns_oldest_first(store: Store) -> None:
    turns = [turn(n, n * 10, n * 10 + 5, f"q{n}", f"a{n}", at_ms=n * 1_000) for n in range(1, 6)]
    assert await store.project(PARTITION, 55, [opened(), *turns])
    history = await store.history(conversation_id(1), 2)
    assert [message.text for message in history.messages] == ["q4", "a4", "q5", "a5"]
    assert history.turns == [turn_id(4), turn_id(5)]
    assert (await store.history(conversation_id(9), 2)).messages == []


@pytest.mark.asyncio
async def test_a_fork_sees_its_ancestors_up_to_where_it_left(store: Store) -> None:
    child = ConversationRow(
        conversation=conversation_id(2), tenant="acme", user="ada", created_at_ms=5_000, parent=conversation_id(1),
        parent_turn=turn_id(2),
    )  # fmt: skip
    grandchild = ConversationRow(
        conversation=conversation_id(3), tenant="acme", user="ada", created_at_ms=6_000, parent=conversation_id(2),
        parent_turn=turn_id(4),
    )  # fmt: skip
    changes = [
        opened(), turn(1, 10, 11, "q1", "", at_ms=1_000), turn(2, 12, 13, "q2", "", at_ms=2_000),
        turn(3, 14, 15, "q3", "", at_ms=3_000), Change(16, child),
        turn(4, 17, 18, "q4", "", conversation=2, at_ms=5_000), turn(5, 19, 20, "q5", "", conversation=2, at_ms=5_500),
        Change(21, grandchild), turn(6, 22, 23, "q6", "", conversation=3, at_ms=6_000),
    ]  # fmt: skip
    assert await store.project(PARTITION, 23, [Change(max(1, change.offset), change.row) for change in changes])

    async def texts(number: int, limit: int) -> list[str]:
        return [message.text for message in (await store.history(conversation_id(number), limit)).messages]

    assert await texts(1, 9) == ["q1", "q2", "q3"]
    assert await texts(2, 9) == ["q1", "q2", "q4", "q5"]
    assert await texts(3, 9) == ["q1", "q2", "q4", "q6"]
    assert await texts(3, 3) == ["q2", "q4", "q6"]


@pytest.mark.asyncio
async def test_a_conversation_is_renamed_and_deleted(store: Store) -> None:
    changes = [
        opened(), turn(1, 2, 9, "secret", "Noted."), memory("m1", "secret", NORTH),
        memory("m2", "other", NORTH, conversation=2),
        Change(10, ConversationRenamed(conversation=conversation_id(1), title="Plans", at_ms=2_000)),
    ]  # fmt: skip
    assert await store.project(PARTITION, 10, changes)
    row = await store.conversation(conversation_id(1))
    assert row is not None
    assert row.title == "Plans"
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_000)
    gone = ConversationDeleted(conversation=conversation_id(1), at_ms=3_000)
    after = [Change(11, gone), turn(2, 12, 19, "more", "x", at_ms=2_500), memory("m3", "more", NORTH, offset=19)]
    assert await store.project(PARTITION, 19, after)
    row = await store.conversation(conversation_id(1))
    assert row is not None
    assert (row.deleted, row.title) == (True, "")
    assert await store.conversations("acme", "ada", 9) == []
    assert await store.turn(turn_id(1)) is None
    assert await store.turn(turn_id(2)) is None
    assert (await store.history(conversation_id(1), 9)).messages == []
    assert await found(store, text="secret more") == ["m2"]
    assert await store.claimed(turn_id(1), 0) is None
