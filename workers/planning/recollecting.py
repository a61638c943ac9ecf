"""Everything a turn may use of the past, fetched side by side: its conversation, memories, examples, habits.

A turn goes on without memories, examples and habits when they can not be had; for its own history it waits while it has
time. What the history shows in any case is not looked for among the memories.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from memory.habits import told
from memory.recall import rank
from memory.rows import Experience
from memory.store import Store
from streams.errors import HeadstartError
from streams.events.recalling import ExampleItem, HistoryMessage, Recalled, RecalledItem
from streams.events.turn import TurnAccepted
from workers.planning.commands import Look
from workers.planning.context import shown_history

log = logging.getLogger("headstart.turns")
RECALL_CANDIDATES: Final = 16
EXAMPLES: Final = 4
# Cosine of MiniLM from which two questions ask for the same kind of thing; below, an example misleads more than it
# helps.
EXAMPLE_SCORE: Final = 0.5
History = tuple[tuple[HistoryMessage, ...], int, str]
"""Messages, oldest first; the offset up to which Postgres had stored the partition; the summary of what came before."""
T = TypeVar("T")


class Recollecting:
    """Fetches for one worker's turns. clock_ms: wall clock in milliseconds."""

    def __init__(self, store: Store, clock_ms: Callable[[], float]) -> None:
        self._store, self._clock_ms = store, clock_ms

    async def experience(self, accepted: TurnAccepted) -> Experience:
        """The member's habits, and whether there are examples; none when they can not be had."""
        find = self._store.experience(accepted.tenant, accepted.user)
        return await self._or_nothing(find, Experience([], False), accepted, "experience")

    async def recollect(
        self, accepted: TurnAccepted, item: Look, vector: list[float], history: Awaitable[History],
        experience: Experience, embed_ms: float,
    ) -> Recalled:  # fmt: skip
        """Raises what `history` raises."""
        started = time.perf_counter()
        messages, position, summary = await history
        shown = shown_history(messages, item.least_turns, item.least_tokens)
        items, examples = await asyncio.gather(
            self._memories(accepted, item, vector, list({message.turn for message in shown})),
            self._examples(accepted, vector, experience.rated),
        )
        return Recalled(
            items=items, history=messages, at_ms=int(self._clock_ms()), position=position, summary=summary,
            examples=examples, habits=tuple(told(experience.habits)),
            took_ms=round((time.perf_counter() - started) * 1000, 3), embed_ms=embed_ms,
        )  # fmt: skip

    async def _memories(
        self, accepted: TurnAccepted, item: Look, vector: list[float], shown: Sequence[str]
    ) -> tuple[RecalledItem, ...]:
        find = self._store.recall(
            accepted.tenant, accepted.user, vector, item.text, RECALL_CANDIDATES, exclude_turns=shown
        )
        candidates = await self._or_nothing(find, [], accepted, "memories")
        # The conversation's own summary stands in the prompt anyway.
        candidates = [one for one in candidates if one.subject != accepted.conversation]
        return tuple(rank(candidates, item.text, int(self._clock_ms()), item.tokens))

    async def _examples(self, accepted: TurnAccepted, vector: list[float], rated: bool) -> tuple[ExampleItem, ...]:
        if not rated:
            return ()
        find = self._store.examples(accepted.tenant, accepted.user, vector, EXAMPLES)
        return tuple(
            ExampleItem(turn=one.turn, agent=one.agent, question=one.question, answer=one.answer,
                        score=round(one.score, 4))
            for one in await self._or_nothing(find, [], accepted, "examples")
            if one.score >= EXAMPLE_SCORE
        )  # fmt: skip

    async def _or_nothing(self, find: Awaitable[T], nothing: T, accepted: TurnAccepted, what: str) -> T:
        try:
            return await find
        except HeadstartError as error:
            log.warning("no %s, the turn goes on without: %s", what, error.code, extra={"turn": accepted.turn})
            return nothing
