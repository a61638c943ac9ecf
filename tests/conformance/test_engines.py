"""One behaviour suite for every engine behind the port: scripted, OpenAI-compatible over real HTTP, and vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from tests.bench.gpu.side_by_side import Level, compare, levels_text
from tests.support.engines import COUNTING, EMOJI, KINDS, WEATHER, WEATHER_SCHEMA, Subject, collect, open_subject
from workers.generation.engine import EngineDelta, EngineRefused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """One engine for all tests of its kind, since loading a model takes half a minute."""
    async with open_subject(request.param) as opened:
        yield opened


async def test_it_is_ready_and_idle(subject: Subject) -> None:
    assert await subject.engine.ready()
    assert subject.engine.running() == 0
    assert subject.engine.name == subject.kind


async def test_greedy_answers_are_equal_and_indexed(subject: Subject) -> None:
    first = await subject.answer(COUNTING)
    second = await subject.answer(COUNTING)
    assert first.text == second.text
    assert first.text.startswith("1, 2, 3")
    assert len(first.deltas) > 3
    position = 0
    for delta in first.deltas:
        assert delta.text
        assert delta.index == position
        position += len(delta.ids) or 1


async def test_the_length_is_kept(subject: Subject) -> None:
    whole = await subject.answer(COUNTING)
    short = await subject.answer(COUNTING, max_tokens=7)
    assert short.finished.reason == "length"
    assert short.finished.usage.completion_tokens == 7
    assert whole.text.startswith(short.text)
    assert len(short.text) < len(whole.text)


@pytest.mark.parametrize(("first", "last"), [(9, 10), (9, 14), (11, 12), (0, 3)])
async def test_a_stop_string_ends_the_answer_before_it(subject: Subject, first: int, last: int) -> None:
    """Wherever it lies: inside one token, across several, or at the very beginning."""
    whole = (await subject.answer(COUNTING)).text
    stop = whole[first:last]
    stopped = await subject.answer(COUNTING, stop=["never said", stop])
    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.finished.reason == "stop"


async def test_the_beginning_of_a_stop_string_is_said_when_the_answer_ends_there(subject: Subject) -> None:
    whole = (await subject.answer(COUNTING, max_tokens=20)).text
    stopped = await subject.answer(COUNTING, max_tokens=20, stop=[whole[-4:] + " and no more"])
    assert stopped.text == whole
    assert stopped.finished.reason == "length"


async def test_usage_counts_every_token(subject: Subject) -> None:
    answer = await subject.answer(COUNTING)
    usage = answer.finished.usage
    assert usage.prompt_tokens > 0
    assert 0 < usage.completion_tokens <= 48
    if answer.ids:
        assert usage.completion_tokens - len(answer.ids) in (0, 1)
        assert answer.started.prompt_tokens == usage.prompt_tokens == len(answer.started.prompt_ids or [])


async def test_characters_are_never_split(subject: Subject) -> None:
    answer = await subject.answer(EMOJI)
    assert any(ord(character) > 0xFFFF for character in answer.text)
    for delta in answer.deltas:
        assert delta.text.encode().decode() == delta.text
        assert "\ufffd" not in delta.text


async def test_json_obeys_its_schema(subject: Subject) -> None:
    answer = await subject.answer(WEATHER, json_schema=WEATHER_SCHEMA, max_tokens=96)
    assert answer.finished.reason == "stop"
    calls = json.loads(answer.text)
    jsonschema.validate(calls, WEATHER_SCHEMA)
    assert calls[0]["arguments"]["city"] == "Berlin"


async def test_closing_the_iterator_aborts_the_request(subject: Subject) -> None:
    subject.hold()
    request = subject.request(COUNTING, max_tokens=1500)
    async with contextlib.aclosing(subject.engine.generate(request)) as events:
        async for event in events:
            if isinstance(event, EngineDelta):
                break
        assert subject.engine.running() == 1
    await _assert_free(subject)


async def test_cancelling_the_task_aborts_the_request(subject: Subject) -> None:
    subject.hold()
    spoke = asyncio.Event()

    async def ask() -> None:
        async for event in subject.engine.generate(subject.request(COUNTING, max_tokens=1500)):
            if isinstance(event, EngineDelta):
                spoke.set()

    task = asyncio.create_task(ask())
    await spoke.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _assert_free(subject)


async def test_requests_run_side_by_side(subject: Subject) -> None:
    alone = await subject.answer(COUNTING)
    requests = [subject.request(COUNTING) for _ in range(5)]
    answers = await asyncio.gather(*(collect(subject.engine, request) for request in requests))
    assert [answer.text[:10] for answer in answers] == [alone.text[:10]] * 5
    assert subject.engine.running() == 0


async def test_an_answer_goes_on_from_logged_tokens(subject: Subject) -> None:
    """From every delta boundary, in the end the same text, tokens and usage; also with a stop string in sight."""
    if not subject.engine.can_continue:
        with pytest.raises(EngineRefused):
            await subject.answer(COUNTING, logged_ids=[1], logged_text="1")
        return
    for messages, stop in ((COUNTING, [" 11, 12"]), (EMOJI, [])):
        whole = await subject.answer(messages, stop=stop, max_tokens=40)
        cuts = range(len(whole.deltas) + 1)
        for cut in cuts if subject.kind == "scripted" else [*cuts[::5], cuts[-1]]:
            before = whole.deltas[:cut]
            after = await subject.answer(
                [],
                prompt_ids=whole.started.prompt_ids,
                stop=stop,
                max_tokens=40,
                logged_ids=[token_id for delta in before for token_id in delta.ids],
                logged_text="".join(delta.text for delta in before),
            )
            assert "".join(delta.text for delta in [*before, *after.deltas]) == whole.text
            assert [token_id for delta in before for token_id in delta.ids] + after.ids == whole.ids
            assert after.finished == whole.finished
            assert not after.deltas or after.deltas[0].index == len(whole.ids) - len(after.ids)


async def test_text_that_its_tokens_do_not_say_is_refused(subject: Subject) -> None:
    whole = await subject.answer(COUNTING)
    with pytest.raises(EngineRefused) as caught:
        await subject.answer(COUNTING, logged_ids=whole.ids[:3] or [1], logged_text="something else")
    assert caught.value.fault == "caller"
    assert not caught.value.retriable


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": 0}, {"messages": []}, {"stop": [""]}, {"logged_text": "x"}],
    ids=["no tokens", "no messages", "empty stop string", "text without ids"],
)
async def test_senseless_requests_are_refused(subject: Subject, fields: dict[str, Any]) -> None:
    fields = {"messages": COUNTING, **fields}
    with pytest.raises(EngineRefused):
        await subject.answer(**fields)
    assert (await subject.answer(COUNTING, max_tokens=4)).text


@pytest.mark.parametrize("subject", [pytest.param("vllm", marks=pytest.mark.vllm)], indirect=True, scope="module")
async def test_the_gpu_benchmark_measures_vllm_with_one_stream(subject: Subject, tmp_path: Path) -> None:
    """The whole way of `make bench-gpu` on a small scale: a worker on a broker, asked from another process, beside bare
    AsyncLLM; a cancel; a takeover that goes on with the very next token."""
    found = await compare(subject.engine, [1], Level(rounds=1, tokens=8), 1, tmp_path, None, lambda line: None)
    ((bare, ours),) = found.rows
    assert bare is not None
    assert bare.answers == ours.answers == 1
    assert bare.tokens == ours.tokens == 8
    assert found.bare_cancel.count == found.cancel.count == found.takeover.count == 1
    assert "NaN" not in levels_text(found)
    assert (await subject.answer(COUNTING, max_tokens=4)).text


async def _assert_free(subject: Subject) -> None:
    """Nothing runs any more, and the next request works."""
    assert subject.engine.running() == 0
    if subject.server is not None:
        await subject.server.aborted.wait()
        subject.server.aborted.clear()
        assert subject.server.engine.running() == 0
    subject.release()
    assert (await subject.answer(COUNTING, max_tokens=12)).text.startswith("1, 2, 3")
