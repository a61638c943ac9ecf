"""What a client says of an answer: over the socket and over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from streams import ids
from streams.events.rating import FeedbackGive
from tests.support.gateways import PATIENCE_S, Rig

pytestmark = pytest.mark.asyncio


async def test_an_answer_is_rated_over_the_socket_and_over_http() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("How do I ask for leave?")
            response = (await socket.until_end())[-1]["response"]
            rating = {"type": "headstart.feedback", "response_id": response["id"], "rating": "good", "share": True}
            await socket.send({**rating, "event_id": "f1"})
            told = await socket.next()
            assert told["type"] == "headstart.feedback.accepted"
            assert (told["response_id"], told["rating"], told["event_id"]) == (response["id"], "good", "f1")
        async with rig.http(gateway) as http:
            path = f"/v1/responses/{response['id']}/feedback"
            second = await http.post(path, json={"rating": "bad", "comment": "out of date"})
            assert second.status_code == 202
            assert second.json() == {
                "object": "feedback", "response_id": response["id"], "rating": "bad", "share": False,
            }  # fmt: skip
            for wrong in ({}, {"rating": "splendid"}, {"rating": "good", "comment": 4}, {"rating": "good", "share": 1}):
                refused = await http.post(path, json=wrong)
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_input")
            nobodys = await http.post(f"/v1/responses/resp_{0:036x}/feedback", json={"rating": "good"})
            assert nobodys.status_code == 404
        async with rig.http(gateway, await rig.new_key("acme", "eve")) as stranger:
            assert (await stranger.post(path, json={"rating": "bad"})).status_code == 404
        given = [command for command in rig.turns.commands if isinstance(command, FeedbackGive)]
        assert [(one.rating, one.share, one.comment) for one in given] == [
            ("good", True, ""), ("bad", False, "out of date"),
        ]  # fmt: skip
        assert {(one.turn, one.conversation, one.tenant, one.user) for one in given} == {
            (ids.turn_of(response["id"]), response["conversation"]["id"], "acme", "ada")
        }
