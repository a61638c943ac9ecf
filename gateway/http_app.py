"""What the port answers beside sockets: OpenAI's HTTP API, conversations, health, figures and the chat page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from gateway import metrics
from gateway.axis_api import axis_routes
from gateway.chat_api import chat_routes
from gateway.conversations_api import conversation_routes
from gateway.feedback import feedback_routes
from gateway.habits_api import habit_routes
from gateway.http_common import BodyLimit, fail, json_response, principal_of
from gateway.memory_api import memory_routes
from gateway.openai_api import response_routes
from gateway.pages import Pages
from gateway.response_object import MODEL
from gateway.services import Services
from streams.errors import HeadstartError, NotFound

WEB = Path(str(files("gateway"))) / "web"


def http_app(services: Services) -> Starlette:
    """The Starlette application of one gateway."""

    async def healthz(request: Request) -> Response:
        alive = services.feed.healthy()
        return json_response({"status": "ok" if alive else "stuck"}, 200 if alive else 503)

    async def readyz(request: Request) -> Response:
        failing = []
        if services.draining:
            failing.append("draining")
        if not services.feed.healthy():
            failing.append("log")
        try:
            await services.store.position(0)
        except HeadstartError:
            failing.append("database")
        return json_response({"status": "ready" if not failing else "not ready", "failing": failing},
                             503 if failing else 200)  # fmt: skip

    async def figures(request: Request) -> Response:
        figure, feed = services.metrics, services.feed
        figure.records.set(feed.records)
        figure.facts.set(feed.steps)
        figure.partitions.set(len(feed.partitions))
        figure.rebuilt.set(feed.rebuilt)
        return Response(figure.text(), media_type=metrics.CONTENT_TYPE)

    def names() -> list[str]:
        """What can be asked for: agents and models as the service chooses, each agent, each model that runs."""
        roster = services.roster
        return [MODEL, *(f"{MODEL}/{agent}" for agent in roster.agents()), *roster.models()]

    async def models(request: Request) -> Response:
        await principal_of(services, request)
        return json_response({"object": "list", "data": [model_object(name) for name in names()]})

    async def model(request: Request) -> Response:
        await principal_of(services, request)
        name = request.path_params["model"]
        if name not in names():
            raise NotFound("no worker runs this model now", code="model_not_found", param="model")
        return json_response(model_object(name))

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HeadstartError)
        services.metrics.errors.labels(error.code).inc()
        return fail(error)

    routes: list[BaseRoute] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", figures),
        Route("/v1/models", models),
        Route("/v1/models/{model:path}", model),
        *response_routes(services),
        *feedback_routes(services),
        *chat_routes(services),
        *conversation_routes(services),
        *habit_routes(services),
        *memory_routes(services),
        *axis_routes(services),
    ]
    if (WEB / "index.html").is_file():
        page = Pages(directory=WEB, html=True)
        routes += [Mount("/web", page), Mount("/", page)]
    return Starlette(
        routes=routes,
        exception_handlers={HeadstartError: failed},
        middleware=[Middleware(BodyLimit, limit_bytes=services.limits.frame_bytes, limit_ms=services.limits.body_ms)],
    )


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": MODEL}
