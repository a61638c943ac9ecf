"""From facts on `events` to rows in Postgres and back into the next turn: the bus in memory, a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from headstart.remembered import recalled_in
from headstart.replay.recorder import Selection
from memory.embed import HashEmbedder
from streams import ids
from streams.codec import decode
from streams.dead_letters import DeadLetter
from streams.errors import NotFound, PeerUnavailable
from streams.events.calling import CallAnswered, CallClosed, CallFired, CallOpened
from streams.events.conversation import (
    ConversationDeleted,
    FactPublished,
    FactTaken,
    MemberForgotten,
)
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.recalling import Recalled, RecalledItem
from streams.fence import NOTE
from streams.topology import DEAD_LETTERS, EVENTS
from streams.writer import StageWriter
from tests.support.databases import fresh_database, postgres_server
from tests.support.remembering_world import CONVERSATION, DIMENSIONS, NOW_MS, PARTITION, TENANT, USER, Course, World
from workers.remembering.fold import LINGER_MS
from workers.remembering.worker import GROUP, IDLE_PACE_MS, MemoryWorker


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture
async def world(server: str) -> AsyncIterator[World]:
    async with fresh_database(server) as dsn:
        made = World(dsn)
        await made.store.migrate()
        await made.store.open()
        await made.bus.start()
        made.store.follow(made.bus.epoch)
        yield made
        await made.store.close()


def taken_in(fact: FactPublished) -> FactTaken:
    """What the owner of the partition says of the first note of the conversation."""
    return FactTaken(
        conversation=fact.conversation, fact=f"{fact.conversation}/{NOTE}/1/0", kind=fact.kind, service=fact.service,
        agent="companion", policy="remember", moment="after_end", outcome="remembered", at_ms=fact.at_ms,
    )  # fmt: skip


@pytest.mark.asyncio
async def test_two_turns_become_rows_and_the_second_recalls_the_first(world: World) -> None:
    worker = await world.worker()
    first = await world.turn(1, "My dog is called Rex.", "What a fine name for a dog!")
    await world.work(worker)
    assert await world.recalled("What is my dog called?") == [
        "My dog is called Rex.", "assistant: What a fine name for a dog!",
    ]  # fmt: skip
    assert await world.recalled("What is my dog called?", exclude=CONVERSATION) == []
    second = await world.turn(2, "And the cat is Tom.", "Noted.")
    await world.work(worker)
    history = await world.store.history(CONVERSATION, 10)
    assert [(message.role, message.text, message.turn) for message in history.messages] == [
        ("user", "My dog is called Rex.", first), ("assistant", "What a fine name for a dog! ", first),
        ("user", "And the cat is Tom.", second), ("assistant", "Noted. ", second),
    ]  # fmt: skip
    assert history.position == world.broker.log_of("events", PARTITION).end - 1
    assert await world.store.resume_offset(PARTITION) == history.position + 1
    row = await world.store.turn(second)
    assert row is not None
    assert (row.status, row.agent, row.partition) == ("completed", "companion", PARTITION)
    listed = await world.store.conversations(TENANT, USER, 5)
    assert [conversation.title for conversation in listed] == ["My dog is called Rex."]
    assert await worker.lag() == {0: 0, 1: 0}
    await worker.stop()


@pytest.mark.asyncio
async def test_killed_after_every_record_nothing_is_lost_or_doubled(world: World) -> None:
    """A worker for each record of the log: each reads from what is stored, one record further, stores, and is killed
    either before or after that was stored."""
    await world.turn(1, "My dog is called Rex.", "A fine name!")
    course = Course(world, 2, "The cat is Tom.")
    await course.begin()
    end = world.broker.log_of("events", PARTITION).end
    log = world.broker.log_of("events", PARTITION)
    whole = list(log.records)
    for visible in range(1, end + 1):
        log.records[:] = whole[:visible]
        doomed = await world.worker()
        while await doomed.step(wait_ms=1):
            pass
        await world.kill(doomed)  # read, not stored
        worker = await world.worker()
        await world.work(worker)
        await world.kill(worker)  # stored
        assert await world.store.position(PARTITION) == visible - 1
    await course.answer("Hello Tom!")
    await course.end()
    worker = await world.worker()
    await world.work(worker)
    stored = [await world.rows(table) for table in ("turns", "messages", "memories")]
    assert stored == [2, 4, 5], "each utterance, and the fact what the dog is called"
    texts = [message.text for message in (await world.store.history(CONVERSATION, 10)).messages]
    assert texts == ["My dog is called Rex.", "A fine name! ", "The cat is Tom.", "Hello Tom! "]
    await worker.stop()


@pytest.mark.asyncio
async def test_a_rebalance_hands_partitions_over_with_their_open_turns(world: World) -> None:
    first = await world.worker()
    courses = [
        Course(world, 1, f"text {partition}", ids.conversation_id(partition, NOW_MS, b"conversation"))
        for partition in (0, 1)
    ]
    for course in courses:
        await course.begin(opens=True)
    await world.work(first)
    running = await world.store.turn(courses[0].turn)
    assert running is not None
    assert running.status == "running"
    assert await world.store.resume_offset(0) == 0, "where the open turn begins"
    second = await world.worker()
    for course in courses:
        await course.answer("Good.")
        await course.end()
    await world.work(first)
    await world.work(second)
    held = [sorted(worker.alive().partitions) for worker in (first, second)]
    assert sorted(held) == [[0], [1]]
    for course in courses:
        texts = [message.text for message in (await world.store.history(course.conversation, 9)).messages]
        assert texts == [course.said, "Good. "]
    assert await world.rows("memories") == 4
    await first.stop()
    await second.stop()


@pytest.mark.asyncio
async def test_rounds_are_paced_by_the_clock(world: World) -> None:
    worker = await world.worker()
    await world.turn(1, "hello", "Hi.")
    assert await worker.step(wait_ms=1) > 0
    assert await world.rows("turns") == 0
    world.clock.now_ms += 100
    await worker.step(wait_ms=1)
    assert await world.rows("turns") == 1
    course = Course(world, 2, "more")
    await course.begin()
    world.clock.now_ms += 100
    await worker.step(wait_ms=1)
    assert await world.rows("turns") == 1, "a turn that has begun is not worth a transaction of its own"
    world.clock.now_ms += IDLE_PACE_MS
    await worker.step(wait_ms=1)
    assert await world.rows("turns") == 2
    await worker.stop()


@pytest.mark.asyncio
async def test_a_result_that_comes_after_the_end_and_after_a_restart_is_kept(world: World) -> None:
    worker = await world.worker()
    course = Course(world, 1, "book a table")
    await course.begin(opens=True)
    arguments = {"people": 2}
    await course.course.write(CallOpened(call=0, skill="book@1", token=1, at_ms=NOW_MS))
    await course.course.write(CallClosed(call=0, skill="book@1", arguments=arguments, token=3, at_ms=NOW_MS))
    call = StageWriter(world.bus, CONVERSATION, course.turn, "call.0", 1, "turns/test")
    fired = CallFired(
        call=0, skill="book@1", arguments=arguments, effect="irreversible", claim=1, token=-1, at_ms=NOW_MS
    )
    await call.write(fired)
    await course.answer("It takes longer.")
    await course.end()
    await world.work(worker)
    tool = [message.text for message in (await world.store.history(CONVERSATION, 9)).messages][1]
    assert tool == 'book({"people":2}) → {"error":"no_result"}'
    await world.kill(worker)
    worker = await world.worker()
    await call.write(CallAnswered(call=0, result='"booked"', status=200, took_ms=9.0, at_ms=NOW_MS))
    await world.work(worker)
    tool = [message.text for message in (await world.store.history(CONVERSATION, 9)).messages][1]
    assert tool == 'book({"people":2}) → "booked"'
    assert await world.rows("memories") == 2
    await worker.stop()


@pytest.mark.asyncio
async def test_a_zombies_words_are_not_remembered(world: World) -> None:
    worker = await world.worker()
    course = Course(world, 1, "hello")
    await course.begin(opens=True)
    zombie = StageWriter(world.bus, CONVERSATION, course.turn, "answer", 1, "generation/old")
    await zombie.write(AnswerStarted(model="m", engine="scripted", at_ms=NOW_MS))
    await zombie.write(AnswerDelta(text="Good ", index=0))
    successor = StageWriter(world.bus, CONVERSATION, course.turn, "answer", 2, "generation/new")
    await successor.write(AnswerStarted(model="m", engine="scripted", at_ms=NOW_MS, first_index=1))
    await zombie.write(AnswerDelta(text="night", index=1))
    await successor.write(AnswerDelta(text="day", index=1))
    await course.end()
    await successor.write(AnswerDelta(text=" too late", index=2))
    await world.work(worker)
    assert (await world.store.history(CONVERSATION, 9)).messages[-1].text == "Good day"
    await worker.stop()


@pytest.mark.asyncio
async def test_what_can_not_be_read_is_set_aside_and_the_rest_goes_on(world: World) -> None:
    worker = await world.worker()
    subject = ids.turn_id(CONVERSATION, NOW_MS, b"poison-poison")
    for kind, event_id, value in (
        ("headstart.turn.accepted.v1", f"{subject}/turn/1/0", b"{not json"),
        ("headstart.turn.accepted.v9", f"{subject}/other/1/0", b"{}"),
        ("headstart.turn.accepted.v1", "no identity", b"{}"),
    ):
        headers = [("ce_type", kind.encode()), ("ce_id", event_id.encode()), ("ce_source", b"x")]
        await (await world.bus.post_raw(EVENTS.name, PARTITION, CONVERSATION.encode(), value, headers))
    await world.turn(1, "still here", "Yes.")
    await world.work(worker)
    await world.work(worker)
    assert await world.rows("turns") == 1
    letters = world.broker.log_of(DEAD_LETTERS.name, PARTITION).records
    assert [DeadLetter.of(letter).code for letter in letters] == [
        "invalid_event",
        "unknown_version",
        "invalid_identity",
    ]
    await worker.stop()


@pytest.mark.asyncio
async def test_what_the_database_can_not_hold_is_set_aside_and_the_rest_goes_on(world: World) -> None:
    worker = await world.worker()
    await world.turn(1, "before", "Yes.")
    bad = FactPublished(
        conversation=CONVERSATION, tenant=TENANT, user="nobody\x00", kind="k", text="poison", service="billing", at_ms=1
    )
    await world.fact(CONVERSATION, NOTE, [bad, taken_in(bad)])
    await world.turn(2, "after", "Yes.")
    await world.work(worker)
    assert await world.rows("turns") == 2
    assert await world.rows("memories") == 4
    [letter] = world.broker.log_of(DEAD_LETTERS.name, PARTITION).records
    assert DeadLetter.of(letter).code == "not_storable"
    assert decode(letter) == bad
    assert await world.store.resume_offset(PARTITION) == world.broker.log_of("events", PARTITION).end
    await worker.stop()


@pytest.mark.asyncio
async def test_facts_are_remembered_and_deletions_obeyed(world: World) -> None:
    worker = await world.worker()
    await world.turn(1, "My dog is called Rex.", "Fine.")
    fact = FactPublished(
        conversation=CONVERSATION, tenant=TENANT, user=USER, kind="invoice", text="The invoice of May is paid.",
        service="billing", at_ms=NOW_MS,
    )  # fmt: skip
    await world.fact(CONVERSATION, NOTE, [fact, taken_in(fact)])
    await world.work(worker)
    assert await world.recalled("Is the invoice of May paid?") == ["billing: The invoice of May is paid."]
    other = ids.conversation_id(0, NOW_MS, b"another-one!")
    await world.turn(1, "The cat is Tom.", "Fine.", other)
    writer = StageWriter(world.bus, CONVERSATION, CONVERSATION, NOTE, 0, "turns/test")
    writer._seq = 1
    await writer.write(ConversationDeleted(conversation=CONVERSATION, at_ms=NOW_MS + 1))
    await world.work(worker)
    assert set(await world.recalled("Is the invoice of my dog Rex paid?")) <= {"The cat is Tom.", "assistant: Fine. "}
    assert (await world.store.history(CONVERSATION, 9)).messages == []
    assert await world.rows("memories") == 2
    await world.fact(other, NOTE, [MemberForgotten(tenant=TENANT, user=USER, at_ms=NOW_MS + 10**6)], other)
    await world.work(worker)
    for table in ("memories", "messages", "turns", "conversations"):
        assert await world.rows(table) == 0
    await worker.stop()


@pytest.mark.asyncio
async def test_a_database_that_goes_away_costs_nothing(world: World) -> None:
    worker = await world.worker()
    await world.turn(1, "hello", "Hi.")
    while await worker.step(wait_ms=1):
        pass
    project, failures = world.store.project, [PeerUnavailable("gone"), PeerUnavailable("still gone")]

    async def failing(*arguments: object) -> bool:
        if failures:
            raise failures.pop()
        return await project(*arguments)  # type: ignore[arg-type]

    world.store.project = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(PeerUnavailable):
        await worker.flush()
    while await worker.step(wait_ms=1):
        pass
    with pytest.raises(PeerUnavailable):
        await worker.flush()
    await world.work(worker)
    assert (await world.rows("turns"), await world.rows("memories")) == (1, 2)
    await worker.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("stored", [True, False])
async def test_what_a_turn_recalled_is_read_from_the_log(world: World, stored: bool) -> None:
    worker = await world.worker()
    await world.turn(1, "hello", "Hi.")
    world.clock.now_ms += 120_000
    course = Course(world, 2, "and now?")
    await course.begin()
    item = RecalledItem(id="mem_1", layer="fact", text="Rex is a dog", score=0.5, why="meaning 0.50")
    fact = Recalled(items=(item,), history=(), at_ms=NOW_MS)
    await course.course.write(fact)
    await course.end()
    if stored:
        await world.work(worker)
    assert await recalled_in(world.bus, world.store, course.turn, Selection()) == fact
    with pytest.raises(NotFound):
        await recalled_in(world.bus, world.store, ids.turn_id(CONVERSATION, NOW_MS, b"never-asked"), Selection())
    await worker.stop()


@pytest.mark.asyncio
async def test_a_hole_is_read_again_and_then_believed(world: World) -> None:
    """The reader may skip records, which reading again mends; the log may have lost them, which nothing mends."""
    worker = await world.worker()
    await world.turn(1, "hello", "Hi.")
    log = world.broker.log_of("events", PARTITION)
    skipped = list(log.records)
    log.base, log.records[:] = len(skipped), []
    await world.turn(2, "again", "Hi again.")
    assert await worker.step(wait_ms=1) > 0
    log.base, log.records[:0] = 0, skipped
    await world.work(worker)
    assert await world.rows("turns") == 2
    world.broker.trim("events", PARTITION, log.end)
    await world.turn(3, "aged out", "Hi.")
    world.broker.trim("events", PARTITION, log.end)
    await world.turn(4, "kept", "Hi.")
    await world.work(worker)
    await world.work(worker)
    assert [message.text for message in (await world.store.history(CONVERSATION, 1)).messages] == ["kept", "Hi. "]
    assert await world.rows("turns") == 3
    await worker.stop()


@pytest.mark.asyncio
async def test_state_of_old_turns_is_let_go(world: World) -> None:
    worker = await world.worker()
    for number in range(1, 6):
        await world.turn(number, f"text {number}", "Fine.")
    never = Course(world, 6, "never ended")
    never_at = world.broker.log_of("events", PARTITION).end
    await never.begin()
    await world.work(worker)
    fold = worker._folds[PARTITION]
    assert len(fold._turns) == 6
    assert await world.store.resume_offset(PARTITION) == never_at
    world.clock.now_ms += LINGER_MS + 2 * 3_600_000
    await world.turn(7, "much later", "Fine.")
    await world.work(worker)
    assert list(fold._turns) == [ids.turn_id(CONVERSATION, NOW_MS + 7 * 60_000, b"turn-entropy")]
    assert len(fold.fence._stages) == 2
    assert await world.store.resume_offset(PARTITION) == await world.store.position(PARTITION) + 1
    await worker.stop()


@pytest.mark.asyncio
async def test_it_works_on_its_own_and_stops_in_order(world: World) -> None:
    worker = MemoryWorker(world.bus, world.store, HashEmbedder(DIMENSIONS))
    await worker.start()
    await world.turn(1, "hello", "Hi.")
    await worker.stop()
    await worker.stop()
    after = await world.worker()
    await world.work(after)
    assert await world.rows("turns") == 1
    assert b"headstart_memory_records" in worker.metrics.text()
    await after.stop()
    assert not world.broker.members[GROUP]
