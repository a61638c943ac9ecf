"""The turns stage as a process: everything a turn owner needs, opened from the settings, and closed again.

`TurnsWorker` is also what `headstart up` runs beside the other stages in one process.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from memory.embed import Embedder
from memory.opening import open_parts
from memory.store import Store
from streams.bus import Bus
from streams.events.registering import WorkerAlive
from streams.models import ModelSpec, load_models
from streams.process import Running
from streams.pulse import Pulse
from streams.settings import Settings
from streams.signing import command_secret
from streams.topology import PROMPTS
from workers.agents.catalog import load_all
from workers.agents.folders import roots
from workers.generation.fleet import Fleet
from workers.generation.liveness import Liveness
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.planning.service_gate import ServiceGate
from workers.planning.setups import registered
from workers.routing.examples import embedded
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

log = logging.getLogger("headstart.turns")


class TurnsWorker:
    """One member of the turns group. `start` returns when it has joined; `stop` hands its partitions back.

    The bus, the store and the embedder are opened and closed by the caller. clock_ms: monotonic.
    """

    def __init__(
        self, bus: Bus, store: Store, embedder: Embedder, settings: Settings,
        clock_ms: Callable[[], float] = lambda: time.monotonic() * 1e3,
    ) -> None:  # fmt: skip
        self.name = f"turns/{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self._bus, self._store, self._embedder, self._settings = bus, store, embedder, settings
        self._executor = HttpExecutor.from_settings(settings)
        self._registry = SkillRegistry(bus, store, embedder)
        self._fleet = Fleet(bus)
        self._pulse = Pulse(clock_ms)
        self._liveness = Liveness(bus, self.alive, self._pulse)
        self.owner: TurnOwner | None = None

    async def start(self) -> None:
        agents = load_all(roots(self._settings))
        models = load_models(self._settings)
        router = Router(await embedded(self._embedder, agents))
        await self._registry.start()
        await self._fleet.start()
        setup = Setup(agents=agents, models=models, router_model=_router_model(models))
        self.owner = TurnOwner(
            self._bus, self._store, setup, self._registry, lambda owner: self._effects(owner, router),
            place=self._fleet.place, writer=self.name, setup_id=await write_down(self._bus, setup, self.name),
            secret=command_secret(key) if (key := self._settings.signing_key) else None, check=self._gate(),
            pulse=self._pulse,
        )  # fmt: skip
        self.owner.metrics.follow_skills(self._registry.refused)
        await self.owner.start()
        self._liveness.start()
        log.info("turns worker %s is ready: %d agents, %d skills", self.name, len(agents), len(self._registry.every()))

    async def stop(self) -> None:
        await self._liveness.stop()
        if self.owner is not None:
            await self.owner.stop()
        await self._fleet.stop()
        await self._registry.close()
        await self._executor.close()

    @property
    def skills(self) -> SkillRegistry:
        """What it offers plans: it follows the topic `skills`."""
        return self._registry

    async def failed(self) -> None:
        """Returns or raises when the owner can not go on."""
        assert self.owner is not None
        await self.owner.failed()

    def alive(self, leaving: bool = False) -> WorkerAlive:
        """What this worker says of itself on `workers`."""
        owner = self.owner
        running, held = (owner.running, tuple(sorted(owner.partitions))) if owner else (0, ())
        return WorkerAlive(
            worker=self.name, stage="turns", at_ms=int(time.time() * 1000), running=running, partitions=held,
            leaving=leaving, agents=tuple(sorted(owner.setup.agents)) if owner else (),
        )  # fmt: skip

    def _gate(self) -> ServiceGate:
        return ServiceGate(
            lambda: self._bus.epoch, lambda: time.time() * 1000, quota_per_minute=self._settings.service_quota,
            allow_unsigned=self._settings.dev,
        )  # fmt: skip

    def _effects(self, owner: TurnOwner, router: Router) -> Effects:
        return Effects(
            bus=self._bus, store=self._store, embedder=self._embedder, router=router, registry=self._registry,
            executor=self._executor, past=owner, writer=self.name, clock_ms=owner.clock_ms,
        )  # fmt: skip


async def write_down(bus: Bus, setup: Setup, writer: str) -> str:
    """Puts the setup and its prompts on `prompts`, from where a turn that names its id can be run again. Gives the id.
    The same setup written again is the same records; compaction keeps one of each."""
    event, prompts = registered(setup, int(time.time() * 1000))
    for prompt in prompts:
        key = f"{prompt.id}@{prompt.version}"
        _ = await bus.publish(PROMPTS.name, 0, key, prompt, key, writer)
    key = f"setup/{event.id}"
    _ = await bus.publish(PROMPTS.name, 0, key, event, key, writer)
    return event.id


def _router_model(models: Mapping[str, ModelSpec]) -> str:
    """The model the router asks when it is unsure: one named `router`, if the table has it. Without one the nearest
    agent takes what is unsure, since a guess of the smallest model is worse than that."""
    return "router" if "router" in models else ""


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Running]:
    """The process `python -m workers turns` (streams.process)."""
    async with open_parts(settings, "headstart-turns") as parts:
        worker = TurnsWorker(parts.bus, parts.store, parts.embedder, settings)
        try:
            await worker.start()
            yield Running(worker.name, worker.failed)
        finally:
            await worker.stop()
