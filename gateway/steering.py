"""Steering: more user input for a response that runs, with the standard's three answers.

`accepted`: the log has the input. `pending`: the response stopped for the client's tool output or approval, the input
waits for the request that brings it. `failed`: nothing happened, the input is given back. The successor's
`response.created` is the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.attaching import Attachments
from gateway.frame import Frame, control
from gateway.outlet import Outlet
from gateway.requests import CreateRequest, event_id_of, parse_input
from gateway.services import Services
from gateway.subscription import Subscription
from memory.rows import Principal
from streams import ids
from streams.errors import HeadstartError, InvalidInput
from streams.events.base import InputItem

PENDING_STEERS: Final = 8  # of one response
STEERED_RESPONSES: Final = 64  # of one socket, that have steers waiting


class _Waiting(msgspec.Struct, frozen=True):
    """A steer that was accepted: the input as it was sent, its name, and who waits for the successor's frames."""

    given: Any
    items: tuple[InputItem, ...]
    event_id: Any
    showing: list[Subscription]
    size_bytes: int


class Steering:
    """The steers of one socket."""

    __slots__ = ("_bytes", "_held", "_outlet", "_pending", "_principal", "_services")

    def __init__(self, services: Services, principal: Principal, outlet: Outlet) -> None:
        self._held: dict[str, list[_Waiting]] = {}  # response that waits for its client -> its steers
        self._bytes = 0  # of frames whose input waits here
        self._services = services
        self._principal = principal
        self._outlet = outlet
        # turn -> successor -> what waits for it
        self._pending: dict[str, dict[str, _Waiting]] = {}

    async def steer(self, body: Mapping[str, Any], attachments: Attachments, size_bytes: int = 0) -> None:
        """Handles one `response.steer`, which came in a frame of this size. Every refusal is a
        `response.steer.failed`."""
        given, previous = body.get("input"), body.get("previous_response_id")
        name = body.get("event_id")
        if not isinstance(previous, str) or not ids.is_id(ids.RESPONSE, previous):
            self._failed("response_not_found", "there is no such response", str(previous), given, None, name)
            return
        try:
            items = parse_input(given, user_only=True)
            event_id = event_id_of(body, {})
            if not items:
                raise InvalidInput("the input is empty", param="input")
        except InvalidInput as error:
            self._failed("invalid_input", error.message, previous, given, None, name)
            return
        turn = ids.turn_of(previous)
        try:
            place = await self._services.directory.running(turn, self._principal)
        except HeadstartError as error:
            self._failed("response_not_found", error.message, previous, given, None, name)
            return
        subscriptions = attachments.subscriptions(place.conversation)
        lane = next((other.turns[turn] for other in subscriptions if turn in other.turns), None)
        if place.ended or self._services.feed.ended(place.conversation, turn):
            self._failed("response_already_completed", "the response has ended", previous, given, lane, name)
            return
        showing = [other for other in subscriptions if turn in other.turns]
        waiting = self._waiting(turn, showing)
        if waiting is None or self._bytes + size_bytes > self._services.limits.waiting_bytes:
            self._failed("too_many_pending_steers", "too much input waits already", previous, given, lane, name)
            return
        successor = self._services.intake.successor(turn, event_id)
        waiting[successor] = _Waiting(given, items, name, showing, size_bytes)
        self._bytes += size_bytes * bool(showing)
        for other in showing:
            other.turns.setdefault(successor, lane)
        try:
            await self._services.intake.steer(
                self._principal, place.conversation, turn, successor, items, event_id
            )  # fmt: skip
        except HeadstartError as error:
            if waiting.pop(successor, None) is not None:
                self._bytes -= size_bytes * bool(showing)
            for other in showing:
                other.drop(successor)
            self._failed("successor_creation_failed", error.message, previous, given, lane, name)
            return
        steer = {"id": _steer_id(successor), "previous_response_id": previous}
        fields = {
            "event_id": name, "response_id": ids.response_of(successor), "steer": steer,
            "sequence_number": self._sequence(place.conversation, turn, attachments),
        }  # fmt: skip
        self._outlet.answer(control("response.steer.accepted", fields, lane))

    def _waiting(self, turn: str, showing: list[Subscription]) -> dict[str, _Waiting] | None:
        """Where a steer of this turn waits; None when there is no room. One whose turn this socket does not show is
        kept nowhere: nothing would ever come of it here."""
        if not showing:
            return {}
        for other, steers in list(self._pending.items()):
            if not any(other in shown.turns for steer in steers.values() for shown in steer.showing):
                del self._pending[other]  # its successor has begun: what was steered is being answered
                self._bytes -= sum(steer.size_bytes for steer in steers.values())
        waiting = self._pending.get(turn)
        if waiting is None:
            if len(self._pending) + len(self._held) >= STEERED_RESPONSES:
                return None
            waiting = self._pending[turn] = {}
        return waiting if len(waiting) < PENDING_STEERS else None

    def ended(self, turn: str, frame: Frame) -> None:
        """A response of this socket ended without a successor of its own: what waits for it is told."""
        waiting = self._pending.pop(turn, None)
        if not waiting:
            return
        response = orjson.loads(frame.body)["response"]
        previous = ids.response_of(turn)
        required = _required(response) if response["status"] == "completed" else []
        for successor, steer in waiting.items():
            for other in steer.showing:
                other.turns.pop(successor, None)
            if not required:
                self._bytes -= steer.size_bytes
                code = "response_already_completed" if response["status"] == "completed" else "response_not_active"
                message = f"the response ended ({response['status']}) before the input reached it"
                self._failed(code, message, previous, steer.given, None, steer.event_id, frame.sequence)
                continue
            self._held.setdefault(previous, []).append(steer)
            fields = {
                "sequence_number": frame.sequence, "reason": "waiting_for_required_input",
                "required_input": required, "event_id": steer.event_id,
                "steer": {"id": _steer_id(successor), "previous_response_id": previous},
            }  # fmt: skip
            self._outlet.answer(control("response.steer.pending", fields))

    def prepended(self, request: CreateRequest) -> CreateRequest:
        """The request with the input that waited for it put before its own."""
        held = self._held.pop(request.previous_response, [])
        self._bytes -= sum(steer.size_bytes for steer in held)
        items = [item for steer in held for item in steer.items]
        return msgspec.structs.replace(request, input=(*items, *request.input)) if items else request

    def _sequence(self, conversation: str, turn: str, attachments: Attachments) -> int:
        for other in attachments.subscriptions(conversation):
            projector = other.channel.fold.projector(turn)
            if projector is not None:
                return projector.sequence
        return 0

    def _failed(
        self, code: str, message: str, previous: str, given: Any, lane: str | None, event_id: Any, sequence: int = 0
    ) -> None:
        self._services.metrics.errors.labels(code).inc()
        fields = {
            "event_id": event_id if isinstance(event_id, str) else None,
            "sequence_number": sequence,
            "error": {"type": "invalid_request_error", "code": code, "message": message},
            "steer": {"input": given, "previous_response_id": previous},
        }
        self._outlet.answer(control("response.steer.failed", fields, lane))


def _steer_id(successor: str) -> str:
    return f"steer_{ids.body_of(successor)}"


def _required(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the response waits for, in the standard's form: one stub for each of the client's calls and approvals."""
    stubs: list[dict[str, Any]] = []
    for item in response["output"]:
        if item["type"] == "function_call":
            stubs.append({"type": "function_call_output", "call_id": item["call_id"], "name": item["name"]})
        elif item["type"] == "mcp_approval_request":
            stubs.append({"type": "mcp_approval_response", "approval_request_id": item["id"]})
    return stubs
