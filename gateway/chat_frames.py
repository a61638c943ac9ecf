"""From the log of one turn to the chunks of OpenAI's Chat Completions. Pure.

The same facts as frames.py, another client's words: `ChatProjector` is fed the steps of a fold and gives chunks.
A turn that failed has no form in this API but an error object, which clients of it raise.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.frame import Frame
from gateway.response_object import MODEL
from gateway.resume import Step
from streams import ids
from streams.events import calling as c
from streams.events.generating import AnswerDelta
from streams.events.turn import ModelUse, TurnAccepted, TurnEnd, TurnFailed, TurnIncomplete

_LENGTH: Final = frozenset({"max_output_tokens", "deadline", "model_lost"})


class ChatProjector:
    """The chunks of one turn, as bodies of server-sent events. usage: the client asked for a last chunk with usage."""

    def __init__(self, turn: str, *, usage: bool = False) -> None:
        self.text: list[str] = []
        self.tool_calls: list[dict[str, Any]] = []
        self._turn = turn
        self._usage = usage
        self._head: dict[str, Any] = {}
        self._said_role = False
        self._calls: dict[int, int] = {}  # the plan's call -> index among the client's tool calls

    def render(self, step: Step) -> list[Frame]:
        """The chunks of one step, with their place in the log; [] for facts this API has no word for."""
        fact = step.fact
        if fact.identity.subject != self._turn:
            return []
        bodies, ends = self._bodies(fact.event)
        last = len(bodies) - 1
        return [
            Frame("chat.completion.chunk", self._turn, -1, fact.offset, index, body, ends and index == last)
            for index, body in enumerate(bodies)
        ]

    def _bodies(self, event: object) -> tuple[list[bytes], bool]:
        if isinstance(event, AnswerDelta):
            if not event.text:
                return [], False
            self.text.append(event.text)
            return [*self._role(), self._chunk({"content": event.text})], False
        if isinstance(event, TurnAccepted):
            self._head = {
                "id": completion_id(event.turn),
                "object": "chat.completion.chunk",
                "created": event.at_ms // 1000,
                "model": event.options.model or MODEL,
                "conversation": event.conversation,
            }
            return [], False
        if isinstance(event, c.CallOpened | c.CallArguments | c.CallClosed):
            return self._call(event), False
        if isinstance(event, TurnFailed):
            return [_sse(failure(event))], True
        if isinstance(event, TurnEnd):
            return [*self._role(), *self._end(event)], True
        return [], False

    def _call(self, event: c.CallOpened | c.CallArguments | c.CallClosed) -> list[bytes]:
        if isinstance(event, c.CallOpened):
            if not event.client:
                return []
            index = self._calls[event.call] = len(self.tool_calls)
            call = {
                "id": ids.call_id(self._turn, event.call), "type": "function",
                "function": {"name": event.skill, "arguments": ""},
            }  # fmt: skip
            self.tool_calls.append(call)
            return [*self._role(), self._chunk({"tool_calls": [{"index": index, **call}]})]
        index = self._calls.get(event.call, -1)
        if index < 0:
            return []
        function = self.tool_calls[index]["function"]
        if isinstance(event, c.CallArguments):
            function["arguments"] += event.text
            return [self._chunk({"tool_calls": [{"index": index, "function": {"arguments": event.text}}]})]
        if not function["arguments"]:  # it was written without deltas
            function["arguments"] = orjson.dumps(event.arguments).decode()
            text = function["arguments"]
            return [self._chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})]
        return []

    def _role(self) -> list[bytes]:
        if self._said_role:
            return []
        self._said_role = True
        return [self._chunk({"role": "assistant", "content": ""})]

    def _end(self, event: TurnEnd) -> list[bytes]:
        chunks = [self._chunk({}, finish_reason(event, bool(self.tool_calls)))]
        if self._usage:
            chunks.append(_sse({**self._head, "choices": [], "usage": usage(event.models)}))
        return chunks

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse({**self._head, "choices": [choice]})

    def completion(self, end: TurnEnd) -> dict[str, Any]:
        """The plain answer, once the turn has ended."""
        message: dict[str, Any] = {
            "role": "assistant", "content": "".join(self.text) or None, "refusal": None,
        }  # fmt: skip
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        choice = {
            "index": 0, "message": message, "logprobs": None,
            "finish_reason": finish_reason(end, bool(self.tool_calls)),
        }  # fmt: skip
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(end.models)}


def completion_id(turn: str) -> str:
    return f"chatcmpl-{ids.body_of(turn)}"


def finish_reason(end: TurnEnd, calls: bool) -> str:
    """stop | length | tool_calls | content_filter, the API's own words."""
    if isinstance(end, TurnIncomplete):
        if end.reason == "content_filter":
            return "content_filter"
        if end.reason in _LENGTH:
            return "length"
    return "tool_calls" if calls else "stop"


def usage(models: tuple[ModelUse, ...]) -> dict[str, Any]:
    prompt = sum(use.usage.prompt for use in models)
    completion = sum(use.usage.completion for use in models)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def failure(end: TurnFailed) -> dict[str, Any]:
    """The error object of a failed turn."""
    kind = "invalid_request_error" if end.fault == "caller" else "server_error"
    return {"error": {"type": kind, "code": end.code, "message": end.message, "hint": end.hint or None, "param": None}}


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
