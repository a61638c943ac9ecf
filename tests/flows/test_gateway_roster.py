"""What a gateway knows of workers: nobody at work is said by their silence, and names come from whoever is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.limits import Limits
from gateway.roster import FORGET_MS
from streams.events.registering import WorkerAlive
from streams.topology import WORKERS
from tests.support.gateways import PATIENCE_S, Rig

pytestmark = pytest.mark.asyncio


async def say(rig: Rig, worker: str, **more: Any) -> None:
    alive = WorkerAlive(worker=worker, stage=worker.partition("/")[0], at_ms=0, **more)
    await rig.bus.publish(WORKERS.name, 0, worker, alive, worker, worker)


async def test_agents_and_models_of_workers_that_are_heard_can_be_named() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        roster = gateway.services.roster
        client = rig.openai(gateway)
        assert [model.id for model in (await client.models.list()).data] == ["headstart"]
        await say(rig, "turns/1", agents=("companion", "recruiter"))
        await say(rig, "generation/1", models=("small", "big"))
        await say(rig, "generation/2", models=("big", "gone"))
        await say(rig, "generation/2", leaving=True)
        while roster.models() != ["big", "small"]:  # noqa: ASYNC110 - it has no event for a test
            await asyncio.sleep(0.001)
        names = ["headstart", "headstart/companion", "headstart/recruiter", "big", "small"]
        assert [model.id for model in (await client.models.list()).data] == names
        assert (await client.models.retrieve("headstart/recruiter")).id == "headstart/recruiter"
        async with rig.http(gateway) as http:
            missing = await http.get("/v1/models/gone")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_worker_that_is_not_heard_any_more_is_forgotten() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        roster = gateway.services.roster
        now_ms = 1_000_000
        roster._now_ms = lambda: now_ms
        roster.hear(WorkerAlive(worker="turns/1", stage="turns", at_ms=0, agents=("companion",)))
        now_ms += FORGET_MS
        assert (roster.agents(), roster.silent_ms()) == (["companion"], FORGET_MS)
        now_ms += 1
        assert (roster.agents(), roster.silent_ms()) == ([], FORGET_MS + 1)


async def test_a_turn_that_waits_for_workers_at_work_is_not_given_up() -> None:
    """Its first look finds a worker that is heard; once nobody has been for long enough, the client is told."""
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        rig.turns.silent = True
        limits = Limits(accept_ms=600)
        gateway = await rig.gateway(limits=limits)
        roster = gateway.services.roster
        clock = roster._now_ms
        async with rig.socket(gateway) as socket:
            roster._now_ms = lambda: 0  # heard at this very moment, whenever it is asked
            await socket.create("anybody?")
            await socket.until("headstart.accepted")
            looks = 0

            def asked() -> int:
                nonlocal looks
                looks += 1
                return 0

            roster._now_ms = asked
            roster.hear(WorkerAlive(worker="turns/1", stage="turns", at_ms=0))
            while looks < 2:  # noqa: ASYNC110 - the gateway asks by its own timer
                await asyncio.sleep(0.001)
            assert socket.raw[1:] == []
            roster._now_ms = clock
            assert (await socket.until("error"))[-1]["error"]["code"] == "no_worker"
