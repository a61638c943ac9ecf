"""No event changes in a way that old records or old readers do not survive."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from streams import schemas
from streams.events import REGISTRY
from streams.events.generating import AnswerDelta

PUBLISH = "python -m streams.schemas --write"


def test_every_type_is_published_and_none_has_changed_incompatibly() -> None:
    problems = schemas.incompatible(schemas.published(), schemas.schemas())
    assert problems == [], f"an incompatible change: {'; '.join(problems)}\nHow out: {schemas.HINT}"
    stale = [name for name, schema in schemas.schemas().items() if schemas.published().get(name) != schema]
    assert stale == [], f"additions that are not published yet; run: {PUBLISH}"


def test_a_published_schema_accepts_what_its_type_writes() -> None:
    jsonschema.Draft202012Validator(schemas.published()[AnswerDelta.TYPE]).validate(
        msgspec.json.decode(msgspec.json.encode(AnswerDelta(text="a", index=0, ids=(1, 2))))
    )
    for schema in schemas.published().values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schemas.published()) == set(REGISTRY)


Change = Callable[[dict[str, Any]], None]


def _remove(schema: dict[str, Any]) -> None:
    del schema["$defs"]["TurnAccepted"]["properties"]["bucket"]


def _retype(schema: dict[str, Any]) -> None:
    schema["$defs"]["TurnAccepted"]["properties"]["bucket"]["type"] = "string"


def _require(schema: dict[str, Any]) -> None:
    schema["$defs"]["TurnAccepted"]["required"].append("bucket")


def _add_required(schema: dict[str, Any]) -> None:
    schema["$defs"]["TurnAccepted"]["properties"]["colour"] = {"type": "string"}
    schema["$defs"]["TurnAccepted"]["required"].append("colour")


def _loosen(schema: dict[str, Any]) -> None:
    schema["$defs"]["TurnAccepted"]["required"].remove("user")


def _retype_deep_inside(schema: dict[str, Any]) -> None:
    schema["$defs"]["InputItem"]["properties"]["approve"]["type"] = "integer"


def _leave_topic(schema: dict[str, Any]) -> None:
    schema["x-topics"] = ["turns"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_remove, "bucket is gone"),
        (_retype, "bucket: type was 'integer' and is 'string'"),
        (_require, "bucket has become required"),
        (_add_required, "colour has become required"),
        (_loosen, "user has become optional"),
        (_retype_deep_inside, "approve: type was 'boolean' and is 'integer'"),
        (_leave_topic, "may no longer stand on events"),
    ],
)
def test_an_incompatible_change_is_refused(change: Change, said: str) -> None:
    name = "headstart.turn.accepted.v1"
    old = {name: schemas.schemas()[name]}
    new = copy.deepcopy(old)
    change(new[name])
    problems = schemas.incompatible(old, new)
    assert len(problems) == 1
    assert said in problems[0]
    assert name in problems[0]


def test_a_type_may_not_vanish() -> None:
    assert schemas.incompatible({"headstart.gone.v1": {}}, schemas.schemas()) == ["headstart.gone.v1: the type is gone"]


def test_a_field_with_a_default_and_a_new_type_may_be_added() -> None:
    old = schemas.schemas()
    new = copy.deepcopy(old)
    new["headstart.turn.accepted.v1"]["$defs"]["TurnAccepted"]["properties"]["colour"] = {"type": "string"}
    new["headstart.turn.accepted.v2"] = {}
    assert schemas.incompatible(old, new) == []


def test_nothing_is_written_over_an_incompatible_change(tmp_path: Path) -> None:
    assert schemas.write(tmp_path) == []
    file = tmp_path / "headstart.answer.delta.v1.json"
    published = msgspec.json.decode(file.read_bytes())
    published["$defs"]["AnswerDelta"]["properties"]["colour"] = {"type": "string"}
    file.write_text(schemas.text_of(published))
    before = file.read_text()
    assert schemas.write(tmp_path) == ["headstart.answer.delta.v1: colour is gone"]
    assert file.read_text() == before
