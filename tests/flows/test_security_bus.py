"""The bus as a door: whoever may write to `turns` says what is not theirs to say, in every way of signing it.

The owner of the partition is real, as are the signatures. `let in` means that a fact came of it. Whatever was refused
is a dead letter, and the turn that runs meanwhile goes on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from memory.rows import Change, ConversationRow
from streams import ids
from streams.codec import Headers, encode
from streams.events import Event, InputItem, Usage
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta, AnswerFinished, AnswerStarted
from streams.events.intake import (
    CallResult,
    ConversationEdit,
    FactPublish,
    MemberForget,
    TurnCancel,
    TurnOptions,
    TurnSteer,
    TurnSubmit,
)
from streams.events.turn import TurnAccepted, TurnCompleted, TurnHeartbeat
from streams.signing import GATEWAY, KEY_HEADER, SIGNATURE_HEADER, command_secret, signed, signed_by_gateway
from streams.topology import DEAD_LETTERS, EVENTS, TURNS
from streams.writer import StageWriter
from tests.support.attacks import SECRET, Tally
from tests.support.turn_world import T0, World, world

pytestmark = pytest.mark.asyncio
SIGNING_KEY = "the key of this installation, of forty chars"
QUIET = frozenset({TurnHeartbeat.TYPE})  # what the running turn says by itself
Named = tuple[str, Event, str, Headers]  # what it is, the event, its id, extra headers


class Keys:
    """Keys of people who may write to `turns`, and none of whom may do what is tried."""

    def __init__(self, foreign: str, own: str, chat: str) -> None:
        self.foreign = foreign  # a service's of another tenant
        self.own = own  # a service's of the victim's tenant
        self.chat = chat  # the victim's neighbour's, who may chat and no more

    @classmethod
    async def made(cls, scene: World) -> Keys:
        create = scene.store.create_key
        return cls(
            await create("evil", "bot", "s", ("service",), 0), await create("acme", "bot", "s", ("service",), 0),
            await create("acme", "eve", "c", ("chat",), 0),
        )  # fmt: skip


def said_for(member: tuple[str, str], conversation: str, turn: str, number: int) -> Iterator[tuple[str, Event]]:
    """Everything that `turns` takes, as this member, about this conversation and turn."""
    tenant, user = member
    own = ids.conversation_id(ids.partition_of(conversation), T0 + number, number.to_bytes(10, "big"))
    items = (InputItem(text=SECRET),)
    approval = (InputItem(kind="approval", call_id=ids.item_id("mcpr", turn, 0), approve=True),)
    for origin in ("service", ""):
        for opens in (False, True):
            for content in (items, approval):
                yield "a submit", TurnSubmit(
                    turn=ids.turn_id(conversation, T0 + number, number.to_bytes(10, "big")), conversation=conversation,
                    tenant=tenant, user=user, input=content, at_ms=T0, opens=opens, origin=origin,
                    options=TurnOptions(on_busy="interrupt"),
                )  # fmt: skip
        yield "a fork", TurnSubmit(
            turn=ids.turn_id(own, T0, number.to_bytes(10, "big")), conversation=own, tenant=tenant, user=user,
            input=items, at_ms=T0, opens=True, parent=conversation, parent_turn=turn, origin=origin,
        )  # fmt: skip
    yield "a fact", FactPublish(
        conversation=conversation, tenant=tenant, user=user, kind="x", text=SECRET, at_ms=T0, data={"a": 1}
    )  # fmt: skip
    yield "a cancel", TurnCancel(turn=turn, tenant=tenant, user=user, at_ms=T0)
    successor = ids.successor_turn_id(turn, str(number))
    yield "a steer", TurnSteer(turn=turn, successor=successor, tenant=tenant, user=user, input=items, at_ms=T0)
    for title, delete in (("mine", False), ("", True)):
        yield "an edit", ConversationEdit(
            conversation=conversation, tenant=tenant, user=user, at_ms=T0, title=title, delete=delete
        )  # fmt: skip
    yield "a forgetting", MemberForget(conversation=conversation, tenant=tenant, user=user, at_ms=T0)
    if tenant:
        yield "a result", CallResult(turn=turn, call=0, claim=1, at_ms=T0, result='"false"', tenant=tenant)


def signatures(
    event: Event, event_id: str, key: str, keys: Keys, member: tuple[str, str]
) -> Iterator[tuple[str, Headers]]:
    """Every way to sign it that is not the right one."""
    service = isinstance(event, FactPublish | CallResult) or getattr(event, "origin", "") == "service"
    yield "no signature", []
    yield "a foreign service's", signed(event, event_id, TURNS.name, key, keys.foreign)
    yield "a chat key's", signed(event, event_id, TURNS.name, key, keys.chat)
    if not service or (member[1] != "ada" and not isinstance(event, CallResult)):
        yield "a service's of the tenant", signed(event, event_id, TURNS.name, key, keys.own)
    wrong = command_secret("another installation's signing key, as long")
    yield "another installation's", signed_by_gateway(event, event_id, TURNS.name, key, wrong)
    right = command_secret(SIGNING_KEY)
    harmless = TurnCancel(turn=ids.turn_id(key, T0, bytes(10)), tenant="", user="", at_ms=0)
    for what, other in (
        ("for another id", signed_by_gateway(event, event_id + "x", TURNS.name, key, right)),
        ("for another topic", signed_by_gateway(event, event_id, EVENTS.name, key, right)),
        ("for another key", signed_by_gateway(event, event_id, TURNS.name, key + "x", right)),
        ("for another value", signed_by_gateway(harmless, event_id, TURNS.name, key, right)),
    ):
        yield f"a gateway's {what}", other
    genuine = signed(event, event_id, TURNS.name, key, keys.foreign)
    yield "a service's under a gateway's name", [(KEY_HEADER, GATEWAY.encode()), genuine[1]]
    for text in (b"", b"\xff\xfe", b"0" * 64, b"None"):
        yield "no hex", [(KEY_HEADER, GATEWAY.encode()), (SIGNATURE_HEADER, text)]
        yield "no key", [(KEY_HEADER, text), genuine[1]]


class Scene:
    """A turns worker, the victim's conversation that it knows, and one that only the store knows."""

    def __init__(self, scene: World) -> None:
        self.scene = scene
        self.tally = Tally()
        self._said = 0

    async def open(self) -> None:
        scene = self.scene
        self.owner = await scene.owner()
        self.keys = await Keys.made(scene)
        self.known, self.stored = scene.conversation(1), scene.conversation(2)
        row = ConversationRow(conversation=self.stored, tenant="acme", user="ada", created_at_ms=1)
        await scene.store.project(1, 1 << 40, [Change(0, row)])
        turn = ids.turn_id(self.known, T0, bytes(10))
        self.turn = turn
        submit = TurnSubmit(
            turn=turn, conversation=self.known, tenant="acme", user="ada", input=(InputItem(text="A story"),), at_ms=T0,
            opens=True, options=TurnOptions(agent="companion"),
        )  # fmt: skip
        extra = signed_by_gateway(submit, turn, TURNS.name, self.known, command_secret(SIGNING_KEY))
        await scene.bus.publish(TURNS.name, 1, self.known, submit, turn, "gateway/test", extra)
        request = await scene.request("answer")
        self._writer = StageWriter(scene.bus, self.known, turn, "answer", request.epoch, "generation/1")
        await self._writer.write(AnswerStarted(model=request.model, engine="test", at_ms=T0))
        await self._writer.write(AnswerDelta(text="Once upon", index=0, ids=(0,)))
        self.seen = len(self._facts())

    async def speak(self) -> None:
        """The victim's answer goes on: its stage is never silent for as long as a lease."""
        self._said += 1
        await self._writer.write(AnswerDelta(text=" and", index=self._said, ids=(self._said,)))
        self.seen = len(self._facts())

    async def finish(self) -> None:
        """The victim's answer goes on to its end."""
        await self._writer.write(AnswerFinished(reason="stop", usage=Usage(prompt=1, completion=2), at_ms=T0))

    async def attempt(self, what: str, key: str, value: bytes, headers: Headers, partition: int = 1) -> None:
        """One record; waits until the owner is done with it."""
        await self.speak()
        offset = await (await self.scene.bus.post_raw(TURNS.name, partition, key.encode(), value, headers))
        commands = self.owner.partitions[partition].commands
        while (commands.position or 0) <= offset:  # noqa: ASYNC110 - the owner has no event for it
            await asyncio.sleep(0)
        await self.owner.outbox.drained()
        facts = self._facts()
        came = facts[self.seen :]
        self.tally.note("bus", what, any(kind not in QUIET for kind in came))

    def _facts(self) -> list[str]:
        logs = [self.scene.broker.log_of(EVENTS.name, number).records for number in range(2)]
        return [record.type for records in logs for record in records]

    def letters(self) -> int:
        count = self.scene.broker.count(DEAD_LETTERS.name)
        return sum(self.scene.broker.log_of(DEAD_LETTERS.name, number).end for number in range(count))


