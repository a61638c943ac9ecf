"""The client's core and a simulated gateway, moved step by step."""

from __future__ import annotations

from typing import Any

import orjson

from headstart.client_readers import Bound, Deliver, Fail, Frame, Send, Wait
from headstart.client_state import ClientState
from streams.errors import HeadstartError
from tests.support.scripted_gateway import Feeds, World


class Simulation:
    """One client core and its gateway, moved step by step. Holds what each reader was given and not yet consumed."""

    def __init__(self, limit_bytes: int = 1 << 20, late_answers: bool = False) -> None:
        self.world = World()
        self.state = ClientState(limit_bytes=limit_bytes)
        self.late_answers = late_answers
        self.feeds: Feeds | None = None
        self.given: dict[int, list[Frame]] = {}
        self.queued: dict[int, list[int]] = {}
        self.ended: set[int] = set()
        self.errors: dict[int, HeadstartError] = {}
        self.responses: dict[int, str] = {}
        self.waiting: list[int] = []  # readers whose request is to be sent again

    def apply(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(frame):
                    if self.feeds is not None:
                        self.feeds.receive(frame)
                case Deliver(key, frame, size, last):
                    assert key not in self.ended
                    self.given.setdefault(key, []).append(frame)
                    self.queued.setdefault(key, []).append(size)
                    if last:
                        self.ended.add(key)
                case Fail(key, error):
                    self.errors[key] = error
                case Bound(key, response, _):
                    self.responses[key] = response
                case Wait(key, _, _):
                    self.waiting.append(key)

    def connect(self) -> None:
        self.cut()
        self.feeds = Feeds(self.world, self.late_answers)
        self.apply(self.state.connected())

    def cut(self) -> None:
        if self.feeds is not None:
            self.feeds = None
            self.state.disconnected()

    def pump(self, count: int = 1 << 30) -> None:
        """Deliver up to `count` frames from the gateway."""
        while self.feeds is not None and count > 0:
            frame = self.feeds.next()
            if frame is None:
                return
            self.apply(self.state.received(frame, len(orjson.dumps(frame))))
            count -= 1

    def consume(self, key: int, count: int = 1 << 30) -> None:
        queue = self.queued.get(key, [])
        while queue and count > 0:
            self.apply(self.state.consumed(key, queue.pop(0)))
            count -= 1

    def settle(self) -> None:
        """Until nothing moves any more."""
        if self.feeds is None:
            self.connect()
        while True:
            self.pump()
            if not any(self.queued.values()):
                return
            for key in list(self.queued):
                self.consume(key)

    def submit(self, event_id: str, conversation: str | None = None, **options: Any) -> int:
        request = {"type": "response.create", "event_id": event_id, "input": "hello", **options}
        if conversation:
            request["conversation"] = conversation
        key, actions = self.state.submit(request)
        self.apply(actions)
        return key

    def attach(self, conversation: str, after: str) -> int:
        key, actions = self.state.attach(conversation, after)
        self.apply(actions)
        return key

    def answer(self, event_id: str, words: int = 5, status: str = "completed") -> list[Frame]:
        """The turn's worker speaks and ends it; the response's frames."""
        conversation, response = self.world.turns[event_id]
        log = self.world.logs[conversation]
        for word in range(words):
            log.say(response, f"{word} ")
        log.end(response, status)
        return log.of(response)
