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

Skills are served over HTTP here. A service that reads `calls` instead serves the same `ServedSkill`s from the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
import uvicorn
from starlette.routing import BaseRoute

from headstart.publisher import Publisher
from headstart.service_http import Before, ServedSkill, application
from headstart.service_registration import register, versioned, withdraw
from headstart.service_signature import Caller, Signature
from streams.bus import Bus
from streams.errors import Misconfigured
from streams.events.registering import SkillManifest
from streams.listening import BACKLOG, listen
from workers.skills.context import verify as verify_context
from workers.skills.manifest import host_port, validate

__all__ = ["Caller", "Publisher", "Service", "verify_context"]

log = logging.getLogger("headstart.service")
KEEP_ALIVE_S: Final = 310  # longer than callers keep idle connections, so that a warm one is not closed under a request
STOP_S: Final = 5
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Service:
    """One service with its skills. Lives on one event loop; may be started again after `stop`.

    host, port: where it listens; port 0 takes a free one. url: where others reach it, default `http://host:port`.
    signing_key: verifies Headstart-Context on every call; None believes nobody, so every `Caller` is empty.
    tenants: who may use its skills, () means everybody. routes: further HTTP routes of its own.
    before(skill, key, caller): awaited for every valid request before the key is looked at and the function runs.
    """

    def __init__(
        self, name: str, *, host: str = "127.0.0.1", port: int = 0, url: str = "", signing_key: str | None = None,
        tenants: Sequence[str] = (), routes: Sequence[BaseRoute] = (), now_ms: Callable[[], int] = wall_clock_ms,
        before: Before | None = None,
    ) -> None:  # fmt: skip
        self.name, self.host, self.port = name, host, port
        self._url, self._signing_key, self._tenants = url.rstrip("/"), signing_key, tuple(tenants)
        self._routes, self._now_ms, self._before = tuple(routes), now_ms, before
        self._declared: dict[str, tuple[SkillManifest, Signature]] = {}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
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
            if manifest.name in self._declared:
                raise Misconfigured(f"skill {manifest.name} is declared twice")
            validate(self._placed(manifest, "http://127.0.0.1:1"))
            self._declared[manifest.name] = (manifest, signature)
            return function

        return declare

    @property
    def url(self) -> str:
        """Where others reach it. Raises Misconfigured while the port is not known yet."""
        if self._url:
            return self._url
        if not self.port:
            raise Misconfigured("the service has no port before it starts")
        return f"http://{self.host}:{self.port}"

    def manifests(self) -> list[SkillManifest]:
        """What it declares, as it is registered. Raises Misconfigured as `url` does."""
        return [self._placed(manifest, self.url) for manifest, _ in self._declared.values()]

    async def start(self, bus: Bus | None = None) -> None:
        """Listens, then registers its skills when there is a bus (started by the caller, who also stops it).

        Raises OSError when the port is taken, and what `register` raises; nothing is left running then.
        """
        listening = listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        manifests = self.manifests()
        skills = {one.name: ServedSkill(one, self._declared[one.name][1]) for one in manifests}
        app = application(skills, self._signing_key, self._now_ms, self._routes, self._before)
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=STOP_S, backlog=BACKLOG,
        )  # fmt: skip
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name=f"service {self.name}")
        try:
            await self._server.ready(self._serving)
            if bus is not None:
                self._bus = bus
                new = await register(bus, self.name, manifests, self._now_ms())
                log.info("service %s on %s: %d skills, %d newly in force", self.name, self.url, len(skills), len(new))
        except BaseException:
            await self.stop()
            raise

    async def stop(self, withdraw_skills: bool = False) -> None:
        """Finishes requests (at most 5 s) and stops listening; safe twice. withdraw_skills: take them out of force."""
        if withdraw_skills and self._bus is not None:
            await withdraw(self._bus, self.name, list(self._declared), self._now_ms())
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
        self._server = self._serving = self._bus = None

    async def run(self, bus: Bus | None = None) -> None:
        """Starts and serves until it is cancelled, then stops; the skills stay in force for when it is back."""
        await self.start(bus)
        assert self._serving is not None
        try:
            await asyncio.shield(self._serving)
        finally:
            await self.stop()

    def _placed(self, manifest: SkillManifest, url: str) -> SkillManifest:
        place = host_port(url)
        hosts = (place,) if place is not None else ()
        url = f"{url}/skills/{manifest.name}"
        return versioned(msgspec.structs.replace(manifest, url=url, hosts=hosts))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the service decides about signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def ready(self, serving: asyncio.Task[None]) -> None:
        """Returns when it accepts connections; raises what ended it before."""
        waiting = asyncio.create_task(self.listening.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            await serving
            raise Misconfigured("the service ended before it listened")
