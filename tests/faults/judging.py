"""What must hold after every run, read from the log itself and from the skill service's own ledger.

The client's stream of a turn is compared with the projection of the log: the conversation is read from its beginning
by a reader of its own, and the gateway's frame code makes the frames again. Both are hashed as canonical JSON. What
came on the sockets, repeats included, must be those very bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeVar

import msgspec
import orjson

from gateway.resume import ConversationFold
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import Identity, Record, decode, identity
from streams.errors import PeerError
from streams.events import Event
from streams.events.calling import CallFailed
from streams.events.generating import AnswerDelta, ModelAsked
from streams.events.turn import TurnAccepted, TurnEnd
from streams.fence import Fence
from streams.topology import EVENTS
from tests.faults.driving import Outcome
from tests.faults.skill_service import Line
from tests.faults.story import APPROVED

ASK_TRIES: Final = 60
T = TypeVar("T")
REMEMBER_TRIES: Final = 300  # ten a second: memory is behind where it was killed


class Verdict(msgspec.Struct):
    """turns, completed: of the run. in_doubt: calls that a turn reported so. frames: compared; sockets: frames that
    came on sockets, repeats included. longest_pause_ms: the longest time between two facts of a turn. fenced: facts
    that no reader counts, by why. failed: turns that were not completed, in words; broken: what else does not hold."""

    turns: int = 0
    completed: int = 0
    in_doubt: int = 0
    frames: int = 0
    sockets: int = 0
    longest_pause_ms: int = 0
    fenced: dict[str, int] = {}
    failed: list[str] = []
    broken: list[str] = []


class Span(msgspec.Struct):
    """A part of a partition as it was read: its records from `begin` up to `end`, hashed."""

    begin: int
    end: int
    digest: str


class LogOfRun:
    """The part of `events` that a run wrote: facts that count by turn, and every frame a gateway makes of it. Turns of
    the run before may still be ending in it; they are judged there."""

    def __init__(self, topic_epoch: int) -> None:
        self.facts: dict[str, list[tuple[Identity, Event, int]]] = {}
        self.frames: dict[str, list[bytes]] = {}
        self.bodies: set[bytes] = set()
        self.spans: dict[int, Span] = {}
        self.ended: set[str] = set()
        self._begun: set[str] = set()
        self._earlier: set[str] = set()  # turns whose beginning lies before this part
        self._fences: dict[int, Fence] = {}
        self._folds: dict[str, ConversationFold] = {}
        self._epoch = topic_epoch

    @property
    def dropped(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for fence in self._fences.values():
            total.update(fence.dropped)
        return dict(total)

    def feed(self, record: Record) -> None:
        fact = identity(record)
        if ids.is_id(ids.TURN, fact.subject) and fact.subject not in self._begun:
            if record.type != TurnAccepted.TYPE or fact.subject in self._earlier:
                self._earlier.add(fact.subject)  # a worker that was stopped meanwhile may accept it once more
                return
            self._begun.add(fact.subject)
        if self._fences.setdefault(record.partition, Fence()).judge(fact, record.source, record.type) == "counts":
            event = decode(record)
            self.facts.setdefault(fact.subject, []).append((fact, event, record.timestamp_ms))
            if isinstance(event, TurnEnd):
                self.ended.add(fact.subject)
        key = (record.key or b"").decode()
        fold = self._folds.get(key)
        if fold is None:
            fold = self._folds[key] = ConversationFold(key, self._epoch)
        step = fold.receive(record)
        for frame in step.frames if step else ():
            self.frames.setdefault(frame.turn, []).append(frame.body)
            self.bodies.add(frame.body)


async def ends_of(bus: Bus) -> dict[int, int]:
    """Where each partition of `events` ends now."""
    reader = await patiently(lambda: bus.reader(EVENTS.name, {}))
    try:
        return {number: await patiently(partial(reader.end_offset, number)) for number in range(bus.partitions)}
    finally:
        await reader.close()


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The broker's answer, although another run may have just killed it."""
    for _ in range(ASK_TRIES):
        with contextlib.suppress(PeerError):
            return await ask()
        await asyncio.sleep(1)
    return await ask()


async def read_log(bus: Bus, starts: Mapping[int, int], asked: Iterable[Outcome]) -> LogOfRun:
    """Everything from these offsets to the end of now. Tansu names an end within the batch that was written last, so
    reading goes on while there is more and a turn that its client saw end has not ended."""
    log = LogOfRun(bus.epoch)
    reader = await patiently(lambda: bus.reader(EVENTS.name, dict(starts)))
    try:
        ends = {partition: await patiently(partial(reader.end_offset, partition)) for partition in starts}
        hashes = {partition: hashlib.sha256() for partition in starts}
        turns = {outcome.turn for outcome in asked if outcome.turn}
        more = True
        while any(reader.position(partition) < end for partition, end in ends.items()) or (turns - log.ended and more):
            records = await patiently(reader.batch)
            more = bool(records)
            for record in records:
                log.feed(record)
                _hash(hashes[record.partition], record)
        ends = {partition: reader.position(partition) for partition in starts}
    finally:
        await reader.close()
    log.spans = {number: Span(starts[number], ends[number], hashes[number].hexdigest()) for number in starts}
    return log


async def changed(bus: Bus, spans: Iterable[Mapping[int, Span]]) -> list[str]:
    """Reads these parts of the log once more: what is not as it was. Acknowledged records neither go nor change,
    whoever leads their partition by then."""
    complaints = []
    for numbered in spans:
        for number, span in numbered.items():
            reader = await patiently(partial(bus.reader, EVENTS.name, {number: span.begin}))
            digest = hashlib.sha256()
            try:
                while reader.position(number) < span.end:
                    for record in await patiently(reader.batch):
                        if record.offset < span.end:
                            _hash(digest, record)
            finally:
                await reader.close()
            if digest.hexdigest() != span.digest:
                complaints.append(f"records {span.begin} to {span.end} of partition {number} are not what they were")
    return complaints


