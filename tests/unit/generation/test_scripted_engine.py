"""What the scripted engine has beside the port: its tokens, its rules, its pace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engines import collect
from workers.generation.engine import (
    EngineDelta,
    EngineError,
    EngineMisconfigured,
    EngineRefused,
    EngineRequest,
    EngineUnavailable,
    Message,
)
from workers.generation.scripted_engine import (
    ScriptedEngine,
    decode,
    encode,
    parse_rules,
    render,
    rules_script,
    unrender,
)

RULES = """[
    {"step": "plan", "when": {"contains": "WEATHER"}, "say": "[1]"},
    {"step": "answer", "when": {"anywhere": "14 degrees"}, "say": "It is 14 degrees."},
    {"say": "I cannot tell."}
]"""


def request(*messages: tuple[str, str], **fields: Any) -> EngineRequest:
    made = [Message(role, content) for role, content in messages]  # type: ignore[arg-type]
    return EngineRequest(request_id="1", model="m", messages=made, **{"max_tokens": 999, **fields})


@pytest.mark.parametrize("text", ["", "a", "abcd", "naïve 東京 🌪", "\x00\x00\x00\x00", "\xff" * 7])
def test_ids_decode_to_the_text(text: str) -> None:
    ids = encode(text)
    assert decode(ids) == text
    assert len(ids) == (len(text.encode()) + 2) // 3
    assert all(0 < token_id < 2**31 for token_id in ids)


def test_a_prompt_can_be_read_back() -> None:
    messages = [Message("system", "be brief"), Message("user", "grüße 🌪")]
    assert unrender(render(messages)) == messages
    with pytest.raises(EngineRefused, match="not from a scripted engine"):
        unrender([7, 8, 9])


def test_the_first_rule_that_fits_speaks() -> None:
    script = rules_script(parse_rules(RULES))
    assert script(request(("user", "the weather?"), step="plan")) == "[1]"
    assert script(request(("user", "the weather?"), step="route")) == "I cannot tell."
    assert (
        script(request(("user", "weather"), ("assistant", "x"), ("user", "and now?"), step="plan")) == "I cannot tell."
    )
    assert script(request(("system", "found: 14 degrees"), ("user", "?"), step="answer")) == "It is 14 degrees."


def test_a_request_that_no_rule_fits_is_refused() -> None:
    with pytest.raises(EngineRefused, match="no rule"):
        rules_script(parse_rules(RULES)[:2])(request(("user", "hello")))


@pytest.mark.parametrize("rules", ["{}", '[{"step": "plan"}]', '[{"say": "x", "wen": {}}]', "["])
def test_wrong_rules_are_found_when_they_are_read(rules: str) -> None:
    with pytest.raises(EngineMisconfigured):
        parse_rules(rules)


@pytest.mark.asyncio
async def test_tokens_are_due_at_fixed_times() -> None:
    """A late wake-up is caught up with; tokens_per_delta come together when the last of them is due."""
    clock = [100.0]
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        clock[0] += seconds + (0.05 if len(slept) == 2 else 0.0)

    engine = ScriptedEngine(
        lambda _: "x" * 24, tokens_per_second=10, tokens_per_delta=2, sleep=sleep, now=lambda: clock[0]
    )
    await engine.start()
    answer = await collect(engine, request(("user", "go")))
    assert [len(delta.ids) for delta in answer.deltas] == [2, 2, 2, 2]
    assert slept == [0.2, 0.2, 0.15, 0.2]


@pytest.mark.asyncio
async def test_an_engine_that_is_not_open_is_unavailable() -> None:
    engine = ScriptedEngine(lambda _: "hello")
    with pytest.raises(EngineUnavailable):
        await collect(engine, request(("user", "go")))
    await engine.start()
    events = engine.generate(request(("user", "go")))
    await anext(events)
    assert isinstance(await anext(events), EngineDelta)
    await engine.close()
    assert not await engine.ready()
    rest = [event async for event in events]
    assert rest[-1].reason == "abort"  # type: ignore[union-attr]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fields",
    [{"json_schema": {"type": "object"}}, {"logged_ids": [1], "logged_text": "x"}, {"prompt_ids": [5]}],
    ids=["no JSON in the script", "another's tokens", "another's prompt"],
)
async def test_what_the_script_cannot_do_is_refused(fields: dict[str, Any]) -> None:
    engine = ScriptedEngine(lambda _: "hello")
    await engine.start()
    with pytest.raises(EngineError) as caught:
        await collect(engine, request(("user", "go"), **fields))
    assert caught.value.fault == "caller"
