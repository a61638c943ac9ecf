"""`/v1/memories` and `/v1/responses/{id}/recalled`: what is remembered of a person, and what a turn was given and why.

For that person to see, correct and forget. What they say is a command on `turns`, becomes a fact of the log, and is
applied by the memory worker a moment later; so the answer is 202, and says what will hold. A correction takes the place
of what it corrects, which keeps its text and is no longer recalled; what is forgotten is erased.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http_common import body_of, json_response, principal_of
from gateway.openai_api import item_list
from gateway.requests import event_id_of
from gateway.services import Services
from memory.drafts import PIECE_CHARACTERS, told_id
from memory.rows import Candidate, Principal
from streams import ids
from streams.codec import Identity, Record, decode
from streams.errors import HeadstartError, InvalidInput, NotFound
from streams.events.recalling import Recalled, RecalledItem
from streams.events.turn import TERMINAL_TYPES

PAGE: Final = 50
LARGEST_PAGE: Final = 200


def memory_routes(services: Services) -> list[Route]:
    """The routes; all of them are about the key's own member."""
    api = _Memories(services)
    return [
        Route("/v1/memories", api.list, methods=["GET"]),
        Route("/v1/memories", api.tell, methods=["POST"]),
        Route("/v1/memories/{memory}", api.correct, methods=["POST"]),
        Route("/v1/memories/{memory}", api.forget, methods=["DELETE"]),
        Route("/v1/responses/{response}/recalled", api.recalled, methods=["GET"]),
    ]


