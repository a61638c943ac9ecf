"""Recordings as text and files, times and ids as people write them, and what masking leaves."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from headstart.replay.diff import Line, compared
from headstart.replay.diff_html import words
from headstart.replay.diff_text import shortened
from headstart.replay.files import read_recording, write_recording
from headstart.replay.finding import slow
from headstart.replay.recording import Head, Recording, lines, parse
from headstart.replay.redaction import masked, pseudonym, redact
from headstart.replay.sources import duration_ms, moment_ms, selection, turn_id
from streams import ids
from streams.codec import Record, decode, encode
from streams.errors import InvalidInput, NotFound
from streams.events import InputItem
from streams.events.generating import AnswerDelta
from streams.events.turn import TurnAccepted

CONVERSATION = ids.conversation_id(0, 1_000, bytes(10))
TURN = ids.turn_id(CONVERSATION, 2_000, bytes(10))


def record(value: bytes = b'{"at_ms":1}', offset: int = 0) -> Record:
    headers = (("ce_type", b"headstart.turn.heartbeat.v1"), ("ce_id", b"t/turn/1/0"), ("extra", "é".encode()))
    return Record("events", 3, offset, 1_700_000_000_000, CONVERSATION.encode(), headers, value)


def whole(*records: Record) -> Recording:
    return Recording(Head(made_at_ms=7, origin="here", turns=1), list(records), {"headstart.x.v1": {"type": "object"}})


@pytest.mark.parametrize(
    "value", [b'{"a": 1}', b'{ "a" : 1.50 }', '{"a":"é"}'.encode(), b"[]", b"not json", b'{"a":\n1}', b"\xff\x00", b""]
)
def test_a_record_comes_back_byte_for_byte(value: bytes) -> None:
    again = parse(lines(whole(record(value))))
    assert again.records == [record(value)]
    assert again.head == whole().head
    assert again.schemas == whole().schemas


def test_files_come_back_and_are_the_same_each_time(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    many = whole(*(record(offset=number) for number in range(500)))
    assert write_recording(many, plain) == plain.stat().st_size
    assert write_recording(many, packed) < plain.stat().st_size / 10
    assert read_recording(plain).records == read_recording(packed).records == many.records
    before = packed.read_bytes()
    write_recording(many, packed)
    assert packed.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"a.jsonl", "a.jsonl.gz"}


def test_what_is_no_recording_is_named_with_its_line(tmp_path: Path) -> None:
    good = list(lines(whole(record())))
    for text, number in (([b"{}\n"], 1), (good[1:], 1), ([good[0], b'{"kind":"song"}\n'], 2), ([good[0], b"{\n"], 2)):
        with pytest.raises(InvalidInput) as caught:
            parse(text)
        assert caught.value.code == "not_a_recording"
        assert caught.value.facts["line"] == number
    with pytest.raises(InvalidInput, match="empty"):
        parse([])
    with pytest.raises(InvalidInput, match="has format 9"):
        parse([good[0].replace(b'"format":1', b'"format":9')])
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b"".join(good))[:-20])
    with pytest.raises(InvalidInput, match="cut off or damaged"):
        read_recording(cut)
    with pytest.raises(NotFound):
        read_recording(tmp_path / "none.jsonl")


def test_times_and_ids_as_people_write_them() -> None:
    assert [duration_ms(text) for text in ("90s", "10m", "2h", "1d")] == [90_000, 600_000, 7_200_000, 86_400_000]
    assert moment_ms("") == -1
    assert moment_ms("2026-02-03T14:00") == moment_ms("2026-02-03T14:00+00:00") == 1_770_127_200_000
    assert abs(moment_ms("1h") - (time.time_ns() // 1_000_000 - 3_600_000)) < 60_000
    for text in ("soon", "10", "-5m", "2026-13-01"):
        with pytest.raises(InvalidInput):
            moment_ms(text)
    assert turn_id(ids.response_of(TURN)) == turn_id(TURN) == TURN
    assert selection(turns=[ids.response_of(TURN)]).turns == {TURN}
    for wrong in ("turn_1", CONVERSATION, "resp_"):
        with pytest.raises(InvalidInput):
            turn_id(wrong)
    assert slow("answer=2000") == ("answer", 2000.0)
    assert slow("500ms") == ("turn", 500.0)
    with pytest.raises(InvalidInput):
        slow("answer=long")


def test_masking_finds_what_is_cut_in_two_and_keeps_every_length() -> None:
    mail = "ada@example.org"
    accepted = TurnAccepted(
        turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada", at_ms=1, deadline_at_ms=2,
        input=(InputItem(text=f"I am {mail}, +49 170 1234567, card 4111-1111-1111-1111"),),
    )  # fmt: skip
    pieces = ["Write to ada@ex", "ample.org or ca", "ll 12 people"]
    facts = [("turn/1/0", accepted)] + [
        (f"answer/1/{number}", AnswerDelta(text=text, index=number, ids=(number + 5, 7)))
        for number, text in enumerate(pieces)
    ]
    records = []
    for offset, (place, event) in enumerate(facts):
        headers, value = encode(event, f"{TURN}/{place}", "w")
        records.append(Record("events", 0, offset, 1, CONVERSATION.encode(), headers, value))
    hidden = redact(Recording(Head(turns=1), records))
    told = [decode(one) for one in hidden.events]
    assert isinstance(told[0], TurnAccepted)
    assert told[0].input[0].text == f"I am {masked(mail)}, +11 111 1111111, card 1111-1111-1111-1111"
    assert (told[0].user, told[0].tenant) == (pseudonym("user", "ada"), pseudonym("tenant", "acme"))
    deltas = [event for event in told if isinstance(event, AnswerDelta)]
    assert [event.text for event in deltas] == ["Write to xxx@xx", "xxxxx.xxx or ca", "ll 12 people"]
    assert all(event.ids == (0, 0) for event in deltas)
    assert hidden.head.redacted


def test_texts_are_compared_by_lines_and_words() -> None:
    lines_ = compared(["a", "b", "c", "d", "e", "f"], ["a", "b", "c", "x", "e", "f"])
    assert [line for line in lines_ if line.sign != " "] == [Line("-", "d"), Line("+", "x")]
    assert [line.text for line in shortened(compared(list("abcdefgh"), list("abcdefgX")))] == ["…", "f", "g", "h", "X"]
    old, new = words("warm & dry", "cold & dry")
    assert old == "<del>warm</del> &amp; dry"
    assert new == "<ins>cold</ins> &amp; dry"
