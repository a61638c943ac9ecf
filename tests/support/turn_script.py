"""A turns worker that answers every submit with a script, for tests of what stands before and after it.

It owns every partition of `turns`, accepts a turn, writes the scripted facts to `events` with the identities the real
workers use, and ends it. A `Hold` in a script waits until the test lets go, so the test decides the order of things.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from streams import ids
from streams.bus import Bus, Reader
from streams.codec import Record, decode, encode
from streams.errors import PeerUnavailable
from streams.events import Event, InputItem, Usage, calling, conversation, generating, recalling, routing
from streams.events.editing import MemoryEdit, MemoryEdited
from streams.events.intake import ConversationEdit, TurnCancel, TurnSteer, TurnSubmit
from streams.events.turn import (
    CallSaving,
    ModelUse,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnIncomplete,
)
from streams.topology import EVENTS, TURNS
from streams.writer import StageWriter

AT_MS = 1_763_700_000_000


class Say(msgspec.Struct, frozen=True):
    """One fact and the stage it stands in."""

    stage: str
    event: Event


class Hold(msgspec.Struct, frozen=True):
    """Waits until the test calls `release(name)`."""

    name: str


Line = Say | Hold
Script = Callable[[TurnSubmit], Iterable[Line]]


def completed(**changes: Any) -> Say:
    use = ModelUse(step="answer", model="scripted", usage=Usage(prompt=11, completion=4))
    return Say("turn", TurnCompleted(**{"at_ms": AT_MS + 900, "models": (use,), **changes}))


def answer(pieces: Sequence[str], *, hold_after: int = -1) -> list[Line]:
    """An answer stage that says these pieces. hold_after: a Hold "answer" after that many of them."""
    started = generating.AnswerStarted(model="scripted", engine="scripted", at_ms=AT_MS + 500, prompt_tokens=11)
    lines: list[Line] = [Say("answer", started)]
    for index, piece in enumerate(pieces):
        if index == hold_after:
            lines.append(Hold("answer"))
        lines.append(Say("answer", generating.AnswerDelta(text=piece, index=index, ids=(100 + index,))))
    if hold_after >= len(pieces):
        lines.append(Hold("answer"))
    usage = Usage(prompt=11, completion=len(pieces))
    lines.append(Say("answer", generating.AnswerFinished(reason="stop", usage=usage, at_ms=AT_MS + 800)))
    return lines


def skill_call() -> list[Line]:
    """A plan with one skill that is fired while it is still written, and its result."""
    return [
        Say("plan", generating.PlanStarted(model="scripted", engine="scripted", at_ms=AT_MS + 100)),
        Say("plan", generating.PlanDelta(text='[{"name": "weather", ', index=0, ids=(1, 2))),
        Say("turn", calling.CallOpened(call=0, skill="weather", token=2, at_ms=AT_MS + 120)),
        Say("turn", calling.CallArguments(call=0, text='{"city":"Oslo"')),
        Say("call.0", calling.CallFired(
            call=0, skill="weather", arguments={"city": "Oslo"}, effect="pure", claim=1, token=5, at_ms=AT_MS + 130,
            written=True,
        )),
        Say("turn", calling.CallArguments(call=0, text="}")),
        Say("turn", calling.CallClosed(
            call=0, skill="weather", arguments={"city": "Oslo"}, token=8, at_ms=AT_MS + 150,
        )),
        Say("turn", calling.PlanCommitted(calls=1, tokens=9, at_ms=AT_MS + 160)),
        Say("call.0", calling.CallAnswered(
            call=0, result='{"celsius":4}', status=200, took_ms=40.0, at_ms=AT_MS + 170, size_bytes=13,
        )),
        Say("plan", generating.PlanFinished(
            reason="stop", usage=Usage(prompt=30, completion=9), at_ms=AT_MS + 180,
        )),
    ]  # fmt: skip


def client_call(name: str = "open_door", arguments: str = '{"door":2}') -> list[Line]:
    """A plan that calls one of the client's own functions, its arguments in two pieces."""
    half = len(arguments) // 2
    return [
        Say("turn", calling.CallOpened(call=0, skill=name, token=2, at_ms=AT_MS + 120, client=True)),
        Say("turn", calling.CallArguments(call=0, text=arguments[:half])),
        Say("turn", calling.CallArguments(call=0, text=arguments[half:])),
        Say("turn", calling.CallClosed(
            call=0, skill=name, arguments=msgspec.json.decode(arguments), token=9, at_ms=AT_MS + 150,
        )),
    ]  # fmt: skip


