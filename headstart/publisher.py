"""For services that speak: turns for a member, and facts about what happened outside, signed, onto the bus.

A submit or fact with an `event_id` may be sent again: within its conversation the same id is the same turn.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headstart.service_facts import ANSWER_TIMEOUT_S, Ended, turn_ended
from streams import ids
from streams.bus import Bus
from streams.codec import encode
from streams.errors import InvalidInput
from streams.events import Event, InputItem
from streams.events.intake import FACT_BYTES, FactPublish, TurnOptions, TurnSubmit
from streams.signing import key_id, signed
from streams.topology import TURNS


class Submitted(msgspec.Struct, frozen=True):
    """A turn that stands on `turns`. offset: where, -1 when the broker does not say."""

    conversation: str
    turn: str
    response: str
    offset: int


class Publisher:
    """Publishes for one tenant. The bus is started and stopped by the caller.

    api_key: a key of the tenant with the scope `service`. random_bytes: ids of new conversations and turns.
    """

    def __init__(
        self, bus: Bus, tenant: str, api_key: str, *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        """Raises InvalidInput (`invalid_key`) when the key is not one."""
        self._bus, self._tenant, self._api_key = bus, tenant, api_key
        self._now_ms, self._random_bytes = now_ms, random_bytes
        self._source = f"service/{key_id(api_key)}"

    async def turn(
        self, user: str, text: str, *, conversation: str = "", event_id: str = "", options: TurnOptions | None = None
    ) -> Submitted:
        """Submits a turn for a member. conversation "": a new one is opened; to send that again as the same turn,
        give the conversation that the first attempt gave. Raises what `Bus.publish` raises, and ValueError on a
        malformed conversation."""
        now_ms = self._now_ms()
        opens = not conversation
        if opens:
            entropy = self._random_bytes(10)
            partition = int.from_bytes(entropy[:4], "big") % self._bus.partitions
            conversation = ids.conversation_id(partition, now_ms, entropy)
        if event_id:
            turn = ids.keyed_turn_id(conversation, user, event_id)
        else:
            turn = ids.turn_id(conversation, now_ms, self._random_bytes(10))
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant=self._tenant, user=user, input=(InputItem(text=text),),
            at_ms=now_ms, opens=opens, event_id=event_id, origin="service", options=options or TurnOptions(),
        )  # fmt: skip
        offset = await self._publish(conversation, submit, turn)
        return Submitted(conversation, turn, ids.response_of(turn), offset)

    async def ended(self, turn: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Ended:
        """Waits for the end of a turn by its id, whoever submitted it, and gives its answer. Raises PeerTimeout
        (`turn_not_ended`), ValueError on a malformed id, and what the bus raises."""
        return await turn_ended(self._bus, turn, timeout_s)

    async def fact(
        self, user: str, conversation: str, kind: str, text: str, *, data: Mapping[str, Any] | None = None,
        event_id: str = "",
    ) -> int:  # fmt: skip
        """Publishes a fact into a member's conversation and gives its offset. conversation "": the one that they used
        last. Raises as `turn`, and InvalidInput (`fact_too_large`) over FACT_BYTES."""
        now_ms = self._now_ms()
        fact = FactPublish(
            conversation=conversation, tenant=self._tenant, user=user, kind=kind, text=text, at_ms=now_ms,
            data=dict(data or {}), event_id=event_id,
        )  # fmt: skip
        size_bytes = len(encode(fact, "", "")[1])
        if size_bytes > FACT_BYTES:
            raise InvalidInput(
                f"a fact has at most {FACT_BYTES} bytes", code="fact_too_large", size_bytes=size_bytes,
                hint="publish where the rest can be found",
            )  # fmt: skip
        identity = event_id or self._random_bytes(10).hex()
        return await self._publish(conversation, fact, ids.digest_hex("fact", conversation, user, identity)[:32])

    async def _publish(self, conversation: str, event: Event, identity: str) -> int:
        key = conversation or identity
        extra = signed(event, identity, TURNS.name, key, self._api_key)
        partition = ids.partition_of(conversation) if conversation else int(identity[:8], 16) % self._bus.partitions
        return await self._bus.publish(TURNS.name, partition, key, event, identity, self._source, extra)
