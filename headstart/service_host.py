"""What a service does with a call, whichever way it came: check it, keep its key, run the function.

The HTTP face (service_http.py) and the bus face (service_bus.py) are thin shells around one `SkillHost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import pydantic

from headstart.service_keys import KeyLedger
from headstart.service_signature import Answers
from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.context import SignedContext
from workers.skills.manifest import validate_arguments

Before = Callable[[str, str, SignedContext], Awaitable[None]]
NOBODY: Final = SignedContext(tenant="", user="", skill="", turn="", call=-1, claim=0, at_ms=0, body_sha256="")
"""The caller of a service that has no signing key and so believes no header."""


class ServedSkill(msgspec.Struct, frozen=True):
    manifest: SkillManifest
    work: Answers


class SkillHost:
    """The skills of one service on one event loop. skills: by name. signing_key None: contexts are not verified.
    before(skill, key, caller): awaited for every valid call, before its key is looked at."""

    def __init__(
        self, skills: Mapping[str, ServedSkill], signing_key: str | None, now_ms: Callable[[], int],
        before: Before | None = None,
    ) -> None:  # fmt: skip
        self.skills, self.signing_key, self.now_ms = skills, signing_key, now_ms
        self._before = before
        self._keys = KeyLedger(now_ms)

    def skill(self, name: str) -> ServedSkill:
        """Raises InvalidInput (`unknown_skill`)."""
        served = self.skills.get(name)
        if served is None:
            raise InvalidInput(f"there is no skill {name} here", code="unknown_skill")
        return served

    async def begin(
        self, served: ServedSkill, key: str, body: bytes, arguments: dict[str, Any], caller: SignedContext
    ) -> asyncio.Task[bytes]:
        """Checks a call and begins it; the task gives the result as JSON. Two calls with one key of a skill that
        enforces it share one task's outcome. body: what the key stands for, to tell that it came with another call.

        Raises, as the task does: InvalidInput for wrong arguments or a key that is missing or was used for another
        call, HeadstartError that the function raised, and whatever else it raised.
        """
        validate_arguments(served.manifest, arguments)
        if self._before is not None:
            await self._before(served.manifest.name, key, caller)

        async def work() -> bytes:
            try:
                return await served.work.call(arguments, caller)
            except pydantic.ValidationError as error:
                place = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
                message = f"{place} is not what {served.manifest.name} takes"
                raise InvalidInput(message, code="invalid_argument") from error

        if served.manifest.idempotent_key:
            return asyncio.create_task(self._keys.run(key, body, work))
        return asyncio.create_task(work())
