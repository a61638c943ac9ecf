"""Any other model: vLLM's own tool parsers, told as the same facts.

vLLM's parsers turn text into OpenAI deltas; these are read like a server's (`openai_deltas`). What such a parser gets
wrong or tells late stays so. vLLM is imported when an adapter is made, and only here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.toolcalls.calls import Skills
from workers.toolcalls.facts import CallSnapshot, Fact, Limits
from workers.toolcalls.parser import Mode, Parser


def vllm_parsers() -> list[str]:
    """The names of vLLM's tool parsers."""
    from vllm.tool_parsers import ToolParserManager

    return list(ToolParserManager.list_registered())


class VllmParser:
    """One output read by vLLM's parser `name`.

    `tokenizer` is the model's, `tools` are the offered tools in OpenAI's form. vLLM's interface wants all text and
    token ids so far with every delta, so that this costs more with every token. Raises KeyError where vLLM knows no
    such parser.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        mode: Mode = "repair",
        skills: Skills | None = None,
        limits: Limits | None = None,
    ) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.tool_parsers import ToolParserManager

        request = ChatCompletionRequest(
            messages=[{"role": "user", "content": ""}], model="model", tools=[dict(tool) for tool in tools] or None
        )
        self._request = request
        self._parser = ToolParserManager.get_tool_parser(name)(tokenizer, request.tools)
        self._tokenizer = tokenizer
        self._deltas = Parser("openai_deltas", mode=mode, skills=skills, limits=limits)
        self._text = ""
        self._token_ids: list[int] = []

    def feed(self, chunk: str, token_ids: Sequence[int] = ()) -> list[Fact]:
        """The facts that the chunk completes. Without token ids the tokenizer makes them from the chunk alone."""
        ids = list(token_ids) or list(self._tokenizer.encode(chunk, add_special_tokens=False))
        text, all_ids = self._text + chunk, self._token_ids + ids
        delta = self._parser.extract_tool_calls_streaming(
            self._text, text, chunk, self._token_ids, all_ids, ids, self._request
        )
        self._text, self._token_ids = text, all_ids
        return [] if delta is None else self._deltas.feed_delta(delta.model_dump(exclude_none=True))

    def finish(self, reason: str = "stop") -> list[Fact]:
        """The facts that the end of the text completes, with what vLLM's parser had read and not yet told."""
        facts: list[Fact] = []
        if not self._deltas.snapshot():
            # Some of vLLM's parsers do not stream at all, or gave up on a cut marker: they get the whole text.
            read = self._parser.extract_tool_calls(self._text, self._request)
            for index, call in enumerate(read.tool_calls if read.tools_called else ()):
                function = {"name": call.function.name, "arguments": call.function.arguments}
                facts += self._deltas.feed_delta({"tool_calls": [{"index": index, "function": function}]})
            return facts + self._deltas.finish(reason)
        rest = self._parser.get_remaining_unstreamed_args()
        if rest:
            index = len(self._parser.prev_tool_call_arr) - 1
            facts += self._deltas.feed_delta({"tool_calls": [{"index": index, "function": {"arguments": rest}}]})
        return facts + self._deltas.finish(reason)

    def snapshot(self) -> list[CallSnapshot]:
        """The calls as far as they are known."""
        return self._deltas.snapshot()
