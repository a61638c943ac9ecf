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
from collections.abc import Sequence
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headstart.service_host import NOBODY, SkillHost
from streams.errors import CallerError, HeadstartError, InvalidInput, NotPermitted
from workers.skills.context import HEADER, verify

log = logging.getLogger("headstart.service")
BODY_BYTES: Final = 1 << 20


def application(host: SkillHost, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """routes: further ones of the service's own."""

    async def skill(request: Request) -> Response:
        try:
            return Response(await _answer(request, host), media_type="application/json")
        except HeadstartError as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("skill %s failed", request.path_params["name"])
            return JSONResponse({"error": {"code": "failed", "message": "the skill failed"}}, 500)

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok", "skills": sorted(host.skills)})

    return Starlette(routes=[Route("/skills/{name}", skill, methods=["POST"]), Route("/healthz", healthy), *routes])


async def _answer(request: Request, host: SkillHost) -> bytes:
    name = str(request.path_params["name"])
    body = await _body(request)
    served = host.skill(name)
    key = request.headers.get("idempotency-key", "")
    caller = NOBODY
    if host.signing_key is not None:
        caller = verify(request.headers.get(HEADER, ""), name, body, key, host.now_ms(), host.signing_key)
    work = await host.begin(served, key, body, _arguments(body), caller)
    if served.manifest.effect == "pure" and not served.manifest.idempotent_key:
        return await _while_connected(request, work)
    return await asyncio.shield(work)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise InvalidInput(f"a body has at most {BODY_BYTES} bytes", code="body_too_large")
    return bytes(body)


def _arguments(body: bytes) -> dict[str, Any]:
    try:
        arguments = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("the body is not JSON", code="invalid_json") from error
    if not isinstance(arguments, dict):
        raise InvalidInput("the body is not a JSON object", code="invalid_json")
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
