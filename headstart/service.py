"""For those who own skills: declare a typed async function, serve it, register it. Nothing of the assistant is needed.

    service = Service("directory", signing_key=os.environ["HEADSTART_SIGNING_KEY"])

    @service.skill(examples=("data engineers in Berlin",))
    async def search_people(title: str, location: str, limit: Annotated[int, Field(ge=1, le=20)] = 5) -> list[Person]:
        \"\"\"Finds people by job title and city.\"\"\"
        ...

    await service.run(bus)

The parameters' JSON Schema, their check, the promise about the result (`returns`) and the HTTP route come from the
function's types (service_signature.py, service_http.py). At the start the skills are put in force on the `skills`
topic (service_registration.py); their version is the hash of what is declared, so that an unchanged service says
nothing new. A `Caller` parameter gets the member the call is for, from the signed header.

Over the bus instead (`Service("directory", over="bus", api_key=…)`, then `await service.run(bus, broker)`), the same
functions are called through `calls` and answer on `turns`, signed with the service's key (service_bus.py). Either way
a service may hear facts of the log by type (`@service.on(TurnCompleted)`), and speak: `service.publisher` submits turns
for members, awaits them by id, and publishes facts. What reads the bus runs on FastStream (the extra `service`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from starlette.routing import BaseRoute

from headstart.publisher import Publisher
from headstart.service_bus import CONCURRENCY, BusFace
from headstart.service_consumer import Consumer
from headstart.service_facts import Fact, FactFace, OnFact
from headstart.service_host import Before, ServedSkill, SkillHost
from headstart.service_http import application
from headstart.service_listener import Listener
from headstart.service_registration import register, versioned, withdraw
from headstart.service_signature import Answers, Caller, Signature
from memory.opening import open_bus
from streams.broker_access import BrokerAccess
from streams.bus import Bus
from streams.errors import Misconfigured
from streams.events import Event
from streams.events.registering import SkillManifest
from streams.kafka_readers import SESSION_TIMEOUT_MS
from streams.listening import listen
from streams.process import Running, run_process
from streams.settings import Settings
from streams.topology import CALLS, EVENTS, prefixed
from workers.skills.context import verify as verify_context
from workers.skills.manifest import host_port, validate

if TYPE_CHECKING:  # the extra `service`: needed, and imported, only where a service reads the bus
    from faststream.kafka import KafkaBroker
    from faststream.security import BaseSecurity

__all__ = ["Caller", "Fact", "Publisher", "Service", "broker_of", "verify_context"]

log = logging.getLogger("headstart.service")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
H = TypeVar("H", bound=OnFact)


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def broker_of(settings: Settings) -> KafkaBroker:
    """FastStream's way to the Kafka that HEADSTART_KAFKA names. Raises Misconfigured without it."""
    from faststream.kafka import KafkaBroker

    settings.require("kafka")
    hosts = (settings.kafka or "").split(",")
    return KafkaBroker(
        hosts, allow_auto_create_topics=False, apply_types=False, logger=None,
        security=_security(BrokerAccess.from_settings(settings)),
    )  # fmt: skip


def _security(access: BrokerAccess) -> BaseSecurity:
    """The same in FastStream's own words."""
    from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

    encrypted = access.tls is not None
    if not access.user:
        return BaseSecurity(ssl_context=access.tls, use_ssl=encrypted)
    kinds: dict[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
        "PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512,
    }  # fmt: skip
    return kinds[access.mechanism](access.user, access.password, ssl_context=access.tls, use_ssl=encrypted)


