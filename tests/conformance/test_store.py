"""What every Store does, on the one in memory and on Postgres."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from memory.memory_store import MemoryStore
from memory.postgres import PostgresStore
from memory.rows import (
    CallOutcome,
    Change,
    ConversationRow,
    MemoryRow,
    MessageRow,
    TurnRecord,
    Vector,
)
from memory.store import Store
from streams import ids
from streams.errors import Misconfigured, PeerUnavailable
from streams.events.conversation import ConversationDeleted, ConversationRenamed, MemberForgotten
from streams.events.registering import SkillManifest
from tests.support.databases import fresh_database, postgres_server

DIMENSIONS = 4
PARTITION = 3
NORTH, EAST, SOUTH = [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(DIMENSIONS)
        return
    async with fresh_database(request.getfixturevalue("server")) as dsn:
        postgres = PostgresStore(dsn, DIMENSIONS)
        await postgres.migrate()
        await postgres.open()
        yield postgres
        await postgres.close()


def conversation_id(number: int, partition: int = PARTITION) -> str:
    return ids.conversation_id(partition, number, b"0123456789")


def turn_id(number: int) -> str:
    return ids.turn_id(conversation_id(0), number, b"0123456789")


def opened(number: int = 1, at_ms: int = 1_000, user: str = "ada", parent: str = "", parent_turn: str = "") -> Change:
    row = ConversationRow(
        conversation=conversation_id(number), tenant="acme", user=user, created_at_ms=at_ms, parent=parent,
        parent_turn=parent_turn,
    )  # fmt: skip
    return Change(0, row)


def record(
    number: int, begin: int, end: int, said: str, answer: str, *, conversation: int = 1, at_ms: int = 1_000,
    status: str = "completed", user: str = "ada",
) -> TurnRecord:  # fmt: skip
    messages = [MessageRow(index=0, role="user", text=said)]
    if answer:
        messages.append(MessageRow(index=1, role="assistant", text=answer, name="answer"))
    return TurnRecord(
        turn=turn_id(number), conversation=conversation_id(conversation), tenant="acme", user=user, begin_offset=begin,
        end_offset=end, status=status, reason="", routed=True, agent="guide", messages=tuple(messages), models=(),
        accepted_at_ms=at_ms, ended_at_ms=at_ms + 10, previous_turn="", previous_offset=-1, event_id="",
        origin="client",
    )  # fmt: skip


def turn(*args: int | str, **more: int | str) -> Change:
    made = record(*args, **more)  # type: ignore[arg-type]
    return Change(made.end_offset if made.status != "running" else made.begin_offset, made)


def memory(
    name: str, text: str, vector: Vector, *, tenant: str = "acme", user: str = "ada", conversation: int = 1,
    at_ms: int = 1_000, offset: int = 9,
) -> Change:  # fmt: skip
    row = MemoryRow(
        id=name, layer="conversation", tenant=tenant, user=user, text=text, vector=vector, at_ms=at_ms,
        conversation=conversation_id(conversation), turn=turn_id(1), speaker="user", valid_from_ms=at_ms,
    )  # fmt: skip
    return Change(offset, row)


async def found(store: Store, tenant: str = "acme", user: str = "ada", text: str = "", limit: int = 10) -> list[str]:
    return sorted(candidate.id for candidate in await store.recall(tenant, user, NORTH, text, limit))


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


# recall


@pytest.mark.asyncio
async def test_recall_finds_by_likeness_and_by_words_and_ranks_both(store: Store) -> None:
    changes = [
        memory("near", "the north star", NORTH), memory("worded", "Rex is a dog", SOUTH),
        memory("both", "a dog on a sledge", [0.1, 0.9, 0.0, 0.0]), memory("neither", "east wind", EAST),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, [opened(), *changes])
    candidates = {each.id: each for each in await store.recall("acme", "ada", NORTH, "where is the dog?", 2)}
    assert set(candidates) == {"near", "both", "worded"}
    assert (candidates["near"].vector_rank, candidates["near"].text_rank) == (1, 0)
    assert candidates["both"].vector_rank == 2
    assert {candidates["both"].text_rank, candidates["worded"].text_rank} == {1, 2}
    assert candidates["worded"].vector_rank == 0
    assert candidates["near"].similarity == pytest.approx(1.0)
    assert candidates["worded"].similarity == pytest.approx(-1.0)
    whole = candidates["near"]
    assert (whole.layer, whole.text, whole.at_ms, whole.speaker) == ("conversation", "the north star", 1_000, "user")
    assert (whole.conversation, whole.turn, whole.valid_from_ms) == (conversation_id(1), turn_id(1), 1_000)
    assert (whole.valid_to_ms, whole.superseded_by, whole.confidence) == (None, "", 1.0)


@pytest.mark.asyncio
async def test_recall_honours_tenant_user_and_the_excluded_conversation(store: Store) -> None:
    changes = [
        memory("mine", "the code is 1", NORTH), memory("hers", "the code is 2", NORTH, user="eve"),
        memory("theirs", "the code is 3", NORTH, tenant="rival"),
        memory("here", "the code is 4", NORTH, conversation=2),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, changes)
    assert await found(store, text="code") == ["here", "mine"]
    assert await found(store, tenant="rival", text="code") == ["theirs"]
    assert await found(store, user="nobody", text="code") == []
    kept = await store.recall("acme", "ada", NORTH, "code", 9, exclude_conversation=conversation_id(2))
    assert [candidate.id for candidate in kept] == ["mine"]


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["", "?!", "the of and", "a & b | !c", "' OR 1=1 --", "x" * 3_000])
async def test_a_question_of_any_text_is_answered_by_likeness(store: Store, text: str) -> None:
    assert await store.project(PARTITION, 9, [memory("m1", "the north star", NORTH)])
    assert await found(store, text=text) == ["m1"]


@pytest.mark.asyncio
async def test_a_memory_is_forgotten_by_its_owner_only(store: Store) -> None:
    assert await store.project(PARTITION, 9, [memory("m1", "one", NORTH), memory("m2", "two", NORTH)])
    assert [(row.id, row.text, row.similarity) for row in await store.memories("acme", "ada", 1)] == [
        ("m2", "two", None)
    ]
    assert [row.id for row in await store.memories("acme", "ada", 5, conversation_id(1))] == ["m2", "m1"]
    assert await store.memories("acme", "ada", 5, conversation_id(2)) == await store.memories("acme", "eve", 5) == []
    assert not await store.forget_memory("acme", "eve", "m1")
    assert not await store.forget_memory("rival", "ada", "m1")
    assert await store.forget_memory("acme", "ada", "m1")
    assert not await store.forget_memory("acme", "ada", "m1")
    assert await found(store) == ["m2"]


@pytest.mark.asyncio
async def test_a_forgotten_member_leaves_nothing_and_takes_nothing_old(store: Store) -> None:
    key = await store.create_key("acme", "ada", "laptop", [], now_ms=100)
    other = await store.create_key("acme", "eve", "laptop", [], now_ms=100)
    await store.claim_submit("acme", "ada", "e1", conversation_id(1), 1)
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_000)
    said = [
        opened(), turn(1, 2, 9, "secret", "Noted."), memory("m1", "secret", NORTH),
        memory("hers", "secret", NORTH, user="eve", conversation=5), opened(5, user="eve"),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, [Change(max(1, change.offset), change.row) for change in said])
    gone = Change(10, MemberForgotten(tenant="acme", user="ada", at_ms=5_000))
    assert await store.project(PARTITION, 10, [gone])
    assert await store.verify_key(key) is None
    assert await store.verify_key(other) is not None
    assert await store.conversation(conversation_id(1)) is None
    assert await store.turn(turn_id(1)) is None
    assert await store.claimed(turn_id(1), 0) is None
    assert await found(store, text="secret") == []
    assert await found(store, user="eve", text="secret") == ["hers"]
    assert await store.claim_submit("acme", "ada", "e1", conversation_id(2), 1) == conversation_id(2)
    late = [
        opened(6, 4_000), turn(2, 2, 9, "secret", "x", conversation=6, at_ms=4_900), memory("m2", "secret", NORTH),
        turn(3, 10, 11, "hello again", "Hi.", conversation=7, at_ms=6_000),
        memory("m3", "hello again", NORTH, conversation=7, at_ms=6_000),
    ]  # fmt: skip
    assert await store.project(PARTITION + 1, 11, [Change(max(1, change.offset), change.row) for change in late])
    assert await store.conversation(conversation_id(6)) is None
    assert await store.turn(turn_id(2)) is None
    assert await store.turn(turn_id(3)) is not None
    assert await found(store, text="secret hello") == ["m3"]


@pytest.mark.asyncio
async def test_a_vector_of_another_length_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="2 numbers where 4"):
        await store.project(PARTITION, 9, [memory("m1", "one", [1.0, 0.0])])
    with pytest.raises(ValueError, match="2 numbers where 4"):
        await store.recall("acme", "ada", [1.0, 0.0], "one", 5)
    assert await store.position(PARTITION) == -1, "nothing was stored"


# skills


@pytest.mark.asyncio
async def test_skills_are_found_by_likeness_within_their_tenants(store: Store) -> None:
    def skill(name: str, version: str = "1", tenants: tuple[str, ...] = ()) -> SkillManifest:
        return SkillManifest(name=name, version=version, description="d", parameters={}, owner="o", tenants=tenants)

    await store.upsert_skill(skill("compass"), EAST)
    await store.upsert_skill(skill("compass", "2"), NORTH)
    await store.upsert_skill(skill("weather"), EAST)
    await store.upsert_skill(skill("secret", tenants=("rival",)), NORTH)
    [(best, score), (second, _)] = await store.nearest_skills("acme", NORTH, 5)
    assert (best, second) == ("compass@2", "weather@1")
    assert score == pytest.approx(1.0)
    assert [name for name, _ in await store.nearest_skills("rival", NORTH, 2)] == ["compass@2", "secret@1"]
    await store.withdraw_skill("compass")
    await store.withdraw_skill("unknown")
    assert [name for name, _ in await store.nearest_skills("acme", NORTH, 5)] == ["weather@1"]


# what only a database can do


@pytest.mark.asyncio
async def test_two_processes_migrate_at_once(server: str) -> None:
    program = (
        "import asyncio, sys; from memory.postgres import PostgresStore;"
        "print(len(asyncio.run(PostgresStore(sys.argv[1], 4).migrate())))"
    )
    async with fresh_database(server) as dsn:
        running = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", program, dsn, stdout=asyncio.subprocess.PIPE)
            for _ in range(2)
        ]
        printed = await asyncio.gather(*(process.communicate() for process in running))
        applied = sorted(int(out) for out, _ in printed)
        assert [process.returncode for process in running] == [0, 0]
        assert applied[0] == 0
        assert applied[1] > 0
        store = PostgresStore(dsn, 4)
        assert await store.migrate() == []
        await store.open()
        await store.close()


@pytest.mark.asyncio
async def test_a_schema_that_does_not_fit_is_refused(server: str) -> None:
    async with fresh_database(server) as dsn:
        with pytest.raises(Misconfigured, match="no schema"):
            await PostgresStore(dsn, 4).open()
        await PostgresStore(dsn, 4).migrate()
        with pytest.raises(Misconfigured, match="vectors of 4 numbers"):
            await PostgresStore(dsn, 5).open()
        with pytest.raises(Misconfigured, match="vectors of 4 numbers"):
            await PostgresStore(dsn, 5).migrate()
        connection = await asyncpg.connect(dsn)
        await connection.execute("UPDATE schema_migrations SET digest = 'other'")
        await connection.close()
        with pytest.raises(Misconfigured, match="another text"):
            await PostgresStore(dsn, 4).migrate()


@pytest.mark.asyncio
async def test_a_database_that_is_gone_is_a_typed_error() -> None:
    with pytest.raises(PeerUnavailable):
        await PostgresStore("postgresql://nobody@127.0.0.1:1/none", 4).open()


@pytest.mark.asyncio
async def test_the_graph_finds_what_the_exact_search_finds(server: str) -> None:
    """One user's 300 memories among 3,000 of others, by the branch that large users take."""
    async with fresh_database(server) as dsn:
        store = PostgresStore(dsn, DIMENSIONS)
        await store.migrate()
        await store.open()
        spread = [
            memory(f"m{n}", f"text {n}", [n % 7 - 3.0, n % 11 - 5.0, n % 13 - 6.5, 1.0],
                   user="ada" if n % 11 == 0 else f"u{n % 11}")
            for n in range(3_300)
        ]  # fmt: skip
        assert await store.project(PARTITION, 9, spread)
        exact = {each.id for each in await store.recall("acme", "ada", [0.3, 1.0, 0.2, 0.5], "", 10)}
        store.exact_rows = 0
        graph = {each.id for each in await store.recall("acme", "ada", [0.3, 1.0, 0.2, 0.5], "", 10)}
        assert len(exact) == len(graph) == 10
        assert len(exact & graph) >= 9
        await store.close()


@pytest.mark.asyncio
async def test_a_projection_cancelled_anywhere_has_happened_whole_or_not_at_all(server: str) -> None:
    batch = [opened(), turn(1, 2, 9, "one", "1"), memory("m1", "one", NORTH)]
    outcomes: set[bool] = set()
    async with fresh_database(server) as dsn:
        store = PostgresStore(dsn, DIMENSIONS, pool_size=2)
        await store.migrate()
        await store.open()
        for partition in range(60):
            work = asyncio.create_task(store.project(100 + partition, 9, batch))
            for _ in range(partition):  # one more turn of the loop each time, until it is through
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            stored = await store.position(100 + partition)
            assert stored in (-1, 9)
            outcomes.add(stored == 9)
        assert await store.project(PARTITION, 9, batch)
        assert [message.text for message in (await store.history(conversation_id(1), 10)).messages] == ["one", "1"]
        assert False in outcomes
        await store.close()
