"""`/v1/habits`: what was learnt of a person's ways, for that person to see, correct, mute and erase.

What they say becomes a fact of the log, which the memory worker applies a moment later; the answer is 202 and shows
what will hold.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http_common import body_of, json_response, principal_of
from gateway.requests import event_id_of
from gateway.services import Services
from memory.habits import SEEN, sentence
from memory.rows import HabitRow, Principal
from streams.errors import InvalidInput, NotFound

CORRECTION_CHARACTERS: Final = 300


def habit_routes(services: Services) -> list[Route]:
    """The routes under /v1/habits; all of them are about the key's own member."""

    async def show(request: Request) -> Response:
        principal = await principal_of(services, request)
        habits = await services.store.habits(principal.tenant, principal.user)
        return json_response({"object": "list", "data": [_object(habit) for habit in habits]})

    async def correct(request: Request) -> Response:
        principal = await principal_of(services, request)
        body = await body_of(request)
        text, muted = body.get("correction", ""), body.get("muted", False)
        if not isinstance(text, str) or len(text) > CORRECTION_CHARACTERS:
            raise InvalidInput(
                f"'correction' is a text of at most {CORRECTION_CHARACTERS} characters", param="correction"
            )
        if not isinstance(muted, bool):
            raise InvalidInput("'muted' is true or false", param="muted")
        habit, text = await owned(principal, request), text.strip()
        await services.intake.edit_memory(principal, habit.id, text=text, muted=muted, event_id=event_id_of(body, {}))
        shown = msgspec.structs.replace(habit, correction=text, muted=muted)
        return json_response(_object(shown), 202)

    async def forget(request: Request) -> Response:
        principal = await principal_of(services, request)
        habit = await owned(principal, request)
        await services.intake.edit_memory(principal, habit.id, forget=True)
        return json_response({"id": habit.id, "object": "habit.deleted", "deleted": True}, 202)

    async def owned(principal: Principal, request: Request) -> HabitRow:
        for habit in await services.store.habits(principal.tenant, principal.user):
            if habit.id == request.path_params["habit"]:
                return habit
        raise NotFound("no such habit", code="unknown_habit", param="habit")

    return [
        Route("/v1/habits", show, methods=["GET"]),
        Route("/v1/habits/{habit}", correct, methods=["POST"]),
        Route("/v1/habits/{habit}", forget, methods=["DELETE"]),
    ]


def _object(habit: HabitRow) -> dict[str, Any]:
    times = habit.taken + habit.declined
    return {
        "id": habit.id, "object": "habit", "kind": habit.kind, "name": habit.name, "text": sentence(habit),
        "taken": habit.taken, "declined": habit.declined, "hours": habit.hours, "first_at_ms": habit.first_at_ms,
        "last_at_ms": habit.last_at_ms, "correction": habit.correction or None, "muted": habit.muted,
        "counts": not habit.muted and (bool(habit.correction) or times >= SEEN),
    }  # fmt: skip
