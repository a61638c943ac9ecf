"""The catalog: versions never change, a name points to one, and what may undo a call is worked out from both."""

from __future__ import annotations

import msgspec
import pytest

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from tests.unit.skills.test_manifest import GOOD
from workers.skills.catalog import Catalog, visible
from workers.skills.compensation import compensation_arguments

SECOND = msgspec.structs.replace(GOOD, version="2", description="Finds people better.")


def test_a_registered_version_is_known_and_in_force_once_pointed_to() -> None:
    catalog = Catalog()
    assert catalog.register(GOOD)
    assert not catalog.register(GOOD)
    assert (catalog.get(GOOD.id), catalog.by_name("search_people")) == (GOOD, None)
    assert catalog.point("search_people", "1")
    assert not catalog.point("search_people", "1")
    catalog.register(SECOND)
    assert catalog.by_name("search_people") == GOOD
    assert catalog.point("search_people", "2")
    assert catalog.in_force() == [SECOND]
    assert set(catalog.every()) == {"search_people@1", "search_people@2"}


def test_a_version_never_changes() -> None:
    catalog = Catalog()
    catalog.register(GOOD)
    with pytest.raises(InvalidInput) as caught:
        catalog.register(msgspec.structs.replace(GOOD, timeout_ms=1))
    assert (caught.value.code, catalog.get(GOOD.id)) == ("version_changed", GOOD)


def test_a_pointer_to_nothing_leaves_what_is_in_force() -> None:
    catalog = Catalog()
    catalog.register(GOOD)
    catalog.point("search_people", "1")
    with pytest.raises(InvalidInput) as caught:
        catalog.point("search_people", "9")
    assert (caught.value.code, catalog.by_name("search_people")) == ("unknown_version", GOOD)


def test_a_withdrawn_skill_is_known_but_not_in_force() -> None:
    catalog = Catalog()
    catalog.register(GOOD)
    assert not catalog.point("search_people", "")
    catalog.point("search_people", "1")
    assert catalog.point("search_people", "")
    assert (catalog.by_name("search_people"), catalog.get(GOOD.id), catalog.version_of("search_people")) == (
        None,
        GOOD,
        "",
    )


def test_a_bad_manifest_is_not_taken() -> None:
    catalog = Catalog()
    with pytest.raises(InvalidInput):
        catalog.register(msgspec.structs.replace(GOOD, effect="magic"))
    assert not catalog.every()


def test_tenants_see_their_own_and_everybodys() -> None:
    private = msgspec.structs.replace(GOOD, name="private", tenants=("acme",))
    catalog = Catalog()
    for manifest in (GOOD, private):
        catalog.register(manifest)
        catalog.point(manifest.name, manifest.version)
    assert catalog.in_force("acme") == [private, GOOD]
    assert catalog.in_force("other") == [GOOD]
    assert visible(private, "acme")
    assert not visible(private, "other")


UNDO = SkillManifest(
    name="delete_note", version="1", description="Deletes.", owner="o", url="http://h:1/", hosts=("h:1",),
    parameters={
        "type": "object",
        "properties": {"note_id": {"type": "integer"}, "folder": {"type": "string"}},
        "required": ["note_id"],
    },
)  # fmt: skip


def test_an_undo_takes_its_parameters_by_name_from_the_result_and_then_the_arguments() -> None:
    arguments = {"text": "milk", "folder": "home"}
    assert compensation_arguments(UNDO, arguments, '{"note_id":7,"text":"milk"}') == {"note_id": 7, "folder": "home"}
    assert compensation_arguments(UNDO, {"note_id": 1}, '{"note_id":7}') == {"note_id": 7}
    assert compensation_arguments(UNDO, {"note_id": 1}, "") == {"note_id": 1}


@pytest.mark.parametrize("result", ["", "[7]", '{"note_id":"7"}', '{"note_id":'])
def test_an_undo_that_lacks_something_is_an_error(result: str) -> None:
    with pytest.raises(InvalidInput):
        compensation_arguments(UNDO, {"text": "milk"}, result)
