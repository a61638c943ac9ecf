"""What of a turn becomes a memory."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from memory.drafts import CONTEXT_CHARACTERS, PIECE_CHARACTERS, Draft, draft_of_fact, drafts_of, pieces
from memory.rows import MemoryRow, MessageRow, TurnRecord
from streams.events.conversation import FactPublished


def record(*messages: MessageRow, status: str = "completed", agent: str = "guide") -> TurnRecord:
    return TurnRecord(
        turn="turn_1", conversation="conv_1", tenant="acme", user="ada", begin_offset=3, end_offset=9, status=status,
        reason="", routed=True, agent=agent, messages=messages, models=(), accepted_at_ms=1_000, ended_at_ms=2_000,
        previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip


def message(role: str, text: str, **more: str) -> MessageRow:
    return msgspec.structs.replace(MessageRow(index=0, role=role, text=text), **more)


def memory(draft: Draft) -> MemoryRow:
    assert isinstance(draft.row, MemoryRow)
    return draft.row


SAID = message("user", "I live in Bern")
ANSWER = message("assistant", "Noted.", name="answer")


def texts(turn: TurnRecord) -> list[tuple[str, str]]:
    return [(memory(draft).speaker, memory(draft).text) for draft in drafts_of(turn)]


def test_what_was_said_is_remembered_with_its_source() -> None:
    user, assistant = drafts_of(record(SAID, ANSWER))
    assert (memory(user).text, memory(user).speaker, user.embedded) == (
        "I live in Bern",
        "user",
        "user: I live in Bern",
    )
    assert assistant.embedded == "user: I live in Bern assistant: Noted."
    assert (memory(user).context, memory(assistant).context) == ("", "user: I live in Bern")
    assert (memory(user).at_ms, memory(user).valid_from_ms, memory(user).source_offset, memory(user).layer) == (
        1_000, 1_000, 9, "conversation",
    )  # fmt: skip
    assert (memory(user).tenant, memory(user).user, memory(user).conversation, memory(user).turn) == (
        "acme",
        "ada",
        "conv_1",
        "turn_1",
    )
    assert (memory(assistant).text, memory(assistant).speaker, memory(assistant).at_ms) == (
        "Noted.",
        "assistant",
        2_000,
    )
    assert memory(user).id != memory(assistant).id


def test_what_was_said_before_is_a_memorys_context() -> None:
    before = [("user", "long ago"), ("user", "Where do you live?"), ("assistant", "x" * 500)]
    [user, _] = drafts_of(record(SAID, ANSWER), before)
    assert memory(user).context == f"user: Where do you live? assistant: {'x' * CONTEXT_CHARACTERS}"
    assert user.embedded == f"{memory(user).context} user: I live in Bern"


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
    assert (memory(draft).layer, memory(draft).speaker, memory(draft).text) == ("fact", "billing", "May is paid.")
    assert (memory(draft).at_ms, memory(draft).source_offset, memory(draft).conversation) == (7, 12, "conv_1")
    assert memory(draft_of_fact(fact, "conv_1/note/0/2", 12)[0]).id != memory(draft).id


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
    keys = [(memory(draft).subject, memory(draft).attribute, memory(draft).single) for draft in (accepted, withdrawn)]
    assert keys == [("application", "17", True)] * 2
    assert memory(accepted).value != memory(withdrawn).value
    [loose] = draft_of_fact(published("Seen.", about=17), "conv_1/note/0/3", 14)
    assert memory(loose).attribute == "", "what it is about is a text"
    long = draft_of_fact(published("A long sentence. " * 60, about="17"), "conv_1/note/0/4", 15)
    assert len({memory(draft).attribute for draft in long}) == len(long) > 1
