"""Dialogues in the public LoCoMo format: dated sessions of two people, and questions with the turns that answer them.

The file is given by path and read only; nothing of it is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
_TURN_ID: Final = re.compile(r"D\d+:\d+")
TURN_MS: Final = 30_000  # the format dates sessions, not turns


class Turn(msgspec.Struct, frozen=True):
    """One utterance. text: with its speaker, and with what a shared picture shows."""

    id: str
    session: int
    text: str
    at_ms: int


class Question(msgspec.Struct, frozen=True):
    text: str
    category: int
    evidence: frozenset[str]


class Dialogue(msgspec.Struct, frozen=True):
    name: str
    turns: list[Turn]
    questions: list[Question]


def load(path: Path) -> list[Dialogue]:
    """Every conversation of the file, with its questions of the categories above that name evidence."""
    dialogues = []
    for sample in json.loads(path.read_text()):
        turns = list(_turns(sample["conversation"]))
        known = {turn.id for turn in turns}
        questions = [
            Question(item["question"], item["category"], evidence)
            for item in sample["qa"]
            if item["category"] in CATEGORIES
            and (evidence := frozenset(_TURN_ID.findall(" ".join(item.get("evidence", [])))) & known)
        ]
        dialogues.append(Dialogue(sample["sample_id"], turns, questions))
    return dialogues


def _turns(conversation: dict[str, Any]) -> Iterator[Turn]:
    number = 1
    while f"session_{number}" in conversation:
        started_ms = _time_ms(conversation[f"session_{number}_date_time"])
        for place, said in enumerate(conversation[f"session_{number}"]):
            picture = f" [shares {said['blip_caption']}]" if said.get("blip_caption") else ""
            text = f"{said['speaker']}: {said['text']}{picture}"
            yield Turn(said["dia_id"], number, text, started_ms + place * TURN_MS)
        number += 1


def _time_ms(text: str) -> int:
    """Of "1:56 pm on 8 May, 2023"."""
    return int(datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp() * 1000)
