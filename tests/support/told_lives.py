"""What two people tell the assistant, each in words of their own, and every place where a database keeps it."""

from __future__ import annotations

import asyncpg

from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.postgres import PostgresStore
from streams import ids
from streams.events import Event, InputItem
from streams.events.conversation import ConversationOpened, FactPublished, FactTaken
from streams.events.editing import MemoryEdited
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.rating import FeedbackGiven
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCompleted
from streams.fence import NOTE
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.writer import StageWriter
from workers.remembering.worker import MemoryWorker

DIMENSIONS = 64
T0_MS = 1_800_000_000_000
TENANT = "acme"
AGENT = "companion"
# Tables that say nothing of anybody: offsets, hashes of the forgotten and of services' records, skills, and which
# migrations were applied.
OF_NOBODY = {"positions", "forgotten_members", "service_records", "skills", "schema_migrations"}


class Teller:
    """One person. mark: a word that stands in everything they say and in their name, and nowhere else. number: apart
    from the other's."""

    tenant = TENANT

    def __init__(self, bus: MemoryBus, mark: str, number: int) -> None:
        self.bus, self.mark, self.number = bus, mark, number
        self.user = f"user-{mark}"
        self.conversations = [ids.conversation_id(part, T0_MS, f"conv{number}{part}....".encode()) for part in (0, 1)]
        self.turns = [ids.turn_id(name, T0_MS + part, f"turn{number}{part}....".encode())
                      for part, name in enumerate(self.conversations)]  # fmt: skip
        self._noted = 0

    async def tell(self, at_ms: int = T0_MS) -> None:
        """A turn in a conversation of each partition, with all that may come of it."""
        for conversation, turn in zip(self.conversations, self.turns, strict=True):
            await self._turn(conversation, turn, at_ms)
            await self.note(conversation, FeedbackGiven(
                conversation=conversation, turn=turn, tenant=self.tenant, user=self.user, rating="good", share=True,
                at_ms=at_ms + 2_000,
            ))  # fmt: skip
            await self._fact(conversation, at_ms + 3_000)
        home = ids.member_conversation(self.tenant, self.user, 2)
        habit = habit_id(self.tenant, self.user, "agent", AGENT)
        await self.note(home, MemoryEdited(
            conversation=home, tenant=self.tenant, user=self.user, item=habit,
            text=f"{self.mark} asks the companion", at_ms=at_ms + 4_000,
        ))  # fmt: skip

    async def _fact(self, conversation: str, at_ms: int) -> None:
        """A service's fact, and what became of it."""
        place = await self.note(conversation, FactPublished(
            conversation=conversation, tenant=self.tenant, user=self.user, kind="invoice", service="billing",
            text=f"The invoice of {self.mark} is paid.", at_ms=at_ms,
        ))  # fmt: skip
        await self.note(conversation, FactTaken(
            conversation=conversation, fact=place, kind="invoice", service="billing", agent=AGENT, policy="remember",
            moment="after_end", outcome="remembered", at_ms=at_ms, text=f"The invoice of {self.mark}",
        ))  # fmt: skip

    async def come_back(self, at_ms: int) -> str:
        """One more turn, in a conversation that it opens; gives the conversation."""
        conversation = ids.conversation_id(0, at_ms, b"later.....")
        await self._turn(conversation, ids.turn_id(conversation, at_ms, b"later....."), at_ms)
        return conversation

    async def _turn(self, conversation: str, turn: str, at_ms: int) -> None:
        course = StageWriter(self.bus, conversation, turn, "turn", 1, "turns/test")
        said = f"My brother {self.mark} moved to {self.mark}ville because the old house was too loud for him."
        await course.write(TurnAccepted(
            turn=turn, conversation=conversation, tenant=self.tenant, user=self.user, at_ms=at_ms,
            input=(InputItem(text=f"I live in {self.mark}. {said}"),), deadline_at_ms=at_ms + 60_000,
        ))  # fmt: skip
        await course.write(ConversationOpened(
            conversation=conversation, tenant=self.tenant, user=self.user, at_ms=at_ms, title=f"About {self.mark}"
        ))  # fmt: skip
        await course.write(RouteDecided(agent=AGENT, by="embedding", at_ms=at_ms))
        answer = StageWriter(self.bus, conversation, turn, "answer", 1, "generation/test")
        await answer.write(AnswerStarted(model="m", engine="scripted", at_ms=at_ms))
        await answer.write(AnswerDelta(text=f"I shall remember {self.mark}.", index=0))
        await course.write(TurnCompleted(at_ms=at_ms + 900))

    async def note(self, conversation: str, event: Event) -> str:
        """A fact outside of any turn; gives its id."""
        writer = StageWriter(self.bus, conversation, conversation, NOTE, 0, "turns/test")
        writer._seq = number = 1_000 + self._noted  # a note's place is made of its command
        self._noted += 1
        await writer.write(event)
        return f"{conversation}/{NOTE}/0/{number}"

    async def ask_the_store(self, store: PostgresStore) -> str:
        """What comes to the database by itself and not through the log. Gives the key."""
        key = await store.create_key(self.tenant, self.user, f"laptop of {self.mark}", ["chat"], T0_MS)
        await store.claim_submit(self.tenant, self.user, f"first-{self.mark}", self.conversations[0], T0_MS)
        [row] = [row for row in await store.keys(self.tenant) if row.user == self.user]
        assert (await store.admit(f"record-{self.number}", "0/1", row.key_id, 60, T0_MS)).wait_ms == 0
        assert await store.claim(self.turns[0], 0, f"hash-{self.mark}", 1, 500, "turns/test", T0_MS)
        return key


