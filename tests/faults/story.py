"""What is asked and what is said in the fault matrix: every turn's text is known beforehand, word by word.

A turn carries a tag. Its answer is the tag's numbered words, so a word that is lost, repeated or out of place shows,
and so does another turn's word. Four kinds of turns, all on agents and skills that ship:

| kind | turns | what it takes |
|---|---|---|
| talk | 2 in one conversation, the second waits behind the first | history, an answer |
| weather | 1 | two `pure` calls, fired while the plan is written |
| note | 1 | a `reversible` call, claimed first |
| message | 2 | an `irreversible` call whose skill enforces no key: planned, asked for, approved, then sent |
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from workers.generation.scripted_engine import Rule, When

Kind = Literal["talk", "weather", "note", "message"]
KINDS: Final[tuple[Kind, ...]] = ("talk", "weather", "note", "message")
CAST: Final[tuple[Kind, ...]] = ("talk",) * 2 + ("weather",) * 4 + ("note",) * 3 + ("message",) * 2
"""The conversations of one run."""
TURNS: Final = 15  # of them together
GROUPS: Final = 12  # runs with tags of their own, so that what comes late from an earlier run is known as that
WORDS: Final = 20
AGENT: Final = {"talk": "companion", "weather": "desk", "note": "desk", "message": "recruiter"}
APPROVED: Final = " ".join(f"sent-{number:02d}" for number in range(WORDS)) + "."
_TAG: Final = re.compile(r"^(k\d{4}[ab])\b")


class Ask(msgspec.Struct, frozen=True):
    """A turn that can be asked for. question: its text. says: the whole answer, "" where the turn ends without."""

    kind: Kind
    tag: str
    question: str
    says: str

    @property
    def model(self) -> str:
        return f"headstart/{AGENT[self.kind]}"

    @property
    def person(self) -> str:
        """Whom a message is sent to: nobody else's."""
        return f"Person {self.tag}"


def ask(kind: Kind, number: int, part: str = "a") -> Ask:
    """The turn of a kind with a number below GROUPS * len(CAST); part "b": the second of a conversation."""
    tag = f"k{number:04d}{part}"
    question = {
        "talk": "tell me about your day",
        "weather": "what is the weather in Berlin, and how much is 12 * 17?",
        "note": "take a note: the parcel has come",
        "message": "send her a message that she is invited",
    }[kind]
    says = "" if kind == "message" else " ".join(f"{tag}-{word:02d}" for word in range(WORDS)) + "."
    return Ask(kind, tag, f"{tag}: {question}", says)


def numbers_of(run: int) -> list[int]:
    """The numbers of a run's conversations, in the order of CAST."""
    first = run % GROUPS * len(CAST)
    return list(range(first, first + len(CAST)))


def said_by(question: str) -> str | None:
    """The answer that belongs to a turn's text; None when the text is none of ours. An approval has no text."""
    if not question:
        return APPROVED
    found = _TAG.match(question)
    if found is None:
        return None
    number, part = int(found[1][1:-1]), found[1][-1]
    return ask(CAST[number % len(CAST)], number, part).says


def rules() -> list[Rule]:
    """The script of the generation workers."""
    found: list[Rule] = []
    for number in range(GROUPS * len(CAST)):
        kind = CAST[number % len(CAST)]
        for one in (ask(kind, number, "a"), ask(kind, number, "b")):
            found.append(Rule(step="plan", when=When(contains=f"{one.tag}:"), say=_plan(one)))
            found.append(Rule(step="answer", when=When(contains=f"question: {one.tag}:"), say=one.says))
    return [*found, Rule(step="plan", say="[]"), Rule(say=APPROVED)]


def _plan(one: Ask) -> str:
    return {
        "talk": "[]",
        "weather": '[{"name":"get_weather","arguments":{"city":"Berlin"}},'
        '{"name":"calculate","arguments":{"expression":"12 * 17"}}]',
        "note": f'[{{"name":"save_note","arguments":{{"text":"{one.tag}: the parcel has come"}}}}]',
        "message": f'[{{"name":"send_message","arguments":{{"to":"{one.person}","text":"You are invited."}}}}]',
    }[one.kind]
