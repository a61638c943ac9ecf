"""What comes in on `turns`: submits open turns, the rest reaches turns that run.

Rules: one turn of a conversation runs at a time, the others wait in the order they came (`on_busy` says otherwise);
a submit that is known is dropped; a submit is done (its offset may be committed) once its `turn.accepted` is
acknowledged; a cancel, a steer and an approval never wait behind the turn they are about. Whoever may not touch a
conversation is refused here too, whatever the gateway thought.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode
from streams.dead_letters import dead_letter
from streams.errors import HeadstartError, InvalidInput, NotPermitted, PeerError, Refused
from streams.events import Event, InputItem
from streams.events.conversation import ConversationOpened
from streams.events.intake import CallResult, FactPublish, TurnCancel, TurnSteer, TurnSubmit
from streams.events.turn import TurnAccepted, TurnFailed
from streams.fence import NOTE
from streams.taken import Taken
from streams.topology import EVENTS, TURNS
from workers.planning.addressing import address, addressed_to
from workers.planning.commands import Cancelled
from workers.planning.doing import Calls
from workers.planning.holding import HeldPartition
from workers.planning.live import LiveTurn
from workers.planning.machine import Setup, TurnMachine
from workers.planning.metrics import Metrics
from workers.planning.notes import Noted, note_number, note_of
from workers.planning.outbox import Outbox
from workers.planning.partition import Tail
from workers.planning.past import Past
from workers.planning.service_desk import ServiceDesk
from workers.planning.services import Check, from_gateway, from_service
from workers.planning.steering import successor
from workers.planning.taking import ORIGIN

log = logging.getLogger("headstart.turns")
DEADLINE_MS: Final = 120_000  # of a turn whose submitter named none
QUEUED_PER_CONVERSATION: Final = 16
PEER_PAUSE_S: Final = 0.5
MakeLive = Callable[[TurnAccepted, int], LiveTurn]


class Intake:
    """The command side of one owner. make_live: a turn's shell, for an accepted turn and an epoch of stage "turn"."""

    def __init__(
        self, bus: Bus, store: Store, setup: Setup, outbox: Outbox, make_live: MakeLive, *, writer: str,
        setup_id: str, clock_ms: Callable[[], float], draw: Callable[[int], bytes], check: Check,
        secret: bytes | None, calls: Calls, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._setup_id, self._secret, self._metrics = setup_id, secret, metrics
        self._bus, self._store, self._setup, self._outbox = bus, store, setup, outbox
        self._make_live, self._writer, self._clock_ms, self._draw = make_live, writer, clock_ms, draw
        self._past = Past(bus, store)
        self._desk = ServiceDesk(store, self._past, check, calls, metrics)
        self._background: set[asyncio.Task[None]] = set()
        self.forwarded = 0  # commands that lay on a wrong partition

    @property
    def busy(self) -> bool:
        """A command was taken and is not done."""
        return bool(self._background)

    async def take(self, partition: HeldPartition, record: Record) -> None:
        """One command. Returns once it is done or on its way; raises PeerError only when the bus is away."""
        vouched = False  # a gateway has said it
        try:
            vouched = from_gateway(record, self._secret)
            event = addressed_to(decode(record), record)
            if not vouched and not from_service(event):
                raise NotPermitted("only a gateway says this", code="signature_missing", type=record.type)
            if isinstance(event, FactPublish) and not event.conversation:
                self._spawn(self._addressed(partition, event, record))
                return
            if await self._forwarded(partition, event, record):
                return
        except PeerError:
            raise
        except HeadstartError as error:
            await self._poison(partition, record, error, ends=vouched)
            return
        if from_service(event):
            self._spawn(self._from_service(partition, event, record))
        else:
            await self._apply(partition, event, record)

    async def _apply(self, partition: HeldPartition, event: Event, record: Record) -> None:
        try:
            if isinstance(event, TurnSubmit):
                self._submit(partition, event, record.offset)
            elif isinstance(event, TurnSteer):
                self._steer(partition, event, record.offset)
            elif isinstance(event, TurnCancel):
                self._cancel(partition, event.turn, event.tenant, event.user, Cancelled(event.reason))
                partition.finish_with(event.turn, record.offset)
            elif isinstance(event, Noted):
                self._check(partition, event.conversation, event.tenant, event.user)
                self._spawn(self._note(partition, event, record))
            else:
                raise InvalidInput(f"{record.type} is not a command for turns", code="unexpected_event")
        except HeadstartError as error:
            await self._poison(partition, record, error)

    async def _from_service(self, partition: HeldPartition, event: Event, record: Record) -> None:
        """Checks a service's record beside the loop: it needs Postgres, and nobody else waits for that."""
        while True:
            try:
                signer = await self._desk.signer(partition, event, record)
                if isinstance(event, CallResult):
                    return self._desk.result(partition, event, record, signer)
                return await self._apply(partition, event, record)
            except PeerError as error:
                log.warning("a service's record waits for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)
            except HeadstartError as error:
                return await self._poison(partition, record, error, ends=isinstance(error, Refused))

    async def _addressed(self, partition: HeldPartition, event: FactPublish, record: Record) -> None:
        """A fact for a member goes on to the conversation that they used last; nobody else waits for that."""
        while not partition.given_away:
            try:
                await address(self._bus, self._store, event, record)
                self.forwarded += 1
                return partition.commands.finish(record.offset)
            except PeerError as error:
                log.warning("a fact for a member waits for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)
            except HeadstartError as error:
                return await self._poison(partition, record, error, ends=False)

    async def _forwarded(self, partition: HeldPartition, event: Event, record: Record) -> bool:
        """Sends a command that lies on a wrong partition to the one its conversation names, as it is. Raises
        InvalidInput (`invalid_id`) when it names none."""
        named = getattr(event, "conversation", "") or getattr(event, "turn", "")
        kind = ids.CONVERSATION if hasattr(event, "conversation") else ids.TURN
        if not ids.is_id(kind, named):
            raise InvalidInput(f"a {record.type} names its {kind} by an id of 36 hex digits", code="invalid_id")
        home = ids.partition_of(named)
        if home >= self._bus.partitions:
            raise InvalidInput(f"there is no partition {home}", code="invalid_id", partitions=self._bus.partitions)
        if home == partition.number:
            return False
        _ = await self._bus.post_raw(TURNS.name, home, record.key, record.value, list(record.headers))
        self.forwarded += 1
        partition.commands.finish(record.offset)
        return True

    async def _poison(
        self, partition: HeldPartition, record: Record, error: HeadstartError, *, ends: bool = True
    ) -> None:  # fmt: skip
        """Keeps what can not be processed, whole. ends: a submit that can be told apart gets its terminal fact, which
        one that nobody vouches for does not: it may name a conversation of somebody else."""
        self._metrics.refused.labels(error.code).inc()
        await dead_letter(self._bus, record, error, "turns")
        submit = salvage(record) if ends else None
        if submit is not None and not partition.view.knows(submit.turn):
            self._refuse(partition, submit, record.offset, error.code, error.message, error.hint or "")
        partition.commands.finish(record.offset)

    def _check(self, partition: HeldPartition, conversation: str, tenant: str, user: str) -> None:
        tail = partition.view.tails.get(conversation)
        if tail is not None and tail.tenant and (tail.tenant, tail.user) != (tenant, user):
            raise NotPermitted("the conversation belongs to somebody else", code="not_permitted")

    async def _note(self, partition: HeldPartition, event: Noted, record: Record) -> None:
        """A fact outside of any turn's order. Its command is done once the log has it."""
        fact, conversation = note_of(event, record.source, self._clock_ms()), event.conversation
        identity, number = f"{conversation}/{NOTE}/0/{note_number(record.event_id)}", ids.partition_of(conversation)
        while not partition.given_away:
            try:
                # A repeat would be the first to whoever begins to read between the two.
                if not partition.view.fence.noted(conversation, identity):
                    _ = await self._outbox.put_acknowledged(
                        lambda: self._bus.post(EVENTS.name, number, conversation, fact, identity, self._writer)
                    )
                return partition.commands.finish(record.offset)
            except PeerError as error:
                log.warning("a fact about a conversation waits for the bus: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)

    def _cancel(self, partition: HeldPartition, turn: str, tenant: str, user: str, item: Cancelled) -> None:
        live = partition.lives.get(turn) or partition.adopting.get(turn)
        if live is not None:
            if (live.accepted.tenant, live.accepted.user) != (tenant, user):
                raise NotPermitted("the turn belongs to somebody else", code="not_permitted")
            live.deliver(item)
        elif any(submit.turn == turn for queue in partition.inbox.values() for submit, _ in queue):
            partition.cancelled[turn] = item.reason

    def _steer(self, partition: HeldPartition, event: TurnSteer, offset: int) -> None:
        """The turn ends and its successor begins, and then the command is done: whoever reads it again before that may
        find the turn ended already."""
        live = partition.lives.get(event.turn) or partition.adopting.get(event.turn)
        turn = live.accepted if live is not None else partition.view.steered.get(event.successor)
        if turn is None or turn.turn != event.turn or self._knows(partition, turn.conversation, event.successor):
            partition.commands.finish(offset)
            return
        if (turn.tenant, turn.user) != (event.tenant, event.user):
            raise NotPermitted("the turn belongs to somebody else", code="not_permitted")
        if live is not None:
            live.deliver(Cancelled("steered", event.successor))
        partition.hold_back(offset, event.turn)
        partition.inbox.setdefault(turn.conversation, deque()).appendleft((successor(event, turn), offset))
        self.open_next(partition, turn.conversation)

    def _knows(self, partition: HeldPartition, conversation: str, turn: str) -> bool:
        queue = partition.inbox.get(conversation, ())
        return partition.view.knows(turn) or any(queued.turn == turn for queued, _ in queue)

    def _submit(self, partition: HeldPartition, submit: TurnSubmit, offset: int) -> None:
        if self._knows(partition, submit.conversation, submit.turn):
            partition.commands.finish(offset)
            return
        queue = partition.inbox.setdefault(submit.conversation, deque())
        tail = partition.view.tail(submit.conversation)
        if tail.running or queue:
            if submit.options.on_busy == "reject" or len(queue) >= QUEUED_PER_CONVERSATION:
                self._refuse(
                    partition, submit, offset, "conversation_busy", "another turn of this conversation is running",
                    "wait for it, or send on_busy: enqueue | interrupt | steer",
                )  # fmt: skip
                return
            if submit.options.on_busy in ("interrupt", "steer") and (live := partition.lives.get(tail.running)):
                steered = submit.turn if submit.options.on_busy == "steer" else ""
                self._cancel(
                    partition, live.accepted.turn, submit.tenant, submit.user, Cancelled("interrupted", steered)
                )  # fmt: skip
        queue.append((submit, offset))
        self.open_next(partition, submit.conversation)

    def open_next(self, partition: HeldPartition, conversation: str) -> None:
        """Opens the conversation's next turn, if none runs."""
        queue = partition.inbox.get(conversation)
        tail = partition.view.tail(conversation)
        if not queue or tail.running:
            return
        submit, offset = queue.popleft()
        if not queue:
            del partition.inbox[conversation]
        tail.running = submit.turn
        if tail.last_offset < 0 and not submit.opens:
            self._spawn(self._look_up(partition, tail, submit, offset))
        else:
            self._open(partition, tail, submit, offset)

    async def _look_up(self, partition: HeldPartition, tail: Tail, submit: TurnSubmit, offset: int) -> None:
        """The conversation was not seen since this worker has the partition: ask Postgres about it, for as long as it
        takes; the submit stays uncommitted, so a successor asks too."""
        while not partition.given_away:
            try:
                return await self._looked_up(partition, tail, submit, offset)
            except PeerError as error:
                log.warning("a turn waits for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)

    async def _looked_up(self, partition: HeldPartition, tail: Tail, submit: TurnSubmit, offset: int) -> None:
        row = await self._store.conversation(submit.conversation)
        if row is not None:
            tail.tenant, tail.user = row.tenant, row.user
            messages = (await self._store.history(submit.conversation, 1)).messages
            last = await self._store.turn(messages[-1].turn) if messages else None
            if last is not None:
                tail.last_turn, tail.last_offset = last.turn, last.offset
        before = await self._past.before(partition)
        earlier = before.tail(submit.conversation)
        if earlier.last_offset > tail.last_offset:  # Postgres has not stored so far yet
            tail.tenant, tail.user = earlier.tenant, earlier.user
            tail.last_turn, tail.last_offset = earlier.last_turn, earlier.last_offset
        known = before.knows(submit.turn) or (
            submit.event_id != "" and await self._store.turn(submit.turn) is not None
        )  # fmt: skip
        if known:
            tail.running = ""  # sent again long after it was done
            partition.commands.finish(offset)
            self.open_next(partition, submit.conversation)
        elif not partition.given_away:
            self._open(partition, tail, submit, offset)

    def _open(self, partition: HeldPartition, tail: Tail, submit: TurnSubmit, offset: int) -> None:
        opens = not tail.tenant
        accepted = self._accept(submit, tail)
        live = self._make_live(accepted, 1)
        partition.view.owned.add(submit.turn)
        partition.lives[submit.turn] = live
        acknowledged = live.publish_acknowledged(accepted)
        if not opens and (tail.tenant, tail.user) != (submit.tenant, submit.user):
            live.publish(
                TurnFailed(
                    code="not_permitted", message="the conversation belongs to somebody else", fault="caller",
                    at_ms=accepted.at_ms,
                )
            )  # fmt: skip
            partition.lives.pop(live.accepted.turn, None)
            partition.commands.finish(offset)
            return
        live.foresee()
        opened = ConversationOpened(
            conversation=submit.conversation, tenant=submit.tenant, user=submit.user, at_ms=accepted.at_ms,
            parent=submit.parent, parent_turn=submit.parent_turn, title=_title(submit.input),
        )  # fmt: skip
        self._spawn(self._begin(partition, live, acknowledged, opened if opens else None, offset))

    async def _begin(
        self, partition: HeldPartition, live: LiveTurn, acknowledged: asyncio.Future[int],
        opened: ConversationOpened | None, offset: int,
    ) -> None:  # fmt: skip
        """Once `turn.accepted` is in the log the command may be forgotten: recovery comes from there."""
        try:
            accepted_at = await acknowledged
        except HeadstartError as error:
            log.error("a turn could not be accepted, its submit is read again: %s", error)
            partition.contested.add(live.accepted.turn)
            live.abandon()
            partition.lives.pop(live.accepted.turn, None)
            return
        if offset >= 0:
            partition.commands.finish(offset)
        machine, now_ms = TurnMachine(live.accepted, accepted_at, self._setup), self._clock_ms()
        live.begin(machine, machine.begin(opened, now_ms), Taken("begin", now_ms))
        if reason := partition.cancelled.pop(live.accepted.turn, None):
            live.deliver(Cancelled(reason))

    def _accept(self, submit: TurnSubmit, tail: Tail) -> TurnAccepted:
        now_ms = int(self._clock_ms())
        deadline_ms = submit.options.deadline_ms or DEADLINE_MS
        return TurnAccepted(
            turn=submit.turn, conversation=submit.conversation, tenant=submit.tenant, user=submit.user,
            input=submit.input, at_ms=now_ms, deadline_at_ms=now_ms + deadline_ms, previous_offset=tail.last_offset,
            previous_turn=tail.last_turn, bucket=int.from_bytes(self._draw(4), "big") % 10_000,
            event_id=submit.event_id, origin=submit.origin, options=submit.options, setup=self._setup_id,
            steered_from=submit.previous_turn if submit.origin in ("steer", ORIGIN) else "",
        )  # fmt: skip

    def _refuse(
        self, partition: HeldPartition, submit: TurnSubmit, offset: int, code: str, message: str, hint: str
    ) -> None:
        """A turn that may not run: accepted and failed in one breath, so that it too ends exactly once."""
        live = self._make_live(self._accept(submit, Tail()), 1)
        live.publish(live.accepted)
        live.publish(TurnFailed(code=code, message=message, fault="caller", hint=hint, at_ms=live.accepted.at_ms))
        partition.commands.finish(offset)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _title(items: tuple[InputItem, ...]) -> str:
    text = next((item.text for item in items if item.kind == "message" and item.role == "user"), "")
    return " ".join(text.split())[:80]


class _Salvaged(msgspec.Struct):
    """What a submit of an unknown version, or a broken one, still has to say."""

    turn: str
    conversation: str
    tenant: str
    user: str


def salvage(record: Record) -> TurnSubmit | None:
    """The turn that an unreadable submit is about; None when it is no submit or does not say."""
    if not record.type.startswith(TurnSubmit.TYPE.rpartition(".v")[0] + ".v"):
        return None
    try:
        said = msgspec.json.decode(record.value, type=_Salvaged)
    except msgspec.DecodeError:
        return None
    if not (ids.is_id(ids.TURN, said.turn) and ids.is_id(ids.CONVERSATION, said.conversation)):
        return None
    if not ids.partition_of(said.turn) == ids.partition_of(said.conversation) == record.partition:
        return None
    return TurnSubmit(
        turn=said.turn, conversation=said.conversation, tenant=said.tenant, user=said.user, input=(),
        at_ms=record.timestamp_ms,
    )  # fmt: skip