class Service:
    """One service with its skills. Lives on one event loop; may be started again after `stop`.

    over: how its skills are called. Over HTTP: host, port: where it listens; port 0 takes a free one. url: where others
    reach it, default `http://host:port`. routes: further HTTP routes of its own. Over the bus: nothing to listen on.
    signing_key: verifies Headstart-Context on every call; None believes nobody, so every `Caller` is empty.
    api_key: the service's own, with the scope `service`; signs what it says. Its user is the service's `name`, who
    alone may answer this service's calls. tenant: the key's. tenants: who may use its skills, () means everybody.
    before(skill, key, caller): awaited for every valid request before the key is looked at and the function runs.
    """

    def __init__(
        self, name: str, *, over: Literal["http", "bus"] = "http", host: str = "127.0.0.1", port: int = 0,
        url: str = "", signing_key: str | None = None, api_key: str = "", tenant: str = "default",
        tenants: Sequence[str] = (), routes: Sequence[BaseRoute] = (), now_ms: Callable[[], int] = wall_clock_ms,
        before: Before | None = None,
    ) -> None:  # fmt: skip
        self.name, self.over, self.host, self.port = name, over, host, port
        self._url, self._signing_key, self._tenants = url.rstrip("/"), signing_key, tuple(tenants)
        self._api_key, self._tenant = api_key, tenant
        self._routes, self._now_ms, self._before = tuple(routes), now_ms, before
        self._declared: dict[str, tuple[SkillManifest, Answers]] = {}
        self._handlers: dict[str, OnFact] = {}
        self._listener: Listener | None = None
        self._broker: KafkaBroker | None = None
        self._consumers: list[Consumer] = []
        self._bus: Bus | None = None

    def skill(
        self, *, name: str = "", description: str = "", version: str = "", effect: str = "pure",
        fire_on: Sequence[str] = (), compensate: str = "", timeout_ms: int = 10_000, retries: int = 1,
        cost: float = 0.0, idempotent_key: bool = False, approval: bool = False, result_bytes: int = 16_384,
        concurrency: int = 64, examples: Sequence[str] = (),
    ) -> Callable[[F], F]:  # fmt: skip
        """Decorator that declares a function as a skill; the function itself stays as it is.

        name: default the function's. description: default its docstring's first paragraph. version: default the hash
        of everything declared. The rest as in SkillManifest. idempotent_key True also enforces the key: a second
        request with one gets the first one's outcome. Raises Misconfigured or InvalidInput (`invalid_manifest`).
        """

        def declare(function: F) -> F:
            signature = Signature(function)
            manifest = SkillManifest(
                name=name or function.__name__, version=version, description=description or signature.description,
                parameters=signature.parameters, owner=self.name, fire_on=tuple(fire_on), effect=effect,
                compensate=compensate, timeout_ms=timeout_ms, retries=retries, cost=cost,
                idempotent_key=idempotent_key, approval=approval, result_bytes=result_bytes, concurrency=concurrency,
                tenants=self._tenants, examples=tuple(examples), returns=signature.returns,
            )  # fmt: skip
            self._declare(manifest, signature)
            return function

        return declare

    def add(self, manifest: SkillManifest, work: Answers) -> None:
        """Declares a skill whose contract is there already. Of the manifest the owner, the version and where it lives
        are this service's to say. Raises as `skill` does."""
        own = msgspec.structs.replace(
            manifest, owner=self.name, version="", url="", hosts=(), bus=False, http=None,
            tenants=self._tenants or manifest.tenants,
        )  # fmt: skip
        self._declare(own, work)

    def on(self, *kinds: type[Event]) -> Callable[[H], H]:
        """Decorator: the coroutine function is called with every fact of these types, from the service's first start
        on; in the order of each conversation, at least once. One that raises is called again three times, then its
        record is set aside. Raises Misconfigured for a type that does not stand in the log or has a handler."""

        for kind in kinds:
            if EVENTS.name not in kind.TOPICS or kind.TYPE in self._handlers:
                raise Misconfigured(f"{kind.__name__} is not a fact of the log, or it has a handler already")

        def declare(handler: H) -> H:
            self._handlers |= {kind.TYPE: handler for kind in kinds}
            return handler

        return declare

    @property
    def url(self) -> str:
        """Where others reach it. Raises Misconfigured while the port is not known yet."""
        if self._url:
            return self._url
        if not self.port:
            raise Misconfigured("the service has no port before it starts")
        return f"http://{self.host}:{self.port}"

    @property
    def signing_key(self) -> str | None:
        """What calls are verified with; None: nobody is believed. May be set until the service starts."""
        return self._signing_key

    @signing_key.setter
    def signing_key(self, secret: str | None) -> None:
        self._signing_key = secret

    @property
    def publisher(self) -> Publisher:
        """Speaks for the service while it runs. Raises Misconfigured without a bus, InvalidInput without a key."""
        if self._bus is None:
            raise Misconfigured("the service speaks once it has started with a bus")
        return Publisher(self._bus, self._tenant, self._api_key, now_ms=self._now_ms)

    def manifests(self) -> list[SkillManifest]:
        """What it declares, as it is registered. Raises Misconfigured as `url` does."""
        return [self._placed(manifest, self._place) for manifest, _ in self._declared.values()]

    async def start(
        self, bus: Bus | None = None, broker: KafkaBroker | None = None, *,
        session_timeout_ms: int = SESSION_TIMEOUT_MS, fetch_max_wait_ms: int = 500,
    ) -> None:  # fmt: skip
        """Listens or consumes, then registers its skills when there is a bus (started by the caller, who stops it).

        broker: FastStream's, not started (`broker_of`); needed over the bus and where facts are heard, and stopped with
        the service. session_timeout_ms: after so long without a sign of life others get this process' partitions.
        Raises OSError when the port is taken, Misconfigured when a part is missing, and what `register` raises;
        nothing is left running then.
        """
        if (self.over == "bus" or self._handlers) and (bus is None or broker is None):
            raise Misconfigured("a service that reads the bus starts with a bus and a broker")
        self._bus = bus
        try:
            if self.over == "http":
                await self._listen()
            if broker is not None and bus is not None:
                await self._consume(bus, broker, session_timeout_ms, fetch_max_wait_ms)
            if bus is not None:
                manifests = self.manifests()
                new = await register(bus, self.name, manifests, self._now_ms())
                log.info("service %s over %s: %d skills, %d new", self.name, self.over, len(manifests), len(new))
        except BaseException:
            await self.stop()
            raise

    async def stop(self, withdraw_skills: bool = False) -> None:
        """Finishes calls (at most 5 s) and takes no more; safe twice. withdraw_skills: take them out of force."""
        if withdraw_skills and self._bus is not None:
            await withdraw(self._bus, self.name, list(self._declared), self._now_ms())
        if self._listener is not None:
            await self._listener.stop()
        for consumer in self._consumers:
            await consumer.stop()
        if self._broker is not None:
            await self._broker.stop()
        self._listener = self._broker = self._bus = None
        self._consumers = []

    async def run(self, bus: Bus | None = None, broker: KafkaBroker | None = None) -> None:
        """Starts and serves until it is cancelled, then stops; the skills stay in force for when it is back."""
        await self.start(bus, broker)
        try:
            if self._listener is not None:
                await asyncio.shield(self._listener.serving)
            else:
                await asyncio.Event().wait()
        finally:
            await self.stop()

    def serve(self) -> int:
        """Runs as a process with everything from the environment (HEADSTART_KAFKA …) until SIGTERM or Ctrl-C; gives the
        exit status: `sys.exit(service.serve())`. HEADSTART_KEY is the service's key where none was given."""
        return run_process(self._stage)

    @asynccontextmanager
    async def _stage(self, settings: Settings) -> AsyncIterator[Running]:
        self._api_key = self._api_key or settings.key or ""
        self._signing_key = self._signing_key or settings.signing_key
        broker = broker_of(settings) if self.over == "bus" or self._handlers else None
        async with open_bus(settings, f"service-{self.name}") as bus:
            await self.start(
                bus, broker, session_timeout_ms=settings.session_timeout_ms,
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
            )  # fmt: skip
            try:
                yield Running(f"service {self.name}")
            finally:
                await self.stop()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _declare(self, manifest: SkillManifest, work: Answers) -> None:
        if manifest.name in self._declared:
            raise Misconfigured(f"skill {manifest.name} is declared twice")
        validate(self._placed(manifest, "http://127.0.0.1:1"))
        self._declared[manifest.name] = (manifest, work)

    def _host(self) -> SkillHost:
        skills = {one.name: ServedSkill(one, self._declared[one.name][1]) for one in self.manifests()}
        return SkillHost(skills, self._signing_key, self._now_ms, self._before)

    async def _listen(self) -> None:
        listening = listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        self._listener = Listener(self.name, application(self._host(), self._routes), listening)
        await self._listener.ready()

    async def _consume(self, bus: Bus, broker: KafkaBroker, session_timeout_ms: int, fetch_max_wait_ms: int) -> None:
        group = prefixed(f"service.{self.name}", bus.namespace)
        if self.over == "bus":
            face = BusFace(self._host(), bus, self.name, self._api_key)
            self._consumers.append(
                Consumer(
                    broker, CALLS.name, group, face.take, namespace=bus.namespace, concurrency=CONCURRENCY,
                    session_timeout_ms=session_timeout_ms, fetch_max_wait_ms=fetch_max_wait_ms,
                )
            )  # fmt: skip
        if self._handlers:
            facts = FactFace(bus, self.name, self._handlers)
            self._consumers.append(
                Consumer(
                    broker, EVENTS.name, f"{group}.facts", facts.take, namespace=bus.namespace, begin_at="latest",
                    session_timeout_ms=session_timeout_ms, fetch_max_wait_ms=fetch_max_wait_ms,
                )
            )  # fmt: skip
        self._broker = broker
        await broker.start()
        for consumer in self._consumers:
            consumer.start()

    @property
    def _place(self) -> str:
        return self.url if self.over == "http" else ""

    def _placed(self, manifest: SkillManifest, url: str) -> SkillManifest:
        if self.over == "bus":
            return versioned(msgspec.structs.replace(manifest, bus=True))
        place = host_port(url)
        hosts = (place,) if place is not None else ()
        return versioned(msgspec.structs.replace(manifest, url=f"{url}/skills/{manifest.name}", hosts=hosts))