async def remembered(bus: MemoryBroker, store: PostgresStore) -> None:
    """A memory worker reads the log to its end. A model that is never asked is to read every turn."""
    mine = MemoryBus(bus)
    await mine.start()
    store.follow(mine.epoch)
    worker = MemoryWorker(mine, store, HashEmbedder(DIMENSIONS), model="reader", clock_ms=lambda: 0.0,
                          wall_ms=lambda: float(T0_MS), chance=lambda: 0.5)  # fmt: skip
    await worker.join()
    while await worker.step(wait_ms=1):
        pass
    await worker.flush()
    assert sum((await worker.lag()).values()) == 0
    await worker.stop()
    await mine.stop()


async def tables_of(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Every table there is, as the database says; one that is split counts once."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace ORDER BY relname"
    )
    return [row["relname"] for row in rows]


async def rows_with(dsn: str, traces: set[str]) -> dict[str, list[str]]:
    """Of every table, its rows that hold one of these words in one of their columns, as texts, sorted; tables without
    one are left out. Each column is looked at as the text that the database makes of it, vectors and bytes too."""
    connection = await asyncpg.connect(dsn)
    found: dict[str, list[str]] = {}
    try:
        for table in await tables_of(connection):
            texts = [row[0] for row in await connection.fetch(f"SELECT kept::text FROM {table} AS kept")]
            if rows := sorted(text for text in texts if any(trace in text.lower() for trace in traces)):
                found[table] = rows
    finally:
        await connection.close()
    return found


async def traces_of(dsn: str, teller: Teller) -> set[str]:
    """Everything by which this person could be known in the database: their word, the ids that were made for them, the
    hashes of their keys, their vectors."""
    connection = await asyncpg.connect(dsn)
    try:
        asked = (
            "SELECT id FROM memories WHERE member = $1", "SELECT embedding::text FROM memories WHERE member = $1",
            "SELECT embedding::text FROM examples WHERE member = $1", "SELECT key_id FROM api_keys WHERE member = $1",
            "SELECT encode(key_hash, 'hex') FROM api_keys WHERE member = $1", "SELECT id FROM habits WHERE member = $1",
        )  # fmt: skip
        rows = [row[0] for statement in asked for row in await connection.fetch(statement, teller.user)]
    finally:
        await connection.close()
    return {teller.mark, *teller.conversations, *teller.turns, *rows}
