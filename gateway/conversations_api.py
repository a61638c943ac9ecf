"""`/v1/conversations`: make, list, see, rename, delete, and read what was said."""

from __future__ import annotations

import secrets
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http_common import body_of, json_response, principal_of
from gateway.openai_api import item_list
from gateway.response_object import input_item, message_item
from gateway.services import Services
from memory.rows import ConversationRow
from streams import ids
from streams.errors import InvalidInput, NotFound
from streams.events.base import InputItem
from streams.events.recalling import HistoryMessage

PAGE: Final = 20
LARGEST_PAGE: Final = 100
TITLE_CHARS: Final = 200


def conversation_routes(services: Services) -> list[Route]:
    api = _Conversations(services)
    one = "/v1/conversations/{conversation}"
    return [
        Route("/v1/conversations", api.create, methods=["POST"]),
        Route("/v1/conversations", api.list, methods=["GET"]),
        Route(one, api.see, methods=["GET"]),
        Route(one, api.rename, methods=["POST", "PATCH"]),
        Route(one, api.delete, methods=["DELETE"]),
        Route(one + "/items", api.items, methods=["GET"]),
    ]


class _Conversations:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, request: Request) -> Response:
        """Names a conversation; it is on the log once its first turn is."""
        principal = await principal_of(self._services, request)
        await body_of(request)
        conversation = self._services.directory.mint(
            self._services.feed.next_home(), principal, secrets.token_bytes(4)
        )  # fmt: skip
        return json_response(_named(conversation))

    async def list(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        limit = _limit(request)
        before = request.query_params.get("after", "")
        if before and not ids.is_id(ids.CONVERSATION, before):
            raise InvalidInput("'after' is a conversation's id", param="after")
        rows = await self._services.store.conversations(principal.tenant, principal.user, limit + 1, before)
        return json_response(item_list([_object(row) for row in rows[:limit]], has_more=len(rows) > limit))

    async def see(self, request: Request) -> Response:
        conversation = await self._owned(request)
        row = await self._services.store.conversation(conversation)
        return json_response(_object(row) if row is not None else _named(conversation))

    async def rename(self, request: Request) -> Response:
        conversation = await self._owned(request)
        principal = await principal_of(self._services, request)
        body = await body_of(request)
        metadata = body.get("metadata")
        title = body.get("title", metadata.get("title") if isinstance(metadata, dict) else None)
        if not isinstance(title, str) or not 0 < len(title) <= TITLE_CHARS:
            raise InvalidInput(f"'title' is a text of 1 to {TITLE_CHARS} characters", param="title")
        await self._services.intake.edit(principal, conversation, title=title)
        row = await self._services.store.conversation(conversation)
        shown = _object(row) if row is not None else _named(conversation)
        return json_response({**shown, "metadata": {"title": title}})

    async def delete(self, request: Request) -> Response:
        conversation = await self._owned(request)
        principal = await principal_of(self._services, request)
        await self._services.intake.edit(principal, conversation, delete=True)
        return json_response({"id": conversation, "object": "conversation.deleted", "deleted": True})

    async def items(self, request: Request) -> Response:
        """What was said, newest first, in the turns that have ended and are stored; `order=asc` turns it around."""
        conversation = await self._owned(request)
        limit = _limit(request)
        history = await self._services.store.history(conversation, limit)
        items = [_item(message, index) for index, message in enumerate(history.messages)]
        if request.query_params.get("order", "desc") == "desc":
            items.reverse()
        return json_response(item_list(items[:limit], has_more=len(items) > limit))

    async def _owned(self, request: Request) -> str:
        principal = await principal_of(self._services, request)
        conversation: str = request.path_params["conversation"]
        if not ids.is_id(ids.CONVERSATION, conversation):
            raise NotFound("no such conversation", code="unknown_conversation", param="conversation")
        await self._services.directory.owned(conversation, principal)
        return conversation


def _item(message: HistoryMessage, index: int) -> dict[str, Any]:
    turn = message.turn or f"{ids.TURN}_{0:036x}"
    if message.role == "assistant":
        return message_item(ids.item_id("msg", turn, index), "completed", message.text)
    if message.role == "tool":
        item = InputItem(kind="function_call_output", call_id=ids.call_id(turn, index), output=message.text)
        return input_item(turn, index, item)
    return input_item(turn, index, InputItem(role=message.role, text=message.text))


def _object(row: ConversationRow) -> dict[str, Any]:
    return {
        "id": row.conversation,
        "object": "conversation",
        "created_at": row.created_at_ms // 1000,
        "updated_at": row.updated_at_ms // 1000,
        "metadata": {"title": row.title} if row.title else {},
        "parent": row.parent or None,
        "parent_response_id": ids.response_of(row.parent_turn) if row.parent_turn else None,
    }


def _named(conversation: str) -> dict[str, Any]:
    """A conversation nothing is stored of yet: its id says when it was made."""
    created = ids.time_of(conversation) // 1000
    return {
        "id": conversation, "object": "conversation", "created_at": created, "updated_at": created, "metadata": {},
        "parent": None, "parent_response_id": None,
    }  # fmt: skip


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LARGEST_PAGE:
        raise InvalidInput(f"'limit' is a number from 1 to {LARGEST_PAGE}", param="limit")
    return int(text)
