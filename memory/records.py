"""The fold that makes a turn's row from its facts, and a prompt's history from the rows (which memory/rows.py defines).

`TurnProjector` is the one place where a turn's log becomes messages. The memory worker stores what it makes, the turns
worker uses it for what stands in the log after the store's position, and replay compares with it; so all three see the
same history: exactly what was delivered, with every call paired with an outcome.

Pure.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from memory.rows import (
    CallOutcome,
    Candidate,
    Change,
    ClaimRow,
    ConversationRow,
    History,
    KeyRow,
    MemoryRow,
    MessageRow,
    Principal,
    Row,
    TurnRecord,
    TurnRow,
    Vector,
)
from streams import ids
from streams.codec import Identity
from streams.events import Event, InputItem
from streams.events.calling import CallAnswered, CallClosed, CallFailed, CallFired, CallOpened, CallVoided
from streams.events.generating import AnswerDelta
from streams.events.recalling import HistoryMessage
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCancelled, TurnCompleted, TurnEnd, TurnFailed, TurnIncomplete

__all__ = [
    "NO_RESULT",
    "RESULT_IN_HISTORY_CHARACTERS",
    "CallOutcome",
    "Candidate",
    "Change",
    "ClaimRow",
    "ConversationRow",
    "History",
    "KeyRow",
    "MemoryRow",
    "MessageRow",
    "Principal",
    "Row",
    "TurnProjector",
    "TurnRecord",
    "TurnRow",
    "Vector",
    "history_messages",
]

# A result kept for a prompt: about 500 tokens. The whole result stays in the log and in the messages table.
RESULT_IN_HISTORY_CHARACTERS: Final = 2_000
NO_RESULT: Final = '{"error":"no_result"}'


class _Call:
    """One call of a turn while its facts come in."""

    def __init__(self, skill: str, client: bool) -> None:
        self.skill = skill
        self.client = client
        self.arguments: dict[str, Any] = {}
        self.fired = False
        self.status = "open"  # open | answered | failed | voided | refiring
        self.text = ""


class TurnProjector:
    """Folds one turn's facts into a TurnRecord. Feed it, in log order, the facts that count (streams.fence) of one
    subject, beginning with TurnAccepted; facts before that are ignored. `record()` may be asked for at any time."""

    def __init__(self) -> None:
        self._accepted: TurnAccepted | None = None
        self._begin_offset = -1
        self._end_offset = -1
        self._end: TurnEnd | None = None
        self._route: RouteDecided | None = None
        self._answer: list[str] = []
        self._calls: dict[int, _Call] = {}

    @property
    def begun(self) -> bool:
        return self._accepted is not None

    @property
    def ended(self) -> bool:
        return self._end is not None

    @property
    def begin_offset(self) -> int:
        return self._begin_offset

    @property
    def calls_running(self) -> int:
        """Calls that were sent and have neither an outcome nor been voided."""
        return sum(1 for call in self._calls.values() if call.fired and call.status == "open")

    def feed(self, identity: Identity, event: Event, offset: int) -> CallOutcome | None:
        """Takes the next fact. Gives a CallOutcome when it is a call's result that came after the terminal fact."""
        if isinstance(event, AnswerDelta):
            if self._end is None:
                self._answer.append(event.text)
        elif isinstance(event, CallAnswered | CallFailed):
            return self._outcome(event)
        elif isinstance(event, TurnAccepted):
            if self._accepted is None:
                self._accepted, self._begin_offset = event, offset
        elif self._accepted is None or self._end is not None:
            return None
        elif isinstance(event, RouteDecided):
            self._route = event
        elif isinstance(event, TurnEnd):
            self._end, self._end_offset = event, offset
        else:
            self._follow_call(event)
        return None

    def _follow_call(self, event: Event) -> None:
        if isinstance(event, CallOpened):
            self._calls[event.call] = _Call(event.skill, event.client)
        elif isinstance(event, CallClosed | CallFired):
            call = self._calls.setdefault(event.call, _Call(event.skill, False))
            call.arguments = event.arguments
            if isinstance(event, CallFired):
                call.fired = True
                call.status = "open" if call.status == "refiring" else call.status
        elif isinstance(event, CallVoided) and event.call in self._calls:
            voided = self._calls[event.call]
            voided.status, voided.text = ("refiring" if event.refire else "voided"), ""

    def _outcome(self, event: CallAnswered | CallFailed) -> CallOutcome | None:
        call = self._calls.get(event.call)
        if call is None or call.status in ("voided", "refiring") or self._accepted is None:
            return None
        if isinstance(event, CallAnswered):
            call.status, call.text = "answered", event.result
        else:
            error = {"error": event.code, "message": event.message, "in_doubt": event.in_doubt}
            call.status, call.text = "failed", orjson.dumps(error).decode()
        if self._end is None:
            return None
        turn = self._accepted.turn
        return CallOutcome(turn=turn, call_id=ids.call_id(turn, event.call), status=call.status, text=call.text)

    def record(self) -> TurnRecord:
        """The turn so far. Raises ValueError before TurnAccepted has been fed."""
        accepted, end = self._accepted, self._end
        if accepted is None:
            raise ValueError("a turn begins with turn.accepted")
        status, reason = _status(end)
        return TurnRecord(
            turn=accepted.turn, conversation=accepted.conversation, tenant=accepted.tenant, user=accepted.user,
            begin_offset=self._begin_offset, end_offset=self._end_offset, status=status, reason=reason,
            routed=self._route is not None, agent=self._route.agent if self._route else "",
            messages=tuple(self._messages(accepted)), models=end.models if end else (),
            accepted_at_ms=accepted.at_ms, ended_at_ms=end.at_ms if end else 0,
            previous_turn=accepted.previous_turn, previous_offset=accepted.previous_offset,
            event_id=accepted.event_id, origin=accepted.origin,
            awaiting=end.awaiting if isinstance(end, TurnCompleted) else "",
        )  # fmt: skip

    def _messages(self, accepted: TurnAccepted) -> list[MessageRow]:
        """Input, then each call with its outcome, then the answer."""
        rows = [_input_message(index, item) for index, item in enumerate(accepted.input)]
        for number, call in sorted(self._calls.items()):
            if call.status == "voided":
                continue
            name, call_id = call.skill.partition("@")[0], ids.call_id(accepted.turn, number)
            arguments = orjson.dumps(call.arguments).decode()
            status = "client" if call.client else call.status if call.status in ("answered", "failed") else "unanswered"
            rows.append(
                MessageRow(index=len(rows), role="assistant", text=arguments, kind="function_call",
                           call_id=call_id, name=name, status=status)
            )  # fmt: skip
            if not call.client:
                rows.append(
                    MessageRow(index=len(rows), role="tool", text=call.text or NO_RESULT, kind="function_call_output",
                               call_id=call_id, name=name, status=status)
                )  # fmt: skip
        if answer := "".join(self._answer):
            rows.append(MessageRow(index=len(rows), role="assistant", text=answer, name="answer"))
        return rows


