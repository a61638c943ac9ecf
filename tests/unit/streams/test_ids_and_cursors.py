"""Ids say where and when; cursors survive the journey to a client and back, and nothing else does."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import ids
from streams.errors import InvalidInput
from streams.offsets import Cursor

PARTITION = st.integers(0, ids.MAX_PARTITIONS - 1)
TIME = st.integers(0, (1 << 48) - 1)
ENTROPY = st.binary(min_size=10, max_size=32)
CONVERSATION = ids.conversation_id(7, 1_700_000_000_000, bytes(range(10)))


@given(PARTITION, TIME, ENTROPY)
def test_an_id_carries_partition_and_time(partition: int, time_ms: int, entropy: bytes) -> None:
    made = ids.conversation_id(partition, time_ms, entropy)
    assert ids.is_id(ids.CONVERSATION, made)
    assert (ids.partition_of(made), ids.time_of(made)) == (partition, time_ms)
    turn = ids.turn_id(made, time_ms, entropy)
    assert ids.partition_of(turn) == partition
    assert ids.turn_of(ids.response_of(turn)) == turn
    body = ids.body_of(made)[4:]
    assert (body[12], body[16] in "89ab") == ("7", True)  # RFC 9562: version 7, variant 10


@given(TIME, TIME, ENTROPY)
def test_ids_of_one_partition_are_ordered_by_time(early: int, late: int, entropy: bytes) -> None:
    first, second = sorted((early, late))
    assert ids.conversation_id(3, first, entropy) <= ids.conversation_id(3, second, entropy)


def test_a_keyed_turn_is_the_same_whoever_makes_it_and_no_other() -> None:
    made = ids.keyed_turn_id(CONVERSATION, "user", "event")
    assert made == ids.keyed_turn_id(CONVERSATION, "user", "event")
    others = {
        ids.keyed_turn_id(CONVERSATION, "user", "other"),
        ids.keyed_turn_id(CONVERSATION, "usere", "vent"),  # parts do not run together
        ids.keyed_turn_id(ids.conversation_id(7, 1_700_000_000_000, bytes(10)), "user", "event"),
        ids.successor_turn_id(made, "steer"),
    }
    assert len(others) == 4
    assert made not in others
    assert all(ids.partition_of(other) == 7 for other in others)
    assert ids.time_of(made) == ids.time_of(CONVERSATION)


def test_items_and_calls_of_a_turn_differ_by_index() -> None:
    turn = ids.turn_id(CONVERSATION, 5, bytes(10))
    assert len({ids.item_id("msg", turn, n) for n in range(9)} | {ids.call_id(turn, n) for n in range(9)}) == 18


@pytest.mark.parametrize(
    "text", ["", "conv", "conv_", "conv_12", CONVERSATION.upper(), CONVERSATION + "0", "conv_" + "g" * 36]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    assert not ids.is_id(ids.CONVERSATION, text)
    with pytest.raises(ValueError, match="36 lower-case hex digits"):
        ids.partition_of(text)


def test_a_response_is_not_a_turn_and_a_partition_has_an_end() -> None:
    with pytest.raises(ValueError, match="resp_"):
        ids.turn_of(CONVERSATION)
    with pytest.raises(ValueError, match="partition"):
        ids.conversation_id(ids.MAX_PARTITIONS, 0, bytes(10))


CURSORS = st.builds(
    lambda partition, time_ms, entropy, turn_offset, ahead, frame, epoch: Cursor(
        turn_offset + ahead, frame, ids.conversation_id(partition, time_ms, entropy), turn_offset, epoch
    ),
    PARTITION, TIME, ENTROPY, st.integers(0, 1 << 62), st.integers(0, 1 << 20), st.integers(0, 65_535),
    st.integers(0, (1 << 32) - 1),
)  # fmt: skip


@given(CURSORS)
def test_a_cursor_comes_back_as_it_went(cursor: Cursor) -> None:
    text = cursor.encode()
    assert len(text) == 58
    assert Cursor.decode(text) == cursor
    assert cursor.partition == ids.partition_of(cursor.conversation)


@given(CURSORS, st.integers(0, 57))
def test_a_cursor_that_was_cut_or_lengthened_is_refused(cursor: Cursor, size: int) -> None:
    for text in (cursor.encode()[:size], cursor.encode() + "A"):
        with pytest.raises(InvalidInput) as refused:
            Cursor.decode(text)
        assert refused.value.code == "invalid_cursor"


@given(CURSORS)
def test_of_all_single_bit_errors_one_in_a_hundred_passes_at_most(cursor: Cursor) -> None:
    """The sum is one byte: it is there for a slip of the hand, and no security rests on it."""
    raw = base64.urlsafe_b64decode(cursor.encode() + "==")
    passed = 0
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            Cursor.decode(base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode())
            passed += 1
        except InvalidInput:
            continue
    assert passed <= 8 * len(raw) // 100


@pytest.mark.parametrize("text", ["live", "start", "é" * 58, "=" * 58, "A" * 58, "!" * 58])
def test_a_cursor_from_somewhere_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Cursor.decode(text)


@given(CURSORS, st.integers(0, 1 << 20), st.integers(0, 65_535))
def test_cursors_of_a_conversation_are_ordered_as_frames_are(cursor: Cursor, ahead: int, frame: int) -> None:
    later = Cursor(cursor.offset + ahead, frame, cursor.conversation, cursor.turn_offset, cursor.topic_epoch)
    assert (cursor < later) == ((cursor.offset, cursor.frame) < (later.offset, later.frame))
