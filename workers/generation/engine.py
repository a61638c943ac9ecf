"""The engine port: what a generation worker asks of a model, and what it gets back.

An engine turns role-typed messages into text. It yields `EngineStarted`, then `EngineDelta`s, then `EngineFinished`;
what goes wrong is raised as `EngineError`. The port fixes three things that the log relies on:

* **The joined text of the deltas is the answer, byte for byte**, and no delta splits a character. Text that may still
  turn out to be the beginning of a stop string is not delivered.
* **At every delta boundary the delivered ids decode to the delivered text.** An id whose text is held back is held back
  with it. So another worker can go on from the log alone: it is given the ids of the prompt, the ids and the text
  delivered so far, and its first delta carries the next token.
* **The token that ends an answer is never delivered** (end-of-sequence, or the ones of a stop string). A successor that
  takes over between the last delta and `EngineFinished` makes it again, in one step.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal, Protocol

import msgspec

from streams.errors import HeadstartError

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "abort", "error"]


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation as the model sees it."""

    role: Role
    content: str


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model.

    request_id: unique among the requests that run in one engine.
    model: the name in the table of models; an engine serves one model and ignores it otherwise.
    messages: rendered by the engine's chat template, unless `prompt_ids` is given.
    max_tokens: for the whole answer, `logged_ids` included; at least 1.
    temperature: 0 is greedy. seed: None leaves the choice to the engine. A sampled answer that is continued is a
        valid sample but not the one that the earlier worker would have drawn.
    stop: strings that end the answer where they first appear in the joined text; they are not part of it.
    json_schema: the answer is forced to be one JSON value that obeys it. Such an answer cannot be continued.
    prompt_ids: the exact prompt of an earlier attempt.
    logged_ids, logged_text: what earlier workers delivered of this answer; the engine continues after it. They belong
        together: `logged_text` is the joined text of the deltas that carried `logged_ids`.
    step: which step of a turn asks (`route`, `plan`, `answer`); models do not see it, a script may depend on it.
    """

    request_id: str
    model: str
    messages: list[Message]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    json_schema: dict[str, Any] | None = None
    prompt_ids: list[int] | None = None
    logged_ids: list[int] = []
    logged_text: str = ""
    step: str = ""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer, whoever made them: `logged_ids` count as completion, not as prompt.

    completion_tokens: every token the model made, the one that ended the answer and hidden ones included.
    hidden_tokens: those of them that were never shown (reasoning of a hosted model).
    """

    prompt_tokens: int
    completion_tokens: int
    hidden_tokens: int = 0


class EngineStarted(msgspec.Struct, frozen=True, tag="started"):
    """The engine took the request. `prompt_ids` and `prompt_tokens` are None where the engine does not tell them."""

    prompt_ids: list[int] | None
    prompt_tokens: int | None


class EngineDelta(msgspec.Struct, frozen=True, tag="delta"):
    """The next piece of the answer.

    ids: the tokens of this piece; empty for engines that do not tell them.
    index: position of the first of them in the answer, `logged_ids` counted; without ids, the number of earlier deltas.
    text: may be empty only in the last delta, where the answer was cut off inside a character.
    """

    text: str
    ids: list[int]
    index: int


class EngineFinished(msgspec.Struct, frozen=True, tag="finished"):
    """The answer has ended.

    stop: by the model or at a stop string. length: `max_tokens` or the model's window was reached. abort: the engine
    was told to drop it. error: the engine gave up on it (a content filter, for instance); its text so far stands.
    """

    reason: FinishReason
    usage: Usage


EngineEvent = EngineStarted | EngineDelta | EngineFinished


class EngineError(HeadstartError):
    """A request failed; `fault`, `retriable` and `hint` say how. Always one of the three below."""

    default_code = "engine_error"


class EngineRefused(EngineError):
    """The request cannot be answered by this engine, however often it is sent."""

    fault = "caller"
    default_code = "engine_refused"


class EngineUnavailable(EngineError):
    """The engine, its server or the way to it failed; the same request may succeed later or elsewhere."""

    fault = "peer"
    retriable = True
    default_code = "engine_unavailable"


class EngineMisconfigured(EngineError):
    """A key, an address or an option is wrong: nothing succeeds until a person changes it."""

    default_code = "engine_misconfigured"


class Engine(Protocol):
    """One model behind one engine. All methods belong to the event loop that called `start`.

    can_continue: whether `logged_ids` are honoured; without it a request that has any is refused.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def can_continue(self) -> bool: ...

    async def start(self) -> None:
        """Load the model or open the connection; may take a minute and leaves the event loop free meanwhile."""

    async def close(self) -> None:
        """Give everything back; running requests end with an `EngineError` or `abort`. May be called twice."""

    async def ready(self) -> bool:
        """Whether a request would be taken now."""

    def broken(self) -> str:
        """Why it can never take a request again, "" while it can: a process that holds such an engine has to end. A
        server elsewhere that is away is not broken, it may come back."""

    def running(self) -> int:
        """How many requests are inside the engine."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Answer one request. Any number may run side by side.

        Closing the generator, or cancelling the task that awaits it, aborts the request and frees its KV memory
        before the close or cancel returns; use `contextlib.aclosing`. Raises `EngineError`.
        """


def check_request(request: EngineRequest, *, can_continue: bool) -> None:
    """Raise `EngineRefused` for what no engine can do."""
    problem = ""
    if request.max_tokens < 1:
        problem = f"max_tokens must be at least 1, not {request.max_tokens}"
    elif not request.messages and not request.prompt_ids:
        problem = "a request needs messages or prompt_ids"
    elif any(not stop for stop in request.stop):
        problem = "a stop string must not be empty"
    elif request.logged_ids and not can_continue:
        problem = "this engine cannot continue from logged tokens"
    elif request.logged_ids and request.json_schema is not None:
        problem = "an answer forced to a JSON schema cannot be continued"
    elif request.logged_text and not request.logged_ids:
        problem = "logged_text needs its logged_ids"
    if problem:
        raise EngineRefused(problem, request_id=request.request_id)
