"""Calls of skills whose manifests say how their API wants to be asked, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.errors import Misconfigured, PeerError
from streams.events.binding import Credential, HttpBinding, Placement
from streams.events.registering import SkillManifest
from tests.support.misbehaving_skill import Exchange, MisbehavingSkill, skill_server
from tests.support.skill_calls import CONTEXT, SECRET, Clock, fine
from workers.skills.context import HEADER, verify
from workers.skills.executor import HttpExecutor
from workers.skills.manifest import validate
from workers.skills.secrets import Secrets

pytestmark = pytest.mark.asyncio
TOKEN = Credential(secret="library", name="Authorization", prefix="Bearer ")


def bound(server: MisbehavingSkill, method: str = "GET", **more: Any) -> SkillManifest:
    binding = HttpBinding(
        method=method, arguments={"id": Placement(place="path"), "q": Placement(place="query")}, **more
    )  # fmt: skip
    parameters = {"type": "object", "properties": {"id": {"type": "string"}, "q": {}}, "required": ["id"]}
    place = f"127.0.0.1:{server.port}"
    manifest = server.manifest(url=f"http://{place}/books/{{id}}", http=binding, parameters=parameters)
    validate(manifest)
    return manifest


async def test_a_request_is_made_as_the_binding_says(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        outcome = await executor.call(bound(server), {"id": "a b/c", "q": "ä"}, CONTEXT)
        [exchange] = server.exchanges
    assert exchange.head.startswith("GET /books/a%20b%2Fc?q=%C3%A4 HTTP/1.1")
    assert exchange.body == b""
    assert exchange.header("idempotency-key") == "key-1"
    assert exchange.header(HEADER) is None
    assert exchange.header("traceparent") is None
    assert outcome.result == '{"answer":42}'


async def test_for_whom_it_is_is_told_where_the_manifest_says_so(executor: HttpExecutor, clock: Clock) -> None:
    async with skill_server(fine) as server:
        _ = await executor.call(bound(server, "DELETE", context=True), {"id": "7"}, CONTEXT)
        [exchange] = server.exchanges
    header = exchange.header(HEADER) or ""
    caller = verify(header, "probe", b"DELETE /books/7\n", "key-1", int(clock.now_ms), SECRET)
    assert (caller.tenant, caller.user) == ("acme", "ada")
    assert exchange.header("traceparent") == CONTEXT.traceparent


async def test_an_answer_without_content_is_null(executor: HttpExecutor) -> None:
    async def nothing(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 204 X\r\n\r\n")

    async with skill_server(nothing) as server:
        outcome = await executor.call(bound(server, "DELETE"), {"id": "7"}, CONTEXT)
        head = await executor.call(bound(server, "HEAD"), {"id": "7"}, CONTEXT)
        assert server.connections == 1
    assert (outcome.status, outcome.result, head.result) == (204, "null", "null")


async def test_warming_asks_for_the_origin(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        await executor.warm([bound(server)])
        _ = await executor.call(bound(server), {"id": "7"}, CONTEXT)
        assert server.connections == 1


async def test_a_secret_goes_to_its_own_hosts_only(clock: Clock) -> None:
    async with skill_server(fine) as server:
        place = f"127.0.0.1:{server.port}"
        held = Secrets({"library": ("s3cret", frozenset({place})), "other": ("x", frozenset({"other.example:443"}))})
        async with HttpExecutor(signing_key=None, allow_private=True, secrets=held) as made:
            _ = await made.call(bound(server, credentials=(TOKEN,)), {"id": "7"}, CONTEXT)
            stolen = bound(server, credentials=(Credential(secret="other", name="X-Key"),))
            with pytest.raises(PeerError) as caught:
                await made.call(stolen, {"id": "7"}, CONTEXT)
        [exchange] = server.exchanges
    assert exchange.header("authorization") == "Bearer s3cret"
    assert (caught.value.code, caught.value.facts["sent"]) == ("skill_secret_missing", False)
    assert "s3cret" not in repr(held)


async def test_an_argument_that_cannot_be_placed_is_never_sent(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        with pytest.raises(PeerError) as caught:
            await executor.call(bound(server), {"id": "../admin"}, CONTEXT)
        assert (caught.value.code, caught.value.facts["sent"], caught.value.facts["attempts"]) == (
            "skill_unsendable", False, 0,
        )  # fmt: skip
        assert server.connections == 0
    assert "admin" not in str(orjson.dumps(caught.value.facts))


async def test_secrets_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text('[a]\nvalue = "x"\nhosts = ["h.example:443"]\n[b]\nvariable = "B"\nhosts = ["h.example:80"]\n')
    held = Secrets.load(file, {"B": "y"})
    assert (held.find("a", "h.example:443"), held.find("a", "h.example:80")) == ("x", None)
    assert held.find("b", "h.example:80") == "y"
    assert Secrets.load(None, {}).find("a", "h.example:443") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nhosts = ['h:1']", "either value or variable"),
        ("[a]\nvalue = 'secret-x'\nvariable = 'B'\nhosts = ['h:1']", "either value or variable"),
        ("[a]\nvariable = 'UNSET'\nhosts = ['h:1']", "UNSET is not set"),
        ("[a]\nvalue = \"secret-x\\n\"\nhosts = ['h:1']", "characters"),
        ("[a]\nvalue = 'secret-x'\nhosts = []", "no hosts"),
        ("[a]\nvalue = 'secret-x'\nhosts = ['https://h']", "host:port"),
        ("[a]\nvalue = 'secret-x'\nhost = 'h:1'", "unknown field"),
        ("[a", "secrets.toml"),
    ],
)
async def test_a_wrong_file_of_secrets_is_named_and_its_secrets_are_not(
    tmp_path: Path, text: str, said: str
) -> None:  # fmt: skip
    file = tmp_path / "secrets.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=said) as caught:
        Secrets.load(file, {})
    assert "secret-x" not in str(caught.value)
