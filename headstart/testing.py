"""For tests of services: one runs here, on a bus in memory, and its skills are called as the assistant calls them.

async def whole() -> None:
    async with serving(service) as skills:
        assert await skills.call("count_words", text="one two") == {"words": 2}

asyncio.run(whole())
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from headstart.service import Service
from headstart.service_registration import read_catalog
from streams import ids
from streams.errors import InvalidInput, Misconfigured
from streams.events.registering import SkillManifest
from streams.memory_bus import MemoryBroker, MemoryBus
from workers.skills.catalog import Catalog
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor
from workers.skills.manifest import validate_arguments
from workers.skills.parameters import fire_on

SIGNING_KEY = "a signing key that only tests know"


class Skills:
    """The skills of one running service, as its registration says them."""

    def __init__(self, catalog: Catalog, executor: HttpExecutor) -> None:
        self._catalog, self._executor = catalog, executor

    def manifest(self, name: str) -> SkillManifest:
        """Raises InvalidInput (`unknown_skill`)."""
        manifest = self._catalog.by_name(name)
        if manifest is None:
            raise InvalidInput(f"the service registered no skill {name}", code="unknown_skill")
        return manifest

    def fires_on(self, name: str) -> tuple[str, ...]:
        """The parameters that suffice for a call to leave while the rest of the plan is being written."""
        return fire_on(self.manifest(name))

    async def call(self, name: str, /, *, user: str = "ada", tenant: str = "default", **arguments: Any) -> Any:
        """Sends one call for a member and gives its result. Raises what `fires_on` raises, InvalidInput for arguments
        that the skill does not take, and the errors of workers/skills/failures.py: `skill_refused` where the function
        refused them, `skill_lied` for a result that is not what it promised."""
        manifest = self.manifest(name)
        validate_arguments(manifest, arguments)
        conversation = ids.conversation_id(0, 0, os.urandom(10))
        context = CallContext(
            turn=ids.turn_id(conversation, 0, os.urandom(10)), call=0, tenant=tenant, user=user,
            key=os.urandom(8).hex(), conversation=conversation,
        )  # fmt: skip
        return orjson.loads((await self._executor.call(manifest, arguments, context)).result)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Skills]:
    """The service listens on a free port of this machine meanwhile; one without a signing key gets one. Raises
    Misconfigured for a service over the bus, whose functions are the same over HTTP."""
    if service.over != "http":
        raise Misconfigured("a service is tested over HTTP", hint='make it with over="http" in its test')
    bus = MemoryBus(MemoryBroker(partitions=1))
    await bus.start()
    try:
        service.signing_key = service.signing_key or SIGNING_KEY
        async with HttpExecutor(signing_key=service.signing_key, allow_private=True) as executor:
            await service.start(bus)
            try:
                yield Skills(await read_catalog(bus), executor)
            finally:
                await service.stop()
    finally:
        await bus.stop()
