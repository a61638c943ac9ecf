"""One turn that this worker carries: its machine, its writers, its timer, the tasks that do its effects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from streams import ids
from streams.bus import Bus
from streams.errors import PeerError, PeerUnavailable
from streams.events import Event
from streams.events.calling import PlanCommitted
from streams.events.generating import GenerationAbort, GenerationRequested
from streams.events.turn import TurnAccepted
from streams.taken import Taken
from streams.topology import GENERATIONS
from streams.writer import StageWriter
from workers.planning.commands import (
    AbortCall,
    AbortGeneration,
    Called,
    Command,
    Compensate,
    Discover,
    Ended,
    FindApprovals,
    Fire,
    Generate,
    Input,
    Look,
    Publish,
    WakeAt,
)
from workers.planning.commands import Tick as TimerFired
from workers.planning.doing import Doing, Later, MakeWriter, Timer, by_the_loop
from workers.planning.journal import Journal
from workers.planning.machine import TurnMachine
from workers.planning.outbox import Outbox

Place = Callable[[GenerationRequested], int]
DEFECT = "a step of the turn could not be carried out"


class LiveTurn:
    """Carries out what the machine commands. All methods are synchronous and run on the owner's loop.

    place: chooses the partition of `generations` for a model call. ended: called once, after the terminal fact was
    handed to the outbox. later: how a timer is set. What the turn takes in is told by the facts it leads to
    (streams/taken.py).
    """

    def __init__(
        self, accepted: TurnAccepted, epoch: int, *, bus: Bus, outbox: Outbox, effects: Doing, writer: str,
        place: Place, clock_ms: Callable[[], float], ended: Callable[[LiveTurn], None], later: Later = by_the_loop,
    ) -> None:  # fmt: skip
        self.accepted = accepted
        self.machine: TurnMachine | None = None
        self.ended = False
        self.wake_at_ms = -1.0
        self._journal = Journal()
        self._later = later
        self._bus, self._outbox, self._effects = bus, outbox, effects
        self._writer_name, self._place, self._clock_ms, self._on_ended = writer, place, clock_ms, ended
        self.writer = StageWriter(bus, accepted.conversation, accepted.turn, "turn", epoch, writer)
        self._waiting: list[Input] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._sent: set[int] = set()
        self._over_bus: set[int] = set()
        self._placed: dict[str, int] = {}
        self._timer: Timer | None = None
        self._committed: asyncio.Future[int] | None = None
        self._unwritten = False  # a model call, or a call's outcome, was not taken by the bus

    def foresee(self) -> None:
        """What the machine will want first is begun before `turn.accepted` is in the log; nothing of it is written."""
        self._effects.foresee(self.accepted)

    def begin(self, machine: TurnMachine, commands: list[Command], opening: Taken) -> None:
        """The machine is there; inputs that came before it are fed now; nothing, for a turn that was
        abandoned. opening: how and when it came to be."""
        if self.ended:
            return
        self.machine = machine
        self._journal.note(opening)
        self.carry_out(commands)
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            self.deliver(item)

    def deliver(self, item: Input) -> None:
        """Feeds the machine and carries out what it says; nothing after the end. A defect met on the way ends this
        turn by name, and no other."""
        if self.machine is None:
            self._waiting.append(item)
        elif not self.ended:
            now_ms = self._clock_ms()
            self._journal.took(item, now_ms)
            try:
                self.carry_out(self.machine.receive(item, now_ms))
            except Exception as error:
                self._broken(error)

    def wake(self) -> None:
        """The time that the machine asked to be woken at (`wake_at_ms`, -1 for none) has come."""
        self.deliver(TimerFired())

    def wake_when_read(self) -> None:
        """The timer's callback. Before somebody is taken for silent, what he may have written is read."""
        now_ms = self._clock_ms()
        if self.machine is not None and now_ms < self.accepted.deadline_at_ms and self.machine.suspects(now_ms):
            _ = self._start(self._wake_when_read((self.accepted.deadline_at_ms - now_ms) / 1000))
        else:
            self.wake()

    async def _wake_when_read(self, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._effects.catch_up(self.accepted)
        self.wake()

    def carry_out(self, commands: list[Command]) -> None:
        at_once = _at_once(commands)
        for fire in at_once:
            self._fire(fire)
        for command in commands:
            if any(command is fire for fire in at_once):
                continue
            if isinstance(command, Publish):
                if isinstance(command.event, PlanCommitted):
                    self._committed = self.publish_acknowledged(command.event)
                    self._committed.add_done_callback(_heed)
                else:
                    self.publish(command.event)
            elif isinstance(command, Fire):
                self._fire(command)
            elif isinstance(command, Generate):
                self._generate(command.request)
            elif isinstance(command, WakeAt):
                self._wake(command.at_ms)
            elif isinstance(command, AbortCall):
                if task := self._calls.pop(command.call, None):
                    task.cancel()
                    self._effects.calls.abort(self.accepted.turn, command.call)
            elif isinstance(command, AbortGeneration):
                self._abort(command)
            elif isinstance(command, Look):
                _ = self._start(self._effects.look(self.accepted, command, self.deliver))
            elif isinstance(command, Discover):
                _ = self._start(self._effects.discover(self.accepted, command, self.deliver))
            elif isinstance(command, FindApprovals):
                _ = self._start(self._effects.find_approvals(self.accepted, command, self.deliver))
            elif isinstance(command, Compensate):
                _ = self._start(self._effects.calls.compensate(self.accepted, command))
            elif isinstance(command, Ended):
                self._end()

    def publish(self, event: Event) -> None:
        """Writes a fact of stage "turn" behind the earlier ones."""
        extra = self._journal.drain()
        self._outbox.put(lambda: self.writer.post(event, extra))

    def publish_acknowledged(self, event: Event) -> asyncio.Future[int]:
        extra = self._journal.drain()
        return self._outbox.put_acknowledged(lambda: self.writer.post(event, extra))

    @property
    def busy(self) -> bool:
        """Some effect of it has not come to its end."""
        return bool(self._tasks)

    def abandon(self, *, calls: bool = False) -> None:
        """Another worker owns the turn now: stop, and write nothing more of it. Calls in flight go on, since their
        results count whoever asked for them; with `calls` they are cancelled too. The results of calls over the bus
        come to the new owner, so it alone waits for them."""
        self.ended = True
        self._end_timer()
        self._effects.forget(self.accepted.turn)
        keep = set() if calls else {task for call, task in self._calls.items() if call not in self._over_bus}
        for task in self._tasks - keep:
            task.cancel()
        self._effects.calls.given_away(self.accepted.turn)

    @property
    def broken(self) -> bool:
        """Something of it could not be written while the bus was away: it can only be taken up again from the log."""
        return self._unwritten or self.writer.broken

    def fired(self, call: int) -> bool:
        """This very life of the turn sends the call: it has the claim, where one is needed."""
        return call in self._sent

    def settled_elsewhere(self, item: Called) -> None:
        """Another worker's outcome of a call counts: what this life still does about the call is over."""
        if task := self._calls.pop(item.event.call, None):
            task.cancel()
        self.deliver(item)

    @property
    def calls_in_flight(self) -> set[asyncio.Task[None]]:
        return {task for task in self._calls.values() if not task.done()}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _fire(self, command: Fire) -> None:
        conversation, turn, stage = self.accepted.conversation, self.accepted.turn, f"call.{command.call}"
        decided_from = self._journal.peek()

        def writer(number: int) -> StageWriter:
            self._sent.add(command.call)
            return StageWriter(self._bus, conversation, turn, stage, number, self._writer_name, decided_from)

        if command.manifest.effect == "pure":
            self._sent.add(command.call)
        self._calls[command.call] = self._start(self._send(command, writer))
        if command.manifest.bus:
            self._over_bus.add(command.call)

    async def _send(self, command: Fire, writer: MakeWriter) -> None:
        """An irreversible call leaves only after the log has the commit of its plan."""
        if command.manifest.effect == "irreversible" and self._committed is not None:
            await asyncio.shield(self._committed)
        await self._effects.calls.fire(self.accepted, command, writer, self.deliver)

    def _generate(self, request: GenerationRequested) -> None:
        partition = self._placed[request.step] = self._place(request)
        event_id = f"{request.turn}/{request.step}/{request.epoch}"

        def post() -> Awaitable[asyncio.Future[int]]:
            if self.writer.broken:
                raise PeerUnavailable("the log did not take that the model is asked", code="stage_broken")
            return self._bus.post(
                GENERATIONS.name, partition, request.conversation, request, event_id, self._writer_name
            )

        self._outbox.put_acknowledged(post).add_done_callback(self._asked)

    def _asked(self, acknowledged: asyncio.Future[int]) -> None:
        self._unwritten |= not acknowledged.cancelled() and acknowledged.exception() is not None

    def _abort(self, command: AbortGeneration) -> None:
        turn, conversation = self.accepted.turn, self.accepted.conversation
        abort = GenerationAbort(
            conversation=conversation, turn=turn, step=command.step, epoch=command.epoch, at_ms=int(self._clock_ms())
        )  # fmt: skip
        partition = self._placed.get(command.step, ids.partition_of(conversation))
        event_id = f"{turn}/{command.step}/{command.epoch}/abort"
        self._outbox.put(
            lambda: self._bus.post(GENERATIONS.name, partition, conversation, abort, event_id, self._writer_name)
        )

    def _start(self, effect: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(effect)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, PeerError) and task in self._calls.values():
            self._unwritten = True  # what a call did is not in the log
        else:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        """An effect met a defect of ours: the turn fails by name instead of waiting for its deadline."""
        asyncio.get_running_loop().call_exception_handler({"message": "a turn's effect failed", "exception": error})
        if self.machine is not None and not self.ended:
            code, now_ms = getattr(error, "code", "internal_error"), self._clock_ms()
            self._journal.note(Taken("broken", now_ms, code))
            self.carry_out(self.machine.fail(code, DEFECT, now_ms))

    def _wake(self, at_ms: float) -> None:
        self._end_timer()
        delay_s = max(0.0, (at_ms - self._clock_ms()) / 1000)
        self.wake_at_ms = at_ms
        self._timer = self._later(delay_s, self.wake_when_read)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self.wake_at_ms = None, -1.0

    def _end(self) -> None:
        self.ended = True
        self._end_timer()
        self._on_ended(self)


def _at_once(commands: list[Command]) -> list[Fire]:
    """Pure calls leave before the facts that go with them are written: no rule has them wait for the log. Not where a
    call is stopped first: it may be the same one."""
    fires = [command for command in commands if isinstance(command, Fire) and command.manifest.effect == "pure"]
    return [] if fires and any(isinstance(command, AbortCall) for command in commands) else fires


def _heed(committed: asyncio.Future[int]) -> None:
    """A commit that could not be written has broken its stage's writer; whoever waits for it is told there too."""
    if not committed.cancelled():
        _ = committed.exception()
