"""What of a turn becomes a memory."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from memory.drafts import CONTEXT_CHARACTERS, PIECE_CHARACTERS, draft_of_fact, drafts_of, pieces
from memory.rows import MessageRow, TurnRecord
from streams.events.conversation import FactPublished


def record(*messages: MessageRow, status: str = "completed", agent: str = "guide") -> TurnRecord:
    return TurnRecord(
        turn="turn_1", conversation="conv_1", tenant="acme", user="ada", begin_offset=3, end_offset=9, status=status,
        reason="", routed=True, agent=agent, messages=messages, models=(), accepted_at_ms=1_000, ended_at_ms=2_000,
        previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip


def message(role: str, text: str, **more: str) -> MessageRow:
    return msgspec.structs.replace(MessageRow(index=0, role=role, text=text), **more)


SAID = message("user", "I live in Bern")
ANSWER = message("assistant", "Noted.", name="answer")


def texts(turn: TurnRecord) -> list[tuple[str, str]]:
    return [(draft.row.speaker, draft.row.text) for draft in drafts_of(turn)]


def test_what_was_said_is_remembered_with_its_source() -> None:
    user, assistant = drafts_of(record(SAID, ANSWER))
    assert (user.row.text, user.row.speaker, user.embedded) == ("I live in Bern", "user", "user: I live in Bern")
    assert assistant.embedded == "user: I live in Bern assistant: Noted."
    assert (user.row.context, assistant.row.context) == ("", "user: I live in Bern")
    assert (user.row.at_ms, user.row.valid_from_ms, user.row.source_offset, user.row.layer) == (
        1_000, 1_000, 9, "conversation",
    )  # fmt: skip
    assert (user.row.tenant, user.row.user, user.row.conversation, user.row.turn) == ("acme", "ada", "conv_1", "turn_1")
    assert (assistant.row.text, assistant.row.speaker, assistant.row.at_ms) == ("Noted.", "assistant", 2_000)
    assert user.row.id != assistant.row.id


def test_what_was_said_before_is_a_memorys_context() -> None:
    before = [("user", "long ago"), ("user", "Where do you live?"), ("assistant", "x" * 500)]
    [user, _] = drafts_of(record(SAID, ANSWER), before)
    assert user.row.context == f"user: Where do you live? assistant: {'x' * CONTEXT_CHARACTERS}"
    assert user.embedded == f"{user.row.context} user: I live in Bern"


def test_the_same_turn_gives_the_same_memories() -> None:
    assert drafts_of(record(SAID, ANSWER)) == drafts_of(record(SAID, ANSWER))


def test_calls_and_instructions_are_not_remembered() -> None:
    call = message("assistant", "{}", kind="function_call", call_id="c", name="search")
    output = message("tool", "[1]", kind="function_call_output", call_id="c")
    assert texts(record(message("system", "Be brief."), SAID, call, output, ANSWER)) == [
        ("user", "I live in Bern"), ("assistant", "Noted."),
    ]  # fmt: skip


def test_what_a_client_sends_again_is_not_remembered_again() -> None:
    before = [message("user", "old"), message("assistant", "old answer")]
    assert texts(record(*before, message("user", "new"), ANSWER)) == [("user", "new"), ("assistant", "Noted.")]


def test_an_excuse_is_not_remembered() -> None:
    assert texts(record(SAID, ANSWER, status="failed")) == [("user", "I live in Bern")]
    assert texts(record(SAID, ANSWER, agent="")) == [("user", "I live in Bern")]
    assert len(texts(record(SAID, ANSWER, status="cancelled"))) == 2


def test_a_services_fact() -> None:
    fact = FactPublished(
        conversation="conv_1",
        tenant="acme",
        user="ada",
        kind="invoice",
        text="May is paid.",
        service="billing",
        at_ms=7,
    )
    [draft] = draft_of_fact(fact, "conv_1/note/0/1", 12)
    assert (draft.row.layer, draft.row.speaker, draft.row.text) == ("fact", "billing", "May is paid.")
    assert (draft.row.at_ms, draft.row.source_offset, draft.row.conversation) == (7, 12, "conv_1")
    assert draft_of_fact(fact, "conv_1/note/0/2", 12)[0].row.id != draft.row.id


def test_pieces_keep_sentences_whole() -> None:
    assert pieces("") == pieces(" \n ") == []
    assert pieces("One. Two.\n\nThree") == ["One. Two. Three"]
    long = "This is a sentence. " * 100
    parts = pieces(long)
    assert len(parts) == 4
    assert all(part.startswith("This") and part.endswith("sentence.") for part in parts)


@given(st.text(alphabet="ab .\n!", max_size=5_000))
def test_pieces_lose_no_word(text: str) -> None:
    parts = pieces(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= PIECE_CHARACTERS for part in parts)


def test_services_facts_about_one_thing_take_each_others_place() -> None:
    def published(text: str, **data: object) -> FactPublished:
        return FactPublished(
            conversation="conv_1", tenant="acme", user="ada", kind="application", text=text, service="jobs", at_ms=7,
            data=data,
        )  # fmt: skip

    [accepted] = draft_of_fact(published("Accepted.", about="17"), "conv_1/note/0/1", 12)
    [withdrawn] = draft_of_fact(published("Withdrawn.", about="17"), "conv_1/note/0/2", 13)
    keys = [(draft.row.subject, draft.row.attribute, draft.row.single) for draft in (accepted, withdrawn)]
    assert keys == [("application", "17", True)] * 2
    assert accepted.row.value != withdrawn.row.value
    [loose] = draft_of_fact(published("Seen.", about=17), "conv_1/note/0/3", 14)
    assert loose.row.attribute == "", "what it is about is a text"
    long = draft_of_fact(published("A long sentence. " * 60, about="17"), "conv_1/note/0/4", 15)
    assert len({draft.row.attribute for draft in long}) == len(long) > 1
