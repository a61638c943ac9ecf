"""From the log of one turn to the frames a client gets: OpenAI's Responses events and `headstart.*`. Pure.

`TurnProjector` folds the facts of a turn that count, in log order, and gives each fact's frames. It never looks at
a clock, a socket or another turn, so two gateways make the same bytes. Rules:
  * sequence_number is dense from 0 over all frames of a response; the terminal event is its last frame.
  * A skill the server runs is told in `headstart.tool.*` frames: an item would make a stock client answer it.
  * A function of the client's own is a `function_call` item with argument deltas.
  * The answer's item opens with its first delta. A delta costs one template and no re-joining; the text is joined
    once, at the end.
What arrives after the terminal fact (a late call result) makes no frame; it is in the log and in the turn's items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway import response_object as objects
from gateway.frame import Frame
from streams import ids
from streams.codec import Identity
from streams.events import Event
from streams.events import calling as c
from streams.events import generating as g
from streams.events import recalling as r
from streams.events import turn as t
from streams.events.conversation import FactTaken
from streams.events.routing import RouteDecided
from streams.offsets import CursorMaker

PROJECTION: Final = 1  # version of this file's rules; cursors carry it
FACT_TAKEN: Final = "headstart.fact.taken"
TEXT_DELTA: Final = "response.output_text.delta"


class _ClientCall:
    """A function call item that is being written."""

    __slots__ = ("index", "item_id", "name", "parts", "position")

    def __init__(self, index: int, position: int, item_id: str, name: str) -> None:
        self.index = index
        self.position = position
        self.item_id = item_id
        self.name = name
        self.parts: list[str] = []


class TurnProjector:
    """The frames of one turn. `cursors` belongs to the caller, who sets its origin before each fact."""

    def __init__(self, accepted: t.TurnAccepted, cursors: CursorMaker) -> None:
        self.accepted = accepted
        self.ended = False
        self._cursors = cursors
        self._response_id = ids.response_of(accepted.turn)
        self._sequence = 0
        self._offset = 0
        self._frames: list[Frame] = []
        self._output: list[dict[str, Any] | None] = []  # by output_index; None: voided, not in the end's output
        self._text = bytearray()  # of the answer so far, in UTF-8: a list of deltas would cost 50 bytes for each
        self._message = -1  # output_index of the answer's item, -1 before its first delta
        self._delta_head = b""
        self._delta_tail = b""
        self._last_delta = b""
        self._model = ""
        self._calls: dict[int, _ClientCall] = {}
        self._positions: dict[int, int] = {}  # output_index of each of the client's calls

    @property
    def sequence(self) -> int:
        """The next frame's sequence_number."""
        return self._sequence

    def snapshot(self) -> dict[str, Any]:
        """The `response` object as far as the turn got."""
        output = [item for item in self._output if item is not None]
        if self._message >= 0:
            output.append(self._message_item("in_progress"))
        return objects.base(self.accepted, "in_progress", self._model, output)

    def feed(self, offset: int, identity: Identity, event: Event) -> list[Frame]:
        """The frames of the next fact that counts; [] for facts a client has no use for."""
        if self.ended:
            return []
        self._offset = offset
        self._frames = []
        if type(event) is g.AnswerDelta:
            self._answer_delta(event)
        else:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, identity, event)
        return self._frames

    def _put(self, kind: str, fields: dict[str, Any], ends: bool = False) -> None:
        body = {"type": kind, "sequence_number": self._sequence, "response_id": self._response_id, **fields}
        head = orjson.dumps(body)[:-1] + b',"cursor":"'
        self._append(kind, head + self._cursors.text(self._offset, len(self._frames)) + b'"}', ends)

    def _append(self, kind: str, body: bytes, ends: bool = False) -> None:
        index = len(self._frames)
        self._frames.append(Frame(kind, self.accepted.turn, self._sequence, self._offset, index, body, ends))
        self._sequence += 1

    # the life of the turn

    def _accepted(self, identity: Identity, event: t.TurnAccepted) -> None:
        response = objects.base(event, "in_progress", "", [])
        if event.steered_from:
            response["headstart"] = {"steered_from": ids.response_of(event.steered_from)}
        self._put("response.created", {"response": response})
        self._put("response.in_progress", {"response": response})

    def _end(self, identity: Identity, event: t.TurnEnd) -> None:
        whole = isinstance(event, t.TurnCompleted)
        for call in list(self._calls.values()):
            self._drop_call(call)
        if self._message >= 0:
            self._close_message("completed" if whole else "incomplete")
        for saving in event.savings:
            fields = {name: getattr(saving, name) for name in saving.__struct_fields__}
            self._put("headstart.tool.saved", fields)
        self._put("headstart.timeline", _timeline(self.accepted, event))
        if not whole:
            text = self._text.decode()
            upto = self._last_delta.decode() or None
            self._put("headstart.delivered", {"upto": upto, "characters": len(text)})
        output = [item for item in self._output if item is not None]
        response = objects.ended(self.accepted, event, self._model, output)
        self._put(objects.terminal_type(event), {"response": response}, ends=True)
        self.ended = True

    # model calls

    def _asked(self, identity: Identity, event: g.ModelAsked) -> None:
        if event.step == objects.ANSWER_STEP:
            self._model = event.model

    def _started(self, identity: Identity, event: g.GenerationStarted) -> None:
        self._put(
            "headstart.step.started",
            {
                "step": identity.stage, "epoch": identity.epoch, "model": event.model, "engine": event.engine,
                "from_token": event.first_index, "at_ms": event.at_ms,
            },
        )  # fmt: skip

    def _finished(self, identity: Identity, event: g.GenerationFinished) -> None:
        self._put(
            "headstart.step.finished",
            {
                "step": identity.stage, "epoch": identity.epoch, "reason": event.reason,
                "prompt_tokens": event.usage.prompt, "completion_tokens": event.usage.completion,
                "hidden_tokens": event.usage.hidden, "first_token_ms": event.first_token_ms,
                "last_token_ms": event.last_token_ms, "filtered": event.filtered, "error_code": event.error_code,
                "at_ms": event.at_ms,
            },
        )  # fmt: skip

    def _answer_delta(self, event: g.AnswerDelta) -> None:
        if not event.text:
            return
        if self._message < 0:
            self._open_message()
        self._text += event.text.encode()
        self._last_delta = cursor = self._cursors.text(self._offset, len(self._frames))
        self._append(
            TEXT_DELTA,
            b"%b%d%b%b%b%b\"}" % (
                b'{"type":"response.output_text.delta","sequence_number":', self._sequence,
                self._delta_head, orjson.dumps(event.text), self._delta_tail, cursor,
            ),
        )  # fmt: skip

    def _open_message(self) -> None:
        position = self._message = len(self._output)
        item_id = ids.item_id("msg", self.accepted.turn, position)
        item = objects.message_item(item_id, "in_progress", None)
        self._output.append(None)
        self._put("response.output_item.added", {"output_index": position, "item": item})
        part = {"item_id": item_id, "output_index": position, "content_index": 0}
        self._put("response.content_part.added", {**part, "part": objects.text_part("")})
        head = {"response_id": self._response_id, **part}
        self._delta_head = b"," + orjson.dumps(head)[1:-1] + b',"delta":'
        self._delta_tail = b',"logprobs":[],"cursor":"'

    def _message_item(self, status: str) -> dict[str, Any]:
        item_id = ids.item_id("msg", self.accepted.turn, self._message)
        return objects.message_item(item_id, status, self._text.decode())

    def _close_message(self, status: str) -> None:
        item = self._message_item(status)
        part = {"item_id": item["id"], "output_index": self._message, "content_index": 0}
        text_part = item["content"][0]
        self._put("response.output_text.done", {**part, "text": text_part["text"], "logprobs": []})
        self._put("response.content_part.done", {**part, "part": text_part})
        self._put("response.output_item.done", {"output_index": self._message, "item": item})
        self._output[self._message] = item
        self._message = -1

    # calls

    def _opened(self, identity: Identity, event: c.CallOpened) -> None:
        if not event.client:
            fields = {"call": event.call, "skill": event.skill, "token": event.token, "at_ms": event.at_ms}
            self._put("headstart.tool.opened", fields)
            return
        position = len(self._output)
        self._output.append(None)
        item_id = ids.item_id("fc", self.accepted.turn, position)
        self._calls[event.call] = _ClientCall(event.call, position, item_id, event.skill)
        self._positions[event.call] = position
        item = self._call_item(self._calls[event.call], "", "in_progress")
        self._put("response.output_item.added", {"output_index": position, "item": item})

    def _arguments_grew(self, identity: Identity, event: c.CallArguments) -> None:
        call = self._calls.get(event.call)
        if call is None:
            self._put("headstart.tool.arguments", {"call": event.call, "delta": event.text})
            return
        call.parts.append(event.text)
        self._put(
            "response.function_call_arguments.delta",
            {"item_id": call.item_id, "output_index": call.position, "delta": event.text},
        )

    def _closed(self, identity: Identity, event: c.CallClosed) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            fields = {
                "call": event.call, "skill": event.skill, "arguments": event.arguments, "token": event.token,
                "repairs": event.repairs, "at_ms": event.at_ms,
            }  # fmt: skip
            self._put("headstart.tool.closed", fields)
            return
        text = _arguments_text("".join(call.parts), event.arguments)
        item = self._call_item(call, text, "completed")
        where = {"item_id": call.item_id, "output_index": call.position}
        self._put("response.function_call_arguments.done", {**where, "name": call.name, "arguments": text})
        self._put("response.output_item.done", {"output_index": call.position, "item": item})
        self._output[call.position] = item

    def _call_item(self, call: _ClientCall, arguments: str, status: str) -> dict[str, Any]:
        call_id = ids.call_id(self.accepted.turn, call.index)
        return objects.function_call_item(call.item_id, call_id, call.name, arguments, status)

    def _drop_call(self, call: _ClientCall) -> None:
        """A client's call that was never closed: said once, and not in the response's output."""
        item = self._call_item(call, "".join(call.parts), "incomplete")
        self._put("response.output_item.done", {"output_index": call.position, "item": item})
        del self._calls[call.index]

    def _fired(self, identity: Identity, event: c.CallFired) -> None:
        fields = {
            "call": event.call, "skill": event.skill, "arguments_so_far": event.arguments, "effect": event.effect,
            "fired_at_token": event.token, "while_written": event.written, "claim": event.claim, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.tool.fired", fields)

    def _answered(self, identity: Identity, event: c.CallAnswered) -> None:
        fields = {
            "call": event.call, "result": event.result, "status": event.status, "took_ms": event.took_ms,
            "size_bytes": event.size_bytes, "cut": event.cut, "attempts": event.attempts, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.tool.answered", fields)

    def _failed_call(self, identity: Identity, event: c.CallFailed) -> None:
        fields = {
            "call": event.call, "code": event.code, "message": event.message, "took_ms": event.took_ms,
            "attempts": event.attempts, "in_doubt": event.in_doubt, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.tool.failed", fields)

    def _voided(self, identity: Identity, event: c.CallVoided) -> None:
        call = self._calls.get(event.call)
        if call is not None:
            self._drop_call(call)
        elif event.call in self._positions:
            self._output[self._positions[event.call]] = None
        fields = {"call": event.call, "reason": event.reason, "refire": event.refire, "at_ms": event.at_ms}
        self._put("headstart.tool.voided", fields)

    def _repaired(self, identity: Identity, event: c.PlanRepaired) -> None:
        self._put("headstart.plan.repaired", {"rule": event.rule, "position": event.position, "call": event.call})

    def _committed(self, identity: Identity, event: c.PlanCommitted) -> None:
        self._put(
            "headstart.plan.committed", {"calls": event.calls, "tokens": event.tokens, "at_ms": event.at_ms}
        )  # fmt: skip

    def _approval(self, identity: Identity, event: c.ApprovalAsked) -> None:
        item = objects.approval_item(event.request, event.skill, orjson.dumps(event.arguments).decode())
        position = len(self._output)
        self._output.append(item)
        fields = {
            "call": event.call, "skill": event.skill, "arguments": event.arguments, "request": event.request,
            "expires_at_ms": event.expires_at_ms, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.approval.asked", fields)
        self._put("response.output_item.added", {"output_index": position, "item": item})
        self._put("response.output_item.done", {"output_index": position, "item": item})

    # what the turn knows

    def _routed(self, identity: Identity, event: RouteDecided) -> None:
        scores = [{"agent": score.agent, "score": score.score} for score in event.scores]
        fields = {
            "agent": event.agent or None, "by": event.by, "scores": scores, "reason": event.reason,
            "took_ms": event.took_ms, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.route.decided", fields)

    def _recalled(self, identity: Identity, event: r.Recalled) -> None:
        items = [
            {"id": item.id, "layer": item.layer, "text": item.text, "score": item.score, "why": item.why}
            for item in event.items
        ]
        fields = {
            "items": items, "history_messages": len(event.history), "took_ms": event.took_ms, "at_ms": event.at_ms,
        }  # fmt: skip
        self._put("headstart.recalled", fields)

    def _discovered(self, identity: Identity, event: r.SkillsDiscovered) -> None:
        skills = [{"skill": item.skill, "score": item.score} for item in event.skills]
        self._put(
            "headstart.skills.discovered", {"skills": skills, "took_ms": event.took_ms, "at_ms": event.at_ms}
        )  # fmt: skip

    def _fact_taken(self, identity: Identity, event: FactTaken) -> None:
        self._put(FACT_TAKEN, fact_fields(event))


def fact_fields(event: FactTaken) -> dict[str, Any]:
    """What a frame says of a service's fact that was taken in, by a turn or without one."""
    successor = ids.response_of(event.successor) if event.successor else None
    return {
        "fact": event.fact, "kind": event.kind, "service": event.service, "agent": event.agent or None,
        "policy": event.policy, "moment": event.moment, "outcome": event.outcome, "successor": successor,
        "at_ms": event.at_ms,
    }  # fmt: skip


def _arguments_text(written: str, arguments: dict[str, Any]) -> str:
    """The arguments as JSON text: the joined deltas where they say the same, else the object that will be used."""
    try:
        if orjson.loads(written) == arguments:
            return written
    except orjson.JSONDecodeError:
        pass  # the plan's text was mended; the mended object is the one that counts
    return orjson.dumps(arguments).decode()


def _timeline(accepted: t.TurnAccepted, end: t.TurnEnd) -> dict[str, Any]:
    models = [
        {
            "step": use.step, "model": use.model, "prompt_tokens": use.usage.prompt,
            "completion_tokens": use.usage.completion, "hidden_tokens": use.usage.hidden, "cost_usd": use.cost_usd,
        }
        for use in end.models
    ]  # fmt: skip
    return {
        "took_ms": end.at_ms - accepted.at_ms, "plan_ms": end.plan_ms, "plan_tokens": end.plan_tokens,
        "saved_ms": end.saved_ms, "oracle_ms": end.oracle_ms, "models": models, "in_doubt": end.in_doubt,
        "at_ms": end.at_ms,
    }  # fmt: skip


Handler = Callable[[TurnProjector, Identity, Any], None]
_HANDLERS: Final[dict[type[Event], Handler]] = {
    t.TurnAccepted: TurnProjector._accepted,
    **dict.fromkeys(t.TERMINAL, TurnProjector._end),
    g.ModelAsked: TurnProjector._asked,
    **dict.fromkeys(g.STARTED.values(), TurnProjector._started),
    **dict.fromkeys(g.FINISHED.values(), TurnProjector._finished),
    c.CallOpened: TurnProjector._opened,
    c.CallArguments: TurnProjector._arguments_grew,
    c.CallClosed: TurnProjector._closed,
    c.CallFired: TurnProjector._fired,
    c.CallAnswered: TurnProjector._answered,
    c.CallFailed: TurnProjector._failed_call,
    c.CallVoided: TurnProjector._voided,
    c.PlanRepaired: TurnProjector._repaired,
    c.PlanCommitted: TurnProjector._committed,
    c.ApprovalAsked: TurnProjector._approval,
    FactTaken: TurnProjector._fact_taken,
    RouteDecided: TurnProjector._routed,
    r.Recalled: TurnProjector._recalled,
    r.SkillsDiscovered: TurnProjector._discovered,
}
