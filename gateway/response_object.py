"""The `response` object of OpenAI's API as the log tells it: what was asked, what came out, how it ended. Pure.

Fields the standard does not know stand under `headstart`, where stock clients pass them through untouched.
"""

from __future__ import annotations

from typing import Any, Final

from streams import ids
from streams.events.base import InputItem
from streams.events.intake import TurnOptions
from streams.events.turn import (
    ModelUse,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnEnd,
    TurnFailed,
    TurnIncomplete,
)

MODEL: Final = "headstart"  # the name a client gives to leave the choice of models to the agent
_STANDARD_REASONS = frozenset({"max_output_tokens", "content_filter", "steered"})
_CHOICES = frozenset({"auto", "none", "required"})
ANSWER_STEP: Final = "answer"
SERVICE: Final = "service"  # the role of a fact that a service published


def base(accepted: TurnAccepted, status: str, model: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """The object while the turn runs. model: "" until the answering model is known."""
    options = accepted.options
    return {
        "id": ids.response_of(accepted.turn),
        "object": "response",
        "created_at": accepted.at_ms // 1000,
        "status": status,
        "background": False,
        "conversation": {"id": accepted.conversation},
        "error": None,
        "incomplete_details": None,
        "instructions": options.instructions or None,
        "max_output_tokens": options.max_output_tokens,
        "metadata": options.metadata,
        "model": model or options.model or MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": ids.response_of(accepted.previous_turn) if accepted.previous_turn else None,
        "temperature": options.temperature,
        "tool_choice": _tool_choice(options),
        "tools": _tools(options),
        "top_p": options.top_p,
        "usage": None,
    }


def ended(accepted: TurnAccepted, end: TurnEnd, model: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """The object as its terminal fact leaves it."""
    result = base(accepted, status_of(end), model, output)
    result["completed_at"] = end.at_ms // 1000
    result["usage"] = usage(end.models)
    extra: dict[str, Any] = {}
    if isinstance(end, TurnIncomplete):
        # The SDKs know three of the reasons; the others are null there and named beside it.
        result["incomplete_details"] = {"reason": end.reason if end.reason in _STANDARD_REASONS else None}
        extra = {"reason": end.reason}
        if end.successor:
            extra["successor"] = ids.response_of(end.successor)
    elif isinstance(end, TurnFailed):
        result["error"] = {"code": _standard_code(end), "message": end.message}
        extra = {"code": end.code, "hint": end.hint or None, "fault": end.fault}
    elif isinstance(end, TurnCancelled):
        extra = {"reason": end.reason}
    elif isinstance(end, TurnCompleted) and end.awaiting:
        extra = {"awaiting": end.awaiting}
    if end.in_doubt:
        extra["in_doubt"] = list(end.in_doubt)
    if extra:
        result["headstart"] = extra
    return result


def status_of(end: TurnEnd) -> str:
    """The standard's status of a response that ended with this fact."""
    if isinstance(end, TurnCompleted):
        return "completed"
    if isinstance(end, TurnCancelled):
        return "cancelled"
    return "failed" if isinstance(end, TurnFailed) else "incomplete"


def terminal_type(end: TurnEnd) -> str:
    """The terminal event. The SDKs' union has no `response.cancelled`: a cancelled response ends as incomplete."""
    if isinstance(end, TurnCompleted):
        return "response.completed"
    return "response.failed" if isinstance(end, TurnFailed) else "response.incomplete"


def usage(models: tuple[ModelUse, ...]) -> dict[str, Any]:
    """Tokens over all model calls of the turn. What routing and planning wrote nobody reads: it counts as reasoning."""
    prompt = sum(use.usage.prompt for use in models)
    completion = sum(use.usage.completion for use in models)
    unseen = sum(use.usage.hidden if use.step == ANSWER_STEP else use.usage.completion for use in models)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": unseen},
        "total_tokens": prompt + completion,
    }


def message_item(item_id: str, status: str, text: str | None) -> dict[str, Any]:
    """text None: no content part yet."""
    content = [] if text is None else [text_part(text)]
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def function_call_item(item_id: str, call_id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
    """A call that the client runs. Calls the server runs are never items: nobody has to answer them."""
    return {
        "id": item_id, "type": "function_call", "status": status,
        "call_id": call_id, "name": name, "arguments": arguments,
    }  # fmt: skip


def approval_item(request: str, skill: str, arguments: str) -> dict[str, Any]:
    """The standard's only item that asks a person; `server_label` is the skill's owner as the client sees it."""
    return {
        "id": request, "type": "mcp_approval_request", "name": skill, "arguments": arguments, "server_label": MODEL,
    }  # fmt: skip


def input_item(turn: str, index: int, item: InputItem) -> dict[str, Any]:
    """An item of a turn's input, as `GET …/input_items` and a conversation's items show it."""
    item_id = ids.item_id("in", turn, index)
    if item.kind == "function_call_output":
        return {
            "id": item_id, "type": "function_call_output", "status": "completed",
            "call_id": item.call_id, "output": item.output,
        }  # fmt: skip
    if item.kind == "approval":
        return {
            "id": item_id, "type": "mcp_approval_response", "approval_request_id": item.call_id,
            "approve": item.approve,
        }  # fmt: skip
    if item.role == "assistant":
        return message_item(item_id, "completed", item.text)
    content = [{"type": "input_text", "text": item.text}]
    role = "system" if item.role == SERVICE else item.role  # the standard knows nobody else who speaks
    return {"id": item_id, "type": "message", "status": "completed", "role": role, "content": content}


def _tool_choice(options: TurnOptions) -> Any:
    choice = options.tool_choice
    return choice if choice in _CHOICES else {"type": "function", "name": choice}


def _tools(options: TurnOptions) -> list[dict[str, Any]]:
    return [
        {
            "type": "function", "name": tool.name, "description": tool.description or None,
            "parameters": tool.parameters, "strict": tool.strict,
        }
        for tool in options.tools
    ]  # fmt: skip


def _standard_code(end: TurnFailed) -> str:
    """The SDKs' closed list of codes has no room for ours: whose fault it was is all it can say."""
    return "invalid_prompt" if end.fault == "caller" else "server_error"
