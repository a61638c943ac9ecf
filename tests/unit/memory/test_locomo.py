"""The benchmark's loader, on a dialogue of the same form."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.locomo import TURN_MS, load

SAMPLE = [{
    "sample_id": "conv-1",
    "conversation": {
        "speaker_a": "Ada", "speaker_b": "Bob",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ada", "dia_id": "D1:1", "text": "I ran a race."},
            {"speaker": "Bob", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a medal"},
        ],
        "session_2_date_time": "12:05 am on 1 June, 2023",
        "session_2": [{"speaker": "Bob", "dia_id": "D2:1", "text": "Hello again."}],
    },
    "qa": [
        {"question": "Who ran?", "category": 4, "evidence": ["D1:1; D1:2"]},
        {"question": "Trick?", "category": 5, "evidence": ["D1:1"]},
        {"question": "Nothing known?", "category": 1, "evidence": ["D9:9"]},
    ],
}]  # fmt: skip


def test_turns_are_dated_and_questions_name_their_evidence(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.json"
    path.write_text(json.dumps(SAMPLE))
    [dialogue] = load(path)
    assert [turn.text for turn in dialogue.turns] == [
        "Ada: I ran a race.", "Bob: Look! [shares a medal]", "Bob: Hello again.",
    ]  # fmt: skip
    first, second, third = dialogue.turns
    assert first.at_ms == 1_683_554_160_000
    assert second.at_ms - first.at_ms == TURN_MS
    assert (first.session, third.session, third.id) == (1, 2, "D2:1")
    [question] = dialogue.questions
    assert (question.text, question.category, question.evidence) == (
        "Who ran?", 4, frozenset({"D1:1", "D1:2"}),
    )  # fmt: skip
