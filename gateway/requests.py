"""What a client asks for, read from the JSON of `response.create` and `POST /v1/responses`. Pure.

Fields of the standard that change nothing here (`store`, `truncation`, `include` …) are accepted and ignored; those
that would have to change the answer and can not (`background` on a socket, tools the server would have to run) are
refused by name. Every refusal is an InvalidInput whose facts name the `param`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.response_object import MODEL
from streams import ids
from streams.errors import InvalidInput
from streams.events.base import InputItem
from streams.events.intake import ClientTool, TurnOptions

ON_BUSY: Final = ("reject", "interrupt", "enqueue", "steer")
ITEMS: Final = 256  # items of one request's input
EVENT_ID_CHARS: Final = 200
TOOL_DEPTH: Final = 64  # levels of a tool's schema; what reads it later goes down them by recursion
METADATA_PAIRS: Final = 16  # the standard's own limit
_ROLES: Final = frozenset({"user", "system", "developer", "assistant"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One turn that a client asks for. "" means not given; stream_id None: the socket's own lane."""

    input: tuple[InputItem, ...]
    options: TurnOptions
    conversation: str = ""
    previous_response: str = ""
    event_id: str = ""
    stream_id: str | None = None
    stream: bool = False
    background: bool = False
    on_busy_given: bool = False


def parse_create(body: Mapping[str, Any]) -> CreateRequest:
    """Reads a request for a turn. Raises InvalidInput naming the field."""
    metadata = _metadata(body.get("metadata"))
    conversation = body.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    conversation = _identifier(conversation, ids.CONVERSATION, "conversation")
    previous = _identifier(body.get("previous_response_id"), ids.RESPONSE, "previous_response_id")
    if conversation and previous:
        raise _wrong("previous_response_id", "'conversation' and 'previous_response_id' exclude each other")
    items = parse_input(body.get("input"))
    if not items:
        raise _wrong("input", "the input is empty")
    on_busy = _text(body, "on_busy") or metadata.get("on_busy", "")
    if on_busy and on_busy not in ON_BUSY:
        raise _wrong("on_busy", f"'on_busy' is one of {', '.join(ON_BUSY)}")
    agent, model = split_model(_text(body, "model"))
    options = TurnOptions(
        agent=agent,
        model=model,
        instructions=_text(body, "instructions"),
        tools=parse_tools(body.get("tools")),
        tool_choice=parse_tool_choice(body.get("tool_choice")),
        max_output_tokens=_integer(body, "max_output_tokens", 1, 1_000_000),
        temperature=_number(body, "temperature", 0.0, 2.0),
        top_p=_number(body, "top_p", 0.0, 1.0),
        seed=_integer(body, "seed", 0, 2**63 - 1),
        on_busy=on_busy or "enqueue",
        deadline_ms=_integer(body, "deadline_ms", 1, 86_400_000),
        locale=_text(body, "locale"),
        metadata=metadata,
    )
    stream_id = body.get("stream_id")
    if stream_id is not None and (not isinstance(stream_id, str) or not 0 < len(stream_id) <= 128):
        raise _wrong("stream_id", "'stream_id' is a text of 1 to 128 characters")
    return CreateRequest(
        input=items, options=options, conversation=conversation, previous_response=previous,
        event_id=event_id_of(body, metadata), stream_id=stream_id, stream=_flag(body, "stream"),
        background=_flag(body, "background"), on_busy_given=bool(on_busy),
    )  # fmt: skip


