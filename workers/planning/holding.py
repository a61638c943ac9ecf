"""One partition in an owner's hands: its view, its commands, the turns it carries."""

from __future__ import annotations

import asyncio
from collections import deque

from streams.codec import Record
from streams.events.intake import TurnSubmit
from streams.watermark import Watermark
from workers.planning.live import LiveTurn
from workers.planning.partition import PartitionView


class HeldPartition:
    """One partition in this worker's hands."""

    def __init__(self, number: int, end_offset: int) -> None:
        self.number = number
        self.view = PartitionView()
        self.end_offset = end_offset  # of `events` when it was assigned: up to there we only read
        self.caught_up = False
        self.given_away = False  # it is another worker's now; nothing more of it begins here
        self.next_offset = -1
        self.began_at = -1
        self.before: asyncio.Task[PartitionView] | None = None  # see past.py
        self.commands = Watermark()
        self.contested: set[str] = set()  # turns that this worker may not go on with from what it holds (contest.py)
        self.held: list[Record] = []  # commands that came before the end was reached
        self.inbox: dict[str, deque[tuple[TurnSubmit, int]]] = {}
        self.cancelled: dict[str, str] = {}
        self.lives: dict[str, LiveTurn] = {}
        self.adopting: dict[str, LiveTurn] = {}
        self.ending: dict[str, LiveTurn] = {}  # ended here; their terminal facts have not been read yet
        self._with_turns: dict[str, list[int]] = {}  # commands that are done when their turn has ended
        self._readers: list[tuple[int, asyncio.Event]] = []
        self._read_at: deque[tuple[int, int]] = deque()  # commands, each with what of `events` it may be about

    @property
    def first_offset(self) -> int:
        """Of the first record of `events` that was read here, or is to be; -1 while that is not known."""
        return self.began_at if self.began_at >= 0 else self.next_offset

    def begin(self, offset: int) -> bool:
        """A command is taken up; False when it was before."""
        begun = self.commands.begin(offset)
        if begun:
            # One that an owner before has taken up may have had its effect anywhere in what is read again.
            self._read_at.append((offset, self.next_offset if self.caught_up else self.first_offset))
        return begun

    def hold_back(self, offset: int, turn: str) -> None:
        """Until this command is done a successor must be able to read the whole turn."""
        state = self.view.open.get(turn)
        if state is not None:
            self._read_at = deque(
                (at, min(begin, state.offset) if at == offset else begin) for at, begin in self._read_at
            )

    def finish_with(self, turn: str, offset: int) -> None:
        """This command is done when the turn has ended in the log: an owner that dies before may have told nobody."""
        if turn in self.lives or turn in self.adopting:
            self._with_turns.setdefault(turn, []).append(offset)
        else:
            self.commands.finish(offset)

    def ended(self, turn: str) -> None:
        """The turn's terminal fact was read."""
        self.ending.pop(turn, None)
        for offset in self._with_turns.pop(turn, ()):
            self.commands.finish(offset)

    def positions(self) -> tuple[int | None, int | None]:
        """Up to where `turns` and `events` may be committed together, each None when there is nothing to say.

        A successor must know each turn whose command it reads again. So `events` stays before the oldest open turn,
        and before whatever was accepted after the oldest command that is not done.
        """
        done = self.commands.position
        while self._read_at and done is not None and self._read_at[0][0] < done:
            self._read_at.popleft()
        if not self.caught_up or self.next_offset < 0:
            return done, None
        events = self.view.oldest_open(self.next_offset)
        if self._read_at:
            events = min(events, *(begin for _, begin in self._read_at))
        return done, events if events >= 0 else None

    def read(self, offset: int) -> None:
        """The record of `events` at this offset has been read."""
        self.next_offset = offset + 1
        if self._readers:
            ready = [entry for entry in self._readers if entry[0] <= self.next_offset]
            self._readers = [entry for entry in self._readers if entry[0] > self.next_offset]
            for _, event in ready:
                event.set()

    async def read_up_to(self, end_offset: int) -> None:
        """Returns once all before this offset was read."""
        if self.next_offset < end_offset:
            reached = asyncio.Event()
            self._readers.append((end_offset, reached))
            await reached.wait()

    def forget(self, live: LiveTurn) -> None:
        """A turn carried here has ended; until its terminal fact is read it is only as good as written."""
        turn = live.accepted.turn
        if self.lives.pop(turn, None) is not None and turn in self.view.open:
            self.ending[turn] = live

    def broken(self) -> set[str]:
        """Turns of which something could not be written."""
        every = (self.lives, self.adopting, self.ending)
        return {turn for lives in every for turn, live in lives.items() if live.broken}