def _hash(digest: hashlib._Hash, record: Record) -> None:
    parts = [str(record.offset).encode(), record.key or b"", *(value for _, value in record.headers), record.value]
    digest.update(b"\0".join(parts))


def judge(outcomes: Iterable[Outcome], log: LogOfRun, raw: Iterable[str], ledger: Iterable[Line]) -> Verdict:
    """ledger: what the skill service did during the run."""
    verdict = Verdict(fenced={why: number for why, number in log.dropped.items() if number}, failed=[], broken=[])
    asked = list(outcomes)
    for outcome in asked:
        verdict.turns += 1
        verdict.completed += outcome.status == "completed"
        name = f"{outcome.ask.tag} {outcome.turn or outcome.event_id}"
        if outcome.status != "completed":
            verdict.failed.append(f"{name} ended {outcome.status} {outcome.error}".strip())
        for complaint in _turn(outcome, log, verdict):
            verdict.broken.append(f"{name}: {complaint}")
    if gaps := log.dropped.get("gap", 0):
        verdict.broken.append(f"{gaps} facts stand after a gap: a writer broke its own rule")
    for text in raw:
        body = text.encode()
        if b'"cursor"' in body and b'"sequence_number"' in body and b'"type":"error"' not in body:
            verdict.sockets += 1
            if body not in log.bodies:
                verdict.broken.append(f"a gateway sent a frame that the log does not make: {text[:160]}")
    verdict.broken += _effects(asked, ledger)
    return verdict


def _turn(outcome: Outcome, log: LogOfRun, verdict: Verdict) -> Iterable[str]:
    facts = log.facts.get(outcome.turn, [])
    ends = [event for _, event, _ in facts if isinstance(event, TurnEnd)]
    if len(ends) != 1:
        yield f"{len(ends)} terminal facts in the log"
        return
    end = ends[0]
    verdict.in_doubt += len(end.in_doubt)
    times = [at_ms for _, _, at_ms in facts]
    verdict.longest_pause_ms = max([verdict.longest_pause_ms, *(b - a for a, b in pairwise(times))])
    if outcome.status == "lost":
        return
    frames = log.frames.get(outcome.turn, [])
    verdict.frames += len(frames)
    if _sha256(outcome.frames) != _sha256(orjson.loads(body) for body in frames):
        numbers = [frame.get("sequence_number") for frame in outcome.frames]
        yield f"the client's stream is not the log's: {len(numbers)} frames of {len(frames)}, numbered {numbers[:400]}"
    if outcome.status != "completed":
        return
    said = "".join(event.text for _, event, _ in facts if isinstance(event, AnswerDelta))
    if not said == outcome.text == outcome.says:
        yield f"the log says {said!r}, the client read {outcome.text!r}, and it should be {outcome.says!r}"
    yield from _tokens(facts)
    if outcome.follows:
        told = "\n".join(
            message.content for _, event, _ in facts if isinstance(event, ModelAsked) for message in event.messages
        )
        if outcome.follows not in told:
            yield "the turn before it was not in its prompt"
    doubted = {event.call for _, event, _ in facts if isinstance(event, CallFailed) and event.in_doubt}
    if set(end.in_doubt) - doubted:
        yield "it reports a call in doubt that no fact says to be"


def _tokens(facts: Iterable[tuple[Identity, Event, int]]) -> Iterable[str]:
    """Every token of the answer once, over all its epochs, and the usage counted once."""
    following = 0
    for _, event, _ in facts:
        if isinstance(event, AnswerDelta):
            if event.index != following:
                yield f"token {event.index} where {following} is due"
            following = event.index + len(event.ids)
        elif isinstance(event, TurnEnd):
            used = sum(use.usage.completion for use in event.models if use.step == "answer")
            if used != following:
                yield f"{used} tokens are paid for and {following} were said"


def _effects(outcomes: Iterable[Outcome], ledger: Iterable[Line]) -> Iterable[str]:
    wanted = Counter(outcome.ask.person for outcome in outcomes if outcome.says == APPROVED)
    sent = Counter(str(line.detail["to"]) for line in ledger if line.effect and line.what == "send_message")
    for person, times in sent.items():
        if person in wanted and times > wanted[person]:
            yield f"{person} was sent {times} messages where {wanted[person]} were approved"


def _sha256(frames: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(orjson.dumps(frame) + b"\n")
    return digest.hexdigest()


def said_in(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """The answers of each conversation whose turns were all completed, oldest first."""
    said: dict[str, list[str]] = {}
    whole: dict[str, bool] = {}
    for outcome in outcomes:
        whole[outcome.conversation] = whole.get(outcome.conversation, True) and outcome.status == "completed"
        said.setdefault(outcome.conversation, []).extend([outcome.says] if outcome.says else [])
    return {conversation: texts for conversation, texts in said.items() if conversation and whole[conversation]}


async def misremembered(store: Store, said: Mapping[str, list[str]]) -> list[str]:
    """Waits until Postgres has these conversations to their ends; what it has not, or not as it was said, once."""
    complaints = []
    for conversation, texts in said.items():
        answers: list[str] = []
        for _ in range(REMEMBER_TRIES):
            messages = (await store.history(conversation, 10)).messages
            answers = [message.text for message in messages if message.role == "assistant"]
            if len(answers) >= len(texts):
                break
            await asyncio.sleep(0.1)
        if answers != texts:
            complaints.append(f"{conversation}: {answers} is remembered of {texts}")
    return complaints
