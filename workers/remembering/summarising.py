"""Rolling summaries: old turns of a conversation in few words, so that a long one fits into a prompt.

The newest KEPT_TURNS are never summarised: a prompt holds them as they were. Whenever EVERY_TURNS more have ended, the
oldest of them are folded into the summary. A model writes it where one is named for remembering; otherwise, and where
the model's word is of no use, it is made of sentences that were said: those that state something first, each once,
those of the summary before among them, until the budget is full. Summaries are memories of the layer `episode` and
supersede each other.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from memory.drafts import Draft, memory_id
from memory.rows import SUMMARY, MemoryRow
from memory.selection import CHARACTERS_PER_TOKEN, Scored, select, tokens_of
from streams.events.generating import Message, Sampling
from streams.events.recalling import HistoryMessage
from workers.agents.prompts import Prompt
from workers.remembering.rules import mentions, read

SUMMARY_STEP: Final = "memory.summary"
KEPT_TURNS: Final = 12
EVERY_TURNS: Final = 8
SUMMARY_TOKENS: Final = 160
SUMMARY_WORDS: Final = 100
SENTENCE_CHARACTERS: Final = 200
MESSAGE_CHARACTERS: Final = 400
MATERIAL_CHARACTERS: Final = 4_000  # about 1,000 tokens: half of the window of the smallest model
RULE, MODEL = "rule", "model"
PROMPT: Final = Prompt(
    "remembering/summary", (Path(__file__).parent / "prompts" / "summary.jinja").read_text(), "summary"
)
# What a sentence is worth: a fact, another statement of the user's, what the assistant said, a question. The newer of
# two that are worth the same goes first by a little (NEWER), so that a summary does not stay with how a conversation
# began.
FACT, STATEMENT, ANSWER, QUESTION = 1.0, 0.6, 0.4, 0.2
NEWER: Final = 0.2
_SENTENCES: Final = re.compile(r"[^.!?\n]+[.!?]*")


def turns_to_fold(unsummarised: int) -> int:
    """How many of a conversation's oldest unsummarised turns are due; 0 when it is not time yet."""
    return unsummarised - KEPT_TURNS if unsummarised >= KEPT_TURNS + EVERY_TURNS else 0


def summary_by_rule(before: str, messages: Sequence[HistoryMessage]) -> str:
    """The summary with these messages folded in, one sentence a line, at most SUMMARY_TOKENS tokens."""
    lines = [line for line in before.splitlines() if line]
    for message in messages:
        if message.role in ("user", "assistant"):
            lines += [f"{message.role}: {part.strip()[:SENTENCE_CHARACTERS]}" for part in _parts(message)]
    lines = list(dict.fromkeys(lines))
    scored = [
        Scored(f"{place:06d}", line, _worth(line) + NEWER * place / max(1, len(lines) - 1))
        for place, line in enumerate(lines)
    ]
    chosen = {int(name) for name in select(scored, SUMMARY_TOKENS)}
    return "\n".join(line for place, line in enumerate(lines) if place in chosen)


def material(before: str, messages: Sequence[HistoryMessage]) -> str:
    """What a model is given to write the summary anew."""
    said = [f"{message.role}: {' '.join(message.text.split())[:MESSAGE_CHARACTERS]}" for message in messages]
    turns = "\n".join(said)[:MATERIAL_CHARACTERS]
    return f"Summary so far:\n{before}\n\nNew turns:\n{turns}" if before else f"New turns:\n{turns}"


def question(said: str) -> tuple[tuple[Message, ...], Sampling]:
    """The model call that writes the summary anew. said: see `material`."""
    sampling = Sampling(max_tokens=SUMMARY_TOKENS + SUMMARY_TOKENS // 2, temperature=0.0)
    return PROMPT.render(said=said, words=SUMMARY_WORDS), sampling


def believed(reply: str) -> str:
    """A model's summary, cut at the end of a sentence to the budget; "" where it is of no use."""
    kept = ""
    for part in _SENTENCES.findall(" ".join(reply.split())):
        if tokens_of(kept + part) > SUMMARY_TOKENS:
            break
        kept += part
    return kept.strip() if len(kept.strip()) >= 10 * CHARACTERS_PER_TOKEN else ""


def draft_of_summary(
    text: str, *, turn: str, conversation: str, tenant: str, user: str, at_ms: int, offset: int, by: str
) -> Draft:  # fmt: skip
    """The summary as a memory without its vector. turn: the last one that it holds, at_ms: when that ended. by: RULE or
    MODEL, whose word goes before the other's about the same turns."""
    row = MemoryRow(
        id=memory_id(conversation, SUMMARY, turn, by), layer="episode", tenant=tenant, user=user, text=text, vector=[],
        at_ms=at_ms, conversation=conversation, turn=turn, source_offset=offset, speaker="summary",
        valid_from_ms=at_ms + (by == MODEL), subject=conversation, attribute=SUMMARY, value=f"{turn}/{by}", single=True,
    )  # fmt: skip
    return Draft(row, text)


def _parts(message: HistoryMessage) -> list[str]:
    """The sentences of a message; of a long answer the first two, which say what it is about."""
    parts = [part for part in _SENTENCES.findall(message.text) if part.strip(" .!?")]
    return parts[:2] if message.role == "assistant" else parts


def _worth(line: str) -> float:
    role, _, text = line.partition(": ")
    if role == "assistant":
        return ANSWER
    if read(text):
        return FACT
    return STATEMENT if mentions(text) else QUESTION
