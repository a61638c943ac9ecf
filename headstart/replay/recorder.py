"""A recording taken from the log: turns chosen by time, conversation or id, with everything that they name."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Final

import msgspec

from headstart.replay.recording import Head, Recording
from headstart.replay.turns import ConversationLog, conversations
from streams import ids
from streams.bus import DEFAULT_WAIT_MS, Bus
from streams.codec import Record, decode
from streams.errors import HeadstartError
from streams.events.base import PromptRef
from streams.events.calling import ApprovalAsked, CallClosed
from streams.events.conversation import MemberForgotten
from streams.events.generating import ModelAsked
from streams.events.recalling import SkillsDiscovered
from streams.events.registering import PromptRegistered, SetupRegistered, SkillRegistered
from streams.events.turn import TurnAccepted, TurnAdopted
from streams.schemas import schemas
from streams.topology import EVENTS, PROMPTS, SKILLS, TURNS
from workers.planning.setups import prompt_refs

LAST_WAIT_MS: Final = 100  # for what stands behind the end that was named
COMMANDS_BEFORE_MS: Final = 10 * 60_000  # how long a submit may have waited before its turn was accepted


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which turns: those accepted from since_ms on and before until_ms (-1: open), of these conversations, users and
    turns (empty: of all)."""

    since_ms: int = -1
    until_ms: int = -1
    conversations: frozenset[str] = frozenset()
    turns: frozenset[str] = frozenset()
    tenant: str = ""
    user: str = ""

    @property
    def partitions(self) -> set[int] | None:
        """The only partitions that can have them; None for all."""
        named = [*self.conversations, *self.turns]
        return {ids.partition_of(name) for name in named} if named else None

    @property
    def from_ms(self) -> int:
        """The earliest time at which one of them can stand in the log."""
        if self.turns:
            return max(self.since_ms, min(ids.time_of(turn) for turn in self.turns))
        return self.since_ms

    def takes(self, accepted: TurnAccepted, time_ms: int) -> bool:
        return (
            (self.since_ms < 0 or time_ms >= self.since_ms)
            and (self.until_ms < 0 or time_ms < self.until_ms)
            and (not self.conversations or accepted.conversation in self.conversations)
            and (not self.turns or accepted.turn in self.turns)
            and (not self.tenant or accepted.tenant == self.tenant)
            and (not self.user or accepted.user == self.user)
        )


async def record(bus: Bus, selection: Selection, *, now_ms: int, origin: str = "") -> Recording:
    """Reads the topics as they stand now; joins no group and commits nothing. A turn that began in the span is taken
    to its end, as far as the log has it. Raises what the bus raises."""
    partitions = sorted(selection.partitions or range(bus.partitions))
    events = await read_topic(bus, EVENTS.name, partitions, selection.from_ms)
    before_ms = max(0, selection.from_ms - COMMANDS_BEFORE_MS) if selection.from_ms >= 0 else -1
    commands = await read_topic(bus, TURNS.name, partitions, before_ms)
    registries = [*await read_topic(bus, PROMPTS.name, [0], -1), *await read_topic(bus, SKILLS.name, [0], -1)]
    head = Head(
        made_at_ms=now_ms, origin=origin, epoch=bus.epoch, partitions=bus.partitions, since_ms=selection.since_ms,
        until_ms=selection.until_ms,
    )  # fmt: skip
    return choose(Recording(head, [*registries, *commands, *events]), selection)


def choose(recording: Recording, selection: Selection) -> Recording:
    """The part of a recording that a selection takes: those turns, what was said about their conversations, the
    commands that were sent to them, and of the registries what they name. What was said by a member who was forgotten
    since is left out, as in every projection."""
    logs = conversations(recording.events, recording.commands)
    forgotten = _forgotten(logs.values())
    taken: list[Record] = []
    chosen: dict[str, ConversationLog] = {}
    for name, log in logs.items():
        turns = {
            turn.turn: turn for turn in log.turns.values()
            if selection.takes(turn.accepted, turn.facts[0].record.timestamp_ms)
            and turn.accepted.at_ms > forgotten.get((turn.accepted.tenant, turn.accepted.user), -1)
        }  # fmt: skip
        if not turns:
            continue
        subjects = {*turns, name}
        taken += [record for record in log.commands if _about(record, subjects)]
        taken += [record for record in log.records if record.event_id.partition("/")[0] in subjects]
        log.turns = turns
        chosen[name] = log
    named, missing = _named(chosen.values(), recording)
    records = [*named, *sorted(taken, key=lambda record: (record.topic, record.partition, record.offset))]
    known = schemas()
    head = msgspec.structs.replace(
        recording.head, turns=sum(len(log.turns) for log in chosen.values()), missing=tuple(sorted(missing))
    )
    return Recording(head, records, {kind: known[kind] for kind in {r.type for r in records} if kind in known})


