"""`/v1/responses/{id}/timeline`: a turn on one time axis, from the log; as JSON, or as a picture with `format=svg`."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.axis import Axis, axis_of
from gateway.axis_drawing import svg
from gateway.deliveries import acknowledgements
from gateway.http_common import json_response, principal_of
from gateway.services import Services
from streams import ids
from streams.codec import Identity, Record, decode, identity
from streams.errors import HeadstartError, InvalidInput, NotFound
from streams.events import Event
from streams.events.turn import TurnAccepted, TurnEnd
from streams.fence import Fence


class LoggedFact(msgspec.Struct, frozen=True):
    """One record of a turn that counts."""

    record: Record
    identity: Identity
    event: Event


def axis_routes(services: Services) -> list[Route]:
    """The route below a response."""

    async def timeline(request: Request) -> Response:
        principal = await principal_of(services, request)
        response = request.path_params["response"]
        wanted = request.query_params.get("format", "json")
        if wanted not in ("json", "svg"):
            raise InvalidInput("'format' is json or svg", param="format")
        if not ids.is_id(ids.RESPONSE, response):
            raise NotFound("no such response", code="response_not_found", param="response_id")
        place = await services.directory.find(ids.turn_of(response), principal)
        facts = await facts_of(services, place.turn, place.offset) if place.offset >= 0 else []
        if not facts:
            raise NotFound("the log has nothing of this response any more", code="timeline_not_found")
        accepted = facts[0].event
        said = await acknowledgements(services.bus, accepted) if isinstance(accepted, TurnAccepted) else []
        axis = axis_of(facts, said)
        if wanted == "svg":
            return Response(svg(axis), media_type="image/svg+xml")
        return json_response(axis_object(axis))

    return [Route("/v1/responses/{response}/timeline", timeline, methods=["GET"])]


async def facts_of(services: Services, turn: str, offset: int) -> list[LoggedFact]:
    """The facts of a turn that begins at `offset`, up to its end or the end of the log; what no reader counts is left
    out. [] when its beginning has aged out."""
    facts: list[LoggedFact] = []
    fence = Fence()
    prefix = turn + "/"

    def look(record: Record) -> bool | None:
        if not record.event_id.startswith(prefix):
            return None
        try:
            fact = identity(record)
            if fence.judge(fact, record.source, record.type) != "counts":
                return None
            event = decode(record)
        except HeadstartError:
            return None  # of a newer build, or broken: left out here as everywhere
        if facts or isinstance(event, TurnAccepted):
            facts.append(LoggedFact(record, fact, event))
        return True if isinstance(event, TurnEnd) else None

    await services.feed.scan(ids.partition_of(turn), offset, look)
    return facts


def axis_object(axis: Axis) -> dict[str, object]:
    """The axis as JSON; `lanes` in the order in which they are drawn."""
    return {
        "object": "timeline", "response_id": ids.response_of(axis.turn), "took_ms": axis.took_ms,
        "saved_ms": axis.saved_ms, "status": axis.status, "lanes": axis.lanes,
        "spans": msgspec.to_builtins(axis.spans), "marks": msgspec.to_builtins(axis.marks),
    }  # fmt: skip
