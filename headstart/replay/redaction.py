"""A recording without personal data that can still be run again: what is found is masked everywhere alike. Pure.

Found are e-mail addresses, telephone and card numbers, long digit runs, keys and tokens, and whatever words the caller
names (a person's name). Letters become `x` and digits `1`, one for one, so that lengths, quotes, numbers and cuts
between deltas stay as they were, and a turn that runs again decides what it decided. Tenants and users become
pseudonyms, the same throughout the recording. Token ids say the text, so they are zeroed; idempotency keys are hashes
over what is masked here, so a comparison leaves them out (Head.redacted).

What no rule finds stays. A mask is no consent: a recording that leaves the house is read by a person first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from headstart.replay.recording import Recording
from streams.codec import Record
from streams.errors import InvalidInput
from streams.events.generating import ModelAsked
from streams.topology import EVENTS, TURNS

_PATTERNS: Final = (
    re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w"),
    re.compile(r"(?<![\w.+])\+?\d[\d ()/-]{6,}\d(?![\w.]*\d)"),
    re.compile(r"\b(?:sk|pk|ghp|gho|xox[abp]|AKIA|eyJ)[\w.-]{12,}"),
    re.compile(r"(?i)(?<=bearer )[\w.~+/-]{12,}"),
)
# Fields of an event whose texts are ids or names of the program, never a person's words.
_KEPT: Final = frozenset({
    "turn", "conversation", "previous_turn", "steered_from", "successor", "parent", "parent_turn", "event_id", "kind",
    "role", "call_id", "request", "skill", "effect", "model", "engine", "step", "reason", "code", "agent", "by",
    "source_turn", "id", "item", "origin", "setup", "rule", "key", "version", "status", "fault", "layer", "service",
    "at_ms",
    "fact", "policy", "moment", "outcome",
})  # fmt: skip
_FREE: Final = frozenset({"arguments", "data", "metadata", "json_schema"})  # objects whose fields others have named
_MASKED_TOPICS: Final = (EVENTS.name, TURNS.name)


def redact(recording: Recording, words: Iterable[str] = ()) -> Recording:
    """The recording with personal data masked. words: texts to be masked besides what the rules find, such as a
    person's name; letter case aside. Raises InvalidInput (`word_in_prompt`) for a word that a prompt has of itself: a
    turn would be rendered with it again."""
    words = tuple(words)
    for word in words:
        for ref, text in recording.prompts.items():
            if word.lower() in text.lower():
                raise InvalidInput(f"the prompt {ref.id} says {word!r} itself", code="word_in_prompt")
    masker = _Masker(words)
    records = [(record, msgspec.json.decode(record.value)) for record in recording.records]
    joined = _joined(records)
    for text in joined.values():
        masker.learn(text)
    for record, value in records:
        if record.topic in _MASKED_TOPICS and record.type != ModelAsked.TYPE:  # it repeats the others, and prompts
            _walk(value, masker.learn_as_is)
    masker.settle(recording.prompts.values())
    masked = {place: masker.mask(text) for place, text in joined.items()}
    taken: dict[str, int] = {}
    return Recording(
        msgspec.structs.replace(recording.head, redacted=True, origin=""),
        [_record(record, value, masker, masked, taken) for record, value in records],
        recording.schemas,
    )


class _Masker:
    """Collects what is to be masked, then masks it wherever it stands."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = {word for word in words if word}
        self._found: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, text: str) -> None:
        for pattern in _PATTERNS:
            self._found.update(pattern.findall(text))

    def learn_as_is(self, text: str) -> str:
        self.learn(text)
        return text

    def settle(self, prompts: Iterable[str]) -> None:
        """What a prompt says of itself is nobody's, and is rendered again as it stands there."""
        public = "\n".join(prompts)
        self._found = {text for text in self._found if text not in public}
        parts = [re.escape(text) for text in sorted(self._found, key=lambda text: (-len(text), text))]
        parts += [f"(?i:{re.escape(word)})" for word in sorted(self._words, key=lambda text: (-len(text), text))]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def mask(self, text: str) -> str:
        return self._pattern.sub(lambda match: masked(match.group()), text) if self._pattern is not None else text


def masked(text: str) -> str:
    """Letters as `x`, digits as `1`, the rest as it is: of the same length."""
    return "".join("1" if char.isdigit() else "x" if char.isalpha() else char for char in text)


def pseudonym(kind: str, name: str) -> str:
    """The same for the same name, and not to be turned back without a list of names."""
    return f"{kind}-{hashlib.sha256(f'{kind}/{name}'.encode()).hexdigest()[:10]}" if name else ""


def _joined(records: Iterable[tuple[Record, Any]]) -> dict[str, str]:
    """The text of every stage of deltas, and of every call's streamed arguments, as one: what is cut in two by a delta
    is found too."""
    texts: dict[str, list[str]] = {}
    for record, value in records:
        place = _streamed(record, value)
        if place:
            texts.setdefault(place, []).append(value["text"])
    return {place: "".join(parts) for place, parts in texts.items()}


def _streamed(record: Record, value: Any) -> str:
    """The stream that a record's text is a piece of, "" when it is none."""
    if record.topic != EVENTS.name or not isinstance(value, dict) or "text" not in value:
        return ""
    if record.type.endswith(".delta.v1"):
        return record.event_id.rpartition("/")[0]
    if record.type == "headstart.call.arguments.v1":
        return f"{record.event_id.rpartition('/')[0]}/{value['call']}"
    return ""


def _record(record: Record, value: Any, masker: _Masker, streams: Mapping[str, str], taken: dict[str, int]) -> Record:
    if record.topic not in _MASKED_TOPICS or not isinstance(value, dict):
        return record
    place = _streamed(record, value)
    if place:
        begin = taken.get(place, 0)
        taken[place] = begin + len(value["text"])
        value = {**value, "text": streams[place][begin : taken[place]]}
    else:
        value = _walk(value, masker.mask)
    for name in ("ids", "prompt_ids"):
        if value.get(name):
            value[name] = [0] * len(value[name])
    for name in ("tenant", "user"):
        if name in value:
            value[name] = pseudonym(name, value[name])
    return msgspec.structs.replace(record, value=msgspec.json.encode(value))


def _walk(value: Any, change: Callable[[str], str], key: str = "", free: bool = False) -> Any:
    """The value with every text of a person changed. The names of fields stay: they are parameters. free: inside an
    object whose fields others have named, where a name says nothing about what is in it."""
    if isinstance(value, str):
        return value if key in _KEPT and not free else change(value)
    if isinstance(value, dict):
        return {name: _walk(item, change, name, free or name in _FREE) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, change, key, free) for item in value]
    return value