async def test_records_that_are_not_theirs_to_write() -> None:
    async with world(secret=command_secret(SIGNING_KEY), patience_s=60) as scene:
        doors = Scene(scene)
        await doors.open()
        number = 0
        for member in (("acme", "ada"), ("acme", "eve"), ("evil", "ada"), ("evil", "bot"), ("", "")):
            for conversation in (doors.known, doors.stored):
                for what, event in said_for(member, conversation, doors.turn, number):
                    for how, extra in signatures(event, f"try {number}", conversation, doors.keys, member):
                        headers, value = encode(event, f"try {number}", "gateway/evil", extra)
                        await doors.attempt(f"{what} as {member} with {how}", conversation, value, headers)
                        number += 1
        for label, value, headers in unreadable(doors.known, doors.turn, random.Random(3)):
            await doors.attempt(label, doors.known, value, headers)
            number += 1
        assert doors.letters() == number
        await doors.finish()
        facts = await scene.facts(doors.turn)
        opening = [type(fact) for fact in facts if isinstance(fact, TurnAccepted | ConversationOpened)]
        assert opening == [TurnAccepted, ConversationOpened]
        assert isinstance(facts[-1], TurnCompleted)
    doors.tally.conclude("bus")


def unreadable(conversation: str, turn: str, rng: random.Random) -> Iterator[tuple[str, bytes, Headers]]:
    """Records that no owner can read, with nobody's word for them: none may make a fact, and none may stop it."""
    named = f'{{"turn":"{turn}","conversation":"{conversation}","tenant":"acme","user":"ada"}}'.encode()
    kinds = [TurnSubmit.TYPE, TurnSubmit.TYPE[:-1] + "9", TurnCancel.TYPE, FactPublish.TYPE, "", "x" * 1000]
    values = [b"", b"null", b"{", b"[]", named, b"\xff" * 50, b'{"a":' * 5000, b"[" * 100_000, b"9" * 5000, named * 2]
    for kind in kinds:
        for value in (*values, *(rng.randbytes(rng.randrange(1, 200)) for _ in range(5))):
            words: list[Headers] = [[], [(KEY_HEADER, b"\xff")], [(KEY_HEADER, GATEWAY.encode())], [("ce_id", b"\xff")]]
            for extra in words:
                yield f"{kind[:20]} {value[:20]!r}", value, [("ce_type", kind.encode()), ("ce_id", b"x"), *extra]