def event_id_of(body: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """The idempotency key: `event_id`, or `metadata.event_id` from SDKs that can not send the first. "" when none."""
    event_id = body.get("event_id")
    if event_id is None:
        event_id = metadata.get("event_id", "")
    if not isinstance(event_id, str) or len(event_id) > EVENT_ID_CHARS:
        raise _wrong("event_id", f"'event_id' is a text of at most {EVENT_ID_CHARS} characters")
    return event_id


def split_model(name: str) -> tuple[str, str]:
    """(agent, model) of a model's name: "headstart" leaves both open, "headstart/jobs" names the agent `jobs`."""
    if name == MODEL:
        return "", ""
    if name.startswith(MODEL + "/"):
        return name[len(MODEL) + 1 :], ""
    return "", name


def parse_input(value: object, *, user_only: bool = False) -> tuple[InputItem, ...]:
    """Input as text or as a list of items. user_only: user messages and nothing else (a steer)."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (InputItem(text=value),)
    if not isinstance(value, list) or len(value) > ITEMS:
        raise _wrong("input", f"the input is a text or a list of at most {ITEMS} items")
    items = tuple(_item(item, f"input[{index}]") for index, item in enumerate(value))
    if user_only and any(item.kind != "message" or item.role != "user" for item in items):
        raise _wrong("input", "only user messages can steer a response")
    return items


def _item(value: object, param: str) -> InputItem:
    if not isinstance(value, Mapping):
        raise _wrong(param, "an input item is an object")
    kind = value.get("type", "message")
    if kind == "message":
        role = value.get("role", "user")
        if role not in _ROLES:
            raise _wrong(f"{param}.role", f"a message's role is one of {', '.join(sorted(_ROLES))}")
        return InputItem(role=role, text=content_text(value.get("content"), f"{param}.content"))
    if kind == "function_call_output":
        call_id, output = value.get("call_id"), value.get("output")
        if not isinstance(call_id, str) or not call_id:
            raise _wrong(f"{param}.call_id", "'call_id' names the call that was run")
        return InputItem(
            kind="function_call_output", role="tool", call_id=call_id, output=content_text(output, f"{param}.output")
        )
    if kind == "mcp_approval_response":
        request, approve = value.get("approval_request_id"), value.get("approve")
        if not isinstance(request, str) or not isinstance(approve, bool):
            raise _wrong(param, "an approval has 'approval_request_id' (text) and 'approve' (true or false)")
        return InputItem(kind="approval", role="user", call_id=request, approve=approve)
    raise _wrong(f"{param}.type", "only messages, function_call_output and mcp_approval_response are taken as input")


def content_text(value: object, param: str) -> str:
    """A message's text: a text, or the joined text of its text parts. Raises on images, files and audio."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong(param, "content is a text or a list of text parts")
    texts = []
    for part in value:
        if not isinstance(part, Mapping) or part.get("type") not in _TEXT_PARTS:
            raise _wrong(param, "only text parts are understood here")
        text = part.get("text")
        if not isinstance(text, str):
            raise _wrong(param, "a text part has 'text'")
        texts.append(text)
    return "".join(texts)


def parse_tools(value: object) -> tuple[ClientTool, ...]:
    """The client's own functions, in the Responses form or the Chat Completions form."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > 128:
        raise _wrong("tools", "'tools' is a list of at most 128 functions")
    tools = []
    for index, item in enumerate(value):
        param = f"tools[{index}]"
        if not isinstance(item, Mapping) or item.get("type") != "function":
            raise _wrong(param, "only function tools can be given; skills of the server need not be named")
        function = item.get("function", item)
        if not isinstance(function, Mapping):
            raise _wrong(param, "'function' is an object")
        name, parameters = function.get("name"), function.get("parameters") or {}
        if not isinstance(name, str) or not name or not isinstance(parameters, dict):
            raise _wrong(param, "a function has a 'name' and 'parameters' (a JSON Schema object)")
        if not _within(parameters, TOOL_DEPTH):
            raise _wrong(param, f"'parameters' has more than {TOOL_DEPTH} levels")
        description, strict = function.get("description") or "", function.get("strict") or False
        if not isinstance(description, str) or not isinstance(strict, bool):
            raise _wrong(param, "'description' is a text and 'strict' true or false")
        tools.append(ClientTool(name=name, description=description, parameters=parameters, strict=strict))
    return tuple(tools)


def _within(value: object, levels: int) -> bool:
    """Whether a JSON value is nested at most so deep."""
    layer = [value]
    for _ in range(levels):
        inner = [item.values() if isinstance(item, dict) else item for item in layer if isinstance(item, dict | list)]
        layer = [item for items in inner for item in items]
        if not layer:
            return True
    return False


def parse_tool_choice(value: object) -> str:
    """ "auto", "none", "required", or the name of the one function to call."""
    if value is None:
        return "auto"
    if isinstance(value, str):
        if value not in ("auto", "none", "required"):
            raise _wrong("tool_choice", "'tool_choice' is auto, none, required or a function")
        return value
    if isinstance(value, Mapping) and value.get("type") == "function":
        function = value.get("function", value)
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and name:
            return name
    raise _wrong("tool_choice", "'tool_choice' is auto, none, required or a function")


def parse_object(data: str | bytes) -> dict[str, Any]:
    """A JSON object from the wire. Raises InvalidInput (`not_json`, `not_an_object`)."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("this is not JSON", code="not_json") from error
    if not isinstance(body, dict):
        raise InvalidInput("expected a JSON object", code="not_an_object")
    return body


def required_response(body: Mapping[str, Any], field: str) -> str:
    """A response id that must be given and well-formed; gives it."""
    response = _identifier(body.get(field), ids.RESPONSE, field)
    if not response:
        raise _wrong(field, f"'{field}' is missing")
    return response


def _identifier(value: object, prefix: str, param: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not ids.is_id(prefix, value):
        raise InvalidInput(f"'{param}' is not an id of this service", code=f"invalid_{param}", param=param)
    return value


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > METADATA_PAIRS:
        raise _wrong("metadata", f"'metadata' is an object of at most {METADATA_PAIRS} texts")
    for key, text in value.items():
        if not isinstance(text, str) or len(key) > 64 or len(text) > 512:
            raise _wrong("metadata", "metadata keys have at most 64 characters, their texts at most 512")
    return value


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(field, f"'{field}' is a text")
    return value


def _flag(body: Mapping[str, Any], field: str) -> bool:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise _wrong(field, f"'{field}' is true or false")
    return bool(value)


def _integer(body: Mapping[str, Any], field: str, least: int, most: int) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(field, f"'{field}' is a whole number from {least} to {most}")
    return value


def _number(body: Mapping[str, Any], field: str, least: float, most: float) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _wrong(field, f"'{field}' is a number from {least} to {most}")
    return float(value)


def _wrong(param: str, message: str) -> InvalidInput:
    return InvalidInput(message, param=param)