class _Memories:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """The newest memories, of one conversation or of all; `revisions=true` shows what no longer holds too."""
        principal = await principal_of(self._services, request)
        conversation = request.query_params.get("conversation", "")
        if conversation:
            if not ids.is_id(ids.CONVERSATION, conversation):
                raise NotFound("no such conversation", code="unknown_conversation", param="conversation")
            await self._services.directory.owned(conversation, principal)
        limit = _limit(request)
        rows = await self._services.store.memories(principal.tenant, principal.user, limit, conversation)
        revisions = request.query_params.get("revisions") == "true"
        shown = [memory_object(row) for row in rows if revisions or not row.superseded_by]
        return json_response(item_list(shown, has_more=len(rows) == limit))

    async def tell(self, request: Request) -> Response:
        """A new memory, told by the person; with an `event_id`, the same one however often it is sent."""
        principal = await principal_of(self._services, request)
        body = await body_of(request)
        text, event_id = _text(body), event_id_of(body, {}) or secrets.token_hex(10)
        memory = told_id(principal.tenant, principal.user, event_id)
        await self._services.intake.edit_memory(principal, memory, text=text, new=True, event_id=event_id)
        return json_response({"id": memory, "object": "memory", "layer": "fact", "text": text}, 202)

    async def correct(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        body = await body_of(request)
        text = _text(body)
        memory = await self._owned(principal, request.path_params["memory"])
        if memory.superseded_by:
            raise InvalidInput(
                "another memory has taken the place of this one", code="memory_superseded", param="memory",
                hint=f"correct {memory.superseded_by}",
            )  # fmt: skip
        await self._services.intake.edit_memory(
            principal, memory.id, conversation=memory.conversation, text=text, event_id=event_id_of(body, {})
        )
        return json_response({"id": memory.id, "object": "memory.corrected", "text": text}, 202)

    async def forget(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        memory = await self._owned(principal, request.path_params["memory"])
        await self._services.intake.edit_memory(principal, memory.id, conversation=memory.conversation, forget=True)
        return json_response({"id": memory.id, "object": "memory.deleted", "deleted": True}, 202)

    async def recalled(self, request: Request) -> Response:
        """What a turn's prompts could use of the past, from its own fact of the log, and what holds of it now."""
        principal = await principal_of(self._services, request)
        response = request.path_params["response"]
        if not ids.is_id(ids.RESPONSE, response):
            raise NotFound("no such response", code="response_not_found", param="response_id")
        place = await self._services.directory.find(ids.turn_of(response), principal)
        fact = await self._fact(place.turn, place.offset) if place.offset >= 0 else None
        if fact is None:
            raise NotFound(
                "the log has no recall of this response", code="recall_not_found", param="response_id",
                hint="the turn recalled nothing before it ended, or its log has aged out",
            )  # fmt: skip
        store = self._services.store
        named = [item.id for item in fact.items]
        rows = await store.known_memories(principal.tenant, principal.user, named) if named else []
        habits = {habit.id: habit for habit in await store.habits(principal.tenant, principal.user)}
        now = {row.id: row for row in rows}
        return json_response(
            {
                "object": "recalled", "response_id": response, "at_ms": fact.at_ms, "took_ms": fact.took_ms,
                "embed_ms": fact.embed_ms, "position": fact.position, "history_messages": len(fact.history),
                "summary": fact.summary or None,
                "items": [_recalled_object(item, _state(now.get(item.id))) for item in fact.items],
                "habits": [
                    _recalled_object(item, "erased" if item.id not in habits else "muted" if habits[item.id].muted
                                     else "holds")
                    for item in fact.habits
                ],
                "examples": [
                    {"response_id": ids.response_of(example.turn), "question": example.question,
                     "answer": example.answer, "score": example.score}
                    for example in fact.examples
                ],
            }
        )  # fmt: skip

    async def _fact(self, turn: str, offset: int) -> Recalled | None:
        """The turn's `turn.recalled`, None when it ended without one."""

        def look(record: Record) -> Recalled | bool | None:
            if not record.event_id.startswith(turn + "/"):
                return None
            if record.type in TERMINAL_TYPES and Identity.parse(record.event_id).stage == "turn":
                return False
            if record.type != Recalled.TYPE:
                return None
            try:
                event = decode(record)
            except HeadstartError:
                return False
            return event if isinstance(event, Recalled) else False

        found = await self._services.feed.scan(ids.partition_of(turn), offset, look)
        return found if isinstance(found, Recalled) else None

    async def _owned(self, principal: Principal, memory: str) -> Candidate:
        found = await self._services.store.known_memories(principal.tenant, principal.user, [memory])
        if not found:
            raise NotFound("no such memory", code="unknown_memory", param="memory")
        return found[0]


def memory_object(row: Candidate) -> dict[str, Any]:
    """A memory as its person sees it."""
    return {
        "id": row.id, "object": "memory", "layer": row.layer, "text": row.text, "speaker": row.speaker or None,
        "conversation": row.conversation or None, "response_id": ids.response_of(row.turn) if row.turn else None,
        "at_ms": row.at_ms, "valid_from_ms": row.valid_from_ms, "valid_to_ms": row.valid_to_ms,
        "superseded_by": row.superseded_by or None, "confidence": round(row.confidence, 4),
    }  # fmt: skip


def _text(body: Mapping[str, Any]) -> str:
    text = body.get("text")
    if not isinstance(text, str) or not 0 < len(text.strip()) <= PIECE_CHARACTERS:
        raise InvalidInput(f"'text' is a text of 1 to {PIECE_CHARACTERS} characters", param="text")
    return text.strip()


def _recalled_object(item: RecalledItem, state: str) -> dict[str, Any]:
    return {
        "id": item.id, "layer": item.layer, "text": item.text, "score": item.score, "why": item.why,
        "terms": terms_of(item.why), "at_ms": item.at_ms, "about": item.about or None, "state": state,
        "response_id": ids.response_of(item.source_turn) if ids.is_id(ids.TURN, item.source_turn) else None,
    }  # fmt: skip


def _state(row: Candidate | None) -> str:
    """What became of a recalled memory since: holds | superseded | erased."""
    if row is None:
        return "erased"
    return "superseded" if row.superseded_by else "holds"


def terms_of(why: str) -> list[dict[str, Any]]:
    """The terms of a score, as `why` tells them ("meaning 0.63, words 0.20, 3.1 days old"): those with a share of
    0 to 1 as numbers, by the arm of the search that gave them."""
    return [{"name": name, "value": value} for name, value in _shares(why.split(", "))]


def _shares(terms: Iterable[str]) -> Iterable[tuple[str, float]]:
    for term in terms:
        name, _, number = term.rpartition(" ")
        try:
            value = float(number)
        except ValueError:
            continue
        if name:
            yield name, value


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LARGEST_PAGE:
        raise InvalidInput(f"'limit' is a number from 1 to {LARGEST_PAGE}", param="limit")
    return int(text)
