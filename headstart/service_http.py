"""The HTTP face of a service: `POST /skills/<name>` with the arguments as JSON, the result as JSON.

| status | when |
|---|---|
| 200 | the result |
| 401, 403 | Headstart-Context is missing; it is forged, expired or made for another request |
| 404 | no such skill |
| 413 | the body is over 1 MiB |
| 422 | the arguments are not what the skill declared, or the function refused them (CallerError) |
| 500 | the function failed; what it said is logged here and not sent |

Errors are `{"error": {"code", "message"}}`. A pure skill whose caller hangs up is cancelled; any other goes on, since
its effect may have begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
import orjson
import pydantic
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headstart.service_keys import KeyLedger
from headstart.service_signature import Signature
from streams.errors import CallerError, HeadstartError, InvalidInput, NotPermitted
from streams.events.registering import SkillManifest
from workers.skills.context import HEADER, SignedContext, verify
from workers.skills.manifest import validate_arguments

log = logging.getLogger("headstart.service")
Before = Callable[[str, str, SignedContext], Awaitable[None]]
BODY_BYTES: Final = 1 << 20
NOBODY: Final = SignedContext(tenant="", user="", skill="", turn="", call=-1, claim=0, at_ms=0, body_sha256="")
"""The caller of a service that has no signing key and so believes no header."""


class ServedSkill(msgspec.Struct, frozen=True):
    manifest: SkillManifest
    signature: Signature


def application(
    skills: Mapping[str, ServedSkill], signing_key: str | None, now_ms: Callable[[], int],
    routes: Sequence[BaseRoute] = (), before: Before | None = None,
) -> Starlette:  # fmt: skip
    """skills: by name. routes: further ones of the service's own. signing_key None: contexts are not verified.
    before(skill, key, caller): awaited for every valid request, before the key is looked at."""
    keys = KeyLedger(now_ms)

    async def skill(request: Request) -> Response:
        try:
            return Response(
                await _answer(request, skills, signing_key, now_ms, keys, before), media_type="application/json"
            )
        except HeadstartError as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("skill %s failed", request.path_params["name"])
            return JSONResponse({"error": {"code": "failed", "message": "the skill failed"}}, 500)

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok", "skills": sorted(skills)})

    return Starlette(routes=[Route("/skills/{name}", skill, methods=["POST"]), Route("/healthz", healthy), *routes])


async def _answer(
    request: Request, skills: Mapping[str, ServedSkill], signing_key: str | None, now_ms: Callable[[], int],
    keys: KeyLedger, before: Before | None,
) -> bytes:  # fmt: skip
    name = str(request.path_params["name"])
    body = await _body(request)
    served = skills.get(name)
    if served is None:
        raise InvalidInput(f"there is no skill {name} here", code="unknown_skill")
    key = request.headers.get("idempotency-key", "")
    caller = NOBODY
    if signing_key is not None:
        caller = verify(request.headers.get(HEADER, ""), name, body, key, now_ms(), signing_key)
    arguments = _arguments(served.manifest, body)
    if before is not None:
        await before(name, key, caller)

    async def work() -> bytes:
        try:
            return await served.signature.call(arguments, caller)
        except pydantic.ValidationError as error:
            place = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
            raise InvalidInput(f"{place} is not what {name} takes", code="invalid_argument") from error

    if served.manifest.idempotent_key:
        return await keys.run(key, body, work)
    if served.manifest.effect == "pure":
        return await _while_connected(request, asyncio.create_task(work()))
    return await asyncio.shield(asyncio.create_task(work()))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise InvalidInput(f"a body has at most {BODY_BYTES} bytes", code="body_too_large")
    return bytes(body)


def _arguments(manifest: SkillManifest, body: bytes) -> dict[str, object]:
    try:
        arguments = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("the body is not JSON", code="invalid_json") from error
    if not isinstance(arguments, dict):
        raise InvalidInput("the body is not a JSON object", code="invalid_json")
    validate_arguments(manifest, arguments)
    return arguments


async def _while_connected(request: Request, work: asyncio.Task[bytes]) -> bytes:
    """The work's outcome; cancelled, with ClientDisconnect, as soon as nobody waits for it."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.create_task(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return await work
        raise ClientDisconnect
    finally:
        watch.cancel()
        work.cancel()


_STATUS: Final = {"unknown_skill": 404, "body_too_large": 413, "context_missing": 401}


def _refusal(error: HeadstartError) -> Response:
    status = _STATUS.get(error.code) or (403 if isinstance(error, NotPermitted) else 422)
    if not isinstance(error, CallerError):
        log.error("skill failed: %s", error.code)
        status = 500
    return JSONResponse({"error": {"code": error.code, "message": error.message}}, status)
