"""A service of the SDK behind real HTTP, called as the turn workers call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import httpx
import orjson
import pytest
import pytest_asyncio
from pydantic import Field

from headstart.service import Caller, Service, wall_clock_ms
from streams.bus import Bus
from streams.errors import InvalidInput, Misconfigured, PeerError
from streams.memory_bus import MemoryBus
from workers.skills.context import HEADER, CallContext, sign
from workers.skills.executor import HttpExecutor
from workers.skills.failures import in_doubt

SECRET = "a-signing-key-for-tests"
CONTEXT = CallContext(turn="turn_1", call=0, tenant="acme", user="ada", key="key-1")
pytestmark = pytest.mark.asyncio


@dataclass
class Found:
    name: str
    years: int


class Probe:
    """A service whose skills do as they are told, and what happened in it."""

    def __init__(self) -> None:
        self.service = Service("probe", signing_key=SECRET, before=self.before)
        self.arrivals: list[tuple[str, str]] = []
        self.runs: list[str] = []
        self.started, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.go.set()
        self._declare(self.service)

    async def before(self, skill: str, key: str, caller: Caller) -> None:
        self.arrivals.append((skill, key))

    def _declare(self, service: Service) -> None:
        @service.skill(examples=("find somebody",))
        async def find(
            title: Annotated[str, Field(min_length=1, description="job title")],
            kind: Literal["person", "team"] = "person",
            limit: Annotated[int, Field(ge=1, le=3)] = 1,
        ) -> list[Found]:
            """Finds somebody.

            Not in the description.
            """
            return [Found(f"{title} {kind}", limit)] * limit

        @service.skill(effect="irreversible", idempotent_key=True)
        async def pay(amount: int, caller: Caller) -> dict[str, Any]:
            """Pays."""
            self.runs.append(f"{caller.user}@{caller.tenant} {amount}")
            self.started.set()
            await self.go.wait()
            if amount < 0:
                raise InvalidInput("an amount is positive", code="bad_amount")
            if amount == 13:
                raise RuntimeError("secret detail")
            return {"paid": amount, "times": len(self.runs)}

        @service.skill()
        async def slow() -> str:
            """Waits."""
            self.started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return ""

        @service.skill(effect="reversible", compensate="pay")
        async def keep() -> str:
            """Goes on when the caller hangs up."""
            self.started.set()
            await self.go.wait()
            self.runs.append("kept")
            self.cancelled.set()
            return "kept"


@pytest_asyncio.fixture
async def bus() -> Bus:
    made = MemoryBus()
    await made.start()
    return made


@pytest_asyncio.fixture
async def probe(bus: Bus) -> AsyncIterator[Probe]:
    made = Probe()
    await made.service.start(bus)
    yield made
    await made.service.stop()


@pytest_asyncio.fixture
async def executor() -> AsyncIterator[HttpExecutor]:
    async with HttpExecutor(signing_key=SECRET, allow_private=True) as made:
        yield made


async def call(executor: HttpExecutor, probe: Probe, skill: str, key: str = "key-1", **arguments: Any) -> Any:
    manifest = {one.name: one for one in probe.service.manifests()}[skill]
    context = CallContext(turn="turn_1", call=0, tenant="acme", user="ada", key=key)
    return orjson.loads((await executor.call(manifest, arguments, context)).result)


async def test_a_manifest_comes_from_the_functions_types(probe: Probe) -> None:
    find, pay, *_ = probe.service.manifests()
    assert (find.name, find.description, find.owner, find.effect) == ("find", "Finds somebody.", "probe", "pure")
    assert find.parameters == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string", "minLength": 1, "description": "job title"},
            "kind": {"type": "string", "enum": ["person", "team"], "default": "person"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 3, "default": 1},
        },
        "required": ["title"],
    }
    assert find.returns["type"] == "array"
    assert find.returns["$defs"]["Found"]["required"] == ["name", "years"]
    assert find.url == f"{probe.service.url}/skills/find"
    assert list(pay.parameters["properties"]) == ["amount"]


async def test_a_call_is_checked_run_and_answered(probe: Probe, executor: HttpExecutor) -> None:
    assert await call(executor, probe, "find", title="cook", limit=2) == [{"name": "cook person", "years": 2}] * 2
    assert await call(executor, probe, "pay", amount=5) == {"paid": 5, "times": 1}
    assert probe.runs == ["ada@acme 5"]
    assert probe.arrivals == [("find", "key-1"), ("pay", "key-1")]


@pytest.mark.parametrize("arguments", [{}, {"title": ""}, {"title": "a", "limit": 9}, {"title": "a", "x": 1}])
async def test_wrong_arguments_are_refused_before_anything_runs(
    probe: Probe, executor: HttpExecutor, arguments: dict[str, Any]
) -> None:
    with pytest.raises(PeerError) as caught:
        await call(executor, probe, "find", **arguments)
    assert (caught.value.code, caught.value.facts["status"]) == ("skill_refused", 422)
    assert probe.arrivals == []
    assert await call(executor, probe, "find", title="cook")


async def test_a_key_runs_once_and_everybody_gets_its_outcome(probe: Probe, executor: HttpExecutor) -> None:
    probe.go.clear()
    both = [asyncio.create_task(call(executor, probe, "pay", key="k", amount=5)) for _ in range(2)]
    await probe.started.wait()
    probe.go.set()
    assert await asyncio.gather(*both) == [{"paid": 5, "times": 1}] * 2
    assert await call(executor, probe, "pay", key="k", amount=5) == {"paid": 5, "times": 1}
    assert (len(probe.runs), len(probe.arrivals)) == (1, 3)
    with pytest.raises(PeerError) as caught:
        await call(executor, probe, "pay", key="k", amount=6)
    assert caught.value.facts["status"] == 422
    with pytest.raises(PeerError):
        await call(executor, probe, "pay", key="", amount=6)
    assert len(probe.runs) == 1


async def test_a_refusal_is_forgotten_and_a_failure_is_kept(probe: Probe, executor: HttpExecutor) -> None:
    for _ in range(2):
        with pytest.raises(PeerError) as refused:
            await call(executor, probe, "pay", key="r", amount=-1)
        assert (refused.value.code, refused.value.facts["status"]) == ("skill_refused", 422)
    assert len(probe.runs) == 2
    for _ in range(2):
        with pytest.raises(PeerError) as failed:
            await call(executor, probe, "pay", key="f", amount=13)
        assert (failed.value.code, failed.value.facts["status"]) == ("skill_failed", 500)
    assert len(probe.runs) == 3


async def test_requests_without_a_valid_context_are_refused(probe: Probe) -> None:
    body = orjson.dumps({"amount": 5})
    url = probe.service.manifests()[1].url
    old = sign(CONTEXT, "pay", body, 0, SECRET)
    forged = sign(CONTEXT, "pay", body, wall_clock_ms(), "another secret")
    async with httpx.AsyncClient() as client:
        unsigned = await client.post(url, content=body)
        refused = [
            await client.post(url, content=body, headers={HEADER: header, "Idempotency-Key": "key-1"})
            for header in (old, forged)
        ]
    assert (unsigned.status_code, unsigned.json()["error"]["code"]) == (401, "context_missing")
    assert [answer.status_code for answer in refused] == [403, 403]
    assert [answer.json()["error"]["code"] for answer in refused] == ["context_expired", "context_forged"]
    assert probe.arrivals == []


async def test_what_a_function_said_when_it_failed_stays_inside(probe: Probe) -> None:
    body = orjson.dumps({"amount": 13})
    headers = {HEADER: sign(CONTEXT, "pay", body, wall_clock_ms(), SECRET), "Idempotency-Key": "key-1"}
    async with httpx.AsyncClient() as client:
        answer = await client.post(probe.service.manifests()[1].url, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (500, {"error": {"code": "failed", "message": "the skill failed"}})


async def test_other_requests_get_their_status(probe: Probe) -> None:
    async with httpx.AsyncClient(base_url=probe.service.url) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok", "skills": ["find", "keep", "pay", "slow"]}
        assert (await client.post("/skills/nothing", content=b"{}")).status_code == 404
        assert (await client.get("/skills/find")).status_code == 405
        assert (await client.post("/skills/find", content=b"x" * (2 << 20))).status_code == 413


async def test_a_pure_skill_is_cancelled_when_its_caller_hangs_up(probe: Probe, executor: HttpExecutor) -> None:
    waiting = asyncio.create_task(call(executor, probe, "slow"))
    await probe.started.wait()
    waiting.cancel()
    await probe.cancelled.wait()


async def test_another_skill_goes_on_when_its_caller_hangs_up(probe: Probe, executor: HttpExecutor) -> None:
    probe.go.clear()
    waiting = asyncio.create_task(call(executor, probe, "keep"))
    await probe.started.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    probe.go.set()
    await probe.cancelled.wait()
    assert probe.runs == ["kept"]


async def test_a_restarted_service_says_nothing_new(bus: Bus) -> None:
    first = Probe()
    await first.service.start(bus)
    port = first.service.port
    reader = await bus.reader("skills", {0: "earliest"})
    written = await reader.end_offset(0)
    await first.service.stop()
    second = Probe()
    second.service.port = port
    await second.service.start(bus)
    assert await reader.end_offset(0) == written
    await second.service.stop(withdraw_skills=True)
    await second.service.stop()
    assert await reader.end_offset(0) == written + 4


async def test_a_service_that_can_not_register_does_not_stay(bus: Bus) -> None:
    first = Probe()
    await first.service.start(bus)
    thief = Service("thief")

    @thief.skill()
    async def find() -> str:
        """Somebody else's."""
        return ""

    with pytest.raises(Exception, match="another owner"):
        await thief.start(bus)
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(thief.url)
    await first.service.stop()


async def test_declarations_that_can_not_be_served_are_refused_at_once() -> None:
    service = Service("probe")
    with pytest.raises(Misconfigured):

        @service.skill()
        async def untyped(x) -> str:  # type: ignore[no-untyped-def]
            """No type."""
            return ""

    with pytest.raises(Misconfigured):

        @service.skill()  # type: ignore[type-var]
        def blocking() -> str:
            """Not async."""
            return ""

    with pytest.raises(InvalidInput) as caught:

        @service.skill(effect="reversible")
        async def no_undo() -> str:
            """Reversible by whom?"""
            return ""

    assert caught.value.facts["field"] == "compensate"


async def test_an_unanswered_effect_is_in_doubt(probe: Probe, executor: HttpExecutor) -> None:
    manifest = probe.service.manifests()[1]
    with pytest.raises(PeerError) as caught:
        await call(executor, probe, "pay", key="f", amount=13)
    assert in_doubt(manifest, caught.value)
