"""The port of everything that outlives a process beside the log: keys, conversations, claims, memories, skills.

`PostgresStore` (postgres.py) is the real one, `MemoryStore` (memory_store.py) lives in one process; both pass
tests/conformance/test_store.py. Every method is safe to call concurrently. A cancelled call has either happened whole
or not at all. Time is always an argument (milliseconds since the epoch); the store reads no clock.

Raises PeerUnavailable / PeerTimeout when the database can not be reached or does not answer, and InvalidInput
(`not_storable`) for a value that it can not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from memory.records import (
    Candidate,
    Change,
    ClaimRow,
    ConversationRow,
    History,
    KeyRow,
    Principal,
    TurnRow,
    Vector,
)
from memory.rows import Admission, Example, Experience, HabitRow, MessageRow, Reading, Unsummarised
from streams.events.recalling import HistoryMessage
from streams.events.registering import SkillManifest


class Store(Protocol):
    """See the module's text for what holds for all methods."""

    dimensions: int
    """Length of every vector stored and asked with; another length is refused with ValueError."""

    async def open(self) -> None:
        """Connects. Raises Misconfigured when the schema was made for vectors of another length."""

    async def close(self) -> None:
        """Waits for running calls and disconnects. The store may be opened again."""

    async def migrate(self) -> list[str]:
        """Brings the schema to this build's version and gives the names of the migrations that it applied, [] when
        there was nothing to do. Needs no `open`. Safe twice, and from several processes at once."""

    def follow(self, topic_epoch: int) -> None:
        """Says which log the positions are about: the epoch of `events` (Bus.epoch). Positions and offsets of another
        log are neither used nor lost. Call it once, before the first position is asked for."""

    # keys

    async def create_key(self, tenant: str, user: str, name: str, scopes: Sequence[str], now_ms: int) -> str:
        """A new API key in plain text, which only its caller will ever see; its SHA-256 is stored."""

    async def verify_key(self, key: str) -> Principal | None:
        """Who the key speaks for; None when it is unknown or revoked."""

    async def keys(self, tenant: str = "") -> list[KeyRow]:
        """Every key of a tenant ("": of all), oldest first, revoked ones too."""

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """False when there is no such key in force."""

    async def signing_secret(self, key_id: str) -> tuple[Principal, bytes] | None:
        """A key's SHA-256, with which both sides can sign (HMAC); None when it is unknown or revoked."""

    # conversations and turns

    async def claim_submit(self, tenant: str, user: str, event_id: str, conversation: str, now_ms: int) -> str:
        """The conversation that the first submit with this (tenant, user, event_id) opened: `conversation` for the
        first caller, the first caller's for everybody after."""

    async def conversation(self, conversation: str) -> ConversationRow | None:
        """None when it was never stored. Whether the caller may see it is the caller's to check."""

    async def conversations(self, tenant: str, user: str, limit: int, before: str = "") -> list[ConversationRow]:
        """The user's conversations that are not deleted, last used first. before: go on after this conversation."""

    async def turn(self, turn: str) -> TurnRow | None:
        """Where a turn is. None when it is not stored (yet)."""

    async def history(self, conversation: str, limit_turns: int) -> History:
        """The newest `limit_turns` turns that ended at or before the position it gives, those of a forked
        conversation's ancestors up to its `parent_turn` included. No turn for an unknown or deleted conversation."""

    # projection

    async def position(self, partition: int) -> int:
        """Offset up to which the partition is stored: every turn that ended at or before it is there. -1: nothing."""

    async def resume_offset(self, partition: int) -> int | None:
        """Where to begin to read so that every turn that was open at the position is seen whole; None: nothing is
        stored of this partition, so begin at its start."""

    async def project(
        self, partition: int, position: int, changes: Sequence[Change], resume: int | None = None
    ) -> bool:
        """Stores changes and the position in one transaction. resume: see `resume_offset`; None means position + 1.

        Changes at or before the position that is already stored are ignored, so a batch may be given twice or by two
        workers. False: the stored position was already at or past this one, and nothing was done.
        A turn's record is final once it has a terminal status. A deleted conversation and a forgotten member take
        nothing that was said before.
        """

    # recall

    async def recall(
        self,
        tenant: str,
        user: str,
        vector: Vector,
        text: str,
        limit: int,
        exclude_conversation: str = "",
        exclude_turns: Sequence[str] = (),
    ) -> list[Candidate]:
        """Up to 2 × `limit` memories of this user: the nearest by vector and the best by full text of `text`, each
        with its ranks. Left out: what has been superseded, memories of `exclude_conversation` and of `exclude_turns`.
        Unordered; memory.recall.rank decides."""

    async def memories(self, tenant: str, user: str, limit: int, conversation: str = "") -> list[Candidate]:
        """The user's memories, newest first, superseded ones too: what a person may see, correct and forget.
        conversation: only those that come from it."""

    async def known_memories(self, tenant: str, user: str, ids: Sequence[str]) -> list[Candidate]:
        """Those of these memories that the user has, superseded ones too, in no order."""

    # learning

    async def messages(self, turn: str) -> tuple[MessageRow, ...]:
        """What was said and done in a turn, in order; () for an unknown one."""

    async def unsummarised(self, conversations: Sequence[str]) -> dict[str, Unsummarised]:
        """Of each conversation that has ended turns: how many its summary does not hold yet, and that summary."""

    async def oldest_turns(self, conversation: str, limit: int) -> list[HistoryMessage]:
        """The first `limit` ended turns after those that the conversation's summary holds, oldest first."""

    async def examples(self, tenant: str, user: str, vector: Vector, limit: int) -> list[Example]:
        """Answers rated good to the questions nearest to `vector`, nearest first: the user's own, and those that
        others of the tenant share."""

    async def habits(self, tenant: str, user: str) -> list[HabitRow]:
        """What the user does again and again, last seen first; muted and corrected ones too."""

    async def experience(self, tenant: str, user: str) -> Experience:
        """`habits`, and whether `examples` can find anything at all, in one round trip: every turn asks for it."""

    async def readings(self, partitions: Sequence[int], limit: int) -> list[Reading]:
        """Turns of these partitions that a model is still to read, oldest first."""

    async def asked(self, turn: str, step: str, epoch: int, at_ms: int) -> None:
        """A model was asked to read the turn, for the `epoch`-th time. Nothing happens when it is not waited for."""

    async def unread(self, turn: str, step: str) -> None:
        """Nobody is asked to read the turn any more."""

    # calls

    async def claim(
        self, turn: str, call: int, argument_hash: str, number: int, lease_ms: int, writer: str, now_ms: int
    ) -> bool:
        """Whether the caller may send the call. A claim is won by the first; a higher number wins once the lease of
        the one before is over, or it was settled for other arguments. Asking again with the same number, writer and
        arguments, while not settled, gives True and renews the lease."""

    async def settle(self, turn: str, call: int, number: int, outcome: str) -> bool:
        """Writes a claim's outcome ("answered" | "failed" | "voided" | "in_doubt"). False when the claim is not the
        newest or was settled differently."""

    async def claimed(self, turn: str, call: int) -> ClaimRow | None:
        """The newest claim of a call."""

    # services

    async def admit(self, record: str, place: str, key_id: str, per_minute: int, now_ms: int) -> Admission:
        """Takes a service's record at a place of `turns`, once, and charges it to its key: a bucket that all workers
        share and that fills by `per_minute` a minute, up to as many. The same record at the same place gets the same
        answer again and costs nothing."""

    async def forget_records(self, before_ms: int) -> int:
        """Forgets the records that were taken before a time, and gives how many. Their keys' quotas stay."""

    # skills

    async def upsert_skill(self, manifest: SkillManifest, vector: Vector) -> None:
        """Makes `manifest` the version of its name that is found by likeness."""

    async def withdraw_skill(self, name: str) -> None:
        """The skill is no longer found. Nothing happens when it is unknown."""

    async def nearest_skills(self, tenant: str, vector: Vector, limit: int) -> list[tuple[str, float]]:
        """(name@version, cosine) of the skills this tenant may use, best first."""
