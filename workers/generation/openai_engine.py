"""Any server that speaks OpenAI's chat completions, behind the engine port.

Such a server tells no token ids, so an answer cannot be continued from the log, and deltas are cut where the server cut
them. Stop strings, limits and JSON schemas are the server's to keep. How many tokens a call took is known at its end
(`stream_options.include_usage`); hidden ones are `reasoning_tokens`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from workers.generation.engine import (
    EngineDelta,
    EngineError,
    EngineEvent,
    EngineFinished,
    EngineMisconfigured,
    EngineRefused,
    EngineRequest,
    EngineStarted,
    EngineUnavailable,
    FinishReason,
    Usage,
    check_request,
)

if TYPE_CHECKING:
    import openai

_REASONS: dict[str, FinishReason] = {"stop": "stop", "tool_calls": "stop", "length": "length", "abort": "abort"}


class OpenAIOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is and how it likes to be asked.

    base_url: up to and including `/v1`. api_key: "" for servers that want none.
    model: its name at the server.
    connect_timeout_s, read_timeout_s: to be connected, and between two pieces of a stream.
    retries: by the client, of requests that were refused or lost before the first piece came.
    limit_field: what the server calls the token limit; None takes `max_completion_tokens` for OpenAI's own servers,
        whose reasoning models refuse the other name, and `max_tokens` for all others, some of which know no other.
    strict_json: sent with a JSON schema; OpenAI's own servers then want an object at its root.
    """

    base_url: str
    model: str
    api_key: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    retries: int = 1
    limit_field: str | None = None
    strict_json: bool = True


class OpenAIEngine:
    """`Engine` on an OpenAI-compatible URL. Connections are kept and shared by all requests."""

    name = "openai"
    can_continue = False

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._client: openai.AsyncOpenAI | None = None
        self._running: set[str] = set()
        host = urlsplit(options.base_url).hostname or ""
        is_openai = host == "openai.com" or host.endswith(".openai.com")
        self._limit_field = options.limit_field or ("max_completion_tokens" if is_openai else "max_tokens")

    @property
    def model(self) -> str:
        return self._options.model

    async def start(self) -> None:
        """Make the client; nothing is sent yet, so a server that is down shows in `ready`."""
        import openai

        options = self._options
        self._client = openai.AsyncOpenAI(
            base_url=options.base_url,
            api_key=options.api_key or "none",
            max_retries=options.retries,
            timeout=openai.Timeout(options.read_timeout_s, connect=options.connect_timeout_s),
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ready(self) -> bool:
        """Whether the server answers and takes the key. A server without a list of models counts as ready."""
        import openai

        if self._client is None:
            return False
        try:
            await self._client.with_options(max_retries=0, timeout=self._options.connect_timeout_s).models.list()
        except openai.NotFoundError:
            return True
        except openai.OpenAIError:
            return False
        return True

    def broken(self) -> str:
        return ""

    def running(self) -> int:
        return len(self._running)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        check_request(request, can_continue=self.can_continue)
        if not request.messages:
            raise EngineRefused("a hosted model needs messages, not prompt_ids", request_id=request.request_id)
        client = self._client
        if client is None:
            raise EngineUnavailable("the engine is not started or closed")
        self._running.add(request.request_id)
        try:
            with self._typed_errors():
                # The stream is closed on the way out, which closes its connection and so aborts the request.
                async with await client.chat.completions.create(**self._parameters(request)) as stream:
                    yield EngineStarted(None, None)
                    async with contextlib.aclosing(_read(stream)) as events:
                        async for event in events:
                            yield event
        finally:
            self._running.discard(request.request_id)

    def _parameters(self, request: EngineRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": self._options.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            self._limit_field: request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            parameters["seed"] = request.seed
        if request.stop:
            parameters["stop"] = request.stop
        if request.json_schema is not None:
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": request.step or "answer",
                    "schema": request.json_schema,
                    "strict": self._options.strict_json,
                },
            }
        return parameters

    @contextlib.contextmanager
    def _typed_errors(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        import openai

        try:
            yield
        except openai.OpenAIError as error:
            raise self._typed(error) from error

    def _typed(self, error: openai.OpenAIError) -> EngineError:
        import openai

        url, model = self._options.base_url, self._options.model
        match error:
            case openai.APITimeoutError():
                return EngineUnavailable("the model's server did not answer in time", code="engine_timeout", url=url)
            case openai.APIConnectionError():
                return EngineUnavailable("the model's server cannot be reached", url=url)
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return EngineMisconfigured("the model's server refuses the key", hint="check the API key", url=url)
            case openai.NotFoundError():
                return EngineMisconfigured("the server has no such model", hint="check HEADSTART_MODEL", model=model)
            case openai.RateLimitError():
                return EngineUnavailable("the model's server is over its limits", code="engine_busy", url=url)
            case openai.APIStatusError(status_code=status) if status < 500 and status not in (408, 409):
                return EngineRefused(f"the model's server refuses the request: {error}", status=status, model=model)
            case _:
                return EngineUnavailable(f"the model's server failed: {error}", url=url, model=model)


async def _read(stream: AsyncIterator[Any]) -> AsyncGenerator[EngineEvent, None]:
    """The chunks of one choice as deltas, then the end with its usage, which comes in a chunk after the last choice."""
    reason: str | None = None
    usage: Any = None
    carried = ""
    deltas = 0
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices[:1]:
            reason = choice.finish_reason or reason
            text, carried = whole_characters(carried + (choice.delta.content or ""))
            if text:
                yield EngineDelta(text, [], deltas)
                deltas += 1
    if reason is None:
        raise EngineUnavailable("the model's server ended the stream before the answer", code="engine_stream_cut")
    yield EngineFinished(_REASONS.get(reason, "error"), _usage(usage, deltas))


def whole_characters(text: str) -> tuple[str, str]:
    """Join the halves of characters that a server cut into two JSON escapes; an open half is carried on."""
    carried = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    text = text.removesuffix(carried)
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text, carried


def _usage(usage: Any, deltas: int) -> Usage:
    """What the server reports. If it reports nothing, one token per delta and an unknown prompt, counted as 0."""
    if usage is None:
        return Usage(0, deltas)
    details = usage.completion_tokens_details
    return Usage(usage.prompt_tokens, usage.completion_tokens, (details and details.reasoning_tokens) or 0)
