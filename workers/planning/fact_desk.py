"""What a turns worker does with published facts: tells running turns of them, and decides where none runs.

A fact is told to the conversation's running turn, whose machine takes it in (taking.py). Where none runs and none is
queued, the policy of the agent that took the conversation's last turn decides, and `fact.taken` stands in the
conversation. What is owed follows from the log (facts_due.py), so whoever takes the partition over owes the same; a
turn that a fact opens has an id made of the fact, so it is opened once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from streams import ids
from streams.bus import Bus
from streams.errors import PeerError
from streams.events.conversation import FactPublished, FactTaken
from streams.events.turn import TurnAccepted, TurnEnd
from streams.fence import NOTE
from streams.topology import EVENTS
from workers.agents.catalog import OUT_OF_SCOPE
from workers.agents.on_fact import policy_of
from workers.planning.commands import FactCame
from workers.planning.doing import Doing
from workers.planning.facts_due import Due
from workers.planning.holding import HeldPartition
from workers.planning.intake import PEER_PAUSE_S, Intake
from workers.planning.notes import note_number
from workers.planning.outbox import Outbox
from workers.planning.partition import Seen
from workers.planning.setup import Setup
from workers.planning.taking import idle

log = logging.getLogger("headstart.turns")
NOBODY: Final = "-"  # who hears a fact for which no turn runs
DECIDED: Final = "!"  # what becomes of it without a turn is on its way to the log


class FactDesk:
    """Of one turns worker. All methods are synchronous and run on the owner's loop."""

    def __init__(
        self, bus: Bus, effects: Doing, setup: Setup, outbox: Outbox, intake: Intake, *, writer: str,
        clock_ms: Callable[[], float],
    ) -> None:  # fmt: skip
        self._bus, self._effects, self._setup, self._outbox, self._intake = bus, effects, setup, outbox, intake
        self._asking = 0  # decisions that wait to know whose they are
        self._writer, self._clock_ms = writer, clock_ms
        self._deciding: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """What became of some fact is known and not written yet."""
        return len(self._deciding) > self._asking

    def close(self) -> None:
        """Decides nothing more."""
        for task in self._deciding:
            task.cancel()

    def read(self, partition: HeldPartition, seen: Seen, conversation: str) -> None:
        """A record of `events` was read, and the partition's end was reached before."""
        if isinstance(seen.event, FactTaken):
            self._open(partition, seen.event.successor)
        elif isinstance(seen.event, FactPublished | TurnAccepted | TurnEnd):
            self.tell(partition, conversation)

    def caught_up(self, partition: HeldPartition) -> None:
        """The end of the partition's log was reached: what is owed since before is done."""
        for turn in list(partition.view.facts.openings):
            self._open(partition, turn)
        for conversation in {due.event.conversation for due in partition.view.facts.waiting.values()}:
            self.tell(partition, conversation)

    def resumed(self, partition: HeldPartition, turn: str, conversation: str) -> None:
        """A turn was taken over: it hears what the owner before did not live to take in."""
        for due in partition.view.facts.of(conversation):
            due.heard_by = "" if due.heard_by == turn else due.heard_by
        self.tell(partition, conversation)

    def tell(self, partition: HeldPartition, conversation: str) -> None:
        """Facts of the conversation that nothing has become of find who decides."""
        running = partition.view.tail(conversation).running
        live = partition.lives.get(running)
        for due in partition.view.facts.of(conversation):
            if live is not None and due.heard_by not in (running, DECIDED):
                due.heard_by = running
                live.deliver(FactCame(due.event, due.fact))
            elif not running and conversation not in partition.inbox and due.heard_by not in (NOBODY, DECIDED):
                due.heard_by = NOBODY
                self._spawn(self._decide(partition, due))

    def _open(self, partition: HeldPartition, turn: str) -> None:
        opening = partition.view.facts.openings.get(turn)
        if opening is None or partition.view.knows(turn):
            return
        if partition.view.tail(opening.submit.conversation).running == turn:
            return  # it is being looked up
        queue = partition.inbox.setdefault(opening.submit.conversation, deque())
        queued = next((number for number, (submit, _) in enumerate(queue) if submit.turn == turn), -1)
        if queued >= 0:
            queue[queued] = (opening.submit, -1)  # another fact has come to it
        else:  # before whatever waits: what a turn goes on with first of all, others in their order
            of_facts = sum(submit.turn in partition.view.facts.openings for submit, _ in queue)
            queue.insert(0 if opening.steered else of_facts, (opening.submit, -1))
        self._intake.open_next(partition, opening.submit.conversation)

    async def _decide(self, partition: HeldPartition, due: Due) -> None:
        """Without a turn. Tried for as long as it takes: the fact holds the partition's position back meanwhile."""
        conversation = due.event.conversation
        while not partition.given_away and due.heard_by in (NOBODY, DECIDED):
            try:
                agent = await self._agent(conversation, due)
                if due.heard_by == NOBODY and partition.view.tail(conversation).running:
                    due.heard_by = ""
                    return self.tell(partition, conversation)
                if due.heard_by in (NOBODY, DECIDED):
                    due.heard_by = DECIDED
                    await self._take(due, agent)
                return None
            except PeerError as error:
                log.warning("what becomes of a fact waits for a peer: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)

    async def _agent(self, conversation: str, due: Due) -> str:
        self._asking += 1
        try:
            return await self._effects.agent_without_turn(conversation, due.fact)
        finally:
            self._asking -= 1

    async def _take(self, due: Due, agent: str) -> None:
        conversation = due.event.conversation
        known = self._setup.agents.get(agent, self._setup.agents[OUT_OF_SCOPE])
        policy = policy_of(known.on_fact, due.event.kind)
        taken = idle(due.fact, due.event, agent, policy, self._clock_ms())
        identity = f"{conversation}/{NOTE}/0/{note_number(f'taken/{due.fact}')}"
        number = ids.partition_of(conversation)
        _ = await self._outbox.put_acknowledged(
            lambda: self._bus.post(EVENTS.name, number, conversation, taken, identity, self._writer)
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)
