"""The AsyncAPI document is what the code makes, whole in itself, and true of the records that are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import orjson
import pytest

from streams.asyncapi import FILE, SENDS, document, main, text
from streams.codec import encode
from streams.events import REGISTRY, Event, InputItem
from streams.events.calling import CallRequested
from streams.events.conversation import FactPublished
from streams.events.generating import GenerationDelta
from streams.events.intake import CallResult, FactPublish, TurnOptions, TurnSubmit
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.signing import signed

KEY = "hs_0123456789ab_" + "A" * 43


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_file_is_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILE.read_text() == text(), "python -m streams.asyncapi --write"
    assert main(["--check"]) == 0
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    for reference in set(references(whole)):
        node: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert isinstance(node, dict), reference


def test_a_service_may_write_what_only_services_write_and_read_what_it_needs() -> None:
    operations = document()["operations"]
    sent = {message["$ref"].rpartition("/")[2] for message in operations["send_turns"]["messages"]}
    assert sent == set(SENDS["turns"])
    assert all("turns" in REGISTRY[name].TOPICS for name in sent)
    heard = {message["$ref"].rpartition("/")[2] for message in operations["receive_events"]["messages"]}
    assert heard == {name for name, kind in REGISTRY.items() if "events" in kind.TOPICS}
    assert "generations" not in document()["channels"]


MANIFEST = SkillManifest(
    name="look", version="1", description="looks", owner="o", bus=True, fire_on=("a",),
    parameters={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
)  # fmt: skip
EXAMPLES = (
    TurnSubmit(
        turn="turn_1", conversation="conv_1", tenant="acme", user="ada", input=(InputItem(text="Hi"),), at_ms=1,
        opens=True, origin="service", options=TurnOptions(agent="companion", metadata={"a": "b"}),
    ),
    FactPublish(conversation="c", tenant="t", user="u", kind="k", text="x", at_ms=1, data={"n": [1, None]}),
    CallResult(turn="t", call=0, claim=1, at_ms=1, result="{}", key="k", tenant="acme"),
    CallResult(turn="t", call=0, claim=1, at_ms=1, error="refused", key="k", tenant="acme"),
    CallRequested(
        conversation="c", turn="t", call=0, claim=1, skill="look@1", arguments={"a": 1}, tenant="t", user="u", key="k",
        at_ms=1, deadline_at_ms=2, attempt=2,
    ),
    SkillRegistered(manifest=MANIFEST, at_ms=1),
    SkillPointed(name="look", version="1", at_ms=1),
    FactPublished(conversation="c", tenant="t", user="u", kind="k", text="x", service="s", at_ms=1),
)  # fmt: skip


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: f"{type(event).__name__}")
def test_what_is_written_fits_the_document(event: Event) -> None:
    whole = document()
    message = whole["components"]["messages"][event.TYPE]
    extra = signed(event, "id-1", "turns", "key", KEY) if "turns" in event.TOPICS else []
    extra += [("ce_subject", b"look@1")] if "calls" in event.TOPICS else []
    headers, value = encode(event, "id-1", "service/test", extra)
    root = {"components": whole["components"]}
    payload = jsonschema.Draft7Validator({**root, "allOf": [message["payload"]]})
    assert list(payload.iter_errors(orjson.loads(value))) == []
    said = {name: header.decode() for name, header in headers}
    assert list(jsonschema.Draft7Validator({**root, "allOf": [message["headers"]]}).iter_errors(said)) == []
    assert list(payload.iter_errors([])) != []


def test_an_unsigned_command_does_not_fit() -> None:
    whole = document()
    headers, _ = encode(EXAMPLES[1], "id-1", "service/test")
    validator = jsonschema.Draft7Validator(
        {"components": whole["components"], "allOf": [{"$ref": "#/components/schemas/SignedHeaders"}]}
    )
    assert list(validator.iter_errors({name: header.decode() for name, header in headers})) != []


def test_deltas_are_described_too() -> None:
    messages = document()["components"]["messages"]
    deltas = [kind for kind in REGISTRY.values() if issubclass(kind, GenerationDelta) and "events" in kind.TOPICS]
    assert len(deltas) >= 3
    assert all(kind.TYPE in messages for kind in deltas if kind.TYPE)
