"""Registries: skills and prompts, immutable by `name@version`, with `name` pointing to the one in force."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.events.base import Event, event
from streams.events.binding import HttpBinding

Effect = str  # "pure" | "reversible" | "irreversible"


class SkillManifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the owner of a skill declares about it.

    parameters: a JSON Schema of type object. fire_on: names of parameters that suffice to send the request; () means
    all required ones. effect: "pure" (fires early, may be voided and refired), "reversible" (fires early, compensated
    by `compensate` when voided), "irreversible" (waits for its call to close, the plan to be committed, and approval
    when `approval`). url: where to POST the arguments as JSON ("" with `bus` true: over the topic `calls`).
    http: how the request is made instead, where the API has its own ways; the url is a template then.
    returns: a JSON Schema that every result fits, {} when the owner promises nothing; another result is an error.
    hosts: the only `host:port`s a request may reach. cost: relative price of a needless firing, 0 is free.
    idempotent_key: the skill enforces the Idempotency-Key header. result_bytes: larger results are cut.
    examples: questions this skill helps with, embedded for discovery.
    """

    name: str
    version: str
    description: str
    parameters: dict[str, Any]
    owner: str
    url: str = ""
    bus: bool = False
    fire_on: tuple[str, ...] = ()
    effect: Effect = "pure"
    compensate: str = ""
    timeout_ms: int = 10_000
    retries: int = 1
    cost: float = 0.0
    idempotent_key: bool = False
    approval: bool = False
    hosts: tuple[str, ...] = ()
    result_bytes: int = 16_384
    concurrency: int = 64
    tenants: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    returns: dict[str, Any] = msgspec.field(default_factory=dict)
    http: HttpBinding | None = None

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


@event("skill.registered", "skills")
class SkillRegistered(Event, frozen=True, kw_only=True):
    """A version of a skill, whole. Keyed by name@version; a second record keyed by name points to it."""

    manifest: SkillManifest
    at_ms: int


@event("skill.pointed", "skills")
class SkillPointed(Event, frozen=True, kw_only=True):
    """`name` now means `name@version`; version "" means the skill is withdrawn.

    restores: a registry refused the version before this record and says again what is in force, so that compaction,
    which keeps a name's newest record only, keeps the right one.
    """

    name: str
    version: str
    at_ms: int
    restores: bool = False


@event("prompt.registered", "prompts")
class PromptRegistered(Event, frozen=True, kw_only=True):
    """A prompt's text, whole. Keyed by id@version."""

    id: str
    version: str
    text: str
    at_ms: int


@event("setup.registered", "prompts")
class SetupRegistered(Event, frozen=True, kw_only=True):
    """What a turns worker was set up with, beside code: agents, models, and who routes. Keyed by `setup/<id>`, where id
    is the first 12 hex digits of the SHA-256 of the rest.

    agents: by name, each with its options and the ids of its steps' prompts (`prompt.registered`). models: by name,
    what a turn depends on (how it writes calls, what a token costs), never where it is served or with which key.
    """

    id: str
    agents: dict[str, Any]
    models: dict[str, Any]
    default_model: str
    router_model: str
    at_ms: int


@event("topic.epoch", "prompts")
class TopicEpoch(Event, frozen=True, kw_only=True):
    """A proposal for the random 32-bit value that marks this log; of several, the first on the topic counts."""

    topic: str
    epoch: int


@event("worker.alive", "workers")
class WorkerAlive(Event, frozen=True, kw_only=True):
    """Sent every 500 ms. running: work items in progress; capacity: how many side by side; waiting: taken up and not
    begun, for want of a place; ended: how many have ended since the worker started. partitions: of its stage's topic.
    models, agents: what it can be asked for by name. leaving: the last word of a worker that drains."""

    worker: str
    stage: str
    at_ms: int
    running: int = 0
    capacity: int = 1
    partitions: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    leaving: bool = False
    waiting: int = 0
    ended: int = 0
    agents: tuple[str, ...] = ()
