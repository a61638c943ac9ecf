"""The window between the log and a client: bounded, in order, and counting what is not acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.window import ENTRY_BYTES, SendWindow


def test_frames_leave_in_the_order_they_came() -> None:
    window = SendWindow(1000)
    for number in range(3):
        window.push(b"%d" % number, "conv", (number, 0))
    assert [window.pop() for _ in range(4)] == [b"0", b"1", b"2", None]
    assert window.waiting_bytes == 0


def test_it_is_full_at_its_limit_and_no_frame_is_too_large_when_half_is_free() -> None:
    window = SendWindow(400)
    assert window.room(10_000)
    window.push(b"x" * 136)
    assert window.room(10_000)
    window.push(b"x")
    assert not window.room(10_000)
    window = SendWindow(300)
    window.push(b"x" * 100)
    assert window.room(300 - 100 - 2 * ENTRY_BYTES)
    assert not window.room(300 - 100 - 2 * ENTRY_BYTES + 1)


def test_without_acknowledgements_what_was_written_is_gone() -> None:
    window = SendWindow(200)
    window.push(b"x" * 100, "conv", (1, 0))
    window.pop()
    assert window.room(10_000)


def test_with_acknowledgements_what_was_written_counts_until_it_is_acknowledged() -> None:
    window = SendWindow(420)
    window.acknowledge("conv", (0, 0))
    for offset in (1, 2):
        window.push(b"x" * 100, "conv", (offset, 0))
        window.pop()
    assert window.unacknowledged_bytes == 2 * (100 + ENTRY_BYTES)
    assert not window.room(100)
    window.acknowledge("other", (9, 9))
    assert not window.room(100)
    window.acknowledge("conv", (1, 0))
    assert window.unacknowledged_bytes == 100 + ENTRY_BYTES
    assert window.room(100)


def test_answers_need_no_acknowledgement() -> None:
    window = SendWindow(400)
    window.acknowledge("conv", (0, 0))
    window.push(b"x" * 300)
    window.pop()
    assert window.unacknowledged_bytes == 0


@given(st.lists(st.one_of(st.integers(0, 300), st.just(-1), st.just(-2)), max_size=200))
def test_what_it_holds_is_what_went_in_and_did_not_go_out(moves: list[int]) -> None:
    window = SendWindow(1000)
    window.acknowledge("conv", (-1, 0))
    waiting: list[int] = []
    sent: list[tuple[int, int]] = []
    offset = 0
    for move in moves:
        if move == -1:
            body = window.pop()
            assert (body is None) == (not waiting)
            if waiting:
                sent.append((offset - len(waiting), waiting.pop(0)))
        elif move == -2:
            window.acknowledge("conv", (sent[len(sent) // 2][0] if sent else -1, 0))
            sent = sent[len(sent) // 2 + 1 :] if sent else sent
        elif window.room(move):
            window.push(b"x" * move, "conv", (offset, 0))
            waiting.append(move)
            offset += 1
        assert window.waiting_bytes == sum(size + ENTRY_BYTES for size in waiting)
        assert window.unacknowledged_bytes == sum(size + ENTRY_BYTES for _, size in sent)
        assert window.waiting_bytes + window.unacknowledged_bytes <= 1000
    window.clear()
    assert len(window) == window.waiting_bytes == window.unacknowledged_bytes == 0
