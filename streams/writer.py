"""One stage's writer: gives every fact its identity, seq dense from 0, and keeps their order.

A stage is written by one `StageWriter` per epoch. Its facts leave in the order of the calls, whichever tasks make
them. When one could not be written, those after it would be gaps that no reader accepts, so the writer is `broken`
from then on: it refuses further facts, and the stage is continued by a successor with the next epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams import ids
from streams.bus import Bus
from streams.codec import Identity
from streams.errors import PeerUnavailable
from streams.events import Event
from streams.topology import EVENTS


class StageWriter:
    """Writes the facts of (subject, stage, epoch) to `events`.

    conversation: names the partition and is the key. subject: the turn, or the conversation for facts about it.
    writer: this process's name, the facts' CloudEvents source. opening: headers of the first fact alone.
    """

    def __init__(
        self, bus: Bus, conversation: str, subject: str, stage: str, epoch: int, writer: str,
        opening: Sequence[tuple[str, bytes]] = (),
    ) -> None:  # fmt: skip
        self._opening = opening
        self.conversation = conversation
        self.subject = subject
        self.stage = stage
        self.epoch = epoch
        self.writer = writer
        self.last_error: BaseException | None = None
        self._bus = bus
        self._partition = ids.partition_of(conversation)
        self._prefix = f"{subject}/{stage}/{epoch}/"
        self._seq = 0
        self._order = asyncio.Lock()

    @property
    def seq(self) -> int:
        """The number that the next fact gets."""
        return self._seq

    @property
    def broken(self) -> bool:
        """A fact of this writer failed; nothing more of it can count."""
        return self.last_error is not None

    def identity(self, seq: int) -> Identity:
        return Identity(self.subject, self.stage, self.epoch, seq)

    async def write(self, event: Event, extra: Sequence[tuple[str, bytes]] = ()) -> int:
        """Write a fact and wait until it is kept; gives its offset. Raises what `Bus.publish` raises, and
        PeerUnavailable (`stage_broken`) after an earlier failure."""
        return await (await self.post(event, extra))

    async def post(self, event: Event, extra: Sequence[tuple[str, bytes]] = ()) -> asyncio.Future[int]:
        """Queue a fact behind the earlier ones; the future gives its offset or its failure.

        A failure that nobody awaits is kept in `last_error` and met by the next call. A cancel while the queue is
        full leaves the writer broken, since the fact may or may not have been queued.
        """
        async with self._order:
            if self.last_error is not None:
                raise PeerUnavailable(
                    f"an earlier fact of stage {self.stage} could not be written", code="stage_broken",
                    turn=self.subject, seq=self._seq,
                ) from self.last_error  # fmt: skip
            event_id = self._prefix + str(self._seq)
            extra = [*self._opening, *extra] if self._seq == 0 and self._opening else extra
            self._seq += 1
            try:
                future = await self._bus.post(
                    EVENTS.name, self._partition, self.conversation, event, event_id, self.writer, extra
                )
            except BaseException as error:
                self.last_error = error
                raise
        future.add_done_callback(self._note)
        return future

    def _note(self, future: asyncio.Future[int]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None and self.last_error is None:
            self.last_error = error
