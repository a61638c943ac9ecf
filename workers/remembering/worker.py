"""The memory worker: reads `events`, stores turns, messages and memories, and its position with them.

It is a consumer of the log and nobody waits for it. Memory workers form one group, so each partition has one of them;
where to begin is not asked of the group but read from Postgres, where it was written in the transaction of the rows. So
whatever happens (kill -9, a rebalance in the middle of a batch, a database that goes away), a worker begins again at
what is stored: what was not is read again, and what was is ignored by the store. After any failure of a peer it does
just that, on purpose: the folds are dropped and the positions read anew.

Rounds are paced, because every token of every answer passes here and a transaction for each would cost more than all
the rest: changes are stored every PACE_MS, positions alone every IDLE_PACE_MS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final

import msgspec

from memory.drafts import CONTEXT_UTTERANCES, Draft, Said, drafts_of, said_in
from memory.embed import Embedder
from memory.opening import open_parts
from memory.rows import Change, MemoryRow
from memory.store import Store
from streams.bus import DEFAULT_WAIT_MS, Bus, GroupReader, Place, Start
from streams.codec import Record
from streams.dead_letters import dead_letter
from streams.errors import HeadstartError, InvalidInput, PeerError
from streams.events.registering import WorkerAlive
from streams.models import load_models
from streams.process import Running
from streams.pulse import Pulse
from streams.retry import FOREVER
from streams.settings import Settings
from streams.topology import EVENTS
from workers.generation.liveness import Liveness
from workers.remembering.fold import Batch, PartitionFold
from workers.remembering.learning import Learner
from workers.remembering.metrics import Metrics

log = logging.getLogger("headstart.memory")
GROUP: Final = "memory"
STAGE: Final = "memory"
REMEMBER: Final = "remember"
BATCH_RECORDS: Final = 1_000
PACE_MS: Final = 100
IDLE_PACE_MS: Final = 2_000
# A round with this many memories is stored at once: about two seconds of MiniLM on one core.
MEMORIES_AT_ONCE: Final = 256
TRANSACTIONS_AT_ONCE: Final = 4
STOP_GRACE_S: Final = 10.0
QUIET_MS: Final = 30_000  # a round of MEMORIES_AT_ONCE and a transaction for each partition, on a busy machine
# Half of the log's retention: a worker this far behind may lose what it has not read.
ALARM_LAG_MS: Final = (EVENTS.retention_ms or 0) // 2


class MemoryWorker:
    """One member of the memory group. The bus, the store and the embedder are opened and closed by the caller; the
    store follows the bus's log. clock_ms: monotonic; wall_ms: milliseconds since the epoch; chance: uniform in 0..1.
    model: the one in the table of models that reads turns in the background, "" for none (learning.py)."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        embedder: Embedder,
        *,
        clock_ms: Callable[[], float] = lambda: time.monotonic() * 1e3,
        wall_ms: Callable[[], float] = lambda: time.time() * 1e3,
        chance: Callable[[], float] = random.random,
        model: str = "",
    ) -> None:
        self.name = f"{STAGE}/{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.metrics = Metrics()
        self._bus, self._store, self._embedder = bus, store, embedder
        self._clock_ms, self._wall_ms, self._chance = clock_ms, wall_ms, chance
        self._group: GroupReader | None = None
        self._folds: dict[int, PartitionFold] = {}
        self._poison: list[tuple[Record, HeadstartError]] = []
        self._paced_at_ms = self._idle_paced_at_ms = clock_ms()
        self._holes: set[tuple[int, int, int]] = set()
        self._alarmed = False
        self._failures = 0
        self._stopping = False
        self._measuring = False
        self._task: asyncio.Task[None] | None = None
        self._learner = Learner(bus, store, model, self.name, wall_ms)
        self._pulse = Pulse(clock_ms, QUIET_MS)
        self._liveness = Liveness(bus, self.alive, self._pulse)

    async def start(self) -> None:
        """Joins the group and works until `stop`."""
        await self.join()
        self._task = asyncio.create_task(self._run())
        self._liveness.start()

    async def stop(self) -> None:
        """Ends the round that is under way, stores what was read, if the peers let it, and leaves the group. Safe to
        repeat."""
        if self._task is not None:
            self._stopping = True
            await asyncio.wait({self._task}, timeout=STOP_GRACE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._liveness.stop()
            try:
                await self.flush()
            except PeerError as error:
                log.warning("the last round was not stored and will be read again: %s", error)
        if self._group is not None:
            group, self._group = self._group, None
            await group.close()

    async def failed(self) -> None:
        """Returns when the worker has been stopped; raises what ended it otherwise."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def alive(self, leaving: bool = False) -> WorkerAlive:
        """What this worker says of itself on `workers`."""
        return WorkerAlive(
            worker=self.name, stage=STAGE, at_ms=int(self._wall_ms()), partitions=tuple(sorted(self._folds)),
            leaving=leaving,
        )  # fmt: skip

    async def join(self) -> None:
        """Joins the group without working yet; `step` works."""
        self._group = await self._bus.group([EVENTS.name], GROUP, self._assigned, self._revoked, gather_ms=PACE_MS)
        self._pulse.follow(self._group)

    async def step(self, wait_ms: int = DEFAULT_WAIT_MS) -> int:
        """Reads once and stores what is due; gives how many records it read. Raises PeerError when a peer fails; the
        next step then begins again from what is stored."""
        group = self._group
        if group is None:
            raise RuntimeError("the worker has not joined")
        try:
            for place in group.assignment:
                if place.partition not in self._folds:
                    await group.seek(place, await self._begin(place.partition))
            if any(fold.has_changes for fold in self._folds.values()):
                wait_ms = min(wait_ms, PACE_MS)
            records = await group.batch(BATCH_RECORDS, wait_ms)
            self._feed(records)
            await self._flush_what_is_due()
        except BaseException:  # what was taken from the folds and is not stored must be read again, a cancel included
            self._drop()
            raise
        return len(records)

    async def flush(self) -> None:
        """Stores everything that was read, with its positions. Raises PeerError like `step`."""
        try:
            await self._store_folds(list(self._folds.values()))
        except BaseException:
            self._drop()
            raise

    async def ask(self) -> int:
        """Asks the model to read what waits for it, as far as it may now; gives how many turns. Raises PeerError."""
        quiet = all(fold.is_quiet for fold in self._folds.values())
        return await self._learner.ask(list(self._folds), quiet)

    async def lag(self) -> dict[int, int]:
        """Records not stored yet, of each partition held. Raises PeerError."""
        lags: dict[int, int] = {}
        for partition, fold in list(self._folds.items()):
            if self._group is not None:
                end = await self._group.end_offset(Place(EVENTS.name, partition))
                lags[partition] = max(0, end - 1 - fold.position)
        return lags

    # -- partitions ------------------------------------------------------------------------------------------------

    async def _assigned(self, places: frozenset[Place]) -> dict[Place, Start]:
        """The group gave these, all others are gone. What raises here is made good by the next step."""
        self._drop()
        return {place: await self._begin(place.partition) for place in places}

    async def _revoked(self, places: frozenset[Place]) -> None:
        """Nothing is lost: what is not stored yet is read again by whoever gets the partition."""
        self._drop()

    async def _begin(self, partition: int) -> Start:
        position = await self._store.position(partition)
        resume = await self._store.resume_offset(partition)
        self._folds[partition] = PartitionFold(partition, position, resume or 0)
        return "earliest" if resume is None else resume

    def _drop(self) -> None:
        self._folds.clear()
        self._poison.clear()

    # -- a round ---------------------------------------------------------------------------------------------------

    def _feed(self, records: Iterable[Record]) -> None:
        newest_ms = 0
        count = 0
        for record in records:
            fold = self._folds.get(record.partition)
            if fold is None:
                continue  # its beginning could not be read; the next step moves the reader back
            if record.offset > fold.expected and self._reads_again(record, fold.expected):
                del self._folds[record.partition]
                continue
            count += 1
            newest_ms = max(newest_ms, record.timestamp_ms)
            try:
                fold.feed(record)
            except HeadstartError as error:
                if not fold.repeats(record.offset):
                    self._poison.append((record, error))
        if count:
            self.metrics.records.inc(count)
            behind_ms = self._wall_ms() - newest_ms
            self.metrics.lag_seconds.set(behind_ms / 1e3)
            if behind_ms > ALARM_LAG_MS and not self._alarmed:
                log.error("memory is %.1f hours behind, over half of what the log keeps", behind_ms / 3.6e6)
            self._alarmed = behind_ms > ALARM_LAG_MS

    def _reads_again(self, record: Record, expected: int) -> bool:
        """Whether a hole before this record is worth reading again from what is stored: a reader may have skipped
        records. Met twice, the hole is in the log itself, whose oldest records age out."""
        hole = (record.partition, expected, record.offset)
        if hole not in self._holes:
            self._holes.add(hole)
            return True
        log.error("records %d to %d of partition %d are gone from the log", expected, record.offset - 1, hole[0])
        self.metrics.gone.inc(record.offset - expected)
        self._holes.discard(hole)
        return False

    async def _flush_what_is_due(self) -> None:
        now_ms = self._clock_ms()
        waiting = sum(fold.memories_waiting for fold in self._folds.values())
        if now_ms - self._idle_paced_at_ms >= IDLE_PACE_MS:
            due = list(self._folds.values())
            self._idle_paced_at_ms = now_ms
            self._measuring = True
        elif now_ms - self._paced_at_ms >= PACE_MS or waiting >= MEMORIES_AT_ONCE:
            due = [fold for fold in self._folds.values() if fold.has_changes]
        else:
            return
        self._paced_at_ms = now_ms
        await self._store_folds(due)

    async def _store_folds(self, folds: list[PartitionFold]) -> None:
        poison, self._poison = self._poison, []
        for record, error in poison:
            await self._set_aside(record, error)
        batches = [batch for fold in folds if (batch := fold.take()) is not None]
        if not batches:
            return
        rows = await self._embedded(batches)
        gate = asyncio.Semaphore(TRANSACTIONS_AT_ONCE)

        async def store(batch: Batch) -> None:
            async with gate:
                await self._project(batch, rows[batch.partition])

        started = self._clock_ms()
        outcomes = await asyncio.gather(*(store(batch) for batch in batches), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self.metrics.store_seconds.observe((self._clock_ms() - started) / 1e3)
        for fold in folds:
            for verdict, number in fold.fence.dropped.items():
                self.metrics.dropped.labels(verdict).set(number)

    async def _embedded(self, batches: list[Batch]) -> dict[int, list[Change]]:
        """What these batches give beyond their own changes, with vectors, by partition."""
        learnt = {batch.partition: await self._learner.learn(batch) for batch in batches}
        drafts = {batch.partition: [*await self._drafts(batch), *learnt[batch.partition].drafts] for batch in batches}
        for found_out in learnt.values():
            for _, draft in found_out.drafts:
                self.metrics.learnt.labels(getattr(draft.row, "layer", "example")).inc()
        texts = [draft.embedded for rows in drafts.values() for _, draft in rows]
        started = self._clock_ms()
        # An embedder pads a batch to its longest text, so texts of a length go together.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = await self._embedder.embed([texts[place] for place in order]) if texts else []
        vectors = (vector for _, vector in sorted(zip(order, found, strict=True), key=lambda pair: pair[0]))
        if texts:
            self.metrics.embed_seconds.observe((self._clock_ms() - started) / 1e3)
        return {
            partition: [
                *(Change(offset, msgspec.structs.replace(draft.row, vector=next(vectors))) for offset, draft in rows),
                *learnt[partition].changes,
            ]
            for partition, rows in drafts.items()
        }

    async def _drafts(self, batch: Batch) -> list[tuple[int, Draft]]:
        """The memories of a batch. What was said before a conversation's first turn in it is asked of the store."""
        drafts = list(batch.drafts)
        past: dict[str, list[Said]] = {}
        for record in batch.ended:
            before = past.get(record.conversation)
            if before is None:
                history = await self._store.history(record.conversation, 1)
                before = [(each.role, each.text) for each in history.messages if each.role in ("user", "assistant")]
            drafts += [(record.end_offset, draft) for draft in drafts_of(record, before)]
            past[record.conversation] = [*before, *said_in(record)][-CONTEXT_UTTERANCES:]
        return drafts

    async def _project(self, batch: Batch, rows: list[Change]) -> None:
        changes = sorted([*batch.changes, *rows], key=lambda change: change.offset)
        try:
            await self._store.project(batch.partition, batch.position, changes, batch.resume)
        except InvalidInput as error:
            log.warning("a batch can not be stored as a whole, storing record by record: %s", error)
            await self._project_one_by_one(batch, changes)
        self.metrics.batches.inc()
        self.metrics.memories.inc(sum(1 for change in rows if isinstance(change.row, MemoryRow)))

    async def _project_one_by_one(self, batch: Batch, changes: list[Change]) -> None:
        """One record's changes in one transaction, so that the record that can not be stored is found and set aside.
        Until the last one a successor would begin where it would have begun before the batch."""
        for offset, group in groupby(changes, key=lambda change: change.offset):
            resume = batch.resume if offset == batch.position else batch.resume_before
            try:
                await self._store.project(batch.partition, offset, list(group), resume)
            except InvalidInput as error:
                source = batch.sources.get(offset)
                if source is None:
                    raise
                await self._set_aside(source, error)
        await self._store.project(batch.partition, batch.position, [], batch.resume)

    async def _set_aside(self, record: Record, error: BaseException) -> None:
        log.warning("record %d of partition %d can not be remembered: %s", record.offset, record.partition, error)
        await dead_letter(self._bus, record, error, STAGE)
        self.metrics.dead_letters.inc()

    # -- the loop --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.step()
                self._failures = 0
                self._pulse.beat()
                if self._measuring:
                    self._measuring = False
                    for partition, lag in (await self.lag()).items():
                        self.metrics.lag_records.labels(partition).set(lag)
                    await self.ask()
            except PeerError as error:
                self._failures += 1
                self.metrics.retries.inc()
                log.warning("a peer failed, beginning again from what is stored: %s", error)
                wait_ms = FOREVER.wait_ms(self._failures, self._chance())
                await asyncio.sleep((wait_ms or 0.0) / 1e3)


def reading_model(settings: Settings) -> str:
    """The model that reads turns in the background: the one named `remember`, if the table of models has it. Without
    one the rules read alone: the smallest models get more wrong than right (docs/design/memory.md has the figures)."""
    return REMEMBER if REMEMBER in load_models(settings) else ""


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Running]:
    """The process `python -m workers memory` (streams.process)."""
    async with open_parts(settings, "headstart-memory") as parts:
        worker = MemoryWorker(parts.bus, parts.store, parts.embedder, model=reading_model(settings))
        try:
            await worker.start()
            yield Running(worker.name, worker.failed)
        finally:
            await worker.stop()
