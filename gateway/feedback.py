"""A person's word on an answer: read from a frame or a request body, and sent to `turns` as a command.

A good answer may be shown to a model as an example for like questions of the same person, and of others of the tenant
where the person shares it; one that is rated badly is no longer shown. The newest word counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http_common import body_of, json_response, principal_of
from gateway.requests import event_id_of
from gateway.services import Services
from memory.rows import Principal
from streams import ids
from streams.errors import InvalidInput, NotFound
from streams.events.rating import RATINGS

COMMENT_CHARACTERS: Final = 2_000


class Feedback(msgspec.Struct, frozen=True):
    """What a person says. event_id: the idempotency key, "" when none."""

    rating: str
    comment: str
    share: bool
    event_id: str


def parse_feedback(body: Mapping[str, Any]) -> Feedback:
    """Raises InvalidInput naming the field."""
    rating, comment, share = body.get("rating"), body.get("comment") or "", body.get("share") or False
    if rating not in RATINGS:
        raise InvalidInput(f"'rating' is one of {', '.join(RATINGS)}", param="rating")
    if not isinstance(comment, str) or len(comment) > COMMENT_CHARACTERS:
        raise InvalidInput(f"'comment' is a text of at most {COMMENT_CHARACTERS} characters", param="comment")
    if not isinstance(share, bool):
        raise InvalidInput("'share' is true or false", param="share")
    return Feedback(str(rating), comment, share, event_id_of(body, {}))


async def give_feedback(services: Services, principal: Principal, response: str, body: Mapping[str, Any]) -> Feedback:
    """Sends it; done when `turns` has acknowledged it. Raises InvalidInput, NotFound (`response_not_found`) unless the
    response is this member's own, and what Bus.publish raises."""
    feedback = parse_feedback(body)
    place = await services.directory.find(ids.turn_of(response), principal)
    await services.intake.rate(
        principal, place.conversation, place.turn, feedback.rating, feedback.comment, feedback.share, feedback.event_id
    )
    return feedback


def feedback_routes(services: Services) -> list[Route]:
    """The route below a response."""

    async def give(request: Request) -> Response:
        principal = await principal_of(services, request)
        response = request.path_params["response"]
        if not ids.is_id(ids.RESPONSE, response):
            raise NotFound("no such response", code="response_not_found", param="response_id")
        feedback = await give_feedback(services, principal, response, await body_of(request))
        answer = {"object": "feedback", "response_id": response, "rating": feedback.rating, "share": feedback.share}
        return json_response(answer, 202)

    return [Route("/v1/responses/{response}/feedback", give, methods=["POST"])]
