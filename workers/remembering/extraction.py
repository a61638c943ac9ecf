"""Facts by a model: what it is asked, the JSON schema it is forced to, and what of its word is believed.

The model chooses and does not invent: subject, attribute and value are enumerations made from the message, its own
words among them, so that a value that was not said can not be written. What comes back is checked again against the
message, since a server may not keep to a schema. Nothing is asked where nothing is stated, nor where rules have read
all of it.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from memory.revising import normal
from streams.events.generating import Message, Sampling
from workers.agents.prompts import Prompt
from workers.remembering.attributes import ATTRIBUTES, USER
from workers.remembering.clauses import plain_words
from workers.remembering.rules import Said, leaves_something, read

FACTS_STEP: Final = "memory.facts"
MODEL_CONFIDENCE: Final = 0.7
MAX_TOKENS: Final = 256
FACTS_AT_ONCE: Final = 6
SAID_CHARACTERS: Final = 1_200  # of a message that a model is shown: about 300 tokens
SPAN_WORDS: Final = 5
SPANS: Final = 160  # a longer enumeration costs more than it helps: the value is then free and checked afterwards
FAVOURITES: Final = ("favourite food", "favourite colour", "favourite music", "favourite film", "favourite book",
                     "favourite sport", "favourite drink")  # fmt: skip
PROMPT: Final = Prompt("remembering/facts", (Path(__file__).parent / "prompts" / "facts.jinja").read_text(), "facts")
_WORD: Final = re.compile(r"[\w@+.'-]*\w")
_OTHERS: Final = re.compile(r"\b[Mm]y ([a-z]{3,}(?:-[a-z]+)?)\b")
_EDGE_WORDS: Final = "a an the i my and or but in at is am are to of he she it we"
_EDGES: Final = frozenset(_EDGE_WORDS.split())


class _Fact(msgspec.Struct):
    subject: str
    attribute: str
    value: str
    negated: bool = False


class _Facts(msgspec.Struct):
    facts: list[_Fact]


def is_worth_asking(text: str, last: str = "") -> bool:
    """Whether the message states something that the rules did not read."""
    return leaves_something(text, last)


def question(text: str) -> tuple[tuple[Message, ...], Sampling]:
    """The model call for one message of the user."""
    said = " ".join(text.split())[:SAID_CHARACTERS]
    sampling = Sampling(max_tokens=MAX_TOKENS, temperature=0.0, json_schema=schema(said))
    return PROMPT.render(said=said), sampling


def schema(text: str) -> dict[str, Any]:
    """What the model may reply about this message."""
    spans = list(dict.fromkeys(_spans(text)))
    value: dict[str, Any] = {"type": "string", "maxLength": 120}
    if 0 < len(spans) <= SPANS:
        value = {"type": "string", "enum": spans}
    fact = {
        "type": "object",
        "properties": {
            "subject": {"type": "string", "enum": [USER, *_others(text)]},
            "attribute": {"type": "string", "enum": [*ATTRIBUTES, *FAVOURITES]},
            "value": value,
            "negated": {"type": "boolean"},
        },
        "required": ["subject", "attribute", "value", "negated"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"facts": {"type": "array", "items": fact, "maxItems": FACTS_AT_ONCE}},
        "required": ["facts"],
        "additionalProperties": False,
    }


def believed(reply: str, text: str) -> list[Said]:
    """What of a model's reply the message bears out; [] for what is no reply of the kind that was asked for."""
    try:
        facts = msgspec.json.decode(reply, type=_Facts).facts
    except msgspec.DecodeError:
        return []
    said = f" {normal(plain_words(text))} "
    subjects = {USER, *_others(text)}
    found: list[Said] = []
    for fact in facts[:FACTS_AT_ONCE]:
        value = normal(fact.value)
        known = fact.attribute in ATTRIBUTES or fact.attribute.startswith("favourite ")
        if known and value and fact.subject in subjects and f" {value} " in said:
            one = Said(fact.subject, fact.attribute, fact.value.strip(), fact.negated, MODEL_CONFIDENCE)
            if one not in found:
                found.append(one)
    return found


def together(by_rule: list[Said], by_model: list[Said]) -> list[Said]:
    """Both, where they agree once. A rule's word about an attribute of a subject goes before the model's."""
    decided = {(said.subject, said.attribute) for said in by_rule}
    values = {normal(said.value) for said in by_rule}
    more = [
        said for said in by_model
        if (said.subject, said.attribute) not in decided and normal(said.value) not in values
    ]  # fmt: skip
    return [*by_rule, *more]


def more_than_rules(by_model: list[Said], text: str) -> list[Said]:
    """What the model read in the message beyond the rules."""
    by_rule = read(text)
    return together(by_rule, by_model)[len(by_rule) :]


def _others(text: str) -> list[str]:
    return list(dict.fromkeys(match.group(1) for match in _OTHERS.finditer(text)))


def _spans(text: str) -> Iterator[str]:
    """Runs of words of the message that may be a value: up to SPAN_WORDS, not across a clause's end, not beginning or
    ending in a word that says nothing."""
    for piece in re.split(r"[.,;!?\n()\"]", plain_words(text)):
        words = _WORD.findall(piece)
        for first in range(len(words)):
            for last in range(first + 1, min(len(words), first + SPAN_WORDS) + 1):
                if words[first].lower() not in _EDGES and words[last - 1].lower() not in _EDGES:
                    yield " ".join(words[first:last])
