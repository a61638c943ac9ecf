"""One partition in an owner's hands: its view, its commands, the turns it carries."""

from __future__ import annotations

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
        self.commands = Watermark()
        self.held: list[Record] = []  # commands that came before the end was reached
        self.inbox: dict[str, deque[tuple[TurnSubmit, int]]] = {}
        self.cancelled: dict[str, str] = {}
        self.lives: dict[str, LiveTurn] = {}
        self.adopting: dict[str, LiveTurn] = {}
