"""What one socket has asked for: its lanes, in which requests run first in, first out. Pure.

Requests with the same `stream_id` run one after the other, lanes run side by side; a socket without `stream_id`s has
one lane. A request that says what to do when its conversation is busy (`on_busy`) does not wait in its lane, since
it is about the turn that runs there.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.limits import Limits
from gateway.requests import CreateRequest
from streams.errors import Refused

OWN_LANE: Final = ""  # the lane of requests without a stream_id


class Lane:
    """One lane. running: turns that were started and have not ended, "" for one whose turn is not known yet."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[tuple[CreateRequest, int]] = deque()


class Lanes:
    """The lanes of one socket. A lane exists while something runs or waits in it."""

    __slots__ = ("_lanes", "_limits", "waiting_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[str, Lane] = {}
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def request(self, request: CreateRequest, size_bytes: int = 0) -> bool:
        """Takes a request of this size: True when it is to start now, False when it waits for its turn in the lane.

        Raises Refused (`too_many_requests`) when there are too many lanes, too many wait in this one, or too much
        waits on the socket.
        """
        name = request.stream_id or OWN_LANE
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= self._limits.lanes:
                raise Refused(
                    f"a socket has at most {self._limits.lanes} lanes at once", code="too_many_requests",
                    param="stream_id",
                )  # fmt: skip
            lane = self._lanes[name] = Lane()
        if not lane.running or request.on_busy_given:
            lane.running += 1
            return True
        if len(lane.waiting) >= self._limits.lane_requests:
            raise Refused(
                f"at most {self._limits.lane_requests} requests wait in a lane", code="too_many_requests",
                param="stream_id",
            )  # fmt: skip
        if self.waiting_bytes + size_bytes > self._limits.waiting_bytes:
            raise Refused(
                f"at most {self._limits.waiting_bytes} bytes of requests wait on a socket", code="too_many_requests",
                param="input",
            )  # fmt: skip
        lane.waiting.append((request, size_bytes))
        self.waiting_bytes += size_bytes
        return False

    def finished(self, stream_id: str | None) -> CreateRequest | None:
        """A request of the lane ended, or could not be started: the next one to start, None when none waits."""
        name = stream_id or OWN_LANE
        lane = self._lanes.get(name)
        if lane is None:
            return None
        lane.running -= 1
        if lane.running > 0:
            return None
        if lane.waiting:
            lane.running = 1
            request, size_bytes = lane.waiting.popleft()
            self.waiting_bytes -= size_bytes
            return request
        del self._lanes[name]
        return None
