"""A conversation's log of frames as a gateway would make them, for tests of clients: pure, repeatable, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams import ids
from streams.offsets import Cursor

Frame = dict[str, Any]
EPOCH = 7


def conversation_name(number: int) -> str:
    return ids.conversation_id(number % 4, 1_000 + number, number.to_bytes(10, "big"))


@dataclass
class FrameLog:
    """Frames of one conversation, each with the cursor of its place. One offset per frame."""

    conversation: str
    frames: list[Frame] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)
    responses: list[str] = field(default_factory=list)

    def open(self, event_id: str = "", steered_from: str = "") -> str:
        """A turn begins; its response id."""
        turn = ids.keyed_turn_id(self.conversation, "ada", event_id or f"turn {len(self.responses)}")
        response = ids.response_of(turn)
        self.responses.append(response)
        body: dict[str, Any] = {"id": response, "status": "in_progress", "conversation": {"id": self.conversation}}
        if steered_from:
            body["headstart"] = {"steered_from": steered_from}
        self.add(response, {"type": "response.created", "response": body})
        return response

    def say(self, response: str, text: str) -> None:
        self.add(response, {"type": "response.output_text.delta", "delta": text})

    def end(self, response: str, status: str = "completed", **extra: Any) -> None:
        kind = {"completed": "response.completed", "failed": "response.failed"}.get(status, "response.incomplete")
        body = {"id": response, "status": status, **({"headstart": extra} if extra else {})}
        self.add(response, {"type": kind, "response": body})

    def add(self, response: str, fields: Frame) -> None:
        sequence = self.sequences.get(response, 0)
        self.sequences[response] = sequence + 1
        cursor = Cursor(len(self.frames), 0, self.conversation, 0, EPOCH).encode()
        self.frames.append({**fields, "response_id": response, "sequence_number": sequence, "cursor": cursor})

    def of(self, response: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["response_id"] == response]

    def begin(self, response: str) -> int:
        return next(index for index, frame in enumerate(self.frames) if frame["response_id"] == response)

    def index_after(self, after: str) -> int:
        """The index of the first frame after a cursor, "start" or "live"."""
        if after == "start":
            return 0
        return len(self.frames) if after == "live" else Cursor.decode(after).offset + 1
