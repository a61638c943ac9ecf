"""Going on where another worker stopped: what of a stage's answer is in the log.

The successor has written its own `started`; whatever stands before that very record, and counts, is what was
delivered, and nothing can be added to it any more. `Delivered` folds it (pure); `read_delivered` reads it.
"""

from __future__ import annotations

from typing import Literal

from streams import ids as identifiers
from streams.bus import Bus
from streams.codec import Identity, Record, decode, identity
from streams.errors import HeadstartError
from streams.events import Event
from streams.events.generating import GenerationDelta, GenerationFinished, GenerationRequested, GenerationStarted
from streams.fence import Fence
from streams.topology import EVENTS

Verdict = Literal["ours", "fenced", "ended", "finished"]
_WHOLE = ("stop", "length", "filtered")


class Delivered:
    """What counts of one stage, over all its epochs, in log order.

    whole_ids: the ids are those of all the text, without a hole. prompt_ids: as the first epoch that knew them wrote.
    finished: the stage's last fact, when an earlier epoch brought the answer to its end.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.prompt_ids: list[int] | None = None
        self.prompt_tokens = 0
        self.whole_ids = True
        self.finished: GenerationFinished | None = None
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def anything(self) -> bool:
        return bool(self._texts)

    def add(self, event: Event) -> None:
        """The stage's next fact that counts."""
        if isinstance(event, GenerationStarted):
            self.finished = None
            if self.prompt_ids is None and event.prompt_ids is not None:
                self.prompt_ids = list(event.prompt_ids)
            self.prompt_tokens = self.prompt_tokens or event.prompt_tokens
        elif isinstance(event, GenerationDelta):
            # A delta without ids was changed by a check, or comes from an engine that does not tell them.
            if not event.ids or event.index != len(self.ids):
                self.whole_ids = False
            self.ids.extend(event.ids)
            self._texts.append(event.text)
        elif isinstance(event, GenerationFinished) and event.reason in _WHOLE:
            self.finished = event


class TakeoverReader:
    """Folds the records of one turn up to one's own `started`. Pure: records in, a verdict out when it is reached."""

    def __init__(self, request: GenerationRequested, writer: str) -> None:
        self.delivered = Delivered()
        self._turn = request.turn
        self._step = request.step
        self._key = request.conversation.encode()
        self._own = Identity(request.turn, request.step, request.epoch, 0).text()
        self._writer = writer
        self._fence = Fence()

    def feed(self, record: Record) -> Verdict | None:
        """The partition's next record. "ours": go on from `delivered`. "fenced": another worker has the stage.
        "ended": the turn is over. "finished": the answer was whole already. None: not there yet."""
        if record.key != self._key:
            return None
        try:
            fact = identity(record)
        except HeadstartError:
            return None  # not a fact: no reader counts it
        if fact.subject != self._turn:
            return None
        counts = self._fence.judge(fact, record.source, record.type) == "counts"
        if record.event_id == self._own and record.source == self._writer:
            if not counts:
                return "ended" if self._fence.ended(self._turn) else "fenced"
            return "finished" if self.delivered.finished is not None else "ours"
        if counts and fact.stage == self._step:
            try:
                self.delivered.add(decode(record))
            except HeadstartError:
                self.delivered.whole_ids = False  # a fact that cannot be read: nothing can be built on it
        return None


async def read_delivered(bus: Bus, request: GenerationRequested, writer: str) -> tuple[Verdict, Delivered]:
    """What stands before this worker's own `started`, which must be in the log. Raises PeerError."""
    partition = identifiers.partition_of(request.conversation)
    folding = TakeoverReader(request, writer)
    reader = await bus.reader(EVENTS.name, {partition: request.turn_offset})
    try:
        while True:
            for record in await reader.batch():
                verdict = folding.feed(record)
                if verdict is not None:
                    return verdict, folding.delivered
            if reader.gaps:
                folding.delivered.whole_ids = False
    finally:
        await reader.close()
