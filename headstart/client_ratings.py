"""What a client says of answers and waits to hear back: sent again on each new connection until the gateway has it.

A rating carries an `event_id`, so one that travels twice is one word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headstart.client_errors import error_of
from headstart.client_readers import Frame
from streams.errors import HeadstartError

ACCEPTED = "headstart.feedback.accepted"


class Ratings:
    """The ratings on their way, by `event_id`."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Frame, asyncio.Future[None]]] = {}

    def add(self, frame: Frame) -> asyncio.Future[None]:
        """A rating that is sent now. Done when the log will have it; raises what the gateway refused it with."""
        said = asyncio.get_running_loop().create_future()
        name = str(frame["event_id"])
        self._waiting[name] = (frame, said)
        said.add_done_callback(lambda _: self._waiting.pop(name, None))
        return said

    def __iter__(self) -> Iterator[Frame]:
        """Those that were not answered yet, in the order in which they were said."""
        return iter([frame for frame, said in self._waiting.values() if not said.done()])

    def received(self, frame: Frame) -> bool:
        """Whether a frame was the answer to one of them."""
        found = self._waiting.get(str(frame.get("event_id") or ""))
        if found is None or frame.get("type") not in (ACCEPTED, "error"):
            return False
        _, said = found
        if said.done():
            return True
        if frame["type"] == ACCEPTED:
            said.set_result(None)
        else:
            said.set_exception(error_of(frame))
        return True

    def fail(self, error: HeadstartError) -> None:
        """No connection will come again."""
        for _, said in list(self._waiting.values()):
            if not said.done():
                said.set_exception(error)
