"""An OpenAPI document with 20 operations becomes skills, and each is called in a turn as its API wants it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from headstart.importing.choices import Choices
from headstart.importing.openapi import import_openapi
from headstart.importing.reading import read_document
from headstart.service_facts import Ended
from headstart.service_registration import register
from streams import ids
from streams.errors import Refused
from streams.events import InputItem
from streams.events.calling import ApprovalAsked, CallAnswered, CallFailed, CallFired
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.registering import SkillManifest
from streams.events.turn import TurnAccepted
from tests.support.bus_services import AGENT, TENANT, Rig, rig
from tests.support.lending import CONTRACT, DUNE, PARTNER, STAFF, Library, library
from workers.generation.scripted_engine import Rule, When
from workers.skills.secrets import Secrets

pytestmark = pytest.mark.asyncio
ISBN = DUNE["isbn"]
NEW = "0-306-40615-2"
SHELF = {"room": "B", "number": 4}
OPTIONS = TurnOptions(agent=AGENT)
SECRETS = {"staff": "staff", "partner": "partner"}
TURNS: list[list[tuple[str, dict[str, Any]]]] = [
    [("list_books", {"author": "Herbert", "tags": ["sand"], "limit": 3}), ("get_book", {"isbn": ISBN})],
    [("has_book", {"isbn": ISBN}), ("statistics", {}), ("opening_hours", {"days": ["mon", "fri"]})],
    [("add_book", {"isbn": NEW, "title": "Ö & 1"}), ("add_copies", {"isbn": ISBN, "count": 2, "shelf": SHELF})],
    [("change_book", {"isbn": ISBN, "title": "Dune!"}), ("add_member", {"name": "Cy & Co", "interests": ["a=b", "c"]})],
    [("list_copies", {"isbn": ISBN, "ids": [2, 3]}), ("find_members", {"filter": {"name": "Cy"}})],
    [("get_member", {"member_id": 3}), ("lend_book", {"isbn": ISBN, "member": 1})],
    [("extend_loan", {"loan_id": 1, "body": 7}), ("announce", {"text": "Closed on Monday"})],
    [("replace_book", {"isbn": NEW, "title": "New", "authors": ["Bo"]})],
    [("list_loans", {"member": 1, "X_Request_Id": "r-1"})],
    [("return_book", {"loan_id": 1}), ("remove_book", {"isbn": NEW})],
]
"""Plans, turn by turn; what a turn's calls need was made by an earlier one."""


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


def manifests(held: Library, document: dict[str, Any] | None = None) -> list[SkillManifest]:
    choices = Choices(server=held.url, secrets=SECRETS)
    imported = import_openapi(document or read_document(str(CONTRACT)), choices)
    assert imported.left_out == []
    return imported.manifests


def plan(text: str, *calls: tuple[str, dict[str, Any]]) -> Rule:
    written = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls], ensure_ascii=False)
    return Rule(step="plan", when=When(contains=text), say=written)


async def say(scene: Rig, text: str) -> Ended:
    publisher = await scene.publisher()
    return await publisher.ended((await publisher.turn("ada", text, options=OPTIONS)).turn)


def results(ended: Ended) -> dict[str, Any]:
    names = {fact.call: fact.skill.partition("@")[0] for fact in ended.facts if isinstance(fact, CallFired)}
    return {names[fact.call]: json.loads(fact.result) for fact in ended.facts if isinstance(fact, CallAnswered)}


async def removed_once_approved(scene: Rig, held: Library) -> None:
    """What its owner wants a person to be asked about is not done before."""
    asked = await say(scene, "Bo leaves the library")
    [request] = [fact for fact in asked.facts if isinstance(fact, ApprovalAsked)]
    assert (request.skill.partition("@")[0], list(held.members)) == ("remove_member", [1, 2, 3])
    conversation = next(fact.conversation for fact in asked.facts if isinstance(fact, TurnAccepted))
    turn = ids.turn_id(conversation, 1, b"0123456789")
    submit = TurnSubmit(
        turn=turn, conversation=conversation, tenant=TENANT, user="ada", at_ms=1, options=OPTIONS,
        input=(InputItem(kind="approval", call_id=request.request, approve=True),),
    )  # fmt: skip
    _ = await scene.bus.publish("turns", ids.partition_of(turn), conversation, submit, turn, "gateway/test")
    [answered] = [fact for fact in await scene.facts(turn) if isinstance(fact, CallAnswered)]
    assert (answered.result, list(held.members)) == ("null", [1, 3])


async def test_twenty_operations_are_called_in_turns(scene: Rig) -> None:
    async with library() as held:
        skills = manifests(held)
        assert len(skills) == 20
        _ = await register(scene.bus, "city-library", skills, 1)
        rules = [plan(f"turn {number:02}", *calls) for number, calls in enumerate(TURNS)]
        rules.append(plan("Bo leaves", ("remove_member", {"member_id": 2})))
        await scene.generation([*rules, Rule(step="answer", say="Done.")])
        secrets = Secrets({"staff": (STAFF, frozenset({held.place})), "partner": (PARTNER, frozenset({held.place}))})
        await scene.turns(*(skill.name for skill in skills), secrets=secrets)
        got: dict[str, Any] = {}
        for number, calls in enumerate(TURNS):
            ended = await say(scene, f"Do what is to be done in turn {number:02}")
            assert ended.status == "completed"
            failed = [fact.code for fact in ended.facts if isinstance(fact, CallFailed)]
            assert failed == []
            assert set(results(ended)) == {name for name, _ in calls}
            got |= results(ended)
        await removed_once_approved(scene, held)
    assert got["list_books"] == [DUNE]
    assert (got["has_book"], got["announce"], got["remove_book"]) == (None, None, None)
    assert got["opening_hours"] == {"text": "mon 9-17, fri 9-17"}
    assert got["statistics"] == {"loans": 0}
    assert got["find_members"] == [{"id": 3, "name": "Cy & Co", "interests": ["a=b", "c"]}] == [got["get_member"]]
    assert got["list_copies"] == [{"id": 2, "shelf": SHELF}]
    assert got["change_book"]["title"] == "Dune!"
    assert (got["extend_loan"]["days"], got["list_loans"][0]["loan_id"], got["return_book"]["returned"]) == (
        35,
        1,
        True,
    )
    assert held.announced == ["Closed on Monday"]
    assert set(held.books) == {ISBN}
    assert ("GET", f"/v2/books/{ISBN}/copies?ids=2%2C3", b"") in held.requests


async def test_a_breaking_change_of_an_imported_skill_is_refused(scene: Rig) -> None:
    async with library() as held:
        _ = await register(scene.bus, "city-library", manifests(held), 1)
        document = read_document(str(CONTRACT))
        document["paths"]["/loans"]["get"]["parameters"].append(
            {"name": "since", "in": "query", "required": True, "schema": {"type": "string"}}
        )
        with pytest.raises(Refused, match=r"parameters\.since has become required") as caught:
            await register(scene.bus, "city-library", manifests(held, document), 2)
        assert (caught.value.code, caught.value.facts["skill"]) == ("breaking_change", "list_loans")
        document["paths"]["/loans"]["get"]["parameters"][-1]["required"] = False
        assert len(await register(scene.bus, "city-library", manifests(held, document), 3)) == 1


async def test_the_same_document_again_says_nothing_new(scene: Rig) -> None:
    async with library() as held:
        assert len(await register(scene.bus, "city-library", manifests(held), 1)) == 20
        assert await register(scene.bus, "city-library", manifests(held), 2) == []
