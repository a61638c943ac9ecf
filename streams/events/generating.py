"""Model calls: asked for by the turn's owner, carried out by a generation worker, in the stages route, plan, answer;
and those that the memory worker asks for after a turn's end, in stages whose names begin with `memory`.

The owner's `model.asked` (stage "turn") holds everything a model call was made from; `generation.requested` carries
the same to a worker. The worker opens the stage with `*.started`, whose epoch and writer fence its deltas, which
carry nothing else but text and token ids.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.events.base import Event, PromptRef, Usage, event


class Message(msgspec.Struct, frozen=True):
    """One rendered message of a prompt. role: system | user | assistant | tool."""

    role: str
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of a model call. seed None: the engine's own. json_schema None: free text."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None


@event("model.asked", "events")
class ModelAsked(Event, frozen=True, kw_only=True):
    """One model call, whole: which step, model and prompt version, the rendered messages and the parameters."""

    step: str
    epoch: int
    model: str
    prompt: PromptRef
    messages: tuple[Message, ...]
    sampling: Sampling
    at_ms: int
    reason: str = "first"


@event("generation.requested", "generations")
class GenerationRequested(Event, frozen=True, kw_only=True):
    """Work for one generation worker. turn_offset: where the turn's log begins in `events`, so that a successor can
    read what its predecessor wrote. resume: earlier epochs wrote deltas; read them and go on after them."""

    conversation: str
    turn: str
    step: str
    epoch: int
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    at_ms: int
    deadline_at_ms: int
    turn_offset: int
    tenant: str = ""
    user: str = ""
    resume: bool = False
    checks: tuple[str, ...] = ()


@event("generation.abort", "generations")
class GenerationAbort(Event, frozen=True, kw_only=True):
    """Stop a generation: sent to every partition's reader past its lane. epoch: abort this and all earlier ones."""

    conversation: str
    turn: str
    step: str
    epoch: int
    at_ms: int


class GenerationStarted(Event, frozen=True, kw_only=True):
    """Opens a stage's epoch. first_index: tokens already delivered by earlier epochs. can_continue: a successor may
    go on from the logged ids. prompt_ids: the prompt as the engine saw it, None when the engine does not say."""

    model: str
    engine: str
    at_ms: int
    prompt_ids: tuple[int, ...] | None = None
    prompt_tokens: int = 0
    first_index: int = 0
    can_continue: bool = False


class GenerationDelta(Event, frozen=True, kw_only=True):
    """Text that passed the in-stream checks, its token ids, and the index of its first token in the answer."""

    text: str
    index: int
    ids: tuple[int, ...] = ()


class GenerationFinished(Event, frozen=True, kw_only=True):
    """The stage's last fact. reason: stop | length | abort | error | filtered. usage counts all epochs once.

    first_token_ms / last_token_ms: since `*.started`. filtered: names of the checks that cut or masked something.
    """

    reason: str
    usage: Usage
    at_ms: int
    first_token_ms: float = 0.0
    last_token_ms: float = 0.0
    filtered: tuple[str, ...] = ()
    error_code: str = ""
    error_message: str = ""
    retriable: bool = False


@event("route.started", "events")
class RouteStarted(GenerationStarted, frozen=True, kw_only=True):
    pass


@event("route.delta", "events")
class RouteDelta(GenerationDelta, frozen=True, kw_only=True):
    pass


@event("route.finished", "events")
class RouteFinished(GenerationFinished, frozen=True, kw_only=True):
    pass


@event("plan.started", "events")
class PlanStarted(GenerationStarted, frozen=True, kw_only=True):
    pass


@event("plan.delta", "events")
class PlanDelta(GenerationDelta, frozen=True, kw_only=True):
    pass


@event("plan.finished", "events")
class PlanFinished(GenerationFinished, frozen=True, kw_only=True):
    pass


@event("answer.started", "events")
class AnswerStarted(GenerationStarted, frozen=True, kw_only=True):
    pass


@event("answer.delta", "events")
class AnswerDelta(GenerationDelta, frozen=True, kw_only=True):
    pass


@event("answer.finished", "events")
class AnswerFinished(GenerationFinished, frozen=True, kw_only=True):
    pass


@event("memory.started", "events")
class MemoryStarted(GenerationStarted, frozen=True, kw_only=True):
    """A model begins to read a turn that has ended (stages `memory.facts`, `memory.summary`)."""


@event("memory.finished", "events")
class MemoryFinished(GenerationFinished, frozen=True, kw_only=True):
    """What the model said of the turn, whole, since nobody watches it: a step that writes no deltas.

    Whoever builds memory from the log again need not ask a model again.
    """

    text: str = ""


STARTED: dict[str, type[GenerationStarted]] = {
    "route": RouteStarted, "plan": PlanStarted, "answer": AnswerStarted,
    "memory.facts": MemoryStarted, "memory.summary": MemoryStarted,
}  # fmt: skip
DELTA: dict[str, type[GenerationDelta]] = {"route": RouteDelta, "plan": PlanDelta, "answer": AnswerDelta}
FINISHED: dict[str, type[GenerationFinished]] = {
    "route": RouteFinished, "plan": PlanFinished, "answer": AnswerFinished,
    "memory.facts": MemoryFinished, "memory.summary": MemoryFinished,
}  # fmt: skip