async def read_topic(bus: Bus, topic: str, partitions: Collection[int], from_ms: int) -> list[Record]:
    """What a topic holds now, from a time on (-1: all of it)."""
    return [record async for record in follow(bus, topic, partitions, from_ms)]


async def follow(bus: Bus, topic: str, partitions: Collection[int], from_ms: int) -> AsyncIterator[Record]:
    """The records of a topic from a time on (-1: from its beginning), to where it ends now."""
    reader = await bus.reader(topic, {})
    try:
        starts: dict[int, int] = {}
        for partition in partitions:
            if from_ms < 0:
                starts[partition] = await reader.start_offset(partition)
            elif (start := await reader.offset_for_time(partition, from_ms)) is not None:
                starts[partition] = start
    finally:
        await reader.close()
    async for record in read_to_end(bus, topic, starts):
        yield record


async def read_to_end(bus: Bus, topic: str, starts: Mapping[int, int]) -> AsyncIterator[Record]:
    """The records from these offsets on, to where each partition ends now.

    The in-memory broker says of a batch only where its first record is, so the end it names may lie before the last
    records: reading goes on until nothing comes, or only what was written since.
    """
    began_ms = time.time_ns() // 1_000_000
    reader = await bus.reader(topic, {})
    try:
        ends: dict[int, int] = {}
        for partition, start in starts.items():
            end = await reader.end_offset(partition)
            if start < end:
                ends[partition] = end
                await reader.add(partition, start)
        newer = not ends
        while not newer:
            behind = any(reader.position(partition) < end for partition, end in ends.items())
            records = await reader.batch(wait_ms=DEFAULT_WAIT_MS if behind else LAST_WAIT_MS)
            newer = not behind and (not records or records[-1].timestamp_ms > began_ms)
            for record in records:
                if record.offset < ends[record.partition] or record.timestamp_ms <= began_ms:
                    yield record
    finally:
        await reader.close()


def _forgotten(logs: Iterable[ConversationLog]) -> dict[tuple[str, str], int]:
    """Members who were forgotten, as (tenant, user), and when."""
    events = [fact.event for log in logs for fact in log.notes if isinstance(fact.event, MemberForgotten)]
    return {(event.tenant, event.user): event.at_ms for event in sorted(events, key=lambda event: event.at_ms)}


def _about(record: Record, subjects: Collection[str]) -> bool:
    """A command for one of these turns or conversations, also one that no reader understands."""
    try:
        fields = msgspec.json.decode(record.value)
    except msgspec.DecodeError:
        return False
    if not isinstance(fields, dict):
        return False
    turn = fields.get("turn")
    return turn in subjects or fields.get("successor") in subjects or (turn is None and "conversation" in fields)


def _named(logs: Iterable[ConversationLog], recording: Recording) -> tuple[list[Record], set[str]]:
    """The registries' records that these turns name, each once, and the names of what is not there."""
    setups, prompts, skills = _names(logs)
    for name in setups:
        if (event := recording.setups.get(name)) is not None:
            prompts |= prompt_refs(event)
    wanted: dict[str, Record] = {}
    for record in [*recording.on(PROMPTS.name), *recording.on(SKILLS.name)]:
        key = _registered(record, setups, prompts, skills)
        if key:
            wanted.setdefault(key, record)
    names = {*(f"setup/{name}" for name in setups), *(f"{ref.id}@{ref.version}" for ref in prompts), *skills}
    return list(wanted.values()), names - wanted.keys()


def _names(logs: Iterable[ConversationLog]) -> tuple[set[str], set[PromptRef], set[str]]:
    setups: set[str] = set()
    prompts: set[PromptRef] = set()
    skills: set[str] = set()
    for turn in (turn for log in logs for turn in log.turns.values()):
        for fact in turn.facts:
            event = fact.event
            if isinstance(event, TurnAccepted | TurnAdopted) and event.setup:
                setups.add(event.setup)
            elif isinstance(event, ModelAsked):
                prompts.add(event.prompt)
            elif isinstance(event, SkillsDiscovered):
                skills.update(row.skill for row in event.skills)
            elif isinstance(event, CallClosed | ApprovalAsked) and "@" in event.skill:
                skills.add(event.skill)
    return setups, prompts, skills


def _registered(record: Record, setups: set[str], prompts: set[PromptRef], skills: set[str]) -> str:
    """The name under which a registry's record is wanted, "" when it is not."""
    if record.type not in _REGISTERED:
        return ""
    try:
        event = decode(record)
    except HeadstartError:
        return ""
    if isinstance(event, SetupRegistered):
        return f"setup/{event.id}" if event.id in setups else ""
    if isinstance(event, PromptRegistered):
        return f"{event.id}@{event.version}" if PromptRef(event.id, event.version) in prompts else ""
    assert isinstance(event, SkillRegistered)
    return event.manifest.id if event.manifest.id in skills else ""


_REGISTERED: Final[Mapping[str, type]] = {
    kind.TYPE: kind for kind in (SetupRegistered, PromptRegistered, SkillRegistered)
}
