"""What a turns worker does with a service's record before it acts on it, and with the result of a call over the bus."""

from __future__ import annotations

from memory.store import Store
from streams.codec import Record
from streams.errors import NotPermitted, Refused
from streams.events import Event
from streams.events.intake import CallResult
from workers.planning.belonging import check_belongs
from workers.planning.doing import Calls
from workers.planning.holding import HeldPartition
from workers.planning.metrics import Metrics
from workers.planning.past import Past
from workers.planning.services import Check


class ServiceDesk:
    """Of one turns worker. calls: those it has in flight."""

    def __init__(self, store: Store, past: Past, check: Check, calls: Calls, metrics: Metrics) -> None:
        self._past = past
        self._store, self._check, self._calls, self._metrics = store, check, calls, metrics

    async def signer(self, partition: HeldPartition, event: Event, record: Record) -> str:
        """Who signed the record. Raises NotPermitted and InvalidInput for one that may not be taken, Refused for one
        that is its sender's to make but over its quota (a submit is told so by a fact), and what the store raises."""
        try:
            signer = await self._check(self._store, record, getattr(event, "tenant", ""))
        except Refused:
            await check_belongs(partition, self._store, self._past, event)
            raise
        await check_belongs(partition, self._store, self._past, event)
        return signer

    def result(self, partition: HeldPartition, event: CallResult, record: Record, signer: str) -> None:
        """Hands a result to the call that waits for it; its record is done when the log has what came of it. Raises
        NotPermitted (`wrong_tenant`, `not_the_owner`)."""
        live = partition.lives.get(event.turn) or partition.adopting.get(event.turn)
        state = partition.view.open.get(event.turn)
        accepted = live.accepted if live is not None else state.accepted if state is not None else None
        if accepted is not None and event.tenant not in ("", accepted.tenant):
            raise NotPermitted("the turn is another tenant's", code="wrong_tenant")
        if accepted is None and not self._calls.awaits(event):
            self._metrics.results.labels("late").inc()
            partition.commands.finish(record.offset)
            return
        verdict = self._calls.result(event, record.event_id, signer, lambda: partition.commands.finish(record.offset))
        self._metrics.results.labels(verdict).inc()
