"""What a client knows, and what it has to send next: the core of `headstart.client`, fed frames and drained of actions.

Each reader (a turn that was submitted, a conversation that was attached) remembers the cursor of the last frame it
was given, so that
  * a frame that comes again, after a reconnect or because another reader needed it, is dropped,
  * a new connection asks for each conversation from its earliest reader's cursor on, and the others skip what they had,
  * a reader whose consumer is slower than the socket costs a bounded number of bytes: beyond it its frames are left
    in the log, and fetched again from its cursor once the consumer has caught up. It never holds up other readers.

A socket has one feed per conversation, and an attach moves it. So an attach always names the earliest place that any
reader of the conversation needs, and readers that wait for it take nothing until `session.attached` answers it:
what comes before the answer still belongs to the feed's old place, and taking it would leave a hole.

Requests are repeatable: they carry an `event_id`, so one sent again after a broken connection names the same turn.
Pure: no sockets, no clock. Every method returns the actions its input led to, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from headstart.client_acks import Acknowledgements
from headstart.client_errors import error_of, frames_missing, history_gone
from headstart.client_held import HeldFrames
from headstart.client_readers import (
    TERMINAL,
    Action,
    Bound,
    Deliver,
    Fail,
    Frame,
    Reader,
    Reconnect,
    Send,
    attach_frame,
    attach_of,
    cancel_frame,
    decoded,
    detach_frame,
    earliest_place,
    is_lost,
    is_newer,
    response_of,
    steered_from,
)
from headstart.client_refusals import verdict
from streams.errors import HeadstartError, InvalidInput
from streams.offsets import Cursor

LIMIT_BYTES: Final = 1 << 20  # of one reader's undelivered frames; an answer of 4,000 deltas is about this much


@dataclass(slots=True)
class ClientState:
    """The state of one client over all of its connections. limit_bytes: bound of each reader's undelivered frames.

    repeated: frames dropped because their reader had them. malformed: frames whose cursor could not be read. holes:
    how often a turn's frames were found missing and asked for again.
    """

    limit_bytes: int = LIMIT_BYTES
    repeated: int = 0
    malformed: int = 0
    holes: int = 0
    _next: int = 0
    _readers: dict[int, Reader] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)  # conversation -> attaches sent on this connection
    _answered: dict[str, int] = field(default_factory=dict)
    _attached_to: set[str] = field(default_factory=set)
    _held: HeldFrames = field(default_factory=HeldFrames)
    _acks: Acknowledgements = field(default_factory=Acknowledgements)

    # -- what the caller wants ------------------------------------------------------------------------------------

    def submit(self, request: Frame) -> tuple[int, list[Action]]:
        """A new turn; `request` is its whole `response.create` with an `event_id`. Returns the reader's key."""
        reader = self._add(turn=True)
        reader.request, reader.event_id = request, str(request["event_id"])
        conversation = request.get("conversation")
        reader.conversation = conversation if isinstance(conversation, str) else ""
        return reader.key, [Send(request)]

    def attach(self, conversation: str, after: str) -> tuple[int, list[Action]]:
        """Read a conversation after a cursor, from "start", or "live". Raises InvalidInput for any other `after`."""
        last: Cursor | None = None
        if after not in ("start", "live"):
            last = Cursor.decode(after)
            if last.conversation != conversation:
                raise InvalidInput("the cursor belongs to another conversation", code="invalid_cursor")
        reader = self._add(turn=False)
        reader.conversation, reader.start, reader.last = conversation, after, last
        return reader.key, self._place_feed(conversation, [reader])

    def cancel(self, key: int) -> list[Action]:
        """Stop a turn. Before its response is known the wish is kept, and sent the moment it is. Nothing once ended."""
        reader = self._readers.get(key)
        if reader is None:
            return []
        reader.cancelling = True
        return [Send(cancel_frame(reader.response))] if reader.response else []

    def steer(self, key: int, request: Frame) -> tuple[int, list[Action]]:
        """More input for a running turn; `request` is a `response.steer` with an `event_id`, and the response it is
        for is added to it. The returned reader is the turn that succeeds it. Raises InvalidInput when the turn has
        ended or was not accepted yet."""
        origin = self._readers.get(key)
        if origin is None or not origin.response:
            raise InvalidInput("the turn is not running", code="response_not_active")
        reader = self._add(turn=True)
        reader.request = {**request, "previous_response_id": origin.response}
        reader.event_id = str(request["event_id"])
        reader.conversation, reader.parent, reader.last = origin.conversation, origin.response, origin.last
        return reader.key, [Send(reader.request)]

    def release(self, key: int) -> list[Action]:
        """The consumer wants no more; nothing is cancelled by it. A conversation nobody reads is detached from."""
        reader = self._readers.pop(key, None)
        self._trim_held()
        if reader is None or reader.conversation not in self._attached_to or self._of(reader.conversation):
            return []
        self._attached_to.discard(reader.conversation)
        # The gateway answers attaches in order, so those still on their way are counted as answered.
        self._answered[reader.conversation] = self._asked[reader.conversation]
        return [Send(detach_frame(reader.conversation))]

    def repeat(self, key: int) -> list[Action]:
        """The pause that a `Wait` asked for is over. Nothing where the turn has begun or ended meanwhile."""
        reader = self._readers.get(key)
        if reader is None:
            return []
        reader.pausing = False
        return [Send(reader.request)] if reader.request is not None else []

    def give_up(self, key: int, error: HeadstartError) -> list[Action]:
        """A reader ends with this error; nothing where it has ended."""
        return [Fail(key, error), *self.release(key)] if key in self._readers else []

    def consumed(self, key: int, size_bytes: int) -> list[Action]:
        """A consumer took a delivered frame; a reader that was too slow goes on once half of its bound is free."""
        reader = self._readers.get(key)
        if reader is None:
            return []
        reader.queued_bytes -= size_bytes
        if reader.lagging and reader.ticket < 0 and self._caught_up(reader):
            return self._place_feed(reader.conversation, [reader])
        return []

    # -- what the connection says ---------------------------------------------------------------------------------

    def connected(self) -> list[Action]:
        """What a new connection begins with: each conversation from where its readers stand, then what is open."""
        self.disconnected()  # also forgets what was asked for while there was no socket to ask on
        waiting: dict[str, list[Reader]] = {}
        for reader in self._readers.values():
            if reader.conversation and reader.placed and (not reader.lagging or self._caught_up(reader)):
                waiting.setdefault(reader.conversation, []).append(reader)
        actions: list[Action] = []
        for conversation, readers in waiting.items():
            actions += self._place_feed(conversation, readers, repeat=False)
        for reader in self._readers.values():
            if reader.request is not None:
                actions.append(Send(reader.request))
            if reader.cancelling and reader.response:
                actions.append(Send(cancel_frame(reader.response)))
        return actions

    def disconnected(self) -> None:
        """The connection is gone; readers keep their places."""
        self._asked.clear()
        self._answered.clear()
        self._attached_to.clear()
        self._held.clear()
        self._acks.reset()
        for reader in self._readers.values():
            reader.ticket = -1

    def failed(self, error: HeadstartError) -> list[Action]:
        """No connection will come again: every reader ends with this error."""
        actions: list[Action] = [Fail(key, error) for key in self._readers]
        self._readers.clear()
        return actions

    def received(self, frame: Frame, size_bytes: int) -> list[Action]:
        """One frame from the gateway, of `size_bytes` on the wire."""
        match frame.get("type"):
            case "headstart.accepted":
                reader = self._waiting_for(frame.get("event_id"))
                return [] if reader is None else self._bind(reader, frame)
            case "response.steer.accepted" | "response.steer.pending" | "response.steer.failed":
                return self._steered(frame, size_bytes)
            case "session.attached":
                return self._attached(frame)
            case "session.gap":
                return self._gap(frame, size_bytes)
            case "session.snapshot":
                return self._snapshot(frame, size_bytes)
            case "error" if "cursor" not in frame:
                return self._error(frame)
        if "cursor" not in frame:
            return []
        position = decoded(frame["cursor"])
        if position is None:
            self.malformed += 1
            return []
        acks = self._acks.received(position, size_bytes, ends=frame.get("type") in TERMINAL)
        return self._fact(frame, position, size_bytes) + [Send(ack) for ack in acks]

    # -- frames ---------------------------------------------------------------------------------------------------

    def _bind(self, reader: Reader, accepted: Frame) -> list[Action]:
        """The reader's response is known from here on: take what came before it was, and ask for what was lost."""
        reader.response = str(accepted.get("response_id") or reader.response)
        reader.conversation = str(accepted.get("conversation") or reader.conversation)
        reader.anchor = decoded(accepted.get("cursor")) or reader.anchor
        actions: list[Action] = [Bound(reader.key, reader.response, reader.conversation)]
        if reader.cancelling:
            actions.append(Send(cancel_frame(reader.response)))
        held = self._held.take(reader.response)
        if held is None:
            reader.request, reader.lagging = None, True
            actions += self._place_feed(reader.conversation, [reader])
        for frame, position, size_bytes in held or ():
            actions += self._offer(reader, frame, position, size_bytes)
        self._trim_held()
        return actions

    def _steered(self, frame: Frame, size_bytes: int) -> list[Action]:
        steer = frame.get("steer")
        parent = str(steer.get("previous_response_id", "")) if isinstance(steer, dict) else ""
        reader = self._waiting_for(frame.get("event_id")) or self._successor_of(parent)
        if reader is None:
            return []
        if frame["type"] == "response.steer.failed":
            facts = frame.get("error")
            error = error_of({**(facts if isinstance(facts, dict) else {}), "response_id": parent})
            return [Fail(reader.key, error), *self.release(reader.key)]
        if frame["type"] == "response.steer.pending":
            return [Deliver(reader.key, frame, size_bytes, last=True), *self.release(reader.key)]
        reader.request = None
        return self._bind(reader, frame) if frame.get("response_id") else []

    def _attached(self, frame: Frame) -> list[Action]:
        """The feed stands where it was asked for: readers that waited for it take what follows."""
        conversation = str(frame.get("conversation", ""))
        answered = self._answered[conversation] = self._answered.get(conversation, 0) + 1
        for reader in self._of(conversation):
            if not 0 <= reader.ticket <= answered:
                continue
            reader.ticket, reader.lagging = -1, False
            if reader.start == "live":
                # From here on it has a place: frames missed while the socket is down are asked for.
                reader.anchor = reader.anchor or decoded(frame.get("live_at"))
        return []

    def _gap(self, frame: Frame, size_bytes: int) -> list[Action]:
        """The log no longer holds what a reader stood at. Attachments are told (the snapshot that follows too) and go
        on; a turn whose beginning is gone can not be told whole any more and ends with an error."""
        actions: list[Action] = []
        oldest = decoded(frame.get("oldest"))
        for reader in self._of(str(frame.get("conversation", ""))):
            if not reader.turn:
                reader.last = reader.anchor = None
                reader.queued_bytes += size_bytes
                actions.append(Deliver(reader.key, frame, size_bytes))
            elif reader.last is not None and is_lost(reader.last, oldest):
                actions += self.give_up(reader.key, history_gone(reader.response))
        return actions

    def _snapshot(self, frame: Frame, size_bytes: int) -> list[Action]:
        actions: list[Action] = []
        for reader in self._of(str(frame.get("conversation", ""))):
            if not reader.turn:
                reader.queued_bytes += size_bytes
                actions.append(Deliver(reader.key, frame, size_bytes))
        return actions

    def _error(self, frame: Frame) -> list[Action]:
        """An error frame ends the reader it names, or those that wait for the attach it names; one that names nobody
        ends nobody. What another connection may do better is left to one."""
        error = error_of(frame)
        attach = attach_of(frame.get("event_id"))
        if attach is not None:
            conversation, ticket = attach
            if error.facts.get("retriable"):
                return [Reconnect()]
            self._answered[conversation] = max(ticket, self._answered.get(conversation, 0))
            waiting = [reader for reader in self._of(conversation) if reader.ticket == ticket]
        else:
            event_id, response = frame.get("event_id"), frame.get("response_id")
            waiting = [
                reader
                for reader in self._readers.values()
                if (event_id and reader.event_id == event_id) or (response and reader.response == response)
            ]
        return self._refused(waiting, error)

    def _refused(self, readers: list[Reader], error: HeadstartError) -> list[Action]:
        """Requests that may be sent again are, by themselves: they name the same turns."""
        actions: list[Action] = []
        for reader in readers:
            match verdict(reader, error):
                case "elsewhere":
                    reader.refusals += 1
                    actions.append(Reconnect())
                case "later":
                    actions += reader.pause(error)
                case "ends":
                    actions += self.give_up(reader.key, error)
        return actions

    def _fact(self, frame: Frame, position: Cursor, size_bytes: int) -> list[Action]:
        """A frame made from the log: each reader of its conversation takes it once."""
        response = response_of(frame)
        actions: list[Action] = []
        if frame.get("type") == "response.created":
            successor = self._successor_of(steered_from(frame))
            if successor is not None:
                actions += self._bind(successor, {"response_id": response})
        claimed = False
        for reader in self._of(position.conversation):
            if not reader.turn or (response and reader.response == response):
                claimed = claimed or reader.turn
                actions += self._offer(reader, frame, position, size_bytes)
        if not claimed and response and self._unbound():
            self._held.hold(response, frame, position, size_bytes)
        return actions

    def _offer(self, reader: Reader, frame: Frame, position: Cursor, size_bytes: int) -> list[Action]:
        if reader.lagging or reader.ticket >= 0:
            return []
        if not is_newer(position, reader.last):
            self.repeated += 1
            return []
        if reader.turn and (sequence := frame.get("sequence_number", reader.sequence)) != reader.sequence:
            return self._heal(reader, sequence)
        if reader.queued_bytes >= self.limit_bytes:
            reader.lagging = True
            return []
        actions: list[Action] = []
        if reader.cancelling and reader.last is None:
            # The gateway may not have known the turn yet when the wish was sent first; now it stands in the log.
            actions.append(Send(cancel_frame(reader.response)))
        reader.last, reader.request = position, None
        reader.sequence += 1
        reader.queued_bytes += size_bytes
        last = reader.turn and frame.get("type") in TERMINAL
        actions.append(Deliver(reader.key, frame, size_bytes, last))
        return actions + self.release(reader.key) if last else actions

    def _heal(self, reader: Reader, sequence: int) -> list[Action]:
        """A response's frames are numbered without holes, so one that skips says that others are missing: they are
        asked for again, once."""
        self.holes += 1
        if reader.healed == reader.sequence:
            return self.give_up(reader.key, frames_missing(reader.response, reader.sequence, sequence))
        reader.healed, reader.lagging, reader.request = reader.sequence, True, None
        return self._place_feed(reader.conversation, [reader])

    # -- small parts ----------------------------------------------------------------------------------------------

    def _add(self, turn: bool) -> Reader:
        reader = Reader(key=self._next, turn=turn)
        self._next += 1
        self._readers[reader.key] = reader
        return reader

    def _of(self, conversation: str) -> list[Reader]:
        return [reader for reader in self._readers.values() if conversation and reader.conversation == conversation]

    def _waiting_for(self, event_id: object) -> Reader | None:
        return next((r for r in self._readers.values() if event_id and r.event_id == event_id), None)

    def _successor_of(self, parent: str) -> Reader | None:
        return next((r for r in self._readers.values() if parent and r.parent == parent and not r.response), None)

    def _unbound(self) -> bool:
        return any(reader.turn and not reader.response for reader in self._readers.values())

    def _caught_up(self, reader: Reader) -> bool:
        return reader.queued_bytes <= self.limit_bytes // 2

    def _place_feed(self, conversation: str, waiting: list[Reader], repeat: bool = True) -> list[Action]:
        """Ask for the conversation from the earliest place any of its current readers needs. repeat: also send again
        the requests of turns that have no place yet, which a feed that moves to "live" could pass over."""
        # Those that lag and have not asked yet need nothing; those that have asked still need what they asked for.
        current = [r for r in self._of(conversation) if r.placed and (r in waiting or not r.lagging or r.ticket >= 0)]
        self._asked[conversation] = number = self._asked.get(conversation, 0) + 1
        self._attached_to.add(conversation)
        for reader in waiting:
            reader.ticket = number
        actions: list[Action] = [Send(attach_frame(conversation, earliest_place(current), number))]
        if repeat:
            actions += [Send(r.request) for r in self._of(conversation) if r.request is not None and not r.placed]
        return actions

    def _trim_held(self) -> None:
        """Held frames are for turns that wait to be claimed; without one they are other people's."""
        if not self._unbound():
            self._held.clear()
