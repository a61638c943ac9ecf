"""The owner of partitions: one loop over `turns` and `events` that never awaits work.

Records are taken in order and handed to machines, which are pure and quick; everything slow is an effect (effects.py)
on a task of its own, so a thousand waiting turns are a thousand small objects and no thread. What comes in on `turns`
opens, stops or steers turns; what comes in on `events` moves them on and keeps the view of the partition
(partition.py) from which a successor would go on.

Taking over a partition: read `events` from the saved position to its end; for every open turn write `turn.adopted`
with the next epoch; go on reading; when that very record comes by, whatever stands before it is the truth: restore the
machine from it and resume. Commands of the partition wait until its end was reached.

A submit is committed once its `turn.accepted` is acknowledged; `events` is committed up to the oldest open turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from memory.store import Store
from streams import ids
from streams.bus import Bus, GroupReader, Place, Reader, Start
from streams.codec import Record
from streams.dead_letters import dead_letter
from streams.errors import HeadstartError, PeerError, PeerUnavailable
from streams.events.calling import CallAnswered, CallFailed
from streams.events.recalling import HistoryMessage
from streams.events.turn import TurnAccepted, TurnAdopted
from streams.pulse import Pulse
from streams.taken import Taken
from streams.topology import EVENTS, TURNS
from workers.planning.commands import Called, CallHeard, Generated
from workers.planning.contest import is_foreign, ours_from
from workers.planning.doing import Doing, Later, Manifests, by_the_loop
from workers.planning.fact_desk import FactDesk
from workers.planning.holding import HeldPartition
from workers.planning.intake import PEER_PAUSE_S, Intake
from workers.planning.live import LiveTurn
from workers.planning.live import Place as Placement
from workers.planning.machine import Setup, TurnMachine
from workers.planning.measuring import measure
from workers.planning.metrics import Metrics
from workers.planning.outbox import Outbox
from workers.planning.partition import Seen
from workers.planning.past import Past
from workers.planning.restoring import restore, resume
from workers.planning.services import Check, check_service

log = logging.getLogger("headstart.turns")
GROUP = "turns"
COMMIT_EVERY_S = 0.5
RECORDS_AT_ONCE = 32  # taken before the loop's other work has its turn: 1 to 3 ms
CALLS_DRAIN_S = 5.0
Take = Callable[[HeldPartition, Record], Awaitable[None]]


class TurnOwner:
    """A turns worker. `start` joins the group; `stop` leaves it after the outbox is empty (open turns are adopted by
    whoever gets the partitions).

    setup_id: names what `setup` was made from (setups.py); turns carry it. clock_ms, draw, later, check: time, chance,
    timers and the checking of services' signatures, all of which a recording takes the place of. secret: what gateways
    sign their commands with (signing.command_secret); None believes every command that no service has signed. pulse:
    beats with the loop.
    """

    def __init__(
        self, bus: Bus, store: Store, setup: Setup, registry: Manifests,
        make_effects: Callable[[TurnOwner], Doing], *, place: Placement, writer: str, setup_id: str = "",
        clock_ms: Callable[[], float] = lambda: time.time() * 1000, draw: Callable[[int], bytes] = os.urandom,
        later: Later = by_the_loop, check: Check = check_service, secret: bytes | None = None,
        pulse: Pulse | None = None,
    ) -> None:  # fmt: skip
        self.bus, self.store, self.setup, self.registry = bus, store, setup, registry
        self.writer, self.clock_ms, self.setup_id = writer, clock_ms, setup_id
        self._later = later
        self._pulse = pulse or Pulse(lambda: time.monotonic() * 1000)
        self.partitions: dict[int, HeldPartition] = {}
        self.outbox = Outbox()
        self.metrics = Metrics()
        self._past = Past(bus, store)
        self._place = place
        self._effects = make_effects(self)
        self._group: GroupReader | None = None
        self._ends: Reader | None = None  # reads nothing: it is asked where the log ends
        self._leaving: list[LiveTurn] = []  # given away, with calls that still run here
        self._tasks: list[asyncio.Task[None]] = []
        self._intake = Intake(
            bus, store, setup, self.outbox, self._live, writer=writer, setup_id=setup_id, clock_ms=clock_ms, draw=draw,
            check=check, secret=secret, calls=self._effects.calls, metrics=self.metrics,
        )  # fmt: skip
        self._facts = FactDesk(
            bus, self._effects, setup, self.outbox, self._intake, writer=writer, clock_ms=clock_ms
        )  # fmt: skip

    @property
    def running(self) -> int:
        """Turns in progress."""
        return sum(len(partition.lives) for partition in self.partitions.values())

    @property
    def busy(self) -> bool:
        """Something it was given has not come to its end: a command, an effect, or a fact on its way to the bus."""
        lives = (live for partition in self.partitions.values() for live in partition.lives.values())
        busy = self._intake.busy or self._facts.busy or self.outbox.size > 0
        return busy or any(live.busy for live in lives)

    @property
    def forwarded(self) -> int:
        """Commands that lay on a wrong partition and were sent to theirs."""
        return self._intake.forwarded

    async def start(self) -> None:
        self._ends = await self.bus.reader(EVENTS.name, {})
        self._group = await self.bus.group((TURNS.name, EVENTS.name), GROUP, self._assigned, self._revoked)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.outbox.run()), loop.create_task(self._poll())]

    async def stop(self) -> None:
        """Commits, leaves the group, stops carrying turns. Safe to call twice."""
        if self._group is None:
            return
        group, self._group = self._group, None
        self._tasks[1].cancel()
        await asyncio.wait(self._tasks[1:])
        self._facts.close()
        for partition in self.partitions.values():
            for live in partition.lives.values():
                live.abandon()
        await self._let_calls_end()
        await self.outbox.drained()
        await self._commit(group)
        self._tasks[0].cancel()
        if self._ends is not None:
            await self._ends.close()
        await group.close()
        await asyncio.wait(self._tasks)

    async def _let_calls_end(self) -> None:
        """Calls in flight may end for a moment, since their results count; those that do not are the successor's."""
        flying = {task for live in self._every_live() for task in live.calls_in_flight}
        if flying:
            await asyncio.wait(flying, timeout=CALLS_DRAIN_S)
        for live in self._every_live():
            live.abandon(calls=True)

    def _every_live(self) -> list[LiveTurn]:
        held = [live for partition in self.partitions.values() for live in partition.lives.values()]
        return [*held, *self._leaving]

    async def failed(self) -> None:
        """Returns when the loops have ended; raises what ended them."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    # -- the loop --------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        group = self._group
        assert group is not None
        self._pulse.follow(group)
        commit_at = time.monotonic() + COMMIT_EVERY_S
        while True:
            for number, record in enumerate(await group.batch(), 1):
                if number % RECORDS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # timers, sockets and the outbox have their turn
                partition = self.partitions.get(record.partition)
                if partition is None:
                    continue
                if record.topic == EVENTS.name:
                    await self._until_done(self._fact, partition, record)
                elif not partition.begin(record.offset):
                    continue
                elif partition.caught_up:
                    await self._until_done(self._intake.take, partition, record)
                else:
                    partition.held.append(record)
            await self._go_on()
            self._pulse.beat()
            if time.monotonic() >= commit_at:
                await self._commit(group)
                commit_at = time.monotonic() + COMMIT_EVERY_S
                for partition in self.partitions.values():
                    partition.contested.update(partition.broken())

    async def _until_done(self, take: Take, partition: HeldPartition, record: Record) -> None:
        """A record is never skipped because a peer is away: nothing could be written meanwhile anyhow."""
        while True:
            try:
                await take(partition, record)
                return self._pulse.beat()
            except PeerError as error:
                log.warning("waiting for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)

    async def _go_on(self) -> None:
        """Measures partitions that were just assigned, and takes up those whose end was reached."""
        group = self._group
        assert group is not None
        behind = [partition for partition in self.partitions.values() if not partition.caught_up]
        unknown = [partition for partition in behind if partition.end_offset < 0]
        if unknown:
            try:
                assert self._ends is not None
                await measure(group, self._ends, unknown)
            except PeerError as error:
                log.warning("waiting for a peer: %s", error)
                return
        for partition in behind:
            if partition.next_offset >= partition.end_offset >= 0:
                await self._caught_up(partition)
        for partition in [one for one in self.partitions.values() if one.contested]:
            try:
                await self._contest(partition)
            except PeerError as error:
                log.warning("partition %d is contested: %s", partition.number, error)

    async def _commit(self, group: GroupReader) -> None:
        positions: dict[Place, int] = {}
        for number, partition in self.partitions.items():
            for topic, position in zip((TURNS, EVENTS), partition.positions(), strict=True):
                if position is not None:
                    positions[Place(topic.name, number)] = position
        if positions:
            try:
                await group.commit(positions)
            except HeadstartError as error:
                log.warning("positions were not committed; a successor will read further back: %s", error)

    # -- partitions ------------------------------------------------------------------------------------------------

    async def _revoked(self, places: frozenset[Place]) -> None:
        """Nothing stops yet: what comes back goes on; what does not is dropped in `_assigned`."""

    async def _assigned(self, places: frozenset[Place]) -> dict[Place, Start]:
        """Drops what is gone; what came back goes on where it stood, whatever was committed meanwhile."""
        starts: dict[Place, Start] = {}
        held = {place.partition for place in places}
        for number in set(self.partitions) - held:
            self._let_go(number)
        for number in held:
            known = self.partitions.get(number)
            if known is None:
                self.partitions[number] = HeldPartition(number, -1)
            else:
                if known.next_offset >= 0:
                    starts[Place(EVENTS.name, number)] = known.next_offset
                if known.commands.next is not None:
                    starts[Place(TURNS.name, number)] = known.commands.next
        return starts

    def _let_go(self, number: int) -> None:
        """Stops carrying the turns of a partition; calls in flight go on."""
        gone = self.partitions.pop(number)
        gone.given_away = True
        for live in gone.lives.values():
            live.abandon()
            self._leaving.append(live)
        self._leaving = [live for live in self._leaving if live.calls_in_flight]

    async def _contest(self, partition: HeldPartition) -> None:
        """Some turns cannot go on as they are (contest.py). Those that nobody carries are adopted; if one of our own is
        among them, the partition is taken up anew. Raises PeerError while it is not known to be ours."""
        group = self._group
        assert group is not None
        begin = await ours_from(group, partition)
        log.warning("partition %d: turns are taken up from the log again", partition.number)
        turns, partition.contested = partition.contested, set()
        if not turns & partition.view.owned:
            for turn in turns - partition.view.open.keys():
                partition.lives.pop(turn, None)
            self._adopt_open(partition)
            return
        self._let_go(partition.number)
        self.partitions[partition.number] = HeldPartition(partition.number, -1)
        for place, position in begin.items():
            await group.seek(place, position)

    async def _fact(self, partition: HeldPartition, record: Record) -> None:
        if partition.began_at < 0:
            partition.began_at = record.offset
        partition.read(record.offset)
        try:
            seen = partition.view.feed(record)
        except HeadstartError as error:
            await dead_letter(self.bus, record, error, "turns")
            return
        if seen is None:
            return
        if is_foreign(partition, seen, self.writer):
            partition.contested.add(seen.identity.subject)
        live = partition.lives.get(seen.identity.subject)
        if live is not None:
            self._follow(live, seen)
        elif isinstance(seen.event, TurnAdopted) and seen.source == self.writer:
            self._adopted(partition, seen)
        if seen.identity.subject not in partition.view.open:
            partition.ended(seen.identity.subject)
            if partition.caught_up:
                self._intake.open_next(partition, (record.key or b"").decode())
        if partition.caught_up:
            self._facts.read(partition, seen, (record.key or b"").decode())

    def _follow(self, live: LiveTurn, seen: Seen) -> None:
        """Facts of others that a running turn waits for; what this worker wrote its machine already knows."""
        stage = seen.identity.stage
        if stage in ("route", "plan", "answer"):
            live.deliver(Generated(stage, seen.identity.epoch, seen.event))
        elif stage.startswith("call."):
            call = int(stage.removeprefix("call."))
            if live.fired(call) and seen.source == self.writer:
                return  # it brings its outcome itself; one that an earlier life of the turn fired here does not
            if isinstance(seen.event, CallAnswered | CallFailed):
                live.settled_elsewhere(Called(seen.event, seen.identity.epoch))
            else:
                live.deliver(CallHeard(call))
        elif seen.source != self.writer and stage == "turn":
            live.abandon()  # a successor adopted the turn: the log says so

    async def _caught_up(self, partition: HeldPartition) -> None:
        """The end was reached: adopt what is open, then take the commands that waited."""
        partition.caught_up = True
        self._adopt_open(partition)
        self._facts.caught_up(partition)
        held, partition.held = partition.held, []
        for record in held:
            await self._until_done(self._intake.take, partition, record)

    def _adopt_open(self, partition: HeldPartition) -> None:
        """Writes `turn.adopted` for every open turn that nobody here carries, with the epoch after the one in force."""
        for turn, state in list(partition.view.open.items()):
            epoch = partition.view.fence.epoch(turn, "turn") + 1
            adopting = partition.adopting.get(turn)
            if turn not in partition.lives and (adopting is None or adopting.broken or adopting.writer.epoch < epoch):
                live = partition.adopting[turn] = self._live(state.accepted, epoch)
                live.publish(TurnAdopted(at_ms=int(self.clock_ms()), setup=self.setup_id))

    def _adopted(self, partition: HeldPartition, seen: Seen) -> None:
        """Our own `turn.adopted` came by: what stands before it is what the turn is."""
        turn = seen.identity.subject
        live, state = partition.adopting.pop(turn, None), partition.view.open.get(turn)
        if live is None or state is None or state.facts is None:
            return
        machine = TurnMachine(state.accepted, state.offset, self.setup)
        owed = restore(machine, state.facts[:-1], self.registry.every())
        state.facts = None
        partition.view.owned.add(turn)
        partition.lives[turn] = live
        now_ms = self.clock_ms()
        live.begin(machine, resume(machine, now_ms, owed), Taken("resume", now_ms))
        self._facts.resumed(partition, turn, state.accepted.conversation)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _live(self, accepted: TurnAccepted, epoch: int) -> LiveTurn:
        return LiveTurn(
            accepted, epoch, bus=self.bus, outbox=self.outbox, effects=self._effects, writer=self.writer,
            place=self._place, clock_ms=self.clock_ms, ended=self._forget, later=self._later,
        )  # fmt: skip

    def _forget(self, live: LiveTurn) -> None:
        self._effects.forget(live.accepted.turn)
        self._effects.calls.ended(live.accepted.turn)
        partition = self.partitions.get(ids.partition_of(live.accepted.conversation))
        if partition is not None:
            partition.forget(live)

    async def catch_up(self, accepted: TurnAccepted) -> None:
        """See doing.Doing. While the broker does not say where its log ends nobody is called silent."""
        partition = self.partitions.get(ids.partition_of(accepted.conversation))
        while partition is not None and self._ends is not None:
            try:
                return await partition.read_up_to(await self._ends.end_offset(partition.number))
            except PeerError as error:
                log.warning("waiting for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)

    async def history(self, accepted: TurnAccepted, turns: int) -> tuple[tuple[HistoryMessage, ...], int, str]:
        """See effects.Past."""
        return await self._past.history(self._held(accepted.conversation), accepted, turns)

    async def last_agent(self, conversation: str) -> str:
        """See effects.Past."""
        return await self._past.last_agent(self._held(conversation), conversation)

    async def began(self, accepted: TurnAccepted, turn: str) -> int | None:
        """See effects.Past."""
        return await self._past.began(self._held(accepted.conversation), accepted, turn)

    def _held(self, conversation: str) -> HeldPartition:
        partition = self.partitions.get(ids.partition_of(conversation))
        if partition is None:
            raise PeerUnavailable("the turn is another worker's now")
        return partition
