"""The network between each two parts is cut, stalled, half open and slow; when it is whole again the next thing works.

Of every pair one operation works, then the fault begins and another one is under way: it ends by a typed error or goes
on when the fault is over, and the one after it works at once. Time-outs are short here: they are the parts' arguments.
Here: client and gateway, worker and skill service, worker and model server.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from headstart.client import Client
from headstart.client_backoff import Backoff
from tests.support.fault_proxy import FAULTS, Fault, FaultProxy, broken_and_whole
from tests.support.gateways import Rig
from tests.support.openai_server import OpenAIServer, serve
from tests.support.skill_server import skill_server
from workers.generation.engine import EngineDelta, EngineRequest, Message
from workers.generation.openai_engine import OpenAIEngine, OpenAIOptions
from workers.generation.scripted_engine import ScriptedEngine
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor

pytestmark = pytest.mark.asyncio
SHORT_S = 0.4  # of time-outs within a process


@pytest.mark.parametrize("fault", FAULTS)
async def test_client_and_gateway(fault: Fault) -> None:
    @asynccontextmanager
    async def dial(url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        options: dict[str, Any] = {"ping_interval": SHORT_S, "ping_timeout": SHORT_S, "open_timeout": SHORT_S}
        async with connect(url, additional_headers=headers, compression=None, close_timeout=SHORT_S, **options) as one:
            yield one

    async with Rig() as rig:
        gateway = await rig.gateway()
        async with FaultProxy(("127.0.0.1", gateway.port)) as proxy:
            backoff = Backoff(first_ms=10, longest_ms=100, attempts=None)
            async with Client(f"http://127.0.0.1:{proxy.port}", rig.key, backoff=backoff, dial=dial) as client:
                numbers = itertools.count()

                async def operation() -> None:
                    text = f"words of turn number {next(numbers)}"
                    assert (await (await client.submit(text)).result()).text == text

                assert await broken_and_whole(proxy, fault, operation) == "went on"
                assert client.state.holes == client.state.malformed == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_worker_and_skill_service(fault: Fault) -> None:
    async with skill_server() as skills, FaultProxy(("127.0.0.1", skills.port)) as proxy:
        place = f"127.0.0.1:{proxy.port}"
        manifest = skills.manifest(
            "search", "q", url=f"http://{place}/search", hosts=(place,), timeout_ms=int(SHORT_S * 1000), retries=0
        )
        context = CallContext(turn="turn_1", call=0, tenant="acme", user="ada")
        async with HttpExecutor(signing_key=None, allow_private=True) as executor:

            async def operation() -> None:
                outcome = await executor.call(manifest, {"q": "x"}, context)
                assert outcome.status == 200

            await broken_and_whole(proxy, fault, operation)


@pytest.mark.parametrize("fault", FAULTS)
async def test_worker_and_model_server(fault: Fault) -> None:
    text = "All of this comes in small pieces, one after the other, until it ends."
    async with (
        serve(OpenAIServer(ScriptedEngine(lambda _: text))) as url,
        FaultProxy(("127.0.0.1", urlsplit(url).port or 0)) as proxy,
    ):
        options = OpenAIOptions(
            base_url=f"http://127.0.0.1:{proxy.port}/v1", model="m", connect_timeout_s=SHORT_S,
            read_timeout_s=SHORT_S, retries=0,
        )  # fmt: skip
        engine = OpenAIEngine(options)
        await engine.start()
        try:
            numbers = itertools.count()

            async def operation() -> None:
                asked = EngineRequest(
                    request_id=str(next(numbers)), model="m", messages=[Message("user", "hi")], max_tokens=200
                )
                events = [event async for event in engine.generate(asked)]
                assert "".join(event.text for event in events if isinstance(event, EngineDelta)) == text

            await broken_and_whole(proxy, fault, operation)
            assert engine.running() == 0
        finally:
            await engine.close()
