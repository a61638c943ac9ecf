"""Reading what a client asks for: each form the API allows, and the name of the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.chat_api import parse_chat
from gateway.requests import parse_create, parse_input, parse_object, parse_tool_choice, split_model
from streams.errors import InvalidInput
from streams.events.base import InputItem
from streams.events.intake import ClientTool
from tests.support.turn_script import conversation_of

CONVERSATION = conversation_of()


def test_a_text_is_one_user_message() -> None:
    request = parse_create({"input": "hi", "model": "headstart", "stream": True, "store": True, "truncation": "auto"})
    assert request.input == (InputItem(text="hi"),)
    assert request.stream
    assert (request.options.agent, request.options.model, request.options.on_busy) == ("", "", "enqueue")
    assert not request.on_busy_given


def test_items_of_every_kind() -> None:
    items = parse_input(
        [
            {"role": "developer", "content": "Be short."},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
            {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
        ]
    )
    assert items == (
        InputItem(role="developer", text="Be short."),
        InputItem(text="ab"),
        InputItem(role="assistant", text="c"),
        InputItem(kind="function_call_output", role="tool", call_id="call_1", output="{}"),
        InputItem(kind="function_call_output", role="tool", call_id="call_2", output="x"),
        InputItem(kind="approval", call_id="mcpr_1", approve=True),
    )


def test_a_conversation_by_id_or_as_an_object() -> None:
    for value in (CONVERSATION, {"id": CONVERSATION}):
        assert parse_create({"input": "x", "conversation": value}).conversation == CONVERSATION


def test_the_idempotency_key_by_field_or_metadata() -> None:
    assert parse_create({"input": "x", "event_id": "a", "metadata": {"event_id": "b"}}).event_id == "a"
    assert parse_create({"input": "x", "metadata": {"event_id": "b"}}).event_id == "b"
    assert parse_create({"input": "x"}).event_id == ""


def test_tools_in_both_forms_and_choices() -> None:
    flat = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    nested = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
    }
    tool = ClientTool(name="f", description="d", parameters={"type": "object"}, strict=True)
    for form in (flat, nested):
        assert parse_create({"input": "x", "tools": [form]}).options.tools == (tool,)
    assert parse_tool_choice(None) == "auto"
    assert parse_tool_choice("required") == "required"
    assert parse_tool_choice({"type": "function", "name": "f"}) == "f"
    assert parse_tool_choice({"type": "function", "function": {"name": "f"}}) == "f"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ("", "")),
        ("headstart", ("", "")),
        ("headstart/jobs", ("jobs", "")),
        ("big-model", ("", "big-model")),
    ],
)
def test_a_models_name_may_name_an_agent(name: str, expected: tuple[str, str]) -> None:
    assert split_model(name) == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"type": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": ["x"] * 300}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "mcp_approval_response"}]}, "input[0]"),
        ({"input": "x", "conversation": 5}, "conversation"),
        ({"input": "x", "conversation": CONVERSATION.upper()}, "conversation"),
        ({"input": "x", "previous_response_id": "resp_"}, "previous_response_id"),
        ({"input": "x", "model": 5}, "model"),
        ({"input": "x", "instructions": []}, "instructions"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "max_output_tokens": 1.5}, "max_output_tokens"),
        ({"input": "x", "temperature": 3}, "temperature"),
        ({"input": "x", "top_p": -1}, "top_p"),
        ({"input": "x", "metadata": []}, "metadata"),
        ({"input": "x", "metadata": {"k" * 65: "v"}}, "metadata"),
        ({"input": "x", "tools": {}}, "tools"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0]"),
        ({"input": "x", "tool_choice": "maybe"}, "tool_choice"),
        ({"input": "x", "stream": "yes"}, "stream"),
        ({"input": "x", "event_id": "e" * 201}, "event_id"),
        ({"input": "x", "stream_id": 5}, "stream_id"),
        ({"input": "x", "on_busy": "wait"}, "on_busy"),
        ({"input": "x", "deadline_ms": 0}, "deadline_ms"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_create(body)
    assert caught.value.facts["param"] == param


def test_a_steer_is_user_messages_only() -> None:
    assert parse_input("more", user_only=True) == (InputItem(text="more"),)
    for item in ({"role": "system", "content": "x"}, {"type": "function_call_output", "call_id": "c", "output": "o"}):
        with pytest.raises(InvalidInput):
            parse_input([item], user_only=True)


def test_chat_messages_become_items() -> None:
    request, usage = parse_chat(
        {
            "model": "headstart",
            "max_tokens": 9,
            "stream_options": {"include_usage": True},
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            ],
        }
    )
    assert usage
    assert request.options.max_output_tokens == 9
    assert [item.kind for item in request.input] == ["message", "message", "function_call_output"]
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": "x"}], "n": 2},
        {"messages": [{"role": "tool", "content": "x"}]},
    )
    for body in wrong:
        with pytest.raises(InvalidInput):
            parse_chat(body)


def test_only_objects_are_frames() -> None:
    assert parse_object('{"a":1}') == {"a": 1}
    for text, code in (("{", "not_json"), ("", "not_json"), ("1", "not_an_object"), (b"\xff", "not_json")):
        with pytest.raises(InvalidInput) as caught:
            parse_object(text)
        assert caught.value.code == code
