"""The signed header: it fits one request, and nobody without the key makes one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import NotPermitted
from workers.skills.context import CLOCK_SKEW_MS, CallContext, sign, verify

CONTEXT = CallContext(turn="t", call=1, tenant="acme", user="ada", key="k", locale="de", deadline_at_ms=5_000)
BODY = b'{"q":1}'
HEADER = sign(CONTEXT, "probe", BODY, 1_000, "secret")


def refusal(header: str, skill: str = "probe", body: bytes = BODY, key: str = "k", now_ms: int = 2_000) -> str:
    with pytest.raises(NotPermitted) as caught:
        verify(header, skill, body, key, now_ms, "secret")
    return caught.value.code


def test_it_says_who_the_call_is_for() -> None:
    context = verify(HEADER, "probe", BODY, "k", 2_000, "secret")
    assert (context.tenant, context.user, context.locale, context.turn, context.call) == ("acme", "ada", "de", "t", 1)
    assert (context.claim, context.at_ms, context.deadline_at_ms) == (1, 1_000, 5_000)


def test_another_request_can_not_use_it() -> None:
    assert refusal(HEADER, skill="other") == "context_mismatched"
    assert refusal(HEADER, body=b'{"q":2}') == "context_mismatched"
    assert refusal(HEADER, key="k2") == "context_mismatched"


def test_it_ends_with_its_turn() -> None:
    verify(HEADER, "probe", BODY, "k", 5_000 + CLOCK_SKEW_MS, "secret")
    assert refusal(HEADER, now_ms=5_001 + CLOCK_SKEW_MS) == "context_expired"
    open_ended = sign(msgspec.structs.replace(CONTEXT, deadline_at_ms=0), "probe", BODY, 1_000, "secret")
    verify(open_ended, "probe", BODY, "k", 1_000 + CLOCK_SKEW_MS, "secret")
    assert refusal(open_ended, now_ms=1_001 + CLOCK_SKEW_MS) == "context_expired"


def test_another_secret_is_a_forgery() -> None:
    assert refusal("") == "context_missing"
    assert refusal(sign(CONTEXT, "probe", BODY, 1_000, "other")) == "context_forged"


@given(st.integers(0, len(HEADER) - 2), st.characters(codec="latin-1"))
def test_no_changed_character_goes_through(position: int, character: str) -> None:
    """The last character is left out: two of its bits mean nothing in base64."""
    changed = HEADER[:position] + character + HEADER[position + 1 :]
    if changed == HEADER:
        verify(changed, "probe", BODY, "k", 2_000, "secret")
    else:
        assert refusal(changed) == "context_forged"


@given(st.integers(0, len(HEADER)), st.characters(codec="latin-1"))
def test_no_added_character_goes_through(position: int, character: str) -> None:
    assert refusal(HEADER[:position] + character + HEADER[position:]) == "context_forged"


@given(st.text(max_size=80))
def test_any_text_is_refused(text: str) -> None:
    assert refusal(text) in ("context_missing", "context_forged")
