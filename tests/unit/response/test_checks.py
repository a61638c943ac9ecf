"""In-stream checks: the same answer however it is cut, nothing of a secret in what leaves, ids that fit their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import InvalidInput
from workers.response.check import Check, Segment
from workers.response.length_check import LengthCheck
from workers.response.pipeline import Piece, Pipeline, make_pipeline
from workers.response.secrets_check import HOLD_CHARACTERS, MARKS, MASK, SecretsCheck

KEYS = [mark + "aZ3_" * ((size - len(mark)) // 4 + 1) for mark, size in MARKS.items()]
WORDS = st.sampled_from(
    [
        *KEYS,
        "task-1",
        "sk",
        "sk-",
        "s",
        "AKI",
        "ghp",
        "a",
        " ",
        ", ",
        "\n",
        "x_y",
        "Ünïcode",
        "-",
        "eyJ",
        "£",
        "sk-short",
    ]
)


def through(check: Check, parts: list[str], primed: str = "") -> str:
    """What leaves of an answer that comes in these parts."""
    check.prime(primed)
    text, at, out = "".join(parts), 0, []
    for number, part in enumerate([*parts, None]):
        fed = sum(map(len, parts[: number + 1]))
        for size, replacement in check.finish() if part is None else check.feed(part):
            assert at + size <= fed
            out.append(text[at : at + size] if replacement is None else replacement)
            at += size
        if part is not None:
            assert fed - at <= HOLD_CHARACTERS
    assert at == len(text)
    return "".join(out)


def cuts(text: str, sizes: list[int]) -> list[str]:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return [*parts, text[at:]]


@pytest.mark.parametrize("key", KEYS, ids=list(MARKS))
def test_every_kind_of_key_is_masked_at_every_cut(key: str) -> None:
    text = f"use {key}, please"
    for cut in range(len(text) + 1):
        assert through(SecretsCheck(), [text[:cut], text[cut:]]) == f"use {MASK}, please"
    assert through(SecretsCheck(), list(text)) == f"use {MASK}, please"


@given(st.lists(WORDS, max_size=12), st.lists(st.integers(0, 9), max_size=40))
def test_cuts_make_no_difference(words: list[str], sizes: list[int]) -> None:
    text = "".join(words)
    whole = through(SecretsCheck(), [text])
    assert through(SecretsCheck(), cuts(text, sizes)) == whole
    assert through(SecretsCheck(), list(text)) == whole


@pytest.mark.parametrize("text", ["task-1 is done", "sk-short", "I ask-questions", "AKIA", "eyes", "a-sk-" + "b" * 30])
def test_what_only_looks_a_little_like_a_key_stays(text: str) -> None:
    assert through(SecretsCheck(), list(text)) == text


def test_a_word_that_left_half_is_not_a_secret_any_more() -> None:
    key = "sk-" + "a" * 40
    assert through(SecretsCheck(), [key[10:] + " b"], primed="It is " + key[:10]) == key[10:] + " b"
    assert through(SecretsCheck(), [key], primed="It is ") == MASK
    assert through(SecretsCheck(), ["aa " + key], primed=key) == "" + " " + MASK


@given(st.text(max_size=60), st.integers(1, 70), st.lists(st.integers(0, 9), max_size=20))
def test_the_length_ends_an_answer_once_it_is_longer(text: str, limit: int, sizes: list[int]) -> None:
    check = LengthCheck(limit)
    assert through(check, cuts(text, sizes)) == text[:limit]
    assert check.stopped == (len(text) > limit)


def test_the_length_counts_what_was_delivered_before() -> None:
    check = LengthCheck(10)
    assert through(check, ["abcdef"], primed="1234567") == "abc"
    with pytest.raises(ValueError, match="at least one"):
        LengthCheck(0)


def run(pipeline: Pipeline, parts: list[str]) -> list[Piece]:
    """Pieces of one token per character; ids are the characters' numbers."""
    out: list[Piece] = []
    index = 0
    for part in parts:
        out += pipeline.feed(part, tuple(map(ord, part)), index)
        index += len(part)
        if pipeline.stopped:
            break
    return out + pipeline.finish()


@given(st.lists(WORDS, max_size=10), st.lists(st.integers(1, 9), max_size=30))
def test_ids_decode_to_the_text_or_are_not_there(words: list[str], sizes: list[int]) -> None:
    text = "".join(words)
    pieces = run(make_pipeline(["secrets"]), [part for part in cuts(text, sizes) if part])
    at = 0
    for piece in pieces:
        assert piece.index == at
        at += piece.size
        if piece.ids:
            assert "".join(map(chr, piece.ids)) == piece.text
    assert at == len(text)
    assert "".join(piece.text for piece in pieces) == through(SecretsCheck(), [text])


def test_several_checks_let_go_together() -> None:
    key = "ghp_" + "a" * 30
    pipeline = make_pipeline(["secrets", "length:20"])
    pieces = run(pipeline, ["It is ", key, " and", " more"])
    assert "".join(piece.text for piece in pieces) == f"It is {MASK}"
    assert pipeline.filtered == ("secrets", "length")
    assert pipeline.stopped


def test_of_two_changes_of_one_text_the_earlier_one_counts() -> None:
    class Star:
        stopped = False

        def __init__(self, name: str, start: int, end: int) -> None:
            self.name, self._start, self._end = name, start, end

        def prime(self, text: str) -> None:
            raise AssertionError("nothing was delivered before")

        def feed(self, text: str) -> list[Segment]:
            return [Segment(self._start), Segment(self._end - self._start, self.name), Segment(len(text) - self._end)]

        def finish(self) -> list[Segment]:
            return []

    pipeline = Pipeline([Star("B", 3, 6), Star("A", 1, 4)])
    assert [piece.text for piece in run(pipeline, ["01234567"])] == ["0A67"]
    assert pipeline.filtered == ("B", "A")


def test_a_pipeline_without_checks_changes_nothing() -> None:
    assert run(make_pipeline([]), ["a", "b"]) == [Piece("a", (97,), 0, 1), Piece("b", (98,), 1, 1)]


@pytest.mark.parametrize("name", ["taste", "length", "length:", "length:0", "length:x", "secrets:1", ""])
def test_a_check_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_pipeline([name])
    assert refused.value.code == "unknown_check"
