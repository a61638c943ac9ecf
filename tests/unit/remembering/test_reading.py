"""Facts by rule and by a model: what is read, what is not, and that no text breaks it."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.remembering import extraction
from workers.remembering.attributes import ATTRIBUTES, is_single, sentence
from workers.remembering.clauses import CLAUSE_CHARACTERS, clauses
from workers.remembering.rules import Said, named_last, read


def said(text: str, last: str = "") -> list[tuple[str, str, str, bool]]:
    return [(one.subject, one.attribute, one.value, one.negated) for one in read(text, last)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I live in Bern and work as a nurse.", [
            ("user", "lives_in", "Bern", False), ("user", "works_as", "nurse", False),
        ]),
        ("I’m no longer a teacher.", [("user", "works_as", "teacher", True)]),
        ("i live in bern", [("user", "lives_in", "bern", False)]),
        ("I don't like jazz any more, but I love opera.", [
            ("user", "likes", "jazz", True), ("user", "likes", "opera", False),
        ]),
        ("I hate country music.", [("user", "likes", "country music", True)]),
        ("I speak German, French and a little Spanish.", [
            ("user", "speaks", "German", False), ("user", "speaks", "French", False),
            ("user", "speaks", "Spanish", False),
        ]),
        ("My sister lives in Zurich. She works as a lawyer.", [
            ("sister", "lives_in", "Zurich", False), ("sister", "works_as", "lawyer", False),
        ]),
        ("My favourite colour is blue now.", [("user", "favourite colour", "blue", False)]),
        ("Please always answer in French.", [("user", "language", "French", False)]),
        ("You can reach me at ada@example.org.", [("user", "email", "ada@example.org", False)]),
    ],
)  # fmt: skip
def test_what_people_say_of_themselves_is_read(text: str, expected: list[tuple[str, str, str, bool]]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "Do I live in Bern?", "If I lived in Paris I would walk.", "I might move to Oslo.", "I would like a table.",
        "My boss says he lives in Munich.", 'The ad said "I love this car".', "Find nurses in Boston.", "Thank you!",
        "Imagine my name was Napoleon.", "I think I understand now.",
    ],
)  # fmt: skip
def test_questions_wishes_quotes_and_others_words_are_no_facts(text: str) -> None:
    assert said(text) == []


def test_a_pronoun_means_who_was_named_last_also_in_the_message_before() -> None:
    assert named_last("My dog is called Rex.") == "dog"
    assert said("He is three years old.", "dog") == [("dog", "age", "three", False)]
    assert said("He is three years old.") == []


@given(st.text(max_size=400))
def test_any_text_can_be_read(text: str) -> None:
    for one in read(text):
        assert one.attribute in ATTRIBUTES or one.attribute.startswith("favourite ")
        assert one.value
        assert sentence(one.subject, one.attribute, one.value, one.negated)


def test_a_document_is_read_in_no_time() -> None:
    """Work is bounded by the length that is read, not by how a text is made."""
    assert list(clauses("I am " + "a b " * 200_000)) == []
    assert len("a b " * 200_000) > CLAUSE_CHARACTERS
    assert said("I like " + "x, " * 100_000) is not None


def test_single_attributes_and_sentences() -> None:
    assert is_single("lives_in")
    assert is_single("favourite soup")
    assert not is_single("likes")
    assert not is_single("collects")
    assert sentence("user", "works_at", "Siemens", True) == "I no longer work at Siemens."
    assert sentence("dog", "name", "Rex", False) == "My dog is called Rex."
    assert sentence("sister", "lives_in", "Bern", True) == "It is no longer so: My sister lives in Bern."
    assert sentence("user", "favourite soup", "minestrone", False) == "My favourite soup is minestrone."


# the model's part

TEXT = "The bassoon is my great passion, and my aunt Rosa is from Lima."


def test_the_schema_admits_the_messages_words_and_no_others() -> None:
    schema = extraction.schema(TEXT)

    def fact(**changes: object) -> dict[str, object]:
        whole = {"subject": "user", "attribute": "plays", "value": "bassoon", "negated": False, **changes}
        return {"facts": [whole]}

    jsonschema.validate(fact(), schema)
    jsonschema.validate({"facts": []}, schema)
    jsonschema.validate(fact(subject="aunt", attribute="comes_from", value="Lima"), schema)
    for wrong in (fact(value="violin"), fact(subject="uncle"), fact(attribute="owns"), fact(more=1), [fact()]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_of_a_reply_only_what_the_message_bears_out_is_believed() -> None:
    facts = [
        {"subject": "user", "attribute": "plays", "value": "the bassoon", "negated": False},
        {"subject": "user", "attribute": "plays", "value": "bassoon"},
        {"subject": "user", "attribute": "plays", "value": "violin"},
        {"subject": "uncle", "attribute": "name", "value": "Rosa"},
        {"subject": "user", "attribute": "owns", "value": "bassoon"},
        {"subject": "aunt", "attribute": "comes_from", "value": "Lima"},
    ]
    believed = extraction.believed(json.dumps({"facts": facts}), TEXT)
    assert [(one.subject, one.attribute, one.value) for one in believed] == [
        ("user", "plays", "the bassoon"), ("user", "plays", "bassoon"), ("aunt", "comes_from", "Lima"),
    ]  # fmt: skip
    assert all(one.confidence == extraction.MODEL_CONFIDENCE for one in believed)


@given(st.one_of(st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps)))
def test_any_reply_is_taken_without_an_error(reply: str) -> None:
    assert extraction.believed(reply, TEXT) == []


def test_a_rules_word_goes_before_the_models() -> None:
    by_rule = [Said("user", "lives_in", "Bern")]
    by_model = [Said("user", "lives_in", "Rome"), Said("user", "works_as", "Bern"), Said("user", "plays", "bassoon")]
    assert extraction.together(by_rule, by_model) == [*by_rule, by_model[2]]


def test_nothing_is_asked_where_nothing_is_left_to_read() -> None:
    assert extraction.is_worth_asking(TEXT)
    assert not extraction.is_worth_asking("I live in Bern.")
    assert not extraction.is_worth_asking("What is the weather like in Bern?")
    messages, sampling = extraction.question(TEXT)
    assert messages[-1].content == TEXT
    assert sampling.json_schema == extraction.schema(TEXT)