def _status(end: TurnEnd | None) -> tuple[str, str]:
    if end is None:
        return "running", ""
    if isinstance(end, TurnIncomplete):
        return "incomplete", end.reason
    if isinstance(end, TurnCancelled):
        return "cancelled", end.reason
    if isinstance(end, TurnFailed):
        return "failed", end.code
    return "completed", ""


def _input_message(index: int, item: InputItem) -> MessageRow:
    if item.kind == "function_call_output":
        return MessageRow(
            index=index, role="tool", text=item.output, kind="function_call_output", call_id=item.call_id,
            status="answered",
        )  # fmt: skip
    if item.kind == "approval":
        answer = "approved" if item.approve else "refused"
        return MessageRow(index=index, role="user", text=answer, kind="approval", call_id=item.call_id)
    if item.kind == "fact":
        return MessageRow(
            index=index, role="service", text=item.text, kind="fact", call_id=item.call_id, name=item.output
        )  # fmt: skip
    return MessageRow(index=index, role=item.role, text=item.text, kind="again" if item.again else "message")


def history_messages(turns: list[tuple[str, tuple[MessageRow, ...]]]) -> list[HistoryMessage]:
    """Messages of successive turns (id, messages), oldest first, as a prompt's history.

    A call and its result become one message of role "tool", `name(arguments) → result`, so that no cut can part them;
    a call without a result says so. The output of a client's function stands where its call was made, whichever later
    turn brought it. What was said in the turn that another goes on from stands once. Long results are cut at
    RESULT_IN_HISTORY_CHARACTERS.
    """
    outputs: dict[str, str] = {}
    called: set[str] = set()
    for _, messages in turns:
        for message in messages:
            if message.kind == "function_call_output":
                outputs[message.call_id] = message.text
            elif message.kind == "function_call":
                called.add(message.call_id)
    history: list[HistoryMessage] = []
    for turn, messages in turns:
        for message in messages:
            if message.kind == "function_call":
                result = outputs.get(message.call_id, NO_RESULT)[:RESULT_IN_HISTORY_CHARACTERS]
                text = f"{message.name}({message.text}) → {result}"
                history.append(HistoryMessage(role="tool", text=text, turn=turn))
            elif message.kind == "function_call_output":
                if message.call_id not in called:
                    text = f"→ {message.text[:RESULT_IN_HISTORY_CHARACTERS]}"
                    history.append(HistoryMessage(role="tool", text=text, turn=turn))
            elif message.kind != "again":
                history.append(HistoryMessage(role=message.role, text=message.text, turn=turn))
    return history
