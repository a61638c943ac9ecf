"""LangChain's `BaseChatMessageHistory` over a conversation: exactly what was delivered, calls paired with results.

A conversation is what its turns said, so its messages are read from there and not written here. What a chain adds is
kept for this object's life, so that `RunnableWithMessageHistory` works, and the person's own words of it are told to
their memory, where every later turn and chain finds them. `clear` deletes the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from headstart.langchain.opening import Memory
from memory.drafts import pieces
from memory.rows import MessageRow
from streams import ids
from streams.errors import InvalidInput, NotFound

TURNS: Final = 50


class HeadstartChatMessageHistory(BaseChatMessageHistory):
    """The newest `turns` turns of one of the member's conversations; what was said before them comes first, in short.

    conversation "": none yet, so that only what is added is there. Raises InvalidInput for what is no conversation's
    id. Reading raises NotFound (`unknown_conversation`) unless it is the member's own.
    """

    def __init__(self, memory: Memory, conversation: str = "", turns: int = TURNS) -> None:
        if conversation and not ids.is_id(ids.CONVERSATION, conversation):
            raise InvalidInput("a conversation's id begins with 'conv_'", code="invalid_id")
        self._memory, self._conversation, self._turns = memory, conversation, turns
        self._added: list[BaseMessage] = []

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """Oldest first; blocks. `aget_messages` awaits."""
        return [*self._memory.run(self._read()), *self._added]

    async def aget_messages(self) -> list[BaseMessage]:
        return [*await self._memory.arun(self._read()), *self._added]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        self._memory.run(self._tell(messages))
        self._added += messages

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        await self._memory.arun(self._tell(messages))
        self._added += messages

    def clear(self) -> None:
        self._added.clear()
        self._memory.run(self._clear())

    async def aclear(self) -> None:
        self._added.clear()
        await self._memory.arun(self._clear())

    # on the memory's loop

    async def _read(self) -> list[BaseMessage]:
        if not self._conversation:
            return []
        await self._owned()
        store = self._memory.store
        history = await store.history(self._conversation, self._turns)
        messages: list[BaseMessage] = []
        if history.summary:
            messages.append(SystemMessage(f"Earlier in this conversation: {history.summary}"))
        for turn in history.turns:
            messages += messages_of(await store.messages(turn), turn)
        return messages

    async def _tell(self, messages: Sequence[BaseMessage]) -> None:
        for message in messages:
            if isinstance(message, HumanMessage) and (text := str(message.text).strip()):
                for piece in pieces(text):
                    await self._memory.tell(piece, piece)

    async def _clear(self) -> None:
        if self._conversation:
            await self._owned()
            await self._memory.delete(self._conversation)
            self._conversation = ""

    async def _owned(self) -> None:
        row = await self._memory.store.conversation(self._conversation)
        mine = (self._memory.tenant, self._memory.user)
        if row is None or row.deleted or (row.tenant, row.user) != mine:
            raise NotFound("no such conversation", code="unknown_conversation")


def messages_of(rows: Sequence[MessageRow], turn: str) -> list[BaseMessage]:
    """A turn's messages in LangChain's types. Calls that stand side by side are one message of the assistant's; each
    has its result, also one that was never answered, since a chat model refuses a call without."""
    messages: list[BaseMessage] = []
    for row in rows:
        about = {"id": f"{turn}/{row.index}"}
        if row.kind == "function_call":
            call = {"name": row.name, "args": _arguments(row.text), "id": row.call_id, "type": "tool_call"}
            last = messages[-1] if messages else None
            if isinstance(last, AIMessage) and last.tool_calls:
                messages[-1] = AIMessage("", tool_calls=[*last.tool_calls, call], id=last.id)
            else:
                messages.append(AIMessage("", tool_calls=[call], **about))
        elif row.kind == "function_call_output":
            status: Any = "success" if row.status in ("answered", "client") else "error"
            messages.append(ToolMessage(row.text, tool_call_id=row.call_id, status=status, **about))
        elif row.kind != "message":
            continue  # what a service published, or what an earlier turn said: not of this dialogue
        elif row.role == "assistant":
            messages.append(AIMessage(row.text, **about))
        elif row.role == "user":
            messages.append(HumanMessage(row.text, **about))
        else:
            messages.append(SystemMessage(row.text, **about))
    return messages


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}  # a call that ended before it was written whole
    return value if isinstance(value, dict) else {}
