"""Stub mode: the real turn owner run again on a recording's inputs, on a bus in memory.

Each conversation runs alone, and each owner of it (one that took over began anew) with what stood in the log before
its first fact. The inputs are fed in the order in which the owner took them in (streams/taken.py), each at its
recorded time: commands, deltas as they were cut, results, recalled texts, timers, claims. What the owner writes then
is what compare.py holds against the recording.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from headstart.replay.commands import Commands, accepted_notes
from headstart.replay.inputs import first_of, is_outcome, older, queues, routed, unsaid, waits_for
from headstart.replay.recording import Recording
from headstart.replay.standins import Clock, RecordedCalls, RecordedEffects, RecordedManifests, Timers
from headstart.replay.stepping import SteppedBus
from headstart.replay.turns import ConversationLog, Fact, Replayed, Segment, TurnLog, conversations
from memory.memory_store import MemoryStore
from memory.store import Store
from streams import ids
from streams.codec import Record, decode, decode_as, identity
from streams.errors import NotFound, NotPermitted, OurError
from streams.events.calling import ApprovalAsked, CallAnswered, CallFailed
from streams.events.conversation import ConversationOpened, FactTaken
from streams.events.intake import FactPublish, TurnSubmit
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.registering import SkillManifest
from streams.events.turn import TurnAccepted, TurnFailed
from streams.fence import NOTE
from streams.memory_bus import MemoryBroker
from streams.taken import Taken
from streams.topology import EVENTS
from workers.planning.commands import ApprovalsFound, Called, Discovered, Recollected, Routed
from workers.planning.live import DEFECT, LiveTurn
from workers.planning.machine import Setup
from workers.planning.notes import note_number
from workers.planning.owner import TurnOwner
from workers.planning.setups import setup_from

EARLY_MS: Final = 50.0  # a timer may fire a little before its time: the wall clock and the loop's clock are two
Setups = Callable[[str], Setup]
Pace = Callable[[float], Awaitable[None]]
"""Waits until a moment of the recording is due."""


def recorded_setups(recording: Recording, otherwise: Setup | None = None) -> Setups:
    """The setups that a recording carries. otherwise: for turns whose setup was not written down; without it they
    raise NotFound (`setup_missing`)."""
    made: dict[str, Setup] = {}

    def find(name: str) -> Setup:
        if name not in made:
            event = recording.setups.get(name)
            if event is not None:
                made[name] = setup_from(event, recording.prompts)
            elif otherwise is not None:
                return otherwise
            else:
                raise NotFound(
                    f"the recording has no setup {name!r}", code="setup_missing",
                    hint="agents and models of this build can stand in: --setup here",
                )  # fmt: skip
        return made[name]

    return find


async def replay_stub(
    recording: Recording, setups: Setups | None = None, pace: Pace | None = None
) -> dict[str, Replayed]:
    """Runs every conversation of a recording again and gives what its owners wrote, by conversation. pace: waits for
    the recorded times, conversations side by side; None is as fast as it goes."""
    setups = setups or recorded_setups(recording)
    logs = {name: log for name, log in conversations(recording.events, recording.commands).items() if log.turns}
    manifests = recording.manifests
    if pace is None:
        return {name: await replay_conversation(log, manifests, setups) for name, log in logs.items()}
    again = [replay_conversation(log, manifests, setups, pace) for log in logs.values()]
    return dict(zip(logs, await asyncio.gather(*again), strict=True))


async def replay_conversation(
    log: ConversationLog, manifests: Mapping[str, SkillManifest], setups: Setups, pace: Pace | None = None
) -> Replayed:
    """One conversation, owner after owner."""
    replayed, commands = Replayed(), Commands(log)
    for segment in log.segments:
        session = _Session(log, segment, commands, RecordedManifests(manifests), setups(segment.setup), replayed, pace)
        await session.run()
    return replayed


class _Session:
    """One owner's part of one conversation."""

    def __init__(
        self, log: ConversationLog, segment: Segment, commands: Commands, manifests: RecordedManifests, setup: Setup,
        replayed: Replayed, pace: Pace | None,
    ) -> None:  # fmt: skip
        self._log, self._segment, self._commands, self._manifests = log, segment, commands, manifests
        self._replayed, self._pace = replayed, pace
        self._course: list[Record] = []
        self._clock, self._bucket = Clock(), 0
        broker = MemoryBroker(log.partition + 1, now_ms=lambda: int(self._clock.now_ms))
        self._bus = SteppedBus(broker, log.partition)
        self._calls = RecordedCalls(log.turns, segment.writer, self._clock)
        self._effects = RecordedEffects(self._calls)
        self._fed = {fact.record.offset for fact in segment.facts}
        self._queues = queues(log, segment)
        self._seen = self._noted = 0
        self._unheard: dict[str, Record] = {}  # written by the owner and not read yet (inputs.py)
        self._owner = TurnOwner(
            self._bus, MemoryStore(dimensions=1), setup, manifests, lambda _: self._effects,
            place=lambda request: ids.partition_of(request.conversation), writer=segment.writer,
            setup_id=segment.setup, clock_ms=self._clock, draw=lambda size: self._bucket.to_bytes(size, "big"),
            later=Timers(), check=self._check,
        )  # fmt: skip

    async def run(self) -> None:
        await self._bus.start()
        await self._owner.start()
        watch = asyncio.create_task(self._watch())
        try:
            await self._begin()
            for fact in self._segment.facts:
                if self._pace is not None:
                    await self._pace(fact.record.timestamp_ms)
                await self._fact(fact)
            for turn in self._log.turns.values():
                for entry in unsaid(turn, self._segment):
                    self._clock.now_ms = entry.at_ms
                    await self._feed(turn, entry)
                    await self._settle()
            await self._settle()
            if self._segment.last:
                for record in self._commands.rest():
                    await self._give([record])
        finally:
            watch.cancel()
            await self._owner.stop()
            await self._bus.stop()
        self._collect()

    async def _watch(self) -> None:
        """An owner that gave up takes nothing more: the replay ends with what ended it."""
        try:
            await self._owner.failed()
        except Exception as error:
            self._bus.stepped.end(error)
        else:
            self._bus.stepped.end(OurError("the owner ended before the recording did"))

    # -- steps -----------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """The owner reads what it found, and adopts what was open."""
        first = self._segment.facts[0].event
        before = self._log.before(self._segment.first)
        broker, events = self._bus.broker, []
        for record in before:
            self._clock.now_ms = record.timestamp_ms
            offset = broker.append(EVENTS.name, record.partition, record.key, record.value, record.headers)
            events.append(msgspec.structs.replace(record, offset=offset))
        self._clock.now_ms, self._bucket = float(getattr(first, "at_ms", 0)), getattr(first, "bucket", 0)
        self._seen = self._noted = len(before)
        if not before and isinstance(first, TurnAccepted):
            self._know(first)
        await self._bus.stepped.give(events)
        await self._settle()

    def _know(self, first: TurnAccepted) -> None:
        """What the owner knew of the conversation from before the recording begins."""
        log = self._log.turns[first.turn]
        opened = any(isinstance(fact.event, ConversationOpened) for fact in log.facts)
        ours = not any(isinstance(fact.event, TurnFailed) and fact.event.code == "not_permitted" for fact in log.facts)
        if not opened:
            tail = self._owner.partitions[self._log.partition].view.tail(first.conversation)
            tail.tenant, tail.user = (first.tenant, first.user) if ours else ("somebody", "else")
            tail.last_turn, tail.last_offset = first.previous_turn, first.previous_offset

    async def _fact(self, fact: Fact) -> None:
        """Feeds what led to one recorded fact."""
        event = fact.event
        if isinstance(event, TurnAccepted):
            self._clock.now_ms, self._bucket = float(event.at_ms), event.bucket
            await self._release(event.turn)
            if event.turn not in self._written() and (record := self._commands.submit(event)) is not None:
                await self._give([record])
        elif isinstance(event, FactTaken) and fact.identity.stage == NOTE:
            self._clock.now_ms = float(event.at_ms)
            await self._hear(event.fact, event.agent)
        elif fact.identity.stage == NOTE:
            self._clock.now_ms = float(getattr(event, "at_ms", 0))
            if not self._owner.partitions[self._log.partition].view.tail(fact.identity.subject).tenant:
                await self._flush()  # whose the conversation is stands in what the owner wrote
            if (record := self._commands.note(fact)) is not None:
                await self._give([record])
            else:
                self._problem(fact.identity.subject, "the command of a fact about the conversation is not recorded")
        for entry in fact.taken:
            self._clock.now_ms = entry.at_ms
            await self._feed(self._log.turns[fact.identity.subject], entry)
            await self._settle()

    async def _feed(self, turn: TurnLog, entry: Taken) -> None:
        name = turn.turn
        match entry.kind:
            case "begin":
                return
            case "resume":
                await self._flush()
            case "routed":
                self._deliver(name, "look", routed(turn, self._segment, entry))
            case "recollected":
                found = first_of(turn, Recalled, self._segment)
                recalled = found or Recalled(items=(), history=(), at_ms=int(entry.at_ms))
                self._deliver(name, "look", Recollected(recalled))
            case "discovered":
                self._discovered(turn)
            case "approvals":
                self._approvals(turn, entry)
            case "generated":
                await self._records(turn, f"{entry.name}/{entry.number}", entry.count, entry)
            case "called":
                await self._called(turn, entry)
            case "heard":
                await self._heard(turn, entry)
            case "cancelled":
                await self._give([self._commands.cancel(turn, entry)])
            case "fact":
                await self._hear(entry.name)
            case "tick":
                self._tick(name, entry)
            case "broken":
                self._broken(name, entry)
            case _:
                self._problem(name, f"an input of a kind unknown to this build: {entry.kind}")

    async def _records(self, turn: TurnLog, queue: str, count: int, entry: Taken) -> None:
        """The next recorded facts of a stage come by."""
        waiting = self._queues[turn.turn].get(queue, deque())
        records = [waiting.popleft().record for _ in range(min(count, len(waiting)))]
        if len(records) < count:
            self._problem(turn.turn, f"{entry.kind} {queue}: {count - len(records)} facts are not in the recording")
        await self._give(records)

    async def _heard(self, turn: TurnLog, entry: Taken) -> None:
        """Another worker's sign of life, or one of an earlier life of the turn here; its own it does not hear."""
        queue, live = self._queues[turn.turn].get(f"call.{entry.number}", deque()), self._live(turn.turn)
        own = live is not None and live.fired(entry.number)
        while queue and (is_outcome(queue[0]) or (own and queue[0].source == self._segment.writer)):
            queue.popleft()
        await self._records(turn, f"call.{entry.number}", 1, entry)

    async def _called(self, turn: TurnLog, entry: Taken) -> None:
        queue = self._queues[turn.turn].get(f"call.{entry.number}", deque())
        while queue and (not is_outcome(queue[0]) or older(queue[0], entry)):
            queue.popleft()
        if not queue:
            self._problem(turn.turn, f"the outcome of call {entry.number} is not in the recording")
        elif queue[0].source != self._segment.writer or (turn.turn, entry.number) not in self._calls.waiting:
            await self._give([queue.popleft().record])  # of another worker, or of an earlier life of the turn here
        else:
            event = queue.popleft().event
            assert isinstance(event, CallAnswered | CallFailed)
            deliver, writer = self._calls.waiting[(turn.turn, entry.number)]
            deliver(Called(event, entry.claim))
            _ = await writer.post(event)

    def _discovered(self, turn: TurnLog) -> None:
        event = first_of(turn, SkillsDiscovered, self._segment)
        if event is None:
            self._problem(turn.turn, "what was discovered is not in the recording")
            return
        known = self._manifests.every()
        missing = [row.skill for row in event.skills if row.skill not in known]
        if missing:
            self._problem(turn.turn, f"manifests are not in the recording: {', '.join(missing)}")
        manifests = tuple(known[row.skill] for row in event.skills if row.skill in known)
        self._deliver(turn.turn, "discover", Discovered(event, manifests))

    def _approvals(self, turn: TurnLog, entry: Taken) -> None:
        wanted = set(entry.detail.split())
        asked = tuple(
            fact.event
            for log in self._log.turns.values()
            for fact in log.facts
            if isinstance(fact.event, ApprovalAsked) and fact.event.request in wanted
        )
        if len(asked) < len(wanted):
            self._problem(turn.turn, "an approval request that was answered is not in the recording")
        known = self._manifests.every()
        manifests = {event.skill: known[event.skill] for event in asked if event.skill in known}
        self._deliver(turn.turn, "approvals", ApprovalsFound(asked, manifests))

    def _tick(self, turn: str, entry: Taken) -> None:
        live = self._live(turn)
        if live is None or live.wake_at_ms < 0:
            self._problem(turn, "a timer fired in the recording, and none was set")
        elif live.wake_at_ms > entry.at_ms + EARLY_MS:
            late_ms = live.wake_at_ms - entry.at_ms
            self._problem(turn, f"a timer fired in the recording {late_ms:,.0f} ms before the time it is set for now")
        else:
            live.wake()

    def _broken(self, turn: str, entry: Taken) -> None:
        live = self._live(turn)
        if live is not None and live.machine is not None:
            live.carry_out(live.machine.fail(entry.name, DEFECT, entry.at_ms))

    def _deliver(self, turn: str, asked: str, item: Routed | Recollected | Discovered | ApprovalsFound) -> None:
        deliver = self._effects.waiting.get((turn, asked))
        if deliver is None:
            self._problem(turn, f"{type(item).__name__} was recorded, and nothing asked for it")
        else:
            deliver(item)

    def _live(self, turn: str) -> LiveTurn | None:
        return self._owner.partitions[self._log.partition].lives.get(turn)

    async def _give(self, records: Sequence[Record]) -> None:
        self._course += [record for record in records if record.topic == EVENTS.name]
        await self._bus.stepped.give(list(records))
        await self._settle()

    async def _flush(self) -> None:
        """What the owner wrote comes back to it, as it does on a bus; what waits for something, with that."""
        while own := self._events()[self._seen :]:
            self._seen += len(own)
            self._unheard |= {name: record for record in own if (name := waits_for(record))}
            await self._bus.stepped.give([record for record in own if not waits_for(record)])
            await self._settle()

    async def _release(self, name: str) -> None:
        """What of the owner's own waited for this (inputs.py) comes back to it."""
        await self._flush()
        await self._bus.stepped.give([self._unheard.pop(name)] if name in self._unheard else [])
        await self._settle()

    async def _hear(self, fact: str, agent: str | None = None) -> None:
        """The owner comes to read a service's fact. agent: whose policy decides about it, where no turn does."""
        await self._release(fact)
        self._effects.decided(fact, agent)
        await self._settle()

    async def _settle(self) -> None:
        """Lets everything that was begun come to its end; none of it waits for anything."""
        await asyncio.sleep(0)
        while self._owner.busy:  # noqa: ASYNC110 - an owner has no event for it, and is never idle for long
            await asyncio.sleep(0)
        written = self._events()
        self._course += written[self._noted :]
        self._noted = len(written)

    def _events(self) -> list[Record]:
        return self._bus.broker.log_of(EVENTS.name, self._log.partition).records

    def _written(self) -> set[str]:
        return {identity(record).subject for record in self._events()[self._found :]}

    @property
    def _found(self) -> int:
        return len(self._log.before(self._segment.first))

    def _collect(self) -> None:
        records = self._events()
        begins = {identity(record).subject: record.offset for record in records if record.type == TurnAccepted.TYPE}
        for record in records[self._found :]:
            self._replayed.facts.setdefault(identity(record).subject, []).append(self._placed(record, begins))
        self._replayed.course += [self._placed(record, begins) for record in self._course]

    def _placed(self, record: Record, begins: Mapping[str, int]) -> Record:
        """A fact with the offset it names as the recording has it: the log of a replay counts from 0."""
        if record.type != TurnAccepted.TYPE:
            return record
        event = decode_as(record, TurnAccepted)
        previous = self._log.turns.get(event.previous_turn)
        if previous is None or begins.get(event.previous_turn) != event.previous_offset:
            return record
        event = msgspec.structs.replace(event, previous_offset=previous.offset)
        return msgspec.structs.replace(record, value=msgspec.json.encode(event))

    async def _check(self, store: Store, record: Record, tenant: str) -> str:
        """A service's command was accepted if the recording has what came of it; its key is not needed again."""
        event = decode(record)
        accepted = event.turn in self._log.turns if isinstance(event, TurnSubmit) else False
        if isinstance(event, FactPublish):
            accepted = note_number(record.event_id) in accepted_notes(self._log.notes)
        if not accepted:
            raise NotPermitted("the recording has no outcome of this command")
        return ""

    def _problem(self, turn: str, words: str) -> None:
        self._replayed.problems.setdefault(turn, []).append(words)