def journey(pieces: Sequence[str] = ("It is ", "4 °C ", "in Oslo."), *, hold_after: int = -1) -> list[Line]:
    """Every step of a turn with one skill."""
    saving = CallSaving(call=0, skill="weather", opened_token=2, fired_token=5, closed_token=8, hidden_ms=20.0)
    return [
        Say("turn", routing.RouteDecided(
            agent="city", by="embedding", at_ms=AT_MS + 20, scores=(routing.AgentScore("city", 0.8),),
        )),
        Say("turn", recalling.Recalled(
            items=(recalling.RecalledItem(id="m1", layer="fact", text="lives in Oslo", score=0.9),), history=(),
            at_ms=AT_MS + 30,
        )),
        Say("turn", recalling.SkillsDiscovered(
            skills=(recalling.DiscoveredSkill("weather@1", 0.7),), at_ms=AT_MS + 40,
        )),
        *skill_call(),
        *answer(pieces, hold_after=hold_after),
        completed(savings=(saving,), plan_tokens=9, plan_ms=80.0, saved_ms=20.0, oracle_ms=25.0),
    ]  # fmt: skip


def echo(submit: TurnSubmit) -> list[Line]:
    """Says the last input back, word by word."""
    words = submit.input[-1].text.split(" ")
    pieces = [word if index == 0 else " " + word for index, word in enumerate(words)]
    return [*answer(pieces), completed()]


def accepted(submit: TurnSubmit, *, steered_from: str = "", previous: tuple[str, int] = ("", -1)) -> TurnAccepted:
    """The first fact of a turn as the owner of its partition writes it. previous: turn and offset of the one before."""
    return TurnAccepted(
        turn=submit.turn, conversation=submit.conversation, tenant=submit.tenant, user=submit.user,
        input=submit.input, at_ms=AT_MS, deadline_at_ms=AT_MS + 60_000, previous_turn=submit.previous_turn,
        previous_offset=previous[1], event_id=submit.event_id, steered_from=steered_from, options=submit.options,
    )  # fmt: skip


class ScriptedTurns:
    """`start` it on a bus; `commands` holds every command it read, in order."""

    def __init__(self, bus: Bus, script: Script = echo, name: str = "turns/test") -> None:
        self.script = script
        self.commands: list[Event] = []
        self._bus = bus
        self._name = name
        self._reader: Reader | None = None
        self._loop: asyncio.Task[None] | None = None
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._writers: dict[tuple[str, str], StageWriter] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._queues: dict[str, asyncio.Lock] = {}
        self._submits: dict[str, TurnSubmit] = {}
        self._begun: dict[str, tuple[str, int]] = {}
        self.ignore_steers = False  # as when the turn waits for something that only its client can bring
        self.silent = False  # reads commands and does nothing, as when no worker is there

    async def start(self) -> None:
        self._reader = await self._bus.reader(TURNS.name, dict.fromkeys(range(self._bus.partitions), "earliest"))
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self._loop is not None
        assert self._reader is not None
        await self._reader.close()
        for task in (self._loop, *self._turns.values()):
            task.cancel()
        await asyncio.gather(self._loop, *self._turns.values(), return_exceptions=True)

    def release(self, name: str) -> None:
        """Lets every turn that holds at `name` go on, now and later."""
        self._held.setdefault(name, asyncio.Event()).set()

    async def read(self, kind: type[Event]) -> Event:
        """The first command of this kind, once it is read."""
        while True:
            for command in self.commands:
                if isinstance(command, kind):
                    return command
            await asyncio.sleep(0.001)

    async def _run(self) -> None:
        assert self._reader is not None
        while True:
            try:
                records = await self._reader.batch()
            except PeerUnavailable:
                return
            for record in records:
                await self._command(decode(record))

    async def _command(self, event: Event) -> None:
        self.commands.append(event)
        if self.silent:
            return
        if isinstance(event, TurnSubmit) and event.turn not in self._turns:
            self._submits[event.turn] = event
            self._turns[event.turn] = asyncio.create_task(self._turn(event, ""))
        elif isinstance(event, TurnCancel) and event.turn in self._turns:
            await self._stop(event.turn)
            await self._say(event.turn, Say("turn", TurnCancelled(at_ms=AT_MS + 600)))
        elif isinstance(event, TurnSteer) and event.turn in self._turns and not self.ignore_steers:
            await self._stop(event.turn)
            end = TurnIncomplete(at_ms=AT_MS + 600, reason="steered", successor=event.successor)
            await self._say(event.turn, Say("turn", end))
            old = self._submits[event.turn]
            new = msgspec.structs.replace(old, turn=event.successor, input=(*old.input, *event.input), opens=False)
            self._submits[new.turn] = new
            self._turns[new.turn] = asyncio.create_task(self._turn(new, event.turn))
        elif isinstance(event, ConversationEdit):
            await self._edit(event)
        elif isinstance(event, MemoryEdit):
            fact = MemoryEdited(
                conversation=event.conversation, tenant=event.tenant, user=event.user, item=event.item,
                at_ms=event.at_ms, text=event.text, muted=event.muted, forget=event.forget, new=event.new,
            )  # fmt: skip
            await self._note(event.conversation, fact)

    async def _stop(self, turn: str) -> None:
        task = self._turns[turn]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _edit(self, event: ConversationEdit) -> None:
        fact: Event
        if event.delete:
            fact = conversation.ConversationDeleted(conversation=event.conversation, at_ms=AT_MS)
        else:
            fact = conversation.ConversationRenamed(conversation=event.conversation, title=event.title, at_ms=AT_MS)
        await self._note(event.conversation, fact)

    async def _note(self, about: str, fact: Event) -> None:
        event_id = f"{about}/note/1/{len(self.commands)}"
        await self._bus.publish(EVENTS.name, ids.partition_of(about), about, fact, event_id, self._name)

    async def _turn(self, submit: TurnSubmit, steered_from: str) -> None:
        previous = self._begun.get(submit.conversation, ("", -1))
        offset = await self._say(
            submit.turn, Say("turn", accepted(submit, steered_from=steered_from, previous=previous))
        )  # fmt: skip
        self._begun[submit.conversation] = (submit.turn, offset)
        if submit.opens and previous[1] < 0:
            await self._say(
                submit.turn,
                Say("turn", conversation.ConversationOpened(
                    conversation=submit.conversation, tenant=submit.tenant, user=submit.user, at_ms=AT_MS,
                    parent=submit.parent, parent_turn=submit.parent_turn,
                )),
            )  # fmt: skip
        async with self._queues.setdefault(submit.conversation, asyncio.Lock()):
            for line in self.script(submit):
                if isinstance(line, Hold):
                    await self._held.setdefault(line.name, asyncio.Event()).wait()
                else:
                    await asyncio.shield(self._say(submit.turn, line))

    async def _say(self, turn: str, line: Say) -> int:
        key = (turn, line.stage)
        writer = self._writers.get(key)
        if writer is None:
            submit = self._submits[turn]
            writer = StageWriter(self._bus, submit.conversation, turn, line.stage, 1, self._name)
            self._writers[key] = writer
        return await writer.write(line.event)


