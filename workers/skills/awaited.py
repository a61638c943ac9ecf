"""Results of calls over the bus, from the moment they may come until the log holds what they say.

A result belongs to the call whose number and key it carries, whichever worker asked and under whichever claim. One that
comes before its call is waited for (the turn was taken over a moment ago) stays until it is; one that comes again
changes nothing. The record it came in is `done` only when the call's outcome stands in the log, or the turn has ended:
until then a worker that takes the turn over reads it again.

Belongs to one event loop. Bounded: EARLY_PER_TURN results that nobody waits for, per turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from streams.events.intake import CallResult

Done = Callable[[], None]
Verdict = Literal["taken", "early", "repeated", "unexpected"]
EARLY_PER_TURN: Final = 64  # a plan has at most 16 calls; more results than that nobody asked for
SEEN_PER_CALL: Final = 32


class _Call:
    """One call, by its number and key. owner: of the skill, "" until somebody waits for the result."""

    def __init__(self) -> None:
        self.owner = ""
        self.results: deque[tuple[CallResult, str]] = deque()
        self.waiting: asyncio.Future[None] | None = None
        self.seen: set[str] = set()
        self.held: list[Done] = []
        self.settled = False


class Awaited:
    """The calls of every turn of one worker."""

    def __init__(self) -> None:
        self._turns: dict[str, dict[tuple[int, str], _Call]] = {}
        self._ended: set[str] = set()  # turns that have ended while calls of theirs (compensations) are waited for

    def __len__(self) -> int:
        """How many calls are known."""
        return sum(len(calls) for calls in self._turns.values())

    def expect(self, turn: str, call: int, key: str, owner: str) -> None:
        """From now on this call is waited for. owner: of its skill, who alone may answer it."""
        self._call(turn, call, key).owner = owner

    def owner(self, turn: str, call: int, key: str) -> str:
        """Who may answer; "" while nobody waits for this call here."""
        entry = self._turns.get(turn, {}).get((call, key))
        return entry.owner if entry is not None else ""

    def waits(self, turn: str, call: int, key: str) -> bool:
        """Whether somebody waits for this call's result now."""
        entry = self._turns.get(turn, {}).get((call, key))
        return entry is not None and entry.waiting is not None

    async def next(self, turn: str, call: int, key: str) -> tuple[CallResult, str]:
        """The call's next result and who signed it. One task at a time waits for a call; a cancel loses nothing."""
        entry = self._call(turn, call, key)
        while not entry.results:
            entry.waiting = asyncio.get_running_loop().create_future()
            try:
                await entry.waiting
            finally:
                entry.waiting = None
        return entry.results.popleft()

    def take(self, result: CallResult, event_id: str, signer: str, done: Done) -> Verdict:
        """A result came in. done is called once its record need not be read again: at once for one that is `repeated`
        or `unexpected`."""
        calls = self._turns.get(result.turn, {})
        entry = calls.get((result.call, result.key))
        if entry is not None and (entry.settled or event_id in entry.seen or len(entry.seen) >= SEEN_PER_CALL):
            done()
            return "repeated"
        if entry is None:
            if len(calls) >= EARLY_PER_TURN:
                done()
                return "unexpected"
            entry = self._call(result.turn, result.call, result.key)
        entry.seen.add(event_id)
        entry.held.append(done)
        entry.results.append((result, signer))
        if entry.waiting is not None and not entry.waiting.done():
            entry.waiting.set_result(None)
        return "taken" if entry.owner else "early"

    def settled(self, turn: str, call: int) -> None:
        """The call's outcome stands in the log; a result that still comes repeats it."""
        for (number, key), entry in list(self._turns.get(turn, {}).items()):
            if number == call and entry.owner and entry.waiting is None:
                entry.settled = True
                entry.results.clear()
                _release(entry)
                self.left(turn, call, key)

    def left(self, turn: str, call: int, key: str) -> None:
        """Nobody waits for the call any more. Until its turn has ended its results are kept for whoever takes over."""
        if turn in self._ended:
            entry = self._turns.get(turn, {}).pop((call, key), None)
            if entry is not None:
                _release(entry)
            if not self._turns.get(turn):
                self._turns.pop(turn, None)
                self._ended.discard(turn)

    def forget(self, turn: str) -> None:
        """The turn has ended: nothing of it is kept but what somebody waits for still."""
        calls = self._turns.pop(turn, {})
        waited = {place: entry for place, entry in calls.items() if entry.waiting is not None}
        for place, entry in calls.items():
            if place not in waited:
                _release(entry)
        if waited:
            self._turns[turn] = waited
            self._ended.add(turn)

    def drop(self, turn: str) -> None:
        """The turn is another worker's: its records are not done here."""
        self._turns.pop(turn, None)
        self._ended.discard(turn)

    def _call(self, turn: str, call: int, key: str) -> _Call:
        return self._turns.setdefault(turn, {}).setdefault((call, key), _Call())


def _release(entry: _Call) -> None:
    held, entry.held = entry.held, []
    for done in held:
        done()