class FactLog:
    """A partition's log made by hand: facts in, records out, for tests that need no bus.

    gap: how many offsets other conversations take before each record.
    """

    def __init__(self, conversation: str, first_offset: int = 0, gap: int = 0) -> None:
        self.conversation = conversation
        self.records: list[Record] = []
        self._offset = first_offset
        self._gap = gap
        self._seq: dict[tuple[str, str], int] = {}

    def say(self, turn: str, line: Say, writer: str = "turns/test") -> Record:
        """Appends one fact in its stage, epoch 1, with the next sequence number."""
        seq = self._seq.get((turn, line.stage), 0)
        self._seq[turn, line.stage] = seq + 1
        return self.put(line.event, f"{turn}/{line.stage}/1/{seq}", writer)

    def put(self, event: Event, event_id: str, writer: str = "turns/test") -> Record:
        """Appends a record with this identity, whatever it is."""
        self._offset += self._gap
        headers, value = encode(event, event_id, writer)
        partition = ids.partition_of(self.conversation)
        record = Record(
            EVENTS.name, partition, self._offset, AT_MS, self.conversation.encode(), tuple(headers), value
        )  # fmt: skip
        self._offset += 1
        self.records.append(record)
        return record

    def turn(self, submit: TurnSubmit, lines: Iterable[Line]) -> None:
        """A whole turn: accepted, then its lines."""
        self.say(submit.turn, Say("turn", accepted(submit)))
        for line in lines:
            if isinstance(line, Say):
                self.say(submit.turn, line)


def submit_of(conversation: str, number: int = 0, **changes: Any) -> TurnSubmit:
    """A submit with repeatable ids."""
    fields: dict[str, Any] = {
        "turn": ids.turn_id(conversation, AT_MS + number, number.to_bytes(10, "big")),
        "conversation": conversation, "tenant": "acme", "user": "ada", "at_ms": AT_MS,
        "input": (InputItem(text="How warm is it in Oslo?"),),
    }  # fmt: skip
    return TurnSubmit(**{**fields, **changes})


def conversation_of(number: int = 0, partition: int = 1) -> str:
    """A repeatable conversation id."""
    return ids.conversation_id(partition, AT_MS, number.to_bytes(10, "big"))
